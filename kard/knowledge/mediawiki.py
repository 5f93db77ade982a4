"""Articles out of a MediaWiki XML dump as plain paragraphs, one page at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element, ParseError, iterparse

from kard.errors import BadInput
from kard.files import open_bytes
from kard.knowledge.wikitext import plain_text
from kard.records import Document

ARTICLES = "0"  # the namespace of articles; talk, user, template and category pages have others
PIECE = 1_000_000  # bytes: a tag or comment that spans pieces is looked at again in each of them
LONGEST = 16_000_000  # bytes of XML of one revision; MediaWiki itself allows 2 MB of text


class _Stream:
    """A stream that is read in pieces and refuses a revision, or what stands before one, beyond the limit."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.since = 0  # bytes since the last revision ended

    def read(self, size: int) -> bytes:
        """Return the next bytes, at least `size` of them unless the stream ends. Raises _TooLong."""
        piece = self._stream.read(max(size, PIECE))
        self.since += len(piece)
        if self.since > LONGEST:
            raise _TooLong
        return piece


class _TooLong(Exception):
    """More bytes than a revision may have."""


def dump_pages(path: Path) -> Iterator[tuple[str, partial[Document]]]:
    """Yield what reads each article's latest text, by its page id; redirects and other namespaces are passed over.

    Raises BadInput for a broken archive or XML and for a revision of more than `LONGEST` bytes, naming the page
    after which it stands.
    """
    after, pages = "its beginning", 0
    try:
        with open_bytes(path) as stream:
            for page, text in _pages(stream):
                pages += 1
                key, title = page.get("id", ""), " ".join(page.get("title", "").split())
                after = f"page {key} ({title})"
                if not key:
                    raise BadInput(f"the page {title!r} has no id", at=str(path))
                if page["ns"] == ARTICLES and "redirect" not in page and text:
                    yield f"{path}, {after}", partial(_article, key, title, text)
    except _TooLong:
        problem = f"more than {LONGEST:,} bytes after {after} without the end of a revision"
        raise BadInput(f"{problem}; fetch the dump again", at=str(path)) from None
    except (EOFError, zlib.error, OSError) as error:  # gzip's own error is one of the last
        raise BadInput(f"the archive is broken after {after}; fetch it again", at=str(path)) from error
    except (ParseError, ValueError, LookupError) as error:  # the last two for encodings that nobody knows
        reason = str(error).partition("\n")[0]
        problem = f"not a MediaWiki XML dump from {after} on ({reason}); fetch it again"
        raise BadInput(problem, at=str(path)) from error
    if not pages:
        raise BadInput("the dump holds no pages", at=str(path))


def _article(key: str, title: str, wikitext: str) -> Document:
    return Document(key, title, plain_text(wikitext))


def _pages(raw: IO[bytes]) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the fields of every page (`id`, `title`, `ns`, `redirect` if it is one) and its last revision's text.

    Nothing else is read: what a dump says of times and authors may be anything. Raises ValueError for another root.
    """
    stream = _Stream(raw)
    names: dict[str, str] = {}  # namespaces by name, for dumps that number no page's own
    open_tags: list[Element] = []
    page, text = dict[str, str](), ""
    for event, element in iterparse(stream, events=("start", "end")):  # type: ignore[arg-type]  # it only reads
        name = element.tag.rpartition("}")[2]
        if event == "start":
            if not open_tags and name != "mediawiki":
                raise ValueError("another root element")
            open_tags.append(element)
            continue
        open_tags.pop()
        within = open_tags[-1].tag.rpartition("}")[2] if open_tags else ""
        content = element.text or ""
        if name == "namespace":
            names[content] = element.get("key", "")
        elif within == "page" and name in ("id", "title", "ns", "redirect"):
            page[name] = content.strip()
        elif within == "revision" and name == "text":
            text = content
        elif name == "revision":
            element.clear()
            stream.since = 0
        elif name == "page":
            prefix, colon, _ = page.get("title", "").partition(":")
            page.setdefault("ns", names.get(prefix, ARTICLES) if colon else ARTICLES)
            yield page, text
            page, text = {}, ""
            open_tags[-1].clear()
