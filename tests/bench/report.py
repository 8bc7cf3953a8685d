"""What the benchmarks share: the peers' environment, and tables that take their place in a page of docs."""
import os, subprocess, sys

os.environ["SARD_CACHE"] = "off"  # times of compilation are those of first starts


def environment(venv, *packages):
    """Python of a scratch environment with the packages, made where it is not there yet."""
    py = os.path.join(venv, "bin", "python")
    if not os.path.exists(py):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([py, "-m", "pip", "install", "-q", *packages], check=True)
    return py


def write(path, mark, heading, text):
    """Puts the text between the two marks of the page; at its end under the heading where it has none yet."""
    whole = open(path).read() if os.path.exists(path) else "# Performance\n"
    parts = whole.split(mark)
    body = f"{mark}\n{text.strip()}\n{mark}"
    whole = parts[0] + body + parts[2] if len(parts) == 3 else whole.rstrip("\n") + f"\n\n## {heading}\n\n" + body + "\n"
    open(path, "w").write(whole)
