#ifndef NCHUNK_KERNELS_ADDON_STREAMS_H_
#define NCHUNK_KERNELS_ADDON_STREAMS_H_

#include <napi.h>

namespace nchunk_addon {

Napi::Value CreateArrivals(const Napi::CallbackInfo& info);
void FinishArrivals(const Napi::CallbackInfo& info);
Napi::Value StreamedMatmul(const Napi::CallbackInfo& info);

}  // namespace nchunk_addon

#endif  // NCHUNK_KERNELS_ADDON_STREAMS_H_
