"""A student as an ordinary `dspy.LM`, and programs whose predictors it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import dspy
from dspy.adapters.utils import parse_value
from dspy.utils.exceptions import AdapterParseError

from kard.answers.parsing import answer_of
from kard.config import METHODS, Decoding, Method, StudentTraining
from kard.errors import BadInput
from kard.records import LETTERS
from kard.student.generation.engine import AsyncStudentEngine, StudentEngine
from kard.student.generation.student import Student
from kard.student.prompt import ANSWER, StudentAdapter, shown, signature_for

REASONING = "reasoning"  # what dspy.ChainOfThought calls its rationale
_ADAPTER = "adapter_sha256"  # in a saved program's state


@dataclass(frozen=True, slots=True)
class StudentInfo:
    """What a student is, apart from where its files lie."""

    id: str
    sha256: str  # of the adapter's weights
    base: str  # spec
    base_sha256: str
    method: str
    settings: StudentTraining
    task: str = ""
    size: str = ""

    def __str__(self) -> str:
        words = (self.task, self.size, self.method, f"seed {self.settings.seed}")
        return f"{self.id} ({', '.join(word for word in words if word)})"


class ProgramAdapter(StudentAdapter):
    """The form that a trained student reads, with outputs of the types that a signature names, not text alone."""

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The signature's outputs. Raises AdapterParseError for a text that is none of a field's type."""
        found = super().parse(signature, completion)
        try:
            return {name: _typed(value, signature.output_fields[name].annotation) for name, value in found.items()}
        except ValueError as error:
            problem = " ".join(str(error).split())
            raise AdapterParseError(type(self).__name__, cast(Any, signature), completion, problem) from error

    def choices(self, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> list[str]:
        """The options among the inputs, else those that a `Literal` answer allows."""
        if found := super().choices(signature, inputs):
            return found
        name = list(signature.output_fields)[-1]
        return list(_allowed(signature.output_fields[name].annotation)) if name == "answer" else []


class ShownAdapter(ProgramAdapter):
    """The form in which a base is only prompted: after the instruction and the demonstrations."""

    def format(
        self, signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """One user message."""
        return [{"role": "user", "content": shown(signature, demos, inputs)}]


class StudentLM(dspy.LM):
    """Answers with one student: `dspy.context(lm=lm, adapter=lm.adapter)`, or `kard.with_student(program, lm)`.

    What is asked at the same time, by whatever threads, is answered in one batch. `identity` says which student
    it is, `signature` what it was trained to read and write (None when that is not known). Its draws are made
    anew each time: nothing is cached.
    """

    def __init__(
        self,
        student: Student,
        decoding: Decoding,
        identity: StudentInfo,
        signature: type[dspy.Signature] | None = None,
    ) -> None:
        engine = StudentEngine(student, decoding)
        drawn: dict[str, Any] = {}
        if decoding.samples > 1:
            drawn = {"n": decoding.samples, "temperature": decoding.temperature}
        super().__init__(
            identity.id,
            engine=engine,
            async_engine=AsyncStudentEngine(engine),
            cache=False,
            num_retries=0,
            **drawn,
        )
        self.identity, self.signature = identity, signature
        self.adapter: StudentAdapter = ProgramAdapter() if METHODS[identity.method].trained else ShownAdapter()

    def close(self) -> None:
        """Refuse what it and all its copies are asked from now on."""
        super().close()
        cast(StudentEngine, self.engine).close()

    def __deepcopy__(self, memo: dict[int, Any]) -> StudentLM:
        return cast(StudentLM, self.copy())

    def dump_state(self) -> dict[str, Any]:
        """The student's id and its weights' hashes: a saved program names its student and does not hold it."""
        known = self.identity
        return {
            **dspy.BaseLM.dump_state(self),
            _ADAPTER: known.sha256,
            "base_sha256": known.base_sha256,
            "method": known.method,
        }

    @classmethod
    def load_state(cls, state: dict[str, Any], *, allow_custom_lm_class: bool = False) -> StudentLM:
        """Refuses with BadInput: a state holds no weights."""
        raise BadInput(
            f"the state names student {state.get('model')} but holds no weights; load it with kard.load_student "
            "and the state into kard.with_student(program, lm)"
        )


class StudentPredict(dspy.Predict):
    """A predictor whose calls a student answers, in the student's form. Made by `with_student`."""

    def __init__(self, predict: dspy.Predict, lm: StudentLM) -> None:
        whole = predict.whole if isinstance(predict, StudentPredict) else predict_signature(predict)
        super().__init__(reduced(whole, METHODS[lm.identity.method]), **predict.config)
        self.callbacks = list(predict.callbacks)
        self.stage = predict.stage
        self.demos = list(predict.demos)
        self.whole = whole  # of which the method leaves out some
        self.lm: Any = lm

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        """As `dspy.Predict`, with the student's adapter as long as its LM is a student."""
        if not self._ours(kwargs):
            return super().forward(**kwargs)
        with dspy.context(adapter=self.lm.adapter):
            return super().forward(**self._read(kwargs))

    async def aforward(self, **kwargs: Any) -> dspy.Prediction:
        """As `forward`."""
        if not self._ours(kwargs):
            return await super().aforward(**kwargs)
        with dspy.context(adapter=self.lm.adapter):
            return await super().aforward(**self._read(kwargs))

    def reset(self) -> None:
        """As `dspy.Predict`, but for the LM: it is what this predictor is."""
        lm = getattr(self, "lm", None)
        super().reset()
        self.lm = lm

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> StudentPredict:
        """Restore what was saved, but for the weights. Raises BadInput when they were another adapter's."""
        saved = cast("Mapping[str, Any]", state.get("lm") or {})
        if not isinstance(self.lm, StudentLM) or _ADAPTER not in saved:
            super().load_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)
            return self
        here = self.lm.identity
        if (saved[_ADAPTER], saved["base_sha256"], saved["method"]) != (here.sha256, here.base_sha256, here.method):
            raise BadInput(
                f"the program was saved with student {saved['model']} (adapter {saved[_ADAPTER][:12]}), not with "
                f"{here.id} (adapter {here.sha256[:12]}); load that one: kard.load_student(store, "
                f"{str(saved['model'])!r})"
            )
        lm = self.lm
        super().load_state({**state, "lm": None})
        self.lm = lm
        return self

    def _ours(self, kwargs: Mapping[str, Any]) -> bool:
        return isinstance(kwargs.get("lm") or self.lm, StudentLM)

    def _read(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The call without the inputs that the method leaves out."""
        fields = predict_signature(self).input_fields
        return {
            name: value for name, value in kwargs.items() if name in fields or name not in self.whole.input_fields
        }


Program = TypeVar("Program", bound=dspy.Module)


def with_student(program: Program, lm: StudentLM) -> Program:
    """A copy of the program whose predictors are answered by the student, in the form that it was trained on.

    Their signatures lose what the student's method does not use: passages, rationale. The copy is an ordinary
    program: it is evaluated, run in parallel and optimised as others are, `save` keeps its state with the
    adapter's hash, and `load` refuses the state of another adapter with BadInput.
    """
    if isinstance(program, dspy.Predict):
        return cast(Any, StudentPredict(program, lm))
    made = program.deepcopy()

    def taken(predict: dspy.Predict) -> StudentPredict:
        return StudentPredict(predict, lm)

    made.map_named_predictors(taken)
    return cast(Any, made)


def reduced(signature: type[dspy.Signature], method: Method) -> type[dspy.Signature]:
    """The signature without what the method leaves out, `reasoning` of dspy.ChainOfThought among it."""
    signature = signature_for(signature, method)
    if not method.reasons and REASONING in signature.output_fields:
        signature = signature.delete(REASONING)
    return signature


def predict_signature(predict: dspy.Predict) -> type[dspy.Signature]:
    """The predictor's signature, of the type that it has."""
    return cast("type[dspy.Signature]", predict.signature)


def _typed(text: str, annotation: Any) -> Any:
    """The value of a field's type that a text stands for. Raises ValueError."""
    allowed = _allowed(annotation)
    letter = answer_of(f"{ANSWER} {text}", allowed) if allowed and text not in allowed else None
    return parse_value(text if letter is None else allowed[LETTERS.index(letter)], annotation)


def _allowed(annotation: Any) -> tuple[str, ...]:
    """What a `Literal` allows, as text; () for every other type."""
    return tuple(str(one) for one in get_args(annotation)) if get_origin(annotation) is Literal else ()
