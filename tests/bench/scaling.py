#!/usr/bin/env python3
"""Predictions of sard partition --simulate beside published measurements, as the table of docs/scaling.md.

    scaling.py SARD [FOLDER]    FOLDER has published.json, devices/ and decoders/ (docs/examples)
A row is [source, decoder, devices, split, batch, prompt, context, what, milliseconds measured, "fitted"?]. What: prefill, decode
(a token of all sequences) or total (all tokens behind the prompt, of which prefill gives the first). `launch` of the devices is the source's.
"""
import json, pathlib, statistics, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def predict(sard, folder, devices, launch, row):
    _, decoder, _, split, batch, prompt, context, what = row[:8]
    spec = json.loads((folder / "devices" / f"{devices}.json").read_text())
    for d in spec["devices"]:
        d["launch"] = launch
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(spec, f)
        f.flush()
        words = [sard, "partition", folder / "decoders" / f"{decoder}.json", "--devices", f.name, "--simulate", "--split", split, "--json", "-", "-q",
                 f"--dim=batch={batch}", f"--dim=prompt={prompt}", f"--dim=context={context}"]
        out = json.loads(subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True).stdout)
    ms = [p["seconds"] * 1e3 for p in out["splits"][0]["phases"]]
    return {"prefill": ms[0], "decode": ms[1], "total": ms[0] + (context - prompt - 1) * ms[1]}[what]


def main():
    sard, folder = sys.argv[1], pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs/examples"
    published = json.loads((folder / "published.json").read_text())
    launch = {s["name"]: s["launch"] for s in published["sources"]}
    errors = []
    print(f"{'source':17} {'decoder':13} {'devices':8} {'split':16} {'batch':>5} {'in':>5} {'out':>5} {'what':7} {'predicted ms':>12} {'measured ms':>11} {'error':>6}")
    for row in published["rows"]:
        source, decoder, devices, split, batch, prompt, context, what, measured = row[:9]
        ms = predict(sard, folder, devices, launch[source], row)
        fitted = len(row) > 9
        errors += [] if fitted else [ms / measured - 1]
        print(f"{source:17} {decoder:13} {devices:8} {split:16} {batch:5} {prompt:5} {context - prompt:5} {what:7} {ms:12.4g} {measured:11.4g} {100 * (ms / measured - 1):+5.0f}%{' fitted' if fitted else ''}")
    sizes = sorted(abs(e) for e in errors)
    print(f"{len(errors)} predictions: half of them within {100 * statistics.median(sizes):.0f} %, the worst {100 * sizes[-1]:.0f} % off")


main()
