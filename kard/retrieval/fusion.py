"""Make one order of two: BM25's, and that of a reranker or of dense search.

Orders are fused by ranks (reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009) or by scores, with BM25
divided by the question's best so that questions compare. The way and the weight are chosen by nDCG@10 on held-out
training questions.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.config import SILVER_DEPTH, Accept, QueryForm, Retrieval, Settings, require
from kard.db import rows
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.progress import SILENT, Progress
from kard.questions import Query, QuestionSet, query_of
from kard.records import digest
from kard.retrieval.rankings import Ranking, Retriever, write_rankings, write_retriever
from kard.retrieval.rerank import attach_vectors, scores_of, vectors_of

if TYPE_CHECKING:
    from kard.reranker.model import Reranker
    from kard.work.workers import Workers

Floats = NDArray[np.float64]
Kind = Literal["ranks", "scores"]
ScoredIds = Sequence[tuple[str, float]]
"""Passage ids and scores, best first."""

RRF_CONSTANT = 60  # of reciprocal rank fusion, from the paper; it has been found to matter little
WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))  # tried ones; 0 and 1 keep one of the two orders
NDCG_DEPTH = 10  # nDCG varies less from sample to sample than Hits@k
MIN_QUESTIONS = 10  # below which nothing is chosen
BATCH = 256  # questions a commit
DEFAULT = Retrieval()


# --- two lists of scores into one order -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fusion(Settings):
    """How two orders become one."""

    kind: Kind = "ranks"
    weight: float = 0.5  # of the second order; BM25 has the rest
    unit: float = 1.0  # spread of the second order's scores within a question, which `scores` divides by

    def __post_init__(self) -> None:
        require(self.kind in ("ranks", "scores"), f"kind must be ranks or scores, not {self.kind}")
        require(0 <= self.weight <= 1, f"weight must be in [0, 1], not {self.weight}")
        require(self.unit > 0, f"unit must be positive, not {self.unit}")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Fusion:
        """Return the fusion that a retriever's `settings` name among others."""
        return cls(**{name: settings[name] for name in ("kind", "weight", "unit")})


def fused_scores(fusion: Fusion, bm25: Floats, scores: Floats) -> Floats:
    """Return a score of each of a question's passages, (P,), higher is better.

    `bm25` and `scores` are (P,), with NaN where a passage is not in that list. By scores, such a passage gets the
    lowest score of that list; by ranks, nothing.
    """
    if fusion.kind == "ranks":
        return (1 - fusion.weight) * _reciprocal_ranks(bm25) + fusion.weight * _reciprocal_ranks(scores)
    top = np.nanmax(bm25, initial=0.0)
    words = np.nan_to_num(bm25, nan=_lowest(bm25)) / (top if top > 0 else 1.0)
    return (1 - fusion.weight) * words + fusion.weight * np.nan_to_num(scores, nan=_lowest(scores)) / fusion.unit


def fused_order(fusion: Fusion, bm25: Floats, scores: Floats) -> NDArray[np.intp]:
    """Return the positions of the passages (P,), best first; equal scores keep their order."""
    return np.argsort(-fused_scores(fusion, bm25, scores), kind="stable")


def merge(fusion: Fusion, bm25: ScoredIds, other: ScoredIds, k: int) -> list[tuple[str, float]]:
    """Return the `k` best passages of both lists together; equal scores keep BM25's order."""
    ids, *both = align(bm25, other)
    scores = fused_scores(fusion, *both)
    return [(ids[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]


def align(bm25: ScoredIds, other: ScoredIds) -> tuple[list[str], Floats, Floats]:
    """Return every passage once, BM25's first, and its score in either list, NaN where it is not in it."""
    first, second = dict(bm25), dict(other)
    ids = list(dict.fromkeys([*first, *second]))
    return (
        ids,
        np.array([first.get(i, math.nan) for i in ids], dtype=np.float64),
        np.array([second.get(i, math.nan) for i in ids], dtype=np.float64),
    )


def _reciprocal_ranks(values: Floats) -> Floats:
    """Return 1 / (60 + rank) by falling value, equal values in their order; 0 for NaN."""
    places = np.argsort(-values, kind="stable")  # NaN goes last
    ranks = np.empty(len(values))
    ranks[places] = np.arange(1, len(values) + 1)
    return np.where(np.isnan(values), 0.0, 1.0 / (RRF_CONSTANT + ranks))


def _lowest(values: Floats) -> float:
    numbers = values[~np.isnan(values)]
    return float(numbers.min()) if len(numbers) else 0.0


# --- the choice of a fusion -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgedCandidates:
    """A held-out question's candidate passages with both lists' scores and the judgements of each judge."""

    bm25: Floats  # (P,)
    scores: Floats  # (P,)
    needed: NDArray[np.bool_]  # (J judges, P)
    weights: Floats  # (J,), 1 in all

    def ndcg(self, fusion: Fusion) -> float:
        """Return the judges' weighted mean of nDCG@10 among these passages; a judge who needs none gives 0."""
        needed = self.needed[:, fused_order(fusion, self.bm25, self.scores)][:, :NDCG_DEPTH]
        discount = 1 / np.log2(np.arange(2, NDCG_DEPTH + 2))
        gain = needed @ discount[: needed.shape[1]]
        ideal = np.cumsum(discount)[np.clip(self.needed.sum(axis=1), 1, NDCG_DEPTH) - 1]
        return float(self.weights @ (gain / ideal))


@dataclass(frozen=True, slots=True)
class RelevanceLabels:
    """A training question with the passages that each judge says it needs, and the judges' weights, 1 in all.

    Each rationale is a judge: it needs the passages that it finds first. Named evidence is another judge, with half
    of the weight: BM25, which finds the rationales' passages, would have too much of a say otherwise.
    """

    key: str
    query: Query
    judges: tuple[frozenset[str], ...]  # passage ids
    weights: tuple[float, ...]

    @classmethod
    def of(
        cls, key: str, query: Query, rationales: Sequence[frozenset[str]], evidence: frozenset[str]
    ) -> RelevanceLabels:
        """Return the labels by what each rationale finds and what is named as evidence, which may be nothing."""
        if not evidence:
            return cls(key, query, tuple(rationales), (1 / len(rationales),) * len(rationales))
        half = 0.5 / len(rationales)
        return cls(key, query, (evidence, *rationales), (0.5, *(half for _ in rationales)))

    def judge(self, passages: Sequence[str], bm25: Floats, scores: Floats) -> JudgedCandidates:
        """Return these candidates, scored (P,) by both lists, with their judgements."""
        needed = np.array([[i in judge for i in passages] for judge in self.judges], dtype=np.bool_)
        return JudgedCandidates(bm25, scores, needed, np.array(self.weights))


def read_labels(
    db: Database,
    task: str,
    index_id: str,
    *,
    teacher_id: str | None = None,
    accept: Accept = "own",
    settings: Retrieval = DEFAULT,
    questions: QuestionSet | None = None,
) -> list[RelevanceLabels]:
    """Return the labels of the questions (None: all for training) whose accepted rationales found passages."""
    evidence: dict[str, set[str]] = {}
    for row in rows(db, "internal/evidence_passages", task=task):
        evidence.setdefault(row["key"], set()).add(row["passage_id"])
    asked = (questions or QuestionSet(task, "train")).parameters
    values = {**asked, "index": index_id, "teacher": teacher_id, "accept": accept, "silver": SILVER_DEPTH}
    hits = rows(db, "internal/rationale_hits", **values, **settings.forms)
    labels: list[RelevanceLabels] = []
    for (key, text, options), of_question in groupby(
        hits, key=lambda hit: (hit["key"], hit["text"], hit["options"])
    ):
        query = query_of(text, json.loads(options), settings.query)
        rationales = [
            frozenset(hit["passage_id"] for hit in of_rationale)
            for _, of_rationale in groupby(of_question, key=lambda hit: hit["rationale_id"])
        ]
        labels.append(RelevanceLabels.of(str(key), query, rationales, frozenset(evidence.get(key, ()))))
    return labels


def hash_labels(labels: Sequence[RelevanceLabels]) -> str:
    """Return a hash of everything that these labels say."""
    return digest(*(str((x.key, x.query.texts, x.weights, [sorted(judge) for judge in x.judges])) for x in labels))


@dataclass(frozen=True, slots=True)
class TunedFusion:
    """The fusion that was chosen, and the nDCG@10 of each way on the same questions."""

    fusion: Fusion
    questions: int
    bm25: float = 0.0
    second: float = 0.0
    fused: float = 0.0

    def metrics(self) -> dict[str, object]:
        """Return the figures as they are kept in the store."""
        return {
            "held_out": self.questions,
            **{name: round(getattr(self, name), 4) for name in ("bm25", "second", "fused")},
        }


def tune(questions: Sequence[JudgedCandidates]) -> TunedFusion:
    """Return the fusion with the best mean nDCG on these questions; equal weights by rank for too few of them.

    A weight's nDCG is averaged with its neighbours', so that one lucky weight does not win.
    """
    spreads = [float(np.nanstd(q.scores)) for q in questions if np.isfinite(q.scores).sum() > 1]
    # Three digits: the last ones depend on which texts were encoded together, and a retriever's id on all of them.
    unit = float(f"{np.mean(spreads):.3g}") if spreads else 0.0
    if len(questions) < MIN_QUESTIONS or unit <= 0:
        return TunedFusion(Fusion(), len(questions))
    best, most = Fusion(), -1.0
    for kind in ("ranks", "scores"):
        tried = [Fusion(kind, weight, unit if kind == "scores" else 1.0) for weight in WEIGHTS]
        ndcg = np.array([np.mean([q.ndcg(fusion) for q in questions]) for fusion in tried])
        padded = np.pad(ndcg, 1, mode="edge")
        for fusion, value in zip(tried, (padded[:-2] + padded[1:-1] + padded[2:]) / 3, strict=True):
            if value > most + 1e-9:
                best, most = fusion, float(value)

    def mean(fusion: Fusion) -> float:
        return float(np.mean([q.ndcg(fusion) for q in questions]))

    weights = (0.0, 1.0, best.weight)
    return TunedFusion(best, len(questions), *(mean(replace(best, weight=weight)) for weight in weights))


# --- BM25 and the reranker, in the store ----------------------------------------------------------


def choose_fusion(
    db: Database,
    kb: KnowledgeBase,
    reranker: Reranker,
    reranker_id: str,
    held_out: Sequence[RelevanceLabels],
    settings: Retrieval,
    *,
    progress: Progress = SILENT,
    workers: Workers | None = None,
) -> TunedFusion:
    """Choose the fusion of BM25 and the reranker on questions that the reranker was not trained on."""
    max_df = settings.max_df_among(kb.count)
    hits = [kb.search(labels.query.texts, settings.kappa, max_df=max_df) for labels in held_out]
    passages = {hit.passage.id: hit.passage for of_question in hits for hit in of_question}
    vectors = vectors_of(db, reranker, reranker_id, kb.folder) if passages else None
    if vectors is not None:
        attach_vectors(
            reranker,
            vectors,
            list(passages),
            lambda ids: [passages[i] for i in ids],
            progress=progress,
            workers=workers,
        )
    candidates = [[hit.passage for hit in of_question] for of_question in hits]
    scores = scores_of(reranker, [labels.query.read for labels in held_out], candidates)
    if vectors is not None:
        vectors.close()
    return tune(
        [
            labels.judge(
                [hit.passage.id for hit in of_question],
                np.array([hit.bm25 for hit in of_question]),
                values.astype(np.float64),
            )
            for labels, of_question, values in zip(held_out, hits, scores, strict=True)
            if of_question
        ]
    )


def write_fusion(
    db: Database, reranker_id: str, tuned: TunedFusion, milliseconds: float, search: Mapping[str, object]
) -> str:
    """Write a fusion of BM25 with this reranker as a retriever; return its id. `search` says what it orders."""
    base, sha256 = db.execute("select base, base_sha256 from rerankers where id = ?", [reranker_id]).fetchone()
    retriever = Retriever("fused", base, sha256, reranker_id, {**search, **tuned.fusion.values()})
    return write_retriever(db, retriever, tuned.metrics(), milliseconds)


def rank_fused(
    db: Database,
    retriever_id: str,
    fusion: Fusion,
    reranker_id: str,
    index_id: str,
    kappa: int,
    questions: Sequence[int],
    form: QueryForm = "question",
    *,
    progress: Progress = SILENT,
) -> int:
    """Order the first `kappa` hits by BM25 of these questions by both scores; return how many were ordered.

    Questions that the reranker has not ranked are left out.
    """

    def lists(batch: Sequence[int]) -> dict[int, tuple[ScoredIds, ScoredIds]]:
        values = {"reranker": reranker_id, "depth": kappa, "index": index_id, "form": form, "questions": batch}
        both: dict[int, tuple[ScoredIds, ScoredIds]] = {}
        for question, group in groupby(
            rows(db, "internal/reranked_hits", **values), lambda hit: hit["question_id"]
        ):
            hits = [hit for hit in group if hit["passage_id"] is not None]
            bm25 = [(hit["passage_id"], hit["bm25"]) for hit in hits]
            both[question] = bm25, [(hit["passage_id"], hit["score"]) for hit in hits]
        return both

    return write_merged(db, retriever_id, fusion, index_id, kappa, questions, lists, progress=progress)


def write_merged(
    db: Database,
    retriever_id: str,
    fusion: Fusion,
    index_id: str,
    kappa: int,
    questions: Sequence[int],
    lists: Callable[[Sequence[int]], Mapping[int, tuple[ScoredIds, ScoredIds]]],
    *,
    progress: Progress = SILENT,
) -> int:
    """Merge two lists of each question and write the first `kappa` of them; return how many questions had lists.

    `lists` returns BM25's list and the other one, by question, for a batch of questions.
    """
    done = 0
    with progress.bar("mix two orders", len(questions)) as advance:
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            rankings: list[Ranking] = []
            for question, (bm25, other) in lists(batch).items():
                started = time.perf_counter()
                passages = merge(fusion, bm25, other, kappa)
                rankings.append(Ranking(question, passages, (time.perf_counter() - started) * 1000))
            write_rankings(db, retriever_id, index_id, kappa, rankings)
            done += len(rankings)
            advance(len(batch))
    return done
