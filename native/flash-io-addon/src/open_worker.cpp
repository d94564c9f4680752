#include "open_worker.h"

#include <algorithm>
#include <string>
#include <utility>

#include "native_reader.h"

namespace flash_io_addon {
namespace {

/// Opens a file away from the event loop: open, statx and the trial read may all wait for a device.
class OpenWorker final : public Napi::AsyncWorker {
 public:
  OpenWorker(Napi::Env env, std::string path, flash_io::OpenOptions options,
             std::shared_ptr<flash_io::FaultySystemCalls> faults, Napi::Function on_settled)
      : Napi::AsyncWorker(env, "flash-io open"),
        path_(std::move(path)),
        options_(std::move(options)),
        core_(std::make_shared<ReaderCore>()),
        on_settled_(Napi::Persistent(on_settled)),
        deferred_(Napi::Promise::Deferred::New(env)) {
    core_->faults = std::move(faults);
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    core_->reader = flash_io::Reader::open(path_, std::move(options_), failure_);
  }

  void OnOK() override {
    if (core_->reader) {
      deferred_.Resolve(NativeReader::create(Env(), std::move(core_), on_settled_.Value()));
    } else {
      deferred_.Reject(failure_object(Env(), failure_));
    }
  }

 private:
  std::string path_;
  flash_io::OpenOptions options_;
  std::shared_ptr<ReaderCore> core_;
  flash_io::Failure failure_;
  Napi::FunctionReference on_settled_;
  Napi::Promise::Deferred deferred_;
};

/// TypeScript has checked the ranges; here they guard memory.
flash_io::Tuning parse_tuning(const Napi::Object& object) {
  const auto number = [&object](const char* name, double most) {
    const double value = object.Get(name).ToNumber().DoubleValue();
    return value >= 1 ? std::min(value, most) : 1.0;
  };
  flash_io::Tuning tuning;
  tuning.queue_depth = static_cast<unsigned>(number("queueDepth", flash_io::kMaxQueueDepth));
  tuning.submit_batch = static_cast<unsigned>(number("submitBatch", flash_io::kMaxQueueDepth));
  tuning.threads = static_cast<unsigned>(number("threads", flash_io::kMaxThreads));
  tuning.max_bytes_in_flight = static_cast<std::uint64_t>(number("maxBytesInFlight", 1e15));
  return tuning;
}

std::uint32_t rate(const Napi::Object& rates, const char* name) {
  const Napi::Value value = rates.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

std::shared_ptr<flash_io::FaultySystemCalls> parse_faults(const Napi::Value& value) {
  if (!value.IsObject()) return nullptr;
  const auto object = value.As<Napi::Object>();
  const flash_io::FaultRates rates{
      .short_read = rate(object, "shortRead"),
      .zero = rate(object, "zero"),
      .interrupted = rate(object, "interrupted"),
      .again = rate(object, "again"),
      .no_memory = rate(object, "noMemory"),
      .io_error = rate(object, "ioError"),
      .no_device = rate(object, "noDevice"),
      .delay = rate(object, "delay"),
      .enter = rate(object, "enter"),
      .uring_lost_after = rate(object, "uringLostAfter"),
  };
  return std::make_shared<flash_io::FaultySystemCalls>(rate(object, "seed"), rates);
}

}  // namespace

Napi::Value open_reader(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 5 || !info[0].IsString() || !info[1].IsNumber() || !info[2].IsNumber() ||
      !info[3].IsObject() || !info[4].IsFunction()) {
    throw Napi::TypeError::New(
        env, "openReader takes (path, directIo, backend, tuning, onSettled, faults?)");
  }
  flash_io::OpenOptions options;
  options.direct_io = static_cast<flash_io::DirectIo>(info[1].As<Napi::Number>().Uint32Value());
  options.backend = static_cast<flash_io::BackendChoice>(info[2].As<Napi::Number>().Uint32Value());
  options.tuning = parse_tuning(info[3].As<Napi::Object>());
  auto faults = parse_faults(info[5]);
  options.calls = faults;
  auto* worker = new OpenWorker(env, info[0].As<Napi::String>().Utf8Value(), std::move(options),
                                std::move(faults), info[4].As<Napi::Function>());
  worker->Queue();
  return worker->promise();
}

}  // namespace flash_io_addon
