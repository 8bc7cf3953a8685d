"""Models of one operator in three sizes, with inputs: the rows of operators.py.

A row is a name and three models (small, medium, large). ROWS maps the name to a function that makes the model and its
inputs for size 0, 1 or 2. Inputs come from one seed, so every run measures the same.
"""
import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

OPSETS = [h.make_opsetid("", 20), h.make_opsetid("ai.onnx.ml", 5)]
OLD_ML = [h.make_opsetid("", 20), h.make_opsetid("ai.onnx.ml", 3)]  # the last with the ensembles of one kind
ROWS = {}


def row(name):
    def add(fn):
        ROWS[name] = fn
        return fn
    return add


def random(seed=0): return np.random.default_rng(seed)
def f32(*dims, seed=0): return random(seed).standard_normal(dims, dtype=np.float32)


def ints(high, *dims, seed=1, low=0): return random(seed).integers(low, high, dims, dtype=np.int64)


def model(op, inputs, outputs, const=None, domain="", opset=None, **attrs):
    """A model of one node. inputs: name to array, in order; const: the same for operands that are part of the model;
    outputs: (name, type, rank)."""
    const = const or {}
    order = attrs.pop("order", None) or list(inputs) + list(const)
    node = h.make_node(op, order, [o[0] for o in outputs], domain=domain, **attrs)
    given = [h.make_tensor_value_info(k, h.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in inputs.items()]
    made = [h.make_tensor_value_info(o[0], o[1], [f"{o[0]}{i}" for i in range(o[2])]) for o in outputs if o[0]]
    graph = h.make_graph([node], op, given, made, [numpy_helper.from_array(v, k) for k, v in const.items()])
    return h.make_model(graph, opset_imports=opset or OPSETS, ir_version=9), inputs


def pick(size, *of): return of[size]


# ---- trees ----
def forest(trees, depth, features, targets, seed=3):
    """Complete trees of that depth: arrays of nodes and leaves in the layout of TreeEnsembleRegressor."""
    r, inner = random(seed), 2**depth - 1
    total, n = 2 * inner + 1, trees * (2 * inner + 1)
    node = np.tile(np.arange(total), trees)
    tree = np.repeat(np.arange(trees), total)
    leaf = node >= inner
    a = dict(nodes_treeids=tree, nodes_nodeids=node, nodes_featureids=np.where(leaf, 0, r.integers(0, features, n)),
             nodes_values=np.where(leaf, 0, r.standard_normal(n)).astype(np.float32),
             nodes_truenodeids=np.where(leaf, 0, 2 * node + 1), nodes_falsenodeids=np.where(leaf, 0, 2 * node + 2))
    modes = ["LEAF" if x else "BRANCH_LEQ" for x in leaf]
    at = np.flatnonzero(leaf)
    ids = np.arange(len(at)) % targets
    return a, modes, dict(treeids=tree[at], nodeids=node[at], ids=ids, weights=r.standard_normal(len(at)).astype(np.float32))


def lists(d): return {k: v.tolist() for k, v in d.items()}


def forest_of(size): return pick(size, (10, 6, 1), (100, 6, 100), (500, 8, 10000))


@row("TreeEnsembleRegressor")
def _(size):
    trees, depth, batch = forest_of(size)
    a, modes, leaf = forest(trees, depth, 30, 1)
    w = {f"target_{k}": v for k, v in lists(leaf).items()}
    return model("TreeEnsembleRegressor", {"x": f32(batch, 30)}, [("y", T.FLOAT, 2)], domain="ai.onnx.ml", opset=OLD_ML, n_targets=1,
                 nodes_modes=modes, **lists(a), **w)


@row("TreeEnsembleClassifier, 3 classes")
def _(size):
    trees, depth, batch = forest_of(size)
    a, modes, leaf = forest(trees, depth, 30, 3)
    w = {f"class_{k}": v for k, v in lists(leaf).items()}
    return model("TreeEnsembleClassifier", {"x": f32(batch, 30)}, [("label", T.INT64, 1), ("y", T.FLOAT, 2)],
                 domain="ai.onnx.ml", opset=OLD_ML, classlabels_int64s=[0, 1, 2], post_transform="SOFTMAX", nodes_modes=modes, **lists(a), **w)


@row("TreeEnsembleRegressor, one row")
def _(size):
    trees, depth = pick(size, (10, 10), (100, 10), (500, 10))
    a, modes, leaf = forest(trees, depth, 30, 1)
    w = {f"target_{k}": v for k, v in lists(leaf).items()}
    return model("TreeEnsembleRegressor", {"x": f32(1, 30)}, [("y", T.FLOAT, 2)], domain="ai.onnx.ml", opset=OLD_ML, n_targets=1,
                 nodes_modes=modes, **lists(a), **w)


@row("TreeEnsemble")
def _(size):
    trees, depth, batch = forest_of(size)
    a, modes, leaf = forest(trees, depth, 30, 1)
    inner = 2**depth - 1
    keep = a["nodes_nodeids"] < inner
    tree, node = a["nodes_treeids"][keep], a["nodes_nodeids"][keep]
    last = node >= inner // 2  # their children are leaves
    at = {}
    for side, k in (("true", 1), ("false", 2)):
        child = 2 * node + k
        at[side] = np.where(last, tree * (inner + 1) + child - inner, tree * inner + child)
    return model("TreeEnsemble", {"x": f32(batch, 30)}, [("y", T.FLOAT, 2)], domain="ai.onnx.ml", n_targets=1,
                 tree_roots=(np.arange(trees) * inner).tolist(), nodes_featureids=a["nodes_featureids"][keep].tolist(),
                 nodes_splits=numpy_helper.from_array(a["nodes_values"][keep], "s"),
                 nodes_modes=numpy_helper.from_array(np.zeros(keep.sum(), np.uint8), "m"),
                 nodes_truenodeids=at["true"].tolist(), nodes_falsenodeids=at["false"].tolist(),
                 nodes_trueleafs=last.astype(int).tolist(), nodes_falseleafs=last.astype(int).tolist(),
                 leaf_targetids=leaf["ids"].tolist(), leaf_weights=numpy_helper.from_array(leaf["weights"], "w"))


# ---- picking ----
def topk(name, shapes, ks, **attrs):
    ROWS[name] = lambda size: model("TopK", {"x": f32(*shapes[size])}, [("v", T.FLOAT, len(shapes[size])), ("i", T.INT64, len(shapes[size]))],
                                    {"k": np.array([ks[size]])}, **attrs)


topk("TopK, k 5, last axis", [(10, 1000), (100, 1000), (1000, 1000)], [5, 5, 5])
topk("TopK, half of the row", [(10, 1000), (100, 1000), (100, 20000)], [500, 500, 10000])
topk("TopK, one long row", [(4000,), (250000,), (4000000,)], [100, 100, 100])
topk("TopK, first axis", [(100, 50), (1000, 100), (1000, 1000)], [5, 5, 5], axis=0)
topk("TopK, smallest, all", [(10, 100), (100, 1000), (100, 10000)], [100, 1000, 10000], largest=0)


@row("NonMaxSuppression")
def _(size):
    n, r = pick(size, 100, 1000, 10000), random(5)
    at = r.random((1, n, 2), dtype=np.float32)
    boxes = np.concatenate([at, at + r.random((1, n, 2), dtype=np.float32) * 0.2], 2)
    return model("NonMaxSuppression", {"b": boxes, "s": r.random((1, pick(size, 1, 4, 4), n), dtype=np.float32)}, [("y", T.INT64, 2)],
                 {"m": np.array([200]), "i": np.array([0.5], np.float32), "t": np.array([0.1], np.float32)})


@row("NonZero")
def _(size):
    return model("NonZero", {"x": ints(2, *pick(size, (50, 100), (500, 1000), (2000, 2000))).astype(np.float32)}, [("y", T.INT64, 2)])


@row("Unique, few values")
def _(size): return model("Unique", {"x": ints(100, pick(size, 4000, 200000, 4000000))}, [(f"y{i}", T.INT64, 1) for i in range(4)])


@row("Unique, many values")
def _(size): return model("Unique", {"x": f32(pick(size, 4000, 200000, 2000000))}, [("y0", T.FLOAT, 1)] + [(f"y{i}", T.INT64, 1) for i in range(1, 4)])


@row("Compress")
def _(size):
    d = pick(size, (100, 50), (1000, 500), (4000, 1000))
    return model("Compress", {"x": f32(*d), "c": ints(2, d[0]) > 0}, [("y", T.FLOAT, 2)], axis=0)


# ---- by indices ----
@row("Gather, rows of a table")
def _(size):
    n, d, k = pick(size, (1000, 64, 64), (30000, 256, 1024), (30000, 768, 8192))
    return model("Gather", {"x": f32(n, d), "i": ints(n, k)}, [("y", T.FLOAT, 2)], axis=0)


@row("Gather, last axis")
def _(size):
    n, d, k = pick(size, (64, 100, 64), (512, 1000, 512), (4096, 1000, 1000))
    return model("Gather", {"x": f32(n, d), "i": ints(d, k)}, [("y", T.FLOAT, 2)], axis=1)


@row("GatherElements, last axis")
def _(size):
    d = pick(size, (50, 100), (500, 1000), (4000, 1000))
    return model("GatherElements", {"x": f32(*d), "i": ints(d[1], *d)}, [("y", T.FLOAT, 2)], axis=1)


@row("GatherElements, first axis")
def _(size):
    d = pick(size, (50, 100), (500, 1000), (4000, 1000))
    return model("GatherElements", {"x": f32(*d), "i": ints(d[0], *d)}, [("y", T.FLOAT, 2)], axis=0)


@row("GatherND")
def _(size):
    n, k, d = pick(size, (32, 100, 32), (64, 4096, 64), (64, 65536, 64))
    return model("GatherND", {"x": f32(n, n, d), "i": ints(n, k, 2)}, [("y", T.FLOAT, 2)])


@row("ScatterElements")
def _(size):
    d = pick(size, (50, 100), (500, 1000), (4000, 1000))
    return model("ScatterElements", {"x": f32(*d), "i": random(1).permuted(np.tile(np.arange(d[1]), (d[0], 1)), axis=1)[:, :d[1] // 2], "u": f32(d[0], d[1] // 2)}, [("y", T.FLOAT, 2)], axis=1)


@row("ScatterElements, add")
def _(size):
    d = pick(size, (50, 100), (500, 1000), (4000, 1000))
    return model("ScatterElements", {"x": f32(*d), "i": ints(d[1], *d), "u": f32(*d)}, [("y", T.FLOAT, 2)], axis=1, reduction="add")


@row("ScatterND")
def _(size):
    n, k, d = pick(size, (100, 50, 32), (4096, 2048, 128), (32768, 16384, 128))
    return model("ScatterND", {"x": f32(n, d), "i": random(1).permutation(n)[:k].reshape(k, 1), "u": f32(k, d)}, [("y", T.FLOAT, 2)])


@row("OneHot")
def _(size):
    n, d = pick(size, (64, 50), (1000, 500), (8192, 1000))
    return model("OneHot", {"i": ints(d, n)}, [("y", T.FLOAT, 2)], {"d": np.array([d]), "v": np.array([0, 1], np.float32)})


# ---- resize ----
def resize(name, scale, **attrs):
    def make(size):
        d = pick(size, (1, 4, 16, 16), (1, 16, 96, 96), (1, 64, 128, 128))
        return model("Resize", {"x": f32(*d)}, [("y", T.FLOAT, 4)], {"s": np.array([1, 1, scale, scale], np.float32)}, order=["x", "", "s"], **attrs)
    ROWS[name] = make


resize("Resize, nearest, up 2", 2, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
resize("Resize, nearest, up 1.5", 1.5, mode="nearest")
resize("Resize, linear, up 2", 2, mode="linear")
resize("Resize, linear, down 2", 0.5, mode="linear")
resize("Resize, linear, corners, up 3", 3, mode="linear", coordinate_transformation_mode="align_corners")
resize("Resize, cubic, up 2", 2, mode="cubic")
resize("Resize, cubic, down 2", 0.5, mode="cubic")

# ---- reductions ----
CUBE = [(16, 16, 16), (64, 64, 128), (128, 256, 256)]


def reduction(op, where, axes):
    ROWS[f"{op}, {where}"] = lambda size: model(op, {"x": f32(*CUBE[size])}, [("y", T.FLOAT, 3)], {"a": np.array(axes)})


for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"):
    for where, axes in (("last axis", [2]), ("middle axis", [1]), ("first axis", [0]), ("all axes", [0, 1, 2])): reduction(op, where, axes)
for where, axes in (("outer and inner", [0, 2]), ("last two", [1, 2])): reduction("ReduceSum", where, axes)


def arg(where, axis):
    ROWS[f"ArgMax, {where}"] = lambda size: model("ArgMax", {"x": f32(*CUBE[size])}, [("y", T.INT64, 3)], axis=axis)


for where, axis in (("last axis", 2), ("middle axis", 1), ("first axis", 0)): arg(where, axis)


@row("CumSum, last axis")
def _(size): return model("CumSum", {"x": f32(*CUBE[size])}, [("y", T.FLOAT, 3)], {"a": np.array(2)})


@row("CumSum, first axis")
def _(size): return model("CumSum", {"x": f32(*CUBE[size])}, [("y", T.FLOAT, 3)], {"a": np.array(0)})


@row("Softmax, last axis")
def _(size): return model("Softmax", {"x": f32(*CUBE[size])}, [("y", T.FLOAT, 3)], axis=-1)


@row("Softmax, middle axis")
def _(size): return model("Softmax", {"x": f32(*CUBE[size])}, [("y", T.FLOAT, 3)], axis=1)


# ---- pools ----
IMAGE = [(1, 4, 32, 32), (1, 32, 112, 112), (1, 64, 224, 224)]


def pool(name, op, **attrs): ROWS[name] = lambda size: model(op, {"x": f32(*IMAGE[size])}, [("y", T.FLOAT, 4)], **attrs)


pool("MaxPool 2x2", "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
pool("MaxPool 3x3, stride 2", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
pool("MaxPool 5x5, stride 1", "MaxPool", kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2])
pool("AveragePool 3x3, stride 1", "AveragePool", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
pool("AveragePool 2x2", "AveragePool", kernel_shape=[2, 2], strides=[2, 2])
pool("GlobalAveragePool", "GlobalAveragePool")


# ---- recurrences ----
def recurrence(op, gates, name, sizes, both=False):
    def make(size):
        seq, batch, hidden = sizes[size]
        d, scale = 2 if both else 1, 1 / np.sqrt(hidden)
        w = {"w": f32(d, gates * hidden, hidden, seed=2) * scale, "r": f32(d, gates * hidden, hidden, seed=3) * scale, "b": f32(d, 2 * gates * hidden, seed=4) * scale}
        attrs = {"linear_before_reset": 1} if op == "GRU" else {}
        return model(op, {"x": f32(seq, batch, hidden)}, [("y", T.FLOAT, 4), ("h", T.FLOAT, 3)], {k: v.astype(np.float32) for k, v in w.items()},
                     hidden_size=hidden, direction="bidirectional" if both else "forward", **attrs)
    ROWS[f"{op}, {name}"] = make


for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    recurrence(op, gates, "batch 1", [(16, 1, 64), (64, 1, 256), (64, 1, 512)])
    recurrence(op, gates, "batch 8", [(16, 8, 64), (64, 8, 256), (64, 8, 512)])
    if op != "RNN": recurrence(op, gates, "both directions", [(16, 1, 64), (64, 1, 256), (64, 8, 512)], True)


# ---- sums of products ----
def einsum(name, equation, *shapes):
    def make(size):
        ins = {f"x{i}": f32(*s[size], seed=i) for i, s in enumerate(shapes)}
        return model("Einsum", ins, [("y", T.FLOAT, len(equation.split("->")[1]))], equation=equation)
    ROWS[f"Einsum {name}"] = make


einsum("ij,jk->ik", "ij,jk->ik", [(16, 64), (128, 512), (512, 1024)], [(64, 32), (512, 512), (1024, 1024)])
einsum("bhid,bhjd->bhij", "bhid,bhjd->bhij", [(1, 2, 16, 32), (1, 8, 64, 64), (2, 12, 256, 64)], [(1, 2, 16, 32), (1, 8, 64, 64), (2, 12, 256, 64)])
einsum("bhij,bjhd->bihd", "bhij,bjhd->bihd", [(1, 2, 16, 16), (1, 8, 64, 64), (2, 12, 256, 256)], [(1, 16, 2, 32), (1, 64, 8, 64), (2, 256, 12, 64)])
einsum("i,j->ij", "i,j->ij", [(64,), (512,), (2048,)], [(64,), (512,), (2048,)])
einsum("bii->b", "bii->b", [(4, 32, 32), (16, 128, 128), (64, 256, 256)])
einsum("bij->bj", "bij->bj", [(4, 32, 32), (16, 128, 128), (64, 256, 256)])
einsum("bij,bij->b", "bij,bij->b", [(4, 32, 32), (16, 128, 128), (64, 256, 256)], [(4, 32, 32), (16, 128, 128), (64, 256, 256)])
einsum("ijk->kji", "ijk->kji", [(16, 16, 16), (64, 64, 64), (128, 128, 128)])


# ---- moves ----
def transpose(name, perm, shapes):
    ROWS[f"Transpose {name}"] = lambda size: model("Transpose", {"x": f32(*shapes[size])}, [("y", T.FLOAT, len(perm))], perm=perm)


transpose("of a matrix", [1, 0], [(64, 64), (512, 1000), (2048, 2048)])
transpose("to channels last", [0, 2, 3, 1], [(1, 3, 32, 32), (1, 64, 56, 56), (4, 64, 112, 112)])
transpose("of heads", [0, 2, 1, 3], [(1, 16, 4, 32), (1, 128, 12, 64), (4, 512, 12, 64)])


@row("Concat, last axis")
def _(size):
    n, d = pick(size, (32, 50), (512, 300), (4096, 300))
    return model("Concat", {"a": f32(n, d), "b": f32(n, d + 7), "c": f32(n, 5)}, [("y", T.FLOAT, 2)], axis=1)


@row("Concat, first axis")
def _(size):
    n, d = pick(size, (32, 50), (512, 300), (4096, 300))
    return model("Concat", {"a": f32(n, d), "b": f32(n, d), "c": f32(5, d)}, [("y", T.FLOAT, 2)], axis=0)


@row("Where")
def _(size):
    d = pick(size, (50, 100), (500, 1000), (4000, 1000))
    return model("Where", {"c": ints(2, *d) > 0, "a": f32(*d), "b": f32(1, d[1])}, [("y", T.FLOAT, 2)])


@row("Pad, edge")
def _(size): return model("Pad", {"x": f32(*IMAGE[size])}, [("y", T.FLOAT, 4)], {"p": np.array([0, 0, 3, 3, 0, 0, 3, 3])}, mode="edge")


# ---- text ----
def words(*dims, seed=7, kinds=1000):
    stock = np.array([f"{'The Quick brown FOX'.split()[i % 4]}{i}" for i in range(kinds)], dtype=object)
    return stock[random(seed).integers(0, kinds, dims)]


@row("StringNormalizer")
def _(size): return model("StringNormalizer", {"x": words(pick(size, 1000, 30000, 1000000))}, [("y", T.STRING, 1)], {}, case_change_action="LOWER", is_case_sensitive=0, locale="C", stopwords=["the0", "fox3"])


@row("StringConcat")
def _(size): return model("StringConcat", {"x": words(pick(size, 1000, 30000, 1000000)), "y": words(1)}, [("z", T.STRING, 1)])


@row("LabelEncoder, text to number")
def _(size):
    return model("LabelEncoder", {"x": words(pick(size, 1000, 30000, 1000000))}, [("y", T.INT64, 1)], domain="ai.onnx.ml", default_int64=-1,
                 keys_strings=words(500, seed=8).tolist() and sorted(set(words(500, seed=8).tolist())), values_int64s=list(range(len(set(words(500, seed=8).tolist())))))


@row("LabelEncoder, number to number")
def _(size):
    return model("LabelEncoder", {"x": ints(2000, pick(size, 1000, 100000, 4000000))}, [("y", T.INT64, 1)], domain="ai.onnx.ml", default_int64=-1,
                 keys_int64s=list(range(0, 2000, 2)), values_int64s=list(range(1000)))


@row("TfIdfVectorizer")
def _(size):
    r = random(9)
    n = pick(size, 100, 1000, 10000)
    pool, grams = r.permutation(2000)[:200].tolist(), r.integers(0, 2000, 800).tolist()
    return model("TfIdfVectorizer", {"x": ints(2000, n, 50).astype(np.int32)}, [("y", T.FLOAT, 2)], mode="TF", min_gram_length=1, max_gram_length=2, max_skip_count=0,
                 ngram_counts=[0, 200], ngram_indexes=list(range(600)), pool_int64s=pool + grams)
