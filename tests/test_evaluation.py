"""Votes, conditions and report rows: pure functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kard.answers.vote import majority, vote
from kard.config import Decoding
from kard.errors import BadConfig
from kard.evaluation.condition import CANDIDATES, Condition
from kard.evaluation.condition_names import ConditionInfo
from kard.evaluation.graded import GradedAnswer
from kard.evaluation.report import accuracy_table, as_markdown, report_rows
from kard.evaluation.retriever_metrics import hits_table
from kard.methods import RANKED, RETRIEVERS
from kard.passages import shuffled
from kard.records import Passage

votes = st.lists(st.sampled_from(["A", "B", "C", None]), max_size=9)


@given(votes)
def test_the_vote_is_a_mode_of_the_answers_that_could_be_read(answers: list[str | None]) -> None:
    winner, count = majority(answers)
    counts = Counter(a for a in answers if a is not None)
    assert count == max(counts.values(), default=0)
    assert (winner is None) == (not counts)
    assert winner is None or counts[winner] == count


def test_the_earliest_answer_wins_a_tie() -> None:
    assert majority(["B", "A", "A", "B"]) == ("B", 2)


def graded(
    key: str, kind: str, gold: str, answer: str | None, *, method: str = "kard", options: int = 2
) -> GradedAnswer:
    return GradedAnswer("135m", method, 0, "bm25", 3, kind, key, options, gold, answer, int(answer == gold))


def test_shares_are_summed_where_every_sample_has_them() -> None:
    answers, shares = ["A", "A", "B"], [(0.5, 0.4, 0.1), (0.4, 0.35, 0.25), (0.05, 0.9, 0.05)]
    assert vote(answers, shares) == ("B", 1)
    assert vote(answers, [*shares[:2], ()]) == ("A", 2)  # a text was read: letters are counted
    assert vote([], []) == (None, 0)


def test_kinds_stand_apart_beside_chance_and_majority() -> None:
    rows = [
        graded("1", "yes/no", "A", "A"),
        graded("2", "yes/no", "A", "B"),
        graded("3", "yes/no", "B", None),
        graded("4", "four", "D", "D", options=4),
    ]
    chance, majority_line, kard = report_rows(rows)
    assert list(kard.shares) == ["all", "four", "yes/no"]
    assert (kard.shares["all"].right, kard.shares["yes/no"].right, kard.shares["four"].right) == (2, 1, 1)
    assert kard.unread == 1
    assert (majority_line.shares["yes/no"].right, majority_line.shares["all"].right) == (2, 3)
    assert chance.shares["yes/no"].right == 1.5
    header, body = accuracy_table([chance, majority_line, kard])
    assert header[3:] == ["all (n=4)", "four (n=1)", "yes/no (n=3)", "unread"]
    assert as_markdown(header, body).splitlines()[-1].startswith("| 135m | kard | bm25 | 0.500 [")


def test_methods_and_retrievers_stand_in_the_order_of_the_papers_table() -> None:
    rows = [graded("1", "", "A", "A", method=m) for m in ("kard", "ft", "rd")]
    assert [line.method for line in report_rows(rows)] == ["chance", "majority", "ft", "rd", "kard"]


def test_sizes_stand_from_small_to_large_and_each_has_its_methods_together() -> None:
    conditions = [(size, method) for size in ("tiny", "1.7b", "135m") for method in ("kard", "ft")]
    rows = [replace(graded("1", "", "A", "A", method=method), size=size) for size, method in conditions]
    assert [(line.size, line.method) for line in report_rows(rows)][2:] == [
        (size, method) for size in ("135m", "1.7b", "tiny") for method in ("ft", "kard")
    ]
    places = [ConditionInfo(1, size, "ft", 0, "none", 0, None, None).order for size in ("135m", "1.7b")]
    assert places == sorted(places)


def test_hits_beyond_the_depth_of_the_search_stay_empty() -> None:
    rows = [
        {"gold": "silver", "retriever": retriever, "rank": rank, "depth": depth}
        for retriever, depth in (("bm25", 20), ("dense d", 5))
        for rank in (2, None)
    ]
    header, body = hits_table(rows, narrow=True)
    assert header == ["needed", "retriever", "n", "Hits@1", "Hits@3", "Hits@5", "Hits@10"]
    assert [[bool(cell) for cell in row[3:]] for row in body] == [[True] * 4, [True, True, True, False]]
    assert body[0][-1] == "0.50"
    without = [{name: value for name, value in row.items() if name != "depth"} for row in rows]
    assert hits_table(without)[0][-1] == "Hits@100"


@given(st.sets(st.integers(0, 99), min_size=2, max_size=20))
def test_shuffled_gives_each_question_the_passages_of_another_one(keys: set[int]) -> None:
    found = {key: [Passage.of("d", key, "t", "x")] for key in keys}
    dealt = shuffled(found)
    assert dealt.keys() == found.keys()
    assert all(dealt[key] != found[key] for key in keys)
    assert sorted(p.part for ps in dealt.values() for p in ps) == sorted(keys)


def test_a_method_that_reads_nothing_refuses_a_retriever() -> None:
    with pytest.raises(BadConfig, match="rd reads no passages; use --retriever none"):
        Condition("test", "s", "rd", "bm25", 3, Decoding())


def test_the_batch_size_does_not_change_the_hash_of_a_condition() -> None:
    rows = [Condition("test", "s", "kard", "none", 3, Decoding(batch=b)).row("t")["hash"] for b in (1, 24)]
    assert rows[0] == rows[1]
    other = Condition("test", "s", "kard", "none", 3, Decoding(samples=5)).row("t")["hash"]
    assert other != rows[0]


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_a_condition_is_told_by_its_candidates_where_they_decide_what_is_read(retriever: str) -> None:
    condition = Condition("test", "s", "kard", retriever, 2, Decoding(), "i", "r", "x", kappa=50)
    row, fewer = condition.row("t"), replace(condition, kappa=20).row("t")
    assert (row["hash"] == fewer["hash"]) == (row["kappa"] is None) == (retriever not in (*CANDIDATES, "shuffled"))
    other = replace(condition, retriever_id="y").row("t")
    assert (row["hash"] == other["hash"]) == (row["retriever_id"] is None) == (retriever not in RANKED)
    one = replace(condition, k=1).row("t")
    assert (row["hash"] == one["hash"]) == (retriever == "none")


def test_a_retriever_that_orders_candidates_needs_their_number() -> None:
    with pytest.raises(BadConfig, match="kappa must be the number of passages that hybrid orders, not None"):
        Condition("test", "s", "kard", "hybrid", 2, Decoding(), "i", retriever_id="x")
