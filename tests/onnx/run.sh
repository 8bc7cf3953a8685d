#!/usr/bin/env bash
# ONNX's own backend cases, from the Python package onnx (installed into build/onnx-venv), in all forms of backend_cases.c;
# every version of every operator (old_forms.py), numbers of old forms (old_cases.py), other domains (ms_cases.py,
# search_cases.py).
# tests/onnx/expected/<form>.txt names the cases that do not pass, with the reason; see judge.py. docs/operators.md has to
# say what the tables and the results say; see operators.py.
#   tests/onnx/run.sh [--update] [-f FORM]...   --update: takes cases that pass out of the lists, and writes the page
# build/onnx-results.tsv: case, form, result, seconds of processor time and message of every run.
cd "$(dirname "$0")/../.." || exit 1
export SARD_CACHE=off # neither use nor fill the user's
. tests/deps.sh
update='' forms=()
while [ $# -gt 0 ]; do
  case $1 in
  --update) update=--update ;;
  -f) forms+=(-f "$2"); shift ;;
  *) echo "usage: tests/onnx/run.sh [--update] [-f FORM]..." >&2; exit 2 ;;
  esac
  shift
done
results=build/onnx-results.tsv
. tests/onnx/cases.sh

passed=0 failed=0
# counted COMMAND...: shows its failures, adds the counts of its last line "N passed, M failed"
counted() {
  local log=build/onnx-part.txt p='' f=''
  "$@" >$log 2>&1
  grep '^FAIL' $log
  read -r p f <<<"$(tail -1 $log | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')"
  [ -n "$f" ] || { echo "FAIL $* (no result)"; tail -5 $log; }
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
}
build/tests/test_backend_cases -j "$(nproc)" -o $results "${forms[@]}" $cases || failed=1
counted $venv/bin/python tests/onnx/judge.py $results tests/onnx/expected $update
if [ ${#forms[@]} -eq 0 ]; then
  counted $venv/bin/python tests/onnx/operators.py build/tests/test_op_table $results $cases docs/operators.md $update
  scripts="packed_cases old_forms ms_cases search_cases old_cases complex_cases value_cases graph_cases" # those that take long first
  printf '%s\n' $scripts | xargs -P "$(nproc)" -I{} sh -c "$venv/bin/python tests/onnx/{}.py build/sard >build/onnx-{}.txt 2>&1"
  for script in $scripts; do counted cat build/onnx-$script.txt; done
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
