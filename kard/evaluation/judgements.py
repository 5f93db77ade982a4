"""People's judgements: is a passage what a question needs, is a rationale right? They override what is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kard.db import now, rows, writing
from kard.errors import BadInput

if TYPE_CHECKING:
    from sqlite_utils import Database

Grade = Literal["good", "bad"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One person's judgement of a passage for a question, or of a rationale."""

    id: int
    question_id: int
    key: str  # of the question
    passage_id: str | None
    rationale_id: int | None
    verdict: Grade
    note: str
    author: str
    created: str


def judge(
    db: Database,
    question_id: int,
    verdict: Grade,
    *,
    passage: str | None = None,
    rationale: int | None = None,
    note: str = "",
    author: str = "",
) -> bool:
    """Store a person's judgement of a passage or a rationale. Return whether it replaced one by the same author.

    `passage` is an id or the beginning of one. Raises BadInput if the passage was never found for the question, or
    if the rationale is not one of its own.
    """
    if (passage is None) == (rationale is None):
        raise BadInput("judge one thing at a time: a passage or a rationale")
    if passage is not None:
        passage = _passage_id(db, question_id, passage)
        earlier = db.execute(
            "select id from judgements where question_id = ? and passage_id = ? and author = ?",
            [question_id, passage, author],
        ).fetchone()
    else:
        _check_rationale(db, question_id, rationale)
        earlier = db.execute(
            "select id from judgements where rationale_id = ? and author = ?", [rationale, author]
        ).fetchone()
    row = {
        "question_id": question_id,
        "passage_id": passage,
        "rationale_id": rationale,
        "verdict": verdict,
        "note": note,
        "author": author,
        "created": now(),
    }
    with writing(db):
        if earlier:
            db.execute("delete from judgements where id = ?", [earlier[0]])
        db.table("judgements").insert(row)
    return earlier is not None


def judgements(
    db: Database, *, task: str | None = None, split: str | None = None, question_id: int | None = None
) -> list[Judgement]:
    """Return all judgements, or those of a task, a split or a question; oldest first."""
    stored = rows(db, "internal/judgements", task=task, split=split, question=question_id)
    return [Judgement(*(row[name] for name in Judgement.__slots__)) for row in stored]


def _passage_id(db: Database, question_id: int, beginning: str) -> str:
    """Return the id of the question's passage that begins like this. Raises BadInput if none or several do."""
    ids: list[str] = [r["passage_id"] for r in rows(db, "internal/judgeable_passages", question=question_id)]
    matches = [id for id in ids if id == beginning] or [id for id in ids if beginning and id.startswith(beginning)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise BadInput(f"passage {beginning!r} could be {', '.join(matches[:3])}; give more of its id")
    raise BadInput(
        f"passage {beginning!r} was never found for the question; "
        f"see its passages with: kard explain id:{question_id}"
    )


def _check_rationale(db: Database, question_id: int, rationale: int | None) -> None:
    query = "select id from rationales where question_id = ? order by id"
    ids = [id for (id,) in db.execute(query, [question_id])]
    if rationale not in ids:
        choices = f"its rationales are {', '.join(map(str, ids[:8]))}" if ids else "it has none"
        raise BadInput(f"no rationale {rationale} of that question; {choices}")
