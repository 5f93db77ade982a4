"""Folders for others, as peft, transformers and the model hub read them: complete or absent, and without paths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kard.errors import BadInput, NoBase
from kard.files import output
from kard.models import bases
from kard.models.adapters import CONFIG, WEIGHTS, AdapterSwitcher
from kard.models.sources import HUB_ID
from kard.models.weights import no_progress_bars
from kard.publish.card import Card, render_card

if TYPE_CHECKING:
    from kard.models.bases import Base

FACTS = "kard.json"  # name of the file that says which student the folder holds


def write_folder(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Return `folder` with the files that `fill` writes; it appears when it is complete.

    Raises BadInput if it exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput("is there already and not empty; name another folder", at=str(folder))
    with output(folder, folder=True) as part:
        fill(part)
        for file in part.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # safetensors writes for the owner alone
    return folder


def copy_adapter(part: Path, source: Path, spec: str) -> None:
    """Write the weights byte for byte, and peft's configuration without what belongs to this machine."""
    shutil.copyfile(source / WEIGHTS, part / WEIGHTS)
    config = read_config(source)
    config["base_model_name_or_path"] = hub_id(spec) or public_name(spec)
    config["revision"] = spec.partition("@")[2] or None
    config["inference_mode"] = True
    _write_text(part / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_merged(part: Path, model: Any, base: Base, source: Path) -> None:
    """Write the model with the trained weights merged in, and the base's tokenizer, for `from_pretrained`."""
    from transformers import AutoTokenizer

    AdapterSwitcher(model).activate(source)
    with no_progress_bars():
        model.save_pretrained(part)
    AutoTokenizer.from_pretrained(base.folder).save_pretrained(part)
    (part / "chat_template.jinja").unlink(missing_ok=True)  # the base's; a student reads no chat
    file = part / "tokenizer_config.json"
    config = cast("dict[str, Any]", json.loads(file.read_text("utf-8")))
    for name in ("name_or_path", "is_local", "local_files_only", "chat_template"):  # how it was loaded here
        config.pop(name, None)
    _write_text(file, json.dumps(config, ensure_ascii=False, indent=2) + "\n")


def write_card(part: Path, card: Card) -> None:
    """Write the card as the folder's README.md."""
    _write_text(part / "README.md", render_card(card))


def write_facts(part: Path, facts: dict[str, Any]) -> None:
    """Write the folder's kard.json: which student it holds."""
    _write_text(part / FACTS, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")


def read_facts(folder: Path | None) -> dict[str, Any]:
    """Return the content of the folder's kard.json, {} without one."""
    if folder is None or not (folder / FACTS).exists():
        return {}
    return cast("dict[str, Any]", json.loads((folder / FACTS).read_text("utf-8")))


def read_config(source: Path) -> dict[str, Any]:
    """Return peft's configuration of an adapter."""
    return cast("dict[str, Any]", json.loads((source / CONFIG).read_text("utf-8")))


def public_name(spec: str) -> str:
    """Return the base's spec without the path of a folder, of which the last part stays."""
    return spec if spec.startswith("pypi:") or hub_id(spec) else Path(spec).name


def hub_id(spec: str) -> str:
    """Return the hub's id in a spec, '' for a base from elsewhere."""
    if spec.startswith("pypi:") or not HUB_ID.fullmatch(spec) or Path(spec).expanduser().is_dir():
        return ""
    return spec.partition("@")[0]


def resolve_same_base(spec: str, sha256: str, trained: str) -> Base:
    """Return the base if its weights are those that `trained` was trained on. Raises NoBase."""
    base = bases.resolve(spec)
    if base.sha256 != sha256:
        raise NoBase(f"{spec} has other weights than {trained} was trained on; get the former ones back")
    return base


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
