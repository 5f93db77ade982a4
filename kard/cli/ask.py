"""`kard ask`: one new question, answered by a trained student."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.cli.knowledge import snippet
from kard.methods import RERANKED
from kard.records import FORCED

if TYPE_CHECKING:
    from kard.evaluation.ask import StudentReply
    from kard.pipeline.evaluate import StudentRef
    from kard.retrieval.live import RankedHit

WIDTH = 100  # columns of a passage's text
INDENT = "    "  # before each of its lines
SHORT = 60  # characters of a title


@click.command()
@click.argument("question")
@click.option("--option", "answers", multiple=True, help="A possible answer; give two to 26 of them, or none.")
@click.option("--task", help="Task of the student. [default: the only task with students]")
@click.option(
    "--student",
    help="An id, a name like 135m/kard, or a base as it is: zero-shot. [default: the newest of method kard]",
)
@click.option(
    "--retriever",
    type=click.Choice(["none", "bm25", "reranker", "fused"]),
    help="What finds the passages. [default: fused if it was chosen, else reranker, else bm25]",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    help="Passages that the student reads. [default: as many as when it was taught]",
)
@click.option(
    "-n",
    "--samples",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Answers to vote on.",
)
@click.option(
    "--passages",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Passages to show; the ones that are read come first.",
)
@options.endpoint
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
    endpoint: str | None,
    as_json: bool,
    store: Path,
    knowledge: Path | None,
) -> None:
    """Ask a student, or a base without training, a new question.

    Shown are the passages with their ranks, the student's reasons, the votes and the answer. Without --option the
    student answers in its own words.
    """
    from kard.evaluation.ask import ask as ask_student
    from kard.evaluation.ask import check_question
    from kard.methods import METHODS
    from kard.pipeline.evaluate import choose_one, live_retriever, of_seed, reading, task_to_ask
    from kard.pipeline.students import train_student

    check_question(question, answers)
    task = task_to_ask(store, task, student)
    run = choose.run_of(task, store=store, knowledge=knowledge, quiet=True, samples=samples, endpoint=endpoint)
    chosen = choose_one(run, student)
    run = reading(of_seed(run, chosen.seed), chosen.id, k)
    live = live_retriever(run, chosen.method, retriever)
    if not chosen.id:  # a base without training gets its row
        chosen = replace(chosen, id=train_student(run, chosen.size, chosen.method))
    from kard.student.generation.student import PromptedStudent, load_student  # seconds

    decoding = run.options.settings.decoding
    loaded = load_student(run.db, chosen.id, run.adapters, decoding.endpoint, run.progress.note)
    if live is not None and live.note:
        click.echo(live.note, err=True)
    if live is not None and not live.knows(question, answers):
        click.echo("the knowledge base has nothing on this: no passage holds more than very common words", err=True)
    if not answers and METHODS[chosen.method].trained and "options" in run.task.answer.input_fields:
        click.echo("the student was taught to choose; name options with --option", err=True)
    shots = ()
    if METHODS[chosen.method].shots and isinstance(loaded, PromptedStudent):
        shots = loaded.shots(run.db, run.task, METHODS[chosen.method], None if live is None else live.kb.id)

    def print_passages(hits: list[RankedHit]) -> None:
        if not as_json and passages:
            show_passages(hits, passages)

    reply = ask_student(
        run.task,
        loaded,
        chosen.method,
        question,
        answers,
        retriever=live,
        decoding=decoding,
        on_hits=print_passages,
        shots=shots,
    )
    retriever = "none" if live is None else live.name
    if any(text.sample.cut for text in reply.texts):
        click.echo("passages were cut to fit what the student reads; shorten the question, or lower -k", err=True)
    if as_json:
        reranker = run.resolved.reranker if retriever in RERANKED else None
        show.as_json(_record(question, answers, chosen, retriever, reranker, reply))
    else:
        _print_reply(reply, chosen, retriever, "options" in run.task.answer.input_fields)


def show_passages(hits: list[RankedHit], number: int) -> None:
    """Print the first `number` hits with their ranks: those that are read in full, the others in a line each."""
    if not hits:
        click.echo("No passage holds any of these words.\n")
        return
    for ranked in hits[:number]:
        passage = ranked.hit.passage
        ranks = f"BM25 {ranked.hit.rank} ({ranked.hit.bm25:.2f})"
        if ranked.score is not None:
            ranks = f"reranker {ranked.reranked} ({ranked.score:.3f}), {ranks}"
        if ranked.read:
            click.echo(f"[{ranked.place}] {passage.title or passage.document}: {ranks}")
            lines = [line for line in passage.text.splitlines() if line.strip()]  # rows of a table stay rows
            click.echo("\n".join(click.wrap_text(line, WIDTH, INDENT, INDENT) for line in lines) + "\n")
        else:
            click.echo(f"not read: {snippet(passage.title or passage.text, SHORT)}: {ranks}")
    click.echo(f"{number} of {len(hits)} passages; see more with --passages\n" if len(hits) > number else "")


def _print_reply(reply: StudentReply, student: StudentRef, retriever: str, chooses: bool) -> None:
    several = len(reply.texts) > 1
    why = reply.texts[0].sample.forced if not several else None
    for number, text in enumerate(reply.texts, 1):
        start = f"{number}. " if several else ""
        forced = f", {FORCED[text.sample.forced]}" if text.sample.forced else ""
        end = f"  [{text.answer or 'no answer'}{forced}]" if several else ""
        if text.rationale or several:
            click.echo(f"{start}{text.rationale}{end}")
    if several:
        votes = ", ".join(f"{answer} {count}" for answer, count in reply.votes)
        click.echo(f"Votes: {votes or 'none'}")
    if reply.answer:
        letter, forced = f"({reply.letter}) " if reply.letter else "", f" ({FORCED[why]})" if why else ""
        click.echo(f"Answer: {letter}{reply.answer}{forced}")
    else:
        remedy = " With --option TEXT, once for each, it always chooses one." if chooses else ""
        click.echo(f"The student wrote no answer.{remedy}")
    prompt = sum(text.sample.prompt_tokens for text in reply.texts)
    completion = sum(text.sample.completion_tokens for text in reply.texts)
    click.echo(
        f"{student.size}/{student.method} {student.id}, passages by {retriever}; {prompt} + {completion} tokens, "
        f"{reply.milliseconds / 1000:.1f} s",
        err=True,
    )


def _record(
    question: str,
    answers: tuple[str, ...],
    student: StudentRef,
    retriever: str,
    reranker: str | None,
    reply: StudentReply,
) -> dict[str, object]:
    return {
        "question": question,
        "options": list(answers),
        "answer": reply.answer or None,
        "letter": reply.letter,
        "votes": dict(reply.votes),
        "student": asdict(student),
        "retriever": retriever,
        "reranker": reranker,
        "passages": [
            {
                "read": ranked.read,
                "reranker_rank": ranked.reranked,
                "reranker_score": ranked.score,
                "bm25_rank": ranked.hit.rank,
                "bm25": ranked.hit.bm25,
                **asdict(ranked.hit.passage),
            }
            for ranked in reply.hits
        ],
        "samples": [
            {"rationale": text.rationale, "answered": text.answer or None, **asdict(text.sample)}
            for text in reply.texts
        ],
        "milliseconds": reply.milliseconds,
    }
