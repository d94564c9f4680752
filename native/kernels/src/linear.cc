// y = activation(x W^T + bias) for weights as Hugging Face stores them, [n, k].
#include <algorithm>
#include <cstring>

#include "gemm.h"
#include "kernel_table.h"
#include "scratch.h"
#include "thread_pool.h"

namespace nchunk {
namespace {

// Below, dot products straight from the weights; from here on, packed panels.
constexpr size_t kGemmTokens = 6;
// Weight bytes one item of a product with few tokens covers; they stay in cache from token to token.
constexpr size_t kItemBytes = 128 * 1024;

void FewTokens(const KernelTable& table, const LinearArgs& args) {
  const size_t row_bytes = args.k * ElementBytes(args.dtype);
  const size_t item_rows = std::max<size_t>(4, kItemBytes / std::max<size_t>(1, row_bytes) / 4 * 4);
  ThreadPool::Instance().ParallelFor((args.n + item_rows - 1) / item_rows, [&](size_t item) {
    const size_t row = item * item_rows;
    const size_t rows = std::min(item_rows, args.n - row);
    for (size_t t = 0; t < args.tokens; ++t) {
      table.dot_rows(args.x + t * args.k, args.k, args.weight + row * row_bytes, args.dtype, rows,
                     args.y + t * args.n + row);
    }
    table.epilogue(args.y + row, args.n, args.tokens, rows, args.bias == nullptr ? nullptr : args.bias + row,
                   args.activation);
  });
}

// The operands of the blocked product (see BlockedGemm).
struct TransposedPanels {
  const GemmKernels& gemm;
  const LinearArgs& args;

  size_t element_bytes() const { return ElementBytes(args.dtype); }

  void PackA(size_t token, size_t k0, size_t kc, float* out) const {
    for (size_t i = 0; i < kTileRows; ++i) {
      const float* x = args.x + (token + i) * args.k + k0;
      const bool live = token + i < args.tokens;
      for (size_t k = 0; k < kc; ++k) out[k * kTileRows + i] = live ? x[k] : 0.0f;
    }
  }

  void PackB(size_t k0, size_t kc, size_t column, size_t columns, float* panels) const {
    for (size_t c = 0; c < columns; c += gemm.panel_columns) {
      gemm.pack_transposed(args.weight + ((column + c) * args.k + k0) * element_bytes(), args.k * element_bytes(), args.dtype, kc,
                           std::min(gemm.panel_columns, columns - c), panels + c * gemm.Cells(kc));
    }
  }

  size_t LinesB(size_t k0, size_t kc, size_t column, size_t columns, const uint8_t** list) const {
    const uint8_t** end = list;
    for (size_t j = column; j < column + columns; ++j) {
      const uint8_t* row = args.weight + (j * args.k + k0) * element_bytes();
      for (size_t b = 0; b < kc * element_bytes(); b += 64) *end++ = row + b;
    }
    return static_cast<size_t>(end - list);
  }

  // Weights are packed apart from the multiplication.
  static constexpr bool has_first_tile() { return false; }
  void FirstTile(size_t, size_t, size_t, float*, const float*, float*, bool, PrefetchList*) const {}
};

void ManyTokens(const KernelTable& table, const LinearArgs& args) {
  ScratchLease scratch;
  const GemmShape shape{args.tokens, args.k, args.n, args.y, false, args.bias, args.activation};
  const GemmKernels& gemm = table.GemmFor(args.arithmetic);
  BlockedGemm(table, gemm, shape, scratch->packed, TransposedPanels{gemm, args});
}

}  // namespace

void Linear(const LinearArgs& args) {
  if (args.tokens == 0 || args.n == 0) return;
  if (args.k == 0) {
    std::memset(args.y, 0, args.tokens * args.n * sizeof(float));
    Kernels().epilogue(args.y, args.n, args.tokens, args.n, args.bias, args.activation);
  } else if (args.tokens < kGemmTokens) {
    FewTokens(Kernels(), args);
  } else {
    ManyTokens(Kernels(), args);
  }
}

}  // namespace nchunk
