"""Questions are stored and read again, and `kard load` says what is wrong with a file."""

from __future__ import annotations

import gzip
import json
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from kard import tasks
from kard.cli import main
from kard.db import open_store
from kard.errors import BadInput
from kard.files import Row
from kard.pipeline.load import LoadSummary, load_questions, store_questions
from kard.questions import QuestionSet
from kard.records import Question

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "strategyqa" / "questions.jsonl"

CORK: Row = {
    "id": "q1",
    "split": "train",
    "question": "Does cork float?",
    "options": ["yes", "no"],
    "answer": "A",
    "facts": ["Cork is light."],
    "evidence": ["p2", "p1", "p2"],
}
IRON: Row = {"id": "q2", "split": "dev", "question": "Does iron float?", "options": ["yes", "no"], "answer": "B"}


def write(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return open_store(tmp_path / "kard.db")


def stored(
    db: Database, task: str, split: str | None = None, limit: int | None = None
) -> list[tuple[int, Question]]:
    return list(QuestionSet(task, split, limit).read(db).items())


def load(db: Database, path: Path, *, task: str = "choice", split: str | None = None) -> LoadSummary:
    return load_questions(db, tasks.load(task), path, split=split)


def test_a_file_loaded_twice_equals_once(db: Database, tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", CORK, IRON)
    assert load(db, path) == LoadSummary(added=2, unchanged=0, rationales=0, splits={"train": 1, "dev": 1})
    before = list(db.query("select * from questions")), list(db.query("select * from evidence"))
    assert load(db, path) == LoadSummary(added=0, unchanged=2, rationales=0, splits={"train": 1, "dev": 1})
    assert (list(db.query("select * from questions")), list(db.query("select * from evidence"))) == before


def test_what_is_loaded_is_read_back(db: Database, tmp_path: Path) -> None:
    load(db, write(tmp_path / "q.jsonl", CORK, IRON))
    cork = Question("q1", "train", "Does cork float?", ("yes", "no"), "A", ("p1", "p2"), ("Cork is light.",))
    iron = Question("q2", "dev", "Does iron float?", ("yes", "no"), "B")
    assert stored(db, "choice") == [(1, cork), (2, iron)]
    assert stored(db, "choice", "dev") == [(2, iron)]
    assert stored(db, "choice", limit=1) == [(1, cork)]
    assert stored(db, "choice", "dev", limit=1) == [(2, iron)]
    assert stored(db, "medqa") == []
    assert stored(db, "choice", "test") == []


def test_a_repeated_row_is_one_question_whatever_the_order_of_its_evidence(db: Database, tmp_path: Path) -> None:
    moved = {**CORK, "evidence": ["p1", "p2"]}
    loaded = load(db, write(tmp_path / "q.jsonl", CORK, IRON, moved))
    assert loaded == LoadSummary(added=2, unchanged=1, rationales=0, splits={"train": 1, "dev": 1})
    assert load(db, write(tmp_path / "q.jsonl", moved)).unchanged == 1


def test_more_rows_of_a_file_add_to_the_stored_ones(db: Database, tmp_path: Path) -> None:
    load(db, write(tmp_path / "q.jsonl", IRON))
    loaded = load(db, write(tmp_path / "q.jsonl", IRON, CORK))
    assert (loaded.added, loaded.unchanged) == (1, 1)
    assert [q.key for _, q in stored(db, "choice")] == ["q2", "q1"]


def test_two_tasks_may_have_the_same_id(db: Database, tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", CORK)
    assert load(db, path).added == load(db, path, task="strategyqa").added == 1


def test_the_split_of_the_row_goes_first_then_the_option_then_the_task(db: Database, tmp_path: Path) -> None:
    bare = [{"id": str(i), "question": f"Is it {i}?", "answer": "no"} for i in range(40)]
    loaded = load(db, write(tmp_path / "q.jsonl", CORK, *bare), split="dev")
    assert loaded.splits == {"train": 1, "dev": 40}
    other = open_store(tmp_path / "other.db")
    assert set(load(other, write(tmp_path / "q.jsonl", *bare)).splits) == {"train", "test"}


def test_a_row_without_any_split_is_refused(db: Database, tmp_path: Path) -> None:
    row = {k: v for k, v in CORK.items() if k != "split"}
    path = write(tmp_path / "q.jsonl", row)
    with pytest.raises(BadInput, match=r"q\.jsonl:1: the row names no split; give one with: --split train"):
        load(db, path, task="strategyqa")
    assert load(db, path, task="strategyqa", split="train").splits == {"train": 1}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"question": "Does cork sink?"}, "text"),
        ({"answer": "B"}, "answer"),
        ({"options": ["yes", "never"]}, "list of options"),
        ({"split": "dev"}, "split"),
        ({"facts": []}, "list of facts"),
        ({"evidence": ["p1"]}, "list of evidence"),
    ],
)
def test_an_id_stands_for_one_question(
    db: Database, tmp_path: Path, change: Mapping[str, object], difference: str
) -> None:
    other = {**CORK, **change}
    both = write(tmp_path / "both.jsonl", CORK, other)
    with pytest.raises(BadInput) as error:
        load(db, both)
    assert str(error.value).startswith(f"{both}:2: id 'q1' stands at {both}:1 too, with another {difference}; ")
    assert stored(db, "choice") == []

    load(db, write(tmp_path / "first.jsonl", CORK))
    second = write(tmp_path / "second.jsonl", IRON, other)
    with pytest.raises(BadInput) as error:
        load(db, second)
    assert str(error.value).startswith(f"{second}:2: id 'q1' is in the store with another {difference}; ")
    assert [q.key for _, q in stored(db, "choice")] == ["q1"]


def test_generated_questions_are_stored_and_checked_like_those_of_files(db: Database) -> None:
    question = Question("a", "test", "Is it?", ("yes", "no"), "A", kind="yes/no")
    assert store_questions(db, "own", [question, question]).added == 1
    assert stored(db, "own") == [(1, question)]
    for wrong, problem in (
        (replace(question, answer="C"), "question 'a': answer 'C' is not one of A, B"),
        (replace(question, answer=""), "question 'a': answer '' is not one of A, B"),
        (replace(question, options=("yes",)), "question 'a': the number of options is 1, not 2 to 26"),
        (replace(question, text="\ud800"), "question 'a': holds half a character"),
        (replace(question, text="Was it?"), "id 'a' is in the store with another text"),
    ):
        with pytest.raises(BadInput) as error:
            store_questions(db, "own", [replace(question, key="b"), wrong])
        assert str(error.value).startswith(problem)
        assert len(stored(db, "own")) == 1


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda key: bool(key.strip()))
some_texts = st.lists(keys, max_size=3).map(tuple)
sound = st.builds(
    Question,
    key=keys,
    split=st.sampled_from(["train", "dev"]),
    text=keys,
    options=st.lists(keys, min_size=2, max_size=5).map(tuple),
    answer=st.none() | st.just("A"),
    evidence=st.sets(keys, max_size=3).map(lambda names: tuple(sorted(names))),
    facts=some_texts,
    kind=st.sampled_from(["", "yes/no"]),
)


@settings(max_examples=40, deadline=None)
@given(questions=st.lists(sound, max_size=4, unique_by=lambda q: q.key))
def test_any_valid_questions_are_read_back_as_they_were(questions: list[Question]) -> None:
    db = Database(memory=True)
    import_module("kard.store.migrations").migrations.apply(db)
    store_questions(db, "own", questions)
    assert [q for _, q in stored(db, "own")] == questions
    assert store_questions(db, "own", questions).added == 0


def test_explanations_in_the_file_become_rationales_of_a_recorded_teacher(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "id,split,question,A,B,answer,explanation\n"
        "a,train,Which floats?,cork,iron,A,Cork is light.\n"
        "b,train,Which sinks?,cork,iron,iron,\n"
        "c,train,Which rusts?,cork,iron,,Iron does.\n",
        encoding="utf-8",
    )
    assert (load(db, path).rationales, load(db, path).rationales) == (1, 0)
    rationales = list(
        db.query(
            "select q.key, t.model, r.text, r.conclusion, r.accepted from rationales r "
            "join questions q on q.id = r.question_id join teachers t on t.id = r.teacher_id"
        )
    )
    assert rationales == [
        {"key": "a", "model": "recorded:mine", "text": "Cork is light.", "conclusion": "A", "accepted": 1}
    ]


def test_a_changed_explanation_changes_nothing_in_the_store(db: Database, tmp_path: Path) -> None:
    row = {**IRON, "rationale": "Iron is heavy."}
    load(db, write(tmp_path / "q.jsonl", row))
    changed = write(tmp_path / "q.jsonl", {**row, "rationale": "Iron is dense."}, CORK)
    with pytest.raises(BadInput, match="an explanation of somebody else belongs in a file of another name"):
        load(db, changed)
    assert [q.key for _, q in stored(db, "choice")] == ["q2"]
    assert load(db, changed.rename(tmp_path / "r.jsonl")) == LoadSummary(1, 1, 1, {"dev": 1, "train": 1})


@pytest.mark.skipif(not REAL.exists(), reason=f"needs the real questions at {REAL}")
def test_the_published_strategyqa_loads_whole(db: Database) -> None:
    loaded = load(db, REAL, task="strategyqa")
    assert loaded == LoadSummary(added=1946, unchanged=0, rationales=0, splits={"train": 1603, "dev": 343})
    assert load(db, REAL, task="strategyqa").added == 0
    assert list(db.query("select count(distinct question_id) as n from evidence")) == [{"n": 1946}]


# A person's own task


def own_task(tmp_path: Path) -> Path:
    """Write the example of the documentation to a file."""
    doc: str = import_module("kard.programs").__doc__ or ""
    lines = doc.splitlines()
    start, end = (next(i for i, x in enumerate(lines) if x.startswith(begin)) for begin in ("    from", "    TASK"))
    path = tmp_path / "capitals.py"
    path.write_text(textwrap.dedent("\n".join(lines[start : end + 1])) + "\n", encoding="utf-8")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_documented_task_loads_by_its_path(tmp_path: Path) -> None:
    path, store = own_task(tmp_path), tmp_path / "kard.db"
    questions = write(
        tmp_path / "q.jsonl",
        {"split": "train", "question": "Capital of Peru?", "cities": "Quito;Lima", "answer": "B"},
    )
    result = run("load", path, questions, "--store", store)
    assert result.exit_code == 0, result.output
    assert "capitals: 1 question added, 0 unchanged (train 1)" in result.output
    assert [q.gold for _, q in stored(open_store(store), "capitals")] == ["Lima"]

    write(questions, {"split": "train", "question": "Capital of Chad?", "answer": "B"})
    result = run("load", path, questions, "--store", store)
    assert result.exit_code == 1
    problem = (
        "no field 'cities' among 'split', 'question', 'answer'; see what a row holds with: "
        f"kard tasks {path}; leave such rows out with: --skip-bad"
    )
    assert result.output == f"Error: {questions}:1: {problem}\n"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return row['nothing']", f"no field 'nothing' among {', '.join(map(repr, CORK))}"),
        ("return Question('k', 'train', 'Is it?', ('yes', 'no'), 'C')", "answer 'C' is not one of A, B"),
        ("return Question(' ', 'train', 'Is it?', ('yes', 'no'), 'A')", "the id is empty"),
        ("return Question('k', 'train', '', ('yes', 'no'), 'A')", "the question is empty"),
    ],
)
def test_the_questions_of_any_parser_are_checked(db: Database, tmp_path: Path, body: str, problem: str) -> None:
    task = own_task(tmp_path)
    text = task.read_text(encoding="utf-8").replace(
        'return plain(row, options=required(row, "cities").split(";"))', body
    )
    assert body in text
    task.write_text("from kard.records import Question\n" + text, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        load(db, write(tmp_path / "q.jsonl", CORK), task=str(task))
    assert f"q.jsonl:1: {problem}; see what a row holds with" in str(error.value)


def test_rows_that_are_no_questions_are_skipped_unless_all_are(db: Database, tmp_path: Path) -> None:
    def passing(row: Row) -> Question | None:
        return None if row["id"] == "q1" else tasks.load("choice").parse(row)

    task = replace(tasks.load("choice"), parse=passing)
    assert load_questions(db, task, write(tmp_path / "q.jsonl", CORK, IRON)).added == 1
    with pytest.raises(BadInput, match="no row is a question of choice"):
        load_questions(db, task, write(tmp_path / "q.jsonl", CORK))


def test_the_option_gives_the_split_that_a_parser_leaves_empty(db: Database, tmp_path: Path) -> None:
    def bare(row: Row) -> Question:
        return Question(str(row["id"]), "", str(row["question"]), ("yes", "no"), "A")

    task = replace(tasks.load("choice"), parse=bare)
    path = write(tmp_path / "q.jsonl", {"id": "q1", "question": "Is it?"})
    assert load_questions(db, task, path, split="dev").splits == {"dev": 1}


# The command


def broken_gzip(path: Path) -> Path:
    whole = gzip.compress("".join(json.dumps({**IRON, "id": f"q{i}"}) + "\n" for i in range(500)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    return path


def bad_files(folder: Path) -> dict[str, tuple[Path, str, str]]:
    """Return wrong files by name: the file, the beginning of its error, and a part of it."""
    latin = folder / "latin.jsonl"
    latin.write_bytes((json.dumps(CORK) + "\n").encode() + '{"question": "Café?"}\n'.encode("latin-1"))
    empty = write(folder / "empty.jsonl")
    wrong = write(folder / "wrong.jsonl", IRON, {**CORK, "answer": "E"})
    twice = write(folder / "twice.jsonl", CORK, IRON, {**CORK, "question": "Does lead float?"})
    missing = write(folder / "missing.jsonl", IRON, {k: v for k, v in CORK.items() if k != "question"})
    torn = broken_gzip(folder / "torn.jsonl.gz")
    absent = folder / "absent.jsonl"
    return {
        "latin": (latin, f"{latin}:2: ", "byte 0xe9 is not UTF-8"),
        "empty": (empty, f"{empty}: ", "holds no rows"),
        "wrong": (wrong, f"{wrong}:2: ", "answer 'E' is not one of A, B"),
        "twice": (twice, f"{twice}:3: ", f"id 'q1' stands at {twice}:1 too, with another text"),
        "missing": (missing, f"{missing}:2: ", "no field 'question'"),
        "torn": (torn, f"{torn}:", "the gzip ends early or is broken"),
        "absent": (absent, f"{absent}: ", "no such file"),
    }


@pytest.mark.parametrize("kind", ["latin", "empty", "wrong", "twice", "missing", "torn", "absent"])
def test_a_bad_file_gives_one_line_of_error_and_leaves_the_store_empty(tmp_path: Path, kind: str) -> None:
    path, begin, problem = bad_files(tmp_path)[kind]
    store = tmp_path / "kard.db"
    result = run("load", "choice", path, "--store", store)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert result.output.startswith(f"Error: {begin}")
    assert problem in result.output
    db = open_store(store)
    assert [db.table(name).count for name in ("questions", "evidence", "rationales", "teachers")] == [0, 0, 0, 0]


def test_the_command_reports_its_result_and_the_next_command(tmp_path: Path) -> None:
    path, store = write(tmp_path / "q.jsonl", CORK, IRON), tmp_path / "kard.db"
    result = run("load", "choice", path, "--store", store)
    assert result.exit_code == 0
    first = "choice: 2 questions added, 0 unchanged (train 1, dev 1)"
    assert result.output.splitlines() == [first, f"Next: kard index SOURCE --store {store}"]
    again = run("load", "choice", path, "--store", store).output
    assert "choice: 0 questions added, 2 unchanged (train 1, dev 1)" in again


def test_recorded_rationales_are_loaded_with_the_questions_or_after_them(tmp_path: Path) -> None:
    path, store = write(tmp_path / "q.jsonl", CORK, IRON), tmp_path / "kard.db"
    recorded = {"sample": 0, "rationale": "Therefore, the answer is (A) yes.", "model": "m"}
    first = write(tmp_path / "first.jsonl", {**recorded, "question_id": "q1"})
    second = write(
        tmp_path / "second.jsonl", {**recorded, "question_id": "q2"}, {**recorded, "question_id": "q1", "sample": 1}
    )
    output = run("load", "choice", path, "--rationales", first, "--rationales", second, "--store", store).output
    assert "1 rationale added from first.jsonl\n2 rationales added from second.jsonl\n" in output
    again = run("load", "choice", "--rationales", first, "--store", store)
    assert again.exit_code == 0
    assert again.output.startswith("0 rationales added from first.jsonl\n")
    unknown = write(tmp_path / "unknown.jsonl", {**recorded, "question_id": "q9"})
    refused = run("load", "choice", "--rationales", unknown, "--store", store)
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert refused.output.startswith(f"Error: {unknown}:1: no question 'q9' of choice")


def test_the_next_command_adds_what_the_store_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "kard.db"
    monkeypatch.setenv("KARD_STORE", str(store))
    assert "Next: kard index SOURCE\n" in run("load", "choice", write(tmp_path / "q.jsonl", IRON)).output
    state = {"id": "i", "path": "p", "passages": 1, "analyser": "en", "created": "now"}
    open_store(store).table("indexes").insert(state)
    assert "Next: kard teach choice --model PROVIDER/MODEL\n" in run("load", "choice", tmp_path / "q.jsonl").output
    explained = write(tmp_path / "r.jsonl", {**CORK, "rationale": "Cork is light."})
    output = run("load", "choice", explained).output
    assert "1 rationale added, which came with the questions\n1 rationale of choice: 1 accepted" in output
    assert "\nNext: kard run choice\n" in output


def test_a_knowledge_base_is_followed_by_the_command_that_the_store_needs_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.txt").write_text("Cork floats.")
    assert run("index", "rules.txt").output.splitlines()[-1] == "Next: kard load TASK FILE"
    run("load", "choice", write(tmp_path / "q.jsonl", {**CORK, "rationale": "Cork is light."}))
    typed = ("--store", "kard.db", "--knowledge", "my rules")
    output = run("index", "rules.txt", *typed).output
    assert "\n1 passage added, 0 removed, 0 kept; 1 in my rules" in output
    assert output.endswith("\nNext: kard run choice --store kard.db --knowledge 'my rules'\n")


def test_a_row_without_a_field_names_the_fields_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "fragen.csv").write_text("Frage;A;B;Antwort\nSchwimmt Kork?;ja;nein;A\n")
    refused = run("load", "choice", tmp_path / "fragen.csv", "--store", tmp_path / "kard.db")
    assert "no field 'question' among 'Frage', 'A', 'B', 'Antwort'; see what a row holds with" in refused.output


def test_a_command_without_a_file_is_a_usage_error(tmp_path: Path) -> None:
    result = run("load", "choice", "--store", tmp_path / "kard.db")
    assert result.exit_code == 2
    assert "--rationales FILE" in result.output
    assert not (tmp_path / "kard.db").exists()


def test_tasks_are_listed_with_their_bases_and_explained_one_by_one() -> None:
    listed = json.loads(run("tasks", "--json").output)
    assert [each["name"] for each in listed] == tasks.names()
    (choice,) = [task for task in listed if task["name"] == "choice"]
    assert choice["students"]["250m"] == "google/flan-t5-base"
    printed = run("tasks").output
    for name in tasks.names():
        assert tasks.load(name).about in printed
    assert "google/flan-t5-xl" in printed
    assert '"options": ["iron", "cork", "glass"]' in run("tasks", "choice").output


def test_one_bad_row_refuses_the_file_unless_bad_rows_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text(
        "id,question,A,B,answer\n1,One?,x,y,A\n2,Two?,x,y,Q\n3,Three?,x\n1,Else?,x,y,A\n4,Four?,x,y,B\n"
    )
    command = ["load", "choice", str(file), "--store", str(tmp_path / "kard.db"), "--quiet"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert f"{file}:3: answer 'Q' is not one of A, B" in refused.output
    assert refused.output.endswith("leave such rows out with: --skip-bad\n")
    assert stored(open_store(tmp_path / "kard.db"), "choice") == []

    skipped = CliRunner().invoke(main, [*command, "--skip-bad"])
    assert skipped.exit_code == 0, skipped.output
    left_out = [line for line in skipped.output.splitlines() if line.startswith("left out: ")]
    assert [line.split(": ")[1] for line in left_out] == [f"{file}:{line}" for line in (3, 4, 5)]
    assert "3 rows left out\n" in skipped.output
    assert "2 questions added, 0 unchanged" in skipped.output
    assert [question.key for _, question in stored(open_store(tmp_path / "kard.db"), "choice")] == ["1", "4"]


def test_a_file_of_bad_rows_alone_is_refused_with_the_first_problem(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,A,B,answer\nOne?,x,y,Q\n")
    command = ["load", "choice", str(tmp_path / "q.csv"), "--store", str(tmp_path / "kard.db"), "--skip-bad"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "no row is a question of choice" in result.output


def test_parquet_files_of_the_hub_are_loaded(tmp_path: Path) -> None:
    row = {"id": "7-1", "question_stem": "Ice that warms becomes", "answerKey": "2", "fact1": "ice melts"}
    row["choices"] = {"text": ["steel", "water"], "label": ["1", "2"]}  # type: ignore[assignment]
    table = import_module("pyarrow").Table.from_pylist([row])
    import_module("pyarrow.parquet").write_table(table, tmp_path / "train-00000-of-00001.parquet")
    file = str(tmp_path / "train-00000-of-00001.parquet")
    command = ["load", "openbookqa", file, "--split", "train", "--store", str(tmp_path / "kard.db")]
    assert CliRunner().invoke(main, command).exit_code == 0
    expected = Question("7-1", "train", "Ice that warms becomes", ("steel", "water"), "B", facts=("ice melts",))
    assert stored(open_store(tmp_path / "kard.db"), "openbookqa") == [(1, expected)]
