// Products with one token: bound by the memory the weights come from.
#ifndef NCHUNK_SIMD_GEMV_INL_H_
#define NCHUNK_SIMD_GEMV_INL_H_

#include "simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

// A number of rows that is known to the compiler.
template <size_t kRows>
struct Together {
  static constexpr size_t value = kRows;
};

// Columns of a weight row that are multiplied before the next row is turned to: the outputs of as many stay in the first cache
// level.
constexpr size_t kOrderedColumns = 5120;
// Parts of rows that are wider.
constexpr size_t kPartColumns = 2048;
// How far ahead of use weights are asked for: the bytes that memory delivers while one request is answered, a few times over.
constexpr size_t kAheadBytes = 8192;

// Rows multiplied at once. Rows that are whole follow one another in memory: the fewer at once, the nearer the reads are to one
// stream, which the hardware foresees; of parts it sees many short streams anyway.
#if HWY_TARGET == HWY_AVX3
constexpr size_t kWholeRows = 1;
#else
constexpr size_t kWholeRows = 2;
#endif
constexpr size_t kPartRows = 8;

// The order of one call: columns by columns, all rows of each; then its next rows.
struct RowOrder {
  const uint8_t* const* rows;
  size_t count;
  const uint8_t* const* next_rows;
  size_t next_count;

  // What is multiplied after `i` rows of columns from `here`: a row and where its columns start. `then` follows `here` (it is
  // `here` where nothing does), `first` is where next_rows start.
  struct Place {
    const uint8_t* row;
    size_t column;
  };
  HWY_INLINE Place After(size_t i, size_t here, size_t then, size_t first) const {
    if (HWY_LIKELY(i < count)) return {rows[i], here};
    i -= count;
    if (then != here) return {rows[i < count ? i : count - 1], then};
    if (next_count > 0) return {next_rows[i < next_count ? i : next_count - 1], first};
    return {rows[count - 1], here};
  }
};

// How many rows ahead of use `ahead_bytes` are, whole groups of `together`.
HWY_INLINE size_t RowsAhead(size_t row_bytes, size_t together, size_t ahead_bytes) {
  const size_t group_bytes = row_bytes * together;
  return group_bytes >= ahead_bytes ? together : (ahead_bytes + group_bytes - 1) / group_bytes * together;
}

// y[0..n) += sum over kRows rows of xs[i] * rows[i][0..n); as many bytes at ahead[i] are asked for.
template <size_t kRows, Dtype kDtype>
HWY_INLINE void GemvBlock(const uint8_t* const* rows, const uint8_t* const* ahead, const float* xs, size_t n,
                          float* HWY_RESTRICT y) {
  constexpr size_t kBytes = ElementBytes(kDtype);
  constexpr size_t kStep = 64 / kBytes < 2 * kLanes ? 2 * kLanes : 64 / kBytes;  // whole cache lines of weights
  constexpr size_t kVectors = kStep / kLanes;
  const uint8_t* row[kRows];
  const uint8_t* soon[kRows];
  V x[kRows];
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
    row[i] = rows[i];
    soon[i] = ahead[i];
    x[i] = Broadcast(xs[i]);
  }
  size_t j = 0;
  for (; j + kStep <= n; j += kStep) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t b = 0; b < kStep * kBytes; b += 64) PrefetchNear(soon[i] + j * kBytes + b);
    }
    for (size_t v = 0; v < kVectors; v += 2) {
      const size_t at = j + v * kLanes;
      V sum0 = hn::LoadU(df, y + at);
      V sum1 = hn::LoadU(df, y + at + kLanes);
#pragma GCC unroll 8
      for (size_t i = 0; i < kRows; ++i) {
        sum0 = hn::MulAdd(x[i], LoadWeights<kDtype>(row[i] + at * kBytes), sum0);
        sum1 = hn::MulAdd(x[i], LoadWeights<kDtype>(row[i] + (at + kLanes) * kBytes), sum1);
      }
      hn::StoreU(sum0, df, y + at);
      hn::StoreU(sum1, df, y + at + kLanes);
    }
  }
  for (; j < n; j += kLanes) {
    const size_t count = n - j < kLanes ? n - j : kLanes;
    V sum = LoadTail(y + j, count);
    for (size_t i = 0; i < kRows; ++i) {
      sum = hn::MulAdd(x[i], LoadWeightsTail<kDtype>(row[i] + j * kBytes, count), sum);
    }
    StoreTail(sum, y + j, count);
  }
}

// Columns [column, column + columns) of rows, kTogether at once.
template <size_t kTogether, Dtype kDtype>
HWY_INLINE void GemvOf(const RowOrder& order, const float* xs, size_t column, size_t columns, float* y) {
  constexpr size_t kBytes = ElementBytes(kDtype);
  const size_t width = columns <= kOrderedColumns ? columns : kPartColumns;
  for (size_t from = 0; from < columns; from += width) {
    const size_t n = columns - from < width ? columns - from : width;
    const size_t here = column + from;
    const size_t then = from + width < columns ? here + width : here;
    const size_t rows_ahead = RowsAhead(n * kBytes, kTogether, kAheadBytes);
    const auto block = [&](auto rows_together, size_t i) HWY_ATTR {
      constexpr size_t kRows = decltype(rows_together)::value;
      const uint8_t* row[kRows];
      const uint8_t* ahead[kRows];
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        row[r] = order.rows[i + r] + here * kBytes;
        const RowOrder::Place place = order.After(i + r + rows_ahead, here, then, column);
        ahead[r] = place.row + place.column * kBytes;
      }
      GemvBlock<kRows, kDtype>(row, ahead, xs + i, n, y + from);
    };
    size_t i = 0;
    for (; i + kTogether <= order.count; i += kTogether) block(Together<kTogether>(), i);
    for (; i + 2 <= order.count && kTogether > 2; i += 2) block(Together<2>(), i);
    for (; i < order.count && kTogether > 1; ++i) block(Together<1>(), i);
  }
}

template <size_t kTogether>
HWY_INLINE void GemvRowsOfAny(const RowOrder& order, const float* xs, Dtype dtype, size_t column, size_t columns, float* y) {
  switch (dtype) {
    case Dtype::kF32: return GemvOf<kTogether, Dtype::kF32>(order, xs, column, columns, y);
    case Dtype::kBF16: return GemvOf<kTogether, Dtype::kBF16>(order, xs, column, columns, y);
    case Dtype::kF16: return GemvOf<kTogether, Dtype::kF16>(order, xs, column, columns, y);
    default: return;  // quant-inl.h has the quantised ones
  }
}

inline void GemvRows(const uint8_t* const* rows, const float* xs, size_t count, Dtype dtype, size_t n, float* y,
                     const uint8_t* const* next_rows, size_t next_count) {
  const RowOrder order{rows, count, next_rows, next_count};
  if (n > kOrderedColumns) return GemvRowsOfAny<kPartRows>(order, xs, dtype, 0, n, y);
  GemvRowsOfAny<kWholeRows>(order, xs, dtype, 0, n, y);
}

inline void GemvColumns(const uint8_t* const* rows, const float* xs, size_t count, Dtype dtype, size_t column, size_t columns,
                        float* y, const uint8_t* const* next_rows, size_t next_count) {
  GemvRowsOfAny<kPartRows>({rows, count, next_rows, next_count}, xs, dtype, column, columns, y);
}

// y[i] = dot(x, row i), i < kRows, for rows that follow one another.
template <size_t kRows, Dtype kDtype>
HWY_INLINE void DotBlock(const float* HWY_RESTRICT x, size_t k, const uint8_t* weight, float* HWY_RESTRICT y) {
  constexpr size_t kBytes = ElementBytes(kDtype);
  // The rows are one stretch of memory, too many streams for the hardware to see: asked for in order, this far ahead.
  constexpr size_t kAheadBytes = 8192;
  const size_t row_bytes = k * kBytes;
  const uint8_t* ahead = weight + kAheadBytes;
  V even[kRows];
  V odd[kRows];
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) even[i] = odd[i] = hn::Zero(df);
  size_t j = 0;
  for (; j + 2 * kLanes <= k; j += 2 * kLanes) {
    const V x0 = hn::LoadU(df, x + j);
    const V x1 = hn::LoadU(df, x + j + kLanes);
    for (size_t b = 0; b < 2 * kLanes * kBytes * kRows; b += 64) Prefetch(ahead + b);
    ahead += 2 * kLanes * kBytes * kRows;
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      const uint8_t* at = weight + i * row_bytes + j * kBytes;
      even[i] = hn::MulAdd(x0, LoadWeights<kDtype>(at), even[i]);
      odd[i] = hn::MulAdd(x1, LoadWeights<kDtype>(at + kLanes * kBytes), odd[i]);
    }
  }
  for (; j < k; j += kLanes) {
    const size_t count = k - j < kLanes ? k - j : kLanes;
    const V x0 = LoadTail(x + j, count);
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      even[i] = hn::MulAdd(x0, LoadWeightsTail<kDtype>(weight + i * row_bytes + j * kBytes, count), even[i]);
    }
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) y[i] = Sum(even[i] + odd[i]);
}

template <Dtype kDtype>
HWY_INLINE void DotRowsOf(const float* x, size_t k, const uint8_t* weight, size_t n, float* y) {
  const size_t row_bytes = k * ElementBytes(kDtype);
  size_t i = 0;
  for (; i + 4 <= n; i += 4) DotBlock<4, kDtype>(x, k, weight + i * row_bytes, y + i);
  for (; i < n; ++i) DotBlock<1, kDtype>(x, k, weight + i * row_bytes, y + i);
}

inline void DotRows(const float* x, size_t k, const uint8_t* weight, Dtype dtype, size_t n, float* y) {
  switch (dtype) {
    case Dtype::kF32: return DotRowsOf<Dtype::kF32>(x, k, weight, n, y);
    case Dtype::kBF16: return DotRowsOf<Dtype::kBF16>(x, k, weight, n, y);
    case Dtype::kF16: return DotRowsOf<Dtype::kF16>(x, k, weight, n, y);
    default: return;  // quant-inl.h has the quantised ones
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nchunk
HWY_AFTER_NAMESPACE();

#endif  // NCHUNK_SIMD_GEMV_INL_H_
