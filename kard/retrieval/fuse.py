"""BM25 and the reranker as one order: chosen on held-out training questions, kept like the reranker's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from sqlite_utils import Database

from kard.config import Retrieval
from kard.db import batches, marks
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.progress import SILENT, Progress
from kard.reranker.model import Reranker
from kard.retrieval.fusion import Floats, Fusion, Judged, Tuned, fused, tune
from kard.retrieval.rankings import Ranked, Retriever, keep_rankings, keep_retriever
from kard.retrieval.rerank import encodings_of, prefetch, scores_of

SILVER = 3  # a rationale's first passages count as needed (the paper's Hits@k)
TOGETHER = 256  # questions a commit

JUDGES = """
select q.key, q.text, t.id, h.passage_id from questions q
join rationales t on t.question_id = q.id and t.accepted = 1 and (:teacher is null or t.teacher_id = :teacher)
join retrievals r on r.rationale_id = t.id and r.index_id = :index
join hits h on h.retrieval_id = r.id and h.rank <= :silver
where q.task = :task and q.split = 'train' order by q.id, t.id
"""
EVIDENCE = """
select q.key, p.id from evidence e join questions q on q.id = e.question_id
join passages p on p.document = e.document where q.task = :task and q.split = 'train'
"""
LISTS = """
select r.question_id, h.passage_id, h.bm25, s.score from retrievals r
join hits h on h.retrieval_id = r.id
join rerank_scores s on s.retrieval_id = r.id and s.passage_id = h.passage_id and s.reranker_id = ?
where h.rank <= ? and r.query = 'question' and r.index_id = ? and r.question_id in ({marks})
order by r.question_id, h.rank
"""
EMPTY = """
select question_id from retrievals r where query = 'question' and index_id = ? and question_id in ({marks})
and not exists (select 1 from hits where retrieval_id = r.id)
"""


@dataclass(frozen=True, slots=True)
class RelevanceLabels:
    """A training question with the passages that judges say it needs, and how much each judge counts, 1 in all.

    Its rationales judge by the passages that they find first. Where evidence is named, that counts for one half:
    BM25, which finds the rationales' passages, would have too much of a say otherwise.
    """

    key: str
    text: str
    judges: tuple[frozenset[str], ...]
    says: tuple[float, ...]

    @classmethod
    def of(
        cls, key: str, text: str, rationales: Sequence[frozenset[str]], evidence: frozenset[str]
    ) -> RelevanceLabels:
        """From what each rationale finds and what is named as evidence, which may be nothing."""
        if not evidence:
            return cls(key, text, tuple(rationales), (1 / len(rationales),) * len(rationales))
        half = 0.5 / len(rationales)
        return cls(key, text, (evidence, *rationales), (0.5, *(half for _ in rationales)))

    def judged(self, passages: Sequence[str], bm25: Floats, scores: Floats) -> Judged:
        """These passages with what the judges say of them."""
        needed = np.array([[i in judge for i in passages] for judge in self.judges], dtype=np.bool_)
        return Judged(bm25, scores, needed, np.array(self.says))


def needs_of(db: Database, task: str, index_id: str, *, teacher_id: str | None = None) -> list[RelevanceLabels]:
    """Every training question with accepted rationales that were searched with."""
    values = {"task": task, "index": index_id, "teacher": teacher_id, "silver": SILVER}
    evidence: dict[str, set[str]] = {}
    for key, passage in db.execute(EVIDENCE, {"task": task}):
        evidence.setdefault(key, set()).add(passage)
    found: list[RelevanceLabels] = []
    for (key, text), rows in groupby(db.execute(JUDGES, values), key=lambda row: (row[0], row[1])):
        rationales = [frozenset(row[3] for row in some) for _, some in groupby(rows, key=lambda row: row[2])]
        found.append(RelevanceLabels.of(str(key), str(text), rationales, frozenset(evidence.get(key, ()))))
    return found


def choose(
    db: Database,
    kb: KnowledgeBase,
    reranker: Reranker,
    reranker_id: str,
    held_out: Sequence[RelevanceLabels],
    settings: Retrieval,
    *,
    progress: Progress = SILENT,
) -> Tuned:
    """The fusion that finds most of what these questions need; they must not have taught the reranker."""
    hits = [kb.search(needs.text, settings.kappa, max_df=settings.max_df) for needs in held_out]
    passages = {hit.passage.id: hit.passage for some in hits for hit in some}
    encodings = encodings_of(db, reranker, reranker_id, kb.folder) if passages else None
    if encodings is not None:
        prefetch(reranker, encodings, list(passages), lambda ids: [passages[i] for i in ids], progress=progress)
    lists = [[hit.passage for hit in some] for some in hits]
    scores = scores_of(reranker, [needs.text for needs in held_out], lists)
    if encodings is not None:
        encodings.close()
    return tune(
        [
            needs.judged(
                [hit.passage.id for hit in some], np.array([hit.bm25 for hit in some]), values.astype(np.float64)
            )
            for needs, some, values in zip(held_out, hits, scores, strict=True)
            if some
        ]
    )


def keep(db: Database, reranker_id: str, tuned: Tuned, milliseconds: float) -> str:
    """Write down a fusion of BM25 with this reranker; its id."""
    base, sha256 = db.execute("select base, base_sha256 from rerankers where id = ?", [reranker_id]).fetchone()
    retriever = Retriever("fused", base, sha256, reranker_id, tuned.fusion.values())
    return keep_retriever(db, retriever, tuned.metrics(), milliseconds)


def fuse(
    db: Database,
    retriever_id: str,
    fusion: Fusion,
    reranker_id: str,
    index_id: str,
    kappa: int,
    questions: Sequence[int],
    *,
    progress: Progress = SILENT,
) -> int:
    """Order anew the first `kappa` by BM25 of those of these questions that the reranker has ranked; how many."""
    done = 0
    with progress.bar("fuse", len(questions)) as advance:
        for some in batches(questions, TOGETHER):
            rows = db.execute(LISTS.format(marks=marks(some)), [reranker_id, kappa, index_id, *some])
            ranked = [
                _ranked(fusion, question, list(rows)) for question, rows in groupby(rows, key=lambda row: row[0])
            ]
            empty = db.execute(EMPTY.format(marks=marks(some)), [index_id, *some])
            ranked += [Ranked(question, (), 0.0) for (question,) in empty]
            keep_rankings(db, retriever_id, index_id, kappa, ranked)
            done += len(ranked)
            advance(len(some))
    return done


def _ranked(fusion: Fusion, question: int, rows: Sequence[tuple[int, str, float, float]]) -> Ranked:
    started = time.perf_counter()
    scores = fused(fusion, np.array([row[2] for row in rows]), np.array([row[3] for row in rows]))
    places = np.argsort(-scores, kind="stable")  # equals keep BM25's order
    passages = [(rows[i][1], float(scores[i])) for i in places]
    return Ranked(question, passages, (time.perf_counter() - started) * 1000)
