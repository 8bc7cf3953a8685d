#!/usr/bin/env python3
"""GreedySearch and BeamSearch of com.microsoft against ONNX Runtime, on a small GPT with random weights made here.

usage: python3 search_cases.py SARD [PREFIX...]     needs the packages onnx, onnxruntime and numpy; without them it says
so and ends with 77. Each model runs twice: at -O3 with constants for its numbers and dims, and at -O0 with numbers and dims that the run gives.
"""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
except ImportError as e:
    print(f"search_cases: skipped, no package {e.name}")
    sys.exit(77)

VOCAB, HEADS, SIZE, LAYERS, POSITIONS = 17, 2, 4, 2, 32
EOS, PAD = 3, 0
WIDTH = HEADS * SIZE


def weights(seed):
    rng = np.random.default_rng(seed)
    w = {"tokens": rng.standard_normal((VOCAB, WIDTH)), "places": rng.standard_normal((POSITIONS, WIDTH)) * 0.5,
         "head": rng.standard_normal((WIDTH, VOCAB)) * 0.7}
    for i in range(LAYERS):
        w[f"qkv{i}"] = rng.standard_normal((WIDTH, 3 * WIDTH)) * 0.5
        w[f"out{i}"] = rng.standard_normal((WIDTH, WIDTH)) * 0.5
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


def layer(g, h, i):
    q, k, v = g.op("Split", g.op("MatMul", h, f"qkv{i}"), out=[f"q{i}", f"k{i}", f"v_{i}"], axis=2)
    q, k, v = (g.op("Transpose", g.op("Reshape", x, g.const([0, 0, HEADS, SIZE])), perm=[0, 2, 1, 3]) for x in (q, k, v))
    old = [g.op("Gather", f"past_{i}", g.const(j), axis=0) for j in (0, 1)]
    k, v = (g.op("Concat", a, b, axis=2) for a, b in zip(old, (k, v)))
    one = g.const([0])
    g.op("Concat", g.op("Unsqueeze", k, one), g.op("Unsqueeze", v, one), out=f"present_{i}", axis=0)
    s = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
    s = g.op("Add", g.op("Mul", s, g.const(SIZE ** -0.5, np.float32)), "bias")
    y = g.op("Transpose", g.op("MatMul", g.op("Softmax", s, axis=-1), v), perm=[0, 2, 1, 3])
    return g.op("Add", h, g.op("MatMul", g.op("Reshape", y, g.const([0, 0, WIDTH])), f"out{i}"))


def decoder(name="decoder"):
    g = Graph()
    h = g.op("Add", g.op("Gather", "tokens", "input_ids"), g.op("Gather", "places", "position_ids"))
    length = lambda x, axis: g.op("Gather", g.op("Shape", x), g.const(axis))
    total, new = length("attention_mask", 1), length("input_ids", 1)
    keys = g.op("Range", g.const(0), total, g.const(1))
    rows = g.op("Unsqueeze", g.op("Range", g.op("Sub", total, new), total, g.const(1)), g.const([1]))
    seen = g.op("Not", g.op("Greater", g.op("Unsqueeze", keys, g.const([0])), rows))
    mask = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.BOOL), g.const([1, 2]))
    g.op("Where", g.op("And", mask, seen), g.const(0, np.float32), g.const(-10000, np.float32), out="bias")
    for i in range(LAYERS):
        h = layer(g, h, i)
    g.op("MatMul", h, "head", out="logits")
    ints = lambda n, *d: helper.make_tensor_value_info(n, TensorProto.INT32, d)
    floats = lambda n, *d: helper.make_tensor_value_info(n, TensorProto.FLOAT, d)
    return helper.make_graph(
        g.nodes, name,
        [ints("input_ids", "batch_size", "seq_len"), ints("position_ids", "batch_size", "seq_len"), ints("attention_mask", "batch_size", "total_seq_len")]
        + [floats(f"past_{i}", 2, "batch_size", HEADS, "past_seq_len", SIZE) for i in range(LAYERS)],
        [floats("logits", "batch_size", "seq_len", VOCAB)] + [floats(f"present_{i}", 2, "batch_size", HEADS, "total_seq_len", SIZE) for i in range(LAYERS)],
        initializer=g.consts)


def model(kind, seed, ids, attrs, inputs, outputs, symbolic=False, init=False):
    """inputs: name -> array. The numbers (max_length and so on) are initializers, or with `symbolic` inputs of the graph."""
    order = {"GreedySearch": ["max_length", "min_length", "repetition_penalty", "vocab_mask", "prefix_vocab_mask", "attention_mask"],
             "BeamSearch": ["max_length", "min_length", "num_beams", "num_return_sequences", "length_penalty", "repetition_penalty", "vocab_mask",
                            "prefix_vocab_mask", "attention_mask"]}[kind]
    if kind == "BeamSearch":  # ONNX Runtime needs all of these
        inputs = {"min_length": np.int32([0]), "length_penalty": np.float32([1]), "repetition_penalty": np.float32([1]), **inputs}
    consts = [numpy_helper.from_array(v, k) for k, v in weights(seed).items()]
    fed = ["attention_mask"] + (order[:-3] if symbolic else [])
    consts += [numpy_helper.from_array(inputs[k], k) for k in order if inputs.get(k) is not None and k not in fed]
    feed = {"input_ids": ids, **{k: inputs[k] for k in fed if inputs.get(k) is not None}}
    names = ["input_ids"] + [k if inputs.get(k) is not None else "" for k in order]
    while not names[-1]:
        names.pop()
    bodies = dict(decoder=decoder(), **({"init_decoder": decoder("init")} if init else {}))
    node = helper.make_node(kind, names, outputs, domain="com.microsoft", eos_token_id=EOS, pad_token_id=PAD, **bodies, **attrs)
    ins = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), ["B", "S"] if symbolic and v.ndim == 2 else v.shape)
           for k, v in feed.items()]
    types = {"sequences": TensorProto.INT32}
    outs = [helper.make_tensor_value_info(o, types.get(o, TensorProto.FLOAT), None) for o in outputs if o]
    graph = helper.make_graph([node], "search", ins, outs, initializer=consts)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    return m, feed


CASES = []


def case(name, kind, seed, ids, outputs=("sequences",), attrs=None, init=False, **inputs):
    as_array = lambda k, v: np.array(v, np.float32 if k.endswith("penalty") else np.int32)
    CASES.append((name, kind, seed, np.array(ids, np.int32), list(outputs), attrs or {}, init,
                  {k: as_array(k, v) for k, v in inputs.items()}))


def run(sard, c, level, symbolic):
    name, kind, seed, ids, outputs, attrs, init, inputs = c
    m, feed = model(kind, seed, ids, attrs, inputs, outputs, symbolic, init)
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        want = ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feed)
    except Exception as e:
        return "onnxruntime: " + str(e).replace("\n", " ")[:200]
    with tempfile.TemporaryDirectory() as d:
        onnx.save(m, f"{d}/m.onnx")
        args = []
        for k, v in feed.items():
            np.save(f"{d}/{k}.npy", v)
            args += ["--input", f"{k}=@{d}/{k}.npy"]
        r = subprocess.run([sard, "run", f"{d}/m.onnx", *args, "--outputs", f"{d}/out", "-q", level], capture_output=True, text=True)
        if r.returncode:
            return f"{level}: exit {r.returncode}: {r.stderr.strip()[:300]}"
        for i, o in enumerate(outputs):
            got = numpy_helper.to_array(TensorProto.FromString(open(f"{d}/out/output_{i}.pb", "rb").read()))
            if got.shape != want[i].shape or got.dtype != want[i].dtype:
                return f"{level}: {o} is {got.dtype}{got.shape}, not {want[i].dtype}{want[i].shape}"
            expected = want[i]
            if kind == "GreedySearch":  # where all rows ended early ONNX Runtime leaves the rest as it was in memory
                end = int(np.max(np.nonzero((got != PAD).any(axis=0))[0])) + 2
                got, expected = got[:, :end], expected[:, :end]
            if not np.allclose(got, expected, rtol=1e-3, atol=1e-4):
                return f"{level}: {o} differs:\n{got}\n{want[i]}"
    return None


def greedy_cases():
    for seed in range(6):
        case(f"greedy_{seed}", "GreedySearch", seed, [[5, 7, 9], [2, 4, 1]], max_length=[12])
    case("greedy_one", "GreedySearch", 1, [[5]], max_length=[9])
    case("greedy_padded", "GreedySearch", 2, [[0, 0, 7, 9], [2, 4, 1, 6]], max_length=[12])
    case("greedy_full", "GreedySearch", 2, [[5, 7, 9]], max_length=[4])
    case("greedy_mask", "GreedySearch", 2, [[5, 7, 9], [2, 4, 1]], max_length=[10], attention_mask=[[0, 1, 1], [1, 1, 1]])
    case("greedy_min", "GreedySearch", 3, [[5, 7, 9], [2, 4, 1]], max_length=[12], min_length=[10])
    for seed in range(3):
        case(f"greedy_penalty_{seed}", "GreedySearch", seed, [[5, 7, 9], [2, 4, 1]], max_length=[14], repetition_penalty=[1.7])
        case(f"greedy_ngram_{seed}", "GreedySearch", seed, [[5, 7, 9], [2, 4, 1]], attrs=dict(no_repeat_ngram_size=2), max_length=[16])
    case("greedy_ngram_1", "GreedySearch", 1, [[5, 7, 9]], attrs=dict(no_repeat_ngram_size=1), max_length=[10])
    case("greedy_ngram_long", "GreedySearch", 1, [[5, 7]], attrs=dict(no_repeat_ngram_size=4), max_length=[12])
    allowed = [1] * VOCAB
    allowed[5] = allowed[9] = allowed[11] = 0
    case("greedy_vocab", "GreedySearch", 1, [[5, 7, 9], [2, 4, 1]], max_length=[12], vocab_mask=allowed)
    case("greedy_prefix", "GreedySearch", 1, [[5, 7, 9], [2, 4, 1]], max_length=[12], prefix_vocab_mask=[allowed, [1] * VOCAB])
    case("greedy_init", "GreedySearch", 4, [[5, 7, 9], [2, 4, 1]], init=True, max_length=[12])
    case("greedy_all", "GreedySearch", 4, [[0, 7, 9], [2, 4, 1]], attrs=dict(no_repeat_ngram_size=3), max_length=[15], min_length=[8], repetition_penalty=[1.3],
         vocab_mask=allowed, prefix_vocab_mask=[[1] * VOCAB, allowed])


def beam_cases():
    outs = ["sequences", "sequences_scores", "scores"]
    ids = [[5, 7, 9], [2, 4, 1]]
    for seed in range(6):
        case(f"beam_{seed}", "BeamSearch", seed, ids, max_length=[12], num_beams=[3], num_return_sequences=[1])
        case(f"beam_scores_{seed}", "BeamSearch", seed, ids, outs, max_length=[10], num_beams=[4], num_return_sequences=[3])
        case(f"beam_early_{seed}", "BeamSearch", seed, ids, outs[:2], attrs=dict(early_stopping=1), max_length=[12], num_beams=[3], num_return_sequences=[2])
        case(f"beam_length_{seed}", "BeamSearch", seed, ids, outs[:2], max_length=[11], num_beams=[3], num_return_sequences=[3], length_penalty=[0.5 + seed / 2])
    case("beam_one", "BeamSearch", 1, ids, outs[:2], max_length=[9], num_beams=[1], num_return_sequences=[1])
    case("beam_min", "BeamSearch", 3, ids, outs[:2], max_length=[12], min_length=[9], num_beams=[3], num_return_sequences=[2])
    case("beam_ngram", "BeamSearch", 3, ids, outs[:2], attrs=dict(no_repeat_ngram_size=2), max_length=[14], num_beams=[3], num_return_sequences=[2])
    case("beam_penalty", "BeamSearch", 2, ids, outs[:2], max_length=[12], num_beams=[3], num_return_sequences=[2], repetition_penalty=[1.4])
    case("beam_padded", "BeamSearch", 2, [[0, 7, 9], [2, 4, 1]], outs[:2], max_length=[10], num_beams=[2], num_return_sequences=[2])
    case("beam_init", "BeamSearch", 5, ids, outs[:2], init=True, max_length=[10], num_beams=[2], num_return_sequences=[2])


def main():
    sard, prefixes = sys.argv[1], tuple(sys.argv[2:])
    greedy_cases()
    beam_cases()
    passed = failed = skipped = 0
    for c in CASES:
        if prefixes and not c[0].startswith(prefixes):
            continue
        found = run(sard, c, "-O3", False) or run(sard, c, "-O0", True)
        if not found:
            passed += 1
        elif found.startswith("onnxruntime:"):
            skipped += 1
            print(f"skip {c[0]}: {found}")
        else:
            failed += 1
            print(f"FAIL {c[0]} {found}")
    print(f"{passed} passed, {failed} failed, {skipped} not run by onnxruntime")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
