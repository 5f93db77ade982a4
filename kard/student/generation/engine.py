"""A student behind `dspy.LM`: what many threads ask at the same time is answered in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any, cast

import dspy
from dspy.lm15 import InvalidRequestError, Message, Request, Response, TextPart, Usage

from kard.config import Decoding
from kard.records import Sample, digest
from kard.student.generation.batch import Row
from kard.student.generation.student import Student
from kard.student.prompt import CHOICES, FORCED, LETTER, MILLISECONDS


class StudentEngine:
    """An lm15 engine. It is given options in `Config.extensions["choices"]` and then always answers one of them.

    Thread-safe. Requests wait until a batch is full or no more arrive, as `queue` says; an error of a
    batch is raised to each of its callers. After `close` requests that still wait fail. A copy of an engine is the
    engine: what is copied with a program must not hold a second model.
    """

    scores_choices = True

    def __init__(self, student: Student, decoding: Decoding) -> None:
        self.student, self.decoding = student, decoding
        self._unseeded = count()
        student.home.queue.open(self)

    def complete(self, request: Request) -> Response:
        """One sample. The request's temperature, top_p, max_tokens and seed count before the engine's own.

        The same prompt and seed draw the same text; without a seed each request is a draw of its own.
        """
        row = Row(self.student, _prompt(request), _choices(request), self._seed(request))
        sample = self.student.home.queue.ask(self, row, self._decoding(request))
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant(sample.text),
            finish_reason="stop",
            usage=Usage(input_tokens=sample.prompt_tokens, output_tokens=sample.completion_tokens),
            provider_data=_kept(row, sample),
        )

    def close(self) -> None:
        """Answer nobody any more; callers that still wait get an error."""
        self.student.home.queue.close(self)

    def __copy__(self) -> StudentEngine:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> StudentEngine:
        return self

    def __enter__(self) -> StudentEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decoding(self, request: Request) -> Decoding:
        config, decoding = request.config, self.decoding
        if config.max_tokens is not None:
            decoding = replace(decoding, max_new_tokens=config.max_tokens)
        if config.top_p:
            decoding = replace(decoding, top_p=config.top_p)
        if config.temperature == 0:
            return replace(decoding, samples=1)
        if config.temperature is not None:
            return replace(decoding, temperature=config.temperature, samples=max(2, decoding.samples))
        return decoding

    def _seed(self, request: Request) -> int:
        """The same question and sample number draw the same numbers, in whatever batch they come."""
        seed = request.config.seed if request.config.seed is not None else f"unseeded {next(self._unseeded)}"
        return int(digest(_prompt(request), str(seed), length=15), 16)


class AsyncStudentEngine:
    """The same engine for `acall`: each request waits in a thread, so that batches fill as they do otherwise."""

    scores_choices = True

    def __init__(self, engine: StudentEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """One sample, as `StudentEngine.complete`."""
        return await asyncio.to_thread(self.engine.complete, request)


def load_lm(student: Student, decoding: Decoding) -> dspy.LM:
    """A `dspy.LM` that answers with the student, `decoding.samples` times a call.

    Its engine is `lm.engine`; close that when done.
    """
    drawn: dict[str, Any] = (
        {"n": decoding.samples, "temperature": decoding.temperature} if decoding.samples > 1 else {}
    )
    return dspy.LM(student.name, engine=StudentEngine(student, decoding), cache=False, num_retries=0, **drawn)


def _kept(row: Row, sample: Sample) -> Any:
    kept: dict[str, object] = {FORCED: sample.forced, MILLISECONDS: sample.milliseconds}
    if row.options:
        kept[LETTER] = sample.answer
    return kept


def _prompt(request: Request) -> str:
    if request.system or len(request.messages) > 1:
        raise InvalidRequestError(
            "a student reads the form that it was trained on and no chat: give the program its adapter with "
            "kard.with_student(program, lm), or use dspy.context(lm=lm, adapter=lm.adapter)"
        )
    return "".join(
        part.text for message in request.messages for part in message.parts if isinstance(part, TextPart)
    )


def _choices(request: Request) -> list[str]:
    given = (request.config.extensions or {}).get(CHOICES) or []
    return [str(choice) for choice in cast("Sequence[object]", given)]
