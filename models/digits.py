#!/usr/bin/env python3
"""Helps models/try.sh: puts the test set into a folder of .npy inputs, shows predictions and the accuracy.

  digits.py batch ACCURACY.npz DIR    writes DIR/NAME.npy for every array in_NAME
  digits.py show ACCURACY.npz DIR     reads DIR/output_0.pb (logits) and compares with the labels y
"""
import os, sys
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests", "corpus"))
from check import read_tensor


def batch(data, folder):
    os.makedirs(folder, exist_ok=True)
    for k in data:
        if k.startswith("in_"): np.save(f"{folder}/{k[3:]}.npy", data[k])


def show(data, folder):
    logits = read_tensor(folder + "/output_0.pb")[1]
    said, y, x = logits.argmax(1), data["y"], data["in_image"]
    for row in range(0, 28, 2):
        print("   " + "  ".join("".join(" .:oO@"[int(min(v, 0.999) * 6)] for v in x[i, 0, row, ::1]) for i in range(4)))
    print("   " + "  ".join(f"says {said[i]}, is {y[i]}".ljust(28) for i in range(4)))
    print(f"accuracy on {len(y)} held-out digits: {(said == y).mean():.1%}")


data = np.load(sys.argv[2])
{"batch": batch, "show": show}[sys.argv[1]](data, sys.argv[3])
