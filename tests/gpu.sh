#!/usr/bin/env bash
# Tests and benchmarks on a real GPU, which need neither a compiler nor CUDA's toolkit there.
#   tests/gpu.sh --pack DIR [PART...]   where there is no GPU: compiles everything into DIR (at most 60 MiB)
#   DIR/gpu.sh [PART...]                where there is one: runs it; the last line is "N passed, N failed"
# Parts: cases (ONNX's backend cases), corpus (the models of the corpus), bench (docs/performance-gpu.md).
# SARD_GPU_ARCHS: architectures of the code, sm_80,sm_90 when not set; PTX of the first serves others.
set -uo pipefail
from=$PWD
cd "$(dirname "$0")" || exit 1
here=$PWD
MOST=60 # MiB

# ---- packing ----

# One case: FROM is a folder with model.onnx and test_data_set_N, TO becomes one with model.sard.
pack_case() {
  local from=$1 to=$2 line
  mkdir -p "$to"
  if ! "$root/build/sard" compile "$from/model.onnx" -o "$to/model.sard" --device "cuda:$archs" -q 2>"$to/why.txt"; then
    echo "not compiled: $(basename "$from"): $(head -1 "$to/why.txt")"
    rm -rf "$to"
    return
  fi
  rm "$to/why.txt"
  cp -r "$from"/test_data_set_* "$to/"
  if [ -e "$from/case.txt" ]; then read -r line <"$from/case.txt" && echo "$line" | cut -d' ' -f1,2 >"$to/tolerance"; fi
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

pack_corpus() {
  local corpus=${SARD_CORPUS:-$root/../shared/corpus}
  [ -d "$corpus" ] || corpus=$root/models/corpus
  for m in "$corpus"/*/; do [ -d "$m/test_data_set_0" ] && [ -e "$m/model.onnx" ] && echo "$m $(basename "$m")"; done | pack_list corpus
}

pack() {
  case $1 in /*) to=$1 ;; *) to=$from/$1 ;; esac
  root=$(cd .. && pwd) work=$root/build/gpu-pack archs=${SARD_GPU_ARCHS:-sm_80,sm_90}
  shift
  [ -x "$root/build/sard" ] || { echo "build first: bash models/try.sh, or cmake"; exit 1; }
  mkdir -p "$to" "$work" || return 1
  cp "$root/tests/gpu.sh" "$root/build/sard-rt" "$to/"
  for part in "${@:-cases corpus}"; do for p in $part; do "pack_$p" || return 1; done; done
  local size
  size=$(du -sm "$to" | cut -f1)
  echo "$to: $size MiB"
  [ "$size" -le $MOST ] || { echo "more than $MOST MiB"; return 1; }
}

# ---- running ----

passed=0 failed=0
run_check() { # PART
  local log=$here/$1.txt p=0 f=1
  [ -d "$here/$1" ] || tar -C "$here" -xJf "$here/$1.tar.xz" || return 1
  "$here/sard-rt" check "$here/$1" --device "$device" >"$log" 2>&1
  read -r p f <<<"$(tail -1 "$log" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')"
  [ -n "${f:-}" ] || { tail -3 "$log"; p=0 f=1; }
  grep '^FAIL' "$log" | sed "s,$here/,," | cut -c1-300
  echo "$1: $p passed, $f failed"
  passed=$((passed + p)) failed=$((failed + f))
}

run() {
  device=${SARD_DEVICE:-cuda}
  for part in ${@:-cases corpus}; do
    [ -e "$here/$part.tar.xz" ] && run_check "$part"
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
