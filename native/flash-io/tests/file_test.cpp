#include "flash_io/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "alignment.h"
#include "support.h"

namespace flash_io {
namespace {

using testing::TestFile;

/// A kernel whose reads are refused for a reason of our choice.
class RefusingCalls final : public SystemCalls {
 public:
  explicit RefusingCalls(int error_number) : error_number_(error_number) {}
  std::int64_t pread(int, void*, std::size_t, std::uint64_t) noexcept override {
    return -error_number_;
  }

 private:
  int error_number_;
};

/// A kernel that wants larger blocks than it admits.
class LargeBlockCalls final : public SystemCalls {
 public:
  std::int64_t pread(int fd, void* destination, std::size_t length,
                     std::uint64_t offset) noexcept override {
    if ((length | offset | reinterpret_cast<std::uintptr_t>(destination)) % 4096 != 0) return -EINVAL;
    return SystemCalls::pread(fd, destination, length, offset);
  }
};

std::unique_ptr<File> open(const std::string& path, DirectIo mode, Failure& failure,
                           SystemCalls& calls = SystemCalls::kernel()) {
  return File::open(path, mode, calls, failure);
}

TEST(File, MissingIsTyped) {
  Failure failure;
  EXPECT_EQ(open("/nonexistent/file", DirectIo::kOptional, failure), nullptr);
  EXPECT_EQ(failure.code, FailureCode::kOpenFailed);
  EXPECT_EQ(failure.error_number, ENOENT);
}

TEST(File, DirectoriesDevicesAndPipesAreRefusedWithoutBlocking) {
  Failure failure;
  EXPECT_EQ(open("/", DirectIo::kOptional, failure), nullptr);
  EXPECT_EQ(failure.code, FailureCode::kNotAFile);
  EXPECT_EQ(open("/dev/null", DirectIo::kDisabled, failure), nullptr);
  EXPECT_EQ(failure.code, FailureCode::kNotAFile);
  const std::string pipe = "flash-io-test-pipe-" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(open(pipe, DirectIo::kDisabled, failure), nullptr);
  EXPECT_EQ(failure.code, FailureCode::kNotAFile);
  ::unlink(pipe.c_str());
}

TEST(File, DisabledIsBuffered) {
  const TestFile test(10000);
  Failure failure;
  const auto file = open(test.path(), DirectIo::kDisabled, failure);
  ASSERT_NE(file, nullptr);
  EXPECT_FALSE(file->direct_io());
  EXPECT_EQ(file->alignment_bytes(), 1u);
  EXPECT_EQ(file->fallback_errno(), 0);
  EXPECT_EQ(::fcntl(file->fd(), F_GETFL) & O_DIRECT, 0);
}

TEST(File, R6TrialReadRefusalFallsBackOnlyWhenUnsupported) {
  const TestFile test(100000);
  for (const int unsupported : {EINVAL, EOPNOTSUPP}) {
    RefusingCalls calls(unsupported);
    Failure failure;
    const auto file = open(test.path(), DirectIo::kOptional, failure, calls);
    ASSERT_NE(file, nullptr);
    EXPECT_FALSE(file->direct_io());
    EXPECT_NE(file->fallback_errno(), 0);
    EXPECT_FALSE(file->fallback_reason().empty());
    EXPECT_EQ(::fcntl(file->fd(), F_GETFL) & O_DIRECT, 0) << "the descriptor must be buffered too";
    EXPECT_EQ(open(test.path(), DirectIo::kRequired, failure, calls), nullptr);
    EXPECT_EQ(failure.code, FailureCode::kDirectIoUnsupported);
  }
}

TEST(File, R6OtherErrorsOfTheTrialReadAreErrors) {
  const TestFile test(100000);
  Failure failure;
  const auto direct = open(test.path(), DirectIo::kOptional, failure);
  ASSERT_NE(direct, nullptr);
  if (!direct->direct_io()) GTEST_SKIP() << "no direct I/O here: " << direct->fallback_reason();
  RefusingCalls calls(EIO);
  EXPECT_EQ(open(test.path(), DirectIo::kOptional, failure, calls), nullptr);
  EXPECT_EQ(failure.code, FailureCode::kIoError);
  EXPECT_EQ(failure.error_number, EIO);
}

TEST(File, R6TrialReadFindsALargerAlignment) {
  const TestFile test(100000);
  LargeBlockCalls calls;
  Failure failure;
  const auto file = open(test.path(), DirectIo::kOptional, failure, calls);
  ASSERT_NE(file, nullptr);
  if (!file->direct_io()) GTEST_SKIP() << "no direct I/O here: " << file->fallback_reason();
  EXPECT_EQ(file->alignment_bytes(), 4096u);
}

TEST(File, DescriptorIsDirectAndBlocking) {
  const TestFile test(100000);
  Failure failure;
  const auto file = open(test.path(), DirectIo::kOptional, failure);
  ASSERT_NE(file, nullptr);
  const int flags = ::fcntl(file->fd(), F_GETFL);
  EXPECT_EQ((flags & O_DIRECT) != 0, file->direct_io());
  EXPECT_EQ(flags & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(file->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(File, TinyFilesOpen) {
  for (const std::size_t size : {0, 1, 511, 512, 513}) {
    const TestFile test(size);
    Failure failure;
    const auto file = open(test.path(), DirectIo::kOptional, failure);
    ASSERT_NE(file, nullptr) << size << ": " << failure.detail;
    EXPECT_EQ(file->size_bytes(), size);
  }
}

TEST(File, R11MemoryFileSystemsHaveNoDirectIo) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm cannot be written";
  const TestFile test(10000, 1, "/dev/shm");
  Failure failure;
  const auto file = open(test.path(), DirectIo::kOptional, failure);
  ASSERT_NE(file, nullptr);
  EXPECT_FALSE(file->direct_io());
  EXPECT_EQ(open(test.path(), DirectIo::kRequired, failure), nullptr);
  EXPECT_EQ(failure.code, FailureCode::kDirectIoUnsupported);
}

TEST(File, R9NoticesEveryChange) {
  TestFile test(10000);
  Failure failure;
  auto& kernel = SystemCalls::kernel();
  auto file = open(test.path(), DirectIo::kOptional, failure);
  EXPECT_TRUE(file->unchanged(kernel, failure));

  ASSERT_EQ(::truncate(test.path().c_str(), 5000), 0);
  EXPECT_FALSE(file->unchanged(kernel, failure));
  EXPECT_EQ(failure.code, FailureCode::kFileChanged);

  file = open(test.path(), DirectIo::kOptional, failure);
  const timespec times[2] = {{0, UTIME_OMIT}, {1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, test.path().c_str(), times, 0), 0);
  EXPECT_FALSE(file->unchanged(kernel, failure));

  file = open(test.path(), DirectIo::kOptional, failure);
  const TestFile other(5000);
  ASSERT_EQ(::rename(other.path().c_str(), test.path().c_str()), 0);
  EXPECT_FALSE(file->unchanged(kernel, failure));
  EXPECT_NE(failure.detail.find("another file"), std::string::npos);
}

TEST(File, R9AnUnlinkedFileKeepsItsBytes) {
  TestFile test(10000);
  Failure failure;
  const auto file = open(test.path(), DirectIo::kOptional, failure);
  ASSERT_EQ(::unlink(test.path().c_str()), 0);
  EXPECT_TRUE(file->unchanged(SystemCalls::kernel(), failure));
}

TEST(Alignment, AnswersAPowerOfTwo) {
  const TestFile test(10000);
  const int fd = ::open(test.path().c_str(), O_RDONLY);
  struct stat info {};
  ASSERT_EQ(::fstat(fd, &info), 0);
  const AlignmentHint hint = query_alignment(fd, info.st_dev);
  EXPECT_GT(hint.alignment_bytes, 0u);
  EXPECT_EQ(hint.alignment_bytes & (hint.alignment_bytes - 1), 0u);
  // Without statx the answer comes from sysfs or is the default; both must be usable.
  const AlignmentHint other = query_alignment(-1, info.st_dev);
  EXPECT_NE(other.source, AlignmentSource::kStatx);
  EXPECT_EQ(other.alignment_bytes & (other.alignment_bytes - 1), 0u);
  const AlignmentHint nothing = query_alignment(-1, 0);
  EXPECT_EQ(nothing.source, AlignmentSource::kDefault);
  EXPECT_EQ(nothing.alignment_bytes, 4096u);
  ::close(fd);
}

}  // namespace
}  // namespace flash_io
