"""Find where a sentence names an option: by its letter in brackets, its bare letter, or its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kard.records import LETTERS

_EITHER = re.compile(r"\b(?:yes|true)(?: or |/|-)(?:no|false) (?=(?:question|answer|problem|statement)\b)", re.I)
_FOLD = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-", 0x2212: "-", 0xA0: " "}
NOTHING = ""  # in place of a letter: no option of the question, or two at once

# Options that are ordinary words of any sentence. They count only where an answer is announced.
WORDS = frozenset({"yes", "no", "true", "false", "none", "both", "all", "neither", "maybe", "unknown"})

# A sentence may contain a question: the answer to "Is it?" is no.
_SENTENCE_END = re.compile(r"""(?<=[.!])["')\]*]*\s+|(?<=\?)["')\]*]*\s+(?![a-z])|\n+""")
_BRACKETED = re.compile(r"[(\[{]\s*([A-Za-z])\s*[)\]}]|(?<![\w(])([A-Z])\)")
_NAMED = re.compile(r"\b(?i:options?|choices?|letter)\s+[\"'*_]*([A-Z])\b(?![']\w)()")
_BARE = re.compile(  # A before punctuation or a conjunction is a letter; in "A dog" it is an article
    r"(?<![\w'.-])([A-Z])(?=[\"'*_]*(?:\s*[.,;:\]](?!\w)|\s+-|\s*$"
    r"|\s*\(|\s+(?:because|since|as|and|or|is|would|must|the (?:correct|right|best))\b))()"
)
_LETTER_BEFORE = re.compile(r"(?<![\w'])([A-Z])[\s:.,-]+$")
_OPENS, _CLOSES = re.compile(r"""["']$"""), re.compile(r"""[.,!]?["'](?!\w)""")
ENDS = re.compile(  # follows a "no" that is the answer, unlike the "no" of "no dog"
    r"""^["')\]*_]*(?:\s*[.,;:!?](?!\w)|\s+-|\s*$|\s+(?:because|since|as|for|and|but|if|given|due|based|with|at|to)\b)""",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Mention:
    """A place in a sentence that names an option."""

    start: int
    end: int
    letter: str  # NOTHING if it is no option of the question, or two at once
    explicit: bool  # named by its letter
    word: bool = False  # named by an ordinary word that is not in quotes


class Options:
    """The options of one question, to be found in texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        texts = [text.translate(_FOLD) for text in texts]
        self.letters = LETTERS[: len(texts)]
        plain = [_plain(text) for text in texts]
        same = [" ".join(text.split()).casefold() for text in texts]
        self.words = {letter for letter, norm in zip(self.letters, plain, strict=False) if norm in WORDS}
        forms: list[tuple[int, str, str]] = []
        for letter, text, norm in zip(self.letters, texts, plain, strict=False):
            if text.strip() and same.count(" ".join(text.split()).casefold()) == 1:
                # Punctuation counts only where nothing else tells two options apart ("C" and "C++").
                alone = bool(norm) and plain.count(norm) == 1
                forms.append((len(norm if alone else text), letter, _loose(norm) if alone else _literal(text)))
        forms.sort(key=lambda form: (-form[0], form[1]))
        self._letter_of = {f"o{i}": letter for i, (_, letter, _) in enumerate(forms)}
        pattern = "|".join(f"(?P<o{i}>{form})" for i, (_, _, form) in enumerate(forms))
        self._texts = re.compile(pattern or r"(?!)", re.I)

    def texts_in(self, text: str) -> list[tuple[int, int, str]]:
        """Return start, end and letter of each option text. The longest counts where several could stand."""
        return [(m.start(), m.end(), self._letter_of[str(m.lastgroup)]) for m in self._texts.finditer(text)]

    def sentences(self, text: str) -> Iterator[str]:
        """Yield the sentences in order. An option's own full stop ("St. Paul") does not end a sentence."""
        spans = self.texts_in(text)
        start = 0
        for end in _SENTENCE_END.finditer(text):
            if any(a < end.start() and end.end() < b for a, b, _ in spans):
                continue
            if text[start : end.start()].strip():
                yield text[start : end.start()]
            start = end.end()
        if text[start:].strip():
            yield text[start:]

    def mentions(self, sentence: str) -> list[Mention]:
        """Return every mention of an option in the sentence, in order."""
        texts = self.texts_in(sentence)
        mentions: dict[int, Mention] = {}  # by the start of the letter or text
        covered: set[int] = set()  # starts of texts that belong to a letter before them
        for pattern in (_BRACKETED, _NAMED, _BARE):
            for match in pattern.finditer(sentence):
                group = 1 if match[1] else 2
                at = match.start(group)
                if at in mentions or any(a <= at < b and (a, b) != (at, at + 1) for a, b, _ in texts):
                    continue  # the A of "vitamin A" is part of an option's text
                letter = match[group].upper()
                letter, end = letter if letter in self.letters else NOTHING, match.end()
                if pattern is not _BRACKETED and any(a == at and of_text != letter for a, _, of_text in texts):
                    letter = NOTHING  # B is the text of option A
                for a, b, of_text in texts:
                    if a >= end and not sentence[end:a].strip(" \t:.,;-*_\"'(="):
                        if of_text == letter or of_text not in self.words or ENDS.match(sentence[b:]):
                            covered.add(a)  # "(B) no": a letter with another option's text names nothing
                            letter, end = letter if of_text == letter else NOTHING, b
                        break
                mentions[at] = Mention(match.start(), end, letter, explicit=True)
        for a, b, letter in texts:
            if a in covered or any(m.start <= a < m.end for m in mentions.values()):
                continue
            before = _LETTER_BEFORE.search(sentence[:a])
            explicit = before is not None and before[1] == letter  # "A tin", where A is tin
            start = before.start() if before and explicit else a
            quoted = _OPENS.search(sentence[:a]) and _CLOSES.match(sentence[b:])
            mentions[a] = Mention(start, b, letter, explicit, letter in self.words and not quoted)
        return sorted(mentions.values(), key=lambda m: m.start)


@lru_cache(maxsize=4096)
def options_of(texts: tuple[str, ...]) -> Options:
    """Return the options with these texts, from a cache."""
    return Options(texts)


def folded(text: str) -> str:
    """Return the text with typewriter quotes, dashes and spaces, without the options of "a yes or no question"."""
    return _EITHER.sub("", text.translate(_FOLD))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text)).casefold()


def _loose(norm: str) -> str:
    return _edged(r"[\W_]+".join(re.escape(word) for word in norm.split()), norm)


def _literal(text: str) -> str:
    text = text.strip()
    return _edged(r"\s+".join(re.escape(part) for part in text.split()), text)


def _edged(pattern: str, text: str) -> str:
    """Return the pattern for a text that stands alone: not part of a word, of a number, or of `no one`."""
    before = r"(?<!\w)" if text[0].isalnum() else ""
    after = r"(?!\w)" if text[-1].isalnum() else ""
    if text[0].isdigit():  # 12 is not in -12, 3.12 or 1,120
        before += r"(?<![\s(]-)(?<!^-)(?<!\d[.,:/])"
    if text[-1].isdigit():
        after += r"(?![.,:/]\d)"
    if text == "no":
        after += r"(?!\s+(?:one|longer|doubt|way|matter|known)\b)"
    return before + pattern + after
