"""From a question's candidates to what a training step sees: some of them, and what the rationales say of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kard.config import RerankerTraining

if TYPE_CHECKING:
    from kard.reranker.candidates import TrainingBatch

RANK_SHIFT = 60  # reciprocal ranks count from here, as in reciprocal rank fusion (Cormack et al., SIGIR 2009)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The passages of one rationale. Arrays are (P,); `passages` are numbers within `Lessons.texts`."""

    passages: NDArray[np.int64]
    bm25: NDArray[np.float32]  # BM25(rationale, passage)
    by_rationale: NDArray[np.bool_]  # in the rationale's own list
    question_rank: NDArray[np.int64]  # in the question's own list, 0 when not in it


@dataclass(frozen=True, slots=True)
class Pool:
    """The passages of one or several rationales of a question: arrays are (P,), `bm25` is (R rationales, P)."""

    passages: NDArray[np.int64]
    bm25: NDArray[np.float32]
    by_rationale: NDArray[np.bool_]  # in the own list of any of the rationales
    question_rank: NDArray[np.int64]

    @classmethod
    def of(cls, rationales: Sequence[Candidates]) -> Pool:
        """Every passage of these rationales, once.

        A rationale is known to score its own list and the question's. Whatever another rationale found scores at
        most as the last passage of its own list, or it would stand there; that score is taken.
        """
        passages = np.array(list(dict.fromkeys(int(p) for some in rationales for p in some.passages)), np.int64)
        place = {int(passage): at for at, passage in enumerate(passages)}
        bm25 = np.empty((len(rationales), len(passages)), np.float32)
        own, rank = np.zeros(len(passages), np.bool_), np.zeros(len(passages), np.int64)
        for row, some in zip(bm25, rationales, strict=True):
            listed = some.bm25[some.by_rationale] if some.by_rationale.any() else some.bm25
            at = [place[int(passage)] for passage in some.passages]
            row[:] = listed.min()
            row[at] = some.bm25
            own[at] |= some.by_rationale
            rank[at] = np.maximum(rank[at], some.question_rank)
        return cls(passages, bm25, own, rank)

    def first(self, count: int) -> NDArray[np.int64]:
        """What comes first: `count` passages by the rationales together, and `count` in the question's own list."""
        told = np.argsort(-self.bm25.mean(0), kind="stable")[:count]
        asked = np.flatnonzero((self.question_rank > 0) & (self.question_rank <= count))
        return self.passages[np.union1d(told, asked)]

    def only(self, passages: NDArray[np.int64]) -> Pool:
        """The same without all other passages."""
        kept = np.isin(self.passages, passages)
        return Pool(self.passages[kept], self.bm25[:, kept], self.by_rationale[kept], self.question_rank[kept])

    def draw(self, count: int, rng: Generator, share: float = 0.5, first: int | None = None) -> NDArray[np.int64]:
        """At most `count` places, none twice: a `share` from the rationales' lists, the rest from the question's.

        A short list is made up for by the other. A place given as `first` is the first of those drawn.
        """
        own = rng.permutation(np.flatnonzero(self.by_rationale))
        asked = rng.permutation(np.flatnonzero(self.question_rank))
        begin = np.array([] if first is None else [first], np.int64)
        wanted = int(np.ceil(count * share))
        own, asked = own[~np.isin(own, begin)], asked[~np.isin(asked, begin)]
        chosen = np.concatenate([begin, own[: max(0, wanted - len(begin))]])
        for rest in (asked, own):
            chosen = np.concatenate([chosen, rest[~np.isin(rest, chosen)][: count - len(chosen)]])
        return chosen

    def target(self, places: NDArray[np.int64], tau: float) -> NDArray[np.float32]:
        """The mean over the rationales of softmax(BM25(rationale, .) / tau) over these places."""
        scores = self.bm25[:, places] / tau
        weights = np.exp(scores - scores.max(1, keepdims=True))
        return (weights / weights.sum(1, keepdims=True)).mean(0)

    def best(self, say: float = 1.0) -> int:
        """The place of the best passage: the rationales have this `say`, the question's own ranking has the rest.

        BM25 by each rationale is stretched to [0, 1]; a rank r in the question's list counts 61 / (60 + r).
        """
        low, high = self.bm25.min(1, keepdims=True), self.bm25.max(1, keepdims=True)
        by_rationale = ((self.bm25 - low) / np.maximum(high - low, 1e-9)).mean(0)
        by_question = np.where(self.question_rank > 0, (RANK_SHIFT + 1) / (RANK_SHIFT + self.question_rank), 0.0)
        return int(np.argmax(say * by_rationale + (1 - say) * by_question))


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """What one step sees of its Q questions: arrays are (Q, C), `best` is (Q,).

    Where a question has fewer than C candidates, `present` is False and `passages` repeats its first.
    """

    passages: NDArray[np.int64]
    present: NDArray[np.bool_]
    target: NDArray[np.float32]  # what the rationales say, sums to 1 a question, 0 where nothing is present
    best: NDArray[np.int64]  # the column of the one to rank first


def draw(pools: Sequence[Pool], settings: RerankerTraining, rng: Generator, progress: float = 0.0) -> TrainingBatch:
    """Candidates of each question for these settings' loss, when `progress` (0 to 1) of the training is done."""
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
    drawn = TrainingBatch(passages, present, target, best)
    return _against_others(drawn, pools) if hard else drawn


def _against_others(drawn: TrainingBatch, pools: Sequence[Pool]) -> TrainingBatch:
    """The same with the other questions' best passages beside each question's own candidates.

    One that is a candidate of the question itself takes no part: it may be needed.
    """
    firsts = np.unique(drawn.passages[:, 0])
    added = np.tile(firsts, (len(pools), 1))
    strange = np.stack([~np.isin(firsts, pool.passages) for pool in pools])
    return TrainingBatch(
        passages=np.concatenate([drawn.passages, np.where(strange, added, drawn.passages[:, :1])], 1),
        present=np.concatenate([drawn.present, strange], 1),
        target=np.concatenate([drawn.target, np.zeros(added.shape, np.float32)], 1),
        best=drawn.best,
    )


def annealed(tau: float, share: float, progress: float) -> float:
    """The temperature when `progress` (0 to 1) is done: from `tau` down to `share` of it by equal factors.

    It stays positive whatever the share. (The authors' schedule subtracts, and ends below zero for a small tau.)
    """
    return tau * share**progress
