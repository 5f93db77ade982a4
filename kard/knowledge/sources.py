"""Documents out of what people have: rows of a file, a folder of texts, parquet files, a MediaWiki dump."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from kard.errors import BadInput, NoExtra
from kard.files import LONGEST_LINE, MOST_UNPACKED, FilePosition, Row, read_rows, read_text
from kard.knowledge.mediawiki import dump_pages
from kard.records import Document

PlacedDocuments = Iterator[tuple[object, Document]]
"""Documents, each with the place that errors name: `str()` of it is file:line or the like."""

# Names under which data sets publish these: our own and Hugging Face's, BEIR's, PubMed's and its derivatives'.
KEYS = ("id", "_id", "pmid", "PMID", "docid")
TITLES = ("title", "articleTitle")
TEXTS = ("text", "contents", "content", "abstract", "abstractText")
ROW_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
TEXT_ENDINGS = (".txt", ".md", ".markdown")
PARQUET_BATCH = 1_000  # rows in memory at a time
FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
LONGEST_NAME = 5_000  # characters of a key or title, which stand in each of a document's passages
FENCE = re.compile(r"(`{3,}|~{3,})(.*)")  # on a line of its own: what follows is code
HEADING = re.compile(r"#{1,6}[ \t]+(.*)")
UNDERLINE = re.compile(r"(?:=+|-{3,})[ \t]*")


def documents(source: Path) -> Iterator[Document]:
    """Return every document with any text.

    Raises BadInput, naming the place, and NoExtra, naming the install command.
    """
    return (document for _, document in placed_documents(source))


def place_of(source: Path, key: str) -> str:
    """Return where the document `key` stands for the last time; the source's path if it does not."""
    last: object = source
    for place, document in placed_documents(source):
        if document.key == key:
            last = place
    return str(last)


def placed_documents(source: Path) -> PlacedDocuments:
    """Return every document with any text, and where it stands. Raises BadInput."""
    if not source.exists():
        raise BadInput("no such file or folder; check the path", at=str(source))
    return _with_text(_reader(source)(source))


def _with_text(placed: PlacedDocuments) -> PlacedDocuments:
    for place, document in placed:
        for name, value in (("id", document.key), ("title", document.title)):
            if len(value) > LONGEST_NAME:
                raise BadInput(f"{name} of {len(value):,} characters; at most {LONGEST_NAME:,}", at=str(place))
        if document.text.strip():
            yield place, document


def _reader(source: Path) -> Callable[[Path], PlacedDocuments]:
    if source.is_dir():
        return _parquet if any(source.rglob("*.parquet")) else _folder
    name = source.name.lower()
    uncompressed = name.removesuffix(".gz").removesuffix(".bz2")
    if uncompressed.endswith(".xml"):
        return dump_pages
    if uncompressed.endswith(ROW_ENDINGS):
        return _rows
    if name.endswith(".parquet"):
        return _parquet
    if name.endswith(TEXT_ENDINGS):
        return _text_file
    endings = ", ".join((*ROW_ENDINGS, ".parquet", ".xml", *TEXT_ENDINGS))
    raise BadInput(
        f"cannot tell the format from the name; use a folder of texts or one of {endings}", at=str(source)
    )


# --- rows -----------------------------------------------------------------------------------------


def document_of(row: Mapping[str, object]) -> Document:
    """Return the document of a row, whatever its data set calls the columns. Raises ValueError with the problem."""
    key, title, text = row.get("id"), row.get("title"), row.get("text")
    if type(key) is str and type(title) is str and type(text) is str and key:
        return Document(key, title, text)
    key = _first(row, KEYS)
    if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
        raise ValueError(f"no id; a row needs one of {', '.join(KEYS)}, a text or a whole number")
    title = _first(row, TITLES)
    title = "" if title is None else title
    if not isinstance(title, str):
        raise ValueError(f"the title of {key!r} is not a text but {type(title).__name__}")
    if not any(name in row for name in TEXTS):
        raise ValueError(f"no text for {key!r}; a row needs one of {', '.join(TEXTS)}")
    text = _first(row, TEXTS)
    if isinstance(text, list):  # PubMed's structured abstracts: one string a section
        text = "\n\n".join(part for part in text if isinstance(part, str))
    text = "" if text is None else text
    if not isinstance(text, str):
        raise ValueError(f"the text of {key!r} is not a text but {type(text).__name__}")
    return Document(str(key), title, text)


def _first(row: Mapping[str, object], names: tuple[str, ...]) -> object:
    """Return the first of these columns that exists and is not null."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _as_documents(rows: Iterator[tuple[object, Row]]) -> PlacedDocuments:
    for place, row in rows:
        try:
            yield place, document_of(row)
        except ValueError as error:
            raise BadInput(str(error), at=str(place)) from error


def _rows(path: Path) -> PlacedDocuments:
    return _as_documents(read_rows(path))


def _parquet(path: Path) -> PlacedDocuments:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return _as_documents(chain.from_iterable(map(_parquet_rows, files)))


def _parquet_rows(path: Path) -> Iterator[tuple[FilePosition, Row]]:
    """Yield every row with its number as its line, of the needed columns only. Raises NoExtra and BadInput."""
    try:
        reader: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise NoExtra("parquet files need pyarrow; install it with: pip install 'kard[parquet]'") from error
    number = 0
    try:
        with reader.ParquetFile(path) as file:
            groups = (file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
            if max(groups, default=0) > max(LONGEST_LINE, MOST_UNPACKED * path.stat().st_size):
                raise BadInput(f"unpacks to more than {MOST_UNPACKED} times its size", at=str(path))
            columns = [name for name in file.schema_arrow.names if name in (*KEYS, *TITLES, *TEXTS)]
            for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=columns):
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


# --- texts ----------------------------------------------------------------------------------------


def text_document(key: str, ending: str, text: str) -> Document:
    """Return the document of a text; Markdown loses its front matter.

    The title of Markdown is its first heading. Without one, and for plain text, it is the file's name.
    """
    title = ""
    if ending != ".txt":
        text = FRONT_MATTER.sub("", text, count=1)
        title = _first_heading(text)
    return Document(key, title or Path(key).stem, text.strip())


def _first_heading(text: str) -> str:
    """Return the first heading of a Markdown text, of at most `LONGEST_NAME` characters; '' if there is none.

    Headings in code do not count, and code that is never ended goes to the end of the text.
    """
    code = before = ""  # the marks that began the code, the line before
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if code:
            code = "" if line.startswith(code) and not line.strip(" \t`~") else code
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            code = mark[1]
        else:
            heading = HEADING.match(line)
            title = _without_closing(heading[1].strip(" \t")) if heading else ""
            if before[:1].strip() and UNDERLINE.fullmatch(line):
                title = before.strip(" \t")
            if 0 < len(title) <= LONGEST_NAME:
                return title
        before = "" if mark else line
    return ""


def _without_closing(title: str) -> str:
    """Return `Ants` for `Ants ##`, and `C#` as it is."""
    rest = title.rstrip("#")
    return title if rest and rest[-1] not in " \t" else rest.strip(" \t")


def _text_file(path: Path) -> PlacedDocuments:
    yield path, text_document(path.name, path.suffix.lower(), read_text(path))


def _folder(folder: Path) -> PlacedDocuments:
    """Yield every text file below the folder, in the order of their paths, without hidden files and folders.

    A document's key is its path below the folder, with slashes. Raises BadInput if there is none.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in TEXT_ENDINGS and path.is_file() and not _hidden(path.relative_to(folder))
    )
    if not paths:
        raise BadInput(f"the folder holds no {', '.join(TEXT_ENDINGS)} or .parquet files", at=str(folder))
    for path in paths:
        yield path, text_document(path.relative_to(folder).as_posix(), path.suffix.lower(), read_text(path))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
