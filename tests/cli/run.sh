#!/usr/bin/env bash
# Black-box tests of the command line: every verb, wrong use, bad files, full disks, pipes, interrupts, install, examples.
#   tests/cli/run.sh [BUILD_DIR]   prints "ok NAME" or "FAIL NAME" and, last, "N passed, N failed"
set -u
export SARD_CACHE=off # neither use nor fill the user's
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${1:-${SARD_BUILD:-$root/build}}" && pwd)
sard=$build/sard rt=$build/sard-rt
models=$root/models/corpus
digits=$models/digits_mlp bert=$models/bert_base_tiny resnet=$models/resnet50_tiny pitch=$models/basic_pitch_nmp
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
passed=0 failed=0
unset SARD_ISA SARD_VERIFY

ok() { passed=$((passed + 1)); echo "ok $1"; }
fail() { failed=$((failed + 1)); echo "FAIL $1: $2"; sed 's/^/    /' "$T/out" "$T/err" 2>/dev/null | tail -8; }
# code NAME N COMMAND...: the command ends with N; its output is in $T/out and $T/err
code() {
  local name=$1 want=$2 got; shift 2
  timeout 120 "$@" >"$T/out" 2>"$T/err"; got=$?
  if [ "$got" = "$want" ]; then ok "$name"; else fail "$name" "exit $got instead of $want: $*"; fi
}
# says NAME FILE REGEX: the last command wrote that
says() { if grep -qE -- "$3" "$T/$2"; then ok "$1"; else fail "$1" "no '$3' in std$2"; fi; }
silent() { if [ ! -s "$T/$2" ]; then ok "$1"; else fail "$1" "unexpected text in std$2"; fi; }
yes_if() { local name=$1; shift; if "$@" >"$T/out" 2>"$T/err"; then ok "$name"; else fail "$name" "$*"; fi; }
json() { yes_if "$1" python3 -c "import json,sys; d=json.load(open(sys.argv[1])); assert $3, d" "$2"; }

# ---- help, verbs, flags ----
code help 0 "$sard" help; says help-lists-verbs out '^  compile '
code no-arguments 0 "$sard"
for verb in run compile bench tune inspect compare convert partition doctor version help; do
  code "help-$verb" 0 "$sard" $verb --help; says "help-$verb-flags" out '--json FILE'
done
code rt-help 0 "$rt" help; says rt-help-lists-run out '^  run '
code version 0 "$sard" version; says version-text out '^sard [0-9]+\.[0-9]+\.[0-9]+$'
code unknown-verb 2 "$sard" benhc x.onnx; says unknown-verb-suggests err "did you mean 'sard bench'"
code unknown-flag 2 "$sard" bench "$digits/model.onnx" --warmupp 3; says unknown-flag-suggests err 'did you mean --warmup'
code flag-of-other-verb 2 "$sard" inspect "$digits/model.onnx" --warmup 3
code flag-without-value 2 "$sard" bench "$digits/model.onnx" --duration
code flag-not-a-number 2 "$sard" bench "$digits/model.onnx" --duration=abc
code flag-out-of-range 2 "$sard" run "$digits/model.onnx" -O7
code switch-with-value 2 "$sard" run "$digits/model.onnx" --check=3
code missing-model 2 "$sard" run; says missing-model-text err 'MODEL is missing'
code too-many-arguments 2 "$sard" run a.onnx b.onnx
code foreign-flag 2 "$sard" run --onnx=x.onnx; says foreign-flag-hint err 'first argument'
code foreign-flag-first 2 "$sard" --onnx=x.onnx; says foreign-flag-first-hint err 'first argument'
code foreign-save 2 "$sard" compile "$digits/model.onnx" --saveEngine=x; says foreign-save-hint err ' -o FILE'
code rt-lacks-compile 2 "$rt" compile x.onnx; says rt-lacks-compile-hint err 'full program'

# docs/cli.md holds the tables that the program makes of its own flags
"$sard" help markdown >"$T/tables"
awk '/^<!-- flags/ {on=1} on {print} /^<!-- end -->/ {on=0}' "$root/docs/cli.md" >"$T/documented"
yes_if docs-flag-tables diff "$T/tables" "$T/documented"

# ---- run ----
in=$digits/test_data_set_0
code run 0 "$sard" run "$digits/model.onnx" --inputs "$in" --expect "$in"; says run-passed out '^PASSED$'
code sparsity-unknown 2 "$sard" run "$digits/model.onnx" --device cuda --sparsity 3:4
code sparsity-processor 2 "$sard" run "$digits/model.onnx" --sparsity 2:4; says sparsity-processor-says err 'give --device cuda'
code sparsity-none 4 "$sard" compile "$digits/model.onnx" --device cuda:sm_80 --sparsity 2:4 --precision f16 -o "$T/p.sard"; says sparsity-none-hint err 'sard prune MODEL'
code compile-precision 2 "$sard" compile "$digits/model.onnx" --precision fp9 -o "$T/p.sard"; says compile-precision-known err 'none of f32, tf32, bf16, f16'
for p in bf16 f16; do
  code "run-$p" 0 "$sard" run "$bert/model.onnx" --inputs "$bert/test_data_set_0" --expect "$bert/test_data_set_0" --precision $p --rtol 0.03 --atol 0.03 --json "$T/j"
  code "compile-$p" 0 "$sard" compile "$bert/model.onnx" --precision $p -o "$T/p.sard" --json "$T/j"; says "compile-$p-tells" out "^precision    $p: [0-9]+ of [0-9]+ nodes"
  json "compile-$p-rules" "$T/j" "{(n['op'], n['to']) for n in d['report']['precision']['nodes']} >= {('MatMul', '$p'), ('sard.Attention', '$p'), ('Gather', '$p'), ('LayerNormalization', 'f32')}"
  yes_if "compile-$p-smaller" test "$(stat -c %s "$T/p.sard")" -lt "$(stat -c %s "$bert/model.onnx")"
done
echo '{"precision":"bf16","nodes":[{"name":"nowhere","to":"f32"}]}' >"$T/plan.json"
code precision-plan-unknown 2 "$sard" run "$digits/model.onnx" --precision "@$T/plan.json"; says precision-plan-unknown-names err "no node 'nowhere'"
echo '{"precision":"bf16","nodes":[{"name":}]}' >"$T/plan.json"
code precision-plan-malformed 3 "$sard" run "$digits/model.onnx" --precision "@$T/plan.json"; says precision-plan-malformed-line err 'line 1: a value is expected'
echo '{"precision":"i8"}' >"$T/plan.json"
code precision-plan-type 3 "$sard" run "$digits/model.onnx" --precision "@$T/plan.json"
code precision-plan-missing 7 "$sard" run "$digits/model.onnx" --precision "@$T/none.json"

# ---- sard partition ----
ex=$root/docs/examples
sim() { local name=$1 want=$2; shift 2; code "$name" "$want" "$sard" partition "$@" --simulate; }
sim partition-decoder 0 "$ex/decoders/llama-2-70b.json" --devices "$ex/devices/h200x8.json" --json "$T/j"
json partition-best "$T/j" 'd["splits"][0]["fits"] and d["splits"][0]["tensor"] == 8 and d["splits"][0]["phases"][1]["name"] == "decode"'
json partition-order "$T/j" '[p["seconds"] for p in d["splits"] if p["fits"]] == sorted(p["seconds"] for p in d["splits"] if p["fits"])'
json partition-shares "$T/j" 'all(abs(sum(f[k] for k in ("compute","memory","launch","exchange","wait")) - 1) < 1e-4 and f["efficiency"] <= 1.0001 for p in d["splits"] for f in p["phases"])'
sim partition-one-split 0 "$ex/decoders/gpt-3-175b.json" --devices "$ex/devices/h200x64.json" --split tensor:8,layer:4 --json "$T/j"
json partition-one-split-json "$T/j" '[(p["tensor"], p["layer"], p["batch"]) for p in d["splits"]] == [(8, 4, 1)]'
sim partition-no-room 6 "$ex/decoders/gpt-3-175b.json" --devices "$ex/devices/a100x8.json" --split batch; says partition-no-room-says err 'needs 3[0-9.]+ GB .* has 85.0 GB'; says partition-no-room-hint err 'hint: devices of 3'
sim partition-too-large 6 "$ex/decoders/gpt-3-175b.json" --devices "$ex/devices/a100x8.json" --dim batch=128; says partition-too-large-hint err 'a batch of 32 would fit'
sim partition-model 0 "$resnet/model.onnx" --devices "$ex/devices/h200x8.json" --dim batch=64 --json "$T/j"; says partition-model-sizes out '^sizes +batch=64$'
json partition-model-json "$T/j" 'd["batch"] == 64 and any(p["batch"] == 8 for p in d["splits"])'
sim partition-no-batch 0 "$pitch/model.onnx" --devices "$ex/devices/h200x8.json"; says partition-no-batch-why out "no batch split: node '"
sim partition-dim 2 "$resnet/model.onnx" --devices "$ex/devices/h200x8.json" --dim rows=3; says partition-dim-says err "no input has a symbolic dim 'rows'"
sim partition-decoder-dim 2 "$ex/decoders/llama-2-7b.json" --devices "$ex/devices/h200x8.json" --dim rows=3; says partition-decoder-dim-says err 'batch, prompt and context'
sim partition-context 2 "$ex/decoders/llama-2-7b.json" --devices "$ex/devices/h200x8.json" --dim prompt=4096; says partition-context-says err 'prompt of 4096'
for split in tensor:9 layer:2,layer:2 tensor: tensor:0 tensor,layer pipeline tensor:2, 'tensor:2 layer:2' batch:3000; do
  sim "partition-split-$split" 2 "$ex/decoders/llama-2-7b.json" --devices "$ex/devices/h200x8.json" --split "$split"
done
code partition-simulate-missing 2 "$sard" partition "$resnet/model.onnx" --devices "$ex/devices/h200x8.json"
code partition-nothing 2 "$sard" partition "$resnet/model.onnx"; says partition-nothing-hint err 'hint: .*--simulate'
code partition-parts 0 "$sard" partition "$resnet/model.onnx" --devices cpu:0,cpu:1,cpu:3 --split layer --svg "$T/parts.svg" --json "$T/j"; says partition-parts-table out '^cpu:3 '
json partition-parts-json "$T/j" 'd["split"] == "layer" and [p["device"] for p in d["parts"]] == ["cpu:0", "cpu:1", "cpu:3"] and d["parts"][0]["bytes_in"] == 0 < d["parts"][1]["bytes_in"] and all(p["nodes"] > 0 < p["flops"] for p in d["parts"])'
yes_if partition-svg python3 -c "import sys, xml.dom.minidom as x; d=x.parse(sys.argv[1]); p=[e.getAttribute('class') for e in d.getElementsByTagName('path')]; assert p.count('c') >= 2 and len(d.getElementsByTagName('line')) == 2" "$T/parts.svg"
code partition-svg-batch 0 "$sard" partition "$resnet/model.onnx" --devices cpu:0,cpu:1 --split batch --svg "$T/whole.svg"
yes_if partition-svg-batch-boxes python3 -c "import sys, xml.dom.minidom as x; d=x.parse(sys.argv[1]); assert len(d.getElementsByTagName('g')) >= 20 and not [e for e in d.getElementsByTagName('path') if e.getAttribute('class') == 'c']" "$T/whole.svg"
code partition-too-many 2 "$sard" partition "$digits/model.onnx" --devices cpu:0,cpu:1,cpu:2,cpu:3,cpu:4,cpu:5,cpu:6,cpu:7,cpu:8 --split layer
code partition-tensor 0 "$sard" partition "$digits/model.onnx" --devices cpu:0,cpu:1,cpu:2 --split tensor --svg "$T/tensor.svg"; says partition-tensor-says out 'nodes are cut, 2 exchanges'
yes_if partition-svg-tensor python3 -c "import sys, xml.dom.minidom as x; d=x.parse(sys.argv[1]); assert len([e for e in d.getElementsByTagName('path') if e.getAttribute('class') == 'c']) == 2 and len(d.getElementsByTagName('g')) % 3 == 0" "$T/tensor.svg"
code partition-auto 0 "$sard" partition "$resnet/model.onnx" --devices cpu:0,cpu:1 --costs estimated --json "$T/j"; json partition-auto-ways "$T/j" '[w["split"] for w in d["ways"]] == ["one device", "batch", "tensor", "layer"]'
code partition-batch-not 4 "$sard" partition "$pitch/model.onnx" --devices cpu:0,cpu:1 --split batch; says partition-batch-not-why err "node '[^']+' \(Slice\) works across"
code partition-svg-nowhere 7 "$sard" partition "$digits/model.onnx" --devices cpu:0,cpu:1 --split layer --svg "$T/no/where.svg"
sim partition-devices-missing 2 "$resnet/model.onnx"; says partition-devices-missing-says err '--devices is missing'
# spec NAME CODE REGEX SED: the device set with a line changed is refused so
spec() { sed "$4" "$ex/devices/h200x64.json" >"$T/spec.json"; sim "partition-$1" "$2" "$resnet/model.onnx" --devices "$T/spec.json"; says "partition-$1-says" err "$3"; }
spec spec-name 3 "spec.json, line 4: there is no 'devices\\[0\\].memmory' \\(did you mean 'memory'" 's/"memory"/"memmory"/'
spec spec-bound 3 'line 4: devices\[0\].memory: a number from 1 to 1e\+15' 's/150e9/150e29/'
spec spec-kind 3 'line 4: devices\[0\].count: a whole number' 's/"count": 64/"count": "64"/'
spec spec-many 3 'count: a whole number from 1 to 1024' 's/"count": 64/"count": 1025/'
spec spec-missing 3 'line 3: devices\[0\].launch: it is missing' 's/"launch": 3e-6,//'
spec spec-twice 3 'line 6: .devices\[0\].count. is there twice' 's/"launch": 3e-6,/"launch": 3e-6, "count": 2,/'
spec spec-type 3 "there is no 'devices\\[0\\].flops.bf17'" 's/bf16/bf17/'
spec spec-levels 3 'links\[1\].devices: a multiple of 8' 's/"devices": 64/"devices": 12/'
spec spec-levels-few 3 'line 10: links: the last level joins 16 devices' 's/"devices": 64/"devices": 16/'
spec spec-syntax 3 'spec.json, line 4: ' 's/"count": 64,/"count": 64/'
spec spec-nan 3 'spec.json, line 4: a value is expected' 's/150e9/NaN/'
shape() { sed "$4" "$ex/decoders/llama-2-70b.json" >"$T/shape.json"; sim "partition-$1" "$2" "$T/shape.json" --devices "$ex/devices/h200x8.json"; says "partition-$1-says" err "$3"; }
shape shape-heads 3 'line 3: kv_heads: 64 heads are no multiple' 's/"kv_heads": 8/"kv_heads": 7/'
shape shape-layers 3 'layers: a whole number from 1 to 256' 's/"layers": 80/"layers": 1e9/'
shape shape-fraction 3 'layers: a whole number' 's/"layers": 80/"layers": 2.5/'
shape shape-type 3 "dtype: 'i4' is none of" 's/bf16/i4/'
shape shape-name 3 'decoder: it is missing' 's/"decoder": "Llama 2 70B",//'
shape shape-overflow 3 'head_size: heads of it are wider' 's/"heads": 64/"heads": 65536, "head_size": 65536/'

# ---- several devices ----
two="--devices cpu:0,cpu:1 --split batch"
code split 0 "$sard" run "$digits/model.onnx" --inputs "$in" --expect "$in" $two --json "$T/j"; says split-passed out '^PASSED$'
json split-devices "$T/j" '[x["device"] for x in d["devices"]] == ["cpu:0", "cpu:1"] and d["transport"] == "shared memory"'
code run-batch 0 "$sard" run "$digits/model.onnx" --batch 5; says run-batch-size out 'f32\[5,10\]'
code run-batch-given 0 "$sard" run "$digits/model.onnx" --batch 5 --shape x:3x64; says run-batch-given-size out 'f32\[3,10\]'; says run-batch-given-note err 'batch 5 changes nothing'
code split-bench 0 "$sard" bench "$digits/model.onnx" --shape x:5x64 $two --iterations 3 --json "$T/j"; says split-bench-scaling out '^scaling +[0-9.]+x of the first device alone'
json split-bench-json "$T/j" 'd["speedup"] > 0 and all(x["runs"] == 3 for x in d["devices"])'
code split-twice 2 "$sard" run "$digits/model.onnx" --devices cpu:0,cpu:0 --split batch; says split-twice-text err 'cpu:0 is named twice'
code split-no-device 5 "$sard" run "$digits/model.onnx" --devices cpu:0,cpu:64 --split batch; says split-no-device-text err 'there is no device cpu:64'
code split-no-name 2 "$sard" run "$digits/model.onnx" --devices cpu:0,gpu --split batch
code split-cuda 5 env SARD_CUDA=/nowhere/libcuda.so "$sard" run "$digits/model.onnx" --devices cuda:0,cuda:1 --split batch; says split-cuda-says err 'no CUDA driver: /nowhere'
code split-no-way 2 "$sard" run "$digits/model.onnx" --devices cpu:0,cpu:1; says split-no-way-text err 'split=batch'
code layer 0 "$sard" run "$digits/model.onnx" --inputs "$in" --expect "$in" --devices cpu:0,cpu:1 --split layer --micro-batches 3; says layer-passed out '^PASSED$'
code layer-bench 0 "$sard" bench "$digits/model.onnx" --shape x:5x64 --devices cpu:0,cpu:1 --split layer --iterations 3 --json "$T/j"; says layer-bench-scaling out '^scaling .*one after the other'
json layer-bench-json "$T/j" 'd["speedup"] > 0 and all(x["runs"] == 15 and x["bytes_in"] > 0 and x["bytes_out"] > 0 for x in d["devices"])'
code tensor 0 "$sard" run "$digits/model.onnx" --inputs "$in" --expect "$in" --devices cpu:0,cpu:1,cpu:2 --split tensor --json "$T/j"; says tensor-passed out '^PASSED$'
json tensor-devices "$T/j" 'd["split"] == "tensor" and len(d["devices"]) == 3 and all(x["bytes_in"] > 0 for x in d["devices"])'
base64 -d <<<'CAg6OwoMCgF4EgF5IgRSZWx1EgFnWhMKAXgSDgoMCAESCAoCCAIKAggDYhMKAXkSDgoMCAESCAoCCAIKAggDQgQKABAR' >"$T/relu.onnx"
code tensor-whole 0 "$sard" run "$T/relu.onnx" --devices cpu:0,cpu:1 --split tensor; says tensor-whole-says out '^tensors +none is cut, each device computes the whole model'
code tensor-compile 0 "$sard" compile "$digits/model.onnx" --devices cpu:0,cpu:1 --split tensor -o "$T/t.sard"; says tensor-compile-tells out '^tensors +3 of 3 products are cut, 2 exchanges'; says tensor-predicts out '^split +tensor; predicted for a batch of 8: one device [0-9.]+ ms, tensor [0-9.]+ ms'; says tensor-measured out '^costs +measured on this machine'
code tensor-alone 2 "$sard" run "$T/t.sard" --devices cpu:0,cpu:1,cpu:2; says tensor-alone-text err 'compiled in 2 parts, and 3 devices are named'
code tensor-micro 2 "$sard" run "$T/t.sard" --micro-batches 2; says tensor-micro-text err 'micro-batches are of split=layer'
code tensor-bench 0 "$sard" bench "$T/t.sard" --iterations 3 --json "$T/j"; json tensor-bench-devices "$T/j" '"speedup" not in d and [x["runs"] for x in d["devices"]] == [d["devices"][0]["runs"]] * 2'
code mpi-split 2 "$sard" run "$digits/model.onnx" --devices mpi --split layer; says mpi-split-text err 'by split=tensor'
code mpi-compile 2 "$sard" compile "$digits/model.onnx" --devices mpi --split tensor -o "$T/no.sard"; says mpi-compile-text err 'each process compiles its own part'
code mpi-missing 5 env SARD_MPI=/none.so "$sard" run "$digits/model.onnx" --devices mpi; says mpi-missing-text err "devices 'mpi' cannot be used"
code auto-bench 0 "$sard" bench "$digits/model.onnx" --shape x:500x64 --devices cpu:0,cpu:1 --split auto --costs estimated --iterations 3 --json "$T/j"; says auto-predicts out '^split +batch; predicted for a batch of 500: one device [0-9.]+ ms, batch [0-9.]+ ms, tensor [0-9.]+ ms, layer [0-9.]+ ms'
json auto-ways "$T/j" 'd["split"] == "batch" and [w["split"] for w in d["ways"]] == ["one device", "batch", "tensor", "layer"]'
code auto-slower 4 "$sard" run "$digits/model.onnx" --dim batch=1 --devices cpu:0,cpu:1 --split auto --costs estimated; says auto-slower-text err 'no split over 2 devices is predicted to be faster'
code auto-alone 4 "$sard" run "$digits/model.onnx" --shape x:1x64 --devices cpu:0,cpu:1 --split auto; says auto-alone-text err 'faster than one for a batch of 1: one device'
code auto-alone-cut 0 "$sard" run "$bert/model.onnx" --shape input_ids:1x16 --target avx2 --devices cpu:0,cpu:1 --split auto --costs estimated; says auto-alone-tensor out '^split +tensor; predicted for a batch of 1:'
code auto-told 0 "$sard" compile "$digits/model.onnx" --devices cpu:0,cpu:1 --split auto --costs estimated --batch 300 -o "$T/no.sard"; says auto-told-text out '^split +batch; predicted for a batch of 300:'
# what the batch is called makes no difference
"$sard" compile "$digits/model.onnx" --dump import -q >"$T/batch.sard-ir"; sed 's/batch/rows/g' "$T/batch.sard-ir" >"$T/rows.sard-ir"
for x in batch rows; do "$sard" partition "$T/$x.sard-ir" --devices cpu:0,cpu:1 --split layer --costs estimated >"$T/$x"; done
yes_if auto-any-name diff "$T/batch" "$T/rows"
code auto-no-batch 2 "$sard" partition "$digits/model.onnx" --devices cpu:0,cpu:1 --batch 2000000; says auto-no-batch-text err 'no number of elements from 1 to 1048576'
code auto-tensor 0 "$sard" compile "$bert/model.onnx" --dim batch=1 --devices cpu:0,cpu:1 --split auto --costs estimated --target avx2 -o "$T/t.sard"; says auto-tensor-text out '^split +tensor; '; says auto-tensor-costs out '^costs +estimated: as it was asked for$'; says auto-tensor-cut out '^tensors +17 of 17 '
code auto-tensor-run 0 "$rt" run "$T/t.sard" --inputs "$bert/test_data_set_0" --expect "$bert/test_data_set_0"
code tensor-room 6 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split tensor --device-memory 100K -o "$T/no.sard"; says tensor-room-text err "a device needs [0-9]+ bytes and has 102400; node '[^']+' \([A-Za-z.]+\) alone needs [0-9]+ of them"
code batch-room 6 "$sard" run "$digits/model.onnx" $two --device-memory 1K; says batch-room-text err "split=batch: a device needs [0-9]+ bytes and has 1024; node '[^']+' "
code batch-fits 0 "$sard" run "$digits/model.onnx" --inputs "$in" --expect "$in" $two --device-memory 100K
for s in batch layer tensor auto; do
  code "$s-twice" 2 "$sard" run "$digits/model.onnx" --devices cpu:1,cpu:1 --split $s
  code "$s-empty" 2 "$sard" run "$digits/model.onnx" --devices cpu:0,,cpu:1 --split $s
  code "$s-none" 5 "$sard" run "$digits/model.onnx" --devices cpu:0,cpu:99 --split $s
  code "$s-room" 6 "$sard" run "$digits/model.onnx" --devices cpu:0,cpu:1 --split $s --device-memory 1K --costs estimated; says "$s-room-node" err "node '[^']+' .*would be enough"
done
code layer-uneven 0 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --device-memory 100K,10M --json "$T/j" -o "$T/no.sard"
json layer-uneven-parts "$T/j" '(lambda p: p[0]["weight_bytes"] + p[0]["activation_bytes"] <= 102400 and p[1]["nodes"] > 30)(d["report"]["split"]["parts"])'
code layer-cuts 0 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --cuts 3 -o "$T/parts.sard"; says layer-cuts-text out '^cuts +3$'; says layer-cuts-part out '^part 1 +3 nodes'
code layer-cuts-run 0 "$rt" run "$T/parts.sard" --inputs "$bert/test_data_set_0" --expect "$bert/test_data_set_0"
code layer-cuts-behind 2 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --cuts 99 -o "$T/no.sard"; says layer-cuts-behind-text err 'node 99 is none of 1 to'
for x in 1,2 x 3, 0; do code "layer-cuts-$x" 2 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --cuts $x -o "$T/no.sard"; done
code layer-cuts-room 6 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --cuts 3 --device-memory 300K -o "$T/no.sard"; says layer-cuts-room-text err 'part 2 needs [0-9]+ bytes, and its device has 307200'
code tensor-cuts 2 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split tensor --cuts 3 -o "$T/no.sard"
code memory-three 2 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --device-memory 1M,1M,1M -o "$T/no.sard"
code costs-which 2 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --costs guessed -o "$T/no.sard"
code costs-elsewhere 4 "$sard" compile "$bert/model.onnx" --devices cpu:0,cpu:1 --split layer --costs measured --target avx2 -o "$T/no.sard"; says costs-elsewhere-text err 'target that was named'
code auto-layer 0 "$sard" compile "$resnet/model.onnx" --devices cpu:0,cpu:1 --split auto --device-memory 200K --costs estimated -o "$T/auto.sard"; says auto-layer-text out '^split +layer; .*one device [0-9.]+ ms \(does not fit\)'; says auto-layer-parts out '^part 2 '
code auto-layer-run 0 "$rt" run "$T/auto.sard" --split auto --devices cpu:0,cpu:1
code layer-room 6 "$sard" compile "$digits/model.onnx" --devices cpu:0,cpu:1 --split layer --device-memory 4K -o "$T/no.sard"; says layer-room-text err 'alone needs [0-9]+ with its operands and results; [0-9]+ bytes on each device would be enough'
code layer-overlap 0 "$sard" bench "$bert/model.onnx" --dim batch=1 --devices cpu:0,cpu:1 --split layer --iterations 3 --json "$T/j"; says layer-overlap-text out '^overlap '
json layer-overlap-json "$T/j" 'd["overlap_per_s"] > 0 and d["overlap_speedup"] > 0 and d["split"] == "layer"'
code layer-many 2 "$sard" run "$digits/model.onnx" --devices cpu:0,cpu:1,cpu:2,cpu:3 --split layer; says layer-many-text err 'cut into 3 parts at most'
code layer-compile 0 "$sard" compile "$digits/model.onnx" --devices cpu:0,cpu:1 --split layer -o "$T/parts.sard"
code layer-artifact 0 "$rt" run "$T/parts.sard" --inputs "$in" --expect "$in" --devices cpu:3,cpu:1
code layer-artifact-profile 0 "$rt" bench "$T/parts.sard" --profile --iterations 3 --json "$T/j"; says layer-artifact-profile-says out '^cpu:1$'
json layer-artifact-profile-json "$T/j" '[p["device"] for p in d["profiles"]] == ["cpu:0", "cpu:1"] and all(k["time_us"] > 0 for p in d["profiles"] for k in p["kernels"])'
code layer-artifact-html 0 "$rt" bench "$T/parts.sard" --html "$T/page.html" --iterations 3
for d in 0 1; do yes_if "layer-artifact-html-$d" test "$(grep -cE "^<h2>(Roofline|Time by kernel|Kernels), cpu:$d</h2>|^<p>cpu:$d, busy for [0-9]+ %" "$T/page.html")" = 4; done
code layer-inspect 0 "$sard" inspect "$T/parts.sard"; says layer-inspect-parts out '^part 2 +[0-9]+ steps, .* reads part 1$'
mkdir -p "$T/layer-case" && cp -r "$digits"/test_data_set_0 "$T/layer-case/" && cp "$T/parts.sard" "$T/layer-case/model.sard"
code layer-check 0 "$rt" check "$T/layer-case" --devices cpu:4,cpu:1
code layer-artifact-devices 2 "$rt" run "$T/parts.sard" --devices cpu:0,cpu:1,cpu:2
code layer-no-parts 2 "$sard" compile "$digits/model.onnx" --devices cpu:0,cpu:1 --split rows -o "$T/no.sard"
code split-other-way 2 "$sard" run "$digits/model.onnx" --devices cpu:0,cpu:1 --split rows
code split-alone 2 "$sard" run "$digits/model.onnx" --split batch
code split-profile 0 "$sard" bench "$digits/model.onnx" --shape x:6x64 $two --profile --iterations 3 --trace "$T/t"; says split-profile-says out '^cpu:1$'
code tensor-profile 0 "$sard" bench "$digits/model.onnx" --shape x:6x64 --devices cpu:0,cpu:1 --split tensor --costs estimated --profile --iterations 3; says tensor-profile-exchange out ' sard.All[GR]'
code split-trace 0 "$sard" run "$digits/model.onnx" --shape x:6x64 $two --trace "$T/t"
json split-trace-rows "$T/t" '{e["pid"]: e["args"]["name"] for e in d["traceEvents"] if e["name"] == "process_name"} == {1: "cpu:0", 2: "cpu:1"} and {e["pid"] for e in d["traceEvents"] if e["ph"] == "X"} == {1, 2}'
code layer-trace 0 "$sard" bench "$digits/model.onnx" --shape x:6x64 --devices cpu:0,cpu:1 --split layer --iterations 1 --trace "$T/t"
json layer-trace-rows "$T/t" 'all(e["ts"] >= 0 for e in d["traceEvents"] if e["ph"] == "X") and {e["pid"] for e in d["traceEvents"] if e["ph"] == "X"} == {1, 2}'
code split-fixed 4 "$sard" run "$digits/model.onnx" $two --dim batch=4; says split-fixed-hint err '\-\-shape'
code split-node 4 "$sard" run "$pitch/model.onnx" $two; says split-node-text err "node '[^']+' \(Slice\) works across"
code split-limit 6 "$sard" run "$digits/model.onnx" --shape x:64x64 $two --memory-limit 64; says split-limit-text err 'device cpu:0: '
code dump-tf32 0 "$sard" compile "$digits/model.onnx" --dim batch=64 --dump=cuda -q --precision tf32; says dump-tf32-multiplies out 'sd_with_tf32'
code dump-f32 0 "$sard" compile "$digits/model.onnx" --dim batch=64 --dump=cuda -q; says dump-f32-multiplies out 'sd_step_f32'
for o in 0 1 2 3; do code "run-O$o" 0 "$sard" run "$digits/model.onnx" -O$o --inputs "$in" --expect "$in"; done
code run-symbolic 0 "$sard" run "$digits/model.onnx" --inputs "$digits/test_data_set_1" --expect "$digits/test_data_set_1" --threads 2
code run-equals-form 0 "$sard" run "$digits/model.onnx" --inputs="$in" --expect="$in" --rtol=1e-3 --atol=1e-4
code run-random 0 "$sard" run "$digits/model.onnx"; says run-random-notes-dims err 'symbolic dims of size 1'
name=$(python3 -c "import json;print(json.load(open('$digits/meta.json'))['inputs'][0]['name'])")
batch=$("$sard" inspect "$digits/model.onnx" --io | sed -n 's/^input .*f32\[\([a-zA-Z_]*\),.*/\1/p')
code run-dim 0 "$sard" run "$digits/model.onnx" --dim "$batch=3" --json "$T/j"; json run-dim-shape "$T/j" "d['outputs'][0]['dims'][0] == 3"
code run-shape 0 "$sard" run "$digits/model.onnx" --shape "$name:5x64" --json "$T/j"; json run-shape-shape "$T/j" "d['outputs'][0]['dims'][0] == 5"
code run-seed 0 "$sard" run "$digits/model.onnx" --seed 7 --outputs "$T/s7"
code run-seed-again 0 "$sard" run "$digits/model.onnx" --seed 7 --expect "$T/s7" --rtol 0 --atol 0
code run-seed-other 1 "$sard" run "$digits/model.onnx" --seed 8 --expect "$T/s7"; says run-failed out '^FAILED$'
code run-zeros 0 "$sard" run "$digits/model.onnx" --input "$name=zeros"
code run-quiet 0 "$sard" run "$digits/model.onnx" --inputs "$in" -q; silent run-quiet-out out; silent run-quiet-err err
code run-json-stdout 0 "$sard" run "$digits/model.onnx" --inputs "$in" --json -; cp "$T/out" "$T/j"; json run-json-only "$T/j" "d['schema'] == 1 and d['outputs']"
code run-check 0 "$sard" run "$digits/model.onnx" --inputs "$in" --check; says run-check-text out 'agree with the interpreter'
code run-check-bert 0 "$sard" run "$bert/model.onnx" --inputs "$bert/test_data_set_0" --check
code run-npy 0 python3 - "$in/input_0.pb" "$T/npy" "$name" <<'PY'
# the input as .npy, without numpy: the raw data of the TensorProto are its last 256 bytes (64 floats)
import os, struct, sys
raw = open(sys.argv[1], 'rb').read()
at = raw.index(b'\x4a\x80\x02') + 3
data = raw[at:at + 256]
os.makedirs(sys.argv[2])
head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 64), }"
head += b' ' * (117 - len(head)) + b'\n'
open(f'{sys.argv[2]}/{sys.argv[3]}.npy', 'wb').write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head + data)
PY
code run-npy-inputs 0 "$sard" run "$digits/model.onnx" --inputs "$T/npy" --expect "$in"
code run-npy-file 0 "$sard" run "$digits/model.onnx" --input "$name=@$T/npy/$name.npy" --expect "$in"

# wrong inputs
code wrong-input-name 2 "$sard" run "$bert/model.onnx" --input input_idz=zeros; says wrong-input-name-suggests err "did you mean .input_ids."
code wrong-input-form 2 "$sard" run "$digits/model.onnx" --input nonsense
code wrong-count 2 "$sard" run "$digits/model.onnx" --input "$name=1,2,3"
code wrong-number 2 "$sard" run "$digits/model.onnx" --shape "$name:1x64" --input "$name=a"
code wrong-rank 2 "$sard" run "$digits/model.onnx" --shape "$name:1x2x64"
code wrong-size 2 "$sard" run "$digits/model.onnx" --shape "$name:1x63"
code wrong-dim-name 2 "$sard" run "$digits/model.onnx" --dim nosuch=3; says wrong-dim-lists err "$batch"
code wrong-dim-value 2 "$sard" run "$digits/model.onnx" --dim "$batch=-3"
code wrong-shape-file 2 "$sard" run "$digits/model.onnx" --input "$name=@$bert/test_data_set_0/input_0.pb"
code wrong-dtype 2 "$sard" run "$bert/model.onnx" --inputs "$bert/test_data_set_0" --input "input_ids=@$T/npy/$name.npy"
code missing-inputs 7 "$sard" run "$digits/model.onnx" --inputs "$T/nowhere"
mkdir -p "$T/empty"
code missing-input 7 "$sard" run "$digits/model.onnx" --inputs "$T/empty"; says missing-input-hint err 'input_0.pb'
code missing-expect 7 "$sard" run "$digits/model.onnx" --inputs "$in" --expect "$T/empty"
head -c 40 "$in/input_0.pb" >"$T/cut.pb"
code broken-input 3 "$sard" run "$digits/model.onnx" --input "$name=@$T/cut.pb"
code memory-limit 6 "$sard" run "$resnet/model.onnx" --inputs "$resnet/test_data_set_0" --memory-limit 1K

# ---- bad models ----
code no-such-model 7 "$sard" run "$T/none.onnx"
code model-is-folder 7 "$sard" run "$T/empty/"
: >"$T/empty.onnx"; code empty-model 3 "$sard" run "$T/empty.onnx"
head -c 3000 "$digits/model.onnx" >"$T/cut.onnx"; code truncated-model 3 "$sard" run "$T/cut.onnx"
head -c 4000 /dev/urandom >"$T/noise.onnx"; code noise-model 3 "$sard" inspect "$T/noise.onnx"
printf 'graph nonsense {\n' >"$T/bad.sard-ir"; code bad-text 3 "$sard" run "$T/bad.sard-ir"
sed 's/Relu/Rxlu/g' "$digits/model.onnx" >"$T/unknown.onnx"
code unknown-op 4 "$sard" run "$T/unknown.onnx"; says unknown-op-named err 'Rxlu'
code inspect-unknown-op 0 "$sard" inspect "$T/unknown.onnx" --coverage --svg "$T/u.svg"; says inspect-unknown-op-verdict out 'it will not run'
yes_if svg-unknown-wellformed python3 -c "import xml.dom.minidom,sys; xml.dom.minidom.parse(sys.argv[1])" "$T/u.svg"

# ---- compile ----
code compile 0 "$sard" compile "$digits/model.onnx" -o "$T/d.sard" --json "$T/j" --time-passes; says compile-table out '^nodes +[0-9]+ in, [0-9]+ out'
says compile-peak out '^peak memory'; says compile-bytes out 'code .* weights .* metadata'; says compile-seconds out '^seconds'
json compile-json "$T/j" "d['report']['nodes_in'] > 0 and d['file_bytes'] > 0"
code artifact-run 0 "$sard" run "$T/d.sard" --inputs "$in" --expect "$in"
code artifact-rt 0 "$rt" run "$T/d.sard" --inputs "$digits/test_data_set_1" --expect "$digits/test_data_set_1"
code artifact-inspect 0 "$sard" inspect "$T/d.sard"; says artifact-inspect-text out 'artifact of Sard'
code rt-onnx 4 "$rt" run "$digits/model.onnx"; says rt-onnx-hint err 'sard compile'
code artifact-check 4 "$sard" run "$T/d.sard" --check
code compile-artifact 2 "$sard" compile "$T/d.sard" -o "$T/e.sard"
code compile-fixed 0 "$sard" compile "$digits/model.onnx" -o "$T/f.sard" --dim "$batch=2"
code fixed-refuses-other 2 "$sard" run "$T/f.sard" --inputs "$in"
code compile-no-output 2 "$sard" compile "$digits/model.onnx"
code compile-target 0 "$sard" compile "$digits/model.onnx" -o "$T/neon.sard" --target neon
[ "$(uname -m)" = x86_64 ] && code other-machine 5 "$sard" run "$T/neon.sard"
code compile-bad-target 2 "$sard" compile "$digits/model.onnx" -o "$T/x.sard" --target z80
code compile-unwritable 7 "$sard" compile "$digits/model.onnx" -o "$T/no/such/x.sard"
code compile-to-folder 7 "$sard" compile "$digits/model.onnx" -o "$T/empty"
code compile-full 7 "$sard" compile "$digits/model.onnx" -o /dev/full
yes_if full-is-still-a-device test -c /dev/full
code compile-null 0 "$sard" compile "$digits/model.onnx" -o /dev/null
# cubic samples along four axes read 256 elements each: their code is there once, not for 32 vectors
printf 'module opset=19\nsymbol A\nsymbol B\nsymbol C\nsymbol D\ngraph "main" (%%0 "x": f32[A,B,C,D], %%1 "scales": f32[4]) {\n  %%2 = Resize(%%0, _, %%1) {mode="cubic"}\n  return %%2\n}\n' >"$T/cubic.sard-ir"
code compile-cubic 0 "$sard" compile "$T/cubic.sard-ir" -o "$T/cubic.sard" --target avx2
yes_if compile-cubic-once test "$(stat -c %s "$T/cubic.sard")" -lt 300000
code list-passes 0 "$sard" compile --list-passes; says list-passes-fuse out '^fuse '
code dump-all 0 "$sard" compile "$bert/model.onnx" -o "$T/b.sard" --dump=all --dump-dir "$T/dumps" --verify
yes_if dump-files test -s "$T/dumps/import.sard-ir" -a -s "$T/dumps/fuse.sard-ir"
code dump-stdout 0 "$sard" compile "$digits/model.onnx" --dump fuse; says dump-stdout-text out 'sard.Fused'
code dump-bad 2 "$sard" compile "$digits/model.onnx" --dump fusee; says dump-bad-suggests err "did you mean 'fuse'"
code stop-after 0 "$sard" compile "$bert/model.onnx" --stop-after=fold -o "$T/fold.sard-ir"
code from 0 "$sard" compile --from="$T/fold.sard-ir" -o "$T/from.sard"
code from-runs 0 "$sard" run "$T/from.sard" --inputs "$bert/test_data_set_0" --expect "$bert/test_data_set_0"
code dump-is-a-model 0 "$sard" run "$T/dumps/import.sard-ir" --inputs "$bert/test_data_set_1" --expect "$bert/test_data_set_1"
code from-pass 0 "$sard" compile "$T/dumps/dce.sard-ir" --from-pass=fuse -o "$T/fp.sard"
code from-pass-runs 0 "$sard" run "$T/fp.sard" --inputs "$bert/test_data_set_0" --expect "$bert/test_data_set_0"
cat >"$T/joined.sard-ir" <<'END'
module ir=8 opset=17
graph "main" (%0 "x": f32[1,64,4], %1 "past": f32[1,64,4]) {
  %2 = Relu(%0)
  %3 = Concat(%1, %2) {axis=1}
  %4 "y" = Mul(%3, %3)
  return %4
}
END
code placed 0 "$sard" compile "$T/joined.sard-ir" -o "$T/placed.sard-ir" --stop-after=memory; says placed-in-the-whole placed.sard-ir ' in %[0-9]+ at \[0,'
code placed-before 0 "$sard" run "$T/joined.sard-ir" --outputs "$T/joined"
code placed-again 0 "$sard" run "$T/placed.sard-ir" --expect "$T/joined"
code placed-from-pass 0 "$sard" compile "$T/placed.sard-ir" --from-pass=memory -o "$T/placed.sard"
code placed-from-pass-runs 0 "$sard" run "$T/placed.sard" --expect "$T/joined"
code emit-ir 0 "$sard" compile "$digits/model.onnx" --emit ir -o "$T/d.sard-ir"
code bisect 0 "$sard" compile "$bert/model.onnx" --bisect 0 -o "$T/bisect.sard"
code bisect-runs 0 "$sard" run "$T/bisect.sard" --inputs "$bert/test_data_set_0" --expect "$bert/test_data_set_0"

# bad artifacts
head -c 5000 "$T/d.sard" >"$T/cut.sard"; code truncated-artifact 3 "$rt" run "$T/cut.sard"
cp "$T/d.sard" "$T/flip.sard"; printf '\377' | dd of="$T/flip.sard" bs=1 seek=200 conv=notrunc 2>/dev/null; code flipped-artifact 3 "$rt" run "$T/flip.sard"
cp "$T/d.sard" "$T/version.sard"; printf '\143' | dd of="$T/version.sard" bs=1 seek=8 conv=notrunc 2>/dev/null
"$rt" run "$T/version.sard" >"$T/out" 2>"$T/err"; rc=$?
if [ $rc = 3 ] || [ $rc = 4 ]; then ok other-version; else fail other-version "exit $rc"; fi; says other-version-text err 'version'

# ---- operands that only the run knows: one artifact for all values, wrong ones are errors of the data ----
cat >"$T/axes.sard-ir" <<'END'
module
symbol N
graph "main" (%0 "x": f32[N,4], %1 "axes": i64[1], %2 "steps": i64[1]) {
  %3 = const i64[1] dense<9223372036854775807>
  %4 = const i64[1] dense<0>
  %5 "cut" = Slice(%0, %4, %3, %1, %2)
  %6 "y" = ReduceSum(%5, %1) {keepdims=0} "total"
  return %6
}
END
code open-axes 0 "$sard" compile "$T/axes.sard-ir" -o "$T/axes.sard"
for axis in 0 -1 1; do code "open-axis-$axis" 0 "$rt" run "$T/axes.sard" --shape x:3x4 --input=axes=$axis --input=steps=1; done
code open-axis-2 3 "$rt" run "$T/axes.sard" --shape x:3x4 --input=axes=2 --input=steps=1; says open-axis-text err 'axis 2 is out of range for rank 2'
code open-axis-min 3 "$rt" run "$T/axes.sard" --shape x:3x4 --input=axes=-9223372036854775808 --input=steps=1
code open-step-0 3 "$rt" run "$T/axes.sard" --shape x:3x4 --input=axes=0 --input=steps=0; says open-step-text err 'step 0'
code open-fixed-dim 0 "$sard" run "$T/axes.sard-ir" --dim N=3 --shape x:3x4 --input=axes=0 --input=steps=2 --check

# ---- --check of nodes that give strings, sequences and optionals ----
cat >"$T/objects.sard-ir" <<'END'
module
graph "main" (%0 "x": f32[4], %1 "z": f32[2], %2 "k": i64[3]) {
  %3 = Neg(%0)
  %4 "s" = SequenceConstruct(%3, %1)
  %5 = ai.onnx.ml.LabelEncoder(%2) {keys_int64s=[0, 1], values_strings=["no", "yes"]}
  %6 "t" = StringConcat(%5, %5)
  %7 "o" = Optional(%4)
  %8 = SequenceInsert(%4, %1)
  %9 "n" = SequenceLength(%8)
  return %4, %6, %7, %9
}
END
code check-objects 0 "$sard" run "$T/objects.sard-ir" --check; says check-objects-all out '9 values of nodes agree'

# ---- full disk ----
code json-full 7 "$sard" inspect "$digits/model.onnx" --json /dev/full
"$sard" inspect "$digits/model.onnx" >/dev/full 2>"$T/err"; rc=$?; : >"$T/out"
if [ $rc = 7 ]; then ok stdout-full; else fail stdout-full "exit $rc"; fi
mkdir "$T/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=16k tmpfs "$T/small" 2>/dev/null; then
  code disk-full 7 "$sard" compile "$digits/model.onnx" -o "$T/small/x.sard"
  yes_if disk-full-leaves-nothing test -z "$(ls -A "$T/small")"
  umount "$T/small"
fi

# ---- bench ----
code bench 0 "$sard" bench "$T/d.sard" --threads 1 --warmup 2 --duration 0.2 --json "$T/j"
json bench-fields "$T/j" "set(d['latency_ms']) == {'min','mean','median','p90','p99','max'} and all(k in d for k in 'throughput_per_s iterations threads isa compile_ms load_ms peak_rss_mb weights_mb arena_mb'.split()) and d['threads'] == 1"
code bench-iterations 0 "$rt" bench "$T/d.sard" --iterations 17 --json "$T/j"; json bench-iterations-count "$T/j" "d['iterations'] == 17"
code bench-profile 0 "$sard" bench "$resnet/model.onnx" --inputs "$resnet/test_data_set_0" --duration 0.2 --profile --trace "$T/t.json"; says bench-profile-table out 'GFLOP/s'
json bench-trace "$T/t.json" "{e['tid'] for e in d['traceEvents'] if e['ph'] == 'X'} >= {0, 1} and len([e for e in d['traceEvents'] if e.get('tid') == 0 and e['ph'] == 'X' and 'product' in e['args'].get('schedule', '') and e['args']['flops'] > 0 and '->' in e['args']['shapes']]) >= 5"
code run-trace 0 "$sard" run "$resnet/model.onnx" --inputs "$resnet/test_data_set_0" --trace "$T/t.json" --threads 2 -q
json run-trace-steps "$T/t.json" "[e['args']['step'] for e in d['traceEvents'] if e.get('tid') == 0 and e['ph'] == 'X'] == sorted({e['args']['step'] for e in d['traceEvents'] if e['ph'] == 'X'})"
code trace-no-folder 7 "$sard" run "$digits/model.onnx" --trace "$T/none/t.json"
code bench-html 0 "$sard" bench "$T/d.sard" --duration 0.1 --html "$T/page.html" --json "$T/j"
json bench-html-json "$T/j" "d['kernels'] and all(k['limit'] in ('compute', 'memory') and k['roof_share'] >= max(k['peak_share'], k['read_share']) - 1e-3 and k['schedule'] for k in d['kernels'])"
yes_if bench-html-page python3 - "$T/page.html" <<'PY'
import html.parser, re, sys
text, open_tags, seen = open(sys.argv[1]).read(), [], []
class Page(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
        seen.append(tag)
        if tag == 'svg' or tag == 'table' or tag == 'g': open_tags.append(tag)
    def handle_endtag(self, tag):
        if tag in ('svg', 'table', 'g'): assert open_tags.pop() == tag
Page().feed(text)
assert not open_tags and seen.count('svg') == 2 and 'circle' in seen and 'rect' in seen and 'prefers-color-scheme' in text
assert not re.search(r'https?:|src=|href=|@import|url\(|nan|inf[^o]', text), 'other files, or numbers that are none'
PY
code bench-zero-iterations 2 "$sard" bench "$T/d.sard" --iterations 0

# ---- inspect ----
code inspect 0 "$sard" inspect "$resnet/model.onnx" --ops --io --weights --coverage --svg "$T/r.svg" --json "$T/j"
says inspect-runs out 'it will run'; says inspect-weights out 'f32\['; json inspect-json "$T/j" "d['runs'] and d['ops']['Conv'] > 10"
yes_if svg-wellformed python3 -c "import xml.dom.minidom,sys; d=xml.dom.minidom.parse(sys.argv[1]); assert len(d.getElementsByTagName('rect')) > 40" "$T/r.svg"
code inspect-short 0 "$sard" "$digits/model.onnx"; says inspect-short-text out '^input '
code inspect-dump 0 "$sard" inspect "$T/d.sard-ir"

# coverage: each way to run, bodies, a node that cannot, a model that cannot be read, other targets
cat >"$T/ways.sard-ir" <<'IR'
module
symbol N
graph "main" (%0 "x": f32[N,4], %1 "c": bool[]) {
  %9 = const f32[1] dense<1>
  %8 = Neg(%9) "fixed"
  %2 = Shape(%0) "shape"
  %3 = Reshape(%0, %2) "same"
  %4 = Bernoulli(%3) {seed=1} "draw"
  %5 = NonZero(%4) "where"
  %6 = If(%1) "choose"
    body "then_branch" () {
      %7 = Exp(%0) "inner"
      return %7
    }
    body "else_branch" () {
      return %0
    }
  return %5, %6, %8
}
IR
code coverage-ways 0 "$sard" inspect "$T/ways.sard-ir" --coverage --json "$T/j"
json coverage-words "$T/j" "d['runs'] and d['judged'] and {n['name']: n['runs'] for n in d['coverage']} == {'fixed': 'folded', 'shape': 'rows', 'same': 'kernel', 'draw': 'rows', 'where': 'host function', 'choose': 'control flow', 'inner': 'kernel'}"
json coverage-rows "$T/j" "[n['rows'] for n in d['coverage'] if n['name'] == 'draw'][0][0]['runs'] == 'kernel' and [n['graph'] for n in d['coverage'] if n['name'] == 'inner'] == ['choose']"
code coverage-target 0 "$sard" inspect "$resnet/model.onnx" --coverage --target neon --json "$T/j"
json coverage-target-all "$T/j" "d['target'] == 'neon' and all(n['runs'] in ('kernel', 'folded', 'import') for n in d['coverage']) and len(d['coverage']) == d['nodes']"
code coverage-bad-target 2 "$sard" inspect "$resnet/model.onnx" --coverage --target z80
cat >"$T/complex.sard-ir" <<'IR'
module
graph "main" (%0 "x": c64[2], %1 "y": f32[2]) {
  %2 = Equal(%0, %0) "same"
  %3 = Exp(%1) "good"
  return %2, %3
}
IR
code coverage-missing 0 "$sard" inspect "$T/complex.sard-ir" --coverage --json "$T/j"; says coverage-missing-why out "'same' \\(Equal\\): missing: .*c64"
json coverage-missing-json "$T/j" "not d['runs'] and {n['name']: n['runs'] for n in d['coverage']} == {'same': 'missing', 'good': 'kernel'}"
code coverage-unread 0 "$sard" inspect "$T/unknown.onnx" --coverage --json "$T/j"; says coverage-unread-why out "missing: .*Rxlu"
json coverage-unread-json "$T/j" "not d['judged'] and not d['runs'] and all((n['runs'] == 'missing') == (n['op'] == 'Rxlu') for n in d['coverage']) and all('Rxlu' in n['reason'] for n in d['coverage'] if n['op'] == 'Rxlu')"

# ---- code for GPUs ----
code device-none 5 env SARD_NVRTC=/nowhere/libnvrtc.so "$sard" compile "$digits/model.onnx" -o "$T/gpu.sard" --device cuda
says device-none-tried err '/nowhere/libnvrtc.so: not there'; says device-none-hint err 'SARD_NVRTC'
code device-unknown 2 "$sard" compile "$digits/model.onnx" -o "$T/gpu.sard" --device gpu; says device-unknown-known err 'cuda:sm_NN'
code device-arch 2 "$sard" compile "$digits/model.onnx" -o "$T/gpu.sard" --device cuda:90
code device-cpu 0 "$sard" compile "$digits/model.onnx" -o "$T/gpu.sard" --device cpu -q
# wrong words are told before anything is looked for
on_none() { code "$1" 2 env SARD_CUDA=/nowhere/libcuda.so "${@:3}"; says "$1-text" err "there is no $2 .*known: "; }
on_none library-word library "$sard" run "$digits/model.onnx" --device cuda --library sometimes
on_none library-word-fallback library "$sard" run "$digits/model.onnx" --device cuda --fallback cpu --library sometimes
on_none library-word-artifact library "$rt" run "$T/gpu.sard" --device cuda --library sometimes
on_none fallback-word fallback "$sard" run "$digits/model.onnx" --device cuda --fallback gpu
on_none device-empty device "$sard" run "$digits/model.onnx" --device=
on_none device-inspect device "$sard" inspect "$digits/model.onnx" --device gpu
if "$sard" compile "$digits/model.onnx" -o "$T/gpu.sard" --device cuda:sm_90,sm_80 --json "$T/j" >"$T/out" 2>"$T/err"; then # NVRTC is here
  says device-table out '^cuda +sm_80, sm_90 by NVRTC'; json device-json "$T/j" "d['report']['cuda']['kernels'] > 0 and d['report']['cuda']['bytes'] > 1000"
  code device-artifact 0 "$sard" run "$T/gpu.sard" --inputs "$in" --expect "$in"
  code device-artifact-rt 0 "$rt" run "$T/gpu.sard" --inputs "$in" --expect "$in"
  cat >"$T/static.sard-ir" <<'END'
module
graph "main" (%0 "x": f32[3,4]) {
  %1 = Relu(%0)
  return %1
}
END
  code device-static 0 "$sard" compile "$T/static.sard-ir" -o "$T/gpu.sard" --device cuda:sm_80 -q
  code device-static-runs 0 "$rt" run "$T/gpu.sard" -q
  code device-old-arch 4 "$sard" compile "$digits/model.onnx" -o "$T/gpu.sard" --device cuda:sm_20; says device-old-arch-known err 'sm_80'
else
  says device-not-here err 'NVRTC'
fi

# ---- compare, doctor ----
code compare-levels 0 "$sard" compare "$resnet/model.onnx" --inputs "$resnet/test_data_set_0"; says compare-levels-passed out '^PASSED$'
code compare-exporters 0 "$sard" compare "$resnet/model.onnx" "$models/resnet50_op20_tiny/model.onnx"
code compare-artifact 0 "$sard" compare "$digits/model.onnx" "$T/d.sard"
code compare-isa 0 "$sard" compare "$digits/model.onnx" --a-isa baseline --b-isa host --json "$T/j"
[ "$(uname -m)" = x86_64 ] && json compare-json "$T/j" "d['passed'] and d['values']"
code compare-different 1 "$sard" compare "$models/mnist_lenet/model.onnx" "$models/mnist_resnet8/model.onnx"
code doctor 0 "$sard" doctor --json "$T/j"; says doctor-llvm out 'LLVM +[0-9]+'; json doctor-json "$T/j" "d['gflops'] > 0 and d['gbs'] > 0"

# ---- LLVM is asked for where something is compiled, and only there ----
code llvm-missing 4 env SARD_LLVM="$T/none.so" "$sard" run "$digits/model.onnx"; says llvm-missing-text err 'without LLVM'; says llvm-missing-hint err 'SARD_LLVM'
code llvm-older 4 env SARD_LLVM=libm.so.6 "$sard" run "$digits/model.onnx"; says llvm-older-text err 'has no function LLVM'
code llvm-artifact 0 env SARD_LLVM="$T/none.so" "$sard" run "$T/d.sard" --inputs "$in" --expect "$in"
code llvm-cache-filled 0 "$sard" run "$digits/model.onnx" --cache "$T/started" --inputs "$in"
code llvm-cached 0 env SARD_LLVM="$T/none.so" "$sard" run "$digits/model.onnx" --cache "$T/started" --inputs "$in" --expect "$in"
code llvm-doctor 1 env SARD_LLVM="$T/none.so" "$sard" doctor; says llvm-doctor-text out 'LLVM +not found'

# ---- what is shared is looked at once: a chain of squares has 2^40 paths ----
squares() { # FIRST: 40 values from it on, the last being FIRST + 40
  for ((i = $1; i < $1 + 40; i++)); do echo "  %$((i + 1)) = Mul(%$i, %$i)"; done
}
{
  echo 'module'
  echo 'graph "main" (%0 "x": f32[20,30,1], %1 "w": f32[1,30,40], %2 "s": f32[40]) {'
  echo '  %3 = const i64[1] dense<1>'
  echo '  %100 = Mul(%0, %1)'; squares 100; echo '  %150 = ReduceSum(%140, %3)'
  echo '  %4 = const i64[1] dense<2>'
  echo '  %200 = Neg(%1)'; squares 200; echo '  %250 = ReduceSum(%240, %4)'; echo '  %251 = Sub(%1, %250)'
  echo '  %300 = LayerNormalization(%1, %2, %2)'; squares 300
  printf '  return %%150, %%251, %%340\n}\n'
} >"$T/chain.sard-ir"
code long-chain 0 timeout 60 "$sard" compile "$T/chain.sard-ir" -o "$T/chain.sard" -q

# ---- the compile cache ----
python3 "$root/tests/cli/cache_cases.py" "$sard" "$digits/model.onnx" >"$T/cases" 2>"$T/err"
read -r p f < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$T/cases")
passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
[ "${f:-1}" = 0 ] || cat "$T/cases" "$T/err"

# ---- tune ----
code tune 0 "$sard" tune "$digits/model.onnx" --cache "$T/tuned" --time 1 --threads 1 --json "$T/j" -o "$T/tuned.sard"; says tune-text out 'trials made'
json tune-json "$T/j" "d['after_ms'] <= d['before_ms'] and 0 < d['trials'] <= d['next'] <= d['of']"
first=$(python3 -c "import json; print(json.load(open('$T/j'))['next'])")
code tune-again 0 "$sard" tune "$digits/model.onnx" --cache "$T/tuned" --time 1 --threads 1 --json "$T/j"
json tune-goes-on "$T/j" "d['next'] - d['trials'] == $first"
code tune-artifact 0 "$rt" run "$T/tuned.sard" --inputs "$in" --expect "$in"
code tune-used 0 "$sard" run "$digits/model.onnx" --cache "$T/tuned" --threads 1 --inputs "$in" --expect "$in" -v; says tune-cached err 'cache: hit'
code tune-no-place 7 "$sard" tune "$digits/model.onnx" --cache off --time 1; says tune-no-place-text err 'no place for what is found'
code tune-compiled 2 "$sard" tune "$T/d.sard" --time 1
timeout --preserve-status -s INT 0.5 "$sard" tune "$resnet/model.onnx" --cache "$T/tuned" --time 60 -q >"$T/out" 2>"$T/err"; rc=$?
if [ $rc = 130 ]; then ok tune-interrupt; else fail tune-interrupt "exit $rc"; fi

# ---- pipes and interrupts ----
"$sard" inspect "$resnet/model.onnx" --weights 2>"$T/err" | head -1 >"$T/out"; rc=${PIPESTATUS[0]}
if [ "$rc" = 0 ] && [ ! -s "$T/err" ]; then ok pipe-closed; else fail pipe-closed "exit $rc"; fi
timeout --preserve-status -s INT 2 "$sard" bench "$T/d.sard" --duration 60 --json "$T/int.json" >"$T/out" 2>"$T/err"; rc=$?
if [ $rc = 130 ] && [ "$(grep -c interrupted "$T/err")" = 1 ] && grep -q '"exit_code":130' "$T/int.json"; then ok interrupt-bench; else fail interrupt-bench "exit $rc"; fi
lost=0 # timeout sends the signal twice: to the process and to its group
for i in 1 2 3 4 5 6; do
  rm -f "$T/int.json"
  timeout --preserve-status -s INT 0.2 "$sard" bench "$T/d.sard" --duration 60 --json "$T/int.json" >"$T/out" 2>"$T/err"
  grep -q '"exit_code":130' "$T/int.json" || lost=$((lost + 1))
done
yes_if interrupt-twice-at-once test "$lost" = 0
for s in batch layer tensor; do # also between two of many short runs
  timeout --preserve-status -s INT 0.6 "$sard" bench "$digits/model.onnx" --devices cpu:0,cpu:1 --split $s --costs estimated --duration 60 >"$T/out" 2>"$T/err"; rc=$?
  if [ $rc = 130 ] && [ "$(grep -c interrupted "$T/err")" = 1 ]; then ok "interrupt-$s"; else fail "interrupt-$s" "exit $rc"; fi
done
big=$models/basic_pitch_nmp/model.onnx
timeout --preserve-status -s INT 0.05 "$sard" compile "$big" -o "$T/int.sard" >"$T/out" 2>"$T/err"; rc=$?
if [ $rc = 130 ] && [ ! -e "$T/int.sard" ]; then ok interrupt-compile; else fail interrupt-compile "exit $rc"; fi
yes_if interrupt-leaves-nothing test -z "$(find "$T" -name '*.tmp.*')"

# ---- runtime alone, install, examples ----
if ldd "$rt" >"$T/out" 2>&1 && ! grep -qvE 'linux-vdso|libc\.so|libm\.so|libpthread|ld-linux|libasan|libubsan|libtsan|libgcc' "$T/out"; then ok rt-depends-on-libc; else fail rt-depends-on-libc "other libraries"; fi
cp "$rt" "$T/rt" && strip "$T/rt" 2>/dev/null
size=$(stat -c %s "$T/rt")
if [ "$size" -lt 400000 ] || grep -q -E 'libasan|libtsan' "$T/out"; then ok rt-small; else fail rt-small "$size bytes stripped"; fi
code stripped-rt 0 "$T/rt" run "$T/d.sard" --inputs "$in" --expect "$in"
code install 0 cmake --install "$build" --prefix "$T/inst"
export PKG_CONFIG_PATH=$(dirname "$(find "$T/inst" -name sard-rt.pc)")
libdir=$(pkg-config --variable=libdir sard-rt)
sanitize=$(sed -n 's/^SARD_SANITIZE:[A-Z]*=//p' "$build/CMakeCache.txt")
flags="-std=c17 -Wall -Wextra -Werror -Wl,-rpath,$libdir ${sanitize:+-fsanitize=$sanitize}"
code example-jit-builds 0 cc "$root/docs/examples/jit.c" $flags $(pkg-config --cflags --libs sard) -o "$T/jit"
code example-artifact-builds 0 cc "$root/docs/examples/artifact.c" $flags $(pkg-config --cflags --libs sard-rt) -o "$T/artifact"
code example-threads-builds 0 cc "$root/docs/examples/threads.c" $flags $(pkg-config --cflags --libs sard-rt) -pthread -o "$T/threads"
code example-jit 0 "$T/jit" "$bert/model.onnx"; says example-jit-shape out 'last_hidden_state: 1 1 48'
code example-jit-error 1 "$T/jit" "$T/cut.onnx"
code example-artifact 0 "$T/artifact" "$T/d.sard" 4; says example-artifact-text out 'is the largest'
code example-artifact-onnx 1 "$T/artifact" "$digits/model.onnx"; says example-artifact-onnx-text err 'compile'
code example-threads 0 "$T/threads" "$T/d.sard"; says example-threads-text out '8 of 8 threads agree, 160 runs'
code static-rt 0 cc "$root/docs/examples/artifact.c" -std=c17 ${sanitize:+-fsanitize=$sanitize} $(pkg-config --cflags sard-rt) "$libdir/libsard_rt.a" -lm -lpthread -o "$T/static"
code static-rt-runs 0 "$T/static" "$T/d.sard"
code installed-sard 0 "$T/inst/bin/sard" run "$digits/model.onnx" --inputs "$in" --expect "$in"
printf '#include "sard/sard_compile.h"\nint main() { return sard_version() == 0; }\n' >"$T/x.cc"
if command -v c++ >/dev/null; then code header-in-cplusplus 0 c++ -Wall -Werror "$T/x.cc" $(pkg-config --cflags --libs sard) "-Wl,-rpath,$libdir" ${sanitize:+-fsanitize=$sanitize} -o "$T/x"; fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
