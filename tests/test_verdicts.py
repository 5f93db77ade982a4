"""Why an answer is wrong: a store for each verdict, and properties of all verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.db import open_store, rows
from kard.evaluation.failures import (
    VERDICTS,
    EvidenceRule,
    Failure,
    NeededPassages,
    QuestionFacts,
    count_failures,
    read_failures,
    verdict_of,
)
from kard.evaluation.judgements import judge
from kard.evaluation.trace import RankingKind, trace

Case = Any  # conftest's


def verdict(db: Database, key: str = "q", **how: Any) -> str:
    """Return the verdict on the one wrong answer to a question."""
    return found(db, key, **how).verdict


def found(db: Database, key: str = "q", split: str = "test", **how: Any) -> Failure:
    (failure,) = [f for f in read_failures(db, "tiny", split, **how) if f.key == key]
    return failure


def test_evidence_that_no_candidate_holds_is_a_knowledge_gap(case: Case) -> None:
    q = case.question("q", "d1")
    case.passages("d1-0")
    case.hits(q, "x-0", "y-0")
    case.answered(q, "bm25", "x-0")
    assert verdict(case.db) == "knowledge gap"
    assert found(case.db).why == "0 of 1 needed among the candidates"


def test_a_document_that_the_knowledge_base_lacks_is_a_knowledge_gap(case: Case) -> None:
    q = case.question("q", "nowhere")
    case.hits(q, "x-0")
    case.answered(q, "bm25", "x-0")
    assert verdict(case.db) == "knowledge gap"


def test_evidence_among_the_candidates_that_was_not_read_is_the_retrievers_failure(case: Case) -> None:
    q = case.question("q", "d1")
    case.hits(q, "x-0", "y-0", "d1-3")
    case.answered(q, "bm25", "x-0", "y-0")
    assert verdict(case.db) == "retriever failure"


def test_a_reranker_is_held_to_what_it_ranked(case: Case) -> None:
    q, r = case.question("q", "d1"), case.question("r", "d1")
    for question in (q, r):
        case.hits(question, "x-0", "y-0", "d1-0")
    case.ranked(q, "x-0", "y-0", "d1-0")
    case.ranked(r, "x-0", "y-0")
    for question in (q, r):
        case.answered(question, "reranker", "x-0", "y-0")
    assert verdict(case.db, "q") == "retriever failure"
    assert verdict(case.db, "r") == "knowledge gap"


def test_evidence_that_was_read_makes_it_the_students_failure(case: Case) -> None:
    q = case.question("q", "d1")
    case.hits(q, "d1-1", "x-0")
    case.answered(q, "bm25", "x-0", "d1-1", answer=None)
    assert verdict(case.db) == "student failure"
    assert found(case.db).answer is None


def test_a_question_of_two_hops_needs_both_documents(case: Case) -> None:
    q = case.question("q", "d1", "d2")
    case.hits(q, "d1-0", "x-0", "d2-0")
    case.answered(q, "bm25", "d1-0", "x-0")
    assert verdict(case.db) == "retriever failure"
    assert found(case.db).why == "2 of 2 needed among the candidates, 1 read"
    assert verdict(case.db, evidence="any") == "student failure"


def test_one_of_two_documents_among_the_candidates_leaves_a_gap(case: Case) -> None:
    q = case.question("q", "d1", "d2")
    case.passages("d2-0")
    case.hits(q, "d1-0", "x-0")
    case.answered(q, "bm25", "d1-0", "x-0")
    assert verdict(case.db) == "knowledge gap"


def test_without_evidence_the_passages_of_an_accepted_rationale_are_needed(case: Case) -> None:
    for key, read in (("read", "s-2"), ("unread", "x-0")):
        q = case.question(key)
        case.rationale(q, "s-0", "s-1", "s-2", "s-3")
        case.hits(q, "x-0", "s-1")
        case.answered(q, "bm25", read)
    fourth = case.question("fourth")
    case.rationale(fourth, "s-0", "s-1", "s-2", "s-3")
    case.hits(fourth, "s-3")
    case.answered(fourth, "bm25", "s-3")
    assert verdict(case.db, "read") == "student failure"
    assert verdict(case.db, "unread") == "retriever failure"
    assert verdict(case.db, "fourth") == "knowledge gap"  # only the first three count as needed
    assert found(case.db, "read").basis == "silver"


def test_a_question_whose_rationales_were_all_rejected_is_the_teachers_error(case: Case) -> None:
    q = case.question("q")
    case.rationale(q, "s-0", accepted=False)
    case.hits(q, "s-0")
    case.answered(q, "bm25", "s-0")
    assert verdict(case.db) == "teacher error"


def test_evidence_stands_above_a_rejected_rationale(case: Case) -> None:
    q = case.question("q", "d1")
    case.rationale(q, "s-0", accepted=False)
    case.hits(q, "d1-0")
    case.answered(q, "bm25", "d1-0")
    assert verdict(case.db) == "student failure"


def test_a_search_with_a_rationale_that_a_person_judged_bad_is_the_teachers_error(case: Case) -> None:
    q = case.question("q", "d1")
    rationale = case.rationale(q, "s-0", "s-1", "d1-0")
    case.answered(q, "silver", "s-0", "s-1")
    assert verdict(case.db) == "retriever failure"
    judge(case.db, q, "bad", rationale=rationale)
    assert verdict(case.db) == "teacher error"


def test_a_search_with_a_rejected_rationale_is_the_teachers_error(case: Case) -> None:
    q = case.question("q", "d1")
    case.rationale(q, "s-0", "s-1", "d1-0", accepted=False)  # the first one is read where none is accepted
    case.answered(q, "silver", "s-0", "s-1")
    assert verdict(case.db) == "teacher error"


def test_silver_chooses_from_the_passages_of_the_first_accepted_rationale(case: Case) -> None:
    q = case.question("q", "d1")
    case.rationale(q, "d1-0", accepted=False)
    case.rationale(q, "s-0", "s-1", sample=1)
    case.rationale(q, "d1-0", sample=2)
    case.answered(q, "silver", "s-0", "s-1")
    assert verdict(case.db) == "knowledge gap"


def test_without_evidence_or_rationale_the_verdict_is_undetermined(case: Case) -> None:
    q = case.question("q")
    case.hits(q, "x-0")
    case.answered(q, "bm25", "x-0")
    assert verdict(case.db) == "undetermined"
    assert found(case.db).why == "neither evidence nor a rationale"


def test_a_rationale_that_was_trained_on_tells_nothing(case: Case) -> None:
    q = case.question("q", split="train")
    case.rationale(q, "s-0")
    case.hits(q, "s-0")
    case.answered(q, "bm25", "s-0")
    failure = found(case.db, split="train")
    assert (failure.verdict, failure.why) == (
        "undetermined",
        "no evidence, and its rationales may have been trained on",
    )


def test_a_rationale_that_its_readers_accept_may_have_been_trained_on_too(case: Case) -> None:
    q = case.question("q", split="train")
    rationales = [case.rationale(q, accepted=False, sample=sample) for sample in range(2)]
    case.write("insert into verifiers values ('v', 'v', 'm', '', '{}', '-')")
    case.write("insert into verifications values (?, 'v', 'A', 1, '', 0, 0, 0, 0, '-')", rationales[0])
    stored = rows(case.db, "internal/rationales", task="tiny", split="train", question=None)
    assert [row["trained"] for row in stored] == [1, 0]


def test_candidates_that_the_store_does_not_hold_leave_it_undetermined(case: Case) -> None:
    q = case.question("q", "d1")
    case.answered(q, "bm25", "x-0")
    r = case.question("r", "d1")
    case.hits(r, "d1-0")
    case.answered(r, "elsewhere", "x-0")  # a retriever of which nothing is known here
    assert verdict(case.db, "q") == verdict(case.db, "r") == "undetermined"


def test_a_condition_that_reads_nothing_is_no_lookup_whatever_is_known(case: Case) -> None:
    case.answered(case.question("q", "d1"), "none")
    r = case.question("r")
    case.rationale(r, accepted=False)
    case.answered(r, "none")
    assert verdict(case.db, "q") == verdict(case.db, "r") == "no lookup"


def test_a_right_answer_has_no_verdict(case: Case) -> None:
    case.answered(case.question("q"), "none", answer="A")
    assert read_failures(case.db, "tiny", "test") == []


def test_a_person_can_say_what_is_needed_where_the_data_do_not(case: Case) -> None:
    q = case.question("q")
    rationale = case.rationale(q, "s-0", "s-1")
    case.hits(q, "x-0", "s-0", "s-1")
    case.answered(q, "bm25", "x-0")
    assert verdict(case.db) == "retriever failure"
    judge(case.db, q, "good", passage="x-0")
    assert verdict(case.db) == "student failure"
    judge(case.db, q, "bad", passage="x-0")
    assert verdict(case.db) == "retriever failure"
    for silver in ("s-0", "s-1"):
        judge(case.db, q, "bad", passage=silver)
    assert verdict(case.db) == "undetermined"
    judge(case.db, q, "bad", rationale=rationale)
    assert verdict(case.db) == "teacher error"


def test_a_person_who_accepts_a_rationale_overrules_its_parser(case: Case) -> None:
    q = case.question("q")
    rationale = case.rationale(q, "s-0", accepted=False)
    case.hits(q, "s-0")
    case.answered(q, "bm25", "s-0")
    assert verdict(case.db) == "teacher error"
    judge(case.db, q, "good", rationale=rationale)
    assert verdict(case.db) == "student failure"


def test_judgements_do_not_overrule_evidence(case: Case) -> None:
    q = case.question("q", "d1")
    case.hits(q, "x-0", "d1-0")
    case.answered(q, "bm25", "x-0")
    judge(case.db, q, "good", passage="x-0")
    assert verdict(case.db) == "retriever failure"


def test_judged_keeps_only_judged_questions(case: Case) -> None:
    for key in ("q", "r"):
        q = case.question(key, "d1")
        case.hits(q, "d1-0", "x-0")
        case.answered(q, "bm25", "x-0")
    judge(case.db, 2, "good", passage="d1-0")
    assert [f.key for f in read_failures(case.db, "tiny", "test", judged=True)] == ["r"]
    assert [(f.key, f.judged) for f in read_failures(case.db, "tiny", "test")] == [("q", False), ("r", True)]


def test_the_table_counts_each_condition_apart_and_names_examples(case: Case) -> None:
    for key in ("q", "r", "s"):
        q = case.question(key, "d1")
        case.hits(q, "x-0", "d1-0")
        case.answered(q, "bm25", "d1-0" if key == "s" else "x-0")
        case.answered(q, "none", answer="A" if key == "q" else "B")
    none, bm25 = count_failures(read_failures(case.db, "tiny", "test"), examples=1)
    assert (none.condition.retriever, bm25.condition.retriever) == ("none", "bm25")
    assert (none.wrong, none.counts["no lookup"]) == (2, 2)
    assert {v: n for v, n in bm25.counts.items() if n} == {"retriever failure": 2, "student failure": 1}
    assert bm25.examples["retriever failure"] == ["q"]
    assert bm25.condition.name == "9m kard, bm25 k=2, seed 0"


ids = st.sets(st.sampled_from([f"d{n}-{part}" for n in range(3) for part in range(2)]), max_size=4)
groups = st.lists(ids.map(frozenset), min_size=1, max_size=3).map(tuple)


@given(groups, ids, ids)
def test_the_passages_read_decide_before_the_candidates(needs: Any, read: set[str], candidates: set[str]) -> None:
    need = NeededPassages("evidence", needs, "")
    named, _ = verdict_of("bm25", need, read, candidates)
    # Each document is asked for by itself, so the expectation is written document by document.
    was_read = all(any(p in read for p in group) for group in needs)
    could_be = all(any(p in read or p in candidates for p in group) for group in needs)
    assert named == ("student failure" if was_read else "retriever failure" if could_be else "knowledge gap")


@given(groups, ids, ids)
def test_needing_any_document_is_never_harder_than_needing_all(
    needs: Any, read: set[str], candidates: set[str]
) -> None:
    need = NeededPassages("evidence", needs, "")
    order = ("knowledge gap", "retriever failure", "student failure")

    def place(evidence: EvidenceRule) -> int:
        return order.index(verdict_of("bm25", need, read, candidates, evidence=evidence)[0])

    assert place("any") >= place("all")


@given(st.sampled_from(["none", "bm25", "silver", "new"]), st.booleans(), st.none() | ids)
def test_an_unknown_need_is_nobodys_failure(retriever: str, misled: bool, candidates: Any) -> None:
    need = QuestionFacts({}, (), {}).needed("i")
    named, why = verdict_of(retriever, need, ["d1-0"], candidates, misled=misled)
    assert named == ("no lookup" if retriever == "none" else "undetermined")
    assert why


passages = st.lists(st.sampled_from(["d1-0", "d1-1", "d2-0", "x-0", "y-0"]), unique=True, max_size=4)
answers = st.fixed_dictionaries(
    {
        "retriever": st.sampled_from(["none", "bm25", "reranker", "silver", "shuffled", "elsewhere"]),
        "read": passages,
        "answer": st.sampled_from(["A", "B", None]),
    }
)
questions = st.fixed_dictionaries(
    {
        "evidence": st.sets(st.sampled_from(["d1", "d2", "nowhere"]), max_size=2),
        "rationales": st.lists(st.tuples(st.booleans(), passages), max_size=2),
        "found": st.none() | passages,
        "ranked": st.booleans(),
        "judged": st.none() | st.sampled_from(["good", "bad"]),
        "answers": st.lists(answers, max_size=4, unique_by=lambda a: str(a["retriever"])),
    }
)


@given(st.lists(questions, min_size=1, max_size=4), st.sampled_from(["test", "train"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verdicts_add_up_to_the_wrong_answers_of_every_condition(
    new_case: Callable[[Database], Case], made: list[dict[str, Any]], split: str
) -> None:
    with TemporaryDirectory() as folder:
        db = open_store(Path(folder, "kard.db"))
        write(new_case(db), made, split)
        wrong = db.execute(
            "select e.id, count(*), count(distinct p.question_id) from predictions p"
            " join evaluations e on e.id = p.evaluation_id where p.correct = 0 group by e.id order by e.id"
        ).fetchall()
        failures = read_failures(db, "tiny", split)
        lines = count_failures(failures)
        db.close()
    assert sorted((x.condition.evaluation_id, x.wrong, x.wrong) for x in lines) == wrong
    assert all(sum(line.counts.values()) == line.wrong and set(line.counts) == set(VERDICTS) for line in lines)
    assert all(f.verdict in VERDICTS and f.why for f in failures)
    for failure in failures:
        assert (failure.verdict == "no lookup") == (failure.condition.retriever == "none")
        blamed = failure.verdict in ("knowledge gap", "retriever failure", "student failure")
        assert not blamed or failure.groups  # nobody is blamed where it is not known what was needed


def write(case: Case, made: list[dict[str, Any]], split: str) -> None:
    """Write the drawn questions as rows."""
    case.passages("d1-0", "d1-1", "d2-0")
    for number, drawn in enumerate(made):
        q = case.question(f"q{number}", *drawn["evidence"], split=split)
        for sample, (accepted, hits) in enumerate(drawn["rationales"]):
            case.rationale(q, *hits, accepted=accepted, sample=sample)
        if drawn["found"] is not None:
            case.hits(q, *drawn["found"])
            if drawn["ranked"]:
                case.ranked(q, *reversed(drawn["found"]))
        for given_answer in drawn["answers"]:
            read = () if given_answer["retriever"] == "none" else given_answer["read"]
            case.answered(q, given_answer["retriever"], *read, answer=given_answer["answer"])
        if drawn["judged"] and drawn["found"]:
            judge(case.db, q, drawn["judged"], passage=drawn["found"][0])


def test_a_reranker_is_held_to_the_candidates_that_it_was_given(case: Case) -> None:
    q = case.question("q", "d1")
    case.hits(q, "x-0", "y-0", "z-0", "d1-0")
    case.ranked(q, "x-0", "y-0", "d1-0", "z-0")
    evaluation = case.answered(q, "reranker", "x-0", "y-0")
    assert verdict(case.db) == "retriever failure"
    case.write("update evaluations set kappa = 3 where id = ?", evaluation)
    assert verdict(case.db) == "knowledge gap"  # it stands fourth by BM25


@pytest.mark.parametrize("kind", ["fused", "dense", "hybrid"])
def test_other_retrievers_are_held_to_their_own_lists(case: Case, kind: RankingKind) -> None:
    q = case.question("q", "d1")
    case.hits(q, "d1-0")
    evaluation = case.answered(q, kind, "x-0")
    case.write("insert into retrievers values ('o', ?, '-', '-', null, '{}', '{}', 0, '-')", kind)
    case.write("update evaluations set retriever_id = 'o' where id = ?", evaluation)
    assert verdict(case.db) == "undetermined"
    case.write("insert into rankings values (1, 'o', ?, ?, 2, 0, '-')", case.INDEX, q)
    case.write("insert into ranked values (1, 1, 'x-0', 2.0)")
    assert verdict(case.db) == "knowledge gap"
    case.write("insert into ranked values (1, 2, 'd1-0', 1.0)")
    assert verdict(case.db) == "retriever failure"
    (ordered,) = trace(case.db, "q").lists(kind)
    assert [(p.passage_id, p.score, p.question_rank) for p in ordered.places] == [
        ("x-0", 2.0, None),
        ("d1-0", 1.0, 1),
    ]
