"""Articles out of a MediaWiki XML dump, with the extra `wiki`, one page at a time."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

from kard.errors import BadInput, NoExtra
from kard.knowledge.wikitext import plain
from kard.records import Document

INSTALL = "MediaWiki dumps need mwxml and mwparserfromhell; install them with: pip install 'kard[wiki]'"
ARTICLES = 0  # the namespace of articles; talk, user, template and category pages have others


def dump_pages(path: Path) -> Iterator[tuple[str, Document]]:
    """Every article's latest text, by its page id; redirects and other namespaces are passed over.

    Raises NoExtra, and BadInput for a broken archive or XML, naming the page after which it breaks.
    """
    try:
        mwxml: Any = import_module("mwxml")
        parser: Any = import_module("mwparserfromhell")
        broken: Any = import_module("mwxml.errors").MalformedXML
        syntax: Any = import_module("xml.etree.ElementTree").ParseError
    except ImportError as error:
        raise NoExtra(INSTALL) from error
    after, pages = "its beginning", 0
    try:
        with _opened(path) as stream:
            for page in mwxml.Dump.from_file(stream).pages:
                pages += 1
                text = _latest(page)
                after = f"page {page.id} ({page.title})"
                if page.namespace == ARTICLES and page.redirect is None and text:
                    yield f"{path}, {after}", Document(str(page.id), str(page.title), plain(text, parser))
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the archive is broken after {after}; fetch it again", at=str(path)) from error
    except (broken, syntax, AssertionError) as error:  # mwxml asserts that the root is <mediawiki>
        said = str(error).partition("\n")[0] or "another root element"
        problem = f"not a MediaWiki XML dump from {after} on ({said}); fetch it again"
        raise BadInput(problem, at=str(path)) from error
    if not pages:
        raise BadInput("the dump holds no pages", at=str(path))


def _opened(path: Path) -> IO[bytes]:
    """The XML as bytes: its parser wants to read the encoding itself."""
    if path.suffix == ".bz2":
        return cast("IO[bytes]", bz2.open(path))
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    return path.open("rb")


def _latest(page: Any) -> str:
    """The last revision's text; a dump of current pages has one revision a page."""
    text = ""
    for revision in page:
        text = revision.text or ""
    return text
