"""Documents out of what people have: rows of a file, a folder of texts, parquet files, a MediaWiki dump."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

from kard.errors import BadInput
from kard.files import FilePosition, Row, parquet_rows, read_rows, read_text
from kard.knowledge.mediawiki import dump_pages
from kard.knowledge.pages import PAGE_ENDINGS, page_document
from kard.progress import follow
from kard.records import Document

Unread = Document | partial[Document]
"""A document, or what makes one of a page or file: that takes long and may be done elsewhere."""
Placed = tuple[object, Unread]
"""With the place that errors name: `str()` of it is file:line or the like."""

# Names under which data sets publish these: our own and Hugging Face's, BEIR's, PubMed's and its derivatives'.
KEYS = ("id", "_id", "pmid", "PMID", "docid")
TITLES = ("title", "articleTitle")
TEXTS = ("text", "contents", "content", "abstract", "abstractText")
ROW_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
TEXT_ENDINGS = (".txt", ".md", ".markdown")
FILE_ENDINGS = (*TEXT_ENDINGS, *PAGE_ENDINGS)  # each file is a document
FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
LONGEST_NAME = 5_000  # characters of a key or title, which stand in each of a document's passages
FENCE = re.compile(r"(`{3,}|~{3,})(.*)")  # on a line of its own: what follows is code
HEADING = re.compile(r"#{1,6}[ \t]+(.*)")
UNDERLINE = re.compile(r"(?:=+|-{3,})[ \t]*")


def documents(source: Path, *, lines: bool = False) -> Iterator[Document]:
    """Return every document with any text. With `lines`, each line of a text file is a document.

    Raises BadInput, naming the place, and NoExtra, naming the install command.
    """
    return (document for _, document in read(unread_documents(source, lines=lines)))


def place_of(source: Path, key: str, *, lines: bool = False) -> str:
    """Return where the document `key` stands for the last time; the source's path if it does not."""
    last: object = source
    for place, document in read(unread_documents(source, lines=lines)):
        if document.key == key:
            last = place
    return str(last)


def unread_documents(source: Path, *, lines: bool = False) -> Iterator[Placed]:
    """Return every document as it is or unread, and where it stands. Raises BadInput."""
    if not source.exists():
        raise BadInput("no such file or folder; check the path", at=str(source))
    return _lines(source) if lines else _reader(source)(source)


def read(documents: Iterable[Placed], *, skip_bad: bool = False) -> Iterator[tuple[object, Document]]:
    """Yield the documents with any text.

    Raises BadInput for one that cannot be read, naming its place; with `skip_bad` a file of a folder is left out.
    """
    for place, unread in documents:
        try:
            document = unread if isinstance(unread, Document) else unread()
        except BadInput:
            if skip_bad:
                continue
            raise
        for name, value in (("id", document.key), ("title", document.title)):
            if len(value) > LONGEST_NAME:
                raise BadInput(f"{name} of {len(value):,} characters; at most {LONGEST_NAME:,}", at=str(place))
        if document.text.strip():
            yield place, document


def left_out(folder: Path, documents: Collection[str]) -> list[str]:
    """Return the files of a folder that brought none of these documents, each with the reason, in their order."""
    if not folder.is_dir() or _reader(folder) is not _folder:
        return []
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    missing = {key: path for key, path in files.items() if key not in documents and not _hidden(Path(key))}
    return [f"{key} ({_reason(path, key)})" for key, path in missing.items()]


def _reason(path: Path, key: str) -> str:
    if path.suffix.lower() not in FILE_ENDINGS:
        return "not of a kind that is read"
    try:
        _document(path, key)
    except BadInput as error:
        return str(error).removeprefix(f"{path}").lstrip(":0123456789 ")
    return "no text; pictures of text need OCR first" if path.suffix.lower() == ".pdf" else "no text"


def size(source: Path) -> int:
    """Return the bytes of the files that are read of a source."""
    files = [source]
    if source.is_dir():
        files = _corpus(source) or list(source.rglob("*.parquet")) or _texts(source)
    return sum(file.stat().st_size for file in files if file.is_file())


def _reader(source: Path) -> Callable[[Path], Iterator[Placed]]:
    if source.is_dir():
        if _corpus(source):
            return lambda folder: chain.from_iterable(map(_rows, _corpus(folder)))
        return _parquet if any(source.rglob("*.parquet")) else _folder
    name = source.name.lower()
    uncompressed = name.removesuffix(".gz").removesuffix(".bz2")
    if uncompressed.endswith(".xml"):
        return dump_pages
    if uncompressed.endswith(ROW_ENDINGS):
        return _rows
    if name.endswith(".parquet"):
        return _parquet
    if name.endswith(FILE_ENDINGS):
        return _text_file
    endings = ", ".join((*ROW_ENDINGS, ".parquet", ".xml", *FILE_ENDINGS))
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


def _as_documents(rows: Iterator[tuple[object, Row]]) -> Iterator[Placed]:
    for place, row in rows:
        try:
            yield place, document_of(row)
        except ValueError as error:
            raise BadInput(str(error), at=str(place)) from error


def _rows(path: Path) -> Iterator[Placed]:
    return _as_documents(read_rows(path))


def _parquet(path: Path) -> Iterator[Placed]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    columns = (*KEYS, *TITLES, *TEXTS)
    return _as_documents(chain.from_iterable(parquet_rows(file, columns) for file in files))


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


def _text_file(path: Path) -> Iterator[Placed]:
    yield path, partial(_document, path, path.name)


def _document(path: Path, key: str) -> Document:
    ending = path.suffix.lower()
    return page_document(path, key) if ending in PAGE_ENDINGS else text_document(key, ending, read_text(path))


def _one_of_many(path: Path, key: str) -> Document:
    try:
        return _document(path, key)
    except BadInput as error:
        raise BadInput(f"{error}; leave such files out with: --skip-bad") from error


def _lines(path: Path) -> Iterator[Placed]:
    """Yield a document for each line with any text; its key is the file's name and the line's number."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield FilePosition(path, number), Document(f"{path.name}:{number}", "", line.strip())


def _corpus(folder: Path) -> list[Path]:
    """Return a data set's files of documents: corpus.jsonl, corpus.jsonl.gz or the like, as BEIR publishes them."""
    files = (path for path in folder.glob("corpus.*") if path.is_file())
    return sorted(p for p in files if p.name.removesuffix(".gz").removesuffix(".bz2").endswith(ROW_ENDINGS))


def _folder(folder: Path) -> Iterator[Placed]:
    """Yield every text file below the folder, in the order of their paths, without hidden files and folders.

    A document's key is its path below the folder, with slashes. Raises BadInput if there is none.
    """
    paths = _texts(folder)
    if not paths:
        raise BadInput(f"the folder holds no {', '.join(FILE_ENDINGS)} or .parquet files", at=str(folder))
    for path in sorted(paths):
        follow(path, lambda path=path: path.stat().st_size)
        yield path, partial(_one_of_many, path, path.relative_to(folder).as_posix())


def _texts(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in FILE_ENDINGS and path.is_file() and not _hidden(path.relative_to(folder))
    ]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
