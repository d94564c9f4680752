#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "fake_backend.h"
#include "support.h"

namespace flash_io::testing {

/// A way to read that must keep the whole contract.
struct BackendCase {
  const char* name;
  DirectIo direct_io;
  BackendChoice backend;
  bool is_fake = false;
};

inline const BackendCase kRealBackends[] = {
    {"UringDirect", DirectIo::kOptional, BackendChoice::kUring},
    {"UringBuffered", DirectIo::kDisabled, BackendChoice::kUring},
    {"PoolDirect", DirectIo::kOptional, BackendChoice::kPool},
    {"PoolBuffered", DirectIo::kDisabled, BackendChoice::kPool},
};
inline const BackendCase kFakeBackend{"Fake", DirectIo::kDisabled, BackendChoice::kAuto, true};

/// Tests of this suite run against every backend; where the system has no io_uring, its cases skip.
class ReaderContract : public ::testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    if (GetParam().backend != BackendChoice::kUring) return;
    const TestFile probe(4096);
    Failure failure;
    if (Reader::open(probe.path(), {.backend = BackendChoice::kUring}, failure)) return;
    if (failure.code == FailureCode::kBackendUnsupported) {
      GTEST_SKIP() << "no io_uring here: errno " << failure.error_number;
    }
  }

  std::unique_ptr<Reader> open(const TestFile& file, std::shared_ptr<SystemCalls> calls = nullptr,
                               Tuning tuning = {.queue_depth = 16, .submit_batch = 4}) const {
    OpenOptions options{.direct_io = GetParam().direct_io,
                        .backend = GetParam().backend,
                        .tuning = tuning,
                        .make_backend = nullptr,
                        .calls = std::move(calls)};
    if (GetParam().is_fake) {
      options.make_backend = [](const BackendContext& context) {
        return std::make_unique<FakeBackend>(context, 1);
      };
    }
    return open_or_die(file.path(), std::move(options));
  }

  const std::uint64_t seed_ = test_seed();
  std::mt19937_64 random_{seed_};

 private:
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__,
                                      "NCHUNK_TEST_SEED=" + std::to_string(seed_)};
};

}  // namespace flash_io::testing
