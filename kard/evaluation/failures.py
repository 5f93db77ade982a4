"""The verdicts on every wrong answer of a split, and how often each falls under each condition."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from kard.config import RANKED
from kard.db import rows
from kard.evaluation.labels import variants
from kard.evaluation.report import place
from kard.evaluation.verdicts import SILVER, VERDICTS, Basis, Explained, Facts, Need, Needed, Verdict, verdict_of

if TYPE_CHECKING:
    from sqlite_utils import Database

REORDERED = ("reranker", "shuffled")  # BM25's candidates in a reranker's order


@dataclass(frozen=True, slots=True)
class FailureCounts:
    """A row of `evaluations` with its student: who answered, what it read."""

    evaluation_id: int
    size: str
    method: str
    seed: int
    retriever: str
    k: int  # passages in the prompt
    index_id: str | None
    reranker_id: str | None
    retriever_id: str | None = None  # of a fused, dense or hybrid order
    kappa: int | None = None  # candidates by BM25 that the reranker ordered, None for the task's own number
    variant: str = ""  # what else tells it from conditions of its size, method and retriever

    @property
    def name(self) -> str:
        """As people call it: `135m kard, reranker k=3, seed 1`."""
        return f"{self.label}, seed {self.seed}"

    @property
    def label(self) -> str:
        """The name without its seed, for tables where every condition has the same one."""
        words = self.variant.split()
        if self.retriever != "none" and not any(word.startswith("k=") for word in words):
            words.insert(0, f"k={self.k}")
        reads = self.retriever if self.retriever != "none" else "no passages"
        return f"{self.size} {self.method}, {' '.join([reads, *words])}"

    @property
    def place(self) -> tuple[object, ...]:
        """Where it stands in tables: by size, method and retriever, in the order of the paper's table."""
        rest = (self.variant, self.k, self.seed, self.evaluation_id)
        return (place(self.size, self.method, self.retriever), *rest)


@dataclass(frozen=True, slots=True)
class Failure:
    """A wrong answer and its verdict. `answer` is None when none could be read from what the student wrote."""

    condition: FailureCounts
    question_id: int
    key: str
    kind: str
    gold: str
    answer: str | None
    verdict: Verdict
    why: str
    basis: Basis
    groups: int  # of alternatives that the question needs one each of; 0 when that is not known
    judged: bool  # a person has judged a passage or rationale of the question


@dataclass(frozen=True, slots=True)
class Known:
    """What verdicts rest on, for the questions of a split or for one of them."""

    facts: Mapping[int, Facts]  # by question
    candidates: Mapping[tuple[int, str, str], Mapping[str, int | None]]  # by question, index, list: BM25 ranks
    searched: Mapping[tuple[int, str], int]  # by question and index: the rationale that `silver` searched with
    judged: frozenset[int]  # questions that a person judged something of

    def need(self, question_id: int, index_id: str | None) -> Need:
        """What a question needs, on an index."""
        return self.facts[question_id].need(index_id) if question_id in self.facts else _NOTHING.need(index_id)

    def explain(
        self, condition: FailureCounts, question_id: int, read: Sequence[str], needed: Needed = "all"
    ) -> tuple[Verdict, str, Need]:
        """The verdict on a wrong answer under a condition, why, and what the question needs there."""
        need = self.need(question_id, condition.index_id)
        verdict, why = verdict_of(
            condition.retriever,
            need,
            read,
            self._candidates(condition, question_id),
            misled=condition.retriever == "silver" and self._misled(condition, question_id),
            needed=needed,
        )
        return verdict, why, need

    def _candidates(self, condition: FailureCounts, question_id: int) -> frozenset[str] | None:
        """What the condition's retriever could choose from; None for one that is not known here."""
        lists = {
            "bm25": "question",
            "silver": "rationale",
            **dict.fromkeys(REORDERED, condition.reranker_id),
            **dict.fromkeys(RANKED, condition.retriever_id),
        }
        name = lists.get(condition.retriever)
        found = self.candidates.get((question_id, condition.index_id or "", name or ""))
        if found is None or condition.kappa is None or condition.retriever not in REORDERED:
            return None if found is None else frozenset(found)
        return frozenset(p for p, rank in found.items() if rank is not None and rank <= condition.kappa)

    def _misled(self, condition: FailureCounts, question_id: int) -> bool:
        rationale = self.searched.get((question_id, condition.index_id or ""))
        known = self.facts.get(question_id, _NOTHING).rationales
        return any(r.id == rationale and not r.accepted for r in known)


_NOTHING = Facts({}, (), {})


def verdicts(db: Database, task: str, split: str, *, needed: Needed = "all", judged: bool = False) -> list[Failure]:
    """Every wrong answer of a split with its verdict, by condition and question.

    With `judged`, only those to questions of which a person judged a passage or a rationale.
    """
    known = known_of(db, task, split)
    labels = variants(rows(db, "internal/condition_settings", task=task, split=split))
    found: list[Failure] = []
    for row in rows(db, "answers", task=task, split=split, question=None):
        question_id = cast(int, row["question_id"])
        if row["correct"] or (judged and question_id not in known.judged):
            continue
        condition = condition_of(row, labels)
        verdict, why, need = known.explain(condition, question_id, read_of(row), needed)
        found.append(
            Failure(
                condition=condition,
                question_id=question_id,
                key=str(row["key"]),
                kind=str(row["kind"]),
                gold=str(row["gold"]),
                answer=cast("str | None", row["answer"]),
                verdict=verdict,
                why=why,
                basis=need.basis,
                groups=len(need.groups),
                judged=question_id in known.judged,
            )
        )
    return sorted(found, key=lambda failure: (*failure.condition.place, failure.question_id))


def cramped(found: Iterable[Failure]) -> str:
    """A warning that every evidence document was asked for where fewer passages were read; '' where none is due."""
    count = sum(f.basis == "evidence" and f.groups > f.condition.k > 0 for f in found)
    if not count:
        return ""
    return (
        f"{count} wrong answers are to questions with more evidence documents than passages were read; "
        "where documents are alternatives, --needed any asks for one"
    )


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A line of the table: how often each verdict fell on a condition's wrong answers, with some question keys."""

    condition: FailureCounts
    counts: Mapping[Verdict, int]  # every verdict, 0 where it never fell
    examples: Mapping[Verdict, Sequence[str]]

    @property
    def wrong(self) -> int:
        """The condition's wrong answers: each has one verdict."""
        return sum(self.counts.values())


def tally(failures: Iterable[Failure], examples: int = 3) -> list[FailureRow]:
    """A line for each condition, in the order of the paper's table."""
    groups: dict[FailureCounts, list[Failure]] = defaultdict(list)
    for failure in failures:
        groups[failure.condition].append(failure)
    return [_line(condition, groups[condition], examples) for condition in sorted(groups, key=lambda c: c.place)]


def _line(condition: FailureCounts, failures: Sequence[Failure], examples: int) -> FailureRow:
    keys: dict[Verdict, list[str]] = {verdict: [] for verdict in VERDICTS}
    for failure in failures:
        keys[failure.verdict].append(failure.key)
    counts: dict[Verdict, int] = {verdict: len(of) for verdict, of in keys.items()}
    return FailureRow(condition, counts, {verdict: of[:examples] for verdict, of in keys.items()})


def known_of(db: Database, task: str, split: str, question_id: int | None = None) -> Known:
    """What the store knows of a split's questions, or of one of them."""
    values: dict[str, object] = {"task": task, "split": split, "question": question_id}
    documents: dict[int, dict[str, set[str]]] = defaultdict(dict)
    for row in rows(db, "internal/gold_documents", **values):
        of = documents[cast(int, row["question_id"])].setdefault(str(row["document"]), set())
        if row["passage_id"] is not None:
            of.add(str(row["passage_id"]))
    passages: dict[int, dict[str, str]] = defaultdict(dict)
    words: dict[int, str] = {}
    for row in rows(db, "internal/judgements", **values):  # the latest word stands
        if row["passage_id"] is not None:
            passages[cast(int, row["question_id"])][str(row["passage_id"])] = str(row["verdict"])
        else:
            words[cast(int, row["rationale_id"])] = str(row["verdict"])
            passages.setdefault(cast(int, row["question_id"]), {})
    rationales: dict[int, list[Explained]] = defaultdict(list)
    for row in rows(db, "internal/rationales", **values):
        key = cast(int, row["id"])
        accepted = words[key] == "good" if key in words else bool(row["accepted"])
        rationales[cast(int, row["question_id"])].append(Explained(key, accepted, bool(row["trained"])))
    silver: dict[int, dict[tuple[str, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows(db, "internal/silver_passages", **values, silver=SILVER):
        of_index = (str(row["index_id"]), cast(int, row["rationale_id"]))
        silver[cast(int, row["question_id"])][of_index].append(str(row["passage_id"]))
    facts = {
        key: Facts(
            documents={name: frozenset(of) for name, of in documents.get(key, {}).items()},
            rationales=rationales.get(key, ()),
            silver=silver.get(key, {}),
            good=frozenset(p for p, word in passages.get(key, {}).items() if word == "good"),
            bad=frozenset(p for p, word in passages.get(key, {}).items() if word == "bad"),
        )
        for key in {*documents, *rationales, *passages}
    }
    return Known(facts, *_candidates(db, values), judged=frozenset(passages))


def _candidates(
    db: Database, values: Mapping[str, object]
) -> tuple[dict[tuple[int, str, str], dict[str, int | None]], dict[tuple[int, str], int]]:
    found: dict[tuple[int, str, str], dict[str, int | None]] = defaultdict(dict)
    searched: dict[tuple[int, str], int] = {}
    for row in rows(db, "internal/candidate_passages", **values):
        question, index = cast(int, row["question_id"]), str(row["index_id"])
        of_list = found[question, index, str(row["list"])]
        of_list[str(row["passage_id"])] = cast("int | None", row["bm25_rank"])
        if row["rationale_id"] is not None:
            searched[question, index] = cast(int, row["rationale_id"])
    return dict(found), searched


def condition_of(row: Mapping[str, object], labels: Mapping[int, str]) -> FailureCounts:
    """The condition of a row of the query `answers`; `labels` are those of `kard.evaluation.labels`."""
    names = ("evaluation_id", "size", "method", "seed", "retriever", "k", "index_id", "reranker_id", "retriever_id")
    label = labels.get(cast(int, row["evaluation_id"]), "")
    values = {name: row[name] for name in (*names, "kappa")}
    return FailureCounts(**values, variant=label)  # type: ignore[arg-type]  # columns are typed


def read_of(row: Mapping[str, object]) -> tuple[str, ...]:
    """The passages of such a row, in the order of the prompt."""
    return tuple(json.loads(str(row["passages"])))
