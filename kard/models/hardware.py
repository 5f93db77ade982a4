"""The hardware that models run on: its device and precision, models put onto it, several devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from kard.errors import NoBase
from kard.models.weights import no_progress_bars
from kard.progress import timed

if TYPE_CHECKING:
    from kard.models.bases import Base

Item = TypeVar("Item")


def device() -> torch.device:
    """Return the accelerator that torch sees, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(precision: str = "auto", *, decoder: bool = True) -> torch.dtype:
    """Return the torch type of a precision. `auto` is bfloat16 where the hardware multiplies it, else float32.

    Emulated bfloat16 is slower and no better. An accelerator without bfloat16 gets float16, except for
    encoder-decoders: T5's states leave the range of float16.
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if not native and decoder:
            return torch.float16
    else:
        # torch tells it only by private names, which differ between platforms: absent means no.
        checks = [getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile")]
        native = any(check is not None and check() for check in checks)
    return torch.bfloat16 if native else torch.float32


def cache_bytes() -> int:
    """Return how many bytes the keys and values of a batch may take.

    1.5 GiB, or a sixteenth of a larger accelerator's memory.
    """
    least = 3 << 29
    if not torch.cuda.is_available():
        return least
    return max(least, torch.cuda.get_device_properties(device()).total_memory // 16)


def load_base(base: Base, precision: str = "auto") -> Any:
    """Load a base model as `load_model` does, in the named precision.

    `auto` falls back to float32 where the model's states leave the range of float16. Raises NoBase for an encoder.
    """
    chosen = dtype(precision, decoder=base.kind == "decoder")
    model = load_model(base, chosen)
    if precision == "auto" and chosen == torch.float16 and not _is_finite(model):
        return load_model(base, torch.float32)
    return model


@timed("load a model")
def load_model(base: Base, precision: torch.dtype) -> Any:
    """Load a base model onto the device, in evaluation mode. Raises NoBase for an encoder."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if base.kind == "encoder":
        raise NoBase(f"{base.spec} is an encoder and writes no text; choose a decoder or an encoder-decoder")
    auto = AutoModelForCausalLM if base.kind == "decoder" else AutoModelForSeq2SeqLM
    with no_progress_bars():
        model = auto.from_pretrained(base.folder, dtype=precision)
    return cast(Any, model).to(device()).eval()


def empty_model(base: Base) -> Any:
    """Return a decoder of the base's shape without weights, which takes no memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base.folder))


@torch.inference_mode()
def _is_finite(model: Any) -> bool:
    """Whether a decoder's logits are all finite."""
    probe = torch.arange(1, 65, device=model.device)[None] % model.config.vocab_size
    return bool(model(input_ids=probe, use_cache=False).logits.isfinite().all())


class Devices:
    """This process among those that train together, started by `accelerate launch`; by default it is alone.

    Every process sees the same batches, trains on its share, and adds up the gradients of all. Their weights stay
    equal, and several devices train what one would.
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
        """Return this process's part of a batch, () when there are more processes than items."""
        return batch[self.rank :: self.count]

    def sum_gradients(self, weights: Sequence[nn.Parameter], loss: Tensor) -> float:
        """Replace the weights' gradients by their sum over all processes; return the sum of the losses."""
        if self._state is None:
            return loss.item()
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        flat = self.sum(torch.cat([loss.detach().float().reshape(1), *(g.float().reshape(-1) for g in grads)]))
        start = 1
        for weight in weights:
            weight.grad = flat[start : start + weight.numel()].view_as(weight).to(weight.dtype)
            start += weight.numel()
        return float(flat[0])

    def sum(self, values: Tensor) -> Tensor:
        """Overwrite the values with their sum over all processes, equal to the bit in each; return them."""
        if self._state is not None:
            torch.distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until every process is here."""
        if self._state is not None:
            # accelerate's own way does nothing where it shares out processors (1.15).
            self.sum(torch.zeros(1, device=self._state.device)).item()
