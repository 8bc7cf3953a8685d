"""Cases for the forms of CUDA kernels that small tensors do not get: vectors, rows in registers, strips, tiles that are turned.

usage: python3 form_cases.py FOLDER      writes them as make_cases.py writes ONNX's

Sizes are as small as the forms allow, odd ones among them; symbolic models have symbols in place of all sizes above 1.
Outputs are not written: the interpreter gives them.
"""
import os
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

random = np.random.default_rng(0)
node = helper.make_node
TYPES = {"f32": np.float32, "f16": np.float16, "f64": np.float64, "i64": np.int64, "i32": np.int32, "i16": np.int16, "u8": np.uint8,
         "bool": np.bool_}


def numbers(shape, dtype):
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2 if dtype == np.bool_ else 100, shape).astype(dtype)


class Writer:
    def __init__(self, folder):
        self.folder = folder

    def add(self, name, nodes, ins, outs, consts=(), opset=20):
        """ins: name -> array; outs: name -> numpy dtype; consts: name -> array, of the model"""
        at = os.path.join(self.folder, f"test_{name}")
        os.makedirs(f"{at}/test_data_set_0", exist_ok=True)
        for file, symbolic in (("model.onnx", False), ("model_symbolic.onnx", True)):
            def info(n, a):
                dims = [f"s{d}" if symbolic and d > 1 else d for d in a.shape]
                return helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), dims)
            graph = helper.make_graph(nodes, "g", [info(n, a) for n, a in ins.items()],
                                      [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(t)), None) for n, t in outs.items()],
                                      [numpy_helper.from_array(a, n) for n, a in dict(consts).items()])
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)],
                                        ir_version=9), f"{at}/{file}")
        for i, (n, a) in enumerate(ins.items()):
            onnx.save_tensor(numpy_helper.from_array(a, n), f"{at}/test_data_set_0/input_{i}.pb")
        with open(f"{at}/case.txt", "w") as f:
            f.write("0 0\n" + "".join(f"{n}\n" for n in ins))


def points(w):
    for t, shape in (("f32", (131, 1003)), ("f16", (263, 1001)), ("f64", (65552,)), ("u8", (300, 1000)), ("i16", (257, 1024)), ("i64", (32770, 2))):
        d = TYPES[t]
        w.add(f"points_{t}", [node("Add", ["x", "z"], ["y"])], {"x": numbers(shape, d), "z": numbers(shape, d)}, {"y": d})
    w.add("points_broadcast", [node("Add", ["x", "b"], ["z"]), node("Mul", ["z", "s"], ["y"])],
          {"x": numbers((130, 1024), np.float32), "b": numbers((1024,), np.float32), "s": numbers((130, 1), np.float32)}, {"y": np.float32})
    w.add("points_broadcast_odd", [node("Add", ["x", "b"], ["y"])],
          {"x": numbers((130, 1026), np.float32), "b": numbers((1026,), np.float32)}, {"y": np.float32})
    for t in ("bool", "f64", "f16", "u8"): # widths of two types
        w.add(f"points_cast_{t}", [node("Cast", ["x"], ["y"], to=int(helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[t]))))],
              {"x": np.abs(numbers((257, 1000 if t != "f64" else 500), np.float32))}, {"y": TYPES[t]})
    w.add("points_greater", [node("Greater", ["x", "z"], ["c"]), node("Where", ["c", "x", "z"], ["y"])],
          {"x": numbers((260, 520), np.float32), "z": numbers((260, 520), np.float32)}, {"c": np.bool_, "y": np.float32})
    for start in (0, 3, 4): # the first element of a row decides which vectors there are
        w.add(f"points_slice_{start}", [node("Slice", ["x", "from", "to", "axes"], ["z"]), node("Exp", ["z"], ["y"])],
              {"x": numbers((140, 1032), np.float32)}, {"y": np.float32},
              {"from": np.array([start]), "to": np.array([start + 1024]), "axes": np.array([1])})
    w.add("points_pad", [node("Pad", ["x", "p"], ["y"])], {"x": numbers((130, 1016), np.float32)}, {"y": np.float32},
          {"p": np.array([1, 4, 1, 4])})
    w.add("points_concat", [node("Sin", ["x"], ["u"]), node("Cos", ["z"], ["v"]), node("Concat", ["u", "v"], ["y"], axis=1)],
          {"x": numbers((129, 1024), np.float32), "z": numbers((129, 1004), np.float32)}, {"y": np.float32})
    w.add("points_gather", [node("Gather", ["x", "i"], ["y"])],
          {"x": numbers((50, 1024), np.float32), "i": random.integers(-50, 50, (130,))}, {"y": np.float32})
    w.add("points_heads", [node("Transpose", ["x"], ["y"], perm=[0, 2, 1, 3])], {"x": numbers((2, 65, 8, 128), np.float32)}, {"y": np.float32})
    w.add("points_pool", [node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node("MaxPool", ["t"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
                          node("Transpose", ["m"], ["y"], perm=[0, 2, 3, 1])], {"x": numbers((1, 61, 63, 64), np.float32)}, {"y": np.float32})
    w.add("points_depthwise", [node("Conv", ["x", "k"], ["c"], group=64, pads=[1, 1, 1, 1]), node("Relu", ["c"], ["y"])],
          {"x": numbers((1, 64, 47, 45), np.float32)}, {"y": np.float32}, {"k": numbers((64, 1, 3, 3), np.float32)})


def rows(w):
    norm = node("LayerNormalization", ["x", "s", "b"], ["y"])
    for t, shape in (("f32", (40, 768)), ("f16", (40, 768)), ("f32", (1100, 132)), ("f32", (9, 1023)), ("f16", (7, 1030)), ("f32", (3, 5000)),
                     ("f16", (5, 8192)), ("f16", (3, 16384)), ("f32", (2, 16385)), ("f32", (2, 3, 33))):
        d, n = TYPES[t], shape[-1]
        w.add(f"rows_norm_{t}_{n}", [norm], {"x": numbers(shape, d), "s": numbers((n,), d), "b": numbers((n,), d)}, {"y": d})
    w.add("rows_add_norm", [node("Add", ["x", "r"], ["z"]), node("Add", ["z", "c"], ["u"]), node("LayerNormalization", ["u", "s", "b"], ["y"])],
          {"x": numbers((33, 512), np.float32), "r": numbers((33, 512), np.float32), "c": numbers((512,), np.float32), "s": numbers((512,), np.float32),
           "b": numbers((512,), np.float32)}, {"y": np.float32})
    w.add("rows_rms", [node("Mul", ["x", "x"], ["q"]), node("ReduceMean", ["q", "a"], ["m"]), node("Add", ["m", "e"], ["n"]), node("Sqrt", ["n"], ["o"]),
                       node("Div", ["x", "o"], ["p"]), node("Mul", ["p", "s"], ["y"])],
          {"x": numbers((37, 1024), np.float16), "s": numbers((1024,), np.float16)}, {"y": np.float16},
          {"a": np.array([-1]), "e": np.array(1e-5, np.float16)})
    for t, shape in (("f32", (50, 4096)), ("f16", (600, 128)), ("f32", (70, 49)), ("f64", (20, 256)), ("f32", (2, 20000)), ("f32", (3, 4, 7, 64))):
        w.add(f"rows_softmax_{t}_{shape[-1]}", [node("Softmax", ["x"], ["y"])], {"x": numbers(shape, TYPES[t])}, {"y": TYPES[t]})
    w.add("rows_softmax_mask", [node("Mul", ["x", "k"], ["u"]), node("Where", ["m", "u", "l"], ["v"]), node("Softmax", ["v"], ["y"])],
          {"x": numbers((6, 30, 128), np.float32), "m": numbers((30, 128), np.bool_)}, {"y": np.float32},
          {"k": np.array(0.125, np.float32), "l": np.array(-10000, np.float32)})
    w.add("rows_softmax_other_axis", [node("Softmax", ["x"], ["y"], axis=1)], {"x": numbers((3, 300, 40), np.float32)}, {"y": np.float32})
    w.add("rows_log_softmax", [node("LogSoftmax", ["x"], ["y"])], {"x": numbers((33, 1000), np.float32)}, {"y": np.float32})
    w.add("rows_slice", [node("Slice", ["x", "from", "to", "axes"], ["z"]), node("Softmax", ["z"], ["y"])], {"x": numbers((40, 1025), np.float32)},
          {"y": np.float32}, {"from": np.array([1]), "to": np.array([1025]), "axes": np.array([1])})
    for op in ("ArgMax", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceProd"):
        for shape in ((40, 1024), (5, 4097), (1, 40000)):
            attrs = {"axis": 1} if op == "ArgMax" else {}
            ins = ["x"] if op == "ArgMax" else ["x", "a"]
            w.add(f"rows_{op}_{shape[1]}", [node(op, ins, ["y"], **attrs)], {"x": numbers(shape, np.float32)},
                  {"y": np.int64 if op == "ArgMax" else np.float32}, {} if op == "ArgMax" else {"a": np.array([1])})
    w.add("rows_sum_i8", [node("Cast", ["x"], ["c"], to=6), node("ReduceSum", ["c", "a"], ["y"])], {"x": numbers((40, 4096), np.uint8)}, {"y": np.int32},
          {"a": np.array([1])})
    w.add("rows_short_softmax", [node("Softmax", ["x"], ["y"])], {"x": numbers((16385, 30), np.float16)}, {"y": np.float16})
    w.add("rows_short_sum", [node("Cast", ["x"], ["c"], to=1), node("ReduceSum", ["c", "a"], ["y"])], {"x": numbers((16387, 40), np.uint8)}, {"y": np.float32},
          {"a": np.array([1])})
    for op, t, shape in (("ReduceMean", "f32", (2, 65536)), ("ReduceL2", "f16", (3, 1 << 17))): # in two steps
        w.add(f"rows_whole_{op}", [node(op, ["x"], ["y"])], {"x": numbers(shape, TYPES[t])}, {"y": TYPES[t]})
    w.add("rows_pool", [node("GlobalAveragePool", ["x"], ["y"])], {"x": numbers((2, 100, 16, 20), np.float32)}, {"y": np.float32})
    w.add("rows_instance", [node("InstanceNormalization", ["x", "s", "b"], ["y"])],
          {"x": numbers((2, 10, 16, 24), np.float32), "s": numbers((10,), np.float32), "b": numbers((10,), np.float32)}, {"y": np.float32})
    w.add("rows_group", [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=4)],
          {"x": numbers((2, 12, 16, 12), np.float32), "s": numbers((4,), np.float32), "b": numbers((4,), np.float32)}, {"y": np.float32})


def turned(w):
    for t, shape in (("f32", (130, 170)), ("f16", (130, 254)), ("u8", (260, 132)), ("f64", (150, 130)), ("f16", (129, 131)), ("bool", (128, 256))):
        w.add(f"turned_{t}_{shape[1]}", [node("Transpose", ["x"], ["y"], perm=[1, 0])], {"x": numbers(shape, TYPES[t])}, {"y": TYPES[t]})
    w.add("turned_nhwc", [node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])], {"x": numbers((2, 48, 13, 21), np.float16)}, {"y": np.float16})
    w.add("turned_heads", [node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])], {"x": numbers((2, 36, 5, 64), np.float32)}, {"y": np.float32})
    w.add("turned_add", [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Add", ["t", "z"], ["u"]), node("Mul", ["u", "s"], ["v"]), node("Tanh", ["v"], ["y"])],
          {"x": numbers((140, 150), np.float32), "z": numbers((150, 140), np.float32), "s": numbers((140,), np.float32)}, {"y": np.float32})
    w.add("turned_two", [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Transpose", ["z"], ["u"], perm=[1, 0]), node("Cast", ["u"], ["v"], to=1),
                         node("Sub", ["t", "v"], ["y"])],
          {"x": numbers((140, 150), np.float32), "z": numbers((140, 150), np.float16)}, {"y": np.float32})
    w.add("turned_pad", [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Pad", ["t", "p"], ["y"])], {"x": numbers((140, 150), np.float32)},
          {"y": np.float32}, {"p": np.array([1, 3, 2, 1])})


def columns(w):
    for t in ("f32", "f16"):
        w.add(f"columns_sum_{t}", [node("ReduceSum", ["x", "a"], ["y"])], {"x": numbers((200, 1000), TYPES[t])}, {"y": TYPES[t]}, {"a": np.array([0])})
        w.add(f"columns_max_{t}", [node("ReduceMax", ["x", "a"], ["y"], keepdims=0)], {"x": numbers((3, 100, 77), TYPES[t])}, {"y": TYPES[t]}, {"a": np.array([1])})
    w.add("columns_mean_two", [node("ReduceMean", ["x", "a"], ["y"])], {"x": numbers((9, 6, 33, 128), np.float32)}, {"y": np.float32}, {"a": np.array([0, 2])})
    w.add("columns_argmin", [node("ArgMin", ["x"], ["y"], axis=0)], {"x": numbers((150, 136), np.float32)}, {"y": np.int64})
    w.add("columns_std", [node("ReduceMean", ["x", "a"], ["m"]), node("Sub", ["x", "m"], ["d"]), node("Mul", ["d", "d"], ["q"]), node("ReduceMean", ["q", "a"], ["y"])],
          {"x": numbers((220, 96), np.float32)}, {"y": np.float32}, {"a": np.array([0])})


def gemv(w):
    for t in ("f32", "f16"):
        d = TYPES[t]
        for k, n in ((1024, 300), (1023, 40)):
            w.add(f"gemv_nk_{t}_{k}", [node("Gemm", ["x", "w", "b"], ["z"], transB=1), node("Relu", ["z"], ["y"])],
                  {"x": numbers((1, k), d), "w": numbers((n, k), d) / 8, "b": numbers((n,), d)}, {"y": d})
            w.add(f"gemv_kn_{t}_{k}", [node("MatMul", ["x", "w"], ["y"])], {"x": numbers((1, k), d), "w": numbers((k, n), d) / 8}, {"y": d})
        for m, k, n in ((4, 256, 328), (3, 200, 129)):
            w.add(f"gemv_kn_{t}_{m}", [node("MatMul", ["x", "w"], ["z"]), node("Add", ["z", "b"], ["u"]), node("Tanh", ["u"], ["y"])],
                  {"x": numbers((m, k), d), "w": numbers((k, n), d) / 8, "b": numbers((n,), d)}, {"y": d})
            w.add(f"gemv_nk_{t}_{m}", [node("Gemm", ["x", "w"], ["y"], transB=1)], {"x": numbers((m, k), d), "w": numbers((n, k), d) / 8}, {"y": d})
    w.add("gemv_kn_i8", [node("DequantizeLinear", ["w", "s"], ["d"], axis=1), node("MatMul", ["x", "d"], ["y"])],
          {"x": numbers((1, 300), np.float32), "w": random.integers(-100, 100, (300, 264)).astype(np.int8), "s": np.abs(numbers((264,), np.float32))},
          {"y": np.float32})
    w.add("gemv_batch", [node("MatMul", ["x", "w"], ["y"])], {"x": numbers((6, 1, 200), np.float32), "w": numbers((6, 200, 72), np.float32)}, {"y": np.float32})
    for zero in (False, True):
        for K, N, block in ((1024, 70, 32), (512, 33, 128)):
            ins = {"x": numbers((1, K), np.float32), "w": random.integers(0, 256, (N, K // block, block // 2)).astype(np.uint8),
                   "sc": np.abs(numbers((N * (K // block),), np.float32)) / 50}
            if zero:
                ins["zp"] = random.integers(0, 256, (N * ((K // block + 1) // 2),)).astype(np.uint8)
            w.add(f"gemv_int4_{K}_{int(zero)}", [node("MatMulNBits", list(ins), ["y"], domain="com.microsoft", K=K, N=N, bits=4, block_size=block)],
                  ins, {"y": np.float32})


def attention(w):
    """Several tiles of keys, sizes that no tile divides, decoding with keys in parts."""
    def add(name, t, heads, kv_heads, rows, keys, size, v_size=None, mask=None, **attrs):
        d = TYPES[t]
        ins = {"q": numbers((1, heads, rows, size), d), "k": numbers((1, kv_heads, keys, size), d),
               "v": numbers((1, kv_heads, keys, v_size or size), d)}
        if mask is not None:
            ins["m"] = mask
        w.add(f"attention_{name}_{t}", [node("Attention", list(ins), ["y"], **attrs)], ins, {"y": d}, opset=23)
    for t in ("f32", "f16"):
        add("causal", t, 2, 1, 70, 133, 64, is_causal=1)
        add("odd", t, 1, 1, 33, 70, 40, 24, softcap=3.0)
        add("wide", t, 1, 1, 18, 40, 128)
        add("long_rows", t, 1, 1, 20, 40, 256)
        add("mask", t, 2, 2, 33, 130, 32, mask=numbers((33, 130), TYPES[t]))
        add("mask_bool", t, 1, 1, 33, 130, 32, mask=random.integers(0, 2, (1, 1, 33, 130)).astype(np.bool_))
        add("decode", t, 4, 2, 1, 300, 64)
        add("decode_three", t, 2, 2, 3, 264, 72)


def scatter(w):
    """Updates that meet: rows, columns, single elements."""
    def ins(x, i, u, t=np.float32):
        return {"x": numbers(x, t), "i": random.integers(0, x[0], i), "u": numbers(u, t)}
    for op in ("none", "add", "max"):
        w.add(f"scatter_rows_{op}", [node("ScatterND", ["x", "i", "u"], ["y"], reduction=op)], ins((20, 48), (40, 1), (40, 48)), {"y": np.float32})
        w.add(f"scatter_columns_{op}", [node("ScatterElements", ["x", "i", "u"], ["y"], axis=0, reduction=op)], ins((9, 70), (33, 61), (33, 61)), {"y": np.float32})
    for t in ("f32", "f16", "u8"):
        w.add(f"scatter_elements_{t}", [node("ScatterElements", ["x", "i", "u"], ["y"], reduction="add")], ins((30,), (300,), (300,), TYPES[t]), {"y": TYPES[t]})
    w.add("scatter_pairs", [node("ScatterND", ["x", "i", "u"], ["y"], reduction="mul")], ins((6, 6, 3), (50, 2), (50, 3)), {"y": np.float32})


def walks(w):
    for name, t, shape, axis, attrs in (("rows", "f32", (13, 300), 1, {}), ("back", "f16", (3, 5, 131), 2, {"reverse": 1}), ("columns", "f32", (100, 600), 0, {}),
                                        ("columns", "f16", (2, 70, 40), 1, {"exclusive": 1}), ("flat", "i64", (1000,), 0, {"exclusive": 1, "reverse": 1}),
                                        ("flat", "f64", (33,), 0, {}), ("rows", "i32", (9, 128), 1, {})):
        w.add(f"walk_{name}_{t}", [node("CumSum", ["x", "a"], ["y"], **attrs)], {"x": numbers(shape, TYPES[t])}, {"y": TYPES[t]}, {"a": np.array(axis)})


def main():
    w = Writer(sys.argv[1])
    walks(w)
    scatter(w)
    points(w)
    rows(w)
    turned(w)
    columns(w)
    gemv(w)
    attention(w)


main()
