#include "flash_io/fault_injection.h"

#include <cerrno>
#include <chrono>
#include <thread>

namespace flash_io {
namespace {

std::uint64_t splitmix64(std::uint64_t state) {
  state += 0x9e3779b97f4a7c15ULL;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

}  // namespace

std::int64_t FaultySystemCalls::pread(int fd, void* destination, std::size_t length_bytes,
                                      std::uint64_t offset_bytes) noexcept {
  if (!armed_.load(std::memory_order_relaxed)) {
    return SystemCalls::pread(fd, destination, length_bytes, offset_bytes);
  }
  const std::uint64_t random = splitmix64(seed_ ^ splitmix64(calls_.fetch_add(1)));
  const auto dice = static_cast<std::uint32_t>(random & 0xffff);
  std::uint32_t limit = 0;
  const auto hits = [&](std::uint32_t rate) {
    limit += rate;
    return dice < limit && dice >= limit - rate;
  };
  faults_.fetch_add(1, std::memory_order_relaxed);
  if (hits(rates_.zero)) return 0;
  if (hits(rates_.interrupted)) return -EINTR;
  if (hits(rates_.again)) return -EAGAIN;
  if (hits(rates_.no_memory)) return -ENOMEM;
  if (hits(rates_.io_error)) return -EIO;
  if (hits(rates_.no_device)) return -ENODEV;
  if (hits(rates_.delay)) {
    std::this_thread::sleep_for(std::chrono::microseconds((random >> 16) % 500));
  } else if (hits(rates_.short_read)) {
    // The whole read happens, but only part of it is reported: what the kernel does when a signal
    // or a segment boundary ends a transfer early. Direct transfers end on whole sectors.
    const std::int64_t got = SystemCalls::pread(fd, destination, length_bytes, offset_bytes);
    if (got <= 1) return got;
    const std::int64_t part = static_cast<std::int64_t>((random >> 16) % static_cast<std::uint64_t>(got));
    return part >= 512 ? part - part % 512 : (part > 0 ? part : 1);
  } else {
    faults_.fetch_sub(1, std::memory_order_relaxed);
  }
  return SystemCalls::pread(fd, destination, length_bytes, offset_bytes);
}

}  // namespace flash_io
