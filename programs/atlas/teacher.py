"""The teacher: an engine behind a `dspy.LM` that looks a question up and explains it from the world's facts.

It is asked as any teacher is, in DSPy's chat form, and answers in it. Like any teacher it errs: about three
rationales in a hundred are wrong or end on nothing, so that checking rationales has something to refuse.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable

from dspy import lm15

from kard.records import digest

from .questions import Asked

MODEL = "atlas-oracle"
ERRS = 0.03  # of its rationales
_FIELD = re.compile(r"^\[\[ ## (\w+) ## \]\][^\S\n]*\n?", re.M)


class Oracle:
    """Explains the questions of one world. Safe to share between threads; nothing random, nothing costs.

    The n-th request for a question gets its n-th rationale, whatever the temperature and whatever else is asked.
    """

    def __init__(self, asked: Iterable[Asked]) -> None:
        self._known = {one.question.text: one for one in asked}
        self._requests: Counter[str] = Counter()
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        """A rationale in DSPy's chat form. Raises lm15.InvalidRequestError for any other question."""
        prompt = _last_user_text(request)
        text = _fields(prompt).get("question", "")
        one = self._known.get(text)
        if one is None:
            raise lm15.InvalidRequestError(f"{MODEL} knows nothing of the question {text!r}")
        with self._lock:
            number = self._requests[text]
            self._requests[text] += 1
        reply = f"[[ ## rationale ## ]]\n{rationale(one, number)}\n\n[[ ## completed ## ]]"
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant(reply),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=_words(request), output_tokens=len(reply.split())),
        )


def rationale(one: Asked, number: int) -> str:
    """The rationale of the question's `number`-th request (0, 1, ...); it repeats itself after at least four."""
    chance = int(digest(one.question.key, str(number)), 16) / 16**16
    texts = one.draft.mistakes if chance < ERRS else one.draft.reasons
    return texts[number % len(texts)]


def _last_user_text(request: lm15.Request) -> str:
    return next((m.text or "" for m in reversed(request.messages) if m.role == "user"), "")


def _fields(prompt: str) -> dict[str, str]:
    """The fields of a message in DSPy's chat form."""
    pieces = _FIELD.split(prompt)
    return {name: value.strip() for name, value in zip(pieces[1::2], pieces[2::2], strict=True)}


def _words(request: lm15.Request) -> int:
    system = request.system if isinstance(request.system, str) else ""
    return sum(len(text.split()) for text in (system, *(m.text or "" for m in request.messages)))
