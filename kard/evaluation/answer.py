"""A student's answers to a split under one condition: retrieve, rerank, reason, vote, keep (section 3.4)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from kard.answers.vote import majority
from kard.config import METHODS, Method
from kard.db import now, writing
from kard.evaluation.condition import Condition
from kard.evaluation.passages_read import Reading, reading
from kard.evaluation.reuse import repeat
from kard.progress import SILENT, Progress
from kard.questions import read_questions
from kard.records import Prediction, Question, Sample
from kard.tasks import Task

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.student.generation.student import Student


SETTLED = 0.05  # seconds in which no thread has ended, after which those of a batch have


def evaluation_id(db: Database, task: str, condition: Condition) -> int:
    """The row id of the condition, made if it is not there yet."""
    row = condition.row(task)
    with writing(db):  # another command may be making it too
        found = db.execute("select id from evaluations where hash = ?", [row["hash"]]).fetchone()
        if found:
            return int(found[0])
        return int(str(db.table("evaluations").insert({**row, "created": now()}).last_pk))


def unanswered(db: Database, task: str, condition: Condition, limit: int | None) -> list[tuple[int, Question]]:
    """The split's questions with a gold answer that this condition has not answered yet."""
    done = {
        row[0]
        for row in db.execute(
            "select question_id from predictions p join evaluations e on e.id = p.evaluation_id where e.hash = ?",
            [condition.row(task)["hash"]],
        )
    }
    questions = read_questions(db, task, split=condition.split, limit=limit)
    return [(i, q) for i, q in questions if i not in done and q.answer is not None]


@dataclass(frozen=True, slots=True)
class ConditionRun:
    """What one condition has still to answer, and with what."""

    student: Student
    condition: Condition
    questions: Mapping[int, Question]
    read: Reading
    evaluation: int = 0  # row id, once the condition has one
    shots: Sequence[Mapping[str, Any]] = ()  # stand before each question of a method that is not trained


def answer(
    db: Database,
    task: Task,
    asked: Sequence[tuple[Student, Condition]],
    *,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> int:
    """Answer what is unanswered under these conditions, all at once; the number of new predictions.

    Students of one base share batches where each has few questions left. Each prediction is committed when it is
    made. Raises Missing when a condition's passages are not in the store.
    """
    unasked = [asking for pair in asked if (asking := _asking(db, task, *pair, limit)) is not None]
    if not unasked:
        return 0
    total, first = sum(len(asking.questions) for asking in unasked), unasked[0].condition
    label = f"answer {first.method} with {first.retriever}"
    if len(unasked) > 1:
        label = f"answer {len(unasked)} conditions"
    with progress.bar(label, total) as advance:
        fresh: list[ConditionRun] = []
        for one in unasked:
            asking = replace(one, evaluation=evaluation_id(db, task.name, one.condition))
            repeated = _repeated(db, asking)
            advance(len(repeated))
            left = {i: q for i, q in asking.questions.items() if i not in repeated}
            fresh.append(replace(asking, questions=left, shots=_shots(db, task, asking.student, asking.condition)))
        for asking, prediction in predictions(task, fresh):
            _keep(db, asking, prediction)
            advance(1)
    return total


def _asking(
    db: Database, task: Task, student: Student, condition: Condition, limit: int | None
) -> ConditionRun | None:
    missing = unanswered(db, task.name, condition, limit)
    if not missing:
        return None
    read = reading(
        db,
        task.name,
        condition.split,
        condition.retriever,
        k=condition.k,
        index_id=condition.index_id,
        reranker_id=condition.reranker_id,
        retriever_id=condition.retriever_id,
        kappa=condition.kappa or task.settings.retrieval.kappa,
    )
    return ConditionRun(student, condition, dict(missing), read)


def _repeated(db: Database, asking: ConditionRun) -> set[int]:
    """The questions whose answers another condition had. What a prompted base is shown depends on the retriever."""
    condition = asking.condition
    if condition.decoding.samples > 1 or not METHODS[condition.method].trained:
        return set()
    return repeat(db, asking.evaluation, asking.questions, asking.read)


def predictions(task: Task, asked: Sequence[ConditionRun]) -> Iterator[tuple[ConditionRun, Prediction]]:
    """The task's own DSPy program, run on every question with its student behind a `dspy.LM`.

    Twice as many threads as a batch holds keep the students' batches full; longest prompts go first, so
    that a batch pads little and the last one is the cheapest.
    """
    askers = [_Asker(task, asking) for asking in asked]
    work = [(n, question_id) for n, asking in enumerate(asked) for question_id in asking.questions]

    def length(job: tuple[int, int]) -> int:
        asking, question_id = asked[job[0]], job[1]
        return len(asking.questions[question_id].text) + sum(len(p.text) for p in asking.read.get(question_id, ()))

    pool = ThreadPoolExecutor(max_workers=2 * max(a.condition.decoding.batch for a in asked))
    with asked[0].student.home.queue.here() as turn:
        try:
            futures: dict[Future[Prediction], ConditionRun] = {
                pool.submit(askers[number], question_id): asked[number]
                for number, question_id in sorted(work, key=length, reverse=True)
            }
            while futures:
                turn()
                # What a batch has answered is out of the threads' hands, and kept, before the next one starts.
                while futures and (done := wait(futures, SETTLED, FIRST_COMPLETED).done):
                    for future in sorted(done, key=lambda future: future.exception() is not None):
                        yield futures.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for asker in askers:  # refuses what is not answered yet: whoever stops a command waits for nothing
                asker.close()
            pool.shutdown(wait=True)


class _Asker:
    """A condition's program and student, for any number of threads."""

    def __init__(self, task: Task, asking: ConditionRun) -> None:
        from kard.student.generation.engine import load_lm
        from kard.student.generation.prompted import PromptedAdapter
        from kard.student.prompt import StudentAdapter, signature_for

        condition, read = asking.condition, asking.read
        method: Method = METHODS[condition.method]
        by_text = {q.text: list(read.get(i, ())) for i, q in asking.questions.items()}
        self._questions = asking.questions
        self._program = task.program(
            signature_for(task.answer, method), by_text.__getitem__ if method.reads else None
        )
        for predictor in self._program.predictors() if asking.shots else ():
            predictor.demos = list(asking.shots)
        self._lm = load_lm(asking.student, condition.decoding)
        self._adapter = StudentAdapter() if method.trained else PromptedAdapter()

    def __call__(self, question_id: int) -> Prediction:
        import dspy

        question = self._questions[question_id]
        with dspy.context(lm=self._lm, adapter=self._adapter):
            outcome = self._program(question=question.text, options=list(question.options))
        return _prediction(question_id, outcome)

    def close(self) -> None:
        """Ask nothing more."""
        from kard.student.generation.engine import StudentEngine

        cast(StudentEngine, self._lm.engine).close()


def _shots(db: Database, task: Task, student: Student, condition: Condition) -> Sequence[Mapping[str, Any]]:
    """What a prompted base is shown before every question."""
    method = METHODS[condition.method]
    if method.trained or not method.shots:
        return ()
    from kard.student.generation.prompted import Prompted, shots_for

    return shots_for(db, task, method, cast(Prompted, student), condition.index_id)


def samples_of(outcome: Any) -> tuple[Sample, ...]:
    """The samples behind what a task's program returned, as the student's adapter describes them."""
    drawn = outcome.completions
    return tuple(
        Sample(
            text=c.text,
            answer=c.letter,
            forced=c.forced,
            prompt_tokens=c.prompt_tokens,
            completion_tokens=c.completion_tokens,
            milliseconds=c.milliseconds,
        )
        for c in (drawn[i] for i in range(len(drawn)))
    )


def _prediction(question_id: int, outcome: Any) -> Prediction:
    samples = samples_of(outcome)
    vote, _ = majority([s.answer for s in samples])
    return Prediction(question_id, vote, samples, tuple(p.id for p in outcome.passages))


def _keep(db: Database, asking: ConditionRun, prediction: Prediction) -> None:
    gold = asking.questions[prediction.question_id].answer
    samples = prediction.samples
    row = {
        "evaluation_id": asking.evaluation,
        "question_id": prediction.question_id,
        "answer": prediction.answer,
        "correct": int(prediction.answer is not None and prediction.answer == gold),
        "votes": sum(s.answer is not None and s.answer == prediction.answer for s in samples),
        "passages": json.dumps(list(prediction.passages)),
        "milliseconds": sum(s.milliseconds for s in samples),
        "flops": sum(asking.student.flops(s.prompt_tokens, s.completion_tokens) for s in samples),
        "created": now(),
    }
    with writing(db):
        prediction_id = db.table("predictions").insert(row).last_pk
        db.table("samples").insert_all(
            {
                "prediction_id": prediction_id,
                "sample": number,
                "text": s.text,
                "answer": s.answer,
                "forced": int(s.forced),
                "prompt_tokens": s.prompt_tokens,
                "completion_tokens": s.completion_tokens,
            }
            for number, s in enumerate(samples)
        )
