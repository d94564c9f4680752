// The streamed product against the product of rows that are all there, fed by a thread that lands slices in any order and takes
// memory back as soon as it is released.
#include "nchunk/streamed_matmul.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "support.h"
#include "tile_schedule.h"

namespace nchunk::test {
namespace {

constexpr uint8_t kTakenBack = 0xff;  // NaN in every dtype that is not quantised, and in every scale

// A plan of one stored matrix, cut into slices that land in turn in `window` slots of one memory.
struct SlicedPlan {
  std::vector<uint32_t> starts, lengths, slices;
  std::vector<double> offsets_bytes;
  std::vector<size_t> slice_begin;  // first piece of each slice, and the number of pieces
  size_t window = 2;
  size_t slot_bytes = 0;

  size_t slice_count() const { return slice_begin.size() - 1; }
};

// Lands the slices of a plan from `file` [k rows] into `landing`.
class Feeder {
 public:
  Feeder(Arrivals& arrivals, const SlicedPlan& plan, const std::vector<uint8_t>& file, size_t row_bytes,
         std::vector<uint8_t>& landing, size_t base, unsigned seed, size_t stop_before)
      : arrivals_(arrivals), plan_(plan), file_(file), row_bytes_(row_bytes), landing_(landing), base_(base), random_(seed),
        stop_before_(stop_before) {
    arrivals.Begin({this, &Feeder::Release, &Feeder::Close}, plan.slice_count());
    thread_ = std::thread([this] { Feed(); });
  }
  ~Feeder() { thread_.join(); }
  bool closed() const { return closed_; }
  size_t released() const { return released_; }

 private:
  static void Release(void* self, uint32_t count) {
    auto& feeder = *static_cast<Feeder*>(self);
    const std::lock_guard<std::mutex> lock(feeder.mutex_);
    for (size_t slice = feeder.released_; slice < count; ++slice) feeder.Poison(slice);
    feeder.released_ = std::max<size_t>(feeder.released_, count);
    feeder.changed_.notify_all();
  }
  static void Close(void* self) {
    auto& feeder = *static_cast<Feeder*>(self);
    const std::lock_guard<std::mutex> lock(feeder.mutex_);
    EXPECT_FALSE(feeder.closed_);
    feeder.closed_ = true;
    feeder.changed_.notify_all();
  }
  uint8_t* Slot(size_t slice) { return landing_.data() + base_ + slice % plan_.window * plan_.slot_bytes; }
  void Poison(size_t slice) { std::fill_n(Slot(slice), plan_.slot_bytes, kTakenBack); }

  void Feed() {
    size_t next = 0;
    std::vector<size_t> under_way;
    while (next < plan_.slice_count() || !under_way.empty()) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return closed_ || !under_way.empty() || next < released_ + plan_.window; });
        if (closed_) break;
        while (next < std::min(plan_.slice_count(), released_ + plan_.window)) under_way.push_back(next++);
      }
      const size_t pick = random_() % under_way.size();
      const size_t slice = under_way[pick];
      under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(pick));
      if (slice >= stop_before_) break;
      for (size_t p = plan_.slice_begin[slice]; p < plan_.slice_begin[slice + 1]; ++p) {
        std::memcpy(landing_.data() + static_cast<size_t>(plan_.offsets_bytes[p]), file_.data() + plan_.starts[p] * row_bytes_,
                    plan_.lengths[p] * row_bytes_);
      }
      if (random_() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random_() % 300));
      arrivals_.Landed(slice);
    }
    arrivals_.End();
  }

  Arrivals& arrivals_;
  const SlicedPlan& plan_;
  const std::vector<uint8_t>& file_;
  const size_t row_bytes_;
  std::vector<uint8_t>& landing_;
  const size_t base_;
  std::mt19937 random_;
  const size_t stop_before_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t released_ = 0;
  bool closed_ = false;
  std::thread thread_;
};

constexpr size_t kNever = static_cast<size_t>(-1);

class Streamed : public OnTarget {
 protected:
  struct Case {
    size_t tokens, k, n;
    Dtype dtype;
    size_t group;
    size_t resident;
    bool accumulate;
    bool two_streams;
    Arithmetic arithmetic = Arithmetic::kF32;
  };

  // Random chunks of rows [from, k), cut into slices of at most `most_rows` rows.
  SlicedPlan MakePlan(size_t from, size_t k, size_t row_bytes, size_t most_rows, size_t window, size_t base) {
    SlicedPlan plan;
    plan.window = window;
    plan.slot_bytes = most_rows * row_bytes + 5;
    plan.slice_begin.push_back(0);
    size_t room = most_rows;
    for (size_t row = from + Size(0, 2); row < k;) {
      const size_t end = std::min(k, row + (Size(0, 5) == 0 ? Size(20, 90) : Size(1, 9)));
      while (row < end) {
        if (room == 0) {
          plan.slice_begin.push_back(plan.starts.size());
          room = most_rows;
        }
        const size_t slice = plan.slice_begin.size() - 1;
        const size_t length = std::min(room, end - row);
        plan.starts.push_back(static_cast<uint32_t>(row));
        plan.lengths.push_back(static_cast<uint32_t>(length));
        plan.slices.push_back(static_cast<uint32_t>(slice));
        plan.offsets_bytes.push_back(static_cast<double>(base + slice % window * plan.slot_bytes + (most_rows - room) * row_bytes));
        room -= length;
        row += length;
      }
      row += Size(1, 6);
    }
    if (plan.starts.size() > plan.slice_begin.back()) plan.slice_begin.push_back(plan.starts.size());
    return plan;
  }

  std::vector<uint8_t> MakeFile(size_t k, size_t n, size_t row_bytes, Dtype dtype, size_t group) {
    std::vector<uint8_t> file(k * row_bytes);
    for (uint8_t& byte : file) byte = static_cast<uint8_t>(random());
    if (!IsQuantised(dtype)) {
      const Weights weights(k * n, dtype, random);
      for (size_t row = 0; row < k; ++row) {
        std::memcpy(file.data() + row * row_bytes, weights.data() + row * n * ElementBytes(dtype), n * ElementBytes(dtype));
      }
      return file;
    }
    for (size_t row = 0; row < k; ++row) {
      uint8_t* scales = file.data() + row * row_bytes + ScalesOffsetBytes(dtype, n);
      for (size_t g = 0; g < (n + group - 1) / group; ++g) {
        const uint16_t scale = static_cast<uint16_t>(Size(5 << 10, (12 << 10) - 1));  // normal halfs
        std::memcpy(scales + 2 * g, &scale, 2);
      }
    }
    return file;
  }

  // Both streams' pieces in the order of their rows, those of the second marked.
  static SlicedPlan Merge(const SlicedPlan& a, const SlicedPlan& b) {
    SlicedPlan merged;
    size_t i = 0, j = 0;
    while (i < a.starts.size() || j < b.starts.size()) {
      const bool first = j == b.starts.size() || (i < a.starts.size() && a.starts[i] < b.starts[j]);
      const SlicedPlan& from = first ? a : b;
      const size_t p = first ? i++ : j++;
      merged.starts.push_back(from.starts[p]);
      merged.lengths.push_back(from.lengths[p]);
      merged.slices.push_back(from.slices[p] | (first ? 0 : kSecondStream));
      merged.offsets_bytes.push_back(from.offsets_bytes[p]);
    }
    return merged;
  }

  void Check(const Case& c) {
    SCOPED_TRACE("T " + std::to_string(c.tokens) + " K " + std::to_string(c.k) + " N " + std::to_string(c.n) + " dtype " +
                 std::to_string(static_cast<int>(c.dtype)) + " resident " + std::to_string(c.resident) +
                 (c.two_streams ? " two streams" : ""));
    const size_t row_bytes = RowBytes(c.dtype, c.n, c.group) + Size(0, 3);
    const std::vector<uint8_t> file = MakeFile(c.k, c.n, row_bytes, c.dtype, c.group);
    const std::vector<float> x = Floats(c.tokens * c.k);
    const size_t split = c.two_streams ? (c.resident + c.k) / 2 : c.k;
    const size_t window = Size(2, 16);
    const size_t most_rows = Size(1, 40);
    const SlicedPlan first = MakePlan(c.resident, split, row_bytes, most_rows, window, 0);
    const size_t second_base = window * first.slot_bytes;
    SlicedPlan second = MakePlan(split, c.k, row_bytes, most_rows, window, second_base);
    const SlicedPlan pieces = c.two_streams ? Merge(first, second) : first;
    if (!c.two_streams) second.slice_begin = {0};

    // All rows at once.
    std::vector<uint32_t> starts(pieces.starts), lengths(pieces.lengths);
    std::vector<double> offsets;
    if (c.resident > 0) {
      starts.insert(starts.begin(), 0);
      lengths.insert(lengths.begin(), static_cast<uint32_t>(c.resident));
    }
    for (const uint32_t start : starts) offsets.push_back(static_cast<double>(start * row_bytes));
    Guarded want(c.tokens * c.n, 0.5f);
    ChunkedMatmul({x.data(), c.tokens, c.k, starts.data(), lengths.data(), starts.size(), file.data(), offsets.data(),
                   row_bytes, c.dtype, c.n, want.data(), c.accumulate, c.group, c.arithmetic});
    float largest = 1e-3f;
    for (size_t i = 0; i < want.size(); ++i) largest = std::max(largest, std::abs(want[i]));
    // int4 rows that are rounded together (int8-dot) are others here, and each of the products is right within some 127ths of a
    // term (reduced_test.cc).
    const bool few_rounded = c.arithmetic == Arithmetic::kReduced && c.dtype == Dtype::kI4 && c.tokens < 5;
    const float bound = (few_rounded ? 2e-2f : 2e-5f) * largest;

    const int before = Threads();
    std::vector<float> earlier;
    for (const int threads : {1, 2, 5}) {
      SetThreads(threads);
      std::vector<uint8_t> landing(2 * window * std::max(first.slot_bytes, second.slot_bytes), kTakenBack);
      Arrivals arrivals[2];
      Guarded y(c.tokens * c.n, 0.5f);
      {
        Feeder feed(arrivals[0], first, file, row_bytes, landing, 0, static_cast<unsigned>(random()), kNever);
        Feeder feed_second(arrivals[1], second, file, row_bytes, landing, second_base, static_cast<unsigned>(random()), kNever);
        StreamedTimes times;
        const StreamedMatmulArgs args{x.data(),           c.tokens,          c.k,
                                      file.data(),        c.resident,        pieces.starts.data(),
                                      pieces.lengths.data(), pieces.slices.data(), pieces.starts.size(),
                                      pieces.offsets_bytes.data(), {landing.data(), landing.data()},
                                      {&arrivals[0], &arrivals[1]},
                                      window,             row_bytes,         c.dtype,
                                      c.n,                y.data(),          c.accumulate,
                                      c.group,            c.arithmetic};
        ASSERT_TRUE(StreamedMatmul(args, &times));
        EXPECT_GE(times.compute_ns, 0);
        EXPECT_GE(times.stall_ns, 0);
        arrivals[0].Finish();
        arrivals[1].Finish();
        EXPECT_EQ(feed.released(), first.slice_count()) << "every slice is given back";
      }
      y.ExpectIntact();
      std::vector<float> got(y.size());
      for (size_t i = 0; i < y.size(); ++i) {
        got[i] = y[i];
        ASSERT_NEAR(y[i], want[i], bound) << "at " << i;
      }
      if (!earlier.empty()) {
        ASSERT_EQ(got, earlier) << "with " << threads << " threads";
      }
      earlier = std::move(got);
    }
    SetThreads(before);
  }
};
NCHUNK_ON_EVERY_TARGET(Streamed);

TEST_P(Streamed, MatchesTheProductOfRowsThatAreThere) {
  constexpr std::pair<Dtype, size_t> kFormats[] = {
      {Dtype::kF32, 0}, {Dtype::kBF16, 0}, {Dtype::kF16, 0}, {Dtype::kI8, 32}, {Dtype::kI4, 64}};
  for (const auto& [dtype, group] : kFormats) {
    for (const size_t tokens : {1, 3, 5, 16, 37}) {
      for (int round = 0; round < 3; ++round) {
        const size_t k = Size(1, 400);
        const size_t n = Size(1, 300), resident = round == 1 ? Size(0, k) : 0;
        for (const Arithmetic arithmetic : {Arithmetic::kF32, Arithmetic::kReduced}) {
          Check({tokens, k, n, dtype, group, resident, round == 1, round == 2, arithmetic});
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(Streamed, MatchesWhereOutputsAreCutIntoManyTiles) {
  Check({1, 700, 4500, Dtype::kBF16, 0, 90, false, true});
  Check({70, 300, 700, Dtype::kBF16, 0, 0, true, false});
  Check({70, 701, 700, Dtype::kBF16, 0, 0, true, false, Arithmetic::kReduced});
  Check({1100, 90, 60, Dtype::kBF16, 0, 10, false, false});  // more than one block of tokens
}

// Rows of one block, which is then cut as that of rows that are there.
TEST_P(Streamed, IsToTheBitTheProductOfTheSameBlocks) {
  const size_t tokens = 19, n = 150;
  for (const Arithmetic arithmetic : {Arithmetic::kF32, Arithmetic::kReduced}) {
    for (const size_t k : {1, 2, 31, 32}) {
      const size_t row_bytes = 2 * n;
      const std::vector<uint8_t> file = MakeFile(k, n, row_bytes, Dtype::kBF16, 0);
      const std::vector<float> x = Floats(tokens * k);
      SlicedPlan plan{{0}, {static_cast<uint32_t>(k)}, {0}, {0}, {0, 1}, 2, k * row_bytes};
      std::vector<float> want(tokens * n), y(tokens * n);
      ChunkedMatmul({x.data(), tokens, k, plan.starts.data(), plan.lengths.data(), 1, file.data(), plan.offsets_bytes.data(),
                     row_bytes, Dtype::kBF16, n, want.data(), false, 0, arithmetic});
      std::vector<uint8_t> landing(plan.window * plan.slot_bytes, kTakenBack);
      Arrivals arrivals;
      {
        Feeder feed(arrivals, plan, file, row_bytes, landing, 0, 1, kNever);
        StreamedTimes times;
        ASSERT_TRUE(StreamedMatmul({x.data(), tokens, k, nullptr, 0, plan.starts.data(), plan.lengths.data(), plan.slices.data(),
                                    1, plan.offsets_bytes.data(), {landing.data(), nullptr}, {&arrivals, nullptr}, plan.window,
                                    row_bytes, Dtype::kBF16, n, y.data(), false, 0, arithmetic},
                                   &times));
        arrivals.Finish();
      }
      ASSERT_EQ(y, want) << "K " << k;
    }
  }
}

TEST_P(Streamed, EndsWhenTheStreamDoes) {
  const size_t k = 300, n = 64, row_bytes = 2 * n;
  const std::vector<uint8_t> file = MakeFile(k, n, row_bytes, Dtype::kBF16, 0);
  for (const size_t tokens : {1, 16}) {
    const SlicedPlan plan = MakePlan(0, k, row_bytes, 10, 4, 0);
    std::vector<uint8_t> landing(plan.window * plan.slot_bytes, kTakenBack);
    const std::vector<float> x = Floats(tokens * k);
    std::vector<float> y(tokens * n);
    Arrivals arrivals;
    const StreamedMatmulArgs args{x.data(), tokens, k, nullptr, 0, plan.starts.data(), plan.lengths.data(), plan.slices.data(),
                                  plan.starts.size(), plan.offsets_bytes.data(), {landing.data(), nullptr}, {&arrivals, nullptr},
                                  plan.window, row_bytes, Dtype::kBF16, n, y.data(), false};
    StreamedTimes times;
    EXPECT_FALSE(StreamedMatmul(args, &times)) << "without a stream";
    for (const size_t stop : {size_t{0}, size_t{3}, plan.slice_count() - 1}) {
      Feeder feed(arrivals, plan, file, row_bytes, landing, 0, 1, stop);
      EXPECT_FALSE(StreamedMatmul(args, &times)) << "stopped at slice " << stop;
      arrivals.Finish();
      EXPECT_TRUE(feed.closed());
    }
    // The same object serves again.
    Feeder feed(arrivals, plan, file, row_bytes, landing, 0, 1, kNever);
    EXPECT_TRUE(StreamedMatmul(args, &times));
    arrivals.Finish();
  }
}

TEST_P(Streamed, NoRowsIsZeroOrUnchanged) {
  const std::vector<float> x(3 * 5, 1.0f);
  for (const bool accumulate : {false, true}) {
    Guarded y(3 * 4, 2.5f);
    StreamedTimes times;
    EXPECT_TRUE(StreamedMatmul({x.data(), 3, 5, nullptr, 0, nullptr, nullptr, nullptr, 0, nullptr, {nullptr, nullptr},
                                {nullptr, nullptr}, 2,
                                8, Dtype::kBF16, 4, y.data(), accumulate},
                               &times));
    y.ExpectIntact();
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], accumulate ? 2.5f : 0.0f);
  }
}

TEST(TileSchedule, AThreadTakesItsOwnTilesFirstAndThenAny) {
  TileSchedule::Tile tiles[4];
  TileSchedule schedule(tiles, 4, 2);
  TileSchedule::Work work;
  EXPECT_FALSE(schedule.Take(0, 0, &work)) << "nothing has landed";
  ASSERT_TRUE(schedule.Take(1, 3, &work));
  EXPECT_EQ(work.tile, 2u);
  EXPECT_EQ(work.block_begin, 0u);
  EXPECT_EQ(work.block_end, 3u);
  EXPECT_EQ(work.next_tile, 3u);
  EXPECT_EQ(work.next_block, 0u);
  TileSchedule::Work last;
  ASSERT_TRUE(schedule.Take(1, 3, &last));
  EXPECT_EQ(last.tile, 3u);
  EXPECT_EQ(last.next_tile, 4u) << "nothing of its own is left";
  schedule.Finish(work);
  EXPECT_EQ(schedule.Done(), 0u);
  ASSERT_TRUE(schedule.Take(1, 3, &work));
  EXPECT_EQ(work.tile, 0u) << "the other thread's";
  schedule.Finish(work);
  ASSERT_TRUE(schedule.Take(1, 5, &work));
  EXPECT_EQ(work.tile, 2u) << "its own again, though another is further behind";
  EXPECT_EQ(work.block_begin, 3u);
}

}  // namespace
}  // namespace nchunk::test
