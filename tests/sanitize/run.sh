#!/usr/bin/env bash
# AddressSanitizer, UndefinedBehaviorSanitizer, LeakSanitizer and ThreadSanitizer over unit tests, damaged models, artifacts and
# texts, failing allocations, hostile command lines and models of the corpus. LLVM itself is not instrumented.
#   tests/sanitize/run.sh [PATTERN]     only the tests whose names match
# Folders: build-asan and build-tsan, or $SARD_ASAN and $SARD_TSAN where these are built already.
set -uo pipefail
export SARD_CACHE=off # neither use nor fill the user's
cd "$(dirname "$0")/../.." || exit 1
. tests/deps.sh
here=tests/sanitize
pattern=${1:-.}
corpus=${SARD_CORPUS:-../shared/corpus}
[ -d "$corpus" ] || corpus=models/corpus
corpus=$(realpath "$corpus")
export SARD_CORPUS=$corpus
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=0:abort_on_error=0:quarantine_size_mb=32
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$PWD/$here/lsan.supp:print_suppressions=0
export TSAN_OPTIONS=halt_on_error=1
export SARD_TEST_SHORT=1
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
export SARD_TEST_KERNELS=$results/kernels # of instrumented programs alone
jobs_max=$(nproc)

# job NAME COMMAND...: runs beside the others; the result is one line, with the end of the output where it fails
job() {
  local name=$1; shift
  [[ $name =~ $pattern ]] || return 0
  while [ "$(jobs -rp | wc -l)" -ge "$jobs_max" ]; do wait -n; done
  (
    start=$SECONDS file=$results/${name//\//_}
    if timeout 400 "$@" >"$file.log" 2>&1; then echo "ok $name ($((SECONDS - start)) s)" >"$file.result"
    else echo "FAIL $name: exit $?: $(grep -v '^ok ' "$file.log" | tail -25 | cut -c1-300 | tr '\n' '|')" >"$file.result"; fi
    cat "$file.result"
  ) &
}

# build DIR SANITIZERS TARGETS...
build() {
  local dir=$1 kind=$2 linker=''; shift 2
  if command -v ld.gold >/dev/null; then linker=-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=gold; fi # in three quarters of the time
  cmake -G Ninja -S . -B "$dir" -DSARD_SANITIZE="$kind" -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="-O1 -g1" $linker >"$results/build.log" 2>&1 &&
    ninja -C "$dir" "$@" >>"$results/build.log" 2>&1 && return 0
  echo "FAIL build $dir: $(tail -15 "$results/build.log")"
  echo "0 passed, 1 failed"
  exit 1
}

asan=${SARD_ASAN:-build-asan} tsan=${SARD_TSAN:-build-tsan}
[ -n "${SARD_ASAN:-}" ] || build build-asan address,undefined
[ -n "${SARD_TSAN:-}" ] || build build-tsan thread sard_rt

# ---- unit tests ----
for t in "$asan"/tests/test_*; do
  case $t in *_fuzz | *_bench | *_cases | *operators | *random_graphs) ;; *) job "asan/unit/$(basename "$t")" "$t" ;; esac
done

# ---- damaged models, artifacts, texts; failing allocations ----
small=("$corpus"/digits_mlp/model.onnx "$corpus"/gru_tagger_tiny/model.onnx "$corpus"/lstm_lm_tiny/model.onnx)
fuzz=$asan/tests/test
job asan/import_whole "${fuzz}_import_fuzz" whole "$corpus"/*/model.onnx
for m in "${small[@]}"; do job "asan/import_prefix/$(basename "$(dirname "$m")")" "${fuzz}_import_fuzz" prefix 97 "$m"; done
job asan/import_flip "${fuzz}_import_fuzz" flip 2000 1 "${small[@]}"
job asan/artifact env SARD_NVRTC="$asan/tests/libnvrtc_fake.so" "${fuzz}_artifact_fuzz" 1400 1 "${small[0]}" "${small[1]}"
job asan/graph_text "${fuzz}_text_fuzz" graph 80 1 tests/golden/*.test
job asan/kernel_text "${fuzz}_text_fuzz" kernel 100 1 tests/golden/kernel*.test tests/golden/lower*.test
sard_image_deps
job asan/image "${fuzz}_image_fuzz" 1000 1 $(ls tests/unit/images/* | grep -v "ppm$")
job asan/oom_import "${fuzz}_oom_fuzz" import "${small[1]}" 0
job asan/oom_compile "${fuzz}_oom_fuzz" compile "${small[0]}" 5
job asan/oom_run "${fuzz}_oom_fuzz" run "${small[1]}" 0

job asan/op_fuzz env ASAN_OPTIONS=$ASAN_OPTIONS:max_allocation_size_mb=64 "${fuzz}_op_fuzz" 5
job asan/operators "$asan/tests/test_operators" 1 100001
job asan/random_graphs "$asan/tests/test_random_graphs" 30 100001

# ---- models ----
for m in digits_mlp gru_tagger_tiny bert_base_tiny mobilenet_v2_tiny resnet50_tiny whisper_decoder_tiny; do
  for level in 0 3; do
    job "asan/run/$m-O$level" "$asan/sard" run "$corpus/$m/model.onnx" -O$level --threads 2 --inputs "$corpus/$m/test_data_set_0" \
      --expect "$corpus/$m/test_data_set_0" --rtol 1e-2 --atol 1e-3
  done
done

i=0
while read -r model flags; do
  dir=$corpus/$model
  i=$((i + 1))
  job "asan/quantize/$model-$i" "$asan/sard" quantize "$dir/model.onnx" -o "$results/quantized$i.onnx" --data "$dir/accuracy.npz" --limit 128 \
    --samples 32 --must-be-faster no $flags
done <<END
digits_mlp --mode static --equalize --smooth 0.5 --correct-biases --metric top1 --sensitivity --html $results/quantize.html
mnist_lenet --mode static --format qoperator --method entropy
digits_mlp --weights i4 --awq --rounding adaptive
mnist_lenet --mode dynamic
END

# ---- the device layer, on the driver of tests/cuda/null ----
null=$(realpath "$asan/tests")
on_null() { env SARD_CUDA="$null/libcuda_null.so" SARD_NVRTC="$null/libnvrtc_fake.so" "$@"; }
export -f on_null
export null
sard_install g++ || exit 1
on_null "$asan/sard" compile "${small[0]}" -o "$results/cuda.sard" --device cuda:sm_90 -q
job asan/device_rules "$asan/tests/null_rules" "$null/libcuda_null.so"
job asan/device_failures bash -c "on_null '$asan/tests/device_failures' '${small[0]}'"
job asan/device_cases bash -c "on_null '$asan/tests/device_cases' '$corpus' digits_mlp gru_tagger_tiny flow_handmade_tiny"
job asan/device_threads bash -c "on_null '$asan/tests/device_threads' '$results/cuda.sard'"

# ---- hostile command lines ----
job hostile python3 $here/hostile.py "$asan/sard" "$asan/sard-rt"

# ---- threads ----
under_tsan() { # OUTPUT SOURCE ARGUMENTS...: builds a program with the runtime alone and runs it
  local out=$tsan/$1 source=$2; shift 2
  "${CC:-cc}" -std=gnu17 -D_GNU_SOURCE -fsanitize=thread -g1 -O1 -I. -Iruntime/include "$source" "$tsan/libsard_rt.a" -lpthread -lm -o "$out" && "$out" "$@"
}
export -f under_tsan
export tsan
job tsan/device_threads bash -c "on_null bash -c 'under_tsan device_threads tests/cuda/null/device_threads.c $results/cuda.sard'"
for t in runtime_pool runtime_session; do job "tsan/$t" bash -c "under_tsan $t tests/unit/$t.c"; done
job tsan/threads bash -c "'$asan/sard' compile '${small[0]}' -o '$results/model.sard' -q && under_tsan threads docs/examples/threads.c '$results/model.sard'"
job tsan/devices bash -c "'$asan/sard' compile '$corpus/mnist_resnet8/model.onnx' -o '$results/whole.sard' -q &&
  '$asan/sard' compile '$corpus/mnist_resnet8/model.onnx' --devices cpu:0,cpu:1,cpu:2 --split layer -o '$results/parts.sard' -q &&
  '$asan/sard' compile '$corpus/mnist_resnet8/model.onnx' --devices cpu:0,cpu:1,cpu:2 --split tensor -o '$results/tensors.sard' -q &&
  under_tsan devices_cases tests/sanitize/devices_cases.c '$results/parts.sard' && '$tsan/devices_cases' '$results/whole.sard' cpu:0,cpu:1,cpu:2 batch &&
  '$tsan/devices_cases' '$results/tensors.sard'"
wait
[ ! -e "$results/hostile.log" ] || grep -E '^(ok|FAIL) hostile/' "$results/hostile.log" >"$results/hostile_cases.result"
passed=$(cat "$results"/*.result | grep -c '^ok ') failed=$(cat "$results"/*.result | grep -c '^FAIL ')
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
