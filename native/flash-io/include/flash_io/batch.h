#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "flash_io/failure.h"
#include "flash_io/request.h"

namespace flash_io {

/// Reads that succeed or fail together. Backends claim requests one by one from any thread and
/// report each back; the batch settles exactly once, when no request is claimed or claimable, so
/// that at that moment nothing writes to its buffers any more.
class Batch {
 public:
  using Settle = std::function<void(Batch&)>;
  /// Returned by `claim` when nothing is left.
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  /// `requests` must not be empty. `settle` runs on whichever thread ends the batch: a backend's
  /// thread, or the one that calls `cancel`.
  Batch(std::vector<ReadRequest> requests, Settle settle);
  /// The same for requests that stay the caller's, unchanged, until `settle` ran. None of them is begun
  /// while more than `most_bytes_in_flight` bytes would be under way with it, its own and others'.
  Batch(std::span<const ReadRequest> requests, Settle settle,
        std::uint64_t most_bytes_in_flight = UINT64_MAX);

  /// The index of a request that now belongs to the caller, or kNone.
  std::size_t claim();
  const ReadRequest& request(std::size_t index) const { return requests_[index]; }
  std::size_t size() const { return requests_.size(); }
  std::uint64_t most_bytes_in_flight() const { return most_bytes_in_flight_; }
  /// Requests that have not ended, claimed or not.
  std::size_t remaining() const { return remaining_.load(std::memory_order_relaxed); }

  /// Every claimed request is ended by exactly one of these. A failure stops what is unclaimed.
  void succeed(std::uint64_t transferred_bytes);
  void fail(Failure failure);
  /// Or by this: nothing more is transferred for it, because the batch is `stopped`.
  void abandon(std::uint64_t transferred_bytes) { succeed(transferred_bytes); }
  /// True once the batch failed or was cancelled: what is not under way need not start.
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

  /// Stops what is unclaimed; claimed requests finish first. Harmless at any time, from any thread.
  void cancel();

  // Valid from `settle` on.
  const std::optional<Failure>& failure() const { return failure_; }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }
  std::uint64_t transferred_bytes() const { return transferred_bytes_.load(); }
  std::uint64_t elapsed_ns() const { return elapsed_ns_; }
  /// Only for `settle`: turns a success into a failure (a file found changed at the end).
  void set_failure(Failure failure);

 private:
  void drop_unclaimed();
  void end(std::size_t count);

  const std::vector<ReadRequest> owned_;
  const std::span<const ReadRequest> requests_;
  const Settle settle_;
  const std::uint64_t most_bytes_in_flight_ = UINT64_MAX;
  const std::chrono::steady_clock::time_point started_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> remaining_;
  std::atomic<std::uint64_t> transferred_bytes_{0};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> stopped_{false};
  std::mutex failure_mutex_;
  std::optional<Failure> failure_;
  std::uint64_t elapsed_ns_ = 0;
};

}  // namespace flash_io
