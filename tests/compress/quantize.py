#!/usr/bin/env python3
"""sard quantize: written models against the float one in Sard, and against ONNX Runtime where Python has it; what is refused.
  quantize.py SARD CORPUS    prints "ok NAME" or "FAIL NAME: why" and, last, "N passed, N failed" """
import json, os, signal, subprocess, sys, time
import numpy as np

try:
    import onnxruntime as ort
except ImportError:
    ort = None

import checks
from checks import CORPUS, Case, SARD, T, check, end, interrupted


def sard(*args):
    any_speed = ["--must-be-faster", "no"] if args[0] == "quantize" and "--must-be-faster" not in args else []  # the machine may be busy
    return checks.sard(*args, *any_speed)


def ends(name, code, args, says="", file=None):
    got, j, text = sard("quantize", *args)
    check(name, got == code and says in text and not (file and os.path.exists(file)), f"exit {got} instead of {code}, or no '{says}': {text[-300:]}")
    return j


def by_ort(model, x):
    so = ort.SessionOptions()
    so.log_severity_level = 3
    so.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")  # its default rounds activations, too
    so.optimized_model_filepath = os.path.join(T, "optimized.onnx")
    return ort.InferenceSession(model, so, providers=["CPUExecutionProvider"]).run(None, x)[0]


def near_ort(name, out, x):
    """Sard gives for the written model what ONNX Runtime does."""
    np.savez(f"{T}/ort.npz", **x, y=by_ort(out, x))
    code, e, text = sard("eval", out, "--data", f"{T}/ort.npz", "--metric", "psnr")
    check(name, code == 0 and e["value"] > 38, f"{e.get('value')} {text[-300:]}")


def floats_left(path, ops):
    """Nodes of ONNX Runtime's optimized model that stayed float: it made no integer kernel of what was written."""
    try: import onnx
    except ImportError: return []
    return [n.name for n in onnx.load(path).graph.node if n.op_type in ops]


def quality(name, case, args, least, ops=(), most=0.6):
    """The model is written, is near the float one (dB), and ONNX Runtime gives the same."""
    out = f"{T}/{name}.onnx"
    code, j, text = sard("quantize", case.model, "-o", out, "-q", *args)
    if code: return check(name, False, text[-300:])
    size = os.path.getsize(out) / os.path.getsize(case.model)
    code, e, text = sard("eval", out, "--data", case.data, "--metric", "psnr", "--baseline", case.model, "--limit", "64", "--batch", "64")
    check(name, code == 0 and e["value"] >= least and size < most, f"{e.get('value')} dB, size {size:.2f} {text[-300:]}")
    if not ort: return
    x = {k: v[:64] for k, v in case.x.items()}
    try: y = by_ort(out, x)
    except Exception as e: return check(f"{name}-ort", False, str(e)[:300])
    np.savez(f"{T}/ort.npz", **x, y=y)
    code, e, text = sard("eval", out, "--data", f"{T}/ort.npz", "--metric", "psnr", "--batch", "64")
    left = floats_left(f"{T}/optimized.onnx", ops)
    check(f"{name}-ort", code == 0 and e["value"] >= 38 and not left, f"{e.get('value')} dB from ONNX Runtime, left float {left} {text[-200:]}")


def operators(name, case, args, least, want):
    """Operators instead of pairs around floats: nothing but the ends is float, and the numbers are those of the other form."""
    quality(name, case, [*args, "--format", "qoperator"], least)
    sard("quantize", case.model, "-o", f"{T}/qdq.onnx", *args)
    code, e, text = sard("eval", f"{T}/{name}.onnx", "--data", case.data, "--metric", "psnr", "--baseline", f"{T}/qdq.onnx", "--limit", "64", "--batch", "64")
    check(f"{name}-same", code == 0 and e["value"] > 50, e.get("value", text[-300:]))
    try: import onnx
    except ImportError: return
    ops = [n.op_type for n in onnx.load(f"{T}/{name}.onnx").graph.node]
    check(f"{name}-ops", want <= set(ops) and not {"Conv", "Gemm", "MatMul", "Add"} & set(ops) and ops.count("DequantizeLinear") <= 1, ops)


def methods(digits, lenet, resnet):
    data = ["--data", resnet.data]
    for method in ("minmax", "average", "percentile:99.99", "entropy", "mse"):
        quality(f"static-{method.split(':')[0]}", resnet, [*data, "--method", method, "--samples", "64"], 26, ("Conv", "Gemm"))
    quality("static-lenet", lenet, ["--data", lenet.data, "--correct-biases"], 30, ("Conv", "Gemm"))
    quality("static-digits", digits, ["--data", digits.data], 30, ("Gemm",))
    quality("static-per-tensor", digits, ["--data", digits.data, "--per-tensor"], 30, ("Gemm",))
    quality("static-s8", digits, ["--data", digits.data, "--acts", "s8"], 28)
    quality("static-reduce-range", digits, ["--data", digits.data, "--reduce-range"], 28, ("Gemm",))
    quality("static-keep", resnet, [*data, "--samples", "32", "--keep-float", "/3/*"], 26)
    quality("dynamic", digits, ["--mode", "dynamic"], 30, ("Gemm",))
    quality("dynamic-lenet", lenet, ["--mode", "dynamic"], 30, ("Gemm",))
    quality("weights-i8", lenet, ["--mode", "weights"], 40)
    quality("weights-i4", digits, ["--weights", "i4"], 24, ("Gemm",))
    quality("weights-i4-symmetric", digits, ["--weights", "i4", "--symmetric", "--group", "64"], 20, ("Gemm",))
    quality("weights-i2", digits, ["--weights", "i2", "--group", "16"], 6)
    quality("weights-i4-rounded", digits, ["--weights", "i4", "--round-inputs"], 24, ("Gemm",))
    quality("weights-i4-awq", digits, ["--weights", "i4", "--awq", "--data", digits.data], 24, ("Gemm",))
    quality("weights-i4-adaptive", digits, ["--weights", "i4", "--rounding", "adaptive", "--data", digits.data], 26, ("Gemm",))
    quality("weights-i4-blocks", digits, ["--weights", "i4", "--format", "qdq"], 24)
    operators("qoperator-resnet", resnet, [*data, "--samples", "64"], 26, {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm"})
    operators("qoperator-lenet", lenet, ["--data", lenet.data], 30, {"QLinearConv", "MaxPool", "QGemm"})
    operators("qoperator-digits", digits, ["--data", digits.data], 30, {"QGemm"})
    operators("qoperator-s8", digits, ["--data", digits.data, "--acts", "s8"], 28, {"QGemm"})
    quality("equalize", resnet, [*data, "--equalize", "--per-tensor", "--samples", "64"], 24, ("Conv", "Gemm"))
    quality("smooth", digits, ["--data", digits.data, "--smooth", "0.5"], 30, ("Gemm",))
    quality("smooth-dynamic", lenet, ["--mode", "dynamic", "--data", lenet.data, "--smooth", "0.5"], 30, ("Gemm",))
    quality("weights-i4-gptq", digits, ["--weights", "i4", "--rounding", "gptq", "--data", digits.data], 26, ("Gemm",))


def float8(digits, lenet, resnet):
    """e4m3fn has three bits behind the point, e5m2 two: 6 dB less. No kernel multiplies them, so what is checked is that numbers agree."""
    for kind, least in (("f8e4m3fn", 26), ("f8e5m2", 20)):
        quality(f"weights-{kind}", lenet, ["--weights", kind], least)
        quality(f"static-{kind}", resnet, ["--data", resnet.data, "--weights", kind, "--samples", "32", "--correct-biases"], least - 4)
    quality("static-float8-per-tensor", digits, ["--data", digits.data, "--weights", "f8e4m3fn", "--per-tensor"], 22)
    code, j, text = sard("quantize", digits.model, "-o", f"{T}/f8.onnx", "--data", digits.data, "--weights", "f8e4m3fn", "--sensitivity")
    check("float8-report", code == 0 and j["weights"] == "f8e4m3fn" and all(20 < l["weight_snr"] < 45 and l["zero"] == 0 for l in j["layers"]) and len(j["sensitivity"]) == len(j["layers"]), text[-300:])
    try: import onnx
    except ImportError: return
    m = onnx.load(f"{T}/f8.onnx")
    onnx.checker.check_model(m)
    types = {onnx.TensorProto.DataType.Name(i.data_type) for i in m.graph.initializer if i.name.endswith("_zero_point")}
    check("float8-file", types == {"FLOAT8E4M3FN"} and m.opset_import[0].version >= 19 and m.ir_version >= 9, types)


def raised():
    """Forms of opset 9 are written in those that scales for each channel, float8 and blocks of 4 bits need, or it is said which cannot be."""
    try: from onnx import TensorProto, checker, helper, load, numpy_helper
    except ImportError: return
    r, n = np.random.default_rng(4), helper.make_node
    def save(name, nodes):
        w = {"w": r.normal(size=(16, 32)), "v": r.normal(size=(32, 8))}
        g = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 2])],
                              [numpy_helper.from_array(v.astype(np.float32), k) for k, v in w.items()])
        with open(f"{T}/{name}.onnx", "wb") as f: f.write(helper.make_model(g, opset_imports=[helper.make_opsetid("", 9)], ir_version=4).SerializeToString())
        return f"{T}/{name}.onnx"
    old = save("old", [n("MatMul", ["x", "w"], ["a"]), n("Dropout", ["a"], ["b"], ratio=0.3), n("Clip", ["b"], ["c"], min=-1.5, max=2.0), n("MatMul", ["c", "v"], ["d"]),
                       n("Split", ["d"], ["e", "f"], axis=1), n("Mul", ["e", "f"], ["h"]), n("Unsqueeze", ["h"], ["i"], axes=[1]), n("Slice", ["i"], ["k"], axes=[2], starts=[0], ends=[3]),
                       n("Softmax", ["k"], ["l"], axis=2), n("ReduceSum", ["l"], ["m"], axes=[2], keepdims=1), n("TopK", ["l"], ["o", "_"], k=2), n("Add", ["m", "o"], ["y"])])
    x = {"x": r.normal(size=(64, 16)).astype(np.float32)}
    np.savez(f"{T}/old.npz", **x)
    for name, args, opset in (("static", ["--data", f"{T}/old.npz"], 13), ("float8", ["--weights", "f8e4m3fn"], 19), ("float8-static", ["--data", f"{T}/old.npz", "--weights", "f8e4m3fn"], 19), ("blocks", ["--weights", "i4", "--format", "qdq", "--group", "16"], 21)):
        out = f"{T}/raised.onnx"
        code, j, text = sard("quantize", old, "-o", out, *args)
        code, e, more = sard("eval", out, "--data", f"{T}/old.npz", "--metric", "psnr", "--baseline", old)
        m = load(out) if code == 0 else None
        if m: checker.check_model(m)
        check(f"raised-{name}", m and m.opset_import[0].version == opset and e["value"] > 18, f"{e.get('value')} {text[-300:]}{more[-300:]}")
        if ort and m: near_ort(f"raised-{name}-ort", out, x)
    cannot = save("cannot", [n("MatMul", ["x", "w"], ["a"], "first"), n("Softmax", ["a"], ["b"], "flat", axis=0), n("MatMul", ["b", "v"], ["y"])])
    ends("raised-cannot", 4, [cannot, "-o", f"{T}/raised2.onnx", "--weights", "f8e5m2"], "of opset 9 and has to be of 19, where one Softmax cannot say what 'flat' does", f"{T}/raised2.onnx")


def tables():
    """Tables that Gather reads have a scale for each row, or one."""
    try: from onnx import TensorProto, checker, helper, load, numpy_helper
    except ImportError: return
    r, n = np.random.default_rng(5), helper.make_node
    weights = {"table": r.normal(size=(600, 64)), "w": r.normal(size=(64, 8))}
    g = helper.make_graph([n("Gather", ["table", "i"], ["a"], "rows"), n("MatMul", ["a", "w"], ["y"])], "g", [helper.make_tensor_value_info("i", TensorProto.INT64, ["n", 4])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 8])], [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()])
    with open(f"{T}/table.onnx", "wb") as f: f.write(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    x = {"i": r.integers(-600, 600, size=(64, 4))}
    np.savez(f"{T}/table.npz", **x)
    for name, args, scales in (("rows", ["--mode", "weights"], 600), ("one", ["--mode", "weights", "--per-tensor"], 1), ("one-dynamic", ["--mode", "dynamic", "--per-tensor"], 1), ("one-static", ["--data", f"{T}/table.npz", "--per-tensor"], 1)):
        out = f"{T}/tables.onnx"
        code, j, text = sard("quantize", f"{T}/table.onnx", "-o", out, *args)
        code, e, more = sard("eval", out, "--data", f"{T}/table.npz", "--metric", "psnr", "--baseline", f"{T}/table.onnx")
        m = load(out) if code == 0 else None
        if m: checker.check_model(m)
        sizes = [int(np.prod(i.dims)) for i in m.graph.initializer if i.name.startswith("table") and i.data_type == TensorProto.FLOAT] if m else []
        check(f"table-{name}", m and scales in sizes and max(sizes) == scales and e["value"] > 30, f"{sizes} {e.get('value')} {text[-300:]}{more[-300:]}")
        if ort and m: near_ort(f"table-{name}-ort", out, x)


def rounding(digits):
    """Whatever looks at the data is better than rounding to the nearest, and gives the same bytes again."""
    got, files = [], []
    for args in ([], ["--awq"], ["--rounding", "gptq"], ["--rounding", "adaptive"], ["--rounding", "adaptive"]):
        code, j, text = sard("quantize", digits.model, "-o", f"{T}/g.onnx", "--weights", "i2", *args, "--data", digits.data, "--metric", "cosine")
        got.append(j["value_after"] if code == 0 else -1)
        files.append(open(f"{T}/g.onnx", "rb").read() if code == 0 else args)
    check("rounding-better", min(got[1:]) > got[0] > 0 and got[3] > got[2], got)
    check("rounding-same", files[3] == files[4])


class Grouped:
    """Convolutions in groups, of single channels, with strides and borders, on images whose neighbours are alike, as those of the world are."""
    def __init__(self):
        from onnx import TensorProto, helper, numpy_helper
        r, n = np.random.default_rng(8), helper.make_node
        w = {"w1": r.normal(size=(16, 2, 3, 3)), "b1": r.normal(size=16), "w2": r.normal(size=(16, 1, 3, 3)), "w3": r.normal(size=(8, 16, 1, 1))}
        nodes = [n("Conv", ["x", "w1", "b1"], ["a"], "groups", group=4, pads=[1, 0, 1, 2], strides=[1, 2]), n("Relu", ["a"], ["b"]), n("Conv", ["b", "w2"], ["c"], "depth", group=16, dilations=[2, 1], pads=[2, 1, 2, 1]),
                 n("Relu", ["c"], ["d"]), n("Conv", ["d", "w3"], ["y"], "point")]
        g = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 12, 12])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(v.astype(np.float32), k) for k, v in w.items()])
        self.model, self.data = f"{T}/grouped.onnx", f"{T}/grouped.npz"
        with open(self.model, "wb") as f: f.write(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        self.x = {"x": r.normal(size=(128, 8, 12, 12)).cumsum(2).cumsum(3).astype(np.float32)}
        np.savez(self.data, **self.x)


def rounding_conv(resnet):
    """Of 8 bits and of convolutions, by the windows that they read: outputs are nearer to the float ones; a calibration that is there serves again."""
    def decibels(case, *args):
        code, j, text = sard("quantize", case.model, "-o", f"{T}/c.onnx", "--data", case.data, "--samples", "64", *args)
        code, e, text = (code, {}, text) if code else sard("eval", f"{T}/c.onnx", "--data", case.data, "--metric", "psnr", "--baseline", case.model, "--limit", "128")
        if code: print(text[-500:])
        return e.get("value", -1), j
    cases = [("resnet", resnet, 1)]
    try: cases.append(("groups", Grouped(), 3))
    except ImportError: pass
    for name, case, least in cases:
        nearest, _ = decibels(case, "--mode", "weights")
        adaptive, _ = decibels(case, "--mode", "weights", "--rounding", "adaptive", "--resume", f"{T}/round-{name}")
        first = open(f"{T}/c.onnx", "rb").read()
        again, j = decibels(case, "--mode", "weights", "--rounding", "adaptive", "--resume", f"{T}/round-{name}")
        check(f"rounding-conv-{name}", adaptive > nearest + least > 30, (nearest, adaptive))
        check(f"rounding-conv-{name}-again", again == adaptive and j["calibrated"] == 64 and open(f"{T}/c.onnx", "rb").read() == first, j.get("calibrated"))
        quality(f"rounding-conv-{name}-static", case, ["--data", case.data, "--samples", "64", "--rounding", "adaptive", "--correct-biases"], 26, ("Conv",) if name == "resnet" else (), most=2)


class Mlp:
    """What equalization and smoothing are for: channels of very different size, behind a Relu and behind a norm, which one scale
    for all cannot hold. Read by two products, one of them behind a residual sum."""
    def __init__(self, norm):
        from onnx import TensorProto, helper, numpy_helper
        r = np.random.default_rng(3)
        f = np.exp(r.uniform(-4, 4, 24)).astype(np.float32)
        w = {"w1": r.normal(size=(16, 24)), "b1": r.normal(size=24), "w2": r.normal(size=(24, 24)), "w3": r.normal(size=(24, 8)), "w4": r.normal(size=(24, 8)),
             "gamma": np.ones(24), "beta": r.normal(size=24)}
        if norm: w["gamma"] *= f; w["beta"] *= f; w["w2"] /= f[:, None]; w["w4"] /= f[:, None]
        else: w["w1"] *= f; w["b1"] *= f; w["w2"] /= f[:, None]; w["w4"] /= f[:, None]
        n = helper.make_node
        nodes = [n("Gemm", ["x", "w1", "b1"], ["a"], "first"), n("LayerNormalization", ["a", "gamma", "beta"], ["h"], "norm") if norm else n("Relu", ["a"], ["h"], "relu"),
                 n("MatMul", ["h", "w2"], ["c"], "second"), n("MatMul", ["h", "w4"], ["e"], "fourth"), n("Mul", ["c", "c"], ["d"]), n("MatMul", ["d", "w3"], ["g"], "third"), n("Add", ["g", "e"], ["y"])]
        g = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
                              [numpy_helper.from_array(v.astype(np.float32), k) for k, v in w.items()])
        self.model, self.data = f"{T}/mlp{norm:d}.onnx", f"{T}/mlp.npz"
        open(self.model, "wb").write(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        self.x = {"x": r.normal(size=(256, 16)).astype(np.float32)}
        np.savez(self.data, **self.x)

    def decibels(self, *args):
        code, j, text = sard("quantize", self.model, "-o", f"{T}/mlp_q.onnx", "--data", self.data, "--keep-float", "first", *args)
        code, e, text = (code, {}, text) if code else sard("eval", f"{T}/mlp_q.onnx", "--data", self.data, "--metric", "psnr", "--baseline", self.model)
        if code: print(text[-500:])
        return e.get("value", -1), j


def channels():
    try: relu, norm = Mlp(False), Mlp(True)
    except ImportError: return
    plain, _ = relu.decibels()
    even, j = relu.decibels("--equalize")
    check("equalize-better", even > plain + 6 > 6 and j["equalized"] == 1, (plain, even))
    plain, _ = norm.decibels()
    smooth, j = norm.decibels("--smooth", "0.5")
    check("smooth-better", smooth > plain + 6 > 6 and j["scaled"] == 2 and j["inserted"] == 1, (plain, smooth, j.get("scaled")))
    both, j = relu.decibels("--equalize", "--smooth", "0.7")
    check("equalize-and-smooth", both > even - 2, (both, even))
    quality("smooth-inserts", norm, ["--data", norm.data, "--smooth", "0.5"], 30, ("MatMul",), most=2)


def report(resnet):
    out, html = f"{T}/r.onnx", f"{T}/r.html"
    args = [resnet.model, "-o", out, "--data", resnet.data, "--metric", "top1", "--samples", "64", "--limit", "256"]
    code, j, text = sard("quantize", *args, "--sensitivity", "--html", html)
    ok = code == 0 and len(j["layers"]) == 10 and all(l["bits"] == 8 and l["weight_snr"] > 30 and "saturated" in l for l in j["layers"])
    check("report", ok and j["size_after"] == os.path.getsize(out) and abs(j["drop"]) <= 0.01 and j["ms_before"] > 0 and not j["partial"], text[-300:])
    snr = [l["snr"] for l in j["sensitivity"]]
    check("report-order", len(snr) == 10 and snr == sorted(snr), snr)
    check("report-html", open(html).read().count("<svg") == 10)
    worst = [l["name"] for l in j["sensitivity"][:3]]
    os.rename(f"{T}/j", f"{T}/report.json")
    code, j, text = sard("quantize", *args, "--keep-float", f"@{T}/report.json:top=3")
    check("report-keeps", code == 0 and sorted(l["name"] for l in j["layers"] if "float" in l) == sorted(worst), text[-300:])
    first = open(out, "rb").read()
    sard("quantize", *args, "--keep-float", f"@{T}/report.json:top=3", "--threads", "1")
    check("same-bytes", open(out, "rb").read() == first)


def resume(resnet):
    """What is measured is not measured again: of half a file, after an interrupt; not of other flags."""
    out, state = f"{T}/re.onnx", f"{T}/state"
    args = [resnet.model, "-o", out, "--data", resnet.data, "--samples", "32", "--limit", "128", "--sensitivity", "--resume", state]
    code, whole, text = sard("quantize", *args)
    lines = open(state).read().splitlines(True) if code == 0 else []
    check("resume-writes", code == 0 and len(lines) == 11 and whole["recalled"] == 0, text[-300:])
    open(state, "w").write("".join(lines[:5]) + lines[5][:9])  # cut off in a number
    code, j, text = sard("quantize", *args)
    check("resume-goes-on", code == 0 and j["recalled"] == 4 and j["sensitivity"] == whole["sensitivity"] and sorted(open(state)) == sorted(lines), text[-300:])
    code, j, text = sard("quantize", *args, "--method", "mse")
    check("resume-other-flags", code == 0 and j["recalled"] == 0 and "begins anew" in text, text[-300:])
    open(state, "w").write("a letter to someone")
    ends("resume-foreign", 2, args, "nothing that sard quantize wrote")
    check("resume-foreign-kept", open(state).read() == "a letter to someone")
    os.remove(state)
    known = 0
    for delay in (0.6, 1, 1.5, 2.5, 4, 8):  # until something is known by then
        p = subprocess.Popen([SARD, "quantize", *args, "-q"], stderr=subprocess.DEVNULL)
        time.sleep(delay)
        p.send_signal(signal.SIGINT)
        code, known = p.wait(60), len(open(state).readlines()) - 1 if os.path.exists(state) else 0
        if known > 0: break
    again, j, text = sard("quantize", *args)
    check("resume-interrupted", again == 0 and j["recalled"] == known > 0 and j["sensitivity"] == whole["sensitivity"], f"exit {code}, {known} known, {j.get('recalled')} {text[-300:]}")


def calibration(lenet):
    """Sums of a calibration that was cut off are gone on from, and the model has the same bytes; those of other data are not taken."""
    out, whole, state, big = f"{T}/ca.onnx", f"{T}/ca0.onnx", f"{T}/cal", f"{T}/big.npz"
    np.savez(big, **{k: np.tile(v, (6, 1, 1, 1)) for k, v in lenet.x.items()})
    args = [lenet.model, "--data", big, "--samples", "6000", "--batch", "4", "--method", "entropy", "--correct-biases", "--smooth", "0.5"]
    sard("quantize", *args, "-o", whole)
    def cut(delay):
        p = subprocess.Popen([SARD, "quantize", *args, "-o", out, "--resume", state, "--json", f"{T}/cut.json", "-q", "--must-be-faster", "no"], stderr=subprocess.DEVNULL)
        time.sleep(delay)
        p.send_signal(signal.SIGINT)
        return p.wait(60), json.load(open(f"{T}/cut.json"))
    for delay in (0.5, 1, 0.3, 2, 4, 0.15):  # until it is within a pass by then
        for f in (state + ".ranges", state + ".ranges2"):
            if os.path.exists(f): os.remove(f)
        code, j = cut(delay)
        if code == 130 and 0 < j.get("samples", 0): break
    check("calibration-cut", code == 130 and j["partial"] and not os.path.exists(out) and os.path.exists(state + ".ranges"), f"{code} {j}")
    code, j, text = sard("quantize", *args, "-o", out, "--resume", state)
    check("calibration-same", code == 0 and open(out, "rb").read() == open(whole, "rb").read(), text[-300:])
    code, j, text = sard("quantize", *args, "-o", out, "--resume", state)
    check("calibration-known", code == 0 and j["calibrated"] == 6000 and open(out, "rb").read() == open(whole, "rb").read(), f"{j.get('calibrated')} {text[-300:]}")
    code, j, text = sard("quantize", lenet.model, "--data", lenet.data, *args[3:], "-o", out, "--resume", state)
    check("calibration-other", code == 0 and j["calibrated"] == 0 and "begins anew" in text, text[-300:])
    open(state + ".ranges", "w").write("a letter to someone")
    ends("calibration-foreign", 2, [*args, "-o", f"{T}/no.onnx", "--resume", state], "nothing that sard quantize wrote")


def search(lenet):
    """Two bits for activations there are not; a model whose one layer breaks it: its weights are blown up beyond 8 bits' reach."""
    out = f"{T}/s.onnx"
    args = [lenet.model, "-o", out, "--data", lenet.data, "--metric", "top1"]
    code, j, text = sard("quantize", *args, "--max-drop", "0.5%")
    check("max-drop-kept", code == 0 and j["drop"] <= 0.005 and os.path.exists(out), text[-300:])
    os.remove(out)
    # weights of 2 bits alone are too coarse: some layers have to stay float
    code, j, text = sard("quantize", *args, "--weights", "i2", "--group", "256", "--max-drop", "0.2%")
    kept = [l["name"] for l in j.get("layers", []) if "float" in l]
    check("max-drop-searches", (code == 0 and j["drop"] <= 0.002 and os.path.exists(out)) or (code == 1 and j["drop"] > 0.002 and not os.path.exists(out)), text[-300:])
    check("max-drop-lists", code == 1 or not kept or len(j["sensitivity"]) > 0, kept)


def apart(lenet):
    """Weights in another file: the same numbers in ONNX Runtime and here, quantized and converted; such a model is input, too."""
    out, one = f"{T}/apart.onnx", f"{T}/one.onnx"
    for name, verb in (("weights", ["quantize", lenet.model, "--mode", "weights"]), ("f16", ["convert", lenet.model, "--to", "f16"])):
        sard(*verb, "-o", one)
        code, j, text = sard(*verb, "-o", out, "--external-data")
        sizes = [os.path.getsize(f) if os.path.exists(f) else 0 for f in (one, out, out + ".data")]
        check(f"apart-{name}", code == 0 and sizes[1] < 40000 < sizes[2] and abs(sizes[1] + sizes[2] - sizes[0]) < 4000, f"{sizes} {text[-300:]}")
        code, e, text = sard("eval", out, "--data", lenet.data, "--metric", "mse", "--baseline", one, "--limit", "64")
        check(f"apart-{name}-same", code == 0 and e["value"] == 0, text[-300:])
        if ort: check(f"apart-{name}-ort", np.array_equal(by_ort(out, {k: v[:64] for k, v in lenet.x.items()}), by_ort(one, {k: v[:64] for k, v in lenet.x.items()})))
    sard("convert", lenet.model, "--to", "bf16", "-o", out, "--external-data")
    ends("apart-stdout", 2, [lenet.model, "--mode", "weights", "--external-data", "-o", "-"], "goes to a file")
    try: import onnx
    except ImportError: return
    m = onnx.load(lenet.model)
    onnx.save(m, f"{T}/in.onnx", save_as_external_data=True, location="in.weights", size_threshold=64)
    code, j, text = sard("quantize", f"{T}/in.onnx", "--mode", "weights", "-o", f"{T}/again.onnx")
    before = j.get("size_before", 0)
    sard("quantize", lenet.model, "--mode", "weights", "-o", one)
    code, e, text = sard("eval", f"{T}/again.onnx", "--data", lenet.data, "--metric", "mse", "--baseline", one, "--limit", "64")
    check("apart-input", code == 0 and e["value"] == 0 and abs(before - os.path.getsize(lenet.model)) < 4000, text[-300:])
    if os.path.exists("/dev/full"):
        code, j, text = sard("quantize", lenet.model, "--mode", "weights", "-o", "/dev/full")
        check("full-disk", code == 7 and "No space left" in text, f"{code} {text[-200:]}")


def memory():
    """Weights of another file go through one by one: what it takes is the model, the result, and little more."""
    try: from onnx import TensorProto, helper
    except ImportError: return
    n, layers, nodes, init = 2560, 8, [], []
    block = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32) / 50
    with open(f"{T}/big.weights", "wb") as f:
        for i in range(layers):
            t = TensorProto(name=f"w{i}", data_type=1, dims=[n, n], data_location=1)
            for k, v in (("location", "big.weights"), ("offset", f.tell()), ("length", block.nbytes)): t.external_data.add(key=k, value=str(v))
            f.write((block * np.float32(1 + i / 16)).tobytes())
            init.append(t), nodes.append(helper.make_node("MatMul", [f"h{i}" if i else "x", f"w{i}"], [f"h{i + 1}" if i + 1 < layers else "y"], f"m{i}"))
    value = lambda k: helper.make_tensor_value_info(k, 1, ["n", n])
    with open(f"{T}/big.onnx", "wb") as f: f.write(helper.make_model(helper.make_graph(nodes, "g", [value("x")], [value("y")], init), opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    for name, verb in (("weights-i8", ["quantize", "--mode", "weights"]), ("weights-i4", ["quantize", "--weights", "i4"]), ("bf16", ["convert", "--to", "bf16"])):
        out = f"{T}/small.onnx"
        code, j, text = sard(verb[0], f"{T}/big.onnx", "-o", out, *verb[1:], "--external-data")
        most = (os.path.getsize(f"{T}/big.weights") + os.path.getsize(f"{out}.data")) / 1e6 + 50
        check(f"memory-{name}", code == 0 and j["peak_rss_mb"] < most, f"{j.get('peak_rss_mb')} MB of at most {most} {text[-200:]}")
    for f in ("big.weights", "small.onnx.data"): os.remove(f"{T}/{f}")


def bad(digits, lenet):
    out = f"{T}/bad.onnx"
    base = [digits.model, "-o", out]
    data = ["--data", digits.data]
    ends("bad-no-output", 2, [digits.model], "-o FILE is missing")
    ends("bad-static-no-data", 2, [*base, "--mode", "static"], "needs --data", out)
    ends("bad-i4-static", 2, [*base, *data, "--weights", "i4", "--mode", "static"], "the mode is weights", out)
    ends("bad-gptq-no-data", 2, [*base, "--rounding", "gptq"], "needs --data", out)
    ends("bad-qoperator", 2, [*base, "--mode", "dynamic", "--format", "qoperator"], "of --mode static", out)
    ends("bad-nbits", 2, [*base, *data, "--format", "nbits"], "4 and 2 bits", out)
    ends("bad-round-inputs", 2, [*base, "--weights", "i4", "--format", "qdq", "--round-inputs"], "of --format nbits", out)
    ends("bad-awq-no-data", 2, [*base, "--weights", "i4", "--awq"], "needs --data", out)
    ends("bad-awq-i8", 2, [*base, *data, "--mode", "weights", "--awq"], "4 and 2 bits", out)
    ends("bad-smooth-no-data", 2, [*base, "--smooth", "0.5"], "needs --data", out)
    ends("bad-smooth-weights", 2, [*base, *data, "--mode", "weights", "--smooth", "0.5"], "leaves them as they are", out)
    ends("bad-smooth-number", 2, [*base, *data, "--smooth", "1.5"], "from 0 to 1", out)
    ends("bad-metric-no-data", 2, [*base, "--metric", "top1"], "needs --data", out)
    ends("bad-drop-no-metric", 2, [*base, *data, "--max-drop", "1%"], "needs --metric", out)
    ends("bad-method", 2, [*base, *data, "--method", "best"], "known: minmax", out)
    ends("bad-percentile", 2, [*base, *data, "--method", "percentile:20"], "percentile", out)
    ends("bad-group", 2, [*base, "--weights", "i4", "--group", "48"], "power of two", out)
    ends("bad-keep", 2, [*base, *data, "--keep-float", "nosuch"], "no node 'nosuch'", out)
    ends("bad-all-kept", 4, [*base, *data, "--keep-float", "*"], "nothing can be quantized", out)
    ends("bad-nothing", 4, [f"{CORPUS}/skl_cancer_gbdt/model.onnx" if os.path.isdir(f"{CORPUS}/skl_cancer_gbdt") else digits.model, "-o", out, "--ops", "GRU"], "nothing can be quantized", out)
    ends("bad-no-model", 7, [f"{T}/none.onnx", "-o", out], "", out)
    ends("bad-float8-acts", 2, [*base, *data, "--weights", "f8e5m2", "--acts", "s8"], "--acts is for integers", out)
    ends("bad-float8-dynamic", 2, [*base, "--weights", "f8e5m2", "--mode", "dynamic"], "dynamic is for integers", out)
    ends("bad-float8-format", 2, [*base, *data, "--weights", "f8e5m2", "--format", "qoperator"], "--format qdq only", out)
    ends("bad-float8-rounding", 2, [*base, *data, "--weights", "f8e5m2", "--rounding", "adaptive"], "is for integers", out)
    ends("bad-float8-range", 2, [*base, *data, "--weights", "f8e4m3fn", "--reduce-range"], "--reduce-range is for integers", out)
    ends("bad-weights", 2, [*base, "--weights", "float8"], "none of i8, i4, i2, f8e4m3fn, f8e5m2", out)
    j = ends("bad-slower", 9, [*base, *data, "--must-be-faster", "100"], "not written", out)
    check("bad-slower-layers", j["slower"] and all(k["ms_after"] + k["ms_before"] > 0 for k in j["slower"]) and j["refused"])
    x = next(iter(digits.x.items()))
    nan = x[1].copy()
    nan[3, 5] = np.nan
    np.savez(f"{T}/nan.npz", **{x[0]: nan}, y=digits.y)
    ends("bad-nan", 2, [*base, "--data", f"{T}/nan.npz"], "NaN or infinite in samples 0 to 15", out)
    np.savez(f"{T}/empty.npz", **{x[0]: nan[:0]})
    ends("bad-empty", 2, [*base, "--data", f"{T}/empty.npz"], "holds no samples", out)
    np.savez(f"{T}/bare.npz", **{x[0]: x[1]})
    ends("bad-no-labels", 2, [*base, "--data", f"{T}/bare.npz", "--metric", "top1"], "needs labels", out)
    far = digits.y.copy()
    far[-1] = 10
    np.savez(f"{T}/far.npz", **{x[0]: x[1]}, y=far)
    for verb, args in (("quantize", []), ("prune", ["--pattern", "2:4"]), ("convert", ["--to", "f16"])):  # before anything is calibrated
        code, j, text = sard(verb, *base, *args, "--data", f"{T}/far.npz", "--metric", "top1")
        check(f"bad-label-{verb}", code == 2 and f"label 10 of sample {len(far) - 1} is no class" in text and not j.get("size_after") and not os.path.exists(out), f"{code} {text[-300:]}")
    own = f"{T}/own.onnx"
    open(own, "wb").write(open(digits.model, "rb").read())
    for verb, args in (("quantize", []), ("prune", ["--pattern", "2:4"]), ("convert", ["--to", "f16"]), ("compile", []), ("tune", [])):
        code, j, text = sard(verb, own, "-o", f"{T}/../{os.path.basename(T)}/own.onnx", *args)
        check(f"bad-own-{verb}", code == 2 and "is MODEL itself" in text and open(own, "rb").read() == open(digits.model, "rb").read(), f"{code} {text[-300:]}")
    ends("bad-sensitivity-no-data", 2, [*base, "--mode", "weights", "--sensitivity"], "--sensitivity needs --data", out)
    ends("bad-drop", 2, [*base, *data, "--metric", "top1", "--max-drop", "abc"], "'abc' is no drop", out)
    subprocess.run([SARD, "quantize", digits.model, "-o", f"{T}/twice.onnx", "-q"])
    ends("bad-twice", 4, [f"{T}/twice.onnx", "-o", out], "quantized already", out)
    subprocess.run([SARD, "compile", digits.model, "-o", f"{T}/a.sard", "-q"])
    ends("bad-artifact", 2, [f"{T}/a.sard", "-o", out], "compiled already", out)
    open(f"{T}/cut.onnx", "wb").write(open(digits.model, "rb").read()[:3000])
    ends("bad-cut", 3, [f"{T}/cut.onnx", "-o", out], "", out)


def turned():
    """Weights of transposed convolutions have a scale for each output of a group, in mode static, too; dynamic leaves them as they are."""
    try: from onnx import TensorProto, checker, helper, load, numpy_helper
    except ImportError: return
    r, n = np.random.default_rng(6), helper.make_node
    weights = {"c": r.normal(size=(6, 2, 1, 1)), "w": r.normal(size=(6, 5, 3, 3)) * np.exp2(np.arange(5))[:, None, None], "b": r.normal(size=10)}
    g = helper.make_graph([n("Conv", ["x", "c"], ["a"], group=1), n("ConvTranspose", ["a", "w", "b"], ["t"], "up", group=2, strides=[2, 2]), n("Relu", ["t"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 4, 4])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10, 9, 9])], [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()])
    with open(f"{T}/turned.onnx", "wb") as f: f.write(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    x = {"x": r.normal(size=(20, 2, 4, 4)).astype("f4")}
    np.savez(f"{T}/turned.npz", **x)
    for name, args, scales in (("rows", ["--mode", "weights"], 5), ("one", ["--mode", "weights", "--per-tensor"], 1), ("static", ["--data", f"{T}/turned.npz"], 5)):
        out = f"{T}/turned-{name}.onnx"
        code, j, text = sard("quantize", f"{T}/turned.onnx", "-o", out, *args)
        m = load(out) if code == 0 else None
        if m: checker.check_model(m)
        sizes = [int(np.prod(i.dims)) for i in m.graph.initializer if i.name.startswith("w_scale")] if m else []
        code, e, more = sard("eval", out, "--data", f"{T}/turned.npz", "--metric", "psnr", "--baseline", f"{T}/turned.onnx")
        check(f"turned-{name}", m and sizes == [scales] * (scales > 0) and e["value"] > 30, f"{sizes} {e.get('value')} {text[-300:]}{more[-300:]}")
        if ort and m: near_ort(f"turned-{name}-ort", out, x)


def recurrent():
    """LSTM becomes DynamicQuantizeLSTM, with a scale for each column of each direction, or one for each, also of a weight that nodes move out of a constant; GRU stays float, and so does what that has no form of."""
    try: from onnx import TensorProto, helper, load, numpy_helper
    except ImportError: return
    r, n = np.random.default_rng(7), helper.make_node
    weights = {"w1": r.normal(size=(2, 96, 20)), "r1": r.normal(size=(2, 96, 24)), "b1": r.normal(size=(2, 192)), "p1": r.normal(size=(2, 72)), "h1": r.normal(size=(2, 16, 24)), "w2": r.normal(size=(1, 128, 48)), "r2": r.normal(size=(128, 32)),
               "m": r.normal(size=(32, 10))}
    ints = {"flat": [0, 0, -1], "axis": [1], "zero": [0]}
    def save(name, nodes):
        g = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 9, 20])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 9, 10])],
                              [numpy_helper.from_array((v / 4).astype(np.float32), k) for k, v in weights.items()] + [numpy_helper.from_array(np.array(v), k) for k, v in ints.items()])
        with open(f"{T}/{name}.onnx", "wb") as f: f.write(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        return f"{T}/{name}.onnx"
    model = save("recurrent", [n("Transpose", ["x"], ["a"], perm=[1, 0, 2]), n("LSTM", ["a", "w1", "r1", "b1", "", "h1", "h1", "p1"], ["b"], "both", hidden_size=24, direction="bidirectional", clip=1.5), n("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3]),
                               n("Reshape", ["c", "flat"], ["d"]), n("Unsqueeze", ["r2", "zero"], ["moved"]), n("LSTM", ["d", "w2", "moved"], ["e", "", "f"], "back", hidden_size=32, direction="reverse", layout=0), n("Squeeze", ["e", "axis"], ["g"]), n("Add", ["g", "f"], ["h"]),
                               n("Transpose", ["h"], ["k"], perm=[1, 0, 2]), n("MatMul", ["k", "m"], ["y"], "out")])
    x = {"x": r.normal(size=(16, 9, 20)).astype("f4")}
    np.savez(f"{T}/recurrent.npz", **x)
    data = ["--data", f"{T}/recurrent.npz"]
    for name, args, scales, least in (("dynamic", ["--mode", "dynamic"], [96 * 2, 128], 32), ("one", ["--mode", "dynamic", "--per-tensor"], [2, 1], 28), ("static", [*data, "--samples", "16"], [96 * 2, 128], 28), ("kept", ["--mode", "dynamic", "--keep-float", "both"], [128], 32)):
        out = f"{T}/recurrent-{name}.onnx"
        code, j, text = sard("quantize", model, "-o", out, *args)
        m = load(out) if code == 0 else None
        sizes = {i.name: int(np.prod(i.dims)) for i in m.graph.initializer} if m else {}
        got = [sizes.get(k.input[8]) for k in m.graph.node if k.op_type == "DynamicQuantizeLSTM" and k.domain == "com.microsoft" and sizes[k.input[8]] == sizes[k.input[10]]] if m else []
        layers = {l["name"]: l.get("float", l["bits"]) for l in j.get("layers", [])}
        check(f"recurrent-{name}-form", got == scales and layers == {"both": 8 if len(scales) > 1 else "--keep-float", "back": 8, "out": 8} and ("back (LSTM): each run finds" in text) == (name == "static") and [l.get("ranges") for l in j["layers"]][1:] == ["run", None], f"{got} {layers} {text[-300:]}")
        if name == "dynamic":
            code, e, text = sard("eval", out, *data, "--metric", "psnr", "--baseline", model)
            check(f"recurrent-{name}", code == 0 and e["value"] > least, f"{e.get('value')} {text[-300:]}")
        if not ort or not m or name == "kept": continue
        near_ort(f"recurrent-{name}-ort", out, x)
        y, z = by_ort(out, x), by_ort(model, x)
        check(f"recurrent-{name}-float", 20 * np.log10(np.abs(z).max() / np.sqrt(np.mean((y - z) ** 2))) > least, np.abs(y - z).max())
    gru = save("gru", [n("GRU", ["x", "m", "m"], ["y"], "gru", hidden_size=24)])
    ends("recurrent-gru", 4, [gru, "-o", f"{T}/no.onnx", "--mode", "dynamic"], "no operator computes it on integers", f"{T}/no.onnx")
    first = save("first", [n("LSTM", ["x", "w1", "r1"], ["y"], "first", hidden_size=24, direction="bidirectional", layout=1)])
    ends("recurrent-layout", 4, [first, "-o", f"{T}/no.onnx", "--mode", "dynamic"], "has no layout with the batch first", f"{T}/no.onnx")
    ends("recurrent-float8", 4, [model, "-o", f"{T}/no.onnx", *data, "--weights", "f8e4m3fn", "--mode", "static", "--ops", "LSTM"], "no operator computes it on float8", f"{T}/no.onnx")


def main():
    digits, lenet, resnet = Case("digits_mlp"), Case("mnist_lenet"), Case("mnist_resnet8")
    methods(digits, lenet, resnet), float8(digits, lenet, resnet), raised(), tables(), turned(), recurrent(), rounding(digits), rounding_conv(resnet), channels(), report(resnet), resume(resnet), calibration(lenet), search(lenet), apart(lenet), memory(), bad(digits, lenet), interrupted((1.5, 1, 0.7, 0.5, 0.3, 0.2), "quantize", resnet.model, "--data", resnet.data, "--metric", "top1", "--sensitivity")
    return end()


sys.exit(main())
