"""Wikitext as plain paragraphs: one pass over the text, one over its lines, whatever is nested or never closed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape

from kard.knowledge.templates import FRACTION, RAISED_END, SUBSCRIPT, SUPERSCRIPT, shown

DEEPEST = 40  # templates and links inside each other, as in MediaWiki; what is deeper is left out
LONGEST_RUN = 6  # braces that open together: {{{{{{ is at most two arguments or three templates
NO_MARKUP = "\x04"  # stands before text whose first characters are none, and in no page: XML has no such character
# Sections that hold pointers to elsewhere, not knowledge.
POINTERS = re.compile(
    r"references|notes|citations|footnotes|sources|bibliography|further reading|external links|see also",
    re.IGNORECASE,
)
NO_SECTION = 7  # one more than the deepest level of a heading
WITHOUT_TEXT = re.compile(
    "ref|references|table|gallery|math|chem|ce|timeline|imagemap|score|graph|mapframe|maplink|templatestyles|style"
    "|script|includeonly|templatedata|hiero"
)
LITERAL = re.compile("nowiki|pre|syntaxhighlight|source")  # what they hold is no markup
ON_LINES = re.compile("p|div|blockquote|poem|center|[uod]l|li|d[dt]|tr|caption|hr|h[1-6]|section")
AS_SPACE = re.compile("br|td|th")
WITHIN_LINES = re.compile(
    "[bisuqa]|em|strong|small|big|span|font|code|tt|var|kbd|samp|abbr|cite|dfn|del|ins|strike|bdi|bdo|mark|time|data"
    "|rp|rt|ruby|wbr|noinclude|onlyinclude|thead|tbody|tfoot|img|link|meta|inputbox|indicator"
)
TOKEN = re.compile(r"<!--|\{{2,}|\}{2,}|\[{2,}|\]{2,}|\||</?[a-zA-Z][^<>]*>")
TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)")
PAGES_WITHOUT_TEXT = re.compile(r"\s*(file|image|category|media)\s*:", re.IGNORECASE)
CONTROLS = re.compile(r"[\x00-\x08]")
MARKS = f"{SUPERSCRIPT}{SUBSCRIPT}"
RAISED = re.compile(f"([{MARKS}])([^{MARKS}{RAISED_END}]*){RAISED_END}(?=(.?))")
CHARGE = re.compile(r"(\d*)[+\-\N{MINUS SIGN}\N{EN DASH}]")  # of an ion
PLAIN_RAISED = re.compile(r"[+\-\N{MINUS SIGN}\N{EN DASH}\N{PLUS-MINUS SIGN}]?[\w.,]+")
MIXED_NUMBER = re.compile(rf"(\d){FRACTION}")
QUOTES = re.compile(r"'{2,}")
EXTERNAL = re.compile(r"\[(?:[a-zA-Z]{3,10}:)?//[^\s\[\]]*[ \t]*([^\[\]\n]*)\]")
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
EMPTY_BRACKETS = re.compile(r"\((?:[\s,;:]|\N{EN DASH})*\)")  # what a template leaves: "Bern ( ; ) is"
SPACES = re.compile(r"[ \t\N{NO-BREAK SPACE}]+")
EMPTY_LINES = re.compile(r"\n{3,}")
LIST_MARKS = "*#:; \t"


def plain_text(wikitext: str) -> str:
    """Return an article's paragraphs, list items and headings, each on its own line.

    Tables, references, formulas, files, most templates and sections of mere pointers go; links leave their words,
    inline templates (`templates.py`) what they show.
    """
    blocks: list[str] = []
    pointers = NO_SECTION  # level of the section of pointers that this section stands in
    for level, title, lines in _sections(_Reader(CONTROLS.sub("", wikitext)).text()):
        title = _clean(title)
        if level > pointers:
            continue
        pointers = level if POINTERS.fullmatch(title) else NO_SECTION
        body = _clean("\n".join(lines)) if pointers == NO_SECTION else ""
        if body:
            blocks.append(f"{title}\n{body}" if title else body)
    return "\n\n".join(blocks)


# --- what stands inside what ------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """A template's value or a link's page or label. `name` is what stands before its `=`."""

    pieces: list[str] = field(default_factory=list[str])
    name: str | None = None


@dataclass(slots=True)
class _Open:
    """A template or link that has not been closed yet; at the bottom of them the page itself, without `mark`."""

    mark: str = ""  # { or [
    count: int = 0  # of these that opened it
    parts: list[_Part] = field(default_factory=lambda: [_Part()])

    def literal(self) -> Iterator[str]:
        """Yield the text of something that nothing closes."""
        for number, part in enumerate(self.parts):
            yield "|" if number else self.mark * self.count
            if part.name is not None:
                yield f"{part.name}="
            yield from part.pieces


class _Reader:
    """Reads a page from its beginning to its end; every character is looked at a fixed number of times."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stack = [_Open()]
        self._braces = 0  # templates on the stack
        self._unclosed: set[str] = set()  # tags that nothing closes from here on

    def text(self) -> str:
        """Return the text with templates, links and tags replaced by what they show; lines are as they were."""
        text, position = self._text, 0
        while match := TOKEN.search(text, position):
            self._add(text[position : match.start()], source=True)
            position = self._take(match[0], match.end())
        self._add(text[position:], source=True)
        self._unwind(0)
        return "".join(self._stack[0].parts[0].pieces)

    def _take(self, token: str, end: int) -> int:
        """Act on the token that ends at `end`; return where to read on."""
        kind = token[0]
        if token == "<!--":
            closing = self._text.find("-->", end)
            return len(self._text) if closing < 0 else closing + 3
        if kind == "<":
            return self._tag(token, end)
        if kind in "{[":
            count = min(len(token), LONGEST_RUN if kind == "{" else 2)
            self._add(kind * (len(token) - count))
            self._stack.append(_Open(kind, count))
            self._braces += kind == "{"
        elif kind == "}":
            self._close_braces(len(token))
        elif kind == "]":
            self._close_link(len(token))
        elif self._stack[-1].mark:
            self._stack[-1].parts.append(_Part())
        else:
            self._add("|")
        return end

    def _add(self, text: str, *, source: bool = False) -> None:
        """Add text to what is open. The first `=` of a value that stands in the page's own text ends its name."""
        if not text:
            return
        if source and self._stack[-1].mark == "[" and "\n\n" in text:  # no link goes on in the next paragraph
            self._unwind(self._height("["))
        top = self._stack[-1]
        part = top.parts[-1]
        if source and part.name is None and top.mark == "{" and len(top.parts) > 1 and "=" in text:
            before, _, text = text.partition("=")
            part.name = "".join((*part.pieces, before))
            part.pieces.clear()
        part.pieces.append(text)

    def _tag(self, tag: str, end: int) -> int:
        match = TAG.match(tag)
        name = match[1].lower() if match else ""
        opens = not tag.startswith("</") and not tag.endswith("/>")
        if name in ("sup", "sub"):
            mark = SUPERSCRIPT if name == "sup" else SUBSCRIPT
            self._add(mark if opens else RAISED_END)
        elif ON_LINES.fullmatch(name):
            self._add("\n")
        elif AS_SPACE.fullmatch(name):
            self._add(" ")
        elif WITHOUT_TEXT.fullmatch(name) or LITERAL.fullmatch(name):
            closing = self._closing(name, end) if opens else None
            if closing:
                if LITERAL.fullmatch(name):
                    self._add(NO_MARKUP + self._text[end : closing.start()].replace("\n", f"\n{NO_MARKUP}"))
                return closing.end()
        elif not WITHIN_LINES.fullmatch(name):
            self._add(tag)
        return end

    def _closing(self, name: str, position: int) -> re.Match[str] | None:
        if name in self._unclosed:
            return None
        closing = re.compile(rf"</{name}\s*>", re.IGNORECASE).search(self._text, position)
        if not closing:
            self._unclosed.add(name)
        return closing

    def _close_braces(self, count: int) -> None:
        while count >= 2 and self._braces:
            if self._stack[-1].mark == "[":  # a link that is never closed closes with the template around it
                self._unwind(self._height("["))
            top = self._stack[-1]
            used = min(count, top.count, 3)
            text = ""
            if used == 2 and len(self._stack) <= DEEPEST:  # three are an argument
                values = [(part.name, "".join(part.pieces)) for part in top.parts]
                text = shown(values[0][1], values[1:])
            count -= used
            top.count -= used
            if top.count < 2:
                self._stack.pop()
                self._braces -= 1
                self._add("{" * top.count)
            else:
                top.parts = [_Part()]
            self._add(text)
        self._add("}" * count)

    def _close_link(self, count: int) -> None:
        while count >= 2 and self._stack[-1].mark == "[":
            link = self._stack.pop()
            if len(self._stack) <= DEEPEST:
                page, *labels = ("".join(part.pieces) for part in link.parts)
                label = "|".join(labels) or page.strip().removeprefix(":")
                self._add("" if PAGES_WITHOUT_TEXT.match(page) else label)
            count -= 2
        self._add("]" * count)

    def _unwind(self, height: int) -> None:
        """Take what stands above this height of the stack as the text that it is written as."""
        above = self._stack[height + 1 :]
        del self._stack[height + 1 :]
        self._braces -= sum(opened.mark == "{" for opened in above)
        for opened in above:
            self._stack[-1].parts[-1].pieces.extend(opened.literal())

    def _height(self, mark: str) -> int:
        """Return the height of the stack below all that this mark has opened at its top."""
        height = len(self._stack) - 1
        while self._stack[height].mark == mark:
            height -= 1
        return height


# --- lines ------------------------------------------------------------------------------------------


def _sections(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield level, title and lines of every section; the lead has level 1 and no title."""
    level, title, lines = 1, "", list[str]()
    tables = 0  # that are open; a heading ends all of them
    for line in text.split("\n"):
        stripped = line.strip()
        if heading := _heading(stripped):
            yield level, title, lines
            (level, title), lines, tables = heading, [], 0
        elif stripped.lstrip(": ").startswith("{|"):
            tables += 1
        elif stripped.startswith("|}"):
            tables = max(0, tables - 1)
            lines.append(stripped[2:] if not tables else "")
        elif not tables:
            lines.append(stripped.lstrip(LIST_MARKS) if not stripped.startswith("----") else stripped.lstrip("-"))
    yield level, title, lines


def _heading(line: str) -> tuple[int, str] | None:
    """Return level and title of a heading, as `== Food ==`."""
    if not (line.startswith("=") and line.endswith("=")):
        return None
    level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), NO_SECTION - 1)
    title = line[level:-level].strip()
    return (level, title) if title else None


def _clean(text: str) -> str:
    """Return the text without the marks that stand within a line, its white space put in order."""
    text = EXTERNAL.sub(r"\1", "\n".join(map(_unquoted, text.split("\n"))))
    text = ENTITY.sub(lambda entity: unescape(entity[0]), MAGIC_WORD.sub("", text))
    text = CONTROLS.sub("", MIXED_NUMBER.sub(r"\1 ", RAISED.sub(_raised, text)))
    text = SPACES.sub(" ", EMPTY_BRACKETS.sub("", text))
    lines = (line.strip() for line in text.splitlines())
    return EMPTY_LINES.sub("\n\n", "\n".join(lines)).replace(" ,", ",").strip()


def _unquoted(line: str) -> str:
    """Return the line without the apostrophes that make italics (two), bold (three) or both (five).

    Where both are left open, three are an apostrophe and two: after a word of one letter, else after a longer word,
    else after a space, as in MediaWiki.
    """
    if "''" not in line:
        return line
    runs = [(match.start(), len(match[0])) for match in QUOTES.finditer(line)]
    bold = [start for start, length in runs if length in (3, 4)]
    both = sum(length >= 5 for _, length in runs)
    possessive = -len(line)
    if (len(bold) + both) % 2 and (sum(length == 2 for _, length in runs) + both) % 2 and bold:
        possessive = min(bold, key=lambda start: (_before(line, start), start))

    def kept(match: re.Match[str]) -> str:
        length = len(match[0])
        return "'" * (1 if length == 4 else max(0, length - 5) + (match.start() == possessive))

    return QUOTES.sub(kept, line)


def _before(line: str, start: int) -> int:
    """Return 0 after a word of one letter, 1 after a longer one, 2 after a space."""
    if start < 1 or line[start - 1] == " ":
        return 2
    return 0 if start > 1 and line[start - 2] == " " else 1


def _raised(match: re.Match[str]) -> str:
    """Return a power as 10^3 and an index as H2O; where digits would run together, as 1010_2."""
    mark, raised, after = match[1], match[2].strip(), match[3]
    before = match.string[max(0, match.start() - 2) : match.start()].rstrip(RAISED_END)[-1:]
    if not raised:
        return ""
    charge = CHARGE.fullmatch(raised) if before.isalnum() and not after.isalnum() else None
    if charge and mark == SUPERSCRIPT:
        return f"{'^' if charge[1] else ''}{raised}"
    plain = raised if PLAIN_RAISED.fullmatch(raised) else f"({raised})"
    touches_digit = after.isdecimal() and plain[-1:].isdecimal()
    if mark == SUBSCRIPT:
        sign = "_" if (before.isdecimal() and plain[:1].isdecimal()) or touches_digit else ""
        plain = plain if sign else raised
    else:
        ordinal = before.isdecimal() and raised.isalpha()
        sign, plain = ("", raised) if ordinal else ("^", plain)
    return f"{sign}{plain}{' ' if touches_digit else ''}"
