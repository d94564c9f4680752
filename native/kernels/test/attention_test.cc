#include <algorithm>

#include "support.h"

namespace nchunk::test {
namespace {

struct Shape {
  size_t tokens, q_heads, kv_heads, head_dim, past;
  bool causal;
};

class AttentionKernel : public OnTarget {
 protected:
  void Check(const Shape& s, float q_scale = 1.0f) {
    SCOPED_TRACE("T " + std::to_string(s.tokens) + " heads " + std::to_string(s.q_heads) + "/" +
                 std::to_string(s.kv_heads) + " dim " + std::to_string(s.head_dim) + " past " + std::to_string(s.past) +
                 (s.causal ? " causal" : ""));
    const size_t kv_length = s.past + s.tokens;
    const size_t kv_width = s.kv_heads * s.head_dim, width = s.q_heads * s.head_dim;
    const size_t stride = width + 11;
    const std::vector<float> q = Floats((s.tokens - 1) * stride + width, q_scale);
    const std::vector<float> keys = Floats(kv_length * kv_width), values = Floats(kv_length * kv_width);
    const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    Guarded out(s.tokens * width);
    Attention({q.data(), s.tokens, stride, s.q_heads, s.kv_heads, s.head_dim, keys.data(), values.data(), kv_length,
               s.past, s.causal, scale, out.data()});
    out.ExpectIntact();
    for (size_t t = 0; t < s.tokens; ++t) {
      const size_t visible = s.causal ? s.past + t + 1 : kv_length;
      for (size_t h = 0; h < s.q_heads; ++h) {
        const size_t kv = h / (s.q_heads / s.kv_heads) * s.head_dim;
        std::vector<double> p(visible);
        for (size_t j = 0; j < visible; ++j) {
          for (size_t c = 0; c < s.head_dim; ++c) {
            p[j] += double{q[t * stride + h * s.head_dim + c]} * keys[j * kv_width + kv + c] * scale;
          }
        }
        const double best = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& v : p) sum += v = std::exp(v - best);
        for (size_t c = 0; c < s.head_dim; ++c) {
          double want = 0, terms = 0;
          for (size_t j = 0; j < visible; ++j) {
            want += p[j] / sum * values[j * kv_width + kv + c];
            terms += std::abs(p[j] / sum * values[j * kv_width + kv + c]);
          }
          // The rounding error of a score, which grows with it, is what the exponential makes relative.
          ExpectSum(out[t * width + h * s.head_dim + c], want, terms, 5e-6 * q_scale, "out");
          if (HasFatalFailure()) return;
        }
      }
    }
  }
};
NCHUNK_ON_EVERY_TARGET(AttentionKernel);

TEST_P(AttentionKernel, MatchesNaive) {
  const Shape shapes[] = {
      {1, 14, 2, 64, 0, true},    // first token of LLaVA-OneVision 0.5B
      {1, 14, 2, 64, 200, true},  // decode
      {1, 7, 7, 5, 96, false},    // exactly one key block and one key
      {13, 4, 2, 72, 0, true},    {33, 2, 1, 128, 95, true},  {100, 2, 2, 72, 0, false},
      {196, 3, 3, 48, 0, true},   {50, 6, 3, 17, 150, true},  {9, 8, 1, 33, 3, false},
      {250, 1, 1, 64, 0, true},   {3, 2, 1, 1, 1, true},      {40, 28, 4, 16, 10, true}, {9, 4, 2, 18, 100, true},
      // Few rows over several ranges of keys, the last of which some rows do not see.
      {1, 14, 2, 64, 500, true},  {1, 28, 4, 128, 383, true}, {4, 14, 2, 64, 190, true},  {5, 6, 3, 72, 382, true},
      {3, 2, 1, 17, 575, false},  {4, 8, 1, 33, 381, true},   {1, 1, 1, 48, 960, true},
      // At most eight query rows for a key head: every number of them, last keys of every kind.
      {1, 1, 1, 64, 0, true},     {1, 2, 1, 16, 15, true},    {1, 6, 2, 32, 63, true},    {1, 4, 1, 48, 64, true},
      {1, 10, 2, 80, 130, true},  {1, 12, 2, 96, 700, true},  {1, 16, 2, 128, 333, true}, {2, 8, 2, 64, 129, true},
      {4, 2, 1, 64, 61, true},    {8, 1, 1, 112, 5000, true}, {3, 4, 2, 16, 2100, false},
  };
  for (const Shape& shape : shapes) {
    Check(shape);
    if (HasFatalFailure()) return;
  }
}

TEST_P(AttentionKernel, LargeScoresDoNotOverflow) {
  Check({20, 2, 1, 64, 120, true}, 8.0f);
  Check({1, 2, 1, 64, 900, true}, 8.0f);
}

TEST_P(AttentionKernel, ThreadsDoNotChangeResults) {
  struct Case {
    size_t tokens, past;
  };
  for (const auto& [tokens, past] : {Case{60, 0}, Case{2, 700}}) {
    const size_t heads = 4, dim = 64, width = heads * dim, length = past + tokens;
    const std::vector<float> q = Floats(tokens * width), keys = Floats(length * width), values = Floats(length * width);
    const int before = Threads();
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 3}) {
      SetThreads(threads);
      std::vector<float>& out = results.emplace_back(tokens * width);
      Attention({q.data(), tokens, width, heads, heads, dim, keys.data(), values.data(), length, past, true, 0.125f, out.data()});
    }
    SetThreads(before);
    EXPECT_EQ(results[0], results[1]);
  }
}

}  // namespace
}  // namespace nchunk::test
