// Splits attention into blocks of heads and tokens.
#include <algorithm>

#include "gemm.h"
#include "kernel_table.h"
#include "scratch.h"
#include "thread_pool.h"

namespace nchunk {
namespace {

// Query rows of one block: they share the packed keys and values of a block of keys.
constexpr size_t kBlockRows = 192;
// With at most so many query rows for a key head, work is split by ranges of keys: every thread reads whole rows of the cache one
// after the other, and there may be more threads than key heads. The ranges depend on the number of keys alone.
constexpr size_t kFewRows = 4 * kTileRows;
constexpr size_t kRangeKeys = 2 * kKeyBlock;

void FewRows(const KernelTable& table, const AttentionArgs& args) {
  const size_t group = args.q_heads / args.kv_heads, rows = group * args.tokens;
  const size_t ranges = (args.kv_length + kRangeKeys - 1) / kRangeKeys;
  const size_t partial_floats = rows * AttentionPartialFloats(args.head_dim);
  const size_t floats = AttentionScratchFloats(table, RoundUp(rows, kTileRows), args.head_dim);
  ScratchLease scratch;
  float* partials = scratch->partials.Take<float>(ranges * args.kv_heads * partial_floats);
  ThreadPool::Instance().ParallelFor(ranges, [&](size_t range) {
    float* memory = ThreadScratch().Take<float>(floats);
    const size_t key = range * kRangeKeys;
    for (size_t kv_head = 0; kv_head < args.kv_heads; ++kv_head) {
      table.attention_block({&args, kv_head, kv_head * group, (kv_head + 1) * group, 0, args.tokens, key,
                             std::min(args.kv_length, key + kRangeKeys), memory,
                             partials + (range * args.kv_heads + kv_head) * partial_floats});
    }
  });
  table.attention_merge(args, partials, ranges);
}

// One token (or some, of few heads): the cache is read once, in order. Ranges of keys depend on their number alone; many, so that a
// thread which is held up delays little.
constexpr size_t kMostRangeKeys = 8 * kFewKeys;
constexpr size_t kRanges = 32;

void OneTile(const KernelTable& table, const AttentionArgs& args) {
  const size_t rows = args.q_heads / args.kv_heads * args.tokens;
  const size_t range_keys = std::min(RoundUp((args.kv_length + kRanges - 1) / kRanges, kFewKeys), kMostRangeKeys);
  const size_t ranges = (args.kv_length + range_keys - 1) / range_keys;
  const size_t partial_floats = args.kv_heads * rows * AttentionPartialFloats(args.head_dim);
  ScratchLease scratch;
  float* partials = scratch->partials.Take<float>(ranges * partial_floats);
  ThreadPool::Instance().ParallelFor(ranges, [&](size_t range) {
    float* memory = ThreadScratch().Take<float>(AttentionFewFloats(args.kv_heads, args.head_dim));
    const size_t key = range * range_keys;
    table.attention_few(args, key, std::min(args.kv_length, key + range_keys), memory, partials + range * partial_floats);
  });
  table.attention_merge(args, partials, ranges);
}

}  // namespace

void Attention(const AttentionArgs& args) {
  if (args.tokens == 0 || args.q_heads == 0 || args.head_dim == 0) return;
  const KernelTable& table = Kernels();
  const size_t group = args.q_heads / args.kv_heads;
  if (group * args.tokens <= kTileRows && args.head_dim % table.attention_few_step == 0) return OneTile(table, args);
  if (group * args.tokens <= kFewRows && args.kv_length > kRangeKeys) return FewRows(table, args);
  const size_t tokens = std::clamp<size_t>(RoundUp(kBlockRows / group, kTileRows), kTileRows, RoundUp(args.tokens, kTileRows));
  const size_t token_blocks = (args.tokens + tokens - 1) / tokens;
  const size_t floats = AttentionScratchFloats(table, group * tokens, args.head_dim);
  ThreadPool::Instance().ParallelFor(args.kv_heads * token_blocks, [&](size_t item) {
    AttentionBlock block;
    block.args = &args;
    block.kv_head = item % args.kv_heads;
    block.head_begin = block.kv_head * group;
    block.head_end = block.head_begin + group;
    // Later tokens see more keys: longest blocks first.
    block.token_begin = (token_blocks - 1 - item / args.kv_heads) * tokens;
    block.token_end = std::min(args.tokens, block.token_begin + tokens);
    block.key_begin = 0;
    block.key_end = args.kv_length;
    block.scratch = ThreadScratch().Take<float>(floats);
    block.partial = nullptr;
    table.attention_block(block);
  });
}

}  // namespace nchunk
