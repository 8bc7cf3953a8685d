#!/usr/bin/env python3
"""What compression costs and gains on trained models with test sets: the tables of docs/compression.md.
  compress.py SARD CORPUS [--table quantize|speed|float8|prune] [--isa SET,...] [--batch N] [CASE...]    --json FILE writes the numbers, too
quantize (the usual one), float8: the metric of the float model and of every way to quantize it, with the sizes of the files.
speed: static int8, the float model's time of a run over its own, on one thread, for each instruction set ("default": that of the machine); the
least of three measurements of each, in which sard quantize runs both in turn. For an idle machine.
prune: what patterns drop on samples that were not fitted to."""
import argparse, json, os, subprocess, tempfile

WAYS = {
    "static": ["--mode", "static"],
    "dynamic": ["--mode", "dynamic"],
    "weights i8": ["--mode", "weights"],
    "weights i4": ["--weights", "i4"],
    "weights i4 gptq": ["--weights", "i4", "--rounding", "gptq"],
}
FLOAT8 = {f"{kind} {mode}": ["--weights", kind, "--mode", mode] for kind in ("f8e4m3fn", "f8e5m2") for mode in ("weights", "static")}
PATTERNS = ["unstructured:0.3", "unstructured:0.5", "unstructured:0.7", "unstructured:0.8", "2:4", "4:8", "block16x1:0.5", "channels:0.25", "channels:0.5", "heads:0.25"]
ROUNDS = 3
METRIC = {"perplexity": "ppl", "ctc_exact": "ctc"}


def sard(program, *args, isa=None):
    env = {**os.environ, "SARD_CACHE": "off", **({"SARD_ISA": isa} if isa not in (None, "default") else {})}
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        r = subprocess.run([program, *args, "--json", f.name], capture_output=True, text=True, env=env)
        text = open(f.name).read()
        return r.returncode, json.loads(text) if text else {}, r.stderr


def value(metric, v):
    return f"{v:.4g}" if metric in ("ppl", "r2") else f"{100 * v:.2f} %"


def judge_of(d):
    how = json.load(open(f"{d}/accuracy.json"))
    metric = METRIC.get(how["metric"], how["metric"])
    return metric, ["--data", f"{d}/accuracy.npz", "--metric", metric] + (["--ignore", str(how["ignore"])] if "ignore" in how else [])


def why_not(text):
    return next((l for l in text.splitlines() if "error" in l or "not written" in l), text).split("error: ")[-1][:80]


def speed(program, d, rows, isas, batch):
    """Models that are quantized already, or have nothing to quantize, have no row."""
    data, cells = judge_of(d)[1][:2], []
    for isa in isas:
        least = [float("inf")] * 2
        with tempfile.TemporaryDirectory() as t:
            for _ in range(ROUNDS):
                code, j, text = sard(program, "quantize", f"{d}/model.onnx", "-o", f"{t}/m.onnx", "--mode", "static", *data, "--batch", batch, "--must-be-faster", "no", "--threads", "1", isa=isa)
                if code: return
                least = [min(a, j[k]) for a, k in zip(least, ("ms_before", "ms_after"))]
        cells.append(f"{least[0]:.4g} / {least[1]:.4g} = {least[0] / least[1]:.2f}")
        rows.append({"case": os.path.basename(d), "isa": isa, "ms_before": least[0], "ms_after": least[1]})
    print(f"| {os.path.basename(d)} | {' | '.join(cells)} |", flush=True)


def prune(program, d, rows):
    cells, judge = [], judge_of(d)[1]
    for pattern in PATTERNS:
        with tempfile.TemporaryDirectory() as t:
            code, j, text = sard(program, "prune", f"{d}/model.onnx", "-o", f"{t}/m.onnx", "--pattern", pattern, *judge)
        unit = 1 if judge[3] in ("ppl", "r2") else 100
        cells.append(f"{unit * j['drop']:.2f} ({unit * j['drop_bound']:.2f})" if code == 0 else "" if code == 4 else why_not(text))
        if code == 0: rows.append({"case": os.path.basename(d), "pattern": pattern, "value": j["value_after"], "drop": j["drop"], "bound": j["drop_bound"], "left": j["parameters_after"] / j["parameters"]})
    if any(cells): print(f"| {os.path.basename(d)} | {' | '.join(cells)} |", flush=True)


def quantize(program, d, rows, ways):
    """Scored on samples that did not serve for calibration, if they are as many."""
    metric, judge = judge_of(d)
    name, size = os.path.basename(d), os.path.getsize(f"{d}/model.onnx")
    for way, args in ways.items():
        with tempfile.TemporaryDirectory() as t:
            out = f"{t}/m.onnx"
            code, j, text = sard(program, "quantize", f"{d}/model.onnx", "-o", out, *args, *judge, "--must-be-faster", "no")
            if "nothing can be" in text or "quantized already" in text: return
            if code:
                print(f"| {name} | {way} | {why_not(text)} | | |", flush=True)
                continue
            before, after, drop, bound = (value(metric, j[k]) for k in ("value_before", "value_after", "drop", "drop_bound"))
            print(f"| {name} | {way} | {before}, {after} | {drop} (up to {bound}) | {size / 1e6:.3g}, {os.path.getsize(out) / 1e6:.3g} |", flush=True)
            rows.append({"case": name, "way": way, "metric": metric, **{k: j[k] for k in ("value_before", "value_after", "drop", "drop_bound", "size_before", "size_after", "judged_samples")}})


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("program"), p.add_argument("corpus"), p.add_argument("cases", nargs="*")
    p.add_argument("--table", default="quantize", choices=("quantize", "speed", "float8", "prune"))
    p.add_argument("--isa", default="default,avx512vnni,avx2"), p.add_argument("--batch", default="16"), p.add_argument("--json")
    a = p.parse_intermixed_args()
    rows, out, isas = [], a.json, a.isa.split(",")
    columns = {"speed": ["model", *isas], "prune": ["model", *PATTERNS]}.get(a.table, ["model", "way", "float, quantized", "drop (95 %)", "MB"])
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in a.cases or sorted(os.listdir(a.corpus)):
        d = f"{a.corpus}/{name}"
        if not os.path.exists(f"{d}/accuracy.json"): continue
        if a.table == "speed": speed(a.program, d, rows, isas, a.batch)
        elif a.table == "prune": prune(a.program, d, rows)
        else: quantize(a.program, d, rows, FLOAT8 if a.table == "float8" else WAYS)
    if out: json.dump(rows, open(out, "w"), indent=1)


main()
