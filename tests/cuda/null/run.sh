#!/usr/bin/env bash
# The device layer without a GPU: a CUDA driver that runs kernels on the processor and looks for broken rules (null.h), and
# an NVRTC whose code is the program's text.
#   tests/cuda/null/run.sh         after a build into build/; "N passed, M failed" at the end
#   tests/cuda/null/run.sh --all   all of ONNX's cases and of the corpus on the device; an hour
cd "$(dirname "$0")/../../.." || exit 1
export SARD_CACHE=off # neither use nor fill the user's
root=$PWD
. tests/deps.sh
. tests/onnx/cases.sh
sard_install g++ || { echo "0 passed, 1 failed"; exit 1; }
export SARD_CUDA=$root/build/tests/libcuda_null.so SARD_NVRTC=$root/build/tests/libnvrtc_fake.so
export SARD_NCCL=/nowhere/libnccl.so.2 SARD_CUBLASLT=/nowhere/libcublasLt.so # where they are not asked for
lt=SARD_CUBLASLT=$root/build/tests/libcublaslt_null.so
nccl=SARD_NCCL=$root/build/tests/libnccl_null.so
corpus=${SARD_CORPUS:-../shared/corpus}
[ -d "$corpus" ] || corpus=models/corpus
digits=models/corpus/digits_mlp
work=build/cuda-null
mkdir -p $work
passed=0 failed=0

# counted COMMAND...: shows its failures, adds the counts of its lines "N passed, M failed"
counted() {
  local log=$work/log.txt p='' f=''
  "$@" >$log 2>$log.err
  grep '^FAIL' $log
  read -r p f <<<"$(awk '/^[0-9]+ passed, [0-9]+ failed$/ {p += $1; f += $3; n++} END {if (n) print p, f}' $log)"
  [ -n "$f" ] || { echo "FAIL $* (no result)"; tail -5 $log $log.err; }
  [ "${f:-1}" = 0 ] || head -5 $log.err
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
}
# in_all COMMAND... < names: runs `COMMAND NAME` for each, as many at once as there are processors
in_all() { xargs -P "$(nproc)" -I{} "$@" {}; }

# ---- the driver finds what it has to find ----
counted build/tests/null_rules "$SARD_CUDA"

# ---- models beside the processor: plain ones, control flow, sizes that data decides, caches, quantized, f16 ----
models=(digits_mlp gru_tagger_tiny flow_handmade_tiny loop_decode_tiny bert_base_tiny gpt2_kv_tiny dlrm_tiny
  bert_base_fp16_tiny fasterrcnn_tiny)
if [ "${1:-}" = --all ]; then models=("$corpus"/*/) && models=("${models[@]%/}") && models=("${models[@]##*/}"); fi
there=()
for m in "${models[@]}"; do [ -e "$corpus/$m/model.onnx" ] && there+=("$m"); done
counted in_all build/tests/device_cases "$corpus" < <(printf '%s\n' "${there[@]}")
for mode in eager mixed; do # that run for longest belong to neither
  counted in_all env SARD_NULL_MODE=$mode build/tests/device_cases "$corpus" < <(printf '%s\n' "${there[@]}" | grep -vE "bert|gpt2|rcnn" | head -4)
done

# ---- products by the stand-in of cuBLASLt: always, and where they are measured ----
rm -rf $work/products && mkdir $work/products
$venv/bin/python tests/cuda/product_cases.py $work/products && $venv/bin/python tests/cuda/product_cases.py $work/products library
by_library=(f16_130_72_136_weights f16_gemm_00 f16_gemm_01 f16_gemm_10 f16_gemm_11 f16_batch f16_heads f16_heads_bias f16_rows f16_wide bf16_wide bf16_gemm_11 bf16_17_40_24 f16_conv_16_8_1_1_0_1 library_f16)
counted in_all env $lt SARD_TEST_LIBRARY=always build/tests/device_cases $work/products < <(printf 'test_%s\n' "${by_library[@]}")
counted env $lt SARD_TEST_LIBRARY=auto build/tests/device_cases $work/products test_library_bf16

# ---- weights without their zeros, beside the processor, which has them ----
$venv/bin/python tests/cuda/product_cases.py $work/products pruned
without_zeros=(f16_17_48_24 f16_turned f16_conv_48_40_3 bf16_gemm qdq_conv_64_64_3_2_131 qdq_gemm_1_131)
counted in_all env SARD_TEST_SPARSITY=2:4 build/tests/device_cases $work/products < <(printf 'test_pruned_%s\n' "${without_zeros[@]}")

# ---- ONNX's cases: sequences, loops, branches, shapes that the run decides ----
cases_of=(test_sequence test_loop test_if test_scan test_optional test_nonzero test_unique test_gather test_scatter test_softmax test_topk test_cumsum)
[ "${1:-}" != --all ] || cases_of=(test_)
onnx_cases() {
  build/tests/test_backend_cases -j "$(nproc)" -o $work/onnx.tsv -f cuda $cases "${cases_of[@]}" || return
  awk -F'\t' '$3 != "pass" {print "FAIL " $1 ": " $3 ", " $5; f++} $3 == "pass" {p++} END {printf "%d passed, %d failed\n", p, f}' $work/onnx.tsv
}
counted onnx_cases

# ---- threads and two devices ----
build/sard compile $digits/model.onnx -o $work/threads.sard --device cuda:sm_90 -q
for mode in deferred mixed; do counted env SARD_NULL_MODE=$mode build/tests/device_threads $work/threads.sard; done

# ---- one model over several devices ----
splits=(digits_mlp flow_handmade_tiny)
if [ "${1:-}" = --all ]; then splits=("${there[@]}"); fi
there=()
for m in "${splits[@]}"; do [ -e "$corpus/$m/model.onnx" ] && there+=("$m"); done
counted in_all build/tests/device_splits "$corpus" < <(printf '%s\n' "${there[@]}")
counted env SARD_NULL_MODE=mixed build/tests/device_splits "$corpus" digits_mlp

# ---- failures ----
failing=("$digits/model.onnx")
[ -e "$corpus/flow_handmade_tiny/model.onnx" ] && failing+=("$corpus/flow_handmade_tiny/model.onnx")
counted in_all build/tests/device_failures < <(printf '%s\n' "${failing[@]}")
counted build/tests/device_failures tests/cuda/null/growing.sard-ir Async # sizes that the run decides, and that grow
# of two devices one: memory, launches, copies from device to device, waits, the device itself
pairs=("batch cuMemAlloc" "batch cuCtxSet" "layer cuMemcpy" "tensor cuStreamWait") by_nccl=(cuStreamQuery cuCtxSet)
if [ "${1:-}" = --all ]; then pairs=("batch cu" "layer cu" "tensor cu") by_nccl=(cu); fi
for pair in "${pairs[@]}"; do counted build/tests/device_failures $digits/model.onnx ${pair#* } cuda:0,cuda:1 ${pair% *}; done
for what in "${by_nccl[@]}"; do counted env $nccl build/tests/device_failures $digits/model.onnx $what cuda:0,cuda:1 tensor; done

# ---- the command line ----
# code NAME N REGEX [NAME=VALUE...] COMMAND...: ends with N, and what it writes matches
code() {
  local name=$1 want=$2 says=$3 got; shift 3
  env "$@" >$work/out.txt 2>&1; got=$?
  if [ $got = "$want" ] && grep -qE -- "$says" $work/out.txt; then passed=$((passed + 1))
  else failed=$((failed + 1)); echo "FAIL $name: exit $got instead of $want, or no '$says'"; head -3 $work/out.txt; fi
}
sard=build/sard rt=build/sard-rt
run=("$sard" run $digits/model.onnx --inputs $digits/test_data_set_0 --expect $digits/test_data_set_0)
note='running on the processor instead: .*'
code run 0 PASSED "${run[@]}" --device cuda
# a driver that has the kernels' facts under another name compiles the same texts anew
sed 's/facts_%s/about_%s/' tests/cuda/null/code.c >$work/code.c
other=(tests/cuda/null/{driver,memory,work,graph,peer}.c tests/cuda/model.c $work/code.c)
cc -std=gnu17 -D_GNU_SOURCE -DSARD_SOURCE="\"$root\"" -DSARD_NULL_FOLDER="\"$root/build/cuda-null\"" -I. -shared -fPIC "${other[@]}" -o $work/libcuda_other.so -ldl -lpthread -lm
code other-driver 0 PASSED SARD_CUDA=$root/$work/libcuda_other.so "${run[@]}" --device cuda
code run-number 0 PASSED SARD_NULL_DEVICES=2 "${run[@]}" --device cuda:1
code run-no-such-device 5 'no device cuda:1: the driver finds 1' "${run[@]}" --device cuda:1
code run-unknown-device 2 "no device 'gpu'" "${run[@]}" --device gpu
code run-unknown-fallback 2 "no fallback 'gpu'" "${run[@]}" --device cuda --fallback gpu
code no-driver 5 'no CUDA driver: .*nowhere' SARD_CUDA=/nowhere/libcuda.so "${run[@]}" --device cuda
code no-driver-fallback 0 "${note}no CUDA driver" SARD_CUDA=/nowhere/libcuda.so "${run[@]}" --device cuda --fallback=cpu
code not-a-driver 5 'cuInit of CUDA' SARD_CUDA="$SARD_NVRTC" "${run[@]}" --device cuda
code no-nvrtc 5 'NVRTC.* was not found .*nowhere' SARD_NVRTC=/nowhere/libnvrtc.so "${run[@]}" --device cuda
code no-nvrtc-fallback 0 "${note}.*NVRTC" SARD_NVRTC=/nowhere/libnvrtc.so "${run[@]}" --device cuda --fallback=cpu
code not-nvrtc 5 'has no nvrtcVersion' SARD_NVRTC="$SARD_CUDA" "${run[@]}" --device cuda
code no-device 5 'finds no device' SARD_NULL_DEVICES=0 "${run[@]}" --device cuda
code no-device-fallback 0 "${note}.*finds no device" SARD_NULL_DEVICES=0 "${run[@]}" --device cuda --fallback=cpu
code old-driver 5 'too old' SARD_NULL_VERSION=11030 "${run[@]}" --device cuda
code out-of-memory 6 'device is out of memory' SARD_NULL_MEMORY=100 "${run[@]}" --device cuda
code launch-failure 5 '719, CUDA_ERROR_LAUNCH_FAILED' SARD_NULL_FAULT=2:719 "${run[@]}" --device cuda
code launch-failure-fallback 5 719 SARD_NULL_FAULT=2:719 "${run[@]}" --device cuda --fallback=cpu
two="--devices cuda:0,cuda:1 --split"
code split-peers 0 'transport  peer-to-peer; from GPU to GPU [1-9]' SARD_NULL_DEVICES=3 "$sard" run $digits/model.onnx --shape x:20x64 --devices cuda:0,cuda:2,cuda:1 --split layer --micro-batches 20
code split-no-peers 0 'transport  pinned memory; from GPU to GPU 0 B' SARD_NULL_DEVICES=2 SARD_NULL_PEER=0 "${run[@]}" $two layer
code split-some-peers 0 'transport  pinned memory;' SARD_NULL_DEVICES=2 "${run[@]}" --devices cuda:0,cpu:0 --split layer
many=("$sard" run $digits/model.onnx --shape x:6x64 --devices cuda:0,cuda:2,cuda:1 --split tensor)
code split-nccl 0 'transport  NCCL 2.28.9; from GPU to GPU [1-9]' SARD_NULL_DEVICES=3 $nccl SARD_NULL_NCCL_COUNTS=$work/counts "${many[@]}"
code split-nccl-called 0 '^ncclAll(Reduce|Gather) [36]' cat $work/counts
code split-nccl-right 0 PASSED SARD_NULL_DEVICES=2 $nccl "${run[@]}" $two tensor
code split-nccl-missing 0 'sums through pinned memory; .*NCCL was not found: /nowhere' SARD_NULL_DEVICES=2 "${run[@]}" $two tensor
code split-nccl-old 0 'NCCL is version 21200, at least 21400' SARD_NULL_DEVICES=2 $nccl SARD_NULL_NCCL_VERSION=21200 "${run[@]}" $two tensor
code split-nccl-init 5 'device cuda:1: ncclCommInitRankConfig: .*\(2\)' SARD_NULL_DEVICES=2 $nccl SARD_NULL_NCCL_FAIL=ncclCommInitRankConfig:2:2 "${run[@]}" $two tensor
for k in 1 2; do
  code split-nccl-fails-$k 5 'device cuda:[01]: .*ncclAll[A-Za-z]+: .*\(1\)' SARD_NULL_DEVICES=2 $nccl SARD_NULL_NCCL_FAIL=ncclAllReduce:$k:1,ncclAllGather:$k:1 timeout 10 "${run[@]}" $two tensor
  code split-nccl-lost-$k 5 'device cuda:[01]: .*719' SARD_NULL_DEVICES=2 $nccl SARD_NULL_FAULT=$k:719 timeout 10 "${run[@]}" $two tensor
done
code split-tensor-peers 0 'transport  peer-to-peer' SARD_NULL_DEVICES=2 "${run[@]}" $two tensor
code split 0 PASSED SARD_NULL_DEVICES=2 "${run[@]}" $two layer
code split-no-such-device 5 'no device cuda:1: the driver finds 1' "${run[@]}" $two layer
code split-no-driver 5 'no CUDA driver: .*nowhere' SARD_CUDA=/nowhere/libcuda.so "${run[@]}" $two batch
code split-twice 2 'cuda:1 is named twice' "${run[@]}" --devices cuda:1,cuda:1 --split batch
code split-number 2 "'cuda' is no device; they are written" "${run[@]}" --devices cuda,cuda:1 --split batch
code split-beyond 5 'no device cuda:64, they are cuda:0 to cuda:63' "${run[@]}" --devices cuda:0,cuda:64 --split batch
code split-and-device 2 'either device or devices' "${run[@]}" $two batch --device cuda
code split-fallback 2 'fallback: it is of one device' "${run[@]}" $two batch --fallback cpu
code split-memory 6 'device cuda:0: .*device is out of memory' SARD_NULL_DEVICES=2 SARD_NULL_MEMORY=100 "${run[@]}" $two batch
code split-bench 0 '^cuda:1 .* busy' SARD_NULL_DEVICES=2 "$sard" bench $digits/model.onnx $two batch --shape x:4x64 --iterations 3 --warmup 1
counts=SARD_NULL_COUNTS=$work/counts
code split-busy 0 '^cuda:1 +busy [0-9.]+ ms' SARD_NULL_DEVICES=2 $counts "$sard" bench $digits/model.onnx $two layer --shape x:8x64 --iterations 3 --warmup 1 --trace $work/trace.json
code split-busy-by-events 0 '^cuEventElapsedTime [1-9]' cat $work/counts
code split-trace 0 '^\[1, 2\]$' python3 -c "
import json
e = json.load(open('$work/trace.json'))['traceEvents']
rows = {(x['pid'], x['tid']) for x in e if x['name'] == 'thread_name' and x['args']['name'] == 'launches'}
print(sorted({x['pid'] for x in e if x['ph'] == 'X' and (x['pid'], x['tid']) in rows and x['dur'] > 0 and x['args']['op']}))"
# a GPU has more of a batch and of the nodes than a thread of a processor, where there is something to compute
chain=tests/cuda/null/chain.sard-ir
code split-uneven 0 '^split +batch' SARD_NULL_DEVICES=2 "$sard" run $chain --shape x:9x256 --devices cpu:0,cuda:0,cuda:1 --split batch --json $work/uneven.json
code split-uneven-shares 0 '^True$' python3 -c "
import json
a, b, c = [d['bytes_in'] - 256 * 256 * 4 if d['bytes_in'] else 0 for d in json.load(open('$work/uneven.json'))['devices']]
print(a < c <= b and a + b + c == 9 * 256 * 4)"
code split-uneven-cuts 0 '^part 1 +[12] nodes' "$sard" compile $chain --devices cpu:0,cuda:0 --split layer --costs estimated -o $work/chain.sard
code split-check 0 '1 passed' SARD_NULL_DEVICES=2 "$sard" check $digits $two tensor
code split-compile 0 'cuda +sm_75' SARD_CUDA=/nowhere "$sard" compile $digits/model.onnx -o $work/parts.sard $two layer
parts=("$rt" run $work/parts.sard --inputs $digits/test_data_set_0 --expect $digits/test_data_set_0)
code split-artifact 0 PASSED SARD_NULL_DEVICES=2 SARD_NVRTC=/nowhere "${parts[@]}" --devices cuda:1,cuda:0
code split-artifact-mixed 0 PASSED SARD_NVRTC=/nowhere "${parts[@]}" --devices cpu:1,cuda:0
code split-artifact-on-processors 0 PASSED SARD_CUDA=/nowhere "${parts[@]}"
code split-compile-for 0 'cuda +sm_80 by' SARD_CUDA=/nowhere "$sard" compile $digits/model.onnx -o $work/parts.sard $two layer --device cuda:sm_80
gpt=$corpus/gpt2_kv_tiny
[ ! -e $gpt ] || code split-attention 0 PASSED SARD_NULL_DEVICES=2 "$sard" run $gpt/model.onnx --inputs $gpt/test_data_set_0 --expect $gpt/test_data_set_0 --rtol 1e-2 $two tensor
code split-artifact-too-new 5 'device cuda:0: .*no code for .*sm_75' SARD_NULL_DEVICES=2 SARD_NULL_CC=75 "${parts[@]}" --devices cuda:0,cuda:1
# who multiplies: measured, named, missing, too old, or failing at any call
product=$work/products/test_library_f16
code product-expect 0 . "$sard" run $product/model.onnx --inputs $product/test_data_set_0 --outputs $product/out
multiply=("$sard" run $product/model.onnx --inputs $product/test_data_set_0 --expect $product/out --rtol 2e-2 --atol 2e-2 --device cuda --json $work/product.json)
code library-faster 0 'products   1 of 1 sizes by cuBLASLt$' $lt "${multiply[@]}"
code library-slower 0 'products   0 of 1 sizes by cuBLASLt$' $lt SARD_NULL_CUBLASLT_US=900000 "${multiply[@]}"
code library-report 0 '^auto 130100 kernel True True$' python3 -c "
import json
l = json.load(open('$work/product.json'))['library']
p, = l['products']
print(l['mode'], l['version'], p['by'], 0 < p['kernel_us'] < p['library_us'], (p['m'], p['n'], p['k'], p['batch']) == (256, 256, 128, 1))"
rm -f $work/lt_counts
code library-no 0 PASSED $lt SARD_NULL_CUBLASLT_COUNTS=$work/lt_counts "${multiply[@]}" --library no
code library-not-started 0 none bash -c "test -e $work/lt_counts || echo none"
code library-missing 0 'products   0 of 1 sizes by cuBLASLt; cuBLASLt was not found: .*nowhere' "${multiply[@]}"
code library-missing-always 5 'library=always: cuBLASLt was not found: .*nowhere' "${multiply[@]}" --library always
code library-old 0 'cuBLASLt is version 110501, at least 120000' $lt SARD_NULL_CUBLASLT_VERSION=110501 "${multiply[@]}"
code library-other 0 'cuBLASLt does not tell its version' SARD_CUBLASLT="$SARD_NVRTC" "${multiply[@]}"
code library-unknown 2 "no library 'cublas'" "${multiply[@]}" --library cublas
code library-tf32 0 'products   1 of 1 sizes by cuBLASLt$' $lt "$sard" run $work/products/test_library_f32/model.onnx --inputs $work/products/test_library_f32/test_data_set_0 --device cuda --precision tf32
code library-f32 0 . $lt SARD_NULL_CUBLASLT_COUNTS=$work/lt_counts "$sard" run $work/products/test_library_f32/model.onnx --inputs $work/products/test_library_f32/test_data_set_0 --device cuda --library always
code library-not-for-f32 0 none bash -c "test -e $work/lt_counts || echo none"
code library-profile 0 'sard.Fused +cuBLASLt ' $lt "$sard" bench $product/model.onnx --inputs $product/test_data_set_0 --device cuda --iterations 2 --warmup 2 --profile
code library-memory-limit 0 'products   1 of 1 sizes by cuBLASLt$' $lt "${multiply[@]}" --memory-limit 1M
code library-no-memory 0 'products   0 of 1 sizes by cuBLASLt$' $lt "${multiply[@]}" --memory-limit 400K
for entry in $(sed -nE 's/^SD_LT\([a-z_]+, "(cublasLt[A-Za-z]+)".*/\1/p' runtime/cuda/cublaslt.def); do
  case $entry in
  *LayoutSetAttribute) # of several products
    code "library-$entry" 5 "$entry: internal error \(14\)" $lt SARD_NULL_CUBLASLT_FAIL=$entry:1:14 "$sard" run $work/products/test_f16_batch/model.onnx --device cuda --library always ;;
  *Destroy) code "library-$entry" 0 PASSED $lt SARD_NULL_CUBLASLT_FAIL=$entry:1:14 "${multiply[@]}" ;;
  *)
    code "library-$entry-auto" 0 PASSED $lt SARD_NULL_CUBLASLT_FAIL=$entry:1:14 "${multiply[@]}"
    code "library-$entry-auto-why" 0 "$entry: internal error \(14\)" cat $work/product.json
    code "library-$entry-always" 5 "$entry: internal error \(14\)" $lt SARD_NULL_CUBLASLT_FAIL=$entry:1:14 "${multiply[@]}" --library always ;;
  esac
done
code library-fails-later 5 'cublasLtMatmul: the execution failed \(13\)' $lt SARD_NULL_CUBLASLT_FAIL=cublasLtMatmul:6:13 "$sard" bench $product/model.onnx --inputs $product/test_data_set_0 --device cuda --iterations 3 --warmup 0 --profile
code bench 0 . "$sard" bench $digits/model.onnx --device cuda --duration 1 --warmup 1
# code for GPUs is kept in the compile cache: a second start compiles nothing, another NVRTC or architecture does
kept=("${run[@]}" --device cuda --cache $work/kept -v) broken=SARD_FAKE_NVRTC_FAIL=nvrtcCompileProgram:1:6
rm -rf $work/kept
code cache-stored 0 'cache: stored' "${kept[@]}"
code cache-hit 0 'cache: hit' $broken "${kept[@]}"
code cache-hit-right 0 PASSED $broken "${kept[@]}"
code cache-other-nvrtc 70 "the code of the model's kernels does not compile" $broken SARD_FAKE_NVRTC_VERSION=13.1 "${kept[@]}"
code cache-other-arch 70 'does not compile' $broken SARD_NULL_CC=80 "${kept[@]}"
code cache-processor 0 'cache: stored' "${run[@]}" --cache $work/kept -v
code compile 0 . "$sard" compile $digits/model.onnx -o $work/m.sard --device cuda:sm_75,sm_90
code compile-inspect 0 '^cuda     PTX   sm_75, [0-9.]+ [kM]?B' "$sard" inspect $work/m.sard --json $work/m.json
code compile-inspect-json 0 '^cubin75 PTX75 cubin90 True$' python3 -c "
import json
c = json.load(open('$work/m.json'))['cuda']
print(*[i['kind'] + str(i['arch']) for i in c], all(i['bytes'] > 100 for i in c))"
code compile-plain 0 . "$sard" compile $digits/model.onnx -o $work/plain.sard
artifact=("$rt" run $work/m.sard --inputs $digits/test_data_set_0 --expect $digits/test_data_set_0)
code artifact 0 PASSED SARD_NVRTC=/nowhere "${artifact[@]}" --device cuda
code artifact-on-the-processor 0 PASSED SARD_CUDA=/nowhere "${artifact[@]}"
code artifact-ptx 0 PASSED SARD_NULL_CC=121 "${artifact[@]}" --device cuda
code artifact-too-new 5 'no code for .*sm_70.*a cubin for sm_75' SARD_NULL_CC=70 "${artifact[@]}" --device cuda
code artifact-without-code 5 'no code for' "$rt" run $work/plain.sard --device cuda
code artifact-without-code-fallback 0 "$note" "$rt" run $work/plain.sard --device cuda --fallback=cpu
# launches for sm_90a, and the common ones where its code is not taken
$venv/bin/python tests/cuda/product_cases.py $work/large large
large=$work/large/test_large
code wide-compile 0 . "$sard" compile $large/model.onnx -o $large/m.sard --device cuda:sm_75,sm_90
code wide-processor 0 . "$rt" run $large/m.sard --inputs $large/test_data_set_0 --outputs $large/out
wide=("$rt" run $large/m.sard --inputs $large/test_data_set_0 --expect $large/out --rtol 2e-3 --atol 2e-2 --device cuda)
code wide-sm_90 0 PASSED "${wide[@]}"
code wide-sm_89 0 PASSED SARD_NULL_CC=89 "${wide[@]}"
code wide-ptx 0 PASSED SARD_NULL_CC=121 "${wide[@]}"
code wide-refused 0 PASSED SARD_NULL_FAIL=cuModuleLoadDataEx:1:209 "${wide[@]}"
code wide-jit 0 PASSED "$sard" run $large/model.onnx --inputs $large/test_data_set_0 --expect $large/out --rtol 2e-3 --atol 2e-2 --device cuda
code wide-alone 0 . "$sard" compile $large/model.onnx -o $large/m.sard --device cuda:sm_90
code wide-alone-sm_90 0 PASSED "${wide[@]}"
code wide-alone-ptx 0 PASSED SARD_NULL_CC=121 "${wide[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
