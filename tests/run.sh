#!/usr/bin/env bash
# Every test. Installs what it needs, builds into build/, closes with "N passed, N failed". Root of the checkout or anywhere.
#   tests/run.sh [PART...]   parts: unit golden cli compress corpus onnx cuda device mpi sanitize lint   (all when none is named)
set -uo pipefail
export SARD_CACHE=off # neither use nor fill the user's
cd "$(dirname "$0")/.."
root=$PWD
. tests/deps.sh
parts=${*:-lint unit golden cli compress corpus onnx cuda device mpi sanitize}
results=$(mktemp -d) # a file for each test, with the numbers that it counted
export SARD_TEST_KERNELS=$root/build/kernels # compiled once for all tests of a run
clean() { rm -rf "$results" "$SARD_TEST_KERNELS"; }
trap clean EXIT
rm -f "$SARD_TEST_KERNELS"
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}

want() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
# check NAME COMMAND...: one test, its output shown when it fails
check() {
  local name=$1 log=$results/${1//\//-}.log; shift
  if "$@" >"$log" 2>&1; then echo 1 0 >"$log.counts"; else echo 0 1 >"$log.counts"; echo "FAIL $name"; tail -25 "$log" | sed 's/^/    /'; fi
}
# counted NAME COMMAND...: adds the counts of the command's last line "... N passed, M failed"
counted() {
  local name=$1 log=$results/${1//\//-}.log start=$SECONDS p='' f=''; shift
  "$@" >"$log" 2>&1; local rc=$?
  read -r p f <<<"$(grep -E '[0-9]+ passed, [0-9]+ failed' "$log" | tail -1 | sed -E 's/.*\b([0-9]+) passed, ([0-9]+) failed.*/\1 \2/')"
  if [ -z "$f" ]; then
    echo 0 1 >"$log.counts"
    echo "FAIL $name (no result, exit $rc)"; tail -25 "$log" | sed 's/^/    /'
    return
  fi
  echo "$p $f" >"$log.counts"
  echo "$name: $p passed, $f failed ($((SECONDS - start)) s)"
  [ "$f" -eq 0 ] || grep -E '^(FAIL|not ok)' "$log" | head -40 | sed 's/^/    /'
}

# One test for each program, as many at once as there are processors.
unit_tests() {
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
if want mpi; then sard_mpi_deps || echo "there is no MPI: processes as devices are not tested"; fi
echo "building"
if ! sard_build build -DSARD_WERROR=ON; then echo "FAIL build"; echo "0 passed, 1 failed"; exit 1; fi
check build true
corpus=${SARD_CORPUS:-$root/../shared/corpus}
[ -d "$corpus" ] || corpus=$root/models/corpus
export SARD_CORPUS=$corpus
if want lint; then check lint/layers bash tests/lint/layers.sh; fi
# Packages before the tests: one installation at a time.
if want unit || want onnx || want sanitize; then check image-libraries sard_image_deps; fi
if want cuda || want device || want sanitize; then check compiler sard_install g++; fi

# What both halves below read is made before.
if want onnx || want cuda || want device; then (. tests/onnx/cases.sh) >/dev/null; fi

# Two halves run beside each other. Of this one most works on one processor at a time.
narrow_parts() {
  if want golden; then counted golden bash tests/golden/run.sh; fi
  if want cli; then counted cli bash tests/cli/run.sh; fi
  if want compress; then
    for verb in eval quantize prune precision optimize; do counted compress/$verb $python tests/compress/$verb.py build/tests/sard "$corpus"; done
  fi
  if want corpus; then counted split $python tests/corpus/split.py build/tests/sard "$corpus"; fi
  if want mpi; then counted mpi $python tests/mpi/cases.py build/sard "$corpus"; fi
  if want device; then counted device bash tests/cuda/null/run.sh; fi
  if want cuda; then counted cuda bash tests/cuda/run.sh; fi
}
# These start a job for each processor.
wide_parts() {
  if want unit; then counted unit unit_tests; fi
  if want corpus; then
    local list=()
    [ -f "$corpus/spine.txt" ] && list=(--list "$corpus/spine.txt")
    counted corpus $python tests/corpus/check.py build/tests/sard "$corpus" --modes "${SARD_TEST_MODES:-all}" "${list[@]}"
    [ ${#list[@]} -eq 0 ] || counted corpus-all $python tests/corpus/check.py build/tests/sard "$corpus" --modes quick
    counted sizes each_size
  fi
  if want onnx; then counted onnx bash tests/onnx/run.sh; fi
  if want sanitize; then counted sanitize bash tests/sanitize/run.sh; fi
}
set -m # a group of its own: it takes interrupts, which some tests send
narrow_parts &
narrow=$!
set +m
trap 'kill -- -$narrow 2>/dev/null; clean' EXIT
wide_parts
wait
awk '{p += $1; f += $2} END {printf "%d passed, %d failed\n", p, f; exit (f > 0)}' "$results"/*.counts
