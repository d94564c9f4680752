// Random inputs, guarded outputs and reference conversions for the tests.
#ifndef NCHUNK_TEST_SUPPORT_H_
#define NCHUNK_TEST_SUPPORT_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "nchunk/kernels.h"

namespace nchunk::test {

// Of a target, as GoogleTest takes it.
inline std::string TestName(std::string target) {
  for (char& c : target) c = c == '-' ? '_' : c;
  return target;
}

// Runs every test on every target this CPU has.
class OnTarget : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(ForceTarget(GetParam())); }
  void TearDown() override { ForceTarget(AvailableTargets().front()); }
  std::mt19937 random{20251120};

  std::vector<float> Floats(size_t count, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(count);
    for (float& v : values) v = normal(random);
    return values;
  }
  size_t Size(size_t low, size_t high) { return std::uniform_int_distribution<size_t>(low, high)(random); }
};

#define NCHUNK_ON_EVERY_TARGET(suite)                                                                 \
  INSTANTIATE_TEST_SUITE_P(Targets, suite, ::testing::ValuesIn(nchunk::AvailableTargets()), \
                           [](const auto& info) { return nchunk::test::TestName(info.param); })

// Floats between sentinels, at an address that is not a multiple of a vector.
class Guarded {
 public:
  explicit Guarded(size_t count, float fill = 7.0f) : values_(count + 2 * kGuard, kSentinel), count_(count) {
    for (size_t i = 0; i < count; ++i) data()[i] = fill;
  }
  float* data() { return values_.data() + kGuard; }
  float operator[](size_t i) const { return values_[kGuard + i]; }
  size_t size() const { return count_; }
  void ExpectIntact() const {
    for (size_t i = 0; i < kGuard; ++i) {
      ASSERT_EQ(values_[i], kSentinel) << "written " << kGuard - i << " before the start";
      ASSERT_EQ(values_[kGuard + count_ + i], kSentinel) << "written " << i << " after the end";
    }
  }

 private:
  static constexpr size_t kGuard = 67;
  static constexpr float kSentinel = -123456.5f;
  std::vector<float> values_;
  size_t count_;
};

inline float HalfToFloat(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  double value;
  if (exponent == 31) {
    value = mantissa == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, -24);
  } else {
    value = std::ldexp(1024 + mantissa, exponent - 25);
  }
  return static_cast<float>(bits & 0x8000 ? -value : value);
}

inline float BfloatToFloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// Weights of one dtype at an odd address, with their exact values beside them.
class Weights {
 public:
  Weights(size_t count, Dtype dtype, std::mt19937& random, float scale = 1.0f) : dtype_(dtype) {
    std::normal_distribution<float> normal(0.0f, scale);
    bytes_.resize(count * ElementBytes(dtype) + 1);
    for (size_t i = 0; i < count; ++i) Put(i, normal(random));
  }
  const uint8_t* data() const { return bytes_.data() + 1; }
  double operator[](size_t i) const {
    const uint8_t* at = data() + i * ElementBytes(dtype_);
    if (dtype_ == Dtype::kF32) {
      float value;
      std::memcpy(&value, at, 4);
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, at, 2);
    return dtype_ == Dtype::kBF16 ? BfloatToFloat(bits) : HalfToFloat(bits);
  }

 private:
  void Put(size_t i, float value) {
    uint8_t* at = bytes_.data() + 1 + i * ElementBytes(dtype_);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint16_t narrow = static_cast<uint16_t>(bits >> 16);
    if (dtype_ == Dtype::kF32) {
      std::memcpy(at, &value, 4);
      return;
    }
    if (dtype_ == Dtype::kF16) {
      // Truncated to 10 bits of mantissa: only the value read back matters.
      const int exponent = static_cast<int>((bits >> 23) & 255) - 127 + 15;
      narrow = exponent <= 0 ? 0 : static_cast<uint16_t>((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 1023));
    }
    std::memcpy(at, &narrow, 2);
  }

  Dtype dtype_;
  std::vector<uint8_t> bytes_;
};

// |got - want| <= bound * sum of the absolute terms: the rounding error of a sum scales with those, not with the result.
inline void ExpectSum(float got, double want, double absolute_terms, double bound, const char* what) {
  ASSERT_LE(std::abs(got - want), bound * absolute_terms + 1e-30) << what << ": got " << got << ", want " << want;
}

}  // namespace nchunk::test

#endif  // NCHUNK_TEST_SUPPORT_H_
