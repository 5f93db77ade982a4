"""What a student reads and writes: one form for training and for answering.

    Question: what is asked
    Options: (A) one (B) other
    [1] Title: a passage          one line for each passage, best first
    Rationale:                    the cue that ends the prompt; the student continues from here
     why, in a line
    Answer: one

The fields stand in the order of the task's signature. The form is made for models of a hundred million parameters:
no markers, no instructions, cues of one word, and the question before the passages, so that the passages are read
with the question in mind. Every value is folded into one line, so that the beginning of a line can be trusted.

A base without an adapter reads the same form after the task's instruction and worked examples (shots), each
followed by an empty line:

    The task's instruction

    Question: a training question
    Options: (A) one (B) other
    Rationale: why
    Answer: one

    Question: what is asked
    ...
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
from kard.config import StudentTraining
from kard.methods import Method
from kard.records import LETTERS

ANSWER = "Answer:"
CHOICES = "choices"  # in Config.extensions: the options, for engines that can score them
FORCED, CUT, ANSWERED, MILLISECONDS, SHARES = (
    "forced",
    "cut",
    "answered",
    "milliseconds",
    "shares",
)  # in Response.provider_data
ROLLOUT = 1 << 20  # seeds between two of DSPy's rollouts: each rollout draws its own samples
Fields = Mapping[str, Any]  # values of a signature's fields


def signature_for(signature: type[dspy.Signature], method: Method) -> type[dspy.Signature]:
    """Return a signature without the fields that the method leaves out: passages, rationale."""
    if not method.reads and "passages" in signature.input_fields:
        signature = signature.delete("passages")
    for name in () if method.reasons else ("rationale", "reasoning"):  # dspy.ChainOfThought's is `reasoning`
        if name in signature.output_fields:
            signature = signature.delete(name)
    return signature


def render_prompt(signature: type[dspy.Signature], inputs: Fields) -> str:
    """Return the text that the student continues. It ends with the cue of the first output, without a space."""
    lines: list[str] = []
    for name in signature.input_fields:
        value = inputs.get(name)
        if name == "options" and _is_list(value):
            if value:  # a question without options is asked without the line
                lines.append(f"Options: {options_line(_strings(value))}")
        elif _is_list(value):
            lines += [f"[{number}] {one_line(text)}" for number, text in enumerate(_strings(value), 1)]
        elif value is not None:
            lines.append(f"{cue_of(name)} {one_line(str(value))}")
    lines.append(cue_of(next(iter(signature.output_fields))))
    return "\n".join(lines)


def render_target(signature: type[dspy.Signature], outputs: Mapping[str, str]) -> str:
    """Return what the student writes after the prompt: each output after its cue; the prompt has the first cue."""
    return "".join(f"{cue}{value}" for cue, value in target_pieces(signature, outputs))


def target_pieces(signature: type[dspy.Signature], outputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the target as (cue, value) pairs. The first cue is empty; a value begins with a space."""
    return [
        (f"\n{cue_of(name)}" if i else "", f" {one_line(outputs[name])}")
        for i, name in enumerate(signature.output_fields)
    ]


def render_with_shots(signature: type[dspy.Signature], shots: Sequence[Fields], inputs: Fields) -> str:
    """Return the prompt after the signature's instruction and worked examples, for a base without an adapter."""
    examples = [render_shot(signature, shot) for shot in shots]
    return "\n\n".join([one_line(signature.instructions), *examples, render_prompt(signature, inputs)])


def render_shot(signature: type[dspy.Signature], shot: Fields) -> str:
    """Return a worked example: a prompt with its target."""
    outputs = {name: str(shot[name]) for name in signature.output_fields}
    return render_prompt(signature, shot) + render_target(signature, outputs)


def answer_form(options: Sequence[str], answer: str, settings: StudentTraining) -> str:
    """Return what stands after `Answer:` for an answer: its option's text or letter; itself without options."""
    by_letter = settings.answer == "letter" or not options
    return one_line(answer) if by_letter else one_line(options[LETTERS.index(answer)])


def parse_outputs(signature: type[dspy.Signature], text: str) -> dict[str, str]:
    """Return the outputs that a student's text holds, '' for a missing one.

    For values of one line, `parse_outputs(s, render_target(s, outputs)) == outputs`. `text` may begin with the cue
    that ends the prompt. T5's tokenizer loses line breaks: then a cue's last occurrence counts.
    """
    names = list(signature.output_fields)
    first = cue_of(names[0])
    rest = text.removeprefix(first) if text.startswith(first) else text
    outputs: dict[str, str] = {}
    for name in reversed(names[1:]):
        rest, value = _cut_at(rest, cue_of(name))
        outputs[name] = one_line(value)
    outputs[names[0]] = one_line(rest)
    return {name: outputs[name] for name in names}


def with_answer_cue(prompt: str, text: str) -> str:
    """Return the student's text as answers are read from it: after `Answer:` if the prompt ended with that."""
    return f"{ANSWER}{text}" if prompt.endswith(ANSWER) else text


def before_answer(text: str) -> str:
    """Return the student's text up to its `Answer:`, where a forced answer is appended."""
    return _cut_at(text, ANSWER)[0].rstrip()


def up_to_first_answer(prompt: str, text: str) -> str:
    """Return a text up to the end of its first `Answer:` line, or to where it begins another question."""
    lines = text.split("\n")
    if prompt.endswith(ANSWER):
        first = next((i for i, line in enumerate(lines) if line.strip()), len(lines) - 1)
        return "\n".join(lines[: first + 1])
    for i, line in enumerate(lines):
        if line.lstrip().startswith(ANSWER):
            return "\n".join(lines[: i + 1])
        if i and line.startswith(cue_of("question")):
            return "\n".join(lines[:i]).rstrip()
    return text


def split_at_passages(prompt: str) -> tuple[str, str, str]:
    """Return the text before the last passage lines, these lines, and the rest: only passages may be cut to fit."""
    lines = prompt.split("\n")
    begin = max((i for i, line in enumerate(lines) if line.startswith("[1] ")), default=0)
    after = lines[begin:]
    count = next((i for i, line in enumerate(after) if not line.startswith(f"[{i + 1}] ")), len(after))
    return "\n".join(lines[:begin]), "\n".join(after[:count]), "\n".join(after[count:])


def cue_of(name: str) -> str:
    """Return `Rationale:` for the field `rationale`."""
    return f"{name.replace('_', ' ').capitalize()}:"


def options_line(options: Sequence[str]) -> str:
    """Return `(A) yes (B) no`."""
    return " ".join(f"({letter}) {one_line(option)}" for letter, option in zip(LETTERS, options, strict=False))


def one_line(text: str) -> str:
    """Return the text with every run of white space as one space."""
    return " ".join(text.split())


def _cut_at(text: str, cue: str) -> tuple[str, str]:
    """Return the text before and after a cue: the first line that begins with it, else its last occurrence."""
    before, separator, after = text.partition(f"\n{cue}")
    if separator:
        return before, after
    before, separator, after = text.rpartition(cue)
    return (before, after) if separator else (after, "")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _strings(value: object) -> list[str]:
    return [str(item) for item in cast("Sequence[Any]", value)]


class StudentAdapter(dspy.Adapter):
    """The student's form for any `dspy.LM`, local or not.

    With `shots` the prompt begins with the signature's instruction and the predictor's demonstrations: the form for
    a base without an adapter. Each completion is a dict of the signature's outputs and of what evaluation keeps:
    `text` as written (with the answer appended if it was forced), `answered`, the letter of the option or, without
    options, the short answer (None if none can be read), `forced` (None, `budget` or `unread`), `cut`,
    `prompt_tokens`, `completion_tokens` and `milliseconds`. An engine with `scores_choices` receives the options
    and always answers one of them; any other LM receives the prompt alone.
    """

    def __init__(self, *, shots: bool = False) -> None:
        super().__init__()
        self.shots = shots

    def format(
        self, signature: type[dspy.Signature], demos: Sequence[Fields], inputs: Fields
    ) -> list[dict[str, Any]]:
        """Return one user message. A trained student needs no demonstrations, so they are left out."""
        text = render_with_shots(signature, demos, inputs) if self.shots else render_prompt(signature, inputs)
        return [{"role": "user", "content": text}]

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Return the signature's outputs, '' for one that the text lacks."""
        return dict(parse_outputs(signature, completion))

    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Return one completion for each sample; their number `n` comes from the call or from the LM."""
        message = self.format(signature, demos, inputs)[0]["content"]
        options = self.choices(signature, inputs)
        settings = {**lm.kwargs, **lm_kwargs}
        # Texts are made in batches and whole: DSPy's stream has nothing to send from within a call.
        with dspy.context(send_stream=None):
            responses = self.responses(lm, message, settings, options)
        return [self._completion(signature, message, options, response) for response in responses]

    def responses(
        self, lm: Any, message: str, settings: Mapping[str, Any], options: Sequence[str]
    ) -> list[Response]:
        """Return one response to a prompt for each of the `n` samples."""
        local = getattr(lm.engine, "scores_choices", False)
        count = int(settings.get("n") or 1)
        first = ROLLOUT * int(settings.get("rollout_id") or 0)

        def request_sample(sample: int) -> Response:
            config = Config(
                max_tokens=settings.get("max_tokens"),
                temperature=settings.get("temperature"),
                top_p=settings.get("top_p"),
                seed=first + sample if local else None,
                extensions={CHOICES: list(options)} if local and options else None,
            )
            request = Request(model=lm.model, messages=(Message.user(message),), config=config)
            # DSPy's cache would answer every sample with the first one.
            return lm(request, cache=False) if count > 1 else lm(request)

        if local and count > 1:  # the engine batches requests that arrive at the same time
            with ThreadPoolExecutor(count) as pool:
                futures = [pool.submit(contextvars.copy_context().run, request_sample, i) for i in range(count)]
                return [future.result() for future in futures]
        return [request_sample(i) for i in range(count)]

    async def acall(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Return what a call returns, from a thread of its own."""
        return await asyncio.to_thread(self, lm, lm_kwargs, signature, demos, inputs)

    def choices(self, signature: type[dspy.Signature], inputs: Fields) -> list[str]:
        """Return the options that the last output must be one of, [] if it may be any text."""
        if list(signature.output_fields)[-1] != "answer":  # `Answer:` is what an engine appends to force one
            return []
        return _strings(inputs.get("options") or ())

    def _completion(
        self, signature: type[dspy.Signature], prompt: str, options: Sequence[str], response: Response
    ) -> dict[str, Any]:
        text = with_answer_cue(prompt, response.text or "")
        extra = cast("Mapping[str, Any]", response.provider_data or {})
        outputs = self.parse(signature, text)
        if extra.get(SHARES):  # likelihood has decided, whatever the text says
            outputs["answer"] = options[LETTERS.index(extra[ANSWERED])]
        return {
            **outputs,
            "text": text,
            "answered": extra[ANSWERED]
            if ANSWERED in extra
            else answer_of(text, options, cut=response.finish_reason == "length"),
            "forced": extra.get(FORCED),
            "cut": bool(extra.get(CUT, False)),
            "prompt_tokens": response.usage.input_tokens or 0,
            "completion_tokens": response.usage.output_tokens or 0,
            "milliseconds": float(extra.get(MILLISECONDS, 0.0)),
            "shares": tuple(extra.get(SHARES, ())),
        }
