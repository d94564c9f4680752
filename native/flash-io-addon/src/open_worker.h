#pragma once

#include <napi.h>

namespace flash_io_addon {

/// `openReader(path, directIo: 0 required | 1 optional | 2 disabled, backend: 0 auto | 1 io_uring |
/// 2 pool, tuning: { queueDepth, submitBatch, threads, maxBytesInFlight }, onSettled, faults?)`: a
/// promise of a NativeReader, rejected with a failure object.
Napi::Value open_reader(const Napi::CallbackInfo& info);

}  // namespace flash_io_addon
