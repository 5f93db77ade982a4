"""`kard load` and `kard tasks`: questions and recorded rationales into the store; what can be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import options, show

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.pipeline.load import Loaded


@click.command()
@click.argument("task")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--split", help="Split of the rows that name none: train, dev, test.")
@click.option(
    "--rationales",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File of recorded rationales for the task's questions; may be given several times.",
)
@options.store
@options.quiet
def load(
    task: str, file: Path | None, split: str | None, rationales: tuple[Path, ...], store: Path, quiet: bool
) -> None:
    """Load FILE, the questions of TASK, and rationales that somebody recorded for them.

    TASK is a name of `kard tasks` or the path of your own .py file. FILE is JSON, JSON lines, CSV or TSV, also
    gzipped. It goes in whole or not at all, and twice equals once.
    """
    if file is None and not rationales:
        raise click.UsageError("name a FILE of questions, or rationales with --rationales FILE")
    from kard import tasks
    from kard.db import open_store
    from kard.pipeline.load import load_questions

    loaded = tasks.load(task)
    db = open_store(store)
    if file is not None:
        _say(loaded.name, load_questions(db, loaded, file, split=split, progress=show.progress(quiet)))
    if rationales:
        from kard.teacher.records import load_rationales

        for path in rationales:
            click.echo(f"{_count(load_rationales(db, loaded.name, path), 'rationale')} added from {path.name}")
    click.echo(f"Next: {_next(db, task, loaded.name)}{_same(store)}")


def _say(name: str, loaded: Loaded) -> None:
    splits = ", ".join(f"{split} {count:,}" for split, count in loaded.splits.items())
    click.echo(f"{name}: {_count(loaded.added, 'question')} added, {loaded.unchanged:,} unchanged ({splits})")
    if loaded.rationales:
        click.echo(f"{_count(loaded.rationales, 'rationale')} added, which came with the questions")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _next(db: Database, argument: str, name: str) -> str:
    """The command that does what the task lacks next."""
    if not db.table("indexes").count:
        return "kard index SOURCE"
    taught = db.execute(
        "select 1 from rationales r join questions q on q.id = r.question_id where q.task = ? limit 1", [name]
    ).fetchone()
    return f"kard run {argument}" if taught else f"kard teach {argument} --model PROVIDER/MODEL"


def _same(store: Path) -> str:
    """The option that makes the next command use this store, where it would not by itself."""
    context = click.get_current_context()
    given = context.get_parameter_source("store") is click.core.ParameterSource.COMMANDLINE
    return f" --store {store}" if given else ""


@click.command()
@click.argument("name", required=False)
@options.as_json
def tasks(name: str | None, as_json: bool) -> None:
    """List the tasks that come with kard and their bases; with NAME, say what a row of its file holds.

    NAME may be the path of your own .py file.
    """
    import inspect

    from kard.tasks import load as load_task
    from kard.tasks import names

    if name is not None:
        task = load_task(name)
        about = inspect.getdoc(inspect.getmodule(task.parse)) or task.about
        click.echo(show.clean(about))
        return
    every = [load_task(each) for each in names()]
    if as_json:
        show.as_json(
            [
                {"name": t.name, "about": t.about, "students": dict(t.students), "encoders": dict(t.encoders)}
                for t in every
            ]
        )
        return
    show.table("", ("task", "what", "sizes"), [(t.name, t.about, ", ".join(t.students)) for t in every])
    bases = [(f"student {size}", base) for t in every for size, base in t.students.items()]
    bases += [(f"reranker {name}", base) for t in every for name, base in t.encoders.items()]
    show.table("", ("for", "base"), list(dict.fromkeys(bases)))
