"""How a step says how far it is, without knowing whether anybody looks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Makes one bar for each piece of work; the value of the context is called with units done."""

    def bar(self, label: str, total: int | None) -> AbstractContextManager[Advance]:
        """A bar for `total` units, None when their number is not known."""
        ...


class Silent:
    """The progress of tests, of `--quiet` and of everything that is not a terminal."""

    @contextmanager
    def bar(self, label: str, total: int | None) -> Generator[Advance]:
        """A bar that nobody sees."""
        del label, total
        yield lambda _units: None


SILENT: Progress = Silent()
