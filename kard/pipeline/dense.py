"""The steps `dense` and `hybrid`: passages found with each question by vectors, and by both words and vectors."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from kard.errors import Missing
from kard.pipeline.run import Run
from kard.pipeline.step import OF_TASK, State, Step, tested_ids

if TYPE_CHECKING:
    from kard.retrieval.dense_rankings import Reader
    from kard.retrieval.fuse import RelevanceLabels


def dense_state(work: Run) -> State:
    """Evaluated questions with and without their nearest passages."""
    return _state(work, "dense")


def hybrid_state(work: Run) -> State:
    """Evaluated questions with and without an order of both BM25 and vectors."""
    return _state(work, "hybrid")


def dense(work: Run) -> int:
    """Encode the whole base, if it is not yet, and find the nearest passages of each question. Raises Missing."""
    missing = _missing(work, "dense")
    if not missing:
        return 0
    from kard.retrieval.dense import Dense
    from kard.retrieval.dense_rankings import search
    from kard.retrieval.rankings import keep_retriever

    started = monotonic()
    reader = _reader(work)
    searcher = Dense(work.base, reader.embedder)
    searcher.fill(work.progress)
    retriever = keep_retriever(work.db, reader.retriever, {}, (monotonic() - started) * 1000)
    return search(work.db, searcher, retriever, missing, _kappa(work), progress=work.progress)


def hybrid(work: Run) -> int:
    """Order what is not ordered; how to mix is chosen once for a task and encoder. Raises Missing."""
    missing = _missing(work, "hybrid")
    if not missing:
        return 0
    from kard.pipeline.rerank import fusion_of
    from kard.retrieval.dense_rankings import mix

    nearest = work.retriever_id("dense")
    if nearest is None:
        name = work.task.name
        raise Missing(f"no vectors for {name}; make them with: kard run {name} --retriever dense")
    retriever = work.retriever_id("hybrid") or _choose(work, nearest)
    return mix(
        work.db,
        retriever,
        fusion_of(work.db, retriever),
        nearest,
        work.index_id,
        _kappa(work),
        [question for question, _ in missing],
        progress=work.progress,
    )


def _choose(work: Run, nearest: str) -> str:
    """Choose how to mix on training questions that the encoder was not taught; the hybrid retriever's id."""
    from dataclasses import replace

    from kard.retrieval.dense import Dense
    from kard.retrieval.dense_rankings import choose_hybrid
    from kard.retrieval.fusion import Fusion, Tuned
    from kard.retrieval.rankings import keep_retriever

    started = monotonic()
    held_out = _held_out(work)
    reader = _reader(work)
    tuned = Tuned(Fusion(), 0)
    if held_out:
        searcher = Dense(work.base, reader.embedder)
        searcher.fill(work.progress)
        tuned = choose_hybrid(work.base, searcher, held_out, work.choices.settings.retrieval)
    settings = {"task": work.task.name, "dense": nearest, **tuned.fusion.values()}
    made = replace(reader.retriever, kind="hybrid", settings=settings)
    return keep_retriever(work.db, made, tuned.metrics(), (monotonic() - started) * 1000)


def _held_out(work: Run) -> list[RelevanceLabels]:
    """Training questions with rationales: those that did not teach the reranker when its encoder is worn."""
    from kard.pipeline.rerank import held_out_needs
    from kard.retrieval.fuse import needs_of

    if work.choices.uses_reranker_encoder:
        reranker = work.reranker_id()
        return [] if reranker is None else held_out_needs(work, reranker)
    try:
        teacher = work.teacher_id()
    except Missing:  # nobody has explained anything: nothing can be chosen
        return []
    return needs_of(work.db, work.task.name, work.index_id, teacher_id=teacher)


def _reader(work: Run) -> Reader:
    from kard.models.bases import resolve
    from kard.retrieval.dense_rankings import reader_of, reader_of_reranker

    chosen = work.choices.settings.retrieval.encoder
    if work.choices.uses_reranker_encoder:
        reranker = work.reranker_id()
        if reranker is None:
            name = work.task.name
            raise Missing(f"no reranker for {name}; train one with: kard train reranker {name}")
        return reader_of_reranker(work.db, reranker, work.adapters)
    if chosen:
        return reader_of(resolve(chosen))
    return reader_of(resolve(work.encoder), max_length=work.choices.settings.reranker.max_length)


def _kappa(work: Run) -> int:
    return work.choices.settings.retrieval.kappa


def _missing(work: Run, kind: str) -> list[tuple[int, str]]:
    from kard.retrieval.rankings import unranked

    where = (work.retriever_id(kind), work.index_id, work.task.name, _kappa(work))
    return unranked(work.db, *where, split=work.split, limit=work.choices.test_limit)


def _state(work: Run, kind: str) -> State:
    missing = len(_missing(work, kind))
    return State("questions", len(tested_ids(work)) - missing, missing)


def _drop(kind: str) -> str:
    of_kind = f"retriever_id in (select id from retrievers where kind = '{kind}')"
    return f"delete from rankings where {of_kind} and question_id {OF_TASK}"


DENSE = Step(
    "dense",
    "the passages nearest to each evaluated question by vectors",
    dense_state,
    dense,
    _drop("dense"),
)
HYBRID = Step(
    "hybrid",
    "each evaluated question's passages in an order of both BM25 and vectors",
    hybrid_state,
    hybrid,
    _drop("hybrid"),
    needs=("retrieve", "dense"),
)
