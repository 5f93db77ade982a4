"""Articles out of a MediaWiki XML dump as plain paragraphs, with the extra `wiki`, one page at a time."""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

from kard.errors import BadInput, NoExtra
from kard.records import Document

INSTALL = "MediaWiki dumps need mwxml and mwparserfromhell; install them with: pip install 'kard[wiki]'"
ARTICLES = 0  # the namespace of articles; talk, user, template and category pages have others
# Sections that hold pointers to elsewhere, not knowledge.
POINTERS = re.compile(
    r"references|notes|citations|footnotes|sources|bibliography|further reading|external links|see also",
    re.IGNORECASE,
)
UNWANTED_TAGS = re.compile(
    r"\s*(ref|references|table|gallery|math|chem|timeline|imagemap|score|graph|mapframe|templatestyles|style)\s*",
    re.IGNORECASE,
)
UNWANTED_LINKS = re.compile(r"\s*(file|image|category|media)\s*:", re.IGNORECASE)
MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
SPACES = re.compile(r"[ \t\N{NO-BREAK SPACE}]+")
EMPTY_LINES = re.compile(r"\s*\n\s*\n\s*")
EMPTY_BRACKETS = re.compile(r"\((?:[\s,;:]|\N{EN DASH})*\)")  # what a template leaves: "Bern ( ; ) is"
NO_SECTION = 7  # one more than the deepest level of a heading


def dump_pages(path: Path) -> Iterator[tuple[str, Document]]:
    """Yield every article's latest text, by its page id; redirects and other namespaces are passed over.

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
                    yield f"{path}, {after}", Document(str(page.id), str(page.title), plain_text(text, parser))
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the archive is broken after {after}; fetch it again", at=str(path)) from error
    except (broken, syntax, AssertionError) as error:  # mwxml asserts that the root is <mediawiki>
        reason = str(error).partition("\n")[0] or "another root element"
        problem = f"not a MediaWiki XML dump from {after} on ({reason}); fetch it again"
        raise BadInput(problem, at=str(path)) from error
    if not pages:
        raise BadInput("the dump holds no pages", at=str(path))


def _opened(path: Path) -> IO[bytes]:
    """Open the XML as bytes: its parser wants to read the encoding itself."""
    if path.suffix == ".bz2":
        return cast("IO[bytes]", bz2.open(path))
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    return path.open("rb")


def _latest(page: Any) -> str:
    """Return the last revision's text; a dump of current pages has one revision a page."""
    text = ""
    for revision in page:
        text = revision.text or ""
    return text


def plain_text(wikitext: str, parser: Any) -> str:
    """Return an article's paragraphs, list items and headings, each on its own line. `parser`: `mwparserfromhell`.

    Templates, tables, references, formulas, files and sections of mere pointers go; links leave their words.
    """
    blocks: list[str] = []
    pointers = NO_SECTION  # level of the section of pointers that this section stands in
    for section in parser.parse(wikitext).get_sections(flat=True, include_lead=True):
        headings = section.filter_headings(recursive=False)
        title = _stripped(headings[0].title) if headings else ""
        level = int(headings[0].level) if headings else 1
        if level > pointers:
            continue
        pointers = level if POINTERS.fullmatch(title) else NO_SECTION
        if pointers != NO_SECTION:
            continue
        for heading in headings:
            section.remove(heading)
        body = _stripped(section)
        if body:
            blocks.append(f"{title}\n{body}" if title else body)
    return "\n\n".join(blocks)


def _stripped(code: Any) -> str:
    _drop_unwanted(code)
    text = str(code.strip_code(normalize=True, collapse=False))
    text = SPACES.sub(" ", EMPTY_BRACKETS.sub("", MAGIC_WORD.sub("", text)))
    lines = (line.strip(" ") for line in text.splitlines())
    return EMPTY_LINES.sub("\n\n", "\n".join(lines)).replace(" ,", ",").strip()


def _drop_unwanted(code: Any) -> None:
    unwanted = [
        *code.filter_templates(recursive=False),
        *code.filter_comments(recursive=False),
        *(link for link in code.filter_wikilinks() if UNWANTED_LINKS.match(str(link.title))),
        *(tag for tag in code.filter_tags() if UNWANTED_TAGS.fullmatch(str(tag.tag))),
        *(argument for argument in code.filter_arguments()),
    ]
    for node in unwanted:
        try:
            code.remove(node)
        except ValueError:  # it went with the node that held it
            continue
