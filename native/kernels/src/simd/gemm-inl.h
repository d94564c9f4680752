// Packed matrix product: A in tiles of kTileRows tokens [tiles][cells][kTileRows], B in panels [cells][kPanelColumns], in cells of
// the arithmetic (GemmKernels in kernel_table.h).
#ifndef NCHUNK_SIMD_GEMM_INL_H_
#define NCHUNK_SIMD_GEMM_INL_H_

#include "simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

// Tokens one micro-kernel keeps in registers: 8 x 3 accumulators need 32 vector registers, 4 x 3 fit in 16.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr size_t kMicroRows = 8;
#else
constexpr size_t kMicroRows = 4;
#endif

// What a cell holds and how vectors of cells are multiplied; reduced-gemm-inl.h has the other kind.
struct F32Cells {
  static constexpr size_t kChannels = 1;
  HWY_INLINE static V MulAdd(V a, V b, V sum) { return hn::MulAdd(a, b, sum); }
  // Vector j of cell k, given that load(k, j) is vector j of the f32 weights of channel k < kc.
  template <class Load>
  HWY_INLINE static const Load& From(const Load& load, size_t) {
    return load;
  }
};

template <class Cells>
HWY_INLINE size_t CellCount(size_t channels) {
  return (channels + Cells::kChannels - 1) / Cells::kChannels;
}

// Where a micro-kernel finds its A.
enum class A {
  kPacked,          // a[k * kTileRows + i]
  kPackedPrefetch,  // the same, and one line of `lines` is prefetched for each channel
  kRowMajor,        // a[i * a_step_row + k]
};

// One line for each channel of cell k.
template <class Cells>
HWY_INLINE void PrefetchLines(const uint8_t* const* lines, size_t k) {
#pragma GCC unroll 2
  for (size_t i = 0; i < Cells::kChannels; ++i) Prefetch(lines[k * Cells::kChannels + i]);
}

// c [kRows, kVectors * kLanes] (+)= a b, b [cells, kPanelColumns]; rows of b are b_step apart where a is not packed.
template <class Cells, size_t kRows, size_t kVectors, A kA>
HWY_NOINLINE void Micro(const float* HWY_RESTRICT a, size_t a_step_row, size_t cells, const float* HWY_RESTRICT b, size_t b_step,
                        float* HWY_RESTRICT c, size_t ldc, bool accumulate, const uint8_t* const* lines) {
  V sums[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 3
    for (size_t j = 0; j < kVectors; ++j) sums[i][j] = hn::Zero(df);
  }
  for (size_t k = 0; k < cells; ++k) {
    V row[kVectors];
#pragma GCC unroll 3
    for (size_t j = 0; j < kVectors; ++j) row[j] = hn::LoadU(df, b + j * kLanes);
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      const V value = Broadcast(kA == A::kRowMajor ? a[i * a_step_row] : a[i]);
#pragma GCC unroll 3
      for (size_t j = 0; j < kVectors; ++j) sums[i][j] = Cells::MulAdd(value, row[j], sums[i][j]);
    }
    if constexpr (kA == A::kPackedPrefetch) PrefetchLines<Cells>(lines, k);
    a += kA == A::kRowMajor ? 1 : kTileRows;
    b += kA == A::kRowMajor ? b_step : kPanelColumns;
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
    float* HWY_RESTRICT out = c + i * ldc;
#pragma GCC unroll 3
    for (size_t j = 0; j < kVectors; ++j) {
      const V sum = accumulate ? hn::LoadU(df, out + j * kLanes) + sums[i][j] : sums[i][j];
      hn::StoreU(sum, df, out + j * kLanes);
    }
  }
}

using MicroFunction = void (*)(const float*, size_t, size_t, const float*, size_t, float*, size_t, bool, const uint8_t* const*);

// [rows - 1][vectors - 1]
template <class Cells, A kA>
HWY_INLINE MicroFunction MicroFor(size_t rows, size_t vectors) {
#define NCHUNK_ROW(R) {Micro<Cells, R, 1, kA>, Micro<Cells, R, 2, kA>, Micro<Cells, R, 3, kA>}
  static constexpr MicroFunction kTable[kMicroRows][kPanelVectors] = {
      NCHUNK_ROW(1), NCHUNK_ROW(2), NCHUNK_ROW(3), NCHUNK_ROW(4),
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
      NCHUNK_ROW(5), NCHUNK_ROW(6), NCHUNK_ROW(7), NCHUNK_ROW(8),
#endif
  };
#undef NCHUNK_ROW
  return kTable[rows - 1][vectors - 1];
}

// One tile of at most kTileRows rows; c must have room for whole vectors.
template <A kA, class Cells = F32Cells>
HWY_INLINE void Tile(const float* a, size_t a_step_row, size_t rows, size_t cells, const float* b, size_t vectors, float* c,
                     size_t ldc, bool accumulate, const uint8_t* const* lines = nullptr, size_t b_step = kPanelColumns) {
  constexpr A kRest = kA == A::kPackedPrefetch ? A::kPacked : kA;
  const size_t first = rows < kMicroRows ? rows : kMicroRows;
  MicroFor<Cells, kA>(first, vectors)(a, a_step_row, cells, b, b_step, c, ldc, accumulate, lines);
  for (size_t i = kMicroRows; i < rows; i += kMicroRows) {
    const size_t count = rows - i < kMicroRows ? rows - i : kMicroRows;
    MicroFor<Cells, kRest>(count, vectors)(a + i * (kA == A::kRowMajor ? a_step_row : 1), a_step_row, cells, b, b_step,
                                           c + i * ldc, ldc, accumulate, nullptr);
  }
}

// Sums that products will be added to may be far away: a streamed product passes over all of them for every few blocks that land.
HWY_INLINE void PrefetchSums(const float* y, size_t rows, size_t columns, size_t ldy) {
  const size_t bytes = columns * sizeof(float);
  for (size_t i = 0; i < rows; ++i) {
    const uint8_t* row = reinterpret_cast<const uint8_t*>(y + i * ldy);
    for (size_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + b, 1, 3);
    __builtin_prefetch(row + bytes - 1, 1, 3);
  }
}

template <class Cells>
HWY_INLINE void PackedTile(const float* a, size_t rows, size_t cells, const float* b, size_t vectors, float* c, size_t ldc,
                           bool accumulate, PrefetchList* ahead) {
  const size_t lines = cells * Cells::kChannels;
  if (static_cast<size_t>(ahead->end - ahead->at) >= lines) {
    Tile<A::kPackedPrefetch, Cells>(a, 0, rows, cells, b, vectors, c, ldc, accumulate, ahead->at);
    ahead->at += lines;
    return;
  }
  for (; ahead->at != ahead->end; ++ahead->at) Prefetch(*ahead->at);
  Tile<A::kPacked, Cells>(a, 0, rows, cells, b, vectors, c, ldc, accumulate);
}

template <class Cells>
inline void GemmPanel(const float* a, size_t tokens, size_t kc, const float* panel, size_t columns, float* y, size_t ldy,
                      bool accumulate, PrefetchList* ahead) {
  const size_t vectors = (columns + kLanes - 1) / kLanes;
  const bool whole = columns == vectors * kLanes;
  const size_t cells = CellCount<Cells>(kc);
  alignas(64) float edge[kTileRows * kPanelColumns];
  if (accumulate) PrefetchSums(y, tokens < kTileRows ? tokens : kTileRows, columns, ldy);
  for (size_t t = 0; t < tokens; t += kTileRows, a += cells * kTileRows) {
    const size_t rows = tokens - t < kTileRows ? tokens - t : kTileRows;
    float* out = y + t * ldy;
    // A tile ahead: a short block is done before they come.
    const size_t after = tokens - t - rows;
    if (accumulate && after > 0) PrefetchSums(out + rows * ldy, after < kTileRows ? after : kTileRows, columns, ldy);
    if (whole) {
      PackedTile<Cells>(a, rows, cells, panel, vectors, out, ldy, accumulate, ahead);
      continue;
    }
    // Whole vectors do not fit beside the end of a row: through a tile of our own.
    PackedTile<Cells>(a, rows, cells, panel, vectors, edge, kPanelColumns, false, ahead);
    for (size_t i = 0; i < rows; ++i) {
      const float* from = edge + i * kPanelColumns;
      for (size_t j = 0; j < columns; ++j) out[i * ldy + j] = accumulate ? out[i * ldy + j] + from[j] : from[j];
    }
  }
}

inline double FmaLoop(size_t iterations, float* result) {
  constexpr size_t kSums = kMicroRows * kPanelVectors;
  const V a = Broadcast(*result), b = Broadcast(0.5f);
  V sums[kSums];
#pragma GCC unroll 24
  for (size_t i = 0; i < kSums; ++i) sums[i] = Broadcast(static_cast<float>(i));
  for (size_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 24
    for (size_t i = 0; i < kSums; ++i) sums[i] = hn::MulAdd(a, b, sums[i]);
  }
  V all = sums[0];
#pragma GCC unroll 24
  for (size_t i = 1; i < kSums; ++i) all = all + sums[i];
  *result = Sum(all);
  return 2.0 * static_cast<double>(kLanes * kSums) * static_cast<double>(iterations);
}

// ---- packing

// Rows ahead for which cache lines are asked for while a panel is packed: rows lie far apart (no hardware prefetch).
constexpr size_t kPackAheadRows = 16;

// Micro<Cells, kMicroRows, kPanelVectors> that takes vector j of cell k from load(k, j) and leaves it in the panel.
template <class Cells, bool kPrefetch, class Load>
HWY_INLINE void PackingMicro(const float* HWY_RESTRICT a, size_t cells, const Load& load, float* HWY_RESTRICT panel,
                             float* HWY_RESTRICT c, size_t ldc, bool accumulate, const uint8_t* const* lines) {
  V sums[kMicroRows][kPanelVectors];
#pragma GCC unroll 8
  for (size_t i = 0; i < kMicroRows; ++i) {
#pragma GCC unroll 3
    for (size_t j = 0; j < kPanelVectors; ++j) sums[i][j] = hn::Zero(df);
  }
  for (size_t k = 0; k < cells; ++k) {
    load.Ahead(k);
    V row[kPanelVectors];
#pragma GCC unroll 3
    for (size_t j = 0; j < kPanelVectors; ++j) {
      row[j] = load(k, j);
      hn::StoreU(row[j], df, panel + j * kLanes);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < kMicroRows; ++i) {
      const V value = Broadcast(a[i]);
#pragma GCC unroll 3
      for (size_t j = 0; j < kPanelVectors; ++j) sums[i][j] = Cells::MulAdd(value, row[j], sums[i][j]);
    }
    if constexpr (kPrefetch) PrefetchLines<Cells>(lines, k);
    a += kTileRows;
    panel += kPanelColumns;
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kMicroRows; ++i) {
    float* HWY_RESTRICT out = c + i * ldc;
#pragma GCC unroll 3
    for (size_t j = 0; j < kPanelVectors; ++j) {
      const V sum = accumulate ? hn::LoadU(df, out + j * kLanes) + sums[i][j] : sums[i][j];
      hn::StoreU(sum, df, out + j * kLanes);
    }
  }
}

// The first tile and the panel; see gemm_pack_rows.
template <class Cells, class Load>
HWY_INLINE void PackingTile(const float* a, size_t cells, const Load& load, float* panel, float* y, size_t ldy, bool accumulate,
                            PrefetchList* ahead) {
  const size_t lines = cells * Cells::kChannels;
  if (accumulate) PrefetchSums(y, kTileRows, kPanelColumns, ldy);
  if (static_cast<size_t>(ahead->end - ahead->at) >= lines) {
    PackingMicro<Cells, true>(a, cells, load, panel, y, ldy, accumulate, ahead->at);
    ahead->at += lines;
  } else {
    for (; ahead->at != ahead->end; ++ahead->at) Prefetch(*ahead->at);
    PackingMicro<Cells, false>(a, cells, load, panel, y, ldy, accumulate, nullptr);
  }
  for (size_t i = kMicroRows; i < kTileRows; i += kMicroRows) {
    MicroFor<Cells, A::kPacked>(kMicroRows, kPanelVectors)(a + i, 0, cells, panel, kPanelColumns, y + i * ldy, ldy, accumulate,
                                                           nullptr);
  }
}

template <Dtype kDtype>
struct RowLoad {
  const uint8_t* const* rows;
  size_t kc;
  size_t column_bytes;

  HWY_INLINE void Ahead(size_t k) const {
    const uint8_t* from = rows[k + kPackAheadRows < kc ? k + kPackAheadRows : kc - 1] + column_bytes;
    constexpr size_t kBytes = kPanelColumns * ElementBytes(kDtype);
    for (size_t b = 0; b < kBytes; b += 64) __builtin_prefetch(from + b, 0, 3);
    __builtin_prefetch(from + kBytes - 1, 0, 3);
  }
  HWY_INLINE V operator()(size_t k, size_t j) const {
    return LoadWeights<kDtype>(rows[k] + column_bytes + j * kLanes * ElementBytes(kDtype));
  }
};

template <class Cells, Dtype kDtype>
HWY_INLINE void GemmPackRowsOf(const float* a, size_t kc, const uint8_t* const* rows, size_t column_bytes, float* panel, float* y,
                               size_t ldy, bool accumulate, PrefetchList* ahead) {
  const RowLoad<kDtype> load{rows, kc, column_bytes};
  PackingTile<Cells>(a, CellCount<Cells>(kc), Cells::From(load, kc), panel, y, ldy, accumulate, ahead);
}

template <class Cells>
inline void GemmPackRows(const float* a, size_t kc, const uint8_t* const* rows, size_t column_bytes, Dtype dtype, float* panel,
                         float* y, size_t ldy, bool accumulate, PrefetchList* ahead) {
  switch (dtype) {
    case Dtype::kF32:
      return GemmPackRowsOf<Cells, Dtype::kF32>(a, kc, rows, column_bytes, panel, y, ldy, accumulate, ahead);
    case Dtype::kBF16:
      return GemmPackRowsOf<Cells, Dtype::kBF16>(a, kc, rows, column_bytes, panel, y, ldy, accumulate, ahead);
    case Dtype::kF16:
      return GemmPackRowsOf<Cells, Dtype::kF16>(a, kc, rows, column_bytes, panel, y, ldy, accumulate, ahead);
    default: return;  // quant-pack-inl.h has the quantised ones
  }
}

template <Dtype kDtype>
HWY_INLINE void WidenOf(const uint8_t* HWY_RESTRICT from, size_t count, float* HWY_RESTRICT to) {
  constexpr size_t kBytes = ElementBytes(kDtype);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(LoadWeights<kDtype>(from + i * kBytes), df, to + i);
  if (i < count) StoreTail(LoadWeightsTail<kDtype>(from + i * kBytes, count - i), to + i, count - i);
}

template <Dtype kDtype>
HWY_INLINE void PackRowsOf(const uint8_t* const* rows, size_t kc, size_t column_bytes, size_t columns,
                           float* HWY_RESTRICT panel) {
  constexpr size_t kVectorBytes = kLanes * ElementBytes(kDtype);
  const size_t bytes = columns * ElementBytes(kDtype);
  for (size_t k = 0; k < kc; ++k, panel += kPanelColumns) {
    if (k + kPackAheadRows < kc) {
      const uint8_t* ahead = rows[k + kPackAheadRows] + column_bytes;
      for (size_t b = 0; b < bytes; b += 64) Prefetch(ahead + b);
      Prefetch(ahead + bytes - 1);
    }
    const uint8_t* row = rows[k] + column_bytes;
    if (HWY_LIKELY(columns == kPanelColumns)) {
#pragma GCC unroll 3
      for (size_t j = 0; j < kPanelVectors; ++j) {
        hn::StoreU(LoadWeights<kDtype>(row + j * kVectorBytes), df, panel + j * kLanes);
      }
      continue;
    }
    WidenOf<kDtype>(row, columns, panel);
    for (size_t j = columns; j < kPanelColumns; ++j) panel[j] = 0.0f;
  }
}

inline void PackRows(const uint8_t* const* rows, size_t kc, size_t column_bytes, Dtype dtype, size_t columns, float* panel) {
  switch (dtype) {
    case Dtype::kF32: return PackRowsOf<Dtype::kF32>(rows, kc, column_bytes, columns, panel);
    case Dtype::kBF16: return PackRowsOf<Dtype::kBF16>(rows, kc, column_bytes, columns, panel);
    case Dtype::kF16: return PackRowsOf<Dtype::kF16>(rows, kc, column_bytes, columns, panel);
    default: return;  // quant-inl.h has the quantised ones
  }
}

inline void Widen(const uint8_t* from, Dtype dtype, size_t count, float* to) {
  switch (dtype) {
    case Dtype::kF32: return WidenOf<Dtype::kF32>(from, count, to);
    case Dtype::kBF16: return WidenOf<Dtype::kBF16>(from, count, to);
    case Dtype::kF16: return WidenOf<Dtype::kF16>(from, count, to);
    default: return;  // quant-inl.h has the quantised ones
  }
}

// Lane j of out[k] is from[j * stride + k], k < 4.
HWY_INLINE void TransposedFour(const float* HWY_RESTRICT from, size_t stride, V* HWY_RESTRICT out) {
  // 128-bit block b of vector i holds row 4 b + i, so a 4 x 4 transpose inside the blocks leaves lane j = row j.
  const hn::Full128<float> d128;
  V in[4];
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) {
#if HWY_MAX_BYTES == 64
    const hn::Full256<float> d256;
    const auto low = hn::Combine(d256, hn::LoadU(d128, from + (4 + i) * stride), hn::LoadU(d128, from + i * stride));
    const auto high = hn::Combine(d256, hn::LoadU(d128, from + (12 + i) * stride), hn::LoadU(d128, from + (8 + i) * stride));
    in[i] = hn::Combine(df, high, low);
#elif HWY_MAX_BYTES == 32
    in[i] = hn::Combine(df, hn::LoadU(d128, from + (4 + i) * stride), hn::LoadU(d128, from + i * stride));
#else
    in[i] = hn::LoadU(d128, from + i * stride);
#endif
  }
  const hn::Repartition<double, DF> d64;
  const auto a = hn::BitCast(d64, hn::InterleaveLower(df, in[0], in[1]));
  const auto b = hn::BitCast(d64, hn::InterleaveLower(df, in[2], in[3]));
  const auto c = hn::BitCast(d64, hn::InterleaveUpper(df, in[0], in[1]));
  const auto d = hn::BitCast(d64, hn::InterleaveUpper(df, in[2], in[3]));
  out[0] = hn::BitCast(df, hn::InterleaveLower(d64, a, b));
  out[1] = hn::BitCast(df, hn::InterleaveUpper(d64, a, b));
  out[2] = hn::BitCast(df, hn::InterleaveLower(d64, c, d));
  out[3] = hn::BitCast(df, hn::InterleaveUpper(d64, c, d));
}

// Transposes kLanes rows of 4 floats: to[k * kPanelColumns + j] = from[j * stride + k], k < 4, j < kLanes.
HWY_INLINE void TransposeFour(const float* HWY_RESTRICT from, size_t stride, float* HWY_RESTRICT to) {
  V out[4];
  TransposedFour(from, stride, out);
#pragma GCC unroll 4
  for (size_t k = 0; k < 4; ++k) hn::StoreU(out[k], df, to + k * kPanelColumns);
}

// panel [kc, kPanelColumns] from `columns` rows of kc floats, `stride` floats apart; zeros beyond `columns`.
inline void TransposeIntoPanel(const float* HWY_RESTRICT from, size_t stride, size_t kc, size_t columns,
                               float* HWY_RESTRICT panel) {
  size_t j = 0;
  for (; j + kLanes <= columns; j += kLanes) {
    const float* rows = from + j * stride;
    size_t k = 0;
    for (; k + 4 <= kc; k += 4) TransposeFour(rows + k, stride, panel + k * kPanelColumns + j);
    for (; k < kc; ++k) {
      for (size_t i = 0; i < kLanes; ++i) panel[k * kPanelColumns + j + i] = rows[i * stride + k];
    }
  }
  if (j == kPanelColumns) return;
  for (size_t k = 0; k < kc; ++k) {
    for (size_t i = j; i < kPanelColumns; ++i) {
      panel[k * kPanelColumns + i] = i < columns ? from[i * stride + k] : 0.0f;
    }
  }
}

// row_cells(weight, dtype, count, cells): the cells of `count` neighbouring channels of one column.
template <class Cells, class RowCells>
HWY_INLINE void PackTransposedAs(const RowCells& row_cells, const uint8_t* weight, size_t row_stride_bytes, Dtype dtype, size_t kc,
                                 size_t columns, float* panel) {
  // A few cells at a time, so that the rows being transposed stay in the first cache level.
  constexpr size_t kStep = 64;
  constexpr size_t kStepChannels = kStep * Cells::kChannels;
  alignas(64) float rows[kPanelColumns * kStep];
  for (size_t k = 0; k < kc; k += kStepChannels, panel += kStep * kPanelColumns) {
    const size_t count = kc - k < kStepChannels ? kc - k : kStepChannels;
    for (size_t j = 0; j < columns; ++j) {
      row_cells(weight + j * row_stride_bytes + k * ElementBytes(dtype), dtype, count, rows + j * kStep);
    }
    TransposeIntoPanel(rows, kStep, CellCount<Cells>(count), columns, panel);
  }
}

inline void PackTransposed(const uint8_t* weight, size_t row_stride_bytes, Dtype dtype, size_t kc, size_t columns,
                           float* panel) {
  PackTransposedAs<F32Cells>(Widen, weight, row_stride_bytes, dtype, kc, columns, panel);
}

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_GEMM_INL_H_
