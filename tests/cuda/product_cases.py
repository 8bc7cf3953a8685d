"""Models of products of matrices and of convolutions, as cases for kernel_cases: types, bytes, odd sizes, batches, transposed
factors, operands behind the sum, sizes of zero.

usage: python3 product_cases.py FOLDER [large|library|pruned]
large: those that four warps multiply at once on sm_90a, and no others; library: those that are large enough to be measured beside
cuBLASLt; pruned: whose weights keep two of four. Writes each case as tests/onnx/make_cases.py does, with model.onnx of known sizes and model_symbolic.onnx.
"""
import os
import sys

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
node = helper.make_node
TYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def values(shape, dtype):
    if np.dtype(dtype).kind in "iu":
        return random.integers(0 if np.dtype(dtype).kind == "u" else -128, 256 if np.dtype(dtype).kind == "u" else 128, shape).astype(dtype)
    return random.standard_normal(shape).astype(np.float32).astype(dtype)


def write(folder, name, nodes, ins, out_type, consts=None):
    """`ins`: name -> array; the last node's output is the result."""
    at = f"{folder}/test_{name}"
    os.makedirs(f"{at}/test_data_set_0", exist_ok=True)
    for symbolic in (False, True):
        infos = []
        for i, (n, a) in enumerate(ins.items()):
            shape = [f"{n}_{d}" for d in range(a.ndim)] if symbolic else a.shape
            infos.append(helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), shape))
        out = helper.make_tensor_value_info(nodes[-1].output[0], out_type, None)
        graph = helper.make_graph(nodes, "g", infos, [out], [numpy_helper.from_array(a, n) for n, a in (consts or {}).items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.save(model, f"{at}/model_symbolic.onnx" if symbolic else f"{at}/model.onnx")
    for i, (n, a) in enumerate(ins.items()):
        onnx.save_tensor(numpy_helper.from_array(a, n), f"{at}/test_data_set_0/input_{i}.pb")
    with open(f"{at}/case.txt", "w") as f:
        f.write("node\n" + "".join(f"{n}\n" for n in ins))


def matmuls(folder, tag, dtype):
    t = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for m, k, n in [(64, 32, 64), (17, 40, 24), (9, 5, 13), (130, 72, 136), (33, 1, 8), (40, 16, 200), (16, 0, 16), (0, 8, 16)]:
        x, y = values((m, k), dtype), values((k, n), dtype)
        write(folder, f"{tag}_{m}_{k}_{n}", [node("MatMul", ["x", "y"], ["z"])], {"x": x, "y": y}, t)
        write(folder, f"{tag}_{m}_{k}_{n}_weights", [node("MatMul", ["x", "y"], ["z"])], {"x": x}, t, {"y": y})
    x, y = values((24, 40), dtype), values((56, 40), dtype)
    for tx in (0, 1):
        for ty in (0, 1):
            ins = {"x": np.ascontiguousarray(x.T) if tx else x, "y": y if ty else np.ascontiguousarray(y.T), "c": values((56,), dtype)}
            write(folder, f"{tag}_gemm_{tx}{ty}", [node("Gemm", ["x", "y", "c"], ["z"], transA=tx, transB=ty)], ins, t)
    x, y = values((3, 20, 24), dtype), values((3, 24, 40), dtype)
    write(folder, f"{tag}_batch", [node("MatMul", ["x", "y"], ["z"])], {"x": x, "y": y}, t)
    heads = [node("Reshape", ["z", "shape"], ["r"]), node("Transpose", ["r"], ["h"], perm=[1, 0, 2])]
    x, y, r = values((24, 40), dtype), values((40, 32), dtype), values((24, 32), dtype)
    write(folder, f"{tag}_heads", [node("MatMul", ["x", "y"], ["z"])] + heads, {"x": x, "y": y}, t, {"shape": np.array([24, 4, 8])})
    # the same with a bias, and rows of several products in another order
    added = [node("MatMul", ["x", "y"], ["p"]), node("Add", ["p", "b"], ["z"])]
    write(folder, f"{tag}_heads_bias", added + heads, {"x": x}, t, {"y": y, "b": values((32,), dtype), "shape": np.array([24, 4, 8])})
    write(folder, f"{tag}_rows", [node("MatMul", ["x", "y"], ["z"]), node("Transpose", ["z"], ["r"], perm=[1, 0, 2])], {"x": values((3, 24, 40), dtype)}, t, {"y": y})
    if tag != "f32": # results of f32
        wide = [node("MatMul", ["x", "y"], ["z"]), node("Add", ["z", "b"], ["s"]), node("Cast", ["s"], ["f"], to=1), node("Add", ["f", "r"], ["o"])]
        write(folder, f"{tag}_wide", wide, {"x": x, "r": r.astype(np.float32)}, TensorProto.FLOAT, {"y": y, "b": values((32,), dtype)})
    tail = [node("MatMul", ["x", "y"], ["z"]), node("Add", ["z", "b"], ["s"]), node("Relu", ["s"], ["p"]), node("Add", ["p", "r"], ["o"])]
    write(folder, f"{tag}_tail", tail, {"x": x, "y": y, "r": r}, t, {"b": values((32,), dtype)})


def convolutions(folder, tag, dtype):
    t = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for c, o, size, kernel, stride, pad, dilation in [(8, 16, 9, 3, 1, 1, 1), (16, 24, 10, 3, 2, 1, 1), (3, 16, 12, 7, 2, 3, 1), (16, 8, 7, 1, 1, 0, 1),
                                                      (8, 8, 9, 3, 1, 2, 2), (12, 20, 6, 3, 1, 1, 1)]:
        x, w, b = values((2, c, size, size), dtype), values((o, c, kernel, kernel), dtype), values((o,), dtype)
        conv = node("Conv", ["x", "w", "b"], ["z"], strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2)
        write(folder, f"{tag}_conv_{c}_{o}_{kernel}_{stride}_{pad}_{dilation}", [conv, node("Relu", ["z"], ["r"])], {"x": x}, t, {"w": w, "b": b})


def grouped(folder, tag, dtype):
    t = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for c, o, group, kernel in ((32, 48, 2, 3), (48, 64, 4, 1), (16, 16, 4, 3)):
        x, w, b = values((2, c, 7, 6), dtype), values((o, c // group, kernel, kernel), dtype), values((o,), dtype)
        conv = node("Conv", ["x", "w", "b"], ["z"], pads=[kernel // 2] * 4, group=group)
        write(folder, f"{tag}_group_{c}_{o}_{group}_{kernel}", [conv, node("Relu", ["z"], ["r"])], {"x": x}, t, {"w": w, "b": b})


def transposed(folder, tag, dtype):
    t = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for c, o, kernel, stride, pad, out in ((16, 24, 2, 2, 0, 0), (16, 16, 4, 2, 1, 0), (8, 24, 3, 2, 1, 1), (16, 16, 5, 3, 1, 0), (16, 8, 3, 2, 1, 0)):
        x, w, b = values((2, c, 6, 7), dtype), values((c, o, kernel, kernel), dtype), values((o,), dtype)
        conv = node("ConvTranspose", ["x", "w", "b"], ["z"], strides=[stride] * 2, pads=[pad] * 4, output_padding=[out] * 2)
        write(folder, f"{tag}_transposed_{c}_{o}_{kernel}_{stride}_{pad}_{out}", [conv, node("Relu", ["z"], ["r"])], {"x": x}, t, {"w": w, "b": b})


def bytes_of(shape, signed):
    return values(shape, np.int8 if signed else np.uint8)


def integer_matmuls(folder):
    for m, k, n in [(17, 40, 24), (9, 5, 13), (130, 144, 136), (16, 0, 16)]:
        for xs, ws in ((0, 1), (1, 1), (0, 0)) if k == 40 else ((0, 1),):
            x, w = bytes_of((m, k), xs), bytes_of((k, n), ws)
            nodes = [node("MatMulInteger", ["x", "w"], ["z"])]
            tag = "us"[xs] + "8" + "us"[ws] + "8"
            write(folder, f"{tag}_{m}_{k}_{n}", nodes, {"x": x, "w": w}, TensorProto.INT32)
            write(folder, f"{tag}_{m}_{k}_{n}_weights", nodes, {"x": x}, TensorProto.INT32, {"w": w})
    x, w = bytes_of((3, 20, 48), 0), bytes_of((3, 48, 40), 1)
    write(folder, "u8s8_batch", [node("MatMulInteger", ["x", "w", "zx"], ["z"])], {"x": x, "w": w}, TensorProto.INT32, {"zx": np.uint8(7)})


def quantized(folder, tag="qdq", weights=lambda w, axis: w):
    """QDQ models: sums of bytes, then bias, activation, residual, and bytes again. `weights`: those with an axis of inputs."""
    def dq(x, s, z, y, **attrs):
        return node("DequantizeLinear", [x, s, z], [y], **attrs)
    for zero in (0, 131):
        for transposed in (0, 1):
            w = weights(bytes_of((72, 48) if transposed else (48, 72), 1), transposed)
            consts = {"w": w, "sx": np.float32(0.02), "zx": np.uint8(zero), "sw": np.abs(values((72,), np.float32)) / 50, "zw": np.zeros(72, np.int8),
                      "b": random.integers(-999, 999, 72).astype(np.int32), "zb": np.zeros(72, np.int32), "so": np.float32(0.3), "zo": np.uint8(9)}
            consts["sb"] = consts["sw"] * consts["sx"]
            nodes = [dq("x", "sx", "zx", "fx"), dq("w", "sw", "zw", "fw", axis=0 if transposed else 1), dq("b", "sb", "zb", "fb", axis=0),
                     node("Gemm", ["fx", "fw", "fb"], ["g"], transB=transposed), node("Relu", ["g"], ["r"]), node("QuantizeLinear", ["r", "so", "zo"], ["y"])]
            write(folder, f"{tag}_gemm_{transposed}_{zero}", nodes, {"x": bytes_of((70, 48), 0)}, TensorProto.UINT8, consts)
        for c, o, size, kernel, stride, pad in [(16, 24, 9, 3, 1, 1), (3, 16, 12, 7, 2, 3), (64, 64, 6, 3, 2, 1)] if zero else [(32, 40, 7, 1, 1, 0), (8, 16, 8, 3, 1, 1)]:
            consts = {"w": weights(bytes_of((o, c, kernel, kernel), 1), 1), "sx": np.float32(0.02), "zx": np.uint8(zero), "sw": np.abs(values((o,), np.float32)) / 50,
                      "zw": np.zeros(o, np.int8), "b": random.integers(-999, 999, o).astype(np.int32), "zb": np.zeros(o, np.int32),
                      "so": np.float32(0.3), "zo": np.uint8(9)}
            consts["sb"] = consts["sw"] * consts["sx"]
            out = (size + 2 * pad - kernel) // stride + 1
            nodes = [dq("x", "sx", "zx", "fx"), dq("w", "sw", "zw", "fw", axis=0), dq("b", "sb", "zb", "fb", axis=0),
                     node("Conv", ["fx", "fw", "fb"], ["g"], strides=[stride] * 2, pads=[pad] * 4), dq("r", "so", "zo", "fr"), node("Add", ["g", "fr"], ["a"]),
                     node("Relu", ["a"], ["t"]), node("QuantizeLinear", ["t", "so", "zo"], ["y"])]
            ins = {"x": bytes_of((2, c, size, size), 0), "r": bytes_of((2, o, out, out), 0)}
            write(folder, f"{tag}_conv_{c}_{o}_{kernel}_{stride}_{zero}", nodes, ins, TensorProto.UINT8, consts)


def halved(w, axis):
    """Two of four elements along the axis become 0, here and there three or all."""
    rows = np.moveaxis(w, axis, -1)
    shape = rows.shape
    if shape[-1] % 4:
        return w
    rows = np.ascontiguousarray(rows).reshape(-1, 4)
    keep = np.argsort(random.random(rows.shape), axis=1)[:, :2]
    mask = np.zeros(rows.shape, bool)
    np.put_along_axis(mask, keep, True, axis=1)
    mask &= random.random(rows.shape) > 0.1
    return np.ascontiguousarray(np.moveaxis(np.where(mask, rows, np.zeros((), w.dtype)).reshape(shape), -1, axis))


def pruned(folder):
    for tag, dtype in (("f16", np.float16), ("bf16", ml_dtypes.bfloat16)):
        t = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        for m, k, n in [(64, 64, 64), (17, 48, 24), (40, 208, 136), (130, 32, 200)]:
            write(folder, f"pruned_{tag}_{m}_{k}_{n}", [node("MatMul", ["x", "y"], ["z"])], {"x": values((m, k), dtype)}, t, {"y": halved(values((k, n), dtype), 0)})
        consts = {"y": halved(values((56, 80), dtype), 1), "c": values((56,), dtype)}
        gemm = [node("Gemm", ["x", "y", "c"], ["z"], transB=1), node("Relu", ["z"], ["r"]), node("Add", ["r", "a"], ["o"])]
        write(folder, f"pruned_{tag}_gemm", gemm, {"x": values((24, 80), dtype), "a": values((24, 56), dtype)}, t, consts)
        # rows of x that no copy brings: they go through registers
        odd = [node("Sigmoid", ["x"], ["s"]), node("Transpose", ["s"], ["p"]), node("MatMul", ["p", "y"], ["z"])]
        write(folder, f"pruned_{tag}_turned", odd, {"x": values((32, 21), dtype)}, t, {"y": halved(values((32, 48), dtype), 0)})
        write(folder, f"pruned_{tag}_batch", [node("MatMul", ["x", "y"], ["z"])], {"x": values((3, 20, 96), dtype)}, t, {"y": halved(values((96, 40), dtype), 0)})
        for c, o, size, kernel, stride, pad in ((32, 24, 7, 3, 1, 1), (48, 40, 8, 3, 2, 0), (64, 72, 6, 1, 1, 0)):
            conv = node("Conv", ["x", "w", "b"], ["z"], strides=[stride] * 2, pads=[pad] * 4)
            consts = {"w": halved(values((o, c, kernel, kernel), dtype), 1), "b": values((o,), dtype)}
            write(folder, f"pruned_{tag}_conv_{c}_{o}_{kernel}", [conv, node("Relu", ["z"], ["r"])], {"x": values((2, c, size, size), dtype)}, t, consts)
    for xs in (0, 1):
        for m, k, n in ((17, 96, 24), (40, 208, 136)):
            w = halved(bytes_of((k, n), 1), 0)
            write(folder, f"pruned_{'us'[xs]}8s8_{m}_{k}_{n}", [node("MatMulInteger", ["x", "w"], ["z"])], {"x": bytes_of((m, k), xs)}, TensorProto.INT32, {"w": w})
    quantized(folder, "pruned_qdq", halved)


def main():
    folder = sys.argv[1]
    if sys.argv[2:] == ["large"]:
        x, y = values((512, 256), np.float16), values((256, 512), np.float16)
        write(folder, "large", [node("MatMul", ["x", "y"], ["z"])], {"x": x, "y": y}, TensorProto.FLOAT16)
        x, y = bytes_of((1024, 512), 0), bytes_of((512, 1024), 1)
        write(folder, "large_bytes", [node("MatMulInteger", ["x", "y"], ["z"])], {"x": x}, TensorProto.INT32, {"y": y})
        return
    if sys.argv[2:] == ["pruned"]:
        pruned(folder)
        return
    if sys.argv[2:] == ["library"]:
        for tag, dtype in TYPES.items():
            x, r = values((256, 128), dtype), values((256, 256), dtype)
            consts = {"y": values((128, 256), dtype), "b": values((256,), dtype)}
            nodes = [node("MatMul", ["x", "y"], ["z"]), node("Add", ["z", "b"], ["s"]), node("Add", ["r", "s"], ["t"]), node("Relu", ["t"], ["o"])]
            write(folder, f"library_{tag}", nodes, {"x": x, "r": r}, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), consts)
        return
    for tag, dtype in TYPES.items():
        matmuls(folder, tag, dtype)
        if tag != "bf16":
            convolutions(folder, tag, dtype)
            transposed(folder, tag, dtype)
            grouped(folder, tag, dtype)
    integer_matmuls(folder)
    quantized(folder)


main()
