// Timed runs of the kernels beside this machine's limits, for `nchunk bench kernels`. Times are taken here, so that they are those of
// the kernels and not of the calls. Everything runs on the caller, in pieces of some milliseconds.
#include "bench.h"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "arguments.h"
#include "bench_case.h"

namespace nchunk_addon {
namespace {

namespace bench = nchunk::bench;

template <class Work>
double TimeNs(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

size_t SizeOf(const Napi::Object& spec, const char* name, size_t fallback) {
  const Napi::Value value = spec.Get(name);
  if (value.IsUndefined()) return fallback;
  const double number = value.ToNumber().DoubleValue();
  if (!(number >= 0 && number < 2147483648.0)) ThrowRange(spec.Env(), std::string(name) + " must be in [0, 2^31)");
  return static_cast<size_t>(number);
}

bool FlagOf(const Napi::Object& spec, const char* name) { return spec.Get(name).ToBoolean(); }

bench::CaseSpec ReadSpec(const Napi::Object& object) {
  bench::CaseSpec spec;
  spec.op = object.Get("op").ToString().Utf8Value();
  const size_t dtype = SizeOf(object, "dtype", 0);
  if (dtype > static_cast<size_t>(nchunk::Dtype::kI4)) ThrowRange(object.Env(), "dtype must be 0 to 4");
  spec.dtype = static_cast<nchunk::Dtype>(dtype);
  spec.tokens = SizeOf(object, "t", 1);
  spec.k = SizeOf(object, "k", 0);
  spec.n = SizeOf(object, "n", 0);
  spec.group_size = SizeOf(object, "groupSize", 0);
  spec.random_chunks = FlagOf(object, "randomChunks");
  spec.heads = SizeOf(object, "heads", 1);
  spec.kv_heads = SizeOf(object, "kvHeads", 1);
  spec.causal = FlagOf(object, "causal");
  spec.arithmetic = FlagOf(object, "reduced") ? nchunk::Arithmetic::kReduced : nchunk::Arithmetic::kF32;
  const bool attention = spec.op == "attention";
  const bool groups = !nchunk::IsQuantised(spec.dtype) || spec.group_size == 32 || spec.group_size == 64;
  const bool plain = spec.op == "chunked" || !nchunk::IsQuantised(spec.dtype);
  const bool heads = !attention || (spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0 && spec.heads > 0 &&
                                    spec.n % spec.heads == 0 && spec.k >= spec.tokens);
  if (!groups || !plain || !heads || spec.tokens == 0 || spec.k == 0 || spec.n == 0) {
    ThrowRange(object.Env(), "the sizes of this benchmark do not fit each other");
  }
  return spec;
}

using Timed = std::function<void(size_t)>;

Napi::Function TimedFunction(Napi::Env env, Timed work, std::shared_ptr<bench::Arena> arena) {
  return Napi::Function::New(env, [work = std::move(work), arena = std::move(arena)](const Napi::CallbackInfo& info) {
    const size_t round = Arguments(info).Size(0, "round");
    return Napi::Number::New(info.Env(), TimeNs([&] { work(round); }));
  });
}

Napi::Value PrepareCase(const Napi::CallbackInfo& info, const std::shared_ptr<bench::Arena>& arena, bool has_peer) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) ThrowType(env, "the case must be an object");
  try {
    bench::BenchCase prepared = bench::Prepare(ReadSpec(info[0].As<Napi::Object>()), *arena);
    Napi::Object result = Napi::Object::New(env);
    result["bytes"] = Napi::Number::New(env, prepared.bytes);
    result["flops"] = Napi::Number::New(env, prepared.flops);
    result["run"] = TimedFunction(env, std::move(prepared.run), arena);
    if (has_peer && prepared.peer) {
      result["peer"] = TimedFunction(env, std::move(prepared.peer), arena);
    } else {
      result["peer"] = env.Null();
    }
    return result;
  } catch (const std::invalid_argument& error) {
    ThrowRange(env, error.what());
  }
}

}  // namespace

Napi::Value OpenBench(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Arguments in(info);
  const size_t arena_bytes = in.Size(0, "arenaBytes");
  in.Require(arena_bytes > 0, "arenaBytes must be positive");
  std::shared_ptr<bench::Arena> arena;
  try {
    arena = std::make_shared<bench::Arena>(arena_bytes);
  } catch (const std::bad_alloc&) {
    ThrowRange(env, "there is no memory for " + std::to_string(arena_bytes) + " bytes of weights");
  }
  const bench::Peer peer = bench::LoadPeer(nchunk::Threads());
  Napi::Object result = Napi::Object::New(env);
  result["peerName"] = peer.name.empty() ? env.Null() : Napi::Value(Napi::String::New(env, peer.name));
  result["peerReason"] = peer.name.empty() ? Napi::Value(Napi::String::New(env, peer.reason)) : env.Null();
  result["prepare"] = Napi::Function::New(
      env, [arena, has_peer = !peer.name.empty()](const Napi::CallbackInfo& call) { return PrepareCase(call, arena, has_peer); });
  result["stream"] = Napi::Function::New(env, [arena](const Napi::CallbackInfo& call) {
    const Arguments arguments(call);
    const size_t bytes = arguments.Size(1, "bytes");
    arguments.Require(bytes <= arena->bytes(), "bytes is more than the arena has");
    const uint8_t* data = arena->Copy(arguments.Size(0, "round"), bytes);
    volatile uint64_t sum;
    return Napi::Number::New(call.Env(), TimeNs([&] { sum = bench::StreamRead(data, bytes); }));
  });
  result["multiplyAdd"] = Napi::Function::New(env, [](const Napi::CallbackInfo& call) {
    const size_t iterations = Arguments(call).Size(0, "iterations");
    double flops = 0;
    const double ns = TimeNs([&] { flops = bench::FmaLoop(iterations); });
    return Napi::Number::New(call.Env(), flops / ns);
  });
  return result;
}

}  // namespace nchunk_addon
