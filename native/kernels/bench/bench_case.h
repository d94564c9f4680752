// One kernel on one shape, prepared to be run many times on cold weights; for the benchmarks only.
#ifndef NCHUNK_BENCH_CASE_H_
#define NCHUNK_BENCH_CASE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "nchunk/kernels.h"

namespace nchunk::bench {

struct CaseSpec {
  std::string op;  // "chunked", "linear", "attention", "rmsNorm" or "layerNorm"
  Dtype dtype = Dtype::kF32;
  size_t tokens = 1;
  size_t k = 0;  // rows multiplied, input width, or keys of attention (the last `tokens` of them are new)
  size_t n = 0;  // output width
  size_t group_size = 0;
  bool random_chunks = false;  // else all rows lie in one chunk
  size_t heads = 0, kv_heads = 0;  // of attention; n is heads times the head's width
  bool causal = false;
  Arithmetic arithmetic = Arithmetic::kF32;  // of products with weights
};

struct BenchCase {
  std::function<void(size_t round)> run;
  // The peer on the same shape, weights as f32 and nothing else to do; empty where there is no peer for this operation.
  std::function<void(size_t round)> peer;
  double bytes = 0;  // read once at least: weights, keys and values, or activations
  double flops = 0;
};

// Memory that stands for weights: large enough that a walk through it finds nothing in a cache, filled with values that are
// ordinary numbers in every dtype.
class Arena {
 public:
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  const uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // Where copy number `round` of something `bytes` long lies; the same place again only after all others.
  const uint8_t* Copy(size_t round, size_t bytes) const;

 private:
  uint8_t* data_;
  size_t bytes_;
};

// Throws std::invalid_argument when the arena is too small for the weights. `arena` must outlive the case.
BenchCase Prepare(const CaseSpec& spec, const Arena& arena);

// ---- limits

// Reads `bytes` at `data` with the pool's threads; the sum keeps the reads from being left out.
uint64_t StreamRead(const uint8_t* data, size_t bytes);
// Multiply-adds in registers with the pool's threads; floating point operations done.
double FmaLoop(size_t iterations);

// ---- peer: a BLAS of the system, loaded when there is one

struct Peer {
  std::string name;   // library and version; empty when there is none
  std::string reason;  // why there is none
};
// Loads at the first call. `threads` is what it may use from now on.
Peer LoadPeer(int threads);
// c [m, n] = a [m, k] b [k, n], f32 and row-major. Only after LoadPeer() found one.
void PeerGemm(const float* a, const float* b, float* c, size_t m, size_t k, size_t n);

}  // namespace nchunk::bench

#endif  // NCHUNK_BENCH_CASE_H_
