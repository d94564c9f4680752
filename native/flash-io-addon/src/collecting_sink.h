#pragma once

#include <napi.h>

namespace flash_io_addon {

/// For tests: a sink that records what it is told. It takes one stream at a time.
///
/// `collectingSink(isEager)`: an External. An eager sink releases every slice as soon as it and all
/// before it landed, and closes at the end; another one does so when asked.
Napi::Value collecting_sink(const Napi::CallbackInfo& info);
/// `collected(sink)`: `{ begins, slices, landed: number[], ends, allLanded }`.
Napi::Value collected(const Napi::CallbackInfo& info);
/// `releaseCollected(sink, count)`; nothing once closed.
Napi::Value release_collected(const Napi::CallbackInfo& info);
/// `closeCollected(sink)`; nothing once closed.
Napi::Value close_collected(const Napi::CallbackInfo& info);

}  // namespace flash_io_addon
