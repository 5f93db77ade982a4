"""`kard explain`, `kard failures` and `kard judge` as a person types them, and the trace behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.cli import main, show
from kard.errors import BadInput
from kard.evaluation.judgements import judge, judgements
from kard.evaluation.trace import find_question, trace

Case = Any  # conftest's
ESCAPES = "\x1b[31mred\x1b[0m \x9b2J \x07 \u202e[bold]x[/bold]"


@pytest.fixture
def kard(store: Database, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return what runs a command on the store, in a terminal of 80 columns."""
    monkeypatch.setenv("KARD_STORE", str(tmp_path / "kard.db"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("KARD_AUTHOR", raising=False)

    def run(*words: str, fails: int = 0) -> Result:
        result = CliRunner().invoke(main, list(words))
        assert result.exit_code == fails, result.output
        return result

    return run


@pytest.fixture
def asked(case: Case) -> int:
    """A question of two documents: one is found and read, the other is found by the rationale and not read."""
    q = case.question("apple", "d1", "d2")
    case.rationale(q, "d2-0", "d1-0", "x-0")
    case.rationale(q, accepted=False, sample=1)
    case.hits(q, "x-0", "d1-0", "y-0", "d2-0")
    case.ranked(q, "d1-0", "x-0", "d2-0", "y-0")
    case.answered(q, "bm25", "x-0", "d1-0")
    case.answered(q, "reranker", "d1-0", "x-0", answer="A")
    case.answered(q, "none")
    return q


def test_a_trace_holds_every_list_in_its_own_order(case: Case, asked: int) -> None:
    found = trace(case.db, "apple")
    order = {r.kind: [p.passage_id for p in r.places] for r in found.rankings}
    assert order == {
        "question": ["x-0", "d1-0", "y-0", "d2-0"],
        "rationale": ["d2-0", "d1-0", "x-0"],
        "reranker": ["d1-0", "x-0", "d2-0", "y-0"],
    }
    (reranked,) = found.lists("reranker")
    assert [(p.rank, p.bm25, p.score) for p in reranked.places][:2] == [(1, 7.0, 1.0), (2, 8.0, 0.5)]
    assert (reranked.rank_of("y-0"), reranked.rank_of("z-0")) == (4, None)


def test_a_trace_says_what_was_needed_read_and_answered_under_each_condition(case: Case, asked: int) -> None:
    found = trace(case.db, asked)
    assert found.needed == {"d1-0", "d2-0"}
    by_retriever = {a.condition.retriever: a for a in found.answers}
    assert [(name, a.verdict) for name, a in by_retriever.items()] == [
        ("none", "no lookup"),
        ("bm25", "retriever failure"),
        ("reranker", None),
    ]
    bm25 = by_retriever["bm25"]
    assert (bm25.passages, bm25.answer, bm25.votes, bm25.samples[0].text) == (("x-0", "d1-0"), "B", 1, "I say B.")
    assert [(r.accepted, r.conclusion) for r in found.rationales] == [(True, "A"), (False, "B")]
    assert {p.id for p in found.passages.values()} == {"x-0", "y-0", "d1-0", "d2-0"}


def test_a_question_that_nobody_answered_has_a_trace_too(case: Case, kard: Callable[..., Result]) -> None:
    case.question("lonely")
    found = trace(case.db, "lonely")
    assert (found.answers, found.rankings, found.rationales, found.needed) == ((), (), (), frozenset())
    assert "none were searched for" in kard("explain", "lonely").output


def test_a_question_is_found_by_its_key_before_its_row(case: Case) -> None:
    first, second = case.question("2"), case.question("other")
    assert (first, second) == (1, 2)
    assert find_question(case.db, "2") == 1
    assert find_question(case.db, "id:2") == find_question(case.db, 2) == find_question(case.db, "other") == 2
    assert find_question(case.db, "1") == 1


def test_a_question_is_found_by_its_text_or_by_its_beginning_where_that_is_clear(case: Case) -> None:
    ids = [case.question(key) for key in ("a", "b")]
    texts = ("Which cap does the\nvalve have?", "Which bolt holds the cap?")
    for id, text in zip(ids, texts, strict=True):
        case.write("update questions set text = ? where id = ?", text, id)
    for words, id in (("which CAP does the valve have?", ids[0]), ("Which bolt", ids[1])):
        assert find_question(case.db, words) == id
    with pytest.raises(BadInput, match=r"no question 'Which'; "):  # one word may be a wrong id
        find_question(case.db, "Which")
    case.write("update questions set text = 'Which bolt is it?' where id = ?", ids[0])
    with pytest.raises(BadInput, match=r"2 questions begin so; choose one by its id: 'a', 'b'$"):
        find_question(case.db, "Which bolt")


def test_wrong_answers_of_which_nothing_is_known_come_with_the_next_step(
    case: Case, task: str, kard: Callable[..., Result]
) -> None:
    case.answered(case.question("bare"), "bm25", "x-0")
    advice = "1 of 1 wrong answers are undetermined: nothing says what the question needs. Give questions a column"
    assert advice in kard("failures", task).stderr
    case.rationale(1, "x-0")
    case.hits(1, "x-0")
    assert "a column" not in kard("failures", task).stderr


def test_a_key_of_two_tasks_asks_which(case: Case) -> None:
    case.question("q")
    columns = "key, split, text, options, answer, kind, facts, hash, created"
    case.write(f"insert into questions (id, task, {columns}) select 9, 'twin', {columns} from questions")
    with pytest.raises(BadInput, match=r"question 'q' is in tiny, twin; choose one with --task, or give id:1"):
        find_question(case.db, "q")
    assert find_question(case.db, "q", "twin") == 9


def test_an_unknown_question_is_answered_with_the_nearest_ids_in_one_line(
    case: Case, kard: Callable[..., Result]
) -> None:
    case.question("apple-17")
    case.question("pear\x1b[2J")
    output = kard("explain", "aple-17", fails=1).output
    assert output == "Error: no question 'aple-17'; the nearest ids are 'apple-17'\n"
    output = kard("explain", "pear", fails=1).output
    assert "\x1b" not in output
    assert r"'pear\x1b[2J'" in output
    assert "rows go up to 2" in kard("explain", "999", fails=1).output
    assert kard("explain", "id:2").output.startswith("question pear")


def test_explaining_marks_needed_passages_and_puts_the_ranks_side_by_side(
    asked: int, kard: Callable[..., Result]
) -> None:
    output = kard("explain", "apple").output
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("A  yes" in line and "gold" in line for line in lines)
    (row,) = [line for line in lines if line.split()[:2] == ["*", "d2-0"] and "Title of d2" in line and "." in line]
    assert [word for word in row.split() if word.isdigit()] == ["4", "1", "3"]  # question, rationale, reranker
    assert any(line.split()[:1] == ["x-0"] for line in lines)
    assert "wrong: retriever failure (2 of 2 needed among the candidates, 1 read)" in output
    assert "read x-0 *d1-0" in output
    assert "I say B." in output


def test_a_condition_is_picked_by_size_method_or_retriever(asked: int, kard: Callable[..., Result]) -> None:
    def answers(words: str) -> list[str]:
        shown = json.loads(kard("explain", "apple", "--json", "--condition", words).output)
        return [a["retriever"] for a in shown["answers"]]

    assert answers("kard") == ["none", "bm25", "reranker"]
    assert answers("9m,bm25,none") == ["none", "bm25"]
    assert "no condition 'bm52'; this question was answered under 9m, kard, bm25, none, reranker" in (
        kard("explain", "apple", "--condition", "bm52", fails=1).output
    )


def test_json_holds_the_whole_trace(asked: int, kard: Callable[..., Result]) -> None:
    shown = json.loads(kard("explain", "apple", "--json").output)
    assert shown["question"]["gold"] == "yes"
    assert [place["rank"] for place in shown["lists"][0]["places"]] == [1, 2, 3, 4]
    assert shown["needs"]["i" * 16]["groups"] == [["d1-0"], ["d2-0"]]
    assert [a["verdict"] for a in shown["answers"]] == ["no lookup", "retriever failure", None]
    assert shown["passages"]["x-0"]["text"] == "Text of x-0."


@pytest.mark.parametrize("form", [(), ("--json",), ("--full",)])
def test_nothing_in_a_text_can_drive_a_terminal(
    case: Case, kard: Callable[..., Result], form: tuple[str, ...]
) -> None:
    q = case.question("evil" + ESCAPES, "d1")
    case.rationale(q, "d1-0")
    case.hits(q, "d1-0")
    case.answered(q, "bm25", "d1-0")
    case.write("update passages set title = ?, text = ?", ESCAPES, ESCAPES)
    case.write("update rationales set text = ?", ESCAPES)
    case.write("update samples set text = ?", ESCAPES)
    case.write("update questions set text = ?, options = ?", ESCAPES, json.dumps([ESCAPES, "no"]))
    case.write("update teachers set name = ?", ESCAPES)
    judge(case.db, q, "bad", passage="d1-0", note=ESCAPES, author=ESCAPES)
    for words in (("explain", f"id:{q}", *form), ("judge", "--list"), ("judge", "--list", "--json")):
        output = kard(*words).output
        assert [c for c in output if not c.isprintable() and c != "\n"] == []
        assert "[bold]x[/bold]" in output.replace("\n", "")  # markup stands as it was written


@given(st.text())
def test_json_output_is_printable_and_says_the_same(text: str) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(show.click, "echo", said.append)
        show.as_json({"text": text})
    assert json.loads(said[0]) == {"text": text}
    assert all(c.isprintable() or c == "\n" for c in said[0])


def test_a_judgement_is_kept_replaced_and_listed(case: Case, asked: int, kard: Callable[..., Result]) -> None:
    said = kard("judge", "apple", "good", "--passage", "d1", "--author", "ann", "--note", "names it").output
    assert said == "passage d1: good\n"
    assert "in place of" in kard("judge", "apple", "bad", "--passage", "d1-0", "--author", "ann").output
    kard("judge", "apple", "good", "--passage", "d1-0", "--author", "bob")
    kard("judge", "apple", "bad", "--rationale", "1")
    kept = [(j.passage_id, j.rationale_id, j.verdict, j.author, j.note) for j in judgements(case.db)]
    assert kept == [("d1-0", None, "bad", "ann", ""), ("d1-0", None, "good", "bob", ""), (None, 1, "bad", "", "")]
    listed = json.loads(kard("judge", "--list", "--json").output)
    assert [(j["key"], j["verdict"]) for j in listed] == [("apple", "bad"), ("apple", "good"), ("apple", "bad")]
    assert "judged bad by ann; judged good by bob" in kard("explain", "apple").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("good", "--passage", "z"), "passage 'z' was never found for the question"),
        (("good", "--passage", ""), "passage '' was never found for the question"),
        (("good", "--passage", "d"), "passage 'd' could be d1-0, d2-0; give more of its id"),
        (("bad", "--rationale", "9"), "no rationale 9 of that question; its rationales are 1, 2"),
    ],
)
def test_only_what_belongs_to_the_question_can_be_judged(
    case: Case, asked: int, kard: Callable[..., Result], words: tuple[str, ...], message: str
) -> None:
    case.passages("z-0")
    assert message in kard("judge", "apple", *words, fails=1).output
    assert judgements(case.db) == []


@pytest.mark.parametrize(
    "words", [("apple",), ("apple", "good"), ("apple", "good", "--passage", "a", "--rationale", "1"), ()]
)
def test_half_a_judgement_is_a_usage_error(asked: int, kard: Callable[..., Result], words: tuple[str, ...]) -> None:
    kard("judge", *words, fails=2)


TASK = """
from kard.programs import Answer, RetrieveThenAnswer, Teach, plain
from kard.tasks import Task

TASK = Task("tiny", "-", lambda row: plain(row), Teach, Answer, RetrieveThenAnswer)
"""


@pytest.fixture
def task(tmp_path: Any) -> str:
    file = tmp_path / "tiny_task.py"
    file.write_text(TASK, encoding="utf-8")
    return str(file)


def test_failures_are_counted_by_condition_in_every_form(
    asked: int, task: str, kard: Callable[..., Result]
) -> None:
    lines = json.loads(kard("failures", task, "--json").stdout)
    assert [(line["retriever"], line["wrong"]) for line in lines] == [("none", 1), ("bm25", 1)]
    assert lines[1]["verdicts"]["retriever failure"] == {"count": 1, "share": 1.0, "examples": ["apple"]}
    header, first, second = (row.split(",") for row in kard("failures", task, "--csv").stdout.splitlines())
    assert dict(zip(header, first, strict=True))["no lookup"] == "1"
    assert dict(zip(header, second, strict=True))["retriever failure share"] == "1.0"
    markdown = kard("failures", task, "--markdown").stdout.splitlines()
    assert markdown[0] == "| condition | wrong | retriever failure | no lookup |"
    assert markdown[-1] == "| 9m kard, bm25 k=2 | 1 | 1 (100%) | 0 |"
    table = kard("failures", task)
    assert "apple" in table.stdout
    assert "never: knowledge gap, student failure, teacher error, undetermined" in table.stderr
    each = json.loads(kard("failures", task, "--rows", "--json").stdout)
    assert [(f["key"], f["retriever"], f["verdict"]) for f in each] == [
        ("apple", "none", "no lookup"),
        ("apple", "bm25", "retriever failure"),
    ]


def test_failures_of_judged_questions_only(case: Case, asked: int, task: str, kard: Callable[..., Result]) -> None:
    assert "judge with: kard judge" in kard("failures", task, "--judged", fails=1).output
    judge(case.db, asked, "good", passage="d1-0")
    assert len(json.loads(kard("failures", task, "--judged", "--json").stdout)) == 2


def test_documents_that_could_not_all_be_read_are_pointed_out(
    case: Case, task: str, kard: Callable[..., Result]
) -> None:
    q = case.question("many", "d1", "d2", "d3")
    case.hits(q, "d1-0", "d2-0", "d3-0")
    case.answered(q, "bm25", "d1-0", "d2-0")
    assert "--needed any" in kard("failures", task).stderr
    result = kard("failures", task, "--needed", "any", "--json")
    assert "--needed any" not in result.stderr
    assert json.loads(result.stdout)[0]["verdicts"]["student failure"]["count"] == 1


def test_a_passage_without_title_is_shown_by_its_beginning(
    case: Case, asked: int, kard: Callable[..., Result]
) -> None:
    case.write("update passages set title = '', text = 'Orchards stand on slopes.' where id = 'x-0'")
    lines = kard("explain", "apple").output.splitlines()
    assert [line for line in lines if "x-0" in line and "Orchards stand on" in line]
