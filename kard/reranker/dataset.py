"""What the reranker learns from: questions with their candidates, each scored by BM25(rationale, passage)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import numpy as np
from sqlite_utils import Database

from kard.config import SILVER_DEPTH
from kard.db import batches, marks
from kard.encoders.encoder import passage_text
from kard.errors import Missing
from kard.records import Passage, digest
from kard.reranker.candidates import Candidates

HELD_OUT_FROM = 20  # with fewer questions than this, every one is trained on
HELD_OUT_MOST = 100  # questions: ranking more of them would cost more than it tells

ROWS = """
select p.question_id, q.key, q.text, p.rationale_id, t.text, p.passage_id, p.bm25, p.from_rationale, p.question_rank
from reranker_pairs p
join questions q on q.id = p.question_id
join rationales t on t.id = p.rationale_id
where p.task = :task and p.split = 'train' and p.index_id = :index
  and (:teacher is null or p.teacher_id = :teacher)
  and p.question_id in (
      select id from questions where task = :task and split = 'train' order by id limit :limit offset :skip)
order by p.question_id, p.rationale_id, p.rank
"""
EVIDENCE = """
select e.question_id, p.id from evidence e join questions q on q.id = e.question_id
join passages p on p.document = e.document where q.task = :task and q.split = 'train'
"""


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """A question, the candidates of each accepted rationale, and the passages that it needs."""

    key: str
    text: str
    rationales: tuple[Candidates, ...]
    needed: frozenset[int]  # gold evidence where the data names it, else the first rationale's first 3

    def question_list(self) -> list[int]:
        """The question's own passages, best BM25(question) first."""
        ranks: dict[int, int] = {}
        for some in self.rationales:
            for place in np.flatnonzero(some.question_rank):
                ranks[int(some.passages[place])] = int(some.question_rank[place])
        return sorted(ranks, key=lambda passage: (ranks[passage], passage))


@dataclass(frozen=True, slots=True)
class RerankerDataset:
    """Everything that one training reads."""

    lessons: tuple[TrainingQuestion, ...]
    texts: tuple[str, ...]  # of the passages, as the encoder reads them
    sha256: str  # of questions, rationales and candidates with their scores
    ids: tuple[str, ...] = ()  # of the passages, in the knowledge base; () when they are in none

    def split(self, seed: int, share: float = 0.1) -> tuple[list[TrainingQuestion], list[TrainingQuestion]]:
        """Questions to train on and a share to measure on: at most 100, none when there are fewer than 20.

        A question is on one side with all its rationales. (The authors' code splits by rationale, so that
        it validates on questions that it was trained on.)
        """
        shuffled = sorted(self.lessons, key=lambda lesson: digest(str(seed), lesson.key))
        held = min(int(len(shuffled) * share), HELD_OUT_MOST) if len(shuffled) >= HELD_OUT_FROM else 0
        return shuffled[held:], shuffled[:held]


def read_lessons(
    db: Database,
    task_name: str,
    index_id: str,
    *,
    teacher_id: str | None = None,
    limit: int | None = None,
    skip: int = 0,
) -> RerankerDataset:
    """The candidates of accepted rationales of train questions, found in this index.

    Of the questions in their order, the first `skip` are left out and at most `limit` follow. Raises Missing when
    there are none.
    """
    parameters = {
        "task": task_name,
        "index": index_id,
        "teacher": teacher_id,
        "limit": -1 if limit is None else limit,
        "skip": skip,
    }
    evidence: dict[int, set[str]] = {}
    for question_id, passage_id in db.execute(EVIDENCE, {"task": task_name}):
        evidence.setdefault(cast("int", question_id), set()).add(cast("str", passage_id))
    numbers: dict[str, int] = {}
    lessons: list[TrainingQuestion] = []
    data = hashlib.sha256()
    cursor = db.execute(ROWS, parameters)
    for (question_id, key, text), of_question in groupby(cursor, key=lambda row: row[:3]):
        rationales: list[Candidates] = []
        for (_, rationale), rows in groupby(of_question, key=lambda row: (row[3], row[4])):
            found = [row[5:] for row in rows]
            if len(found) > 1:  # one candidate alone teaches nothing
                rationales.append(_candidates(found, numbers))
            # Four decimals: the last bits of a sum of floats differ between machines.
            lines = "".join(f"{i}\t{score:.4f}\t{own}\t{asked}\n" for i, score, own, asked in found)
            data.update(f"{key}\0{text}\0{rationale}\0{lines}".encode())
        if rationales:
            gold = frozenset(numbers[i] for i in evidence.get(question_id, ()) if i in numbers)
            named = bool(evidence.get(question_id))
            needed = gold if named else frozenset(int(i) for i in rationales[0].passages[:SILVER_DEPTH])
            lessons.append(TrainingQuestion(key, text, tuple(rationales), needed))
    if not lessons:
        raise Missing(
            f"no candidates to train a reranker of {task_name} on; find them with: kard ground {task_name}"
        )
    return RerankerDataset(tuple(lessons), _texts(db, list(numbers)), data.hexdigest(), tuple(numbers))


def _candidates(rows: Sequence[tuple[str, float, int, int | None]], numbers: dict[str, int]) -> Candidates:
    return Candidates(
        passages=np.array([numbers.setdefault(row[0], len(numbers)) for row in rows], dtype=np.int64),
        bm25=np.array([row[1] for row in rows], dtype=np.float32),
        by_rationale=np.array([bool(row[2]) for row in rows]),
        question_rank=np.array([row[3] or 0 for row in rows], dtype=np.int64),
    )


def _texts(db: Database, ids: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for some in batches(ids):
        query = f"select id, document, part, title, text from passages where id in ({marks(some)})"
        found.update((row[0], passage_text(Passage(*row))) for row in db.execute(query, list(some)))
    return tuple(found[i] for i in ids)
