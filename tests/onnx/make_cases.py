"""Writes ONNX's own node tests (from the Python package onnx) as folders of .onnx and .pb files.

usage: python3 make_cases.py OUT_DIR [NAME_PREFIX...]   OUT_DIR/<case>/model.onnx, test_data_set_0/{input,output}_N.pb
"""
import os
import sys
import warnings

from onnx import SequenceProto, OptionalProto, TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def encode(value, info):
    if isinstance(value, (TensorProto, SequenceProto, OptionalProto)):
        return value.SerializeToString()
    kind = info.type.WhichOneof("value")
    make = {"sequence_type": numpy_helper.from_list, "map_type": numpy_helper.from_dict,
            "optional_type": numpy_helper.from_optional}.get(kind, numpy_helper.from_array)
    return make(value, info.name).SerializeToString()


def write(case, out):
    folder = os.path.join(out, case.name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.onnx"), "wb") as f:
        f.write(case.model.SerializeToString())
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
