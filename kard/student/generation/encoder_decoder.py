"""Encoder-decoders: prompts are encoded once, then continued, or options scored after them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from kard.progress import timed
from kard.student.generation.sampling import (
    OnRows,
    Sampling,
    by_row,
    cache_argument,
    decode_loop,
    ignore_rows,
    log_likelihood,
    max_cached_tokens,
    score_in_passes,
)
from kard.student.tokens import Ids, distinct, padded


class EncoderDecoder:
    """An encoder-decoder that generates for batches of prompts."""

    def __init__(self, model: Any, eos: int, pad: int) -> None:
        self.model, self.eos, self.pad = model, eos, pad
        self.device = next(model.parameters()).device
        self.start: int = model.config.decoder_start_token_id
        self.max_tokens = max_cached_tokens(model)
        self._cache_argument = cache_argument(model)

    @torch.inference_mode()
    def read(
        self,
        prompts: Sequence[Ids],
        on_rows: OnRows = ignore_rows,
        *,
        scored: bool = True,
        owners: Sequence[Hashable] | None = None,
    ) -> EncodedPrompts:
        """Return the encoded prompts. Equal prompts of one owner (by default all) are encoded once."""
        del scored  # the encoder's states are held anyway
        owner_of = [None] * len(prompts) if owners is None else owners
        firsts, group = distinct([(owner, *prompt) for owner, prompt in zip(owner_of, prompts, strict=True)])
        on_rows(torch.tensor(firsts))
        states, mask = self.encode([prompts[row] for row in firsts])
        repeat = torch.tensor(group, device=self.device)
        return EncodedPrompts(self, on_rows, states[repeat], mask[repeat])

    @timed("read prompts")
    def encode(self, prompts: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Return the encoder's states (B, S, D) and the mask (B, S)."""
        ids, mask = padded(prompts, self.pad, self.device)
        return self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state, mask

    def forward(self, states: Tensor, mask: Tensor, ids: Tensor, cache: Any) -> Any:
        """Run the decoder over new ids; `cache` None keeps no keys and values."""
        cached = {} if cache is None else {self._cache_argument: cache}
        return self.model(
            encoder_outputs=(states,),
            attention_mask=mask,
            decoder_input_ids=ids,
            use_cache=cache is not None,
            **cached,
        )


class EncodedPrompts:
    """A batch of encoded prompts, with the interface of `Prefilled`."""

    def __init__(self, model: EncoderDecoder, on_rows: OnRows, states: Tensor, mask: Tensor) -> None:
        self._model, self._on_rows, self._states, self._mask = model, on_rows, states, mask

    @torch.inference_mode()
    def generate(self, sampling: Sampling) -> list[Ids]:
        """Return what follows each prompt, up to `max_new_tokens`; a row that ended ends with eos."""
        rows = _Rows(self._model, self._states, self._mask)
        return decode_loop(rows, len(self._mask), self._model.eos, sampling, self._on_rows)

    @torch.inference_mode()
    def score(
        self, rows: Sequence[int], prefixes: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """Return what `Prefilled.score` returns. The prefix is run again for each choice."""
        return score_in_passes(
            self.score_together,
            rows,
            prefixes,
            choices,
            prompt_length=self._mask.shape[1],
            max_tokens=self._model.max_tokens,
        )

    @timed("score options")
    def score_together(
        self, rows: Sequence[int], prefixes: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """Return what `score` returns, by one pass."""
        model = self._model
        repeat = torch.tensor([row for row, options in zip(rows, choices, strict=True) for _ in options])
        starts = [[model.start, *ids] for ids, options in zip(prefixes, choices, strict=True) for _ in options]
        flat = [choice for options in choices for choice in options]
        inputs = [[*start, *choice[:-1]] for start, choice in zip(starts, flat, strict=True)]
        ids, _ = padded(inputs, model.pad, model.device)
        targets = [[*[model.pad] * (len(start) - 1), *choice] for start, choice in zip(starts, flat, strict=True)]
        labels, label_mask = padded(targets, model.pad, model.device)
        for row, start in enumerate(starts):
            label_mask[row, : len(start) - 1] = 0
        self._on_rows(repeat)
        encoded = repeat.to(model.device)
        logits = model.forward(self._states[encoded], self._mask[encoded], ids, None).logits
        return by_row(log_likelihood(logits, labels, label_mask), choices)


class _Rows:
    """The rows of a batch that the decoder is still writing."""

    def __init__(self, model: EncoderDecoder, states: Tensor, mask: Tensor) -> None:
        self._model, self._states, self._mask = model, states, mask
        config = model.model.config
        self._cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        self._ids = torch.full((len(mask), 1), model.start, device=model.device)

    def logits(self) -> Tensor:
        """Return the logits of the next token, (rows, vocabulary)."""
        return self._model.forward(self._states, self._mask, self._ids, self._cache).logits[:, -1]

    def append(self, tokens: Tensor) -> None:
        """Append these tokens, one to each row."""
        self._ids = tokens[:, None]

    def select(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._states, self._mask, self._ids = self._states[rows], self._mask[rows], self._ids[rows]
