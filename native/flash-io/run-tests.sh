#!/usr/bin/env bash
# Builds and runs the native tests under each preset: plain, ASan + UBSan, TSan.
#   ./run-tests.sh [PRESET...]        default, asan, tsan; all three without arguments
set -euo pipefail
cd "$(dirname "$0")"
presets=("$@")
[ ${#presets[@]} -gt 0 ] || presets=(default asan tsan)
for preset in "${presets[@]}"; do
  echo "== $preset"
  cmake --preset "$preset" > /dev/null
  cmake --build --preset "$preset" --parallel 2
  ctest --preset "$preset"
done
