#include "nchunk/arrivals.h"

#include <utility>

namespace nchunk {

void Arrivals::Begin(const Stream& stream, size_t slices) {
  Finish();
  const std::lock_guard<std::mutex> lock(mutex_);
  has_landed_.assign(slices, false);
  landed_.store(0, std::memory_order_release);
  ended_ = false;
  open_ = true;
  stream_ = stream;
}

void Arrivals::Landed(size_t slice) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    has_landed_[slice] = true;
    size_t landed = landed_.load(std::memory_order_relaxed);
    if (slice != landed) return;
    while (landed < has_landed_.size() && has_landed_[landed]) ++landed;
    landed_.store(landed, std::memory_order_release);
  }
  changed_.notify_all();
}

void Arrivals::End() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
}

bool Arrivals::Wait(size_t count) {
  if (LandedSlices() >= count) return true;
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return ended_ || LandedSlices() >= count; });
  return LandedSlices() >= count;
}

void Arrivals::Release(size_t count) {
  Stream stream;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!open_) return;
    stream = stream_;
  }
  stream.release(stream.context, static_cast<uint32_t>(count));
}

void Arrivals::Finish() {
  Stream stream;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!std::exchange(open_, false)) return;
    stream = stream_;
    // What has landed is nobody's any more.
    landed_.store(0, std::memory_order_release);
  }
  // May call End.
  stream.close(stream.context);
}

}  // namespace nchunk
