"""BM25 and nearest vectors over the whole base as one order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kard.reranker.fusion import Fusion, Judged, Tuned, fused, tune

Found = Sequence[tuple[str, float]]
"""Passage ids and scores, best first."""


def merge(fusion: Fusion, bm25: Found, dense: Found, k: int) -> list[tuple[str, float]]:
    """The `k` best of both lists together; equals keep BM25's order."""
    ids, words, vectors = union(bm25, dense)
    scores = fused(fusion, words, vectors)
    return [(ids[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]


def union(bm25: Found, dense: Found) -> tuple[list[str], np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    """Every passage once, BM25's first, and the score of each in either list, NaN where it is not in it."""
    words, vectors = dict(bm25), dict(dense)
    ids = list(dict.fromkeys([*words, *vectors]))
    return (
        ids,
        np.array([words.get(i, math.nan) for i in ids], dtype=np.float64),
        np.array([vectors.get(i, math.nan) for i in ids], dtype=np.float64),
    )


def choose(lists: Sequence[tuple[Found, Found]], judges: Sequence[Sequence[frozenset[str]]]) -> Tuned:
    """The fusion that finds most of the passages that each question's judges name (see `kard.reranker.fusing`)."""
    judged: list[Judged] = []
    for (bm25, dense), named in zip(lists, judges, strict=True):
        ids, words, vectors = union(bm25, dense)
        if ids:
            judged.append(Judged(words, vectors, np.array([[i in judge for i in ids] for judge in named])))
    return tune(judged)
