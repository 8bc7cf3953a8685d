"""Writes a model with all its f32 tensors as f16 or bf16, for benchmarks.

usage: python3 half.py IN.onnx OUT.onnx [f16|bf16]
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def convert_tensor(t, kind):
    if t.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(t).astype(np.float32)
    if kind == TensorProto.FLOAT16:
        raw = np.clip(values, -65504, 65504).astype(np.float16).tobytes()
    else:
        bits = np.ascontiguousarray(values).view(np.uint32)
        raw = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    dims = list(t.dims)
    name = t.name
    t.Clear()
    t.name, t.data_type, t.raw_data = name, kind, raw
    t.dims.extend(dims)


def convert_value(v, kind):
    if v.type.HasField("tensor_type") and v.type.tensor_type.elem_type == TensorProto.FLOAT:
        v.type.tensor_type.elem_type = kind


def convert_graph(g, kind):
    for t in g.initializer:
        convert_tensor(t, kind)
    for v in [*g.input, *g.output]:
        convert_value(v, kind)
    del g.value_info[:]
    for n in g.node:
        for a in n.attribute:
            if a.name == "to" and n.op_type == "Cast" and a.i == TensorProto.FLOAT:
                a.i = kind
            if a.HasField("t"):
                convert_tensor(a.t, kind)
            if a.HasField("g"):
                convert_graph(a.g, kind)


def main(source, target, name="f16"):
    kind = {"f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[name]
    model = onnx.load(source)
    convert_graph(model.graph, kind)
    onnx.save(model, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
