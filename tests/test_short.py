"""Short answers: how one is read and graded, and questions without options from the file to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from kard import tasks
from kard.answers.parsing import answer_of, conclusion, letter_of
from kard.answers.short import f1_of, normalized, same_answer
from kard.answers.vote import counted, vote
from kard.cli import main
from kard.config import StudentTraining, Teaching
from kard.db import open_store, sql
from kard.pipeline.load import store_questions
from kard.questions import QuestionSet
from kard.records import LETTERS, Question
from kard.student.prompt import answer_form
from kard.teacher.teach import teach

METALS = ("iron", "tin", "zinc", "copper")
DOCUMENTS = {f"d{n}": f"Thing {n} is made of {metal}, they say." for n, metal in enumerate(METALS * 2)}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It is so.\nAnswer: the Danube", "the Danube"),
        ("Answer: St. Louis.", "St. Louis"),
        ("Therefore, the answer is sixteen.", "sixteen"),
        ("The answer is: **Ed Wood**.\n", "Ed Wood"),
        ("The answer is Rome. No, the answer is Paris.", None),
        ("Therefore, the answer is Paris. It lies on the Seine.", None),
        ("Therefore, the answer is St. Louis.", "St. Louis"),
        ("Answer: The Answer Is Love", "The Answer Is Love"),
        ("So the answer is The Answer Is Love.", "The Answer Is Love"),
        ("Answer: 2011\u201312", "2011\u201312"),
        ("Answer: Rock \u2019n\u2019 Roll", "Rock \u2019n\u2019 Roll"),
        (r"It is \boxed{Paris}.", "Paris"),
        ("<answer>Paris</answer>", "Paris"),
        ('{"answer": "Paris"}', "Paris"),
        ("It is what the answer is about.", None),
        ("The answer is not Paris.", "not Paris"),  # equals no right answer
        ("Answer:", None),
        ("Answer:\nRome", "Rome"),
        ("Vienna lies on the Danube.", None),
        ("<think>The answer is Rome.", None),
        ("<think>The answer is Rome.</think> The answer is Paris.", "Paris"),
    ],
)
def test_a_text_concludes_on_what_follows_its_last_answer(text: str, answer: str | None) -> None:
    assert conclusion(text, ()) == answer


def test_an_answer_at_the_end_of_a_cut_text_may_go_on() -> None:
    assert answer_of("so\nAnswer: New", (), cut=True) is None
    assert answer_of("so\nAnswer: New York\n", (), cut=True) == "New York"
    assert answer_of("so\nAnswer: New", ()) == "New"
    assert letter_of("the Danube", ()) == "the Danube"


# Values of the normalisation and F1 of HotpotQA's evaluation script, worked out by hand.
@pytest.mark.parametrize(
    ("answer", "gold", "f1"),
    [
        ("The Beatles", "beatles", 1.0),
        ("U.S.", "us", 1.0),
        ("Jean-Luc", "jeanluc", 1.0),
        ("the New York Times", "New York", 0.8),  # 2 of 3 words and 2 of 2
        ("New York New York", "New York", 2 / 3),  # a word counts as often as the other has it
        ("yes", "no", 0.0),
        ("yes it is", "yes", 0.0),  # yes and no are wrong unless they are all
        ("noanswer", "answer", 0.0),
        ("Rome", "Paris", 0.0),
        (None, "Paris", 0.0),
        ("", "Paris", 0.0),
        ("A", "the", 0.0),  # nothing but articles: compared as they are
        ("A", "a", 1.0),
    ],
)
def test_f1_counts_common_words(answer: str | None, gold: str, f1: float) -> None:
    assert f1_of(answer, gold) == pytest.approx(f1)
    assert same_answer(answer, gold) == (f1 == 1.0)


@given(st.text(max_size=20), st.text(max_size=20))
def test_f1_is_even_and_one_for_the_same_answer(one: str, other: str) -> None:
    assert f1_of(one, other) == pytest.approx(f1_of(other, one))
    assert 0 <= f1_of(one, other) <= 1
    assert f1_of(one, one) == 1
    assert normalized(normalized(one)) == normalized(one) or not one.strip()


def test_letters_stay_apart() -> None:
    assert len({normalized(letter) for letter in LETTERS}) == len(LETTERS)


def test_wordings_of_one_answer_vote_together() -> None:
    answers = ["Rome", "the Danube", None, "Danube", "danube."]
    assert vote(answers) == ("the Danube", 3)
    assert counted(answers) == [("the Danube", 3), ("Rome", 1)]
    assert vote([None]) == (None, 0)


def test_a_short_answer_is_taught_as_it_is() -> None:
    for settings in (StudentTraining(answer="text"), StudentTraining(answer="letter")):
        assert answer_form((), "the  Danube", settings) == "the Danube"


def kard(folder: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db")])
    assert result.exit_code == code, result.output
    return result


def rows_of(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "rows.jsonl")


@pytest.fixture
def folder(tmp_path: Path, write_decoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a knowledge base, ten short questions, six of them explained, and a tiny base."""
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "docs.jsonl").write_text(
        "\n".join(json.dumps({"id": key, "title": "", "text": text}) for key, text in DOCUMENTS.items())
    )
    kard(tmp_path, "index", str(tmp_path / "docs.jsonl"), "--quiet")
    rows = [
        {
            "id": f"q{n}",
            "split": "train" if n < 6 else "test",
            "question": f"What is thing {n % 8} made of, asked {n} times?",
            "answer": METALS[n % 4],
            "rationale": f"Thing {n % 8} is of {METALS[n % 4]}. Therefore, the answer is {METALS[n % 4].upper()}."
            if n < 6
            else "",
        }
        for n in range(10)
    ]
    assert "6 accepted" in kard(tmp_path, "load", "shortqa", rows_of(tmp_path, rows)).output
    write_decoder(tmp_path / "decoder", words=[*METALS, "thing", "made"])
    return tmp_path


def tiny(folder: Path) -> list[str]:
    return [
        *("--base", f"tiny={folder / 'decoder'}", "--size", "tiny", "--method", "ft,kard", "--retriever", "bm25"),
        *("--set", "decoding.max_new_tokens=4", "--set", "student.lora.rank=2", "-k", "1", "--quiet"),
    ]


def test_ten_short_questions_go_from_the_file_to_the_report(folder: Path) -> None:
    output = kard(folder, "run", "shortqa", *tiny(folder)).output
    assert "answer +8" in output
    assert "--option" not in output
    db = open_store(folder / "kard.db")
    # What a random model writes says nothing, so that answers of four kinds stand in its place.
    written = {"tin": (1, 1.0), "the zinc!": (1, 1.0), "iron or copper": (0, 0.5), "lead": (0, 0.0)}
    golds = dict(db.execute("select key, answer from questions where split = 'test'").fetchall())
    texts = {key: next(text for text in written if golds[key] in text) for key in golds}
    texts = {**texts, "q8": "lead", "q7": "iron or copper"}
    for key, text in texts.items():
        of_question = "(select id from questions where key = ?)"
        db.execute(
            "update samples set text = ?, forced = null where prediction_id in"
            f" (select id from predictions where question_id = {of_question})",
            [f"why\nAnswer: {text}", key],
        )
    db.conn.commit()
    assert "8 of 8 texts read otherwise" in kard(folder, "rescore", "shortqa").output
    graded = db.execute(
        "select distinct q.key, p.answer, p.correct, p.f1 from predictions p join questions q on q.id = question_id"
    ).fetchall()
    assert {key: (correct, f1) for key, _, correct, f1 in graded} == {key: written[texts[key]] for key in texts}
    report = json.loads(kard(folder, "report", "shortqa", "--json").output)["accuracy"]
    assert [row["f1"] for row in report] == [None, None, 0.625, 0.625]
    assert [row["accuracy"] for row in report] == [0, 0.25, 0.5, 0.5]
    shown = kard(folder, "query", "accuracy", "--json").output
    assert {(line["accuracy"], line["f1"]) for line in json.loads(shown)} == {(0.5, 0.625)}
    assert "tin   <- gold" in kard(folder, "explain", "q9").output
    page = folder / "report.html"
    kard(folder, "report", "shortqa", "--html", str(page))
    assert "<bdi>tin</bdi> (right)" in page.read_text()
    assert "lead: " not in page.read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("run", "shortqa", "--method", "ft,named", "--retriever", "bm25", "--quiet"),
            "method named needs options, and questions of shortqa have none; leave it out",
        ),
        (
            ("verify", "shortqa", "--model", "openai/x", "--api-base", "http://127.0.0.1:9", "--quiet"),
            "6 questions have none",
        ),
        (("verify", "shortqa", "--base", "{base}", "--quiet"), "6 questions have none"),
    ],
)
def test_what_chooses_among_options_says_that_there_are_none(
    folder: Path, words: tuple[str, ...], problem: str
) -> None:
    error = kard(folder, *(word.format(base=folder / "decoder") for word in words), code=1).stderr
    assert error.splitlines()[-1].startswith("Error: ")
    assert problem in error


def test_another_right_answer_judges_rationales_anew(folder: Path) -> None:
    def accepted() -> list[tuple[str, str, int]]:
        rationales = "select key, conclusion, accepted from rationales r join questions q on q.id = question_id"
        return open_store(folder / "kard.db").execute(f"{rationales} where key < 'q2' order by key").fetchall()

    assert accepted() == [("q0", "IRON", 1), ("q1", "TIN", 1)]
    rows = [
        {"id": "q0", "split": "train", "question": "What is thing 0 made of, asked 0 times?", "answer": "the iron"},
        {"id": "q1", "split": "train", "question": "What is thing 1 made of, asked 1 times?", "answer": "lead"},
    ]
    kard(folder, "load", "shortqa", rows_of(folder, rows), "--replace")
    assert accepted() == [("q0", "IRON", 1), ("q1", "TIN", 0)]


def test_own_questions_without_a_split_are_drawn_and_the_wrong_task_names_the_right_one(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [{"question": f"What is {n}?", "answer": f"number {n}"} for n in range(40)])
    assert "40 questions added" in kard(tmp_path, "load", "shortqa", rows).output
    splits = dict(open_store(tmp_path / "kard.db").execute("select split, count(*) from questions group by 1"))
    assert splits.keys() == {"train", "test"}
    assert "load short answers with the task shortqa" in kard(tmp_path, "load", "choice", rows, code=1).stderr


def test_a_teacher_explains_a_short_answer_and_is_read_by_what_it_concludes_on(
    store: Database, script: Callable[..., Any]
) -> None:
    task = tasks.load("shortqa")
    store_questions(
        store, "shortqa", [Question(f"q{n}", "train", f"What is thing {n}?", (), METALS[n]) for n in (0, 1)]
    )
    said = "[[ ## rationale ## ]]\nIt rusts. Therefore, the answer is {}.\n\n[[ ## completed ## ]]"
    engine = script(("thing 0", said.format("Iron")), ("thing 1", said.format("lead")))
    lm = dspy.LM("scripted", engine=engine, cache=False, num_retries=0)
    summary = teach(store, task, QuestionSet("shortqa", "train"), lm, Teaching(samples=1, workers=1), name="wise")
    assert (summary.added, summary.accepted) == (2, 1)
    assert "[[ ## answer ## ]]\niron" in engine.prompts[0]
    assert "## options ##" not in engine.prompts[0]


def test_an_older_store_gets_the_column_of_f1_and_is_joined_with_a_new_one(folder: Path) -> None:
    db = open_store(folder / "kard.db")
    db.execute("drop view accuracy")
    db.execute("alter table predictions drop column f1")
    db.execute("delete from _sqlite_migrations where name = 'short_answers_have_f1'")
    db.conn.commit()
    db.close()
    kard(folder, "run", "shortqa", *tiny(folder))
    values = open_store(folder / "kard.db").execute("select f1 from predictions").fetchall()
    assert len(values) == 8
    assert None not in {value for (value,) in values}
    other = folder / "other.db"
    open_store(other, create=True).close()  # its column stands elsewhere, with a comment
    assert CliRunner().invoke(main, ["merge", str(folder / "kard.db"), "--store", str(other)]).exit_code == 0


def test_reading_again_changes_nothing_without_a_change_of_the_rules(folder: Path) -> None:
    kard(folder, "run", "shortqa", *tiny(folder))
    assert "0 of 8 texts read otherwise, 0 votes changed" in kard(folder, "rescore", "shortqa").output


def test_a_student_of_short_answers_is_asked_without_options(folder: Path) -> None:
    kard(folder, "run", "shortqa", *tiny(folder))
    error = kard(folder, "ask", "What is thing 1 made of?", "--option", "tin", "--option", "iron", code=1).stderr
    assert "students of shortqa answer in words of their own; ask without options" in error
    assert "--option" not in kard(folder, "ask", "What is thing 1 made of?").output


@pytest.mark.parametrize(
    "words", [("--accept", "verified"), ("--decide", "likelihood"), ("--set", "student.answer=letter")]
)
def test_what_needs_options_is_refused_before_anything_is_trained(folder: Path, words: tuple[str, ...]) -> None:
    error = kard(folder, "run", "shortqa", *tiny(folder), *words, code=1).stderr
    assert "needs options, and questions of shortqa have none; leave it out" in error
    assert open_store(folder / "kard.db").table("students").count == 0


def test_f1_of_a_condition_is_that_of_its_short_answers_alone(case: Any, store: Database) -> None:
    short, chosen = case.question("short"), case.question("chosen")
    case.answered(short, "none", answer="B")
    case.answered(chosen, "none", answer="B")
    store.execute("update predictions set f1 = 1.0 where question_id = ?", [short])
    (row,) = store.query(sql("accuracy"), {"task": None, "split": None})
    assert (row["questions"], row["f1"]) == (2, 1.0)
