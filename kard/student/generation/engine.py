"""A student behind `dspy.LM`. Requests of many threads wait in the queue of a base and are answered in batches."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

import dspy
from dspy.lm15 import InvalidRequestError, Message, Request, Response, TextPart, Usage
from dspy.utils.exceptions import LMUnexpectedError

from kard.config import Decoding
from kard.errors import KardError
from kard.records import Sample, digest
from kard.student.generation.batch import MAX_SHARED_ROWS, generate_rows
from kard.student.generation.endpoint import EndpointQueue
from kard.student.generation.student import RemoteBase, Row, Student, StudentBase
from kard.student.prompt import ANSWERED, CHOICES, CUT, FORCED, MILLISECONDS, SHARES

GRACE_SECONDS = 0.02  # without a new request; then a batch starts that is not full
IDLE_SECONDS = 5.0  # without any request; then the generating thread ends, and the next request starts another


class StudentEngine:
    """An lm15 engine. If `Config.extensions["choices"]` holds options, it always answers one of them.

    Thread-safe. An error of a batch is raised to each of its callers. After `close`, requests that still wait fail.
    A copy of an engine is the engine: what is copied with a program must not hold a second model.
    """

    scores_choices = True

    def __init__(self, student: Student, decoding: Decoding) -> None:
        self.student, self.decoding = student, student.budgeted(decoding)
        self.queue = queue_of(student.base)
        self._unseeded = count()
        self.queue.open(self)

    def complete(self, request: Request) -> Response:
        """Return one sample. The request's temperature, top_p and max_tokens take precedence over the engine's.

        The same prompt and seed draw the same text; every request without a seed draws a new one.
        """
        decoding = self._decoding(request)
        row = Row(self.student, _prompt(request), _choices(request), self._seed(request), decoding.max_new_tokens)
        sample = self.queue.ask(self, row, decoding)
        more: dict[str, object] = {
            FORCED: sample.forced,
            CUT: sample.cut,
            ANSWERED: sample.answer,
            MILLISECONDS: sample.milliseconds,
            SHARES: list(sample.shares),
        }
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant(sample.text),
            finish_reason="stop",
            usage=Usage(input_tokens=sample.prompt_tokens, output_tokens=sample.completion_tokens),
            provider_data=cast(Any, more),
        )

    def close(self, *, wait: bool = True) -> None:
        """Answer no more requests; those that still wait fail. Unless told not to, `wait` for those that run."""
        self.queue.close(self, wait=wait)

    def __copy__(self) -> StudentEngine:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> StudentEngine:
        return self

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
        """Return the seed of a prompt and sample number: they draw the same numbers, whatever their batch."""
        seed = request.config.seed if request.config.seed is not None else f"unseeded {next(self._unseeded)}"
        return int(digest(_prompt(request), str(seed), length=15), 16)


class AsyncStudentEngine:
    """The same engine for `acall`: each request waits in a thread, so that batches fill as they do otherwise."""

    scores_choices = True

    def __init__(self, engine: StudentEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """Return one sample, as `StudentEngine.complete` does."""
        return await asyncio.to_thread(self.engine.complete, request)


class EngineLM(dspy.LM):
    """A `dspy.LM` that answers with a student, `decoding.samples` times a call. Close it after use."""

    def __init__(self, student: Student, decoding: Decoding) -> None:
        engine = StudentEngine(student, decoding)
        sampling: dict[str, Any] = {}
        if decoding.samples > 1:
            sampling = {"n": decoding.samples, "temperature": decoding.temperature}
        super().__init__(
            student.name,
            engine=engine,
            async_engine=AsyncStudentEngine(engine),
            cache=False,
            num_retries=0,
            **sampling,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what a `dspy.LM` returns. Raises a server's KardError as it is, not as DSPy's unexpected error."""
        try:
            return super().__call__(*args, **kwargs)
        except LMUnexpectedError as error:
            raise _own(error) from None

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Return what `__call__` returns, awaited. Raises what it raises."""
        try:
            return await super().acall(*args, **kwargs)
        except LMUnexpectedError as error:
            raise _own(error) from None

    def close(self) -> None:
        """Answer no more calls of this LM or of its copies."""
        super().close()
        cast(StudentEngine, self.engine).close()


def _own(error: LMUnexpectedError) -> Exception:
    """Return the KardError that DSPy took for an unexpected one, else the error itself."""
    return error.__cause__ if isinstance(error.__cause__, KardError) else error


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
    choices = (request.config.extensions or {}).get(CHOICES) or []
    return [str(choice) for choice in cast("Sequence[object]", choices)]


@dataclass(eq=False)
class Job:
    """A row that waits for its sample, and who asked for it."""

    asker: object
    row: Row
    decoding: Decoding
    done: threading.Event = field(default_factory=threading.Event)
    sample: Sample | None = None
    error: BaseException | None = None


class Queue:
    """Jobs that wait for one base. A thread answers them, batch by batch, and ends when none come."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._askers: WeakSet[object] = WeakSet()
        self._worker: threading.Thread | None = None
        self._served = 0  # other threads that answer this queue

    def open(self, asker: object) -> None:
        """Accept requests of this asker until `close`."""
        self._askers.add(asker)

    def ask(self, asker: object, row: Row, decoding: Decoding) -> Sample:
        """Return the row's sample once it is generated. Raises its batch's error, RuntimeError if closed."""
        job = Job(asker, row, decoding)
        with self._changed:
            if asker not in self._askers:
                raise RuntimeError("the student's engine is closed")
            self._jobs.append(job)
            self._start()
            self._changed.notify_all()
        job.done.wait()
        if job.error is not None:
            raise job.error
        return cast(Sample, job.sample)

    def close(self, asker: object, *, wait: bool = True) -> None:
        """Refuse the asker's waiting jobs; with `wait`, return when none of its jobs is running any more."""
        with self._changed:
            self._askers.discard(asker)
            for job in [job for job in self._jobs if job.asker is asker]:
                self._jobs.remove(job)
                job.error = RuntimeError("the student's engine was closed before it answered")
                job.done.set()
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(
                    lambda: all(job.done.is_set() for job in self._running if job.asker is asker)
                )

    @contextmanager
    def answer_here(self) -> Generator[Callable[[], object]]:
        """Answer in the calling thread: yield a function that answers one batch, or waits a moment for one.

        Where torch has computed in one thread, a second thread of the process is a third slower on few cores: each
        has its own OpenMP workers, and more workers than cores sleep instead of spinning between two products.
        """
        with self._changed:
            self._served += 1
            self._changed.notify_all()  # the queue's own thread ends after its batch
        try:
            yield partial(self._answer_batch, GRACE_SECONDS)
        finally:
            with self._changed:
                self._served -= 1
                self._start()

    def _start(self) -> None:
        """Start a thread if jobs wait and nobody answers. The caller holds the lock."""
        if self._jobs and self._worker is None and not self._served:
            self._worker = threading.Thread(target=self._work, name=f"students {id(self):x}", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while self._answer_batch(IDLE_SECONDS):
            pass

    def _answer_batch(self, patience: float) -> bool:
        """Answer a batch; return False if none came within `patience` seconds, or nobody may ask."""
        jobs: list[Job] = []
        try:
            jobs = self._next(patience)
            samples = generate_rows([job.row for job in jobs], _widest(jobs)) if jobs else []
            for job, sample in zip(jobs, samples, strict=True):
                job.sample = sample
        except BaseException as error:
            for job in jobs:
                job.error = error
            # Its callers raise it. A thread that answers here may want to stop, too. The queue's own goes on.
            if not jobs or not (isinstance(error, Exception) or threading.current_thread() is self._worker):
                raise
        finally:
            for job in jobs:
                job.done.set()
            with self._changed:
                self._running = [job for job in self._running if not job.done.is_set()]
                self._changed.notify_all()
        return bool(jobs)

    def _next(self, patience: float) -> list[Job]:
        """Return the jobs of the next batch, [] if the calling thread may end."""
        is_worker = threading.current_thread() is self._worker

        def ready() -> bool:
            return bool(self._jobs or not self._askers or (is_worker and self._served))

        with self._changed:
            while True:
                self._changed.wait_for(ready, patience)
                if not self._jobs or (is_worker and self._served):
                    if is_worker:
                        self._worker = None
                    return []
                waiting = 0
                while waiting < len(self._jobs) < self._jobs[0].decoding.batch:
                    waiting = len(self._jobs)
                    self._changed.wait(GRACE_SECONDS)
                if self._jobs:  # else their askers closed meanwhile
                    break
            jobs = next_batch(self._jobs)
            self._running += jobs
            self._jobs = [job for job in self._jobs if job not in jobs]
            return jobs


def next_batch(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs decoded like the first: of its student, or of all students with few rows if it is one of them."""
    alike = [job for job in jobs if _kind(job.decoding) == _kind(jobs[0].decoding)]
    size = jobs[0].decoding.batch
    of_first = [job for job in alike if job.row.student is jobs[0].row.student]
    if len(of_first) > MAX_SHARED_ROWS:
        return of_first[:size]
    counts = Counter(id(job.row.student) for job in alike)
    return [job for job in alike if counts[id(job.row.student)] <= MAX_SHARED_ROWS][:size]


def _kind(decoding: Decoding) -> Decoding:
    """Return what rows of one batch must have in common: not the budget, which is a row's own, nor the samples."""
    if decoding.samples == 1:  # greedy, which draws nothing
        return replace(Decoding(), batch=decoding.batch, decide=decoding.decide)
    return replace(decoding, samples=2, max_new_tokens=0)


def _widest(jobs: Sequence[Job]) -> Decoding:
    """Return the jobs' decoding with room for the longest of them."""
    return replace(jobs[0].decoding, max_new_tokens=max(job.decoding.max_new_tokens for job in jobs))


_queues: WeakKeyDictionary[StudentBase, Queue | EndpointQueue] = WeakKeyDictionary()
_queues_lock = threading.Lock()


def queue_of(base: StudentBase) -> Queue | EndpointQueue:
    """Return the queue of a base, one for all of its students: of one in memory, or of one that a server holds."""
    with _queues_lock:
        if base not in _queues:
            _queues[base] = EndpointQueue(base) if isinstance(base, RemoteBase) else Queue()
        return _queues[base]
