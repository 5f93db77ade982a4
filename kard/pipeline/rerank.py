"""The steps `reranker` and `rerank`: train it, and rank the evaluated questions' candidates with it."""

from __future__ import annotations

import json
from time import monotonic
from typing import TYPE_CHECKING

from kard.errors import Missing
from kard.pipeline.run import Run
from kard.pipeline.step import OF_TASK, State, Step, count, tested_ids

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.retrieval.fuse import RelevanceLabels
    from kard.retrieval.fusion import Fusion


def reranker_state(work: Run) -> State:
    """Whether a reranker was trained as chosen, and whether its data have changed since."""
    current = work.reranker_id()
    every = count(work, "select count(*) from rerankers where task = :task and experiment = ''")
    if current is None:
        return State("reranker", 0, 1, every)
    from kard.reranker.dataset import read_lessons

    lessons = read_lessons(
        work.db,
        work.task.name,
        work.index_id,
        teacher_id=work.teacher_id(),
        limit=work.choices.limit,
    )
    row = work.db.execute("select data_sha256 from rerankers where id = ?", [current]).fetchone()
    changed = row[0] != lessons.sha256
    note = "trained on other rationales or passages" if changed else ""
    return State("reranker", int(not changed), 0, every - int(not changed), note)


def train_reranker(work: Run) -> str:
    """Train the reranker as chosen; its id, which is the trained one's when nothing has changed."""
    from kard.models.bases import resolve
    from kard.reranker.training import train_reranker as train

    return train(
        work.db,
        work.task.name,
        resolve(work.encoder),
        work.adapters,
        work.choices.settings.reranker,
        index_id=work.index_id,
        teacher_id=work.teacher_id(),
        limit=work.choices.limit,
        knowledge=work.knowledge,
        progress=work.progress,
    )


def reranker(work: Run) -> int:
    """Train the reranker unless there is one trained as chosen."""
    if work.reranker_id() is not None:
        return 0
    train_reranker(work)
    return 1


def rerank_state(work: Run) -> State:
    """Evaluated questions whose candidates the reranker has and has not ranked."""
    from kard.retrieval.rerank import unranked

    tested, current = set(tested_ids(work)), work.reranker_id()
    if current is None:
        return State("questions", 0, len(tested))
    left = {retrieval for retrieval, _ in unranked(work.db, current, work.task.name, work.index_id)}
    query = "select id, question_id from retrievals where query = 'question' and index_id = ?"
    done = {question for i, question in work.db.execute(query, [work.index_id]) if i not in left}
    return State("questions", len(tested & done), len(tested - done))


def rerank(work: Run) -> int:
    """Rank what is not ranked. Raises Missing without a reranker."""
    found = work.reranker_id()
    if found is None:
        name = work.task.name
        raise Missing(f"no reranker for {name}; train one with: kard train reranker {name}")
    if rerank_state(work).missing == 0:
        return 0
    from kard.reranker.model import Reranker
    from kard.retrieval.rerank import rerank as rank

    return rank(
        work.db,
        Reranker.load(work.db, found, work.adapters),
        found,
        work.task.name,
        work.index_id,
        split=work.split,
        limit=work.choices.test_limit,
        knowledge=work.knowledge,
        progress=work.progress,
    )


def fuse_state(work: Run) -> State:
    """Evaluated questions with and without an order by both BM25 and the reranker."""
    missing = _unfused(work)
    return State("questions", len(tested_ids(work)) - len(missing), len(missing))


def _unfused(work: Run) -> list[int]:
    from kard.retrieval.rankings import unranked

    kappa = work.choices.settings.retrieval.kappa
    found = unranked(
        work.db,
        work.retriever_id("fused"),
        work.index_id,
        work.task.name,
        kappa,
        split=work.split,
        limit=work.choices.test_limit,
    )
    return [question for question, _ in found]


def fuse(work: Run) -> int:
    """Choose how to fuse, unless that was done for this reranker, and order what is not ordered. Raises Missing."""
    reranker_id = work.reranker_id()
    if reranker_id is None:
        name = work.task.name
        raise Missing(f"no reranker for {name}; train one with: kard train reranker {name}")
    missing = _unfused(work)
    if not missing:
        return 0
    from kard.retrieval.fuse import fuse as order

    retriever = work.retriever_id("fused") or _choose_fusion(work, reranker_id)
    kappa = work.choices.settings.retrieval.kappa
    fusion = fusion_of(work.db, retriever)
    return order(work.db, retriever, fusion, reranker_id, work.index_id, kappa, missing, progress=work.progress)


def fusion_of(db: Database, retriever_id: str) -> Fusion:
    """How a fused or hybrid retriever makes one order of two."""
    from kard.retrieval.fusion import Fusion

    row = db.execute("select settings from retrievers where id = ?", [retriever_id]).fetchone()
    return Fusion.of(json.loads(row[0]))


def _choose_fusion(work: Run, reranker_id: str) -> str:
    """Choose on the training questions that the reranker was not taught; its id.

    Without them (few questions, or data that have changed since) both orders count alike, by rank.
    """
    from kard.reranker.model import Reranker
    from kard.retrieval.fuse import choose, keep
    from kard.retrieval.fusion import Fusion, Tuned

    started = monotonic()
    tuned = Tuned(Fusion(), 0)
    if held_out := held_out_needs(work, reranker_id):
        model = Reranker.load(work.db, reranker_id, work.adapters)
        settings = work.choices.settings.retrieval
        tuned = choose(work.db, work.base, model, reranker_id, held_out, settings, progress=work.progress)
    return keep(work.db, reranker_id, tuned, (monotonic() - started) * 1000)


def held_out_needs(work: Run, reranker_id: str) -> list[RelevanceLabels]:
    """The training questions that did not teach this reranker; none when its data have changed since."""
    from kard.reranker.dataset import read_lessons
    from kard.retrieval.fuse import needs_of

    teacher = work.teacher_id()
    where = (work.db, work.task.name, work.index_id)
    lessons = read_lessons(*where, teacher_id=teacher, limit=work.choices.limit)
    row = work.db.execute("select data_sha256 from rerankers where id = ?", [reranker_id]).fetchone()
    if row[0] != lessons.sha256:
        return []
    settings = work.choices.settings.reranker
    _, apart = lessons.split(settings.seed, settings.held_out)
    keys = {lesson.key for lesson in apart}
    return [needs for needs in needs_of(*where, teacher_id=teacher) if needs.key in keys]


RERANKER = Step(
    "reranker",
    "a reranker that learns from the rationales",
    reranker_state,
    reranker,
    "delete from rerankers where task = :task",
    needs=("ground",),
)
RERANK = Step(
    "rerank",
    "each evaluated question's candidates in the reranker's order",
    rerank_state,
    rerank,
    "delete from rerank_scores where reranker_id in (select id from rerankers where task = :task)",
    needs=("retrieve", "reranker"),
)
FUSE = Step(
    "fuse",
    "each evaluated question's candidates in an order of both BM25 and the reranker",
    fuse_state,
    fuse,
    f"delete from rankings where retriever_id in (select id from retrievers where kind = 'fused')"
    f" and question_id {OF_TASK}",
    needs=("rerank",),
)
