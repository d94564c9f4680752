#pragma once

#include <cstdint>

namespace flash_io {

enum class AlignmentSource : std::uint8_t { kStatx, kSysfs, kDefault };

/// What the system says about direct I/O on an open file (R6); a trial read must still prove it.
struct AlignmentHint {
  bool supported = true;  // false only when statx says that this file has no direct I/O
  std::uint32_t alignment_bytes = 4096;
  AlignmentSource source = AlignmentSource::kDefault;
};

/// Asks statx(STATX_DIOALIGN), else the block device's sysfs entry, else answers 4096.
AlignmentHint query_alignment(int fd, std::uint64_t device);

/// True for file systems whose files are memory (tmpfs, ramfs): recent kernels accept O_DIRECT there
/// and serve it from the page cache, so that success would not mean what the caller asked for.
bool lives_in_memory(int fd);

}  // namespace flash_io
