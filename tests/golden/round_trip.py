#!/usr/bin/env python3
"""Dumps of whole models: each is a legal input that prints the same, and compiling goes on from it to the same end.

    round_trip.py SARD CORPUS [CASE...]
"""
import os, pathlib, subprocess, sys, tempfile

CASES = ["mobilenet_v2_tiny", "bert_base_tiny", "lstm_lm_tiny", "densenet121_tiny", "gpt2_tiny"]


def sard(program, folder, *words):
    done = subprocess.run([program, "compile", *words, "-q"], cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"sard compile {' '.join(map(str, words))}: {done.stderr.strip()}")


def passes(program):
    out = subprocess.run([program, "compile", "x", "--list-passes"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in out.splitlines() if line.strip()]


def check(program, model, names):
    """One line for each dump that does not come back; continues from three places in the pipeline."""
    wrong = []
    with tempfile.TemporaryDirectory() as where:
        folder = pathlib.Path(where)
        sard(program, folder, model, "--dump=all", "--dump-dir=all", f"--stop-after={names[-1]}")
        dumps = [n for n in ["import", *names] if (folder / "all" / f"{n}.sard-ir").exists()]
        for name in dumps:
            sard(program, folder, "--from", f"all/{name}.sard-ir", "--dump=import", "--dump-dir=again", "--stop-after=import", "--verify")
            if (folder / "all" / f"{name}.sard-ir").read_bytes() != (folder / "again" / "import.sard-ir").read_bytes():
                wrong.append(f"the dump after {name} prints otherwise when it is read again")
        for name in ("import", "cse", "fuse"):
            after = names[names.index(name) + 1] if name in names else names[0]
            sard(program, folder, "--from", f"all/{name}.sard-ir", f"--from-pass={after}", "-o", "end.sard-ir", "--emit=ir")
            end = (folder / "end.sard-ir").read_bytes()
            if end != (folder / "all" / f"{names[-1]}.sard-ir").read_bytes():
                wrong.append(f"going on after {name} ends in another graph")
    return wrong


def main():
    program, corpus = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    names = passes(program)
    passed = failed = 0
    for case in sys.argv[3:] or CASES:
        try:
            wrong = check(program, corpus / case / "model.onnx", names)
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            wrong = [str(e)]
        passed, failed = passed + (not wrong), failed + bool(wrong)
        print(f"FAIL golden/round_trip/{case}: {'; '.join(wrong)}" if wrong else f"ok golden/round_trip/{case}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
