"""Documents of HTML and PDF files as text; headings and tables of HTML become Markdown."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from kard.errors import BadInput, NoExtra
from kard.files import read_text
from kard.records import Document

PAGE_ENDINGS = (".html", ".htm", ".pdf")


def page_document(path: Path, key: str) -> Document:
    """Return the document of a file; its title is the page's own, else the file's name.

    Raises BadInput for a file that cannot be read, NoExtra, naming the install command, without the reader.
    """
    title, text = _pdf(path) if path.suffix.lower() == ".pdf" else _html(path)
    return Document(key, " ".join(title.split()) or Path(key).stem, text.strip())


def _reader(module: str, path: Path) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        problem = (
            f"{path.suffix.lower()[1:].upper()} files need {module}; install it with: pip install 'kard[pages]'"
        )
        raise NoExtra(problem) from error


def _html(path: Path) -> tuple[str, str]:
    """Return title and text without menus and other furniture."""
    trafilatura = _reader("trafilatura", path)
    html = read_text(path)
    metadata = trafilatura.extract_metadata(html)
    text = trafilatura.extract(
        html, output_format="markdown", include_tables=True, include_comments=False, favor_recall=True
    )
    return (metadata and metadata.title) or "", text or ""


def _pdf(path: Path) -> tuple[str, str]:
    """Return title and text, page after page."""
    pypdf = _reader("pypdf", path)
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it grumbles about is read all the same, or raised
    try:
        document = pypdf.PdfReader(path)
        title = (document.metadata and document.metadata.title) or ""
        return str(title), "\n\n".join(page.extract_text() for page in document.pages)
    except Exception as error:  # whatever a broken file makes of the reader
        raise BadInput(f"cannot be read as PDF ({type(error).__name__})", at=str(path)) from error
