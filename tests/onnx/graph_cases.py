"""Whole graphs as other projects write them, against numpy: names, types and shapes that the specification leaves open or
that files get wrong.

usage: python3 graph_cases.py SARD [PREFIX...]     last line: N passed, N failed
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper, parser

F = np.float32
rng = np.random.default_rng(11)
CASES = []


def case(name, text, inputs, want, opset=21, rtol=1e-4, edit=None):
    """text: a graph in ONNX's text form; inputs, want: arrays in order; want: a text: the error; edit changes the model."""
    head = "" if text.lstrip().startswith("<") else f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'
    CASES.append((name, head + text, inputs, want, rtol, edit))


def run(sard, c, folder):
    name, text, inputs, want, rtol, edit = c
    model = parser.parse_model(text)
    if edit:
        edit(model)
    path, ins, outs = f"{folder}/model.onnx", f"{folder}/in", f"{folder}/out"
    os.makedirs(ins)
    with open(path, "wb") as f:
        f.write(model.SerializeToString())
    for k, a in enumerate(inputs):
        with open(f"{ins}/input_{k}.pb", "wb") as f:
            f.write(numpy_helper.from_array(np.asarray(a)).SerializeToString())
    p = subprocess.run([sard, "run", path, "--inputs", ins, "--outputs", outs, "--quiet"], capture_output=True, text=True,
                       timeout=120)
    said = " ".join(p.stderr.split())
    if isinstance(want, str):
        return None if p.returncode in (2, 3, 4) and want in said else f"exit {p.returncode}: {said[:400]}"
    if p.returncode:
        return f"exit {p.returncode}: {said[:400]}"
    for i, w in enumerate(want):
        got = numpy_helper.to_array(onnx.load_tensor(f"{outs}/output_{i}.pb"))
        if got.dtype != w.dtype or got.shape != w.shape:
            return f"output {i}: {got.dtype}{list(got.shape)} instead of {w.dtype}{list(w.shape)}"
        if not np.allclose(got.astype(np.float64), w.astype(np.float64), rtol=rtol, atol=1e-6, equal_nan=True):
            return f"output {i}: {got.ravel()[:6]} instead of {w.ravel()[:6]}"
    return None


def f32(*shape):
    return rng.standard_normal(shape).astype(F)


# ---- names ----
def names():
    x = f32(2)
    branches = """agraph (bool[1] b, float[2] x) => (float[2] r, float[2] s) {
        r, s = If (b) <then_branch = t () => (r, s) { r = Add (x, x)  i = Neg (x)  s = Mul (i, x) },
                       else_branch = e () => (r, s) { r = Mul (x, x)  i = Add (x, x)  s = Mul (i, i) }>
    }"""
    case("branches_name_outputs_like_the_node", branches, [np.array([True]), x], [x + x, -x * x])
    case("branches_name_outputs_like_the_node_else", branches, [np.array([False]), x], [x * x, 4 * x * x])
    case("body_hides_outer_names", """agraph (int64 m, float[2] x) => (float[2] b, float[n, 2] out) {
        t = Neg (x)
        b, out = Loop (m, "", t) <body = g (int64 i, bool c, float[2] b) => (bool d, float[2] t, float[2] out) {
            d = Identity (c)  t = Add (b, x)  out = Identity (t) }>
    }""", [np.int64(2), x], [x, np.stack([0 * x, x])])
    case("branch_inputs_are_outer_values", """agraph (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t (float[2] x) => (y) { y = Neg (x) },
                    else_branch = e (float[2] x) => (y) { y = Abs (x) }>
    }""", [np.array(True), x], [-x])


# ---- types ----
def types():
    x = f32(2, 3)
    case("declared_output_type_is_not_looked_at", "agraph (float[2,3] x) => (float[2] y) { y = ArgMax <axis=1, keepdims=0> (x) }",
         [x], [np.argmax(x, 1)])
    case("int_for_a_float_attribute", "agraph (float[2,3] x) => (float[2,3] y) { y = LeakyRelu <alpha: int = 2> (x) }", [x],
         [np.where(x < 0, 2 * x, x)])
    case("i32_pads", "agraph (float[2,3] x, int32[4] p) => (float[a,b] y) { q = Constant <value = int32[4] {0, 1, 0, 2}> () "
         "y = Pad (x, q) }", [x, np.zeros(4, np.int32)], [np.pad(x, ((0, 0), (1, 2)))])
    case("i32_repeats", "agraph (float[2,3] x, int32[2] r) => (float[a,b] y) { y = Tile (x, r) }",
         [x, np.array([2, 1], np.int32)], [np.tile(x, (2, 1))])


# ---- shapes ----
def no_shapes(model):
    for i in model.graph.input:
        i.type.tensor_type.ClearField("shape")


def shapes():
    x = f32(2, 3)
    case("inputs_without_rank", "agraph (float[2,3] x, float[3] b) => (float[2,3] y) { t = Add (x, b)  y = Transpose (t) }",
         [x, x[0]], [(x + x[0]).T], edit=no_shapes)
    case("scalar_without_rank", "agraph (float x) => (float y) { y = Neg (x) }", [F(3)], [np.array(-3, F)], edit=no_shapes)
    case("loop_counter_is_a_list", """agraph (int64 m, float[1] x) => (float[1] y, float[n, 1] out) {
        y, out = Loop (m, "", x) <body = g (int64[1] i, bool[1] c, float[1] b) => (bool[1] d, float[1] t, float[1] out) {
            d = Identity (c)  f = Cast <to=1> (i)  t = Add (b, f)  out = Identity (f) }>
    }""", [np.int64(3), x[0, :1]], [x[0, :1] + 3, np.array([[0], [1], [2]], F)])
    case("squeeze_of_no_axes", "agraph (float[1,3,1] x) => (float[3] y) { y = Squeeze <axes: ints = []> (x) }", [x[:1, :, None]],
         [x[0]], opset=11)
    y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    case("layer_norm_of_two_spellings", "agraph (float[2,3] x, float[3] s) => (float[2,3] y) { "
         "y = LayerNormalization <epsilon=1e-5, epsion=1e-5> (x, s, s) }", [x, x[0]], [y * x[0] + x[0]], opset=13)


# ---- numbers ----
def dropout_trains():
    x = np.arange(1, 41, dtype=F).reshape(4, 10)
    stays = np.random.RandomState(3).uniform(0, 1, x.shape) >= 0.25  # the numbers of ONNX's reference
    for name, mode in (("constant", "m = Constant <value = bool {1}> ()"), ("constant_list", "m = Constant <value = bool[1] {1}> ()")):
        case(f"dropout_trains_{name}", f"agraph (float[4,10] x) => (float[4,10] y) {{ r = Constant <value = float {{0.25}}> ()  {mode} "
             "y = Dropout <seed=3> (x, r, m) }", [x], [np.where(stays, x / F(0.75), 0).astype(F)], opset=13)
    case("dropout_by_an_input", "agraph (float[4,10] x, bool m) => (float[4,10] y) { r = Constant <value = float {0.25}> () "
         "y = Dropout <seed=3> (x, r, m) }", [x, np.array(True)], [np.where(stays, x / F(0.75), 0).astype(F)], opset=13)


def numbers():
    dropout_trains()
    i = np.array([2, 4, -3, 10, 0, -1], np.int32)
    case("pow_of_integers", "agraph (int32[6] x, int32[6] y) => (int32[6] z) { z = Pow (x, y) }",
         [i, np.array([10, 2, 3, 9, 64, 65], np.int32)], [np.array([1024, 16, -27, 10**9, 0, -1], np.int32)])
    case("pow_of_integers_to_floats", "agraph (int32[6] x, float[6] y) => (int32[6] z) { z = Pow (x, y) }",
         [np.array([2, 4, -3, 10, 9, 7], np.int32), np.array([10, 2, 3, 9, 0.5, 2], F)],
         [np.array([1024, 16, -27, 10**9, 3, 49], np.int32)])
    x = np.array([0.1234567, -0.001, -3.3, 65519, 1e-6, np.inf, 1e-8], F)
    for t, n, d in (("float16", 10, np.float16), ("bfloat16", 16, None)):
        w = x.astype(d).astype(F) if d else ((x.view(np.uint32) + 0x7fff + (x.view(np.uint32) >> 16 & 1)) & 0xffff0000).view(F)
        case(f"cast_to_{t}_rounds", f"agraph (float[7] x) => (float[7] y) {{ h = Cast <to={n}> (x)  y = Cast <to=1> (h) }}", [x],
             [w], rtol=0)
    x = np.array([0.1234567, -0.001, -3.3, 1e6, 19, 0.002, 2e-5], F)
    for t, n, w in (("float8e4m3fn", 17, [0.125, -0.001953125, -3.25, 448, 20, 0.001953125, 0]),
                    ("float8e5m2", 19, [0.125, -0.0009765625, -3.5, 57344, 20, 0.001953125, 1.52587890625e-05])):
        case(f"cast_to_{t}_rounds", f"agraph (float[7] x) => (float[7] y) {{ h = Cast <to={n}> (x)  y = Cast <to=1> (h) }}", [x],
             [np.array(w, F)], rtol=0)


def main():
    sard, wanted, failed = os.path.abspath(sys.argv[1]), sys.argv[2:], 0
    for group in (names, types, shapes, numbers):
        group()
    run_cases = [c for c in CASES if not wanted or c[0].startswith(tuple(wanted))]
    for c in run_cases:
        with tempfile.TemporaryDirectory() as folder:
            try:
                why = run(sard, c, folder)
            except Exception as e:
                why = f"{type(e).__name__}: {e}"
        if why:
            failed += 1
            print(f"FAIL graph_cases/{c[0]}: {why}")
    print(f"{len(run_cases) - failed} passed, {failed} failed")


main()
