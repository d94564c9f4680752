// The packed product on pairs of bf16: GemmKernels for Arithmetic::kReduced, on the instructions of the including target. Whatever is
// not inlined has internal linkage: the namespace is that of the base target (test/check_target_symbols.sh).
#ifndef NCHUNK_SIMD_REDUCED_GEMM_INL_H_
#define NCHUNK_SIMD_REDUCED_GEMM_INL_H_

#include "simd/gemm-inl.h"
#include "simd/quant-pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {
namespace {

// What an instruction set has to say. A pair's first element is the low half of its cell; rounding is to nearest, ties to even.
#if HWY_TARGET == HWY_AVX3

const GemmKernels& BaseGemm() { return Avx512Kernels()->gemm; }

HWY_INLINE V AddDots(V a, V b, V sum) { return V{_mm512_dpbf16_ps(sum.raw, (__m512bh)a.raw, (__m512bh)b.raw)}; }

// 2 kLanes elements in order.
HWY_INLINE V Round(V first, V second) { return V{(__m512)_mm512_cvtne2ps_pbh(second.raw, first.raw)}; }

// Cell i is lane i of both.
HWY_INLINE V RoundPairs(V first, V second) {
  alignas(64) static constexpr uint16_t kInterleave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                           8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i rounded = _mm512_castps_si512(Round(first, second).raw);
  return V{_mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), rounded))};
}

// The same of kLanes bf16 each, from any address.
HWY_INLINE V PairsOfBf16(const uint8_t* first, const uint8_t* second) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first)));
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)));
  return V{_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
}

#else  // HWY_NEON with the bf16 extension

const GemmKernels& BaseGemm() { return NeonKernels()->gemm; }

HWY_INLINE V AddDots(V a, V b, V sum) {
  return V{vbfdotq_f32(sum.raw, vreinterpretq_bf16_f32(a.raw), vreinterpretq_bf16_f32(b.raw))};
}

HWY_INLINE V Round(V first, V second) {
  return V{vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(first.raw), second.raw))};
}

HWY_INLINE V Interleave(uint16x4_t first, uint16x4_t second) {
  const uint16x4x2_t pairs = vzip_u16(first, second);
  return V{vreinterpretq_f32_u16(vcombine_u16(pairs.val[0], pairs.val[1]))};
}

HWY_INLINE V RoundPairs(V first, V second) {
  return Interleave(vreinterpret_u16_bf16(vcvt_bf16_f32(first.raw)), vreinterpret_u16_bf16(vcvt_bf16_f32(second.raw)));
}

HWY_INLINE V PairsOfBf16(const uint8_t* first, const uint8_t* second) {
  return Interleave(vreinterpret_u16_u8(vld1_u8(first)), vreinterpret_u16_u8(vld1_u8(second)));
}

#endif

// Weights in pairs of channels (GemmPackRows and its like).
struct Bf16Cells {
  static constexpr size_t kChannels = 2;
  HWY_INLINE static V MulAdd(V a, V b, V sum) { return AddDots(a, b, sum); }

  template <class Load>
  struct Pairs {
    Load load;
    size_t kc;

    HWY_INLINE void Ahead(size_t k) const {
      load.Ahead(2 * k);
      load.Ahead(2 * k + 1);
    }
    HWY_INLINE V operator()(size_t k, size_t j) const {
      return RoundPairs(load(2 * k, j), 2 * k + 1 < kc ? load(2 * k + 1, j) : hn::Zero(df));
    }
  };

  struct Bf16Pairs : Pairs<RowLoad<Dtype::kBF16>> {
    HWY_INLINE V operator()(size_t k, size_t j) const {
      if (HWY_UNLIKELY(2 * k + 1 == kc)) return Pairs::operator()(k, j);
      const size_t at = load.column_bytes + j * kLanes * ElementBytes(Dtype::kBF16);
      return PairsOfBf16(load.rows[2 * k] + at, load.rows[2 * k + 1] + at);
    }
  };

  template <class Load>
  HWY_INLINE static Pairs<Load> From(const Load& load, size_t kc) {
    return {load, kc};
  }
  HWY_INLINE static Bf16Pairs From(const RowLoad<Dtype::kBF16>& load, size_t kc) { return {{load, kc}}; }
};

// to [columns] = the pairs of two rows of floats; `columns` is whole vectors.
HWY_INLINE void RoundRowPair(const float* first, const float* second, size_t columns, float* to) {
  for (size_t j = 0; j < columns; j += kLanes) {
    hn::StoreU(RoundPairs(hn::LoadU(df, first + j), hn::LoadU(df, second + j)), df, to + j);
  }
}

void RoundTile(float* tile, size_t kc, float* packed) {
  for (size_t i = 0; i < kTileRows; ++i) tile[kc * kTileRows + i] = 0.0f;
  size_t k = 0;
#if HWY_TARGET == HWY_AVX3
  // A vector is two rows of the tile.
  const hn::Half<DF> half;
  for (; k + 2 < kc; k += 4, tile += 4 * kTileRows, packed += 2 * kTileRows) {
    const V first = hn::Combine(df, hn::LoadU(half, tile + 2 * kTileRows), hn::LoadU(half, tile));
    const V second = hn::Combine(df, hn::LoadU(half, tile + 3 * kTileRows), hn::LoadU(half, tile + kTileRows));
    hn::StoreU(RoundPairs(first, second), df, packed);
  }
  if (k < kc) {
    const V first = hn::ZeroExtendVector(df, hn::LoadU(half, tile));
    const V second = hn::ZeroExtendVector(df, hn::LoadU(half, tile + kTileRows));
    hn::StoreU(hn::LowerHalf(half, RoundPairs(first, second)), half, packed);
  }
#else
  for (; k < kc; k += 2, tile += 2 * kTileRows, packed += kTileRows) RoundRowPair(tile, tile + kTileRows, kTileRows, packed);
#endif
}

// ---- packing apart from the multiplication, of what the fused kernels leave: through a few rows of f32

// A multiple of the channels of a cell.
constexpr size_t kRoundRows = 16;

// f32 [rows, kPanelColumns] into cells; there is room for a further row of `from`.
HWY_INLINE void RoundPanel(float* from, size_t rows, float* panel) {
  for (size_t j = 0; j < kPanelColumns; ++j) from[rows * kPanelColumns + j] = 0.0f;
  for (size_t k = 0; k < rows; k += 2, from += 2 * kPanelColumns, panel += kPanelColumns) {
    RoundRowPair(from, from + kPanelColumns, kPanelColumns, panel);
  }
}

void PackRoundedRows(const uint8_t* const* rows, size_t kc, size_t column_bytes, Dtype dtype, size_t columns, float* panel) {
  alignas(64) float wide[(kRoundRows + 1) * kPanelColumns];
  for (size_t k = 0; k < kc; k += kRoundRows, panel += kRoundRows / 2 * kPanelColumns) {
    const size_t count = kc - k < kRoundRows ? kc - k : kRoundRows;
    BaseGemm().pack_rows(rows + k, count, column_bytes, dtype, columns, wide);
    RoundPanel(wide, count, panel);
  }
}

void PackRoundedQuantRows(const QuantLayout& layout, const uint8_t* const* rows, size_t kc, size_t column, size_t columns,
                          float* panels, size_t panel_stride) {
  constexpr size_t kWideStride = (kRoundRows + 1) * kPanelColumns;
  alignas(64) float wide[kMaxPanelsTogether * kWideStride];
  for (size_t k = 0; k < kc; k += kRoundRows, panels += kRoundRows / 2 * kPanelColumns) {
    const size_t count = kc - k < kRoundRows ? kc - k : kRoundRows;
    BaseGemm().pack_quant_rows(layout, rows + k, count, column, columns, wide, kWideStride);
    for (size_t p = 0; p * kPanelColumns < columns; ++p) RoundPanel(wide + p * kWideStride, count, panels + p * panel_stride);
  }
}

template <Dtype kDtype>
HWY_INLINE void RoundRow(const uint8_t* weight, size_t count, float* cells) {
  constexpr size_t kBytes = ElementBytes(kDtype);
  for (size_t i = 0; i < count; i += 2 * kLanes, cells += kLanes) {
    alignas(64) uint8_t buffer[2 * kLanes * kBytes];
    const uint8_t* from = weight + i * kBytes;
    if (count - i < 2 * kLanes) {
      memset(buffer, 0, sizeof(buffer));
      memcpy(buffer, from, (count - i) * kBytes);
      from = buffer;
    }
    hn::StoreU(Round(LoadWeights<kDtype>(from), LoadWeights<kDtype>(from + kLanes * kBytes)), df, cells);
  }
}

// The cells of neighbouring channels of one column, filled up to whole vectors.
HWY_INLINE void RoundRowOf(const uint8_t* weight, Dtype dtype, size_t count, float* cells) {
  switch (dtype) {
    case Dtype::kF32: return RoundRow<Dtype::kF32>(weight, count, cells);
    case Dtype::kF16: return RoundRow<Dtype::kF16>(weight, count, cells);
    default:  // bf16
      if (count % 2 != 0) cells[count / 2] = 0.0f;
      memcpy(cells, weight, count * ElementBytes(Dtype::kBF16));
  }
}

void PackRoundedTransposed(const uint8_t* weight, size_t row_stride_bytes, Dtype dtype, size_t kc, size_t columns, float* panel) {
  const bool in_cells = dtype == Dtype::kBF16 && kc % 2 == 0 && row_stride_bytes % sizeof(float) == 0 &&
                        reinterpret_cast<uintptr_t>(weight) % sizeof(float) == 0;
  if (in_cells) {
    return TransposeIntoPanel(reinterpret_cast<const float*>(weight), row_stride_bytes / sizeof(float), kc / 2, columns, panel);
  }
  PackTransposedAs<Bf16Cells>(RoundRowOf, weight, row_stride_bytes, dtype, kc, columns, panel);
}

constexpr GemmKernels MakeBf16Gemm() {
  return GemmKernels{
      .name = "bf16-dot",
      .panel_columns = kPanelColumns,
      .cell_channels = Bf16Cells::kChannels,
      .round_tile = RoundTile,
      .pack_rows = PackRoundedRows,
      .pack_transposed = PackRoundedTransposed,
      .pack_quant_rows = PackRoundedQuantRows,
      .gemm_panel = GemmPanel<Bf16Cells>,
      .gemm_pack_rows = GemmPackRows<Bf16Cells>,
#if HWY_TARGET == HWY_AVX3
      .gemm_pack_quant_rows = GemmPackQuantRows<Bf16Cells>,
#else
      .gemm_pack_quant_rows = nullptr,  // scales of a few columns are slow to widen there
#endif
  };
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_REDUCED_GEMM_INL_H_
