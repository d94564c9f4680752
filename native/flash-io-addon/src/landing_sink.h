#pragma once

#include <napi.h>

#include "flash_io/landing_sink.h"

namespace flash_io_addon {

/// The sink behind a JavaScript value: an External whose memory starts with the sink's magic number;
/// null for anything else.
const FlashIoSink* landing_sink_of(const Napi::Value& value);

/// `isLandingSink(value)`.
Napi::Value is_landing_sink(const Napi::CallbackInfo& info);

}  // namespace flash_io_addon
