"""`kard explain`: one question with everything that happened to it, and why each wrong answer is wrong."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.db import open_store
from kard.errors import BadInput

if TYPE_CHECKING:
    from kard.evaluation.failures import FailureCounts
    from kard.evaluation.trace import Answered, Trace
    from kard.evaluation.verdicts import Need, Needed

needed = click.option(
    "--needed",
    type=click.Choice(["all", "any"]),
    default="all",
    show_default=True,
    help="Of a question's evidence documents: `any` where the data name alternatives beside steps.",
)


@click.command()
@click.argument("question")
@click.option(
    "--condition",
    "words",
    callback=choose.listed,
    metavar="WORDS",
    help="Only these answers: a size, method or retriever, or several, comma-separated.",
)
@click.option("--task", help="The task, where several have a question of that id.")
@click.option(
    "-n", "--top", type=click.IntRange(min=0), default=5, show_default=True, help="Passages of each list."
)
@click.option("--full", is_flag=True, help="Print passages whole.")
@needed
@options.as_json
@options.store
def explain(
    question: str,
    words: tuple[str, ...] | None,
    task: str | None,
    top: int,
    full: bool,
    needed: Needed,
    as_json: bool,
    store: Path,
) -> None:
    """Show what happened to QUESTION, and why each wrong answer to it is wrong.

    QUESTION is the id in the questions' file, or `id:` and the row of the store. Shown are the gold answer, the
    teacher's rationales, the passages (needed ones marked) with their ranks by BM25 with the question, by BM25 with
    a rationale and by each reranker, and what each student read, wrote and answered. Wrong answers have a verdict:

    \b
    knowledge gap      no candidate holds what the question needs
    retriever failure  it is among the candidates and was not read
    student failure    it was read
    teacher error      it rests on a rationale, and that was not accepted
    undetermined       nothing says what the question needs
    no lookup          the student reads nothing
    """
    from kard.cli.tracing import print_trace
    from kard.evaluation.trace import trace

    found = trace(open_store(store, create=False), question, task=task, needed=needed)
    answers = chosen(found, words or ())
    if as_json:
        show.as_json(values(found, answers))
    else:
        print_trace(found, answers, top=top, full=full)


def chosen(trace: Trace, words: tuple[str, ...]) -> list[Answered]:
    """The answers under the conditions that the words name: `kard,bm25,reranker` is kard with either.

    Raises BadInput for a word that names none.
    """
    kinds = [set(names) for names in zip(*(_names(a.condition) for a in trace.answers), strict=True)]
    for word in words:
        if not any(word in names for names in kinds):
            there = ", ".join(dict.fromkeys(name for names in kinds for name in sorted(names)))
            raise BadInput(f"no condition {word!r}; this question was answered under {there or 'none'}")
    picked = [names & set(words) or names for names in kinds]
    return [
        a
        for a in trace.answers
        if all(name in names for name, names in zip(_names(a.condition), picked, strict=True))
    ]


def _names(condition: FailureCounts) -> tuple[str, str, str]:
    return condition.size, condition.method, condition.retriever


def values(trace: Trace, answers: list[Answered]) -> dict[str, object]:
    """The trace as JSON holds it: lists for tuples and sets, passages by id."""
    question = trace.question
    return {
        "id": trace.id,
        "task": trace.task,
        "question": {**asdict(question), "gold": question.gold},
        "needs": {index: _need(need) for index, need in trace.needs.items()},
        "rationales": [asdict(r) for r in trace.rationales],
        "lists": [asdict(r) for r in trace.rankings],
        "answers": [
            {**asdict(a.condition), **{k: v for k, v in asdict(a).items() if k not in ("condition", "need")}}
            for a in answers
        ],
        "judgements": [asdict(j) for j in trace.judgements],
        "passages": {key: asdict(passage) for key, passage in trace.passages.items()},
    }


def _need(need: Need) -> dict[str, object]:
    return {"basis": need.basis, "why": need.why, "groups": [sorted(group) for group in need.groups]}
