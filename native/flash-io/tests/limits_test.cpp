// The limits that containers, sandboxes and shells impose (R5), each in a child process of its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "pieces.h"

namespace flash_io::testing {
namespace {

constexpr unsigned kUringCalls[] = {425, 426, 427};  // setup, enter, register

/// Makes the kernel answer `error_number` to every io_uring call of this process, as container
/// runtimes do.
bool filter_uring(int error_number) {
  const auto answer = static_cast<std::uint32_t>(error_number) & SECCOMP_RET_DATA;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kUringCalls[0], 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, kUringCalls[2], 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | answer),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {static_cast<unsigned short>(std::size(filter)), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool limit(__rlimit_resource resource, rlim_t value) {
  const rlimit both = {value, value};
  return ::setrlimit(resource, &both) == 0;
}

/// 0 when a batch brought the right bytes.
int read_and_check(Reader& reader, const TestFile& file) {
  std::mt19937_64 random(1);
  const Pieces pieces(random, file.bytes().size(), reader.file().alignment_bytes(), 50);
  GuardedLanding landing(pieces.landing_bytes());
  Settlement settlement;
  reader.submit(pieces.requests(landing), settlement.callback());
  settlement.wait();
  return !settlement.failure() && pieces.landed(landing, file.bytes()) ? 0 : 1;
}

/// Runs `body` in a child process, which starts with one thread; returns its exit status.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

constexpr int kNotTestable = 77;

class Filtered : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(All, Filtered, ::testing::Values(EPERM, ENOSYS));

TEST_P(Filtered, R5ASeccompFilterLeadsToThePoolAndRightBytes) {
  const int error_number = GetParam();
  const TestFile file(1 << 20);
  const int status = in_child([&] {
    if (!filter_uring(error_number)) return kNotTestable;
    auto reader = open_or_die(file.path());
    if (reader->backend_name() != "pool") return 2;
    if (reader->file().direct_io() && reader->uring_refusal()->error_number != error_number) return 3;
    return read_and_check(*reader, file);
  });
  if (status == kNotTestable) GTEST_SKIP() << "this process may not install a filter";
  EXPECT_EQ(status, 0);
}

TEST_P(Filtered, R5AFilterInstalledAfterOpeningLeadsToThePoolToo) {
  const int error_number = GetParam();
  const TestFile file(1 << 20);
  const int status = in_child([&] {
    auto reader = open_or_die(file.path());
    const bool had_ring = reader->backend_name() == "io_uring";
    // Seccomp filters are per thread: this is what TSYNC does to the ring's thread.
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return kNotTestable;
    if (read_and_check(*reader, file) != 0) return 1;
    if (!filter_uring(error_number)) return kNotTestable;
    auto second = open_or_die(file.path());
    if (second->backend_name() != "pool") return 2;
    if (had_ring && reader->backend_name() != "io_uring") return 3;
    return read_and_check(*reader, file) + read_and_check(*second, file);
  });
  if (status == kNotTestable) GTEST_SKIP() << "this process may not install a filter";
  EXPECT_EQ(status, 0);
}

TEST(Limits, R5LockedMemoryOf64KiB) {
  const TestFile file(1 << 20);
  EXPECT_EQ(in_child([&] {
              if (!limit(RLIMIT_MEMLOCK, 64 << 10)) return 1;
              auto reader = open_or_die(file.path());
              return read_and_check(*reader, file);
            }),
            0);
}

/// As many readers as descriptors allow: with rings while they last, then without, then a typed
/// failure. True when at least one had to do without.
bool some_lack_descriptors_for_a_ring(const TestFile& file) {
  std::vector<std::unique_ptr<Reader>> readers;
  for (;;) {
    Failure failure;
    auto reader = Reader::open(file.path(), {.tuning = {.threads = 1}}, failure);
    if (!reader) {
      EXPECT_EQ(failure.code, FailureCode::kOpenFailed);
      EXPECT_EQ(failure.error_number, EMFILE);
      break;
    }
    EXPECT_EQ(read_and_check(*reader, file), 0);
    readers.push_back(std::move(reader));
  }
  EXPECT_GE(readers.size(), 2u);
  return readers.back()->backend_name() == "pool";
}

TEST(Limits, R5ThirtyTwoDescriptors) {
  const TestFile file(1 << 20);
  const int status = in_child([&] {
    if (!limit(RLIMIT_NOFILE, 32)) return 1;
    // A reader with a ring takes three: with one descriptor less each time, some try leaves two.
    bool some_lacked = false;
    for (int taken = 0; taken < 3; ++taken) {
      some_lacked |= some_lack_descriptors_for_a_ring(file);
      if (::open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) return 2;
    }
    return some_lacked && !::testing::Test::HasFailure() ? 0 : 3;
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace flash_io::testing
