#include "native_reader.h"

#include <algorithm>
#include <string>
#include <utility>

#include "landing_sink.h"

namespace flash_io_addon {
namespace {

// Numbers up to here are exact in a double.
constexpr double kMaxOffsetBytes = 9007199254740992.0;

/// Ends a reader's threads away from the event loop.
class CloseWorker final : public Napi::AsyncWorker {
 public:
  CloseWorker(Napi::Env env, std::shared_ptr<ReaderCore> core)
      : Napi::AsyncWorker(env, "flash-io close"),
        core_(std::move(core)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }
  void Execute() override { core_->close(); }
  void OnOK() override { deferred_.Resolve(Env().Undefined()); }

 private:
  std::shared_ptr<ReaderCore> core_;
  Napi::Promise::Deferred deferred_;
};

}  // namespace

Napi::Object failure_object(Napi::Env env, const flash_io::Failure& failure) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("code", flash_io::failure_code_name(failure.code));
  object.Set("errno", failure.error_number);
  object.Set("offsetBytes", static_cast<double>(failure.offset_bytes));
  object.Set("lengthBytes", static_cast<double>(failure.length_bytes));
  object.Set("detail", failure.detail);
  return object;
}

Napi::Function NativeReader::define(Napi::Env env) {
  return DefineClass(env, "NativeReader",
                     {InstanceMethod<&NativeReader::submit>("submit"),
                      InstanceMethod<&NativeReader::stream>("stream"),
                      InstanceMethod<&NativeReader::take>("take"),
                      InstanceMethod<&NativeReader::cancel>("cancel"),
                      InstanceMethod<&NativeReader::close>("close"),
                      InstanceMethod<&NativeReader::stats>("stats"),
                      InstanceMethod<&NativeReader::describe>("describe")});
}

Napi::Object NativeReader::create(Napi::Env env, std::shared_ptr<ReaderCore> core,
                                  Napi::Function on_settled) {
  // The constructor takes the pointer over during this call, so a stack address is enough.
  Napi::External<std::shared_ptr<ReaderCore>> handle =
      Napi::External<std::shared_ptr<ReaderCore>>::New(env, &core);
  return env.GetInstanceData<AddonData>()->native_reader_constructor.New({handle, on_settled});
}

NativeReader::NativeReader(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeReader>(info) {
  Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsExternal() || !info[1].IsFunction()) {
    throw Napi::TypeError::New(env, "NativeReader comes from openReader");
  }
  core_ = std::move(*info[0].As<Napi::External<std::shared_ptr<ReaderCore>>>().Data());
  settled_function_ = SettledFunction::New(env, info[1].As<Napi::Function>(), "flash-io settled", 0,
                                           1, this);
  // An idle reader must not keep the process alive; submit references it again.
  settled_function_.Unref(env);
  // Hooks run in reverse order: this one before the thread-safe function's own, and both before
  // any JavaScript memory is freed.
  napi_add_env_cleanup_hook(env, &NativeReader::tear_down, this);
  account_memory(env);
}

NativeReader::~NativeReader() {
  if (environment_ended_ || !core_) return;
  napi_remove_env_cleanup_hook(Env(), &NativeReader::tear_down, this);
  core_->close();
  account_memory(Env());
  settled_function_.Release();
}

void NativeReader::tear_down(void* self) {
  auto* reader = static_cast<NativeReader*>(self);
  reader->environment_ended_ = true;
  // Streams have ended: their own hooks are younger.
  for (auto& [id, pending] : reader->pending_) {
    if (pending.batch) pending.batch->cancel();
  }
  reader->core_->close();
}

/// A hook of each stream's own: it runs before those of the addon that made the sink, which was loaded
/// before the stream began, so that no sink is called that is gone.
void NativeReader::tear_down_stream(void* stream) {
  auto* running = static_cast<flash_io::SliceStream*>(stream);
  running->cancel();
  running->wait();
}

void NativeReader::parse_requests(Napi::Env env, const Napi::Float64Array& triples,
                                  std::size_t count, std::uint8_t* landing,
                                  std::size_t landing_bytes,
                                  std::vector<flash_io::ReadRequest>& requests) const {
  const flash_io::File& file = core_->reader->file();
  const std::uint64_t alignment = file.alignment_bytes();
  requests.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    // TypeScript has checked and aligned all of this. Here it guards memory, not usability.
    const double* triple = triples.Data() + 3 * i;
    const bool numbers = triple[0] >= 0 && triple[0] < kMaxOffsetBytes && triple[1] > 0 &&
                         triple[1] <= UINT32_MAX && triple[2] >= 0 && triple[2] < kMaxOffsetBytes;
    const auto offset = static_cast<std::uint64_t>(numbers ? triple[0] : 0);
    const auto length = static_cast<std::uint64_t>(numbers ? triple[1] : 0);
    const auto landing_offset = static_cast<std::uint64_t>(numbers ? triple[2] : 0);
    std::uint8_t* destination = landing + landing_offset;
    if (!numbers || offset >= file.size_bytes() ||
        offset + length >= file.size_bytes() + alignment ||
        landing_offset > landing_bytes || length > landing_bytes - landing_offset ||
        (offset | length | reinterpret_cast<std::uintptr_t>(destination)) % alignment != 0) {
      throw Napi::RangeError::New(env, "request " + std::to_string(i) + " is unaligned or outside");
    }
    requests.push_back({offset, static_cast<std::uint32_t>(length), destination});
  }
}

Napi::Value NativeReader::submit(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() != 4 || !info[0].IsTypedArray() || !info[1].IsNumber() ||
      !info[2].IsArrayBuffer() || !info[3].IsNumber() ||
      info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    throw Napi::TypeError::New(env, "submit takes (Float64Array, count, ArrayBuffer, landingOffsetBytes)");
  }
  const auto triples = info[0].As<Napi::Float64Array>();
  const std::size_t count = info[1].As<Napi::Number>().Uint32Value();
  Napi::ArrayBuffer landing = info[2].As<Napi::ArrayBuffer>();
  if (closing_) throw Napi::Error::New(env, "the reader is closed");
  if (count == 0 || 3 * count > triples.ElementLength() || landing.IsDetached()) {
    throw Napi::RangeError::New(env, "no requests, too few numbers, or a detached buffer");
  }
  const auto landing_offset = static_cast<std::size_t>(info[3].As<Napi::Number>().Int64Value());
  if (landing_offset > landing.ByteLength()) {
    throw Napi::RangeError::New(env, "the landing starts behind its buffer");
  }
  std::vector<flash_io::ReadRequest> requests;
  parse_requests(env, triples, count, static_cast<std::uint8_t*>(landing.Data()) + landing_offset,
                 landing.ByteLength() - landing_offset, requests);
  const std::uint32_t id = next_id_++;
  Pending& pending = add_pending(env, id, landing);
  pending.batch = core_->reader->submit(
      std::move(requests), [this, id](flash_io::Batch& batch) {
        auto data = std::make_unique<Settled>();
        data->id = id;
        data->elapsed_ns = static_cast<double>(batch.elapsed_ns());
        data->bytes_read = static_cast<double>(batch.transferred_bytes());
        data->cancelled = batch.cancelled();
        if (batch.failure()) data->failure = std::make_unique<flash_io::Failure>(*batch.failure());
        settled(std::move(data));
      });
  account_memory(env);
  return Napi::Number::New(env, id);
}

Napi::Value NativeReader::stream(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() != 7 || !info[0].IsTypedArray() || !info[1].IsTypedArray() ||
      !info[2].IsNumber() || !info[3].IsNumber() || !info[4].IsArrayBuffer() ||
      !info[6].IsNumber() ||
      info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    throw Napi::TypeError::New(
        env, "stream takes (Float64Array, Uint32Array, sliceCount, slots, ArrayBuffer, sink, mostBytesUnderWay)");
  }
  const FlashIoSink* sink = landing_sink_of(info[5]);
  if (sink == nullptr) throw Napi::TypeError::New(env, "the sink is not one");
  if (closing_) throw Napi::Error::New(env, "the reader is closed");
  const auto triples = info[0].As<Napi::Float64Array>();
  const auto ends = info[1].As<Napi::Uint32Array>();
  const std::size_t slice_count = info[2].As<Napi::Number>().Uint32Value();
  Napi::ArrayBuffer landing = info[4].As<Napi::ArrayBuffer>();
  flash_io::StreamMemory memory;
  if (!spare_.empty()) {
    memory = std::move(spare_.back());
    spare_.pop_back();
  }
  flash_io::Slices slices{std::move(memory.requests), std::move(memory.ends)};
  slices.slots = info[3].As<Napi::Number>().Uint32Value();
  const double most_bytes = info[6].As<Napi::Number>().DoubleValue();
  if (most_bytes >= 0 && most_bytes < kMaxOffsetBytes) {
    slices.most_bytes_under_way = static_cast<std::uint64_t>(most_bytes);
  }
  if (slice_count > ends.ElementLength() || slices.slots == 0 || landing.IsDetached()) {
    throw Napi::RangeError::New(env, "too few numbers, no slots, or a detached buffer");
  }
  slices.ends.assign(ends.Data(), ends.Data() + slice_count);
  const std::size_t request_count = slices.ends.empty() ? 0 : slices.ends.back();
  if (!std::is_sorted(slices.ends.begin(), slices.ends.end()) ||
      3 * request_count > triples.ElementLength()) {
    throw Napi::RangeError::New(env, "slices must ascend, with three numbers per request");
  }
  parse_requests(env, triples, request_count, static_cast<std::uint8_t*>(landing.Data()),
                 landing.ByteLength(), slices.requests);
  const std::uint32_t id = next_id_++;
  Pending& pending = add_pending(env, id, landing);
  pending.sink = Napi::Reference<Napi::Value>::New(info[5], 1);
  pending.stream = flash_io::SliceStream::start(
      *core_->reader, std::move(slices), *sink,
      [this, &pending](flash_io::SliceStream& ended) { stream_ended(pending, ended); },
      std::move(memory));
  napi_add_env_cleanup_hook(env, &NativeReader::tear_down_stream, pending.stream.get());
  account_memory(env);
  return Napi::Number::New(env, id);
}

NativeReader::Pending& NativeReader::add_pending(Napi::Env env, std::uint32_t id,
                                                 const Napi::ArrayBuffer& landing) {
  if (pending_.empty()) {
    Ref();
    settled_function_.Ref(env);
  }
  Pending& pending = pending_[id];
  pending.id = id;
  pending.landing = Napi::Persistent(landing);
  if (core_->faults) core_->faults->arm();
  return pending;
}

/// From the thread that ended the stream, which keeps `pending` until this has returned.
void NativeReader::stream_ended(Pending& pending, const flash_io::SliceStream& stream) const {
  StreamEnd before = StreamEnd::kAhead;
  if (pending.end.compare_exchange_strong(before, StreamEnd::kReached)) return;
  auto data = std::make_unique<Settled>();
  data->id = pending.id;
  data->elapsed_ns = static_cast<double>(stream.read_ns());
  data->bytes_read = static_cast<double>(stream.bytes_read());
  data->cancelled = !stream.all_landed();
  if (stream.failure()) data->failure = std::make_unique<flash_io::Failure>(*stream.failure());
  settled(std::move(data));
}

/// From any thread. `this` is there: it is referenced, and ends only after all settled.
void NativeReader::settled(std::unique_ptr<Settled> data) const {
  // Refused only when the environment is ending: then nobody is left to tell.
  if (settled_function_.NonBlockingCall(data.get()) == napi_ok) static_cast<void>(data.release());
}

void NativeReader::call_settled(Napi::Env env, Napi::Function on_settled, NativeReader* reader,
                                Settled* data) {
  const std::unique_ptr<Settled> settled(data);
  // Without an environment this only empties the queue, and `reader` may be gone.
  if (static_cast<napi_env>(env) == nullptr) return;
  reader->forget(env, reader->pending_.find(settled->id));
  on_settled.Call({Napi::Number::New(env, settled->id),
                   Napi::Number::New(env, settled->elapsed_ns),
                   Napi::Number::New(env, settled->bytes_read),
                   Napi::Boolean::New(env, settled->cancelled),
                   settled->failure ? failure_object(env, *settled->failure).As<Napi::Value>()
                                    : env.Null()});
}

void NativeReader::forget(Napi::Env env, PendingMap::iterator ended) {
  if (const auto& stream = ended->second.stream) {
    // A thread of the consumer may still be on its way out of `stream_ended`, and nothing joins that one.
    stream->wait();
    napi_remove_env_cleanup_hook(env, &NativeReader::tear_down_stream, stream.get());
    spare_.push_back(stream->take_memory());
  }
  pending_.erase(ended);
  account_memory(env);
  if (!pending_.empty()) return;
  settled_function_.Unref(env);
  Unref();
}

/// V8 sees only JavaScript memory: it is told of ours, so that it knows when collecting pays.
void NativeReader::account_memory(Napi::Env env) {
  const auto now = static_cast<std::int64_t>(core_->reader->memory_bytes());
  Napi::MemoryManagement::AdjustExternalMemory(env, now - accounted_bytes_);
  accounted_bytes_ = now;
}

Napi::Value NativeReader::take(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto found = pending_.find(info[0].As<Napi::Number>().Uint32Value());
  if (found == pending_.end() || !found->second.stream || !info[1].IsTypedArray()) {
    throw Napi::TypeError::New(env, "take takes (the id of a stream under way, Float64Array)");
  }
  StreamEnd before = StreamEnd::kAhead;
  if (found->second.end.compare_exchange_strong(before, StreamEnd::kAwaited) ||
      before == StreamEnd::kAwaited) {
    return env.Undefined();
  }
  auto into = info[1].As<Napi::Float64Array>();
  if (into.ElementLength() < 3) throw Napi::RangeError::New(env, "no room for three numbers");
  const std::shared_ptr<flash_io::SliceStream> stream = found->second.stream;
  forget(env, found);
  into.Data()[0] = static_cast<double>(stream->read_ns());
  into.Data()[1] = static_cast<double>(stream->bytes_read());
  into.Data()[2] = stream->all_landed() ? 0 : 1;
  return stream->failure() ? failure_object(env, *stream->failure()).As<Napi::Value>() : env.Null();
}

Napi::Value NativeReader::cancel(const Napi::CallbackInfo& info) {
  const auto found = pending_.find(info[0].As<Napi::Number>().Uint32Value());
  if (found == pending_.end()) return info.Env().Undefined();
  if (found->second.batch) found->second.batch->cancel();
  // Referenced here, because it may end, and be forgotten, within the call.
  if (const auto stream = found->second.stream) stream->cancel();
  return info.Env().Undefined();
}

Napi::Value NativeReader::close(const Napi::CallbackInfo& info) {
  for (const auto& [id, pending] : pending_) {
    // Its consumer may start reads at any time, which closing does not wait for.
    if (pending.stream) throw Napi::Error::New(info.Env(), "a stream is under way");
  }
  closing_ = true;
  auto* worker = new CloseWorker(info.Env(), core_);
  worker->Queue();
  return worker->promise();
}

Napi::Value NativeReader::stats(const Napi::CallbackInfo& info) {
  const flash_io::Counters& counters = core_->reader->counters();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("batches", static_cast<double>(counters.batches.load()));
  object.Set("requests", static_cast<double>(counters.requests.load()));
  object.Set("bytesRead", static_cast<double>(counters.bytes_read.load()));
  object.Set("retries", static_cast<double>(counters.retries.load()));
  object.Set("errors", static_cast<double>(counters.errors.load()));
  object.Set("bytesInFlight", static_cast<double>(counters.bytes_in_flight.load()));
  object.Set("mostBytesInFlight", static_cast<double>(counters.most_bytes_in_flight.load()));
  object.Set("enterCalls", static_cast<double>(counters.enter_calls.load()));
  object.Set("nativeBytes", static_cast<double>(core_->reader->memory_bytes()));
  return object;
}

Napi::Value NativeReader::describe(const Napi::CallbackInfo& info) {
  const flash_io::File& file = core_->reader->file();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("backend", std::string(core_->reader->backend_name()));
  object.Set("sizeBytes", static_cast<double>(file.size_bytes()));
  object.Set("alignmentBytes", file.alignment_bytes());
  object.Set("directIo", file.direct_io());
  if (file.fallback_errno() != 0) {
    Napi::Object fallback = Napi::Object::New(info.Env());
    fallback.Set("detail", file.fallback_reason());
    fallback.Set("errno", file.fallback_errno());
    object.Set("fallback", fallback);
  }
  const std::optional<flash_io::Failure> refusal = core_->reader->uring_refusal();
  if (refusal) object.Set("uringRefusal", failure_object(info.Env(), *refusal));
  return object;
}

}  // namespace flash_io_addon
