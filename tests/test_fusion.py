"""A fusion of two orders is bounded by both, does not depend on scale, and is chosen on held-out questions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kard.config import Retrieval
from kard.errors import BadConfig
from kard.knowledge.indexing import index_documents
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.questions import QuestionSet, query_of
from kard.records import Document, Passage
from kard.reranker.model import Reranker
from kard.retrieval.fusion import (
    Floats,
    Fusion,
    JudgedCandidates,
    RelevanceLabels,
    TunedFusion,
    align,
    choose_fusion,
    fused_order,
    fused_scores,
    merge,
    rank_fused,
    read_labels,
    tune,
    write_fusion,
)
from kard.retrieval.rankings import unranked

SCORES = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 2))
LISTS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.lists(SCORES, min_size=n, max_size=n), st.lists(SCORES, min_size=n, max_size=n))
)
FUSIONS = st.builds(
    Fusion, kind=st.sampled_from(["ranks", "scores"]), weight=st.floats(0, 1), unit=st.floats(0.01, 10)
)


def floats(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float64)


@given(lists=LISTS, kind=st.sampled_from(["ranks", "scores"]))
def test_the_weights_0_and_1_keep_one_of_the_two_orders(lists: tuple[list[float], list[float]], kind: Any) -> None:
    bm25, scores = floats(sorted((abs(x) for x in lists[0]), reverse=True)), floats(lists[1])
    assert fused_order(Fusion(kind, 0.0), bm25, scores).tolist() == list(range(len(bm25)))
    assert fused_order(Fusion(kind, 1.0), bm25, scores).tolist() == np.argsort(-scores, kind="stable").tolist()


@given(lists=LISTS, fusion=FUSIONS)
def test_what_both_lists_put_higher_stays_higher(lists: tuple[list[float], list[float]], fusion: Fusion) -> None:
    bm25, scores = floats([abs(x) for x in lists[0]]), floats(lists[1])
    mixed = fused_scores(fusion, bm25, scores)
    better = (np.subtract.outer(bm25, bm25) > 0) & (np.subtract.outer(scores, scores) > 0)
    assert (np.subtract.outer(mixed, mixed)[better] > -1e-12).all()


@given(lists=LISTS, fusion=FUSIONS, factor=st.floats(0.1, 10))
def test_the_scale_of_bm25_decides_nothing(
    lists: tuple[list[float], list[float]], fusion: Fusion, factor: float
) -> None:
    bm25, scores = floats([abs(x) for x in lists[0]]), floats(lists[1])
    assert fused_scores(fusion, bm25 * factor, scores) == pytest.approx(
        fused_scores(fusion, bm25, scores), abs=1e-9
    )


def test_reciprocal_ranks_are_the_published_formula() -> None:
    scores = fused_scores(Fusion("ranks", 0.5), floats([9, 8, 1]), floats([0.1, 0.3, 0.2]))
    assert scores.tolist() == pytest.approx([0.5 / 61 + 0.5 / 63, 0.5 / 62 + 0.5 / 61, 0.5 / 63 + 0.5 / 62])


def test_scores_are_weighted_after_each_is_brought_to_its_unit() -> None:
    scores = fused_scores(Fusion("scores", 0.25, unit=0.1), floats([8, 4]), floats([0.2, 0.6]))
    assert scores.tolist() == pytest.approx([0.75 * 1.0 + 0.25 * 2, 0.75 * 0.5 + 0.25 * 6])


@given(fusion=FUSIONS)
def test_a_passage_of_one_list_alone_is_never_worth_more_for_that(fusion: Fusion) -> None:
    bm25, scores = floats([5, 3, math.nan]), floats([0.5, math.nan, 0.4])
    mixed = fused_scores(fusion, bm25, scores)
    assert np.isfinite(mixed).all()
    assert mixed[0] >= mixed.max() - 1e-12  # the only one that both lists hold, and first in both


@given(
    by_words=st.lists(st.sampled_from("abcdefgh"), unique=True),
    by_vectors=st.lists(st.sampled_from("efghijkl"), unique=True),
)
def test_a_mix_holds_every_passage_of_both_lists_once(by_words: list[str], by_vectors: list[str]) -> None:
    bm25 = [(i, 9.0 - rank) for rank, i in enumerate(by_words)]
    dense = [(i, 0.9 - rank / 10) for rank, i in enumerate(by_vectors)]
    merged = [i for i, _ in merge(Fusion(), bm25, dense, 100)]
    assert sorted(merged) == sorted({*by_words, *by_vectors})
    assert merge(Fusion(), bm25, dense, 3) == merge(Fusion(), bm25, dense, 100)[:3]
    assert len(align(bm25, dense)[0]) == len(merged)


@pytest.mark.parametrize("wrong", [{"weight": 1.1}, {"weight": -0.1}, {"unit": 0.0}, {"kind": "luck"}])
def test_a_fusion_refuses_values_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        Fusion(**wrong)


# --- choosing -------------------------------------------------------------------------------------


def judged(bm25_is_right: float, score_is_right: float, count: int = 60) -> list[JudgedCandidates]:
    """Questions of 20 passages, one of them needed, that either list puts first with some probability."""
    rng = np.random.default_rng(1)
    questions: list[JudgedCandidates] = []
    for _ in range(count):
        needed = np.zeros((1, 20), dtype=np.bool_)
        needed[0, rng.integers(20)] = True
        lists = [rng.random(20) + 2 * needed[0] * (rng.random() < p) for p in (bm25_is_right, score_is_right)]
        questions.append(JudgedCandidates(lists[0], lists[1], needed, np.ones(1)))
    return questions


def test_the_better_list_gets_the_greater_weight() -> None:
    assert tune(judged(0.0, 1.0)).fusion.weight > 0.5
    assert tune(judged(1.0, 0.0)).fusion.weight < 0.5


def test_two_lists_that_are_each_right_at_times_are_better_together() -> None:
    tuned = tune(judged(0.6, 0.6))
    assert 0 < tuned.fusion.weight < 1
    assert tuned.fused > max(tuned.bm25, tuned.second) + 0.05
    assert tuned.metrics()["held_out"] == 60


def test_the_last_digits_of_scores_make_no_other_fusion() -> None:
    questions = judged(0.6, 0.6)
    tuned = tune(questions).fusion
    assert tuned.kind == "scores"
    assert tune([replace(question, scores=question.scores * (1 + 2e-6)) for question in questions]).fusion == tuned


def test_too_few_questions_choose_nothing() -> None:
    assert tune(judged(0.0, 1.0, count=5)) == TunedFusion(Fusion(), 5)
    assert tune([]) == TunedFusion(Fusion(), 0)


def test_the_ndcg_of_a_fusion_is_the_weighted_mean_over_the_judges() -> None:
    needed = np.array([[True, False, False], [False, True, True]])
    question = JudgedCandidates(floats([3, 2, 1]), floats([0, 0, 0]), needed, np.array([0.5, 0.5]))
    second = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert question.ndcg(Fusion("ranks", 0.0)) == pytest.approx(0.5 + 0.5 * second)


def test_named_evidence_has_half_of_the_weight() -> None:
    rationales, query = [frozenset("ab"), frozenset("c")], query_of("t", (), "question")
    assert RelevanceLabels.of("k", query, rationales, frozenset()).weights == (0.5, 0.5)
    with_evidence = RelevanceLabels.of("k", query, rationales, frozenset("e"))
    assert with_evidence.weights == (0.5, 0.25, 0.25)
    assert with_evidence.judges[0] == frozenset("e")


# --- in the store ---------------------------------------------------------------------------------


def test_labels_are_what_accepted_rationales_of_training_questions_find(case: Any) -> None:
    question = case.question("q1", "d9", split="train")
    case.passages("d9-0")
    case.rationale(question, "d1-0", "d2-0", "d3-0", "d4-0")
    case.rationale(question, "d5-0", sample=1)
    case.rationale(question, "d6-0", sample=2, accepted=False)
    case.rationale(case.question("q2"), "d7-0")  # a test question
    (needs,) = read_labels(case.db, "tiny", case.INDEX)
    assert needs.judges == (frozenset({"d9-0"}), frozenset({"d1-0", "d2-0", "d3-0"}), frozenset({"d5-0"}))


def stored_order(case: Any, question: int) -> list[str]:
    query = (
        "select passage_id from ranked x join rankings g on g.id = x.ranking_id where question_id = ? order by rank"
    )
    return [row[0] for row in case.db.execute(query, [question])]


def test_a_fused_order_is_kept_with_the_reranker_and_goes_with_it(case: Any) -> None:
    question, bare = case.question("q1"), case.question("q2")
    case.hits(question, "d1-0", "d2-0", "d3-0")
    case.ranked(question, "d3-0", "d2-0", "d1-0")
    case.hits(bare)
    tuned = TunedFusion(Fusion("ranks", 0.9), 30, 0.5, 0.6, 0.7)
    retriever = write_fusion(case.db, case.RERANKER, tuned, 1.0, {"query": "question"})
    assert write_fusion(case.db, case.RERANKER, tuned, 1.0, {"query": "question"}) == retriever
    (settings, metrics) = case.db.execute("select settings, metrics from retrievers").fetchone()
    assert json.loads(settings) == {"kind": "ranks", "query": "question", "unit": 1.0, "weight": 0.9}
    assert json.loads(metrics) == {"bm25": 0.5, "fused": 0.7, "held_out": 30, "second": 0.6}

    def missing(kappa: int) -> list[int]:
        return [key for key, _ in unranked(case.db, retriever, case.INDEX, QuestionSet("tiny"), kappa)]

    assert missing(3) == [question, bare]
    assert rank_fused(case.db, retriever, tuned.fusion, case.RERANKER, case.INDEX, 3, missing(3)) == 2
    assert stored_order(case, question) == ["d3-0", "d2-0", "d1-0"]
    assert missing(3) == []
    assert missing(2) == [question, bare]
    rank_fused(case.db, retriever, tuned.fusion, case.RERANKER, case.INDEX, 2, missing(2))
    assert stored_order(case, question) == ["d2-0", "d1-0"]  # among BM25's first two
    case.write("delete from rerankers")
    assert case.db.execute("select count(*) from ranked").fetchone()[0] == 0


class Oracle:
    """A reranker that knows the answer and has no vectors."""

    scorer = "cross"

    def __init__(self, right: str) -> None:
        self.right = right
        self.cache = None

    def scores_many(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> list[Any]:
        assert len(questions) == len(passages)
        return [np.array([float(self.right in p.text) for p in some], dtype=np.float32) for some in passages]


def test_the_fusion_is_chosen_on_what_bm25_finds_of_the_held_out_questions(case: Any, tmp_path: Path) -> None:
    documents = [Document(f"d{i}", f"t{i}", f"river n{i} golden") for i in range(12)]
    index_documents(documents, tmp_path / "kb", source="s")
    kb = KnowledgeBase.open(tmp_path / "kb")
    golden = frozenset(p.id for p in kb.of_documents(["d7"]))
    queries = [query_of(f"a river t{i}", (), "question") for i in range(12)]
    held_out = [RelevanceLabels.of(query.read, query, [golden], frozenset()) for query in queries]
    settings = Retrieval(kappa=12, k=1, max_df=1.0)
    tuned = choose_fusion(case.db, kb, cast("Reranker", Oracle("n7 ")), case.RERANKER, held_out, settings)
    assert tuned.questions == 12
    assert tuned.second == tuned.fused == 1.0
    assert tuned.bm25 < 0.6
    blind = choose_fusion(case.db, kb, cast("Reranker", Oracle("nothing")), case.RERANKER, held_out, settings)
    assert blind.fusion == Fusion()  # scores that are all alike choose nothing
