#include <napi.h>

#include "collecting_sink.h"
#include "file_extents.h"
#include "landing_sink.h"
#include "native_reader.h"
#include "open_worker.h"
#include "utilities.h"

namespace {

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  auto* data = new flash_io_addon::AddonData();
  data->native_reader_constructor = Napi::Persistent(flash_io_addon::NativeReader::define(env));
  env.SetInstanceData(data);
  exports.Set("openReader", Napi::Function::New(env, flash_io_addon::open_reader, "openReader"));
  exports.Set("alignLanding", Napi::Function::New(env, flash_io_addon::align_landing, "alignLanding"));
  exports.Set("preallocate", Napi::Function::New(env, flash_io_addon::preallocate, "preallocate"));
  exports.Set("fileExtents", Napi::Function::New(env, flash_io_addon::file_extents, "fileExtents"));
  exports.Set("externalMemoryBytes",
              Napi::Function::New(env, flash_io_addon::external_memory_bytes, "externalMemoryBytes"));
  exports.Set("isLandingSink",
              Napi::Function::New(env, flash_io_addon::is_landing_sink, "isLandingSink"));
  exports.Set("collectingSink",
              Napi::Function::New(env, flash_io_addon::collecting_sink, "collectingSink"));
  exports.Set("collected", Napi::Function::New(env, flash_io_addon::collected, "collected"));
  exports.Set("releaseCollected",
              Napi::Function::New(env, flash_io_addon::release_collected, "releaseCollected"));
  exports.Set("closeCollected",
              Napi::Function::New(env, flash_io_addon::close_collected, "closeCollected"));
  return exports;
}

}  // namespace

NODE_API_MODULE(flash_io, initialise)
