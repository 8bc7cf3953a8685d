"""Every version of every operator that the package onnx knows: are its attributes, operands and outputs accepted?

usage: python3 old_forms.py SARD [OPERATOR...]      last line: N passed, N failed

For each version a node with all attributes that the version has, one with all operands and outputs, both over made-up
values, and one with nothing at all, which has to give an error and no crash. What their types, shapes and values mean is no matter here (old_cases.py and ONNX's own cases look at that): only
a message that says that a part of the form is not known, or not as it should be, is a failure. Operators of which Sard
knows no version at all are listed and not judged.
"""
import collections
import json
import os
import re
import sys
import tempfile

from onnx import AttributeProto, OperatorSetIdProto, TensorProto, TypeProto, defs, helper

import many

BAD = re.compile(r"is not known for|attribute '[^']*' is an? .*must be|has no operator|operands, but|outputs, but|is not an? "
                 r"|cannot have the attribute|both the attribute|has \d+ operands instead|died of|no result")
A = AttributeProto


def graph():
    """A body of one input and one output, as good as any."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("bx", "by"))
    return helper.make_graph([helper.make_node("Identity", ["bx"], ["by"])], "body", [x], [y])


def sample(name, kind, text):
    return {A.INT: 1, A.FLOAT: 1.0, A.STRING: text or "x", A.INTS: [1, 1], A.FLOATS: [1.0, 1.0], A.STRINGS: ["x", "y"],
            A.GRAPH: graph(), A.TENSOR: helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]),
            A.SPARSE_TENSOR: helper.make_sparse_tensor(helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]),
                                                       helper.make_tensor("i", TensorProto.INT64, [1], [0]), [1]),
            A.TYPE_PROTO: helper.make_tensor_type_proto(TensorProto.FLOAT, [1])}.get(kind)


# What an old form is rewritten by has to make sense.
VALUES = {"axis": 0, "axes": [0, 1], "pads": [0] * 8, "paddings": [0] * 8, "shape": [120], "perm": [0, 1, 2, 3], "split": [1, 1],
          "scales": [1.0, 1.0, 1.0, 1.0], "border": [0, 0, 0, 0], "num_groups": 3}
TYPES = {("Cast", "to", A.STRING): "FLOAT"}


def attribute(schema, a):
    kind = A.AttributeType.Value(str(a.type).split(".")[-1])
    text = a.default_value.s.decode() if a.default_value.type == A.STRING else ""
    value = TYPES.get((schema.name, a.name, kind), sample(a.name, kind, text))
    made_up = VALUES.get(a.name)
    if made_up is not None and type(made_up) is type(value):
        value = made_up
    return None if value is None else helper.make_attribute(a.name, value, attr_type=kind)


def type_of(schema, formal):
    names = [t for t in formal.types if t.startswith("tensor(")]
    plain = [t for t in ("tensor(float)", "tensor(int64)", "tensor(bool)") if t in names]
    if not names:
        return None
    t = (plain or names)[0][7:-1].upper()
    return getattr(TensorProto, {"DOUBLE": "DOUBLE"}.get(t, t), None)


def node(schema, all_attributes, all_operands):
    """The node and the inputs it reads, or None where it cannot be made of tensors."""
    option = defs.OpSchema.FormalParameterOption
    inputs, names, outputs = [], [], []
    for i, formal in enumerate(schema.inputs):
        for k in range(1 if formal.option != option.Variadic else max(1, schema.min_input - i)):
            if formal.option == option.Optional and not all_operands:
                names.append("")
                continue
            t = type_of(schema, formal)
            if t is None:
                return None
            names.append(f"x{i}_{k}")
            inputs.append(helper.make_tensor_value_info(names[-1], t, [2, 3, 4, 5] if i == 0 else [3]))
    for i, formal in enumerate(schema.outputs):
        outputs.append(f"y{i}" if formal.option != option.Optional or all_operands else "")
    attributes = [attribute(schema, a) for a in schema.attributes.values() if all_attributes or a.required]
    if schema.name == "Constant":
        attributes = [a for a in attributes if a.name == "value"]
    n = helper.make_node(schema.name, names, outputs, domain=schema.domain)
    n.attribute.extend(a for a in attributes if a)
    return n, inputs, [o for o in outputs if o]


def model(schema, made):
    n, inputs, outputs = made
    g = helper.make_graph([n], "g", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs])
    imports = [helper.make_opsetid(schema.domain, schema.since_version)]
    if schema.domain:
        imports.append(helper.make_opsetid("", 21))
    return helper.make_model(g, opset_imports=imports, ir_version=8)


def message(sard, schema, made, folder):
    path = os.path.join(folder, "model.onnx")
    with open(path, "wb") as f:
        f.write(model(schema, made).SerializeToString())
    p = many.run(sard, "inspect", path, "--coverage", "-q", "--json", "-")
    if p.returncode < 0:
        return f"it died of signal {-p.returncode}"
    try:
        return " ".join(json.loads(p.stdout).get("reason", "").split())
    except ValueError:
        return f"no result: {p.stderr}"


def main():
    sard, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    versions = collections.defaultdict(list)
    for s in defs.get_all_schemas_with_history():
        if s.domain in ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training") and (not wanted or s.name in wanted):
            versions[s.domain, s.name].append(s)
    passed, failed, unknown = 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        for (domain, name), schemas in sorted(versions.items()):
            found = []
            for s in sorted(schemas, key=lambda s: s.since_version):
                bare = helper.make_node(name, [], ["y"], domain=domain), [], ["y"]
                for form, made in (("attributes", node(s, True, False)), ("operands", node(s, False, True)), ("nothing", bare)):
                    text = message(sard, s, made, folder) if made else ""
                    bad = "died of" in text if form == "nothing" else BAD.search(text)
                    found.append((s.since_version, form, text[:400] if bad else ""))
            if all("has no operator" in text for _, _, text in found if text) and any(text for _, _, text in found):
                unknown.append(f"{domain}.{name}" if domain else name)
                continue
            for version, form, text in found:
                passed, failed = passed + (not text), failed + bool(text)
                if text:
                    print(f"FAIL {name} of version {version}, {form}: {text}")
    print(f"no version known: {' '.join(unknown) or 'none'}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
