// What only an io_uring has: few system calls, and a kernel that may refuse it at any time.
#include "flash_io/uring_backend.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "contract.h"
#include "flash_io/fault_injection.h"
#include "pieces.h"

namespace flash_io::testing {
namespace {

/// A kernel in which one io_uring call is always refused.
class Refusing final : public SystemCalls {
 public:
  enum class Call { kSetup, kEnter };
  Refusing(Call call, int error_number) : call_(call), error_number_(error_number) {}

  int uring_setup(unsigned entries, io_uring_params* params) noexcept override {
    return call_ == Call::kSetup ? -error_number_ : SystemCalls::uring_setup(entries, params);
  }
  int uring_enter(int ring_fd, unsigned to_submit, unsigned min_complete,
                  unsigned flags) noexcept override {
    return call_ == Call::kEnter
               ? -error_number_
               : SystemCalls::uring_enter(ring_fd, to_submit, min_complete, flags);
  }

 private:
  const Call call_;
  const int error_number_;
};

class UringRefused
    : public ::testing::TestWithParam<std::tuple<Refusing::Call, int>> {};
INSTANTIATE_TEST_SUITE_P(All, UringRefused,
                         ::testing::Combine(::testing::Values(Refusing::Call::kSetup,
                                                              Refusing::Call::kEnter),
                                            ::testing::Values(EPERM, ENOSYS, ENOMEM, EMFILE)));

TEST_P(UringRefused, R4R5TheLadderStepsToThePoolAndSaysWhy) {
  const auto [call, error_number] = GetParam();
  const TestFile file(1 << 20);
  auto reader = open_or_die(file.path(),
                            {.calls = std::make_shared<Refusing>(call, error_number)});
  if (!reader->file().direct_io()) GTEST_SKIP() << "no direct I/O here";
  EXPECT_EQ(reader->backend_name(), "pool");
  ASSERT_TRUE(reader->uring_refusal());
  EXPECT_EQ(reader->uring_refusal()->code, FailureCode::kBackendUnsupported);
  EXPECT_EQ(reader->uring_refusal()->error_number, error_number);
  std::mt19937_64 random(1);
  const Pieces pieces(random, file.bytes().size(), reader->file().alignment_bytes(), 50);
  GuardedLanding landing(pieces.landing_bytes());
  Settlement settlement;
  reader->submit(pieces.requests(landing), settlement.callback());
  settlement.wait();
  EXPECT_TRUE(pieces.landed(landing, file.bytes()));
}

TEST_P(UringRefused, R5AnExplicitRequestFailsLoudly) {
  const auto [call, error_number] = GetParam();
  const TestFile file(4096);
  Failure failure;
  EXPECT_EQ(Reader::open(file.path(),
                         {.backend = BackendChoice::kUring,
                          .calls = std::make_shared<Refusing>(call, error_number)},
                         failure),
            nullptr);
  EXPECT_EQ(failure.code, FailureCode::kBackendUnsupported);
  EXPECT_EQ(failure.error_number, error_number);
}

/// Holds the ring's thread before its next entry into the kernel while the gate is closed; that entry then
/// waits for two completions. Notes how many the first waiting entry after it that hands reads over waits for.
class Gated final : public SystemCalls {
 public:
  int uring_enter(int ring_fd, unsigned to_submit, unsigned min_complete,
                  unsigned flags) noexcept override {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (!open_) {
        caught_ = true;
        changed_.notify_all();
        changed_.wait(lock, [this] { return open_; });
        min_complete = 2;
      } else if (caught_ && awaited_ == 0 && to_submit > 0) {
        awaited_ = min_complete;
      }
    }
    return SystemCalls::uring_enter(ring_fd, to_submit, min_complete, flags);
  }
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = false;
  }
  void wait_until_caught() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return caught_; });
  }
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  unsigned awaited() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return awaited_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  bool caught_ = false;
  unsigned awaited_ = 0;
};

class Uring : public ::testing::Test {
 protected:
  std::unique_ptr<Reader> open(const TestFile& file, Tuning tuning,
                               std::shared_ptr<SystemCalls> calls = nullptr) {
    Failure failure;
    auto reader = Reader::open(
        file.path(),
        {.backend = BackendChoice::kUring, .tuning = tuning, .calls = std::move(calls)}, failure);
    if (!reader) ADD_FAILURE() << failure.detail << " errno " << failure.error_number;
    return reader;
  }
  void SetUp() override {
    const TestFile file(4096);
    Failure failure;
    if (!Reader::open(file.path(), {.backend = BackendChoice::kUring}, failure)) {
      GTEST_SKIP() << "no io_uring here: errno " << failure.error_number;
    }
  }
};

TEST_F(Uring, R2HundredsOfReadsTakeAtMostTwentyEnterCalls) {
  const TestFile file(4 << 20);
  auto reader = open(file, {});  // as it comes, unmeasured
  GuardedLanding landing(1 << 20);
  std::vector<ReadRequest> requests;
  for (std::uint64_t i = 0; i < 256; ++i) {
    requests.push_back({i * 16384, 4096, landing.data() + i * 4096});
  }
  // The least of several: a machine busy with other work interrupts waits, which are then taken up again.
  std::uint64_t least = requests.size();
  for (int round = 0; round < 8; ++round) {
    const std::uint64_t before = reader->counters().enter_calls.load();
    Settlement settlement;
    reader->submit(requests, settlement.callback());
    settlement.wait();
    ASSERT_FALSE(settlement.failure());
    const std::uint64_t calls = reader->counters().enter_calls.load() - before;
    EXPECT_LE(calls, requests.size() / 4);
    least = std::min(least, calls);
  }
  EXPECT_LE(least, 20u);
}

TEST_F(Uring, ABatchIsNotHeldUpByThoseBehindIt) {
  constexpr unsigned kFirst = 3;
  const TestFile file(1 << 20);
  auto calls = std::make_shared<Gated>();
  auto reader = open(file, {.queue_depth = 64, .submit_batch = 20}, calls);
  ASSERT_TRUE(reader);
  GuardedLanding landing(1 << 20);
  const auto requests = [&](unsigned from, unsigned count) {
    std::vector<ReadRequest> list;
    for (std::uint64_t i = from; i < from + count; ++i) {
      list.push_back({i * 4096, 4096, landing.data() + i * 4096});
    }
    return list;
  };
  // The thread is caught on its way into the kernel with one read, so that two batches gather. It comes back when
  // that read is done and it was told of the batches, and takes both.
  calls->close();
  Settlement caught;
  reader->submit(requests(0, 1), caught.callback());
  calls->wait_until_caught();
  Settlement first;
  Settlement second;
  reader->submit(requests(1, kFirst), first.callback());
  reader->submit(requests(1 + kFirst, 40), second.callback());
  calls->open();
  for (Settlement* settlement : {&caught, &first, &second}) {
    settlement->wait();
    EXPECT_FALSE(settlement->failure());
  }
  EXPECT_GE(calls->awaited(), 1U);
  EXPECT_LE(calls->awaited(), kFirst);
}

TEST_F(Uring, R5ARingLostInUseHandsOverToThePool) {
  const std::uint64_t seed = test_seed();
  SCOPED_TRACE("NCHUNK_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const TestFile file(1 << 20, seed);
  for (std::uint32_t lost_after = 1; lost_after < 40; lost_after += 3) {
    auto calls = std::make_shared<FaultySystemCalls>(
        seed, FaultRates{.short_read = 4000, .again = 2000, .uring_lost_after = lost_after});
    auto reader = open(file, {.queue_depth = 8, .submit_batch = 3, .threads = 3}, calls);
    ASSERT_TRUE(reader);
    EXPECT_EQ(reader->backend_name(), "io_uring");
    calls->arm();
    // Several batches at once, so that some are queued behind the one that loses the ring.
    constexpr std::size_t kBatches = 6;
    Settlement settlements[kBatches];
    std::vector<Pieces> pieces;
    std::vector<std::unique_ptr<GuardedLanding>> landings;
    for (std::size_t i = 0; i < kBatches; ++i) {
      pieces.emplace_back(random, file.bytes().size(), reader->file().alignment_bytes(), 20, 8192);
      landings.push_back(std::make_unique<GuardedLanding>(pieces[i].landing_bytes()));
      reader->submit(pieces[i].requests(*landings[i]), settlements[i].callback());
    }
    for (std::size_t i = 0; i < kBatches; ++i) {
      settlements[i].wait();
      ASSERT_FALSE(settlements[i].failure()) << settlements[i].failure()->detail;
      ASSERT_TRUE(pieces[i].landed(*landings[i], file.bytes()));
      EXPECT_EQ(settlements[i].times(), 1);
    }
    EXPECT_EQ(reader->backend_name(), "pool");
    ASSERT_TRUE(reader->uring_refusal());
    EXPECT_EQ(reader->uring_refusal()->error_number, EPERM);
    reader->close();
    EXPECT_EQ(reader->backend_name(), "pool");
  }
}

TEST_F(Uring, AnIdleRingWakesForEveryNewBatch) {
  const TestFile file(1 << 20);
  auto reader = open(file, {.queue_depth = 4, .submit_batch = 2});
  GuardedLanding landing(4096);
  for (int i = 0; i < 2000; ++i) {
    Settlement settlement;
    reader->submit({{static_cast<std::uint64_t>(i % 256) * 4096, 4096, landing.data()}},
                   settlement.callback());
    // Sometimes the ring's thread is already waiting, sometimes still on its way there.
    if (i % 7 == 0) std::this_thread::sleep_for(std::chrono::microseconds(i % 50));
    settlement.wait();
    ASSERT_FALSE(settlement.failure());
  }
}

}  // namespace
}  // namespace flash_io::testing
