"""Every model of the corpus through every split over 2, 3 and 4 devices: the bits of one device in parts, and by the batch, where
models whose weights have few bits may round otherwise (rows that are alone scale once for each block of codes); the expected
numbers within their tolerance by tensors. A split that is refused has to say which node is in the way, and why.

usage: split_all.py SARD CORPUS [MODEL...]   prints a line for each failure and refusal, a table, and last "N passed, N failed"

Takes a quarter of an hour; tests/run.sh runs the models of split.py instead.
"""
import json
import os
import shutil
import sys
import tempfile

from check import compare, read_tensor
from split import OTHER, SIZES, run, same_files

WAYS = ("batch", "layer", "tensor")


class Refused(Exception):
    pass


class Failed(Exception):
    pass


def must(sard, *words):
    done = run(sard, *words)
    if done.returncode:
        raise Failed(f"{words[0]}: exit {done.returncode}: {done.stderr.strip()}")


def split(sard, *words):
    """What a model allows: code 4 with the node in the way and the reason, or 2 where it has fewer nodes than devices."""
    done = run(sard, *words)
    error = done.stderr.strip()
    if done.returncode == 4 and ("node '" in error or "no input" in error) or done.returncode == 2 and "at most" in error:
        raise Refused(error.split("\n")[0])
    if done.returncode:
        raise Failed(f"{words[0]}: exit {done.returncode}: {error}")


def devices(n):
    return ",".join(f"cpu:{i}" for i in range(n))


def differ(wrong):
    if wrong:
        raise Failed(wrong)


class Case:
    def __init__(self, sard, corpus, model, where):
        self.sard, self.where, self.case = sard, where, os.path.join(corpus, model)
        self.path, self.data = os.path.join(self.case, "model.onnx"), ["--inputs", os.path.join(self.case, "test_data_set_0")]
        self.whole, self.one = os.path.join(where, "whole.sard"), os.path.join(where, "one")
        meta = json.load(open(self.case + "/meta.json"))
        self.tolerance, self.blocks = meta["tolerance"]["outputs"], any("MatMulNBits" in op for op in meta["ops"])
        must(sard, "compile", self.path, "-o", self.whole)
        must(sard, "run", self.whole, "--threads", 1, *self.data, "--outputs", self.one)
        inputs = json.loads(run(sard, "inspect", self.path, "--io", "--json", "-").stdout)["inputs"]
        first = inputs[0]["type"].split("[")[-1].split(",")[0].rstrip("]") if inputs else ""
        self.batch = first if first.isidentifier() else None
        self.other = [word for dim in OTHER.get(model, []) for word in ("--dim", dim)]

    def within(self, have, want):
        for file in sorted(x for x in os.listdir(want) if x.startswith("output_")):
            name, numbers = read_tensor(f"{want}/{file}")
            wrong = compare(read_tensor(f"{have}/{file}")[1], numbers, self.tolerance[name])
            differ(wrong and f"output '{name}': {wrong}")

    def compare_one(self, art, flags, one, more):
        many = os.path.join(self.where, "many")
        shutil.rmtree(many, ignore_errors=True)
        split(self.sard, "run", art, "--threads", 1, *flags, "--outputs", many, *more)
        if not self.blocks:
            differ(same_files(one, many))
        self.within(many, one)

    def by_batch(self, n):
        """A batch with a rest where the model takes made inputs of that size, and the data of the case."""
        more = ["--devices", devices(n), "--split", "batch"]
        self.compare_one(self.whole, self.data, self.one, more)
        if not self.batch:
            return
        flags, one = ["--dim", f"{self.batch}={SIZES[n]}", *self.other], os.path.join(self.where, f"one{n}")
        if not run(self.sard, "run", self.whole, "--threads", 1, *flags, "--outputs", one).returncode:
            self.compare_one(self.whole, flags, one, more)

    def by_layer(self, n):
        art = os.path.join(self.where, "m.sard")
        split(self.sard, "compile", self.path, "--devices", devices(n), "--split", "layer", "--costs", "estimated", "-o", art)
        self.compare_one(art, self.data, self.one, [])

    def by_tensor(self, n):
        art, out = os.path.join(self.where, "m.sard"), os.path.join(self.where, "many")
        split(self.sard, "compile", self.path, "--devices", devices(n), "--split", "tensor", "--costs", "estimated", "-o", art)
        shutil.rmtree(out, ignore_errors=True)
        split(self.sard, "run", art, "--threads", 1, *self.data, "--outputs", out)
        self.within(out, self.data[1])


def main():
    sard, corpus, only = sys.argv[1], sys.argv[2], sys.argv[3:]
    counts = {(way, n): {"passed": 0, "refused": 0, "failed": 0} for way in WAYS for n in SIZES}
    models = [x for x in sorted(os.listdir(corpus)) if os.path.exists(os.path.join(corpus, x, "model.onnx"))]
    for model in [x for x in models if not only or x in only]:
        with tempfile.TemporaryDirectory() as where:
            case = Case(sard, corpus, model, where)
            for way, n in counts:
                try:
                    getattr(case, "by_" + way)(n)
                    what = "passed"
                except (Refused, Failed) as e:
                    what = type(e).__name__.lower()
                    print(f"{'FAIL' if what == 'failed' else what} {model}, {way} over {n}: {e}", flush=True)
                counts[way, n][what] += 1
    print("split   devices  passed  refused  failed")
    for (way, n), count in counts.items():
        print(f"{way:<7} {n:7}  {count['passed']:6}  {count['refused']:7}  {count['failed']:6}")
    failed = sum(count["failed"] for count in counts.values())
    print(f"{sum(count['passed'] + count['refused'] for count in counts.values())} passed, {failed} failed")
    return failed != 0


sys.exit(main())
