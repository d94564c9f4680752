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
  std::atomic<std::uint64_t> most_bytes_in_flight{0};
  std::atomic<std::uint64_t> enter_calls{0};  // of io_uring_enter
  std::atomic<std::uint64_t> request_memory_bytes{0};  // of requests not yet settled

  void enter_flight(std::uint64_t bytes) {
    const std::uint64_t now = bytes_in_flight.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    std::uint64_t most = most_bytes_in_flight.load(std::memory_order_relaxed);
    while (now > most && !most_bytes_in_flight.compare_exchange_weak(most, now)) {
    }
  }
  void leave_flight(std::uint64_t bytes) {
    bytes_in_flight.fetch_sub(bytes, std::memory_order_relaxed);
  }
};

}  // namespace flash_io
