"""A rule as a rival of students: answer with the option that the read passages name most often."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kard.config import require
from kard.records import LETTERS, Passage, Prediction, Question, Sample, digest

_WORD = re.compile(r"[^\W_]+")


def answer_by_name(question_id: int, question: Question, passages: Sequence[Passage]) -> Prediction:
    """Return the option that the passages name most often, of equals the one that is named first.

    An option is named where its words stand in this order, whatever their case, in a passage or its title. Where
    no option is named, a hash of the question chooses one, and the sample is marked as forced. Raises BadConfig for
    a question without options.
    """
    require(bool(question.options), f"named chooses one of the options, and question {question.key!r} has none")
    mentions = [letter for p in passages for letter in mentions_in(p.line, question.options)]
    if mentions:
        answer = max(dict.fromkeys(mentions), key=mentions.count)  # of equals, max returns the first
    else:
        answer = LETTERS[int(digest(question.text), 16) % len(question.options)]
    counts = ", ".join(f"({letter}) {mentions.count(letter)}" for letter in question.letters)
    text = f"Named in the passages: {counts}.\nAnswer: ({answer})"
    sample = Sample(text, answer, forced=None if mentions else "unread")
    return Prediction(question_id, answer, (sample,), tuple(passage.id for passage in passages))


def mentions_in(text: str, options: Sequence[str]) -> list[str]:
    """Return the letter of each mention of an option in the text, in order.

    Where several options could stand, the one with the most words counts. Options of the same words are not told
    apart and count as not named, and so does an option without a word.
    """
    words = [_words(option) for option in options]
    letters = {w: letter for w, letter in zip(words, LETTERS, strict=False) if w and words.count(w) == 1}
    lengths = sorted({len(w) for w in letters}, reverse=True)
    tokens, mentions, at = _words(text), list[str](), 0
    while at < len(tokens):
        length = next((n for n in lengths if tokens[at : at + n] in letters), 0)
        if length:
            mentions.append(letters[tokens[at : at + length]])
        at += max(length, 1)
    return mentions


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))
