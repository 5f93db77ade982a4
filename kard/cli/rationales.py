"""`kard rationales`: read what teachers wrote, and see whether it is worth paying for more."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, cast

import click

from kard.cli import options, show
from kard.cli.query import fetch, write_rows
from kard.db import open_store, parameters, sql
from kard.errors import Missing

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.evaluation.quality import Embed

SHORT = 240  # characters of a rationale in a table of many
SHOWN = ("key", "teacher", "sample", "verdict", "gold", "conclusion", "verified", "judged", "text")
SECONDS = 60.0


@click.command()
@click.argument("task")
@click.option("--search", metavar="TEXT", help="Only those that hold every word of TEXT, best first.")
@click.option("--question", metavar="ID", help="Only those of one question, by its published id, in full.")
@click.option(
    "--verdict",
    type=click.Choice(["accepted", "rejected", "unread"]),
    help="Only those that conclude on the gold answer, on another one, or on none.",
)
@click.option("--teacher", metavar="NAME", help="Only this teacher's.")
@click.option("--judged", is_flag=True, help="Only those that a person judged.")
@click.option("-n", "--count", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option(
    "--quality", is_flag=True, help="Instead, a line for each teacher and split: right, different, grounded?"
)
@click.option(
    "--vectors",
    is_flag=True,
    help="With --quality, embed them too: how far a question's samples are apart in meaning.",
)
@options.forms("json", "nl", "csv")
@options.store
@options.quiet
def rationales(
    task: str,
    search: str | None,
    question: str | None,
    verdict: str | None,
    teacher: str | None,
    judged: bool,
    count: int,
    quality: bool,
    vectors: bool,
    form: str,
    store: Path,
    quiet: bool,
) -> None:
    """Show TASK's rationales with their verdicts, or with --quality a table of what each teacher's are worth.

    A table shortens long texts; --question, --json, --nl and --csv do not. --quality measures agreement with
    the gold answer, length, repetition, difference between a question's samples, how much of their words and
    names the passages found with them hold (beside what another question's passages hold), and copies of the
    prompt's examples.
    """
    if vectors and not quality:
        raise click.UsageError("--vectors measures for --quality; give both")
    db = open_store(store, create=False)
    name = _name(db, task)
    if quality:
        _quality(db, task, name, teacher, judged, vectors, form, quiet)
        return
    query = "search_rationales" if search else "rationales"
    given = {"text": search, "task": name, "key": question, "verdict": verdict, "teacher": teacher}
    values = {**given, "judged": "yes" if judged else None, "limit": str(count)}
    db.close()
    header, rows = fetch(store, sql(query), {p: values[p] for p in parameters(query)}, SECONDS)
    if not rows and form == "table":
        raise Missing(f"no such rationale of {name}; see what there is with: kard rationales {task} --quality")
    if form == "table":
        _table(header, rows, full=question is not None)
    else:
        write_rows(form, header, rows)


def _name(db: Database, task: str) -> str:
    """The task's name, without importing its program where the store knows it. Raises NoTask, Missing."""
    known = "select 1 from questions where task = ? limit 1"
    if db.execute(known, [task]).fetchone():
        return task
    from kard import tasks

    name = tasks.load(task).name
    if not db.execute(known, [name]).fetchone():
        raise Missing(f"no questions of {name} in the store; load them with: kard load {task} FILE")
    return name


def _table(header: list[str], rows: list[tuple[object, ...]], *, full: bool) -> None:
    cells: list[list[object]] = []
    for row in rows:
        one = dict(zip(header, row, strict=True))
        good, bad = int(str(one["good"])), int(str(one["bad"]))
        one["judged"] = " ".join(f"{n} {word}" for n, word in ((good, "good"), (bad, "bad")) if n)
        one["verified"] = {None: "", 0: "no", 1: "yes"}[cast("int | None", one["verified"])]
        if not full:
            one["text"] = shorten(str(one["text"]), SHORT, placeholder=" ...")
        cells.append([one[name] for name in SHOWN])
    show.table("", SHOWN, cells)


def _quality(
    db: Database, task: str, name: str, teacher: str | None, judged: bool, vectors: bool, form: str, quiet: bool
) -> None:
    from kard.evaluation.quality import quality, read_written

    written = [
        one
        for one in read_written(db, name)
        if (teacher is None or one.teacher == teacher) and (not judged or one.good + one.bad)
    ]
    if not written:
        raise Missing(f"no such rationale of {name}; ask a teacher with: kard teach {task} --model PROVIDER/MODEL")
    embed = _embed(task) if vectors else None
    lines = [asdict(line) for line in quality(written, _shots(task), show.progress(quiet), embed=embed)]
    header = list(lines[0])
    rows = [[_rounded(value) for value in line.values()] for line in lines]
    if form == "table":
        show.table(f"{name}: rationales by teacher and split", [h.replace("_", " ") for h in header], rows)
    else:
        write_rows(form, header, rows)


def _embed(task: str) -> Embed:
    """The task's own encoder, untrained."""
    import torch

    from kard import tasks
    from kard.encoders.encoder import Encoder
    from kard.models import bases

    encoder = Encoder.of(bases.resolve(tasks.load(task).encoder), max_length=256)
    return torch.inference_mode()(lambda texts: encoder.pooled(texts).cpu().numpy())


def _shots(task: str) -> list[str] | None:
    """The rationales of the prompt's examples; None for a task whose program is not at hand."""
    from kard import tasks
    from kard.errors import NoTask

    try:
        return [shot["rationale"] for shot in tasks.load(task).shots]
    except NoTask:
        return None


def _rounded(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value
