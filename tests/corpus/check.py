#!/usr/bin/env python3
"""Runs corpus cases with the sard program and compares with the recorded outputs.

  check.py SARD CORPUS [--list FILE] [--modes all|quick] [NAME...]

A case is a folder with model.onnx, meta.json (tolerances) and test_data_set_K/{input,output}_i.pb. Every case runs in
several modes: -O level, threads, instruction set, in memory, through a saved artifact, or as the graph that the passes
make for CUDA devices, which runs on processors too. "quick" also compares the bits that 1 to 4 threads give. Prints one line for each mode
that fails, and at the end `corpus: N passed, M failed` (one count per case and mode).
"""
import argparse, concurrent.futures, json, os, re, shutil, subprocess, sys, tempfile
import numpy as np

os.environ["SARD_CACHE"] = "off"  # neither use nor fill the user's
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
          10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64}


def varint(b, i):
    v = s = 0
    while True:
        v |= (b[i] & 127) << s
        s += 7
        i += 1
        if b[i - 1] < 128:
            return v, i


def read_tensor(path):
    """A TensorProto with raw_data or typed fields."""
    b = open(path, "rb").read()
    dims, dtype, raw, name, i, typed = [], 1, None, "", 0, []
    while i < len(b):
        key, i = varint(b, i)
        field, wire = key >> 3, key & 7
        if wire == 0:
            v, i = varint(b, i)
            if field == 1: dims.append(v)
            elif field == 2: dtype = v
            elif field in (5, 7, 11): typed.append(v)
        elif wire == 2:
            n, i = varint(b, i)
            part = b[i:i + n]
            i += n
            if field == 1:
                j = 0
                while j < n:
                    v, j = varint(part, j)
                    dims.append(v)
            elif field == 9: raw = part
            elif field == 8: name = part.decode()
            elif field == 4: typed = np.frombuffer(part, np.float32)
            elif field == 10: typed = np.frombuffer(part, np.float64)
            elif field in (5, 7, 11):
                j = 0
                while j < n:
                    v, j = varint(part, j)
                    typed.append(v - (1 << 64) if v >> 63 else v)
        elif wire == 5: i += 4
        elif wire == 1: i += 8
    t = DTYPES[dtype]
    a = np.frombuffer(raw, t) if raw is not None else np.array(typed).astype(t)
    return name, a.reshape(dims)


def compare(got, want, tol):
    """None when equal within the tolerance, else a text."""
    if got.shape != want.shape: return f"shape {got.shape} instead of {want.shape}"
    if got.dtype != want.dtype: return f"dtype {got.dtype} instead of {want.dtype}"
    if want.dtype.kind not in "fc":
        bad = int((got != want).sum())
        return f"{bad} of {want.size} differ" if bad else None
    w, g = want.astype(np.float64), got.astype(np.float64)
    k = np.isfinite(w)
    if not (np.isnan(w) == np.isnan(g)).all(): return "NaNs differ"
    r = np.abs(g - w)[k] / (tol["atol"] + tol["rtol"] * np.abs(w[k]))
    if r.size and not r.max() <= 1: return f"{r.max():.2f} times the tolerance"
    q = np.sqrt(((g - w)[k] ** 2).sum() / max((w[k] ** 2).sum(), 1e-30)) / tol["rel_rms"]
    return None if q <= 1 else f"{q:.2f} times the relative RMS tolerance"


def same_bits(sard, case, scratch):
    """Outputs are the same bytes with 1 to 4 threads and from run to run. It is compiled once: then the cache has it."""
    first = None
    for k, threads in enumerate((2, 2, 1, 3, 4)):
        out = f"{scratch}/bits{k}"
        p = subprocess.run([sard, "run", f"{case}/model.onnx", "--inputs", f"{case}/test_data_set_0", "--outputs", out, "--threads",
                            str(threads), "--quiet", "--cache", scratch + "/cache"], capture_output=True, text=True, timeout=600)
        if p.returncode: return f"{threads} threads: exit {p.returncode}: {p.stderr.strip()[:300]}"
        got = {f: open(f"{out}/{f}", "rb").read() for f in sorted(os.listdir(out))}
        if first is None: first = got
        differ = [f for f in first if got.get(f) != first[f]]
        if differ: return f"{differ[0]} of {threads} threads, run {k}, has other bits than that of 2 threads"
    return None


def compiled(sard, case, opt, form, env, scratch):
    """The artifact of a case, made once for all modes that differ in threads alone; text of a failure."""
    model, out = case + "/model.onnx", scratch + "/m.sard"
    if os.path.exists(out): return out, None
    steps = [[model, "-o", out]]
    if form == "cuda":
        steps = [[model, "-o", scratch + "/m.sard-ir", "--device=cuda", "--emit=ir", "--stop-after=fuse"],
                 [scratch + "/m.sard-ir", "-o", out, "--from-pass=memory"]]
    for step in steps:
        p = subprocess.run([sard, "compile"] + step + [f"-O{opt}", "--quiet"], env=env, capture_output=True, text=True, timeout=600)
        if p.returncode: return None, f"compile: exit {p.returncode}: {p.stderr.strip()[:300]}"
    return out, None


def run_case(sard, case, mode, scratch):
    """Text of the first failure, None when all data sets pass."""
    opt, threads, isa, form = mode
    env = dict(os.environ, SARD_ISA=isa) if isa else dict(os.environ)
    tol = json.load(open(case + "/meta.json"))["tolerance"]["outputs"]
    model = case + "/model.onnx"
    flags = ["--threads", str(threads), "--quiet"]
    if "jit" not in form:
        model, bad = compiled(sard, case, opt, form, env, scratch)
        if bad: return bad
    else:
        flags += [f"-O{opt}", "--cache", scratch + "/cache"]
    for data in sorted(d for d in os.listdir(case) if d.startswith("test_data_set_")):
        out = scratch + "/out"
        shutil.rmtree(out, ignore_errors=True)
        p = subprocess.run([sard, "run", model, "--inputs", f"{case}/{data}", "--outputs", out] + flags, env=env,
                           capture_output=True, text=True, timeout=600)
        if p.returncode: return f"exit {p.returncode}: {p.stderr.strip()[:300]}"
        for f in sorted(x for x in os.listdir(f"{case}/{data}") if x.startswith("output_")):
            name, want = read_tensor(f"{case}/{data}/{f}")
            try: bad = compare(read_tensor(f"{out}/{f}")[1], want, tol[name])
            except FileNotFoundError: bad = "not written"
            if bad: return f"{data} output '{name}': {bad}"
    return same_bits(sard, case, scratch) if form == "jit bits" else None


def isas():
    flags = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
    have = [""]
    if " avx2" in flags and " fma" in flags: have.append("avx2")
    if " avx512vl" in flags and " avx512dq" in flags: have.append("avx512")
    return have


def modes(kind):
    """Groups of modes that are compiled once each: (level, threads, instruction set, form)."""
    if kind == "quick": return [[(3, 2, "", "jit bits")]]
    if kind == "cuda": return [[(3, 2, "", "cuda")]]
    groups = [[(3, 2, "", "jit")], [(0, 1, "", "artifact")], [(3, 1, "", "artifact")], [(3, 2, "", "cuda")]]
    groups += [[(3, 2, isa, "artifact")] for isa in isas()[1:-1]]
    if kind != "all": return groups
    return [[mode, (mode[0], 3 - mode[1], mode[2], mode[3])] if mode[3] != "cuda" else [mode] for (mode,) in groups]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("sard"), ap.add_argument("corpus"), ap.add_argument("names", nargs="*")
    ap.add_argument("--list"), ap.add_argument("--modes", default="all", choices=["all", "some", "quick", "cuda"])
    a = ap.parse_args()
    names = a.names or (open(a.list).read().split() if a.list else
                        sorted(d for d in os.listdir(a.corpus) if os.path.exists(f"{a.corpus}/{d}/model.onnx")))
    runs = [(name, group) for name in names for group in modes(a.modes)]

    def outcome(name, mode, scratch):
        try: return run_case(a.sard, f"{a.corpus}/{name}", mode, scratch)
        except subprocess.TimeoutExpired: return "timeout"

    def check(run):
        with tempfile.TemporaryDirectory() as scratch:
            return [outcome(run[0], mode, scratch) for mode in run[1]]

    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, group), outcomes in zip(runs, pool.map(check, runs)):
            for mode, bad in zip(group, outcomes):
                label = f"{name} -O{mode[0]} threads={mode[1]} isa={mode[2] or 'best'} {mode[3]}"
                if bad: failed += 1; print(f"FAIL {label}: {bad}", flush=True)
                else: passed += 1
    print(f"corpus: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__": main()
