"""How long a request to a provider is waited for: a time-out, a few repetitions, and a word on stderr meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import shorten
from threading import Event
from time import monotonic
from typing import TypeVar

from kard.outgoing import without_keys

TIMEOUT = 300.0  # seconds for one request: models that think before they write take minutes
LONGEST_WAIT = 300.0  # seconds; a provider that asks for more ends the run instead
SLACK = 2.0  # seconds after the time-out in which the library reports it by itself
EVERY = 5.0  # seconds between two lines about waiting
Value = TypeVar("Value")


@dataclass(slots=True)
class Voice:
    """What the requests of one run say while they wait; those of several workers at once say it once."""

    note: Callable[[str], None] = lambda _text: None
    ended: Event = field(default_factory=Event)  # set when nothing is to be waited for any more
    _said: float = -EVERY

    def say(self, text: str) -> None:
        """Say this, unless something was said a moment ago."""
        if monotonic() - self._said >= EVERY and not self.ended.is_set():
            self._said = monotonic()
            self.note(text)


@dataclass(slots=True)
class Patience:
    """How long one call waits: `timeout` seconds for each request, longer between them if the provider says so."""

    retries: int = 0  # of a request that failed for a passing reason
    timeout: float = TIMEOUT
    voice: Voice = field(default_factory=Voice)
    model: str = ""
    _began: float | None = None  # when the request under way was sent

    @property
    def exhausted(self) -> bool:
        """Whether the request under way has taken more than its time: its server sends a little now and then."""
        began = self._began
        return began is not None and monotonic() - began > self.timeout + SLACK

    def request(self, send: Callable[[], Value]) -> Value:
        """Send a request, again while it fails for a passing reason. Raises DSPy's LMError if it still does."""
        from dspy.utils.exceptions import LMError, is_retryable_lm_error

        for attempt in range(self.retries + 1):
            self._began = monotonic()
            try:
                return send()
            except LMError as error:
                wanted = error.retry_after
                seconds = min(2.0**attempt, 60.0) if wanted is None else max(wanted, 0.0)
                last = attempt == self.retries or seconds > LONGEST_WAIT or not is_retryable_lm_error(error)
                if last or self.voice.ended.is_set():
                    raise
                asks = "" if wanted is None else ", as it asks"
                self.voice.say(f"{self.model}: {cause(error)}; waiting {seconds:.0f} s{asks}")
                self._began = None
                if self.voice.ended.wait(seconds):
                    raise
            finally:
                self._began = None
        raise AssertionError("a request is sent at least once")


def cause(error: BaseException) -> str:
    """Return a provider's error in one line, without keys.

    Only the first paragraph: a library's own advice follows, and some providers answer with whole pages. Keys are
    replaced before the text is cut, since half a key would not be known as one.
    """
    text = without_keys(str(getattr(error, "message", "") or error)).strip().partition("\n\n")[0]
    line = shorten(text, 200, placeholder=" ...") or type(error).__name__
    wait = getattr(error, "retry_after", None)
    return f"{line}; it asks to wait {wait:,.0f} s" if wait is not None and wait > LONGEST_WAIT else line
