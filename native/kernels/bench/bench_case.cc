#include "bench_case.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nchunk::bench {
namespace {

constexpr size_t kPageBytes = 2 << 20;

using Floats = std::shared_ptr<std::vector<float>>;

Floats MakeFloats(size_t count) {
  auto values = std::make_shared<std::vector<float>>(count);
  for (size_t i = 0; i < count; ++i) (*values)[i] = 0.001f * static_cast<float>(i % 1021) - 0.5f;
  return values;
}

struct Plan {
  std::vector<uint32_t> starts, lengths;
  std::vector<double> offsets_bytes;
  size_t channels = 0;
};

// `rows` rows of twice as many channels, in chunks of 1 to 32 rows (or one of all) that landed one after the other.
Plan MakePlan(size_t rows, size_t row_bytes, bool random) {
  std::mt19937 generator(20251121);
  Plan plan;
  for (size_t row = 0, channel = 0; row < rows;) {
    const size_t length = random ? std::min<size_t>(rows - row, 1 + generator() % 32) : rows;
    plan.starts.push_back(static_cast<uint32_t>(channel));
    plan.lengths.push_back(static_cast<uint32_t>(length));
    plan.offsets_bytes.push_back(static_cast<double>(row * row_bytes));
    row += length;
    channel += length;
    plan.channels = channel;
    if (random) channel += 1 + generator() % 32;
  }
  return plan;
}

BenchCase PrepareChunked(const CaseSpec& spec, const Arena& arena) {
  const size_t row_bytes = RowBytes(spec.dtype, spec.n, spec.group_size);
  const size_t landed_bytes = spec.k * row_bytes;
  arena.Copy(0, landed_bytes);
  const auto plan = std::make_shared<Plan>(MakePlan(spec.k, row_bytes, spec.random_chunks));
  const Floats x = MakeFloats(spec.tokens * plan->channels), y = MakeFloats(spec.tokens * spec.n);
  BenchCase result;
  result.run = [=, &arena](size_t round) {
    ChunkedMatmul({x->data(), spec.tokens, plan->channels, plan->starts.data(), plan->lengths.data(), plan->starts.size(),
                   arena.Copy(round, landed_bytes), plan->offsets_bytes.data(), row_bytes, spec.dtype, spec.n, y->data(), false,
                   spec.group_size, spec.arithmetic});
  };
  const size_t f32_bytes = spec.k * spec.n * sizeof(float);
  if (f32_bytes <= arena.bytes()) {
    result.peer = [=, &arena](size_t round) {
      PeerGemm(x->data(), reinterpret_cast<const float*>(arena.Copy(round, f32_bytes)), y->data(), spec.tokens, spec.k, spec.n);
    };
  }
  result.bytes = static_cast<double>(landed_bytes);
  result.flops = 2.0 * static_cast<double>(spec.tokens * spec.k * spec.n);
  return result;
}

BenchCase PrepareLinear(const CaseSpec& spec, const Arena& arena) {
  const size_t bytes = spec.k * spec.n * ElementBytes(spec.dtype);
  arena.Copy(0, bytes);
  const Floats x = MakeFloats(spec.tokens * spec.k), y = MakeFloats(spec.tokens * spec.n);
  BenchCase result;
  result.run = [=, &arena](size_t round) {
    Linear({x->data(), spec.tokens, spec.k, arena.Copy(round, bytes), spec.dtype, spec.n, nullptr, y->data(), Activation::kNone,
            spec.arithmetic});
  };
  const size_t f32_bytes = spec.k * spec.n * sizeof(float);
  if (f32_bytes <= arena.bytes()) {
    // As [k, n], which suits the peer better than [n, k].
    result.peer = [=, &arena](size_t round) {
      PeerGemm(x->data(), reinterpret_cast<const float*>(arena.Copy(round, f32_bytes)), y->data(), spec.tokens, spec.k, spec.n);
    };
  }
  result.bytes = static_cast<double>(bytes);
  result.flops = 2.0 * static_cast<double>(spec.tokens * spec.k * spec.n);
  return result;
}

BenchCase PrepareAttention(const CaseSpec& spec, const Arena& arena) {
  const size_t head_dim = spec.n / spec.heads, kv_width = spec.kv_heads * head_dim;
  const size_t cache_bytes = 2 * spec.k * kv_width * sizeof(float);
  arena.Copy(0, cache_bytes);
  const Floats q = MakeFloats(spec.tokens * spec.n), out = MakeFloats(spec.tokens * spec.n);
  BenchCase result;
  result.run = [=, &arena](size_t round) {
    const float* keys = reinterpret_cast<const float*>(arena.Copy(round, cache_bytes));
    Attention({q->data(), spec.tokens, spec.n, spec.heads, spec.kv_heads, head_dim, keys, keys + spec.k * kv_width, spec.k,
               spec.k - spec.tokens, spec.causal, 0.1f, out->data()});
  };
  const double seen = static_cast<double>(spec.k) - (spec.causal ? static_cast<double>(spec.tokens - 1) / 2 : 0);
  result.bytes = static_cast<double>(cache_bytes);
  result.flops = 4.0 * static_cast<double>(spec.tokens * spec.n) * seen;
  return result;
}

BenchCase PrepareNorm(const CaseSpec& spec, const Arena& arena) {
  const size_t bytes = spec.tokens * spec.k * sizeof(float);
  arena.Copy(0, bytes);
  const Floats weight = MakeFloats(spec.k), bias = MakeFloats(spec.k), y = MakeFloats(spec.tokens * spec.k);
  const bool rms = spec.op == "rmsNorm";
  BenchCase result;
  result.run = [=, &arena](size_t round) {
    const float* x = reinterpret_cast<const float*>(arena.Copy(round, bytes));
    if (rms) {
      RmsNorm(x, spec.tokens, spec.k, weight->data(), 1e-6f, nullptr, y->data());
    } else {
      LayerNorm(x, spec.tokens, spec.k, weight->data(), bias->data(), 1e-6f, y->data());
    }
  };
  // Read and written once.
  result.bytes = 2 * static_cast<double>(bytes);
  result.flops = (rms ? 4.0 : 8.0) * static_cast<double>(spec.tokens * spec.k);
  return result;
}

}  // namespace

Arena::Arena(size_t bytes) : bytes_((bytes + kPageBytes - 1) / kPageBytes * kPageBytes) {
  data_ = static_cast<uint8_t*>(std::aligned_alloc(kPageBytes, bytes_));
  if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
  uint32_t state = 1;
  auto* values = reinterpret_cast<uint16_t*>(data_);
  for (size_t i = 0; i < bytes_ / 2; ++i) {
    state = state * 1664525 + 1013904223;
    values[i] = static_cast<uint16_t>(0x3c00 | state >> 23);
  }
}

Arena::~Arena() { std::free(data_); }

const uint8_t* Arena::Copy(size_t round, size_t bytes) const {
  if (bytes > bytes_) {
    throw std::invalid_argument("the weights of this case take " + std::to_string(bytes) + " bytes, the arena has " +
                                std::to_string(bytes_));
  }
  const size_t stride = std::max<size_t>(4096, (bytes + 4095) / 4096 * 4096);
  return data_ + round % std::max<size_t>(1, bytes_ / stride) * stride;
}

BenchCase Prepare(const CaseSpec& spec, const Arena& arena) {
  if (spec.op == "chunked") return PrepareChunked(spec, arena);
  if (spec.op == "linear") return PrepareLinear(spec, arena);
  if (spec.op == "attention") return PrepareAttention(spec, arena);
  if (spec.op == "rmsNorm" || spec.op == "layerNorm") return PrepareNorm(spec, arena);
  throw std::invalid_argument("there is no benchmark of \"" + spec.op + "\"");
}

}  // namespace nchunk::bench
