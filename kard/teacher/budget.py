"""What may still be spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """Spending of one run, in US dollars. A call is expected to cost what the dearest one so far did.

    Until a cost is known calls go out one at a time, so that the first of them tells what the others cost.
    """

    limit: float | None  # None: spend without a limit
    dearest: float | None = None  # of one call, those of earlier runs included
    spent: float = 0.0

    def allows(self, in_flight: int) -> bool:
        """Whether one call more stays within the limit when `in_flight` calls are yet to be paid."""
        if self.limit is None:
            return True
        if self.dearest is None:
            return in_flight == 0 and self.spent < self.limit
        return self.spent + (in_flight + 1) * self.dearest <= self.limit

    def pay(self, cost: float) -> None:
        """Count a call that was made."""
        self.spent += cost
        self.dearest = max(cost, self.dearest or 0.0)
