// Chooses the kernels that this CPU can run.
#include <atomic>
#include <cstring>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernel_table.h"

namespace nchunk {
namespace {

// Best first.
std::vector<const KernelTable*> Runnable() {
  std::vector<const KernelTable*> tables;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) tables.push_back(Avx512Bf16Kernels());
    tables.push_back(Avx512Kernels());
  }
  if (avx2) tables.push_back(Avx2Kernels());
#elif defined(__aarch64__)
  constexpr unsigned long kHalfAndDot = HWCAP_ASIMDHP | HWCAP_ASIMDDP;
  const bool dot = (getauxval(AT_HWCAP) & kHalfAndDot) == kHalfAndDot;
  if (dot && (getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0) tables.push_back(NeonBf16Kernels());
  if (dot) tables.push_back(NeonDotKernels());
  tables.push_back(NeonKernels());
#endif
  tables.push_back(PortableKernels());
  return tables;
}

std::atomic<const KernelTable*>& Current() {
  static std::atomic<const KernelTable*> current{Runnable().front()};
  return current;
}

}  // namespace

const KernelTable& Kernels() { return *Current().load(std::memory_order_relaxed); }

std::vector<std::string> AvailableTargets() {
  std::vector<std::string> names;
  for (const KernelTable* table : Runnable()) names.emplace_back(table->name);
  return names;
}

std::string CurrentTarget() { return Kernels().name; }

std::vector<std::string> ReducedArithmetic() {
  std::vector<std::string> names;
  if (Kernels().reduced_gemm != nullptr) names.emplace_back(Kernels().reduced_gemm->name);
  if (Kernels().gemv_quant_dot != nullptr) names.push_back("int8-dot");
  return names;
}

bool ForceTarget(const std::string& name) {
  for (const KernelTable* table : Runnable()) {
    if (name == table->name) {
      Current().store(table, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

size_t AttentionScratchFloats(const KernelTable& table, size_t rows, size_t head_dim) {
  const size_t value_columns = (head_dim + table.gemm.panel_columns - 1) / table.gemm.panel_columns * table.gemm.panel_columns;
  return rows * head_dim + kKeyBlock * head_dim + kKeyBlock * value_columns + kTileRows * kKeyBlock +
         rows * value_columns + 2 * rows;
}

}  // namespace nchunk
