"""Graded answers: rows of the store or of an exported file, and how they are grouped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from kard.db import rows
from kard.evaluation.condition_names import read_labels, table_order

if TYPE_CHECKING:
    from sqlite_utils import Database


ConditionKey = tuple[str, str, str, str]  # size, method, retriever, variant


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """One prediction of one condition, graded: a row of the query `graded_answers`, or of its export.

    Tokens are summed over the prediction's samples. They, milliseconds, FLOPs and what was forced are None where a
    file lacks them.
    """

    size: str
    method: str
    seed: int
    retriever: str
    k: int
    kind: str
    key: str
    options: int
    gold: str
    answer: str | None
    correct: int
    variant: str = ""  # the condition's label (`kard.evaluation.condition_names`)
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    milliseconds: float | None = None
    flops: float | None = None
    f1: float | None = None  # of a short answer
    forced: float | None = None  # share of its texts that named no option, so that one was chosen for them

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> GradedAnswer:
        """Return the answer of a row that has at least the columns without a default here."""
        names = [f.name for f in fields(cls) if f.default is MISSING or f.name in row]
        return cls(**{name: row[name] for name in names})


def graded_rows(db: Database, task: str, split: str) -> list[dict[str, Any]]:
    """Return the rows of the query `graded_answers`, each with its `variant`."""
    labels = read_labels(db, task, split)
    answers = rows(db, "internal/graded_answers", task=task, split=split)
    return [{**row, "variant": labels[row["evaluation_id"]]} for row in answers]


def read_graded(db: Database, task: str, split: str) -> list[GradedAnswer]:
    """Return every graded answer of a split."""
    return [GradedAnswer.of(row) for row in graded_rows(db, task, split)]


def kinds_of(graded: Sequence[GradedAnswer]) -> list[str]:
    """Return 'all' and, if there are several kinds of questions, each kind in alphabetical order."""
    kinds = sorted({answer.kind for answer in graded})
    return ["all", *kinds] if len(kinds) > 1 else ["all"]


def by_condition(graded: Iterable[GradedAnswer]) -> dict[ConditionKey, list[GradedAnswer]]:
    """Return the answers of each condition, all its seeds together, in the order of the paper's table."""
    groups: dict[ConditionKey, list[GradedAnswer]] = defaultdict(list)
    for answer in graded:
        groups[answer.size, answer.method, answer.retriever, answer.variant].append(answer)
    return dict(sorted(groups.items(), key=lambda item: (table_order(*item[0][:3]), item[0][3])))


def right_by_question(graded: Iterable[GradedAnswer]) -> dict[str, list[int]]:
    """Return 1 or 0 for each answer to each question, by the question's key: one answer per seed."""
    rights: dict[str, list[int]] = defaultdict(list)
    for answer in graded:
        rights[answer.key].append(answer.correct)
    return dict(rights)


def rights_by_seed(group: Iterable[GradedAnswer]) -> dict[int, dict[str, int]]:
    """Return 1 or 0 for each answer, by seed and by the question's key."""
    rights: dict[int, dict[str, int]] = defaultdict(dict)
    for answer in group:
        rights[answer.seed][answer.key] = answer.correct
    return dict(sorted(rights.items()))
