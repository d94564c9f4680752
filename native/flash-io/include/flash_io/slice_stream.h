#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "flash_io/batch.h"
#include "flash_io/failure.h"
#include "flash_io/landing_sink.h"
#include "flash_io/reader.h"
#include "flash_io/request.h"

namespace flash_io {

/// What a stream reads: slice s is requests [ends[s-1], ends[s]). A slice may have none. Slices s and
/// s + slots may share their memory; no others do.
struct Slices {
  std::vector<ReadRequest> requests;
  std::vector<std::uint32_t> ends;  // [slices], ascending, the last one is requests.size()
  std::uint32_t slots = 1;          // >= 1
  /// What is under way together lands together, on some devices all at once: with little, each slice
  /// is there sooner, at some loss of throughput. One request is under way in any case.
  std::uint64_t most_bytes_under_way = UINT64_MAX;
};

/// The memory of a stream that has ended, for the next one: then nothing is allocated for it but what
/// it has more of.
struct StreamMemory {
  struct Slot {
    bool busy = false;
    std::shared_ptr<Batch> batch;  // null until it is submitted
  };
  std::vector<ReadRequest> requests;             // for `Slices`
  std::vector<std::uint32_t> ends;               // for `Slices`
  std::vector<Slot> slots;
  std::vector<std::shared_ptr<Batch>> batches;   // of the thread that submits
};

/// Reads slices in order and tells a sink of each as it lands, keeping up to `slots` of them ahead of
/// what the sink released: so a consumer works on some while others are read, in bounded memory. One
/// failure, or `cancel`, stops all that is not under way. Every call of the sink is made without a
/// lock, so that it may call back.
class SliceStream final : public std::enable_shared_from_this<SliceStream> {
 public:
  /// Runs once, after the sink's `end`, on whichever thread ended the stream; may be the one in `start`.
  using Ended = std::function<void(SliceStream&)>;

  /// Calls the sink's `begin` and starts to read. `reader` must stay open until `ended` ran, `sink`
  /// and the destinations that long as well. The stream keeps itself alive until it ended and the
  /// sink called `close`. Throws std::invalid_argument for slices that make no sense. `memory` is that
  /// of another stream, or empty.
  static std::shared_ptr<SliceStream> start(Reader& reader, Slices slices, const FlashIoSink& sink,
                                            Ended ended, StreamMemory memory = {});
  class Only;
  /// `start` alone can have an Only.
  SliceStream(const Only&, Reader& reader, Slices slices, const FlashIoSink& sink, Ended ended,
              StreamMemory memory);
  SliceStream(const SliceStream&) = delete;
  SliceStream& operator=(const SliceStream&) = delete;

  /// Stops what is not under way; the stream ends when the rest is done. Any time, any thread.
  void cancel();
  /// Returns when the stream has ended: `ended` ran, and neither reader nor sink are used any more.
  void wait();

  // Valid from `ended` on.
  const std::optional<Failure>& failure() const { return failure_; }
  bool all_landed() const { return landed_ == count_; }
  std::uint64_t bytes_read() const { return bytes_read_; }
  /// Time in which at least one slice was under way.
  std::uint64_t read_ns() const { return read_ns_; }
  /// After `wait`, once: its memory, with requests and ends empty.
  StreamMemory take_memory();

 private:
  using Clock = std::chrono::steady_clock;
  using Lock = std::unique_lock<std::mutex>;
  using Slot = StreamMemory::Slot;

  static void on_release(void* context, std::uint32_t count);
  static void on_close(void* context);

  std::uint32_t count() const { return count_; }
  std::span<const ReadRequest> requests_of(std::uint32_t slice) const;
  Slot& slot_of(std::uint32_t slice) { return memory_.slots[slice % slots_]; }
  bool within_window(std::uint32_t slice) const;
  bool may_submit();
  void advance(Lock lock);
  void submit(std::uint32_t from, std::uint32_t to);
  void settle(std::uint32_t slice, Batch* batch);
  void stop(Lock lock);
  void finish();

  Reader& reader_;
  Slices slices_;
  const std::uint32_t count_;  // of slices
  const std::uint32_t slots_;
  const FlashIoSink& sink_;
  const Ended ended_callback_;
  const FlashIoStream interface_;

  std::mutex mutex_;
  std::condition_variable finished_changed_;
  std::shared_ptr<SliceStream> self_;  // until ended and closed
  StreamMemory memory_;
  std::uint32_t next_ = 0;  // the first slice that was not submitted
  std::uint32_t released_ = 0;
  std::uint32_t landed_ = 0;
  std::uint32_t under_way_ = 0;
  bool advancing_ = true;  // a thread is submitting; at first the one that starts
  bool stopped_ = false;
  bool ended_ = false;     // `end` is being called, or was
  bool finished_ = false;  // and all that follows it is done
  bool closed_ = false;
  std::optional<Failure> failure_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t read_ns_ = 0;
  Clock::time_point reading_since_;
  Clock::time_point read_until_;
};

}  // namespace flash_io
