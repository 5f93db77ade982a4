"""Folders for others: whole or not there, as peft, transformers and the model hub read them, without paths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kard.errors import BadInput, NoBase
from kard.files import output
from kard.models import bases
from kard.models.adapters import CONFIG, WEIGHTS
from kard.models.sources import HUB_ID

if TYPE_CHECKING:
    from kard.models.bases import Base

Fill = Callable[[Path], None]


def whole(folder: Path, fill: Fill) -> Path:
    """The folder that `fill` fills; it appears when it is whole. Raises BadInput when it is there and not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput("is there already and not empty; name another folder", at=str(folder))
    with output(folder, folder=True) as part:
        fill(part)
        for file in part.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # safetensors writes for the owner alone
    return folder


def public(spec: str) -> str:
    """The base as others may be told of it: never a path, of which the last part stays."""
    return spec if spec.startswith("pypi:") or hub_id(spec) else Path(spec).name


def hub_id(spec: str) -> str:
    """The hub's id in a spec, '' when the base came from elsewhere."""
    if spec.startswith("pypi:") or not HUB_ID.fullmatch(spec) or Path(spec).expanduser().is_dir():
        return ""
    return spec.partition("@")[0]


def copy_adapter(part: Path, source: Path, spec: str) -> None:
    """The weights as they are, byte for byte, and peft's configuration without what belongs to this machine."""
    shutil.copyfile(source / WEIGHTS, part / WEIGHTS)
    config = cast("dict[str, Any]", json.loads((source / CONFIG).read_text("utf-8")))
    config["base_model_name_or_path"] = hub_id(spec) or public(spec)
    config["revision"] = spec.partition("@")[2] or None
    config["inference_mode"] = True
    write_text(part / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_model(part: Path, model: Any, base: Base) -> None:
    """The model with the base's tokenizer, as `from_pretrained` reads them."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(part)
    finally:
        if bars:
            logging.enable_progress_bar()
    AutoTokenizer.from_pretrained(base.folder).save_pretrained(part)
    (part / "chat_template.jinja").unlink(missing_ok=True)  # the base's: what kard trains reads no chat
    told = part / "tokenizer_config.json"
    values = cast("dict[str, Any]", json.loads(told.read_text("utf-8")))
    for name in ("name_or_path", "is_local", "local_files_only", "chat_template"):  # how it was loaded here
        values.pop(name, None)
    write_text(told, json.dumps(values, ensure_ascii=False, indent=2) + "\n")


def same_base(spec: str, sha256: str, trained: str) -> Base:
    """The base, when its weights are those that `trained` was trained on. Raises NoBase."""
    base = bases.resolve(spec)
    if base.sha256 != sha256:
        raise NoBase(f"{spec} has other weights than {trained} was trained on; get the former ones back")
    return base


def write_text(file: Path, text: str) -> None:
    """Write the file as UTF-8."""
    file.write_text(text, encoding="utf-8")
