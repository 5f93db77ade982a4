"""Who is answered and when: a limited number of places, threads that answer, requests that are given up.

A request holds its place from when it is accepted until nothing of it is left. One that is given up (its client
hung up, its time is over) frees its place at once while it waits, and after its batch if a batch is generating it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kard.serve.wire import ChatRequest, CompletionRequest, Refused, Reply

if TYPE_CHECKING:
    from kard.serve.students import LoadedStudent
    from kard.student.generation.engine import EngineLM, StudentEngine

Passages = Sequence[Mapping[str, object]]
Result = TypeVar("Result")


class HungUp(Exception):
    """The client is gone."""


class Job:
    """A request that was accepted. `passages` and `reply` become known while it is answered."""

    def __init__(
        self,
        request: ChatRequest | CompletionRequest,
        load: Callable[[], LoadedStudent],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.request, self._load, self._loop = request, load, loop
        self.passages: asyncio.Future[Passages] = loop.create_future()
        self.reply: asyncio.Future[Reply] = loop.create_future()
        for future in (self.passages, self.reply):  # nobody may be left to look at an error
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.work: Future[None] | None = None
        self._lock = threading.Lock()
        self._lm: EngineLM | None = None
        self._given_up = False

    def run(self) -> None:
        """Answer the request, in a thread of the desk."""
        try:
            loaded = self._load()
            with self._lock:
                if self._given_up:
                    raise HungUp
                lm = self._lm = loaded.new_lm(self.request)
            try:
                reply = loaded.answer(
                    self.request,
                    lm,
                    on_passages=lambda passages: self._tell(self.passages, passages),
                    wanted=lambda: not self._given_up,
                )
            finally:
                lm.close()
            self._tell(self.passages, reply.passages)  # a student that reads nothing has told of none
            self._tell(self.reply, reply)
        except Exception as error:
            self._tell(self.passages, error)
            self._tell(self.reply, error)

    def give_up(self) -> None:
        """Answer it no more. Nothing is left to give up once it is answered."""
        if self.work is not None:
            self.work.cancel()
        with self._lock:
            self._given_up = True
            if self._lm is not None:
                cast("StudentEngine", self._lm.engine).close(wait=False)

    def _tell(self, future: asyncio.Future[Any], result: object) -> None:
        def tell() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        _call(self._loop, tell)


class Desk:
    """Accepts up to `places` requests at a time and answers them in `threads`, each within `seconds`."""

    def __init__(self, *, places: int, threads: int, seconds: float) -> None:
        self.places, self.seconds = places, seconds
        self.taken = 0
        self.closing = False
        self._threads = ThreadPoolExecutor(min(places, threads), thread_name_prefix="desk")

    def accept(self, request: ChatRequest | CompletionRequest, load: Callable[[], LoadedStudent]) -> Job:
        """Return the job of a request. Raises Refused if all places are taken or the server is ending."""
        self.check_open()
        if self.taken >= self.places:
            raise Refused(
                429,
                f"all {self.places} places are taken; ask again later",
                "queue_full",
                headers={"Retry-After": "1"},
            )
        loop = asyncio.get_running_loop()
        job = Job(request, load, loop)
        self.taken += 1
        job.work = self._threads.submit(job.run)
        job.work.add_done_callback(lambda _: _call(loop, self._leave))
        return job

    def check_open(self) -> None:
        """Raise Refused if the server is ending."""
        if self.closing:
            raise Refused(503, "the server is shutting down", "shutting_down", headers={"Retry-After": "5"})

    async def wait(self, part: asyncio.Future[Result], gone: asyncio.Future[None], deadline: float) -> Result:
        """Return a part of a job's answer. Raises its error, HungUp if the client went, Refused if it is late."""
        loop = asyncio.get_running_loop()
        await asyncio.wait({part, gone}, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        if part.done():
            return part.result()
        if gone.done():
            raise HungUp
        raise Refused(504, f"no answer within {self.seconds:g} s", "timeout")

    def close(self) -> None:
        """Accept nothing more; what was accepted is answered."""
        self.closing = True

    def _leave(self) -> None:
        self.taken -= 1


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function in the loop's thread, unless the loop has ended: then nobody waits any more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
