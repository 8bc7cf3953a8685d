"""What the tests of the compressing verbs share: counted checks, runs of the program with its JSON, trained models with their test sets."""
import json, os, signal, subprocess, sys, tempfile, time
import numpy as np

SARD, CORPUS = sys.argv[1:3]
T = tempfile.mkdtemp()
counts = {True: 0, False: 0}


def check(name, ok, why=""):
    counts[bool(ok)] += 1
    print(f"ok {name}" if ok else f"FAIL {name}: {why}")


def sard(*args):
    """(exit code, JSON, text)"""
    out = os.path.join(T, "j")
    if os.path.exists(out): os.remove(out)
    r = subprocess.run([SARD, *args, "--json", out], capture_output=True, text=True)
    return r.returncode, (json.load(open(out)) if os.path.exists(out) else {}), r.stdout + r.stderr


class Case:
    """A trained model of the corpus, its samples and labels."""
    def __init__(self, name, samples=None):
        self.name, self.dir = name, os.path.join(CORPUS, name)
        self.model, self.data = f"{self.dir}/model.onnx", f"{self.dir}/accuracy.npz"
        z = dict(np.load(self.data))
        self.y = z.pop("y")[:samples]
        self.x = {k[3:]: v[:samples] for k, v in z.items()}


def interrupted(delays, *args):
    """Ctrl-C, after the first of the delays that is within the run: no model, no half file, and a report of what is known."""
    out, report = f"{T}/int.onnx", f"{T}/int.json"
    for delay in delays:
        p = subprocess.Popen([SARD, *args, "-o", out, "--json", report, "-q"], stderr=subprocess.PIPE)
        time.sleep(delay)
        p.send_signal(signal.SIGINT)
        code = p.wait(60)
        if code != 0: break
        os.remove(out)
    left = [f for f in os.listdir(T) if ".tmp." in f]
    j = json.load(open(report)) if os.path.exists(report) else {}
    check("interrupt", code == 130 and not os.path.exists(out) and not left, f"exit {code}, {left}")
    check("interrupt-report", j.get("exit_code") == 130 and (not j.get("layers") or j["partial"]), j)


def end():
    """The exit code, behind the last line."""
    print(f"{counts[True]} passed, {counts[False]} failed")
    return counts[False] > 0
