#pragma once

#include <cstdint>

namespace flash_io {

/// How hard a reader drives its device: the native half of a device profile's `reader.tuning`, where
/// measured values come from. Splitting and gaps are policy and live in TypeScript. The values here
/// only serve a device that nobody has measured.
struct Tuning {
  /// io_uring: most requests in flight, 1 to kMaxQueueDepth.
  unsigned queue_depth = 64;
  /// io_uring: completions awaited before the queue is refilled, hence requests per enter call.
  unsigned submit_batch = 20;
  /// Pool: threads, hence most requests in flight.
  unsigned threads = 8;
  /// Most bytes in flight; a request larger than this travels alone.
  std::uint64_t max_bytes_in_flight = 4U << 20;
};

/// No device we know of gains from more; it also bounds what a reader allocates.
inline constexpr unsigned kMaxQueueDepth = 1024;
/// More threads only wait for each other.
inline constexpr unsigned kMaxThreads = 64;

}  // namespace flash_io
