"""`kard demo`: a student of an invented world by an embedded model, without a key and without a model hub."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from textwrap import fill, shorten
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from kard.cli import choose, options

if TYPE_CHECKING:
    from kard.evaluation.trace import Trace, TracedAnswer
    from kard.pipeline.run import Run
    from kard.records import Question

RETRIEVERS = ("shuffled", "bm25", "reranker", "fused", "silver")
FIRST_LOOK: dict[str, Any] = {
    "methods": ("kard",),
    "retrievers": ("shuffled", "bm25"),
    "train_limit": 240,
    "limit": 60,
}
WIDTH, PASSAGE = 100, 320  # characters of a line, and of a passage


@click.command()
@click.option("--full", is_flag=True, help="Train every method and the reranker, and answer with every retriever.")
@click.option("--quick", is_flag=True, help="Run every step of --full with too little training to claim accuracy.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of world and training.",
)
@click.option("--train", type=click.IntRange(min=1), help="Training questions. [default: 300; 24 with --quick]")
@click.option("--test", type=click.IntRange(min=1), help="Test questions. [default: 100; 24 with --quick]")
@click.option(
    "--passages", type=click.IntRange(min=1), help="Pages of the encyclopedia. [default: 5200; 1000 with --quick]"
)
@options.new_store("kard-demo.db")
@options.quiet
def demo(
    full: bool,
    quick: bool,
    seed: int,
    train: int | None,
    test: int | None,
    passages: int | None,
    store: Path,
    quiet: bool,
) -> None:
    """Train a small student on an invented world and test it.

    It learns to look things up in an encyclopedia of the world. Everything is made here: documents, questions, a
    teacher that knows the facts, a student that learns from 240 questions, and its answers to 60 others, with the
    passages that BM25 finds and, as a control, with those of another question. --full trains on all questions,
    two more students that read nothing, and a reranker, and asks all test questions.
    """
    from kard import tasks
    from kard.cli.report import print_report
    from kard.pipeline import demo as pipeline
    from kard.pipeline.options import Teacher

    begin = monotonic()
    counts = {"passages": passages, "train": train, "test": test}
    default = pipeline.QUICK if quick else pipeline.Size()
    size = replace(default, seed=seed, **{name: n for name, n in counts.items() if n is not None})
    name = tasks.demo()
    world = pipeline.world_of(tasks.load(name), size)

    def oracle() -> object:
        import dspy

        return dspy.LM(f"{name}-{pipeline.TEACHER}", engine=world.teacher, cache=False, num_retries=0)

    chosen: dict[str, Any] = {"retrievers": RETRIEVERS} if full or quick else FIRST_LOOK
    run = choose.run_of(
        name,
        store=store,
        knowledge=None,
        quiet=quiet,
        seed=seed,
        teacher=Teacher(pipeline.TEACHER, oracle),
        create=True,
        **chosen,
    )
    if quick:
        pipeline.quickened(run)
    taught, asked = (
        min(n, chosen.get(limit, n)) for n, limit in ((size.train, "train_limit"), (size.test, "limit"))
    )
    click.echo(
        f"{size.passages} passages about things that exist nowhere, {taught} questions to learn from,"
        f" {asked} about other things to be tested on"
    )
    pipeline.run_demo(run, world)
    shown = _print_one_question(run)
    print_report(run.db, name, run.split)
    if quick:
        click.echo("A smoke run: its students saw too little to be judged. Without --quick they learn to read.")
    click.echo(f"{monotonic() - begin:.0f} s. Everything is in {store} and the two folders beside it. Try:")
    commands: list[str] = []
    if shown:
        offered = "".join(f" --option {shlex.quote(option)}" for option in shown.options)
        commands = [f"kard explain {shown.key}", f"kard ask {shlex.quote(shown.text)}{offered}"]
    if full or quick:
        commands.append("kard query accuracy")
    else:
        sizes = {"seed": seed or None, **counts}
        same = "".join(f" --{name} {n}" for name, n in sizes.items() if n is not None)
        commands.append(f"kard demo --full{same}")
    for command in commands:
        click.echo(f"  {command} --store {shlex.quote(str(store))}")


def _print_one_question(run: Run) -> Question | None:
    """Print and return the first question that reading answers and its control does not; None without one."""
    from kard.db import rows
    from kard.evaluation.answer import evaluation_id
    from kard.evaluation.trace import trace

    own = {c.retriever: evaluation_id(run.db, run.name, c) for c in run.conditions() if c.method == "kard"}
    answers = rows(run.db, "answers", task=run.name, split=run.split, question=None)
    right = {(a["retriever"], a["key"]) for a in answers if a["correct"] and a["evaluation_id"] in own.values()}
    key = next((k for r, k in sorted(right) if r == "bm25" and ("shuffled", k) not in right), None)
    if key is None:
        return None
    traced = trace(run.db, key, task=run.name)
    question = traced.question
    click.echo("\nOne question whole, the first that reading answers and its control does not:")
    _print("  ", question.text)
    _print(
        "  ",
        "; ".join(f"{letter} {option}" for letter, option in zip(question.letters, question.options, strict=True)),
    )
    for retriever, heading in (("bm25", "BM25 finds:"), ("shuffled", "Given what another question finds:")):
        answer = next(a for a in traced.answers if a.condition.evaluation_id == own[retriever])
        _print_answer(traced, answer, heading)
    click.echo()
    return question


def _print_answer(traced: Trace, answer: TracedAnswer, heading: str) -> None:
    click.echo(f"  {heading}")
    for id in answer.passages:
        passage = traced.passages[id]
        _print("    * ", shorten(passage.line, PASSAGE))
    sample = answer.samples[0]
    outcome = "right" if answer.correct else f"wrong: it is {traced.question.answer}"
    forced = "" if sample.forced is None else ", and the likeliest option, since the text named none"
    _print("  it writes: ", f"{' '.join(sample.text.split())}  <- {outcome}{forced}")


def _print(label: str, text: str) -> None:
    """Print a text, its later lines below the first."""
    click.echo(fill(text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label)))
