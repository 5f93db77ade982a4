"""What the drivers in Python share: commands are lines, of words between tabs, and results are lines of numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path


def commands(version: str) -> Iterator[list[str]]:
    """Yield the words of each line of the input; print the version first, and `done` after each command."""
    print(version, flush=True)
    for line in sys.stdin:
        yield line.rstrip("\n").split("\t")
        print("done", flush=True)


def read(path: str) -> list[str]:
    """Return the lines of a file."""
    return Path(path).read_text(encoding="utf-8").splitlines()


def write(path: str, found: Iterable[Iterable[int]]) -> None:
    """Write the numbers of each query's passages as a line, unless the path is '-'."""
    if path != "-":
        Path(path).write_text("".join(" ".join(map(str, of_one)) + "\n" for of_one in found), encoding="utf-8")
