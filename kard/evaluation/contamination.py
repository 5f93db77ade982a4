"""Whether the text of a held-out question stands in what was trained on or is read: n-gram overlap. Pure.

Thirteen words in a row are the usual measure of contamination (Brown et al., arXiv 2005.14165, appendix C). A
question of fewer words must stand in the text whole. One of fewer than five words must be the whole text, since a
few words stand somewhere by chance.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

NGRAM_WORDS = 13
MIN_WORDS = 5  # of a question that is looked for inside longer texts
_WORD = re.compile(r"[^\W_]+")

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """A question whose n-grams stand in a text."""

    question: int
    share: float  # of its n-grams, in (0, 1]

    @property
    def kind(self) -> str:
        """Return 'text' if the whole question stands in the text, 'ngrams' if a part does."""
        return "text" if self.share == 1 else "ngrams"


def normalized_words(text: str) -> Words:
    """Return the words of a text in compatibility form, without case and punctuation."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def word_ngrams(words: Words) -> set[Words]:
    """Return every run of thirteen words; the whole of a shorter text."""
    if len(words) <= NGRAM_WORDS:
        return {words}
    return {words[i : i + NGRAM_WORDS] for i in range(len(words) - NGRAM_WORDS + 1)}


class QuestionFinder:
    """Finds held-out questions (text by id) in any number of texts.

    Each n-gram is stored under its rarest word. A text then costs one look-up per word and few comparisons.
    """

    def __init__(self, questions: Mapping[int, str]) -> None:
        words_by_id = {id: normalized_words(text) for id, text in questions.items()}
        self._counts: dict[int, int] = {}  # n-grams of each question
        self._short: dict[Words, list[int]] = defaultdict(list)  # questions that must be the whole text
        self._questions: dict[Words, list[int]] = defaultdict(list)  # by n-gram
        for id, words in words_by_id.items():
            if len(words) < MIN_WORDS:
                self._short[words].append(id)
                continue
            ngrams = word_ngrams(words)
            self._counts[id] = len(ngrams)
            for ngram in ngrams:
                self._questions[ngram].append(id)
        frequency = Counter(word for words in words_by_id.values() for word in set(words))
        self._by_rarest: dict[str, list[tuple[int, Words]]] = defaultdict(list)  # position of the word, n-gram
        for ngram in self._questions:
            position = min(range(len(ngram)), key=lambda i: (frequency[ngram[i]], -len(ngram[i]), i))
            self._by_rarest[ngram[position]].append((position, ngram))

    def find(self, text: str) -> list[Overlap]:
        """Return the questions that stand in the text, whole or in part, in the order of their ids."""
        words = normalized_words(text)
        ngrams: dict[int, set[Words]] = defaultdict(set)
        for ngram in self._ngrams_in(words):
            for id in self._questions[ngram]:
                ngrams[id].add(ngram)
        overlaps = [Overlap(id, len(of_question) / self._counts[id]) for id, of_question in ngrams.items()]
        if words:
            overlaps += [Overlap(id, 1.0) for id in self._short.get(words, ())]
        return sorted(overlaps, key=lambda overlap: overlap.question)

    def _ngrams_in(self, words: Words) -> Iterator[Words]:
        for at, word in enumerate(words):
            for position, ngram in self._by_rarest.get(word, ()):
                start = at - position
                if start >= 0 and words[start : start + len(ngram)] == ngram:
                    yield ngram
