#!/usr/bin/env python3
"""Golden tests: each *.test file holds a command, an input and the whole output of the command.

    // what the case shows
    $ sard compile in.sard-ir ...      one command; it runs in an empty folder that holds the input as in.sard-ir
    ---- input
    module ...
    ---- output
    ...                                standard output; with an exit code that is not 0 also standard error and "exit N"

Where the output is a graph it must verify and print the same when it is read again.
    golden.py SARD FOLDER [--update] [NAME...]      --update rewrites the outputs that differ
"""
import difflib, os, pathlib, shlex, subprocess, sys, tempfile

IN, OUT = "---- input\n", "---- output\n"


def read_case(path):
    text = path.read_text()
    head, _, rest = text.partition(IN)
    source, mark, want = rest.partition(OUT)
    commands = [line[2:] for line in head.splitlines() if line.startswith("$ ")]
    if len(commands) != 1 or not mark:
        raise ValueError("expected one line '$ sard ...', an input and an output")
    return head, commands[0], source, want


def run(sard, command, folder):
    words = shlex.split(command)
    if words[0] != "sard":
        raise ValueError("the command is not sard")
    done = subprocess.run([sard, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=60)
    tail = f"{done.stderr}exit {done.returncode}\n" if done.returncode else ""
    return done.stdout + tail


def reread(sard, text, folder):
    """What is wrong with a dump as an input, None when it comes back as it is."""
    (folder / "again.sard-ir").write_text(text)
    again = run(sard, "sard compile again.sard-ir --dump=import --stop-after=import --verify -q", folder)
    body = lambda s: [line for line in s.splitlines() if not line.startswith("// after")]
    if body(again) == body(text):
        return None
    return "".join(difflib.unified_diff(text.splitlines(True), again.splitlines(True), "dump", "read again", n=1))


def check(sard, path, update):
    head, command, source, want = read_case(path)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "in.sard-ir").write_text(source)
        got = run(sard, command, folder)
        bad = reread(sard, got, folder) if got.startswith("// after") and got.count("\nmodule ") == 1 else None
    if bad:
        return "the output is no fixed point of printing and reading:\n" + bad
    if got == want:
        return None
    if update:
        path.write_text(head + IN + source + OUT + got)
        return None
    return "".join(difflib.unified_diff(want.splitlines(True), got.splitlines(True), "expected", "got", n=2))


def main():
    words = [w for w in sys.argv[1:] if w != "--update"]
    sard, folder, names = os.path.abspath(words[0]), pathlib.Path(words[1]), words[2:]
    passed = failed = 0
    for path in sorted(folder.glob("*.test")):
        if names and path.stem not in names:
            continue
        try:
            bad = check(sard, path, "--update" in sys.argv)
        except (ValueError, OSError, subprocess.TimeoutExpired) as e:
            bad = str(e)
        passed, failed = passed + (not bad), failed + bool(bad)
        print(f"FAIL golden/{path.stem}: {bad}" if bad else f"ok golden/{path.stem}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
