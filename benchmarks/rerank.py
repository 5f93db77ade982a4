"""Questions a second with 100 candidates each: the official way, and this one with and without vectors on disk.

    python benchmarks/rerank.py KNOWLEDGE ../shared/data/strategyqa/questions.jsonl

The official code encodes the question and all of its passages anew for every question, each padded to 512 tokens,
in float32. All three get one encoder, the same questions and the same candidates (BM25's first 100) in one
process; vectors go to a folder of their own. Speed is questions over wall-clock seconds, so run it on quiet cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from kard.encoders.encoder import Encoder, passage_text
from kard.encoders.vectors import Encodings
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.models.bases import resolve
from kard.records import Passage
from kard.reranker.model import Reranker
from kard.retrieval.rerank import attach_vectors, scores_of
from kard.tasks import ENCODER_BASE

PADDED = 512  # tokens, on either side
Scores = list[NDArray[np.float32]]


@dataclass
class Clock:
    """Seconds of one way."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Generator[None]:
        """Counts what happens inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def official(encoder: Encoder, questions: Sequence[str], lists: Sequence[Sequence[Passage]]) -> Scores:
    """Each question with its passages, all padded to 512 tokens, nothing kept."""

    def vectors(texts: Sequence[str]) -> torch.Tensor:
        tokens = encoder.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=PADDED, return_tensors="pt"
        )
        weight = tokens["attention_mask"].unsqueeze(-1).float()
        states = encoder.model(**tokens).last_hidden_state.float()
        return functional.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)

    scores: Scores = []
    with torch.inference_mode():
        for question, passages in zip(questions, lists, strict=True):
            question_vector = vectors([question])
            passage_vectors = vectors([passage_text(p) for p in passages])
            scores.append((passage_vectors @ question_vector[0]).numpy())
    return scores


def ours(
    reranker: Reranker, encodings: Encodings, questions: Sequence[str], lists: Sequence[list[Passage]]
) -> Scores:
    """As `kard run` ranks: what has no vector is encoded, once each, then all are compared."""
    passages = {p.id: p for candidates in lists for p in candidates}
    attach_vectors(reranker, encodings, list(passages), lambda ids: [passages[i] for i in ids])
    return scores_of(reranker, questions, lists)


def swapped(theirs: Scores, other: Scores) -> tuple[int, int, float]:
    """Questions with the same first passage, with the same ten first, and the widest gap of a pair that swapped.

    The gap is by how much the official scores of the two differ.
    """
    first = ten = 0
    widest = 0.0
    for a, b in zip(theirs, other, strict=True):
        x, y = np.argsort(-a, kind="stable"), np.argsort(-b, kind="stable")
        first += int(x[0] == y[0])
        ten += int(set(x[:10].tolist()) == set(y[:10].tolist()))
        turned = (np.subtract.outer(a, a) > 0) & (np.subtract.outer(b, b) < 0)
        if turned.any():
            widest = max(widest, float(np.subtract.outer(a, a)[turned].max()))
    return first, ten, widest


def main(knowledge: Path, file: Path, count: int, slow: int, candidates: int) -> None:
    """Print a line for each way, then how the orders agree."""
    kb = KnowledgeBase.open(knowledge)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    questions = [row["question"] for row in rows if row["split"] == "dev"][:count]
    lists = [[hit.passage for hit in kb.search(text, candidates)] for text in questions]
    base = resolve(ENCODER_BASE)
    encoder = Encoder.of(base, max_length=PADDED)
    reranker = Reranker(encoder)
    distinct = len({p.id for passages in lists for p in passages})
    print(f"{len(questions)} questions, {distinct:,} distinct passages, {torch.get_num_threads()} threads")
    encoder.pooled([passage_text(p) for p in lists[0][:4]])  # what a first call sets up is nobody's time
    clocks = {name: Clock() for name in ("official", "uncached", "cached")}
    with clocks["official"].running():
        theirs = official(encoder, questions[:slow], lists[:slow])
    spec = encoder.vector_spec(base=base.spec, base_sha256=base.sha256)
    with TemporaryDirectory() as folder:
        encodings = Encodings(Path(folder), spec)
        with clocks["uncached"].running():
            ours(reranker, encodings, questions, lists)
        with clocks["cached"].running():
            scores = ours(reranker, encodings, questions, lists)
        size = sum(f.stat().st_size for f in Path(folder).iterdir())
        encodings.close()
    counts = {"official": len(theirs), "uncached": len(questions), "cached": len(questions)}
    speeds = {name: counts[name] / clock.wall for name, clock in clocks.items()}
    for name, clock in clocks.items():
        times = speeds[name] / speeds["official"]
        print(
            f"{name:<9} {counts[name]:>4} questions {clock.wall:8.2f} s {clock.cpu:8.2f} CPU s"
            f" {speeds[name]:9.3f} questions/s {times:8.1f}x"
        )
    first, ten, widest = swapped(theirs, scores[: len(theirs)])
    print(
        f"orders: {first} of {len(theirs)} first passages and {ten} first tens are the same; pairs that changed"
        f" places differ by {widest:.5f} at most"
    )
    print(f"on disk: {size / distinct:.0f} bytes a passage")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("knowledge", type=Path)
    parser.add_argument("questions", type=Path, help="JSON lines with question and split; dev is counts")
    parser.add_argument("--count", type=int, default=40, help="questions")
    parser.add_argument("--slow", type=int, default=5, help="of them for the official way")
    parser.add_argument("--candidates", type=int, default=100)
    given = parser.parse_args()
    main(given.knowledge, given.questions, given.count, given.slow, given.candidates)
