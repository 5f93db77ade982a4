"""Batched generation and the scoring of options, for decoders and encoder-decoders.

Prompts of a batch are read in pieces (`kard.student.cache`) and continued all at once; rows that have ended leave
the batch. Where no option can be read from what was written, options are scored over the same keys and values. Ids
are lists, one a row (B rows).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from kard.student.attention import write_with
from kard.student.cache import PIECE, Kept, growing, joined, pieces
from kard.student.tokens import Ids


@dataclass(frozen=True, slots=True)
class Drawing:
    """How the next token is chosen. `temperature` 0 is greedy; a row draws by its own seed, whatever its batch."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seeds: tuple[int, ...] = ()  # one a row


Tell = Callable[[Tensor], None]
"""Is told, before the first pass and when rows change, which row of the batch each row of a pass belongs to."""
SCORED = 64  # options, with their prompts' keys and values, in one pass
TOP_K = 50  # likeliest tokens that a draw chooses from, as in the paper's own decoding


def nobody(rows: Tensor) -> None:
    """Is told and does nothing."""
    del rows


class Decoder:
    """A causal model and its padding id."""

    def __init__(self, model: Any, eos: int, pad: int) -> None:
        write_with(model)
        self.model, self.eos, self.pad = model, eos, pad
        self.device = next(model.parameters()).device
        self._cache_name = _cache_name(model)
        self.growing = growing(model)
        self.piece = PIECE if self.device.type == "cpu" and self.growing else None  # tokens, None for all at once

    @torch.inference_mode()
    def read(self, prompts: Sequence[Ids], tell: Tell = nobody) -> Read:
        """The prompts, read: what they are continued from."""
        return Read(self, prompts, tell, *self.pass_over(prompts, tell))

    def pass_over(self, prompts: Sequence[Ids], tell: Tell) -> tuple[Tensor, Tensor, DynamicCache]:
        """Logits of the token after each prompt (B, vocabulary), the mask (B, longest) and the cache of all."""
        lengths = [len(prompt) for prompt in prompts]
        some = pieces(lengths, self.piece) if self.piece else [range(len(prompts))]
        logits: list[Tensor] = []
        caches: list[DynamicCache] = []
        for rows in some:
            ids, mask = _padded([prompts[row] for row in rows], self.pad, self.device, left=True)
            caches.append(DynamicCache(config=self.model.config))
            tell(torch.tensor(rows))
            logits.append(self.forward(ids, mask, _positions(mask), caches[-1]).logits[:, -1])
        ends = torch.tensor(lengths, device=self.device)[:, None]
        places = torch.arange(max(lengths), 0, -1, device=self.device)
        tell(torch.arange(len(prompts)))
        return torch.cat(logits), (places <= ends).long(), joined(caches) if self.piece else caches[0]

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
        return self.forward(ids, mask, _positions(mask)[:, -ids.shape[1] :], cache, keep=keep).logits


class Read:
    """Prompts that a decoder has read, to be continued once; options are scored as often as wanted."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Ids],
        tell: Tell,
        logits: Tensor,
        mask: Tensor,
        cache: DynamicCache,
    ) -> None:
        self._decoder, self._prompts, self._tell = decoder, prompts, tell
        self._logits, self._mask = logits, mask
        self._kept = Kept(cache) if decoder.growing else None
        self._rows = _Rows(decoder, logits, mask, cache)

    @torch.inference_mode()
    def generate(self, drawing: Drawing) -> list[Ids]:
        """What follows each prompt, up to `max_new_tokens`; a row that ended ends with eos."""
        return _loop(self._rows, len(self._prompts), self._decoder.eos, drawing, self._tell)

    @torch.inference_mode()
    def score(
        self, rows: Sequence[int], begun: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """Log-probability of each choice after a row's prompt and what was begun, summed over the choice's tokens.

        The prompt is not read again where all of its keys are there; nor is what was begun, for each choice.
        """
        scores: list[list[float]] = []
        for some in pieces([len(row) for row in choices], SCORED):
            own, words = torch.tensor([rows[i] for i in some]), [begun[i] for i in some]
            scores += self._score(own, words, [choices[i] for i in some])
        return scores

    def _score(self, rows: Tensor, begun: Sequence[Ids], choices: Sequence[Sequence[Ids]]) -> list[list[float]]:
        decoder = self._decoder
        logits, mask, cache = self._after(rows, begun)
        first = logits.float().log_softmax(-1)
        own = torch.tensor([i for i, row in enumerate(choices) for _ in row], device=decoder.device)
        after, after_mask = _padded([choice for row in choices for choice in row], decoder.pad, decoder.device)
        total = first[own, after[:, 0]]
        if after.shape[1] > 1:
            cache.batch_select_indices(own)
            self._tell(rows[own.to(rows.device)])
            whole = torch.cat([mask[own], after_mask[:, :-1]], dim=1)
            logits = decoder.more(after[:, :-1], whole, cache, keep=0)
            total = total + _picked(logits, after[:, 1:], after_mask[:, 1:])
        return _by_row(total, choices)

    def _after(self, rows: Tensor, begun: Sequence[Ids]) -> tuple[Tensor, Tensor, DynamicCache]:
        """Logits of the next token, mask and cache of these rows after what was begun."""
        decoder = self._decoder
        if self._kept is None:
            prefixes = [[*self._prompts[row], *ids] for row, ids in zip(rows.tolist(), begun, strict=True)]
            return decoder.pass_over(prefixes, lambda within: self._tell(rows[within]))
        self._tell(rows)
        own = rows.to(decoder.device)
        logits, mask, cache = self._logits[own], self._mask[own], self._kept.rows(own)
        if any(begun):
            ids, more = _padded(begun, decoder.pad, decoder.device, left=True)
            mask = torch.cat([mask, more], dim=1)
            logits = torch.where(more[:, -1:] == 1, decoder.more(ids, mask, cache)[:, -1], logits)
        return logits, mask, cache


class _Rows:
    """The rows of a batch that are still being written, with their cache."""

    def __init__(self, decoder: Decoder, logits: Tensor, mask: Tensor, cache: DynamicCache) -> None:
        self._decoder, self._logits, self._mask, self._cache = decoder, logits, mask, cache
        self._ids, self._positions = mask.new_empty(0), _positions(mask)

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


class EncoderDecoder:
    """An encoder-decoder: prompts are encoded once, what is written is decoded."""

    def __init__(self, model: Any, eos: int, pad: int) -> None:
        self.model, self.eos, self.pad = model, eos, pad
        self.device = next(model.parameters()).device
        self.start: int = model.config.decoder_start_token_id
        self._cache_name = _cache_name(model)

    @torch.inference_mode()
    def read(self, prompts: Sequence[Ids], tell: Tell = nobody) -> Encoded:
        """The prompts, encoded: what the decoder writes from."""
        tell(torch.arange(len(prompts)))
        return Encoded(self, tell, *self.encode(prompts))

    def encode(self, prompts: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """The encoder's states (B, S, D) and the mask (B, S)."""
        ids, mask = _padded(prompts, self.pad, self.device)
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


class Encoded:
    """A batch of prompts that an encoder has read, as `Read`."""

    def __init__(self, model: EncoderDecoder, tell: Tell, encoded: Tensor, mask: Tensor) -> None:
        self._model, self._tell, self._encoded, self._mask = model, tell, encoded, mask

    @torch.inference_mode()
    def generate(self, drawing: Drawing) -> list[Ids]:
        """What the decoder writes for each prompt, up to `max_new_tokens`; a row that ended ends with eos."""
        state = _Written(self._model, self._encoded, self._mask)
        return _loop(state, len(self._mask), self._model.eos, drawing, self._tell)

    @torch.inference_mode()
    def score(
        self, rows: Sequence[int], begun: Sequence[Ids], choices: Sequence[Sequence[Ids]]
    ) -> list[list[float]]:
        """As of `Read`."""
        model = self._model
        own = torch.tensor([row for row, some in zip(rows, choices, strict=True) for _ in some])
        starts = [[model.start, *ids] for ids, some in zip(begun, choices, strict=True) for _ in some]
        flat = [choice for row in choices for choice in row]
        ids, _ = _padded([[*b, *c[:-1]] for b, c in zip(starts, flat, strict=True)], model.pad, model.device)
        wanted, counted = _padded(
            [[*[model.pad] * (len(b) - 1), *c] for b, c in zip(starts, flat, strict=True)], model.pad, model.device
        )
        for row, b in enumerate(starts):
            counted[row, : len(b) - 1] = 0
        self._tell(own)
        places = own.to(model.device)
        logits = model.forward(self._encoded[places], self._mask[places], ids, None).logits
        return _by_row(_picked(logits, wanted, counted), choices)


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


def _loop(state: _Rows | _Written, count: int, eos: int, drawing: Drawing, tell: Tell) -> list[Ids]:
    written: list[Ids] = [[] for _ in range(count)]
    rows = list(range(count))
    draws = [torch.Generator().manual_seed(seed) for seed in drawing.seeds]
    for step in range(drawing.max_new_tokens):
        tokens = _next(state.logits(), drawing, [draws[row] for row in rows] if draws else [])
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if not written[row] or written[row][-1] != eos:
                written[row].append(token)
        going = [place for place, row in enumerate(rows) if written[row][-1] != eos]
        if not going or step + 1 == drawing.max_new_tokens:
            break
        state.append(tokens)
        # Selecting rows copies the cache: worth it once a quarter of the rows has ended.
        if len(going) <= 0.75 * len(rows):
            state.keep(torch.tensor(going, device=tokens.device))
            rows = [rows[place] for place in going]
            tell(torch.tensor(rows))
    return written


def _next(logits: Tensor, drawing: Drawing, draws: Sequence[torch.Generator]) -> Tensor:
    """The next token of each row. The random numbers are drawn on the processor, the same on every device."""
    if drawing.temperature == 0:
        return logits.argmax(-1)
    values, order = logits.float().topk(min(TOP_K, logits.shape[-1]))
    likely = (values / drawing.temperature).softmax(-1)
    before = likely.cumsum(-1) - likely
    kept = likely.masked_fill(before >= drawing.top_p, 0.0).cumsum(-1)  # the first token always stays
    drawn = torch.cat([torch.rand(1, generator=draw) for draw in draws]).to(kept.device)
    place = (kept < drawn[:, None] * kept[:, -1:]).sum(-1, keepdim=True)
    return order.gather(-1, place)[:, 0]


def _padded(rows: Sequence[Ids], pad: int, device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Ids and mask of shape (B, longest). The mask is of lengths: a pad id may be an eos that counts."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids.to(device), mask.to(device)


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


def _picked(logits: Tensor, wanted: Tensor, counted: Tensor) -> Tensor:
    """Log-probability of the wanted ids (B, T), summed where counted: (B,)."""
    each = logits.float().log_softmax(-1).gather(-1, wanted[:, :, None])[:, :, 0]
    return (each * counted).sum(-1)


def _by_row(total: Tensor, choices: Sequence[Sequence[Ids]]) -> list[list[float]]:
    values = iter(total.tolist())
    return [[next(values) for _ in row] for row in choices]


def _cache_name(model: Any) -> str:
    """What the model calls its cache; transformers changed the name from `past_key_values` in 5.2x."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
