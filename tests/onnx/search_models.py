"""Small models with random weights for search_cases.py: a decoder like GPT-2, an encoder with a decoder like T5 or Whisper.

A graph is made with the names of its weights; weights() makes all of them.
"""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

VOCAB, HEADS, SIZE, LAYERS, POSITIONS = 17, 2, 4, 2, 32
EOS, PAD, START = 3, 0, 2
WIDTH = HEADS * SIZE
FEATURES = 5  # of a frame that Whisper reads


def weights(seed):
    rng = np.random.default_rng(seed)
    w = {"tokens": rng.standard_normal((VOCAB, WIDTH)), "places": rng.standard_normal((POSITIONS, WIDTH)) * 0.5,
         "head": rng.standard_normal((WIDTH, VOCAB)) * 0.7}
    for i in range(LAYERS):
        w[f"qkv{i}"] = rng.standard_normal((WIDTH, 3 * WIDTH)) * 0.5
        w[f"out{i}"] = rng.standard_normal((WIDTH, WIDTH)) * 0.5
    shapes = {"words": (VOCAB, WIDTH), "frames": (FEATURES, WIDTH), "enc_qkv": (WIDTH, 3 * WIDTH), "enc_out": (WIDTH, WIDTH), "copy": (VOCAB, VOCAB),
              "hidden": (WIDTH, VOCAB)}
    for i in range(LAYERS):
        shapes.update({f"cross_{k}{i}": (WIDTH, WIDTH) for k in ("q", "k", "v", "out")})
    w.update({k: rng.standard_normal(s) * 0.6 for k, s in shapes.items()})
    return {k: v.astype(np.float32) for k, v in w.items()}


class Graph:
    def __init__(self):
        self.nodes, self.consts, self.count = [], [], 0

    def op(self, kind, *ins, out=None, **attrs):
        self.count += 1
        out = out or f"v{self.count}"
        self.nodes.append(helper.make_node(kind, list(ins), [out] if isinstance(out, str) else out, **attrs))
        return out

    def const(self, value, dtype=np.int64):
        self.count += 1
        self.consts.append(numpy_helper.from_array(np.array(value, dtype), f"c{self.count}"))
        return self.consts[-1].name

    def length(self, x, axis):
        return self.op("Gather", self.op("Shape", x), self.const(axis))


ints = lambda n, *d: helper.make_tensor_value_info(n, TensorProto.INT32, d)
floats = lambda n, *d: helper.make_tensor_value_info(n, TensorProto.FLOAT, d)


def heads(g, x):
    return g.op("Transpose", g.op("Reshape", x, g.const([0, 0, HEADS, SIZE])), perm=[0, 2, 1, 3])


def attend(g, q, k, v, bias=None):
    s = g.op("Mul", g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2])), g.const(SIZE ** -0.5, np.float32))
    s = g.op("Add", s, bias) if bias else s
    y = g.op("Transpose", g.op("MatMul", g.op("Softmax", s, axis=-1), v), perm=[0, 2, 1, 3])
    return g.op("Reshape", y, g.const([0, 0, WIDTH]))


def split(g, h, weight, name):
    return (heads(g, x) for x in g.op("Split", g.op("MatMul", h, weight), out=[f"{name}_{k}" for k in "qkv"], axis=2))


def bias_of(g, seen, out=None):
    return g.op("Where", seen, g.const(0, np.float32), g.const(-10000, np.float32), out=out)


# ---- a decoder alone ----
def layer(g, h, i):
    q, k, v = split(g, h, f"qkv{i}", f"self{i}")
    old = [g.op("Gather", f"past_{i}", g.const(j), axis=0) for j in (0, 1)]
    k, v = (g.op("Concat", a, b, axis=2) for a, b in zip(old, (k, v)))
    one = g.const([0])
    g.op("Concat", g.op("Unsqueeze", k, one), g.op("Unsqueeze", v, one), out=f"present_{i}", axis=0)
    return g.op("Add", h, g.op("MatMul", attend(g, q, k, v, "bias"), f"out{i}"))


def decoder(name="decoder"):
    g = Graph()
    h = g.op("Add", g.op("Gather", "tokens", "input_ids"), g.op("Gather", "places", "position_ids"))
    total, new = g.length("attention_mask", 1), g.length("input_ids", 1)
    keys = g.op("Range", g.const(0), total, g.const(1))
    rows = g.op("Unsqueeze", g.op("Range", g.op("Sub", total, new), total, g.const(1)), g.const([1]))
    seen = g.op("Not", g.op("Greater", g.op("Unsqueeze", keys, g.const([0])), rows))
    mask = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.BOOL), g.const([1, 2]))
    bias_of(g, g.op("And", mask, seen), "bias")
    for i in range(LAYERS):
        h = layer(g, h, i)
    g.op("MatMul", h, "head", out="logits")
    return helper.make_graph(
        g.nodes, name,
        [ints("input_ids", "batch_size", "seq_len"), ints("position_ids", "batch_size", "seq_len"), ints("attention_mask", "batch_size", "total_seq_len")]
        + [floats(f"past_{i}", 2, "batch_size", HEADS, "past_seq_len", SIZE) for i in range(LAYERS)],
        [floats("logits", "batch_size", "seq_len", VOCAB)] + [floats(f"present_{i}", 2, "batch_size", HEADS, "total_seq_len", SIZE) for i in range(LAYERS)],
        initializer=g.consts)


# ---- an encoder with a decoder ----
# Forms: "init": the encoder makes the first step of the decoder, "cross": it does not; "sequence": the decoder takes the whole
# sequence, else the next token; "hidden", "source": it takes the encoder's hidden states, its tokens.
def source_bias(g):
    return bias_of(g, g.op("Unsqueeze", g.op("Cast", "encoder_attention_mask", to=TensorProto.BOOL), g.const([1, 2])))


def steps(g, ids, past, bias, cross, whole):
    """The decoder's layers on `ids` to logits and presents. past: the earlier keys and values by layer, or None; cross: those
    of the encoder."""
    new = g.length(ids, 1)
    old = g.length(past[0][0], 2) if past and not whole else g.const(0)
    total = g.op("Add", old, new)
    h = g.op("Add", g.op("Gather", "tokens", ids), g.op("Gather", "places", g.op("Range", old, total, g.const(1))))
    rows = g.op("Unsqueeze", g.op("Range", old, total, g.const(1)), g.const([1]))
    seen = bias_of(g, g.op("Not", g.op("Greater", g.op("Unsqueeze", g.op("Range", g.const(0), total, g.const(1)), g.const([0])), rows)))
    for i in range(LAYERS):
        q, k, v = split(g, h, f"qkv{i}", f"self{i}")
        k, v = (g.op("Concat", *([past[i][j]] if past and not whole else []), x, axis=2, out=f"present_{n}_self_{i}")
                for j, (n, x) in enumerate((("key", k), ("value", v))))
        h = g.op("Add", h, g.op("MatMul", attend(g, q, k, v, seen), f"out{i}"))
        q = heads(g, g.op("MatMul", h, f"cross_q{i}"))
        h = g.op("Add", h, g.op("MatMul", attend(g, q, *cross[i], bias), f"cross_out{i}"))
    return g.op("MatMul", h, "head")


def cross_values(dims, name="present_{}_cross_{}"):
    return [floats(name.format(k, i), *dims) for i in range(LAYERS) for k in ("key", "value")]


def encoder(form, whisper=False):
    g = Graph()
    if whisper:
        h, bias = g.op("MatMul", g.op("Transpose", "encoder_input_ids", perm=[0, 2, 1]), "frames"), None
    else:
        h, bias = g.op("Gather", "words", "encoder_input_ids"), source_bias(g)
    q, k, v = split(g, h, "enc_qkv", "enc")
    h = g.op("Add", h, g.op("MatMul", attend(g, q, k, v, bias), "enc_out"), out="encoder_hidden_states")
    cross = []
    for i in range(LAYERS):
        cross.append([g.op("Identity", heads(g, g.op("MatMul", h, f"cross_{k[0]}{i}")), out=f"present_{k}_cross_{i}") for k in ("key", "value")])
    ins = [floats("encoder_input_ids", "B", FEATURES, "T")] if whisper else [ints("encoder_input_ids", "B", "T"), ints("encoder_attention_mask", "B", "T")]
    outs = cross_values(("B", HEADS, "T", SIZE))
    if "init" in form:
        g.op("Identity", steps(g, "decoder_input_ids", None, bias, cross, False), out="logits")
        ins.append(ints("decoder_input_ids", "B", "s"))
        outs = [floats("logits", "B", "s", VOCAB), floats("encoder_hidden_states", "B", "T", WIDTH)] + cross_values(("B", HEADS, "s", SIZE), "present_{}_self_{}") + outs
    return helper.make_graph(g.nodes, "encoder", ins, outs, initializer=g.consts)


def encoder_decoder(form, whisper=False):
    g = Graph()
    past, cross = ([[f"past_{k}_{kind}_{i}" for k in ("key", "value")] for i in range(LAYERS)] for kind in ("self", "cross"))
    y = steps(g, "input_ids", past, None if whisper else source_bias(g), cross, "sequence" in form)
    if "source" in form:
        y = g.op("Add", y, g.op("ReduceMean", g.op("Gather", "copy", "encoder_input_ids"), axes=[1]))
    if "hidden" in form and not whisper:  # ONNX Runtime gives Whisper's decoder their shape, and no contents
        y = g.op("Add", y, g.op("MatMul", g.op("ReduceMean", "encoder_hidden_states", axes=[1]), "hidden"))
    g.op("Identity", y, out="logits")
    ins = [ints("input_ids", "R", "length" if "sequence" in form else 1)]
    ins += [ints("encoder_input_ids", "R", "T")] if "source" in form else []
    ins += [] if whisper else [ints("encoder_attention_mask", "R", "T")]
    ins += [floats("encoder_hidden_states", "R", "T", WIDTH)] if "hidden" in form else []
    ins += cross_values(("R", HEADS, "past", SIZE), "past_{}_self_{}") + cross_values(("R", HEADS, "T", SIZE), "past_{}_cross_{}")
    outs = [floats("logits", "R", "s", VOCAB)] + cross_values(("R", HEADS, "total", SIZE), "present_{}_self_{}")
    return helper.make_graph(g.nodes, "decoder", ins, outs, initializer=g.consts)
