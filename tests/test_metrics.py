"""Statistics against published values and brute force, and measures of rankings."""

from __future__ import annotations

import math
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kard.metrics.bootstrap import Difference, bootstrap, bootstrap_over_seeds, paired_bootstrap
from kard.metrics.intervals import spread, wilson
from kard.metrics.ranking import RelevantPassages, metric_names, ranking_metrics
from kard.metrics.significance import holm, mcnemar, p_text, sign_flips

counts = st.integers(0, 12)

# Intervals and the spread over seeds


@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share_and_stays_in_the_unit(counts: tuple[int, int]) -> None:
    share = wilson(*counts)
    assert 0 <= share.low <= share.value <= share.high <= 1
    mirrored = wilson(counts[1] - counts[0], counts[1])
    if counts[1]:
        assert mirrored.low == pytest.approx(1 - share.high)


def test_wilson_agrees_with_the_published_example() -> None:
    # 81 of 263: Newcombe, Statistics in Medicine 17 (1998), table I, method 3: .2553 to .3662
    share = wilson(81, 263)
    assert (round(share.low, 4), round(share.high, 4)) == (0.2553, 0.3662)


def test_one_seed_has_no_deviation_and_three_have_that_of_a_sample() -> None:
    assert str(spread([0.5])) == "0.500"
    assert spread([0.5, 0.6, 0.7]).deviation == pytest.approx(0.1)
    assert str(spread([0.5, 0.6, 0.7])) == "0.600 ± 0.100"
    with pytest.raises(ValueError, match="no spread"):
        spread([])


# Bootstrap, alone and of pairs


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=30), st.integers(0, 3))
@settings(deadline=None)
def test_a_bootstrap_interval_is_seeded_and_stays_among_the_values(values: list[int], seed: int) -> None:
    low, high = bootstrap(values, draws=400, seed=seed)
    assert min(values) <= low <= high <= max(values)
    assert bootstrap(values, draws=400, seed=seed) == (low, high)


def test_a_bootstrap_interval_holds_what_all_resamples_hold() -> None:
    values = [0, 0, 1, 1, 1]
    means = sorted(sum(some) / 5 for some in product(values, repeat=5))
    tail = round(0.025 * len(means))
    low, high = bootstrap(values, draws=40_000)
    assert (low, high) == pytest.approx((means[tail], means[-tail - 1]))


def test_the_bootstrap_of_a_share_lies_near_wilsons_interval() -> None:
    low, high = bootstrap([1] * 210 + [0] * 90)
    share = wilson(210, 300)
    assert (low, high) == pytest.approx((share.low, share.high), abs=0.012)
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


def test_the_interval_is_of_the_difference_on_the_same_questions() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 5, (200, 1))  # what both share must not widen the interval
    ours, theirs = hard + 0.5 + rng.normal(0, 0.1, (200, 1)), hard
    (found,) = paired_bootstrap(ours, theirs)
    assert found.mean == pytest.approx(0.5, abs=0.03)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / math.sqrt(200), rel=0.15)
    assert found.low > 0


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_swapping_the_pair_mirrors_the_interval(values: list[tuple[float, float]]) -> None:
    ours, theirs = (np.array([[pair[i]] for pair in values]) for i in (0, 1))
    (one,), (other,) = paired_bootstrap(ours, theirs, draws=500), paired_bootstrap(theirs, ours, draws=500)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low), abs=1e-9)
    assert one.low - 1e-9 <= one.mean <= one.high + 1e-9 or len(values) < 5
    (same,) = paired_bootstrap(ours, ours, draws=500)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_many_questions_are_drawn_a_few_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = np.random.default_rng(1).random((2, 40, 3))
    whole = paired_bootstrap(ours, theirs, draws=300)
    monkeypatch.setattr("kard.metrics.bootstrap.MOST_COUNTS", 100)
    for one, other in zip(paired_bootstrap(ours, theirs, draws=300), whole, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired_bootstrap(np.zeros((0, 2)), np.zeros((0, 2)))


def test_seeds_that_agree_on_every_question_have_the_interval_of_questions() -> None:
    one = np.array([1.0] * 30 + [0.0] * 20)
    assert bootstrap_over_seeds(np.stack([one] * 3)) == pytest.approx(bootstrap(one.tolist()), abs=0.03)
    assert bootstrap_over_seeds(np.stack([one] * 3), np.stack([one] * 4)) == (0.0, 0.0)


def test_an_interval_over_seeds_holds_what_each_training_gives_alone() -> None:
    low, high = bootstrap_over_seeds(np.array([[1.0] * 40, [0.5] * 40, [0.0] * 40]))
    assert (low, high) == (pytest.approx(0, abs=0.17), pytest.approx(1, abs=0.17))
    gaps = np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, 1.0]])
    assert bootstrap_over_seeds(gaps)[1] == 1.0


def test_a_difference_is_written_short() -> None:
    assert Difference(0.14, -0.03, 0.25).short == "+.140 [-.030, +.250]"
    assert Difference(1.0, -1.0, 0.0).short == "+1.000 [-1.000, +.000]"
    assert str(Difference(0.14, -0.03, 0.25)) == "+0.140 [-0.030, +0.250]"


# McNemar, the randomisation of signs, Holm


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        # Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013), Bentur's study
        (1, 7, 0.0703),
        # Armitage and Berry, Statistical Methods in Medical Research (1994), p. 127, two culture media
        (12, 2, 0.0129),
        # VassarStats' online computation, as statsmodels' tests quote it
        (70, 59, 0.3787),
        (80, 59, 0.0895),
        (30, 60, 0.0021),
        (10, 10, 1.0),
    ],
)
def test_mcnemars_exact_p_is_the_published_one(wins: int, losses: int, p: float) -> None:
    assert round(mcnemar(wins, losses), 4) == p


@given(counts, counts)
def test_mcnemars_p_is_the_share_of_splits_at_least_as_uneven(wins: int, losses: int) -> None:
    of = wins + losses
    as_uneven = sum(comb(of, k) for k in range(of + 1) if abs(2 * k - of) >= abs(wins - losses))
    assert mcnemar(wins, losses) == pytest.approx(as_uneven / 2**of)
    assert mcnemar(wins, losses) == mcnemar(losses, wins)


def test_thousands_of_discordant_questions_neither_overflow_nor_round() -> None:
    assert mcnemar(3000, 3000) == 1.0
    assert 0 < mcnemar(2800, 3200) < 1e-6
    with pytest.raises(ValueError, match="not counts"):
        mcnemar(-1, 2)


def test_flipped_signs_give_fishers_count_for_darwins_maize() -> None:
    # Eighths of an inch; The Design of Experiments (1935), section 21: 863 of 32,768 sums reach 314 on one side.
    maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sum(maize) == 314
    assert sign_flips(maize) * 32_768 == pytest.approx(2 * 863)


@given(st.lists(st.integers(-4, 4), max_size=9))
def test_flipped_signs_agree_with_trying_all_of_them(differences: list[int]) -> None:
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    extreme = sum(abs(total) >= abs(sum(differences)) for total in sums)
    assert sign_flips(differences) == pytest.approx(extreme / len(sums))


@given(st.lists(st.integers(-1, 1), max_size=40))
def test_with_one_answer_each_flipped_signs_are_mcnemars_test(differences: list[int]) -> None:
    assert sign_flips([3 * d for d in differences]) == pytest.approx(
        mcnemar(differences.count(1), differences.count(-1))
    )


def test_holm_agrees_with_the_worked_example() -> None:
    # Wikipedia, "Holm-Bonferroni method": p of four hypotheses, and their adjusted values
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.3))
def test_holm_rejects_what_its_step_down_procedure_rejects(ps: list[float], alpha: float) -> None:
    adjusted = holm(ps)
    rejected: set[int] = set()
    for step, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        if ps[place] * (len(ps) - step) > alpha:
            break
        rejected.add(place)
    assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(raw <= p <= 1 for raw, p in zip(ps, adjusted, strict=True))


def test_a_p_value_is_never_printed_as_nought() -> None:
    assert [p_text(p) for p in (1.0, 0.0344, 2e-5, 1e-300, 0.0)] == [
        "1.000",
        "0.034",
        "2.0e-05",
        "<1e-12",
        "<1e-12",
    ]


# Rankings


def test_the_measures_of_one_order() -> None:
    need = RelevantPassages({"a": "doc", "b": "doc", "c": "other", "z": "nowhere"})
    found = dict(zip(metric_names(6), ranking_metrics(["x", "b", "a", "y", "c"], need, 6), strict=True))
    assert found["Hits@1"] == 0
    assert found["Hits@3"] == found["Hits@5"] == found["Hits@10"] == 1
    assert found["MRR"] == 0.5
    gain, ideal = 1 / math.log2(3) + 1 / math.log2(6), 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["nDCG@10"] == pytest.approx(gain / ideal)  # a document counts once, where it first stands
    assert found["recall@6"] == pytest.approx(2 / 3)


def test_nothing_found_is_zero_and_everything_first_is_one() -> None:
    assert ranking_metrics(["x"], RelevantPassages({"a": "a"}), 10).tolist() == [0.0] * 7
    assert ranking_metrics(["a", "b"], RelevantPassages({"a": "a", "b": "b"}), 10).tolist() == [1.0] * 7


@given(
    order=st.permutations(list("abcdefghijkl")),
    needed=st.sets(st.sampled_from("abcdefghijklm"), min_size=1),
    depth=st.integers(1, 15),
)
def test_measures_are_shares_that_grow_with_k_and_with_earlier_finds(
    order: list[str], needed: set[str], depth: int
) -> None:
    need = RelevantPassages({i: i for i in needed})
    values = ranking_metrics(order, need, depth)
    assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert list(values[:4]) == sorted(values[:4])
    first = sorted(order, key=lambda i: i not in needed)
    assert (ranking_metrics(first, need, depth) >= values - 1e-12).all()
