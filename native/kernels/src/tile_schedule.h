// Who multiplies what next, when rows become available one block after the other.
#ifndef NCHUNK_TILE_SCHEDULE_H_
#define NCHUNK_TILE_SCHEDULE_H_

#include <algorithm>
#include <cstddef>

namespace nchunk {

// The blocks are gone through in order for every tile of the outputs, by one thread at a time, as many together as there are: a
// tile stays in that thread's cache for them, and its sums do not depend on when blocks came. Not thread-safe.
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
  };

  // `tiles` [count] is the caller's memory.
  TileSchedule(Tile* tiles, size_t count) : tiles_(tiles), count_(count) { std::fill_n(tiles, count, Tile{0, false}); }

  // The tile that is furthest behind, of those that nobody is at; false when there is none with a block below `ready` to do.
  bool Take(size_t ready, Work* work) {
    size_t best = count_;
    for (size_t i = 0; i < count_; ++i) {
      if (!tiles_[i].busy && tiles_[i].done < (best == count_ ? ready : tiles_[best].done)) best = i;
    }
    if (best == count_) return false;
    tiles_[best].busy = true;
    *work = {best, tiles_[best].done, ready};
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
  Tile* const tiles_;
  const size_t count_;
};

}  // namespace nchunk

#endif  // NCHUNK_TILE_SCHEDULE_H_
