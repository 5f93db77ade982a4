"""The verdict on every wrong answer of a split, and the counts of each verdict by condition."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kard.config import RANKED, SILVER_DEPTH
from kard.db import rows
from kard.evaluation.condition_names import read_labels, table_order
from kard.evaluation.verdicts import (
    VERDICTS,
    Basis,
    EvidenceRule,
    NeededPassages,
    QuestionFacts,
    RationaleFacts,
    Verdict,
    verdict_of,
)

if TYPE_CHECKING:
    from sqlite_utils import Database

REORDERED = ("reranker", "shuffled")  # retrievers that choose from BM25's candidates

CandidateRanks = Mapping[str, int | None]  # by passage: its rank by BM25, None where BM25 did not find it


@dataclass(frozen=True, slots=True)
class ConditionInfo:
    """A stored condition: a row of `evaluations` with its student and its label."""

    evaluation_id: int
    size: str
    method: str
    seed: int
    retriever: str
    k: int  # passages in the prompt
    index_id: str | None
    reranker_id: str | None
    retriever_id: str | None = None  # of a fused, dense or hybrid retriever
    kappa: int | None = None  # candidates that the reranker ordered; None for the task's own number
    variant: str = ""  # what else tells it from conditions of its size, method and retriever

    @classmethod
    def of(cls, row: Mapping[str, Any], labels: Mapping[int, str]) -> ConditionInfo:
        """Return the condition of a row of the query `answers`; `labels` are by evaluation id."""
        return cls(
            **{name: row[name] for name in cls.__slots__ if name != "variant"},
            variant=labels.get(row["evaluation_id"], ""),
        )

    @property
    def name(self) -> str:
        """Return what people call it: `135m kard, reranker k=3, seed 1`."""
        return f"{self.label}, seed {self.seed}"

    @property
    def label(self) -> str:
        """Return the name without its seed, for tables where all conditions have the same seed."""
        words = self.variant.split()
        if self.retriever != "none" and not any(word.startswith("k=") for word in words):
            words.insert(0, f"k={self.k}")
        reads = self.retriever if self.retriever != "none" else "no passages"
        return f"{self.size} {self.method}, {' '.join([reads, *words])}"

    @property
    def order(self) -> tuple[object, ...]:
        """Return the sort key in tables: size, method and retriever as in the paper's table, then the rest."""
        rest = (self.variant, self.k, self.seed, self.evaluation_id)
        return (table_order(self.size, self.method, self.retriever), *rest)


@dataclass(frozen=True, slots=True)
class Failure:
    """A wrong answer and its verdict."""

    condition: ConditionInfo
    question_id: int
    key: str
    kind: str
    gold: str
    answer: str | None  # None if the student's text could not be read
    verdict: Verdict
    why: str
    basis: Basis
    groups: int  # of alternative passages, one of each of which is needed; 0 if that is not known
    judged: bool  # a person judged a passage or rationale of the question


@dataclass(frozen=True, slots=True)
class FailureRow:
    """The wrong answers of a condition, counted by verdict, with some question keys for each verdict."""

    condition: ConditionInfo
    counts: Mapping[Verdict, int]  # of every verdict, 0 included
    examples: Mapping[Verdict, Sequence[str]]

    @property
    def wrong(self) -> int:
        """Return the number of wrong answers; each has exactly one verdict."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class VerdictFacts:
    """What verdicts rest on, for the questions of a split or for one of them."""

    questions: Mapping[int, QuestionFacts]
    candidates: Mapping[tuple[int, str, str], CandidateRanks]  # by question, index and list
    silver_rationales: Mapping[tuple[int, str], int]  # by question and index: the rationale that `silver` uses
    judged: frozenset[int]  # questions of which a person judged a passage or rationale

    def needed(self, question_id: int, index_id: str | None) -> NeededPassages:
        """Return what a question needs on an index."""
        return self.questions.get(question_id, _UNKNOWN).needed(index_id)

    def explain(
        self, condition: ConditionInfo, question_id: int, read: Sequence[str], evidence: EvidenceRule = "all"
    ) -> tuple[Verdict, str, NeededPassages]:
        """Return the verdict on a wrong answer, the reason, and what the question needs."""
        needed = self.needed(question_id, condition.index_id)
        verdict, why = verdict_of(
            condition.retriever,
            needed,
            read,
            self._candidates(condition, question_id),
            misled=condition.retriever == "silver" and self._misled(condition, question_id),
            evidence=evidence,
        )
        return verdict, why, needed

    def _candidates(self, condition: ConditionInfo, question_id: int) -> frozenset[str] | None:
        """Return the passages that the condition's retriever chose from, None if they are not stored."""
        lists = {
            "bm25": "question",
            "silver": "rationale",
            **dict.fromkeys(REORDERED, condition.reranker_id),
            **dict.fromkeys(RANKED, condition.retriever_id),
        }
        name = lists.get(condition.retriever)
        ranks = self.candidates.get((question_id, condition.index_id or "", name or ""))
        if ranks is None:
            return None
        if condition.kappa is None or condition.retriever not in REORDERED:
            return frozenset(ranks)
        return frozenset(p for p, rank in ranks.items() if rank is not None and rank <= condition.kappa)

    def _misled(self, condition: ConditionInfo, question_id: int) -> bool:
        rationale = self.silver_rationales.get((question_id, condition.index_id or ""))
        rationales = self.questions.get(question_id, _UNKNOWN).rationales
        return any(r.id == rationale and not r.accepted for r in rationales)


_UNKNOWN = QuestionFacts({}, (), {})


def read_failures(
    db: Database, task: str, split: str, *, evidence: EvidenceRule = "all", judged: bool = False
) -> list[Failure]:
    """Return every wrong answer of a split with its verdict, by condition and question.

    With `judged`, only answers to questions of which a person judged a passage or rationale.
    """
    facts = read_verdict_facts(db, task, split)
    labels = read_labels(db, task, split)
    failures: list[Failure] = []
    for row in rows(db, "answers", task=task, split=split, question=None):
        question_id = row["question_id"]
        if row["correct"] or (judged and question_id not in facts.judged):
            continue
        condition = ConditionInfo.of(row, labels)
        verdict, why, needed = facts.explain(condition, question_id, json.loads(row["passages"]), evidence)
        failures.append(
            Failure(
                condition=condition,
                question_id=question_id,
                key=row["key"],
                kind=row["kind"],
                gold=row["gold"],
                answer=row["answer"],
                verdict=verdict,
                why=why,
                basis=needed.basis,
                groups=len(needed.groups),
                judged=question_id in facts.judged,
            )
        )
    return sorted(failures, key=lambda failure: (*failure.condition.order, failure.question_id))


def count_failures(failures: Iterable[Failure], examples: int = 3) -> list[FailureRow]:
    """Return a row for each condition, in the order of the paper's table, with `examples` keys per verdict."""
    groups: dict[ConditionInfo, list[Failure]] = defaultdict(list)
    for failure in failures:
        groups[failure.condition].append(failure)
    report: list[FailureRow] = []
    for condition in sorted(groups, key=lambda condition: condition.order):
        keys: dict[Verdict, list[str]] = {verdict: [] for verdict in VERDICTS}
        for failure in groups[condition]:
            keys[failure.verdict].append(failure.key)
        counts: dict[Verdict, int] = {verdict: len(of_verdict) for verdict, of_verdict in keys.items()}
        report.append(FailureRow(condition, counts, {v: of_verdict[:examples] for v, of_verdict in keys.items()}))
    return report


def evidence_warning(failures: Iterable[Failure]) -> str:
    """Return a warning if questions have more evidence documents than passages were read, '' otherwise."""
    count = sum(f.basis == "evidence" and f.groups > f.condition.k > 0 for f in failures)
    if not count:
        return ""
    return (
        f"{count} wrong answers are to questions with more evidence documents than passages were read; "
        "where documents are alternatives, --needed any asks for one"
    )


def read_verdict_facts(db: Database, task: str, split: str, question_id: int | None = None) -> VerdictFacts:
    """Return what verdicts on a split's questions, or on one question, rest on."""
    parameters: dict[str, object] = {"task": task, "split": split, "question": question_id}
    documents: dict[int, dict[str, set[str]]] = defaultdict(dict)
    for row in rows(db, "internal/gold_documents", **parameters):
        passages = documents[row["question_id"]].setdefault(row["document"], set())
        if row["passage_id"] is not None:
            passages.add(row["passage_id"])
    judged_passages: dict[int, dict[str, str]] = defaultdict(dict)
    judged_rationales: dict[int, str] = {}
    for row in rows(db, "internal/judgements", **parameters):  # oldest first: the latest judgement holds
        of_question = judged_passages[row["question_id"]]
        if row["passage_id"] is not None:
            of_question[row["passage_id"]] = row["verdict"]
        else:
            judged_rationales[row["rationale_id"]] = row["verdict"]
    rationales: dict[int, list[RationaleFacts]] = defaultdict(list)
    for row in rows(db, "internal/rationales", **parameters):
        judgement = judged_rationales.get(row["id"])
        accepted = bool(row["accepted"]) if judgement is None else judgement == "good"
        rationales[row["question_id"]].append(RationaleFacts(row["id"], accepted, bool(row["trained"])))
    silver: dict[int, dict[tuple[str, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows(db, "internal/silver_passages", **parameters, silver=SILVER_DEPTH):
        silver[row["question_id"]][row["index_id"], row["rationale_id"]].append(row["passage_id"])
    questions = {
        id: QuestionFacts(
            documents={document: frozenset(passages) for document, passages in documents.get(id, {}).items()},
            rationales=rationales.get(id, ()),
            silver=silver.get(id, {}),
            good=frozenset(p for p, word in judged_passages.get(id, {}).items() if word == "good"),
            bad=frozenset(p for p, word in judged_passages.get(id, {}).items() if word == "bad"),
        )
        for id in {*documents, *rationales, *judged_passages}
    }
    candidates: dict[tuple[int, str, str], dict[str, int | None]] = defaultdict(dict)
    silver_rationales: dict[tuple[int, str], int] = {}
    for row in rows(db, "internal/candidate_passages", **parameters):
        question, index = row["question_id"], row["index_id"]
        candidates[question, index, row["list"]][row["passage_id"]] = row["bm25_rank"]
        if row["rationale_id"] is not None:
            silver_rationales[question, index] = row["rationale_id"]
    return VerdictFacts(questions, dict(candidates), silver_rationales, frozenset(judged_passages))
