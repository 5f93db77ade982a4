"""What a training step of the reranker sees, the four losses of it, and the state that patience keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from kard.config import Loss, RerankerTraining
from kard.errors import BadConfig
from kard.reranker.candidates import Candidates, CandidateSet, Pool, TrainingBatch, TrainingQuestion, annealed, draw
from kard.reranker.loss import divergence, hard_loss, loss_of
from kard.reranker.training import BestState

LOSSES: tuple[Loss, ...] = ("kl", "ce", "infonce", "mix")
SETTINGS = RerankerTraining(candidates=6, tau_teacher=2.0, tau_student=0.5)


@st.composite
def candidates(draw_: st.DrawFn, passages: int = 20) -> Candidates:
    """The candidates of one rationale: each is in its own list, in the question's, or in both."""
    chosen = draw_(st.lists(st.integers(0, passages - 1), min_size=2, max_size=12, unique=True))
    size = len(chosen)
    scores = draw_(st.lists(st.floats(0, 60, width=32), min_size=size, max_size=size))
    by_rationale = np.array(draw_(st.lists(st.booleans(), min_size=size, max_size=size)))
    by_question = np.array(draw_(st.lists(st.booleans(), min_size=size, max_size=size))) | ~by_rationale
    ranks = np.where(by_question, np.cumsum(by_question), 0)
    return Candidates(np.array(chosen), np.array(scores, np.float32), by_rationale, ranks)


def plain(scores: list[float], by_rationale: list[bool], ranks: list[int], first: int = 0) -> Candidates:
    return Candidates(
        np.arange(first, first + len(scores)), np.array(scores, np.float32), np.array(by_rationale), np.array(ranks)
    )


# --- pools ----------------------------------------------------------------------------------------


@given(st.lists(candidates(), min_size=1, max_size=4), st.integers(1, 12))
def test_what_takes_part_is_first_for_somebody_and_every_rationale_has_some(
    rationales: list[Candidates], count: int
) -> None:
    pool = Pool.of(rationales)
    candidate_set = CandidateSet.of(TrainingQuestion("k", "text", tuple(rationales), frozenset()), count)
    passages = candidate_set.passages.tolist()
    by_rationales = sorted(zip((-pool.bm25.mean(0)).tolist(), range(len(pool.passages)), strict=True))[:count]
    by_question = [int(p) for p, rank in zip(pool.passages, pool.question_rank, strict=True) if 0 < rank <= count]
    assert set(passages) >= {int(pool.passages[place]) for _, place in by_rationales} | set(by_question)
    assert len(passages) <= count + len(by_question) + len(rationales)
    for epoch in range(len(rationales)):
        pool = candidate_set.pool(epoch, 1)
        assert set(pool.passages.tolist()) <= set(passages)
        assert len(pool.passages) > 0
        assert pool.bm25.max() == rationales[epoch].bm25.max()


@given(candidates())
def test_one_rationale_is_its_own_pool(single: Candidates) -> None:
    pool = Pool.of([single])
    assert pool.passages.tolist() == single.passages.tolist()
    assert pool.bm25.tolist() == [single.bm25.tolist()]
    assert pool.by_rationale.tolist() == single.by_rationale.tolist()
    assert pool.question_rank.tolist() == single.question_rank.tolist()


@given(st.lists(candidates(), min_size=1, max_size=4))
def test_a_pool_holds_each_passage_once_with_every_score_that_there_is(several: list[Candidates]) -> None:
    pool = Pool.of(several)
    assert sorted(pool.passages.tolist()) == sorted({int(p) for single in several for p in single.passages})
    for row, single in zip(pool.bm25, several, strict=True):
        scores = dict(zip(single.passages.tolist(), single.bm25.tolist(), strict=True))
        own_list = single.bm25[single.by_rationale] if single.by_rationale.any() else single.bm25
        for passage, score in zip(pool.passages.tolist(), row.tolist(), strict=True):
            assert score == scores.get(passage, float(own_list.min()))


@given(st.lists(candidates(), min_size=1, max_size=4), st.floats(0.5, 20), st.integers(0, 99))
def test_what_several_rationales_say_is_the_mean_of_what_each_says(
    several: list[Candidates], tau: float, seed: int
) -> None:
    pool = Pool.of(several)
    places = pool.draw(6, np.random.default_rng(seed))
    target = pool.target(places, tau)
    assert target.sum() == pytest.approx(1, abs=1e-5)
    each = [torch.from_numpy(row[places] / tau).softmax(-1).numpy() for row in pool.bm25]
    assert target == pytest.approx(np.mean(each, 0), abs=1e-5)


@given(candidates(), st.integers(2, 12), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 99), st.data())
def test_a_share_comes_from_the_rationale_and_a_wanted_place_comes_first(
    single: Candidates, count: int, share: float, seed: int, data: st.DataObject
) -> None:
    pool = Pool.of([single])
    size = len(pool.passages)
    first = data.draw(st.none() | st.integers(0, size - 1))
    places = pool.draw(count, np.random.default_rng(seed), share, first)
    assert len(set(places.tolist())) == len(places) == min(count, size)
    assert first is None or places[0] == first
    quota = int(np.ceil(count * share))
    assert pool.by_rationale[places].sum() >= min(quota, pool.by_rationale.sum()) - (first is not None)
    if share == 0 and first is None:
        assert (pool.question_rank[places] > 0).sum() == min(count, (pool.question_rank > 0).sum())


def test_candidates_are_drawn_anew_each_time() -> None:
    pool = Pool.of([plain([float(n) for n in range(40)], [True] * 40, list(range(1, 41)))])
    rng = np.random.default_rng(0)
    assert pool.draw(8, rng).tolist() != pool.draw(8, rng).tolist()


def test_the_best_is_the_rationales_or_the_questions_or_between_them() -> None:
    pool = Pool.of([plain([9.0, 8.9, 1.0], [True, True, False], [0, 2, 1])])
    assert pool.best(1.0) == 0
    assert pool.best(0.0) == 2
    assert pool.best(0.6) == 1  # nearly the rationale's best, and in the question's list as well


def test_epochs_take_the_rationales_in_turn_and_each_of_them_only_once() -> None:
    four = tuple(plain([1.0 + n, 2.0], [True, True], [1, 2]) for n in range(4))
    question = TrainingQuestion("k", "text", four, frozenset())

    def firsts(epoch: int, count: int) -> list[float]:
        return CandidateSet.of(question, 32).pool(epoch, count).bm25[:, 0].tolist()

    assert [firsts(epoch, 1) for epoch in range(5)] == [[1.0], [2.0], [3.0], [4.0], [1.0]]
    assert [firsts(epoch, 3) for epoch in range(2)] == [[1.0, 2.0, 3.0], [4.0, 1.0, 2.0]]
    assert firsts(0, 9) == [1.0, 2.0, 3.0, 4.0]


# --- a step ---------------------------------------------------------------------------------------


@given(st.lists(candidates(), min_size=1, max_size=5), st.sampled_from(LOSSES), st.integers(0, 99))
def test_a_step_sees_each_passage_once_a_question_and_its_label_among_them(
    questions: list[Candidates], loss: Loss, seed: int
) -> None:
    pools = [Pool.of([single]) for single in questions]
    batch = draw(pools, replace(SETTINGS, loss=loss), np.random.default_rng(seed))
    for row, pool in enumerate(pools):
        shown = batch.passages[row][batch.present[row]].tolist()
        assert len(set(shown)) == len(shown)
        assert batch.present[row, batch.best[row]]
        assert batch.target[row].sum() == pytest.approx(1, abs=1e-5)
        assert not batch.target[row][~batch.present[row]].any()
        label = batch.passages[row, batch.best[row]]
        if loss == "infonce":
            assert label == pool.passages[int(pool.bm25[0].argmax())]
        foreign = set(shown) - set(pool.passages.tolist())
        others = {int(batch.passages[r, 0]) for r in range(len(pools)) if r != row}
        assert foreign == ((others - set(pool.passages.tolist())) if loss in ("infonce", "mix") else set())


def test_a_hard_label_is_the_best_of_what_was_drawn_and_the_mix_may_differ_from_it() -> None:
    pool = Pool.of([plain([9.0, 8.9, 1.0], [True, True, False], [0, 2, 1])])
    labels: dict[str, int] = {}
    for loss in LOSSES:
        batch = draw([pool], replace(SETTINGS, loss=loss, mix=0.6), np.random.default_rng(0))
        labels[loss] = int(batch.passages[0, batch.best[0]])
    assert labels == {"kl": 0, "ce": 0, "infonce": 0, "mix": 1}


@given(st.floats(0.01, 100), st.floats(0.001, 1), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_temperatures_fall_and_stay_positive(tau: float, share: float, progress: list[float]) -> None:
    values = [annealed(tau, share, p) for p in sorted(progress)]
    assert all(value > 0 for value in values)
    assert values == sorted(values, reverse=True)
    assert annealed(tau, share, 0) == tau
    assert annealed(tau, share, 1) == pytest.approx(tau * share)


def test_annealing_makes_the_target_sharper() -> None:
    pool = Pool.of([plain([9.0, 5.0], [True, True], [1, 2])])
    falling = replace(SETTINGS, anneal=0.1)
    early, late = (draw([pool], falling, np.random.default_rng(0), progress).target.max() for progress in (0, 1))
    assert late > early


# --- the losses -----------------------------------------------------------------------------------


@given(st.lists(candidates(), min_size=1, max_size=4), st.sampled_from(LOSSES), st.integers(0, 99), st.data())
def test_no_loss_is_negative_and_what_is_not_there_does_not_count(
    questions: list[Candidates], loss: Loss, seed: int, data: st.DataObject
) -> None:
    pools = [Pool.of([single]) for single in questions]
    batch = draw(pools, replace(SETTINGS, loss=loss), np.random.default_rng(seed))
    size = batch.passages.size
    scores = data.draw(st.lists(st.floats(-5, 5, width=32), min_size=size, max_size=size))
    student = torch.tensor(scores, dtype=torch.float64).view(batch.passages.shape)
    value = loss_of(loss, student, batch, 0.5).item()
    assert value >= -1e-6
    junk = torch.where(torch.from_numpy(batch.present), student, 1e4)
    assert loss_of(loss, junk, batch, 0.5).item() == pytest.approx(value, abs=1e-5)


@given(st.lists(candidates(), min_size=1, max_size=4), st.integers(0, 99), st.floats(0.1, 5))
def test_kl_is_nothing_when_the_student_says_what_the_rationales_say(
    questions: list[Candidates], seed: int, tau: float
) -> None:
    batch = draw([Pool.of([single]) for single in questions], SETTINGS, np.random.default_rng(seed))
    target = torch.from_numpy(batch.target).double()
    assume(bool((target[torch.from_numpy(batch.present)] > 1e-20).all()))
    assert loss_of("kl", tau * target.clamp(min=1e-30).log(), batch, tau).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_pulls_the_label_up(loss: Loss) -> None:
    pools = [Pool.of([plain([9.0, 3.0, 1.0], [True] * 3, [3, 2, 1], first)]) for first in (0, 10)]
    batch = draw(pools, replace(SETTINGS, loss=loss, mix=1.0), np.random.default_rng(1))
    student = torch.zeros(batch.passages.shape, requires_grad=True)
    loss_of(loss, student, batch, 1.0).backward()
    assert student.grad is not None
    for row in range(2):
        assert batch.passages[row, batch.best[row]] == (0, 10)[row]
        assert student.grad[row, batch.best[row]] < 0
        others = student.grad[row][torch.from_numpy(batch.present[row])]
        assert (others > 0).any()
        assert others.sum().item() == pytest.approx(0, abs=1e-6)


def test_divergence_looks_from_the_target_and_a_certain_target_costs_no_nan() -> None:
    target = torch.tensor([[1.0, 0.0]])
    assert divergence(torch.tensor([[0.0, 0.0]]), target).item() == pytest.approx(np.log(2), abs=1e-6)
    assert hard_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(np.log(2), abs=1e-6)


def test_nothing_of_another_question_reaches_a_loss_without_negatives() -> None:
    pools = [Pool.of([plain([9.0, 3.0], [True] * 2, [1, 2], first)]) for first in (0, 10)]
    batch: TrainingBatch = draw(pools, replace(SETTINGS, loss="ce"), np.random.default_rng(0))
    assert batch.passages.shape == (2, SETTINGS.candidates)


# --- patience -------------------------------------------------------------------------------------


def flat(value: float) -> dict[str, float]:
    return dict.fromkeys(("1", "3", "5", "10"), value)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(1, 4))
def test_patience_keeps_the_first_best_state_and_ends_after_so_many_worse_ones(
    hits: list[int], patience: int
) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0)
    best = BestState(patience, model, flat(1))
    reached = [1]
    for number, value in enumerate(hits, 1):
        model.weight.data.fill_(number)
        reached.append(value)
        expected = reached.index(max(reached))
        on = best.see(flat(value))
        assert on == (number - expected < patience)
        if not on:
            break
    best.restore()
    assert model.weight.item() == best.epoch == reached.index(max(reached))
    assert best.hits == flat(max(reached))
    assert len(best.seen) == len(reached) - 1


def test_without_patience_the_last_state_stays() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    best = BestState(0, model, {})
    model.weight.data.fill_(3)
    best.restore()
    assert model.weight.item() == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": "hinge"}, "loss must be one of kl, ce, infonce, mix, not hinge"),
        ({"scorer": "bm25"}, "scorer must be one of pooled, maxsim, cross, not bm25"),
        ({"anneal": 0.0}, "anneal"),
        ({"rationales": 0}, "rationales"),
        ({"from_rationale": 1.5}, "from_rationale"),
        ({"held_out": 1.0}, "held_out"),
        ({"patience": -1}, "patience"),
        ({"epochs": -1}, "epochs"),
        ({"side": "both", "scorer": "cross", "projection": True}, "projection"),
        ({"side": "neither"}, "side must be one of question, both"),
        ({"scorer": "maxsim"}, "side=both"),
        ({"pool": 0}, "pool"),
    ],
)
def test_nonsense_is_refused_at_birth(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        replace(SETTINGS, **change)
