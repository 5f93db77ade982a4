"""OpenAI's protocol: a request's body as a `ChatRequest` or `CompletionRequest`, a reply as what answers it.

A message is a question, with its options as the lines at its end (`A. red`, `(A) red` or `A) red`) or in the field
`options`. A message that ends with a cue of the student's own form (`Rationale:`) is a prompt. It is continued as
it is, with nothing retrieved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from kard.outgoing import clean
from kard.records import LETTERS, Forced

MAX_TEXTS = 32  # that one request may ask for
MAX_BUDGET = 4096  # tokens of one text
_OPTION = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.)])\s+(\S.*?)\s*")
_PROMPT_OPTION = re.compile(r"\(([A-Z])\) ")
_UNSUPPORTED = (  # fields that ask for what a student cannot do
    *("tools", "functions", "tool_choice", "function_call", "response_format", "logprobs", "top_logprobs"),
    *("logit_bias", "stop", "presence_penalty", "frequency_penalty", "audio", "modalities"),
)
_HARMLESS: Mapping[str, object] = {
    "tool_choice": "none",
    "response_format": {"type": "text"},
    "modalities": ["text"],
}


class Refused(Exception):
    """A request that is not answered: its HTTP status, with a message, type and code in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, dict(headers or {})

    def body(self) -> dict[str, object]:
        """Return the error in OpenAI's form."""
        kind = "invalid_request_error" if self.status < 429 else "server_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind)
        return {"error": {"message": clean(str(self)), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What one request asks."""

    model: str
    question: str
    options: tuple[str, ...] = ()
    stream: bool = False
    usage_chunk: bool = False
    n: int | None = None  # texts; None: as many as the server votes over
    sampling: Mapping[str, Any] = field(
        default_factory=dict[str, Any]
    )  # temperature, top_p, max_tokens, rollout_id


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A prompt, as text or as ids, that a student continues as it is."""

    model: str
    prompt: str | tuple[int, ...]
    n: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    scored: bool  # the log-probabilities of the prompt's tokens are wanted, and nothing else


@dataclass(frozen=True, slots=True)
class Text:
    """A text of the student, the answer that it gives ('' for none) and its tokens."""

    content: str
    rationale: str
    answer: str
    prompt_tokens: int
    completion_tokens: int
    ended: bool = True  # by its end-of-text or a stop, not by its budget
    scores: tuple[tuple[str, float | None], ...] = ()  # the prompt's tokens with their log-probabilities
    forced: Forced | None = None  # why the content ends with an answer that the student did not write


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request gets: the texts, the vote over them and the passages that were found."""

    texts: tuple[Text, ...]
    answer: str
    letter: str | None
    votes: Mapping[str, int]
    passages: tuple[Mapping[str, object], ...]
    retriever: str

    @property
    def first(self) -> Text:
        """The first text that gives the answer of the vote."""
        return next((text for text in self.texts if text.answer == self.answer), self.texts[0])


def parse(body: bytes) -> ChatRequest:
    """Return the chat request that a body holds. Raises Refused."""
    fields = _fields(body, _UNSUPPORTED)
    text = _message(fields.get("messages"))
    options = _options(fields.get("options"))
    if options is None:
        text, options = split_options(text)
    if not text.strip():
        raise _wrong("the question is empty", "messages")
    temperature = _number(fields, "temperature", 0, 2)
    sampling = {
        "temperature": temperature,
        "top_p": _top_p(fields),
        "max_tokens": _whole(fields, "max_completion_tokens", 1, 1 << 20)
        or _whole(fields, "max_tokens", 1, 1 << 20),
        "rollout_id": _whole(fields, "seed", 0, 1 << 31),
    }
    n = _whole(fields, "n", 1, MAX_TEXTS)
    more = fields.get("stream_options")
    return ChatRequest(
        fields["model"],
        text,
        options,
        stream=fields.get("stream") is True,
        usage_chunk=isinstance(more, dict) and cast("dict[str, Any]", more).get("include_usage") is True,
        n=1 if n is None and temperature == 0 else n,
        sampling={name: value for name, value in sampling.items() if value is not None},
    )


def parse_completion(body: bytes) -> CompletionRequest:
    """Return the completion request that a body holds. Raises Refused."""
    fields = _fields(
        body, ("stream", "suffix", *(name for name in _UNSUPPORTED if name not in ("logprobs", "stop")))
    )
    prompt, stop = fields.get("prompt"), fields.get("stop") or []
    if isinstance(prompt, list) and all(type(id) is int for id in cast("list[Any]", prompt)):
        prompt = tuple(cast("list[int]", prompt))
    if not isinstance(prompt, str | tuple) or not prompt:
        raise _wrong("prompt must be one text, or the token ids of one", "prompt")
    stops = cast("list[Any]", stop if isinstance(stop, list) else [stop])
    if not all(isinstance(text, str) and text for text in stops):
        raise _wrong("stop must be a text or a list of texts", "stop")
    scored = fields.get("echo") is True
    wanted = fields.get("logprobs") not in (None, False)
    budget = _whole(fields, "max_tokens", 0, MAX_BUDGET)
    if not scored == wanted == (budget == 0):
        raise _wrong("only a prompt has log-probabilities: with echo true, logprobs 1 and max_tokens 0", "logprobs")
    from kard.student.generation.sampling import TOP_K

    if fields.get("top_k") not in (None, TOP_K):
        raise _wrong(f"a student draws from its {TOP_K} likeliest tokens; leave top_k out", "top_k")
    temperature, top_p = _number(fields, "temperature", 0, 2), _top_p(fields)
    return CompletionRequest(
        fields["model"],
        prompt,
        _whole(fields, "n", 1, MAX_TEXTS) or 1,
        16 if budget is None else budget,
        1.0 if temperature is None else temperature,
        1.0 if top_p is None else top_p,
        _whole(fields, "seed", 0, (1 << 63) - 1),
        tuple(stops),
        scored,
    )


def _fields(body: bytes, unsupported: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a body that names a model, and nothing `unsupported`. Raises Refused."""
    try:
        fields: Any = json.loads(body)
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _wrong("the body holds half of a surrogate pair, which is no character") from None
    except (ValueError, RecursionError):
        raise _wrong("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise _wrong("the body is not a JSON object")
    fields = cast("dict[str, Any]", fields)
    for name in unsupported:
        if fields.get(name) not in (None, False, 0, [], {}, _HARMLESS.get(name)):
            raise _wrong(f"a student knows no {name}; leave it out", name)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model must name a student; /v1/models lists them", "model")
    return fields


def _message(messages: object) -> str:
    """Return the text of the one message. Raises Refused for none, several, or one of another role or kind."""
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages must hold one message of the role user", "messages")
    message = cast("list[Any]", messages)[-1]
    if len(cast("list[Any]", messages)) > 1 or not isinstance(message, dict) or message.get("role") != "user":
        raise _wrong(
            "a student reads one question and no chat: send one message of the role user, without system messages "
            "and earlier turns; programs of DSPy use kard's StudentAdapter",
            "messages",
        )
    content = cast("dict[str, Any]", message).get("content")
    if isinstance(content, list):
        parts = [cast("dict[str, Any]", part) for part in cast("list[Any]", content) if isinstance(part, dict)]
        if len(parts) == len(cast("list[Any]", content)) and all(part.get("type") == "text" for part in parts):
            content = "".join(str(part.get("text", "")) for part in parts)
    if not isinstance(content, str):
        raise _wrong("the message's content must be text", "messages")
    return content


def _options(value: object) -> tuple[str, ...] | None:
    """Return the field `options`, None without one. Raises Refused unless it holds 2 to 26 texts."""
    if value is None:
        return None
    options = cast("list[Any]", value) if isinstance(value, list) else []
    if not all(isinstance(option, str) and option.strip() for option in options) or not options:
        raise _wrong("options must be a list of texts", "options")
    if not 2 <= len(options) <= len(LETTERS):
        raise _wrong(f"the number of options is {len(options)}, not 2 to {len(LETTERS)}", "options")
    return tuple(options)


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a message's question and its options: two lines or more at its end, lettered from A on."""
    lines = text.rstrip().split("\n")
    options: list[tuple[str, str]] = []
    while lines and (match := _OPTION.fullmatch(lines[-1])):
        options.insert(0, (match[1] or match[2], match[3]))
        lines.pop()
    letters = "".join(letter for letter, _ in options)
    if len(options) < 2 or letters != LETTERS[: len(options)]:
        return text, ()
    return "\n".join(lines).rstrip(), tuple(option for _, option in options)


def prompt_options(prompt: str) -> tuple[str, ...]:
    """Return the options of a prompt in the student's form, () where it has no line of them."""
    line = next((line for line in prompt.split("\n") if line.startswith("Options: ")), "").removeprefix("Options: ")
    starts: list[re.Match[str]] = []
    for match in _PROMPT_OPTION.finditer(line):
        if match[1] == LETTERS[len(starts) : len(starts) + 1]:  # another `(C) ` is a part of an option
            starts.append(match)
    ends = [*(match.start() for match in starts[1:]), len(line)]
    options = tuple(line[match.end() : end].strip() for match, end in zip(starts, ends, strict=False))
    return options if len(options) > 1 and all(options) else ()


def _number(fields: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(f"{name} must be a number from {low} to {high}", name)
    return value


def _top_p(fields: Mapping[str, Any]) -> float | None:
    if fields.get("top_p") == 0:
        raise _wrong("top_p must be above 0; temperature 0 is greedy", "top_p")
    return _number(fields, "top_p", 0, 1)


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = _number(fields, name, low, high)
    if value is not None and value != int(value):
        raise _wrong(f"{name} must be a whole number", name)
    return None if value is None else int(value)


def _wrong(message: str, param: str | None = None) -> Refused:
    return Refused(400, message, "invalid_request", param=param)


def facts(reply: Reply) -> dict[str, object]:
    """Return the field `kard` of an answer."""
    return {
        "answer": reply.answer or None,
        "letter": reply.letter,
        "votes": dict(reply.votes),
        "rationale": reply.first.rationale,
        "forced": reply.first.forced,
        "retriever": reply.retriever,
        "passages": list(reply.passages),
    }


def passage_notes(passages: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return the passages that were read as annotations of a message."""
    return [{"type": "passage", "passage": dict(passage)} for passage in passages]


def usage(reply: Reply) -> dict[str, int]:
    """Return the tokens of all texts."""
    prompt, completion = (
        sum(getattr(text, f"{kind}_tokens") for text in reply.texts) for kind in ("prompt", "completion")
    )
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def chosen(request: ChatRequest, reply: Reply) -> Sequence[Text]:
    """Return the texts that are sent: all that were asked for, or the one that stands for the vote."""
    return reply.texts if request.n is not None else (reply.first,)


def continuation(reply: Reply, head: Mapping[str, object]) -> dict[str, object]:
    """Return the answer to a prompt that was continued, or whose tokens were scored."""
    choices = [
        {
            "index": i,
            "text": text.content,
            "logprobs": {
                "tokens": [token for token, _ in text.scores],
                "token_logprobs": [score for _, score in text.scores],
                "top_logprobs": None,
            }
            if text.scores
            else None,
            "finish_reason": "stop" if text.ended else "length",
        }
        for i, text in enumerate(reply.texts)
    ]
    return {**head, "object": "text_completion", "choices": choices, "usage": usage(reply)}


def completion(request: ChatRequest, reply: Reply, head: Mapping[str, object]) -> dict[str, object]:
    """Return the whole answer; `head` holds its id, time and model."""
    notes = passage_notes(reply.passages)
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": text.content, "refusal": None, "annotations": notes},
            "logprobs": None,
            "finish_reason": "stop",
        }
        for i, text in enumerate(chosen(request, reply))
    ]
    head = {**head, "object": "chat.completion"}
    return {**head, "choices": choices, "usage": usage(reply), "kard": facts(reply)}


def first_chunk(count: int, passages: Sequence[Mapping[str, object]], head: Mapping[str, object]) -> str:
    """Return the event that begins `count` texts, with the passages, which are known before a text is."""
    delta = {"role": "assistant", "content": "", "annotations": passage_notes(passages)}
    return event({**head, "object": "chat.completion.chunk", "choices": [_delta(i, delta) for i in range(count)]})


def other_chunks(request: ChatRequest, reply: Reply, head: Mapping[str, object]) -> Iterator[str]:
    """Yield the events after the first: the texts line by line, how each ended, and what came of the vote."""
    head = {**head, "object": "chat.completion.chunk"}
    texts = chosen(request, reply)
    for i, text in enumerate(texts):
        for line in text.content.splitlines(keepends=True):
            yield event({**head, "choices": [_delta(i, {"content": line})]})
    ended = [_delta(i, {}, "stop") for i in range(len(texts))]
    yield event({**head, "choices": ended, "kard": facts(reply)})
    if request.usage_chunk:
        yield event({**head, "choices": [], "usage": usage(reply)})
    yield "data: [DONE]\n\n"


def event(value: Mapping[str, object]) -> str:
    """Return a value as one server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def _delta(index: int, delta: Mapping[str, object], finish: str | None = None) -> dict[str, object]:
    return {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": finish}
