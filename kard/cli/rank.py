"""`kard rank`: each question's passages in the order of every retriever."""

from __future__ import annotations

from typing import Any

import click

from kard.cli import choose

ORDERING = ("retrieve", "ground", "rerank", "fuse", "dense", "hybrid")


@click.command()
@click.argument("task")
@choose.choices
def rank(task: str, **chosen: Any) -> None:
    """Find and order the passages of a split's questions under each retriever, and let nobody answer.

    Whatever is ordered already is left as it is. `kard answer` and `kard run` do this too.
    """
    from kard.pipeline import steps

    work = choose.work(task, **chosen)
    added = {step.name: steps.run_step(work, step) for step in steps.wanted(work) if step.name in ORDERING}
    done = ", ".join(f"{name} {count:,}" for name, count in added.items() if count) or "nothing was missing"
    click.echo(f"{done}; compare the orders: kard hits {task} --summary")
