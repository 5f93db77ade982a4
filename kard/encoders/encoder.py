"""Encode texts as vectors, or score question and passage read together, by any model of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kard.encoders.vectors import TITLE_AND_TEXT, Vector, VectorSpec, passage_text
from kard.errors import NoBase
from kard.models.hardware import device, dtype
from kard.models.weights import no_progress_bars
from kard.processes import keep_memory
from kard.progress import timed
from kard.records import Passage

if TYPE_CHECKING:
    from kard.models.bases import Base

BATCH = 32  # texts a forward pass: with sorted lengths, larger ones gain nothing on a CPU
SPARE = 4  # tokens: what separates a question from its passage, and what a shortened one may gain
PROJECTION = "projection"


class TextModel:
    """A tokenizer and a model. Texts of more than `max_length` tokens lose their end, questions their middle.

    `model` may be wrapped by peft later: its inputs and outputs stay the same. `new` names the modules that the
    base's files do not hold. They are random until they are trained, and an adapter must hold them whole.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int, new: Sequence[str] = ()) -> None:
        keep_memory()
        self.device = device()
        self.model: Any = model.to(self.device).eval()
        self.tokenizer = tokenizer
        positions = int(getattr(model.config, "max_position_embeddings", 0) or max_length)
        self.max_length = min(max_length, positions, int(tokenizer.model_max_length))
        self.new = tuple(new)
        self.adapter: Path | None = None  # the folder of the one that is merged into the weights

    def autocast(self, fast: bool) -> AbstractContextManager[object]:
        """Compute in bfloat16 inside the block if `fast` and the device multiplies bfloat16 itself."""
        if fast and dtype() is torch.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def batches(
        self, tokens: Mapping[str, Sequence[Sequence[int]]]
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Yield batches of similar lengths, longest first: the numbers of the texts, and the model's inputs."""
        lengths = [len(ids) for ids in tokens["input_ids"]]
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            rows = {name: [values[i] for i in numbers] for name, values in tokens.items()}
            padded = self.tokenizer.pad(rows, return_tensors="pt")
            yield numbers, {name: cast("Tensor", value).to(self.device) for name, value in padded.items()}

    def without_middle(self, row: list[int], room: int | None = None) -> list[int]:
        """Return the first and the last values of a row, `room` of them (by default `max_length`).

        A case history of 400 tokens ends with what is asked; the last tokens of a question are never lost.
        """
        room = self.max_length if room is None else room
        return row if len(row) <= room else [*row[: room - room // 2], *row[len(row) - room // 2 :]]

    def inverse(self, order: Sequence[int]) -> Tensor:
        """Return the permutation that undoes `order`."""
        inverse = torch.empty(len(order), dtype=torch.long)
        inverse[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        return inverse.to(self.device)


class Encoder(TextModel):
    """Vectors of texts, H wide."""

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int, new: Sequence[str] = ()) -> None:
        super().__init__(model, tokenizer, max_length=max_length, new=new)
        self.width = int(model.config.hidden_size)

    @classmethod
    def of(cls, base: Base, *, max_length: int, projection: bool = False) -> Encoder:
        """Load the untrained encoder of a base, in float32. Raises NoBase.

        A `projection` maps every token's vector; it begins as the identity.
        """
        from transformers import AutoModel

        model, tokenizer, _ = load_text_model(base, AutoModel, "text encoder")
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # not read here, and an adapter on it would never see a gradient
        if projection:
            model = _Projected(model)
        new = (PROJECTION,) if projection else ()
        return cls(model, tokenizer, max_length=max_length, new=new)

    def vector_spec(
        self,
        pooling: str = "pooled",
        *,
        base: str,
        base_sha256: str,
        adapter_sha256: str = "",
        form: str = TITLE_AND_TEXT,
    ) -> VectorSpec:
        """Return the spec of the vectors that the encoder gives with this pooling and form of a passage."""
        return VectorSpec(
            base, base_sha256, adapter_sha256, pooling, max_length=self.max_length, form=form, width=self.width
        )

    def vectors(
        self, texts: Sequence[str], pooling: str = "pooled", *, fast: bool = False, questions: bool = False
    ) -> list[Vector]:
        """Return the vectors of texts in half precision, without gradients.

        The pooling `maxsim` gives (T tokens, H) a text, every other pooling of `embed` gives (H,).
        """
        with torch.inference_mode():
            if pooling != "maxsim":
                embedded = self.embed(texts, pooling, fast=fast, questions=questions)
                return list(embedded.cpu().numpy().astype(np.float16))
            vectors, mask = self.token_vectors(texts, fast=fast, questions=questions)
            half = vectors.half().cpu().numpy()
            # Copies: a slice would keep the padded array of all texts in memory.
            return [row[: int(n)].copy() for row, n in zip(half, mask.sum(1).tolist(), strict=True)]

    def embed(
        self, texts: Sequence[str], pooling: str = "pooled", *, fast: bool = False, questions: bool = False
    ) -> Tensor:
        """Return one vector of each text, (N texts, H).

        `pooled` is `mean-cosine`. Other poolings are `mean-dot`, `first-cosine` and `first-dot`: the mean of the
        tokens' vectors or the first token's, of unit length where vectors are compared by cosine.
        """
        if pooling in ("pooled", "mean-cosine"):
            return self.pooled(texts, fast=fast, questions=questions)
        tokens, _, similarity = pooling.partition("-")
        vectors = self._pool(texts, first=tokens == "first", fast=fast, questions=questions)
        return functional.normalize(vectors, dim=-1) if similarity == "cosine" else vectors

    def pooled(self, texts: Sequence[str], *, fast: bool = False, questions: bool = False) -> Tensor:
        """Return the mean of each text's token vectors, of unit length, (N texts, H).

        It has gradients where the model has them. `fast` computes in bfloat16 where the device does so itself.
        """
        vectors = self._pool(texts, first=False, fast=fast, questions=questions)
        return functional.normalize(vectors, dim=-1)

    def token_vectors(
        self, texts: Sequence[str], *, fast: bool = False, questions: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return a unit vector of each token, (N texts, T, H), and the mask (N, T) of real tokens.

        T is the number of tokens of the longest text.
        """
        if not texts:
            return (
                torch.zeros(0, 0, self.width, device=self.device),
                torch.zeros(0, 0, dtype=torch.bool, device=self.device),
            )
        order: list[int] = []
        vectors: list[Tensor] = []
        masks: list[Tensor] = []
        longest = 0
        for numbers, inputs in self._batches(texts, questions):
            states, mask = self._states(inputs, fast)
            longest = longest or states.shape[1]  # the first batch is the longest
            short = longest - states.shape[1]
            vectors.append(functional.pad(functional.normalize(states, dim=-1), (0, 0, 0, short)))
            masks.append(functional.pad(mask, (0, short)))
            order.extend(numbers)
        inverse = self.inverse(order)
        return torch.cat(vectors)[inverse], torch.cat(masks)[inverse]

    def _pool(self, texts: Sequence[str], *, first: bool, fast: bool, questions: bool) -> Tensor:
        """Return the mean of each text's token vectors, or its first token's vector, (N texts, H)."""
        if not texts:
            return torch.zeros(0, self.width, device=self.device)
        order: list[int] = []
        vectors: list[Tensor] = []
        for numbers, inputs in self._batches(texts, questions):
            states, mask = self._states(inputs, fast)
            if first:
                vectors.append(states[:, 0])
            else:
                weight = mask.unsqueeze(-1).float()
                vectors.append((states * weight).sum(1) / weight.sum(1).clamp(min=1.0))
            order.extend(numbers)
        return torch.cat(vectors)[self.inverse(order)]

    def _batches(self, texts: Sequence[str], questions: bool) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        if not questions:
            return self.batches(self.tokenizer(list(texts), truncation=True, max_length=self.max_length))
        tokens: Mapping[str, list[list[int]]] = self.tokenizer(list(texts), verbose=False)
        return self.batches({name: [self.without_middle(row) for row in rows] for name, rows in tokens.items()})

    @timed("encode texts")
    def _states(self, inputs: dict[str, Tensor], fast: bool) -> tuple[Tensor, Tensor]:
        """Return hidden states (B, T, H) in float32 and the mask (B, T) of real tokens."""
        with self.autocast(fast):
            states = self.model(**inputs).last_hidden_state
        return states.float(), inputs["attention_mask"].bool()


def encode_passages(encoder: Encoder, passages: Sequence[Passage], spec: VectorSpec) -> list[Vector]:
    """Return the passages' vectors as `spec` says, computed in float32.

    bfloat16 would encode 1.7 times as fast (58 against 34 passages a second of one core), but it changes the order.
    Over 60 questions with 100 Wikipedia passages each, scores moved by up to .0024, four of the first tens changed
    a passage and one passage moved four places; none of the first three did. Half precision on the disk moves a
    score by .00004 and no passage by more than one place.
    """
    return encoder.vectors([passage_text(passage, spec.form) for passage in passages], spec.pooling)


class CrossEncoder(TextModel):
    """Scores of question and passage read together; there are no vectors. `max_length` counts the tokens of both.

    The base may be an encoder, whose head is then new, a trained cross-encoder, or a decoder that was trained to
    rank. A decoder reads the passage after the question, and its last token decides.
    """

    @classmethod
    def of(cls, base: Base, *, max_length: int, seed: int = 0) -> CrossEncoder:
        """Load the untrained cross-encoder of a base, in float32. Raises NoBase.

        `seed` draws the head if the base lacks one.
        """
        from transformers import AutoModelForSequenceClassification as Auto

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # A head of another task (three classes, say) has another shape and is drawn anew.
            model, tokenizer, new = load_text_model(
                base, Auto, "cross-encoder", num_labels=1, ignore_mismatched_sizes=True
            )
        model.config.pad_token_id = tokenizer.pad_token_id  # a decoder finds its last token by it
        return cls(model, tokenizer, max_length=max_length, new=new)

    @timed("encode texts")
    def pair_scores(self, questions: Sequence[str], passages: Sequence[str], *, fast: bool = False) -> Tensor:
        """Return the score of each pair, (N,), higher is better, with gradients where the model has them.

        `fast` computes in bfloat16 where the device does so itself.
        """
        if not questions:
            return torch.zeros(0, device=self.device)
        order: list[int] = []
        scores: list[Tensor] = []
        for numbers, inputs in self.batches(self._tokens(questions, passages)):
            with self.autocast(fast):
                scores.append(self.model(**inputs).logits.float().squeeze(-1))
            order.extend(numbers)
        return torch.cat(scores)[self.inverse(order)]

    def _tokens(self, questions: Sequence[str], passages: Sequence[str]) -> Any:
        cut = {"truncation": True, "max_length": self.max_length}
        questions = self._shortened(questions, passages)
        if self.tokenizer.sep_token is not None:  # truncation takes from the longer of the two: the passage
            return self.tokenizer(questions, list(passages), **cut)
        pairs = [f"{question}\n\n{passage}" for question, passage in zip(questions, passages, strict=True)]
        return self.tokenizer(pairs, **cut)

    def _shortened(self, questions: Sequence[str], passages: Sequence[str]) -> list[str]:
        """Return the questions, those without their middle that would not fit beside their passage.

        Half of the tokens are a question's own. Of the longer ones, the passage leaves some or is cut.
        """
        half = self.max_length // 2 - SPARE
        ids = {text: self._ids(text) for text in dict.fromkeys(questions)}

        def shortened(question: str, passage: str) -> str:
            if len(ids[question]) <= half:
                return question
            room = max(half, self.max_length - SPARE - len(self._ids(passage)))
            if len(ids[question]) <= room:
                return question
            return self.tokenizer.decode(self.without_middle(ids[question], room))

        return [shortened(question, passage) for question, passage in zip(questions, passages, strict=True)]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer([text], add_special_tokens=False, verbose=False)["input_ids"][0]


class _Projected(nn.Module):
    """An encoder whose token vectors go through a linear map that begins as the identity."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.config = trunk.config
        self.trunk: Any = trunk
        width = int(trunk.config.hidden_size)
        self.projection = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.projection.weight)

    def forward(self, **inputs: Tensor) -> Any:
        output = self.trunk(**inputs)
        output.last_hidden_state = self.projection(output.last_hidden_state)
        return output


@timed("load a model")
def load_text_model(base: Base, auto: Any, kind: str, **options: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """Load model and tokenizer of a base by a transformers Auto class; return also the modules its files lack.

    Weights are float32. Raises NoBase when the base is no model of that `kind`.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would print a table of the weights that a new head lacks
    try:
        with no_progress_bars():
            tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
            model, info = auto.from_pretrained(
                base.folder, dtype=torch.float32, output_loading_info=True, **options
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NoBase(f"{base.spec} is not a {kind} that transformers can load: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # decoders pad on the left; token_vectors' callers cut at the right
    lacking: set[str] = set(info["missing_keys"]) | {
        key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]
    }
    return model, tokenizer, tuple(sorted({name.rpartition(".")[0] for name in lacking}))
