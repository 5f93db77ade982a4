"""A teacher on this machine that counts what it is asked."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from processes import end_with_parent
from world import COLOURS, World


class Teacher:
    """A server on this machine that speaks OpenAI's protocol and counts, in a process of its own."""

    def __init__(self, world: World, delay: float = 0.02) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            end_with_parent()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with suppress(BaseException):
                _serve(world, delay, writer)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            self.port = int(stream.readline())

    @property
    def url(self) -> str:
        """The address for --api-base."""
        return f"http://127.0.0.1:{self.port}/v1"

    def asked(self) -> dict[str, int]:
        """Return how often each thing was asked for."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", "/asked")
            return json.loads(connection.getresponse().read())

    def stop(self) -> None:
        """End the server."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _serve(world: World, delay: float, writer: int) -> None:
    with Path(world.questions).open(encoding="utf-8") as stream:
        answers = {row["question"]: row["answer"] for row in csv.DictReader(stream)}
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = str(body["messages"][-1]["content"])
            question = max((q for q in answers if q in prompt), key=prompt.rindex, default=prompt[-80:])
            kind = "opinion" if "[[ ## explanation ## ]]" in prompt else "rationale"
            with lock:
                asked[f"{kind} {question}"] += 1
            time.sleep(delay)
            letter = answers.get(question, "A")
            text = f"[[ ## answer ## ]]\n{letter}" if kind == "opinion" else _rationale(question, letter)
            self._send({
                "id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": f"{text}\n\n[[ ## completed ## ]]"}}],
            })  # fmt: skip

        def do_GET(self) -> None:
            with lock:
                self._send(dict(asked))

        def _send(self, answer: Mapping[str, object]) -> None:
            raw = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            with suppress(OSError):  # a client that was killed
                self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            pass

    serve(Handler, writer)


def serve(handler: type[BaseHTTPRequestHandler], writer: int) -> None:
    """Answer on a free port, which is written to a pipe first, until the process ends."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), handler)
    os.write(writer, f"{server.server_port}\n".encode())
    os.close(writer)
    server.serve_forever()


def _rationale(question: str, letter: str) -> str:
    town = next(word.strip("?,") for word in question.split() if word[0].isupper() and word != "What")
    colour = COLOURS["ABCDEF".index(letter)]
    return f"[[ ## rationale ## ]]\nThe gate of {town} is {colour}.\n\n[[ ## letter ## ]]\n{letter}"
