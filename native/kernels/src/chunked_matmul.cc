// y (+)= x[:, rows] W[rows, :] for weight rows that lie in chunks.
#include <algorithm>
#include <cstring>

#include "gemm.h"
#include "kernel_table.h"
#include "row_panels.h"
#include "scratch.h"
#include "thread_pool.h"

namespace nchunk {
namespace {

// A product with few tokens is cut into slices of rows, which sum into partial results of their own, and one token's outputs into
// parts where rows are wide (kWideColumns). Both depend on the shape alone, so that sums do not depend on the number of threads; more items than
// threads, so that a thread which is held up delays little.
constexpr size_t kMaxSlices = 16;
constexpr size_t kFewestItemBytes = 48 * 1024;
// Weight bytes for each byte of a token's partial result: clearing and adding up the partials then costs little.
constexpr size_t kWeightsToPartials = 24;
constexpr size_t kPartBytes = 2048;  // of a row, about
// Columns multiplied for every token before moving on: rows x columns then stay in the second-level cache.
constexpr size_t kGemvColumns = 4096;

// Of the first rows of an item, asked for before anything is multiplied.
constexpr size_t kFirstBytes = 16 * 1024;

RowList ListRows(const ChunkedMatmulArgs& args, CallScratch& scratch) {
  size_t count = 0;
  for (size_t c = 0; c < args.chunk_count; ++c) count += args.lengths[c];
  RowList rows{scratch.rows.Take<const uint8_t*>(count), scratch.indices.Take<uint32_t>(count), count};
  size_t i = 0;
  for (size_t c = 0; c < args.chunk_count; ++c) {
    const uint8_t* row = args.landing + static_cast<size_t>(args.chunk_offsets_bytes[c]);
    for (uint32_t r = 0; r < args.lengths[c]; ++r, ++i, row += args.row_bytes) {
      rows.pointers[i] = row;
      rows.channels[i] = args.starts[c] + r;
    }
  }
  return rows;
}

struct FewTokensSplit {
  size_t slice_rows;
  size_t slices;
  size_t part_columns;
  size_t parts;
};

FewTokensSplit SplitFewTokens(const ChunkedMatmulArgs& args, size_t rows) {
  const bool wide = args.tokens == 1 && args.n > kWideColumns;
  const size_t row_bytes = RowBytes(args.dtype, args.n, args.group_size);
  const size_t bytes = rows * row_bytes;
  FewTokensSplit split{rows, 1, args.n, 1};
  if (wide) {
    split.part_columns = RoundUp(kPartBytes * args.n / row_bytes, kQuantStep);
    split.parts = (args.n + split.part_columns - 1) / split.part_columns;
  }
  const size_t worth = std::max(kFewestItemBytes * split.parts, kWeightsToPartials * args.n * sizeof(float));
  const size_t most = std::min(bytes / worth, kMaxSlices / split.parts);
  while (2 * split.slices <= most) split.slices *= 2;
  split.slice_rows = RoundUp((rows + split.slices - 1) / split.slices, kQuantGemvRows);
  split.slices = (rows + split.slice_rows - 1) / split.slice_rows;
  return split;
}

// One token, rows [begin, end) and columns [column, column + columns), added to y [columns].
void MultiplyItem(const KernelTable& table, const ChunkedMatmulArgs& args, const RowList& rows, const float* x, size_t begin,
                  size_t end, size_t column, size_t columns, float* y) {
  const bool quantised = IsQuantised(args.dtype);
  const uint8_t* const* pointers = rows.pointers + begin;
  const size_t from = quantised ? QuantBytes(args.dtype, column) : column * ElementBytes(args.dtype);
  const size_t bytes = quantised ? QuantBytes(args.dtype, columns) : columns * ElementBytes(args.dtype);
  // What follows is asked for on the way; the first rows have nobody before them.
  for (size_t row = 0, asked = 0; row < end - begin && asked < kFirstBytes; ++row, asked += bytes) {
    for (size_t b = 0; b < bytes && asked + b < kFirstBytes; b += 64) __builtin_prefetch(pointers[row] + from + b, 0, 3);
  }
  if (quantised) {
    const QuantLayout layout = QuantLayoutOf(args.dtype, args.n, args.group_size);
    QuantGemv(table, args.arithmetic, args.dtype, args.tokens, args.n)(layout, pointers, x + begin, end - begin, column, columns, y, nullptr, 0);
  } else if (columns < args.n) {
    table.gemv_columns(pointers, x + begin, end - begin, args.dtype, column, columns, y, nullptr, 0);
  } else {
    table.gemv_rows(pointers, x + begin, end - begin, args.dtype, columns, y, nullptr, 0);
  }
}

// Some tokens, rows [begin, end), added to y [tokens, n]: a few rows are multiplied by all tokens while they are in cache.
void MultiplySlice(const KernelTable& table, const ChunkedMatmulArgs& args, const RowList& rows, const float* x, size_t begin,
                   size_t end, float* y) {
  const bool quantised = IsQuantised(args.dtype);
  const QuantLayout layout = QuantLayoutOf(args.dtype, args.n, args.group_size);
  const size_t rows_together = quantised ? kQuantGemvRows : kGemvRows;
  const auto gemv_quant = QuantGemv(table, args.arithmetic, args.dtype, args.tokens, args.n);
  for (size_t row = begin; row < end; row += rows_together) {
    const size_t count = std::min(rows_together, end - row);
    const uint8_t* const* here = rows.pointers + row;
    for (size_t column = 0; column < args.n; column += kGemvColumns) {
      const size_t columns = std::min(kGemvColumns, args.n - column);
      for (size_t t = 0; t < args.tokens; ++t) {
        const float* xs = x + t * rows.count + row;
        float* out = y + t * args.n + column;
        const size_t next_count = t == 0 ? std::min(rows_together, end - row - count) : 0;
        if (quantised) {
          gemv_quant(layout, here, xs, count, column, columns, out, here + count, next_count);
        } else {
          table.gemv_columns(here, xs, count, args.dtype, column, columns, out, here + count, next_count);
        }
      }
    }
  }
}

// y [outputs] = the partial results [count, outputs] added up in order (added to y, when it accumulates).
void AddPartials(const KernelTable& table, const float* partials, size_t count, size_t outputs, bool accumulate, float* y) {
  constexpr size_t kColumnsTogether = 4096;
  const size_t items = (outputs + kColumnsTogether - 1) / kColumnsTogether;
  const auto reduce = [&](size_t item) {
    const size_t from = item * kColumnsTogether;
    const size_t columns = std::min(kColumnsTogether, outputs - from);
    if (!accumulate) std::memcpy(y + from, partials + from, columns * sizeof(float));
    for (size_t s = accumulate ? 0 : 1; s < count; ++s) table.add(y + from, partials + s * outputs + from, columns);
  };
  // Waking the pool costs more than adding up a small result.
  if (items < 4) {
    for (size_t item = 0; item < items; ++item) reduce(item);
  } else {
    ThreadPool::Instance().ParallelFor(items, reduce);
  }
}

void FewTokens(const KernelTable& table, const ChunkedMatmulArgs& args, const RowList& rows, CallScratch& scratch) {
  const size_t tokens = args.tokens;
  const size_t outputs = tokens * args.n;
  const FewTokensSplit split = SplitFewTokens(args, rows.count);
  float* x = scratch.packed.Take<float>(tokens * rows.count);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < rows.count; ++i) x[t * rows.count + i] = args.x[t * args.k + rows.channels[i]];
  }
  float* partials = split.slices == 1 ? args.y : scratch.partials.Take<float>(split.slices * outputs);
  ThreadPool::Instance().ParallelFor(split.slices * split.parts, [&](size_t item) {
    const size_t slice = item / split.parts;
    const size_t begin = slice * split.slice_rows;
    const size_t end = std::min(rows.count, begin + split.slice_rows);
    const size_t column = item % split.parts * split.part_columns;
    const size_t columns = std::min(split.part_columns, args.n - column);
    float* y = partials + slice * outputs + column;
    const size_t here = tokens == 1 ? columns : outputs;
    if (split.slices > 1 || !args.accumulate) std::memset(y, 0, here * sizeof(float));
    if (tokens == 1) {
      MultiplyItem(table, args, rows, x, begin, end, column, columns, y);
    } else {
      MultiplySlice(table, args, rows, x, begin, end, y);
    }
  });
  if (split.slices > 1) AddPartials(table, partials, split.slices, outputs, args.accumulate, args.y);
}

void ManyTokens(const KernelTable& table, const ChunkedMatmulArgs& args, const RowList& rows, CallScratch& scratch) {
  const GemmShape shape{args.tokens, rows.count, args.n, args.y, args.accumulate, nullptr, Activation::kNone};
  const GemmKernels& gemm = RowGemm(table, args.arithmetic, args.tokens);
  const QuantLayout layout = QuantLayoutOf(args.dtype, args.n, args.group_size);
  BlockedGemm(table, gemm, shape, scratch.packed, RowPanels{gemm, rows, layout, args.x, args.tokens, args.k, args.n});
}

}  // namespace

void ChunkedMatmul(const ChunkedMatmulArgs& args) {
  ScratchLease scratch;
  const RowList rows = ListRows(args, *scratch.operator->());
  if (rows.count == 0 || args.tokens == 0 || args.n == 0) {
    if (!args.accumulate) std::memset(args.y, 0, args.tokens * args.n * sizeof(float));
    return;
  }
  if (args.tokens < kGemmTokens) {
    FewTokens(Kernels(), args, rows, *scratch.operator->());
  } else {
    ManyTokens(Kernels(), args, rows, *scratch.operator->());
  }
}

}  // namespace nchunk
