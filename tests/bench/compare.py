#!/usr/bin/env python3
"""Sard against ONNX Runtime and OpenVINO on the same models, threads and inputs, in alternation.

  compare.py --models DIR [--threads 1,2] [--rounds 3] [--seconds 2] [--batch N] [--isa avx2] [--sard build/sard]
             [--out docs/performance.md] [NAME...]

DIR holds NAME/model.onnx and NAME/test_data_set_0/input_i.pb, as ../shared/corpus/scripts/make_models.py makes them. The
peers are installed from pip into a scratch environment (--venv). Symbolic dims are fixed to the shapes of the inputs for
all three. Each round runs the three programs one after the other; the figure of each is its least median over the
rounds, so that a machine whose clock moves hits all alike. Prints a table and writes it with the machine's description.
--batch repeats the inputs along their first dim, where the model leaves that one open; other models are left out. --isa avx2
holds all three to AVX2 (the peers by hold_isa.c).
"""
import argparse, json, math, os, platform, subprocess, tempfile

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


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("names", nargs="*"), ap.add_argument("--models", required=True), ap.add_argument("--threads", default="1,2")
    ap.add_argument("--batch", type=int, default=0), ap.add_argument("--isa", default="")
    ap.add_argument("--rounds", type=int, default=3), ap.add_argument("--seconds", type=float, default=2)
    ap.add_argument("--sard", default="build/sard"), ap.add_argument("--out"), ap.add_argument("--venv", default="/tmp/sard-peers")
    a = ap.parse_args()
    py = report.environment(a.venv, "onnxruntime", "openvino", "onnx", "numpy")
    scratch = tempfile.TemporaryDirectory()
    peer_env, a.sard_env = held(a.isa, scratch.name)
    base = float(subprocess.run([py, "-c", PYTHON_BASE], capture_output=True, text=True, check=True).stdout)
    names = a.names or sorted(d for d in os.listdir(a.models) if os.path.exists(f"{a.models}/{d}/model.onnx"))
    rows, ratios = [], {}
    for name in names:
        model, data = f"{a.models}/{name}/model.onnx", f"{a.models}/{name}/test_data_set_0"
        if a.batch:
            repeated = f"{scratch.name}/{name}"
            os.mkdir(repeated)
            if subprocess.run([py, "-c", REPEAT, model, data, repeated, str(a.batch)]).returncode:
                print(f"{name:20} has no open batch")
                continue
            data = repeated
        dims = shapes_of(py, model, data)
        for threads in map(int, a.threads.split(",")):
            best, extra = {"ort": 1e9, "ov": 1e9, "sard": 1e9}, {}
            for _ in range(a.rounds):
                s, err = sard(a, model, data, threads, dims)
                if s: best["sard"] = min(best["sard"], s["latency_ms"]["median"]); extra["sard"] = s
                else: extra["error"] = err
                for kind in ("ort", "ov"):
                    p = subprocess.run([py, "-c", PEER, kind, model, data, str(threads), str(a.seconds)], capture_output=True, text=True,
                                       env=dict(os.environ, **peer_env))
                    if p.returncode == 0:
                        r = json.loads(p.stdout); best[kind] = min(best[kind], r["median"]); extra[kind] = r
            ratio = min(best["ort"], best["ov"]) / best["sard"] if best["sard"] < 1e9 else 0
            ratios.setdefault(threads, []).append(ratio)
            s = extra.get("sard", {})
            rows.append((name, threads, best["ort"], best["ov"], best["sard"], ratio, s.get("compile_ms", 0), s.get("peak_rss_mb", 0),
                         extra.get("ort", {}).get("rss", 0) - base))
            print(f"{name:20} {threads} ort {best['ort']:8.2f}  ov {best['ov']:8.2f}  sard {best['sard']:8.2f}  {ratio:5.2f}x  {extra.get('error') or ''}", flush=True)
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    isa = next((r for r in [subprocess.run([a.sard, "version"], capture_output=True, text=True).stdout.strip()]), "")
    shapes = f"batch {a.batch}" if a.batch else "batch and shapes of the models' test inputs"
    text = [f"Machine: {cpu}, {os.cpu_count()} CPUs; {isa}. Least median of {a.rounds} alternating rounds of {a.seconds:g} s, ms, "
            f"{shapes}{', all held to ' + a.isa if a.isa else ''}.",
            "", "| model | threads | ONNX Runtime | OpenVINO | Sard | against the better | compile ms | peak MB | ONNX Runtime peak MB over Python's own |", "|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        text.append(f"| {r[0]} | {r[1]} | {r[2]:.2f} | {r[3]:.2f} | {r[4]:.2f} | {r[5]:.2f}x | {r[6]:.0f} | {r[7]:.0f} | {r[8]:.0f} |")
    for t, v in ratios.items():
        ok = [x for x in v if x > 0]
        mean = math.exp(sum(map(math.log, ok)) / len(ok)) if ok else 0
        text.append(f"\nGeometric mean with {t} thread{'s' if t > 1 else ''}: {mean:.2f}x of the better peer ({len(ok)} of {len(v)} models; least {min(v):.2f}x).")
    print("\n".join(text))
    if a.out:
        report.write(a.out, "<!-- table -->", "Models", "\n".join(text))


if __name__ == "__main__": main()
