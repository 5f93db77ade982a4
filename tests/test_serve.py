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
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import dspy
import httpx
import pytest
import torch
from click.testing import CliRunner
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from tiny_students import add_student, make_base

import kard
from kard.cli import choose, main
from kard.config import Decoding
from kard.db import open_store
from kard.errors import BadConfig, Missing
from kard.evaluation.ask import ask
from kard.files import adapters_folder
from kard.models import hardware
from kard.models.adapters import AdapterCache, LowRank
from kard.records import LETTERS, Sample
from kard.retrieval.live import LiveRetriever
from kard.serve import wire
from kard.serve.app import Limits, Server
from kard.serve.server import HttpServer, key_for
from kard.serve.students import Students
from kard.student.generation import engine as engines
from kard.student.generation.batch import generate_rows
from kard.student.generation.student import Row, load_student
from kard.student.prompt import StudentAdapter, options_line

TOWNS = ["Ilm", "Dorn", "Sarn"]
SEEDS = (0, 1, 2)
NAME = "choice/135m/kard"
SHORT = ("decoding.max_new_tokens=12", "decoding.batch=16", "retrieval.k=1")
ROOT = Path(__file__).parents[1]


class Place:
    """A store with students and a knowledge base."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "kard.db"
        self.base = make_base(folder / "base")
        documents = [
            {"id": f"d{i}", "title": f"P{i}", "text": f"P{i} was born in {TOWNS[i % 3]}."} for i in range(6)
        ]
        questions = [
            {
                "id": f"q{i}", "split": "test", "question": f"Where was P{i} born?", "options": TOWNS,
                "answer": TOWNS[i % 3],
            }
            for i in range(4)
        ]  # fmt: skip
        for words, name, lines in (
            (("index",), "docs.jsonl", documents),
            (("load", "choice"), "mine.jsonl", questions),
        ):
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
    assert facts["forced"] == expected.texts[0].sample.forced
    assert facts["forced"]  # a random student names no option, so the content ends with what it did not write
    assert answer["usage"]["completion_tokens"] == expected.texts[0].sample.completion_tokens
    assert choice["finish_reason"] == "stop"


def test_the_endpoint_the_adapter_and_the_evaluation_give_the_same_texts_for_the_same_seed(
    place: Place, running: Running
) -> None:
    words = [f"--set={setting}" for setting in SHORT]
    run("evaluate", "choice", "--student", place.ids[1], "--retriever", "bm25", "-n", "3", "--quiet",
        "--store", str(place.store), *words)  # fmt: skip
    db = open_store(place.store)
    answers = (
        "select q.text, p.answer, s.text from predictions p join questions q on q.id = p.question_id "
        "join samples s on s.prediction_id = p.id join evaluations e on e.id = p.evaluation_id "
        "where e.student_id = ? order by p.id, s.sample"
    )
    stored: dict[tuple[str, str], list[str]] = {}
    for question, letter, text in db.execute(answers, [place.ids[1]]):
        stored.setdefault((question, letter), []).append(text.strip())
    db.close()
    assert [len(texts) for texts in stored.values()] == [3] * 4
    decoding = Decoding(max_new_tokens=12, samples=3, batch=16)
    program: Any = kard.load_program(
        place.store, "choice", student=place.ids[1], retriever="bm25", k=1, decoding=decoding
    )
    different = 0
    for (question, letter), texts in stored.items():
        served = running.chat(place.ids[1], question, options=TOWNS, n=3).json()
        assert [choice["message"]["content"] for choice in served["choices"]] == texts
        assert served["kard"]["letter"] == letter
        made = program(question=question, options=TOWNS)
        assert [completion.text.strip() for completion in _completions(made)] == texts
        different += len(set(texts)) > 1
        again = running.chat(place.ids[1], question, options=TOWNS, n=3, seed=0).json()
        other = running.chat(place.ids[1], question, options=TOWNS, n=3, seed=1).json()
        assert [c["message"] for c in again["choices"]] == [c["message"] for c in served["choices"]]
        assert [c["message"] for c in other["choices"]] != [c["message"] for c in served["choices"]]
    assert different  # else nothing was drawn
    program.get_lm().close()


def _completions(made: Any) -> list[Any]:
    return [made.completions[i] for i in range(len(made.completions))]


def test_requests_of_many_clients_share_batches_and_none_gets_anothers_answer(
    place: Place, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = [*place.ids, place.no_passages]
    expected = {
        (student, question): alone(place, student, question).texts[0].sample.text.strip()
        for student in students
        for question in (f"Where was P{i} born?" for i in range(3))
    }
    for question in {question for _, question in expected}:
        assert len({expected[student, question] for student in students}) == len(students)  # each is recognisable
    batches: list[set[str]] = []

    def noting(rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
        batches.append({row.student.name for row in rows})
        return generate_rows(rows, decoding)

    monkeypatch.setattr(engines, "generate_rows", noting)
    asks = list(expected) * 5

    def answer(one: tuple[str, str]) -> str:
        return content(running.chat(*one, options=TOWNS))

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(answer, asks))
    assert len(asks) == 60
    assert answers == [expected[one] for one in asks]
    assert max(map(len, batches)) > 1
    assert len(batches) < len(asks)
    assert running.server.desk.taken == 0


def events_of(running: Running, model: str, text: str, **more: Any) -> list[dict[str, Any]]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **more}
    with running.client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    if lines[-1] == "[DONE]":
        lines.pop()
    return [json.loads(line) for line in lines]


def test_a_stream_tells_the_passages_first_and_then_the_same_answer_line_by_line(
    place: Place, running: Running
) -> None:
    whole = running.chat(place.ids[2], "Where was P4 born?", options=TOWNS).json()
    events = events_of(
        running, place.ids[2], "Where was P4 born?", options=TOWNS, stream_options={"include_usage": True}
    )
    message = whole["choices"][0]["message"]
    first, *pieces, last, usage = events
    assert first["choices"][0]["delta"]["annotations"] == message["annotations"] != []
    assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == message["content"]
    assert len(pieces) >= 2
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["kard"] == whole["kard"]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert len({event["id"] for event in events}) == 1
    first, *pieces, _ = events_of(running, place.no_passages, "Where was P4 born?", options=TOWNS)
    assert first["choices"][0]["delta"]["annotations"] == []  # who reads nothing has none to wait for
    text = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
    assert text == content(running.chat(place.no_passages, "Where was P4 born?", options=TOWNS))


def test_a_prompt_in_the_students_form_is_continued_as_it_is(place: Place, running: Running) -> None:
    prompt = (
        f"Question: Where was P3 born?\nOptions: {options_line(TOWNS)}\n[1] P3: P3 was born in Ilm.\nRationale:"
    )
    expected = alone(place, place.ids[0], "Where was P3 born?")
    answer = running.chat(place.ids[0], prompt)
    assert content(answer) == expected.texts[0].sample.text
    assert answer.json()["choices"][0]["message"]["annotations"] == []
    assert content(running.chat(place.ids[0], prompt, n=1, temperature=0)) == content(answer)
    assert len(running.chat(place.ids[0], prompt, n=2).json()["choices"]) == 2


def test_temperature_and_length_are_those_of_the_request(place: Place, running: Running) -> None:
    question = "Where was P1 born?"
    short = running.chat(place.ids[0], question, max_tokens=3).json()
    assert short["usage"]["completion_tokens"] == 3
    long = running.chat(place.ids[0], question, max_tokens=4000).json()
    assert long == {**running.chat(place.ids[0], question).json(), "id": long["id"], "created": long["created"]}
    greedy = content(running.chat(place.ids[0], question))
    drawn = {content(running.chat(place.ids[0], question, temperature=1.5, seed=seed)) for seed in range(3)}
    assert len(drawn) == 3
    assert content(running.chat(place.ids[0], question, temperature=0, n=1)) == greedy


MESSAGE = {"role": "user", "content": "Where?"}
WRONG: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({"model": None}, 400, "model must name a student; /v1/models lists them"),
    ({"model": "gpt-9"}, 404, "no student 'gpt-9'; there are choice/135m/rd, choice/135m/kard, and their ids"),
    ({"messages": []}, 400, "one message of the role user"),
    ({"messages": [{"role": "system", "content": "Be kind."}, MESSAGE]}, 400, "no chat: send one message"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "no chat: send one message"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "content must be text"),
    ({"messages": [{"role": "user", "content": " \n"}]}, 400, "the question is empty"),
    ({"options": ["one"]}, 400, "the number of options is 1, not 2 to 26"),
    ({"options": ["one", " "]}, 400, "options must be a list of texts"),
    ({"options": "one, two"}, 400, "options must be a list of texts"),
    ({"tools": [{"type": "function"}]}, 400, "a student knows no tools; leave it out"),
    ({"response_format": {"type": "json_object"}}, 400, "knows no response_format"),
    ({"n": 33}, 400, "n must be a number from 1 to 32"),
    ({"n": 1.5}, 400, "n must be a whole number"),
    ({"temperature": "hot"}, 400, "temperature must be a number from 0 to 2"),
    ({"seed": True}, 400, "seed must be a number"),
)


@pytest.mark.parametrize(("change", "status", "words"), WRONG)
def test_a_wrong_request_is_refused_in_openais_form(
    running: Running, change: dict[str, Any], status: int, words: str
) -> None:
    body = {"model": NAME, "messages": [MESSAGE], **change}
    response = running.client.post("/v1/chat/completions", json=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert running.server.desk.taken == 0


def test_what_is_no_request_of_a_client_is_refused(running: Running) -> None:
    def post(content: Any, **headers: str) -> tuple[int, str]:
        kind = {"content-type": "application/json", **headers}
        response = running.client.post("/v1/chat/completions", content=content, headers=kind)
        return response.status_code, response.text

    def pieces() -> Iterator[bytes]:  # sent without a length
        yield from [b" " * 1000] * 70

    for content_, status, words, headers in (
        (b"{", 400, "the body is not JSON", {}),
        (b"[" * 60_000, 400, "the body is not JSON", {}),
        (b"[]", 400, "not a JSON object", {}),
        (b" " * 70_000, 413, "more than 65,536 bytes", {}),
        (pieces(), 413, "more than 65,536 bytes", {}),
        (b"{}", 415, "must be application/json", {"content-type": "text/plain"}),
        (b"{}", 403, "another page's requests", {"origin": "https://elsewhere.example"}),
        (b"{}", 421, "kard serve answers on 127.0.0.1 and localhost only", {"host": "elsewhere.example"}),
    ):
        code, text = post(content_, **headers)
        assert (code, words in text) == (status, True), text
    assert running.client.get("/v1/chat/completions").status_code == 405
    assert running.client.get("/v1/nothing").json()["error"]["code"] == "not_found"


def test_students_are_listed_and_found_by_id_by_its_beginning_and_by_kind(place: Place, running: Running) -> None:
    listed = running.client.get("/v1/models").json()["data"]
    assert {model["id"] for model in listed} == {*place.ids, place.no_passages}
    assert all(model["object"] == "model" for model in listed)
    for name, student in (
        (place.ids[0], place.ids[0]),
        (place.ids[1][:7], place.ids[1]),
        (NAME, place.ids[2]),  # the newest
        ("135m/rd", place.no_passages),
    ):
        assert running.client.get(f"/v1/models/{name}").json()["id"] == student
    assert running.client.get("/v1/models/kard").status_code == 404  # many begin so
    only = place.students(place.ids[0])
    assert [student.id for student in only.listed] == [place.ids[0]]
    only.close()
    with pytest.raises(Missing, match="no student 'nobody' is trained; see them with: kard models"):
        place.students("nobody")


def test_health_and_metrics(place: Place, running: Running) -> None:
    def number(line: str) -> float:
        text = running.client.get("/metrics").text
        return float(next((found.split()[-1] for found in text.splitlines() if found.startswith(line)), 0))

    assert running.client.get("/health").json() == {"status": "ok"}
    label = f'kard_requests_total{{student="{place.ids[0]}",status="200"}}'
    before = (
        number(label),
        number("kard_request_seconds_count"),
        number('kard_requests_total{student="",status="400"}'),
    )
    running.chat(place.ids[0], "Where was P2 born?")
    running.chat(place.ids[0], "")
    after = (
        number(label),
        number("kard_request_seconds_count"),
        number('kard_requests_total{student="",status="400"}'),
    )
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    assert number("kard_places_taken") == 0
    assert number("kard_adapter_bytes") > 0
    lines = running.client.get("/metrics").text.splitlines()
    assert all(re.fullmatch(r"# (HELP|TYPE) kard_\w+ .+|kard_\w+(\{[^{}]*\})? \S+", line) for line in lines)
    buckets = [float(line.split()[-1]) for line in lines if line.startswith("kard_request_seconds_bucket")]
    assert all(a <= b for a, b in pairwise(buckets))
    assert buckets[-1] == number("kard_request_seconds_count")


# Too much, too late, gone, over


class Gate:
    """Holds batches back until it is opened, and notes their prompts."""

    def __init__(self) -> None:
        self.open, self.prompts = threading.Event(), list[str]()
        self.batches = 0

    def generate(self, rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
        self.batches += 1
        self.prompts += [row.prompt for row in rows]
        assert self.open.wait(300)
        return generate_rows(rows, decoding)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(engines, "generate_rows", gate.generate)
    yield gate
    gate.open.set()


def until(true: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    for _ in range(30_000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it never came")


@contextmanager
def hanging(running: Running, question: str) -> Generator[socket.socket]:
    """Send a request by hand, without waiting for its answer."""
    body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": question}]}).encode()
    port = int(running.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield connection


def test_one_request_more_than_places_is_sent_away_and_the_others_are_answered(place: Place, gate: Gate) -> None:
    with Running(place, places=3) as running, ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(running.chat, NAME, f"Where was P{i} born?") for i in range(3)]
        until(lambda: running.server.desk.taken == 3)
        refused = running.chat(NAME, "Where was P4 born?")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        gate.open.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        assert running.chat(NAME, "Where was P4 born?").status_code == 200


def test_a_client_that_hangs_up_frees_its_place_and_is_not_written_for(place: Place, gate: Gate) -> None:
    with Running(place, places=2) as running, ThreadPoolExecutor(2) as clients:
        first = clients.submit(running.chat, NAME, "Where was P1 born?")
        until(lambda: gate.batches == 1)
        with hanging(running, "Where was P2 born?"):
            until(lambda: running.server.desk.taken == 2)
            assert running.chat(NAME, "Where was P5 born?").status_code == 429
        until(lambda: running.server.desk.taken == 1)  # while the first is still written for
        third = clients.submit(running.chat, NAME, "Where was P3 born?")
        until(lambda: running.server.desk.taken == 2)
        gate.open.set()
        assert (first.result().status_code, third.result().status_code) == (200, 200)
        assert [("P2 born?" in prompt) for prompt in gate.prompts] == [False, False]
        until(lambda: running.server.metrics.hung_up == 1)


def test_a_client_that_hangs_up_during_its_batch_frees_its_place_after_it(place: Place, gate: Gate) -> None:
    with Running(place) as running:
        with hanging(running, "Where was P2 born?"):
            until(lambda: gate.batches == 1)
        until(lambda: running.server.metrics.hung_up == 1)
        assert running.server.desk.taken == 1
        gate.open.set()
        until(lambda: running.server.desk.taken == 0)


def test_an_answer_that_takes_too_long_is_given_up(place: Place, gate: Gate) -> None:
    with Running(place, seconds=0.2) as running:
        late = running.chat(NAME, "Where was P1 born?")
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        gate.open.set()
        until(lambda: running.server.desk.taken == 0)


def test_a_stream_that_began_ends_with_the_error(place: Place, gate: Gate) -> None:
    with Running(place) as running:
        running.server.students.load(running.server.students.find(NAME))
        running.server.desk.seconds = 3.0
        events = events_of(running, NAME, "Where was P1 born?")
        assert events[-1]["error"]["code"] == "timeout"
        gate.open.set()


def test_the_end_answers_what_was_accepted_and_refuses_what_comes(place: Place, gate: Gate) -> None:
    import asyncio

    with Running(place) as running, ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(running.chat, NAME, f"Where was P{i} born?") for i in range(3)]
        until(lambda: running.server.desk.taken == 3)
        running.end()

        async def late() -> list[httpx.Response]:
            transport = httpx.ASGITransport(cast(Any, running.server.application(loopback=True)))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                body = {"model": NAME, "messages": [MESSAGE]}
                return [await client.post("/v1/chat/completions", json=body), await client.get("/health")]

        for response in asyncio.run(late()):
            assert (response.status_code, response.json()["error"]["code"]) == (503, "shutting_down")
        gate.open.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        running.thread.join()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.address}/health", trust_env=False)


# Keys


def test_another_address_than_loopback_needs_a_key_that_cannot_be_guessed() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        assert key_for(host, {}) is None
    assert key_for("0.0.0.0", {"KARD_SERVE_KEY": "0123456789abcdef"}) == "0123456789abcdef"
    assert key_for("127.0.0.1", {"KARD_SERVE_KEY": "0123456789abcdef"}) == "0123456789abcdef"
    for host in ("0.0.0.0", "::", "10.0.0.7", "example.org"):
        with pytest.raises(BadConfig, match="can be reached from other machines: set KARD_SERVE_KEY"):
            key_for(host, {"KARD_SERVE_KEY": " "})
    with pytest.raises(BadConfig, match="fewer than 16 characters"):
        key_for("127.0.0.1", {"KARD_SERVE_KEY": "secret"})


def test_without_the_key_nothing_is_answered_but_health_and_the_empty_form(place: Place) -> None:
    key = "kk-0123456789abcdef"
    with Running(place, key=key) as running:
        for address in ("/v1/models", "/metrics", "/v1/models/x", "/nowhere"):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer caf\xe9".encode()}):
                response = running.client.get(address, headers=cast(Any, headers))
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert running.chat(NAME, "Where?").json()["error"]["type"] == "authentication_error"
        for path in ("/v1/chat/completions", "/metrics"):  # the path decides, whatever the Host header says
            scope = {"type": "http", "path": path, "query_string": b"", "headers": [(b"host", b"x/health?")]}
            with pytest.raises(wire.Refused, match="the key is missing"):
                running.server.check(Request(scope))
        assert NAME not in running.client.get("/").text
        assert running.client.get("/health").status_code == 200
        assert running.client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        form = {"student": NAME, "question": "Where was P1 born?"}
        assert "the key is missing" in running.client.post("/", data=form).text
        page = running.client.post("/", data={**form, "key": key}).text
        assert "P1 was born in Dorn." in page
        assert key not in page


# The page


def test_the_page_shows_passages_rationale_and_votes_and_nothing_on_it_can_act(
    place: Place, running: Running
) -> None:
    empty = running.client.get("/")
    assert empty.headers["content-security-policy"].endswith("script-src 'none'; style-src 'self'")
    assert "<script" not in empty.text
    assert running.client.get("/page.css").headers["content-type"].startswith("text/css")
    form = {"student": NAME, "question": "Where was P3 born?", "options": "Ilm\nDorn\r\nSarn", "texts": "3"}
    # With no-referrer a browser would send the form from the origin `null`, which is refused.
    assert empty.headers["referrer-policy"] == "same-origin"
    page = running.client.post("/", data=form, headers={"origin": running.address}).text
    reply = running.chat(NAME, "Where was P3 born?", options=TOWNS, n=3).json()
    assert f"({reply['kard']['letter']}) {reply['kard']['answer']}" in page
    for answer, votes in reply["kard"]["votes"].items():
        assert f"{answer}: {votes} of 3" in page
    assert "P3 was born in Ilm." in page
    hurt = "<script>window.hurt=1</script>\x1b[31m\u202e"
    page = running.client.post("/", data={**form, "question": hurt, "options": f"{hurt}\nb"}).text
    assert "&lt;script&gt;window.hurt" in page
    assert not any(raw in page for raw in ("<script", "\x1b", "\u202e"))
    for change, words in (({"question": " "}, "the question is empty"), ({"options": "a"}, "give two options")):
        wrong = running.client.post("/", data={**form, **change})
        assert (wrong.status_code, words in wrong.text) == (400, True)
    assert running.client.post("/", data={**form, "texts": "9" * 5000}).status_code == 200
    assert running.client.post("/", data=form, headers={"origin": "https://x.example"}).status_code == 403


# Texts


@given(
    st.lists(st.sampled_from(["red", "(B) or", "a.  b", "C. x", "é (A)"]), min_size=2, max_size=26),
    st.integers(0, 2),
)
def test_options_at_the_end_of_a_message_are_found_in_each_form(options: list[str], form: int) -> None:
    marks = ("{}. {}", "({}) {}", "{}) {}")
    lines = [marks[form].format(letter, option) for letter, option in zip(LETTERS, options, strict=False)]
    assert wire.split_options("\n".join(["Which, A. or B?", *lines])) == ("Which, A. or B?", tuple(options))


@pytest.mark.parametrize(
    "text",
    ["Where is Ilm?", "Who?\nA. one", "Who?\nB. two\nC. three", "Who?\nA. x\nC. y", "Why?\nA. x\nB. y\nSay.", ""],
)
def test_other_lines_are_the_question(text: str) -> None:
    assert wire.split_options(text) == (text, ())


@given(st.lists(st.sampled_from(["red", "(B) or", "a b", "x (D) y"]), min_size=2, max_size=5))
def test_options_are_read_back_from_a_prompt(options: list[str]) -> None:
    line = f"Options: {options_line(options)}"
    found = wire.prompt_options(f"Question: Why?\n{line}\nRationale:")
    if any(mark in option for option in options for mark in ("(B) ", "(D) ")):  # which one is meant cannot be told
        assert not found or options_line(found) == options_line(options)
    else:
        assert found == tuple(options)


# What the server stands on


def test_rows_of_different_budgets_share_a_batch_and_write_what_they_write_alone(place: Place) -> None:
    opened = place.run_of("choice")
    students = [load_student(opened.db, student, opened.adapters) for student in place.ids[:2]]
    opened.db.close()
    wants = [(students[i % 2], budget) for i, budget in enumerate((3, 12, 7, 12))]
    rows = [Row(student, f"Question: What is {i}?\nRationale:", (), 5, n) for i, (student, n) in enumerate(wants)]
    jobs = [engines.Job(None, row, Decoding(max_new_tokens=row.budget)) for row in rows]
    assert engines.next_batch(jobs) == jobs
    together = generate_rows(rows, Decoding(max_new_tokens=12))
    apart = [generate_rows([row], Decoding(max_new_tokens=row.budget))[0] for row in rows]
    assert [s.text for s in together] == [s.text for s in apart]
    assert [s.completion_tokens for s in together] == [s.completion_tokens for s in apart]
    assert together[0].completion_tokens == 3
    drawn = engines.Job(None, rows[0], Decoding(max_new_tokens=3, samples=2))
    assert engines.next_batch([*jobs, drawn]) == jobs


def test_adapters_stay_in_memory_up_to_a_size_and_a_changed_one_is_read_again(place: Place) -> None:
    folders = [adapters_folder(place.store) / student for student in place.ids]
    size = LowRank.read(folders[0]).bytes
    cache = AdapterCache(2 * size)
    first = cache.read(folders[0])
    assert cache.read(folders[0]) is first
    for folder in folders[1:]:
        cache.read(folder)
    assert (cache.loads, cache.evictions, cache.bytes) == (3, 1, 2 * size)
    assert cache.read(folders[0]) is not first  # it was used longest ago
    file = folders[0] / "adapter_model.safetensors"
    copy = file.read_bytes()
    file.unlink()
    file.write_bytes(copy)
    loads = cache.loads
    cache.read(folders[0])
    assert cache.loads == loads + 1
    none = AdapterCache(0)
    none.read(folders[0])
    assert (none.bytes, none.evictions) == (0, 0)
    small = AdapterCache(size)
    small.read(folders[1])
    small.limit = size - 1
    small.read(folders[0])  # one that is too large drives nobody out
    assert (small.bytes, small.evictions) == (size, 0)


def test_a_server_limits_the_adapters_of_its_bases(place: Place) -> None:
    students = place.students(adapter_bytes=1)
    cache = students.load(students.listed[0]).student.base.adapters
    assert (cache.limit, students.resident()) == (1, [cache])
    cache.limit = AdapterCache().limit
    students.close()


# The command and docs/serve.md


def test_the_command_serves_until_it_is_interrupted_and_never_prints_the_key(place: Place) -> None:
    import os
    import signal
    import sys

    key = "kk-0123456789abcdef"
    words = ["-m", "kard", "serve", "--store", str(place.store), "--student", place.ids[0], "--port", "0"]
    environment = {**os.environ, "KARD_SERVE_KEY": key, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"1 student of \S+kard\.db at http://127\.0\.0\.1:\d+/v1 \(Ctrl-C ends it\)\n", line)
        address = line.split(" at ")[1].split()[0]
        with httpx.Client(
            base_url=address, headers={"authorization": f"Bearer {key}"}, timeout=300, trust_env=False
        ) as client:
            body = {"model": NAME, "messages": [{"role": "user", "content": "Where was P1 born?"}], "max_tokens": 4}
            assert client.post("chat/completions", json=body).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, key in out + err) == (0, False), err


def test_the_command_refuses_to_listen_elsewhere_without_a_key_and_a_store_without_students(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KARD_SERVE_KEY", raising=False)
    open_store(tmp_path / "empty.db").close()
    for store, more, words in (
        (place.store, ("--host", "0.0.0.0"), "0.0.0.0 can be reached from other machines: set KARD_SERVE_KEY"),
        (tmp_path / "empty.db", (), "no student of TASK is trained"),
        (place.store, ("--student", "135m/ft"), "no student '135m/ft' is trained"),
    ):
        result = CliRunner().invoke(main, ["serve", "--store", str(store), *more])
        assert (result.exit_code, words in result.output) == (1, True), result.output
        assert len(result.output.splitlines()) == 1


def examples(language: str) -> list[str]:
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)


def test_every_python_example_of_the_document_runs(
    place: Place, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = alone(place, place.ids[2], "Where was P3 born?")
    ran = 0
    names: dict[str, Any] = {}
    for example in examples("python"):
        exec(compile(example.replace("http://127.0.0.1:8002", running.address), "serve.md", "exec"), names)
        ran += 1
    printed = capsys.readouterr().out
    assert ran == 4
    text = expected.texts[0].sample.text.strip()
    assert printed.count(text) == 3, printed  # the client's, the stream's and DSPy's
    assert "P3 was born in Ilm." in printed
    assert names["prediction"].answer in TOWNS
    assert StudentAdapter().parse(names["ask"].signature, expected.texts[0].sample.text)["answer"] == (
        names["prediction"].answer
    )
    assert isinstance(names["lm"], dspy.LM)


def test_every_curl_example_of_the_document_runs(place: Place, running: Running) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl: the examples of docs/serve.md with it were left out")
    commands = [example for example in examples("sh") if example.startswith("curl")]
    assert len(commands) == 3
    outputs = [
        subprocess.run(
            command.replace("http://127.0.0.1:8002", running.address), shell=True, check=True, capture_output=True
        ).stdout.decode()
        for command in commands
    ]
    assert {model["id"] for model in json.loads(outputs[0])["data"]} == {*place.ids, place.no_passages}
    expected = alone(place, place.ids[2], "Where was P3 born?").texts[0].sample.text.strip()
    assert json.loads(outputs[1])["choices"][0]["message"]["content"] == expected
    assert outputs[2].startswith("data: {")
    assert outputs[2].endswith("data: [DONE]\n\n")
