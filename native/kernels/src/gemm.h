// The blocked product that both weight layouts share: packs A once, then works through panels of B in parallel.
#ifndef NCHUNK_GEMM_H_
#define NCHUNK_GEMM_H_

#include <algorithm>
#include <cstddef>

#include "kernel_table.h"
#include "scratch.h"
#include "thread_pool.h"

namespace nchunk {

// Tokens whose packed A is kept at once: a block of channels of it then fits the second-level cache.
constexpr size_t kBlockTokens = 1024;
constexpr size_t kPanelsTogether = kMaxPanelsTogether;

// Cache lines of a block of channels of kPanelsTogether panels: f32 in the widest panels (48 columns), one line of slack a row.
constexpr size_t kMaxLines = kBlockCells * kMaxCellChannels * (kPanelsTogether * 48 * 4 / 64 + 1);

struct GemmShape {
  size_t tokens;
  size_t k;
  size_t n;
  float* y;  // [tokens, n]
  bool accumulate;
  const float* bias;
  Activation activation;
};

inline size_t RoundUp(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Panels of one work item and token ranges: enough items for every thread, whole cache lines where it can be had. Does not
// change results: every output sums its channels in the same order.
struct GemmSplit {
  size_t columns;  // per item
  size_t column_items;
  size_t tokens;  // per item, whole tiles
  size_t token_items;
};

inline GemmSplit SplitGemm(size_t tokens, size_t n, size_t panel, size_t threads) {
  const size_t wanted = threads == 1 ? 1 : 4 * threads;
  GemmSplit split{panel * kPanelsTogether, 0, RoundUp(tokens, kTileRows), 1};
  while (split.columns > panel && (n + split.columns - 1) / split.columns < wanted) split.columns /= 2;
  split.columns = RoundUp(split.columns, panel);
  split.column_items = (n + split.columns - 1) / split.columns;
  constexpr size_t kFewestTokens = 64;  // below, packing the panel twice costs more than idle threads
  while (split.column_items * split.token_items < wanted && split.tokens >= 2 * kFewestTokens) {
    split.tokens = RoundUp(split.tokens / 2, kTileRows);
    split.token_items = (tokens + split.tokens - 1) / split.tokens;
  }
  return split;
}

// A [tokens, k] packed by blocks of channels, each [tiles][cells][kTileRows].
struct PackedA {
  float* data;
  size_t padded_tokens;

  // Where block number `block`, which starts at channel k0, begins in cells of a column: leaves room for every block before it to be
  // filled up to whole cells, whether it has to be or not, so that no block needs to know how the others were cut.
  static size_t CellsBefore(const GemmKernels& gemm, size_t block, size_t k0) {
    return (k0 + block * (gemm.cell_channels - 1)) / gemm.cell_channels;
  }
  // Floats that `blocks` blocks of k channels take.
  static size_t Floats(const GemmKernels& gemm, size_t tokens, size_t k, size_t blocks) {
    return RoundUp(tokens, kTileRows) * CellsBefore(gemm, blocks, k);
  }
  // Block number `block` is channels [k0, k0 + kc).
  float* At(const GemmKernels& gemm, size_t block, size_t k0, size_t kc, size_t token) const {
    return data + CellsBefore(gemm, block, k0) * padded_tokens + token * gemm.Cells(kc);
  }
};

// Packs the tile of tokens from `token` on, channels [k0, k0 + kc). `in`: see BlockedGemm.
template <class Operands>
void PackTile(const GemmKernels& gemm, const Operands& in, size_t token, size_t k0, size_t kc, float* out) {
  if (gemm.round_tile == nullptr) return in.PackA(token, k0, kc, out);
  alignas(64) float tile[(kBlockCells * kMaxCellChannels + 1) * kTileRows];
  in.PackA(token, k0, kc, tile);
  gemm.round_tile(tile, kc, out);
}

// Of y, what one work item computes: `count` tokens from packed token t0 on; y is its first element.
struct GemmTile {
  size_t t0;
  size_t count;
  size_t column;
  size_t columns;
  float* y;
};

// Where the same thread will probably go on: the first weights of that come in while the last ones here are multiplied. Without
// columns: nowhere.
struct GemmNext {
  size_t block;
  size_t column;
  size_t columns;
};

// One thread: tile (+)= A B over the blocks of channels [block_begin, block_end); block b is channels [k_begin(b), k_begin(b + 1)),
// at most gemm.block_channels(). Adds to y from block 1 on. `in`: see BlockedGemm.
template <class Operands, class BlockBegin>
void MultiplyTile(const GemmKernels& gemm, const GemmShape& shape, const Operands& in, const PackedA& packed,
                  const GemmTile& tile, const BlockBegin& k_begin, size_t block_begin, size_t block_end,
                  const GemmNext& next = {}) {
  const size_t panel_floats = kBlockCells * gemm.panel_columns * kPanelsTogether;
  float* panels = reinterpret_cast<float*>(
      ThreadScratch().Take<char>(panel_floats * sizeof(float) + kMaxLines * sizeof(uint8_t*)));
  const uint8_t** lines = reinterpret_cast<const uint8_t**>(panels + panel_floats);
  for (size_t block = block_begin; block < block_end; ++block) {
    const size_t k0 = k_begin(block);
    const size_t kc = k_begin(block + 1) - k0;
    const size_t cells = gemm.Cells(kc);
    // Whole panels are packed on the way by the first tile of tokens, where that can be.
    const bool fused = tile.count >= kTileRows && in.has_first_tile();
    const size_t whole = fused ? tile.columns / gemm.panel_columns * gemm.panel_columns : 0;
    if (whole < tile.columns) in.PackB(k0, kc, tile.column + whole, tile.columns - whole, panels + whole * cells);
    // The next block's weights come in while this one is multiplied.
    PrefetchList ahead{lines, lines};
    const GemmNext after = block + 1 < block_end ? GemmNext{block + 1, tile.column, tile.columns} : next;
    if (after.columns > 0) {
      const size_t from = k_begin(after.block);
      ahead.end += in.LinesB(from, k_begin(after.block + 1) - from, after.column, after.columns, lines);
    }
    const float* a = packed.At(gemm, block, k0, kc, tile.t0);
    const bool accumulate = shape.accumulate || block > 0;
    for (size_t c = 0; c < tile.columns; c += gemm.panel_columns) {
      const size_t done = c < whole ? kTileRows : 0;
      if (done > 0) in.FirstTile(k0, kc, tile.column + c, panels + c * cells, a, tile.y + c, accumulate, &ahead);
      if (done == tile.count) continue;
      gemm.gemm_panel(a + done * cells, tile.count - done, kc, panels + c * cells,
                      std::min(gemm.panel_columns, tile.columns - c), tile.y + done * shape.n + c, shape.n, accumulate, &ahead);
    }
  }
}

// Operands:
// PackA(token, k0, kc, out): tokens [token, token + kTileRows) of channels [k0, k0 + kc) as f32 [kc][kTileRows]; rows
// beyond the last token may hold anything finite, since they are not stored.
// PackB(k0, kc, column, columns, panels): neighbouring panels, each [cells][panel_columns].
// LinesB(k0, kc, column, columns, list): addresses of the cache lines that PackB will read, at most kMaxLines; their count.
// FirstTile(k0, kc, column, panel, a, y, accumulate, ahead): packs one whole panel and multiplies the first kTileRows tokens;
// never called unless has_first_tile().
template <class Operands>
void BlockedGemm(const KernelTable& table, const GemmKernels& gemm, const GemmShape& shape, Buffer& scratch, const Operands& in) {
  ThreadPool& pool = ThreadPool::Instance();
  const size_t block_channels = gemm.block_channels();
  const size_t blocks = (shape.k + block_channels - 1) / block_channels;
  const auto k_begin = [&](size_t block) { return std::min(shape.k, block * block_channels); };
  float* data = scratch.Take<float>(PackedA::Floats(gemm, std::min(shape.tokens, kBlockTokens), shape.k, blocks));
  for (size_t first = 0; first < shape.tokens; first += kBlockTokens) {
    const size_t tokens = std::min(kBlockTokens, shape.tokens - first);
    const PackedA packed{data, RoundUp(tokens, kTileRows)};
    constexpr size_t kTilesTogether = 8;
    const size_t groups = (packed.padded_tokens / kTileRows + kTilesTogether - 1) / kTilesTogether;
    pool.ParallelFor(blocks * groups, [&](size_t item) {
      const size_t block = item / groups;
      const size_t k0 = k_begin(block);
      const size_t kc = k_begin(block + 1) - k0;
      const size_t from = item % groups * kTilesTogether * kTileRows;
      const size_t to = std::min(packed.padded_tokens, from + kTilesTogether * kTileRows);
      for (size_t t = from; t < to; t += kTileRows) {
        PackTile(gemm, in, first + t, k0, kc, packed.At(gemm, block, k0, kc, t));
      }
    });
    const GemmSplit split =
        SplitGemm(tokens, shape.n, gemm.panel_columns, static_cast<size_t>(pool.threads()));
    pool.ParallelFor(split.column_items * split.token_items, [&](size_t item) {
      const size_t column = item / split.token_items * split.columns;
      const size_t columns = std::min(split.columns, shape.n - column);
      const size_t t0 = item % split.token_items * split.tokens;
      const size_t count = std::min(split.tokens, tokens - t0);
      float* y = shape.y + (first + t0) * shape.n + column;
      MultiplyTile(gemm, shape, in, packed, {t0, count, column, columns, y}, k_begin, 0, blocks);
      table.epilogue(y, shape.n, count, columns, shape.bias == nullptr ? nullptr : shape.bias + column,
                     shape.activation);
    });
  }
}

}  // namespace nchunk

#endif  // NCHUNK_GEMM_H_
