"""`kard failures`: how often knowledge, retriever, student or teacher failed, under each condition."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.cli.explain import needed as needed_option
from kard.evaluation.verdicts import VERDICTS

if TYPE_CHECKING:
    from kard.evaluation.failures import Failure, FailureCounts, FailureRow
    from kard.evaluation.verdicts import Needed, Verdict

Table = tuple[list[str], list[list[object]]]


@click.command()
@click.argument("task")
@click.option("--split", help="Split of the answers. [default: test, else dev, else validation]")
@click.option("--judged", is_flag=True, help="Only questions of which a person judged a passage or rationale.")
@needed_option
@click.option(
    "-n", "--examples", type=click.IntRange(min=0), default=2, show_default=True, help="Question ids a verdict."
)
@click.option("--rows", "each", is_flag=True, help="A row for each wrong answer instead, with the reason.")
@click.option("--json", "form", flag_value="json", help="Print a JSON list.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--table", "form", flag_value="table", default="table", help="Print a table.  [default]")
@options.store
def failures(
    task: str, split: str | None, judged: bool, needed: Needed, examples: int, each: bool, form: str, store: Path
) -> None:
    """Show for each condition of TASK why its wrong answers are wrong, with the ids of some.

    The verdicts are those of `kard explain`; each wrong answer has exactly one.
    """
    from kard.errors import Missing
    from kard.evaluation.failures import tally, verdicts
    from kard.evaluation.report import as_markdown

    run = choose.run_of(task, store=store, knowledge=None, quiet=True, split=split)
    name, of = run.name, run.split
    found = verdicts(run.db, name, of, needed=needed, judged=judged)
    if not found:
        judging = "to a question that a person judged something of; judge with: kard judge" if judged else ""
        raise Missing(f"no wrong answer of {name}/{of} {judging or f'in the store; answer with: kard run {task}'}")
    lines = tally(found, examples)
    if form == "json":
        show.as_json([_as_object(f) for f in found] if each else [_line_as_object(line) for line in lines])
    elif form == "csv":
        body = _flat([_as_object(f) for f in found]) if each else _counted(lines)
        csv.writer(sys.stdout, lineterminator="\n").writerows(body)
    elif form == "markdown":
        click.echo(show.clean(as_markdown(*(_answers(found) if each else _shares(lines)))))
    else:
        only = ", judged questions only" if judged else ""
        show.table(f"{name}, {of}: why answers are wrong{only}", *(_answers(found) if each else _shares(lines)))
        if examples and not each:
            show.table("some of them, for kard explain", *_examples(lines))
    for note in _notes(lines, found, needed):
        click.echo(note, err=True)


def _shares(lines: Sequence[FailureRow]) -> Table:
    """Counts with the share of each condition's wrong answers; verdicts that never fell take no column."""
    there: list[Verdict] = [v for v in VERDICTS if any(line.counts[v] for line in lines)]
    names = _names([line.condition for line in lines])
    body: list[list[object]] = []
    for line in lines:
        cells = [f"{n} ({n / line.wrong:.0%})" if (n := line.counts[v]) else "0" for v in there]
        body.append([names[line.condition], line.wrong, *cells])
    return ["condition", "wrong", *there], body


def _names(conditions: Sequence[FailureCounts]) -> dict[FailureCounts, str]:
    """What tables call them: with the seed only where there is more than one."""
    several = len({c.seed for c in conditions}) > 1
    return {c: c.name if several else c.label for c in conditions}


def _examples(lines: Sequence[FailureRow]) -> Table:
    names = _names([line.condition for line in lines])
    body: list[list[object]] = [
        [names[line.condition], v, " ".join(line.examples[v])] for line in lines for v in VERDICTS if line.counts[v]
    ]
    return ["condition", "verdict", "questions"], body


def _answers(found: Sequence[Failure]) -> Table:
    names = _names([f.condition for f in found])
    body: list[list[object]] = [[names[f.condition], f.key, f.gold, f.answer, f.verdict, f.why] for f in found]
    return ["condition", "question", "gold", "answer", "verdict", "because"], body


def _as_object(failure: Failure) -> dict[str, object]:
    rest = {k: v for k, v in asdict(failure).items() if k != "condition"}
    return {**asdict(failure.condition), **rest}


def _line_as_object(line: FailureRow) -> dict[str, object]:
    verdicts = {
        v: {"count": n, "share": _share(n, line), "examples": list(line.examples[v])}
        for v, n in line.counts.items()
    }
    return {**asdict(line.condition), "wrong": line.wrong, "verdicts": verdicts}


def _counted(lines: Sequence[FailureRow]) -> list[list[object]]:
    flat = [
        {
            **asdict(line.condition),
            "wrong": line.wrong,
            **line.counts,
            **{f"{v} share": _share(n, line) for v, n in line.counts.items()},
        }
        for line in lines
    ]
    return _flat(flat)


def _flat(objects: Sequence[Mapping[str, object]]) -> list[list[object]]:
    return [list(objects[0]), *(list(o.values()) for o in objects)]


def _share(count: int, line: FailureRow) -> float:
    return round(count / line.wrong, 4)


def _notes(lines: Sequence[FailureRow], found: Sequence[Failure], needed: Needed) -> Iterator[str]:
    """What a reader could misread."""
    from kard.evaluation.failures import cramped

    never = [v for v in VERDICTS if not any(line.counts[v] for line in lines)]
    if never:
        yield f"never: {', '.join(never)}"
    if needed == "all" and (note := cramped(found)):
        yield note
