"""Measure questions a second with 100 candidates each: the official way, and kard with and without stored vectors.

    python benchmarks/rerank.py KNOWLEDGE ../shared/data/strategyqa/questions.jsonl [--json docs/benchmarks.json]

For every question, the official code encodes the question and all of its passages anew, each padded to 512 tokens,
in float32. All three ways get the same encoder, questions and candidates (BM25's first 100) in one process. Vectors
go to a folder of their own. Ratios are of CPU seconds. FILE keeps what else it holds.
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
from peers import keep
from torch.nn import functional

from kard.encoders.encoder import Encoder
from kard.encoders.vectors import Encodings, passage_text
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
    """The seconds that one way took."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Generator[None]:
        """Add the seconds of the block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def official(encoder: Encoder, questions: Sequence[str], lists: Sequence[Sequence[Passage]]) -> Scores:
    """Return the scores of each question's passages, all padded to 512 tokens; nothing is kept."""

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
    """Return the scores as `kard run` computes them: each passage without a vector is encoded once."""
    passages = {p.id: p for candidates in lists for p in candidates}
    attach_vectors(reranker, encodings, list(passages), lambda ids: [passages[i] for i in ids])
    return scores_of(reranker, questions, lists)


def agreement(theirs: Scores, other: Scores) -> tuple[int, int, float]:
    """Count questions with the same first passage and with the same first ten; return also the widest swapped gap.

    It is the largest difference of the official scores of two passages that the other order swaps.
    """
    first = ten = 0
    widest = 0.0
    for a, b in zip(theirs, other, strict=True):
        order_a, order_b = np.argsort(-a, kind="stable"), np.argsort(-b, kind="stable")
        first += int(order_a[0] == order_b[0])
        ten += int(set(order_a[:10].tolist()) == set(order_b[:10].tolist()))
        swapped = (np.subtract.outer(a, a) > 0) & (np.subtract.outer(b, b) < 0)
        if swapped.any():
            widest = max(widest, float(np.subtract.outer(a, a)[swapped].max()))
    return first, ten, widest


def main(knowledge: Path, file: Path, count: int, slow: int, candidates: int, report: Path | None) -> None:
    """Measure the three ways; print a line for each, then how far the orders agree."""
    kb = KnowledgeBase.open(knowledge)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    questions = [row["question"] for row in rows if row["split"] == "dev"][:count]
    lists = [[hit.passage for hit in kb.search(text, candidates)] for text in questions]
    base = resolve(ENCODER_BASE)
    encoder = Encoder.of(base, max_length=PADDED)
    reranker = Reranker(encoder)
    distinct = len({p.id for passages in lists for p in passages})
    print(f"{len(questions)} questions, {distinct:,} distinct passages, {torch.get_num_threads()} threads")
    encoder.pooled([passage_text(p) for p in lists[0][:4]])  # a first call also sets up what later calls reuse
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
    speeds = {name: counts[name] / clock.cpu for name, clock in clocks.items()}
    for name, clock in clocks.items():
        times = speeds[name] / speeds["official"]
        print(
            f"{name:<9} {counts[name]:>4} questions {clock.wall:8.2f} s {clock.cpu:8.2f} CPU s"
            f" {speeds[name]:9.3f} questions a CPU s {times:8.1f}x"
        )
    first, ten, widest = agreement(theirs, scores[: len(theirs)])
    print(
        f"orders: {first} of {len(theirs)} first passages and {ten} first tens are the same; pairs that changed"
        f" places differ by {widest:.5f} at most"
    )
    print(f"on disk: {size / distinct:.0f} bytes a passage")
    if report:
        about = {
            "threads": torch.get_num_threads(),
            "candidates": candidates,
            "counts": counts,
            "distinct": distinct,
        }
        agree = {"first": first, "ten": ten, "widest": round(widest, 5)}
        keep(report, "reranking", {**about, **agree, "speeds": {name: round(s, 4) for name, s in speeds.items()}})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("knowledge", type=Path)
    parser.add_argument("questions", type=Path, help="JSON lines with question and split; those of dev are ranked")
    parser.add_argument("--count", type=int, default=40, help="questions")
    parser.add_argument("--slow", type=int, default=5, help="of them for the official way")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--json", type=Path, help="report of benchmarks/peers.py, to add to")
    options = parser.parse_args()
    main(options.knowledge, options.questions, options.count, options.slow, options.candidates, options.json)
