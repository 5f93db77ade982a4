"""A trace on a terminal of 80 columns: question, rationales, the lists side by side, what was read and answered."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kard.cli.show import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from kard.evaluation.judgements import Judgement
    from kard.evaluation.trace import Answered, Place, Ranking, Trace

MARK = "*"  # before a passage that the answer needs
SHORT = 8  # characters of an id: `kard judge` takes the beginning of one
SNIPPET = 200  # characters of a passage's text, unless it is one of a few needed ones or all is asked for
FEW = 3  # needed passages that are printed whole without being asked for
WITH_SCORES = 4  # lists: with more of them there is room for ranks only
PIPE = 100  # columns where nobody looks: the output of a pipe has no width


def console() -> Console:
    """Standard output, as wide as the terminal or as COLUMNS says."""
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else PIPE, highlight=False)


def print_trace(trace: Trace, answers: Sequence[Answered], *, top: int, full: bool) -> None:
    """Print the trace with these of its answers, the first `top` passages of each list, texts whole when `full`."""
    out = console()
    for part in _parts(trace, answers, top, full):
        out.print(part)


def _parts(trace: Trace, answers: Sequence[Answered], top: int, full: bool) -> Iterator[RenderableType]:
    yield from _question(trace)
    yield from _rationales(trace)
    shown = _shown(trace, answers, top)
    yield from _lists(trace, answers, shown)
    yield from _texts(trace, answers, shown, full)
    yield from _answers(trace, answers)


def _question(trace: Trace) -> Iterator[RenderableType]:
    question = trace.question
    kind = f", {question.kind}" if question.kind else ""
    yield _text(f"question {question.key}", f"  {trace.task}, {question.split}{kind}, id:{trace.id}")
    yield _indented(question.text)
    for letter, option in zip(question.letters, question.options, strict=True):
        yield _indented(f"{letter}  {option}{'   <- gold' if letter == question.answer else ''}", 4)
    if question.answer is None:
        yield _indented("the gold answer is not known", 4)
    for fact in question.facts:
        yield _indented(f"fact: {fact}")
    for need in dict.fromkeys((need.basis, need.why) for need in trace.needs.values()):
        yield _indented(f"needs: {need[1]}")
    if question.evidence:
        yield _indented(f"evidence: {', '.join(question.evidence)}")


def _rationales(trace: Trace) -> Iterator[RenderableType]:
    yield _text("\nrationales", "" if trace.rationales else "  none")
    for r in trace.rationales:
        end = f"concludes {r.conclusion}" if r.conclusion else "concludes nothing"
        state = "accepted" if r.accepted else "not accepted"
        trained = ", may have been trained on" if r.trained else ""
        said = _said([j for j in trace.judgements if j.rationale_id == r.id])
        yield _indented(f"{r.id}  {r.teacher}, sample {r.sample}: {end}, {state}{trained}{said}")
        yield _indented(r.text, 4)


def _said(judgements: Sequence[Judgement]) -> str:
    return "".join(
        f"; judged {j.verdict}{f' by {j.author}' if j.author else ''}{f' ({j.note})' if j.note else ''}"
        for j in judgements
    )


def rankings_shown(trace: Trace, answers: Sequence[Answered]) -> list[Ranking]:
    """The lists of the newest index that take a column: the question's, one rationale's, and those that were read.

    All others where none of them was read.
    """
    index = trace.indexes[0] if trace.indexes else None
    accepted = {r.id for r in trace.rationales if r.accepted}
    rationales = trace.lists("rationale", index)
    first = [r for r in rationales if r.rationale_id in accepted][:1] or rationales[:1]
    others = [r for r in trace.rankings if r.index_id == index and r.kind not in ("question", "rationale")]
    used = {a.condition.retriever_id or a.condition.reranker_id for a in answers}
    read = [r for r in others if (r.retriever_id or r.reranker_id) in used]
    return [*trace.lists("question", index), *first, *(read or others)]


def _shown(trace: Trace, answers: Sequence[Answered], top: int) -> list[str]:
    """Ids of the passages to show: the best of each list, the needed ones, and those that were read."""
    lists = rankings_shown(trace, answers)
    ids = [place.passage_id for ranking in lists for place in ranking.places[:top]]
    ids += [p for a in answers for p in a.passages]
    ids += sorted(trace.needed & {place.passage_id for ranking in lists for place in ranking.places})
    if len(trace.needed) <= top:  # a long document has more passages than anybody wants to see
        ids += sorted(trace.needed)
    return sorted(dict.fromkeys(ids), key=lambda p: min((r.rank_of(p) or 10**6 for r in lists), default=0))


def _lists(trace: Trace, answers: Sequence[Answered], shown: Sequence[str]) -> Iterator[RenderableType]:
    from rich import box
    from rich.table import Table

    lists = rankings_shown(trace, answers)
    if not lists:
        yield _text("\npassages", "  none were searched for")
        return
    others = len(trace.indexes) - 1
    more = f"; {others} older index{'es' * (others > 1)} with --json" if others else ""
    yield _text("\npassages", f"  rank and score in each list; {MARK} needed; read by answers numbered below{more}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    table.add_column("passage", no_wrap=True)
    table.add_column("title", overflow="fold", max_width=24)
    for ranking in lists:
        table.add_column(_heading(ranking), justify="right", no_wrap=True)
    table.add_column("read by", overflow="fold")
    for passage in shown:
        title = trace.passages[passage].title if passage in trace.passages else ""
        places = [next((p for p in r.places if p.passage_id == passage), None) for r in lists]
        cells = [_place(place, r, len(lists) <= WITH_SCORES) for place, r in zip(places, lists, strict=True)]
        readers = [str(a.condition.evaluation_id) for a in answers if passage in a.passages]
        mark = MARK if passage in trace.needed else ""
        table.add_row(mark, passage[:SHORT], _plain(_line(title)), *cells, ",".join(readers))
    yield table


def _heading(ranking: Ranking) -> str:
    if ranking.kind == "question":
        return "question\nBM25"
    if ranking.kind == "rationale":
        return f"rationale\n{ranking.rationale_id} BM25"
    return f"{ranking.kind}\n{(ranking.retriever_id or ranking.reranker_id or '')[:SHORT]}"


def _place(place: Place | None, ranking: Ranking, score: bool) -> str:
    if place is None:
        return "-"
    if not score:
        return str(place.rank)
    if ranking.kind in ("question", "rationale"):
        return f"{place.rank}  {place.bm25:6.2f}"
    return f"{place.rank}  {place.score:6.3f}"


def _texts(trace: Trace, answers: Sequence[Answered], shown: Sequence[str], full: bool) -> Iterator[RenderableType]:
    """The texts of what was read or is needed; of a long document only what was read."""
    read = {p for a in answers for p in a.passages}
    few = len(trace.needed.intersection(shown)) <= FEW
    wanted = [p for p in shown if p in trace.passages and (p in read or (few and p in trace.needed))]
    if not wanted:
        return
    yield _text("read or needed" if few else "read", "" if full else "  whole texts with --full")
    for key in wanted:
        passage = trace.passages[key]
        mark = MARK if key in trace.needed else " "
        said = _said([j for j in trace.judgements if j.passage_id == key])
        text = _line(passage.text)
        whole = full or (few and key in trace.needed) or len(text) <= SNIPPET
        cut = text if whole else text[:SNIPPET].rsplit(" ", 1)[0] + " ..."
        yield _indented(f"{mark} {key[:SHORT]}  {_line(passage.title)}{said}", 0)
        yield _indented(cut, 4)


def _answers(trace: Trace, answers: Sequence[Answered]) -> Iterator[RenderableType]:
    yield _text("\nanswers", "" if answers else "  none")
    for answered in answers:
        c = answered.condition
        option = _option(trace, answered.answer)
        outcome = "right" if answered.correct else f"wrong: {answered.verdict}"
        votes = f", {answered.votes} of {len(answered.samples)} votes" if len(answered.samples) > 1 else ""
        yield _text(f"{c.evaluation_id}  {c.name}", f"  {option}{votes}")
        yield _indented(f"{outcome}{f' ({answered.why})' if answered.why else ''}")
        if answered.passages:
            marks = [f"{MARK if p in answered.need.passages else ''}{p[:SHORT]}" for p in answered.passages]
            yield _indented(f"read {' '.join(marks)}")
        for number, sample in enumerate(answered.samples):
            label = f"sample {number} ({_option(trace, sample.answer)})" if len(answered.samples) > 1 else "wrote"
            yield _indented(f"{label}{' (answer forced)' if sample.forced else ''}: {sample.text.strip()}", 4)


def _option(trace: Trace, letter: str | None) -> str:
    """The option of a letter, in words."""
    if letter is None:
        return "no answer that can be read"
    place = trace.question.letters.find(letter)
    return f"{letter} {trace.question.options[place]}" if place >= 0 else letter


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> RenderableType:
    from rich.text import Text

    return Text(clean(text))


def _text(bold: str, rest: str) -> RenderableType:
    from rich.text import Text

    return Text.assemble((clean(bold), "bold"), clean(rest))


def _indented(text: str, columns: int = 2) -> RenderableType:
    from rich.padding import Padding

    return Padding(_plain(text), (0, 0, 0, columns), expand=False)
