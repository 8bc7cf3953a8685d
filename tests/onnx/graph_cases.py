"""Whole graphs as other projects write them, against numpy: names, types and shapes that the specification leaves open or
that files get wrong.

usage: python3 graph_cases.py SARD [PREFIX...]     last line: N passed, N failed
"""
import os
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper, parser

import many

F = np.float32
rng = np.random.default_rng(11)
CASES = []


def case(name, text, inputs, want, opset=21, rtol=1e-4, edit=None, saved=False, flags=()):
    """text: a graph in ONNX's text form; inputs, want: arrays in order; want: a text: the error; edit changes the model; saved:
    compiled into a file first, before the inputs are there; flags: of compile, or of run where nothing is saved."""
    head = "" if text.lstrip().startswith("<") else f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'
    CASES.append((name, head + text, inputs, want, rtol, edit, saved, list(flags)))


def run(sard, c, folder):
    name, text, inputs, want, rtol, edit, saved, flags = c
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
    if saved:
        p = many.run(sard, "compile", path, "-o", f"{folder}/model.sard", "--quiet", *flags)
        if p.returncode and not isinstance(want, str):
            return f"compile: exit {p.returncode}: {' '.join(p.stderr.split())[:400]}"
        path, flags = (path, flags) if p.returncode else (f"{folder}/model.sard", [])
    p = many.run(sard, "run", path, "--inputs", ins, "--outputs", outs, "--quiet", *flags)
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


    case("last_constant_of_a_name_counts", """agraph (float[2] x) => (float[2] y) {
        c = Constant <value = float {3}> ()  y = Mul (x, c)  c = Constant <value = float {2}> () }""", [x], [2 * x])

    def versions(model):
        model.opset_import.insert(0, onnx.helper.make_opsetid("", 0))
    case("domain_listed_twice", "agraph (float[2] x) => (float[2] y) { y = Neg (x) }", [x], [-x], edit=versions)


# ---- attributes that are operands at this opset ----
def attributes():
    x = f32(2, 3)
    case("slice_by_attributes", "agraph (float[2,3] x) => (float[a,b] y) { y = Slice <axes=[1], starts=[1], ends=[3]> (x) }", [x],
         [x[:, 1:]], opset=15)
    case("slice_axes_by_attribute", "agraph (float[2,3] x, int32[1] s, int32[1] e) => (float[a,b] y) { y = Slice <axes=[1]> (x, s, e) }",
         [x, np.array([1], np.int32), np.array([3], np.int32)], [x[:, 1:]], opset=19)
    case("sum_by_attribute", "agraph (float[2,3] x) => (float[a,b] y) { y = ReduceSum <axes=[1]> (x) }", [x],
         [x.sum(1, keepdims=True)], opset=19)
    case("pad_by_attribute", "agraph (float[2,3] x) => (float[a,b] y) { y = Pad <pads=[0, 1, 0, 2]> (x) }", [x],
         [np.pad(x, ((0, 0), (1, 2)))], opset=19)
    case("split_by_attribute", "agraph (float[2,3] x) => (float[a,b] y, float[c,d] z) { y, z = Split <axis=1, split=[1, 2]> (x) }", [x],
         [x[:, :1], x[:, 1:]], opset=19)
    case("attribute_and_operand", "agraph (float[2,3] x, int64[1] a) => (float[c,d] y) { y = ReduceSum <axes=[1]> (x, a) }",
         [x, np.array([0])], "it has both the attribute 'axes' of old opsets and operand 1", opset=19)


# ---- types ----
def types():
    x = f32(2, 3)
    s = x[0].astype(F)
    h = x.astype(np.float16)
    y = (h.astype(F) - h.astype(F).mean(1, keepdims=True)) / np.sqrt(h.astype(F).var(1, keepdims=True) + 1e-5)
    case("layer_norm_of_the_type_of_its_scale", "agraph (float16[2,3] x, float[3] s) => (float[2,3] y) { y = LayerNormalization (x, s) }",
         [h, s], [(y * s).astype(F)], opset=13, rtol=1e-3)
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


# ---- loops ----
def loops():
    x = f32(1)
    end = """agraph (int64 m, float[1] x) => (float[1] y, float[n, 1] out) {{
        y, out = Loop ({}, "", x) <body = g (int64 i, bool c, float[1] b) => (bool d, float[1] t, float[1] out) {{
            one = Constant <value = float {{1}}> ()  three = Constant <value = int64 {{3}}> ()
            d = Less (i, three)  t = Add (b, one)  out = Identity (t) }}>
    }}"""
    for name, m, passes in (("body_ends_the_loop", "m", 4), ("body_alone_ends_the_loop", '""', 4)):
        case(name, end.format(m), [np.int64(9), x], [x + passes, x + np.arange(1, passes + 1, dtype=F)[:, None]])
    case("number_of_passes_ends_the_loop", end.format("m"), [np.int64(2), x], [x + 2, np.stack([x + 1, x + 2])])


    case("nothing_ends_the_loop", """agraph (float[1] x) => (float[1] y) {
        y = Loop ("", "", x) <body = g (int64 i, bool c, float[1] b) => (bool d, float[1] t) { d = Identity (c)  t = Add (b, b) }>
    }""", [x], "neither a number of passes nor a condition")


# ---- ranks and lengths that only the run knows ----
def symbolic(model):
    for i in model.graph.input:
        for k, d in enumerate(i.type.tensor_type.shape.dim):
            d.dim_param = f"{i.name}_{k}"


def ints(*v):
    return np.array(v, np.int64)


def open_case(name, text, inputs, want):
    case(name, text, inputs, want, edit=symbolic, saved=True)


def lengths():
    x = f32(1, 3)
    for n, shape in enumerate(([], [3], [2, 1], [4, 1, 2, 3], [2, 1, 1, 1, 1, 3])):
        open_case(f"expand_to_{len(shape)}_dims", "agraph (float[1,3] x, int64[1] s) => (float y) { t = Expand (x, s)  y = Neg (t) }",
                  [x, ints(*shape)], [-(x * np.ones(shape, F))])
    open_case("expand_to_7_dims", "agraph (float[1,3] x, int64[7] s) => (float y) { y = Expand (x, s) }", [x, ints(*[1] * 7)],
              "do not fit together")
    open_case("expand_of_nothing", "agraph (float[0,1] x, int64[3] s) => (float y) { y = Expand (x, s) }",
              [f32(0, 1), ints(2, 1, 3)], [np.zeros((2, 0, 3), F)])
    open_case("constant_of_no_dims", "agraph (int64[1] s) => (float y) { y = ConstantOfShape (s) }", [ints()], [np.array(0, F)])
    names = ", ".join(f"y{i}" for i in range(9))
    open_case("split_into_nine", f"agraph (float[9,2] x, int64[9] s) => ({', '.join('float y%d' % i for i in range(9))}) {{ {names} = Split (x, s) }}",
              [x9 := f32(9, 2), ints(*[1] * 9)], [x9[i:i + 1] for i in range(9)])
    open_case("split_into_too_few", "agraph (float[4] x, int64[3] s) => (float a, float b) { a, b = Split (x, s) }",
              [f32(4), ints(1, 1, 2)], "do not fit together")
    x = f32(2, 3, 4)
    for axes in ([1], [0, 2], [], [-1, 0, 1]):
        open_case(f"reduce_{len(axes)}_axes", "agraph (float[2,3,4] x, int64[1] a) => (float y) { y = ReduceMax <keepdims=0> (x, a) }",
                  [x, ints(*axes)], [np.array(x.max(axis=tuple(axes) if axes else None))])
    open_case("lengths_in_a_loop", """agraph (int64 m, float[2,3] x, int64[2] s) => (float y) {
        y = Loop (m, "", x) <body = g (int64 i, bool c, float[2,3] v) => (bool d, float[2,3] w) {
            d = Identity (c)  t = Tile (v, s)  w = Slice (t, z, x2)  z = Constant <value = int64[1] {1}> ()  x2 = Constant <value = int64[1] {3}> () }>
    }""", [np.int64(3), x[0, :2, :3].copy(), ints(2, 1)], [x[0, [1, 0], :3]])
    case("nested_loops_that_grow", nested_loops(25), [np.int64(1), x[0, 0], x[0, 1]], [np.concatenate([x[0, 0], x[0, 1]])])
    open_case("resize_to_no_rows", "agraph (float[1,1,2,2] x, int64[4] s) => (float y) { y = Resize <nearest_mode=\"floor\"> (x, \"\", \"\", s) }",
              [f32(1, 1, 2, 2), ints(1, 1, 0, 4)], [np.zeros((1, 1, 0, 4), F)])


def nested_loops(depth):
    """Loops inside of each other whose states grow: the innermost appends x, which lies outside of all."""
    text = "r%d = Concat <axis=0> (s%d, x)" % (depth, depth)
    for i in range(depth, 0, -1):
        text = f"""r{i - 1} = Loop (m, "", s{i - 1}) <body = b{i} (int64 i{i}, bool c{i}, float[n] s{i}) => (bool d{i}, float[n] r{i}) {{
            d{i} = Identity (c{i})  {text} }}>"""
    return f"agraph (int64 m, float[n] s0, float[k] x) => (float[o] r0) {{ {text} }}"


def any_ranks():
    def open_ranks(name, text, inputs, want):
        case(name, text, inputs, want, edit=no_shapes, saved=True)
    a, b, c = f32(2, 3), f32(3), f32(4, 1, 1)
    text = "agraph (float[2] a, float[2] b) => (float y) { y = Add (a, b) }"
    for i, (p, q) in enumerate(((a, b), (b, a), (a, c), (F(2), c), (F(1), F(2)), (a, a))):
        open_ranks(f"add_{i}", text, [p, q], [np.array(p + q)])
    open_ranks("sum_of_five", "agraph (float[2] a, float[2] b, float[2] c, float[2] d, float[2] e) => (float y) { y = Sum (a, b, c, d, e) }",
               [a, b, c, F(1), a], [a + b + c + F(1) + a])
    open_ranks("concat_of_five", "agraph (float[2] a, float[2] b, float[2] c, float[2] d, float[2] e) => (float y) { y = Concat <axis=-1> (a, b, c, d, e) }",
               [a] * 5, [np.concatenate([a] * 5, -1)])
    open_ranks("concat_of_other_ranks", "agraph (float[2] a, float[2] b) => (float y) { y = Concat <axis=-1> (a, b) }", [a, b],
               "of rank")
    open_ranks("matmul", "agraph (float[2] a, float[2] b) => (float y) { y = MatMul (a, b) }", [a, b], [a @ b])
    open_ranks("where", "agraph (bool[2] c, float[2] a, float[2] b) => (float y) { y = Where (c, a, b) }", [b > 0, a, F(7)],
               [np.where(b > 0, a, F(7))])
    x, w = f32(1, 2, 5), f32(3, 2, 3)
    open_ranks("conv", "agraph (float[2] x, float[2] w, float[2] b) => (float y) { y = Conv (x, w, b) }", [x, w, f32(3) * 0],
               [np.stack([(x[0, None, :, i:i + 3] * w).sum((1, 2)) for i in range(3)], -1)[None]])


def empty_dims():
    text = "agraph (float[n, m] x, float[k, m] y) => (float z, float t) { z = Add (x, y)  s = Relu (z)  t = Mul (s, x) }"
    for i, (p, q) in enumerate(((f32(0, 2), f32(1, 2)), (f32(1, 2), f32(0, 2)), (f32(3, 2), f32(1, 2)), (f32(0, 0), f32(0, 0)))):
        case(f"broadcast_with_nothing_{i}", text, [p, q], [p + q, np.maximum(p + q, 0) * p], saved=True)
    case("broadcast_of_other_sizes", text, [f32(0, 2), f32(3, 2)], "do not fit together")
    case("nonzero_of_a_scalar", "agraph (float x) => (int64[a,b] y) { y = NonZero (x) }", [F(3)], [np.zeros((0, 1), np.int64)])
    case("nonzero_of_zero", "agraph (float x) => (int64[a,b] y) { y = NonZero (x) }", [F(0)], [np.zeros((0, 0), np.int64)])
    for mode in ("linear", "cubic"):
        text = f'agraph (float[1,1,n,4] x, int64[4] s) => (float y) {{ y = Resize <mode="{mode}", antialias=1> (x, "", "", s) }}'
        case(f"antialias_to_nothing_{mode}", text, [f32(1, 1, 3, 4), ints(1, 1, 0, 2)], [np.zeros((1, 1, 0, 2), F)])
        case(f"antialias_to_no_rows_{mode}", text.replace(", int64[4] s)", ")").replace("{ y", "{ s = Constant <value = int64[4] {1, 1, 0, 2}> ()  y"),
             [f32(1, 1, 3, 4)], [np.zeros((1, 1, 0, 2), F)])
    case("antialias_by_a_tiny_scale", 'agraph (float[1,1,2,4] x, float[4] s) => (float y) { y = Resize <mode="linear", antialias=1> (x, "", s) }',
         [f32(1, 1, 2, 4), np.array([1, 1, 1, 1e-30], F)], [np.zeros((1, 1, 2, 0), F)])


# ---- numbers ----
def recurrences():
    x, w, r, h0 = f32(2, 3, 2), f32(1, 4, 2), f32(1, 4, 4), f32(1, 3, 4)
    lens, y, h = np.array([2, 0, 1], np.int32), np.zeros((2, 1, 3, 4), F), h0[0].copy()
    for t in range(2):
        for b in range(3):
            if t < lens[b]:
                h[b] = y[t, 0, b] = np.tanh(x[t, b] @ w[0].T + h[b] @ r[0].T)
    h[1] = 0  # of no steps
    case("rnn_of_no_steps", "agraph (float[2,3,2] x, float[1,4,2] w, float[1,4,4] r, int32[3] l, float[1,3,4] h) => (float[a,b,c,d] y, "
         "float[e,f,g] z) { y, z = RNN <hidden_size=4> (x, w, r, \"\", l, h) }", [x, w, r, lens, h0], [y, h[None]])


def normalizations():
    x, s = f32(5), f32(1)
    case("batch_norm_of_a_vector", "agraph (float[5] x, float[1] s, float[1] v) => (float[5] y) { y = BatchNormalization (x, s, s, s, v) }",
         [x, s, s * s], [(x - s) / np.sqrt(s * s + F(1e-5)) * s + s])
    x, s, v = f32(2, 3, 4), f32(3), np.abs(f32(3))
    c = lambda a: a[:, None]
    want = (x - c(s)) / np.sqrt(c(v) + F(1e-5)) * c(s) + c(s)
    five = "agraph (float[2,3,4] x, float[3] s, float[3] v) => (float[2,3,4] y{}) {{ y, a, b, c, d = BatchNormalization (x, s, s, s, v) }}"
    case("batch_norm_names_unread_outputs", five.format(""), [x, s, v], [want], opset=7)
    case("batch_norm_trains", five.format(", float[3] c"), [x, s, v], "exists in training only", opset=7)


def linear():
    x, w, b = f32(3, 2), f32(3, 4), f32(3)
    y = x @ w.ravel()[:6].reshape(3, 2).T + b
    text = "agraph (float[3,2] x) => (int64[3] l, float[3,3] y) {{ l, y = ai.onnx.ml.LinearClassifier <classlabels_ints=[5, 6, 7], " \
           "coefficients=[{}], intercepts=[{}]> (x) }}".format(*(", ".join(f"{float(e):.9e}" for e in a.ravel()) for a in (w, b)))
    case("coefficients_that_nothing_reads", '<ir_version: 8, opset_import: ["" : 12, "ai.onnx.ml" : 1]>\n' + text, [x],
         [np.array([5, 6, 7])[y.argmax(1)], y])


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
    recurrences()
    normalizations()
    linear()
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


# ---- a mask that an exporter indexes by counted positions, split by the batch ----
def batches():
    mask, x = rng.random((3, 5)) > 0.4, f32(3, 5)
    for split in ([], ["--devices", "cpu:0,cpu:1", "--split", "batch"]):
        case(f"mask_by_counted_positions{'_split' if split else ''}", """agraph (bool[N,S] mask, float[N,S] x) => (float[N,S] y)
            <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] second = {1}, int64[1] all = {-1}, float none = {0}> {
            dims = Shape (mask)  n = Gather (dims, zero)  s = Gather (dims, one)
            row = Range (zero, n, one)  column = Range (zero, s, one)  rows = Unsqueeze (row, second)  columns = Unsqueeze (column, first)
            from = Mul (rows, s)  at = Add (from, columns)  flat = Reshape (mask, all)  m = Gather (flat, at)
            again = Reshape (m, all)  shape = Shape (at)  kept = Reshape (again, shape)
            sums = CumSum (x, second)  y = Where (kept, sums, none) }""", [mask, x], [np.where(mask, np.cumsum(x, 1), 0).astype(F)], flags=split)


# ---- a cubic sample at the border: neighbours outside take the border's values, positions stay (PyTorch, ONNX Runtime) ----
def cubic_at(row, x):
    i, t, a = int(np.floor(x)), x - np.floor(x), -0.75
    near, far = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1, lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return sum(w * row[min(max(i + k - 1, 0), len(row) - 1)] for k, w in enumerate((far(t + 1), near(t), near(1 - t), far(2 - t))))


def samples():
    x, at = f32(4, 5), [(-0.4, 1.5), (4.3, 0.2), (2.5, 3.4), (2.1, -0.7), (-3.5, 5.25), (1.25, 1.75)]
    for align in (0, 1):
        grid = [((2 * i / 4, 2 * j / 3) if align else ((2 * i + 1) / 5, (2 * j + 1) / 4)) for i, j in at]
        want = [cubic_at([cubic_at(row, i) for row in x], j) for i, j in at]
        case(f"cubic_border_{align}", f"agraph (float[1,1,4,5] x, float[1,1,6,2] g) => (float[1,1,1,6] y) {{ y = GridSample <mode=\"cubic\", "
             f"padding_mode=\"border\", align_corners={align}> (x, g) }}", [x[None, None], np.array(grid, F)[None, None] - 1],
             [np.array(want, F)[None, None, None]])


# ---- one name for dims that differ ----
def free_dims():
    x, y = f32(3), f32(2)
    sums = "agraph (float[N] x, float[N] y) => (float z) { a = ReduceSum <keepdims=0> (x)  b = ReduceSum <keepdims=0> (y)  z = Add (a, b) }"
    case("dims_of_one_name_differ", sums, [x, y], "its dim 0 must be 3, not 2 (the model has f32[N]) hint: where a model's names of dims are "
         "wrong, compile it with --free-dims")
    for saved in (False, True):
        case(f"free_dims_{'saved' if saved else 'run'}", sums, [x, y], [x.sum() + y.sum()], flags=["--free-dims"], saved=saved)
    case("free_dims_that_must_be_equal", "agraph (float[N] x, float[N] y) => (float[N] z) { z = Add (x, y) }", [x, y], "which must be equal or 1",
         flags=["--free-dims"])
    case("free_dims_equal", "agraph (float[N] x, float[N] y) => (float[N] z) { z = Add (x, y) }", [x, x], [x + x], flags=["--free-dims"])
    loop = """agraph (int64 m, float[N] x, float[N] y) => (float[N] r, float s) { t = Constant <value = bool {1}> ()
        r = Loop (m, t, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] w) { d = Identity (c)  w = Add (v, x) }>
        s = ReduceSum <keepdims=0> (y) }"""
    case("free_dims_in_bodies", loop, [np.array(2), x, y], [3 * x, y.sum()], flags=["--free-dims"])
    case("free_dims_named", sums, [x, y], [x.sum() + y.sum()], flags=["--free-dims", "--dim", "y_d0=2"])


def main():
    sard, wanted, failed = os.path.abspath(sys.argv[1]), sys.argv[2:], 0
    for group in (names, attributes, types, shapes, loops, lengths, any_ranks, empty_dims, free_dims, numbers, batches, samples):
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
