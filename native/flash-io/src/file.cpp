#include "flash_io/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "alignment.h"
#include "flash_io/aligned_buffer.h"

namespace flash_io {
namespace {

FileIdentity identity_of(const struct stat& info) {
  return {static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino),
          static_cast<std::uint64_t>(info.st_size),
          static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec};
}

bool says_unsupported(int error_number) {
  return error_number == EINVAL || error_number == EOPNOTSUPP;
}

std::string describe_change(const FileIdentity& then, const FileIdentity& now) {
  if (then.device != now.device || then.inode != now.inode) return "another file took its path";
  if (then.size_bytes != now.size_bytes) {
    return "its size was " + std::to_string(then.size_bytes) + " bytes at open and is now " +
           std::to_string(now.size_bytes);
  }
  return "it was written to since it was opened";
}

/// Reads one block where a wrong alignment shows: at an odd multiple of it, in file and in memory.
/// Returns the bytes read or -errno.
std::int64_t trial_read(int fd, std::uint64_t size_bytes, std::uint32_t alignment_bytes,
                        SystemCalls& calls) {
  AlignedBuffer buffer(2 * std::size_t{alignment_bytes},
                       std::max<std::size_t>(kPageBytes, 2 * std::size_t{alignment_bytes}));
  const std::uint64_t offset = size_bytes > alignment_bytes ? alignment_bytes : 0;
  // Signals and transient shortage say nothing about alignment.
  constexpr int kAttempts = 16;
  std::int64_t got = -EINTR;
  for (int i = 0; i < kAttempts && (got == -EINTR || got == -EAGAIN); ++i) {
    got = calls.pread(fd, buffer.data() + alignment_bytes, alignment_bytes, offset);
  }
  return got;
}

}  // namespace

std::unique_ptr<File> File::open(const std::string& path, DirectIo mode, SystemCalls& calls,
                                 Failure& failure) {
  // O_NONBLOCK: opening a pipe must not wait for a writer; regular files ignore it.
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  int direct_errno = 0;
  int fd = ::open(path.c_str(), mode == DirectIo::kDisabled ? kFlags : kFlags | O_DIRECT);
  if (fd < 0 && mode != DirectIo::kDisabled && says_unsupported(errno)) {
    direct_errno = errno;
    fd = ::open(path.c_str(), kFlags);
  }
  if (fd < 0) {
    failure = {FailureCode::kOpenFailed, errno, 0, 0, "the file could not be opened"};
    return nullptr;
  }
  std::unique_ptr<File> file(new File(path, fd));
  struct stat info {};
  if (const int result = calls.fstat(fd, &info); result < 0) {
    failure = {FailureCode::kOpenFailed, -result, 0, 0, "the file could not be inspected"};
    return nullptr;
  }
  if (!S_ISREG(info.st_mode)) {
    failure = {FailureCode::kNotAFile, 0, 0, 0, "the path is not a regular file"};
    return nullptr;
  }
  // It has done its work, and some file systems would take it to heart when reading.
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  file->identity_ = identity_of(info);
  if (mode != DirectIo::kDisabled && !file->enable_direct_io(mode, direct_errno, calls, failure)) {
    return nullptr;
  }
  if (mode == DirectIo::kDisabled) file->fallback_reason_ = "direct I/O is disabled by the caller";
  // Chunks are scattered: readahead would fetch bytes that nobody asked for.
  if (!file->direct_io_) ::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  return file;
}

File::~File() { close(); }

void File::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

bool File::enable_direct_io(DirectIo mode, int open_errno, SystemCalls& calls, Failure& failure) {
  if (open_errno != 0) return fall_back(mode, open_errno, "open refused direct I/O", failure);
  if (lives_in_memory(fd_)) {
    return fall_back(mode, EOPNOTSUPP, "the file system keeps its files in memory", failure);
  }
  const AlignmentHint hint = query_alignment(fd_, identity_.device);
  if (!hint.supported) {
    return fall_back(mode, EOPNOTSUPP, "statx reports no direct I/O for this file", failure);
  }
  const std::uint32_t candidates[] = {hint.alignment_bytes,
                                      std::max<std::uint32_t>(hint.alignment_bytes, 4096)};
  std::int64_t result = 0;
  for (const std::uint32_t candidate : candidates) {
    result = trial_read(fd_, identity_.size_bytes, candidate, calls);
    if (result >= 0) {
      direct_io_ = true;
      alignment_bytes_ = candidate;
      return true;
    }
    if (!says_unsupported(static_cast<int>(-result))) break;
  }
  const int error_number = static_cast<int>(-result);
  if (says_unsupported(error_number)) {
    return fall_back(mode, error_number, "the trial read was refused", failure);
  }
  failure = {FailureCode::kIoError, error_number, 0, candidates[0], "the trial read failed"};
  return false;
}

bool File::fall_back(DirectIo mode, int error_number, const char* reason, Failure& failure) {
  if (mode == DirectIo::kRequired) {
    failure = {FailureCode::kDirectIoUnsupported, error_number, 0, 0, reason};
    return false;
  }
  const int flags = ::fcntl(fd_, F_GETFL);
  if (flags < 0 || ::fcntl(fd_, F_SETFL, flags & ~O_DIRECT) < 0) {
    failure = {FailureCode::kOpenFailed, errno, 0, 0, "direct I/O could not be switched off"};
    return false;
  }
  fallback_reason_ = reason;
  fallback_errno_ = error_number;
  return true;
}

bool File::unchanged(SystemCalls& calls, Failure& failure) const {
  struct stat info {};
  int result = calls.fstat(fd_, &info);
  if (result == 0 && identity_of(info) == identity_) {
    result = calls.stat(path_.c_str(), &info);
    // Gone or out of reach by name: the open descriptor still holds the bytes.
    if (result < 0 || identity_of(info) == identity_) return true;
  }
  if (result < 0) {
    failure = {FailureCode::kIoError, -result, 0, 0, "the open file could not be inspected"};
  } else {
    failure = {FailureCode::kFileChanged, 0, 0, 0, describe_change(identity_, identity_of(info))};
  }
  return false;
}

}  // namespace flash_io
