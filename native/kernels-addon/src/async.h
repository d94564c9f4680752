// Runs a kernel at once when it is short, else off the main thread.
#ifndef NCHUNK_KERNELS_ADDON_ASYNC_H_
#define NCHUNK_KERNELS_ADDON_ASYNC_H_

#include <napi.h>

#include <functional>

namespace nchunk_addon {

// Work estimated below this runs on the caller: a hand-over to another thread and back costs some tens of microseconds,
// and an event loop that is held for this long does not notice.
constexpr double kSynchronousNs = 150e3;

// Runs `work` now and returns undefined, or returns a promise that resolves on this thread when `work` has run on another.
// `work` must hold plain pointers only; the arguments of the call are kept alive until it has ended, also when the environment
// is torn down meanwhile (Node.js waits for work in flight).
Napi::Value RunOrQueue(const Napi::CallbackInfo& info, double estimated_ns, std::function<void()> work);

// The same, always on another thread.
Napi::Value Queue(const Napi::CallbackInfo& info, std::function<void()> work);

// Estimated time of a product on the current target and threads.
double EstimateProductNs(double weight_bytes, double multiplications);

}  // namespace nchunk_addon

#endif  // NCHUNK_KERNELS_ADDON_ASYNC_H_
