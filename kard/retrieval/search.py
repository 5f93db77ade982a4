"""A person's one question to a knowledge base by vectors, or by words and vectors."""

from __future__ import annotations

import math
from pathlib import Path

from kard.config import RerankerTraining
from kard.errors import Missing
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.models.bases import resolve
from kard.progress import SILENT, Progress
from kard.records import Hit
from kard.retrieval.dense import Dense
from kard.retrieval.dense_rankings import Reader, reader_of, reader_of_reranker
from kard.retrieval.fusion import Fusion
from kard.retrieval.hybrid import merge
from kard.tasks import ENCODER_BASE

AT_ONCE = 2_000  # passages that a search encodes by the way: half a minute of one core with the embedded encoder
DEPTH = 100  # of either list before they are mixed


def named_reader(name: str | None, store: Path, adapters: Path) -> Reader:
    """The encoder of a base's name or of a reranker's id in the store; the embedded base without a name.

    Raises NoBase, Missing, BadConfig.
    """
    if name is None or name == ENCODER_BASE:
        return reader_of(resolve(ENCODER_BASE), max_length=RerankerTraining().max_length)
    if store.exists():
        from kard.db import open_store

        db = open_store(store)
        if db.execute("select 1 from rerankers where id = ?", [name]).fetchone():
            return reader_of_reranker(db, name, adapters)
    return reader_of(resolve(name))


def ask(kb: KnowledgeBase, reader: Reader, text: str, k: int, kind: str) -> list[Hit]:
    """The `k` best passages by `dense` or `hybrid` search. Raises Missing when too many have no vector yet."""
    dense = Dense(kb, reader.embedder)
    lacking = len(dense.lacking())
    if lacking > AT_ONCE:
        named = reader.retriever.reranker_id or reader.retriever.base
        chosen = "" if named == ENCODER_BASE else f" --encoder {named}"
        raise Missing(
            f"{lacking:,} passages have no vector by {named} yet; make them once with:"
            f" kard encodings fill{chosen} --knowledge {kb.folder}"
        )
    if lacking:
        dense.fill()
    if kind == "dense":
        return dense.search(text, k)
    words = [(hit.passage.id, hit.bm25) for hit in kb.search(text, max(k, DEPTH))]
    found = merge(Fusion(), words, dense.find([text], max(k, DEPTH))[0], k)
    bm25, passages = dict(words), {p.id: p for p in kb.passages([i for i, _ in found])}
    return [Hit(passages[i], rank, bm25.get(i, math.nan), score) for rank, (i, score) in enumerate(found, 1)]


def fill(kb: KnowledgeBase, reader: Reader, progress: Progress = SILENT) -> tuple[int, Dense]:
    """Encode every passage that has no vector yet; how many those were, and the search over them."""
    dense = Dense(kb, reader.embedder)
    return dense.fill(progress), dense
