#include "scratch.h"

#include <mutex>

namespace nchunk {
namespace {

std::mutex& FreeListMutex() {
  static std::mutex* const mutex = new std::mutex();
  return *mutex;
}
CallScratch* g_free = nullptr;  // guarded by FreeListMutex()

}  // namespace

ScratchLease::ScratchLease() {
  const std::lock_guard<std::mutex> lock(FreeListMutex());
  if (g_free != nullptr) {
    scratch_ = g_free;
    g_free = scratch_->next;
  } else {
    scratch_ = new CallScratch();
  }
}

ScratchLease::~ScratchLease() {
  const std::lock_guard<std::mutex> lock(FreeListMutex());
  scratch_->next = g_free;
  g_free = scratch_;
}

Buffer& ThreadScratch() {
  thread_local Buffer buffer;
  return buffer;
}

}  // namespace nchunk
