// Row-wise and element-wise functions.
#ifndef NCHUNK_SIMD_ROWS_INL_H_
#define NCHUNK_SIMD_ROWS_INL_H_

#include "simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

// y[i] = f(y[i]) for whole vectors and then the tail.
template <class F>
HWY_INLINE void Map(float* y, size_t count, const F& f) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(f(hn::LoadU(df, y + i), i), df, y + i);
  if (i < count) StoreTail(f(LoadTail(y + i, count - i), i), y + i, count - i);
}

// Sum over i < count of f(x[i]); f(0) must be 0.
template <class F>
HWY_INLINE float SumMap(const float* x, size_t count, const F& f) {
  V sum0 = hn::Zero(df);
  V sum1 = hn::Zero(df);
  size_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    sum0 = sum0 + f(hn::LoadU(df, x + i));
    sum1 = sum1 + f(hn::LoadU(df, x + i + kLanes));
  }
  for (; i < count; i += kLanes) {
    sum0 = sum0 + f(LoadTail(x + i, count - i < kLanes ? count - i : kLanes));
  }
  return Sum(sum0 + sum1);
}

template <Activation kActivation>
HWY_INLINE V Activate(V x) {
  if constexpr (kActivation == Activation::kGelu) return GeluOf(x);
  if constexpr (kActivation == Activation::kGeluTanh) return GeluTanhOf(x);
  return x;
}

template <Activation kActivation>
HWY_INLINE void EpilogueOf(float* y, size_t ldy, size_t rows, size_t columns, const float* bias) {
  for (size_t t = 0; t < rows; ++t, y += ldy) {
    if (bias == nullptr) {
      Map(y, columns, [](V x, size_t) HWY_ATTR { return Activate<kActivation>(x); });
      continue;
    }
    size_t i = 0;
    for (; i + kLanes <= columns; i += kLanes) {
      hn::StoreU(Activate<kActivation>(hn::LoadU(df, y + i) + hn::LoadU(df, bias + i)), df, y + i);
    }
    if (i < columns) {
      const size_t count = columns - i;
      StoreTail(Activate<kActivation>(LoadTail(y + i, count) + LoadTail(bias + i, count)), y + i, count);
    }
  }
}

inline void Epilogue(float* y, size_t ldy, size_t rows, size_t columns, const float* bias, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      if (bias != nullptr) EpilogueOf<Activation::kNone>(y, ldy, rows, columns, bias);
      return;
    case Activation::kGelu: return EpilogueOf<Activation::kGelu>(y, ldy, rows, columns, bias);
    case Activation::kGeluTanh: return EpilogueOf<Activation::kGeluTanh>(y, ldy, rows, columns, bias);
  }
}

// v[0..columns) = mean over tokens of |x|, row stride ldx.
inline void ImportanceOf(const float* HWY_RESTRICT x, size_t tokens, size_t ldx, size_t columns, float* HWY_RESTRICT v) {
  const V scale = Broadcast(1.0f / static_cast<float>(tokens));
  size_t i = 0;
  for (; i + 4 * kLanes <= columns; i += 4 * kLanes) {
    V sums[4];
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) sums[j] = hn::Zero(df);
    for (size_t t = 0; t < tokens; ++t) {
#pragma GCC unroll 4
      for (size_t j = 0; j < 4; ++j) sums[j] = sums[j] + hn::Abs(hn::LoadU(df, x + t * ldx + i + j * kLanes));
    }
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) hn::StoreU(sums[j] * scale, df, v + i + j * kLanes);
  }
  for (; i < columns; i += kLanes) {
    const size_t count = columns - i < kLanes ? columns - i : kLanes;
    V sum = hn::Zero(df);
    for (size_t t = 0; t < tokens; ++t) sum = sum + hn::Abs(LoadTail(x + t * ldx + i, count));
    StoreTail(sum * scale, v + i, count);
  }
}

inline void RmsNormRow(const float* x, size_t k, const float* weight, float eps, const uint32_t* permutation, float* y) {
  const float squares = SumMap(x, k, [](V v) HWY_ATTR { return v * v; });
  const float scale = 1.0f / __builtin_sqrtf(squares / static_cast<float>(k) + eps);
  if (permutation != nullptr) {
    for (size_t i = 0; i < k; ++i) y[i] = x[permutation[i]] * scale * weight[permutation[i]];
    return;
  }
  const V scales = Broadcast(scale);
  size_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    hn::StoreU(hn::LoadU(df, x + i) * scales * hn::LoadU(df, weight + i), df, y + i);
  }
  for (; i < k; ++i) y[i] = x[i] * scale * weight[i];
}

inline void LayerNormRow(const float* x, size_t k, const float* weight, const float* bias, float eps, float* y) {
  const float mean = SumMap(x, k, [](V v) HWY_ATTR { return v; }) / static_cast<float>(k);
  const V means = Broadcast(mean);
  V squares = hn::Zero(df);
  size_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    const V centred = hn::LoadU(df, x + i) - means;
    squares = hn::MulAdd(centred, centred, squares);
  }
  float variance = Sum(squares);
  for (; i < k; ++i) variance += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / __builtin_sqrtf(variance / static_cast<float>(k) + eps);
  const V scales = Broadcast(scale);
  for (i = 0; i + kLanes <= k; i += kLanes) {
    const V normal = (hn::LoadU(df, x + i) - means) * scales;
    hn::StoreU(hn::MulAdd(normal, hn::LoadU(df, weight + i), hn::LoadU(df, bias + i)), df, y + i);
  }
  for (; i < k; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

inline void AddTo(float* y, const float* x, size_t count) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(hn::LoadU(df, y + i) + hn::LoadU(df, x + i), df, y + i);
  for (; i < count; ++i) y[i] += x[i];
}

inline void SiluMulOf(const float* gate, const float* up, size_t count, float* y) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(Silu(hn::LoadU(df, gate + i)) * hn::LoadU(df, up + i), df, y + i);
  }
  if (i < count) StoreTail(Silu(LoadTail(gate + i, count - i)) * LoadTail(up + i, count - i), y + i, count - i);
}

// Head after head: element i is rotated with i + head_dim / 2.
inline void RotateHalf(float* x, size_t heads, size_t head_dim, const float* cosines, const float* sines) {
  const size_t half = head_dim / 2;
  for (size_t h = 0; h < heads; ++h, x += head_dim) {
    size_t i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const V a = hn::LoadU(df, x + i);
      const V b = hn::LoadU(df, x + half + i);
      const V c = hn::LoadU(df, cosines + i);
      const V s = hn::LoadU(df, sines + i);
      hn::StoreU(a * c - b * s, df, x + i);
      hn::StoreU(b * c + a * s, df, x + half + i);
    }
    for (; i < half; ++i) {
      const float a = x[i];
      const float b = x[half + i];
      x[i] = a * cosines[i] - b * sines[i];
      x[half + i] = b * cosines[i] + a * sines[i];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_ROWS_INL_H_
