// Row-wise and element-wise functions, split over threads when that pays.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernel_table.h"
#include "scratch.h"
#include "thread_pool.h"

namespace nchunk {
namespace {

// Elements below which waking a thread costs more than the work: about 10 microseconds' worth.
constexpr size_t kCheapElements = 64 * 1024;  // adds, norms: bound by memory
constexpr size_t kCostlyElements = 8 * 1024;  // exponentials

// body(begin, end) over [0, count), in ranges of about `grain`.
template <class Body>
void Ranges(size_t count, size_t grain, const Body& body) {
  if (count == 0) return;
  const size_t step = std::max<size_t>(1, grain);
  ThreadPool::Instance().ParallelFor((count + step - 1) / step, [&](size_t item) {
    body(item * step, std::min(count, (item + 1) * step));
  });
}

size_t RowGrain(size_t elements, size_t columns) { return elements / std::max<size_t>(1, columns); }

}  // namespace

void Importance(const float* x, size_t tokens, size_t k, float* v) {
  if (tokens == 0) {
    std::memset(v, 0, k * sizeof(float));
    return;
  }
  const KernelTable& table = Kernels();
  const size_t columns = std::max<size_t>(64, kCheapElements / tokens / 64 * 64);
  Ranges(k, columns, [&](size_t begin, size_t end) { table.importance(x + begin, tokens, k, end - begin, v + begin); });
}

void RmsNorm(const float* x, size_t tokens, size_t k, const float* weight, float eps, const uint32_t* permutation,
             float* y) {
  const KernelTable& table = Kernels();
  Ranges(tokens, RowGrain(kCheapElements, k), [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) table.rms_norm_row(x + t * k, k, weight, eps, permutation, y + t * k);
  });
}

void Gather(const float* x, size_t tokens, size_t k, const uint32_t* permutation, float* y) {
  Ranges(tokens, RowGrain(kCheapElements, k), [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) {
      for (size_t i = 0; i < k; ++i) y[t * k + i] = x[t * k + permutation[i]];
    }
  });
}

void LayerNorm(const float* x, size_t tokens, size_t k, const float* weight, const float* bias, float eps, float* y) {
  const KernelTable& table = Kernels();
  Ranges(tokens, RowGrain(kCheapElements, k), [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) table.layer_norm_row(x + t * k, k, weight, bias, eps, y + t * k);
  });
}

void AddBias(float* y, size_t tokens, size_t n, const float* bias) {
  const KernelTable& table = Kernels();
  Ranges(tokens, RowGrain(kCheapElements, n), [&](size_t begin, size_t end) {
    table.epilogue(y + begin * n, n, end - begin, n, bias, Activation::kNone);
  });
}

void Add(float* y, const float* x, size_t count) {
  const KernelTable& table = Kernels();
  Ranges(count, kCheapElements, [&](size_t begin, size_t end) { table.add(y + begin, x + begin, end - begin); });
}

void SiluMul(const float* gate_up, size_t tokens, size_t n, float* y) {
  const KernelTable& table = Kernels();
  const size_t columns = std::min(n, kCostlyElements);
  const size_t parts = columns == 0 ? 0 : (n + columns - 1) / columns;
  Ranges(tokens * parts, RowGrain(kCostlyElements, columns), [&](size_t begin, size_t end) {
    for (size_t item = begin; item < end; ++item) {
      const size_t t = item / parts;
      const size_t column = item % parts * columns;
      const float* gate = gate_up + t * 2 * n + column;
      table.silu_mul(gate, gate + n, std::min(columns, n - column), y + t * n + column);
    }
  });
}

namespace {

void Activate(float* x, size_t count, Activation activation) {
  const KernelTable& table = Kernels();
  Ranges(count, kCostlyElements, [&](size_t begin, size_t end) {
    table.epilogue(x + begin, 0, 1, end - begin, nullptr, activation);
  });
}

}  // namespace

void Gelu(float* x, size_t count) { Activate(x, count, Activation::kGelu); }
void GeluTanh(float* x, size_t count) { Activate(x, count, Activation::kGeluTanh); }

void Rope(float* x, size_t tokens, size_t row_stride, size_t heads, size_t head_dim, const double* positions,
          const float* inv_freq) {
  const KernelTable& table = Kernels();
  const size_t half = head_dim / 2;
  const size_t row_elements = heads * head_dim + 16 * half;  // a sine costs about eight rotations
  Ranges(tokens, RowGrain(kCheapElements / 4, row_elements), [&](size_t begin, size_t end) {
    float* cosines = ThreadScratch().Take<float>(2 * half);
    float* sines = cosines + half;
    for (size_t t = begin; t < end; ++t) {
      for (size_t i = 0; i < half; ++i) {
        // The product is rounded to f32 before the sine, as the reference does: at large positions it matters.
        const float angle = static_cast<float>(positions[t]) * inv_freq[i];
        cosines[i] = std::cos(angle);
        sines[i] = std::sin(angle);
      }
      table.rotate_half(x + t * row_stride, heads, head_dim, cosines, sines);
    }
  });
}

void Embed(const uint8_t* table, Dtype dtype, size_t k, const int32_t* ids, size_t count, float* y) {
  const KernelTable& kernels = Kernels();
  for (size_t j = 0; j < count; ++j) {
    kernels.widen(table + static_cast<size_t>(ids[j]) * k * ElementBytes(dtype), dtype, k, y + j * k);
  }
}

void ToF32(const uint8_t* weight, Dtype dtype, size_t count, float* y) {
  const KernelTable& table = Kernels();
  Ranges(count, kCheapElements, [&](size_t begin, size_t end) {
    table.widen(weight + begin * ElementBytes(dtype), dtype, end - begin, y + begin);
  });
}

}  // namespace nchunk
