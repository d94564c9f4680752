#!/usr/bin/env bash
# The long version of the randomised tests: 10^6 reads among faults and 10^4 random aborts on every
# backend, plainly (two minutes on two cores) and under both sanitizers (longer). A seed is in every failure.
#   ./soak.sh [PRESET...]        default, asan, tsan; all three without arguments
set -euo pipefail
cd "$(dirname "$0")"
export NCHUNK_SOAK=1
export CTEST_PARALLEL_LEVEL=1
exec ./run-tests.sh "$@"
