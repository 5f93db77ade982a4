"""A folder of .txt and .md files as documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kard.errors import BadInput
from kard.files import read_text
from kard.records import Document

TEXT_ENDINGS = (".txt", ".md", ".markdown")
FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(?:#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*|(\S.*)\n(?:=+|-{3,})[ \t]*)$", re.MULTILINE)
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*[ \t]*$", re.DOTALL | re.MULTILINE)


def folder_texts(folder: Path) -> Iterator[tuple[Path, Document]]:
    """Every text file below the folder, in the order of their paths; hidden files and folders are passed over.

    A document's key is its path below the folder, with slashes. Raises BadInput when there is none.
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


def one_text(path: Path) -> Iterator[tuple[Path, Document]]:
    """A single text file as one document."""
    yield path, text_document(path.name, path.suffix.lower(), read_text(path))


def text_document(key: str, ending: str, text: str) -> Document:
    """Markdown loses its front matter; the title is its first heading, or else the file's name."""
    title = ""
    if ending != ".txt":
        text = FRONT_MATTER.sub("", text, count=1)
        heading = HEADING.search(FENCE.sub("", text))
        title = next((g for g in heading.groups() if g), "") if heading else ""
    return Document(key, title or Path(key).stem, text.strip())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
