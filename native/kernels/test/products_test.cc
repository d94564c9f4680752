#include "support.h"

namespace nchunk::test {
namespace {

// A sum of K f32 products, in vector lanes and blocks: far below K * 2^-24 in practice.
constexpr double kSumBound = 2e-6;

class Products : public OnTarget {
 protected:
  struct Plan {
    std::vector<uint32_t> starts, lengths;
    std::vector<double> offsets_bytes;
    std::vector<uint8_t> landing;
  };

  // Chunks of `weights` [k, n] that keep about half of the rows, landed with gaps of random bytes, at odd offsets.
  Plan Land(const Weights& weights, size_t k, size_t n, Dtype dtype, size_t row_bytes) {
    Plan plan;
    for (size_t row = Size(0, 2); row < k;) {
      const size_t length = std::min(k - row, Size(0, 9) == 0 ? Size(20, 60) : Size(1, 7));
      plan.starts.push_back(static_cast<uint32_t>(row));
      plan.lengths.push_back(static_cast<uint32_t>(length));
      plan.landing.resize(plan.landing.size() + Size(0, 70), 0xff);  // NaN where it must not be read
      plan.offsets_bytes.push_back(static_cast<double>(plan.landing.size()));
      for (size_t r = 0; r < length; ++r) {
        const size_t at = plan.landing.size();
        plan.landing.resize(at + row_bytes, 0xff);
        std::memcpy(plan.landing.data() + at, weights.data() + (row + r) * n * ElementBytes(dtype),
                    n * ElementBytes(dtype));
      }
      row += length + Size(1, 7);
    }
    // Exactly up to the last wanted byte, so that a sanitizer sees any read beyond.
    if (!plan.starts.empty()) plan.landing.resize(plan.landing.size() - (row_bytes - n * ElementBytes(dtype)));
    plan.landing.shrink_to_fit();
    return plan;
  }

  void CheckChunked(size_t tokens, size_t k, size_t n, Dtype dtype, bool accumulate) {
    SCOPED_TRACE("chunked T " + std::to_string(tokens) + " K " + std::to_string(k) + " N " + std::to_string(n) +
                 " dtype " + std::to_string(static_cast<int>(dtype)));
    const Weights weights(k * n, dtype, random);
    const size_t row_bytes = n * ElementBytes(dtype) + Size(0, 3);
    const Plan plan = Land(weights, k, n, dtype, row_bytes);
    const std::vector<float> x = Floats(tokens * k);
    Guarded y(tokens * n, 0.5f);
    ChunkedMatmul({x.data(), tokens, k, plan.starts.data(), plan.lengths.data(), plan.starts.size(),
                   plan.landing.data(), plan.offsets_bytes.data(), row_bytes, dtype, n, y.data(), accumulate});
    y.ExpectIntact();
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t j = 0; j < n; ++j) {
        double want = accumulate ? 0.5 : 0.0;
        double terms = std::abs(want);
        for (size_t c = 0; c < plan.starts.size(); ++c) {
          for (size_t i = plan.starts[c]; i < plan.starts[c] + plan.lengths[c]; ++i) {
            want += double{x[t * k + i]} * weights[i * n + j];
            terms += std::abs(double{x[t * k + i]} * weights[i * n + j]);
          }
        }
        ExpectSum(y[t * n + j], want, terms, kSumBound, "y");
        if (HasFatalFailure()) return;
      }
    }
  }

  void CheckLinear(size_t tokens, size_t k, size_t n, Dtype dtype, bool with_bias) {
    SCOPED_TRACE("linear T " + std::to_string(tokens) + " K " + std::to_string(k) + " N " + std::to_string(n) +
                 " dtype " + std::to_string(static_cast<int>(dtype)));
    const Weights weights(n * k, dtype, random);
    const std::vector<float> x = Floats(tokens * k);
    const std::vector<float> bias = Floats(n);
    Guarded y(tokens * n);
    Linear({x.data(), tokens, k, weights.data(), dtype, n, with_bias ? bias.data() : nullptr, y.data(), Activation::kNone});
    y.ExpectIntact();
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t j = 0; j < n; ++j) {
        double want = with_bias ? bias[j] : 0.0;
        double terms = std::abs(want);
        for (size_t i = 0; i < k; ++i) {
          want += double{x[t * k + i]} * weights[j * k + i];
          terms += std::abs(double{x[t * k + i]} * weights[j * k + i]);
        }
        ExpectSum(y[t * n + j], want, terms, kSumBound, "y");
        if (HasFatalFailure()) return;
      }
    }
  }
};
NCHUNK_ON_EVERY_TARGET(Products);

constexpr Dtype kDtypes[] = {Dtype::kF32, Dtype::kBF16, Dtype::kF16};

TEST_P(Products, ChunkedMatchesNaive) {
  for (const Dtype dtype : kDtypes) {
    for (const size_t tokens : {1, 2, 4, 5, 8, 16, 19}) {
      for (int round = 0; round < 6; ++round) {
        CheckChunked(tokens, Size(1, 300), Size(1, 150), dtype, round % 2 == 1);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Products, ChunkedMatchesNaiveWhereWorkIsSplit) {
  CheckChunked(1, 1500, 900, Dtype::kBF16, false);
  CheckChunked(1, 700, 4500, Dtype::kBF16, true);
  CheckChunked(3, 600, 4500, Dtype::kF16, false);
  CheckChunked(70, 300, 400, Dtype::kBF16, true);
  CheckChunked(1030, 140, 60, Dtype::kBF16, false);  // more than one block of tokens
}

TEST_P(Products, NoChunksIsZeroOrUnchanged) {
  const std::vector<float> x(3 * 5, 1.0f);
  for (const bool accumulate : {false, true}) {
    Guarded y(3 * 4, 2.5f);
    ChunkedMatmul({x.data(), 3, 5, nullptr, nullptr, 0, nullptr, nullptr, 8, Dtype::kBF16, 4, y.data(), accumulate});
    y.ExpectIntact();
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], accumulate ? 2.5f : 0.0f);
  }
}

TEST_P(Products, LinearMatchesNaive) {
  for (const Dtype dtype : kDtypes) {
    for (const size_t tokens : {1, 3, 6, 9, 33}) {
      for (int round = 0; round < 6; ++round) {
        CheckLinear(tokens, Size(1, 300), Size(1, 150), dtype, round % 2 == 1);
        if (HasFatalFailure()) return;
      }
    }
  }
  CheckLinear(1, 896, 1500, Dtype::kBF16, true);
  CheckLinear(729, 72, 130, Dtype::kBF16, true);
  CheckLinear(2051, 40, 50, Dtype::kF16, false);
}

TEST_P(Products, LinearAppliesActivation) {
  const size_t tokens = 9, k = 20, n = 53;
  const Weights weights(n * k, Dtype::kBF16, random);
  const std::vector<float> x = Floats(tokens * k);
  const std::vector<float> bias = Floats(n);
  for (const size_t t : {size_t{1}, tokens}) {
    for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh}) {
      Guarded fused(t * n);
      Guarded apart(t * n);
      Linear({x.data(), t, k, weights.data(), Dtype::kBF16, n, bias.data(), fused.data(), activation});
      Linear({x.data(), t, k, weights.data(), Dtype::kBF16, n, bias.data(), apart.data(), Activation::kNone});
      (activation == Activation::kGelu ? Gelu : GeluTanh)(apart.data(), t * n);
      fused.ExpectIntact();
      for (size_t i = 0; i < t * n; ++i) EXPECT_NEAR(fused[i], apart[i], 1e-6 * std::abs(apart[i]) + 1e-12);
    }
  }
}

// One plan, one answer: on one thread and on several.
TEST_P(Products, ThreadsDoNotChangeResults) {
  const size_t k = 900, n = 1000;
  const Weights weights(k * n, Dtype::kBF16, random);
  const std::vector<float> x = Floats(70 * k);
  const Plan plan = Land(weights, k, n, Dtype::kBF16, 2 * n);
  const int before = Threads();
  for (const size_t tokens : {1, 3, 16, 70}) {
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 5}) {
      SetThreads(threads);
      std::vector<float>& y = results.emplace_back(2 * tokens * n);
      ChunkedMatmul({x.data(), tokens, k, plan.starts.data(), plan.lengths.data(), plan.starts.size(),
                     plan.landing.data(), plan.offsets_bytes.data(), 2 * n, Dtype::kBF16, n, y.data(), false});
      Linear({x.data(), tokens, k, weights.data(), Dtype::kBF16, n, nullptr, y.data() + tokens * n, Activation::kNone});
    }
    EXPECT_EQ(results[0], results[1]) << "T " << tokens;
    EXPECT_EQ(results[0], results[2]) << "T " << tokens;
  }
  SetThreads(before);
}

TEST_P(Products, WideningIsExactForEveryValue) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const auto* bytes = reinterpret_cast<const uint8_t*>(bits.data());
  Guarded y(bits.size());
  for (const Dtype dtype : {Dtype::kBF16, Dtype::kF16}) {
    ToF32(bytes, dtype, bits.size(), y.data());
    for (size_t i = 0; i < bits.size(); ++i) {
      const float want = dtype == Dtype::kBF16 ? BfloatToFloat(bits[i]) : HalfToFloat(bits[i]);
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(y[i])) << i;
      } else {
        ASSERT_EQ(y[i], want) << i;
      }
    }
  }
  y.ExpectIntact();
}

}  // namespace
}  // namespace nchunk::test
