"""One training on several devices: processes that `accelerate launch` started, each with its share of a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Item = TypeVar("Item")


class Devices:
    """This process among those that train together; alone when it was started alone.

    The processes see the same batches and sum their gradients, so that their weights stay equal and several
    devices train what one would.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self._state: Any = None
        if self.count > 1:
            from accelerate import PartialState

            self._state = PartialState()

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a batch, () when there are more processes than items."""
        return batch[self.rank :: self.count]

    def sum_gradients(self, weights: Sequence[nn.Parameter], loss: Tensor) -> float:
        """Put the sum of all processes' gradients into the weights' own; the sum of their losses."""
        if self._state is None:
            return loss.item()
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        flat = self.sum(torch.cat([loss.detach().float().reshape(1), *(g.float().reshape(-1) for g in grads)]))
        place = 1
        for weight in weights:
            weight.grad = flat[place : place + weight.numel()].view_as(weight).to(weight.dtype)
            place += weight.numel()
        return float(flat[0])

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all processes' values, to the bit the same in each; they are overwritten."""
        if self._state is not None:
            torch.distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Go on when every process is here."""
        if self._state is not None:
            # accelerate's own way does nothing where it shares out processors (1.15).
            self.sum(torch.zeros(1, device=self._state.device)).item()
