#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Prints what bench.sh has measured.

table.py SAMPLES|FILE.json [--json | --markdown | --into FILE.md] [--save FILE.json]
table.py --list

SAMPLES as summary.py reads them, or what --json or --save has written in an earlier run. --into puts the table
into a page, between the lines that say "begin" and "end of the figures". --list: what is asked of each row.
"""
import json
import sys

from rows import COLUMN_NAMES, COLUMNS, ROWS
from summary import MINIMUM, OTHERS, SPREAD, summarise


def figure(value):
    if value == 0:
        return "0"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def asked(check):
    sign = ">=" if check["at_least"] else "<="
    what = {"ratio": "{} x", "of_ring": "{} of the ring", "at_most": "{}", "added": "{} added"}[check["what"]]
    return sign + " " + what.format(f"{check['asked']:g}")


def of(row, name):
    value = row.get(name)
    return "-" if value is None else figure(value)


def cells(row, columns):
    """label, the columns' medians, unit, ratio, of the ring, share, asked, verdict"""
    c = row["columns"]
    share = c.get("xshim", {}).get("ring_share_percent")
    checks = row["checks"]
    return ([row["row"]] + [figure(c[n]["median"]) if n in c else "-" for n in columns] +
            [row["unit"], of(row, "ratio"), of(row, "of_ring"), "-" if share is None else f"{share:.1f}",
             ", ".join(asked(k) for k in checks), ", ".join(k["verdict"] for k in checks)])


def columns_of(result):
    return [n for n in COLUMNS if any(n in r["columns"] for r in result["rows"])]


def foot(result):
    m = result["machine"]
    values = [len(r["columns"][n]["values"]) for r in result["rows"] for n in r["columns"]]
    yield f"{m['date']}; {m['processors']} x {m['processor']}, Linux {m['kernel']}; took {m['seconds']} s"
    yield f"Load average before: {m['load_before']}; after: {m['load_after']}; precedence asked of the scheduler: {m['precedence']}."
    yield f"Medians of up to {max(values, default=0)} interleaved repeats. x plain: how many times better xshim is than plain TCP,"
    yield "the median of the ratios of neighbouring repeats. of ring: its time or rate against the bare ring's. ?: the repeats"
    yield "do not agree on the verdict. ring %: of the bytes sent, by the daemon's counters."
    for a in m["absent"]:
        yield f"Absent: {a}."
    for f in result["failures"]:
        yield f"Failed {f['times']} x: {f['key']}, {f['column']}: {f['why']}"


def print_doubts(result, out):
    bad = [r for r in result["rows"] if r["doubts"]]
    if not bad:
        return
    out(f"Not to be trusted as they stand (repeats more than {SPREAD:.0f} % apart, the best and the worst left out; others with more")
    out(f"than {OTHERS:.0f} % of the processors; fewer than {MINIMUM} repeats; or not by the way that is meant):")
    for r in bad:
        out(f"  {r['row'].strip()}: " + "; ".join(r["doubts"]))


def print_text(result):
    columns = columns_of(result)
    head = [""] + columns + ["unit", "x plain", "of ring", "ring %", "asked", "verdict"]
    lines = []
    for r in result["rows"]:
        line = cells(r, columns)
        line[0] = ("* " if r["doubts"] else "  ") + line[0]
        for i, n in enumerate(columns):
            if n in ("plain", "xshim") and n in r["columns"]:
                line[1 + i] += f" +-{r['columns'][n]['spread_percent']:.0f}%".ljust(7)
        lines.append(line)
    widths = [max(len(line[i]) for line in lines + [head]) for i in range(len(head))]
    left = (0, len(head) - 1, len(head) - 2, len(columns) + 1)
    for line in [head] + lines:
        print("  ".join(x.ljust(w) if i in left else x.rjust(w)
                        for i, (x, w) in enumerate(zip(line, widths))).rstrip())
    print("\n+-: (most - least) / median. *: see below.")
    for line in foot(result):
        print(line)
    print_profile(result, print)
    print_doubts(result, print)


def print_markdown(result, print):
    columns = columns_of(result)
    head = ["figure"] + [COLUMN_NAMES[n] for n in columns] + ["unit", "x plain", "of ring", "ring %", "asked", "verdict"]
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for r in result["rows"]:
        line = cells(r, columns)
        line[0] = line[0].strip() + (" \\*" if r["doubts"] else "")
        print("| " + " | ".join(line) + " |")
    print("")
    for line in foot(result):
        print(line)
    print("")
    print_profile(result, lambda line: print(line + ".\n"))
    print_doubts(result, lambda line: print(
        line.replace("  ", "- ", 1) if line.startswith("  ") else line + "\n" * line.endswith(":")))


BEGIN, END = "<!-- begin of the figures -->", "<!-- end of the figures -->"


def put_into(path, result):
    with open(path) as f:
        page = f.read()
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        sys.exit(f"{path}: lacks the lines {BEGIN} and {END}")
    lines = []
    print_markdown(result, lines.append)
    text = page.split(BEGIN)[0] + BEGIN + "\n" + "\n".join(lines).rstrip() + "\n" + END + page.split(END)[1]
    with open(path, "w") as f:
        f.write(text)


def print_profile(result, out):
    for call, functions in result.get("profile", {}).items():
        most = [f"{n} {f.split(' (')[0]}" for f, n in list(functions.items())[:8]]
        out(f"Of the {sum(functions.values()) - 1} instructions of {call}: {', '.join(most)}")


def print_list():
    for row in ROWS:
        wanted = [asked({"what": what, "asked": value, "at_least": least}) for what, value, least in (
            ("ratio", row.ratio, True), ("of_ring", row.of_ring, row.better == "high"),
            ("at_most", row.at_most, False), ("added", row.added, False)) if value is not None]
        print(f"{row.key:16} {row.label.strip():40} {row.unit:5} {', '.join(wanted)}".rstrip())


def main():
    words = sys.argv[1:]
    if words == ["--list"]:
        print_list()
        return
    source = words.pop(0)
    if source.endswith(".json"):
        with open(source) as f:
            result = json.load(f)
    else:
        result = summarise(source)
    if "--save" in words:
        with open(words[words.index("--save") + 1], "w") as f:
            f.write(json.dumps(result, indent=1) + "\n")
    if "--json" in words:
        print(json.dumps(result, indent=1))
    elif "--markdown" in words:
        print_markdown(result, print)
    elif "--into" in words:
        put_into(words[words.index("--into") + 1], result)
    else:
        print_text(result)


main()
