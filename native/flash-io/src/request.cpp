#include "flash_io/request.h"

#include <algorithm>
#include <cerrno>

namespace flash_io {

ReadProgress::ReadProgress(const ReadRequest& request, std::uint64_t file_size_bytes,
                           std::uint32_t alignment_bytes)
    : request_(request), required_bytes_(request.length_bytes), alignment_bytes_(alignment_bytes) {
  if (request.offset_bytes + request.length_bytes > file_size_bytes) {
    required_bytes_ = request.offset_bytes >= file_size_bytes
                          ? 0
                          : static_cast<std::uint32_t>(file_size_bytes - request.offset_bytes);
  }
}

ReadProgress::Step ReadProgress::on_result(std::int64_t result) {
  if (result < 0) {
    const int error_number = static_cast<int>(-result);
    if (error_number == EINTR) {
      return retry(Step::kAgain, FailureCode::kIoError, error_number, "interrupted too often");
    }
    if (error_number == EAGAIN || error_number == ENOMEM) {
      return retry(Step::kBackOff, FailureCode::kIoError, error_number, "refused too often");
    }
    return fail(FailureCode::kIoError, error_number, "the read failed");
  }
  if (result == 0) {
    return required_bytes_ == done_bytes_
               ? Step::kDone
               : fail(FailureCode::kTruncated, 0, "the file ended early");
  }
  transferred_bytes_ += static_cast<std::uint64_t>(result);
  const std::uint32_t reached =
      done_bytes_ + static_cast<std::uint32_t>(std::min<std::int64_t>(result, length_bytes()));
  if (reached >= required_bytes_) return Step::kDone;
  // A direct read can only resume at a block boundary: an incomplete block is read again.
  const std::uint32_t resume_at = reached - reached % alignment_bytes_;
  if (resume_at > done_bytes_) {
    done_bytes_ = resume_at;
    attempts_ = 0;
    ++retries_;
    return Step::kAgain;
  }
  return retry(Step::kAgain, FailureCode::kTruncated, 0, "the file ended early");
}

std::uint64_t ReadProgress::back_off_ns() const {
  const unsigned doublings = std::min(attempts_ == 0 ? 0U : attempts_ - 1, 16U);
  return std::min(kFirstBackOffNs << doublings, kLastBackOffNs);
}

ReadProgress::Step ReadProgress::fail(FailureCode code, int error_number, const char* detail) {
  failure_ = {code, error_number, offset_bytes(), length_bytes(), detail};
  return Step::kFailed;
}

ReadProgress::Step ReadProgress::retry(Step how, FailureCode code, int error_number,
                                       const char* detail) {
  if (++attempts_ >= kMaxAttempts) return fail(code, error_number, detail);
  ++retries_;
  return how;
}

}  // namespace flash_io
