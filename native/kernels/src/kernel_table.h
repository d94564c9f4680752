// The single-threaded primitives that every target implements. Drivers (matmul.cc and the rest) split work over threads and
// call them; they hold all the vector code.
#ifndef NCHUNK_KERNEL_TABLE_H_
#define NCHUNK_KERNEL_TABLE_H_

#include <stddef.h>
#include <stdint.h>

#include "nchunk/kernels.h"

namespace nchunk {

// Rows of a packed A tile: tokens are taken this many at a time by every target.
constexpr size_t kTileRows = 8;
// Cells of a packed panel's column at most (GemmKernels): a panel of 48 columns then takes 24 KiB, within a first-level cache.
constexpr size_t kBlockCells = 128;
// Channels of a cell at most.
constexpr size_t kMaxCellChannels = 2;
// Neighbouring panels of weights that are packed together at most, so that whole cache lines of a weight row are used.
constexpr size_t kMaxPanelsTogether = 4;
// Keys per block of attention: a multiple of every target's panel width (48, 24, 12).
constexpr size_t kKeyBlock = 96;
// Keys whose scores attention_few keeps at once: the values of as many wait in the second cache level.
constexpr size_t kFewKeys = 64;
// Weight rows multiplied by one token after another, when there are a few.
constexpr size_t kGemvRows = 8;
// The same of quantised rows: their outputs are gone through less often.
constexpr size_t kQuantGemvRows = 32;
// Columns of a quantised product start at multiples of this: whole groups, and whole steps of every target.
constexpr size_t kQuantStep = 128;

// From this many columns on one token's rows are parted: the outputs of a part stay in the first cache level.
constexpr size_t kWideColumns = 5120;

// Addresses whose cache lines will be wanted soon.
struct PrefetchList {
  const uint8_t* const* at;
  const uint8_t* const* end;
};

// Where the parts of a quantised row lie (RowBytes() in kernels.h).
struct QuantLayout {
  Dtype dtype;  // kI8 or kI4
  size_t group_size;
  size_t scales_offset_bytes;
  size_t row_bytes;
};

struct AttentionBlock {
  const AttentionArgs* args;
  size_t kv_head;
  size_t head_begin, head_end;    // query heads, all of this kv_head
  size_t token_begin, token_end;
  size_t key_begin, key_end;  // key_begin a multiple of kKeyBlock
  float* scratch;             // AttentionScratchFloats()
  // Null: out is written. Else what these keys say is left here, for attention_merge: [tokens, heads] rows of AttentionPartialFloats().
  float* partial;
};

// A row of the result of a range of keys: maximum of the scores, sum of exp(score - maximum), the values weighted with those.
constexpr size_t AttentionPartialFloats(size_t head_dim) { return head_dim + 2; }

// A packed product in one arithmetic. Packed operands are cells of four bytes, passed as floats whatever they hold: one f32, or 16
// bits each of two neighbouring channels, the second of which is zero where channels end. `cells` are Cells(kc).
struct GemmKernels {
  const char* name;      // as in ReducedArithmetic()
  size_t panel_columns;  // columns of a packed B panel (NR), the same in every arithmetic of a target
  size_t cell_channels;

  size_t Cells(size_t kc) const { return (kc + cell_channels - 1) / cell_channels; }
  size_t block_channels() const { return kBlockCells * cell_channels; }

  // A tile [kc][kTileRows] of f32 into cells [cells][kTileRows]; null where the tile is those already. The tile has room for a
  // further channel.
  void (*round_tile)(float* tile, size_t kc, float* packed);
  // Columns of `kc` weight rows, row i's first wanted element at rows[i] + column_bytes, as
  // panel [cells, panel_columns], zeros beyond `columns`.
  void (*pack_rows)(const uint8_t* const* rows, size_t kc, size_t column_bytes, Dtype dtype, size_t columns,
                    float* panel);
  // The same from W [n, k]: channel i of column j is element i of the row at weight + j * row_stride_bytes.
  void (*pack_transposed)(const uint8_t* weight, size_t row_stride_bytes, Dtype dtype, size_t kc, size_t columns,
                          float* panel);
  // The same of quantised rows, rows[i] the start of a row and `column` a multiple of panel_columns: fills neighbouring panels,
  // `panel_stride` floats apart.
  void (*pack_quant_rows)(const QuantLayout& layout, const uint8_t* const* rows, size_t kc, size_t column, size_t columns,
                          float* panels, size_t panel_stride);
  // y [tokens, columns] (+)= A B for packed A [tiles][cells][kTileRows] and a packed panel. Lines of `ahead` are prefetched on the
  // way and taken off it.
  void (*gemm_panel)(const float* a, size_t tokens, size_t kc, const float* panel, size_t columns, float* y, size_t ldy,
                     bool accumulate, PrefetchList* ahead);
  // Packs one whole panel as pack_rows (pack_quant_rows) does and multiplies the first tile of kTileRows tokens on the way, as
  // gemm_panel does: the widening hides under the arithmetic. The quantised one is null where it does not pay.
  void (*gemm_pack_rows)(const float* a, size_t kc, const uint8_t* const* rows, size_t column_bytes, Dtype dtype, float* panel,
                         float* y, size_t ldy, bool accumulate, PrefetchList* ahead);
  void (*gemm_pack_quant_rows)(const float* a, size_t kc, const QuantLayout& layout, const uint8_t* const* rows, size_t column,
                               float* panel, float* y, size_t ldy, bool accumulate, PrefetchList* ahead);
};

struct KernelTable {
  const char* name;
  GemmKernels gemm;
  const GemmKernels* reduced_gemm;  // under Arithmetic::kReduced; null: as under kF32

  const GemmKernels& GemmFor(Arithmetic arithmetic) const {
    return arithmetic == Arithmetic::kReduced && reduced_gemm != nullptr ? *reduced_gemm : gemm;
  }

  // y[0..n) += sum over i < count of xs[i] * row i, row by row in order, whatever calls they are split into; next_rows
  // (next_count) are prefetched on the way. Any number of rows: the more, the better the reads run on.
  void (*gemv_rows)(const uint8_t* const* rows, const float* xs, size_t count, Dtype dtype, size_t n, float* y,
                    const uint8_t* const* next_rows, size_t next_count);
  // The same for columns [column, column + columns) of rows that have more: rows[i] is the start of a row, y[0] is for `column`.
  void (*gemv_columns)(const uint8_t* const* rows, const float* xs, size_t count, Dtype dtype, size_t column, size_t columns,
                       float* y, const uint8_t* const* next_rows, size_t next_count);
  // The same for quantised rows: rows[i] is the start of a row. Columns [column, column + columns), `column` a multiple of
  // kQuantStep. The rows of one call may be summed up before they are added to y, so that sums depend on which rows a call has, but
  // not on which columns.
  void (*gemv_quant_rows)(const QuantLayout& layout, const uint8_t* const* rows, const float* xs, size_t count,
                          size_t column, size_t columns, float* y, const uint8_t* const* next_rows, size_t next_count);
  // As gemv_quant_rows of int4 rows, with activations rounded to int8 (Arithmetic::kReduced); null where there is no dot product of
  // bytes. The rows of a call are taken by fours: activation times scale of four rows is rounded, for each group of columns, in units
  // of a 127th of the largest of the four.
  void (*gemv_quant_dot)(const QuantLayout& layout, const uint8_t* const* rows, const float* xs, size_t count, size_t column,
                         size_t columns, float* y, const uint8_t* const* next_rows, size_t next_count);
  // y[j] = dot(x, row j of W [n, k]) for j < n.
  void (*dot_rows)(const float* x, size_t k, const uint8_t* weight, Dtype dtype, size_t n, float* y);
  // y [rows, columns] = activation(y + bias) with row stride ldy.
  void (*epilogue)(float* y, size_t ldy, size_t rows, size_t columns, const float* bias, Activation activation);

  void (*attention_block)(const AttentionBlock& block);
  // Keys [key_begin, key_end) of all key heads, for at most kTileRows query rows each: partials [kv_heads][tokens, heads of a
  // kv_head][AttentionPartialFloats()] for attention_merge. head_dim is a multiple of attention_few_step;
  // scratch: AttentionFewFloats().
  void (*attention_few)(const AttentionArgs& args, size_t key_begin, size_t key_end, float* scratch, float* partials);
  size_t attention_few_step;
  // out from partials [ranges, kv_heads][tokens, heads of a kv_head][AttentionPartialFloats()], merged in order.
  void (*attention_merge)(const AttentionArgs& args, const float* partials, size_t ranges);

  void (*importance)(const float* x, size_t tokens, size_t ldx, size_t columns, float* v);
  void (*rms_norm_row)(const float* x, size_t k, const float* weight, float eps, const uint32_t* permutation, float* y);
  void (*layer_norm_row)(const float* x, size_t k, const float* weight, const float* bias, float eps, float* y);
  void (*add)(float* y, const float* x, size_t count);
  void (*silu_mul)(const float* gate, const float* up, size_t count, float* y);
  void (*rotate_half)(float* x, size_t heads, size_t head_dim, const float* cosines, const float* sines);
  // For the benchmark: multiply-adds in registers, floating point operations done. `result` keeps them from being left out.
  double (*fma_loop)(size_t iterations, float* result);
  void (*widen)(const uint8_t* weight, Dtype dtype, size_t count, float* y);
};

// Floats of scratch one attention block with `rows` query rows (a multiple of kTileRows) needs.
size_t AttentionScratchFloats(const KernelTable& table, size_t rows, size_t head_dim);

// gemv_quant_rows, or gemv_quant_dot where `arithmetic` allows it and it is faster: not where memory is what takes time.
inline auto QuantGemv(const KernelTable& table, Arithmetic arithmetic, Dtype dtype, size_t tokens, size_t n) {
  const bool faster = dtype == Dtype::kI4 && (tokens > 1 || n <= kWideColumns);
  const bool rounds = arithmetic == Arithmetic::kReduced && table.gemv_quant_dot != nullptr && faster;
  return rounds ? table.gemv_quant_dot : table.gemv_quant_rows;
}

// Floats of scratch attention_few needs.
constexpr size_t AttentionFewFloats(size_t kv_heads, size_t head_dim) {
  return kv_heads * kTileRows * (2 * head_dim + kFewKeys + 2) + kFewKeys * head_dim;
}

const KernelTable& Kernels();  // the one in use

#if defined(__x86_64__)
// The targets with a suffix are their base target with members for Arithmetic::kReduced.
const KernelTable* Avx512Bf16Kernels();
const KernelTable* Avx512Kernels();
const KernelTable* Avx2Kernels();
#elif defined(__aarch64__)
const KernelTable* NeonBf16Kernels();
const KernelTable* NeonDotKernels();
const KernelTable* NeonKernels();
#endif
const KernelTable* PortableKernels();

}  // namespace nchunk

#endif  // NCHUNK_KERNEL_TABLE_H_
