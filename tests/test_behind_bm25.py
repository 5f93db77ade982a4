"""A reranker that loses to its own first stage on held-out questions is named."""

from __future__ import annotations

import json

import pytest
from sqlite_utils import Database

from kard.pipeline.rerank import behind_bm25

BM25 = {"1": 0.5, "10": 0.9, "3": 0.7, "5": 0.8}  # as the store sorts them


@pytest.mark.parametrize(("at_1", "warns"), [(0.3, True), (0.5, False), (0.6, False), (None, False)])
def test_a_reranker_that_ranks_worse_than_bm25_is_named_with_its_figures(at_1: float | None, warns: bool) -> None:
    db = Database(memory=True)
    after = {} if at_1 is None else {**BM25, "1": at_1}
    metrics = {"held_out": 30, "hits_bm25": BM25, "hits_before": {**BM25, "1": 0.2}, "hits_after": after}
    db.table("rerankers").insert({"id": "r1", "metrics": json.dumps(metrics)})
    line = behind_bm25(db, "r1")
    assert bool(line) == warns
    if warns:
        for part in (
            "30 held-out",
            "the reranker 0.30/0.70",
            "untrained 0.20",
            "BM25 0.50/0.70",
            "--retriever fused",
        ):
            assert part in line
        assert "\n" not in line
