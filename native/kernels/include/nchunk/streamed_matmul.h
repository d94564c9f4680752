// The chunked product while its rows are still being read: y (+)= x[:, rows] W[rows, :], each block of rows multiplied when it has
// landed, so that arithmetic hides under reading or reading under arithmetic.
#ifndef NCHUNK_STREAMED_MATMUL_H_
#define NCHUNK_STREAMED_MATMUL_H_

#include <cstddef>
#include <cstdint>

#include "nchunk/arrivals.h"
#include "nchunk/kernels.h"

namespace nchunk {

// In StreamedMatmulArgs::slices: the slice is one of the second stream.
constexpr uint32_t kSecondStream = 0x80000000u;

// Rows are multiplied in this order: those in memory, as ChunkedMatmul does, then the pieces. Piece p holds rows starts[p] ..
// starts[p] + lengths[p]; its row r lies at landings[s] + offsets_bytes[p] + r * row_bytes once its slice, of stream s, has landed.
// The slices of each stream ascend with the pieces, and every slice has a piece.
struct StreamedMatmulArgs {
  const float* x;  // [tokens, k]
  size_t tokens;
  size_t k;
  const uint8_t* resident;  // channels [0, resident_rows), row_bytes apart
  size_t resident_rows;
  const uint32_t* starts;
  const uint32_t* lengths;
  const uint32_t* slices;  // which slice, and of which stream
  size_t piece_count;
  const double* offsets_bytes;
  // Of each stream; the second may be null.
  const uint8_t* landings[2];
  Arrivals* streams[2];
  size_t window;         // slices of a stream that have memory at the same time, at least 2
  size_t row_bytes;
  Dtype dtype;
  size_t n;
  float* y;  // [tokens, n]
  bool accumulate;
  size_t group_size = 0;  // columns per scale, 32 or 64; of kI8 and kI4 only
  Arithmetic arithmetic = Arithmetic::kF32;
};

struct StreamedTimes {
  double compute_ns;  // something was packed or multiplied
  double stall_ns;    // all of them waited for rows
};

// False when a stream ended before its rows had landed: y is undefined then. Slices are released as soon as they are multiplied.
// Waits for rows: not for a thread that must not block. The result depends on the pieces and slices only, not on the order or the
// time in which they land, nor on the number of threads.
bool StreamedMatmul(const StreamedMatmulArgs& args, StreamedTimes* times);

}  // namespace nchunk

#endif  // NCHUNK_STREAMED_MATMUL_H_
