"""How indexing and search grow: passages of the demo's world, indexed by one process and by several workers.

    python benchmarks/scale.py FOLDER [--passages 300000,1000000,3000000] [--workers 1,2] [--updates 300000]
        [--pages 60000] [--dump FILE] [--json docs/scale.json]

Every size is indexed from JSON lines by each number of workers, each time by a process of its own. What they made
must agree: the base's id, and ids and scores of the first hundred passages for a hundred questions and their
rationales. The sizes of `--updates` are then brought to a source with a hundredth of its pages changed. `--pages`
of the same world are also indexed from a MediaWiki dump, and so is the `--dump` of somebody's own. Sources that
FOLDER holds already are not written again; the JSON keeps what other runs measured.

Other work on the same cores makes the clock's times longer and leaves CPU seconds nearly as they are. `floor` is
what these allow: the main thread's, or those of all processes divided by the cores, whichever is more. Memory is
the sum over all processes, looked at ten times a second: anonymous pages, and pages of mapped files, which the
system takes back when it wants.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from kard.knowledge.indexing import index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.tasks import World, load
from kard.work.workers import workers

SEED, QUESTIONS, K = 0, 100, 100
EVERY = 0.1  # seconds between two looks at the memory
CHANGED = 100  # of so many pages one is changed in the update
NAME = re.compile(r"[A-Z]\w+(?: [A-Z]\w+)+")
Measured = dict[str, Any]


# --- sources --------------------------------------------------------------------------------------


def world(passages: int) -> World:
    """Return the demo's world of this size."""
    make = load("atlas").world
    assert make is not None
    return make(passages=passages, train=1, test=QUESTIONS, seed=SEED)


def write_lines(file: Path, passages: int) -> Path:
    """Write the first pages of the world as JSON lines, unless they are there."""
    if not file.exists():
        part = file.with_suffix(".part")
        with part.open("w", encoding="utf-8") as stream:
            for page in world(passages).documents:
                stream.write(json.dumps({"id": page.key, "title": page.title, "text": page.text}) + "\n")
        part.rename(file)
    return file


def write_newer(file: Path, older: Path) -> Path:
    """Write the lines again with a hundredth of the pages changed."""
    with file.open("w", encoding="utf-8") as stream, older.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            page = json.loads(line)
            page["text"] += " All this was long ago." if number % CHANGED == 0 else ""
            stream.write(json.dumps(page) + "\n")
    return file


def write_dump(file: Path, pages: int) -> Path:
    """Write the first pages as a MediaWiki dump with links, an infobox and a reference each."""
    if file.exists():
        return file
    with file.open("w", encoding="utf-8") as stream:
        stream.write('<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="en">\n')
        for number, page in enumerate(world(pages).documents, 1):
            linked = NAME.sub(r"[[\g<0>]]", page.text)
            text = (
                f"{{{{Infobox entry\n| name = {page.title}\n| number = {number}\n}}}}\n'''{page.title}''': {linked}"
                f"<ref>{{{{cite book|title=Papers|year={1900 + number % 100}}}}}</ref>\n\n[[Category:Entries]]"
            )
            stream.write(
                f"<page><title>{escape(page.title)}</title><ns>0</ns><id>{number}</id><revision><id>{number}</id>"
                f'<text xml:space="preserve">{escape(text)}</text></revision></page>\n'
            )
        stream.write("</mediawiki>\n")
    return file


# --- one run, in a process of its own -------------------------------------------------------------


def index(source: Path, folder: Path, count: int) -> None:
    """Index the source, and print what that did, as JSON."""
    thread = time.thread_time()
    with workers(count, None) as beside:
        indexed = index_source(source, folder, name="atlas", workers=beside)
    print(json.dumps({"main_thread_seconds": time.thread_time() - thread, **asdict(indexed)}))


def measure(source: Path, folder: Path, count: int) -> Measured:
    """Index the source in a process of its own; return what it took."""
    out, took = watched([sys.executable, __file__, "--index", str(source), str(folder), str(count)])
    values: Measured = {**took, **json.loads(out)}
    values["floor_seconds"] = max(values["main_thread_seconds"], took["cpu_seconds"] / len(os.sched_getaffinity(0)))
    values["disk_bytes"] = {part: _size(folder / part) for part in ("passages.db", "tantivy")}
    print(f"  {count} workers:", json.dumps(values), flush=True)
    return values


def watched(command: Sequence[str]) -> tuple[str, Measured]:
    """Run a command; return what it prints, and its seconds and the peaks of memory of all its processes."""
    begin, before = time.monotonic(), _children_seconds()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ended, peak = threading.Event(), [0, 0]
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak))
        watcher.start()
        out, _ = process.communicate()
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    names = ("seconds", "cpu_seconds", "anonymous_bytes", "mapped_bytes")
    took = (time.monotonic() - begin, _children_seconds() - before, *peak)
    return out, dict(zip(names, took, strict=True))


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(process: int, ended: threading.Event, peak: list[int]) -> None:
    """Keep the largest sums of the processes' memory; pages that several share are divided among them."""
    while not ended.wait(EVERY):
        memory = [_memory(member) for member in _family(process)]
        peak[:] = [max(most, sum(now)) for most, now in zip(peak, zip(*memory, strict=True), strict=True)]


def _family(process: int) -> Iterator[int]:
    yield process
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _memory(process: int) -> tuple[int, int]:
    """Return the bytes of a process's anonymous pages, and of its pages of mapped files."""
    sizes: dict[str, int] = {}
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(size.split()[0]) * 1024 for name, size in (line.split(":") for line in lines)}
    anonymous = sizes.get("Pss_Anon", 0)
    return anonymous, sizes.get("Pss", 0) - anonymous


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path, path.with_name(f"{path.name}-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


# --- what the bases say ---------------------------------------------------------------------------


def queries(passages: int) -> tuple[list[str], list[str]]:
    """Return questions about the world of this size, and the first rationale of each."""
    from dspy import lm15

    made = world(passages)
    asked = [question.text for question in made.questions if question.split == "test"]
    prompts = [lm15.Message.user(f"[[ ## question ## ]]\n{text}") for text in asked]
    replies = [made.teacher.complete(lm15.Request(model="atlas", messages=(prompt,))) for prompt in prompts]
    texts = [(reply.message.text or "").split("]]")[1].split("[[")[0].strip() for reply in replies]
    return asked, texts


def differing(folders: Sequence[Path], texts: Sequence[str]) -> int:
    """Return for how many texts any base finds other passages, or other scores, than the first does."""
    bases = [KnowledgeBase.open(folder) for folder in folders]
    found = [[[(h.passage.id, h.bm25) for h in kb.search(text, K)] for text in texts] for kb in bases]
    for kb in bases:
        kb.close()
    return sum(len({tuple(hits) for hits in of_text}) > 1 for of_text in zip(*found, strict=True))


def milliseconds(folder: Path, texts: Sequence[str]) -> float:
    """Return the median CPU time of a search with the passages' text."""
    kb = KnowledgeBase.open(folder)
    times: list[float] = []
    for text in [*texts[:10], *texts]:  # the first ten warm up
        begin = time.process_time()
        kb.search(text, K)
        times.append((time.process_time() - begin) * 1000)
    kb.close()
    return statistics.median(times[10:])


def compare(folders: Sequence[Path], runs: dict[str, Measured], texts: Sequence[str]) -> Measured:
    """Return what the runs took, and whether the bases that they made agree."""
    same = len({run["id"] for run in runs.values()}) == 1
    different = differing(folders, texts)
    print(f"  ids equal: {same}, queries that differ: {different} of {len(texts)}", flush=True)
    return {"runs": runs, "ids_equal": same, "queries": len(texts), "queries_that_differ": different}


# --- all of it ------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--passages", default="300000,1000000,3000000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--updates", default="300000")
    parser.add_argument("--pages", type=int, default=60_000)
    parser.add_argument("--dump", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--index", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.index:
        source, base, count = chosen.index
        index(Path(source), Path(base), int(count))
        return
    if chosen.folder is None:
        parser.error("name a FOLDER to work in")
    folder: Path = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    from peers import machine  # imports more than an index needs

    report: Measured = {}
    if chosen.json and chosen.json.exists():
        report = json.loads(chosen.json.read_text(encoding="utf-8"))
    report.update(machine(), date=datetime.now(UTC).date().isoformat())

    def save(part: str, name: str, values: Measured) -> None:
        report.setdefault(part, {})[name] = values
        if chosen.json:
            chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    counts, sizes, updates = (
        [int(number) for number in text.split(",") if number]
        for text in (chosen.workers, chosen.passages, chosen.updates)
    )
    bases = [folder / f"base-{count}" for count in counts]

    def run(source: Path, *, new: bool = True) -> dict[str, Measured]:
        print(source.name, flush=True)
        for base in bases if new else ():
            shutil.rmtree(base, ignore_errors=True)
        return {str(count): measure(source, base, count) for count, base in zip(counts, bases, strict=True)}

    for passages in sizes:
        source = write_lines(folder / f"atlas-{passages}.jsonl", passages)
        asked, reasons = queries(passages)
        result = compare(bases, run(source), [*asked, *reasons])
        times = {"question": milliseconds(bases[0], asked), "rationale": milliseconds(bases[0], reasons)}
        print("  CPU ms a search:", times, flush=True)
        save("lines", str(passages), {**result, "search_ms": times})
        if passages in updates:
            newer = write_newer(folder / "newer.jsonl", source)
            save("updates", str(passages), compare(bases, run(newer, new=False), [*asked, *reasons]))
    for dump in filter(
        None, (chosen.pages and write_dump(folder / f"atlas-{chosen.pages}.xml", chosen.pages), chosen.dump)
    ):
        asked, reasons = queries(chosen.pages or 10_000)
        save("dumps", dump.name, compare(bases, run(dump), [*asked, *reasons]))


if __name__ == "__main__":
    main()
