"""Vectors of passages while they are likely to be asked for again: in memory, and on disk for every later run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kard.encoders.vector_store import Encodings, Vector, VectorSpec
from kard.progress import SILENT, Progress

if TYPE_CHECKING:
    from kard.config import Scorer
    from kard.encoders.encoder import Encoder
    from kard.records import Passage

TOGETHER = 1024  # passages a commit: sorted by length they pad by 2%, and a kill loses seconds
WITH_VECTORS = ("pooled", "maxsim")  # scorers that read a passage without its question

Read = Callable[[Sequence[str]], Iterable["Passage"]]
"""From passage ids to passages."""
Encode = Callable[[Sequence["Passage"]], Sequence[Vector]]


class VectorCache:
    """Half-precision vectors by key, the least recently used dropped beyond `limit` bytes."""

    def __init__(self, limit: int = 256 << 20) -> None:
        self.limit = limit
        self.size = 0  # bytes held
        self._held: OrderedDict[str, Vector] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> Vector | None:
        """The vector of that key, which then is the most recently used; None when it is not held."""
        vector = self._held.get(key)
        if vector is not None:
            self._held.move_to_end(key)
        return vector

    def put(self, key: str, vector: Vector) -> None:
        """Keep the vector, dropping older ones if need be."""
        replaced = self._held.pop(key, None)
        if replaced is not None:
            self.size -= replaced.nbytes
        self._held[key] = vector
        self.size += vector.nbytes
        while self.size > self.limit:
            _, dropped = self._held.popitem(last=False)
            self.size -= dropped.nbytes


class DiskCache(VectorCache):
    """A cache that looks first among the vectors on disk, for the passages that were announced."""

    def __init__(self, encodings: Encodings, limit: int = 256 << 20) -> None:
        super().__init__(limit)
        self._encodings = encodings
        self._announced: dict[str, Vector] = {}

    def announce(self, passages: Mapping[str, str]) -> None:
        """The passages of the next questions: their ids by key, in place of those announced before."""
        vectors = self._encodings.get(list(passages.values()))
        self._announced = {key: vectors[i] for key, i in passages.items() if i in vectors}

    def get(self, key: str) -> Vector | None:
        """The vector on disk, or else in memory, or else None."""
        found = self._announced.get(key)
        return super().get(key) if found is None else found


def fill(
    encodings: Encodings,
    ids: Sequence[str],
    read: Read,
    encode: Encode,
    *,
    progress: Progress = SILENT,
) -> int:
    """Encode those of the passages that have no vector on disk yet, a batch a commit; how many were new."""
    missing = encodings.missing(ids)
    added = 0
    with progress.bar("encode passages", len(missing)) as advance:
        for start in range(0, len(missing), TOGETHER):
            some = missing[start : start + TOGETHER]
            passages = list(read(some))
            vectors = encode(passages)
            if not encodings.has_room(sum(v.nbytes for v in vectors)):
                break  # the rest is encoded when it is asked for, and kept in memory
            added += encodings.add({p.id: v for p, v in zip(passages, vectors, strict=True)})
            advance(len(some))
    return added


def maker_of(
    encoder: Encoder, scorer: Scorer, *, base: str, base_sha256: str, adapter_sha256: str = ""
) -> VectorSpec:
    """What decides the vectors that `encode_with` makes with the same arguments."""
    return VectorSpec(
        base=base,
        base_sha256=base_sha256,
        adapter_sha256=adapter_sha256,
        pooling=scorer,
        max_length=encoder.max_length,
        width=encoder.width,
    )


def encode_with(encoder: Encoder, scorer: Scorer) -> Encode:
    """How a reranker's encoder reads passages: in float32.

    bfloat16 would encode 1.7 times as fast (58 against 34 passages a second of one core) and is paid for with the
    order: over 60 questions with 100 Wikipedia passages each, scores moved by up to .0024, four of the first tens
    changed a passage and one passage moved four places; none of the first three did. Half precision on the disk
    moves a score by .00004 and no passage by more than one place.
    """
    import torch

    from kard.encoders.encoder import passage_text

    def encode(passages: Sequence[Passage]) -> Sequence[Vector]:
        texts = [passage_text(p) for p in passages]
        with torch.inference_mode():
            if scorer == "pooled":
                return list(encoder.pooled(texts).cpu().numpy().astype(np.float16))
            vectors, mask = encoder.token_vectors(texts)
            half = vectors.half().cpu().numpy()
            return [row[: int(n)] for row, n in zip(half, mask.sum(1).tolist(), strict=True)]

    return encode
