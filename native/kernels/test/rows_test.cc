#include <numeric>

#include "support.h"

namespace nchunk::test {
namespace {

class RowFunctions : public OnTarget {};
NCHUNK_ON_EVERY_TARGET(RowFunctions);

constexpr size_t kWidths[] = {1, 2, 7, 16, 33, 48, 96, 127, 896, 1153};

TEST_P(RowFunctions, Importance) {
  for (const size_t k : kWidths) {
    for (const size_t tokens : {1, 3, 196}) {
      const std::vector<float> x = Floats(tokens * k);
      Guarded v(k);
      Importance(x.data(), tokens, k, v.data());
      v.ExpectIntact();
      for (size_t i = 0; i < k; ++i) {
        double want = 0;
        for (size_t t = 0; t < tokens; ++t) want += std::abs(double{x[t * k + i]});
        want /= static_cast<double>(tokens);
        ASSERT_NEAR(v[i], want, 2e-6 * want);
      }
    }
  }
}

TEST_P(RowFunctions, RmsNormAndGather) {
  for (const size_t k : kWidths) {
    const size_t tokens = 5;
    const std::vector<float> x = Floats(tokens * k, 3.0f);
    const std::vector<float> weight = Floats(k);
    std::vector<uint32_t> permutation(k);
    std::iota(permutation.begin(), permutation.end(), 0u);
    std::shuffle(permutation.begin(), permutation.end(), random);
    Guarded plain(tokens * k), permuted(tokens * k), gathered(tokens * k), in_place(tokens * k);
    std::copy(x.begin(), x.end(), in_place.data());
    RmsNorm(x.data(), tokens, k, weight.data(), 1e-6f, nullptr, plain.data());
    RmsNorm(in_place.data(), tokens, k, weight.data(), 1e-6f, nullptr, in_place.data());
    RmsNorm(x.data(), tokens, k, weight.data(), 1e-6f, permutation.data(), permuted.data());
    Gather(x.data(), tokens, k, permutation.data(), gathered.data());
    for (Guarded* g : {&plain, &permuted, &gathered, &in_place}) g->ExpectIntact();
    for (size_t t = 0; t < tokens; ++t) {
      double squares = 0;
      for (size_t i = 0; i < k; ++i) squares += double{x[t * k + i]} * x[t * k + i];
      const double scale = 1 / std::sqrt(squares / static_cast<double>(k) + 1e-6);
      for (size_t i = 0; i < k; ++i) {
        const double want = x[t * k + i] * scale * weight[i];
        ASSERT_NEAR(plain[t * k + i], want, 1e-6 * std::abs(want));
        ASSERT_EQ(in_place[t * k + i], plain[t * k + i]);
        const size_t p = permutation[i];
        ASSERT_NEAR(permuted[t * k + i], x[t * k + p] * scale * weight[p], 1e-6 * std::abs(x[t * k + p] * scale * weight[p]));
        ASSERT_EQ(gathered[t * k + i], x[t * k + p]);
      }
    }
  }
}

TEST_P(RowFunctions, LayerNorm) {
  for (const size_t k : kWidths) {
    const size_t tokens = 4;
    std::vector<float> x = Floats(tokens * k);
    for (float& v : x) v += 10.0f;  // a mean that would cancel in a one-pass variance
    const std::vector<float> weight = Floats(k), bias = Floats(k);
    Guarded y(tokens * k);
    LayerNorm(x.data(), tokens, k, weight.data(), bias.data(), 1e-5f, y.data());
    y.ExpectIntact();
    for (size_t t = 0; t < tokens; ++t) {
      double mean = 0, variance = 0;
      for (size_t i = 0; i < k; ++i) mean += x[t * k + i];
      mean /= static_cast<double>(k);
      for (size_t i = 0; i < k; ++i) variance += (x[t * k + i] - mean) * (x[t * k + i] - mean);
      const double scale = 1 / std::sqrt(variance / static_cast<double>(k) + 1e-5);
      // x and its mean are near 10: their difference carries that rounding.
      const double rounding = k == 1 ? 1e-3 : 2e-6 * (1 + scale);
      for (size_t i = 0; i < k; ++i) {
        const double normal = (x[t * k + i] - mean) * scale;
        ASSERT_NEAR(y[t * k + i], normal * weight[i] + bias[i], rounding * (1 + std::abs(normal)) * (std::abs(weight[i]) + std::abs(bias[i])));
      }
    }
  }
}

TEST_P(RowFunctions, Sums) {
  const size_t tokens = 3, n = 37;
  const std::vector<float> x = Floats(tokens * n), bias = Floats(n);
  Guarded y(tokens * n, 1.5f);
  AddBias(y.data(), tokens, n, bias.data());
  Add(y.data(), x.data(), tokens * n - 1);
  y.ExpectIntact();
  for (size_t i = 0; i < tokens * n; ++i) {
    const float with_bias = 1.5f + bias[i % n];
    EXPECT_EQ(y[i], i + 1 < tokens * n ? with_bias + x[i] : with_bias);
  }
}

// Inputs that cover the range: dense around zero, out to where the functions saturate.
std::vector<float> Sweep() {
  std::vector<float> x{0.0f, -0.0f, 1e-30f, -1e-30f, 1e-8f, -1e-8f};
  for (float v = 1e-5f; v < 90.0f; v *= 1.003f) {
    x.push_back(v);
    x.push_back(-v);
  }
  return x;
}

TEST_P(RowFunctions, GeluIsAccurate) {
  const std::vector<float> x = Sweep();
  Guarded y(x.size());
  std::copy(x.begin(), x.end(), y.data());
  Gelu(y.data(), x.size());
  y.ExpectIntact();
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = x[i] * 0.5 * std::erfc(-double{x[i]} / std::sqrt(2.0));
    // Without a fused multiply-add the rounding error of x^2 shows in the tail.
    ASSERT_NEAR(y[i], want, 1e-6 * (1 + x[i] * x[i] / 8) * std::abs(want) + 1e-30) << "x " << x[i];
  }
}

TEST_P(RowFunctions, GeluTanhIsAccurate) {
  const std::vector<float> x = Sweep();
  Guarded y(x.size());
  std::copy(x.begin(), x.end(), y.data());
  GeluTanh(y.data(), x.size());
  y.ExpectIntact();
  for (size_t i = 0; i < x.size(); ++i) {
    const double u = std::sqrt(2 / M_PI) * (x[i] + 0.044715 * std::pow(double{x[i]}, 3));
    const double want = x[i] / (1 + std::exp(-2 * u));
    ASSERT_NEAR(y[i], want, 1e-6 * std::abs(want) + 1e-10) << "x " << x[i];
  }
}

TEST_P(RowFunctions, SiluMulIsAccurate) {
  std::vector<float> gate = Sweep();
  gate.push_back(-500.0f);
  gate.push_back(500.0f);
  const size_t n = gate.size(), tokens = 2;
  std::vector<float> gate_up(tokens * 2 * n);
  const std::vector<float> up = Floats(tokens * n);
  for (size_t t = 0; t < tokens; ++t) {
    std::copy(gate.begin(), gate.end(), gate_up.begin() + static_cast<long>(t * 2 * n));
    std::copy_n(up.begin() + static_cast<long>(t * n), n, gate_up.begin() + static_cast<long>((t * 2 + 1) * n));
  }
  Guarded y(tokens * n);
  SiluMul(gate_up.data(), tokens, n, y.data());
  y.ExpectIntact();
  for (size_t i = 0; i < tokens * n; ++i) {
    const double g = gate[i % n];
    const double want = g / (1 + std::exp(-g)) * up[i];
    ASSERT_NEAR(y[i], want, 5e-7 * std::abs(want) + 1e-30) << "gate " << g;
  }
}

TEST_P(RowFunctions, NanIsNotHidden) {
  Guarded y(40, NAN);
  GeluTanh(y.data(), 40);
  for (size_t i = 0; i < 40; ++i) EXPECT_TRUE(std::isnan(y[i]));
}

TEST_P(RowFunctions, RopeMatchesNaive) {
  for (const size_t head_dim : {2, 6, 48, 64, 72, 128}) {
    const size_t tokens = 4, heads = 3, stride = heads * head_dim + 5, half = head_dim / 2;
    const std::vector<float> x = Floats(tokens * stride);
    std::vector<float> inv_freq(half);
    for (size_t i = 0; i < half; ++i) {
      inv_freq[i] = static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
    }
    const std::vector<double> positions{0, 1, 77, 30000};
    Guarded y(tokens * stride);
    std::copy(x.begin(), x.end(), y.data());
    Rope(y.data() + 2, tokens, stride, heads, head_dim, positions.data(), inv_freq.data());
    y.ExpectIntact();
    for (size_t t = 0; t < tokens; ++t) {
      std::vector<double> want(x.begin() + static_cast<long>(t * stride), x.begin() + static_cast<long>((t + 1) * stride));
      for (size_t h = 0; h < heads; ++h) {
        for (size_t i = 0; i < half; ++i) {
          const double angle = static_cast<float>(positions[t]) * inv_freq[i];
          const size_t a = 2 + h * head_dim + i, b = a + half;
          const float* row = x.data() + t * stride;
          want[a] = row[a] * std::cos(angle) - row[b] * std::sin(angle);
          want[b] = row[b] * std::cos(angle) + row[a] * std::sin(angle);
        }
      }
      for (size_t i = 0; i < stride; ++i) ASSERT_NEAR(y[t * stride + i], want[i], 1e-6);
    }
  }
}

TEST_P(RowFunctions, EmbedWidensRows) {
  const size_t k = 37;
  const std::vector<int32_t> ids{4, 0, 4, 10};
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBF16, Dtype::kF16}) {
    const Weights table(11 * k, dtype, random);
    Guarded y(ids.size() * k);
    Embed(table.data(), dtype, k, ids.data(), ids.size(), y.data());
    y.ExpectIntact();
    for (size_t j = 0; j < ids.size(); ++j) {
      for (size_t i = 0; i < k; ++i) ASSERT_EQ(y[j * k + i], table[static_cast<size_t>(ids[j]) * k + i]);
    }
  }
}

}  // namespace
}  // namespace nchunk::test
