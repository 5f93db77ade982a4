"""Many calls to one model: workers ask, the caller keeps; what was paid for is kept before anything stops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Generic, TypeVar

from kard.errors import BadConfig, BudgetReached, TeacherFailed
from kard.progress import Advance
from kard.teacher.budget import Budget
from kard.teacher.calls import Reply

UNREADABLE = 20  # replies in a row without what was asked for: the model does not understand the form
Item = TypeVar("Item")


@dataclass(slots=True)
class Requests(Generic[Item]):
    """One run. `one` and `many` name what a reply holds, `again` is the command that goes on."""

    model: str
    ask: Callable[[Item], Reply]  # in a worker
    keep: Callable[[Item, Reply], int]  # in the calling thread; how many rows are new
    budget: Budget
    workers: int
    one: str
    many: str
    again: str
    added: int = 0
    skipped: int = 0  # replies that could not be read
    unreadable: int = 0  # of them, in a row
    prompt_tokens: int = 0
    completion_tokens: int = 0
    flying: dict[Future[Reply], Item] = field(default_factory=dict[Future[Reply], Item])
    stopped: BaseException | None = None

    def run(self, items: Sequence[Item], advance: Advance) -> None:
        """Ask for all of them. Raises what stopped it, once every call under way is paid and kept."""
        left = deque(items)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="teacher") as pool:
            try:
                while left or self.flying:
                    self._start(pool, left)
                    if not self.flying:
                        break
                    self._keep_arrived(advance)
            except KeyboardInterrupt:
                while self.flying:  # they are paid for; a second Ctrl-C leaves them
                    self._keep_arrived(advance)
                raise
        if self.stopped is not None:
            raise self.stopped
        if left:
            raise BudgetReached(
                f"stopped after ${self.budget.spent:.4f}: one {self.one} more can cost "
                f"${self.budget.dearest or 0:.4f} and pass --max-cost {self.budget.limit:g}; "
                f"{len(left)} are missing; go on with: {self.again}"
            )

    def _start(self, pool: ThreadPoolExecutor, left: deque[Item]) -> None:
        while (
            left
            and self.stopped is None
            and len(self.flying) < self.workers
            and self.budget.allows(len(self.flying))
        ):
            item = left.popleft()
            self.flying[pool.submit(self.ask, item)] = item

    def _keep_arrived(self, advance: Advance) -> None:
        from dspy.utils.exceptions import LMError

        done, _ = wait(self.flying, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is None:
                self._keep(self.flying[future], future.result())
            elif self.stopped is None:
                self.stopped = self._failed(error) if isinstance(error, LMError | ImportError) else error
            del self.flying[future]  # only now: an interrupted write is done again
            advance(1)

    def _keep(self, item: Item, reply: Reply) -> None:
        self.added += self.keep(item, reply)
        self.skipped += reply.text is None
        self.unreadable = 0 if reply.text is not None else self.unreadable + 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        if reply.cost is not None:
            self.budget.pay(reply.cost)
        elif self.budget.limit is not None and self.stopped is None:
            self.stopped = BadConfig(
                f"the price of {self.model} is not known, so --max-cost cannot be kept; run again without it"
            )
        if self.unreadable >= UNREADABLE and self.stopped is None:
            self.stopped = TeacherFailed(
                f"{self.model} gave {UNREADABLE} answers in a row that hold no {self.one}; "
                f"try another model than in: {self.again}"
            )

    def _failed(self, error: BaseException) -> TeacherFailed:
        # The first paragraph only: advice in the terms of a library follows, and providers answer with whole pages.
        said = str(getattr(error, "message", "") or error).strip().partition("\n\n")[0]
        message = shorten(said, 200, placeholder=" ...") or type(error).__name__
        failed = TeacherFailed(
            f"{self.model} does not answer ({message}); {self.added} {self.many} were kept; "
            f"go on with: {self.again}"
        )
        failed.__cause__ = error
        return failed
