"""Whether a held-out question's text stands in what was trained on or is read: n-gram containment, pure.

Thirteen words in a row are the usual measure of contamination (Brown et al., arXiv 2005.14165, appendix C).
A question of fewer words is looked for whole; one of fewer than five only where it is the whole other text,
since three words stand somewhere by chance.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

N = 13  # words
LEAST = 5  # words that are looked for inside a longer text
_WORD = re.compile(r"[^\W_]+")

Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """A question found in a text. `share` of its n-grams are there, in (0, 1]; `kind` is 'text' when all are."""

    question: int
    share: float

    @property
    def kind(self) -> str:
        """'text' when the whole question is there, 'ngrams' when a part is."""
        return "text" if self.share == 1 else "ngrams"


def words(text: str) -> Gram:
    """The words of a text: compatible forms are the same, as are cases; punctuation is none."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def grams(text: Gram) -> set[Gram]:
    """Every run of thirteen words, or the whole of a shorter text."""
    return {text[i : i + N] for i in range(len(text) - N + 1)} if len(text) > N else {text}


class Sought:
    """Held-out questions (text by id), ready to be found in any number of texts.

    Each n-gram waits at its rarest word, so that a text costs one look-up a word and few comparisons.
    """

    def __init__(self, questions: Mapping[int, str]) -> None:
        texts = {key: words(text) for key, text in questions.items()}
        self._sizes: dict[int, int] = {}
        self._whole: dict[Gram, list[int]] = defaultdict(list)
        self._owners: dict[Gram, list[int]] = defaultdict(list)
        for key, text in texts.items():
            if len(text) < LEAST:
                self._whole[text].append(key)
                continue
            parts = grams(text)
            self._sizes[key] = len(parts)
            for gram in parts:
                self._owners[gram].append(key)
        common = Counter(word for text in texts.values() for word in set(text))
        self._waiting: dict[str, list[tuple[int, Gram]]] = defaultdict(list)
        for gram in self._owners:
            place = min(range(len(gram)), key=lambda i: (common[gram[i]], -len(gram[i]), i))
            self._waiting[gram[place]].append((place, gram))

    def within(self, text: str) -> list[Overlap]:
        """The questions that stand in the text, whole or in part, in the order of their ids."""
        inside = words(text)
        found: dict[int, set[Gram]] = defaultdict(set)
        for gram in self._grams_in(inside):
            for key in self._owners[gram]:
                found[key].add(gram)
        overlaps = [Overlap(key, len(some) / self._sizes[key]) for key, some in found.items()]
        if inside:
            overlaps += [Overlap(key, 1.0) for key in self._whole.get(inside, ())]
        return sorted(overlaps, key=lambda overlap: overlap.question)

    def _grams_in(self, text: Gram) -> Iterator[Gram]:
        waiting = self._waiting
        for at, word in enumerate(text):
            for place, gram in waiting.get(word, ()):
                start = at - place
                if start >= 0 and text[start : start + len(gram)] == gram:
                    yield gram
