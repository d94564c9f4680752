// Weight rows that lie anywhere in memory, as the blocked product takes them.
#ifndef NCHUNK_ROW_PANELS_H_
#define NCHUNK_ROW_PANELS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "gemm.h"
#include "kernel_table.h"

namespace nchunk {

// Of products with rows: from this many tokens on, widening the weights once into packed panels pays.
constexpr size_t kGemmTokens = 5;

// What multiplies rows with many tokens. A tile of tokens that is not full has its panels packed apart from the multiplication:
// rounding them then costs more than it saves.
inline const GemmKernels& RowGemm(const KernelTable& table, Arithmetic arithmetic, size_t tokens) {
  return table.GemmFor(tokens >= kTileRows ? arithmetic : Arithmetic::kF32);
}

// Row i holds the weights of input channel channels[i] and starts at pointers[i].
struct RowList {
  const uint8_t** pointers;
  uint32_t* channels;
  size_t count;
};

inline QuantLayout QuantLayoutOf(Dtype dtype, size_t n, size_t group_size) {
  return {dtype, group_size, ScalesOffsetBytes(dtype, n), RowBytes(dtype, n, group_size)};
}

// The operands of y = x[:, channels] W[rows, :] (see BlockedGemm).
struct RowPanels {
  const GemmKernels& gemm;
  const RowList& rows;
  QuantLayout layout;
  const float* x;  // [tokens, k]
  size_t tokens;
  size_t k;
  size_t n;

  bool quantised() const { return IsQuantised(layout.dtype); }

  void PackA(size_t token, size_t k0, size_t kc, float* out) const {
    const float* from[kTileRows];
    const size_t live = std::min(kTileRows, tokens - token);
    for (size_t i = 0; i < live; ++i) from[i] = x + (token + i) * k;
    for (size_t i = live; i < kTileRows; ++i) from[i] = from[0];  // its products are not stored
    for (size_t c = 0; c < kc; ++c, out += kTileRows) {
      const size_t channel = rows.channels[k0 + c];
      for (size_t i = 0; i < kTileRows; ++i) out[i] = from[i][channel];
    }
  }

  void PackB(size_t k0, size_t kc, size_t column, size_t columns, float* panels) const {
    if (quantised()) {
      gemm.pack_quant_rows(layout, rows.pointers + k0, kc, column, columns, panels, gemm.Cells(kc) * gemm.panel_columns);
      return;
    }
    for (size_t c = 0; c < columns; c += gemm.panel_columns) {
      gemm.pack_rows(rows.pointers + k0, kc, (column + c) * ElementBytes(layout.dtype), layout.dtype,
                      std::min(gemm.panel_columns, columns - c), panels + c * gemm.Cells(kc));
    }
  }

  size_t LinesB(size_t k0, size_t kc, size_t column, size_t columns, const uint8_t** list) const {
    const uint8_t** end = list;
    const size_t element_bytes = ElementBytes(layout.dtype);
    const size_t from = quantised() ? QuantBytes(layout.dtype, column) : column * element_bytes;
    const size_t bytes = quantised() ? QuantBytes(layout.dtype, columns) : columns * element_bytes;
    const size_t scale = quantised() ? layout.scales_offset_bytes + 2 * (column / layout.group_size) : 0;
    for (size_t i = k0; i < k0 + kc; ++i) {
      const uint8_t* row = rows.pointers[i] + from;
      for (size_t b = 0; b < bytes; b += 64) *end++ = row + b;
      *end++ = row + bytes - 1;
      if (quantised()) *end++ = rows.pointers[i] + scale;
    }
    return static_cast<size_t>(end - list);
  }

  bool has_first_tile() const { return !quantised() || gemm.gemm_pack_quant_rows != nullptr; }

  void FirstTile(size_t k0, size_t kc, size_t column, float* panel, const float* a, float* y, bool accumulate,
                 PrefetchList* ahead) const {
    const uint8_t* const* from = rows.pointers + k0;
    if (quantised()) {
      gemm.gemm_pack_quant_rows(a, kc, layout, from, column, panel, y, n, accumulate, ahead);
    } else {
      gemm.gemm_pack_rows(a, kc, from, column * ElementBytes(layout.dtype), layout.dtype, panel, y, n, accumulate, ahead);
    }
  }
};

}  // namespace nchunk

#endif  // NCHUNK_ROW_PANELS_H_
