"""Encoders for dense search: how each family of them reads questions and passages, and what its scores are.

The reranker's own encoder needs nothing of this: it is mean-pooled, and its scores are cosines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kard.encoders.vector_store import Vector, VectorSpec
from kard.errors import NoBase
from kard.records import Passage

if TYPE_CHECKING:
    from torch import Tensor

    from kard.encoders.encoder import Encoder
    from kard.models.bases import Base

Questions = NDArray[np.float32]
"""(N questions, H)."""
OWN = "{title}. {text}"  # what a reranker's encoder reads, too


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """How a family of encoders was trained to read. `first` takes the first token's vector instead of the mean.

    `passage` without a title is what stands before the title and the text.
    """

    name: str
    passage: str = OWN
    question: str = "{text}"
    pooling: Literal["mean", "first"] = "mean"
    similarity: Literal["cosine", "dot"] = "cosine"
    max_length: int = 512


# From the families' own model cards and papers. The first whose pattern is found in the base's name is taken.
HABITS: tuple[tuple[str, EncoderFamily], ...] = (
    (r"\be5-", EncoderFamily("e5", "passage: {title} {text}", "query: {text}")),
    (r"\bcontriever", EncoderFamily("contriever", "{title} {text}", similarity="dot")),
    (r"\bdpr-", EncoderFamily("dpr", "{title} [SEP] {text}", pooling="first", similarity="dot", max_length=256)),
    (
        r"\bbge-.*-en",
        EncoderFamily(
            "bge",
            "{title} {text}",
            "Represent this sentence for searching relevant passages: {text}",
            pooling="first",
        ),
    ),
)
PLAIN = EncoderFamily("mean")


def habit_of(spec: str) -> EncoderFamily:
    """How the base of that name reads."""
    return next((habit for pattern, habit in HABITS if re.search(pattern, spec, re.IGNORECASE)), PLAIN)


def read_passage(form: str, passage: Passage) -> str:
    """What is encoded of a passage: never its id or its document's."""
    before, _, rest = form.partition("{title}")
    between, _, after = rest.partition("{text}")
    named = f"{passage.title}{between}" if passage.title else ""
    return f"{before}{named}{passage.text}{after}"


class Embedder:
    """Vectors of questions and of passages that compare by their dot product; a cosine's have unit length."""

    def __init__(self, passages: Encoder, questions: Encoder, habit: EncoderFamily, maker: VectorSpec) -> None:
        self._passages = passages
        self._questions = questions
        self._habit = habit
        self.maker = maker

    @classmethod
    def of_reranker(cls, passages: Encoder, questions: Encoder, maker: VectorSpec) -> Embedder:
        """A reranker's own encoders, or its only one twice, mean-pooled."""
        return cls(passages, questions, PLAIN, maker)

    @classmethod
    def of(cls, base: Base, questions: Base | None = None, *, max_length: int | None = None) -> Embedder:
        """A base read as its family is; `questions` is the other half of a pair of encoders. Raises NoBase."""
        habit = habit_of(base.spec)
        length = max_length or habit.max_length
        reader = _encoder(base, length)
        asker = reader if questions is None else _encoder(questions, length)
        pooling = "pooled" if habit is PLAIN else f"{habit.pooling}-{habit.similarity}"
        maker = VectorSpec(
            base.spec,
            base.sha256,
            pooling=pooling,
            max_length=reader.max_length,
            form=habit.passage,
            width=reader.width,
        )
        return cls(reader, asker, habit, maker)

    def questions(self, texts: Sequence[str]) -> Questions:
        """(N, H) in float32."""
        asked = [self._habit.question.replace("{text}", text, 1) for text in texts]
        return self._vectors(self._questions, asked).cpu().numpy().astype(np.float32)

    def passages(self, passages: Sequence[Passage]) -> Sequence[Vector]:
        """A vector (H,) of each passage, in half precision."""
        texts = [read_passage(self._habit.passage, p) for p in passages]
        return list(self._vectors(self._passages, texts).cpu().numpy().astype(np.float16))

    def _vectors(self, encoder: Encoder, texts: Sequence[str]) -> Tensor:
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            if self._habit.pooling == "mean" and self._habit.similarity == "cosine":
                return encoder.pooled(texts)
            found = torch.zeros(len(texts), encoder.width, device=encoder.device)
            tokens = encoder.tokenizer(list(texts), truncation=True, max_length=encoder.max_length)
            for where, inputs in encoder.batches(tokens):
                states = encoder.model(**inputs).last_hidden_state
                weight = inputs["attention_mask"].unsqueeze(-1).float()
                if self._habit.pooling == "first":
                    weight = torch.zeros_like(weight).index_fill_(1, torch.tensor([0], device=weight.device), 1.0)
                rows = (states.float() * weight).sum(1) / weight.sum(1).clamp(min=1.0)
                found[torch.tensor(where, device=found.device)] = rows
            return functional.normalize(found, dim=-1) if self._habit.similarity == "cosine" else found


def question_twin(spec: str) -> str | None:
    """The encoder of questions that belongs to an encoder of passages; None when one encoder reads both.

    A revision is the passages' own and is left out.
    """
    return spec.partition("@")[0].replace("ctx_encoder", "question_encoder") if "ctx_encoder" in spec else None


def _encoder(base: Base, max_length: int) -> Encoder:
    from kard.encoders.encoder import Encoder, load

    config = json.loads((base.folder / "config.json").read_text("utf-8"))
    if config.get("model_type") != "dpr":
        return Encoder.of(base, max_length=max_length)
    # AutoModel would read a passages' encoder as a questions' one, with weights at random.
    from transformers import DPRContextEncoder, DPRQuestionEncoder

    asks = "question_encoder" in base.spec
    kind, part = (DPRQuestionEncoder, "question_encoder") if asks else (DPRContextEncoder, "ctx_encoder")
    model, tokenizer, new = load(base, kind, "DPR encoder")
    inner: Any = getattr(model, part).bert_model
    if any("pooler" not in name for name in new):
        raise NoBase(f"{base.spec} lacks weights of a DPR encoder; name a folder or hub id that has them")
    return Encoder(inner, tokenizer, max_length=max_length)
