#ifndef NCHUNK_KERNELS_ADDON_BENCH_H_
#define NCHUNK_KERNELS_ADDON_BENCH_H_

#include <napi.h>

namespace nchunk_addon {

Napi::Value OpenBench(const Napi::CallbackInfo& info);

}  // namespace nchunk_addon

#endif  // NCHUNK_KERNELS_ADDON_BENCH_H_
