"""Students whose texts a server writes: the same answers as here, one line when it fails, nothing done twice.

The server speaks vLLM's completions with adapters as model names, and is as strict. What it writes comes from
kard's own engine over a tiny random model, so that texts can be compared.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import torch
from click.testing import CliRunner
from dspy.utils.exceptions import LMInvalidRequestError
from openai import OpenAI
from tiny_students import SETTINGS, add_student, make_base

from kard.cli import choose, main
from kard.config import Decoding
from kard.db import open_store
from kard.errors import BadConfig, EndpointFailed
from kard.evaluation.ask import StudentReply, ask
from kard.files import adapters_folder
from kard.models import bases, hardware
from kard.outgoing.patience import LONGEST_WAIT
from kard.retrieval.live import LiveRetriever
from kard.serve.app import Limits, Server
from kard.serve.server import HttpServer
from kard.serve.students import Students
from kard.student.generation import endpoint as endpoints
from kard.student.generation.batch import generate_rows
from kard.student.generation.decoder import Decoder
from kard.student.generation.engine import EngineLM, StudentEngine, queue_of
from kard.student.generation.student import LoadedBase, RemoteBase, Row, Student, load_student, loaded_base

TOWNS = ["Ilm", "Dorn", "Sarn"]
SHORT = ("decoding.max_new_tokens=12", "decoding.batch=16", "retrieval.k=1")
QUESTION = "Where was P3 born?"
WAYS = ((), ("-n", "3"), ("--decide", "likelihood"))
FIELDS = {  # of the completions that vLLM knows and kard has a use for
    *("model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "echo", "logprobs")
}


class Place:
    """A store with students that no evaluation was made with, and a knowledge base."""

    def __init__(self, folder: Path, base: bases.Base) -> None:
        self.store, self.base = folder / "kard.db", base
        documents = [
            {"id": f"d{i}", "title": f"P{i}", "text": f"P{i} was born in {TOWNS[i % 3]}."} for i in range(6)
        ]
        questions = [
            {
                "id": f"q{i}", "split": "test", "question": f"Where was P{i} born?", "options": TOWNS,
                "answer": TOWNS[i % 3],
            }
            for i in range(6)
        ]  # fmt: skip
        for words, name, lines in (
            (("index",), "docs.jsonl", documents),
            (("load", "choice"), "mine.jsonl", questions),
        ):
            (folder / name).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
            assert self.kard(*words, str(folder / name), "--quiet").exit_code == 0
        self.ids = [add_student(self.store, base, seed) for seed in (0, 1)]
        self.answers_only = add_student(self.store, base, 5, "ka-ft")

    def kard(self, *words: str) -> Any:
        return CliRunner().invoke(main, [*words, "--store", str(self.store)])

    def evaluate(self, *words: str, students: Sequence[str] = ()) -> Any:
        names = ",".join(students or (*self.ids, self.answers_only))
        settings = [f"--set={setting}" for setting in SHORT]
        chosen = ("evaluate", "choice", "--student", names, "--retriever", "bm25", "--quiet")
        return self.kard(*chosen, *settings, *words)

    def samples(self, where: str = "true") -> list[tuple[Any, ...]]:
        """Return what was written, in the order of questions, without what it cost in time."""
        db = open_store(self.store)
        found = db.execute(
            "select e.student_id, p.question_id, p.answer, p.votes, p.passages, p.flops, s.sample, s.text, "
            "s.answer, s.forced, s.cut, s.shares, s.prompt_tokens, s.completion_tokens from samples s "
            "join predictions p on p.id = s.prediction_id join evaluations e on e.id = p.evaluation_id "
            f"where {where} order by e.student_id, p.question_id, s.sample"
        ).fetchall()
        db.close()
        return found

    def student(self, student_id: str, endpoint: str = "") -> Student:
        db = open_store(self.store)
        student = load_student(db, student_id, adapters_folder(self.store), endpoint)
        db.close()
        return student

    def ask(self, student_id: str, endpoint: str = "", **decoding: Any) -> StudentReply:
        run = choose.run_of("choice", store=self.store, knowledge=None, quiet=True, overrides=SHORT)
        chosen = Decoding(max_new_tokens=12, endpoint=endpoint, **decoding)
        live = LiveRetriever(run.kb, None, run.options.settings.retrieval)
        reply = ask(
            run.task, self.student(student_id, endpoint), "kard", QUESTION, TOWNS, retriever=live, decoding=chosen
        )
        run.db.close()
        return reply


class Listening(ThreadingHTTPServer):
    """A server that does not mind who hangs up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Vllm:
    """A local server as strict as vLLM: it refuses fields and models that it does not know.

    `refusals` are given first, as (status, headers). `hook` may return the text in place of the model's.
    """

    def __init__(self, place: Place, adapters: Sequence[str]) -> None:
        self.place, self.base = place, loaded_base(place.base)
        self.folders = {name: adapters_folder(place.store) / name for name in adapters}
        self.ids = self.log_probabilities = True
        self.may_load = False
        self.key = ""
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.fixed: tuple[int, Any, dict[str, str]] | None = None  # the only reply
        self.hook: Callable[[dict[str, Any]], str | None] = lambda _body: None
        self.requests: list[dict[str, Any]] = []
        self.loads: list[dict[str, Any]] = []
        self.hanging = threading.Event()
        lock, fake = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw_body = self.rfile.read(length := int(self.headers["Content-Length"]))
                if len(raw_body) < length:  # a client that gives up may have sent nothing but its headers
                    raise ConnectionResetError
                body = json.loads(raw_body)
                with lock:
                    status, reply, headers = fake.reply(self.path, body, self.headers["Authorization"])
                if status == 0:  # never
                    fake.hanging.set()
                    self.rfile.read(1)
                    return
                raw = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = Listening(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def reply(self, path: str, body: dict[str, Any], bearer: str | None) -> tuple[int, Any, dict[str, str]]:
        """Return status, body and headers."""
        if self.fixed is not None:
            return self.fixed
        if self.key and bearer != f"Bearer {self.key}":
            return 401, {"error": f"Unauthorized: {bearer}"}, {}
        if path == "/v1/load_lora_adapter" and self.may_load:
            assert set(body) == {"lora_name", "lora_path"}
            self.loads.append(body)
            if not (Path(body["lora_path"]) / "adapter_config.json").is_file():
                return refused(404, "No adapter found")
            self.folders[body["lora_name"]] = Path(body["lora_path"])
            return 200, f"Success: LoRA adapter '{body['lora_name']}' added successfully.", {}
        if path == "/v1/load_lora_adapter":
            self.loads.append(body)
        if path != "/v1/completions":
            return 404, {"detail": "Not Found"}, {}
        self.requests.append(body)
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return (*refused(status, "not now")[:2], headers)
        if unknown := set(body) - FIELDS:
            return refused(400, f"extra fields {sorted(unknown)}")
        if body["model"] not in (self.place.base.spec, *self.folders):
            return refused(404, f"The model `{body['model']}` does not exist.")
        if not self.ids and (not isinstance(body["prompt"], str) or "top_k" in body):
            return refused(400, "prompt must be a string")
        return 200, {"choices": [self.complete(body)], "usage": self.usage}, {}

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return one choice, as the engine here writes it."""
        tokens, prompt = self.base.tokens, body["prompt"]
        ids = tokens.ids(prompt) if isinstance(prompt, str) else prompt
        assert all(type(id) is int for id in ids)
        folder = self.folders.get(body["model"])
        student = Student(self.base, folder, SETTINGS)
        if body.get("echo"):
            assert (body["max_tokens"], body["temperature"], body["logprobs"]) == (0, 0, 1)
            with self.base.lock:
                self.base.activate(folder)
                scores = cast(Decoder, self.base.generator).log_probabilities(ids)
            self.usage = {"prompt_tokens": len(ids), "completion_tokens": 0}
            given = {"token_logprobs": [None, *scores], "tokens": [tokens.text([id]) for id in ids]}
            return {"text": tokens.text(ids), "logprobs": given if self.log_probabilities else None}
        greedy = body["temperature"] == 0
        assert greedy == ("top_p" not in body) == ("seed" not in body)
        assert greedy or not self.ids or body["top_k"] == 50
        sampling: dict[str, Any] = (
            {} if greedy else {"samples": 2, "temperature": body["temperature"], "top_p": body["top_p"]}
        )
        row = Row(student, "", (), 0 if greedy else body["seed"], ids=ids)
        [sample] = generate_rows([row], Decoding(max_new_tokens=body["max_tokens"], **sampling))
        text = self.hook({**body, "text": tokens.text(ids)})
        self.usage = {"prompt_tokens": len(ids), "completion_tokens": sample.completion_tokens}
        finish = "length" if sample.forced and text is None else "stop"
        return {"text": sample.text if text is None else text, "logprobs": None, "finish_reason": finish}


def refused(status: int, message: str) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}, {}


def float32(*_: object, **__: object) -> torch.dtype:
    return torch.float32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bases.Base]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "dtype", float32)
        patch.setenv("KARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv(endpoints.KEY, raising=False)
        yield make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def written(base: bases.Base, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], list[Any]]:
    """Return what the engine here writes, by the options of `kard evaluate`."""
    place = Place(tmp_path_factory.mktemp("here"), base)
    samples: dict[tuple[str, ...], list[Any]] = {}
    for words in WAYS:
        assert place.evaluate(*words).exit_code == 0
        samples[words] = place.samples("e.id > (select max(id) - 3 from evaluations)")
    return samples


@pytest.fixture
def place(base: bases.Base, tmp_path: Path) -> Place:
    return Place(tmp_path, base)


@pytest.fixture
def vllm(place: Place) -> Iterator[Vllm]:
    fake = Vllm(place, [*place.ids, place.answers_only])
    thread = threading.Thread(target=fake.server.serve_forever, daemon=True)
    thread.start()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
    thread.join()
    assert not fake.refusals, f"never asked for: {fake.refusals}"


def assert_same(here: Sequence[tuple[Any, ...]], there: Sequence[tuple[Any, ...]]) -> None:
    """Compare all but shares to the letter, and shares up to rounding."""
    assert [row[:11] + row[12:] for row in there] == [row[:11] + row[12:] for row in here]
    for mine, theirs in zip(here, there, strict=True):
        assert (mine[11] is None) == (theirs[11] is None)
        assert json.loads(theirs[11] or "[]") == pytest.approx(json.loads(mine[11] or "[]"), abs=1e-5)


@pytest.mark.parametrize("words", WAYS)
def test_a_servers_answers_are_those_of_the_engine(
    place: Place, vllm: Vllm, written: dict[tuple[str, ...], list[Any]], words: tuple[str, ...]
) -> None:
    result = place.evaluate(*words, "--endpoint", vllm.url)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("18 new answers under 3 conditions")
    there, here = place.samples(), written[words]
    assert_same(here, there)
    assert len(here) == (54 if "-n" in words else 18)
    assert (here[0][11] is not None) == ("likelihood" in words)
    assert {row[9] for row in here} >= {"budget", "unread"}  # so forced answers were compared
    assert len({row[7] for row in here}) > 6
    assert {body["model"] for body in vllm.requests} == {*place.ids, place.answers_only}
    assert any("echo" in body for body in vllm.requests)
    asked = len(vllm.requests)
    again = place.evaluate(*words, "--endpoint", f"{vllm.url}/v1/")  # the same server by another spelling
    assert again.output.startswith("0 new answers")
    assert len(vllm.requests) == asked


def test_a_server_is_told_from_the_engine_in_diff_report_and_names(place: Place, vllm: Vllm) -> None:
    place.evaluate(students=place.ids[:1])
    before = open_store(place.store).execute("select hash, decoding from evaluations").fetchall()
    assert "engine" not in before[0][1]
    assert "endpoint" not in before[0][1]
    report = place.evaluate("--endpoint", vllm.url, students=place.ids[:1])
    assert "engine=endpoint" in report.output
    db = open_store(place.store)
    after = db.execute("select hash, decoding from evaluations").fetchall()
    assert after[0] == before[0]
    assert vllm.url not in str(after)
    db.close()
    diff = place.kard("diff", "1", "2")
    assert "decoding.engine none instead of endpoint" in diff.output


def test_a_server_of_texts_alone_gets_openais_fields_and_is_asked_for_missing_answers(
    place: Place, vllm: Vllm
) -> None:
    vllm.ids = False

    def name(body: dict[str, Any]) -> str | None:
        forced = body["text"].endswith("\nAnswer:")
        return None if not forced else " Dorn" if "P3" in body["text"].split("\n")[0] else " nowhere"

    vllm.hook = name
    expected = place.ask(place.ids[0])
    reply = place.ask(place.ids[0], vllm.url)
    [mine], [theirs] = expected.texts, reply.texts
    assert mine.sample.forced == theirs.sample.forced == "budget"
    assert theirs.sample.text == mine.sample.text.rpartition("\nAnswer:")[0] + "\nAnswer: Dorn"
    assert reply.letter == "B"
    *_, first, second = vllm.requests
    assert first["prompt"].startswith(f"Question: {QUESTION}\n")
    assert set(first) == {"model", "prompt", "max_tokens", "temperature"}
    assert second["prompt"] == first["prompt"] + mine.sample.text.rpartition("\nAnswer:")[0] + "\nAnswer:"
    sampled = place.ask(place.ids[0], vllm.url, samples=2)
    assert [text.sample.text.rpartition("\nAnswer:")[0] for text in sampled.texts] == [
        text.sample.text.rpartition("\nAnswer:")[0] for text in place.ask(place.ids[0], samples=2).texts
    ]
    result = place.evaluate("--endpoint", vllm.url, students=place.ids[:1])
    assert result.exit_code == 0, result.output
    answers = {row[1]: (row[2], row[9]) for row in place.samples()}
    assert answers == {i: ("B", "budget") if i == 4 else (None, None) for i in range(1, 7)}


def test_a_server_without_log_probabilities_is_asked_again_and_cannot_decide_by_them(
    place: Place, vllm: Vllm
) -> None:
    vllm.log_probabilities = False
    vllm.hook = lambda body: " Sarn" if body["text"].endswith("\nAnswer:") else None
    assert place.ask(place.ids[0], vllm.url).answer == "Sarn"
    assert all(isinstance(body["prompt"], list) for body in vllm.requests)
    result = place.evaluate("--decide", "likelihood", "--endpoint", vllm.url)
    assert (result.exit_code, result.output) == (
        1,
        f"Error: {vllm.url} gives no log-probabilities of options; leave --decide likelihood out\n",
    )


def test_what_was_received_is_kept_and_the_next_run_does_the_rest(
    place: Place, vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    vllm.hook = lambda _body: " why\nAnswer: Ilm"  # one request for each answer
    served = vllm.reply

    def some(path: str, body: dict[str, Any], bearer: str | None) -> tuple[int, Any, dict[str, str]]:
        return served(path, body, bearer) if len(vllm.requests) < 3 else refused(500, "out of memory")

    monkeypatch.setattr(vllm, "reply", some)
    result = place.evaluate("--endpoint", vllm.url, "--set", "decoding.batch=1", students=place.ids[:1])
    line = f"{vllm.url} does not answer (500 out of memory); what was answered is kept: run the command again"
    assert (result.exit_code, result.output) == (1, f"Error: {line}\n")
    assert len(place.samples()) == 3
    monkeypatch.setattr(vllm, "reply", served)
    result = place.evaluate("--endpoint", vllm.url, students=place.ids[:1])
    assert result.output.startswith("3 new answers")
    assert len(vllm.requests) == len(place.samples()) == 6


def test_a_busy_server_is_asked_again_when_it_says_but_not_after_hours(place: Place, vllm: Vllm) -> None:
    vllm.refusals = [(429, {"Retry-After": "0"}), (503, {"Retry-After": "0"})]
    place.ask(place.ids[0], vllm.url)
    assert [body["prompt"] for body in vllm.requests[:2]] == [vllm.requests[2]["prompt"]] * 2
    vllm.refusals = [(429, {"Retry-After": str(LONGEST_WAIT + 1)})]
    with pytest.raises(EndpointFailed, match=r"does not answer \(429 not now; it asks to wait 301 s\); what was"):
        place.ask(place.ids[0], vllm.url)


def test_an_unknown_adapter_is_loaded_where_that_is_allowed_and_named_where_not(place: Place, vllm: Vllm) -> None:
    [first, second] = place.ids
    vllm.folders.clear()
    result = place.evaluate("--endpoint", vllm.url, students=[first])
    assert (result.exit_code, result.output) == (
        1,
        f"Error: {vllm.url} does not answer (404 The model `{first}` does not exist.); write its adapter with "
        f"kard models export {first} FOLDER, and let it serve that as {first}\n",
    )
    assert [load["lora_name"] for load in vllm.loads] == [first]  # six questions, asked to load once
    vllm.loads.clear()
    vllm.may_load = True
    result = place.evaluate("--endpoint", vllm.url, students=[first, second])
    assert result.exit_code == 0, result.output
    assert sorted(load["lora_name"] for load in vllm.loads) == place.ids  # each once
    assert all(Path(load["lora_path"]).is_absolute() for load in vllm.loads)
    assert len(place.samples()) == 12


def test_a_server_elsewhere_is_not_told_where_adapters_lie(place: Place, vllm: Vllm) -> None:
    student = place.student(place.ids[0], vllm.url.replace("127.0.0.1", "127.0.0.1.example"))
    engine = StudentEngine(student, Decoding(max_new_tokens=12))
    vllm.folders.clear()
    elsewhere = cast(Any, queue_of(student.base))
    posted = []

    def post(_caller: object, path: str, body: object) -> bytes:
        posted.append((path, body))
        raise LMInvalidRequestError("404", status=404)

    elsewhere._post = post
    with pytest.raises(EndpointFailed, match="write its adapter with kard models export"):
        elsewhere.ask(engine, Row(student, QUESTION, (), 0), engine.decoding)
    assert [path for path, _ in posted] == ["/completions"]
    assert str(place.store.parent) not in str(posted)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
        ("127.0.0.1.example", False), ("localhost.example", False), ("10.0.0.1", False), ("::2", False),
    ],
)  # fmt: skip
def test_loopback_is_told_from_other_hosts(host: str, is_loopback: bool) -> None:
    assert endpoints.is_loopback(host) == is_loopback


def test_a_base_without_adapter_is_asked_for_by_its_own_name(place: Place, vllm: Vllm) -> None:
    words = ("--base", f"135m={place.base.spec}", "--endpoint", vllm.url)
    result = place.evaluate(*words, students=["zero-shot"])
    assert result.exit_code == 0, result.output
    assert {body["model"] for body in vllm.requests} == {place.base.spec}
    assert place.evaluate(*words[:2], students=["zero-shot"]).exit_code == 0
    remote = "json_extract(e.decoding, '$.engine') is 'endpoint'"
    here, there = place.samples(f"not {remote}"), place.samples(remote)
    assert len(here) == 6
    assert_same(here, there)


def test_a_key_is_sent_and_never_shown(place: Place, vllm: Vllm, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm.key = "the-right-secret"
    monkeypatch.setenv(endpoints.KEY, "a-wrong-secret")
    result = place.evaluate("--endpoint", vllm.url)
    assert (result.exit_code, result.output) == (
        1,
        f"Error: {vllm.url} does not answer (401 Unauthorized: Bearer [KARD_ENDPOINT_KEY]); put its key into the "
        "variable KARD_ENDPOINT_KEY\n",
    )
    monkeypatch.setenv(endpoints.KEY, vllm.key)
    assert place.evaluate("--endpoint", vllm.url).exit_code == 0
    assert vllm.key.encode() not in place.store.read_bytes()
    monkeypatch.setenv(endpoints.KEY, "two\nlines-of-it")
    with pytest.raises(BadConfig, match="KARD_ENDPOINT_KEY holds characters that no header can"):
        place.ask(place.ids[0], vllm.url)


def test_a_server_that_is_not_there_or_speaks_otherwise_gets_one_line(
    place: Place, vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    result = place.evaluate("--endpoint", url)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {url} does not answer (")
    assert "Connection refused); what was answered is kept: run the command again\n" in result.output
    for reply in ("<html>", [], {"choices": []}, {"choices": [None]}):
        vllm.fixed = 200, reply, {}
        with pytest.raises(EndpointFailed, match=f"{vllm.url} answers with something else than a completion"):
            place.ask(place.ids[0], vllm.url)
    vllm.fixed = 307, "", {"Location": "http://elsewhere.example/"}
    with pytest.raises(EndpointFailed, match="307"):  # a key goes nowhere else
        place.ask(place.ids[0], vllm.url)


def reply_with(text: object = " why\nAnswer: Dorn", usage: object = None, logprobs: object = None) -> str:
    choice = {"text": text, "finish_reason": "stop", "logprobs": logprobs}
    return json.dumps({"choices": [choice], "usage": usage})


@pytest.mark.parametrize(
    ("text", "read"),
    [(" \ud83d\ude00", " \N{GRINNING FACE}"), (" \ud83d", " \ufffd"), (" \udc00\0", " \ufffd\ufffd")],
)
def test_what_no_file_can_hold_in_a_text_is_replaced(place: Place, vllm: Vllm, text: str, read: str) -> None:
    vllm.fixed = 200, reply_with(f"{text}\nAnswer: Dorn"), {}
    result = place.evaluate("--endpoint", vllm.url, students=place.ids[:1])
    assert result.exit_code == 0, result.output
    assert {row[7] for row in place.samples()} == {f"{read}\nAnswer: Dorn"}


def test_a_key_that_a_server_repeats_in_a_text_is_not_stored(
    place: Place, vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_ENDPOINT_KEY", "sk-secret-of-the-endpoint")
    vllm.fixed = 200, reply_with(" the key is sk-secret-of-the-endpoint\nAnswer: Dorn"), {}
    assert place.evaluate("--endpoint", vllm.url, students=place.ids[:1]).exit_code == 0
    assert all("sk-secret" not in row[7] for row in place.samples())


@pytest.mark.parametrize("tokens", [10**30, -1, True, "7", 1.5, [2]])
def test_a_number_of_tokens_that_is_none_is_counted_here(place: Place, vllm: Vllm, tokens: object) -> None:
    vllm.fixed = 200, reply_with(usage={"completion_tokens": tokens}), {}
    reply = place.ask(place.ids[0], vllm.url)
    counted = len(place.student(place.ids[0]).base.tokens.ids(" why\nAnswer: Dorn")) + 1
    assert reply.texts[0].sample.completion_tokens == counted
    vllm.fixed = 200, reply_with(usage=[tokens]), {}
    assert place.ask(place.ids[0], vllm.url).texts[0].sample.completion_tokens == counted


@pytest.mark.parametrize(
    "logprobs",
    [
        [1], 5, {"token_logprobs": 5}, {"token_logprobs": "a" * 999}, {"token_logprobs": ["a"] * 999},
        {"token_logprobs": [[0.5]] * 999}, {"token_logprobs": [math.nan] * 999},
        {"token_logprobs": [-math.inf] * 999}, {"token_logprobs": [True] * 999},
        {"token_logprobs": [-(10**400)] * 999}, {"token_logprobs": [1e308] * 999},
    ],
)  # fmt: skip
def test_log_probabilities_that_are_none_are_missing(place: Place, vllm: Vllm, logprobs: object) -> None:
    vllm.fixed = 200, reply_with(" Dorn", logprobs=logprobs), {}  # names no option until it is asked again
    assert place.ask(place.ids[0], vllm.url).answer == "Dorn"
    with pytest.raises(BadConfig, match="gives no log-probabilities of options"):
        place.ask(place.ids[0], vllm.url, decide="likelihood")


@pytest.mark.parametrize("text", ["[" * 99999, reply_with(5), reply_with(["a"])])
def test_json_that_is_no_completion_gets_one_line(place: Place, vllm: Vllm, text: str) -> None:
    vllm.fixed = 200, text, {}
    with pytest.raises(EndpointFailed, match=f"{vllm.url} answers with something else than a completion"):
        place.ask(place.ids[0], vllm.url)
    vllm.fixed = 403, text, {}
    with pytest.raises(EndpointFailed, match=f"{vllm.url} does not answer \\(403 "):
        place.ask(place.ids[0], vllm.url)


@pytest.mark.parametrize(
    "address",
    ["localhost:8000", "ftp://host", "http://", "http://me:secret@host", "http://host?a=b", "http://host:99999"],
)
def test_an_address_that_is_none_is_refused_without_being_shown(place: Place, address: str) -> None:
    result = place.evaluate("--endpoint", address)
    assert result.exit_code == 1
    assert result.output.startswith("Error: endpoint must be an address like http://localhost:8000/v1, without")
    assert "secret" not in result.output


@pytest.mark.parametrize("status", ["", "HTTP/1.0 200 OK\r\n\r\n"])  # in the headers, in the body
def test_a_server_that_sends_a_little_now_and_then_is_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    monkeypatch.setattr(endpoints, "TIMEOUT", 0.5)
    ended = threading.Event()

    def drip() -> None:
        with listening.accept()[0] as connection:
            connection.sendall(status.encode())
            for _ in range(100):  # without a deadline the reply ends here, as another error
                try:
                    connection.sendall(b"H")
                except OSError:
                    ended.set()
                    return
                threading.Event().wait(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(EndpointFailed, match=r"does not answer \(it takes too long\)"):
            place.ask(place.ids[0], url)
        thread.join()
    assert ended.is_set()


def test_a_reply_that_is_too_large_is_called_so(place: Place, vllm: Vllm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LARGEST", 200)
    vllm.fixed = 200, reply_with().ljust(200), {}
    assert place.ask(place.ids[0], vllm.url).answer == "Dorn"
    vllm.fixed = 200, reply_with().ljust(201), {}
    with pytest.raises(EndpointFailed, match=f"{vllm.url} gives a reply that is too large: more than 200 bytes"):
        place.ask(place.ids[0], vllm.url)


def test_an_awaited_student_raises_the_servers_error_as_it_is(place: Place, vllm: Vllm) -> None:
    vllm.fixed = 403, "", {}
    lm = EngineLM(place.student(place.ids[0], vllm.url), Decoding(max_new_tokens=12))
    with pytest.raises(EndpointFailed, match="does not answer"):
        lm("Question: why\nRationale:")
    with pytest.raises(EndpointFailed, match="does not answer"):
        asyncio.run(lm.acall("Question: why\nRationale:"))
    lm.close()


def test_a_servers_base_is_made_once_and_let_go(place: Place) -> None:
    first, second = (place.student(student, "http://127.0.0.1:9") for student in place.ids)
    assert first.base is second.base
    assert place.student(place.ids[0], "http://127.0.0.1:10").base is not first.base
    base = RemoteBase(place.base, "http://127.0.0.1:11")
    queue_of(base)
    there = weakref.ref(base)
    del base
    gc.collect()
    assert there() is None


def test_an_encoder_decoder_has_no_endpoint(base: bases.Base) -> None:
    t5 = replace(base, kind="encoder-decoder")
    with pytest.raises(BadConfig, match="is an encoder-decoder, which no endpoint continues prompts with"):
        RemoteBase(t5, "http://localhost:8000")


def test_a_remote_base_counts_parameters_without_its_weights(base: bases.Base) -> None:
    here, there = loaded_base(base), RemoteBase(base, "http://localhost:8000")
    assert (there.prompt_parameters, there.completion_parameters) == (
        here.prompt_parameters,
        here.completion_parameters,
    )


def test_closing_ends_requests_on_their_way(place: Place, vllm: Vllm) -> None:
    vllm.fixed = 0, "", {}
    student = place.student(place.ids[0], vllm.url)
    decoding = Decoding(max_new_tokens=12, batch=1)
    engine = StudentEngine(student, decoding)
    failed: list[Exception] = []

    def request() -> None:
        try:
            queue_of(student.base).ask(engine, Row(student, QUESTION, (), 0), decoding)
        except (EndpointFailed, RuntimeError) as error:
            failed.append(error)

    threads = [threading.Thread(target=request) for _ in range(3)]  # one is sent, the others wait for their turn
    for thread in threads:
        thread.start()
    assert vllm.hanging.wait(60)
    engine.close()
    for thread in threads:
        thread.join()
    assert len(failed) == 3


class Running:
    """`kard serve` on loopback, in a thread of this process."""

    def __init__(self, place: Place, endpoint: str = "") -> None:
        overrides = [*SHORT, f"decoding.endpoint={endpoint}"]

        def run_of(task: str) -> Any:
            return choose.run_of(task, store=place.store, knowledge=None, quiet=True, overrides=tuple(overrides))

        self.students = Students(run_of, ["choice"])
        self.http = HttpServer(Server(self.students, Limits(), threads=16, key=None), loopback=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.http.run, kwargs={"sockets": [self.socket]})
        self.client = httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.http.handle_exit(15, None)
        self.thread.join()
        self.students.close()
        self.socket.close()

    def complete(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/completions", json=body)


@pytest.mark.parametrize("words", WAYS)
def test_kard_serve_answers_evaluations_as_the_engine_does(
    place: Place, written: dict[tuple[str, ...], list[Any]], words: tuple[str, ...]
) -> None:
    with Running(place) as running:
        result = place.evaluate(*words, "--endpoint", running.url)
    assert result.exit_code == 0, result.output
    assert_same(written[words], place.samples())


def test_kard_ask_and_kard_serve_pass_on_to_a_server(place: Place, vllm: Vllm) -> None:
    options = [word for town in TOWNS for word in ("--option", town)]
    words = ("ask", QUESTION, *options, "--student", place.ids[0], "--retriever", "bm25", "--json")
    told = json.loads(place.kard(*words).stdout)
    asked = json.loads(place.kard(*words, "--endpoint", vllm.url).stdout)
    assert asked["samples"][0]["text"] == told["samples"][0]["text"]
    assert asked["answer"] == told["answer"]
    count = len(vllm.requests)
    assert count
    body = {"model": place.ids[0], "messages": [{"role": "user", "content": QUESTION}], "options": TOWNS}
    with Running(place) as here, Running(place, vllm.url) as there:
        mine, theirs = (one.client.post("/v1/chat/completions", json=body).json() for one in (here, there))
        continued = there.complete(model=place.ids[0], prompt="Question: why", temperature=0)
        assert there.complete(
            model=place.ids[0], prompt="a", echo=True, logprobs=1, max_tokens=0
        ).json()["error"]["message"] == "this student tells no log-probabilities"  # fmt: skip
        expected = here.complete(model=place.ids[0], prompt="Question: why", temperature=0)
        vllm.fixed = 400, {"error": "no"}, {}
        refusal = there.client.post("/v1/chat/completions", json=body)
    assert (refusal.status_code, refusal.json()["error"]["message"]) == (
        502,
        f"{vllm.url} does not answer (400 no); what was answered is kept: run the command again",
    )
    assert theirs["choices"] == mine["choices"]
    assert continued.json()["choices"] == expected.json()["choices"]
    assert len(vllm.requests) > count


def test_a_prompt_is_continued_as_it_is(place: Place) -> None:
    student = place.student(place.ids[0])
    tokens = student.base.tokens
    prompt = "Question: why\nRationale:"
    ids = tokens.ids(prompt)

    def here(seed: int, budget: int, **more: Any) -> Any:
        row = Row(student, "", (), seed, ids=ids)
        return generate_rows([row], Decoding(max_new_tokens=budget, **more))[0]

    with Running(place) as running:
        one = running.complete(model=student.name, prompt=prompt, temperature=0, max_tokens=9).json()
        assert one["object"] == "text_completion"
        assert one["id"].startswith("cmpl-")
        [choice] = one["choices"]
        assert choice == {
            "index": 0, "text": here(0, 9).text, "logprobs": None,
            "finish_reason": "length" if here(0, 9).forced else "stop",
        }  # fmt: skip
        assert one["usage"] == {"prompt_tokens": len(ids), "completion_tokens": 9, "total_tokens": len(ids) + 9}
        several = running.complete(
            model=student.name, prompt=ids, n=2, seed=1 << 60, temperature=0.9, top_p=0.8, max_tokens=6
        ).json()
        drawn = [here((1 << 60) + i, 6, samples=2, temperature=0.9, top_p=0.8).text for i in range(2)]
        assert [choice["text"] for choice in several["choices"]] == drawn
        stop = choice["text"][2]
        cut = running.complete(model=student.name, prompt=ids, temperature=0, max_tokens=9, stop=stop).json()
        assert cut["choices"][0]["text"] == choice["text"].partition(stop)[0]
        assert cut["choices"][0]["finish_reason"] == "stop"
        scored = running.complete(model=student.name, prompt=ids, echo=True, logprobs=1, max_tokens=0).json()
        given = scored["choices"][0]["logprobs"]
        base = cast(LoadedBase, student.base)
        base.activate(student.adapter)
        expected = cast(Decoder, base.generator).log_probabilities(ids)
        assert given["token_logprobs"] == [None, *(pytest.approx(score, abs=1e-5) for score in expected)]
        assert "".join(given["tokens"]) == scored["choices"][0]["text"] == prompt
        client = OpenAI(base_url=f"{running.url}/v1", api_key="none")
        reply = client.completions.create(model=student.name, prompt=prompt, temperature=0, max_tokens=9)
        client.close()
        assert reply.choices[0].text == choice["text"]


WRONG: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({"model": "nobody"}, 404, "no student 'nobody'"),
    ({"prompt": None}, 400, "prompt must be one text, or the token ids of one"),
    ({"prompt": ["a", "b"]}, 400, "prompt must be one text"),
    ({"prompt": []}, 400, "prompt must be one text"),
    ({"prompt": [True]}, 400, "prompt must be one text"),
    ({"prompt": [300]}, 400, "an id that is no token's"),
    ({"prompt": [-1]}, 400, "an id that is no token's"),
    ({"prompt": [5] * 321}, 413, "the prompt has more than the 320 tokens that fit"),
    ({"stop": [""]}, 400, "stop must be a text or a list of texts"),
    ({"stream": True}, 400, "a student knows no stream"),
    ({"suffix": "end"}, 400, "a student knows no suffix"),
    ({"logprobs": 1}, 400, "only a prompt has log-probabilities"),
    ({"echo": True}, 400, "only a prompt has log-probabilities"),
    ({"max_tokens": 0}, 400, "only a prompt has log-probabilities"),
    ({"max_tokens": 5000}, 400, "max_tokens must be a number from 0 to 4096"),
    ({"top_k": 7}, 400, "a student draws from its 50 likeliest tokens"),
    ({"top_p": 0}, 400, "top_p must be above 0"),
    ({"n": 33}, 400, "n must be a number from 1 to 32"),
)


def test_a_wrong_completion_is_refused(place: Place) -> None:
    with Running(place) as running:
        for change, status, words in WRONG:
            response = running.complete(**{"model": place.ids[0], "prompt": "Question: why", **change})
            assert (response.status_code, words in response.json()["error"]["message"]) == (status, True), change
        text = running.client.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
        assert text.status_code == 415
