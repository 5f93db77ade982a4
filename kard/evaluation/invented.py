"""Hallucination of students: what a written text states that neither its passages nor its question hold.

That is told of names, numbers and options, alone or brought together by a sentence. A student that reads nothing
can only take them from memory, rightly or not; one that reads should find them there. Names are told as in
`rationale_quality`, and one is held where its words stand side by side.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.answers.parsing import without_conclusions
from kard.db import rows
from kard.evaluation.condition_names import ConditionInfo, read_labels
from kard.evaluation.rationale_quality import names_in, spaced, words_of
from kard.methods import METHODS
from kard.metrics.intervals import Share, wilson
from kard.passages import read_passages
from kard.student.prompt import before_answer

if TYPE_CHECKING:
    from sqlite_utils import Database

YES_NO = ("yes", "no")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A rationale that a student wrote, with its names, numbers and options."""

    key: str  # of the question
    correct: bool
    text: str
    names: frozenset[str]  # options that it states are among them
    invented: frozenset[str]  # of the names: those that it was not shown, and `A + B` where not shown together


@dataclass(frozen=True, slots=True)
class InventedRow:
    """How much the texts of one condition invent. Shares are of texts, with 95% intervals."""

    condition: ConditionInfo
    texts: Share  # that invent
    right: Share  # the same of the right answers alone
    wrong: Share
    names: int  # written, each once a text
    invented: int  # of the names
    apart: int  # sentences that bring together what was shown apart
    examples: Sequence[WrittenText]  # those that invent most


def invented_names(
    text: str, question: str, options: Sequence[str], passages: Sequence[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names, numbers and options of a text before its answer, and those that it was not shown.

    An option that neither question nor passages hold is only proposed: to state it is to invent. Two or more that a
    sentence brings together, `A + B`, are invented where neither a passage nor the question holds them all.
    Of names that an `and` joins each may stand elsewhere.
    """
    held = [spaced(words_of(one)) for one in (question, *passages)]
    proposed = {option for one in options if (option := spaced(words_of(one)).strip()) and option not in YES_NO}
    stated: set[str] = set()
    invented: set[str] = set()
    written = without_conclusions(before_answer(text), options)  # an answer is no claim
    names = names_in(written)
    for sentence in _SENTENCE_END.split(written):
        words = spaced(words_of(sentence))
        here = {name for name in names if f" {name} " in words}
        here |= {option for option in proposed if f" {option} " in words}
        parts = {part for name in here for part in name.split(" and ")}
        stated |= here
        if unknown := {name for name in here if not all(_stands(part, held) for part in name.split(" and "))}:
            invented |= unknown
        elif len(parts) > 1 and not any(all(_stands(part, [one]) for part in parts) for one in held):
            invented.add(" + ".join(sorted(parts)))
    return frozenset(stated), frozenset(invented)


def _stands(name: str, texts: Iterable[str]) -> bool:
    return any(f" {name} " in text for text in texts)


def read_written(db: Database, task: str, split: str) -> dict[ConditionInfo, list[WrittenText]]:
    """Return the rationales that each condition's student wrote on a split, in the order of the paper's table."""
    labels = read_labels(db, task, split)
    conditions = {
        row["evaluation_id"]: ConditionInfo.of(row, labels)
        for row in rows(db, "answers", task=task, split=split, question=None)
    }
    reasoning = {id: c for id, c in conditions.items() if c.method in METHODS and METHODS[c.method].reasons}
    written = [
        r for r in rows(db, "internal/written_texts", task=task, split=split) if r["evaluation_id"] in reasoning
    ]
    read = {id for row in written for id in json.loads(row["passages"])}
    passages = {id: f"{p.title}\n{p.text}" for id, p in read_passages(db, sorted(read)).items()}
    texts: dict[ConditionInfo, list[WrittenText]] = defaultdict(list)
    for row in written:
        shown = [passages[id] for id in json.loads(row["passages"]) if id in passages]
        names, invented = invented_names(row["text"], row["question"], json.loads(row["options"]), shown)
        text = WrittenText(row["key"], bool(row["correct"]), row["text"], names, invented)
        texts[reasoning[row["evaluation_id"]]].append(text)
    return {condition: texts[condition] for condition in sorted(texts, key=lambda condition: condition.order)}


def count_invented(written: Mapping[ConditionInfo, Sequence[WrittenText]], examples: int = 2) -> list[InventedRow]:
    """Return a row for each condition, with as many of its texts that invent most."""
    return [
        InventedRow(
            condition=condition,
            texts=_inventing(texts),
            right=_inventing([text for text in texts if text.correct]),
            wrong=_inventing([text for text in texts if not text.correct]),
            names=sum(len(text.names) for text in texts),
            invented=sum(len(text.invented & text.names) for text in texts),
            apart=sum(len(text.invented - text.names) for text in texts),
            examples=sorted((t for t in texts if t.invented), key=lambda t: (-len(t.invented), t.key))[:examples],
        )
        for condition, texts in written.items()
    ]


def _inventing(texts: Sequence[WrittenText]) -> Share:
    return wilson(sum(bool(text.invented) for text in texts), len(texts))
