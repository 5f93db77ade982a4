"""The tables of reliability.md, from what the suites of benchmarks/reliability/ wrote to reliability.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("reliability.json")
BROKEN = ("tracebacks", "hangs", "crashes")
KILLED = ("lost", "doubled", "other", "damaged", "left behind", "paid twice", "failed")


def suite(name: str) -> Mapping[str, Any]:
    """Return what a suite recorded; {} if it did not run."""
    return json.loads(RECORDED.read_text(encoding="utf-8")).get(name, {})


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; numbers have commas."""

    def cell(value: object) -> str:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        return text.replace("|", "\\|").replace("\n", " ")

    lines = [header, ["---"] * len(header), *rows]
    return "\n" + "".join("| " + " | ".join(map(cell, line)) + " |\n" for line in lines) + "\n"


def when(name: str) -> str:
    """Return when and where a suite ran, and what is to be known of that run."""
    if not (ran := suite(name)):
        return "no run is recorded"
    note = f"; {ran['note']}" if "note" in ran else ""
    return f"{ran['date']}, kard {ran['kard']}, Python {ran['python']}, {ran['cores']} cores{note}"


def promises() -> str:
    """Return a table of the suites: what was tried, and what went wrong."""
    rows: list[tuple[str, str, str]] = []
    if steps := suite("kills").get("steps"):
        tried = f"{_sum(steps, 'kills'):,} kills in {len(steps)} steps"
        rows.append(("kills", tried, _counts({kind: _sum(steps, kind) for kind in KILLED})))
    if shared := suite("sharers").get("shared"):
        commands = sum(shared["commands"].values())
        tried = f"{shared['sharers']} processes, {shared['minutes']:g} minutes, {commands:,} commands"
        rows.append(("sharers", tried, _shared(shared)))
    if runs := suite("sharers").get("runs"):
        rows.append(("sharers", "two equal `kard run` at once", _shared(runs)))
    if readers := suite("inputs").get("readers"):
        tried = f"{_sum(readers, 'inputs'):,} inputs for {len(readers)} readers"
        rows.append(("inputs", tried, _counts({kind: _sum(readers, kind) for kind in BROKEN})))
    if shapes := suite("growth").get("shapes"):
        steep = sum(map(_steep, shapes))
        rows.append(("growth", f"{len(shapes)} shapes at three sizes", f"{steep} grow faster than linearly"))
    if faults := suite("teacher_faults").get("faults"):
        seen = {"budgets passed": "over_budget", "keys shown": "key", "tracebacks": "traceback"}
        counts = {name: _sum(faults, field) for name, field in seen.items()}
        rows.append(("teacher_faults", f"{len(faults)} faults of a provider", _counts(counts)))
    if attacks := suite("attacks").get("attacks"):
        tried, beaten = _sum(attacks, "tried"), _sum(attacks, "beaten")
        rows.append(("attacks", f"{tried} attacks of {len(attacks)} kinds", f"{tried - beaten} not beaten"))
    return table(("suite", "tried", "wrong"), [(f"`{name}.py`", tried, wrong) for name, tried, wrong in rows])


def kills() -> str:
    """Return a table of the kills of every step."""
    header = ("step", "kills", "before a write", "runs to the end", *KILLED)
    rows = suite("kills").get("steps", [])
    return table(
        header, [(r["step"], r["kills"], r["at_writes"], r["runs"], *(r[k] for k in KILLED)) for r in rows]
    )


def under_way() -> str:
    """Return how many of the teacher's calls were under way when a process was killed."""
    asked = [row for row in suite("kills").get("steps", []) if row["under_way"]]
    number, most = sum(r["under_way"] for r in asked), max((r["most_under_way"] for r in asked), default=0)
    return f"{number} calls were under way in {sum(r['kills'] for r in asked)} kills, at most {most} in one\n"


def inputs() -> str:
    """Return a table of the readers."""
    kinds = ("read", "refused", *BROKEN)
    rows = suite("inputs").get("readers", [])
    return table(
        ("reader", "inputs", "read", "refused in one line", *BROKEN),
        [(row["reader"], row["inputs"], *(row[kind] for kind in kinds)) for row in rows],
    )


def growth() -> str:
    """Return a table of the slowest shape of every parser: nanoseconds a byte at three sizes."""
    recorded = suite("growth")
    shapes, sizes, slowest = recorded.get("shapes", []), recorded.get("sizes", []), dict[str, Any]()
    for row in shapes:
        best = slowest.get(row["parser"])
        if best is None or _last(row) > _last(best):
            slowest[row["parser"]] = row
    rows = [
        (
            parser,
            row["shape"],
            sum(other["parser"] == parser for other in shapes),
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
        for row in suite("teacher_faults").get("faults", [])
    ]
    return table(
        ("fault", "stored outcome", "the command ends with", "paid replies stored", "rationales later"), rows
    )


def attacks() -> str:
    """Return a table of the attacks."""
    rows = suite("attacks").get("attacks", [])
    shown = [
        (r["attack"], r["tried"], r["beaten"], _or_dash(r["seconds"], "s"), _or_dash(r["megabytes"], "MB"))
        for r in rows
    ]
    return table(("attack", "tried", "beaten", "longest", "largest memory"), shown)


def _sum(rows: Sequence[Mapping[str, Any]], field: str) -> int:
    return sum(row[field] for row in rows)


def _shared(result: Mapping[str, Any]) -> str:
    counts = {"errors": len(result["errors"]), "doubled": result["doubled"], "damaged": len(result["damaged"])}
    return f"{result['paid_twice']} of {result['calls']} calls paid twice, {_counts(counts)}"


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
