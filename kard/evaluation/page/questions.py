"""Sampled questions as a page shows them: who answered what, what was read, and where it stood in each list."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kard.evaluation.trace import Answered, Explanation, Ranking, Trace
from kard.records import LETTERS, digest

LISTED = 5  # a passage is shown when a list has it this high, when it was read and when it is needed


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage with its rank in each list, None where the list does not hold it."""

    number: int  # on the page, from 1
    title: str
    text: str
    needed: str  # how it is known that the question needs it, '' when it is not
    ranks: tuple[int | None, ...]
    readers: tuple[str, ...]  # names of conditions


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one condition."""

    condition: str
    answer: str  # letter and text, 'unread' when no answer could be read
    right: bool
    votes: str  # '3 of 5', '' for a single sample
    verdict: str  # '' for a right answer
    why: str
    read: tuple[int, ...]  # numbers of candidates, in the order of the prompt
    texts: tuple[str, ...]  # what the student wrote, a sample each


@dataclass(frozen=True, slots=True)
class Seen:
    """One question whole."""

    key: str
    kind: str
    text: str
    options: tuple[tuple[str, str, bool], ...]  # letter, text, whether it is right
    facts: tuple[str, ...]
    rationales: tuple[Explanation, ...]
    lists: tuple[str, ...]  # what `ranks` are ranks in
    candidates: tuple[Candidate, ...]
    further: int  # passages of the lists that are not shown
    answers: tuple[Answer, ...]


def sampled(outcomes: Mapping[str, Sequence[bool]], number: int, seed: int) -> list[str]:
    """Keys of at most `number` questions, as evenly as can be from those that some conditions answer rightly, that
    none does, and that all do; `outcomes` has one truth a condition.

    A key's place among its like is a hash of the seed and the key: other questions change nothing about it.
    """
    groups: dict[int, list[str]] = defaultdict(list)
    for key, rights in outcomes.items():
        groups[2 if all(rights) else int(any(rights))].append(key)
    queues = [sorted(groups[g], key=lambda key: digest(str(seed), key), reverse=True) for g in (1, 0, 2)]
    chosen: list[str] = []
    while len(chosen) < number and any(queues):
        for queue in queues:
            if queue and len(chosen) < number:
                chosen.append(queue.pop())
    return chosen


def as_seen(of: Trace, names: Mapping[int, str]) -> Seen:
    """A trace with its passages numbered and its lists side by side: those of the newest index."""
    lists = _lists(of)
    readers: dict[str, list[str]] = defaultdict(list)
    needed: dict[str, str] = {}
    for need in of.needs.values():
        needed.update(dict.fromkeys(need.passages, need.basis))
    for answer in of.answers:
        for passage in answer.passages:
            readers[passage].append(names[answer.condition.evaluation_id])
    ranks = {passage: tuple(_rank(ranking, passage) for ranking in lists.values()) for passage in of.passages}
    held = {passage for passage, places in ranks.items() if any(places)}
    high = {passage for passage in held if any(place is not None and place <= LISTED for place in ranks[passage])}
    shown = sorted(
        (high | set(needed) | set(readers)) & set(of.passages),
        key=lambda passage: (_order(ranks[passage]), passage),
    )
    numbers = {passage: number for number, passage in enumerate(shown, 1)}
    question = of.question
    return Seen(
        key=question.key,
        kind=question.kind,
        text=question.text,
        options=tuple((letter, text, letter == question.answer) for letter, text in _options(of)),
        facts=question.facts,
        rationales=of.rationales,
        lists=tuple(lists),
        candidates=tuple(
            Candidate(
                numbers[passage],
                of.passages[passage].title,
                of.passages[passage].text,
                needed.get(passage, ""),
                ranks[passage],
                tuple(readers.get(passage, ())),
            )
            for passage in shown
        ),
        further=len(held - set(shown)),
        answers=tuple(_answer(answer, names, dict(_options(of)), numbers) for answer in of.answers),
    )


def _options(of: Trace) -> list[tuple[str, str]]:
    return list(zip(LETTERS, of.question.options, strict=False))


def _lists(of: Trace) -> dict[str, Ranking]:
    """A name for each list of the newest index; of the rationales' the one of the first."""
    newest = of.indexes[0] if of.indexes else None
    found: dict[str, Ranking] = {}
    for ranking in of.lists("question", newest)[:1]:
        found["BM25, question"] = ranking
    for ranking in of.lists("rationale", newest)[:1]:
        found["BM25, rationale"] = ranking
    others = [r for r in of.rankings if r.index_id == newest and r.kind not in ("question", "rationale")]
    kinds = Counter(ranking.kind for ranking in others)
    numbers: Counter[str] = Counter()
    for ranking in others:
        numbers[ranking.kind] += 1
        alone = kinds[ranking.kind] == 1
        found[ranking.kind if alone else f"{ranking.kind} {numbers[ranking.kind]}"] = ranking
    return found


def _rank(ranking: Ranking, passage: str) -> int | None:
    """A passage's rank; beyond its depth a rationale's list only scores what the question found."""
    rank = ranking.rank_of(passage)
    return None if rank is None or (ranking.kind == "rationale" and rank > ranking.depth) else rank


def _order(ranks: Sequence[int | None]) -> tuple[float, ...]:
    places = [float("inf") if rank is None else rank for rank in ranks]
    return (min(places, default=0), *places)


def _answer(
    answer: Answered, names: Mapping[int, str], options: Mapping[str, str], numbers: Mapping[str, int]
) -> Answer:
    samples = len(answer.samples)
    return Answer(
        condition=names[answer.condition.evaluation_id],
        answer=f"{answer.answer}: {options.get(answer.answer, '')}" if answer.answer else "unread",
        right=answer.correct,
        votes=f"{answer.votes} of {samples}" if samples > 1 else "",
        verdict=answer.verdict or "",
        why=answer.why,
        read=tuple(numbers[passage] for passage in answer.passages if passage in numbers),
        texts=tuple(sample.text for sample in answer.samples),
    )
