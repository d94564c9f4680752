#include "landing_sink.h"

#include <cstdint>

namespace flash_io_addon {

const FlashIoSink* landing_sink_of(const Napi::Value& value) {
  if (!value.IsExternal()) return nullptr;
  const auto* sink = value.As<Napi::External<FlashIoSink>>().Data();
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(sink) % alignof(FlashIoSink) == 0;
  return sink != nullptr && is_aligned && sink->magic == FLASH_IO_SINK_MAGIC ? sink : nullptr;
}

Napi::Value is_landing_sink(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), info.Length() == 1 && landing_sink_of(info[0]) != nullptr);
}

}  // namespace flash_io_addon
