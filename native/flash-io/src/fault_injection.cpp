#include "flash_io/fault_injection.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <thread>
#include <utility>

namespace flash_io {
namespace {

std::uint64_t splitmix64(std::uint64_t state) {
  state += 0x9e3779b97f4a7c15ULL;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

}  // namespace

FaultySystemCalls::Verdict FaultySystemCalls::judge_read() {
  if (!armed_.load(std::memory_order_relaxed)) return {Fault::kNone, 0, 0};
  const std::uint64_t random = splitmix64(seed_ ^ splitmix64(calls_.fetch_add(1)));
  const auto dice = static_cast<std::uint32_t>(random & 0xffff);
  const struct {
    std::uint32_t rate;
    Fault fault;
    int result;
  } faults[] = {
      {rates_.zero, Fault::kError, 0},          {rates_.interrupted, Fault::kError, -EINTR},
      {rates_.again, Fault::kError, -EAGAIN},   {rates_.no_memory, Fault::kError, -ENOMEM},
      {rates_.io_error, Fault::kError, -EIO},   {rates_.no_device, Fault::kError, -ENODEV},
      {rates_.delay, Fault::kDelay, 0},         {rates_.short_read, Fault::kShort, 0},
  };
  std::uint32_t limit = 0;
  for (const auto& candidate : faults) {
    limit += candidate.rate;
    if (dice >= limit) continue;
    faults_.fetch_add(1, std::memory_order_relaxed);
    return {candidate.fault, candidate.result, random >> 16};
  }
  return {Fault::kNone, 0, 0};
}

/// The whole read happened, but only part of it is reported: what the kernel does when a signal or a
/// segment boundary ends a transfer early. Direct transfers end on whole sectors.
std::int64_t FaultySystemCalls::shorten(std::int64_t result, std::uint64_t random) {
  if (result <= 1) return result;
  const auto part = static_cast<std::int64_t>(random % static_cast<std::uint64_t>(result));
  return part >= 512 ? part - part % 512 : std::max<std::int64_t>(part, 1);
}

std::int64_t FaultySystemCalls::pread(int fd, void* destination, std::size_t length_bytes,
                                      std::uint64_t offset_bytes) noexcept {
  const Verdict verdict = judge_read();
  if (verdict.fault == Fault::kError) return verdict.result;
  if (verdict.fault == Fault::kDelay) {
    std::this_thread::sleep_for(std::chrono::microseconds(verdict.random % 500));
  }
  const std::int64_t got = SystemCalls::pread(fd, destination, length_bytes, offset_bytes);
  return verdict.fault == Fault::kShort ? shorten(got, verdict.random) : got;
}

int FaultySystemCalls::uring_enter(int ring_fd, unsigned to_submit, unsigned min_complete,
                                   unsigned flags) noexcept {
  if (armed_.load(std::memory_order_relaxed)) {
    const std::uint64_t call = enters_.fetch_add(1);
    if (rates_.uring_lost_after != 0 && call >= rates_.uring_lost_after) return -EPERM;
    const std::uint64_t random = splitmix64(~seed_ ^ splitmix64(call));
    if ((random & 0xffff) < rates_.enter) {
      constexpr int kRefusals[] = {-EINTR, -EAGAIN, -EBUSY};
      faults_.fetch_add(1, std::memory_order_relaxed);
      return kRefusals[(random >> 16) % std::size(kRefusals)];
    }
  }
  return SystemCalls::uring_enter(ring_fd, to_submit, min_complete, flags);
}

void FaultySystemCalls::uring_completions(std::span<UringCompletion> completions) noexcept {
  // What is smaller is no transfer but the answer to a poll.
  constexpr std::int32_t kLeastTransferBytes = 512;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    UringCompletion& completion = completions[i];
    if (completion.result < kLeastTransferBytes) continue;
    const Verdict verdict = judge_read();
    if (verdict.fault == Fault::kError) completion.result = verdict.result;
    if (verdict.fault == Fault::kShort) {
      completion.result = static_cast<std::int32_t>(shorten(completion.result, verdict.random));
    }
    if (verdict.fault == Fault::kDelay) {
      std::swap(completion, completions[i + verdict.random % (completions.size() - i)]);
    }
  }
}

}  // namespace flash_io
