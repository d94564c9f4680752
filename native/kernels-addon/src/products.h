#ifndef NCHUNK_KERNELS_ADDON_PRODUCTS_H_
#define NCHUNK_KERNELS_ADDON_PRODUCTS_H_

#include <napi.h>

namespace nchunk_addon {

Napi::Value ChunkedMatmul(const Napi::CallbackInfo& info);
Napi::Value Linear(const Napi::CallbackInfo& info);
Napi::Value Attention(const Napi::CallbackInfo& info);

}  // namespace nchunk_addon

#endif  // NCHUNK_KERNELS_ADDON_PRODUCTS_H_
