#!/usr/bin/env python3
"""Judges the results of ONNX's backend cases (backend_cases -o) by the lists of expected failures.

usage: judge.py RESULTS FOLDER [--update]      FOLDER/<form>.txt: cases of that form that do not pass, and why

In a list a line "# reason" holds for the cases below it, up to the next one. A case that fails and is not listed is a
failure; so is one that is listed and passes, or is not there at all. --update takes those out of the lists; what fails
anew has to be written in by hand, with its reason.
"""
import collections
import os
import sys


def read_results(path):
    forms = collections.defaultdict(dict)
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            case, form, result, _, message = line.rstrip("\n").split("\t", 4)
            forms[form][case] = (result, message)
    return forms


def read_list(path):
    """Pairs of case and reason; complaints."""
    listed, complaints, reason = {}, [], ""
    if not os.path.exists(path):
        return listed, complaints
    with open(path, encoding="utf-8") as f:
        for line in f:
            line = line.strip()
            if line.startswith("#"):
                reason = line.lstrip("# ")
            elif line:
                if not reason:
                    complaints.append(f"{line}: listed without a reason")
                if line in listed:
                    complaints.append(f"{line}: listed twice")
                listed[line] = reason
    return listed, complaints


def write_list(path, keep):
    """The list without the cases that are not in `keep`; reasons that no case has any more go too."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    out = []
    for line in reversed(lines):
        text = line.strip()
        if text.startswith("#") or not text:
            if out and not out[-1].startswith("#"):
                out.append(line)
        elif text in keep:
            out.append(line)
    with open(path, "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in reversed(out)))


def judge(form, results, path, update):
    listed, complaints = read_list(path)
    passed = {c for c, (r, _) in results.items() if r == "pass"}
    for case in sorted(results.keys() - passed - listed.keys()):
        complaints.append(f"{case}: {results[case][0]}: {results[case][1]}")
    over = sorted(c for c in listed if c in passed or c not in results)
    if update and over:
        write_list(path, listed.keys() - set(over))
    elif over:
        complaints += [f"{c} {'passes' if c in passed else 'is no case'}: take it out of {path}" for c in over]
    for text in complaints:
        print(f"FAIL onnx/{form}/{text}")
    return len(passed - listed.keys()), len(complaints)


def main():
    results, folder = sys.argv[1], sys.argv[2]
    passed = failed = 0
    for form, cases in read_results(results).items():
        p, f = judge(form, cases, os.path.join(folder, f"{form}.txt"), "--update" in sys.argv)
        passed, failed = passed + p, failed + f
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
