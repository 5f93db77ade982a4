"""The tasks declare what they must, and read the rows of their files."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import dspy
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kard import tasks
from kard.answers.parsing import conclusion
from kard.cli import main
from kard.db import open_store
from kard.errors import BadInput
from kard.files import Fields
from kard.records import LETTERS, Passage, Question
from kard.student.tokens import PROMPT_SHARE
from kard.tasks import Retrieve

WITH_OPTIONS = ("strategyqa", "medqa", "openbookqa", "sciq", "qasc", "choice", "medmcqa")
READERS = (*WITH_OPTIONS, "shortqa")  # tasks that read files
common: Any = import_module("kard.programs._common")

PLAIN = {
    "id": "q7",
    "split": "dev",
    "question": "Does cork float?",
    "options": ["yes", "no"],
    "answer": "A",
    "facts": ["Cork is lighter than water."],
    "evidence": ["p2", "p1"],
}
STRATEGY = {
    "qid": "s1",
    "term": "Anvil",
    "description": "Block of iron",
    "question": "Could a child carry an anvil home?",
    "answer": False,
    "facts": ["An anvil weighs 50 kilograms."],
    "decomposition": ["How heavy is an anvil?"],
    "evidence": [[[["Anvil-3", "Anvil-1"]], ["operation"]], ["no_evidence", [["Child-2", "Anvil-3"], "operation"]]],
}
MEDICINE = {
    "question": "Which gland makes insulin?",
    "answer": "Pancreas",
    "options": {"A": "Thyroid", "B": "Pancreas", "C": "Thymus", "D": "Spleen"},
    "meta_info": "step1",
    "answer_idx": "B",
}
SCIENCE = {
    "id": "7-1",
    "question": {
        "stem": "Ice that warms becomes",
        "choices": [
            {"text": "steel", "label": "A"},
            {"text": "sand", "label": "B"},
            {"text": "water", "label": "C"},
            {"text": "wood", "label": "D"},
        ],
    },
    "answerKey": "C",
}
SCIENCE_HUB = {
    "id": "7-1",
    "question_stem": "Ice that warms becomes",
    "choices": {"text": ["steel", "sand", "water", "wood"], "label": ["A", "B", "C", "D"]},
    "answerKey": "C",
    "fact1": "ice melts",
}
TEXTBOOK = {
    "question": "Which floats on water?",
    "distractor1": "iron",
    "distractor2": "lead",
    "distractor3": "glass",
    "correct_answer": "cork",
    "support": "Cork is lighter than water.",
}
TWO_FACTS: dict[str, Any] = {
    "id": "3E7",
    "question": {
        "stem": "What keeps a cork oak from burning?",
        "choices": [{"text": f"thing {letter}", "label": letter} for letter in "BACDEFG"]
        + [{"text": "its bark", "label": "H"}],
    },
    "answerKey": "H",
    "fact1": "Cork does not burn well.",
    "fact2": "The bark of a cork oak is cork.",
    "combinedfact": "The bark of a cork oak does not burn well.",
    "formatted_question": "What keeps ... (A) thing A",
}
TWO_FACTS_HUB = {
    **TWO_FACTS,
    "question": "What keeps a cork oak from burning?",
    "choices": {"text": [*(f"thing {letter}" for letter in "ABCDEFG"), "its bark"], "label": list("ABCDEFGH")},
}
OWN = {
    "question": "Which floats?",
    "A": "iron",
    "B": "cork",
    "C": "",
    "answer": "cork",
    "explanation": "Cork is light.",
}
ENTRANCE = {
    "id": "m1",
    "question": "Which gland makes insulin?",
    "opa": "thyroid",
    "opb": "pancreas",
    "opc": "thymus",
    "opd": "spleen",
    "cop": 1,
    "exp": "Its islets do.",
    "subject_name": "Physiology",
}
HOPS: dict[str, Any] = {
    "_id": "h1",
    "question": "Which river flows through the city where the waltz was born?",
    "answer": "the Danube",
    "type": "bridge",
    "supporting_facts": [["Waltz", 1], ["Vienna", 0]],
    "context": [
        ["Waltz", ["It is a dance. ", "It was born in Vienna. "]],
        ["Vienna", ["The Danube flows through it."]],
    ],
}
ROWS: dict[str, dict[str, Any]] = {
    "strategyqa": STRATEGY,
    "medqa": MEDICINE,
    "openbookqa": SCIENCE,
    "sciq": TEXTBOOK,
    "qasc": TWO_FACTS,
    "choice": OWN,
    "medmcqa": ENTRANCE,
    "shortqa": HOPS,
}


def parse(name: str, row: dict[str, Any]) -> Question:
    question = tasks.load(name).parse(row)
    assert question is not None
    return question


@pytest.mark.parametrize(
    ("name", "row"),
    [*ROWS.items(), ("openbookqa", SCIENCE_HUB), ("choice", {"question": "Is it?", "answer": True})],
)
def test_the_case_of_a_published_rows_fields_does_not_matter(name: str, row: dict[str, Any]) -> None:
    assert parse(name, Fields({field.upper(): value for field, value in row.items()})) == parse(name, row)


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_the_fields_of_the_contract(name: str) -> None:
    task = tasks.load(name)
    assert {"question", "answer"} <= set(task.teach.input_fields)
    assert list(task.teach.output_fields) in (["rationale"], ["rationale", "letter"])
    assert {"passages", "question"} <= set(task.answer.input_fields)
    assert ("options" in task.teach.input_fields) == ("options" in task.answer.input_fields)
    assert list(task.answer.output_fields) == ["rationale", "answer"]
    assert task.teach.instructions
    assert task.answer.instructions
    assert task.name == name
    assert "\n" not in task.about


@pytest.mark.parametrize("name", [name for name in tasks.names() if name != "atlas"])
def test_every_example_for_the_teacher_concludes_on_its_answer(name: str) -> None:
    task = tasks.load(name)
    assert 2 <= len(task.shots) <= 3
    for shot in task.shots:
        assert set(shot) == set(task.teach.fields)
        options = [line.split(") ", 1)[1] for line in shot.get("options", "").splitlines()]
        right = conclusion(shot["rationale"], options)
        assert right is not None
        if not options:
            assert right == shot["answer"]
            assert shot["rationale"].endswith(f"Therefore, the answer is {right}.")
            continue
        assert options[LETTERS.index(right)] == shot["answer"]
        assert shot.get("letter", right) == right
        assert shot["rationale"].endswith(f"Therefore, the answer is ({right}) {shot['answer']}.")


@pytest.mark.parametrize("name", READERS)
def test_the_form_of_a_row_is_documented(name: str) -> None:
    assert '"question"' in cast(str, inspect.getdoc(inspect.getmodule(tasks.load(name).parse)))


def test_importing_a_program_opens_no_file_and_starts_nothing() -> None:
    script = f"""
import sys
import dspy, kard.config, kard.tasks
events = []
def watch(event, args):
    if event == "open" and not str(args[0]).endswith((".py", ".pyc")) and ".pyc." not in str(args[0]):
        events.append((event, args[0]))
    if event.split(".")[0] in ("socket", "subprocess", "sqlite3", "shutil", "urllib") or event == "os.mkdir":
        events.append((event, args))
sys.dont_write_bytecode = True
sys.addaudithook(watch)
for name in {READERS!r}:
    __import__("kard.programs." + name)
assert not events, events
open("/dev/null").close()
assert events, "the watch sees nothing"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_naming_the_demo_does_not_import_dspy() -> None:
    script = "import sys, kard.tasks; kard.tasks.demo(); kard.tasks.names(); sys.exit('dspy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_package_gives_the_public_parts_that_it_names() -> None:
    package: Any = import_module("kard.programs")
    for name in package.__all__:
        assert getattr(package, name) is getattr(package if name in ("DEMO", "OWN") else common, name)
    with pytest.raises(AttributeError, match="Teech"):
        _ = package.Teech


# Reading rows


def test_strategyqa_reads_its_published_rows() -> None:
    assert parse("strategyqa", STRATEGY) == Question(
        key="s1",
        split="",
        text="Could a child carry an anvil home?",
        options=("yes", "no"),
        answer="B",
        evidence=("Anvil-3", "Anvil-1", "Child-2"),
        facts=("An anvil weighs 50 kilograms.",),
    )


def test_strategyqa_reads_facts_that_the_hub_joined_and_questions_of_the_test_file() -> None:
    joined = parse("strategyqa", {**STRATEGY, "answer": True, "facts": "One. Two.", "evidence": None})
    assert (joined.answer, joined.facts, joined.evidence) == ("A", ("One. Two.",), ())
    assert parse("strategyqa", {"qid": "t", "question": "Is it so?"}).answer is None


def test_medqa_reads_its_published_rows() -> None:
    question = parse("medqa", MEDICINE)
    assert question.options == ("Thyroid", "Pancreas", "Thymus", "Spleen")
    assert (question.answer, question.gold, question.split) == ("B", "Pancreas", "")
    five = parse("medqa", {**MEDICINE, "options": {"E": "Skin", **MEDICINE["options"]}, "split": "test"})  # type: ignore[dict-item]
    assert (five.options[4], five.split) == ("Skin", "test")
    assert five.key != question.key


def test_openbookqa_reads_its_published_rows_and_those_of_the_hub() -> None:
    question = parse("openbookqa", SCIENCE)
    assert question == Question("7-1", "", "Ice that warms becomes", ("steel", "sand", "water", "wood"), "C")
    assert parse("openbookqa", SCIENCE_HUB) == replace(question, facts=("ice melts",))


def test_openbookqa_orders_options_by_their_labels() -> None:
    choices = {"text": ["wood", "water", "sand", "steel"], "label": ["D", "C", "B", "A"]}
    assert parse("openbookqa", {**SCIENCE_HUB, "choices": choices}).gold == "water"


def test_sciq_reads_its_published_rows() -> None:
    question = parse("sciq", TEXTBOOK)
    assert (question.text, question.gold, question.split) == ("Which floats on water?", "cork", "")
    assert sorted(question.options) == ["cork", "glass", "iron", "lead"]
    assert question.rationale == "Cork is lighter than water."
    assert parse("sciq", {**TEXTBOOK, "support": ""}).rationale == ""
    assert parse("sciq", {**TEXTBOOK, "id": "s9", "split": "dev"}) == replace(question, key="s9", split="dev")


def test_sciq_orders_options_by_a_hash_of_the_question_alone() -> None:
    numbered = {"correct_answer": "0", "distractor1": "1", "distractor2": "2", "distractor3": "3"}
    rows = [{"question": f"Which is number {i}?", **numbered} for i in range(400)]
    orders = ["".join(parse("sciq", row).options) for row in rows]
    assert orders[:3] == ["0213", "3201", "3201"]  # the same on every machine
    assert orders == ["".join(parse("sciq", {**row, "support": "x", "split": "dev"}).options) for row in rows]
    others = {name: text.replace("0", "none") for name, text in numbered.items()}
    assert orders == ["".join(parse("sciq", {**row, **others}).options).replace("none", "0") for row in rows]
    for letter in "ABCD":
        share = sum(parse("sciq", row).answer == letter for row in rows) / len(rows)
        assert 0.2 <= share <= 0.3
    assert len(set(orders)) == 24


def test_qasc_reads_its_published_rows_and_those_of_the_hub() -> None:
    question = parse("qasc", TWO_FACTS)
    assert question == Question(
        key="3E7",
        split="",
        text="What keeps a cork oak from burning?",
        options=(*(f"thing {letter}" for letter in "ABCDEFG"), "its bark"),
        answer="H",
        facts=("Cork does not burn well.", "The bark of a cork oak is cork."),
        rationale="Cork does not burn well. The bark of a cork oak is cork. "
        "The bark of a cork oak does not burn well.",
    )
    loose = {**TWO_FACTS, "fact1": "cork does not burn well", "fact2": " the bark of a cork oak is cork"}
    assert parse("qasc", loose).rationale == question.rationale
    assert parse("qasc", TWO_FACTS_HUB) == question


@pytest.mark.parametrize("row", [TWO_FACTS, TWO_FACTS_HUB])
def test_qasc_reads_the_published_test_questions_which_have_no_answer(row: dict[str, Any]) -> None:
    empty = dict.fromkeys(("answerKey", "fact1", "fact2", "combinedfact"), "")
    question = parse("qasc", {**row, **empty})
    assert (question.answer, question.facts, question.rationale) == (None, (), "")
    assert parse("qasc", {name: value for name, value in row.items() if name not in empty}) == question


@pytest.mark.parametrize("name", ["sciq", "qasc"])
def test_a_plain_row_keeps_its_rationale(name: str) -> None:
    assert parse(name, {**PLAIN, "rationale": "Cork is light."}).rationale == "Cork is light."


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_task_reads_the_plain_form(name: str) -> None:
    assert parse(name, PLAIN) == Question(
        key="q7",
        split="dev",
        text="Does cork float?",
        options=("yes", "no"),
        answer="A",
        evidence=("p2", "p1"),
        facts=("Cork is lighter than water.",),
    )
    assert parse(name, {**PLAIN, "answer": None}).answer is None


def test_choice_reads_options_from_columns_from_lists_and_from_json_in_a_cell() -> None:
    columns = parse("choice", OWN)
    assert (columns.options, columns.answer, columns.rationale) == (("iron", "cork"), "B", "Cork is light.")
    listed: dict[str, Any] = {"question": "Which floats?", "answer": "B"}
    for options in (
        {"options": ["iron", "cork"]},
        {"options": '["iron", "cork"]'},
        {"option_a": "iron", "option_b": "cork"},
        {"a": "iron", "b": "cork", "options": ""},
    ):
        question = parse("choice", {**listed, **options})
        assert (question.options, question.answer, question.key) == (("iron", "cork"), "B", columns.key)


GLANDS = cast("dict[str, str]", MEDICINE["options"])
GLAND = tuple(GLANDS.values())
STATES = ("steel", "sand", "water", "wood")


def labelled(texts: Sequence[str], labels: str, answer: str) -> dict[str, Any]:
    """Return a row as ARC has them."""
    return {"question": "?", "choices": {"text": list(texts), "label": list(labels)}, "answerKey": answer}


def keyed(*values: object) -> dict[str, Any]:
    """Return the start of a row with the options as [{key, value}]."""
    return {"question": "?", "options": [{"key": k, "value": v} for k, v in zip(LETTERS, values, strict=False)]}


SHAPES: Sequence[tuple[str, dict[str, Any], tuple[str, ...], str]] = (  # rows of people, and what they mean
    ("choice", labelled("xy", "AB", "B"), ("x", "y"), "B"),
    ("choice", labelled("21", "12", "1"), ("2", "1"), "A"),
    ("openbookqa", labelled("xy", "12", "2"), ("x", "y"), "B"),
    ("qasc", labelled("xy", "21", "2"), ("y", "x"), "B"),
    ("choice", SCIENCE, STATES, "C"),
    ("choice", SCIENCE_HUB, STATES, "C"),
    ("choice", MEDICINE, GLAND, "B"),
    ("medqa", {**MEDICINE, "options": {**GLANDS, "E": None}}, GLAND, "B"),
    ("medqa", {**MEDICINE, "options": json.dumps(GLANDS)}, GLAND, "B"),
    ("choice", {"question": "?", "options": '{"A": "x", "B": "y"}', "answer": "y"}, ("x", "y"), "B"),
    ("choice", {"question": "?", "options": ["x", "y", None], "answer": "y"}, ("x", "y"), "B"),
    ("choice", {"question": "?", "options": [3, 4.5], "answer": 4.5}, ("3", "4.5"), "B"),
    ("choice", {"question": "?", "A": 3, "B": 4, "C": None, "answer": 4}, ("3", "4"), "B"),
    ("choice", {**keyed("x", 2), "answer": "x"}, ("x", "2"), "A"),
    ("medqa", {**keyed("x", "y"), "answer_idx": "B", "answer": "y"}, ("x", "y"), "B"),
    ("choice", {"question": "?", "A": "True", "B": "False", "answer": False}, ("True", "False"), "B"),
    ("choice", {"question": "?", "A": "No", "B": "Yes", "answer": "yes"}, ("No", "Yes"), "B"),
    ("strategyqa", {"question": "?", "answer": "True", "facts": ""}, ("yes", "no"), "A"),
    ("strategyqa", {"question": "?", "answer": "No"}, ("yes", "no"), "B"),
)


@pytest.mark.parametrize(("name", "row", "options", "answer"), SHAPES)
def test_rows_in_the_shapes_that_people_have_keep_options_and_answer(
    name: str, row: dict[str, Any], options: tuple[str, ...], answer: str
) -> None:
    question = parse(name, row)
    assert (question.options, question.answer) == (options, answer)


def test_paragraphs_in_a_cell_of_a_csv_are_read_as_a_list() -> None:
    assert parse("strategyqa", {**STRATEGY, "evidence": '[[[["Anvil-3"]], ["operation"]]]'}).evidence == (
        "Anvil-3",
    )


@pytest.mark.parametrize(
    ("answer", "letter"),
    [*(("yes", "A"), ("No", "B"), ("True", "A"), ("FALSE", "B")), (True, "A"), (False, "B")],
)
def test_choice_reads_a_question_without_options_as_yes_or_no(answer: object, letter: str) -> None:
    for options in ({}, {"options": ""}, {"A": "", "B": "", "C": ""}):
        question = parse("choice", {"question": "Is it?", "answer": answer, **options})
        assert (question.options, question.answer) == (("yes", "no"), letter)
    question = parse("choice", {"question": "Is it?", "answer": letter.lower()})
    assert (question.options, question.answer) == (("yes", "no"), letter)


def test_choice_takes_a_column_that_numbers_rows_for_no_option() -> None:
    assert parse("choice", {"n": "1", **OWN}).options == ("iron", "cork")


def test_choice_assigns_a_split_to_questions_without_one() -> None:
    splits = [parse("choice", {**OWN, "id": str(i)}).split for i in range(1000)]
    assert set(splits) == {"train", "test"}
    assert 150 <= splits.count("test") <= 250
    assert splits[:5] == [parse("choice", {**OWN, "id": str(i)}).split for i in range(5)]
    assert parse("choice", {**OWN, "split": "final"}).split == "final"


WRONG: Sequence[tuple[str, dict[str, Any], str]] = (
    ("choice", {**PLAIN, "answer": "C"}, "answer 'C' is not one of A, B"),
    ("choice", {**OWN, "answer": "2"}, "answer '2' is not one of A, B"),
    ("choice", {**PLAIN, "answer": 2}, "answer '2' is not one of A, B"),
    ("choice", {**PLAIN, "answer": [2]}, "field 'answer' holds a list, not text"),
    ("choice", {**PLAIN, "options": ["x", "", "z"]}, "option B is empty but option C is not"),
    ("choice", {**PLAIN, "options": [3, True]}, "field 'options' holds true or false, not text"),
    ("choice", {**PLAIN, "options": {"1": "2", "2": "1"}, "answer": 1}, "answer '1' may mean A or B"),
    ("choice", {**PLAIN, "options": ["B", "A"], "answer": "A"}, "answer 'A' may mean A or B"),
    ("choice", {**OWN, "A": ""}, "option A is empty but option B is not"),
    ("choice", {**PLAIN, "options": ["only"]}, "the number of options is 1, not 2 to 26"),
    ("choice", {**PLAIN, "options": ["x"] * 27}, "the number of options is 27, not 2 to 26"),
    ("choice", {**PLAIN, "options": ["x", " "]}, "the number of options is 1"),
    ("choice", {**PLAIN, "options": "[1"}, "starts like a JSON list or object but is none"),
    ("choice", {**PLAIN, "question": " "}, "field 'question' is empty"),
    (
        "choice",
        {"question": "?", "A": "", "B": "", "answer": "A"},
        "no option in 'A', 'B', and the answer is not",
    ),
    (
        "choice",
        {"question": "?", "option_a": "", "answer": ""},
        "no option in 'option_a', and the answer is not",
    ),
    (
        "choice",
        {"question": "?", "options": "", "answer": "B"},
        "no option in 'options', and the answer is not",
    ),
    ("strategyqa", {**STRATEGY, "answer": "maybe"}, "answer 'maybe' is not true or false"),
    ("strategyqa", {**STRATEGY, "answer": 1}, "answer 1 is not true or false"),
    ("strategyqa", {k: v for k, v in STRATEGY.items() if k != "answer"}, "no field 'answer'"),
    ("strategyqa", {**STRATEGY, "evidence": [[3]]}, "'evidence' is not made of lists of paragraph ids"),
    ("strategyqa", {**PLAIN, "answer": "yes"}, "answer 'yes' is not one of A, B"),
    ("medqa", {**MEDICINE, "answer_idx": "E"}, "answer 'E' is not one of A, B, C, D"),
    ("medqa", {**MEDICINE, "answer": "Spleen"}, "answer 'Spleen' is not option B, 'Pancreas'"),
    ("medqa", {**MEDICINE, "options": {"A": "x", "C": "y"}}, "options are labelled A, C, not from A or 1 on"),
    ("medqa", {k: v for k, v in PLAIN.items() if k != "options"}, "no field 'options'"),
    ("openbookqa", {**SCIENCE, "answerKey": "E"}, "answer 'E' is not one of A, B, C, D"),
    ("openbookqa", {**SCIENCE_HUB, "choices": {"text": ["x"], "label": ["A", "B"]}}, "1 texts but 2 labels"),
    ("openbookqa", {**SCIENCE_HUB, "choices": None}, "no field 'options' or 'choices'"),
    ("sciq", {k: v for k, v in TEXTBOOK.items() if k != "question"}, "no field 'question'"),
    ("sciq", {k: v for k, v in TEXTBOOK.items() if k != "correct_answer"}, "no field 'correct_answer'"),
    ("sciq", {k: v for k, v in TEXTBOOK.items() if k != "distractor3"}, "no field 'distractor3'"),
    ("sciq", {**TEXTBOOK, "distractor2": ""}, "field 'distractor2' is empty"),
    ("sciq", {**TEXTBOOK, "distractor1": 7}, "field 'distractor1' holds a number, not text"),
    ("sciq", {**TEXTBOOK, "correct_answer": None}, "field 'correct_answer' holds nothing, not text"),
    ("sciq", {**TEXTBOOK, "support": ["Cork floats."]}, "field 'support' holds a list, not text"),
    ("sciq", {**PLAIN, "answer": "yes"}, "answer 'yes' is not one of A, B"),
    ("sciq", {**PLAIN, "options": ["only"]}, "the number of options is 1, not 2 to 26"),
    ("sciq", {**PLAIN, "evidence": 3}, "field 'evidence' holds a number, not a list"),
    ("qasc", {**TWO_FACTS, "question": {"choices": []}}, "no field 'stem'"),
    ("qasc", {**TWO_FACTS, "question": {"stem": "Why?"}}, "no field 'options' or 'choices'"),
    ("qasc", {**TWO_FACTS, "question": {"stem": "Why?", "choices": ["x", {}]}}, "objects with label and text"),
    ("qasc", {**TWO_FACTS_HUB, "choices": {"text": ["x"], "label": ["A", "B"]}}, "1 texts but 2 labels"),
    ("qasc", {**TWO_FACTS_HUB, "choices": {"text": ["x", "y"], "label": ["A", "A"]}}, "have the same label"),
    (
        "qasc",
        {**TWO_FACTS_HUB, "choices": {"text": ["x", "y"], "label": ["0", "1"]}},
        "labelled 0, 1, not from",
    ),
    ("qasc", {**TWO_FACTS, "answerKey": "I"}, "answer 'I' is not one of A, B, C, D, E, F, G, H"),
    ("qasc", {**TWO_FACTS, "answerKey": ""}, "a row with facts has no 'answerKey'"),
    ("qasc", {**TWO_FACTS, "fact2": {"text": "x"}}, "field 'fact2' holds an object, not text"),
    ("qasc", {**TWO_FACTS, "combinedfact": 1}, "field 'combinedfact' holds a number, not text"),
)


@pytest.mark.parametrize(("name", "row", "problem"), WRONG)
def test_a_wrong_row_is_refused_in_plain_words(name: str, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="^.*" + problem.replace("[", r"\[")):
        tasks.load(name).parse(row)


def test_a_file_with_a_wrong_row_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for name, row, problem in WRONG:
        file.write_text(json.dumps(row), encoding="utf-8")
        command = ["load", name, str(file), "--split", "train", "--store", str(tmp_path / "kard.db"), "--quiet"]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1
        assert len(result.output.splitlines()) == 1
        assert f"{file}:1: " in result.output
        assert problem in result.output
        assert f"kard tasks {name}" in result.output


texts = st.text(max_size=8) | st.sampled_from(["A", "B", "yes", "[", "[1]", '["a", "b"]', "\ud800"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(
    sorted({key for row in (PLAIN, *ROWS.values(), SCIENCE_HUB, TWO_FACTS_HUB) for key in row} | {"option_a", "B"})
)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, deadline=None)
@given(noise=st.dictionaries(fields | texts, values, max_size=6), sound=st.booleans())
def test_parse_returns_a_question_or_raises_value_error(name: str, noise: dict[str, Any], sound: bool) -> None:
    try:
        question = tasks.load(name).parse({**ROWS[name], **noise} if sound else noise)
    except (ValueError, BadInput):
        return
    assert question is not None
    assert question.text.strip()
    assert question.key
    if name == "shortqa":
        assert question.options == ()
        assert question.answer is None or question.answer.strip()
        return
    assert 2 <= len(question.options) <= 26
    assert question.answer is None or question.answer in question.letters


# Texts that are no letters, so that no answer is ambiguous.
@settings(max_examples=60, deadline=None)
@given(
    options=st.lists(
        st.text(st.characters(categories=["L", "N"]), min_size=2), min_size=2, max_size=26, unique=True
    ),
    data=st.data(),
)
def test_letters_and_options_survive_every_form(options: list[str], data: st.DataObject) -> None:
    right = data.draw(st.integers(0, len(options) - 1))
    letter, text = LETTERS[right], options[right]
    by_letter = dict(zip(LETTERS, options, strict=False))
    forms: list[tuple[str, dict[str, Any]]] = [
        ("medqa", {"question": "?", "options": by_letter, "answer_idx": letter, "answer": text}),
        ("medqa", {"question": "?", "options": options, "answer": letter}),
        ("strategyqa", {"question": "?", "options": options, "answer": letter}),
        (
            "openbookqa",
            {"question_stem": "?", "choices": {"text": options, "label": list(by_letter)}, "answerKey": letter},
        ),
        ("sciq", {"question": "?", "options": options, "answer": letter}),
        ("qasc", {"question": "?", "choices": {"text": options, "label": list(by_letter)}, "answerKey": letter}),
        ("choice", {"question": "?", "options": options, "answer": text}),
        ("choice", {"question": "?", **by_letter, "answer": letter.lower()}),
    ]
    for name, row in forms:
        question = parse(name, row)
        assert question.options == tuple(options)
        assert question.answer == letter
        assert question.gold == text
    lines = common.lettered(options).splitlines()
    assert [line[4:] for line in lines] == options
    assert [line[1] for line in lines] == list(by_letter)


# Real files


@pytest.mark.parametrize(
    ("name", "splits"),
    [("sciq", {"train": 4995, "valid": 245, "test": 884}), ("qasc", {"train": 2569, "valid": 265})],
)
def test_the_data_files_load_whole_with_a_rationale_each(
    name: str, splits: dict[str, int], shared_data: Path, tmp_path: Path
) -> None:
    store = tmp_path / "kard.db"
    command = ["load", name, str(shared_data / name / "questions.jsonl.gz"), "--store", str(store), "--quiet"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    db = open_store(store, create=False)
    counts = db.execute("select split, count(*) from questions where task = ? group by split", [name])
    assert {str(split): int(count) for split, count in counts} == splits
    tables = ("rationales", "evidence")
    covered = [next(db.execute(f"select count(distinct question_id) from {table}"))[0] for table in tables]
    assert covered == [sum(splits.values())] * 2
    db.close()


# The inference program


class Script:
    """Engine that answers one request and keeps it."""

    def __init__(self, reply: str) -> None:
        self.replies = [reply]
        self.requests: list[Any] = []

    def complete(self, request: Any) -> Any:
        from dspy import lm15

        self.requests.append(request)
        assert self.replies, "one LM call too many"
        message = lm15.Message.assistant(self.replies.pop())
        return lm15.Response(None, "student", message, "stop", lm15.Usage())


REPLY = "[[ ## rationale ## ]]\nCork is light.\n\n[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
CORK = Passage.of("d1", 0, "Cork", "Cork is the bark of an oak.")


def ask(signature: type[dspy.Signature], retrieve: Retrieve | None) -> tuple[Any, str]:
    """Return the prediction and the text of its only request."""
    script = Script(REPLY)
    program = common.RetrieveThenAnswer(signature, retrieve)
    with dspy.context(lm=dspy.LM("student", engine=cast(Any, script), cache=False, num_retries=0)):
        prediction = program(question="Does cork float?", options=("yes", "no"))
    assert len(script.requests) == 1
    return prediction, str(script.requests[0])


def test_the_program_reads_and_returns_the_retrieved_passages() -> None:
    queries: list[tuple[str, Sequence[str]]] = []

    def retrieve(question: str, options: Sequence[str]) -> list[Passage]:
        queries.append((question, options))
        return [CORK]

    prediction, request = ask(common.Answer, retrieve)
    assert queries == [("Does cork float?", ["yes", "no"])]
    assert "## passages ##" in request
    assert "Cork: Cork is the bark of an oak." in request
    assert (prediction.answer, prediction.rationale) == ("yes", "Cork is light.")
    assert prediction.passages == [CORK]


def test_the_program_gives_no_passages_to_a_method_without_them() -> None:
    prediction, request = ask(common.Answer.delete("passages"), None)
    assert "## passages ##" not in request
    assert prediction.passages == []


@pytest.mark.parametrize("name", [name for name in tasks.names() if name != tasks.demo()])
def test_typical_passages_and_a_long_question_fit_the_prompt(name: str) -> None:
    chosen = tasks.load(name).settings
    student = chosen.student_training
    passage = 40 if name == "qasc" else 150  # tokens of a sentence; of a hundred words of Wikipedia and a title
    assert student.k == chosen.retrieval.k
    question = 450 if name == "medqa" else 120  # with its options
    assert student.k * passage + question <= student.max_length * PROMPT_SHARE
    assert student.max_target <= student.max_length * (1 - PROMPT_SHARE)
