#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "contract.h"
#include "recording_sink.h"

// Counts what this program allocates, whatever the library and its threads do.
namespace {
std::atomic<std::size_t> allocations{0};
}

void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace flash_io::testing {
namespace {

class AllocationContract : public ReaderContract {};
INSTANTIATE_TEST_SUITE_P(Real, AllocationContract, ::testing::ValuesIn(kRealBackends),
                         [](const auto& info) { return info.param.name; });

/// A consumer that keeps nothing.
struct ForgetfulSink {
  FlashIoSink sink{FLASH_IO_SINK_MAGIC, this, on_begin, on_landed, [](void*, int) {}};
  const FlashIoStream* stream = nullptr;

  static void on_begin(void* context, const FlashIoStream* stream, std::uint32_t) {
    static_cast<ForgetfulSink*>(context)->stream = stream;
  }
  static void on_landed(void* context, std::uint32_t) {
    const FlashIoStream* stream = static_cast<ForgetfulSink*>(context)->stream;
    // All of them: slices share no memory here.
    stream->release(stream->context, UINT32_MAX);
  }
};

TEST_P(AllocationContract, AStreamAfterOthersAllocatesNothing) {
  constexpr std::uint32_t kSlices = 40;
  constexpr std::uint32_t kRequestBytes = 4096;
  const TestFile file(std::size_t{2} * kSlices * kRequestBytes, seed_);
  auto reader = open(file);
  GuardedLanding landing(file.bytes().size());
  StreamMemory memory;
  ForgetfulSink sink;
  const auto read_all = [&] {
    Slices slices{std::move(memory.requests), std::move(memory.ends), 16};
    for (std::uint32_t s = 0; s < kSlices; ++s) {
      for (std::uint64_t r = 0; r < 2; ++r) {
        const std::uint64_t offset = (2 * s + r) * kRequestBytes;
        slices.requests.push_back({offset, kRequestBytes, landing.data() + offset});
      }
      slices.ends.push_back(static_cast<std::uint32_t>(slices.requests.size()));
    }
    const auto stream = SliceStream::start(*reader, std::move(slices), sink.sink,
                                           [](SliceStream&) {}, std::move(memory));
    stream->wait();
    ASSERT_TRUE(stream->all_landed());
    memory = stream->take_memory();
    sink.stream->close(sink.stream->context);
  };
  for (int warm_up = 0; warm_up < 50; ++warm_up) read_all();
  const std::size_t before = allocations.load();
  constexpr std::size_t kStreams = 200;
  for (std::size_t i = 0; i < kStreams; ++i) read_all();
  // A thread that is held up may for once have more batches in use than ever before.
  EXPECT_LE(allocations.load() - before, kStreams / 10);
}

}  // namespace
}  // namespace flash_io::testing
