// Names of the binding; packages/vlm-executor/src/binding.ts documents and types them.
#include <napi.h>

#include "arguments.h"
#include "bench.h"
#include "nchunk/kernels.h"
#include "products.h"
#include "rows.h"
#include "streams.h"

namespace nchunk_addon {
namespace {

Napi::Array Names(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array names = Napi::Array::New(env);
  for (const std::string& name : values) names[names.Length()] = Napi::String::New(env, name);
  return names;
}

Napi::Value Features(const Napi::CallbackInfo& info) {
  Napi::Object features = Napi::Object::New(info.Env());
  features["target"] = Napi::String::New(info.Env(), nchunk::CurrentTarget());
  features["threads"] = Napi::Number::New(info.Env(), nchunk::Threads());
  features["reduced"] = Names(info.Env(), nchunk::ReducedArithmetic());
  return features;
}

void SetThreads(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  const size_t threads = in.Size(0, "threads");
  in.Require(threads >= 1 && threads <= nchunk::kMaxThreads, "threads must be in 1 to 256, got " + std::to_string(threads));
  nchunk::SetThreads(static_cast<int>(threads));
}

Napi::Value AvailableTargets(const Napi::CallbackInfo& info) {
  return Names(info.Env(), nchunk::AvailableTargets());
}

void ForceTarget(const Napi::CallbackInfo& info) {
  const Arguments in(info);
  if (!info[0].IsString()) ThrowType(info.Env(), "target must be a string");
  const std::string name = info[0].As<Napi::String>();
  in.Require(nchunk::ForceTarget(name), "this CPU cannot run target \"" + name + "\"; see availableTargets()");
}

template <auto kFunction>
void Export(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<kFunction>(exports.Env(), name));
}

Napi::Object Init(Napi::Env, Napi::Object exports) {
  Export<Features>(exports, "features");
  Export<SetThreads>(exports, "setThreads");
  Export<AvailableTargets>(exports, "availableTargets");
  Export<ForceTarget>(exports, "forceTarget");
  Export<ChunkedMatmul>(exports, "chunkedMatmul");
  Export<CreateArrivals>(exports, "createArrivals");
  Export<FinishArrivals>(exports, "finishArrivals");
  Export<StreamedMatmul>(exports, "streamedMatmul");
  Export<Linear>(exports, "linear");
  Export<Attention>(exports, "attention");
  Export<Importance>(exports, "importance");
  Export<RmsNorm>(exports, "rmsNorm");
  Export<Gather>(exports, "gather");
  Export<LayerNorm>(exports, "layerNorm");
  Export<AddBias>(exports, "addBias");
  Export<Add>(exports, "add");
  Export<SiluMul>(exports, "siluMul");
  Export<Gelu>(exports, "gelu");
  Export<GeluTanh>(exports, "geluTanh");
  Export<Rope>(exports, "rope");
  Export<Embed>(exports, "embed");
  Export<ToF32>(exports, "toF32");
  Export<OpenBench>(exports, "openBench");
  return exports;
}

NODE_API_MODULE(kernels, Init)

}  // namespace
}  // namespace nchunk_addon
