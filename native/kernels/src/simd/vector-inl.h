// Widening loads and the transcendental functions, on the vectors of the target this is compiled for.
// Included by exactly one translation unit per target. Only what inlines may be used here: an out-of-line function shared
// with another unit could be linked in the version of a CPU that this one is not.
#ifndef NCHUNK_SIMD_VECTOR_INL_H_
#define NCHUNK_SIMD_VECTOR_INL_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hwy/highway.h"
#include "kernel_table.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using V = hn::Vec<DF>;
constexpr DF df;
constexpr size_t kLanes = HWY_LANES(float);
constexpr size_t kPanelVectors = 3;
constexpr size_t kPanelColumns = kPanelVectors * kLanes;

// ---- loads of weights: `kLanes` elements from any address

#if HWY_TARGET == HWY_EMU128
// Highway's portable conversion takes infinities and NaN for numbers.
HWY_INLINE float HalfToFloat(const uint8_t* bytes) {
  uint16_t half;
  memcpy(&half, bytes, sizeof(half));
  // Exponent and mantissa in place, then 2^112 for the difference of the biases: right for subnormals too.
  const uint32_t shifted = static_cast<uint32_t>(half & 0x7fff) << 13;
  float magnitude;
  memcpy(&magnitude, &shifted, sizeof(magnitude));
  magnitude *= 0x1p112f;
  uint32_t bits;
  memcpy(&bits, &magnitude, sizeof(bits));
  bits |= (half & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
  bits |= static_cast<uint32_t>(half & 0x8000) << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
#endif

template <Dtype kDtype>
HWY_INLINE V LoadWeights(const uint8_t* bytes) {
  if constexpr (kDtype == Dtype::kF32) {
    return hn::LoadU(df, reinterpret_cast<const float*>(bytes));
  } else if constexpr (kDtype == Dtype::kBF16) {
    const hn::Rebind<uint16_t, DF> d16;
    const auto bits = hn::PromoteTo(DU(), hn::LoadU(d16, reinterpret_cast<const uint16_t*>(bytes)));
    return hn::BitCast(df, hn::ShiftLeft<16>(bits));
  } else {
#if HWY_TARGET == HWY_EMU128
    float wide[kLanes];
    for (size_t i = 0; i < kLanes; ++i) wide[i] = HalfToFloat(bytes + 2 * i);
    return hn::LoadU(df, wide);
#else
    const hn::Rebind<hwy::float16_t, DF> d16;
    return hn::PromoteTo(df, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(bytes)));
#endif
  }
}

// The first `count` < kLanes elements, zeros behind them; reads nothing beyond them.
template <Dtype kDtype>
HWY_INLINE V LoadWeightsTail(const uint8_t* bytes, size_t count) {
  alignas(64) uint8_t buffer[kLanes * 4] = {};
  memcpy(buffer, bytes, count * ElementBytes(kDtype));
  return LoadWeights<kDtype>(buffer);
}

HWY_INLINE V LoadTail(const float* values, size_t count) {
  return LoadWeightsTail<Dtype::kF32>(reinterpret_cast<const uint8_t*>(values), count);
}

HWY_INLINE void StoreTail(V v, float* values, size_t count) {
  alignas(64) float buffer[kLanes];
  hn::Store(v, df, buffer);
  memcpy(values, buffer, count * sizeof(float));
}

HWY_INLINE void Prefetch(const uint8_t* bytes) { __builtin_prefetch(bytes, 0, 2); }
// Into the first cache level: for what is used within some kilobytes.
HWY_INLINE void PrefetchNear(const uint8_t* bytes) { __builtin_prefetch(bytes, 0, 3); }

// ---- functions

HWY_INLINE V Broadcast(float value) { return hn::Set(df, value); }

// 2^n for whole n in [-126, 127].
HWY_INLINE V PowerOfTwo(hn::Vec<DI> n) {
  return hn::BitCast(df, hn::ShiftLeft<23>(n + hn::Set(DI(), 127)));
}

// exp(x) within 2 ulp; 0 below the smallest normal result, infinity above the largest, NaN for NaN.
HWY_INLINE V Exp(V x) {
  const auto n = hn::NearestInt(x * Broadcast(1.44269504f));
  const V nf = hn::ConvertTo(df, n);
  // ln 2 in two parts; the first has 9 bits, so that nf times it is exact.
  V r = hn::NegMulAdd(nf, Broadcast(0.693359375f), x);
  r = hn::NegMulAdd(nf, Broadcast(-2.12194440e-4f), r);
  // Taylor series to r^7: the remainder is below 6e-9 for |r| <= ln 2 / 2.
  V p = Broadcast(1.0f / 5040);
  p = hn::MulAdd(p, r, Broadcast(1.0f / 720));
  p = hn::MulAdd(p, r, Broadcast(1.0f / 120));
  p = hn::MulAdd(p, r, Broadcast(1.0f / 24));
  p = hn::MulAdd(p, r, Broadcast(1.0f / 6));
  p = hn::MulAdd(p, r, Broadcast(0.5f));
  p = hn::MulAdd(p * r, r, r) + Broadcast(1.0f);
  // 2^n in two factors: n reaches 128.
  const auto half = hn::ShiftRight<1>(n);
  const V y = p * PowerOfTwo(half) * PowerOfTwo(n - half);
  const V flushed = hn::IfThenElse(x < Broadcast(-87.33654f), hn::Zero(df), y);
  return hn::IfThenElse(x > Broadcast(88.72283f), Broadcast(__builtin_inff()), flushed);
}

HWY_INLINE V Silu(V x) { return x / (Broadcast(1.0f) + Exp(hn::Neg(x))); }

// x / 2 (1 + tanh u) = x / (1 + exp(-2u)), without the cancellation of the first form.
HWY_INLINE V GeluTanhOf(V x) {
  const V cubic = hn::MulAdd(x * x, x * Broadcast(0.044715f), x);
  return x / (Broadcast(1.0f) + Exp(cubic * Broadcast(-2.0f * 0.7978845608f)));
}

// erfc(z) exp(z^2) / t in t = 1 / (1 + z / 2), 0 <= z <= 10: a Chebyshev fit, relative error 5e-8.
HWY_INLINE V ScaledErfc(V t) {
  V p = Broadcast(0.0187664677303f);
  p = hn::MulAdd(p, t, Broadcast(-0.156832683044f));
  p = hn::MulAdd(p, t, Broadcast(0.503703756604f));
  p = hn::MulAdd(p, t, Broadcast(-0.763676979202f));
  p = hn::MulAdd(p, t, Broadcast(0.493722970517f));
  p = hn::MulAdd(p, t, Broadcast(-0.134083586447f));
  p = hn::MulAdd(p, t, Broadcast(0.236769415106f));
  p = hn::MulAdd(p, t, Broadcast(0.236490648624f));
  p = hn::MulAdd(p, t, Broadcast(0.283085704697f));
  p = hn::MulAdd(p, t, Broadcast(0.282054279489f));
  return p * t;
}

// x Phi(x), with Phi(-|x|) = erfc(|x| / sqrt 2) / 2.
HWY_INLINE V GeluOf(V x) {
  const V z = hn::Abs(x) * Broadcast(0.70710678f);
  const V t = Broadcast(1.0f) / hn::MulAdd(z, Broadcast(0.5f), Broadcast(1.0f));
  // exp(-x^2 / 2) with the rounding error of x^2 made good (where there is a fused multiply-add to tell it).
  const V square = x * x;
  const V error = hn::MulSub(x, x, square);
  const V gauss = Exp(square * Broadcast(-0.5f));
  const V tail = Broadcast(0.5f) * ScaledErfc(t) * hn::MulAdd(gauss * error, Broadcast(-0.5f), gauss);
  return x * hn::IfThenElse(x < hn::Zero(df), tail, Broadcast(1.0f) - tail);
}

HWY_INLINE float Sum(V v) { return hn::GetLane(hn::SumOfLanes(df, v)); }
HWY_INLINE float Max(V v) { return hn::GetLane(hn::MaxOfLanes(df, v)); }

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_VECTOR_INL_H_
