// Arithmetic of a streamed decoder on the CPU: weights as they lie on flash (f32, bf16, f16; rows of int8 and int4 with a scale
// for each group), f32 accumulation.
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

// kI8 and kI4 are dtypes of chunked rows only (see RowBytes).
enum class Dtype : uint8_t { kF32 = 0, kBF16 = 1, kF16 = 2, kI8 = 3, kI4 = 4 };
// What a product may round. kReduced is a permission, given product by product: a target that has faster instructions for it rounds
// operands first (ReducedArithmetic() says to what, README.md how far that goes); one that has not computes as kF32 does.
enum class Arithmetic : uint8_t { kF32 = 0, kReduced = 1 };
enum class Activation : uint8_t { kNone = 0, kGelu = 1, kGeluTanh = 2 };

constexpr bool IsQuantised(Dtype dtype) { return dtype == Dtype::kI8 || dtype == Dtype::kI4; }
// Of the dtypes that are not quantised.
constexpr size_t ElementBytes(Dtype dtype) { return dtype == Dtype::kF32 ? 4 : 2; }

// A quantised row of n weights is n quants, then one binary16 scale for each group of `group_size` (32 or 64) columns, the last of
// which may be short; weight = quant * scale. kI8: a signed byte each. kI4: two's complement nibbles, column 2i in the low
// half of byte i. The scales start at the next even byte of the row.
constexpr size_t QuantBytes(Dtype dtype, size_t n) { return dtype == Dtype::kI8 ? n : (n + 1) / 2; }
constexpr size_t ScalesOffsetBytes(Dtype dtype, size_t n) { return (QuantBytes(dtype, n) + 1) / 2 * 2; }
// Bytes of one row of n weights. `group_size` matters for quantised dtypes only.
constexpr size_t RowBytes(Dtype dtype, size_t n, size_t group_size) {
  if (!IsQuantised(dtype)) return n * ElementBytes(dtype);
  return ScalesOffsetBytes(dtype, n) + 2 * ((n + group_size - 1) / group_size);
}

// Targets this build has and this CPU can run, best first: "avx512-bf16", "avx512", "avx2", "neon-bf16", "neon-dot", "neon", "portable". Under
// kF32 a target with a suffix computes what the one without computes, bit for bit.
std::vector<std::string> AvailableTargets();
std::string CurrentTarget();
// For tests. False when this CPU cannot run `name`.
bool ForceTarget(const std::string& name);
// What the current target rounds under Arithmetic::kReduced: "bf16-dot" (many tokens: both operands to bf16, sums in f32),
// "int8-dot" (few tokens and int4 rows: activations to int8 in small groups).
std::vector<std::string> ReducedArithmetic();

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
  size_t group_size = 0;  // columns per scale, 32 or 64; of kI8 and kI4 only
  Arithmetic arithmetic = Arithmetic::kF32;
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
  Arithmetic arithmetic = Arithmetic::kF32;
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
