#include "flash_io/batch.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

namespace flash_io {
namespace {

std::vector<ReadRequest> requests(std::size_t count) {
  return std::vector<ReadRequest>(count, ReadRequest{0, 512, nullptr});
}

TEST(Batch, RefusesToBeEmpty) {
  EXPECT_THROW(Batch(requests(0), [](Batch&) {}), std::invalid_argument);
  EXPECT_THROW(Batch(std::span<const ReadRequest>(), [](Batch&) {}), std::invalid_argument);
}

TEST(Batch, SettlesAfterTheLastRequestOnly) {
  int settled = 0;
  Batch batch(requests(3), [&](Batch&) { ++settled; });
  EXPECT_EQ(batch.claim(), 0u);
  EXPECT_EQ(batch.claim(), 1u);
  EXPECT_EQ(batch.claim(), 2u);
  EXPECT_EQ(batch.claim(), Batch::kNone);
  batch.succeed(512);
  batch.succeed(512);
  EXPECT_EQ(settled, 0);
  batch.succeed(512);
  EXPECT_EQ(settled, 1);
  EXPECT_EQ(batch.transferred_bytes(), 1536u);
}

TEST(Batch, CancelBeforeAnyClaimSettlesAtOnce) {
  int settled = 0;
  Batch batch(requests(100), [&](Batch&) { ++settled; });
  batch.cancel();
  EXPECT_EQ(settled, 1);
  batch.cancel();
  EXPECT_EQ(settled, 1);
  EXPECT_EQ(batch.claim(), Batch::kNone);
  EXPECT_TRUE(batch.cancelled());
}

TEST(Batch, CancelWaitsForWhatIsClaimed) {
  int settled = 0;
  Batch batch(requests(5), [&](Batch&) { ++settled; });
  EXPECT_EQ(batch.claim(), 0u);
  batch.cancel();
  EXPECT_EQ(settled, 0);
  batch.succeed(512);
  EXPECT_EQ(settled, 1);
}

TEST(Batch, FailureStopsTheRestAndTheFirstOneCounts) {
  int settled = 0;
  Batch batch(requests(10), [&](Batch&) { ++settled; });
  batch.claim();
  batch.claim();
  batch.fail({FailureCode::kIoError, 5, 0, 0, "first"});
  EXPECT_EQ(batch.claim(), Batch::kNone);
  EXPECT_EQ(settled, 0);
  batch.fail({FailureCode::kTruncated, 0, 0, 0, "second"});
  EXPECT_EQ(settled, 1);
  EXPECT_EQ(batch.failure()->detail, "first");
}

TEST(Batch, SettlesExactlyOnceUnderContention) {
  for (int round = 0; round < 300; ++round) {
    std::atomic<int> settled{0};
    Batch batch(requests(64), [&](Batch&) { ++settled; });
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (auto i = batch.claim(); i != Batch::kNone; i = batch.claim()) {
          if (t == 0 && round % 3 == 0 && i % 20 == 19) {
            batch.fail({});
          } else {
            batch.succeed(1);
          }
        }
      });
    }
    if (round % 2 == 0) batch.cancel();
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(settled.load(), 1) << "round " << round;
  }
}

}  // namespace
}  // namespace flash_io
