"""Documents out of what people have: rows of a file, a folder of texts, parquet files, a MediaWiki dump."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from kard.errors import BadInput
from kard.files import Row, read_rows
from kard.knowledge.folders import TEXT_ENDINGS, folder_texts, one_text
from kard.knowledge.mediawiki import dump_pages
from kard.knowledge.parquet import parquet_rows
from kard.records import Document

Placed = Iterator[tuple[object, Document]]
"""Documents, each with the place that errors name: `str()` of it is file:line or the like."""

# Names under which data sets publish these: our own and Hugging Face's, BEIR's, PubMed's and its derivatives'.
KEYS = ("id", "_id", "pmid", "PMID", "docid")
TITLES = ("title", "articleTitle")
TEXTS = ("text", "contents", "content", "abstract", "abstractText")
ROW_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")


def documents(source: Path) -> Iterator[Document]:
    """Every document with any text. Raises BadInput, naming the place, and NoExtra, naming the install command."""
    return (document for _, document in placed(source))


def place_of(source: Path, key: str) -> str:
    """Where the document `key` stands for the last time; the source's path when it does not."""
    at: object = source
    for place, document in placed(source):
        if document.key == key:
            at = place
    return str(at)


def placed(source: Path) -> Placed:
    """Every document with any text, and where it stands."""
    if not source.exists():
        raise BadInput("no such file or folder; check the path", at=str(source))
    found = _reader(source)(source)
    return ((place, document) for place, document in found if document.text.strip())


def _reader(source: Path) -> Callable[[Path], Placed]:
    if source.is_dir():
        return _parquet if any(source.rglob("*.parquet")) else folder_texts
    name = source.name.lower()
    bare = name.removesuffix(".gz").removesuffix(".bz2")
    if bare.endswith(".xml"):
        return dump_pages
    if bare.endswith(ROW_ENDINGS):
        return _rows
    if name.endswith(".parquet"):
        return _parquet
    if name.endswith(TEXT_ENDINGS):
        return one_text
    endings = ", ".join((*ROW_ENDINGS, ".parquet", ".xml", *TEXT_ENDINGS))
    raise BadInput(
        f"cannot tell the format from the name; use a folder of texts or one of {endings}", at=str(source)
    )


def _rows(path: Path) -> Placed:
    return _as_documents(read_rows(path))


def _parquet(path: Path) -> Placed:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    wanted = (*KEYS, *TITLES, *TEXTS)
    return _as_documents(chain.from_iterable(parquet_rows(file, wanted) for file in files))


def _as_documents(rows: Iterator[tuple[object, Row]]) -> Placed:
    for place, row in rows:
        try:
            yield place, document_of(row)
        except ValueError as error:
            raise BadInput(str(error), at=str(place)) from error


def document_of(row: Mapping[str, object]) -> Document:
    """The document that a row is, whatever its data set calls the columns. Raises ValueError with what is wrong."""
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
    """The first of these columns that is there and not null."""
    return next((row[name] for name in names if row.get(name) is not None), None)
