"""`kard ground`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from kard.cli import options, show


@click.command()
@click.argument("task")
@options.knowledge
@options.store
@click.option(
    "--depth", type=click.IntRange(min=1), help="Passages by rationale and by question. [default: the task's]"
)
@options.limit
@options.dry_run
@options.quiet
def ground(
    task: str,
    knowledge: Path | None,
    store: Path,
    depth: int | None,
    limit: int | None,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Find passages for every rationale of TASK that lacks them: what student and reranker learn from."""
    from kard import tasks
    from kard.db import open_store
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.questions import QuestionSet
    from kard.retrieval import retrieve

    started = time.monotonic()
    loaded = tasks.load(task)
    name, settings = loaded.name, loaded.settings.retrieval
    if depth is not None:
        settings = replace(settings, depth=depth)
    db = open_store(store, create=False)
    kb = KnowledgeBase.open(options.knowledge_of(store, knowledge))
    training = QuestionSet(name, "train", limit)
    if dry_run:
        lacking = retrieve.ungrounded(db, kb.id, training, settings)
        click.echo(f"{sum(len(q.rationales) for q in lacking):,} rationales lack passages; nothing was done")
        return
    evidence = retrieve.copy_evidence(db, kb, name)
    added = retrieve.ground(db, kb, training, settings, progress=show.progress(quiet))
    click.echo(
        f"{added:,} rationales grounded, {evidence:,} evidence passages copied ({time.monotonic() - started:.1f} s)"
    )
