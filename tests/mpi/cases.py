"""Models over processes: mpirun -np N sard run MODEL --devices mpi --split tensor. Numbers are those of as many threads; a rank
that is killed or stopped at any time ends the run with an error that names it, within 10 s, and nothing is left behind. bench
and check run the same way; ranks of another version, or with another model, are errors.

usage: mpi_cases.py SARD CORPUS [--runs N] [--early N] [--seed S]   prints a line for each failure and, last, "N passed, N failed"
N faults at any time of a run, and N in its first moments, while MPI starts
"""
import filecmp
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

WITHIN = 10  # seconds from a fault to the end of the run
EARLY = 0.15  # seconds from the start of a process in which MPI starts, and some more
MPIRUN = ["mpirun", "--oversubscribe", "--mca", "btl", "self,vader"]  # one machine
ENV = dict(os.environ, SARD_CACHE="off", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def command(n, sard, *words):
    return [*MPIRUN, "-np", str(n), sard, *map(str, words), "--devices", "mpi", "--split", "tensor", "--threads", "1"]


def run(words):
    return subprocess.run(words, capture_output=True, text=True, env=ENV, timeout=120)


def ranks_of(pid):
    """Processes of a run by rank."""
    found = {}
    try:
        children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    except OSError:
        return found
    for child in children:
        try:
            rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", open(f"/proc/{child}/environ", "rb").read())
        except OSError:
            continue
        if rank:
            found[int(rank.group(1))] = int(child)
    return found


def working_on(folder):
    """Processes of a run, by the folder that its outputs go to."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if folder.encode() in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0"):
                found.append(int(pid))
        except OSError:
            pass
    return found


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def same_as_threads(sard, case, where, n):
    one, many, data = os.path.join(where, "threads"), os.path.join(where, "ranks"), case + "/test_data_set_0"
    devices = ",".join(f"cpu:{i}" for i in range(n))
    done = run([sard, "run", case + "/model.onnx", "--devices", devices, "--split", "tensor", "--threads", "1", "--inputs", data, "--outputs", one, "-q"])
    if done.returncode:
        return f"threads: {done.stderr}"
    done = run(command(n, sard, "run", case + "/model.onnx", "--inputs", data, "--expect", data, "--outputs", many))
    if done.returncode or done.stdout.split("\n").count("PASSED") != 1:
        return f"{n} ranks: exit {done.returncode}: {done.stdout}{done.stderr}"
    for file in os.listdir(one):
        if not filecmp.cmp(os.path.join(one, file), os.path.join(many, file), shallow=False):
            return f"{n} ranks: {file} differs from that of threads"
    return None


def with_fault(sard, case, where, n, rng, whole, early=False):
    """A rank is killed or stopped at a random time of a run that takes `whole` seconds, or as soon as it is there."""
    out = os.path.join(where, "fault")
    shutil.rmtree(out, ignore_errors=True)
    victim, how, at = rng.randrange(n), rng.choice([signal.SIGKILL, signal.SIGSTOP]), rng.uniform(0, EARLY if early else whole)
    p = subprocess.Popen(command(n, sard, "run", case + "/model.onnx", "--inputs", case + "/test_data_set_0", "--outputs", out),
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV)
    while early and victim not in ranks_of(p.pid) and p.poll() is None:
        time.sleep(0.001)
    time.sleep(at)
    what, ranks, struck = f"rank {victim}, {how.name} {'as it is ' if early else ''}{at:.3f} s old", ranks_of(p.pid), False
    if victim in ranks:
        try:
            os.kill(ranks[victim], how)
            struck = True
        except ProcessLookupError:
            pass
    start = time.monotonic()
    try:
        text, _ = p.communicate(timeout=WITHIN + whole)
    except subprocess.TimeoutExpired:
        others = [r for r, pid in ranks.items() if r != victim and alive(pid)]
        for pid in [p.pid, *working_on(out)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # Who stops behind the last exchange is waited for by mpirun alone: all others have left.
        return f"{what}: it goes on, and so do ranks {others}" if others or how != signal.SIGSTOP else None
    while time.monotonic() - start < WITHIN and any(alive(pid) for pid in working_on(out)):
        time.sleep(0.05)
    took = time.monotonic() - start
    left = [pid for pid in working_on(out) if alive(pid)]
    half = [f for f in (os.listdir(out) if os.path.isdir(out) else []) if not f.endswith(".pb")]
    if left or half:
        return f"{what}: left behind: processes {left}, files {half}"
    if not struck or p.returncode == 0:  # it was at its end
        return None
    if took > WITHIN:
        return f"{what}: {took:.1f} s"
    known = re.search(rf"rank {victim}\b", text) or (how == signal.SIGSTOP and re.search("a rank does not (start|leave)", text))
    return None if known else f"{what}: no error names it: {text}"


def with_verbs(sard, case):
    """bench, whose ranks make as many runs, and check."""
    done = run(command(2, sard, "bench", case + "/model.onnx", "--duration", 0.2, "--warmup", 1, "--json", "-"))
    try:
        result = json.loads(done.stdout)
        good = result["iterations"] > 0 and result["ranks"] == 2 and result["transport"] == "mpi" and result["moved_bytes"] > 0
    except (ValueError, KeyError):
        good = False
    if done.returncode or not good:
        return f"bench: exit {done.returncode}: {done.stdout}{done.stderr}"
    done = run(command(2, sard, "check", case))
    if done.returncode or done.stdout.count("1 passed, 0 failed") != 1:
        return f"check: exit {done.returncode}: {done.stdout}{done.stderr}"
    return None


def unlike(sard, case, where):
    """A rank with another model, and one of another version."""
    other = os.path.join(where, "sard")
    with open(sard, "rb") as f:
        program = f.read()
    with open(other, "wb") as f:
        f.write(re.sub(rb"(sard-peer \d+\.\d+\.)\d", rb"\g<1>x", program))
    os.chmod(other, 0o755)
    ENV["SARD_MPI"] = os.path.join(os.path.dirname(os.path.abspath(sard)), "libsard_mpi.so")
    wrong = None
    for program, model, code, says in ((sard, "digits_mlp", 3, "has another model"), (other, "mnist_resnet8", 5, "all have to be of one version")):
        path = os.path.join(os.path.dirname(case), model, "model.onnx")
        done = run([*command(1, sard, "run", case + "/model.onnx"), ":", *command(1, program, "run", path)[len(MPIRUN):]])
        if done.returncode != code or says not in done.stderr:
            wrong = f"unlike ranks: exit {done.returncode} instead of {code}: {done.stderr}"
    del ENV["SARD_MPI"]
    return wrong


def main():
    words = sys.argv[1:]
    value = lambda flag, other: int(words[words.index(flag) + 1]) if flag in words else other
    sard, corpus, runs, rng = words[0], words[1], value("--runs", 4), random.Random(value("--seed", 1))
    passed = failed = 0

    def count(wrong):
        nonlocal passed, failed
        passed, failed = passed + (not wrong), failed + bool(wrong)
        if wrong:
            print(f"FAIL {wrong}")

    if not shutil.which("mpirun") or not os.path.exists(os.path.join(os.path.dirname(sard), "libsard_mpi.so")):
        print("there is no MPI\n0 passed, 0 failed")
        return 0
    case = os.path.join(corpus, "mnist_resnet8")
    with tempfile.TemporaryDirectory() as where:
        start = time.monotonic()
        count(same_as_threads(sard, case, where, 4))
        whole = time.monotonic() - start
        for _ in range(runs):
            count(with_fault(sard, case, where, 4, rng, whole))
        for _ in range(value("--early", 3)):
            count(with_fault(sard, case, where, 4, rng, whole, early=True))
        count(with_verbs(sard, case))
        count(unlike(sard, case, where))
        done = run([sard, "run", case + "/model.onnx", "--devices", "mpi", "--split", "tensor"])
        count(None if done.returncode == 5 and "mpirun" in done.stderr else f"without mpirun: exit {done.returncode}: {done.stderr}")
        done = run(command(2, sard, "run", case + "/none.onnx"))
        count(None if done.returncode == 7 and done.stderr.count("cannot open") == 1 else f"no model: exit {done.returncode}: {done.stderr}")
    print(f"{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main())
