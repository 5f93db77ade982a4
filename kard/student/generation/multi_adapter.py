"""Rows of several students in one pass of their base: each row gets the low-rank product of its own adapter.

Merged into the weights (`AdapterSwitcher`) an adapter costs nothing, but a pass then serves that one alone, and
a pass of a few rows takes nearly as long as one of many: most of it is reading the weights. So students with few
rows each share passes over the bare base. peft's `adapter_names` does this for a model that peft wraps; here rows
leave the batch as they end, and a base that wears adapters stays as it is.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kard.config import Decoding
from kard.models.adapters import LowRank, is_whole
from kard.records import Sample
from kard.student.generation.batch import Row, answered
from kard.student.generation.sampling import Tell

FEW = 16  # rows of one student up to which they join those of others
MOST = 8  # adapters in one pass: each adds 4% to its products (rank 16 in SmolLM2-135M)


def generate_rows(rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
    """One sample a row, in the order of the rows, for any students of one base."""
    if not rows:
        return []
    places: dict[Path | None, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row.student.adapter, []).append(i)
    small = [adapter for adapter, own in places.items() if len(own) <= FEW] if len(places) > 1 else []
    few = {adapter: LowRank.read(adapter) if adapter else None for adapter in small if not is_whole(adapter)}
    few = {adapter: read for adapter, read in few.items() if read is None or not read.merged_only}  # DoRA is no sum
    home = rows[0].student.home
    samples: dict[int, Sample] = {}
    with home.lock:
        shared = [list(few)[i : i + MOST] for i in range(0, len(few), MOST)]
        for group in [*([a] for a in places if a not in few), *shared]:
            some = [i for adapter in group for i in places[adapter]]
            if len(group) == 1:
                home.activate(group[0])
                made = answered(home.writer, [rows[i] for i in some], decoding)
            else:
                home.activate(None)
                mixed = MultiAdapter({a: few[a] for a in group}, next(home.writer.model.parameters()))
                with mixed.on(home.writer.model):
                    made = answered(home.writer, [rows[i] for i in some], decoding, mixed.telling)
            samples.update(zip(some, made, strict=True))
    return [samples[i] for i in range(len(rows))]


class MultiAdapter:
    """The low-rank products of several adapters beside a model's own layers; None among them adds nothing."""

    def __init__(self, adapters: Mapping[Path | None, LowRank | None], like: Tensor) -> None:
        self._numbers = {adapter: number for number, adapter in enumerate(adapters)}
        self._layers: dict[str, tuple[Tensor, Tensor, Tensor]] = {}  # A, B and which adapter each rank is of
        self._batch = self._now = torch.zeros(0, dtype=torch.long, device=like.device)  # an adapter's number a row
        for name in dict.fromkeys(name for read in adapters.values() if read for name in read.down):
            having = [(i, read) for i, read in enumerate(adapters.values()) if read and name in read.down]
            down = torch.cat([read.down[name] for _, read in having]).to(like)
            up = torch.cat([read.scale * read.up[name].float() for _, read in having], dim=1).to(like)
            own = torch.tensor([i for i, read in having for _ in read.down[name]], device=like.device)
            self._layers[name] = down, up, own

    def telling(self, batch: Sequence[Row]) -> Tell:
        """What is told which rows of this batch the next pass is over."""
        numbers = [self._numbers[row.student.adapter] for row in batch]
        self._batch = self._now = torch.tensor(numbers, device=self._batch.device)
        return self._tell

    @contextmanager
    def on(self, model: nn.Module) -> Generator[None]:
        """The model with these products."""
        layers = {name: model.get_submodule(name) for name in self._layers}
        hooks = [layer.register_forward_hook(partial(self._add, name)) for name, layer in layers.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _tell(self, rows: Tensor) -> None:
        self._now = self._batch[rows.to(self._batch.device)]

    def _add(self, name: str, layer: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
        """The layer's output with each row's product; the input is (B, T, in), or (B x T, in) as OPT has it."""
        del layer
        down, up, own = self._layers[name]
        x: Tensor = given[0]
        mine = (own == self._now[:, None]).to(x.dtype)  # (B, ranks of all)
        mine = mine[:, None] if x.dim() == 3 else mine.repeat_interleave(len(x) // len(mine), dim=0)
        return out + F.linear(F.linear(x, down) * mine, up)
