#include "flash_io/slice_stream.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "recycling_allocator.h"

namespace flash_io {

class SliceStream::Only {};

std::shared_ptr<SliceStream> SliceStream::start(Reader& reader, Slices slices,
                                                const FlashIoSink& sink, Ended ended,
                                                StreamMemory memory) {
  const bool ends_ascend = std::is_sorted(slices.ends.begin(), slices.ends.end());
  const std::size_t last = slices.ends.empty() ? 0 : slices.ends.back();
  if (!ends_ascend || last != slices.requests.size() || slices.slots == 0) {
    throw std::invalid_argument("slices must ascend to the last request, with at least one slot");
  }
  const auto stream =
      std::allocate_shared<SliceStream>(RecyclingAllocator<SliceStream>(), Only(), reader,
                                        std::move(slices), sink, std::move(ended), std::move(memory));
  stream->self_ = stream;
  sink.begin(sink.context, &stream->interface_, stream->count());
  Lock lock(stream->mutex_);
  stream->advancing_ = false;
  stream->advance(std::move(lock));
  return stream;
}

SliceStream::SliceStream(const Only&, Reader& reader, Slices slices, const FlashIoSink& sink,
                         Ended ended, StreamMemory memory)
    : reader_(reader),
      slices_(std::move(slices)),
      count_(static_cast<std::uint32_t>(slices_.ends.size())),
      // More slots than slices would only be memory.
      slots_(std::clamp<std::uint32_t>(count_, 1, slices_.slots)),
      sink_(sink),
      ended_callback_(std::move(ended)),
      interface_{this, &SliceStream::on_release, &SliceStream::on_close},
      memory_(std::move(memory)) {
  memory_.slots.assign(slots_, {});
  reader_.counters_.batches.fetch_add(1, std::memory_order_relaxed);
  reader_.counters_.request_memory_bytes.fetch_add(slices_.requests.size() * sizeof(ReadRequest),
                                                   std::memory_order_relaxed);
}

void SliceStream::cancel() { stop(Lock(mutex_)); }

void SliceStream::wait() {
  Lock lock(mutex_);
  finished_changed_.wait(lock, [this] { return finished_; });
}

StreamMemory SliceStream::take_memory() {
  const Lock lock(mutex_);
  memory_.requests = std::move(slices_.requests);
  memory_.ends = std::move(slices_.ends);
  memory_.requests.clear();
  memory_.ends.clear();
  memory_.slots.clear();
  memory_.batches.clear();
  return std::move(memory_);
}

void SliceStream::on_release(void* context, std::uint32_t count) {
  // The sink may close as soon as the stream ends, which can be within this call.
  const auto stream = static_cast<SliceStream*>(context)->shared_from_this();
  Lock lock(stream->mutex_);
  stream->released_ = std::max(stream->released_, std::min(count, stream->count()));
  stream->advance(std::move(lock));
}

void SliceStream::on_close(void* context) {
  const auto stream = static_cast<SliceStream*>(context)->shared_from_this();
  Lock lock(stream->mutex_);
  stream->closed_ = true;
  if (stream->finished_) stream->self_.reset();
  const bool needs_releases = stream->count() > 0 && !stream->within_window(stream->count() - 1);
  // Nobody is left to make room for the rest.
  if (needs_releases) stream->stop(std::move(lock));
}

std::span<const ReadRequest> SliceStream::requests_of(std::uint32_t slice) const {
  const std::size_t start = slice == 0 ? 0 : slices_.ends[slice - 1];
  return std::span(slices_.requests).subspan(start, slices_.ends[slice] - start);
}

bool SliceStream::within_window(std::uint32_t slice) const {
  return slice < std::uint64_t{released_} + slots_;
}

bool SliceStream::may_submit() {
  // A slot that was released before it landed still has its read under way.
  return !stopped_ && next_ < count() && within_window(next_) && !slot_of(next_).busy;
}

/// Submits what the window allows, and ends the stream when nothing is left. One thread at a time, so
/// that slices are submitted in order; that one sees what the others change meanwhile.
void SliceStream::advance(Lock lock) {
  if (advancing_ || ended_) return;
  advancing_ = true;
  while (may_submit()) {
    const std::uint32_t from = next_;
    while (may_submit()) {
      if (under_way_++ == 0) reading_since_ = Clock::now();
      slot_of(next_++).busy = true;
    }
    const std::uint32_t to = next_;
    lock.unlock();
    submit(from, to);
    lock.lock();
  }
  advancing_ = false;
  if (under_way_ > 0 || !(stopped_ || next_ == count())) return;
  ended_ = true;
  lock.unlock();
  finish();
}

/// Slices [from, to), at most as many as there are slots.
void SliceStream::submit(std::uint32_t from, std::uint32_t to) {
  std::vector<std::shared_ptr<Batch>>& batches = memory_.batches;
  batches.clear();
  for (std::uint32_t slice = from; slice < to; ++slice) {
    const std::span<const ReadRequest> requests = requests_of(slice);
    if (requests.empty()) continue;
    // Small enough to be kept without an allocation; `self_` keeps this alive until all settled.
    batches.push_back(std::allocate_shared<Batch>(
        RecyclingAllocator<Batch>(), requests, [this, slice](Batch& settled) { settle(slice, &settled); },
        slices_.most_bytes_under_way));
  }
  {
    const Lock lock(mutex_);
    auto batch = batches.begin();
    for (std::uint32_t slice = from; slice < to; ++slice) {
      if (!requests_of(slice).empty()) slot_of(slice).batch = *batch++;
    }
  }
  // A batch that was cancelled meanwhile has settled, and nothing of it is left to claim.
  reader_.submit_slices(batches);
  for (std::uint32_t slice = from; slice < to; ++slice) {
    if (requests_of(slice).empty()) settle(slice, nullptr);
  }
}

/// `batch` is null for a slice without requests.
void SliceStream::settle(std::uint32_t slice, Batch* batch) {
  const auto alive = shared_from_this();
  // What the sink does with the slice is no reading.
  const Clock::time_point read_until = Clock::now();
  if (batch != nullptr) reader_.check_unchanged(*batch);
  const bool has_landed = batch == nullptr || (!batch->failure() && !batch->cancelled());
  if (has_landed) sink_.landed(sink_.context, slice);
  Lock lock(mutex_);
  slot_of(slice) = {};
  if (has_landed) ++landed_;
  if (batch != nullptr) {
    bytes_read_ += batch->transferred_bytes();
    // The first failure is the cause; what it stopped has none of its own.
    if (!failure_) failure_ = batch->failure();
  }
  read_until_ = std::max(read_until_, read_until);
  if (--under_way_ == 0) {
    const auto reading = read_until_ - reading_since_;
    read_ns_ += static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(reading).count());
  }
  if (has_landed) {
    advance(std::move(lock));
  } else {
    stop(std::move(lock));
  }
}

void SliceStream::stop(Lock lock) {
  if (!stopped_) {
    stopped_ = true;
    // It may end meanwhile, and its memory be taken.
    for (std::size_t i = 0; i < memory_.slots.size(); ++i) {
      const std::shared_ptr<Batch> batch = memory_.slots[i].batch;
      if (!batch) continue;
      // Settles here what no backend has begun.
      lock.unlock();
      batch->cancel();
      lock.lock();
    }
  }
  advance(std::move(lock));
}

void SliceStream::finish() {
  const auto alive = shared_from_this();
  reader_.counters_.request_memory_bytes.fetch_sub(slices_.requests.size() * sizeof(ReadRequest),
                                                   std::memory_order_relaxed);
  sink_.end(sink_.context, all_landed() ? 1 : 0);
  ended_callback_(*this);
  const Lock lock(mutex_);
  finished_ = true;
  if (closed_) self_.reset();
  finished_changed_.notify_all();
}

}  // namespace flash_io
