"""Split texts into passages of about a hundred words, between paragraphs or else between sentences. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

LONGEST = 1.5  # a passage may be this many times the words asked for before it is split
BLOCK = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*#•]|\d+[.)])[ \t])")  # an empty line, or a list's next item
OPENS, CLOSES = "\"'(\\[\N{LEFT DOUBLE QUOTATION MARK}", "\"')\\]\N{RIGHT DOUBLE QUOTATION MARK}"
SENTENCE = re.compile(rf"[.!?][{CLOSES}]*\s+(?=[{OPENS}]*[A-Z0-9])|\n")
WORD = re.compile(r"\S+")


def split(text: str, words: int = 100) -> list[str]:
    """Return the passages of a text, in order, without white space around them; none for a text without words.

    No word is lost, repeated or moved. A text of at most 1.5 times `words` stays whole.
    """
    text = text.strip()
    if not text:
        return []
    longest = int(LONGEST * words)
    if _short(text, longest):
        return [text]
    return [text[start:end].strip() for start, end in _packed(list(_pieces(text, words)), words)]


def _short(text: str, words: int) -> bool:
    """Return whether the text has at most so many words; most texts need no splitting for that."""
    if len(text) < 2 * words:  # n characters hold at most (n + 1) / 2 words
        return True
    if text.isprintable():  # then a space is the only white space in it
        return text.count(" ") < words or len(text.split()) <= words
    return len(text.split()) <= words


def _pieces(text: str, words: int) -> Iterator[tuple[int, int, int, bool]]:
    """Yield start, end, number of words and whether a paragraph ends there, of sentences or parts of long ones."""
    for start, end in _between(BLOCK, text, 0, len(text)):
        sentences = [
            piece for sentence in _between(SENTENCE, text, start, end) for piece in _chopped(text, *sentence, words)
        ]
        for i, (a, b, n) in enumerate(sentences):
            yield a, b, n, i == len(sentences) - 1


def _between(border: re.Pattern[str], text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    for match in border.finditer(text, start, end):
        # What closes a sentence (a quotation mark) stays with it; only white space is a border.
        stop = match.end()
        if text[at:stop].strip():
            yield at, stop
        at = stop  # in any case, so that no white space is looked at twice
    if text[at:end].strip():
        yield at, end


def _chopped(text: str, start: int, end: int, words: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and words of the sentence, or of equal runs of words if it is too long for a passage."""
    count = len(text[start:end].split())
    if count <= int(LONGEST * words):
        yield start, end, count
        return
    spans = [m.span() for m in WORD.finditer(text, start, end)]
    runs = round(len(spans) / words)
    cuts = [len(spans) * i // runs for i in range(runs + 1)]
    for first, last in pairwise(cuts):
        yield spans[first][0], spans[last - 1][1], last - first


def _packed(pieces: list[tuple[int, int, int, bool]], words: int) -> Iterator[tuple[int, int]]:
    """Join pieces to passages, each near the text's mean length; one ends early where a paragraph ends."""
    left = sum(n for _, _, n, _ in pieces)
    start, held = pieces[0][0], 0
    for i, (_, end, n, closes) in enumerate(pieces):
        held += n
        rest = left - held
        following = pieces[i + 1][2] if i + 1 < len(pieces) else 0
        target = left / max(1, round(left / words))
        full = held + following / 2 > target or held + following > LONGEST * words
        early = closes and held >= 0.6 * target
        if rest and (full or early) and (rest >= words / 3 or held + rest > LONGEST * words):
            yield start, end
            start, left, held = pieces[i + 1][0], rest, 0
    yield start, pieces[-1][1]
