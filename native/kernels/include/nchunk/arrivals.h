// Which slices of a stream have landed: between the threads that read weights and those that multiply them.
#ifndef NCHUNK_ARRIVALS_H_
#define NCHUNK_ARRIVALS_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace nchunk {

// Serves one stream at a time. The reader's side calls Begin, Landed for every slice in any order, and End; the consumer's side
// the rest, and Finish last. Every function may be called from any thread.
class Arrivals {
 public:
  // The way back to the reader; its functions may be called until `close` has been.
  struct Stream {
    void* context = nullptr;
    // Slices [0, count) are not needed any more. Counts never fall.
    void (*release)(void* context, uint32_t count) = nullptr;
    void (*close)(void* context) = nullptr;
  };

  Arrivals() = default;
  ~Arrivals() { Finish(); }
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  // Lets go of a stream before that was not finished.
  void Begin(const Stream& stream, size_t slices);
  void Landed(size_t slice);
  // Nothing lands any more.
  void End();

  // Slices [0, n) have landed; n never falls during a stream.
  size_t LandedSlices() const { return landed_.load(std::memory_order_acquire); }
  // Waits for slices [0, count); false when the stream ended without them, or there is none.
  bool Wait(size_t count);
  void Release(size_t count);
  // The consumer is done with the stream, whether or not it has ended; no other call of it is running.
  void Finish();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<size_t> landed_{0};  // written under mutex_
  // Guarded by mutex_.
  std::vector<bool> has_landed_;
  bool ended_ = true;
  bool open_ = false;
  Stream stream_;
};

}  // namespace nchunk

#endif  // NCHUNK_ARRIVALS_H_
