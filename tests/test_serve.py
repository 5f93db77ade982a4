"""Students behind OpenAI's protocol: who is answered, with what, and what happens when it is too much.

The models are tiny and random, the server, its queue and its batches are the real ones.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import dspy
import httpx
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import kard
from kard.cli import choose, main
from kard.config import Decoding, Lora, StudentTraining
from kard.db import open_store
from kard.errors import BadConfig, Missing
from kard.evaluation.ask import ask
from kard.files import adapters_folder
from kard.models import bases, hardware
from kard.models.adapters import AdapterCache, LowRank, write_adapter
from kard.records import LETTERS, Sample, canonical
from kard.retrieval.live import LiveRetriever
from kard.serve import wire
from kard.serve.app import Limits, Server
from kard.serve.server import HttpServer, key_for
from kard.serve.students import Students
from kard.student.generation import engine as engines
from kard.student.generation.batch import generate_rows
from kard.student.generation.student import Row, load_student
from kard.student.prompt import StudentAdapter, options_line
from kard.student.records import StudentRow, store_student

TOWNS = ["Ilm", "Dorn", "Sarn"]
SEEDS = (0, 1, 2)
NAME = "choice/135m/kard"
SETTINGS = StudentTraining(lora=Lora(rank=2, alpha=4), max_length=160, max_target=12, k=1)
SHORT = ("decoding.max_new_tokens=12", "decoding.batch=16", "retrieval.k=1")
ROOT = Path(__file__).parents[1]


def make_base(folder: Path) -> bases.Base:
    """Save a random decoder of a few thousand weights with a tokenizer of bytes, as a base."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]  # the stubs know no setter
    raw.decoder = decoders.ByteLevel()  # type: ignore[assignment]  # as above
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    raw.train_from_iterator(["Question: Options: Rationale: Answer: the town " * 3], trainer)
    torch.manual_seed(3)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=1,
            initializer_range=0.3,
        )
    ).save_pretrained(folder)  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    return bases.resolve(str(folder))


def add_student(store: Path, base: bases.Base, seed: int, method: str = "kard") -> str:
    """Write a student with a random adapter, which answers in its own way, into the store; return its id."""
    from peft import LoraConfig

    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for layer in range(2):
        for name in ("q_proj", "v_proj"):
            inner = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{inner}.lora_A.weight"] = torch.randn(2, 32, generator=generator)
            weights[f"{inner}.lora_B.weight"] = torch.randn(32 if name == "q_proj" else 16, 2, generator=generator)
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"], base_model_name_or_path=base.spec)
    name = f"{method}{seed}{'0' * 16}"[:16]
    sha256 = write_adapter(adapters_folder(store) / name, weights, config)
    db = open_store(store)
    settings = canonical(StudentTraining(**{**_fields(SETTINGS), "seed": seed}).values())
    store_student(
        db,
        StudentRow(
            id=name, task="choice", method=method, size="135m", base=base.spec, base_sha256=base.sha256,
            settings=settings, data_sha256="", seed=seed, examples=1, path=name, sha256=sha256, target_tokens=12,
        ),
    )  # fmt: skip
    db.close()
    return name


def _fields(settings: StudentTraining) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in StudentTraining.__slots__}


class Place:
    """A store with students and a knowledge base."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "kard.db"
        self.base = make_base(folder / "base")
        documents = [{"id": f"d{i}", "title": f"P{i}", "text": f"P{i} was born in {TOWNS[i % 3]}."} for i in range(6)]
        questions = [
            {
                "id": f"q{i}", "split": "test", "question": f"Where was P{i} born?", "options": TOWNS,
                "answer": TOWNS[i % 3],
            }
            for i in range(4)
        ]  # fmt: skip
        for words, name, lines in (("index",), "docs.jsonl", documents), (("load", "choice"), "mine.jsonl", questions):
            (folder / name).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
            run(*words, str(folder / name), "--quiet", "--store", str(self.store))
        self.ids = [add_student(self.store, self.base, seed) for seed in SEEDS]
        self.no_passages = add_student(self.store, self.base, 5, "rd")

    def run_of(self, task: str) -> Any:
        return choose.run_of(task, store=self.store, knowledge=None, quiet=True, overrides=SHORT)

    def students(self, *names: str, **more: Any) -> Students:
        return Students(self.run_of, ["choice"], names, **more)


def run(*words: str) -> Any:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result


def float32(*_: object, **__: object) -> torch.dtype:
    return torch.float32


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "dtype", float32)
        patch.setenv("KARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield Place(tmp_path_factory.mktemp("serve"))


class Running:
    """A server that answers on loopback, in a thread of this process."""

    def __init__(self, place: Place, *names: str, key: str | None = None, **limits: Any) -> None:
        self.students = place.students(*names)
        self.server = Server(self.students, Limits(**limits), threads=32, key=key)
        self.http = HttpServer(self.server, loopback=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.http.run, kwargs={"sockets": [self.socket]})
        self.client = httpx.Client(base_url=self.address, timeout=120, trust_env=False)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.end()
        self.thread.join()
        self.students.close()
        self.socket.close()

    def end(self) -> None:
        """Do what a signal does."""
        self.http.handle_exit(15, None)

    def chat(self, model: str, text: str, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.client.post("/v1/chat/completions", json=body)


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Running]:
    with Running(place) as running:
        yield running


def content(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def alone(place: Place, student_id: str, question: str, options: Sequence[str] = TOWNS, samples: int = 1) -> Any:
    """Return what `kard ask` gets from this student, which is asked alone."""
    opened = place.run_of("choice")
    student = load_student(opened.db, student_id, opened.adapters)
    retriever = LiveRetriever(opened.kb, None, opened.options.settings.retrieval)
    decoding = Decoding(max_new_tokens=12, samples=samples)
    method = "rd" if student_id.startswith("rd") else "kard"
    reply = ask(opened.task, student, method, question, options, retriever=retriever, decoding=decoding)
    opened.db.close()
    return reply


def test_an_answer_holds_the_students_text_the_passages_and_the_vote(place: Place, running: Running) -> None:
    expected = alone(place, place.ids[0], "Where was P3 born?")
    response = running.chat(place.ids[0], "Where was P3 born?\nA. Ilm\n(B) Dorn\nC) Sarn")
    assert content(response) == expected.texts[0].sample.text.strip()
    answer = response.json()
    assert answer["model"] == place.ids[0]
    [choice] = answer["choices"]
    [note] = choice["message"]["annotations"]
    assert note["type"] == "passage"
    assert {name: note["passage"][name] for name in ("title", "text", "rank")} == {
        "title": "P3", "text": "P3 was born in Ilm.", "rank": 1,
    }  # fmt: skip
    assert note["passage"]["score"] == pytest.approx(expected.hits[0].hit.bm25)
    facts = answer["kard"]
    assert (facts["answer"], facts["letter"], facts["votes"]) == (
        expected.answer,
        expected.letter,
        dict(expected.votes),
    )
    assert (facts["rationale"], facts["retriever"]) == (expected.texts[0].rationale, "bm25")
    assert answer["usage"]["completion_tokens"] == expected.texts[0].sample.completion_tokens
    assert choice["finish_reason"] == "stop"
