"""What a DSPy program's predictors are to say, call by call: from labelled examples, or from a teacher's traces."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Union, cast, get_args, get_origin

import dspy

from kard.api.lm import predict_signature, reduced
from kard.config import Method, StudentTraining
from kard.errors import BadInput
from kard.records import LETTERS
from kard.student import prompt as render
from kard.student.generation.student import answer_form

Metric = Callable[..., Any]  # (example, prediction, trace) -> whether the teacher's calls are learnt
_PLAIN = (str, int, float, bool, type(None))  # what a line of text can say


@dataclass(frozen=True)
class PredictorCall:
    """One call of one predictor: the prompt that the student will see, and the pieces of what it is to write."""

    example: int  # number of the example in the training set
    predictor: str  # its name in the program
    signature: type[dspy.Signature]  # as the method leaves it
    prompt: str
    pieces: tuple[tuple[str, str], ...]


def lessons(
    program: dspy.Module,
    trainset: Sequence[dspy.Example],
    method: Method,
    settings: StudentTraining,
    *,
    teacher: dspy.LM | dspy.Module | None = None,
    metric: Metric | None = None,
    num_threads: int = 8,
) -> list[PredictorCall]:
    """The distinct calls of the program's predictors on the examples, in their order.

    Raises BadInput, naming example and field, when an example lacks what is to be learnt, when a predictor writes
    what no line of text can hold, or when there is nothing to learn.
    """
    names = [name for name, _ in program.named_predictors()]
    if not names:
        raise BadInput("the program has no predictor; give one with a dspy.Predict in it")
    for name, predictor in program.named_predictors():
        _writable(name, reduced(predict_signature(predictor), method))
    if teacher is None:
        if metric is not None:
            raise BadInput("a metric judges a teacher's answers, and there is no teacher; leave it out")
        calls = _labelled(program, trainset, method)
    else:
        calls = _taught(program, trainset, teacher, metric, num_threads)
    made: dict[tuple[str, tuple[tuple[str, str], ...]], PredictorCall] = {}
    for call in calls:
        signature = reduced(call.signature, method)
        prompt = render.prompt(signature, {name: call.inputs.get(name) for name in signature.input_fields})
        pieces = tuple(render.pieces(signature, _written(call, signature, settings)))
        made.setdefault((prompt, pieces), PredictorCall(call.example, call.predictor, signature, prompt, pieces))
    if not made:
        raise BadInput(
            "nothing to learn: no example led to a call that counts; give other examples or another metric"
        )
    return list(made.values())


@dataclass(frozen=True)
class _Call:
    example: int
    predictor: str
    signature: type[dspy.Signature]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


class _Labelled(dspy.Predict):
    """A predictor that answers with the labels of the example at hand, and notes what it is asked."""

    def __init__(self, name: str, predict: dspy.Predict, method: Method, calls: list[_Call]) -> None:
        super().__init__(predict_signature(predict))
        self.name, self.method, self.calls = name, method, calls
        self.number, self.example = 0, cast(dspy.Example, None)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        """The example's labels, as a prediction."""
        whole = predict_signature(self)
        wanted = reduced(whole, self.method)
        labels = cast("dict[str, Any]", self.example.labels().toDict())
        for field in wanted.output_fields:
            if labels.get(field) is None:
                raise BadInput(
                    f"example {self.number} has no {field!r}, which the predictor {self.name!r} is to write; "
                    "add it, name a method that leaves it out, or give a teacher"
                )
        inputs = {name: labels.get(name, kwargs.get(name)) for name in wanted.input_fields}
        self.calls.append(_Call(self.number, self.name, wanted, inputs, labels))
        # What the method leaves out of the target may still be read by the program's own code.
        said = {name: labels.get(name) for name in whole.output_fields}
        return dspy.Prediction.from_completions([said], signature=whole)


def _labelled(program: dspy.Module, trainset: Sequence[dspy.Example], method: Method) -> list[_Call]:
    calls: list[_Call] = []
    made = program.deepcopy()
    oracles: list[_Labelled] = []
    names = iter([name for name, _ in made.named_predictors()])

    def labelled(predict: dspy.Predict) -> _Labelled:
        oracles.append(_Labelled(next(names), predict, method, calls))
        return oracles[-1]

    if isinstance(made, dspy.Predict):
        made = labelled(made)
    else:
        made.map_named_predictors(labelled)
    for number, example in enumerate(trainset):
        for oracle in oracles:
            oracle.number, oracle.example = number, example
        with dspy.context(disable_history=True):
            made(**_inputs(number, example))
    return calls


def _taught(
    program: dspy.Module,
    trainset: Sequence[dspy.Example],
    teacher: dspy.LM | dspy.Module,
    metric: Metric | None,
    num_threads: int,
) -> Iterator[_Call]:
    """The teacher's calls on the examples that the metric accepts."""
    if isinstance(teacher, dspy.Module):
        taught = teacher
    else:
        taught = program.deepcopy()
        taught.set_lm(teacher)
    names = {id(predictor): name for name, predictor in taught.named_predictors()}
    there = {name: predict_signature(predictor) for name, predictor in program.named_predictors()}
    if set(names.values()) != set(there):
        raise BadInput(f"the teacher's predictors are {', '.join(names.values())}, not {', '.join(there)}")

    def run(item: tuple[int, dspy.Example]) -> list[_Call]:
        number, example = item
        with dspy.context(trace=[]):
            prediction = taught(**_inputs(number, example))
            trace = list(cast("Sequence[Any]", dspy.settings.trace))
        if metric is not None and not metric(example, prediction, trace):
            return []
        return [
            _Call(number, names[id(predictor)], there[names[id(predictor)]], inputs, dict(said.items()))
            for predictor, inputs, said in trace
            if id(predictor) in names
        ]

    with ThreadPoolExecutor(num_threads) as pool:
        running = [pool.submit(contextvars.copy_context().run, run, item) for item in enumerate(trainset)]
        for future in running:
            yield from future.result()


def _inputs(number: int, example: dspy.Example) -> dict[str, Any]:
    """What the program is called with. Raises BadInput."""
    try:
        return cast("dict[str, Any]", example.inputs().toDict())
    except ValueError:
        raise BadInput(
            f"example {number} does not say which of its fields are inputs; mark them: .with_inputs('question')"
        ) from None


def _written(call: _Call, signature: type[dspy.Signature], settings: StudentTraining) -> dict[str, str]:
    """The outputs as text; an answer in the form that the settings name, where it is one of the options."""
    said: dict[str, str] = {}
    for name in signature.output_fields:
        if name not in call.outputs:
            raise BadInput(
                f"example {call.example}: the teacher said no {name!r} in the predictor {call.predictor!r}"
            )
        said[name] = str(call.outputs[name])
    options = [str(option) for option in cast("Sequence[object]", call.inputs.get("options") or ())]
    answer = said.get("answer")
    if options and answer is not None:
        letters = LETTERS[: len(options)]
        if answer in options:
            said["answer"] = answer_form(options, letters[options.index(answer)], settings)
        elif len(answer) == 1 and answer in letters:
            said["answer"] = answer_form(options, answer, settings)
    return said


def _writable(name: str, signature: type[dspy.Signature]) -> None:
    """Raise BadInput for an output that a line of text cannot hold."""
    for field, info in signature.output_fields.items():
        if not _plain(info.annotation):
            raise BadInput(
                f"the predictor {name!r} writes {field!r} as {info.annotation}; a student writes a line of text: "
                "str, int, float, bool or a Literal of them"
            )


def _plain(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal:
        return all(isinstance(one, _PLAIN) for one in get_args(annotation))
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return all(_plain(one) for one in get_args(annotation))
    return annotation in _PLAIN
