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

}  // namespace

void Attention(const AttentionArgs& args) {
  if (args.tokens == 0 || args.q_heads == 0 || args.head_dim == 0) return;
  const KernelTable& table = Kernels();
  const size_t group = args.q_heads / args.kv_heads;
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
    block.scratch = ThreadScratch().Take<float>(floats);
    table.attention_block(block);
  });
}

}  // namespace nchunk
