"""Why wrong answers are wrong: the verdict on each, and the counts of each verdict by condition.

The paper analyses thirty wrong answers by hand. Here stored rows decide. A wrong answer gets the first of these
verdicts that holds:

    no lookup          the condition reads nothing
    teacher error      only a rationale could tell what is needed, and none of the question's was accepted
    undetermined       it is not known what the question needs
    student failure    what it needs was read
    teacher error      (retriever `silver`) the passages were found with a rationale that was not accepted
    undetermined       the passages to choose from are not in the store
    retriever failure  what it needs was among the passages to choose from, and was not read
    knowledge gap      what it needs was not among them

A question *needs* its gold evidence if the data name it: a passage of each document, or with `evidence="any"` of
one of them. Otherwise it needs one of the first SILVER_DEPTH passages of its first accepted rationale that
nothing was trained on, or one that a person judged good, but none that a person judged bad. A person's judgement
of a rationale overrides its parsed conclusion. Every rationale of the split `train` that some rule of acceptance
accepts counts as trained on.

The passages to choose from are the list that the condition's retriever ordered: the hits of the question, or for
`silver` those of the rationale. `shuffled` is held to the question's own list.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from kard.config import SILVER_DEPTH
from kard.db import rows
from kard.evaluation.condition_names import ConditionInfo, read_labels
from kard.methods import RANKED

if TYPE_CHECKING:
    from sqlite_utils import Database

REORDERED = ("reranker", "shuffled")  # retrievers that choose from BM25's candidates

NOTHING_KNOWN = "neither evidence nor a rationale"  # says what a question needs

CandidateRanks = Mapping[str, int | None]  # by passage: its rank by BM25, None where BM25 did not find it

Verdict = Literal[
    "knowledge gap", "retriever failure", "student failure", "teacher error", "undetermined", "no lookup"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Basis = Literal["evidence", "silver", "judged", "wrong rationale", "unknown"]
EvidenceRule = Literal["all", "any"]  # how many of a question's evidence documents it needs


@dataclass(frozen=True, slots=True)
class NeededPassages:
    """What a right answer rests on: one passage of every group."""

    basis: Basis
    groups: tuple[frozenset[str], ...]  # of passage ids; () if it is not known
    why: str  # how it is known, or why it is not

    @property
    def passages(self) -> frozenset[str]:
        """Return every passage of any group."""
        return frozenset().union(*self.groups)

    def held_by(self, passages: Collection[str]) -> int:
        """Return the number of groups with a passage among these."""
        return sum(not group.isdisjoint(passages) for group in self.groups)

    def met_by(self, passages: Collection[str], evidence: EvidenceRule = "all") -> bool:
        """Return whether these passages hold what is needed; False if that is not known."""
        held = self.held_by(passages)
        return held > 0 and (evidence == "any" or held == len(self.groups))


@dataclass(frozen=True, slots=True)
class RationaleFacts:
    """What decides whether a rationale can say what its question needs."""

    id: int
    accepted: bool  # it concludes on the gold answer, or a person judged it good
    trained: bool  # a student or reranker may have learned from it


@dataclass(frozen=True, slots=True)
class QuestionFacts:
    """What the store knows of a question, whoever answers it."""

    documents: Mapping[str, frozenset[str]]  # by gold document: its passages
    rationales: Sequence[RationaleFacts]  # by id
    silver: Mapping[tuple[str, int], Sequence[str]]  # by index and rationale: its first passages
    good: frozenset[str] = frozenset()  # passages that a person judged good
    bad: frozenset[str] = frozenset()

    def needed(self, index_id: str | None) -> NeededPassages:
        """Return what the question needs, as far as it is known on an index."""
        if self.documents:
            count = len(self.documents)
            why = f"{count} gold document{'s' * (count > 1)}"
            return NeededPassages("evidence", tuple(self.documents.values()), why)
        usable = [r for r in self.rationales if r.accepted and not r.trained]
        rationale = next((r for r in usable if index_id and (index_id, r.id) in self.silver), None)
        silver = self.silver[index_id, rationale.id] if rationale and index_id else ()
        group = (frozenset(silver) | self.good) - self.bad
        if group and rationale and not group <= self.good:
            why = f"no evidence; the first {SILVER_DEPTH} passages of rationale {rationale.id}"
            return NeededPassages("silver", (group,), why)
        if group:
            return NeededPassages("judged", (group,), "no evidence; passages that a person judged good")
        if rationale:
            return NeededPassages("unknown", (), f"a person judged the passages of rationale {rationale.id} bad")
        if usable:
            why = f"rationale {usable[0].id} found nothing, or was not searched with"
            return NeededPassages("unknown", (), why)
        if any(r.accepted for r in self.rationales):
            return NeededPassages("unknown", (), "no evidence, and its rationales may have been trained on")
        if self.rationales:
            return NeededPassages("wrong rationale", (), "no evidence, and none of its rationales was accepted")
        return NeededPassages("unknown", (), NOTHING_KNOWN)


def verdict_of(
    retriever: str,
    needed: NeededPassages,
    read: Collection[str],
    candidates: Collection[str] | None,
    *,
    misled: bool = False,
    evidence: EvidenceRule = "all",
) -> tuple[Verdict, str]:
    """Return the verdict on a wrong answer and the reason for it in a few words.

    `read` are the ids of the passages in the prompt, `candidates` those to choose from (None if they are not in the
    store). `misled` says that the passages were found with a rationale that was not accepted, or that a
    person judged bad.
    """
    if retriever == "none":
        return "no lookup", "reads no passages"
    if needed.basis == "wrong rationale":
        return "teacher error", needed.why
    if needed.basis == "unknown":
        return "undetermined", needed.why
    if needed.met_by(read, evidence):
        return "student failure", f"what it needs was read ({needed.why})"
    if misled:
        return "teacher error", "searched with a rationale that was not accepted"
    if candidates is None:
        return "undetermined", f"the store does not hold the passages that {retriever} chose from"
    available = {*candidates, *read}
    why = f"{needed.held_by(available)} of {len(needed.groups)} needed among the candidates"
    if needed.met_by(available, evidence):
        return "retriever failure", f"{why}, {needed.held_by(read)} read"
    return "knowledge gap", why


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
    silver_rationales: Mapping[tuple[int, str], int]  # by question and list: the rationale that found it
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
            "silver": f"silver {condition.evaluation_id}",
            **dict.fromkeys(REORDERED, condition.reranker_id or "question"),  # a control without one follows BM25
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
        rationale = self.silver_rationales.get((question_id, f"silver {condition.evaluation_id}"))
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
    for row in rows(db, "internal/silver_passages", **parameters):
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
            silver_rationales[question, row["list"]] = row["rationale_id"]
    return VerdictFacts(questions, dict(candidates), silver_rationales, frozenset(judged_passages))
