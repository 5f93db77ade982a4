"""Which rationales train: by their own conclusion, by their readers' verdict, by both; and a base as a reader."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kard.acceptance import Acceptance, count_accepted
from kard.config import Accept, Decoding, StudentTraining, TaskSettings
from kard.db import rows, value
from kard.errors import Missing
from kard.evaluation.condition import Condition, passages_read
from kard.evaluation.retriever_metrics import hits_table
from kard.methods import METHODS
from kard.questions import QuestionSet
from kard.reranker.dataset import read_dataset
from kard.retrieval.fusion import read_labels
from kard.student.examples import RationaleSource, training_pairs

TRAIN = QuestionSet("tiny", "train")


def verdict(case: Any, rationale: int, agrees: bool) -> None:
    case.write("insert or ignore into verifiers values ('v', 'v', 'm', '', '{}', '-')")
    case.write("insert into verifications values (?, 'v', 'A', ?, '', 0, 0, 0, 0, '-')", rationale, int(agrees))


@pytest.fixture
def judged(case: Any) -> Any:
    """Four questions with a rationale each: own conclusion right or wrong, read as right or as wrong."""
    for number, (own, read) in enumerate(((True, True), (True, False), (False, True), (False, False)), 1):
        question = case.question(f"q{number}", split="train")
        verdict(case, case.rationale(question, "d1-0", "d2-0", accepted=own), read)
    return case


@pytest.mark.parametrize(("accept", "keys"), [("own", [1, 2]), ("verified", [1, 3]), ("both", [1])])
def test_students_rerankers_and_fusions_learn_from_the_rationales_of_the_chosen_rule(
    judged: Any, accept: Accept, keys: list[int]
) -> None:
    pairs = training_pairs(
        judged.db,
        "tiny",
        METHODS["kard"],
        StudentTraining(k=1),
        RationaleSource(accept=accept),
        index_id="i" * 16,
    )
    assert [pair.question_id for pair in pairs] == keys
    dataset = read_dataset(judged.db, TRAIN, "i" * 16, accept=accept)
    assert [question.key for question in dataset.questions] == [f"q{key}" for key in keys]
    labels = read_labels(judged.db, "tiny", "i" * 16, accept=accept)
    assert [label.key for label in labels] == [f"q{key}" for key in keys]
    assert count_accepted(judged.db, TRAIN, accept) == Acceptance(4, len(keys), 0, 0)


@pytest.mark.parametrize(("accept", "number"), [("own", 0), ("verified", 1), ("both", 2)])
def test_silver_passages_come_from_the_first_rationale_that_the_rule_accepts(
    case: Any, accept: Accept, number: int
) -> None:
    question = case.question("q")
    case.hits(question, "d0-0", "d1-0", "d2-0")
    for sample, (own, read) in enumerate(((True, False), (False, True), (True, True))):
        verdict(case, case.rationale(question, f"d{sample}-0", accepted=own, sample=sample), read)
    condition = Condition("test", "s", "kard", "silver", 1, Decoding(), case.INDEX, teacher_id="t", accept=accept)
    ((passage,),) = passages_read(case.db, "tiny", condition).values()
    assert passage.document == f"d{number}"
    ranks = {row["accept"]: row["rank"] for row in rows(case.db, "first_hits", task="tiny", split="test")}
    assert ranks[accept] == number + 1
    assert len({replace(condition, accept=rule).row("tiny")["hash"] for rule in ranks}) == 3
    header, body = hits_table(rows(case.db, "first_hits", task="tiny", split="test"))
    assert {row[header.index("needed")] for row in body} == {f"silver ({rule})" for rule in ranks}
    missing = {
        **QuestionSet("tiny", "test").parameters,
        "index": case.INDEX,
        "max_df": 1,
        "rationale_form": "rationale",
    }
    case.write("delete from verifications")
    case.write("update rationales set accepted = 0")
    ((passage,),) = passages_read(case.db, "tiny", condition).values()
    assert passage.document == "d0"  # none is accepted: an upper bound over some of the questions would be none
    for teacher, count in (("t", 0), ("u", 1), (None, 0)):
        assert value(case.db, "internal/count_without_silver", **missing, accept=accept, teacher=teacher) == count


def test_a_missing_verdict_is_an_error_that_names_the_command_and_never_a_refusal(judged: Any) -> None:
    judged.rationale(judged.question("q5", split="train"), "d1-0", "d2-0")
    said = re.escape(
        "1 of 5 rationales of tiny lack a reader's verdict; get them with: kard verify tiny --base BASE"
    )
    for accept in ("verified", "both"):
        source = RationaleSource(accept=accept)
        with pytest.raises(Missing, match=said):
            training_pairs(judged.db, "tiny", METHODS["rd"], StudentTraining(k=1), source, index_id=None)
        with pytest.raises(Missing, match=said):
            read_dataset(judged.db, TRAIN, "i" * 16, accept=accept)
    first_four = RationaleSource(accept="both", limit=4)
    assert training_pairs(judged.db, "tiny", METHODS["rd"], StudentTraining(k=1), first_four, index_id=None)


def test_the_papers_page_names_the_settings_of_its_profile() -> None:
    page = (Path(__file__).parents[1] / "docs" / "paper.md").read_text(encoding="utf-8")
    told = re.findall(r"\| `([a-z_.]+)` \| `([^`]*)` \|", page)
    assert len(told) > 20
    for name, expected in told:
        setting: object = TaskSettings.paper()
        for part in name.split("."):
            setting = getattr(setting, part)
        assert str(setting) == expected, name
