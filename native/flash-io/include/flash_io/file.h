#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "flash_io/failure.h"
#include "flash_io/system_calls.h"

namespace flash_io {

enum class DirectIo : std::uint8_t { kRequired = 0, kOptional = 1, kDisabled = 2 };

/// What makes a file the same file: checked at open, at every EOF and at the end of every batch.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;

  bool operator==(const FileIdentity&) const = default;
};

/// A regular file open for reading, with the alignment its transfers need. Immutable after open, so
/// any thread may use it. Closes its descriptor when destroyed.
class File {
 public:
  /// Opens `path`. Returns null and fills `failure` when it cannot be read as asked. With
  /// `DirectIo::kOptional` only a typed "unsupported" (EINVAL or EOPNOTSUPP from open or from the
  /// trial read, a file system that keeps its files in memory, or a statx that says so) leads to
  /// buffered reads; every other error is a failure.
  static std::unique_ptr<File> open(const std::string& path, DirectIo mode, SystemCalls& calls,
                                    Failure& failure);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// Gives the descriptor back; no read may follow. Idempotent.
  void close();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  std::uint64_t size_bytes() const { return identity_.size_bytes; }
  bool direct_io() const { return direct_io_; }
  /// Offsets, lengths and addresses of transfers are multiples of this; 1 when buffered.
  std::uint32_t alignment_bytes() const { return alignment_bytes_; }
  /// Why reads are buffered, empty when they are direct.
  const std::string& fallback_reason() const { return fallback_reason_; }
  /// The errno that caused buffered reads, 0 when none did.
  int fallback_errno() const { return fallback_errno_; }

  /// True when the open descriptor and the path still show the file that was opened. Otherwise
  /// `failure` says what differs. A path that is gone is no change: the bytes are still ours.
  bool unchanged(SystemCalls& calls, Failure& failure) const;

 private:
  File(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  bool enable_direct_io(DirectIo mode, int open_errno, SystemCalls& calls, Failure& failure);
  bool fall_back(DirectIo mode, int error_number, const char* reason, Failure& failure);

  std::string path_;
  int fd_;
  FileIdentity identity_;
  bool direct_io_ = false;
  std::uint32_t alignment_bytes_ = 1;
  std::string fallback_reason_;
  int fallback_errno_ = 0;
};

}  // namespace flash_io
