"""What a student is taught: a share of the questions, accepted rationales or all, and controls of each part."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kard.config import Lora, Retrieval, StudentTraining, TaskSettings, Teaching
from kard.db import rows
from kard.errors import BadConfig
from kard.methods import METHODS
from kard.pipeline.step import differs
from kard.questions import QuestionSet
from kard.recipes import TrainingData, recipe_column, recipe_id, recipe_of
from kard.reranker.dataset import read_dataset
from kard.retrieval.fusion import read_labels
from kard.retrieval.retrieve import ungrounded
from kard.student.examples import Pair, RationaleSource, training_pairs

TRAIN = QuestionSet("tiny", "train")
COUNT = 20


@pytest.fixture
def told(case: Any) -> Any:
    """Twenty training questions, each with three rationales and passages of its own, whose orders are opposite."""
    for number in range(COUNT):
        question = case.question(f"q{number}", split="train")
        for sample in range(3):
            text = f"Because of {number}{' and more' * (2 - sample)}."
            case.rationale(question, f"s{number}-0", f"b{number}-0", sample=sample, text=text)
    case.write("update hits set question_rank = 3 - rank")
    return case


def taught(
    case: Any, method: str = "kard", source: RationaleSource | None = None, **controls: Any
) -> dict[int, list[Pair]]:
    """Return what the settings teach, by question."""
    settings = replace(TaskSettings(), student=StudentTraining(k=1, **controls))
    training = METHODS[method].training(settings)
    index = case.INDEX if METHODS[method].reads else None
    by_question: dict[int, list[Pair]] = {}
    source = source or RationaleSource()
    for pair in training_pairs(case.db, "tiny", METHODS[method], training, source, index_id=index):
        by_question.setdefault(pair.question_id, []).append(pair)
    return by_question


def numbers(pairs: dict[int, list[Pair]], field: str) -> list[tuple[int, int]]:
    """Return the question's number and the number in the field's text, of each pair."""
    texts = [(q, pair.passages[0].split(" of ")[1] if field == "passages" else pair.rationale.split(" of ")[1])
             for q, of in pairs.items() for pair in of]  # fmt: skip
    return [(q - 1, int("".join(c for c in text.split()[0] if c.isdigit()))) for q, text in texts]


def test_settings_without_controls_are_what_they_were_and_change_no_id() -> None:
    assert StudentTraining().hash() == "0161555f4d09a334"
    assert StudentTraining.paper().hash() == "fc9a5f6d2aa03e48"
    data = TrainingData("d" * 64, 3, 5, "t", "i", 7)
    recipe = recipe_of(
        "student", data, task="t", method="kard", base="b", base_sha256="c", settings=StudentTraining().values()
    )
    assert recipe_id(recipe) == "2c70be5c18c71ac0"
    assert '"data":{"index":"i","limit":7,"questions":3,"rationales":5,"sha256":"' in recipe_column(recipe)
    for name, changed in {"distinct": 1, "wrong": 0.1, "passages": "bm25"}.items():
        settings = replace(StudentTraining(), **{name: changed})
        assert settings.values()[name] == changed
        assert differs(recipe, settings, data) == f"{name} none instead of {changed}"


def test_a_control_changes_nothing_for_a_method_without_that_part() -> None:
    controls = StudentTraining(distinct=1, wrong=0.3, passages="shuffled")
    stored = {
        name: METHODS[name].training(replace(TaskSettings(), student=controls)) for name in ("ft", "rd", "ka-ft")
    }
    assert stored["ft"].values().keys() == StudentTraining().values().keys()
    assert (stored["rd"].distinct, stored["rd"].wrong, stored["rd"].passages) == (1, 0.3, "silver")
    assert (stored["ka-ft"].distinct, stored["ka-ft"].wrong, stored["ka-ft"].passages) == (1, 0, "shuffled")


def test_a_setting_that_changes_nothing_for_a_method_makes_no_other_student() -> None:
    def stored(method: str, **settings: Any) -> StudentTraining:
        return METHODS[method].training(replace(TaskSettings(), student=StudentTraining(**settings)))

    several: dict[str, Any] = {"rationales": 5, "distinct": 2}
    assert stored("ft", **several) == stored("ft"), "a question has one pair"
    assert stored("ka-ft", passages="bm25", **several) == stored("ka-ft", passages="bm25"), "and here, too"
    for method, passages in (("ka-ft", "silver"), ("ka-ft", "shuffled"), ("rd", "silver"), ("kard", "bm25")):
        training = stored(method, passages=passages, **several)
        assert (training.rationales, training.distinct) == (5, 2), (method, passages)
    for k in (1, 2):
        assert [stored(method, k=k, shuffle=True).shuffle for method in ("ft", "rd")] == [False, False]
        assert [stored(method, k=k, shuffle=True).shuffle for method in ("ka-ft", "kard")] == [k > 1] * 2
    lora = Lora(rank=4)
    assert stored("kard", full=True, lora=lora) == stored("kard", full=True)
    assert stored("kard", lora=lora).lora == lora
    assert stored("kard", patience=5) == stored("kard"), "without held-out questions training never ends early"
    assert stored("kard", patience=5, held_out=0.1).patience == 5


def test_without_its_rationales_a_student_reads_the_whole_ones_passages_in_the_same_order(case: Any) -> None:
    question = case.question("q", split="train")
    for text in ("Because of this and more.", "Because. So the answer is yes, and nothing else.", "Because of it."):
        case.rationale(question, f"of {len(text)}", sample=len(text), text=text)
    for distinct in (0, 1):
        (whole,), (without,) = (
            taught(case, distinct=distinct).values(),
            taught(case, "ka-ft", distinct=distinct).values(),
        )
        assert [pair.passages for pair in without] == [pair.passages for pair in whole]
        assert {pair.rationale for pair in without} == {""}
    assert [pair.rationale for pair in whole] == ["Because."], "without its closing it is the shortest"


def test_one_distinct_rationale_is_the_shortest_one(told: Any) -> None:
    assert {len(of) for of in taught(told).values()} == {3}
    one = taught(told, distinct=1)
    assert all(len(of) == 1 and "more" not in of[0].rationale for of in one.values())
    assert len(one) == COUNT


@pytest.mark.parametrize(("share", "count"), [(0.1, 6), (0.3, 18), (1.0, 60)])
def test_so_many_rationales_are_another_questions_and_all_else_stays(told: Any, share: float, count: int) -> None:
    wrong = taught(told, wrong=share)
    assert sum(q != n for q, n in numbers(wrong, "rationale")) == count
    assert all(q == n for q, n in numbers(wrong, "passages"))
    assert taught(told, wrong=share) == wrong != taught(told, wrong=share, seed=1)
    plain = taught(told)
    assert [[pair.rationale_id for pair in of] for of in wrong.values()] == [
        [pair.rationale_id for pair in of] for of in plain.values()
    ]
    assert [[pair.question for pair in of] for of in wrong.values()] == [
        [pair.question for pair in of] for of in plain.values()
    ]


def test_the_wrong_rationales_of_a_share_are_those_of_a_larger_one_too(told: Any) -> None:
    plain = [pair for of in taught(told).values() for pair in of]

    def wrong(share: float) -> dict[Pair, str]:
        pairs = [pair for of in taught(told, wrong=share).values() for pair in of]
        taught_instead = {was: pair.rationale for was, pair in zip(plain, pairs, strict=True)}
        return {was: text for was, text in taught_instead.items() if text != was.rationale}

    assert wrong(0.2).items() < wrong(0.5).items()


def test_wrong_rationales_need_a_second_question(case: Any) -> None:
    case.rationale(case.question("q", split="train"), "d-0")
    with pytest.raises(BadConfig, match="a wrong rationale is another question's"):
        taught(case, wrong=0.5)


def test_training_passages_are_the_rationales_the_questions_or_another_questions(told: Any) -> None:
    def read(passages: str) -> list[tuple[int, str]]:
        pairs = taught(told, passages=passages)
        return [
            (q - 1, pair.passages[0].split(":")[0].removeprefix("Title of "))
            for q, of in pairs.items()
            for pair in of
        ]

    assert set(read("silver")) == {(n, f"s{n}") for n in range(COUNT)}
    assert set(read("bm25")) == {(n, f"b{n}") for n in range(COUNT)}
    assert set(read("shuffled")) == {(n, f"s{(n + COUNT // 2) % COUNT}") for n in range(COUNT)}
    assert all(q == n for q, n in numbers(taught(told, passages="shuffled"), "rationale"))


def test_without_acceptance_every_rationale_trains(told: Any) -> None:
    told.write("update rationales set accepted = 0, conclusion = 'B' where sample > 0")
    assert {len(of) for of in taught(told).values()} == {1}
    everything = RationaleSource(accept="none")
    assert {len(of) for of in taught(told, source=everything).values()} == {3}
    assert {pair.answer for of in taught(told, source=everything).values() for pair in of} == {"A"}
    assert read_dataset(told.db, TRAIN, told.INDEX, accept="none").data.rationales == 3 * COUNT
    # It is a rule of training alone: what a question needs is told by accepted rationales.
    assert {row["accept"] for row in rows(told.db, "first_hits", task="tiny", split="train")} <= {"own"}


def test_a_share_of_the_questions_is_a_part_of_every_larger_one(told: Any) -> None:
    fractions = (0.05, 0.1, 0.3, 0.5, 0.9, 1.0)
    for seed in range(5):
        drawn = [TRAIN.draw(told.db, fraction, seed).read(told.db).keys() for fraction in fractions]
        assert [len(keys) for keys in drawn] == [1, 2, 6, 10, 18, COUNT]
        assert all(few < many for few, many in pairwise(drawn))
    assert sorted(TRAIN.draw(told.db, 0.1, 0).read(told.db)) != [1, 2]  # not the first ones


def test_a_share_is_one_of_the_questions_that_have_an_answer(told: Any) -> None:
    told.write("update questions set answer = null where id % 2 = 1")
    drawn = TRAIN.draw(told.db, 0.5, 0).drawn or ()
    assert len(drawn) == COUNT // 4
    assert all(row % 2 == 0 for row in drawn)
    assert len(replace(TRAIN, limit=6).draw(told.db, 0.5, 0).drawn or ()) == 3


def test_the_share_is_one_for_students_of_every_method_for_rerankers_and_for_searches(told: Any) -> None:
    source = RationaleSource(limit=10, fraction=0.3, draw=1)
    drawn = source.questions(told.db, "tiny")
    keys = {question.key for question in drawn.read(told.db).values()}
    assert len(keys) == 3
    assert max(drawn.read(told.db)) <= 10
    for method in ("ft", "ka-ft", "rd", "kard"):
        assert taught(told, method, source).keys() == set(drawn.drawn or ()), method
    dataset = read_dataset(told.db, drawn, told.INDEX)
    assert {question.key for question in dataset.questions} == keys
    assert dataset.data.values().items() >= {("questions", 3), ("limit", 10), ("fraction", 0.3), ("draw", 1)}
    assert {label.key for label in read_labels(told.db, "tiny", told.INDEX, questions=drawn)} == keys
    deeper = Retrieval(depth=9)
    assert {q.question for q in ungrounded(told.db, told.INDEX, drawn, deeper)} == set(drawn.drawn or ())
    assert [TRAIN.draw(told.db, 0.3, seed) == TRAIN.draw(told.db, 0.3, 1) for seed in (1, 2)] == [True, False]
    with pytest.raises(BadConfig, match=r"fraction must be in \(0, 1\], not 0"):
        Teaching(fraction=0)
