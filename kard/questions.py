"""Read questions from the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from kard.config import EVALUATION_SPLITS, QueryForm, RationaleForm
from kard.db import rows
from kard.errors import Missing
from kard.records import Question, digest

if TYPE_CHECKING:
    from pathlib import Path

    from sqlite_utils import Database

RECORDED = "recorded:"  # prefix of `teachers.model` for rationales from a file


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The first `limit` questions of a task's split, in the order of ids; of these, those that were drawn.

    `split` None means all splits; `limit` None means all questions; `drawn` None means that none were left out.
    """

    task: str
    split: str | None = None
    limit: int | None = None
    drawn: tuple[int, ...] | None = None  # row ids
    fraction: float = 1.0  # share that was drawn
    seed: int = 0  # of the draw

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters :task, :split, :limit and :drawn of a named query; training uses :drawn."""
        limit = -1 if self.limit is None else self.limit
        drawn = None if self.drawn is None else json.dumps(self.drawn)
        return {"task": self.task, "split": self.split, "limit": limit, "drawn": drawn}

    def draw(self, db: Database, fraction: float, seed: int) -> QuestionSet:
        """Return this share of the questions with an answer, at least one.

        It holds every smaller share of the same seed.
        """
        if fraction == 1:
            return self
        questions = replace(self, limit=None).read(db)
        answered = [row for row, question in questions.items() if question.answer is not None][: self.limit]
        ordered = sorted(answered, key=lambda row: digest("fraction", str(seed), questions[row].key))
        drawn = sorted(ordered[: max(1, round(fraction * len(ordered)))])
        return replace(self, drawn=tuple(drawn), fraction=fraction, seed=seed)

    def read(self, db: Database) -> dict[int, Question]:
        """Return the questions by row id.

        Evidence is in alphabetical order; `rationale` is '', since rationales are rows of their own.
        """
        return {cast(int, row["id"]): question_of(row) for row in rows(db, "internal/questions", **self.parameters)}


def evaluated_split(db: Database, task: str, store: Path) -> str:
    """Return the split that is evaluated where none is named.

    Raises Missing if the task has no questions, or none but those for training.
    """
    splits = [row[0] for row in db.execute("select distinct split from questions where task = ?", [task])]
    for split in EVALUATION_SPLITS:
        if split in splits:
            return split
    if not splits:
        raise Missing(f"no questions of {task} in {store}; load them with: kard load {task} FILE")
    raise Missing(f"no question of {task} to evaluate on; load some with: kard load {task} FILE --split test")


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched with for a question."""

    texts: tuple[str, ...]  # each is searched with; a passage has the best score that any of them gives it
    read: str  # the one text that a reranker compares with passages


def query_of(text: str, options: Sequence[str], form: QueryForm) -> Query:
    """Return the query of a question in that form; the text alone where there are no options."""
    if form == "question" or not options:
        return Query((text,), text)
    joined = " ".join((text, *options))
    return Query((joined,) if form == "question+options" else tuple(f"{text} {o}" for o in options), joined)


def query_of_row(row: Mapping[str, Any], form: QueryForm) -> Query:
    """Return the query of a row with `text` and `options` of a question."""
    return query_of(row["text"], json.loads(row["options"]), form)


def query_of_rationale(text: str, rationale: str, form: RationaleForm) -> str:
    """Return what is searched with for a rationale of the question `text`."""
    return rationale if form == "rationale" else f"{text} {rationale}"


def question_of(row: Mapping[str, Any]) -> Question:
    """Return the question of a row of `questions` with its documents as a JSON list in `evidence`."""
    lists = {name: tuple[str, ...](json.loads(row[name])) for name in ("options", "facts", "evidence")}
    return Question(
        key=row["key"],
        split=row["split"],
        text=row["text"],
        options=lists["options"],
        answer=row["answer"],
        evidence=tuple(sorted(lists["evidence"])),
        facts=lists["facts"],
        kind=row["kind"],
    )
