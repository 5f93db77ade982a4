"""Hostile statements, requests and texts against `kard query`, `kard ui` and the terminal.

    python benchmarks/reliability/attacks.py [--json FILE]

Every question, passage, rationale and answer of the store is hostile: markup, scripts, control sequences, reversed
writing. The commands are the real ones, each in a process of its own. An attack is beaten if it changes no file,
reaches nothing, ends in time and stays below a limit of memory; what holds for each is in the table.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import world

HURT = (
    "<script>window.hurt=1</script><img src=x onerror=window.hurt=1>\"'><svg onload=window.hurt=1> [/] "
    "[link=http://evil.example]x[/link] \x1b]0;title\x07\x1b[31mred\x9b2J\x00 \u202egnp.exe\u2066 {{ 7*'7' }} "
    "javascript:window.hurt=1 ../../etc/passwd '; drop table questions; --"
)
ACTS = re.compile("<script>window|<img src=x|<svg onload|[\x00\x07\x1b\x9b\u202e\u2066]|7777777")
MEMORY = 500  # MB that a command may take
SECONDS = 60.0
N = "with recursive n (i) as (select 1 union all select i + 1 from n)"
STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "writes the store": (
        *("delete from questions", "update questions set text = ''", "drop table questions"),
        *("pragma user_version = 7", "insert into questions (task) values ('x')", "pragma journal_mode = delete"),
        *("pragma writable_schema = 1", "reindex questions"),
        *("begin immediate", "with x as (select 1) delete from questions"),
    ),
    "writes another file": (
        "vacuum into '{0}/copy.db'", "attach '{0}/other.db' as other", "attach 'file:{0}/o.db?mode=rwc' as o",
        "pragma temp_store_directory = '{0}'", "select writefile('{0}/x', 'x')", "create temp table t (a)",
    ),
    "loads code": ("select load_extension('{0}/x.so')", "select fts3_tokenizer('simple', x'00')"),
    "takes memory": (
        "select hex(zeroblob(499999999))", "select zeroblob(2147483647)", "select printf('%2147483647s', '')",
        f"{N} select group_concat(hex(zeroblob(400000))) from n", f"{N} select zeroblob(900000) from n",
        "select replace(printf('%900000s', ''), ' ', 'aaaaaaaaaaaaaaaaaaaa')",
    ),
    "takes time": (
        f"{N} select max(i) from n", f"{N} select i from n where i < 0",
        "select count(*) from " + ", ".join(f"questions q{i}" for i in range(20)),
        "select like(printf('%%%s', replace(printf('%400s', ''), ' ', 'a%')), text) from questions",
    ),
}  # fmt: skip


def filled(path: Path) -> None:
    """Make a store in which every text is hostile."""
    from kard.db import open_store
    from kard.pipeline.load import store_questions
    from kard.records import Question
    from kard.teacher.records import load_rationales

    db = open_store(path)
    questions = [
        Question(
            f"q{i}", ("train", "test")[i % 2], f"Word{i} {HURT}", (f"yes {HURT}", f"no {HURT}"), "A", facts=(HURT,)
        )
        for i in range(8)
    ]
    store_questions(db, "choice", questions)
    import json

    rows = [
        {"question_id": f"q{i}", "sample": 0, "rationale": f"Because {HURT}", "model": "oracle"} for i in range(8)
    ]
    file = path.with_suffix(".jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    load_rationales(db, "choice", file)
    db.close()


def state(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder, without what readers make: the WAL's index and an empty WAL."""
    names = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    names = (path for path in names if not path.name.endswith("-shm"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def command(words: list[str]) -> tuple[int, str, float, float]:
    """Run the real command; return its exit status, output, seconds and largest memory in MB."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "kard", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    stopper = threading.Timer(SECONDS, process.kill)
    stopper.start()
    assert process.stdout is not None
    output = process.stdout.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    stopper.cancel()
    return process.returncode, output, time.monotonic() - begin, usage.ru_maxrss / 1024


def statements(folder: Path) -> list[dict[str, Any]]:
    """Give every hostile statement to `kard query`."""
    rows: list[dict[str, Any]] = []
    for kind, texts in STATEMENTS.items():
        beaten, longest, largest, left = 0, 0.0, 0.0, list[str]()
        for text in texts:
            before = state(folder)
            words = [
                "query",
                text.replace("{0}", str(folder)),
                "--timeout",
                "2",
                "--store",
                str(folder / "kard.db"),
            ]
            code, output, seconds, megabytes = command([*words, "--csv"])
            good = code in (0, 1) and state(folder) == before and seconds < SECONDS and megabytes < MEMORY
            good = good and "Traceback" not in output and (code == 1 or kind.startswith("takes"))
            beaten, longest, largest = beaten + good, max(longest, seconds), max(largest, megabytes)
            left += [] if good else [f"{text}: {code} {output[-200:]} {seconds:.0f} s {megabytes:.0f} MB"]
        rows.append(_row(f"kard query: a statement that {kind}", len(texts), beaten, left, longest, largest))
    return rows


def _row(
    attack: str,
    tried: int,
    beaten: int,
    examples: list[str],
    seconds: float | None = None,
    memory: float | None = None,
) -> dict[str, Any]:
    row = {"attack": attack, "tried": tried, "beaten": beaten, "seconds": seconds and round(seconds, 1)}
    row |= {"megabytes": memory and round(memory), "examples": examples[:5]}
    print(row, file=sys.stderr, flush=True)
    return row


class Ui:
    """`kard ui` in a process of its own."""

    def __init__(self, store: Path) -> None:
        words = [sys.executable, "-m", "kard", "ui", "--store", str(store), "--port", "0", "--no-open"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        assert self.process.stdout is not None
        match = re.search(r"127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        assert match is not None
        self.port = int(match[1])

    def get(
        self, path: str, host: str | None = None, method: str = "GET", **headers: str
    ) -> tuple[int, Mapping[str, str], str]:
        """Return status, headers and text of one request."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": host or f"127.0.0.1:{self.port}", **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            return response.status, dict(response.headers.items()), response.read().decode("utf-8", "replace")

    def megabytes(self) -> float:
        """Return the largest memory that it took until now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]  # Linux has the line


def requests(ui: Ui) -> list[dict[str, Any]]:
    """Attack `kard ui`."""
    rows: list[dict[str, Any]] = []

    def attack(name: str, tries: Mapping[str, Callable[[], bool]]) -> None:
        begin, lost = time.monotonic(), list[str]()
        for what, beaten in tries.items():
            try:
                good = beaten()
            except Exception as error:
                good, what = False, f"{what}: {type(error).__name__} {error}"
            lost += [] if good else [what]
        rows.append(_row(f"kard ui: {name}", len(tries), len(tries) - len(lost), lost, time.monotonic() - begin))

    hosts = ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "0.0.0.0", "[::2]",
             "127.0.0.1:80:80",
             "localhost, evil.example", "\u0661.example".encode().decode("latin-1"))  # fmt: skip
    attack("a foreign Host", {h: lambda h=h: ui.get("/kard/questions.json", h)[0] == 421 for h in hosts})
    paths = ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/-/static/../../../etc/passwd", "/kard.db", "/%00",
             "/-/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/-/static-plugins/../../etc/passwd", "//etc/passwd",
             "/kard/../../../etc/passwd", "/-/kard/question/../../../etc/passwd", "/-/kard/question/1e999",
             "/-/config.json")  # fmt: skip

    def kept(path: str) -> bool:
        status, _, text = ui.get(path)
        return status != 500 and "root:" not in text and "SQLite format" not in text

    attack("a path out of its folder, or to the file", {p: lambda p=p: kept(p) for p in paths})
    writes = [text.replace("{0}", "/tmp") for kind in ("writes the store", "writes another file", "loads code")
              for text in STATEMENTS[kind]]  # fmt: skip
    attack(
        "a statement that writes or loads",
        {s: lambda s=s: ui.get(f"/kard.json?sql={quote(s)}")[0] == 400 for s in writes},
    )
    heavy = [*STATEMENTS["takes memory"], *STATEMENTS["takes time"]]

    def survives(statement: str) -> bool:
        ui.get(f"/kard.json?sql={quote(statement)}")
        return ui.get("/-/kard")[0] == 200 and ui.megabytes() < MEMORY

    attack("a statement that takes memory or time", {s: lambda s=s: survives(s) for s in heavy})

    def writes_nothing(method: str) -> bool:
        status, _, _ = ui.get("/kard/questions", method=method, Origin="http://evil.example", Content_Length="0")
        return status in (403, 404, 405)

    methods = ("POST", "PUT", "DELETE", "PATCH", "TRACE")
    attack("a request that is no reading, from another page", {m: lambda m=m: writes_nothing(m) for m in methods})

    def is_private(path: str) -> bool:
        _, headers, _ = ui.get(path, Origin="http://evil.example")
        return not any("access-control" in name.lower() for name in headers)

    own = ("/", "/kard/questions.json", "/-/kard")
    attack("an answer that another page may read", {p: lambda p=p: is_private(p) for p in own})
    pages = ["/", "/kard", "/kard/questions", "/kard/rationales", "/kard/teachers", "/-/kard", "/-/kard?text=Word1",
             "/kard?sql=select+*+from+questions", f"/-/kard?text={quote(HURT[:60])}",
             *(f"/-/kard/question/{i}" for i in range(1, 9))]  # fmt: skip

    def inert(path: str) -> bool:
        status, headers, text = ui.get(path)
        headers = {name.lower(): value for name, value in headers.items()}
        return (
            status == 200 and not ACTS.search(text) and "default-src 'self'" in headers["content-security-policy"]
        )

    attack("markup and controls in every text", {p: lambda p=p: inert(p) for p in pages})

    def broken(raw: bytes) -> bool:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", ui.port), timeout=20) as connection:
            connection.sendall(raw)  # it may hang up, as long as it answers others
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        return ui.get("/-/kard")[0] == 200

    raws = (b"\x00" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
            b"GET " + b"/a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx")  # fmt: skip
    attack("no HTTP, or too much of it", {repr(raw[:40]): lambda raw=raw: broken(raw) for raw in raws})
    rows[-1]["megabytes"] = round(ui.megabytes())
    return rows


def terminal(folder: Path) -> dict[str, Any]:
    """Print hostile texts by every command that prints texts."""
    place, name = ["--store", str(folder / "kard.db")], re.sub("[\0/]", "", HURT)
    tries = [
        ["query", "select text from questions", "--table"],
        *(["query", "select text, options from questions", form] for form in ("--csv", "--nl", "--json")),
        *(["rationales", "choice"], ["explain", "Word1"], ["status", "choice"], ["report", "choice"]),
        *(["load", "choice", f"{folder}/{name}.csv"], ["query", name], ["hits", "choice"]),
    ]
    lost: list[str] = []
    for words in tries:
        code, output, _, _ = command([*words, *place])
        acts = re.search("[\x07\x1b\x9b\u202e\u2066\x00]", output)
        if "Traceback" in output or code not in (0, 1, 2) or (acts and words[-1] not in ("--csv",)):
            lost.append(f"{words[:2]}: {code} {output[-200:]!r}")
    return _row("kard: hostile texts on the terminal or in a pipe", len(tries), len(tries) - len(lost), lost)


def main() -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        filled(folder / "kard.db")
        rows = [*statements(folder), terminal(folder)]
        ui = Ui(folder / "kard.db")
        try:
            rows += requests(ui)
        finally:
            ui.process.kill()
            ui.process.wait()
    world.record(options.json, "attacks", {"limit_megabytes": MEMORY, "limit_seconds": SECONDS, "attacks": rows})


if __name__ == "__main__":
    main()
