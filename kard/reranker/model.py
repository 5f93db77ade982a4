"""The reranker: what a question and a passage score, by their vectors or read together (section 3.3)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.config import Scorer
from kard.encoders.cross_encoder import CrossEncoder
from kard.encoders.encoder import Encoder, passage_text
from kard.encoders.vector_cache import Vector, VectorCache
from kard.errors import BadConfig, Missing, NoBase
from kard.models.adapters import WEIGHTS, AdapterSwitcher, hash_of
from kard.records import Passage

if TYPE_CHECKING:
    from kard.models.bases import Base

Scores = NDArray[np.float32]
TOGETHER: dict[Scorer, int] = {
    "pooled": 64,
    "maxsim": 4,
    "cross": 8,
}  # questions whose passages are in memory at once


class Reranker:
    """Scores passages by the question alone, higher is better.

    `pooled` compares the means of the token vectors; `maxsim` takes, for each token of the question, the best
    cosine with a token of the passage, and averages (late interaction); both give cosines in [-1, 1]. `cross` reads
    each question with each passage and gives a number without bounds. A passage's score does not depend on
    what else is scored with it.
    """

    def __init__(
        self,
        model: Encoder | CrossEncoder,
        scorer: Scorer = "pooled",
        cache: VectorCache | None = None,
        *,
        passages: Callable[[], Encoder] | None = None,
    ) -> None:
        if isinstance(model, CrossEncoder) != (scorer == "cross"):
            raise ValueError(f"a {type(model).__name__} does not score by {scorer}")
        self.model = model  # of questions, and of passages unless those have an encoder of their own
        self._load_passages = passages
        self.scorer: Scorer = scorer
        self.cache = VectorCache() if cache is None else cache
        self.fast = False  # vectors in bfloat16 where the machine multiplies it: half the time, 2e-3 of a cosine

    @property
    def encoder(self) -> Encoder:
        """What makes the vectors of questions. Raises BadConfig for a cross-encoder, which makes none."""
        if isinstance(self.model, CrossEncoder):
            raise BadConfig("a cross-encoder has no vectors to search with; use the scorer pooled or maxsim")
        return self.model

    @property
    def apart(self) -> bool:
        """Whether passages have an encoder of their own: the base as it is, where only questions learned."""
        return self._load_passages is not None

    @cached_property
    def passage_encoder(self) -> Encoder:
        """What makes the vectors of passages. One of its own is loaded when a passage has no vector yet."""
        return self.encoder if self._load_passages is None else self._load_passages()

    @classmethod
    def base(cls, base: Base, *, scorer: Scorer = "pooled", max_length: int = 256) -> Reranker:
        """The untrained encoder of a base. Raises NoBase."""
        if scorer == "cross":
            return cls(CrossEncoder.of(base, max_length=max_length), scorer)
        return cls(Encoder.of(base, max_length=max_length), scorer)

    @classmethod
    def load(cls, db: Database, reranker_id: str, adapters: Path) -> Reranker:
        """A trained reranker: its base with its adapter folded in, and whatever else was trained in its place.

        Raises Missing when the store does not know it or its adapter is not in the folder `adapters`, NoBase
        when the weights of the base or of the adapter are not those that the store recorded.
        """
        from kard.models.bases import resolve

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
        length = int(settings["max_length"])
        if scorer == "cross":
            model: Encoder | CrossEncoder = CrossEncoder.of(base, max_length=length)
        else:
            model = Encoder.of(base, max_length=length, projection=bool(settings.get("projection")))
        AdapterSwitcher(model.model).activate(folder)
        apart = settings.get("side", "both") == "question"
        return cls(model, scorer, passages=partial(Encoder.of, base, max_length=length) if apart else None)

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
        texts = [[passage_text(p) for p in some] for some in passages]
        if isinstance(self.model, CrossEncoder):
            return _read_together(self.model, questions, texts)
        asked = self._vectors(self.encoder, questions)
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
        made = self._vectors(self.passage_encoder, fresh) if fresh else []
        for text, vector in zip(fresh, made, strict=True):
            known[text] = vector
            self.cache.put(text, vector)
        return known

    def _vectors(self, encoder: Encoder, texts: Sequence[str]) -> list[Vector]:
        with torch.inference_mode():
            if self.scorer == "pooled":
                return list(encoder.pooled(texts, fast=self.fast).cpu().numpy().astype(np.float16))
            vectors, mask = encoder.token_vectors(texts, fast=self.fast)
            lengths = mask.sum(1).tolist()
            half = vectors.half().cpu().numpy()
            return [row[: int(n)].copy() for row, n in zip(half, lengths, strict=True)]


def _read_together(model: CrossEncoder, questions: Sequence[str], texts: Sequence[Sequence[str]]) -> list[Scores]:
    """For each question the scores of its texts, each distinct pair read once."""
    lists = [[(question, text) for text in some] for question, some in zip(questions, texts, strict=True)]
    pairs = sorted({pair for some in lists for pair in some})
    with torch.inference_mode():
        found = model.pair_scores([question for question, _ in pairs], [text for _, text in pairs])
    scores = dict(zip(pairs, found.tolist(), strict=True))
    return [np.array([scores[pair] for pair in some], dtype=np.float32) for some in lists]
