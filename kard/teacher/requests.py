"""Many calls to one model, within a budget: workers ask, the calling thread stores each reply as it arrives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from textwrap import shorten
from traceback import format_exception
from typing import Generic, TypeVar

from kard.errors import BadConfig, BudgetReached, TeacherFailed
from kard.outgoing import without_keys
from kard.progress import Advance
from kard.teacher.calls import Reply

UNREADABLE = 20  # unreadable replies in a row after which the model counts as unable to keep the form
Item = TypeVar("Item")


@dataclass(slots=True)
class Budget:
    """The spending of one run, in US dollars.

    A call starts only if the budget covers it at the highest price seen so far. Until a price is known, calls go
    out one at a time: the first one shows it.
    """

    limit: float | None  # None: no limit
    highest_price: float | None = None  # of one call, earlier runs included
    spent: float = 0.0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit <= 0:
            raise BadConfig(f"--max-cost must be more than 0 dollars, not {self.limit}")

    def allows(self, in_flight: int) -> bool:
        """Return whether the budget covers one call more while `in_flight` calls are unpaid."""
        if self.limit is None:
            return True
        if self.highest_price is None:
            return in_flight == 0 and self.spent < self.limit
        return self.spent + (in_flight + 1) * self.highest_price <= self.limit

    def pay(self, cost: float) -> None:
        """Count the cost of one call."""
        self.spent += cost
        self.highest_price = max(cost, self.highest_price or 0.0)


@dataclass(slots=True)
class Requests(Generic[Item]):
    """One run of calls, a call for each item."""

    model: str
    ask: Callable[[Item], Reply]  # runs in a worker
    store: Callable[[Item, Reply], int]  # runs in the calling thread; returns the number of new rows
    budget: Budget
    workers: int
    singular: str  # what a reply holds: `rationale`
    plural: str
    command: str  # the command that goes on
    added: int = 0
    skipped: int = 0  # replies that could not be read
    unreadable: int = 0  # of them, in a row
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pending: dict[Future[Reply], Item] = field(default_factory=dict[Future[Reply], Item])
    failure: BaseException | None = None

    def run(self, items: Sequence[Item], advance: Advance) -> None:
        """Call for every item.

        Raises what stopped it, after every call under way has been paid and stored: BudgetReached if items
        remain, TeacherFailed if the provider fails or the replies are unreadable, BadConfig if there is a
        limit but no known price.
        """
        waiting = deque(items)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="teacher") as pool:
            try:
                while waiting or self.pending:
                    self._start(pool, waiting)
                    if not self.pending:
                        break
                    self._store_arrived(advance)
            except KeyboardInterrupt:
                while self.pending:  # they are paid for; a second Ctrl-C leaves them
                    self._store_arrived(advance)
                raise
        if self.failure is not None:
            raise self.failure
        if waiting:
            raise BudgetReached(
                f"stopped after ${self.budget.spent:.4f}: one {self.singular} more can cost "
                f"${self.budget.highest_price or 0:.4f} and pass --max-cost {self.budget.limit:g}; "
                f"{len(waiting)} are missing; go on with: {self.command}"
            )

    def _start(self, pool: ThreadPoolExecutor, waiting: deque[Item]) -> None:
        while (
            waiting
            and self.failure is None
            and len(self.pending) < self.workers
            and self.budget.allows(len(self.pending))
        ):
            item = waiting.popleft()
            self.pending[pool.submit(self.ask, item)] = item

    def _store_arrived(self, advance: Advance) -> None:
        from dspy.utils.exceptions import LMError

        done, _ = wait(self.pending, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is None:
                self._store(self.pending[future], future.result())
            elif self.failure is None:
                self.failure = self._failed(error) if isinstance(error, LMError | ImportError) else error
            del self.pending[future]  # only now: an interrupted write is done again
            advance(1)

    def _store(self, item: Item, reply: Reply) -> None:
        self.added += self.store(item, reply)
        self.skipped += reply.text is None
        self.unreadable = 0 if reply.text is not None else self.unreadable + 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        if reply.cost is not None:
            self.budget.pay(reply.cost)
        elif self.budget.limit is not None and self.failure is None:
            self.failure = BadConfig(
                f"the price of {self.model} is not known, so --max-cost cannot be kept; run again without it"
            )
        if self.unreadable >= UNREADABLE and self.failure is None:
            self.failure = TeacherFailed(
                f"{self.model} gave {UNREADABLE} answers in a row that hold no {self.singular}; "
                f"try another model than in: {self.command}"
            )

    def _failed(self, error: BaseException) -> TeacherFailed:
        # Only the first paragraph: a library's own advice follows, and some providers answer with whole pages.
        # Keys are replaced before the text is cut: half a key would not be known as one.
        text = without_keys(str(getattr(error, "message", "") or error)).strip().partition("\n\n")[0]
        message = shorten(text, 200, placeholder=" ...") or type(error).__name__
        failure = TeacherFailed(
            f"{self.model} does not answer ({message}); {self.added} {self.plural} were kept; "
            f"go on with: {self.command}"
        )
        trace = "".join(format_exception(error))
        failure.__cause__ = error if without_keys(trace) == trace else None
        return failure
