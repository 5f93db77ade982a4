"""The reranker: one encoder for question and passage, and what their vectors score (section 3.3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.adapters import WEIGHTS, Worn, hash_of
from kard.config import Scorer
from kard.errors import Missing, NoBase
from kard.records import Passage
from kard.reranker.cache import Vector, VectorCache
from kard.reranker.encoder import Encoder

if TYPE_CHECKING:
    from kard.bases import Base

Scores = NDArray[np.float32]
TOGETHER: dict[Scorer, int] = {"pooled": 64, "maxsim": 4}  # questions whose passages are in memory at once


def passage_text(passage: Passage) -> str:
    """What the encoder reads of a passage: its title and text, never an id or a source's name."""
    return f"{passage.title}. {passage.text}" if passage.title else passage.text


class Reranker:
    """Scores passages by the question alone. Scores are cosines in [-1, 1], higher is better.

    `pooled` compares the means of the token vectors; `maxsim` takes, for each token of the question, the best
    cosine with a token of the passage, and averages (late interaction). A passage's score does not depend on
    what else is scored with it.
    """

    def __init__(self, encoder: Encoder, scorer: Scorer = "pooled", cache: VectorCache | None = None) -> None:
        self.encoder = encoder
        self.scorer: Scorer = scorer
        self.cache = VectorCache() if cache is None else cache

    @classmethod
    def base(cls, base: Base, *, scorer: Scorer = "pooled", max_length: int = 256) -> Reranker:
        """The untrained encoder of a base. Raises NoBase."""
        return cls(Encoder.of(base, max_length=max_length), scorer)

    @classmethod
    def load(cls, db: Database, reranker_id: str, adapters: Path) -> Reranker:
        """A trained reranker: its base with its adapter folded in.

        Raises Missing when the store does not know it or its adapter is not in the folder `adapters`, NoBase
        when the weights of the base or of the adapter are not those that the store recorded.
        """
        from kard.bases import resolve

        row = next(iter(db.query("select * from rerankers where id = ?", [reranker_id])), None)
        if row is None:
            raise Missing(f"no reranker {reranker_id} in the store; train one with: kard train reranker TASK")
        folder = adapters / Path(str(row["path"])).name
        again = f"train it again with: kard train reranker {row['task']}"
        if not (folder / WEIGHTS).is_file():
            raise Missing(f"no adapter of reranker {reranker_id} in {folder}; {again}")
        if hash_of(folder / WEIGHTS) != row["sha256"]:
            raise NoBase(
                f"{folder / WEIGHTS} is not what was trained as {reranker_id}; delete the folder and {again}"
            )
        base = resolve(str(row["base"]))
        if base.sha256 != row["base_sha256"]:
            raise NoBase(f"{base.spec} now has other weights than reranker {reranker_id} was trained on; {again}")
        settings = cast("dict[str, Any]", json.loads(str(row["settings"])))
        scorer = cast("Scorer", settings["scorer"])
        if scorer not in get_args(Scorer):
            raise NoBase(f"reranker {reranker_id} scores by {scorer!r}, unknown to this version; {again}")
        encoder = Encoder.of(base, max_length=int(settings["max_length"]))
        Worn(encoder.model).wear(folder)
        return cls(encoder, scorer)

    def encode(self, texts: Sequence[str]) -> Scores:
        """Mean-pooled unit vectors, (N texts, H width), in float32."""
        with torch.inference_mode():
            return self.encoder.pooled(texts).cpu().numpy()

    def scores(self, question: str, passages: Sequence[Passage]) -> Scores:
        """The score of each passage for the question: (P,)."""
        return self.scores_many([question], [passages])[0]

    def scores_many(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> list[Scores]:
        """For each question the scores of its passages. A passage of several questions is encoded once."""
        if len(questions) != len(passages):
            raise ValueError(f"{len(questions)} questions, but passages for {len(passages)}")
        step = TOGETHER[self.scorer]
        found: list[Scores] = []
        for start in range(0, len(questions), step):
            found.extend(self._window(questions[start : start + step], passages[start : start + step]))
        return found

    def _window(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> list[Scores]:
        asked = self._vectors(questions)
        texts = [[passage_text(p) for p in some] for some in passages]
        known = self._passages({text for some in texts for text in some})
        return [
            self._compare(question.astype(np.float32), [known[text] for text in some])
            for question, some in zip(asked, texts, strict=True)
        ]

    def _compare(self, question: Scores, passages: Sequence[Vector]) -> Scores:
        if not passages:
            return np.zeros(0, dtype=np.float32)
        if self.scorer == "pooled":
            return np.stack(passages).astype(np.float32) @ question
        starts = np.cumsum([0, *(len(p) for p in passages[:-1])])
        cosines = np.concatenate(passages).astype(np.float32) @ question.T  # (all tokens, question's tokens)
        return np.maximum.reduceat(cosines, starts, axis=0).mean(axis=1)

    def _passages(self, texts: set[str]) -> dict[str, Vector]:
        """The vectors of these texts, out of the cache where it has them."""
        known = {text: vector for text in sorted(texts) if (vector := self.cache.get(text)) is not None}
        fresh = sorted(texts - known.keys())
        for text, vector in zip(fresh, self._vectors(fresh), strict=True):
            known[text] = vector
            self.cache.put(text, vector)
        return known

    def _vectors(self, texts: Sequence[str]) -> list[Vector]:
        with torch.inference_mode():
            if self.scorer == "pooled":
                return list(self.encoder.pooled(texts).cpu().numpy().astype(np.float16))
            vectors, mask = self.encoder.token_vectors(texts)
            lengths = mask.sum(1).tolist()
            half = vectors.half().cpu().numpy()
            return [row[: int(n)].copy() for row, n in zip(half, lengths, strict=True)]
