"""A provider with every fault: each ends in a stored outcome or in one line, and nothing that was paid for is lost.

    python benchmarks/reliability/teacher_faults.py [--json FILE]

For each fault a server on this machine answers six questions, the third of them with the fault, or every one.
`kard teach` asks it with two workers; then the server is mended and the same command is run again; a third run has
a budget of a third of the price. Counted are the replies that the server gave for money and those that the store
holds, and the key is looked for in all that was printed or stored.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import world
from contents import SIDES
from processes import Ended, end_with_parent, preload
from processes import run as run_command
from teacher import serve

KEY = "sk-reliability-0123456789abcdef"  # looked for in all that is printed or stored
MODEL = "openai/gpt-4o-mini"  # a model whose price is known
GOOD = "[[ ## rationale ## ]]\nIt is so.\n\n[[ ## letter ## ]]\nA\n\n[[ ## completed ## ]]"
QUESTIONS = 6
USAGE = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
BUDGET = 0.0016  # US dollars: two calls of 0.00075


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server answers instead."""

    name: str
    text: str = GOOD
    finish: str = "stop"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    usage: Mapping[str, Any] = field(default_factory=lambda: USAGE)
    body: bytes | None = None  # instead of all the above
    acts: str = ""  # silent, drips, closes, half
    every: bool = False  # for each question, not for the third alone

    @property
    def timeout(self) -> int:
        """Seconds that `kard teach` waits; long enough for a busy machine where nothing hangs."""
        return 5 if self.acts in ("silent", "drips") else 60


HALF = GOOD.replace("It is", "It is \\ud800")
FAULTS = (
    Fault("none"),
    Fault("cut (finish_reason length)", finish="length"),
    Fault("cut in the middle of a word", text=GOOD[:30], finish="length"),
    Fault("content_filter", text="", finish="content_filter"),
    Fault("empty text", text=""),
    Fault("no fields", text="I would rather not say."),
    Fault("half a surrogate pair", body=b"half"),
    Fault("NUL and controls", text=GOOD.replace("It is", "It \x00 \x1b]0;x\x07 is")),
    Fault("usage of 1e30", usage={"prompt_tokens": 1e30, "completion_tokens": 5, "total_tokens": 1e30}),
    Fault("usage is text", usage={"prompt_tokens": "many", "completion_tokens": None}),
    Fault("no usage", usage={}),
    Fault("not JSON", body=b"<html>502</html>"),
    Fault("empty body", body=b""),
    Fault("JSON without choices", body=b"{}"),
    Fault("choices empty", body=b'{"choices": []}'),
    Fault("deep JSON", body=b"[" * 100_000),
    Fault("a body of 20 MB", text=GOOD.replace("It is", "It is " + "so " * 7_000_000)),
    Fault("429, Retry-After 1", status=429, headers={"Retry-After": "1"}),
    Fault("429, Retry-After 86400", status=429, headers={"Retry-After": "86400"}, every=True),
    Fault("429, Retry-After nonsense", status=429, headers={"Retry-After": "soon"}),
    Fault("401 that repeats the key", status=401, text=f"Incorrect API key provided: {KEY}", every=True),
    Fault("400 that repeats the key", status=400, text=f"bad request with {KEY}"),
    Fault("404 no such model", status=404, text="no such model", every=True),
    Fault("500", status=500, text="internal"),
    Fault("500 always", status=500, text="internal", every=True),
    Fault("503 as a page", status=503, body=b"<html>down</html>"),
    Fault("the key in the reply", text=GOOD.replace("It is so", f"It is {KEY}")),
    Fault("closes at once", acts="closes"),
    Fault("closes in the body", acts="half"),
    Fault("never answers", acts="silent"),
    Fault("drips a byte at a time", acts="drips"),
)


class Provider:
    """A server with one fault at a time, in a process of its own."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            end_with_parent()
            with suppress(BaseException):
                _serve(writer)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            self.port = int(stream.readline())

    def set(self, fault: int, *, mended: bool = False) -> None:
        """Give the server this fault, for questions that have not met it; or mend it."""
        self._request("PUT", json.dumps({"fault": fault, "mended": mended}))

    def paid(self) -> int:
        """Return how many whole replies with status 200 it gave since the last fault."""
        return int(self._request("GET"))

    def _request(self, method: str, body: str = "") -> str:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, "/", body)
            return connection.getresponse().read().decode()


def _serve(writer: int) -> None:
    lock = threading.Lock()
    seen: set[str] = set()
    state = {"fault": 0, "mended": False, "paid": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            new = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                if not new["mended"]:
                    state["paid"] = 0
                    seen.clear()
                state.update(new)
            self._send(200, {}, b"")

        def do_GET(self) -> None:
            self._send(200, {}, str(state["paid"]).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = str(body["messages"][-1])
            with lock:
                fault = FAULTS[int(state["fault"])]
                hit = fault.every or ("Is metal 2 " in prompt and prompt not in seen)
                seen.add(prompt)
            fault = fault if hit and not state["mended"] else FAULTS[0]
            with suppress(OSError):
                self._answer(fault, body["model"])
                with lock:
                    state["paid"] += fault.status == 200 and fault.acts == ""

        def _answer(self, fault: Fault, model: str) -> None:
            raw = raw_of(fault, model)
            if fault.acts == "silent":
                time.sleep(15)
            if fault.acts in ("closes", "silent"):
                self.connection.close()
            elif fault.acts == "half":
                self._send(fault.status, {"Content-Length": str(len(raw))}, raw[: len(raw) // 2])
                self.connection.close()
            elif fault.acts == "drips":
                self._send(fault.status, {"Content-Length": str(len(raw))}, b"")
                for byte in raw:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.2)
            else:
                self._send(fault.status, fault.headers, raw)

        def _send(self, status: int, headers: Mapping[str, str], raw: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            pass

    serve(Handler, writer)


def raw_of(fault: Fault, model: str) -> bytes:
    """Return the body of a fault's reply."""
    if fault.body is not None and fault.body != b"half":
        return fault.body
    if fault.status != 200:
        return json.dumps({"error": {"message": fault.text, "type": "x", "code": "x"}}).encode()
    message = {"role": "assistant", "content": "@" if fault.body == b"half" else fault.text}
    choice = {"index": 0, "message": message, "finish_reason": fault.finish}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    raw = json.dumps({**reply, "usage": dict(fault.usage)})
    return raw.replace('"@"', json.dumps(GOOD).replace("It is", "It is \\ud800")).encode()


def run(provider: Provider, folder: Path, *more: str) -> Ended:
    """Ask the provider."""
    words = ["teach", "choice", "--model", MODEL, "--samples", "1", "--workers", "2", *more]
    words += ["--api-base", f"http://127.0.0.1:{provider.port}/v1", "--store", str(folder / "kard.db")]
    return run_command(words, folder=folder)


def stored(folder: Path) -> tuple[int, int, float, dict[str, int]]:
    """Return the numbers of rationales and of failed replies, what they cost, and the outcomes."""
    with closing(sqlite3.connect(folder / "kard.db")) as db:
        good, paid = db.execute("select count(*), coalesce(sum(cost), 0) from rationales").fetchone()
        failed, more = db.execute("select count(*), coalesce(sum(cost), 0) from failed_replies").fetchone()
        outcomes = dict(db.execute("select outcome, count(*) from failed_replies group by 1").fetchall())
    return good, failed, paid + more, outcomes


def tried(number: int, provider: Provider, empty: Path, root: Path) -> dict[str, Any]:
    """Return what one fault did."""
    fault = FAULTS[number]
    provider.set(number)
    folder = world.fresh(root / "fault")
    (folder / "kard.db").write_bytes(empty.read_bytes())
    timeout = ("--timeout", str(fault.timeout))
    first = run(provider, folder, *timeout)
    good, failed, _, outcomes = stored(folder)
    paid = provider.paid()
    provider.set(number, mended=True)
    second = run(provider, folder, "--retry-failed", *timeout)
    whole, _, _, _ = stored(folder)
    printed = first.output + second.output + (folder / "kard.db").read_bytes().decode("latin-1")
    lines = [line for line in first.output.splitlines() if line.startswith("Error")]
    provider.set(number)
    (folder / "kard.db").write_bytes(empty.read_bytes())
    for side in SIDES:
        (folder / f"kard.db{side}").unlink(missing_ok=True)
    limited = run(provider, folder, "--max-cost", str(BUDGET), "--workers", "1", *timeout)
    return {
        "fault": fault.name,
        "every": fault.every,
        "code": first.code,
        "seconds": round(first.seconds, 1),
        "says": (lines or first.output.strip().splitlines() or [""])[-1][:240],
        "outcomes": outcomes,
        "paid": paid,
        "stored": good + failed,
        "lost": paid - good - failed,
        "after": whole,  # rationales once the server is mended
        "spent": round(stored(folder)[2], 6),
        "over_budget": stored(folder)[2] > BUDGET,
        "key": KEY in printed + limited.output,
        "traceback": any("Traceback" in end.output for end in (first, second, limited)),
        "clean": all(end.code in (0, 1) for end in (first, second, limited)) and second.code == 0,
    }


def main() -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", help="a fault whose name begins like this; repeatable")
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    options = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = KEY
    preload()
    from kard.db import open_store
    from kard.pipeline.load import store_questions
    from kard.records import Question

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        db = open_store(Path(root, "empty.db"))
        questions = [
            Question(f"q{i}", "train", f"Is metal {i} hard?", ("yes", "no"), "A") for i in range(QUESTIONS)
        ]
        store_questions(db, "choice", questions)
        db.execute("pragma wal_checkpoint(truncate)")
        db.close()
        provider = Provider()
        for number, fault in enumerate(FAULTS):
            if not options.only or fault.name.startswith(tuple(options.only)):
                rows.append(tried(number, provider, Path(root, "empty.db"), Path(root)))
                print(rows[-1], file=sys.stderr, flush=True)
                world.record(
                    options.json, "teacher_faults", {"questions": QUESTIONS, "budget": BUDGET, "faults": rows}
                )


if __name__ == "__main__":
    main()
