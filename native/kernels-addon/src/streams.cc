// The product whose rows a reader's threads bring, in another addon that knows no more of this one than landing_sink.h.
#include "streams.h"

#include "arguments.h"
#include "async.h"
#include "flash_io/landing_sink.h"
#include "nchunk/streamed_matmul.h"

namespace nchunk_addon {
namespace {

// What an External of CreateArrivals points at. The sink comes first: it is all that a reader sees.
struct ArrivalsSink {
  FlashIoSink sink{FLASH_IO_SINK_MAGIC, this, &ArrivalsSink::Begin, &ArrivalsSink::Landed, &ArrivalsSink::End};
  nchunk::Arrivals arrivals;

  static nchunk::Arrivals& Of(void* context) { return static_cast<ArrivalsSink*>(context)->arrivals; }
  static void Begin(void* context, const FlashIoStream* stream, uint32_t slices) {
    Of(context).Begin({stream->context, stream->release, stream->close}, slices);
  }
  static void Landed(void* context, uint32_t slice) { Of(context).Landed(slice); }
  static void End(void* context, int) { Of(context).End(); }
};

// Tells our Externals from others'.
constexpr napi_type_tag kArrivalsTag{0x6e6368756e6b2d61, 0x72726976616c7331};

nchunk::Arrivals* ArrivalsAt(const Arguments& in, size_t index) {
  const Napi::Value value = in.info()[index];
  bool ours = false;
  if (!value.IsExternal() || napi_check_object_type_tag(in.Env(), value, &kArrivalsTag, &ours) != napi_ok || !ours) {
    ThrowType(in.Env(), "arrivals must come from createArrivals");
  }
  return &value.As<Napi::External<ArrivalsSink>>().Data()->arrivals;
}

}  // namespace

Napi::Value CreateArrivals(const Napi::CallbackInfo& info) {
  auto* sink = new ArrivalsSink();
  const auto external = Napi::External<ArrivalsSink>::New(info.Env(), sink, [](Napi::Env, ArrivalsSink* gone) { delete gone; });
  if (napi_type_tag_object(info.Env(), external, &kArrivalsTag) != napi_ok) throw Napi::Error::New(info.Env());
  return external;
}

void FinishArrivals(const Napi::CallbackInfo& info) { ArrivalsAt(Arguments(info), 0)->Finish(); }

Napi::Value StreamedMatmul(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  nchunk::StreamedMatmulArgs args;
  args.tokens = in.Size(1, "t");
  args.k = in.Size(2, "k");
  args.x = in.Floats(0, "x", args.tokens * args.k).data;
  args.row_bytes = in.Size(15, "rowBytes");
  args.resident_rows = in.Size(4, "residentRows");
  in.Require(args.resident_rows <= args.k, "residentRows must be at most k");
  args.piece_count = in.Size(8, "pieceCount");
  args.starts = in.Uint32(5, "starts", args.piece_count).data;
  args.lengths = in.Uint32(6, "lengths", args.piece_count).data;
  args.slices = in.Uint32(7, "slices", args.piece_count).data;
  const Span<uint8_t> landings[2] = {in.Bytes(9, "landing", 0),
                                     in.IsNull(13) ? Span<uint8_t>{nullptr, 0} : in.Bytes(13, "aheadLanding", 0)};
  for (size_t s = 0; s < 2; ++s) args.landings[s] = landings[s].data;
  args.offsets_bytes = in.Doubles(10, "offsetsBytes", args.piece_count).data;
  args.streams[0] = ArrivalsAt(in, 11);
  args.streams[1] = in.IsNull(12) ? nullptr : ArrivalsAt(in, 12);
  args.window = in.Size(14, "window");
  in.Require(args.window >= 2, "window must be at least 2");
  args.dtype = in.RowDtype(16);
  args.n = in.Size(17, "n");
  args.group_size = in.GroupSize(20, args.dtype);
  const size_t wanted_bytes = in.RowBytes(args.dtype, args.n, args.group_size, args.row_bytes);
  const bool has_resident = args.resident_rows > 0;
  args.resident =
      has_resident ? in.Bytes(3, "resident", (args.resident_rows - 1) * args.row_bytes + wanted_bytes).data : nullptr;
  args.y = in.Floats(18, "y", args.tokens * args.n).data;
  args.accumulate = in.Boolean(19, "accumulate");
  double* outcome = in.Doubles(21, "outcome", 3).data;
  args.arithmetic = in.Arithmetic(22);
  for (size_t p = 0; p < args.piece_count; ++p) {
    const size_t stream = args.slices[p] >= nchunk::kSecondStream ? 1 : 0;
    in.Require(args.streams[stream] != nullptr, "a piece is of the second stream, and there is none");
    in.CheckChunk(p, {args.starts[p], args.lengths[p], args.offsets_bytes[p]},
                  {args.k, args.row_bytes, wanted_bytes, landings[stream].length});
  }
  return Queue(info, [args, outcome] {
    nchunk::StreamedTimes times;
    outcome[0] = nchunk::StreamedMatmul(args, &times) ? 1 : 0;
    outcome[1] = times.compute_ns;
    outcome[2] = times.stall_ns;
  });
}

}  // namespace nchunk_addon
