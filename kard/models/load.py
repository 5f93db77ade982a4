"""Load a base language model onto this machine."""

from __future__ import annotations

from typing import Any, cast

import torch

from kard.errors import NoBase
from kard.models.bases import Base
from kard.models.hardware import device, dtype


def load_model(base: Base, precision: torch.dtype) -> Any:
    """The base model on this machine's device, in evaluation mode. Raises NoBase for an encoder."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging

    if base.kind == "encoder":
        raise NoBase(f"{base.spec} is an encoder and writes no text; choose a decoder or an encoder-decoder")
    auto = AutoModelForCausalLM if base.kind == "decoder" else AutoModelForSeq2SeqLM
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = auto.from_pretrained(base.folder, dtype=precision)
    finally:
        if bars:
            logging.enable_progress_bar()
    return cast(Any, model).to(device()).eval()


def load_in(base: Base, wanted: str = "auto") -> Any:
    """The base model in the precision of that name; by default in float32 where its states leave float16."""
    precision = dtype(wanted, decoder=base.kind == "decoder")
    model = load_model(base, precision)
    if wanted == "auto" and precision == torch.float16 and not _in_range(model):
        return load_model(base, torch.float32)
    return model


@torch.inference_mode()
def _in_range(model: Any) -> bool:
    """Whether a decoder's logits are numbers."""
    probe = torch.arange(1, 65, device=model.device)[None] % model.config.vocab_size
    return bool(model(input_ids=probe, use_cache=False).logits.isfinite().all())
