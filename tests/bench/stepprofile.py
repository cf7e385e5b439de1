# SPDX-License-Identifier: MIT
"""Which functions the instructions are in that stepcount has counted."""
import bisect
import collections
import subprocess

KINDS = {3: "send", 4: "recv"}   # bench_step.h


def symbols(path):
    """[(address, name)] sorted; of a library that has been stripped, what it exports."""
    for words in (["nm", "-C"], ["nm", "-CD"]):
        out = subprocess.run(words + ["--defined-only", path], capture_output=True, text=True, check=False).stdout
        found = []
        for line in out.splitlines():
            address, kind, name = line.split(" ", 2)
            if kind in "tTwWi":
                found.append((int(address, 16), name.split("@")[0]))
        if found:
            return sorted(found)
    return []


def by_function(path):
    """{"send": {function: instructions of the shortest call}, "recv": ...}, the most first"""
    tables, sums = {}, {name: collections.Counter() for name in KINDS.values()}
    with open(path) as f:
        for line in f:
            kind, where, offset = line.rstrip("\n").split("\t")
            name, offset = KINDS[int(kind)], int(offset, 16)
            if where not in tables:
                tables[where] = symbols(where) if where.startswith("/") else []
            table = tables[where]
            i = bisect.bisect_right(table, (offset, "\x7f")) - 1
            function = table[i][1] if i >= 0 else "?"
            sums[name][f"{function} ({where.rsplit('/', 1)[-1]})"] += 1
    return {name: dict(c.most_common()) for name, c in sums.items() if c}
