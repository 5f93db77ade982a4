"""The student's form: what is rendered is parsed back, for training and for answering."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

import dspy
import pytest
from dspy.lm15 import Message, Request, Response, Usage
from hypothesis import given
from hypothesis import strategies as st

from kard.methods import METHODS, Method
from kard.student.prompt import (
    StudentAdapter,
    before_answer,
    one_line,
    parse_outputs,
    render_prompt,
    render_shot,
    render_target,
    signature_for,
    split_at_passages,
    with_answer_cue,
)

ANSWER: type[dspy.Signature] = import_module("kard.programs._common").Answer
OPTIONS = ["an inland sea", "a salt lake", "a river", "a bay"]
INPUTS = {
    "passages": ["Caspian Sea: It is landlocked.", "Baku: A port."],
    "question": "What is the Caspian?",
    "options": OPTIONS,
}

TARGET = {"rationale": "r", "answer": "a"}
texts = st.text(max_size=60) | st.sampled_from(
    ["Answer: x", "a\nAnswer: b", "[1] c", "\nQuestion: d", "Rationale:", ""]
)
lists = st.lists(texts, max_size=3)


def test_a_prompt_is_question_options_passages_and_the_cue() -> None:
    assert render_prompt(ANSWER, INPUTS) == (
        "Question: What is the Caspian?\n"
        "Options: (A) an inland sea (B) a salt lake (C) a river (D) a bay\n"
        "[1] Caspian Sea: It is landlocked.\n"
        "[2] Baku: A port.\n"
        "Rationale:"
    )
    assert render_target(ANSWER, {"rationale": "It has no outlet.", "answer": "an inland sea"}) == (
        " It has no outlet.\nAnswer: an inland sea"
    )


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_method_leaves_out_what_it_does_not_use(method: Method) -> None:
    signature = signature_for(ANSWER, method)
    prompt = render_prompt(signature, INPUTS)
    assert ("landlocked" in prompt) == method.reads
    assert prompt.endswith("Rationale:" if method.reasons else "\nAnswer:")
    target = render_target(signature, {"rationale": "No outlet.", "answer": "a bay"})
    assert target == (" No outlet.\nAnswer: a bay" if method.reasons else " a bay")


@given(passages=lists, question=texts, options=lists, rationale=texts, answer=texts)
@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_parsing_a_target_gives_its_outputs(
    method: Method, passages: list[str], question: str, options: list[str], rationale: str, answer: str
) -> None:
    signature = signature_for(ANSWER, method)
    outputs = {"rationale": rationale, "answer": answer}
    prompt = render_prompt(signature, {"passages": passages, "question": question, "options": options})
    written = render_target(signature, outputs)
    wanted = {name: one_line(outputs[name]) for name in signature.output_fields}
    assert parse_outputs(signature, written) == wanted
    assert parse_outputs(signature, with_answer_cue(prompt, written)) == wanted


@given(passages=lists, question=texts, options=lists)
def test_each_passage_of_a_prompt_has_its_own_line(passages: list[str], question: str, options: list[str]) -> None:
    prompt = render_prompt(ANSWER, {"passages": passages, "question": question, "options": options})
    lines = prompt.split("\n")
    first = 2 if options else 1
    assert lines[0] == f"Question: {one_line(question)}"
    read = [f"[{i}] {one_line(p)}" for i, p in enumerate(passages, 1)]
    assert lines[first:] == [*read, "Rationale:"]
    parts = ["\n".join(lines[:first]), "\n".join(read), "Rationale:"]
    assert split_at_passages(prompt) == (tuple(parts) if passages else ("", "", prompt))
    # After worked examples it is the asked question's passages that may be cut.
    example = render_shot(ANSWER, {"passages": ["of old"], "question": "q", "options": [], **TARGET})
    asked = split_at_passages(f"{example}\n\n{prompt}")
    assert "\n".join(filter(None, asked)) == f"{example}\n\n{prompt}"
    if passages:
        assert asked == (f"{example}\n\n{parts[0]}", *parts[1:])


def test_an_answer_is_parsed_without_line_breaks() -> None:
    assert parse_outputs(ANSWER, "The Answer: of old was wrong. Answer: a bay") == {
        "rationale": "The Answer: of old was wrong.",
        "answer": "a bay",
    }
    assert parse_outputs(ANSWER, "no cue at all") == {"rationale": "no cue at all", "answer": ""}


def test_a_forced_answer_replaces_a_cut_one() -> None:
    assert before_answer(" It is salt. \nAnswer: a s") == " It is salt."
    assert before_answer(" It is salt.") == " It is salt."


class Replies:
    """An engine with a list of replies, one for each call."""

    def __init__(self, *replies: tuple[str, dict[str, Any] | None], scores_choices: bool) -> None:
        self.replies, self.requests = list(replies), list[Request]()
        self.scores_choices = scores_choices

    def complete(self, request: Request) -> Response:
        self.requests.append(request)
        text, data = self.replies.pop(0)
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant(text),
            finish_reason="stop",
            usage=Usage(input_tokens=7, output_tokens=3),
            provider_data=data,
        )


def ask(engine: Replies, method: str = "kard", **settings: Any) -> dspy.Prediction:
    lm = dspy.LM("student", engine=engine, cache=False, num_retries=0, **settings)
    signature = signature_for(ANSWER, METHODS[method])
    with dspy.context(lm=lm, adapter=StudentAdapter()):
        given = {name: INPUTS[name] for name in signature.input_fields}
        made = dspy.Predict(signature)(**given)
    assert not engine.replies
    return made


def test_any_other_lm_receives_the_prompt_alone_and_its_text_is_parsed() -> None:
    engine = Replies((" It has no outlet.\nAnswer: an inland sea", None), scores_choices=False)
    made = ask(engine)
    (request,) = engine.requests
    assert [m.text for m in request.messages] == [render_prompt(ANSWER, INPUTS)]
    assert request.config.extensions is None
    assert (made.rationale, made.answer, made.answered) == ("It has no outlet.", "an inland sea", "A")
    assert (made.forced, made.prompt_tokens, made.completion_tokens, made.milliseconds) == (None, 7, 3, 0.0)


def test_an_engine_that_scores_choices_receives_the_options_and_decides() -> None:
    data = {"forced": "budget", "answered": "C", "milliseconds": 12.5}
    engine = Replies((" It flows\nAnswer: a bay", data), scores_choices=True)
    made = ask(engine)
    assert engine.requests[0].config.extensions == {"choices": OPTIONS}
    assert (made.answered, made.forced, made.milliseconds) == ("C", "budget", 12.5)
    assert made.text == " It flows\nAnswer: a bay"


def test_an_answer_without_rationale_is_parsed_with_the_cue_of_its_prompt() -> None:
    made = ask(Replies((" a salt lake", None), scores_choices=False), method="ft")
    assert (made.text, made.answer, made.answered) == ("Answer: a salt lake", "a salt lake", "B")


@pytest.mark.parametrize("local", [True, False])
def test_each_sample_is_a_request_of_its_own(local: bool) -> None:
    engine = Replies(*[(f" so\nAnswer: {OPTIONS[i]}", None) for i in (1, 1, 3)], scores_choices=local)
    made = ask(engine, n=3, temperature=1.0)
    assert sorted(cast(Any, made.completions).answered) == ["B", "B", "D"]
    seeds = [request.config.seed for request in engine.requests]
    assert sorted(seeds, key=str) == ([0, 1, 2] if local else [None] * 3)
    assert {request.config.temperature for request in engine.requests} == {1.0}
