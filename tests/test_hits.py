"""`kard hits`: two orders of passages side by side, the metrics of each retriever, and their plot."""

from __future__ import annotations

import builtins
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from kard import tasks
from kard.cli import main
from kard.config import Decoding
from kard.db import open_store, rows
from kard.evaluation.page.sections import curves_of
from kard.evaluation.retriever_metrics import hits_curve, hits_table, read_orders, retriever_rows
from kard.knowledge.indexing import index_documents
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.metrics.ranking import RelevantPassages, first_ranks, metric_names
from kard.questions import QuestionSet
from kard.records import Document
from kard.retrieval.retrieve import record_index
from kard.tasks import Task


def test_a_curve_counts_the_first_needed_passage() -> None:
    ranks = first_ranks([["a", "b"], ["b", "a"], ["c"]], [RelevantPassages({"b": "b"})] * 3)
    assert ranks == [2, 1, None]
    assert hits_curve(ranks, 3) == pytest.approx([1 / 3, 2 / 3, 2 / 3])


@pytest.fixture
def hits(tmp_path: Path, tiny_task: Task, new_case: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three questions: q1 that the reranker helps, q2 that it hurts, q3 of another split."""
    index_documents([Document("d1", "t", "words"), Document("d2", "t", "more")], tmp_path / "kb", source="s")

    def load(_name: str) -> Task:
        return tiny_task

    monkeypatch.setattr(tasks, "load", load)
    store = tmp_path / "kard.db"
    db = open_store(store)
    case = new_case(db)
    case.INDEX = record_index(db, KnowledgeBase.open(tmp_path / "kb"))
    one, two, other = case.question("q1", "d3"), case.question("q2"), case.question("q3", split="train")
    case.passages("d3-0", "d3-1")
    case.hits(one, "d1-0", "d2-0", "d3-1")
    case.ranked(one, "d3-1", "d1-0", "d2-0")
    case.rationale(one, "d2-0", "d3-1", "d8-0", "d9-0")
    case.hits(two, "d1-0", "d2-0")
    case.ranked(two, "d2-0", "d1-0")
    case.rationale(two, "d1-0")
    case.hits(other, "d2-0")
    case.write("update passages set title = 'Evil \x1b[31m<b>', text = 'a | b <script> \x07' where id = 'd1-0'")
    db.conn.close()

    def run(*words: str, kappa: int = 3) -> Any:
        place = ["--store", str(store), "--knowledge", str(tmp_path / "kb"), "--kappa", str(kappa)]
        return CliRunner().invoke(main, ["hits", "tiny", *words, *place])

    return run


def test_both_orders_stand_side_by_side_with_what_is_needed(hits: Any) -> None:
    made = hits("--question", "q1")
    assert made.exit_code == 0, made.output
    lines = [line.split() for line in made.output.splitlines() if line[:2].strip().isdigit()]
    marks = [[word for word in line if word in ("E", "S", "ES")] for line in lines]
    assert marks == [["ES"], ["S"], ["ES", "S"]]
    assert [line[-1] for line in lines] == ["3", "1", "2"]  # where BM25 had what is now first, second, third
    assert "q1  Is q1 so?" in made.output


def test_rows_name_rank_score_and_need(hits: Any) -> None:
    (one, two) = json.loads(hits("--json", "-n", "2").output)
    assert (one["question"], two["question"]) == ("q1", "q2")
    first = one["orders"]["reranker"][0]
    wanted = {"rank": 1, "bm25_rank": 3, "bm25": 6.0, "score": 1.0, "passage": "d3-1"}
    assert {name: first[name] for name in wanted} == wanted
    assert first["needed"] == ["evidence", "silver"]
    assert [p["needed"] for p in two["orders"]["bm25"]] == [["silver"], []]
    rows = list(csv.DictReader(io.StringIO(hits("--csv", "--question", "q1", "-k", "1").output)))
    assert [(r["retriever"], r["passage"], r["needed"]) for r in rows] == [
        ("bm25", "d1-0", ""),
        ("reranker", "d3-1", "evidence silver"),
    ]


def test_rerankers_that_compare_settings_count_when_asked_for(hits: Any, tmp_path: Path) -> None:
    db = open_store(tmp_path / "kard.db")
    columns = [c.name for c in db.table("rerankers").columns if c.name not in ("id", "experiment")]
    names = ", ".join(columns)
    with db.atomic():
        db.execute(f"insert into rerankers (id, experiment, {names}) select 'x1', 'loss', {names} from rerankers")
        db.execute(
            "insert into rerank_scores select 'x1', retrieval_id, rank, passage_id, score from rerank_scores"
        )
    db.conn.close()

    def retrievers(*words: str) -> set[str]:
        return {row["retriever"] for row in json.loads(hits("--summary", "--json", *words).output)}

    assert retrievers() == {"bm25", "reranker"}
    assert retrievers("--experiments") == {"bm25", "reranker x1", "reranker " + "r" * 16}


@pytest.mark.parametrize("form", ["--table", "--markdown"])
def test_no_passage_can_drive_a_terminal_or_a_page(hits: Any, form: str) -> None:
    text = hits(form).output
    assert "\x1b" not in text
    assert "\x07" not in text
    if form == "--markdown":
        assert "<b>" not in text
        assert "<script>" not in text
        rows = [line for line in text.splitlines() if line.startswith("| 1")]
        assert rows
        assert all(line.replace("\\|", "").count("|") == 9 for line in rows)


def test_the_summary_sets_every_retriever_beside_bm25(hits: Any) -> None:
    lines = {(r["needed"], r["retriever"]): r for r in json.loads(hits("--summary", "--json").output)}
    assert sorted(lines) == [
        ("evidence", "bm25"),
        ("evidence", "reranker"),
        ("silver", "bm25"),
        ("silver", "reranker"),
    ]
    evidence = lines["evidence", "reranker"]
    assert (evidence["questions"], evidence["Hits@1"], evidence["Hits@1 difference"]) == (1, 1.0, 1.0)
    assert evidence["MRR difference"] == pytest.approx(1 - 1 / 3, abs=1e-4)
    assert evidence["recall@3"] == 1.0  # one document, whichever of its passages
    silver = lines["silver", "bm25"]
    assert (silver["questions"], silver["Hits@1"], silver["MRR"]) == (2, 0.5, 0.75)
    assert silver["recall@3"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-4)
    assert silver["Hits@1 difference"] is None
    turned = {(r["needed"], r["retriever"]): r for r in json.loads(
        hits("--summary", "--json", "--against", "reranker").output)}  # fmt: skip
    assert turned["evidence", "bm25"]["Hits@1 difference"] == -1.0
    assert turned["evidence", "reranker"]["Hits@1 difference"] is None
    table = hits("--summary").output
    assert "difference to bm25 with 95% interval" in table
    assert hits("--summary", "--markdown").output.count("| reranker |") == 4


def test_only_the_first_kappa_are_reranked(hits: Any) -> None:
    (one,) = json.loads(hits("--question", "q1", "--json", kappa=2).output)
    assert [(p["rank"], p["passage"]) for p in one["orders"]["reranker"]] == [(1, "d1-0"), (2, "d2-0")]
    lines = {(r["needed"], r["retriever"]): r for r in json.loads(hits("--summary", "--json", kappa=2).output)}
    assert lines["evidence", "reranker"]["recall@2"] == 0


def test_the_store_is_enough_where_the_knowledge_base_is_gone(hits: Any, tmp_path: Path) -> None:
    there = hits("--json").output
    (tmp_path / "kb").rename(tmp_path / "elsewhere")
    assert hits("--json").output == there


def test_a_student_reads_the_reranker_s_first_among_the_first_kappa(case: Any) -> None:
    from kard.evaluation.condition import Condition, passages_read

    question = case.question("q1")
    case.hits(question, "d1-0", "d2-0", "d3-0")
    case.ranked(question, "d3-0", "d2-0", "d1-0")
    condition = Condition("test", "s", "kard", "reranker", 1, Decoding(), case.INDEX, case.RERANKER, kappa=1)
    read = {kappa: passages_read(case.db, "tiny", replace(condition, kappa=kappa)) for kappa in (1, 2, 3)}
    assert {kappa: found[question][0].id for kappa, found in read.items()} == {1: "d1-0", 2: "d2-0", 3: "d3-0"}


def test_what_is_missing_is_named_in_one_line(hits: Any, tmp_path: Path) -> None:
    assert "no order by 'dense'" in hits("--retriever", "dense").output
    assert "no question 'nosuch'" in hits("--question", "nosuch").output
    assert "kard run tiny" in hits("--split", "dev").output
    assert "grounded" in hits("--summary", "--split", "train").output
    assert "ends in .svg or .png" in hits("--plot", str(tmp_path / "x.pdf")).output
    assert {hits("--retriever", "dense").exit_code, hits("--split", "dev").exit_code} == {1}


@pytest.mark.parametrize(("name", "start"), [("x.svg", b"<?xml"), ("x.png", b"\x89PNG")])
def test_a_plot_is_a_picture_of_its_kind(hits: Any, tmp_path: Path, name: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    made = hits("--plot", str(tmp_path / name))
    assert made.exit_code == 0, made.output
    assert (tmp_path / name).read_bytes().startswith(start)


def test_without_matplotlib_the_extra_is_named(hits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    made = hits("--plot", str(tmp_path / "x.svg"))
    assert made.exit_code == 1
    assert made.output == "Error: matplotlib is not installed; add it with: pip install 'kard[plots]'\n"


def test_silver_is_what_the_first_accepted_rationale_of_a_teacher_finds_on_an_index(case: Any) -> None:
    question = case.question("q")
    case.hits(question, "d1-0", "d2-0", "d3-0", "d4-0")
    case.rationale(question, "d1-0", accepted=False)
    case.rationale(question, "d3-0", sample=1)
    case.rationale(question, "d2-0", sample=2)
    (row,) = rows(case.db, "first_hits", task="tiny", split="test")
    assert (row["gold"], row["teacher"], row["rank"], row["depth"]) == ("silver", "guide", 3, 4)
    (ranked,) = read_orders(case.db, QuestionSet("tiny", "test"), case.INDEX, kappa=4)
    assert ranked.relevant == {"silver": RelevantPassages({"d3-0": "d3-0"})}
    (needed,) = rows(
        case.db,
        "internal/needed_of_questions",
        task="tiny",
        split="test",
        limit=-1,
        index=case.INDEX,
        teacher=None,
        accept="own",
        rationale_form="rationale",
    )
    assert needed["passage_id"] == "d3-0"


def test_knowledge_bases_and_teachers_are_counted_apart(case: Any) -> None:
    question = case.question("q")
    case.hits(question, "d1-0", "d2-0")
    case.rationale(question, "d1-0")
    case.INDEX = "j" * 16
    case.write("update indexes set created = '2026-11-28T08:00:00+00:00'")
    case.write("insert into indexes select ?, '-', 9, '-', '2026-11-29T08:00:00+00:00'", case.INDEX)
    case.hits(question, "d3-0", "d2-0")
    case.write("insert into teachers select 'u', 'other', model, instructions, sampling, created from teachers")
    other = case.rationale(question, "d2-0", sample=1)
    case.write("update rationales set teacher_id = 'u' where id = ?", other)
    header, body = hits_table(rows(case.db, "first_hits", task="tiny", split="test"))
    told = [dict(zip(header, row, strict=True)) for row in body]
    assert [(row["needed"], row["documents"], row["questions"], str(row["Hits@1"])[:5]) for row in told] == [
        ("silver by guide", "2026-11-28", 1, "1.000"),
        ("silver by other", "2026-11-29", 1, "0.000"),
    ]


def test_searches_with_several_queries_are_counted_apart_and_named(case: Any) -> None:
    for key, form in (("a", "question"), ("b", "question"), ("c", "options")):
        question = case.question(key, f"{key}1")
        case.hits(question, f"{key}1-0" if form == "options" else f"{key}0-0", f"{key}1-0")
        case.write("update retrievals set form = ? where question_id = ?", form, question)
        case.ranked(question, f"{key}1-0")
    first_hits = rows(case.db, "first_hits", task="tiny", split="test")
    header, body = hits_table(first_hits)
    told = [dict(zip(header, row, strict=True)) for row in body]
    assert [(row["query"], row["retriever"], row["questions"], str(row["Hits@1"])[:5]) for row in told] == [
        ("options", "bm25", 1, "1.000"),
        ("options", "reranker", 1, "1.000"),
        ("question", "bm25", 2, "0.000"),
        ("question", "reranker", 2, "1.000"),
    ]
    assert len(curves_of(first_hits, 2)) == 4
    (asked,) = read_orders(case.db, QuestionSet("tiny", "test"), case.INDEX, kappa=2)  # searched like the last one
    assert asked.key == "c"
    case.write("update retrievals set form = 'question', max_df = iif(form = 'options', 0.5, 1)")
    header, body = hits_table(rows(case.db, "first_hits", task="tiny", split="test"))
    assert [row[1] for row in body] == ["question, max_df 0.5"] * 2 + ["question, max_df 1"] * 2
    case.write("update retrievals set max_df = 1")
    assert "query" not in hits_table(rows(case.db, "first_hits", task="tiny", split="test"))[0]


def test_documents_that_the_knowledge_base_lacks_count_as_missing(case: Any) -> None:
    half, none = case.question("half", "d1", "gone"), case.question("none", "lost")
    for question in (half, none):
        case.hits(question, "d1-0", "d2-0")
    asked = read_orders(case.db, QuestionSet("tiny", "test"), case.INDEX, kappa=10)
    (line,) = retriever_rows(asked, 10)
    values = dict(zip(metric_names(10), line.values, strict=True))
    assert (line.questions, line.ceiling) == (2, 0.25)
    assert (values["Hits@1"], values["recall@10"]) == (0.5, 0.25)
    assert values["nDCG@10"] == pytest.approx((1 / (1 + 1 / np.log2(3))) / 2)
    header, body = hits_table(rows(case.db, "first_hits", task="tiny", split="test"))
    told = dict(zip(header, body[0], strict=True))
    assert (told["questions"], told["ceiling"], str(told["Hits@1"])[:5]) == (2, "0.250", "0.500")


def test_metrics_are_the_same_from_the_needed_passages_alone(case: Any) -> None:
    for key, document, order in (("first", "d1", "123"), ("last", "d3", "123"), ("none", "d9", "124")):
        question = case.question(key, document)
        case.hits(question, *(f"d{number}-0" for number in order))
        case.ranked(question, *(f"d{number}-0" for number in reversed(order)))
    asked = QuestionSet("tiny", "test")
    whole = read_orders(case.db, asked, case.INDEX, kappa=3)
    short = read_orders(case.db, asked, case.INDEX, kappa=3, needed_only=True)
    counts = [[len(order) for order in question.orders.values()] for question in short]
    assert counts == [[1, 2], [2, 1], [1, 1]]  # the first, and what is needed
    assert str(retriever_rows(short, 3)) == str(retriever_rows(whole, 3))
    assert len(retriever_rows(short, 3)) == 2


def test_one_retriever_alone_has_one_column(hits: Any, tmp_path: Path) -> None:
    output = hits("--question", "q1", "--retriever", "bm25").output
    (header,) = [line for line in output.splitlines() if "bm25" in line]
    assert header.split() == ["bm25", "passage"]
    assert len([line for line in output.splitlines() if line[:2].strip().isdigit()]) == 3


def test_the_marks_that_occur_are_explained_below_and_no_others(hits: Any) -> None:
    evidence, silver = (
        "E: needed, for the data name it as evidence",
        "S: needed, for an accepted rationale found it first",
    )
    assert hits("--question", "q1").output.splitlines()[-2:] == [evidence, silver]
    assert hits("--question", "q2").output.splitlines()[-1] == silver
    assert evidence not in hits("--question", "q2").output
    assert "needed, " not in hits("--question", "q1", "--csv").output
