"""One call to a teacher: its inputs, its reply, and what the reply cost."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from kard.config import Teaching
from kard.errors import BadConfig
from kard.outgoing import without_keys
from kard.outgoing.patience import TIMEOUT, Patience
from kard.progress import timed
from kard.records import LETTERS, Passage, Question, canonical, digest
from kard.tasks import Task
from kard.teacher.records import TeacherInfo

if TYPE_CHECKING:
    import dspy

RETRIES = 3  # of a request that failed for a passing reason, after waiting longer each time
ATTEMPTS = 2  # a reply that cannot be read is asked for once more
MOST_TOKENS = 1e9  # of one call; more, or what is no number, is a provider's mistake
PASSAGES = "passages"  # a signature's input for those that a teacher reads
LETTER = "letter"  # a signature's output that gives the option apart from the prose
Outcome = Literal["complete", "cut", "refused", "empty", "unreadable", "too long"]


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of one sample, with the tokens, dollars and milliseconds of all its attempts."""

    text: str | None  # None if no attempt is complete
    prompt_tokens: int
    completion_tokens: int
    cost: float | None  # US dollars; None if the model's price is not known
    milliseconds: float
    letter: str | None = None  # what the signature's field `letter` holds, None if it has none
    outcome: Outcome = "complete"
    written: str = ""  # by the last attempt, in the form of the adapter


def teacher_lm(
    model: str,
    *,
    temperature: float,
    max_tokens: int,
    api_base: str | None = None,
    timeout: float = TIMEOUT,
) -> dspy.LM:
    """Return the `dspy.LM` of `provider/model`: any provider that DSPy knows, or a server of one's own.

    `api_base` is the address of a server that speaks OpenAI's protocol. The key is read from the environment
    (`OPENAI_API_KEY` for `openai/...`) and never stored. `timeout` is for one request, in seconds. Raises BadConfig
    for a name without a provider, or for settings that the model refuses.
    """
    # For providers that DSPy leaves to LiteLLM: with its own price list it fetches none from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import dspy
    from dspy.utils.exceptions import LMConfigurationError

    provider, separator, name = model.partition("/")
    if not (provider and separator and name):
        raise BadConfig(f"name the teacher as PROVIDER/MODEL, such as openai/gpt-4o-mini, not {model!r}")
    settings: dict[str, Any] = {"temperature": temperature, "cache": False, "num_retries": RETRIES}
    settings["timeout"] = timeout
    if api_base is not None:
        settings["api_base"] = api_base
        if f"{provider.upper()}_API_KEY" not in os.environ:
            settings["api_key"] = "none"  # a server of one's own needs no key, but the protocol has the field
    try:
        try:
            return dspy.LM(model, max_tokens=max_tokens, **settings)
        except LMConfigurationError:
            # Models that think before they write count the thought too and refuse a rationale's own limit.
            return dspy.LM(model, max_tokens=None, **settings)
    except (LMConfigurationError, ValueError) as error:
        raise BadConfig(f"{model} refuses these settings: {' '.join(str(error).split())}") from error


def no_price(lm: dspy.LM, max_cost: float | None, highest: float | None) -> BadConfig | None:
    """Return the error if there is a limit, but the price list lacks the model and no call had a price before.

    Nobody is asked. A model that the list cannot know, such as an engine of one's own, is left to its first call.
    """
    if max_cost is None or highest:
        return None
    from dspy.clients.capabilities import resolve
    from dspy.clients.model_metadata import model_info

    try:
        route = resolve(lm)
    except Exception:  # reached through LiteLLM, which has prices of its own
        return None
    listed = route is None or "input_cost_per_token" in model_info(route.provider, route.model)
    return None if listed else unknown_price(lm.model)


def unknown_price(model: str) -> BadConfig:
    """Return the error for a limit on what a model costs whose price nobody knows."""
    return BadConfig(f"the price of {model} is not known, so --max-cost cannot be kept; run again without it")


def teacher_info(task: Task, model: str, settings: Teaching, name: str) -> TeacherInfo:
    """Return the teacher that is this model with the task's prompt and these settings.

    Its id is a hash of model, instructions, fields, examples and sampling. The numbers of samples and workers and
    the address do not change how rationales are distributed, so they do not change the id.
    """
    fields = [
        {"name": key, "role": role, "about": _description(field), "type": _type_name(field)}
        for role, group in (("input", task.teach.input_fields), ("output", task.teach.output_fields))
        for key, field in group.items()
    ]
    request = {
        "model": model,
        "instructions": task.teach.instructions,
        "fields": fields,
        "shots": [dict(shot) for shot in task.shots],
    }
    sampled = {"temperature": settings.temperature, "max_tokens": settings.max_tokens, "answer_given": True}
    sampling = canonical({**sampled, "k": settings.k} if settings.k else sampled)
    return TeacherInfo(digest(canonical(request), sampling), name, model, task.teach.instructions, sampling)


def _description(field: Any) -> str:
    text = str((field.json_schema_extra or {}).get("desc") or "")
    return "" if text.startswith("${") else text  # DSPy's own placeholder


def _type_name(field: Any) -> str:
    return getattr(field.annotation, "__name__", None) or str(field.annotation)


def lettered(options: Sequence[str]) -> str:
    """Return the options as text, one a line, each after its letter: `(A) yes`."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def with_passages(task: Task, k: int) -> Task:
    """Return the task with a teacher that reads so many passages, the task itself for 0."""
    if not k or PASSAGES in task.teach.input_fields:
        return task
    import dspy

    about = (
        f"the {k} that the question and its answer find, best first, as Title: text; rest on them where they help"
    )
    field = dspy.InputField(desc=about)
    return replace(task, teach=task.teach.prepend(PASSAGES, field, list[str]))


def teach_inputs(task: Task, question: Question, passages: Sequence[Passage] = ()) -> Mapping[str, object]:
    """Return the inputs of the task's `teach` signature for a question whose answer is known."""
    options = task.teach.input_fields.get("options")  # a task of short answers has none
    values: dict[str, object] = {
        "question": question.text,
        "options": lettered(question.options) if options and options.annotation is str else list(question.options),
        "answer": question.gold,
        PASSAGES: [passage.line for passage in passages],
    }
    return {name: value for name, value in values.items() if name in task.teach.input_fields}


def ask(
    lm: dspy.LM,
    task: Task,
    settings: Teaching,
    question: Question,
    patience: Patience | None = None,
    passages: Sequence[Passage] = (),
) -> Reply:
    """Ask for one rationale. Thread-safe. Raises DSPy's LMError if the provider fails or refuses."""
    limits = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    inputs = teach_inputs(task, question, passages)
    return call(lm, task.teach, inputs, "rationale", limits, task.shots, patience)


@timed("wait for the teacher")
def call(
    lm: dspy.LM,
    signature: type[dspy.Signature],
    inputs: Mapping[str, object],
    output: str,
    limits: Mapping[str, float],
    shots: Sequence[Mapping[str, str]] = (),
    patience: Patience | None = None,
) -> Reply:
    """Return the signature's field `output` for the inputs. `limits` are temperature and max_tokens.

    Thread-safe. Raises DSPy's LMError if the provider fails or refuses.
    """
    import dspy
    from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError, LMUnexpectedError

    # A copy has a history of its own, which holds this call's entries only. Without the cache every sample is
    # drawn anew; the store is what remembers.
    # Waiting between repetitions is for `patience`, which says so and can be interrupted.
    patience = patience or Patience(lm.num_retries)
    lm = lm.copy(cache=False, num_retries=0)
    predict = dspy.Predict(signature)
    predict.demos = [dspy.Example(**shot) for shot in shots]
    # DSPy's fallback would pay for a second call in JSON without saying so.
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    config = dict(limits)
    if "max_completion_tokens" in lm.kwargs:
        del config["max_tokens"]
    text = letter = None
    outcome: Outcome = "empty"
    attempts = cast("list[dict[str, Any]]", lm.history)
    start = time.monotonic()
    with dspy.context(lm=lm, adapter=adapter, disable_history=False, max_history_size=ATTEMPTS, trace=None):
        for _ in range(ATTEMPTS):
            try:
                prediction = patience.request(lambda: predict(**inputs, config=dict(config)))
                # A server may repeat the key that it got.
                text = without_keys(_whole(str(prediction.get(output) or ""))).strip() or None
                letter = _whole(str(prediction[LETTER])) if LETTER in signature.output_fields else None
                outcome = "complete" if text else "empty"
            except AdapterParseError:
                outcome = "unreadable" if _written(attempts) else "empty"
            except LMUnexpectedError:  # a reply that is not of the protocol's form
                outcome = "unreadable"
                continue
            except ContextWindowExceededError:
                outcome = "too long"
                break
            outcome = _ended(attempts) or outcome
            if outcome in ("complete", "cut", "refused"):
                break
    costs = [_cost(attempt) for attempt in attempts]
    return Reply(
        text if outcome == "complete" else None,
        sum(_tokens(attempt, "prompt_tokens") for attempt in attempts),
        sum(_tokens(attempt, "completion_tokens") for attempt in attempts),
        sum(cost for cost in costs if cost is not None) if None not in costs else None,
        (time.monotonic() - start) * 1000,
        letter,
        outcome,
        without_keys(_written(attempts)),
    )


def _whole(text: str) -> str:
    """Return the text with the halves of surrogate pairs joined; a lone half, or a NUL, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def _ended(attempts: Sequence[Mapping[str, Any]]) -> Outcome | None:
    """Return how the last attempt ended if its writer did not end it: cut or refused."""
    response = attempts[-1]["response"] if attempts else None
    reason = getattr(response, "finish_reason", None)
    parts = getattr(getattr(response, "message", None), "parts", ())
    if reason == "content_filter" or any(getattr(part, "type", "") == "refusal" for part in parts):
        return "refused"
    return "cut" if reason == "length" else None


def _written(attempts: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the last attempt, or its refusal."""
    response = attempts[-1]["response"] if attempts else None
    parts = getattr(getattr(response, "message", None), "parts", ())
    return _whole("".join(str(getattr(part, "text", None) or "") for part in parts)).strip()


def _tokens(attempt: Mapping[str, Any], name: str) -> int:
    """Return a number of tokens that a reply names, 0 for nonsense."""
    usage = attempt["usage"]
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return int(value) if isinstance(value, int | float) and 0 <= value <= MOST_TOKENS else 0


def _cost(attempt: Mapping[str, Any]) -> float | None:
    """Return the price of an attempt, None if it is not known or follows from nonsense."""
    cost = attempt["cost"]
    usage = attempt["usage"] if isinstance(attempt["usage"], Mapping) else {}
    sane = all(_tokens(attempt, name) == (usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
    return float(cost) if isinstance(cost, int | float) and math.isfinite(cost) and cost >= 0 and sane else None
