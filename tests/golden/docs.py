#!/usr/bin/env python3
"""Runs the blocks marked ```sh test in docs/*.md, each with the program given as build/sard.

  docs.py SARD DOCS
"""
import glob, os, re, subprocess, sys

sard, docs = sys.argv[1:3]
passed = failed = 0
for path in sorted(glob.glob(docs + "/*.md") + ["README.md"]):
    for k, block in enumerate(re.findall(r"^```sh test\n(.*?)^```", open(path).read(), re.S | re.M)):
        p = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", block.replace("build/sard ", sard + " ")], capture_output=True, text=True)
        name = f"{os.path.basename(path)}/{k}"
        if p.returncode == 0: passed += 1; print("ok golden/docs/" + name)
        else: failed += 1; print(f"FAIL golden/docs/{name}: {(p.stderr or p.stdout).strip()[:300]}")
print(f"{passed} passed, {failed} failed")
