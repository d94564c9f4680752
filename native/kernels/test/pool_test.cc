// The pool through its public face: several callers at once, threads changed between calls.
#include <atomic>
#include <thread>

#include "support.h"

namespace nchunk::test {
namespace {

TEST(Pool, ServesSeveralCallersAtOnce) {
  const size_t k = 64, n = 3000, tokens = 8;
  const std::vector<float> x(tokens * k, 1.0f), weight(n * k, 0.5f);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&, c] {
      for (int round = 0; round < 20; ++round) {
        std::vector<float> y(tokens * n);
        const auto run = [&] {
          Linear({x.data(), tokens, k, reinterpret_cast<const uint8_t*>(weight.data()), Dtype::kF32, n, nullptr, y.data(),
                  Activation::kNone});
        };
        if (c % 2 == 0) {
          const BackgroundScope background;
          run();
        } else {
          run();
        }
        for (const float v : y) wrong += v != 32.0f;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Pool, ThreadsMayChangeWhileOthersCompute) {
  const int before = Threads();
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (int i = 0; !stop; ++i) SetThreads(1 + i % 4);
  });
  const std::vector<float> x(200000, -3.0f);
  for (int round = 0; round < 100; ++round) {
    std::vector<float> v(x.size() / 2);
    Importance(x.data(), 2, v.size(), v.data());
    for (const float value : v) ASSERT_EQ(value, 3.0f);
  }
  stop = true;
  changer.join();
  SetThreads(before);
}

TEST(Pool, ThreadCountIsClamped) {
  const int before = Threads();
  SetThreads(0);
  EXPECT_EQ(Threads(), 1);
  SetThreads(100000);
  EXPECT_EQ(Threads(), kMaxThreads);
  SetThreads(before);
}

TEST(Targets, UnknownTargetIsRefused) {
  const std::string before = CurrentTarget();
  EXPECT_FALSE(ForceTarget("mmx"));
  EXPECT_EQ(CurrentTarget(), before);
  EXPECT_EQ(AvailableTargets().back(), "portable");
}

}  // namespace
}  // namespace nchunk::test
