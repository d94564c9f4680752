#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "claimed_request.h"
#include "flash_io/backend.h"

namespace flash_io::testing {

/// The contract without a device: one thread that claims a handful of requests and answers them in
/// random order, each through the same system-call boundary as the real backends.
class FakeBackend final : public Backend {
 public:
  FakeBackend(const BackendContext& context, std::uint64_t seed)
      : context_(context), random_(seed), thread_([this] { work(); }) {}
  ~FakeBackend() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  std::string_view name() const override { return "fake"; }
  void submit(std::shared_ptr<Batch> batch) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(batch));
    wake_.notify_all();
  }

 private:
  static constexpr std::size_t kInFlight = 7;

  void work() {
    std::vector<std::unique_ptr<ClaimedRequest>> flight;
    for (;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || !queue_.empty() || !flight.empty(); });
        while (!queue_.empty() && flight.size() < kInFlight) {
          const std::size_t index = queue_.front()->claim();
          if (index == Batch::kNone) {
            queue_.pop_front();
          } else {
            flight.push_back(std::make_unique<ClaimedRequest>(queue_.front(), index, context_));
          }
        }
        if (flight.empty() && stopping_) return;
      }
      if (!flight.empty()) answer_one(flight);
    }
  }

  void answer_one(std::vector<std::unique_ptr<ClaimedRequest>>& flight) {
    std::swap(flight[random_() % flight.size()], flight.back());
    const ReadProgress& progress = flight.back()->progress();
    const auto next = flight.back()->on_result(
        context_.calls.pread(context_.file.fd(), progress.destination(), progress.length_bytes(),
                             progress.offset_bytes()));
    if (next == ClaimedRequest::Next::kEnded) flight.pop_back();
  }

  const BackendContext context_;
  std::mt19937_64 random_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Batch>> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace flash_io::testing
