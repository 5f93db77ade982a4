"""What this machine computes with, found out and never assumed."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
_TOP_PAD = 1 << 26  # bytes


def device() -> torch.device:
    """The accelerator that torch sees, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(wanted: str = "auto", *, decoder: bool = True) -> torch.dtype:
    """The precision of that name; by default bfloat16 where the hardware multiplies it, float32 elsewhere.

    Emulated bfloat16 is slower and no better. An accelerator without it gets float16, but for encoder-decoders:
    T5's states leave its range.
    """
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if not native and decoder:
            return torch.float16
    else:
        # torch says it nowhere else, and the names differ between platforms: absent means no.
        asked = [getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile")]
        native = any(ask is not None and ask() for ask in asked)
    return torch.bfloat16 if native else torch.float32


def cache_bytes() -> int:
    """Bytes that keys and values of a batch may take: 1.5 GiB, or a sixteenth of a larger accelerator's memory."""
    least = 3 << 29
    if not torch.cuda.is_available():
        return least
    return max(least, torch.cuda.get_device_properties(device()).total_memory // 16)


@cache
def keep_memory() -> None:
    """Let glibc keep freed memory for the next tensor, for the rest of the process.

    By default each tensor of more than a few hundred kilobytes is fresh pages, zeroed by the kernel one fault at
    a time: an element-wise result of 5 MB took 7.7 ms so, and about 0.5 ms in memory that was already there.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, _TOP_PAD)
