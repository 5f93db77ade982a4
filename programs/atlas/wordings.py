"""What a wording is made of. Evaluation asks in no wording of training, but in words that training knows.

`{x}` is what is asked about, `{v}` a value, `{a}` and `{b}` the two things that are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wordings:
    """The ways to ask one thing, apart for training and for evaluation."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, split: str) -> tuple[str, ...]:
        """The wordings of 'train' or of 'test'."""
        return {"train": self.train, "test": self.test}[split]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One kind of fact. A statement of it is: called name, verb, values, full stop."""

    kind: str  # of the entities that have it
    pool: str  # what its values are drawn from
    verb: str
    pages: tuple[str, ...]  # how pages say it, after the name; {v} holds every value
    ask: Wordings  # with four options
    claim: Wordings  # yes or no
    item: str = "{v}"  # a value as it stands in a sentence
    weight: int = 1  # how often it is asked for

    def listed(self, values: Sequence[str]) -> str:
        """The values in a sentence: 'the flute and the fiddle'."""
        items = [self.item.format(v=value) for value in values]
        return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))

    def said(self, called: str, values: Sequence[str]) -> str:
        """The statement, without its full stop, as it begins a sentence."""
        return f"{capital(called)} {self.verb} {self.listed(values)}"


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two attributes: what each of two things has, or whether they have a value in common."""

    first: str  # attribute names
    second: str
    ask: Wordings
    same: tuple[str, ...] = ()  # what a comparison shows; {v} is the shared value in a sentence
    differ: tuple[str, ...] = ()


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[0].upper() + text[1:]
