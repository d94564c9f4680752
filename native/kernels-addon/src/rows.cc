// The kernels that always run on the caller.
#include "rows.h"

#include <vector>

#include "arguments.h"
#include "nchunk/kernels.h"

namespace nchunk_addon {

void Importance(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t tokens = in.Size(1, "t");
  const size_t k = in.Size(2, "k");
  nchunk::Importance(in.Floats(0, "x", tokens * k).data, tokens, k, in.Floats(3, "v", k).data);
}

void RmsNorm(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t tokens = in.Size(1, "t");
  const size_t k = in.Size(2, "k");
  const uint32_t* permutation = nullptr;
  if (!in.IsNull(5)) {
    const Span<uint32_t> indices = in.Uint32(5, "permutation", k);
    in.CheckIndices(indices, k, k, "permutation");
    permutation = indices.data;
  }
  nchunk::RmsNorm(in.Floats(0, "x", tokens * k).data, tokens, k, in.Floats(3, "weight", k).data,
                  static_cast<float>(in.Number(4, "eps")), permutation, in.Floats(6, "y", tokens * k).data);
}

void Gather(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t tokens = in.Size(1, "t");
  const size_t k = in.Size(2, "k");
  const Span<uint32_t> permutation = in.Uint32(3, "permutation", k);
  in.CheckIndices(permutation, k, k, "permutation");
  nchunk::Gather(in.Floats(0, "x", tokens * k).data, tokens, k, permutation.data, in.Floats(4, "y", tokens * k).data);
}

void LayerNorm(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t tokens = in.Size(1, "t");
  const size_t k = in.Size(2, "k");
  nchunk::LayerNorm(in.Floats(0, "x", tokens * k).data, tokens, k, in.Floats(3, "weight", k).data,
                    in.Floats(4, "bias", k).data, static_cast<float>(in.Number(5, "eps")),
                    in.Floats(6, "y", tokens * k).data);
}

void AddBias(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t tokens = in.Size(1, "t");
  const size_t n = in.Size(2, "n");
  nchunk::AddBias(in.Floats(0, "y", tokens * n).data, tokens, n, in.Floats(3, "bias", n).data);
}

void Add(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t count = in.Size(2, "count");
  nchunk::Add(in.Floats(0, "y", count).data, in.Floats(1, "x", count).data, count);
}

void SiluMul(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t tokens = in.Size(1, "t");
  const size_t n = in.Size(2, "n");
  nchunk::SiluMul(in.Floats(0, "gateUp", 2 * tokens * n).data, tokens, n, in.Floats(3, "y", tokens * n).data);
}

void Gelu(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t count = in.Size(1, "count");
  nchunk::Gelu(in.Floats(0, "x", count).data, count);
}

void GeluTanh(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t count = in.Size(1, "count");
  nchunk::GeluTanh(in.Floats(0, "x", count).data, count);
}

void Rope(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t tokens = in.Size(1, "t");
  const size_t row_stride = in.Size(2, "rowStride");
  const size_t column = in.Size(3, "columnOffset");
  const size_t heads = in.Size(4, "heads");
  const size_t head_dim = in.Size(5, "headDim");
  in.Require(head_dim % 2 == 0, "headDim must be even");
  const size_t width = heads * head_dim;
  in.Require(column <= row_stride && width <= row_stride - column, "heads * headDim do not fit in rowStride after columnOffset");
  float* x = in.Floats(0, "x", tokens == 0 ? 0 : (tokens - 1) * row_stride + column + width).data;
  std::vector<double> widened;
  const double* positions;
  if (in.IsFloat64(6)) {
    positions = in.Doubles(6, "positions", tokens).data;
  } else {
    const Span<int32_t> whole = in.Int32(6, "positions", tokens);
    widened.assign(whole.data, whole.data + tokens);
    positions = widened.data();
  }
  const float* inv_freq = in.Floats(7, "invFreq", head_dim / 2).data;
  nchunk::Rope(x + column, tokens, row_stride, heads, head_dim, positions, inv_freq);
}

void Embed(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const nchunk::Dtype dtype = in.Dtype(1);
  const size_t k = in.Size(2, "k");
  const size_t row_bytes = k * nchunk::ElementBytes(dtype);
  const Span<uint8_t> table = in.Bytes(0, "table", 0);
  const Span<int32_t> ids = in.Int32(3, "ids", 0);
  const size_t rows = row_bytes == 0 ? 0 : table.length / row_bytes;
  for (size_t j = 0; j < ids.length; ++j) {
    if (ids.data[j] < 0 || static_cast<size_t>(ids.data[j]) >= rows) {
      ThrowRange(in.Env(), "ids[" + std::to_string(j) + "] is " + std::to_string(ids.data[j]) + ", the table has " +
                               std::to_string(rows) + " rows");
    }
  }
  nchunk::Embed(table.data, dtype, k, ids.data, ids.length, in.Floats(4, "y", ids.length * k).data);
}

void ToF32(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const nchunk::Dtype dtype = in.Dtype(1);
  const size_t count = in.Size(2, "count");
  nchunk::ToF32(in.Bytes(0, "weight", count * nchunk::ElementBytes(dtype)).data, dtype, count,
                in.Floats(3, "y", count).data);
}

}  // namespace nchunk_addon
