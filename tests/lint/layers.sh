#!/usr/bin/env bash
# Dependencies go one way: runtime <- ir <- {passes, codegen} <- frontend. The build enforces it by include paths; this
# checks the sources too, and that only codegen knows LLVM, only frontend/onnx protobuf.
cd "$(dirname "$0")/../.."
bad=0
forbid() { # folder, pattern, why
  if grep -rnE "$2" "$1" --include=*.c --include=*.h --include=*.def; then echo "^ $3"; bad=1; fi
}
forbid runtime '#include "(ir|passes|codegen|frontend)/' "runtime includes nothing above it"
forbid ir '#include "(passes|codegen|frontend)/' "ir includes runtime only"
forbid passes '#include "(codegen|frontend)/' "passes include ir and runtime only"
forbid codegen '#include "(passes|frontend)/' "codegen includes ir and runtime only"
for d in runtime ir passes frontend; do forbid $d 'llvm-c/' "LLVM belongs to codegen"; done
for d in runtime ir passes codegen; do forbid $d 'protobuf-c|pb-c\.h' "protobuf belongs to frontend/onnx"; done
for d in runtime ir passes codegen frontend/cli frontend/driver frontend/metric frontend/onnx; do forbid $d '[<"]zlib\.h' "zlib belongs to frontend/data"; done
forbid frontend/data '#include "frontend/(cli|driver|metric|onnx)/' "data know no models"
forbid frontend/metric '#include "frontend/(cli|driver|onnx)/' "metrics know data only"
for d in runtime ir passes codegen; do forbid $d '\b(abort|exit) *\(' "a library does not end the process"; done
for f in $(git ls-files | cut -d/ -f1 | sort -u); do
  case $f in CMakeLists.txt | README.md | LICENSE | frontend | ir | passes | codegen | runtime | tests | models | docs | .*) ;; *) echo "unexpected at the top: $f"; bad=1 ;; esac
done
exit $bad
