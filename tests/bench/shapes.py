#!/usr/bin/env python3
"""One artifact with symbolic dims against artifacts compiled for each size, in one process and in alternation.

  shapes.py MODEL --sizes batch=1..8 [--sizes seq=16..320:16] [--fix batch=1] [--threads 2] [--rounds 7] [--build build] [--kernels]
  shapes.py --models DIR      bert_base over 20 lengths and resnet50 over 8 batch sizes, as DIR/NAME/model.onnx

Prints for each size the least time of a run of both and their ratio, the worst ratio, and the memory of the process after each
pass over all sizes with the one artifact: it has to stay the same from the second pass on. --kernels: where a ratio is above
1.1, the nodes that take longer.
"""
import argparse, ctypes as C, json, os, subprocess, sys, tempfile, time

import report  # turns the compile cache off


class Desc(C.Structure):
    _fields_ = [("size", C.c_size_t), ("dtype", C.c_int32), ("rank", C.c_int32), ("dims", C.c_int64 * 16), ("strides", C.c_int64 * 16),
                ("name", C.c_char_p), ("symbols", C.c_char_p * 16), ("device", C.c_int32), ("device_id", C.c_int32)]


class Source(C.Structure):
    _fields_ = [("size", C.c_size_t), ("path", C.c_char_p), ("data", C.c_void_p), ("bytes", C.c_uint64), ("read_external", C.c_void_p), ("user", C.c_void_p)]


def library(build):
    lib = C.CDLL(os.path.join(build, "libsard_rt.so"))
    for name in ("sard_context_new", "sard_options_set", "sard_model_open", "sard_model_io", "sard_session_new", "sard_session_run", "sard_tensor_new"):
        getattr(lib, name).restype = C.c_void_p
    for name in ("sard_options_new", "sard_tensor_data", "sard_status_text"): getattr(lib, name).restype = C.c_void_p
    return lib


class Sard:
    """The runtime through its C API."""

    def __init__(self, build, threads):
        self.lib, self.ctx = library(build), C.c_void_p()
        options = C.c_void_p(self.lib.sard_options_new())
        self.ok(self.lib.sard_options_set(options, b"threads", str(threads).encode()))
        self.ok(self.lib.sard_context_new(options, C.byref(self.ctx)))

    def ok(self, status):
        if status: raise SystemExit(C.string_at(self.lib.sard_status_text(C.c_void_p(status), 0)).decode())

    def open(self, path):
        model, session, source = C.c_void_p(), C.c_void_p(), Source(C.sizeof(Source), path.encode())
        self.ok(self.lib.sard_model_open(self.ctx, C.byref(source), None, C.byref(model)))
        self.ok(self.lib.sard_session_new(model, None, C.byref(session)))
        return model, session

    def close(self, opened):
        self.lib.sard_session_free(opened[1])
        self.lib.sard_model_free(opened[0])

    def inputs(self, model, sizes):
        """Ones, for every input of the model, with the sizes of its symbols."""
        n = self.lib.sard_model_io_count(model, 0)
        tensors = (C.c_void_p * n)()
        for i in range(n):
            d = Desc(C.sizeof(Desc))
            self.ok(self.lib.sard_model_io(model, 0, i, C.byref(d)))
            count = 1
            for k in range(d.rank):
                if d.dims[k] < 0: d.dims[k] = sizes[d.symbols[k].decode()]
                count *= d.dims[k]
            t = C.c_void_p()
            self.ok(self.lib.sard_tensor_new(self.ctx, C.byref(d), C.byref(t)))
            kind = {1: C.c_float, 6: C.c_int32, 7: C.c_int64, 9: C.c_uint8, 11: C.c_double}[d.dtype]
            C.memmove(self.lib.sard_tensor_data(t, None), (kind * count)(*([1] * count)), count * C.sizeof(kind))
            tensors[i] = t
        return tensors

    def free(self, tensors):
        for t in tensors:
            if t: self.lib.sard_tensor_free(C.c_void_p(t))

    def run(self, opened, tensors):
        """Seconds of a run that makes its outputs."""
        n = self.lib.sard_model_io_count(opened[0], 1)
        out = (C.c_void_p * n)()
        begin = time.perf_counter()
        self.ok(self.lib.sard_session_run(opened[1], tensors, len(tensors), out, n))
        taken = time.perf_counter() - begin
        self.free(out)
        return taken


def memory_mb():
    return int(next(x for x in open("/proc/self/status") if x.startswith("VmRSS")).split()[1]) / 1024


def compile_model(a, model, dims, out):
    subprocess.run([f"{a.build}/sard", "compile", model, "-o", out, "-q"] + [x for k, v in dims.items() for x in ("--dim", f"{k}={v}")], check=True)
    return out


def slower_nodes(a, model, dims, general, exact):
    """Nodes of the general artifact that take longer than in the exact one, by name."""
    times = []
    for path, flags in ((general, dims), (exact, {})):
        with tempfile.NamedTemporaryFile(suffix=".json") as f:
            subprocess.run([f"{a.build}/sard", "bench", path, "--threads", str(a.threads), "--iterations", "10", "--warmup", "3", "--profile", "-q", "--json", f.name]
                           + [x for k, v in flags.items() for x in ("--dim", f"{k}={v}")], check=True)
            times.append({k["name"] or k["op"]: k for k in json.load(open(f.name))["kernels"]})
    rows = sorted(((k["time_us"] - times[1][n]["time_us"], n) for n, k in times[0].items() if n in times[1]), reverse=True)
    return [f"      {d:9.1f} us more: {n} ({times[0][n]['schedule']} / {times[1][n]['schedule']})" for d, n in rows[:6] if d > 0]


def measure(a, model, name, sizes, fixed):
    """Rows of (size, general ms, exact ms); prints them."""
    sard, rows = Sard(a.build, a.threads), []
    with tempfile.TemporaryDirectory() as work:
        general_path = compile_model(a, model, fixed, f"{work}/general.sard")
        general = sard.open(general_path)
        print(f"{model}: {name} of {sizes[0]} to {sizes[-1]}, {a.threads} threads\n{'size':>6} {'one ms':>9} {'own ms':>9} {'ratio':>6}")
        for size in sizes:
            exact_path = compile_model(a, model, dict(fixed, **{name: size}), f"{work}/exact.sard")
            exact, tensors = sard.open(exact_path), sard.inputs(general[0], {name: size})
            best = [1e9, 1e9]
            for k in range(2 + a.rounds):
                for i, m in enumerate((general, exact)):
                    t = sard.run(m, tensors)
                    if k >= 2: best[i] = min(best[i], t)
            sard.close(exact), sard.free(tensors)
            rows.append((size, best[0] * 1e3, best[1] * 1e3))
            print(f"{size:6} {best[0] * 1e3:9.3f} {best[1] * 1e3:9.3f} {best[0] / best[1]:6.3f}", flush=True)
            if a.kernels and best[0] > 1.1 * best[1]: print("\n".join(slower_nodes(a, model, dict(fixed, **{name: size}), general_path, exact_path)))
        passes = []
        for _ in range(3):
            for size in sizes:
                tensors = sard.inputs(general[0], {name: size})
                sard.run(general, tensors), sard.free(tensors)
            passes.append(memory_mb())
        sard.close(general)
    worst = max(rows, key=lambda r: r[1] / r[2])
    print(f"worst ratio {worst[1] / worst[2]:.3f} at {name}={worst[0]}; memory after each pass over all sizes: {', '.join(f'{x:.1f}' for x in passes)} MB\n")
    return worst[1] / worst[2]


def parse_sizes(text):
    name, _, numbers = text.partition("=")
    bounds, _, step = numbers.partition(":")
    if ".." in bounds:
        low, high = map(int, bounds.split(".."))
        return name, list(range(low, high + 1, int(step or 1)))
    return name, [int(x) for x in bounds.split(",")]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", nargs="?"), ap.add_argument("--models"), ap.add_argument("--sizes", action="append", default=[])
    ap.add_argument("--fix", action="append", default=[]), ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rounds", type=int, default=7), ap.add_argument("--build", default="build"), ap.add_argument("--kernels", action="store_true")
    a = ap.parse_args()
    jobs = [(a.model, *parse_sizes(s), {k: int(v) for k, v in (f.split("=") for f in a.fix)}) for s in a.sizes] if a.model else []
    if a.models:
        jobs += [(f"{a.models}/bert_base/model.onnx", "seq", list(range(16, 321, 16)), {"batch": 1}),
                 (f"{a.models}/resnet50/model.onnx", "batch", [1, 2, 3, 4, 6, 8, 12, 16], {})]
    if not jobs: ap.error("give MODEL and --sizes, or --models")
    for job in jobs: measure(a, *job)


if __name__ == "__main__": main()
