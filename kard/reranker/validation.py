"""Scores of questions and passages as training computes them, and Hits@k on questions that are not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kard.config import CUTOFFS, RerankerTraining
from kard.encoders.cross_encoder import CrossEncoder
from kard.encoders.encoder import Encoder
from kard.reranker.dataset import TrainingQuestion
from kard.reranker.passage_vectors import CandidatePassages

TOGETHER = 8  # questions measured at once: token vectors of their passages take some 50 MB


def score_matrix(
    encoder: Encoder | CrossEncoder,
    questions: Sequence[str],
    numbers: np.ndarray[Any, np.dtype[np.int64]],
    shelf: CandidatePassages,
    settings: RerankerTraining,
) -> Tensor:
    """Scores (Q, C) of the passages with these numbers (Q, C) on the shelf, with gradients.

    They go through both sides, but for a shelf of vectors. (The authors' code leaves the passages' side out, by a
    flag that is set but never passed on.)
    """
    distinct, back = np.unique(numbers, return_inverse=True)
    where = back.reshape(numbers.shape)
    if isinstance(encoder, CrossEncoder):
        rows = np.repeat(np.arange(len(questions)), where.shape[1])
        pairs, back = np.unique(np.stack([rows, where.ravel()], 1), axis=0, return_inverse=True)
        passages = shelf.read(distinct)
        asked, read = [questions[int(q)] for q, _ in pairs], [passages[int(p)] for _, p in pairs]
        scores = encoder.pair_scores(asked, read, fast=True)
        return scores[torch.from_numpy(back.ravel()).to(encoder.device)].view(where.shape)
    index = torch.from_numpy(where).to(encoder.device)
    if settings.scorer == "pooled":
        vectors = shelf.rows(distinct, encoder.device)
        if vectors is None:
            vectors = encoder.pooled(shelf.read(distinct), fast=True)
        return torch.einsum("qh,qch->qc", encoder.pooled(questions, fast=True), vectors[index])
    asked_vectors, asked_mask = encoder.token_vectors(questions, fast=True)
    found, found_mask = encoder.token_vectors(shelf.read(distinct), fast=True)
    lines: list[Tensor] = []
    for question, mask, places in zip(asked_vectors, asked_mask, index, strict=True):  # memory stays small
        cosines = torch.einsum("th,csh->cts", question[mask], found[places])
        best = cosines.masked_fill(~found_mask[places].unsqueeze(1), -1.0).amax(-1)
        lines.append(best.mean(-1))
    return torch.stack(lines)


def hits_at(
    encoder: Encoder | CrossEncoder,
    lessons: Sequence[TrainingQuestion],
    shelf: CandidatePassages,
    settings: RerankerTraining,
) -> dict[str, float]:
    """Hits@1, 3, 5, 10 over the questions' own lists, ranked by the encoder as it is now; {} without questions."""
    ranked: list[tuple[frozenset[int], list[int]]] = []
    asked = [lesson for lesson in lessons if lesson.question_list()]
    ranked.extend((lesson.needed, []) for lesson in lessons if not lesson.question_list())
    with torch.no_grad():
        for start in range(0, len(asked), TOGETHER):
            some = asked[start : start + TOGETHER]
            lists = [lesson.question_list() for lesson in some]
            width = max(len(numbers) for numbers in lists)
            padded = np.array([[*numbers, *numbers[:1] * (width - len(numbers))] for numbers in lists], np.int64)
            scores = score_matrix(encoder, [lesson.text for lesson in some], padded, shelf, settings)
            for lesson, numbers, row in zip(some, lists, scores, strict=True):
                order = torch.argsort(row[: len(numbers)], descending=True, stable=True).tolist()
                ranked.append((lesson.needed, [numbers[i] for i in order]))
    return share_within(ranked)


def share_within(ranked: Sequence[tuple[frozenset[int], Sequence[int]]]) -> dict[str, float]:
    """Share of questions with a needed passage among the first k, by k as text (JSON's keys)."""
    if not ranked:
        return {}
    return {
        str(k): round(sum(not needed.isdisjoint(order[:k]) for needed, order in ranked) / len(ranked), 4)
        for k in CUTOFFS
    }


def mean_of(hits: Mapping[str, float]) -> float:
    """One number of Hits@1, 3, 5 and 10: steadier than any of them."""
    return sum(hits.values()) / len(hits) if hits else 0.0
