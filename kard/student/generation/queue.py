"""What many threads ask of the students of one base, in the batches in which it is best answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from weakref import WeakSet

from kard.config import Decoding
from kard.records import Sample
from kard.student.generation.batch import Row
from kard.student.generation.multi_adapter import FEW, generate_rows

GRACE = 0.02  # seconds without a new request after which a batch that is not full starts
IDLE = 5.0  # seconds without any request after which the generating thread ends; the next request starts another


@dataclass(eq=False)
class Job:
    asker: object
    row: Row
    decoding: Decoding
    done: threading.Event = field(default_factory=threading.Event)
    sample: Sample | None = None
    error: BaseException | None = None


class Queue:
    """Requests that wait for one base. A thread answers while there is something to do.

    A student of which many rows wait gets batches of its own; students with few rows each share them
    (`kard.student.generation.multi_adapter`).
    """

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._now: list[Job] = []  # being answered
        self._changed = threading.Condition()
        self._askers: WeakSet[object] = WeakSet()
        self._worker: threading.Thread | None = None
        self._served = 0  # threads that answer here

    def open(self, asker: object) -> None:
        """Expect requests of this asker until `close`."""
        self._askers.add(asker)

    def ask(self, asker: object, row: Row, decoding: Decoding) -> Sample:
        """The row's sample, once it is made. Raises what its batch raised, RuntimeError when closed."""
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

    def close(self, asker: object) -> None:
        """Refuse what the asker still waits for, and return when nothing of it is being answered any more."""
        with self._changed:
            self._askers.discard(asker)
            for job in [job for job in self._jobs if job.asker is asker]:
                self._jobs.remove(job)
                job.error = RuntimeError("the student's engine was closed before it answered")
                job.done.set()
            self._changed.notify_all()
            self._changed.wait_for(lambda: all(job.done.is_set() for job in self._now if job.asker is asker))

    @contextmanager
    def here(self) -> Generator[Callable[[], object]]:
        """Answer in the calling thread: what is given answers one batch, or waits a moment for one.

        Where torch has computed in one thread already, another of the process is a third slower on few cores: each
        has OpenMP workers of its own, and more workers than cores sleep instead of spinning between two products.
        """
        with self._changed:
            self._served += 1
            self._changed.notify_all()  # a thread of the queue's own makes way after its batch
        try:
            yield partial(self._turn, GRACE)
        finally:
            with self._changed:
                self._served -= 1
                self._start()

    def _start(self) -> None:
        """A thread for what waits, where there is none. Held by whoever calls: the lock."""
        if self._jobs and self._worker is None and not self._served:
            self._worker = threading.Thread(target=self._work, name=f"students {id(self):x}", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while self._turn(IDLE):
            pass

    def _turn(self, patience: float) -> bool:
        """Answer a batch. False when none has come in so many seconds, or nobody may ask."""
        jobs: list[Job] = []
        try:
            jobs = self._next(patience)
            made = _made([job.row for job in jobs], jobs[0].decoding) if jobs else []
            for job, sample in zip(jobs, made, strict=True):
                job.sample = sample
        except BaseException as error:
            for job in jobs:
                job.error = error
            # Its callers have it. Whoever answers in his own thread may want to stop; the queue's thread goes on.
            if not jobs or not (isinstance(error, Exception) or threading.current_thread() is self._worker):
                raise
        finally:
            for job in jobs:
                job.done.set()
            with self._changed:
                self._now = [job for job in self._now if not job.done.is_set()]
                self._changed.notify_all()
        return bool(jobs)

    def _next(self, patience: float) -> list[Job]:
        """The jobs of the next batch, none when the thread that asks may end."""
        own = threading.current_thread() is self._worker

        def ready() -> bool:
            return bool(self._jobs or not self._askers or (own and self._served))

        with self._changed:
            while True:
                self._changed.wait_for(ready, patience)
                if not self._jobs or (own and self._served):
                    if own:
                        self._worker = None
                    return []
                waiting = 0
                while waiting < len(self._jobs) < self._jobs[0].decoding.batch:
                    waiting = len(self._jobs)
                    self._changed.wait(GRACE)
                if self._jobs:  # else their askers closed meanwhile
                    break
            jobs = next_batch(self._jobs)
            self._now += jobs
            self._jobs = [job for job in self._jobs if job not in jobs]
            return jobs


def _made(rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
    student = rows[0].student
    if any(row.student is not student for row in rows):
        return generate_rows(rows, decoding)
    prompts, options, seeds = ([getattr(row, name) for row in rows] for name in ("prompt", "options", "seed"))
    return student.generate(prompts, options, decoding, seeds=seeds)


def next_batch(jobs: Sequence[Job]) -> list[Job]:
    """Jobs decoded like the first: of its student, or of all students with few rows when it is one of them."""
    alike = [job for job in jobs if job.decoding == jobs[0].decoding]
    size = jobs[0].decoding.batch
    own = [job for job in alike if job.row.student is jobs[0].row.student]
    if len(own) > FEW:
        return own[:size]
    counts: dict[int, int] = {}
    for job in alike:
        counts[id(job.row.student)] = counts.get(id(job.row.student), 0) + 1
    return [job for job in alike if counts[id(job.row.student)] <= FEW][:size]
