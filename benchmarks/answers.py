"""Sampled answers beside peers, in one run: transformers' `generate`, CTranslate2 in int8, and torch's own int8.

    pip install ctranslate2
    kard demo --quick --store demo.db
    python benchmarks/answers.py [--store demo.db] [--prompts 100] [--json docs/benchmarks.json]

Everybody writes with the same weights, SmolLM2-135M with an adapter merged into it: that of the store's newest
student of method kard, without a store a random one. Everybody reads the same prompts of 250 tokens from the demo's
world and writes five texts of at most 32 tokens after each, drawn with the same temperature, top-p and top-k. Texts
of one prompt may be written together. `generate` writes in the precision that students have here, and after `--few`
of the prompts alone, CTranslate2 after five times as many, because each takes them as long. CPU seconds are of the
whole process, as the system counts them. Everybody also writes one greedy text after each of the few prompts, which
is compared with kard's. CTranslate2 is left out where it is not installed. FILE is written after each engine, and
keeps what else it holds.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import torch
from peers import keep
from students import SETTINGS, adapter, prepare

from kard.config import Decoding
from kard.db import open_store
from kard.files import adapters_folder
from kard.models.adapters import AdapterSwitcher
from kard.models.hardware import dtype, load_model
from kard.student.generation.batch import generate_batches
from kard.student.generation.sampling import TOP_K
from kard.student.generation.student import LoadedBase, Row, Student
from kard.student.tokens import Ids, Tokens

PROMPT, NEW, SAMPLES = 250, 32, 5  # tokens of a prompt, tokens of a text at most, texts of a prompt
DRAWN = Decoding(samples=SAMPLES, max_new_tokens=NEW)
GREEDY = Decoding(max_new_tokens=NEW)
Measured = dict[str, Any]

Engine = Callable[[Sequence[Ids], Decoding], list[str]]
"""Returns the texts of all prompts, as many of each as the decoding has samples."""


@click.command()
@click.option("--store", type=click.Path(exists=True, path_type=Path), help="Whose student writes.")
@click.option("--prompts", "count", default=100, show_default=True, help="Of kard and of what is as fast.")
@click.option("--few", default=8, show_default=True, help="Prompts of `generate`, and of greedy texts.")
@click.option("--threads", default=torch.get_num_threads(), show_default=True, help="Of everybody.")
@click.option("--torch-int8", "with_int8", is_flag=True, help="kard's own generation with torch's int8, too.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Report of benchmarks/peers.py, to add to.")
def main(store: Path | None, count: int, few: int, threads: int, with_int8: bool, file: Path | None) -> None:
    """Print a line for each engine."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        base, tokens, _, read = prepare(place, count + count // 4)  # not every question gets a rationale
        prompts = prompts_of(tokens, [text for text, _ in read])[:count]
        worn = newest_adapter(store) if store else adapter(base, place / "adapter", seed=0)
        plain = load_model(base, torch.float32)
        AdapterSwitcher(plain).activate(worn)
        plain.save_pretrained(place / "merged")
        tokens.tokenizer.save_pretrained(place / "merged")
        model = load_model(base, dtype())
        AdapterSwitcher(model).activate(worn)
        written: dict[str, Measured] = {}
        greedy: dict[str, list[str]] = {}

        def measure(name: str, engine: Engine, of: int) -> None:
            greedy[name] = engine(prompts[:few], GREEDY)  # and warms up
            written[name] = measured(engine, prompts[:of], tokens) | agreement(greedy[name], greedy["kard"])
            print(line(name, written[name], written["kard"]), flush=True)
            if file:
                keep(file, "answers", {**about, "engines": written})

        versions = {name: _version(name) for name in ("kard", "torch", "transformers", "ctranslate2")}
        about = {
            "threads": threads,
            "precision": str(dtype()),
            "prompts": len(prompts),
            "few": few,
            "versions": versions,
        }
        print(f"{count} prompts of {PROMPT} tokens, {SAMPLES} texts each, {threads} threads, {dtype()}")
        measure("kard", kard_engine(LoadedBase(model, tokens, decoder=True)), count)
        for name, size in (("generate, one by one", 1), ("generate, batches of 8", 8)):
            fresh = load_model(base, dtype())
            AdapterSwitcher(fresh).activate(worn)
            measure(name, generate_engine(fresh, tokens, size), few)
        if engine := ctranslate2_engine(place / "merged", tokens, threads):
            measure("CTranslate2, int8", engine, min(5 * few, count))
        if with_int8:
            measure("kard over torch's int8", kard_engine(LoadedBase(int8(plain), tokens, decoder=True)), count)


def newest_adapter(store: Path) -> Path:
    """Return the folder of the adapter of the store's newest student of method kard."""
    db = open_store(store, create=False)
    newest = "select path from students where method = 'kard' and path <> '' order by created desc limit 1"
    return adapters_folder(store) / Path(next(db.query(newest))["path"]).name


def prompts_of(tokens: Tokens, texts: Sequence[str]) -> list[Ids]:
    """Return prompts of one length: each the last tokens of three texts one after the other."""
    ids = [tokens.ids(f"{text}\n") for text in texts]
    return [[*ids[i - 2], *ids[i - 1], *own][-PROMPT:] for i, own in enumerate(ids)]


def measured(engine: Engine, prompts: Sequence[Ids], tokens: Tokens) -> Measured:
    """Return how many texts and tokens an engine writes, and in how many seconds."""
    cpu, clock = time.process_time(), time.perf_counter()
    texts = engine(prompts, DRAWN)
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    assert len(texts) == len(prompts) * SAMPLES
    written = sum(len(tokens.ids(text)) for text in texts)
    seconds = {"cpu_seconds": round(cpu, 2), "clock_seconds": round(clock, 2)}
    return {"texts": len(texts), "tokens": written, **seconds}


def agreement(greedy: Sequence[str], kard: Sequence[str]) -> Measured:
    """Return how many greedy texts equal kard's, and the share of kard's characters before a difference."""
    pairs = list(zip(greedy, kard, strict=True))
    same = sum(len(list(takewhile(lambda two: two[0] == two[1], zip(*pair, strict=False)))) for pair in pairs)
    share = same / max(1, sum(map(len, kard)))
    return {"greedy": len(pairs), "equal": sum(a == b for a, b in pairs), "shared": round(share, 3)}


def line(name: str, own: Measured, kard: Measured) -> str:
    """Return an engine's texts a second, kard's against it, and its agreement with kard."""
    speeds: list[str] = []
    for of in ("cpu_seconds", "clock_seconds"):
        speed, best = (row["texts"] / row[of] for row in (own, kard))
        speeds.append(f"{speed:6.2f} a {of.partition('_')[0]} s (kard {best / speed:.2f} times)")
    equal = f"{own['equal']} of {own['greedy']} greedy texts equal, {own['shared']:.0%} before a difference"
    return f"{name:24}{', '.join(speeds)}, {own['tokens'] / own['texts']:.1f} tokens each; {equal}"


def kard_engine(loaded: LoadedBase) -> Engine:
    """Return kard's own generation over a model in memory, in batches of its usual size."""
    student = Student(loaded, None, SETTINGS)

    def write(prompts: Sequence[Ids], decoding: Decoding) -> list[str]:
        texts = [prompt for prompt in prompts for _ in range(decoding.samples)]
        rows = [Row(student, "", (), seed, ids=prompt) for seed, prompt in enumerate(texts)]
        return [sample.text for sample in generate_batches(loaded.generator, rows, decoding)]

    return write


def generate_engine(model: Any, tokens: Tokens, size: int) -> Engine:
    """Return transformers' `generate` over `size` texts at a time; batches hold prompts of one length."""

    @torch.inference_mode()
    def write(prompts: Sequence[Ids], decoding: Decoding) -> list[str]:
        rows = [prompt for prompt in prompts for _ in range(decoding.samples)]
        drawn = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": TOP_K}
        texts: list[str] = []
        for start in range(0, len(rows), size):
            ids = torch.tensor(rows[start : start + size])
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=decoding.max_new_tokens,
                pad_token_id=tokens.pad, eos_token_id=tokens.eos,
                do_sample=decoding.samples > 1, **(drawn if decoding.samples > 1 else {}),
            )  # fmt: skip
            texts += [tokens.text(row) for row in out[:, ids.shape[1] :].tolist()]
        return texts

    return write


def ctranslate2_engine(merged: Path, tokens: Tokens, threads: int) -> Engine | None:
    """Return CTranslate2 over the merged model in int8, None where it is not installed."""
    try:
        library, converters = import_module("ctranslate2"), import_module("ctranslate2.converters")
    except ImportError:
        return None
    folder = merged.with_name("int8")
    converters.TransformersConverter(str(merged)).convert(str(folder), quantization="int8")
    generator = library.Generator(
        str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )

    def write(prompts: Sequence[Ids], decoding: Decoding) -> list[str]:
        results = generator.generate_batch(
            [tokens.tokenizer.convert_ids_to_tokens(prompt) for prompt in prompts],
            max_batch_size=4,  # of five texts each: with 12 prompts a token took 2.5 times as long
            num_hypotheses=decoding.samples,
            max_length=decoding.max_new_tokens,
            include_prompt_in_result=False,
            end_token=[tokens.eos],
            sampling_topk=TOP_K if decoding.samples > 1 else 1,
            sampling_topp=decoding.top_p if decoding.samples > 1 else 1,
            sampling_temperature=decoding.temperature,
        )
        return [tokens.text(ids) for result in results for ids in result.sequences_ids]

    return write


def int8(model: Any) -> Any:
    """Return a float32 model with the products of its linear layers in torch's dynamic int8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_module("torch.ao.quantization").quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


if __name__ == "__main__":
    main()
