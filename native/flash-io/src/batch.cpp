#include "flash_io/batch.h"

#include <stdexcept>
#include <utility>

namespace flash_io {

Batch::Batch(std::vector<ReadRequest> requests, Settle settle)
    : owned_(std::move(requests)),
      requests_(owned_),
      settle_(std::move(settle)),
      started_(std::chrono::steady_clock::now()),
      remaining_(requests_.size()) {
  if (requests_.empty()) throw std::invalid_argument("a batch needs at least one request");
}

Batch::Batch(std::span<const ReadRequest> requests, Settle settle,
             std::uint64_t most_bytes_in_flight)
    : requests_(requests),
      settle_(std::move(settle)),
      most_bytes_in_flight_(most_bytes_in_flight),
      started_(std::chrono::steady_clock::now()),
      remaining_(requests_.size()) {
  if (requests_.empty()) throw std::invalid_argument("a batch needs at least one request");
}

std::size_t Batch::claim() {
  if (next_.load(std::memory_order_relaxed) >= requests_.size()) return kNone;
  const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
  return index < requests_.size() ? index : kNone;
}

void Batch::succeed(std::uint64_t transferred_bytes) {
  transferred_bytes_.fetch_add(transferred_bytes, std::memory_order_relaxed);
  end(1);
}

void Batch::fail(Failure failure) {
  set_failure(std::move(failure));
  drop_unclaimed();
  end(1);
}

void Batch::cancel() {
  cancelled_.store(true, std::memory_order_release);
  drop_unclaimed();
}

void Batch::set_failure(Failure failure) {
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  // The first failure is the cause; later ones are mostly its echo.
  if (!failure_) failure_ = std::move(failure);
}

void Batch::drop_unclaimed() {
  stopped_.store(true, std::memory_order_relaxed);
  const std::size_t claimed = next_.exchange(requests_.size(), std::memory_order_relaxed);
  if (claimed < requests_.size()) end(requests_.size() - claimed);
}

void Batch::end(std::size_t count) {
  if (remaining_.fetch_sub(count, std::memory_order_acq_rel) != count) return;
  elapsed_ns_ = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                               std::chrono::steady_clock::now() - started_)
                                               .count());
  settle_(*this);
}

}  // namespace flash_io
