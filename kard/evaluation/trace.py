"""One question with everything that happened to it: explained, searched, ranked, read, answered, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, cast

from kard.db import batches, marks, rows
from kard.evaluation.failures import FailureCounts, Known, condition_of, known_of, read_of
from kard.evaluation.find_question import find_question
from kard.evaluation.judgements import Judgement, judgements
from kard.evaluation.labels import variants
from kard.evaluation.verdicts import Need, Needed, Verdict
from kard.questions import question_of
from kard.records import Passage, Question, Sample

if TYPE_CHECKING:
    from sqlite_utils import Database

Kind = Literal["question", "rationale", "reranker", "fused", "dense", "hybrid"]


@dataclass(frozen=True, slots=True)
class Place:
    """A passage in a list. Scores compare only within one list."""

    passage_id: str
    rank: int  # 1 is best
    bm25: float | None  # BM25(query, passage): of the question, in its own and in a reranker's list
    score: float | None  # the reranker's, or the other retriever's
    question_rank: int | None  # rank in the question's own list, None when it is not there


@dataclass(frozen=True, slots=True)
class Ranking:
    """A list of passages for the question: by its own words, by a rationale's, or in another retriever's order."""

    kind: Kind
    index_id: str
    rationale_id: int | None
    reranker_id: str | None
    retriever_id: str | None  # of a fused, dense or hybrid order
    depth: int  # passages asked for by the query
    places: tuple[Place, ...]  # best first

    def rank_of(self, passage_id: str) -> int | None:
        """Where a passage stands, None when it is not in the list."""
        return next((p.rank for p in self.places if p.passage_id == passage_id), None)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A teacher's rationale. `trained` when a student or reranker may have learned from it."""

    id: int
    teacher: str
    sample: int
    text: str
    conclusion: str | None  # the letter that it ends on
    accepted: bool
    trained: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """What a student made of the question under one condition. `verdict` is None for a right answer."""

    condition: FailureCounts
    passages: tuple[str, ...]  # ids, in the order of the prompt
    samples: tuple[Sample, ...]
    votes: int  # samples that agree with `answer`
    answer: str | None  # a letter, None when no sample could be read
    correct: bool
    verdict: Verdict | None
    why: str  # the reason for the verdict, '' without one
    need: Need  # what the question needs, on this condition's index


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that the store holds of one question. Lists of the newest index come first."""

    id: int
    task: str
    question: Question
    rationales: tuple[Explanation, ...]
    rankings: tuple[Ranking, ...]
    answers: tuple[Answered, ...]  # in the order of the paper's table
    judgements: tuple[Judgement, ...]  # oldest first
    needs: Mapping[str, Need]  # by index: what the question needs on it
    passages: Mapping[str, Passage]  # by id: every passage of a list, of a prompt, of the evidence

    @property
    def needed(self) -> frozenset[str]:
        """Ids of the passages that a right answer rests on, on any index."""
        return frozenset[str]().union(*(need.passages for need in self.needs.values()))

    @property
    def indexes(self) -> tuple[str, ...]:
        """The indexes that it was searched on, newest first."""
        return tuple(dict.fromkeys(r.index_id for r in self.rankings))

    def lists(self, kind: Kind, index_id: str | None = None) -> tuple[Ranking, ...]:
        """The lists of one kind: on one index or on all."""
        return tuple(r for r in self.rankings if r.kind == kind and index_id in (None, r.index_id))


def trace(db: Database, question: str | int, *, task: str | None = None, needed: Needed = "all") -> Trace:
    """The trace of the question with that key in its file, or that row id. Raises BadInput when there is none."""
    key = find_question(db, question, task)
    row = rows(db, "internal/question", question=key)[0]
    name, split = str(row["task"]), str(row["split"])
    known = known_of(db, name, split, key)
    rankings = _rankings(db, key)
    answers = _answers(db, name, split, key, known, needed)
    found = {r.index_id for r in rankings} | {a.condition.index_id or "" for a in answers} - {""}
    needs = {index: known.need(key, index) for index in sorted(found)} or {"": known.need(key, None)}
    wanted = {place.passage_id for ranking in rankings for place in ranking.places}
    wanted.update(*(a.passages for a in answers), *(need.passages for need in needs.values()))
    judged = judgements(db, question_id=key)
    wanted.update(j.passage_id for j in judged if j.passage_id)
    return Trace(
        id=key,
        task=name,
        question=question_of(row),
        rationales=tuple(
            Explanation(
                id=cast(int, r["id"]),
                teacher=str(r["teacher"]),
                sample=cast(int, r["sample"]),
                text=str(r["text"]),
                conclusion=cast("str | None", r["conclusion"]),
                accepted=bool(r["accepted"]),
                trained=bool(r["trained"]),
            )
            for r in rows(db, "internal/rationales", task=name, split=split, question=key)
        ),
        rankings=rankings,
        answers=answers,
        judgements=tuple(judged),
        needs=needs,
        passages=_passages(db, sorted(wanted)),
    )


def _rankings(db: Database, question_id: int) -> tuple[Ranking, ...]:
    made = ("kind", "index_id", "rationale_id", "reranker_id", "retriever_id", "depth")
    names = ("passage_id", "rank", "bm25", "score", "question_rank")

    def of(row: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        return tuple((name, row[name]) for name in made)

    def place(row: Mapping[str, Any]) -> Place:
        return Place(**{name: row[name] for name in names})

    found = groupby(rows(db, "internal/lists_of_question", question=question_id), of)
    return tuple(Ranking(**dict(key), places=tuple(place(row) for row in some)) for key, some in found)


def _answers(
    db: Database, task: str, split: str, question_id: int, known: Known, needed: Needed
) -> tuple[Answered, ...]:
    samples: dict[int, list[Sample]] = {}
    for row in cast("list[dict[str, Any]]", rows(db, "internal/samples_of_question", question=question_id)):
        samples.setdefault(row["prediction_id"], []).append(
            Sample(row["text"], row["answer"], bool(row["forced"]), row["prompt_tokens"], row["completion_tokens"])
        )
    labels = variants(rows(db, "internal/condition_settings", task=task, split=split))
    found: list[Answered] = []
    given = rows(db, "answers", task=task, split=split, question=question_id)
    for row in cast("list[dict[str, Any]]", given):
        condition, read = condition_of(row, labels), read_of(row)
        verdict, why, need = known.explain(condition, question_id, read, needed)
        found.append(
            Answered(
                condition=condition,
                passages=read,
                samples=tuple(samples.get(row["id"], ())),
                votes=row["votes"],
                answer=row["answer"],
                correct=bool(row["correct"]),
                verdict=None if row["correct"] else verdict,
                why="" if row["correct"] else why,
                need=need,
            )
        )
    return tuple(sorted(found, key=lambda answered: answered.condition.place))


def _passages(db: Database, ids: Sequence[str]) -> dict[str, Passage]:
    found: dict[str, Passage] = {}
    for some in batches(ids):
        query = f"select id, document, part, title, text from passages where id in ({marks(some)})"
        found.update((str(row[0]), Passage(*row)) for row in db.execute(query, list(some)))
    return found
