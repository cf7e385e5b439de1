#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Medians, spread and ratios of bench.sh's samples: table.py SAMPLES [--json]

SAMPLES has a line per figure: row, unit, better (high|low), path (plain|xshim), repeat, value, ring share.
A ratio is above 1 when xshim is better: the median of the ratios of neighbouring repeats.
"""
import collections
import json
import os
import statistics
import sys

WEAK = 1.2  # below this, one machine's two runs of the same thing differ as much


def read(path):
    rows = collections.OrderedDict()
    with open(path) as f:
        for line in f:
            name, unit, better, kind, repeat, value, share = line.rstrip("\n").split("\t")
            row = rows.setdefault(name, {"unit": unit, "better": better, "plain": {}, "xshim": {}, "share": []})
            row[kind][int(repeat)] = float(value)
            if kind == "xshim" and share:
                row["share"].append(float(share))
    return rows


def spread(values):
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle * 100 if middle else 0.0


def summarise(name, row):
    plain, xshim = row["plain"], row["xshim"]
    both = sorted(set(plain) & set(xshim))
    ratios = []
    for i in both:
        a, b = (xshim[i], plain[i]) if row["better"] == "high" else (plain[i], xshim[i])
        if b:
            ratios.append(a / b)
    return {
        "row": name, "unit": row["unit"], "better": row["better"],
        "plain": statistics.median(plain.values()), "plain_spread_percent": round(spread(plain.values()), 1),
        "xshim": statistics.median(xshim.values()), "xshim_spread_percent": round(spread(xshim.values()), 1),
        "ratio": round(statistics.median(ratios), 2) if ratios else None,
        "ring_share_percent": statistics.median(row["share"]) if row["share"] else None,
        "repeats": len(both),
    }


def figure(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def main():
    rows = [summarise(n, r) for n, r in read(sys.argv[1]).items()]
    load = {"before": os.environ.get("LOAD_BEFORE", ""), "after": " ".join(open("/proc/loadavg").read().split()[:3])}
    if "--json" in sys.argv[2:]:
        print(json.dumps({"rows": rows, "load": load, "cpus": os.cpu_count()}, indent=1))
        return
    print(f"{'':34} {'plain veth':>10} {'+-':>5} {'xshim':>9} {'+-':>5}  {'unit':<8} {'ratio':>6} {'ring %':>7}")
    for r in rows:
        ratio = "-" if r["ratio"] is None else f"{r['ratio']:.2f}"
        share = "-" if r["ring_share_percent"] is None else f"{r['ring_share_percent']:.2f}"
        print(f"{r['row']:34} {figure(r['plain']):>10} {r['plain_spread_percent']:>4.0f}% {figure(r['xshim']):>9}"
              f" {r['xshim_spread_percent']:>4.0f}%  {r['unit']:<8} {ratio:>6} {share:>7}")
    print(f"\nratio: how many times better xshim is. Medians of {max(r['repeats'] for r in rows)} interleaved"
          f" repeats; +-: (max - min) / median. A ratio within {WEAK} of 1 is no difference here."
          f"\nload average before: {load['before']}; after: {load['after']}; processors: {os.cpu_count()}")


main()
