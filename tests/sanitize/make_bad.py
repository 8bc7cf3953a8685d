#!/usr/bin/env python3
"""Writes hostile models into a folder, with the standard library alone: DIR/NAME.onnx for every name in MODELS.

    make_bad.py DIR [SARD]      with SARD also artifacts: compiled ones, damaged in a given way
"""
import os, pathlib, struct, subprocess, sys

# ---- protobuf ----


def varint(v):
    v &= (1 << 64) - 1
    out = b""
    while v > 127:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def num(field, v):
    return varint(field << 3) + varint(v)


def data(field, v):
    v = v.encode() if isinstance(v, str) else v
    return varint(field << 3 | 2) + varint(len(v)) + v


def f32(field, v):
    return varint(field << 3 | 5) + struct.pack("<f", v)


FLOAT, INT64 = 1, 7


def tensor(name, dims, raw=None, dtype=FLOAT, extra=b""):
    count = 1
    for d in dims:
        count *= d
    raw = b"\0" * (count * 4) if raw is None else raw
    return b"".join(num(1, d) for d in dims) + num(2, dtype) + data(8, name) + (data(9, raw) if raw != b"-" else b"") + extra


def ints(name, values):
    return tensor(name, [len(values)], struct.pack(f"<{len(values)}q", *values), INT64)


def external(name, dims, **keys):
    entries = b"".join(data(13, data(1, k) + data(2, v)) for k, v in keys.items())
    return tensor(name, dims, b"-", FLOAT, entries + num(14, 1))


def value(name, dims, dtype=FLOAT):
    shape = b"".join(data(1, data(2, d) if isinstance(d, str) else num(1, d)) for d in dims)
    return data(1, name) + data(2, data(1, num(1, dtype) + data(2, shape)))


def attr(name, v):
    if isinstance(v, bytes):
        return data(1, name) + v
    if isinstance(v, int):
        return data(1, name) + num(3, v) + num(20, 2)
    if isinstance(v, float):
        return data(1, name) + f32(2, v) + num(20, 1)
    if isinstance(v, str):
        return data(1, name) + data(4, v) + num(20, 3)
    return data(1, name) + b"".join(num(8, i) for i in v) + num(20, 7)


def node(op, inputs, outputs, domain="", **attrs):
    body = b"".join(data(1, i) for i in inputs) + b"".join(data(2, o) for o in outputs)
    body += data(3, f"{op}_node") + data(4, op) + b"".join(data(5, attr(k, v)) for k, v in attrs.items())
    return body + (data(7, domain) if domain else b"")


def graph(nodes, inits=(), inputs=(("x", [2, 3]),), outputs=(("y", ["a", "b"]),)):
    return (b"".join(data(1, n) for n in nodes) + data(2, "g") + b"".join(data(5, t) for t in inits)
            + b"".join(data(11, value(*v)) for v in inputs) + b"".join(data(12, value(*v)) for v in outputs))


def model(g, opset=17, ir=8, extra=b""):
    return num(1, ir) + data(2, "bad") + data(8, data(1, "") + num(2, opset)) + data(7, g) + extra


def one(op, inputs=("x",), inits=(), given=(("x", [2, 3]),), **attrs):
    return model(graph([node(op, inputs, ["y"], **attrs)], inits, given))


GOOD = one("Relu")
BIG = 1 << 62
IMAGE = (("x", [1, 1, 8, 8]),)
KERNEL = tensor("w", [1, 1, 3, 3])


def conv(**attrs):
    return one("Conv", ("x", "w"), [KERNEL], IMAGE, **attrs)


def nested(depth):
    """If in If, so deep. From the inside out, what stands around a level in two lists: whole levels would be copied at each of them."""
    leaf = graph([node("Relu", ["x"], ["y"])], inputs=())
    kind = num(20, 5)
    other = data(5, data(1, "else_branch") + data(6, leaf) + kind)
    layers = (6, data(1, "then_branch"), kind), (5, node("If", ["c"], ["y"]), other), (1, b"", graph([], inputs=()))
    front, back, size = [], [leaf], len(leaf)
    for _ in range(depth):
        for field, before, after in layers:
            front.append(before + varint(field << 3 | 2) + varint(size))
            back.append(after)
            size += len(front[-1]) + len(after)
    g = b"".join(front[::-1] + back)
    both = [data(5, data(1, f"{name}_branch") + data(6, g) + kind) for name in ("then", "else")]
    return model(graph([node("If", ["c"], ["y"]) + b"".join(both)], inputs=(("x", [2]), ("c", [], 9))))


def function_loop():
    f = data(1, "F") + data(4, "x") + data(5, "y") + data(7, node("F", ["x"], ["y"], "local")) + data(9, data(1, "local") + num(2, 1)) + data(10, "local")
    return model(graph([node("F", ["x"], ["y"], "local")]), extra=data(8, data(1, "local") + num(2, 1)) + data(25, f))


def chain(n):
    names = ["x"] + [f"v{i}" for i in range(n - 1)] + ["y"]
    return model(graph([node("Relu", [names[i]], [names[i + 1]]) for i in range(n)]))


def weight(t, **more):
    return model(graph([node("Add", ["x", "w"], ["y"])], [t], **more))


# name -> (bytes, words of which one is in the message). Exit code 3 (model), 4 (unsupported) or 6 (memory).
MODELS = {
    # wire format
    "empty": (b"", []),
    "text": (b"hello, this is no model\0", []),
    "png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, []),
    "wire_graph_varint": (num(1, 8) + num(7, 5), []),
    "wire_version_bytes": (data(1, "eight") + GOOD, []),
    "wire_name_varint": (model(data(1, num(1, 5) + data(4, "Relu"))), []),
    "wire_dims_fixed": (weight(varint(1 << 3 | 5) + b"\1\0\0\0" + num(2, 1) + data(8, "w")), []),
    "wire_long_varint": (num(1, 8) + b"\x38" + b"\xff" * 11 + b"\1", []),
    "wire_length_2_63": (num(1, 8) + b"\x3a" + b"\xff" * 9 + b"\1", []),
    "wire_length_past_end": (num(1, 8) + varint(7 << 3 | 2) + varint(1000) + b"abc", []),
    "wire_groups": (num(1, 8) + varint(7 << 3 | 3) * 5000, []),
    "wire_field_zero": (GOOD + b"\0\0", []),
    "wire_bad_utf8": (model(graph([node("Relu", ["x"], ["y"])]) + data(10, b"\xff\xfe\xfd")), None),
    "wire_no_graph": (num(1, 8) + data(8, num(2, 17)), ["graph"]),
    # model
    "no_opset": (num(1, 8) + data(7, graph([node("Relu", ["x"], ["y"])])), ["opset"]),
    "opset_0": (model(graph([node("Relu", ["x"], ["y"])]), opset=0), ["opset"]),
    "opset_minus_1": (model(graph([node("Relu", ["x"], ["y"])]), opset=-1), ["opset"]),
    "opset_999": (model(graph([node("Relu", ["x"], ["y"])]), opset=999), ["opset"]),
    "ir_version_0": (model(graph([node("Relu", ["x"], ["y"])]), ir=0), None),
    "unknown_domain": (model(graph([node("Relu", ["x"], ["y"], "com.nowhere")])), ["com.nowhere"]),
    "unknown_op": (one("Frobnicate"), ["Frobnicate"]),
    "internal_op": (one("sard.Strided", ("x", "p"), given=(("x", [2, 3]), ("p", [8], INT64))), ["no operator"]),
    "internal_domain": (model(graph([node("Strided", ["x", "p"], ["y"], "sard")], inputs=(("x", [2, 3]), ("p", [8], INT64)))), []),
    "unknown_ops_all": (model(graph([node("Frob", ["x"], ["t"]), node("Nicate", ["t"], ["y"])])), ["Nicate"]),
    # graph
    "cycle": (model(graph([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])])), ["cycle"]),
    "self_loop": (model(graph([node("Add", ["x", "a"], ["a"]), node("Relu", ["a"], ["y"])])), []),
    "missing_input": (one("Relu", ("z",)), ["z"]),
    "missing_output": (model(graph([node("Relu", ["x"], ["t"])])), ["y"]),
    "two_definitions": (model(graph([node("Relu", ["x"], ["y"]), node("Exp", ["x"], ["y"])])), ["y"]),
    "input_defined_twice": (model(graph([node("Relu", ["x"], ["y"])], inputs=(("x", [2, 3]), ("x", [2, 3])))), ["x"]),
    "initializer_twice": (model(graph([node("Add", ["x", "w"], ["y"])], [tensor("w", [3]), tensor("w", [3])])), ["w"]),
    "no_outputs": (model(graph([node("Relu", ["x"], ["y"])], outputs=())), ["output"]),
    "input_no_type": (model(data(1, node("Relu", ["x"], ["y"])) + data(2, "g") + data(11, data(1, "x")) + data(12, value("y", [2]))), []),
    "input_bad_type": (one("Relu", given=(("x", [2], 999),)), []),
    "input_negative_dim": (one("Relu", given=(("x", [-5]),)), None),
    "nested_60": (nested(60), None),
    "nested_1000": (nested(1000), []),
    "nested_20000": (nested(20000), []),
    "function_loop": (function_loop(), []),
    "chain_100000": (chain(100000), None),
    # attributes
    "attr_wrong_type": (one("Concat", ("x", "x"), axis="one"), ["axis"]),
    "attr_missing": (one("Concat", ("x", "x")), ["axis"]),
    "attr_no_value": (one("LeakyRelu", alpha=b""), None),
    "attr_unknown": (one("Relu", colour=3), None),
    "axis_100": (one("Concat", ("x", "x"), axis=100), ["axis"]),
    "axis_int64_min": (one("Softmax", axis=-BIG * 2), ["axis"]),
    "perm_out_of_range": (one("Transpose", perm=[0, 7]), ["perm"]),
    "perm_repeated": (one("Transpose", perm=[1, 1]), ["perm"]),
    "perm_short": (one("Transpose", perm=[0]), ["perm"]),
    "conv_stride_0": (conv(strides=[0, 1]), ["stride"]),
    "conv_stride_negative": (conv(strides=[-1, 1]), ["stride"]),
    "conv_stride_big": (conv(strides=[BIG, BIG]), None),
    "conv_dilation_0": (conv(dilations=[0, 0]), ["dilation"]),
    "conv_dilation_big": (conv(dilations=[BIG, BIG]), []),
    "conv_pads_big": (conv(pads=[BIG, BIG, BIG, BIG]), []),
    "conv_pads_negative": (conv(pads=[-9, -9, -9, -9]), []),
    "conv_pads_short": (conv(pads=[1]), ["pads"]),
    "conv_group_0": (conv(group=0), ["group"]),
    "conv_group_negative": (conv(group=-1), ["group"]),
    "conv_group_big": (conv(group=BIG), ["group"]),
    "conv_kernel_shape": (conv(kernel_shape=[5, 5, 5]), ["kernel_shape"]),
    "conv_auto_pad": (conv(auto_pad="SIDEWAYS"), ["auto_pad"]),
    "pool_kernel_0": (one("MaxPool", given=IMAGE, kernel_shape=[0, 0]), []),
    "pool_kernel_big": (one("MaxPool", given=IMAGE, kernel_shape=[BIG, BIG]), []),
    "depth_to_space_0": (one("DepthToSpace", given=(("x", [1, 4, 2, 2]),), blocksize=0), ["blocksize"]),
    "depth_to_space_big": (one("DepthToSpace", given=(("x", [1, 4, 2, 2]),), blocksize=BIG), ["blocksize"]),
    "split_0": (one("Split", num_outputs=0), None),
    "groupnorm_0": (model(graph([node("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=0)], [tensor("s", [3])], (("x", [1, 3, 2]),)), opset=21), ["num_groups"]),
    "lstm_hidden": (one("LSTM", ("x", "w", "r"), [tensor("w", [1, 4, 3]), tensor("r", [1, 4, 1])], (("x", [2, 1, 3]),), hidden_size=BIG), []),
    "einsum_bad": (one("Einsum", ("x", "x"), equation="i...j->,("), ["equation"]),
    "cast_to_999": (one("Cast", to=999), []),
    # shapes
    "matmul_shapes": (one("MatMul", ("x", "x")), ["[2,3]"]),
    "add_shapes": (weight(tensor("w", [4])), ["4"]),
    "rank_17": (one("Relu", given=(("x", [1] * 17),)), ["16"]),
    "rank_17_unsqueeze": (one("Unsqueeze", ("x", "a"), [ints("a", list(range(16)))]), ["16"]),
    "overflow_input": (one("Relu", given=(("x", [1 << 40, 1 << 40]),)), []),
    "overflow_matmul": (one("MatMul", ("x", "z"), given=(("x", [1 << 40, 1]), ("z", [1, 1 << 40]))), []),
    "overflow_symbolic": (one("Tile", ("x", "r"), [ints("r", [BIG, 4])], (("x", ["N", "M"]),)), None),
    "overflow_tile": (one("Tile", ("x", "r"), [ints("r", [BIG, BIG])]), []),
    "overflow_expand": (one("Expand", ("x", "s"), [ints("s", [1 << 40, 1 << 40, 2, 3])]), []),
    "overflow_reshape": (one("Reshape", ("x", "s"), [ints("s", [BIG, BIG])]), []),
    "overflow_constant_of_shape": (one("ConstantOfShape", ("s",), [ints("s", [1 << 40, 1 << 40])]), []),
    "large_constant_of_shape": (one("ConstantOfShape", ("s",), [ints("s", [1 << 50])]), None),
    "overflow_range": (one("Range", ("s", "e", "d"), [tensor("s", [], struct.pack("<q", -BIG), INT64), tensor("e", [], struct.pack("<q", BIG), INT64), tensor("d", [], struct.pack("<q", 1), INT64)]), None),
    "range_step_0": (one("Range", ("s", "e", "d"), [tensor("s", [], struct.pack("<q", 0), INT64), tensor("e", [], struct.pack("<q", 9), INT64), tensor("d", [], struct.pack("<q", 0), INT64)]), []),
    "overflow_pad": (one("Pad", ("x", "p"), [ints("p", [BIG, BIG, BIG, BIG])]), []),
    "pad_negative": (one("Pad", ("x", "p"), [ints("p", [-5, 0, -5, 0])]), []),
    "overflow_resize": (one("Resize", ("x", "", "s"), [tensor("s", [2], struct.pack("<2f", 1e30, 1e30))]), []),
    "resize_nan": (one("Resize", ("x", "", "s"), [tensor("s", [2], struct.pack("<2f", float("nan"), 1))]), []),
    "resize_negative": (one("Resize", ("x", "", "s"), [tensor("s", [2], struct.pack("<2f", -1, 1))]), []),
    "overflow_conv_transpose": (one("ConvTranspose", ("x", "w"), [KERNEL], IMAGE, strides=[BIG, BIG]), []),
    "overflow_onehot": (one("OneHot", ("x", "d", "v"), [tensor("d", [], struct.pack("<q", BIG), INT64), tensor("v", [2])]), []),
    "reshape_two_unknown": (one("Reshape", ("x", "s"), [ints("s", [-1, -1])]), []),
    "reshape_not_divisible": (one("Reshape", ("x", "s"), [ints("s", [4, -1])]), []),
    "slice_step_0": (one("Slice", ("x", "z", "z", "z", "z"), [ints("z", [0])]), ["step"]),
    "squeeze_not_1": (one("Squeeze", ("x", "a"), [ints("a", [1])]), []),
    "gather_index": (one("Gather", ("w", "i"), [tensor("w", [3], struct.pack("<3f", 1, 2, 3)), ints("i", [99])]), ["99"]),
    "gather_axis": (one("Gather", ("x", "i"), [ints("i", [0])], axis=9), ["axis"]),
    # tensors
    "tensor_overflow": (weight(tensor("w", [BIG, 8], b"\0" * 16)), ["w"]),
    "tensor_negative": (weight(tensor("w", [-1], b"\0" * 4)), ["w"]),
    "tensor_short": (weight(tensor("w", [3], b"\0" * 8)), ["w"]),
    "tensor_long": (weight(tensor("w", [3], b"\0" * 16)), ["w"]),
    "tensor_no_data": (weight(tensor("w", [3], b"-")), ["w"]),
    "tensor_both": (weight(tensor("w", [3], None, FLOAT, data(4, struct.pack("<3f", 1, 2, 3)))), ["w"]),
    "tensor_wrong_list": (weight(tensor("w", [3], b"-", FLOAT, data(7, bytes([1, 2, 3])))), ["w"]),
    "tensor_dtype_0": (weight(tensor("w", [3], None, 0)), ["w"]),
    "tensor_dtype_999": (weight(tensor("w", [3], None, 999)), ["w"]),
    "tensor_rank_17": (weight(tensor("w", [1] * 17, b"\0" * 4)), ["w"]),
    "tensor_int4_odd": (model(graph([node("DequantizeLinear", ["w", "s"], ["y"])], [tensor("w", [5], b"\0\0", 22), tensor("s", [])], ()), opset=21), ["w"]),
    # external data (files made below)
    "external_parent": (weight(external("w", [3], location="../secret.bin")), ["secret"]),
    "external_inner_parent": (weight(external("w", [3], location="sub/../../secret.bin")), []),
    "external_absolute": (weight(external("w", [3], location="/etc/hostname")), ["absolute"]),
    "external_symlink": (weight(external("w", [3], location="link.bin")), []),
    "external_symlink_folder": (weight(external("w", [3], location="linked/secret.bin")), []),
    "external_hardlink": (weight(external("w", [3], location="hard.bin")), []),
    "external_fifo": (weight(external("w", [3], location="pipe")), []),
    "external_folder": (weight(external("w", [3], location="sub")), []),
    "external_device": (weight(external("w", [3], location="/dev/zero")), []),
    "external_missing": (weight(external("w", [3], location="nowhere.bin")), ["nowhere.bin"]),
    "external_empty_location": (weight(external("w", [3], location="")), []),
    "external_no_location": (weight(external("w", [3], offset="0")), ["location"]),
    "external_long_location": (weight(external("w", [3], location="a/" * 2600 + "b")), []),
    "external_nul": (weight(external("w", [3], location="data.bin\0.txt")), None),
    "external_unknown_key": (weight(external("w", [3], location="data.bin", basepath="/etc")), ["basepath"]),
    "external_offset_negative": (weight(external("w", [3], location="data.bin", offset="-4")), ["offset"]),
    "external_offset_past": (weight(external("w", [3], location="data.bin", offset="999999")), []),
    "external_offset_huge": (weight(external("w", [3], location="data.bin", offset="18446744073709551612")), ["offset"]),
    "external_length_past": (weight(external("w", [3], location="data.bin", offset="60", length="12")), []),
    "external_length_wrong": (weight(external("w", [3], location="data.bin", length="8")), ["w"]),
    "external_length_overflow": (weight(external("w", [3], location="data.bin", offset="9223372036854775807", length="9223372036854775807")), []),
    "external_length_text": (weight(external("w", [3], location="data.bin", length="12abc")), ["length"]),
}


def write_external(folder):
    (folder.parent / "secret.bin").write_bytes(b"\x42" * 64)
    (folder / "data.bin").write_bytes(b"\0" * 64)
    (folder / "sub").mkdir(exist_ok=True)
    for name, make in (("link.bin", lambda p: p.symlink_to("../secret.bin")), ("linked", lambda p: p.symlink_to("..")),
                       ("hard.bin", lambda p: os.link(folder.parent / "secret.bin", p)), ("pipe", os.mkfifo)):
        if not os.path.lexists(folder / name):
            make(folder / name)


# name -> (change of the bytes of an artifact, exit codes, words)
def put(at, raw):
    return lambda b: b[:at] + raw + b[at + len(raw):]


ARTIFACTS = {
    "version_99": (put(8, struct.pack("<I", 99)), [3], ["version"]),
    "version_0": (put(8, b"\0\0\0\0"), [3], ["version"]),
    "isa_unknown": (put(32, b"avx9000\0"), [5], ["avx9000"]),
    "arch_other": (put(48, b"riscv64\0"), [5], ["riscv64"]),
    "text_no_end": (put(32, b"x" * 64), [3], []),
    "sections_many": (put(12, b"\xff\xff\xff\x7f"), [3], []),
    "size_wrong": (put(16, struct.pack("<Q", 5)), [3], []),
    "cut": (lambda b: b[: len(b) // 2], [3], []),
    "longer": (lambda b: b + b"\0" * 64, [3], []),
    "flipped": (lambda b: b[:600] + bytes([b[600] ^ 1]) + b[601:], [3], ["checksum"]),
    "header_only": (lambda b: b[:96], [3], []),
    "magic_only": (lambda b: b[:8], [3], []),
}


def write_artifacts(folder, sard):
    good, neon = folder / "good.sard", folder / "other_machine.sard"
    (folder / "good.onnx").write_bytes(GOOD)
    subprocess.run([sard, "compile", folder / "good.onnx", "-o", good, "-q"], check=True)
    other = "neon" if os.uname().machine == "x86_64" else "baseline"
    subprocess.run([sard, "compile", folder / "good.onnx", "-o", neon, "-q", f"--target={other}"], check=True)
    for name, (change, _, _) in ARTIFACTS.items():
        (folder / f"{name}.sard").write_bytes(change(good.read_bytes()))


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (content, _) in MODELS.items():
        (folder / f"{name}.onnx").write_bytes(content)
    write_external(folder)
    if len(sys.argv) > 2:
        write_artifacts(folder, sys.argv[2])


if __name__ == "__main__":
    main()
