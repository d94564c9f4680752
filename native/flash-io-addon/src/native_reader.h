#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "flash_io/fault_injection.h"
#include "flash_io/reader.h"
#include "flash_io/slice_stream.h"

namespace flash_io_addon {

/// What is left of a JavaScript environment's use of this addon; one per environment, so that every
/// worker thread has its own.
struct AddonData {
  Napi::FunctionReference native_reader_constructor;
};

/// The reader, shared with the thread that closes it: either side may end first.
struct ReaderCore {
  std::mutex close_mutex;
  std::unique_ptr<flash_io::Reader> reader;
  std::shared_ptr<flash_io::FaultySystemCalls> faults;  // null outside tests

  void close() {
    const std::lock_guard<std::mutex> lock(close_mutex);
    reader->close();
  }
};

/// `{ code, errno, offsetBytes, lengthBytes, detail }`, what the TypeScript side makes errors from.
Napi::Object failure_object(Napi::Env env, const flash_io::Failure& failure);

/// The outcome of one batch or stream on its way from a pool thread to JavaScript: plain values only.
struct Settled {
  std::uint32_t id;
  double elapsed_ns;
  double bytes_read;
  bool cancelled;
  std::unique_ptr<flash_io::Failure> failure;
};

/// JavaScript's handle on a `flash_io::Reader`. Keeps itself and the landing memory of every batch or
/// stream referenced until it settled, and the sinks of streams. When its environment ends first (process exit, a terminated
/// worker), it stops what is not yet submitted and waits for the rest before memory goes away.
class NativeReader final : public Napi::ObjectWrap<NativeReader> {
 public:
  static Napi::Function define(Napi::Env env);
  /// The only way to make one: `core` is an opened reader, `on_settled` the function called as
  /// `(id, elapsedNs, bytesRead, cancelled, failure | null)` for every batch. Of a stream, `elapsedNs`
  /// is the time in which it read, and `cancelled` that not all landed.
  static Napi::Object create(Napi::Env env, std::shared_ptr<ReaderCore> core,
                             Napi::Function on_settled);

  explicit NativeReader(const Napi::CallbackInfo& info);
  ~NativeReader() override;

 private:
  static void call_settled(Napi::Env env, Napi::Function on_settled, NativeReader* reader,
                           Settled* data);
  using SettledFunction =
      Napi::TypedThreadSafeFunction<NativeReader, Settled, &NativeReader::call_settled>;

  enum class StreamEnd : std::uint8_t { kAhead, kAwaited, kReached };
  /// Either a batch or a stream.
  struct Pending {
    std::uint32_t id;
    std::atomic<StreamEnd> end{StreamEnd::kAhead};  // JavaScript is told only of an end that it awaits
    std::shared_ptr<flash_io::Batch> batch;
    std::shared_ptr<flash_io::SliceStream> stream;
    Napi::Reference<Napi::ArrayBuffer> landing;
    Napi::Reference<Napi::Value> sink;
  };

  static void tear_down(void* self);
  static void tear_down_stream(void* stream);
  void settled(std::unique_ptr<Settled> data) const;
  void stream_ended(Pending& pending, const flash_io::SliceStream& stream) const;
  using PendingMap = std::unordered_map<std::uint32_t, Pending>;
  void forget(Napi::Env env, PendingMap::iterator ended);
  Pending& add_pending(Napi::Env env, std::uint32_t id, const Napi::ArrayBuffer& landing);
  void account_memory(Napi::Env env);

  Napi::Value submit(const Napi::CallbackInfo& info);
  Napi::Value stream(const Napi::CallbackInfo& info);
  Napi::Value take(const Napi::CallbackInfo& info);
  Napi::Value cancel(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value describe(const Napi::CallbackInfo& info);

  /// Adds them to `requests`.
  void parse_requests(Napi::Env env, const Napi::Float64Array& triples, std::size_t count,
                      std::uint8_t* landing, std::size_t landing_bytes,
                      std::vector<flash_io::ReadRequest>& requests) const;

  std::shared_ptr<ReaderCore> core_;
  SettledFunction settled_function_;
  PendingMap pending_;
  std::vector<flash_io::StreamMemory> spare_;  // as many as streams were ever under way at a time
  std::uint32_t next_id_ = 0;
  std::int64_t accounted_bytes_ = 0;
  bool closing_ = false;
  bool environment_ended_ = false;
};

}  // namespace flash_io_addon
