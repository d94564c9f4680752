// Attention of so few query rows over a range of keys that the cache of keys and values is what takes time: it is gone through once,
// in the order in which it lies, all key heads of a few tokens before the next tokens. These are asked for meanwhile, not earlier:
// what is used lies in the first cache level, so that the hardware sees one stream.
#ifndef NCHUNK_SIMD_ATTENTION_FEW_INL_H_
#define NCHUNK_SIMD_ATTENTION_FEW_INL_H_

#include "simd/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

// Keys (values) that are gone through while the next ones are asked for.
constexpr size_t kUnitKeys = 16;
static_assert(kFewKeys % kUnitKeys == 0 && kUnitKeys % kLanes == 0, "whole units, whole vectors");

// One stretch of memory that is wanted next, asked for a few lines at a time while another is worked through.
struct Ahead {
  const uint8_t* at;
  const uint8_t* end;

  HWY_INLINE void Ask(size_t lines) {
    for (size_t i = 0; i < lines && at < end; ++i, at += 64) PrefetchNear(at);
  }
};

HWY_INLINE Ahead RowsAhead(const float* rows, size_t count, size_t stride) {
  return {reinterpret_cast<const uint8_t*>(rows), reinterpret_cast<const uint8_t*>(rows + count * stride)};
}

// scores[r * kFewKeys + j] = dot of query row r and key j for kLanes keys, `stride` floats apart.
template <size_t kRows>
HWY_INLINE void ScoreKeys(const float* HWY_RESTRICT queries, const float* HWY_RESTRICT keys, size_t stride, size_t head_dim,
                          float* HWY_RESTRICT scores, Ahead* ahead) {
  // Two sums a row where one would leave the multipliers waiting for it.
  constexpr size_t kChains = kRows <= 4 ? 2 : 1;
  V sums[kChains][kRows];
#pragma GCC unroll 2
  for (size_t h = 0; h < kChains; ++h) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) sums[h][r] = hn::Zero(df);
  }
  for (size_t c = 0; c < head_dim; c += 4, queries += 4 * kTileRows) {
    V key[4];
    TransposedFour(keys + c, stride, key);
    ahead->Ask(kLanes / 4);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        sums[i % kChains][r] = hn::MulAdd(Broadcast(queries[i * kTileRows + r]), key[i], sums[i % kChains][r]);
      }
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    hn::StoreU(kChains == 2 ? sums[0][r] + sums[kChains - 1][r] : sums[0][r], df, scores + r * kFewKeys);
  }
}

// sums[r * head_dim + c] += sum over `count` keys of weights[r * kFewKeys + key] * values[key * stride + c], kVectors of c.
template <size_t kRows, size_t kVectors>
HWY_INLINE void AddValues(const float* HWY_RESTRICT weights, size_t count, const float* HWY_RESTRICT values, size_t stride,
                          size_t head_dim, float* HWY_RESTRICT sums, Ahead* ahead) {
  V s[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) s[r][v] = hn::LoadU(df, sums + r * head_dim + v * kLanes);
  }
  for (size_t key = 0; key < count; ++key, values += stride) {
    V value[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) value[v] = hn::LoadU(df, values + v * kLanes);
    ahead->Ask((kVectors * kLanes + 15) / 16);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const V weight = Broadcast(weights[r * kFewKeys + key]);
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) s[r][v] = hn::MulAdd(weight, value[v], s[r][v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(s[r][v], df, sums + r * head_dim + v * kLanes);
  }
}

// Vectors of values whose sums for all rows fit the registers.
template <size_t kRows>
constexpr size_t ValueVectors() {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
  return kRows < kTileRows ? 4 : 3;
#else
  return kRows <= 3 ? 4 : (kRows <= 6 ? 2 : 1);
#endif
}

// What a range of keys leaves for each key head, and what it needs meanwhile.
struct FewScratch {
  float* queries;  // [kv_heads][head_dim][kTileRows], scaled
  float* scores;   // [kv_heads][kTileRows][kFewKeys]
  float* sums;     // [kv_heads][kTileRows][head_dim], the weighted values so far
  float* maxima;   // [kv_heads][kTileRows]
  float* weights;  // [kv_heads][kTileRows], sum of exp(score - maximum)
  float* rest;     // [kUnitKeys][head_dim], the last keys with zeros behind them
};

HWY_INLINE FewScratch CarveFew(float* memory, size_t kv_heads, size_t head_dim) {
  FewScratch s;
  s.queries = memory;
  s.scores = s.queries + kv_heads * head_dim * kTileRows;
  s.sums = s.scores + kv_heads * kTileRows * kFewKeys;
  s.maxima = s.sums + kv_heads * kTileRows * head_dim;
  s.weights = s.maxima + kv_heads * kTileRows;
  s.rest = s.weights + kv_heads * kTileRows;
  return s;
}

// Scores of `count` <= kUnitKeys keys from `key` on, of all key heads; unit [kv_heads][kTileRows][kFewKeys] is where they go.
template <size_t kRows>
HWY_INLINE void ScoreUnit(const AttentionArgs& args, const FewScratch& s, size_t key, size_t count, float* unit, Ahead* ahead) {
  const size_t dim = args.head_dim, stride = args.kv_heads * dim;
  const float* keys = args.keys + key * stride;
  for (size_t head = 0; head < args.kv_heads; ++head) {
    const float* from = keys + head * dim;
    size_t step = stride;
    if (count < kUnitKeys) {
      for (size_t i = 0; i < count; ++i) memcpy(s.rest + i * dim, from + i * stride, dim * sizeof(float));
      memset(s.rest + count * dim, 0, (kUnitKeys - count) * dim * sizeof(float));
      from = s.rest;
      step = dim;
    }
    float* scores = unit + head * kTileRows * kFewKeys;
    for (size_t i = 0; i < kUnitKeys; i += kLanes) {
      ScoreKeys<kRows>(s.queries + head * dim * kTileRows, from + i * step, step, dim, scores + i, ahead);
    }
  }
}

// Weights of `count` <= kFewKeys keys from their scores.
template <size_t kRows>
HWY_INLINE void WeighBlock(const AttentionArgs& args, const FewScratch& s, size_t key, size_t count) {
  const size_t group = args.q_heads / args.kv_heads;
  for (size_t head = 0; head < args.kv_heads; ++head) {
    for (size_t r = 0; r < kRows; ++r) {
      const size_t row = head * kTileRows + r;
      SoftmaxRow(s.scores + row * kFewKeys, Visible(args, r / group, key, count), count, s.maxima + row, s.weights + row,
                 s.sums + row * args.head_dim, args.head_dim);
    }
  }
}

// Values of `count` keys from `key` on, added up with their weights.
template <size_t kRows>
HWY_INLINE void AddUnit(const AttentionArgs& args, const FewScratch& s, size_t key, size_t count, const float* unit, Ahead* ahead) {
  const size_t dim = args.head_dim, stride = args.kv_heads * dim;
  for (size_t head = 0; head < args.kv_heads; ++head) {
    const float* weights = unit + head * kTileRows * kFewKeys;
    float* sums = s.sums + head * kTileRows * dim;
    const float* values = args.values + key * stride + head * dim;
    constexpr size_t kVectors = ValueVectors<kRows>();
    size_t c = 0;
    for (; c + kVectors * kLanes <= dim; c += kVectors * kLanes) {
      AddValues<kRows, kVectors>(weights, count, values + c, stride, dim, sums + c, ahead);
    }
    for (; c < dim; c += kLanes) AddValues<kRows, 1>(weights, count, values + c, stride, dim, sums + c, ahead);
  }
}

template <size_t kRows>
HWY_NOINLINE void AttendFewRows(const AttentionArgs& args, size_t key_begin, size_t key_end, const FewScratch& s) {
  const size_t stride = args.kv_heads * args.head_dim;
  const auto some = [](size_t key, size_t end) { return end - key < kUnitKeys ? end - key : kUnitKeys; };
  const auto ask = [&](const float* rows, size_t key, size_t end) {
    return key < end ? RowsAhead(rows + key * stride, some(key, end), stride) : Ahead{nullptr, nullptr};
  };
  Ahead ahead = ask(args.keys, key_begin, key_end);
  ahead.Ask(static_cast<size_t>(-1));
  for (size_t key = key_begin; key < key_end; key += kFewKeys) {
    const size_t end = key_end - key < kFewKeys ? key_end : key + kFewKeys;
    for (size_t at = key; at < end; at += kUnitKeys) {
      const size_t next = at + kUnitKeys;
      ahead = next < end ? ask(args.keys, next, end) : ask(args.values, key, end);
      ScoreUnit<kRows>(args, s, at, some(at, end), s.scores + (at - key), &ahead);
    }
    WeighBlock<kRows>(args, s, key, end - key);
    for (size_t at = key; at < end; at += kUnitKeys) {
      const size_t next = at + kUnitKeys;
      ahead = next < end ? ask(args.values, next, end) : ask(args.keys, end, key_end);
      AddUnit<kRows>(args, s, at, some(at, end), s.scores + (at - key), &ahead);
    }
  }
}

inline void AttendFew(const AttentionArgs& args, size_t key_begin, size_t key_end, float* memory, float* partials) {
  const size_t group = args.q_heads / args.kv_heads, rows = group * args.tokens;
  const FewScratch s = CarveFew(memory, args.kv_heads, args.head_dim);
  for (size_t head = 0; head < args.kv_heads; ++head) {
    AttentionBlock block{};
    block.args = &args;
    block.head_begin = head * group;
    PackQueries({block, group, rows}, s.queries + head * args.head_dim * kTileRows);
  }
  memset(s.sums, 0, args.kv_heads * kTileRows * args.head_dim * sizeof(float));
  for (size_t i = 0; i < args.kv_heads * kTileRows; ++i) {
    s.maxima[i] = -__builtin_inff();
    s.weights[i] = 0.0f;
  }
  const size_t visible = Visible(args, args.tokens - 1, 0, args.kv_length);
  const size_t last = visible < key_end ? visible : key_end;
  if (key_begin < last) {
    switch (rows) {
      case 1: AttendFewRows<1>(args, key_begin, last, s); break;
      case 2: AttendFewRows<2>(args, key_begin, last, s); break;
      case 3: AttendFewRows<3>(args, key_begin, last, s); break;
      case 4: AttendFewRows<4>(args, key_begin, last, s); break;
      case 5: AttendFewRows<5>(args, key_begin, last, s); break;
      case 6: AttendFewRows<6>(args, key_begin, last, s); break;
      case 7: AttendFewRows<7>(args, key_begin, last, s); break;
      default: AttendFewRows<8>(args, key_begin, last, s); break;
    }
  }
  for (size_t head = 0; head < args.kv_heads; ++head) {
    for (size_t r = 0; r < rows; ++r, partials += AttentionPartialFloats(args.head_dim)) {
      const size_t at = head * kTileRows + r;
      partials[0] = s.maxima[at];
      partials[1] = s.weights[at];
      memcpy(partials + 2, s.sums + at * args.head_dim, args.head_dim * sizeof(float));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_ATTENTION_FEW_INL_H_
