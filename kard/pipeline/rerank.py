"""The steps `reranker`, `rerank` and `fuse`: train a reranker, rank with it, and mix its order with BM25's."""

from __future__ import annotations

import json
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from kard.db import rows
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step, count_others, cut, differs, evaluated_ids
from kard.questions import QuestionSet
from kard.recipes import read_recipe, stored_settings
from kard.records import canonical

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.reranker.dataset import RerankerDataset
    from kard.retrieval.fusion import Fusion, RelevanceLabels


def train_reranker(run: Run) -> str:
    """Train the reranker that the options describe, unless equal data and settings made one; return its id."""
    from kard.models.bases import resolve
    from kard.reranker.training import train_reranker as train

    reranker_id = train(
        run.db,
        _dataset(run),
        resolve(run.encoder),
        run.options.settings.reranker,
        run.adapters,
        knowledge=run.knowledge,
        progress=run.progress,
    )
    run.refresh()
    if warning := behind_bm25(run.db, reranker_id):
        run.notes.append(warning)
    return reranker_id


def behind_bm25(db: Database, reranker_id: str) -> str:
    """Return one line on a reranker that orders held-out questions' passages worse than BM25 does, else ''.

    The mean of Hits@1, 3, 5 and 10 decides, over BM25's own candidates.
    """
    metrics = json.loads(db.execute("select metrics from rerankers where id = ?", [reranker_id]).fetchone()[0])
    ours, untrained, bm25 = (metrics.get(name) for name in ("hits_after", "hits_before", "hits_bm25"))
    if not ours or not bm25 or sum(ours.values()) >= sum(bm25.values()):
        return ""
    places = sorted(bm25, key=int)
    figures = ", ".join(
        f"{name} {'/'.join(f'{hits[k]:.2f}' for k in places)}"
        for name, hits in (("the reranker", ours), ("untrained", untrained), ("BM25", bm25))
        if hits
    )
    return (
        f"reranker {reranker_id} ranks worse than BM25 on {metrics['held_out']} held-out training questions"
        f" (Hits@{'/'.join(places)}: {figures}); read from both with --retriever fused, or from bm25"
    )


def fusion_of(db: Database, retriever_id: str) -> Fusion:
    """Return how a fused or hybrid retriever makes one order of two."""
    from kard.retrieval.fusion import Fusion

    row = db.execute("select settings from retrievers where id = ?", [retriever_id]).fetchone()
    with stored_settings("a fusion"):
        return Fusion.of(json.loads(row[0]))


def held_out_labels(run: Run, reranker_id: str) -> list[RelevanceLabels]:
    """Return the training questions that did not teach this reranker; none if its data have changed since.

    What was held out is told by the seed and the share in the reranker's own recipe, not by those of the run: a
    student of another seed may read by it.
    """
    from kard.reranker.dataset import read_dataset
    from kard.retrieval.fusion import read_labels

    row = run.db.execute("select recipe from rerankers where id = ?", [reranker_id]).fetchone()
    recipe = read_recipe(row[0])
    data, settings = recipe["data"], recipe["settings"]
    questions = QuestionSet(run.name, "train", data["limit"])
    questions = questions.draw(run.db, data.get("fraction", 1), data.get("draw", 0))
    retrieval = run.options.settings.retrieval
    dataset = read_dataset(
        run.db,
        questions,
        data["index"],
        teacher_id=data["teacher"],
        accept=run.accept,
        skip=data["skip"],
        settings=retrieval,
    )
    if dataset.data.sha256 != data["sha256"]:
        return []
    _, held_out = dataset.split(settings["seed"], settings["held_out"])
    keys = {question.key for question in held_out}
    labels = read_labels(
        run.db, run.name, run.index_id, teacher_id=data["teacher"], accept=run.accept, settings=retrieval
    )
    return [label for label in labels if label.key in keys]


def _dataset(run: Run) -> RerankerDataset:
    from kard.reranker.dataset import read_dataset

    retrieval = run.options.settings.retrieval
    return read_dataset(
        run.db, run.trained_on, run.index_id, teacher_id=run.teacher_id, accept=run.accept, settings=retrieval
    )


def _reranker_state(run: Run) -> State:
    """Tell whether a reranker was trained with these settings on these data; else in what the last one differs."""
    stored = "select data_sha256, base, settings from rerankers where task = ? and experiment = ''"
    data, settings = run.resolved.reranker_data, canonical(run.options.settings.reranker.values())
    current = [(data.sha256, run.encoder, settings)] if data else []
    outdated = count_others(run.db.execute(stored, [run.name]), current)
    if run.resolved.reranker is not None:
        return State("reranker", 1, 0, outdated, behind_bm25(run.db, run.resolved.reranker))
    earlier = rows(run.db, "internal/last_reranker", task=run.name)
    if not earlier:
        return State("reranker", 0, 1, outdated)
    if data is None:
        return State("reranker", 0, 1, outdated, "known when every rationale has its passages")
    recipe = read_recipe(earlier[0]["recipe"])
    note = differs(recipe, run.options.settings.reranker, data)
    return State("reranker", 0, 1, outdated, f"the last one: {note}")


def _reranker(run: Run) -> int:
    """Train the reranker unless one was trained with these settings on these data."""
    if run.resolved.reranker is not None:
        return 0
    train_reranker(run)
    return 1


def _rerank_state(run: Run) -> State:
    """Count evaluated questions whose candidates the reranker has and has not ranked."""
    from kard.retrieval.rerank import unscored

    evaluated = set(evaluated_ids(run))
    if run.resolved.reranker is None:
        return State("questions", 0, len(evaluated))
    form = run.options.settings.retrieval.query
    missing = unscored(run.db, run.resolved.reranker, run.index_id, QuestionSet(run.name), form)
    left = {retrieval for retrieval, _ in missing}
    query = "select id, question_id from retrievals where query = 'question' and index_id = ? and form = ?"
    done = {question for i, question in run.db.execute(query, [run.index_id, form]) if i not in left}
    return State("questions", len(evaluated & done), len(evaluated - done))


def _rerank(run: Run) -> int:
    """Rank the candidates that are not ranked. Raises Missing without a reranker."""
    reranker_id = run.reranker_id
    if _rerank_state(run).missing == 0:
        return 0
    from kard.reranker.model import Reranker
    from kard.retrieval.rerank import rerank

    return rerank(
        run.db,
        Reranker.load(run.db, reranker_id, run.adapters),
        reranker_id,
        run.index_id,
        run.evaluated,
        run.options.settings.retrieval.query,
        knowledge=run.knowledge,
        progress=run.progress,
    )


def _fuse_state(run: Run) -> State:
    """Count evaluated questions with and without an order by both BM25 and the reranker."""
    missing = _unfused(run)
    return State("questions", len(evaluated_ids(run)) - len(missing), len(missing))


def _unfused(run: Run) -> list[int]:
    from kard.retrieval.rankings import unranked

    kappa = run.options.settings.retrieval.kappa
    questions = unranked(run.db, run.resolved.retrievers["fused"], run.index_id, run.evaluated, kappa)
    return [question for question, _ in questions]


def _fuse(run: Run) -> int:
    """Choose how to fuse, unless that was done for this reranker, and order what is not ordered. Raises Missing."""
    reranker_id = run.reranker_id
    missing = _unfused(run)
    if not missing:
        return 0
    from kard.retrieval.fusion import rank_fused

    retriever = run.resolved.retrievers["fused"] or _choose_fusion(run, reranker_id)
    settings = run.options.settings.retrieval
    return rank_fused(
        run.db,
        retriever,
        fusion_of(run.db, retriever),
        reranker_id,
        run.index_id,
        settings.kappa,
        missing,
        settings.query,
        progress=run.progress,
    )


def _choose_fusion(run: Run, reranker_id: str) -> str:
    """Choose how to fuse on the training questions that did not teach the reranker; return the retriever's id.

    Without such questions (few questions, or data that have changed since) both orders count alike, by rank.
    """
    from kard.reranker.model import Reranker
    from kard.retrieval.fusion import Fusion, TunedFusion, choose_fusion, write_fusion

    started = monotonic()
    tuned = TunedFusion(Fusion(), 0)
    settings = run.options.settings.retrieval
    if labels := held_out_labels(run, reranker_id):
        model = Reranker.load(run.db, reranker_id, run.adapters)
        where = run.db, run.kb, model, reranker_id
        tuned = choose_fusion(*where, labels, settings, progress=run.progress, workers=run.workers)
    return write_fusion(
        run.db, reranker_id, tuned, (monotonic() - started) * 1000, run.resolved.search_settings("fused")
    )


def _to_train(run: Run, _parts: int) -> list[RunOptions]:
    return [] if run.resolved.reranker else [run.options]


def _to_rank(run: Run, parts: int) -> list[RunOptions]:
    """Return runs that rank with the reranker of this one, after workers have made the passages' vectors.

    So each vector is made once, whichever parts read it. Raises Missing without a reranker.
    """
    chosen, reranker_id = replace(run.options, reranker=run.reranker_id), run.reranker_id
    from kard.retrieval.rerank import encode_hits, unscored

    form = chosen.settings.retrieval.query
    left = {retrieval for retrieval, _ in unscored(run.db, reranker_id, run.index_id, run.evaluated, form)}
    if left:
        from kard.reranker.model import Reranker

        model = Reranker.load(run.db, reranker_id, run.adapters)
        where = run.db, model, reranker_id, sorted(left), run.knowledge
        if vectors := encode_hits(*where, progress=run.progress, workers=run.workers):
            vectors.close()
    found = rows(run.db, "internal/questions_of_retrievals", retrievals=sorted(left))
    return cut(replace(run, options=chosen), [row["question_id"] for row in found], parts)


RERANKER = Step(
    "reranker",
    "train",
    "train a reranker on the rationales",
    _reranker_state,
    _reranker,
    drop="internal/drop_reranker",
    needed=lambda run: run.options.reranks,
    reads=("ground",),
    parts=_to_train,
)
RERANK = Step(
    "rerank",
    "find",
    "rank each evaluated question's candidates with the reranker",
    _rerank_state,
    _rerank,
    drop="internal/drop_rerank",
    needed=lambda run: run.options.reranks,
    reads=("retrieve", "reranker"),
    parts=_to_rank,
)
FUSE = Step(
    "fuse",
    "find",
    "mix the orders of BM25 and the reranker",
    _fuse_state,
    _fuse,
    drop="internal/drop_fuse",
    needed=lambda run: run.options.reads_from("fused"),
    reads=("rerank",),
)
