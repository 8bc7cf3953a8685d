"""Models of products of matrices and of convolutions, as cases for kernel_cases: types, odd sizes, batches, transposed
factors, operands behind the sum, sizes of zero.

usage: python3 product_cases.py FOLDER [large]
large: one that four warps multiply at once on sm_90a, and no other. Writes each case as tests/onnx/make_cases.py does, with model.onnx of known sizes and model_symbolic.onnx.
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
    tail = [node("MatMul", ["x", "y"], ["z"]), node("Add", ["z", "b"], ["s"]), node("Relu", ["s"], ["p"]), node("Add", ["p", "r"], ["o"])]
    write(folder, f"{tag}_tail", tail, {"x": x, "y": y, "r": r}, t, {"b": values((32,), dtype)})


def convolutions(folder, tag, dtype):
    t = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for c, o, size, kernel, stride, pad, dilation in [(8, 16, 9, 3, 1, 1, 1), (16, 24, 10, 3, 2, 1, 1), (3, 16, 12, 7, 2, 3, 1), (16, 8, 7, 1, 1, 0, 1),
                                                      (8, 8, 9, 3, 1, 2, 2), (12, 20, 6, 3, 1, 1, 1)]:
        x, w, b = values((2, c, size, size), dtype), values((o, c, kernel, kernel), dtype), values((o,), dtype)
        conv = node("Conv", ["x", "w", "b"], ["z"], strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2)
        write(folder, f"{tag}_conv_{c}_{o}_{kernel}_{stride}_{pad}_{dilation}", [conv, node("Relu", ["z"], ["r"])], {"x": x}, t, {"w": w, "b": b})


def main():
    folder = sys.argv[1]
    if sys.argv[2:] == ["large"]:
        x, y = values((512, 256), np.float16), values((256, 512), np.float16)
        write(folder, "large", [node("MatMul", ["x", "y"], ["z"])], {"x": x, "y": y}, TensorProto.FLOAT16)
        return
    for tag, dtype in TYPES.items():
        matmuls(folder, tag, dtype)
        if tag != "bf16":
            convolutions(folder, tag, dtype)


main()
