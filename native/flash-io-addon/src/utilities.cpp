#include "utilities.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#include "flash_io/aligned_buffer.h"

namespace flash_io_addon {
namespace {

class PreallocateWorker final : public Napi::AsyncWorker {
 public:
  PreallocateWorker(Napi::Env env, int fd, std::int64_t size_bytes)
      : Napi::AsyncWorker(env, "flash-io preallocate"),
        fd_(fd),
        size_bytes_(size_bytes),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }
  void Execute() override {
    do {
      errno_ = ::fallocate(fd_, 0, 0, static_cast<off_t>(size_bytes_)) == 0 ? 0 : errno;
    } while (errno_ == EINTR);
  }
  void OnOK() override { deferred_.Resolve(Napi::Number::New(Env(), errno_)); }

 private:
  int fd_;
  std::int64_t size_bytes_;
  int errno_ = 0;
  Napi::Promise::Deferred deferred_;
};

}  // namespace

Napi::Value align_landing(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  const auto capacity = static_cast<std::size_t>(info[1].As<Napi::Number>().Int64Value());
  const std::size_t alignment = info[2].As<Napi::Number>().Uint32Value();
  const auto address = reinterpret_cast<std::uintptr_t>(buffer.Data());
  const std::size_t slack = alignment == 0 ? 0 : (alignment - address % alignment) % alignment;
  if (alignment == 0 || slack + capacity > buffer.ByteLength()) {
    throw Napi::RangeError::New(env, "the buffer has no room for an aligned landing");
  }
  const std::size_t whole_pages = capacity / flash_io::kPageBytes * flash_io::kPageBytes;
  // Advice only: fewer pages to pin per transfer and fewer TLB misses when the bytes are used.
  if (alignment > flash_io::kPageBytes) {
    ::madvise(reinterpret_cast<void*>(address + slack), whole_pages, MADV_HUGEPAGE);
  }
  return Napi::Number::New(env, static_cast<double>(slack));
}

Napi::Value preallocate(const Napi::CallbackInfo& info) {
  auto* worker = new PreallocateWorker(info.Env(), info[0].As<Napi::Number>().Int32Value(),
                                       info[1].As<Napi::Number>().Int64Value());
  worker->Queue();
  return worker->promise();
}

Napi::Value external_memory_bytes(const Napi::CallbackInfo& info) {
  const std::int64_t bytes = Napi::MemoryManagement::AdjustExternalMemory(info.Env(), 0);
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

}  // namespace flash_io_addon
