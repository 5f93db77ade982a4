"""The rule `named`: what counts as a mention, what is answered, and its rows beside those of students."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from kard.cli import main
from kard.db import open_store
from kard.errors import BadConfig
from kard.evaluation.named import answer_by_name, mentions_in
from kard.records import LETTERS, Passage, Prediction, Question
from kard.student.records import find_student

METALS = ("iron", "zinc", "cast iron", "tin")
SALT, RARE = "Which metal is in salt?", ("gold", "silver", "radium", "sodium")  # no passage names any


def passages(*texts: str, title: str = "Metals") -> list[Passage]:
    return [Passage.of(f"d{number}", 0, title, text) for number, text in enumerate(texts)]


def answered(*texts: str, options: tuple[str, ...] = METALS, question: str = "Which rusts?") -> Prediction:
    return answer_by_name(7, Question("q", "test", question, options, "A"), passages(*texts))


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("Iron rusts, and IRON melts.", "AA"),
        ("irons, environment and tinfoil", ""),  # whole words alone
        ("Cast iron is no iron; cast  iron!", "CAC"),  # the longest option that could stand
        ("cast-iron pans; a cast of iron", "CA"),
        ("", ""),
    ],
)
def test_a_mention_is_an_options_words_in_their_order(text: str, letters: str) -> None:
    assert "".join(mentions_in(text, METALS)) == letters


def test_the_longest_of_the_options_that_begin_alike_is_named() -> None:
    assert mentions_in("Water vapor is water.", ("water", "water vapor")) == ["B", "A"]


def test_options_of_the_same_words_or_of_none_are_not_named() -> None:
    assert mentions_in("C and C++ and D + E", ("C", "C++", "+", "D")) == ["D"]
    assert mentions_in("STRASSE", ("straße", "gasse")) == ["A"]


def test_the_option_that_passages_name_most_often_is_the_answer() -> None:
    prediction = answered("Tin and zinc.", "Zinc melts.", "Iron.")
    assert (prediction.question_id, prediction.answer) == (7, "B")
    assert prediction.passages == tuple(p.id for p in passages("Tin and zinc.", "Zinc melts.", "Iron."))
    (sample,) = prediction.samples
    assert (sample.answer, sample.forced, sample.prompt_tokens, sample.completion_tokens) == ("B", None, 0, 0)
    assert sample.text == "Named in the passages: (A) 1, (B) 2, (C) 0, (D) 1.\nAnswer: (B)"


def test_of_options_that_are_named_equally_often_the_one_that_is_named_first_is_the_answer() -> None:
    assert answered("Tin. Zinc.", "Zinc. Tin.").answer == "D"
    assert answered("Nothing.", "Zinc.", "Iron.").answer == "B"


def test_a_title_is_read_too() -> None:
    question = Question("q", "test", "Which rusts?", METALS, "A")
    assert answer_by_name(7, question, passages("It rusts.", title="Zinc")).answer == "B"


def test_where_no_option_is_named_a_hash_of_the_question_chooses_and_the_sample_says_so() -> None:
    questions = [f"Which is number {number}?" for number in range(400)]
    guesses = [answered("Copper.", question=question) for question in questions]
    assert "".join(guess.answer or "" for guess in guesses[:6]) == "DBBAAD"  # the same on every machine
    assert guesses == [answered("Copper.", question=question) for question in questions]
    assert {guess.samples[0].forced for guess in guesses} == {"unread"}
    for letter in "ABCD":
        assert 0.2 < sum(guess.answer == letter for guess in guesses) / len(guesses) < 0.3
    assert answered().samples[0].forced == "unread"


@given(
    options=st.lists(st.text(max_size=6), min_size=2, max_size=26, unique=True).map(tuple),
    texts=st.lists(st.text(max_size=30), max_size=3),
    data=st.data(),
)
def test_an_answer_is_a_letter_and_does_not_depend_on_the_order_of_the_options(
    options: tuple[str, ...], texts: list[str], data: st.DataObject
) -> None:
    told = " ".join([*texts, *data.draw(st.lists(st.sampled_from(options), max_size=3))])
    prediction = answered(told, options=options)
    assert str(prediction.answer) in LETTERS[: len(options)]
    order = data.draw(st.permutations(range(len(options))))
    other = answered(told, options=tuple(options[place] for place in order))
    assert prediction.samples[0].forced == other.samples[0].forced
    if not prediction.samples[0].forced:
        assert options[LETTERS.index(str(prediction.answer))] == options[order[LETTERS.index(str(other.answer))]]


# The rule among students


def kard(folder: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db")])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(load_choice: Callable[..., Path]) -> Path:
    """Return a folder with a store of four questions, three to answer, and a knowledge base that answers two."""
    documents = {"rust": "Rust is what water makes of iron.", "cans": "Cans are coated with tin.", "sea": "Salt."}
    questions = [
        ("q0", "train", "What is rust made of?", METALS, "A", "Rust is what water makes of iron."),
        ("q1", "test", "Water makes rust of which metal?", METALS, "A", ""),
        ("q2", "test", "With which metal are cans coated?", METALS, "B", ""),
        ("q3", "test", SALT, RARE, "D", ""),
    ]
    return load_choice(documents, questions)


EVALUATE = ("evaluate", "choice", "--student", "named", "--retriever", "none,bm25", "-k", "1", "--quiet")
GUESSED = answered(question=SALT, options=RARE).answer


def test_the_rule_answers_once_and_its_answers_are_stored_like_those_of_students(folder: Path) -> None:
    assert kard(folder, *EVALUATE, "--dry-run").output.split()[-5:] == ["named", "0", "bm25", "1", "3"]
    first = kard(folder, *EVALUATE).output
    assert first.startswith("3 new answers under 1 condition\n")  # not without passages
    assert "1 of 3 answers were forced: 0 at the token budget, 1 because the text named no option" in first
    assert kard(folder, *EVALUATE, "--samples", "5").output.startswith("0 new answers")  # nothing is decoded
    db = open_store(folder / "kard.db")
    rows = db.execute(
        "select q.key, p.answer, p.correct, p.votes, json_array_length(p.passages), x.answer, x.forced, p.flops"
        " from predictions p join questions q on q.id = p.question_id join samples x on x.prediction_id = p.id"
        " order by q.key"
    ).fetchall()
    assert rows == [
        ("q1", "A", 1, 1, 1, "A", None, 0),
        ("q2", "D", 0, 1, 1, "D", None, 0),
        ("q3", GUESSED, int(GUESSED == "D"), 1, 1, GUESSED, "unread", 0),
    ]
    students = db.execute("select size, method, base, path, seed, examples from students").fetchall()
    assert students == [("-", "named", "", "", 0, 0)]


def test_a_run_has_the_rule_once_whatever_the_sizes(folder: Path) -> None:
    run = ("run", "choice", "--method", "named", "--retriever", "bm25", "--size", "135m,250m", "-k", "1", "--quiet")
    first = kard(folder, *run).output
    assert "answer +3" in first
    place = ("--store", str(folder / "kard.db"))
    assert first.splitlines()[-3:] == [
        f"Why answers are wrong: kard failures choice {shlex.join(place)}",
        f"Look at everything: kard ui {shlex.join(place)}",
        f"Ask a question of your own: kard ask QUESTION --option TEXT --option TEXT {shlex.join(place)}",
    ]
    assert first.count("-      named ") == 1
    assert "nothing was missing" in kard(folder, *run).output
    states = {state["step"]: state for state in json.loads(kard(folder, "status", *run[1:], "--json").output)}
    assert (states["student"]["done"], states["answer"]["done"], states["answer"]["missing"]) == (1, 3, 0)


def test_a_split_called_valid_is_answered_where_there_is_no_other(folder: Path) -> None:
    with (db := open_store(folder / "kard.db")).atomic():
        db.execute("update questions set split = 'valid' where split = 'test'")
    db.close()
    assert kard(folder, *EVALUATE).output.startswith("3 new answers")


def test_every_table_and_page_has_the_rule(folder: Path) -> None:
    kard(folder, *EVALUATE)
    kard(folder, *EVALUATE, "-k", "3")
    lines = json.loads(kard(folder, "report", "choice", "--json").output)["accuracy"]
    assert [(line["size"], line["method"], line["variant"]) for line in lines[2:]] == [
        ("-", "named", "k=1"),
        ("-", "named", "k=3"),
    ]
    assert "named/bm25/k=3" in kard(folder, "compare", "choice").output
    assert "named, bm25 k=1" in kard(folder, "failures", "choice").output
    assert "Named in the passages: (A) 1" in kard(folder, "explain", "q1", "--task", "choice").output
    assert "no answers of choice to read again" in kard(folder, "rescore", "choice", code=1).output
    kard(folder, "report", "choice", "--html", str(folder / "page.html"))
    assert "named" in (folder / "page.html").read_text(encoding="utf-8")


def test_a_rule_without_passages_is_refused_in_a_line(folder: Path) -> None:
    for command in (("evaluate", "choice", "--student", "named"), ("run", "choice", "--method", "named")):
        output = kard(folder, *command, "--retriever", "none", "--quiet", code=1).output
        assert output == "Error: named answers from passages alone; name another one with --retriever bm25\n"


def test_a_rule_is_no_model_to_load(folder: Path) -> None:
    kard(folder, *EVALUATE)
    db = open_store(folder / "kard.db")
    student_id = db.execute("select id from students").fetchone()[0]
    for student in (student_id, None):
        with pytest.raises(BadConfig, match=r"named is a rule and has no model; .* evaluate choice --student"):
            find_student(db, student, method=None if student else "named")
    exported = kard(folder, "models", "export", student_id, str(folder / "out"), code=1).output
    assert exported.startswith("Error: named is a rule and has no model; ")


def test_a_rule_imports_no_model_library(folder: Path) -> None:
    command = [*EVALUATE, "--store", str(folder / "kard.db")]
    script = (
        "import sys; from kard.cli import main; main(sys.argv[1:], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True, text=True)
    assert "3 new answers" in done.stdout
