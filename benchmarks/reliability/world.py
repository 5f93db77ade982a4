"""The small world of the suites: documents, questions, tiny random bases and a task; and where results are kept."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import forked

COLOURS = ("red", "blue", "green", "white", "black", "brown")
WORDS = (
    "old",
    "tall",
    "grey",
    "wide",
    "quiet",
    "stone",
    "river",
    "hill",
    "market",
    "tower",
    "wall",
    "bridge",
    "road",
)

TASK = """
from kard.config import Decoding, Lora, RerankerTraining, Retrieval, TaskSettings, StudentTraining, Teaching
from kard.programs import Answer, RetrieveThenAnswer, Teach, plain
from kard.tasks import Task


class Explain(Teach):
    '''Explain the colour of a town's gate.'''


class Choose(Answer):
    '''Read, then name the colour.'''


TASK = Task(
    "gates",
    "Colours of town gates.",
    lambda row: plain(row, options=row["options"].split(";")),
    Explain,
    Choose,
    RetrieveThenAnswer,
    students={{"tiny": {decoder!r}}},
    encoders={{"tiny": {encoder!r}}},
    settings=TaskSettings(
        teaching=Teaching(samples=2),
        retrieval=Retrieval(kappa=4, k=2, depth=3, max_df=1.0),
        reranker=RerankerTraining(lora=Lora(rank=2, alpha=4), batch=4, candidates=4),
        student=StudentTraining(lora=Lora(rank=2, alpha=4), epochs=2, batch=4, k=2),
        decoding=Decoding(max_new_tokens=6, batch=4),
    ),
)
"""


@dataclass(frozen=True, slots=True)
class World:
    """The folder of a world, with the paths that commands take."""

    folder: Path

    @property
    def task(self) -> str:
        """The file of the task `gates`."""
        return str(self.folder / "gates.py")

    @property
    def questions(self) -> str:
        """The file of questions: for each town, two ways to ask."""
        return str(self.folder / "questions.csv")

    @property
    def docs(self) -> str:
        """The folder of documents, one a town."""
        return str(self.folder / "docs")

    @property
    def changed_docs(self) -> str:
        """The documents again: a third is gone, a third differs."""
        return str(self.folder / "docs-changed")


def build(folder: Path, towns: int = 16, *, models: bool = True) -> World:
    """Write a world of so many towns, of which every fourth is for the test; without `models` it has no bases."""
    draw = random.Random(0)
    names = [f"{a}{b}" for a in ("Quil", "Brac", "Tars", "Vel", "Mos", "Fen") for b in ("don", "mar", "tik", "ro")]
    lines, texts = ["id,split,question,options,answer"], list[str]()
    for changed in (False, True):
        (folder / ("docs-changed" if changed else "docs")).mkdir(parents=True)
    for number, town in enumerate(names[:towns]):
        colour = COLOURS[number % len(COLOURS)]
        rest = " ".join(draw.choice(WORDS) for _ in range(150))
        texts.append(f"The gate of {town} is {colour}. It is {rest}.")
        (folder / "docs" / f"{town}.md").write_text(f"# {town}\n\n{texts[-1]}\n", encoding="utf-8")
        if number % 3:
            end = " It was painted." if number % 3 == 1 else ""
            (folder / "docs-changed" / f"{town}.md").write_text(f"# {town}\n\n{texts[-1]}{end}\n", encoding="utf-8")
        for form, question in enumerate(
            (f"What colour is the gate of {town}?", f"{town} has a gate of which colour?")
        ):
            split = "test" if number % 4 == 3 else "train"
            letter = "ABCDEF"[number % len(COLOURS)]
            lines.append(f"{town}-{form},{split},{question},{';'.join(COLOURS)},{letter}")
    (folder / "questions.csv").write_text("\n".join(lines), encoding="utf-8")
    bases = {"decoder": str(folder / "decoder"), "encoder": str(folder / "encoder")}
    (folder / "gates.py").write_text(TASK.format(**bases), encoding="utf-8")
    if models:
        forked(lambda: _write_bases(folder, texts))
    return World(folder)


def _write_bases(folder: Path, texts: Sequence[str]) -> None:
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    for kind in ("decoder", "encoder"):
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(texts, vocab_size=400, special_tokens=["<end>"], show_progress=False)
        (folder / kind).mkdir()
        bpe.save(str(folder / kind / "tokenizer.json"))
        names = {"eos_token": "<end>", "pad_token": "<end>"}
        fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / kind / "tokenizer.json"), **names)
        fast.save_pretrained(folder / kind)
        length: dict[str, Any] = {"vocab_size": len(fast), "max_position_embeddings": 1024, **size}
        if kind == "decoder":
            tokens: dict[str, Any] = {"eos_token_id": 0, "pad_token_id": 0, "num_key_value_heads": 2}
            model: Any = LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, **tokens, **length))
        else:
            model = BertModel(BertConfig(num_hidden_layers=2, **length))
        model.save_pretrained(folder / kind)


_TEMPORARY = re.compile(r"(/[\w.-]+)*/tmp[a-z0-9_]{8}/(fault/)?")  # folders that tempfile makes


def recorded(file: Path | None, suite: str) -> dict[str, Any]:
    """Return what a file has of a suite; {} if it has nothing."""
    return json.loads(file.read_text(encoding="utf-8")).get(suite, {}) if file and file.exists() else {}


def record(file: Path | None, suite: str, result: Mapping[str, Any]) -> None:
    """Keep the result of a suite in a file, beside those of the other suites; without a file, print it."""
    from kard.version import __version__

    date, cores = time.strftime("%Y-%m-%d", time.gmtime()), len(os.sched_getaffinity(0))
    whole = {"kard": __version__, "date": date, "python": platform.python_version(), "cores": cores, **result}
    if file is None:
        print(json.dumps(whole, indent=1, ensure_ascii=False))
        return
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    text = json.dumps({**stored, suite: whole}, indent=1, ensure_ascii=False)
    text = _TEMPORARY.sub("", text).replace(f"{Path(__file__).parents[2]}/", "")
    file.write_text(text + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
