"""The page of each entity: its facts in one of several orders and wordings, and often an aside.

An aside names other entities of the land (namesakes, visitors, rivals), so that a page with the question's words is
not always the page that answers it. It never states a fact that a question asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from kard.records import Document

from .attributes import ATTRIBUTES
from .facts import SIZE, Entity, Land, make_land
from .names import Names
from .wordings import capital

# {x} is the page's entity, {o} another one, {p} a person; the other fields are the entity's `extra`.
ASIDES = {
    "person": (
        "A letter of {year} to {o} tells of a long winter.",
        "Some old books mistake {x} for {o}.",
        "A friend, {o}, kept a diary of those years.",
        "In {year} a fire burnt every portrait of {x}.",
        "A street song about {x} is still sung.",
        "The grave, with that of {o}, was lost in a flood.",
    ),
    "town": (
        "About {people} people live here, and {o} once gave a speech in the square.",
        "A painting in the town hall shows {o} in a red coat.",
        "Of its {people} people, few recall the visit of {o}.",
        "Its {people} people hold a fair every spring.",
    ),
    "river": (
        "{x} is {miles} miles long, and {o} once swam across it for a bet.",
        "Over {miles} miles {x} falls slowly, as a poem by {o} complains.",
        "In a course of {miles} miles {x} freezes every winter.",
    ),
    "company": (
        "Since {year} the great rival of {x} has been {o}.",
        "In {year} {x} lost a lawsuit against {p} about a sign.",
        "The books of {x} for {year} name {p} as a customer who never paid.",
        "In {year} a flood carried off half the stock of {x}.",
    ),
    "species": (
        "Hunters often mistake {x} of {inches} inches for {o}.",
        "A drawing by {p} shows {x} asleep, {inches} inches long.",
        "At {inches} inches {x} is large for its kind.",
        "The young of {x} are {inches} inches long.",
    ),
    "place": (
        "It opened in {year} in honour of {after}, as a carving over the door says.",
        "Opened in {year}, it takes its name from {after} and is visited by many for the view.",
        "The name recalls {after}; a plaque of {year} says so, and says little else.",
        "Since {year} the story of {after} has been told here to every visitor.",
    ),
}
ASIDE_SHARE = 0.5  # share of pages with an aside; every page of a place has one


@dataclass(frozen=True, slots=True)
class Documents:
    """The first `passages` pages of a world. Each iteration makes them anew, one land at a time."""

    names: Names
    seed: int
    passages: int

    def __iter__(self) -> Iterator[Document]:
        for number in range(-(-self.passages // SIZE)):
            land = make_land(self.names, self.seed, number)
            yield from pages(land, self.seed)[: self.passages - number * SIZE]

    def __len__(self) -> int:
        return self.passages


def page_key(name: str) -> str:
    """Return the key of the page with this title: 'orla-venn'."""
    return name.lower().replace("'", "").replace(" ", "-")


def pages(land: Land, seed: int) -> list[Document]:
    """Return the page of every entity of the land, in its order."""
    rng = Random(f"atlas pages {seed} {land.number}")
    return [
        Document(page_key(entity.name), capital(entity.name), _page(entity, land, rng)) for entity in land.entities
    ]


def _page(entity: Entity, land: Land, rng: Random) -> str:
    parts: list[str] = []
    attributes = list(entity.values)
    rng.shuffle(attributes)
    for name in attributes:
        attribute = ATTRIBUTES[name]
        parts.append(rng.choice(attribute.pages).format(v=attribute.listed(entity.values[name])))
    sentences: list[str] = []
    for i in range(0, len(parts), 2):
        sentences.append(f"{capital(entity.called)} {' and '.join(parts[i : i + 2])}.")
    aside, index = _aside(entity, land, rng), rng.choice((1, len(sentences)))
    if entity.kind == "place" or rng.random() < ASIDE_SHARE:
        sentences.insert(index, aside)
    return " ".join(sentences)


def _aside(entity: Entity, land: Land, rng: Random) -> str:
    kind = entity.kind if entity.kind in ("person", "company", "species") else "person"
    others = [e for e in land.of(kind) if e.name != entity.name and e.name not in entity.values.get("founder", ())]
    if entity.kind == "person" and rng.random() < 0.5:
        others = [e for e in others if e.group == entity.group]
    other, person = rng.choice(others), rng.choice(land.of("person"))
    aside = rng.choice(ASIDES[entity.kind])
    return capital(aside.format(x=entity.called, o=other.called, p=person.called, **entity.extra))
