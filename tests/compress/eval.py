#!/usr/bin/env python3
"""sard eval: every kind of data, recorded accuracies of the corpus, bad data. Needs numpy.
  eval.py SARD CORPUS    prints "ok NAME" or "FAIL NAME: why" and, last, "N passed, N failed" """
import io, json, os, sys, zipfile
import numpy as np

from checks import CORPUS, SARD, T, check, end, sard

METRIC = {"perplexity": "ppl", "ctc_exact": "ctc"}
SLOW = {"magika_v3_3", "ppocrv4_rec", "austen_gpt2", "austen_gpt2_dynq", "text_source", "text_source_dynq"}  # in docs' table instead


def ends(name, code, args, says=""):
    got, _, text = sard(*args)
    check(name, got == code and says in text, f"exit {got} instead of {code}, or no '{says}': {text[-300:]}")


def save(name, **arrays):
    path = os.path.join(T, name)
    np.savez(path, **arrays)
    return path


def corpus():
    for case in sorted(os.listdir(CORPUS)):
        how = os.path.join(CORPUS, case, "accuracy.json")
        if not os.path.exists(how) or case in SLOW: continue
        how = json.load(open(how))
        d = os.path.join(CORPUS, case)
        args = ["eval", f"{d}/model.onnx", "--data", f"{d}/accuracy.npz", "--metric", METRIC.get(how["metric"], how["metric"]), "--batch", str(how.get("batch", 64))]
        if "ignore" in how: args += ["--ignore", str(how["ignore"])]
        code, j, text = sard(*args)
        # one sample more or less may fall on the other side; what is no share has to agree to a part in 1,000
        slack = 1.01 / how["samples"] if how["metric"] in ("top1", "label", "ctc_exact") else 1e-3 * abs(how["ort"])
        check(f"recorded-{case}", code == 0 and j["samples"] == how["samples"] and abs(j["value"] - how["ort"]) <= slack, text[-300:])


def kinds(model, x, y):
    base = ["eval", model, "--metric", "top1", "--data"]
    want = sard(*base, save("plain.npz", x=x, y=y))[1]["value"]

    def same(name, path, *more):
        code, j, text = sard(*base, path, *more)
        check(f"data-{name}", code == 0 and j.get("value") == want and j["samples"] == len(y), text[-300:])

    same("prefix", save("prefix.npz", in_x=x, y=y))
    same("label", save("label.npz", x=x, label=y))
    same("label-named", save("named.npz", x=x, truth=y.astype(np.int32)), "--label", "truth")
    path = os.path.join(T, "packed.npz")
    np.savez_compressed(path, in_x=x, y=y)
    same("deflated", path)
    for batch in ("1", "7", "1000"): same(f"deflated-batch-{batch}", path, "--batch", batch)
    same("f64", save("f64.npz", x=x.astype(np.float64), y=y))
    same("big-endian", save("big.npz", x=x.astype(">f4"), y=y.astype(">i8")))
    same("fortran", save("fortran.npz", x=np.asfortranarray(x), y=y))
    folder = os.path.join(T, "folder")
    os.makedirs(folder)
    np.save(f"{folder}/x.npy", x), np.save(f"{folder}/y.npy", y)
    same("npy-folder", folder)
    code, j, text = sard(*base, path, "--limit", "100")
    check("limit", code == 0 and j["samples"] == 100, text)


def images():
    """The digits of lenet's test set as images: the same as their rounded values in an .npz."""
    d = os.path.join(CORPUS, "mnist_lenet")
    z = np.load(f"{d}/accuracy.npz")
    x, y = np.rint(z["in_image"][:60] * 255).astype(np.uint8), z["y"][:60]
    top, flat = os.path.join(T, "classes"), os.path.join(T, "flat")
    os.makedirs(flat)
    for k in range(10): os.makedirs(f"{top}/{k}")
    for i, (pixels, k) in enumerate(zip(x, y)):
        pgm = b"P5 28 28 255\n" + pixels.tobytes()
        open(f"{top}/{k}/{i:03}.pgm", "wb").write(pgm), open(f"{flat}/{i:03}.pgm", "wb").write(pgm)
    open(T + "/classes.txt", "w").writelines(f"{i:03}.pgm {k}\n" for i, k in enumerate(y))
    base = ["eval", f"{d}/model.onnx", "--metric", "top1", "--data"]
    want = sard(*base, save("rounded.npz", image=x.astype(np.float32) / 255, y=y))[1]["value"]
    for name, args in {"classes": [top], "labels": [flat, "--label", T + "/classes.txt"], "resized": [top, "--preprocess", "resize=28x28,scale=255,order=gray,layout=nchw"]}.items():
        code, j, text = sard(*base, *args)
        check(f"images-{name}", code == 0 and j.get("value") == want and j["samples"] == 60 and j["data"] == "images", text[-300:])
    code, j, text = sard(*base, top, "--preprocess", "mean=5")
    check("images-mean", code == 0 and j["value"] < want - 0.2, text[-300:])
    ends("images-no-labels", 2, base + [flat], "needs labels")
    ends("images-word", 2, base + [top, "--preprocess", "colour=red"], "unknown word")
    ends("images-size", 2, base + [top, "--preprocess", "resize=20"], "see --preprocess")
    open(flat + "/000.pgm", "wb").write(b"P5 28 28 255\n1234")
    ends("images-cut", 3, base + [flat, "--label", T + "/classes.txt"], "000.pgm")


def bad(model, x, y):
    base = ["eval", model, "--metric", "top1", "--data"]
    ends("bad-no-data", 2, ["eval", model, "--metric", "top1"], "--data is missing")
    ends("bad-no-metric", 2, ["eval", model, "--data", T], "--metric is missing")
    ends("bad-metric", 2, ["eval", model, "--metric", "top2", "--data", T], "did you mean top")
    ends("bad-path", 7, base + [T + "/nowhere"])
    open(f"{T}/text", "w").write("no data")
    ends("bad-kind", 2, base + [T + "/text"], "no data set")
    ends("bad-shape", 2, base + [save("shape.npz", x=x[:, :63], y=y)], "f32[540,63]" if len(y) == 540 else "63]")
    ends("bad-type", 2, base + [save("type.npz", x=(x * 16).astype(np.uint8), y=y)], "the types differ")
    ends("bad-name", 2, base + [save("name.npz", z=x, y=y)], "its arrays: z, y")
    ends("bad-no-labels", 2, base + [save("bare.npz", x=x)], "needs labels")
    ends("bad-label-name", 2, base + [save("bare2.npz", x=x, y=y), "--label", "nosuch"], "nosuch")
    ends("bad-counts", 2, base + [save("counts.npz", x=x, y=y[:-1])], "samples")
    ends("bad-label-range", 2, base + [save("range.npz", x=x, y=y + 1)], "is no class from 0 to 9")
    ends("bad-label-fraction", 2, base + [save("half.npz", x=x, y=y + 0.5)], "is no class")
    os.makedirs(f"{T}/nothing")
    ends("bad-empty-folder", 2, base + [f"{T}/nothing"], "holds nothing")
    far = y.copy()
    far[-1] = 10  # told before anything is scored
    code, j, text = sard(*base, save("far.npz", x=x, y=far))
    check("bad-label-last", code == 2 and f"label 10 of sample {len(y) - 1} is no class" in text and "value" not in j, text)
    ends("bad-objects", 4, base + [save("objects.npz", x=np.array([None, {}], dtype=object), y=y)], "element type '|O'")
    ends("bad-label-text", 4, base + [save("text.npz", x=x, y=y.astype(str))], "is not supported")
    ends("bad-label-rows", 2, base + [save("rows.npz", x=x, y=np.stack([y, y], 1))], "2 labels, one class is wanted")
    ends("bad-empty", 2, base + [save("empty.npz", x=x[:0], y=y[:0])], "holds no samples")
    ends("bad-output", 2, base + [save("o.npz", x=x, y=y), "--judged", "nosuch"], "its outputs: ")
    ends("bad-drop", 2, base + [T + "/o.npz", "--max-drop", "1%"], "--baseline")
    whole = open(save("cut.npz", x=x, y=y), "rb").read()
    open(T + "/cut.npz", "wb").write(whole[: len(whole) // 2])
    ends("bad-cut", 3, base + [T + "/cut.npz"])
    np.savez_compressed(T + "/flip.npz", x=x, y=y)
    flip = bytearray(open(T + "/flip.npz", "rb").read())
    flip[len(flip) // 3] ^= 0x55
    open(T + "/flip.npz", "wb").write(flip)
    ends("bad-check-sum", 3, base + [T + "/flip.npz"], "damaged")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 64)})
    with zipfile.ZipFile(T + "/huge.npz", "w") as z: z.writestr("x.npy", head.getvalue()), z.writestr("y.npy", head.getvalue())
    ends("bad-claimed-size", 3, base + [T + "/huge.npz"], "cut off")


def wild(model, x, y):
    """Numbers that are none are told, in inputs and in what comes out; the metric is that of all samples."""
    some = x.copy()
    some[3, 5], some[7, 0] = np.nan, -np.inf
    code, j, text = sard("eval", model, "--metric", "top1", "--data", save("wild.npz", x=some, y=y))
    check("wild-told", code == 0 and j["wild_inputs"] == 2 and "inputs of 2 samples are NaN or infinite in places (the first: sample 3)" in text and j["samples"] == len(y), text)
    check("wild-outputs", j["wild_outputs"] > 0 and f"outputs of {j['wild_outputs']} samples" in text, text)
    code, j, text = sard("eval", model, "--metric", "top1", "--data", save("tame.npz", x=x, y=y))
    check("wild-none", code == 0 and j["wild_inputs"] == j["wild_outputs"] == 0 and "NaN" not in text, text)


def fuzz(model, x, y):
    """Every damaged file is an error or a result, never a crash."""
    np.savez_compressed(T + "/fuzz.npz", x=x[:8], y=y[:8])
    whole = open(T + "/fuzz.npz", "rb").read()
    rng, worst = np.random.default_rng(7), []
    for i in range(30):
        b = bytearray(whole)
        at = int(rng.integers(0, len(b))) if i % 2 else len(b) - 1 - int(rng.integers(0, 200))
        b[at] ^= 1 << int(rng.integers(0, 8))
        open(T + "/f.npz", "wb").write(b if i % 5 else b[:at])
        code = sard("eval", model, "--metric", "top1", "--data", T + "/f.npz", "-O0")[0]
        if code not in (0, 2, 3, 4): worst.append((i, code))
    check("fuzz-npz", not worst, worst)


def paired(case, x, y):
    model = f"{case}/model.onnx"
    data = save("pair.npz", x=x, y=y)
    code, j, text = sard("eval", model, "--data", data, "--metric", "top1", "--baseline", model, "--max-drop", "0.5%")
    # none of 540 differs: the drop may be 0.55 % all the same
    check("paired-same", code == 0 and j["worse"] == j["better"] == 0 and j["p"] == 1 and j["passed"] and not j["proven"] and abs(j["drop_bound"] - 0.005533) < 1e-5, text)
    code, j, text = sard("eval", model, "--data", data, "--metric", "top1", "--baseline", model, "--max-drop", "0.6%")
    check("paired-proven", code == 0 and j["proven"], text)
    for metric, want in (("mse", 0), ("cosine", 1), ("psnr", 200)):
        code, j, text = sard("eval", model, "--data", save("bare3.npz", x=x), "--metric", metric, "--baseline", model)
        check(f"paired-{metric}", code == 0 and abs(j["value"] - want) < 1e-9, text)
    code, j, text = sard("eval", model, "--data", case, "--metric", "mse")
    check("test-sets", code == 0 and j["data"] == "test data sets" and j["value"] < 1e-8, text)


def memory(model, x, y):
    """50 MB of samples take no more memory than 1 MB of them."""
    most = []
    for times in (8, 400):
        path = save(f"m{times}.npz", x=np.tile(x, (times, 1)), y=np.tile(y, times))
        code, j, _ = sard("eval", model, "--metric", "top1", "--data", path)
        most.append(j["peak_rss_mb"] if code == 0 else 1e9)
    check("memory-bounded", most[1] < most[0] + 8, f"{most} MB")


def main():
    corpus()
    digits = os.path.join(CORPUS, "digits_mlp")
    z = np.load(f"{digits}/accuracy.npz")
    x, y, model = z["in_x"], z["y"], f"{digits}/model.onnx"
    kinds(model, x, y), images(), bad(model, x, y), wild(model, x, y), fuzz(model, x, y), paired(digits, x, y), memory(model, x, y)
    return end()


sys.exit(main())
