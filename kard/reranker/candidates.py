"""Draw what a training step sees: some candidates of each question, and how its rationales rank them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kard.config import RerankerTraining

RANK_SHIFT = 60  # reciprocal ranks count from here, as in reciprocal rank fusion (Cormack et al., SIGIR 2009)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one rationale. Arrays are (P,); `passages` are numbers in `RerankerDataset.texts`."""

    passages: NDArray[np.int64]
    bm25: NDArray[np.float32]  # BM25(rationale, passage)
    by_rationale: NDArray[np.bool_]  # in the rationale's own list
    question_rank: NDArray[np.int64]  # in the question's own list, 0 when not in it


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """A question, the candidates of each accepted rationale, and the passages that it needs."""

    key: str
    text: str  # of its query, which the reranker reads
    rationales: tuple[Candidates, ...]
    needed: frozenset[int]  # gold evidence where the data names it, else the first rationale's first `SILVER_DEPTH`

    def question_list(self) -> list[int]:
        """Return the passages that the question itself found, best BM25 first."""
        ranks: dict[int, int] = {}
        for candidates in self.rationales:
            for place in np.flatnonzero(candidates.question_rank):
                ranks[int(candidates.passages[place])] = int(candidates.question_rank[place])
        return sorted(ranks, key=lambda passage: (ranks[passage], passage))


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of one or several rationales: arrays are (P,), `bm25` is (R rationales, P)."""

    passages: NDArray[np.int64]
    bm25: NDArray[np.float32]
    by_rationale: NDArray[np.bool_]  # in the own list of any of the rationales
    question_rank: NDArray[np.int64]

    @classmethod
    def of(cls, rationales: Sequence[Candidates]) -> Pool:
        """Return every passage of these rationales, once.

        A rationale has a score for its own list and for the question's. A passage that only another rationale found
        scores at most as the last passage of its own list, or it would stand there; that score is taken.
        """
        numbers = dict.fromkeys(int(p) for candidates in rationales for p in candidates.passages)
        passages = np.array(list(numbers), np.int64)
        places = {int(passage): place for place, passage in enumerate(passages)}
        bm25 = np.empty((len(rationales), len(passages)), np.float32)
        by_rationale, rank = np.zeros(len(passages), np.bool_), np.zeros(len(passages), np.int64)
        for row, candidates in zip(bm25, rationales, strict=True):
            own_list = candidates.by_rationale if candidates.by_rationale.any() else slice(None)
            at = [places[int(passage)] for passage in candidates.passages]
            row[:] = candidates.bm25[own_list].min()
            row[at] = candidates.bm25
            by_rationale[at] |= candidates.by_rationale
            rank[at] = np.maximum(rank[at], candidates.question_rank)
        return cls(passages, bm25, by_rationale, rank)

    def first(self, count: int) -> NDArray[np.int64]:
        """Return the `count` best passages by the mean of the rationales, and the first `count` by the question."""
        by_rationales = np.argsort(-self.bm25.mean(0), kind="stable")[:count]
        by_question = np.flatnonzero((self.question_rank > 0) & (self.question_rank <= count))
        return self.passages[np.union1d(by_rationales, by_question)]

    def only(self, passages: NDArray[np.int64]) -> Pool:
        """Return the pool without all other passages."""
        mask = np.isin(self.passages, passages)
        return Pool(self.passages[mask], self.bm25[:, mask], self.by_rationale[mask], self.question_rank[mask])

    def draw(self, count: int, rng: Generator, share: float = 0.5, first: int | None = None) -> NDArray[np.int64]:
        """Draw at most `count` different places: a `share` by the rationales, the rest from the question's list.

        If one list is too short, the other makes up for it. The place `first`, if given, comes first.
        """
        by_rationale = rng.permutation(np.flatnonzero(self.by_rationale))
        by_question = rng.permutation(np.flatnonzero(self.question_rank))
        begin = np.array([] if first is None else [first], np.int64)
        quota = int(np.ceil(count * share))
        by_rationale = by_rationale[~np.isin(by_rationale, begin)]
        by_question = by_question[~np.isin(by_question, begin)]
        places = np.concatenate([begin, by_rationale[: max(0, quota - len(begin))]])
        for rest in (by_question, by_rationale):
            places = np.concatenate([places, rest[~np.isin(rest, places)][: count - len(places)]])
        return places

    def target(self, places: NDArray[np.int64], tau: float) -> NDArray[np.float32]:
        """Return the mean over the rationales of softmax(BM25(rationale, .) / tau) over these places."""
        scores = self.bm25[:, places] / tau
        weights = np.exp(scores - scores.max(1, keepdims=True))
        return (weights / weights.sum(1, keepdims=True)).mean(0)

    def best(self, weight: float = 1.0) -> int:
        """Return the place of the best passage: the rationales have this `weight`, the question's list the rest.

        BM25 by each rationale is stretched to [0, 1]; a rank r in the question's list counts 61 / (60 + r).
        """
        low, high = self.bm25.min(1, keepdims=True), self.bm25.max(1, keepdims=True)
        by_rationale = ((self.bm25 - low) / np.maximum(high - low, 1e-9)).mean(0)
        by_question = np.where(self.question_rank > 0, (RANK_SHIFT + 1) / (RANK_SHIFT + self.question_rank), 0.0)
        return int(np.argmax(weight * by_rationale + (1 - weight) * by_question))


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """A question that is trained on, with the passages that take part."""

    question: TrainingQuestion
    passages: NDArray[np.int64]

    @classmethod
    def of(cls, question: TrainingQuestion, count: int) -> CandidateSet:
        """Take the passages of `Pool.first`, and the best passage of each rationale."""
        best = [int(candidates.passages[candidates.bm25.argmax()]) for candidates in question.rationales]
        return cls(question, np.union1d(Pool.of(question.rationales).first(count), best))

    def pool(self, epoch: int, count: int) -> Pool:
        """Return the candidates of `count` rationales; each epoch (from 0) takes the next ones in turn."""
        rationales = self.question.rationales
        chosen = [rationales[(epoch * count + n) % len(rationales)] for n in range(min(count, len(rationales)))]
        return Pool.of(chosen).only(self.passages)


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """The candidates of a step's Q questions: arrays are (Q, C), `best` is (Q,).

    Where a question has fewer than C candidates, `present` is False and `passages` repeats its first one, so that
    nothing is encoded for it.
    """

    passages: NDArray[np.int64]
    present: NDArray[np.bool_]
    target: NDArray[np.float32]  # by the rationales; sums to 1 a question, 0 where nothing is present
    best: NDArray[np.int64]  # the column of the passage to rank first


def draw(pools: Sequence[Pool], settings: RerankerTraining, rng: Generator, progress: float = 0.0) -> TrainingBatch:
    """Draw the candidates of each question for the settings' loss, when `progress` (0 to 1) of training is done."""
    hard = settings.loss in ("infonce", "mix")
    width = settings.candidates
    shape = (len(pools), width)
    passages, present = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    target, best = np.zeros(shape, np.float32), np.zeros(len(pools), np.int64)
    tau = annealed(settings.tau_teacher, settings.anneal, progress)
    for row, pool in enumerate(pools):
        first = pool.best(settings.mix if settings.loss == "mix" else 1.0) if hard else None
        places = pool.draw(width, rng, settings.from_rationale, first)
        passages[row], present[row, : len(places)] = pool.passages[places[0]], True
        passages[row, : len(places)] = pool.passages[places]
        target[row, : len(places)] = pool.target(places, tau)
        best[row] = 0 if hard else int(np.argmax(pool.target(places, settings.tau_teacher)))
    batch = TrainingBatch(passages, present, target, best)
    return _with_others(batch, pools) if hard else batch


def _with_others(batch: TrainingBatch, pools: Sequence[Pool]) -> TrainingBatch:
    """Add the other questions' best passages to each question's own candidates.

    A passage that is a candidate of the question itself is not present among them: it may be needed.
    """
    firsts = np.unique(batch.passages[:, 0])
    added = np.tile(firsts, (len(pools), 1))
    foreign = np.stack([~np.isin(firsts, pool.passages) for pool in pools])
    return TrainingBatch(
        passages=np.concatenate([batch.passages, np.where(foreign, added, batch.passages[:, :1])], 1),
        present=np.concatenate([batch.present, foreign], 1),
        target=np.concatenate([batch.target, np.zeros(added.shape, np.float32)], 1),
        best=batch.best,
    )


def annealed(tau: float, share: float, progress: float) -> float:
    """Return the temperature when `progress` (0 to 1) is done: from `tau` down to `share` of it by equal factors.

    It stays positive for every share. (The authors' schedule subtracts, and ends below zero for a small tau.)
    """
    return tau * share**progress
