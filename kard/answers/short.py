"""Short answers, to questions without options: read one from a text, and grade it as HotpotQA does."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

# What may begin anywhere reads no further than its line or the next mark, so that the time grows with the length.
_FIELD = re.compile(r"(?:^[ \t*_]*(?i:answer)|\bAnswer)[ \t*_]*:[\s*_]*(.*)", re.M)
_MARKED = re.compile(r"\\boxed\{([^{}]+)\}|<answer>([^<]*)</answer>", re.I)
_STATED = re.compile(
    r"(?:^|(?<=[.!?]))[ \t]*(?:(?:therefore|thus|hence|so|consequently)\b,?\s*)?(?:the\s+)?"
    r"(?:(?:correct|final)\s+)?answer\s+is\b[\s:]*(.*)",
    re.I | re.M,
)
_GOES_ON = re.compile(r"(?:\w{4}[.!?]|[!?])\s+\S")  # another sentence follows; after "St." it is the same one
_QUOTES = " \t\r\n\"'*_`\u201c\u201d\u2018\u2019"
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WHOLE = ("yes", "no", "noanswer")  # wrong unless they are all of the answer


def short_answer(text: str, *, cut: bool = False) -> str | None:
    r"""Return the answer that a text gives after its last `Answer:`, marked, or after "the answer is"; else None.

    The rest of the line after `Answer:` is the answer, or the next line if there is no rest; T5's texts have no
    line breaks. What is marked stands in `\boxed{}` or `<answer>`. After "the answer is" nothing may follow but the
    answer. `cut` says that the text was cut at its budget: then an answer at its end may go on, and is none.
    """
    text = text.rpartition("</think>")[2]
    if text.lstrip().startswith("<think>"):  # cut while thinking
        return None
    for form in (_FIELD, _MARKED, _STATED):
        if not (found := list(form.finditer(text))):
            continue
        answer = next((group for group in found[-1].groups() if group), "").strip()
        if (cut and not text[found[-1].end() :].strip("\r \t")) or (form is _STATED and _GOES_ON.search(answer)):
            return None
        return answer.strip(_QUOTES).removesuffix(".").strip(_QUOTES) or None
    return None


def normalized(answer: str) -> str:
    """Return the answer in lower case without ASCII punctuation and articles, as HotpotQA's own script grades it.

    An answer that is nothing else keeps them, so that a letter is itself.
    """
    plain = answer.lower()
    return " ".join(_ARTICLES.sub(" ", plain.translate(_NO_PUNCTUATION)).split()) or " ".join(plain.split())


def same_answer(answer: str | None, other: str | None) -> bool:
    """Return whether two answers are equal when they are normalized (exact match); None equals nothing."""
    return answer is not None and other is not None and normalized(answer) == normalized(other)


def grade(answer: str | None, gold: str | None, options: Sequence[str]) -> tuple[int, float | None]:
    """Return 1 for the right answer, else 0, and F1; None instead of F1 for a question with options."""
    return int(same_answer(answer, gold)), None if options else f1_of(answer, gold or "")


def f1_of(answer: str | None, gold: str) -> float:
    """Return F1 of the answer's words and those of the right one: from 0, with no word in common, to 1."""
    if same_answer(answer, gold):
        return 1.0
    words, right = normalized(answer or "").split(), normalized(gold).split()
    common = (Counter(words) & Counter(right)).total()
    if not common or any(" ".join(of) in _WHOLE for of in (words, right)):
        return 0.0
    return 2 * common / (len(words) + len(right))
