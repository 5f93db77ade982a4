"""`kard rationales` finds and shows rationales, and their quality agrees with counting by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.cli import main
from kard.evaluation.rationale_quality import (
    COMMON,
    RationaleToMeasure,
    SilverPassage,
    content_stems,
    distinct_pairs,
    measure_rationales,
    names_in,
    ngrams,
    passages_of_another,
    read_rationales,
    spaced,
    stem,
    words_of,
)

Run = Callable[..., Result]
STAMP = "2026-11-24T00:00:00+00:00"
TEXTS = {  # (question, teacher, sample): conclusion, text
    (1, "guide", 0): ("A", "Iron rusts in wet air. So the answer is yes."),
    (1, "guide", 1): ("B", "Iron never rusts. So the answer is no."),
    (1, "other", 0): (None, "\x1b[31m Iron \x1b[0m may rust, or not."),
    (2, "guide", 0): ("A", "Tin melts at 232 degrees. So the answer is yes."),
}


@pytest.fixture
def kard(store: Database, tmp_path: Path) -> Run:
    """Return what runs `kard rationales` on a store with two questions, two teachers and four rationales."""
    for key in (1, 2):
        store.execute(
            "insert into questions values (?, 'choice', ?, 'train', ?, '[\"yes\", \"no\"]', 'A', '', '[]', ?, ?)",
            [key, f"q{key}", f"Question {key}?", f"h{key}", STAMP],
        )
    for teacher in ("guide", "other"):
        store.execute("insert into teachers values (?, ?, 'm', '', '{}', ?)", [teacher, teacher, STAMP])
    for number, ((question, teacher, sample), (letter, text)) in enumerate(TEXTS.items(), 1):
        store.execute(
            "insert into rationales (id, question_id, teacher_id, sample, text, conclusion, accepted, created)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            [number, question, teacher, sample, text, letter, int(letter == "A"), STAMP],
        )
    store.execute("insert into indexes values ('old', 'kb', 2, 'a', ?), ('new', 'kb', 2, 'a', ?)", [STAMP, STAMP])
    for key, title, text in (
        ("p1", "Iron", "It rusts in wet air."),
        ("p2", "Tin", "It melts."),
        ("p3", "", "Old."),
    ):
        store.execute("insert into passages values (?, ?, 0, ?, ?)", [key, key, title, text])
    for retrieval, index, question, rationale, passage in (
        (1, "old", 1, 1, "p3"),
        (2, "new", 1, 1, "p1"),
        (3, "new", 2, 4, "p2"),
    ):
        store.execute(
            "insert into retrievals (id, index_id, question_id, rationale_id, query, depth, milliseconds, created)"
            " values (?, ?, ?, ?, 'rationale', 1, 1.0, ?)",
            [retrieval, index, question, rationale, STAMP],
        )
        store.execute("insert into hits values (?, 1, ?, 1.0, null)", [retrieval, passage])
    store.execute(
        "insert into judgements (question_id, rationale_id, verdict, author, created)"
        " values (1, 2, 'bad', 'me', '')"
    )
    store.conn.commit()

    def run(*typed: str, task: str = "choice") -> Result:
        return CliRunner().invoke(main, ["rationales", task, *typed, "--store", str(tmp_path / "kard.db")])

    return run


def keys(done: Result) -> list[tuple[str, str, int]]:
    assert done.exit_code == 0, done.output
    return [(row["key"], row["teacher"], row["sample"]) for row in json.loads(done.output)]


def test_rationales_are_chosen_by_words_question_verdict_teacher_and_judgement(kard: Run) -> None:
    everything = [("q1", "guide", 0), ("q1", "guide", 1), ("q1", "other", 0), ("q2", "guide", 0)]
    assert keys(kard("--json")) == everything
    assert keys(kard("--json", "-n", "2")) == everything[:2]
    assert set(keys(kard("--json", "--search", "rusting iron"))) == set(everything[:3])
    assert keys(kard("--json", "--search", "rusting iron", "--verdict", "rejected")) == [everything[1]]
    assert keys(kard("--json", "--question", "q2")) == [everything[3]]
    assert keys(kard("--json", "--verdict", "unread")) == [everything[2]]
    assert keys(kard("--json", "--verdict", "accepted")) == [everything[0], everything[3]]
    assert keys(kard("--json", "--teacher", "other")) == [everything[2]]
    assert keys(kard("--json", "--judged")) == [everything[1]]
    assert keys(kard("--json", "--search", "zinc")) == []
    assert keys(kard("--json", "--search", 'AND "')) == []


def test_each_form_holds_the_whole_text_and_a_table_nothing_that_drives_a_terminal(kard: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(kard("--csv").output)))
    assert [row["text"] for row in rows] == [text for _, text in TEXTS.values()]
    lines = [json.loads(line) for line in kard("--nl").output.splitlines()]
    assert [(row["verdict"], row["bad"]) for row in lines] == [
        ("accepted", 0),
        ("rejected", 1),
        ("unread", 0),
        ("accepted", 0),
    ]
    shown = kard().output
    assert "\x1b" not in shown
    assert "1 bad" in shown


def test_a_long_text_is_shortened_among_many_and_whole_for_one_question(kard: Run, store: Database) -> None:
    store.execute("update rationales set text = ? where id = 4", [f"{'word ' * 100}end."])
    store.conn.commit()
    assert "end." not in kard().output
    assert "end." in kard("--question", "q2").output


@pytest.mark.parametrize(
    ("typed", "task", "message"),
    [
        (["--question", "q9"], "choice", "see what there is with: kard rationales choice --quality"),
        (["--quality", "--teacher", "nobody"], "choice", "no such rationale of choice; ask a teacher with"),
        ([], "medqa", "no questions of medqa in the store; load them with: kard load medqa FILE"),
        ([], "nothing", "no task 'nothing'"),
    ],
)
def test_what_is_missing_is_named_in_one_line(kard: Run, typed: list[str], task: str, message: str) -> None:
    done = kard(*typed, task=task)
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
    assert message in done.output


def test_a_task_without_rationales_is_told_how_to_get_some(kard: Run, store: Database) -> None:
    store.execute("delete from rationales")
    store.conn.commit()
    done = kard()
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "no rationales of choice; ask a teacher with: kard teach choice --model PROVIDER/MODEL" in done.output


def test_vectors_alone_measure_nothing_and_say_so(kard: Run) -> None:
    done = kard("--vectors")
    assert done.exit_code == 2
    assert "--vectors measures for --quality" in done.output


def test_quality_is_reported_by_teacher(kard: Run) -> None:
    done = kard("--quality", "--json")
    assert done.exit_code == 0, done.output
    guide, other = json.loads(done.stdout)
    assert (guide["teacher"], guide["rationales"], guide["questions"]) == ("guide", 3, 2)
    assert (guide["accepted"], guide["unread"], guide["judged_good"]) == (0.667, 0.0, 0.0)
    # Iron, rust, wet and air of the first stand in its passage, tin and melt of (tin, melt, 232, degree).
    assert guide["grounded"] == 0.75
    assert guide["by_chance"] == 0.0
    assert guide["names"] == 0.0  # 232
    assert (other["unread"], other["grounded"], other["distinct"]) == (1.0, None, None)
    (judged,) = json.loads(kard("--quality", "--judged", "--json").stdout)
    assert (judged["rationales"], judged["accepted"]) == (1, 0.0)
    assert "by chance" in kard("--quality").output


def test_silver_passages_are_those_of_the_newest_index(kard: Run, store: Database) -> None:
    first = read_rationales(store, "choice")[0]
    assert [s.title for s in first.silver] == ["Iron"]


# Measures, on values.

IRON = SilverPassage("Iron", "Iron rusts in wet air.")
TIN = SilverPassage("Tin", "Tin melts at 232 degrees.")


def written(text: str, question: int = 1, *silver: SilverPassage, verdict: str = "accepted") -> RationaleToMeasure:
    return RationaleToMeasure(question, "train", "t", verdict, text, tuple(silver))


def test_a_text_that_says_itself_again_repeats() -> None:
    (once,) = measure_rationales([written("a1 b1 c1 d1 e1")], None)
    (twice,) = measure_rationales([written("a1 b1 c1 d1 a1 b1 c1 d1")], None)
    assert (once.repeats, twice.repeats) == (
        0.0,
        pytest.approx(1 / 5),
    )  # abcd is the fifth of five runs, and the first too


def test_samples_are_different_or_the_same() -> None:
    (line,) = measure_rationales(
        [written("iron rusts today"), written("Iron rusts, today!"), written("tin melts", 2)], None
    )
    assert (line.same, line.distinct, line.questions) == (0.5, 0.5, 2)  # one question has several samples
    assert distinct_pairs([["a", "b", "c"], ["a", "b", "d"]]) == 3 / 4
    assert distinct_pairs([["a"]]) == 0.0


def test_chance_is_measured_with_the_passages_of_another_question() -> None:
    group = [
        written("Iron rusts.", 1, IRON),
        written("Iron melts.", 1, IRON, TIN),
        written("Tin rusts.", 2, TIN),
        written("Lead.", 3),
    ]
    assert passages_of_another(group) == [(TIN,), (TIN,), (IRON,), ()]
    (line,) = measure_rationales(group, None)
    assert line.grounded == pytest.approx((1 + 1 + 0.5) / 3)
    assert line.by_chance == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert passages_of_another(group[:2]) == [(), ()]  # one question is no chance


def test_copies_of_the_prompts_examples_are_counted() -> None:
    shot = "Iron reacts with oxygen and water. Therefore, the answer is (A) yes."
    texts = [shot, "Tin does not react at all. Therefore, the answer is (A) yes.", "Iron reacts."]
    (line,) = measure_rationales([written(text, n) for n, text in enumerate(texts)], [shot])
    assert line.copies == pytest.approx(1 / 3)
    (unknown,) = measure_rationales([written(shot)], None)
    assert unknown.copies is None


def test_each_teacher_and_split_has_a_line_of_its_own() -> None:
    group = [written("x"), replace(written("y", 2), split="test"), replace(written("z", 3), teacher="u")]
    assert [(q.teacher, q.split, q.rationales) for q in measure_rationales(group, None)] == [
        ("t", "test", 1),
        ("t", "train", 1),
        ("u", "train", 1),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower stands in Paris.", {"eiffel tower", "paris"}),
        ("Metals rust. Iron rusts, and so does pure Iron.", {"iron"}),  # a sentence's first word proves nothing
        ("It was Tolkien's book of 1,937 pages.", {"tolkien", "1 937"}),
        ("So the answer is (A) yes.", set[str]()),
        ("Did Joan of Arc meet the King of France in 1429?", {"joan of arc", "king of france", "1429"}),
        ("In the 14th year I saw C.", set[str]()),
        ("", set[str]()),
    ],
)
def test_names_are_capitalised_words_and_numbers(text: str, expected: set[str]) -> None:
    assert names_in(text) == expected


def test_content_is_stems_without_common_words() -> None:
    assert content_stems(words_of("So the rusting gates, therefore, rusted: (B) 7.")) == {"rust", "gate", "7"}
    assert stem("rusting") == stem("rusts") == "rust"


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_measured(text: str) -> None:
    source = SilverPassage("", text)
    (line,) = measure_rationales([written(text, 1, source), written(text, 2, source)], [text])
    assert line.grounded in (None, 1.0)
    assert line.by_chance == line.grounded
    assert line.copies == float(bool(words_of(text)))
    assert 0 <= line.repeats < 1
    if names_in(text):
        assert line.names == 1.0  # a text holds its own names
    assert not content_stems(words_of(text)) & (COMMON - {stem(w) for w in words_of(text) if w not in COMMON})


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 5))
def test_ngrams_are_every_run_of_words_or_a_whole_short_text(text: list[str], length: int) -> None:
    every = ngrams(text, length)
    if len(text) >= length:
        assert every == [tuple(text[i : i + length]) for i in range(len(text) - length + 1)]
    else:
        assert every == ([tuple(text)] if text else [])
    assert all(f" {' '.join(run)} " in spaced(text) for run in every)


def test_samples_are_apart_by_one_minus_the_cosine_of_their_vectors() -> None:
    at = {"east": (1.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0)}

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([at[text] for text in texts], dtype=np.float32)

    alone = written("north", 1)
    pair = [written("east", 2), written("north", 2)]  # 1 apart
    three = [written("east", 3), written("west", 3), written("east", 3)]  # 2, 2 and 0: 4/3 apart
    (line,) = measure_rationales([alone, *pair, *three], None, embed=embed)
    assert line.apart == pytest.approx((1 + 4 / 3) / 2)
    (none,) = measure_rationales([alone], None, embed=embed)
    assert none.apart is None
    (unasked,) = measure_rationales(pair, None)
    assert unasked.apart is None
