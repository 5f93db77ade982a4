"""Encoders for dense search: how each family reads questions and passages, and how its vectors are compared.

A reranker's encoder belongs to no family: it is mean-pooled, and its scores are cosines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kard.encoders.encoder import Encoder, encode_passages, load_text_model
from kard.encoders.vectors import TITLE_AND_TEXT, Vector, VectorSpec
from kard.errors import NoBase
from kard.records import Passage

if TYPE_CHECKING:
    from kard.models.bases import Base


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """How a family of encoders was trained to read texts and to compare their vectors.

    A vector is the mean of the tokens' vectors, or the `first` token's. `passage` is a form of `passage_text`.
    """

    name: str
    passage: str = TITLE_AND_TEXT
    question: str = "{text}"
    tokens: Literal["mean", "first"] = "mean"
    similarity: Literal["cosine", "dot"] = "cosine"
    max_length: int = 512

    @property
    def pooling(self) -> str:
        """The pooling of `Encoder.embed` for this family."""
        return "pooled" if self is MEAN else f"{self.tokens}-{self.similarity}"


MEAN = EncoderFamily("mean")
# From the families' own model cards and papers. The first whose pattern is found in the base's name is taken.
FAMILIES: tuple[tuple[str, EncoderFamily], ...] = (
    (r"\be5-", EncoderFamily("e5", "passage: {title} {text}", "query: {text}")),
    (r"\bcontriever", EncoderFamily("contriever", "{title} {text}", similarity="dot")),
    (r"\bdpr-", EncoderFamily("dpr", "{title} [SEP] {text}", tokens="first", similarity="dot", max_length=256)),
    (
        r"\bbge-.*-en",
        EncoderFamily(
            "bge",
            "{title} {text}",
            "Represent this sentence for searching relevant passages: {text}",
            tokens="first",
        ),
    ),
)


def family_of(spec: str) -> EncoderFamily:
    """Return the family of a base by its name; mean-pooled cosines when the name belongs to none."""
    return next((family for pattern, family in FAMILIES if re.search(pattern, spec, re.IGNORECASE)), MEAN)


@dataclass(frozen=True, slots=True)
class Embedder:
    """An encoder of passages and one of questions, often the same, whose vectors are compared by dot product.

    `spec` decides the vectors of passages, and the pooling of both; `question` is the form of a question.
    """

    passage_encoder: Encoder
    question_encoder: Encoder
    spec: VectorSpec
    question: str = "{text}"

    @classmethod
    def of(cls, base: Base, questions: Base | None = None, *, max_length: int | None = None) -> Embedder:
        """Load a base as its family is read; `questions` is the other half of a pair of encoders. Raises NoBase."""
        family = family_of(base.spec)
        length = max_length or family.max_length
        encoder = encoder_of(base, length)
        spec = encoder.vector_spec(family.pooling, base=base.spec, base_sha256=base.sha256, form=family.passage)
        return cls(encoder, encoder if questions is None else encoder_of(questions, length), spec, family.question)

    def questions(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of questions, (N, H) in float32."""
        forms = [self.question.replace("{text}", text, 1) for text in texts]
        with torch.inference_mode():
            vectors = self.question_encoder.embed(forms, self.spec.pooling, questions=True)
        return vectors.cpu().numpy().astype(np.float32)

    def passages(self, passages: Sequence[Passage]) -> Sequence[Vector]:
        """Return a vector (H,) of each passage, in half precision."""
        return encode_passages(self.passage_encoder, passages, self.spec)


def question_twin(spec: str) -> str | None:
    """Return the encoder of questions that belongs to an encoder of passages; None when one encoder reads both.

    A revision of the passages' encoder is left out.
    """
    return spec.partition("@")[0].replace("ctx_encoder", "question_encoder") if "ctx_encoder" in spec else None


def encoder_of(base: Base, max_length: int) -> Encoder:
    """Load a base's encoder; of DPR, the half that the base's name tells. Raises NoBase."""
    config = json.loads((base.folder / "config.json").read_text("utf-8"))
    if config.get("model_type") != "dpr":
        return Encoder.of(base, max_length=max_length)
    # AutoModel would read a passages' encoder as a questions' one, with weights at random.
    from transformers import DPRContextEncoder, DPRQuestionEncoder

    if "question_encoder" in base.spec:
        kind, part = DPRQuestionEncoder, "question_encoder"
    else:
        kind, part = DPRContextEncoder, "ctx_encoder"
    model, tokenizer, new = load_text_model(base, kind, "DPR encoder")
    inner: Any = getattr(model, part).bert_model
    if any("pooler" not in name for name in new):
        raise NoBase(f"{base.spec} lacks weights of a DPR encoder; name a folder or hub id that has them")
    return Encoder(inner, tokenizer, max_length=max_length)
