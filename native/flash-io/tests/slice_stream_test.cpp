#include "flash_io/slice_stream.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <thread>

#include "contract.h"
#include "flash_io/fault_injection.h"
#include "pieces.h"
#include "recording_sink.h"

namespace flash_io::testing {
namespace {

/// One suite over every backend and the fake.
class SliceStreamContract : public ReaderContract {};
const auto name_of = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Real, SliceStreamContract, ::testing::ValuesIn(kRealBackends), name_of);
INSTANTIATE_TEST_SUITE_P(Fake, SliceStreamContract, ::testing::Values(kFakeBackend), name_of);

constexpr FaultRates kPassingFaults{.short_read = 8000, .interrupted = 4000, .again = 1000,
                                    .no_memory = 500, .delay = 2000, .enter = 6000};
constexpr FaultRates kFatalFaults{.zero = 200, .io_error = 200, .no_device = 200};

/// Random slices of a file, and landing memory of one part per slot, each between canaries.
class Plan {
 public:
  Plan(std::mt19937_64& random, const TestFile& file, std::uint32_t alignment, std::uint32_t slices,
       std::uint32_t slots, std::size_t most_pieces = 12)
      : file_(file), slots_(slots) {
    std::size_t slot_bytes = alignment;
    for (std::uint32_t i = 0; i < slices; ++i) {
      pieces_.emplace_back(random, file.bytes().size(), alignment, random() % (most_pieces + 1), 8192);
      slot_bytes = std::max(slot_bytes, pieces_.back().landing_bytes());
    }
    for (std::uint32_t i = 0; i < slots; ++i) {
      landings_.push_back(std::make_unique<GuardedLanding>(slot_bytes));
      sizes_.push_back(slot_bytes);
    }
  }

  Slices slices() {
    Slices slices{{}, {}, slots_, most_bytes_under_way_};
    for (std::uint32_t s = 0; s < count(); ++s) {
      for (const ReadRequest& request : pieces_[s].requests(landing(s))) slices.requests.push_back(request);
      slices.ends.push_back(static_cast<std::uint32_t>(slices.requests.size()));
    }
    return slices;
  }
  void keep_under_way(std::uint64_t bytes) { most_bytes_under_way_ = bytes; }
  std::uint32_t count() const { return static_cast<std::uint32_t>(pieces_.size()); }
  std::uint32_t slots() const { return slots_; }
  ::testing::AssertionResult landed(std::uint32_t slice) {
    return pieces_[slice].landed(landing(slice), file_.bytes());
  }
  /// Wipes a slot, so that bytes found there later were read later.
  void wipe(std::uint32_t slice) {
    std::memset(landing(slice).data(), GuardedLanding::kCanary, sizes_[slice % slots_]);
  }
  bool guards_intact() {
    return std::all_of(landings_.begin(), landings_.end(), [](auto& each) { return each->guards_intact(); });
  }

 private:
  GuardedLanding& landing(std::uint32_t slice) { return *landings_[slice % slots_]; }

  const TestFile& file_;
  const std::uint32_t slots_;
  std::uint64_t most_bytes_under_way_ = UINT64_MAX;
  std::vector<Pieces> pieces_;
  std::vector<std::unique_ptr<GuardedLanding>> landings_;
  std::vector<std::size_t> sizes_;
};

/// Threads that check every slice twice with a pause between, wipe its slot and release what is done:
/// a slot that is written to before its release shows as wrong bytes.
class Consumers {
 public:
  Consumers(RecordingSink& sink, Plan& plan, std::uint64_t seed) : sink_(sink), plan_(plan), done_(plan.count()) {
    for (std::uint64_t t = 0; t < 3; ++t) threads_.emplace_back([this, seed, t] { work(seed + t); });
  }
  ~Consumers() {
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void work(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (std::uint32_t slice = 0; sink_.take(slice);) {
      EXPECT_LT(slice, released_.load() + plan_.slots()) << "read ahead of the window";
      EXPECT_TRUE(plan_.landed(slice)) << "slice " << slice;
      for (std::uint64_t spin = random() % 30; spin > 0; --spin) std::this_thread::yield();
      EXPECT_TRUE(plan_.landed(slice)) << "slice " << slice << " was overwritten";
      plan_.wipe(slice);
      release(slice, random() % 4 == 0);
    }
  }
  void release(std::uint32_t slice, bool repeats) {
    std::uint32_t count = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      done_[slice] = true;
      count = released_;
      while (count < plan_.count() && done_[count]) ++count;
      released_ = count;
    }
    // Not under the lock, so that releases overtake one another.
    sink_.release(count);
    if (repeats) sink_.release(count / 2);
  }

  RecordingSink& sink_;
  Plan& plan_;
  std::mutex mutex_;
  std::vector<bool> done_;
  std::atomic<std::uint32_t> released_{0};
  std::vector<std::thread> threads_;
};

void expect_all(const std::vector<std::uint32_t>& landed, std::uint32_t count) {
  std::vector<std::uint32_t> sorted = landed;
  std::sort(sorted.begin(), sorted.end());
  ASSERT_EQ(sorted.size(), count);
  for (std::uint32_t i = 0; i < count; ++i) ASSERT_EQ(sorted[i], i);
}

TEST_P(SliceStreamContract, EverySliceLandsOnceWithinTheWindow) {
  const TestFile file(1'000'003, seed_);
  auto faults = std::make_shared<FaultySystemCalls>(seed_, kPassingFaults);
  auto reader = open(file, faults);
  faults->arm();
  const std::size_t rounds = effort(25, 1000);
  for (std::size_t round = 0; round < rounds; ++round) {
    const auto slots = static_cast<std::uint32_t>(1 + random_() % 5);
    Plan plan(random_, file, reader->file().alignment_bytes(),
              static_cast<std::uint32_t>(random_() % 40), slots);
    if (random_() % 2 == 0) plan.keep_under_way(random_() % 100'000);
    RecordingSink sink;
    const auto stream = SliceStream::start(*reader, plan.slices(), sink.sink(), sink.ended());
    { const Consumers consumers(sink, plan, random_()); }
    sink.wait_for_end();
    sink.close();
    ASSERT_FALSE(sink.failure()) << sink.failure()->detail;
    EXPECT_EQ(sink.begins(), 1);
    EXPECT_EQ(sink.slices(), plan.count());
    EXPECT_EQ(sink.ends(), 1);
    EXPECT_TRUE(sink.all_landed());
    expect_all(sink.landed(), plan.count());
  }
  EXPECT_EQ(reader->counters().batches.load(), rounds);
  EXPECT_EQ(reader->counters().request_memory_bytes.load(), 0u);
}

TEST_P(SliceStreamContract, ReadsNothingAheadOfTheWindow) {
  const TestFile file(1 << 20, seed_);
  auto reader = open(file);
  GuardedLanding landing(3 * 4096);
  Slices slices{{}, {}, 3};
  for (std::uint32_t s = 0; s < 10; ++s) {
    slices.requests.push_back({s * std::uint64_t{4096}, 4096, landing.data() + s % 3 * 4096});
    slices.ends.push_back(s + 1);
  }
  RecordingSink sink;
  const auto stream = SliceStream::start(*reader, slices, sink.sink(), sink.ended());
  for (std::uint32_t released = 0; released < 7; ++released) {
    sink.wait_for_landed(released + 3);
    // Whatever was submitted lands before the next release; more of it would show by then.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(reader->counters().requests.load(), released + 3);
    std::vector<std::uint32_t> landed = sink.landed();
    std::sort(landed.begin(), landed.end());
    EXPECT_EQ(landed.back(), released + 2) << "in order";
    sink.release(released + 1);
  }
  sink.wait_for_end();
  EXPECT_TRUE(sink.all_landed());
  EXPECT_EQ(sink.bytes_read(), 40960u);
  sink.close();
}

TEST_P(SliceStreamContract, ReleasesFromWithinTheReadersThread) {
  const TestFile file(1'000'003, seed_);
  auto reader = open(file);
  for (int round = 0; round < 20; ++round) {
    Plan plan(random_, file, reader->file().alignment_bytes(), 50, 1, 3);
    RecordingSink sink([&](RecordingSink& self, std::uint32_t slice) {
      EXPECT_TRUE(plan.landed(slice));
      plan.wipe(slice);
      self.release(slice + 1);
    });
    SliceStream::start(*reader, plan.slices(), sink.sink(), sink.ended());
    sink.wait_for_end();
    EXPECT_TRUE(sink.all_landed());
    sink.close();
  }
}

TEST_P(SliceStreamContract, KeepsFewBytesUnderWayWhereToldTo) {
  const TestFile file(1'000'003, seed_);
  constexpr std::uint32_t kSliceBytes = 16384;
  constexpr std::uint32_t kSlices = 40;
  for (const std::uint32_t most : {1U, 2U, 5U}) {
    auto reader = open(file);
    GuardedLanding landing(std::size_t{kSlices} * kSliceBytes);
    Slices slices{{}, {}, kSlices, std::uint64_t{most} * kSliceBytes + kSliceBytes / 2};
    for (std::uint32_t s = 0; s < kSlices; ++s) {
      const std::uint64_t offset = std::uint64_t{s} * kSliceBytes;
      slices.requests.push_back({offset, kSliceBytes, landing.data() + offset});
      slices.ends.push_back(s + 1);
    }
    RecordingSink sink;
    SliceStream::start(*reader, slices, sink.sink(), sink.ended());
    sink.wait_for_end();
    EXPECT_TRUE(sink.all_landed());
    expect_all(sink.landed(), kSlices);
    EXPECT_LE(reader->counters().most_bytes_in_flight.load(), std::uint64_t{most} * kSliceBytes);
    sink.close();
  }
}

TEST_P(SliceStreamContract, TheRingIsFullAgainBeforeAnyoneIsToldOfASlice) {
  if (GetParam().backend != BackendChoice::kUring) GTEST_SKIP() << "no ring";
  constexpr std::uint32_t kSliceBytes = 16384;
  constexpr std::uint32_t kSlices = 64;
  constexpr std::uint32_t kTogether = 4;
  const TestFile file(std::size_t{kSlices} * kSliceBytes, seed_);
  auto reader = open(file, nullptr, {.queue_depth = 16, .max_bytes_in_flight = kTogether * kSliceBytes});
  GuardedLanding landing(std::size_t{kSlices} * kSliceBytes);
  Slices slices{{}, {}, kSlices};
  for (std::uint32_t s = 0; s < kSlices; ++s) {
    const std::uint64_t offset = std::uint64_t{s} * kSliceBytes;
    slices.requests.push_back({offset, kSliceBytes, landing.data() + offset});
    slices.ends.push_back(s + 1);
  }
  std::uint32_t told = 0;
  RecordingSink sink([&](RecordingSink&, std::uint32_t) {
    if (++told > kSlices - 2 * kTogether) return;
    EXPECT_EQ(reader->counters().bytes_in_flight.load(), kTogether * kSliceBytes) << "told " << told;
  });
  SliceStream::start(*reader, slices, sink.sink(), sink.ended());
  sink.wait_for_end();
  EXPECT_TRUE(sink.all_landed());
  sink.close();
}

TEST_P(SliceStreamContract, AFailureStopsTheRestAndOtherStreamsGoOn) {
  const TestFile file(1 << 20, seed_);
  auto reader = open(file);
  for (std::uint32_t bad = 0; bad < 12; ++bad) {
    Plan plan(random_, file, reader->file().alignment_bytes(), 12, 4, 3);
    Plan other_plan(random_, file, reader->file().alignment_bytes(), 12, 4, 3);
    Slices slices = plan.slices();
    // No memory there: the kernel itself fails it, with EFAULT.
    slices.requests.insert(slices.requests.begin() + slices.ends[bad], {8192, 4096, nullptr});
    for (std::uint32_t s = bad; s < 12; ++s) ++slices.ends[s];
    RecordingSink sink([](RecordingSink& self, std::uint32_t slice) { self.release(slice + 1); });
    RecordingSink other([](RecordingSink& self, std::uint32_t slice) { self.release(slice + 1); });
    SliceStream::start(*reader, std::move(slices), sink.sink(), sink.ended());
    SliceStream::start(*reader, other_plan.slices(), other.sink(), other.ended());
    sink.wait_for_end();
    ASSERT_TRUE(sink.failure());
    EXPECT_EQ(sink.failure()->error_number, EFAULT);
    EXPECT_EQ(sink.failure()->offset_bytes, 8192u);
    EXPECT_FALSE(sink.all_landed());
    for (const std::uint32_t slice : sink.landed()) EXPECT_NE(slice, bad);
    EXPECT_TRUE(plan.guards_intact());
    other.wait_for_end();
    EXPECT_TRUE(other.all_landed());
    sink.close();
    other.close();
  }
}

TEST_P(SliceStreamContract, RightBytesOrATypedFailureAmongFaultsOfEveryKind) {
  const TestFile file(1'000'003, seed_);
  auto faults = std::make_shared<FaultySystemCalls>(seed_, kFatalFaults);
  auto reader = open(file, faults);
  faults->arm();
  int failed = 0;
  const std::size_t rounds = effort(60, 1000);
  for (std::size_t round = 0; round < rounds; ++round) {
    Plan plan(random_, file, reader->file().alignment_bytes(), 20, 3, 8);
    RecordingSink sink;
    const auto stream = SliceStream::start(*reader, plan.slices(), sink.sink(), sink.ended());
    { const Consumers consumers(sink, plan, random_()); }
    sink.wait_for_end();
    sink.close();
    EXPECT_EQ(sink.ends(), 1);
    EXPECT_EQ(sink.all_landed(), !sink.failure());
    EXPECT_TRUE(plan.guards_intact());
    if (sink.failure()) ++failed;
  }
  EXPECT_GT(failed, 0);
}

TEST_P(SliceStreamContract, CancelledAtAnyMomentItEndsOnceAndThenNothingIsWritten) {
  const TestFile file(1'000'003, seed_);
  auto reader = open(file);
  int cut_short = 0;
  const std::size_t rounds = effort(300, 10'000);
  for (std::size_t round = 0; round < rounds; ++round) {
    RecordingSink sink;
    std::shared_ptr<SliceStream> stream;
    const bool closes_first = random_() % 4 == 0;
    {
      // Freed right after the end: a late write is what ASan and the canaries are here for.
      Plan plan(random_, file, reader->file().alignment_bytes(), 20, 3, 8);
      stream = SliceStream::start(*reader, plan.slices(), sink.sink(), sink.ended());
      const std::uint64_t spins = random_() % 400;
      std::thread canceller([&stream, &sink, spins, closes_first] {
        for (std::uint64_t spin = spins; spin > 0; --spin) std::this_thread::yield();
        if (closes_first) return;
        stream->cancel();
        stream->cancel();
      });
      if (closes_first) {
        canceller.join();
        sink.close();
        stream->cancel();
      } else {
        const Consumers consumers(sink, plan, random_());
        canceller.join();
      }
      stream->wait();
      ASSERT_TRUE(plan.guards_intact());
    }
    ASSERT_EQ(sink.ends(), 1);
    if (!sink.all_landed()) ++cut_short;
    EXPECT_EQ(stream->all_landed(), sink.all_landed());
    EXPECT_FALSE(sink.failure());
    if (!closes_first) {
      sink.release(20);
      sink.close();
    }
  }
  EXPECT_GT(cut_short, 0);
  reader->close();
  EXPECT_EQ(reader->counters().bytes_in_flight.load(), 0u);
  EXPECT_EQ(reader->counters().request_memory_bytes.load(), 0u);
}

TEST_P(SliceStreamContract, WaitsForAReleaseWithNothingUnderWayAndCanBeCancelledThere) {
  const TestFile file(1 << 20, seed_);
  auto reader = open(file);
  Plan plan(random_, file, reader->file().alignment_bytes(), 4, 2);
  RecordingSink sink;
  const auto stream = SliceStream::start(*reader, plan.slices(), sink.sink(), sink.ended());
  sink.wait_for_landed(2);
  EXPECT_EQ(sink.landed().size(), 2u);
  EXPECT_EQ(sink.ends(), 0);
  stream->cancel();
  stream->wait();
  EXPECT_EQ(sink.ends(), 1);
  EXPECT_FALSE(sink.all_landed());
  sink.close();
}

TEST_P(SliceStreamContract, WithoutSlicesItEndsAtOnce) {
  const TestFile file(4096);
  auto reader = open(file);
  RecordingSink sink;
  SliceStream::start(*reader, {}, sink.sink(), sink.ended());
  sink.wait_for_end();
  EXPECT_EQ(sink.begins(), 1);
  EXPECT_EQ(sink.slices(), 0u);
  EXPECT_TRUE(sink.all_landed());
  EXPECT_EQ(sink.read_ns(), 0u);
  sink.release(7);
  sink.close();
}

TEST_P(SliceStreamContract, SlicesWithoutRequestsLand) {
  const TestFile file(4096);
  auto reader = open(file);
  RecordingSink sink([](RecordingSink& self, std::uint32_t slice) { self.release(slice + 1); });
  SliceStream::start(*reader, {{}, {0, 0, 0}, 2}, sink.sink(), sink.ended());
  sink.wait_for_end();
  EXPECT_EQ(sink.landed(), (std::vector<std::uint32_t>{0, 1, 2}));
  EXPECT_TRUE(sink.all_landed());
  sink.close();
}

TEST_P(SliceStreamContract, ClosedEarlyItReadsWhatTheWindowReaches) {
  const TestFile file(1 << 20, seed_);
  auto reader = open(file);
  for (const std::uint32_t released : {0U, 1U, 3U}) {
    Plan plan(random_, file, reader->file().alignment_bytes(), 6, 3);
    RecordingSink sink;
    const auto stream = SliceStream::start(*reader, plan.slices(), sink.sink(), sink.ended());
    sink.wait_for_landed(3);
    sink.release(released);
    sink.close();
    stream->wait();
    EXPECT_EQ(sink.all_landed(), released == 3) << released;
    EXPECT_FALSE(sink.failure());
  }
}

TEST_P(SliceStreamContract, TimeWaitingForTheSinkIsNotReadTime) {
  const TestFile file(1 << 20, seed_);
  auto reader = open(file);
  GuardedLanding landing(4096);
  RecordingSink sink;
  const auto before = std::chrono::steady_clock::now();
  const auto stream = SliceStream::start(
      *reader, {{{0, 4096, landing.data()}, {4096, 4096, landing.data()}}, {1, 2}, 1}, sink.sink(),
      sink.ended());
  sink.wait_for_landed(1);
  constexpr auto kPause = std::chrono::milliseconds(20);
  std::this_thread::sleep_for(kPause);
  sink.release(1);
  sink.wait_for_end();
  const auto all = std::chrono::steady_clock::now() - before;
  EXPECT_GT(sink.read_ns(), 0u);
  EXPECT_LE(std::chrono::nanoseconds(sink.read_ns()) + kPause, all);
  sink.close();
}

TEST_P(SliceStreamContract, AChangedFileIsAFailure) {
  const TestFile file(1 << 20, seed_);
  auto reader = open(file);
  ASSERT_EQ(::truncate(file.path().c_str(), 500'000), 0);
  Plan plan(random_, file, reader->file().alignment_bytes(), 6, 3);
  Slices slices = plan.slices();
  GuardedLanding landing(4096);
  slices.requests.push_back({0, 4096, landing.data()});
  slices.ends.back() += 1;
  RecordingSink sink([](RecordingSink& self, std::uint32_t slice) { self.release(slice + 1); });
  SliceStream::start(*reader, std::move(slices), sink.sink(), sink.ended());
  sink.wait_for_end();
  ASSERT_TRUE(sink.failure());
  EXPECT_EQ(sink.failure()->code, FailureCode::kFileChanged);
  sink.close();
}

TEST_P(SliceStreamContract, RefusesSlicesThatMakeNoSense) {
  const TestFile file(1 << 20);
  auto reader = open(file);
  RecordingSink sink;
  GuardedLanding landing(4096);
  const ReadRequest request{0, 4096, landing.data()};
  const Slices wrong[] = {{{request}, {}, 1}, {{request}, {0}, 1}, {{request}, {1, 0}, 1}, {{request}, {1}, 0}};
  for (const Slices& slices : wrong) {
    EXPECT_THROW(SliceStream::start(*reader, slices, sink.sink(), sink.ended()), std::invalid_argument);
  }
  EXPECT_EQ(sink.begins(), 0);
}

TEST_P(SliceStreamContract, ARingThatIsLostCostsNothing) {
  if (GetParam().backend != BackendChoice::kUring) GTEST_SKIP() << "no ring";
  const TestFile file(1'000'003, seed_);
  for (std::uint32_t lost_after = 1; lost_after < 20; lost_after += 3) {
    auto faults = std::make_shared<FaultySystemCalls>(seed_, FaultRates{.uring_lost_after = lost_after});
    auto reader = open(file, faults);
    faults->arm();
    Plan plan(random_, file, reader->file().alignment_bytes(), 30, 3, 8);
    RecordingSink sink;
    const auto stream = SliceStream::start(*reader, plan.slices(), sink.sink(), sink.ended());
    { const Consumers consumers(sink, plan, random_()); }
    sink.wait_for_end();
    EXPECT_TRUE(sink.all_landed());
    sink.close();
  }
}

}  // namespace
}  // namespace flash_io::testing
