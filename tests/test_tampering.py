"""What is loaded is what was trained or fetched, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig

from kard.cli import main
from kard.errors import Missing
from kard.models.adapters import CONFIG, WEIGHTS, changed_file, verified, write_adapter
from kard.models.bases import resolve


def adapter(folder: Path) -> str:
    """Write an adapter as training writes it; return its sha256."""
    weights = {f"base_model.model.q.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q", "k"], base_model_name_or_path="pypi:base==1")
    return write_adapter(folder, weights, config)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "alpha": lambda config: config.update(lora_alpha=400),
    "rank": lambda config: config.update(r=1),
    "scale": lambda config: config.update(use_rslora=True),
    "kind": lambda config: config.update(peft_type=None),
    "layers": lambda config: config["target_modules"].pop(),
    "extra": lambda config: config.update(alpha_pattern={"q": 99}),
    "gone": lambda config: config.pop("lora_alpha"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_configuration_of_an_adapter_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    sha256 = adapter(tmp_path / "a")
    assert verified(tmp_path / "a", sha256, "tiny") == tmp_path / "a"
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    change(config)
    (tmp_path / "a" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(Missing, match=r"adapter_config\.json is not what was trained"):
        verified(tmp_path / "a", sha256, "tiny")


def test_a_broken_configuration_or_weight_is_refused(tmp_path: Path) -> None:
    sha256 = adapter(tmp_path / "a")
    (tmp_path / "a" / CONFIG).write_text("[" * 5)
    assert changed_file(tmp_path / "a", sha256) == tmp_path / "a" / CONFIG
    raw = bytearray((tmp_path / "a" / WEIGHTS).read_bytes())
    raw[-1] ^= 1
    (tmp_path / "a" / WEIGHTS).write_bytes(raw)
    assert changed_file(tmp_path / "a", sha256) == tmp_path / "a" / WEIGHTS


def test_another_order_or_the_name_of_the_base_changes_no_adapter(tmp_path: Path) -> None:
    sha256 = adapter(tmp_path / "a")
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    config |= {"base_model_name_or_path": "owner/name", "inference_mode": True, "revision": None}
    config["target_modules"] = config["target_modules"][::-1]
    (tmp_path / "a" / CONFIG).write_text(json.dumps(dict(reversed(config.items())), indent=7))
    assert changed_file(tmp_path / "a", sha256) is None
    shutil.rmtree(tmp_path / "a")
    assert adapter(tmp_path / "a") == sha256  # the same training gives the same hash


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_encoder: Callable[..., Path]) -> Path:
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    return write_encoder(tmp_path / "base", words=["iron"])


def flip_with_old_time(file: Path) -> None:
    """Flip a bit in place and set the file's time back."""
    times = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([byte ^ 1]))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_base_with_flipped_bytes_and_its_old_time_is_another_base(base: Path) -> None:
    before = resolve(str(base))
    assert resolve(str(base)) == before
    flip_with_old_time(base / "model.safetensors")
    assert resolve(str(base)).sha256 != before.sha256


def test_models_verify_reads_every_base_and_adapter_again(base: Path, case: Any, tmp_path: Path) -> None:
    def verify() -> tuple[int, list[str]]:
        run = CliRunner().invoke(main, ["models", "verify", "--json", "--store", str(tmp_path / "kard.db")])
        return run.exit_code, [row["state"] for row in json.loads(run.stdout)]

    resolve(str(base))
    for table in ("students", "rerankers"):
        sha256 = adapter(tmp_path / "kard.adapters" / table)
        case.write(f"update {table} set path = ?, sha256 = ?", f"kard.adapters/{table}", sha256)
    assert verify() == (0, ["as it was"] * 3)
    flip_with_old_time(base / "model.safetensors")
    (tmp_path / "kard.adapters" / "students" / CONFIG).write_text("{}")
    shutil.rmtree(tmp_path / "kard.adapters" / "rerankers")
    assert verify() == (1, ["changed", "changed: adapter_config.json", "gone"])
    shutil.rmtree(base)
    assert verify()[1][0] == "gone"
