#include "flash_io/system_calls.h"

#include <unistd.h>

#include <cerrno>

namespace flash_io {

std::int64_t SystemCalls::pread(int fd, void* destination, std::size_t length_bytes,
                                std::uint64_t offset_bytes) noexcept {
  const ssize_t got = ::pread(fd, destination, length_bytes, static_cast<off_t>(offset_bytes));
  return got < 0 ? -static_cast<std::int64_t>(errno) : static_cast<std::int64_t>(got);
}

int SystemCalls::fstat(int fd, struct stat* out) noexcept {
  return ::fstat(fd, out) == 0 ? 0 : -errno;
}

int SystemCalls::stat(const char* path, struct stat* out) noexcept {
  return ::stat(path, out) == 0 ? 0 : -errno;
}

SystemCalls& SystemCalls::kernel() {
  static SystemCalls calls;
  return calls;
}

}  // namespace flash_io
