#!/usr/bin/env python3
"""Runs the examples of docs/*.md and README.md.

    docs.py SARD FOLDER [NAME...]
Fenced blocks count by the words after the fence:
    sh test                  run by bash -eu in an empty folder that the blocks of one file share; has to succeed.
                             $ROOT is the checkout, $CORPUS the cases, $BUILD the build; sard and sard-rt are in the PATH
    text output              what the block before it prints (all of it)
    c file=PATH              a new source file, and
    c add=PATH after=TEXT    lines that go behind the first line of PATH that holds TEXT: both are compiled into a sard of
                             their own, which the later blocks of that file use
"""
import os, pathlib, re, shlex, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def blocks(text):
    for m in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        yield text[: m.start()].count("\n") + 1, m.group(1).strip(), m.group(2)


def run(*words, **more):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, **more).stdout


class Page:
    def __init__(self, sard, where):
        self.sard, self.where = sard, where
        self.work, self.overlay = where / "work", where / "overlay"
        self.work.mkdir(), self.overlay.mkdir()
        self.changed = []  # paths of changed and new sources, relative to the checkout
        self.built = True

    def change(self, info, body):
        options = dict(w.split("=", 1) for w in shlex.split(info) if "=" in w)
        name = options.get("file") or options["add"]
        target = self.overlay / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if "add" in options:
            lines = (target if target.exists() else ROOT / name).read_text().splitlines(True)
            at = next((i for i, line in enumerate(lines) if options["after"] in line), None)
            if at is None:
                raise ValueError(f"{name} has no line with '{options['after']}'")
            body = "".join(lines[: at + 1]) + body + "".join(lines[at + 1 :])
        target.write_text(body)
        self.changed.append(name)
        self.built = False

    def sources(self):
        """The changed .c files, and those that include a changed table."""
        out = {p for p in self.changed if p.endswith(".c")}
        tables = [p for p in self.changed if not p.endswith(".c")]
        if any(p.startswith("ir/ops/") for p in tables):
            tables.append("ir/ops.def")
        for path in [p for folder in ("ir", "passes", "codegen", "runtime", "frontend") for p in (ROOT / folder).rglob("*.c")]:
            if any(f'"{t}"' in path.read_text() for t in tables):
                out.add(str(path.relative_to(ROOT)))
        return sorted(out)

    def build(self):
        """Links the changed sources in front of the library of the build: its objects of the same names are left out."""
        llvm = run(os.environ.get("LLVM_CONFIG", "llvm-config-19"), "--link-shared", "--includedir", "--ldflags", "--libs").split()
        flags = ["-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-O1", f"-I{self.overlay}", f"-I{ROOT}", f"-I{ROOT}/runtime/include", f"-I{llvm[0]}"]
        objects = []
        for name in self.sources():
            source = self.overlay / name if (self.overlay / name).exists() else ROOT / name
            objects.append(self.where / (name.replace("/", "_") + ".o"))
            run("cc", *flags, "-c", source, "-o", objects[-1])
        (self.where / "bin").mkdir(exist_ok=True)
        cli = sorted((self.sard.parent / "CMakeFiles/sard.dir/frontend/cli").glob("*.o"))
        run("cc", *objects, *cli, self.sard.parent / "libsard.a", *llvm[1:], "-lprotobuf-c", "-lz", "-lpthread", "-ldl", "-lm", "-o", self.where / "bin/sard")
        self.built = True

    def test(self, body):
        if not self.built:
            self.build()
        corpus = pathlib.Path(os.environ.get("SARD_CORPUS", ROOT.parent / "shared/corpus"))
        env = dict(os.environ, ROOT=str(ROOT), CORPUS=str(corpus if corpus.is_dir() else ROOT / "models/corpus"), BUILD=str(self.sard.parent),
                   PATH=f"{self.where / 'bin'}:{self.sard.parent}:{os.environ['PATH']}")
        done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", body], cwd=self.work, env=env, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise ValueError(f"exit code {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
        return done.stdout


def check(path, sard):
    """The number of examples, and what is wrong (None: nothing)."""
    with tempfile.TemporaryDirectory() as where:
        page, last, n = Page(sard, pathlib.Path(where)), "", 0
        for line, info, body in blocks(path.read_text()):
            try:
                if "file=" in info or "add=" in info:
                    page.change(info, body)
                elif info == "sh test":
                    last = page.test(body)
                elif info == "text output" and last != body:
                    raise ValueError(f"expected:\n{body}got:\n{last}")
                elif info != "text output":
                    continue
                n += 1
            except subprocess.CalledProcessError as e:
                return n, f"line {line}: {e.stderr[-1500:]}"
            except (ValueError, OSError, subprocess.SubprocessError) as e:
                return n, f"line {line}: {e}"
        return n, None


def main():
    sard, folder, names = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), sys.argv[3:]
    passed = failed = 0
    for path in [*sorted(folder.glob("*.md")), ROOT / "README.md"]:
        if (names and path.stem not in names) or not path.exists():
            continue
        n, bad = check(path, sard)
        if n == 0 and not bad:
            continue  # no examples
        passed, failed = passed + (not bad), failed + bool(bad)
        print(f"FAIL docs/{path.name}: {bad}" if bad else f"ok docs/{path.name} ({n} examples)")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
