#ifndef NCHUNK_KERNELS_ADDON_ROWS_H_
#define NCHUNK_KERNELS_ADDON_ROWS_H_

#include <napi.h>

namespace nchunk_addon {

void Importance(const Napi::CallbackInfo& info);
void RmsNorm(const Napi::CallbackInfo& info);
void Gather(const Napi::CallbackInfo& info);
void LayerNorm(const Napi::CallbackInfo& info);
void AddBias(const Napi::CallbackInfo& info);
void Add(const Napi::CallbackInfo& info);
void SiluMul(const Napi::CallbackInfo& info);
void Gelu(const Napi::CallbackInfo& info);
void GeluTanh(const Napi::CallbackInfo& info);
void Rope(const Napi::CallbackInfo& info);
void Embed(const Napi::CallbackInfo& info);
void ToF32(const Napi::CallbackInfo& info);

}  // namespace nchunk_addon

#endif  // NCHUNK_KERNELS_ADDON_ROWS_H_
