// Products with int8 and int4 rows: quants are widened to f32 and multiplied by the activation times the group's scale, or by the
// scale alone where a panel is packed.
#ifndef NCHUNK_SIMD_QUANT_INL_H_
#define NCHUNK_SIMD_QUANT_INL_H_

#include "simd/gemm-inl.h"
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

// Columns whose factors are kept at once; the outputs of as many stay in the first cache level.
constexpr size_t kFactorColumns = 2048;
constexpr size_t kFactorGroups = kFactorColumns / 32;

// Rows whose sums are kept apart, so that multiply-adds need not wait for each other, where there are registers for it.
#if HWY_TARGET == HWY_AVX3
constexpr size_t kRowsApart = 2;
#else
constexpr size_t kRowsApart = 1;
#endif

// y[0..kQuantStep) += sum over rows of factor * quant; quants at rows[i] + at_bytes, factors of the two halves given.
template <Dtype kDtype>
HWY_INLINE void QuantStep(const uint8_t* const* rows, size_t count, size_t at_bytes, const float* HWY_RESTRICT low,
                          const float* HWY_RESTRICT high, float* HWY_RESTRICT y) {
  constexpr size_t kVectors = kQuantStep / kLanes;
  V sums[kRowsApart][kVectors];
#pragma GCC unroll 2
  for (size_t r = 0; r < kRowsApart; ++r) {
#pragma GCC unroll 16
    for (size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::Zero(df);
  }
  const auto add_row = [&](size_t i, V* HWY_RESTRICT into) HWY_ATTR {
    const uint8_t* row = rows[i] + at_bytes;
    __builtin_prefetch(row + kNearBytes, 0, 3);
    const V factors[2] = {Broadcast(low[i * kFactorGroups]), Broadcast(high[i * kFactorGroups])};
#pragma GCC unroll 16
    for (size_t v = 0; v < kVectors; ++v) {
      into[v] = hn::MulAdd(LoadQuants<kDtype>(row + v * QuantVectorBytes<kDtype>()), factors[v >= kVectors / 2], into[v]);
    }
  };
  size_t i = 0;
  for (; i + kRowsApart <= count; i += kRowsApart) {
#pragma GCC unroll 2
    for (size_t r = 0; r < kRowsApart; ++r) add_row(i + r, sums[r]);
  }
  for (; i < count; ++i) add_row(i, sums[0]);
#pragma GCC unroll 16
  for (size_t v = 0; v < kVectors; ++v) {
    float* out = y + v * kLanes;
    const V sum = kRowsApart == 2 ? sums[0][v] + sums[kRowsApart - 1][v] : sums[0][v];
    hn::StoreU(hn::LoadU(df, out) + InColumnOrder<kDtype>(sum), df, out);
  }
}

// The same for `columns` < kQuantStep.
template <Dtype kDtype>
HWY_INLINE void QuantRest(const uint8_t* const* rows, size_t count, size_t at_bytes, const float* low, const float* high,
                          size_t columns, float* y) {
  for (size_t j = 0; j < columns; j += kLanes) {
    const size_t lanes = columns - j < kLanes ? columns - j : kLanes;
    const float* factors = j < kQuantStep / 2 ? low : high;
    V sum = hn::Zero(df);
    for (size_t i = 0; i < count; ++i) {
      const uint8_t* from = rows[i] + at_bytes + QuantBytes(kDtype, j);
      const V quants = lanes == kLanes ? LoadQuants<kDtype>(from) : LoadQuantsTail<kDtype>(from, lanes);
      sum = hn::MulAdd(quants, Broadcast(factors[i * kFactorGroups]), sum);
    }
    sum = InColumnOrder<kDtype>(sum);
    if (lanes == kLanes) {
      hn::StoreU(hn::LoadU(df, y + j) + sum, df, y + j);
    } else {
      StoreTail(LoadTail(y + j, lanes) + sum, y + j, lanes);
    }
  }
}

template <Dtype kDtype>
HWY_INLINE void GemvQuantRowsOf(const QuantLayout& layout, const uint8_t* const* rows, const float* xs, size_t count,
                                size_t column, size_t columns, float* HWY_RESTRICT y, PrefetchCursor cursor) {
  alignas(64) float factors[kQuantGemvRows * kFactorGroups];
  const size_t step_bytes = QuantBytes(kDtype, kQuantStep) + 2 * (kQuantStep / layout.group_size);
  const size_t lines = (count * step_bytes + 63) / 64;
  for (size_t from = 0; from < columns; from += kFactorColumns) {
    const size_t here = columns - from < kFactorColumns ? columns - from : kFactorColumns;
    const size_t first_group = (column + from) / layout.group_size;
    const size_t groups = (here + layout.group_size - 1) / layout.group_size;
    for (size_t i = 0; i < count; ++i) {
      const uint8_t* scales = rows[i] + layout.scales_offset_bytes + 2 * first_group;
      ScaledScales(scales, groups, xs[i], factors + i * kFactorGroups);
    }
    for (size_t j = 0; j < here; j += kQuantStep) {
      const size_t at_bytes = QuantBytes(kDtype, column + from + j);
      const float* low = factors + j / layout.group_size;
      const float* high = factors + (j + kQuantStep / 2) / layout.group_size;
      cursor.Advance(lines);
      if (HWY_LIKELY(j + kQuantStep <= here)) {
        QuantStep<kDtype>(rows, count, at_bytes, low, high, y + from + j);
      } else {
        QuantRest<kDtype>(rows, count, at_bytes, low, high, here - j, y + from + j);
      }
    }
  }
}

inline void GemvQuantRows(const QuantLayout& layout, const uint8_t* const* rows, const float* xs, size_t count,
                          size_t column, size_t columns, float* y, const uint8_t* const* next_rows, size_t next_count) {
  const PrefetchCursor cursor{next_rows, next_count, layout.row_bytes};
  if (layout.dtype == Dtype::kI8) return GemvQuantRowsOf<Dtype::kI8>(layout, rows, xs, count, column, columns, y, cursor);
  return GemvQuantRowsOf<Dtype::kI4>(layout, rows, xs, count, column, columns, y, cursor);
}

// ---- packing

// Columns [from, from + columns) of one row, columns <= kPanelColumns, into one row of a panel; scale_of[v] scales vector v.
template <Dtype kDtype>
HWY_INLINE void PackQuantRow(const uint8_t* HWY_RESTRICT quants, size_t columns, const float* HWY_RESTRICT scales,
                             const uint32_t* HWY_RESTRICT scale_of, float* HWY_RESTRICT panel) {
  if (HWY_LIKELY(columns == kPanelColumns)) {
#pragma GCC unroll 3
    for (size_t v = 0; v < kPanelVectors; ++v) {
      const V weights = LoadQuants<kDtype>(quants + v * QuantVectorBytes<kDtype>()) * Broadcast(scales[scale_of[v]]);
      hn::StoreU(InColumnOrder<kDtype>(weights), df, panel + v * kLanes);
    }
    return;
  }
  for (size_t v = 0; v < kPanelVectors; ++v) {
    const size_t at = v * kLanes;
    const size_t left = columns > at ? columns - at : 0;
    const uint8_t* from = quants + v * QuantVectorBytes<kDtype>();
    V weights = hn::Zero(df);
    if (left >= kLanes) {
      weights = LoadQuants<kDtype>(from) * Broadcast(scales[scale_of[v]]);
    } else if (left > 0) {
      weights = LoadQuantsTail<kDtype>(from, left) * Broadcast(scales[scale_of[v]]);
    }
    hn::StoreU(InColumnOrder<kDtype>(weights), df, panel + at);
  }
}

template <Dtype kDtype>
HWY_INLINE void PackQuantRowsOf(const QuantLayout& layout, const uint8_t* const* rows, size_t kc, size_t column,
                                size_t columns, float* HWY_RESTRICT panels, size_t panel_stride) {
  constexpr size_t kMaxVectors = kMaxPanelsTogether * kPanelVectors;
  // Groups that panels packed together can touch, cut anywhere.
  constexpr size_t kMaxGroups = kMaxVectors * kLanes / 32 + 2;
  alignas(64) float scales[kMaxGroups + kLanes];
  const size_t first_group = column / layout.group_size;
  const size_t groups = (column + columns - 1) / layout.group_size - first_group + 1;
  // A vector never crosses groups: it starts at a multiple of kLanes, which divides 32.
  uint32_t scale_of[kMaxVectors];
  for (size_t v = 0; v < kMaxVectors; ++v) {
    const size_t group = (column + v * kLanes) / layout.group_size - first_group;
    scale_of[v] = static_cast<uint32_t>(group < groups ? group : groups - 1);
  }
  const size_t bytes = QuantBytes(kDtype, columns);
  for (size_t k = 0; k < kc; ++k) {
    if (k + kPackAheadRows < kc) {
      const uint8_t* ahead = rows[k + kPackAheadRows] + QuantBytes(kDtype, column);
      for (size_t b = 0; b < bytes; b += 64) Prefetch(ahead + b);
      Prefetch(ahead + bytes - 1);
    }
    ScaledScales(rows[k] + layout.scales_offset_bytes + 2 * first_group, groups, 1.0f, scales);
    const uint8_t* row = rows[k] + QuantBytes(kDtype, column);
    float* panel = panels + k * kPanelColumns;
    const uint32_t* panel_scales = scale_of;
    for (size_t j = 0; j < columns; j += kPanelColumns) {
      const size_t here = columns - j < kPanelColumns ? columns - j : kPanelColumns;
      PackQuantRow<kDtype>(row + QuantBytes(kDtype, j), here, scales, panel_scales, panel);
      panel_scales += kPanelVectors;
      panel += panel_stride;
    }
  }
}

inline void PackQuantRows(const QuantLayout& layout, const uint8_t* const* rows, size_t kc, size_t column, size_t columns,
                          float* panels, size_t panel_stride) {
  if (layout.dtype == Dtype::kI8) {
    return PackQuantRowsOf<Dtype::kI8>(layout, rows, kc, column, columns, panels, panel_stride);
  }
  return PackQuantRowsOf<Dtype::kI4>(layout, rows, kc, column, columns, panels, panel_stride);
}

#if HWY_TARGET == HWY_AVX3
// A panel of 48 columns touches three groups at most; their scales are widened four at a time.
constexpr size_t kPanelGroups = 4;

template <Dtype kDtype>
struct QuantLoad {
  const uint8_t* const* rows;
  size_t kc;
  size_t column_bytes;
  const float* scales;  // [kc, kPanelGroups]
  uint32_t scale_of[kPanelVectors];

  HWY_INLINE void Ahead(size_t k) const {
    const uint8_t* from = rows[k + kPackAheadRows < kc ? k + kPackAheadRows : kc - 1] + column_bytes;
    __builtin_prefetch(from, 0, 3);
    __builtin_prefetch(from + QuantBytes(kDtype, kPanelColumns) - 1, 0, 3);
  }
  HWY_INLINE V operator()(size_t k, size_t j) const {
    const V quants = LoadQuants<kDtype>(rows[k] + column_bytes + j * QuantVectorBytes<kDtype>());
    return InColumnOrder<kDtype>(quants * Broadcast(scales[k * kPanelGroups + scale_of[j]]));
  }
};

template <Dtype kDtype>
HWY_INLINE void GemmPackQuantRowsOf(const float* a, size_t kc, const QuantLayout& layout, const uint8_t* const* rows,
                                    size_t column, float* panel, float* y, size_t ldy, bool accumulate,
                                    PrefetchList* ahead) {
  alignas(64) float scales[kBlockChannels * kPanelGroups];
  const size_t first_group = column / layout.group_size;
  const size_t groups = (column + kPanelColumns - 1) / layout.group_size - first_group + 1;
  const __mmask8 live = static_cast<__mmask8>((1u << groups) - 1);
  for (size_t k = 0; k < kc; ++k) {
    const uint8_t* from = rows[k] + layout.scales_offset_bytes + 2 * first_group;
    _mm_store_ps(scales + k * kPanelGroups, _mm_cvtph_ps(_mm_maskz_loadu_epi16(live, from)));
  }
  QuantLoad<kDtype> load{rows, kc, QuantBytes(kDtype, column), scales, {}};
  for (size_t j = 0; j < kPanelVectors; ++j) {
    load.scale_of[j] = static_cast<uint32_t>((column + j * kLanes) / layout.group_size - first_group);
  }
  PackingTile(a, kc, load, panel, y, ldy, accumulate, ahead);
}

inline void GemmPackQuantRows(const float* a, size_t kc, const QuantLayout& layout, const uint8_t* const* rows, size_t column,
                              float* panel, float* y, size_t ldy, bool accumulate, PrefetchList* ahead) {
  if (layout.dtype == Dtype::kI8) {
    return GemmPackQuantRowsOf<Dtype::kI8>(a, kc, layout, rows, column, panel, y, ldy, accumulate, ahead);
  }
  return GemmPackQuantRowsOf<Dtype::kI4>(a, kc, layout, rows, column, panel, y, ldy, accumulate, ahead);
}
#endif  // HWY_TARGET == HWY_AVX3

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_QUANT_INL_H_
