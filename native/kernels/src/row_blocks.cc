#include "row_blocks.h"

#include <algorithm>

namespace nchunk {
namespace {

// Blocks of a product: little to wait for before each, little left to do after the last has landed.
constexpr size_t kWantedBlocks = 16;
// Quantised rows are summed in groups of this many; a block is whole groups.
constexpr size_t kStepRows = kQuantGemvRows;
// Of blocks of a product with few tokens. Smaller ones cost more to hand out than to multiply.
constexpr size_t kFewestBytes = 64 * 1024;
constexpr size_t kMostBytes = 1024 * 1024;

// Rows of each block, by where it begins.
class BlockSizes {
 public:
  BlockSizes(const StreamedMatmulArgs& args, size_t rows, size_t gemm_channels) : rows_(rows) {
    const bool many_tokens = gemm_channels > 0;
    const size_t most = many_tokens ? gemm_channels : std::max<size_t>(kStepRows, kMostBytes / args.row_bytes);
    // Each block reads and writes all outputs: half of what fits a panel costs little more than all, a quarter a tenth.
    const size_t fewest = many_tokens ? gemm_channels / 2 : kFewestBytes / args.row_bytes;
    most_ = RoundUp(std::clamp(rows / kWantedBlocks, std::min(fewest, most), most), kStepRows);
    first_ = many_tokens ? RoundUp(most_ / 2, kStepRows) : most_;
  }

  // Of the block that begins after `done` rows: small ones first and last, so that little is waited for and little is left when
  // the last row has landed; larger ones between, which cost less.
  size_t After(size_t done) const {
    const size_t left = rows_ - done;
    return RoundUp(std::clamp(std::min(done, left / 2), first_, most_), kStepRows);
  }
  size_t fewest() const { return first_; }

 private:
  size_t rows_;
  size_t first_;
  size_t most_;
};

// Takes the rows in order and cuts them.
class Cutter {
 public:
  Cutter(RowBlock* blocks, const BlockSizes& sizes, size_t window)
      : blocks_(blocks), sizes_(sizes), most_slices_(static_cast<uint32_t>(std::max<size_t>(1, window / 2))) {}

  // Rows [row, row + length) lie in `slice` of stream `s`.
  void Add(size_t row, size_t length, size_t s, uint32_t slice) {
    const size_t end = row + length;
    while (row < end) {
      // A block must not wait for a slice that gets its memory from the block's own first one.
      if (row >= block_end_ || (touched_[s] && slice - first_[s] >= most_slices_)) Start(row);
      if (!touched_[s]) first_[s] = slice;
      touched_[s] = true;
      blocks_[count_ - 1].needs[s] = slice + 1;
      blocks_[count_ - 1].past[s] = slice;  // more of its rows may come
      row = std::min(end, block_end_);
    }
  }

  size_t Finish(size_t rows) {
    if (count_ > 0) std::copy_n(blocks_[count_ - 1].needs, 2, blocks_[count_ - 1].past);
    blocks_[count_] = {rows, {0, 0}, {0, 0}};
    return count_;
  }

 private:
  void Start(size_t row) {
    RowBlock& block = blocks_[count_];
    block = count_ == 0 ? RowBlock{} : blocks_[count_ - 1];
    block.begin = row;
    touched_[0] = touched_[1] = false;
    block_end_ = row + sizes_.After(row);
    ++count_;
  }

  RowBlock* const blocks_;
  const BlockSizes& sizes_;
  const uint32_t most_slices_;
  size_t count_ = 0;
  size_t block_end_ = 0;
  // Of the block that is being filled: whether it has rows of a stream, and in which slice they begin.
  bool touched_[2] = {false, false};
  uint32_t first_[2] = {0, 0};
};

}  // namespace

RowBlocks CutIntoBlocks(const StreamedMatmulArgs& args, size_t gemm_channels, CallScratch& scratch) {
  size_t rows = 0;
  for (size_t p = 0; p < args.piece_count; ++p) rows += args.lengths[p];
  const RowList list{scratch.rows.Take<const uint8_t*>(rows), scratch.indices.Take<uint32_t>(rows), rows};
  const BlockSizes sizes(args, rows, gemm_channels);
  // Every piece may end a block before it is full.
  RowBlock* blocks = scratch.blocks.Take<RowBlock>(rows / sizes.fewest() + args.piece_count + 3);
  Cutter cutter(blocks, sizes, args.window);
  size_t row = 0;
  for (size_t p = 0; p < args.piece_count; ++p) {
    const size_t stream = args.slices[p] >= kSecondStream ? 1 : 0;
    const uint8_t* at = args.landings[stream] + static_cast<size_t>(args.offsets_bytes[p]);
    cutter.Add(row, args.lengths[p], stream, args.slices[p] & ~kSecondStream);
    for (uint32_t r = 0; r < args.lengths[p]; ++r, ++row, at += args.row_bytes) {
      list.pointers[row] = at;
      list.channels[row] = args.starts[p] + r;
    }
  }
  const size_t count = cutter.Finish(rows);
  return {list, blocks, count};
}

}  // namespace nchunk
