"""What is searched with: the question, its options, a rationale. No order of one form is read as another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.config import Decoding, QueryForm, Retrieval
from kard.db import rows
from kard.errors import BadConfig, Missing
from kard.evaluation.condition import Condition, passages_read
from kard.knowledge.indexing import index_documents
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.questions import QuestionSet, query_of, query_of_rationale
from kard.records import Document, Passage
from kard.reranker.dataset import read_dataset
from kard.reranker.model import Reranker
from kard.retrieval.fusion import Fusion, TunedFusion, read_labels, write_fusion
from kard.retrieval.live import LiveRetriever, fusion_for
from kard.retrieval.rerank import rerank, unscored
from kard.retrieval.retrieve import ground, retrieve, ungrounded, unsearched

STEM, OPTIONS = "Which statement is true?", ("Granite floats", "Cork floats on water")
TEXTS = (
    "Granite sinks in a river.",
    "Cork bark floats on water.",
    "Iron rusts.",
    "Salt dissolves in water.",
)
FORMS: tuple[QueryForm, ...] = ("question", "question+options", "options")
TEST, TRAIN = QuestionSet("tiny", "test"), QuestionSet("tiny", "train")
SETTINGS = Retrieval(kappa=4, k=2, depth=2)


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("kb")
    index_documents([Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)], folder, source="s")
    return KnowledgeBase.open(folder)


@pytest.fixture
def asked(store: Database) -> Database:
    """A test and a training question of equal text and options; the latter has an accepted rationale."""
    store.execute("insert into teachers values ('t', 't', 'recorded:t', '', '{}', 'now')")
    for row_id, split in enumerate(("test", "train"), 1):
        store.table("questions").insert(
            {"id": row_id, "task": "tiny", "key": split, "split": split, "text": STEM, "answer": "B"}
            | {"options": json.dumps(OPTIONS), "hash": split, "created": "now"}
        )
    store.execute(
        "insert into rationales (question_id, teacher_id, sample, text, accepted, created)"
        " values (2, 't', 0, 'Bark floats.', 1, 'now')"
    )
    return store


def found(db: Database, query: str = "question") -> list[tuple[str, float]]:
    """Return the documents and scores of the stored hits of a kind of query."""
    sql = (
        "select p.document, h.bm25 from retrievals r join hits h on h.retrieval_id = r.id"
        " join passages p on p.id = h.passage_id where r.query = ? order by r.id, h.rank"
    )
    return db.execute(sql, [query]).fetchall()


def form_of(form: QueryForm) -> Retrieval:
    return replace(SETTINGS, query=form)


def test_a_query_is_the_question_or_has_its_options_in_one_or_in_several_texts() -> None:
    both, first, second = f"{STEM} {' '.join(OPTIONS)}", f"{STEM} {OPTIONS[0]}", f"{STEM} {OPTIONS[1]}"
    assert [query_of(STEM, OPTIONS, form).texts for form in FORMS] == [(STEM,), (both,), (first, second)]
    assert [query_of(STEM, OPTIONS, form).read for form in FORMS] == [STEM, both, both]
    assert {query_of(STEM, (), form) for form in FORMS} == {query_of(STEM, OPTIONS, "question")}
    assert query_of_rationale("q", "r", "rationale") == "r"
    assert query_of_rationale("q", "r", "question+rationale") == "q r"


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(BadConfig, match="query must be one of question, question\\+options, options, not stem"):
        Retrieval(query=cast(Any, "stem"))
    with pytest.raises(BadConfig, match="rationale_query must be one of"):
        Retrieval(rationale_query=cast(Any, "question"))
    with pytest.raises(BadConfig, match="max_df_from"):
        Retrieval(max_df_from=-1)


def test_options_find_what_the_stem_alone_does_not(asked: Database, kb: KnowledgeBase) -> None:
    retrieve(asked, kb, TEST, form_of("question"))
    assert found(asked) == []
    retrieve(asked, kb, TEST, form_of("options"))
    assert [document for document, _ in found(asked)][:2] == ["d1", "d0"]


words = st.lists(st.sampled_from(["granite", "cork", "water", "iron", "salt", "nothing"]), min_size=1, max_size=4)


@given(texts=st.lists(words.map(" ".join), min_size=1, max_size=4), k=st.integers(1, 4))
def test_several_texts_give_each_passage_the_best_score_of_any(kb: KnowledgeBase, texts: list[str], k: int) -> None:
    single = [dict(kb.search_rowids(text, 4)) for text in texts]
    best = {rowid: max(scores.get(rowid, 0.0) for scores in single) for scores in single for rowid in scores}
    ordered = sorted(best.items(), key=lambda hit: (-hit[1], hit[0]))
    assert kb.search_rowids(texts, k) == ordered[:k]
    assert kb.search_rowids([texts[0]], k) == kb.search_rowids(texts[0], k)


def test_a_search_of_another_form_counts_as_missing_and_is_replaced(asked: Database, kb: KnowledgeBase) -> None:
    for form in FORMS:
        assert len(unsearched(asked, kb.id, TEST, form_of(form))) == 1
        assert [retrieve(asked, kb, TEST, form_of(form)) for _ in range(2)] == [1, 0]
        assert asked.execute("select form from retrievals where query = 'question'").fetchall() == [(form,)]
    assert retrieve(asked, kb, TEST, form_of("question")) == 1


def test_a_search_that_dropped_other_terms_counts_as_missing_and_is_replaced(
    asked: Database, kb: KnowledgeBase
) -> None:
    every, rare = replace(SETTINGS, max_df=1.0, max_df_from=0), replace(SETTINGS, max_df=0.3, max_df_from=0)
    for settings in (every, rare):
        assert retrieve(asked, kb, TEST, settings) == ground(asked, kb, TRAIN, settings) == 1
        assert retrieve(asked, kb, TEST, settings) == ground(asked, kb, TRAIN, settings) == 0
        assert asked.execute("select distinct max_df from retrievals").fetchall() == [(settings.max_df,)]
    alike = replace(rare, max_df_from=10**6)  # too small a knowledge base: every term is kept
    assert retrieve(asked, kb, TEST, alike) == 1
    assert retrieve(asked, kb, TEST, every) == 0
    condition = Condition("test", "s", "kard", "bm25", 2, Decoding(), kb.id, max_df=1.0)
    other = replace(condition, max_df=0.3)
    assert condition.row("tiny")["hash"] != other.row("tiny")["hash"]
    with pytest.raises(Missing):
        passages_read(asked, "tiny", other)


def test_a_rationale_is_grounded_anew_for_another_form_of_either_query(asked: Database, kb: KnowledgeBase) -> None:
    variants = [
        SETTINGS,
        replace(SETTINGS, rationale_query="question+rationale"),
        replace(SETTINGS, query="options"),
    ]
    for settings in variants:
        assert len(ungrounded(asked, kb.id, TRAIN, settings)) == 1
        assert [ground(asked, kb, TRAIN, settings) for _ in range(2)] == [1, 0]
    # by the rationale "Bark floats.", then what the question's own query found
    assert [document for document, _ in found(asked, "rationale")] == ["d1", "d0"]


def test_the_question_may_stand_before_its_rationale(asked: Database, kb: KnowledgeBase) -> None:
    asked.execute("update questions set text = 'Does iron rust?'")
    ground(asked, kb, TRAIN, replace(SETTINGS, rationale_query="question+rationale"))
    expected = [(hit.passage.document, hit.bm25) for hit in kb.search("Does iron rust? Bark floats.", 2)]
    assert {document for document, _ in expected} == {"d1", "d2"}
    assert found(asked, "rationale")[:2] == expected


def test_a_condition_reads_passages_of_its_own_form_alone(asked: Database, kb: KnowledgeBase) -> None:
    retrieve(asked, kb, TEST, form_of("options"))
    condition = Condition("test", "s", "kard", "bm25", 2, Decoding(), kb.id, form="options")
    (read,) = passages_read(asked, "tiny", condition).values()
    assert [passage.document for passage in read] == ["d1", "d0"]
    other = replace(condition, form="question")
    assert condition.row("tiny")["hash"] != other.row("tiny")["hash"]
    with pytest.raises(Missing, match="no retrieval"):
        passages_read(asked, "tiny", other)


def test_silver_passages_are_those_of_the_rationales_own_form(asked: Database, kb: KnowledgeBase) -> None:
    ground(asked, kb, TRAIN, replace(SETTINGS, rationale_query="question+rationale"))
    condition = Condition("train", "s", "kard", "silver", 1, Decoding(), kb.id, rationale_form="question+rationale")
    assert len(passages_read(asked, "tiny", condition)) == 1
    with pytest.raises(Missing):
        passages_read(asked, "tiny", replace(condition, rationale_form="rationale"))
    values = {**TRAIN.parameters, "teacher": None, "accept": "own", "index": kb.id}
    for form, count in (("question+rationale", 1), ("rationale", 0)):
        assert len(rows(asked, "internal/training_rationales", **values, rationale_form=form)) == count


class Noting:
    """A reranker that keeps what it was asked and scores every passage alike."""

    scorer = "cross"
    cache = None

    def __init__(self) -> None:
        self.questions: list[str] = []

    def scores_many(self, questions: list[str], candidates: list[list[Passage]]) -> list[Any]:
        import numpy as np

        self.questions.extend(questions)
        return [np.zeros(len(passages), np.float32) for passages in candidates]

    def scores(self, question: str, candidates: list[Passage]) -> Any:
        return self.scores_many([question], [candidates])[0]


def test_a_reranker_reads_the_options_where_the_query_has_them(asked: Database, kb: KnowledgeBase) -> None:
    both = query_of(STEM, OPTIONS, "options").read
    retrieve(asked, kb, TEST, form_of("options"))
    asked.execute(
        "insert into rerankers values ('r', 'tiny', 'b', 'x', ?, '', '{}', 'x', '{}', 1, '{}', 'p', 'x', 0, 'now')",
        [kb.id],
    )
    noting = Noting()
    assert unscored(asked, "r", kb.id, TEST, "question") == []  # nothing of that form was found
    assert rerank(asked, cast(Reranker, noting), "r", kb.id, TEST, "options") == 1
    assert noting.questions == [both]


def test_a_reranker_is_trained_on_what_is_searched_with(asked: Database, kb: KnowledgeBase) -> None:
    settings = form_of("options")
    ground(asked, kb, TRAIN, settings)
    dataset = read_dataset(asked, TRAIN, kb.id, settings=settings)
    assert [question.text for question in dataset.questions] == [query_of(STEM, OPTIONS, "options").read]
    with pytest.raises(Missing):
        read_dataset(asked, TRAIN, kb.id, settings=SETTINGS)
    (labels,) = read_labels(asked, "tiny", kb.id, settings=settings)
    assert labels.query == query_of(STEM, OPTIONS, "options")


def test_a_fusion_belongs_to_the_form_that_it_was_chosen_for(case: Any) -> None:
    tuned = TunedFusion(Fusion("ranks", 0.9), 30)
    write_fusion(case.db, case.RERANKER, tuned, 1.0, {"query": "options"})
    assert fusion_for(case.db, "tiny", case.RERANKER, "options") == tuned.fusion
    with pytest.raises(Missing):
        fusion_for(case.db, "tiny", case.RERANKER)


def test_a_new_question_is_searched_with_as_stored_ones_are(kb: KnowledgeBase) -> None:
    noting = Noting()
    live = LiveRetriever(kb, cast(Reranker, noting), form_of("options"))
    assert [hit.hit.passage.document for hit in live.find(STEM, OPTIONS)][:2] == ["d1", "d0"]
    assert noting.questions == [query_of(STEM, OPTIONS, "options").read]
    assert live.find(STEM) == []
    assert replace(live, settings=SETTINGS).find(STEM, OPTIONS) == []


def test_small_knowledge_bases_keep_every_term_and_large_ones_drop_common_ones(tmp_path: Path) -> None:
    assert [Retrieval().max_df_among(n) for n in (10_320, 44_048, 99_999)] == [1.0] * 3
    assert [Retrieval().max_df_among(n) for n in (100_000, 306_549)] == [0.05] * 2
    assert Retrieval(max_df_from=0).max_df_among(1) == 0.05
    documents = [Document(f"d{i}", "", f"world {'n7x' if i == 7 else ''}") for i in range(300)]
    index_documents(documents, tmp_path, source="s")
    base = KnowledgeBase.open(tmp_path)
    assert len(base.search("world n7x", 300)) == 300
    assert len(LiveRetriever(base, None, Retrieval(max_df_from=300)).find("world n7x")) == 1
