"""Questions over the lands: three of five have four options and one page to read, the others two pages or yes/no.

What is asked, which answer is right and at which letter it stands are dealt, not drawn: every kind has
as many yes as no, and as many A as B, C and D, as its number allows. Training asks about two lands of three,
evaluation about the third, so no name that is asked about in one is ever written in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from kard.errors import BadConfig
from kard.records import Question, digest

from . import comparisons, paired, single
from .documents import key
from .drafts import Draft
from .facts import SIZE, Land, land
from .names import Names

Make = Callable[[Land, str, str, Random], Draft | None]
"""From a land, a split, the right answer's letter and a source of chance to a question, if the land has one."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question: its share of all, its letters, and what it asks in turn."""

    share: float
    letters: str
    makes: tuple[Make, ...]


KINDS: Mapping[str, Kind] = {
    "four options, one hop": Kind(0.60, "ABCD", tuple(partial(single.four_options, name) for name in single.DEAL)),
    "yes/no, one hop": Kind(0.10, "AB", tuple(partial(single.yes_no, name) for name in single.DEAL)),
    "yes/no, two hops": Kind(0.10, "AB", tuple(partial(paired.yes_no, p) for p in comparisons.YES_NO)),
    "four options, two hops": Kind(
        0.20, "ABCD", tuple(partial(paired.four_options, p) for p in comparisons.FOUR_OPTIONS)
    ),
}
MOST_LANDS = 64  # that one split asks about, spread over the world
TRIES = 30  # drafts from one land before the next is asked


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the draft that says what its teacher knows."""

    question: Question
    draft: Draft


def questions(names: Names, *, passages: int, train: int, test: int, seed: int) -> list[Asked]:
    """`train`, then `test` questions about a world of so many passages. Raises BadConfig when it is too small."""
    asked: list[Asked] = []
    for split, count in (("train", train), ("test", test)):
        numbers = [n for n in range(passages // SIZE) if (n % 3 == 2) == (split == "test")]
        rng = Random(f"atlas questions {seed} {split}")
        chosen = rng.sample(numbers, min(len(numbers), MOST_LANDS))
        lands = [land(names, seed, number) for number in chosen]
        try:
            asked += asked_of(lands, split, count, rng)
        except Exhausted:
            raise BadConfig(
                f"{passages} passages are too few for {count} {split} questions; "
                "ask for more passages or for fewer questions"
            ) from None
    return asked


def shares(count: int) -> dict[str, int]:
    """How many of `count` questions each kind has: the sum is `count`, each is off its share by less than one."""
    exact = {name: count * kind.share for name, kind in KINDS.items()}
    found = {name: int(number) for name, number in exact.items()}
    short = sorted(exact, key=lambda name: found[name] - exact[name])  # largest remainder first
    for name in short[: count - sum(found.values())]:
        found[name] += 1
    return found


class Exhausted(Exception):
    """The lands hold no further question of a kind."""


def asked_of(lands: Sequence[Land], split: str, count: int, rng: Random) -> list[Asked]:
    """So many different questions about these lands, in the wordings of the split. Raises Exhausted."""
    known: set[object] = set()
    asked: list[Asked] = []
    for name, number in shares(count).items():
        kind = KINDS[name]
        letters = [kind.letters[i % len(kind.letters)] for i in range(number)]
        rng.shuffle(letters)
        for i, letter in enumerate(letters):
            start = len(asked) % max(len(lands), 1)
            turns = [*lands[start:], *lands[:start]]
            draft = _draft(turns, kind.makes[i % len(kind.makes)], split, letter, known, rng)
            asked.append(asked_with(draft, split, letter, name))
    rng.shuffle(asked)
    return asked


def _draft(lands: Sequence[Land], make: Make, split: str, letter: str, known: set[object], rng: Random) -> Draft:
    """A question that nobody asked yet, of the first land that has one. Raises Exhausted when none has."""
    for some in lands:
        for _ in range(TRIES):
            draft = make(some, split, letter, rng)
            if draft is None:
                break
            if draft.about not in known and draft.text not in known:
                known.update((draft.about, draft.text))
                return draft
    raise Exhausted


def asked_with(draft: Draft, split: str, letter: str, kind: str) -> Asked:
    """The draft's question, with the letter of its right answer."""
    question = Question(
        key=digest(draft.text, *draft.options),
        split=split,
        text=draft.text,
        options=draft.options,
        answer=letter,
        evidence=tuple(key(name) for name in draft.needs),
        facts=draft.facts,
        kind=kind,
    )
    return Asked(question, draft)
