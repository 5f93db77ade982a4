"""Every command of the table of factors in docs/sweep.md runs as far as `--dry-run` goes, and varies something."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from kard.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "sweep.md").read_text(encoding="utf-8")
METALS = ("iron", "tin", "zinc", "copper")


def lines(pattern: str) -> list[list[str]]:
    """Return the words of the page's command lines that begin so."""
    return [shlex.split(line)[1:] for line in re.findall(rf"(?:^|`)({pattern}[^`\n]*)", PAGE, re.M)]


@pytest.fixture
def folder(load_choice: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a store, and the knowledge bases that the page makes."""
    documents = {f"d{n}": f"Thing {n} is made of {METALS[n % 4]}." for n in range(10)}
    questions = [
        (f"q{n}", "train" if n < 6 else "test", f"What is thing {n} made of?", METALS, "ABCD"[n % 4],
         f"Thing {n} is made of {METALS[n % 4]}." if n < 6 else "")
        for n in range(10)
    ]  # fmt: skip
    folder = load_choice(documents, questions)
    (folder / "biology.jsonl").write_text(json.dumps({"id": "b", "title": "", "text": "Blood has iron."}))
    monkeypatch.chdir(folder)
    invoke("index", "biology.jsonl", "--name", "biology", "--quiet")
    invoke("run", "choice", "--method", "named", "--retriever", "bm25", "--quiet")
    return folder


def invoke(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, (words, result.output)
    return result.stdout


def test_each_command_of_the_table_varies_what_it_says(folder: Path) -> None:
    made = lines("kard index --from")
    assert len(made) == 3
    for words in made:
        if "--keep-evidence" in words:  # these questions name no evidence
            words = [word for word in words if word != "--keep-evidence"]
        invoke(*words, "--quiet")
    sweeps = lines("kard sweep choice")
    assert len(sweeps) > 15
    for words in sweeps:
        rows = json.loads(invoke(*words, "--limit", "1", "--dry-run", "--quiet", "--json"))
        factors = [words[place + 1] for place, word in enumerate(words) if word == "--over"]
        cells = [len(factor.split(",")) for factor in factors]
        expected = sum(cells) - len(cells) + 1 if "--one-at-a-time" in words else 1
        for count in () if "--one-at-a-time" in words else cells:
            expected *= count
        assert len({row["cell"] for row in rows}) == expected, words
        assert len(rows) == expected * (3 if "--seeds" in words else 1), words


def test_each_command_for_the_parts_runs(folder: Path) -> None:
    for words in lines("kard ablate choice"):
        rows = json.loads(invoke(*words, *() if "--dry-run" in words else ("--dry-run",), "--quiet", "--json"))
        assert rows[0]["part"] == "whole"
