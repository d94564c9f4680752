// The rows of a streamed product cut into blocks, which are multiplied in order.
#ifndef NCHUNK_ROW_BLOCKS_H_
#define NCHUNK_ROW_BLOCKS_H_

#include <cstddef>
#include <cstdint>

#include "nchunk/streamed_matmul.h"
#include "row_panels.h"
#include "scratch.h"

namespace nchunk {

// Rows [begin, next block's begin).
struct RowBlock {
  size_t begin;
  // It has landed when slices [0, needs[s]) of stream s have; after it, slices [0, past[s]) are free.
  uint32_t needs[2];
  uint32_t past[2];
};

// The rows of all pieces and their blocks, in the scratch of a call. blocks[count].begin is the number of rows.
struct RowBlocks {
  RowList rows;
  const RowBlock* blocks;
  size_t count;

  size_t Begin(size_t block) const { return blocks[block].begin; }
};

// `gemm_channels`: a block of many tokens' at most, 0 of few tokens.
RowBlocks CutIntoBlocks(const StreamedMatmulArgs& args, size_t gemm_channels, CallScratch& scratch);

}  // namespace nchunk

#endif  // NCHUNK_ROW_BLOCKS_H_
