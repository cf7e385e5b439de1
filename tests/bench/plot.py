#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Draws what bench.sh has measured, with gnuplot: plot.py FILE.json DIRECTORY

latency.{png,svg} and throughput.{png,svg} against the size of a message, operations.{png,svg} against the
number of connections. The numbers and gnuplot's instructions stay there too, as .dat and .gp.
"""
import json
import os
import subprocess
import sys

from rows import COLUMN_NAMES, COLUMNS

PLOTS = [
    ("latency", "size.", "Round trip, blocking calls (p50)", "message, bytes", "microseconds", 1, 2),
    ("throughput", "stream.", "Stream, one way", "message, bytes", "GB/s", 1e-3, 2),
    ("operations", "many.", "Server with epoll, 64-byte requests", "connections", "1,000 operations/s", 1, 4),
]
COLOURS = {"plain": "#666666", "xshim": "#c0392b", "unix": "#2980b9", "ring": "#27ae60", "sockmap": "#8e44ad"}


def series(result, prefix, scale):
    """{column: [(x, median, least, most)]}"""
    found = {}
    for row in result["rows"]:
        x = row["key"][len(prefix):]
        if not row["key"].startswith(prefix) or not x.isdigit():
            continue
        for name, c in row["columns"].items():
            found.setdefault(name, []).append(
                (int(x), c["median"] * scale, min(c["values"]) * scale, max(c["values"]) * scale))
    return {n: sorted(found[n]) for n in COLUMNS if n in found}


def instructions(name, title, x_label, y_label, base, lines):
    yield f"set title '{title}'\nset xlabel '{x_label}'\nset ylabel '{y_label}'"
    yield f"set logscale x {base}\nset logscale y\nset format x '%.0f'\nset grid\nset key top left\nset bars small"
    xs = sorted({p[0] for points in lines.values() for p in points})
    ticks = ", ".join(f"'{short(x)}' {x}" for x in xs)
    yield f"set xtics ({ticks})\nset xrange [{xs[0] / 1.5}:{xs[-1] * 1.5}]"
    plot = "plot " + ", ".join(
        f"'{name}.dat' index {i} using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 lc rgb '{COLOURS[n]}' title '{COLUMN_NAMES[n]}'"
        for i, n in enumerate(lines))
    for terminal, ending in (("pngcairo size 900,560", "png"), ("svg size 900,560", "svg")):
        yield f"set terminal {terminal}\nset output '{name}.{ending}'\n{plot}\nunset output"


def short(x):
    for unit, name in ((1 << 20, "Mi"), (1 << 10, "Ki")):
        if x >= unit and x % unit == 0:
            return f"{x // unit} {name}"
    return str(x)


def main():
    with open(sys.argv[1]) as f:
        result = json.load(f)
    where = sys.argv[2]
    os.makedirs(where, exist_ok=True)
    for name, prefix, title, x_label, y_label, scale, base in PLOTS:
        lines = series(result, prefix, scale)
        if not lines:
            print(f"plot.py: nothing was measured for {name}", file=sys.stderr)
            continue
        with open(os.path.join(where, name + ".dat"), "w") as f:
            for column, points in lines.items():
                f.write(f"# {column}: x, median, least, most\n")
                f.writelines(" ".join(f"{v:g}" for v in p) + "\n" for p in points)
                f.write("\n\n")
        with open(os.path.join(where, name + ".gp"), "w") as f:
            f.write("\n".join(instructions(name, title, x_label, y_label, base, lines)) + "\n")
        subprocess.run(["gnuplot", name + ".gp"], cwd=where, check=True)
        print(f"{os.path.join(where, name)}.png .svg", file=sys.stderr)


main()
