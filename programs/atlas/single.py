"""Questions that one page answers: with four options, or a claim that holds or does not."""

from __future__ import annotations

from random import Random

from .attributes import ATTRIBUTES
from .drafts import YES_NO, Draft, ended, ordered, other_values, shuffled, unsure
from .facts import Entity, Land
from .wordings import capital

DEAL = tuple(name for name, attribute in ATTRIBUTES.items() for _ in range(attribute.weight))
# How much of what is asked about has two places named after it, or more, as far as its kind has such. A claim
# names a value too, which leads to the right page.
FAMOUS_ASKED, FAMOUS_CLAIMED = 0.45, 0.75
CONFUSED = 0.5  # of the wrong values come from the same page or a namesake's, as far as there are such


def four_options(name: str, land: Land, split: str, letter: str, rng: Random) -> Draft:
    """A question about this attribute, with three wrong options of the gold answer's type."""
    attribute, entity = ATTRIBUTES[name], _subject(name, land, FAMOUS_ASKED, rng)
    values = entity.values[name]
    gold, wrong = rng.choice(values), _wrong(entity, name, land, rng)[:3]
    rng.shuffle(wrong)
    said = _statements(name, entity)
    mistakes = [f"{attribute.said(entity.called, (w,))}. So the answer is {w}." for w in wrong]
    return Draft(
        about=("four options", name, entity.name),
        text=rng.choice(attribute.ask.of(split)).format(x=entity.called),
        options=ordered(gold, wrong, letter),
        needs=(entity.name,),
        facts=(f"{said[0]}.",),
        reasons=shuffled([text for s in said for text in ended(f"{s}.", gold)], rng),
        mistakes=shuffled([*mistakes, *unsure(entity)], rng),
    )


def yes_no(name: str, land: Land, split: str, letter: str, rng: Random) -> Draft:
    """A claim about this attribute, which holds when the letter is that of yes."""
    attribute, entity = ATTRIBUTES[name], _subject(name, land, FAMOUS_CLAIMED, rng)
    wrong = _wrong(entity, name, land, rng)[0]
    values = entity.values[name]
    said = _statements(name, entity)
    if letter == "A":
        claimed = attribute.listed((rng.choice(values),))
        reasons = said
        mistake = f"{attribute.said(entity.called, (wrong,))}, not {claimed}. So the answer is no."
    else:
        claimed = attribute.listed((wrong,))
        reasons = [f"{s}, not {claimed}" for s in said]
        mistake = f"{attribute.said(entity.called, (wrong,))}. So the answer is yes."
    answer = YES_NO["AB".index(letter)]
    return Draft(
        about=("yes/no", name, entity.name),
        text=capital(rng.choice(attribute.claim.of(split)).format(x=entity.called, v=claimed)),
        options=YES_NO,
        needs=(entity.name,),
        facts=(f"{said[0]}.",),
        reasons=shuffled([text for s in reasons for text in ended(f"{s}.", answer)], rng),
        mistakes=shuffled([mistake, *unsure(entity)], rng),
    )


def _subject(name: str, land: Land, share: float, rng: Random) -> Entity:
    """An entity of which three values or more are not true."""
    most = len(land.pools[ATTRIBUTES[name].pool]) - 3
    entities = [e for e in land.of(ATTRIBUTES[name].kind) if len(e.values[name]) <= most]
    famous = rng.random() < share
    return rng.choice([e for e in entities if (e.fame >= 2) == famous] or entities)


def _statements(name: str, entity: Entity) -> list[str]:
    """The fact in plain words, then in the words of pages, each without its full stop."""
    attribute, values = ATTRIBUTES[name], entity.values[name]
    pages = [page.format(v=attribute.listed(values)) for page in attribute.pages]
    return [attribute.said(entity.called, values), *(f"{capital(entity.called)} {page}" for page in pages)]


def _wrong(entity: Entity, name: str, land: Land, rng: Random) -> list[str]:
    """Three values or more that the entity does not have, first those that are most easily taken for its own."""
    alike: list[str] = []
    other = {"birth": "home", "home": "birth"}.get(name)
    if other and rng.random() < CONFUSED:
        alike += entity.values[other]
    if rng.random() < CONFUSED:
        if name == "founder":  # all four options are namesakes, or none: the odd one out would be wrong
            group = next(p.group for p in land.of("person") if p.name in entity.values[name])
            alike += [p.name for p in land.of("person") if p.group == group]
            rng.shuffle(alike)
        elif near := [e for e in land.of(entity.kind) if e.group == entity.group and e is not entity]:
            alike += rng.choice(near).values[name]
    found = dict.fromkeys([*alike, *other_values(land, name, rng)])
    return [value for value in found if value not in entity.values[name]]
