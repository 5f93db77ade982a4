"""Drafts of questions, with every rationale that the teacher can give.

A question has four options, or is a claim to affirm or deny. One page holds its answer ("one hop"), or two do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from kard.records import LETTERS

from .attributes import ATTRIBUTES
from .facts import Entity, Land
from .wordings import Pairing, capital

YES_NO = ("yes", "no")
ENDINGS = (
    "So the answer is {answer}.",
    "Therefore, the answer is {answer}.",
    "The answer is {answer}.",
    "Thus the answer is {answer}.",
)
UNDECIDED = (
    "Several pages name {x}, but none of them settles this. The answer cannot be determined.",
    "What the pages say of {x} can be read in two ways. The answer is unclear.",
)
DEAL = tuple(name for name, attribute in ATTRIBUTES.items() for _ in range(attribute.weight))
# Share of the questions whose subject has two or more places named after it, as far as its kind has such subjects.
# A claim names a value too, which leads to the right page.
FAMOUS_ASKED, FAMOUS_CLAIMED = 0.45, 0.75
CONFUSED = 0.5  # share of wrong values that come from the same page or a namesake's, as far as there are any
UNGROUPED = ("river", "place")  # kinds whose entities in a land are one group
QUIET = 0.4  # share of pairs without places named after either, which would stand between the two pages


@dataclass(frozen=True, slots=True)
class Draft:
    """A question before it has a key. Two drafts with the same `about` ask the same thing of the same entities."""

    about: tuple[str, ...]
    text: str
    options: tuple[str, ...]
    needs: tuple[str, ...]  # names of the entities whose pages hold the answer
    facts: tuple[str, ...]
    reasons: tuple[str, ...]  # right rationales
    mistakes: tuple[str, ...]  # rationales that conclude on a wrong option or on none


def four_options(
    name: str, land: Land, split: str, letter: str, rng: Random, *, entity: Entity | None = None
) -> Draft:
    """Draft a question about this attribute of one entity, drawn unless given.

    Wrong options are of the right one's type.
    """
    attribute, entity = ATTRIBUTES[name], entity or _subject(name, land, FAMOUS_ASKED, rng)
    values = entity.values[name]
    gold, wrong = rng.choice(values), _wrong_values(entity, name, land, rng)[:3]
    rng.shuffle(wrong)
    statements = _statements(name, entity)
    mistakes = [f"{attribute.said(entity.called, (value,))}. So the answer is {value}." for value in wrong]
    return Draft(
        about=("four options", name, entity.name),
        text=rng.choice(attribute.ask.of(split)).format(x=entity.called),
        options=_options(gold, wrong, letter),
        needs=(entity.name,),
        facts=(f"{statements[0]}.",),
        reasons=_distinct([text for s in statements for text in _with_endings(f"{s}.", gold)], rng),
        mistakes=_distinct([*mistakes, *_undecided(entity)], rng),
    )


def yes_no(name: str, land: Land, split: str, letter: str, rng: Random) -> Draft:
    """Draft a claim about this attribute of one entity. It is true if the letter is A."""
    attribute, entity = ATTRIBUTES[name], _subject(name, land, FAMOUS_CLAIMED, rng)
    wrong = _wrong_values(entity, name, land, rng)[0]
    values = entity.values[name]
    statements = _statements(name, entity)
    if letter == "A":
        claimed = attribute.listed((rng.choice(values),))
        reasons = statements
        mistake = f"{attribute.said(entity.called, (wrong,))}, not {claimed}. So the answer is no."
    else:
        claimed = attribute.listed((wrong,))
        reasons = [f"{s}, not {claimed}" for s in statements]
        mistake = f"{attribute.said(entity.called, (wrong,))}. So the answer is yes."
    answer = YES_NO["AB".index(letter)]
    return Draft(
        about=("yes/no", name, entity.name),
        text=capital(rng.choice(attribute.claim.of(split)).format(x=entity.called, v=claimed)),
        options=YES_NO,
        needs=(entity.name,),
        facts=(f"{statements[0]}.",),
        reasons=_distinct([text for s in reasons for text in _with_endings(f"{s}.", answer)], rng),
        mistakes=_distinct([mistake, *_undecided(entity)], rng),
    )


def four_options_of_two(pairing: Pairing, land: Land, split: str, letter: str, rng: Random) -> Draft | None:
    """Draft a question for the values of two entities. Return None if no two of the land have different values.

    The options combine two values of the first with two of the second. A reader of one page is left with two
    options; a reader of neither learns nothing from the options.
    """
    pair = _pair(land, pairing, 0, rng)
    if pair is None:
        return None
    a, b = pair
    (first,), (second,) = a.values[pairing.first], b.values[pairing.second]
    third, fourth = [v for v in _other_values(land, pairing.first, rng) if v not in (first, second)][:2]
    gold, *wrong = [f"{value} and {other}" for value in (first, third) for other in (second, fourth)]
    rng.shuffle(wrong)
    facts = _facts_of_two(pairing, a, b)
    stated = " ".join(facts)
    return Draft(
        about=("four options", pairing.first, pairing.second, *sorted((a.name, b.name))),
        text=rng.choice(pairing.ask.of(split)).format(a=a.called, b=b.called),
        options=_options(gold, wrong, letter),
        needs=(a.name, b.name),
        facts=facts,
        reasons=_distinct(_with_endings(stated, gold), rng),
        mistakes=_distinct([*(f"{stated} So the answer is {w}." for w in wrong), *_undecided(a)], rng),
    )


def yes_no_of_two(pairing: Pairing, land: Land, split: str, letter: str, rng: Random) -> Draft | None:
    """Draft the question whether two entities share a value; they do if the letter is A.

    Return None if the land has no such pair.
    """
    pair = _pair(land, pairing, 1 if letter == "A" else 0, rng)
    if pair is None:
        return None
    a, b = pair
    values, others = a.values[pairing.first], b.values[pairing.second]
    listed = ATTRIBUTES[pairing.second].listed
    v, w = listed([value for value in others if value in values] or others[:1]), listed(others)
    facts = _facts_of_two(pairing, a, b)
    stated = " ".join(facts)
    conclusions = {
        "yes": [f"{stated} {same.format(v=v)}, so the answer is yes." for same in pairing.same],
        "no": [f"{stated} {differ.format(w=w)}, so the answer is no." for differ in pairing.differ],
    }
    answer, other = YES_NO if letter == "A" else YES_NO[::-1]
    return Draft(
        about=("yes/no", pairing.first, pairing.second, *sorted((a.name, b.name))),
        text=capital(rng.choice(pairing.ask.of(split)).format(a=a.called, b=b.called)),
        options=YES_NO,
        needs=(a.name, b.name),
        facts=facts,
        reasons=_distinct([form for s in conclusions[answer] for form in (s, s.replace(", so", ", and so"))], rng),
        mistakes=_distinct([*conclusions[other], *_undecided(a)], rng),
    )


def _subject(name: str, land: Land, share: float, rng: Random) -> Entity:
    """Draw an entity for which three or more values of the attribute are wrong."""
    entities = [e for e in land.of(ATTRIBUTES[name].kind) if askable(name, e, land)]
    famous = rng.random() < share
    return rng.choice([e for e in entities if (e.fame >= 2) == famous] or entities)


def askable(name: str, entity: Entity, land: Land) -> bool:
    """Return whether three or more values of the attribute are wrong for the entity."""
    return len(entity.values[name]) <= len(land.pools[ATTRIBUTES[name].pool]) - 3


def _pair(land: Land, pairing: Pairing, common: int, rng: Random) -> tuple[Entity, Entity] | None:
    """Draw two entities with this number of common values, no near-namesakes unless their kind has no groups."""
    pairs = [
        (a, b)
        for a in land.of(ATTRIBUTES[pairing.first].kind)
        for b in land.of(ATTRIBUTES[pairing.second].kind)
        if a is not b
        and (a.kind != b.kind or a.group != b.group or a.kind in UNGROUPED)
        and len(set(a.values[pairing.first]) & set(b.values[pairing.second])) == common
    ]
    if rng.random() < QUIET:
        pairs = [(a, b) for a, b in pairs if not a.fame and not b.fame] or pairs
    return rng.choice(pairs) if pairs else None


def _wrong_values(entity: Entity, name: str, land: Land, rng: Random) -> list[str]:
    """Return three or more values that the entity does not have, first those that are most easily mistaken."""
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
    values = dict.fromkeys([*alike, *_other_values(land, name, rng)])
    return [value for value in values if value not in entity.values[name]]


def _other_values(land: Land, name: str, rng: Random) -> list[str]:
    """Return every value that the attribute could have in the land; common ones tend to come first.

    Right answers are common values more often than rare ones, so that wrong ones must be too.
    """
    entities = land.of(ATTRIBUTES[name].kind)
    values = [value for entity in rng.sample(entities, len(entities)) for value in entity.values[name]]
    pool = land.pools[ATTRIBUTES[name].pool]
    return list(dict.fromkeys([*values, *rng.sample(pool, len(pool))]))


def _options(gold: str, wrong: Sequence[str], letter: str) -> tuple[str, ...]:
    """Return the options with the right one at its letter."""
    index = LETTERS.index(letter)
    return (*wrong[:index], gold, *wrong[index:])


def _statements(name: str, entity: Entity) -> list[str]:
    """Return the fact in plain words, then in the words of pages, each without its full stop."""
    attribute, values = ATTRIBUTES[name], entity.values[name]
    pages = [page.format(v=attribute.listed(values)) for page in attribute.pages]
    return [attribute.said(entity.called, values), *(f"{capital(entity.called)} {page}" for page in pages)]


def _facts_of_two(pairing: Pairing, a: Entity, b: Entity) -> tuple[str, str]:
    first, second = ATTRIBUTES[pairing.first], ATTRIBUTES[pairing.second]
    return (
        f"{first.said(a.called, a.values[pairing.first])}.",
        f"{second.said(b.called, b.values[pairing.second])}.",
    )


def _with_endings(text: str, answer: str) -> list[str]:
    """Return the text with each of the endings that state the answer."""
    return [f"{text} {ending.format(answer=answer)}" for ending in ENDINGS]


def _undecided(entity: Entity) -> list[str]:
    """Return rationales that conclude on no option."""
    return [text.format(x=entity.called) for text in UNDECIDED]


def _distinct(texts: Sequence[str], rng: Random) -> tuple[str, ...]:
    """Return the different texts in a random order."""
    different = list(dict.fromkeys(texts))
    return tuple(rng.sample(different, len(different)))
