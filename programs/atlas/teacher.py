"""The teacher: an engine behind a `dspy.LM` that looks a question up and explains it from the world's facts.

Requests and replies have DSPy's chat form, as with any teacher. Like any teacher it errs: about three rationales in
a hundred conclude on a wrong option or on none, so that the check of rationales has something to reject.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable

from dspy import lm15

from kard.records import digest

from .questions import WorldQuestion

MODEL = "atlas-oracle"
ERROR_RATE = 0.03  # share of rationales that are mistakes
_FIELD = re.compile(r"^\[\[ ## (\w+) ## \]\][^\S\n]*\n?", re.M)


class Oracle:
    """Engine that explains the questions of one world, without chance or cost. Threads may share it.

    The n-th request for a question gets its n-th rationale, whatever the temperature and the other requests.
    """

    def __init__(self, questions: Iterable[WorldQuestion]) -> None:
        self._questions = {question.question.text: question for question in questions}
        self._requests: Counter[str] = Counter()
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Return a rationale in DSPy's chat form. Raises lm15.InvalidRequestError for any other question."""
        prompt = _last_user_text(request)
        text = _fields(prompt).get("question", "")
        question = self._questions.get(text)
        if question is None:
            raise lm15.InvalidRequestError(f"{MODEL} knows nothing of the question {text!r}")
        with self._lock:
            number = self._requests[text]
            self._requests[text] += 1
        reply = f"[[ ## rationale ## ]]\n{rationale(question, number)}\n\n[[ ## completed ## ]]"
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant(reply),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=_word_count(request), output_tokens=len(reply.split())),
        )


def rationale(question: WorldQuestion, number: int) -> str:
    """Return the rationale for request `number` (0, 1, ...) of the question; they repeat after at least four."""
    chance = int(digest(question.question.key, str(number)), 16) / 16**16
    texts = question.draft.mistakes if chance < ERROR_RATE else question.draft.reasons
    return texts[number % len(texts)]


def _last_user_text(request: lm15.Request) -> str:
    return next((m.text or "" for m in reversed(request.messages) if m.role == "user"), "")


def _fields(prompt: str) -> dict[str, str]:
    """Return the fields of a message in DSPy's chat form."""
    pieces = _FIELD.split(prompt)
    return {name: value.strip() for name, value in zip(pieces[1::2], pieces[2::2], strict=True)}


def _word_count(request: lm15.Request) -> int:
    system = request.system if isinstance(request.system, str) else ""
    return sum(len(text.split()) for text in (system, *(m.text or "" for m in request.messages)))
