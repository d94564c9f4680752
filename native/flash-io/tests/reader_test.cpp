#include "flash_io/reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "flash_io/fault_injection.h"
#include "support.h"

namespace flash_io {
namespace {

using testing::GuardedLanding;
using testing::open_or_die;
using testing::Settlement;
using testing::TestFile;

struct Piece {
  std::uint64_t offset;
  std::uint32_t length;
  std::size_t landing_offset;
};

/// Random aligned pieces, laid out in the landing with untouched gaps between them.
std::vector<Piece> random_pieces(std::mt19937_64& random, std::uint64_t file_bytes,
                                 std::uint32_t alignment, std::size_t count,
                                 std::size_t& landing_bytes) {
  std::vector<Piece> pieces;
  const std::uint64_t blocks = (file_bytes + alignment - 1) / alignment;
  landing_bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t block = random() % blocks;
    const std::uint64_t most = std::min<std::uint64_t>(blocks - block, (64 << 10) / alignment);
    const auto length = static_cast<std::uint32_t>((1 + random() % most) * alignment);
    pieces.push_back({block * alignment, length, landing_bytes});
    landing_bytes += length + alignment;
  }
  return pieces;
}

std::vector<ReadRequest> to_requests(const std::vector<Piece>& pieces, GuardedLanding& landing) {
  std::vector<ReadRequest> requests;
  for (const Piece& piece : pieces) {
    requests.push_back({piece.offset, piece.length, landing.data() + piece.landing_offset});
  }
  return requests;
}

::testing::AssertionResult right_bytes(const std::vector<Piece>& pieces, GuardedLanding& landing,
                                       const std::vector<std::uint8_t>& file,
                                       std::uint32_t alignment) {
  for (const Piece& piece : pieces) {
    const std::size_t wanted = std::min<std::size_t>(piece.length, file.size() - piece.offset);
    if (std::memcmp(landing.data() + piece.landing_offset, file.data() + piece.offset, wanted) != 0) {
      return ::testing::AssertionFailure() << "wrong bytes at " << piece.offset;
    }
    if (!landing.untouched(piece.landing_offset + piece.length, alignment)) {
      return ::testing::AssertionFailure() << "written behind the piece at " << piece.offset;
    }
  }
  if (!landing.guards_intact()) return ::testing::AssertionFailure() << "written outside";
  return ::testing::AssertionSuccess();
}

class ReaderModes : public ::testing::TestWithParam<DirectIo> {};
INSTANTIATE_TEST_SUITE_P(All, ReaderModes, ::testing::Values(DirectIo::kOptional, DirectIo::kDisabled),
                         [](const auto& info) {
                           return info.param == DirectIo::kOptional ? "Direct" : "Buffered";
                         });

TEST_P(ReaderModes, R7RandomPiecesLandExactly) {
  const std::uint64_t seed = testing::test_seed();
  SCOPED_TRACE("NCHUNK_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const TestFile test(3'000'017, seed);
  auto reader = open_or_die(test.path(), {.direct_io = GetParam()});
  const std::uint32_t alignment = reader->file().alignment_bytes();
  for (int round = 0; round < 20; ++round) {
    std::size_t landing_bytes = 0;
    const auto pieces = random_pieces(random, test.bytes().size(), alignment, 100, landing_bytes);
    GuardedLanding landing(landing_bytes);
    Settlement settlement;
    reader->submit(to_requests(pieces, landing), settlement.callback());
    settlement.wait();
    ASSERT_FALSE(settlement.failure().has_value()) << settlement.failure()->detail;
    ASSERT_TRUE(right_bytes(pieces, landing, test.bytes(), alignment));
  }
}

TEST_P(ReaderModes, R12FaultsThatPassLeaveRightBytes) {
  const std::uint64_t seed = testing::test_seed();
  SCOPED_TRACE("NCHUNK_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const TestFile test(1'000'003, seed);
  auto faults = std::make_shared<FaultySystemCalls>(
      seed, FaultRates{.short_read = 8000, .interrupted = 4000, .again = 1000, .no_memory = 500,
                       .delay = 500});
  auto reader = open_or_die(test.path(), {.direct_io = GetParam(), .calls = faults});
  faults->arm();
  const std::uint32_t alignment = reader->file().alignment_bytes();
  for (int round = 0; round < 20; ++round) {
    std::size_t landing_bytes = 0;
    const auto pieces = random_pieces(random, test.bytes().size(), alignment, 100, landing_bytes);
    GuardedLanding landing(landing_bytes);
    Settlement settlement;
    reader->submit(to_requests(pieces, landing), settlement.callback());
    settlement.wait();
    ASSERT_FALSE(settlement.failure().has_value()) << settlement.failure()->detail;
    ASSERT_TRUE(right_bytes(pieces, landing, test.bytes(), alignment));
  }
  EXPECT_GT(faults->faults(), 0u);
  EXPECT_GT(reader->counters().retries.load(), 0u);
}

TEST_P(ReaderModes, R8FatalFaultsAreTypedAndOthersGoOn) {
  const std::uint64_t seed = testing::test_seed();
  SCOPED_TRACE("NCHUNK_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const TestFile test(1'000'003, seed);
  auto faults = std::make_shared<FaultySystemCalls>(
      seed, FaultRates{.zero = 100, .io_error = 100, .no_device = 100});
  auto reader = open_or_die(test.path(), {.direct_io = GetParam(), .calls = faults});
  faults->arm();
  const std::uint32_t alignment = reader->file().alignment_bytes();
  int failed = 0;
  for (int round = 0; round < 100; ++round) {
    std::size_t landing_bytes = 0;
    const auto pieces = random_pieces(random, test.bytes().size(), alignment, 50, landing_bytes);
    GuardedLanding landing(landing_bytes);
    Settlement settlement;
    reader->submit(to_requests(pieces, landing), settlement.callback());
    settlement.wait();
    if (!settlement.failure()) {
      ASSERT_TRUE(right_bytes(pieces, landing, test.bytes(), alignment));
      continue;
    }
    ++failed;
    const Failure& failure = *settlement.failure();
    EXPECT_GT(failure.length_bytes, 0u);
    if (failure.code == FailureCode::kIoError) {
      EXPECT_TRUE(failure.error_number == EIO || failure.error_number == ENODEV);
    } else {
      EXPECT_EQ(failure.code, FailureCode::kTruncated);
    }
    EXPECT_TRUE(landing.guards_intact());
  }
  EXPECT_GT(failed, 0);
}

TEST_P(ReaderModes, R10CancelledBatchesSettleOnceAndThenNothingIsWritten) {
  const std::uint64_t seed = testing::test_seed();
  SCOPED_TRACE("NCHUNK_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const TestFile test(1'000'003, seed);
  auto reader = open_or_die(test.path(), {.direct_io = GetParam()});
  const std::uint32_t alignment = reader->file().alignment_bytes();
  for (int round = 0; round < 300; ++round) {
    std::size_t landing_bytes = 0;
    const auto pieces = random_pieces(random, test.bytes().size(), alignment, 30, landing_bytes);
    Settlement settlement;
    {
      // Freed right after settlement: a late write is what ASan and the canaries are here for.
      GuardedLanding landing(landing_bytes);
      auto batch = reader->submit(to_requests(pieces, landing), settlement.callback());
      for (std::uint64_t spin = random() % 200; spin > 0; --spin) std::this_thread::yield();
      batch->cancel();
      settlement.wait();
      EXPECT_TRUE(landing.guards_intact());
    }
    EXPECT_EQ(settlement.times(), 1);
  }
  reader->close();
  EXPECT_EQ(reader->counters().bytes_in_flight.load(), 0u);
}

TEST(Reader, ManyBatchesFromManyThreads) {
  const std::uint64_t seed = testing::test_seed();
  SCOPED_TRACE("NCHUNK_TEST_SEED=" + std::to_string(seed));
  const TestFile test(1'000'003, seed);
  auto reader = open_or_die(test.path());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + static_cast<std::uint64_t>(t));
      const std::uint32_t alignment = reader->file().alignment_bytes();
      for (int round = 0; round < 25; ++round) {
        std::size_t landing_bytes = 0;
        const auto pieces = random_pieces(random, test.bytes().size(), alignment, 20, landing_bytes);
        GuardedLanding landing(landing_bytes);
        Settlement settlement;
        reader->submit(to_requests(pieces, landing), settlement.callback());
        settlement.wait();
        EXPECT_TRUE(right_bytes(pieces, landing, test.bytes(), alignment));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(reader->counters().batches.load(), 100u);
  EXPECT_EQ(reader->counters().requests.load(), 2000u);
}

TEST(Reader, CloseFinishesWhatWasSubmitted) {
  const TestFile test(1 << 20);
  auto reader = open_or_die(test.path());
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
  EXPECT_EQ(std::memcmp(landing.data(), test.bytes().data(), test.bytes().size()), 0);
  reader->close();
}

TEST_P(ReaderModes, R9TruncationDuringUseIsAChange) {
  const TestFile test(1 << 20);
  auto reader = open_or_die(test.path(), {.direct_io = GetParam()});
  ASSERT_EQ(::truncate(test.path().c_str(), 10000), 0);
  GuardedLanding landing(8192);
  Settlement settlement;
  reader->submit({{524288, 8192, landing.data()}}, settlement.callback());
  settlement.wait();
  ASSERT_TRUE(settlement.failure().has_value());
  EXPECT_EQ(settlement.failure()->code, FailureCode::kFileChanged);
  EXPECT_EQ(settlement.failure()->offset_bytes, 524288u);
  EXPECT_TRUE(landing.guards_intact());
}

TEST(Reader, R9AReplacedFileIsAChangeAtTheEndOfTheBatch) {
  const TestFile test(1 << 20);
  auto reader = open_or_die(test.path());
  const TestFile other(1 << 20, 2);
  ASSERT_EQ(::rename(other.path().c_str(), test.path().c_str()), 0);
  GuardedLanding landing(4096);
  Settlement settlement;
  reader->submit({{0, 4096, landing.data()}}, settlement.callback());
  settlement.wait();
  ASSERT_TRUE(settlement.failure().has_value());
  EXPECT_EQ(settlement.failure()->code, FailureCode::kFileChanged);
}

}  // namespace
}  // namespace flash_io
