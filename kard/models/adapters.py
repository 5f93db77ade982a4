"""Adapters on disk: folders of safetensors as peft writes them, checked by hash, whole or not there.

Weights that were trained themselves lie in the same kind of folder, under the same names.
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
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kard.errors import Missing
from kard.files import atomic
from kard.progress import timed
from kard.records import canonical

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # peft's names
PREFIX = "base_model.model."  # peft's, before the name of a module
CONFIG_SHA256 = "config_sha256"  # in the metadata of the weights' file, which the weights' own hash covers
ADAPTER_BYTES = 256 << 20  # of adapters beside a base: some twenty of rank 16 over 135M parameters
NAMING = (  # parts of a configuration that change no answer
    *("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping"),
)


@dataclass(frozen=True)
class LowRank:
    """A trained adapter, by the names of linear layers. It adds `scale` x B A to a layer's weight.

    With `lengths` (DoRA), each row of the sum is then given the length that was learned for it. A weight in `whole`
    replaces the model's weight of that name.
    """

    scale: float
    down: Mapping[str, Tensor]  # A: (rank, in)
    up: Mapping[str, Tensor]  # B: (out, rank)
    lengths: Mapping[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())  # (out,)
    whole: Mapping[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())  # by the weight's name

    @property
    def merged_only(self) -> bool:
        """Whether it must be merged into weights, because it does more than add to the outputs of layers."""
        return bool(self.lengths or self.whole)

    @classmethod
    def read(cls, folder: Path) -> LowRank:
        """Read the adapter in a folder that peft or `write_adapter` wrote."""
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

    @property
    def bytes(self) -> int:
        """The memory that its weights take."""
        return sum(w.nbytes for part in (self.down, self.up, self.lengths, self.whole) for w in part.values())

    def delta(self, name: str, device: torch.device) -> Tensor:
        """Return what is added to the layer's weight, (out, in) in float32."""
        return self.scale * (self.up[name].to(device).float() @ self.down[name].to(device).float())

    def merged(self, name: str, weight: Tensor, *, transposed: bool) -> Tensor:
        """Return the layer's weight with the adapter in it, in float32.

        `weight` is (out, in), or (in, out) when `transposed`.
        """
        delta = self.delta(name, weight.device)
        merged = weight.float() + (delta.T if transposed else delta)
        if name not in self.lengths:
            return merged
        lengths = self.lengths[name].to(weight.device).float()
        if transposed:
            return merged * (lengths / merged.norm(dim=0))
        return merged * (lengths / merged.norm(dim=1))[:, None]


def verified(folder: Path, sha256: str, task: str) -> Path:
    """Return the folder of an adapter with this sha256. Raises Missing when there is none or its hash differs."""
    if problem := fault_of(folder, sha256):
        raise Missing(f"{problem}; copy it there, or train it again with: kard train student {task}")
    return folder


def fault_of(folder: Path, sha256: str) -> str:
    """Return why the folder is no adapter with this sha256, '' if it is one."""
    if not (folder / WEIGHTS).exists() or not (folder / CONFIG).exists():
        return f"no adapter in {folder}"
    changed = changed_file(folder, sha256)
    return f"{changed} is not what was trained (its hash differs)" if changed else ""


def changed_file(folder: Path, sha256: str) -> Path | None:
    """Return the file of an adapter that is not what was trained with this sha256, None if both are."""
    if hash_of(folder / WEIGHTS) != sha256:
        return folder / WEIGHTS
    with safe_open(folder / WEIGHTS, "pt") as stored:
        recorded = (stored.metadata() or {}).get(CONFIG_SHA256)
    return folder / CONFIG if recorded is not None and recorded != _hash_of_config(folder) else None


def _hash_of_config(folder: Path) -> str:
    """Return the hash of all in an adapter's configuration that changes what it does; '' if it cannot be read."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
        kept = {name: value for name, value in config.items() if name not in NAMING}
    except (OSError, ValueError, AttributeError):
        return ""
    lists = {name: sorted(value, key=str) for name, value in kept.items() if isinstance(value, list)}
    return hashlib.sha256(canonical({**kept, **lists}).encode()).hexdigest()


def write_adapter(folder: Path, weights: Mapping[str, Tensor], config: Any) -> str:
    """Write an adapter as a whole, in place of an older one; return the sha256 of its weights.

    `config` is peft's, or a `WholeConfig`.
    """
    with atomic(folder, folder=True) as part:
        sha256 = write_adapter_files(part, weights, config)
        shutil.rmtree(folder, ignore_errors=True)
    return sha256


def write_adapter_files(folder: Path, weights: Mapping[str, Tensor], config: Any) -> str:
    """Write an adapter's files into an existing folder; return the sha256 of its weights."""
    config.save_pretrained(str(folder))
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_file(tensors, folder / WEIGHTS, {CONFIG_SHA256: _hash_of_config(folder)})
    return hash_of(folder / WEIGHTS)


class WholeConfig:
    """The configuration of an adapter folder that holds weights which were trained themselves."""

    def __init__(self, spec: str) -> None:
        self.base_model_name_or_path = spec

    def save_pretrained(self, folder: str) -> None:
        """Write the file that names the base."""
        values = {"base_model_name_or_path": self.base_model_name_or_path, "peft_type": None}
        Path(folder, CONFIG).write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def is_whole(folder: Path | None) -> bool:
    """Whether the folder holds weights that were trained themselves, which peft cannot load."""
    return folder is not None and json.loads((folder / CONFIG).read_text("utf-8")).get("peft_type") is None


@timed("hash weights")
def hash_of(file: Path) -> str:
    """Return the sha256 of the file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class AdapterCache:
    """Adapters that were read from disk, kept in memory up to a number of bytes.

    The one that was used longest ago leaves first. An adapter that is larger than the limit is read each time.
    """

    def __init__(self, limit: int = ADAPTER_BYTES) -> None:
        self.limit = limit  # bytes
        self.loads = self.evictions = 0  # so far
        self._kept: dict[
            tuple[Path, int, int], LowRank
        ] = {}  # by folder, time and inode; the one used last comes last

    @property
    def bytes(self) -> int:
        """The memory that the kept adapters take."""
        return sum(adapter.bytes for adapter in list(self._kept.values()))

    def read(self, folder: Path) -> LowRank:
        """Return the adapter in the folder, read again if its weights are another file."""
        stat = (folder / WEIGHTS).stat()
        key = folder, stat.st_mtime_ns, stat.st_ino
        adapter = self._kept.pop(key, None)
        if adapter is None:
            self.loads += 1
            adapter = LowRank.read(folder)
        if adapter.bytes > self.limit:  # it would drive out all others, and leave too
            return adapter
        self._kept[key] = adapter
        while self._kept and self.bytes > self.limit:
            self.evictions += 1
            del self._kept[next(iter(self._kept))]
        return adapter


class AdapterSwitcher:
    """A model with one adapter at a time merged into its weights.

    Merged weights generate at the speed of the base model. The base's weights are copied before they are changed,
    so that switching any number of times loses no precision.
    """

    def __init__(self, model: nn.Module, adapters: AdapterCache | None = None) -> None:
        self._model = model
        self._adapters = AdapterCache(0) if adapters is None else adapters
        self._originals: dict[str, Tensor] = {}  # the base's weights that an adapter ever changed, by name
        self._active: Path | None = None
        self._consistent = True  # false while weights change, and after an interrupted change

    @timed("merge an adapter")
    @torch.no_grad()
    def activate(self, folder: Path | None) -> None:
        """Merge the adapter in the folder in place of the active one; None restores the base alone."""
        if folder == self._active and self._consistent:
            return
        adapter = self._adapters.read(folder) if folder is not None else LowRank(0.0, {}, {})
        self._active, self._consistent = None, False
        for name, original in self._originals.items():
            self._model.get_parameter(name).copy_(original)
        for name, value in adapter.whole.items():
            self._with_original(name)[0].copy_(value)
        for name in adapter.down:
            weight, original = self._with_original(f"{name}.weight")
            # GPT-2's layers are no nn.Linear and keep their weights as (in, out); a square shape says nothing.
            transposed = not isinstance(self._model.get_submodule(name), nn.Linear)
            weight.copy_(adapter.merged(name, original, transposed=transposed))
        self._active, self._consistent = folder, True

    def _with_original(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the weight of that name, and its copy from before any adapter."""
        weight = self._model.get_parameter(name)
        if name not in self._originals:
            self._originals[name] = weight.detach().clone()
        return weight, self._originals[name]
