#pragma once

#include <cstdint>

#include "flash_io/failure.h"

namespace flash_io {

/// One transfer: `length_bytes` at `offset_bytes` of the file, to `destination`. All three are
/// multiples of the file's alignment. The length may pass the end of the file by less than one
/// alignment; the bytes there are not written.
struct ReadRequest {
  std::uint64_t offset_bytes;
  std::uint32_t length_bytes;
  std::uint8_t* destination;
};

/// Consecutive results without progress (EINTR, EAGAIN, ENOMEM, too short to count) before a read
/// gives up. With the back-off below that is about 50 ms: far longer than any healthy shortage.
inline constexpr unsigned kMaxAttempts = 16;
inline constexpr std::uint64_t kFirstBackOffNs = 20'000;
inline constexpr std::uint64_t kLastBackOffNs = 5'000'000;

/// The state of one request across retries and resumed short reads (R8), for every backend: ask
/// `offset_bytes()`, `length_bytes()`, `destination()` what to transfer, hand the result to
/// `on_result`, and do what it answers.
class ReadProgress {
 public:
  enum class Step : std::uint8_t { kDone, kAgain, kBackOff, kFailed };

  ReadProgress(const ReadRequest& request, std::uint64_t file_size_bytes,
               std::uint32_t alignment_bytes);

  std::uint64_t offset_bytes() const { return request_.offset_bytes + done_bytes_; }
  std::uint32_t length_bytes() const { return request_.length_bytes - done_bytes_; }
  std::uint8_t* destination() const { return request_.destination + done_bytes_; }

  /// `result` is what the kernel returned: bytes, or -errno.
  Step on_result(std::int64_t result);

  /// Valid after kBackOff: how long to wait before the next attempt.
  std::uint64_t back_off_ns() const;
  /// Valid after kFailed. A file that ended early is kTruncated; whether it also changed is for the
  /// caller to find out.
  const Failure& failure() const { return failure_; }
  /// Bytes that the device delivered for this request, re-read ones included.
  std::uint64_t transferred_bytes() const { return transferred_bytes_; }
  unsigned retries() const { return retries_; }

 private:
  Step fail(FailureCode code, int error_number, const char* detail);
  Step retry(Step how, FailureCode code, int error_number, const char* detail);

  ReadRequest request_;
  std::uint32_t required_bytes_;
  std::uint32_t alignment_bytes_;
  std::uint32_t done_bytes_ = 0;
  unsigned attempts_ = 0;
  unsigned retries_ = 0;
  std::uint64_t transferred_bytes_ = 0;
  Failure failure_;
};

}  // namespace flash_io
