#!/usr/bin/env python3
"""The compile cache as users meet it: damage, concurrent starts, disks that are full or may not be written, interrupts,
external data, the bound.

    cache_cases.py SARD MODEL     MODEL has a symbolic dim `batch`; "N passed, N failed" at the end
"""
import json, mmap, os, pathlib, shutil, signal, struct, subprocess, sys, tempfile, time

sard, model = sys.argv[1:3]
work = pathlib.Path(tempfile.mkdtemp())
env = {k: v for k, v in os.environ.items() if k not in ("SARD_CACHE", "XDG_CACHE_HOME", "SARD_ISA", "SARD_VERIFY")}
env["HOME"] = str(work / "home")
passed = failed = 0


def check(name, good, why=""):
    global passed, failed
    if good: passed += 1
    else: failed += 1; print(f"FAIL {name}: {why}")


def command(cache, path, *flags):
    return [sard, "run", str(path), "--json", "-", "-v"] + (["--cache", str(cache)] if cache else []) + list(flags)


def run(name, cache, path, state, *flags, env=env, err=""):
    """Runs the model; the cache has to say `state`. The outputs."""
    p = subprocess.run(command(cache, path, *flags), env=env, capture_output=True, text=True, timeout=120)
    d = json.loads(p.stdout) if p.stdout else {}
    got = d.get("cache", {}).get("state")
    check(name, p.returncode == 0 and got == state and err in p.stderr, f"exit {p.returncode}, {got} instead of {state}: {p.stderr.strip()[:300]}")
    return d.get("outputs")


def only(cache, kind):
    found = list(cache.glob(f"*.{kind}"))
    check(f"one .{kind} in {cache.name}", len(found) == 1, found)
    return found[0]


def flip(path, at):
    """One byte changes, and the time of modification does not."""
    times = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(at)
        b = f.read(1)
        f.seek(at)
        f.write(bytes([b[0] ^ 16]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def damage():
    cache = work / "damage"
    want = run("first start", cache, model, "stored")
    check("second start", run("second start", cache, model, "hit") == want)
    artifact = only(cache, "sard")
    size = artifact.stat().st_size
    for at in (50, size // 3, size - 1):  # header, tables or code, weights
        flip(artifact, at)
        check(f"flipped byte {at}", run(f"flipped byte {at}", cache, model, "stored") == want, "other results")
    for cut in (0, size - 1):
        os.truncate(artifact, cut)
        check(f"cut at {cut}", run(f"cut at {cut}", cache, model, "stored") == want, "other results")
    run("after damage", cache, model, "hit")
    os.utime(artifact)
    run("touched artifact", cache, model, "hit")  # compared by contents
    for kind in ("ok", "in"):
        record = only(cache, kind)
        flip(record, 20)
        run(f"damaged .{kind}", cache, model, "stored" if kind == "ok" else "hit")
    (cache / "key").write_bytes(b"nonsense")
    run("damaged key", cache, model, "stored")
    check("nothing is left over", not list(cache.glob("*.tmp.*")))


def changes():
    cache, mine = work / "changes", work / "mine.onnx"
    shutil.copy(model, mine)
    run("copy of a model", cache, mine, "stored")
    os.utime(mine)
    run("touched model", cache, mine, "hit")
    link = work / "link.onnx"
    link.symlink_to(mine)
    time.sleep(0.15)
    run("model behind a link", cache, link, "hit")
    records = {f: f.stat().st_mtime_ns for f in cache.glob("*.in")}
    run("model behind a link again", cache, link, "hit")
    check("what is behind a link is not read again", records == {f: f.stat().st_mtime_ns for f in cache.glob("*.in")})
    flip(mine, mine.stat().st_size // 2)  # right behind: within a tick of the clock
    run("changed model", cache, mine, "stored")
    with open(mine, "r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
        for i in range(2):  # pages that stay dirty: their later writes move no time
            m[len(m) // 2] ^= 1 << i
            time.sleep(0.15)
            run(f"model mapped by a writer, change {i}", cache, mine, "stored")
            run(f"model mapped by a writer, same {i}", cache, mine, "hit")
        m.close()
    for flags in (["-O1"], ["--dim", "batch=2"]):
        run(f"other options {flags}", cache, mine, "stored", *flags)
        run(f"same options {flags}", cache, mine, "hit", *flags)


def number(field, v): return bytes([field << 3, v])


def field(field, v):
    v = v.encode() if isinstance(v, str) else v
    return bytes([field << 3 | 2, len(v)]) + v  # all are short


def with_external_data():
    """y = x + w of three elements, w in w.bin: an ONNX model by hand."""
    def value(name): return field(1, name) + field(2, field(1, number(1, 1) + field(2, field(1, number(1, 3)))))
    w = number(1, 3) + number(2, 1) + field(8, "w") + field(13, field(1, "location") + field(2, "w.bin")) + number(14, 1)
    add = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "Add")
    graph = field(1, add) + field(2, "g") + field(5, w) + field(11, value("x")) + field(12, value("y"))
    return number(1, 8) + field(7, graph) + field(8, number(2, 17))


def external():
    cache, folder = work / "external", work / "model"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(with_external_data())
    (folder / "w.bin").write_bytes(struct.pack("<3f", 1, 2, 3))
    time.sleep(2.1)
    one = run("external data", cache, folder / "m.onnx", "stored")
    run("external data again", cache, folder / "m.onnx", "hit")
    shutil.copytree(folder, work / "copy")
    run("external data in a copy", cache, work / "copy/m.onnx", "hit")
    (folder / "w.bin").write_bytes(struct.pack("<3f", 1, 2, 4))
    two = run("changed external data", cache, folder / "m.onnx", "stored")
    check("changed external data counts", one != two)
    check("external data of the copy", run("copy again", cache, work / "copy/m.onnx", "hit") == one)
    os.remove(folder / "w.bin")
    p = subprocess.run(command(cache, folder / "m.onnx"), env=env, capture_output=True, text=True)
    check("missing external data", p.returncode == 7 and "w.bin" in p.stderr, p.stderr)


def concurrent():
    cache = work / "many"
    for turn in range(2):
        all = [subprocess.Popen(command(cache, model), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
        results = [p.communicate(timeout=120) + (p.returncode,) for p in all]
        outputs = {json.dumps(json.loads(out)["outputs"]) for out, _, _ in results}
        check(f"eight at once, turn {turn}", all and not any(rc for _, _, rc in results) and len(outputs) == 1, results[0][1][:200])
    run("after eight", cache, model, "hit")
    check("eight leave nothing", not list(cache.glob("*.tmp.*")) and len(list(cache.iterdir())) == 4, list(cache.iterdir()))


def places():
    run("default folder", None, model, "stored")
    check("default folder is below HOME", (work / "home/.cache/sard").is_dir())
    run("XDG_CACHE_HOME", None, model, "stored", env=dict(env, XDG_CACHE_HOME=str(work / "xdg")))
    check("its folder", (work / "xdg/sard").is_dir() and (work / "xdg/sard").stat().st_mode & 0o777 == 0o700)
    run("SARD_CACHE", None, model, "stored", env=dict(env, SARD_CACHE=str(work / "named")))
    run("SARD_CACHE=off", None, model, "off", env=dict(env, SARD_CACHE="off"))
    run("--cache off", "off", model, "off")
    run("no home", None, model, "off", env={k: v for k, v in env.items() if k != "HOME"})
    (work / "file").write_text("")
    run("the folder is a file", work / "file", model, "unused", err="not a folder")
    (work / "open").mkdir()
    os.chmod(work / "open", 0o777)
    run("others may write", work / "open", model, "unused", err="others may write")
    run("too large for the limit", work / "limit", model, "unused", "--cache-limit", "1K", err="the limit of the cache")
    p = subprocess.run(command(work / "limit", model, "--cache-limit", "x"), env=env, capture_output=True, text=True)
    check("wrong limit", p.returncode == 2)


def full():
    cache = work / "full"
    cache.mkdir()
    if os.getuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs", cache], capture_output=True).returncode == 0:
        run("full disk", cache, model, "unused", err="the cache is not used")
        check("a full disk keeps no parts", not list(cache.glob("*.sard")) and not list(cache.glob("*.tmp.*")))
        subprocess.run(["mount", "-o", "remount,ro", cache], capture_output=True)
        run("read-only disk", cache, model, "unused", err="the cache is not used")
        subprocess.run(["umount", cache])


def bound():
    cache = work / "bound"
    run("bound", cache, model, "stored", "--dim", "batch=1")
    limit = 3 * sum(f.stat().st_blocks * 512 for f in cache.iterdir() if f.name != "key") + (64 << 10)  # about three models
    for i in range(2, 7):
        run(f"bound {i}", cache, model, "stored", "--dim", f"batch={i}", "--cache-limit", str(limit))
        run(f"first one after {i}", cache, model, "hit", "--dim", "batch=1", "--cache-limit", str(limit))
    used = sum(f.stat().st_blocks * 512 for f in cache.iterdir() if f.name != "key")
    check("bytes are bounded", used <= limit, used)
    run("the last one is there", cache, model, "hit", "--dim", "batch=6")
    run("an early one is not", cache, model, "stored", "--dim", "batch=2")


def interrupts():
    cache = work / "stopped"
    for i in range(6):
        p = subprocess.Popen(command(cache, model, "--dim", f"batch={20 + i}"), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.02 * i)
        p.send_signal(signal.SIGINT)
        p.wait(60)
    check("interrupts leave no half file", not list(cache.glob("*.tmp.*")), list(cache.iterdir()) if cache.exists() else "")


for case in (damage, changes, external, concurrent, places, full, bound, interrupts): case()
shutil.rmtree(work)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
