"""The steps `reranker` and `rerank`: train it, and rank the evaluated questions' candidates with it."""

from __future__ import annotations

from kard.errors import Missing
from kard.plan import Work
from kard.stages.contract import State, Step, count, tested_ids


def reranker_state(work: Work) -> State:
    """Whether a reranker was trained as chosen, and whether its data have changed since."""
    current = work.reranker_id()
    every = count(work, "select count(*) from rerankers where task = :task and experiment = ''")
    if current is None:
        return State("reranker", 0, 1, every)
    from kard.reranker.lessons import read_lessons

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


def train_reranker(work: Work) -> str:
    """Train the reranker as chosen; its id, which is the trained one's when nothing has changed."""
    from kard.bases import resolve
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
        progress=work.progress,
    )


def reranker(work: Work) -> int:
    """Train the reranker unless there is one trained as chosen."""
    if work.reranker_id() is not None:
        return 0
    train_reranker(work)
    return 1


def rerank_state(work: Work) -> State:
    """Evaluated questions whose candidates the reranker has and has not ranked."""
    tested = set(tested_ids(work))
    rows = work.db.execute(
        "select distinct r.question_id from rerank_scores s join retrievals r on r.id = s.retrieval_id"
        " where s.reranker_id = ? and r.index_id = ?",
        [work.reranker_id(), work.index_id],
    )
    done = {row[0] for row in rows}
    return State("questions", len(tested & done), len(tested - done))


def rerank(work: Work) -> int:
    """Rank what is not ranked. Raises Missing without a reranker."""
    found = work.reranker_id()
    if found is None:
        name = work.task.name
        raise Missing(f"no reranker for {name}; train one with: kard train reranker {name}")
    if rerank_state(work).missing == 0:
        return 0
    from kard.reranker.model import Reranker
    from kard.reranker.rank import rerank as rank

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
