"""The tables of docs/benchmarks.md, from the report that benchmarks/peers.py writes and others add to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from generate import ROOT

FILE = ROOT / "docs" / "benchmarks.json"
Report = Mapping[str, Any]
Values = Sequence[float]  # one a round
NAMES = {
    "kard": "kard, ids only",
    "kard text": "kard, with the passages' text",
    "kard exact": "kard, every term, ids only",
    "lucene": "Lucene, ids only",
    "lucene pruned": "Lucene with kard's pruning, ids only",
    "bm25s": "bm25s, ids only",
    "bm25s pruned": "bm25s with kard's pruning, ids only",
}
ANSWERING = {"generate, one by one": 12.0, "generate, batches of 8": 3.0, "CTranslate2, int8": 1.0}  # goals


def read(file: Path = FILE) -> Report:
    """Return the report."""
    return json.loads(file.read_text(encoding="utf-8"))


def about(report: Report) -> str:
    """Return where, when and with what search was measured, as Markdown."""
    machine = _machine(report)
    peers = "; ".join(report["versions"].values())
    return f"{report['date']}, {machine}. {peers}. {report['passages']:,} passages, {report['rounds']} rounds.\n"


def _machine(report: Report) -> str:
    return f"{report['cores']} cores of an {report['cpu']} ({', '.join(report['flags'])})"


def about_answers(report: Report) -> str:
    """Return where, when and with what answers were measured, as Markdown."""
    run = report["answers"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    threads = f"{run['threads']} thread{'' if run['threads'] == 1 else 's'}"
    return (
        f"{run['date']}, {threads} on {_machine(run)}, {run['precision'].removeprefix('torch.')}. {versions}. "
        f"{run['prompts']} prompts, of `generate` {run['few']}.\n"
    )


def answers(report: Report) -> str:
    """Return a table of who writes how many texts a CPU second, with kard's ratio to each and their agreement."""
    engines: Report = report["answers"]["engines"]
    lines: list[Sequence[str]] = []
    for name, row in engines.items():
        speed, best = (of["texts"] / of["cpu_seconds"] for of in (row, engines["kard"]))
        goal = ANSWERING.get(name)
        met = "" if goal is None else "yes" if best / speed >= goal else "**no**"
        ratio = "" if name == "kard" else _short(best / speed)
        clock, tokens = row["texts"] / row["clock_seconds"], row["tokens"] / row["texts"]
        speeds = (_short(speed), _short(clock), ratio, "" if goal is None else f"{goal:g}", met)
        lines.append((name, *speeds, f"{tokens:.1f}", f"{row['equal']} of {row['greedy']}", f"{row['shared']:.0%}"))
    header = ("who", "texts a CPU s", "texts a s", "kard's ratio by CPU", "goal, at least", "met")
    return table((*header, "tokens of a text", "greedy texts like kard's", "alike until"), lines)


def about_models(report: Report) -> str:
    """Return where, when and with what training, adapters and reranking were measured, as Markdown."""
    run = report["students"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    threads = f"{run['threads']} thread{'' if run['threads'] == 1 else 's'}"
    return f"{run['date']}, {threads} on {_machine(run)}, {run['precision'].removeprefix('torch.')}. {versions}.\n"


def models(report: Report) -> str:
    """Return a table of training, many adapters and reranking beside the plain ways, with their goals."""
    trained, adapters = report["students"]["training"], report["students"]["adapters"]
    reranked, speeds = report["reranking"], report["reranking"]["speeds"]
    lines: list[Sequence[str]] = []

    def add(what: str, peer: str, goal: float, own: float, other: float, unit: str) -> None:
        ratio = own / other
        measured = f"{_short(own)} and {_short(other)} {unit}"
        lines.append((what, peer, f"{goal:g}", measured, _short(ratio), "yes" if ratio >= goal else "**no**"))

    for peer, goal in (("padded to 512", 8), ("padded to the longest", 3)):
        add("training, three epochs", f"Trainer, {peer}", goal, trained["kard"], trained[peer], "tokens a CPU s")
    count = 4 * adapters["questions"]
    speed = count / adapters["kard"], count / adapters["one by one"]
    add(
        f"4 adapters, {adapters['questions']} questions each",
        "loading each, one by one",
        4,
        *speed,
        "texts a CPU s",
    )
    for vectors, goal in (("uncached", 12), ("cached", 2000)):
        what = f"reranking {reranked['candidates']} candidates, {vectors}"
        add(what, "the official way", goal, speeds[vectors], speeds["official"], "questions a CPU s")
    return table(("what", "against", "goal, at least", "measured", "ratio", "met"), lines)


def about_commands(report: Report) -> str:
    """Return where and when whole commands were timed, as Markdown."""
    run = report["commands"]
    return f"{run['date']}, {_machine(run)}, {len(run['seconds']['kard ask'])} rounds.\n"


def commands(report: Report) -> str:
    """Return a table of whole commands with their goals: medians of the rounds, the ratio round by round."""
    run = report["commands"]
    seconds: Mapping[str, Values] = run["seconds"]
    store = f"{run['store_mib'] * 2**20 / 1e9:.1f} GB"
    lines: list[Sequence[str]] = []
    for what, peer, goal, own, other in (
        (f"`kard query`, groups of {store}", "`sqlite-utils query`", 1.2, "kard query", "sqlite-utils query"),
        ("`kard query`, 1,000 rationales of it", "`sqlite-utils query`", 1.2, "kard page", "sqlite-utils page"),
        ("`kard --help`", "`sqlite-utils --help`", 1.2, "kard help", "sqlite-utils help"),
        ("two `kard evaluate` at once", "one alone", 2.2, "two evaluate", "one evaluates"),
        ("`kard ask`, cold", "the clock", 6, "kard ask", ""),
    ):
        ratios = [a / b for a, b in zip(seconds[own], seconds[other], strict=True)] if other else seconds[own]
        measured = " and ".join(_short(median(seconds[name])) for name in (own, other) if name)
        met = "yes" if median(ratios) <= goal else "**no**"
        unit = "CPU s" if "sqlite" in other else "s"
        lines.append((what, peer, f"{goal:g}{'' if other else ' s'}", f"{measured} {unit}", _spread(ratios), met))
    return table(("what", "against", "goal, at most", "measured", "ratio", "met"), lines)


def goals(report: Report) -> str:
    """Return a table of the goals: what, against whom, the goal, what was measured, and the ratio of the two.

    Measured are medians of the rounds. A ratio is the median of the rounds' ratios, with their least and largest.
    """
    lines: list[Sequence[str]] = []

    def add(what: str, peer: str, goal: float, own: Values, other: Values, unit: str, *, less: bool = True) -> None:
        if not other:
            return  # the peer was missing
        pairs = zip(own, other, strict=False)
        ratios = [b / a if less else a / b for a, b in pairs]
        ratio = f"{_short(median(ratios))} ({_short(min(ratios))} to {_short(max(ratios))})"
        measured = f"{_short(median(own))} and {_short(median(other))} {unit}"
        lines.append((what, peer, f"{goal:g}", measured, ratio, "yes" if median(ratios) >= goal else "**no**"))

    def times(way: str, kind: str) -> Values:
        return report["search"].get(way, {kind: {"ms": []}})[kind]["ms"]

    for kind, wanted in (("rationale", 1.0), ("question", 0.9)):
        own = times("kard text", kind)
        add(f"{kind} search with text", "Lucene", 6, own, times("lucene", kind), "CPU ms")
        add(f"{kind} search with text", "bm25s, pruned", wanted, own, times("bm25s pruned", kind), "CPU ms")
    memory = report["memory_mib"]
    add(
        "memory of searching",
        "bm25s",
        3,
        [memory["kard"]["peak"]],
        [m["peak"] for m in memory.values() if m is memory.get("bm25s")],
        "MiB at most",
    )
    speeds = {
        name: [report["passages"] / s for s in seconds] for name, seconds in report["index_cpu_seconds"].items()
    }
    for peer, name, goal in (("lucene", "Lucene", 1.5), ("bm25s", "bm25s", 2.5)):
        add("indexing with text", name, goal, speeds["kard"], speeds.get(peer, []), "passages a CPU s", less=False)
    for unit, what in (("clock_ms", "ms by the clock"), ("cpu_ms", "CPU ms")):
        of = {name: [row[unit] for row in rows] for name, rows in report["grounding"].items()}
        add("grounding a rationale", "Lucene, one at a time", 10, of["kard"], of.get("lucene", []), what)
    return table(("what", "against", "goal, at least", "measured", "ratio", "met"), lines)


def searches(report: Report) -> str:
    """Return a table of all ways of searching: CPU milliseconds and nDCG@10, with its difference from kard's."""
    return table(
        _HEADER, [(name, *_row(report["search"][way])) for way, name in NAMES.items() if way in report["search"]]
    )


def curve(report: Report) -> str:
    """Return a table of kard's search with the rarer and heavier terms of a query alone."""
    ways = {way: row for way, row in report["search"].items() if way.startswith("curve ")}
    ways["curve 0.05 0"] = report["search"]["kard"]
    lines: list[Sequence[str]] = [("100%", "all", *_row(report["search"]["kard exact"]))]
    for way in sorted(ways, key=lambda way: (-float(way.split()[1]), -(int(way.split()[2]) or 1000))):
        _, share, most = way.split()
        lines.append((f"{float(share):.0%}", "all" if most == "0" else most, *_row(ways[way])))
    return table(("terms in at most", "heaviest", *_HEADER[1:]), lines)


_HEADER = ("search", "question, CPU ms", "nDCG@10", "less kard's", "rationale, CPU ms", "nDCG@10", "less kard's")


def _row(way: Report) -> list[str]:
    cells: list[str] = []
    for kind in ("question", "rationale"):
        row = way.get(kind, {})
        cells.append(_spread(row["ms"]) if row else "")
        cells.append(f"{row['ndcg']:.4f}" if "ndcg" in row else "")
        better = row.get("kard_is_better_by", 0.0)
        cells.append(f"{-better:+.4f} ± {row['margin']:.4f}" if better or row.get("margin") else "")
    return cells


def _spread(values: Values) -> str:
    return f"{_short(median(values))} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---" for _ in header], *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def write(*tables: Callable[[Report], str]) -> str:
    """Return these tables of the measured run, for a page."""
    report = read()
    return "\n" + "\n".join(make(report) for make in tables) + "\n"
