"""The teacher as a `dspy.LM`: any provider that DSPy knows, or any server that speaks OpenAI's protocol."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kard.errors import BadConfig

if TYPE_CHECKING:
    import dspy

RETRIES = 3  # of a request that failed for a passing reason; DSPy waits longer each time


def teacher_lm(model: str, *, temperature: float, max_tokens: int, api_base: str | None = None) -> dspy.LM:
    """The model `provider/model`; `api_base` is the address of a server that speaks OpenAI's protocol.

    The key comes from the environment (`OPENAI_API_KEY` for `openai/...`, and so on) and is kept nowhere.
    Raises BadConfig for a name without a provider, or settings that the model refuses.
    """
    # Providers that DSPy leaves to LiteLLM: with its own price list, it fetches none from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import dspy
    from dspy.utils.exceptions import LMConfigurationError

    provider, separator, rest = model.partition("/")
    if not (provider and separator and rest):
        raise BadConfig(f"name the teacher as PROVIDER/MODEL, such as openai/gpt-4o-mini, not {model!r}")
    settings: dict[str, Any] = {"temperature": temperature, "cache": False, "num_retries": RETRIES}
    if api_base is not None:
        settings["api_base"] = api_base
        if f"{provider.upper()}_API_KEY" not in os.environ:
            settings["api_key"] = "none"  # a server of one's own asks for no key, but the protocol has the field
    try:
        try:
            return dspy.LM(model, max_tokens=max_tokens, **settings)
        except LMConfigurationError:
            # Models that think before they write count the thought too and refuse a rationale's own limit.
            return dspy.LM(model, max_tokens=None, **settings)
    except (LMConfigurationError, ValueError) as error:
        raise BadConfig(f"{model} cannot be asked so: {' '.join(str(error).split())}") from error
