"""Models of one operator or a few, whose time says what a form of CUDA kernels is worth. Rows of the benchmark (report.py).

usage: python3 rows.py FOLDER      writes row_NAME_TYPE.onnx
"""
import os
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

node = helper.make_node
random = np.random.default_rng(0)
TYPES = {"f32": np.float32, "f16": np.float16}


def save(folder, name, nodes, ins, consts=None, opset=20):
    """ins: name -> (type, shape); the last node's output is the result, of the first one's type."""
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(t)), shape) for n, (t, shape) in ins.items()]
    out = helper.make_tensor_value_info(nodes[-1].output[0], infos[0].type.tensor_type.elem_type, None)
    graph = helper.make_graph(nodes, "g", infos, [out], [numpy_helper.from_array(a, n) for n, a in (consts or {}).items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), os.path.join(folder, f"row_{name}.onnx"))


def numbers(shape, t):
    return (random.standard_normal(shape) / 8).astype(t)


def products(folder):
    for tag in ("f32", "f16"):
        t = TYPES[tag]
        save(folder, f"product_{tag}", [node("MatMul", ["x", "w"], ["y"])], {"x": (t, (4096, 1024))}, {"w": numbers((1024, 4096), t)})
        save(folder, f"head_{tag}", [node("MatMul", ["x", "w"], ["y"])], {"x": (t, (1024, 256))}, {"w": numbers((256, 50257), t)})
        save(folder, f"groups_{tag}", [node("Conv", ["x", "w"], ["y"], group=32, pads=[1] * 4)], {"x": (t, (16, 1024, 14, 14))}, {"w": numbers((1024, 32, 3, 3), t)})
        gelu = [node("MatMul", ["x", "w"], ["z"]), node("Gelu", ["z"], ["y"])]
        save(folder, f"gelu_{tag}", gelu, {"x": (t, (8192, 768))}, {"w": numbers((768, 3072), t)})
    scale = {"sx": np.float32(0.02), "zx": np.uint8(128), "sw": np.full(4096, 0.01, np.float32), "zw": np.zeros(4096, np.int8), "so": np.float32(0.5)}
    scale["w"] = random.integers(-127, 128, (1024, 4096)).astype(np.int8)
    nodes = [node("DequantizeLinear", ["x", "sx", "zx"], ["a"]), node("DequantizeLinear", ["w", "sw", "zw"], ["b"], axis=1),
             node("MatMul", ["a", "b"], ["z"]), node("QuantizeLinear", ["z", "so", "zx"], ["y"])]
    save(folder, "product_i8", nodes, {"x": (np.uint8, (4096, 1024))}, scale)


def others(folder):
    f = np.float32
    save(folder, "sum_f32", [node("ReduceSum", ["x"], ["y"])], {"x": (f, (8192, 8192))})
    save(folder, "walk_f32", [node("CumSum", ["x", "a"], ["y"])], {"x": (f, (8192, 4096))}, {"a": np.array(1)})
    places = {"i": random.integers(0, 1000, (4096, 1))}
    save(folder, "scatter_f32", [node("ScatterND", ["x", "i", "u"], ["y"], reduction="add")], {"x": (f, (1000, 768)), "u": (f, (4096, 768))}, places)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    products(sys.argv[1])
    others(sys.argv[1])
