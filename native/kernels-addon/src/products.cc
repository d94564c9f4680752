// The kernels that may run off the main thread.
#include "products.h"

#include "arguments.h"
#include "async.h"
#include "nchunk/kernels.h"

namespace nchunk_addon {

Napi::Value ChunkedMatmul(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  nchunk::ChunkedMatmulArgs args;
  args.tokens = in.Size(1, "t");
  args.k = in.Size(2, "k");
  args.x = in.Floats(0, "x", args.tokens * args.k).data;
  args.chunk_count = in.Size(5, "chunkCount");
  args.starts = in.Uint32(3, "starts", args.chunk_count).data;
  args.lengths = in.Uint32(4, "lengths", args.chunk_count).data;
  const Span<uint8_t> landing = in.Bytes(6, "landing", 0);
  args.landing = landing.data;
  args.chunk_offsets_bytes = in.Doubles(7, "chunkOffsetsBytes", args.chunk_count).data;
  args.row_bytes = in.Size(8, "rowBytes");
  args.dtype = in.RowDtype(9);
  args.n = in.Size(10, "n");
  args.group_size = in.GroupSize(13, args.dtype);
  const size_t wanted_bytes = in.RowBytes(args.dtype, args.n, args.group_size, args.row_bytes);
  args.y = in.Floats(11, "y", args.tokens * args.n).data;
  args.accumulate = in.Boolean(12, "accumulate");
  args.arithmetic = in.Arithmetic(14);
  double rows = 0;
  for (size_t c = 0; c < args.chunk_count; ++c) {
    in.CheckChunk(c, {args.starts[c], args.lengths[c], args.chunk_offsets_bytes[c]},
                  {args.k, args.row_bytes, wanted_bytes, landing.length});
    rows += args.lengths[c];
  }
  const double weights = rows * static_cast<double>(args.n);
  return RunOrQueue(info,
                    EstimateProductNs(rows * static_cast<double>(wanted_bytes), weights * static_cast<double>(args.tokens)),
                    [args] { nchunk::ChunkedMatmul(args); });
}

Napi::Value Linear(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  nchunk::LinearArgs args;
  args.tokens = in.Size(1, "t");
  args.k = in.Size(2, "k");
  args.x = in.Floats(0, "x", args.tokens * args.k).data;
  args.dtype = in.Dtype(4);
  args.n = in.Size(5, "n");
  const size_t weights = args.n * args.k;
  args.weight = in.Bytes(3, "weight", weights * nchunk::ElementBytes(args.dtype)).data;
  args.bias = in.IsNull(6) ? nullptr : in.Floats(6, "bias", args.n).data;
  args.y = in.Floats(7, "y", args.tokens * args.n).data;
  const size_t activation = info.Length() > 8 && !in.IsNull(8) ? in.Size(8, "activation") : 0;
  in.Require(activation <= static_cast<size_t>(nchunk::Activation::kGeluTanh),
             "activation must be 0 (none), 1 (gelu) or 2 (geluTanh)");
  args.activation = static_cast<nchunk::Activation>(activation);
  args.arithmetic = in.Arithmetic(9);
  const double bytes = static_cast<double>(weights * nchunk::ElementBytes(args.dtype));
  return RunOrQueue(info, EstimateProductNs(bytes, static_cast<double>(weights) * static_cast<double>(args.tokens)),
                    [args] { nchunk::Linear(args); });
}

Napi::Value Attention(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  nchunk::AttentionArgs args;
  args.tokens = in.Size(1, "t");
  args.q_row_stride = in.Size(2, "qRowStride");
  const size_t column = in.Size(3, "qColumnOffset");
  args.q_heads = in.Size(4, "qHeads");
  args.kv_heads = in.Size(5, "kvHeads");
  args.head_dim = in.Size(6, "headDim");
  args.kv_length = in.Size(9, "kvLength");
  args.past_length = in.Size(10, "pastLength");
  args.causal = in.Boolean(11, "causal");
  args.scale = static_cast<float>(in.Number(12, "scale"));
  // Bounds the products below; far above any model.
  constexpr size_t kMaxHeads = 1 << 16;
  constexpr size_t kMaxHeadDim = 1 << 13;
  in.Require(args.kv_heads > 0 && args.q_heads <= kMaxHeads && args.q_heads % args.kv_heads == 0,
             "qHeads must be a multiple of kvHeads");
  in.Require(args.head_dim <= kMaxHeadDim, "headDim must be at most 8192");
  const size_t width = args.q_heads * args.head_dim;
  in.Require(args.tokens == 0 || args.kv_length > 0, "kvLength must be positive");
  args.q = in.Floats(0, "q", args.tokens == 0 ? 0 : (args.tokens - 1) * args.q_row_stride + column + width).data + column;
  const size_t kv_width = args.kv_heads * args.head_dim;
  args.keys = in.Floats(7, "keys", args.kv_length * kv_width).data;
  args.values = in.Floats(8, "values", args.kv_length * kv_width).data;
  args.out = in.Floats(13, "out", args.tokens * width).data;
  const double pairs = static_cast<double>(args.tokens * width) * static_cast<double>(args.kv_length);
  const double bytes = 8 * static_cast<double>(args.kv_length * kv_width);
  return RunOrQueue(info, EstimateProductNs(bytes, (args.causal && args.past_length == 0 ? 1 : 2) * pairs),
                    [args] { nchunk::Attention(args); });
}

}  // namespace nchunk_addon
