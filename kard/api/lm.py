"""A student as a `dspy.LM`, and programs whose predictors it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import dspy
from dspy.adapters.utils import parse_value
from dspy.streaming.messages import StreamResponse, sync_send_to_stream
from dspy.utils.exceptions import AdapterParseError

from kard.answers.parsing import answer_of
from kard.config import Decoding
from kard.errors import BadInput
from kard.methods import METHODS
from kard.records import LETTERS
from kard.student.generation.engine import EngineLM, StudentEngine
from kard.student.generation.student import Student
from kard.student.prompt import ANSWER, StudentAdapter, signature_for
from kard.student.records import StudentInfo

ADAPTER_HASH = "adapter_sha256"  # in a saved program's state
Program = TypeVar("Program", bound=dspy.Module)


class ProgramAdapter(StudentAdapter):
    """The student's form, with outputs of the types that a signature names."""

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Return the signature's outputs. Raises AdapterParseError if a text does not fit its field's type."""
        texts = super().parse(signature, completion)
        try:
            return {name: _typed(text, signature.output_fields[name].annotation) for name, text in texts.items()}
        except ValueError as error:
            problem = " ".join(str(error).split())
            raise AdapterParseError(type(self).__name__, cast(Any, signature), completion, problem) from error

    def choices(self, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> list[str]:
        """Return the options among the inputs, else those that a `Literal` answer allows."""
        if options := super().choices(signature, inputs):
            return options
        name = list(signature.output_fields)[-1]
        return list(allowed_values(signature.output_fields[name].annotation)) if name == "answer" else []


class StudentLM(EngineLM):
    """A `dspy.LM` that answers with one student, `decoding.samples` times a call.

    Use it in `dspy.context(lm=lm, adapter=lm.adapter)` or in `kard.with_student(program, lm)`. Calls that wait at
    the same time, from any threads, are answered in one batch. Nothing is cached. `identity` says which student
    it is, `signature` what it was trained to read and write (None if that is not known). Close it after use.
    """

    def __init__(
        self,
        student: Student,
        decoding: Decoding,
        identity: StudentInfo,
        signature: type[dspy.Signature] | None = None,
    ) -> None:
        super().__init__(student, decoding)
        self.identity, self.signature = identity, signature
        self.adapter = ProgramAdapter(shots=not METHODS[identity.method].trained)

    def __deepcopy__(self, memo: dict[int, Any]) -> StudentLM:
        return cast(StudentLM, self.copy())

    def dump_state(self) -> dict[str, Any]:
        """Return the student's id and the hashes of its weights: a saved program names its student."""
        return {
            **dspy.BaseLM.dump_state(self),
            ADAPTER_HASH: self.identity.sha256,
            "base_sha256": self.identity.base_sha256,
            "method": self.identity.method,
        }

    @classmethod
    def load_state(cls, state: dict[str, Any], *, allow_custom_lm_class: bool = False) -> StudentLM:
        """Raise BadInput: a state holds no weights."""
        raise BadInput(
            f"the state names student {state.get('model')} but holds no weights; load it with kard.load_student "
            "and the state into kard.with_student(program, lm)"
        )


class StudentPredict(dspy.Predict):
    """A predictor that a student answers, in the student's form. Made by `with_student`."""

    def __init__(self, predict: dspy.Predict, lm: StudentLM) -> None:
        full = predict.full_signature if isinstance(predict, StudentPredict) else predict_signature(predict)
        super().__init__(signature_for(full, METHODS[lm.identity.method]), **predict.config)
        self.callbacks = list(predict.callbacks)
        self.stage = predict.stage
        self.demos = list(predict.demos)
        self.full_signature = full  # with the fields that the method leaves out
        self.lm: Any = lm

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        """Call like `dspy.Predict`, with the student's adapter as long as the LM is a student."""
        if not self._asks_student(kwargs):
            return super().forward(**kwargs)
        with dspy.context(adapter=self.lm.adapter):
            prediction = super().forward(**self._read(kwargs))
        for part in self._streamed(prediction):
            sync_send_to_stream(dspy.settings.send_stream, part)
        return prediction

    async def aforward(self, **kwargs: Any) -> dspy.Prediction:
        """Call like `forward`."""
        if not self._asks_student(kwargs):
            return await super().aforward(**kwargs)
        with dspy.context(adapter=self.lm.adapter):
            prediction = await super().aforward(**self._read(kwargs))
        for part in self._streamed(prediction):
            await dspy.settings.send_stream.send(part)
        return prediction

    def reset(self) -> None:
        """Reset everything but the LM, which is what this predictor is."""
        lm = getattr(self, "lm", None)
        super().reset()
        self.lm = lm

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> StudentPredict:
        """Restore the saved state, without the weights. Raises BadInput if it was saved with another student."""
        saved = cast("Mapping[str, Any]", state.get("lm") or {})
        if not isinstance(self.lm, StudentLM) or ADAPTER_HASH not in saved:
            super().load_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)
            return self
        lm, state_of_lm = self.lm, self.lm.dump_state()
        if any(saved[key] != state_of_lm[key] for key in (ADAPTER_HASH, "base_sha256", "method")):
            raise BadInput(
                f"the program was saved with student {saved['model']} (adapter {saved[ADAPTER_HASH][:12]}), not "
                f"with {lm.identity.id} (adapter {lm.identity.sha256[:12]}); load that one: "
                f"kard.load_student(store, {str(saved['model'])!r})"
            )
        super().load_state({**state, "lm": None})
        self.lm = lm
        return self

    def _streamed(self, prediction: dspy.Prediction) -> Iterator[StreamResponse]:
        """Yield for each listener of `dspy.streamify` its field, whole: a student writes in batches."""
        if dspy.settings.send_stream is None:
            return
        for listener in cast("Sequence[Any]", dspy.settings.stream_listeners or ()):
            if listener.predict is self and (listener.allow_reuse or not listener.stream_end):
                listener.stream_start = listener.stream_end = True
                field = listener.signature_field_name
                yield StreamResponse(listener.predict_name, field, str(prediction[field]), is_last_chunk=True)

    def _asks_student(self, kwargs: Mapping[str, Any]) -> bool:
        return isinstance(kwargs.get("lm") or self.lm, StudentLM)

    def _read(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the call without the inputs that the method leaves out.

        Raises BadInput for inputs far longer than the student was taught; passages are cut to fit.
        """
        inputs = self.full_signature.input_fields.keys()
        asked = (value for name, value in kwargs.items() if name in inputs and name != "passages")
        texts = (str(text) for value in asked for text in (value if isinstance(value, list | tuple) else [value]))
        lm = kwargs.get("lm") or self.lm
        if isinstance(lm, StudentLM) and (problem := cast(StudentEngine, lm.engine).student.too_long(*texts)):
            raise BadInput(f"{problem}; shorten it")
        unread = inputs - predict_signature(self).input_fields.keys()
        return {name: value for name, value in kwargs.items() if name not in unread}


def with_student(program: Program, lm: StudentLM) -> Program:
    """Return a copy of the program whose predictors the student answers, in the form that it was trained on.

    Their signatures lose what the student's method does not use: passages, rationale. The copy is an ordinary
    program: it can be evaluated, run in parallel and optimised. `save` keeps its state with the adapter's hash;
    `load` refuses the state of another adapter with BadInput.
    """
    if isinstance(program, dspy.Predict):
        return cast(Any, StudentPredict(program, lm))
    copy = program.deepcopy()

    def answered_by_student(predict: dspy.Predict) -> StudentPredict:
        return StudentPredict(predict, lm)

    copy.map_named_predictors(answered_by_student)
    return cast(Any, copy)


def predict_signature(predict: dspy.Predict) -> type[dspy.Signature]:
    """Return the predictor's signature, typed as the class that it is."""
    return cast("type[dspy.Signature]", predict.signature)


def _typed(text: str, annotation: Any) -> Any:
    """Return the value of a field's type that the text stands for. Raises ValueError."""
    allowed = allowed_values(annotation)
    letter = answer_of(f"{ANSWER} {text}", allowed) if allowed and text not in allowed else None
    return parse_value(text if letter is None else allowed[LETTERS.index(letter)], annotation)


def allowed_values(annotation: Any) -> tuple[str, ...]:
    """Return the values of a `Literal` as text, () for every other type."""
    return tuple(str(value) for value in get_args(annotation)) if get_origin(annotation) is Literal else ()
