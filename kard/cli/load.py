"""`kard load` and `kard tasks`: load questions and recorded rationales; list what can be loaded."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import options, show

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.pipeline.load import LoadSummary
    from kard.pipeline.replace import Lost


NAMED = 10  # rows that were left out and are named
REASONS = 3  # of rationales that do not train
ENDING = 80  # characters of the example of such a rationale: where it concludes


@click.command()
@click.argument("task")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--split", help="Split of the rows that name none, like train, dev or test.")
@click.option(
    "--rationales",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File of recorded rationales for the task's questions; repeatable.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out rows of FILE that are no question, and name them.")
@click.option(
    "--replace",
    "replacing",
    is_flag=True,
    help="Change what the store has under the same id (without ids: in the same split, with the same text and half "
    "of the options) to what the file says.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Replace, and remove the task's questions of FILE's splits that are not in FILE; asks before.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@options.store
@options.quiet
def load(
    task: str,
    file: Path | None,
    split: str | None,
    rationales: tuple[Path, ...],
    skip_bad: bool,
    replacing: bool,
    exact: bool,
    yes: bool,
    store: Path,
    quiet: bool,
) -> None:
    """Load questions of TASK, and rationales recorded for them.

    TASK is a name of `kard tasks` or the path of your own .py file. FILE has the questions, as JSON, JSON lines,
    CSV or TSV, also gzipped, or as parquet. It is loaded whole or not at all, and loading it twice changes nothing.

    A row of a file of --rationales has the fields question_id, sample (a number from 0), rationale, model (who
    wrote it) and, if you like, answer_given (true or false: whether the writer was shown the right answer). `kard
    export` writes such files; `kard query question_keys` lists the ids.
    """
    from kard import tasks

    if file is None and not rationales:
        if not task.endswith(".py"):
            tasks.require(task)
        raise click.UsageError("name a FILE of questions, or rationales with --rationales FILE")
    if exact and (file is None or skip_bad):
        raise click.UsageError("--exact removes what FILE lacks: it needs a FILE, of which no row is left out")
    if yes and not exact:
        raise click.UsageError("--yes answers what --exact asks; without that nothing is asked")
    from kard.db import open_store
    from kard.files import require_file
    from kard.pipeline.load import load_questions

    loaded = tasks.load(task)
    for each in (*([] if file is None else [file]), *rationales):
        require_file(each)
    db = open_store(store)
    if file is not None:
        summary = load_questions(
            db,
            loaded,
            file,
            split=split,
            skip_bad=skip_bad,
            replacing=replacing,
            confirm=partial(_confirm, yes, f"{loaded.name} not in {file.name}") if exact else None,
            progress=show.progress(quiet),
        )
        _print_loaded(loaded.name, summary)
        if summary.others:
            more = count(sum(summary.others.values()), "question")
            click.echo(f"also in the store, and not in {file.name}: {more} ({_by_split(summary.others)})")
            given = "" if split is None else f" --split {shlex.quote(split)}"
            again = f"kard load {shlex.quote(task)} {shlex.quote(str(file))}{given} --exact"
            options.propose("    to keep just what the file has", again)
    if rationales:
        from kard.teacher.records import load_rationales

        for path in rationales:
            stored = load_rationales(db, loaded.name, path, replacing=replacing or exact)
            click.echo(f"{count(stored.added, 'rationale')} added{_replaced(stored.replaced)} from {path.name}")
    print_verdicts(db, task, loaded.name)
    options.propose("Next", next_command(db, task, loaded.name))


def _print_loaded(name: str, loaded: LoadSummary) -> None:
    for problem in loaded.skipped[:NAMED]:
        click.echo(f"left out: {problem}", err=True)
    if loaded.skipped:
        others = len(loaded.skipped) - NAMED
        more = f", {others:,} of them not named above" if others > 0 else ""
        click.echo(f"{count(len(loaded.skipped), 'row')} left out{more}", err=True)
    done = f"{count(loaded.added, 'question')} added{_replaced(loaded.replaced)}"
    done += f", {loaded.removed:,} removed" if loaded.removed else ""
    click.echo(f"{name}: {done}, {loaded.unchanged:,} unchanged ({_by_split(loaded.splits)})")
    if loaded.rationales or loaded.replaced_rationales:
        number = count(loaded.rationales, "rationale")
        click.echo(f"{number} added{_replaced(loaded.replaced_rationales)}, which came with the questions")


def _replaced(number: int) -> str:
    return f", {number:,} replaced" if number else ""


def _by_split(questions: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {number:,}" for split, number in questions.items())


def _confirm(yes: bool, whose: str, lost: Lost) -> None:
    """Say what goes with questions, and ask unless `yes`. Raises click.Abort."""
    cost = f" that cost ${lost.cost:.2f}" if lost.cost else ""
    what = f"{count(lost.questions, 'question')} of {whose}, with {count(lost.rationales, 'rationale')}{cost}"
    if yes:
        click.echo(f"removing {what}", err=True)
    else:
        click.confirm(f"Remove {what}?", abort=True)


def print_verdicts(db: Database, argument: str, name: str) -> None:
    """Print how many rationales of the task are accepted, unread and rejected, and the commonest reasons."""
    from kard.db import rows

    reasons = rows(db, "internal/verdict_reasons", task=name)
    counts = dict.fromkeys(("accepted", "unread", "rejected"), 0)
    for reason in reasons:
        counts[reason["verdict"]] += reason["rationales"]
    if not sum(counts.values()):
        return
    numbers = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items())
    click.echo(f"{count(sum(counts.values()), 'rationale')} of {name}: {numbers}; only accepted ones train")
    for reason in [reason for reason in reasons if reason["why"]][:REASONS]:
        verdict, end = reason["verdict"], " ".join(reason["text"].split())[-ENDING:]
        click.echo(f"  {reason['rationales']:,} {verdict}: {reason['why']}, as in {reason['key']!r}: ...{end}")
        options.propose("    more", f"kard rationales {argument} --verdict {verdict}")


def count(number: int, noun: str) -> str:
    """Return the number with its noun in the singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def next_command(db: Database, argument: str, name: str) -> str:
    """Return the command that does what the task lacks next."""
    if not db.table("indexes").count:
        return "kard index SOURCE"
    taught = db.execute(
        "select 1 from rationales r join questions q on q.id = r.question_id where q.task = ? limit 1", [name]
    ).fetchone()
    return f"kard run {argument}" if taught else f"kard teach {argument} --model PROVIDER/MODEL"


@click.command()
@click.argument("name", required=False)
@options.as_json
def tasks(name: str | None, as_json: bool) -> None:
    """List the tasks that come with kard, or describe one.

    With NAME, which may be the path of your own .py file, say what a row of its file of questions holds. The list
    has the base models of each task.
    """
    import inspect

    from kard.tasks import load as load_task
    from kard.tasks import names

    if name is not None:
        task = load_task(name)
        about = inspect.getdoc(inspect.getmodule(task.parse)) or task.about
        click.echo(about)
        return
    loaded = [load_task(each) for each in names()]
    if as_json:
        show.as_json(
            [
                {"name": t.name, "about": t.about, "students": dict(t.students), "encoders": dict(t.encoders)}
                for t in loaded
            ]
        )
        return
    show.table("", ("task", "about", "sizes"), [(t.name, t.about, ", ".join(t.students)) for t in loaded])
    bases = [(f"student {size}", base) for t in loaded for size, base in t.students.items()]
    bases += [(f"reranker {name}", base) for t in loaded for name, base in t.encoders.items()]
    show.table("", ("for", "base"), list(dict.fromkeys(bases)))
