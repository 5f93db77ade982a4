"""The passages that a training compares questions with: as texts, or as vectors where only questions learn.

Vectors of passages that do not learn are those of the base as it is. They are worked out once, kept beside the
knowledge base, and read again by every training and every ranking with that base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from kard.encoders.encoder import Encoder
from kard.encoders.vector_cache import encode_with, fill, maker_of
from kard.encoders.vector_store import beside
from kard.passages import read_passages
from kard.progress import SILENT, Progress

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.models.bases import Base
    from kard.records import Passage
    from kard.reranker.dataset import RerankerDataset

Numbers = NDArray[np.int64]
"""Passages by their numbers within `RerankerDataset.texts`, each once."""
Vectors = NDArray[np.float16]
"""(N passages, H), of unit length."""
VectorsOf = Callable[[Encoder, Numbers], Vectors]


@dataclass(frozen=True, slots=True)
class CandidatePassages:
    """Passages by number. With `vectors`, which has a row for each of `texts`, only those are compared."""

    texts: Sequence[str]
    vectors: Vectors | None = None

    @classmethod
    def of(
        cls, lessons: RerankerDataset, encoder: Encoder, numbers: Iterable[int], vectors_of: VectorsOf | None
    ) -> CandidatePassages:
        """With the vectors of these passages; no other passage may be compared.

        Without `vectors_of` they are made here and kept nowhere.
        """
        wanted = np.unique(np.fromiter(numbers, np.int64))
        found = (vectors_of or in_memory(lessons))(encoder, wanted)
        rows = np.zeros((len(lessons.texts), encoder.width), np.float16)
        rows[wanted] = found
        return cls(lessons.texts, rows)

    def read(self, numbers: Numbers) -> list[str]:
        """The texts of these passages."""
        return [self.texts[int(i)] for i in numbers]

    def rows(self, numbers: Numbers, device: torch.device) -> torch.Tensor | None:
        """The vectors of these passages, (N, H) in float32; None when they are to be encoded from their texts."""
        if self.vectors is None:
            return None
        return torch.from_numpy(self.vectors[numbers].astype(np.float32)).to(device)


def in_memory(lessons: RerankerDataset) -> VectorsOf:
    """Vectors made from the lessons' texts."""

    def vectors(encoder: Encoder, numbers: Numbers) -> Vectors:
        with torch.inference_mode():
            return encoder.pooled([lessons.texts[i] for i in numbers]).cpu().numpy().astype(np.float16)

    return vectors


def on_disk(
    db: Database, lessons: RerankerDataset, base: Base, knowledge: Path, progress: Progress = SILENT
) -> VectorsOf:
    """Vectors read from the knowledge base's folder, after what is missing was made there.

    What finds no room on the disk is made in memory.
    """

    def read(ids: Sequence[str]) -> Iterable[Passage]:
        # In two parts: the order within a batch moves a hundredth of its vectors by their last bit.
        return [*read_passages(db, ids[:900]).values(), *read_passages(db, ids[900:]).values()]

    def vectors(encoder: Encoder, numbers: Numbers) -> Vectors:
        maker = maker_of(encoder, "pooled", base=base.spec, base_sha256=base.sha256)
        encodings = beside(knowledge, maker)
        ids = [lessons.ids[i] for i in numbers]
        made = encode_with(encoder, "pooled")
        fill(encodings, ids, read, made, progress=progress)
        known = encodings.get(ids)
        rows = np.zeros((len(ids), encoder.width), np.float16)
        for place, passage in enumerate(ids):
            if passage in known:
                rows[place] = known[passage]
        encodings.close()
        if lost := [place for place, passage in enumerate(ids) if passage not in known]:
            rows[lost] = in_memory(lessons)(encoder, numbers[lost])
        return rows

    return vectors
