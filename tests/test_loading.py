"""A file that was corrected and loaded again: what it changes in the store, what it leaves, and what is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlite_utils import Database

from kard.cli import main
from kard.db import open_store
from kard.pipeline.load import store_questions
from kard.questions import QuestionSet
from kard.records import Question, Rationale
from kard.teacher.records import store_rationales

Kard = Callable[..., Result]
HEADER = "question,A,B,C,answer,split"
ROWS = (
    "Which floats?,iron,cork,stone,B,train",
    "Which sinks?,iron,cork,,A,train",
    "Which burns?,iron,wood,,B,test",
)


@pytest.fixture
def kard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kard:
    """Return what runs a command beside an empty store."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, code: int = 0, typed: str = "") -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], input=typed)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def db(kard: Kard, tmp_path: Path) -> Database:
    """Return the store with the rows of the file `q.csv`, which have no ids."""
    write(tmp_path / "q.csv")
    assert "choice: 3 questions added, 0 unchanged (train 2, test 1)" in kard("load", "choice", "q.csv").output
    return open_store(tmp_path / "kard.db")


def write(path: Path, *rows: str, header: str = HEADER) -> None:
    path.write_text("\n".join((header, *(rows or ROWS))) + "\n", encoding="utf-8")


def stored(db: Database) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(q.text, q.options, q.answer) for q in QuestionSet("choice").read(db).values()]


def keys(db: Database) -> dict[str, str]:
    return {q.text: q.key for q in QuestionSet("choice").read(db).values()}


def explain(db: Database, texts: Mapping[str, str], teacher: str = "guide") -> None:
    """Store a rationale of each question, by its text."""
    of = keys(db)
    store_rationales(db, "choice", teacher, [Rationale(of[question], 0, text) for question, text in texts.items()])


def verdicts(db: Database) -> list[tuple[str, str | None, int]]:
    return db.execute("select text, conclusion, accepted from rationales order by id").fetchall()


def test_a_corrected_answer_is_refused_with_the_option_that_takes_it(
    kard: Kard, db: Database, tmp_path: Path
) -> None:
    explain(db, {"Which sinks?": "So the answer is (B) cork.", "Which floats?": "So the answer is (B) cork."})
    write(tmp_path / "q2.csv", ROWS[0], ROWS[1].replace(",A,", ",B,"), ROWS[2])
    refused = kard("load", "choice", "q2.csv", code=1).output
    key = keys(db)["Which sinks?"]
    assert refused.startswith(
        f"Error: q2.csv:3: id {key!r} is in the store with another answer; take the file's with:"
    )
    assert "--replace" in refused

    first = kard("load", "choice", "q2.csv", "--replace").output.splitlines()[0]
    assert first == "choice: 0 questions added, 1 replaced, 2 unchanged (train 2, test 1)"
    assert [answer for _, _, answer in stored(db)] == ["B", "B", "B"]
    assert [accepted for *_, accepted in verdicts(db)] == [1, 1]
    assert "1 replaced" not in kard("load", "choice", "q2.csv", "--replace").output
    assert "0 questions added, 3 unchanged" in kard("load", "choice", "q2.csv").output


def test_a_question_without_id_is_known_by_its_text_and_keeps_its_rationales(
    kard: Kard, db: Database, tmp_path: Path
) -> None:
    explain(db, {"Which sinks?": "It is the iron, so A."})
    before = keys(db)["Which sinks?"]
    write(tmp_path / "q2.csv", ROWS[0], "Which sinks?,steel,cork,,A,train", ROWS[2])
    assert "0 questions added, 1 replaced, 2 unchanged" in kard("load", "choice", "q2.csv", "--replace").output
    assert stored(db)[1] == ("Which sinks?", ("steel", "cork"), "A")
    assert keys(db)["Which sinks?"] != before
    assert len(verdicts(db)) == 1


def test_a_file_that_was_loaded_without_the_option_before_replaces_too(
    kard: Kard, db: Database, tmp_path: Path
) -> None:
    explain(db, {"Which sinks?": "So the answer is (A) iron."})
    write(tmp_path / "q2.csv", ROWS[0], "Which sinks?,iron,corks,,A,train", ROWS[2])
    assert "1 question added, 2 unchanged" in kard("load", "choice", "q2.csv").output
    output = kard("load", "choice", "q2.csv", "--replace").output
    assert "0 questions added, 1 replaced, 2 unchanged" in output
    assert "also in the store" not in output
    assert stored(db)[1] == ("Which sinks?", ("iron", "corks"), "A")
    assert len(stored(db)) == 3
    assert verdicts(db) == [("So the answer is (A) iron.", "A", 1)]


def test_one_text_of_several_questions_is_no_name(kard: Kard, db: Database, tmp_path: Path) -> None:
    write(tmp_path / "q2.csv", "Which sinks?,iron,wood,,A,train", "Which sinks?,lead,wood,,A,train")
    output = kard("load", "choice", "q2.csv", "--replace").output
    assert "2 questions added, 0 unchanged (train 2)" in output
    assert "also in the store, and not in q2.csv: 2 questions (train 2)\n" in output


@pytest.mark.parametrize("option", ["--replace", "--exact"])
@pytest.mark.parametrize(
    "other", ["Which sinks?,gold,clay,,A,test", "Which sinks?,iron,clay,,A,test", "Which sinks?,gold,clay,,A,train"]
)
def test_a_text_alone_does_not_make_one_question_of_two(
    kard: Kard, db: Database, tmp_path: Path, option: str, other: str
) -> None:
    explain(db, {"Which sinks?": "Iron is heavy, so A."})
    kept = [] if option == "--exact" and other.endswith("train") else [stored(db)[1]]
    write(tmp_path / "q2.csv", other)
    output = kard("load", "choice", "q2.csv", option, typed="y\n").output
    assert "1 question added" in output
    assert "replaced" not in output
    left = [("iron", "cork")] * len(kept)
    assert [question for question in stored(db) if question[1] == ("iron", "cork")] == kept
    explained = "select q.options from rationales r join questions q on q.id = r.question_id"
    assert [tuple(json.loads(options)) for (options,) in db.execute(explained)] == left


@pytest.mark.parametrize(
    ("options", "answer", "text", "expected"),
    [
        (("iron", "cork"), "A", "So the answer is (B) cork.", ("B", 0)),
        (("iron", "korks"), "B", "I choose it: B.", ("B", 1)),  # worded anew in its place
        (("gold", "clay"), "B", "So the answer is cork.", (None, 0)),  # another question under the old id
        (("cork", "iron"), "A", "So the answer is cork.", ("A", 1)),  # moved, and named by its text
        (("cork", "iron"), "A", "So the answer is (B) cork.", (None, 0)),  # moved, and the letter is another's
    ],
)
def test_verdicts_follow_what_a_question_says_now(
    case: Any, kard: Kard, tmp_path: Path, options: tuple[str, ...], answer: str, text: str,
    expected: tuple[str | None, int],
) -> None:  # fmt: skip
    db = case.db
    store_questions(db, "choice", [Question("q1", "train", "Which floats?", ("iron", "cork"), "B")])
    store_rationales(db, "choice", "guide", [Rationale("q1", 0, text)])
    assert [accepted for *_, accepted in verdicts(db)] == [1]
    verifier = {"id": "v", "name": "v", "model": "v", "instructions": "", "sampling": "{}", "created": "-"}
    reading = {"rationale_id": 1, "verifier_id": "v", "answer": "B", "agrees": 1, "reply": "B", "created": "-",
               "prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0, "milliseconds": 0.0}  # fmt: skip
    with db.atomic():
        db.table("verifiers").insert(verifier)
        db.table("verifications").insert(reading)
    row = {"id": "q1", "split": "train", "question": "Which floats?", "options": options, "answer": answer}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    kard("load", "choice", "q.jsonl", "--replace")
    assert verdicts(db) == [(text, *expected)]
    read = [] if options[0] != "iron" else [("B", int(answer == "B"))]
    assert db.execute("select answer, agrees from verifications").fetchall() == read


def test_what_rested_on_a_replaced_question_goes_and_the_rest_stays(case: Any, kard: Kard, tmp_path: Path) -> None:
    db = case.db
    ids = [case.question(key, "d1", split="test") for key in ("q1", "q2", "q3")]
    with db.atomic():
        db.execute("update questions set task = 'choice'")
        db.execute("insert into overlap_checks select id, 'x', '-' from questions")
    for question in ids:
        case.hits(question, "d1-0", "d2-0")
        case.answered(question, "bm25", "d1-0")
        case.rationale(question, "d1-0")
    rows = [{"id": q.key, "split": q.split, "question": q.text, "options": q.options, "answer": q.answer,
             "evidence": q.evidence} for q in QuestionSet("choice").read(db).values()]  # fmt: skip
    rows[0]["question"], rows[1]["split"] = "Is it?", "train"
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    kard("load", "choice", "q.jsonl", "--replace")

    def resting(table: str) -> set[int]:
        return {row for (row,) in db.execute(f"select question_id from {table}")}

    assert resting("predictions") == {ids[2]}  # a training question is not evaluated
    assert resting("retrievals") == {ids[1], ids[2]}
    assert resting("rationales") == set(ids)
    assert resting("evidence") == set(ids)
    assert ids[0] not in resting("overlap_checks")


def test_changed_evidence_is_looked_for_again(case: Any, kard: Kard, tmp_path: Path) -> None:
    db = case.db
    question = case.question("q1", "d1", split="train")
    with db.atomic():
        db.execute("update questions set task = 'choice'")
    case.hits(question, "d1-0")
    case.rationale(question, "d1-0")
    row = {"id": "q1", "split": "train", "question": "Is q1 so?", "options": ["yes", "no"], "answer": "A"}
    (tmp_path / "q.jsonl").write_text(json.dumps({**row, "evidence": ["d2"]}))
    assert "1 replaced" in kard("load", "choice", "q.jsonl", "--replace").output
    assert db.execute("select document from evidence").fetchall() == [("d2",)]
    assert db.execute("select query from retrievals").fetchall() == [("rationale",)]


def test_a_recorded_rationale_with_another_text_is_replaced_on_demand(
    kard: Kard, case: Any, db: Database, tmp_path: Path
) -> None:
    key = keys(db)["Which sinks?"]
    row = {"question_id": key, "sample": 0, "rationale": "So the answer is (B) cork.", "model": "m"}
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    kard("load", "choice", "--rationales", "r.jsonl")
    (question,) = db.execute("select question_id from rationales").fetchone()
    with db.atomic():
        search = {"index_id": case.INDEX, "question_id": question, "rationale_id": 1, "query": "rationale"}
        db.table("retrievals").insert({**search, "depth": 1, "milliseconds": 0, "created": "-"})
    (tmp_path / "r.jsonl").write_text(json.dumps({**row, "rationale": "So the answer is (A) iron."}))
    refused = kard("load", "choice", "--rationales", "r.jsonl", code=1).output
    assert (
        f"sample 0 of question {key!r} is in the store with another text; take this one with: --replace" in refused
    )
    output = kard("load", "choice", "--rationales", "r.jsonl", "--replace").output
    assert output.startswith("0 rationales added, 1 replaced from r.jsonl\n")
    assert verdicts(db) == [("So the answer is (A) iron.", "A", 1)]
    assert db.table("retrievals").count == 0
    assert kard("load", "choice", "--rationales", "r.jsonl").output.startswith("0 rationales added from r.jsonl\n")


def test_the_copy_of_a_file_is_no_second_teacher(kard: Kard, db: Database, tmp_path: Path) -> None:
    header = f"{HEADER},rationale"
    floats, sinks = f"{ROWS[0]},Cork is light.", f"{ROWS[1]},Iron is heavy."
    write(tmp_path / "a.csv", floats, sinks, header=header)
    assert "2 rationales added" in kard("load", "choice", "a.csv").output
    write(tmp_path / "b.csv", floats, sinks, f"{ROWS[2]},Wood burns.", header=header)
    assert "1 rationale added" in kard("load", "choice", "b.csv").output
    write(tmp_path / "c.csv", floats, f"{ROWS[1]},Iron is dense.", header=header)
    assert "0 rationales added, 1 replaced" in kard("load", "choice", "c.csv", "--replace").output
    assert db.execute("select name from teachers").fetchall() == [("recorded:a",)]
    assert [text for text, *_ in verdicts(db)] == ["Cork is light.", "Iron is dense.", "Wood burns."]


def test_questions_that_a_file_no_longer_has_are_told_and_removed_on_demand(
    kard: Kard, db: Database, tmp_path: Path
) -> None:
    explain(db, {"Which sinks?": "So the answer is (A) iron."})
    with db.atomic():
        db.execute("update rationales set cost = 0.25")
    write(tmp_path / "q2.csv", ROWS[0], "What sinks?,iron,cork,,A,train")
    output = kard("load", "choice", "q2.csv", "--store", "kard.db").output
    assert "choice: 1 question added, 1 unchanged (train 2)" in output
    told = "also in the store, and not in q2.csv: 1 question (train 1)\n    to keep just what the file has: "
    assert f"{told}kard load choice q2.csv --exact --store kard.db\n" in output  # the one for testing is not meant

    asked = kard("load", "choice", "q2.csv", "--exact", code=1, typed="n\n").output
    assert "Remove 1 question of choice not in q2.csv, with 1 rationale that cost $0.25?" in asked
    assert len(stored(db)) == 4
    output = kard("load", "choice", "q2.csv", "--exact", "--yes").output
    assert "removing 1 question of choice not in q2.csv, with 1 rationale that cost $0.25\n" in output
    assert "choice: 0 questions added, 1 removed, 2 unchanged (train 2)" in output
    assert [text for text, *_ in stored(db)] == ["Which floats?", "Which burns?", "What sinks?"]
    assert verdicts(db) == []
    assert kard("load", "choice", "q2.csv", "--exact").output.startswith("choice: 0 questions added, 2 unchanged")


def test_an_exact_file_replaces_before_anything_is_removed(kard: Kard, db: Database, tmp_path: Path) -> None:
    explain(db, {"Which sinks?": "So the answer is (A) iron."})
    write(tmp_path / "q2.csv", ROWS[0], "Which sinks?,iron,corks,,A,train")
    assert "0 questions added, 1 replaced, 1 unchanged" in kard("load", "choice", "q2.csv", "--exact").output
    assert len(verdicts(db)) == 1


def test_exact_needs_a_whole_file(kard: Kard, db: Database) -> None:
    assert "of which no row is left out" in kard("load", "choice", "q.csv", "--exact", "--skip-bad", code=2).output
    assert "needs a FILE" in kard("load", "choice", "--rationales", "r.jsonl", "--exact", code=2).output
    assert "--yes answers what --exact asks" in kard("load", "choice", "q.csv", "--yes", code=2).output
    assert len(stored(db)) == 3


@pytest.mark.parametrize(
    "options", ["green,green,blue", "green,Green ,blue", "a  b,blue,A b", "caf\u00e9,x,cafe\u0301"]
)
def test_two_options_that_answers_cannot_tell_apart_are_refused(kard: Kard, tmp_path: Path, options: str) -> None:
    write(tmp_path / "q.csv", ROWS[0], f"Which cap?,{options},A,train")
    output = kard("load", "choice", "q.csv", code=1).output
    assert re.match(r"Error: q\.csv:3: options '[^']+' and '[^']+' are alike; ", output)
    write(tmp_path / "q.csv", "Which?,C,C++,c#,A,train")
    kard("load", "choice", "q.csv")


def test_a_missing_column_is_told_once_at_the_head_of_the_table(kard: Kard, tmp_path: Path) -> None:
    write(tmp_path / "q.csv", "Why?,x,y,,A,train", header="frage,A,B,C,answer,split")
    for words in ((), ("--skip-bad",)):
        output = kard("load", "choice", "q.csv", *words, code=1).output
        assert output.startswith("Error: q.csv:1: no field 'question' among 'frage', 'A', ")
        assert "--skip-bad" not in output
    write(tmp_path / "q.csv", "Why?,[],A", header="question,options,answer")
    assert kard("load", "choice", "q.csv", code=1).output.startswith("Error: q.csv:2: ")
    write(tmp_path / "r.csv", "q1,0,Because.", header="question_id,sample,rationale")
    output = kard("load", "choice", "--rationales", "r.csv", code=1).output
    assert output.startswith("Error: r.csv:1: no field 'model'; ")


def test_the_case_of_columns_does_not_matter(kard: Kard, tmp_path: Path) -> None:
    write(tmp_path / "q.csv", "q1,Which floats?,iron,cork,B,", header="ID,Question,a,b,Answer,Split")
    kard("load", "choice", "q.csv", "--split", "train")
    write(tmp_path / "r.csv", "q1,0,So B.,m", header="Question_ID,Sample,Rationale,Model")
    assert "1 rationale added" in kard("load", "choice", "--rationales", "r.csv").output
    (question,) = QuestionSet("choice").read(open_store(tmp_path / "kard.db")).values()
    assert question == Question("q1", "train", "Which floats?", ("iron", "cork"), "B")


def test_the_status_counts_training_questions_without_a_rationale(kard: Kard, db: Database) -> None:
    def note() -> str:
        return json.loads(kard("status", "choice", "--json").output)[0]["note"]

    explain(db, {"Which sinks?": "So the answer is (A) iron.", "Which burns?": "So the answer is (B) wood."})
    assert note() == "1 of 1 for training are accepted (own); 1 training question has no rationale"
    explain(db, {"Which floats?": "So the answer is (B) cork."})
    assert note() == "2 of 2 for training are accepted (own)"
    explain(db, {"Which floats?": "So the answer is (B) cork."}, "other")
    assert note() == "rationales of recorded:guide, recorded:other: choose whose with --teacher NAME"
    assert "choose whose with --teacher NAME" in " ".join(kard("run", "choice", "--dry-run").output.split())


@pytest.mark.parametrize(
    "words",
    [
        "run choice --dry-run",
        "status choice",
        "evaluate choice --dry-run",
        "run choice --store none.db --ray 127.0.0.1:1",
    ],
)
def test_a_size_or_encoder_that_the_task_lacks_is_refused_at_once(kard: Kard, db: Database, words: str) -> None:
    refused = kard(*words.split(), "--size", "350m", code=1).output
    assert refused.startswith("Error: choice has no size '350m'; it declares 135m, ")
    refused = kard(*words.split(), "--encoder", "large", code=1).output
    assert refused.startswith("Error: choice has no encoder 'large'; it declares minilm")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("load q.csv", "q.csv is a file, not a task; did you mean: kard load choice q.csv"),
        ("run q.csv", "q.csv is a file, not a task; did you mean: kard load choice q.csv"),
        ("load choise q.csv", "no task 'choise'; did you mean 'choice'?"),
        ("load choise", "no task 'choise'; did you mean 'choice'?"),
        ("run choise", "no task 'choise'; did you mean 'choice'?"),
        ("indx q.csv", "no command 'indx'; did you mean 'index'?"),
        ("train choice", "train what? kard train student choice, or kard train reranker choice"),
        ("query acuracy", "no canned query 'acuracy'; did you mean 'accuracy'?"),
        ("run zzz", "no task 'zzz'; there are arc, "),
        ("zzz", "No such command 'zzz'"),
    ],
)
def test_what_was_mistyped_is_told_with_what_may_be_meant(
    kard: Kard, db: Database, words: str, problem: str
) -> None:
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code
    assert problem in result.output


@pytest.mark.parametrize("words", ["load --help", "tasks choice"])
def test_the_form_of_a_file_of_rationales_is_told(kard: Kard, words: str) -> None:
    output = kard(*words.split()).output
    assert all(field in output for field in ("--rationales", "question_id", "sample", "rationale", "model"))
