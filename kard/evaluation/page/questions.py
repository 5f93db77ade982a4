"""Sampled questions as a page shows them: who answered what, what was read, and where it stood in each list."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kard.evaluation.trace import Trace, TracedAnswer, TracedRanking, TracedRationale
from kard.records import FORCED, LETTERS, digest

LISTED = 5  # a passage is shown when a list has it this high, when it was read, and when it is needed


@dataclass(frozen=True, slots=True)
class ShownPassage:
    """A passage with its rank in each list, None where the list does not hold it."""

    number: int  # on the page, from 1
    title: str
    text: str
    needed: str  # how it is known that the question needs it, '' when it is not
    ranks: tuple[int | None, ...]
    readers: tuple[str, ...]  # names of conditions


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """The answer of one condition."""

    condition: str
    answer: str  # letter and text, 'unread' when no answer could be read
    right: bool
    votes: str  # '3 of 5', '' for a single sample
    verdict: str  # '' for a right answer
    why: str
    read: tuple[int, ...]  # numbers of passages, in the order of the prompt
    texts: tuple[str, ...]  # what the student wrote, a sample each


@dataclass(frozen=True, slots=True)
class ShownQuestion:
    """A question with its rationales, passages and answers."""

    key: str
    kind: str
    text: str
    options: tuple[tuple[str, str, bool], ...]  # letter, text, whether it is right
    facts: tuple[str, ...]
    rationales: tuple[TracedRationale, ...]
    lists: tuple[str, ...]  # names of the lists that `ranks` are ranks in
    passages: tuple[ShownPassage, ...]
    further: int  # passages of the lists that are not shown
    answers: tuple[ShownAnswer, ...]


def sample_keys(outcomes: Mapping[str, Sequence[bool]], number: int, seed: int) -> list[str]:
    """Sample the keys of at most `number` questions, evenly over three groups.

    The groups are questions that some conditions, no condition, and all conditions answer rightly. `outcomes` has
    one truth value a condition. Within a group the order is that of a hash of seed and key, so that other questions
    do not change which are drawn.
    """
    groups: dict[int, list[str]] = defaultdict(list)
    for key, rights in outcomes.items():
        groups[2 if all(rights) else int(any(rights))].append(key)
    queues = [sorted(groups[g], key=lambda key: digest(str(seed), key), reverse=True) for g in (1, 0, 2)]
    keys: list[str] = []
    while len(keys) < number and any(queues):
        for queue in queues:
            if queue and len(keys) < number:
                keys.append(queue.pop())
    return keys


def shown_question(trace: Trace, names: Mapping[int, str]) -> ShownQuestion:
    """Number the passages of a trace and set the lists of the newest index side by side.

    `names` holds the name of each condition by its evaluation.
    """
    question = trace.question
    options = dict(zip(LETTERS, question.options, strict=False))
    # A short answer stands where options would.
    shown_options = options or ({"": question.answer} if question.answer else {})
    lists = _lists(trace)
    readers: dict[str, list[str]] = defaultdict(list)
    needed: dict[str, str] = {}
    for need in trace.needs.values():
        needed.update(dict.fromkeys(need.passages, need.basis))
    for answer in trace.answers:
        for passage in answer.passages:
            readers[passage].append(names[answer.condition.evaluation_id])
    ranks = {passage: tuple(_rank(ranking, passage) for ranking in lists.values()) for passage in trace.passages}
    listed = {passage for passage in ranks if any(ranks[passage])}
    high = {passage for passage in listed if any(rank is not None and rank <= LISTED for rank in ranks[passage])}
    shown = sorted(
        (high | set(needed) | set(readers)) & set(trace.passages),
        key=lambda passage: (_order(ranks[passage]), passage),
    )
    numbers = {passage: number for number, passage in enumerate(shown, 1)}
    return ShownQuestion(
        key=question.key,
        kind=question.kind,
        text=question.text,
        options=tuple((letter, text, letter in ("", question.answer)) for letter, text in shown_options.items()),
        facts=question.facts,
        rationales=trace.rationales,
        lists=tuple(lists),
        passages=tuple(
            ShownPassage(
                numbers[passage],
                trace.passages[passage].title,
                trace.passages[passage].text,
                needed.get(passage, ""),
                ranks[passage],
                tuple(readers.get(passage, ())),
            )
            for passage in shown
        ),
        further=len(listed - set(shown)),
        answers=tuple(_answer(answer, names, options, numbers) for answer in trace.answers),
    )


def _lists(trace: Trace) -> dict[str, TracedRanking]:
    """Name each list of the newest index. Of the lists by a rationale, only the first is shown."""
    newest = trace.indexes[0] if trace.indexes else None
    lists: dict[str, TracedRanking] = {}
    for ranking in trace.lists("question", newest)[:1]:
        lists["BM25, question"] = ranking
    for ranking in trace.lists("rationale", newest)[:1]:
        lists["BM25, rationale"] = ranking
    others = [r for r in trace.rankings if r.index_id == newest and r.kind not in ("question", "rationale")]
    kinds = Counter(ranking.kind for ranking in others)
    numbers: Counter[str] = Counter()
    for ranking in others:
        numbers[ranking.kind] += 1
        alone = kinds[ranking.kind] == 1
        lists[ranking.kind if alone else f"{ranking.kind} {numbers[ranking.kind]}"] = ranking
    return lists


def _rank(ranking: TracedRanking, passage: str) -> int | None:
    """Return a passage's rank. Beyond its depth, a list by a rationale only scores what the question found."""
    rank = ranking.rank_of(passage)
    return None if rank is None or (ranking.kind == "rationale" and rank > ranking.depth) else rank


def _order(ranks: Sequence[int | None]) -> tuple[float, ...]:
    places = [float("inf") if rank is None else rank for rank in ranks]
    return (min(places, default=0), *places)


def _answer(
    answer: TracedAnswer, names: Mapping[int, str], options: Mapping[str, str], numbers: Mapping[str, int]
) -> ShownAnswer:
    samples = len(answer.samples)
    return ShownAnswer(
        condition=names[answer.condition.evaluation_id],
        answer=": ".join(filter(None, (answer.answer, options.get(answer.answer or "")))) or "unread",
        right=answer.correct,
        votes=f"{answer.votes} of {samples}" if samples > 1 else "",
        verdict=answer.verdict or "",
        why=answer.why,
        read=tuple(numbers[passage] for passage in answer.passages if passage in numbers),
        texts=tuple(f"{s.text} ({FORCED[s.forced]})" if s.forced else s.text for s in answer.samples),
    )
