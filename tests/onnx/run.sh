#!/usr/bin/env bash
# ONNX's own node cases on the interpreter, which runs the same operator bodies as the compiled code. The cases come from
# the Python package onnx, installed into build/onnx-venv. tests/onnx/expected_fail.txt names those that do not pass yet:
# another one that fails, or a listed one that passes, is a failure here.
cd "$(dirname "$0")/../.." || exit 1
venv=build/onnx-venv cases=build/onnx-cases done=build/onnx-cases.done
if [ ! -f $done ]; then
  if ! { python3 -m venv $venv && $venv/bin/pip install -q onnx; } >build/onnx-venv.log 2>&1; then
    . tests/deps.sh
    if ! { sard_install python3-venv && python3 -m venv $venv && $venv/bin/pip install -q onnx; } >build/onnx-venv.log 2>&1; then
      echo "the Python package onnx cannot be installed here: ONNX's node cases are left out"
      echo "0 passed, 0 failed"
      exit 0
    fi
  fi
  rm -rf $cases && mkdir -p $cases
  $venv/bin/python tests/onnx/make_cases.py $cases >build/onnx-cases.log 2>&1 && touch $done
fi
build/tests/test_node_cases -v $cases >build/onnx-results.txt 2>&1
sed 's/:$//; s/:.*//' build/onnx-results.txt | awk '$1=="pass"{print $2}' | sort -u >build/onnx-passed.txt
awk '$1=="FAIL"||$1=="CRASH"||$1=="unsupported"{sub(":$","",$2); print $2}' build/onnx-results.txt | sort -u >build/onnx-failed.txt
grep -v '^#' tests/onnx/expected_fail.txt | sort -u >build/onnx-expected.txt
fresh=$(comm -23 build/onnx-failed.txt build/onnx-expected.txt) repaired=$(comm -12 build/onnx-passed.txt build/onnx-expected.txt)
for n in $fresh; do echo "FAIL onnx/$n: $(grep -m1 " $n" build/onnx-results.txt)"; done
for n in $repaired; do echo "FAIL onnx/$n passes: take it out of tests/onnx/expected_fail.txt"; done
passed=$(wc -l <build/onnx-passed.txt) failed=$(echo $fresh $repaired | wc -w)
# every version of every operator, numbers of old forms, operators of other domains, types below 16 bits
for t in old_forms old_cases ms_cases packed_cases value_cases; do
  $venv/bin/python tests/onnx/$t.py build/sard >build/onnx-$t.txt 2>&1
  grep '^FAIL' build/onnx-$t.txt
  read -r p f <<<"$(tail -1 build/onnx-$t.txt | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')"
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
done
echo "$passed passed, $failed failed"
