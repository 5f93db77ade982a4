"""Compare a small student that reads with larger students that were told every fact (docs/closed-book.md).

    python benchmarks/closed_book.py FOLDER [--lands 3 --lands 64 ...] [--examples 30000]

In the demo's world students that do not read are at chance by construction: nobody told them of the things that
they are asked about. Here they are told everything. Reader and rivals are trained from scratch, so that everything
they know is accounted for. The reader (`kard`, 1m) is trained on pages and questions of lands that no test question
asks about. A rival (`ft` and `rd`, 3m: 3.8 times the parameters) is pretrained on as many pages, all of them of
lands that the test asks about, in changing words; then it is trained on questions about every fact of these lands.

The split `test` asks about `TESTED` lands in wordings of its own. The split `dev` asks about the same lands in the
wordings of training, with questions that nobody was trained on; it separates knowing the facts from knowing the
wordings. A rival of more lands than the test's has more to learn, at the same cost. The reranker's base (MiniLM,
22.7 million parameters) is not from scratch; `kard` with `bm25` is the reader that needs no such base.

FOLDER holds a store for the reader and one for each rival. The tables come from test.jsonl.gz and dev.jsonl.gz,
which hold all answers. A killed run goes on where it was, and a later run may add rivals. A run with other numbers
than those in FOLDER's `MADE` is refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

import click
from scratch import READ, tokenizer_of, write_base

from kard.config import StudentTraining
from kard.db import read_store
from kard.evaluation.export import accuracy_of, comparisons_of
from kard.models import bases
from kard.records import LETTERS, Question

asking: Any = import_module("kard.programs.atlas.questions")
attributes: Any = import_module("kard.programs.atlas.attributes")
documents: Any = import_module("kard.programs.atlas.documents")
facts: Any = import_module("kard.programs.atlas.facts")
names: Any = import_module("kard.programs.atlas.names")
drafts: Any = import_module("kard.programs.atlas.drafts")

SEED = 0
WORLD = 300  # lands of 100 pages; the reader is trained on two of three
TESTED = 3  # lands that test and dev ask about
LESSONS, TEST = 20_000, 300  # training questions of the reader; questions of test, and of dev
WORDS = 1_024  # tokens in the vocabulary
SIZES = {"1m": (128, 4), "3m": (256, 4)}  # width and depth: 0.89 and 3.4 million parameters
TEXTS = 28_000  # of the reader's base: a page or two each, and one of them again in other words
PAGES = 70_000  # of a rival's base: as many as the reader's texts hold
PRETRAINING = StudentTraining(full=True, upper_half=False, epochs=1, batch=16, peak_lr=3e-3)
RETRIEVERS = "bm25,reranker,fused,silver"
FOUR = LETTERS[:4]
PLAIN = "four options, one hop"
MADE = "made.json"  # a folder's copy of the numbers above and the task below

TASK = """from dataclasses import replace

from kard.config import Decoding, StudentTraining
from kard.programs._common import plain
from kard.programs.atlas import TASK


def parse(row):
    return replace(plain(row), kind=row["kind"])


STUDENT = StudentTraining(
    full=True, upper_half=False, epochs=1, batch=16, peak_lr=1e-3, k=2, shuffle=True, rationales=1
)
DECODING = Decoding(max_new_tokens=100, batch=100)
TASK = replace(
    TASK,
    name="closed-book",
    parse=parse,
    students={students},
    settings=replace(TASK.settings, student=STUDENT, decoding=DECODING),
    world=None,
)
"""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--lands",
    multiple=True,
    type=click.IntRange(TESTED, WORLD // 3),
    default=(TESTED,),
    show_default=True,
    help="Number of lands that a rival is told everything about; repeatable.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=30_000,
    show_default=True,
    help="Training questions of each rival.",
)
def main(folder: Path, lands: Sequence[int], examples: int) -> None:
    """Train the reader and the rivals, let them answer, and print the tables."""
    remember(folder, examples)
    (folder / "bases").mkdir(exist_ok=True)
    learning = [land(n) for n in range(WORLD) if n % 3 != 2]
    closed = [land(n) for n in range(WORLD) if n % 3 == 2]
    lessons = asking.draw_questions(learning, "train", LESSONS, Random(f"closed book read {SEED}"))
    asked = [
        *rows(asking.draw_questions(closed[:TESTED], "test", TEST, Random(f"closed book test {SEED}")), "test"),
        *rows(asking.draw_questions(closed[:TESTED], "train", TEST, Random(f"closed book dev {SEED}")), "dev"),
    ]
    told = [text for one in lessons for text in (one.question.text, one.draft.reasons[0])]
    tokenizer = tokenizer_of([*told, *islice(twice(learning, Random("tokenizer")), 4_000)], WORDS)
    base(folder, "1m", "1m", tokenizer, islice(twice(learning, Random("reader")), TEXTS))
    reader(folder, [*rows(lessons, "train"), *asked])
    stores = [folder / "reader.db"]
    for known in (closed[:number] for number in dict.fromkeys(lands)):
        name = f"3m-{len(known)}"
        base(folder, "3m", name, tokenizer, islice(pages(known), PAGES))
        stores.append(rival(folder, name, known, asked, examples))
    for store in stores:
        costs(store)
    for split in ("test", "dev"):
        answers = exported(folder, stores, split)
        print(f"{split}:\n", accuracy_of(answers), comparisons_of(answers), sep="\n\n")


def remember(folder: Path, examples: int) -> None:
    """Store the numbers that the folder is made with. Raises ClickException if it was made with others."""
    numbers = (SEED, WORLD, TESTED, LESSONS, TEST, WORDS, SIZES, TEXTS, PAGES, asdict(PRETRAINING), TASK, examples)
    made, note = json.dumps(numbers, indent=1), folder / MADE
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        note.write_text(made, encoding="utf-8")
    elif not note.exists() or note.read_text(encoding="utf-8") != made:
        raise click.ClickException(f"{folder} was made with other numbers than these; name a new folder")


def reader(folder: Path, questions: Sequence[Any]) -> None:
    """Train the student that reads, on lands that no test question asks about, and let it answer with all pages."""
    store, task = folder / "reader.db", folder / "reader.py"
    everything = documents.Documents(names.Names(SEED), SEED, WORLD * facts.SIZE)
    write(folder / "pages.jsonl", ({"id": p.key, "title": p.title, "text": p.text} for p in everything))
    load(folder, "reader", "1m", questions)
    run("index", folder / "pages.jsonl", "--store", store)
    run("ground", task, "--store", store)
    run("train", "student", task, "--method", "kard", "--store", store)
    run("train", "reranker", task, "--train-limit", "300", "--store", store)
    for split in ("test", "dev"):
        which = ("--split", split, "--store", store)
        run("evaluate", task, "--rank-only", "--retriever", RETRIEVERS, *which)
        run("evaluate", task, "--student", "kard", "--retriever", f"none,{RETRIEVERS}", *which)


def rival(folder: Path, name: str, known: Sequence[Any], asked: Sequence[Any], examples: int) -> Path:
    """Train the students that are told every fact of these lands; return their store."""
    store, task = folder / f"{name}.db", folder / f"{name}.py"
    taken = {row["id"] for row in asked}
    lessons = [one for one in every_fact(known, examples, Random(name)) if one.question.key not in taken]
    print(f"{name}: {Counter(one.question.kind for one in lessons)}", flush=True)
    load(folder, name, name, [*rows(lessons, "train"), *asked])
    for method in ("rd", "ft"):
        run("train", "student", task, "--method", method, "--store", store)
        for split in ("test", "dev"):
            which = ("--split", split, "--store", store)
            run("evaluate", task, "--student", method, "--retriever", "none", *which)
    return store


def load(folder: Path, name: str, size: str, questions: Sequence[Any]) -> None:
    """Make a store with these questions, and a task whose only student has the base of that size."""
    task, file = folder / f"{name}.py", folder / f"{name}.jsonl"
    students = {size: str((folder / "bases" / size).resolve())}
    task.write_text(TASK.format(students=students), encoding="utf-8")
    write(file, questions)
    run("load", task, file, "--store", folder / f"{name}.db")


def base(folder: Path, size: str, name: str, tokenizer: Any, texts: Iterator[str]) -> None:
    """Pretrain a base of this size on the texts, once through."""
    width, layers = SIZES[size]
    write_base(folder / "bases" / name, tokenizer, texts, width=width, layers=layers, settings=PRETRAINING)


def land(number: int) -> Any:
    """Return a land of the world."""
    return facts.make_land(names.Names(SEED), SEED, number)


def twice(lands: Sequence[Any], rng: Random) -> Iterator[str]:
    """Yield texts without end: a page or two of a land, then one of them in other words, to be copied."""
    for telling in count(1, 2):
        for some in lands:
            once, again = documents.pages(some, SEED + telling), documents.pages(some, SEED + telling + 1)
            for at, page in enumerate(again):
                shown = [once[at], rng.choice(once)][: rng.choice((1, 2))]
                rng.shuffle(shown)
                read = "\n".join(f"[{i}] {p.title}: {p.text}" for i, p in enumerate(shown, 1))
                yield f"{read}\n{page.title}: {page.text}"


def pages(lands: Sequence[Any]) -> Iterator[str]:
    """Yield every page of the lands, again and again in other words."""
    for telling in count(1):
        for some in lands:
            for page in documents.pages(some, SEED + telling):
                yield f"{page.title}: {page.text}"


def every_fact(lands: Sequence[Any], examples: int, rng: Random) -> list[Any]:
    """Return about `examples` different questions, each kind with its share.

    Four-option questions ask for each value equally often. Values with too few wrong alternatives in their land are
    left out; the test leaves them out too.
    """
    wanted = Counter[tuple[str, str, str]]()
    for some in lands:
        for name, attribute in attributes.ATTRIBUTES.items():
            most = len(some.pools[attribute.pool]) - len(FOUR) + 1
            fit = [e for e in some.of(attribute.kind) if len(e.values[name]) <= most]
            wanted.update((e.name, name, value) for e in fit for value in e.values[name])
    shares = asking.shares(examples)
    tellings = -(-shares.pop(PLAIN) // len(wanted))
    made: dict[str, Any] = {}
    for some in lands:
        for name in attributes.ATTRIBUTES:
            mine = {e.name for e in some.of(attributes.ATTRIBUTES[name].kind)}
            missing = {key: tellings for key in wanted if key[0] in mine and key[1] == name}
            while any(missing.values()):
                letter = rng.choice(FOUR)
                draft = drafts.four_options(name, some, "train", letter, rng)
                one = asking.question_of(draft, "train", letter, PLAIN)
                key = (draft.needs[0], name, draft.options[FOUR.index(letter)])
                if missing[key] and one.question.key not in made:
                    made[one.question.key] = one
                    missing[key] -= 1
    barren = 0
    while any(shares.values()) and barren < 100:  # rounds without a new question: the lands have no more
        before = len(made)
        with suppress(asking.Exhausted):
            for one in asking.draw_questions(lands, "train", 30 * len(lands), rng):
                if shares.get(one.question.kind) and one.question.key not in made:
                    made[one.question.key] = one
                    shares[one.question.kind] -= 1
        barren = 0 if len(made) > before else barren + 1
    return list(made.values())


def rows(asked: Iterable[Any], split: str) -> Iterator[dict[str, object]]:
    """Yield the questions with their rationales as rows of a file."""
    for one in asked:
        question: Question = one.question
        yield {
            "id": question.key,
            "split": split,
            "kind": question.kind,
            "question": question.text,
            "options": question.options,
            "answer": question.answer,
            "evidence": question.evidence,
            "rationale": one.draft.reasons[0],
        }


def write(path: Path, lines: Iterable[object]) -> None:
    """Write JSON lines."""
    path.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")


def costs(store: Path) -> None:
    """Print the training cost of a store's students: six operations a parameter and token, pretraining included."""
    with closing(read_store(store)) as db:
        for student in db.execute("select * from students order by method"):
            own = bases.resolve(student["base"])
            before = json.loads((own.folder / READ).read_text(encoding="utf-8"))
            seen = before["tokens"] + student["tokens"]
            print(
                f"{student['size']} {student['method']}: {own.parameters:,} parameters; base of "
                f"{before['tokens']:,} tokens, loss {before['loss']:.3f}; {student['examples']:,} examples of "
                f"{student['tokens']:,} tokens, loss {student['loss']:.3f}; "
                f"{6.0 * own.parameters * seen:.1e} operations"
            )


def exported(folder: Path, stores: Sequence[Path], split: str) -> Path:
    """Return the path of one file with the answers of all students."""
    answers, part = folder / f"{split}.jsonl.gz", folder / "part.jsonl.gz"
    every: list[bytes] = []
    for store in stores:
        part.unlink(missing_ok=True)
        run("export", store.with_suffix(".py"), part, "--answers", "--split", split, "--store", store)
        every.append(part.read_bytes())
    part.write_bytes(b"".join(every))  # gzip files can be concatenated
    part.replace(answers)
    return answers


def run(*arguments: object) -> None:
    """Run a command of kard and print how long it took."""
    start = time.perf_counter()
    said = [*map(str, arguments), *(() if arguments[0] == "export" else ("--quiet",))]
    subprocess.run([sys.executable, "-m", "kard", *said], check=True)
    print(f"{time.perf_counter() - start:.0f} s: kard {' '.join(map(str, arguments[:3]))}", flush=True)


if __name__ == "__main__":
    main()
