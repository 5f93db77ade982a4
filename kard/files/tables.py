"""Read the rows of a table of text: CSV or TSV, as people and spreadsheets write them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from kard.errors import BadInput

LONGEST_CELL = 100_000_000  # characters; the csv module's own limit of 131,072 is less than an article has
DELIMITERS = ",;\t"  # of files named .csv: Excel writes semicolons where the comma is a decimal point
_QUOTES = re.compile('"+')


class Fields(dict[str, object]):
    """The fields of a row; where none has the very name, case and spaces around it are ignored."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or self._meant(name) is not None

    def __missing__(self, name: str) -> object:
        """Return the field that is meant. Raises KeyError."""
        meant = self._meant(name)
        if meant is None:
            raise KeyError(name)
        return self[meant]

    def get(self, name: str, default: object = None, /) -> object:
        """Return the field of that name or the one that is meant, else the default."""
        try:
            return self[name]
        except KeyError:
            return default

    def _meant(self, name: object) -> str | None:
        folded = str(name).strip().casefold()
        same = [field for field in self if field.strip().casefold() == folded]
        return same[0] if len(same) == 1 else None


def is_empty(row: Mapping[str, object]) -> bool:
    """Return whether every cell is empty, as in the rows that spreadsheets leave behind."""
    return not any(_filled(cell) for cell in row.values())


def _filled(cell: object) -> bool:
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None


def table_rows(
    path: Path, lines: Iterator[str], delimiters: str, bad: Callable[[BadInput], None]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a table's lines with the line that it begins in; the first row names the columns.

    Of the delimiters, the one that splits the first row's line most counts. Empty rows are left out, and so are
    empty cells beyond the columns. `bad` is called with what is wrong with a row. Raises BadInput for two columns
    of one name, and for a broken quote.
    """
    csv.field_size_limit(LONGEST_CELL)
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip(f'{DELIMITERS}" \r\n\f\v'))
    begin, first = next(numbered, (1, ""))
    delimiter = max(delimiters, key=lambda d: len(next(csv.reader([first], delimiter=d), [])))
    records = _records(path, chain([first], lines), begin, delimiter)
    header, names = next(records, (begin, list[str]()))
    while names and not names[-1].strip():
        del names[-1]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"two columns are named {twice[0]!r}; rename one", at=f"{path}:{header}")
    for line, cells in records:
        if any(map(_filled, cells[len(names) :])):
            bad(BadInput(f"more cells than the header's {len(names)}", at=f"{path}:{line}"))
        elif not any(map(_filled, cells)):
            continue
        elif len(cells) < len(names):
            bad(BadInput(f"no cell for column {names[len(cells)]!r}", at=f"{path}:{line}"))
        else:
            yield line, dict(zip(names, cells, strict=False))


def _records(path: Path, lines: Iterable[str], begin: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each record with the line that it begins in. Raises BadInput."""
    taken: list[str] = []  # lines of the record that is being read

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(noted(), delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            opened = _last_opened(taken, delimiter)
            why = str(error) if opened is None else f"{error}: check the quote that opens in this line"
            at = begin + (len(taken) - 1 if opened is None else opened)
            raise BadInput(f"not CSV ({why})", at=f"{path}:{at}") from error
        if cells is None:
            return
        yield begin, cells
        begin += len(taken)
        taken.clear()


def _last_opened(lines: Sequence[str], delimiter: str) -> int | None:
    """Return the index of the line in which the last quoted cell opens, None if no cell is quoted."""
    opened, inside = None, False
    for i, line in enumerate(lines):
        for quotes in _QUOTES.finditer(line):
            begins = quotes.start() == 0 or line[quotes.start() - 1] == delimiter
            if len(quotes[0]) % 2 and (inside or begins):  # pairs are quotes of the text, or an empty cell
                opened, inside = opened if inside else i, not inside
    return opened
