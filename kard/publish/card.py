"""The model card of a published adapter. Its text is the template `card.md.jinja`; this module fills it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from kard.metrics.intervals import Share
from kard.version import __version__

PAPER = "https://arxiv.org/abs/2305.18395"
PIPELINES = {
    "decoder": "text-generation",
    "encoder-decoder": "text2text-generation",
    "encoder": "feature-extraction",
}
AUTO_MODELS = {
    "decoder": "AutoModelForCausalLM",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "encoder": "AutoModel",
}
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the values that vLLM's --max-lora-rank takes


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured under one condition."""

    split: str
    condition: str
    metric: str  # by the hub's name
    share: Share
    own: bool = True  # False for a rival in the comparison


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt with its fields in braces, and the text that follows it."""

    prompt: str
    target: str


@dataclass(frozen=True, slots=True)
class Card:
    """The content of a card."""

    title: str
    about: str
    kind: str  # decoder, encoder-decoder or encoder
    merged: bool
    base: str
    base_id: str  # on the hub; '' for a base from elsewhere
    task: str
    facts: Mapping[str, object]  # in the order of the card
    settings: Mapping[str, Any]
    results: Sequence[Result] = ()
    prompts: Sequence[PromptTemplate] = ()
    rank: int = 0
    dora: bool = False


def made_with(config: Mapping[str, Any]) -> str:
    """Return the versions of kard and, for an adapter's configuration, of peft."""
    peft = f", peft {config.get('peft_version', 'of unknown version')}" if config.get("peft_type") else ""
    return f"kard {__version__}{peft}"


def render_card(card: Card) -> str:
    """Return the card as Markdown, the README.md of the published folder."""
    return _template().render(
        card=card,
        front_matter=Markdown(_front_matter(card)),
        settings=json.dumps(card.settings, ensure_ascii=False),
        auto_model=AUTO_MODELS[card.kind],
        base=card.base_id or "BASE",
        vllm_rank=next((rank for rank in VLLM_RANKS if rank >= card.rank), card.rank),
    )


def _front_matter(card: Card) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = safe_line(card.task)
    results = [
        EvalResult(
            task_type="text-ranking" if card.kind == "encoder" else "question-answering",
            dataset_type=task,
            dataset_name=task,
            dataset_split=safe_line(result.split),
            metric_type=result.metric,
            metric_name=f"{result.metric}, {result.condition}",
            metric_value=round(result.share.value, 4),
        )
        for result in card.results
        if result.own
    ]
    data = ModelCardData(
        base_model=card.base_id or None,
        library_name="transformers" if card.merged else "peft",
        pipeline_tag=PIPELINES[card.kind],
        tags=["kard", "distillation", *([] if card.merged else ["lora"])],
        model_name=safe_line(card.title) if card.results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


class Markdown(str):
    """Text that the template writes as it is. Every other value becomes one harmless line."""


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("kard", "publish"),
        autoescape=False,  # for HTML; `finalize` does the same for Markdown
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(paragraph=_paragraph, cell=_cell, code=_code, block=_block)
    return environment.get_template("card.md.jinja")


def _finalize(value: object) -> str:
    return value if isinstance(value, Markdown) else safe_line(str(value))


def _paragraph(text: str) -> Markdown:
    """Return a line of prose; a first character that would begin a heading, list or block is escaped."""
    line = safe_line(text)
    return Markdown(f"\\{line}" if line[:1] and line[0] in "#>*+-=~`|_" else line)


def _cell(value: object) -> Markdown:
    return Markdown(safe_line(str(value)).replace("|", "\\|"))


def _code(value: object) -> Markdown:
    return Markdown(f"`{safe_line(str(value)).replace('`', chr(39))}`")


def _block(text: str, language: str = "") -> Markdown:
    """Return a fenced block, with a fence that the text does not contain."""
    fence = "```"
    while fence in text:
        fence += "`"
    return Markdown(f"{fence}{language}\n{_printable(text)}\n{fence}")


def safe_line(text: str) -> str:
    """Return the text as one line without control characters, and without tags that a page would obey."""
    return " ".join(_printable(text).split()).replace("<", "&lt;")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
