"""Steps of training: a batch in as many passes as it takes, shared by devices, in float16 with scaled gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kard.errors import BadConfig
from kard.models.distributed import Devices
from kard.student.batching import grouped
from kard.student.training.loss import Example, Loss

FIRST_SCALE = 4096.0  # of gradients in float16; halved where it was too much, doubled after 2,000 steady steps
LEAST_SCALE = 2.0**-10  # below, the gradients are no numbers whatever they are scaled by


@dataclass(frozen=True, slots=True)
class Stepper:
    """Takes optimizer steps on the mean over a batch's target tokens."""

    loss: Loss
    weights: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    devices: Devices
    pass_tokens: int  # padded, in one pass

    def step(self, batch: Sequence[Example], *, seed: int) -> float:
        """The batch's summed loss. Raises BadConfig when gradients leave float16 however small they are made."""
        torch.manual_seed(seed)
        targets = sum(len(e.target) for e in batch)
        summed = torch.zeros((), device=self.weights[0].device)
        self.scaler.scale(summed)  # a process without a share of the batch has a scale too
        for part in self._passes(self.devices.share(batch)):
            found = self.loss(part)
            self.scaler.scale(found / targets).backward()
            summed = summed + found.detach()
        total = self.devices.sum_gradients(self.weights, summed)
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE:
            raise BadConfig("gradients are no numbers in float16; set student.precision=float32")
        return total

    @torch.no_grad()
    def measure(self, examples: Sequence[Example]) -> float:
        """The mean loss of the examples' target tokens, without a step."""
        mine = sorted(self.devices.share(examples), key=len)
        summed = sum((self.loss(part).item() for part in self._passes(mine)), 0.0)
        total = self.devices.sum(torch.tensor(summed, dtype=torch.float64, device=self.weights[0].device))
        return total.item() / sum(len(e.target) for e in examples)

    def _passes(self, examples: Sequence[Example]) -> list[list[Example]]:
        rows = grouped([len(e) for e in examples], self.pass_tokens)
        return [[examples[row] for row in some] for some in rows]


def scaler_for(model: nn.Module, weights: Sequence[Tensor], state: dict[str, float]) -> torch.amp.GradScaler:
    """What scales gradients on their way through float16, where small ones would be lost; idle elsewhere."""
    halves = any(p.dtype == torch.float16 for p in model.parameters())
    scaler = torch.amp.GradScaler(weights[0].device.type, init_scale=FIRST_SCALE, enabled=halves)
    if state:
        scaler.load_state_dict(state)
    return scaler
