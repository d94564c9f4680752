#include "collecting_sink.h"

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "landing_sink.h"

namespace flash_io_addon {
namespace {

class CollectingSink {
 public:
  explicit CollectingSink(bool is_eager) : is_eager_(is_eager) {}
  ~CollectingSink() { close(); }
  CollectingSink(const CollectingSink&) = delete;
  CollectingSink& operator=(const CollectingSink&) = delete;

  FlashIoSink* sink() { return &sink_; }

  /// Null when `value` is no sink of this kind.
  static CollectingSink* of(const Napi::Value& value) {
    const FlashIoSink* sink = landing_sink_of(value);
    if (sink == nullptr || sink->begin != &on_begin) return nullptr;
    return static_cast<CollectingSink*>(sink->context);
  }

  void release(std::uint32_t count) {
    const FlashIoStream* stream = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stream = stream_;
    }
    if (stream != nullptr) stream->release(stream->context, count);
  }

  void close() {
    const FlashIoStream* stream = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stream = std::exchange(stream_, nullptr);
    }
    if (stream != nullptr) stream->close(stream->context);
  }

  Napi::Value collected(Napi::Env env) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Napi::Array landed = Napi::Array::New(env, landed_.size());
    for (std::uint32_t i = 0; i < landed_.size(); ++i) landed.Set(i, landed_[i]);
    Napi::Object object = Napi::Object::New(env);
    object.Set("begins", begins_);
    object.Set("slices", static_cast<std::uint32_t>(has_landed_.size()));
    object.Set("landed", landed);
    object.Set("ends", ends_);
    object.Set("allLanded", all_landed_);
    return object;
  }

 private:
  static CollectingSink& self(void* context) { return *static_cast<CollectingSink*>(context); }

  static void on_begin(void* context, const FlashIoStream* stream, std::uint32_t slices) {
    CollectingSink& sink = self(context);
    const std::lock_guard<std::mutex> lock(sink.mutex_);
    ++sink.begins_;
    sink.stream_ = stream;
    sink.landed_.clear();
    sink.has_landed_.assign(slices, false);
    sink.first_missing_ = 0;
    sink.all_landed_ = false;
  }

  static void on_landed(void* context, std::uint32_t slice) {
    CollectingSink& sink = self(context);
    std::uint32_t releasable = 0;
    {
      const std::lock_guard<std::mutex> lock(sink.mutex_);
      sink.landed_.push_back(slice);
      sink.has_landed_[slice] = true;
      std::uint32_t& first = sink.first_missing_;
      while (first < sink.has_landed_.size() && sink.has_landed_[first]) ++first;
      releasable = first;
    }
    if (sink.is_eager_) sink.release(releasable);
  }

  static void on_end(void* context, int all_landed) {
    CollectingSink& sink = self(context);
    {
      const std::lock_guard<std::mutex> lock(sink.mutex_);
      ++sink.ends_;
      sink.all_landed_ = all_landed != 0;
    }
    if (sink.is_eager_) sink.close();
  }

  const bool is_eager_;
  FlashIoSink sink_{FLASH_IO_SINK_MAGIC, this, &on_begin, &on_landed, &on_end};
  std::mutex mutex_;
  const FlashIoStream* stream_ = nullptr;  // null before `begin` and from closing on
  std::vector<std::uint32_t> landed_;
  std::vector<bool> has_landed_;  // [slices]
  std::uint32_t first_missing_ = 0;
  std::uint32_t begins_ = 0;
  std::uint32_t ends_ = 0;
  bool all_landed_ = false;
};

CollectingSink& sink_argument(const Napi::CallbackInfo& info) {
  CollectingSink* sink = CollectingSink::of(info[0]);
  if (sink == nullptr) throw Napi::TypeError::New(info.Env(), "not a sink of collectingSink()");
  return *sink;
}

}  // namespace

Napi::Value collecting_sink(const Napi::CallbackInfo& info) {
  auto* sink = new CollectingSink(info[0].ToBoolean());
  return Napi::External<FlashIoSink>::New(
      info.Env(), sink->sink(), [](Napi::Env, FlashIoSink*, CollectingSink* owner) { delete owner; },
      sink);
}

Napi::Value collected(const Napi::CallbackInfo& info) {
  return sink_argument(info).collected(info.Env());
}

Napi::Value release_collected(const Napi::CallbackInfo& info) {
  sink_argument(info).release(info[1].ToNumber().Uint32Value());
  return info.Env().Undefined();
}

Napi::Value close_collected(const Napi::CallbackInfo& info) {
  sink_argument(info).close();
  return info.Env().Undefined();
}

}  // namespace flash_io_addon
