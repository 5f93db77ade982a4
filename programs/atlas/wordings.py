"""The parts of a wording. Evaluation uses no wording of training, only words that occur in training.

`{x}` is the subject, `{v}` a value, `{a}` and `{b}` the two things that are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wordings:
    """The ways to ask one thing: those of training and those of evaluation."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, split: str) -> tuple[str, ...]:
        """Return the wordings of 'train' or of 'test'."""
        return {"train": self.train, "test": self.test}[split]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A kind of fact. Its statement is: name, verb, values, full stop."""

    kind: str  # the entities that have it
    pool: str  # the values that it may have
    verb: str
    pages: tuple[str, ...]  # how pages state it, after the name; {v} stands for all values
    ask: Wordings  # questions with four options
    claim: Wordings  # claims to affirm or deny
    item: str = "{v}"  # one value in a sentence
    weight: int = 1  # how often questions ask for it

    def listed(self, values: Sequence[str]) -> str:
        """Return the values in a sentence: 'the flute and the fiddle'."""
        items = [self.item.format(v=value) for value in values]
        return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))

    def said(self, called: str, values: Sequence[str]) -> str:
        """Return the statement without its full stop, with a capital first letter."""
        return f"{capital(called)} {self.verb} {self.listed(values)}"


@dataclass(frozen=True, slots=True)
class Pairing:
    """A question about two entities: their values, or whether they have one in common."""

    first: str  # attribute names
    second: str
    ask: Wordings
    same: tuple[str, ...] = ()  # conclusions when a value is shared, {v}
    differ: tuple[str, ...] = ()  # conclusions when none is; {w} stands for the second one's values


def capital(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[0].upper() + text[1:]
