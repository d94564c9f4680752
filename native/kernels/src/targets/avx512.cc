// The kernels for one target; CMakeLists.txt gives this file its compiler flags.
#include "simd/table-inl.h"

namespace nchunk {

const KernelTable* Avx512Kernels() {
  static constexpr KernelTable kTable = HWY_NAMESPACE::MakeTable("avx512");
  return &kTable;
}

}  // namespace nchunk
