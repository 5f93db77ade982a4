"""Short names for things that have several parts, and what a person may have meant by one: pure.

`kard/reranker` names the condition (135m, kard, reranker); so does `rer`, when nothing else begins like that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from kard.errors import BadInput

Thing = TypeVar("Thing")
Parts = Sequence[str]


def meant(word: str, parts: Mapping[Thing, Parts]) -> list[Thing]:
    """The things that the word may name, in their order.

    The word's own parts, between slashes, are a thing's parts or their beginnings, in order, with gaps. Only the
    things with the most whole parts are meant: `few-shot` is not `few-shot-cot`.
    """
    given = [part for part in word.strip().split("/") if part]
    scores = {thing: _score(given, own) for thing, own in parts.items()}
    best = max(scores.values(), default=-1)
    return [thing for thing, score in scores.items() if score == best >= 0]


def one_of(word: str, parts: Mapping[Thing, Parts], what: str) -> Thing:
    """The only thing that the word may name. Raises BadInput with what there is."""
    found = meant(word, parts)
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"{word!r} may mean {listed(parts[thing] for thing in found)}; name one of them")
    raise BadInput(f"no {what} {word!r}; there are {listed(parts.values())}")


def listed(several: Iterable[Parts]) -> str:
    """The names of several things, joined for a message."""
    return ", ".join("/".join(parts) for parts in several)


def _score(given: Parts, own: Parts) -> int:
    """How many of the given parts are whole parts, in the best way to match them; -1 when they do not match."""
    if not given:
        return -1
    best = -1
    for chosen in combinations(own, len(given)):
        if all(part.startswith(start) for start, part in zip(given, chosen, strict=True)):
            best = max(best, sum(start == part for start, part in zip(given, chosen, strict=True)))
    return best
