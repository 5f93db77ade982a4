"""What a student reads for each question: the passages of one retriever, taken from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kard.config import RANKED
from kard.db import rows
from kard.errors import Missing
from kard.records import Passage

if TYPE_CHECKING:
    from sqlite_utils import Database

Reading = Mapping[int, Sequence[Passage]]  # question id: passages, best first


def reading(
    db: Database,
    task: str,
    split: str,
    retriever: str,
    *,
    k: int,
    index_id: str | None,
    reranker_id: str | None,
    retriever_id: str | None = None,
    kappa: int = 100,
) -> Reading:
    """The top `k` passages of `retriever` for every question of a split that has them.

    `bm25` and `reranker` rank by the question (section 3.4), `silver` by a rationale of the question, the
    upper bound of the paper's tables, and `shuffled` gives each question the reranker's passages of the
    question half a split away: knowledge of the right kind about the wrong thing. The reranker orders the first
    `kappa`. `fused`, `dense` and `hybrid` are orders that were kept under `retriever_id`.
    Raises Missing when a step that the retriever rests on has not been run.
    """
    if retriever == "none":
        return {}
    if index_id is None:
        raise Missing(f"retriever {retriever!r} needs a knowledge base; make one with: kard index SOURCE")
    query = "reranked" if retriever in ("reranker", "shuffled") else "ranked" if retriever in RANKED else retriever
    if query == "ranked" and retriever_id is None:
        raise Missing(f"nothing is ranked by {retriever!r} yet; run: kard run {task} --retriever {retriever}")
    if query == "reranked" and reranker_id is None:
        raise Missing(f"retriever {retriever!r} needs a reranker; train one with: kard train reranker {task}")
    given = {"k": k, "kappa": kappa, "index": index_id, "reranker": reranker_id, "retriever": retriever_id}
    found: dict[int, list[Passage]] = {}
    for row in rows(db, f"read_{query}", task=task, split=split, **given):
        passage = Passage(
            str(row["id"]), str(row["document"]), int(str(row["part"])), str(row["title"]), str(row["text"])
        )
        found.setdefault(int(str(row["question_id"])), []).append(passage)
    if not found:
        step = "rationales of this split" if retriever == "silver" else "retrieval"
        raise Missing(f"no {step} for {task}/{split} on the current index; run: kard run {task}")
    return shuffled(found) if retriever == "shuffled" else found


def shuffled(found: Reading) -> Reading:
    """Each question with the passages of the one half a split away; nobody keeps their own (n > 1)."""
    keys = sorted(found)
    half = len(keys) // 2
    return {key: found[keys[(i + half) % len(keys)]] for i, key in enumerate(keys)}
