"""What the server counted, in the text form that Prometheus reads.

The form is a few lines for each number; a client library would be one dependency more and keep state of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)  # upper ends of the histogram's buckets


class Metrics:
    """Numbers since the start. Used by the event loop's thread alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by student's id ('' if unknown) and status
        self.hung_up = 0
        self.tokens: Counter[str] = Counter()  # by kind
        self._seconds = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def answered(self, student: str, seconds: float, usage: Mapping[str, int]) -> None:
        """Count an answer with its time from acceptance to the end and its tokens."""
        self.requests[student, 200] += 1
        self._seconds[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds
        self.tokens.update(prompt=usage["prompt_tokens"], completion=usage["completion_tokens"])

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return all numbers. `gauges` are meanings and values of now; names in `_total` are counters."""
        lines = _family("requests_total", "counter", "requests by student and status")
        for (student, status), count in sorted(self.requests.items()):
            lines.append(f'kard_requests_total{{student="{student}",status="{status}"}} {count}')
        lines += _family("hung_up_total", "counter", "requests whose client went before the answer")
        lines.append(f"kard_hung_up_total {self.hung_up}")
        lines += _family("tokens_total", "counter", "tokens of answered requests, read and written")
        lines += [f'kard_tokens_total{{kind="{kind}"}} {self.tokens[kind]}' for kind in ("prompt", "completion")]
        lines += _family("request_seconds", "histogram", "seconds from acceptance to the end of the answer")
        for end, count in zip((*map(str, SECONDS), "+Inf"), accumulate(self._seconds), strict=True):
            lines.append(f'kard_request_seconds_bucket{{le="{end}"}} {count}')
        lines += [f"kard_request_seconds_sum {self._sum}", f"kard_request_seconds_count {sum(self._seconds)}"]
        for name, (meaning, value) in gauges.items():
            lines += _family(name, "counter" if name.endswith("_total") else "gauge", meaning)
            lines.append(f"kard_{name} {value:g}")
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP kard_{name} {meaning}", f"# TYPE kard_{name} {kind}"]


def adapters(caches: Iterable[object]) -> dict[str, tuple[str, float]]:
    """Return the numbers of the adapters in memory."""
    stored = list(caches)
    return {
        name: (meaning, float(sum(getattr(cache, attribute) for cache in stored)))
        for name, attribute, meaning in (
            ("adapter_bytes", "bytes", "memory of resident adapters"),
            ("adapter_loads_total", "loads", "adapters read from disk"),
            ("adapter_evictions_total", "evictions", "adapters that left memory for others"),
        )
    }
