#!/usr/bin/env python3
"""sard optimize: what is chosen keeps what was asked for, its command lines make the same bytes, interrupts leave a report and are
gone on from, limits and wrong words are told. The model is loaded by ONNX Runtime where Python has it.
  optimize.py SARD CORPUS    prints "ok NAME" or "FAIL NAME: why" and, last, "N passed, N failed" """
import json, os, shlex, shutil, signal, subprocess, sys, time
import xml.dom.minidom
import numpy as np

try: import onnxruntime as ort
except ImportError: ort = None

from checks import CORPUS, SARD, T, check, end, sard

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DIGITS = f"{CORPUS}/digits_mlp/model.onnx"
DATA = f"{CORPUS}/digits_mlp/accuracy.npz"
GIVEN = [DIGITS, "--data", DATA, "--metric", "top1"]


def bytes_of(path):
    with open(path, "rb") as f: return f.read()


def chosen_of(j): return next(t for t in j["trials"] if t["name"] == j["chosen"])


def again(name, j, out):
    """The command lines, run where none of the files is."""
    want, folder = bytes_of(out), os.path.join(T, name)
    os.makedirs(folder)
    for line in j["commands"]:
        words = [SARD if w == "sard" else w.replace(out.rsplit(".", 1)[0], f"{folder}/m") for w in shlex.split(line)]
        if words[1] == "eval": words += ["--json", f"{folder}/eval.json"]
        r = subprocess.run(words, capture_output=True, text=True)
        if r.returncode: return check(f"{name}-again", False, line + r.stderr)
    check(f"{name}-again", bytes_of(f"{folder}/m{os.path.splitext(out)[1]}") == want, "other bytes")
    e, t = json.load(open(f"{folder}/eval.json")), chosen_of(j)
    same = t["name"].startswith("the model as it is")  # on a busy machine nothing else is tried; it cannot drop, which no samples prove
    check(f"{name}-again-metric", abs(e["value"] - t["value"]) < 1e-6 and (same or abs(e["drop_bound"] - t["drop_bound"]) < 1e-6), e)


def interrupted():
    """Ctrl-C in between, then the same command: it goes on, and all of it is as asked for."""
    out, folder = f"{T}/m.onnx", f"{T}/m.onnx.optimize"
    args = ["optimize", *GIVEN, "-o", out, "--budget", "5m", "--svg", f"{T}/m.svg", "--html", f"{T}/m.html"]
    p = subprocess.Popen([SARD, *args, "--json", f"{T}/part.json"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for _ in range(3000):
        if os.path.exists(f"{folder}/state.json") and bytes_of(f"{folder}/state.json").count(b'"name"') >= 3: break
        time.sleep(0.01)
    p.send_signal(signal.SIGINT)
    text = p.communicate(timeout=60)[0]
    j = json.load(open(f"{T}/part.json"))
    done = [t["name"] for t in j["trials"] if t["state"] == "measured"]
    check("interrupted", p.returncode == 130 and j["partial"] and len(done) >= 3 and not j["chosen"] and j["best_so_far"] in done and j["commands"] and not os.path.exists(out), f"{p.returncode} {text[-300:]}")
    check("interrupted-tells", "goes on" in text and os.path.isdir(folder), text[-300:])
    shutil.copytree(folder, f"{T}/e.onnx.optimize")
    for name in os.listdir(f"{T}/e.onnx.optimize"):  # files whose command nobody knows
        if name == "state.json": os.remove(f"{T}/e.onnx.optimize/{name}")
        else: open(f"{T}/e.onnx.optimize/{name}", "w").write("no model")
    code, j, text = sard(*args)
    t = chosen_of(j) if code == 0 else {}
    check("resumed", code == 0 and j["resumed"] >= 2 and not os.path.exists(folder), f"{code} {text[-500:]}")
    if code: return
    best = min(x["p50_ms"] for x in j["trials"] if x.get("allowed"))
    check("chosen", t["allowed"] and t["kept"] and t["drop_bound"] <= 0.01 and t["speed"] > 1 and t["bytes"] == os.path.getsize(out), t)
    check("chosen-best", t["p50_ms"] < 2 * best and all(x["reason"] for x in j["trials"]), j["trials"])
    check("front", t["front"] and any(x["state"] == "failed" for x in j["trials"]) and any(x["state"] == "not tried" for x in j["trials"]), j["trials"])
    picture = xml.dom.minidom.parse(f"{T}/m.svg")
    n = sum(x["state"] == "measured" for x in j["trials"])
    check("picture", len(picture.getElementsByTagName("circle")) == 2 * n, n)
    page = open(f"{T}/m.html").read()
    check("page", page.count("<svg") == 1 and page.count("<tr") == len(j["trials"]) + 1 and "The same again" in page)
    again("onnx", j, out)
    if ort:
        z = np.load(DATA)
        y = ort.InferenceSession(out).run(None, {"x": z["in_x"] if "in_x" in z else z["x"]})[0]
        got = (y.argmax(1) == z["y"])[j["trials"][0] and -j["judged_samples"]:].mean()
        check("onnxruntime", abs(got - t["value"]) < 0.01, got)


def artifact():
    """OUT is an artifact; flags from a file, which the command line overrules."""
    out = f"{T}/s.sard"
    config = f"{ROOT}/docs/examples/deploy.json"
    code, j, text = sard("optimize", DIGITS, "--data", DATA, "-o", out, "--config", config, "--goal", "size", "--budget", "1500ms")
    check("config-overruled-wrong", code == 2 and "--budget: '1500ms'" in text, text)
    code, j, text = sard("optimize", DIGITS, "--data", DATA, "-o", out, "--config", config, "--goal", "size", "--budget", "0.7s")
    check("config", code == 0 and j["goal"] == "size" and j["metric"] == "top1" and os.path.getsize(out) == chosen_of(j)["bytes"], text[-300:])
    if code: return
    check("budget", j["seconds"] < 20, j["seconds"])
    again("sard", j, out)


def shared():
    """The best chain over two devices: each way is a trial that computes the same, or says why it cannot be."""
    out = f"{T}/two.sard"
    code, j, text = sard("optimize", *GIVEN, "-o", out, "--goal", "throughput", "--batch", "64", "--devices", "cpu:0,cpu:1", "--budget", "8s")
    by = {t["name"]: t for t in j.get("trials", [])}
    ways = {t["split"]: t for n, t in by.items() if "split" in t}
    whole = by.get(next((n.rsplit(", shared", 1)[0] for n in by if ", shared by" in n), ""), {})
    check("shared", code == 0 and "batch" in ways and all(t["drop"] == whole["drop"] and t["memory_bytes"] > 0 and t["devices"] == "cpu:0,cpu:1" for t in ways.values()), f"{code} {ways} {text[-500:]}")
    if code == 0: again("shared", j, out)
    code, j, text = sard("optimize", *GIVEN, "-o", out, "--devices", "cpu:0,cpu:1", "--device", "cpu")
    check("shared-device", code == 2 and "give one of them" in text, text[-300:])


def hopeless():
    """A model whose every weight counts: chains that prune it are given up before all samples are scored, and so it is told."""
    try: from onnx import TensorProto, helper, numpy_helper
    except ImportError: return
    r = np.random.default_rng(5)
    w = {"w1": r.normal(size=(16, 48)), "w2": r.normal(size=(48, 10))}
    g = helper.make_graph([helper.make_node("MatMul", ["x", "w1"], ["a"]), helper.make_node("Relu", ["a"], ["h"]), helper.make_node("MatMul", ["h", "w2"], ["y"])], "g",
                          [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
                          [numpy_helper.from_array(v.astype(np.float32), k) for k, v in w.items()])
    with open(f"{T}/full.onnx", "wb") as f: f.write(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    x = r.normal(size=(900, 16)).astype(np.float32)
    np.savez(f"{T}/full.npz", x=x, y=(np.maximum(x @ w["w1"], 0) @ w["w2"]).argmax(1))
    code, j, text = sard("optimize", f"{T}/full.onnx", "--data", f"{T}/full.npz", "--metric", "top1", "--max-drop", "2%", "-o", f"{T}/full_o.onnx", "--budget", "8s")
    given = {t["name"]: t for t in j.get("trials", []) if "given_up_after" in t}
    check("hopeless", code == 0 and "unstructured 80 %" in given and all(t["given_up_after"] in (64, 128, 256, 512) and t["drop"] > 0.02 and not t["kept"] for t in given.values()), f"{code} {given} {text[-300:]}")
    check("hopeless-told", all("over the first" in t["reason"] for t in given.values()), given)
    check("peak", all(t["peak_mb"] >= 0 for t in j["trials"] if t["state"] == "measured"))
    np.savez(f"{T}/few.npz", x=x[:50], y=np.load(f"{T}/full.npz")["y"][:50])
    code, j, text = sard("optimize", f"{T}/full.onnx", "--data", f"{T}/few.npz", "--metric", "top1", "-o", f"{T}/full_o.onnx", "--budget", "0.5s")
    check("few-samples", code == 0 and "prove no drop below 7.22 %" in text and j["chosen"].startswith("the model as it is"), f"{code} {j.get('chosen')} {text[-500:]}")
    code, j, text = sard("optimize", f"{T}/full.onnx", "--data", f"{T}/few.npz", "--metric", "top1", "-o", f"{T}/full_o.onnx", "--drop-by", "estimate", "--goal", "size", "--budget", "2s")
    by = {t["name"]: t for t in j.get("trials", []) if t["state"] == "measured"}
    told = "not proven: on 40 samples the drop is" in text
    check("drop-by-estimate", code == 0 and told and not j["proven"] and by[j["chosen"]]["drop"] <= 0.01 < by[j["chosen"]]["drop_bound"] and by[j["chosen"]]["bytes"] < by["the model as it is"]["bytes"], f"{code} {j.get('chosen')} {text[-500:]}")


def refused():
    out = f"{T}/no.onnx"
    code, j, text = sard("optimize", *GIVEN, "-o", out, "--limit", "size<1kB,p99<1s", "--budget", "0.3s")
    check("limit", code == 1 and "no chain keeps the limits" in text and "nearest is" in text and not os.path.exists(out) and not os.path.exists(out + ".optimize"), f"{code} {text[-300:]}")
    np.savez(f"{T}/plain.npz", in_x=np.zeros((4, 64), np.float32))
    np.savez(f"{T}/far.npz", in_x=np.zeros((4, 64), np.float32), y=np.full(4, 99))
    np.savez(f"{T}/flat.npz", in_x=np.zeros((4, 64), np.float32), y=np.ones((4, 10), np.float32))
    np.savez(f"{T}/one.npz", in_x=np.zeros((1, 64), np.float32), y=np.zeros(1, np.int64))
    np.savez(f"{T}/wild.npz", in_x=np.where(np.arange(60)[:, None] == 2, np.nan, np.zeros((60, 64), np.float32)), y=np.zeros(60, np.int64))
    np.savez(f"{T}/none.npz", in_x=np.zeros((0, 64), np.float32), y=np.zeros(0, np.int64))
    np.savez(f"{T}/wide.npz", in_x=np.zeros((4, 65), np.float32), y=np.zeros(4, np.int64))
    def config(text):
        with open(f"{T}/c.json", "w") as f: f.write(text)
        return ["--config", f"{T}/c.json"]
    with open(f"{T}/own.onnx", "wb") as f: f.write(open(DIGITS, "rb").read())
    cases = [("data-missing", 2, "--data is missing", [DIGITS]),
             ("out-missing", 2, "-o FILE is missing", None),
             ("labels-missing", 2, "needs labels", [DIGITS, "--data", f"{T}/plain.npz", "--metric", "top1"]),
             ("labels-far", 2, "99", [DIGITS, "--data", f"{T}/far.npz", "--metric", "top1"]),
             ("data-empty", 2, "no samples", [DIGITS, "--data", f"{T}/none.npz", "--metric", "top1"]),
             ("data-unfit", 2, "65", [DIGITS, "--data", f"{T}/wide.npz", "--metric", "top1"]),
             ("data-nan", 2, "the first: sample 2): the data are not fit", [DIGITS, "--data", f"{T}/wild.npz", "--metric", "top1"]),
             ("data-few", 2, "how sure", [DIGITS, "--data", f"{T}/one.npz", "--metric", "top1"]),
             ("out-stdout", 2, "goes to a file", [*GIVEN, "-o", "-"]),
             ("out-model", 2, "is MODEL itself", [f"{T}/own.onnx", *GIVEN[1:], "-o", f"{T}/own.onnx"]),
             ("metric-undefined", 2, "no number", [DIGITS, "--data", f"{T}/flat.npz", "--metric", "r2"]),
             ("goal", 2, "'fast' is none of", [*GIVEN, "--goal", "fast"]),
             ("goal-p99", 2, "'p99' is none of", [*GIVEN, "--goal", "p99"]),
             ("budget-word", 2, "'soon' is no time", [*GIVEN, "--budget", "soon"]),
             ("budget-negative", 2, "is no time", [*GIVEN, "--budget", "-3s"]),
             ("drop-word", 2, "is no drop", [*GIVEN, "--max-drop", "abc"]),
             ("limit-word", 2, "did you mean memory<2MB?", [*GIVEN, "--limit", "memery<2MB"]),
             ("limit-sign", 2, "not of the form throughput>", [*GIVEN, "--limit", "throughput<5/s"]),
             ("limit-unit", 2, "'10kg' is no p99", [*GIVEN, "--limit", "p99<10kg"]),
             ("limit-unit-other", 2, "'10MB' is no p99", [*GIVEN, "--limit", "p99<10MB"]),
             ("limit-twice", 2, "give one", [*GIVEN, "--limit", "drop<1%", "--max-drop", "1%"]),
             ("metric", 2, "top9", [DIGITS, "--data", DATA, "--metric", "top9"]),
             ("model-missing", 7, "nowhere.onnx", [f"{T}/nowhere.onnx", *GIVEN[1:]]),
             ("config-word", 2, 'did you mean "goal"?', [*GIVEN, *config('{"gaol": "size"}')]) ,
             ("device", 5, "cuda", [*GIVEN, "--device", "cuda:77"])]
    for name, code, says, args in cases:
        if name.startswith("config"): config('{"gaol": "size"}')
        given = ["optimize", "-o", out, "--budget", "0.3s", *args] if args else ["optimize", *GIVEN]
        got, _, text = sard(*given)
        check(name, got == code and says in text and not os.path.exists(out) and not os.path.exists(out + ".optimize"), f"{got} {text[-300:]}")
    for name, says, text in [("config-value", "takes one value", '{"goal": ["size"]}'), ("config-kind", "needs a text or a number", '{"threads": true}'),
                             ("config-switch", "true or false", '{"free-dims": 3}'), ("config-itself", "cannot name another", '{"config": "x"}'),
                             ("config-list", "no JSON object", "[1]"), ("config-range", "--threads: '-1'", '{"threads": -1}'), ("config-damaged", "line 1", '{"goal" "size"}')]:
        got, _, said = sard("optimize", *GIVEN, "-o", out, *config(text))
        check(name, got in (2, 3) and says in said, f"{got} {said[-300:]}")
    os.makedirs(f"{T}/d.onnx.optimize")
    with open(f"{T}/d.onnx.optimize/state.json", "w") as f: f.write('{"key": "x", "trials": [{"name": 3')
    code, j, text = sard("optimize", *GIVEN, "-o", f"{T}/d.onnx", "--budget", "0.3s")
    check("state-missing", sard("optimize", *GIVEN, "-o", f"{T}/e.onnx", "--budget", "0.3s")[0] == 0)
    check("state-damaged", code == 0 and j["resumed"] == 0 and "tried anew" in text, f"{code} {text[-300:]}")


interrupted()
artifact()
shared()
hopeless()
refused()
sys.exit(end())
