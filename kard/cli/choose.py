"""From options of the command line to the choices of a run, shared by every command that works on a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from kard.cli import options, show
from kard.db import open_store
from kard.pipeline.run import DEFAULT_METHODS, DEFAULT_RETRIEVERS, Run, RunOptions, Teacher

Command = TypeVar("Command", bound=Callable[..., Any])


def listed(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma-separated option as a tuple."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


base_of_size = click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="SIZE=BASE",
    help="Another base for a size, or a size of your own, like 360m=HuggingFaceTB/SmolLM2-360M; repeatable.",
)
setting = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any setting of docs/settings.md, like student.lora.rank=8 or reranker.loss=ce; repeatable.",
)


def choices(command: Command) -> Command:
    """The options that choose what a run is made of."""
    for option in reversed(
        (
            click.option("--size", "sizes", callback=listed, help="Sizes, comma-separated. [default: the first]"),
            click.option("--method", "methods", callback=listed, help=f"[default: {','.join(DEFAULT_METHODS)}]"),
            click.option(
                "--retriever",
                "retrievers",
                callback=listed,
                help=f"What `kard` and `ka-ft` read. [default: {','.join(DEFAULT_RETRIEVERS)}]",
            ),
            click.option("--limit", type=click.IntRange(min=1), help="At most this many training questions."),
            click.option("--test-limit", type=click.IntRange(min=1), help="At most this many evaluated questions."),
            click.option("--split", help="Split to answer. [default: test, else dev, else validation]"),
            click.option("--teacher", help="Whose rationales train, when the store has several teachers'."),
            click.option("--encoder", help="The reranker's base, by its name in the task. [default: the first]"),
            click.option(
                "--dense-encoder",
                help="What `dense` and `hybrid` search with: a base, or `reranker`. [default: the untrained one]",
            ),
            click.option("--kappa", type=click.IntRange(min=1), help="Candidates that are found, then reranked."),
            click.option("-k", type=click.IntRange(min=1), help="Passages that a student reads."),
            click.option("-n", "--samples", type=click.IntRange(min=1), help="Answers to vote on; 1 is greedy."),
            click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training questions."),
            click.option("--seed", type=click.IntRange(min=0), help="Seed of every training."),
            base_of_size,
            setting,
            options.store,
            options.knowledge,
            options.quiet,
        )
    ):
        command = option(command)
    return command


def work(
    task: str,
    *,
    store: Path,
    knowledge: Path | None,
    quiet: bool,
    sizes: tuple[str, ...] | None = None,
    methods: tuple[str, ...] | None = None,
    retrievers: tuple[str, ...] | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    split: str | None = None,
    teacher: str | Teacher | None = None,
    dense_encoder: str | None = None,
    kappa: int | None = None,
    k: int | None = None,
    samples: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    encoder: str | None = None,
    bases: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
    create: bool = False,
) -> Run:
    """Open the store and settle the choices; what was not chosen is the task's own."""
    from kard import tasks
    from kard.cli.overrides import based, overridden

    loaded = tasks.load(task)
    loaded = replace(loaded, students=based(loaded.students, bases))
    settings = overridden(loaded.settings, overrides)
    retrieval: dict[str, Any] = {"kappa": kappa, "k": k, "encoder": dense_encoder}
    chosen_retrieval = {name: value for name, value in retrieval.items() if value is not None}
    settings = replace(settings, retrieval=replace(settings.retrieval, **chosen_retrieval))
    if samples is not None:
        settings = replace(settings, decoding=replace(settings.decoding, samples=samples))
    if epochs is not None:
        settings = replace(settings, student=replace(settings.student, epochs=epochs))
    if seed is not None:
        settings = settings.seeded(seed)
    chosen = RunOptions(
        settings=settings,
        sizes=sizes or (next(iter(loaded.students)),),
        methods=methods or DEFAULT_METHODS,
        retrievers=retrievers or DEFAULT_RETRIEVERS,
        limit=limit,
        test_limit=test_limit,
        split=split,
        teacher=Teacher(teacher) if isinstance(teacher, str) else teacher,
        encoder=encoder,
    )
    return Run(
        db=open_store(store, create=create),
        task=loaded,
        choices=chosen,
        store=store,
        knowledge=options.knowledge_of(store, knowledge),
        adapters=options.adapters_of(store),
        progress=show.progress(quiet),
    )
