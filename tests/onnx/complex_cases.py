"""Complex numbers through every operator whose schema allows them: complex64 and complex128, numbers by onnx's reference.

usage: python3 complex_cases.py SARD [NAME...]    prints FAIL lines and "N passed, M failed"; --save=FOLDER as there

Every model runs as packed_cases.py runs its own, and once more against the interpreter. Moves have to give the very bits.
What computes has real weights: the expected numbers are those of the real and of the imaginary parts. An operator that
allows complex numbers and has no case here is a failure.
"""
import copy
import os
import sys

import numpy as np
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import packed_cases
from packed_cases import ints, node

random = np.random.default_rng(0)
graph, tensor_info = helper.make_graph, helper.make_tensor_value_info
# Without a case, and why.
ELSEWHERE = {"Gradient": "derivatives are those of real numbers"}
CASES = []


class Runner(packed_cases.Runner):
    flags = (["-O0", "--threads", "1"], ["-O3", "--threads", "1", "--check"], ["-O3", "--threads", "2"])
    exact = True

    def same(self, got, want):
        single = want.dtype in (np.complex64, np.float32)
        near = not self.exact and np.allclose(got, want, 1e-5 if single else 1e-11, 1e-5 if single else 1e-11)
        return near or got.tobytes() == want.tobytes()


def case(*operators, **options):
    """A function of the type that gives nodes, inputs and constants; more options: exact, forms, opset, want, check."""
    return lambda make: CASES.append((operators, make, options))


def tensor(dtype):
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def numbers(dtype, *shape):
    x = (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(dtype)
    odd = [complex(np.nan, 1), complex(-0.0, -np.inf), complex(0, -0.0), complex(1e-310, 5)]
    if x.size > 8:
        x.flat[:4] = odd
    return x


def plain(dtype, *shape):
    return (random.integers(-4, 5, shape) + 1j * random.integers(-4, 5, shape)).astype(dtype)


# ---- views, permutations, copies ----
@case("Transpose", "Identity")
def transposes(t):
    return [node("Transpose", ["x"], ["y"], perm=[1, 2, 0]), node("Identity", ["x"], ["z"])], {"x": numbers(t, 3, 4, 5)}, {}


@case("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Size", "Shape")
def views(t):
    return [node("Flatten", ["x"], ["f"], axis=2), node("Unsqueeze", ["x", "a"], ["u"]), node("Squeeze", ["u", "a"], ["w"]),
            node("Reshape", ["x", "s"], ["v"]), node("Transpose", ["v"], ["p"]), node("Size", ["x"], ["n"]), node("Shape", ["x"], ["d"])], \
        {"x": numbers(t, 2, 3, 4)}, {"a": ints(1), "s": ints(4, 6)}


@case("Tile", "Expand", "Where")
def broadcasts(t):
    return [node("Tile", ["x", "r"], ["y"]), node("Expand", ["x", "e"], ["w"]), node("Where", ["c", "x", "z"], ["v"])], \
        {"x": numbers(t, 3, 5), "z": numbers(t, 5), "c": np.array([[True], [False], [True]])}, {"r": ints(2, 3), "e": ints(2, 1, 1)}


def broadcast(t, ins, consts):
    """The reference's Expand multiplies by 1, which changes what is not finite."""
    x = ins["x"]
    return {"y": np.tile(x, (2, 3)), "w": np.broadcast_to(x, (2, 3, 5)).copy(), "v": np.where(ins["c"], x, ins["z"])}


@case("DepthToSpace", "SpaceToDepth")
def blocks(t):
    return [node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD"), node("SpaceToDepth", ["x"], ["z"], blocksize=2)], \
        {"x": numbers(t, 2, 4, 4, 6)}, {}


@case("Trilu", "ReverseSequence", opset=24)
def triangles(t):
    return [node("Trilu", ["x", "k"], ["y"], upper=1), node("ReverseSequence", ["x", "l"], ["z"], batch_axis=0, time_axis=1)], \
        {"x": numbers(t, 4, 5)}, {"k": np.array(1), "l": ints(1, 5, 3, 2)}


# ---- pieces ----
@case("Concat", "Split", "Slice")
def pieces(t):
    return [node("Concat", ["x", "z", "x"], ["y"], axis=-1), node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
            node("Slice", ["x", "s", "e", "a0", "d"], ["w"])], \
        {"x": numbers(t, 3, 7), "z": numbers(t, 3, 2)}, {"s": ints(1, -1), "e": ints(9, -9), "a0": ints(0, 1), "d": ints(1, -2)}


@case("Pad", "CenterCropPad")
def pads(t):
    return [node("Pad", ["x", "p", "v"], ["y"]), node("Pad", ["x", "p"], ["z"]), node("Pad", ["x", "p"], ["r"], mode="reflect"),
            node("CenterCropPad", ["x", "s"], ["c"])], {"x": numbers(t, 4, 5), "v": np.array(2 - 3j, t)}, {"p": ints(1, 0, 2, 3), "s": ints(3, 8)}


@case("Concat", "Pad", "Where")
def windows(t):
    """Parts of a Concat and the inside of a Pad, computed in the memory of the whole."""
    return [node("Where", ["c", "x", "z"], ["a"]), node("Transpose", ["a"], ["b"]), node("Concat", ["b", "q"], ["y"], axis=0),
            node("Where", ["c", "z", "x"], ["d"]), node("Pad", ["d", "p", "v"], ["w"])], \
        {"x": numbers(t, 6, 5), "z": numbers(t, 6, 5), "q": numbers(t, 2, 6), "c": random.integers(0, 2, (6, 5)).astype(bool)}, \
        {"p": ints(1, 2, 0, 1), "v": np.array(1 + 2j, t)}


# ---- by index tensors ----
@case("Gather", "GatherElements", "GatherND")
def gathers(t):
    return [node("Gather", ["x", "i"], ["y"], axis=1), node("GatherElements", ["x", "k"], ["z"], axis=0), node("GatherND", ["x", "j"], ["w"])], \
        {"x": numbers(t, 3, 4), "i": np.array([[0, 2], [-1, 1]]), "k": np.array([[0, 2, -1, 1]])}, {"j": np.array([[[0, 1], [2, -1]]])}


@case("ScatterElements", "ScatterND", exact=False)
def scatters(t):
    u = plain(t, 2, 3)
    return [node("ScatterElements", ["x", "i", "u"], ["y"], axis=0), node("ScatterND", ["x", "j", "u"], ["z"]),
            node("ScatterElements", ["x", "i", "u"], ["s"], axis=0, reduction="add"), node("ScatterND", ["x", "j", "u"], ["w"], reduction="add")], \
        {"x": plain(t, 4, 3), "i": np.array([[0, 1, 3], [0, 2, -1]]), "u": u}, {"j": ints(2, 2).reshape(2, 1)}


@case("Scatter", opset=10)
def scatter_of_old(t):
    return [node("Scatter", ["x", "i", "u"], ["y"], axis=1)], {"x": numbers(t, 3, 4), "i": np.array([[0, 3], [1, 2]]), "u": numbers(t, 2, 2)}, {}


def scattered(t, ins, consts):
    y = ins["x"].copy()
    np.put_along_axis(y[:2], ins["i"], ins["u"], 1)
    return {"y": y}


@case("TensorScatter")
def caches(t):
    return [node("TensorScatter", ["x", "u", "w"], ["y"], mode="circular")], \
        {"x": numbers(t, 2, 3, 5, 2), "u": numbers(t, 2, 3, 2, 2), "w": ints(4, 1)}, {}


@case("OneHot", opset=24)
def one_hot(t):
    return [node("OneHot", ["i", "d", "v"], ["y"], axis=0)], {"i": ints(0, 2, -1), "v": numbers(t, 2)}, {"d": np.array(4)}


@case("Compress", "NonZero", opset=24)
def chosen(t):
    x = numbers(t, 3, 4)
    x[1, 1:3] = [0, complex(-0.0, 0.0)]
    return [node("Compress", ["x", "c"], ["y"], axis=1), node("Compress", ["x", "c"], ["w"]), node("NonZero", ["x"], ["z"])], \
        {"x": x, "c": np.array([True, False, True, True])}, {}


@case("Unique", opset=24)
def unique(t):
    return [node("Unique", ["x"], ["y", "i", "v", "n"]), node("Unique", ["m"], ["r", "ri", "rv", "rn"], axis=0)], \
        {"x": np.array([2j, 1, 1 - 1j, 2j, 1, -3, 0], t), "m": np.array([[1, 2j], [1, 0], [1, 2j], [-1, 5]], t)}, {}


# ---- bits and constants ----
@case("BitCast")
def bits(t):
    if t == np.complex128:
        return [node("BitCast", ["x"], ["y"], to=TensorProto.COMPLEX128)], {"x": numbers(t, 3, 4)}, {}
    return [node("BitCast", ["x"], ["y"], to=TensorProto.INT64), node("BitCast", ["x"], ["z"], to=TensorProto.DOUBLE),
            node("BitCast", ["i"], ["w"], to=TensorProto.COMPLEX64), node("BitCast", ["x"], ["v"], to=TensorProto.COMPLEX64),
            node("Transpose", ["w"], ["wt"]), node("BitCast", ["wt"], ["u"], to=TensorProto.UINT64)], \
        {"x": numbers(t, 3, 4), "i": random.integers(-2**62, 2**62, (3, 4))}, {}


def cast_bits(t, ins, consts):
    x, i = ins["x"], ins.get("i")
    if i is None:
        return {"y": x}
    return {"y": x.view(np.int64), "z": x.view(np.float64), "w": i.view(t), "v": x, "u": i.T.copy().view(np.uint64)}


@case("Constant", "Concat")
def constants(t):
    value = numpy_helper.from_array(numbers(t, 3, 4), "v")
    return [node("Constant", [], ["k"], value=value), node("Concat", ["k", "w"], ["y"], axis=0), node("Transpose", ["k"], ["z"])], {"w": numbers(t, 1, 4)}, {}


@case("RandomNormalLike", "RandomUniformLike")
def random_of_shapes(t):
    return [node("RandomNormalLike", ["x"], ["a"], dtype=1), node("Shape", ["a"], ["y"]), node("RandomUniformLike", ["x"], ["b"], dtype=11),
            node("Shape", ["b"], ["z"])], {"x": numbers(t, 3, 4)}, {}


# ---- what computes, with real weights ----
@case("Col2Im", exact=False)
def col2im(t):
    return [node("Col2Im", ["x", "s", "b"], ["y"], pads=[0, 1, 0, 1])], {"x": plain(t, 2, 8, 12)}, {"s": ints(4, 3), "b": ints(2, 2)}


@case("GridSample", exact=False)
def samples(t):
    """The reference computes positions in f32: they are numbers that it has there. Beyond the border its cubic samples are others'."""
    real = np.float32 if t == np.complex64 else np.float64
    return [node("GridSample", ["x", "g"], [m], mode=m, padding_mode="zeros" if m == "cubic" else "border") for m in ("linear", "nearest", "cubic")], \
        {"x": plain(t, 2, 3, 4, 5), "g": (random.integers(-5, 6, (2, 3, 3, 2)) / 4).astype(real)}, {}


@case("Resize", "Upsample", exact=False)
def resizes(t):
    return [node("Resize", ["x", "", "s"], [m], mode=m) for m in ("linear", "nearest", "cubic")] + \
        [node("Resize", ["x", "", "", "z"], ["small"], mode="linear", antialias=1)], \
        {"x": plain(t, 1, 2, 4, 5)}, {"s": np.array([1, 1, 2, 4], np.float32), "z": ints(1, 2, 3, 2)}


@case("Resize", exact=False)
def crops(t):
    """What lies outside is the number extrapolation_value, which has no imaginary part."""
    return [node("Resize", ["x", "r", "", "z"], ["y"], mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0)], \
        {"x": plain(t, 4, 5)}, {"r": np.array([-0.5, 0, 1, 1.5], np.float32), "z": ints(6, 7)}


@case("Upsample", opset=9)
def upsample_of_old(t):
    return [node("Upsample", ["x", "s"], ["y"], mode="nearest")], {"x": numbers(t, 1, 2, 3, 4)}, {"s": np.array([1, 1, 2, 3], np.float32)}


# ---- control flow, sequences, optionals ----
def info(name, t, shape):
    return tensor_info(name, tensor(t), shape)


@case("If")
def branches(t):
    yes = graph([node("Transpose", ["x"], ["a"])], "yes", [], [info("a", t, [4, 3])])
    no = graph([node("Tile", ["x", "r"], ["b"])], "no", [], [info("b", t, [6, 4])])
    return [node("If", ["c"], ["y"], then_branch=yes, else_branch=no)], {"c": np.array(False), "x": numbers(t, 3, 4)}, {"r": ints(2, 1)}


@case("Loop")
def loops(t):
    body = graph([node("Gather", ["x", "i"], ["row"]), node("Where", ["even", "s", "row"], ["s2"]), node("Identity", ["c"], ["c2"])], "body",
                 [tensor_info("i", TensorProto.INT64, []), tensor_info("c", TensorProto.BOOL, []), info("s", t, [4])],
                 [tensor_info("c2", TensorProto.BOOL, []), info("s2", t, [4]), info("row", t, [4])])
    return [node("Loop", ["n", "b", "s0"], ["last", "rows"], body=body)], \
        {"x": numbers(t, 3, 4), "s0": numbers(t, 4), "even": np.array([True, False, True, False]), "n": np.array(3), "b": np.array(True)}, {}


@case("Scan")
def scans(t):
    body = graph([node("Where", ["even", "s", "r"], ["s2"]), node("Concat", ["s", "r"], ["o"], axis=0)], "body",
                 [info("s", t, [4]), info("r", t, [4])], [info("s2", t, [4]), info("o", t, [8])])
    return [node("Scan", ["s0", "x"], ["last", "rows"], body=body, num_scan_inputs=1)], \
        {"x": numbers(t, 3, 4), "s0": numbers(t, 4), "even": np.array([True, False, True, False])}, {}


@case("SequenceConstruct", "SequenceAt", "SequenceInsert", "SequenceErase", "SequenceLength", "ConcatFromSequence", check=False)
def sequences(t):
    return [node("SequenceConstruct", ["x", "z"], ["s"]), node("SequenceInsert", ["s", "x", "one"], ["s2"]), node("SequenceErase", ["s2", "zero"], ["s3"]),
            node("SequenceAt", ["s3", "one"], ["y"]), node("SequenceLength", ["s3"], ["n"]), node("ConcatFromSequence", ["s2"], ["c"], axis=1)], \
        {"x": numbers(t, 3, 4), "z": numbers(t, 3, 2)}, {"one": np.array(1), "zero": np.array(0)}


@case("SplitToSequence", "SequenceEmpty", "SequenceMap", check=False, forms=(False,))
def split_sequences(t):
    body = graph([node("Transpose", ["e"], ["o"])], "body", [info("e", t, [3, 2])], [info("o", t, [2, 3])])
    return [node("SplitToSequence", ["x", "p"], ["s"], axis=1), node("SequenceMap", ["s"], ["m"], body=body), node("ConcatFromSequence", ["m"], ["y"], axis=0),
            node("SequenceEmpty", [], ["e"], dtype=tensor(t)), node("SequenceInsert", ["e", "x"], ["e1"]), node("SequenceAt", ["e1", "zero"], ["z"])], \
        {"x": numbers(t, 3, 6)}, {"p": np.array(2), "zero": np.array(0)}


@case("Optional", "OptionalHasElement", "OptionalGetElement", check=False, opset=24)
def optionals(t):
    return [node("Optional", ["x"], ["o"]), node("OptionalHasElement", ["o"], ["h"]), node("OptionalGetElement", ["o"], ["y"])], {"x": numbers(t, 3, 4)}, {}


# ---- running ----
OUTPUTS = {"views": "f w v p n d", "windows": "y w", "constants": "y z", "bits": "y z w v u", "random_of_shapes": "y z", "sequences": "y n c",
           "split_sequences": "y z", "optionals": "h y"}
def one_hot_of(t, ins, consts):
    """The reference's multiplies and adds."""
    return {"y": np.where(np.arange(4)[:, None] == ins["i"] % 4, ins["v"][1], ins["v"][0])}


WANTED = {"bits": cast_bits, "scatter_of_old": scattered, "broadcasts": broadcast, "one_hot": one_hot_of,
          "optionals": lambda t, ins, consts: {"h": np.array(True), "y": ins["x"]}}


def evaluate(r, nodes, ins, outs, consts):
    """By the reference evaluator, of which types and shapes of the outputs are not asked."""
    g = graph(nodes, "g", [tensor_info(n, tensor(a.dtype), a.shape) for n, a in ins.items()],
              [helper.make_empty_tensor_value_info(n) for n in outs], [numpy_helper.from_array(a, n) for n, a in consts.items()])
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", r.opset)], ir_version=r.ir_version)
    return dict(zip(outs, (np.asarray(y) for y in ReferenceEvaluator(m).run(None, ins))))


def by_parts(r, nodes, ins, outs, consts):
    def half(which):
        own = copy.deepcopy(nodes)
        for a in (a for n in own for a in n.attribute if a.name == "extrapolation_value" and which is np.imag):
            a.f = 0  # it has no imaginary part
        parts = {n: which(a).copy() if np.iscomplexobj(a) else a for n, a in ins.items()}
        return evaluate(r, own, parts, outs, consts)

    real, imaginary = half(np.real), half(np.imag)
    return {n: real[n] + 1j * imaginary[n] for n in outs}


def run(r, name, t, operators, make, options):
    r.opset = options.get("opset", Runner.opset)
    r.exact = options.get("exact", True)
    r.flags = [f for f in Runner.flags if "--check" not in f or options.get("check", True)]
    nodes, ins, consts = make(t)
    outs = [o for n in nodes for o in n.output if o]
    outs = [o for o in OUTPUTS.get(make.__name__, " ".join(outs)).split() if o in outs]
    if make.__name__ in WANTED:
        want = WANTED[make.__name__](t, ins, consts)
    elif make.__name__ in ("col2im", "samples", "resizes", "crops"):
        want = {n: y.astype(t) for n, y in by_parts(r, nodes, ins, outs, consts).items()}
    else:
        want = evaluate(r, nodes, ins, outs, consts)
    r.run(f"{make.__name__} {np.dtype(t).name}", nodes, ins, want, consts, options.get("forms", (False, True)))


def allowed():
    return {s.name for s in defs.get_all_schemas_with_history()
            if any("complex" in t for c in s.type_constraints for t in c.allowed_type_strs)}


def main():
    r, wanted = Runner(sys.argv[1]), sys.argv[2:]
    for operators, make, options in CASES:
        for t in (np.complex64, np.complex128):
            if not wanted or make.__name__ in wanted:
                run(r, make.__name__, t, operators, make, options)
    known = {o for operators, _, _ in CASES for o in operators} | set(ELSEWHERE)
    for o in sorted(allowed() - known):
        r.fail(o, "allows complex numbers and has no case")
    print(f"{r.passed} passed, {r.failed} failed")
    return r.failed != 0


if __name__ == "__main__":
    os.environ.pop("SARD_ISA", None)
    sys.exit(main())
