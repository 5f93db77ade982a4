"""What is paid for is paid once and kept: slow servers, Ctrl-C, kills, and several processes at one store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kard.db import open_store
from kard.pipeline.load import store_questions
from kard.records import Question
from kard.work import claims
from kard.work.claims import Claims, claimed

COUNT = 24  # questions
REPLY = "[[ ## rationale ## ]]\nIt is so.\n\n[[ ## letter ## ]]\nA\n\n[[ ## completed ## ]]"


class Server:
    """A local teacher that counts how often each question was asked, and does what a test tells it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answered = 0
        self.delay = 0.0  # seconds before a reply
        self.silent_after = 10**6  # replies, after which it never answers
        self.refuse: list[tuple[int, dict[str, str]]] = []  # status and headers of the next replies
        self.dribbles = False  # sends a reply byte by byte
        self._lock = threading.Lock()
        self.closed = threading.Event()
        self.free = threading.Event()  # cleared by a test that holds every reply back
        self.free.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = re.findall(r"Is metal (\d+) hard", str(body["messages"][-1]))[-1]
                with server._lock:
                    server.asked[question] += 1
                    silent = sum(server.asked.values()) > server.silent_after
                    status, headers = server.refuse.pop(0) if server.refuse else (200, {})
                server.closed.wait(60 if silent else server.delay)
                server.free.wait(60)
                usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
                message = {"role": "assistant", "content": REPLY}
                answer: dict[str, Any] = {
                    "id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "usage": usage,
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                }  # fmt: skip
                if status != 200:
                    answer = {"error": {"message": "too many requests", "type": "rate", "code": "rate"}}
                raw = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(raw), 1 if server.dribbles else len(raw)):
                    self.wfile.write(raw[start : start + (1 if server.dribbles else len(raw))])
                    if server.dribbles and server.closed.wait(0.2):
                        return
                with server._lock:
                    server.answered += status == 200

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that was killed

        self.http = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.closed.set()
    server.free.set()
    server.http.shutdown()
    server.http.server_close()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, tiny_file: Path, server: Server) -> Iterator[Start]:
    """Return what starts `kard teach` in a process of its own, on a store with questions."""
    db = open_store(tmp_path / "kard.db")
    questions = [Question(f"q{i}", "train", f"Is metal {i} hard?", ("yes", "no"), "A") for i in range(COUNT)]
    store_questions(db, "tiny", questions)
    db.conn.close()
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, samples: int = 1) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kard", "teach", str(tiny_file), "--model", "openai/fake", "--api-base"]
        command += [server.url, "--samples", str(samples), "--store", str(tmp_path / "kard.db"), *words]
        environment = {**os.environ, "OPENAI_API_KEY": "none"}
        pipe = subprocess.PIPE
        processes.append(
            subprocess.Popen(
                command,
                stdout=pipe,
                stderr=pipe,
                text=True,
                env=environment,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def stored(tmp_path: Path) -> int:
    db = open_store(tmp_path / "kard.db")
    count = db.execute("select count(*) from rationales").fetchone()[0]
    db.conn.close()
    return int(count)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("presses", [1, 5])
def test_ctrl_c_ends_within_two_seconds_and_keeps_every_reply_that_arrived(
    start: Start, server: Server, tmp_path: Path, presses: int
) -> None:
    server.silent_after = 8
    process = start("--workers", "8")
    wait_for(lambda: server.answered == 8 and sum(server.asked.values()) == 16)
    begin = time.monotonic()
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - begin < 3  # two seconds, and the end of a process on a busy machine
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert stored(tmp_path) == 8


def test_a_server_that_never_answers_ends_in_one_line(start: Start, server: Server, tmp_path: Path) -> None:
    server.silent_after = 3
    process = start("--workers", "2", "--timeout", "0.2")
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert re.search(r"openai/fake: .*; waiting 1 s\n", errors)
    assert "Error: openai/fake does not answer (" in errors.splitlines()[-1]
    assert "3 rationales were kept; go on with the same command" in errors.splitlines()[-1]
    assert stored(tmp_path) == 3


def test_a_reply_that_never_ends_is_given_up(start: Start, server: Server) -> None:
    server.dribbles = True
    process = start("--workers", "1", "--timeout", "1")
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, server.answered) == (1, 0)
    assert "does not answer (no whole reply within 1 s)" in errors.splitlines()[-1]


def test_a_wait_that_a_server_asks_for_is_said_and_kept(start: Start, server: Server, tmp_path: Path) -> None:
    server.refuse = [(429, {"Retry-After": "2"})]
    process = start("--workers", "1", "--limit", "2")
    begin = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert time.monotonic() - begin > 2
    assert "openai/fake: too many requests (rate); waiting 2 s, as it asks\n" in errors
    assert stored(tmp_path) == 2


def test_a_wait_of_a_day_ends_the_run_and_says_how_long_it_is(start: Start, server: Server, tmp_path: Path) -> None:
    server.refuse = [(200, {}), (429, {"Retry-After": "86400"})]
    process = start("--workers", "1")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "does not answer (too many requests (rate); it asks to wait 86,400 s); 1 rationales were kept" in errors
    assert stored(tmp_path) == 1


def test_ctrl_c_ends_a_wait(start: Start, server: Server) -> None:
    server.refuse = [(429, {"Retry-After": "60"})]
    process = start("--workers", "1")
    wait_for(lambda: sum(server.asked.values()) == 1)
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert time.monotonic() - begin < 3


def test_two_processes_share_the_questions_and_pay_for_each_once(
    start: Start, server: Server, tmp_path: Path
) -> None:
    server.delay = 0.3
    processes = [start("--workers", "2") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    added = [int(out.split()[0]) for out, _ in outputs]
    assert sum(added) == COUNT == stored(tmp_path)
    assert min(added) > 0
    assert set(server.asked.values()) == {1}
    assert sum(server.asked.values()) == COUNT


def test_both_processes_end_when_all_is_there(start: Start, server: Server, tmp_path: Path) -> None:
    server.free.clear()
    first = start("--workers", "24")
    wait_for(lambda: sum(server.asked.values()) == COUNT)
    second = start("--workers", "24")
    assert second.stderr is not None
    for line in second.stderr:
        if line == "waiting for 24 rationales that another process asks for\n":
            break
    server.free.set()
    out, _ = second.communicate(timeout=60)
    assert out.startswith("0 rationales added")
    assert stored(tmp_path) == COUNT == sum(server.asked.values())
    first.communicate(timeout=60)


def test_the_claims_of_a_killed_process_end_at_once(start: Start, server: Server, tmp_path: Path) -> None:
    server.silent_after = 4
    process = start("--workers", "4")
    wait_for(lambda: sum(server.asked.values()) == 8 and stored(tmp_path) == 4)
    process.kill()
    process.communicate()
    server.silent_after = 10**6
    out, _ = start("--workers", "4").communicate(timeout=30)
    assert out.startswith("20 rationales added")
    assert stored(tmp_path) == COUNT


def test_a_claim_ends_unless_it_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = open_store(tmp_path / "kard.db"), open_store(tmp_path / "kard.db")
    monkeypatch.setattr(claims, "LEASE", 0.6)
    monkeypatch.setattr(claims, "RENEWED", 0.1)
    with Claims(second, "work") as other:
        with Claims(first, "work") as own:
            assert own.take(["a", "b"]) == {"a", "b"}
            assert own.take(["a"]) == {"a"}
            time.sleep(1)
            assert other.take(["a", "b", "c"]) == {"c"}
            monkeypatch.setattr(claims, "RENEWED", 60)
            time.sleep(1)
            assert other.take(["a", "c"]) == {"a", "c"}
            assert own.take(["a", "b"]) == {"b"}
        assert other.take(["b"]) == {"b"}
    assert second.execute("select count(*) from claims").fetchone() == (0,)


@pytest.mark.parametrize("kind", ["student", "reranker"])
def test_a_second_training_waits_and_finds_what_the_first_made(tmp_path: Path, kind: str) -> None:
    db = open_store(tmp_path / "kard.db")
    said: list[str] = []
    made: list[str] = []
    began = threading.Event()

    def train(name: str) -> None:
        store = open_store(tmp_path / "kard.db")
        with claimed(store, kind, "recipe", lambda: said.append(name)) as waited:
            began.set()
            if not made:
                time.sleep(0.5)
                made.append(name)
            assert waited == (name == "second")

    first = threading.Thread(target=train, args=("first",))
    first.start()
    began.wait()
    train("second")
    first.join()
    assert (made, said) == (["first"], ["second"])
    assert db.execute("select count(*) from claims").fetchone() == (0,)
