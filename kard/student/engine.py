"""A student behind `dspy.LM`: what many threads ask at the same time is answered in one batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, cast

import dspy
from dspy.lm15 import InvalidRequestError, Message, Request, Response, TextPart, Usage

from kard.config import Decoding
from kard.records import Sample, digest
from kard.student.model import Student
from kard.student.render import CHOICES, FORCED, LETTER, MILLISECONDS

GRACE = 0.02  # seconds without a new request after which a batch that is not full starts
IDLE = 5.0  # seconds without any request after which the generating thread ends; the next request starts another


@dataclass
class _Job:
    prompt: str
    choices: Sequence[str]
    decoding: Decoding
    seed: int
    done: threading.Event = field(default_factory=threading.Event)
    sample: Sample | None = None
    error: BaseException | None = None


class StudentEngine:
    """An lm15 engine. It is given options in `Config.extensions["choices"]` and then always answers one of them.

    Thread-safe. Requests wait until a batch is full or no more arrive; an error of a batch is raised to each of
    its callers. A thread generates while there is something to do. `close` ends it; requests that still wait
    then fail. A copy of an engine is the engine: what is copied with a program must not hold a second model.
    """

    scores_choices = True

    def __init__(self, student: Student, decoding: Decoding) -> None:
        self.student, self.decoding = student, decoding
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._worker: threading.Thread | None = None
        self._unseeded = count()

    def complete(self, request: Request) -> Response:
        """One sample. The request's temperature, top_p, max_tokens and seed count before the engine's own.

        The same prompt and seed draw the same text; without a seed each request is a draw of its own.
        """
        job = _Job(_prompt(request), _choices(request), self._decoding(request), self._seed(request))
        with self._changed:
            if self._closed:
                raise RuntimeError("the student's engine is closed")
            self._jobs.append(job)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name=f"student {self.student.name}", daemon=True)
                self._worker.start()
            self._changed.notify_all()
        job.done.wait()
        if job.error is not None:
            raise job.error
        sample = cast(Sample, job.sample)
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant(sample.text),
            finish_reason="stop",
            usage=Usage(input_tokens=sample.prompt_tokens, output_tokens=sample.completion_tokens),
            provider_data=_kept(job, sample),
        )

    def close(self) -> None:
        """End the generating thread; callers that still wait get an error."""
        with self._changed:
            self._closed = True
            worker = self._worker
            self._changed.notify_all()
        if worker is not None:
            worker.join()

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

    def _work(self) -> None:
        while (jobs := self._next()) is not None:
            try:
                samples = self.student.generate(
                    [job.prompt for job in jobs],
                    [job.choices for job in jobs],
                    jobs[0].decoding,
                    seeds=[job.seed for job in jobs],
                )
                for job, sample in zip(jobs, samples, strict=True):
                    job.sample = sample
            except BaseException as error:
                for job in jobs:
                    job.error = error
            for job in jobs:
                job.done.set()

    def _next(self) -> list[_Job] | None:
        """The jobs of the next batch, all decoded alike; None when closed or when nobody has asked for a while."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._jobs, IDLE):
                self._worker = None
                return None
            waiting = 0
            while not self._closed and waiting < len(self._jobs) < self.decoding.batch:
                waiting = len(self._jobs)
                self._changed.wait(GRACE)
            if self._closed:
                for job in self._jobs:
                    job.error = RuntimeError("the student's engine was closed before it answered")
                    job.done.set()
                return None
            alike = [job for job in self._jobs if job.decoding == self._jobs[0].decoding][: self.decoding.batch]
            self._jobs = [job for job in self._jobs if not any(job is other for other in alike)]
            return alike


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


def _kept(job: _Job, sample: Sample) -> Any:
    kept: dict[str, object] = {FORCED: sample.forced, MILLISECONDS: sample.milliseconds}
    if job.choices:
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
