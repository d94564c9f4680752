// Working memory that is kept between calls, so that a step allocates nothing once sizes have been seen.
#ifndef NCHUNK_SCRATCH_H_
#define NCHUNK_SCRATCH_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace nchunk {

// Grows, never shrinks; contents are lost when it grows. 64-byte aligned.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(memory_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  template <class T>
  T* Take(size_t count) {
    const size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > capacity_) {
      std::free(memory_);
      memory_ = nullptr;
      capacity_ = 0;
      memory_ = std::aligned_alloc(kAlignment, bytes);
      if (memory_ == nullptr) throw std::bad_alloc();
      capacity_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

 private:
  static constexpr size_t kAlignment = 64;
  void* memory_ = nullptr;
  size_t capacity_ = 0;
};

// What one call needs, whoever runs it. Leases are handed out most recently used first: as many exist as calls ever
// ran at the same time.
struct CallScratch {
  Buffer rows;      // pointers to weight rows
  Buffer indices;   // input channels of the rows
  Buffer packed;    // packed A, or gathered x
  Buffer partials;  // partial sums
  Buffer blocks;    // blocks of a streamed product
  Buffer tiles;     // and its outputs
  CallScratch* next = nullptr;
};

class ScratchLease {
 public:
  ScratchLease();
  ~ScratchLease();
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  CallScratch* operator->() const { return scratch_; }

 private:
  CallScratch* scratch_;
};

// One buffer per thread, for the body of a parallel loop.
Buffer& ThreadScratch();

}  // namespace nchunk

#endif  // NCHUNK_SCRATCH_H_
