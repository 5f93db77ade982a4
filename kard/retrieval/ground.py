"""What a rationale finds: silver passages for the student, candidates for the reranker (sections 3.2 and 3.3).

A rationale names the facts that its question only implies, so its words find better passages. Those teach the
student what to read, and BM25(rationale, passage) teaches the reranker to find them from the question alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlite_utils import Database

from kard.config import Retrieval
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.progress import SILENT, Progress
from kard.retrieval.hits import Found, Writer, prefetch
from kard.retrieval.retrieve import record_index

BATCH = 32  # questions a transaction, each with all its rationales

# Outside the training split the first rationale counts whatever it concludes: its passages are what Hits@k
# asks for, and nothing is trained on them.
UNGROUNDED = """
select q.id, q.text, t.id, t.text from rationales t
join questions q on q.id = t.question_id
left join retrievals r on r.rationale_id = t.id and r.index_id = :index
where q.task = :task and (t.accepted = 1 or (q.split <> 'train' and t.sample = 0))
  and coalesce(r.depth, 0) < :depth
  and (q.split <> 'train' or q.id in (
      select id from questions where task = :task and split = 'train' order by id limit :limit))
order by q.id, t.id
"""


@dataclass(frozen=True, slots=True)
class Ungrounded:
    """A question with its rationales (id, text) that lack passages."""

    question: int
    text: str
    rationales: Sequence[tuple[int, str]]


def ungrounded(
    db: Database, index: str, task: str, settings: Retrieval, *, limit: int | None = None
) -> list[Ungrounded]:
    """The questions whose rationales lack passages of this depth on this index.

    Of the training split only its first `limit` questions count, whether they lack anything or not, so that the
    same limit again asks for nothing more.
    """
    values = {"index": index, "task": task, "depth": settings.depth, "limit": -1 if limit is None else limit}
    rows = db.execute(UNGROUNDED, values)
    return [
        Ungrounded(question, text, [(r[2], r[3]) for r in group])
        for (question, text), group in groupby(rows, key=lambda r: (r[0], r[1]))
    ]


def ground(
    db: Database,
    kb: KnowledgeBase,
    task: str,
    settings: Retrieval,
    *,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> int:
    """Give every rationale that may be trained on or measured with its passages; how many rationales lacked them.

    The passages are the top `depth` by BM25(rationale) and the question's own top `depth`, all in the order of
    BM25(rationale, passage). `limit` counts training questions.
    """
    record_index(db, kb)
    questions = ungrounded(db, kb.id, task, settings, limit=limit)
    total = sum(len(q.rationales) for q in questions)
    writer = Writer(db, kb)
    with progress.bar("Searching with rationales", total) as advance:
        for batch in prefetch(lambda q: grounded(kb, q, settings), questions, BATCH):
            found = [f for some in batch for f in some]
            writer.write(found)
            advance(len(found))
    return total


def grounded(kb: KnowledgeBase, question: Ungrounded, settings: Retrieval) -> list[Found]:
    """The retrieval of each of the question's rationales; the question itself is searched with once."""
    own = kb.find(question.text, settings.depth, max_df=settings.max_df)
    places = {rowid: rank for rank, (rowid, _) in enumerate(own, 1)}
    found: list[Found] = []
    for key, text in question.rationales:
        started = time.perf_counter()
        scores = kb.find_among(text, settings.depth, list(places), max_df=settings.max_df)
        milliseconds = (time.perf_counter() - started) * 1000
        hits = [(rowid, bm25, places.get(rowid)) for rowid, bm25 in scores.items()]
        # Equal scores, such as nothing at all, stand in the question's own order.
        hits.sort(key=lambda hit: (-hit[1], hit[2] or settings.depth + 1, hit[0]))
        found.append(Found(question.question, key, settings.depth, milliseconds, hits))
    return found
