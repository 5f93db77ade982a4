"""`kard answer`: what students answer."""

from __future__ import annotations

from typing import Any

import click

from kard.cli import choose
from kard.cli.rank import ORDERING
from kard.cli.report import print_report


@click.command()
@click.argument("task")
@choose.choices
def answer(task: str, **chosen: Any) -> None:
    """Let every trained student answer a split under each retriever, and print the answers' report.

    What the retrievers need (passages for each question, the reranker's order) is made first.
    """
    from kard.pipeline import steps

    work = choose.work(task, **chosen)
    added = {
        step.name: steps.run_step(work, step) for step in steps.wanted(work) if step.name in (*ORDERING, "answer")
    }
    if not work.conditions():
        from kard.errors import Missing

        raise Missing(f"no student of {work.task.name} is trained; train them with: kard run {task}")
    click.echo(f"{added['answer']} new answers")
    print_report(work.db, work.task.name, work.split)
