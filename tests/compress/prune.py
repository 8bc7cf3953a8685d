#!/usr/bin/env python3
"""sard prune: written models against the original in Sard and in ONNX Runtime where Python has it; patterns, reports, what is refused.
  prune.py SARD CORPUS    prints "ok NAME" or "FAIL NAME: why" and, last, "N passed, N failed" """
import os, platform, subprocess, sys
import numpy as np

try:
    import onnx, onnxruntime as ort
    from onnx import helper, numpy_helper
except ImportError:
    ort = None

from checks import CORPUS, Case, SARD, T, check, end, interrupted, sard


def ends(name, code, args, says="", file=None):
    got, j, text = sard("prune", *args)
    check(name, got == code and says in text and not (file and os.path.exists(file)), f"exit {got} instead of {code}, or no '{says}': {text[-300:]}")
    return j


def same_in_ort(name, out, case):
    """ONNX Runtime loads the written model and gives what Sard gives."""
    if not ort: return
    so = ort.SessionOptions()
    so.log_severity_level = 3
    x = {k: v[:64] for k, v in case.x.items()}
    try: y = ort.InferenceSession(out, so, providers=["CPUExecutionProvider"]).run(None, x)[0]
    except Exception as e: return check(f"{name}-ort", False, str(e)[:300])
    np.savez(f"{T}/ort.npz", **x, y=y)
    code, e, text = sard("eval", out, "--data", f"{T}/ort.npz", "--metric", "psnr", "--batch", "64")
    check(f"{name}-ort", code == 0 and e["value"] >= 90, f"{e.get('value')} dB from ONNX Runtime {text[-200:]}")


def matrices(path):
    """Weights of the model by name as outputs x inputs, channels innermost."""
    m, out = onnx.load(path), {}
    init = {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
    for n in m.graph.node:
        w = init.get(n.input[1]) if n.op_type in ("Conv", "Gemm", "MatMul") else None
        if w is None: continue
        turned = n.op_type == "MatMul" or (n.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in n.attribute))
        out[n.input[1]] = np.moveaxis(w, 1, -1).reshape(len(w), -1) if w.ndim > 2 else w.T if turned else w
    return out


def pruned(name, case, pattern, most, *args, ratio=None):
    """The drop is at most that, the zeros are in the file, ONNX Runtime gives the same."""
    out = f"{T}/{name}.onnx"
    code, j, text = sard("prune", case.model, "-o", out, "--pattern", pattern, "--data", case.data, "--metric", "top1", *args)
    ok = code == 0 and j["drop"] <= most and j["pattern_kept"] and (ratio is None or abs(j["ratio"] - ratio) < 0.01)
    check(name, ok, f"drop {j.get('drop')}, ratio {j.get('ratio')} {text[-300:]}")
    if not ok: return j
    same_in_ort(name, out, case)
    if ort and pattern[0] not in "ch":
        zeros = sum(int((w == 0).sum()) for k, w in matrices(out).items() if any(l["weight"] == k and "zeros" in l for l in j["layers"]))
        check(f"{name}-zeros", zeros == j["zeros"], f"{zeros} instead of {j['zeros']}")
    return j


def patterns(digits, lenet, resnet):
    pruned("free-70-resnet", resnet, "unstructured:0.7", 0.01, ratio=0.7)
    pruned("nm-resnet", resnet, "2:4", 0.01, "--samples", "100", "--limit", "400", ratio=0.5)
    pruned("free-30-lenet", lenet, "unstructured:0.3", 0.005, "--criterion", "magnitude", "--reconstruct", "none", ratio=0.3)
    pruned("free-70-lenet", lenet, "unstructured:0.7", 0.01, "--criterion", "sparsegpt", ratio=0.7)
    pruned("nm-lenet", lenet, "4:8", 0.01, "--criterion", "sparsegpt", "--reconstruct", "none")
    pruned("block-digits", digits, "block16x1:0.5", 0.01, "--scope", "layer", "--ops", "Gemm", "--exclude", "/5/*", ratio=0.5)
    pruned("free-30-digits", digits, "unstructured:0.3", 0.005, "--scope", "layer", "--schedule", "3", ratio=0.3)
    pruned("taylor-lenet", lenet, "unstructured:0.5", 0.01, "--criterion", "taylor", "--reconstruct", "none", "--samples", "64", "--limit", "400", ratio=0.5)
    pruned("taylor-channels", digits, "channels:0.25", 0.01, "--criterion", "taylor")
    if not ort: return
    for k, w in matrices(f"{T}/nm-resnet.onnx").items():
        if w.shape[1] % 4 == 0: check(f"nm-groups-{k}", ((w.reshape(-1, 4) != 0).sum(1) <= 2).all())
    for k, w in list(matrices(f"{T}/block-digits.onnx").items())[:2]:
        z = (w.reshape(-1, 16, w.shape[1]) == 0).sum(1)
        check(f"block-whole-{k}", np.isin(z, (0, 16)).all() and (z == 16).mean() > 0.49)


def rows_of(less, whole):
    """Which rows of the one are those of the other."""
    return [int(np.where((whole == r).all(1))[0][0]) for r in less]


def removed(digits, lenet, resnet):
    """Channels and heads are gone from the graph: files shrink, shapes follow, and what is left computes what it did."""
    for name, case, most in (("lenet", lenet, 0.01), ("resnet", resnet, 0.015)):
        j = pruned(f"channels-{name}", case, "channels:0.25", most, "--samples", "100", "--limit", "400")
        ok = j.get("size_after", 1e9) < 0.9 * j["size_before"] and j["parameters_after"] < 0.8 * j["parameters"] and j["memory_after"] < j["memory_before"]
        check(f"channels-{name}-smaller", ok, j.get("size_after"))
    j = pruned("channels-layer", digits, "channels:0.5", 0.02, "--scope", "layer", "--exclude", "/0/*")
    by = {l["name"]: l for l in j["layers"]}
    check("channels-exclude", "kept" in by["/0/Gemm"] and by["/3/Gemm"]["zeros"] == by["/3/Gemm"]["weights"] // 2, by)
    out = f"{T}/plain.onnx"
    code, j, text = sard("prune", digits.model, "-o", out, "--pattern", "channels:0.4")
    if ort and code == 0:
        a, b = [{t.name.split("_1")[0]: numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in (digits.model, out)]
        h, keep = digits.x["x"][:32].astype(np.float64), slice(None)
        for i, k in enumerate(("0", "3", "5")):
            w, bias = a[f"{k}.weight"][:, keep], a[f"{k}.bias"]
            keep = rows_of(b[f"{k}.weight"], w)
            h = h @ w[keep].T.astype(np.float64) + bias[keep]
            if i < 2: h = np.maximum(h, 0)
        y = ort.InferenceSession(out).run(None, {"x": digits.x["x"][:32]})[0]
        check("channels-same-sums", np.abs(y - h).max() < 1e-3, np.abs(y - h).max())
    for name in ("bert_base_tiny", "mobilenet_v2_tiny", "densenet121_tiny", "shufflenet_v2_tiny", "resemblyzer_lstm"):
        model = f"{CORPUS}/{name}/model.onnx"
        if not os.path.exists(model): continue
        code, j, text = sard("prune", model, "-o", out, "--pattern", "heads:0.25" if "bert" in name else "channels:0.3")
        ran = subprocess.run([SARD, "run", out, "-q"], capture_output=True, text=True)
        check(f"removed-{name}", code == 0 and ran.returncode == 0 and j["parameters_after"] < j["parameters"] and j["size_after"] < j["size_before"], text[-300:] + ran.stderr[-300:])
        if ort and code == 0:
            try: ort.InferenceSession(out)
            except Exception as e: check(f"removed-{name}-ort", False, str(e)[:300])


def attention(path, form):
    """Attention of 4 heads of 4 over rows of 16, of which two say next to nothing. merged: heads and batch in one axis, as torch's
    MultiheadAttention has them; computed: so too, by shapes that nodes compute, with a mask for all heads; sliced: an axis for all three; cached: so too, behind keys and values of before; cross: of rows by others, both of open batches and lengths, whose weights are slices of one and whose keys and values are equal parts of one product; operator: so too, and one operator for the rest; biased: so too, with a bias for each head and distance."""
    r, nodes, init = np.random.default_rng(9), [], []
    def const(v, t=np.int64):
        init.append(numpy_helper.from_array(np.array(v, t), f"c{len(init)}"))
        return init[-1].name
    def op(kind, *x, **attrs):
        nodes.append(helper.make_node(kind, list(x), [f"v{len(nodes)}"], name=f"{kind}{len(nodes)}", **attrs))
        return nodes[-1].output[0]
    weak = np.ones(16)
    weak[4:12] = 1e-3 # heads 1 and 2
    w_in, b_in = r.standard_normal((16, 48)) * np.tile(weak, 3), r.standard_normal(48) * np.tile(weak, 3)
    w_out = r.standard_normal((16, 16)) * np.where(weak < 1, 0, 1)[:, None]
    linear = lambda x, w, b: op("Add", op("MatMul", x, const(w, "f4")), op("Identity", const(b, "f4"))) # as exporters share equal ones
    if form in ("sliced", "cached", "operator", "biased"):
        qkv = op("Transpose", op("Reshape", linear("x", w_in, b_in), const([-1, 6, 3, 4, 4])), perm=[2, 0, 3, 1, 4])
        q, k, v = (op("Squeeze", op("Slice", qkv, const([i]), const([i + 1]), const([0])), const([0])) for i in range(3))
        if form == "cached": k, v = op("Concat", "past_k", k, axis=2), op("Concat", "past_v", v, axis=2)
        scores = op("MatMul", q, op("Transpose", k, perm=[0, 1, 3, 2])) if form != "operator" else None
        if form == "biased":
            rows = op("Gather", const(r.standard_normal((8, 4)), "f4"), const(r.integers(0, 8, (6, 6))), axis=0)
            scores = op("Add", scores, op("Unsqueeze", op("Transpose", rows, perm=[2, 0, 1]), const([0])))
        a = op("Attention", q, k, v, scale=1.0) if form == "operator" else op("MatMul", op("Softmax", scores), v)
        y = linear(op("Reshape", op("Transpose", a, perm=[0, 2, 1, 3]), const([-1, 6, 16])), w_out, np.zeros(16))
    elif form == "cross":
        both, bias = const(w_in.T, "f4"), const(b_in, "f4")
        part = lambda i, n, x: op("Add", op("MatMul", x, op("Transpose", op("Slice", both, const([i]), const([n]), const([0])), perm=[1, 0])), op("Slice", bias, const([i]), const([n]), const([0])))
        # heads and batch in one axis, by sizes of the one batch
        batch = op("Mul", op("Shape", "x", start=0, end=1), const([4]))
        q = part(0, 16, op("Transpose", "x", perm=[1, 0, 2]))
        k, v = (f"kv{i}" for i in range(2))
        nodes.append(helper.make_node("Split", [part(16, 48, op("Transpose", "memory", perm=[1, 0, 2]))], [k, v], axis=2))
        q, k, v = (op("Transpose", op("Reshape", u, op("Concat", const([-1]), batch, const([4]), axis=0)), perm=p) for u, p in ((q, [1, 0, 2]), (k, [1, 2, 0]), (v, [1, 0, 2])))
        a = op("Transpose", op("MatMul", op("Softmax", op("MatMul", q, k)), v), perm=[1, 0, 2])
        y = op("Transpose", op("Reshape", op("MatMul", op("Reshape", a, const([-1, 16])), const(w_out, "f4")), op("Concat", const([-1]), op("Shape", "x", start=0, end=1), const([16]), axis=0)), perm=[1, 0, 2])
    else:
        x = op("Transpose", "x", perm=[1, 0, 2])
        sizes = op("Shape", x)
        at = lambda s, i: op("Gather", s, const(i), axis=0)
        one = lambda s: op("Unsqueeze", s, const([0]))
        shape = lambda *d: const([*d]) if form == "merged" else op("Concat", *(const([i]) if isinstance(i, int) else one(i) for i in d), axis=0)
        length, batch, width = (6, -1, 16) if form == "merged" else (at(sizes, i) for i in range(3))
        rows, each = (-1, 4) if form == "merged" else (op("Mul", batch, const(4)), op("Div", width, const(4)))
        qkv = op("Unsqueeze", op("Reshape", linear(x, w_in, b_in), shape(length, batch, 3, width)), const([0]))
        qkv = op("Squeeze", op("Transpose", qkv, perm=[3, 1, 2, 0, 4]), const([3]))
        q, k, v = (op("Gather", qkv, const(i), axis=0) for i in range(3))
        if form == "computed": q = op("Div", q, op("Sqrt", op("Cast", at(op("Shape", q), 2), to=1))) # a size that goes
        q, k, v = (op("Transpose", op("Reshape", u, shape(length, rows, each)), perm=p) for u, p in ((q, [1, 0, 2]), (k, [1, 2, 0]), (v, [1, 0, 2])))
        scores = op("MatMul", q, k)
        if form == "computed":
            mask = op("Reshape", op("ReduceMean", "x", axes=[2], keepdims=0), const([-1, 1, 1, 6]))
            scores = op("Add", scores, op("Reshape", op("Expand", mask, const([1, 4, 1, 1])), const([-1, 1, 6])))
        a = op("Transpose", op("MatMul", op("Softmax", scores), v), perm=[1, 0, 2])
        a = op("Reshape", a, const([-1, 16]) if form == "merged" else op("Concat", one(op("Mul", length, batch)), one(width), axis=0))
        y = op("Transpose", op("Reshape", op("Gemm", a, const(w_out, "f4")), shape(length, batch, width)), perm=[1, 0, 2])
    value = lambda n: helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 6, 16])
    cache = lambda n, t: [helper.make_tensor_value_info(i, onnx.TensorProto.FLOAT, ["batch", 4, t, 4]) for i in n] if form == "cached" else []
    memory = [helper.make_tensor_value_info("memory", onnx.TensorProto.FLOAT, ["others", "length", 16])] if form == "cross" else []
    g = helper.make_graph(nodes, "g", [value("x"), *memory, *cache(("past_k", "past_v"), "past")], [value(y), *cache((k, v), "all")], init)
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 23 if form == "operator" else 17)], ir_version=10 if form == "operator" else 8), path)
    np.savez(f"{T}/attention.npz", x=r.standard_normal((24, 6, 16)).astype("f4"))


def sharing(path, form, gone, kv):
    """Attention of 4 heads of 8 over keys and values of `kv` heads, behind those of 3 steps before: repeated for each head (Scatter...: as rows of a cache of fixed size), or by one operator; the heads `gone` say nothing."""
    r, nodes, init = np.random.default_rng(11), [], []
    def const(v, t=np.int64):
        init.append(numpy_helper.from_array(np.array(v, t), f"c{len(init)}"))
        return init[-1].name
    def op(kind, *x, outs=1, **attrs):
        n = helper.make_node(kind, list(x), [f"v{len(nodes)}.{i}" for i in range(outs)], name=f"{kind}{len(nodes)}", **attrs)
        nodes.append(n)
        return n.output[0] if outs == 1 else list(n.output)
    weak = np.where(np.isin(np.arange(32) // 8, gone), 1e-3, 1)
    of_kv = np.where(np.isin(np.arange(8 * kv) // 8, 1 if 2 in gone else []), 1e-3, 1)
    q, k, v = (op("MatMul", "x", const(r.standard_normal((16, len(w))) * w, "f4")) for w in (weak, of_kv, of_kv))
    apart = lambda t, n: op("Transpose", op("Reshape", t, const([0, 0, n, 8])), perm=[0, 2, 1, 3])
    many = lambda t: op("Reshape", op("Expand", op("Unsqueeze", t, const([2])), const([1, 1, 4 // kv, 1, 1])), const([0, 4, -1, 8]))
    rows_first = lambda t: op("Transpose", t, perm=[2, 0, 1, 3])
    third = lambda: op("Add", op("Cast", op("Mul", op("ReduceMax", "x"), const(0, "f4")), to=7), const(2))  # not known before the run
    put = {"repeated": lambda p, t: op("Concat", p, t, axis=2), "ScatterND": lambda p, t: op("Transpose", op("ScatterND", rows_first(p), const([[2]]), rows_first(t)), perm=[1, 2, 0, 3]),
           "ScatterElements": lambda p, t: op("ScatterElements", p, op("Expand", third(), const([2, kv, 1, 8])), t, axis=2), "TensorScatter": lambda p, t: op("TensorScatter", p, t, const([2, 2]))}.get(form)
    if put:
        all_k, all_v = (put(p, apart(t, kv)) for p, t in (("past_k", k), ("past_v", v)))
        scores = op("Softmax", op("MatMul", apart(q, 4), op("Transpose", many(all_k), perm=[0, 1, 3, 2])))
        a = op("Reshape", op("Transpose", op("MatMul", scores, many(all_v)), perm=[0, 2, 1, 3]), const([0, 0, 32]))
    elif form == "group":
        a, all_k, all_v = op("GroupQueryAttention", q, k, v, "past_k", "past_v", const([3, 3], "i4"), const(4, "i4"), outs=3, domain="com.microsoft", num_heads=4, kv_num_heads=kv)
    else: a, all_k, all_v = op("Attention", q, k, v, "", "past_k", "past_v", outs=3, q_num_heads=4, kv_num_heads=kv)
    y = op("MatMul", a, const(r.standard_normal((32, 16)) * np.where(weak < 1, 0, 1)[:, None], "f4"))
    value = lambda n, *d: helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, d)
    g = helper.make_graph(nodes, "g", [value("x", 2, 1, 16), *(value(n, 2, kv, 3, 8) for n in ("past_k", "past_v"))], [value(y, 2, 1, 16), *(value(n, 2, kv, 4 - ("Scatter" in form), 8) for n in (all_k, all_v))], init)
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", {"operator": 23, "TensorScatter": 24}.get(form, 17)), helper.make_opsetid("com.microsoft", 1)], ir_version=10), path)


def shared_heads():
    """Where queries share keys, a head of these goes with all that it serves; where keys and values stay, as many queries of each go."""
    if not ort: return
    ort.set_default_logger_severity(3)
    model, out, r = f"{T}/a.onnx", f"{T}/less.onnx", np.random.default_rng(3)
    for form, gone, kv in (("repeated", (2, 3), 2), ("repeated", (1, 3), 2), ("repeated", (1, 3), 1), ("ScatterND", (2, 3), 2), ("ScatterND", (1, 3), 2), ("ScatterElements", (2, 3), 2), ("TensorScatter", (2, 3), 2), ("group", (2, 3), 2), ("group", (1, 3), 2), ("operator", (2, 3), 2), ("operator", (1, 3), 1)):
        name, groups = f"heads-{form}-{kv}-{gone[0]}", gone[0] == 2
        sharing(model, form, gone, kv)
        code, j, text = sard("prune", model, "-o", out, "--pattern", "heads:0.5", *["--keep-io-sizes", "no"] * (groups or kv == 1))
        zeros = [l["zeros"] for l in j.get("layers", []) if "zeros" in l]
        check(name, code == 0 and zeros == [256, *[128 * groups] * 2, 256], f"{zeros} {text[-300:]}")
        if code: continue
        feed = {"x": r.standard_normal((2, 1, 16)).astype("f4")} | {n: r.standard_normal((2, kv, 3, 8)).astype("f4") for n in ("past_k", "past_v")}
        cut = lambda v: v[:, :1] if groups and v.ndim == 4 else v
        less = {n: cut(v) for n, v in feed.items()}
        a, b = ort.InferenceSession(model).run(None, feed), ort.InferenceSession(out).run(None, less)
        check(f"{name}-ort", all(np.abs(cut(u) - v).max() < 1e-5 for u, v in zip(a, b)))
        np.savez(f"{T}/shared.npz", **less, y=b[0])
        code, e, text = sard("eval", out, "--data", f"{T}/shared.npz", "--metric", "psnr")
        check(f"{name}-same", code == 0 and e["value"] >= 100, f"{e.get('value')} dB {text[-200:]}")


def heads_of_sizes():
    """Of four heads of 4 and two of 16, of which one of the latter says less than all others, that one goes."""
    if not ort: return
    r, nodes, init, x = np.random.default_rng(4), [], [], "x"
    weak = np.where(np.arange(32) < 16, 0.6, 1)
    for i, (n, heads, w) in enumerate(((16, 4, r.standard_normal((16, 16))), (32, 2, r.standard_normal((16, 32)) * weak), (8, 0, r.standard_normal((32, 8)) * weak[:, None]))):
        shapes = {f"w{i}": w.astype("f4"), f"apart{i}": np.array([-1, heads, n // max(heads, 1)]), f"together{i}": np.array([-1, n])}
        init += [numpy_helper.from_array(v, k) for k, v in shapes.items()]
        nodes.append(helper.make_node("MatMul", [x, f"w{i}"], [f"y{i}"], name=f"layer{i}"))
        if not heads: break
        nodes += [helper.make_node("Reshape", [f"y{i}", f"apart{i}"], [f"a{i}"]), helper.make_node("Softmax", [f"a{i}"], [f"s{i}"], axis=2),
                  helper.make_node("Reshape", [f"s{i}", f"together{i}"], [f"x{i + 1}"])]
        x = f"x{i + 1}"
    value = lambda name, n: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", n])
    g = helper.make_graph(nodes, "g", [value("x", 16)], [value("y2", 8)], init)
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), f"{T}/sizes.onnx")
    code, j, text = sard("prune", f"{T}/sizes.onnx", "-o", f"{T}/less.onnx", "--pattern", "heads:0.2", "--scope", "global")
    check("heads-of-sizes", code == 0 and [l["zeros"] for l in j["layers"]] == [0, 16 * 16, 16 * 8], text[-300:] if code else [l["zeros"] for l in j["layers"]])


def recurrent_model(path, kind, parts, outside, h=12):
    """Two layers; the first starts at zeros that nodes make, the second at a constant; or both at parts of an input, and what they end with is an output."""
    gates, r, seed = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], np.random.default_rng, iter(range(99))
    w, size = {}, {"W0": (parts, gates * h, 5), "W1": (parts, gates * h, parts * h)}
    for i in range(2): size |= {f"R{i}": (parts, gates * h, h), f"B{i}": (parts, 2 * gates * h)}
    for k, s in (size | {"h1": (parts, 3, h), "w": (parts * h, 4)}).items(): w[k] = (r(next(seed)).normal(size=s) * 0.5).astype("f4")
    ints = {"sizes": [parts, 3, h], "flat": [0, 0, -1], "flat2": [3, -1], "zero": [0], "parts": [parts], "all": [2 * parts]}
    attrs = dict(hidden_size=h, direction="bidirectional" if parts == 2 else "forward", **({"linear_before_reset": 1} if kind == "GRU" else {}))
    op = helper.make_node
    nodes = [op("ConstantOfShape", ["sizes"], ["h0"]), op(kind, ["x", "W0", "R0", "B0", "", "h0"], ["y0"], "first", **attrs), op("Transpose", ["y0"], ["t0"], perm=[0, 2, 1, 3]), op("Reshape", ["t0", "flat"], ["f0"]),
             op(kind, ["f0", "W1", "R1", "B1", "", "h1"], ["", "y1"], "second", **attrs), op("Transpose", ["y1"], ["t1"], perm=[1, 0, 2]), op("Reshape", ["t1", "flat2"], ["f1"]), op("MatMul", ["f1", "w"], ["y"], "last")]
    if (kind, parts, outside) == ("GRU", 2, False):  # as torch's newer exporter makes them
        ints |= {"at1": [1], "at2": [2], "h": [h]}
        w["0"] = np.zeros((), "f4")
        nodes[:1] = [op("Shape", ["x"], ["xs"]), op("Slice", ["xs", "at1", "at2"], ["batch"]), op("Concat", ["all", "batch", "h"], ["sizes2"], axis=0), op("Expand", ["0", "sizes2"], ["zeros"]), op("Slice", ["zeros", "zero", "parts", "zero"], ["h0"])]
    if outside:
        nodes[0], nodes[4].input[5] = op("Slice", ["s", "zero", "parts", "zero"], ["h0"]), "s1"
        nodes[1].output.append("z0")
        nodes[1:1] = [op("Slice", ["s", "parts", "all", "zero"], ["s1"])]
        nodes.append(op("Concat", ["z0", "y1"], ["z"], axis=0))
    init = [numpy_helper.from_array(v, k) for k, v in w.items()] + [numpy_helper.from_array(np.array(v), k) for k, v in ints.items()]
    state = lambda n: [helper.make_tensor_value_info(n, 1, [2 * parts, 3, h])] if outside else []
    g = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, [6, 3, 5]), *state("s")], [helper.make_tensor_value_info("y", 1, [3, 4]), *state("z")], init)
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return w


def states():
    """Hidden units go from recurrent layers, of both directions as many: what is left computes what the whole model does without what they give."""
    if not ort: return
    so = ort.SessionOptions()
    so.log_severity_level = 3
    run = lambda m, x: ort.InferenceSession(m, so, providers=["CPUExecutionProvider"]).run(None, x)
    for kind, parts, outside in (("LSTM", 2, False), ("GRU", 2, False), ("GRU", 1, False), ("RNN", 1, False), ("GRU", 2, True)):
        name, h, r = f"{kind}-{parts}{'-outside' * outside}", 12, np.random.default_rng(7)
        x = {"x": r.normal(size=(6, 3, 5)).astype("f4")}
        w, out = recurrent_model(f"{T}/rec.onnx", kind, parts, outside), f"{T}/rec_less.onnx"
        args, s, kept = [f"{T}/rec.onnx", "-o", out, "--pattern", "channels:0.5", "--scope", "layer", "--multiple", "1"], r.normal(size=(2 * parts, 3, h)).astype("f4"), []
        if outside: ends(f"states-{name}-asks", 4, args, "--keep-io-sizes no")
        code, j, text = sard("prune", *args, *["--keep-io-sizes", "no"] * outside)
        less = onnx.load(out) if code == 0 else None
        layers = [n for n in less.graph.node if n.op_type == kind] if less else []
        sizes = [a.i for n in layers for a in n.attribute if a.name == "hidden_size"]
        check(f"states-{name}", sizes == [6, 6] and (outside or layers[0].input[5:] in ([], [""])) and "ConstantOfShape" not in [n.op_type for n in less.graph.node], f"{code} {sizes} {text[-300:]}")
        if sizes != [6, 6]: continue
        init, zero = {t.name: numpy_helper.to_array(t) for t in less.graph.initializer}, {k: v.copy() for k, v in w.items()}
        for i in range(2):
            b, some = init[layers[i].input[3]], np.zeros((parts, h), bool)
            for p in range(parts): some[p] = ~np.isin(w[f"B{i}"][p, :h], b[p, :6])
            for p in range(parts): zero[f"R{i}"][p][:, some[p]] = 0
            kept += list(~some)
            if i: zero["w"][some.reshape(-1)] = 0
            else: zero["W1"][:, :, some.reshape(-1)] = 0
        m = onnx.load(f"{T}/rec.onnx")
        for t in m.graph.initializer: t.CopyFrom(numpy_helper.from_array(zero[t.name], t.name)) if t.name in zero else None
        m.graph.initializer[[t.name for t in m.graph.initializer].index("h1")].CopyFrom(numpy_helper.from_array(w["h1"], "h1"))
        onnx.save(m, f"{T}/rec_zero.onnx")
        cut = lambda v: np.stack([v[i][:, k] for i, k in enumerate(kept)])
        wanted, got = run(f"{T}/rec_zero.onnx", x | {"s": s} if outside else x), run(out, x | {"s": cut(s)} if outside else x)
        check(f"states-{name}-same", np.abs(wanted[0] - got[0]).max() < 1e-5, f"{np.abs(wanted[0] - got[0]).max()}")
        if outside: check(f"states-{name}-last", np.abs(cut(wanted[1]) - got[1]).max() < 1e-5 and [(i["name"], i["input"], i["axis"], i["before"], i["after"]) for i in j["resized"]] == [("s", True, 2, 12, 6), ("z", False, 2, 12, 6)], j["resized"])
        np.savez(f"{T}/rec.npz", x=x["x"][None], y=got[0][None], **({"s": cut(s)[None]} if outside else {}))
        code, e, text = sard("eval", out, "--data", f"{T}/rec.npz", "--metric", "psnr")
        check(f"states-{name}-ort", code == 0 and e["value"] >= 90, f"{e.get('value')} dB {text[-200:]}")
    np.savez(f"{T}/rec.npz", x=np.stack([x["x"]] * 4), s=np.stack([s] * 4))  # data are those of the model as it was: its inputs are cut
    code, j, text = sard("prune", *args, "--keep-io-sizes", "no", "--data", f"{T}/rec.npz", "--metric", "mse", "--batch", "1")
    check("states-data", code == 0 and 0 < j["value_after"] < 1, f"{j} {text[-300:]}")
    ends("states-judged", 2, [*args, "--keep-io-sizes", "no", "--data", f"{T}/rec.npz", "--metric", "mse", "--judged", "z"], "loses elements", None)


def heads():
    """Heads are found behind axes that are split and merged, and those that say nothing go without a change of the outputs."""
    if not ort: return
    for form in ("merged", "computed", "sliced", "operator", "biased", "cached", "cross"):
        model, out, data, cached = f"{T}/a.onnx", f"{T}/less.onnx", f"{T}/attention.npz", form == "cached"
        attention(model, form)
        code, j, text = sard("prune", model, "-o", out, "--pattern", "heads:0.5", *["--keep-io-sizes", "no"] * cached)
        ok = code == 0 and sum(l["zeros"] for l in j["layers"] if "zeros" in l) == 16 * 48 // 2 + 16 * 16 // 2
        check(f"heads-{form}", ok, text[-300:])
        if not ok: continue
        x, past = np.load(data)["x"], np.random.default_rng(2).standard_normal((2, 24, 4, 3, 4)).astype("f4")
        feed = lambda heads: {"x": x} | ({"past_k": past[0][:, heads], "past_v": past[1][:, heads]} if cached else {"memory": x[:, :5]} if form == "cross" else {})
        a, b = (ort.InferenceSession(m).run(None, feed(h)) for m, h in ((model, range(4)), (out, [0, 3])))
        if cached: check("heads-cached-outputs", all(np.abs(u[:, [0, 3]] - v).max() < 1e-5 for u, v in zip(a[1:], b[1:])) and len(j["resized"]) == 4)
        a, b = a[0], b[0]
        np.savez(data, **feed([0, 3]), **({"y": b} if cached else {}))
        if form == "cross": check("heads-cross-folded", all("zeros" in l for l in j["layers"] if "MatMul" in l["name"] and l.get("kept") != "its weight is no constant") and "Slice" not in [n.op_type for n in onnx.load(out).graph.node])
        code, e, text = sard("eval", out, "--data", data, "--metric", "psnr", *[] if cached else ["--baseline", model])
        check(f"heads-{form}-same", code == 0 and e["value"] >= 100, f"{e.get('value')} dB {text[-200:]}")
        check(f"heads-{form}-ort", np.abs(a - b).max() < 1e-4 * np.abs(a).max(), np.abs(a - b).max())


def fit(resnet):
    """Least squares are what makes it work, and without data magnitudes do."""
    drop = sard("prune", resnet.model, "-o", f"{T}/f.onnx", "--pattern", "2:4", "--data", resnet.data, "--metric", "top1", "--criterion", "magnitude", "--reconstruct", "none", "--limit", "200")[1].get("drop", 0)
    check("fit-helps", drop > 0.05, f"{drop} without, less than 0.01 with it")
    code, j, text = sard("prune", resnet.model, "-o", f"{T}/plain.onnx", "--pattern", "unstructured:0.2")
    check("no-data", code == 0 and j["criterion"] == "magnitude" and j["reconstruct"] == "none" and abs(j["ratio"] - 0.2) < 0.01, text)


def report(lenet):
    out, html = f"{T}/r.onnx", f"{T}/r.html"
    args = [lenet.model, "-o", out, "--data", lenet.data, "--metric", "top1", "--pattern", "unstructured:0.5", "--samples", "64"]
    code, j, text = sard("prune", *args, "--sensitivity", "--html", html)
    ok = code == 0 and len(j["layers"]) == 4 and j["size_after"] == os.path.getsize(out) and not j["partial"]
    ok = ok and sum(l["zeros"] for l in j["layers"]) == j["zeros"] and sum(l["weights"] for l in j["layers"]) == j["weights"] <= j["parameters"]
    check("report", ok and j["packed_bytes"] < 0.6 * j["weight_bytes"] and 0 < j["ms_predicted"] <= j["ms_before"] and j["memory_before"] > 0, text[-300:])
    snr = [l["snr"] for l in j["sensitivity"]]
    check("report-order", len(snr) == 4 and snr == sorted(snr), snr)
    check("report-html", open(html).read().count("<svg") == 4)
    worst = j["sensitivity"][0]["name"]
    first = open(out, "rb").read()
    os.rename(f"{T}/j", f"{T}/report.json")
    sard("prune", *args)
    check("same-bytes", open(out, "rb").read() == first)
    code, j, text = sard("prune", *args, "--exclude", f"@{T}/report.json:top=1")
    check("report-excludes", code == 0 and [l["name"] for l in j["layers"] if "kept" in l] == [worst], text[-300:])


def layers(path, rows, sizes):
    """Products large enough for sparse kernels, of random weights, and data for them."""
    r, nodes, init = np.random.default_rng(5), [], []
    for i, (k, n) in enumerate(zip(sizes, sizes[1:])):
        init.append(numpy_helper.from_array((r.standard_normal((n, k)) / np.sqrt(k)).astype("f4"), f"w{i}"))
        nodes.append(helper.make_node("Gemm", [f"r{i}" if i else "x", f"w{i}"], [f"y{i}"], name=f"layer{i}", transB=1))
        if i + 2 < len(sizes): nodes.append(helper.make_node("Relu", [f"y{i}"], [f"r{i + 1}"], name=f"relu{i}"))
    value = lambda name, n: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, n])
    g = helper.make_graph(nodes, "g", [value("x", sizes[0])], [value(f"y{len(sizes) - 2}", sizes[-1])], init)
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    np.savez(f"{T}/layers.npz", x=r.standard_normal((2 * rows, sizes[0])).astype("f4"))
    return f"{T}/layers.npz"


def shared(path, copies):
    """Products of several operands with one weight, of which a tenth is left."""
    r, n = np.random.default_rng(6), 512
    w = (r.standard_normal((n, n)) * (r.random((n, n)) < 0.1)).astype("f4")
    value = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [128, n])
    nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"y{i}"], name=f"product{i}") for i in range(copies)]
    g = helper.make_graph(nodes, "g", [value(f"x{i}") for i in range(copies)], [value(f"y{i}") for i in range(copies)], [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def compiled(model, target):
    """Schedules of its kernels, and the bytes of its artifact."""
    out = f"{T}/c.sard"
    if sard("compile", model, "-o", out, "--target", target, "-q")[0]: return [], 0
    return [s["schedule"] for s in sard("inspect", out, "-q")[1]["artifact"]["step_list"]], os.path.getsize(out)


def kernels():
    """What is pruned runs sparse, as the report says, and takes less room; quantized behind it, too, with the zeros that were there."""
    if not ort or platform.machine() != "x86_64": return
    model, out, q = f"{T}/layers.onnx", f"{T}/less.onnx", f"{T}/less8.onnx"
    data = layers(model, 64, (256, 512, 512, 10))
    args = ["--data", data, "--criterion", "magnitude", "--reconstruct", "none", "--scope", "layer", "--target", "avx2"]
    dense = compiled(model, "avx2")[1]
    for pattern, most in (("unstructured:0.9", 0.3), ("block16x4:0.8", 0.35)):
        code, j, text = sard("prune", model, "-o", out, "--pattern", pattern, *args, *(["--external-data"] if "block" in pattern else []))
        by = {l["name"]: l for l in j.get("layers", [])}
        ok = code == 0 and j["sparse_layers"] == 2 and all(by[f"layer{i}"]["sparse"] and "sparse product" in by[f"layer{i}"]["schedule"] for i in (0, 1))
        check(f"runs-sparse-{pattern}", ok and "sparse product" in text, text[-600:])
        if not ok: continue
        check(f"less-memory-{pattern}", by["layer1"]["memory_after"] < most * by["layer1"]["memory_before"] and by["layer1"]["memory_before"] == 4 * 512 * 512, by["layer1"])
        schedules, size = compiled(out, "avx2")
        check(f"less-artifact-{pattern}", sum("sparse" in s for s in schedules) == 2 and size < (most + 0.02) * dense, f"{size} of {dense}, {schedules}")
    one, two = compiled(shared(f"{T}/one.onnx", 1), "avx2"), compiled(shared(f"{T}/two.onnx", 2), "avx2")
    check("shared-weight", len(two[0]) == 2 and all("sparse" in s for s in two[0]) and two[1] < 1.1 * one[1], f"{one} {two}")
    check("external-data", os.path.getsize(f"{out}.data") > 4 * 256 * 512 > os.path.getsize(out))
    code, j, text = sard("quantize", out, "-o", q, "--data", data, "--mode", "static", "--must-be-faster", "no")
    if code: return check("quantize-pruned", False, text[-300:])
    floats, whole = matrices(out), {t.name: numpy_helper.to_array(t) for t in onnx.load(q).graph.initializer}
    for i in (0, 1):
        w = floats[f"w{i}"]
        bytes8 = next(v for v in whole.values() if v.dtype == np.int8 and sorted(v.shape) == sorted(w.shape))
        if bytes8.shape != w.shape: bytes8 = bytes8.T
        check(f"quantize-keeps-zeros-{i}", (bytes8[w == 0] == 0).all() and (w == 0).mean() > 0.79)
    code, j, text = sard("quantize", model, "-o", f"{T}/dense8.onnx", "--data", data, "--mode", "static", "--must-be-faster", "no")
    schedules, size = compiled(q, "avx512vnni")
    dense8 = compiled(f"{T}/dense8.onnx", "avx512vnni")[1]
    check("quantized-runs-sparse", sum("sparse" in s for s in schedules) == 2 and size < 0.4 * dense8, f"{size} of {dense8}, {schedules}")


def memory():
    """Weights are in memory once beside the file, which is mapped."""
    if not ort: return
    n, count, model = 1024, 12, f"{T}/large.onnx"
    w = [numpy_helper.from_array(np.random.default_rng(i).standard_normal((n, n)).astype("f4"), f"w{i}") for i in range(count)]
    v = [helper.make_tensor_value_info(k, 1, [4, n]) for k in ("x", "y")]
    at = ["x", *(f"v{i}" for i in range(1, count)), "y"]
    nodes = [helper.make_node("MatMul", [at[i], f"w{i}"], [at[i + 1]], f"m{i}") for i in range(count)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", v[:1], v[1:], w), opset_imports=[helper.make_opsetid("", 17)]), model)
    for pattern, most in (("unstructured:0.3", 2.8), ("channels:0.5", 2.8)):
        code, j, text = sard("prune", model, "-o", f"{T}/small.onnx", "--pattern", pattern)
        all_ = n * n * count * 4e-6
        check(f"memory-{pattern[:4]}", code == 0 and j["peak_rss_mb"] < most * all_ + 30, f"{j.get('peak_rss_mb')} MB with weights of {all_:.0f} {text[-200:]}")


def search(lenet):
    out = f"{T}/s.onnx"
    args = [lenet.model, "-o", out, "--data", lenet.data, "--metric", "top1", "--criterion", "magnitude", "--reconstruct", "none", "--pattern", "unstructured:0.93", "--scope", "layer"]
    free = sard("prune", *args)[1]["drop"]
    os.remove(out)
    code, j, text = sard("prune", *args, "--max-drop", "2%")
    kept = code == 0 and j["drop"] <= 0.02 and os.path.exists(out) and 0 < j["ratio"] < 0.92
    check("max-drop", free > 0.02 and kept and len(j["sensitivity"]) == 4, f"{free} {text[-400:]}")
    os.remove(out)
    code, j, text = sard("prune", *args[:-4], "--pattern", "2:4", "--max-drop", "0%", "--limit", "50", "--exclude", "/0/*")
    check("max-drop-refuses", (code == 0 and j["drop"] <= 0) or (code == 1 and j["refused"] and not os.path.exists(out)), text[-300:])


def recurrent():
    case = os.path.join(CORPUS, "lstm_lm_tiny")
    code, j, text = sard("prune", f"{case}/model.onnx", "-o", f"{T}/l.onnx", "--pattern", "unstructured:0.3", "--data", case, "--samples", "16")
    snr = [sard("prune", f"{case}/model.onnx", "-o", f"{T}/l.onnx", "--pattern", "unstructured:0.5", "--data", case, "--samples", "16", "--ops", "LSTM", "--metric", "psnr", "--reconstruct", fit)[1].get("value_after", 0) for fit in ("none", "lsq")]
    check("recurrent-fit", snr[1] > snr[0] + 6, f"{snr} dB without and with the fit")
    check("recurrent", code == 0 and sum(l["op"] == "LSTM" for l in j["layers"]) == 4 and abs(j["ratio"] - 0.3) < 0.01, text[-300:])


def bad(digits, lenet):
    out = f"{T}/bad.onnx"
    base, data, free = [digits.model, "-o", out], ["--data", digits.data], ["--pattern", "unstructured:0.3"]
    ends("bad-no-output", 2, [digits.model, *free], "-o FILE is missing")
    ends("bad-no-pattern", 2, base, "--pattern is missing", out)
    for p in ("unstructured", "unstructured:1.5", "unstructured:0", "4:2", "0:4", "block0x1:0.5", "block16:0.5", "2:4x"):
        ends(f"bad-pattern-{p}", 2, [*base, "--pattern", p], "is no pattern", out)
    ends("bad-divides", 4, [*base, "--pattern", "2:7"], "do not divide", out)
    ends("bad-heads", 4, [*base, "--pattern", "heads:0.5"], "are taken apart into heads", out)
    stuck = f"{CORPUS}/stn_gridsample_tiny/model.onnx"
    if os.path.exists(stuck): ends("bad-heads-stuck", 4, [stuck, "-o", out, "--pattern", "heads:0.5"], "(GatherND), which needs all of its outputs", out)
    ends("bad-channels-sparsegpt", 2, [*base, *data, "--pattern", "channels:0.5", "--criterion", "sparsegpt"], "is of single weights", out)
    ends("bad-criterion", 2, [*base, *free, *data, "--criterion", "best"], "none of magnitude", out)
    ends("bad-wanda-no-data", 2, [*base, *free, "--criterion", "wanda"], "needs --data", out)
    ends("bad-lsq-no-data", 2, [*base, *free, "--reconstruct", "lsq"], "needs --data", out)
    ends("bad-drop-no-metric", 2, [*base, *free, *data, "--max-drop", "1%"], "needs --metric", out)
    ends("bad-also", 2, [*base, *free, "--also", "norms"], "neither embeddings nor depthwise", out)
    ends("bad-also-channels", 2, [*base, "--pattern", "channels:0.5", "--also", "embeddings"], "keep all outputs", out)
    ends("bad-multiple", 2, [*base, *free, "--multiple", "16"], "of channels that are left", out)
    ends("bad-sizes", 2, [*base, *free, "--keep-io-sizes", "no"], "of channels and heads", out)
    ends("bad-exclude", 2, [*base, *free, "--exclude", "nosuch"], "no node 'nosuch'", out)
    ends("bad-all-excluded", 4, [*base, *free, "--exclude", "*"], "nothing can be pruned", out)
    trees = f"{CORPUS}/skl_cancer_gbdt/model.onnx"
    cache = f"{CORPUS}/gpt2_kv_tiny/model.onnx"  # keys and values become outputs of the model
    if os.path.exists(cache): ends("bad-cache", 4, [cache, "-o", out, "--pattern", "heads:0.25"], "--keep-io-sizes no", out)
    if os.path.exists(trees): ends("bad-nothing", 4, [trees, "-o", out, *free], "nothing can be pruned", out)
    ends("bad-no-model", 7, [f"{T}/none.onnx", "-o", out, *free], "", out)
    ends("bad-unfit-data", 2, [*base, *free, "--data", lenet.data], "", out)
    k, x = next(iter(digits.x.items()))
    nan = x.copy()
    nan[3, 5] = np.nan
    np.savez(f"{T}/nan.npz", **{k: nan}, y=digits.y)
    ends("bad-nan", 2, [*base, *free, "--data", f"{T}/nan.npz"], "NaN or infinite in samples 0 to 15", out)
    np.savez(f"{T}/empty.npz", **{k: x[:0]})
    ends("bad-empty", 2, [*base, *free, "--data", f"{T}/empty.npz"], "holds no samples", out)
    np.savez(f"{T}/bare.npz", **{k: x})
    ends("bad-no-labels", 2, [*base, *free, "--data", f"{T}/bare.npz", "--metric", "top1"], "needs labels", out)
    subprocess.run([SARD, "compile", digits.model, "-o", f"{T}/a.sard", "-q"])
    ends("bad-artifact", 2, [f"{T}/a.sard", "-o", out, *free], "compiled already", out)
    open(f"{T}/cut.onnx", "wb").write(open(digits.model, "rb").read()[:3000])
    ends("bad-cut", 3, [f"{T}/cut.onnx", "-o", out, *free], "", out)


def also():
    """Tables and kernels of single channels lose weights where that is asked for; channels that are left come in multiples."""
    out = f"{T}/also.onnx"
    for name, word, op in (("bert_base_tiny", "embeddings", "Gather"), ("mobilenet_v2_tiny", "depthwise", "Conv")):
        case = f"{CORPUS}/{name}"
        if not os.path.exists(case): continue
        args = [f"{case}/model.onnx", "-o", out, "--pattern", "unstructured:0.4", "--scope", "layer", "--data", case, "--samples", "16"]
        kept = [l["name"] for l in sard("prune", *args)[1]["layers"] if word in l.get("kept", "")]
        code, j, text = sard("prune", *args, "--also", word)
        got = [l for l in j.get("layers", []) if l["name"] in kept]
        check(f"also-{word}", code == 0 and kept and all(l["op"] == op and abs(l["ratio"] - 0.4) < 0.06 for l in got) and len(got) == len(kept), f"{kept} {got[:2]} {text[-300:]}")
        if ort and code == 0:
            try: ort.InferenceSession(out)
            except Exception as e: check(f"also-{word}-ort", False, str(e)[:300])
    if not ort: return
    data = layers(f"{T}/wide.onnx", 64, (64, 100, 100, 10))
    for step, left in ((1, 70), (8, 72), (16, 64)):
        code, j, text = sard("prune", f"{T}/wide.onnx", "-o", out, "--pattern", "channels:0.3", "--scope", "layer", "--data", data, "--multiple", str(step))
        rows = [len(w) for w in matrices(out).values()] if code == 0 else []
        check(f"multiple-{step}", rows == [left, left, 10], f"{rows} {text[-300:]}")


def resume(lenet):
    """What was cut off goes on with the layers that are done, to the same bytes; other flags begin anew, other files are left alone."""
    a, b, state = f"{T}/whole.onnx", f"{T}/parts.onnx", f"{T}/state"
    args = [lenet.model, "--pattern", "unstructured:0.6", "--data", lenet.data, "--samples", "64", "--schedule", "2"]
    sard("prune", *args, "-o", a, "--resume", state)
    bytes_, whole = open(state, "rb").read(), open(a, "rb").read()
    for keep, name in ((len(bytes_), "all"), (len(bytes_) * 2 // 3, "cut")):
        open(state, "wb").write(bytes_[:keep])
        code, j, text = sard("prune", *args, "-o", b, "--resume", state)
        n = j.get("recalled", 0)
        check(f"resume-{name}", code == 0 and (n == 8 if name == "all" else 0 < n < 8) and open(b, "rb").read() == whole and open(state, "rb").read() == bytes_, f"{n} {text[-300:]}")
    code, j, text = sard("prune", *args[:-1], "1", "-o", b, "--resume", state)
    check("resume-anew", code == 0 and j["recalled"] == 0 and "begins anew" in text, text[-300:])
    for pattern in ("channels:0.25", "heads:0.25"):  # what was measured for the choice, and fitted behind it
        model, data = (lenet.model, lenet.data) if pattern[0] == "c" else (f"{CORPUS}/bert_base_tiny/model.onnx", f"{CORPUS}/bert_base_tiny")
        if not os.path.exists(model): continue
        removes, kind = [model, "--pattern", pattern, "--data", data, "--samples", "32"], pattern.split(":")[0]
        code, j, text = sard("prune", *removes, "-o", a, "--resume", state)
        bytes_, whole, some = open(state, "rb").read(), open(a, "rb").read() if code == 0 else b"", j.get("recalled", -1)
        open(state, "wb").write(bytes_[:len(bytes_) * 2 // 3])
        code, j, text = sard("prune", *removes, "-o", b, "--resume", state)
        check(f"resume-{kind}", code == 0 and some == 0 < j["recalled"] and open(b, "rb").read() == whole and open(state, "rb").read() == bytes_, f"{j.get('recalled')} {text[-300:]}")
    open(state, "w").write("mine")
    ends("resume-of-others", 2, [*args, "-o", b, "--resume", state], "nothing that sard prune wrote")
    check("resume-left-alone", open(state).read() == "mine")


def main():
    digits, lenet, resnet = Case("digits_mlp"), Case("mnist_lenet"), Case("mnist_resnet8")
    patterns(digits, lenet, resnet), removed(digits, lenet, resnet), states(), heads(), shared_heads(), heads_of_sizes(), fit(resnet), report(lenet), kernels(), memory(), also(), resume(lenet), search(lenet), recurrent(), bad(digits, lenet), interrupted((1.5, 1, 0.7, 0.5, 0.3), "prune", resnet.model, "--pattern", "2:4", "--schedule", "3", "--data", resnet.data, "--metric", "top1")
    return end()


sys.exit(main())
