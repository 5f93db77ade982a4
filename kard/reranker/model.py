"""The reranker: scores of a question's passages, by their vectors or read together with it (section 3.3)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.config import RerankerTraining, Scorer
from kard.encoders.encoder import CrossEncoder, Encoder
from kard.encoders.vectors import Vector, VectorCache, passage_text
from kard.errors import BadConfig, Missing, NoBase
from kard.models.adapters import WEIGHTS, AdapterSwitcher, changed_file, write_adapter
from kard.recipes import stored_settings
from kard.records import Passage

if TYPE_CHECKING:
    from kard.models.bases import Base

RerankerModel = Encoder | CrossEncoder
Scores = NDArray[np.float32]
# Questions whose passages are in memory at once.
BATCH: dict[Scorer, int] = {"pooled": 64, "maxsim": 4, "cross": 8}


class Reranker:
    """Scores passages by the question alone, higher is better.

    `pooled` compares the means of the token vectors. `maxsim` takes for each token of the question the best cosine
    with a token of the passage, and averages (late interaction). Both give cosines in [-1, 1]. `cross` reads each
    question with each passage and gives a number without bounds. A passage's score does not depend on what else is
    scored with it.
    """

    def __init__(
        self,
        model: RerankerModel,
        scorer: Scorer = "pooled",
        *,
        passages: Callable[[], Encoder] | None = None,
    ) -> None:
        if isinstance(model, CrossEncoder) != (scorer == "cross"):
            raise ValueError(f"a {type(model).__name__} does not score by {scorer}")
        self.model = model  # of questions, and of passages unless those have an encoder of their own
        self._load_passage_encoder = passages
        self.scorer: Scorer = scorer
        self.cache = VectorCache()
        self.fast = False  # vectors in bfloat16 where the hardware multiplies it: half the time, 2e-3 of a cosine

    @property
    def encoder(self) -> Encoder:
        """The encoder of questions. Raises BadConfig for a cross-encoder, which makes no vectors."""
        if isinstance(self.model, CrossEncoder):
            raise BadConfig("a cross-encoder has no vectors to search with; use the scorer pooled or maxsim")
        return self.model

    @property
    def has_passage_encoder(self) -> bool:
        """Whether passages have an encoder of their own: the base as it is, where only questions learned."""
        return self._load_passage_encoder is not None

    @cached_property
    def passage_encoder(self) -> Encoder:
        """The encoder of passages. One of their own is loaded when a passage has no vector yet."""
        return self.encoder if self._load_passage_encoder is None else self._load_passage_encoder()

    @classmethod
    def base(cls, base: Base, *, scorer: Scorer = "pooled", max_length: int = 256) -> Reranker:
        """Return the untrained reranker of a base. Raises NoBase."""
        return cls(untrained_model(base, scorer, max_length=max_length), scorer)

    @classmethod
    def load(cls, db: Database, reranker_id: str, adapters: Path) -> Reranker:
        """Load a trained reranker: its base with its adapter merged.

        Raises Missing when the store does not know it or its adapter is not in the folder `adapters`, NoBase when
        the weights of the base or of the adapter are not those that the store recorded.
        """
        from kard.models.bases import resolve

        row = next(iter(db.query("select * from rerankers where id = ?", [reranker_id])), None)
        if row is None:
            raise Missing(f"no reranker {reranker_id} in the store; train one with: kard train reranker TASK")
        folder = adapters / Path(str(row["path"])).name
        again = f"train it again with: kard train reranker {row['task']}"
        if not (folder / WEIGHTS).is_file():
            raise Missing(f"no adapter of reranker {reranker_id} in {folder}; {again}")
        if changed := changed_file(folder, row["sha256"]):
            raise NoBase(f"{changed} is not what was trained as {reranker_id}; delete the folder and {again}")
        base = resolve(str(row["base"]))
        if base.sha256 != row["base_sha256"]:
            raise NoBase(f"{base.spec} now has other weights than reranker {reranker_id} was trained on; {again}")
        with stored_settings(f"reranker {reranker_id}"):
            settings = cast("dict[str, Any]", json.loads(str(row["settings"])))
        return cls.of(base, settings, folder, name=f"reranker {reranker_id}", again=again)

    @classmethod
    def of(
        cls,
        base: Base,
        settings: Mapping[str, Any],
        adapter: Path | None,
        merged: Base | None = None,
        *,
        name: str,
        again: str,
    ) -> Reranker:
        """Load a base with the adapter of these settings, or `merged`, in which both are one. Raises NoBase.

        An error speaks of `name` and ends with the command that trains it `again`.
        """
        with stored_settings(name):
            scorer, length = cast("Scorer", settings["scorer"]), int(settings["max_length"])
            projection, questions_alone = bool(settings["projection"]), settings["side"] == "question"
        if scorer not in get_args(Scorer):
            raise NoBase(f"{name} scores by {scorer!r}, unknown to this version; {again}")
        model = untrained_model(merged or base, scorer, max_length=length, projection=projection)
        if adapter is not None:
            AdapterSwitcher(model.model).activate(adapter)
            model.adapter = adapter
        return cls(
            model, scorer, passages=partial(Encoder.of, base, max_length=length) if questions_alone else None
        )

    def scores(self, question: str, passages: Sequence[Passage]) -> Scores:
        """Return the score of each passage for the question, (P,)."""
        return self.scores_many([question], [passages])[0]

    def scores_many(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> list[Scores]:
        """Return for each question the scores of its passages. A passage of several questions is encoded once."""
        if len(questions) != len(passages):
            raise ValueError(f"{len(questions)} questions, but passages for {len(passages)}")
        size = BATCH[self.scorer]
        scores: list[Scores] = []
        for start in range(0, len(questions), size):
            scores.extend(self._score(questions[start : start + size], passages[start : start + size]))
        return scores

    def _score(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> list[Scores]:
        texts = [[passage_text(p) for p in candidates] for candidates in passages]
        if isinstance(self.model, CrossEncoder):
            return _cross_scores(self.model, questions, texts)
        question_vectors = self.encoder.vectors(questions, self.scorer, fast=self.fast, questions=True)
        vectors = self._passage_vectors({text for candidates in texts for text in candidates})
        return [
            self._compare(question.astype(np.float32), [vectors[text] for text in candidates])
            for question, candidates in zip(question_vectors, texts, strict=True)
        ]

    def _compare(self, question: Scores, passages: Sequence[Vector]) -> Scores:
        """Return the scores of passages by their vectors; `question` is (H,), or (T tokens, H) for `maxsim`."""
        if not passages:
            return np.zeros(0, dtype=np.float32)
        if self.scorer == "pooled":
            return np.stack(passages).astype(np.float32) @ question
        starts = np.cumsum([0, *(len(p) for p in passages[:-1])])
        cosines = np.concatenate(passages).astype(np.float32) @ question.T  # (all tokens, question's tokens)
        return np.maximum.reduceat(cosines, starts, axis=0).mean(axis=1)

    def _passage_vectors(self, texts: set[str]) -> dict[str, Vector]:
        """Return the vectors of these texts, from the cache where it has them."""
        vectors = {text: vector for text in sorted(texts) if (vector := self.cache.get(text)) is not None}
        missing = sorted(texts - vectors.keys())
        if missing:
            encoded = self.passage_encoder.vectors(missing, self.scorer, fast=self.fast)
            for text, vector in zip(missing, encoded, strict=True):
                vectors[text] = vector
                self.cache.put(text, vector)
        return vectors


def _cross_scores(model: CrossEncoder, questions: Sequence[str], texts: Sequence[Sequence[str]]) -> list[Scores]:
    """Return for each question the scores of its texts; each distinct pair is read once."""
    lists = [
        [(question, text) for text in candidates] for question, candidates in zip(questions, texts, strict=True)
    ]
    pairs = sorted({pair for candidates in lists for pair in candidates})
    with torch.inference_mode():
        values = model.pair_scores([question for question, _ in pairs], [text for _, text in pairs])
    scores = dict(zip(pairs, values.tolist(), strict=True))
    return [np.array([scores[pair] for pair in candidates], dtype=np.float32) for candidates in lists]


# --- what is trained, and how it is written -------------------------------------------------------


def untrained_model(
    base: Base, scorer: Scorer, *, max_length: int, projection: bool = False, seed: int = 0
) -> RerankerModel:
    """Load the base as this scorer reads it; `seed` draws the head of a cross-encoder. Raises NoBase."""
    if scorer == "cross":
        return CrossEncoder.of(base, max_length=max_length, seed=seed)
    return Encoder.of(base, max_length=max_length, projection=projection)


def make_trainable(model: RerankerModel, base: Base, settings: RerankerTraining) -> None:
    """Make trainable what the settings train: low-rank adapters and every new module, or every weight.

    Raises NoBase and BadConfig as `adapt_encoder` does.
    """
    if not settings.full:
        from kard.models.lora import adapt_encoder  # peft, which only trains

        model.model = adapt_encoder(
            model.model, settings.lora, spec=base.spec, upper_half=settings.upper_half, new=model.new
        )
    model.model.eval()


def save_adapter(folder: Path, model: RerankerModel, base: Base) -> str:
    """Write what was trained into a folder, as a whole; return the sha256 of the weights."""
    from kard.models.lora import config_of, state_of

    return write_adapter(folder, state_of(model.model), config_of(model.model, base.spec))
