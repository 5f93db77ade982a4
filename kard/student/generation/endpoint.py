"""Rows that a server generates: vLLM with adapters, `kard serve`, or another one that speaks OpenAI's completions.

A prompt is sent as the ids that a batch here would read, so that no chat template and no other cut comes between. A
server that takes no ids, or no `top_k`, gets text and OpenAI's own fields. An answer is forced as it is here, by
the options' log-probabilities after what was written (`echo` with `logprobs`). A server that gives none is asked to
continue after `Answer:`, greedily.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import ip_address
from time import perf_counter
from typing import Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, proxy

from dspy.utils.exceptions import LMError, LMInvalidRequestError, LMRateLimitError, LMServerError, LMTransportError

from kard.answers.parsing import answer_of
from kard.config import Decoding
from kard.errors import BadConfig, EndpointFailed
from kard.outgoing import without_keys
from kard.outgoing.patience import TIMEOUT, Patience, Voice, cause
from kard.progress import timed
from kard.records import LETTERS, Sample
from kard.student.generation.batch import Written, read_samples, sampling_of
from kard.student.generation.sampling import TOP_K, Sampling
from kard.student.generation.student import RemoteBase, Row
from kard.student.prompt import ANSWER
from kard.student.tokens import Ids

KEY = "KARD_ENDPOINT_KEY"
RETRIES = 3  # of a request that failed for a passing reason, after waiting longer each time
CONNECT = 10.0  # seconds
LARGEST = 16 << 20  # bytes of a reply
MOST_TOKENS = 1 << 31  # of one reply; more, or what is no number, is the server's mistake
UNLIKELIEST = 1e6  # of a log-probability's distance from 0; what is beyond, or no number, is missing
Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Reply:
    """What counts of a completion: the log-probabilities are None where the server gives none."""

    text: str
    ended: bool
    tokens: int | None
    log_probabilities: list[float | None]


@dataclass(eq=False)
class _Caller:
    """Who asks: what its waiting says, and its open connections."""

    voice: Voice
    connections: set[socket.socket] = field(default_factory=set[socket.socket])
    refused: set[str] = field(default_factory=set[str])  # adapters that the server would not load


class EndpointQueue:
    """The queue of a base that a server holds: each row is asked for in its caller's thread, a batch at a time."""

    def __init__(self, base: RemoteBase) -> None:
        # Whoever asks holds the base. Held here, too, the table of queues would keep both for ever.
        self._base: RemoteBase = proxy(base)
        self._url = urlsplit(base.url)
        self._path = self._url.path.rstrip("/") or "/v1"
        self._callers: WeakKeyDictionary[object, _Caller] = WeakKeyDictionary()
        self._changed = threading.Condition()
        self._asking = 0
        self._loading = threading.Lock()
        self._loaded: set[str] = set()  # adapters that the server was told to load
        # What the server was seen to take: None before its first reply.
        self._takes_ids: bool | None = None
        self._scores: bool | None = None

    def open(self, asker: object) -> None:
        """Accept requests of this asker until `close`."""
        with self._changed:
            self._callers[asker] = _Caller(Voice(self._base.note))

    def close(self, asker: object, *, wait: bool = True) -> None:
        """Refuse the asker's requests: those on their way fail at once, so that there is nothing to `wait` for."""
        del wait
        with self._changed:
            caller = self._callers.pop(asker, None)
            if caller is None:
                return
            caller.voice.ended.set()
            for sock in caller.connections:
                _hang_up(sock)
            self._changed.notify_all()

    @contextmanager
    def answer_here(self) -> Generator[Callable[[], object]]:
        """Yield a function that does nothing: the server answers."""
        yield lambda: None

    def ask(self, asker: object, row: Row, decoding: Decoding) -> Sample:
        """Return the row's sample. Raises EndpointFailed, RuntimeError if closed; BadConfig without scores."""
        with self._changed:
            self._changed.wait_for(lambda: asker not in self._callers or self._asking < decoding.batch)
            if asker not in self._callers:
                raise RuntimeError("the student's engine is closed")
            caller = self._callers[asker]
            self._asking += 1
        begin = perf_counter()
        try:
            written = self._write(caller, row, sampling_of([row], decoding))
            [sample] = read_samples([row], [written], decoding, partial(self._score, caller, row, decoding))
        finally:
            with self._changed:
                self._asking -= 1
                self._changed.notify_all()
        return replace(sample, milliseconds=1000 * (perf_counter() - begin))

    def _write(self, caller: _Caller, row: Row, sampling: Sampling, more: Sequence[int] = ()) -> Written:
        """Return what the server writes after the row's prompt and `more`."""
        budget = sampling.budgets[0] if sampling.budgets else sampling.max_new_tokens
        body: dict[str, object] = {"max_tokens": budget, "temperature": sampling.temperature}
        if sampling.temperature:
            body |= {"top_p": sampling.top_p, "seed": sampling.seeds[0]}
        reply = self._continue(caller, row, body, more)
        counted = len(self._base.tokens.ids(reply.text)) + reply.ended if reply.tokens is None else reply.tokens
        return Written(reply.text, counted, reply.ended)

    def _continue(self, caller: _Caller, row: Row, body: Body, more: Sequence[int]) -> _Reply:
        """Return the server's reply after ids, or after text where it takes none."""
        if self._takes_ids is not False:
            top_k = {"top_k": TOP_K} if body["temperature"] else {}
            try:
                reply = self._complete(caller, row, {**body, **top_k, "prompt": [*row.prompt_ids, *more]})
            except LMInvalidRequestError as error:
                if self._takes_ids or error.status not in (400, 422):
                    raise self._failed(row, error) from None
            else:
                self._takes_ids = True
                return reply
        ids, cut = row.fitted
        text = (self._base.tokens.text(ids) if cut or row.ids else row.prompt) + self._base.tokens.text(more)
        try:
            reply = self._complete(caller, row, {**body, "prompt": text})
        except LMInvalidRequestError as error:
            raise self._failed(row, error) from None
        self._takes_ids = False
        return reply

    def _score(
        self,
        caller: _Caller,
        row: Row,
        decoding: Decoding,
        _rows: Sequence[int],
        prefixes: Sequence[Ids],
        choices: Sequence[Sequence[Ids]],
    ) -> list[list[float]]:
        """Return the options' mean log-probabilities; without any, all likelihood for the one that is written."""
        [prefix], [options] = prefixes, choices
        if self._takes_ids and self._scores is not False:
            scores = [self._log_probability(caller, row, [*row.prompt_ids, *prefix], option) for option in options]
            if None not in scores:
                self._scores = True
                return [cast("list[float]", scores)]
        if decoding.decide != "written":
            raise BadConfig(
                f"{self._base.url} gives no log-probabilities of options; leave --decide likelihood out"
            )
        if self._scores is None:
            self._scores = False
            self._base.note(f"{self._base.url} gives no log-probabilities: missing answers are asked for again")
        written = self._write(caller, row, Sampling(max(map(len, options))), prefix)
        letter = answer_of(f"{ANSWER}{written.text}", row.options)
        named = LETTERS[: len(options)] if letter else ""
        return [[0.0 if letter == each else -math.inf for each in named]]

    def _log_probability(self, caller: _Caller, row: Row, prompt: Ids, option: Ids) -> float | None:
        """Return the mean log-probability of the option's tokens, None if the server does not tell."""
        if self._scores is False:
            return None
        body: Body = {"max_tokens": 0, "temperature": 0, "echo": True, "logprobs": 1}
        try:
            reply = self._complete(caller, row, {**body, "prompt": [*prompt, *option]})
        except LMInvalidRequestError as error:
            if self._scores or error.status not in (400, 422):
                raise self._failed(row, error) from None
            return None
        given = reply.log_probabilities[len(prompt) : len(prompt) + len(option)]
        of_option = [value for value in given if value is not None]
        return sum(of_option) / len(option) if len(of_option) == len(option) else None

    def _complete(self, caller: _Caller, row: Row, body: Body) -> _Reply:
        """Return the reply to a request; an adapter that is not known is loaded once.

        Raises EndpointFailed, but LMInvalidRequestError for a request that the server refuses as it is.
        """
        adapter, name = row.student.adapter, row.student.name
        body = {"model": name if adapter else self._base.spec, **body}
        patience = Patience(RETRIES, voice=caller.voice, model=self._base.url)
        post = partial(patience.request, lambda: self._post(caller, "/completions", body))
        try:
            try:
                data = post()
            except LMInvalidRequestError as error:
                if error.status != 404 or adapter is None or not self._load(caller, name, str(adapter.absolute())):
                    raise
                data = post()
            return _read(data)
        except LMInvalidRequestError as error:
            if error.status in (400, 422):
                raise
            raise self._failed(row, error) from None
        except LMError as error:
            raise self._failed(row, error) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise EndpointFailed(f"{self._base.url} answers with something else than a completion") from None

    def _load(self, caller: _Caller, name: str, folder: str) -> bool:
        """Tell the server to load an adapter, as vLLM does if it is allowed to; return whether it has.

        A server on another machine could not read the folder, so it is not told where that is.
        """
        if not is_loopback(str(self._url.hostname)):
            return False
        with self._loading:
            if name not in self._loaded and name not in caller.refused:
                try:
                    self._post(caller, "/load_lora_adapter", {"lora_name": name, "lora_path": folder})
                    self._loaded.add(name)
                except LMInvalidRequestError:
                    caller.refused.add(name)
                except LMError:
                    pass  # it may pass
            return name in self._loaded

    @timed("wait for a server")
    def _post(self, caller: _Caller, path: str, body: Body) -> bytes:
        """Return the reply to a request. Raises DSPy's LMError of the kind that says whether to ask again."""
        secure, port = self._url.scheme == "https", self._url.port
        connection = (HTTPSConnection if secure else HTTPConnection)(str(self._url.hostname), port, timeout=CONNECT)
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY, "").strip():
            headers["Authorization"] = f"Bearer {key}"
        if not (key.isascii() and key.isprintable()):
            raise BadConfig(f"{KEY} holds characters that no header can")
        late = threading.Event()

        def end(sock: socket.socket) -> None:
            late.set()
            _hang_up(sock)

        # A time-out of the socket begins again with each byte; this is one for the whole reply.
        sock = deadline = None
        try:
            connection.connect()
            sock = cast(socket.socket, connection.sock)  # which http.client forgets where a reply has no length
            sock.settimeout(TIMEOUT)
            with self._changed:
                if caller.voice.ended.is_set():
                    raise LMTransportError("the request was given up")
                caller.connections.add(sock)
            deadline = threading.Timer(TIMEOUT, end, [sock])
            deadline.daemon = True
            deadline.start()
            connection.request("POST", f"{self._path}{path}", json.dumps(body).encode(), headers)
            response = connection.getresponse()
            data = response.read(LARGEST + 1)
            if late.is_set():
                raise TimeoutError
        except (OSError, HTTPException) as error:
            slow = late.is_set() or isinstance(error, TimeoutError)
            cause = "it takes too long" if slow else str(error) or type(error).__name__
            raise LMTransportError(cause) from None
        finally:
            if deadline is not None:
                deadline.cancel()
            with self._changed:
                if sock is not None:
                    caller.connections.discard(sock)
            connection.close()
        if len(data) > LARGEST:
            raise EndpointFailed(f"{self._base.url} gives a reply that is too large: more than {LARGEST:,} bytes")
        if response.status != 200:
            raise _refusal(response, data)
        return data

    def _failed(self, row: Row, error: LMError) -> EndpointFailed:
        """Return the error of a server that does not answer, with what can be done."""
        name, url = row.student.name, self._base.url
        advice = "what was answered is kept: run the command again"
        if error.status in (401, 403):
            advice = f"put its key into the variable {KEY}"
        elif error.status == 404:
            advice = f"write its adapter with kard models export {name} FOLDER, and let it serve that as {name}"
            if row.student.adapter is None:
                advice = f"let it serve the base as {self._base.spec}"
        return EndpointFailed(f"{url} does not answer ({cause(error)}); {advice}")


def _hang_up(sock: socket.socket) -> None:
    """End what a connection sends and receives, in whatever thread that happens."""
    with suppress(OSError):  # it is closed
        sock.shutdown(socket.SHUT_RDWR)


def is_loopback(host: str) -> bool:
    """Return whether an address's host is this machine: localhost, 127.0.0.1 and its like, ::1."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _read(data: bytes) -> _Reply:
    """Return what counts of a completion's bytes. Raises an error of Python's if they are something else."""
    reply = json.loads(data)
    choice: dict[str, Any] = dict(reply["choices"][0])
    text, usage, scores = choice.get("text") or "", reply.get("usage"), choice.get("logprobs")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    given = scores.get("token_logprobs") if isinstance(scores, dict) else None
    # As a teacher's texts: halves of surrogate pairs are joined, and a lone half, or a NUL, becomes U+FFFD.
    text = without_keys(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd"))
    return _Reply(
        text,
        choice.get("finish_reason") == "stop",
        tokens if type(tokens) is int and 0 <= tokens < MOST_TOKENS else None,
        [_log_probability(value) for value in cast("list[object]", given if isinstance(given, list) else [])],
    )


def _log_probability(value: object) -> float | None:
    """Return a log-probability as a float, None for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= UNLIKELIEST else None


def _refusal(response: HTTPResponse, data: bytes) -> LMError:
    """Return the error of a status that is not 200."""
    message, wait = "", math.nan
    with suppress(ValueError, AttributeError, RecursionError):
        found = json.loads(data)
        found = found.get("error", found)
        message = str(found.get("message") or found.get("detail") or "") if isinstance(found, dict) else str(found)
    text = f"{response.status} {message or response.reason}"
    with suppress(ValueError):  # it may also be a date
        wait = float(response.getheader("Retry-After") or "")
    if response.status in (408, 429, 503):
        return LMRateLimitError(text, status=response.status, retry_after=wait if wait >= 0 else None)
    kind = LMServerError if response.status >= 500 else LMInvalidRequestError
    return kind(text, status=response.status)
