"""One new question through the task's own program, watched as it goes: passages, texts, the vote (section 3.4)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from kard.config import METHODS, Decoding, Retrieval
from kard.db import rows
from kard.errors import BadInput, Missing
from kard.evaluation.answer import samples_of
from kard.metrics.intervals import majority
from kard.records import LETTERS, Hit, Passage, Sample
from kard.tasks import Task

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.encoders.vector_store import Encodings
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.reranker.model import Reranker, Scores
    from kard.retrieval.fusion import Fusion
    from kard.student.generation.student import Student


@dataclass(frozen=True, slots=True)
class RankedHit:
    """A passage with its place in each order; `place` 1 to k are read, in that order."""

    hit: Hit  # rank and BM25
    place: int
    score: float | None  # the reranker's, None without one
    read: bool
    reranked: int | None = None  # its place by that score


@dataclass(frozen=True, slots=True)
class Written:
    """One text of the student, with what it answers: an option's text, or free text; '' when it answers nothing."""

    sample: Sample
    rationale: str
    answer: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The vote: `answer` is an option's text or free text, '' when no text answered; `letter` the option's."""

    found: tuple[RankedHit, ...]
    written: tuple[Written, ...]
    answer: str
    letter: str | None
    votes: tuple[tuple[str, int], ...]  # answers with their votes, most first
    milliseconds: float


@dataclass(frozen=True)
class LiveRetriever:
    """Where passages for a new question come from: BM25, reordered by the reranker if there is one, or by both.

    With `encodings` the reranker reads passages' vectors from the disk and keeps there what it had to make. They
    belong to the thread that opened them.
    """

    base: KnowledgeBase
    reranker: Reranker | None
    settings: Retrieval
    encodings: Encodings | None = None
    fusion: Fusion | None = None

    @property
    def name(self) -> str:
        """As retrievers are called."""
        return "bm25" if self.reranker is None else "reranker" if self.fusion is None else "fused"

    def find(self, question: str) -> list[RankedHit]:
        """The candidates in the order of reading, the first k of them read."""
        settings = self.settings
        hits = self.base.search(question, settings.kappa, max_df=settings.max_df)
        if self.reranker is None or not hits:
            return [RankedHit(hit, hit.rank, None, hit.rank <= settings.k) for hit in hits]
        scores = [float(score) for score in self._scores(self.reranker, question, [hit.passage for hit in hits])]
        reranked = sorted(range(len(hits)), key=lambda i: -scores[i])  # ties keep BM25's order
        ranks = {i: rank for rank, i in enumerate(reranked, 1)}
        order = reranked if self.fusion is None else _fused(self.fusion, [hit.bm25 for hit in hits], scores)
        return [
            RankedHit(hits[i], place, scores[i], place <= settings.k, ranks[i]) for place, i in enumerate(order, 1)
        ]

    def _scores(self, reranker: Reranker, question: str, passages: Sequence[Passage]) -> Scores:
        if self.encodings is None:
            return reranker.scores(question, passages)
        from kard.retrieval.rerank import prefetch, scores_of

        known = {passage.id: passage for passage in passages}
        prefetch(reranker, self.encodings, list(known), lambda ids: [known[i] for i in ids])
        return scores_of(reranker, [question], [passages])[0]


def ask(
    task: Task,
    student: Student,
    method: str,
    question: str,
    options: Sequence[str],
    *,
    source: LiveRetriever | None,
    decoding: Decoding,
    heard: Callable[[list[RankedHit]], None] = lambda _: None,
) -> Reply:
    """The student's reply. `heard` gets the passages as soon as they are found, before the student writes.

    Without options the student answers in free text, and texts are votes when they are alike but for case and
    punctuation. Raises BadInput for a question without words or a single option.
    """
    import dspy

    from kard.student.generation.engine import StudentEngine, load_lm
    from kard.student.prompt import StudentAdapter, line, signature_for

    check(question, options)
    found: list[RankedHit] = []

    def retrieve(text: str) -> list[Passage]:
        if source is not None:
            found.extend(source.find(text))
            heard(list(found))
        return [one.hit.passage for one in found if one.read]

    known = METHODS[method]
    program = task.program(signature_for(task.answer, known), retrieve if known.reads and source else None)
    lm = load_lm(student, decoding)
    begin = perf_counter()
    try:
        with dspy.context(lm=lm, adapter=StudentAdapter()):
            outcome: Any = program(question=line(question), options=[line(option) for option in options])
    finally:
        cast(StudentEngine, lm.engine).close()
    took = (perf_counter() - begin) * 1000
    samples = samples_of(outcome)
    parsed = [outcome.completions[i] for i in range(len(samples))]
    written = tuple(
        Written(sample, str(getattr(one, "rationale", "") or ""), _answer(sample, str(one.answer or ""), options))
        for sample, one in zip(samples, parsed, strict=True)
    )
    return _voted(tuple(found), written, options, took)


def fusion_for(db: Database, task: str, reranker_id: str) -> Fusion:
    """How BM25 and the reranker become one order for the task. Raises Missing where that was not chosen."""
    from kard.retrieval.fusion import Fusion

    found = rows(db, "newest_fusion", task=task, reranker=reranker_id)
    if not found:
        raise Missing(
            f"no order of BM25 and reranker {reranker_id} as one was chosen for {task}; "
            f"choose it with: kard evaluate {task} --retrievers fused"
        )
    return Fusion.of(json.loads(str(found[0]["settings"])))


def check(question: str, options: Sequence[str]) -> None:
    """Raises BadInput for what cannot be asked."""
    if not question.strip():
        raise BadInput('the question is empty; ask one: kard ask "..."')
    if any(not option.strip() for option in options):
        raise BadInput("an option is empty; leave it out or name it with --option TEXT")
    if len(options) == 1 or len(options) > len(LETTERS):
        raise BadInput(f"the number of options is {len(options)}, not 2 to {len(LETTERS)}; or ask without any")


def _fused(fusion: Fusion, bm25: Sequence[float], scores: Sequence[float]) -> list[int]:
    """The places of the passages in the order of both."""
    import numpy as np

    from kard.retrieval.fusion import order

    return [int(i) for i in order(fusion, np.array(bm25), np.array(scores))]


def _answer(sample: Sample, text: str, options: Sequence[str]) -> str:
    """The option that the text answers, else its own words."""
    if options:
        return "" if sample.answer is None else options[LETTERS.index(sample.answer)]
    return text.strip()


def _voted(
    found: tuple[RankedHit, ...], written: tuple[Written, ...], options: Sequence[str], took: float
) -> Reply:
    keys = [one.sample.answer if options else _alike(one.answer) or None for one in written]
    winner, _ = majority(keys)
    shown = {key: one.answer for key, one in reversed(list(zip(keys, written, strict=True)))}  # the first wording
    counts = Counter(key for key in keys if key is not None)
    votes = tuple((shown[key], count) for key, count in counts.most_common())
    return Reply(found, written, shown.get(winner, ""), winner if options else None, votes, took)


def _alike(text: str) -> str:
    """The text without case, punctuation and spacing: what makes two free answers one."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
