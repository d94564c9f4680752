#!/bin/sh
# The objects built with special instructions may define weak symbols only in namespaces of their own (N_AVX2 and so on), and those
# that share a base target's namespace none at all: the linker keeps one definition of a weak symbol, whichever unit it comes from.
set -eu
nm=$1
library=$2
shared=$("$nm" --defined-only "$library" | awk '
  /^[A-Za-z0-9_.]+\.o:$/ { object = $1 }
  ($2 != "W" && $2 != "V" && $2 != "u") || $3 ~ /^DW\.ref\./ { next }
  object ~ /^(avx2|avx512|neon)\./ && $3 !~ /N_(AVX2|AVX3|NEON)/ { print object, $3 }
  object ~ /^(avx512_bf16|neon_dot|neon_bf16)\./ { print object, $3 }')
if [ -n "$shared" ]; then
  echo "weak symbols outside the target namespaces:" >&2
  echo "$shared" >&2
  exit 1
fi
