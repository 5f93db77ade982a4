"""A kard that starts in milliseconds: children of a process that has imported everything and has no thread.

A command takes seconds to import torch. Here it is forked, and runs the command line as `python -m kard` does. It
can be told to kill itself before its n-th write.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "KARD_THREADS"):
    os.environ[_name] = "1"  # a process with threads cannot be forked
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", OPENAI_API_KEY="none")

PRELOADED = (  # what the commands import when they are needed
    *("student.training.train", "student.generation.engine", "student.generation.batch", "reranker.training"),
    *("retrieval.rerank", "evaluation.answer", "teacher.teach", "teacher.verify", "knowledge.indexing"),
    *(
        "knowledge.repair",
        "pipeline.steps",
        "pipeline.demo",
        "pipeline.contamination",
        "publish.card",
        "programs.atlas",
    ),
)
LIBRARIES = (
    *(
        "dspy",
        "tantivy",
        "openai",
        "torch.optim",
        "safetensors.torch",
        "peft.tuners.lora",
        "transformers.cache_utils",
    ),
    *("transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert"),
    *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
)
STATEMENTS = ("begin", "commit", "insert", "update", "delete", "create", "drop", "replace", "savepoint", "release")
FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int  # negative: the signal that killed it
    output: str  # stdout and stderr
    writes: int  # of a command that was not killed
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether it did what it should, or said in one line why not."""
        return self.code in (0, 1, 2) and "Traceback" not in self.output


class Started:
    """A child that runs a command. `before` is the write before which it kills itself; 0: none."""

    def __init__(self, words: Sequence[str], *, folder: Path, before: int = 0, home: Path | None = None) -> None:
        self._began = time.monotonic()
        self._output = (home or folder.parent) / f".output-{random.SystemRandom().getrandbits(48):x}"
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reader)
            _child(list(words), folder, before, self._output, writer)
        os.close(writer)

    def kill(self) -> None:
        """Kill it, wherever it is."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def wait(self, timeout: float = 600) -> Ended:
        """Return how it ended; after `timeout` seconds it is killed."""
        while not (waited := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - self._began > timeout:
                self.kill()
            time.sleep(0.002)
        status = waited[1]
        with os.fdopen(self._reader, "rb") as stream:
            writes = stream.read()
        output = self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""
        self._output.unlink(missing_ok=True)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, output, int(writes or 0), time.monotonic() - self._began)


def run(words: Sequence[str], *, folder: Path, before: int = 0) -> Ended:
    """Run a command to its end, or until it kills itself before that write below `folder`."""
    return Started(words, folder=folder, before=before).wait()


def preload(*, light: bool = False) -> None:
    """Import what commands need, or with `light` what those need that load no model.

    Raises RuntimeError if that has started threads, after which nothing can be forked.
    """
    from kard.cli import main

    for name in main.list_commands(None):  # type: ignore[arg-type]  # the context is not used
        main.get_command(None, name)  # type: ignore[arg-type]  # as above
    for name in ("tantivy",) if light else (*(f"kard.{name}" for name in PRELOADED), *LIBRARIES):
        import_module(name)
    tasks = sorted(Path("/proc/self/task").iterdir(), key=lambda task: int(task.name))
    names = [(task / "comm").read_text().strip() for task in tasks]
    if threads := [name for name in names[1:] if name != "jemalloc_bg_thd"]:  # pyarrow's, which heeds forks
        raise RuntimeError(f"threads after the imports: {threads}")


def end_with_parent() -> None:
    """Let the system kill this child when its parent ends."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def forked(call: Callable[[], Any]) -> Any:
    """Return what a call gives in a child, as JSON carries it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as stream:
                json.dump(call(), stream)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"a child ended with {status}")
    return json.loads(text)


def _child(words: list[str], folder: Path, before: int, output: Path, writer: int) -> None:
    """Run the command and end the process."""
    code = 1
    try:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        writes = _Writes(folder, before)
        sys.addaudithook(writes.heard)
        sqlite3.connect = writes.connecting(sqlite3.connect)
        from kard.cli import main

        try:
            main(words, prog_name="kard")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writer, str(writes.count).encode())
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(code)


class _Writes:
    """Counts the writes of this process: statements that change a database, and changes of files below a folder."""

    def __init__(self, folder: Path, before: int) -> None:
        self._folder, self._before, self.count = str(folder), before, 0

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of something that the interpreter does."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._write(path)
        elif event in FILE_EVENTS:
            self._write(arguments[0])

    def connecting(self, connect: Callable[..., sqlite3.Connection]) -> Any:
        """Return `connect` for connections whose statements are heard."""

        def connected(*arguments: Any, **settings: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **settings)
            connection.set_trace_callback(self._stated)
            return connection

        return connected

    def _stated(self, statement: str) -> None:
        if statement.lstrip()[:9].lower().startswith(STATEMENTS):
            self._count()

    def _write(self, path: object) -> None:
        if isinstance(path, str | os.PathLike) and str(path).startswith(self._folder):
            self._count()

    def _count(self) -> None:
        self.count += 1
        if self.count == self._before:
            os.kill(os.getpid(), signal.SIGKILL)
