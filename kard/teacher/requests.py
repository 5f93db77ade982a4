"""Many calls to one model, within a budget: workers ask, the calling thread stores each reply as it arrives."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic
from traceback import format_exception
from typing import Generic, TypeVar

from kard.errors import BadConfig, BudgetReached, TeacherFailed
from kard.outgoing import without_keys
from kard.outgoing.patience import TIMEOUT, Patience, Voice, cause
from kard.progress import Advance
from kard.teacher.calls import Reply, unknown_price
from kard.work.claims import POLL, Claims

UNREADABLE = 20  # unreadable replies in a row after which the model counts as unable to keep the form
TICK = 0.5  # seconds between two looks at the time of the requests under way
LEAVE = 1.5  # seconds after Ctrl-C in which replies under way may still arrive
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


@dataclass(frozen=True, slots=True)
class Claimed(Generic[Item]):
    """Items that this process may ask for, and those that another one asks for. What the store has is neither."""

    own: list[Item]
    others: list[Item]


def claiming(
    claims: Claims, key_of: Callable[[Item], str], stored: Callable[[Sequence[Item]], Collection[str]]
) -> Callable[[Sequence[Item]], Claimed[Item]]:
    """Return what claims items, by their keys; `stored` gives the keys of those that the store has by now."""

    def claim(items: Sequence[Item]) -> Claimed[Item]:
        own, others = claims.take_missing(list(map(key_of, items)), lambda: stored(items))
        return Claimed([i for i in items if key_of(i) in own], [i for i in items if key_of(i) in others])

    return claim


@dataclass(slots=True)
class Requests(Generic[Item]):
    """One run of calls, a call for each item."""

    model: str
    ask: Callable[[Item, Patience], Reply]  # runs in a worker
    store: Callable[[Item, Reply], int]  # runs in the calling thread; returns the number of new rows
    budget: Budget
    workers: int
    singular: str  # what a reply holds: `rationale`
    plural: str
    added: int = 0
    skipped: int = 0  # replies that could not be read
    unreadable: int = 0  # of them, in a row
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0  # of a request that failed for a passing reason
    timeout: float = TIMEOUT  # seconds of one request
    voice: Voice = field(default_factory=Voice)
    claim: Callable[[Sequence[Item]], Claimed[Item]] = lambda items: Claimed(list(items), [])  # of what is missing
    others: list[Item] = field(default_factory=list[Item])  # claimed by other processes
    ready: deque[Item] = field(default_factory=deque[Item])  # claimed, not asked for
    pending: dict[Future[Reply], tuple[Item, Patience]] = field(
        default_factory=dict[Future[Reply], tuple[Item, Patience]]
    )
    failure: BaseException | None = None

    def run(self, items: Sequence[Item], advance: Advance) -> None:
        """Call for every item.

        Raises what stopped it, after every call under way has been paid and stored: BudgetReached if items
        remain, TeacherFailed if the provider fails or the replies are unreadable, BadConfig if there is a
        limit but no known price. After Ctrl-C, calls under way have a moment to arrive; what has arrived is stored,
        however often Ctrl-C is pressed.
        """
        waiting = deque(items)
        try:
            while waiting or self.ready or self.pending or self.others:
                self._start(waiting)
                if self.pending:
                    self._store_arrived(advance)
                elif waiting or self.ready or self.failure is not None:
                    break
                elif self.others:
                    self.voice.say(f"waiting for {len(self.others)} {self.plural} that another process asks for")
                    time.sleep(POLL)
                    waiting, self.others = deque(self.others), []
        except KeyboardInterrupt:
            self._leave(advance)
            raise
        finally:
            self.voice.ended.set()
        if self.failure is not None:
            raise self.failure
        missing = len(waiting) + len(self.ready) + len(self.others)
        if missing:
            raise BudgetReached(
                f"stopped after ${self.budget.spent:.4f}: one {self.singular} more can cost "
                f"${self.budget.highest_price or 0:.4f} and pass --max-cost {self.budget.limit:g}; "
                f"{missing} are missing; go on with the same command and a larger --max-cost"
            )

    def _leave(self, advance: Advance) -> None:
        """Store what has arrived, and what arrives within a moment."""
        self.voice.ended.set()
        end = monotonic() + LEAVE
        while self.pending:
            left = end - monotonic()
            try:
                if not self._store_arrived(advance, min(max(left, 0), TICK)) and left <= 0:
                    return
            except KeyboardInterrupt:
                continue  # an interrupted write is done again

    def _start(self, waiting: deque[Item]) -> None:
        while (
            self.failure is None
            and len(self.pending) < self.workers
            and self.budget.allows(len(self.pending))
            and (self.ready or self._claim(waiting))
        ):
            item = self.ready.popleft()
            patience = Patience(self.retries, self.timeout, self.voice, self.model)
            future: Future[Reply] = Future()
            self.pending[future] = item, patience
            # A thread that does not keep the program from ending: it may wait for a server that never answers.
            Thread(target=self._work, args=(item, patience, future), name="teacher", daemon=True).start()

    def _claim(self, waiting: deque[Item]) -> bool:
        """Claim the next items, as many as there are workers; return whether any are ready to be asked for."""
        while waiting and not self.ready:
            claimed = self.claim([waiting.popleft() for _ in range(min(self.workers, len(waiting)))])
            self.ready.extend(claimed.own)
            self.others.extend(claimed.others)
        return bool(self.ready)

    def _work(self, item: Item, patience: Patience, future: Future[Reply]) -> None:
        try:
            future.set_result(self.ask(item, patience))
        except BaseException as error:
            future.set_exception(error)

    def _store_arrived(self, advance: Advance, seconds: float = TICK) -> bool:
        """Store what arrives within these seconds; return whether anything did."""
        from dspy.utils.exceptions import LMError

        done, _ = wait(self.pending, seconds, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is None:
                try:
                    self._store(self.pending[future][0], future.result())
                except Exception as problem:  # the others are paid for too
                    error = problem
            if error is not None and self.failure is None:
                self.failure = self._failed(error) if isinstance(error, LMError | ImportError) else error
            del self.pending[future]  # only now: an interrupted write is done again
            advance(1)
        for future in [f for f, (_, patience) in self.pending.items() if patience.exhausted and not f.done()]:
            del self.pending[future]
            if self.failure is None:
                self.failure = self._failed(TimeoutError(f"no whole reply within {self.timeout:g} s"))
        if self.failure is not None:
            self.voice.ended.set()  # those who wait to ask again need not
        return bool(done)

    def _store(self, item: Item, reply: Reply) -> None:
        self.added += self.store(item, reply)
        self.skipped += reply.text is None
        self.unreadable = 0 if reply.text is not None else self.unreadable + 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        if reply.cost is not None:
            self.budget.pay(reply.cost)
        elif self.budget.limit is not None and self.budget.highest_price is not None:
            self.budget.pay(self.budget.highest_price)  # one reply without a price among others that have one
        elif self.budget.limit is not None and self.failure is None:
            self.failure = unknown_price(self.model)
        if self.unreadable >= UNREADABLE and self.failure is None:
            self.failure = TeacherFailed(
                f"{self.model} gave {UNREADABLE} answers in a row that hold no {self.singular}; "
                "try the same command with another model"
            )

    def _failed(self, error: BaseException) -> TeacherFailed:
        failure = TeacherFailed(
            f"{self.model} does not answer ({cause(error)}); {self.added} {self.plural} were kept; "
            "go on with the same command"
        )
        trace = "".join(format_exception(error))
        failure.__cause__ = error if without_keys(trace) == trace else None
        return failure
