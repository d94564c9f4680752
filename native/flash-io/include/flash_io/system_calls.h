#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>

namespace flash_io {

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

  /// The real kernel; lives for the whole process.
  static SystemCalls& kernel();
};

}  // namespace flash_io
