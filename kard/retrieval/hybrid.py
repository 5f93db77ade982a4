"""BM25 and nearest vectors over the whole base as one order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kard.retrieval.fusion import Floats, Fusion, Tuned, fused, tune

if TYPE_CHECKING:
    from kard.retrieval.fuse import RelevanceLabels

Found = Sequence[tuple[str, float]]
"""Passage ids and scores, best first."""


def merge(fusion: Fusion, bm25: Found, dense: Found, k: int) -> list[tuple[str, float]]:
    """The `k` best of both lists together; equals keep BM25's order."""
    ids, words, vectors = union(bm25, dense)
    scores = fused(fusion, words, vectors)
    return [(ids[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]


def union(bm25: Found, dense: Found) -> tuple[list[str], Floats, Floats]:
    """Every passage once, BM25's first, and the score of each in either list, NaN where it is not in it."""
    words, vectors = dict(bm25), dict(dense)
    ids = list(dict.fromkeys([*words, *vectors]))
    return (
        ids,
        np.array([words.get(i, math.nan) for i in ids], dtype=np.float64),
        np.array([vectors.get(i, math.nan) for i in ids], dtype=np.float64),
    )


def choose(lists: Sequence[tuple[Found, Found]], needs: Sequence[RelevanceLabels]) -> Tuned:
    """The fusion that finds most of what the questions need."""
    both = [(union(bm25, dense), needed) for (bm25, dense), needed in zip(lists, needs, strict=True)]
    return tune([needed.judged(*lists) for lists, needed in both if lists[0]])
