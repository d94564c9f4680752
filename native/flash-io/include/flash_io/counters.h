#pragma once

#include <atomic>
#include <cstdint>

namespace flash_io {

/// What a reader did since it was opened. Written by its threads, readable at any time.
struct Counters {
  std::atomic<std::uint64_t> batches{0};
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> bytes_read{0};  // delivered by the device, widening included
  std::atomic<std::uint64_t> retries{0};     // EINTR, EAGAIN, ENOMEM and resumed short reads
  std::atomic<std::uint64_t> errors{0};      // requests that failed
  std::atomic<std::uint64_t> bytes_in_flight{0};
};

}  // namespace flash_io
