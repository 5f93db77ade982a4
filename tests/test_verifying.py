"""Another model reads rationales: without the answer, once each, and both opinions are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from click.testing import CliRunner
from sqlite_utils import Database

from kard.cli import main
from kard.db import open_store
from kard.errors import BadConfig, Missing, TeacherFailed
from kard.evaluation.rationale_quality import measure_rationales, read_rationales
from kard.pipeline.load import store_questions
from kard.questions import QuestionSet
from kard.records import Question
from kard.teacher.records import TeacherInfo, store_teacher
from kard.teacher.requests import UNREADABLE
from kard.teacher.verify import VerifySummary, unverified, verifier_info, verify

QUESTIONS = (
    Question("q1", "train", "Does copper rust?", ("yes", "no"), "B"),
    Question("q2", "train", "Does iron sink?", ("yes", "no"), "A"),
    Question("q3", "train", "Is it late?", ("yes", "no"), None),
)
TRAIN = QuestionSet("tiny", "train")
RATIONALES = (
    "It is noble. So the answer is (B) no.",
    "It floats on mercury. So the answer is (A) yes.",
    "Who knows.",
)


def completion(text: str) -> str:
    return f"[[ ## answer ## ]]\n{text}\n\n[[ ## completed ## ]]"


def lm_of(engine: Any, model: str = "scripted") -> dspy.LM:
    return dspy.LM(model, engine=engine, cache=False, num_retries=0)


@pytest.fixture
def db(store: Database) -> Database:
    store_questions(store, "tiny", QUESTIONS)
    store_teacher(store, TeacherInfo("t", "wise", "m", "", "{}"))
    for key, text in enumerate(RATIONALES, 1):
        row = {"question_id": key, "teacher_id": "t", "sample": 0, "text": text, "created": "now"}
        store.table("rationales").insert({**row, "conclusion": "BA "[key - 1].strip() or None, "accepted": key < 3})
    return store


def test_a_verifier_reads_each_rationale_once_and_without_its_closing(
    db: Database, script: Callable[..., Any]
) -> None:
    engine = script(("copper", completion("(B) no")), ("sink", completion("no")), input_tokens=30, output_tokens=7)
    done = verify(db, TRAIN, lm_of(engine), name="second", workers=2)
    assert done == VerifySummary(added=2, agreed=1, cost=0, prompt_tokens=60, completion_tokens=14)
    copper = next(prompt for prompt in engine.prompts if "copper" in prompt)
    assert "(A) yes\n(B) no" in copper
    assert "It is noble." in copper
    assert "the answer is (B)" not in copper
    opinions = db.execute("select rationale_id, answer, agrees, reply from verifications order by 1").fetchall()
    assert opinions == [(1, "B", 1, "(B) no"), (2, "B", 0, "no")]
    assert list(db.query("select name, model from verifiers")) == [{"name": "second", "model": "scripted"}]
    assert verify(db, TRAIN, lm_of(script()), name="second") == VerifySummary(0, 0, 0, 0, 0)
    verdicts = db.execute("select id, verdict, verified from rationale_verdicts order by id").fetchall()
    assert verdicts == [(1, "accepted", 1), (2, "accepted", 0), (3, "unread", None)]
    (line,) = measure_rationales(read_rationales(db, "tiny"), None)
    assert (line.accepted, line.verified) == (pytest.approx(2 / 3), 0.5)


def test_a_reply_without_an_option_is_no_answer_and_two_opinions_must_both_agree(
    db: Database, script: Callable[..., Any]
) -> None:
    vague = script(("copper", completion("It cannot be said.")), ("sink", completion("A")))
    assert verify(db, TRAIN, lm_of(vague, "one"), name="one").agreed == 1
    verify(db, TRAIN, lm_of(script(("copper", completion("B")), ("sink", completion("A"))), "two"), name="two")
    assert db.execute("select id, verified from rationale_verdicts order by id").fetchall() == [
        (1, 0),
        (2, 1),
        (3, None),
    ]
    db.execute("delete from rationales where id = 1")
    assert db.execute("select count(*) from verifications").fetchone() == (2,)


def test_limit_and_teacher_narrow_what_is_read(db: Database) -> None:
    def ids(questions: QuestionSet, teacher: str | None = None) -> list[int]:
        return [rationale.rationale_id for rationale in unverified(db, questions, verifier_info("m", "m"), teacher)]

    assert ids(TRAIN) == [1, 2]
    assert ids(QuestionSet("tiny", "train", limit=1)) == [1]
    assert ids(TRAIN, teacher="nobody") == []
    assert verifier_info("m", "v").id != verifier_info("n", "v").id


def test_a_run_that_cannot_continue_says_why(db: Database, script: Callable[..., Any]) -> None:
    with pytest.raises(Missing, match="no rationales of tiny/dev; ask a teacher with: kard teach tiny --split dev"):
        verify(db, QuestionSet("tiny", "dev"), lm_of(script()), name="v")
    with pytest.raises(BadConfig, match="the price of scripted is not known"):
        verify(db, TRAIN, lm_of(script(completion("A"))), name="v", max_cost=1.0)
    assert db.execute("select count(*) from verifications").fetchone() == (1,)
    for sample in range(1, UNREADABLE + 1):
        row = {"question_id": 1, "teacher_id": "t", "sample": sample, "text": "x", "accepted": 0, "created": "now"}
        db.table("rationales").insert(row)
    with pytest.raises(
        TeacherFailed, match=r"answers in a row that hold no opinion; try the same command with another model"
    ):
        verify(db, TRAIN, lm_of(script(*["nothing"] * 2 * UNREADABLE), "two"), name="v", workers=1)


def test_the_command_demands_a_provider_and_a_dry_run_counts_the_requests(db: Database, tmp_path: Path) -> None:
    (file,) = [row[2] for row in db.execute("pragma database_list")]
    run = CliRunner()
    wrong = run.invoke(main, ["verify", "choice", "--model", "gpt", "--store", file])
    assert (wrong.exit_code, wrong.output.count("\n")) == (1, 1)
    assert "PROVIDER/MODEL" in wrong.output
    store_questions(open_store(Path(file)), "choice", QUESTIONS[:1])
    db.execute("update rationales set question_id = (select max(id) from questions) where id = 1")
    dry = run.invoke(main, ["verify", "choice", "--model", "openai/m", "--store", file, "--dry-run"])
    assert dry.output == "1 requests to openai/m\n"
    table = run.invoke(main, ["rationales", "choice", "--json", "--store", file])
    assert json.loads(table.output)[0]["verified"] is None
