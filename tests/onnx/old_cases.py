"""Old forms of operators against numpy: opsets 1 to 12, and operators that only opset 1 had.

usage: python3 old_cases.py SARD [PREFIX...]     last line: N passed, N failed

Each model runs with the dims as they are and with all dims of its inputs symbolic.
"""
import os
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import many

rng = np.random.default_rng(5)
CASES = []
F = np.float32


def f32(*shape):
    return rng.standard_normal(shape).astype(F)


def case(name, opset, op, inputs, want, const=(), outputs=None, unread=(), ir=3, **attrs):
    """inputs: arrays, None where omitted; const: numbers of those that are initializers; want: array, or one per output;
    unread: outputs of the node that the graph does not have."""
    want = list(want) if isinstance(want, (list, tuple)) else [want]
    outputs = outputs or [f"y{i}" for i in range(len(want))]
    CASES.append((name, opset, op, inputs, want, set(const), outputs, list(unread), ir, attrs))


def model_of(c, symbolic):
    name, opset, op, inputs, want, const, outputs, unread, ir, attrs = c
    names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
    infos, init = [], []
    for i, a in enumerate(inputs):
        if a is None:
            continue
        if i in const:
            init.append(numpy_helper.from_array(a, names[i]))
        dims = [f"x{i}_{k}" if symbolic and i not in const else d for k, d in enumerate(a.shape)]
        infos.append(helper.make_tensor_value_info(names[i], helper.np_dtype_to_tensor_dtype(a.dtype), dims))
    named = [o for o in outputs if o]
    graph = helper.make_graph([helper.make_node(op, names, outputs + unread, name="node", **attrs)], "case", infos,
                              [onnx.ValueInfoProto(name=o) for o in named], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    if ir < 3:
        del model.opset_import[:]
    return model


def run(sard, c, symbolic, folder):
    model = model_of(c, symbolic)
    path, ins, outs = f"{folder}/model.onnx", f"{folder}/in", f"{folder}/out"
    os.makedirs(ins, exist_ok=True)
    with open(path, "wb") as f:
        f.write(model.SerializeToString())
    init = {t.name for t in model.graph.initializer}
    free = [i for i in model.graph.input if i.name not in init]
    for k, info in enumerate(free):
        with open(f"{ins}/input_{k}.pb", "wb") as f:
            f.write(numpy_helper.from_array(c[3][int(info.name[1:])], info.name).SerializeToString())
    p = many.run(sard, "run", path, "--inputs", ins, "--outputs", outs, "--quiet")
    if p.returncode:
        return f"exit {p.returncode}: {' '.join(p.stderr.split())[:400]}"
    for i, want in enumerate(c[4]):
        got = numpy_helper.to_array(onnx.load_tensor(f"{outs}/output_{i}.pb"))
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"
        if not np.allclose(got, want, rtol=1e-4, atol=1e-5):
            return f"output {i}: {got.ravel()[:6]} instead of {want.ravel()[:6]}"
    return None


# ---- broadcasting by attributes ----
def broadcasting():
    a, c = f32(2, 3, 4, 5), f32(2, 3, 4, 5)
    ops = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Greater": np.greater, "Less": np.less}
    for op, f in ops.items():
        version = 1 if op in ("Greater", "Less") else 6
        case(f"{op}_same", version, op, [a, c], f(a, c))
        for axis, b in ((1, f32(3)), (1, f32(3, 4)), (2, f32(4)), (-3, f32(3)), (0, f32(2)), (2, f32(4, 5)), (1, f32(3, 1, 5))):
            shape = (1,) * (axis % 4) + b.shape + (1,) * (4 - axis % 4 - b.ndim)
            case(f"{op}_axis{axis}_{b.ndim}", version, op, [a, b], f(a, b.reshape(shape)), broadcast=1, axis=axis)
        b = f32(5)
        case(f"{op}_last", version, op, [a, b], f(a, b), broadcast=1)
        b = np.array(0.5, F)
        case(f"{op}_scalar", version, op, [a, b], f(a, b), broadcast=1)
    b = np.array([1, 2, 0.5], F)
    case("Pow_axis", 1, "Pow", [np.abs(a), b], np.abs(a) ** b.reshape(3, 1, 1), broadcast=1, axis=1)
    p, q = rng.random((2, 3, 4)) > 0.5, rng.random(3) > 0.5
    for op, f in (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)):
        case(f"{op}_axis", 1, op, [p, q], f(p, q[:, None]), broadcast=1, axis=1)
    i, j = rng.integers(0, 3, (2, 3, 4)).astype(np.int32), rng.integers(0, 3, 3).astype(np.int32)
    case("Equal_axis", 1, "Equal", [i, j], i == j[:, None], broadcast=1, axis=1)
    case("Add_consumed", 1, "Add", [a, a], a + a, consumed_inputs=[0, 0])
    slope = f32(3)
    case("PRelu_channel", 6, "PRelu", [a, slope], np.where(a < 0, a * slope[:, None, None], a))
    one = f32(1)
    case("PRelu_one", 1, "PRelu", [a, one], np.where(a < 0, a * one, a), consumed_inputs=[0, 0])
    case("PRelu_matrix", 6, "PRelu", [a[0, 0, :, :3], slope], np.where(a[0, 0, :, :3] < 0, a[0, 0, :, :3] * slope, a[0, 0, :, :3]))
    m, k, n = f32(4, 3), f32(3, 5), f32(5)
    case("Gemm_row", 6, "Gemm", [m, k, n], 2 * (m @ k) + n, broadcast=1, alpha=2.0)
    case("Gemm_scalar", 1, "Gemm", [m.T.copy(), k, np.array([0.5], F)], m @ k + F(0.5), broadcast=1, transA=1)


# ---- attributes that became operands, other types, other defaults ----
def attributes():
    a = f32(2, 3, 4, 5)
    case("Reshape_attribute", 1, "Reshape", [a], a.reshape(6, 20), shape=[6, -1], consumed_inputs=[0])
    case("Reshape_zero", 4, "Reshape", [a], a.reshape(2, 60), shape=[0, -1])
    case("Cast_name", 1, "Cast", [a], a.astype(np.int32), to="INT32")
    case("Cast_double", 5, "Cast", [a], a.astype(np.float64), to="DOUBLE")
    case("Concat_default", 1, "Concat", [a, a], np.concatenate([a, a], 1))
    case("Concat_axis", 3, "Concat", [a, a], np.concatenate([a, a], 2), axis=2)
    case("Clip_none", 1, "Clip", [a], a)
    case("Clip_min", 6, "Clip", [a], np.maximum(a, F(-0.5)), min=-0.5)
    case("Clip_both", 1, "Clip", [a], np.clip(a, F(-0.5), F(0.25)), min=-0.5, max=0.25, consumed_inputs=[0])
    case("Pad_paddings", 1, "Pad", [a], np.pad(a, ((0, 0), (0, 0), (1, 3), (2, 0)), constant_values=2), value=2.0,
         paddings=[0, 0, 1, 2, 0, 0, 3, 0], mode="constant")
    case("Pad_reflect", 2, "Pad", [a], np.pad(a, ((0, 0), (0, 0), (1, 2), (2, 0)), mode="reflect"), mode="reflect",
         pads=[0, 0, 1, 2, 0, 0, 2, 0])
    case("Split_attribute", 1, "Split", [a], np.split(a, [1], 1), axis=1, split=[1, 2])
    case("Split_equal", 2, "Split", [a], np.split(a, 2, 2), axis=2)
    case("Split_operand", 1, "Split", [a, np.array([3, 1], F)], np.split(a, [3], 2), const=[1], axis=2)
    for t in (np.float32, np.int64):
        case(f"Tile_{t.__name__}", 1, "Tile", [a, np.array(2, t), np.array(1, t)], np.tile(a, (1, 2, 1, 1)), const=[1, 2])
    case("Tile_list", 1, "Tile", [a, np.array([3], F), np.array([3], F)], np.tile(a, (1, 1, 1, 3)), const=[1, 2])
    x = f32(1, 1, 2, 2)
    case("Upsample_scales", 1, "Upsample", [x], x.repeat(2, 2).repeat(3, 3), height_scale=2.0, width_scale=3.0, mode="nearest")
    case("Upsample_7", 7, "Upsample", [x], x.repeat(2, 2).repeat(2, 3), scales=[1.0, 1.0, 2.0, 2.0])
    row = np.arange(10, dtype=F).reshape(1, 1, 1, 10)
    for s, at in ((0.3, [0, 4, 7]), (0.5, [0, 2, 4, 6, 8]), (0.7, [0, 2, 3, 5, 6, 8, 9]), (1.5, [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9])):
        for const in ([1], []):  # what ONNX Runtime gives: down where an axis grows, up where it shrinks
            case(f"Resize_10_by_{s}_{'known' if const else 'open'}", 10, "Resize", [row, np.array([1, 1, 1, s], F)], row[..., at], const=const, mode="nearest")
    case("Resize_10_example", 10, "Resize", [np.arange(1, 9, dtype=F).reshape(1, 1, 2, 4), np.array([1, 1, 0.6, 0.6], F)], np.array([[[[1, 3]]]], F),
         const=[1], mode="nearest")
    case("Slice_1", 1, "Slice", [a], a[:, 1:3, :, -2:], axes=[1, 3], starts=[1, -2], ends=[3, 1000])
    case("Slice_all", 1, "Slice", [a], a[0:1, 0:2, 1:4, 2:5], starts=[0, 0, 1, 2], ends=[1, 2, 4, 5])
    case("Squeeze_1", 1, "Squeeze", [x], x[0, 0], axes=[0, 1])
    case("Unsqueeze_1", 1, "Unsqueeze", [x], x[None, :, :, :, :, None], axes=[0, 5])
    for op, f in (("ReduceSum", np.sum), ("ReduceMean", np.mean), ("ReduceMax", np.max), ("ReduceMin", np.min), ("ReduceProd", np.prod)):
        case(f"{op}_1", 1, op, [a], f(a, axis=(1, 2), keepdims=True), axes=[1, 2])
        case(f"{op}_all", 1, op, [a], np.asarray(f(a)), keepdims=0)
    case("ReduceLogSumExp_1", 1, "ReduceLogSumExp", [a], np.log(np.exp(a).sum(3)), axes=[3], keepdims=0)
    case("ArgMax_1", 1, "ArgMax", [a], a.argmax(1), axis=1, keepdims=0)
    case("ArgMin_1", 1, "ArgMin", [a], a.argmin(0)[None])
    order = np.argsort(-a, 2, kind="stable")[:, :, :2]
    case("TopK_1", 1, "TopK", [a], [np.take_along_axis(a, order, 2), order], axis=2, k=2)
    for op, f in (("Max", np.maximum), ("Min", np.minimum), ("Sum", np.add)):
        case(f"{op}_1", 1, op, [a, -a, a * 2], f(f(a, -a), a * 2), consumed_inputs=[0, 0, 0])
    case("Mean_1", 1, "Mean", [a, a * 2], a * F(1.5))
    case("Selu_default", 1, "Selu", [a], F(1.0507) * np.where(a > 0, a, F(1.6732) * np.expm1(a)))
    flat = np.exp(a.reshape(2, 60) - a.reshape(2, 60).max(1, keepdims=True))
    case("Softmax_default", 1, "Softmax", [a], (flat / flat.sum(1, keepdims=True)).reshape(a.shape))
    hard = np.zeros((6, 20), F)
    hard[np.arange(6), a.reshape(6, 20).argmax(1)] = 1
    case("Hardmax_2", 1, "Hardmax", [a], hard.reshape(a.shape), axis=2)
    case("GlobalLpPool_float", 1, "GlobalLpPool", [a], np.sqrt((a ** 2).sum((2, 3), keepdims=True)), p=2.0)
    win = lambda x: np.stack([x[:, :, i::2, j::2][:, :, :2, :2] for i in (0, 1) for j in (0, 1)], -1)
    case("LpPool_float", 1, "LpPool", [a], np.sqrt((win(a) ** 2).sum(-1)), kernel_shape=[2, 2], strides=[2, 2], p=2.0)
    case("AveragePool_1", 1, "AveragePool", [a], win(a).mean(-1), kernel_shape=[2, 2], strides=[2, 2])
    case("MaxPool_1", 1, "MaxPool", [a], win(a).max(-1), kernel_shape=[2, 2], strides=[2, 2])
    case("no_opset", 1, "Reshape", [a], a.reshape(120), ir=2, shape=[120])


# ---- normalizations, dropout ----
def norm(x, scale, b, mean, var, eps=1e-5):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return ((x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + F(eps)) * scale.reshape(shape) + b.reshape(shape)).astype(F)


def normalizations():
    x, s, b, m, v = f32(2, 3, 4, 5), f32(3), f32(3), f32(3), np.abs(f32(3)) + F(0.5)
    y = norm(x, s, b, m, v)
    case("BatchNormalization_1", 1, "BatchNormalization", [x, s, b, m, v], y, is_test=1, consumed_inputs=[0, 0, 0, 1, 1], momentum=0.9)
    case("BatchNormalization_6", 6, "BatchNormalization", [x, s, b, m, v], y, is_test=1, spatial=1, epsilon=1e-5)
    case("BatchNormalization_dead", 6, "BatchNormalization", [x, s, b, m, v], y, is_test=1, unread=["m", "v", "sm", "sv"])
    case("BatchNormalization_7", 7, "BatchNormalization", [x, s, b, m, v], y, momentum=0.5)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    train = [norm(x, s, b, mean, var), m * F(0.75) + mean * F(0.25), v * F(0.75) + var * F(0.25)]
    case("BatchNormalization_train", 9, "BatchNormalization", [x, s, b, m, v], train, momentum=0.75)
    case("BatchNormalization_train_6", 6, "BatchNormalization", [x, s, b, m, v], train, momentum=0.75)
    es, eb, em, ev = f32(3, 4), f32(3, 4), f32(3, 4), np.abs(f32(3, 4)) + F(0.5)
    z = f32(2, 3, 4)
    case("BatchNormalization_element", 7, "BatchNormalization", [z, es, eb, em, ev],
         ((z - em) / np.sqrt(ev + F(1e-3)) * es + eb).astype(F), const=[1, 2, 3, 4], spatial=0, epsilon=1e-3)
    mi, vi = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    case("InstanceNormalization_1", 1, "InstanceNormalization", [x, s, b],
         (x - mi) / np.sqrt(vi + F(1e-5)) * s[:, None, None] + b[:, None, None], consumed_inputs=[0, 0, 0])
    case("Dropout_1", 1, "Dropout", [x], x, is_test=1, ratio=0.3, consumed_inputs=[0])
    case("Dropout_mask_6", 6, "Dropout", [x], [x, np.ones_like(x)], is_test=1)
    case("Dropout_mask_7", 7, "Dropout", [x], [x, np.ones_like(x)], ratio=0.25)
    case("Dropout_mask_10", 10, "Dropout", [x], [x, np.ones(x.shape, bool)], ratio=0.25)
    case("Dropout_keep", 6, "Dropout", [x], x, ratio=0.0)
    for across, axes in ((0, (0, 2, 3)), (1, (0, 1, 2, 3))):
        mean, std = x.mean(axes, keepdims=True), x.std(axes, keepdims=True)
        case(f"MVN_{across}", 1, "MeanVarianceNormalization", [x], (x - mean) / std, across_channels=across, normalize_variance=1)
        case(f"MVN_mean_{across}", 1, "MeanVarianceNormalization", [x], x - mean, across_channels=across, normalize_variance=0)


def recurrent():
    x, w, r = f32(3, 2, 4), f32(1, 5, 4), f32(1, 5, 5)
    h, all_h = np.zeros((2, 5), F), []
    for t in range(3):
        h = np.tanh(x[t] @ w[0].T + h @ r[0].T)
        all_h.append(h)
    case("RNN_1", 1, "RNN", [x, w, r], [np.stack(all_h)[:, None], h[None]], hidden_size=5, output_sequence=1)
    case("RNN_1_last", 1, "RNN", [x, w, r], h[None], outputs=["", "y_h"], hidden_size=5, output_sequence=0)
    for op, gates in (("LSTM", 4), ("GRU", 3)):
        zero = np.zeros((1, 2, 5), F)
        case(f"{op}_1", 1, op, [x, f32(1, 5 * gates, 4) * 0, f32(1, 5 * gates, 5) * 0], zero, outputs=["", "y_h"], hidden_size=5,
             output_sequence=0)


def scans():
    """Opset 8: batch [2], sequence [3]; the state is a running sum, scan outputs are the sum and twice the second operand."""
    info = lambda n: helper.make_tensor_value_info(n, TensorProto.FLOAT, [4])
    body = helper.make_graph([helper.make_node("Add", ["s", "a"], ["t"]), helper.make_node("Identity", ["t"], ["y"]),
                              helper.make_node("Add", ["b", "b"], ["z"])], "body", [info(n) for n in "sab"], [info(n) for n in "tyz"])
    s, a, b = f32(2, 4), f32(2, 3, 4), f32(2, 3, 4)
    sums = s[:, None] + np.cumsum(a, 1)
    case("Scan_8", 8, "Scan", [None, s, a, b], [sums[:, -1], sums, b * 2], num_scan_inputs=2, body=body)
    back = s[:, None] + np.cumsum(a[:, ::-1], 1)
    case("Scan_8_back", 8, "Scan", [None, s, a, b], [back[:, -1], back, b * 2], num_scan_inputs=2, body=body, directions=[1, 0])


# ---- of opset 1 only ----
def gone():
    x = f32(2, 3, 6, 7)
    case("Affine", 1, "Affine", [x], F(2) * x + F(0.5), alpha=2.0, beta=0.5)
    case("Scale", 1, "Scale", [x], F(3) * x, scale=3.0)
    case("ScaledTanh", 1, "ScaledTanh", [x], F(1.7) * np.tanh(F(0.6) * x), alpha=1.7, beta=0.6)
    case("ParametricSoftplus", 1, "ParametricSoftplus", [x], F(0.7) * np.log1p(np.exp(F(1.5) * x)), alpha=0.7, beta=1.5)
    case("ThresholdedRelu", 1, "ThresholdedRelu", [x], np.where(x > F(0.5), x, F(0)), alpha=0.5)
    bias = [0.5, -1.0, 2.0]
    case("ImageScaler", 1, "ImageScaler", [x], x * F(0.5) + np.array(bias, F)[:, None, None], scale=0.5, bias=bias)
    case("Crop_border", 1, "Crop", [x], x[:, :, 2:-4, 1:-3], border=[1, 2, 3, 4])
    case("Crop_scale", 1, "Crop", [x], x[:, :, 2:5, 1:5], border=[1, 2, 0, 0], scale=[3, 4])
    case("Crop_none", 1, "Crop", [x], x[:, :, 1:, :], border=[0, 1, 0, 0])
    case("ConstantFill_shape", 1, "ConstantFill", [], np.full((2, 3), 4, F), shape=[2, 3], value=4.0)
    case("ConstantFill_like", 1, "ConstantFill", [x], np.full(x.shape + (2,), 3, np.int32), value=3.0, dtype=6, extra_shape=[2])
    case("ConstantFill_operand", 1, "ConstantFill", [np.array([2, 4], np.int64)], np.zeros((2, 4), F), const=[0], input_as_shape=1)
    case("GivenTensorFill", 1, "GivenTensorFill", [], np.array([[1, 2], [3, 4]], F), shape=[2, 2], values=[1.0, 2.0, 3.0, 4.0])
    case("DynamicSlice", 1, "DynamicSlice", [x, np.array([1, 2]), np.array([2, 1000]), np.array([0, 3])], x[1:2, :, :, 2:], const=[1, 2, 3])


def main():
    sard, prefixes = os.path.abspath(sys.argv[1]), tuple(sys.argv[2:])
    broadcasting(), attributes(), normalizations(), recurrent(), scans(), gone()
    passed, failed = 0, 0
    for c in CASES:
        if prefixes and not c[0].startswith(prefixes):
            continue
        for symbolic in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                bad = run(sard, c, symbolic, folder)
            passed, failed = passed + (not bad), failed + bool(bad)
            if bad:
                print(f"FAIL {c[0]}{' symbolic' if symbolic else ''}: {bad}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
