# SPDX-License-Identifier: MIT
"""From samples to figures: medians, spread, ratios, and which of them are not to be trusted.

A line of samples: key, column, repeat, value, ring share, how much of the processors others had meanwhile.
"""
import os
import platform
import statistics
import time

from stepprofile import by_function
from rows import ROWS

SPREAD = 20.0   # per cent between the repeats, without the best and the worst
OTHERS = 10.0   # per cent of the processors
MINIMUM = 5     # repeats


def read(path):
    samples = {}
    with open(path) as f:
        for line in f:
            key, column, repeat, value, share, others = line.rstrip("\n").split("\t")
            samples.setdefault(key, {}).setdefault(column, []).append({
                "repeat": int(repeat), "value": float(value), "share": float(share) if share else None,
                "others": float(others) if others else None})
    return samples


def middle_of(values):
    """Without the best and the worst, when there are enough."""
    values = sorted(values)
    return values[1:-1] if len(values) >= 5 else values


def spread(values):
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle * 100 if middle else 0.0


def column_of(samples):
    values = [s["value"] for s in samples]
    shares = [s["share"] for s in samples if s["share"] is not None]
    others = [s["others"] for s in samples if s["others"] is not None]
    return {
        "median": statistics.median(values), "spread_percent": round(spread(values), 1),
        "middle_spread_percent": round(spread(middle_of(values)), 1), "values": values,
        "ring_share_percent": statistics.median(shares) if shares else None,
        "others_percent": round(statistics.median(others), 1) if others else None,
    }


def better_by(row, ours, theirs):
    """How many times better; None if that cannot be said."""
    a, b = (ours, theirs) if row.better == "high" else (theirs, ours)
    return a / b if b else None


def ratios_of(row, samples, ours, theirs):
    """Of neighbouring repeats, so that a change of the machine's load during the run hits both."""
    a = {s["repeat"]: s["value"] for s in samples.get(ours, [])}
    b = {s["repeat"]: s["value"] for s in samples.get(theirs, [])}
    return [r for r in (better_by(row, a[i], b[i]) for i in sorted(set(a) & set(b))) if r is not None]


def verdict(found, asked, low, high, at_least):
    """met or below; with a question mark when the repeats do not agree on it."""
    met = found >= asked if at_least else found <= asked
    return ("met" if met else "below") + ("?" if low < asked < high and low != high else "")


def judge(row, out, samples):
    checks = []
    columns = out["columns"]

    def check(name, found, asked, values, at_least):
        near = middle_of(values) if values else [found]
        checks.append({"what": name, "found": found, "asked": asked, "at_least": at_least,
                       "verdict": verdict(found, asked, min(near), max(near), at_least)})

    ratios = ratios_of(row, samples, "xshim", "plain")
    if ratios and row.at_most is None and row.unit not in ("", "KiB"):
        out["ratio"] = statistics.median(ratios)
        if row.ratio:
            check("ratio", out["ratio"], row.ratio, ratios, True)
    of_ring = ratios_of(row, samples, "xshim", "ring")
    if of_ring:     # as the rows state it: time over time, or rate over rate
        of_ring = [1 / r for r in of_ring] if row.better == "low" else of_ring
        out["of_ring"] = statistics.median(of_ring)
        if row.of_ring:
            check("of_ring", out["of_ring"], row.of_ring, of_ring, row.better == "high")
    if row.at_most is not None and "xshim" in columns:
        c = columns["xshim"]
        check("at_most", c["median"], row.at_most, c["values"], False)
    if row.added is not None and "xshim" in columns and "plain" in columns:
        pairs = list(zip(columns["xshim"]["values"], columns["plain"]["values"]))
        out["added"] = statistics.median(a - b for a, b in pairs)
        check("added", out["added"], row.added, [a - b for a, b in pairs], False)
    out["checks"] = checks


def doubts(row, columns):
    found = []
    exact = row.key.startswith("steps.") or row.key == "idle.mem"
    apart = [f"{n} {c['middle_spread_percent']:.0f} %" for n, c in columns.items() if c["middle_spread_percent"] > SPREAD]
    others = [c["others_percent"] for c in columns.values() if c["others_percent"] is not None]
    if apart and not exact:
        found.append("repeats apart: " + ", ".join(apart))
    if others and max(others) > OTHERS and not exact:
        found.append(f"others had {min(others):.0f} to {max(others):.0f} % of the processors")
    share = columns.get("xshim", {}).get("ring_share_percent")
    if share is not None and row.by_ring and share < row.by_ring:
        found.append(f"only {share:.1f} % of the bytes went by ring")
    if share is not None and row.by_ring == 0 and share > 0:
        found.append(f"{share:.1f} % of the bytes went by ring and none should have")
    return found


def flatness(out):
    """many.flat: how far the three numbers of connections are apart."""
    many = [r for r in out if r["key"] in ("many.16", "many.256", "many.4096")]
    names = set.intersection(*(set(r["columns"]) for r in many)) if len(many) == 3 else ()
    samples = {}
    for name in names:
        medians = [r["columns"][name]["median"] for r in many]
        samples[name] = [{"repeat": 0, "value": max(medians) / min(medians), "share": None, "others": None}]
    return samples


def failures(path):
    """[{key, column, times, why}]: measurements that could not be made"""
    found = {}
    if os.path.exists(path):
        with open(path) as f:
            for line in f:
                key, column, _, why = line.rstrip("\n").split("\t")
                found.setdefault((key, column, why), 0)
                found[key, column, why] += 1
    return [{"key": k, "column": c, "times": n, "why": w} for (k, c, w), n in found.items()]


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "processor": model,
        "processors": os.cpu_count(), "kernel": platform.release(), "architecture": platform.machine(),
        "load_before": os.environ.get("LOAD_BEFORE", ""), "load_after": " ".join(open("/proc/loadavg").read().split()[:3]),
        "seconds": round(float(os.environ.get("BENCH_TOOK", "0"))), "precedence": os.environ.get("PRECEDENCE", "none"),
        "absent": [a for a in os.environ.get("ABSENT", "").split(";") if a],
    }


def summarise(path):
    samples = read(path)
    out = []
    for row in ROWS:
        mine = flatness(out) if row.key == "many.flat" else samples.get(row.key)
        if not mine:
            continue
        one = {"key": row.key, "row": row.label, "unit": row.unit, "better": row.better,
               "columns": {name: column_of(s) for name, s in mine.items()}}
        judge(row, one, mine)
        one["doubts"] = doubts(row, one["columns"])
        few = min(len(c["values"]) for c in one["columns"].values())
        if few < MINIMUM and row.key != "many.flat" and row.key.split(".")[0] not in ("idle", "steps"):
            one["doubts"].append(f"only {few} repeat" + "s" * (few > 1))
        out.append(one)
    profile = os.environ.get("PROFILE", "")
    return {"machine": machine(), "rows": out, "failures": failures(os.environ.get("FAILURES", "")),
            "profile": by_function(profile) if os.path.exists(profile) else {}}
