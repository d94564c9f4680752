#pragma once

#include <atomic>
#include <cstdint>

#include "flash_io/system_calls.h"

namespace flash_io {

/// How often each fault happens, in 1/65536 of all reads, by whichever call they are made. The sum
/// must stay below 65536.
struct FaultRates {
  std::uint32_t short_read = 0;
  std::uint32_t zero = 0;
  std::uint32_t interrupted = 0;  // EINTR
  std::uint32_t again = 0;        // EAGAIN
  std::uint32_t no_memory = 0;    // ENOMEM
  std::uint32_t io_error = 0;     // EIO
  std::uint32_t no_device = 0;    // ENODEV
  std::uint32_t delay = 0;        // the read is right but late, so that completions reorder
  std::uint32_t enter = 0;        // io_uring_enter answers EINTR, EAGAIN or EBUSY, in 1/65536 of its calls
  std::uint32_t uring_lost_after = 0;  // if not 0: from this enter call on, the answer is EPERM
};

/// For tests: the kernel with faults. The n-th read of a seed always meets the same fault, though
/// which thread makes the n-th read is up to the scheduler.
class FaultySystemCalls final : public SystemCalls {
 public:
  FaultySystemCalls(std::uint64_t seed, FaultRates rates) : seed_(seed), rates_(rates) {}

  std::int64_t pread(int fd, void* destination, std::size_t length_bytes,
                     std::uint64_t offset_bytes) noexcept override;
  int uring_enter(int ring_fd, unsigned to_submit, unsigned min_complete,
                  unsigned flags) noexcept override;
  void uring_completions(std::span<UringCompletion> completions) noexcept override;

  /// Faults start only when armed, so that opening a reader is not disturbed.
  void arm() { armed_.store(true); }
  std::uint64_t faults() const { return faults_.load(); }

 private:
  enum class Fault : std::uint8_t { kNone, kShort, kDelay, kError };
  struct Verdict {
    Fault fault;
    int result;            // of kError: 0 or -errno
    std::uint64_t random;  // for whatever else the fault needs
  };
  Verdict judge_read();
  static std::int64_t shorten(std::int64_t result, std::uint64_t random);

  const std::uint64_t seed_;
  const FaultRates rates_;
  std::atomic<bool> armed_{false};
  std::atomic<std::uint64_t> calls_{0};
  std::atomic<std::uint64_t> enters_{0};
  std::atomic<std::uint64_t> faults_{0};
};

}  // namespace flash_io
