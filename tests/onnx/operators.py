#!/usr/bin/env python3
"""Makes docs/operators.md from the operator table, the schemas of the package onnx and the results of its cases.

usage: operators.py OP_TABLE RESULTS CASES DOC [--update]     OP_TABLE: the program build/tests/test_op_table

Without --update the page is compared: it has to be what would be written.
"""
import collections
import os
import subprocess
import sys

import onnx
from onnx import defs

DOMAINS = [("", "ONNX"), ("ai.onnx.ml", "ai.onnx.ml"), ("ai.onnx.preview", "ai.onnx.preview"),
           ("ai.onnx.preview.training", "ai.onnx.preview.training"), ("com.microsoft", "com.microsoft")]
CLASSES = {"*": "any", "R": "real", "N": "number", "F": "float", "I": "integer", "B": "bool", "L": "i64", "S": "string"}
KERNEL = {"MAP", "REDUCE", "CONTRACT", "MOVE", "COMPOSITE", "NESTS"}
HEAD = """# Operators

Made by `tests/onnx/run.sh --update`; the test run fails where it is out of date.

- **versions**: every version of the operator, by the opset of its domain that brought it. The importer brings old forms
  to the newest one (`frontend/onnx/upgrade.def`); `tests/onnx/old_forms.py` asks for each of them. The domain
  com.microsoft has version 1.
- **types**: what the row of the operator allows for its operands, in their order, each word once; "number" is float or
  integer, "real" a number or bool. A dash: no operand.
- **runs as**: *kernel*: compiled code; *rows*: it is rewritten into other rows, which are compiled; *host*: a C function
  of the runtime; *steps*: control flow of the plan; *import*: the importer resolves it.
- **cases**: of ONNX's own backend cases whose model has the operator, those that pass, in the form as they are and in all
  forms together (dims symbolic, inputs as constants, -O0, interpreted: see [testing.md](testing.md)).
"""


def rows_of(program):
    rows, renamed = {}, {}
    for line in subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines():
        kind, *rest = line.split("\t")
        if kind == "row":
            rows[rest[0]] = rest[1:]
        elif kind == "upgrade" and rest[2] in ("rename", "old_resize"):
            renamed[rest[0]] = rest[3]
    return rows, renamed


def operators_of(graph, found):
    for node in graph.node:
        found.add((node.domain if node.domain != "ai.onnx" else "", node.op_type))
        for a in node.attribute:
            for g in [a.g, *a.graphs]:
                operators_of(g, found)


def operators_of_case(path):
    model = onnx.load(path, load_external_data=False)
    found = set()
    operators_of(model.graph, found)
    for f in model.functions:
        operators_of(f, found)
    return found


def count_cases(results, cases):
    """(domain, name) -> passed and run, as they are and in all forms."""
    counts = collections.defaultdict(lambda: [0, 0, 0, 0])
    known = {}
    with open(results, encoding="utf-8", errors="replace") as f:
        for line in f:
            case, form, result = line.split("\t")[:3]
            if case not in known:
                known[case] = operators_of_case(os.path.join(cases, case, "model.onnx"))
            for op in known[case]:
                c = counts[op]
                c[2] += result == "pass"
                c[3] += 1
                if form == "plain":
                    c[0] += result == "pass"
                    c[1] += 1
    return counts


def row_name(domain, name):
    return f"{domain}.{name}" if domain else name


def types_of(row):
    words = []
    for operand in filter(None, row[1].split(",")):
        word = CLASSES.get(operand.split(":")[1][0])  # T: as an operand before
        if word and word not in words:
            words.append(word)
    return ", ".join(words) or "-"


def runs_as(row):
    kind = row[0]
    return "kernel" if kind in KERNEL else {"REWRITE": "rows", "HOST": "host", "CONTROL": "steps"}.get(kind, kind)


def versions():
    found = collections.defaultdict(set)
    for s in defs.get_all_schemas_with_history():
        found[s.domain, s.name].add(s.since_version)
    return found


def describe(domain, name, rows, renamed):
    row = rows.get(row_name(domain, name))
    if row:
        return types_of(row), runs_as(row)
    if not domain and name in renamed:
        return types_of(rows[renamed[name]]), f"import: {renamed[name]}"
    if not domain and name == "Constant":
        return "-", "import"
    return "", "missing"


def page(rows, renamed, counts):
    since = versions()
    out = [HEAD]
    for domain, title in DOMAINS:
        names = {n for d, n in since if d == domain}
        prefix = domain + "."
        names |= {r[len(prefix):] for r in rows if domain and r.startswith(prefix) and "." not in r[len(prefix):]}
        lines = []
        for name in sorted(names, key=str.lower):
            types, how = describe(domain, name, rows, renamed)
            c = counts.get((domain, name))
            cases = f"{c[0]}/{c[1]} | {c[2]}/{c[3]}" if c else "- | -"
            opsets = ", ".join(map(str, sorted(since.get((domain, name), {1}))))
            lines.append(f"| {name} | {opsets} | {types} | {how} | {cases} |")
        missing = sum("| missing |" in line for line in lines)
        out.append(f"\n## {title}\n\n{len(lines)} operators, {len(lines) - missing} of them known.\n\n"
                   "| operator | versions | types | runs as | cases | all forms |\n|---|---|---|---|---|---|\n" +
                   "\n".join(lines) + "\n")
    return "".join(out)


def main():
    program, results, cases, doc = sys.argv[1:5]
    rows, renamed = rows_of(program)
    text = page(rows, renamed, count_cases(results, cases))
    have = ""
    if os.path.exists(doc):
        with open(doc, encoding="utf-8") as f:
            have = f.read()
    if have == text:
        print("1 passed, 0 failed")
    elif "--update" in sys.argv:
        with open(doc, "w", encoding="utf-8") as f:
            f.write(text)
        print("1 passed, 0 failed")
    else:
        old, new = set(have.splitlines()), text.splitlines()
        for line in [line for line in new if line not in old][:20]:
            print(f"FAIL {doc} is out of date (tests/onnx/run.sh --update): {line}")
        if not set(new) - old:
            print(f"FAIL {doc} has lines that are no longer true (tests/onnx/run.sh --update)")
        print("0 passed, 1 failed")


if __name__ == "__main__":
    main()
