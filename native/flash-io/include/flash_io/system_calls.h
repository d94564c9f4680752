#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <span>

struct io_uring_params;

namespace flash_io {

/// One finished io_uring request as the kernel left it: `result` is bytes, or -errno.
struct UringCompletion {
  std::uint64_t user_data;
  std::int32_t result;
};

/// The system-call boundary. Every transfer and every identity check goes through it, so that tests
/// can put faults exactly there. Results follow the kernel's own convention: >= 0, or -errno.
class SystemCalls {
 public:
  virtual ~SystemCalls() = default;

  /// Reads up to `length_bytes` at `offset_bytes` into `destination`; returns the bytes read.
  virtual std::int64_t pread(int fd, void* destination, std::size_t length_bytes,
                             std::uint64_t offset_bytes) noexcept;
  virtual int fstat(int fd, struct stat* out) noexcept;
  virtual int stat(const char* path, struct stat* out) noexcept;

  /// io_uring_setup(2), io_uring_enter(2) and io_uring_register(2).
  virtual int uring_setup(unsigned entries, io_uring_params* params) noexcept;
  virtual int uring_enter(int ring_fd, unsigned to_submit, unsigned min_complete,
                          unsigned flags) noexcept;
  virtual int uring_register(int ring_fd, unsigned opcode, const void* argument,
                             unsigned count) noexcept;
  /// Sees what was taken from a completion queue, which the kernel fills without a call. The real
  /// kernel's is left as it is.
  virtual void uring_completions(std::span<UringCompletion> completions) noexcept;

  /// The real kernel; lives for the whole process.
  static SystemCalls& kernel();
};

}  // namespace flash_io
