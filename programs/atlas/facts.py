"""The facts of a world, land by land: a hundred entities that refer to each other and to nobody outside.

A land is made from the seed and its number alone, so a world of any size needs the memory of one land, and
two lands share no name. Lands, not entities, are dealt out to training and test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from .names import Names
from .words import FISH, FOODS, GOODS, INSTRUMENTS, PLACES, TRADES

SIZE = 100  # entities of a land, each with one document

# How many places are named after how many entities of a kind: the more, the harder it is to find the entity's
# own page by its name.
FAME = {"person": (3, 3, 3, 3, 2, 2, 2, 1, 1), "species": (3, 3, 2), "company": (3, 2), "river": (3,)}


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing with a page. `values` are its facts by attribute, the values in the order of its page."""

    kind: str  # person, town, river, company, species or place
    name: str
    group: int  # near-namesakes of one kind have the same
    values: Mapping[str, tuple[str, ...]]
    fame: int = 0  # places that bear its name
    extra: Mapping[str, str] = field(default_factory=dict[str, str])  # told on its page, asked by nobody

    @property
    def called(self) -> str:
        """The name as it stands in a sentence: the Old Steney, the dusk newt, Venner's newt."""
        takes_article = self.kind in ("river", "species", "place") and "'" not in self.name
        return f"the {self.name}" if takes_article else self.name


@dataclass(frozen=True, slots=True)
class Land:
    """A hundred entities, in an order without meaning, and what their values are drawn from."""

    number: int
    entities: tuple[Entity, ...]
    pools: Mapping[str, tuple[str, ...]]

    def of(self, kind: str) -> list[Entity]:
        """The entities of a kind, in the order of the land."""
        return [entity for entity in self.entities if entity.kind == kind]


def land(names: Names, seed: int, number: int) -> Land:
    """The land with this number (0, 1, ...) in the world of this seed."""
    rng = Random(f"atlas land {seed} {number}")
    towns = [*names.towns(2 * number), *names.towns(2 * number + 1)]
    regions = names.regions(number)
    people = _people(names, number, towns, rng)
    rivers = _rivers(names.rivers(number), towns, rng)
    companies = _companies(names, number, towns, people, rng)
    species = _species(names, number, regions, rng)
    named = _famous(people + companies + species + rivers, rng)
    entities = [*named, *_towns(towns, rivers, rng), *_places(named, towns, rng)]
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
    """Each river has two towns of its own and one of the next river's: there the two meet."""
    own = rng.sample(towns, len(towns))
    rivers: list[Entity] = []
    for i, name in enumerate(names):
        passed = [own[2 * i], own[2 * i + 1], own[(2 * i + 2) % len(own)]]
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
    """The same entities, with a fame drawn from FAME for each kind."""
    found: list[Entity] = []
    for kind, counts in FAME.items():
        same = [entity for entity in entities if entity.kind == kind]
        fame = [*counts, *(0 for _ in same[len(counts) :])]
        rng.shuffle(fame)
        found += [Entity(e.kind, e.name, e.group, e.values, n, e.extra) for e, n in zip(same, fame, strict=True)]
    return found


def _places(named: Sequence[Entity], towns: Sequence[str], rng: Random) -> list[Entity]:
    """Schools, bridges and inns that bear the names of the famous."""
    places: list[Entity] = []
    for entity in named:
        for place in rng.sample(PLACES, entity.fame):
            bears = entity.name[0].upper() + entity.name[1:]
            capital = " ".join(word[0].upper() + word[1:] for word in bears.split())
            extra = {"after": entity.called, "year": str(rng.randrange(1800, 1990))}
            places.append(Entity("place", f"{capital} {place}", -1, {"stands": (rng.choice(towns),)}, extra=extra))
    return places
