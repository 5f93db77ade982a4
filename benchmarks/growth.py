"""How cost grows: memory and CPU seconds of commands by the number of rationales, and answers by that of adapters.

    python benchmarks/growth.py [--rationales 1000,10000,100000] [--adapters 1,2,4,8,16] [--json docs/scale.json]

Each question of the task `choice` has ten rationales of 40 words, which end with the right answer; passages are ten
thousand pages of the demo's world. Every command is a process of its own, as people start it. `--grounded` is the
largest number of rationales that are searched with. The answers are those of benchmarks/serve.py: a random base of
four layers, random adapters, mixed in every batch. By the number of passages benchmarks/scale.py measures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scale import watched, write_lines

from kard.config import Retrieval
from kard.db import open_store
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.questions import QuestionSet
from kard.retrieval.retrieve import retrieve

TASK, PASSAGES, EACH = "choice", 10_000, 10  # rationales a question
PAGES = "pages.jsonl"
OPTIONS = ("a river", "a harp", "a winter", "a town")


def write_questions(folder: Path, rationales: int) -> tuple[Path, Path]:
    """Write so many rationales and their questions as files that `kard load` reads; return both files."""
    questions, recorded = folder / "questions.jsonl", folder / "rationales.jsonl"
    pages = [json.loads(line) for line in (folder / PAGES).open(encoding="utf-8")]
    with questions.open("w", encoding="utf-8") as asked, recorded.open("w", encoding="utf-8") as told:
        for number in range(rationales // EACH):
            gold, key = number % len(OPTIONS), f"q{number}"
            text = f"What does the page of {pages[number % PASSAGES]['title']} name? ({number})"
            row = {"id": key, "question": text, "options": OPTIONS, "answer": "ABCD"[gold], "split": "train"}
            asked.write(json.dumps(row) + "\n")
            for sample in range(EACH):
                reason = pages[(number * EACH + sample) % PASSAGES]["text"]
                row = {"question_id": key, "sample": sample, "model": "recorded"}
                told.write(json.dumps({**row, "rationale": f"{reason} The answer is {OPTIONS[gold]}."}) + "\n")
    return questions, recorded


def by_rationales(folder: Path, rationales: int, grounded: int) -> dict[str, Any]:
    """Return what each command takes with a store of so many rationales."""
    store, took = folder / f"{rationales}.db", dict[str, Any]()
    questions, recorded = write_questions(folder, rationales)
    place = ["--store", str(store), "--knowledge", str(folder / "kard.knowledge")]

    def kard(name: str, *words: str) -> None:
        _, took[name] = watched([sys.executable, "-m", "kard", *words])
        print(f"{rationales:>8,} {name}:", json.dumps(took[name]), flush=True)

    kard("load, questions", "load", TASK, str(questions), *place[:2], "--quiet")
    kard("load, rationales", "load", TASK, "--rationales", str(recorded), *place[:2], "--quiet")
    kard("export", "export", TASK, str(folder / "exported.jsonl"), *place[:2])
    if rationales <= grounded:
        kard("ground", "ground", TASK, *place, "--quiet")
        db, base = open_store(store), KnowledgeBase.open(folder / "kard.knowledge")
        retrieve(db, base, QuestionSet(TASK, "train"), Retrieval())
        base.close()
        db.close()
        kard("hits --summary", "hits", TASK, "--split", "train", "--summary", "--json", *place)
    kard("status", "status", TASK, "--json", *place)
    return took


def by_adapters(folder: Path, adapters: int, requests: int) -> dict[str, Any]:
    """Return what benchmarks/serve.py measures with so many adapters."""
    file = folder / "serve.json"
    swaps = max(8, adapters)
    words = ["--adapters", adapters, "--requests", requests, "--swaps", swaps, "--tokens", 16, "--json", file]
    command = [sys.executable, str(Path(__file__).with_name("serve.py")), *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(file.read_text(encoding="utf-8"))


def numbers(text: str) -> Sequence[int]:
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rationales", type=numbers, default="1000,10000,100000")
    parser.add_argument("--grounded", type=int, default=100_000)
    parser.add_argument("--adapters", type=numbers, default="1,2,4,8,16")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    report = json.loads(chosen.json.read_text("utf-8")) if chosen.json and chosen.json.exists() else {}

    def save(part: str, number: int, values: dict[str, Any]) -> None:
        report.setdefault("growth", {}).setdefault(part, {})[str(number)] = values
        if chosen.json:
            chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write_lines(folder / PAGES, PASSAGES)
        command = [sys.executable, "-m", "kard", "index", str(source), "--knowledge", folder / "kard.knowledge"]
        subprocess.run(command, check=True)
        for rationales in chosen.rationales:
            save("rationales", rationales, by_rationales(folder, rationales, chosen.grounded))
        for adapters in chosen.adapters:
            save("adapters", adapters, by_adapters(folder, adapters, chosen.requests))


if __name__ == "__main__":
    main()
