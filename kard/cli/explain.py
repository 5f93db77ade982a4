"""`kard explain`: one question with everything that the store knows of it, drawn on a terminal of 80 columns.

Question, rationales, the lists of passages side by side, the texts that were read or are needed, and the answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.db import open_store
from kard.outgoing import clean
from kard.records import FORCED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kard.evaluation.failures import EvidenceRule, NeededPassages
    from kard.evaluation.judgements import Judgement
    from kard.evaluation.trace import Trace, TracedAnswer, TracedPassage, TracedRanking

MARK = "*"  # before a needed passage
SHORT = 8  # characters of an id: `kard judge` takes the beginning of one
SNIPPET = 200  # characters of a passage's text, unless it is one of a few needed ones or all is asked for
BEGINNING = 40  # characters of a text that stand for a missing title
FEW = 3  # needed passages that are printed whole without being asked for
WITH_SCORES = 4  # lists: with more of them there is room for ranks only
PIPE = 100  # columns of the output of a pipe, which has no width

needed = click.option(
    "--needed",
    type=click.Choice(["all", "any"]),
    default="all",
    show_default=True,
    help="Evidence documents that an answer needs; `any` where they are alternatives to each other.",
)


@click.command()
@click.argument("question")
@click.option(
    "--condition",
    "words",
    callback=choose.listed,
    metavar="WORDS",
    help="Only these answers: a size, method or retriever, or several of them, comma-separated.",
)
@click.option("--task", help="Task of the question, where several have one of that id.")
@click.option(
    "-n", "--top", type=click.IntRange(min=0), default=5, show_default=True, help="Passages to show of each list."
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
    needed: EvidenceRule,
    as_json: bool,
    store: Path,
) -> None:
    """Show all about QUESTION, and why answers are wrong.

    QUESTION is the id in the questions' file, `id:` and the row of the store, or the question's text or its first
    words. Shown are the gold answer, the
    teacher's rationales, the passages with their ranks (by BM25 with the question, by BM25 with a rationale, by
    each reranker), and what each student read, wrote and answered. Needed passages are marked. Each wrong answer
    has a verdict:

    \b
    knowledge gap      no candidate holds what the question needs
    retriever failure  it is among the candidates and was not read
    student failure    it was read
    teacher error      it rests on a rationale, and that was not accepted
    undetermined       nothing says what the question needs
    no lookup          the student reads nothing
    """
    from kard.evaluation.trace import trace

    traced = trace(open_store(store, create=False), question, task=task, evidence=needed)
    answers = traced.answers_under(words or ())
    if as_json:
        show.as_json(_record(traced, answers))
    else:
        _print_trace(traced, answers, top=top, full=full)


def _record(trace: Trace, answers: Sequence[TracedAnswer]) -> dict[str, object]:
    """Return the trace as JSON holds it: lists for tuples and sets, passages by id."""
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


def _need(need: NeededPassages) -> dict[str, object]:
    return {"basis": need.basis, "why": need.why, "groups": [sorted(group) for group in need.groups]}


def _print_trace(trace: Trace, answers: Sequence[TracedAnswer], *, top: int, full: bool) -> None:
    """Print the trace with these answers, the first `top` passages of each list, and whole texts if `full`."""
    # As wide as the terminal, or as COLUMNS says.
    has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = show.console(width=None if has_width else PIPE)
    lists = _rankings_shown(trace, answers)
    passages = _passages_shown(trace, lists, answers, top)
    for part in (
        *_question(trace),
        *_rationales(trace),
        *_lists(trace, lists, answers, passages),
        *_texts(trace, answers, passages, full),
        *_answers(trace, answers),
    ):
        console.print(part)


def _question(trace: Trace) -> Iterator[RenderableType]:
    question = trace.question
    kind = f", {question.kind}" if question.kind else ""
    yield _heading(f"question {question.key}", f"  {trace.task}, {question.split}{kind}, id:{trace.id}")
    yield _indented(question.text)
    for letter, option in zip(question.letters, question.options, strict=True):
        yield _indented(f"{letter}  {option}{'   <- gold' if letter == question.answer else ''}", 4)
    if question.answer is None:
        yield _indented("the gold answer is not known", 4)
    elif not question.options:
        yield _indented(f"{question.answer}   <- gold", 4)
    for fact in question.facts:
        yield _indented(f"fact: {fact}")
    for _, why in dict.fromkeys((need.basis, need.why) for need in trace.needs.values()):
        yield _indented(f"needs: {why}")
    if question.evidence:
        yield _indented(f"evidence: {', '.join(question.evidence)}")


def _rationales(trace: Trace) -> Iterator[RenderableType]:
    yield _heading("\nrationales", "" if trace.rationales else "  none")
    for r in trace.rationales:
        end = f"concludes {r.conclusion}" if r.conclusion else "concludes nothing"
        state = "accepted" if r.accepted else "not accepted"
        trained = ", may have been trained on" if r.trained else ""
        judged = _judged([j for j in trace.judgements if j.rationale_id == r.id])
        yield _indented(f"{r.id}  {r.teacher}, sample {r.sample}: {end}, {state}{trained}{judged}")
        yield _indented(r.text, 4)


def _judged(judgements: Sequence[Judgement]) -> str:
    return "".join(
        f"; judged {j.verdict}{f' by {j.author}' if j.author else ''}{f' ({j.note})' if j.note else ''}"
        for j in judgements
    )


def _rankings_shown(trace: Trace, answers: Sequence[TracedAnswer]) -> list[TracedRanking]:
    """Return the lists of the newest index that take a column.

    They are the question's own, one rationale's, and those that were read, or all others where none was read.
    """
    index = trace.indexes[0] if trace.indexes else None
    accepted = {r.id for r in trace.rationales if r.accepted}
    by_rationale = trace.lists("rationale", index)
    first = [r for r in by_rationale if r.rationale_id in accepted][:1] or by_rationale[:1]
    others = [r for r in trace.rankings if r.index_id == index and r.kind not in ("question", "rationale")]
    used = {a.condition.retriever_id or a.condition.reranker_id for a in answers}
    read = [r for r in others if (r.retriever_id or r.reranker_id) in used]
    return [*trace.lists("question", index), *first, *(read or others)]


def _passages_shown(
    trace: Trace, lists: Sequence[TracedRanking], answers: Sequence[TracedAnswer], top: int
) -> list[str]:
    """Return the ids of the passages to show: the best of each list, the needed ones, and those that were read."""
    ids = [place.passage_id for ranking in lists for place in ranking.places[:top]]
    ids += [p for a in answers for p in a.passages]
    ids += sorted(trace.needed & {place.passage_id for ranking in lists for place in ranking.places})
    if len(trace.needed) <= top:  # a long document has more passages than anybody wants to see
        ids += sorted(trace.needed)
    return sorted(dict.fromkeys(ids), key=lambda p: min((r.rank_of(p) or 10**6 for r in lists), default=0))


def _lists(
    trace: Trace, lists: Sequence[TracedRanking], answers: Sequence[TracedAnswer], passages: Sequence[str]
) -> Iterator[RenderableType]:
    from rich import box
    from rich.table import Table

    if not lists:
        yield _heading("\npassages", "  none were searched for")
        return
    others = len(trace.indexes) - 1
    more = f"; {others} older index{'es' * (others > 1)} with --json" if others else ""
    yield _heading(
        "\npassages", f"  rank and score in each list; {MARK} needed; read by answers numbered below{more}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    table.add_column("passage", no_wrap=True)
    table.add_column("title", overflow="fold", max_width=24)
    for ranking in lists:
        table.add_column(show.plain(_column_name(ranking)), justify="right", no_wrap=True)
    table.add_column("read by", overflow="fold")
    for passage in passages:
        shown = trace.passages.get(passage)
        title = "" if shown is None else _line(shown.title) or _beginning(shown.text)
        places = [next((p for p in r.places if p.passage_id == passage), None) for r in lists]
        cells = [_place(place, r, len(lists) <= WITH_SCORES) for place, r in zip(places, lists, strict=True)]
        readers = [str(a.condition.evaluation_id) for a in answers if passage in a.passages]
        mark = MARK if passage in trace.needed else ""
        table.add_row(mark, show.plain(passage[:SHORT]), show.plain(title), *cells, ",".join(readers))
    yield table


def _column_name(ranking: TracedRanking) -> str:
    if ranking.kind == "question":
        return "question\nBM25"
    if ranking.kind == "rationale":
        return f"rationale\n{ranking.rationale_id} BM25"
    return f"{ranking.kind}\n{(ranking.retriever_id or ranking.reranker_id or '')[:SHORT]}"


def _place(place: TracedPassage | None, ranking: TracedRanking, with_score: bool) -> str:
    if place is None:
        return "-"
    if not with_score:
        return str(place.rank)
    if ranking.kind in ("question", "rationale"):
        return f"{place.rank}  {place.bm25:6.2f}"
    return f"{place.rank}  {place.score:6.3f}"


def _texts(
    trace: Trace, answers: Sequence[TracedAnswer], passages: Sequence[str], full: bool
) -> Iterator[RenderableType]:
    """Yield the texts of what was read or is needed; of a long document only what was read."""
    read = {p for a in answers for p in a.passages}
    few = len(trace.needed.intersection(passages)) <= FEW
    shown = [p for p in passages if p in trace.passages and (p in read or (few and p in trace.needed))]
    if not shown:
        return
    yield _heading("read or needed" if few else "read", "" if full else "  whole texts with --full")
    for key in shown:
        passage = trace.passages[key]
        mark = MARK if key in trace.needed else " "
        judged = _judged([j for j in trace.judgements if j.passage_id == key])
        text = _line(passage.text)
        whole = full or (few and key in trace.needed) or len(text) <= SNIPPET
        yield _indented(f"{mark} {key[:SHORT]}  {_line(passage.title) or _beginning(passage.text)}{judged}", 0)
        yield _indented(text if whole else text[:SNIPPET].rsplit(" ", 1)[0] + " ...", 4)


def _answers(trace: Trace, answers: Sequence[TracedAnswer]) -> Iterator[RenderableType]:
    yield _heading("\nanswers", "" if answers else "  none")
    for answer in answers:
        several = len(answer.samples) > 1
        votes = f", {answer.votes} of {len(answer.samples)} votes" if several else ""
        name = f"{answer.condition.evaluation_id}  {answer.condition.name}"
        yield _heading(name, f"  {_option(trace, answer.answer)}{votes}")
        outcome = "right" if answer.correct else f"wrong: {answer.verdict}"
        yield _indented(f"{outcome}{f' ({answer.why})' if answer.why else ''}")
        if answer.passages:
            marked = [f"{MARK if p in answer.need.passages else ''}{p[:SHORT]}" for p in answer.passages]
            yield _indented(f"read {' '.join(marked)}")
        for number, sample in enumerate(answer.samples):
            label = f"sample {number} ({_option(trace, sample.answer)})" if several else "wrote"
            forced = f" ({FORCED[sample.forced]})" if sample.forced else ""
            yield _indented(f"{label}{forced}: {sample.text.strip()}", 4)


def _option(trace: Trace, letter: str | None) -> str:
    """Return a letter with its option in words."""
    if letter is None:
        return "no answer that can be read"
    place = trace.question.letters.find(letter)
    return f"{letter} {trace.question.options[place]}" if place >= 0 else letter


def _line(text: str) -> str:
    return " ".join(text.split())


def _beginning(text: str) -> str:
    """Return the first words of a text, which stand for the title that its passage lacks."""
    line = _line(text)
    return line if len(line) <= BEGINNING else line[:BEGINNING].rsplit(" ", 1)[0] + " ..."


def _heading(bold: str, rest: str) -> RenderableType:
    from rich.text import Text

    return Text.assemble((clean(bold), "bold"), clean(rest))


def _indented(text: str, columns: int = 2) -> RenderableType:
    from rich.padding import Padding

    return Padding(show.plain(text), (0, 0, 0, columns), expand=False)
