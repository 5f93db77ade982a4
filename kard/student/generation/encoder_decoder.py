"""Generation and the scoring of options by encoder-decoders: prompts are encoded once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from kard.student.batching import distinct
from kard.student.generation.sampling import (
    Sampling,
    Tell,
    by_row,
    cache_name,
    decode_loop,
    in_passes,
    nobody,
    padded,
    picked,
    room_of,
)
from kard.student.tokens import Ids


class EncoderDecoder:
    """An encoder-decoder: prompts are encoded once, what is written is decoded."""

    def __init__(self, model: Any, eos: int, pad: int) -> None:
        self.model, self.eos, self.pad = model, eos, pad
        self.device = next(model.parameters()).device
        self.start: int = model.config.decoder_start_token_id
        self.room = room_of(model)
        self._cache_name = cache_name(model)

    @torch.inference_mode()
    def read(
        self,
        prompts: Sequence[Ids],
        tell: Tell = nobody,
        *,
        scored: bool = True,
        whose: Sequence[Hashable] | None = None,
    ) -> EncodedPrompts:
        """The prompts, encoded: what the decoder writes from. Equal ones of a student are encoded once."""
        del scored  # the encoder's states are held anyway
        owners = [None] * len(prompts) if whose is None else whose
        places, own = distinct([(owner, *prompt) for owner, prompt in zip(owners, prompts, strict=True)])
        tell(torch.tensor(places))
        encoded, mask = self.encode([prompts[place] for place in places])
        again = torch.tensor(own, device=self.device)
        return EncodedPrompts(self, tell, encoded[again], mask[again])

    def encode(self, prompts: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """The encoder's states (B, S, D) and the mask (B, S)."""
        ids, mask = padded(prompts, self.pad, self.device)
        return self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state, mask

    def forward(self, encoded: Tensor, mask: Tensor, ids: Tensor, cache: Any) -> Any:
        """One pass of the decoder over new ids."""
        given = {} if cache is None else {self._cache_name: cache}
        return self.model(
            encoder_outputs=(encoded,),
            attention_mask=mask,
            decoder_input_ids=ids,
            use_cache=cache is not None,
            **given,
        )


class EncodedPrompts:
    """A batch of prompts that an encoder has read, as `Read`."""

    def __init__(self, model: EncoderDecoder, tell: Tell, encoded: Tensor, mask: Tensor) -> None:
        self._model, self._tell, self._encoded, self._mask = model, tell, encoded, mask

    @torch.inference_mode()
    def generate(self, drawing: Sampling) -> list[Ids]:
        """What the decoder writes for each prompt, up to `max_new_tokens`; a row that ended ends with eos."""
        state = _Written(self._model, self._encoded, self._mask)
        return decode_loop(state, len(self._mask), self._model.eos, drawing, self._tell)

    @torch.inference_mode()
    def score(
        self, rows: Sequence[int], begun: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """As of `Read`; but what was begun is run for each choice."""
        read, room = self._mask.shape[1], self._model.room
        return in_passes(self.score_together, rows, begun, choices, read=read, room=room)

    def score_together(
        self, rows: Sequence[int], begun: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """As `score`, all at once."""
        model = self._model
        own = torch.tensor([row for row, some in zip(rows, choices, strict=True) for _ in some])
        starts = [[model.start, *ids] for ids, some in zip(begun, choices, strict=True) for _ in some]
        flat = [choice for row in choices for choice in row]
        ids, _ = padded([[*b, *c[:-1]] for b, c in zip(starts, flat, strict=True)], model.pad, model.device)
        wanted, counted = padded(
            [[*[model.pad] * (len(b) - 1), *c] for b, c in zip(starts, flat, strict=True)], model.pad, model.device
        )
        for row, b in enumerate(starts):
            counted[row, : len(b) - 1] = 0
        self._tell(own)
        places = own.to(model.device)
        logits = model.forward(self._encoded[places], self._mask[places], ids, None).logits
        return by_row(picked(logits, wanted, counted), choices)


class _Written:
    """The rows of a batch that the decoder is still writing, as in `_Rows`."""

    def __init__(self, model: EncoderDecoder, encoded: Tensor, mask: Tensor) -> None:
        self._model, self._encoded, self._mask = model, encoded, mask
        config = model.model.config
        self._cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        self._ids = torch.full((len(mask), 1), model.start, device=model.device)

    def logits(self) -> Tensor:
        """Logits of the next token, (rows, vocabulary)."""
        return self._model.forward(self._encoded, self._mask, self._ids, self._cache).logits[:, -1]

    def append(self, tokens: Tensor) -> None:
        """Go on with these tokens, one a row."""
        self._ids = tokens[:, None]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._encoded, self._mask, self._ids = self._encoded[rows], self._mask[rows], self._ids[rows]
