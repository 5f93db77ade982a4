"""`kard train reranker` and `kard train student`."""

from __future__ import annotations

from typing import Any

import click

from kard.cli import choose


@click.group()
def train() -> None:
    """Train a reranker or students on the rationales in the store."""


@train.command()
@click.argument("task")
@choose.choices
def reranker(task: str, **chosen: Any) -> None:
    """Train a reranker that ranks by the question as BM25 ranks by the teacher's rationale.

    Paper, section 3.3. Training again with the same data and settings returns the same reranker.
    """
    from kard.pipeline.rerank import train_reranker

    trained = train_reranker(choose.work(task, **chosen))
    click.echo(f"reranker {trained}; rank with it: kard rank {task} --retriever reranker")


@train.command()
@click.argument("task")
@choose.choices
def student(task: str, **chosen: Any) -> None:
    """Train a student of each --size and --method: ft, ka-ft, rd, kard.

    Paper, section 3.2. Training again with the same data and settings returns the same student.
    """
    from kard.pipeline.students import train_student

    work = choose.work(task, **chosen)
    for size, method in work.students():
        trained = train_student(work, size, method)
        click.echo(f"student {trained}: {method}, {size}")
    click.echo(f"let them answer: kard answer {task}")
