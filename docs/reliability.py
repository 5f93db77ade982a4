"""The tables of reliability.md, from what the suites of benchmarks/reliability/ wrote to reliability.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("reliability.json")
KILLED = ("lost", "doubled", "other", "damaged", "left behind", "paid twice", "failed")


def suite(name: str) -> Mapping[str, Any]:
    """Return what a suite recorded."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))[name]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; numbers have commas."""

    def cell(value: object) -> str:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        return text.replace("|", "\\|").replace("\n", " ")

    lines = [header, ["---"] * len(header), *rows]
    return "\n" + "".join("| " + " | ".join(map(cell, line)) + " |\n" for line in lines) + "\n"


def when(name: str) -> str:
    """Return when and where a suite ran."""
    ran = suite(name)
    return f"{ran['date']}, kard {ran['kard']}, Python {ran['python']}, {ran['cores']} cores"


def promises() -> str:
    """Return a table of the suites: what was tried, and what went wrong."""
    kills, inputs, faults = suite("kills")["steps"], suite("inputs")["readers"], suite("teacher_faults")["faults"]
    shared, runs, attacks = suite("sharers")["shared"], suite("sharers")["runs"], suite("attacks")["attacks"]
    growth = suite("growth")["shapes"]
    wrong = {kind: sum(row[kind] for row in kills) for kind in KILLED}
    bad = {kind: sum(row[kind] for row in inputs) for kind in ("tracebacks", "hangs", "crashes")}
    commands = sum(shared["commands"].values())
    losses = sum(max(0, row["lost"]) for row in faults)
    rows = [
        ("kills", f"{sum(row['kills'] for row in kills):,} kills in {len(kills)} steps", _counts(wrong)),
        (
            "sharers",
            f"{shared['sharers']} processes, {shared['minutes']:g} minutes, {commands:,} commands",
            f"{len(shared['errors'])} errors, {shared['paid_twice']} calls paid twice, {shared['doubled']} doubled",
        ),
        (
            "sharers",
            "two equal runs at once",
            f"{len(runs['errors'])} errors, {runs['paid_twice']} of {runs['calls']} calls paid twice",
        ),
        ("inputs", f"{sum(row['inputs'] for row in inputs):,} inputs for {len(inputs)} readers", _counts(bad)),
        (
            "growth",
            f"{len(growth)} shapes at three sizes",
            f"{sum(_steep(row) for row in growth)} grow faster than linearly",
        ),
        (
            "teacher_faults",
            f"{len(faults)} faults of a provider",
            f"{losses} paid replies lost, {sum(row['over_budget'] for row in faults)} budgets passed, "
            f"{sum(row['key'] for row in faults)} keys shown, {sum(row['traceback'] for row in faults)} tracebacks",
        ),
        (
            "attacks",
            f"{sum(row['tried'] for row in attacks)} attacks of {len(attacks)} kinds",
            f"{sum(row['tried'] - row['beaten'] for row in attacks)} not beaten",
        ),
    ]
    return table(("suite", "tried", "wrong"), [(f"`{n}.py`", tried, seen) for n, tried, seen in rows])


def kills() -> str:
    """Return a table of the kills of every step."""
    header = ("step", "kills", "before a write", "runs to the end", *KILLED)
    rows = suite("kills")["steps"]
    return table(
        header, [(r["step"], r["kills"], r["at_writes"], r["runs"], *(r[k] for k in KILLED)) for r in rows]
    )


def under_way() -> str:
    """Return how many of the teacher's calls were under way when a process was killed."""
    asked = [row for row in suite("kills")["steps"] if row["under_way"]]
    number, most = sum(r["under_way"] for r in asked), max((r["most_under_way"] for r in asked), default=0)
    return f"{number} calls were under way in {sum(r['kills'] for r in asked)} kills, at most {most} in one\n"


def inputs() -> str:
    """Return a table of the readers."""
    kinds = ("read", "refused", "tracebacks", "hangs", "crashes")
    rows = suite("inputs")["readers"]
    return table(
        ("reader", "inputs", "read", "refused in one line", *kinds[2:]),
        [(row["reader"], row["inputs"], *(row[kind] for kind in kinds)) for row in rows],
    )


def growth() -> str:
    """Return a table of the slowest shape of every parser: nanoseconds a byte at three sizes."""
    recorded = suite("growth")
    sizes, slowest = recorded["sizes"], dict[str, Any]()
    for row in recorded["shapes"]:
        best = slowest.get(row["parser"])
        if best is None or _last(row) > _last(best):
            slowest[row["parser"]] = row
    rows = [
        (
            parser,
            row["shape"],
            sum(other["parser"] == parser for other in recorded["shapes"]),
            *(_nanoseconds(seconds, size) for seconds, size in zip(row["seconds"], sizes, strict=False)),
        )
        for parser, row in slowest.items()
    ]
    names = [f"ns a byte at {size // 1000:,} kB" for size in sizes]
    return table(("parser", "its slowest shape", "shapes", *names), rows)


def teacher_faults() -> str:
    """Return a table of a provider's faults: what is said, and what is stored."""
    rows = [
        (
            row["fault"] + (" (every time)" if row["every"] else ""),
            ", ".join(f"{count} {name}" for name, count in row["outcomes"].items()) or "-",
            f"`{row['says'].replace('`', '')}`" if row["code"] else "goes on",
            f"{row['stored']} of {row['paid']}",
            row["after"],
        )
        for row in suite("teacher_faults")["faults"]
    ]
    return table(
        ("fault", "stored outcome", "the command ends with", "paid replies stored", "rationales later"), rows
    )


def attacks() -> str:
    """Return a table of the attacks."""
    rows = suite("attacks")["attacks"]
    shown = [
        (r["attack"], r["tried"], r["beaten"], _or_dash(r["seconds"], "s"), _or_dash(r["megabytes"], "MB"))
        for r in rows
    ]
    return table(("attack", "tried", "beaten", "longest", "largest memory"), shown)


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


def _last(row: Mapping[str, Any]) -> float:
    return float("inf") if None in row["seconds"] else row["seconds"][-1]


def _steep(row: Mapping[str, Any]) -> bool:
    """Return whether ten times as much takes more than 15 times as long, where that can be measured."""
    times = row["seconds"]
    return None in times or (times[-1] > 0.1 and times[-1] > 15 * times[-2])


def _nanoseconds(seconds: float | None, size: int) -> str:
    return "too long" if seconds is None else f"{1e9 * seconds / size:,.0f}"


def _or_dash(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,} {unit}"
