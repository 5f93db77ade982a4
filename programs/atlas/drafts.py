"""A question with its options in order, and everything that its teacher can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from kard.records import LETTERS

from .attributes import ATTRIBUTES
from .facts import Entity, Land

YES_NO = ("yes", "no")
ENDS = (
    "So the answer is {answer}.",
    "Therefore, the answer is {answer}.",
    "The answer is {answer}.",
    "Thus the answer is {answer}.",
)
UNSURE = (
    "Several pages name {x}, but none of them settles this. The answer cannot be determined.",
    "What the pages say of {x} can be read in two ways. The answer is unclear.",
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A question. `about` is what it asks and of whom: two drafts with the same `about` ask the same thing."""

    about: tuple[str, ...]
    text: str
    options: tuple[str, ...]
    needs: tuple[str, ...]  # names of the entities whose pages hold the answer
    facts: tuple[str, ...]
    reasons: tuple[str, ...]  # rationales that are right
    mistakes: tuple[str, ...]  # rationales that are wrong or end on nothing


def ordered(gold: str, wrong: Sequence[str], letter: str) -> tuple[str, ...]:
    """The options with the right one at its letter."""
    at = LETTERS.index(letter)
    return (*wrong[:at], gold, *wrong[at:])


def other_values(land: Land, name: str, rng: Random) -> list[str]:
    """Every value that the attribute could have in the land, in an order in which common ones tend to come first.

    Right answers are common values more often than rare ones, so wrong ones must be too.
    """
    entities = land.of(ATTRIBUTES[name].kind)
    told = [value for entity in rng.sample(entities, len(entities)) for value in entity.values[name]]
    pool = land.pools[ATTRIBUTES[name].pool]
    return list(dict.fromkeys([*told, *rng.sample(pool, len(pool))]))


def ended(text: str, answer: str) -> list[str]:
    """The text with each of the endings that say the answer."""
    return [f"{text} {end.format(answer=answer)}" for end in ENDS]


def unsure(about: Entity) -> list[str]:
    """Rationales that end on nothing."""
    return [text.format(x=about.called) for text in UNSURE]


def shuffled(texts: Sequence[str], rng: Random) -> tuple[str, ...]:
    """The different ones among the texts, in an order of their own."""
    different = list(dict.fromkeys(texts))
    return tuple(rng.sample(different, len(different)))
