"""Read rows with their positions from JSON, JSON lines, CSV, TSV and parquet; write files atomically."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import os
import shlex
import shutil
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from kard.errors import BadInput, NoExtra
from kard.files.tables import DELIMITERS, Fields, is_empty, table_rows
from kard.processes import own_mark, was_left
from kard.progress import follow, follow_stream

Row = Mapping[str, object]
PART = ".kard-part"  # ends the name of what is being written
ABANDONED = 3600  # seconds; a part that is older was left by a killed process, of whatever machine
LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
PARQUET_BATCH = 1_000  # rows in memory at a time
LONGEST_LINE = 64_000_000  # characters; a longer one is no row that people wrote, and would fill the memory
MOST_UNPACKED = 50  # times a packed file's own size that a text may have which is read as one
WORKBOOKS = (".xlsx", ".xls", ".ods")
UNZIP: Mapping[str, Callable[[Path, str], object]] = {".gz": gzip.open, ".bz2": bz2.open}


@dataclass(frozen=True, slots=True)
class FilePosition:
    """The position of a row. As text it is `file:line`, as errors show it."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def write_lines(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSON lines, compressed if the name ends in .gz. Return their number.

    The same rows give the same bytes. The file appears when it is complete. Raises BadInput for a name with another
    ending, or if the file cannot be written.
    """
    if not path.name.endswith(LINES):
        raise BadInput(f"cannot tell the format from the name; use one of {', '.join(LINES)}", at=str(path))
    with output(path) as part, part.open("wb") as raw:
        if path.suffix == ".gz":
            # No name and no time in the header: the bytes are those of the rows alone.
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                return _write(cast("IO[bytes]", packed), rows)
        return _write(raw, rows)


@contextmanager
def output(path: Path, *, folder: bool = False) -> Generator[Path]:
    """Do what `atomic` does, for a path that a person named. Raises BadInput if it cannot be written."""
    try:
        with atomic(path, folder=folder) as part:
            yield part
    except OSError as error:
        kind = "folder" if folder else "file"
        raise BadInput(f"cannot be written ({error.strerror}); name another {kind}", at=str(path)) from error


@contextmanager
def atomic(path: Path, *, folder: bool = False) -> Generator[Path]:
    """Yield a path beside `path` to write to; what is written there becomes `path` in one step.

    A file replaces an older one. With `folder`, an empty folder is yielded, and only an empty folder is replaced.
    An error leaves `path` as it was. Raises OSError.
    """
    for leftover in path.parent.glob(f".*{PART}"):
        with suppress(OSError):  # its own process may just have removed it
            mark = leftover.name.removesuffix(PART).rpartition(".")[2]
            if was_left(mark) or time.time() - leftover.stat().st_mtime > ABANDONED:
                _remove(leftover)
    part = path.with_name(f".{path.name}.{own_mark()}{PART}")
    try:
        if folder:
            part.mkdir(parents=True)
        yield part
        if folder:
            for file in part.rglob("*"):
                if file.is_file():
                    with file.open("rb") as stream:
                        os.fsync(stream.fileno())
            with suppress(FileNotFoundError):
                path.rmdir()
            part.rename(path)
        else:
            part.replace(path)
    finally:
        with suppress(OSError):
            _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def adapters_folder(store: Path) -> Path:
    """Return the folder of a store's adapters: `kard.adapters` beside `kard.db`."""
    return store.with_suffix(".adapters")


def _write(stream: IO[bytes], rows: Iterable[Row]) -> int:
    count = 0
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def open_text(path: Path) -> IO[str]:
    """Open a file as text: UTF-8, or UTF-16 if it begins with the mark of that. Raises BadInput if it is missing.

    It is decompressed if its name ends in .gz or .bz2.
    """
    require_file(path)
    stream = open_bytes(path)
    try:
        start = stream.read(2)
        stream.seek(0)
    except (EOFError, OSError, zlib.error):
        stream.close()
        raise
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return LimitedText(path, stream, encoding)


def require_file(path: Path) -> None:
    """Raise BadInput unless the path is a file."""
    if not path.exists():
        raise BadInput("no such file; check the path", at=str(path))
    if path.is_dir():
        raise BadInput("is a folder, not a file", at=str(path))
    if not path.is_file():  # a pipe without a writer would be waited for for ever
        raise BadInput("is a pipe or device, not a file; write its contents to a file first", at=str(path))


class LimitedText(io.TextIOWrapper):
    """The text of a file, read in pieces; what a small archive unpacks to cannot fill the memory.

    Raises BadInput for a line of more than `LONGEST_LINE` characters, and for a text that is read as one and has
    more than that and more than `MOST_UNPACKED` times the file's size.
    """

    def __init__(self, path: Path, stream: IO[bytes], encoding: str) -> None:
        super().__init__(stream, encoding=encoding, newline="")
        self._path = path
        self._lines = 0

    def __next__(self) -> str:
        """Return the next line."""
        line = self.readline(LONGEST_LINE + 1)
        self._lines += 1
        if len(line) > LONGEST_LINE:
            problem = f"a line of more than {LONGEST_LINE:,} characters; write one row a line"
            raise BadInput(problem, at=f"{self._path}:{self._lines}")
        if not line:
            raise StopIteration
        return line

    def read(self, size: int | None = -1, /) -> str:
        """Return the rest of the text, or so many characters of it."""
        if size is not None and size >= 0:
            return super().read(size)
        most = max(LONGEST_LINE, MOST_UNPACKED * self._path.stat().st_size)
        text = super().read(most + 1)
        if len(text) > most:
            raise BadInput(f"unpacks to more than {most:,} characters; write JSON lines", at=str(self._path))
        return text


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, decompressed if its name ends in .gz or .bz2."""
    return follow_stream(path, cast("IO[bytes]", UNZIP.get(path.suffix, open)(path, "rb")))


def read_text(path: Path) -> str:
    """Return the whole file as text with line ends `\\n`. Raises BadInput for a line that is not UTF-8."""
    try:
        with open_text(path) as stream:
            return stream.read().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from error


def refuse(error: BadInput) -> NoReturn:
    """Raise the error."""
    raise error


def read_rows(path: Path, bad: Callable[[BadInput], None] = refuse) -> Iterator[tuple[FilePosition, Row]]:
    """Yield every row of a file with its position. The ending of the name gives the format.

    JSON is a list of objects, or an object with one such list among its values. Empty rows of tables are left out.
    `bad` is called with what is wrong with a single row, which is then left out: one that is no JSON object, or has
    too few or too many cells. Raises BadInput, naming the line, for bytes that are no text, a broken archive, or an
    empty file; NoExtra, naming the install command, for parquet without pyarrow.
    """
    ending = _ending(path)
    readers: dict[str, Callable[[Path, Callable[[BadInput], None]], Iterator[tuple[FilePosition, Row]]]]
    readers = {
        **{".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _table, ".tsv": _table},
        ".parquet": lambda path, _: ((at, row) for at, row in parquet_rows(path) if not is_empty(row)),
    }
    if ending in WORKBOOKS:
        raise BadInput("a workbook cannot be read; save its sheet as CSV", at=str(path))
    if ending not in readers:
        raise BadInput(f"cannot tell the format from the name; use one of {', '.join(readers)}", at=str(path))
    line, empty = 0, True
    try:
        for position, row in readers[ending](path, bad):
            line, empty = position.line, False
            yield position, Fields(row)
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from error
    except (EOFError, OSError, zlib.error) as error:
        if path.suffix not in UNZIP:
            raise
        kind = "gzip" if path.suffix == ".gz" else "bzip2"
        raise BadInput(
            f"the {kind} ends early or is broken; fetch the file again", at=f"{path}:{line + 1}"
        ) from error
    if empty:
        raise BadInput("the file holds no rows", at=str(path))


def _ending(path: Path) -> str:
    """Return the part of the name that gives the format, `.csv` for `a.CSV.gz`."""
    endings = [s for s in path.suffixes if s not in UNZIP]
    return endings[-1].lower() if endings else ""


def header_of(path: Path) -> str:
    """Return where a table names the columns of all its rows; '' for a file whose rows have fields of their own."""
    return {".csv": f"{path}:1", ".tsv": f"{path}:1", ".parquet": str(path)}.get(_ending(path), "")


def _not_text(path: Path, error: UnicodeDecodeError) -> BadInput:
    if error.encoding.startswith("utf-16"):
        return BadInput(f"begins like UTF-16 but is none ({error.reason}); save it as UTF-8", at=str(path))
    return BadInput(
        f"byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file with: "
        f"iconv -f cp1252 -t utf-8 {shlex.quote(str(path))}",
        at=f"{path}:{_undecodable_line(path)}",
    )


def _undecodable_line(path: Path) -> int:
    with open_bytes(path) as raw, suppress(EOFError, OSError, zlib.error):  # the archive may be broken too
        for number, line in enumerate(raw, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _objects(
    values: Iterable[tuple[FilePosition, object]], bad: Callable[[BadInput], None]
) -> Iterator[tuple[FilePosition, Row]]:
    for position, value in values:
        if isinstance(value, dict):
            yield position, cast("Row", value)
        else:
            bad(BadInput(f"expected a JSON object, found {type(value).__name__}", at=str(position)))


def _parsed(text: str, position: FilePosition) -> object:
    """Return the value of a JSON text. Raises JSONDecodeError, and BadInput for what nothing could store."""
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise BadInput("lists or objects inside each other, too deep to be read", at=str(position)) from None
    except UnicodeEncodeError:
        raise BadInput(
            "half a character (a half of a surrogate pair, \\ud800 to \\udfff)", at=str(position)
        ) from None
    except ValueError:
        raise BadInput("a number of more than 4,300 digits", at=str(position)) from None
    return value


def _jsonl(path: Path, bad: Callable[[BadInput], None]) -> Iterator[tuple[FilePosition, Row]]:
    return _objects(_lines(path, bad), bad)


def _lines(path: Path, bad: Callable[[BadInput], None]) -> Iterator[tuple[FilePosition, object]]:
    """Yield the value of each line that is not empty."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            position = FilePosition(path, number)
            try:
                value = _parsed(line, position)
            except json.JSONDecodeError as error:
                bad(BadInput(f"not JSON ({error.msg}); expected one object per line", at=str(position)))
            except BadInput as error:
                bad(error)
            else:
                yield position, value


def _json(path: Path, bad: Callable[[BadInput], None]) -> Iterator[tuple[FilePosition, Row]]:
    with open_text(path) as stream:
        text = stream.read()
    if not text.strip():
        return
    try:
        value = _parsed(text, FilePosition(path, 1))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # data sets publish JSON lines under this name too
            yield from _jsonl(path, bad)
            return
        raise BadInput(f"not JSON ({error.msg})", at=f"{path}:{error.lineno}") from error
    if isinstance(value, dict):
        named = cast("dict[str, object]", value)
        lists = [
            v
            for v in named.values()
            if isinstance(v, list) and all(isinstance(i, dict) for i in cast("list[object]", v))
        ]
        if named and all(isinstance(v, dict) for v in named.values()):  # each row under its id
            value = [{"id": key, **cast("dict[str, object]", row)} for key, row in named.items()]
        else:
            value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise BadInput("expected a list of objects", at=str(path))
    items = cast("list[object]", value)
    yield from _objects(((FilePosition(path, number), item) for number, item in enumerate(items, 1)), bad)


def _table(path: Path, bad: Callable[[BadInput], None]) -> Iterator[tuple[FilePosition, Row]]:
    """Yield the rows of a table; in a file named .csv the first line tells the delimiter."""
    with open_text(path) as stream:
        for line, row in table_rows(path, stream, "\t" if _ending(path) == ".tsv" else DELIMITERS, bad):
            yield FilePosition(path, line), row


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[FilePosition, Row]]:
    """Yield every row with its number as its line, of these columns or of all. Raises NoExtra and BadInput."""
    try:
        reader: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise NoExtra("parquet files need pyarrow; install it with: pip install 'kard[parquet]'") from error
    require_file(path)
    number = 0
    try:
        with reader.ParquetFile(path) as file:
            groups = (file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
            if max(groups, default=0) > max(LONGEST_LINE, MOST_UNPACKED * path.stat().st_size):
                raise BadInput(f"unpacks to more than {MOST_UNPACKED} times its size", at=str(path))
            chosen = [name for name in file.schema_arrow.names if columns is None or name in columns]
            follow(path, lambda: path.stat().st_size * number // max(1, file.metadata.num_rows))
            for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=chosen):
                for row in batch.to_pylist():
                    number += 1
                    yield FilePosition(path, number), row
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, NotImplementedError) as error:
        # pyarrow's own errors are children of these; a date that Python lacks is OverflowError, a zone LookupError.
        problem = str(error).partition("\n")[0]
        raise BadInput(
            f"cannot be read as parquet ({problem}); fetch the file again", at=f"{path}:{number + 1}"
        ) from error
    if not number:
        raise BadInput("the file holds no rows", at=str(path))
