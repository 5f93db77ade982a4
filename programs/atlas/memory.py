"""Single facts of a world, to be learned by heart or looked up: how many there are and what they hold in bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from math import comb, log2
from random import Random

from kard.records import LETTERS, Document, Question, digest

from . import drafts
from .attributes import ATTRIBUTES
from .documents import pages
from .facts import Entity, Land, make_land
from .names import Names
from .questions import question_of

SEED = 0  # of the world
KIND = "four options, one hop"
Fact = tuple[str, Entity, Land]  # attribute, whose, and where


@dataclass(frozen=True, slots=True)
class LandFacts:
    """Facts of whole lands, in the order of their pages, but for the last land."""

    facts: Sequence[Fact]

    @property
    def bits(self) -> float:
        """Return log2 of the sets of values that each attribute could have in its land, summed."""
        return sum(
            log2(comb(len(land.pools[ATTRIBUTES[name].pool]), len(entity.values[name])))
            for name, entity, land in self.facts
        )

    @property
    def documents(self) -> Sequence[Document]:
        """Return the page of every entity that has one of the facts."""
        return [page for told in self._tellings(SEED) for page in told]

    def texts(self, *, copied: bool) -> Iterator[str]:
        """Yield texts without end: a page or two of a land, then `copied` one of them in other words, or a third.

        Every page is worded anew every time.
        """
        rng = Random(f"atlas copies {SEED}")
        for telling in count(1, 2):
            again = self._tellings(SEED + telling + 1)
            for once, later in zip(self._tellings(SEED + telling), again, strict=True):
                for page, other in zip(once, later, strict=True):
                    shown = [page, rng.choice(once)][: rng.choice((1, 2))]
                    rng.shuffle(shown)
                    read = "\n".join(f"[{i}] {p.title}: {p.text}" for i, p in enumerate(shown, 1))
                    last = other if copied else rng.choice(later)
                    yield f"{read}\n{last.title}: {last.text}"

    def questions(self, split: str) -> Iterator[Question]:
        """Yield questions with four options about every fact in turn, each turn in another order, without end."""
        rng = Random(f"atlas facts {SEED} {split}")
        for turn in count():
            for name, entity, land in rng.sample(self.facts, len(self.facts)):
                letter = rng.choice(LETTERS[:4])
                draft = drafts.four_options(name, land, split, letter, rng, entity=entity)
                question = question_of(draft, split, letter, KIND).question
                key = digest(split, str(len(self.facts)), str(turn), name, entity.name)
                yield replace(question, key=key, rationale=draft.reasons[0])

    def _tellings(self, seed: int) -> Iterator[list[Document]]:
        """Yield the pages of each land, as this seed words them."""
        told: dict[int, tuple[Land, set[str]]] = {}
        for _, entity, land in self.facts:
            told.setdefault(land.number, (land, set()))[1].add(entity.name)
        for land, names in told.values():
            written = zip(land.entities, pages(land, seed), strict=True)
            yield [page for entity, page in written if entity.name in names]


def make_facts(count: int, *, others: bool = False) -> LandFacts:
    """Return the first facts of every third land, or of the other lands."""
    return LandFacts(tuple(islice(_facts(others), count)))


def _facts(others: bool) -> Iterator[Fact]:
    """Yield the facts of lands that tests ask about, or of those that they do not, without end."""
    names = Names(SEED)
    for number in count():
        if (number % 3 != 2) == others:
            land = make_land(names, SEED, number)
            for entity in land.entities:
                yield from ((name, entity, land) for name in entity.values if drafts.askable(name, entity, land))
