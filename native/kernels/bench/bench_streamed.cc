// What streaming costs a product of many tokens, without a drive: rows that are in memory all along are said to land at given times.
//
//   bench_streamed [--tokens N] [--rows N] [--columns N] [--slices N] [--burst N] [--window N] [--io R,...] [--rounds N] [--threads N]
//                  [--processor-time]
//
// R is the time in which all rows land, as a share of what the product takes when they are there (0: they are); `burst` slices land
// together. Each round runs all in turn, on cold rows. Prints wall time and its ratio to the longer of landing and multiplying,
// processor time as a share of that of the product of rows that are there, and the stall; medians and lower deciles.
// --processor-time uses one thread and the time it had the processor, both for the product and for what lands: for a machine that
// others use. While it waits for rows, that clock jumps to when they land; the processor time and the stall say nothing then.
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench_case.h"
#include "nchunk/kernels.h"
#include "nchunk/streamed_matmul.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  size_t tokens = 196, rows = 448, columns = 9728, slices = 14, burst = 1, window = 16;
  std::vector<double> io = {0, 0.5, 0.9, 1.5};
  int rounds = 60;
  bool processor_time = false;
};

double Wall() { return std::chrono::duration<double, std::milli>(Clock::now().time_since_epoch()).count(); }
double ProcessorTime() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

// Time as the calling thread has had the processor, and what it waited for rows; told from another thread.
class ThreadClock {
 public:
  ThreadClock() {
    pthread_getcpuclockid(pthread_self(), &clock_);
    state_ = open(("/proc/self/task/" + std::to_string(gettid()) + "/stat").c_str(), O_RDONLY);
  }
  ~ThreadClock() { close(state_); }
  double Now() const {
    timespec time;
    clock_gettime(clock_, &time);
    return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec) + waited_;
  }
  // Returns at `due`, at once when the thread sleeps: then it is that time.
  void WaitUntil(double due) {
    for (;;) {
      const double now = Now();
      if (now >= due) return;
      if (Sleeps()) {
        waited_ += due - now;
        return;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(10));
    }
  }

 private:
  bool Sleeps() const {
    char text[64];
    const ssize_t length = pread(state_, text, sizeof(text), 0);
    for (ssize_t i = 0; i + 2 < length; ++i) {
      if (text[i] == ')') return text[i + 2] == 'S';
    }
    return false;
  }
  clockid_t clock_;
  int state_;
  double waited_ = 0;
};

// Lands slices at a steady rate, a slice only when the one `window` before it was released.
class Feeder {
 public:
  Feeder(nchunk::Arrivals& arrivals, const Options& options, double milliseconds, ThreadClock* clock)
      : arrivals_(arrivals), options_(options), step_(milliseconds / static_cast<double>(options.slices)), clock_(clock) {
    arrivals.Begin({this, &Feeder::Release, [](void*) {}}, options.slices);
    start_ = Now();
    if (milliseconds > 0) {
      thread_ = std::thread([this] { Feed(); });
    } else {
      for (size_t slice = 0; slice < options.slices; ++slice) arrivals.Landed(slice);
    }
  }
  ~Feeder() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  static void Release(void* self, uint32_t count) {
    auto& feeder = *static_cast<Feeder*>(self);
    const std::lock_guard<std::mutex> lock(feeder.mutex_);
    feeder.released_ = std::max<size_t>(feeder.released_, count);
    feeder.changed_.notify_all();
  }
  double Now() const { return clock_ == nullptr ? Wall() : clock_->Now(); }
  void Feed() {
    double due = start_;
    for (size_t slice = 0; slice < options_.slices;) {
      const size_t end = std::min(options_.slices, slice + options_.burst);
      {
        std::unique_lock<std::mutex> lock(mutex_);
        if (end > released_ + options_.window) {
          changed_.wait(lock, [&] { return end <= released_ + options_.window; });
          due = std::max(due, Now());
        }
      }
      due += step_ * static_cast<double>(end - slice);
      if (clock_ != nullptr) clock_->WaitUntil(due);
      else std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(due - Wall()));
      for (; slice < end; ++slice) arrivals_.Landed(slice);
    }
    arrivals_.End();
  }

  nchunk::Arrivals& arrivals_;
  const Options& options_;
  const double step_;
  ThreadClock* const clock_;
  double start_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t released_ = 0;
  std::thread thread_;
};

struct Times {
  std::vector<double> wall, processor, stall;
};

double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(static_cast<double>(values.size()) * share)];
}

std::vector<double> List(const char* text) {
  std::vector<double> list;
  for (char* end = nullptr; *text != 0; text = *end == ',' ? end + 1 : end) list.push_back(std::strtod(text, &end));
  return list;
}

void Run(const Options& options) {
  const size_t row_bytes = 2 * options.columns;
  const size_t bytes = options.rows * row_bytes;
  const nchunk::bench::Arena arena(std::max<size_t>(192 << 20, 2 * bytes));
  const std::vector<float> x(options.tokens * options.rows, 0.25f);
  std::vector<float> y(options.tokens * options.columns);
  const uint32_t first = 0, count = static_cast<uint32_t>(options.rows);
  const double none = 0;
  std::vector<uint32_t> starts, lengths, slices;
  std::vector<double> offsets;
  for (size_t s = 0; s < options.slices; ++s) {
    const size_t begin = options.rows * s / options.slices, end = options.rows * (s + 1) / options.slices;
    starts.push_back(static_cast<uint32_t>(begin));
    lengths.push_back(static_cast<uint32_t>(end - begin));
    slices.push_back(static_cast<uint32_t>(s));
    offsets.push_back(static_cast<double>(begin * row_bytes));
  }
  size_t copy = 0;
  ThreadClock own;
  ThreadClock* const clock = options.processor_time ? &own : nullptr;
  const auto now = [&] { return clock == nullptr ? Wall() : clock->Now(); };
  const auto there = [&](Times* times) {
    const double wall = now(), processor = ProcessorTime();
    nchunk::ChunkedMatmul({x.data(), options.tokens, options.rows, &first, &count, 1, arena.Copy(copy++, bytes), &none, row_bytes,
                           nchunk::Dtype::kBF16, options.columns, y.data(), false});
    times->wall.push_back(now() - wall);
    times->processor.push_back(ProcessorTime() - processor);
  };
  const auto streamed = [&](double milliseconds, Times* times) {
    nchunk::Arrivals arrivals;
    const uint8_t* from = arena.Copy(copy++, bytes);
    const double wall = now(), processor = ProcessorTime();
    Feeder feeder(arrivals, options, milliseconds, clock);
    nchunk::StreamedTimes streamed;
    nchunk::StreamedMatmul({x.data(), options.tokens, options.rows, nullptr, 0, starts.data(), lengths.data(), slices.data(),
                            starts.size(), offsets.data(), {from, nullptr}, {&arrivals, nullptr}, options.window, row_bytes,
                            nchunk::Dtype::kBF16, options.columns, y.data(), false},
                           &streamed);
    times->wall.push_back(now() - wall);
    times->processor.push_back(ProcessorTime() - processor);
    times->stall.push_back(1e-6 * streamed.stall_ns);
    arrivals.Finish();
  };
  Times compute;
  for (int i = 0; i < 15; ++i) there(&compute);
  const double quiet = Quantile(compute.wall, 0.1);
  compute = {};
  std::vector<Times> times(options.io.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i <= times.size(); ++i) {
      const size_t turn = (i + static_cast<size_t>(round)) % (times.size() + 1);
      if (turn == times.size()) there(&compute);
      else streamed(options.io[turn] * quiet, &times[turn]);
    }
  }
  std::printf("T %zu rows %zu columns %zu slices %zu burst %zu: %.2f ms when all rows are there, quiet %.2f, processor %.2f\n",
              options.tokens, options.rows, options.columns, options.slices, options.burst, Quantile(compute.wall, 0.5),
              Quantile(compute.wall, 0.1), Quantile(compute.processor, 0.5));
  for (size_t i = 0; i < times.size(); ++i) {
    const double io = options.io[i] * quiet;
    const auto ratio = [&](double share) {
      return Quantile(times[i].wall, share) / std::max(io, Quantile(compute.wall, share));
    };
    std::printf("  io %5.2f: wall %6.2f ratio %.3f quiet %.3f  processor %.3f (quiet %.3f)  stall %.2f\n", options.io[i],
                Quantile(times[i].wall, 0.5), ratio(0.5), ratio(0.1),
                Quantile(times[i].processor, 0.5) / Quantile(compute.processor, 0.5),
                Quantile(times[i].processor, 0.1) / Quantile(compute.processor, 0.1), Quantile(times[i].stall, 0.5));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--processor-time") {
      options.processor_time = true;
      continue;
    }
    const char* value = ++i < argc ? argv[i] : "";
    const auto number = static_cast<size_t>(std::atoll(value));
    if (name == "--tokens") options.tokens = number;
    else if (name == "--rows") options.rows = number;
    else if (name == "--columns") options.columns = number;
    else if (name == "--slices") options.slices = number;
    else if (name == "--burst") options.burst = number;
    else if (name == "--window") options.window = number;
    else if (name == "--rounds") options.rounds = static_cast<int>(number);
    else if (name == "--threads") nchunk::SetThreads(static_cast<int>(number));
    else if (name == "--io") options.io = List(value);
    else {
      std::fprintf(stderr, "unknown option %s\n", name.c_str());
      return 2;
    }
  }
  if (options.processor_time) nchunk::SetThreads(1);
  Run(options);
}
