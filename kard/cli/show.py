"""What a person sees: progress on stderr, tables on stdout, and nothing that could drive a terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import localtime, monotonic, strftime, time
from typing import TYPE_CHECKING

import click

from kard.outgoing import clean, guard_streams, undoored
from kard.progress import SILENT, Advance, Progress, Share

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

WORD = 24  # characters of a word that may not be broken; longer ones, like hashes and paths, are folded


class Pace:
    """How far a piece of work is: `done` units of `total`, or the share of the whole that `share` tells."""

    def __init__(self, total: int | None, share: Share | None) -> None:
        self.done = 0
        self._total, self._share, self._begin = total, share, monotonic()

    def seconds(self) -> float:
        """Return the time since the work began."""
        return monotonic() - self._begin

    def share(self) -> float:
        """Return the part of the work that is done, from 0 to 1; 0 where nobody knows the whole."""
        if self._share:
            return self._share()
        return self.done / self._total if self._total else 0.0

    def units(self) -> str:
        """Return the units done, of how many, and the rate: `2,000 of 8,000, 50/s`."""
        of = f" of {self._total:,}" if self._total is not None else f" ({self.share():.0%})" if self._share else ""
        rate = self.done / max(self.seconds(), 0.001)
        return f"{self.done:,}{of}" + (f", {rate:,.{1 if rate < 10 else 0}f}/s" if self.done else "")

    def end(self) -> str:
        """Return when the work will end if it goes on like this, '' if that cannot be told."""
        share, seconds = self.share(), self.seconds()
        return f", ends about {strftime('%H:%M', localtime(time() + seconds / share - seconds))}" if share else ""


class Bars:
    """Progress on a terminal: bars by rich, on stderr."""

    @contextmanager
    def step(self, name: str, about: str) -> Generator[Advance]:
        """Show nothing but the bars within the step."""
        del name, about
        yield lambda _units: None

    @contextmanager
    def bar(self, label: str, total: int | None, share: Share | None = None) -> Generator[Advance]:
        """Show a bar with count, rate and time left, or a spinner while the end cannot be told."""
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        columns = (
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[units]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        pace = Pace(total, share)
        with Rich(*columns, console=console(stderr=True)) as rich:
            guard_streams()  # rich has put streams of its own before the doors, and takes them away at the end
            bar = rich.add_task(clean(label), total=1.0 if share or total is not None else None, units=pace.units())

            def advance(units: int) -> None:
                pace.done += units
                rich.update(bar, completed=pace.share(), units=pace.units())

            yield advance

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
    def bar(self, label: str, total: int | None, share: Share | None = None) -> Generator[Advance]:
        """Print the label, within a step, and from time to time the units done, their rate and the end."""
        pace = Pace(total, share)
        if self._in_step and total != 0:
            click.echo(f"{self._opening}\n" if self._opening else "", nl=False, err=True)
            self._opening = ""
            click.echo(label if total is None else f"{label}: {total:,} to do", err=True)

        def advance(units: int) -> None:
            pace.done += units

        with self._every_minute(lambda: f"{label}: {pace.units()} after {pace.seconds():.0f} s{pace.end()}"):
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
    """Print rows under a header; numbers to the right. Where words would be broken, each row becomes lines."""
    # A pipe has no width of its own: 80 columns would fold what a file or a pager can hold.
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    out = console(width=width, stderr=stderr)
    out.print(laid_out(title, header, rows, out.width))


def laid_out(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> RenderableType:
    """Return a table of at most `width` characters, or a line for each cell where a table would break words."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    cells = [[clean("" if cell is None else str(cell)) for cell in row] for row in rows]
    names = [clean(name) for name in header]
    gap, widths = 3, _widths(names, cells, width - 3 * len(names))
    if widths is None:
        gap, widths = 2, _widths(names, cells, width - 2 * len(names))
    if widths is None:
        lines = Table.grid(padding=(0, 2))
        for row in cells:
            for name, cell in zip(names, row, strict=True):
                if cell:
                    lines.add_row(plain(name), plain(cell))
            lines.add_row()
        return Group(plain(f"{title}\n"), lines) if title else lines
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, gap - 2))
    out.title, out.title_justify = plain(title) if title else None, "left"
    for i, name in enumerate(names):
        numeric = bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        justify = "right" if numeric else "left"
        out.add_column(plain(name), justify=justify, overflow="fold", width=widths[i])
    for row in cells:
        out.add_row(*map(plain, row))
    return out


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Return the width of each column so that all fit and no word is broken, None if there is no such."""
    from rich.cells import cell_len

    columns = [list(column) for column in zip(header, *rows, strict=True)]
    widths = [min(max(map(cell_len, "\n".join(column).split("\n"))), room) for column in columns]
    least = [min(max(map(cell_len, " ".join(column).split()), default=0), WORD) for column in columns]
    if sum(least) > room:
        return None
    while sum(widths) > room:
        widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def as_json(value: object, *, indent: int | None = 2) -> None:
    """Print the value as JSON, indented, as sqlite-utils and llm do; control characters as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    # JSON itself escapes those below U+0020 only: U+009B begins a command on some terminals.
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))
