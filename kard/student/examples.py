"""What a student learns from: questions with an accepted rationale and the passages found with it (section 3.2)."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dspy
from sqlite_utils import Database

from kard.answers.parsing import without_closing
from kard.config import Method, StudentTraining
from kard.errors import Missing
from kard.records import digest
from kard.student import prompt as render
from kard.student.generation.student import answer_form

# Accepted rationales of the first :limit training questions; :index, when given, keeps those that were grounded
# on it, so that every method of a run learns from the same questions.
_RATIONALES = """
select q.id as question_id, q.text as question, q.options, q.answer, r.id as rationale_id, r.text as rationale,
       x.id as retrieval_id
from questions q
join rationales r on r.question_id = q.id and r.accepted = 1
left join retrievals x on x.rationale_id = r.id and x.index_id = :index
where q.id in (select id from questions where task = :task and split = 'train' and answer is not null
               order by id limit :limit)
  and (:teacher is null or r.teacher_id = :teacher)
  and (:index is null or x.id is not null)
order by q.id, r.id
"""
_SILVER = """
select p.title, p.text from hits h join passages p on p.id = h.passage_id
where h.retrieval_id = ? and h.rank <= ? order by h.rank
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with one rationale; `passages` are the silver ones, best first, () where none are read."""

    question_id: int
    rationale_id: int
    question: str
    options: tuple[str, ...]
    answer: str  # letter
    rationale: str
    passages: tuple[str, ...]

    def inputs(self) -> Mapping[str, object]:
        """The fields of a task's `answer` signature that a student is given."""
        return {"passages": list(self.passages), "question": self.question, "options": list(self.options)}

    def outputs(self, settings: StudentTraining) -> Mapping[str, str]:
        """The fields that it is to write."""
        return {"rationale": self.rationale, "answer": answer_form(self.options, self.answer, settings)}


def training_pairs(
    db: Database,
    task_name: str,
    method: Method,
    settings: StudentTraining,
    *,
    index_id: str | None,
    teacher_id: str | None = None,
    limit: int | None = None,
) -> list[Pair]:
    """Every distinct accepted rationale of the training split, by question, shortest first.

    The questions are the same for every method: those that have an accepted (and, on an index, grounded)
    rationale. Raises Missing with the command that makes what is missing.
    """
    if method.reads and index_id is None:
        raise Missing(f"method {method.name} reads passages; find them with: kard ground {task_name}")
    values = {"task": task_name, "teacher": teacher_id, "limit": -1 if limit is None else limit}
    found = list(db.query(_RATIONALES, {**values, "index": index_id}))
    if not found:
        without_index = db.execute(f"select 1 from ({_RATIONALES}) limit 1", {**values, "index": None}).fetchone()
        if without_index:
            raise Missing(f"no passages for the rationales of {task_name}; find them with: kard ground {task_name}")
        raise Missing(f"no accepted rationales for {task_name}; ask a teacher with: kard teach {task_name}")
    pairs = [_pair(db, row, method, settings) for row in found]
    pairs.sort(key=lambda pair: (pair.question_id, len(pair.rationale), pair.rationale_id))
    return list(_distinct(pairs))


def schedule(pairs: Sequence[Pair], settings: StudentTraining) -> list[list[Pair]]:
    """The pairs of each epoch: `settings.rationales` of every question, other ones each epoch while they last."""
    by_question: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_question.setdefault(pair.question_id, []).append(pair)
    return [
        [
            of_one[(epoch * settings.rationales + i) % len(of_one)]
            for of_one in by_question.values()
            for i in range(min(settings.rationales, len(of_one)))
        ]
        for epoch in range(settings.epochs)
    ]


def rendered(
    signature: type[dspy.Signature], pair: Pair, settings: StudentTraining
) -> tuple[str, list[tuple[str, str]]]:
    """The prompt and the pieces of the target."""
    return render.prompt(signature, pair.inputs()), render.pieces(signature, pair.outputs(settings))


def data_hash(signature: type[dspy.Signature], epochs: Sequence[Sequence[Pair]], settings: StudentTraining) -> str:
    """sha256 of every prompt and target, in the order of the epochs."""
    hashed = hashlib.sha256()
    for pair in (pair for epoch in epochs for pair in epoch):
        prompt, pieces = rendered(signature, pair, settings)
        hashed.update(json.dumps([prompt, pieces], ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def _pair(db: Database, row: Mapping[str, object], method: Method, settings: StudentTraining) -> Pair:
    silver = db.execute(_SILVER, [row["retrieval_id"], settings.k]).fetchall() if method.reads else []
    if settings.shuffle:
        # By the texts: row ids follow the order in which answers arrived, which differs from run to run.
        random.Random(digest(str(settings.seed), str(row["question"]), str(row["rationale"]))).shuffle(silver)
    return Pair(
        question_id=int(str(row["question_id"])),
        rationale_id=int(str(row["rationale_id"])),
        question=str(row["question"]),
        options=tuple(json.loads(str(row["options"]))),
        answer=str(row["answer"]),
        rationale=without_closing(str(row["rationale"])) if method.reasons else "",
        passages=tuple(f"{title}: {text}" for title, text in silver),
    )


def _distinct(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Without pairs that would be rendered alike: copied rationales, or one answer with the same passages."""
    seen: set[tuple[int, str, tuple[str, ...]]] = set()
    for pair in pairs:
        # With a rationale, other passages make no other text to learn; without one, they are all that differs.
        key = (pair.question_id, pair.rationale.casefold(), () if pair.rationale else pair.passages)
        if key not in seen:
            seen.add(key)
            yield pair
