"""The page of one question: all that led to each answer it was given."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from datasette import NotFound, Response
from datasette.app import Datasette
from datasette.utils.asgi import Request

from kard.records import LETTERS
from kard.ui.guard import OWN
from kard.ui.pages import answer, store_of

SHOWN = 10  # of a list of passages before the rest is folded away

HITS = """
select h.rank, h.passage_id, h.bm25 as score, h.question_rank, p.title, p.text
from hits h join passages p on p.id = h.passage_id where h.retrieval_id = ? order by h.rank
"""
RANKED = """
select s.rank, s.passage_id, s.score, null as question_rank, p.title, p.text
from rerank_scores s join passages p on p.id = s.passage_id
where s.retrieval_id = ? and s.reranker_id = ? order by s.rank
"""


async def page(datasette: Datasette, request: Request) -> Response:
    """The trace of the question that the address names. Raises NotFound."""
    number = int(request.url_vars["id"])
    found = await store_of(datasette).read(lambda c: gather(c, number))
    if found is None:
        raise NotFound(f"no question {number} in this store")
    return await answer(datasette, request, "kard_question.html", {**found, "own": OWN, "shown": SHOWN})


def gather(connection: sqlite3.Connection, number: int) -> dict[str, Any] | None:
    """What the page shows of a question, None when there is no such question."""

    def rows(sql: str, *values: object) -> list[dict[str, Any]]:
        cursor = connection.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    questions = rows("select * from questions where id = ?", number)
    if not questions:
        return None
    question = questions[0]
    needed = {
        r["passage_id"]: r["source"] for r in rows("select * from needed_passages where question_id = ?", number)
    }
    lists: list[dict[str, Any]] = []
    for retrieval in rows("select * from retrievals where question_id = ? order by id", number):
        by = (
            f"BM25 by rationale {retrieval['rationale_id']}"
            if retrieval["rationale_id"]
            else "BM25 by the question"
        )
        lists.append({"title": by, "hits": rows(HITS, retrieval["id"])})
        lists += [
            {
                "title": f"reranker {reranker['id']}",
                "hits": rows(RANKED, retrieval["id"], reranker["id"]),
            }
            for reranker in rows(
                "select distinct reranker_id as id from rerank_scores where retrieval_id = ?", retrieval["id"]
            )
        ]
    conditions = rows(
        "select p.*, s.size, s.method, s.seed, e.retriever, e.k from predictions p"
        " join evaluations e on e.id = p.evaluation_id join students s on s.id = e.student_id"
        " where p.question_id = ? order by s.size, s.method, e.retriever",
        number,
    )
    for condition in conditions:
        condition["samples"] = rows(
            "select * from samples where prediction_id = ? order by sample", condition["id"]
        )
        condition["read"] = [
            row
            for passage in json.loads(condition["passages"])
            for row in rows("select id as passage_id, title, text from passages where id = ?", passage)
        ]
    return {
        "question": question,
        "options": list(zip(LETTERS, json.loads(question["options"]), strict=False)),
        "rationales": rows(
            "select r.*, t.name as teacher from rationales r join teachers t on t.id = r.teacher_id"
            " where r.question_id = ? order by t.name, r.sample",
            number,
        ),
        "needed": needed,
        "lists": [found for found in lists if found["hits"]],
        "conditions": conditions,
    }
