"""Commands of sard, thousands of them: by tests/support/many.c where it is built beside it, whose processes begin with LLVM loaded."""
import atexit
import os
import subprocess
import tempfile
import threading

of_thread = threading.local()  # a program and a folder for what its commands write


def start(program):
    of_thread.program = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    of_thread.folder = tempfile.TemporaryDirectory()
    atexit.register(of_thread.program.communicate)


def run(sard, *args):
    """As subprocess.run of `sard ARGS...`, which it is where there is no such program: exit code, and both outputs as texts."""
    program = os.path.join(os.path.dirname(sard), "tests", "many")
    if not os.path.exists(program):
        return subprocess.run([sard, *args], capture_output=True, text=True, timeout=120)
    if not hasattr(of_thread, "program"):
        start(program)
    folder, pipe = of_thread.folder.name, of_thread.program
    pipe.stdin.write("".join(f"{item}\0" for item in (folder, len(args), *args)).encode())
    pipe.stdin.flush()
    code = pipe.stdout.readline()
    if not code:
        raise RuntimeError(f"{program} ended")
    texts = [open(os.path.join(folder, name), errors="replace").read() for name in ("out", "err")]
    return subprocess.CompletedProcess(args, int(code), *texts)
