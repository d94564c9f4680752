#include "flash_io/pool_backend.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "claimed_request.h"
#include "thread_setup.h"

namespace flash_io {

PoolBackend::PoolBackend(const BackendContext& context, const Tuning& tuning)
    : context_(context), max_bytes_in_flight_(tuning.max_bytes_in_flight) {
  const SignalsBlocked inherited_by_threads;
  threads_.reserve(tuning.threads);
  try {
    for (unsigned i = 0; i < tuning.threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (...) {
    stop();
    throw;
  }
}

PoolBackend::~PoolBackend() { stop(); }

void PoolBackend::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void PoolBackend::submit(std::shared_ptr<Batch> batch) {
  const std::size_t useful_threads = std::min(batch->size(), threads_.size());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(batch));
  }
  if (useful_threads == threads_.size()) {
    wake_.notify_all();
  } else {
    for (std::size_t i = 0; i < useful_threads; ++i) wake_.notify_one();
  }
}

void PoolBackend::work() {
  name_this_thread();
  for (;;) {
    std::shared_ptr<Batch> batch;
    std::size_t index = Batch::kNone;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      while (!queue_.empty() && index == Batch::kNone) {
        batch = queue_.front();
        index = batch->claim();
        if (index == Batch::kNone) queue_.pop_front();
      }
      if (index == Batch::kNone && stopping_) return;
    }
    for (; index != Batch::kNone; index = batch->claim()) read(batch, index);
  }
}

void PoolBackend::read(std::shared_ptr<Batch> batch, std::size_t index) {
  const std::uint64_t bytes = batch->request(index).length_bytes;
  const std::uint64_t most_bytes = std::min(max_bytes_in_flight_, batch->most_bytes_in_flight());
  using Next = ClaimedRequest::Next;
  ClaimedRequest request(std::move(batch), index, context_);
  for (Next next = Next::kTransfer; next != Next::kEnded;) {
    const ReadProgress& progress = request.progress();
    if (next == Next::kBackOff) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(progress.back_off_ns()));
    }
    enter_flight(bytes, most_bytes);
    std::optional<std::int64_t> result;
    if (!request.is_stopped()) {
      result = context_.calls.pread(context_.file.fd(), progress.destination(),
                                    progress.length_bytes(), progress.offset_bytes());
    }
    // Before the request ends: when a batch has settled, nothing of it is in flight.
    leave_flight(bytes);
    if (result) {
      next = request.on_result(*result);
    } else {
      static_cast<void>(request.abandon_if_stopped());
      return;
    }
  }
}

void PoolBackend::enter_flight(std::uint64_t bytes, std::uint64_t most_bytes) {
  std::unique_lock<std::mutex> lock(flight_mutex_);
  ++waiting_for_room_;
  room_made_.wait(lock, [this, bytes, most_bytes] {
    return bytes_in_flight_ == 0 || bytes_in_flight_ + bytes <= most_bytes;
  });
  --waiting_for_room_;
  bytes_in_flight_ += bytes;
  context_.counters.enter_flight(bytes);
}

void PoolBackend::leave_flight(std::uint64_t bytes) {
  bool is_awaited = false;
  {
    const std::lock_guard<std::mutex> lock(flight_mutex_);
    bytes_in_flight_ -= bytes;
    context_.counters.leave_flight(bytes);
    is_awaited = waiting_for_room_ > 0;
  }
  // All of them: which one fits depends on its length.
  if (is_awaited) room_made_.notify_all();
}

}  // namespace flash_io
