"""Are a teacher's rationales right, different and grounded? What one asks before paying for more of them.

Each measure is a mean over rationales, in [0, 1] but for the words; None where there is nothing to measure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, cast

from kard.db import batches, marks, rows
from kard.evaluation.text_measures import content, names, plain, runs, words
from kard.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlite_utils import Database

    Embed = Callable[[Sequence[str]], NDArray[np.float32]]  # texts to unit vectors, (n, width)

SILVER = 3  # passages: those that count as needed (`needed_passages` in store/views.sql)
REPEATED = 4  # words in a row: seq-rep-4 of Welleck et al., arXiv 1908.04319
COPIED = 5  # words in a row, more than half of which stand in the prompt's examples


@dataclass(frozen=True)
class Source:
    """A passage, ready to be compared with many rationales."""

    title: str
    text: str

    @cached_property
    def _words(self) -> list[str]:
        return words(f"{self.title}\n{self.text}")

    @cached_property
    def content(self) -> set[str]:
        """The stems of its words."""
        return content(self._words)

    @cached_property
    def plain(self) -> str:
        """Its words, with one space around each."""
        return plain(self._words)


@dataclass(frozen=True, slots=True)
class Written:
    """A rationale with what it is measured against. `silver` are the passages found with it, () for none."""

    question: int
    split: str
    teacher: str
    verdict: str  # accepted, rejected or unread
    text: str
    silver: tuple[Source, ...] = ()
    verified: bool | None = None  # every verifier reads the gold answer from it; None where none was asked
    good: int = 0  # judgements by people
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Quality:
    """A teacher's rationales of one split."""

    teacher: str
    split: str
    rationales: int
    questions: int
    accepted: float  # its own conclusion is the gold answer
    unread: float  # it concludes on nothing
    verified: float | None  # of those that verifiers read: they lead to the gold answer
    judged_good: float | None  # of the judgements that people gave
    words: float  # median
    repeats: float  # share of its runs of 4 words that it has written before
    distinct: (
        float | None
    )  # distinct-2 of a question's samples (Li et al., arXiv 1510.03055); where there are several
    apart: float | None  # cosine distance between a question's samples, its mean; where they were embedded
    same: float | None  # samples that say word for word what an earlier one says
    grounded: float | None  # share of its content words that its silver passages hold
    by_chance: float | None  # share of its content words that another question's silver passages hold
    names: float | None  # share of its names and numbers that its silver passages hold
    copies: float | None  # rationales made of the prompt's examples; None where those are not known


@dataclass(frozen=True, slots=True)
class _Measured:
    text: Sequence[str]  # its words
    repeats: float
    grounded: float | None
    names: float | None
    by_chance: float | None
    copied: bool


def quality(
    rationales: Sequence[Written],
    shots: Sequence[str] | None,
    progress: Progress = SILENT,
    *,
    embed: Embed | None = None,
) -> list[Quality]:
    """A line for each teacher and split. `rationales` stand by question; `shots` are the examples' rationales.

    `embed` gives the vectors for how far a question's samples are apart in meaning.
    """
    examples = None if shots is None else {run for shot in shots for run in runs(words(shot), COPIED)}
    groups: dict[tuple[str, str], list[Written]] = defaultdict(list)
    for one in rationales:
        groups[one.teacher, one.split].append(one)
    lines: list[Quality] = []
    with progress.bar("measuring rationales", len(rationales)) as advance:
        for (teacher, split), group in sorted(groups.items()):
            measured: list[_Measured] = []
            for one, other in zip(group, elsewhere(group), strict=True):
                measured.append(_measure(one, other, examples or set()))
                advance(1)
            line = _line(teacher, split, group, measured, examples is not None)
            lines.append(line if embed is None else replace(line, apart=_apart(group, embed)))
    return lines


def elsewhere(group: Sequence[Written]) -> list[tuple[Source, ...]]:
    """For each rationale the silver passages of the next question's first grounded one, the last's of the first."""
    of_question: dict[int, tuple[Source, ...]] = {}
    for one in group:
        if one.silver:
            of_question.setdefault(one.question, one.silver)
    questions = list(of_question)
    following = dict(zip(questions, [*questions[1:], *questions[:1]], strict=True))
    alone = len(questions) < 2
    return [() if alone or not one.silver else of_question[following[one.question]] for one in group]


def _measure(one: Written, other: Sequence[Source], examples: set[tuple[str, ...]]) -> _Measured:
    text = words(one.text)
    fours = runs(text, REPEATED)
    says = content(text)
    named = names(one.text) if one.silver else set[str]()
    fives = set(runs(text, COPIED))
    return _Measured(
        text=text,
        repeats=1 - len(set(fours)) / len(fours) if fours else 0.0,
        grounded=_held(says, one.silver),
        names=sum(_names_in(name, one.silver) for name in named) / len(named) if named else None,
        by_chance=_held(says, other),
        copied=bool(fives) and 2 * len(fives & examples) > len(fives),
    )


def _held(says: set[str], sources: Sequence[Source]) -> float | None:
    """The share of the stems that the passages hold together."""
    if not sources or not says:
        return None
    return len(says & set[str]().union(*(source.content for source in sources))) / len(says)


def _names_in(name: str, sources: Sequence[Source]) -> bool:
    return any(f" {name} " in source.plain for source in sources)


def _line(
    teacher: str, split: str, group: Sequence[Written], measured: Sequence[_Measured], examples: bool
) -> Quality:
    by_question = groupby(zip(group, measured, strict=True), key=lambda both: both[0].question)
    samples = [[m.text for _, m in some] for _, some in by_question]
    several = [texts for texts in samples if len(texts) > 1]
    good, bad = sum(w.good for w in group), sum(w.bad for w in group)
    return Quality(
        teacher=teacher,
        split=split,
        rationales=len(group),
        questions=len(samples),
        accepted=fmean(w.verdict == "accepted" for w in group),
        unread=fmean(w.verdict == "unread" for w in group),
        verified=_mean(None if w.verified is None else float(w.verified) for w in group),
        judged_good=good / (good + bad) if good + bad else None,
        words=median(len(m.text) for m in measured),
        repeats=fmean(m.repeats for m in measured),
        distinct=_mean(distinct(texts) for texts in several),
        apart=None,
        same=_mean(1 - len({tuple(text) for text in texts}) / len(texts) for texts in several),
        grounded=_mean(m.grounded for m in measured),
        names=_mean(m.names for m in measured),
        by_chance=_mean(m.by_chance for m in measured),
        copies=fmean(m.copied for m in measured) if examples else None,
    )


def _apart(group: Sequence[Written], embed: Embed) -> float | None:
    """1 less the cosine of two samples of a question: its mean over pairs, then over questions."""
    by_question = [[w.text for w in some] for _, some in groupby(group, key=lambda w: w.question)]
    several = [texts for texts in by_question if len(texts) > 1]
    if not several:
        return None
    vectors = embed([text for texts in several for text in texts])
    found: list[float] = []
    for texts in several:
        count = len(texts)
        own, vectors = vectors[:count], vectors[count:]
        # All pairs at once: the sum of unit vectors, squared, is their number and twice the cosines of the pairs.
        cosines = (float((own.sum(0) ** 2).sum()) - count) / (count * (count - 1))
        found.append(1 - cosines)
    return fmean(found)


def distinct(texts: Sequence[Sequence[str]]) -> float:
    """Different pairs of words over all pairs of the texts' words; 1 when no pair comes twice, 0 without any."""
    every = [pair for text in texts for pair in pairwise(text)]
    return len(set(every)) / len(every) if every else 0.0


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def read_written(db: Database, task: str, split: str | None = None) -> list[Written]:
    """Every rationale of a task with its silver passages, by question, teacher and sample."""
    silver: dict[int, list[str]] = defaultdict(list)
    for row in rows(db, "internal/silver_by_rationale", task=task, split=split, k=SILVER):
        silver[cast(int, row["rationale_id"])].append(cast(str, row["passage_id"]))
    sources = _sources(db, {key for keys in silver.values() for key in keys})
    return [
        Written(
            question=cast(int, row["question_id"]),
            split=cast(str, row["split"]),
            teacher=cast(str, row["teacher"]),
            verdict=cast(str, row["verdict"]),
            text=cast(str, row["text"]),
            silver=tuple(sources[key] for key in silver.get(cast(int, row["id"]), ())),
            verified=None if row["verified"] is None else bool(row["verified"]),
            good=cast(int, row["good"]),
            bad=cast(int, row["bad"]),
        )
        for row in rows(db, "internal/rationales_to_measure", task=task, split=split)
    ]


def _sources(db: Database, keys: set[str]) -> Mapping[str, Source]:
    found: dict[str, Source] = {}
    for some in batches(sorted(keys)):
        query = f"select id, title, text from passages where id in ({marks(some)})"
        found.update((key, Source(title, text)) for key, title, text in db.execute(query, list(some)))
    return found
