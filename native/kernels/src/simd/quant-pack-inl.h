// Panels of int8 and int4 rows for products with more tokens: quants widened to f32 times the group's scale.
#ifndef NCHUNK_SIMD_QUANT_PACK_INL_H_
#define NCHUNK_SIMD_QUANT_PACK_INL_H_

#include "simd/gemm-inl.h"
#include "simd/quant-inl.h"
#include "simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

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

template <class Cells, Dtype kDtype>
HWY_INLINE void GemmPackQuantRowsOf(const float* a, size_t kc, const QuantLayout& layout, const uint8_t* const* rows,
                                    size_t column, float* panel, float* y, size_t ldy, bool accumulate,
                                    PrefetchList* ahead) {
  alignas(64) float scales[kBlockCells * Cells::kChannels * kPanelGroups];
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
  PackingTile<Cells>(a, CellCount<Cells>(kc), Cells::From(load, kc), panel, y, ldy, accumulate, ahead);
}

template <class Cells>
inline void GemmPackQuantRows(const float* a, size_t kc, const QuantLayout& layout, const uint8_t* const* rows, size_t column,
                              float* panel, float* y, size_t ldy, bool accumulate, PrefetchList* ahead) {
  if (layout.dtype == Dtype::kI8) {
    return GemmPackQuantRowsOf<Cells, Dtype::kI8>(a, kc, layout, rows, column, panel, y, ldy, accumulate, ahead);
  }
  return GemmPackQuantRowsOf<Cells, Dtype::kI4>(a, kc, layout, rows, column, panel, y, ldy, accumulate, ahead);
}
#endif  // HWY_TARGET == HWY_AVX3

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_QUANT_PACK_INL_H_
