"""The calls of a DSPy program's predictors with what they are to write: from labels, or from a teacher's traces."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

import dspy
from dspy.adapters.utils import parse_value

from kard.api.lm import allowed_values, predict_signature
from kard.config import StudentTraining
from kard.errors import BadInput
from kard.methods import Method
from kard.records import LETTERS
from kard.student.prompt import answer_form, render_prompt, signature_for, target_pieces

Metric = Callable[..., Any]  # (example, prediction, trace) -> whether the teacher's calls are learnt
PLAIN_TYPES = (str, int, float, bool, type(None))  # what a line of text can hold


@dataclass(frozen=True)
class PredictorCall:
    """One call of one predictor: the prompt that the student will see, and the parts of its target."""

    example: int  # index of the example in the training set
    predictor: str  # its name in the program
    signature: type[dspy.Signature]  # as the method leaves it
    prompt: str
    pieces: tuple[tuple[str, str], ...]


def predictor_calls(
    program: dspy.Module,
    trainset: Sequence[dspy.Example],
    method: Method,
    settings: StudentTraining,
    *,
    teacher: dspy.LM | dspy.Module | None = None,
    metric: Metric | None = None,
    num_threads: int = 8,
) -> list[PredictorCall]:
    """Return the distinct calls of the program's predictors on the examples, in the order of the examples.

    Raises BadInput, with the example and the field, if an example lacks a field that is learnt, if a predictor
    writes what no line of text can hold, or if there is nothing to learn.
    """
    predictors = program.named_predictors()
    if not predictors:
        raise BadInput("the program has no predictor; give one with a dspy.Predict in it")
    for name, predictor in predictors:
        _check_writable(name, signature_for(predict_signature(predictor), method))
    if teacher is None:
        if metric is not None:
            raise BadInput("a metric judges a teacher's answers, and there is no teacher; leave it out")
        calls = _labelled_calls(program, trainset, method)
    else:
        calls = _teacher_calls(program, trainset, teacher, metric, num_threads)
    distinct: dict[tuple[str, tuple[tuple[str, str], ...]], PredictorCall] = {}
    for call in calls:
        signature = signature_for(call.signature, method)
        prompt = render_prompt(signature, {name: call.inputs.get(name) for name in signature.input_fields})
        outputs = _outputs(call, signature, settings)
        for field, info in signature.output_fields.items():
            _check_label(call, field, str(call.outputs[field]), info.annotation)
        pieces = tuple(target_pieces(signature, outputs))
        distinct.setdefault(
            (prompt, pieces), PredictorCall(call.example, call.predictor, signature, prompt, pieces)
        )
    if not distinct:
        raise BadInput(
            "nothing to learn: no example led to a call that counts; give other examples or another metric"
        )
    return list(distinct.values())


@dataclass(frozen=True)
class _Call:
    example: int
    predictor: str
    signature: type[dspy.Signature]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


class _LabelledPredict(dspy.Predict):
    """A predictor that answers with the labels of the current example, and records its calls."""

    def __init__(self, name: str, predict: dspy.Predict, method: Method, calls: list[_Call]) -> None:
        super().__init__(predict_signature(predict))
        self.name, self.method, self.calls = name, method, calls
        self.number, self.example = 0, cast(dspy.Example, None)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        """Return the example's labels as a prediction."""
        full = predict_signature(self)
        learnt = signature_for(full, self.method)
        labels = cast("dict[str, Any]", self.example.labels().toDict())
        for field in learnt.output_fields:
            if labels.get(field) is None:
                raise BadInput(
                    f"example {self.number} has no {field!r}, which the predictor {self.name!r} is to write; "
                    "add it, name a method that leaves it out, or give a teacher"
                )
        inputs = {name: labels.get(name, kwargs.get(name)) for name in learnt.input_fields}
        self.calls.append(_Call(self.number, self.name, learnt, inputs, labels))
        # The program's own code may still read what the method leaves out of the target.
        outputs = {name: labels.get(name) for name in full.output_fields}
        return dspy.Prediction.from_completions([outputs], signature=full)


def _labelled_calls(program: dspy.Module, trainset: Sequence[dspy.Example], method: Method) -> list[_Call]:
    calls: list[_Call] = []
    copy = program.deepcopy()
    predictors: list[_LabelledPredict] = []
    names = iter([name for name, _ in copy.named_predictors()])

    def labelled(predict: dspy.Predict) -> _LabelledPredict:
        predictors.append(_LabelledPredict(next(names), predict, method, calls))
        return predictors[-1]

    if isinstance(copy, dspy.Predict):
        copy = labelled(copy)
    else:
        copy.map_named_predictors(labelled)
    for number, example in enumerate(trainset):
        for predictor in predictors:
            predictor.number, predictor.example = number, example
        with dspy.context(disable_history=True):
            copy(**_inputs(number, example))
    return calls


def _teacher_calls(
    program: dspy.Module,
    trainset: Sequence[dspy.Example],
    teacher: dspy.LM | dspy.Module,
    metric: Metric | None,
    num_threads: int,
) -> Iterator[_Call]:
    """Yield the teacher's calls on the examples that the metric accepts."""
    if isinstance(teacher, dspy.Module):
        taught = teacher
    else:
        taught = program.deepcopy()
        taught.set_lm(teacher)
    names = {id(predictor): name for name, predictor in taught.named_predictors()}
    signatures = {name: predict_signature(predictor) for name, predictor in program.named_predictors()}
    if set(names.values()) != set(signatures):
        raise BadInput(f"the teacher's predictors are {', '.join(names.values())}, not {', '.join(signatures)}")

    def run(item: tuple[int, dspy.Example]) -> list[_Call]:
        number, example = item
        with dspy.context(trace=[]):
            prediction = taught(**_inputs(number, example))
            trace = list(cast("Sequence[Any]", dspy.settings.trace))
        if metric is not None and not metric(example, prediction, trace):
            return []
        return [
            _Call(number, names[id(predictor)], signatures[names[id(predictor)]], inputs, dict(outputs.items()))
            for predictor, inputs, outputs in trace
            if id(predictor) in names
        ]

    with ThreadPoolExecutor(num_threads) as pool:
        futures = [pool.submit(contextvars.copy_context().run, run, item) for item in enumerate(trainset)]
        for future in futures:
            yield from future.result()


def _inputs(number: int, example: dspy.Example) -> dict[str, Any]:
    """Return what the program is called with. Raises BadInput."""
    try:
        return cast("dict[str, Any]", example.inputs().toDict())
    except ValueError:
        raise BadInput(
            f"example {number} does not say which of its fields are inputs; mark them: .with_inputs('question')"
        ) from None


def _outputs(call: _Call, signature: type[dspy.Signature], settings: StudentTraining) -> dict[str, str]:
    """Return the outputs as text; an answer that is one of the options gets the form that the settings name."""
    outputs: dict[str, str] = {}
    for name in signature.output_fields:
        if name not in call.outputs:
            raise BadInput(
                f"example {call.example}: the teacher said no {name!r} in the predictor {call.predictor!r}"
            )
        outputs[name] = str(call.outputs[name])
    options = [str(option) for option in cast("Sequence[object]", call.inputs.get("options") or ())]
    answer = outputs.get("answer")
    if options and answer is not None:
        letters = LETTERS[: len(options)]
        if answer in options:
            outputs["answer"] = answer_form(options, letters[options.index(answer)], settings)
        elif len(answer) == 1 and answer in letters:
            outputs["answer"] = answer_form(options, answer, settings)
    return outputs


def _check_label(call: _Call, field: str, text: str, annotation: Any) -> None:
    """Raise BadInput for a label that the field's type forbids: a student would learn to write it."""
    allowed = allowed_values(annotation)
    try:
        if allowed and text not in allowed:
            raise ValueError
        if not allowed and annotation is not str:
            parse_value(text, annotation)
    except ValueError as error:
        written = ", ".join(map(repr, allowed)) or getattr(annotation, "__name__", annotation)
        raise BadInput(
            f"example {call.example}: {field!r} is {text!r}, but the predictor {call.predictor!r} writes "
            f"{written}; mend the label or the signature"
        ) from error


def _check_writable(name: str, signature: type[dspy.Signature]) -> None:
    """Raise BadInput for an output that a line of text cannot hold."""
    for field, info in signature.output_fields.items():
        if not _is_plain(info.annotation):
            raise BadInput(
                f"the predictor {name!r} writes {field!r} as {info.annotation}; a student writes a line of text: "
                "str, int, float, bool or a Literal of them"
            )


def _is_plain(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal:
        return all(isinstance(value, PLAIN_TYPES) for value in get_args(annotation))
    if origin is Union or origin is UnionType:
        return all(_is_plain(option) for option in get_args(annotation))
    return annotation in PLAIN_TYPES
