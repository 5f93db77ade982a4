"""`kard --help` appears at once: it imports the commands, and no library that takes a second to import.

Commands that read a store import what reads it, and none of the libraries that models need.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kard.cli import main
from kard.db import open_store

HEAVY = ("accelerate", "datasette", "dspy", "fastapi", "huggingface_hub", "numpy", "peft", "rich", "safetensors",
         "sqlite_utils", "tantivy", "torch", "transformers", "uvicorn")  # fmt: skip
OF_MODELS = {"accelerate", "peft", "torch", "transformers"}  # DSPy is what a task is written with
SCRIPT = """
import json, sys
from kard.cli import main
main(sys.argv[1:], prog_name="kard", standalone_mode=False)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules_after(*arguments: str, shows: str = "Usage: kard") -> set[str]:
    """Return the top-level modules that a new Python process has imported after the command line has run."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    assert shows in done.stdout
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def test_the_list_of_commands_imports_nothing_heavy() -> None:
    assert modules_after("--help") & set(HEAVY) == set()


@pytest.mark.parametrize("command", ["demo", "teach", "train", "evaluate", "serve"])
def test_help_of_a_command_that_needs_models_imports_nothing_heavy(command: str) -> None:
    assert modules_after(command, "--help") & set(HEAVY) == set()


@pytest.fixture(scope="module")
def read_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a knowledge base, questions and their rationales, found passages and all."""
    folder = tmp_path_factory.mktemp("start")
    metals = {"iron": "rusts", "gold": "shines", "lead": "is heavy", "zinc": "is blue-grey"}
    documents = [{"id": name, "title": name, "text": f"{name} {does}."} for name, does in metals.items()]
    questions = [
        {
            "id": f"{split} {name}",
            "split": split,
            "question": f"Is it so that {name} {does}?",
            "options": ["yes", "no"],
            "answer": "A",
            "evidence": [name],
            "rationale": f"{name} {does}. Therefore, the answer is (A) yes.",
        }
        for split in ("train", "test")
        for name, does in metals.items()
    ]
    for name, rows in ("docs.jsonl", documents), ("questions.jsonl", questions):
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    place = ("--store", str(folder / "kard.db"))
    for words in (
        ("index", str(folder / "docs.jsonl")),
        ("load", "choice", str(folder / "questions.jsonl")),
        ("ground", "choice"),
        ("evaluate", "choice", "--rank-only", "--retriever", "bm25"),
    ):
        done = CliRunner().invoke(main, [*words, *place, "--quiet"])
        assert done.exit_code == 0, done.output
    db = open_store(folder / "kard.db")
    assert db.table("hits").count
    db.conn.close()
    return folder / "kard.db"


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        (("tasks",), "strategyqa"),
        (("query", "select title from passages"), "iron"),
        (("status", "choice"), "rationales"),
        (("hits", "choice", "--summary"), "Hits@1"),
        (("rationales", "choice"), "rusts"),
        (("search", "iron"), "rusts"),
    ],
    ids=["tasks", "query", "status", "hits", "rationales", "search"],
)
def test_commands_that_read_import_no_library_of_models(
    command: tuple[str, ...], shows: str, read_store: Path
) -> None:
    place = () if command[0] == "tasks" else ("--store", str(read_store))
    assert modules_after(*command, *place, shows=shows) & OF_MODELS == set()


def test_what_answers_a_question_imports_nothing_that_only_trains() -> None:
    answering = (
        "evaluation.ask",
        "pipeline.evaluate",
        "reranker.model",
        "retrieval.rerank",
        "student.generation.engine",
    )
    script = f"import sys, {', '.join(f'kard.{name}' for name in answering)}; sys.exit('peft' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_command_searches_what_it_imported_for_garbage_neither_meanwhile_nor_at_its_end(read_store: Path) -> None:
    script = """
import gc, sys
from kard.cli import main
main(sys.argv[1:], prog_name="kard", standalone_mode=False)
class Held:
    def __del__(self):
        print("searched at the end")
held = Held()
held.itself = held
print(gc.get_stats()[2]["collections"], "full searches")
"""
    command = [sys.executable, "-c", script, "status", "choice", "--store", str(read_store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 full searches"


def test_a_heavy_import_would_be_seen() -> None:
    """Otherwise the tests above could pass without looking at anything."""
    script = SCRIPT.replace("from kard.cli import main", "import numpy; from kard.cli import main")
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert "numpy" in json.loads(done.stderr.splitlines()[-1])
