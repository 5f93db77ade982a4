"""What tests share: a store, a strict language model, a tiny task, and no way out to the network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from kard.db import open_store
from kard.records import Question
from kard.tasks import Task

Reply = str | Exception | tuple[str, str | Exception]


class Script:
    """An engine that gives its replies in order. A reply `(part, text)` waits for a prompt that holds `part`.

    A call too many fails, and so does a reply that nobody asked for. Safe in threads.
    """

    def __init__(self, *replies: Reply, input_tokens: int = 10, output_tokens: int = 5) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []
        self.excess: list[str] = []
        self.usage = (input_tokens, output_tokens)
        self._lock = threading.Lock()

    def complete(self, request: Any) -> Any:
        """The reply to the request, as an lm15 response."""
        from dspy import lm15

        parts = [request.system or "", *(message.text or "" for message in request.messages)]
        prompt = "\n".join(str(part) for part in parts)
        with self._lock:
            self.prompts.append(prompt)
            at = next((i for i, r in enumerate(self.replies) if isinstance(r, tuple) and r[0] in prompt), None)
            if at is None:
                at = next((i for i, r in enumerate(self.replies) if not isinstance(r, tuple)), None)
            if at is None:
                self.excess.append(prompt)
                raise AssertionError(f"one call too many: ...{prompt[-300:]}")
            reply = self.replies.pop(at)
        text = reply[1] if isinstance(reply, tuple) else reply
        if isinstance(text, Exception):
            raise text
        return lm15.Response(
            id="scripted",
            model=request.model,
            message=lm15.Message.assistant(text),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=self.usage[0], output_tokens=self.usage[1]),
        )


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Makes scripted engines, and at the end holds each to its script."""
    made: list[Script] = []

    def make(*replies: Reply, **usage: int) -> Script:
        made.append(Script(*replies, **usage))
        return made[-1]

    yield make
    for engine in made:
        assert not engine.excess, f"{len(engine.excess)} calls too many: ...{engine.excess[0][-300:]}"
        assert not engine.replies, f"{len(engine.replies)} replies were never asked for: {engine.replies}"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests reach this machine only."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    """An empty store."""
    db = open_store(tmp_path / "kard.db")
    yield db
    db.conn.close()


@pytest.fixture
def tiny_task() -> Task:
    """Yes/no questions in the plain form, with one example for the teacher."""
    parts = import_module("kard.programs._common")

    def parse(row: Any) -> Question | None:
        return parts.plain(row, parts.YES_NO)

    return Task(
        name="tiny",
        about="Two questions about metals.",
        parse=parse,
        teach=parts.Teach,
        answer=parts.Answer,
        program=parts.RetrieveThenAnswer,
        shots=(parts.shot("Does iron rust?", parts.YES_NO, "A", "Iron reacts with oxygen and water."),),
    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped, and say so, without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data: the checks on real data were left out")
    return folder
