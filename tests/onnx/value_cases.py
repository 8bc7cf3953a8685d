"""Values that are no plain tensors, and tensors of any rank: models made here, numbers by onnx's reference evaluator.

usage: python3 value_cases.py SARD [NAME...]      last line: N passed, N failed

Each case runs at -O0 and -O3, and through a saved artifact.
"""
import os
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh
from onnx.reference import ReferenceEvaluator

import many

CASES = {}
RNG = np.random.default_rng(7)


def info(name, elem, shape):
    return h.make_tensor_value_info(name, elem, shape)


def sequence(name, elem, shape=None):
    return h.make_tensor_sequence_value_info(name, elem, shape)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def case(name, nodes, inputs, outputs, feeds, constants=(), want=None):
    """want: expected outputs by feed, where the reference evaluator has none."""
    graph = h.make_graph(nodes, name, inputs, outputs, [nh.from_array(np.array(v), k) for k, v in constants])
    imports = [h.make_opsetid("", 20), h.make_opsetid("ai.onnx.ml", 3)]
    CASES[name] = (h.make_model(graph, opset_imports=imports, ir_version=9), feeds, want)


def node(op, inputs, outputs, **attrs):
    return h.make_node(op, inputs, outputs, **attrs)


# ---- any rank ----
ANY = [floats(), floats(3), floats(2, 3), floats(2, 3, 4), floats(1, 2, 3, 4), floats(1, 1, 2, 2, 2)]
case("rank_elementwise", [node("Relu", ["x"], ["a"]), node("Exp", ["a"], ["b"]), node("ReduceSum", ["b"], ["y"], keepdims=0)],
     [info("x", T.FLOAT, None)], [info("y", T.FLOAT, None), info("b", T.FLOAT, None)], [{"x": x} for x in ANY])
case("rank_two", [node("Add", ["x", "y"], ["z"])], [info("x", T.FLOAT, None), info("y", T.FLOAT, None)],
     [info("z", T.FLOAT, None)], [{"x": floats(2, 3), "y": floats(3)}, {"x": floats(), "y": floats(4, 1)}])
case("rank_conv", [node("Conv", ["x", "w"], ["y"])], [info("x", T.FLOAT, None)], [info("y", T.FLOAT, None)],
     [{"x": floats(1, 3, 8, 8)}], [("w", floats(4, 3, 3, 3))])
case("rank_reshape", [node("Reshape", ["x", "s"], ["a"]), node("Neg", ["a"], ["y"]), node("Shape", ["a"], ["z"])],
     [info("x", T.FLOAT, [None, 4]), info("s", T.INT64, [None])], [info("y", T.FLOAT, None), info("z", T.INT64, [None])],
     [{"x": floats(6, 4), "s": np.array(s)} for s in ([24], [2, -1], [0, 2, 2], [1, 2, 3, 4])])
case("rank_squeeze", [node("Squeeze", ["x"], ["a"]), node("Neg", ["a"], ["y"])], [info("x", T.FLOAT, [None, 4, None])],
     [info("y", T.FLOAT, None)], [{"x": floats(*s)} for s in ((1, 4, 1), (2, 4, 1), (2, 4, 3))])
THEN = h.make_graph([node("Identity", ["x"], ["t"])], "then", [], [info("t", T.FLOAT, [None, None])])
ELSE = h.make_graph([node("ReduceSum", ["x"], ["e"], keepdims=0)], "else", [], [info("e", T.FLOAT, [])])
case("rank_if", [node("If", ["c"], ["r"], then_branch=THEN, else_branch=ELSE), node("Abs", ["r"], ["y"])],
     [info("c", T.BOOL, []), info("x", T.FLOAT, [2, 3])], [info("y", T.FLOAT, None)],
     [{"c": np.array(b), "x": floats(2, 3)} for b in (True, False)])
BODY = h.make_graph([node("Unsqueeze", ["v", "ax"], ["u"]), node("Identity", ["ci"], ["co"])], "body",
                    [info("i", T.INT64, []), info("ci", T.BOOL, []), info("v", T.FLOAT, None)],
                    [info("co", T.BOOL, []), info("u", T.FLOAT, None)], [nh.from_array(np.array([0]), "ax")])
case("rank_loop", [node("Loop", ["n", "c", "x"], ["y"], body=BODY)], [info("n", T.INT64, []), info("x", T.FLOAT, [2, 3])],
     [info("y", T.FLOAT, None)], [{"n": np.array(k), "x": floats(2, 3)} for k in (0, 1, 3)], [("c", True)])

case("rank_gather_nd", [node("GatherND", ["x", "i"], ["g"]), node("Neg", ["g"], ["y"])], [info("x", T.FLOAT, [None, 3, 2]), info("i", T.INT64, [None, None])],
     [info("y", T.FLOAT, None)], [{"x": floats(4, 3, 2), "i": np.array(i)} for i in ([[3], [-1]], [[1, 2], [0, -3]], [[0, 1, 1]])])

# ---- sequences ----
GROW = h.make_graph([node("Mul", ["x", "x"], ["xx"]), node("SequenceInsert", ["acc", "xx"], ["acc2"]),
                     node("Identity", ["ci"], ["co"])], "grow",
                    [info("i", T.INT64, []), info("ci", T.BOOL, []), sequence("acc", T.FLOAT)],
                    [info("co", T.BOOL, []), sequence("acc2", T.FLOAT)])
case("sequence_in_loop", [node("SequenceEmpty", [], ["s0"]), node("Loop", ["n", "c", "s0"], ["s"], body=GROW),
                          node("SequenceLength", ["s"], ["len"]), node("SequenceAt", ["s", "last"], ["at"]),
                          node("ConcatFromSequence", ["s"], ["all"], axis=0),
                          node("ConcatFromSequence", ["s"], ["stacked"], axis=-1, new_axis=1)],
     [info("n", T.INT64, []), info("x", T.FLOAT, [None, 2])],
     [info("len", T.INT64, []), info("at", T.FLOAT, [None, 2]), info("all", T.FLOAT, [None, 2]), info("stacked", T.FLOAT, [None, 2, None])],
     [{"n": np.array(k), "x": floats(3, 2)} for k in (1, 5, 40)], [("c", True), ("last", -1)])
case("sequence_edit", [node("SequenceConstruct", ["a", "b", "a"], ["s"]), node("SequenceInsert", ["s", "b", "zero"], ["s1"]),
                       node("SequenceErase", ["s1", "two"], ["s2"]), node("SequenceErase", ["s2"], ["s3"]),
                       node("SequenceAt", ["s3", "one"], ["y"])],
     [info("a", T.FLOAT, [None]), info("b", T.FLOAT, [None])], [sequence("s3", T.FLOAT), info("y", T.FLOAT, [None])],
     [{"a": floats(2), "b": floats(5)}, {"a": floats(0), "b": floats(1)}], [("zero", 0), ("one", 1), ("two", 2)])
case("sequence_split", [node("SplitToSequence", ["x", "p"], ["s"], axis=1), node("SequenceAt", ["s", "i"], ["y"])],
     [info("x", T.INT32, [None, None]), info("p", T.INT64, [None]), info("i", T.INT64, [])],
     [sequence("s", T.INT32), info("y", T.INT32, [None, None])],
     [{"x": np.arange(12, dtype=np.int32).reshape(2, 6), "p": np.array(p), "i": np.array(i)} for p, i in (([1, 2, 3], 1), ([6], 0), ([0, 6], -1))])
case("sequence_mixed_ranks", [node("SequenceConstruct", ["a", "b"], ["s"]), node("SequenceAt", ["s", "i"], ["t"]), node("Neg", ["t"], ["y"])],
     [info("a", T.FLOAT, [None]), info("b", T.FLOAT, [None, 2]), info("i", T.INT64, [])], [info("y", T.FLOAT, None)],
     [{"a": floats(3), "b": floats(2, 2), "i": np.array(i)} for i in (0, 1)])

# ---- strings ----
WORDS = np.array(["a", "", "bc", "a", "Größe", "x y  z"], dtype=object)
case("strings_move", [node("Gather", ["x", "i"], ["g"]), node("Concat", ["g", "x"], ["c"], axis=0), node("Equal", ["c", "k"], ["e"]),
                      node("Where", ["e", "k", "c"], ["w"]), node("Reshape", ["w", "s"], ["y"]), node("Transpose", ["y"], ["t"])],
     [info("x", T.STRING, [None]), info("i", T.INT64, [2])], [info("e", T.BOOL, None), info("y", T.STRING, None), info("t", T.STRING, None)],
     [{"x": WORDS, "i": np.array([4, 0])}], [("k", np.array("a", dtype=object)), ("s", np.array([2, -1]))])
case("strings_concat_split", [node("StringConcat", ["x", "y"], ["z"]), node("StringSplit", ["z"], ["p", "n"], delimiter=" ", maxsplit=2)],
     [info("x", T.STRING, [None]), info("y", T.STRING, [2, 1])], [info("z", T.STRING, None), info("p", T.STRING, None), info("n", T.INT64, None)],
     [{"x": WORDS, "y": np.array([[" k"], [""]], dtype=object)}])
case("strings_cast", [node("Cast", ["x"], ["s"], to=T.STRING), node("Cast", ["s"], ["y"], to=T.DOUBLE)],
     [info("x", T.INT32, [None])], [info("s", T.STRING, None), info("y", T.DOUBLE, None)],
     [{"x": np.array([0, -7, 123456], dtype=np.int32)}])
PATTERNS = {r"a|b+c": ["a", "bbbc", "bbb", "ac", ""], r"(?i)gr.?ö(ß|ss)e": ["Größe", "GRöSSE", "größ"], r"\d{2,3}(-\d+)*": ["12", "1", "123-4-5", "1234"],
            r"[^a-c\s]+[[:digit:]]": ["xyz1", "a1", "x y1", "1"], r"(?P<user>\w+)@(\w+\.)+com": ["me@x.com", "me@x.y.com", "@x.com"],
            r"x*(y?z){0,2}": ["", "xxzyz", "zzz"], r"^\bfoo\b.*?$": ["foo bar", "foobar", "foo"], r"\x41\x{42}\.": ["AB.", "ABx"]}
for number, (pattern, texts) in enumerate(PATTERNS.items()):
    case(f"regex_{number}", [node("RegexFullMatch", ["x"], ["y"], pattern=pattern)], [info("x", T.STRING, [None])], [info("y", T.BOOL, None)],
         [{"x": np.array(texts, dtype=object)}],
         want=[[np.array(w)] for w in ([[True, True, False, False, False], [True, True, False], [True, False, True, False],
                                       [True, False, False, False], [True, True, False], [True, True, False],
                                       [True, False, True], [True, False]][number],)])
case("labels", [h.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["a", "bc"], values_int64s=[5, 6], default_int64=-9),
                h.make_node("LabelEncoder", ["y"], ["z"], domain="ai.onnx.ml", keys_int64s=[5, 6], values_strings=["A", "BC"], default_string="?")],
     [info("x", T.STRING, [None])], [info("y", T.INT64, None), info("z", T.STRING, None)], [{"x": WORDS}],
     want=[[np.array([5, -9, 6, 5, -9, -9]), np.array(["A", "?", "BC", "A", "?", "?"], dtype=object)]])


def same(got, want):
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(same(g, w) for g, w in zip(got, want))
    want = np.asarray(want)
    if want.dtype.kind in "OSUT":
        text = [[x.decode() if isinstance(x, bytes) else str(x) for x in a.reshape(-1)] for a in (got, want)]
        return got.shape == want.shape and text[0] == text[1]
    return got.dtype == want.dtype and got.shape == want.shape and np.allclose(got, want, rtol=1e-4, atol=1e-5)


def read(path, value_type):
    with open(path, "rb") as f:
        data = f.read()
    if value_type.WhichOneof("value") == "sequence_type":
        return nh.to_list(onnx.SequenceProto.FromString(data))
    return nh.to_array(onnx.TensorProto.FromString(data))


def run(sard, model, folder, how):
    out = os.path.join(folder, "out")
    r = many.run(sard, "run", how[0], "--inputs", folder, "--outputs", out, "-q", *how[1:])
    if r.returncode:
        return r.stderr.strip()[:300]
    return [read(os.path.join(out, f"output_{i}.pb"), o.type) for i, o in enumerate(model.graph.output)]


def check(sard, name):
    model, feeds, want = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        path, artifact = os.path.join(folder, "model.onnx"), os.path.join(folder, "model.sard")
        onnx.save(model, path)
        many.run(sard, "compile", path, "-o", artifact, "-q")
        for k, feed in enumerate(feeds):
            expected = want[k] if want else ReferenceEvaluator(model).run(None, feed)
            for i, v in enumerate(model.graph.input):
                with open(os.path.join(folder, f"input_{i}.pb"), "wb") as f:
                    f.write(nh.from_array(feed[v.name], v.name).SerializeToString())
            for how in ((path, "-O0"), (path, "-O3"), (artifact,)):
                got = run(sard, model, folder, how)
                if isinstance(got, str) or not same(got, list(expected)):
                    return f"data {k}, {os.path.basename(how[0])} {how[1:]}: {got if isinstance(got, str) else 'differs'}"
    return None


def main():
    sard, names = sys.argv[1], sys.argv[2:] or list(CASES)
    failed = 0
    for name in names:
        problem = check(sard, name)
        failed += problem is not None
        if problem:
            print(f"FAIL onnx/{name}: {problem}")
    print(f"{len(names) - failed} passed, {failed} failed")


main()
