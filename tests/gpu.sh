#!/usr/bin/env bash
# Tests and benchmarks on a real GPU, which need neither a compiler nor CUDA's toolkit there.
#   tests/gpu.sh --pack DIR [PART...]   where there is no GPU: compiles everything into DIR (at most 60 MiB)
#   DIR/gpu.sh [PART...]                where there is one: runs it; the last line is "N passed, N failed"
# Parts: cases (ONNX's backend cases), forms (cases for the forms of kernels, whose outputs are those of the processor where they are
# packed; only where it is named, as it fills a folder of its own), library (products, all of them by cuBLASLt; likewise), corpus (the models of the corpus), bench
# (docs/performance-gpu.md, single operators of tests/gpu/rows.py among it).
# bench takes models from the folder SARD_BENCH_MODELS: NAME_TYPE.onnx, NAME one of resnet50, vit_b_16, bert_base, gpt2, gpt2kv, TYPE f32,
# f16, bf16 (tests/gpu/half.py makes the latter of the first) or i8 (QDQ, without a peer). SARD_BENCH_ARCHS: of their code, sm_90 when not set.
# SARD_GPU_ARCHS: architectures of the other code, sm_80,sm_90 when not set; PTX of the first serves others.
set -uo pipefail
from=$PWD
cd "$(dirname "$0")" || exit 1
here=$PWD
MOST=60 # MiB
LARGEST=1500000 # bytes of a model of the corpus

# ---- packing ----

# One case: FROM is a folder with model.onnx and test_data_set_N, TO becomes one with model.sard.
pack_case() {
  local from=$1 to=$2 line flags=
  mkdir -p "$to"
  case $(basename "$from") in test_pruned_*) flags="--sparsity 2:4" ;; esac
  # shellcheck disable=SC2086
  if ! "$root/build/sard" compile "$from/model.onnx" -o "$to/model.sard" --device "cuda:$archs" $flags -q 2>"$to/why.txt"; then
    echo "not compiled: $(basename "$from"): $(head -1 "$to/why.txt")"
    rm -rf "$to"
    return
  fi
  rm "$to/why.txt"
  cp -r "$from"/test_data_set_* "$to/"
  if [ -e "$from/meta.json" ]; then
    python3 -c 'import json, sys; t = json.load(open(sys.argv[1]))["tolerance"]; print(t["rtol"], t["atol"])' "$from/meta.json" >"$to/tolerance"
  fi
  if [ -e "$from/tolerance" ]; then cp "$from/tolerance" "$to/"; elif [ -e "$from/case.txt" ]; then read -r line <"$from/case.txt" && echo "$line" | cut -d' ' -f1,2 >"$to/tolerance"; fi
}

# pack_list PART < lines "FROM NAME"
pack_list() {
  local part=$1
  rm -rf "$work/$part" && mkdir -p "$work/$part"
  export -f pack_case
  export root archs
  xargs -P "$(nproc)" -L 1 bash -c 'pack_case "$1" "'"$work/$part"'/$2"' _
  tar -C "$work" -cJf "$to/$part.tar.xz" "$part"
}

pack_cases() {
  (cd "$root" && . tests/deps.sh && . tests/onnx/cases.sh) || return 1
  for c in "$root"/build/onnx-cases/*/; do echo "$c $(basename "$c")"; done | pack_list cases
}

# Their outputs by the code for processors, and what the types of their floats round.
answer_form() {
  local case=$1
  "$root/build/sard" run "$case/model.onnx" --inputs "$case/test_data_set_0" --outputs "$case/test_data_set_0" -q || { rm -rf "$case"; return; }
  case $case in *bf16*) echo 0.04 0.04 ;; *f16*) echo 0.01 0.01 ;; *) echo 1e-4 1e-4 ;; esac >"$case/tolerance"
}

# make_cases FOLDER "SCRIPT [ARGUMENT]"...
make_cases() {
  local cases=$1 script argument what
  shift
  (cd "$root" && . tests/deps.sh && . tests/onnx/cases.sh) || return 1
  rm -rf "$cases" && mkdir -p "$cases"
  for what; do
    read -r script argument <<<"$what"
    "$root/build/onnx-venv/bin/python" "$root/tests/cuda/$script.py" "$cases" $argument || return 1
  done
}

# pack_answered PART FOLDER
pack_answered() {
  export -f answer_form
  export root
  ls -d "$2"/* | xargs -P "$(nproc)" -I{} bash -c 'answer_form "$1"' _ {}
  for c in "$2"/*/; do echo "$c $(basename "$c")"; done | pack_list "$1"
}

pack_forms() {
  make_cases "$work/forms.cases" form_cases product_cases "product_cases large" "product_cases pruned" && pack_answered forms "$work/forms.cases"
}

pack_library() {
  local cases=$work/library.cases
  make_cases "$cases" product_cases "product_cases large" "product_cases library" || return 1
  find "$cases" -mindepth 1 -maxdepth 1 ! -name '*f16*' ! -name test_large -exec rm -r {} +
  pack_answered library "$cases"
}

pack_corpus() {
  local corpus=${SARD_CORPUS:-$root/../shared/corpus}
  [ -d "$corpus" ] || corpus=$root/models/corpus
  local left=0 m list=()
  for m in "$corpus"/*/; do
    [ -d "$m/test_data_set_0" ] && [ -e "$m/model.onnx" ] || continue
    if [ "$(stat -c %s "$m/model.onnx")" -gt $LARGEST ]; then left=$((left + 1)); else list+=("$m $(basename "$m")"); fi
  done
  [ $left -eq 0 ] || echo "$left models of more than $LARGEST bytes are left out"
  printf '%s\n' "${list[@]}" | pack_list corpus
}

# Their weights stay here but for a sample of each.
pack_bench() {
  local from=${SARD_BENCH_MODELS:?a folder of NAME_TYPE.onnx} m name flags
  rm -rf "$work/bench" "$work/rows" && mkdir -p "$work/bench"
  (cd "$root" && . tests/deps.sh && . tests/onnx/cases.sh) && "$root/build/onnx-venv/bin/python" "$root/tests/gpu/rows.py" "$work/rows"
  for m in "$from"/*_*.onnx "$work"/rows/*.onnx; do
    name=$(basename "$m" .onnx)
    case $name in
      bert_base_* | gpt2_*) flags="--dim seq=128" ;;
      gpt2kv_*) flags="--dim seq=1 --dim past=512" ;;
      *) flags= ;;
    esac
    for precision in f32 tf32; do
      case $name:$precision in *_f32:tf32) flags="$flags --precision tf32" name=${name%_f32}_tf32 ;; *:tf32) continue ;; esac
      # shellcheck disable=SC2086
      "$root/build/sard" compile "$m" -o "$work/bench/$name.sard" --device "cuda:${SARD_BENCH_ARCHS:-sm_90}" $flags -q &&
        "$root/build/tests/sample" strip "$work/bench/$name.sard" "$work/bench/$name.s" || echo "not compiled: $name"
      rm -f "$work/bench/$name.sard"
    done
  done
  cp "$root/tests/gpu/report.py" "$root/build/tests/sample" "$to/"
  tar -C "$work" -cJf "$to/bench.tar.xz" bench
}

pack() {
  case $1 in /*) to=$1 ;; *) to=$from/$1 ;; esac
  root=$(cd .. && pwd) work=$root/build/gpu-pack archs=${SARD_GPU_ARCHS:-sm_80,sm_90}
  shift
  [ -x "$root/build/sard" ] || { echo "build first: bash models/try.sh, or cmake"; exit 1; }
  mkdir -p "$to" "$work" || return 1
  cp "$root/tests/gpu.sh" "$root/build/sard-rt" "$to/"
  [ $# -gt 0 ] || set -- cases corpus ${SARD_BENCH_MODELS:+bench}
  for part; do "pack_$part" || return 1; done
  local size
  size=$(du -sm "$to" | cut -f1)
  echo "$to: $size MiB"
  [ "$size" -le $MOST ] || { echo "more than $MOST MiB"; return 1; }
}

# ---- running ----

passed=0 failed=0
run_check() { # PART [FLAG...]
  local part=$1 log=$here/$1.txt p=0 f=1
  shift
  [ -d "$here/$part" ] || tar -C "$here" -xJf "$here/$part.tar.xz" || return 1
  "$here/sard-rt" check "$here/$part" --device "$device" "$@" >"$log" 2>&1
  read -r p f <<<"$(tail -1 "$log" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')"
  [ -n "${f:-}" ] || { tail -3 "$log"; p=0 f=1; }
  grep '^FAIL' "$log" | sed "s,$here/,," | cut -c1-300
  echo "$part: $p passed, $f failed"
  passed=$((passed + p)) failed=$((failed + f))
}

run_bench() {
  [ -d "$here/bench" ] || tar -C "$here" -xJf "$here/bench.tar.xz" || return 1
  python3 "$here/report.py" "$here" --out "$here/performance-gpu.md"
}

run() {
  device=${SARD_DEVICE:-cuda}
  for part in ${@:-forms library cases corpus bench}; do
    if [ ! -e "$here/$part.tar.xz" ]; then continue; fi
    case $part in bench) run_bench ;; library) run_check library --library always ;; *) run_check "$part" ;; esac
  done
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}

if [ "${1:-}" = --pack ]; then
  shift
  [ $# -gt 0 ] || { echo "usage: tests/gpu.sh --pack DIR [PART...]"; exit 2; }
  pack "$@"
else
  run "$@"
fi
