"""Wikitext into plain paragraphs, with the extra `wiki`. Pure once its library is there."""

from __future__ import annotations

import re
from typing import Any

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
HOLLOW = re.compile(r"\((?:[\s,;:]|\N{EN DASH})*\)")  # what a template leaves: "Bern ( ; ) is"


def plain(wikitext: str, parser: Any) -> str:
    """The text of an article by `mwparserfromhell`: paragraphs, list items and headings, each on its own line.

    Templates, tables, references, formulas, files and sections of mere pointers go; links leave their words.
    """
    blocks: list[str] = []
    skipped = 7  # level of the section of pointers that we are in; 7 is none
    for section in parser.parse(wikitext).get_sections(flat=True, include_lead=True):
        headings = section.filter_headings(recursive=False)
        title = _stripped(headings[0].title) if headings else ""
        level = int(headings[0].level) if headings else 1
        if level > skipped:
            continue
        skipped = level if POINTERS.fullmatch(title) else 7
        if skipped != 7:
            continue
        for heading in headings:
            section.remove(heading)
        body = _stripped(section)
        if body:
            blocks.append(f"{title}\n{body}" if title else body)
    return "\n\n".join(blocks)


def _stripped(code: Any) -> str:
    _drop(code)
    text = str(code.strip_code(normalize=True, collapse=False))
    text = SPACES.sub(" ", HOLLOW.sub("", MAGIC_WORD.sub("", text)))
    lines = (line.strip(" ") for line in text.splitlines())
    return EMPTY_LINES.sub("\n\n", "\n".join(lines)).replace(" ,", ",").strip()


def _drop(code: Any) -> None:
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
