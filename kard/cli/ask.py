"""`kard ask`: one question, answered before your eyes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.cli.knowledge import snippet
from kard.config import RERANKED

if TYPE_CHECKING:
    from kard.evaluation.ask import Reply
    from kard.pipeline.evaluate import StudentRef
    from kard.retrieval.live import RankedHit

WIDTH, INDENT, SHORT = 100, "    ", 60  # columns of a passage's text, what it begins with, characters of a title


@click.command()
@click.argument("question")
@click.option("--option", "answers", multiple=True, help="A possible answer; give it two to 26 times, or never.")
@click.option("--task", help="Whose students and program. [default: the only task with students]")
@click.option("--student", help="An id, or a name like 135m/kard. [default: kard, the newest]")
@click.option(
    "--retriever",
    type=click.Choice(["none", "bm25", "reranker", "fused"]),
    help="Where passages come from. [default: the reranker where there is one, else bm25]",
)
@click.option("-k", type=click.IntRange(min=1), help="Passages that the student reads. [default: the task's]")
@click.option(
    "-n", "--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers to vote on."
)
@click.option(
    "--passages",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Passages to show, read ones first.",
)
@options.as_json
@options.store
@options.knowledge
def ask(
    question: str,
    answers: tuple[str, ...],
    task: str | None,
    student: str | None,
    retriever: str | None,
    k: int | None,
    samples: int,
    passages: int,
    as_json: bool,
    store: Path,
    knowledge: Path | None,
) -> None:
    """Ask a trained student QUESTION; see the passages with their ranks, its reasons, the votes and the answer.

    Without --option the student answers in its own words.
    """
    from kard.evaluation import ask as asking
    from kard.pipeline import evaluate as evaluating
    from kard.student.generation.student import load_student

    asking.check(question, answers)
    run = choose.run_of(
        task or evaluating.only_task(store), store=store, knowledge=knowledge, quiet=True, k=k, samples=samples
    )
    chosen = evaluating.choose_one(run, student)
    over = evaluating.of_seed(run, chosen.seed)
    source = evaluating.live_retriever(over, chosen.method, retriever)

    def heard(found: list[RankedHit]) -> None:
        if not as_json and passages:
            _print_passages(found[:passages], len(found))

    reply = asking.ask(
        run.task,
        load_student(run.db, chosen.id, run.adapters),
        chosen.method,
        question,
        answers,
        source=source,
        decoding=run.options.settings.decoding,
        heard=heard,
    )
    by = "none" if source is None else source.name
    reranker = over.resolved.reranker if by in RERANKED else None
    if as_json:
        show.as_json(_record(question, answers, chosen, by, reranker, reply))
    else:
        _print_reply(reply, chosen, by)


def _print_passages(found: list[RankedHit], of: int) -> None:
    """What is read as a whole, the rest in a line each, all with their places in both orders."""
    if not found:
        click.echo("No passage holds any of these words.\n")
        return
    for one in found:
        passage = one.hit.passage
        places = f"BM25 {one.hit.rank} ({one.hit.bm25:.2f})"
        if one.score is not None:
            places = f"reranker {one.reranked} ({one.score:.3f}), {places}"
        if one.read:
            click.echo(show.clean(f"[{one.place}] {passage.title or passage.document}: {places}"))
            text = click.wrap_text(show.clean(passage.text), WIDTH, INDENT, INDENT)
            click.echo(f"{text}\n")
        else:
            click.echo(show.clean(f"not read: {snippet(passage.title or passage.text, SHORT)}: {places}"))
    click.echo(f"{len(found)} of {of} passages; see more with --passages\n" if of > len(found) else "")


def _print_reply(reply: Reply, chosen: StudentRef, by: str) -> None:
    several = len(reply.written) > 1
    for number, one in enumerate(reply.written, 1):
        start = f"{number}. " if several else ""
        end = f"  [{one.answer or 'no answer'}{', forced' if one.sample.forced else ''}]" if several else ""
        if one.rationale or several:
            click.echo(show.clean(f"{start}{one.rationale}{end}"))
    if several:
        counted = ", ".join(f"{answer} {count}" for answer, count in reply.votes)
        click.echo(show.clean(f"Votes: {counted or 'none'}"))
    letter = f"({reply.letter}) " if reply.letter else ""
    none = "The student wrote no answer. With --option TEXT, once for each, it always chooses one."
    click.echo(show.clean(f"Answer: {letter}{reply.answer}" if reply.answer else none))
    tokens = [
        sum(getattr(one.sample, name) for one in reply.written) for name in ("prompt_tokens", "completion_tokens")
    ]
    click.echo(
        f"{chosen.size}/{chosen.method} {chosen.id}, passages by {by}; {tokens[0]} + {tokens[1]} tokens, "
        f"{reply.milliseconds / 1000:.1f} s",
        err=True,
    )


def _record(
    question: str, answers: tuple[str, ...], chosen: StudentRef, by: str, reranker: str | None, reply: Reply
) -> dict[str, object]:
    return {
        "question": question,
        "options": list(answers),
        "answer": reply.answer or None,
        "letter": reply.letter,
        "votes": dict(reply.votes),
        "student": asdict(chosen),
        "retriever": by,
        "reranker": reranker,
        "passages": [
            {
                "read": one.read,
                "reranker_rank": one.reranked,
                "reranker_score": one.score,
                "bm25_rank": one.hit.rank,
                "bm25": one.hit.bm25,
                "id": one.hit.passage.id,
                "document": one.hit.passage.document,
                "part": one.hit.passage.part,
                "title": one.hit.passage.title,
                "text": one.hit.passage.text,
            }
            for one in reply.found
        ],
        "samples": [
            {"rationale": one.rationale, "answered": one.answer or None, **asdict(one.sample)}
            for one in reply.written
        ],
        "milliseconds": reply.milliseconds,
    }
