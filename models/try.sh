#!/usr/bin/env bash
# Builds Sard, compiles a trained model (ResNet-8 on MNIST, trained for this project: models/manifest.tsv) and runs it on
# real digits: predictions, accuracy on its test set, latency.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/deps.sh
sard_build_deps
sard_python
echo "building sard (the first time takes about a minute)"
sard_build build
case=models/corpus/mnist_resnet8
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo
echo "== sard compile $case/model.onnx"
build/sard compile $case/model.onnx -o "$scratch/digits.sard"
$python models/digits.py batch $case/accuracy.npz "$scratch/in"
echo
echo "== sard run digits.sard: 1000 test digits in one batch"
build/sard run "$scratch/digits.sard" --inputs "$scratch/in" --outputs "$scratch/out" --quiet
$python models/digits.py show $case/accuracy.npz "$scratch/out"
echo
echo "== sard bench digits.sard: one digit at a time"
build/sard bench "$scratch/digits.sard" --inputs $case/test_data_set_0 --duration 1 --warmup 20
echo
echo "What to try next:"
echo "  build/sard inspect $case/model.onnx --svg model.svg       # a picture of the model"
echo "  build/sard run YOUR.onnx                                  # any ONNX model, on random inputs"
echo "  build/sard bench YOUR.onnx --profile                      # where the time goes"
echo "  build/sard compile YOUR.onnx -o your.sard                 # then build/sard-rt run your.sard, without a compiler"
