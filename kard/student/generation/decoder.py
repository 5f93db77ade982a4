"""Generation and the scoring of options by decoders.

Prompts of a batch are read in pieces (`kv_cache`) and continued all at once. Where no option can be read
from what was written, options are scored over the same keys and values.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from kard.student.batching import distinct, grouped
from kard.student.generation.attention import write_with
from kard.student.generation.kv_cache import PIECE, PromptKV, growing, joined
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
    positions_of,
    room_of,
)
from kard.student.tokens import Ids


class Decoder:
    """A causal model and its padding id."""

    def __init__(self, model: Any, eos: int, pad: int) -> None:
        write_with(model)
        self.model, self.eos, self.pad = model, eos, pad
        self.device = next(model.parameters()).device
        self._cache_name = cache_name(model)
        self.room = room_of(model)
        self.growing = growing(model)
        self.piece = PIECE if self.device.type == "cpu" and self.growing else None  # tokens, None for all at once

    @torch.inference_mode()
    def read(
        self,
        prompts: Sequence[Ids],
        tell: Tell = nobody,
        *,
        scored: bool = True,
        whose: Sequence[Hashable] | None = None,
    ) -> Prefilled:
        """The prompts, read: what they are continued from. Their keys are kept for options that may be `scored`.

        Equal prompts of one student (`whose`, by default all) are read once, where a cache holds all tokens.
        """
        owners = [None] * len(prompts) if whose is None else whose
        return Prefilled(self, prompts, tell, owners, *self.pass_over(prompts, tell, owners), scored=scored)

    def pass_over(
        self, prompts: Sequence[Ids], tell: Tell, whose: Sequence[Hashable]
    ) -> tuple[Tensor, Tensor, DynamicCache]:
        """Logits of the token after each prompt (B, vocabulary), the mask (B, longest) and the cache of all."""
        places, own = list(range(len(prompts))), None
        if self.growing:
            places, own = distinct([(owner, *prompt) for owner, prompt in zip(whose, prompts, strict=True)])
        lengths = [len(prompts[place]) for place in places]
        some = grouped(lengths, self.piece) if self.piece else [range(len(places))]
        logits: list[Tensor] = []
        caches: list[DynamicCache] = []
        for part in some:
            rows = [places[i] for i in part]
            ids, mask = padded([prompts[row] for row in rows], self.pad, self.device, left=True)
            caches.append(DynamicCache(config=self.model.config))
            tell(torch.tensor(rows))
            logits.append(self.forward(ids, mask, positions_of(mask), caches[-1]).logits[:, -1])
        last = torch.cat(logits)
        again = torch.tensor(own, device=self.device) if len(places) < len(prompts) else None
        last = last if again is None else last[again]
        if self.piece:
            cache = joined(caches, again)
        else:
            [cache] = caches
            if again is not None:
                cache.batch_select_indices(again)
        ends = torch.tensor([len(prompt) for prompt in prompts], device=self.device)[:, None]
        mask = torch.arange(int(ends.max()), 0, -1, device=self.device) <= ends
        tell(torch.arange(len(prompts)))
        return last, mask.long(), cache

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any, keep: int = 1) -> Any:
        """One pass over new ids; `mask` covers the cache too. `keep` logits at the end, 0 for all."""
        return self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            logits_to_keep=keep,
            use_cache=True,
            **{self._cache_name: cache},
        )

    def more(self, ids: Tensor, mask: Tensor, cache: DynamicCache, keep: int = 1) -> Tensor:
        """Logits (B, T or `keep`, vocabulary) of one pass over (B, T) ids at the end of the mask."""
        return self.forward(ids, mask, positions_of(mask)[:, -ids.shape[1] :], cache, keep=keep).logits


class Prefilled:
    """Prompts that a decoder has read, to be continued once; options are scored as often as wanted."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Ids],
        tell: Tell,
        whose: Sequence[Hashable],
        logits: Tensor,
        mask: Tensor,
        cache: DynamicCache,
        *,
        scored: bool,
    ) -> None:
        self._decoder, self._prompts, self._tell, self._whose = decoder, prompts, tell, whose
        self._logits, self._mask = logits, mask
        self._kept = PromptKV(cache) if decoder.growing and scored else None
        self._rows: _Rows | None = _Rows(decoder, logits, mask, cache)

    @torch.inference_mode()
    def generate(self, drawing: Sampling) -> list[Ids]:
        """What follows each prompt, up to `max_new_tokens`; a row that ended ends with eos.

        Raises RuntimeError the second time: what was written is in the keys then.
        """
        state, self._rows = self._rows, None
        if state is None:
            raise RuntimeError("these prompts were continued before; read them again")
        return decode_loop(state, len(self._prompts), self._decoder.eos, drawing, self._tell)

    @torch.inference_mode()
    def score(
        self, rows: Sequence[int], begun: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """Log-probability of each choice after a row's prompt and what was begun, summed over the choice's tokens.

        The prompt is not read again where all of its keys are there; nor is what was begun, for each choice.
        """
        read, room = self._mask.shape[1], self._decoder.room
        return in_passes(self.score_together, rows, begun, choices, read=read, room=room)

    def score_together(
        self, places: Sequence[int], begun: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """As `score`, all at once."""
        decoder, rows = self._decoder, torch.tensor(places)
        logits, mask, cache = self._after(rows, begun)
        first = logits.float().log_softmax(-1)
        own = torch.tensor([i for i, row in enumerate(choices) for _ in row], device=decoder.device)
        after, after_mask = padded([choice for row in choices for choice in row], decoder.pad, decoder.device)
        total = first[own, after[:, 0]]
        if after.shape[1] > 1:
            cache.batch_select_indices(own)
            self._tell(rows[own.to(rows.device)])
            whole = torch.cat([mask[own], after_mask[:, :-1]], dim=1)
            logits = decoder.more(after[:, :-1], whole, cache, keep=0)
            total = total + picked(logits, after[:, 1:], after_mask[:, 1:])
        return by_row(total, choices)

    def _after(self, rows: Tensor, begun: Sequence[Ids]) -> tuple[Tensor, Tensor, DynamicCache]:
        """Logits of the next token, mask and cache of these rows after what was begun."""
        decoder = self._decoder
        if self._kept is None:
            prefixes = [[*self._prompts[row], *ids] for row, ids in zip(rows.tolist(), begun, strict=True)]
            whose = [self._whose[row] for row in rows.tolist()]
            return decoder.pass_over(prefixes, lambda within: self._tell(rows[within]), whose)
        self._tell(rows)
        own = rows.to(decoder.device)
        logits, mask, cache = self._logits[own], self._mask[own], self._kept.rows(own)
        if any(begun):
            ids, more = padded(begun, decoder.pad, decoder.device, left=True)
            mask = torch.cat([mask, more], dim=1)
            logits = torch.where(more[:, -1:] == 1, decoder.more(ids, mask, cache)[:, -1], logits)
        return logits, mask, cache


class _Rows:
    """The rows of a batch that are still being written, with their cache."""

    def __init__(self, decoder: Decoder, logits: Tensor, mask: Tensor, cache: DynamicCache) -> None:
        self._decoder, self._logits, self._mask, self._cache = decoder, logits, mask, cache
        self._ids, self._positions = mask.new_empty(0), positions_of(mask)

    def logits(self) -> Tensor:
        """Logits of the next token, (rows, vocabulary)."""
        if len(self._ids):
            self._logits = self._decoder.forward(self._ids, self._mask, self._positions, self._cache).logits[:, -1]
        return self._logits

    def append(self, tokens: Tensor) -> None:
        """Go on with these tokens, one a row."""
        self._ids = tokens[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], dim=1)
        self._positions = self._positions[:, -1:] + 1

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._ids, self._mask, self._positions = self._ids[rows], self._mask[rows], self._positions[rows]
