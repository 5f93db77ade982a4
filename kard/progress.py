"""How work says how far it is, without knowing whether anybody looks."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Protocol

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
