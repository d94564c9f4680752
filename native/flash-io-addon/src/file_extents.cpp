#include "file_extents.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

namespace flash_io_addon {
namespace {

/// Extents asked for per call; a fragmented file takes several.
constexpr std::uint32_t kExtentsPerCall = 256;
/// Pages whose residency is asked for at once: bounds the memory for the answer.
constexpr std::size_t kPagesPerCall = 1U << 16;
/// Bytes that do not lie on the device as they are read: compressed, encrypted or within metadata.
constexpr std::uint32_t kEncoded = FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_ENCRYPTED |
                                   FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED;
/// Bytes that no device holds yet.
constexpr std::uint32_t kUnwritten =
    FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN;

struct Extents {
  int error_number = 0;
  std::uint64_t count = 0;
  std::uint64_t mapped_bytes = 0;
  std::uint64_t unwritten_bytes = 0;
  std::uint64_t encoded_bytes = 0;
};

Extents extents_of(int fd, std::uint64_t size_bytes) {
  Extents total;
  // The header with its array behind it, in memory that is aligned for both.
  std::vector<std::uint64_t> memory(
      (sizeof(fiemap) + kExtentsPerCall * sizeof(fiemap_extent)) / sizeof(std::uint64_t) + 1);
  auto* map = reinterpret_cast<fiemap*>(memory.data());
  std::uint64_t at = 0;
  while (at < size_bytes) {
    std::fill(memory.begin(), memory.end(), 0);
    map->fm_start = at;
    map->fm_length = size_bytes - at;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = kExtentsPerCall;
    if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0) {
      if (errno == EINTR) continue;
      total.error_number = errno;
      return total;
    }
    if (map->fm_mapped_extents == 0) break;
    const std::uint64_t before = at;
    for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
      const fiemap_extent& extent = map->fm_extents[i];
      const std::uint64_t from = std::max<std::uint64_t>(extent.fe_logical, at);
      const std::uint64_t to =
          std::min<std::uint64_t>(extent.fe_logical + extent.fe_length, size_bytes);
      if (to <= from) continue;
      ++total.count;
      total.mapped_bytes += to - from;
      if ((extent.fe_flags & kUnwritten) != 0) total.unwritten_bytes += to - from;
      if ((extent.fe_flags & kEncoded) != 0) total.encoded_bytes += to - from;
      at = to;
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return total;
    }
    // A file system that repeats itself must not keep us here.
    if (at == before) break;
  }
  return total;
}

/// Mapping a file reads nothing of it, so asking does not change the answer.
std::int64_t cached_bytes(int fd, std::uint64_t size_bytes) {
  if (size_bytes == 0) return 0;
  void* mapped = ::mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return -1;
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t window_bytes = kPagesPerCall * page_bytes;
  std::vector<unsigned char> resident(kPagesPerCall);
  std::int64_t pages = 0;
  for (std::uint64_t at = 0; at < size_bytes && pages >= 0; at += window_bytes) {
    const std::uint64_t length = std::min(window_bytes, size_bytes - at);
    if (::mincore(static_cast<char*>(mapped) + at, length, resident.data()) != 0) {
      pages = -1;
      break;
    }
    const auto count = static_cast<std::ptrdiff_t>((length + page_bytes - 1) / page_bytes);
    pages += std::count_if(resident.begin(), resident.begin() + count,
                           [](unsigned char page) { return (page & 1U) != 0; });
  }
  ::munmap(mapped, size_bytes);
  return pages < 0 ? -1 : pages * static_cast<std::int64_t>(page_bytes);
}

class ExtentsWorker final : public Napi::AsyncWorker {
 public:
  ExtentsWorker(Napi::Env env, int fd)
      : Napi::AsyncWorker(env, "flash-io extents"),
        fd_(fd),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) {
      extents_.error_number = errno;
      return;
    }
    const auto size_bytes = static_cast<std::uint64_t>(status.st_size);
    extents_ = extents_of(fd_, size_bytes);
    cached_bytes_ = cached_bytes(fd_, size_bytes);
  }

  void OnOK() override {
    Napi::Object object = Napi::Object::New(Env());
    object.Set("errno", extents_.error_number);
    object.Set("extents", static_cast<double>(extents_.count));
    object.Set("mappedBytes", static_cast<double>(extents_.mapped_bytes));
    object.Set("unwrittenBytes", static_cast<double>(extents_.unwritten_bytes));
    object.Set("encodedBytes", static_cast<double>(extents_.encoded_bytes));
    object.Set("cachedBytes", static_cast<double>(cached_bytes_));
    deferred_.Resolve(object);
  }

 private:
  int fd_;
  Extents extents_;
  std::int64_t cached_bytes_ = -1;
  Napi::Promise::Deferred deferred_;
};

}  // namespace

Napi::Value file_extents(const Napi::CallbackInfo& info) {
  auto* worker = new ExtentsWorker(info.Env(), info[0].As<Napi::Number>().Int32Value());
  worker->Queue();
  return worker->promise();
}

}  // namespace flash_io_addon
