"""How work says how far it is, without knowing whether anybody looks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]
"""Called with a number of units."""


class Progress(Protocol):
    """Shows steps, and one bar for each piece of work within them."""

    def step(self, name: str, about: str) -> AbstractContextManager[Advance]:
        """Show one step of the pipeline; the context's value is called with the units that it added."""
        ...

    def bar(self, label: str, total: int | None) -> AbstractContextManager[Advance]:
        """Show a bar for `total` units (None when unknown); the context's value is called with units done."""
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
    def bar(self, label: str, total: int | None) -> Generator[Advance]:
        """Show nothing."""
        del label, total
        yield lambda _units: None

    def note(self, text: str) -> None:
        """Say nothing."""
        del text


SILENT: Progress = Silent()
