"""What a student reads and writes, for training and for answering alike: one form, written here and nowhere else.

    Question: what is asked
    Options: (A) one (B) other
    [1] Title: a passage          one line a passage, best first
    Rationale:                    the cue that ends the prompt; the student goes on from here
     why, in a line
    Answer: one

The fields stand in the order of the task's signature. The form is made for models of a hundred million parameters:
no markers, no instructions, a cue of one word, and passages after the question, so that they are read for it.
Values are folded into one line each, so that a line's start can be trusted whatever a passage says.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import dspy
from dspy.lm15 import Config, Message, Request, Response

from kard.answers.parsing import answer_of
from kard.config import Method
from kard.records import LETTERS

ANSWER = "Answer:"
CHOICES = "choices"  # in Config.extensions: the options, for engines that can score them
FORCED, LETTER, MILLISECONDS = "forced", "letter", "milliseconds"  # in Response.provider_data
ROLLOUT = 1 << 20  # samples between two of DSPy's rollouts: each rollout draws by seeds of its own
Inputs = Mapping[str, object]


def signature_for(signature: type[dspy.Signature], method: Method) -> type[dspy.Signature]:
    """A task's `answer` signature without what the method leaves out: passages, rationale."""
    if not method.reads and "passages" in signature.input_fields:
        signature = signature.delete("passages")
    if not method.reasons and "rationale" in signature.output_fields:
        signature = signature.delete("rationale")
    return signature


def prompt(signature: type[dspy.Signature], inputs: Inputs) -> str:
    """The text that the student continues. It ends with the cue of the first output, without a space."""
    lines: list[str] = []
    for name in signature.input_fields:
        value = inputs.get(name)
        if name == "options" and _is_list(value):
            if value:  # a question without options is asked without the line
                lines.append(f"Options: {options_line(_strings(value))}")
        elif _is_list(value):
            lines += [f"[{number}] {line(text)}" for number, text in enumerate(_strings(value), 1)]
        elif value is not None:
            lines.append(f"{cue(name)} {line(str(value))}")
    lines.append(cue(next(iter(signature.output_fields))))
    return "\n".join(lines)


def shown(signature: type[dspy.Signature], shots: Sequence[Inputs], inputs: Inputs) -> str:
    """`prompt` after the signature's instruction and worked examples: what a base without adapter continues."""
    return "\n\n".join(
        [line(signature.instructions), *(worked(signature, shot) for shot in shots), prompt(signature, inputs)]
    )


def worked(signature: type[dspy.Signature], shot: Inputs) -> str:
    """A prompt with its target: an example."""
    return prompt(signature, shot) + target(signature, {n: str(shot[n]) for n in signature.output_fields})


def first_answer(prompt: str, written: str) -> str:
    """The text up to the end of its first `Answer:` line, or to where it goes on with another question."""
    lines = written.split("\n")
    if prompt.endswith(ANSWER):
        first = next((i for i, text in enumerate(lines) if text.strip()), len(lines) - 1)
        return "\n".join(lines[: first + 1])
    for i, text in enumerate(lines):
        if text.lstrip().startswith(ANSWER):
            return "\n".join(lines[: i + 1])
        if i and text.startswith(cue("question")):
            return "\n".join(lines[:i]).rstrip()
    return written


def target(signature: type[dspy.Signature], outputs: Mapping[str, str]) -> str:
    """What the student writes after `prompt`: each output after its cue, the first one's being in the prompt."""
    return "".join(f"{before}{value}" for before, value in pieces(signature, outputs))


def pieces(signature: type[dspy.Signature], outputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """The parts of `target` as (cue, value) pairs. The first cue is empty, a value begins with a space."""
    names = list(signature.output_fields)
    values = [f" {line(outputs[name])}" for name in names]
    return [
        ("" if i == 0 else f"\n{cue(name)}", value)
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    ]


def parse(signature: type[dspy.Signature], text: str) -> dict[str, str]:
    """The outputs that a student's text holds; `parse(s, target(s, outputs)) == outputs` for one-line values.

    `text` may begin with the cue that the prompt ends with. A tokenizer that loses line breaks (T5's) leaves the
    cue in mid-line: then its last occurrence counts. A missing output is ''.
    """
    names = list(signature.output_fields)
    first = cue(names[0])
    rest = text.removeprefix(first) if text.startswith(first) else text
    found: dict[str, str] = {}
    for name in reversed(names[1:]):
        rest, value = _cut(rest, cue(name))
        found[name] = line(value)
    found[names[0]] = line(rest)
    return {name: found[name] for name in names}


def reading(prompt: str, written: str) -> str:
    """The student's text as answers are read from it: with its `Answer:` where that stands in the prompt."""
    return f"{ANSWER}{written}" if prompt.endswith(ANSWER) else written


def without_answer(written: str) -> str:
    """The text up to its `Answer:`, where a forced answer goes on."""
    return _cut(written, ANSWER)[0].rstrip()


def split(prompt: str) -> tuple[str, str, str]:
    """What stands before the last passage lines, these lines, and the rest: passages alone may be cut to fit."""
    lines = prompt.split("\n")
    begin = max((i for i, text in enumerate(lines) if text.startswith("[1] ")), default=0)
    after = lines[begin:]
    count = next((i for i, text in enumerate(after) if not text.startswith(f"[{i + 1}] ")), len(after))
    return "\n".join(lines[:begin]), "\n".join(after[:count]), "\n".join(after[count:])


def cue(name: str) -> str:
    """`Rationale:` for the field `rationale`."""
    return f"{name.replace('_', ' ').capitalize()}:"


def options_line(options: Sequence[str]) -> str:
    """`(A) yes (B) no`."""
    return " ".join(f"({letter}) {line(option)}" for letter, option in zip(LETTERS, options, strict=False))


def line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def _cut(text: str, cue: str) -> tuple[str, str]:
    """Before and after the cue: at the first line that begins with it, else at its last occurrence."""
    before, found, after = text.partition(f"\n{cue}")
    if found:
        return before, after
    before, found, after = text.rpartition(cue)
    return (before, after) if found else (after, "")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _strings(value: object) -> list[str]:
    return [str(item) for item in cast("Sequence[Any]", value)]


class StudentAdapter(dspy.Adapter):
    """Speaks the student's form to any `dspy.LM`, local or not.

    Each completion is a dict of the signature's outputs and of what evaluation keeps: `text` as written,
    `letter` of the option that it answers (None when none can be read), `forced`, `prompt_tokens`,
    `completion_tokens` and `milliseconds`. An engine with `scores_choices` is told the options and always
    answers; any other LM gets the prompt alone.
    """

    def format(
        self, signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """One user message. Demonstrations are left out: a student is trained, not shown."""
        del demos
        return [{"role": "user", "content": prompt(signature, inputs)}]

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The signature's outputs, as far as the text has them."""
        return dict(parse(signature, completion))

    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """One completion a sample; `n` comes from the call or from the LM."""
        message = self.format(signature, demos, inputs)[0]["content"]
        options = self.choices(signature, inputs)
        settings = {**lm.kwargs, **lm_kwargs}
        local = getattr(lm.engine, "scores_choices", False)
        count = int(settings.get("n") or 1)
        first = ROLLOUT * int(settings.get("rollout_id") or 0)

        def ask(sample: int) -> Response:
            config = Config(
                max_tokens=settings.get("max_tokens"),
                temperature=settings.get("temperature"),
                top_p=settings.get("top_p"),
                seed=first + sample if local else None,
                extensions={CHOICES: list(options)} if local and options else None,
            )
            request = Request(model=lm.model, messages=(Message.user(message),), config=config)
            # Each sample is its own: a cache that DSPy keeps would answer all of them with the first.
            return lm(request, cache=False) if count > 1 else lm(request)

        if local and count > 1:  # the engine batches what is asked at the same time
            with ThreadPoolExecutor(count) as pool:
                asked = [pool.submit(contextvars.copy_context().run, ask, i) for i in range(count)]
                responses = [future.result() for future in asked]
        else:
            responses = [ask(i) for i in range(count)]
        return [self._completion(signature, message, options, response) for response in responses]

    async def acall(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """As a call, in a thread of its own."""
        return await asyncio.to_thread(self, lm, lm_kwargs, signature, demos, inputs)

    def choices(self, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> list[str]:
        """The options of which the last output is one; none when it may be any text."""
        if list(signature.output_fields)[-1] != "answer":  # `Answer:` is what an engine appends to force one
            return []
        return _strings(inputs.get("options") or ())

    def _completion(
        self, signature: type[dspy.Signature], prompt: str, options: Sequence[str], response: Response
    ) -> dict[str, Any]:
        text = reading(prompt, response.text or "")
        extra = cast("Mapping[str, Any]", response.provider_data or {})
        return {
            **self.parse(signature, text),
            "text": text,
            "letter": extra[LETTER] if LETTER in extra else answer_of(text, options),
            "forced": bool(extra.get(FORCED, False)),
            "prompt_tokens": response.usage.input_tokens or 0,
            "completion_tokens": response.usage.output_tokens or 0,
            "milliseconds": float(extra.get(MILLISECONDS, 0.0)),
        }
