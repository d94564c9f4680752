#pragma once

#include <napi.h>

namespace flash_io_addon {

/// `alignLanding(buffer, capacityBytes, alignmentBytes)`: the offset of the first aligned byte, and
/// huge pages for what follows where the kernel grants them.
Napi::Value align_landing(const Napi::CallbackInfo& info);

/// `preallocate(fd, sizeBytes)`: a promise of the errno of fallocate(2), 0 when the space is ours.
Napi::Value preallocate(const Napi::CallbackInfo& info);

/// `externalMemoryBytes()`: what V8 was told of memory outside its heap, by everybody. For tests:
/// process.memoryUsage() leaves it out.
Napi::Value external_memory_bytes(const Napi::CallbackInfo& info);

}  // namespace flash_io_addon
