"""Keys and values of a batch of prompts, read in pieces and continued as one.

Prompts of a batch differ in length, and padding all of them to the longest costs as much as reading it. So a few
neighbours are read at a time (whoever makes a batch sorts it by length), and their keys and values laid side by
side, at the right end of each row, with room for what follows: transformers' own cache copies everything for each
new token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

PIECE = 2048  # tokens read at once: what comes between two products of a small model stays near the processor
BY_LONGEST = ("dynamic", "longrope")  # rotary embeddings whose frequencies follow the longest row of a batch
ROOM = 64  # tokens that can follow before keys and values are copied again, if no row leaves


def growing(model: Any) -> bool:
    """Whether every layer's cache holds all tokens, none a window or a state, whatever else is in the batch."""
    ropes = getattr(model.config, "rope_parameters", None) or {}
    kinds = {each.get("rope_type") for each in (ropes, *ropes.values()) if isinstance(each, Mapping)}
    layers = DynamicCache(config=model.config).layers
    return kinds.isdisjoint(BY_LONGEST) and all(type(layer) is DynamicLayer for layer in layers)


def joined(parts: Sequence[DynamicCache], rows: Tensor | None = None) -> DynamicCache:
    """One cache of the rows of all parts, each padded on the left to the longest. The parts are emptied.

    With `rows` it holds these of them, in their order, as often as they are named.
    """
    whole = DynamicCache()
    for some in zip(*(part.layers for part in parts), strict=True):
        whole.layers.append(GrowingKVLayer(cast("list[DynamicLayer]", list(some)), rows))
    return whole


class PromptKV:
    """Keys and values of prompts as they were read, whatever their cache goes on with: of a cache that grows."""

    def __init__(self, cache: DynamicCache) -> None:
        layers = cast("list[DynamicLayer]", cache.layers)
        self._layers = [(layer.keys, layer.values) for layer in layers]

    def rows(self, rows: Tensor) -> DynamicCache:
        """A cache of its own with these rows."""
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

    def __init__(self, parts: Sequence[DynamicLayer], rows: Tensor | None = None) -> None:
        super().__init__()
        self._rooms: list[Tensor] = []
        if parts[0].keys is None:  # nothing was written to it
            return
        self.lazy_initialization(parts[0].keys, cast(Tensor, parts[0].values))
        for name in ("keys", "values"):
            some: list[Tensor] = [getattr(part, name) for part in parts]
            room, length = _beside(some)
            room = room if rows is None else room[rows]
            self._rooms.append(room)
            setattr(self, name, room[:, :, :length])
        for part in parts:
            part.keys = part.values = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and values, the new ones last."""
        del args, kwargs
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for i, (name, fresh) in enumerate((("keys", key_states), ("values", value_states))):
            own: Tensor = getattr(self, name)
            room = self._rooms[i]
            if own.data_ptr() != room.data_ptr() or end > room.shape[2]:  # repeated by others, or full
                self._rooms[i] = room = _beside([own], fresh.shape[2])[0]
            room[:, :, start:end] = fresh
            setattr(self, name, room[:, :, :end])
        return cast(Tensor, self.keys), cast(Tensor, self.values)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows. Nothing is held here of the others."""
        super().batch_select_indices(indices)
        if self._rooms:
            self._rooms = [cast(Tensor, self.keys), cast(Tensor, self.values)]  # full: the next update makes room


def _beside(parts: Sequence[Tensor], more: int = 0) -> tuple[Tensor, int]:
    """(rows of all, heads, longest T + room, D) of parts (rows, heads, T, D), and the longest T."""
    heads, _, width = parts[0].shape[1:]
    longest = max(part.shape[2] for part in parts)
    made = parts[0].new_zeros(sum(map(len, parts)), heads, longest + more + ROOM, width)
    start = 0
    for part in parts:
        made[start : start + len(part), :, longest - part.shape[2] : longest] = part
        start += len(part)
    return made, longest
