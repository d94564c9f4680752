// Who multiplies what next, when rows become available one block after the other.
#ifndef NCHUNK_TILE_SCHEDULE_H_
#define NCHUNK_TILE_SCHEDULE_H_

#include <algorithm>
#include <cstddef>

namespace nchunk {

// The blocks are gone through in order for every tile of the outputs, by one thread at a time, as many together as there are: a
// tile stays in that thread's cache for them, and its sums do not depend on when blocks came. Nothing is held back for more blocks
// to come: what is done with few of them while threads have nothing else to do is not left for the end. Not thread-safe.
class TileSchedule {
 public:
  struct Tile {
    size_t done;  // blocks [0, done) are in its sums
    bool busy;
  };
  // Blocks [block_begin, block_end) of one tile.
  struct Work {
    size_t tile;
    size_t block_begin;
    size_t block_end;
    // What the same thread will probably be given next; as many as there are tiles: nothing.
    size_t next_tile;
    size_t next_block;
  };

  // `tiles` [count] is the caller's memory. `threads` threads will take work.
  TileSchedule(Tile* tiles, size_t count, size_t threads) : tiles_(tiles), count_(count), threads_(threads) {
    std::fill_n(tiles, count, Tile{0, false});
  }

  // For thread `thread`: the tile that is furthest behind, of those that nobody is at; one of its own as long as one has a block
  // below `ready` to do. False when none has.
  bool Take(size_t thread, size_t ready, Work* work) {
    size_t tile = FurthestBehind(Begin(thread), Begin(thread + 1), ready);
    if (tile == count_) tile = FurthestBehind(0, count_, ready);
    if (tile == count_) return false;
    tiles_[tile].busy = true;
    const size_t next = FurthestBehind(Begin(thread), Begin(thread + 1), ready);
    *work = {tile, tiles_[tile].done, ready, next, next == count_ ? 0 : tiles_[next].done};
    return true;
  }

  void Finish(const Work& work) { tiles_[work.tile] = {work.block_end, false}; }

  // Blocks that are in the sums of every tile.
  size_t Done() const {
    size_t done = tiles_[0].done;
    for (size_t i = 1; i < count_; ++i) done = std::min(done, tiles_[i].done);
    return done;
  }

 private:
  // Every thread has tiles of its own, which stay in its cache if there is room.
  size_t Begin(size_t thread) const { return count_ * thread / threads_; }
  // Of tiles [begin, end); count_ when there is none.
  size_t FurthestBehind(size_t begin, size_t end, size_t ready) const {
    size_t best = count_;
    for (size_t i = begin; i < end; ++i) {
      if (!tiles_[i].busy && tiles_[i].done < (best == count_ ? ready : tiles_[best].done)) best = i;
    }
    return best;
  }

  Tile* const tiles_;
  const size_t count_;
  const size_t threads_;
};

}  // namespace nchunk

#endif  // NCHUNK_TILE_SCHEDULE_H_
