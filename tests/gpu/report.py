"""Latencies of Sard on a GPU beside torch.compile in the same run, and how much of the card kernels use.

usage: python3 report.py FOLDER [--budget SECONDS] [--peers SECONDS] [--out FILE.md]

FOLDER: what `tests/gpu.sh --pack` made, unpacked: sard-rt, sample, bench/NAME.s. Names are MODEL_TYPE: resnet50_f16.
Without PyTorch only Sard is measured. Rounds alternate; each figure is the median.
"""
import argparse
import json
import os
import subprocess
import sys
import time

BATCHES = (1, 8, 64)
SYMBOLS = {"bert_base": {"seq": 128}, "gpt2": {"seq": 128}, "gpt2kv": {"seq": 1, "past": 512}}
TITLES = {"resnet50": "ResNet-50", "vit_b_16": "ViT-B/16", "bert_base": "BERT-base, 128 tokens", "gpt2": "GPT-2 prefill, 128 tokens",
          "gpt2kv": "GPT-2 decode, 512 past", "row_product": "product 4096 x 1024 x 4096", "row_head": "product 1024 x 256 x 50257",
          "row_groups": "3x3 convolution, 32 groups of 32, 16 x 14 x 14", "row_gelu": "product 8192 x 768 x 3072 and GELU",
          "row_sum": "sum of 8192 x 8192", "row_walk": "CumSum of 8192 x 4096", "row_scatter": "ScatterND, 4096 rows of 768 added to 1000"}


# ---- Sard ----
def bench(folder, name, batch, seconds=1.0, profile=False, device="cuda", library="auto"):
    """The result of `sard-rt bench` as a dict; {"error": text} when it fails."""
    artifact = os.path.join(folder, "bench", name + ".sard")
    if not os.path.exists(artifact):
        subprocess.run([os.path.join(folder, "sample"), "fill", artifact[:-5] + ".s", artifact], check=True)
    command = [os.path.join(folder, "sard-rt"), "bench", artifact, "--device", device, "--duration", str(seconds), "--json", "-", "-q",
               "--library", library]
    if batch:
        command += ["--dim", f"batch={batch}"]
    if profile:
        command += ["--profile", "--top", "12"]
    r = subprocess.run(command, capture_output=True, text=True)
    if r.returncode:
        return {"error": r.stderr.strip()[-300:]}
    return json.loads(r.stdout)


def by_library(result):
    """The sizes of products that cuBLASLt multiplies, and all that were measured."""
    products = result.get("library", {}).get("products", [])
    return sum(p["by"] == "cuBLASLt" for p in products), len(products)


# ---- PyTorch ----
def torch_row(kind, torch):
    """What tests/gpu/rows.py has, as a module."""
    functions = {"sum": lambda x: x.sum(), "walk": lambda x: x.cumsum(1)}
    sides = {"product": (1024, 4096), "head": (256, 50257), "gelu": (768, 3072)}
    name = kind[4:]
    if name == "groups":
        return torch.nn.Conv2d(1024, 1024, 3, padding=1, groups=32, bias=False)
    if name in sides:
        product = torch.nn.Linear(*sides[name], bias=False)
        return torch.nn.Sequential(product, torch.nn.GELU()) if name == "gelu" else product

    class Row(torch.nn.Module):
        def forward(self, *args):
            return functions[name](*args)
    return Row()


def torch_model(kind, torch):
    if kind.startswith("row_"):
        return torch_row(kind, torch)
    if kind == "resnet50":
        from torchvision.models import resnet50
        return resnet50(weights=None)
    if kind == "vit_b_16":
        from torchvision.models import vit_b_16
        return vit_b_16(weights=None)
    import transformers as tf
    if kind == "bert_base":
        return tf.BertModel(tf.BertConfig())
    return tf.GPT2LMHeadModel(tf.GPT2Config())


def torch_inputs(kind, batch, dtype, torch):
    rows = {"row_product": (4096, 1024), "row_head": (1024, 256), "row_gelu": (8192, 768), "row_groups": (16, 1024, 14, 14), "row_sum": (8192, 8192),
            "row_walk": (8192, 4096)}
    if kind in rows:
        return {"args": (torch.randn(*rows[kind], device="cuda", dtype=dtype),)}
    if kind in ("resnet50", "vit_b_16"):
        x = torch.randn(batch, 3, 224, 224, device="cuda", dtype=dtype)
        return {"args": (x.to(memory_format=torch.channels_last) if kind == "resnet50" else x,)}
    ids = torch.randint(0, 1000, (batch, 1 if kind == "gpt2kv" else 128), device="cuda")
    if kind == "bert_base":
        return {"kwargs": {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}}
    if kind == "gpt2":
        return {"kwargs": {"input_ids": ids, "use_cache": True}}
    return {"kwargs": {"input_ids": ids, "past": [tuple(torch.randn(batch, 12, 512, 64, device="cuda", dtype=dtype) for _ in range(2)) for _ in range(12)]}}


def with_cache(model, torch):
    """GPT-2 with its keys and values as tensors, so that one graph holds the step."""
    from transformers.cache_utils import DynamicCache

    def step(input_ids, past):
        out = model(input_ids=input_ids, past_key_values=DynamicCache(past), use_cache=True)
        return out.logits
    return step


def torch_time(kind, typ, batch, torch, compiled):
    dtype = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[typ]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = typ == "tf32"
    torch.backends.cudnn.benchmark = True
    model = torch_model(kind, torch).eval().to("cuda", dtype)
    if kind == "resnet50":
        model = model.to(memory_format=torch.channels_last)
    inputs = torch_inputs(kind, batch, dtype, torch)
    call = with_cache(model, torch) if kind == "gpt2kv" else model
    if compiled:
        torch._dynamo.reset()
        call = torch.compile(call, mode="reduce-overhead", dynamic=False)
    with torch.inference_mode():
        for _ in range(6):
            call(*inputs.get("args", ()), **inputs.get("kwargs", {}))
        torch.cuda.synchronize()
        times = []
        end = time.time() + 0.7
        while len(times) < 20 or time.time() < end:
            t0 = time.perf_counter()
            call(*inputs.get("args", ()), **inputs.get("kwargs", {}))
            torch.cuda.synchronize()
            times.append((time.perf_counter() - t0) * 1e3)
    return sorted(times)[len(times) // 2]


def card(torch):
    """Bandwidth of a copy (bytes read and written) in GB/s and a product of 8192^3 in TFLOP/s for f16, tf32 and f32."""
    def timed(f, n=20):
        f()
        torch.cuda.synchronize()
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        for _ in range(n):
            f()
        b.record()
        torch.cuda.synchronize()
        return a.elapsed_time(b) / n * 1e-3
    x = torch.randn(1 << 28, device="cuda")
    y = torch.empty_like(x)
    found = {"name": torch.cuda.get_device_name(), "copy_gbs": 2 * x.numel() * 4 / timed(lambda: y.copy_(x)) * 1e-9}
    del x, y
    for key, dtype, tf32 in (("f16", torch.float16, False), ("tf32", torch.float32, True), ("f32", torch.float32, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
        found[key + "_tflops"] = 2 * 8192 ** 3 / timed(lambda: a @ b, 5) * 1e-12
    return found


# ---- the table ----
def measure(folder, args):
    names = sorted(f[:-2] for f in os.listdir(os.path.join(folder, "bench")) if f.endswith(".s"))
    rows = []
    start = time.time()
    for name in names:
        kind, _, typ = name.rpartition("_")
        for batch in BATCHES if not kind.startswith("row_") else (None,):
            if time.time() - start > args.budget:
                break
            r = bench(folder, name, batch)
            rows.append({"model": kind, "type": typ, "batch": batch, "sard": r.get("latency_ms", {}).get("median"), "error": r.get("error")})
            rows[-1]["by_library"], rows[-1]["products"] = by_library(r)
            if rows[-1]["by_library"]:
                rows[-1]["kernels"] = bench(folder, name, batch, library="no").get("latency_ms", {}).get("median")
            print(rows[-1], flush=True)
    return rows


def add_peers(rows, args, torch):
    start = time.time()
    for r in sorted(rows, key=lambda r: (r["type"] != "f16", r["batch"] != 1)):
        if time.time() - start > args.peers:
            break
        for key, compiled in (("torch", False), ("compile", True)):
            try:
                r[key] = torch_time(r["model"], r["type"], r["batch"], torch, compiled)
            except Exception as e:  # a peer that fails has no figure; the table says so
                r[key + "_error"] = f"{type(e).__name__}: {e}"[:200]
        print(r, flush=True)


def write(rows, found, path):
    with open(path, "w") as f:
        f.write("# Speed on GPUs\n\nMade by `tests/gpu.sh`. Latency in ms, inputs and outputs on the device, median.\n\n")
        if found:
            f.write(f"Card: {found['name']}; copy {found['copy_gbs']:.0f} GB/s, products of 8192^3 {found['f16_tflops']:.0f} TFLOP/s in f16, "
                    f"{found['tf32_tflops']:.0f} in tf32, {found['f32_tflops']:.0f} in f32 (by PyTorch).\n\n")
        f.write("| model | type | batch | Sard | of products by cuBLASLt | without it | torch.compile | PyTorch | against the better |\n"
                "|---|---|---|---|---|---|---|---|---|\n")
        number = lambda v: "-" if v is None else f"{v:.3f}"
        for r in rows:
            peers = [r[k] for k in ("torch", "compile") if r.get(k)]
            ratio = f"{min(peers) / r['sard']:.2f}x" if peers and r["sard"] else "-"
            f.write(f"| {TITLES.get(r['model'], r['model'])} | {r['type']} | {r['batch'] or '-'} | {number(r['sard'])} | "
                    f"{r['by_library']} of {r['products']} | {number(r.get('kernels'))} | {number(r.get('compile'))} | "
                    f"{number(r.get('torch'))} | {ratio} |\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("--budget", type=float, default=600)
    p.add_argument("--peers", type=float, default=600)
    p.add_argument("--out", default="performance-gpu.md")
    args = p.parse_args()
    rows = measure(args.folder, args)
    found = None
    try:
        import torch
        found = card(torch)
        print(found, flush=True)
        add_peers(rows, args, torch)
    except ImportError:
        print("PyTorch is not here: only Sard is measured", file=sys.stderr)
    write(rows, found, args.out)
    with open(args.out + ".json", "w") as f:
        json.dump({"card": found, "rows": rows}, f)


if __name__ == "__main__":
    main()
