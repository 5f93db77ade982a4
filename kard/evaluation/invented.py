"""Hallucination of students: names and numbers of a written text that neither its passages nor its question hold.

A student that reads nothing can only take them from memory, rightly or not; one that reads should find them there.
Names are told as in `rationale_quality`, and one is held where its words stand side by side.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.db import rows
from kard.evaluation.condition_names import ConditionInfo, read_labels
from kard.evaluation.rationale_quality import names_in, spaced, words_of
from kard.methods import METHODS
from kard.metrics.intervals import Share, wilson
from kard.passages import read_passages
from kard.student.prompt import before_answer

if TYPE_CHECKING:
    from sqlite_utils import Database


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A rationale that a student wrote, with its names and numbers."""

    key: str  # of the question
    correct: bool
    text: str
    names: frozenset[str]
    invented: frozenset[str]  # of the names: those that it was not shown


@dataclass(frozen=True, slots=True)
class InventedRow:
    """How much the texts of one condition invent. Shares are of texts, with 95% intervals."""

    condition: ConditionInfo
    texts: Share  # with an invented name or number
    right: Share  # the same of the right answers alone
    wrong: Share
    names: int  # written, each once a text
    invented: int
    examples: Sequence[WrittenText]  # those that invent most


def invented_names(text: str, shown: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names and numbers of a text before its answer, and those that nothing that was shown holds.

    Of names that an `and` joins each may stand elsewhere.
    """
    held = [spaced(words_of(one)) for one in shown]
    names = frozenset(names_in(before_answer(text)))

    def invented(name: str) -> bool:
        return not all(any(f" {part} " in one for one in held) for part in name.split(" and "))

    return names, frozenset(name for name in names if invented(name))


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
        names, invented = invented_names(row["text"], [row["question"], *json.loads(row["options"]), *shown])
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
            invented=sum(len(text.invented) for text in texts),
            examples=sorted((t for t in texts if t.invented), key=lambda t: (-len(t.invented), t.key))[:examples],
        )
        for condition, texts in written.items()
    ]


def _inventing(texts: Sequence[WrittenText]) -> Share:
    return wilson(sum(bool(text.invented) for text in texts), len(texts))
