#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "flash_io/backend.h"
#include "flash_io/batch_queue.h"
#include "flash_io/failure.h"
#include "flash_io/pool_backend.h"
#include "flash_io/tuning.h"

namespace flash_io {

class ClaimedRequest;
class Uring;

/// One thread that drives an io_uring: many requests in flight for one thread's processor time, and
/// many requests a system call.
class UringBackend final : public Backend {
 public:
  /// Starts the ring and proves it by reading one block of the file. Returns null when that fails:
  /// `failure` is kBackendUnsupported with an errno where the kernel or a limit refuses the ring (R5),
  /// else what keeps the file from being read. Throws std::system_error without a thread.
  static std::unique_ptr<UringBackend> start(const BackendContext& context, const Tuning& tuning,
                                             Failure& failure);
  ~UringBackend() override;

  /// "io_uring", or "pool" once the ring was lost: the kernel can end an accepted ring (a system-call
  /// filter that is installed later). What remains, and all that follows, goes to a pool then.
  std::string_view name() const override { return lost_errno() == 0 ? "io_uring" : "pool"; }
  int lost_errno() const override { return lost_errno_.load(std::memory_order_acquire); }
  void submit(std::shared_ptr<Batch> batch) override;
  void submit_all(std::span<std::shared_ptr<Batch>> batches) override;
  std::size_t memory_bytes() const override { return memory_bytes_; }

 private:
  struct Slot;
  struct Reaped {
    unsigned slot;
    std::int32_t result;
  };
  enum class Outlook : std::uint8_t { kMoreToTake, kMustWait, kFinished };
  using Clock = std::chrono::steady_clock;

  UringBackend(const BackendContext& context, const Tuning& tuning);
  bool set_up(Failure& failure);
  bool trial_read(Failure& failure);

  // The ring's thread.
  void run();
  Outlook look_ahead();
  void prepare_retries();
  void fill();
  bool claim_next(unsigned& slot);
  bool has_room(const ClaimedRequest& request) const;
  void prepare(unsigned slot);
  void enter();
  unsigned completions_worth_waiting_for() const;
  bool enter_once(unsigned most, unsigned min_complete);
  void flush();
  void reap();
  bool ends_a_batch() const;
  void settle_reaped();
  void complete(unsigned slot, std::int32_t result);
  void release(unsigned slot);
  void enter_kernel(std::uint32_t length_bytes);
  void leave_kernel(std::uint32_t length_bytes);
  void lose_ring(int error_number);
  void read_without_ring(unsigned slot);

  const BackendContext context_;
  const Tuning tuning_;

  // Shared with the threads that submit.
  std::mutex mutex_;
  BatchQueue queue_;  // not yet looked at by the ring's thread
  bool stopping_ = false;
  std::atomic<bool> waiting_{false};  // in the kernel, with room for more: a new batch must wake it
  std::unique_ptr<PoolBackend> successor_;
  std::atomic<int> lost_errno_{0};
  int wake_fd_ = -1;

  // Only the ring's thread, once it runs.
  std::unique_ptr<Uring> ring_;
  std::vector<Slot> slots_;
  std::vector<unsigned> free_slots_;
  std::vector<unsigned> retries_;      // slots to hand to the kernel again
  std::vector<Reaped> reaped_;         // left the kernel, but their batches do not know it yet
  std::shared_ptr<Batch> current_;     // being claimed from
  std::optional<unsigned> held_;       // claimed, but there is no room for its bytes yet
  unsigned in_kernel_ = 0;             // reads queued or taken
  std::uint64_t bytes_in_kernel_ = 0;
  unsigned refusals_ = 0;              // of enter, in a row
  bool wake_armed_ = false;
  std::size_t memory_bytes_ = 0;
  std::thread thread_;
};

}  // namespace flash_io
