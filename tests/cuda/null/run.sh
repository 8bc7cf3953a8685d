#!/usr/bin/env bash
# The device layer without a GPU: a CUDA driver that runs kernels on the processor and looks for broken rules (null.h), and
# an NVRTC whose code is the program's text.
#   tests/cuda/null/run.sh   after a build into build/; "N passed, M failed" at the end
cd "$(dirname "$0")/../../.." || exit 1
. tests/deps.sh
sard_install g++ || { echo "0 passed, 1 failed"; exit 1; }
export SARD_CUDA=$PWD/build/tests/libcuda_null.so SARD_NVRTC=$PWD/build/tests/libnvrtc_fake.so
log=build/cuda-null.log

passed=0 failed=0
# counted COMMAND...: shows its failures, adds the counts of its last line "N passed, M failed"
counted() {
  local p='' f=''
  "$@" >$log 2>$log.err
  grep '^FAIL' $log
  read -r p f <<<"$(tail -1 $log | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')"
  [ -n "$f" ] || { echo "FAIL $* (no result)"; tail -5 $log $log.err; }
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
}
counted build/tests/null_rules "$SARD_CUDA"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
