"""Broken files for every reader and random texts for every parser: each is read, or refused in one line.

    python benchmarks/reliability/inputs.py [--count 20000] [--texts 100000] [--seed 0] [--only NAME ...]
                                            [--json FILE]

Every reader gets so many mutations of a small right file. It may return, or raise a KardError of one line; anything
else counts as a traceback. The readers work in a child that is watched: an input that takes more than 20 seconds of
the processor counts as a hang, and one that ends the process as a crash; the child then goes on with the next.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import world
from processes import end_with_parent
from samples import DOCUMENTS, QUESTIONS, RATIONALES, ROWS, lines, mutated, mutated_file, mutated_value

from kard import tasks
from kard.errors import KardError

LONGEST = 20.0  # seconds of the processor for one input
OUTCOMES = {1: "read", 2: "refused", 3: "tracebacks", 4: "hangs", 5: "crashes"}
LETTERS = (
    "abcdefghij XYZ.,:;()[]{}<>\"'`*_#=|\\/&%$@!?+-~^\n\t\r\0éßñ蟻ไทย\u0301\u202e\ud800\u2028\U0001f41c0123456789"
)
WORDS = (
    *(
        "Answer:",
        "the answer is",
        "The answer is",
        "(A)",
        "(B)",
        "A",
        "B",
        "C.",
        "not",
        "cannot be",
        "so",
        "Therefore,",
    ),
    *(
        "\\boxed{",
        "}",
        '{"answer": "B"}',
        "**C**",
        "<answer>",
        "yes",
        "no",
        "cork",
        "iron",
        "neither",
        "both",
        "option",
    ),
    *("AND", "OR", "title:", '"', "*", "Question:", "Options:", "[1]", "Rationale:", "\n", "\n\n", "12", "x" * 200),
)
OPTIONS = ("iron", "cork", "glass", "yes")
Reader = Callable[[int], None]  # reads the input of that number


def documents_reader(name: str, folder: Path, seed: int) -> Reader:
    """Return what reads a mutated file of documents."""
    from kard.knowledge.sources import documents

    def read(number: int) -> None:
        path = folder / name
        path.write_bytes(mutated_file(name, DOCUMENTS[name], random.Random(f"{name} {seed} {number}")))
        for _ in documents(path, lines=name == "a.txt" and number % 2 == 0):
            pass

    return read


def questions_reader(name: str, folder: Path, seed: int) -> Reader:
    """Return what reads a mutated file of a task's questions: half of them JSON of other values."""
    from kard.pipeline.load import read_file

    task, row = tasks.load(name), QUESTIONS[name]

    def read(number: int) -> None:
        draw = random.Random(f"{name} {seed} {number}")
        rows = [mutated_value(row, draw), {**row, "id": "other"}]
        path = folder / "q.jsonl"
        path.write_bytes(lines(rows) if number % 2 else mutated(lines([row]), draw))
        read_file(task, path, split="train")

    return read


def rationales_reader(folder: Path, seed: int) -> Reader:
    """Return what loads a mutated file of recorded rationales into a store with their question."""
    from kard.db import open_store
    from kard.pipeline.load import store_questions
    from kard.records import Question
    from kard.teacher.records import load_rationales

    db = open_store(folder / "kard.db")
    db.execute("pragma synchronous = off")
    store_questions(db, "tiny", [Question("q1", "train", "Does cork float?", ("yes", "no"), "A")])

    def read(number: int) -> None:
        draw = random.Random(f"rationales {seed} {number}")
        rows = mutated_value(RATIONALES, draw) if number % 2 else RATIONALES
        path = folder / "r.jsonl"
        path.write_bytes(
            lines(rows if isinstance(rows, list) else [rows]) if number % 2 else mutated(lines(rows), draw)
        )
        load_rationales(db, "tiny", path)

    return read


def text_of(draw: random.Random) -> str:
    """Return a random text: of characters, of words that parsers look for, or of both."""
    pieces = (
        draw.choice(WORDS) if draw.random() < 0.6 else draw.choice(LETTERS) for _ in range(draw.randrange(60))
    )
    return draw.choice((" ", "", "\n")).join(pieces)


def search_reader(folder: Path, seed: int) -> Reader:
    """Return what searches with a random text."""
    from kard.knowledge.indexing import index_documents
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.records import Document

    index_documents([Document(r["id"], r["title"], r["text"]) for r in ROWS], folder / "kb", source="s")
    base = KnowledgeBase.open(folder / "kb")

    def read(number: int) -> None:
        text = text_of(random.Random(f"search {seed} {number}"))
        hits = base.search(text, 3)
        base.score(text, [hit.passage.id for hit in hits])

    return read


def answers_reader(_: Path, seed: int) -> Reader:
    """Return what reads an answer out of a random text."""
    from kard.answers.parsing import answer_of, conclusion, letter_of, without_closing, without_conclusions

    def read(number: int) -> None:
        text = text_of(random.Random(f"answers {seed} {number}"))
        for letter in (
            conclusion(text, OPTIONS),
            letter_of(text, OPTIONS),
            answer_of(text, OPTIONS, cut=number % 2 == 0),
        ):
            assert letter is None or letter in "ABCD", letter
        without_closing(text)
        without_conclusions(text, OPTIONS)

    return read


def prompts_reader(_: Path, seed: int) -> Reader:
    """Return what renders a prompt of random texts, and reads an output of one."""
    from kard.student import prompt

    signature = tasks.load("choice").answer

    def read(number: int) -> None:
        draw = random.Random(f"prompts {seed} {number}")
        fields = {"question": text_of(draw), "options": [text_of(draw), text_of(draw)], "passages": [text_of(draw)]}
        rendered = prompt.render_prompt(signature, fields)
        assert sum(line.startswith("Question:") for line in rendered.split("\n")) == 1, rendered
        prompt.split_at_passages(rendered)
        prompt.parse_outputs(signature, text_of(draw))
        prompt.up_to_first_answer(rendered, rendered + text_of(draw))

    return read


def readers(folder: Path, seed: int) -> Iterator[tuple[str, bool, Callable[[], Reader]]]:
    """Yield name, whether it takes texts, and what makes a reader; the slowest comes last."""
    for name in QUESTIONS:
        yield f"questions {name}", False, lambda name=name: questions_reader(name, folder, seed)
    yield "rationales", False, lambda: rationales_reader(folder, seed)
    yield "search", True, lambda: search_reader(folder, seed)
    yield "answers", True, lambda: answers_reader(folder, seed)
    yield "prompts", True, lambda: prompts_reader(folder, seed)
    for name in sorted(DOCUMENTS, key="a.html".__eq__):
        yield f"documents {name.removeprefix('a')}", False, lambda name=name: documents_reader(name, folder, seed)


def attempt(make: Callable[[], Reader], count: int, notes: Path) -> Counter[str]:
    """Let a reader read so many inputs in a watched child; return how many ended in which way."""
    board = mmap.mmap(-1, count)
    start = 0
    while start < count:
        pid = os.fork()
        if pid == 0:
            _read(make, start, board, notes)
        status, hangs = _watch(pid, board, start)
        if status == 0:
            break
        start = board.find(b"\0", start)
        if start < 0:
            break
        board[start] = 4 if hangs else 5
        start += 1
    return Counter({name: board[:].count(code) for code, name in OUTCOMES.items()})


def _read(make: Callable[[], Reader], start: int, board: mmap.mmap, notes: Path) -> None:
    """Read the inputs from this one on, note how each ended, and end the process."""
    end_with_parent()
    try:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # what libraries say of broken files
        read = make()
        for number in range(start, len(board)):
            try:
                read(number)
                board[number] = 1
            except KardError as error:
                one_line = str(error) and "\n" not in str(error)
                board[number] = 2 if one_line else 3
                if not one_line:
                    _note(notes, number)
            except BaseException:
                board[number] = 3
                _note(notes, number)
        os._exit(0)
    except BaseException:
        _note(notes, -1)
    os._exit(1)


def _note(notes: Path, number: int) -> None:
    with notes.open("a", encoding="utf-8", errors="replace") as stream:
        trace = traceback.format_exc().splitlines()
        stream.write(json.dumps({"input": number, "error": trace[-1][:300], "where": trace[-3:-1]}) + "\n")


def _watch(pid: int, board: mmap.mmap, start: int) -> tuple[int, bool]:
    """Wait for a child; return its status, and whether it was killed because one input took too long."""
    at, since = start, 0.0
    while True:
        waited, status = os.waitpid(pid, os.WNOHANG)
        if waited:
            return status, False
        time.sleep(0.2)
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            now = board.find(b"\0", at)
            if now != at:
                at, since = now, used
            elif used - since > LONGEST:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return 9, True


def distinct(notes: Path) -> list[dict[str, Any]]:
    """Return one traceback of each kind."""
    kinds: dict[str, dict[str, Any]] = {}
    for line in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else ():
        note = json.loads(line)
        kinds.setdefault(note["error"].partition(":")[0] + str(note["where"]), note)
    return list(kinds.values())[:20]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="mutated files a reader")
    parser.add_argument("--texts", type=int, default=100_000, help="random texts a parser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a reader whose name begins like this; repeatable")
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    options = parser.parse_args(arguments)
    for name in QUESTIONS:
        tasks.load(name)  # once, before the children
    rows: list[dict[str, Any]] = []
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as root:
        for name, texts, make in readers(Path(root), options.seed):
            if options.only and not name.startswith(tuple(options.only)):
                continue
            notes = Path(root, "notes")
            notes.unlink(missing_ok=True)
            began = time.monotonic()
            outcomes = attempt(make, options.texts if texts else options.count, notes)
            seconds = round(time.monotonic() - began)
            rows.append({"reader": name, "inputs": outcomes.total(), **outcomes, "seconds": seconds})
            rows[-1]["examples"] = distinct(notes)
            print(rows[-1], file=sys.stderr, flush=True)
            world.record(options.json, "inputs", {"seed": options.seed, "readers": rows})


if __name__ == "__main__":
    main()
