#!/usr/bin/env python3
"""sard compile --precision with --data: what overflows, and the choice of auto; plans that come back; sard convert, against
ONNX Runtime and ONNX's checker where Python has them; what is refused.
  precision.py SARD CORPUS    prints "ok NAME" or "FAIL NAME: why" and, last, "N passed, N failed" """
import json, os, sys
import numpy as np

try:
    import onnx, onnxruntime as ort
except ImportError:
    ort = None

from checks import CORPUS, T, check, end, sard

GRAPH = """module
symbol N
graph "main" (%0 "x": f32[N,2]) {
  %1 = const f32[2,2] dense<1, 2, 3, 4>
  %2 "large" = MatMul(%0, %1)
  %3 "small" = Sigmoid(%2)
  %4 "y" = MatMul(%3, %1)
  return %4
}
"""


def ends(name, code, args, says=""):
    got, j, text = sard("compile", *args)
    check(name, got == code and says in text, f"exit {got} instead of {code}, or no '{says}': {text[-300:]}")
    return j


def types(j):
    return {n["name"]: (n["to"], n.get("why", "")) for n in j["report"]["precision"]["nodes"]}


def overflow():
    model, data, plan, out = (f"{T}/{n}" for n in ("o.sard-ir", "o.npz", "o.json", "o.sard"))
    open(model, "w").write(GRAPH)
    np.savez(data, x=np.array([[1, 2], [30000, 1], [-5, 3]], np.float32))
    calm = types(ends("without-data", 0, [model, "--precision", "f16", "-o", out]))
    check("without-data-all", {calm[n][0] for n in ("large", "small", "y")} == {"f16"}, calm)
    found = types(ends("overflow", 0, [model, "--precision", "f16", "--data", data, "--plan", plan, "-o", out], "f16 ends at 65504"))
    check("overflow-named", found["large"][0] == "f32" and "reaches" in found["large"][1] and found["y"][0] == "f16", found)
    check("overflow-plan", [n["name"] for n in json.load(open(plan))["nodes"]] == ["large"])
    again = types(ends("plan-again", 0, [model, "--precision", f"@{plan}", "-o", out]))
    check("plan-again-same", {n: t for n, (t, _) in again.items()} == {n: t for n, (t, _) in found.items()}, again)
    wide = types(ends("bf16-holds-it", 0, [model, "--precision", "bf16", "--data", data, "-o", out]))
    check("bf16-all", wide["large"][0] == "bf16", wide)


def auto():
    """Whatever is chosen is allowed and not slower than f32; the plan gives the same artifact."""
    case, plan, out = os.path.join(CORPUS, "digits_mlp"), f"{T}/a.json", f"{T}/a.sard"
    args = ["--data", f"{case}/accuracy.npz", "--metric", "top1", "--limit", "256", "--plan", plan, "-o", out]
    j = ends("auto", 0, [f"{case}/model.onnx", "--precision", "auto", *args], "chosen")
    tried = j.get("auto", {}).get("trials", [])
    best = min([t["ms"] for t in tried if t["allowed"]], default=0)
    check("auto-tried", {t["precision"] for t in tried} == {"bf16", "f16"} and all(t["ms"] > 0 for t in tried), tried)
    check("auto-chosen", json.load(open(plan))["precision"] == j["auto"]["chosen"] and (j["auto"]["chosen"] != "f32" or best >= 0.9 * j["auto"]["f32_ms"]), j["auto"])
    first = open(out, "rb").read()
    ends("auto-again", 0, [f"{case}/model.onnx", "--precision", f"@{plan}", "-o", out])
    check("auto-again-same", open(out, "rb").read() == first)
    model = f"{case}/model.onnx"
    ends("auto-needs-data", 2, [model, "--precision", "auto", "-o", out], "needs --data")
    ends("auto-needs-metric", 2, [model, "--precision", "auto", "--data", f"{case}/accuracy.npz", "-o", out], "needs --metric")
    ends("plan-needs-data", 2, [model, "--precision", "f16", "--plan", plan, "-o", out], "--plan needs")
    elsewhere(plan)


def elsewhere(plan):
    """The verbs that run a model measure as compile does."""
    case = f"{CORPUS}/digits_mlp"
    given = ["--precision", "auto", "--data", f"{case}/accuracy.npz", "--metric", "top1", "--limit", "64", "--plan", plan]
    for verb, args in (("run", [f"{case}/model.onnx"]), ("bench", [f"{case}/model.onnx", "--iterations", "3"]), ("eval", [f"{case}/model.onnx"])):
        if os.path.exists(plan): os.remove(plan)
        code, j, text = sard(verb, *args, *given, "--max-drop", "2%")
        check(f"auto-{verb}", code == 0 and len(j["auto"]["trials"]) >= 2 and json.load(open(plan))["precision"] == j["auto"]["chosen"], text[-300:])
    code, j, text = sard("check", case, *given, "--rtol", "0.1", "--atol", "0.1")
    check("auto-check", code == 0 and j["passed"] == 1 and len(j["cases"]) == 1 and "chosen" in text, text[-300:])
    code, _, text = sard("run", f"{case}/model.onnx", "--precision", "auto")
    check("auto-run-needs-data", code == 2 and "needs --data and --metric" in text, text[-300:])


def converted(name, model, data, to, *args):
    """Half the size, near the f32 model; ONNX Runtime gives the same of f16, and takes bf16 for valid."""
    out = f"{T}/c.onnx"
    code, j, text = sard("convert", model, "-o", out, "--to", to, *args)
    size = os.path.getsize(out) / os.path.getsize(model) if code == 0 else 1
    check(name, code == 0 and size < 0.65 and j["size_after"] == os.path.getsize(out), f"exit {code}, size {size:.2f} {text[-300:]}")
    if code: return j
    code, e, text = sard("eval", out, "--data", data, "--metric", "psnr", "--baseline", model, "--limit", "64", "--batch", "64")
    check(f"{name}-near", code == 0 and e["value"] >= (45 if to == "f16" else 30), f"{e.get('value')} dB {text[-200:]}")
    if not ort: return j
    try:
        onnx.checker.check_model(onnx.load(out), full_check=True)
        check(f"{name}-valid", True)
        if to == "bf16": return j
        x = {k[3:]: v[:64] for k, v in np.load(data).items() if k.startswith("in_")}
        so = ort.SessionOptions()
        so.log_severity_level = 3
        want, got = (ort.InferenceSession(m, so, providers=["CPUExecutionProvider"]).run(None, x)[0] for m in (model, out))
    except Exception as e:
        check(f"{name}-valid", False, str(e)[:300])
        return j
    check(f"{name}-ort", np.abs(want - got).max() <= 4e-3 * np.abs(want).max(), np.abs(want - got).max())
    return j


def cannot():
    """A flat Softmax has no form after opset 12: the model stays, it is told why, and its MatMul is bf16 all the same where it can be."""
    n, h = onnx.helper.make_node, onnx.helper
    w = onnx.numpy_helper.from_array(np.ones((16, 128), np.float32), "w")
    g = h.make_graph([n("MatMul", ["x", "w"], ["a"]), n("Softmax", ["a"], ["y"], "flat", axis=0)], "g", [h.make_tensor_value_info("x", 1, [4, 16])], [h.make_tensor_value_info("y", 1, [4, 128])], [w])
    with open(f"{T}/flat.onnx", "wb") as f: f.write(h.make_model(g, opset_imports=[h.make_opsetid("", 11)], ir_version=6).SerializeToString())
    code, j, text = sard("convert", f"{T}/flat.onnx", "-o", f"{T}/n.onnx", "--to", "bf16")
    check("convert-cannot-raise", code == 4 and "one Softmax cannot say what 'flat' does" in text and "no node of f32 can be bf16" in text, f"{code} {text[-400:]}")


def narrow_ends():
    """Inputs and outputs of f16: one that is read in both types, one that is not cast; ONNX Runtime takes and gives f16."""
    n, h = onnx.helper.make_node, onnx.helper
    w = [onnx.numpy_helper.from_array(np.random.default_rng(2).normal(size=(16, 16)).astype(np.float32), k) for k in ("w", "v")]
    g = h.make_graph([n("Softmax", ["x"], ["s"]), n("MatMul", ["x", "w"], ["y"]), n("Exp", ["y"], ["e"]), n("MatMul", ["y", "v"], ["q"]), n("Add", ["e", "q"], ["z"]), n("Exp", ["t"], ["u"])], "g",
                     [h.make_tensor_value_info(k, 1, ["n", 16]) for k in "xt"], [h.make_tensor_value_info(k, 1, ["n", 16]) for k in "syzu"], w)
    with open(f"{T}/ends.onnx", "wb") as f: f.write(h.make_model(g, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString())
    code, j, text = sard("convert", f"{T}/ends.onnx", "-o", f"{T}/e.onnx", "--to", "f16", "--keep-io-types", "no")
    m = onnx.load(f"{T}/e.onnx") if code == 0 else None
    types = {v.name: v.type.tensor_type.elem_type for v in [*m.graph.input, *m.graph.output]} if m else {}
    check("ends-types", types.get("x") == types.get("y") == 10 and types.get("s") == types.get("t") == types.get("u") == 1 and j["io_narrow"] == sum(v == 10 for v in types.values()), f"{types} {text[-300:]}")
    if code or not ort: return
    onnx.checker.check_model(m, full_check=True)
    x, t = (np.random.default_rng(k).normal(size=(4, 16)).astype(np.float32) for k in (5, 6))
    want = ort.InferenceSession(f"{T}/ends.onnx").run(None, {"x": x, "t": t})
    got = ort.InferenceSession(f"{T}/e.onnx").run(None, {"x": x.astype(np.float16), "t": t})
    worst = max(np.abs(a - b.astype(np.float32)).max() / np.abs(a).max() for a, b in zip(want, got))
    check("ends-ort", worst < 5e-3, worst)
    model, data = f"{CORPUS}/mnist_resnet8/model.onnx", f"{CORPUS}/mnist_resnet8/accuracy.npz"
    code, j, text = sard("convert", model, "-o", f"{T}/e.onnx", "--to", "f16", "--keep-io-types", "no", "--data", data, "--metric", "top1", "--limit", "64")
    code, e, more = sard("eval", f"{T}/e.onnx", "--data", data, "--metric", "top1", "--limit", "64")  # data of f32 are converted
    check("ends-eval", code == 0 and j["io_narrow"] == 2 and abs(e["value"] - j["value_after"]) < 0.02, f"{j.get('io_narrow')} {text[-300:]}{more[-300:]}")


def computed_constant():
    """A factor that is computed of constants, as exporters write the scale of attention, is narrow where the node that reads it is."""
    n, h = onnx.helper.make_node, onnx.helper
    w = [onnx.numpy_helper.from_array(np.random.default_rng(3).normal(size=(16, 16)).astype(np.float32), "w"), onnx.numpy_helper.from_array(np.array([16], np.float32), "width")]
    value = lambda k: h.make_tensor_value_info(k, 1, ["n", 16])
    g = h.make_graph([n("Sqrt", ["width"], ["scale"]), n("MatMul", ["x", "w"], ["a"]), n("Mul", ["a", "scale"], ["b"]), n("MatMul", ["b", "w"], ["y"])], "g", [value("x")], [value("y")], w)
    with open(f"{T}/factor.onnx", "wb") as f: f.write(h.make_model(g, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString())
    code, j, text = sard("convert", f"{T}/factor.onnx", "-o", f"{T}/f.onnx", "--to", "f16")
    ops = {k["op"]: k["to"] for k in j.get("nodes", [])}
    check("computed-constant", code == 0 and ops.get("Mul") == ops.get("MatMul") == "f16", f"{ops} {text[-300:]}")
    if code or not ort: return
    onnx.checker.check_model(onnx.load(f"{T}/f.onnx"), full_check=True)
    x = np.random.default_rng(5).normal(size=(4, 16)).astype(np.float32)
    want, got = (ort.InferenceSession(f"{T}/{k}.onnx").run(None, {"x": x})[0] for k in ("factor", "f"))
    check("computed-constant-ort", np.abs(want - got).max() < 5e-3 * np.abs(want).max(), np.abs(want - got).max())


def body_ends():
    """A branch that reads an input and an output of the model sees f32, as before; compile narrows all ends, with a plan too, and not without a type."""
    n, h = onnx.helper.make_node, onnx.helper
    w = [onnx.numpy_helper.from_array(np.random.default_rng(3).normal(size=(16, 16)).astype(np.float32), "w"), onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    value = lambda k: h.make_tensor_value_info(k, 1, ["n", 16])
    then, other = h.make_graph([n("Sub", ["y", "x"], ["d"])], "then", [], [value("d")]), h.make_graph([n("Exp", ["x"], ["o"])], "other", [], [value("o")])
    nodes = [n("MatMul", ["x", "w"], ["y"]), n("ReduceMax", ["x"], ["m"], keepdims=0), n("Greater", ["m", "zero"], ["c1"]), n("Squeeze", ["c1"], ["c"]), n("If", ["c"], ["z"], then_branch=then, else_branch=other)]
    g = h.make_graph(nodes, "g", [value("x")], [value("y"), value("z")], w)
    model = f"{T}/body.onnx"
    with open(model, "wb") as f: f.write(h.make_model(g, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString())
    x = np.random.default_rng(5).normal(size=(4, 16)).astype(np.float32)
    code, j, text = sard("convert", model, "-o", f"{T}/b.onnx", "--to", "f16", "--keep-io-types", "no")
    check("body-ends", code == 0 and j["io_narrow"] == 2, text[-300:])
    if code == 0 and ort:
        onnx.checker.check_model(onnx.load(f"{T}/b.onnx"), full_check=True)
        for sign in (1, -1):
            a = sign * np.abs(x)
            want, got = ort.InferenceSession(model).run(None, {"x": a}), ort.InferenceSession(f"{T}/b.onnx").run(None, {"x": a.astype(np.float16)})
            worst = max(np.abs(p - q.astype(np.float32)).max() / np.abs(p).max() for p, q in zip(want, got))
            check(f"body-ends-ort-{sign}", worst < 5e-3, worst)
    for to in ("f16", "bf16"):
        code, j, text = sard("compile", model, "-o", f"{T}/b.sard", "--precision", to, "--keep-io-types", "no")
        art = sard("inspect", f"{T}/b.sard", "-q")[1]["artifact"] if code == 0 else {}
        types = {v["name"]: v["dtype"] for v in [*art.get("inputs", []), *art.get("outputs", [])]}
        check(f"compile-ends-{to}", code == 0 and j["io_narrow"] == 3 and set(types.values()) == {to} and len(types) == 3, f"{types} {text[-300:]}")
        if not ort: continue
        np.savez(f"{T}/b.npz", x=np.abs(x), y=ort.InferenceSession(model).run(None, {"x": np.abs(x)})[1])  # f32, which is converted
        code, e, text = sard("eval", f"{T}/b.sard", "--data", f"{T}/b.npz", "--metric", "cosine", "--judged", "z")
        check(f"compile-ends-{to}-runs", code == 0 and e["value"] > 0.999, text[-300:])
    code, j, text = sard("compile", model, "-o", f"{T}/b.sard", "--keep-io-types", "no")
    check("compile-ends-no-type", code == 2 and "needs --precision" in text, text[-300:])


def convert():
    cases = {n: (f"{CORPUS}/{n}/model.onnx", f"{CORPUS}/{n}/accuracy.npz") for n in ("digits_mlp", "mnist_resnet8", "text_source", "austen_charlstm")}
    cases = {n: c for n, c in cases.items() if os.path.exists(c[0])}
    for name, case in cases.items():
        for to in ("f16", "bf16"): converted(f"convert-{name}-{to}", *case, to)
    model, data = cases["mnist_resnet8"]
    code, j, text = sard("convert", model, "-o", f"{T}/k.onnx", "--to", "f16", "--keep-float", "/3/*", "--data", data, "--metric", "top1", "--limit", "128")
    kept = {n["name"]: n for n in j["nodes"]} if code == 0 else {}
    check("convert-keep", code == 0 and kept["/3/a/a.0/Conv"]["why"] == "--keep-float" and any(n["to"] == "f16" for n in kept.values()), text[-300:])
    check("convert-judged", abs(j.get("drop", 1)) <= 0.02 and j["ms_after"] > 0 and {n["to"] for n in kept.values() if n["op"] in ("GlobalAveragePool", "ReduceMean")} == {"f32"}, text[-300:])
    for name, want, args in (("output", "-o FILE is missing", [model, "--to", "f16"]), ("to", "--to is missing", [model, "-o", f"{T}/n.onnx"]),
                             ("type", "neither f16 nor bf16", [model, "--to", "i8", "-o", f"{T}/n.onnx"]),
                             ("unknown", "no node 'nowhere'", [model, "--to", "f16", "-o", f"{T}/n.onnx", "--keep-float", "nowhere"]),
                             ("drop", "needs --metric", [model, "--to", "f16", "-o", f"{T}/n.onnx", "--max-drop", "1%"])):
        code, _, text = sard("convert", *args)
        check(f"convert-{name}", code == 2 and want in text and not os.path.exists(f"{T}/n.onnx"), f"exit {code} {text[-200:]}")
    j = converted("convert-raised", model, data, "bf16")  # convolutions of bf16 begin with opset 22
    ops = {n["op"]: n["to"] for n in j.get("nodes", [])}
    check("convert-raised-opset", j.get("raised_to") == 22 and ops.get("Conv") == "bf16" and (not ort or onnx.load(f"{T}/c.onnx").opset_import[0].version == 22), ops)
    if ort: cannot(), narrow_ends(), body_ends(), computed_constant()
    code, _, text = sard("convert", f"{T}/k.onnx", "--to", "f16", "-o", f"{T}/n.onnx", "--keep-float", "*")
    check("convert-nothing", code == 4 and "no node of f32 can be f16" in text and not os.path.exists(f"{T}/n.onnx"), f"exit {code} {text[-200:]}")


overflow()
auto()
convert()
sys.exit(end())
