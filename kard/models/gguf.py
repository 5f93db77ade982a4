"""Weights of other formats to a transformers folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, cast


def gguf_to_folder(gguf: Path, into: Path) -> None:
    """Write a GGUF file's model and tokenizer as a transformers folder with float32 weights.

    Float32, because 82% of the values of Q4_1 (a scale times 0 to 15 plus an offset) are not exact in bfloat16.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _no_bars():
        model = cast(
            "Any",
            AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32),
        )
        tokenizer = cast("Any", AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))
        if _split_named_in(gguf) == "smollm":
            tokenizer.backend_tokenizer.pre_tokenizer = _digits_apart()
        # The weights are plain floats now; the folder must not ask for a quantiser.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)
    for file in into.iterdir():
        file.chmod(0o666 & ~_umask())  # safetensors writes 0600; a cache may be shared


def _split_named_in(gguf: Path) -> str:
    """How the file says that text is split before the merges; '' when it does not."""
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return "" if field is None else str(field.contents())


def _digits_apart() -> object:
    """SmolLM's split, which transformers' reader of GGUF does not know: each digit stands alone.

    It shows where blanks precede a number: two line ends and "1" are one token and another, not three.
    """
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


@contextmanager
def _no_bars() -> Generator[None]:
    """No progress bars of transformers; the GGUF reader's own, drawn on any stderr, only on a terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(StringIO()):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
