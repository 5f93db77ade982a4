"""Adapters on disk: safetensors folders as peft writes them, checked by hash, whole or not there.

A model of which weights were trained themselves lies in the same kind of folder, under the same names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kard.errors import Missing
from kard.files import atomic

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # peft's names
PREFIX = "base_model.model."  # peft's, before the name of a module


@dataclass(frozen=True)
class LowRank:
    """What was trained: what an adapter adds to the weights of linear layers, `scale` x B A, by the layer's name.

    With `lengths` (DoRA), each row of the sum is then given the length that was learned for it. What was trained
    `whole` takes the place of the model's own weight of that name.
    """

    scale: float
    down: Mapping[str, Tensor]  # A: (rank, in)
    up: Mapping[str, Tensor]  # B: (out, rank)
    lengths: Mapping[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())  # (out,)
    whole: Mapping[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())  # by the weight's name

    @property
    def merged_only(self) -> bool:
        """Whether it is more than a product that can be added to the outputs of layers."""
        return bool(self.lengths or self.whole)

    @classmethod
    def read(cls, folder: Path) -> LowRank:
        """The adapter in a folder that peft or `write` wrote."""
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        down: dict[str, Tensor] = {}
        up: dict[str, Tensor] = {}
        lengths: dict[str, Tensor] = {}
        whole: dict[str, Tensor] = {}
        for key, value in load_file(folder / WEIGHTS).items():
            name, _, rest = key.removeprefix(PREFIX).partition(".lora_")
            # lora_magnitude_vector is DoRA's.
            (whole if not rest else {"A": down, "B": up, "m": lengths}[rest[0]])[name] = value
        rank = config.get("r", 1)
        scale = config.get("lora_alpha", 0) / (rank**0.5 if config.get("use_rslora") else rank)
        return cls(scale, down, up, lengths, whole)

    def delta(self, name: str, device: torch.device) -> Tensor:
        """What is added to the layer's weight, (out, in) in float32."""
        return self.scale * (self.up[name].to(device).float() @ self.down[name].to(device).float())

    def merged(self, name: str, own: Tensor, *, turned: bool) -> Tensor:
        """The layer's weight with the adapter in it, float32; `own` is (out, in), or (in, out) when `turned`."""
        delta = self.delta(name, own.device)
        weight = own.float() + (delta.T if turned else delta)
        if name not in self.lengths:
            return weight
        lengths = self.lengths[name].to(own.device).float()
        if turned:
            return weight * (lengths / weight.norm(dim=0))
        return weight * (lengths / weight.norm(dim=1))[:, None]


def checked(folder: Path, sha256: str, task: str) -> Path:
    """The folder, when its weights are the recorded ones. Raises Missing."""
    file = folder / WEIGHTS
    if not file.exists() or not (folder / CONFIG).exists():
        raise Missing(f"no adapter in {folder}; train it again with: kard train student {task}")
    if hash_of(file) != sha256:
        raise Missing(
            f"{file} is not what was trained (its hash differs); train it again with: kard train student {task}"
        )
    return folder


def write(folder: Path, weights: Mapping[str, Tensor], config: Any) -> str:
    """Write an adapter as a whole, in place of an older one; return the sha256 of its weights.

    `config` is peft's, or a `WholeConfig`.
    """
    with atomic(folder, folder=True) as part:
        sha256 = write_files(part, weights, config)
        shutil.rmtree(folder, ignore_errors=True)
    return sha256


def write_files(folder: Path, weights: Mapping[str, Tensor], config: Any) -> str:
    """Write an adapter's files into an existing folder; return the sha256 of its weights."""
    save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, folder / WEIGHTS)
    config.save_pretrained(str(folder))
    return hash_of(folder / WEIGHTS)


class WholeConfig:
    """Stands where peft's configuration stands when weights themselves were trained."""

    def __init__(self, spec: str) -> None:
        self.base_model_name_or_path = spec

    def save_pretrained(self, folder: str) -> None:
        """Write the file that names the base."""
        told = {"base_model_name_or_path": self.base_model_name_or_path, "peft_type": None}
        Path(folder, CONFIG).write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def is_whole(folder: Path | None) -> bool:
    """Whether the folder holds weights that were trained themselves, which only kard puts on."""
    return folder is not None and json.loads((folder / CONFIG).read_text("utf-8")).get("peft_type") is None


def hash_of(file: Path) -> str:
    """sha256 of the file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class AdapterSwitcher:
    """A model under one adapter at a time, merged into its weights.

    Merged weights generate at the speed of the base model. The base's own weights are kept, so that no number of
    changes wears them down.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._own: dict[str, Tensor] = {}  # weights that an adapter ever changed, by name
        self._on: Path | None = None
        self._settled = True  # false while weights change: whoever stops that leaves neither base nor adapter

    @torch.no_grad()
    def activate(self, folder: Path | None) -> None:
        """Put on the adapter in the folder in place of the one that is on; None is the base alone."""
        if folder == self._on and self._settled:
            return
        adapter = LowRank.read(folder) if folder is not None else LowRank(0.0, {}, {})
        self._on, self._settled = None, False
        for name, own in self._own.items():
            self._model.get_parameter(name).copy_(own)
        for name, value in adapter.whole.items():
            self._kept(name)[0].copy_(value)
        for name in adapter.down:
            weight, own = self._kept(f"{name}.weight")
            # GPT-2's layers are no nn.Linear and keep their weights as (in, out); a square shape says nothing.
            turned = not isinstance(self._model.get_submodule(name), nn.Linear)
            weight.copy_(adapter.merged(name, own, turned=turned))
        self._on, self._settled = folder, True

    def _kept(self, name: str) -> tuple[Tensor, Tensor]:
        """The weight of that name, and what it is without any adapter."""
        weight = self._model.get_parameter(name)
        if name not in self._own:
            self._own[name] = weight.detach().clone()
        return weight, self._own[name]
