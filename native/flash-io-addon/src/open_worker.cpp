#include "open_worker.h"

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
  };
  return std::make_shared<flash_io::FaultySystemCalls>(rate(object, "seed"), rates);
}

}  // namespace

Napi::Value open_reader(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 4 || !info[0].IsString() || !info[1].IsNumber() || !info[2].IsNumber() ||
      !info[3].IsFunction()) {
    throw Napi::TypeError::New(env, "openReader takes (path, directIo, threads, onSettled, faults?)");
  }
  flash_io::OpenOptions options;
  options.direct_io = static_cast<flash_io::DirectIo>(info[1].As<Napi::Number>().Uint32Value());
  options.threads = info[2].As<Napi::Number>().Uint32Value();
  auto faults = parse_faults(info[4]);
  options.calls = faults;
  auto* worker = new OpenWorker(env, info[0].As<Napi::String>().Utf8Value(), std::move(options),
                                std::move(faults), info[3].As<Napi::Function>());
  worker->Queue();
  return worker->promise();
}

}  // namespace flash_io_addon
