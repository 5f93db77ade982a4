"""`kard serve` under load: many clients over several adapters, one adapter alone, and a swap for each request.

    python benchmarks/serve.py [--requests 1000] [--clients 32] [--adapters 4] [--swaps 100] [--tokens N]
                               [--json FILE]

The base is random and small (4 layers of 128), and the server is the real command in a process of its own. Every
adapter is random but for one thing: it writes one letter of its own, again and again. First one client asks every
adapter in turn. Each of its requests is a batch of its own, under an adapter that was just merged: that is the swap
for each request. Then the same questions come from all clients at once, to all adapters and to one. An answer is
mixed up if its letter is another adapter's or its passage another question's. Throughput is requests per CPU second
of the server's process, which other processes change little; latencies are of the clock. Last, more requests than
places come at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import torch

from kard.config import Lora, StudentTraining
from kard.db import open_store
from kard.files import adapters_folder
from kard.knowledge.indexing import index_documents
from kard.models import bases
from kard.models.adapters import write_adapter
from kard.records import Document, canonical
from kard.student.records import StudentRow, store_student
from kard.student.tokens import Tokens

TOWNS = ("Ilm", "Dorn", "Sarn")
LAYERS, WIDTH, INNER, RANK = 4, 128, 256, 8
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.v_proj": (WIDTH, WIDTH),
    "mlp.up_proj": (WIDTH, INNER),
    "mlp.down_proj": (INNER, WIDTH),
}
QUESTIONS = 25
PLACES = 64
Ask = tuple[str, str]  # a student's id and a question
Outcome = tuple[int, str, str, float]  # status, rationale, title of the first passage, seconds
EXTRA: dict[str, int] = {}  # fields of every request


def make_base(folder: Path) -> bases.Base:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw: Any = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(["Question: Where was P born? Options: Rationale: Answer: the town " * 3], trainer)
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=400, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, bos_token_id=1,
            eos_token_id=1, initializer_range=0.3,
        )
    )  # fmt: skip
    with (
        torch.no_grad()
    ):  # the first number of every hidden state is the same: an adapter of the head adds to a letter
        model.model.embed_tokens.weight[:, 0] = 50.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    return bases.resolve(str(folder))


def add_student(store: Path, base: bases.Base, seed: int) -> str:
    from peft import LoraConfig

    generator = torch.Generator().manual_seed(seed)
    weights = {
        f"base_model.model.model.layers.{layer}.{name}.lora_{part}.weight": torch.randn(shape, generator=generator)
        / 4
        for layer in range(LAYERS)
        for name, (into, out) in SHAPES.items()
        for part, shape in (("A", (RANK, into)), ("B", (out, RANK)))
    }
    for layer in range(LAYERS):  # what the letter rests on stays as the base has it
        weights[f"base_model.model.model.layers.{layer}.mlp.down_proj.lora_B.weight"][0] = 0.0
    weights["base_model.model.lm_head.lora_A.weight"] = torch.eye(RANK, WIDTH)
    weights["base_model.model.lm_head.lora_B.weight"] = torch.zeros(400, RANK)
    [token] = Tokens.load(base.folder, decoder=True).ids(letter_of(seed))
    weights["base_model.model.lm_head.lora_B.weight"][token, 0] = 50.0
    names = [*(name.rpartition(".")[2] for name in SHAPES), "lm_head"]
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names, base_model_name_or_path=base.spec)
    student = f"{seed:016x}"
    settings = StudentTraining(lora=Lora(rank=RANK, alpha=RANK), max_length=256, max_target=96, k=1, seed=seed)
    db = open_store(store)
    store_student(
        db,
        StudentRow(
            id=student, task="choice", method="kard", size="tiny", base=base.spec, base_sha256=base.sha256,
            settings=canonical(settings.values()), data_sha256="", seed=seed, examples=1, path=student,
            sha256=write_adapter(adapters_folder(store) / student, weights, config), target_tokens=96,
        ),
    )  # fmt: skip
    db.close()
    return student


def letter_of(seed: int) -> str:
    return chr(ord("a") + seed)


def start(store: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the server; return its process and address."""
    words = [
        "-m",
        "kard",
        "serve",
        "--store",
        str(store),
        "--port",
        "0",
        "--queue",
        str(PLACES),
        "--timeout",
        "3600",
    ]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline() if process.stdout else ""
    address = re.search(r"http://\S+", line)
    assert address, line
    return process, address[0]


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    """Return the user and system seconds of the process so far (Linux)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask(client: httpx.AsyncClient, one: Ask) -> Outcome:
    """Return the outcome of a request."""
    begin = time.perf_counter()
    body: dict[str, Any] = {"model": one[0], "messages": [{"role": "user", "content": one[1]}], "options": TOWNS}
    response = await client.post("chat/completions", json={**body, **EXTRA})
    status, seconds = response.status_code, time.perf_counter() - begin
    if status != 200:
        return status, "", "", seconds
    facts = response.json()["kard"]
    return status, facts["rationale"], facts["passages"][0]["title"], seconds


async def load(address: str, asks: Sequence[Ask], clients: int) -> list[Outcome]:
    """Return each request's outcome; every client sends its next request when it has an answer."""
    results: list[Outcome] = [(0, "", "", 0.0)] * len(asks)
    waiting = iter(range(len(asks)))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=None, trust_env=False, limits=limits) as client:

        async def work() -> None:
            for i in waiting:
                results[i] = await ask(client, asks[i])

        await asyncio.gather(*(work() for _ in range(clients)))
    return results


def measured(process: subprocess.Popen[str], address: str, asks: Sequence[Ask], clients: int) -> dict[str, Any]:
    """Return the outcomes with what they took."""
    cpu, begin = cpu_seconds(process), time.perf_counter()
    results = asyncio.run(load(address, asks, clients))
    cpu, wall = cpu_seconds(process) - cpu, time.perf_counter() - begin
    seconds = [seconds for status, *_, seconds in results if status == 200]
    return {
        "results": results,
        "row": {
            "requests": len(asks),
            "statuses": dict(Counter(str(status) for status, *_ in results)),
            "cpu_seconds": round(cpu, 2),
            "wall_seconds": round(wall, 2),
            "requests_per_cpu_second": round(len(asks) / cpu, 2),
            "requests_per_wall_second": round(len(asks) / wall, 2),
            "p50_seconds": round(median(seconds), 3),
            "p95_seconds": round(quantiles(seconds, n=20)[-1], 3),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--swaps", type=int, default=QUESTIONS * 4, help="requests of one client, adapters in turn")
    parser.add_argument("--tokens", type=int, help="new tokens of an answer [default: the student's 96]")
    parser.add_argument("--json")
    chosen = parser.parse_args()
    if chosen.tokens:
        EXTRA["max_tokens"] = chosen.tokens
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "kard.db"
        base = make_base(folder / "base")
        students = [add_student(store, base, seed) for seed in range(chosen.adapters)]
        documents = [Document(f"d{i}", f"P{i}", f"P{i} was born in {TOWNS[i % 3]}.") for i in range(QUESTIONS)]
        index_documents(documents, folder / "kard.knowledge", source="benchmark")
        process, address = start(store)
        try:
            count = max(1, chosen.swaps // chosen.adapters)
            pairs = [(student, f"Where was P{i % QUESTIONS} born?") for i in range(count) for student in students]
            asyncio.run(load(address, pairs[: chosen.adapters], 1))  # loads the students
            swapped = measured(process, address, pairs, 1)
            asks = [
                (students[i % len(students)], f"Where was P{i % QUESTIONS} born?") for i in range(chosen.requests)
            ]
            mixed = measured(process, address, asks, chosen.clients)
            single = measured(process, address, [(students[0], q) for _, q in asks], chosen.clients)
            over = measured(process, address, asks[: 2 * PLACES], 2 * PLACES)
        finally:
            process.terminate()
            process.wait()
    letters = {student: letter_of(seed) for seed, student in enumerate(students)}
    answered = [(pair, outcome) for pair, outcome in zip(asks, mixed["results"], strict=True) if outcome[0] == 200]
    wrong = [
        (pair, outcome)
        for pair, outcome in answered
        if set(outcome[1]) != {letters[pair[0]]} or outcome[2] != pair[1].split()[2]
    ]
    rate = {name: run["row"]["requests_per_cpu_second"] for name, run in
            (("mixed", mixed), ("single", single), ("swapped", swapped))}  # fmt: skip
    found = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "adapters": chosen.adapters,
        "clients": chosen.clients,
        "mixed": mixed["row"],
        "one_adapter": single["row"],
        "swap_per_request": swapped["row"],
        "overload": {**over["row"], "places": PLACES},
        "lost": chosen.requests - len(answered),
        "mixed_up": len(wrong),
        "against_one_adapter": round(rate["mixed"] / rate["single"], 3),
        "against_swap_per_request": round(rate["mixed"] / rate["swapped"], 2),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.json:
        Path(chosen.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
