"""Texts to vectors with any encoder that AutoModel can load, in batches of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kard.errors import NoBase
from kard.models import hardware
from kard.records import Passage

if TYPE_CHECKING:
    from kard.models.bases import Base

if TYPE_CHECKING:
    from kard.models.bases import Base

BATCH = 32  # texts a forward pass: with sorted lengths, larger ones gain nothing on a CPU
PROJECTION = "projection"


class TextModel:
    """A tokenizer and a model. What is longer than `max_length` tokens is cut.

    `model` may be wrapped by peft later: what it is called with and gives stays the same. `new` names the modules
    that the base's files do not hold: without training they know nothing, and an adapter must hold them whole.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        device: torch.device | None = None,
        new: Sequence[str] = (),
    ) -> None:
        hardware.keep_memory()
        self.device = device or hardware.device()
        self.model: Any = model.to(self.device).eval()
        self.tokenizer = tokenizer
        positions = int(getattr(model.config, "max_position_embeddings", 0) or max_length)
        self.max_length = min(max_length, positions, int(tokenizer.model_max_length))
        self.new = tuple(new)

    def autocast(self, fast: bool) -> AbstractContextManager[object]:
        """bfloat16 when `fast` and the device computes in it by itself."""
        if fast and hardware.dtype() is torch.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def batches(
        self, tokens: Mapping[str, Sequence[Sequence[int]]]
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Batches of like lengths, longest first: where each text stands among all, and the model's inputs."""
        lengths = [len(ids) for ids in tokens["input_ids"]]
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        for start in range(0, len(order), BATCH):
            where = order[start : start + BATCH]
            rows = {name: [values[i] for i in where] for name, values in tokens.items()}
            padded = self.tokenizer.pad(rows, return_tensors="pt")
            yield where, {name: cast("Tensor", value).to(self.device) for name, value in padded.items()}

    def back(self, places: Sequence[int]) -> Tensor:
        """The order that undoes `places`."""
        order = torch.empty(len(places), dtype=torch.long)
        order[torch.tensor(places, dtype=torch.long)] = torch.arange(len(places))
        return order.to(self.device)


class Encoder(TextModel):
    """Vectors of texts, H wide."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        device: torch.device | None = None,
        new: Sequence[str] = (),
    ) -> None:
        super().__init__(model, tokenizer, max_length=max_length, device=device, new=new)
        self.width = int(model.config.hidden_size)

    @classmethod
    def of(
        cls, base: Base, *, max_length: int, projection: bool = False, device: torch.device | None = None
    ) -> Encoder:
        """The untrained encoder in the base's folder, in float32. Raises NoBase.

        A `projection` maps every token's vector, at first to itself.
        """
        from transformers import AutoModel

        model, tokenizer, _ = load(base, AutoModel, "text encoder")
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # not read here, and an adapter on it would never see a gradient
        if projection:
            model = _Projected(model)
        new = (PROJECTION,) if projection else ()
        return cls(model, tokenizer, max_length=max_length, device=device, new=new)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        return self.batches(self.tokenizer(list(texts), truncation=True, max_length=self.max_length))

    def _states(self, inputs: dict[str, Tensor], fast: bool) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, H) in float32 and the mask (B, T) of real tokens."""
        with self.autocast(fast):
            states = self.model(**inputs).last_hidden_state
        return states.float(), inputs["attention_mask"].bool()

    def pooled(self, texts: Sequence[str], *, fast: bool = False) -> Tensor:
        """Mean over each text's tokens, of unit length: (N texts, H), with gradients where the model has them.

        `fast` computes in bfloat16 where the device does so itself.
        """
        if not texts:
            return torch.zeros(0, self.width, device=self.device)
        places: list[int] = []
        parts: list[Tensor] = []
        for where, inputs in self._batches(texts):
            states, mask = self._states(inputs, fast)
            weight = mask.unsqueeze(-1).float()
            parts.append((states * weight).sum(1) / weight.sum(1).clamp(min=1.0))
            places.extend(where)
        return functional.normalize(torch.cat(parts)[self.back(places)], dim=-1)

    def token_vectors(self, texts: Sequence[str], *, fast: bool = False) -> tuple[Tensor, Tensor]:
        """A unit vector for each token, (N, T, H), and the mask (N, T) of real tokens; T is the longest text's."""
        if not texts:
            return (
                torch.zeros(0, 0, self.width, device=self.device),
                torch.zeros(0, 0, dtype=torch.bool, device=self.device),
            )
        places: list[int] = []
        parts: list[Tensor] = []
        masks: list[Tensor] = []
        longest = 0
        for where, inputs in self._batches(texts):
            states, mask = self._states(inputs, fast)
            longest = longest or states.shape[1]  # the first batch is the longest
            short = longest - states.shape[1]
            parts.append(functional.pad(functional.normalize(states, dim=-1), (0, 0, 0, short)))
            masks.append(functional.pad(mask, (0, short)))
            places.extend(where)
        back = self.back(places)
        return torch.cat(parts)[back], torch.cat(masks)[back]


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
        found = self.trunk(**inputs)
        found.last_hidden_state = self.projection(found.last_hidden_state)
        return found


def load(base: Base, kind: Any, what: str, **more: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """Model and tokenizer of the base's folder by a transformers Auto class, and the modules its files lack.

    Weights are float32. Raises NoBase when it is no `what`.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it would print a table of the weights that a new head lacks
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
        model, info = kind.from_pretrained(base.folder, dtype=torch.float32, output_loading_info=True, **more)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NoBase(f"{base.spec} is not a {what} that transformers can load: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # decoders pad on the left; token_vectors' callers cut at the right
    names: set[str] = set(info["missing_keys"]) | {
        key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]
    }
    return model, tokenizer, tuple(sorted({name.rpartition(".")[0] for name in names}))


def passage_text(passage: Passage) -> str:
    """What the encoder reads of a passage: its title and text, never an id or a source's name."""
    return f"{passage.title}. {passage.text}" if passage.title else passage.text
