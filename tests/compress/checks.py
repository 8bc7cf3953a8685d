"""What the tests of eval and quantize share: counted checks, and runs of the program with its JSON."""
import json, os, subprocess, sys, tempfile

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


def end():
    """The exit code, behind the last line."""
    print(f"{counts[True]} passed, {counts[False]} failed")
    return counts[False] > 0
