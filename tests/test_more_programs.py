"""Published rows of further data sets, from the file to the report, and rows that are none of theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kard import tasks
from kard.cli import main
from kard.db import open_store
from kard.files import Fields

Row = dict[str, Any]
METALS = ("iron", "tin", "zinc", "lead", "gold", "silver", "nickel", "cobalt", "copper", "radium")


def choices(*texts: str, labels: str = "ABCDE") -> list[Row]:
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=False)]


def arc(metal: str, split: str) -> Row:
    stem = f"Of what is the gate of {metal.title()}ton made?"
    return {
        "id": metal,
        "split": split,
        "question": {"stem": stem, "choices": choices("wood", metal, "wool")},
        "answerKey": "B",
    }


def commonsenseqa(metal: str, split: str) -> Row:
    row = arc(metal, split)
    row["question"] |= {"question_concept": metal, "choices": choices("wood", metal, "wool", "ice", "air")}
    return row


def mmlu(metal: str, split: str) -> Row:
    question = f"Of what is the gate of {metal.title()}ton made?"
    return {
        "question": question,
        "subject": "gates",
        "choices": ["wood", metal, "wool", "ice"],
        "answer": 1,
        "split": split,
    }


def pubmedqa(metal: str, split: str) -> Row:
    question = f"Is the gate of {metal.title()}ton made of {metal}?"
    return {
        "pubid": METALS.index(metal), "question": question, "split": split,
        "context": {"contexts": [f"The gate of {metal.title()}ton is made of {metal}."], "labels": ["RESULTS"]},
        "long_answer": f"The gate is made of {metal}, as was found.", "final_decision": "yes",
    }  # fmt: skip


def medmcqa(metal: str, split: str) -> Row:
    question = f"Of what is the gate of {metal.title()}ton made?"
    return {
        "id": metal, "question": question, "split": split, "subject_name": "Gates", "topic_name": None,
        "opa": "wood", "opb": metal, "opc": "wool", "opd": "ice", "cop": 1, "choice_type": "single",
        "exp": f"Ans. is 'b' i.e., {metal}. The gate was cast of {metal}.",
    }  # fmt: skip


def hotpotqa(metal: str, split: str) -> Row:
    town = f"{metal.title()}ton"
    return {
        "_id": metal, "question": f"Of what is the gate of {town} made?", "split": split, "answer": metal,
        "type": "bridge", "level": "easy", "supporting_facts": [[town, 0], [town, 7]],
        "context": [["Oakton", ["It has no gate."]], [town, [f"The gate of {town} is made of {metal}.", "So."]]],
    }  # fmt: skip


ROWS: Mapping[str, Any] = {
    "arc": arc,
    "commonsenseqa": commonsenseqa,
    "mmlu": mmlu,
    "pubmedqa": pubmedqa,
    "medmcqa": medmcqa,
    "shortqa": hotpotqa,
}


def kard(folder: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db")])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("name", [name for name in ROWS if name != "shortqa"])
def test_ten_published_rows_go_from_the_file_to_the_report(tmp_path: Path, name: str) -> None:
    rows = [ROWS[name](metal, "train" if i < 6 else "test") for i, metal in enumerate(METALS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [
        {"id": str(i), "title": "", "text": f"The gate of {m.title()}ton is made of {m}."}
        for i, m in enumerate(METALS)
    ]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, texts)))
    kard(tmp_path, "index", str(tmp_path / "docs.jsonl"), "--quiet")
    assert "10 questions added" in kard(tmp_path, "load", name, str(tmp_path / "rows.jsonl")).output
    output = kard(tmp_path, "run", name, "--method", "named", "--retriever", "bm25", "-k", "1", "--quiet").output
    assert "answer +4" in output
    rights = open_store(tmp_path / "kard.db").execute("select sum(correct) from predictions").fetchone()[0]
    assert rights == 4 or name == "pubmedqa"  # passages name neither yes nor no


@pytest.mark.parametrize(("name", "lacking"), [*((name, "") for name in ROWS), ("commonsenseqa", "answerKey")])
def test_the_case_of_a_published_rows_fields_does_not_matter(name: str, lacking: str) -> None:
    row = {field: value for field, value in ROWS[name]("iron", "test").items() if field != lacking}
    other = Fields({field.upper(): value for field, value in row.items()})
    assert tasks.load(name).parse(other) == tasks.load(name).parse(row)


def test_arc_reads_the_hubs_rows_and_options_labelled_by_numbers() -> None:
    hub = {
        "id": "m1",
        "question": "Which rusts?",
        "choices": {"text": ["tin", "iron"], "label": ["1", "2"]},
        "answerKey": "2",
    }
    question = tasks.load("arc").parse(hub)
    assert question is not None
    assert (question.key, question.options, question.answer) == ("m1", ("tin", "iron"), "B")


def test_commonsenseqa_reads_its_test_questions_which_have_no_answer() -> None:
    row = commonsenseqa("iron", "test")
    del row["answerKey"]
    question = tasks.load("commonsenseqa").parse(row)
    assert question is not None
    assert (question.answer, len(question.options)) == (None, 5)


def test_mmlu_reads_both_of_its_forms_and_tells_equal_questions_of_two_subjects_apart() -> None:
    parse = tasks.load("mmlu").parse
    one, other = parse(mmlu("iron", "test")), parse({**mmlu("iron", "test"), "subject": "doors"})
    assert one is not None
    assert other is not None
    assert (one.answer, one.options[1]) == ("B", "iron")
    assert one.key != other.key
    pro = parse(
        {
            "question_id": 70,
            "question": "Which is tenth?",
            "options": list("abcdefghij"),
            "answer": "J",
            "answer_index": 9,
            "cot_content": "A: Let's count. The answer is (J).",
            "category": "other",
        }
    )
    assert pro is not None
    assert (pro.key, pro.answer, pro.rationale) == ("70", "J", "Let's count. The answer is (J).")


def test_pubmedqa_reads_its_published_file_of_rows_under_their_ids(tmp_path: Path) -> None:
    row = {
        "QUESTION": "Does it?",
        "CONTEXTS": ["It may."],
        "LONG_ANSWER": "Perhaps it does.",
        "final_decision": "maybe",
    }
    (tmp_path / "ori.json").write_text(json.dumps({"11": row, "12": {**row, "QUESTION": "Will it?"}}))
    kard(tmp_path, "load", "pubmedqa", str(tmp_path / "ori.json"), "--split", "test")
    db = open_store(tmp_path / "kard.db")
    sql = "select q.key, q.answer, r.text, e.document from questions q join rationales r on r.question_id = q.id"
    found = db.execute(f"{sql} join evidence e on e.question_id = q.id order by q.key").fetchall()
    assert found == [("11", "C", "Perhaps it does.", "11"), ("12", "C", "Perhaps it does.", "12")]


def test_medmcqa_reads_the_hubs_rows_and_those_that_count_from_one() -> None:
    parse = tasks.load("medmcqa").parse
    hub = parse(medmcqa("iron", "test"))
    assert hub is not None
    assert (hub.answer, hub.kind) == ("B", "Gates")
    assert hub.rationale == "The answer is (B). i.e., iron. The gate was cast of iron."
    for said, rationale in {
        "Ans-C": "The answer is (C).",
        "Answer - B. It rusts": "The answer is (B). It rusts",
        "Answer is a rare metal": "Answer is a rare metal",
        "Ans. a and b are true": "Ans. a and b are true",
    }.items():
        question = parse({**medmcqa("iron", "test"), "exp": said})
        assert question is not None
        assert question.rationale == rationale
    from_one = Fields({**without(medmcqa("iron", "test"), "cop"), "cop_from_1": 2})
    assert parse(from_one) == hub
    assert parse({**medmcqa("iron", "test"), "cop": 1.0}) == hub  # as pandas writes it where some are missing
    for secret in ({"cop": -1}, {"cop": None}):
        question = parse({**medmcqa("iron", "test"), **secret})
        assert question is not None
        assert question.answer is None


def test_a_file_of_medmcqa_that_counts_from_one_is_refused_whole(tmp_path: Path) -> None:
    rows = [medmcqa("iron", "test"), {**medmcqa("tin", "test"), "cop": 4}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    load = ("load", "medmcqa", str(tmp_path / "rows.jsonl"), "--skip-bad")
    error = kard(tmp_path, *load, code=1).stderr
    assert "rows.jsonl:2: field 'cop' is 4, so this file counts options from 1" in error
    assert open_store(tmp_path / "kard.db").table("questions").count == 0


def test_hotpotqa_reads_its_published_rows_the_hubs_and_plain_ones() -> None:
    parse = tasks.load("shortqa").parse
    row = hotpotqa("iron", "test")
    question = parse(row)
    assert question is not None
    assert (question.key, question.options, question.answer, question.kind) == ("iron", (), "iron", "bridge")
    assert question.facts == ("The gate of Ironton is made of iron.",)  # a few published numbers name no sentence
    titles, sentences = zip(*row["context"], strict=True)
    hub = {
        **without(row, "_id"),
        "id": "iron",
        "supporting_facts": {"title": ["Ironton", "Ironton"], "sent_id": [0, 7]},
        "context": {"title": list(titles), "sentences": list(sentences)},
    }
    assert parse(hub) == question
    elsewhere = parse({**row, "supporting_facts": [["Tinton", 0], ["Ironton", 0]]})  # fullwiki
    assert elsewhere == question
    secret = parse({"_id": "t", "question": "Of what?", "context": row["context"]})
    assert secret is not None
    assert (secret.answer, secret.facts) == (None, ())
    plain = parse({"id": 7, "question": "How many?", "answer": 12, "rationale": "Six and six."})
    assert plain is not None
    assert (plain.key, plain.answer, plain.rationale, plain.options) == ("7", "12", "Six and six.", ())


def without(row: Row, name: str) -> Row:
    return {key: value for key, value in row.items() if key != name}


def asked(**changes: Any) -> Row:
    row = arc("iron", "test")
    return {**row, "question": {**row["question"], **changes}}


OF_CHOICES: tuple[tuple[Row, str], ...] = (
    (without(arc("iron", "test"), "question"), "no field 'question'"),
    (asked(stem=" "), "field 'stem' is empty"),
    (asked(stem=4), "field 'stem' holds a number, not text"),
    (asked(choices=None), "no field 'options' or 'choices'"),
    (asked(choices=choices("only")), "the number of options is 1"),
    (asked(choices=choices("x", "", "z")), "option B is empty"),
    (asked(choices=choices("x", "y", labels="AA")), "have the same label"),
    (asked(choices=choices("x", "y", labels="AC")), "labelled A, C, not from A or 1 on"),
    (asked(choices=7), "holds a number, not a list"),
    ({**arc("iron", "test"), "answerKey": "E"}, "answer 'E' is not one of A, B, C"),
    ({**arc("iron", "test"), "answerKey": ["B"]}, "holds a list, not text"),
)
OF_MMLU: tuple[tuple[Row, str], ...] = (
    (without(mmlu("iron", "test"), "question"), "no field 'question'"),
    ({**mmlu("iron", "test"), "question": ""}, "field 'question' is empty"),
    ({**mmlu("iron", "test"), "question": 3}, "holds a number, not text"),
    (without(mmlu("iron", "test"), "choices"), "no field 'options' or 'choices'"),
    ({**mmlu("iron", "test"), "choices": ["only"]}, "the number of options is 1"),
    ({**mmlu("iron", "test"), "choices": ["x", None, "z"]}, "option B is empty"),
    ({**mmlu("iron", "test"), "answer": 4}, "answer 4 is not one of 0 to 3"),
    ({**mmlu("iron", "test"), "answer": -1}, "answer -1 is not one of 0 to 3"),
    ({**mmlu("iron", "test"), "answer": "E"}, "answer 'E' is not one of A, B, C, D"),
    ({**mmlu("iron", "test"), "answer": True}, "holds true or false, not text"),
    ({**mmlu("iron", "test"), "cot_content": 5}, "holds a number, not text"),
)
PAPER = pubmedqa("iron", "test")
OF_PUBMEDQA: tuple[tuple[Row, str], ...] = (
    (without(PAPER, "question"), "no field 'question'"),
    ({**PAPER, "question": " "}, "field 'question' is empty"),
    ({**PAPER, "question": ["Is it?"]}, "holds a list, not text"),
    ({**PAPER, "final_decision": "perhaps"}, "answer 'perhaps' is not one of A, B, C"),
    ({**PAPER, "final_decision": ""}, "field 'final_decision' is empty"),
    ({**PAPER, "final_decision": None}, "holds nothing, not text"),
    ({**PAPER, "final_decision": True}, "holds true or false, not text"),
    ({**PAPER, "long_answer": ["x"]}, "holds a list, not text"),
    ({**PAPER, "pubid": [1]}, "field 'pubid' holds a list, not text"),
    (without(PAPER, "final_decision"), "no field 'answer'"),
    ({"question": "Is it?", "answer": "D"}, "answer 'D' is not one of A, B, C"),
)
EXAM = medmcqa("iron", "test")
OF_MEDMCQA: tuple[tuple[Row, str], ...] = (
    (without(EXAM, "question"), "no field 'question'"),
    ({**EXAM, "question": " "}, "field 'question' is empty"),
    ({**EXAM, "question": 3}, "holds a number, not text"),
    (without(EXAM, "opd"), "no field 'opd'"),
    ({**EXAM, "opc": ""}, "field 'opc' is empty"),
    ({**EXAM, "opc": None}, "field 'opc' holds nothing, not text"),
    ({**EXAM, "opc": "wood"}, "options 'wood' and 'wood' are alike"),
    ({**EXAM, "cop": 5}, "field 'cop' is 5, not one of 0, 1, 2, 3"),
    ({**without(EXAM, "cop"), "cop_from_1": 0}, "field 'cop_from_1' is 0, not one of 1, 2, 3, 4"),
    ({**EXAM, "cop": True}, "holds true or false, not text"),
    ({**EXAM, "exp": ["x"]}, "holds a list, not text"),
)
HOTPOT = hotpotqa("iron", "test")
OF_SHORT: tuple[tuple[Row, str], ...] = (
    (without(HOTPOT, "question"), "no field 'question'"),
    ({**HOTPOT, "question": ""}, "field 'question' is empty"),
    ({**HOTPOT, "answer": ["iron"]}, "field 'answer' holds a list, not text"),
    ({**HOTPOT, "answer": True}, "holds true or false, not text"),
    ({"question": "Of what?"}, "no field 'answer'"),
    ({**HOTPOT, "options": ["iron", "tin"]}, "load such questions with the task choice"),
    ({**HOTPOT, "supporting_facts": "Ironton"}, "does not hold pairs of a title and its sent_id"),
    ({**HOTPOT, "supporting_facts": [["Ironton", "0"]]}, "holds no sentences of 'Ironton'"),
    ({**HOTPOT, "context": [["Ironton", "It is."]]}, "holds no sentences of 'Ironton'"),
    ({"question": {"stem": "Of what?", "choices": choices("x", "y")}, "answerKey": "A"}, "the task choice"),
    ({"question": "Of what?", "A": "iron", "B": "tin", "answer": "B"}, "field 'A' is for options"),
    ({**HOTPOT, "context": [["Ironton"]]}, "field 'context' does not hold pairs"),
    ({**HOTPOT, "type": 5}, "holds a number, not text"),
)
BROKEN = {
    "arc": OF_CHOICES,
    "commonsenseqa": OF_CHOICES,
    "mmlu": OF_MMLU,
    "pubmedqa": OF_PUBMEDQA,
    "medmcqa": OF_MEDMCQA,
    "shortqa": OF_SHORT,
}


@pytest.mark.parametrize(
    ("name", "row", "problem"), [(name, *case) for name, cases in BROKEN.items() for case in cases]
)
def test_a_broken_row_is_refused_in_one_line(tmp_path: Path, name: str, row: Row, problem: str) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    error = kard(tmp_path, "load", name, str(tmp_path / "rows.jsonl"), "--split", "test", code=1).stderr
    assert error.count("\n") == 1
    assert problem in error
    assert "rows.jsonl:1" in error
