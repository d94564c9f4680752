// Arithmetic of a streamed decoder on the CPU: weights of 2 or 4 bytes as they lie on flash, f32 accumulation.
//
// Every activation is f32 and row-major. Weights are bytes of any alignment. Nothing is checked here: the caller
// guarantees that shapes and buffers agree. No function keeps a pointer after it returns. Every function may be called
// from any thread; results do not depend on the number of threads, and differ between targets by rounding only.
#ifndef NCHUNK_KERNELS_H_
#define NCHUNK_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace nchunk {

enum class Dtype : uint8_t { kF32 = 0, kBF16 = 1, kF16 = 2 };
enum class Activation : uint8_t { kNone = 0, kGelu = 1, kGeluTanh = 2 };

constexpr size_t ElementBytes(Dtype dtype) { return dtype == Dtype::kF32 ? 4 : 2; }

// Targets this build has and this CPU can run, best first: "avx512", "avx2", "neon", "portable".
std::vector<std::string> AvailableTargets();
std::string CurrentTarget();
// For tests. False when this CPU cannot run `name`.
bool ForceTarget(const std::string& name);

// Threads one kernel may use, the caller included. Process-wide; starts at the number of CPUs this process may run on.
constexpr int kMaxThreads = 256;
void SetThreads(int threads);
int Threads();

// While one lives, kernels called on this thread wait for the pool when another caller has it; otherwise they would
// run on this thread alone. For jobs that are off the main thread.
class BackgroundScope {
 public:
  BackgroundScope();
  ~BackgroundScope();
  BackgroundScope(const BackgroundScope&) = delete;
  BackgroundScope& operator=(const BackgroundScope&) = delete;

 private:
  bool previous_;
};

// y [tokens, n] (+)= sum over chunks of x [tokens, k][:, rows] W[rows, :].
// Chunk c holds rows starts[c] .. starts[c] + lengths[c]; its row r lies at landing + chunk_offsets_bytes[c] + r * row_bytes.
struct ChunkedMatmulArgs {
  const float* x;
  size_t tokens;
  size_t k;
  const uint32_t* starts;
  const uint32_t* lengths;
  size_t chunk_count;
  const uint8_t* landing;
  const double* chunk_offsets_bytes;
  size_t row_bytes;
  Dtype dtype;
  size_t n;
  float* y;
  bool accumulate;
};
void ChunkedMatmul(const ChunkedMatmulArgs& args);

// y [tokens, n] = activation(x [tokens, k] W^T + bias), W [n, k].
struct LinearArgs {
  const float* x;
  size_t tokens;
  size_t k;
  const uint8_t* weight;
  Dtype dtype;
  size_t n;
  const float* bias;  // [n] or null
  float* y;
  Activation activation;
};
void Linear(const LinearArgs& args);

// out [tokens, q_heads * head_dim] = softmax(scale q k^T) v with q_heads / kv_heads query heads per key head.
// With `causal`, row t sees keys 0 .. past_length + t; never more than kv_length. No O(tokens * kv_length) memory.
struct AttentionArgs {
  const float* q;  // row t, head h at q + t * q_row_stride + h * head_dim
  size_t tokens;
  size_t q_row_stride;
  size_t q_heads;
  size_t kv_heads;
  size_t head_dim;
  const float* keys;    // [kv_length, kv_heads * head_dim]
  const float* values;  // [kv_length, kv_heads * head_dim]
  size_t kv_length;
  size_t past_length;
  bool causal;
  float scale;
  float* out;
};
void Attention(const AttentionArgs& args);

// v[i] = mean over tokens of |x[t, i]|.
void Importance(const float* x, size_t tokens, size_t k, float* v);
// y[t, i] = x[t, p] * rsqrt(mean(x[t]^2) + eps) * weight[p], p = permutation[i] (or i when null). y may be x when null.
void RmsNorm(const float* x, size_t tokens, size_t k, const float* weight, float eps,
             const uint32_t* permutation, float* y);
void Gather(const float* x, size_t tokens, size_t k, const uint32_t* permutation, float* y);
// Per row: (x - mean) * rsqrt(variance + eps) * weight + bias; y may be x.
void LayerNorm(const float* x, size_t tokens, size_t k, const float* weight, const float* bias, float eps, float* y);
void AddBias(float* y, size_t tokens, size_t n, const float* bias);
void Add(float* y, const float* x, size_t count);
// y[t, i] = silu(gate) * up; gate_up [tokens, 2n], rows gate | up.
void SiluMul(const float* gate_up, size_t tokens, size_t n, float* y);
void Gelu(float* x, size_t count);
void GeluTanh(float* x, size_t count);
// Rotary embedding, rotate_half convention, in place. Head h of row t at x + t * row_stride + h * head_dim.
void Rope(float* x, size_t tokens, size_t row_stride, size_t heads, size_t head_dim, const double* positions,
          const float* inv_freq);
// Row ids[j] of table [V, k] into row j of y.
void Embed(const uint8_t* table, Dtype dtype, size_t k, const int32_t* ids, size_t count, float* y);
void ToF32(const uint8_t* weight, Dtype dtype, size_t count, float* y);

}  // namespace nchunk

#endif  // NCHUNK_KERNELS_H_
