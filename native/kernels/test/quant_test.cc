// Products with int8 and int4 rows, against a reading of the row format that shares nothing with the kernels.
#include "support.h"

namespace nchunk::test {
namespace {

constexpr double kSumBound = 2e-6;  // as for the other dtypes (products_test.cc)

struct Format {
  Dtype dtype;
  size_t group;
};
constexpr Format kFormats[] = {{Dtype::kI8, 32}, {Dtype::kI8, 64}, {Dtype::kI4, 32}, {Dtype::kI4, 64}};

// Rows [quants][pad to even][scales], written and read one weight at a time.
class QuantRows {
 public:
  QuantRows(size_t rows, size_t n, Format format, std::mt19937& random) : n_(n), format_(format), rows_(rows) {
    std::uniform_int_distribution<int> quant(format.dtype == Dtype::kI8 ? -127 : -7, format.dtype == Dtype::kI8 ? 127 : 7);
    // Normal halfs from 2^-10 up, now and then zero or subnormal.
    std::uniform_int_distribution<int> scale(5 << 10, (17 << 10) - 1);
    for (auto& row : rows_) {
      row.assign(bytes(), 0);
      for (size_t j = 0; j < n; ++j) Put(row, j, quant(random));
      for (size_t g = 0; g < groups(); ++g) {
        const int kind = static_cast<int>(random() % 16);
        PutScale(row, g, static_cast<uint16_t>(kind == 0 ? 0 : kind == 1 ? 1 + random() % 1023 : scale(random)));
      }
    }
  }
  size_t groups() const { return n_ / format_.group + (n_ % format_.group != 0); }
  size_t quant_bytes() const { return format_.dtype == Dtype::kI8 ? n_ : n_ / 2 + n_ % 2; }
  size_t scales_at() const { return quant_bytes() + quant_bytes() % 2; }
  size_t bytes() const { return scales_at() + 2 * groups(); }
  const std::vector<uint8_t>& row(size_t i) const { return rows_[i]; }

  double operator()(size_t i, size_t j) const {
    const std::vector<uint8_t>& row = rows_[i];
    int quant;
    if (format_.dtype == Dtype::kI8) {
      quant = row[j] < 128 ? row[j] : row[j] - 256;
    } else {
      const int nibble = j % 2 == 0 ? row[j / 2] % 16 : row[j / 2] / 16;
      quant = nibble < 8 ? nibble : nibble - 16;
    }
    const size_t at = scales_at() + 2 * (j / format_.group);
    return quant * double{HalfToFloat(static_cast<uint16_t>(row[at] + 256 * row[at + 1]))};
  }

  void PutQuant(size_t i, size_t j, int quant) { Put(rows_[i], j, quant); }
  void PutScale(size_t i, size_t g, uint16_t bits) { PutScale(rows_[i], g, bits); }

 private:
  void Put(std::vector<uint8_t>& row, size_t j, int quant) {
    if (format_.dtype == Dtype::kI8) {
      row[j] = static_cast<uint8_t>(quant);
      return;
    }
    const int nibble = quant & 15;
    uint8_t& byte = row[j / 2];
    byte = static_cast<uint8_t>(j % 2 == 0 ? (byte & 0xf0) | nibble : (byte & 0x0f) | nibble << 4);
  }
  void PutScale(std::vector<uint8_t>& row, size_t g, uint16_t bits) {
    row[scales_at() + 2 * g] = static_cast<uint8_t>(bits & 255);
    row[scales_at() + 2 * g + 1] = static_cast<uint8_t>(bits >> 8);
  }

  size_t n_;
  Format format_;
  std::vector<std::vector<uint8_t>> rows_;
};

enum class Chunks { kAll, kSingleRows, kRandom };

class Quantised : public OnTarget {
 protected:
  struct Plan {
    std::vector<uint32_t> starts, lengths;
    std::vector<double> offsets_bytes;
    std::vector<uint8_t> landing;
    size_t row_bytes;
  };

  Plan Land(const QuantRows& weights, size_t k, Chunks pattern, size_t padding_bytes) {
    Plan plan;
    plan.row_bytes = weights.bytes() + padding_bytes;
    for (size_t row = pattern == Chunks::kAll ? 0 : Size(0, 2); row < k;) {
      const size_t length = pattern == Chunks::kAll ? k : pattern == Chunks::kSingleRows ? 1 : std::min(k - row, Size(1, 40));
      plan.starts.push_back(static_cast<uint32_t>(row));
      plan.lengths.push_back(static_cast<uint32_t>(length));
      plan.landing.resize(plan.landing.size() + Size(0, 70), 0xff);  // NaN as a scale
      plan.offsets_bytes.push_back(static_cast<double>(plan.landing.size()));
      for (size_t r = 0; r < length; ++r) {
        plan.landing.insert(plan.landing.end(), weights.row(row + r).begin(), weights.row(row + r).end());
        plan.landing.insert(plan.landing.end(), padding_bytes, 0xff);
      }
      row += length + Size(1, 7);
    }
    // Exactly up to the last wanted byte, so that a sanitizer sees any read beyond.
    if (!plan.starts.empty()) plan.landing.resize(plan.landing.size() - padding_bytes);
    plan.landing.shrink_to_fit();
    return plan;
  }

  static void Multiply(const Plan& plan, const std::vector<float>& x, size_t tokens, size_t k, size_t n, Format format, float* y,
                       bool accumulate) {
    ChunkedMatmul({x.data(), tokens, k, plan.starts.data(), plan.lengths.data(), plan.starts.size(), plan.landing.data(),
                   plan.offsets_bytes.data(), plan.row_bytes, format.dtype, n, y, accumulate, format.group});
  }

  void Check(size_t tokens, size_t k, size_t n, Format format, Chunks pattern, bool accumulate) {
    SCOPED_TRACE("T " + std::to_string(tokens) + " K " + std::to_string(k) + " N " + std::to_string(n) + " dtype " +
                 std::to_string(static_cast<int>(format.dtype)) + " group " + std::to_string(format.group) + " chunks " +
                 std::to_string(static_cast<int>(pattern)));
    const QuantRows weights(k, n, format, random);
    ASSERT_EQ(RowBytes(format.dtype, n, format.group), weights.bytes());
    const Plan plan = Land(weights, k, pattern, Size(0, 3));
    const std::vector<float> x = Floats(tokens * k);
    Guarded y(tokens * n, 0.5f);
    Multiply(plan, x, tokens, k, n, format, y.data(), accumulate);
    y.ExpectIntact();
    // The portable target is the second witness: the same bounds between targets.
    Guarded portable(tokens * n, 0.5f);
    ASSERT_TRUE(ForceTarget("portable"));
    Multiply(plan, x, tokens, k, n, format, portable.data(), accumulate);
    ASSERT_TRUE(ForceTarget(GetParam()));
    portable.ExpectIntact();
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t j = 0; j < n; ++j) {
        double want = accumulate ? 0.5 : 0.0;
        double terms = std::abs(want);
        for (size_t c = 0; c < plan.starts.size(); ++c) {
          for (size_t i = plan.starts[c]; i < plan.starts[c] + plan.lengths[c]; ++i) {
            want += double{x[t * k + i]} * weights(i, j);
            terms += std::abs(double{x[t * k + i]} * weights(i, j));
          }
        }
        ExpectSum(y[t * n + j], want, terms, kSumBound, "y");
        ExpectSum(y[t * n + j], portable[t * n + j], terms, kSumBound, "y against the portable target");
        if (HasFatalFailure()) return;
      }
    }
  }
};
NCHUNK_ON_EVERY_TARGET(Quantised);

TEST_P(Quantised, MatchesNaive) {
  for (const Format format : kFormats) {
    for (const size_t tokens : {1, 2, 4, 5, 8, 16, 19}) {
      for (int round = 0; round < 6; ++round) {
        const Chunks pattern = static_cast<Chunks>(round % 3);
        Check(tokens, Size(1, 150), Size(1, 300), format, pattern, round % 2 == 1);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Every width from one column to beyond two steps: short last groups, odd widths, whole ones.
TEST_P(Quantised, EveryWidth) {
  for (const Format format : kFormats) {
    for (size_t n = 1; n <= 131; ++n) {
      Check(1, 19, n, format, Chunks::kRandom, false);
      Check(9, 9, n, format, Chunks::kRandom, true);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Quantised, MatchesNaiveWhereWorkIsSplit) {
  for (const Format format : kFormats) {
    Check(1, 1100, 900, format, Chunks::kRandom, false);
    Check(1, 150, 4500, format, Chunks::kAll, true);
    Check(3, 90, 4500, format, Chunks::kSingleRows, false);
    Check(70, 300, 400, format, Chunks::kRandom, true);
    Check(196, 260, 99, format, Chunks::kAll, false);
    if (HasFatalFailure()) return;
  }
}

// One row at a time, x = 1: the result is the weight itself, for every quant and for scales of every kind.
TEST_P(Quantised, WideningIsExactForEveryQuantAndScale) {
  const uint16_t scales[] = {0x0000, 0x0001, 0x03ff, 0x0400, 0x1234, 0x3c00, 0x7bff};
  for (const Format format : kFormats) {
    const int low = format.dtype == Dtype::kI8 ? -128 : -8;
    const size_t n = static_cast<size_t>(-2 * low);
    QuantRows weights(std::size(scales), n, format, random);
    for (size_t i = 0; i < std::size(scales); ++i) {
      for (size_t j = 0; j < n; ++j) weights.PutQuant(i, j, low + static_cast<int>(j));
      for (size_t g = 0; g < weights.groups(); ++g) weights.PutScale(i, g, scales[i]);
    }
    const Plan plan = Land(weights, std::size(scales), Chunks::kAll, 0);
    for (const size_t tokens : {1, 7}) {  // both paths; token t sees row t
      for (size_t first = 0; first < std::size(scales); first += tokens) {
        std::vector<float> x(tokens * std::size(scales));
        for (size_t t = 0; t < tokens; ++t) x[t * std::size(scales) + first + t] = 1.0f;
        Guarded y(tokens * n);
        Multiply(plan, x, tokens, std::size(scales), n, format, y.data(), false);
        for (size_t t = 0; t < tokens; ++t) {
          for (size_t j = 0; j < n; ++j) ASSERT_EQ(y[t * n + j], weights(first + t, j)) << "quant " << low + int(j);
        }
      }
    }
  }
}

// quant * scale is exact in f32, so packed panels are those of the same weights as f32, and so are the results.
TEST_P(Quantised, ManyTokensEqualDequantisedRowsBitForBit) {
  const size_t tokens = 21, k = 200, n = 211;
  for (const Format format : kFormats) {
    const QuantRows weights(k, n, format, random);
    const Plan plan = Land(weights, k, Chunks::kRandom, 1);
    std::vector<float> dequantised(k * n);
    std::vector<double> offsets;
    for (size_t i = 0; i < k * n; ++i) dequantised[i] = static_cast<float>(weights(i / n, i % n));
    for (const uint32_t start : plan.starts) offsets.push_back(static_cast<double>(start * n * sizeof(float)));
    const std::vector<float> x = Floats(tokens * k);
    std::vector<float> y(tokens * n), want(tokens * n);
    Multiply(plan, x, tokens, k, n, format, y.data(), false);
    ChunkedMatmul({x.data(), tokens, k, plan.starts.data(), plan.lengths.data(), plan.starts.size(),
                   reinterpret_cast<const uint8_t*>(dequantised.data()), offsets.data(), n * sizeof(float), Dtype::kF32, n,
                   want.data(), false});
    EXPECT_EQ(y, want);
  }
}

TEST_P(Quantised, ThreadsDoNotChangeResults) {
  const size_t k = 900, n = 1000;
  const int before = Threads();
  for (const Format format : kFormats) {
    const QuantRows weights(k, n, format, random);
    const Plan plan = Land(weights, k, Chunks::kRandom, 0);
    const std::vector<float> x = Floats(70 * k);
    for (const size_t tokens : {1, 3, 16, 70}) {
      std::vector<std::vector<float>> results;
      for (const int threads : {1, 2, 5}) {
        SetThreads(threads);
        std::vector<float>& y = results.emplace_back(tokens * n);
        Multiply(plan, x, tokens, k, n, format, y.data(), false);
      }
      EXPECT_EQ(results[0], results[1]) << "T " << tokens;
      EXPECT_EQ(results[0], results[2]) << "T " << tokens;
    }
  }
  SetThreads(before);
}

TEST_P(Quantised, NoChunksIsZeroOrUnchanged) {
  const std::vector<float> x(3 * 5, 1.0f);
  for (const bool accumulate : {false, true}) {
    Guarded y(3 * 4, 2.5f);
    ChunkedMatmul({x.data(), 3, 5, nullptr, nullptr, 0, nullptr, nullptr, 8, Dtype::kI4, 4, y.data(), accumulate, 32});
    y.ExpectIntact();
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], accumulate ? 2.5f : 0.0f);
  }
}

}  // namespace
}  // namespace nchunk::test
