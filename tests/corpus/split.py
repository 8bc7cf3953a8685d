"""Models split over several devices, by the batch and in parts, give the bits of one device; those that cannot be split say which node is in the way.
Models whose tensors are cut give the expected outputs within their tolerance.

usage: split.py SARD CORPUS [MODEL...]   prints a line for each failure and, last, "N passed, N failed"
"""
import filecmp
import json
import os
import subprocess
import sys
import tempfile

from check import compare, read_tensor

# Models whose batch can be split, with every kind of rule: convolutions, attention with caches, recurrences, trees, gathers, masks that are
# read by positions, an axis of sequence, batch and heads.
SPLIT = ["digits_mlp", "mnist_resnet8", "mnist_resnet8_qdq", "gpt2_kv_tiny", "llama_op23_tiny", "lstm_lm_tiny", "gru_tagger_tiny",
         "dlrm_tiny", "skl_wine_rf", "wav2vec2_tiny", "unet_tiny", "resnet50_tiny", "bert_base_tiny", "bert_base_sdpa_op20_tiny", "vit_b_16_tiny"]
OTHER = {"wav2vec2_tiny": ["samples=1600"], "unet_tiny": ["h=32", "w=32"], "gpt2_kv_tiny": ["seq=2", "past=3"]}  # dims
REFUSED = {"bert_base_dynq_tiny": "DynamicQuantizeLinear", "vit_timm_op23_tiny": "no input leaves", "loop_decode_tiny": "sard.While"}
SIZES = {2: 5, 3: 7, 4: 3}  # devices: batch
# Models in parts: shortcuts, branches and loops, sizes from data, caches, constants that several parts read, strings, sequences.
PARTS = {"mnist_resnet8": 2, "resnet50_qdq_tiny": 3, "unet_tiny": 4, "gpt2_kv_tiny": 4, "t5_decoder_tiny": 3, "whisper_decoder_tiny": 2,
         "bert_base_dynq_tiny": 3, "loop_decode_tiny": 2, "ssdlite_tiny": 4, "fasterrcnn_tiny": 3, "llama_moe_tiny": 4, "lstm_lm_tiny": 2, "text_source": 2,
         "silero_vad_v6_fw": 3, "skl_wine_rf": 2, "dlrm_tiny": 3, "magika_v3_3": 4,
         "layout_cdla_picodet": 3}
# Models whose tensors are cut, and products that have to be: attention, shared heads of keys, q, k and v of one product, weights of 4 bits,
# convolutions, groups of channels, experts, integers, branches and loops, numbers of heads and channels that the devices do not divide.
TENSORS = {"gpt2_kv_tiny": (4, 13), "llama_op23_tiny": (3, 15), "llama_moe_tiny": (2, 11), "bert_base_tiny": (3, 17), "bert_base_dynq_tiny": (2, 17),
           "whisper_decoder_tiny": (4, 29), "mnist_resnet8_qdq": (3, 8), "densenet121_tiny": (2, 19), "austen_charlstm": (2, 3),
           "loop_decode_tiny": (2, 0), "fasterrcnn_tiny": (2, 7), "text_source": (2, 17), "unet_tiny": (4, 12), "gpt2_tiny": (2, 13), "llama_q4_tiny": (2, 19),
           "llama_gqa_contrib_tiny": (2, 17), "swin_t_tiny": (2, 23), "bert_base_ortfused_tiny": (4, 11), "mobilenet_v2_tiny": (3, 7)}


def run(sard, *words):
    return subprocess.run([sard, *map(str, words), "-q"], capture_output=True, text=True, env=dict(os.environ, SARD_CACHE="off"))


def batch_flag(sard, path):
    inputs = json.loads(run(sard, "inspect", path, "--io", "--json", "-").stdout)["inputs"]
    return inputs[0]["type"].split("[")[1].split(",")[0].rstrip("]")


def same_files(one, many):
    for file in os.listdir(one):
        if not filecmp.cmp(os.path.join(one, file), os.path.join(many, file), shallow=False):
            return f"{file} differs"
    return None


def check(sard, path, where, other):
    art = os.path.join(where, "m.sard")
    made = run(sard, "compile", path, "-o", art)
    if made.returncode:
        return made.stderr
    name = batch_flag(sard, path)
    for n, batch in SIZES.items():
        one, many = os.path.join(where, f"one{n}"), os.path.join(where, f"many{n}")
        flags = ["--threads", 1]
        for dim in [f"{name}={batch}", *other]:
            flags += ["--dim", dim]
        devices = ",".join(f"cpu:{i}" for i in range(n))
        for out, more in ((one, []), (many, ["--devices", devices, "--split", "batch"])):
            done = run(sard, "run", art, *flags, "--outputs", out, *more)
            if done.returncode:
                return f"{n} devices, batch {batch}: {done.stderr.strip()}"
        wrong = same_files(one, many)
        if wrong:
            return f"{n} devices, batch {batch}: {wrong}"
    return None


def check_parts(sard, model, path, where, n):
    one, many, whole, art = (os.path.join(where, x) for x in ("one", "many", "whole.sard", "m.sard"))
    flags = ["--threads", 1]
    for dim in OTHER.get(model, []):
        flags += ["--dim", dim]
    devices = ",".join(f"cpu:{i}" for i in range(n))
    for words in (["compile", path, "-o", whole], ["run", whole, *flags, "--outputs", one], ["compile", path, "--devices", devices, "--split", "layer", "--costs", "estimated", "-o", art],
                  ["run", art, *flags, "--outputs", many]):
        done = run(sard, *words)
        if done.returncode:
            return f"{n} parts: {words[0]}: {done.stderr.strip()}"
    return same_files(one, many)


def check_tensors(sard, path, where, n, least):
    case, art, report, out = os.path.dirname(path), *(os.path.join(where, x) for x in ("m.sard", "report.json", "out"))
    tolerance = json.load(open(case + "/meta.json"))["tolerance"]["outputs"]
    devices = ",".join(f"cpu:{i}" for i in range(n))
    for words in (["compile", path, "--devices", devices, "--split", "tensor", "--costs", "estimated", "-o", art, "--json", report],
                  ["run", art, "--threads", 1, "--inputs", case + "/test_data_set_0", "--outputs", out]):
        done = run(sard, *words)
        if done.returncode:
            return f"{n} parts: {words[0]}: {done.stderr.strip()}"
    nodes = json.load(open(report))["report"].get("tensor", {}).get("nodes", [])
    cut = sum(x["cut"] for x in nodes)
    if cut < least:
        return f"{n} parts: {cut} products are cut, not {least}: {[x for x in nodes if not x['cut']]}"
    for file in sorted(x for x in os.listdir(case + "/test_data_set_0") if x.startswith("output_")):
        name, want = read_tensor(f"{case}/test_data_set_0/{file}")
        wrong = compare(read_tensor(f"{out}/{file}")[1], want, tolerance[name])
        if wrong:
            return f"{n} parts: output '{name}': {wrong}"
    return None


def main():
    sard, corpus, only = sys.argv[1], sys.argv[2], sys.argv[3:]
    passed = failed = 0

    def each(models, judge):
        nonlocal passed, failed
        for model in models:
            path = os.path.join(corpus, model, "model.onnx")
            if not os.path.exists(path) or (only and model not in only):
                continue
            with tempfile.TemporaryDirectory() as where:
                wrong = judge(model, path, where)
            passed, failed = passed + (not wrong), failed + bool(wrong)
            if wrong:
                print(f"FAIL {model}: {wrong}")

    def refused(model, path, where):
        done = run(sard, "run", path, "--devices", "cpu:0,cpu:1", "--split", "batch")
        return None if done.returncode == 4 and REFUSED[model] in done.stderr else f"exit {done.returncode}: {done.stderr}"

    each(SPLIT, lambda model, path, where: check(sard, path, where, OTHER.get(model, [])))
    each(REFUSED, refused)
    each(PARTS, lambda model, path, where: check_parts(sard, model, path, where, PARTS[model]))
    each(TENSORS, lambda model, path, where: check_tensors(sard, path, where, *TENSORS[model]))
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
