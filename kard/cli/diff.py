"""`kard diff`: in what two students, rerankers or conditions differ."""

from __future__ import annotations

from pathlib import Path

import click

from kard.cli import options, show


@click.command()
@click.argument("a")
@click.argument("b")
@click.argument("task", required=False)
@click.option("--split", help="Split of the conditions. [default: test, else dev, else validation]")
@options.as_json
@options.store
def diff(a: str, b: str, task: str | None, split: str | None, as_json: bool, store: Path) -> None:
    """Say in what two students, two rerankers or two conditions differ.

    A and B are ids of students or rerankers, as `kard models` shows them, or conditions: names like kard/reranker,
    as in `kard compare`, or numbers, evaluation_id in the canned queries. The beginning of an id or name is enough.
    Each difference takes one line, seen from A.
    """
    from kard import tasks
    from kard.db import open_store
    from kard.evaluation.diff import two_of_a_kind, words_for

    db = open_store(store, create=False)
    pair = two_of_a_kind(db, a, b, task=task and tasks.load(task).name, split=split)
    words = words_for(db, *pair)
    if as_json:
        show.as_json({"kind": pair[0].kind, "a": pair[0].name, "b": pair[1].name, "differences": words})
        return
    for line in words or ["nothing"]:
        click.echo(show.clean(line))
