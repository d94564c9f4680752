// Products of one token with int8 and int4 rows: quants are widened to f32 and multiplied by the activation times the group's scale.
#ifndef NCHUNK_SIMD_QUANT_INL_H_
#define NCHUNK_SIMD_QUANT_INL_H_

#include "simd/gemv-inl.h"
#include "simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

// ---- loads of quants: the columns of one vector, as floats that are whole numbers

template <Dtype kDtype>
constexpr size_t QuantVectorBytes() {
  return kDtype == Dtype::kI8 ? kLanes : kLanes / 2;
}

// The lanes of LoadQuants may be in an order of their own; InColumnOrder puts a vector (a sum of such vectors) right.
template <Dtype kDtype>
HWY_INLINE V LoadQuants(const uint8_t* bytes) {
  if constexpr (kDtype == Dtype::kI8) {
    const hn::Rebind<int8_t, DF> d8;
    return hn::ConvertTo(df, hn::PromoteTo(DI(), hn::LoadU(d8, reinterpret_cast<const int8_t*>(bytes))));
  } else {
#if HWY_TARGET == HWY_AVX3
    // Lane 2m gets nibble m of the first four bytes in its lowest bits, lane 2m + 1 that of the last four: the table look-up
    // sees no other bits, so that two instructions make floats of nibbles.
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    const __m512i shifts = _mm512_set_epi32(28, 28, 24, 24, 20, 20, 16, 16, 12, 12, 8, 8, 4, 4, 0, 0);
    const __m512i nibbles = _mm512_srlv_epi32(_mm512_set1_epi64(static_cast<long long>(word)), shifts);
    return V{_mm512_permutexvar_ps(nibbles, _mm512_set_ps(-1, -2, -3, -4, -5, -6, -7, -8, 7, 6, 5, 4, 3, 2, 1, 0))};
#else
    // Each lane shifts its nibble to the top, and back with its sign.
    static_assert(kLanes <= 8, "the nibbles of a vector must fit one lane");
    uint32_t word = 0;
    memcpy(&word, bytes, kLanes / 2);
    alignas(64) static constexpr uint32_t kShifts[8] = {28, 24, 20, 16, 12, 8, 4, 0};
    const auto high = hn::Set(DU(), word) << hn::Load(DU(), kShifts);
    return hn::ConvertTo(df, hn::ShiftRight<28>(hn::BitCast(DI(), high)));
#endif
  }
}

template <Dtype kDtype>
HWY_INLINE V InColumnOrder(V v) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (kDtype == Dtype::kI4) {
    const __m512i order = _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
    return V{_mm512_permutexvar_ps(order, v.raw)};
  }
#endif
  return v;
}

// The first `count` < kLanes columns, zeros behind them; reads nothing beyond them.
template <Dtype kDtype>
HWY_INLINE V LoadQuantsTail(const uint8_t* bytes, size_t count) {
  uint8_t buffer[kLanes] = {};
  memcpy(buffer, bytes, QuantBytes(kDtype, count));
  if (kDtype == Dtype::kI4 && count % 2 == 1) buffer[count / 2] &= 0x0f;
  return LoadQuants<kDtype>(buffer);
}

// to[g] = factor * scale g, for `count` binary16 scales at `bytes`; whole vectors are written.
HWY_INLINE void ScaledScales(const uint8_t* bytes, size_t count, float factor, float* HWY_RESTRICT to) {
  const V v = Broadcast(factor);
  size_t g = 0;
  for (; g + kLanes <= count; g += kLanes) hn::StoreU(LoadWeights<Dtype::kF16>(bytes + 2 * g) * v, df, to + g);
  if (g == count) return;
  if (count >= kLanes) {  // the last vector again from the end
    g = count - kLanes;
    hn::StoreU(LoadWeights<Dtype::kF16>(bytes + 2 * g) * v, df, to + g);
    return;
  }
#if HWY_TARGET == HWY_AVX3
  const __mmask16 live = static_cast<__mmask16>((1u << count) - 1);
  hn::StoreU(V{_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(live, bytes))} * v, df, to);
#else
  hn::StoreU(LoadWeightsTail<Dtype::kF16>(bytes, count) * v, df, to);
#endif
}

// ---- one token

// Groups of the columns that are multiplied before the next row is turned to, and room for whole vectors.
constexpr size_t kFactorGroups = kOrderedColumns / 32 + kLanes;

// Rows multiplied at once. With few, outputs are loaded and stored often; with many, memory sees many streams, and the rows of now
// and next do not fit the first cache level: int8 rows that are wider than kNarrowColumns are taken by twos.
constexpr size_t kQuantRows = 4;
constexpr size_t kNarrowColumns = 4096;
// How far ahead of use parts of int4 rows are asked for, which the hardware does not foresee.
constexpr size_t kNibblePartAheadBytes = 16384;

// A group of rows at the columns where they are multiplied, and what is asked for meanwhile.
template <size_t kRows>
struct QuantRowsAt {
  const uint8_t* quants[kRows];
  const uint8_t* ahead[kRows];
  alignas(64) float factors[kRows][kFactorGroups];  // x times scale, of each group from the first column on
  size_t group_shift;                               // a group is 1 << group_shift columns
};

// y[0..32) += sum over rows of factor * quant, in an order of the target's own.
template <size_t kRows, Dtype kDtype>
HWY_INLINE void QuantHalfStep(const QuantRowsAt<kRows>& rows, size_t column, float* HWY_RESTRICT y) {
  constexpr size_t kVectors = 32 / kLanes;
  const size_t group = column >> rows.group_shift;
  V sums[kVectors];
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) sums[v] = hn::LoadU(df, y + v * kLanes);
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
    const uint8_t* from = rows.quants[i] + QuantBytes(kDtype, column);
    const V factor = Broadcast(rows.factors[i][group]);
#pragma GCC unroll 8
    for (size_t v = 0; v < kVectors; ++v) {
      sums[v] = hn::MulAdd(LoadQuants<kDtype>(from + v * QuantVectorBytes<kDtype>()), factor, sums[v]);
    }
  }
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], df, y + v * kLanes);
}

// The same for the last `columns` < 32; whole vectors of y are written.
template <size_t kRows, Dtype kDtype>
HWY_INLINE void QuantRest(const QuantRowsAt<kRows>& rows, size_t column, size_t columns, float* HWY_RESTRICT y) {
  const size_t group = column >> rows.group_shift;
  for (size_t j = 0; j < columns; j += kLanes) {
    const size_t lanes = columns - j < kLanes ? columns - j : kLanes;
    V sum = hn::LoadU(df, y + j);
    for (size_t i = 0; i < kRows; ++i) {
      const uint8_t* from = rows.quants[i] + QuantBytes(kDtype, column + j);
      const V quants = lanes == kLanes ? LoadQuants<kDtype>(from) : LoadQuantsTail<kDtype>(from, lanes);
      sum = hn::MulAdd(quants, Broadcast(rows.factors[i][group]), sum);
    }
    hn::StoreU(sum, df, y + j);
  }
}

#if HWY_TARGET == HWY_AVX3
// int4, 128 columns at a time: lane L has columns 8L to 8L + 7 in its nibbles, so that nibble p of all lanes are a vector of sums.
constexpr size_t kNibbleColumns = 128;

// Nibble p of every lane. Half of them by the table, which sees the lowest bits alone; half as the fraction of a float whose
// unit they are, which is subtracted again: more ports have work.
template <int p>
HWY_INLINE __m512 Nibbles(__m512i words) {
  const __m512i shifted = p < 2 ? words : _mm512_srli_epi32(words, 8 * (p / 2));
  if constexpr (p % 2 == 0) {
    return _mm512_permutexvar_ps(shifted, _mm512_set_ps(-1, -2, -3, -4, -5, -6, -7, -8, 7, 6, 5, 4, 3, 2, 1, 0));
  } else {
    // Bits 4 to 7 count ones when the exponent says 2^19. The sign bit of a nibble flipped: nibble + 8.
    constexpr int kBase = (127 + 19) << 23 | 0x80;
    constexpr int kAndXor = (0xf0 & 0xcc) ^ 0xaa;
    const __m512i bits = _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi32(0xf0), _mm512_set1_epi32(kBase), kAndXor);
    return _mm512_sub_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p19f + 8));
  }
}

// sums[16 p + L] += sum over rows of factor * quant, for columns 8L + p of the 128 from `column` on.
template <size_t kRows>
HWY_INLINE void NibbleStep(const QuantRowsAt<kRows>& rows, size_t column, __m512i group_of_lane, float* HWY_RESTRICT sums) {
  const size_t group = column >> rows.group_shift;
  __m512 s[8];
#pragma GCC unroll 8
  for (size_t p = 0; p < 8; ++p) s[p] = _mm512_load_ps(sums + 16 * p);
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
    const __m512i words = _mm512_loadu_si512(rows.quants[i] + column / 2);
    const __m512 groups = _mm512_broadcast_f32x4(_mm_loadu_ps(rows.factors[i] + group));
    const __m512 factor = _mm512_permutevar_ps(groups, group_of_lane);
    s[0] = _mm512_fmadd_ps(Nibbles<0>(words), factor, s[0]);
    s[1] = _mm512_fmadd_ps(Nibbles<1>(words), factor, s[1]);
    s[2] = _mm512_fmadd_ps(Nibbles<2>(words), factor, s[2]);
    s[3] = _mm512_fmadd_ps(Nibbles<3>(words), factor, s[3]);
    s[4] = _mm512_fmadd_ps(Nibbles<4>(words), factor, s[4]);
    s[5] = _mm512_fmadd_ps(Nibbles<5>(words), factor, s[5]);
    s[6] = _mm512_fmadd_ps(Nibbles<6>(words), factor, s[6]);
    s[7] = _mm512_fmadd_ps(Nibbles<7>(words), factor, s[7]);
  }
#pragma GCC unroll 8
  for (size_t p = 0; p < 8; ++p) _mm512_store_ps(sums + 16 * p, s[p]);
}

// y[0..128) += the sums of NibbleStep, in the order of columns.
HWY_INLINE void AddNibbleSums(const float* HWY_RESTRICT sums, float* HWY_RESTRICT y) {
  // low[i], high[i]: columns 0 to 3, 4 to 7 of lanes 4l + i, one l for each quarter.
  __m512 quarters[2][4];
#pragma GCC unroll 2
  for (size_t half = 0; half < 2; ++half) {
    const float* from = sums + 64 * half;
    const __m512 p0 = _mm512_load_ps(from), p1 = _mm512_load_ps(from + 16);
    const __m512 p2 = _mm512_load_ps(from + 32), p3 = _mm512_load_ps(from + 48);
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(p0, p1)), b = _mm512_castps_pd(_mm512_unpacklo_ps(p2, p3));
    const __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(p0, p1)), d = _mm512_castps_pd(_mm512_unpackhi_ps(p2, p3));
    quarters[half][0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    quarters[half][1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    quarters[half][2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
    quarters[half][3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
  }
#pragma GCC unroll 2
  for (size_t j = 0; j < 2; ++j) {
    // Quarter l of the four, in turn, are columns 32 l + 16 j to 32 l + 16 j + 15.
    const __m512 q0 = quarters[0][2 * j], q1 = quarters[1][2 * j];
    const __m512 q2 = quarters[0][2 * j + 1], q3 = quarters[1][2 * j + 1];
    const __m512 a = _mm512_shuffle_f32x4(q0, q1, 0x44), b = _mm512_shuffle_f32x4(q2, q3, 0x44);
    const __m512 c = _mm512_shuffle_f32x4(q0, q1, 0xee), d = _mm512_shuffle_f32x4(q2, q3, 0xee);
    const __m512 columns[4] = {_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd),
                               _mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd)};
#pragma GCC unroll 4
    for (size_t l = 0; l < 4; ++l) {
      float* to = y + 32 * l + 16 * j;
      _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), columns[l]));
    }
  }
}

// Columns [0, columns) of a group of rows, added to `sums`: whole steps as NibbleStep leaves them, the rest as LoadQuants does.
template <size_t kRows>
HWY_INLINE void NibbleBlock(const QuantRowsAt<kRows>& rows, size_t columns, float* HWY_RESTRICT sums) {
  const __m512i group_of_lane = rows.group_shift == 5 ? _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0)
                                                      : _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  size_t j = 0;
  for (; j + kNibbleColumns <= columns; j += kNibbleColumns) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) PrefetchNear(rows.ahead[i] + j / 2);
    NibbleStep<kRows>(rows, j, group_of_lane, sums + j);
  }
  for (; j + 32 <= columns; j += 32) QuantHalfStep<kRows, Dtype::kI4>(rows, j, sums + j);
  if (j < columns) QuantRest<kRows, Dtype::kI4>(rows, j, columns - j, sums + j);
}

// y[0..columns) += the sums of NibbleBlock.
inline void AddNibbleBlock(const float* HWY_RESTRICT sums, size_t columns, float* HWY_RESTRICT y) {
  size_t j = 0;
  for (; j + kNibbleColumns <= columns; j += kNibbleColumns) AddNibbleSums(sums + j, y + j);
  for (; j < columns; j += kLanes) {
    const V sum = InColumnOrder<Dtype::kI4>(hn::LoadU(df, sums + j));
    if (columns - j >= kLanes) {
      hn::StoreU(hn::LoadU(df, y + j) + sum, df, y + j);
    } else {
      StoreTail(LoadTail(y + j, columns - j) + sum, y + j, columns - j);
    }
  }
}
#endif  // HWY_TARGET == HWY_AVX3

// y[0..columns) += sum over a group of rows.
template <size_t kRows, Dtype kDtype>
HWY_INLINE void QuantBlock(const QuantRowsAt<kRows>& rows, size_t columns, float* HWY_RESTRICT y) {
  constexpr size_t kLineColumns = kDtype == Dtype::kI8 ? 64 : 128;
  size_t j = 0;
  for (; j + kLineColumns <= columns; j += kLineColumns) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) PrefetchNear(rows.ahead[i] + QuantBytes(kDtype, j));
#pragma GCC unroll 4
    for (size_t h = 0; h < kLineColumns; h += 32) QuantHalfStep<kRows, kDtype>(rows, j + h, y + j + h);
  }
  for (; j + 32 <= columns; j += 32) QuantHalfStep<kRows, kDtype>(rows, j, y + j);
  if (j == columns) return;
  float rest[32] = {};
  memcpy(rest, y + j, (columns - j) * sizeof(float));
  QuantRest<kRows, kDtype>(rows, j, columns - j, rest);
  memcpy(y + j, rest, (columns - j) * sizeof(float));
}

// What is multiplied of quantised rows at a time: columns [column, column + columns), of every row before any others; the
// columns from `then` on follow (or none, when it is `column`), the rows that come next are wanted from column `first` on.
struct QuantColumns {
  size_t column, columns, then, first;
};

template <size_t kRows, Dtype kDtype>
HWY_INLINE void QuantGroup(const QuantLayout& layout, const RowOrder& order, const float* xs, size_t row, size_t rows_ahead,
                           const QuantColumns& part, float* HWY_RESTRICT y) {
  QuantRowsAt<kRows> rows;
  rows.group_shift = layout.group_size == 32 ? 5 : 6;
  const size_t groups = (part.columns + layout.group_size - 1) >> rows.group_shift;
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
    const uint8_t* from = order.rows[row + i];
    rows.quants[i] = from + QuantBytes(kDtype, part.column);
    ScaledScales(from + layout.scales_offset_bytes + 2 * (part.column >> rows.group_shift), groups, xs[row + i], rows.factors[i]);
    const RowOrder::Place place = order.After(row + i + rows_ahead, part.column, part.then, part.first);
    rows.ahead[i] = place.row + QuantBytes(kDtype, place.column);
    const uint8_t* scales = place.row + layout.scales_offset_bytes + 2 * (place.column >> rows.group_shift);
    for (size_t b = 0; b < 2 * groups; b += 64) PrefetchNear(scales + b);
  }
#if HWY_TARGET == HWY_AVX3
  if constexpr (kDtype == Dtype::kI4) return NibbleBlock<kRows>(rows, part.columns, y);
#endif
  QuantBlock<kRows, kDtype>(rows, part.columns, y);
}

template <Dtype kDtype>
HWY_INLINE void GemvQuantRowsOf(const QuantLayout& layout, const RowOrder& order, const float* xs, size_t column,
                                size_t columns, float* HWY_RESTRICT y) {
  const size_t width = columns <= kOrderedColumns ? columns : kPartColumns;
  for (size_t from = 0; from < columns; from += width) {
    const size_t n = columns - from < width ? columns - from : width;
    const size_t here = column + from;
    const QuantColumns part{here, n, from + width < columns ? here + width : here, column};
    const size_t together = kDtype == Dtype::kI8 && n > kNarrowColumns ? 2 : kQuantRows;
    const size_t bytes = RowBytes(kDtype, n, layout.group_size);
    const bool is_nibble_part = kDtype == Dtype::kI4 && bytes < layout.row_bytes;
    const size_t rows_ahead = RowsAhead(bytes, together, is_nibble_part ? kNibblePartAheadBytes : kAheadBytes);
    float* out = y + from;
#if HWY_TARGET == HWY_AVX3
    // Summed apart: the order of these sums is not that of columns.
    alignas(64) float sums[kDtype == Dtype::kI4 ? kOrderedColumns + kLanes : 1];
    if constexpr (kDtype == Dtype::kI4) {
      memset(sums, 0, (n + kLanes - 1) / kLanes * kLanes * sizeof(float));
      out = sums;
    }
#endif
    size_t row = 0;
    for (; together == kQuantRows && row + kQuantRows <= order.count; row += kQuantRows) {
      QuantGroup<kQuantRows, kDtype>(layout, order, xs, row, rows_ahead, part, out);
    }
    for (; row + 2 <= order.count; row += 2) QuantGroup<2, kDtype>(layout, order, xs, row, rows_ahead, part, out);
    for (; row < order.count; ++row) QuantGroup<1, kDtype>(layout, order, xs, row, rows_ahead, part, out);
#if HWY_TARGET == HWY_AVX3
    if constexpr (kDtype == Dtype::kI4) AddNibbleBlock(sums, n, y + from);
#endif
  }
}

inline void GemvQuantRows(const QuantLayout& layout, const uint8_t* const* rows, const float* xs, size_t count,
                          size_t column, size_t columns, float* y, const uint8_t* const* next_rows, size_t next_count) {
  const RowOrder order{rows, count, next_rows, next_count};
  if (layout.dtype == Dtype::kI8) return GemvQuantRowsOf<Dtype::kI8>(layout, order, xs, column, columns, y);
  return GemvQuantRowsOf<Dtype::kI4>(layout, order, xs, column, columns, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_QUANT_INL_H_
