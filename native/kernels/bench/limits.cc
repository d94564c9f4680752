// What the machine can do: streaming reads and multiply-adds.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "bench_case.h"
#include "kernel_table.h"
#include "thread_pool.h"

namespace nchunk::bench {
namespace {

// Four lines at a time in any CPU's widest registers.
typedef uint64_t Line __attribute__((vector_size(64)));

uint64_t ReadRange(const uint8_t* from, const uint8_t* to) {
  constexpr size_t kAheadBytes = 4096;
  Line sums[4] = {};
  for (; from + sizeof(sums) <= to; from += sizeof(sums)) {
    for (size_t i = 0; i < 4; ++i) {
      Line line;
      std::memcpy(&line, from + i * sizeof(Line), sizeof(line));
      __builtin_prefetch(from + kAheadBytes + i * sizeof(Line));
      sums[i] += line;
    }
  }
  const Line all = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t sum = 0;
  for (size_t i = 0; i < 8; ++i) sum += all[i];
  return sum;
}

}  // namespace

uint64_t StreamRead(const uint8_t* data, size_t bytes) {
  ThreadPool& pool = ThreadPool::Instance();
  // More parts than threads, so that a thread which is held up delays little.
  const size_t parts = static_cast<size_t>(pool.threads()) * 8;
  const size_t part_bytes = bytes / parts / 256 * 256;
  std::atomic<uint64_t> sum{0};
  pool.ParallelFor(parts, [&](size_t part) {
    const uint8_t* from = data + part * part_bytes;
    sum += ReadRange(from, part + 1 == parts ? data + bytes : from + part_bytes);
  });
  return sum;
}

double FmaLoop(size_t iterations) {
  const KernelTable& table = Kernels();
  ThreadPool& pool = ThreadPool::Instance();
  const size_t parts = static_cast<size_t>(pool.threads());
  double flops = 0;
  std::atomic<float> sink{0};
  pool.ParallelFor(parts, [&](size_t part) {
    float result = 1;
    const double done = table.fma_loop(iterations, &result);
    sink.store(result, std::memory_order_relaxed);
    if (part == 0) flops = done * static_cast<double>(parts);
  });
  return flops;
}

}  // namespace nchunk::bench
