// Speed of the kernels on the shapes of LLaVA-OneVision 0.5B and 7B, beside what this machine can do at all, measured in the
// same run (stream: sum of a large array; fma: multiply-adds in registers of the baseline kernel on cached panels).
//
//   bench_kernels [--tiny] [--threads N] [--target NAME] [--rounds N] [--only chunked|linear|attention]
//                [--dtype f32|bf16|f16|int8|int4] [--processor-time]
//
// Weights are cold: each call takes another copy until they exceed any cache. Best of the rounds; machines are noisy.
// --processor-time uses one thread and the time it had the processor, for a machine that others use.
#include <algorithm>
#include <chrono>
#include <ctime>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernel_table.h"
#include "nchunk/kernels.h"
#include "thread_pool.h"

namespace {

using nchunk::Dtype;

struct Options {
  bool tiny = false;
  int rounds = 7;
  std::string only;
  Dtype dtype = Dtype::kBF16;  // of chunked rows
};

// On a machine that others use, processor time of one thread says more than the clock on the wall.
bool g_processor_time = false;

double Now() {
  if (g_processor_time) {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Best seconds of `rounds` calls; `call` gets the number of the round.
double Best(int rounds, const std::function<void(int)>& call) {
  call(0);
  double best = 1e9;
  for (int round = 1; round <= rounds; ++round) {
    const double start = Now();
    call(round);
    best = std::min(best, Now() - start);
  }
  return best;
}

struct Limits {
  double stream_gbps;
  double gflops;
};

Limits MeasureLimits(const Options& options) {
  const nchunk::KernelTable& table = nchunk::Kernels();
  nchunk::ThreadPool& pool = nchunk::ThreadPool::Instance();
  // Row after row into the same 16 KiB of sums: nothing but the weights comes from memory.
  const size_t rows = options.tiny ? 64 : 8192, n = 4096;
  std::vector<uint8_t> weights(rows * n * 2, 1);
  const size_t parts = static_cast<size_t>(pool.threads()) * 8;
  std::vector<std::vector<float>> sums(parts, std::vector<float>(n));
  const double stream = Best(options.rounds, [&](int) {
    pool.ParallelFor(parts, [&](size_t part) {
      const float ones[nchunk::kGemvRows] = {1, 1, 1, 1, 1, 1, 1, 1};
      for (size_t row = rows * part / parts / 8 * 8; row + 8 <= rows * (part + 1) / parts / 8 * 8; row += 8) {
        const uint8_t* pointers[16];
        for (size_t i = 0; i < 16; ++i) pointers[i] = weights.data() + std::min(row + i, rows - 1) * n * 2;
        table.gemv_rows(pointers, ones, 8, Dtype::kBF16, n, sums[part].data(), pointers + 8, 8);
      }
    });
  });
  // One panel and one tile, both in the first cache level.
  const size_t kc = 64, calls = options.tiny ? 100 : 20000;
  const double fma = Best(options.rounds, [&](int) {
    pool.ParallelFor(static_cast<size_t>(pool.threads()), [&](size_t) {
      std::vector<float> a(kc * nchunk::kTileRows, 1), b(kc * table.gemm.panel_columns, 1), y(nchunk::kTileRows * table.gemm.panel_columns);
      nchunk::PrefetchList nothing{nullptr, nullptr};
      for (size_t i = 0; i < calls; ++i) {
        table.gemm.gemm_panel(a.data(), nchunk::kTileRows, kc, b.data(), table.gemm.panel_columns, y.data(), table.gemm.panel_columns, true, &nothing);
      }
    });
  });
  const double flops = 2.0 * kc * nchunk::kTileRows * static_cast<double>(table.gemm.panel_columns * calls) * pool.threads();
  return {static_cast<double>(weights.size()) / stream / 1e9, flops / fma / 1e9};
}

void Print(const char* op, const char* what, size_t tokens, size_t k, size_t n, double seconds, double bytes, double flops,
           const Limits& limits) {
  const double gbps = bytes / seconds / 1e9, gflops = flops / seconds / 1e9;
  const double fraction = std::max(gbps / limits.stream_gbps, gflops / limits.gflops);
  std::printf("%-10s %-10s T %4zu  K %6zu  N %6zu  %10.1f us  %7.1f GB/s  %8.1f GFLOP/s  %4.0f %% of limit\n", op, what,
              tokens, k, n, seconds * 1e6, gbps, gflops, 100 * fraction);
  std::fflush(stdout);
}

size_t Copies(const Options& options, size_t bytes) {
  const size_t cold = options.tiny ? 1 << 16 : 160u << 20;
  return std::max<size_t>(1, std::min<size_t>(64, cold / std::max<size_t>(1, bytes)));
}

void Chunked(const Options& options, const Limits& limits, size_t rows, size_t n, size_t tokens, size_t chunk_rows) {
  const size_t group = 32, row_bytes = nchunk::RowBytes(options.dtype, n, group);
  const size_t bytes = rows * row_bytes, copies = Copies(options, bytes);
  // The landed rows of one plan out of 2 * rows channels: chunks with gaps of a page's remainder between them.
  const size_t chunks = (rows + chunk_rows - 1) / chunk_rows, gap = 512;
  const size_t landing_bytes = bytes + chunks * gap;
  std::vector<uint8_t> landing(landing_bytes * copies, 0x3c);
  std::vector<uint32_t> starts(chunks), lengths(chunks);
  std::vector<std::vector<double>> offsets(copies, std::vector<double>(chunks));
  for (size_t c = 0; c < chunks; ++c) {
    starts[c] = static_cast<uint32_t>(2 * c * chunk_rows);
    lengths[c] = static_cast<uint32_t>(std::min(chunk_rows, rows - c * chunk_rows));
    for (size_t copy = 0; copy < copies; ++copy) {
      offsets[copy][c] = static_cast<double>(copy * landing_bytes + c * (chunk_rows * row_bytes + gap));
    }
  }
  const size_t k = 2 * chunks * chunk_rows;
  std::vector<float> x(tokens * k, 0.5f), y(tokens * n);
  const double seconds = Best(options.rounds, [&](int round) {
    nchunk::ChunkedMatmul({x.data(), tokens, k, starts.data(), lengths.data(), chunks, landing.data(),
                           offsets[static_cast<size_t>(round) % copies].data(), row_bytes, options.dtype, n, y.data(), false, group});
  });
  const std::string what = "chunk " + std::to_string(chunk_rows);
  Print("chunked", what.c_str(), tokens, rows, n, seconds, static_cast<double>(bytes), 2.0 * static_cast<double>(tokens * rows * n), limits);
}

void Linear(const Options& options, const Limits& limits, size_t k, size_t n, size_t tokens) {
  const size_t bytes = k * n * 2, copies = Copies(options, bytes);
  std::vector<uint8_t> weights(bytes * copies, 0x3c);
  std::vector<float> x(tokens * k, 0.5f), y(tokens * n);
  const double seconds = Best(tokens > 500 ? std::min(3, options.rounds) : options.rounds, [&](int round) {
    nchunk::Linear({x.data(), tokens, k, weights.data() + static_cast<size_t>(round) % copies * bytes, Dtype::kBF16, n,
                    nullptr, y.data(), nchunk::Activation::kNone});
  });
  Print("linear", "", tokens, k, n, seconds, static_cast<double>(bytes), 2.0 * static_cast<double>(tokens * k * n), limits);
}

void Attention(const Options& options, const Limits& limits, size_t tokens, size_t heads, size_t kv_heads, size_t dim,
               size_t past, bool causal) {
  const size_t length = tokens + past, width = heads * dim, kv_width = kv_heads * dim;
  std::vector<float> q(tokens * width, 0.1f), keys(length * kv_width, 0.1f), values(length * kv_width, 1.0f), out(tokens * width);
  const double seconds = Best(options.rounds, [&](int) {
    nchunk::Attention({q.data(), tokens, width, heads, kv_heads, dim, keys.data(), values.data(), length, past, causal, 0.1f,
                       out.data()});
  });
  const double pairs = static_cast<double>(tokens) * (causal ? static_cast<double>(past) + static_cast<double>(tokens) / 2
                                                             : static_cast<double>(length));
  Print("attention", causal ? "causal" : "full", tokens, length, width, seconds, 8.0 * static_cast<double>(length * kv_width),
        4.0 * pairs * static_cast<double>(width), limits);
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (flag == "--tiny") {
      options.tiny = true;
      options.rounds = 1;
      continue;
    }
    if (flag == "--processor-time") {
      g_processor_time = true;
      nchunk::SetThreads(1);
      continue;
    }
    ++i;
    if (flag == "--threads") nchunk::SetThreads(std::atoi(value));
    if (flag == "--rounds") options.rounds = std::atoi(value);
    if (flag == "--only") options.only = value;
    if (flag == "--dtype") {
      const std::string names[] = {"f32", "bf16", "f16", "int8", "int4"};
      options.dtype = static_cast<Dtype>(std::find(names, names + 4, value) - names);
    }
    if (flag == "--target" && !nchunk::ForceTarget(value)) {
      std::fprintf(stderr, "this CPU cannot run target %s\n", value);
      return 1;
    }
  }
  const auto wanted = [&](const char* op) { return options.only.empty() || options.only == op; };
  const Limits limits = MeasureLimits(options);
  std::printf("target %s, %d threads; limits: stream %.1f GB/s, f32 FMA %.1f GFLOP/s\n", nchunk::CurrentTarget().c_str(),
              nchunk::Threads(), limits.stream_gbps, limits.gflops);
  // Half the rows of the projections of the 7B and the 0.5B model.
  const std::vector<std::pair<size_t, size_t>> shapes =
      options.tiny ? std::vector<std::pair<size_t, size_t>>{{40, 56}}
                   : std::vector<std::pair<size_t, size_t>>{{1792, 18944}, {9472, 3584}, {1792, 3584},
                                                            {448, 4864},   {2432, 896},  {448, 896}};
  if (wanted("chunked")) {
    for (const size_t tokens : {1, 16, 196}) {
      for (const auto& [rows, n] : shapes) Chunked(options, limits, rows, n, tokens, 16);
    }
    for (const auto& [rows, n] : shapes) Chunked(options, limits, rows, n, 1, 1);
  }
  if (wanted("linear")) {
    if (options.tiny) {
      Linear(options, limits, 40, 56, 9);
    } else {
      Linear(options, limits, 896, 151936, 1);  // LM head, 0.5B
      for (const size_t tokens : {16, 729}) {
        Linear(options, limits, 1152, 1152, tokens);  // SigLIP-so400m
        Linear(options, limits, 1152, 4304, tokens);
        Linear(options, limits, 4304, 1152, tokens);
      }
    }
  }
  if (wanted("attention")) {
    const size_t tokens = options.tiny ? 9 : 729;
    Attention(options, limits, tokens, 16, 16, 72, 0, false);  // SigLIP-so400m
    Attention(options, limits, options.tiny ? 5 : 196, 14, 2, 64, 1000, true);
    Attention(options, limits, 1, 14, 2, 64, options.tiny ? 100 : 4000, true);
    Attention(options, limits, 1, 28, 4, 128, options.tiny ? 100 : 4000, true);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return Main(argc, argv); }
