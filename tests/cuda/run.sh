#!/usr/bin/env bash
# CUDA without a GPU: the kernels of ONNX's backend cases, printed as CUDA C, compiled as C++ and run in a model of CUDA's
# execution (model.c), in several orders of threads and blocks, beside the interpreter. So are small models of the corpus. The model
# itself has to find faults.
# Then the same kernels, and those of the corpus, by NVRTC.
#   tests/cuda/run.sh [--all-archs] [PREFIX...]   cases whose names begin so; all of nodes when none is named
# NVRTC compiles 40 kernels at once, each program for one of sm_75, 80, 90 and the newest, and of models and cases those that have a
# line which no other has, numbers aside; with --all-archs all of them for all.
cd "$(dirname "$0")/../.." || exit 1
export SARD_CACHE=off # neither use nor fill the user's
. tests/deps.sh
. tests/onnx/cases.sh
sard_install g++ || { echo "0 passed, 1 failed"; exit 1; }
work=build/cuda-kernels
turns=-r few=-s
[ "${1:-}" != --all-archs ] || { turns= few= && shift; }
mkdir -p $work

of_rows=(test_f16_130_72_136 test_f16_gemm_ test_bf16_gemm_1 test_f16_conv_8_ test_f32_gemm_ test_u8s8_130) # products by each row of the table of tiles
of_pruned=(test_pruned_f16_40 test_pruned_bf16_gemm test_pruned_u8s8_40 test_pruned_f16_conv_48 test_pruned_qdq_conv_16)

passed=0 failed=0
# counted COMMAND...: shows its failures, adds the counts of its last line "N passed, M failed"
counted() {
  local log=$work/log.txt p='' f=''
  "$@" >$log 2>&1
  grep '^FAIL' $log
  read -r p f <<<"$(tail -1 $log | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')"
  [ -n "$f" ] || { echo "FAIL $* (no result)"; tail -5 $log; }
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
}
counted build/tests/test_kernel_cases -w $work -t
counted build/tests/test_kernel_cases -w $work -q -j "$(nproc)" $cases "${@:-test_}"
grep ' kernels, ' $work/log.txt
if [ $# -eq 0 ]; then # element types that ONNX's cases have little of
  rm -rf $work/types && mkdir $work/types
  for script in packed complex; do $venv/bin/python tests/onnx/${script}_cases.py --save=$work/types >>$work/types.txt 2>&1 || failed=1; done
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" $work/types test_
  grep ' kernels, ' $work/log.txt
  rm -rf $work/forms && mkdir $work/forms # forms that need larger tensors
  $venv/bin/python tests/cuda/form_cases.py $work/forms >>$work/types.txt 2>&1 || failed=1
  forms=(-f model.onnx:3 -f model_symbolic.onnx:3)
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" "${forms[@]}" $work/forms test_
  grep ' kernels, ' $work/log.txt
  rm -rf $work/products && mkdir $work/products
  $venv/bin/python tests/cuda/product_cases.py $work/products >>$work/types.txt 2>&1 || failed=1
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" "${forms[@]}" $work/products test_
  grep ' kernels, ' $work/log.txt
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -p -f model.onnx:3 $work/products test_f32_gemm test_f32_conv_8 test_f32_130
  rm -rf $work/pruned && mkdir $work/pruned # weights without their zeros; -u: as GPUs that put them back
  $venv/bin/python tests/cuda/product_cases.py $work/pruned pruned >>$work/types.txt 2>&1 || failed=1
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -f model.onnx:3 $work/pruned test_
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -f model_symbolic.onnx:3 $work/pruned test_pruned_f16_conv test_pruned_bf16_batch
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -u -f model.onnx:3 $work/pruned "${of_pruned[@]}"
  for row in 1 3 9; do counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -k $row -f model.onnx:3 $work/pruned "${of_pruned[@]:0:3}"; done
  for row in 1 2 3 4 5 6 8 9; do # of the table of tiles
    counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -k $row -f model.onnx:3 $work/products "${of_rows[@]}"
  done
  for row in 10 11 12 13; do # those by four warps, for sm_90a alone
    counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -o -k $row -f model.onnx:3 $work/products "${of_rows[@]:0:4}" test_u8s8_130_144_136_w
  done
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -o -k 11 -f model.onnx:3 $work/products test_qdq
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -o -p -k 11 -f model.onnx:3 $work/products test_f32_gemm test_f32_conv_8
fi
corpus=${SARD_CORPUS:-../shared/corpus}
[ -d "$corpus" ] || corpus=models/corpus
if [ $# -eq 0 ]; then # whole models: their graphs as the passes make them for GPUs
  counted build/tests/test_kernel_cases -w $work -j "$(nproc)" -f model.onnx:3 "$corpus" mnist_ mtcnn_rnet squeezenet1_1_tiny \
    mobilenet_v2_tiny unet_tiny resnet50_tiny shufflenet_v2_tiny efficientnet_b0_tiny densenet121_tiny \
    vit_b_16_tiny bert_base_tiny gpt2_kv_tiny convnext_tiny_tiny swin_t_tiny llama_kv_tiny whisper_encoder_tiny
  grep ' kernels, ' $work/log.txt
fi

# NVRTC: of a toolkit, else of the Python package
nvrtc() {
  local found venv=build/nvrtc-venv
  [ -z "${SARD_NVRTC:-}" ] || return 0
  for found in /usr/local/cuda/lib64/libnvrtc.so.1[23]; do [ -e "$found" ] && return 0; done
  if [ ! -d $venv ]; then
    { python3 -m venv $venv || { sard_install python3-venv && python3 -m venv $venv; }; } >build/nvrtc-venv.log 2>&1 || return 1
    $venv/bin/pip install -q nvidia-cuda-nvrtc >>build/nvrtc-venv.log 2>&1 || return 1
  fi
  found=$(find $venv -name 'libnvrtc.so.1[23]' | tail -1)
  [ -n "$found" ] && export SARD_NVRTC=$PWD/$found
}
nvrtc || echo "no NVRTC here, and its Python package cannot be installed: nothing is compiled for GPUs"
models=()
[ $# -gt 0 ] || for m in "$corpus"/*/model.onnx; do [ -e "$m" ] && models+=(-m "$m"); done
if [ $# -eq 0 ]; then
  counted build/tests/test_kernel_cases -n $turns "${forms[@]}" -j "$(nproc)" $work/products test_
  counted build/tests/test_kernel_cases -n $turns $few -f model.onnx:3 -j "$(nproc)" $work/pruned test_
  for row in 1 2 3 4; do counted build/tests/test_kernel_cases -n $turns -k $row -f model.onnx:3 -j "$(nproc)" $work/products "${of_rows[@]}" test_qdq_conv_64; done
  for row in 10 11 12 13; do counted build/tests/test_kernel_cases -n -o -k $row -f model.onnx:3 -j "$(nproc)" $work/products "${of_rows[@]:0:4}" test_u8s8_130; done
  counted build/tests/test_kernel_cases -n -o -p -k 11 -f model.onnx:3 -j "$(nproc)" $work/products test_f32_gemm test_f32_conv_8
fi
counted build/tests/test_kernel_cases -n $turns $few -f model.onnx:3 -j "$(nproc)" "${models[@]}" $cases "${@:-test_}"
grep -E '^NVRTC|^no NVRTC' $work/log.txt
[ $# -gt 0 ] || counted build/tests/test_kernel_cases -n $turns "${forms[@]}" -j "$(nproc)" $work/forms test_
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
