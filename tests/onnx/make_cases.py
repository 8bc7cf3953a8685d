"""Writes ONNX's own backend cases (from the Python package onnx) as folders of .onnx and .pb files.

usage: python3 make_cases.py OUT_DIR [NAME_PREFIX...]   OUT_DIR/<case>/model.onnx, test_data_set_0/{input,output}_N.pb

Cases of the kind "node" have their own name, others their kind in front: simple__test_shrink. case.txt holds rtol and
atol of the case (and "large" where an interpreter would take too long), then a line for each input: its name.

Other forms of the model, where they differ from it and from those below:
model_const.onnx     small inputs (axes, shapes, scales) are initializers, as in real models
model_symbolic.onnx  that, and all dims above 1 of the remaining inputs are symbolic, one symbol for each size
model_unique.onnx    that, and all dims are symbolic, one symbol for each input and axis
model_open.onnx      model.onnx with all dims symbolic: what sizes are computed from is known at run time only
model_folded.onnx    every tensor input is an initializer: folding must give the expected outputs
"""
import glob
import json
import os
import sys
import warnings

import numpy as np
import onnx
from onnx import ModelProto, OptionalProto, SequenceProto, TensorProto, defs, numpy_helper
from onnx.backend.test.case.node import collect_testcases

DATA = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
PARAMETERS = {"scales", "roi", "start", "limit", "delta", "ratio", "depth"}


class Case:
    def __init__(self, name, model, sets, rtol, atol, large=False):
        self.name, self.model, self.sets, self.rtol, self.atol, self.large = name, model, sets, rtol, atol, large


# ---- the package's cases: sets are pairs of lists of messages ----
def encode(value, info):
    if isinstance(value, (TensorProto, SequenceProto, OptionalProto)):
        return value
    kind = info.type.WhichOneof("value")
    make = {"sequence_type": numpy_helper.from_list, "map_type": numpy_helper.from_dict,
            "optional_type": numpy_helper.from_optional}.get(kind, numpy_helper.from_array)
    return make(value, info.name)


def node_case(case):
    graph = case.model.graph
    sets = [([encode(v, i) for v, i in zip(ins, graph.input)], [encode(v, o) for v, o in zip(outs, graph.output)])
            for ins, outs in case.data_sets]
    return Case(case.name, case.model, sets, case.rtol, case.atol)


def read_messages(folder, kind, infos):
    found = []
    for i in range(len(glob.glob(os.path.join(folder, f"{kind}_*.pb")))):
        make = {"sequence_type": SequenceProto, "optional_type": OptionalProto}
        with open(os.path.join(folder, f"{kind}_{i}.pb"), "rb") as f:
            found.append(make.get(infos[i].type.WhichOneof("value"), TensorProto).FromString(f.read()))
    return found


def stored_inputs(graph):
    given = {t.name for t in graph.initializer}
    return [i for i in graph.input if i.name not in given]


def file_case(kind, folder):
    model = onnx.load(os.path.join(folder, "model.onnx"))
    tolerance = {}
    if os.path.exists(os.path.join(folder, "data.json")):
        with open(os.path.join(folder, "data.json")) as f:
            tolerance = json.load(f)
    sets = [(read_messages(s, "input", stored_inputs(model.graph)), read_messages(s, "output", model.graph.output))
            for s in sorted(glob.glob(os.path.join(folder, "test_data_set_*")))]
    name = f"{kind}__{os.path.basename(folder)}"
    return Case(name, model, sets, tolerance.get("rtol", 1e-3), tolerance.get("atol", 1e-7))


def dummy(info):
    """What ONNX's runner feeds to the light models: the numbers from 0 to 1 in equal steps."""
    shape = [d.dim_value if d.HasField("dim_value") else 1 for d in info.type.tensor_type.shape.dim]
    n = np.prod(shape)
    return numpy_helper.from_array((np.arange(n).reshape(shape) / n).astype(np.float32), info.name)


def light_case(path):
    """Networks whose weights the graph computes (ConstantOfShape); data.json of the full model has the tolerance."""
    name = os.path.basename(path)[:-len(".onnx")]
    model = onnx.load(path)
    tolerance = {}
    described = os.path.join(DATA, "real", name.replace("light_", "test_"), "data.json")
    if os.path.exists(described):
        with open(described) as f:
            tolerance = json.load(f)
    outputs = []
    for i in range(len(model.graph.output)):
        with open(f"{path[:-5]}_output_{i}.pb", "rb") as f:
            outputs.append(TensorProto.FromString(f.read()))
    inputs = [dummy(i) for i in stored_inputs(model.graph)]
    return Case(f"light__{name}", model, [(inputs, outputs)], tolerance.get("rtol", 1e-3), tolerance.get("atol", 1e-7), True)


def all_cases():
    """Functions that make a case each, by name: not every value can be encoded by every version of the package."""
    for case in collect_testcases(None):
        yield case.name, lambda c=case: node_case(c)
    for kind in ("simple", "pytorch-operator", "pytorch-converted"):
        for folder in sorted(glob.glob(os.path.join(DATA, kind, "*", ""))):
            folder = os.path.dirname(folder)
            if os.path.exists(os.path.join(folder, "model.onnx")):
                yield f"{kind}__{os.path.basename(folder)}", lambda k=kind, f=folder: file_case(k, f)
    for path in sorted(glob.glob(os.path.join(DATA, "light", "*.onnx"))):
        yield f"light__{os.path.basename(path)[:-5]}", lambda p=path: light_case(p)


# ---- forms of the model ----
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


def is_small(graph):
    parameters = parameter_names(graph)

    def small(info, tensor):
        integer = tensor.data_type in (2, 3, 4, 5, 6, 7, 9, 12, 13)
        return len(tensor.dims) <= 1 and np.prod(tensor.dims) <= 64 and (integer or info.name in parameters)
    return small


def with_constants(model, inputs, chosen):
    """The model with the chosen tensor inputs as initializers; None where there is none."""
    model = ModelProto.FromString(model.SerializeToString())
    changed = False
    for info, value in zip(stored_inputs(model.graph), inputs):
        if info.type.WhichOneof("value") != "tensor_type" or not isinstance(value, TensorProto):
            continue
        if not chosen(info, value):
            continue
        tensor = TensorProto.FromString(value.SerializeToString())
        tensor.name = info.name
        model.graph.initializer.append(tensor)
        model.graph.input.remove(info)
        changed = True
    model.ir_version = max(model.ir_version, 4)  # before, initializers had to be inputs
    return model if changed else None


def with_symbols(model, unique):
    """The model with symbolic dims in its inputs; None where an input is no tensor, or none has a dim."""
    model = ModelProto.FromString(model.SerializeToString())
    changed = False
    for info in stored_inputs(model.graph):
        if info.type.WhichOneof("value") != "tensor_type":
            return None
        for i, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.dim_value > (0 if unique else 1):
                dim.dim_param = f"{info.name}_{i}" if unique else f"d{dim.dim_value}"
                changed = True
    del model.graph.value_info[:]
    for info in model.graph.output:
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    return model if changed else None


def dims(model):
    """Dims of all inputs, symbols numbered as they come."""
    numbers = {}
    return model and [[numbers.setdefault(d.dim_param, len(numbers)) if d.dim_param else (d.dim_value,)
                       for d in info.type.tensor_type.shape.dim] for info in model.graph.input]


def forms(case):
    yield "model.onnx", case.model
    if case.large or not case.sets:
        return
    inputs = case.sets[0][0]
    constants = with_constants(case.model, inputs, is_small(case.model.graph)) if len(case.sets) == 1 else None
    yield "model_const.onnx", constants
    symbolic, unique = (with_symbols(constants or case.model, u) for u in (False, True))
    yield "model_symbolic.onnx", None if dims(symbolic) == dims(unique) else symbolic
    yield "model_unique.onnx", unique if constants else None
    yield "model_open.onnx", with_symbols(case.model, True)
    if len(case.sets) == 1:
        yield "model_folded.onnx", with_constants(case.model, inputs, lambda info, tensor: True)


def write(case, out):
    folder = os.path.join(out, case.name)
    os.makedirs(folder, exist_ok=True)
    for name, model in forms(case):
        if model:
            with open(os.path.join(folder, name), "wb") as f:
                f.write(model.SerializeToString())
    with open(os.path.join(folder, "case.txt"), "w") as f:
        print(repr(case.rtol), repr(case.atol), "large" if case.large else "", file=f)
        for info in stored_inputs(case.model.graph):
            print(info.name, file=f)
    for i, pair in enumerate(case.sets):
        data = os.path.join(folder, f"test_data_set_{i}")
        os.makedirs(data, exist_ok=True)
        for kind, messages in zip(("input", "output"), pair):
            for j, message in enumerate(messages):
                with open(os.path.join(data, f"{kind}_{j}.pb"), "wb") as f:
                    f.write(message.SerializeToString())


def main():
    out, prefixes = sys.argv[1], tuple(sys.argv[2:])
    warnings.simplefilter("ignore")
    failed = total = 0
    for name, make in all_cases():
        if prefixes and not name.startswith(prefixes):
            continue
        total += 1
        try:
            write(make(), out)
        except Exception as e:  # a value that this version of the package cannot encode
            failed += 1
            print(f"{name}: {e}", file=sys.stderr)
    print(f"{total} cases, {failed} not written")


if __name__ == "__main__":
    main()
