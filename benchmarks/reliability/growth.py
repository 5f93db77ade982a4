"""The time per byte of every parser, on the inputs that are worst for it, at three sizes.

    python benchmarks/reliability/growth.py [--only NAME ...] [--json FILE]

Each shape is read at 10 kB, 100 kB and 1 MB, each in a process of its own; the time is the processor's. A parser
that grows linearly needs ten times as long for ten times as much.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import world
from processes import forked

from kard import tasks
from kard.errors import KardError

SIZES = (10_000, 100_000, 1_000_000)  # bytes
LONGEST = 100  # seconds of the processor; what takes more is ended
OPTIONS = ("iron", "cork", "glass", "yes")
UNITS: Mapping[str, Mapping[str, str]] = {  # by parser: what is repeated, by the shape's name
    "markdown": {"spaces in a heading": " ", "backticks": "`", "fences": "```\n", "headings": "# a\n",
                 "rules": "---\n"},
    "html": {"nested blocks": "<div>", "paragraphs": "<p>ants dig</p>", "open cells": "<table><tr><td>",
             "brackets": "<", "entities": "&amp;", "open comments": "<!--", "links": "<a href=x>y</a>",
             "lists": "<ul><li>"},
    "wikitext": {"templates": "{{a|", "links": "[[", "closings": "}}", "refs": "<ref>", "quotes": "''",
                 "tables": "{|\n|a\n", "comments": "<!--", "braces": "{", "brackets": "[http://",
                 "headings": "== a\n", "tags": "<nowiki>"},
    "dump": {"nested elements": "<a>", "entities": "&amp;", "text": "ants dig "},
    "answers": {"announcements": "answer is ", "denials": "The answer cannot be A, so ", "letters": "(A) ",
                "JSON": '{"answer": ', "boxes": "\\boxed{", "negations": "not ", "options": "iron cork ",
                "stars": "*", "lines": "\n", "quotes": '"'},
    "json": {"lists": "[", "objects": '{"a":', "numbers": "9", "escapes": '"\\u00e9",'},
    "csv": {"quotes": '"', "cells": ",", "lines": "a\n"},
    "splitting": {"sentences": "Ants dig. ", "letters": "x", "line ends": "\n\na", "stops": "."},
    "search": {"words": "ants dig ", "letters": "x", "characters": "蟻", "marks": "a\u0301"},
    "prompt": {"spaces": " ", "lines": "Answer: A\n", "cues": "\nPassages:\n[1] "},
}  # fmt: skip


def parsers(folder: Path) -> Iterator[tuple[str, Callable[[str], object]]]:
    """Yield the name of each parser, and what reads a text with it."""
    from kard.answers.parsing import answer_of, conclusion, without_conclusions
    from kard.files import read_rows
    from kard.knowledge.indexing import index_documents
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.knowledge.sources import documents
    from kard.knowledge.splitting import split
    from kard.knowledge.wikitext import plain_text
    from kard.records import Document

    def written(name: str, text: str, before: str = "", after: str = "") -> Path:
        (folder / name).write_text(before + text + after, encoding="utf-8")
        return folder / name

    def prompt(text: str) -> None:
        from kard.student import prompt

        signature = tasks.load("choice").answer
        shown = prompt.render_prompt(signature, {"question": text, "options": [text], "passages": [text]})
        prompt.split_at_passages(shown)
        prompt.parse_outputs(signature, text)

    def search(text: str) -> None:
        index_documents([Document("d", "T", "Ants dig.")], folder / "kb", source="s")
        KnowledgeBase.open(folder / "kb").search(text, 3)

    head, tail = (
        "<mediawiki><page><title>A</title><ns>0</ns><id>1</id><revision><text>",
        "</text></revision></page></mediawiki>",
    )
    yield "markdown", lambda text: list(documents(written("a.md", f"# a{text}b" if text.isspace() else text)))
    yield "html", lambda text: list(documents(written("a.html", text, "<html><body><p>Ants dig tunnels.</p>")))
    yield "wikitext", plain_text
    yield "dump", lambda text: list(documents(written("a.xml", text, head, tail)))
    yield (
        "answers",
        lambda text: (conclusion(text, OPTIONS), answer_of(text, OPTIONS), without_conclusions(text, OPTIONS)),
    )
    yield "json", lambda text: list(read_rows(written("a.json", text)))
    yield "csv", lambda text: list(read_rows(written("a.csv", text, "a,b\n")))
    yield "splitting", split
    yield "search", search
    yield "prompt", prompt


def seconds_of(parser: Callable[[str], object], text: str) -> float | None:
    """Return the processor's seconds that reading a text takes, None if that was too long; a refusal counts too."""

    def timed() -> float:
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # what libraries say
        with suppress(KardError):
            parser("ants " * 20)  # what is imported when it is needed
        begin = time.process_time()
        with suppress(KardError):
            parser(text)
        return time.process_time() - begin

    try:
        return forked(timed)
    except RuntimeError:
        return None


def main() -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", help="a parser; repeatable")
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    options = parser.parse_args()
    tasks.load("choice")
    import_module("trafilatura")  # once, before the children
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        for name, read in parsers(Path(root)):
            for shape, unit in UNITS[name].items() if not options.only or name in options.only else ():
                times: list[float | None] = []
                for size in SIZES:
                    if None not in times:
                        times.append(seconds_of(read, (unit * size)[:size].encode()[:size].decode(errors="ignore")))
                rows.append({"parser": name, "shape": shape, "seconds": times})
                print(rows[-1], file=sys.stderr, flush=True)
            world.record(options.json, "growth", {"sizes": SIZES, "longest": LONGEST, "shapes": rows})


if __name__ == "__main__":
    main()
