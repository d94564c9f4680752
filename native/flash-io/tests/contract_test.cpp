#include "contract.h"

#include <cerrno>
#include <thread>

#include "flash_io/fault_injection.h"
#include "pieces.h"

namespace flash_io::testing {
namespace {

const auto name_of = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Real, ReaderContract, ::testing::ValuesIn(kRealBackends), name_of);
INSTANTIATE_TEST_SUITE_P(Fake, ReaderContract, ::testing::Values(kFakeBackend), name_of);

/// What goes beyond the contract of a batch: the fake keeps no limits.
class RealBackend : public ReaderContract {};
INSTANTIATE_TEST_SUITE_P(All, RealBackend, ::testing::ValuesIn(kRealBackends), name_of);

/// Faults after which a read goes on.
constexpr FaultRates kPassingFaults{.short_read = 8000, .interrupted = 4000, .again = 1000,
                                    .no_memory = 500, .delay = 2000, .enter = 6000};
/// Faults that end a read.
constexpr FaultRates kFatalFaults{.zero = 100, .io_error = 100, .no_device = 100};

struct Outcome {
  std::optional<Failure> failure;
  ::testing::AssertionResult landed = ::testing::AssertionSuccess();
};

Outcome read_pieces(Reader& reader, const TestFile& file, std::mt19937_64& random,
                    std::size_t count, std::uint32_t most_bytes = 64 << 10) {
  const Pieces pieces(random, file.bytes().size(), reader.file().alignment_bytes(), count,
                      most_bytes);
  GuardedLanding landing(pieces.landing_bytes());
  Settlement settlement;
  reader.submit(pieces.requests(landing), settlement.callback());
  settlement.wait();
  if (settlement.failure()) {
    return {settlement.failure(), landing.guards_intact() ? ::testing::AssertionSuccess()
                                                          : ::testing::AssertionFailure()};
  }
  return {std::nullopt, pieces.landed(landing, file.bytes())};
}

TEST_P(ReaderContract, R7RandomPiecesLandExactly) {
  const TestFile file(3'000'017, seed_);
  auto reader = open(file);
  for (int round = 0; round < 20; ++round) {
    const Outcome outcome = read_pieces(*reader, file, random_, 100);
    ASSERT_FALSE(outcome.failure) << outcome.failure->detail;
    ASSERT_TRUE(outcome.landed);
  }
}

TEST_P(ReaderContract, R12FaultsThatPassLeaveRightBytes) {
  const TestFile file(1'000'003, seed_);
  auto faults = std::make_shared<FaultySystemCalls>(seed_, kPassingFaults);
  auto reader = open(file, faults);
  faults->arm();
  const std::size_t rounds = effort(20, 10'000);
  for (std::size_t round = 0; round < rounds; ++round) {
    const Outcome outcome = read_pieces(*reader, file, random_, 100, 8192);
    ASSERT_FALSE(outcome.failure) << outcome.failure->detail;
    ASSERT_TRUE(outcome.landed);
  }
  EXPECT_GE(reader->counters().requests.load(), rounds * 100);
  EXPECT_GT(faults->faults(), 0u);
  EXPECT_GT(reader->counters().retries.load(), 0u);
}

TEST_P(ReaderContract, R8FatalFaultsAreTypedAndOthersGoOn) {
  const TestFile file(1'000'003, seed_);
  auto faults = std::make_shared<FaultySystemCalls>(seed_, kFatalFaults);
  auto reader = open(file, faults);
  faults->arm();
  int failed = 0;
  for (int round = 0; round < 100; ++round) {
    const Outcome outcome = read_pieces(*reader, file, random_, 50);
    ASSERT_TRUE(outcome.landed);
    if (!outcome.failure) continue;
    ++failed;
    EXPECT_GT(outcome.failure->length_bytes, 0u);
    if (outcome.failure->code == FailureCode::kIoError) {
      const int error_number = outcome.failure->error_number;
      EXPECT_TRUE(error_number == EIO || error_number == ENODEV) << error_number;
    } else {
      EXPECT_EQ(outcome.failure->code, FailureCode::kTruncated);
    }
  }
  EXPECT_GT(failed, 0);
}

TEST_P(ReaderContract, R10CancelledBatchesSettleOnceAndThenNothingIsWritten) {
  const TestFile file(1'000'003, seed_);
  auto reader = open(file);
  const std::size_t aborts = effort(500, 10'000);
  for (std::size_t round = 0; round < aborts; ++round) {
    const Pieces pieces(random_, file.bytes().size(), reader->file().alignment_bytes(), 30, 16384);
    Settlement settlement;
    {
      // Freed right after settlement: a late write is what ASan and the canaries are here for.
      GuardedLanding landing(pieces.landing_bytes());
      auto batch = reader->submit(pieces.requests(landing), settlement.callback());
      for (std::uint64_t spin = random_() % 200; spin > 0; --spin) std::this_thread::yield();
      batch->cancel();
      settlement.wait();
      ASSERT_TRUE(landing.guards_intact());
    }
    ASSERT_EQ(settlement.times(), 1);
  }
  reader->close();
  EXPECT_EQ(reader->counters().bytes_in_flight.load(), 0u);
  EXPECT_EQ(reader->counters().request_memory_bytes.load(), 0u);
}

TEST_P(ReaderContract, R10CancellingAmongFaultsSettlesEveryBatch) {
  const TestFile file(1'000'003, seed_);
  auto faults = std::make_shared<FaultySystemCalls>(seed_, kPassingFaults);
  auto reader = open(file, faults);
  faults->arm();
  for (int round = 0; round < 100; ++round) {
    const Pieces pieces(random_, file.bytes().size(), reader->file().alignment_bytes(), 30, 16384);
    GuardedLanding landing(pieces.landing_bytes());
    Settlement settlement;
    auto batch = reader->submit(pieces.requests(landing), settlement.callback());
    for (std::uint64_t spin = random_() % 50; spin > 0; --spin) std::this_thread::yield();
    batch->cancel();
    settlement.wait();
    ASSERT_TRUE(landing.guards_intact());
    ASSERT_EQ(settlement.times(), 1);
  }
}

TEST_P(ReaderContract, R8OneFailedBatchLeavesConcurrentOnesAlone) {
  const TestFile file(1 << 20);
  auto reader = open(file);
  Settlement bad;
  Settlement good[8];
  std::vector<std::unique_ptr<GuardedLanding>> landings;
  std::vector<Pieces> pieces;
  for (auto& settlement : good) {
    pieces.emplace_back(random_, file.bytes().size(), reader->file().alignment_bytes(), 20);
    landings.push_back(std::make_unique<GuardedLanding>(pieces.back().landing_bytes()));
    reader->submit(pieces.back().requests(*landings.back()), settlement.callback());
    if (&settlement == &good[3]) {
      // No memory there: the kernel itself fails it, with EFAULT.
      reader->submit({{0, 4096, nullptr}}, bad.callback());
    }
  }
  bad.wait();
  ASSERT_TRUE(bad.failure());
  EXPECT_EQ(bad.failure()->error_number, EFAULT);
  for (std::size_t i = 0; i < std::size(good); ++i) {
    good[i].wait();
    EXPECT_FALSE(good[i].failure());
    EXPECT_TRUE(pieces[i].landed(*landings[i], file.bytes()));
  }
}

TEST_P(ReaderContract, ManyBatchesFromManyThreads) {
  const TestFile file(1'000'003, seed_);
  auto reader = open(file);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 own_random(seed_ + t);
      for (int round = 0; round < 25; ++round) {
        const Outcome outcome = read_pieces(*reader, file, own_random, 20);
        EXPECT_FALSE(outcome.failure);
        EXPECT_TRUE(outcome.landed);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(reader->counters().batches.load(), 100u);
  EXPECT_EQ(reader->counters().requests.load(), 2000u);
}

TEST_P(ReaderContract, CloseFinishesWhatWasSubmitted) {
  const TestFile file(1 << 20);
  auto reader = open(file);
  GuardedLanding landing(1 << 20);
  std::vector<ReadRequest> requests;
  for (std::uint64_t offset = 0; offset < (1 << 20); offset += 4096) {
    requests.push_back({offset, 4096, landing.data() + offset});
  }
  Settlement settlement;
  reader->submit(std::move(requests), settlement.callback());
  reader->close();
  EXPECT_EQ(settlement.times(), 1);
  EXPECT_FALSE(settlement.failure().has_value());
  EXPECT_EQ(std::memcmp(landing.data(), file.bytes().data(), file.bytes().size()), 0);
  reader->close();
}

TEST_P(ReaderContract, R9TruncationDuringUseIsAChange) {
  const TestFile file(1 << 20);
  auto reader = open(file);
  ASSERT_EQ(::truncate(file.path().c_str(), 10000), 0);
  GuardedLanding landing(8192);
  Settlement settlement;
  reader->submit({{524288, 8192, landing.data()}}, settlement.callback());
  settlement.wait();
  ASSERT_TRUE(settlement.failure().has_value());
  EXPECT_EQ(settlement.failure()->code, FailureCode::kFileChanged);
  EXPECT_EQ(settlement.failure()->offset_bytes, 524288u);
  EXPECT_TRUE(landing.guards_intact());
}

TEST_P(ReaderContract, R9AReplacedFileIsAChangeAtTheEndOfTheBatch) {
  const TestFile file(1 << 20);
  auto reader = open(file);
  const TestFile other(1 << 20, 2);
  ASSERT_EQ(::rename(other.path().c_str(), file.path().c_str()), 0);
  GuardedLanding landing(4096);
  Settlement settlement;
  reader->submit({{0, 4096, landing.data()}}, settlement.callback());
  settlement.wait();
  ASSERT_TRUE(settlement.failure().has_value());
  EXPECT_EQ(settlement.failure()->code, FailureCode::kFileChanged);
}

TEST_P(RealBackend, R14BytesInFlightStayWithinTheirLimit) {
  constexpr std::uint64_t kLimitBytes = 40'000;
  const TestFile file(4 << 20);
  auto reader = open(file, nullptr,
                     {.queue_depth = 64, .submit_batch = 16, .threads = 8,
                      .max_bytes_in_flight = kLimitBytes});
  GuardedLanding landing(4 << 20);
  const auto read_all = [&](std::uint32_t piece_bytes) {
    std::vector<ReadRequest> requests;
    for (std::uint64_t offset = 0; offset < (4 << 20); offset += piece_bytes) {
      requests.push_back({offset, piece_bytes, landing.data() + offset});
    }
    Settlement settlement;
    reader->submit(std::move(requests), settlement.callback());
    settlement.wait();
    EXPECT_FALSE(settlement.failure().has_value());
    EXPECT_EQ(reader->counters().bytes_in_flight.load(), 0u);
    EXPECT_EQ(std::memcmp(landing.data(), file.bytes().data(), file.bytes().size()), 0);
    return reader->counters().most_bytes_in_flight.load();
  };
  const std::uint64_t most = read_all(16384);
  EXPECT_LE(most, kLimitBytes);
  EXPECT_GE(most, 16384u);
  // Larger than the limit: served all the same, alone.
  EXPECT_EQ(read_all(1 << 20), std::uint64_t{1} << 20);
}

}  // namespace
}  // namespace flash_io::testing
