#include "flash_io/system_calls.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

// The same on every architecture we build for; C libraries older than the kernel lack the names.
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif

namespace flash_io {
namespace {

template <typename Result>
Result or_errno(Result result) {
  return result < 0 ? static_cast<Result>(-errno) : result;
}

}  // namespace

std::int64_t SystemCalls::pread(int fd, void* destination, std::size_t length_bytes,
                                std::uint64_t offset_bytes) noexcept {
  return or_errno<std::int64_t>(
      ::pread(fd, destination, length_bytes, static_cast<off_t>(offset_bytes)));
}

int SystemCalls::fstat(int fd, struct stat* out) noexcept { return or_errno(::fstat(fd, out)); }

int SystemCalls::stat(const char* path, struct stat* out) noexcept {
  return or_errno(::stat(path, out));
}

int SystemCalls::uring_setup(unsigned entries, io_uring_params* params) noexcept {
  return static_cast<int>(or_errno(::syscall(SYS_io_uring_setup, entries, params)));
}

int SystemCalls::uring_enter(int ring_fd, unsigned to_submit, unsigned min_complete,
                             unsigned flags) noexcept {
  return static_cast<int>(or_errno(
      ::syscall(SYS_io_uring_enter, ring_fd, to_submit, min_complete, flags, nullptr, 0)));
}

int SystemCalls::uring_register(int ring_fd, unsigned opcode, const void* argument,
                                unsigned count) noexcept {
  return static_cast<int>(
      or_errno(::syscall(SYS_io_uring_register, ring_fd, opcode, argument, count)));
}

void SystemCalls::uring_completions(std::span<UringCompletion>) noexcept {}

SystemCalls& SystemCalls::kernel() {
  static SystemCalls calls;
  return calls;
}

}  // namespace flash_io
