"""Everything that the store holds of one question: rationales, rankings, answers, verdicts, judgements."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from kard.db import rows
from kard.errors import BadInput
from kard.evaluation.condition_names import ConditionInfo, read_labels
from kard.evaluation.failures import EvidenceRule, NeededPassages, Verdict, VerdictFacts, read_verdict_facts
from kard.evaluation.judgements import Judgement, judgements
from kard.passages import read_passages
from kard.questions import question_of
from kard.records import Passage, Question, Sample

if TYPE_CHECKING:
    from sqlite_utils import Database

RankingKind = Literal["question", "rationale", "reranker", "fused", "dense", "hybrid"]
ROW = "id:"  # prefix of a row id, needed where another question has that number as its key


@dataclass(frozen=True, slots=True)
class TracedPassage:
    """A passage of a ranking. Scores are comparable only within one ranking."""

    passage_id: str
    rank: int  # 1 is best
    bm25: float | None  # BM25(query, passage); in a reranker's list, of the question
    score: float | None  # the reranker's, or the other retriever's
    question_rank: int | None  # rank in the question's own list, None if it is not there


@dataclass(frozen=True, slots=True)
class TracedRanking:
    """Passages ranked for the question: by its own words, by a rationale's, or by another retriever."""

    kind: RankingKind
    index_id: str
    rationale_id: int | None
    reranker_id: str | None
    retriever_id: str | None  # of a fused, dense or hybrid ranking
    depth: int  # passages that were asked for
    places: tuple[TracedPassage, ...]  # best first

    def rank_of(self, passage_id: str) -> int | None:
        """Return the rank of a passage, None if it is not in the ranking."""
        return next((p.rank for p in self.places if p.passage_id == passage_id), None)


@dataclass(frozen=True, slots=True)
class TracedRationale:
    """A teacher's rationale for the question."""

    id: int
    teacher: str
    sample: int
    text: str
    conclusion: str | None  # the letter or short answer that it ends on
    accepted: bool
    trained: bool  # a student or reranker may have learned from it


@dataclass(frozen=True, slots=True)
class TracedAnswer:
    """What a student answered under one condition."""

    condition: ConditionInfo
    passages: tuple[str, ...]  # ids, in the order of the prompt
    samples: tuple[Sample, ...]
    votes: int  # samples that agree with `answer`
    answer: str | None  # a letter or short answer, None if no sample could be read
    correct: bool
    verdict: Verdict | None  # None for a right answer
    why: str  # the reason for the verdict, '' without one
    need: NeededPassages  # what the question needs on this condition's index


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that the store holds of one question. Rankings on the newest index come first."""

    id: int
    task: str
    question: Question
    rationales: tuple[TracedRationale, ...]
    rankings: tuple[TracedRanking, ...]
    answers: tuple[TracedAnswer, ...]  # in the order of the paper's table
    judgements: tuple[Judgement, ...]  # oldest first
    needs: Mapping[str, NeededPassages]  # by index: what the question needs on it
    passages: Mapping[str, Passage]  # by id: every passage of a ranking, a prompt, the evidence or a judgement

    @property
    def needed(self) -> frozenset[str]:
        """Return the ids of the passages that a right answer rests on, on any index."""
        return frozenset[str]().union(*(need.passages for need in self.needs.values()))

    @property
    def indexes(self) -> tuple[str, ...]:
        """Return the indexes that were searched, newest first."""
        return tuple(dict.fromkeys(ranking.index_id for ranking in self.rankings))

    def lists(self, kind: RankingKind, index_id: str | None = None) -> tuple[TracedRanking, ...]:
        """Return the rankings of one kind, on one index or on all."""
        return tuple(r for r in self.rankings if r.kind == kind and index_id in (None, r.index_id))

    def answers_under(self, words: Collection[str]) -> list[TracedAnswer]:
        """Return the answers under the conditions that the words name: `kard,bm25,reranker` is kard with either.

        Raises BadInput for a word that names no size, method or retriever.
        """
        names = [(a.condition.size, a.condition.method, a.condition.retriever) for a in self.answers]
        kinds = [set(kind) for kind in zip(*names, strict=True)]  # all sizes, all methods, all retrievers
        for word in words:
            if not any(word in kind for kind in kinds):
                choices = ", ".join(dict.fromkeys(name for kind in kinds for name in sorted(kind)))
                raise BadInput(f"no condition {word!r}; this question was answered under {choices or 'none'}")
        allowed = [kind & set(words) or kind for kind in kinds]
        return [
            answer
            for answer, parts in zip(self.answers, names, strict=True)
            if all(part in kind for part, kind in zip(parts, allowed, strict=True))
        ]


def trace(db: Database, question: str | int, *, task: str | None = None, evidence: EvidenceRule = "all") -> Trace:
    """Return the trace of the question with that key or row id (see `find_question`). Raises BadInput."""
    id = find_question(db, question, task)
    row = rows(db, "internal/question", question=id)[0]
    of_task: str = row["task"]
    split: str = row["split"]
    facts = read_verdict_facts(db, of_task, split, id)
    rankings = _rankings(db, id)
    answers = _answers(db, of_task, split, id, facts, evidence)
    judged = judgements(db, question_id=id)
    indexes = sorted({r.index_id for r in rankings} | {a.condition.index_id or "" for a in answers} - {""})
    needs = {index: facts.needed(id, index) for index in indexes} or {"": facts.needed(id, None)}
    passages = {passage.passage_id for ranking in rankings for passage in ranking.places}
    passages.update(*(answer.passages for answer in answers), *(need.passages for need in needs.values()))
    passages.update(judgement.passage_id for judgement in judged if judgement.passage_id)
    return Trace(
        id=id,
        task=of_task,
        question=question_of(row),
        rationales=tuple(
            TracedRationale(
                id=r["id"],
                teacher=r["teacher"],
                sample=r["sample"],
                text=r["text"],
                conclusion=r["conclusion"],
                accepted=bool(r["accepted"]),
                trained=bool(r["trained"]),
            )
            for r in rows(db, "internal/rationales", task=of_task, split=split, question=id)
        ),
        rankings=rankings,
        answers=answers,
        judgements=tuple(judged),
        needs=needs,
        passages=read_passages(db, sorted(passages)),
    )


def find_question(db: Database, wanted: str | int, task: str | None = None) -> int:
    """Return the row id of a question. `wanted` is its key, its row id (`id:17`, or a number) or its text.

    A key comes before a row id. Of a text, the first words do if no other question begins with them. Raises
    BadInput with the nearest keys if there is no such question, and if several tasks have a question of that key.
    """
    stored: list[tuple[str, int, str]] = [
        (row["key"], row["id"], row["task"]) for row in rows(db, "question_keys", task=task)
    ]
    if not stored:
        of = f" of {task}" if task else ""
        raise BadInput(f"the store holds no question{of}; load some with: kard load {task or 'TASK'} FILE")
    if isinstance(wanted, str) and not wanted.startswith(ROW):
        matches = [(id, of_task) for key, id, of_task in stored if key == wanted]
        if len(matches) > 1:
            tasks = ", ".join(sorted(of_task for _, of_task in matches))
            raise BadInput(
                f"question {wanted!r} is in {tasks}; choose one with --task, or give {ROW}{matches[0][0]}"
            )
        if matches:
            return matches[0][0]
    number = str(wanted).removeprefix(ROW)
    if number.isascii() and number.isdecimal() and int(number) in {id for _, id, _ in stored}:
        return int(number)
    if found := _with_text(db, str(wanted), task):
        if len(found) == 1:
            return found[0]
        keys = [repr(key) for key, id, _ in stored if id in found]
        more = ", ..." if len(keys) > 3 else ""
        raise BadInput(f"{len(keys)} questions begin so; choose one by its id: {', '.join(keys[:3])}{more}")
    raise BadInput(f"no question {str(wanted)!r}; {_suggestion(number, stored)}")


def _with_text(db: Database, wanted: str, task: str | None) -> list[int]:
    """Return the row ids of questions with this text, else of those that begin with these words, two at least."""
    words = " ".join(wanted.casefold().split())
    query = "select id, text from questions where task = coalesce(?, task) order by id"
    texts = {int(id): " ".join(text.casefold().split()) for id, text in db.execute(query, [task])}
    equal = [id for id, text in texts.items() if text == words]
    return equal or [id for id, text in texts.items() if " " in words and text.startswith(words)]


def _suggestion(wanted: str, stored: list[tuple[str, int, str]]) -> str:
    """Return what to try instead. Keys come from files: `repr` keeps their control characters from the terminal."""
    keys = [key for key, _, _ in stored]
    near = get_close_matches(wanted, keys, n=3, cutoff=0.5)
    near += [key for key in keys if wanted and key.startswith(wanted) and key not in near][: 3 - len(near)]
    if near:
        return f"the nearest ids are {', '.join(repr(key) for key in near)}"
    _, id, task = stored[-1]
    return f"ids look like {keys[0]!r}, rows go up to {id}; list them with: kard query question_keys -p task {task}"


def _rankings(db: Database, question_id: int) -> tuple[TracedRanking, ...]:
    of_ranking = ("kind", "index_id", "rationale_id", "reranker_id", "retriever_id", "depth")
    of_passage = TracedPassage.__slots__

    def key(row: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        return tuple((name, row[name]) for name in of_ranking)

    return tuple(
        TracedRanking(
            **dict(ranking),
            places=tuple(TracedPassage(**{name: row[name] for name in of_passage}) for row in group),
        )
        for ranking, group in groupby(rows(db, "internal/lists_of_question", question=question_id), key)
    )


def _answers(
    db: Database, task: str, split: str, question_id: int, facts: VerdictFacts, evidence: EvidenceRule
) -> tuple[TracedAnswer, ...]:
    samples: dict[int, list[Sample]] = {}
    for row in rows(db, "internal/samples_of_question", question=question_id):
        samples.setdefault(row["prediction_id"], []).append(
            Sample(row["text"], row["answer"], row["forced"], row["prompt_tokens"], row["completion_tokens"])
        )
    labels = read_labels(db, task, split)
    answers: list[TracedAnswer] = []
    for row in rows(db, "answers", task=task, split=split, question=question_id):
        condition, read = ConditionInfo.of(row, labels), tuple(json.loads(row["passages"]))
        verdict, why, need = facts.explain(condition, question_id, read, evidence)
        answers.append(
            TracedAnswer(
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
    return tuple(sorted(answers, key=lambda answer: answer.condition.order))
