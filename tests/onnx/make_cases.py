"""Writes ONNX's own node tests (from the Python package onnx) as folders of .onnx and .pb files.

usage: python3 make_cases.py OUT_DIR [NAME_PREFIX...]   OUT_DIR/<case>/model.onnx, test_data_set_0/{input,output}_N.pb

Most cases pass everything as graph inputs, even axes and shapes, which real models hold as constants. model_const.onnx,
where present, is the same model with these small inputs turned into initializers. model_symbolic.onnx has in addition
all dims above 1 of the remaining inputs symbolic, one symbol for each size; model_unique.onnx all dims, one symbol for
each input and axis.
"""
import os
import sys
import warnings

from onnx import ModelProto, OptionalProto, SequenceProto, TensorProto, defs, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def encode(value, info):
    if isinstance(value, (TensorProto, SequenceProto, OptionalProto)):
        return value.SerializeToString()
    kind = info.type.WhichOneof("value")
    make = {"sequence_type": numpy_helper.from_list, "map_type": numpy_helper.from_dict,
            "optional_type": numpy_helper.from_optional}.get(kind, numpy_helper.from_array)
    return make(value, info.name).SerializeToString()


PARAMETERS = {"scales", "roi", "start", "limit", "delta", "ratio", "depth"}


def parameter_names(graph):
    """Inputs of the graph that go into operands like scales, by the schemas of their nodes."""
    found = set()
    for node in graph.node:
        if not defs.has(node.op_type, node.domain):
            continue
        for formal, name in zip(defs.get_schema(node.op_type, node.domain).inputs, node.input):
            if formal.name in PARAMETERS:
                found.add(name)
    return found


def with_constants(model, inputs):
    model = ModelProto.FromString(model.SerializeToString())
    parameters = parameter_names(model.graph)
    changed = False
    for info, value in list(zip(model.graph.input, inputs)):
        if info.type.WhichOneof("value") != "tensor_type":
            continue
        tensor = value if isinstance(value, TensorProto) else None
        if tensor is None:
            if getattr(value, "dtype", None) is None or value.dtype.kind in "OSU":
                continue
            tensor = numpy_helper.from_array(value, info.name)
        count = 1
        for d in tensor.dims:
            count *= d
        integer = tensor.data_type in (2, 3, 4, 5, 6, 7, 9, 12, 13)
        if len(tensor.dims) <= 1 and count <= 64 and (integer or info.name in parameters):
            tensor.name = info.name
            model.graph.initializer.append(tensor)
            model.graph.input.remove(info)
            changed = True
    return model if changed else None


def with_symbols(model, unique):
    model = ModelProto.FromString(model.SerializeToString())
    for info in model.graph.input:
        if info.type.WhichOneof("value") != "tensor_type":
            return None
        for i, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.dim_value > (0 if unique else 1):
                dim.dim_param = f"{info.name}_{i}" if unique else f"d{dim.dim_value}"
    del model.graph.value_info[:]
    for info in model.graph.output:
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    return model


def write_model(folder, name, model):
    if model:
        with open(os.path.join(folder, name), "wb") as f:
            f.write(model.SerializeToString())


def write(case, out):
    folder = os.path.join(out, case.name)
    os.makedirs(folder, exist_ok=True)
    write_model(folder, "model.onnx", case.model)
    constants = with_constants(case.model, case.data_sets[0][0]) if len(case.data_sets) == 1 else None
    write_model(folder, "model_const.onnx", constants)
    write_model(folder, "model_symbolic.onnx", with_symbols(constants or case.model, False))
    write_model(folder, "model_unique.onnx", with_symbols(constants or case.model, True))
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = os.path.join(folder, f"test_data_set_{i}")
        os.makedirs(data, exist_ok=True)
        for kind, values, infos in (("input", inputs, case.model.graph.input),
                                    ("output", outputs, case.model.graph.output)):
            for j, (value, info) in enumerate(zip(values, infos)):
                with open(os.path.join(data, f"{kind}_{j}.pb"), "wb") as f:
                    f.write(encode(value, info))


def main():
    out, prefixes = sys.argv[1], tuple(sys.argv[2:])
    warnings.simplefilter("ignore")
    failed = 0
    cases = collect_testcases(None)
    for case in cases:
        if prefixes and not case.name.startswith(prefixes):
            continue
        try:
            write(case, out)
        except Exception as e:  # a value that this version of the package cannot encode
            failed += 1
            print(f"{case.name}: {e}", file=sys.stderr)
    print(f"{len(cases)} cases, {failed} not written")


main()
