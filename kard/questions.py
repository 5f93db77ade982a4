"""Questions in and out of the store: a file is read whole and checked, then all of it goes in or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from kard.records import Question

if TYPE_CHECKING:
    from sqlite_utils import Database

RECORDED = "recorded:"  # a teacher whose rationales came from a file


def read_questions(
    db: Database, task_name: str, split: str | None = None, limit: int | None = None
) -> list[tuple[int, Question]]:
    """Row id and question in the order of ids: of one split or of all, at most `limit`.

    Evidence is in alphabetical order; `rationale` is '', since rationales are rows of their own.
    """
    found = db.query(
        """
        select id, key, split, text, options, answer, kind, facts,
               (select json_group_array(document) from evidence where question_id = questions.id) as evidence
        from questions where task = :task and (:split is null or split = :split) order by id limit :limit
        """,
        {"task": task_name, "split": split, "limit": -1 if limit is None else limit},
    )
    return [(cast(int, row["id"]), question_of(row)) for row in found]


def question_of(row: Mapping[str, Any]) -> Question:
    """The question of a row of `questions` that has its gold documents as a JSON list in `evidence`."""
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
