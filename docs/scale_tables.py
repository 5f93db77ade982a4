"""Tables of docs/scale.md, from what benchmarks/scale.py and benchmarks/growth.py wrote to scale.json.

    python docs/scale_tables.py

draws docs/growth.svg from the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from reliability import table

RECORDED = Path(__file__).with_name("scale.json")
MEBIBYTE = 1 << 20
PARTS = {"lines": "JSON lines", "updates": "a hundredth changed", "dumps": "MediaWiki dump"}
SHOWN = ("load, rationales", "export", "ground", "hits --summary")  # in the figure
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
                        *(_mebibytes(run, kind) for kind in ("anonymous", "mapped")),
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


def _mebibytes(run: Report, kind: str) -> str:
    return f"{run[f'{kind}_bytes'] / MEBIBYTE:,.0f}" if f"{kind}_bytes" in run else ""


def growth(report: Report) -> str:
    """Return a table of what each command takes, by the number of rationales: CPU seconds, and its own memory."""
    by_size: Report = report["growth"]["rationales"]
    names = dict.fromkeys(name for commands in by_size.values() for name in commands)
    header = [f"{int(size):,}: {what}" for size in by_size for what in ("CPU s", "MiB")]

    def cells(name: str) -> list[str]:
        runs = [commands.get(name) for commands in by_size.values()]
        return [
            cell
            for run in runs
            for cell in ((f"{run['cpu_seconds']:.1f}", _mebibytes(run, "anonymous")) if run else ("", ""))
        ]

    return table(("kard", *header), [(name, *cells(name)) for name in names])


def adapters(report: Report) -> str:
    """Return a table of answers by the number of adapters that share the batches."""
    header = ("adapters", "answers a CPU s", "to one adapter alone", "to a swap for each answer", "p95")
    lines = [
        (
            number,
            f"{run['mixed']['requests_per_cpu_second']:.1f}",
            f"{run['against_one_adapter']:.2f}",
            f"{run['against_swap_per_request']:.1f}",
            f"{run['mixed']['p95_seconds']:.2f} s",
        )
        for number, run in report["growth"]["adapters"].items()
    ]
    return table(header, lines)


def _plain(value: float, _: object) -> str:
    return f"{value:,.0f}"


def draw(report: Report) -> str:
    """Return the figure: CPU seconds and own memory of commands, by the number of passages or rationales."""
    from figure import standalone

    from kard.evaluation.page.drawing import SERIES, drawing, inline

    lines = sorted((int(size), of["runs"]["1"]) for size, of in report["lines"].items())
    curves = {"index, by passages": lines}
    for size, commands in report["growth"]["rationales"].items():
        for name, run in commands.items():
            if name in SHOWN:
                curves.setdefault(f"{name}, by rationales", []).append((int(size), run))
    with drawing(5.2, 6.4) as figure:
        above, below = figure.subplots(2, sharex=True)
        for place, (name, runs) in enumerate(curves.items()):
            look = {"color": SERIES[place], "marker": "osD^v"[place], "label": name}
            above.plot([n for n, _ in runs], [run["cpu_seconds"] for _, run in runs], **look)
            own = [(n, run["anonymous_bytes"] / MEBIBYTE) for n, run in runs if "anonymous_bytes" in run]
            below.plot([n for n, _ in own], [size for _, size in own], **look)
        above.set(xscale="log", yscale="log", ylabel="CPU seconds")
        for axis in (above.yaxis, below.xaxis):
            axis.set_major_formatter(_plain)
        below.set(xlabel="passages or rationales", ylabel="own memory, MiB", ylim=(0, None))
        figure.legend(*above.get_legend_handles_labels(), loc="outside upper left")
        words = "; ".join(
            f"{name}: {runs[-1][1]['cpu_seconds']:.0f} CPU s at {runs[-1][0]:,}" for name, runs in curves.items()
        )
        svg = inline(figure, "plot-growth", "Cost by size", words)
    style = files("kard.evaluation.page").joinpath("page.css").read_text(encoding="utf-8")
    return standalone(style + svg, "plot-growth")


if __name__ == "__main__":
    RECORDED.with_name("growth.svg").write_text(draw(read()), encoding="utf-8")
