"""What pieces do to each other: claims, failed replies, limits, outdated answers, likelihood and letters."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import dspy
import pytest

from kard.answers.vote import vote
from kard.config import Decoding, Teaching
from kard.db import open_store
from kard.evaluation.answer import answer, drop_outdated, evaluation_id, unanswered
from kard.evaluation.ask import StudentText, _vote  # pyright: ignore[reportPrivateUsage]  # needs no student
from kard.evaluation.condition import Condition
from kard.methods import METHODS
from kard.pipeline.load import store_questions
from kard.questions import QuestionSet
from kard.records import Question, Sample
from kard.student.prompt import ANSWERED, FORCED, SHARES, StudentAdapter, signature_for
from kard.student.records import register_rule
from kard.tasks import Task
from kard.teacher.teach import teach
from kard.work.claims import Claims


class CutReplies:
    """An engine whose every reply is cut. It counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.lock = threading.Lock()

    def complete(self, request: Any) -> Any:
        from dspy import lm15

        with self.lock:
            self.calls += 1
        time.sleep(0.1)
        return lm15.Response(
            id="x",
            model=request.model,
            message=lm15.Message.assistant("nothing whole"),
            finish_reason="length",
            usage=lm15.Usage(input_tokens=1, output_tokens=1),
        )


@pytest.mark.parametrize("retry", [False, True])
def test_two_teachers_do_not_wait_for_each_others_failed_replies(
    tmp_path: Path, tiny_task: Task, retry: bool
) -> None:
    store = tmp_path / "kard.db"
    db = open_store(store)
    questions = [Question(f"q{i}", "train", f"Is {i} so?", ("yes", "no"), "A") for i in range(4)]
    store_questions(db, "tiny", questions)
    if retry:  # what has failed before is asked for again
        lm = dspy.LM("openai/x", engine=CutReplies(), cache=False, num_retries=0)
        teach(db, tiny_task, QuestionSet("tiny", "train"), lm, Teaching(samples=1), name="w")
    engine = CutReplies()

    def run() -> None:
        lm = dspy.LM("openai/x", engine=engine, cache=False, num_retries=0)
        settings = Teaching(samples=1, workers=2)
        teach(open_store(store), tiny_task, QuestionSet("tiny", "train"), lm, settings, name="w", retry=retry)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    failed = db.execute("select count(*) from failed_replies").fetchone()[0]
    assert failed == (8 if retry else 4)
    assert engine.calls == 4


def test_who_waits_gives_up_what_is_done(tmp_path: Path) -> None:
    db, other = open_store(tmp_path / "kard.db"), open_store(tmp_path / "kard.db")
    with Claims(db, "answers") as first, Claims(other, "answers") as second:
        assert first.take(["a"]) == {"a"}
        assert second.take(["a"]) == set()
        first.release()
        assert second.take(["a"]) == {"a"}


def rule_condition(case: Any, count: int) -> Condition:
    """Return a condition of the rule that names, on questions that each have one passage."""
    for number in range(count):
        case.hits(case.question(f"q{number}"), f"p{number}")
    student = register_rule(case.db, "tiny", METHODS["named"])
    return Condition("test", student, "named", "bm25", 1, Decoding(), index_id=case.INDEX)


def answers(case: Any) -> int:
    """Return the number of predictions."""
    return case.db.execute("select count(*) from predictions").fetchone()[0]


def test_answers_of_questions_that_are_not_searched_with_stay(case: Any, tiny_task: Task) -> None:
    condition = rule_condition(case, 4)
    assert answer(case.db, tiny_task, [(None, condition)]) == 4
    case.write("update retrievals set form = 'options' where question_id <> 1")  # a run with --limit came between
    drop_outdated(case.db, "tiny", condition)
    assert answers(case) == 4
    case.passages("p9")
    case.write(
        "update hits set passage_id = 'p9' where retrieval_id in"
        " (select id from retrievals where form = 'question')"
    )
    drop_outdated(case.db, "tiny", condition)
    assert answers(case) == 3


def test_passages_may_change_while_another_process_answers(case: Any, tiny_task: Task) -> None:
    condition = rule_condition(case, 1)
    assert answer(case.db, tiny_task, [(None, condition)]) == 1
    case.passages("p9")
    case.write("update hits set passage_id = 'p9'")
    assert len(unanswered(case.db, "tiny", condition, None)) == 1
    assert answer(case.db, tiny_task, [(None, condition)]) == 1  # and not a second row of the same question
    read = case.db.execute("select passages from predictions").fetchall()
    assert [json.loads(passages) for (passages,) in read] == [["p9"]]
    assert evaluation_id(case.db, "tiny", condition) == 1


def test_an_option_that_no_text_answers_may_win_by_shares() -> None:
    samples = [
        Sample("x", "A", shares=(0.5, 0.45, 0.05)),
        Sample("y", "C", shares=(0.05, 0.45, 0.5)),
    ]
    assert vote([s.answer for s in samples], [s.shares for s in samples]) == ("B", 0)
    texts = [StudentText(sample, "", option) for sample, option in zip(samples, ("ash", "chalk"), strict=True)]
    reply = _vote([], texts, {"A": "ash", "B": "bark", "C": "chalk"}, 1.0)
    assert (reply.letter, reply.answer) == ("B", "bark")


def test_likelihood_decides_in_programs_too(tiny_task: Task) -> None:
    from dspy.lm15 import Message, Response, Usage

    decided = {ANSWERED: "B", SHARES: [0.3, 0.7], FORCED: None}

    def completion(more: dict[str, Any]) -> dict[str, Any]:
        response = Response(
            id=None,
            model="m",
            message=Message.assistant(" why\nAnswer: yes"),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1),
            provider_data=more,
        )
        signature = signature_for(tiny_task.answer, METHODS["kard"])
        return StudentAdapter()._completion(  # pyright: ignore[reportPrivateUsage]  # what an LM's reply becomes
            signature, "... Rationale:", ["yes", "no"], response
        )

    assert completion(decided)["answer"] == "no"
    assert completion({**decided, ANSWERED: "A", SHARES: []})["answer"] == "yes"
