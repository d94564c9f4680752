#include "async.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "nchunk/kernels.h"

namespace nchunk_addon {
namespace {

struct Job {
  std::function<void()> work;
  std::string failure;
  napi_ref arguments = nullptr;
  napi_deferred deferred = nullptr;
  napi_async_work handle = nullptr;
};

void Execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  const nchunk::BackgroundScope background;
  try {
    job.work();
  } catch (const std::exception& error) {  // no memory for scratch
    job.failure = error.what();
  }
}

// On the environment's thread. During tear-down no JavaScript may run: the calls below then fail, which is fine.
void Complete(napi_env env, napi_status status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_handle_scope scope;
  const bool scoped = napi_open_handle_scope(env, &scope) == napi_ok;
  napi_delete_reference(env, job->arguments);
  napi_value value;
  if (status != napi_ok && job->failure.empty()) job->failure = "the work was cancelled";
  if (job->failure.empty()) {
    if (napi_get_undefined(env, &value) == napi_ok) napi_resolve_deferred(env, job->deferred, value);
  } else {
    napi_value code;
    napi_value message;
    if (napi_create_string_utf8(env, "KERNELS_FAILED", NAPI_AUTO_LENGTH, &code) == napi_ok &&
        napi_create_string_utf8(env, job->failure.c_str(), NAPI_AUTO_LENGTH, &message) == napi_ok &&
        napi_create_error(env, code, message, &value) == napi_ok) {
      napi_reject_deferred(env, job->deferred, value);
    }
  }
  napi_delete_async_work(env, job->handle);
  if (scoped) napi_close_handle_scope(env, scope);
}

void Check(napi_env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

}  // namespace

Napi::Value Queue(const Napi::CallbackInfo& info, std::function<void()> work) {
  const Napi::Env env = info.Env();
  auto job = std::make_unique<Job>();
  job->work = std::move(work);
  Napi::Array kept = Napi::Array::New(env, info.Length());
  for (uint32_t i = 0; i < info.Length(); ++i) kept.Set(i, info[i]);
  Check(env, napi_create_reference(env, kept, 1, &job->arguments));
  napi_value promise;
  Check(env, napi_create_promise(env, &job->deferred, &promise));
  const Napi::String name = Napi::String::New(env, "neuron-chunking:kernels");
  Check(env, napi_create_async_work(env, nullptr, name, Execute, Complete, job.get(), &job->handle));
  Check(env, napi_queue_async_work(env, job->handle));
  job.release();  // Complete has it now
  return Napi::Value(env, promise);
}

Napi::Value RunOrQueue(const Napi::CallbackInfo& info, double estimated_ns, std::function<void()> work) {
  if (estimated_ns > kSynchronousNs) return Queue(info, std::move(work));
  work();
  return info.Env().Undefined();
}

double EstimateProductNs(double weight_bytes, double multiplications) {
  // Rates of one core, on the low side: 15 GB/s, 25 G multiplications/s, 8 on the portable target.
  const double per_ns = nchunk::CurrentTarget() == "portable" ? 8 : 25;
  return std::max(weight_bytes / 15, multiplications / per_ns) / nchunk::Threads();
}

}  // namespace nchunk_addon
