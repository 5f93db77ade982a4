"""Asking a teacher: only for missing samples, within the budget, and nothing that was paid for is lost."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dspy
import pytest
from click.testing import CliRunner
from dspy import lm15
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.cli import main
from kard.config import TaskSettings, Teaching
from kard.db import open_store
from kard.errors import BadConfig, BudgetReached, Missing, TeacherFailed
from kard.outgoing.patience import Patience
from kard.pipeline.load import store_questions
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.pipeline.steps import rebuild
from kard.progress import Share, Silent
from kard.questions import QuestionSet
from kard.records import Question, Rationale
from kard.tasks import Task
from kard.teacher import teach as teach_module
from kard.teacher.calls import Reply, teach_inputs, teacher_info, teacher_lm
from kard.teacher.records import store_rationales
from kard.teacher.requests import Budget, Requests
from kard.teacher.teach import TeachSummary, expected_cost, missing_samples, teach

QUESTIONS = (
    Question("q1", "train", "Does copper rust?", ("yes", "no"), "B"),
    Question("q2", "train", "Does iron sink?", ("yes", "no"), "A"),
    Question("q3", "train", "Is it late?", ("yes", "no"), None),
    Question("q4", "dev", "Does gold rust?", ("yes", "no"), "B"),
)
ONE = Teaching(samples=1, workers=1)
TRAIN = QuestionSet("tiny", "train")


def completion(text: str, letter: str) -> str:
    return f"[[ ## rationale ## ]]\n{text}\n\n[[ ## letter ## ]]\n{letter}\n\n[[ ## completed ## ]]"


YES = completion("It is heavy. So the answer is (A) yes.", "A")
NO = completion("It is noble. So the answer is (B) no.", "(B)")


def lm_of(engine: Any, model: str = "scripted") -> dspy.LM:
    return dspy.LM(model, engine=engine, cache=False, num_retries=0)


@pytest.fixture
def db(store: Database) -> Database:
    store_questions(store, "tiny", QUESTIONS)
    return store


def stored_rationales(db: Database) -> list[tuple[Any, ...]]:
    return db.execute(
        "select q.key, r.sample, r.conclusion, r.accepted from rationales r"
        " join questions q on q.id = r.question_id order by 1, 2"
    ).fetchall()


def test_each_question_with_a_known_answer_gets_its_samples_once(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    settings = Teaching(samples=2, workers=4)
    engine = script(*[("copper", NO)] * 2, *[("sink", YES)] * 2, input_tokens=30, output_tokens=7)
    summary = teach(db, tiny_task, TRAIN, lm_of(engine), settings, name="wise")
    assert summary == TeachSummary(added=4, accepted=4, skipped=0, cost=0, prompt_tokens=120, completion_tokens=28)
    assert stored_rationales(db) == [("q1", 0, "B", 1), ("q1", 1, "B", 1), ("q2", 0, "A", 1), ("q2", 1, "A", 1)]
    row = next(db.query("select * from rationales"))
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost"]) == (30, 7, 0)
    assert row["text"] in ("It is heavy. So the answer is (A) yes.", "It is noble. So the answer is (B) no.")
    assert row["milliseconds"] > 0
    assert teach(db, tiny_task, TRAIN, lm_of(script()), settings, name="wise") == TeachSummary(0, 0, 0, 0, 0, 0)
    more = script(("copper", YES), ("sink", YES))
    assert teach(db, tiny_task, TRAIN, lm_of(more), replace(settings, samples=3), name="wise").added == 2
    assert stored_rationales(db)[2] == ("q1", 2, "A", 0)


def test_the_teacher_sees_the_example_the_options_and_the_right_answer(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    engine = script(("copper", NO))
    teach(db, tiny_task, replace(TRAIN, limit=1), lm_of(engine), ONE, name="wise")
    prompt = engine.prompts[0]
    for part in (
        "Does iron rust?",
        "Iron reacts with oxygen",
        "Does copper rust?",
        "(A) yes\n(B) no",
        "## answer ## ]]\nno",
    ):
        assert part in prompt
    assert teach_inputs(tiny_task, QUESTIONS[0])["options"] == tiny_task.shots[0]["options"]


def test_samples_of_all_questions_come_before_second_samples(db: Database, tiny_task: Task) -> None:
    lm = lm_of(engine_that_must_not_be_called())
    missing = missing_samples(db, tiny_task, TRAIN, lm, Teaching(samples=2))
    assert [(m.question.key, m.sample) for m in missing] == [("q1", 0), ("q2", 0), ("q1", 1), ("q2", 1)]
    assert [m.question.key for m in missing_samples(db, tiny_task, replace(TRAIN, limit=1), lm, ONE)] == ["q1"]
    assert [m.question.key for m in missing_samples(db, tiny_task, QuestionSet("tiny", "dev"), lm, ONE)] == ["q4"]
    with pytest.raises(
        Missing, match="no test questions with answers for tiny; load some with: kard load tiny FILE"
    ):
        missing_samples(db, tiny_task, QuestionSet("tiny", "test"), lm, ONE)


class Silence:
    def complete(self, request: Any) -> Any:
        raise AssertionError("nobody was to be asked")


def test_a_question_that_is_loaded_while_the_missing_ones_are_read_is_for_the_next_run(
    db: Database, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = teach_module.rows

    def loaded_before(db: Database, query: str, **parameters: object) -> list[dict[str, Any]]:
        if query == "internal/missing_samples":
            store_questions(db, "tiny", [Question("new", "train", "Why?", ("x", "y"), "A")])
        return read(db, query, **parameters)

    monkeypatch.setattr(teach_module, "rows", loaded_before)
    lm = lm_of(engine_that_must_not_be_called())
    assert [m.question.key for m in missing_samples(db, tiny_task, TRAIN, lm, ONE)] == ["q1", "q2"]
    assert "new" in [m.question.key for m in missing_samples(db, tiny_task, TRAIN, lm, ONE)]


def engine_that_must_not_be_called() -> Silence:
    return Silence()


def test_another_prompt_makes_another_teacher_and_more_samples_do_not(tiny_task: Task) -> None:
    first = teacher_info(tiny_task, "m", ONE, "a").id
    assert teacher_info(tiny_task, "m", replace(ONE, samples=9, workers=3), "b").id == first
    assert teacher_info(tiny_task, "n", ONE, "a").id != first
    assert teacher_info(tiny_task, "m", replace(ONE, temperature=0.5), "a").id != first
    assert teacher_info(tiny_task, "m", replace(ONE, max_tokens=99), "a").id != first
    assert teacher_info(replace(tiny_task, shots=()), "m", ONE, "a").id != first
    assert (
        teacher_info(replace(tiny_task, teach=tiny_task.teach.with_instructions("Why?")), "m", ONE, "a").id != first
    )
    renamed = tiny_task.teach.with_updated_fields("rationale", type_=list[str])
    assert teacher_info(replace(tiny_task, teach=renamed), "m", ONE, "a").id != first


def test_an_unreadable_reply_is_asked_for_once_more_and_its_tokens_count_in_the_row(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    summary = teach(db, tiny_task, replace(TRAIN, limit=1), lm_of(script("no form at all", NO)), ONE, name="wise")
    assert summary == TeachSummary(added=1, accepted=1, skipped=0, cost=0, prompt_tokens=20, completion_tokens=10)
    assert next(db.query("select prompt_tokens from rationales"))["prompt_tokens"] == 20


def test_a_sample_that_stays_unreadable_is_skipped_and_counted(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    engine = script("no form", completion("  ", "A"), ("sink", YES))
    summary = teach(db, tiny_task, TRAIN, lm_of(engine), ONE, name="wise")
    assert (summary.added, summary.skipped, summary.prompt_tokens) == (1, 1, 30)
    assert stored_rationales(db) == [("q2", 0, "A", 1)]


def test_a_model_whose_replies_are_never_readable_is_given_up(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    engine = script(*["no form"] * 40)
    with pytest.raises(
        TeacherFailed,
        match=r"scripted gave 20 answers in a row that hold no rationale; try the same command with another",
    ):
        teach(db, tiny_task, TRAIN, lm_of(engine), replace(ONE, samples=50), name="wise")
    assert stored_rationales(db) == []


def test_a_failing_provider_ends_in_one_line_and_paid_rationales_are_stored(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    failing = script(("copper", NO), ("sink", dspy.lm15.AuthError("wrong key\nsee the manual")))
    with pytest.raises(TeacherFailed) as caught:
        teach(db, tiny_task, TRAIN, lm_of(failing), ONE, name="wise")
    line = str(caught.value)
    assert line == (
        "scripted does not answer (wrong key see the manual); 1 rationales were kept; go on with the same command"
    )
    assert stored_rationales(db) == [("q1", 0, "B", 1)]
    assert teach(db, tiny_task, TRAIN, lm_of(script(("sink", YES))), ONE, name="wise").added == 1


def test_a_question_too_long_for_the_model_is_skipped(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    engine = script(("copper", dspy.lm15.ContextLengthError("too long")), ("sink", YES))
    summary = teach(db, tiny_task, TRAIN, lm_of(engine), ONE, name="wise")
    assert (summary.added, summary.skipped) == (1, 1)


def test_ctrl_c_stores_the_calls_under_way(db: Database, tiny_task: Task, script: Callable[..., Any]) -> None:
    engine = script(("copper", NO), ("sink", YES))

    class Slow:
        def complete(self, request: Any) -> Any:
            if "copper" in str(request):
                time.sleep(0.2)
            return engine.complete(request)

    class Interrupted(Silent):
        def bar(self, label: str, total: int | None, share: Share | None = None) -> Any:
            return nullcontext(self.advance)

        def advance(self, units: int) -> None:
            if len(stored_rationales(db)) == 1:  # the quick one is stored, the slow one under way
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(
            db, tiny_task, TRAIN, lm_of(Slow()), Teaching(samples=1, workers=2), name="wise", progress=Interrupted()
        )
    assert [row[0] for row in stored_rationales(db)] == ["q1", "q2"]


def test_a_budget_without_a_known_price_is_refused_and_the_first_rationale_stored(
    db: Database, tiny_task: Task, script: Callable[..., Any]
) -> None:
    with pytest.raises(BadConfig, match="the price of scripted is not known, so --max-cost cannot be kept"):
        teach(db, tiny_task, TRAIN, lm_of(script(NO)), Teaching(samples=5, workers=8), name="wise", max_cost=1)
    assert len(stored_rationales(db)) == 1
    with pytest.raises(BadConfig, match="--max-cost must be more than 0"):
        teach(db, tiny_task, TRAIN, lm_of(engine_that_must_not_be_called()), ONE, name="wise", max_cost=0)


@given(
    st.floats(0.01, 10), st.floats(0.001, 3), st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 9)
)
def test_a_budget_is_never_passed_if_no_call_costs_more_than_the_highest_price_before(
    limit: float, highest_price: float, shares: list[float], workers: int
) -> None:
    budget = Budget(limit, highest_price)
    in_flight: list[float] = []
    for share in shares:
        while len(in_flight) >= workers or (in_flight and not budget.allows(len(in_flight))):
            budget.pay(in_flight.pop(0))
        if budget.allows(len(in_flight)):
            in_flight.append(share * highest_price)
    for cost in in_flight:
        budget.pay(cost)
    assert budget.spent <= limit * (1 + 1e-9)


def test_until_a_price_is_known_calls_go_out_one_at_a_time() -> None:
    budget = Budget(1.0)
    assert budget.allows(0)
    assert not budget.allows(1)
    budget.pay(0.2)
    assert budget.allows(3)
    assert not budget.allows(4)
    assert Budget(None).allows(10_000)


@pytest.mark.parametrize(
    ("letter", "conclusion"), [("A", "A"), ("**(b)**", "B"), ("no", "B"), ("A or B", None), ("C", None), ("", None)]
)
def test_the_letter_that_a_teacher_gives_apart_counts_and_not_its_prose(
    db: Database, tiny_task: Task, script: Callable[..., Any], letter: str, conclusion: str | None
) -> None:
    engine = script(completion("It is heavy. So the answer is (A) yes.", letter))
    teach(db, tiny_task, replace(TRAIN, limit=1), lm_of(engine), ONE, name="wise")
    assert stored_rationales(db) == [("q1", 0, conclusion, int(conclusion == "B"))]


def failed_replies(db: Database) -> list[tuple[Any, ...]]:
    return db.execute(
        "select q.key, f.outcome, f.text, f.prompt_tokens from failed_replies f"
        " join questions q on q.id = f.question_id order by f.id"
    ).fetchall()


CUT = "[[ ## rationale ## ]]\nIt is noble. So the answer is (B)\n\n[[ ## letter ## ]]\nB"


@pytest.mark.parametrize(
    ("reply", "finish", "outcome", "calls"),
    [
        (NO, "length", "cut", 1),
        (CUT, "length", "cut", 1),
        (NO, "content_filter", "refused", 1),
        (lm15.RefusalPart(text="I will not."), "stop", "refused", 1),
        ("", "stop", "empty", 2),
        (completion("", "B"), "stop", "empty", 2),
        ("I know, but without the form.", "stop", "unreadable", 2),
    ],
)
def test_a_reply_that_is_no_rationale_is_kept_as_what_it_is_and_asked_for_again_only_when_told_to(
    db: Database, tiny_task: Task, script: Callable[..., Any], reply: Any, finish: str, outcome: str, calls: int
) -> None:
    engine = script(*[("copper", {"said": reply, "finish": finish})] * calls, ("sink", YES))
    summary = teach(db, tiny_task, TRAIN, lm_of(engine), ONE, name="wise")
    assert (summary.added, summary.accepted, summary.skipped) == (1, 1, 1)
    text = reply if isinstance(reply, str) else reply.text
    assert failed_replies(db) == [("q1", outcome, text, 10 * calls)]
    assert db.execute("select prompt_tokens, rationales from costs").fetchall() == [(10 * calls + 10, 1)]
    assert teach(db, tiny_task, TRAIN, lm_of(script()), ONE, name="wise").added == 0
    again = script(("copper", NO))
    assert teach(db, tiny_task, TRAIN, lm_of(again), ONE, name="wise", retry=True).added == 1
    assert stored_rationales(db) == [("q1", 0, "B", 1), ("q2", 0, "A", 1)]
    assert teach(db, tiny_task, TRAIN, lm_of(script()), ONE, name="wise", retry=True).added == 0


def test_a_rebuild_asks_again_for_what_failed(
    db: Database, tiny_task: Task, script: Callable[..., Any], tmp_path: Path
) -> None:
    choices = RunOptions(settings=TaskSettings(), sizes=("135m",), methods=("ft",))
    run = Run(db, tiny_task, choices, tmp_path / "kard.db", tmp_path / "kb", tmp_path / "adapters")
    engine = script(("copper", {"said": NO, "finish": "length"}), ("sink", YES))
    assert teach(db, tiny_task, TRAIN, lm_of(engine), ONE, name="wise").skipped == 1
    assert rebuild(run, "teach") == []
    assert len(failed_replies(db)) == 1
    assert rebuild(run, "teach", including_paid=True) == ["teach"]
    assert (failed_replies(db), stored_rationales(db)) == ([], [])
    again = script(("copper", {"said": NO, "finish": "length"}), ("sink", YES))
    assert teach(db, tiny_task, TRAIN, lm_of(again), ONE, name="wise").skipped == 1
    db.execute("delete from rationales")
    assert rebuild(run, "teach", including_paid=True) == ["teach"]  # a failed reply is something, too


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("It is \ud83d\ude00 hot.", "It is \U0001f600 hot."), ("half \ud800.", "half \ufffd."), ("a\0b", "a\ufffdb")],
)
def test_half_a_character_is_mended_and_the_other_replies_are_kept(
    db: Database, tiny_task: Task, script: Callable[..., Any], sent: str, stored: str
) -> None:
    engine = script(("copper", completion(sent, "B")), ("sink", YES))
    assert teach(db, tiny_task, TRAIN, lm_of(engine), Teaching(samples=1, workers=2), name="wise").added == 2
    assert db.execute("select text from rationales where accepted and text = ?", [stored]).fetchall()


def test_a_reply_that_cannot_be_stored_stops_the_run_after_the_others_are() -> None:
    kept: list[str] = []

    def store(item: str, reply: Reply) -> int:
        if item == "bad":
            raise OverflowError("too large")
        kept.append(item)
        return 1

    barrier = threading.Barrier(3)

    def ask(item: str, _: Patience) -> Reply:
        barrier.wait(10)  # all are under way, and paid for
        return Reply(item, 1, 1, None, 1.0)

    requests = Requests[str]("m", ask, store, Budget(None), 3, "opinion", "opinions")
    with pytest.raises(OverflowError):
        requests.run(["bad", "good", "better"], lambda units: None)
    assert sorted(kept) == ["better", "good"]


class Provider:
    """A local server that speaks OpenAI's protocol. It gives the scripted replies and no more."""

    def __init__(self) -> None:
        self.replies: list[str | int] = []
        self.refusal = "the key is not valid"  # {key}: the key that was sent
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.excess = 0
        self.tokens = (1000, 500)
        self.usages: list[Any] = []  # of the first replies, in place of `tokens`
        lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    provider.requests.append(body)
                    provider.keys.append(self.headers["Authorization"])
                    provider.excess += not provider.replies or self.path != "/v1/chat/completions"
                    reply = provider.replies.pop(0) if provider.replies else 400
                used = dict(zip(("prompt_tokens", "completion_tokens"), provider.tokens, strict=True))
                answer: dict[str, Any] = {
                    "id": "c1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": body["model"],
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
                    ],
                    "usage": provider.usages.pop(0)
                    if provider.usages
                    else {**used, "total_tokens": sum(provider.tokens)},
                }
                if isinstance(reply, int):
                    message = provider.refusal.format(key=str(self.headers["Authorization"]).split()[-1])
                    answer = {"error": {"message": message, "type": "auth", "code": "bad_key"}}
                raw = json.dumps(answer).encode()
                self.send_response(reply if isinstance(reply, int) else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Provider()
    thread = threading.Thread(target=server.server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()
    assert not server.excess, f"{server.excess} requests too many"
    assert not server.replies, f"never asked for: {server.replies}"


def lm_at(provider: Provider, model: str = "openai/gpt-4o-mini") -> dspy.LM:
    return teacher_lm(model, temperature=1.0, max_tokens=512, api_base=provider.url)


def test_each_row_has_the_tokens_and_dollars_of_its_own_call(
    db: Database, tiny_task: Task, provider: Provider
) -> None:
    provider.replies = [YES] * 6
    summary = teach(db, tiny_task, TRAIN, lm_at(provider), Teaching(samples=3, workers=6), name="wise")
    price = 1000 * 0.15e-6 + 500 * 0.6e-6  # dollars, gpt-4o-mini's price list
    assert summary.cost == pytest.approx(6 * price)
    assert (summary.prompt_tokens, summary.completion_tokens) == (6000, 3000)
    rows = db.execute("select prompt_tokens, completion_tokens, cost from rationales").fetchall()
    assert rows == [(1000, 500, pytest.approx(price))] * 6
    assert expected_cost(db, tiny_task, lm_at(provider), ONE) == pytest.approx(price)
    assert {(r["temperature"], r.get("max_tokens", r.get("max_completion_tokens"))) for r in provider.requests} == {
        (1.0, 512)
    }


def test_a_run_stops_before_its_budget_is_passed_and_the_next_run_goes_on(
    db: Database, tiny_task: Task, provider: Provider
) -> None:
    settings = Teaching(samples=5, workers=8)
    provider.replies = [YES] * 4
    with pytest.raises(BudgetReached) as caught:
        teach(db, tiny_task, TRAIN, lm_at(provider), settings, name="wise", max_cost=0.002)  # 4.4 calls of $0.00045
    assert str(caught.value) == (
        "stopped after $0.0018: one rationale more can cost $0.0004 and pass --max-cost 0.002; 6 are missing; "
        "go on with the same command and a larger --max-cost"
    )
    assert len(stored_rationales(db)) == 4
    provider.replies = [YES] * 6
    assert teach(db, tiny_task, TRAIN, lm_at(provider), settings, name="wise", max_cost=0.0028).added == 6
    assert len(stored_rationales(db)) == 10


@pytest.mark.parametrize(
    ("usage", "added"),
    [
        ({"prompt_tokens": 10**30, "completion_tokens": 5, "total_tokens": 5}, 4),
        ({"prompt_tokens": 1.5e300, "completion_tokens": 5, "total_tokens": 5}, 4),
        (None, 4),
        ({"prompt_tokens": -5, "completion_tokens": 5, "total_tokens": 5}, 4),
        ({"prompt_tokens": "many", "completion_tokens": 5, "total_tokens": 5}, 4),
        ([1, 2], 4),
    ],
)
def test_nonsense_in_place_of_numbers_of_tokens_loses_no_reply_and_no_budget(
    db: Database, tiny_task: Task, provider: Provider, usage: Any, added: int
) -> None:
    read = usage is None or (isinstance(usage, dict) and usage["prompt_tokens"] not in (-5, "many"))
    provider.usages = [{"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}, usage]
    provider.replies = [NO] * (4 if read else 5)
    settings = Teaching(samples=2, workers=1)
    assert teach(db, tiny_task, TRAIN, lm_at(provider), settings, name="wise", max_cost=1).added == added
    assert len(stored_rationales(db)) == added
    assert db.execute("select max(prompt_tokens), sum(cost) < 1 from rationales").fetchone() == (1000, 1)


@pytest.fixture
def files(tmp_path: Path, tiny_file: Path) -> list[str]:
    """Return the arguments TASK and --store of a store with the questions."""
    db = open_store(tmp_path / "kard.db")
    store_questions(db, "tiny", QUESTIONS)
    db.conn.close()
    return [str(tiny_file), "--store", str(tmp_path / "kard.db")]


def test_the_command_asks_a_server_of_ones_own_and_stores_no_key(
    files: list[str], provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = [
        "teach",
        *files,
        "--model",
        "openai/fake",
        "--api-base",
        provider.url,
        "--samples",
        "1",
        "--workers",
        "1",
        "--quiet",
    ]
    dry = CliRunner().invoke(main, [*command, "--dry-run"])
    assert (dry.exit_code, dry.output) == (0, "2 requests to openai/fake\n")
    provider.replies = [NO, YES]
    run = CliRunner().invoke(main, command)
    following = f"Next: kard index SOURCE --store {files[-1]}\n"
    added = f"2 rationales added, 2 accepted; $0.0000, 2000 + 1000 tokens\n{following}"
    assert (run.exit_code, run.output) == (0, added)
    again = CliRunner().invoke(main, command)
    assert again.output == f"0 rationales added, 0 accepted; $0.0000, 0 + 0 tokens\n{following}"

    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-42")
    provider.replies = [401]
    refused = CliRunner().invoke(main, [*command, "--samples", "2"])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: openai/fake does not answer (")
    assert refused.output.count("\n") == 1
    assert provider.keys[-1] == "Bearer sk-secret-42"
    assert all(b"sk-secret-42" not in path.read_bytes() for path in tmp_path.glob("kard.db*"))


def test_a_teacher_that_reads_passages_is_another_one_and_sees_what_question_and_answer_find(
    files: list[str], provider: Provider, tmp_path: Path
) -> None:
    documents = {"d1": "Copper is a metal that bends: yes.", "d2": "Iron sinks in water."}
    lines = [json.dumps({"id": key, "title": key.upper(), "text": text}) for key, text in documents.items()]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = ["teach", *files, "--model", "openai/fake", "--api-base", provider.url, "--samples", "1", "--quiet"]
    missing = CliRunner().invoke(main, [*command, "-k", "1"])
    assert missing.exit_code == 1
    assert "kard index" in missing.output
    assert provider.requests == []
    indexed = CliRunner().invoke(main, ["index", str(tmp_path / "docs.jsonl"), "--quiet", *files[1:]])
    assert indexed.exit_code == 0, indexed.output
    provider.replies = [NO, YES]
    assert CliRunner().invoke(main, [*command, "--workers", "1"]).exit_code == 0
    provider.replies = [NO, YES]
    assert "2 rationales added" in CliRunner().invoke(main, [*command, "--workers", "1", "-k", "1"]).output
    by_heart, reading = (
        [str(r["messages"]) for r in some] for some in (provider.requests[:2], provider.requests[2:])
    )
    assert not any("passages" in text for text in by_heart)
    last = [text.rpartition("[[ ## passages ## ]]")[2] for text in reading]
    assert "D1: Copper is a metal" in last[0]
    assert "D2: Iron sinks" in last[1]
    teachers = open_store(tmp_path / "kard.db").execute("select count(*) from teachers").fetchone()
    assert teachers == (2,)


def test_the_command_says_why_replies_were_kept_apart_and_how_to_read_them(
    files: list[str], provider: Provider
) -> None:
    command = ["teach", *files, "--model", "openai/fake", "--api-base", provider.url, "--samples", "1"]
    provider.replies += ["no field at all"] * 2 + [""] * 2  # each is asked for twice
    run = CliRunner().invoke(main, [*command, "--workers", "1", "--quiet"])
    assert run.exit_code == 0
    assert "1 empty, 1 unreadable kept apart" in run.output
    asked = f'kard query "select * from failed_replies" --store {files[-1]}'
    assert run.output.endswith(f"ask again with --retry-failed, or read them with: {asked}\n")
    assert "no field at all" in CliRunner().invoke(main, shlex.split(asked)[1:]).output


def test_the_command_says_why_rationales_are_rejected_and_what_shows_them(
    files: list[str], provider: Provider
) -> None:
    command = ["teach", *files, "--model", "openai/fake", "--api-base", provider.url, "--samples", "1"]
    provider.replies = [YES, YES]
    run = CliRunner().invoke(main, [*command, "--workers", "1", "--quiet"])
    assert "2 rationales of tiny: 1 accepted, 0 unread, 1 rejected; only accepted ones train" in run.output
    assert f"more: kard rationales {files[0]} --verdict rejected --store {files[-1]}\n" in run.output


@pytest.mark.parametrize("before", [0, 150])  # the message is cut in the middle of the key
@pytest.mark.parametrize("word", ["teach", "verify"])
def test_a_key_that_a_server_repeats_is_neither_printed_nor_stored(
    files: list[str], provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: int, word: str
) -> None:
    key = "sk-" + "Secret42" * 20
    monkeypatch.setenv("OPENAI_API_KEY", key)
    command = [*files, "--model", "openai/fake", "--api-base", provider.url, "--workers", "1", "--limit", "1"]
    provider.replies = [completion(f"You sent Bearer {key}.", "B")]
    assert CliRunner().invoke(main, ["teach", *command, "--samples", "1"]).exit_code == 0
    provider.replies = [401]
    provider.refusal = "x" * before + " wrong key: {key}"
    samples = ["--samples", "2"] if word == "teach" else []
    refused = CliRunner().invoke(main, [word, *command, *samples])
    assert refused.exit_code == 1
    assert provider.keys[-1] == f"Bearer {key}"
    assert "Secret42" not in refused.output
    assert "[OPENAI_API_KEY]" in refused.output
    assert isinstance(refused.exception, SystemExit)
    error: BaseException | None = refused.exception
    while error is not None:
        assert "Secret42" not in str(error)
        error = error.__cause__ or error.__context__
    assert all(b"Secret42" not in path.read_bytes() for path in tmp_path.glob("kard.db*"))


def test_a_dry_run_estimates_the_rest_once_a_price_is_known(files: list[str], provider: Provider) -> None:
    command = ["teach", *files, "--model", "openai/gpt-4o-mini", "--api-base", provider.url]
    provider.replies = [NO]
    CliRunner().invoke(main, [*command, "--samples", "1", "--limit", "1"])
    dry = CliRunner().invoke(main, [*command, "--samples", "100", "--dry-run"])
    assert dry.output == "199 requests to openai/gpt-4o-mini, about $0.09\n"


def test_a_budget_is_refused_before_anybody_is_asked_where_the_price_list_lacks_the_model(
    files: list[str], provider: Provider
) -> None:
    problem = "the price of openai/fake is not known, so --max-cost cannot be kept; run again without it\n"
    command = [*files, "--model", "openai/fake", "--api-base", provider.url, "--max-cost", "2"]
    db = open_store(Path(files[-1]))
    store_rationales(db, "tiny", "guide", [Rationale("q1", 0, "So the answer is yes.")])
    for word in ("teach", "verify"):
        refused = CliRunner().invoke(main, [word, *command, "--quiet"])
        assert (refused.exit_code, refused.output) == (1, f"Error: {problem}")
        assert (
            CliRunner().invoke(main, [word, *command, "--dry-run"]).output.endswith(f" to openai/fake\n{problem}")
        )
    shown = CliRunner().invoke(main, ["run", *command, "--dry-run"]).output
    assert "so --max-cost cannot be kept" in " ".join(shown.split())
    assert provider.keys == []
    assert db.table("failed_replies").count == 0


def test_a_missing_key_is_named_in_one_line(files: list[str], provider: Provider) -> None:
    run = CliRunner().invoke(main, ["teach", *files, "--model", "openai/gpt-4o-mini", "--quiet"])
    assert run.exit_code == 1
    assert run.output.count("\n") == 1
    assert "OPENAI_API_KEY" in run.output


@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/", "/x", ""])
def test_a_model_without_a_provider_is_refused(model: str) -> None:
    with pytest.raises(BadConfig, match="name the teacher as PROVIDER/MODEL"):
        teacher_lm(model, temperature=1.0, max_tokens=512)


def test_a_model_that_thinks_first_gets_no_limit(provider: Provider) -> None:
    assert teacher_lm("openai/gpt-5", temperature=1.0, max_tokens=512).kwargs["max_completion_tokens"] is None
    with pytest.raises(BadConfig, match="openai/gpt-5 refuses these settings"):
        teacher_lm("openai/gpt-5", temperature=0.2, max_tokens=512)
