"""Where a killed training continues: one file of tensors beside the adapters, replaced as a whole."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kard.files import atomic

EVERY = 60.0  # seconds between two checkpoints; one of a 135M student's adapter takes 0.1 s
SHARE = 0.05  # of the time at most that goes into checkpoints: those of whole weights are large
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # of a weight, in Adam's state


@dataclass
class CheckpointPosition:
    """How far a training is: everything that is not a tensor."""

    step: int = 0  # optimizer steps taken
    epoch: int = 0
    total: float = 0.0  # summed loss of the epoch so far
    count: int = 0  # its target tokens
    seen: int = 0  # examples, all epochs
    tokens: int = 0
    best: float = float("inf")  # held-out loss of the best epoch
    waited: int = 0  # epochs since
    loss: float = 0.0  # of the last whole epoch
    over: bool = False  # ended early
    scaler: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())  # of gradients in float16


@dataclass
class Checkpoint:
    """A file that `save` replaces. Without a path nothing is saved."""

    path: Path | None = None
    every: float = EVERY  # seconds between two of them
    _saved: float = field(default_factory=time.monotonic)
    _took: float = 0.0  # seconds, the last one

    def due(self) -> bool:
        """Return whether it is time to save again."""
        wait = max(self.every, self._took / SHARE) if self.every else 0.0
        return self.path is not None and time.monotonic() - self._saved >= wait

    def save(
        self,
        position: CheckpointPosition,
        weights: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        best: Sequence[Tensor],
    ) -> None:
        """Replace the file. A kill leaves the old one or the new one."""
        if self.path is None:
            return
        start = time.monotonic()
        tensors: dict[str, Tensor] = {}
        for number, weight in enumerate(weights):
            tensors[f"weight.{number}"] = weight.detach().cpu().contiguous()
            state: Mapping[str, Tensor] = optimizer.state.get(weight, {})
            tensors.update({f"{name}.{number}": state[name].detach().cpu().contiguous() for name in state})
        tensors.update({f"best.{number}": value.cpu().contiguous() for number, value in enumerate(best)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(self.path) as part:
            save_file(tensors, part, metadata={"position": json.dumps(asdict(position))})
        self._saved = time.monotonic()
        self._took = self._saved - start

    def restore(
        self, weights: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> tuple[CheckpointPosition, list[Tensor]]:
        """Restore weights and optimizer; return the position to continue from and the best epoch's weights."""
        if self.path is None or not self.path.exists():
            return CheckpointPosition(), []
        with safe_open(self.path, framework="pt") as file:  # type: ignore[no-untyped-call]  # safetensors has no types
            position = CheckpointPosition(**json.loads(file.metadata()["position"]))
            names = set(file.keys())
            with torch.no_grad():
                for number, weight in enumerate(weights):
                    weight.copy_(file.get_tensor(f"weight.{number}"))
                    state: dict[str, Any] = {
                        name: file.get_tensor(f"{name}.{number}")
                        for name in _MOMENTS
                        if f"{name}.{number}" in names
                    }
                    if state:
                        optimizer.state[weight] = {
                            name: value if name == "step" else value.to(weight.device)
                            for name, value in state.items()
                        }
            best = [file.get_tensor(f"best.{n}") for n in range(len(weights)) if f"best.{n}" in names]
        return position, best

    def resumed(self, epochs: int) -> str:
        """Return from which of the epochs an interrupted training goes on, '' for one that begins."""
        if self.path is None or not self.path.exists():
            return ""
        with safe_open(self.path, framework="pt") as file:  # type: ignore[no-untyped-call]  # as above
            whole = int(json.loads(file.metadata()["position"])["epoch"])
        return f"an interrupted training goes on from epoch {min(whole + 1, epochs)} of {epochs}"

    def discard(self) -> None:
        """Delete the file: the training is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
