#!/usr/bin/env python3
"""Single operators: Sard against ONNX Runtime on models of one node, in alternation.

  operators.py [--threads 1,2] [--rounds 2] [--seconds 0.2] [--figure median|min] [--sard build/sard] [--out docs/performance.md]
               [PATTERN...]

The models are made by operator_models.py in three sizes each. ONNX Runtime is installed from pip into a scratch
environment (--venv) and measured through `InferenceSession.run` with its inputs made before; Sard through `sard bench`.
Both get the same number of threads; nothing is subtracted from either. The figure of each is the least median over the
rounds, or with --figure=min the least time of a run, for machines on which other programs run. Rows that Sard does not compile yet are printed with the reason. With --out the table replaces the one in the
file; prints the rows below 0.8x last.
"""
import argparse, json, math, os, re, subprocess, sys, tempfile

import report

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "<!-- operators -->"
SIZES = ("small", "medium", "large")


def peer():
    """The other side of the pipe, inside the scratch environment: makes a row's model, then measures it when asked."""
    import time
    import numpy as np, onnx, onnxruntime as ort
    from onnx import numpy_helper
    sys.path.insert(0, HERE)
    import operator_models as models
    print(json.dumps(list(models.ROWS)), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "make":
                m, feeds = models.ROWS[order["row"]](order["size"])
                os.makedirs(order["dir"], exist_ok=True)
                onnx.save(m, order["dir"] + "/model.onnx")
                for i, v in enumerate(feeds.values()):
                    open(f"{order['dir']}/input_{i}.pb", "wb").write(numpy_helper.from_array(v).SerializeToString())
                print(json.dumps({}), flush=True)
                continue
            so = ort.SessionOptions()
            so.intra_op_num_threads, so.inter_op_num_threads, so.log_severity_level = order["threads"], 1, 4
            s = ort.InferenceSession(order["dir"] + "/model.onnx", so, providers=["CPUExecutionProvider"])
            for _ in range(3): s.run(None, feeds)
            ts, end = [], time.perf_counter() + order["seconds"]
            while time.perf_counter() < end or len(ts) < 3:
                t = time.perf_counter()
                s.run(None, feeds)
                ts.append((time.perf_counter() - t) * 1e3)
            del s  # its threads would spin beside the next program
            print(json.dumps({"median": sorted(ts)[len(ts) // 2], "min": min(ts)}), flush=True)
        except Exception as e:
            print(json.dumps({"error": str(e).strip().split("\n")[0][:160]}), flush=True)


def sard(a, d, threads):
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        p = subprocess.run([a.sard, "bench", d + "/model.onnx", "--inputs", d, "--threads", str(threads), "--warmup", "3", "--duration",
                            str(a.seconds), "--quiet", "--json", f.name], capture_output=True, text=True)
        if p.returncode: return {"error": (p.stderr.strip().split("\n") or [""])[0][:160]}
        return json.load(open(f.name))["latency_ms"]


def measure(a, ask, d, threads):
    best, error = {"ort": math.inf, "sard": math.inf}, {}
    for _ in range(a.rounds):
        for who in ("sard", "ort"):
            r = sard(a, d, threads) if who == "sard" else ask({"do": "run", "dir": d, "threads": threads, "seconds": a.seconds})
            if "error" in r: error[who] = r["error"]
            else: best[who] = min(best[who], r[a.figure])
        if error: break
    return best, error


def number(x): return f"{x:.4f}" if x < 0.1 else f"{x:.3f}" if x < 10 else f"{x:.1f}"


def table(rows, a):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    version = subprocess.run([a.sard, "version"], capture_output=True, text=True).stdout.strip().split("\n")[0]
    figure = "Least median" if a.figure == "median" else "Least time"
    out = [f"Machine: {cpu}, {os.cpu_count()} CPUs; {version}. {figure} of {a.rounds} alternating rounds of {a.seconds:g} s, ms.", ""]
    for threads in a.counts:
        mine = {k: v for k, v in rows.items() if k[2] == threads}
        if not mine: continue
        out += [f"With {threads} thread{'s' if threads > 1 else ''}, ONNX Runtime / Sard (ratio):", "", "| operator | small | medium | large |", "|---|---|---|---|"]
        for name in dict.fromkeys(k[0] for k in mine):
            cells = []
            for size in range(3):
                best, error = mine.get((name, size, threads), ({}, {"": ""}))
                cells.append("-" if error else f"{number(best['ort'])} / {number(best['sard'])} ({best['ort'] / best['sard']:.2f}x)")
            out.append(f"| {name} | {' | '.join(cells)} |")
        good = [b["ort"] / b["sard"] for b, e in mine.values() if not e]
        if good:
            mean = math.exp(sum(map(math.log, good)) / len(good))
            out.append(f"\nGeometric mean {mean:.2f}x of {len(good)} cases, {sum(x < 0.8 for x in good)} below 0.8x, {len(mine) - len(good)} not measured.\n")
    return "\n".join(out)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("patterns", nargs="*"), ap.add_argument("--threads", default="1,2"), ap.add_argument("--rounds", type=int, default=2)
    ap.add_argument("--seconds", type=float, default=0.2), ap.add_argument("--sard", default="build/sard"), ap.add_argument("--out")
    ap.add_argument("--venv", default="/tmp/sard-peers"), ap.add_argument("--peer", action="store_true"), ap.add_argument("--sizes", default="0,1,2")
    ap.add_argument("--figure", choices=("median", "min"), default="median"), ap.add_argument("--dir", help="where the models are kept")
    a = ap.parse_args()
    if a.peer: return peer()
    a.counts = [int(x) for x in a.threads.split(",")]
    p = subprocess.Popen([report.environment(a.venv, "onnxruntime", "onnx", "numpy"), os.path.abspath(__file__), "--peer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    names, rows = json.loads(p.stdout.readline()), {}

    def ask(order):
        p.stdin.write(json.dumps(order) + "\n")
        p.stdin.flush()
        return json.loads(p.stdout.readline())
    with tempfile.TemporaryDirectory() as scratch:
        for name in [n for n in names if not a.patterns or any(re.search(q, n) for q in a.patterns)]:
            for size in map(int, a.sizes.split(",")):
                d = os.path.join(a.dir or scratch, re.sub(r"\W+", "_", name), SIZES[size]) if a.dir else os.path.join(scratch, "case")
                for f in os.listdir(d) if os.path.isdir(d) else []: os.remove(os.path.join(d, f))
                made = ask({"do": "make", "row": name, "size": size, "dir": d})
                for threads in a.counts:
                    best, error = measure(a, ask, d, threads) if "error" not in made else ({}, made)
                    rows[name, size, threads] = best, error
                    text = "  ".join(f"{k}: {v}" for k, v in error.items()) or f"ort {number(best['ort']):>9}  sard {number(best['sard']):>9}  {best['ort'] / best['sard']:6.2f}x"
                    print(f"{name:34} {SIZES[size]:6} {threads}  {text}", flush=True)
    p.stdin.close()
    text = table(rows, a)
    low = sorted((b["ort"] / b["sard"], k) for k, (b, e) in rows.items() if not e and b["ort"] < 0.8 * b["sard"])
    for x, k in low: print(f"below 0.8: {x:5.2f}x  {k[0]}, {SIZES[k[1]]}, {k[2]} thread{'s' if k[2] > 1 else ''}")
    print(text.strip().split("\n")[-1])
    if a.out: report.write(a.out, MARK, "Single operators", text)


if __name__ == "__main__": main()
