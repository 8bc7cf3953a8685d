#!/usr/bin/env bash
# Every test. Installs what it needs, builds into build/, closes with "N passed, N failed". Root of the checkout or anywhere.
#   tests/run.sh [PART...]   parts: unit golden cli compress corpus onnx cuda device sanitize lint   (all when none is named)
set -uo pipefail
export SARD_CACHE=off # neither use nor fill the user's
cd "$(dirname "$0")/.."
root=$PWD
. tests/deps.sh
parts=${*:-lint unit golden cli compress corpus onnx cuda device sanitize}
passed=0 failed=0
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}

want() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
# check NAME COMMAND...: one test, its output shown when it fails
check() {
  local name=$1 log; shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $name"; tail -25 "$log" | sed 's/^/    /'; fi
  rm -f "$log"
}
# counted NAME COMMAND...: adds the counts of the command's last line "... N passed, M failed"
counted() {
  local name=$1 log line; shift
  log=$(mktemp)
  "$@" >"$log" 2>&1; local rc=$?
  line=$(grep -E '[0-9]+ passed, [0-9]+ failed' "$log" | tail -1)
  if [ -z "$line" ]; then failed=$((failed + 1)); echo "FAIL $name (no result, exit $rc)"; tail -25 "$log" | sed 's/^/    /'
  else
    local p f
    p=$(echo "$line" | grep -oE '[0-9]+ passed' | grep -oE '[0-9]+'); f=$(echo "$line" | grep -oE '[0-9]+ failed' | grep -oE '[0-9]+')
    passed=$((passed + p)); failed=$((failed + f))
    echo "$name: $p passed, $f failed"
    [ "$f" -eq 0 ] || grep -E '^(FAIL|not ok)' "$log" | head -40 | sed 's/^/    /'
  fi
  rm -f "$log"
}

# One test for each program, as many at once as there are processors.
unit_tests() {
  export SARD_CORPUS=$corpus
  ls build/tests/test_* | grep -vE '(_(fuzz|cases|bench|table)|\.log)$' | xargs -P "$(nproc)" -I{} bash -c '
    if timeout 300 {} >{}.log 2>&1; then echo "ok $(basename {})"; else echo "FAIL unit/$(basename {}), exit $?: $(tail -5 {}.log | tr "\n" " ")"; fi' |
    awk '/^ok / {p++; next} {print; f++} END {printf "%d passed, %d failed\n", p, f}'
}

# Each model of the corpus at many sizes, as many models at once as there are processors.
each_size() {
  local models=("$corpus"/*/model.onnx)
  printf '%s\n' "${models[@]%/model.onnx}" | xargs -n 1 basename | xargs -P "$(nproc)" -I{} build/tests/test_size_cases "$corpus" {} |
    awk -v all=${#models[@]} '/^[0-9]+ passed, [0-9]+ failed$/ {p += $1; f += $3; n++; next} {print}
                              END {printf "%d passed, %d failed\n", p, f + all - n}'
}

sard_build_deps && sard_install pkg-config && sard_python || { echo "0 passed, 1 failed"; exit 1; }
export SARD_PYTHON=$python
echo "building"
if ! sard_build build -DSARD_WERROR=ON; then echo "FAIL build"; echo "0 passed, 1 failed"; exit 1; fi
passed=$((passed + 1))
corpus=${SARD_CORPUS:-$root/../shared/corpus}
[ -d "$corpus" ] || corpus=$root/models/corpus

if want lint; then check lint/layers bash tests/lint/layers.sh; fi
if want unit || want onnx; then check image-libraries sard_image_deps; fi
if want unit; then
  counted unit unit_tests
fi
if want golden && [ -x tests/golden/run.sh ]; then counted golden bash tests/golden/run.sh; fi
if want cli && [ -f tests/cli/run.sh ]; then counted cli bash tests/cli/run.sh; fi
if want compress; then
  counted compress/eval $python tests/compress/eval.py build/sard "$corpus"
  counted compress/quantize $python tests/compress/quantize.py build/sard "$corpus"
  counted compress/prune $python tests/compress/prune.py build/sard "$corpus"
  counted compress/precision $python tests/compress/precision.py build/sard "$corpus"
fi
if want corpus; then
  list=()
  [ -f "$corpus/spine.txt" ] && list=(--list "$corpus/spine.txt")
  counted corpus $python tests/corpus/check.py build/sard "$corpus" --modes "${SARD_TEST_MODES:-all}" "${list[@]}"
  [ ${#list[@]} -eq 0 ] || counted corpus-all $python tests/corpus/check.py build/sard "$corpus" --modes quick
  counted sizes each_size
  counted split $python tests/corpus/split.py build/sard "$corpus"
fi
if want onnx && [ -f tests/onnx/run.sh ]; then counted onnx bash tests/onnx/run.sh; fi
if want cuda; then counted cuda bash tests/cuda/run.sh; fi
if want device; then counted device bash tests/cuda/null/run.sh; fi
if want sanitize && [ -f tests/sanitize/run.sh ]; then counted sanitize env SARD_CORPUS="$corpus" bash tests/sanitize/run.sh; fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
