#!/usr/bin/env python3
"""What quantization costs and gains on trained models with test sets: the table of docs/compression.md.
  compress.py SARD CORPUS [CASE...]    needs numpy; --json FILE writes the numbers, too
For each case: the metric of the float model on all samples, then of every way to quantize it, with the size of the file and the
time of a run on one thread beside the float model's, both measured in turn by sard quantize."""
import json, os, subprocess, sys, tempfile

WAYS = {
    "static": ["--mode", "static"],
    "dynamic": ["--mode", "dynamic"],
    "weights i8": ["--mode", "weights"],
    "weights i4": ["--weights", "i4"],
    "weights i4 gptq": ["--weights", "i4", "--rounding", "gptq"],
}
METRIC = {"perplexity": "ppl", "ctc_exact": "ctc"}


def sard(program, *args):
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        r = subprocess.run([program, *args, "--json", f.name], capture_output=True, text=True, env={**os.environ, "SARD_CACHE": "off"})
        text = open(f.name).read()
        return r.returncode, json.loads(text) if text else {}, r.stderr


def value(metric, v):
    return f"{v:.4g}" if metric in ("ppl", "r2") else f"{100 * v:.2f} %"


def case(program, d, rows):
    how = json.load(open(f"{d}/accuracy.json"))
    metric = METRIC.get(how["metric"], how["metric"])
    judge = ["--data", f"{d}/accuracy.npz", "--metric", metric] + (["--ignore", str(how["ignore"])] if "ignore" in how else [])
    code, j, text = sard(program, "eval", f"{d}/model.onnx", *judge)
    name, size = os.path.basename(d), os.path.getsize(f"{d}/model.onnx")
    if code: return print(f"| {name} | {text.splitlines()[0]} |")
    print(f"| {name} | float | {value(metric, j['value'])} | | {size / 1e6:.3g} | |", flush=True)
    rows.append({"case": name, "way": "float", "metric": metric, "value": j["value"], "bytes": size})
    for way, args in WAYS.items():
        with tempfile.TemporaryDirectory() as t:
            out = f"{t}/m.onnx"
            code, j, text = sard(program, "quantize", f"{d}/model.onnx", "-o", out, *args, *judge[:2], "--must-be-faster", "no", "--threads", "1")
            if code:
                why = next((l for l in text.splitlines() if "error" in l or "not written" in l), text)
                print(f"| | {way} | {why.split('error: ')[-1][:80]} | | | |", flush=True)
                if "nothing can be" in why or "quantized already" in why: return
                continue
            code, e, text = sard(program, "eval", out, *judge, "--baseline", f"{d}/model.onnx")
            speed = j["ms_before"] / j["ms_after"]
            print(f"| | {way} | {value(metric, e['value'])} | {value(metric, e['drop'])} (up to {value(metric, e['drop_bound'])}) | {os.path.getsize(out) / 1e6:.3g} | {speed:.2f} |", flush=True)
            rows.append({"case": name, "way": way, "metric": metric, "value": e["value"], "drop": e["drop"], "bytes": os.path.getsize(out), "speed": speed})


def main():
    args = sys.argv[1:]
    out = args.pop(args.index("--json") + 1) if "--json" in args else None
    args = [a for a in args if a != "--json"]
    program, corpus, cases = args[0], args[1], args[2:]
    rows = []
    print("| model | way | metric | drop (95 %) | MB | speed |\n|---|---|---|---|---|---|")
    for name in cases or sorted(os.listdir(corpus)):
        if os.path.exists(f"{corpus}/{name}/accuracy.json"): case(program, f"{corpus}/{name}", rows)
    if out: json.dump(rows, open(out, "w"), indent=1)


main()
