"""`kard ask`: one question, answered before your eyes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.cli.knowledge import snippet

if TYPE_CHECKING:
    from kard.evaluating import Chosen
    from kard.evaluation.asking import Found, Reply


@click.command()
@click.argument("question")
@click.option("--option", "answers", multiple=True, help="A possible answer; give it two to 26 times, or never.")
@click.option("--task", help="Whose students and program. [default: the only task with students]")
@click.option("--student", help="An id, or a name like 135m/kard. [default: kard, the newest]")
@click.option(
    "--retriever",
    type=click.Choice(["none", "bm25", "reranker"]),
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
    from kard import evaluating
    from kard.evaluation import asking
    from kard.student.model import Student

    asking.check(question, answers)
    work = choose.work(
        task or evaluating.only_task(store), store=store, knowledge=knowledge, quiet=True, k=k, samples=samples
    )
    chosen = evaluating.choose_one(work, student)
    over = evaluating.of_seed(work, chosen.seed)
    source, reranker = evaluating.source(over, chosen.method, retriever)

    def heard(found: list[Found]) -> None:
        if not as_json and passages:
            _print_passages(found[:passages], len(found))

    reply = asking.ask(
        work.task,
        Student.load(work.db, chosen.id, work.adapters),
        chosen.method,
        question,
        answers,
        source=source,
        decoding=work.choices.settings.decoding,
        heard=heard,
    )
    by = "none" if source is None else "bm25" if reranker is None else "reranker"
    if as_json:
        show.as_json(_record(question, answers, chosen, by, reranker, reply))
    else:
        _print_reply(reply, chosen, by)


def _print_passages(found: list[Found], of: int) -> None:
    if not found:
        click.echo("No passage holds any of these words.")
        return
    ranked = any(one.score is not None for one in found)
    header = ("read", *(("reranker", "score") if ranked else ()), "bm25 rank", "bm25", "passage")
    rows: list[tuple[object, ...]] = []
    for one in found:
        passage = one.hit.passage
        order = (one.place, f"{one.score:.3f}" if one.score is not None else "") if ranked else ()
        text = f"{passage.title}: {snippet(passage.text)}" if passage.title else snippet(passage.text)
        rows.append(("yes" if one.read else "", *order, one.hit.rank, f"{one.hit.bm25:.2f}", text))
    show.table(f"{len(found)} of {of} passages", header, rows)


def _print_reply(reply: Reply, chosen: Chosen, by: str) -> None:
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
    click.echo(
        show.clean(f"Answer: {letter}{reply.answer}" if reply.answer else "No answer within the token budget.")
    )
    tokens = [
        sum(getattr(one.sample, name) for one in reply.written) for name in ("prompt_tokens", "completion_tokens")
    ]
    click.echo(
        f"{chosen.size}/{chosen.method} {chosen.id}, passages by {by}; {tokens[0]} + {tokens[1]} tokens, "
        f"{reply.milliseconds / 1000:.1f} s",
        err=True,
    )


def _record(
    question: str, answers: tuple[str, ...], chosen: Chosen, by: str, reranker: str | None, reply: Reply
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
                "reranker_rank": None if one.score is None else one.place,
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
