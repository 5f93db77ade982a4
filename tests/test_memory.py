"""`kard memory`: what facts hold in bits, equal cost by heart and looked up, and what a second run does."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import islice
from math import log2
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kard.cli import main
from kard.db import open_store
from kard.tasks import Facts, demo, load

facts: Any = import_module("kard.programs.atlas.facts")
memory: Any = import_module("kard.programs.atlas.memory")


def some(count: int, *, others: bool = False) -> Facts:
    make = load(demo()).facts
    assert make
    return make(count, others=others)


# The facts


def test_a_fact_holds_log2_of_the_sets_of_values_that_it_could_have() -> None:
    person = facts.Entity("person", "Orla Venn", 0, {"birth": ("Ulby",), "instrument": ("flute", "drum")})
    pools = {"town": ("Ulby", *"bcdefgh"), "instrument": ("flute", "drum", *"cdefghijklmnop")}
    land = facts.Land(0, (person,), pools)
    told = memory.LandFacts((("birth", person, land), ("instrument", person, land)))
    assert told.bits == pytest.approx(3 + log2(16 * 15 / 2)), "one town of 8, two instruments of 16"


def test_every_document_is_told_again_in_other_words_with_its_facts() -> None:
    told = some(12)
    texts = list(islice(told.texts(copied=False), 6 * len(told.documents)))
    pages = {page.partition("] ")[2] or page for text in texts for page in text.split("\n")}
    for question in islice(told.questions("train"), 12):
        title = next(d.title for d in told.documents if d.key == question.evidence[0])
        of_title = [page for page in pages if page.startswith(f"{title}: ")]
        assert len(of_title) > 1
        assert question.gold
        assert all(question.gold in page for page in of_title)


def test_questions_ask_about_every_fact_in_turn_and_never_about_others() -> None:
    told, others = some(30), some(60, others=True)
    asked = [(q.evidence, q.facts) for q in islice(told.questions("train"), 60)]
    assert len(set(asked[:30])) == 30
    assert set(asked[:30]) == set(asked[30:]) == {(q.evidence, q.facts) for q in islice(told.questions("test"), 30)}
    assert {d.key for d in told.documents} == {key for evidence, _ in asked for key in evidence}
    assert not {d.key for d in told.documents} & {d.key for d in others.documents}
    trained = {q.text for q in islice(told.questions("train"), 600)}
    assert not trained & {q.text for q in islice(told.questions("test"), 600)}


def test_fewer_facts_are_the_first_of_more() -> None:
    few, more = some(10), some(40)
    assert [d.key for d in more.documents][: len(few.documents)] == [d.key for d in few.documents]
    assert few.bits < more.bits


def test_a_copy_stands_below_the_page_that_it_says_in_other_words() -> None:
    alike = 0
    for text in islice(some(40, others=True).texts(copied=True), 40):
        *shown, copy = text.split("\n")
        title = copy.partition(": ")[0]
        source = [page.partition("] ")[2] for page in shown if page.partition("] ")[2].startswith(f"{title}: ")]
        assert source
        alike += copy in source
    assert alike < 20, "a page of one fact may be worded alike by chance"


# The command

SMALL = (
    *("--base", "t=32x1", "--tokens", "9000", "--others", "40", "--questions", "4"),
    *("--method", "rd,kard", "--set", "decoding.max_new_tokens=8"),
)


def kard(folder: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["memory", *words, "--store", str(folder / "kard.db"), "--quiet"])
    assert result.exit_code == code, result.output
    return result


def counts(folder: Path) -> list[Any]:
    db = open_store(folder / "kard.db")
    tables = ("questions", "students", "evaluations", "predictions", "retrievals", "steps_log")
    return [db.execute(f"select count(*), max(rowid) from {table}").fetchone() for table in tables]


def test_both_cost_the_same_stand_in_one_table_and_a_second_run_only_prints(tmp_path: Path) -> None:
    words = (*SMALL, "--facts", "16,8", "--json")
    plan = json.loads(kard(tmp_path, *words, "--dry-run").stdout)
    assert [(row["facts"], row["training"], row["done"]) for row in plan] == [
        (facts, training, "no")
        for facts, method in (("8", "rd"), ("others-40", "kard"), ("16", "rd"))
        for training in ("base", method)
    ]
    assert {row["tokens"] for row in plan} == {4500}
    rows = json.loads(kard(tmp_path, *words, "--plot", str(tmp_path / "memory.svg")).stdout)
    chance, *found = rows
    assert (chance["method"], chance["accuracy"]) == ("chance", "0.250")
    assert [(row["facts"], row["method"], row["reads"], row["n"]) for row in found] == [
        (8, "rd", "none", 4),
        (8, "kard", "bm25", 4),
        (16, "rd", "none", 4),
        (16, "kard", "bm25", 4),
    ]
    for row in found:
        assert 8_700 <= row["tokens"] <= 9_000, "a text and a question less at most"
        told = some(row["facts"])
        passages = len(told.documents) + len(some(40, others=True).documents)
        looked_up = len(told.documents) * log2(passages)
        assert row["bits"] == round(told.bits)
        by_theory = f"at least {told.bits:.0f}" if row["method"] == "rd" else f"at most {looked_up:.0f}"
        assert row["to store"] == by_theory
    assert "accuracy" in (tmp_path / "memory.svg").read_text()
    before = counts(tmp_path)
    assert json.loads(kard(tmp_path, *words).stdout) == rows
    assert counts(tmp_path) == before
    _, pairs = kard(tmp_path, *words[:-1], "--markdown").stdout.split("A against B")
    compared = [line.split(" | ")[:3] for line in pairs.splitlines() if line.startswith("| ")][1:]
    assert compared == [["| kard/bm25/8", "rd/8", "4"], ["| kard/bm25/16", "rd/16", "4"]]
    plan = json.loads(kard(tmp_path, *words, "--dry-run").stdout)
    assert {row["done"] for row in plan} == {"yes"}
    students = list(open_store(tmp_path / "kard.db").query("select method, base from students order by rowid"))
    assert [student["method"] for student in students] == ["rd", "kard", "rd"], "kard is trained once"
    assert len({student["base"] for student in students}) == 3
    other = (*SMALL, "--method", "rd", "--facts", "8", "--json", "--set", "decoding.max_new_tokens=9")
    done = [row["done"] for row in json.loads(kard(tmp_path, *other, "--dry-run").stdout)]
    assert done == ["yes", "no"], "other targets are taught, by the same base"
    assert [row["method"] for row in json.loads(kard(tmp_path, *other).stdout)] == ["chance", "rd"]
    assert open_store(tmp_path / "kard.db").table("students").count == 4


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    kard(tmp_path, *SMALL, "--facts", "8", "--dry-run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "zero-shot"), "zero-shot learns nothing; name methods that are trained"),
        (("--retriever", "silver"), "facts are looked up with none, bm25, shuffled, not silver"),
        (("--set", "teaching.fraction=.5"), "comes with its rationale; leave out teaching.* and student.own"),
        (("--set", "student.own=2"), "comes with its rationale; leave out teaching.* and student.own"),
        (("--set", "student.passages=dense"), "with student.passages of silver, bm25, shuffled, not dense"),
        (("--facts", "0,8"), "there must be a fact or more"),
        (("--facts", "few"), "facts are whole numbers"),
        (("--tokens", "150"), "the tokens hold no text; raise --tokens"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    code = 2 if words[0] == "--facts" else 1
    assert message in " ".join(kard(tmp_path, *SMALL, *words, code=code).output.split())
