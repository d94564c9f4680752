#include "nchunk/streamed_matmul.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>

#include "gemm.h"
#include "kernel_table.h"
#include "row_blocks.h"
#include "row_panels.h"
#include "scratch.h"
#include "thread_pool.h"
#include "tile_schedule.h"

namespace nchunk {
namespace {

using Clock = std::chrono::steady_clock;

// Of a product with few tokens: its outputs then stay in the first cache levels.
constexpr size_t kMostTileColumns = 4096;

double Ns(Clock::duration time) { return std::chrono::duration<double, std::nano>(time).count(); }

// The outputs of a product cut into tiles: all of a range of columns, or, of many tokens, some of the tokens too.
GemmSplit SplitOutputs(const KernelTable& table, const StreamedMatmulArgs& args, bool many_tokens, size_t threads) {
  if (many_tokens) {
    GemmSplit split = SplitGemm(args.tokens, args.n, table.gemm.panel_columns, threads);
    split.tokens = std::min(split.tokens, kBlockTokens);
    split.token_items = (args.tokens + split.tokens - 1) / split.tokens;
    return split;
  }
  // Long stretches of a row at a time, or the reads of memory do not run on.
  constexpr size_t kFewestTileBytes = 2048;
  const size_t row_bytes = RowBytes(args.dtype, args.n, args.group_size);
  const size_t wanted = std::clamp(row_bytes / kFewestTileBytes, threads, 2 * threads);
  const size_t columns = std::min(kMostTileColumns, RoundUp((args.n + wanted - 1) / wanted, kQuantStep));
  return {columns, (args.n + columns - 1) / columns, args.tokens, 1};
}

class StreamedProduct {
 public:
  StreamedProduct(const StreamedMatmulArgs& args, CallScratch& scratch)
      : args_(args),
        table_(Kernels()),
        gemm_(RowGemm(table_, args.arithmetic, args.tokens)),
        many_tokens_(args.tokens >= kGemmTokens),
        blocks_(CutIntoBlocks(args, many_tokens_ ? gemm_.block_channels() : 0, scratch)),
        layout_(QuantLayoutOf(args.dtype, args.n, args.group_size)),
        panels_{gemm_, blocks_.rows, layout_, args.x, args.tokens, args.k, args.n},
        split_(SplitOutputs(table_, args, many_tokens_, static_cast<size_t>(ThreadPool::Instance().threads()))),
        tiles_(split_.column_items * split_.token_items),
        threads_(static_cast<size_t>(ThreadPool::Instance().threads())),
        schedule_(scratch.tiles.Take<TileSchedule::Tile>(tiles_), tiles_, threads_) {
    PackInputs(scratch);
  }

  // False when a stream ended before its rows had landed.
  bool Run() {
    ThreadPool::Instance().ParallelFor(threads_, [this](size_t thread) { Walk(thread); });
    return !failed_;
  }
  // Time in which all threads waited for rows.
  Clock::duration stall() const { return stall_; }

 private:
  void PackInputs(CallScratch& scratch) {
    const size_t rows = blocks_.rows.count;
    if (!many_tokens_) {
      packed_ = {scratch.packed.Take<float>(args_.tokens * rows), args_.tokens};
      for (size_t t = 0; t < args_.tokens; ++t) {
        for (size_t i = 0; i < rows; ++i) packed_.data[t * rows + i] = args_.x[t * args_.k + blocks_.rows.channels[i]];
      }
      return;
    }
    packed_ = {scratch.packed.Take<float>(PackedA::Floats(gemm_, args_.tokens, rows, blocks_.count)),
               RoundUp(args_.tokens, kTileRows)};
    ThreadPool::Instance().ParallelFor(blocks_.count, [this](size_t block) {
      const size_t k0 = blocks_.Begin(block);
      const size_t kc = blocks_.Begin(block + 1) - k0;
      for (size_t t = 0; t < packed_.padded_tokens; t += kTileRows) {
        PackTile(gemm_, panels_, t, k0, kc, packed_.At(gemm_, block, k0, kc, t));
      }
    });
  }

  // What one thread does: takes work while there is some, waits for the next block when all that landed is done.
  void Walk(size_t thread) {
    std::unique_lock<std::mutex> lock(mutex_);
    ++walkers_;
    NoteStall();
    while (!failed_) {
      while (ready_ < blocks_.count && HasLanded(blocks_.blocks[ready_])) ++ready_;
      TileSchedule::Work work;
      if (schedule_.Take(thread, ready_, &work)) {
        lock.unlock();
        Multiply(work);
        lock.lock();
        schedule_.Finish(work);
        ReleaseSlices();
      } else if (ready_ == blocks_.count) {
        break;  // what is left, others are at
      } else {
        WaitFor(blocks_.blocks[ready_], lock);
      }
    }
    --walkers_;
    NoteStall();
  }

  // After any change of who walks and who waits.
  void NoteStall() {
    const bool stalled = waiting_ > 0 && waiting_ == walkers_;
    if (stalled && !stalled_) stall_since_ = Clock::now();
    if (!stalled && stalled_) stall_ += Clock::now() - stall_since_;
    stalled_ = stalled;
  }

  bool HasLanded(const RowBlock& block) const {
    for (size_t s = 0; s < 2; ++s) {
      if (block.needs[s] > 0 && args_.streams[s]->LandedSlices() < block.needs[s]) return false;
    }
    return true;
  }

  void WaitFor(const RowBlock& block, std::unique_lock<std::mutex>& lock) {
    ++waiting_;
    NoteStall();
    lock.unlock();
    bool landed = true;
    for (size_t s = 0; s < 2 && landed; ++s) landed = block.needs[s] == 0 || args_.streams[s]->Wait(block.needs[s]);
    lock.lock();
    --waiting_;
    NoteStall();
    if (!landed) failed_ = true;
  }

  void ReleaseSlices() {
    const size_t done = schedule_.Done();
    for (; released_ < done; ++released_) {
      for (size_t s = 0; s < 2; ++s) {
        const uint32_t past = blocks_.blocks[released_].past[s];
        if (past > freed_[s]) args_.streams[s]->Release(freed_[s] = past);
      }
    }
  }

  void Multiply(const TileSchedule::Work& work) {
    const size_t column = work.tile / split_.token_items * split_.columns;
    const size_t columns = std::min(split_.columns, args_.n - column);
    if (!many_tokens_) return MultiplyRows(work, column, columns);
    const GemmShape shape{args_.tokens, blocks_.rows.count, args_.n, args_.y, args_.accumulate, nullptr, Activation::kNone};
    const size_t t0 = work.tile % split_.token_items * split_.tokens;
    const size_t count = std::min(split_.tokens, args_.tokens - t0);
    const GemmTile tile{t0, count, column, columns, args_.y + t0 * args_.n + column};
    MultiplyTile(gemm_, shape, panels_, packed_, tile, [this](size_t block) { return blocks_.Begin(block); },
                 work.block_begin, work.block_end, Next(work));
  }

  GemmNext Next(const TileSchedule::Work& work) const {
    if (work.next_tile == tiles_) return {};
    const size_t column = work.next_tile / split_.token_items * split_.columns;
    return {work.next_block, column, std::min(split_.columns, args_.n - column)};
  }

  // Few tokens: straight from the rows.
  void MultiplyRows(const TileSchedule::Work& work, size_t column, size_t columns) {
    if (work.block_begin == 0 && !args_.accumulate) {
      for (size_t t = 0; t < args_.tokens; ++t) std::memset(args_.y + t * args_.n + column, 0, columns * sizeof(float));
    }
    for (size_t block = work.block_begin; block < work.block_end; ++block) {
      // Never across blocks: rows of one call may be summed up together.
      const size_t end = blocks_.Begin(block + 1);
      // A few rows are multiplied by all tokens while they are in cache; with one token, the more the better.
      const size_t together = args_.tokens == 1 ? end : IsQuantised(args_.dtype) ? kQuantGemvRows : kGemvRows;
      for (size_t row = blocks_.Begin(block); row < end; row += together) {
        MultiplyGroup(row, std::min(together, end - row), end, column, columns);
      }
    }
  }

  // Rows [row, row + count); those after them, below `end`, are asked for meanwhile.
  void MultiplyGroup(size_t row, size_t count, size_t end, size_t column, size_t columns) {
    const uint8_t* const* here = blocks_.rows.pointers + row;
    for (size_t t = 0; t < args_.tokens; ++t) {
      const float* xs = packed_.data + t * blocks_.rows.count + row;
      float* y = args_.y + t * args_.n + column;
      const size_t ahead = t == 0 ? std::min(count, end - row - count) : 0;
      if (IsQuantised(args_.dtype)) {
        QuantGemv(table_, args_.arithmetic, args_.dtype, args_.tokens, args_.n)(layout_, here, xs, count, column, columns, y,
                                                                                here + count, ahead);
      } else {
        table_.gemv_columns(here, xs, count, args_.dtype, column, columns, y, here + count, ahead);
      }
    }
  }

  const StreamedMatmulArgs& args_;
  const KernelTable& table_;
  const GemmKernels& gemm_;
  const bool many_tokens_;
  const RowBlocks blocks_;
  const QuantLayout layout_;
  const RowPanels panels_;
  const GemmSplit split_;
  const size_t tiles_;
  const size_t threads_;
  PackedA packed_{};  // of few tokens: [tokens, rows]

  std::mutex mutex_;
  // Guarded by mutex_.
  TileSchedule schedule_;
  size_t ready_ = 0;  // blocks [0, ready_) have landed
  size_t released_ = 0;
  uint32_t freed_[2] = {0, 0};
  bool failed_ = false;
  size_t walkers_ = 0;  // threads in Walk, and of them those that wait for rows
  size_t waiting_ = 0;
  bool stalled_ = false;
  Clock::time_point stall_since_;
  Clock::duration stall_{};
};

// y (+)= x[:, :resident_rows] W[:resident_rows, :]
void MultiplyResident(const StreamedMatmulArgs& args) {
  const uint32_t first = 0;
  const auto length = static_cast<uint32_t>(args.resident_rows);
  const double offset_bytes = 0;
  ChunkedMatmul({args.x, args.tokens, args.k, &first, &length, 1, args.resident, &offset_bytes, args.row_bytes, args.dtype,
                 args.n, args.y, args.accumulate, args.group_size, args.arithmetic});
}

}  // namespace

bool StreamedMatmul(const StreamedMatmulArgs& args, StreamedTimes* times) {
  const Clock::time_point start = Clock::now();
  const bool has_resident = args.resident_rows > 0;
  if (has_resident || args.piece_count == 0) MultiplyResident(args);
  bool complete = true;
  *times = {0, 0};
  if (args.piece_count > 0 && args.tokens > 0 && args.n > 0) {
    StreamedMatmulArgs rest = args;
    rest.accumulate = args.accumulate || has_resident;
    ScratchLease scratch;
    StreamedProduct product(rest, *scratch.operator->());
    complete = product.Run();
    times->stall_ns = Ns(product.stall());
  }
  times->compute_ns = Ns(Clock::now() - start) - times->stall_ns;
  return complete;
}

}  // namespace nchunk
