"""Read questions from the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kard.config import QueryForm, RationaleForm
from kard.db import rows
from kard.records import Question

if TYPE_CHECKING:
    from sqlite_utils import Database

RECORDED = "recorded:"  # prefix of `teachers.model` for rationales from a file


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The first `limit` questions of a task's split, in the order of ids.

    `split` None means all splits; `limit` None means all questions.
    """

    task: str
    split: str | None = None
    limit: int | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters :task, :split and :limit of a named query."""
        return {"task": self.task, "split": self.split, "limit": -1 if self.limit is None else self.limit}

    def read(self, db: Database) -> dict[int, Question]:
        """Return the questions by row id.

        Evidence is in alphabetical order; `rationale` is '', since rationales are rows of their own.
        """
        return {cast(int, row["id"]): question_of(row) for row in rows(db, "internal/questions", **self.parameters)}


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
