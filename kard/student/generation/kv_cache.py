"""Keys and values of a batch of prompts, read in pieces and continued as one; attention of one new token over them.

The prompts of a batch differ in length, and padding all of them to the longest costs as much as reading it. So a
few neighbours are read at a time (whoever makes a batch sorts it by length). Their keys and values are laid side by
side, at the right end of each row, with spare room for new tokens: transformers' own cache copies everything for
each new token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PIECE_TOKENS = 2048  # read at once: what comes between two products of a small model stays near the processor
SPARE_TOKENS = 32  # that can follow before keys and values are copied again; attention reads them too
BY_LONGEST = ("dynamic", "longrope")  # rotary embeddings whose frequencies follow the longest row of a batch
_ONE_TOKEN = "kard_one_token"


def caches_all_tokens(model: Any) -> bool:
    """Return whether every layer's cache holds all tokens, whatever else is in the batch: no windows, no states."""
    ropes = getattr(model.config, "rope_parameters", None) or {}
    kinds = {each.get("rope_type") for each in (ropes, *ropes.values()) if isinstance(each, Mapping)}
    layers = DynamicCache(config=model.config).layers
    return kinds.isdisjoint(BY_LONGEST) and all(type(layer) is DynamicLayer for layer in layers)


def join_caches(pieces: Sequence[DynamicCache], rows: Tensor | None = None) -> DynamicCache:
    """Return one cache of the rows of all pieces, each padded on the left to the longest. The pieces are emptied.

    With `rows` it holds the rows with these numbers, in their order; a number may be repeated.
    """
    cache = DynamicCache()
    for layers in zip(*(piece.layers for piece in pieces), strict=True):
        cache.layers.append(GrowingKVLayer(cast("list[DynamicLayer]", list(layers)), rows))
    return cache


class PromptKV:
    """Keys and values of prompts as they were read, whatever is appended to the cache that they come from."""

    def __init__(self, cache: DynamicCache) -> None:
        layers = cast("list[DynamicLayer]", cache.layers)
        self._layers = [(layer.keys, layer.values) for layer in layers]

    def rows(self, rows: Tensor) -> DynamicCache:
        """Return a new cache with these rows."""
        cache = DynamicCache()
        for keys, values in self._layers:
            layer = DynamicLayer()
            if keys is not None and values is not None:
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys[rows], values[rows]
            cache.layers.append(layer)
        return cache


class GrowingKVLayer(DynamicLayer):
    """A layer's keys and values (rows, heads, T, D), with room for more tokens behind them."""

    def __init__(self, pieces: Sequence[DynamicLayer], rows: Tensor | None = None) -> None:
        super().__init__()
        self._buffers: list[Tensor] = []  # of keys and of values: each begins with them and has spare tokens
        if pieces[0].keys is None:  # nothing was written to it
            return
        self.lazy_initialization(pieces[0].keys, cast(Tensor, pieces[0].values))
        for name in ("keys", "values"):
            states: list[Tensor] = [getattr(piece, name) for piece in pieces]
            buffer, length = _side_by_side(states)
            buffer = buffer if rows is None else buffer[rows]
            self._buffers.append(buffer)
            setattr(self, name, buffer[:, :, :length])
        for piece in pieces:
            piece.keys = piece.values = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values; return all of them."""
        del args, kwargs
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for i, (name, new) in enumerate((("keys", key_states), ("values", value_states))):
            states: Tensor = getattr(self, name)
            buffer = self._buffers[i]
            if states.data_ptr() != buffer.data_ptr() or end > buffer.shape[2]:  # replaced by transformers, or full
                self._buffers[i] = buffer = _side_by_side([states], new.shape[2])[0]
            buffer[:, :, start:end] = new
            setattr(self, name, buffer[:, :, :end])
        return cast(Tensor, self.keys), cast(Tensor, self.values)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows and free the memory of the others."""
        super().batch_select_indices(indices)
        if self._buffers:
            self._buffers = [cast(Tensor, self.keys), cast(Tensor, self.values)]  # full: the next update makes room


def _side_by_side(states: Sequence[Tensor], more: int = 0) -> tuple[Tensor, int]:
    """Return all (rows, heads, T, D) states as one, with room for `more` and spare tokens, and the longest T."""
    heads, _, width = states[0].shape[1:]
    longest = max(part.shape[2] for part in states)
    buffer = states[0].new_zeros(sum(map(len, states)), heads, longest + more + SPARE_TOKENS, width)
    start = 0
    for part in states:
        buffer[start : start + len(part), :, longest - part.shape[2] : longest] = part
        start += len(part)
    return buffer, longest


def use_one_token_attention(model: Any) -> None:
    """Let a decoder with torch's fused attention attend to a single new token by plain products on a processor.

    In bfloat16 on one thread a step of SmolLM2-135M for 24 rows takes 220 ms fused and 114 ms in this way.
    """
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_ONE_TOKEN, _one_token)
        AttentionMaskInterface.register(_ONE_TOKEN, sdpa_mask)
        model.set_attn_implementation(_ONE_TOKEN)


def _one_token(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend with (B, heads, 1, D) queries to (B, groups, T, D) keys; `mask` (B, 1, 1, T) is true where to look."""
    unsupported = any(options.get(name) is not None for name in ("softcap", "position_bias", "s_aux"))
    if query.shape[2] > 1 or unsupported:
        return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **options)
    batch, heads, _, width = query.shape
    length = key.shape[2]
    keys, values = with_spare_tokens(key), with_spare_tokens(value)
    if keys.shape[2] != values.shape[2]:  # one of them begins no buffer
        keys, values = key, value
    groups, room = keys.shape[1:3]
    q = query.reshape(batch * groups, heads // groups, width)
    scores = torch.bmm(q, keys.reshape(batch * groups, room, width).transpose(1, 2)).view(batch, heads, 1, room)
    scores.mul_(scaling if scaling is not None else width**-0.5)
    least = torch.finfo(scores.dtype).min
    scores[..., length:] = least
    if mask is not None:
        scores[..., :length].masked_fill_(~mask, least)
    weights = scores.softmax(-1).view(batch * groups, heads // groups, room)
    out = torch.bmm(weights, values.reshape(batch * groups, room, -1))
    return out.view(batch, 1, heads, -1), None


def with_spare_tokens(states: Tensor) -> Tensor:
    """Return the whole buffer that (rows, heads, T, D) states begin, or the states if they begin none.

    A batched product copies operands that are not packed, and so all keys and values for each new token.
    """
    rows, heads, _, width = states.shape
    room = states.stride(1) // width
    whole = (rows, heads, room, width)
    packed = (heads * room * width, room * width, width, 1)
    held = states.untyped_storage().nbytes() // states.element_size() - states.storage_offset()
    if room < states.shape[2] or states.stride() != packed or held < math.prod(whole):
        return states
    return states.as_strided(whole, packed)
