#include "alignment.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>

namespace flash_io {
namespace {

// The kernel's struct statx, by offset: C libraries older than Linux 6.1 lack the last two fields.
struct KernelStatx {
  std::uint32_t mask;
  std::uint32_t unused_before[37];
  std::uint32_t dio_memory_alignment;
  std::uint32_t dio_offset_alignment;
  std::uint32_t unused_after[24];
};
static_assert(sizeof(KernelStatx) == 256);
static_assert(offsetof(KernelStatx, dio_memory_alignment) == 0x98);

constexpr unsigned kStatxDioAlign = 0x2000;
constexpr long kTmpfsMagic = 0x01021994;
constexpr long kRamfsMagic = 0x858458f6;
// Larger answers than this are taken for nonsense: no device has logical blocks over 64 KiB.
constexpr std::uint32_t kMaxAlignmentBytes = 65536;

bool plausible(std::uint32_t bytes) {
  return bytes > 0 && bytes <= kMaxAlignmentBytes && (bytes & (bytes - 1)) == 0;
}

bool read_sysfs_number(const std::string& path, std::uint32_t& value) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return false;
  const bool ok = std::fscanf(file, "%u", &value) == 1;
  std::fclose(file);
  return ok;
}

}  // namespace

AlignmentHint query_alignment(int fd, std::uint64_t device) {
  KernelStatx info{};
  if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kStatxDioAlign, &info) == 0 &&
      (info.mask & kStatxDioAlign) != 0) {
    const std::uint32_t both = std::max(info.dio_memory_alignment, info.dio_offset_alignment);
    if (info.dio_offset_alignment == 0) return {false, 4096, AlignmentSource::kStatx};
    if (plausible(both)) return {true, both, AlignmentSource::kStatx};
  }
  const std::string base = "/sys/dev/block/" + std::to_string(major(device)) + ":" +
                           std::to_string(minor(device));
  std::uint32_t bytes = 0;
  // A partition has no queue of its own: its parent directory is the whole disk.
  if ((read_sysfs_number(base + "/queue/logical_block_size", bytes) ||
       read_sysfs_number(base + "/../queue/logical_block_size", bytes)) &&
      plausible(bytes)) {
    return {true, bytes, AlignmentSource::kSysfs};
  }
  return {};
}

bool lives_in_memory(int fd) {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return false;
  const long type = static_cast<long>(info.f_type) & 0xffffffffL;
  return type == kTmpfsMagic || type == kRamfsMagic;
}

}  // namespace flash_io
