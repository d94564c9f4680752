#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace flash_io {

/// The smallest page of every platform we run on; also what direct I/O asks for when nothing tells.
inline constexpr std::size_t kPageBytes = 4096;

/// Owned memory at an address that is a multiple of `alignment_bytes` (a power of two).
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t size_bytes, std::size_t alignment_bytes = kPageBytes)
      : size_bytes_(size_bytes), memory_(allocate(size_bytes, alignment_bytes)) {}

  std::uint8_t* data() { return memory_.get(); }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  struct Free {
    void operator()(std::uint8_t* memory) const { std::free(memory); }
  };

  static std::uint8_t* allocate(std::size_t size_bytes, std::size_t alignment_bytes) {
    void* memory = nullptr;
    if (::posix_memalign(&memory, alignment_bytes, size_bytes == 0 ? 1 : size_bytes) != 0) {
      throw std::bad_alloc();
    }
    return static_cast<std::uint8_t*>(memory);
  }

  std::size_t size_bytes_;
  std::unique_ptr<std::uint8_t, Free> memory_;
};

}  // namespace flash_io
