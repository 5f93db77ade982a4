"""Read what a model's folder holds from its files alone, without a tensor library and without running code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, cast

from kard.errors import NoBase
from kard.progress import timed

HEADER_LIMIT = 100_000_000  # bytes; the limit of the format's own reader
Kind = Literal["decoder", "encoder-decoder", "encoder"]

CHUNK = 1 << 22  # bytes read at once
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Families that read both ways. A family that is not listed and no encoder-decoder is taken for a decoder.
ENCODERS = (
    "albert",
    "bert",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a safetensors file, by the place of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int  # bytes from the file's beginning
    size: int  # bytes


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers loads from `folder`, in order of name.

    Raises NoBase when there are none, or when the index names a missing file.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise NoBase(f"{folder / INDEX}: not an index of weights; fetch the model again") from error
        missing = [n for n in names if Path(n).name != n or not (folder / n).is_file()]
        if missing:
            raise NoBase(f"{folder}: {missing[0]} is missing; fetch the model again")
        return [folder / n for n in names]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise NoBase(
            f"{folder}: only pickled weights (*.bin), which can run code when they are read; save the model "
            f"as safetensors with model.save_pretrained(folder)"
        )
    raise NoBase(f"{folder}: no {SINGLE}; a base is a folder that transformers' save_pretrained wrote")


def tensors(file: Path) -> list[StoredTensor]:
    """Return the tensors that the header of a safetensors file names. Raises NoBase when it is not such a file."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= HEADER_LIMIT:
                raise ValueError(f"a header of {length} bytes")
            header = cast("dict[str, Any]", json.loads(stream.read(length)))
        size = file.stat().st_size
        stored: list[StoredTensor] = []
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= size - 8 - length:
                raise ValueError(f"{name} ends beyond the file's end")
            shape = tuple(int(n) for n in entry["shape"])
            stored.append(StoredTensor(name, str(entry["dtype"]), shape, file, 8 + length + begin, end - begin))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoBase(f"{file}: not a whole safetensors file ({error}); fetch the model again") from error
    return stored


@timed("hash weights")
def measure(folder: Path) -> tuple[str, int]:
    """Return the sha256 of the weights in `folder`, and their number of parameters.

    The hash covers name, type, shape and bytes of each tensor in order of name. It depends neither on how the
    tensors are spread over files nor on a file's metadata. Buffers of integers (positions) are hashed but are no
    parameters. Raises NoBase.
    """
    stored = sorted((t for f in weight_files(folder) for t in tensors(f)), key=lambda t: t.name)
    if not stored:
        raise NoBase(f"{folder}: the weights hold no tensor; fetch the model again")
    sha = hashlib.sha256()
    for tensor in stored:
        sha.update(json.dumps([tensor.name, tensor.dtype, tensor.shape]).encode())
        with tensor.file.open("rb") as stream:
            stream.seek(tensor.start)
            left = tensor.size
            while left and (chunk := stream.read(min(CHUNK, left))):
                sha.update(chunk)
                left -= len(chunk)
        sha.update(b"\0")
    return sha.hexdigest(), sum(prod(t.shape) for t in stored if "F" in t.dtype)


def kind_of(folder: Path) -> Kind:
    """Return the kind of the model in `folder`, read from its config.json. Raises NoBase."""
    path = folder / "config.json"
    try:
        config = cast("dict[str, Any]", json.loads(path.read_text("utf-8")))
        names: list[str] = [str(n) for n in config.get("architectures") or ()]
        family = str(config["model_type"])
    except FileNotFoundError:
        raise NoBase(f"{folder}: no config.json; a base is a folder that save_pretrained wrote") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise NoBase(f"{path}: not a model's configuration ({error!r}); fetch the model again") from error
    name = names[0] if names else ""
    if name.endswith("EncoderModel"):
        return "encoder"
    if config.get("is_encoder_decoder"):
        return "encoder-decoder"
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "decoder"
    return "encoder" if family in ENCODERS or name.endswith("ForMaskedLM") else "decoder"


@contextmanager
def no_progress_bars() -> Generator[None]:
    """Hide transformers' progress bars inside the block."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
