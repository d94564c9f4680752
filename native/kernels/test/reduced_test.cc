// Products that may round their operands, against the products in double precision: of the operands rounded here, within what sums in
// f32 lose, and of the operands as they are, within what rounding may do.
#include <algorithm>

#include "support.h"

namespace nchunk::test {
namespace {

constexpr double kSumBound = 2e-6;     // as without rounding (products_test.cc)
constexpr double kRounding = 0x1p-8;  // relative, of a bf16 number: 8 bits of significand, to nearest

// Tokens from which on rows and linear layers are multiplied as pairs; fewer are another matter.
constexpr size_t kFewestOfRows = 8;
constexpr size_t kFewestOfLinear = 6;

bool Rounds(const char* what) {
  const std::vector<std::string> reduced = ReducedArithmetic();
  return std::find(reduced.begin(), reduced.end(), what) != reduced.end();
}
bool RoundsManyTokens() { return Rounds("bf16-dot"); }

// To nearest, ties to even; finite values.
double RoundToBfloat(double value) {
  if (value == 0) return 0;
  int exponent;
  std::frexp(value, &exponent);
  const double unit = std::ldexp(1.0, exponent - 8);
  return std::nearbyint(value / unit) * unit;
}

struct Format {
  Dtype dtype;
  size_t group;
};
constexpr Format kFormats[] = {
    {Dtype::kF32, 0}, {Dtype::kBF16, 0}, {Dtype::kF16, 0}, {Dtype::kI8, 32}, {Dtype::kI8, 64}, {Dtype::kI4, 32}, {Dtype::kI4, 64}};

class Reduced : public OnTarget {
 protected:
  // Rows of one dtype in chunks of a landing that ends with the last wanted byte, so that a sanitizer sees any read beyond.
  struct Rows {
    std::vector<uint8_t> landing;
    std::vector<uint32_t> starts, lengths;
    std::vector<double> offsets_bytes;
    size_t row_bytes;
  };

  Rows MakeRows(size_t k, size_t n, Format format) {
    const size_t wanted_bytes = RowBytes(format.dtype, n, format.group);
    Rows rows;
    rows.row_bytes = wanted_bytes + Size(0, 3);
    rows.landing.assign((k - 1) * rows.row_bytes + wanted_bytes, 0xff);
    for (size_t row = 0; row < k; ++row) FillRow(rows.landing.data() + row * rows.row_bytes, n, format);
    for (size_t row = 0; row < k;) {
      const size_t length = std::min(k - row, Size(1, 40));
      rows.starts.push_back(static_cast<uint32_t>(row));
      rows.lengths.push_back(static_cast<uint32_t>(length));
      rows.offsets_bytes.push_back(static_cast<double>(row * rows.row_bytes));
      row += length;
    }
    return rows;
  }

  void FillRow(uint8_t* row, size_t n, Format format) {
    if (!IsQuantised(format.dtype)) {
      const Weights weights(n, format.dtype, random);
      std::memcpy(row, weights.data(), n * ElementBytes(format.dtype));
      return;
    }
    for (size_t i = 0; i < QuantBytes(format.dtype, n); ++i) row[i] = static_cast<uint8_t>(random());
    for (size_t g = 0; g < (n + format.group - 1) / format.group; ++g) {
      const auto scale = static_cast<uint16_t>(Size(5 << 10, (12 << 10) - 1));  // normal halfs
      std::memcpy(row + ScalesOffsetBytes(format.dtype, n) + 2 * g, &scale, 2);
    }
  }

  static void Multiply(const Rows& rows, const std::vector<float>& x, size_t tokens, size_t k, size_t n, Format format, float* y,
                       bool accumulate, Arithmetic arithmetic) {
    ChunkedMatmul({x.data(), tokens, k, rows.starts.data(), rows.lengths.data(), rows.starts.size(), rows.landing.data(),
                   rows.offsets_bytes.data(), rows.row_bytes, format.dtype, n, y, accumulate, format.group, arithmetic});
  }

  // The weights [k, n], exactly: what the identity gives in f32.
  static std::vector<float> Values(const Rows& rows, size_t k, size_t n, Format format) {
    std::vector<float> identity(k * k, 0.0f), values(k * n);
    for (size_t i = 0; i < k; ++i) identity[i * k + i] = 1.0f;
    Multiply(rows, identity, k, k, n, format, values.data(), false, Arithmetic::kF32);
    return values;
  }

  // weight(i, j): of channel i and output j. `start`: what is in y before, or the bias.
  template <class Weight, class Start>
  static void Expect(const std::vector<float>& y, const std::vector<float>& x, size_t tokens, size_t k, size_t n, const Weight& weight,
                     const Start& start) {
    const bool rounds = RoundsManyTokens();
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t j = 0; j < n; ++j) {
        double exact = start(j), rounded = exact, exact_terms = std::abs(exact), rounded_terms = exact_terms, error = 0;
        for (size_t i = 0; i < k; ++i) {
          const double value = x[t * k + i], w = weight(i, j);
          const double rounded_w = rounds ? RoundToBfloat(w) : w;
          const double product = (rounds ? RoundToBfloat(value) : value) * rounded_w;
          exact += value * w;
          exact_terms += std::abs(value * w);
          rounded += product;
          rounded_terms += std::abs(product);
          // A weight that is a bf16 number is not rounded.
          const double both = rounded_w == w ? kRounding : 2 * kRounding + kRounding * kRounding;
          if (rounds) error += both * std::abs(value * w);
        }
        ExpectSum(y[t * n + j], rounded, rounded_terms, kSumBound, "y, of rounded operands");
        ASSERT_LE(std::abs(y[t * n + j] - exact), error + kSumBound * exact_terms) << "y, of the operands";
      }
    }
  }

  // What `multiply(y)` makes of outputs that start at 0.5: the same on any number of threads.
  template <class Multiply>
  static std::vector<float> OnAnyThreads(size_t outputs, const Multiply& multiply) {
    const int before = Threads();
    std::vector<float> first;
    for (const int threads : {1, 2, 5}) {
      SetThreads(threads);
      Guarded y(outputs, 0.5f);
      multiply(y.data());
      y.ExpectIntact();
      const std::vector<float> got(y.data(), y.data() + y.size());
      if (first.empty()) first = got;
      EXPECT_EQ(got, first) << "with " << threads << " threads";
    }
    SetThreads(before);
    return first;
  }

  void CheckChunked(size_t tokens, size_t k, size_t n, Format format, bool accumulate) {
    SCOPED_TRACE("chunked T " + std::to_string(tokens) + " K " + std::to_string(k) + " N " + std::to_string(n) + " dtype " +
                 std::to_string(static_cast<int>(format.dtype)) + " group " + std::to_string(format.group));
    const Rows rows = MakeRows(k, n, format);
    const std::vector<float> values = Values(rows, k, n, format), x = Floats(tokens * k);
    const std::vector<float> y = OnAnyThreads(tokens * n, [&](float* out) {
      Multiply(rows, x, tokens, k, n, format, out, accumulate, Arithmetic::kReduced);
    });
    Expect(y, x, tokens, k, n, [&](size_t i, size_t j) { return values[i * n + j]; }, [&](size_t) { return accumulate ? 0.5 : 0.0; });
  }

  // Few tokens and int4 rows: of four rows that follow one another, activation times scale is rounded in units of a 127th of the
  // largest of the four, group by group; what a sum loses is at most half a unit for each step of a quant.
  void CheckFewTokens(const Rows& rows, const std::vector<float>& x, size_t tokens, size_t k, size_t n, Format format,
                      bool accumulate) {
    SCOPED_TRACE("few T " + std::to_string(tokens) + " K " + std::to_string(k) + " N " + std::to_string(n) + " group " +
                 std::to_string(format.group));
    const std::vector<float> values = Values(rows, k, n, format);
    const auto scale = [&](size_t i, size_t j) {
      uint16_t bits;
      std::memcpy(&bits, rows.landing.data() + i * rows.row_bytes + ScalesOffsetBytes(format.dtype, n) + j / format.group * 2, 2);
      return double{HalfToFloat(bits)};
    };
    const std::vector<float> y = OnAnyThreads(tokens * n, [&](float* out) {
      Multiply(rows, x, tokens, k, n, format, out, accumulate, Arithmetic::kReduced);
    });
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t j = 0; j < n; ++j) {
        double want = accumulate ? 0.5 : 0.0, terms = want, error = 0;
        for (size_t quad = 0; quad < k; quad += 4) {
          double most = 0, steps = 0;
          for (size_t i = quad; i < std::min(k, quad + 4); ++i) {
            const double value = x[t * k + i];
            want += value * values[i * n + j];
            terms += std::abs(value * values[i * n + j]);
            most = std::max(most, std::abs(value) * scale(i, j));
            steps += std::abs(values[i * n + j] / scale(i, j));
          }
          // A little more than half: the quotient is rounded too.
          if (Rounds("int8-dot")) error += 0.50002 * most / 127 * steps;
        }
        ASSERT_LE(std::abs(y[t * n + j] - want), error + kSumBound * (terms + error)) << "token " << t << ", output " << j;
      }
    }
  }

  void CheckFewTokens(size_t tokens, size_t k, size_t n, Format format, bool accumulate) {
    std::vector<float> x = Floats(tokens * k);
    for (float& value : x) value *= random() % 40 == 0 ? 1000.0f : 1.0f;
    CheckFewTokens(MakeRows(k, n, format), x, tokens, k, n, format, accumulate);
  }

  void CheckLinear(size_t tokens, size_t k, size_t n, Dtype dtype) {
    SCOPED_TRACE("linear T " + std::to_string(tokens) + " K " + std::to_string(k) + " N " + std::to_string(n) + " dtype " +
                 std::to_string(static_cast<int>(dtype)));
    const Weights weights(n * k, dtype, random);
    const std::vector<float> x = Floats(tokens * k), bias = Floats(n);
    const std::vector<float> got = OnAnyThreads(tokens * n, [&](float* out) {
      Linear({x.data(), tokens, k, weights.data(), dtype, n, bias.data(), out, Activation::kNone, Arithmetic::kReduced});
    });
    Expect(got, x, tokens, k, n, [&](size_t i, size_t j) { return weights[j * k + i]; }, [&](size_t j) { return double{bias[j]}; });
    // Weights at an address of whole cells may be taken another way.
    std::vector<uint32_t> aligned(n * k);
    std::memcpy(aligned.data(), weights.data(), n * k * ElementBytes(dtype));
    std::vector<float> y(tokens * n);
    Linear({x.data(), tokens, k, reinterpret_cast<const uint8_t*>(aligned.data()), dtype, n, bias.data(), y.data(),
            Activation::kNone, Arithmetic::kReduced});
    ASSERT_EQ(y, got) << "weights at another address";
  }
};
NCHUNK_ON_EVERY_TARGET(Reduced);

TEST_P(Reduced, ChunkedIsTheProductOfRoundedOperands) {
  for (const Format& format : kFormats) {
    for (const size_t tokens : {kFewestOfRows, size_t{15}, size_t{16}, size_t{19}}) {
      for (int round = 0; round < 4; ++round) {
        CheckChunked(tokens, Size(1, 300), Size(1, 150), format, round % 2 == 1);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Reduced, ChunkedWhereWorkIsSplit) {
  CheckChunked(70, 301, 400, {Dtype::kBF16, 0}, true);
  CheckChunked(70, 515, 400, {Dtype::kI8, 32}, false);
  CheckChunked(196, 129, 390, {Dtype::kI4, 64}, false);
  CheckChunked(1030, 141, 60, {Dtype::kBF16, 0}, false);  // more than one block of tokens
}

TEST_P(Reduced, FewTokensAreWithinHalfAUnitOfEachQuant) {
  for (const size_t group : {32, 64}) {
    for (const size_t tokens : {1, 2, 4}) {
      for (int round = 0; round < 6; ++round) {
        CheckFewTokens(tokens, Size(1, 150), Size(1, 400), {Dtype::kI4, group}, round % 2 == 1);
        if (HasFatalFailure()) return;
      }
    }
    for (const size_t k : {1, 2, 3, 4, 5}) CheckFewTokens(1, k, 97, {Dtype::kI4, group}, false);
  }
}

TEST_P(Reduced, FewTokensWhereWorkIsSplit) {
  CheckFewTokens(1, 1100, 900, {Dtype::kI4, 32}, false);
  CheckFewTokens(1, 70, 5333, {Dtype::kI4, 64}, false);
  CheckFewTokens(3, 90, 5333, {Dtype::kI4, 32}, true);
}

TEST_P(Reduced, FewTokensOfNothingAreNothing) {
  const size_t k = 37, n = 150;
  const Rows rows = MakeRows(k, n, {Dtype::kI4, 32});
  std::vector<float> x(k, 0.0f), y(n, 1.0f);
  Multiply(rows, x, 1, k, n, {Dtype::kI4, 32}, y.data(), false, Arithmetic::kReduced);
  EXPECT_EQ(y, std::vector<float>(n, 0.0f));
  // Too small to be divided by.
  for (float& value : x) value = 1e-40f;
  Multiply(rows, x, 1, k, n, {Dtype::kI4, 32}, y.data(), false, Arithmetic::kReduced);
  for (const float value : y) EXPECT_LE(std::abs(value), 1e-34f);
}

TEST_P(Reduced, FewTokensThatAreNotFiniteStaySo) {
  const size_t k = 37, n = 150;
  const Rows rows = MakeRows(k, n, {Dtype::kI4, 32});
  for (const float value : {NAN, INFINITY}) {
    std::vector<float> x = Floats(k), y(n);
    x[21] = value;
    Multiply(rows, x, 1, k, n, {Dtype::kI4, 32}, y.data(), false, Arithmetic::kReduced);
    for (const float sum : y) EXPECT_FALSE(std::isfinite(sum));
  }
}

TEST_P(Reduced, FewTokensOfInt4AreRoundedWhereTheTargetSaysSo) {
  const size_t k = 200, n = 100;
  for (const Format& format : kFormats) {
    for (const size_t tokens : {1, 3}) {
      const Rows rows = MakeRows(k, n, format);
      const std::vector<float> x = Floats(tokens * k);
      std::vector<float> exact(tokens * n), reduced(tokens * n);
      Multiply(rows, x, tokens, k, n, format, exact.data(), false, Arithmetic::kF32);
      Multiply(rows, x, tokens, k, n, format, reduced.data(), false, Arithmetic::kReduced);
      EXPECT_EQ(exact != reduced, format.dtype == Dtype::kI4 && Rounds("int8-dot")) << static_cast<int>(format.dtype);
    }
  }
}

TEST_P(Reduced, OddChannelsAreNotPairedWithOthers) {
  // The channel after the last one of a block is of the next: neither it nor what lies behind the rows may come in.
  for (const size_t k : {1, 2, 3, 255, 256, 257, 511, 513}) {
    CheckChunked(9, k, 97, {Dtype::kBF16, 0}, false);
    CheckLinear(9, k, 97, Dtype::kBF16);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Reduced, LinearIsTheProductOfRoundedOperands) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBF16, Dtype::kF16}) {
    for (const size_t tokens : {kFewestOfLinear, size_t{9}, size_t{33}}) {
      for (int round = 0; round < 4; ++round) {
        CheckLinear(tokens, Size(1, 300), Size(1, 150), dtype);
        if (HasFatalFailure()) return;
      }
    }
  }
  CheckLinear(729, 73, 130, Dtype::kBF16);
  CheckLinear(2051, 41, 50, Dtype::kF16);
}

TEST_P(Reduced, InfinitiesAndNaNsStayWhatTheyAre) {
  const size_t tokens = 9, k = 33, n = 50;
  Rows rows = MakeRows(k, n, {Dtype::kBF16, 0});
  std::vector<float> x = Floats(tokens * k);
  x[2 * k + 7] = INFINITY;
  x[4 * k + k - 1] = NAN;
  Guarded y(tokens * n);
  Multiply(rows, x, tokens, k, n, {Dtype::kBF16, 0}, y.data(), false, Arithmetic::kReduced);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t j = 0; j < n; ++j) {
      EXPECT_EQ(std::isinf(y[t * n + j]), t == 2) << t << " " << j;
      EXPECT_EQ(std::isnan(y[t * n + j]), t == 4) << t << " " << j;
    }
  }
}

// Without the permission a target with a suffix is the one without, to the bit.
TEST_P(Reduced, WithoutThePermissionNothingIsRounded) {
  const std::string target = GetParam();
  const std::string base = target.substr(0, target.find('-'));
  for (const Format& format : kFormats) {
    for (const size_t tokens : {1, 3, 19}) {
      const size_t k = Size(1, 300), n = Size(1, 150);
      const Rows rows = MakeRows(k, n, format);
      const std::vector<float> x = Floats(tokens * k);
      std::vector<float> want(tokens * n), got(tokens * n);
      ASSERT_TRUE(ForceTarget(base));
      Multiply(rows, x, tokens, k, n, format, want.data(), false, Arithmetic::kF32);
      ASSERT_TRUE(ForceTarget(target));
      Multiply(rows, x, tokens, k, n, format, got.data(), false, Arithmetic::kF32);
      ASSERT_EQ(got, want);
    }
  }
}

// Where nothing is rounded, the permission changes nothing; where something is, it does.
TEST_P(Reduced, ThePermissionIsUsedWhereTheTargetSaysSo) {
  const size_t tokens = 16, k = 200, n = 100;
  const Format format{Dtype::kF32, 0};
  const Rows rows = MakeRows(k, n, format);
  const std::vector<float> x = Floats(tokens * k);
  std::vector<float> exact(tokens * n), reduced(tokens * n);
  Multiply(rows, x, tokens, k, n, format, exact.data(), false, Arithmetic::kF32);
  Multiply(rows, x, tokens, k, n, format, reduced.data(), false, Arithmetic::kReduced);
  EXPECT_EQ(exact != reduced, RoundsManyTokens());
}

}  // namespace
}  // namespace nchunk::test
