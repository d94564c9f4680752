#include "flash_io/request.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace flash_io {
namespace {

using Step = ReadProgress::Step;
constexpr std::uint64_t kFileBytes = 1 << 20;

ReadProgress make(std::uint64_t offset, std::uint32_t length, std::uint64_t file = kFileBytes,
                  std::uint32_t alignment = 512) {
  return ReadProgress({offset, length, nullptr}, file, alignment);
}

TEST(ReadProgress, WholeReadIsDone) {
  auto progress = make(4096, 8192);
  EXPECT_EQ(progress.on_result(8192), Step::kDone);
  EXPECT_EQ(progress.transferred_bytes(), 8192u);
  EXPECT_EQ(progress.retries(), 0u);
}

TEST(ReadProgress, ShortReadResumesAtABlock) {
  auto progress = make(4096, 8192);
  EXPECT_EQ(progress.on_result(1300), Step::kAgain);
  EXPECT_EQ(progress.offset_bytes(), 4096u + 1024u);
  EXPECT_EQ(progress.length_bytes(), 8192u - 1024u);
  EXPECT_EQ(progress.on_result(8192 - 1024), Step::kDone);
}

TEST(ReadProgress, BufferedShortReadResumesAtTheByte) {
  auto progress = make(10, 100, kFileBytes, 1);
  EXPECT_EQ(progress.on_result(7), Step::kAgain);
  EXPECT_EQ(progress.offset_bytes(), 17u);
  EXPECT_EQ(progress.on_result(93), Step::kDone);
}

TEST(ReadProgress, TailOfTheFileNeedsOnlyItsBytes) {
  auto progress = make(4096, 4096, 4096 + 100);
  EXPECT_EQ(progress.on_result(100), Step::kDone);
}

TEST(ReadProgress, ZeroBytesIsTruncated) {
  auto progress = make(4096, 4096);
  EXPECT_EQ(progress.on_result(0), Step::kFailed);
  EXPECT_EQ(progress.failure().code, FailureCode::kTruncated);
  EXPECT_EQ(progress.failure().offset_bytes, 4096u);
  EXPECT_EQ(progress.failure().length_bytes, 4096u);
}

TEST(ReadProgress, LessThanABlockForEverIsTruncatedAndEnds) {
  auto progress = make(4096, 4096);
  Step step = Step::kAgain;
  unsigned tries = 0;
  for (; step == Step::kAgain; ++tries) step = progress.on_result(100);
  EXPECT_EQ(step, Step::kFailed);
  EXPECT_EQ(progress.failure().code, FailureCode::kTruncated);
  EXPECT_EQ(tries, kMaxAttempts);
}

TEST(ReadProgress, InterruptedIsRetriedAtOnceWithACap) {
  auto progress = make(0, 4096);
  for (unsigned i = 1; i < kMaxAttempts; ++i) EXPECT_EQ(progress.on_result(-EINTR), Step::kAgain);
  EXPECT_EQ(progress.on_result(-EINTR), Step::kFailed);
  EXPECT_EQ(progress.failure().code, FailureCode::kIoError);
  EXPECT_EQ(progress.failure().error_number, EINTR);
}

TEST(ReadProgress, ShortageBacksOffLongerEachTime) {
  auto progress = make(0, 4096);
  std::uint64_t before = 0;
  for (unsigned i = 1; i < kMaxAttempts; ++i) {
    EXPECT_EQ(progress.on_result(i % 2 == 0 ? -EAGAIN : -ENOMEM), Step::kBackOff);
    EXPECT_GE(progress.back_off_ns(), before);
    EXPECT_LE(progress.back_off_ns(), kLastBackOffNs);
    before = progress.back_off_ns();
  }
  EXPECT_EQ(progress.on_result(-EAGAIN), Step::kFailed);
}

TEST(ReadProgress, ProgressResetsTheCap) {
  auto progress = make(0, 64 * 512);
  for (int block = 0; block < 63; ++block) {
    EXPECT_EQ(progress.on_result(-EINTR), Step::kAgain);
    EXPECT_EQ(progress.on_result(512), Step::kAgain);
  }
  EXPECT_EQ(progress.on_result(512), Step::kDone);
}

TEST(ReadProgress, DeviceErrorsAreFinal) {
  for (const int error_number : {EIO, ENODEV, EINVAL, EBADF}) {
    auto progress = make(8192, 4096);
    EXPECT_EQ(progress.on_result(-error_number), Step::kFailed);
    EXPECT_EQ(progress.failure().code, FailureCode::kIoError);
    EXPECT_EQ(progress.failure().error_number, error_number);
    EXPECT_EQ(progress.failure().offset_bytes, 8192u);
  }
}

}  // namespace
}  // namespace flash_io
