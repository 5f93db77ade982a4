"""Names and numbers that students write and were not shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kard.cli import main
from kard.db import open_store
from kard.evaluation.invented import count_invented, invented_names, read_written


@pytest.mark.parametrize(
    ("text", "invented"),
    [
        ("It was built by Hadrian in 126.", {"hadrian", "126"}),
        ("The Pantheon stands in Rome. The answer is Agrippa.", set()),
        ("Old Rome had it, says Pliny the Elder.", {"pliny the elder"}),
        ("It is of Rome and Agrippa.", {"rome and agrippa", "agrippa"}),
        ("It is of Rome and 125.", set()),
        ("It stands in Rome\nAnswer: Nero", set()),
        ("it was built, and that is all", set()),
        ("", set()),
        ("Agrippa built it.", {"agrippa"}),  # an option is only proposed
        ("It was built by the old king.", {"the old king"}),
        ("It stands in Rome. Ostia has a port.", set()),
        ("It stands in Rome beside Ostia.", {"ostia + rome"}),  # each of a passage of its own
        ("People say the Pantheon stands in Ostia.", {"ostia + pantheon"}),
        ("People say the Pantheon stands in Rome since 125.", set()),
        ("Yes, it stands.", set()),
    ],
)
def test_what_is_stated_is_invented_unless_it_was_shown_and_shown_together(text: str, invented: set[str]) -> None:
    passages = ["Pantheon\nIt stands in old Rome since 125.", "Ostia\nA port of many ships, Ostia lies by the sea."]
    options = ("Agrippa", "the old king", "yes")
    names, found = invented_names(text, "Who built the Pantheon?", options, passages)
    assert found == invented
    assert {part for name in found for part in name.split(" + ")} <= {
        part for name in names for part in (name, *name.split(" and "))
    }


@pytest.fixture
def case(new_case: Any, tmp_path: Path) -> Any:
    """Return two answers of one condition: a right one that keeps to what it read, and a wrong one."""
    case = new_case(open_store(tmp_path / "kard.db", create=True))
    texts = {"Text of d1-0 says so.": "A", "Text of d2-0 was by Caesar in 44.": "B"}
    for number, (text, answer) in enumerate(texts.items(), 1):
        case.answered(case.question(f"q{number}"), "bm25", f"d{number}-0", answer=answer)
        case.write("update samples set text = ? where prediction_id = (select max(id) from predictions)", text)
    return case


def test_texts_that_invent_are_counted_by_condition_and_by_whether_the_answer_is_right(case: Any) -> None:
    (row,) = count_invented(read_written(case.db, "tiny", "test"))
    assert [(s.right, s.of) for s in (row.texts, row.right, row.wrong)] == [(1, 2), (0, 1), (1, 1)]
    assert row.invented == 2
    (example,) = row.examples
    assert (example.key, example.invented) == ("q2", {"caesar", "44"})


def test_what_another_condition_read_does_not_count_and_who_writes_no_rationale_is_left_out(case: Any) -> None:
    case.answered(1, "silver", "d9-0", answer="A")
    case.write("update samples set text = 'So says D1.' where prediction_id = (select max(id) from predictions)")
    rows = {row.condition.retriever: row for row in count_invented(read_written(case.db, "tiny", "test"))}
    assert {name: row.texts.right for name, row in rows.items()} == {"bm25": 1, "silver": 1}
    case.write("update students set method = 'ka-ft'")
    assert read_written(case.db, "tiny", "test") == {}


def test_the_command_shows_shares_and_some_texts(case: Any, tiny_file: Path, tmp_path: Path) -> None:
    words = ["failures", str(tiny_file), "--invented", "--store", str(tmp_path / "kard.db")]
    (record,) = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert (record["texts"], record["invented"], record["of wrong ones"][:5]) == (2, 2, "1.000")
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0
    assert "44; caesar" in shown.output
    case.write("delete from samples")
    missing = CliRunner().invoke(main, words)
    assert missing.exit_code == 1
    assert "no student has written a rationale for tiny/test" in missing.stderr
