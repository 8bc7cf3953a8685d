#!/usr/bin/env python3
"""Operators of com.microsoft and ai.onnx.ml against ONNX Runtime, on small models made here.

usage: python3 ms_cases.py SARD [--onnxruntime | --store] [PREFIX...]     needs the packages onnx and numpy

What ONNX Runtime gave is stored in ms_expected.npz, with a checksum of the inputs. --onnxruntime runs it instead, --store
writes the file anew; both need its package. Each model runs twice: at -O3 with the dims as they are, and at -O0 with all
input dims symbolic. Last line: N passed, N failed
"""
import os
import sys
import tempfile
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import many

STORED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ms_expected.npz")
MS, ML = "com.microsoft", "ai.onnx.ml"
rng = np.random.default_rng(7)
CASES = []
EXACT = {}  # name -> another result that is right


def f32(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def u8(*shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def i8(*shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


def case(name, op, domain, inputs, outputs, attrs=None, const=(), rtol=1e-3, atol=1e-4, fixed=(), lead=9, cut=None, want=None):
    """inputs: (name, array or None); const: names that are initializers; fixed: inputs whose dims stay numbers; lead: so
    many dims may be symbolic; outputs: number, or list of names ("" = not wanted, "free..." = may hold anything); cut: parts
    of outputs by name, bool arrays, the rest may hold anything; want: outputs by numpy, where ONNX Runtime does not run
    the case or computes in fewer bits."""
    fixed = {n: 0 for n in fixed}
    CASES.append((name, op, domain, inputs, outputs, attrs or {}, set(const), rtol, atol, {n: fixed.get(n, lead) for n, _ in inputs}, cut or {}, want))


def model_of(op, domain, inputs, outputs, attrs, const, fixed, symbolic):
    names = [n if a is not None else "" for n, a in inputs]
    node = helper.make_node(op, names, outputs, domain=domain, name="node", **attrs)
    infos, init = [], []
    for n, a in inputs:
        if a is None:
            continue
        if n in const:
            init.append(numpy_helper.from_array(a, n))
            continue
        dims = [f"{n}_{i}" if symbolic and i < fixed[n] and d > 1 else d for i, d in enumerate(a.shape)]
        infos.append(helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), dims))
    outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) if o.startswith("qk") else onnx.ValueInfoProto(name=o) for o in outputs if o]
    graph = helper.make_graph([node], "case", infos, outs, init)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1), helper.make_opsetid(ML, 5 if op == "TreeEnsemble" else 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def expected(model):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def differ(got, want, rtol, atol, cut):
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"
    if cut is not None:
        got, want = (np.where(np.broadcast_to(cut, a.shape), a, np.zeros((), a.dtype)) for a in (got, want))
    if want.dtype.kind in "iu" and want.dtype.itemsize == 1:  # a tie may round the other way
        bad = np.abs(got.astype(int) - want.astype(int)) > 1
    elif want.dtype.kind == "f":
        bad = ~np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    else:
        bad = got != want
    if not bad.any():
        return None
    i = tuple(np.argwhere(bad)[0])
    return f"{bad.sum()} of {bad.size} differ, first at {list(map(int, i))}: {got[i]} instead of {want[i]}"


def run(sard, model, inputs, outputs, level, folder):
    path, ins, outs = f"{folder}/model.onnx", f"{folder}/in", f"{folder}/out"
    os.makedirs(ins, exist_ok=True)
    with open(path, "wb") as f:
        f.write(model.SerializeToString())
    for i, info in enumerate(model.graph.input):
        with open(f"{ins}/input_{i}.pb", "wb") as f:
            f.write(numpy_helper.from_array(dict(inputs)[info.name], info.name).SerializeToString())
    p = many.run(sard, "run", path, "--inputs", ins, "--outputs", outs, f"-O{level}", "--quiet")
    if p.returncode:
        return None, f"exit {p.returncode}: {' '.join(p.stderr.split())[:600]}"
    read = lambda i: numpy_helper.to_array(onnx.load_tensor(f"{outs}/output_{i}.pb"))
    return [read(i) for i in range(len(outputs))], None


def checksum(inputs):
    return np.uint32(zlib.crc32(b"".join(np.ascontiguousarray(a).tobytes() for _, a in inputs if a is not None)))


def computed(c):
    """Outputs by ONNX Runtime, or the reason why it does not run the model."""
    name, op, domain, inputs, outputs, attrs, const, rtol, atol, fixed, _, _ = c
    names = output_names(outputs)
    try:
        session = expected(model_of(op, domain, inputs, names, attrs, const, fixed, False))
        return session.run([n for n in names if n], {n: a for n, a in inputs if a is not None and n not in const})
    except Exception as e:
        return f"onnxruntime: {' '.join(str(e).split())[:300]}"


def stored(c, file):
    name, inputs, names = c[0], c[3], output_names(c[4])
    if f"{name}/inputs" not in file:
        return "not in the file of expected outputs"
    if file[f"{name}/inputs"] != checksum(inputs):
        return "FAIL: its inputs are not those of the stored outputs"
    return [file[f"{name}/{n}"] for n in names if n]


def output_names(outputs):
    return [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs


def test(sard, c, want):
    name, op, domain, inputs, outputs, attrs, const, rtol, atol, fixed, cut, _ = c
    names = output_names(outputs)
    given = [n for n in names if n]
    found = []
    for level, symbolic in ((3, False), (0, True)):
        with tempfile.TemporaryDirectory() as folder:
            got, bad = run(sard, model_of(op, domain, inputs, names, attrs, const, fixed, symbolic), inputs, given, level, folder)
        for n, g, w in zip(given, got or [], want):
            text = bad or n.startswith("free") or differ(g, w, rtol, atol, cut.get(n))
            if text and not bad and name in EXACT:
                text = differ(g, EXACT[name], rtol, atol, None) and text
            bad = bad or isinstance(text, str) and f"output {n}: {text}"
        if bad:
            found.append(f"-O{level}{' symbolic' if symbolic else ''}: {bad}")
    return found


# ---- com.microsoft: quantized ----
def scalar(v, t=np.float32):
    return np.array(v, t)


def quantized_cases():
    for bits, block, k in ((4, 32, 96), (4, 16, 40), (8, 32, 64)):
        n, blocks = 24, -(-k // block)
        b, s = u8(n, blocks, block * bits // 8), np.abs(f32(n, blocks, scale=0.1))
        zp = u8(n, (blocks * bits + 7) // 8)
        for form, z in (("", None), ("_zeros", zp), ("_float_zeros", np.abs(f32(n, blocks, scale=4)) if bits == 4 else None)):
            if form == "_float_zeros" and z is None:
                continue
            case(f"nbits{bits}_{block}{form}", "MatMulNBits", MS, [("A", f32(2, 5, k)), ("B", b), ("S", s), ("Z", z)], 1,
                 dict(K=k, N=n, bits=bits, block_size=block), "BSZ", atol=2e-3)
    case("nbits4_bias", "MatMulNBits", MS, [("A", f32(3, 64)), ("B", u8(8, 2, 16)), ("S", f32(8, 2)), ("Z", None), ("G", None),
                                            ("C", f32(8))], 1, dict(K=64, N=8, bits=4, block_size=32), "BSC", atol=5e-3)
    q = [("A", u8(2, 4, 8)), ("sa", scalar(0.02)), ("za", scalar(120, np.uint8)), ("B", u8(4, 8)), ("sb", scalar(0.03)),
         ("zb", scalar(100, np.uint8)), ("sc", scalar(0.05)), ("zc", scalar(128, np.uint8))]
    case("qlinear_add", "QLinearAdd", MS, q, 1, const=["sa", "za", "sb", "zb", "sc", "zc"])
    case("qlinear_mul", "QLinearMul", MS, q, 1, const=["sa", "za", "sb", "zb", "sc", "zc"])
    u = [("X", u8(2, 6, 8, 8)), ("sx", scalar(0.03)), ("zx", scalar(110, np.uint8)), ("sy", scalar(1 / 128)), ("zy", scalar(10, np.uint8))]
    c4 = ["sx", "zx", "sy", "zy"]
    case("qlinear_sigmoid", "QLinearSigmoid", MS, u, 1, const=c4)
    case("qlinear_leaky", "QLinearLeakyRelu", MS, u, 1, dict(alpha=0.2), const=c4)
    case("qlinear_softmax", "QLinearSoftmax", MS, u, 1, dict(axis=-1, opset=13), const=c4)
    case("qlinear_softmax_old", "QLinearSoftmax", MS, u, 1, dict(axis=1, opset=12), const=c4)
    case("qlinear_average_pool", "QLinearAveragePool", MS, u, 1, dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), const=c4)
    case("qlinear_global_average_pool", "QLinearGlobalAveragePool", MS, u, 1, dict(channels_last=0), const=c4)
    case("qlinear_global_average_pool_last", "QLinearGlobalAveragePool", MS, u, 1, dict(channels_last=1), const=c4)
    case("qlinear_concat", "QLinearConcat", MS, [("sy", scalar(0.04)), ("zy", scalar(100, np.uint8)), ("a", u8(2, 3)), ("sa", scalar(0.02)),
         ("za", scalar(90, np.uint8)), ("b", u8(2, 5)), ("sb", scalar(0.05)), ("zb", scalar(128, np.uint8))], 1, dict(axis=1),
         const=["sy", "zy", "sa", "za", "sb", "zb"])
    gemm = [("A", u8(5, 16)), ("sa", scalar(0.02)), ("za", scalar(120, np.uint8)), ("B", i8(16, 7)), ("sb", np.abs(f32(7, scale=0.05))),
            ("zb", np.zeros(7, np.int8)), ("C", rng.integers(-9999, 9999, 7).astype(np.int32)), ("sy", scalar(0.3)), ("zy", scalar(77, np.uint8))]
    case("qgemm", "QGemm", MS, gemm, 1, dict(alpha=0.5), const=["sa", "za", "B", "sb", "zb", "C", "sy", "zy"])
    case("qgemm_float", "QGemm", MS, gemm[:7], 1, const=["sa", "za", "B", "sb", "zb", "C"])
    case("qgemm_trans", "QGemm", MS, gemm[:3] + [("B", i8(7, 16)), ("sb", scalar(0.1)), ("zb", scalar(3, np.int8))] + gemm[6:], 1,
         dict(transB=1), const=["sa", "za", "B", "sb", "zb", "C", "sy", "zy"])
    case("dynamic_matmul", "DynamicQuantizeMatMul", MS, [("A", f32(3, 16)), ("B", i8(16, 6)), ("s", scalar([0.1])), ("z", scalar([2], np.int8)),
         ("C", f32(6))], 1, const=["B", "s", "z", "C"])
    case("matmul_integer_float", "MatMulIntegerToFloat", MS, [("A", u8(3, 16)), ("B", u8(16, 6)), ("sa", scalar(0.1)), ("sb", np.abs(f32(6))),
         ("za", scalar(100, np.uint8)), ("zb", u8(6)), ("C", f32(6))], 1, const=["B", "sa", "sb", "za", "zb", "C"])
    case("ms_quantize", "QuantizeLinear", MS, [("x", f32(3, 4)), ("s", np.abs(f32(4)) + 0.1), ("z", u8(4))], 1, dict(axis=1), const="sz")
    case("ms_dequantize", "DequantizeLinear", MS, [("x", u8(3, 4)), ("s", np.abs(f32(3))), ("z", u8(3))], 1, dict(axis=0), const="sz")
    for d, name in ((1, "forward"), (2, "bidirectional")):
        case(f"dynamic_lstm_{name}", "DynamicQuantizeLSTM", MS, [("X", f32(5, 1, 8)), ("W", i8(d, 8, 24)), ("R", i8(d, 6, 24)), ("B", f32(d, 48)),
             ("L", None), ("h", f32(d, 1, 6)), ("c", f32(d, 1, 6)), ("P", None), ("sw", np.full(d, 0.01, np.float32)), ("zw", np.zeros(d, np.int8)),
             ("sr", np.full(d, 0.01, np.float32)), ("zr", np.zeros(d, np.int8))], 3, dict(hidden_size=6, direction=name),
             const=["W", "R", "B", "sw", "zw", "sr", "zr"], atol=2e-3)
    case("qattention", "QAttention", MS, [("x", u8(2, 5, 16)), ("w", i8(16, 48)), ("b", f32(48)), ("sx", scalar(0.02)), ("sw", scalar(0.01)),
         ("m", np.array([5, 3], np.int32)), ("zx", scalar(128, np.uint8)), ("zw", scalar(0, np.int8))], 1, dict(num_heads=4),
         const=["w", "b", "sx", "sw", "zx", "zw"])
    ids, tables = rng.integers(0, 10, (2, 4)).astype(np.int32), [u8(10, 8), u8(6, 8), u8(2, 8), u8(8), u8(8)]
    names = ["word", "pos", "seg", "gamma", "beta"]
    case("qembed", "QEmbedLayerNormalization", MS, [("ids", ids), ("segs", ids % 2)] + list(zip(names, tables)) + [("mask", np.ones((2, 4), np.int32))] +
         [("s" + n, scalar(0.01 * (i + 1))) for i, n in enumerate(names)] + [("z" + n, scalar(100 + i, np.uint8)) for i, n in enumerate(names)], 2,
         const=names + ["s" + n for n in names] + ["z" + n for n in names])


# ---- com.microsoft: attention and others ----
def attention_cases():
    x, w, b = f32(2, 5, 16), f32(16, 48, scale=0.3), f32(48)
    base = [("x", x), ("w", w), ("b", b)]
    case("attention", "Attention", MS, base, 1, dict(num_heads=4), "wb")
    case("attention_causal", "Attention", MS, base, 1, dict(num_heads=4, unidirectional=1), "wb")
    case("attention_lengths", "Attention", MS, base + [("m", np.array([5, 3], np.int32))], 1, dict(num_heads=2), "wb", fixed="m")
    case("attention_mask", "Attention", MS, base + [("m", np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], np.int32))], 1, dict(num_heads=4), "wb")
    case("attention_mask3", "Attention", MS, base + [("m", np.tril(np.ones((2, 5, 5), np.int32)))], 1, dict(num_heads=4), "wb")
    case("attention_past", "Attention", MS, base + [("m", None), ("p", f32(2, 2, 4, 3, 4))], 2, dict(num_heads=4, unidirectional=1), "wb")
    case("attention_bias", "Attention", MS, base + [("m", None), ("p", None), ("a", f32(2, 4, 5, 5))], 1, dict(num_heads=4, scale=0.3), "wb")
    case("attention_sizes", "Attention", MS, [("x", x), ("w", f32(16, 40, scale=0.3)), ("b", f32(40))], 1, dict(num_heads=4, qkv_hidden_sizes=[16, 16, 8]), "wb")
    q, k, v = f32(2, 5, 16), f32(2, 7, 16), f32(2, 7, 16)
    case("mha", "MultiHeadAttention", MS, [("q", q), ("k", k), ("v", v)], 1, dict(num_heads=4))
    case("mha_bias", "MultiHeadAttention", MS, [("q", q), ("k", k), ("v", v), ("b", f32(48))], 1, dict(num_heads=4), "b")
    case("mha_padding", "MultiHeadAttention", MS, [("q", q), ("k", k), ("v", v), ("b", None), ("m", rng.integers(0, 2, (2, 7)).astype(np.int32))], 1, dict(num_heads=4))
    case("mha_past", "MultiHeadAttention", MS, [("q", q), ("k", q + 1), ("v", q - 1), ("b", None), ("m", None), ("a", f32(1, 4, 5, 8)), ("pk", f32(2, 4, 3, 4)),
                                                ("pv", f32(2, 4, 3, 4))], 3, dict(num_heads=4))
    case("mha_cross", "MultiHeadAttention", MS, [("q", q), ("k", f32(2, 4, 7, 4)), ("v", f32(2, 4, 7, 4))], 1, dict(num_heads=4))
    kv, qkv = f32(2, 7, 4, 2, 4), f32(2, 5, 4, 3, 4)
    case("mha_packed_kv", "MultiHeadAttention", MS, [("q", q), ("k", kv)], 1, dict(num_heads=4),
         want=[heads_attended(q.reshape(2, 5, 4, 4), kv[:, :, :, 0], kv[:, :, :, 1])])
    case("mha_packed_qkv", "MultiHeadAttention", MS, [("q", qkv)], 1, dict(num_heads=4), want=[heads_attended(*np.moveaxis(qkv, 3, 0))])
    cos, sin = np.cos(f32(16, 8)).astype(np.float32), np.sin(f32(16, 8)).astype(np.float32)
    for name, s, p, lens, total, extra in (("prompt", 4, 0, [3, 3], 4, {}), ("decode", 1, 5, [5, 5], 6, {}), ("window", 1, 7, [7, 7], 8, dict(local_window_size=3)),
                                           ("shared", 1, 12, [5, 7], 8, {}), ("softcap", 4, 0, [3, 3], 4, dict(softcap=2.0))):
        for rope in (0, 1):
            past = f32(2, 2, p, 16)
            case(f"gqa_{name}{'_rotary' if rope else ''}", "GroupQueryAttention", MS, [("q", f32(2, s, 64)), ("k", f32(2, s, 32)), ("v", f32(2, s, 32)), ("pk", past),
                 ("pv", past + 1), ("n", np.array(lens, np.int32)), ("t", np.array(total, np.int32))] + ([("cos", cos), ("sin", sin)] if rope else []),
                 3 if name != "shared" else ["y0", "free1", "free2"],  # behind the sequence a cache holds anything
                 dict(num_heads=4, kv_num_heads=2, do_rotary=rope, **extra), ["t", "cos", "sin"], lead=2)
    case("gqa_packed", "GroupQueryAttention", MS, [("q", f32(2, 4, 128)), ("k", None), ("v", None), ("pk", f32(2, 2, 0, 16)), ("pv", f32(2, 2, 0, 16)),
         ("n", np.array([3, 3], np.int32)), ("t", np.array(4, np.int32)), ("cos", cos), ("sin", sin)], 3, dict(num_heads=4, kv_num_heads=2, do_rotary=1), ["t", "cos", "sin"], lead=2)
    ids = rng.integers(0, 10, (2, 4)).astype(np.int32)
    emb = [("ids", ids), ("segs", ids % 2), ("w", f32(10, 8)), ("p", f32(6, 8)), ("s", f32(2, 8)), ("g", f32(8)), ("b", f32(8))]
    case("embed", "EmbedLayerNormalization", MS, emb + [("m", np.array([[1, 1, 0, 0], [1, 1, 1, 1]], np.int32))], 2, const="wpsgb")
    case("embed_sum", "EmbedLayerNormalization", MS, [emb[0], ("segs", None)] + emb[2:4] + [("s", None)] + emb[5:], 3, const="wpgb")
    case("trilu", "Trilu", MS, [("x", f32(2, 4, 5)), ("k", np.array(1, np.int64))], 1, dict(upper=0), "k")
    case("inverse", "Inverse", MS, [("x", f32(3, 5, 5) + 3 * np.eye(5, dtype=np.float32))], 1, fixed="x")
    case("inverse_symbolic", "Inverse", MS, [("x", f32(2, 2, 4, 4) + 3 * np.eye(4, dtype=np.float32)[::-1])], 1, fixed="x")
    case("ngram", "NGramRepeatBlock", MS, [("ids", np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]], np.int64)), ("s", f32(2, 6))], 1, dict(ngram_size=3))
    x, skip = f32(2, 3, 8), f32(2, 3, 8)
    case("skip_layer_norm", "SkipLayerNormalization", MS, [("x", x), ("s", skip), ("g", f32(8)), ("b", f32(8)), ("c", f32(8))], ["y", "", "", "sum"], const="gbc")
    case("skip_rms_norm", "SkipSimplifiedLayerNormalization", MS, [("x", x), ("s", skip), ("g", f32(8))], ["y", "", "", "sum"], const="g")
    for op in ("Gelu", "QuickGelu", "FastGelu"):
        case(op.lower(), op, MS, [("x", f32(3, 8))], 1)
    case("bias_gelu", "BiasGelu", MS, [("x", f32(3, 8)), ("b", f32(8))], 1, const="b")
    case("fused_matmul", "FusedMatMul", MS, [("a", f32(2, 4, 3)), ("b", f32(2, 5, 4))], 1, dict(transA=1, transB=1, alpha=0.5))


# ---- com.microsoft: further types, optional operands and attributes ----
def half(a):
    return a.astype(np.float16)


def norm_cases():
    x, skip, g, b, c = f32(2, 3, 8), f32(2, 3, 8), f32(8), f32(8), f32(8)
    for name, to, tol in (("", lambda a: a, 1e-4), ("_f16", half, 2e-2)):
        def inputs(**named):
            return [(n, None if a is None else to(a)) for n, a in named.items()]
        case("skip_norm_plain" + name, "SkipLayerNormalization", MS, inputs(x=x, s=skip, g=g), 1, dict(epsilon=1e-3), "g", atol=tol, rtol=tol)
        case("skip_norm_beta" + name, "SkipLayerNormalization", MS, inputs(x=x, s=skip, g=g, b=b), 1, const="gb", atol=tol, rtol=tol)
        case("skip_norm_bias" + name, "SkipLayerNormalization", MS, inputs(x=x, s=skip, g=g, b=None, c=c), ["y", "", "", "sum"], const="gc", atol=tol, rtol=tol)
        case("skip_norm_row" + name, "SkipLayerNormalization", MS, inputs(x=x, s=skip[:1], g=g, b=b), 1, const="gb", fixed="s", atol=tol, rtol=tol)
        case("skip_norm_flat" + name, "SkipLayerNormalization", MS, inputs(x=x, s=skip[0], g=g, b=b), 1, const="gb", fixed="s", atol=tol, rtol=tol)
        case("skip_rms_bias" + name, "SkipSimplifiedLayerNormalization", MS, inputs(x=x, s=skip, g=g, c=c), ["y", "", "", "sum"], const="gc", atol=tol, rtol=tol)
        case("rms_norm" + name, "SimplifiedLayerNormalization", "", inputs(x=x, g=g), 1, dict(epsilon=1e-4), "g", atol=tol, rtol=tol)
        case("rms_norm_axis" + name, "SimplifiedLayerNormalization", "", inputs(x=x, g=f32(3, 8)), 1, dict(axis=1), "g", atol=tol, rtol=tol)
        for op in ("Gelu", "QuickGelu", "FastGelu"):
            case(f"{op.lower()}_more{name}", op, MS, inputs(x=f32(4, 3, 8) * 3), 1, dict(alpha=1.5) if op == "QuickGelu" else {}, atol=tol, rtol=tol)
        case("fast_gelu_bias" + name, "FastGelu", MS, inputs(x=f32(3, 8), b=b), 1, const="b", atol=tol, rtol=tol)
        case("bias_gelu" + name + "_more", "BiasGelu", MS, inputs(x=f32(2, 3, 8), b=b), 1, const="b", atol=tol, rtol=tol)
    emb = [("ids", rng.integers(0, 10, (2, 4)).astype(np.int32)), ("segs", None), ("w", f32(10, 8)), ("p", f32(6, 8)), ("s", None), ("g", g), ("b", b)]
    case("embed_positions", "EmbedLayerNormalization", MS, emb + [("m", None), ("pid", np.array([[3, 2, 1, 0], [0, 0, 5, 5]], np.int32))], 2, const="wpgb")
    case("embed_type", "EmbedLayerNormalization", MS, emb + [("m", np.array([[1, 1, 0, 0], [1, 1, 1, 1]], np.int32))], 2,
         dict(mask_index_type=1, epsilon=1e-4), const="wpgb")


def rotary_cases():
    cos, sin = np.cos(f32(16, 4)), np.sin(f32(16, 4))
    x3, x4 = f32(2, 5, 24), f32(2, 3, 5, 8)
    starts, ids = np.array([3], np.int64), rng.integers(0, 16, (2, 5))
    for form, p in (("start", starts), ("ids", ids)):
        for inter in (0, 1):
            case(f"rope3_{form}_{inter}", "RotaryEmbedding", MS, [("x", x3), ("p", p), ("cos", cos), ("sin", sin)], 1, dict(interleaved=inter), ["cos", "sin"], fixed="xp")
            case(f"rope4_{form}_{inter}", "RotaryEmbedding", MS, [("x", x4), ("p", p), ("cos", cos), ("sin", sin)], 1, dict(interleaved=inter), ["cos", "sin"], fixed="xp")
            case(f"rope_part_{form}_{inter}", "RotaryEmbedding", MS, [("x", x4), ("p", p), ("cos", cos[:, :2]), ("sin", sin[:, :2])], 1,
                 dict(interleaved=inter, num_heads=3, rotary_embedding_dim=4), ["cos", "sin"], fixed="xp")
    case("rope_f16", "RotaryEmbedding", MS, [("x", half(x3)), ("p", ids), ("cos", half(cos)), ("sin", half(sin))], 1, {}, ["cos", "sin"], fixed="xp", rtol=5e-3, atol=5e-3)


def fused_cases():
    x, w, b, z = f32(1, 4, 7, 7), f32(6, 4, 3, 3, scale=0.3), f32(6), f32(1, 6, 7, 7)
    for act, params in (("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.3, 0.4])):
        case(f"fused_conv_{act.lower()}", "FusedConv", MS, [("x", x), ("w", w), ("b", b)], 1,
             dict(activation=act, pads=[1, 1, 1, 1], **({"activation_params": params} if params else {})), "wb")
    case("fused_conv_sum", "FusedConv", MS, [("x", x), ("w", w), ("b", b), ("z", z)], 1, dict(activation="Relu", pads=[1, 1, 1, 1]), "wb", fixed="xz")
    case("fused_conv_group", "FusedConv", MS, [("x", x), ("w", f32(6, 2, 3, 3))], 1, dict(activation="Relu", group=2, strides=[2, 2], dilations=[2, 1]), "w")
    a, m, c = f32(3, 5), f32(5, 4), f32(4)
    for act, extra in (("Relu", {}), ("LeakyRelu", dict(activation_alpha=0.1)), ("Sigmoid", {}), ("Tanh", {}), ("HardSigmoid", dict(activation_alpha=0.3, activation_beta=0.4)), ("Softplus", {}),
                       ("Softsign", {}), ("Elu", dict(activation_alpha=0.5))):
        case(f"fused_gemm_{act.lower()}", "FusedGemm", MS, [("a", a), ("m", m), ("c", c)], 1, dict(activation=act, alpha=0.7, beta=0.5, **extra), "mc")
    case("fused_gemm_trans", "FusedGemm", MS, [("a", a.T.copy()), ("m", m.T.copy())], 1, dict(activation="Relu", transA=1, transB=1), "m")
    for ta in (0, 1):
        for tb in (0, 1):
            p, q = f32(2, 3, 4, 5), f32(2, 3, 5, 6)
            p, q = (p.swapaxes(2, 3) if ta else p).copy(), (q.swapaxes(2, 3) if tb else q).copy()
            case(f"fused_matmul_{ta}{tb}", "FusedMatMul", MS, [("a", p), ("b", q)], 1, dict(transA=ta, transB=tb, alpha=1.5))
            pb, qb = f32(4, 2, 3, 5), f32(5, 2, 3, 6)  # the row axis stands first
            case(f"fused_matmul_batch_{ta}{tb}", "FusedMatMul", MS, [("a", (np.swapaxes(pb, 0, 3) if ta else pb).copy()), ("b", (np.swapaxes(qb, 0, 3) if tb else qb).copy())], 1,
                 dict(transA=ta, transB=tb, transBatchA=1, transBatchB=1))


def signed_cases():
    for t, name in ((np.uint8, "u8"), (np.int8, "i8")):
        data, low = (u8, 100) if t is np.uint8 else (i8, -7)
        sa, sb, sc, za, zb, zc = scalar(0.02), scalar(0.03), scalar(0.05), scalar(low, t), scalar(low + 3, t), scalar(low + 9, t)
        for op in ("Add", "Mul"):
            case(f"qlinear_{op.lower()}_{name}", f"QLinear{op}", MS, [("A", data(2, 1, 8)), ("sa", sa), ("za", za), ("B", data(4, 1)), ("sb", sb), ("zb", zb), ("sc", sc), ("zc", zc)],
                 1, const=["sa", "za", "sb", "zb", "sc", "zc"])
        u = [("X", data(2, 6, 8, 8)), ("sx", sa), ("zx", za), ("sy", scalar(1 / 128)), ("zy", zc)]
        c4 = ["sx", "zx", "sy", "zy"]
        case(f"qlinear_sigmoid_{name}", "QLinearSigmoid", MS, u, 1, const=c4)
        case(f"qlinear_leaky_{name}", "QLinearLeakyRelu", MS, u, 1, const=c4)
        case(f"qlinear_softmax_{name}", "QLinearSoftmax", MS, u, 1, dict(axis=1, opset=13), const=c4)
        for last in (0, 1):
            case(f"qlinear_pool_{name}_{last}", "QLinearAveragePool", MS, u, 1, dict(kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 1, 1], count_include_pad=1, channels_last=last), const=c4)
            case(f"qlinear_pool_ceil_{name}_{last}", "QLinearAveragePool", MS, u, 1, dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, channels_last=last), const=c4)
            case(f"qlinear_global_{name}_{last}", "QLinearGlobalAveragePool", MS, u, 1, dict(channels_last=last), const=c4)
        case(f"qlinear_concat_{name}", "QLinearConcat", MS, [("sy", sc), ("zy", zc), ("a", data(2, 3, 4)), ("sa", sa), ("za", za), ("b", data(2, 5, 4)), ("sb", sb), ("zb", zb),
             ("c", data(2, 1, 4)), ("sd", sc), ("zd", zc)], 1, dict(axis=-2), const=["sy", "zy", "sa", "za", "sb", "zb", "sd", "zd"])
        case(f"qlinear_where_{name}", "QLinearWhere", MS, [("c", rng.random((3, 1)) > 0.5), ("x", data(3, 4)), ("sa", sa), ("za", za), ("y", data(4)), ("sb", sb), ("zb", zb), ("sc", sc), ("zc", zc)],
             1, const=["sa", "za", "sb", "zb", "sc", "zc"])
        for wname, wdata, wt in (("u8", u8, np.uint8), ("i8", i8, np.int8)):
            if name == "i8" and wname == "u8":
                continue  # not computed by onnxruntime
            w = wdata(16, 6)
            case(f"matmul_integer_float_{name}{wname}", "MatMulIntegerToFloat", MS, [("A", data(2, 3, 16)), ("B", w), ("sa", scalar(0.1)), ("sb", scalar(0.2)), ("za", za), ("zb", scalar(3, wt))], 1,
                 const=["B", "sa", "sb", "za", "zb"])
            case(f"matmul_integer_float_plain_{name}{wname}", "MatMulIntegerToFloat", MS, [("A", data(3, 16)), ("B", w), ("sa", scalar(0.1)), ("sb", np.abs(f32(6))), ("za", None), ("zb", None), ("C", f32(6))], 1,
                 const=["B", "sa", "sb", "C"])
            case(f"qgemm_{name}{wname}", "QGemm", MS, [("A", data(16, 5)), ("sa", sa), ("za", za), ("B", w), ("sb", scalar(0.1)), ("zb", scalar(2, wt)), ("C", None), ("sy", scalar(0.3)), ("zy", zc)], 1,
                 dict(transA=1), const=["sa", "za", "B", "sb", "zb", "sy", "zy"])
    for t in (np.int8, np.uint8, np.int16, np.uint16):
        info = np.iinfo(t)
        data = rng.integers(info.min, info.max + 1, (3, 4)).astype(t)
        case(f"ms_quantize_{t.__name__}", "QuantizeLinear", MS, [("x", f32(3, 4, scale=3)), ("s", scalar(0.02)), ("z", scalar(5, t))], 1, const="sz")
        case(f"ms_dequantize_{t.__name__}", "DequantizeLinear", MS, [("x", data), ("s", np.abs(f32(4))), ("z", None)], 1, dict(axis=-1), const="s")
    case("ms_quantize_f16", "QuantizeLinear", MS, [("x", half(f32(3, 4))), ("s", np.float16(0.05).reshape(())), ("z", scalar(7, np.int8))], 1, const="sz")
    case("ms_dequantize_i32", "DequantizeLinear", MS, [("x", rng.integers(-99, 99, (3, 4)).astype(np.int32)), ("s", scalar(0.5)), ("z", None)], 1, const="s")
    case("dynamic_matmul_plain", "DynamicQuantizeMatMul", MS, [("A", f32(2, 3, 16)), ("B", u8(16, 6)), ("s", scalar(0.1))], 1, const=["B", "s"], atol=1e-2)
    case("dynamic_matmul_columns", "DynamicQuantizeMatMul", MS, [("A", f32(3, 16)), ("B", i8(16, 6)), ("s", np.abs(f32(6))), ("z", i8(6)), ("C", f32(6))], 1, const=["B", "s", "z", "C"], atol=1e-2)
    b, s = u8(8, 2, 16), np.abs(f32(8, 2))
    case("nbits_f16", "MatMulNBits", MS, [("A", half(f32(3, 64))), ("B", b), ("S", half(s))], 1, dict(K=64, N=8, bits=4, block_size=32), "BS", rtol=2e-2, atol=0.3)
    case("nbits_block128", "MatMulNBits", MS, [("A", f32(2, 200)), ("B", u8(8, 2, 64)), ("S", s)], 1, dict(K=200, N=8, bits=4, block_size=128), "BS", atol=5e-3)
    case("nbits2", "MatMulNBits", MS, [("A", f32(3, 64)), ("B", u8(8, 2, 8)), ("S", s)], 1, dict(K=64, N=8, bits=2, block_size=32), "BS", atol=5e-3)


def more_attention_cases():
    q, k, v = f32(2, 5, 16), f32(2, 5, 16), f32(2, 5, 16)
    base = [("q", q), ("k", k), ("v", v)]
    case("mha_causal", "MultiHeadAttention", MS, base, 1, dict(num_heads=4, unidirectional=1, scale=0.4))
    case("mha_lengths", "MultiHeadAttention", MS, base + [("b", None), ("m", np.array([5, 2], np.int32))], 1, dict(num_heads=4), fixed="m")
    case("mha_mask3", "MultiHeadAttention", MS, base + [("b", f32(48)), ("m", np.tril(np.ones((2, 5, 5), np.int32)))], 1, dict(num_heads=4, mask_filter_value=-1000.0), "b")
    case("mha_bias_rows", "MultiHeadAttention", MS, base + [("b", None), ("m", None), ("a", f32(1, 1, 5, 5))], 1, dict(num_heads=4), fixed="a")
    case("mha_sizes", "MultiHeadAttention", MS, [("q", q), ("k", k), ("v", f32(2, 5, 32))], 1, dict(num_heads=4))
    x, w, b = f32(2, 5, 16), f32(16, 48, scale=0.3), f32(48)
    case("attention_no_bias", "Attention", MS, [("x", x), ("w", w)], 1, dict(num_heads=4), "w")
    case("attention_filter", "Attention", MS, [("x", x), ("w", w), ("b", b), ("m", np.array([[1, 0, 1, 0, 1], [1, 1, 1, 1, 0]], np.int32))], 1, dict(num_heads=4, mask_filter_value=-5.0), "wb")
    case("attention_past_mask", "Attention", MS, [("x", x), ("w", w), ("b", b), ("m", rng.integers(0, 2, (2, 8)).astype(np.int32)), ("p", f32(2, 2, 4, 3, 4))], 2, dict(num_heads=4), "wb")
    case("attention_f16", "Attention", MS, [("x", half(x)), ("w", half(w)), ("b", half(b))], 1, dict(num_heads=4), "wb", rtol=2e-2, atol=2e-2)
    n, t = np.array([3, 3], np.int32), np.array(4, np.int32)
    past = f32(2, 2, 0, 16)
    gqa = [("q", f32(2, 4, 64)), ("k", f32(2, 4, 32)), ("v", f32(2, 4, 32)), ("pk", past), ("pv", past), ("n", n), ("t", t)]
    cos, sin = np.cos(f32(16, 8)), np.sin(f32(16, 8))
    case("gqa_smooth", "GroupQueryAttention", MS, gqa, 3, dict(num_heads=4, kv_num_heads=2, smooth_softmax=1), ["t"], lead=2)
    case("gqa_scale", "GroupQueryAttention", MS, gqa, 3, dict(num_heads=4, kv_num_heads=2, scale=0.7), ["t"], lead=2)
    case("gqa_interleaved", "GroupQueryAttention", MS, gqa + [("cos", cos), ("sin", sin)], 3, dict(num_heads=4, kv_num_heads=2, do_rotary=1, rotary_interleaved=1), ["t", "cos", "sin"], lead=2)
    case("gqa_bias", "GroupQueryAttention", MS, gqa + [("cos", None), ("sin", None), ("pos", None), ("a", f32(2, 4, 4, 4))], 3, dict(num_heads=4, kv_num_heads=2), ["t"], lead=2, fixed="a")
    case("gqa_sink", "GroupQueryAttention", MS, gqa + [("cos", None), ("sin", None), ("pos", None), ("a", None), ("h", f32(4))], 3, dict(num_heads=4, kv_num_heads=2), ["t", "h"], lead=2)
    case("gqa_positions", "GroupQueryAttention", MS, gqa + [("cos", cos), ("sin", sin), ("pos", np.array([[0, 1, 2, 3], [0, 1, 2, 3]]))], 3, dict(num_heads=4, kv_num_heads=2, do_rotary=1), ["t", "cos", "sin"], lead=2)
    case("gqa_f16", "GroupQueryAttention", MS, [(m, half(a) if a.dtype == np.float32 else a) for m, a in gqa], 3, dict(num_heads=4, kv_num_heads=2), ["t"], lead=2, rtol=2e-2, atol=2e-2)
    late = [("q", f32(2, 1, 64)), ("k", f32(2, 1, 32)), ("v", f32(2, 1, 32)), ("pk", f32(2, 2, 5, 16)), ("pv", f32(2, 2, 5, 16)), ("n", np.array([5, 5], np.int32)),
            ("t", np.array(6, np.int32))]
    case("gqa_sink_decode", "GroupQueryAttention", MS, late + [("cos", None), ("sin", None), ("pos", None), ("a", None), ("h", f32(4))], 3,
         dict(num_heads=4, kv_num_heads=2, local_window_size=4), ["t", "h"], lead=2)
    case("gqa_positions_decode", "GroupQueryAttention", MS, late + [("cos", cos), ("sin", sin), ("pos", np.array([[5], [7]]))], 3,
         dict(num_heads=4, kv_num_heads=2, do_rotary=1), ["t", "cos", "sin"], lead=2)
    case("trilu_i64", "Trilu", MS, [("x", rng.integers(-9, 9, (2, 4, 5)))], 1)
    case("trilu_negative", "Trilu", MS, [("x", f32(4, 5)), ("k", np.array(-2, np.int64))], 1, dict(upper=1), "k")
    case("inverse_f64", "Inverse", MS, [("x", f32(2, 3, 3).astype(np.float64) + 3 * np.eye(3))], 1, fixed="x")
    case("ngram_two", "NGramRepeatBlock", MS, [("ids", rng.integers(0, 3, (4, 9))), ("s", f32(4, 3))], 1, dict(ngram_size=2))


# ---- com.microsoft: caches ----
GQA = dict(num_heads=4, kv_num_heads=2)
GQA_NAMES = "q k v pk pv n t cos sin pos a h ks vs qn kn qs".split()


def gqa_inputs(b, s, past, room=None, total=None, lens=None, **more):
    """New tokens s behind `past` ones in a cache of `room`; lens: tokens of each entry after the step."""
    room = past if room is None else room
    given = dict(q=f32(b, s, 64), k=f32(b, s, 32), v=f32(b, s, 32), pk=f32(b, 2, room, 16), pv=f32(b, 2, room, 16),
                 n=np.array(lens or [past + s] * b, np.int32) - 1, t=np.array(total or past + s, np.int32))
    given.update(more)
    return [(n, given.get(n)) for n in GQA_NAMES]


def rows_below(lens, room):
    """Of a cache [B,K,room,D], or of scores, what lies below the length of each entry."""
    return (np.arange(room) < np.array(lens)[:, None])[:, None, :, None]


def rms(x, heads, w, eps):
    x = x.reshape(*x.shape[:2], heads, 16).astype(np.float64)
    return (x / np.sqrt((x ** 2).mean(-1, keepdims=True) + eps) * w).reshape(*x.shape[:2], -1).astype(np.float32)


def group_cases():
    gqa = lambda name, inputs, outputs=3, attrs={}, const=("t",), **more: case(
        "gqa2_" + name, "GroupQueryAttention", MS, inputs, outputs, {**GQA, **attrs}, [c for c in const if dict(inputs).get(c) is not None], lead=2, **more)
    cos, sin = np.cos(f32(16, 8)), np.sin(f32(16, 8))
    rope, consts = dict(cos=cos, sin=sin), ["t", "cos", "sin"]
    gqa("growing", gqa_inputs(1, 3, 4))
    gqa("total", gqa_inputs(2, 1, 5, **rope), 3, dict(do_rotary=1), ["cos", "sin"])  # the total length is known to the run only
    gqa("total_buffer", gqa_inputs(2, 1, 5, 12, **rope), 3, dict(do_rotary=1), ["cos", "sin"], cut=dict(y1=rows_below([6, 6], 12), y2=rows_below([6, 6], 12)))
    gqa("no_past", gqa_inputs(2, 4, 0, pk=None, pv=None, **rope), 3, dict(do_rotary=1), consts)
    gqa("part_rotary", gqa_inputs(2, 1, 5, cos=np.zeros((16, 8), np.float32) + cos[:, :1], sin=np.zeros((16, 8), np.float32) + sin[:, :1]), 3, dict(do_rotary=1), consts)
    gqa("both", gqa_inputs(1, 3, 4, h=f32(4), **rope), 3, dict(do_rotary=1, softcap=3.0, local_window_size=4, scale=0.3), consts + ["h"])
    gqa("buffer_bias", gqa_inputs(1, 4, 3, 10, a=f32(1, 1, 4, 7)), cut=dict(y1=rows_below([7], 10), y2=rows_below([7], 10)), fixed="a")
    gqa("buffer_bias_batch", gqa_inputs(2, 1, 3, 10, a=f32(2, 4, 1, 4)), cut=dict(y1=rows_below([4, 4], 10), y2=rows_below([4, 4], 10)), fixed="a")
    gqa("all_ways", gqa_inputs(1, 4, 3), 3, dict(causal=0))
    gqa("all_ways_prompt", gqa_inputs(2, 4, 0, lens=[4, 2]), 3, dict(causal=0))
    gqa("reader", gqa_inputs(1, 2, 5, total=5, lens=[5], k=np.zeros((1, 0, 32), np.float32), v=np.zeros((1, 0, 32), np.float32)), fixed="kv")
    for mode in (1, 2):
        for name, attrs in (("", {}), ("_cap", dict(softcap=2.0)), ("_window", dict(local_window_size=3))):
            cut = np.tri(4, 7, 3, dtype=bool) if mode == 1 else None
            gqa(f"scores{mode}{name}", gqa_inputs(1, 4, 3, 9, a=f32(1, 1, 4, 7)), ["y0", "free1", "free2", "qk"], dict(qk_output=mode, **attrs), fixed="a", cut=dict(qk=cut))
    x = dict(gqa_inputs(2, 1, 5))
    wq, wk = np.abs(f32(16)), np.abs(f32(16))
    q, k = rms(x["q"], 4, wq, 1e-5), rms(x["k"], 2, wk, 1e-3)
    heads = lambda a: a.reshape(2, 1, -1, 16).transpose(0, 2, 1, 3)
    pk, pv = np.concatenate([x["pk"], heads(k)], 2), np.concatenate([x["pv"], heads(x["v"])], 2)
    y = heads_attended(q.reshape(2, 1, 4, 16), *(a.transpose(0, 2, 1, 3).repeat(2, 2) for a in (pk, pv)))
    gqa("norms", [(n, {"qn": wq, "kn": wk}.get(n, x[n])) for n in GQA_NAMES], 3, dict(qk_norm_epsilon=1e-5, k_norm_epsilon=1e-3), ["t", "qn", "kn"], want=[y, pk, pv])
    for bits, t, lo, hi in ((8, np.int8, -128, 128), (4, np.uint8, 0, 256)):
        for how, shape in (("PER_TENSOR", [1]), ("PER_CHANNEL", [1, 2, 1, 16])):
            s = (np.abs(f32(*shape)) + 0.5) * (0.02 if bits == 8 else 0.3)
            attrs = dict(k_quant_type=how, v_quant_type=how, kv_cache_bit_width=bits, do_rotary=1)
            stored = lambda room: rng.integers(lo, hi, (2, 2, room, 16 * bits // 8)).astype(t)
            name = f"{bits}bits_{how[4:].lower()}"
            scales = dict(ks=s.astype(np.float32), vs=(s * 1.5).astype(np.float32), **rope)
            gqa(name, gqa_inputs(2, 1, 3, pk=stored(3), pv=stored(3), **scales), 3, attrs, consts + ["ks", "vs"])
            gqa(name + "_prompt", gqa_inputs(2, 4, 0, pk=stored(0), pv=stored(0), **scales), 3, attrs, consts + ["ks", "vs"])
            gqa(name + "_buffer", gqa_inputs(2, 1, 3, pk=stored(8), pv=stored(8), **scales), 3, attrs, consts + ["ks", "vs"],
                cut=dict(y1=rows_below([4, 4], 8), y2=rows_below([4, 4], 8)))


def window_cases():
    cos, sin = np.cos(f32(32, 8)), np.sin(f32(32, 8))
    rope = dict(cos=cos, sin=sin)

    def kept(length, room, window):
        step = room - window + 1
        return length if length <= room else length - step * -(-(length - room) // step)

    def gqa(name, b, s, room, lens, chunk=None, window=None, attrs={}, total=None, **more):
        live = [kept(n, room, window) for n in lens] if window else lens
        used = np.arange(s) < np.array(chunk or [s] * b)[:, None]
        inputs = gqa_inputs(b, s, 0, room, total or max(lens), lens, qs=None if chunk is None else np.array(chunk, np.int32), **rope, **more)
        case("gqa3_" + name, "GroupQueryAttention", MS, inputs, 3, {**GQA, "do_rotary": 1, **(dict(sliding_window_cache=1, local_window_size=window) if window else {}), **attrs},
             ["t", "cos", "sin"], lead=2, fixed="a", cut=dict(y0=used[:, :, None], y1=rows_below(live, room), y2=rows_below(live, room)))

    gqa("chunk", 2, 4, 12, [7, 5], [4, 2], total=12)
    gqa("chunk_first", 2, 4, 8, [4, 2], [4, 2], total=8)
    gqa("chunk_idle", 2, 1, 8, [6, 3], [1, 0], total=8)
    gqa("chunk_local", 1, 4, 12, [7], [3], attrs=dict(local_window_size=3), total=12)
    for room in (4, 7):
        gqa(f"window{room}_prompt", 2, 6, room, [6, 6], window=4)
        gqa(f"window{room}_short", 2, 3, room, [3, 3], window=4)
        gqa(f"window{room}_decode", 2, 1, room, [9, 9], window=4)
        gqa(f"window{room}_next", 1, 3, room, [11], window=4)
        gqa(f"window{room}_ragged", 2, 1, room, [12, 3], window=4)
        gqa(f"window{room}_chunk", 2, 5, room, [12, 8], [5, 3], window=4, total=12)
        gqa(f"window{room}_bias", 2, 1, room, [9, 9], window=4, a=f32(1, 4, 1, 9))


def cache_cases():
    q, k, v, pk, pv = f32(2, 1, 16), f32(2, 1, 16), f32(2, 1, 16), f32(2, 4, 8, 4), f32(2, 4, 8, 4)
    q5, k5, v5, kc, vc = f32(2, 5, 16), f32(2, 5, 16), f32(2, 5, 16), f32(2, 4, 6, 4), f32(2, 4, 6, 4)
    at, keys, short = np.array([3], np.int32), np.array([[1, 1, 1, 1], [0, 1, 1, 1]], np.int32), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    beams = rng.integers(0, 2, (1, 2, 8)).astype(np.int32)

    def mha(name, values, outputs=("y", "pk2", "pv2"), attrs={}, const=(), **more):
        case("mha2_" + name, "MultiHeadAttention", MS, list(zip("q k v b m a pk pv pl ci".split(), values)), list(outputs), dict(num_heads=4, **attrs), const, **more)

    def decoder(name, values, outputs=("y", "pk2", "pv2"), share=1, attrs={}, const=(), **more):
        case("decoder_" + name, "DecoderMaskedMultiHeadAttention", MS, list(zip("q k v m a pk pv pl bw ci b".split(), values)), list(outputs),
             dict(num_heads=4, past_present_share_buffer=share, **attrs), const, **more)
    mha("buffer", [q, k, v, None, None, None, pk, pv, at])
    mha("buffer_prompt", [q5, k5, v5, None, None, None, pk, pv, np.array([0], np.int32)])
    mha("buffer_causal", [q5, k5, v5, f32(48), None, None, pk, pv, np.array([2], np.int32)], attrs=dict(unidirectional=1), const="b")
    mha("buffer_mask", [q, k, v, None, keys, None, pk, pv, at])
    mha("buffer_bias", [q, k, v, None, None, f32(1, 4, 1, 4), pk, pv, at], fixed="a")
    mha("buffer_scores", [q, k, v, None, keys, None, pk, pv, at], ["y", "pk2", "pv2", "qk"])
    mha("scores", [q5, k5, v5, None, short], ["y", "", "", "qk"])
    mha("scores_causal", [q5, k5, v5], ["y", "", "", "qk"], dict(unidirectional=1), cut=dict(qk=np.tri(5, dtype=bool)))
    mha("present", [q5, k5, v5])
    mha("packed_lengths", [q5, k5, v5, None, np.array([3, 5, 0, 5, 10, 0, 5, 10], np.int32)], "y", fixed="qm")
    mha("cross_bias", [q, kc, vc, f32(48)], "y", const="b")
    decoder("buffer", [q, k, v, None, None, pk, pv, at])
    decoder("bias", [q, k, v, None, None, pk, pv, at, None, None, f32(48)], const="b")
    decoder("mask", [q, k, v, keys, f32(1, 4, 1, 4), pk, pv, at], fixed="a")
    decoder("beams", [q, k, v, None, None, pk, pv, at, np.array([2], np.int32), beams])
    decoder("cross", [q, kc, vc], "y", 0)
    decoder("cross_scores", [q, kc, vc], ["y", "", "", "qk"], 0, dict(output_qk=1))
    heads = lambda a: a.reshape(2, 1, 4, 4).transpose(0, 2, 1, 3)
    grown = [np.concatenate([p[:, :, :3], heads(n)], 2) for p, n in ((pk, k), (pv, v))]
    y = heads_attended(q.reshape(2, 1, 4, 4), *(a.transpose(0, 2, 1, 3) for a in grown))
    packed = np.concatenate([q, k, v], 2)
    decoder("packed", [packed, None, None, None, None, pk[:, :, :3].copy(), pv[:, :, :3].copy()], share=0, want=[y] + grown)
    x, w, b, past = f32(2, 5, 16), f32(16, 48, scale=0.3), f32(48), f32(2, 2, 4, 8, 4)
    base = [("x", x), ("w", w), ("b", b)]
    mask = rng.integers(0, 2, (2, 1, 9, 9)).astype(np.int32)
    y = heads_attended(*(a.reshape(2, 5, 4, 4) for a in np.split(x @ w + b, 3, 2)), np.where(mask[:, :, :5, :5], 0, -10000))
    case("attention2_mask4", "Attention", MS, base + [("m", mask)], 1, dict(num_heads=4), "wb", fixed="m", want=[y])
    case("attention2_ranges", "Attention", MS, base + [("m", np.array([5, 3, 1, 0], np.int32))], 1, dict(num_heads=4), "wb", fixed="xm")
    case("attention2_packed_lengths", "Attention", MS, base + [("m", np.array([3, 5, 0, 5, 10, 0, 5, 10], np.int32))], 1, dict(num_heads=4), "wb", fixed="xm")
    x1 = x[:, :1].copy()
    q1, k1, v1 = np.split(x1 @ w + b, 3, 2)
    grown = [past[i].copy() for i in range(2)]
    grown[0][:, :, 3], grown[1][:, :, 3] = heads(k1)[:, :, 0], heads(v1)[:, :, 0]
    y = heads_attended(q1.reshape(2, 1, 4, 4), *(a[:, :, :4].transpose(0, 2, 1, 3) for a in grown))
    case("attention2_buffer", "Attention", MS, [("x", x1), ("w", w), ("b", b), ("m", None), ("p", past), ("a", None), ("pl", at)], 2, dict(num_heads=4, past_present_share_buffer=1),
         "wb", want=[y, np.stack(grown)])


def bits_cases():
    """MatMulNBits: constant weights, weights that the run gives, groups. QMoE: bits, zero points, blocks, router weights."""
    for bits in (2, 4, 8):
        for block, k in ((16, 64), (32, 96), (32, 40)):
            n, blocks = 40, -(-k // block)
            b, s = u8(n, blocks, block * bits // 8), np.abs(f32(n, blocks, scale=0.1))
            for form, z in (("", None), ("_zeros", u8(n, (blocks * bits + 7) // 8))):
                for m in (1, 20):
                    inputs = [("A", f32(m, k)), ("B", b), ("S", s), ("Z", z), ("G", None), ("C", f32(n))]
                    attrs = dict(K=k, N=n, bits=bits, block_size=block)
                    case(f"nbits{bits}_{block}_{k}_{m}{form}_const", "MatMulNBits", MS, inputs, 1, attrs, "BSZC", atol=5e-3)
                    if m == 1:
                        case(f"nbits{bits}_{block}_{k}{form}_input", "MatMulNBits", MS, inputs, 1, attrs, fixed="BSZC", atol=5e-3)
    b, s, zf = u8(24, 3, 16), np.abs(f32(24, 3, scale=0.1)), f32(24, 3, scale=8)
    attrs = dict(K=96, N=24, bits=4, block_size=32)
    case("nbits4_flat_operands", "MatMulNBits", MS, [("A", f32(3, 96)), ("B", b), ("S", s.ravel()), ("Z", u8(48))], 1, attrs, "BSZ", atol=5e-3)
    case("nbits4_float_zeros_bias", "MatMulNBits", MS, [("A", f32(3, 96)), ("B", b), ("S", s), ("Z", zf), ("G", None), ("C", f32(24))], 1, attrs, "BSZC", atol=5e-3)
    case("nbits4_f16_zeros", "MatMulNBits", MS, [("A", half(f32(3, 96))), ("B", b), ("S", half(s)), ("Z", u8(24, 2))], 1, attrs, "BSZ", rtol=2e-2, atol=0.1)
    order = np.repeat(np.arange(3), 32).astype(np.int32)
    order = rng.permutation(order)
    case("nbits4_groups", "MatMulNBits", MS, [("A", f32(3, 96)), ("B", b), ("S", s), ("Z", None), ("G", order)], 1, attrs, "BSG", atol=5e-3)
    a, z = f32(3, 96), u8(24, 2)  # ONNX Runtime 1.32 leaves zero points out where there are groups
    nibbles = lambda v: np.stack([v & 15, v >> 4], -1).reshape(24, -1)
    y = a @ ((nibbles(b) - nibbles(z)[:, order].astype(np.float32)) * s[:, order]).T
    case("nbits4_groups_zeros", "MatMulNBits", MS, [("A", a), ("B", b), ("S", s), ("Z", z), ("G", order)], 1, attrs, "BSZG", atol=5e-3, want=[y])
    case("nbits4_accuracy1", "MatMulNBits", MS, [("A", f32(3, 96)), ("B", b), ("S", s)], 1, dict(accuracy_level=1, **attrs), "BS", atol=5e-3)
    a, none = f32(2, 3, 96), np.zeros((24, 3, 0), np.uint8)
    case("nbits4_omitted", "MatMulNBits", MS, [("A", a), ("B", none), ("S", s), ("Z", None), ("G", None), ("C", s[:, 0].copy())], 1, attrs, "BSC",
         want=[np.broadcast_to(s[:, 0], (2, 3, 24)).copy()])
    for bits in (2, 4, 8):
        for name, two, zeros, block, weights, attrs in (("zeros", 0, 1, 0, 0, {}), ("zero_blocks", 0, 1, 16, 0, {}), ("weights", 0, 0, 0, 1, {}), ("norm", 0, 0, 0, 0, dict(normalize_routing_weights=1)),
                                                        ("swiglu", 1, 1, 16, 0, dict(activation_type="swiglu", swiglu_fusion=1, swiglu_limit=7.0, activation_alpha=1.702, activation_beta=1.0))):
            if bits == 8 and block:
                continue  # computed with activations of 8 bits by onnxruntime
            qmoe_case(f"qmoe{bits}_{name}", bits, two, zeros, block, weights, attrs)


def gather_cases():
    """GatherBlockQuantized: tables of bytes and of 4-bit types, indices from the end and out of range."""
    import ml_dtypes
    ids = np.array([[0, 5, -1], [3, 9, 2]])

    def gather(name, data, scales, zeros=None, index=ids, **attrs):
        case("gather_" + name, "GatherBlockQuantized", MS, [("x", data), ("i", index), ("s", scales), ("z", zeros)], 1, dict(block_size=16, **attrs),
             ["x", "s"] + ["z"] * (zeros is not None), atol=1e-4)
    for bits in (4, 8):
        data, s = u8(6, 64 * bits // 8), np.abs(f32(6, 4))
        gather(f"u8_{bits}", data, s, bits=bits)
        gather(f"u8_{bits}_zeros", data, s, u8(6, 4 * bits // 8), index=ids.astype(np.int32), bits=bits)
    gather("u8_f16", u8(6, 32), half(np.abs(f32(6, 4))))
    for t, low in ((ml_dtypes.int4, -8), (ml_dtypes.uint4, 0)):
        few = lambda *shape: rng.integers(low, low + 16, shape).astype(t)
        gather(np.dtype(t).name, few(6, 32), np.abs(f32(6, 2)), index=ids % 6)
        gather(np.dtype(t).name + "_zeros", few(6, 32), np.abs(f32(6, 2)), few(6, 2), index=ids % 6)
        gather(np.dtype(t).name + "_columns", few(32, 6), np.abs(f32(2, 6)), few(2, 6), index=ids % 6, gather_axis=1, quantize_axis=0)
        gather(np.dtype(t).name + "_three", few(3, 6, 32), np.abs(f32(3, 6, 2)), index=ids[0] % 6, gather_axis=1, quantize_axis=-1)


def quantized_forms():
    """Optional operands and attributes of the quantized operators."""
    w, b = i8(16, 48), f32(48)
    consts = ["w", "b", "sx", "sw", "zx", "zw"]

    def attention(name, mask=None, zx=np.uint8(128), zw=np.int8(0), past=None, scale=scalar(0.01), weight=w, outputs=1, **attrs):
        inputs = [("x", u8(2, 5, 16)), ("w", weight), ("b", b), ("sx", scalar(0.02)), ("sw", scale), ("m", mask), ("zx", None if zx is None else np.array(zx)),
                  ("zw", None if zw is None else np.array(zw)), ("p", past)]
        case("qattention2_" + name, "QAttention", MS, inputs, outputs, dict(num_heads=4, **attrs), [n for n in consts if dict(inputs)[n] is not None])
    attention("causal", unidirectional=1)
    attention("mask", np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32), mask_filter_value=-100.0)
    attention("past", past=f32(2, 2, 4, 3, 4), outputs=2, unidirectional=1)
    attention("columns", scale=np.abs(f32(48, scale=0.01)), zw=np.zeros(48, np.int8))
    attention("no_zeros", zx=None, zw=None)
    attention("u8", zw=np.uint8(120), weight=u8(16, 48))
    ids, names = rng.integers(0, 10, (2, 4)).astype(np.int32), ["word", "pos", "seg", "gamma", "beta"]
    tables = dict(zip(names, [u8(10, 8), u8(6, 8), u8(2, 8), u8(8), u8(8)]))
    for name, mask, without in (("no_segments", np.ones((2, 4), np.int32), "seg"), ("no_mask", None, ""), ("mask", np.array([[1, 1, 0, 0], [1, 1, 1, 0]], np.int32), "")):
        have = [None if n == without else tables[n] for n in names]
        inputs = [("ids", ids), ("segs", None if without else ids % 2)] + list(zip(names, have)) + [("mask", mask)]
        inputs += [("s" + n, None if t is None else scalar(0.01 * (i + 1))) for i, (n, t) in enumerate(zip(names, have))]
        inputs += [("z" + n, None if t is None else scalar(100 + i, np.uint8)) for i, (n, t) in enumerate(zip(names, have))]
        case("qembed2_" + name, "QEmbedLayerNormalization", MS, inputs, 2, dict(epsilon=1e-3), [n for n, a in inputs[2:] if a is not None and n != "mask"])
    u = [("X", u8(2, 6, 8, 8)), ("sx", scalar(0.03)), ("zx", scalar(110, np.uint8)), ("sy", scalar(1 / 64)), ("zy", scalar(10, np.uint8))]
    case("qlinear2_pool_lower", "QLinearAveragePool", MS, u, 1, dict(kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2]), [n for n, _ in u[1:]])
    for op, attrs in (("Sigmoid", {}), ("LeakyRelu", dict(alpha=0.3))):
        case("qlinear2_no_zeros_" + op, "QLinear" + op, MS, [u[0], u[1], ("zx", None), u[3], ("zy", None)], 1, attrs, ["sx", "sy"])
    for name, attrs in (("first", dict(axis=0, opset=13)), ("flat", dict(axis=2, opset=11)), ("default", dict(opset=13)), ("default_flat", dict(opset=11))):
        case("qlinear2_softmax_" + name, "QLinearSoftmax", MS, u, 1, attrs, [n for n, _ in u[1:]])
    gemm = [("A", i8(5, 16)), ("sa", scalar(0.02)), ("za", scalar(3, np.int8)), ("B", i8(7, 16)), ("sb", np.abs(f32(7, scale=0.05))), ("zb", i8(7)),
            ("C", rng.integers(-9999, 9999, (5, 7)).astype(np.int32)), ("sy", scalar(0.3)), ("zy", scalar(7, np.int8))]
    case("qgemm2_matrix", "QGemm", MS, gemm, 1, dict(transB=1), [n for n, _ in gemm[1:]])
    case("qgemm2_row", "QGemm", MS, gemm[:6] + [("C", rng.integers(-9999, 9999, (1, 7)).astype(np.int32))] + gemm[7:], 1, dict(transB=1, alpha=0.5), [n for n, _ in gemm[1:]])
    case("matmul_integer_float2_plain", "MatMulIntegerToFloat", MS, [("A", u8(2, 3, 16)), ("B", i8(16, 6)), ("sa", scalar(0.1)), ("sb", scalar(0.2))], 1, const=["B"])
    case("matmul_integer_float2_batches", "MatMulIntegerToFloat", MS, [("A", u8(2, 3, 16)), ("B", u8(2, 16, 6)), ("sa", scalar(0.1)), ("sb", scalar(0.2)), ("za", scalar(3, np.uint8)),
                                                                       ("zb", scalar(100, np.uint8))], 1, const=["B", "za", "zb"])
    case("dynamic_matmul2_batches", "DynamicQuantizeMatMul", MS, [("A", f32(2, 3, 16)), ("B", u8(2, 16, 6)), ("s", scalar(0.1)), ("z", scalar(100, np.uint8))], 1, const=["B", "s", "z"], atol=2e-2)
    case("ngram2_short", "NGramRepeatBlock", MS, [("ids", rng.integers(0, 5, (3, 2))), ("s", f32(3, 5))], 1, dict(ngram_size=4))
    case("ngram2_one", "NGramRepeatBlock", MS, [("ids", rng.integers(0, 5, (3, 6))), ("s", f32(3, 5))], 1, dict(ngram_size=1))
    x, w, b = f32(1, 4, 7, 7), f32(6, 4, 3, 3, scale=0.3), f32(6)
    case("fused2_conv_auto", "FusedConv", MS, [("x", x), ("w", w), ("b", b)], 1, dict(activation="Relu", auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[2, 2]), "wb")
    case("fused2_conv_sum", "FusedConv", MS, [("x", x), ("w", w), ("b", None), ("z", f32(1, 6, 5, 5))], 1, {}, "w", fixed="xz")
    case("fused2_conv_line", "FusedConv", MS, [("x", f32(1, 4, 9)), ("w", f32(6, 4, 3))], 1, dict(activation="Relu"), "w")
    case("fused2_conv_volume", "FusedConv", MS, [("x", f32(1, 2, 5, 5, 5)), ("w", f32(3, 2, 3, 3, 3))], 1, dict(activation="LeakyRelu", activation_params=[0.1]), "w")
    for act, attrs in (("ThresholdedRelu", dict(activation_alpha=0.2)), ("Selu", dict(activation_alpha=1.6, activation_gamma=1.05)), ("ScaledTanh", dict(activation_alpha=1.6, activation_beta=1.05))):
        case("fused2_gemm_" + act.lower(), "FusedGemm", MS, [("a", f32(3, 5)), ("m", f32(5, 4)), ("c", f32(1, 4))], 1, dict(activation=act, **attrs), "mc")
    case("fused2_matmul_vector", "FusedMatMul", MS, [("a", f32(4)), ("b", f32(4, 5))], 1, dict(alpha=0.5))
    case("fused2_matmul_broadcast", "FusedMatMul", MS, [("a", f32(3, 1, 4, 5)), ("b", f32(2, 6, 5))], 1, dict(transB=1))
    lstm = [("X", f32(7, 2, 9)), ("W", i8(1, 9, 24)), ("R", i8(1, 6, 24)), ("B", f32(1, 48)), ("L", None), ("h", f32(1, 2, 6)), ("c", f32(1, 2, 6)),
            ("P", None), ("sw", np.abs(f32(1, 24)) * 0.01), ("zw", np.zeros((1, 24), np.int8)), ("sr", np.abs(f32(1, 24)) * 0.01),
            ("zr", np.zeros((1, 24), np.int8))]
    case("dynamic_lstm_columns", "DynamicQuantizeLSTM", MS, lstm, 3, dict(hidden_size=6), const=["W", "R", "B", "sw", "zw", "sr", "zr"], atol=2e-3)


def qmoe_case(name, bits, two, zeros, block, weights, attrs, E=4, H=32, I=32):
    rows, k = (I * (1 + two), H), (H, I)
    inputs = [("x", f32(2, 3, H)), ("r", f32(6, E))]
    for i in range(2):
        scale = np.abs(f32(E, rows[i], k[i] // block, scale=0.02) if block else f32(E, rows[i], scale=0.02))
        inputs += [(f"w{i}", u8(E, rows[i], k[i] * bits // 8)), (f"s{i}", scale), (f"b{i}", f32(E, rows[i]))]
    inputs += [(n, None) for n in ("w2", "s2", "b2")]
    for i in range(2):
        packed = [E, rows[i], -(-(k[i] // block) * bits // 8)] if block else [E, -(-rows[i] * bits // 8)]
        inputs.append((f"z{i}", u8(*packed) if zeros else None))
    inputs += [("z2", None), ("rw", np.abs(f32(6, E)) if weights else None)]
    case(name, "QMoE", MS, inputs, 1, {**dict(k=2, expert_weight_bits=bits, activation_type="silu"), **(dict(block_size=block) if block else {}), **attrs},
         [n for n, a in inputs[2:] if a is not None and n != "rw"], lead=2, atol=5e-2, rtol=2e-2)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads_attended(q, k, v, mask=0):
    """Attention of q [B,S,H,D], k and v [B,T,H,D] as [B,S,H*D]; mask: an addend [B,H,S,T]."""
    p = softmax(np.einsum("bshd,bthd->bhst", q, k) / np.sqrt(q.shape[-1]) + mask)
    return np.einsum("bhst,bthd->bshd", p, v).reshape(*q.shape[:2], -1).astype(np.float32)


def moe_by_numpy(x, r, act, w1, b1, w2, b2, k, normalize):
    """Each token through its k best experts; act: of the first layer's result."""
    p, y = softmax(r), np.zeros((len(r), w2.shape[1]))
    for t, row in enumerate(x.reshape(len(r), -1)):
        best = np.argsort(-p[t], kind="stable")[:k]
        gate = p[t][best] / (p[t][best].sum() if normalize else 1)
        for e, g in zip(best, gate):
            y[t] += g * (w2[e] @ act(w1[e] @ row + b1[e]) + b2[e])
    return [y.reshape(x.shape).astype(np.float32)]


def silu(h):
    return h / (1 + np.exp(-h))


def sparse_gates(r):
    """Of each row of logits two experts with their weights (SparseMixer)."""
    gates = np.zeros_like(r)
    left = r.copy()
    for _ in range(2):
        best = left.argmax(1)
        most = left.max(1, keepdims=True)
        far = (most - r) / np.maximum(np.abs(r), most) > 0.02
        rows = np.arange(len(r))
        gates[rows, best] = softmax(np.where(far, -np.inf, left))[rows, best]
        left[rows, best] = -np.inf
    return gates


def more_experts(x, r, w1, w2, w3, wg, bg):
    """Forms that ONNX Runtime's CPU provider does not compute."""
    global rng
    kept, rng = rng, np.random.default_rng(11)  # the cases behind these keep their data
    E, I, H = w1.shape
    experts = lambda name, inputs, attrs, want: case("moe_" + name, "MoE", MS, [("x", x), ("r", r)] + inputs, 1, dict(k=2, **attrs), [n for n, a in inputs if a is not None],
                                                     lead=2, want=want)
    plain, zero1, zero2 = [("w1", w1), ("b1", None), ("w2", w2)], np.zeros((E, I)), np.zeros((E, H))
    experts("relu2", plain, dict(activation_type="relu2"), moe_by_numpy(x, r, lambda h: np.maximum(h, 0) ** 2, w1, zero1, w2, zero2, 2, False))
    gelu = lambda h: h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h ** 3)))
    for fusion in (1, 2):
        cut = lambda h, f=fusion: (h[::2], h[1::2]) if f == 1 else (h[:I], h[I:])
        geglu = lambda h: gelu(cut(h)[0]) * cut(h)[1]
        late = lambda h: np.minimum(silu(cut(h)[0]), 1.5) * (np.clip(cut(h)[1], -1.5, 1.5) + 1)
        two = [("w1", wg), ("b1", bg), ("w2", w2)]
        experts(f"geglu{fusion}", two, dict(activation_type="geglu", swiglu_fusion=fusion), moe_by_numpy(x, r, geglu, wg, bg, w2, zero2, 2, False))
        experts(f"swiglu_late{fusion}", two, dict(activation_type="swiglu", swiglu_fusion=fusion, swiglu_limit=1.5, swiglu_limit_after_activation=1, activation_beta=1.0),
                moe_by_numpy(x, r, late, wg, bg, w2, zero2, 2, False))
    w13 = np.concatenate([w1, w3], 1)
    experts("swiglu_three", plain + [("b2", None), ("w3", w3)], dict(activation_type="swiglu"),
            moe_by_numpy(x, r, lambda h: silu(h[:I]) * h[I:], w13, np.zeros((E, 2 * I)), w2, zero2, 2, False))
    near = (np.round(r) + r * 0.01).astype(np.float32)  # some logits within 2 % of each other
    tokens = x.reshape(-1, H)
    y = np.einsum("te,teh->th", sparse_gates(near), np.einsum("ehi,tei->teh", w2, np.maximum(np.einsum("eih,th->tei", w1, tokens), 0)))
    case("moe_sparse", "MoE", MS, [("x", x), ("r", near)] + plain, 1, dict(k=2, activation_type="relu", use_sparse_mixer=1), ["w1", "w2"], lead=2,
         want=[y.reshape(x.shape).astype(np.float32)])
    rng = kept


def moe_cases():
    E, H, I = 4, 16, 32
    x, r, w1, w2, w3 = f32(2, 3, H), f32(6, E), f32(E, I, H, scale=0.3), f32(E, H, I, scale=0.3), f32(E, I, H, scale=0.3)
    for act in ("relu", "gelu", "silu", "identity"):
        case("moe_" + act, "MoE", MS, [("x", x), ("r", r), ("w1", w1), ("b1", f32(E, I)), ("w2", w2), ("b2", f32(E, H))], 1,
             dict(k=2, activation_type=act, normalize_routing_weights=1), ["w1", "b1", "w2", "b2"], lead=2)
    gated = [f32(E, 2 * I, H, scale=0.3), f32(E, 2 * I), w2, f32(E, H)]
    for fusion in (1, 2):
        def swiglu(h):
            gate, up = (h[::2], h[1::2]) if fusion == 1 else (h[:I], h[I:])
            gate = np.minimum(gate, 7.0)
            return gate / (1 + np.exp(-1.7 * gate)) * (np.clip(up, -7.0, 7.0) + 1)
        case(f"moe_swiglu{fusion}", "MoE", MS, [("x", x), ("r", r)] + list(zip(["w1", "b1", "w2", "b2"], gated)), 1,
             dict(k=2, activation_type="swiglu", swiglu_fusion=fusion, activation_alpha=1.7, activation_beta=1.0, swiglu_limit=7.0), ["w1", "b1", "w2", "b2"], lead=2,
             want=moe_by_numpy(x, r, swiglu, *gated, 2, False) if fusion == 2 else None)
    more_experts(x, r, w1, w2, w3, *gated[:2])
    for bits in (4, 8):
        q1, q2 = u8(E, I, H * bits // 8), u8(E, H, I * bits // 8)
        q = [("x", x), ("r", r), ("w1", q1), ("s1", np.abs(f32(E, I, scale=0.02))), ("b1", None), ("w2", q2), ("s2", np.abs(f32(E, H, scale=0.02)))]
        case(f"qmoe{bits}", "QMoE", MS, q, 1, dict(k=2, expert_weight_bits=bits, activation_type="silu", normalize_routing_weights=1),
             ["w1", "s1", "w2", "s2"], atol=5e-2, lead=2)
        s1, s2 = np.abs(f32(E, I, H // 16, scale=0.02)), np.abs(f32(E, H, I // 16, scale=0.02))

        def weights(q, s):
            q = q if bits == 8 else np.stack([q & 15, q >> 4], -1).reshape(*q.shape[:2], -1)
            return (q.astype(float) - 2 ** (bits - 1)) * s.repeat(16, -1)
        b = [("x", x), ("r", r), ("w1", q1), ("s1", s1), ("b1", None), ("w2", q2), ("s2", s2)]
        case(f"qmoe{bits}_blocks", "QMoE", MS, b, 1, dict(k=1, expert_weight_bits=bits, activation_type="silu", block_size=16), ["w1", "s1", "w2", "s2"],
             lead=2, want=moe_by_numpy(x, r, silu, weights(q1, s1), np.zeros((E, I)), weights(q2, s2), np.zeros((E, H)), 1, True))  # QMoE's softmax is over the chosen ones


# ---- ai.onnx.ml ----
def tree_nodes(depth, trees, features, modes=("BRANCH_LEQ",), missing=False):
    """Complete trees with some early leaves: attribute lists, and the leaves as (tree, node)."""
    a = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true", "hitrates")}
    leaves = []
    for t in range(trees):
        for i in range(2 ** (depth + 1) - 1):
            leaf = i >= 2 ** depth - 1
            if leaf:
                leaves.append((t, i))
            for k, v in (("treeids", t), ("nodeids", i), ("featureids", 0 if leaf else int(rng.integers(features))), ("values", 0.0 if leaf else float(f32(1)[0])),
                         ("modes", "LEAF" if leaf else str(rng.choice(modes))), ("truenodeids", 0 if leaf else 2 * i + 1), ("falsenodeids", 0 if leaf else 2 * i + 2),
                         ("missing_value_tracks_true", int(missing and rng.integers(2))), ("hitrates", 1.0)):
                a[k].append(v)
    return {"nodes_" + k: v for k, v in a.items()}, leaves


def weights_of(what, leaves, per_leaf, targets, positive=False):
    rows = [(t, i, k, float(f32(1)[0])) for t, i in leaves for k in (range(targets) if per_leaf == "all" else [per_leaf(t)])]
    return {f"{what}_treeids": [r[0] for r in rows], f"{what}_nodeids": [r[1] for r in rows], f"{what}_ids": [r[2] for r in rows],
            f"{what}_weights": [abs(r[3]) / 8 if positive else r[3] for r in rows]}


def tree_cases():
    x = f32(9, 6)
    with_nan = x.copy()
    with_nan[::2, ::2] = np.nan
    all_modes = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
    nodes, leaves = tree_nodes(3, 7, 6)
    case("tree_regressor", "TreeEnsembleRegressor", ML, [("x", x)], 1, dict(n_targets=1, base_values=[0.5], **nodes, **weights_of("target", leaves, lambda t: 0, 1)))
    case("tree_regressor_two", "TreeEnsembleRegressor", ML, [("x", x)], 1, dict(n_targets=3, **nodes, **weights_of("target", leaves, "all", 3)))
    for how in ("AVERAGE", "MIN", "MAX"):
        case("tree_regressor_" + how.lower(), "TreeEnsembleRegressor", ML, [("x", x)], 1,
             dict(n_targets=2, aggregate_function=how, **nodes, **weights_of("target", leaves, "all", 2)))
    case("tree_regressor_boost", "TreeEnsembleRegressor", ML, [("x", x)], 1, dict(n_targets=3, **nodes, **weights_of("target", leaves, lambda t: t % 3, 3)))
    mixed, leaves2 = tree_nodes(3, 5, 6, all_modes, True)
    case("tree_modes", "TreeEnsembleRegressor", ML, [("x", with_nan)], 1, dict(n_targets=1, **mixed, **weights_of("target", leaves2, lambda t: 0, 1)))
    for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"):
        case("tree_classifier_" + post.lower(), "TreeEnsembleClassifier", ML, [("x", x)], 2, dict(classlabels_int64s=[3, 1, 7], post_transform=post, **nodes,
             **weights_of("class", leaves, "all", 3, post == "PROBIT")), atol=2e-3 if post == "PROBIT" else 1e-4)
        if post == "PROBIT":
            continue
        case("tree_binary_" + post.lower(), "TreeEnsembleClassifier", ML, [("x", x)], 2, dict(classlabels_int64s=[0, 1], post_transform=post, base_values=[0.1],
             **nodes, **weights_of("class", leaves, lambda t: 0, 1)))
    case("tree_binary_positive", "TreeEnsembleClassifier", ML, [("x", x)], 2, dict(classlabels_int64s=[4, 2], **nodes, **weights_of("class", leaves, lambda t: 0, 1, True)))
    case("tree_classifier_base", "TreeEnsembleClassifier", ML, [("x", x)], 2, dict(classlabels_int64s=[0, 1, 2], base_values=[0.1, 0.2, 0.3], post_transform="SOFTMAX",
         **nodes, **weights_of("class", leaves, lambda t: t % 3, 3)))
    case("tree_f64", "TreeEnsembleRegressor", ML, [("x", x.astype(np.float64))], 1, dict(n_targets=1, **nodes, **weights_of("target", leaves, lambda t: 0, 1)))


def ml_cases():
    x = f32(5, 4)
    case("scaler", "Scaler", ML, [("x", x)], 1, dict(offset=[0.5, 1.0, -1.0, 0.0], scale=[2.0, 0.5, 1.0, 3.0]))
    case("scaler_i64", "Scaler", ML, [("x", rng.integers(-9, 9, (5, 4)))], 1, dict(offset=[0.5], scale=[2.0]))
    for norm in ("MAX", "L1", "L2"):
        case("normalizer_" + norm.lower(), "Normalizer", ML, [("x", x)], 1, dict(norm=norm))
    nan = x.copy()
    nan[1, 2] = np.nan
    case("imputer", "Imputer", ML, [("x", nan)], 1, dict(imputed_value_floats=[1.0, 2.0, 3.0, 4.0], replaced_value_float=float("nan")))
    case("imputer_i64", "Imputer", ML, [("x", np.array([[1, -1], [2, 3]]))], 1, dict(imputed_value_int64s=[7], replaced_value_int64=-1))
    case("binarizer", "Binarizer", ML, [("x", x)], 1, dict(threshold=0.2))
    case("array_feature", "ArrayFeatureExtractor", ML, [("x", x), ("i", np.array([[0, 3, 3]]))], 1)
    case("feature_vectorizer", "FeatureVectorizer", ML, [("a", x), ("b", f32(5, 2))], 1, dict(inputdimensions=[4, 2]), fixed="ab")
    case("one_hot", "OneHotEncoder", ML, [("x", np.array([[1, 5], [3, 9]]))], 1, dict(cats_int64s=[1, 3, 5], zeros=1))
    case("label_encoder", "LabelEncoder", ML, [("x", np.array([1, 5, 9, 3]))], 1, dict(keys_int64s=[1, 3, 5], values_floats=[0.5, 1.5, 2.5], default_float=-1.0))
    case("linear_regressor", "LinearRegressor", ML, [("x", x)], 1, dict(coefficients=[float(v) for v in f32(8)], intercepts=[0.5, -1.0], targets=2))
    for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"):
        case("linear_classifier_" + post.lower(), "LinearClassifier", ML, [("x", x)], 2, dict(coefficients=[float(v) for v in f32(12)], intercepts=[0.5, -1.0, 0.1],
             classlabels_ints=[2, 4, 6], post_transform=post))
        case("linear_binary_" + post.lower(), "LinearClassifier", ML, [("x", x)], 2, dict(coefficients=[float(v) for v in f32(4)], intercepts=[0.5],
             classlabels_ints=[2, 4], post_transform=post))
    sv = f32(6, 4)
    for kernel in ("LINEAR", "RBF", "POLY", "SIGMOID"):
        common = dict(kernel_type=kernel, kernel_params=[0.3, 0.1, 2.0], support_vectors=[float(v) for v in sv.ravel()])
        case("svm_regressor_" + kernel.lower(), "SVMRegressor", ML, [("x", x)], 1, dict(n_supports=6, coefficients=[float(v) for v in f32(6)], rho=[0.2], **common))
        case("svm_classifier_" + kernel.lower(), "SVMClassifier", ML, [("x", x)], 2, dict(vectors_per_class=[2, 1, 3], classlabels_ints=[5, 6, 7],
             coefficients=[float(v) for v in f32(12)], rho=[0.2, -0.1, 0.3], **common))
    case("svm_one_class", "SVMRegressor", ML, [("x", x)], 1, dict(n_supports=6, one_class=1, coefficients=[float(v) for v in f32(6)], rho=[0.2], **common))
    for post in ("NONE", "LOGISTIC"):
        case("svm_binary_" + post.lower(), "SVMClassifier", ML, [("x", x)], 2, dict(vectors_per_class=[2, 4], classlabels_ints=[5, 6],
             coefficients=[float(v) for v in f32(6)], rho=[0.2], post_transform=post, **common))
    case("svm_probability", "SVMClassifier", ML, [("x", x)], 2, dict(vectors_per_class=[2, 1, 3], classlabels_ints=[5, 6, 7], prob_a=[-1.0, -0.5, -2.0],
         prob_b=[0.1, 0.2, -0.3], coefficients=[float(v) for v in f32(12)], rho=[0.2, -0.1, 0.3], **common))
    case("svm_binary_probability", "SVMClassifier", ML, [("x", x)], 2, dict(vectors_per_class=[2, 4], classlabels_ints=[5, 6], prob_a=[-1.0], prob_b=[0.1],
         coefficients=[float(v) for v in f32(6)], rho=[0.2], **common))


def low_bits(x, bits):
    """Numbers of `bits` bits of the bytes of the last axis, the lowest ones first."""
    parts = 8 // bits
    return np.stack([x >> (bits * i) & (1 << bits) - 1 for i in range(parts)], -1).reshape(*x.shape[:-1], -1).astype(np.int64)


def level_cases():
    """Accuracy level 4: A may be rounded to 8 bits, a block of it at a time. ONNX Runtime does; Sard where the processor has products of
    such bytes, else its result is the exact one."""
    for bits, block, k in ((4, 32, 256), (4, 128, 256), (8, 32, 128)):
        n, blocks = 40, k // block
        b, s = u8(n, blocks, block * bits // 8), np.abs(f32(n, blocks, scale=0.1))
        for form, z in (("", None), ("_zeros", u8(n, (blocks * bits + 7) // 8))):
            name, a = f"level{bits}_{block}{form}", f32(2, 5, k)
            zeros = np.full((n, blocks, 1), 1 << (bits - 1)) if z is None else low_bits(z, bits)[:, :blocks, None]
            w = (low_bits(b, bits).astype(np.float64) - zeros) * s[:, :, None]
            EXACT[name] = (a.astype(np.float64) @ w.reshape(n, k).T).astype(np.float32)
            case(name, "MatMulNBits", MS, [("A", a), ("B", b), ("S", s), ("Z", z)], 1,
                 dict(K=k, N=n, bits=bits, block_size=block, accuracy_level=4), "BSZ", atol=1e-3)


def make_cases():
    global rng
    for make in (quantized_cases, attention_cases, moe_cases, tree_cases, ml_cases, norm_cases, rotary_cases, fused_cases,
                 signed_cases, more_attention_cases, group_cases, window_cases, cache_cases, bits_cases,
                 quantized_forms, gather_cases, level_cases):
        rng = np.random.default_rng(zlib.crc32(make.__name__.encode()))
        make()


def store():
    kept = {}
    for c in CASES:
        if c[-1]:
            continue
        want = computed(c)
        if isinstance(want, str):
            print(f"not stored: {c[0]}: {want}")
            continue
        kept[f"{c[0]}/inputs"] = checksum(c[3])
        kept.update({f"{c[0]}/{n}": w for n, w in zip([n for n in output_names(c[4]) if n], want) if not n.startswith("free")})
        kept.update({f"{c[0]}/{n}": np.zeros(0) for n in output_names(c[4]) if n.startswith("free")})
    np.savez_compressed(STORED, **kept)
    print(f"{len(CASES)} cases stored")


def main():
    sard, flags = sys.argv[1], [a for a in sys.argv[2:] if a.startswith("--")]
    prefixes = tuple(a for a in sys.argv[2:] if not a.startswith("--"))
    make_cases()
    if "--store" in flags:
        return store()
    file = None if "--onnxruntime" in flags else dict(np.load(STORED))
    passed = failed = skipped = 0
    for c in CASES:
        if prefixes and not c[0].startswith(prefixes):
            continue
        want = c[-1] or (computed(c) if file is None else stored(c, file))
        if isinstance(want, str) and not want.startswith("FAIL"):
            skipped += 1
            print(f"skip {c[0]}: {want}")
            continue
        found = [want] if isinstance(want, str) else test(sard, c, want)
        passed, failed = passed + (not found), failed + bool(found)
        for text in found:
            print(f"FAIL {c[0]} {text}")
    print(f"{skipped} without expected outputs")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
