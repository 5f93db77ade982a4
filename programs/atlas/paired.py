"""Questions that two pages answer: what each of two things has, or whether they have it in common."""

from __future__ import annotations

from random import Random

from .attributes import ATTRIBUTES
from .drafts import YES_NO, Draft, ended, ordered, other_values, shuffled, unsure
from .facts import Entity, Land
from .wordings import Pairing, capital

UNGROUPED = ("river", "place")  # a land's rivers are one group, and its places
QUIET = 0.4  # of the pairs have no place named after either, which would stand between the two pages


def four_options(pairing: Pairing, land: Land, split: str, letter: str, rng: Random) -> Draft | None:
    """What each of the two has, in the order of their names; None when no two of the land have different values.

    Each of two values for the one stands with each of two for the other: who has read one page is left with two
    options, and who has read none sees nothing in them.
    """
    pair = _pair(land, pairing, 0, rng)
    if pair is None:
        return None
    a, b = pair
    (first,), (second,) = a.values[pairing.first], b.values[pairing.second]
    third, fourth = [value for value in other_values(land, pairing.first, rng) if value not in (first, second)][:2]
    gold, *wrong = [f"{value} and {other}" for value in (first, third) for other in (second, fourth)]
    rng.shuffle(wrong)
    facts = _facts(pairing, a, b)
    told = " ".join(facts)
    return Draft(
        about=("four options", pairing.first, pairing.second, *sorted((a.name, b.name))),
        text=rng.choice(pairing.ask.of(split)).format(a=a.called, b=b.called),
        options=ordered(gold, wrong, letter),
        needs=(a.name, b.name),
        facts=facts,
        reasons=shuffled(ended(told, gold), rng),
        mistakes=shuffled([*(f"{told} So the answer is {w}." for w in wrong), *unsure(a)], rng),
    )


def yes_no(pairing: Pairing, land: Land, split: str, letter: str, rng: Random) -> Draft | None:
    """Whether the two have a value in common; None when no two of the land have, or lack, one."""
    pair = _pair(land, pairing, 1 if letter == "A" else 0, rng)
    if pair is None:
        return None
    a, b = pair
    ours, theirs = a.values[pairing.first], b.values[pairing.second]
    listed = ATTRIBUTES[pairing.second].listed
    v, w = listed([value for value in theirs if value in ours] or theirs[:1]), listed(theirs)
    facts = _facts(pairing, a, b)
    told = " ".join(facts)
    said = {
        "yes": [f"{told} {same.format(v=v)}, so the answer is yes." for same in pairing.same],
        "no": [f"{told} {differ.format(w=w)}, so the answer is no." for differ in pairing.differ],
    }
    answer, other = YES_NO if letter == "A" else YES_NO[::-1]
    return Draft(
        about=("yes/no", pairing.first, pairing.second, *sorted((a.name, b.name))),
        text=capital(rng.choice(pairing.ask.of(split)).format(a=a.called, b=b.called)),
        options=YES_NO,
        needs=(a.name, b.name),
        facts=facts,
        reasons=shuffled([form for s in said[answer] for form in (s, s.replace(", so", ", and so"))], rng),
        mistakes=shuffled([*said[other], *unsure(a)], rng),
    )


def _facts(pairing: Pairing, a: Entity, b: Entity) -> tuple[str, str]:
    first, second = ATTRIBUTES[pairing.first], ATTRIBUTES[pairing.second]
    return (
        f"{first.said(a.called, a.values[pairing.first])}.",
        f"{second.said(b.called, b.values[pairing.second])}.",
    )


def _pair(land: Land, pairing: Pairing, common: int, rng: Random) -> tuple[Entity, Entity] | None:
    """Two entities with so many values in common, no near-namesakes unless their kind has no groups."""
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
