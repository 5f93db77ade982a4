"""How work says how far it is and how long it takes, without knowing whether anybody looks.

Pieces of work are named where they stand, by `timed` and `span`. They are measured within `measuring` alone, which
the command line enters for `kard --timings FILE`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import IO, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")
Advance = Callable[[int], None]
"""Called with a number of units."""
Share = Callable[[], float]
"""Returns how much is done of the whole, from 0 to 1, where nobody knows how many units there will be."""


class Progress(Protocol):
    """Shows steps, and one bar for each piece of work within them."""

    def step(self, name: str, about: str) -> AbstractContextManager[Advance]:
        """Show one step of the pipeline; the context's value is called with the units that it added."""
        ...

    def bar(self, label: str, total: int | None, share: Share | None = None) -> AbstractContextManager[Advance]:
        """Show a bar for `total` units (None when unknown); the context's value is called with units done.

        `share` tells the end of work whose total is unknown.
        """
        ...

    def note(self, text: str) -> None:
        """Say why nothing moves."""
        ...


class Silent:
    """Progress that nobody sees: that of tests and of `--quiet`."""

    @contextmanager
    def step(self, name: str, about: str) -> Generator[Advance]:
        """Show nothing."""
        del name, about
        yield lambda _units: None

    @contextmanager
    def bar(self, label: str, total: int | None, share: Share | None = None) -> Generator[Advance]:
        """Show nothing."""
        del label, total, share
        yield lambda _units: None

    def note(self, text: str) -> None:
        """Say nothing."""
        del text


SILENT: Progress = Silent()


# --- where the time goes ----------------------------------------------------------------------------

MOST_EVENTS = 500_000  # of a trace, which a browser can still show; sums count all
REST = "the rest, waiting for others included"


@dataclass(slots=True)
class Sum:
    """How often a piece of work was done, and its seconds without those of the pieces within it."""

    calls: int = 0
    seconds: float = 0.0


class Timings:
    """The pieces of work of every thread. A piece's seconds are by the clock."""

    def __init__(self) -> None:
        self.begin = perf_counter()
        self.sums: dict[str, Sum] = {}
        self.events: list[tuple[str, int, float, float]] = []  # name, thread, start from `begin`, seconds
        self.threads: dict[int, str] = {}
        self._open = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def span(self, name: str, about: str = "") -> Generator[None]:
        """Measure the block as a piece of work; `about` says in the trace which one of its kind it is."""
        outer: list[float] = self._open.__dict__.setdefault("within", [0.0])  # seconds within each open piece
        outer.append(0.0)
        start = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - start
            inner = outer.pop()
            outer[-1] += seconds
            thread = threading.get_ident()
            with self._lock:
                piece = self.sums.setdefault(name, Sum())
                piece.calls += 1
                piece.seconds += seconds - inner
                self.threads.setdefault(thread, threading.current_thread().name)
                if len(self.events) < MOST_EVENTS:
                    self.events.append((f"{name} {about}".rstrip(), thread, start - self.begin, seconds))

    def table(self) -> list[tuple[str, int | None, float, str]]:
        """Return name, calls, seconds and share of the time so far, longest first; then the calling thread's rest.

        Threads that work at the same time have shares that add up to more than 100%.
        """
        whole = perf_counter() - self.begin
        covered = sum(self._open.__dict__.get("within", [0.0]))
        longest = sorted(self.sums.items(), key=lambda item: -item[1].seconds)
        rows: list[tuple[str, int | None, float]] = [(name, s.calls, s.seconds) for name, s in longest]
        rows += [(REST, None, whole - covered), ("all", None, whole)]
        return [(name, calls, round(seconds, 2), f"{seconds / whole:.0%}") for name, calls, seconds in rows]

    def write(self, file: IO[str]) -> None:
        """Write the pieces as Chrome's trace events, which ui.perfetto.dev and chrome://tracing show."""
        process = os.getpid()
        named = [
            {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}
            for thread, name in self.threads.items()
        ]
        done = [
            {"ph": "X", "name": name, "cat": "kard", "pid": process, "tid": thread,
             "ts": round(start * 1e6, 1), "dur": round(seconds * 1e6, 1)}
            for name, thread, start, seconds in self.events
        ]  # fmt: skip
        json.dump({"traceEvents": [*named, *done], "displayTimeUnit": "ms"}, file)


_measured: Timings | None = None  # while somebody measures


def span(name: str, about: str = "") -> AbstractContextManager[None]:
    """Measure the block as a piece of work, if somebody measures."""
    return nullcontext() if _measured is None else _measured.span(name, about)


def timed(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Measure each call of a function, which is no generator, as a piece of work, if somebody measures."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            if _measured is None:
                return function(*args, **kwargs)
            with _measured.span(name):
                return function(*args, **kwargs)

        return measured

    return decorate


@contextmanager
def measuring() -> Generator[Timings]:
    """Measure every piece of work of the process, and its imports, to the end of the block."""
    global _measured
    run_module = SourceFileLoader.exec_module
    within = threading.local()  # the package that a thread imports

    def run_measured(self: SourceFileLoader, module: ModuleType) -> None:
        package = cast(ModuleSpec, module.__spec__).name.partition(".")[0]
        outer: str = within.__dict__.get("package", "")
        if package == outer:
            return run_module(self, module)
        within.package = package
        try:
            with timings.span("import", package):
                run_module(self, module)
        finally:
            within.package = outer

    _measured = timings = Timings()
    SourceFileLoader.exec_module = run_measured
    try:
        yield timings
    finally:
        _measured = None
        SourceFileLoader.exec_module = run_module


# --- how much of a source is read -------------------------------------------------------------------


class _Meter:
    """How many bytes of files have been read, one file after the other."""

    def __init__(self, total: int) -> None:
        self._total, self._before = total, 0
        self._file, self._size, self._position = Path(), 0, lambda: 0

    def follow(self, file: Path, position: Callable[[], int]) -> None:
        if file != self._file:
            self._before, self._file, self._size = self._before + self._size, file, file.stat().st_size
            self._position = position

    def share(self) -> float:
        position = self._size
        with suppress(OSError, ValueError, AttributeError):  # the file was closed meanwhile
            position = self._position()
        return min(1.0, (self._before + position) / max(1, self._total))


_METER: ContextVar[_Meter | None] = ContextVar("meter", default=None)


@contextmanager
def reading(total: int) -> Generator[Share]:
    """Measure how much is read of files of `total` bytes together; the context's value tells the share so far."""
    token = _METER.set(meter := _Meter(total))
    try:
        yield meter.share
    finally:
        _METER.reset(token)


def follow_stream(file: Path, stream: IO[bytes]) -> IO[bytes]:
    """Return the stream, and tell who measures that this file is read through it, which may unpack it."""
    follow(file, lambda: os.lseek(stream.fileno(), 0, os.SEEK_CUR))
    return stream


def follow(file: Path, position: Callable[[], int]) -> None:
    """Tell who measures that this file is read from now on, and how to find out how many of its bytes were read."""
    if meter := _METER.get():
        meter.follow(file, position)
