"""Float8, float6, float4, e8m0 and integers of 2 and 4 bits through the operators that move and quantize them, against numpy.

usage: python3 packed_cases.py SARD [TYPE...]         prints FAIL lines and "N passed, M failed"
       python3 packed_cases.py --save=FOLDER [TYPE...] writes the cases as make_cases.py writes ONNX's, and runs nothing

Every model runs with static dims at -O0 with one thread, and with static and symbolic dims at -O3 with two. Counts are odd,
one and zero, so that rows share bytes and the last byte is not full.
"""
import os
import sys
import tempfile

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import many

TYPES = ["FLOAT6E2M3", "FLOAT6E3M2", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0", "FLOAT4E2M1", "INT4", "UINT4",
         "INT2", "UINT2"]
random = np.random.default_rng(0)
node = helper.make_node


def ints(*values):
    return np.array(values, dtype=np.int64)


def wide(a):
    return a.astype(np.float32)


def saturated(a):
    """What Cast makes of these numbers in their own type: infinities become the largest number."""
    if "int" in a.dtype.name or not np.isinf(wide(a)).any():
        return a
    return np.where(np.isinf(wide(a)), np.copysign(wide(ml_dtypes.finfo(a.dtype).max), wide(a)), wide(a)).astype(a.dtype)


def codes(dtype, shape):
    """All bit patterns, in random order."""
    n = int(np.prod(shape))
    if "int" in dtype.name:
        limits = ml_dtypes.iinfo(dtype)
        return random.integers(int(limits.min), int(limits.max) + 1, n).astype(dtype).reshape(shape)
    top = 16 if "float4" in dtype.name else 64 if "float6" in dtype.name else 256
    return random.integers(0, top, n, dtype=np.uint8).view(dtype).reshape(shape)


def bits(a, dtype):
    """The same bits; numpy holds packed elements in a byte each, signed ones with their sign."""
    raw = a.copy().view(np.uint8)
    if "int" in dtype.name and dtype.name[0] == "i":
        n = 8 - int(dtype.name[3:])
        return (raw << n).view(np.int8) >> n if n == 0 else ((raw << n).view(np.int8) >> n).astype(dtype)
    width = {"uint4": 15, "float4_e2m1fn": 15, "uint2": 3}.get(dtype.name, 255)
    return (raw & width).view(dtype)


class Runner:
    flags = (["-O0", "--threads", "1"], ["-O3", "--threads", "2"])
    opset, ir_version = 26, 13

    def __init__(self, sard):
        self.sard, self.passed, self.failed = sard, 0, 0
        self.folder = sard[7:] if sard.startswith("--save=") else None
        self.room = tempfile.TemporaryDirectory()

    def fail(self, name, text):
        self.failed += 1
        print(f"FAIL {name}: {text}")

    def model(self, nodes, ins, outs, consts, symbolic):
        def info(name, array, open_dims):
            dims = [f"{name}_{i}" for i in range(array.ndim)] if open_dims else array.shape
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), dims)

        def open_info(name, array):
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)

        graph = helper.make_graph(nodes, "g", [info(n, a, symbolic) for n, a in ins.items()],
                                  [open_info(n, a) if symbolic else info(n, a, False) for n, a in outs.items()],
                                  [numpy_helper.from_array(a, n) for n, a in consts.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.ir_version)

    def same(self, got, want):
        return np.array_equal(wide(got), wide(want), equal_nan=True)

    def once(self, name, outs, flags):
        at = self.room.name
        done = many.run(self.sard, "run", f"{at}/m.onnx", "--inputs", at, "--outputs", f"{at}/out", "-q", *flags)
        if done.returncode:
            return self.fail(name, done.stderr.strip().replace("\n", " | ")[:300])
        for i, (output, want) in enumerate(outs.items()):
            got = numpy_helper.to_array(onnx.load_tensor(f"{at}/out/output_{i}.pb"))
            if got.dtype != want.dtype or got.shape != want.shape or not self.same(got, want):
                return self.fail(name, f"{output} is {got.dtype}{list(got.shape)} {got.ravel()[:8]}, not {want.dtype}{list(want.shape)} {want.ravel()[:8]}")
        self.passed += 1

    def save(self, name, model, ins):
        at = os.path.join(self.folder, "test_" + "".join(c if c.isalnum() else "_" for c in name))
        os.makedirs(f"{at}/test_data_set_0", exist_ok=True)
        onnx.save(model, f"{at}/model.onnx")
        for i, (n, a) in enumerate(ins.items()):
            onnx.save_tensor(numpy_helper.from_array(a, n), f"{at}/test_data_set_0/input_{i}.pb")
        with open(f"{at}/case.txt", "w") as f:
            f.write("\n".join(["0 0", *ins, ""]))

    def run(self, name, nodes, ins, outs, consts=None, forms=(False, True)):
        if self.folder:
            return self.save(name, self.model(nodes, ins, outs, consts or {}, False), ins)
        for symbolic in forms:
            onnx.save(self.model(nodes, ins, outs, consts or {}, symbolic), f"{self.room.name}/m.onnx")
            for i, (n, a) in enumerate(ins.items()):
                onnx.save_tensor(numpy_helper.from_array(a, n), f"{self.room.name}/input_{i}.pb")
            for flags in self.flags[symbolic:]:
                self.once(f"{name}{' symbolic' if symbolic else ''} {flags[0]}", outs, flags)


def moves(r, name, dtype, shape):
    x, y = codes(dtype, shape), codes(dtype, shape)
    r.run(f"{name} Transpose", [node("Transpose", ["x"], ["y"])], {"x": x}, {"y": x.T.copy()})
    r.run(f"{name} Concat", [node("Concat", ["x", "z"], ["y"], axis=1), node("Concat", ["x", "z"], ["w"], axis=0)],
          {"x": x, "z": y}, {"y": np.concatenate([x, y], 1), "w": np.concatenate([x, y], 0)})
    r.run(f"{name} views", [node("Flatten", ["x"], ["f"], axis=0), node("Unsqueeze", ["x", "a"], ["u"]),
                            node("Squeeze", ["u", "a"], ["w"]), node("Reshape", ["x", "s"], ["v"]), node("Size", ["x"], ["n"])],
          {"x": x}, {"f": x.reshape(1, -1), "w": x, "v": x.reshape(x.size), "n": np.array(x.size)}, {"a": ints(1), "s": ints(x.size)})
    if "float6" not in dtype.name:
        others = {"8": "UINT8 FLOAT8E5M2", "4": "UINT4 INT4 FLOAT4E2M1", "2": "INT2 UINT2"}[dtype.name.lstrip("uintfloa")[0]].split()
        others = {t: np.dtype(helper.tensor_dtype_to_np_dtype(getattr(TensorProto, t))) for t in others}
        r.run(f"{name} BitCast", [node("BitCast", ["x"], [t], to=getattr(TensorProto, t)) for t in others] +
              [node("Transpose", ["x"], ["t"]), node("BitCast", ["t"], ["u"], to=getattr(TensorProto, list(others)[0])), node("Concat", ["u", "u"], ["w"], axis=0)],
              {"x": x}, {**{t: bits(x, d) for t, d in others.items()}, "w": np.concatenate([bits(x.T, list(others.values())[0])] * 2, 0)})
    if x.size:
        r.run(f"{name} Cast", [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), node("CastLike", ["y", "x"], ["w"])],
              {"x": x}, {"y": wide(x), "w": saturated(x)})
    if x.size < 2:
        return
    k, chosen = ints(2, 0, 1, 1), random.integers(0, 2, shape).astype(bool)
    r.run(f"{name} Slice", [node("Slice", ["x", "b", "e", "a", "s"], ["y"])], {"x": x}, {"y": x[1:, ::-2].copy()},
          {"b": ints(1, -1), "e": ints(100, -100), "a": ints(0, 1), "s": ints(1, -2)})
    r.run(f"{name} Gather", [node("Gather", ["x", "k"], ["y"], axis=1)], {"x": x, "k": k}, {"y": x[:, k]})
    r.run(f"{name} Split", [node("Split", ["x"], ["y", "w"], axis=1, num_outputs=2)], {"x": x},
          {"y": x[:, :(shape[1] + 1) // 2].copy(), "w": x[:, (shape[1] + 1) // 2:].copy()})
    r.run(f"{name} Tile", [node("Tile", ["x", "r"], ["y"]), node("Expand", ["x", "e"], ["w"])], {"x": x},
          {"y": np.tile(x, (2, 3)), "w": np.broadcast_to(x, (2, *shape)).copy()}, {"r": ints(2, 3), "e": ints(2, 1, 1)})
    r.run(f"{name} Where", [node("Where", ["c", "x", "z"], ["y"])], {"c": chosen, "x": x, "z": y}, {"y": np.where(chosen, x, y)})
    r.run(f"{name} chain", [node("Transpose", ["x"], ["t"]), node("Concat", ["t", "t"], ["u"], axis=1),
                            node("Transpose", ["u"], ["v"]), node("Concat", ["v", "x", "z"], ["y"], axis=0)],
          {"x": x, "z": y}, {"y": np.concatenate([x, x, x, y], 0)})
    if "e8m0" not in dtype.name:
        side = np.zeros((shape[0], 1), dtype)
        r.run(f"{name} Pad", [node("Pad", ["x", "p"], ["y"])], {"x": x}, {"y": np.concatenate([side, x, side, side], 1)}, {"p": ints(0, 1, 0, 2)})


def control(r, name, dtype, shape):
    x, y, t = codes(dtype, shape), codes(dtype, shape), helper.np_dtype_to_tensor_dtype(dtype)

    def info(n, dims, of=t):
        return helper.make_tensor_value_info(n, of, dims)

    r.run(f"{name} If", [node("If", ["b"], ["y"], then_branch=helper.make_graph([node("Transpose", ["x"], ["t"])], "t", [], [info("t", None)]),
                              else_branch=helper.make_graph([node("Identity", ["z"], ["e"])], "e", [], [info("e", None)]))],
          {"b": np.array(True), "x": x, "z": y}, {"y": x.T.copy()})
    counter = [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL)]
    state = y[0]
    for _ in range(shape[0]):
        state = np.concatenate([state, y[1][:1]])[1:]
    body = helper.make_graph(
        [node("Slice", ["y1", "zero", "one", "zero"], ["s0"]), node("Identity", ["c"], ["c2"]), node("Gather", ["x", "i"], ["r"], axis=0),
         node("Concat", ["s", "s0"], ["sn"], axis=0), node("Slice", ["sn", "one", "big", "zero"], ["s2"])],
        "b", [*counter, info("s", [shape[1]])], [info("c2", [], TensorProto.BOOL), info("s2", [shape[1]]), info("r", [shape[1]])])
    r.run(f"{name} Loop", [node("Gather", ["z", "k0"], ["y0"], axis=0), node("Gather", ["z", "k1"], ["y1"], axis=0),
                           node("Loop", ["n", "", "y0"], ["last", "rows"], body=body)],
          {"x": x, "z": y, "n": np.array(shape[0])}, {"last": state, "rows": x},
          {"k0": np.array(0), "k1": np.array(1), "one": ints(1), "zero": ints(0), "big": ints(1000)})
    body = helper.make_graph([node("Gather", ["x", "i"], ["r"], axis=0), node("Less", ["i", "limit"], ["c2"])], "b", counter,
                             [info("c2", [], TensorProto.BOOL), info("r", [shape[1]])])
    r.run(f"{name} Loop until", [node("Loop", ["", "b"], ["rows"], body=body)],
          {"x": x, "b": np.array(True), "limit": np.array(1)}, {"rows": x[:2]})
    body = helper.make_graph([node("Identity", ["xi"], ["yo"])], "b", [info("xi", [shape[1]])], [info("yo", [shape[1]])])
    r.run(f"{name} Scan", [node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1, scan_output_directions=[1])], {"x": x}, {"y": x[::-1].copy()})


def rounded(dtype, x, zero):
    if "int" in dtype.name:
        limits = ml_dtypes.iinfo(dtype)
        return np.clip(np.rint(x) + wide(zero), float(limits.min), float(limits.max)).astype(dtype)
    top = float(ml_dtypes.finfo(dtype).max)
    return np.clip(x, -top, top).astype(dtype)


def quantized(r, name, dtype):
    x, f = codes(dtype, (3, 6)), (random.standard_normal((3, 6)) * 4).astype(np.float32)
    s, b = np.array([.5, 2, .25, 4, 1, 8], np.float32), np.array([[.5, 2, .25], [4, 1, 8], [2, 2, 1]], np.float32)
    z = codes(dtype, (6,)) if "int" in dtype.name else np.zeros(6, dtype)
    kind, blocks = helper.np_dtype_to_tensor_dtype(dtype), np.repeat(b, 2, 1)
    r.run(f"{name} DequantizeLinear axis", [node("DequantizeLinear", ["x", "s", "z"], ["y"], axis=1)], {"x": x, "s": s, "z": z}, {"y": (wide(x) - wide(z)) * s})
    r.run(f"{name} DequantizeLinear", [node("DequantizeLinear", ["x", "s"], ["y"])], {"x": x, "s": np.array(.5, np.float32)}, {"y": wide(x) * np.float32(.5)})
    r.run(f"{name} DequantizeLinear blocks", [node("DequantizeLinear", ["x", "s"], ["y"], axis=1, block_size=2)], {"x": x, "s": b}, {"y": wide(x) * blocks})
    r.run(f"{name} QuantizeLinear axis", [node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=1)], {"x": f, "s": s, "z": z}, {"y": rounded(dtype, f / s, z)})
    r.run(f"{name} QuantizeLinear blocks", [node("QuantizeLinear", ["x", "s"], ["y"], axis=1, block_size=2, output_dtype=kind)],
          {"x": f, "s": b}, {"y": rounded(dtype, f / blocks, np.zeros(1))})


def weights(r, name, dtype):
    """A product that widens its constant operand where it reads it (small numbers: the sums are exact)."""
    k, n, block = 512, 144, 32
    w = random.integers(0 if name[0] == "U" else -2, 2, (k, n)).astype(dtype)
    s = 2.0 ** random.integers(-1, 2, (k // block, n)).astype(np.float32)
    x = random.integers(-3, 4, (3, k)).astype(np.float32)
    r.run(f"{name} weight of MatMul", [node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=block), node("MatMul", ["x", "d"], ["y"])],
          {"x": x}, {"y": x @ (wide(w) * np.repeat(s, block, 0))}, {"w": w, "s": s})
    z = random.integers(0, 2, s.shape).astype(dtype)
    y = x @ ((wide(w) - np.repeat(wide(z), block, 0)) * np.repeat(s, block, 0))
    r.run(f"{name} weight and zeros of MatMul", [node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0, block_size=block), node("MatMul", ["x", "d"], ["y"])],
          {"x": x}, {"y": y}, {"w": w, "s": s, "z": z})
    r.run(f"{name} turned weight of MatMul", [node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=-1, block_size=block), node("Transpose", ["d"], ["t"]),
                                              node("MatMul", ["x", "t"], ["y"])], {"x": x}, {"y": y}, {"w": w.T.copy(), "s": s.T.copy(), "z": z.T.copy()})


def main():
    r = Runner(sys.argv[1])
    for name in TYPES if len(sys.argv) < 3 else sys.argv[2:]:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name)))
        for shape in ((7, 9), (1, 1), (0, 3)):
            moves(r, f"{name} {shape}", dtype, shape)
        control(r, name, dtype, (3, 5))
        one = np.array([2 if "E8M0" in name else 1]).astype(dtype)
        r.run(f"{name} ConstantOfShape", [node("ConstantOfShape", ["s"], ["y"], value=numpy_helper.from_array(one))], {},
              {"y": np.broadcast_to(one, (3, 7)).copy()}, {"s": ints(3, 7)}, forms=(False,))
        if "E8M0" not in name:
            quantized(r, name, dtype)
            if "8" not in name:
                weights(r, name, dtype)
    print(f"{r.passed} passed, {r.failed} failed")
    return r.failed != 0


if __name__ == "__main__":
    os.environ.pop("SARD_ISA", None)
    sys.exit(main())
