"""The page of each entity: its facts in one of several orders and wordings, and something beside them.

What stands beside the facts names other entities of the land (namesakes, visitors, rivals), so that a page which
shares the question's words is not always the page that answers it. It never states what is asked of anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from kard.records import Document

from .attributes import ATTRIBUTES
from .facts import SIZE, Entity, Land, land
from .names import Names
from .wordings import capital

# {x} is the page's own name, {o} another's; the other fields are the entity's `extra`.
BESIDE = {
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
BESIDES = 0.5  # of the pages have something beside their facts; of those of places, all


@dataclass(frozen=True, slots=True)
class Documents:
    """The first `passages` pages of a world, made land by land each time they are gone through."""

    names: Names
    seed: int
    passages: int

    def __iter__(self) -> Iterator[Document]:
        for number in range(-(-self.passages // SIZE)):
            made = pages(land(self.names, self.seed, number), self.seed)
            yield from made[: self.passages - number * SIZE]

    def __len__(self) -> int:
        return self.passages


def key(name: str) -> str:
    """The key of the page that has this title: 'orla-venn'."""
    return name.lower().replace("'", "").replace(" ", "-")


def pages(land: Land, seed: int) -> list[Document]:
    """The page of every entity of the land, in its order."""
    rng = Random(f"atlas pages {seed} {land.number}")
    return [Document(key(entity.name), capital(entity.name), _page(entity, land, rng)) for entity in land.entities]


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
    beside, place = _beside(entity, land, rng), rng.choice((1, len(sentences)))
    if entity.kind == "place" or rng.random() < BESIDES:
        sentences.insert(place, beside)
    return " ".join(sentences)


def _beside(entity: Entity, land: Land, rng: Random) -> str:
    kind = entity.kind if entity.kind in ("person", "company", "species") else "person"
    others = [e for e in land.of(kind) if e.name != entity.name and e.name not in entity.values.get("founder", ())]
    if entity.kind == "person" and rng.random() < 0.5:
        others = [e for e in others if e.group == entity.group]
    other, person = rng.choice(others), rng.choice(land.of("person"))
    told = rng.choice(BESIDE[entity.kind])
    return capital(told.format(x=entity.called, o=other.called, p=person.called, **entity.extra))
