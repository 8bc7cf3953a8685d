#!/usr/bin/env python3
"""Hostile cases against the command line: each has to end soon with a clear error, the right exit code and no output file.

    hostile.py SARD SARD_RT [NAME...]
"""
import os, pathlib, random as random_numbers, re, signal, struct, subprocess, sys, tempfile

import make_bad

LIMIT_S = 60
BUGS = ("AddressSanitizer", "UndefinedBehavior", "runtime error:", "LeakSanitizer", "this is a bug in Sard", "Assertion")


def finish(words, folder, **more):
    try:
        return subprocess.run([str(w) for w in words], cwd=folder, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, **more)
    except subprocess.TimeoutExpired:
        return None


def judge(done, codes, words):
    """What is wrong, None when all is right. codes None: success is right as well."""
    if done is None:
        return f"still running after {LIMIT_S} s"
    if done.returncode < 0:
        return f"killed by signal {signal.Signals(-done.returncode).name}: {done.stderr[-600:]}"
    for bug in BUGS:
        if bug in done.stderr:
            return done.stderr[-1500:]
    if codes is None and done.returncode == 0:
        return None
    if done.returncode not in (codes or (3, 4, 6)):
        return f"exit code {done.returncode}, not one of {codes}: {done.stderr.strip()[-300:]}"
    if "sard" not in done.stderr or "error:" not in done.stderr:
        return f"no error message: {done.stderr!r}"
    if words and not any(w in done.stderr for w in words):
        return f"the message says nothing of {words}: {done.stderr.strip()[:300]}"
    return None


class Tests:
    def __init__(self, sard, sard_rt, folder, names):
        self.sard, self.rt, self.dir, self.names = sard, sard_rt, folder, names
        self.passed = self.failed = 0

    def wanted(self, name):
        return not self.names or any(n in name for n in self.names)

    def count(self, name, bad):
        self.passed, self.failed = self.passed + (not bad), self.failed + bool(bad)
        print(f"FAIL hostile/{name}: {bad}" if bad else f"ok hostile/{name}", flush=True)

    def check(self, name, codes, words, *command, **more):
        if self.wanted(name):
            self.count(name, judge(finish(command, self.dir, **more), codes, words))

    def models(self):
        for name, (_, words) in make_bad.MODELS.items():
            if not self.wanted(f"model/{name}"):
                continue
            out = self.dir / f"{name}.out.sard"
            path = self.dir / "bad" / f"{name}.onnx"
            codes = None if words is None else (3, 4, 6, 7) if name.startswith("external") else (3, 4, 6)
            done = finish([self.sard, "compile", path, "-o", out, "-q"], self.dir)
            bad = judge(done, codes, words)
            if not bad and done.returncode and list(self.dir.glob(f"{name}.out.sard*")):
                bad = "an output file was left"
            if not bad and done.returncode == 0 and name != "chain_100000":
                bad = judge(finish([self.sard, "run", out, "-q"], self.dir), None, None) if not name.startswith("large") else None
            self.count(f"model/{name}", bad)

    def victim(self):
        if self.wanted("victim"):
            self.count("external_victim_untouched", None if (self.dir / "secret.bin").read_bytes() == b"\x42" * 64 else "the file outside was changed")

    def artifacts(self):
        make_bad.write_artifacts(self.dir / "art", str(self.sard))
        for name, (_, codes, words) in make_bad.ARTIFACTS.items():
            for program in (self.sard, self.rt):
                self.check(f"artifact/{name}/{program.name}", codes, words, program, "run", self.dir / "art" / f"{name}.sard")
        for program in (self.sard, self.rt):
            self.check(f"artifact/other_machine/{program.name}", (5,), ["neon", "baseline", "aarch64", "x86_64"], program, "run", self.dir / "art/other_machine.sard")
        self.check("artifact/compile_again", (2,), ["compiled"], self.sard, "compile", self.dir / "art/good.sard", "-o", "again.sard")
        self.check("artifact/onnx_without_compiler", (2, 4), ["onnx", "compile"], self.rt, "run", self.dir / "art/good.onnx")

    def inputs(self):
        model = self.dir / "art/good.onnx"
        run = (self.sard, "run", model)
        d = self.dir / "in"
        d.mkdir(exist_ok=True)
        good = make_bad.tensor("x", [2, 3])
        for name, content in {"f64": make_bad.tensor("x", [2, 3], b"\0" * 48, 11), "shape": make_bad.tensor("x", [3, 2]), "rank": make_bad.tensor("x", [6]),
                              "cut": good[:-5], "empty": b"", "text": b"no tensor at all", "overflow": make_bad.tensor("x", [1 << 62, 8], b"\0" * 16)}.items():
            (d / f"{name}.pb").write_bytes(content)
            self.check(f"input/pb_{name}", (2, 3), [], *run, f"--input=x=@{d}/{name}.pb")
        head = lambda text, v=b"\x01\x00": b"\x93NUMPY" + v + struct.pack("<H", len(text)) + text.encode()
        npy = {"f64": head("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n") + b"\0" * 48,
               "object": head("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }\n") + b"\0" * 48,
               "short": head("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n") + b"\0" * 8,
               "huge": head("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8), }\n") + b"\0" * 24,
               "negative": head("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }\n") + b"\0" * 24,
               "garbage": head("{'descr': ((((((((((((((((\n"), "cut": b"\x93NUMPY\x01\x00\xff", "empty": b"", "deep": head("(" * 60000)}
        for name, content in npy.items():
            (d / f"{name}.npy").write_bytes(content)
            self.check(f"input/npy_{name}", (2, 3, 4), [], *run, f"--input=x=@{d}/{name}.npy")
        self.check("input/name", (2,), ["x"], *run, "--input=z=zeros")
        self.check("input/name_near", (2,), ["X"], *run, "--input=X=zeros")
        self.check("input/count", (2,), [], *run, "--input=x=1,2,3")
        self.check("input/number", (2,), [], *run, "--input=x=1,2,3,4,5,banana")
        self.check("input/missing_file", (7,), ["nowhere"], *run, "--input=x=@nowhere.pb")
        self.check("input/missing_folder", (7, 2), ["nowhere"], *run, "--inputs=nowhere")
        self.check("input/folder_file", (7, 2, 3), [], *run, f"--inputs={model}")
        self.check("input/shape", (2,), [], *run, "--shape=x:5x5")
        self.check("input/shape_bad", (2,), [], *run, "--shape=x:axb")
        self.check("input/shape_huge", (2, 6), [], *run, "--shape=x:9223372036854775807x9223372036854775807")
        self.check("input/dim_unknown", (2,), ["K"], *run, "--dim=K=3")
        self.check("input/fifo", (7,), [], *run, f"--input=x=@{self.dir}/bad/pipe")
        self.check("input/device", (7,), [], *run, "--input=x=@/dev/zero")

    def outputs(self):
        model = self.dir / "art/good.onnx"
        self.check("output/missing_folder", (7,), [], self.sard, "compile", model, "-o", self.dir / "no/where/x.sard")
        self.check("output/below_a_file", (7,), [], self.sard, "compile", model, "-o", f"{model}/x.sard")
        self.check("output/is_a_folder", (7,), ["directory", "folder"], self.sard, "compile", model, "-o", self.dir)
        self.check("output/full", (7,), [], self.sard, "compile", model, "-o", "/dev/full")
        self.check("output/outputs_below_a_file", (7,), [], self.sard, "run", model, f"--outputs={model}/out")
        self.check("output/json_below_a_file", (7,), [], self.sard, "run", model, f"--json={model}/out.json")
        self.check("output/stdout_full", (7,), [], "sh", "-c", f"'{self.sard}' run '{model}' >/dev/full")
        if self.wanted("output/size_limit"):
            old = self.dir / "kept.sard"
            old.write_bytes(b"old contents")
            done = finish(["bash", "-c", f"trap '' XFSZ; ulimit -f 1; exec '{self.sard}' compile '{model}' -o '{old}'"], self.dir)
            bad = judge(done, (7,), [])
            if not bad and (old.read_bytes() != b"old contents" or list(self.dir.glob("kept.sard?*"))):
                bad = "the old file was changed or a part was left"
            self.count("output/size_limit", bad)

    def usage(self):
        model = self.dir / "art/good.onnx"
        for name, words in {"verb": ["frob"], "flag": ["run", model, "--treads=2"], "number": ["run", model, "--threads=many"], "level": ["run", model, "-O9"],
                            "tolerance": ["run", model, "--expect=in", "--rtol=x"], "target": ["compile", model, "-o", "x.sard", "--target=z80"], "pass": ["compile", model, "--stop-after=fusee"],
                            "model_missing": ["run"], "seed": ["run", model, "--seed=-"], "negative": ["bench", model, "--iterations=-3"],
                            "duration": ["bench", model, "--duration=nan"]}.items():
            self.check(f"usage/{name}", (2,), [], self.sard, *words)
        self.check("usage/model_not_there", (7,), ["gone.onnx"], self.sard, "run", "gone.onnx")
        self.check("usage/model_folder", (7,), ["directory", "folder"], self.sard, "run", self.dir)
        self.check("usage/model_fifo", (7,), [], self.sard, "run", self.dir / "bad/pipe")
        self.check("usage/memory_limit", (6,), [], self.sard, "run", self.dir / "art/chain.onnx", "--memory-limit=1")

    def damage(self, text, random):
        """A number at a bound, a byte changed, the rest cut, or a piece twice."""
        numbers = ["0", "-1", "1e308", "1e-308", "-0.0", "9223372036854775807", "1e999", "NaN", "[]", "{}", "null", '"x"', "1024", "256", "1048576"]
        at, places = random.randrange(len(text)), [m.span() for m in re.finditer(r"(?<=: )[0-9][0-9.e+-]*", text)]
        if places and random.random() < 0.6:
            a, b = random.choice(places)
            return text[:a] + random.choice(numbers) + text[b:]
        return random.choice([text[:at] + random.choice('{}[]",:\\\0\n9e-') + text[at + 1 :], text[:at], text[:at] + text[at : at + 40] + text[at:]])

    def descriptions(self):
        """Device sets and decoders of sard partition that are damaged."""
        examples = pathlib.Path(__file__).resolve().parents[2] / "docs/examples"
        devices, decoder = examples / "devices/h200x64.json", examples / "decoders/llama-2-7b.json"
        good, random, bad = {"devices": devices.read_text(), "decoder": decoder.read_text()}, random_numbers.Random(8), None
        for _ in range(60 if self.wanted("descriptions") else 0):
            text, which = dict(good), random.choice(list(good))
            for _ in range(random.randint(1, 3)):
                text[which] = self.damage(text[which] or " ", random)
            for name, content in text.items():
                (self.dir / f"{name}.json").write_text(content)
            split = random.choice(["tensor:8", "layer:4", "tensor:2,layer:2,batch:1", "batch"])
            done = finish([self.sard, "partition", "decoder.json", "--devices", "devices.json", "--simulate", "--split", split], self.dir)
            wrong = judge(done, None if done and done.returncode == 0 else (2, 3, 6), [])
            bad = bad or (wrong and f"{wrong}\n{text[which]}")
        if self.wanted("descriptions"):
            self.count("descriptions", bad)
        for name, content in {"deep": b"[" * 100000, "empty": b"", "zero": b"\0", "huge": b'{"devices":' + b" " * (1 << 20) + b"[]}",
                              "keys": b"{" + b",".join(b'"k%d":1' % i for i in range(50000)) + b"}"}.items():
            (self.dir / f"{name}.json").write_bytes(content)
            self.check(f"description/devices_{name}", (3,), [], self.sard, "partition", decoder, "--devices", f"{name}.json", "--simulate")
            self.check(f"description/decoder_{name}", (3, 4), [], self.sard, "partition", f"{name}.json", "--devices", devices, "--simulate")
        self.check("description/fifo", (7,), [], self.sard, "partition", decoder, "--devices", "bad/pipe", "--simulate")
        for name in ("chain_100000", "cycle"):
            codes = None if name.startswith("chain") else (3,)
            self.check(f"description/model_{name}", codes, [], self.sard, "partition", f"bad/{name}.onnx", "--devices", devices, "--simulate", "--split", "tensor:8,layer:4")


def main():
    sard, rt = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as where:
        folder = pathlib.Path(where)
        (folder / "bad").mkdir()
        (folder / "art").mkdir()
        for name, (content, _) in make_bad.MODELS.items():
            (folder / "bad" / f"{name}.onnx").write_bytes(content)
        make_bad.write_external(folder / "bad")
        two = make_bad.graph([make_bad.node("MatMul", ["x", "w"], ["t"]), make_bad.node("Softmax", ["t"], ["u"]), make_bad.node("MatMul", ["u", "w"], ["y"])],
                             [make_bad.tensor("w", [3, 3])])
        (folder / "art/chain.onnx").write_bytes(make_bad.model(two))
        t = Tests(sard, rt, folder, sys.argv[3:])
        for part in (t.models, t.victim, t.artifacts, t.inputs, t.outputs, t.usage, t.descriptions):
            part()
    print(f"{t.passed} passed, {t.failed} failed")
    return t.failed > 0


sys.exit(main())
