"""Question and passage read together: one number from any model that AutoModelForSequenceClassification loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kard.encoders.encoder import TextModel, load

if TYPE_CHECKING:
    from kard.models.bases import Base


class CrossEncoder(TextModel):
    """Scores pairs of texts; there are no vectors to keep. `max_length` is that of both together.

    The base may be an encoder, whose head is then new, a trained cross-encoder, or a decoder that was trained to
    rank; a decoder reads the passage after the question, and its last token decides.
    """

    @classmethod
    def of(cls, base: Base, *, max_length: int, device: torch.device | None = None, seed: int = 0) -> CrossEncoder:
        """The untrained cross-encoder of a base, in float32; `seed` draws the head that it lacks. Raises NoBase."""
        from transformers import AutoModelForSequenceClassification as Auto

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # A head of another task (three classes, say) has another shape and is drawn anew.
            model, tokenizer, new = load(base, Auto, "cross-encoder", num_labels=1, ignore_mismatched_sizes=True)
        model.config.pad_token_id = tokenizer.pad_token_id  # a decoder finds its last token by it
        return cls(model, tokenizer, max_length=max_length, device=device, new=new)

    def pair_scores(self, questions: Sequence[str], passages: Sequence[str], *, fast: bool = False) -> Tensor:
        """The score of each pair, (N,), higher is better, with gradients where the model has them.

        `fast` computes in bfloat16 where the device does so itself.
        """
        if not questions:
            return torch.zeros(0, device=self.device)
        places: list[int] = []
        parts: list[Tensor] = []
        for where, inputs in self.batches(self._tokens(questions, passages)):
            with self.autocast(fast):
                parts.append(self.model(**inputs).logits.float().squeeze(-1))
            places.extend(where)
        return torch.cat(parts)[self.back(places)]

    def _tokens(self, questions: Sequence[str], passages: Sequence[str]) -> Any:
        cut = {"truncation": True, "max_length": self.max_length}
        if self.tokenizer.sep_token is not None:  # truncation takes from the longer of the two: the passage
            return self.tokenizer(list(questions), list(passages), **cut)
        both = [f"{question}\n\n{passage}" for question, passage in zip(questions, passages, strict=True)]
        return self.tokenizer(both, **cut)
