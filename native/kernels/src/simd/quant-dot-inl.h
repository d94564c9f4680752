// Products of one token with int4 rows by dot products of int8 (Arithmetic::kReduced): four rows at a time, activation times scale
// of the four is rounded to int8 for each group of columns, in units of a 127th of the largest. A dot product then takes four weights
// where a multiply-add takes one that was made a float. (int8 rows gain nothing: there the memory is what takes time.)
// Included by units that share a base target's namespace: everything has internal linkage.
#ifndef NCHUNK_SIMD_QUANT_DOT_INL_H_
#define NCHUNK_SIMD_QUANT_DOT_INL_H_

#include "simd/quant-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kDotRows = 4;
constexpr size_t kDotGroups = kOrderedColumns / 32 + kLanes;
// Of the largest activation times scale of four rows and a group: below, all of them are taken for zero.
constexpr float kLeastActivation = 1e-36f;
// Columns multiplied at a time: a vector of each row's bytes.
constexpr size_t kDotColumns = 8 * kLanes;

// Four rows at the columns where they are multiplied, and what is asked for meanwhile.
struct DotRowsAt {
  const uint8_t* quants[kDotRows];
  const uint8_t* ahead[kDotRows];
  size_t group_shift;  // a group is 1 << group_shift columns
  // Of each group: a signed byte for each row, what one of them is worth, and what sums start at.
  alignas(64) int32_t activations[kDotGroups];
  alignas(64) float units[kDotGroups];
  alignas(64) int32_t offsets[kDotGroups];
};

// To the nearest whole number, for values that are small ones.
HWY_INLINE hn::Vec<DI> Nearest(V v) {
#if HWY_TARGET == HWY_AVX3
  return hn::Vec<DI>{_mm512_cvtps_epi32(v.raw)};
#else
  return hn::NearestInt(v);
#endif
}

// The first `count` binary16 scales of a vector, zeros behind them.
HWY_INLINE V LoadScales(const uint8_t* bytes, size_t count) {
  if (HWY_LIKELY(count >= kLanes)) return LoadWeights<Dtype::kF16>(bytes);
#if HWY_TARGET == HWY_AVX3
  return V{_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1), bytes))};
#else
  return LoadWeightsTail<Dtype::kF16>(bytes, count);
#endif
}

// Activations x[i] times the scales [groups] of each row.
HWY_INLINE void RoundActivations(const uint8_t* const (&scales)[kDotRows], const float (&x)[kDotRows], size_t groups,
                                 DotRowsAt& rows) {
  const auto byte = hn::Set(DI(), 255);
  for (size_t g = 0; g < groups; g += kLanes) {
    V f[kDotRows];
    V most = hn::Zero(df), sum = hn::Zero(df);
#pragma GCC unroll 4
    for (size_t i = 0; i < kDotRows; ++i) {
      f[i] = LoadScales(scales[i] + 2 * g, groups - g) * Broadcast(x[i]);
      most = hn::Max(most, hn::Abs(f[i]));
      sum = sum + f[i];
    }
    const V inverse = hn::IfThenElseZero(most > Broadcast(kLeastActivation), Broadcast(127.0f) / most);
    const auto a0 = Nearest(f[0] * inverse), a1 = Nearest(f[1] * inverse);
    const auto a2 = Nearest(f[2] * inverse), a3 = Nearest(f[3] * inverse);
    const auto low = hn::Or(hn::And(a0, byte), hn::ShiftLeft<8>(hn::And(a1, byte)));
    const auto high = hn::Or(hn::ShiftLeft<16>(hn::And(a2, byte)), hn::ShiftLeft<24>(a3));
    hn::StoreU(hn::Or(low, high), DI(), rows.activations + g);
    // What is not a number, or infinite, stays so.
    hn::StoreU(hn::MulAdd(most, Broadcast(1.0f / 127), sum * hn::Zero(df)), df, rows.units + g);
    hn::StoreU(hn::Neg(hn::ShiftLeft<3>((a0 + a1) + (a2 + a3))), DI(), rows.offsets + g);
  }
}

#if HWY_TARGET == HWY_AVX3

// The bytes of four rows side by side: 128-bit block l of quads[q] has bytes 16 l + 4 q to 16 l + 4 q + 3 of each.
HWY_INLINE void Interleave(const __m512i (&rows)[kDotRows], __m512i (&quads)[4]) {
  const __m512i a = _mm512_unpacklo_epi8(rows[0], rows[1]), b = _mm512_unpackhi_epi8(rows[0], rows[1]);
  const __m512i c = _mm512_unpacklo_epi8(rows[2], rows[3]), d = _mm512_unpackhi_epi8(rows[2], rows[3]);
  quads[0] = _mm512_unpacklo_epi16(a, c);
  quads[1] = _mm512_unpackhi_epi16(a, c);
  quads[2] = _mm512_unpacklo_epi16(b, d);
  quads[3] = _mm512_unpackhi_epi16(b, d);
}

// One value of each group for the lanes of Interleave, whose blocks are 32 columns.
HWY_INLINE __m512i OfLanes(const void* values, __m512i group_of_lane) {
  const __m512i groups = _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(values)));
  return _mm512_castps_si512(_mm512_permutevar_ps(_mm512_castsi512_ps(groups), group_of_lane));
}

HWY_INLINE __m512i GroupOfLane(size_t group_shift) {
  return group_shift == 5 ? _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0)
                          : _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
}

HWY_INLINE void AddDot(__m512i quants, __m512i activations, __m512i offset, __m512 unit, float* sums) {
  const __m512i dot = _mm512_dpbusd_epi32(offset, quants, activations);
  _mm512_store_ps(sums, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), unit, _mm512_load_ps(sums)));
}

// Added to sums [kDotColumns], in an order of their own (PutInOrder): columns from `column` on, of which `live` are there.
template <bool kWhole>
HWY_INLINE void DotStep(const DotRowsAt& at, size_t column, size_t live, __m512i group_of_lane, float* HWY_RESTRICT sums) {
  const size_t group = column >> at.group_shift;
  const __mmask64 bytes = kWhole ? ~__mmask64{0} : (__mmask64{1} << QuantBytes(Dtype::kI4, live)) - 1;
  __m512i rows[kDotRows], quads[4];
#pragma GCC unroll 4
  for (size_t i = 0; i < kDotRows; ++i) {
    const uint8_t* from = at.quants[i] + column / 2;
    rows[i] = kWhole ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi8(bytes, from);
  }
  Interleave(rows, quads);
  const __m512i activations = OfLanes(at.activations + group, group_of_lane);
  const __m512 unit = _mm512_castsi512_ps(OfLanes(at.units + group, group_of_lane));
  const __m512 high_unit = _mm512_mul_ps(unit, _mm512_set1_ps(0x1p-4f));
  // The instruction multiplies unsigned bytes by signed ones. The lower nibble plus 8, and 16 times as much of the upper one, are
  // (byte & mask) ^ sign; sums start at what the 8 adds to them.
  const __m512i offset = OfLanes(at.offsets + group, group_of_lane);
  const __m512i high_offset = _mm512_slli_epi32(offset, 4);
  constexpr int kAndXor = (0xf0 & 0xcc) ^ 0xaa;
  const __m512i low_mask = _mm512_set1_epi8(0x0f), low_sign = _mm512_set1_epi8(0x08);
  const __m512i high_mask = _mm512_set1_epi8(static_cast<char>(0xf0)), high_sign = _mm512_set1_epi8(-128);
#pragma GCC unroll 4
  for (size_t q = 0; q < 4; ++q) {
    const __m512i low = _mm512_ternarylogic_epi32(quads[q], low_mask, low_sign, kAndXor);
    const __m512i high = _mm512_ternarylogic_epi32(quads[q], high_mask, high_sign, kAndXor);
    AddDot(low, activations, offset, unit, sums + 16 * q);
    AddDot(high, activations, high_offset, high_unit, sums + 64 + 16 * q);
  }
}

// The sums of a step in the order of columns.
HWY_INLINE void PutInOrder(const float* HWY_RESTRICT sums, float* HWY_RESTRICT to) {
  // Even columns, odd columns; block l is 32 columns, of which parts[i] has 4 i to 4 i + 3.
  __m512 parts[8];
#pragma GCC unroll 4
  for (size_t q = 0; q < 4; ++q) {
    const __m512 even = _mm512_load_ps(sums + 16 * q), odd = _mm512_load_ps(sums + 64 + 16 * q);
    parts[2 * q] = _mm512_unpacklo_ps(even, odd);
    parts[2 * q + 1] = _mm512_unpackhi_ps(even, odd);
  }
#pragma GCC unroll 2
  for (size_t h = 0; h < 2; ++h) {
    const __m512* in = parts + 4 * h;
    const __m512 a = _mm512_shuffle_f32x4(in[0], in[1], 0x44), b = _mm512_shuffle_f32x4(in[2], in[3], 0x44);
    const __m512 c = _mm512_shuffle_f32x4(in[0], in[1], 0xee), d = _mm512_shuffle_f32x4(in[2], in[3], 0xee);
    _mm512_store_ps(to + 16 * h, _mm512_shuffle_f32x4(a, b, 0x88));
    _mm512_store_ps(to + 32 + 16 * h, _mm512_shuffle_f32x4(a, b, 0xdd));
    _mm512_store_ps(to + 64 + 16 * h, _mm512_shuffle_f32x4(c, d, 0x88));
    _mm512_store_ps(to + 96 + 16 * h, _mm512_shuffle_f32x4(c, d, 0xdd));
  }
}

#else  // NEON with the dot product of signed bytes: no offsets, and 16 times each nibble is such a byte

HWY_INLINE int GroupOfLane(size_t) { return 0; }

HWY_INLINE void AddDot(int8x16_t quants, int8x16_t activations, float unit, float* sums) {
  const int32x4_t dot = vdotq_s32(vdupq_n_s32(0), quants, activations);
  vst1q_f32(sums, vfmaq_n_f32(vld1q_f32(sums), vcvtq_f32_s32(dot), unit));
}

template <bool kWhole>
HWY_INLINE void DotStep(const DotRowsAt& at, size_t column, size_t live, int, float* HWY_RESTRICT sums) {
  const size_t group = column >> at.group_shift;
  int16x8_t pairs[4];
  uint8x16_t rows[kDotRows];
#pragma GCC unroll 4
  for (size_t i = 0; i < kDotRows; ++i) {
    const uint8_t* from = at.quants[i] + column / 2;
    uint8_t buffer[16] = {};
    if (!kWhole) {
      memcpy(buffer, from, QuantBytes(Dtype::kI4, live));
      from = buffer;
    }
    rows[i] = vld1q_u8(from);
  }
  // The bytes of four rows side by side, then those of each nibble.
  pairs[0] = vreinterpretq_s16_u8(vzip1q_u8(rows[0], rows[1]));
  pairs[1] = vreinterpretq_s16_u8(vzip1q_u8(rows[2], rows[3]));
  pairs[2] = vreinterpretq_s16_u8(vzip2q_u8(rows[0], rows[1]));
  pairs[3] = vreinterpretq_s16_u8(vzip2q_u8(rows[2], rows[3]));
  const int8x16_t activations = vreinterpretq_s8_s32(vdupq_n_s32(at.activations[group]));
  const float unit = at.units[group] * 0x1p-4f;
#pragma GCC unroll 4
  for (size_t q = 0; q < 4; ++q) {
    const int16x8_t a = pairs[q / 2 * 2], b = pairs[q / 2 * 2 + 1];
    const int8x16_t quad = vreinterpretq_s8_s16(q % 2 == 0 ? vzip1q_s16(a, b) : vzip2q_s16(a, b));
    AddDot(vshlq_n_s8(quad, 4), activations, unit, sums + 4 * q);
    AddDot(vandq_s8(quad, vdupq_n_s8(static_cast<int8_t>(0xf0))), activations, unit, sums + 16 + 4 * q);
  }
}

HWY_INLINE void PutInOrder(const float* HWY_RESTRICT sums, float* HWY_RESTRICT to) {
#pragma GCC unroll 4
  for (size_t q = 0; q < 4; ++q) {
    const float32x4_t even = vld1q_f32(sums + 4 * q), odd = vld1q_f32(sums + 16 + 4 * q);
    vst1q_f32(to + 8 * q, vzip1q_f32(even, odd));
    vst1q_f32(to + 8 * q + 4, vzip2q_f32(even, odd));
  }
}

#endif

// Rows [row, row + count), count <= kDotRows, added to sums.
HWY_INLINE void DotGroup(const QuantLayout& layout, const RowOrder& order, const float* xs, size_t row, size_t count,
                         size_t rows_ahead, const QuantColumns& part, float* HWY_RESTRICT sums) {
  DotRowsAt at;
  const uint8_t* scales[kDotRows];
  float x[kDotRows];
  at.group_shift = layout.group_size == 32 ? 5 : 6;
  const size_t groups = (part.columns + layout.group_size - 1) >> at.group_shift;
#pragma GCC unroll 4
  for (size_t i = 0; i < kDotRows; ++i) {
    // Rows that are not there are nothing times the first.
    const uint8_t* from = order.rows[i < count ? row + i : row];
    at.quants[i] = from + part.column / 2;
    scales[i] = from + layout.scales_offset_bytes + 2 * (part.column >> at.group_shift);
    x[i] = i < count ? xs[row + i] : 0.0f;
    const RowOrder::Place place = order.After(row + i + rows_ahead, part.column, part.then, part.first);
    at.ahead[i] = place.row + place.column / 2;
    const uint8_t* next_scales = place.row + layout.scales_offset_bytes + 2 * (place.column >> at.group_shift);
    for (size_t b = 0; b < 2 * groups; b += 64) PrefetchNear(next_scales + b);
  }
  RoundActivations(scales, x, groups, at);
  const auto group_of_lane = GroupOfLane(at.group_shift);
  size_t j = 0;
  for (; j + kDotColumns <= part.columns; j += kDotColumns) {
    if (j % 128 == 0) {
#pragma GCC unroll 4
      for (size_t i = 0; i < kDotRows; ++i) PrefetchNear(at.ahead[i] + j / 2);
    }
    DotStep<true>(at, j, kDotColumns, group_of_lane, sums + j);
  }
  if (j < part.columns) DotStep<false>(at, j, part.columns - j, group_of_lane, sums + j);
}

void DotQuantRows(const QuantLayout& layout, const uint8_t* const* rows, const float* xs, size_t count, size_t column,
                  size_t columns, float* y, const uint8_t* const* next_rows, size_t next_count) {
  const RowOrder order{rows, count, next_rows, next_count};
  alignas(64) float sums[kOrderedColumns + kDotColumns];
  const size_t width = columns <= kOrderedColumns ? columns : kPartColumns;
  for (size_t from = 0; from < columns; from += width) {
    const size_t n = columns - from < width ? columns - from : width;
    const size_t here = column + from;
    const QuantColumns part{here, n, from + width < columns ? here + width : here, column};
    const size_t bytes = RowBytes(Dtype::kI4, n, layout.group_size);
    const size_t rows_ahead = RowsAhead(bytes, kDotRows, bytes < layout.row_bytes ? kNibblePartAheadBytes : kAheadBytes);
    memset(sums, 0, (n + kDotColumns - 1) / kDotColumns * kDotColumns * sizeof(float));
    for (size_t row = 0; row < count; row += kDotRows) {
      DotGroup(layout, order, xs, row, count - row < kDotRows ? count - row : kDotRows, rows_ahead, part, sums);
    }
    for (size_t j = 0; j < n; j += kDotColumns) {
      alignas(64) float ordered[kDotColumns];
      PutInOrder(sums + j, ordered);
      const size_t live = n - j < kDotColumns ? n - j : kDotColumns;
      float* to = y + from + j;
      size_t i = 0;
      for (; i + kLanes <= live; i += kLanes) hn::StoreU(hn::LoadU(df, to + i) + hn::Load(df, ordered + i), df, to + i);
      for (; i < live; ++i) to[i] += ordered[i];
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_QUANT_DOT_INL_H_
