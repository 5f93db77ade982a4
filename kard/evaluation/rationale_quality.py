"""Are a teacher's rationales right, different and grounded? To be answered before paying for more of them.

Each measure is a mean over rationales, in [0, 1] except for the number of words. It is None if nothing can be
measured. The second half of the module takes texts apart: words, stems, names and n-grams.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import groupby, pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING

from kard.db import rows
from kard.passages import read_passages
from kard.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlite_utils import Database
    from tantivy import TextAnalyzer

    Embed = Callable[[Sequence[str]], NDArray[np.float32]]  # texts to unit vectors, (n, width)

REPEATED = 4  # words of an n-gram: seq-rep-4 of Welleck et al., arXiv 1908.04319
COPIED = 5  # words of an n-gram; a copy shares more than half of them with the prompt's examples

# Words of every English text, and words that lead up to an answer. A passage supports nothing by holding them, and
# a rationale is not unsupported because a passage lacks them.
_COMMON = """
    a about above according accordingly additionally after again against all also although am among an and
    answer answers any are aren as asking asks at based be because been before being below between both but by
    can cannot choice choices choose conclude conclusion consequently consider considering correct could couldn
    determine did didn do does doesn doing don down during each either etc even ever every fact facts false few
    finally first firstly for from further furthermore given had hadn has hasn have haven having he hence her
    here hers herself him himself his how however i if in incorrect information into is isn it its itself just
    know last lastly least less let likely made make many may me mean means might more moreover most much must
    mustn my myself need needn neither next no nor not now of off on once one only option options or other
    others our ours ourselves out over overall own per possible question questions rather reason reasons right s
    same second secondly see shall she should shouldn since so some specifically statement step still such t
    than that the their theirs them themselves then there therefore these they third thirdly this those though
    through thus to too true two under understand unlikely until up upon us use used using very was wasn we well
    were weren what when where whether which while who whom whose why will with within without would wouldn
    wrong yes yet you your yours yourself
    """
COMMON = frozenset(_COMMON.split())


@dataclass(frozen=True)
class SilverPassage:
    """A passage found with a rationale, ready to be compared with many rationales."""

    title: str
    text: str

    @cached_property
    def _words(self) -> list[str]:
        return words_of(f"{self.title}\n{self.text}")

    @cached_property
    def stems(self) -> set[str]:
        """Return the stems of its content words."""
        return content_stems(self._words)

    @cached_property
    def spaced(self) -> str:
        """Return its words with one space around each."""
        return spaced(self._words)


@dataclass(frozen=True, slots=True)
class RationaleToMeasure:
    """A rationale with everything that it is measured against."""

    question: int
    split: str
    teacher: str
    verdict: str  # accepted, rejected or unread
    text: str
    silver: tuple[SilverPassage, ...] = ()  # the first passages found with it
    verified: bool | None = None  # all verifiers read the gold answer from it; None if none was asked
    good: int = 0  # judgements by people
    bad: int = 0


@dataclass(frozen=True, slots=True)
class RationaleQuality:
    """The measures of a teacher's rationales of one split."""

    teacher: str
    split: str
    rationales: int
    questions: int
    accepted: float  # its own conclusion is the gold answer
    unread: float  # it concludes on nothing
    verified: float | None  # verifiers read the gold answer from it; of those that verifiers have read
    judged_good: float | None  # of people's judgements
    words: float  # median
    repeats: float  # share of its 4-grams that it contains earlier
    distinct: float | None  # distinct-2 of a question's samples (Li et al., arXiv 1510.03055), if there are several
    apart: float | None  # mean cosine distance between a question's samples, if they were embedded
    same: float | None  # samples that repeat an earlier one word for word
    grounded: float | None  # share of its content words that are in its silver passages
    by_chance: float | None  # share of its content words that are in another question's silver passages
    names: float | None  # share of its names and numbers that are in its silver passages
    copies: float | None  # rationales made of the prompt's examples; None if those are not known


@dataclass(frozen=True, slots=True)
class _Measures:
    """The measures of one rationale."""

    words: Sequence[str]
    repeats: float
    grounded: float | None
    names: float | None
    by_chance: float | None
    copied: bool


def read_rationales(db: Database, task: str, split: str | None = None) -> list[RationaleToMeasure]:
    """Return every rationale of a task with its silver passages, by question, teacher and sample."""
    ids: dict[int, list[str]] = defaultdict(list)
    for row in rows(db, "internal/silver_by_rationale", task=task, split=split):
        ids[row["rationale_id"]].append(row["passage_id"])
    stored = read_passages(db, sorted({id for of_rationale in ids.values() for id in of_rationale}))
    passages = {id: SilverPassage(passage.title, passage.text) for id, passage in stored.items()}
    return [
        RationaleToMeasure(
            question=row["question_id"],
            split=row["split"],
            teacher=row["teacher"],
            verdict=row["verdict"],
            text=row["text"],
            silver=tuple(passages[id] for id in ids.get(row["id"], ())),
            verified=None if row["verified"] is None else bool(row["verified"]),
            good=row["good"],
            bad=row["bad"],
        )
        for row in rows(db, "internal/rationales_to_measure", task=task, split=split)
    ]


def measure_rationales(
    rationales: Sequence[RationaleToMeasure],
    shots: Sequence[str] | None,
    progress: Progress = SILENT,
    *,
    embed: Embed | None = None,
) -> list[RationaleQuality]:
    """Return the quality of each teacher's rationales by split.

    `rationales` are sorted by question. `shots` are the rationales of the prompt's examples, None if not known.
    `embed` gives the vectors for `apart`.
    """
    shot_ngrams = None if shots is None else {ngram for shot in shots for ngram in ngrams(words_of(shot), COPIED)}
    groups: dict[tuple[str, str], list[RationaleToMeasure]] = defaultdict(list)
    for rationale in rationales:
        groups[rationale.teacher, rationale.split].append(rationale)
    qualities: list[RationaleQuality] = []
    with progress.bar("measuring rationales", len(rationales)) as advance:
        for (teacher, split), group in sorted(groups.items()):
            measures: list[_Measures] = []
            for rationale, other in zip(group, passages_of_another(group), strict=True):
                measures.append(_measure(rationale, other, shot_ngrams or set()))
                advance(1)
            quality = _mean_measures(teacher, split, group, measures, shot_ngrams is not None)
            qualities.append(quality if embed is None else replace(quality, apart=_mean_distance(group, embed)))
    return qualities


def passages_of_another(group: Sequence[RationaleToMeasure]) -> list[tuple[SilverPassage, ...]]:
    """Return for each rationale the silver passages of another question's: what it shares with them is chance.

    They are those of the next question's first grounded rationale; the last question takes those of the first.
    """
    of_question: dict[int, tuple[SilverPassage, ...]] = {}
    for rationale in group:
        if rationale.silver:
            of_question.setdefault(rationale.question, rationale.silver)
    questions = list(of_question)
    if len(questions) < 2:
        return [() for _ in group]
    following = dict(zip(questions, [*questions[1:], *questions[:1]], strict=True))
    return [of_question[following[rationale.question]] if rationale.silver else () for rationale in group]


def _measure(
    rationale: RationaleToMeasure, other: Sequence[SilverPassage], shot_ngrams: set[tuple[str, ...]]
) -> _Measures:
    words = words_of(rationale.text)
    fours = ngrams(words, REPEATED)
    fives = set(ngrams(words, COPIED))
    stems = content_stems(words)
    names = names_in(rationale.text) if rationale.silver else set[str]()
    grounded_names = sum(any(f" {name} " in passage.spaced for passage in rationale.silver) for name in names)
    return _Measures(
        words=words,
        repeats=1 - len(set(fours)) / len(fours) if fours else 0.0,
        grounded=_share_held(stems, rationale.silver),
        names=grounded_names / len(names) if names else None,
        by_chance=_share_held(stems, other),
        copied=bool(fives) and 2 * len(fives & shot_ngrams) > len(fives),
    )


def _share_held(stems: set[str], passages: Sequence[SilverPassage]) -> float | None:
    """Return the share of the stems that are in any of the passages."""
    if not passages or not stems:
        return None
    return len(stems & set[str]().union(*(passage.stems for passage in passages))) / len(stems)


def _mean_measures(
    teacher: str,
    split: str,
    group: Sequence[RationaleToMeasure],
    measures: Sequence[_Measures],
    shots_known: bool,
) -> RationaleQuality:
    by_question = groupby(zip(group, measures, strict=True), key=lambda pair: pair[0].question)
    samples = [[measured.words for _, measured in pairs] for _, pairs in by_question]
    several = [texts for texts in samples if len(texts) > 1]
    good, bad = sum(r.good for r in group), sum(r.bad for r in group)
    return RationaleQuality(
        teacher=teacher,
        split=split,
        rationales=len(group),
        questions=len(samples),
        accepted=fmean(r.verdict == "accepted" for r in group),
        unread=fmean(r.verdict == "unread" for r in group),
        verified=_mean(None if r.verified is None else float(r.verified) for r in group),
        judged_good=good / (good + bad) if good + bad else None,
        words=median(len(m.words) for m in measures),
        repeats=fmean(m.repeats for m in measures),
        distinct=_mean(distinct_pairs(texts) for texts in several),
        apart=None,
        same=_mean(1 - len({tuple(text) for text in texts}) / len(texts) for texts in several),
        grounded=_mean(m.grounded for m in measures),
        names=_mean(m.names for m in measures),
        by_chance=_mean(m.by_chance for m in measures),
        copies=fmean(m.copied for m in measures) if shots_known else None,
    )


def _mean_distance(group: Sequence[RationaleToMeasure], embed: Embed) -> float | None:
    """Return 1 minus the cosine of two samples of a question: the mean over pairs, then over questions."""
    by_question = [[r.text for r in of_question] for _, of_question in groupby(group, key=lambda r: r.question)]
    several = [texts for texts in by_question if len(texts) > 1]
    if not several:
        return None
    vectors = embed([text for texts in several for text in texts])
    distances: list[float] = []
    for texts in several:
        count = len(texts)
        of_question, vectors = vectors[:count], vectors[count:]
        # All pairs at once: the squared sum of n unit vectors is n plus twice the cosines of all pairs.
        cosine = (float((of_question.sum(0) ** 2).sum()) - count) / (count * (count - 1))
        distances.append(1 - cosine)
    return fmean(distances)


def distinct_pairs(texts: Sequence[Sequence[str]]) -> float:
    """Return the share of different pairs among all pairs of adjacent words; 0 without any pair."""
    pairs = [pair for text in texts for pair in pairwise(text)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"[.!?:;\n]\W*$")  # text before the first word of a sentence
# Adjacent capitalised words, with small words of names between them; or a number with its separators.
_CAPITAL = r"[^\W\d_a-zß-öø-ÿ][\w'\u2019-]*"
_NAME = re.compile(
    rf"(?<![\w'\u2019]){_CAPITAL}(?:\s+(?:(?:of|the|de|von|van|la|and)\s+){{0,2}}{_CAPITAL})*"
    r"|(?<![\w.,])\d+(?:[.,:]\d+)*(?!\w)"
)


def words_of(text: str) -> list[str]:
    """Return the words in order, without case."""
    return _WORD.findall(text.casefold())


def ngrams(words: list[str], length: int) -> list[tuple[str, ...]]:
    """Return every run of `length` words in order; the whole text if it is shorter, [] if it is empty."""
    if len(words) < length:
        return [tuple(words)] if words else []
    return list(zip(*(words[i:] for i in range(length)), strict=False))


def content_stems(words: list[str]) -> set[str]:
    """Return the stems of the words that carry content."""
    return {stem(word) for word in set(words) - COMMON if len(word) > 1 or word.isdigit()}


@cache
def stem(word: str) -> str:
    """Return the English Snowball stem, as in the search index."""
    stems = _analyser().analyze(word)
    return stems[0] if stems else word


@cache
def _analyser() -> TextAnalyzer:
    from kard.knowledge.analysis import analyser

    return analyser()


def names_in(text: str) -> set[str]:
    """Return names and numbers as `spaced` writes them: adjacent capitalised words that do not open a sentence.

    The first word of a sentence counts together with capitalised words after it, or if the text has it within a
    sentence too. Common words and single letters are not names.
    """
    inside: set[str] = set()
    first: set[str] = set()
    for start, parts in _candidate_names(text):
        opens = start == 0 or _SENTENCE.search(text[max(0, start - 4) : start]) is not None
        (first if opens and len(parts) == 1 and not parts[0].isdigit() else inside).add(" ".join(parts))
    words_inside = {word for name in inside for word in name.split()}
    return inside | {name for name in first if name in words_inside}


def _candidate_names(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the start and the words of each possible name."""
    for match in _NAME.finditer(text):
        if not (match[0][0].isupper() or match[0][0].isdigit()):
            continue  # the pattern knows the small letters of western Europe only
        parts = words_of(match[0])
        while parts and parts[0] in COMMON:
            del parts[0]  # "The Colosseum", "Did Rome"
        if parts and parts[-1] == "s":
            del parts[-1]  # "Tolkien's"
        if parts and not (len(parts) == 1 and len(parts[0]) == 1 and parts[0].isalpha()):
            yield match.start(), parts


def spaced(words: list[str]) -> str:
    """Return the words with one space around each, so that ` NAME ` is found only where the whole name stands."""
    return f" {' '.join(words)} "
