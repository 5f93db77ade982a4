"""What a text is made of, for measures of rationales: words, their stems, names, and runs of words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tantivy import TextAnalyzer

# Words that every English text has, and those with which any rationale leads up to its answer: a passage that
# holds them supports nothing, and one that lacks them leaves nothing unsupported.
_COMMON = """
    a about above according accordingly additionally after again against all also although am among an and
    answer answers any are aren as asking asks at based be because been before being below between both but by
    can cannot choice choices choose conclude conclusion consequently consider considering correct could couldn
    determine did didn do does doesn doing don down during each either etc even ever every fact facts false few
    finally first firstly for from further furthermore given had hadn has hasn have haven having he hence her
    here hers herself him himself his how however i if in incorrect information into is isn it its itself just
    know last lastly least less let likely made make many may me mean means might more moreover most much must
    mustn my myself need needn neither next no nor not now of off on once one only option options or other
    others our ours ourselves out over overall own per possible question questions rather reason reasons right s
    same second secondly see shall she should shouldn since so some specifically statement step still such t
    than that the their theirs them themselves then there therefore these they third thirdly this those though
    through thus to too true two under understand unlikely until up upon us use used using very was wasn we well
    were weren what when where whether which while who whom whose why will with within without would wouldn
    wrong yes yet you your yours yourself
    """
COMMON = frozenset(_COMMON.split())
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"[.!?:;\n]\W*$")  # what stands before the first word of a sentence
# Capitalised words in a row, small words of names between them; or a number with its separators.
_CAPITAL = r"[^\W\d_a-zß-öø-ÿ][\w'\u2019-]*"
_NAME = re.compile(
    rf"(?<![\w'\u2019]){_CAPITAL}(?:\s+(?:(?:of|the|de|von|van|la|and)\s+){{0,2}}{_CAPITAL})*"
    r"|(?<![\w.,])\d+(?:[.,:]\d+)*(?!\w)"
)


def words(text: str) -> list[str]:
    """The words in their order, without case."""
    return _WORD.findall(text.casefold())


def runs(text: list[str], length: int) -> list[tuple[str, ...]]:
    """Every run of `length` words in their order; the whole text where it is shorter, [] where it is empty."""
    if len(text) < length:
        return [tuple(text)] if text else []
    return list(zip(*(text[i:] for i in range(length)), strict=False))


def content(text: list[str]) -> set[str]:
    """The stems of the words that say something."""
    return {stem(word) for word in set(text) - COMMON if len(word) > 1 or word.isdigit()}


@cache
def stem(word: str) -> str:
    """The English Snowball stem, as the search index has it."""
    found = _analyser().analyze(word)
    return found[0] if found else word


@cache
def _analyser() -> TextAnalyzer:
    from kard.knowledge.bm25 import analyser

    return analyser()


def names(text: str) -> set[str]:
    """Names and numbers, as `plain` writes them: capitalised words in a row, but for a sentence's first word.

    A first word counts with the capitalised words that follow it, or where the text has it inside a sentence too;
    common words and single letters are no names.
    """
    inside: set[str] = set()
    first: set[str] = set()
    for start, parts in _spans(text):
        if not parts:
            continue
        opens = start == 0 or _SENTENCE.search(text[max(0, start - 4) : start]) is not None
        (first if opens and len(parts) == 1 and not parts[0].isdigit() else inside).add(" ".join(parts))
    known = {word for name in inside for word in name.split()}
    return inside | {name for name in first if name in known}


def _spans(text: str) -> Iterator[tuple[int, list[str]]]:
    for match in _NAME.finditer(text):
        if not (match[0][0].isupper() or match[0][0].isdigit()):
            continue  # the pattern knows the small letters of western Europe alone
        parts = words(match[0])
        while parts and (parts[0] in COMMON or parts[0] == "the"):
            del parts[0]  # "The Colosseum", "Did Rome"
        if parts and parts[-1] == "s":
            del parts[-1]  # "Tolkien's"
        if parts and not (len(parts) == 1 and len(parts[0]) == 1 and parts[0].isalpha()):
            yield match.start(), parts


def plain(text: list[str]) -> str:
    """The words with one space around each: whether it holds ` NAME ` tells whether the name stands there."""
    return f" {' '.join(text)} "
