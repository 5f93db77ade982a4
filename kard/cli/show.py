"""What a person sees: progress on stderr, tables on stdout, and nothing that could drive a terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import click

from kard.outgoing import clean, guard_streams, undoored
from kard.progress import SILENT, Advance, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class Bars:
    """Progress on a terminal: bars by rich, on stderr."""

    @contextmanager
    def step(self, name: str, about: str) -> Generator[Advance]:
        """Show nothing but the bars within the step."""
        del name, about
        yield lambda _units: None

    @contextmanager
    def bar(self, label: str, total: int | None) -> Generator[Advance]:
        """Show a bar with count and time left, or a spinner while the total is unknown."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Rich

        columns = (
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Rich(*columns, console=console(stderr=True)) as rich:
            guard_streams()  # rich has put streams of its own before the doors, and takes them away at the end
            bar = rich.add_task(clean(label), total=total)
            yield lambda units: rich.advance(bar, units)

    def note(self, text: str) -> None:
        """Print the text above the bars."""
        click.echo(text, err=True)


class Lines:
    """Progress in a log: a line on stderr when work begins, every minute, and when a step has ended."""

    EVERY = 60.0  # seconds between two lines about the same work

    def __init__(self) -> None:
        self._opening = ""  # line of a step that no work has begun in: one without any says nothing
        self._in_step = False  # short work outside of steps, like reading a file, says nothing when it begins
        self._doing: list[Callable[[], str]] = []  # how far the work is, outermost first

    @contextmanager
    def step(self, name: str, about: str) -> Generator[Advance]:
        """Print what the step does when work begins, and what it added and how long it took at its end."""
        begin = monotonic()

        def report(units: int) -> None:
            if units:
                click.echo(f"{name}: {units:,} added in {monotonic() - begin:.0f} s", err=True)

        self._in_step, self._opening = True, f"{name}: {about}"
        try:
            with self._every_minute(lambda: f"{name}: {about}, {monotonic() - begin:.0f} s so far"):
                yield report
        finally:
            self._in_step = False

    @contextmanager
    def bar(self, label: str, total: int | None) -> Generator[Advance]:
        """Print the label, within a step, and the units done from time to time."""
        begin, done = monotonic(), 0
        of = "" if total is None else f" of {total:,}"
        if self._in_step and total != 0:
            click.echo(f"{self._opening}\n" if self._opening else "", nl=False, err=True)
            self._opening = ""
            click.echo(label if total is None else f"{label}: {total:,} to do", err=True)

        def advance(units: int) -> None:
            nonlocal done
            done += units

        with self._every_minute(lambda: f"{label}: {done:,}{of} after {monotonic() - begin:.0f} s"):
            yield advance

    @contextmanager
    def _every_minute(self, status: Callable[[], str]) -> Generator[None]:
        """Print the status every minute until the block ends, or that of the innermost block that runs in it."""
        ended = threading.Event()
        self._doing.append(status)
        if len(self._doing) == 1:
            threading.Thread(target=self._tell, args=(ended,), daemon=True).start()
        try:
            yield
        finally:
            self._doing.remove(status)
            ended.set()

    def _tell(self, ended: threading.Event) -> None:
        while not ended.wait(self.EVERY):
            for status in self._doing[-1:]:
                click.echo(status(), err=True)

    def note(self, text: str) -> None:
        """Print the text."""
        click.echo(text, err=True)


def progress(quiet: bool) -> Progress:
    """Return bars where a person looks at stderr, lines where a log does, nothing if `quiet`."""
    return SILENT if quiet else Bars() if sys.stderr.isatty() else Lines()


def console(*, width: int | None = None, stderr: bool = False) -> Console:
    """Return rich's console, which draws around the door: give it clean texts. It reads no markup."""
    from rich.console import Console

    stream = undoored(sys.stderr if stderr else sys.stdout)
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def plain(text: str) -> Text:
    """Return a clean text for rich."""
    from rich.text import Text

    return Text(clean(text))


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, stderr: bool = False) -> None:
    """Print rows under a header; numbers to the right."""
    from rich import box
    from rich.table import Table

    out = Table(title=plain(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(header):
        numeric = bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        out.add_column(plain(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        out.add_row(*(plain("" if cell is None else str(cell)) for cell in row))
    # A pipe has no width of its own: 80 columns would fold what a file or a pager can hold.
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    console(width=width, stderr=stderr).print(out)


def as_json(value: object, *, indent: int | None = 2) -> None:
    """Print the value as JSON, indented, as sqlite-utils and llm do; control characters as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    # JSON itself escapes those below U+0020 only: U+009B begins a command on some terminals.
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))
