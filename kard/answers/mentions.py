"""Cut a text into sentences of words, marks and mentions: places that name an option by letter or by text.

Every step looks a bounded number of items ahead or back, so that the time grows with the text's length alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from kard.records import LETTERS


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(words.split())


NOTHING = ""  # in place of a letter: no option of the question, or two at once
KEY = 48  # words of an option's text that count: two options that differ later are not told apart by text
NAMES = word_set("option options choice choices letter answer")
MARKS = frozenset(".,;:!?)][(<>|-\n")
_WORDS = word_set("yes no true false none both all neither maybe unknown")  # options that any sentence holds
_JOINS = word_set("and or but nor")
_AFTER = word_set(  # follow a bare letter; in "a dog" A is an article
    "and or nor but is are was would must cannot can't isn't because since as for given has seems the rather"
)
_ENDS = word_set(  # follow an option that ends a phrase
    "because since as for given due based with at to in on while which who by from so therefore thus not "
    "rather で 입"
)
_NOISE = frozenset("*_`$\"'{}~\\")  # markup and quotes
_TOUCHING = MARKS.union(_NOISE, "=!") - {"-"}  # may touch an option; other marks are part of a longer word
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts without spaces: each character is a word
_ITEM = re.compile(
    rf"答案|答え|正解|回答|정답|(?:(?<![\w)])[-+])?\d+(?:[.,:/]\d+)*|[{_ALONE}]"
    rf"|[^\W_\d{_ALONE}][^\W_{_ALONE}]*(?:'[^\W_{_ALONE}]+)*|\\[a-z]+|\n|\S",
    re.I,
)
_SIGNS = {
    "'": "\u2018\u2019\u02bc", '"': "\u201c\u201d\xab\xbb", "-": "\u2010\u2011\u2012\u2013\u2212", " - ": "\u2014",
    " ": "\xa0\u3000", ".": "\u3002", ",": "\u3001", "[": "\u3010", "]": "\u3011", "": "\xad",
}  # fmt: skip
_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_FOLD = _FULL_WIDTH | {ord(sign): plain for plain, signs in _SIGNS.items() for sign in signs}


class Item(NamedTuple):
    """A word, a mark, or a mention of an option."""

    word: str  # casefolded; of a mention, its first
    start: int
    end: int
    letter: str | None = None  # of the option that a mention names, NOTHING for none or two; None for no mention
    explicit: bool = False  # named by its letter

    @property
    def bare(self) -> bool:
        """Return whether this is an ordinary word that is also an option's text."""
        return self.letter is not None and not self.explicit and self.word in _WORDS


def folded(text: str) -> str:
    """Return the text composed, with the quotes, dashes, spaces and full-width signs of a typewriter."""
    return unicodedata.normalize("NFC", text).translate(_FOLD)


def _items(text: str) -> list[Item]:
    """Return the words and marks of a folded text, without markup."""
    items: list[Item] = []
    for match in _ITEM.finditer(text):
        word = match[0]
        if word not in _NOISE and (word[0] != "\\" or word == r"\boxed"):
            items.append(Item(word.casefold(), match.start(), match.end()))
    return items


def alike(texts: Sequence[str]) -> tuple[str, str] | None:
    """Return two texts that differ by case, markup or typography alone, so that no answer tells them apart."""
    seen: dict[tuple[str, ...], str] = {}
    for text in texts:
        words = tuple(item.word for item in _items(folded(text)))
        if words and words in seen:
            return seen[words], text
        seen[words] = text
    return None


class Options:
    """The options of one question, to be found in texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.letters = LETTERS[: len(texts)]
        exact = [tuple(item.word for item in _items(folded(text)))[:KEY] for text in texts]
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
        items, sentence, i = _items(text), list[Item](), 0
        while i < len(items):
            item, i = self._mention(text, items, i)
            after = items[i] if i < len(items) else None
            lower = after is not None and text[after.start].islower() and len(after.word) > 1
            if item.letter is not None or item.word not in ".!?\n":
                sentence.append(item)
            elif item.word != "\n":
                sentence.append(item)
                if after is not None and (
                    after.start == item.end or (item.word == "?" and (lower or after.word in ")]"))
                ):
                    continue
                yield sentence
                sentence = []
            elif sentence and not (sentence[-1].word in (":", "=") or (lower and sentence[-1].word not in MARKS)):
                yield sentence
                sentence = []
        if sentence:
            yield sentence

    def _mention(self, text: str, items: list[Item], i: int) -> tuple[Item, int]:
        """Return the mention that begins at item i, else the item itself, and the index of what comes after it."""
        (option, end), (letter, after) = self._text_at(text, items, i), self._letter_at(text, items, i)
        if option is not None and end > after:
            # "nickel (C)": a text with another option's letter names nothing.
            named, beyond = self._letter_at(text, items, end)
            bracketed = named is not None and items[end].word in "(["
            if bracketed:
                option, end = option if named == option else NOTHING, beyond
            return Item(items[i].word, items[i].start, items[end - 1].end, option, bracketed), end
        if letter is None:
            return items[i], i + 1
        letter = letter if option in (None, letter) else NOTHING  # B is the text of option A
        start = after
        while start < min(after + 3, len(items)) and items[start].word in (".", ")", ":", ",", "-", "(", "="):
            start += 1
        option, end = self._text_at(text, items, start, letter)
        # "C. A pretty girl" is one mention; in "(A): tin, however, ..." tin begins a sentence.
        apart = any(item.word in ".:,-=" for item in items[after:start])
        if option is not None and (not apart or ends(items, end)):
            letter, after = letter if letter == option else NOTHING, end
        return Item(items[i].word, items[i].start, items[after - 1].end, letter, explicit=True), after

    def _text_at(self, text: str, items: list[Item], i: int, named: str | None = None) -> tuple[str | None, int]:
        """Return the letter of the longest option text at item i and the index after it, (None, i) for none.

        An ordinary word counts only where a phrase ends with it, or where its letter was `named` before it.
        """
        if i >= len(items) or (i and _touches(text, items[i].start - 1)):
            return None, i
        for key, letter in self._keys.get(items[i].word, ()):
            end = _match(items, i, key)
            if end is None or _touches(text, items[end - 1].end):
                continue
            word = len(key) == 1 and key[0] in _WORDS and letter != named
            if not word or ends(items, end) or items[end].word in _JOINS:
                return letter, end
        return None, i

    def _letter_at(self, text: str, items: list[Item], i: int) -> tuple[str | None, int]:
        """Return the letter that is named at item i and the index after it, (None, i) for none."""
        if i >= len(items) or (i and _touches(text, items[i].start - 1)):
            return None, i
        word, start, stop, *_ = items[i]
        before, after, last = (items[k].word if 0 <= k < len(items) else "\n" for k in (i - 1, i + 1, i + 2))
        if word in "([" and last in (")", "]") and len(after) == 1 and after.isalpha():
            return self._of(after), i + 3
        if len(word) != 1 or not "a" <= word <= "z" or _touches(text, stop):
            return None, i
        upper, letter = text[start].isupper(), self._of(word)
        following = text[stop : stop + 3]
        if following[:1] == "." and (following[1:2].isalpha() or (not letter and following[2:].isupper())):
            return None, i  # initials and abbreviations: P. Woods, U.S.
        if after == ")" and before != "(" and (upper or before == "\n"):
            return letter, i + 2
        if upper:
            alone = after in MARKS or (
                word != "i"
                and (after in _AFTER or len(after) == 1 or self._text_at(text, items, i + 1)[0] == letter)
            )
        else:  # "Answer: b" and "b. 4"
            alone = before in ("\n", ":", "is", ">") and after in ".,\n<"
        return (letter, i + 1) if alone or (before in NAMES and (upper or word not in "ai")) else (None, i)

    def _of(self, letter: str) -> str:
        return letter.upper() if letter.upper() in self.letters else NOTHING


@lru_cache(maxsize=4096)
def options_of(texts: tuple[str, ...]) -> Options:
    """Return the options with these texts, from a cache."""
    return Options(texts)


def ends(items: Sequence[Item], i: int) -> bool:
    """Return whether nothing at item i makes the mention before it part of a longer phrase."""
    return i >= len(items) or (items[i].letter is None and (items[i].word in MARKS or items[i].word in _ENDS))


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
    sign = text[at : at + 1]
    return bool(sign.strip()) and sign not in _TOUCHING and not "\u3040" <= sign <= "\ud7af"
