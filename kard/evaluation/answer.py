"""Answer the questions of a split under conditions: read passages, reason, vote, store (section 3.4)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from kard.answers.short import grade, same_answer
from kard.answers.vote import vote
from kard.db import execute, now, rows, writing
from kard.errors import Missing
from kard.evaluation.condition import Condition, PassagesRead, passages_read
from kard.evaluation.named import answer_by_name
from kard.methods import METHODS, Method
from kard.progress import SILENT, Progress
from kard.questions import QuestionSet
from kard.records import Passage, Prediction, Question, Sample
from kard.tasks import Task
from kard.work.claims import Claims

if TYPE_CHECKING:
    import dspy
    from sqlite_utils import Database

    from kard.student.generation.student import PromptedStudent, Student

SETTLED = 0.05  # seconds without a finished thread, after which all threads of a batch have finished


@dataclass(frozen=True, slots=True)
class ConditionRun:
    """The questions that one condition has not answered yet, with what it needs to answer them."""

    student: Student | None  # None for a rule
    condition: Condition
    questions: Mapping[int, Question]
    passages: PassagesRead
    evaluation: int = 0  # id of the condition's row, once it has one
    shots: Sequence[Mapping[str, Any]] = ()  # worked examples before each question, for an untrained method


def unanswered(
    db: Database, task: str, condition: Condition, questions: QuestionSet | None = None
) -> dict[int, Question]:
    """Return those of these questions, by default of all, that the condition has not answered yet, by id.

    Questions without a gold answer do not count. An answer after other passages than the condition gives now is
    none.
    """
    answered = {id for id, current in _answered(db, task, condition).items() if current}
    asked = (questions or QuestionSet(task, condition.split)).read(db)
    return {id: q for id, q in asked.items() if id not in answered and q.answer is not None}


def drop_outdated(db: Database, task: str, condition: Condition) -> None:
    """Drop the condition's answers after other passages than it gives now: a rationale may have changed, say.

    Only who has claimed the condition may: another process may be answering under it.
    """
    outdated = [id for id, current in _answered(db, task, condition).items() if not current]
    if outdated:
        with writing(db):
            execute(db, "internal/drop_predictions", hash=condition.row(task)["hash"], questions=outdated)


def _answered(db: Database, task: str, condition: Condition) -> dict[int, bool]:
    """Return the questions that the condition has answered, and whether it would read the same passages now.

    A question that is not searched with at present keeps its answer: nothing says that it would read others.
    """
    answers = rows(db, "internal/answered_questions", hash=condition.row(task)["hash"])
    passages: PassagesRead = {}
    if answers:
        with suppress(Missing):  # what it reads is not found yet
            passages = passages_read(db, task, condition)
    return {
        row["question_id"]: row["question_id"] not in passages
        or json.loads(row["passages"]) == [passage.id for passage in passages[row["question_id"]]]
        for row in answers
    }


def answer(
    db: Database,
    task: Task,
    conditions: Sequence[tuple[Student | None, Condition]],
    *,
    questions: QuestionSet | None = None,
    progress: Progress = SILENT,
) -> int:
    """Answer what is unanswered under all these conditions at once. Return the number of new predictions.

    `questions` are all those of the conditions' split unless some are given. A rule has no student. Students of one
    base share batches if each has few questions left. Each prediction is committed when it is made.
    Raises Missing if a condition's passages are not in the store.
    """
    added = 0
    waiting = {str(pair[1].row(task.name)["hash"]): pair for pair in conditions}
    with Claims(db, "answers") as claims:
        own = claims.take(list(waiting))
        while waiting:
            added += _answer(
                db, task, [waiting.pop(key) for key in list(waiting) if key in own], questions, progress
            )
            claims.release()  # who waits for several conditions must not keep from others what is done
            if waiting and not (own := claims.take(list(waiting))):
                progress.note(f"waiting for another process that answers under {len(waiting)} of the conditions")
                own = claims.wait(list(waiting))
    return added


def _answer(
    db: Database,
    task: Task,
    conditions: Sequence[tuple[Student | None, Condition]],
    questions: QuestionSet | None,
    progress: Progress,
) -> int:
    """Answer what is unanswered under these conditions, which this process has claimed."""
    for _, condition in conditions:
        drop_outdated(db, task.name, condition)
    runs = [run for pair in conditions if (run := _plan(db, task, *pair, questions)) is not None]
    if not runs:
        return 0
    total, first = sum(len(run.questions) for run in runs), runs[0].condition
    label = f"answer {first.method} with {first.retriever}" if len(runs) == 1 else f"answer {len(runs)} conditions"
    if any(run.student is not None for run in runs):  # answers of a batch come all at its end
        label += f", up to {min(total, first.decoding.batch)} at a time"
    with progress.bar(label, total) as advance:
        remaining: list[ConditionRun] = []
        for planned in runs:
            run = replace(planned, evaluation=evaluation_id(db, task.name, planned.condition))
            reused = _reuse(db, run)
            advance(len(reused))
            left = {id: question for id, question in run.questions.items() if id not in reused}
            shots = _shots(db, task, run.student, run.condition)
            remaining.append(replace(run, questions=left, shots=shots))
        by_rule = [run for run in remaining if run.student is None]
        by_student = [run for run in remaining if run.student is not None]
        for run, prediction in chain(rule_predictions(by_rule), predictions(task, by_student)):
            _store_prediction(db, run, prediction)
            advance(1)
    return total


def evaluation_id(db: Database, task: str, condition: Condition) -> int:
    """Return the row id of the condition; insert the row if it does not exist."""
    row = condition.row(task)
    with writing(db):  # another command may insert the same row
        existing = db.execute("select id from evaluations where hash = ?", [row["hash"]]).fetchone()
        if existing:
            return int(existing[0])
        return int(str(db.table("evaluations").insert({**row, "created": now()}).last_pk))


def _plan(
    db: Database, task: Task, student: Student | None, condition: Condition, questions: QuestionSet | None
) -> ConditionRun | None:
    left = unanswered(db, task.name, condition, questions)
    if not left:
        return None
    passages = passages_read(db, task.name, condition)
    return ConditionRun(student, condition, left, passages)


def _shots(db: Database, task: Task, student: Student | None, condition: Condition) -> Sequence[Mapping[str, Any]]:
    """Return the worked examples that an untrained base is shown before every question."""
    method = METHODS[condition.method]
    if method.trained or not method.shots:
        return ()
    return cast("PromptedStudent", student).shots(db, task, method, condition.index_id)


def _reuse(db: Database, run: ConditionRun) -> set[int]:
    """Copy answers from other conditions where they must be the same. Return the ids of those questions.

    Sampled answers are drawn anew for every condition. The shots of an untrained base depend on the retriever.
    """
    condition = run.condition
    if condition.decoding.samples > 1 or not METHODS[condition.method].trained:
        return set()
    return reuse_answers(db, run.evaluation, run.questions, run.passages)


def reuse_answers(db: Database, evaluation: int, questions: Collection[int], passages: PassagesRead) -> set[int]:
    """Copy what the same student wrote with the same decoding after reading the same passages in the same order.

    Return the ids of the questions that are answered by this; each copy is one transaction. Two retrievers often
    find the same passages. Greedy decoding then writes the same text, so it need not run again.
    """
    reused: set[int] = set()
    for row in rows(db, "internal/reusable_predictions", evaluation=evaluation):
        question = row["question_id"]
        if question not in questions or question in reused:
            continue
        if json.loads(row["passages"]) != [passage.id for passage in passages.get(question, ())]:
            continue
        with writing(db):
            execute(db, "internal/copy_prediction", prediction=row["id"], evaluation=evaluation, now=now())
            execute(db, "internal/copy_samples", prediction=row["id"], evaluation=evaluation)
        reused.add(question)
    return reused


def rule_predictions(runs: Sequence[ConditionRun]) -> Iterator[tuple[ConditionRun, Prediction]]:
    """Answer every question of these runs by the rule of their method."""
    for run in runs:
        for question_id, question in run.questions.items():
            yield run, answer_by_name(question_id, question, run.passages.get(question_id, ()))


def predictions(task: Task, runs: Sequence[ConditionRun]) -> Iterator[tuple[ConditionRun, Prediction]]:
    """Run the task's own DSPy program on every question, with its student behind a `dspy.LM`.

    There are twice as many threads as prompts in a batch, so that the next batch is full when one ends. The longest
    prompts go first: batches then need little padding, and the last batch is the cheapest.
    """
    students = [run.student for run in runs if run.student is not None]
    if not students:
        return
    from kard.student.generation.engine import queue_of

    answerers = [_Answerer(task, run, student) for run, student in zip(runs, students, strict=True)]
    jobs = [(number, question_id) for number, run in enumerate(runs) for question_id in run.questions]

    def length(job: tuple[int, int]) -> int:
        run, question_id = runs[job[0]], job[1]
        passages = run.passages.get(question_id, ())
        return len(run.questions[question_id].text) + sum(len(passage.text) for passage in passages)

    pool = ThreadPoolExecutor(max_workers=2 * max(run.condition.decoding.batch for run in runs))
    with queue_of(students[0].base).answer_here() as answer_batch:
        try:
            futures: dict[Future[Prediction], ConditionRun] = {
                pool.submit(answerers[number], question_id): runs[number]
                for number, question_id in sorted(jobs, key=length, reverse=True)
            }
            while futures:
                answer_batch()
                # All answers of a batch are stored before the next batch starts.
                while futures and (done := wait(futures, SETTLED, FIRST_COMPLETED).done):
                    for future in sorted(done, key=lambda future: future.exception() is not None):
                        if future.exception() is not None:
                            _stop(pool, answerers)
                            for other in [f for f in futures if not f.cancelled() and f.exception() is None]:
                                yield futures[other], other.result()  # a server had answered these
                        yield futures.pop(future), future.result()
        finally:
            _stop(pool, answerers)


def _stop(pool: ThreadPoolExecutor, answerers: Sequence[_Answerer]) -> None:
    """Refuse what was not answered, so that an interrupted command ends at once, and wait for the threads."""
    pool.shutdown(wait=False, cancel_futures=True)
    for answerer in answerers:
        answerer.close()
    pool.shutdown(wait=True)


class _Answerer:
    """A condition's program and student, for any number of threads."""

    def __init__(self, task: Task, run: ConditionRun, student: Student) -> None:
        from kard.student.generation.engine import EngineLM
        from kard.student.prompt import StudentAdapter, signature_for

        method: Method = METHODS[run.condition.method]
        self._task, self._run, self._reads = task, run, method.reads
        self._signature = signature_for(task.answer, method)
        self._lm = EngineLM(student, run.condition.decoding)
        self._adapter = StudentAdapter(shots=not method.trained)

    def __call__(self, question_id: int) -> Prediction:
        import dspy

        question = self._run.questions[question_id]
        program = self._program(question_id)
        with dspy.context(lm=self._lm, adapter=self._adapter):
            outcome = program(question=question.text, options=list(question.options))
        samples = samples_of(outcome)
        answer, _ = vote([sample.answer for sample in samples], [sample.shares for sample in samples])
        return Prediction(question_id, answer, samples, tuple(passage.id for passage in outcome.passages))

    def _program(self, question_id: int) -> dspy.Module:
        """Return the program with the passages of this question: two questions may have the same text."""
        passages = list(self._run.passages.get(question_id, ()))

        def retrieve(*_: object) -> list[Passage]:
            return passages

        program = self._task.program(self._signature, retrieve if self._reads else None)
        for predictor in program.predictors() if self._run.shots else ():
            predictor.demos = list(self._run.shots)
        return program

    def close(self) -> None:
        """Refuse further requests."""
        self._lm.close()


def samples_of(outcome: Any) -> tuple[Sample, ...]:
    """Return the samples behind the outcome of a task's program, as the student's adapter describes them."""
    completions = outcome.completions
    return tuple(
        Sample(
            text=completion.text,
            answer=completion.answered,
            forced=completion.forced,
            cut=completion.cut,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            milliseconds=completion.milliseconds,
            shares=tuple(completion.shares),
        )
        for completion in (completions[i] for i in range(len(completions)))
    )


def _store_prediction(db: Database, run: ConditionRun, prediction: Prediction) -> None:
    question = run.questions[prediction.question_id]
    correct, f1 = grade(prediction.answer, question.answer, question.options)
    samples, student = prediction.samples, run.student
    row = {
        "evaluation_id": run.evaluation,
        "question_id": prediction.question_id,
        "answer": prediction.answer,
        "correct": correct,
        "f1": f1,
        "votes": sum(same_answer(s.answer, prediction.answer) for s in samples),
        "passages": json.dumps(list(prediction.passages)),
        "milliseconds": sum(s.milliseconds for s in samples),
        "flops": sum(student.flops(s.prompt_tokens, s.completion_tokens) for s in samples) if student else 0,
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
                "forced": s.forced,
                "cut": int(s.cut),
                "shares": json.dumps(list(s.shares)) if s.shares else None,
                "prompt_tokens": s.prompt_tokens,
                "completion_tokens": s.completion_tokens,
            }
            for number, s in enumerate(samples)
        )
