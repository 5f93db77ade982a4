"""Conditions: their names and labels, compared on the same questions, and reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.cli import main
from kard.db import open_store
from kard.errors import BadInput, Missing
from kard.evaluation.compare import Comparison, all_pairs, compare, conditions_of, short_names
from kard.evaluation.condition_names import condition_labels, match_one, matching
from kard.evaluation.export import accuracy_of, comparisons_of
from kard.evaluation.graded import GradedAnswer
from kard.evaluation.report import (
    ReportRow,
    TeacherCosts,
    accuracy_table,
    kind_table,
    report_records,
    report_rows,
    summary_table,
)
from kard.methods import RERANKED
from kard.metrics.intervals import wilson
from kard.metrics.significance import holm, mcnemar, sign_flips

# Names


NAMES = {
    1: ("135m", "kard", "bm25"),
    2: ("135m", "kard", "reranker"),
    3: ("135m", "rd"),
    4: ("135m", "few-shot", "bm25"),
    5: ("135m", "few-shot-cot", "bm25"),
    6: ("1b", "kard", "reranker"),
}


@pytest.mark.parametrize(
    ("word", "things"),
    [
        ("rd", [3]),
        ("135m/kard/reranker", [2]),
        ("135m/rer", [2]),
        ("kard/rer", [2, 6]),
        ("few-shot", [4]),
        ("few-shot/bm", [4]),
        ("few-shot-", [5]),
        ("reranker/kard", []),
        ("", []),
        ("/", []),
    ],
)
def test_a_name_means_the_things_whose_parts_it_begins(word: str, things: list[int]) -> None:
    assert matching(word, NAMES) == things


@given(st.sampled_from(sorted(NAMES)))
def test_a_whole_name_means_its_own_thing(thing: int) -> None:
    assert match_one("/".join(NAMES[thing]), NAMES, "condition") == thing


def test_a_name_that_means_none_or_several_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"no condition 'x'; there are 135m/kard/bm25, .*1b/kard/reranker$"):
        match_one("x", NAMES, "condition")
    with pytest.raises(BadInput, match="'kard/rer' may mean 135m/kard/reranker, 1b/kard/reranker; name one"):
        match_one("kard/rer", NAMES, "condition")


# Comparing


def answers(
    method: str, rights: str, *, seed: int = 0, retriever: str = "none", kind: str = "", **more: Any
) -> list[GradedAnswer]:
    """Return a condition's answers to questions 0, 1, ...: `1` right, `0` wrong, `.` not answered."""
    return [
        GradedAnswer(
            "9m",
            method,
            seed,
            retriever,
            0,
            kind,
            f"{kind}{i}",
            2,
            "A",
            "A" if right == "1" else "B",
            int(right),
            **more,
        )
        for i, right in enumerate(rights)
        if right != "."
    ]


def pair(graded: Sequence[GradedAnswer], **more: Any) -> list[Comparison]:
    keys = list(conditions_of(graded))
    return compare(graded, [(keys[1], keys[0])], **more)


def test_a_pair_is_counted_on_the_questions_that_both_answered() -> None:
    (found,) = pair([*answers("ft", "110010.1"), *answers("rd", "1011111.")])
    assert (found.a, found.b, found.questions) == ("rd", "ft", 6)
    assert (found.share_a.right, found.share_b.right) == (5, 3)
    assert (found.wins, found.losses) == (3, 1)
    assert found.difference.mean == pytest.approx(2 / 6)
    assert found.difference.low <= found.difference.mean <= found.difference.high
    assert found.p == found.adjusted == mcnemar(3, 1)
    assert (found.better, found.verdict) == (None, "not distinguishable")


def test_an_even_difference_that_is_clear_has_a_winner_and_its_mirror_the_same() -> None:
    graded = [*answers("ft", "0" * 10), *answers("rd", "1" * 10)]
    (found,) = pair(graded)
    assert found.verdict == "rd is better"
    first, second = conditions_of(graded)
    (mirrored,) = compare(graded, [(first, second)])
    assert (mirrored.better, mirrored.p, mirrored.difference.mean) == ("rd", found.p, -found.difference.mean)


def test_several_seeds_count_as_the_same_questions_again() -> None:
    """Three seeds that agree on every question say no more about questions than one of them does."""
    one = [*answers("ft", "0001"), *answers("rd", "1111")]
    three = [g for seed in range(3) for g in (*answers("ft", "0001", seed=seed), *answers("rd", "1111", seed=seed))]
    (single,), (several,) = pair(one), pair(three)
    assert (several.p, several.difference) == (single.p, single.difference)
    assert (several.questions, several.wins, several.seeds) == (4, 3, (3, 3))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=7),
)
@settings(deadline=None)
def test_seeds_of_unequal_number_are_compared_by_their_means(rights: list[tuple[int, int]]) -> None:
    """`rights`: of 3 seeds of one condition and 2 of the other, how many were right on a question."""
    graded: list[GradedAnswer] = []
    for seed in range(3):
        graded += answers("rd", "".join(str(int(seed < a)) for a, _ in rights), seed=seed)
    for seed in range(2):
        graded += answers("ft", "".join(str(int(seed < b)) for _, b in rights), seed=seed)
    (found,) = pair(graded)
    differences = [2 * a - 3 * b for a, b in rights]
    assert found.difference.mean == pytest.approx(sum(differences) / 6 / len(rights))
    assert (found.wins, found.losses) == (sum(d > 0 for d in differences), sum(d < 0 for d in differences))
    assert found.p == pytest.approx(sign_flips(differences))


def test_every_pair_is_corrected_for_all_and_kinds_for_kinds() -> None:
    graded = [
        g
        for kind in ("four", "two")
        for method, rights in (("ft", "00000000"), ("rd", "01111111"), ("kard", "11111111"))
        for g in answers(method, rights, kind=kind)
    ]
    keys = list(conditions_of(graded))
    found = compare(graded, all_pairs(keys), by_kind=True)
    whole, parts = found[:3], found[3:]
    assert [(c.a, c.b) for c in whole] == [("rd", "ft"), ("kard/none", "ft"), ("kard/none", "rd")]
    assert [c.adjusted for c in whole] == holm([c.p for c in whole])
    assert [c.adjusted for c in parts] == holm([c.p for c in parts])
    assert {c.kind for c in parts} == {"four", "two"}
    assert all_pairs(keys, keys[1]) == [(keys[0], keys[1]), (keys[2], keys[1])]


def test_conditions_that_share_no_question_are_not_compared() -> None:
    with pytest.raises(Missing, match="have answered no question in common"):
        pair([*answers("ft", "1."), *answers("rd", ".1")])


def test_a_name_leaves_out_what_is_the_same_for_all() -> None:
    graded = [*answers("ft", "1"), *answers("kard", "1", retriever="bm25", variant="k=1 n=5")]
    assert list(short_names(conditions_of(graded)).values()) == ["ft", "kard/bm25/k=1/n=5"]
    bigger = [replace(g, size="1b") for g in answers("ft", "1")]
    assert list(short_names(conditions_of([*graded, *bigger])).values()) == [
        "9m/ft",
        "9m/kard/bm25/k=1/n=5",
        "1b/ft",
    ]


# What tells conditions apart


def run(number: int, **changed: object) -> dict[str, object]:
    training = {"epochs": 3, "lora": {"rank": 16}, "seed": changed.get("seed", 0)}
    return {
        "evaluation_id": number,
        "size": "9m",
        "method": "kard",
        "seed": 0,
        "retriever": "bm25",
        "k": 2,
        "decoding": json.dumps({"samples": 1, "temperature": 1.0, "max_new_tokens": 9}),
        "kappa": None,
        "index": "aaaaaaaa",
        "reranker_id": None,
        "reranker": None,
        "reranker_seed": None,
        "retriever_id": None,
        "mixing": None,
        "student_id": f"student-{number}",
        "base": "base",
        "training": json.dumps(training),
        "examples": 100,
        "data": "dddddddd",
        **changed,
    }


def test_runs_that_differ_by_their_seed_alone_are_one_condition() -> None:
    assert condition_labels([run(1), run(2, seed=1), run(3, seed=2)]) == {1: "", 2: "", 3: ""}


def test_seeds_that_draw_their_questions_or_wrong_rationales_are_one_condition() -> None:
    wrong = {"training": json.dumps({"epochs": 3, "lora": {"rank": 16}, "wrong": 0.3})}
    found = condition_labels([run(1), run(2, data="e", **wrong), run(3, seed=1, data="f", **wrong)])
    assert found == {1: "", 2: "train.wrong=0.3", 3: "train.wrong=0.3"}
    tenth = {"fraction": 0.1, "accept": None}
    shares = [run(2, data="e", examples=9, **tenth), run(3, seed=1, data="f", examples=11, **tenth)]
    found = condition_labels([run(1), *shares, run(4, data="g", fraction=0.1, accept="none")])
    assert found[2] == found[3]
    assert len(set(found.values())) == 3


def test_different_choices_stand_in_the_label() -> None:
    sampled = json.dumps({"samples": 5, "temperature": 1.0, "max_new_tokens": 9})
    more = json.dumps({"epochs": 3, "lora": {"rank": 4}, "seed": 0})
    found = condition_labels(
        [run(1), run(2, k=1), run(3, decoding=sampled), run(4, training=more), run(5, method="rd")]
    )
    assert found == {
        1: "k=2 n=1 train.lora.rank=16",
        2: "k=1 n=1 train.lora.rank=16",
        3: "k=2 n=5 train.lora.rank=16",
        4: "k=2 n=1 train.lora.rank=4",
        5: "",
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_that_were_trained_themselves_are_another_condition_than_an_adapter(seed: int) -> None:
    full = json.dumps({"epochs": 3, "full": True, "lora": {"rank": 16}, "seed": seed})
    assert condition_labels([run(1), run(2, training=full, seed=seed)]) == {
        1: "train.full=False",
        2: "train.full=True",
    }


def test_two_runs_of_one_seed_never_share_a_label() -> None:
    found = condition_labels([run(1), run(2, index="bbbbbbbb"), run(3, seed=1)])
    assert found[1] == found[3] == "index=aaaaaa"
    assert found[2] == "index=bbbbbb"
    same = condition_labels([run(1, student_id="one"), run(2, student_id="one")])
    assert same == {1: "run=1", 2: "run=2"}


def trained_with(**settings: object) -> str:
    return json.dumps({"epochs": 3, "lora": {"rank": 16}, **settings})


def test_seeds_that_read_different_numbers_of_passages_are_two_conditions() -> None:
    """The k of the training is not the k of the evaluation."""
    training = trained_with(k=1)
    runs = [run(1, seed=1, k=2, training=training), run(2, seed=2, k=1, training=training)]
    assert condition_labels(runs) == {1: "k=2", 2: "k=1"}
    sweep = [run(number, k=k, training=training) for number, k in ((1, 1), (4, 3))]
    assert condition_labels(sweep) == {1: "k=1", 4: "k=3"}
    trainings = [run(1, training=trained_with(k=1)), run(2, seed=1, training=trained_with(k=3))]
    assert condition_labels(trainings) == {1: "train.k=1", 2: "train.k=3"}


def test_conditions_that_read_several_states_of_the_documents_say_which_in_every_row() -> None:
    old, new = ({"index": name, "documents": f"2026-11-{day}T08:00:00"} for name, day in (("i1", 28), ("i2", 29)))
    runs = [run(1, **old), run(2, **new), run(3, retriever="fused", **old), run(4, retriever="none")]
    assert condition_labels([runs[0], runs[2], runs[3]]) == {1: "", 3: "", 4: ""}
    dates = {1: "documents=2026-11-28", 2: "documents=2026-11-29", 3: "documents=2026-11-28", 4: ""}
    assert condition_labels(runs) == dates
    later = run(2, index="i2", documents="2026-11-28T09:30:00")
    assert condition_labels([runs[0], later]) == {1: "documents=2026-11-28T08:00", 2: "documents=2026-11-28T09:30"}
    same = run(2, index="i2", documents="2026-11-28T08:00:00")
    assert condition_labels([runs[0], same]) == {1: "documents=2026-11-28-i1", 2: "documents=2026-11-28-i2"}


def test_what_a_seed_draws_from_the_training_questions_is_part_of_the_seed() -> None:
    held_out = trained_with(held_out=0.1)
    runs = [run(1, training=held_out, examples=90), run(2, seed=1, training=held_out, examples=91)]
    assert set(condition_labels(runs).values()) == {""}
    texts = [run(1, data="d1"), run(2, seed=1, data="d2")]
    assert condition_labels(texts) == {1: "data=d1", 2: "data=d2"}
    shots = [run(number, training=json.dumps({"shots": 3}), data=f"d{number}", seed=number) for number in (1, 2)]
    assert set(condition_labels(shots).values()) == {""}


def test_a_setting_of_decoding_never_hides_what_is_read() -> None:
    runs = [run(number, k=number, decoding=json.dumps({"k": 9, "samples": 1})) for number in (1, 2)]
    assert condition_labels(runs) == {1: "k=1", 2: "k=2"}


def test_seeds_with_different_candidates_or_retrievers_are_two_conditions() -> None:
    runs = [run(1, retriever="dense", kappa=50), run(2, retriever="dense", kappa=100, seed=1)]
    assert condition_labels(runs) == {1: "kappa=50", 2: "kappa=100"}
    mixed = [
        run(
            number,
            retriever="hybrid",
            retriever_id=f"h{number}",
            mixing=json.dumps({"weight": weight}),
            seed=number,
        )
        for number, weight in ((1, 0.2), (2, 0.7))
    ]
    assert condition_labels(mixed) == {1: "hybrid.weight=0.2", 2: "hybrid.weight=0.7"}
    alike = [run(number, retriever="dense", retriever_id=id, seed=number) for number, id in ((1, "x"), (2, "y"))]
    assert condition_labels(alike) == {1: "mix=x", 2: "mix=y"}


def fused(number: int, seed: int, reranker: int, weight: float) -> dict[str, object]:
    return run(
        number,
        seed=seed,
        retriever="fused",
        reranker_id=f"r{reranker}",
        reranker=json.dumps({"epochs": 2, "seed": reranker}),
        reranker_seed=reranker,
        retriever_id=f"r{reranker}-{weight}",
        mixing=json.dumps({"weight": weight}),
    )


def test_a_weight_that_was_chosen_for_a_seeds_reranker_is_part_of_the_seed() -> None:
    assert set(condition_labels([fused(1, 0, 0, 0.4), fused(2, 1, 1, 0.6)]).values()) == {""}
    one_reranker = condition_labels([fused(1, 0, 0, 0.4), fused(2, 1, 0, 0.6)])
    assert one_reranker == {1: "fused.weight=0.4", 2: "fused.weight=0.6"}


def test_a_reranker_that_was_named_is_told_from_those_of_the_students_seeds() -> None:
    found = condition_labels([fused(1, 0, 0, 0.4), fused(2, 1, 1, 0.6), fused(3, 0, 1, 0.6)])
    assert found == {1: "reranker.seed=0", 2: "reranker.seed=1", 3: "reranker.seed=1"}


VARIED: dict[str, st.SearchStrategy[object]] = {
    "seed": st.integers(0, 2),
    "k": st.integers(1, 3),
    "kappa": st.sampled_from([None, 5, 50]),
    "retriever": st.sampled_from(["bm25", "dense"]),
    "retriever_id": st.sampled_from([None, "retriever-1", "retriever-2"]),
    "index": st.sampled_from(["index-1", "index-2"]),
    "training": st.sampled_from([trained_with(k=1), trained_with(k=2), trained_with(epochs=1)]),
    "examples": st.sampled_from([12, 24]),
}


@given(st.lists(st.fixed_dictionaries(VARIED), min_size=1, max_size=8))
@settings(deadline=None, max_examples=300)
def test_evaluations_that_differ_in_anything_but_the_seed_never_share_a_row(varied: list[dict[str, Any]]) -> None:
    runs = {number: run(number, **changed) for number, changed in enumerate(varied)}
    labels = condition_labels(list(runs.values()))
    for one, other in combinations(runs, 2):
        if (runs[one]["retriever"], labels[one]) == (runs[other]["retriever"], labels[other]):
            assert {**varied[one], "seed": None} == {**varied[other], "seed": None}
            assert varied[one]["seed"] != varied[other]["seed"]


# The report


def test_seeds_are_shown_as_mean_and_spread_and_do_not_narrow_the_interval() -> None:
    graded = [
        g for seed, rights in enumerate(("1111100000", "1111111000")) for g in answers("rd", rights, seed=seed)
    ]
    line = report_rows(graded)[-1]
    assert line.shares["all"] == wilson(6, 10)
    assert line.seeds is not None
    assert str(line.seeds) == "0.600 ± 0.141"
    header, rows = summary_table([line], TeacherCosts())
    assert header[3:5] == ["accuracy (n=10)", "over seeds"]
    assert rows[0][4] == "0.600 ± 0.141 (2)"


def test_accuracy_stands_beside_tokens_time_flops_and_the_cost_of_rationales() -> None:
    spent: dict[str, Any] = {"prompt_tokens": 100.4, "completion_tokens": 20.0, "milliseconds": 12.34, "flops": 5e9}
    graded = [
        *answers("zero-shot", "10"),
        *answers("few-shot-cot", "10"),
        *answers("ft", "10"),
        *answers("rd", "10", **spent),
        *answers("kard", "11", retriever="silver"),
    ]
    paid = [
        {"split": "train", "cost": 8.0, "rationales": 400},
        {"split": "test", "cost": 0.5, "rationales": 100},
    ]
    header, rows = summary_table(report_rows(graded), TeacherCosts.of(paid, "test", shots=3))
    prices = {str(row[1]): row[header.index("teacher")] for row in rows}
    assert prices == {
        "chance": "",
        "majority": "",
        "zero-shot": "$0.00",
        "few-shot-cot": "$0.06",
        "ft": "$0.00",
        "rd": "$8.00",
        "kard": "$8.50",
    }
    rd = dict(zip(header, rows[5], strict=True))
    assert (rd["tokens"], rd["ms"], rd["GFLOPs"]) == ("100 + 20", 12.3, 5.0)
    record = report_records(report_rows(graded), TeacherCosts())[5]
    assert (record["accuracy"], record["questions"], record["flops"]) == (0.5, 2, 5e9)


@pytest.mark.parametrize(
    ("retriever", "price"), [("none", 0.0), ("bm25", 0.0), *((name, 8.0) for name in RERANKED)]
)
def test_an_untrained_base_pays_for_the_rationales_of_its_reranker(retriever: str, price: float) -> None:
    line = report_rows(answers("zero-shot", "10", retriever=retriever))[-1]
    assert TeacherCosts(training=8.0, rationales=400).price(line) == price


def test_a_row_over_fewer_questions_says_so_everywhere() -> None:
    graded = [
        *answers("ft", "1100", kind="four"),
        *answers("ft", "11", kind="two"),
        *answers("rd", "10", kind="four"),
    ]
    lines = report_rows(graded)
    header, rows = summary_table(lines, TeacherCosts())
    assert [row[header.index("n")] for row in rows] == [6, 6, 6, 2]
    kinds = kind_table(lines)
    assert kinds is not None
    assert [str(cell) for cell in kinds[1][-1]] == ["9m", "rd", "none", "0.50 [0.09, 0.91] n=2", ""]
    assert accuracy_table(lines)[1][-1][3:6] == ["0.500 [0.095, 0.905] (n=2)", "0.500 [0.095, 0.905] (n=2)", ""]


def test_many_kinds_stand_without_intervals_and_one_kind_not_at_all() -> None:
    many = [g for kind in "abcde" for g in answers("ft", "10", kind=kind)]
    found = kind_table(report_rows(many))
    assert found is not None
    assert found[1][-1][3:] == ["0.50"] * 5
    assert kind_table(report_rows(answers("ft", "10"))) is None
    assert kind_table([]) is None
    assert summary_table([], TeacherCosts())[1] == []


def test_graded_rows_without_tokens_are_read() -> None:
    row = {
        "size": "9m",
        "method": "ft",
        "seed": 0,
        "retriever": "none",
        "k": 0,
        "kind": "",
        "key": "1",
        "options": 2,
    }
    line: ReportRow = report_rows([GradedAnswer.of({**row, "gold": "A", "answer": "A", "correct": 1, "votes": 1})])[
        -1
    ]
    assert (line.cost.flops, line.variant, line.shares["all"].right) == (None, "", 1)


def test_the_commonest_answer_stands_beside_accuracy() -> None:
    graded = [*answers("ft", "0000001"), *answers("rd", "1110000")]
    lines = report_rows(graded)
    header, rows = summary_table(lines, TeacherCosts())
    assert [row[header.index("bias")] for row in rows] == [None, None, "B .86", "B .57"]
    header, rows = accuracy_table(lines)
    assert rows[2][header.index("bias")] == "B .86"
    record = report_records(lines, TeacherCosts())[2]
    assert (record["commonest_answer"], record["commonest_share"]) == ("B", pytest.approx(6 / 7))


def test_the_share_of_forced_answers_stands_where_no_answer_is_unread() -> None:
    graded = [*answers("ft", "10", forced=1.0), *answers("ft", "1", kind="b", forced=0.0), *answers("rd", "10")]
    lines = report_rows(graded)
    for header, rows in (summary_table(lines, TeacherCosts()), accuracy_table(lines)):
        assert "unread" not in header
        assert [row[header.index("forced")] for row in rows] == ["", "", "67%", ""]
    assert report_records(lines, TeacherCosts())[2]["forced"] == pytest.approx(2 / 3)
    unread = report_rows([*graded, replace(graded[0], key="z", answer=None)])
    header, rows = summary_table(unread, TeacherCosts())
    assert [row[header.index("unread")] for row in rows] == [0, 0, 1, 0]
    header, _ = accuracy_table(report_rows(answers("rd", "10")))  # an older file
    assert "unread" in header
    assert "forced" not in header


def test_letters_of_questions_with_different_numbers_of_options_have_no_bias() -> None:
    graded = [*answers("ft", "01"), replace(answers("ft", "1", kind="four")[0], options=4)]
    assert report_rows(graded)[-1].bias is None
    assert "bias" not in summary_table(report_rows(graded), TeacherCosts())[0]


def test_intervals_over_seeds_are_wider_where_trainings_differ_and_need_three_of_them() -> None:
    rights = ("1" * 20, "0" * 20, "10" * 10)
    graded = [g for seed, of_seed in enumerate(rights) for g in answers("rd", of_seed, seed=seed)]
    fixed, resampled = (report_rows([*graded, *answers("ft", "10" * 10)], over_seeds=o)[2:] for o in (False, True))
    assert fixed[1].shares["all"].value == resampled[1].shares["all"].value == 0.5
    assert (fixed[1].shares["all"].low, resampled[1].shares["all"].low) == (wilson(10, 20).low, 0.0)
    assert (fixed[0].has_intervals, resampled[0].has_intervals) == (True, False)
    _, rows = summary_table(resampled, TeacherCosts())
    assert [str(row[3]) for row in rows] == ["0.500", str(resampled[1].shares["all"])]
    assert report_records(resampled, TeacherCosts())[0]["low"] is None


def test_conditions_are_compared_over_seeds_where_each_has_three() -> None:
    good, bad = ("1" * 18 + "00", "1" * 20, "0" * 10 + "1" * 10), ("0" * 20, "1" + "0" * 19, "1" * 9 + "0" * 11)
    graded = [g for seed in range(3) for g in answers("rd", good[seed], seed=seed)]
    graded += [g for seed in range(3) for g in answers("ft", bad[seed], seed=seed)]
    (fixed,), (resampled,) = pair(graded), pair(graded, over_seeds=True)
    assert (fixed.p, fixed.difference.mean) == (resampled.p, resampled.difference.mean)
    assert resampled.difference.low < fixed.difference.low
    assert resampled.record()["intervals"] == "seeds and questions"
    with pytest.raises(Missing, match="ft has 1 of the 3 seeds that --over-seeds needs"):
        pair([g for g in graded if g.method == "rd" or g.seed == 0], over_seeds=True)


@pytest.mark.parametrize("method", ["named", "zero-shot", "few-shot"])
def test_what_no_seed_decides_is_compared_over_the_seeds_of_others_and_claims_none(method: str) -> None:
    graded = [g for seed in range(3) for g in answers("rd", "1" * (18 - seed) + "0" * (2 + seed), seed=seed)]
    graded += answers(method, "1" * 15 + "0" * 5)
    spreads = {row.method: row.seeds for row in report_rows(graded) if not row.baseline}
    assert spreads["rd"]
    if method == "few-shot":  # another seed shows other examples
        assert spreads[method]
        with pytest.raises(Missing, match="few-shot/none has 1 of the 3 seeds"):
            pair(graded, over_seeds=True)
        return
    assert spreads[method] is None
    (against,) = pair(graded, over_seeds=True)
    assert against.over_seeds
    assert against.difference.mean == pytest.approx(pair(graded)[0].difference.mean)
    assert against.share_b.value == 0.75


# The command line


@pytest.fixture
def answered(tmp_path: Path, new_case: type[Any]) -> Path:
    """A store with 12 questions: nothing read gets 2 of them right, BM25 11, the reranker all."""
    path = tmp_path / "kard.db"
    db: Database = open_store(path)
    case = new_case(db)
    for number in range(12):
        question = case.question(f"q{number}")
        case.answered(question, "none", answer="A" if number < 2 else "B")
        case.answered(question, "bm25", "d1-0", answer="A" if number else None)
        case.answered(question, "reranker", "d1-0", answer="A")
    db.conn.commit()
    db.close()
    return path


@pytest.fixture
def kard(answered: Path, tmp_path: Path) -> Any:
    task = tmp_path / "tiny.py"
    task.write_text(
        "from kard.programs import Answer, RetrieveThenAnswer, Teach, plain\nfrom kard.tasks import Task\n"
        "def parse(row):\n    return plain(row, ('yes', 'no'))\n"
        "TASK = Task('tiny', 'Metals.', parse, Teach, Answer, RetrieveThenAnswer)\n",
        encoding="utf-8",
    )

    def call(command: str, *words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [command, str(task), *words, "--store", str(answered)])
        assert result.exit_code == code, result.output
        return result

    return call


def test_two_conditions_are_compared_in_words_and_as_json(kard: Any) -> None:
    told = kard("compare", "kard/rer", "none").output
    assert "12 questions: 10 right only by kard/reranker, 0 by kard/none" in told
    assert "p = 0.002 by the exact McNemar test" in told
    assert told.splitlines()[-1] == "kard/reranker is better"
    assert kard("compare", "bm25", "reranker").output.splitlines()[-1] == "not distinguishable at 5%"
    (record,) = json.loads(kard("compare", "bm25", "reranker", "--json").output)
    assert (record["wins"], record["losses"], record["better"]) == (0, 1, None)
    assert record["difference"] == pytest.approx(-1 / 12)


def test_all_pairs_are_corrected_and_a_base_is_compared_with_each(kard: Any) -> None:
    table = kard("compare", "--csv").output.splitlines()
    assert len(table) == 1 + 3
    assert "kard/reranker" in kard("compare", "--against", "none", "--markdown").output
    assert len(kard("compare", "--against", "none", "--csv").output.splitlines()) == 1 + 2
    named = kard("compare", "reranker", "bm25", "none", "--csv").output
    assert named.splitlines() == table  # every pair of those, in the order of the table
    assert (
        len(kard("compare", "none", "bm25", "reranker", "--against", "none", "--csv").output.splitlines()) == 1 + 2
    )
    wide = max(len(line.rstrip()) for line in kard("compare").output.splitlines())
    assert wide <= 120
    assert "not distinguishable" in kard("compare").output


def test_names_that_mean_nothing_or_themselves_are_refused_in_a_line(kard: Any) -> None:
    for words, part, code in (
        (("kard", "none"), "'kard' may mean 9m/kard/none, 9m/kard/bm25, 9m/kard/reranker; name one", 1),
        (("x", "none"), "no condition 'x'; there are 9m/kard/none", 1),
        (("none", "none"), "are the same condition", 2),
        (("none", "none", "bm25"), "two of these are the same condition", 2),
        (("none",), "name two conditions or more", 2),
        (("none", "bm25", "--against", "none"), "leave out --against", 2),
        (("none", "bm25", "--split", "dev"), "no answers for tiny/dev; make them with: kard run", 1),
    ):
        assert part in kard("compare", *words, code=code).output


def test_the_report_fits_a_terminal_and_the_file_gives_the_same_table(kard: Any, tmp_path: Path) -> None:
    shown = kard("report").output
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 120
    assert str(wilson(12, 12)) in shown
    file = tmp_path / "answers.jsonl"
    kard("export", str(file), "--answers")
    assert accuracy_of(file) in kard("report", "--markdown").output
    assert comparisons_of(file).strip() == kard("compare", "--markdown").output.strip()
    pair = comparisons_of(file, "bm25", "reranker")
    assert len(pair.strip().splitlines()) == 2 + 1
    assert pair != comparisons_of(file, "bm25", "none")
    found = json.loads(kard("report", "--json").output)["accuracy"]
    assert [row["accuracy"] for row in found if row["retriever"] == "bm25"] == [pytest.approx(11 / 12)]
    assert found[-2]["unread"] == 1


def test_a_hostile_kind_of_question_cannot_drive_the_terminal(kard: Any, answered: Path) -> None:
    db = open_store(answered)
    with db.atomic():
        db.execute("update questions set kind = ? where key = 'q1'", ["\x1b[31m[bold]evil[/bold]"])
    db.close()
    shown = kard("report").output
    assert "\x1b" not in shown
    assert "[bold]" in shown


def test_what_intervals_mean_is_printed(kard: Any) -> None:
    assert "95% intervals over questions (Wilson), with the trainings as they are" in kard("report").output
    resampled = kard("report", "--over-seeds").output
    assert "none for fewer than 3 seeds" in resampled
    report = json.loads(kard("report", "--over-seeds", "--json").output)
    assert report["intervals"] == "seeds and questions"
    assert {row["low"] for row in report["accuracy"]} == {None}
    assert (
        "1 of the 3 seeds that --over-seeds needs" in kard("compare", "none", "bm25", "--over-seeds", code=1).output
    )
    assert "leave out --html or --over-seeds" in kard("report", "--over-seeds", "--html", "x.html", code=2).output
