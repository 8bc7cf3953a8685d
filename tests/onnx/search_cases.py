#!/usr/bin/env python3
"""GreedySearch and BeamSearch of com.microsoft against ONNX Runtime, on small models with random weights (search_models.py).

usage: python3 search_cases.py SARD [--onnxruntime | --store] [PREFIX...]     needs the packages onnx and numpy

What ONNX Runtime gave is stored in search_expected.npz, with a checksum of weights and inputs. --onnxruntime runs it instead,
--store writes the file anew; both need its package. Each model runs twice: at -O3 with constants for its numbers and dims, and
at -O0 with numbers and dims that the run gives; of those that differ in weights and numbers only, the first one does that.
Last line: N passed, N failed
"""
import os
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import many
from search_models import EOS, FEATURES, PAD, START, VOCAB, decoder, encoder, encoder_decoder, weights

STORED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "search_expected.npz")
ORDER = {"GreedySearch": ["max_length", "min_length", "repetition_penalty", "vocab_mask", "prefix_vocab_mask", "attention_mask"],
         "BeamSearch": ["max_length", "min_length", "num_beams", "num_return_sequences", "length_penalty", "repetition_penalty", "vocab_mask",
                        "prefix_vocab_mask", "attention_mask", "decoder_input_ids"]}
FED = ["attention_mask", "decoder_input_ids"]  # inputs of the graph, always


def bodies_of(form):
    """form: "gpt", "gpt init", "t5 FORMS", "whisper FORMS" (search_models.py)"""
    if form.startswith("gpt"):
        return dict(decoder=decoder(), **({"init_decoder": decoder("init")} if "init" in form else {}))
    whisper = form.startswith("whisper")
    return dict(encoder=encoder(form, whisper), decoder=encoder_decoder(form, whisper))


def place_weights(form, seed, bodies):
    """The weights that go into the graph around the node: all, but for Whisper, whose bodies ONNX Runtime lets take none from there."""
    values = [numpy_helper.from_array(v, k) for k, v in weights(seed).items()]
    if not form.startswith("whisper"):
        return values
    for g in bodies.values():
        used = {i for n in g.node for i in n.input}
        g.initializer.extend(v for v in values if v.name in used)
    return []


def model(kind, form, seed, ids, attrs, inputs, outputs, symbolic=False):
    """inputs: name -> array. The numbers (max_length and so on) are initializers, or with `symbolic` inputs of the graph."""
    order = ORDER[kind]
    fed = FED + ([k for k in order if not k.endswith(("_mask", "_ids"))] if symbolic else [])
    bodies = bodies_of(form)
    consts = place_weights(form, seed, bodies)
    consts += [numpy_helper.from_array(inputs[k], k) for k in order if inputs.get(k) is not None and k not in fed]
    feed = {"input_ids": ids, **{k: inputs[k] for k in fed if inputs.get(k) is not None}}
    names = ["input_ids"] + [k if inputs.get(k) is not None else "" for k in order]
    while not names[-1]:
        names.pop()
    if "encoder" in bodies:
        attrs = {"model_type": 1 + form.startswith("whisper"), "decoder_start_token_id": START, **attrs}
    node = helper.make_node(kind, names, outputs, domain="com.microsoft", eos_token_id=EOS, pad_token_id=PAD, **bodies, **attrs)
    dims = {2: ["B", "S"], 3: ["B", FEATURES, "S"]}
    ins = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), dims[v.ndim] if symbolic and v.ndim > 1 and k != "decoder_input_ids" else v.shape)
           for k, v in feed.items()]
    outs = [helper.make_tensor_value_info(o, TensorProto.INT32 if o == "sequences" else TensorProto.FLOAT, None) for o in outputs if o]
    graph = helper.make_graph([node], "search", ins, outs, initializer=consts)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    return m, feed


CASES = []


def case(name, kind, form, seed, ids, outputs=("sequences",), attrs=None, **inputs):
    as_array = lambda k, v: np.array(v, np.float32 if k.endswith("penalty") else np.int32)
    ids = np.array(ids)
    inputs = {k: as_array(k, v) for k, v in inputs.items()}
    if kind == "BeamSearch":  # ONNX Runtime needs all of these
        inputs = {"min_length": np.int32([0]), "length_penalty": np.float32([1]), "repetition_penalty": np.float32([1]), **inputs}
    CASES.append((name, kind, form, seed, ids.astype(np.float32 if ids.ndim == 3 else np.int32), list(outputs), attrs or {}, inputs))


def graph_of(c):
    """What the graph is made of where numbers are inputs: all but weights and the values of inputs."""
    name, kind, form, seed, ids, outputs, attrs, inputs = c
    return kind, form, str(outputs), str(sorted(attrs.items())), str(sorted(inputs))


def computed(c):
    """Outputs by ONNX Runtime, or the reason why it does not run the model."""
    import onnxruntime as ort
    name, kind, form, seed, ids, outputs, attrs, inputs = c
    m, feed = model(kind, form, seed, ids, attrs, inputs, outputs)
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        return ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feed)
    except Exception as e:
        return "onnxruntime: " + str(e).replace("\n", " ")[:200]


def checksum(c):
    name, kind, form, seed, ids, outputs, attrs, inputs = c
    arrays = [ids, *weights(seed).values(), *(inputs[k] for k in sorted(inputs))]
    text = f"{kind} {form} {outputs} {sorted(attrs.items())}"
    return np.uint32(zlib.crc32(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays), zlib.crc32(text.encode())))


def stored(c, file):
    if f"{c[0]}/case" not in file:
        return "not in the file of expected outputs"
    if file[f"{c[0]}/case"] != checksum(c):
        return "FAIL it is not the case of the stored outputs"
    return [file[f"{c[0]}/{o}"] for o in c[5]]


def store():
    file = {}
    for c in CASES:
        want = computed(c)
        if isinstance(want, str):
            print(f"skip {c[0]}: {want}")
            continue
        file[f"{c[0]}/case"] = checksum(c)
        file.update({f"{c[0]}/{o}": v for o, v in zip(c[5], want)})
    np.savez_compressed(STORED, **file)
    print(f"{len(CASES)} cases")


def run(sard, c, want, level, symbolic):
    name, kind, form, seed, ids, outputs, attrs, inputs = c
    m, feed = model(kind, form, seed, ids, attrs, inputs, outputs, symbolic)
    with tempfile.TemporaryDirectory() as d:
        onnx.save(m, f"{d}/m.onnx")
        args = []
        for k, v in feed.items():
            np.save(f"{d}/{k}.npy", v)
            args += ["--input", f"{k}=@{d}/{k}.npy"]
        r = many.run(sard, "run", f"{d}/m.onnx", *args, "--outputs", f"{d}/out", "-q", level)
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
    for seed in range(3):
        case(f"greedy_{seed}", "GreedySearch", "gpt", seed, [[5, 7, 9], [2, 4, 1]], max_length=[12])
    case("greedy_one", "GreedySearch", "gpt", 1, [[5]], max_length=[9])
    case("greedy_padded", "GreedySearch", "gpt", 2, [[0, 0, 7, 9], [2, 4, 1, 6]], max_length=[12])
    case("greedy_full", "GreedySearch", "gpt", 2, [[5, 7, 9]], max_length=[4])
    case("greedy_mask", "GreedySearch", "gpt", 2, [[5, 7, 9], [2, 4, 1]], max_length=[10], attention_mask=[[0, 1, 1], [1, 1, 1]])
    case("greedy_min", "GreedySearch", "gpt", 3, [[5, 7, 9], [2, 4, 1]], max_length=[12], min_length=[10])
    for seed in range(3):
        case(f"greedy_penalty_{seed}", "GreedySearch", "gpt", seed, [[5, 7, 9], [2, 4, 1]], max_length=[14], repetition_penalty=[1.7])
        case(f"greedy_ngram_{seed}", "GreedySearch", "gpt", seed, [[5, 7, 9], [2, 4, 1]], attrs=dict(no_repeat_ngram_size=2), max_length=[16])
    case("greedy_ngram_single", "GreedySearch", "gpt", 1, [[5, 7, 9]], attrs=dict(no_repeat_ngram_size=1), max_length=[10])
    case("greedy_ngram_long", "GreedySearch", "gpt", 1, [[5, 7]], attrs=dict(no_repeat_ngram_size=4), max_length=[12])
    allowed = [1] * VOCAB
    allowed[5] = allowed[9] = allowed[11] = 0
    case("greedy_vocab", "GreedySearch", "gpt", 1, [[5, 7, 9], [2, 4, 1]], max_length=[12], vocab_mask=allowed)
    case("greedy_prefix", "GreedySearch", "gpt", 1, [[5, 7, 9], [2, 4, 1]], max_length=[12], prefix_vocab_mask=[allowed, [1] * VOCAB])
    case("greedy_init", "GreedySearch", "gpt init", 4, [[5, 7, 9], [2, 4, 1]], max_length=[12])
    case("greedy_all", "GreedySearch", "gpt", 4, [[0, 7, 9], [2, 4, 1]], attrs=dict(no_repeat_ngram_size=3), max_length=[15], min_length=[8], repetition_penalty=[1.3],
         vocab_mask=allowed, prefix_vocab_mask=[[1] * VOCAB, allowed])


def beam_cases():
    outs = ["sequences", "sequences_scores", "scores"]
    ids = [[5, 7, 9], [2, 4, 1]]
    for seed in range(3):
        case(f"beam_{seed}", "BeamSearch", "gpt", seed, ids, max_length=[12], num_beams=[3], num_return_sequences=[1])
        case(f"beam_scores_{seed}", "BeamSearch", "gpt", seed, ids, outs, max_length=[10], num_beams=[4], num_return_sequences=[3])
        case(f"beam_early_{seed}", "BeamSearch", "gpt", seed, ids, outs[:2], attrs=dict(early_stopping=1), max_length=[12], num_beams=[3], num_return_sequences=[2])
        case(f"beam_length_{seed}", "BeamSearch", "gpt", seed, ids, outs[:2], max_length=[11], num_beams=[3], num_return_sequences=[3], length_penalty=[0.5 + seed / 2])
    case("beam_one", "BeamSearch", "gpt", 1, ids, outs[:2], max_length=[9], num_beams=[1], num_return_sequences=[1])
    case("beam_min", "BeamSearch", "gpt", 3, ids, outs[:2], max_length=[12], min_length=[9], num_beams=[3], num_return_sequences=[2])
    case("beam_ngram", "BeamSearch", "gpt", 3, ids, outs[:2], attrs=dict(no_repeat_ngram_size=2), max_length=[14], num_beams=[3], num_return_sequences=[2])
    case("beam_penalty", "BeamSearch", "gpt", 2, ids, outs[:2], max_length=[12], num_beams=[3], num_return_sequences=[2], repetition_penalty=[1.4])
    case("beam_padded", "BeamSearch", "gpt", 2, [[0, 7, 9], [2, 4, 1]], outs[:2], max_length=[10], num_beams=[2], num_return_sequences=[2])
    case("beam_init", "BeamSearch", "gpt init", 5, ids, outs[:2], max_length=[10], num_beams=[2], num_return_sequences=[2])


def encoder_cases():
    outs = ["sequences", "sequences_scores", "scores"]
    ids = [[5, 7, 9, 4, 11], [2, 4, 1, 0, 0]]
    frames = np.random.default_rng(3).standard_normal((2, FEATURES, 6))
    some = dict(max_length=[10], num_beams=[3], num_return_sequences=[2])
    allowed = [1] * VOCAB
    allowed[5] = allowed[9] = allowed[11] = 0
    t5 = lambda name, form, seed, *a, **k: case(f"t5_{name}", "BeamSearch", f"t5 {form}", seed, k.pop("ids", ids), *a, **{**some, **k})
    for form in ("cross", "init", "init sequence", "init hidden", "cross source", "init source hidden", "cross sequence"):
        for seed in range(3):
            t5(f"{form.replace(' ', '_')}_{seed}", form, seed, outs[:2 + (seed == 2)])
    for form in ("cross", "init"):
        t5(f"{form}_one", form, 1, outs, num_beams=[1], num_return_sequences=[1])
        t5(f"{form}_four", form, 2, outs[:2], num_beams=[4], num_return_sequences=[3], max_length=[14])
        t5(f"{form}_early", form, 3, outs, attrs=dict(early_stopping=1))
        t5(f"{form}_length", form, 0, outs[:2], length_penalty=[2.5])
        t5(f"{form}_short", form, 0, outs[:2], length_penalty=[0.3])
        t5(f"{form}_repetition", form, 1, outs[:2], repetition_penalty=[1.6])
        t5(f"{form}_ngram", form, 2, outs[:2], attrs=dict(no_repeat_ngram_size=2), max_length=[16])
        t5(f"{form}_vocab", form, 3, outs[:2], vocab_mask=allowed)
        t5(f"{form}_prefix", form, 3, outs[:2], prefix_vocab_mask=[allowed, [1] * VOCAB])
        t5(f"{form}_min", form, 0, outs[:2], min_length=[8])
        t5(f"{form}_mask", form, 1, outs[:2], attention_mask=[[0, 1, 1, 1, 0], [1, 1, 1, 0, 0]])
        t5(f"{form}_padded", form, 1, outs[:2], ids=[[0, 0, 9, 4, 0], [2, 4, 1, 0, 6]])
        t5(f"{form}_all", form, 2, outs[:2], attrs=dict(early_stopping=1, no_repeat_ngram_size=3), min_length=[4], repetition_penalty=[1.2], length_penalty=[0.8],
           vocab_mask=allowed, prefix_vocab_mask=[[1] * VOCAB, allowed])
        t5(f"{form}_full", form, 1, outs[:2], max_length=[3])
    t5("cross_fullest", "cross", 1, outs[:2], max_length=[2])
    for seed in range(3):
        for form in ("init", "init sequence", "init hidden"):
            case(f"whisper_{form.replace(' ', '_')}_{seed}", "BeamSearch", f"whisper {form}", seed, frames, outs, **some)
        case(f"whisper_prompt_{seed}", "BeamSearch", "whisper init", seed, frames, outs, decoder_input_ids=[[2, 5, 7], [2, 8, 4]], **some)
        case(f"whisper_rules_{seed}", "BeamSearch", "whisper init", seed, frames, outs[:2], attrs=dict(no_repeat_ngram_size=2), decoder_input_ids=[[2, 5], [2, 8]],
             min_length=[6], repetition_penalty=[1.3], vocab_mask=allowed, **some)


def main():
    sard, flags = sys.argv[1], [a for a in sys.argv[2:] if a.startswith("--")]
    prefixes = tuple(a for a in sys.argv[2:] if not a.startswith("--"))
    greedy_cases()
    beam_cases()
    encoder_cases()
    if "--store" in flags:
        return store()
    file = None if "--onnxruntime" in flags else dict(np.load(STORED))

    def judge(c):
        want = computed(c) if file is None else stored(c, file)
        if isinstance(want, str):
            return want
        return run(sard, c, want, "-O3", False) or (run(sard, c, want, "-O0", True) if c is first[graph_of(c)] else None)

    passed = failed = skipped = 0
    chosen = [c for c in CASES if not prefixes or c[0].startswith(prefixes)]
    first = {graph_of(c): c for c in reversed(chosen)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for c, found in zip(chosen, pool.map(judge, chosen)):
            skip = found and found.startswith(("onnxruntime:", "not in"))
            skipped, passed, failed = skipped + bool(skip), passed + (not found), failed + bool(found and not skip)
            if found:
                print(f"{'skip' if skip else 'FAIL'} {c[0]} {found}")
    print(f"{skipped} without expected outputs")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
