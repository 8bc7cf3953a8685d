#!/usr/bin/env python3
"""Sard against ONNX Runtime and OpenVINO on the same models, threads and inputs, in alternation.

  compare.py --models DIR[,DIR...] [--threads 1,2] [--rounds 3] [--seconds 2] [--batch N] [--isa avx2] [--sard build/sard]
             [--quantized] [--rows FILE] [--out docs/performance.md] [NAME...]

DIR holds NAME/model.onnx and NAME/test_data_set_0/input_i.pb, as ../shared/corpus/scripts/make_models.py makes them. The
peers are installed from pip into a scratch environment (--venv). Symbolic dims are fixed to the shapes of the inputs for
all three. Each round runs the three programs one after the other; the figure of each is its least median over the
rounds, so that a machine whose clock moves hits all alike. Prints a table and writes it with the machine's description.
--batch repeats the inputs along their first dim, where the model leaves that one open; other models are left out. --isa avx2
holds all three to AVX2 (the peers by hold_isa.c). --quantized takes the models with quantized nodes (QDQ, QOperator, dynamic,
MatMulNBits) and has a column with Sard's time for the same model in f32, where one of the folders has it. --rows keeps
what was measured, so that a long table can be made in parts: models that FILE has are not measured again.
"""
import argparse, json, math, os, platform, re, subprocess, tempfile

import report

PEER = r'''
import json, sys, time, os, resource
import numpy as np, onnx
from onnx import numpy_helper
kind, model, data, threads, seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
g = onnx.load(model, load_external_data=False).graph
init = {i.name for i in g.initializer}
names = [i.name for i in g.input if i.name not in init]
feeds = {}
for k, n in enumerate(names):
    t = onnx.TensorProto(); t.ParseFromString(open(f"{data}/input_{k}.pb", "rb").read()); feeds[n] = numpy_helper.to_array(t)
del g
if kind == "ort":
    import onnxruntime as ort
    so = ort.SessionOptions(); so.intra_op_num_threads = threads; so.inter_op_num_threads = 1; so.log_severity_level = 4
    s = ort.InferenceSession(model, so, providers=["CPUExecutionProvider"]); run = lambda: s.run(None, feeds)
else:
    import openvino as ov
    core = ov.Core(); m = core.read_model(model)
    m.reshape({n: list(feeds[n].shape) for n in names})
    c = core.compile_model(m, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    r = c.create_infer_request(); run = lambda: r.infer(feeds)
for _ in range(3): run()
ts, end = [], time.perf_counter() + seconds
while time.perf_counter() < end or len(ts) < 5:
    t = time.perf_counter(); run(); ts.append((time.perf_counter() - t) * 1e3)
ts.sort()
print(json.dumps({"median": ts[len(ts) // 2], "min": ts[0], "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
'''

# Inputs repeated along the first dim, if that is symbolic in every input; else exit code 9.
REPEAT = r'''
import sys, numpy as np, onnx
from onnx import numpy_helper
model, data, out, batch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
g = onnx.load(model, load_external_data=False).graph
init = {i.name for i in g.initializer}
inputs = [i for i in g.input if i.name not in init]
dims = [i.type.tensor_type.shape.dim for i in inputs]
if not all(d and d[0].dim_param for d in dims) or len({d[0].dim_param for d in dims}) != 1: sys.exit(9)
for k, i in enumerate(inputs):
    t = onnx.TensorProto(); t.ParseFromString(open(f"{data}/input_{k}.pb", "rb").read()); x = numpy_helper.to_array(t)
    x = np.concatenate([x] * -(-batch // x.shape[0]))[:batch]
    open(f"{out}/input_{k}.pb", "wb").write(numpy_helper.from_array(x, i.name).SerializeToString())
'''

# Exit code 0 if the model has quantized nodes.
QUANTIZED = r'''
import re, sys, onnx
g = onnx.load(sys.argv[1], load_external_data=False).graph
sys.exit(not any(re.match("QLinear|QGemm|Quantize|Dequantize|DynamicQuantize|MatMulNBits|.*Integer", n.op_type) for n in g.node))
'''

PYTHON_BASE = "import numpy, onnx, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"


def shapes_of(py, model, data):
    """--dim flags that fix the symbolic dims of the model to the shapes of its inputs."""
    code = ("import onnx, sys\nfrom onnx import numpy_helper\n"
            "g = onnx.load(sys.argv[1], load_external_data=False).graph\ninit = {i.name for i in g.initializer}\nd = {}\nk = 0\n"
            "for i in g.input:\n    if i.name in init: continue\n    t = onnx.TensorProto(); t.ParseFromString(open(f'{sys.argv[2]}/input_{k}.pb', 'rb').read()); k += 1\n"
            "    for axis, (a, b) in enumerate(zip(i.type.tensor_type.shape.dim, t.dims)):\n        if a.dim_param: d[f'{i.name}_d{axis}' if a.dim_param == '?' else a.dim_param] = b\n"
            "print(' '.join(f'{a}={b}' for a, b in d.items()))")
    out = subprocess.run([py, "-c", code, model, data], capture_output=True, text=True, check=True).stdout
    return [x for d in out.split() for x in ("--dim", d)]


def held(isa, scratch):
    """The environment that holds the peers to an instruction set, and that which holds Sard."""
    if not isa: return {}, {}
    if isa != "avx2": raise SystemExit("compare.py: the peers can be held to avx2 only")
    library = f"{scratch}/hold_isa.so"
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hold_isa.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    if subprocess.run(["true"], env=dict(os.environ, LD_PRELOAD=library)).returncode:
        raise SystemExit("compare.py: this machine cannot hold the peers to AVX2 (no CPUID faulting)")
    return {"LD_PRELOAD": library}, {"SARD_ISA": isa}


def sard(a, model, data, threads, dims):
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        p = subprocess.run([a.sard, "bench", model, "--inputs", data, "--threads", str(threads), "--warmup", "3", "--duration",
                            str(a.seconds), "--quiet", "--json", f.name] + dims, capture_output=True, text=True, env=dict(os.environ, **a.sard_env))
        if p.returncode: return None, p.stderr.strip()[:200]
        return json.load(open(f.name)), None


def folders(a):
    """{name: folder of the model}, first folders first."""
    found = {}
    for top in a.models.split(","):
        for d in sorted(os.listdir(top)):
            if os.path.exists(f"{top}/{d}/model.onnx"): found.setdefault(d, f"{top}/{d}")
    return found


def in_float(name, found):
    """The model that a quantized one was made from, by its name, or None."""
    twin = re.sub(r"_(qdq|qop|dynq|q4|q8)(_s8|_sym|_acc4)*", "", name)
    return next((found[t] for t in (twin, f"{twin}_kv", twin.replace("llama", "llama_kv")) if t != name and t in found), None)


def measure(a, py, folder, data, threads, dims, peer_env):
    """Least medians in ms of ort, ov and sard (1e9: did not run), and what each said last."""
    best, extra = {"ort": 1e9, "ov": 1e9, "sard": 1e9}, {}
    model = f"{folder}/model.onnx"
    for _ in range(a.rounds):
        s, err = sard(a, model, data, threads, dims)
        if s: best["sard"] = min(best["sard"], s["latency_ms"]["median"]); extra["sard"] = s
        else: extra["error"] = err
        for kind in ("ort", "ov"):
            p = subprocess.run([py, "-c", PEER, kind, model, data, str(threads), str(a.seconds)], capture_output=True, text=True,
                               env=dict(os.environ, **peer_env))
            if p.returncode == 0:
                r = json.loads(p.stdout); best[kind] = min(best[kind], r["median"]); extra[kind] = r
    return best, extra


def row_of(a, py, name, found, data, threads, peer_env, base):
    """One row of the table, as a dictionary."""
    best, extra = measure(a, py, found[name], data, threads, shapes_of(py, f"{found[name]}/model.onnx", data), peer_env)
    s = extra.get("sard", {})
    row = {"name": name, "threads": threads, **best, "ratio": min(best["ort"], best["ov"]) / best["sard"] if best["sard"] < 1e9 else 0,
           "compile": s.get("compile_ms", 0), "peak": s.get("peak_rss_mb", 0), "ort_peak": extra.get("ort", {}).get("rss", 0) - base,
           "error": extra.get("error")}
    twin = in_float(name, found) if a.quantized else None
    if twin:
        data = f"{twin}/test_data_set_0"
        times = [f["latency_ms"]["median"] for _ in range(a.rounds)
                 for f in [sard(a, f"{twin}/model.onnx", data, threads, shapes_of(py, f"{twin}/model.onnx", data))[0]] if f]
        row["float"] = min(times, default=0)
    return row


def ms(x): return "-" if not x or x >= 1e9 else f"{x:.2f}" if x >= 1 else f"{x:.4f}"


def table(a, rows):
    """The lines of the table and of its means."""
    extra = " our f32 | against our f32 |" if a.quantized else ""
    text = [f"| model | threads | ONNX Runtime | OpenVINO | Sard | against the better |{extra} compile ms | peak MB | ONNX Runtime peak MB over Python's own |",
            "|---|---|---|---|---|---|---|---|---|" + "---|---|" * a.quantized]
    for r in rows:
        own = r.get("float", 0)
        cells = [r["name"], str(r["threads"]), ms(r["ort"]), ms(r["ov"]), ms(r["sard"]), f"{r['ratio']:.2f}x"]
        if a.quantized: cells += [ms(own), f"{own / r['sard']:.2f}x" if own else "-"]
        text.append("| " + " | ".join(cells + [f"{r[k]:.0f}" for k in ("compile", "peak", "ort_peak")]) + " |")
    for t in sorted({r["threads"] for r in rows}):
        v = [r["ratio"] for r in rows if r["threads"] == t]
        ok = [x for x in v if x > 0]
        mean = math.exp(sum(map(math.log, ok)) / len(ok)) if ok else 0
        text.append(f"\nGeometric mean with {t} thread{'s' if t > 1 else ''}: {mean:.2f}x of the better peer ({len(ok)} of {len(v)} models; least {min(v):.2f}x).")
    return text


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("names", nargs="*"), ap.add_argument("--models", required=True), ap.add_argument("--threads", default="1,2")
    ap.add_argument("--batch", type=int, default=0), ap.add_argument("--isa", default="")
    ap.add_argument("--quantized", action="store_true"), ap.add_argument("--rows")
    ap.add_argument("--rounds", type=int, default=3), ap.add_argument("--seconds", type=float, default=2)
    ap.add_argument("--sard", default="build/sard"), ap.add_argument("--out"), ap.add_argument("--venv", default="/tmp/sard-peers")
    a = ap.parse_args()
    py = report.environment(a.venv, "onnxruntime", "openvino", "onnx", "numpy")
    scratch = tempfile.TemporaryDirectory()
    peer_env, a.sard_env = held(a.isa, scratch.name)
    base = float(subprocess.run([py, "-c", PYTHON_BASE], capture_output=True, text=True, check=True).stdout)
    found = folders(a)
    rows = [json.loads(line) for line in open(a.rows)] if a.rows and os.path.exists(a.rows) else []
    for name in a.names or sorted(found):
        missing = [t for t in map(int, a.threads.split(",")) if not any(r["name"] == name and r["threads"] == t for r in rows)]
        if not missing or a.quantized and subprocess.run([py, "-c", QUANTIZED, f"{found[name]}/model.onnx"]).returncode: continue
        data = f"{found[name]}/test_data_set_0"
        if a.batch:
            repeated = f"{scratch.name}/{name}"
            os.mkdir(repeated)
            if subprocess.run([py, "-c", REPEAT, f"{found[name]}/model.onnx", data, repeated, str(a.batch)]).returncode:
                print(f"{name:20} has no open batch")
                continue
            data = repeated
        for threads in missing:
            r = row_of(a, py, name, found, data, threads, peer_env, base)
            rows.append(r)
            if a.rows: open(a.rows, "a").write(json.dumps(r) + "\n")
            print(f"{name:20} {threads} ort {ms(r['ort']):>8}  ov {ms(r['ov']):>8}  sard {ms(r['sard']):>8}  {r['ratio']:5.2f}x  f32 {ms(r.get('float', 0)):>8}  {r['error'] or ''}", flush=True)
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    isa = next((r for r in [subprocess.run([a.sard, "version"], capture_output=True, text=True).stdout.strip()]), "")
    shapes = f"batch {a.batch}" if a.batch else "batch and shapes of the models' test inputs"
    text = [f"Machine: {cpu}, {os.cpu_count()} CPUs; {isa}. Least median of {a.rounds} alternating rounds of {a.seconds:g} s, ms, "
            f"{shapes}{', all held to ' + a.isa if a.isa else ''}.",
            "", *table(a, sorted(rows, key=lambda r: (r["name"], r["threads"])))]
    print("\n".join(text))
    if a.out:
        mark = " ".join(["quantized" if a.quantized else "table"] + [a.isa] * bool(a.isa))
        report.write(a.out, f"<!-- {mark} -->", ("Quantized models" if a.quantized else "Models") + f", all held to {a.isa}" * bool(a.isa), "\n".join(text))


if __name__ == "__main__": main()
