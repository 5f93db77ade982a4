"""Short answers, to questions without options: read one from a text, and grade it as HotpotQA does."""

from __future__ import annotations

import re
import string
from collections import Counter

_STATED = re.compile(r"\banswer\b[\s*_]*(?:[:=]|\bis\b\s*:?)\s*", re.I)
_QUOTES = " \t\"'*_`\u201c\u201d\u2018\u2019"
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_JUDGED = ("yes", "no", "noanswer")  # wrong unless they are all of the answer


def short_answer(text: str, *, cut: bool = False) -> str | None:
    """Return what follows the last `answer:` or `answer is` of a text in its line, None for nothing.

    `cut` says that the text was cut at its budget: then an answer at its end may go on, and is none.
    """
    stated = list(_STATED.finditer(text))
    if not stated:
        return None
    line, *rest = text[stated[-1].end() :].split("\n", 1)
    if cut and not rest:
        return None
    return line.strip(_QUOTES).removesuffix(".").strip(_QUOTES) or None


def normalized(answer: str) -> str:
    """Return the answer in lower case without ASCII punctuation and articles, as HotpotQA's own script grades it.

    An answer that is nothing else keeps them, so that a letter is itself.
    """
    plain = answer.lower()
    return " ".join(_ARTICLES.sub(" ", plain.translate(_NO_PUNCTUATION)).split()) or " ".join(plain.split())


def same_answer(answer: str | None, other: str | None) -> bool:
    """Return whether two answers are equal when they are normalized (exact match); None equals nothing."""
    return answer is not None and other is not None and normalized(answer) == normalized(other)


def overlap(answer: str | None, gold: str) -> float:
    """Return F1 of the answer's words and those of the right one: from 0, with no word in common, to 1."""
    if same_answer(answer, gold):
        return 1.0
    words, right = normalized(answer or "").split(), normalized(gold).split()
    common = (Counter(words) & Counter(right)).total()
    if not common or any(" ".join(of) in _JUDGED for of in (words, right)):
        return 0.0
    return 2 * common / (len(words) + len(right))
