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

// From this many tokens on, widening the weights once into packed panels pays.
constexpr size_t kGemmTokens = 5;
// Row slices of a product with few tokens. Fixed, so that sums do not depend on the number of threads; more slices than
// threads, so that a thread which is held up delays little.
constexpr size_t kMaxSlices = 16;
constexpr size_t kFewestSliceBytes = 64 * 1024;
// Columns multiplied for every token before moving on: rows x columns then stay in the second-level cache.
constexpr size_t kGemvColumns = 4096;
// Weight bytes for each byte of a token's partial result: clearing and adding up the partials then costs little.
constexpr size_t kWeightsToPartials = 16;

// Of the first rows of a slice, asked for before anything is multiplied.
constexpr size_t kFirstBlockBytes = 32 * 1024;

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

// Rows [begin, end) times x [tokens, rows.count], added to y [tokens, n].
void MultiplySlice(const KernelTable& table, const ChunkedMatmulArgs& args, const RowList& rows, const float* x, size_t begin,
                   size_t end, float* y) {
  const bool quantised = IsQuantised(args.dtype);
  const QuantLayout layout = QuantLayoutOf(args.dtype, args.n, args.group_size);
  const size_t rows_together = quantised ? kQuantGemvRows : kGemvRows;
  const size_t column_step = args.tokens == 1 ? args.n : kGemvColumns;
  const uint8_t* here[kGemvRows];
  // What follows is asked for while a block is multiplied; the first block has nobody before it.
  const size_t first_end = std::min(end, begin + rows_together);
  const size_t first_bytes = std::min(layout.row_bytes, kFirstBlockBytes / (first_end - begin));
  for (size_t row = begin; row < first_end; ++row) {
    for (size_t b = 0; b < first_bytes; b += 64) __builtin_prefetch(rows.pointers[row] + b, 0, 2);
  }
  for (size_t row = begin; row < end; row += rows_together) {
    const size_t count = std::min(rows_together, end - row);
    const size_t next = row + count;
    for (size_t column = 0; column < args.n; column += column_step) {
      const size_t columns = std::min(column_step, args.n - column);
      if (!quantised) {
        for (size_t i = 0; i < count; ++i) here[i] = rows.pointers[row + i] + column * ElementBytes(args.dtype);
      }
      for (size_t t = 0; t < args.tokens; ++t) {
        const float* xs = x + t * rows.count + row;
        float* out = y + t * args.n + column;
        const size_t next_count = t == 0 && column == 0 ? std::min(rows_together, end - next) : 0;
        if (quantised) {
          table.gemv_quant_rows(layout, rows.pointers + row, xs, count, column, columns, out, rows.pointers + next, next_count);
        } else {
          table.gemv_rows(here, xs, count, args.dtype, columns, out, rows.pointers + next, next_count);
        }
      }
    }
  }
}

// Few tokens: every slice of rows sums into its own partial result, and the partials are added in a fixed order.
void FewTokens(const KernelTable& table, const ChunkedMatmulArgs& args, const RowList& rows, CallScratch& scratch) {
  const size_t tokens = args.tokens;
  const size_t outputs = tokens * args.n;
  const size_t weight_bytes = rows.count * RowBytes(args.dtype, args.n, args.group_size);
  const size_t worth = std::max(kFewestSliceBytes, kWeightsToPartials * args.n * sizeof(float));
  const size_t slices = std::clamp<size_t>(weight_bytes / worth, 1, std::min(kMaxSlices, rows.count));
  const size_t slice_rows = RoundUp((rows.count + slices - 1) / slices, kQuantGemvRows);
  float* x = scratch.packed.Take<float>(tokens * rows.count);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < rows.count; ++i) x[t * rows.count + i] = args.x[t * args.k + rows.channels[i]];
  }
  const size_t used = (rows.count + slice_rows - 1) / slice_rows;
  float* partials = used == 1 ? args.y : scratch.partials.Take<float>(used * outputs);
  ThreadPool& pool = ThreadPool::Instance();
  pool.ParallelFor(used, [&](size_t slice) {
    float* y = partials + slice * outputs;
    if (used > 1 || !args.accumulate) std::memset(y, 0, outputs * sizeof(float));
    MultiplySlice(table, args, rows, x, slice * slice_rows, std::min(rows.count, (slice + 1) * slice_rows), y);
  });
  if (used == 1) return;
  constexpr size_t kColumnsTogether = 4096;
  const size_t items = (outputs + kColumnsTogether - 1) / kColumnsTogether;
  const auto reduce = [&](size_t item) {
    const size_t from = item * kColumnsTogether;
    const size_t count = std::min(kColumnsTogether, outputs - from);
    float* y = args.y + from;
    if (!args.accumulate) std::memcpy(y, partials + from, count * sizeof(float));
    for (size_t s = args.accumulate ? 0 : 1; s < used; ++s) table.add(y, partials + s * outputs + from, count);
  };
  // Waking the pool costs more than adding up a small result.
  if (items < 4) {
    for (size_t item = 0; item < items; ++item) reduce(item);
  } else {
    pool.ParallelFor(items, reduce);
  }
}

void ManyTokens(const KernelTable& table, const ChunkedMatmulArgs& args, const RowList& rows, CallScratch& scratch) {
  const GemmShape shape{args.tokens, rows.count, args.n, args.y, args.accumulate, nullptr, Activation::kNone};
  float* packed = scratch.packed.Take<float>(PackedFloats(args.tokens, rows.count));
  const QuantLayout layout = QuantLayoutOf(args.dtype, args.n, args.group_size);
  BlockedGemm(table, shape, packed, RowPanels{table, rows, layout, args.x, args.tokens, args.k, args.n});
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
