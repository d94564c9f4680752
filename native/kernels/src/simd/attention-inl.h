// Attention of one block of query rows over all keys, with a running maximum and sum per row (online softmax).
#ifndef NCHUNK_SIMD_ATTENTION_INL_H_
#define NCHUNK_SIMD_ATTENTION_INL_H_

#include "simd/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

static_assert(kKeyBlock % kPanelColumns == 0, "whole panels of keys");
constexpr size_t kKeyPanels = kKeyBlock / kPanelColumns;

struct AttentionScratch {
  bool packs_values;     // else they are multiplied where they lie
  size_t value_panels;   // panels over head_dim
  size_t value_columns;  // value_panels * kPanelColumns
  float* queries;        // [rows / kTileRows][head_dim][kTileRows], scaled
  float* keys;           // [kKeyPanels][head_dim][kPanelColumns]
  float* values;         // [value_panels][kKeyBlock][kPanelColumns]
  float* scores;         // [kTileRows][kKeyBlock]
  float* sums;           // [rows][value_columns], the weighted values so far
  float* maxima;         // [rows]
  float* weights;        // [rows], sum of exp(score - maximum)
};

// With few query rows, packing values costs more than their stride does.
constexpr size_t kFewestPackedRows = 4 * kTileRows;

HWY_INLINE AttentionScratch Carve(float* memory, size_t rows, size_t head_dim) {
  AttentionScratch s;
  s.packs_values = rows > kFewestPackedRows || head_dim % kLanes != 0;
  s.value_panels = (head_dim + kPanelColumns - 1) / kPanelColumns;
  s.value_columns = s.value_panels * kPanelColumns;
  s.queries = memory;
  s.keys = s.queries + rows * head_dim;
  s.values = s.keys + kKeyBlock * head_dim;
  s.scores = s.values + kKeyBlock * s.value_columns;
  s.sums = s.scores + kTileRows * kKeyBlock;
  s.maxima = s.sums + rows * s.value_columns;
  s.weights = s.maxima + rows;
  return s;
}

// The query rows of a block: row r is head r % heads of token r / heads, so that one token's heads fill tiles too.
struct QueryRows {
  const AttentionBlock& block;
  size_t heads;
  size_t count;

  HWY_INLINE size_t Token(size_t row) const { return block.token_begin + row / heads; }
  HWY_INLINE size_t Head(size_t row) const { return block.head_begin + row % heads; }
};

// Packs the scaled queries in tiles, zeros beyond the last row.
HWY_INLINE void PackQueries(const QueryRows& rows, float* queries) {
  const AttentionArgs& args = *rows.block.args;
  for (size_t row = 0; row < rows.count; row += kTileRows, queries += args.head_dim * kTileRows) {
    for (size_t i = 0; i < kTileRows; ++i) {
      const bool live = row + i < rows.count;
      const float* from = args.q;
      if (live) from += rows.Token(row + i) * args.q_row_stride + rows.Head(row + i) * args.head_dim;
      for (size_t c = 0; c < args.head_dim; ++c) queries[c * kTileRows + i] = live ? from[c] * args.scale : 0.0f;
    }
  }
}

// Asks for `count` rows of head_dim floats: they lie `stride` floats apart, which the hardware does not foresee.
HWY_INLINE void PrefetchRows(const float* rows, size_t count, size_t stride, size_t head_dim) {
  for (size_t i = 0; i < count; ++i) {
    for (size_t c = 0; c < head_dim; c += 16) Prefetch(reinterpret_cast<const uint8_t*>(rows + i * stride + c));
  }
}

// Packs `count` rows of values, `stride` floats apart, zeros beyond head_dim.
HWY_INLINE void PackValues(const float* values, size_t stride, size_t count, size_t head_dim, const AttentionScratch& s) {
  for (size_t p = 0; p < s.value_panels; ++p) {
    const size_t first = p * kPanelColumns;
    const size_t columns = head_dim - first < kPanelColumns ? head_dim - first : kPanelColumns;
    float* to = s.values + p * kKeyBlock * kPanelColumns;
    for (size_t i = 0; i < count; ++i, to += kPanelColumns) {
      WidenOf<Dtype::kF32>(reinterpret_cast<const uint8_t*>(values + i * stride + first), columns, to);
      for (size_t c = columns; c < kPanelColumns; ++c) to[c] = 0.0f;
    }
  }
}

// Packs keys [key, key + count), of keys below `end`, transposed, zeros beyond `count`; and their values where that is done.
HWY_INLINE void PackKeyBlock(const AttentionBlock& block, size_t key, size_t count, size_t end, const AttentionScratch& s) {
  const AttentionArgs& args = *block.args;
  const size_t stride = args.kv_heads * args.head_dim;
  const float* keys = args.keys + key * stride + block.kv_head * args.head_dim;
  const float* values = args.values + key * stride + block.kv_head * args.head_dim;
  PrefetchRows(values, count, stride, args.head_dim);
  for (size_t p = 0; p < kKeyPanels; ++p) {
    const size_t first = p * kPanelColumns;
    const size_t columns = count <= first ? 0 : (count - first < kPanelColumns ? count - first : kPanelColumns);
    TransposeIntoPanel(keys + first * stride, stride, args.head_dim, columns, s.keys + first * args.head_dim);
  }
  if (s.packs_values) PackValues(values, stride, count, args.head_dim, s);
  const size_t next = key + count;
  if (next < end) {
    const size_t rows = end - next < kKeyBlock ? end - next : kKeyBlock;
    PrefetchRows(keys + count * stride, rows, stride, args.head_dim);
  }
}

// scores[0..visible) become exp(score - maximum), zeros up to `count`; the row's running state is rescaled.
HWY_INLINE void SoftmaxRow(float* scores, size_t visible, size_t count, float* maximum, float* weight, float* sums,
                           size_t value_columns) {
  V maxima = Broadcast(*maximum);
  size_t i = 0;
  for (; i + kLanes <= visible; i += kLanes) maxima = hn::Max(maxima, hn::LoadU(df, scores + i));
  float best = Max(maxima);
  for (; i < visible; ++i) best = scores[i] > best ? scores[i] : best;
  const V shift = Broadcast(best);
  V total = hn::Zero(df);
  for (i = 0; i + kLanes <= visible; i += kLanes) {
    const V p = Exp(hn::LoadU(df, scores + i) - shift);
    total = total + p;
    hn::StoreU(p, df, scores + i);
  }
  if (i < visible) {
    StoreTail(Exp(LoadTail(scores + i, visible - i) - shift), scores + i, visible - i);
  }
  float sum = Sum(total);
  for (; i < visible; ++i) sum += scores[i];
  for (i = visible; i < count; ++i) scores[i] = 0.0f;
  if (best != *maximum) {
    const V correction = Exp(Broadcast(*maximum) - shift);
    *weight *= hn::GetLane(correction);
    for (size_t c = 0; c < value_columns; c += kLanes) {
      hn::StoreU(hn::LoadU(df, sums + c) * correction, df, sums + c);
    }
  }
  *weight += sum;
  *maximum = best;
}

// Keys row `token` sees among [key, key + count).
HWY_INLINE size_t Visible(const AttentionArgs& args, size_t token, size_t key, size_t count) {
  if (!args.causal) return count;
  const size_t limit = args.past_length + token + 1;
  return limit <= key ? 0 : (limit - key < count ? limit - key : count);
}

// One key block for the tile of query rows [row, row + live).
HWY_INLINE void AttendTile(const QueryRows& rows, const AttentionScratch& s, size_t row, size_t live, size_t key,
                           size_t count) {
  const AttentionArgs& args = *rows.block.args;
  if (Visible(args, rows.Token(row + live - 1), key, count) == 0) return;
  const float* queries = s.queries + row * args.head_dim;
  for (size_t p = 0; p * kPanelColumns < count; ++p) {
    const float* panel = s.keys + p * kPanelColumns * args.head_dim;
    Tile<A::kPacked>(queries, 0, live, args.head_dim, panel, kPanelVectors, s.scores + p * kPanelColumns, kKeyBlock, false);
  }
  for (size_t i = 0; i < live; ++i) {
    float* sums = s.sums + (row + i) * s.value_columns;
    SoftmaxRow(s.scores + i * kKeyBlock, Visible(args, rows.Token(row + i), key, count), count, s.maxima + row + i,
               s.weights + row + i, sums, s.value_columns);
  }
  for (size_t p = 0; p < s.value_panels; ++p) {
    const size_t columns = args.head_dim - p * kPanelColumns;
    const size_t vectors = columns >= kPanelColumns ? kPanelVectors : (columns + kLanes - 1) / kLanes;
    float* sums = s.sums + row * s.value_columns + p * kPanelColumns;
    const size_t stride = args.kv_heads * args.head_dim;
    const float* values = s.packs_values ? s.values + p * kKeyBlock * kPanelColumns
                                         : args.values + key * stride + rows.block.kv_head * args.head_dim + p * kPanelColumns;
    Tile<A::kRowMajor>(s.scores, kKeyBlock, live, count, values, vectors, sums, s.value_columns, true, nullptr,
                       s.packs_values ? kPanelColumns : stride);
  }
}

// For each row: maximum, weight, weighted values.
HWY_INLINE void StorePartial(const AttentionScratch& s, size_t rows, size_t head_dim, float* partial) {
  for (size_t row = 0; row < rows; ++row, partial += AttentionPartialFloats(head_dim)) {
    partial[0] = s.maxima[row];
    partial[1] = s.weights[row];
    memcpy(partial + 2, s.sums + row * s.value_columns, head_dim * sizeof(float));
  }
}

inline void AttendBlock(const AttentionBlock& block) {
  const AttentionArgs& args = *block.args;
  const size_t heads = block.head_end - block.head_begin;
  const QueryRows rows{block, heads, heads * (block.token_end - block.token_begin)};
  const size_t padded = (rows.count + kTileRows - 1) / kTileRows * kTileRows;
  const AttentionScratch s = Carve(block.scratch, padded, args.head_dim);
  PackQueries(rows, s.queries);
  for (size_t i = 0; i < padded * s.value_columns; ++i) s.sums[i] = 0.0f;
  for (size_t i = 0; i < padded; ++i) {
    s.maxima[i] = -__builtin_inff();
    s.weights[i] = 0.0f;
  }
  const size_t visible = Visible(args, block.token_end - 1, 0, args.kv_length);
  const size_t last = visible < block.key_end ? visible : block.key_end;
  for (size_t key = block.key_begin; key < last; key += kKeyBlock) {
    const size_t count = last - key < kKeyBlock ? last - key : kKeyBlock;
    PackKeyBlock(block, key, count, last, s);
    for (size_t row = 0; row < rows.count; row += kTileRows) {
      AttendTile(rows, s, row, rows.count - row < kTileRows ? rows.count - row : kTileRows, key, count);
    }
  }
  if (block.partial != nullptr) {
    StorePartial(s, rows.count, args.head_dim, block.partial);
    return;
  }
  for (size_t row = 0; row < rows.count; ++row) {
    float* out = args.out + (rows.Token(row) * args.q_heads + rows.Head(row)) * args.head_dim;
    const float scale = 1.0f / s.weights[row];
    for (size_t c = 0; c < args.head_dim; ++c) out[c] = s.sums[row * s.value_columns + c] * scale;
  }
}

// out += what a range of keys says of one query row, which is in the running state (maximum, weight, out) of the ranges before it.
HWY_INLINE void MergePartial(const float* partial, size_t head_dim, float* maximum, float* weight, float* out) {
  if (partial[1] == 0.0f) return;  // sees no key of this range
  const float best = partial[0] > *maximum ? partial[0] : *maximum;
  const float before = hn::GetLane(Exp(Broadcast(*maximum - best)));
  const float here = hn::GetLane(Exp(Broadcast(partial[0] - best)));
  for (size_t c = 0; c < head_dim; ++c) out[c] = out[c] * before + partial[2 + c] * here;
  *weight = *weight * before + partial[1] * here;
  *maximum = best;
}

inline void MergeAttention(const AttentionArgs& args, const float* partials, size_t ranges) {
  const size_t group = args.q_heads / args.kv_heads;
  const size_t row_floats = AttentionPartialFloats(args.head_dim);
  for (size_t t = 0; t < args.tokens; ++t) {
    for (size_t h = 0; h < args.q_heads; ++h) {
      float* out = args.out + (t * args.q_heads + h) * args.head_dim;
      float maximum = -__builtin_inff(), weight = 0.0f;
      for (size_t c = 0; c < args.head_dim; ++c) out[c] = 0.0f;
      for (size_t r = 0; r < ranges; ++r) {
        const size_t row = ((r * args.kv_heads + h / group) * args.tokens + t) * group + h % group;
        MergePartial(partials + row * row_floats, args.head_dim, &maximum, &weight, out);
      }
      const float scale = 1.0f / weight;
      for (size_t c = 0; c < args.head_dim; ++c) out[c] *= scale;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_ATTENTION_INL_H_
