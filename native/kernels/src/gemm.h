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
constexpr size_t kMaxLines = kBlockChannels * (kPanelsTogether * 48 * 4 / 64 + 1);

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

// For weights that are packed apart from the multiplication.
struct NoFirstTile {
  static constexpr bool possible = false;
  void operator()(size_t, size_t, size_t, float*, const float*, float*, bool, PrefetchList*) const {}
};

// pack_a(token, k0, kc, out): tokens [token, token + kTileRows) of channels [k0, k0 + kc) as [kc][kTileRows]; rows
// beyond the last token may hold anything finite, since they are not stored.
// pack_b(k0, kc, column, columns, panels): neighbouring panels, each [kc][panel_columns].
// lines_b(k0, kc, column, columns, list): addresses of the cache lines that pack_b will read, at most kMaxLines; their count.
// first_tile(k0, kc, column, panel, a, y, accumulate, ahead): packs one whole panel and multiplies the first kTileRows tokens;
// never called unless first_tile.possible.
template <class PackA, class PackB, class LinesB, class FirstTile>
void BlockedGemm(const KernelTable& table, const GemmShape& shape, float* packed, const PackA& pack_a,
                 const PackB& pack_b, const LinesB& lines_b, const FirstTile& first_tile) {
  ThreadPool& pool = ThreadPool::Instance();
  const size_t blocks = (shape.k + kBlockChannels - 1) / kBlockChannels;
  for (size_t first = 0; first < shape.tokens; first += kBlockTokens) {
    const size_t tokens = std::min(kBlockTokens, shape.tokens - first);
    const size_t padded = RoundUp(tokens, kTileRows);
    constexpr size_t kTilesTogether = 8;
    const size_t groups = (padded / kTileRows + kTilesTogether - 1) / kTilesTogether;
    pool.ParallelFor(blocks * groups, [&](size_t item) {
      const size_t k0 = item / groups * kBlockChannels;
      const size_t kc = std::min(kBlockChannels, shape.k - k0);
      const size_t from = item % groups * kTilesTogether * kTileRows;
      const size_t to = std::min(padded, from + kTilesTogether * kTileRows);
      for (size_t t = from; t < to; t += kTileRows) pack_a(first + t, k0, kc, packed + k0 * padded + t * kc);
    });
    const GemmSplit split =
        SplitGemm(tokens, shape.n, table.panel_columns, static_cast<size_t>(pool.threads()));
    pool.ParallelFor(split.column_items * split.token_items, [&](size_t item) {
      const size_t column = item / split.token_items * split.columns;
      const size_t columns = std::min(split.columns, shape.n - column);
      const size_t t0 = item % split.token_items * split.tokens;
      const size_t count = std::min(split.tokens, tokens - t0);
      float* y = shape.y + (first + t0) * shape.n + column;
      const size_t panel_floats = kBlockChannels * table.panel_columns * kPanelsTogether;
      float* panels = reinterpret_cast<float*>(
          ThreadScratch().Take<char>(panel_floats * sizeof(float) + kMaxLines * sizeof(uint8_t*)));
      const uint8_t** lines = reinterpret_cast<const uint8_t**>(panels + panel_floats);
      for (size_t k0 = 0; k0 < shape.k; k0 += kBlockChannels) {
        const size_t kc = std::min(kBlockChannels, shape.k - k0);
        // Whole panels are packed on the way by the first tile of tokens, where that can be.
        const bool fused = count >= kTileRows && first_tile.possible;
        const size_t whole = fused ? columns / table.panel_columns * table.panel_columns : 0;
        if (whole < columns) pack_b(k0, kc, column + whole, columns - whole, panels + whole * kc);
        // The next block's weights come in while this one is multiplied.
        const size_t next = k0 + kc;
        PrefetchList ahead{lines, lines};
        if (next < shape.k) ahead.end += lines_b(next, std::min(kBlockChannels, shape.k - next), column, columns, lines);
        for (size_t c = 0; c < columns; c += table.panel_columns) {
          const float* a = packed + k0 * padded + t0 * kc;
          const bool accumulate = shape.accumulate || k0 > 0;
          const size_t done = c < whole ? kTileRows : 0;
          if (done > 0) first_tile(k0, kc, column + c, panels + c * kc, a, y + c, accumulate, &ahead);
          if (done == count) continue;
          table.gemm_panel(a + done * kc, count - done, kc, panels + c * kc, std::min(table.panel_columns, columns - c),
                           y + done * shape.n + c, shape.n, accumulate, &ahead);
        }
      }
      table.epilogue(y, shape.n, count, columns, shape.bias == nullptr ? nullptr : shape.bias + column,
                     shape.activation);
    });
  }
}

inline size_t PackedFloats(size_t tokens, size_t k) {
  return RoundUp(std::min(tokens, kBlockTokens), kTileRows) * k;
}

}  // namespace nchunk

#endif  // NCHUNK_GEMM_H_
