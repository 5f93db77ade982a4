"""Stored students and prompted bases on the same questions; stored texts read again; `kard ask`."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from kard import tasks
from kard.api.load import load_program
from kard.cli import choose, main
from kard.config import Prompting
from kard.db import open_store, rows
from kard.errors import BadInput, Missing
from kard.evaluation import rescore as rescoring
from kard.methods import METHODS
from kard.pipeline.evaluate import choose as chosen_students
from kard.recipes import differences
from kard.records import LETTERS
from kard.student.examples import RationaleSource, shot_pairs
from kard.student.prompt import render_shot, signature_for, up_to_first_answer

TOWNS = {"Quill": "red", "Brack": "blue", "Tarsk": "green", "Vell": "white", "Moss": "black", "Fenn": "brown"}
TESTED = ("Moss", "Fenn")
TASK = """
from kard.config import Decoding, Lora, RerankerTraining, Retrieval, TaskSettings, StudentTraining
from kard.programs import Answer, RetrieveThenAnswer, Teach, plain
from kard.tasks import Task


class Explain(Teach):
    '''Explain the colour of a town's gate.'''


class Choose(Answer):
    '''Read, then name the colour.'''


def parse(row):
    return plain(row, options=row["options"].split(";"))


TASK = Task(
    "gates",
    "Colours of town gates.",
    parse,
    Explain,
    Choose,
    RetrieveThenAnswer,
    students={{"tiny": {decoder!r}}},
    encoders={{"tiny": {encoder!r}}},
    settings=TaskSettings(
        retrieval=Retrieval(kappa=4, k=2, depth=3, max_df=1.0),
        reranker=RerankerTraining(lora=Lora(rank=2, alpha=4), batch=4, candidates=4),
        student=StudentTraining(lora=Lora(rank=2, alpha=4), epochs=1, batch=4, k=2),
        decoding=Decoding(max_new_tokens=6, batch=4),
    ),
)
"""


def tokenizer(folder: Path, texts: list[str]) -> int:
    """Write a byte-level tokenizer of the texts. Return its number of tokens."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=400, special_tokens=["<end>"], show_progress=False)
    folder.mkdir()
    bpe.save(str(folder / "tokenizer.json"))
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<end>", pad_token="<end>"
    )
    fast.save_pretrained(folder)
    return len(fast)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a store with `ft` and `kard` of seed 0, `kard` of seed 1, a reranker of each seed, and no answers."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("evaluate")
    texts = [f"The gate of {town} is {colour}." for town, colour in TOWNS.items()]
    torch.manual_seed(0)
    size: Any = {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 2048,
    }
    more: Any = {"num_hidden_layers": 4, "num_key_value_heads": 2, "eos_token_id": 0, "pad_token_id": 0}
    LlamaForCausalLM(LlamaConfig(vocab_size=tokenizer(folder / "decoder", texts), **more, **size)).save_pretrained(
        folder / "decoder"
    )
    BertModel(
        BertConfig(vocab_size=tokenizer(folder / "encoder", texts), num_hidden_layers=2, **size)
    ).save_pretrained(folder / "encoder")
    (folder / "docs").mkdir()
    for town, text in zip(TOWNS, texts, strict=True):
        (folder / "docs" / f"{town}.md").write_text(f"# {town}\n\n{text}\n", encoding="utf-8")
    lines, rationales = ["id,split,question,options,answer"], list[str]()
    for number, (town, colour) in enumerate(TOWNS.items()):
        split = "test" if town in TESTED else "train"
        options = ";".join(TOWNS.values())
        lines.append(f"{town},{split},Which colour has the gate of {town}?,{options},{LETTERS[number]}")
        text = f"The gate of {town} is {colour}. So the answer is {colour}."
        rationales.append(json.dumps({"question_id": town, "sample": 0, "rationale": text, "model": "guide"}))
    (folder / "questions.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "rationales.jsonl").write_text("\n".join(rationales), encoding="utf-8")
    bases = {"decoder": str(folder / "decoder"), "encoder": str(folder / "encoder")}
    (folder / "gates.py").write_text(TASK.format(**bases), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_CACHE", str(folder / "cache"))
        kard(folder, "index", str(folder / "docs"), "--quiet", task=False)
        kard(folder, "load", str(folder / "questions.csv"), "--rationales", str(folder / "rationales.jsonl"))
        kard(folder, "ground", "--quiet")
        for seed in ("0", "1"):
            kard(folder, "train", "reranker", "--seed", seed, "--quiet")
            kard(
                folder,
                "train",
                "student",
                "--method",
                "ft,kard" if seed == "0" else "kard",
                "--seed",
                seed,
                "--quiet",
            )
        yield folder


def kard(folder: Path, *words: str, code: int = 0, task: bool = True) -> Result:
    """Run a command on the folder's store, with its task before the other arguments if it takes one."""
    place = 2 if words[0] == "train" else 1
    named = [*words[:place], *([str(folder / "gates.py")] if task else []), *words[place:]]
    result = CliRunner().invoke(main, [*named, "--store", str(folder / "kard.db")])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the trained store, to write into."""
    return copied(trained, tmp_path / "store")


def copied(trained: Path, to: Path) -> Path:
    """Copy the store, its adapters and its knowledge base to another folder."""
    to.mkdir()
    for part in ("kard.adapters", "kard.knowledge"):
        shutil.copytree(trained / part, to / part)
    store = open_store(trained / "kard.db")
    store.execute("vacuum into ?", [str(to / "kard.db")])
    store.close()
    shutil.copy(trained / "gates.py", to / "gates.py")
    return to


def database(folder: Path) -> Database:
    return open_store(folder / "kard.db")


def answers(folder: Path) -> list[tuple[object, ...]]:
    """Return every answer, in a fixed order."""
    sql = (
        "select s.method, s.seed, e.retriever, q.key, x.sample, p.answer, p.correct, p.votes, x.text"
        " from samples x join predictions p on p.id = x.prediction_id"
        " join evaluations e on e.id = p.evaluation_id join students s on s.id = e.student_id"
        " join questions q on q.id = p.question_id order by 1, 2, 3, 4, 5"
    )
    return database(folder).execute(sql).fetchall()


ALL = ("evaluate", "--student", "all,prompted", "--retriever", "none,bm25,reranker,silver", "--quiet")


def test_every_student_and_base_answers_the_same_questions_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kard.models import hardware as loading
    from kard.student.generation.student import loaded_base

    loads: list[str] = []
    load = loading.load_model

    def counted(base: Any, precision: Any) -> Any:
        loads.append(base.spec)
        return load(base, precision)

    loaded_base.cache_clear()
    monkeypatch.setattr(loading, "load_model", counted)
    first = kard(folder, *ALL).output
    # ft reads nothing; kard of two seeds and three prompted methods read from four retrievers each
    assert first.startswith(f"{2 * (1 + 2 * 4 + 3 * 4)} new answers under 21 conditions")
    assert len(loads) == 1  # one base, five students
    made = answers(folder)
    assert len(made) == 42
    assert {row[3] for row in made} == set(TESTED)
    assert kard(folder, *ALL).output.startswith("0 new answers")
    assert answers(folder) == made
    assert "over seeds" in first


def test_each_seed_reads_by_the_reranker_of_its_own_seed(folder: Path) -> None:
    kard(folder, "evaluate", "--student", "kard", "--retriever", "reranker", "--quiet")
    found = database(folder).execute(
        "select s.seed, json_extract(r.settings, '$.seed') from evaluations e"
        " join students s on s.id = e.student_id join rerankers r on r.id = e.reranker_id order by 1"
    )
    assert found.fetchall() == [(0, 0), (1, 1)]
    (newest,) = database(folder).execute("select id from rerankers order by rowid desc limit 1").fetchone()
    kard(folder, "evaluate", "--student", "seed=0", "--retriever", "reranker", "--reranker", newest, "--quiet")
    labels = json.loads(kard(folder, "report", "--json").output)["accuracy"]
    assert len({row["variant"] for row in labels if row["method"] == "kard"}) == 2


def test_students_with_few_questions_left_answer_them_in_one_batch_as_they_would_alone(
    folder: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kard.student.generation import batch as generation

    batches: list[tuple[int, int, str]] = []
    generate_batches = generation.generate_batches

    def noted(writer: Any, rows: Any, *rest: Any) -> Any:
        batches.append((len({row.student.name for row in rows}), len(rows), threading.current_thread().name))
        return generate_batches(writer, rows, *rest)

    monkeypatch.setattr(generation, "generate_batches", noted)
    kard(folder, "evaluate", "--student", "kard", "--retriever", "bm25,silver", "--quiet")
    here = threading.main_thread().name
    assert all(batch == (2, 4, here) for batch in batches)  # two students, two questions
    assert 1 <= len(batches) <= 2  # what silver finds may be what BM25 found
    apart = copied(trained, tmp_path / "apart")
    for seed in "01":
        kard(apart, "evaluate", "--student", f"kard/seed={seed}", "--retriever", "bm25,silver", "--quiet")
    assert answers(apart) == answers(folder)


def test_the_answers_of_a_batch_are_stored_before_the_next_batch_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kard.student.generation import batch as generation

    kept: list[int] = []
    generate_batches = generation.generate_batches

    def noted(*args: Any) -> Any:
        kept.append(database(folder).table("predictions").count)
        return generate_batches(*args)

    monkeypatch.setattr(generation, "generate_batches", noted)
    kard(folder, "evaluate", "--student", "ft", "--retriever", "none", "--set", "decoding.batch=1", "--quiet")
    assert kept == [0, 1]


class Broken(BaseException):
    """Ends a command as a kill does."""


def test_an_interrupted_evaluation_goes_on_where_it_was(
    folder: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kard.evaluation import answer as answering

    keep, left = answering._store_prediction, [7]  # pyright: ignore[reportPrivateUsage]  # where a kill would hurt most

    def cut(*args: Any) -> None:
        if left[0] == 0:
            raise Broken
        left[0] -= 1
        keep(*args)

    monkeypatch.setattr(answering, "_store_prediction", cut)
    with pytest.raises(Broken):
        kard(folder, *ALL)
    monkeypatch.setattr(answering, "_store_prediction", keep)
    assert 7 <= len(answers(folder)) < 42  # what another retriever finds alike is copied, not written
    kard(folder, *ALL)
    whole = copied(trained, tmp_path / "whole")
    kard(whole, *ALL)
    assert answers(folder) == answers(whole)


def test_a_size_may_have_another_base_than_the_task_declares(trained: Path, folder: Path) -> None:
    shutil.copytree(trained / "decoder", folder / "mine")
    mine = ("--base", f"mine={folder / 'mine'}")
    refused = kard(folder, "train", "student", "--method", "ft", "--size", "mine", code=1).output
    assert "gates has no size 'mine'; it declares tiny" in refused
    kard(folder, "train", "student", "--method", "ft", "--size", "mine", *mine, "--quiet")
    kard(folder, "evaluate", "--student", "mine/ft,tiny/ft", "--retriever", "none", "--quiet")
    kard(folder, "evaluate", "--student", "zero-shot", "--size", "mine", *mine, "--retriever", "none", "--quiet")
    lines = json.loads(kard(folder, "report", "--json").output)["accuracy"]
    assert [(row["size"], row["method"]) for row in lines[2:]] == [
        ("mine", "zero-shot"), ("mine", "ft"), ("tiny", "ft"),
    ]  # fmt: skip
    bases = {row["size"]: row["base"] for row in database(folder).query("select size, base from students")}
    assert bases["mine"] == str(folder / "mine")
    for wrong in ("mine", "=x", "a/b=x", "mine="):
        refused = kard(folder, "train", "student", "--base", wrong, code=1).output
        assert f"{wrong!r} names no base; write SIZE=BASE" in refused


def test_votes_are_over_stored_samples_and_stand_apart_from_greedy_answers(folder: Path) -> None:
    for more in ((), ("-n", "3")):
        kard(folder, "evaluate", "--student", "ft,kard/seed=1", "--retriever", "bm25", "--quiet", *more)
    samples = [row[:5] for row in answers(folder) if row[0] == "kard"]
    assert len(samples) == 2 * (1 + 3)
    lines = json.loads(kard(folder, "report", "--json").output)["accuracy"]
    assert {(row["method"], row["variant"]) for row in lines[2:]} == {
        (method, variant) for method in ("ft", "kard") for variant in ("n=1", "n=3")
    }


def test_a_dry_run_says_what_is_missing_and_writes_nothing(folder: Path) -> None:
    before = [database(folder).table(name).count for name in sorted(database(folder).table_names())]
    shown = kard(folder, *ALL, "--dry-run").output
    assert sum(line.split()[-1:] == ["2"] for line in shown.splitlines()) == 21
    assert [database(folder).table(name).count for name in sorted(database(folder).table_names())] == before


def test_prompted_bases_have_rows_that_do_not_count_as_trained_students(folder: Path) -> None:
    kard(folder, "evaluate", "--student", "few-shot", "--retriever", "bm25", "--quiet")
    kard(folder, "evaluate", "--student", "prompted", "--retriever", "none", "--quiet")
    db = database(folder)
    found = db.execute("select method, path, examples from students where path = '' order by method").fetchall()
    assert found == [("few-shot", "", 3), ("few-shot-cot", "", 3), ("zero-shot", "", 0)]
    states = json.loads(kard(folder, "status", "--json").output)
    assert next(s for s in states if s["step"] == "student")["outdated"] == 0  # seed 1 is another draw of the same
    assert "tiny/few-shot " in asked(folder, "Who?", "--student", "few-shot").output


def test_a_prompted_base_is_asked_by_the_run_of_the_task_too(folder: Path) -> None:
    kard(folder, "run", "--method", "zero-shot,few-shot-cot", "--retriever", "none", "--quiet")
    assert {row[:3] for row in answers(folder)} == {("zero-shot", 0, "none"), ("few-shot-cot", 0, "none")}
    again = kard(folder, "run", "--method", "zero-shot,few-shot-cot", "--retriever", "none", "--quiet").output
    assert again.startswith("nothing was missing")


def test_a_base_without_examples_is_asked_once_for_all_seeds_and_has_those_of_its_rerankers(folder: Path) -> None:
    for seed, settings in (("0", ()), ("1", ("--set", "prompting.k=2"))):
        words = ("--method", "zero-shot,few-shot", "--retriever", "none,reranker", "--seed", seed, *settings)
        kard(folder, "run", *words, "--quiet")
    found = database(folder).execute("select method, count(*) from students where path = '' group by 1").fetchall()
    assert found == [("few-shot", 2), ("zero-shot", 1)]
    report = json.loads(kard(folder, "report", "--json").output)["accuracy"]
    seeds = [(row["retriever"], row["variant"], row["seeds"]) for row in report if row["method"] == "zero-shot"]
    assert seeds == [("none", "", None), ("reranker", "", 2)]


def prompts_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return the prompts of an evaluation."""
    from kard.student.generation import engine

    seen: list[str] = []
    generate_rows = engine.generate_rows

    def noted(rows: Any, *rest: Any) -> Any:
        seen.extend(row.prompt for row in rows)
        return generate_rows(rows, *rest)

    monkeypatch.setattr(engine, "generate_rows", noted)
    kard(folder, "evaluate", *words, "--limit", "1", "--quiet")
    monkeypatch.setattr(engine, "generate_rows", generate_rows)
    return seen


def test_a_base_is_shown_the_instruction_and_accepted_examples_in_the_students_form(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare,) = prompts_of(folder, monkeypatch, "--student", "few-shot-cot", "--retriever", "none")
    blocks = bare.split("\n\n")
    assert blocks[0] == "Read, then name the colour."
    assert len(blocks) == 1 + 3 + 1
    for block in blocks[1:4]:
        question, options, rationale, answer = block.split("\n")
        town = question.removesuffix("?").split()[-1]
        assert question.startswith("Question: Which colour has the gate of ")
        assert town not in TESTED
        assert options.startswith("Options: (A) red (B) blue")
        assert rationale == f"Rationale: The gate of {town} is {TOWNS[town]}."  # without its closing sentence
        assert answer == f"Answer: {TOWNS[town]}"
    assert blocks[4].endswith("\nRationale:")
    (silent,) = prompts_of(folder, monkeypatch, "--student", "few-shot/", "--retriever", "none")
    assert "Rationale" not in silent
    assert silent.endswith("\nAnswer:")
    (reading,) = prompts_of(folder, monkeypatch, "--student", "few-shot", "--retriever", "bm25")
    parts = reading.split("\n\n")
    assert [part.count("\n[1] ") + part.count("\n[2] ") for part in parts] == [
        0,
        1,
        1,
        1,
        2,
    ]  # k=1, the task's 2
    assert all(f"{t}: " in part for part in parts[1:4] for t in [part.split("?")[0].split()[-1]])
    (other,) = prompts_of(folder, monkeypatch, "--student", "few-shot-cot", "--retriever", "none", "--seed", "3")
    assert other.split("\n\n")[1:4] != blocks[1:4]
    (zero,) = prompts_of(folder, monkeypatch, "--student", "zero-shot", "--retriever", "none")
    assert len(zero.split("\n\n")) == 2


def test_examples_that_do_not_fit_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kard.config as settings

    short = Prompting(max_length=128)
    task = tasks.load(str(folder / "gates.py"))
    base = type("Base", (), {"tokens": type("Tokens", (), {"ids": staticmethod(str.split)})()})()
    student = import_module("kard.student.generation.student").PromptedStudent(base, short, None, name="x")
    signature = signature_for(task.answer, METHODS["few-shot-cot"])
    shot = {"question": "q " * 20, "options": ["a", "b"], "rationale": "r", "answer": "a", "passages": []}
    words = len(render_shot(signature, shot).split())
    assert len(student.fitting(signature, [shot] * 9)) == int(128 * 0.75 / 2) // words
    assert settings.Prompting().shots == 3


@given(
    st.text(alphabet="ab \n", max_size=20), st.text(alphabet="ab ", min_size=1, max_size=9), st.text(max_size=30)
)
def test_what_a_base_writes_after_its_first_answer_does_not_count(before: str, answer: str, after: str) -> None:
    written = f"{before}\nAnswer: {answer}"
    assert up_to_first_answer("Rationale:", f"{written}\n{after}") == written
    assert up_to_first_answer("Rationale:", written) == written
    assert up_to_first_answer("x Answer:", f" {answer}x\n{after}") == f" {answer}x"


def test_a_base_that_goes_on_with_another_question_has_not_answered_this_one() -> None:
    assert up_to_first_answer("Rationale:", " because\nQuestion: next\nAnswer: no") == " because"
    assert up_to_first_answer("Rationale:", " because") == " because"
    assert up_to_first_answer("Answer:", "\n\n yes\nQuestion: next") == "\n\n yes"


def test_a_prompted_base_is_what_it_is_shown(folder: Path) -> None:
    """Other texts, another acceptance, another query of the rationales: another base with examples of its own."""
    run = ("run", "--method", "few-shot-cot", "--retriever", "bm25", "--quiet")
    kard(folder, *run)
    db = database(folder)
    with db.atomic():
        db.execute("update rationales set text = 'It gleams. ' || text")
    for changes, count in ((), 2), (("--set", "retrieval.rationale_query=question+rationale"), 3), (
        ("--train-limit", "2"), 4,
    ):  # fmt: skip
        kard(folder, *run, *changes)
        assert len(ids(folder, "students", method="few-shot-cot")) == count, changes
        assert len(answers(folder)) == 2 * count
        kard(folder, *run, *changes)
        assert len(answers(folder)) == 2 * count
    first, *_, last = ids(folder, "students", method="few-shot-cot")
    assert diff(folder, last, first) == ["trained on 2 of 3 questions"]


def test_examples_have_the_passages_of_the_rationales_own_query(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = ("--set", "retrieval.rationale_query=question+rationale", "--set", "prompting.max_length=2040")
    kard(folder, "run", "--method", "zero-shot", "--retriever", "silver", "--quiet", *form)
    db = database(folder)
    with db.atomic():
        db.execute("update retrievals set rationale_form = 'rationale' where rationale_id = 1")
    db.close()
    source = RationaleSource(rationale_form="question+rationale")
    (index,) = ids(folder, "indexes")
    pairs = shot_pairs(database(folder), "gates", METHODS["few-shot"], Prompting(shots=4), source)
    assert len(pairs) == 4
    with pytest.raises(Missing, match="no passages for some rationales"):
        shot_pairs(database(folder), "gates", METHODS["few-shot"], Prompting(shots=4), source, index_id=index)


def test_the_only_teacher_of_the_evaluated_questions_finds_their_silver_passages(folder: Path) -> None:
    db = database(folder)
    with db.atomic():  # as where a large model explained the training questions and a larger one the others
        columns = "model, instructions, sampling, created from teachers"
        db.execute(f"insert into teachers select 'other', 'recorded:other', {columns}")
        db.execute(
            "update rationales set teacher_id = 'other' where question_id in"
            " (select id from questions where split = 'test')"
        )
    db.close()
    kard(folder, "evaluate", "--retriever", "silver", "--student", "kard", "--quiet")
    assert {row[2] for row in answers(folder)} == {"silver"}
    assert {row[0] for row in database(folder).execute("select teacher_id from evaluations")} == {"other"}


def test_silver_needs_a_rationale_of_every_question(folder: Path) -> None:
    db = database(folder)
    with db.atomic():
        db.execute("delete from rationales where question_id in (select id from questions where key = 'Moss')")
    db.close()
    refused = kard(folder, "evaluate", "--retriever", "silver", "--quiet", code=1).output
    assert "1 of 2 questions of gates/test have no rationale to find silver" in refused
    assert len(refused.strip().splitlines()) == 1
    assert answers(folder) == []


def test_students_are_named_by_what_they_are(folder: Path) -> None:
    work = choose.run_of(str(folder / "gates.py"), store=folder / "kard.db", knowledge=None, quiet=True)

    def named(*names: str) -> list[tuple[str, int]]:
        return [(student.method, student.seed) for student in chosen_students(work, names)]

    assert named("all") == [("ft", 0), ("kard", 0), ("kard", 1)]
    assert named("tiny/kard") == [("kard", 0), ("kard", 1)]
    assert named("seed=1", "ft") == [("kard", 1), ("ft", 0)]
    assert named("few-shot", "few-shot") == [("few-shot", 0)]
    some = chosen_students(work, ["kard"])[1]
    assert chosen_students(work, [some.id[:9]]) == [some]
    with pytest.raises(BadInput, match="no student 'x'; there are tiny/ft/seed=0, tiny/kard/seed=0"):
        named("x")
    work.db.execute("delete from students")
    with pytest.raises(Missing, match="no student of gates is trained; train them with: kard train student gates"):
        named("all")
    work.db.close()


def test_an_unknown_or_impossible_retriever_is_refused_before_any_work(folder: Path) -> None:
    assert "retriever must be one of none, bm25" in kard(folder, "evaluate", "--retriever", "x", code=1).output
    db = database(folder)
    with db.atomic():
        db.execute("delete from rerankers")
    db.close()
    refused = kard(folder, "evaluate", "--retriever", "bm25,reranker", code=1).output
    assert "no reranker for gates on this knowledge base; train one with: kard train reranker gates" in refused
    assert answers(folder) == []


# Asking on the command line


def asked(folder: Path, *words: str, code: int = 0) -> Result:
    return kard(folder, "ask", *words, "--task", str(folder / "gates.py"), task=False, code=code)


def test_a_question_shows_passages_with_both_ranks_then_the_texts_then_the_answer(folder: Path) -> None:
    options = [word for colour in ("red", "blue") for word in ("--option", colour)]
    shown = asked(folder, "Which colour has the gate of Brack?", *options, "-n", "3", "--passages", "3").output
    places = [
        shown.index(part)
        for part in ("[1] ", "[2] ", "not read: ", "3 of 4 passages", "1. ", "3. ", "Votes: ", "Answer: (")
    ]
    assert places == sorted(places)
    assert shown.count("reranker ") >= 3
    record = json.loads(asked(folder, "Which colour has the gate of Brack?", *options, "--json").output)
    assert record["letter"] in ("A", "B")
    assert record["answer"] == ("red", "blue")["AB".index(record["letter"])]
    assert [p["reranker_rank"] for p in record["passages"]] == [1, 2, 3, 4]
    assert sorted(p["bm25_rank"] for p in record["passages"]) == [1, 2, 3, 4]
    assert sum(p["read"] for p in record["passages"]) == 2
    assert record["student"]["seed"] == 1  # the newest `kard`
    assert record["reranker"]


def test_what_a_person_should_know_of_an_answer_is_said_on_stderr(folder: Path) -> None:
    options = ("--option", "red", "--option", "blue")
    told = asked(folder, "Which colour has the gate of Brack?", *options)
    assert told.stdout.splitlines()[-1].endswith(
        ("(no token left for an answer)", "(forced: the text named no option)")
    )
    assert "name options" not in told.stderr
    assert "has nothing on this" not in told.stderr
    told = asked(folder, "Wo liegt Paris?", "--retriever", "bm25")
    assert "the student was taught to choose; name options with --option\n" in told.stderr
    assert "the knowledge base has nothing on this: no passage holds more than very common words\n" in told.stderr
    assert "name options" not in asked(folder, "Wo?", "--student", "zero-shot", "--retriever", "bm25").stderr
    long = asked(folder, "Is it so? " * 600, *options)
    assert "passages were cut to fit what the student reads" in long.stderr


def test_progress_says_how_many_answers_are_under_way(folder: Path) -> None:
    told = kard(folder, "evaluate", "--student", "ft")
    assert "answer ft with none, up to 2 at a time: 2 to do" in told.stderr


def test_a_question_far_longer_than_what_was_taught_is_refused_in_one_line(folder: Path) -> None:
    options = ("--option", "red", "--option", "blue")
    refused = asked(folder, "Is it so? " * 900, *options, code=1)
    assert refused.output == "Error: the question has more than the 8,192 bytes that fit; shorten it\n"
    program: Any = load_program(folder / "kard.db", str(folder / "gates.py"), retriever="bm25")
    with pytest.raises(BadInput, match="more than the 8,192 bytes that fit; shorten it"):
        program(question="Is it so? " * 900, options=["red", "blue"])


def test_documents_that_changed_since_the_reranker_was_trained_are_told_with_the_command(folder: Path) -> None:
    question = "Which colour has the gate of Brack?"
    changed = "the documents have changed since the reranker was trained"
    assert changed not in asked(folder, question).stderr
    (folder / "docs").mkdir()
    (folder / "docs" / "zork.md").write_text("# Zork\n\nThe gate of Zork is red.\n", "utf-8")
    kard(folder, "index", str(folder / "docs"), "--quiet", task=False)
    told = asked(folder, question)
    again = f"{changed}: passages by bm25; train it again with: kard train reranker gates\n"
    assert again in told.stderr
    assert "passages by bm25; " in told.stderr.splitlines()[-1]
    assert changed not in asked(folder, question, "--retriever", "bm25").stderr  # that is what was asked for
    refused = asked(folder, question, "--retriever", "fused", code=1).output
    assert refused.startswith(f"Error: {changed}; train it again with: kard train reranker gates")
    with pytest.warns(UserWarning, match=changed):
        load_program(folder / "kard.db", str(folder / "gates.py"))
    assert again in kard(folder, "evaluate", "--student", "kard", "--dry-run").stderr


def test_a_student_reads_as_many_passages_as_when_it_was_taught(folder: Path) -> None:
    kard(folder, "train", "student", "--method", "kard", "--set", "student.k=1", "--quiet")
    question = "Which colour has the gate of Brack?"

    def read(*words: str) -> int:
        record = json.loads(asked(folder, question, "--json", *words).stdout)
        return sum(passage["read"] for passage in record["passages"])

    assert read() == 1  # the newest student; the task has 2
    assert read("-k", "3") == 3
    task = str(folder / "gates.py")
    program: Any = load_program(folder / "kard.db", task, retriever="bm25")
    assert len(program(question=question, options=list(TOWNS.values())).passages) == 1
    program = load_program(folder / "kard.db", task, retriever="bm25", k=2)
    assert len(program(question=question, options=list(TOWNS.values())).passages) == 2
    noted = "tiny/kard was taught with k=1 and reads k=2 now; for the same add: -k 1"
    told = kard(folder, "evaluate", "--student", "kard", "--retriever", "bm25", "--dry-run")
    assert told.stderr.count(noted) == 1
    assert "was taught with" not in kard(folder, "evaluate", "--student", "ft", "--dry-run").stderr  # it reads none
    kard(folder, "evaluate", "--student", "few-shot-cot", "--retriever", "bm25", "--limit", "1", "--quiet")
    shots: Any = load_program(folder / "kard.db", task, method="few-shot-cot", retriever="bm25")
    assert len(shots(question=question, options=list(TOWNS.values())).passages) == 2  # the task's, not an example's


def test_a_question_is_answered_from_bm25_and_reranker_as_one_order(folder: Path) -> None:
    question = "Which colour has the gate of Brack?"
    refused = asked(folder, question, "--retriever", "fused", code=1).output
    assert "was chosen for gates; choose it with: kard evaluate gates --retriever fused" in refused
    kard(folder, "evaluate", "--student", "kard", "--retriever", "fused", "--limit", "1", "--quiet")
    record = json.loads(asked(folder, question, "--retriever", "fused", "--json").stdout)
    ranks = [(p["bm25_rank"], p["reranker_rank"]) for p in record["passages"]]
    assert record["retriever"] == "fused"
    assert sorted(rank for _, rank in ranks) == [1, 2, 3, 4]
    shares = [1 / (60 + bm25) + 1 / (60 + reranked) for bm25, reranked in ranks]  # few questions: both count alike
    assert shares == sorted(shares, reverse=True)
    program: Any = load_program(folder / "kard.db", str(folder / "gates.py"), retriever="fused")
    read = program(question=question, options=list(TOWNS.values())).passages
    assert [p.id for p in read] == [p["id"] for p in record["passages"][:2]]


def test_a_program_reads_by_the_reranker_of_its_students_seed_not_of_an_ablation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = database(folder)
    rerankers = {json.loads(row["settings"])["seed"]: row for row in db.query("select * from rerankers")}
    students = {row["seed"]: row["id"] for row in db.query("select * from students where method = 'kard'")}
    db.table("rerankers").insert({**rerankers[1], "id": "ablated", "experiment": "x", "created": "2999"})
    db.close()
    loaded: list[str] = []

    def load(_db: Database, reranker: str, *_: object) -> Any:
        loaded.append(reranker)

    monkeypatch.setattr("kard.reranker.model.Reranker.load", load)
    for seed in (0, 1):
        load_program(folder / "kard.db", str(folder / "gates.py"), student=students[seed])
    assert loaded == [rerankers[0]["id"], rerankers[1]["id"]]


def test_passages_with_a_stored_vector_are_not_encoded_for_a_question(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "Which colour has the gate of Brack?"
    first = json.loads(asked(folder, question, "--json").stdout)

    def encode(_encoder: object, passages: Sequence[object], _spec: object) -> Any:
        raise AssertionError(f"{len(passages)} passages were encoded again")

    monkeypatch.setattr("kard.encoders.encoder.encode_passages", encode)
    again = json.loads(asked(folder, question, "--json").stdout)
    assert again["passages"] == first["passages"]


def test_the_only_task_need_not_be_named_when_kard_knows_it(folder: Path) -> None:
    refused = kard(folder, "ask", "Which?", task=False, code=1).output
    assert "no task 'gates'" in refused  # a person's own task has no name that kard knows
    for words, part in (
        (
            ("Which?", "--student", "ft", "--retriever", "bm25"),
            "method ft reads no passages; leave --retriever out",
        ),
        (("Which?", "--student", "x"), "no student 'x'; there are tiny/ft, tiny/kard"),
        (("Which?", "--student", "tiny"), "'tiny' may mean tiny/ft, tiny/kard; name one of them"),
        (("Which?", "--option", "a"), "the number of options is 1, not 2 to 26"),
        ((" ",), "the question is empty"),
    ):
        output = asked(folder, *words, code=1).output
        assert part in output
        assert len(output.strip().splitlines()) == 1


def test_what_is_shown_cannot_drive_the_terminal(folder: Path, trained: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "evil.md").write_text(
        "# \x1b[31mEvil\n\nThe gate of Zork is \x1b]0;owned\x07 red.\n", "utf-8"
    )
    kard(folder, "index", str(folder / "docs"), "--quiet", task=False)
    for form in ((), ("--json",)):
        shown = asked(folder, "Which colour has the gate of Zork?", "--retriever", "bm25", *form).output
        assert "Zork" in shown
        assert not {"\x1b", "\x07"} & set(shown)


# Reading again


def test_a_better_parser_changes_stored_answers_votes_and_verdicts_and_nothing_else(
    folder: Path, case_of: Callable[[Database], Any]
) -> None:
    db = database(folder)
    case = case_of(db)
    question = case.question("q1")
    evaluation = case.answered(question, "bm25", answer=None)
    (prediction,) = db.execute("select id from predictions where evaluation_id = ?", [evaluation]).fetchone()
    texts = [
        ("So it does.\nAnswer: yes", None, None),  # read as nothing once
        ("Answer: yes", "B", None),  # read wrongly
        ("Answer: no", "B", None),
        ("\nAnswer: no", "A", "unread"),  # forced: chosen by its likelihood, whatever stands there
    ]
    with db.atomic():
        db.execute("delete from samples where prediction_id = ?", [prediction])
        db.table("samples").insert_all(
            {
                "prediction_id": prediction, "sample": n, "text": text, "answer": answer, "forced": forced,
                "prompt_tokens": 1, "completion_tokens": 1,
            }
            for n, (text, answer, forced) in enumerate(texts)
        )  # fmt: skip
    log = db.table("steps_log").count

    def state() -> list[object]:
        vote = db.execute("select answer, correct, votes from predictions where id = ?", [prediction]).fetchone()
        read = db.execute(
            "select answer from samples where prediction_id = ? order by sample", [prediction]
        ).fetchall()
        return [*vote, *(row[0] for row in read)]

    before = state()
    planned = rescoring.rescore(db, "tiny", dry_run=True)
    assert (planned.reread, len(planned.changes), state()) == (2, 1, before)
    done = rescoring.rescore(db, "tiny")
    assert (done.reread, done.conditions[0].right, done.conditions[0].unread) == (2, (0, 1), (1, 0))
    assert (done.changes[0].key, done.changes[0].before, done.changes[0].after) == ("q1", None, "A")
    assert state() == ["A", 1, 3, "A", "A", "B", "A"]
    assert db.table("steps_log").count == log + 1
    (note,) = db.execute("select note from steps_log order by id desc limit 1").fetchone()
    assert note == f"parser {rescoring.parser_version()}"
    again = rescoring.rescore(db, "tiny")
    assert (again.reread, db.table("steps_log").count) == (0, log + 1)
    db.close()


@pytest.fixture
def case_of(new_case: type[Any]) -> Callable[[Database], Any]:
    """Return what writes rows of the task `tiny` into a store."""
    return new_case


def test_unchanged_texts_are_read_again_with_the_same_answers(folder: Path) -> None:
    kard(folder, *ALL)
    before = answers(folder)
    said = kard(folder, "rescore", "--quiet").output
    assert said.startswith("0 of 42 texts read otherwise, 0 votes changed; parser ")
    assert answers(folder) == before
    db = database(folder)
    with db.atomic():
        db.execute("update samples set answer = 'F' where forced is null and answer is not null")
    db.close()
    would = kard(folder, "rescore", "--dry-run", "--json").output
    assert json.loads(would)["dry_run"] is True
    kard(folder, "rescore", "--quiet")
    assert answers(folder) == before
    assert "no answers of gates to read again" in kard(folder, "rescore", "--split", "dev", code=1).output


def test_condition_settings_hold_everything_that_a_label_is_made_from(folder: Path) -> None:
    kard(folder, "evaluate", "--student", "ft", "--quiet")
    (run,) = rows(database(folder), "internal/condition_settings", task="gates", split="test")
    assert (run["method"], run["seed"], run["examples"]) == ("ft", 0, 4)


def test_questions_of_equal_text_read_what_was_found_for_each(folder: Path, tmp_path: Path) -> None:
    """Two questions ask the same of other options; with a query an option, each finds other passages."""
    task = (folder / "gates.py").read_text("utf-8").replace("max_df=1.0", 'max_df=1.0, query="options"')
    (folder / "gates.py").write_text(task, encoding="utf-8")
    lines = ["id,split,question,options,answer", "a,dev,Which gate?,red;blue,A", "b,dev,Which gate?,white;black,A"]
    (tmp_path / "twins.csv").write_text("\n".join(lines), encoding="utf-8")
    kard(folder, "load", str(tmp_path / "twins.csv"))
    words = ("--split", "dev", "--student", "kard/seed=0", "--retriever", "bm25", "-k", "2", "--quiet")
    kard(folder, "evaluate", *words)
    sql = (
        "select q.key, group_concat(t.text) from predictions p join questions q on q.id = p.question_id"
        " join json_each(p.passages) j join passages t on t.id = j.value group by q.key"
    )
    texts = dict(database(folder).execute(sql).fetchall())
    assert all(colour in texts["a"] for colour in ("red", "blue"))
    assert all(colour in texts["b"] for colour in ("white", "black"))


def ids(folder: Path, table: str, **where: object) -> list[str]:
    """Return the ids of a table's rows with these values, oldest first."""
    condition = " and ".join(f"{name} = :{name}" for name in where) or "true"
    found = database(folder).execute(f"select id from {table} where {condition} order by rowid", where)
    return [row[0] for row in found]


def diff(folder: Path, *words: str, code: int = 0) -> list[str]:
    return kard(folder, "diff", *words, code=code, task=False).output.splitlines()


def test_a_difference_of_two_students_or_rerankers_is_said_in_words(folder: Path) -> None:
    first, second = ids(folder, "students", method="kard")
    (ft,) = ids(folder, "students", method="ft")
    assert diff(folder, first[:9], second[:9]) == ["nothing but the seed"]
    assert diff(folder, first, first[:8]) == ["nothing"]
    assert diff(folder, *(i[:9] for i in ids(folder, "rerankers"))) == ["nothing but the seed"]
    kard(folder, "train", "student", "--method", "kard", "--train-limit", "2", "--set", "student.k=1", "--quiet")
    third = ids(folder, "students", method="kard")[-1]
    assert diff(folder, third, first) == ["trained on 2 of 4 questions", "k 1 instead of 2"]
    assert diff(folder, first, third)[0] == "trained on 4 questions, not 2"
    words = diff(folder, ft, first)
    assert "method ft instead of kard" in words
    assert any(word.startswith("passages of knowledge base none instead of ") for word in words)
    report = json.loads(kard(folder, "diff", third, second, "--json", task=False).output)
    assert report["kind"] == "student"
    assert report["differences"][-1] == "seed 0 instead of 1"


def test_a_difference_of_two_conditions_names_what_was_read_and_who_reads(folder: Path) -> None:
    kard(folder, "evaluate", "--student", "kard", "--retriever", "bm25,reranker", "--quiet")
    kard(folder, "evaluate", "--student", "kard", "--seed", "1", "--retriever", "bm25", "-k", "1", "--quiet")
    reranker = ids(folder, "rerankers")[0]
    assert diff(folder, "reranker", "bm25/k=2") == [
        "retriever reranker instead of bm25", "kappa 4 instead of none", f"reranker {reranker} instead of none"
    ]  # fmt: skip
    assert diff(folder, "bm25/k=1", "bm25/k=2", str(folder / "gates.py")) == ["k 1 instead of 2"]
    assert diff(folder, "rer", "reranker") == ["nothing"]
    seeds = [str(number) for number in ids(folder, "evaluations", retriever="reranker")]
    assert diff(folder, *seeds) == ["nothing but the seed"]


def test_a_rule_differs_from_a_student_in_its_method_alone(folder: Path) -> None:
    kard(folder, "evaluate", "--student", "kard/seed=0,named", "--retriever", "bm25", "--quiet")
    (rule,) = ids(folder, "students", method="named")
    student = ids(folder, "students", method="kard")[0]
    assert diff(folder, rule, student) == ["method named instead of kard"]
    assert diff(folder, student, rule) == ["method kard instead of named"]
    assert diff(folder, "named/bm25", "kard/bm25") == ["student.method named instead of kard"]
    assert diff(folder, "kard/bm25", "named/bm25") == ["student.method kard instead of named"]
    assert differences({"base": "b", "base_sha256": "1"}, {}) == ["base b instead of none"]


def test_words_that_mean_nothing_several_things_or_two_kinds_are_one_line(folder: Path) -> None:
    kard(folder, "evaluate", "--student", "kard", "--retriever", "bm25,silver", "--quiet")
    student, reranker = ids(folder, "students")[0], ids(folder, "rerankers")[0]
    cases = {
        (student, "gate"): "no student, reranker or condition 'gate'; see them with: kard models and kard query",
        (student, reranker): f"student {student} and reranker {reranker} are of different kinds",
        (student, "silver"): f"student {student} and condition tiny/kard/silver are of different kinds",
        (
            "tiny",
            "silver",
        ): "'tiny' may mean condition tiny/kard/bm25, condition tiny/kard/silver; name one of them",
    }
    for words, message in cases.items():
        (line,) = diff(folder, *words, code=1)
        assert line.startswith(f"Error: {message}")


# Nothing is asked for, or done, that a command's own methods do not need


@pytest.fixture
def bare(trained: Path, tmp_path: Path) -> Path:
    """Return a store with questions and a knowledge base, and no rationale."""
    shutil.copy(trained / "gates.py", tmp_path / "gates.py")
    kard(tmp_path, "index", str(trained / "docs"), "--quiet", task=False)
    kard(tmp_path, "load", str(trained / "questions.csv"))
    return tmp_path


def test_a_method_that_needs_no_rationale_runs_without_one(bare: Path) -> None:
    output = kard(bare, "run", "--method", "zero-shot,named", "--quiet").output
    assert output.startswith("retrieve +2, student +2, answer +4")  # neither reranker nor rationale
    assert [row["retriever"] for row in database(bare).query("select retriever from evaluations")] == ["bm25"] * 2
    refused = kard(bare, "run", "--method", "ft", "--quiet", code=1).output
    assert "no rationales for gates" in refused


def test_students_that_need_no_reranker_are_evaluated_without_one(bare: Path) -> None:
    output = kard(bare, "evaluate", "--student", "zero-shot").output
    assert "no reranker of gates is trained" in output
    assert "2 new answers under 1 condition\n" in output
    refused = kard(bare, "evaluate", "--student", "zero-shot", "--retriever", "fused", code=1).output
    assert "no reranker" in refused


def test_ranking_by_bm25_grounds_no_rationale_and_what_else_is_done_is_said_first(
    folder: Path, trained: Path
) -> None:
    shutil.rmtree(folder / "kard.knowledge")  # another knowledge base, on which no rationale has passages
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("# Gates\n\nThe gate of Aar is red, it is said.", encoding="utf-8")
    kard(folder, "index", str(folder / "docs"), "--quiet", task=False)

    grounded = "select count(*) from retrievals where query = 'rationale'"
    before = database(folder).execute(grounded).fetchone()
    for words in (("--rank-only", "--retriever", "bm25"), ("--student", "kard", "--retriever", "bm25")):
        kard(folder, "evaluate", *words, "--quiet")
    assert database(folder).execute(grounded).fetchone() == before

    planned = kard(folder, "evaluate", "--rank-only", "--retriever", "silver", "--dry-run").output
    assert [line.split()[0] for line in planned.splitlines() if "find" in line or "rationales" in line] == [
        "ground"
    ]
    assert database(folder).execute(grounded).fetchone() == before
    lines = kard(folder, "evaluate", "--rank-only", "--retriever", "silver").output.splitlines()
    first = next(line for line in lines if line.startswith("first "))
    assert first == "first ground: find passages with each rationale (6 rationales)"
    assert lines.index(first) < next(i for i, line in enumerate(lines) if "Searching" in line or "added" in line)


def test_screening_needs_neither_rationale_nor_knowledge_base(bare: Path) -> None:
    shutil.rmtree(bare / "kard.knowledge")
    words = ("query", "contamination", "--store", str(bare / "kard.db"), "--json")
    (row,) = json.loads(CliRunner().invoke(main, words).output)
    assert (row["task"], row["split"], row["key"], row["kind"]) == ("gates", "test", None, "not looked for")
    assert row["text"] == "2 questions; look for them with: kard screen gates --split test"
    assert kard(bare, "screen", "--quiet").output == "2 questions of gates/test looked for; 0 overlap\n"
    again = kard(bare, "screen", "--quiet").output
    assert again == "the 2 questions of gates/test were looked for before, in the same texts; 0 overlap\n"
    assert json.loads(CliRunner().invoke(main, words).output) == []


def test_facts_that_stand_word_for_word_in_a_passage_count_as_evidence(bare: Path) -> None:
    store = database(bare)
    with store.conn:
        facts = json.dumps(["the GATE of  Moss is black", "Moss is a plant."])
        store.execute("update questions set facts = ? where key = 'Moss'", [facts])
    output = kard(bare, "evaluate", "--rank-only", "--retriever", "bm25", "--quiet").output
    assert (
        "1 of 2 facts of questions without evidence stand word for word in a passage, and count as evidence"
        in output
    )
    rows = json.loads(kard(bare, "hits", "--summary", "--json").output)
    assert [(row["needed"], row["retriever"], row["questions"]) for row in rows] == [("evidence", "bm25", 1)]
    assert kard(bare, "evaluate", "--rank-only", "--retriever", "bm25", "--quiet").output.startswith("nothing")
