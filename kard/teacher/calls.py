"""One question to the teacher: what it is asked, what came back, what that cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kard.config import Teaching
from kard.records import LETTERS, Question, canonical, digest
from kard.tasks import Task
from kard.teacher.records import TeacherInfo

if TYPE_CHECKING:
    import dspy

ATTEMPTS = 2  # an answer that cannot be read is asked for once more


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one sample: both attempts' tokens, dollars and milliseconds when there were two."""

    text: str | None  # None when no attempt could be read
    prompt_tokens: int
    completion_tokens: int
    cost: float | None  # None when the model's price is not known
    milliseconds: float


def identity(task: Task, model: str, settings: Teaching, name: str) -> TeacherInfo:
    """Who answers when `model` is asked in this way: our own canonical form, and the hash of it.

    How many samples are drawn, by how many workers and at which address changes no rationale's distribution
    and so no identity.
    """
    fields = [
        {"name": field, "role": role, "about": _about(info), "type": _type(info)}
        for role, group in (("input", task.teach.input_fields), ("output", task.teach.output_fields))
        for field, info in group.items()
    ]
    asked = {
        "model": model,
        "instructions": task.teach.instructions,
        "fields": fields,
        "shots": [dict(shot) for shot in task.shots],
    }
    sampling = {"temperature": settings.temperature, "max_tokens": settings.max_tokens, "answer_given": True}
    return TeacherInfo(
        digest(canonical(asked), canonical(sampling)), name, model, task.teach.instructions, canonical(sampling)
    )


def _about(info: Any) -> str:
    about = str((info.json_schema_extra or {}).get("desc") or "")
    return "" if about.startswith("${") else about  # DSPy's own placeholder says nothing of ours


def _type(info: Any) -> str:
    return getattr(info.annotation, "__name__", None) or str(info.annotation)


def given(task: Task, question: Question) -> Mapping[str, object]:
    """The inputs of the task's `teach` for a question whose answer is known."""
    lettered = [f"({letter}) {option}" for letter, option in zip(LETTERS, question.options, strict=False)]
    as_text = task.teach.input_fields["options"].annotation is str
    values: dict[str, object] = {
        "question": question.text,
        "options": "\n".join(lettered) if as_text else list(question.options),
        "answer": question.gold,
    }
    return {name: value for name, value in values.items() if name in task.teach.input_fields}


def ask(lm: dspy.LM, task: Task, settings: Teaching, question: Question) -> Reply:
    """Ask for one rationale. Safe in threads. Raises DSPy's LMError when the provider fails or refuses."""
    limits = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    return call(lm, task.teach, given(task, question), "rationale", limits, task.shots)


def call(
    lm: dspy.LM,
    signature: type[dspy.Signature],
    inputs: Mapping[str, object],
    output: str,
    limits: Mapping[str, float],
    shots: Sequence[Mapping[str, str]] = (),
) -> Reply:
    """The signature's `output` for the inputs. `limits` are temperature and max_tokens. Raises as `ask` does."""
    import dspy
    from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

    # A copy has a history of its own, so that its entries are this call's and nobody else's. Without the cache
    # every sample is drawn anew; the store is what remembers.
    own = lm.copy(cache=False)
    predict = dspy.Predict(signature)
    predict.demos = [dspy.Example(**shot) for shot in shots]
    # DSPy's fallback would pay for a second call in JSON without saying so.
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    config = dict(limits)
    if "max_completion_tokens" in own.kwargs:
        del config["max_tokens"]
    text: str | None = None
    begin = time.monotonic()
    with dspy.context(lm=own, adapter=adapter, disable_history=False, max_history_size=ATTEMPTS, trace=None):
        for _ in range(ATTEMPTS):
            try:
                text = str(predict(**inputs, config=dict(config)).get(output) or "").strip() or None
            except AdapterParseError:
                text = None
            except ContextWindowExceededError:
                break
            if text is not None:
                break
    calls = cast("list[dict[str, Any]]", own.history)
    costs = [made["cost"] for made in calls]
    return Reply(
        text,
        sum(int(made["usage"].get("prompt_tokens") or 0) for made in calls),
        sum(int(made["usage"].get("completion_tokens") or 0) for made in calls),
        sum(costs) if all(cost is not None for cost in costs) else None,
        (time.monotonic() - begin) * 1000,
    )
