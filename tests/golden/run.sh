#!/usr/bin/env bash
# Golden tests of every pass and of kernels, dumps of whole models, and the examples of docs/.
#   tests/golden/run.sh [--update] [NAME...]
cd "$(dirname "$0")/../.." || exit 1
export SARD_CACHE=off # neither use nor fill the user's
sard=${SARD:-build/sard}
corpus=${SARD_CORPUS:-../shared/corpus}
[ -d "$corpus" ] || corpus=models/corpus
passed=0 failed=0
part() { # runs a part and adds its counts
  local out line
  out=$("$@" 2>&1)
  line=$(printf '%s\n' "$out" | grep -E '^[0-9]+ passed, [0-9]+ failed$' | tail -1)
  printf '%s\n' "$out" | grep -vE '^[0-9]+ passed, [0-9]+ failed$'
  [ -n "$line" ] || { failed=$((failed + 1)); echo "FAIL golden/$(basename "$2"): no result"; return; }
  passed=$((passed + ${line%% passed*})) line=${line#*, } failed=$((failed + ${line%% failed}))
}
part python3 tests/golden/golden.py "$sard" tests/golden "$@"
if [ $# -eq 0 ]; then
  part python3 tests/golden/round_trip.py "$sard" "$corpus"
  [ -f tests/golden/docs.py ] && part python3 tests/golden/docs.py "$sard" docs
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
