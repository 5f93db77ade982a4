"""The facts of a world in lands: a hundred entities that refer to each other and to nobody outside.

A land depends on the seed and its number alone, so that a world of any size needs the memory of one land. Two lands
share no name. Whole lands belong to training or to test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from .names import Names
from .words import FISH, FOODS, GOODS, INSTRUMENTS, PLACES, TRADES

SIZE = 100  # entities of a land, each with one document

# Numbers of places that are named after one entity each of a kind. The more places bear its name, the harder it is
# to find an entity's own page by that name.
FAME = {"person": (3, 3, 3, 3, 2, 2, 2, 1, 1), "species": (3, 3, 2), "company": (3, 2), "river": (3,)}


@dataclass(frozen=True, slots=True)
class Entity:
    """Something with a page. `values` are its facts by attribute, in the order of its page."""

    kind: str  # person, town, river, company, species or place
    name: str
    group: int  # the same for near-namesakes of one kind
    values: Mapping[str, tuple[str, ...]]
    fame: int = 0  # number of places that bear its name
    extra: Mapping[str, str] = field(default_factory=dict[str, str])  # stands on its page; no question asks for it

    @property
    def called(self) -> str:
        """Return the name as it stands in a sentence: the Old Steney, the dusk newt, Venner's newt."""
        takes_article = self.kind in ("river", "species", "place") and "'" not in self.name
        return f"the {self.name}" if takes_article else self.name


@dataclass(frozen=True, slots=True)
class Land:
    """A hundred entities in random order, and the pools that their values are drawn from."""

    number: int
    entities: tuple[Entity, ...]
    pools: Mapping[str, tuple[str, ...]]

    def of(self, kind: str) -> list[Entity]:
        """Return the entities of a kind, in the order of the land."""
        return [entity for entity in self.entities if entity.kind == kind]


def make_land(names: Names, seed: int, number: int) -> Land:
    """Return the land with this number (0, 1, ...) in the world of this seed."""
    rng = Random(f"atlas land {seed} {number}")
    towns = [*names.towns(2 * number), *names.towns(2 * number + 1)]
    regions = names.regions(number)
    people = _people(names, number, towns, rng)
    rivers = _rivers(names.rivers(number), towns, rng)
    companies = _companies(names, number, towns, people, rng)
    species = _species(names, number, regions, rng)
    famous = _famous(people + companies + species + rivers, rng)
    entities = [*famous, *_towns(towns, rivers, rng), *_places(famous, towns, rng)]
    rng.shuffle(entities)
    pools = {
        "town": tuple(towns),
        "region": tuple(regions),
        "river": tuple(river.name for river in rivers),
        "person": tuple(person.name for person in people),
        "trade": TRADES,
        "instrument": INSTRUMENTS,
        "goods": GOODS,
        "fish": FISH,
        "food": FOODS,
    }
    return Land(number, tuple(entities), pools)


def _people(names: Names, number: int, towns: Sequence[str], rng: Random) -> list[Entity]:
    people: list[Entity] = []
    for group in range(8):
        for name in names.people(8 * number + group):
            birth, home = rng.sample(towns, 2)
            values = {
                "birth": (birth,),
                "home": (home,),
                "trade": (rng.choice(TRADES),),
                "instrument": tuple(rng.sample(INSTRUMENTS, 2)),
            }
            extra = {"year": str(rng.randrange(1710, 1890))}
            people.append(Entity("person", name, group, values, extra=extra))
    return people


def _rivers(names: Sequence[str], towns: Sequence[str], rng: Random) -> list[Entity]:
    """Return rivers that each pass two towns of their own and one of the next river's, where the two meet."""
    order = rng.sample(towns, len(towns))
    rivers: list[Entity] = []
    for i, name in enumerate(names):
        passed = [order[2 * i], order[2 * i + 1], order[(2 * i + 2) % len(order)]]
        rng.shuffle(passed)
        values = {"passes": tuple(passed), "fish": (rng.choice(FISH),)}
        rivers.append(Entity("river", name, 0, values, extra={"miles": str(rng.randrange(20, 400))}))
    return rivers


def _towns(names: Sequence[str], rivers: Sequence[Entity], rng: Random) -> list[Entity]:
    towns: list[Entity] = []
    for i, name in enumerate(names):
        beside = tuple(river.name for river in rivers if name in river.values["passes"])
        values = {"river": beside, "craft": (rng.choice(GOODS),)}
        towns.append(Entity("town", name, i // 4, values, extra={"people": str(rng.randrange(300, 9000))}))
    return towns


def _companies(
    names: Names, number: int, towns: Sequence[str], people: Sequence[Entity], rng: Random
) -> list[Entity]:
    companies: list[Entity] = []
    for group in range(2):
        for name in names.companies(2 * number + group):
            values = {
                "seat": (rng.choice(towns),),
                "founder": (rng.choice(people).name,),
                "goods": tuple(rng.sample(GOODS, 2)),
            }
            year = str(rng.randrange(1730, 1900))
            companies.append(Entity("company", name, group, values, extra={"year": year}))
    return companies


def _species(names: Names, number: int, regions: Sequence[str], rng: Random) -> list[Entity]:
    species: list[Entity] = []
    for group in range(3):
        for name in names.species(3 * number + group):
            values = {
                "region": tuple(rng.sample(regions, 2)),
                "food": (rng.choice(FOODS),),
            }
            species.append(Entity("species", name, group, values, extra={"inches": str(rng.randrange(2, 40))}))
    return species


def _famous(entities: Sequence[Entity], rng: Random) -> list[Entity]:
    """Return the same entities, each with a fame drawn from FAME."""
    famous: list[Entity] = []
    for kind, counts in FAME.items():
        same = [entity for entity in entities if entity.kind == kind]
        fame = [*counts, *(0 for _ in same[len(counts) :])]
        rng.shuffle(fame)
        famous += [Entity(e.kind, e.name, e.group, e.values, n, e.extra) for e, n in zip(same, fame, strict=True)]
    return famous


def _places(famous: Sequence[Entity], towns: Sequence[str], rng: Random) -> list[Entity]:
    """Return schools, bridges and inns that bear the names of the famous."""
    places: list[Entity] = []
    for entity in famous:
        for place in rng.sample(PLACES, entity.fame):
            name = " ".join(word[0].upper() + word[1:] for word in entity.name.split())
            extra = {"after": entity.called, "year": str(rng.randrange(1800, 1990))}
            places.append(Entity("place", f"{name} {place}", -1, {"stands": (rng.choice(towns),)}, extra=extra))
    return places
