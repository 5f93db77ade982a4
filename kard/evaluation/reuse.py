"""Answers that need no second writing: greedy decoding says the same over the same passages."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from kard.db import now, writing
from kard.evaluation.passages_read import Reading

if TYPE_CHECKING:
    from sqlite_utils import Database

FOUND = """
select p.id, p.question_id, p.passages from predictions p
join evaluations mine on mine.id = :evaluation
join evaluations e on e.id = p.evaluation_id
where e.id <> mine.id and e.student_id = mine.student_id and e.decoding = mine.decoding
order by p.id
"""
COPY = """
insert into predictions (evaluation_id, question_id, answer, correct, votes, passages, milliseconds, flops, created)
select :evaluation, question_id, answer, correct, votes, passages, milliseconds, flops, :now
from predictions where id = :id
"""
COPY_SAMPLES = """
insert into samples (prediction_id, sample, text, answer, forced, prompt_tokens, completion_tokens)
select :copy, sample, text, answer, forced, prompt_tokens, completion_tokens from samples where prediction_id = :id
"""


def repeat(db: Database, evaluation: int, questions: Collection[int], read: Reading) -> set[int]:
    """Copy what the same student wrote, decoded alike, over the same passages in the same order.

    Another retriever often finds the same passages. The questions that are answered by that; each is committed
    whole. Only for greedy decoding: what is drawn is drawn anew for every condition.
    """
    done: set[int] = set()
    for earlier, question, passages in list(db.execute(FOUND, {"evaluation": evaluation})):
        wanted = [p.id for p in read.get(question, ())]
        if question not in questions or question in done or json.loads(passages) != wanted:
            continue
        with writing(db):
            made = db.execute(COPY, {"evaluation": evaluation, "now": now(), "id": earlier})
            db.execute(COPY_SAMPLES, {"copy": made.lastrowid, "id": earlier})
        done.add(question)
    return done
