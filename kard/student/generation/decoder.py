"""Decoders: prompts are read in pieces, then continued together, or options scored after them.

Scoring uses the prompts' own keys and values (`kv_cache`), not what was written after them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from kard.progress import timed
from kard.student.generation.kv_cache import (
    PIECE_TOKENS,
    PromptKV,
    caches_all_tokens,
    join_caches,
    use_one_token_attention,
)
from kard.student.generation.sampling import (
    OnRows,
    Sampling,
    by_row,
    cache_argument,
    decode_loop,
    ignore_rows,
    log_likelihood,
    max_cached_tokens,
    positions_of,
    score_in_passes,
)
from kard.student.tokens import Ids, distinct, grouped, padded


class Decoder:
    """A causal model that generates for batches of prompts."""

    def __init__(self, model: Any, eos: int, pad: int) -> None:
        use_one_token_attention(model)
        self.model, self.eos, self.pad = model, eos, pad
        self.device = next(model.parameters()).device
        self._cache_argument = cache_argument(model)
        self.max_tokens = max_cached_tokens(model)
        self.caches_all_tokens = caches_all_tokens(model)
        # Tokens of a piece; None reads all prompts at once.
        self.piece_tokens = PIECE_TOKENS if self.device.type == "cpu" and self.caches_all_tokens else None

    @torch.inference_mode()
    def read(
        self,
        prompts: Sequence[Ids],
        on_rows: OnRows = ignore_rows,
        *,
        scored: bool = True,
        owners: Sequence[Hashable] | None = None,
    ) -> Prefilled:
        """Return the prompts, read. With `scored` their keys and values are kept for the scores of options.

        Equal prompts of one owner (by default all) are read once, if the cache holds all tokens.
        """
        owner_of = [None] * len(prompts) if owners is None else owners
        return Prefilled(self, prompts, on_rows, owner_of, *self.prefill(prompts, on_rows, owner_of), scored=scored)

    @timed("read prompts")
    def prefill(
        self, prompts: Sequence[Ids], on_rows: OnRows, owners: Sequence[Hashable]
    ) -> tuple[Tensor, Tensor, DynamicCache]:
        """Return the logits of the token after each prompt (B, vocabulary), the mask (B, longest) and the cache."""
        firsts, group = list(range(len(prompts))), None
        if self.caches_all_tokens:
            firsts, group = distinct([(owner, *prompt) for owner, prompt in zip(owners, prompts, strict=True)])
        lengths = [len(prompts[row]) for row in firsts]
        pieces = grouped(lengths, self.piece_tokens) if self.piece_tokens else [range(len(firsts))]
        logits: list[Tensor] = []
        caches: list[DynamicCache] = []
        for piece in pieces:
            rows = [firsts[i] for i in piece]
            ids, mask = padded([prompts[row] for row in rows], self.pad, self.device, left=True)
            caches.append(DynamicCache(config=self.model.config))
            on_rows(torch.tensor(rows))
            logits.append(self.forward(ids, mask, positions_of(mask), caches[-1]).logits[:, -1])
        last = torch.cat(logits)
        repeat = torch.tensor(group, device=self.device) if len(firsts) < len(prompts) else None
        last = last if repeat is None else last[repeat]
        if self.piece_tokens:
            cache = join_caches(caches, repeat)
        else:
            [cache] = caches
            if repeat is not None:
                cache.batch_select_indices(repeat)
        ends = torch.tensor([len(prompt) for prompt in prompts], device=self.device)[:, None]
        mask = torch.arange(int(ends.max()), 0, -1, device=self.device) <= ends
        on_rows(torch.arange(len(prompts)))
        return last, mask.long(), cache

    @torch.inference_mode()
    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """Return the log-probability of each id but the first, after those before it."""
        here = torch.tensor([list(ids)], device=self.device)
        mask, cache = torch.ones_like(here), DynamicCache(config=self.model.config)
        logits = self.forward(here, mask, positions_of(mask), cache, keep=0).logits[0, :-1]
        return logits.float().log_softmax(-1).gather(-1, here[0, 1:, None])[:, 0].tolist()

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any, keep: int = 1) -> Any:
        """Run the model over new ids; `mask` covers the cache too. `keep` logits at the end, 0 for all."""
        return self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            logits_to_keep=keep,
            use_cache=True,
            **{self._cache_argument: cache},
        )

    def extend(self, ids: Tensor, mask: Tensor, cache: DynamicCache, keep: int = 1) -> Tensor:
        """Return logits (B, T or `keep`, vocabulary) of one pass over (B, T) ids at the end of the mask."""
        return self.forward(ids, mask, positions_of(mask)[:, -ids.shape[1] :], cache, keep=keep).logits


class Prefilled:
    """Prompts that a decoder has read: continued once, and their options scored any number of times."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Ids],
        on_rows: OnRows,
        owners: Sequence[Hashable],
        logits: Tensor,
        mask: Tensor,
        cache: DynamicCache,
        *,
        scored: bool,
    ) -> None:
        self._decoder, self._prompts, self._on_rows, self._owners = decoder, prompts, on_rows, owners
        self._logits, self._mask = logits, mask
        self._prompt_kv = PromptKV(cache) if decoder.caches_all_tokens and scored else None
        self._rows: _Rows | None = _Rows(decoder, logits, mask, cache)

    @torch.inference_mode()
    def generate(self, sampling: Sampling) -> list[Ids]:
        """Return what follows each prompt, up to `max_new_tokens`; a row that ended ends with eos.

        Raises RuntimeError the second time, since the cache holds what was written.
        """
        rows, self._rows = self._rows, None
        if rows is None:
            raise RuntimeError("these prompts were continued before; read them again")
        return decode_loop(rows, len(self._prompts), self._decoder.eos, sampling, self._on_rows)

    @torch.inference_mode()
    def score(
        self, rows: Sequence[int], prefixes: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """Return the mean log-probability of each choice's tokens after a row's prompt and its prefix.

        The prefix is run once for all choices of a row. The prompt is read again only if its keys were not kept.
        """
        return score_in_passes(
            self.score_together,
            rows,
            prefixes,
            choices,
            prompt_length=self._mask.shape[1],
            max_tokens=self._decoder.max_tokens,
        )

    @timed("score options")
    def score_together(
        self, rows: Sequence[int], prefixes: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """Return what `score` returns, by one pass over all choices."""
        decoder, batch_rows = self._decoder, torch.tensor(rows)
        logits, mask, cache = self._after_prefixes(batch_rows, prefixes)
        first = logits.float().log_softmax(-1)
        repeat = torch.tensor([i for i, row in enumerate(choices) for _ in row], device=decoder.device)
        ids, ids_mask = padded([choice for row in choices for choice in row], decoder.pad, decoder.device)
        total = first[repeat, ids[:, 0]]
        if ids.shape[1] > 1:
            cache.batch_select_indices(repeat)
            self._on_rows(batch_rows[repeat.to(batch_rows.device)])
            whole_mask = torch.cat([mask[repeat], ids_mask[:, :-1]], dim=1)
            logits = decoder.extend(ids[:, :-1], whole_mask, cache, keep=0)
            total = total + log_likelihood(logits, ids[:, 1:], ids_mask[:, 1:])
        return by_row(total, choices)

    def _after_prefixes(self, rows: Tensor, prefixes: Sequence[Ids]) -> tuple[Tensor, Tensor, DynamicCache]:
        """Return the logits of the next token, the mask and the cache of these rows after their prefixes."""
        decoder = self._decoder
        if self._prompt_kv is None:
            prompts = [[*self._prompts[row], *ids] for row, ids in zip(rows.tolist(), prefixes, strict=True)]
            owners = [self._owners[row] for row in rows.tolist()]
            return decoder.prefill(prompts, lambda indices: self._on_rows(rows[indices]), owners)
        self._on_rows(rows)
        here = rows.to(decoder.device)
        logits, mask, cache = self._logits[here], self._mask[here], self._prompt_kv.rows(here)
        if any(prefixes):
            ids, ids_mask = padded(prefixes, decoder.pad, decoder.device, left=True)
            mask = torch.cat([mask, ids_mask], dim=1)
            logits = torch.where(ids_mask[:, -1:] == 1, decoder.extend(ids, mask, cache)[:, -1], logits)
        return logits, mask, cache


class _Rows:
    """The rows of a batch that are still being written, with their cache."""

    def __init__(self, decoder: Decoder, logits: Tensor, mask: Tensor, cache: DynamicCache) -> None:
        self._decoder, self._logits, self._mask, self._cache = decoder, logits, mask, cache
        self._ids, self._positions = mask.new_empty(0), positions_of(mask)

    def logits(self) -> Tensor:
        """Return the logits of the next token, (rows, vocabulary)."""
        if len(self._ids):
            self._logits = self._decoder.forward(self._ids, self._mask, self._positions, self._cache).logits[:, -1]
        return self._logits

    def append(self, tokens: Tensor) -> None:
        """Append these tokens, one to each row."""
        self._ids = tokens[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], dim=1)
        self._positions = self._positions[:, -1:] + 1

    def select(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._ids, self._mask, self._positions = self._ids[rows], self._mask[rows], self._positions[rows]
