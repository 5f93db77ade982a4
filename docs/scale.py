"""Tables of docs/scale.md, from what benchmarks/scale.py wrote to scale.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reliability import table

RECORDED = Path(__file__).with_name("scale.json")
MEBIBYTE = 1 << 20
PARTS = {"lines": "JSON lines", "updates": "a hundredth changed", "dumps": "MediaWiki dump"}
WAYS = {"alone": "one process", "processes": "two processes", "ray": "a Ray cluster of two nodes"}
Report = Mapping[str, Any]


def read(file: Path = RECORDED) -> Report:
    """Return the report."""
    return json.loads(file.read_text(encoding="utf-8"))


def about(report: Report) -> str:
    """Return where and when was measured."""
    flags = ", ".join(report["flags"])
    return f"\n{report['date']}, {report['cores']} cores of an {report['cpu']} ({flags}).\n\n"


def builds(report: Report) -> str:
    """Return a table of the runs of `kard index`: what each took, and what the cores allow."""
    header = ("source", "passages", "workers", "clock, s", "passages/s", "CPU s", "main thread, CPU s", "floor, s",
              "floor of one / this", "own memory, MiB", "mapped, MiB", "disk, MiB")  # fmt: skip
    rows: list[Sequence[object]] = []
    for part, name in PARTS.items():
        for source, measured in report.get(part, {}).items():
            first = next(iter(measured["runs"].values()))
            for workers, run in measured["runs"].items():
                rows.append(
                    (
                        name if part != "dumps" else f"{name}, `{source}`",
                        run["passages"],
                        workers,
                        f"{run['seconds']:,.0f}",
                        round(run["passages"] / run["seconds"]),
                        f"{run['cpu_seconds']:,.1f}",
                        f"{run['main_thread_seconds']:,.1f}",
                        f"{run['floor_seconds']:,.1f}",
                        f"{first['floor_seconds'] / run['floor_seconds']:.2f}",
                        round(run["anonymous_bytes"] / MEBIBYTE),
                        round(run["mapped_bytes"] / MEBIBYTE),
                        round(sum(run["disk_bytes"].values()) / MEBIBYTE),
                    )
                )
    return table(header, rows)


def agreement(report: Report) -> str:
    """Return a table of what the bases that different numbers of workers made say."""
    rows = [
        (
            PARTS[part] if part != "dumps" else f"{PARTS[part]}, `{source}`",
            next(iter(measured["runs"].values()))["passages"],
            ", ".join(measured["runs"]),
            "yes" if measured["ids_equal"] else "**no**",
            f"{measured['queries'] - measured['queries_that_differ']} of {measured['queries']}",
        )
        for part in PARTS
        for source, measured in report.get(part, {}).items()
    ]
    return table(
        ("source", "passages", "workers", "same id of the base", "queries with equal ids and scores"), rows
    )


def searches(report: Report) -> str:
    """Return a table of the time of a search with the passages' text, by the size of the base."""
    rows = [
        (int(passages), *(f"{measured['search_ms'][kind]:.2f}" for kind in ("question", "rationale")))
        for passages, measured in report.get("lines", {}).items()
    ]
    return table(("passages", "question, CPU ms", "rationale, CPU ms"), sorted(rows))


def ways(report: Report) -> str:
    """Return a table of one sweep done by this process, by processes and by a cluster; seconds by the clock."""
    found = report.get("workers", {}).get("ways", [])
    rows = [
        (
            WAYS[way["way"]],
            f"{way['seconds']:,.0f}",
            f"{way['training_seconds']:,.0f}",
            f"{way['steps']['answer']:,.0f}",
            f"{found[0]['seconds'] / way['seconds']:.2f}",
            f"{way['same_texts']:.1%} of {way['answers']}",
        )
        for way in found
    ]
    header = ("who", "seconds", "six trainings, summed", "answers", "first / this", "equal texts")
    return table(header, rows)
