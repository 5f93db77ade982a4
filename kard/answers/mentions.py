"""Cut a text into sentences of words, marks and mentions: places that name an option by letter or by text.

Every step looks a bounded number of tokens ahead or back, so that the time grows with the text's length alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kard.records import LETTERS

NOTHING = ""  # in place of a letter: no option of the question, or two at once
WORDS = frozenset(
    ["yes", "no", "true", "false", "none", "both", "all", "neither", "maybe", "unknown"]
)  # options that any sentence holds
KEY = 48  # tokens of an option's text that count: two options that differ later are not told apart by text

_ALONE = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts without spaces: each character is a token
_TOKEN = re.compile(
    rf"答案|答え|正解|回答|정답|(?:(?<![\w)])[-+])?\d+(?:[.,:/]\d+)*|[{_ALONE}]|[^\W_\d{_ALONE}][^\W_{_ALONE}]*(?:'[^\W_{_ALONE}]+)*"
    r"|\\[a-z]+|\n|\S",
    re.I,
)
_FOLD = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {
    **dict.fromkeys(map(ord, "\u2018\u2019\u02bc"), "'"), **dict.fromkeys(map(ord, "\u201c\u201d\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212"), "-"), 0x2014: " - ", 0xA0: " ", 0x3000: " ",
    0x3002: ".", 0x3001: ",", 0x3010: "[", 0x3011: "]", 0xAD: "",
}  # fmt: skip
_NOISE = frozenset("*_`$\"'{}~\\")  # markup and quotes
_PUNCTUATION = frozenset(".,;:!?()[]<>|\n") | _NOISE  # may touch an option; other marks are part of a longer word
JOINS = frozenset(["and", "or", "but", "nor"])
NAMES = frozenset(["option", "options", "choice", "choices", "letter", "answer"])
_AFTER = frozenset(  # words after a bare letter; "a dog" and "I think" hold none
    [
        "and",
        "or",
        "nor",
        "but",
        "is",
        "are",
        "was",
        "would",
        "must",
        "cannot",
        "can't",
        "isn't",
        "because",
        "since",
        "as",
        "for",
        "given",
        "has",
        "seems",
    ]
)
ENDS = frozenset(
    [
        "because",
        "since",
        "as",
        "for",
        "given",
        "due",
        "based",
        "with",
        "at",
        "to",
        "in",
        "on",
        "while",
        "which",
        "who",
        "by",
        "from",
        "so",
        "therefore",
        "thus",
    ]
)
MARKS = frozenset(".,;:!?)][(<>|-\n")


@dataclass(frozen=True, slots=True)
class Item:
    """A word, a mark, or a mention."""

    word: str  # casefolded
    start: int
    end: int
    letter: str | None = None  # of the option that a mention names, NOTHING for none or two; None for no mention
    explicit: bool = False  # named by its letter

    @property
    def bare(self) -> bool:
        """Return whether this is an ordinary word that is also an option's text."""
        return self.letter is not None and not self.explicit and self.word in WORDS


def folded(text: str) -> str:
    """Return the text composed, with the quotes, dashes, spaces and full-width signs of a typewriter."""
    return unicodedata.normalize("NFC", text).translate(_FOLD)


def items_in(text: str) -> list[Item]:
    """Return the words and marks of a folded text, without markup."""
    items: list[Item] = []
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word not in _NOISE and (word[0] != "\\" or word == r"\boxed"):
            items.append(Item(word.casefold(), match.start(), match.end()))
    return items


class Options:
    """The options of one question, to be found in texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.letters = LETTERS[: len(texts)]
        exact = [tuple(item.word for item in items_in(folded(text)))[:KEY] for text in texts]
        # Words alone name an option where they tell it from the others: "C" and "C++" differ in marks.
        plain = [tuple(filter(_is_word, key)) for key in exact]
        self._keys: dict[str, list[tuple[tuple[str, ...], str]]] = {}  # by their first word, the longest first
        for letter, *keys in zip(self.letters, exact, plain, strict=False):
            for key, others in zip(dict.fromkeys(keys), (exact, plain), strict=False):
                if key and others.count(key) == 1:
                    self._keys.setdefault(key[0], []).append((key, letter))
        for keys in self._keys.values():
            keys.sort(key=lambda pair: -len(pair[0]))

    def sentences(self, text: str) -> Iterator[list[Item]]:
        """Yield the sentences of a folded text. An option's own full stop ("St. Paul") does not end a sentence."""
        sentence: list[Item] = []
        items = self._with_mentions(text, items_in(text))
        for i, item in enumerate(items):
            if item.word == "\n" and item.letter is None:
                if sentence and not _goes_on(sentence[-1], items[i + 1 : i + 2], text):
                    yield sentence
                    sentence = []
                continue
            sentence.append(item)
            if item.word in (".", "!", "?") and item.letter is None:
                after = next((other for other in items[i + 1 : i + 4] if other.word not in ")]"), None)
                asked = item.word == "?" and after is not None and text[after.start].islower()
                if not asked and (after is None or after.start > item.end):
                    yield sentence
                    sentence = []
        if sentence:
            yield sentence

    def _with_mentions(self, text: str, items: list[Item]) -> list[Item]:
        found: list[Item] = []
        i = 0
        while i < len(items):
            mention, after = self._mention(text, items, i)
            found.append(mention or items[i])
            i = after if mention else i + 1
        return found

    def _mention(self, text: str, items: list[Item], i: int) -> tuple[Item | None, int]:
        """Return the mention that begins at item i, if any, and the index of the item after it."""
        by_text, end = self._text_at(text, items, i)
        letter, after = self._letter_at(text, items, i)
        if letter is None or (by_text is not None and end > after):
            if by_text is None:
                return None, i
            # "nickel (C)": a text with another option's letter names nothing.
            named, beyond = self._letter_at(text, items, end)
            if named is not None and items[end].word in "([":
                by_text, end = by_text if named == by_text else NOTHING, beyond
            explicit = named is not None and end == beyond
            return Item(items[i].word, items[i].start, items[end - 1].end, by_text, explicit), end
        if by_text is not None and by_text != letter:
            letter = NOTHING  # B is the text of option A
        start = after
        while start < min(after + 3, len(items)) and items[start].word in (".", ")", ":", ",", "-", "(", "="):
            start += 1
        by_text, end = self._text_at(text, items, start, letter)
        stopped = any(items[k].word == "." for k in range(after, start))
        if by_text is not None and (ends(items, end) if stopped or items[start].word in WORDS else True):
            letter, after = letter if letter == by_text else NOTHING, end
        return Item(items[i].word, items[i].start, items[after - 1].end, letter, explicit=True), after

    def _text_at(
        self, text: str, items: list[Item], i: int, named: str | None = None
    ) -> tuple[str | None, int]:
        """Return the letter of the longest option text at item i and the index after it, (None, i) for none.

        An ordinary word counts only where a phrase ends with it, or where its letter was `named` before it.
        """
        if i >= len(items) or (i and _touches(text, items[i].start - 1)):
            return None, i
        for key, letter in self._keys.get(items[i].word, ()):
            end = _match(items, i, key)
            if end is None or _touches(text, items[end - 1].end):
                continue
            word = len(key) == 1 and key[0] in WORDS and letter != named
            if not word or ends(items, end) or items[end].word in JOINS:
                return letter, end
        return None, i

    def _letter_at(self, text: str, items: list[Item], i: int) -> tuple[str | None, int]:
        """Return the letter that is named at item i and the index after it, (None, i) for none."""
        word = items[i].word if i < len(items) else ""
        touching = i > 0 and bool(word) and _touches(text, items[i].start - 1)
        if word in ("(", "[") and i + 2 < len(items) and items[i + 2].word in (")", "]") and not touching:
            if len(items[i + 1].word) == 1 and items[i + 1].word.isalpha():
                return self._of(items[i + 1].word), i + 3
        if len(word) != 1 or not ("a" <= word <= "z") or touching or _touches(text, items[i].end):
            return None, i
        if _initial(text, items[i]):
            return None, i
        after = items[i + 1].word if i + 1 < len(items) else "\n"
        upper = text[items[i].start].isupper()
        before = items[i - 1].word if i else "\n"
        if after == ")" and before != "(" and (upper or before == "\n"):
            return self._of(word), i + 2
        if before in NAMES and (upper or word not in "ai"):
            return self._of(word), i + 1
        if not upper:  # "Answer: b" and "b. 4"
            field = before in ("\n", ":", "is", ">") and (after in ".,\n<" or after == ")")
            return (self._of(word), i + 1) if field else (None, i)
        if word == "i":
            return (self._of(word), i + 1) if after in MARKS else (None, i)
        alone = after in MARKS or after in _AFTER or word != "a" or self._text_at(text, items, i + 1)[0] == "A"
        return (self._of(word), i + 1) if alone else (None, i)

    def _of(self, letter: str) -> str:
        return letter.upper() if letter.upper() in self.letters else NOTHING


@lru_cache(maxsize=4096)
def options_of(texts: tuple[str, ...]) -> Options:
    """Return the options with these texts, from a cache."""
    return Options(texts)


def ends(items: Sequence[Item], i: int) -> bool:
    """Return whether nothing at item i makes the mention before it part of a longer phrase."""
    return i >= len(items) or (items[i].letter is None and (items[i].word in MARKS or items[i].word in ENDS))


def _is_word(word: str) -> bool:
    return any(character.isalnum() for character in word)


def _match(items: Sequence[Item], i: int, key: tuple[str, ...]) -> int | None:
    """Return the index after the key's words at item i; marks between words are passed over, sentence ends not."""
    for part in key:
        skipped = 0
        while i < len(items) and items[i].word != part:
            if _is_word(items[i].word) or items[i].word in ".!?;:\n" or skipped == 2:
                return None
            i, skipped = i + 1, skipped + 1
        if i == len(items):
            return None
        i += 1
    return i


def _touches(text: str, at: int) -> bool:
    """Return whether the character at `at` joins the word beside it to a longer one: B-flat, C++, 12 %, 2x."""
    if not 0 <= at < len(text) or text[at].isspace() or text[at] in _PUNCTUATION:
        return False
    return not "\u3040" <= text[at] <= "\ud7af"


def _initial(text: str, item: Item) -> bool:
    """Return whether a letter belongs to initials or an abbreviation: J.D., U.S."""
    before, after = text[max(item.start - 2, 0) : item.start], text[item.end : item.end + 2]
    return (after[:1] == "." and after[1:].isalpha()) or (before[1:] == "." and before[:1].isalpha())


def _goes_on(last: Item, after: Sequence[Item], text: str) -> bool:
    """Return whether a sentence goes on in the next line: after a colon, or in lower case after a word."""
    if last.letter is None and last.word in (":", "="):
        return True
    return (
        _is_word(last.word)
        and bool(after)
        and after[0].letter is None
        and text[after[0].start].islower()
        and len(after[0].word) > 1
    )
