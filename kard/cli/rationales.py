"""`kard rationales` and `kard judge`: read what teachers wrote, measure it, and say what is right."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import click

from kard.cli import options, show
from kard.cli.rows import print_records, print_rows
from kard.db import open_store, rows, value
from kard.errors import Missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlite_utils import Database

    from kard.evaluation.judgements import Grade, Judgement
    from kard.evaluation.rationale_quality import Embed

SHORT = 240  # characters of a rationale in a table of many
SHORT_ID = 8  # characters of a passage's id in a table: --passage takes the beginning of one
COLUMNS = ("key", "teacher", "sample", "verdict", "gold", "conclusion", "verified", "judged", "text")


@click.command()
@click.argument("task")
@click.option("--search", metavar="TEXT", help="Only those that hold every word of TEXT, best first.")
@click.option("--question", metavar="ID", help="Only those of the question with this id in its file; in full.")
@click.option(
    "--verdict",
    type=click.Choice(["accepted", "rejected", "unread"]),
    help="Only those that conclude on the gold answer, on another one, or on none.",
)
@click.option("--teacher", metavar="NAME", help="Only this teacher's.")
@click.option("--judged", is_flag=True, help="Only those that a person judged.")
@click.option(
    "-n", "--count", type=click.IntRange(min=1), default=20, show_default=True, help="Rationales to show, at most."
)
@click.option("--quality", is_flag=True, help="Measure quality instead: a row per teacher and split.")
@click.option(
    "--vectors",
    is_flag=True,
    help="With --quality, also measure by the task's encoder how far a question's samples are apart in meaning.",
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
    """Show rationales, or with --quality measure them.

    A table shortens long texts; --question, --json, --nl and --csv do not. --quality measures agreement with the
    gold answer, length, repetition, the difference between a question's samples, the share of their words and names
    that the passages found with them hold (and, for comparison, that another question's passages hold), and copies
    of the prompt's examples.
    """
    if vectors and not quality:
        raise click.UsageError("--vectors measures for --quality; give both")
    db = open_store(store, create=False)
    name = _task_name(db, task)
    if quality:
        _print_quality(db, task, name, teacher, judged, vectors, form, quiet)
        return
    records = rows(
        db,
        "search_rationales" if search else "rationales",
        text=search,
        task=name,
        key=question,
        verdict=verdict,
        teacher=teacher,
        judged="yes" if judged else None,
        limit=count,
    )
    if form != "table":
        print_records(form, records)
        return
    if not records:
        if not value(db, "internal/count_rationales", task=name):
            raise Missing(f"no rationales of {name}; ask a teacher with: kard teach {task} --model PROVIDER/MODEL")
        raise Missing(f"no such rationale of {name}; see what there is with: kard rationales {task} --quality")
    show.table("", COLUMNS, [_cells(record, whole=question is not None) for record in records])


def _task_name(db: Database, task: str) -> str:
    """Return the task's name, without importing its program where the store has it. Raises NoTask, Missing."""
    in_store = "select 1 from questions where task = ? limit 1"
    if db.execute(in_store, [task]).fetchone():
        return task
    from kard import tasks

    name = tasks.load(task).name
    if not db.execute(in_store, [name]).fetchone():
        raise Missing(f"no questions of {name} in the store; load them with: kard load {task} FILE")
    return name


def _cells(record: Mapping[str, Any], *, whole: bool) -> list[object]:
    """Return the cells of `COLUMNS`: judgements in words, the text whole or shortened."""
    cells = {
        **record,
        "judged": " ".join(f"{record[word]} {word}" for word in ("good", "bad") if record[word]),
        "verified": {None: "", 0: "no", 1: "yes"}[record["verified"]],
        "text": record["text"] if whole else shorten(record["text"], SHORT, placeholder=" ..."),
    }
    return [cells[column] for column in COLUMNS]


def _print_quality(
    db: Database, task: str, name: str, teacher: str | None, judged: bool, vectors: bool, form: str, quiet: bool
) -> None:
    from kard.evaluation.rationale_quality import measure_rationales, read_rationales

    written = [
        w
        for w in read_rationales(db, name)
        if (teacher is None or w.teacher == teacher) and (not judged or w.good + w.bad)
    ]
    if not written:
        raise Missing(f"no such rationale of {name}; ask a teacher with: kard teach {task} --model PROVIDER/MODEL")
    measured = measure_rationales(
        written, _shots(task), show.progress(quiet), embed=_embedder(task) if vectors else None
    )
    records = [{key: _rounded(value) for key, value in asdict(line).items()} for line in measured]
    if form == "table":
        header = [column.replace("_", " ") for column in records[0]]
        title = f"{name}: rationales by teacher and split"
        print_rows(form, header, [list(record.values()) for record in records], title=title)
    else:
        print_records(form, records)


def _rounded(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def _embedder(task: str) -> Embed:
    """Return a function that embeds texts with the task's own encoder, untrained."""
    import torch

    from kard import tasks
    from kard.encoders.encoder import Encoder
    from kard.models import bases

    encoder = Encoder.of(bases.resolve(tasks.load(task).encoder), max_length=256)
    return torch.inference_mode()(lambda texts: encoder.pooled(texts).cpu().numpy())


def _shots(task: str) -> list[str] | None:
    """Return the rationales of the prompt's examples; None for a task whose program is not at hand."""
    from kard import tasks
    from kard.errors import NoTask

    try:
        return [shot["rationale"] for shot in tasks.load(task).shots]
    except NoTask:
        return None


@click.command()
@click.argument("question", required=False)
@click.argument("verdict", type=click.Choice(["good", "bad"]), required=False)
@click.option("--passage", metavar="ID", help="Passage to judge; the beginning of its id will do.")
@click.option("--rationale", metavar="ID", type=int, help="Rationale to judge.")
@click.option("--note", default="", help="Why, in a few words.")
@click.option("--author", default="", envvar="KARD_AUTHOR", help="Who judges. [env: KARD_AUTHOR]")
@click.option("--task", help="Task of the question or of the listed judgements; needed where ids are not unique.")
@click.option("--list", "listing", is_flag=True, help="List the judgements of QUESTION, or all.")
@options.as_json
@options.store
def judge(
    question: str | None,
    verdict: Grade | None,
    passage: str | None,
    rationale: int | None,
    note: str,
    author: str,
    task: str | None,
    listing: bool,
    as_json: bool,
    store: Path,
) -> None:
    """Judge a passage or a rationale of QUESTION.

    A passage is good if it holds what QUESTION needs, a rationale if it is right. A second judgement by the same
    author replaces the first. `kard explain` and `kard failures` count good passages as needed and bad ones as not
    needed where the data name no evidence, and do not rely on a bad rationale.
    """
    from kard.evaluation import judgements
    from kard.evaluation.trace import find_question

    if listing:
        if verdict or passage or rationale is not None:
            raise click.UsageError("--list takes no verdict, --passage or --rationale")
        db = open_store(store, create=False)
        question_id = find_question(db, question, task) if question else None
        _print_judgements(judgements.judgements(db, task=task, question_id=question_id), as_json)
        return
    if question is None or verdict is None or (passage is None) == (rationale is None):
        raise click.UsageError("give QUESTION, good or bad, and one of --passage ID and --rationale ID; or --list")
    db = open_store(store, create=False)
    question_id = find_question(db, question, task)
    replaced = judgements.judge(
        db, question_id, verdict, passage=passage, rationale=rationale, note=note, author=author
    )
    judged = f"passage {passage}" if passage is not None else f"rationale {rationale}"
    click.echo(f"{judged}: {verdict}{', in place of what was said before' if replaced else ''}")


def _print_judgements(judgements: Sequence[Judgement], as_json: bool) -> None:
    if as_json:
        show.as_json([asdict(j) for j in judgements])
    elif judgements:
        header = ("question", "passage", "rationale", "verdict", "author", "note", "when")
        cells = [
            (j.key, (j.passage_id or "")[:SHORT_ID], j.rationale_id, j.verdict, j.author, j.note, j.created[:10])
            for j in judgements
        ]
        show.table("", header, cells)
    else:
        click.echo("nothing was judged yet; see what there is to judge with: kard explain QUESTION")
