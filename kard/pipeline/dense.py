"""The steps `dense` and `hybrid`: find passages by vectors, and mix their order with BM25's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from kard.errors import Missing
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step, evaluated_ids

if TYPE_CHECKING:
    from kard.questions import Query
    from kard.retrieval.dense import PassageEncoder
    from kard.retrieval.fusion import RelevanceLabels


def _state(kind: str, run: Run) -> State:
    """Count evaluated questions with and without an order by a retriever of that kind."""
    missing = len(_missing(run, kind))
    return State("questions", len(evaluated_ids(run)) - missing, missing)


def _missing(run: Run, kind: str) -> list[tuple[int, Query]]:
    from kard.retrieval.rankings import unranked

    settings = run.options.settings.retrieval
    retriever = run.resolved.retrievers[kind]
    return unranked(run.db, retriever, run.index_id, run.evaluated, settings.kappa, settings.query)


def _dense(run: Run) -> int:
    """Encode the passages that have no vector yet, and find each question's nearest passages. Raises Missing."""
    missing = _missing(run, "dense")
    if not missing:
        return 0
    from kard.retrieval.dense import DenseSearch, rank_dense
    from kard.retrieval.rankings import write_retriever
    from kard.retrieval.retrieve import record_index

    record_index(run.db, run.kb)
    started = monotonic()
    encoder = _encoder(run)
    searcher = DenseSearch(run.kb, encoder.embedder)
    searcher.fill(run.progress, run.workers)
    settings = run.options.settings.retrieval
    search = run.resolved.search_settings("dense")
    described = replace(encoder.retriever, settings={**encoder.retriever.settings, **search})
    retriever = write_retriever(run.db, described, {}, (monotonic() - started) * 1000)
    return rank_dense(run.db, searcher, retriever, missing, settings.kappa, progress=run.progress)


def _hybrid(run: Run) -> int:
    """Order what is not ordered; how to mix is chosen once for a task and encoder. Raises Missing."""
    missing = _missing(run, "hybrid")
    if not missing:
        return 0
    from kard.pipeline.rerank import fusion_of
    from kard.retrieval.dense import rank_hybrid

    nearest = run.resolved.retrievers["dense"]
    if nearest is None:
        raise Missing(f"no vectors for {run.name}; make them with: kard run {run.name} --retriever dense")
    retriever = run.resolved.retrievers["hybrid"] or _choose(run, nearest)
    return rank_hybrid(
        run.db,
        retriever,
        fusion_of(run.db, retriever),
        nearest,
        run.index_id,
        run.options.settings.retrieval.kappa,
        [question for question, _ in missing],
        run.options.settings.retrieval.query,
        progress=run.progress,
    )


def _choose(run: Run, nearest: str) -> str:
    """Choose how to mix on training questions that the encoder was not taught; return the hybrid retriever's id."""
    from kard.retrieval.dense import DenseSearch, choose_hybrid
    from kard.retrieval.fusion import Fusion, TunedFusion
    from kard.retrieval.rankings import write_retriever

    started = monotonic()
    encoder = _encoder(run)
    tuned = TunedFusion(Fusion(), 0)
    if labels := _held_out(run):
        searcher = DenseSearch(run.kb, encoder.embedder)
        searcher.fill(run.progress, run.workers)
        tuned = choose_hybrid(run.kb, searcher, labels, run.options.settings.retrieval)
    settings = {**run.resolved.search_settings("hybrid"), "dense": nearest, **tuned.fusion.values()}
    retriever = replace(encoder.retriever, kind="hybrid", settings=settings)
    return write_retriever(run.db, retriever, tuned.metrics(), (monotonic() - started) * 1000)


def _held_out(run: Run) -> Sequence[RelevanceLabels]:
    """Return training questions with rationales: those that did not teach the reranker, if its encoder is used."""
    from kard.pipeline.rerank import held_out_labels

    if run.options.uses_reranker_encoder:
        return [] if run.resolved.reranker is None else held_out_labels(run, run.resolved.reranker)
    return run.resolved.labels


def _encoder(run: Run) -> PassageEncoder:
    from kard.models.bases import resolve
    from kard.retrieval.dense import encoder_of_base, encoder_of_reranker

    if run.options.uses_reranker_encoder:
        return encoder_of_reranker(run.db, run.reranker_id, run.adapters)
    if named := run.options.settings.retrieval.encoder:
        return encoder_of_base(resolve(named))
    return encoder_of_base(resolve(run.encoder), max_length=run.options.settings.reranker.max_length)


DENSE = Step(
    "dense",
    "find",
    "find the passages nearest to each evaluated question by vectors",
    lambda run: _state("dense", run),
    _dense,
    drop="internal/drop_dense",
    needed=lambda run: run.options.reads_from("dense", "hybrid"),
)
HYBRID = Step(
    "hybrid",
    "find",
    "mix the orders of BM25 and vectors",
    lambda run: _state("hybrid", run),
    _hybrid,
    drop="internal/drop_hybrid",
    needed=lambda run: run.options.reads_from("hybrid"),
    reads=("retrieve", "dense"),
)
