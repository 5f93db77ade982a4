"""`kard rescore`: stored texts read again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from kard.cli import options, show

SHOWN = 20  # changed answers that a table lists


@click.command()
@click.argument("task")
@click.option("--split", help="Only the answers to this split.")
@options.dry_run
@options.as_json
@options.store
@options.quiet
def rescore(task: str, split: str | None, dry_run: bool, as_json: bool, store: Path, quiet: bool) -> None:
    """Read the stored answers of TASK again with the parser of this version, and say what changed.

    Nothing is generated again: what students wrote is in the store. Answers that had to be forced stay.
    """
    from kard import tasks
    from kard.db import open_store
    from kard.errors import Missing
    from kard.evaluation import rescore as rescoring

    name = tasks.load(task).name
    db = open_store(store, create=False)
    result = rescoring.rescore(db, name, split, dry_run=dry_run, progress=show.progress(quiet))
    if not result.conditions:
        raise Missing(f"no answers of {name} to read again; make them with: kard run {task}")
    if as_json:
        show.as_json({"reread": result.reread, "dry_run": dry_run, **asdict(result)})
        return
    changed = [condition for condition in result.conditions if condition.reread]
    if changed:
        header = ("condition", "texts", "read otherwise", "right", "unread")
        rows = [
            (c.name, c.texts, c.reread, f"{c.right[0]} -> {c.right[1]}", f"{c.unread[0]} -> {c.unread[1]}")
            for c in changed
        ]
        show.table("", header, rows)
    if result.changes:
        listed = [(c.condition, c.key, c.before or "-", c.after or "-", c.gold or "-") for c in result.changes]
        title = f"Changed answers, the first {SHOWN} of {len(listed)}" if len(listed) > SHOWN else "Changed answers"
        show.table(title, ("condition", "question", "before", "after", "gold"), listed[:SHOWN])
    texts = sum(condition.texts for condition in result.conditions)
    would = "would be read otherwise" if dry_run else "read otherwise"
    click.echo(
        f"{result.reread} of {texts} texts {would}, {len(result.changes)} votes changed; parser {result.parser}"
    )
