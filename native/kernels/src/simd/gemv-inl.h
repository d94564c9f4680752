// Products with one token: bound by the memory the weights come from.
#ifndef NCHUNK_SIMD_GEMV_INL_H_
#define NCHUNK_SIMD_GEMV_INL_H_

#include "simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nchunk {
namespace HWY_NAMESPACE {

// Walks through rows in memory order, one cache line at a time.
struct PrefetchCursor {
  const uint8_t* const* rows;
  size_t count;
  size_t row_bytes;
  size_t row = 0;
  size_t offset_bytes = 0;

  HWY_INLINE void Advance(size_t lines) {
    for (size_t i = 0; i < lines && row < count; ++i) {
      Prefetch(rows[row] + offset_bytes);
      offset_bytes += 64;
      if (offset_bytes >= row_bytes) {
        offset_bytes = 0;
        ++row;
      }
    }
  }
};

// Rows multiplied together are more streams than the hardware follows into the first cache level, so that is asked for this far
// ahead; the cursor has asked for them into the second.
constexpr size_t kNearBytes = 192;

// y[0..n) += sum over kRows rows of xs[i] * rows[i][0..n).
template <size_t kRows, Dtype kDtype>
HWY_INLINE void GemvBlock(const uint8_t* const* rows, const float* xs, size_t n, float* HWY_RESTRICT y,
                          PrefetchCursor& cursor) {
  constexpr size_t kBytes = ElementBytes(kDtype);
  constexpr size_t kStep = 64 / kBytes < 2 * kLanes ? 2 * kLanes : 64 / kBytes;  // whole cache lines of weights
  constexpr size_t kVectors = kStep / kLanes;
  const uint8_t* row[kRows];
  V x[kRows];
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
    row[i] = rows[i];
    x[i] = Broadcast(xs[i]);
  }
  size_t j = 0;
  for (; j + kStep <= n; j += kStep) {
    cursor.Advance(kRows * kStep * kBytes / 64);
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t b = 0; b < kStep * kBytes; b += 64) __builtin_prefetch(row[i] + j * kBytes + kNearBytes + b, 0, 3);
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

template <Dtype kDtype>
HWY_INLINE void GemvRowsOf(const uint8_t* const* rows, const float* xs, size_t count, size_t n, float* y,
                           PrefetchCursor cursor) {
  if (HWY_LIKELY(count == kGemvRows)) return GemvBlock<kGemvRows, kDtype>(rows, xs, n, y, cursor);
  size_t i = 0;
  if (count & 4) {
    GemvBlock<4, kDtype>(rows, xs, n, y, cursor);
    i += 4;
  }
  if (count & 2) {
    GemvBlock<2, kDtype>(rows + i, xs + i, n, y, cursor);
    i += 2;
  }
  if (count & 1) GemvBlock<1, kDtype>(rows + i, xs + i, n, y, cursor);
}

inline void GemvRows(const uint8_t* const* rows, const float* xs, size_t count, Dtype dtype, size_t n, float* y,
                     const uint8_t* const* next_rows, size_t next_count) {
  const PrefetchCursor cursor{next_rows, next_count, n * ElementBytes(dtype)};
  switch (dtype) {
    case Dtype::kF32: return GemvRowsOf<Dtype::kF32>(rows, xs, count, n, y, cursor);
    case Dtype::kBF16: return GemvRowsOf<Dtype::kBF16>(rows, xs, count, n, y, cursor);
    case Dtype::kF16: return GemvRowsOf<Dtype::kF16>(rows, xs, count, n, y, cursor);
    default: return;  // quant-inl.h has the quantised ones
  }
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
