# ONNX's backend cases as folders in $cases, made once (sourced by the run.sh of tests/onnx and tests/cuda from the root of
# the checkout, after tests/deps.sh). Ends the script with "0 passed, 0 failed" where the Python package cannot be had.
onnx=1.23.2 # whose cases the lists are about
venv=build/onnx-venv cases=build/onnx-cases done=build/onnx-cases.done
stamp="$onnx $(cksum <tests/onnx/make_cases.py)"

install() { python3 -m venv $venv && $venv/bin/pip install -q "onnx==$onnx"; }
if [ "$(cat $done 2>/dev/null)" != "$stamp" ]; then
  if ! $venv/bin/python -c "import onnx; assert onnx.__version__ == '$onnx'" 2>/dev/null &&
    ! install >build/onnx-venv.log 2>&1 && ! { sard_install python3-venv && install; } >>build/onnx-venv.log 2>&1; then
    echo "the Python package onnx cannot be installed here: ONNX's cases are left out"
    echo "0 passed, 0 failed"
    exit 0
  fi
  rm -rf $cases && mkdir -p $cases
  $venv/bin/python tests/onnx/make_cases.py $cases >build/onnx-cases.log 2>&1 && echo "$stamp" >$done
fi
