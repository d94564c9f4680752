#pragma once

#include <cstdint>
#include <string>

namespace flash_io {

/// What went wrong, in terms a caller can act on. The names are part of the TypeScript API.
enum class FailureCode : std::uint8_t {
  kTruncated,            // the file ended before the bytes it had at open
  kIoError,              // the system call failed and no retry can help
  kFileChanged,          // dev, inode, size or mtime differ from those at open
  kDirectIoUnsupported,  // direct I/O was required and the file system refuses it
  kOpenFailed,           // open(2) failed
  kNotAFile,             // the path is a directory, a pipe, a socket or a device
  kNoResources,          // threads or memory could not be had
  kBackendUnsupported,   // the backend asked for cannot be had on this system
};

const char* failure_code_name(FailureCode code);

/// One failure with the place it happened at. `error_number` is an errno, 0 when none applies.
struct Failure {
  FailureCode code = FailureCode::kIoError;
  int error_number = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::string detail;
};

}  // namespace flash_io
