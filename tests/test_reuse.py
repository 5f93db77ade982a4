"""A greedy answer is written once for a student and the passages it reads."""

from __future__ import annotations

import json

import pytest
from sqlite_utils import Database

from kard.evaluation.answer import reuse_answers
from kard.records import Passage

GREEDY, LONGER = '{"samples":1}', '{"max_new_tokens":9,"samples":1}'


def passage(name: str) -> Passage:
    return Passage(name, name, 0, name, f"All about {name}.")


@pytest.fixture
def asked(store: Database) -> Database:
    """Two questions; a student that read a, b for the first and c for the second in evaluation 1."""
    for number in (1, 2):
        store.table("questions").insert(
            {"id": number, "task": "t", "key": str(number), "split": "test", "text": f"{number}?", "options": "[]"}
            | {"answer": "A", "hash": str(number), "created": "now"}
        )
    for name in ("s", "other"):
        store.table("students").insert(
            {"id": name, "task": "t", "method": "kard", "size": "1m", "base": "b", "base_sha256": "x"}
            | {
                "settings": "{}",
                "data_sha256": "x",
                "seed": 0,
                "examples": 1,
                "tokens": 1,
                "loss": 0.5,
                "path": "p",
            }
            | {"sha256": "x", "milliseconds": 1, "created": "now"}
        )
    for number, student, retriever, decoding in (
        (1, "s", "bm25", GREEDY),
        (2, "s", "silver", GREEDY),
        (3, "other", "silver", GREEDY),
        (4, "s", "silver", LONGER),
    ):
        store.table("evaluations").insert(
            {"id": number, "task": "t", "split": "test", "student_id": student, "retriever": retriever, "k": 2}
            | {"decoding": decoding, "hash": str(number), "created": "now"}
        )
    for number, read in ((1, ["a", "b"]), (2, ["c"])):
        store.table("predictions").insert(
            {"id": number, "evaluation_id": 1, "question_id": number, "answer": "A", "correct": 1, "votes": 1}
            | {"passages": json.dumps(read), "milliseconds": 7.0, "flops": 9.0, "created": "then"}
        )
        store.table("samples").insert(
            {"prediction_id": number, "sample": 0, "text": f"text {number}", "answer": "A", "forced": None}
            | {"prompt_tokens": 3, "completion_tokens": 4}
        )
    return store


def texts(db: Database, evaluation: int) -> list[tuple[object, ...]]:
    return db.execute(
        "select p.question_id, p.passages, p.answer, p.flops, s.text, s.completion_tokens from predictions p"
        " join samples s on s.prediction_id = p.id where p.evaluation_id = ? order by 1",
        [evaluation],
    ).fetchall()


def test_the_same_passages_in_the_same_order_are_not_read_again(asked: Database) -> None:
    read = {1: [passage("a"), passage("b")], 2: [passage("d")]}
    assert reuse_answers(asked, 2, {1, 2}, read) == {1}
    assert texts(asked, 2) == [(1, '["a", "b"]', "A", 9.0, "text 1", 4)]


@pytest.mark.parametrize("evaluation", [3, 4])
def test_another_student_or_another_decoding_writes_for_itself(asked: Database, evaluation: int) -> None:
    assert reuse_answers(asked, evaluation, {1, 2}, {1: [passage("a"), passage("b")], 2: [passage("c")]}) == set()
    assert texts(asked, evaluation) == []


def test_another_order_of_the_passages_is_read(asked: Database) -> None:
    assert (
        reuse_answers(asked, 2, {1, 2}, {1: [passage("b"), passage("a")], 2: [passage("c"), passage("a")]}) == set()
    )


def test_only_what_is_asked_for_is_copied_and_only_once(asked: Database) -> None:
    read = {1: [passage("a"), passage("b")], 2: [passage("c")]}
    assert reuse_answers(asked, 2, {2}, read) == {2}
    assert [row[0] for row in texts(asked, 2)] == [2]
    assert reuse_answers(asked, 2, {1}, read) == {1}
    assert len(texts(asked, 2)) == 2
