"""`kard sweep`: which cells a grid has, what they share, and what the table and the figure say of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from kard.cli import choose, main
from kard.db import open_store
from kard.errors import BadConfig
from kard.models.adapters import fault_of
from kard.pipeline import jobs
from kard.pipeline.run import Run
from kard.pipeline.sweep import cells_of, grid, name_of
from kard.student.records import find_student

METALS = ("iron", "tin", "zinc", "copper")
HEADER = ["size", "method", "retriever", "cell", "accuracy", "n", "minus the first", "won-lost", "p (Holm)"]

# Cells

factors = st.dictionaries(
    st.sampled_from(["k", "kappa", "epochs"]),
    st.lists(st.sampled_from("12345"), min_size=2, max_size=4, unique=True),
    min_size=1,
)


@given(factors)
def test_a_grid_has_every_combination_once(factors: dict[str, list[str]]) -> None:
    cells = [tuple(cell.items()) for cell in grid(factors)]
    count = 1
    for values in factors.values():
        count *= len(values)
    assert len(set(cells)) == len(cells) == count
    assert dict(cells[0]) == {factor: values[0] for factor, values in factors.items()}


@given(factors)
def test_one_at_a_time_every_cell_differs_from_the_first_in_one_factor(factors: dict[str, list[str]]) -> None:
    first, *others = grid(factors, one_at_a_time=True)
    changed = [[(factor, cell[factor]) for factor in factors if cell[factor] != first[factor]] for cell in others]
    assert sorted(changed) == sorted([(factor, at)] for factor, values in factors.items() for at in values[1:])


def test_a_factor_has_two_different_values() -> None:
    with pytest.raises(BadConfig, match="k needs two values or more to vary, like --over k=1,3"):
        grid({"k": ["1"]})
    with pytest.raises(BadConfig, match="k has 3 twice"):
        grid({"k": ["3", "1", "3"]})


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_no_two_choices_of_cells_have_the_same_name(one_at_a_time: bool) -> None:
    values = grid({"k": ["1", "2", "3"], "epochs": ["1", "2"]}, one_at_a_time=one_at_a_time)
    cells = cells_of(values, lambda _: (), one_at_a_time=one_at_a_time)
    choices = [choice for size in range(1, len(cells) + 1) for choice in combinations(cells, size)]
    assert len({name_of(choice, cells) for choice in choices}) == len(choices)
    shared = {name_of(cells[:2], cells), name_of(cells[1:3], cells)}
    assert shared == ({"k=1|2 epochs=1", "k=2|3"} if one_at_a_time else {"k=1", "k=1 epochs=2 or k=2 epochs=1"})


# The command


def kard(folder: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db")])
    assert result.exit_code == code, result.output
    return result


def table(folder: Path, *words: str) -> list[dict[str, Any]]:
    return json.loads(kard(folder, "sweep", "choice", *words, "--quiet", "--json").stdout)


@pytest.fixture
def folder(load_choice: Callable[..., Path]) -> Path:
    """Return a folder with a store of two training and three test questions, and five passages.

    The first passage of q1 names a wrong metal, the two after it the right one; q2 and q3 are right by the first.
    """
    documents = {
        "a": "Water makes rust, rust, rust near zinc.",
        "b": "Water makes rust of iron, and nothing else of it that anybody would know about.",
        "c": "Water makes rust of iron, and the sea makes more of it than a river ever would do.",
        "d": "Cans are coated with tin.",
        "e": "Wires are drawn of copper.",
    }
    questions = [
        ("t1", "train", "What is rust made of?", METALS, "A", "Rust is what water makes of iron."),
        ("t2", "train", "Of what are wires drawn?", METALS, "D", "Wires are drawn of copper."),
        ("q1", "test", "Water makes rust of what?", METALS, "A", ""),
        ("q2", "test", "Cans are coated with what?", METALS, "B", ""),
        ("q3", "test", "Wires are drawn of what?", METALS, "D", ""),
    ]
    return load_choice(documents, questions)


NAMED = ("--method", "named", "--retriever", "bm25", "--set", "retrieval.query=question")


def test_each_value_is_a_row_beside_its_difference_to_the_first_and_a_second_sweep_only_prints(
    folder: Path,
) -> None:
    first = table(folder, "--over", "k=1,3", *NAMED)
    assert [list(row) for row in first] == [HEADER] * 4
    assert [(row["method"], row["cell"]) for row in first] == [
        ("chance", ""),
        ("majority", ""),
        ("named", "k=1"),
        ("named", "k=3"),
    ]
    assert [row["accuracy"][:5] for row in first[2:]] == ["0.667", "1.000"]
    assert (first[2]["minus the first"], first[3]["won-lost"], first[3]["n"]) == ("", "1-0", 3)
    assert first[3]["minus the first"].startswith("+0.333")
    db = open_store(folder / "kard.db")
    answers = db.execute("select count(*), max(id) from predictions").fetchone()
    assert answers == (6, 6)
    assert table(folder, "--over", "k=1,3", *NAMED) == first
    assert db.execute("select count(*), max(id) from predictions").fetchone() == answers


def test_several_tasks_are_one_table_whose_p_is_corrected_over_all_of_them(folder: Path) -> None:
    mine = folder / "mine.py"
    mine.write_text(
        "from dataclasses import replace\nfrom kard.programs.choice import TASK as CHOICE\n"
        "TASK = replace(CHOICE, name='mine')\n"
    )
    questions = [
        {
            "id": f"m{i}",
            "split": "test",
            "question": f"Water makes rust of what, {i}?",
            "options": METALS,
            "answer": "A",
        }
        for i in range(6)
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, questions)))
    kard(folder, "load", str(mine), str(folder / "mine.jsonl"))
    alone = table(folder, "--over", "k=1,3", *NAMED)
    result = kard(folder, "sweep", f"choice,{mine}", "--over", "k=1,3", *NAMED, "--quiet", "--json")
    rows = json.loads(result.stdout)
    assert [list(row) for row in rows] == [["task", *HEADER]] * 8
    assert [{key: value for key, value in row.items() if key != "task"} for row in rows[:4]] == alone
    assert [(row["task"], row["cell"], row["won-lost"]) for row in rows[6:]] == [
        (str(mine), "k=1", ""),
        (str(mine), "k=3", "6-0"),
    ]
    assert rows[7]["p (Holm)"] == "0.062", "twice the exact p of six wins, since two rows are compared"
    plans = json.loads(
        kard(folder, "sweep", f"choice,{mine}", "--over", "k=1,3", *NAMED, "--dry-run", "--json").stdout
    )
    assert [row["task"] for row in plans] == ["choice"] * 2 + [str(mine)] * 2
    refused = kard(folder, "sweep", "choice,arc", "--over", "k=1,3", "--plot", "x.svg", code=2)
    assert "a figure shows one task" in refused.output


def test_the_plan_counts_no_training_of_what_is_never_trained(folder: Path) -> None:
    rows = table(folder, "--over", "k=1,3", "--dry-run", *NAMED)
    assert [(row["trainings"], row["answers"]) for row in rows] == [(0, 3), (0, 3)]


def test_the_first_value_is_the_one_that_was_written_first(folder: Path) -> None:
    rows = table(folder, "--over", "k=3,1", *NAMED)[2:]
    assert [(row["cell"], row["minus the first"][:6]) for row in rows] == [("k=3", ""), ("k=1", "-0.333")]


def test_answers_of_other_runs_are_not_in_the_table(folder: Path) -> None:
    kard(folder, "run", "choice", *NAMED, "-k", "2", "--quiet")
    kard(folder, "run", "choice", *NAMED, "-k", "1", "--quiet")
    rows = table(folder, "--over", "k=1,3", *NAMED, "--limit", "2")
    assert [(row["cell"], row["n"]) for row in rows] == [("", 2), ("", 2), ("k=1", 2), ("k=3", 2)]


def test_a_condition_that_a_factor_does_not_touch_has_one_row_without_it(folder: Path) -> None:
    rows = table(folder, "--over", "k=1,2,3", "--over", "student.epochs=1,2", *NAMED)
    assert [row["cell"] for row in rows[2:]] == ["k=1", "k=2", "k=3"]


def test_a_larger_knowledge_base_is_a_factor_and_each_condition_holds_its_own(folder: Path) -> None:
    base, part = folder / "kard.knowledge", folder / "part.knowledge"
    kard(folder, "index", "--from", str(base), "--fraction", "0.4", "--knowledge", str(part), "--quiet")
    rows = table(folder, "--over", f"knowledge={part},{base}", *NAMED, "-k", "3")[2:]
    assert [row["cell"] for row in rows] == [f"knowledge={part}", f"knowledge={base}"]
    assert [row["accuracy"][:5] for row in rows] != ["1.000", "1.000"]
    db = open_store(folder / "kard.db")
    assert db.execute(
        "select i.path, i.passages from evaluations e join indexes i on i.id = e.index_id order by e.id"
    ).fetchall() == [(str(part), 2), (str(base), 5)]


def test_a_share_of_the_training_questions_is_one_for_all_methods_and_another_one_for_each_seed(
    folder: Path, write_decoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_CACHE", str(folder / "cache"))
    base = write_decoder(folder / "decoder", words=METALS)
    words = ("--over", "fraction=.5,1", "--seeds", "1,2,3,4", "--method", "ft,rd", "--epochs", "1", "--limit", "1")
    words += ("--base", f"tiny={base}", "--size", "tiny")
    words += ("--set", "decoding.max_new_tokens=4", "--set", "student.lora.rank=2")
    rows = table(folder, *words)[2:]
    assert [(row["method"], row["cell"]) for row in rows] == [
        (method, f"fraction={share}") for method in ("ft", "rd") for share in (".5", "1")
    ]
    db = open_store(folder / "kard.db")
    recipes = [json.loads(recipe) for (recipe,) in db.execute("select recipe from students")]
    data = {(r["method"], r["settings"]["seed"], r["data"]["questions"]): r["data"] for r in recipes}
    assert len(data) == 16
    half = {(method, seed): data[method, seed, 1] for method in ("ft", "rd") for seed in (1, 2, 3, 4)}
    assert {(of["fraction"], of["draw"]) for of in half.values()} == {(0.5, seed) for seed in (1, 2, 3, 4)}
    assert {len({half[method, seed]["sha256"] for seed in (1, 2, 3, 4)}) for method in ("ft", "rd")} == {2}
    assert not any("fraction" in of for (_, _, questions), of in data.items() if questions == 2)


@pytest.fixture
def tiny(folder: Path, write_decoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Return options of a command whose student is tiny and has one epoch."""
    monkeypatch.setenv("KARD_CACHE", str(folder / "cache"))
    base = write_decoder(folder / "decoder", words=METALS)
    short = ("--set", "decoding.max_new_tokens=4", "--set", "student.lora.rank=2", "--set", "student.epochs=1")
    return ("--base", f"tiny={base}", "--size", "tiny", "--retriever", "bm25", *short)


def test_every_way_to_search_keeps_its_row_and_a_second_sweep_trains_and_answers_nothing(
    folder: Path, tiny: tuple[str, ...]
) -> None:
    words = ("--over", "retrieval.query=question,question+options,options", "--method", "kard", *tiny)
    first = table(folder, *words)
    assert [row["cell"].partition("=")[2] for row in first[2:]] == ["question", "question+options", "options"]
    assert all(row["n"] == 3 for row in first)
    db = open_store(folder / "kard.db")
    made = "select (select group_concat(id) from students), count(*), max(id) from predictions"
    before = db.execute(made).fetchone()
    assert before[1:] == (9, 9)
    assert table(folder, *words) == first
    assert db.execute(made).fetchone() == before


def test_a_student_is_found_when_its_base_has_moved(folder: Path, tiny: tuple[str, ...]) -> None:
    words = ("--over", "k=1,2", "--set", "student.k=1", "--method", "kard,few-shot")
    first = table(folder, *words, *tiny)
    moved = (folder / "decoder").rename(folder / "moved")
    again = table(folder, *words, "--base", f"tiny={moved}", *tiny[2:])
    assert again == first
    students = open_store(folder / "kard.db").table("students")
    assert [(row["method"], row["base"]) for row in students.rows] == [
        ("kard", str(moved)),
        ("few-shot", str(moved)),
    ]


def test_a_student_that_was_spoiled_on_purpose_is_not_the_one_that_is_asked(
    folder: Path, tiny: tuple[str, ...]
) -> None:
    words = ("--over", "student.wrong=0,.5", "--over", "student.passages=silver,shuffled", "--one-at-a-time")
    assert len(table(folder, *words, "--method", "kard", *tiny)[2:]) == 3
    db = open_store(folder / "kard.db")
    settings = json.loads(find_student(db, None, task="choice", method="kard")["settings"])
    assert settings.keys().isdisjoint(("wrong", "passages"))


def test_a_lost_adapter_is_trained_again_and_its_answers_stay(folder: Path, tiny: tuple[str, ...]) -> None:
    words = ("--method", "kard", "--set", "student.k=1", *tiny)
    table(folder, "--over", "k=1,2", *words)
    db = open_store(folder / "kard.db")
    before = [list(db.query(f"select * from {name}")) for name in ("students", "predictions")]
    shutil.rmtree(folder / "kard.adapters")
    no_retriever = [word for word in words if word not in ("--retriever", "bm25")]
    kard(folder, "train", "student", "choice", *no_retriever, "-k", "1", "--quiet")
    assert [list(db.query(f"select * from {name}")) for name in ("students", "predictions")] == before
    (adapter,) = (folder / "kard.adapters").iterdir()
    assert not fault_of(adapter, before[0][0]["sha256"])


def test_cells_that_share_the_students_of_some_seeds_alone_have_a_row_each_over_every_seed(
    folder: Path, tiny: tuple[str, ...]
) -> None:
    # Half of the first two questions is one of them: with some seeds the first, as with the first question alone.
    words = ("--over", "train-limit=1,2", "--set", "teaching.fraction=.5", "--seeds", "1,2,3,4")
    rows = table(folder, *words, "--method", "ft", *tiny)[2:]
    assert 4 < open_store(folder / "kard.db").table("students").count < 8
    assert [row["cell"] for row in rows] == ["train-limit=1", "train-limit=2"]
    assert [row["over seeds"].split()[-1] for row in rows] == ["(4)", "(4)"]


def test_students_of_equal_weights_are_told(folder: Path, tiny: tuple[str, ...]) -> None:
    factors = ("student.rationales=1,2", "student.epochs=1,2", "prompting.shots=1,2", "k=1,2")
    words = [word for factor in factors for word in ("--over", factor)]
    methods = ("--method", "kard,few-shot", "--set", "student.k=1")
    said = kard(folder, "sweep", "choice", *words, "--one-at-a-time", *methods, *tiny).stderr
    (told,) = [line for line in said.splitlines() if "equal weights" in line]
    assert told.startswith("tiny/kard: trained apart, but of equal weights: ")
    assert told.endswith("; student.rationales=2")
    assert "student.epochs=2" not in told


def test_a_factor_that_changes_nothing_is_told(folder: Path) -> None:
    words = ("--over", "k=1,3", "--over", "student.epochs=1,2", "--over", "retrieval.kappa=5,6")
    said = kard(folder, "sweep", "choice", *words, *NAMED, "--quiet").stderr
    told = [line.partition(" changed nothing: ")[0] for line in said.splitlines() if "changed nothing" in line]
    assert told == ["student.epochs", "retrieval.kappa"]


def test_an_option_does_not_hide_the_factor_that_it_is_short_for(folder: Path) -> None:
    plan = table(folder, "--over", "retrieval.k=1,3", *NAMED, "-k", "2", "--dry-run")
    assert [row["cell"] for row in plan] == ["retrieval.k=1", "retrieval.k=3"]
    rows = table(folder, "--over", "retrieval.k=1,3", *NAMED, "-k", "2")[2:]
    assert [row["accuracy"][:5] for row in rows] == ["0.667", "1.000"]


def test_wrong_factors_are_refused_before_anything_is_done(folder: Path) -> None:
    for words, problem in {
        ("--over", "k"): "'k' varies nothing; write NAME=V1,V2",
        ("--over", "nothing=1,2"): "no factor 'nothing'; there are kappa, k,",
        ("--over", "method=ft,rd"): "give --method several values instead",
        ("--over", "seed=0,1"): "give seeds by --seeds",
        ("--over", "student.seed=0,1"): "give seeds by --seeds",
        ("--over", "k=1,3", "--set", "prompting.seed=5"): "give seeds by --seeds, which sets every seed",
        ("--over", "k=1,2", "--over", "k=3,4"): "k is given twice",
        ("--over", "k=1,2", "--over", "retrieval.k=3,4"): "retrieval.k is given twice",
        ("--over", "retrieval.depth=16,32"): "retrieval.depth cannot vary in one store",
        ("--over", "k=1,3", "--seeds", "a"): "seeds are whole numbers, comma-separated, not 'a'",
        ("--over", "k=1,3", "--seed", "1"): "a sweep takes --seeds",
        ("--over", "train-limit=1,x"): "train-limit: 'x' is not a valid integer",
        ("--over", "train-limit=1,0"): "train-limit: 0 is not in the range x>=1",
        ("--over", "k=1,3", "--plot", "a.jpg"): "a figure is an .svg or .png file, not a.jpg",
    }.items():
        assert problem in " ".join(kard(folder, "sweep", "choice", *words, *NAMED, code=2).stderr.split())
    for values, problem in {
        "k=1": "k needs two values",
        "student.nothing=1,2": "nothing",
        "k=1,x": "whole number",
    }.items():
        assert problem in kard(folder, "sweep", "choice", "--over", values, *NAMED, code=1).stderr
    for command in (("ablate", "choice"), ("memory",)):
        said = kard(folder, *command, "--set", "student.seed=5", code=2).stderr
        assert "give seeds by --seeds, which sets every seed" in " ".join(said.split())
    assert open_store(folder / "kard.db").table("predictions").count == 0


def test_students_are_trained_once_for_all_cells_and_seeds_are_one_row(
    folder: Path, write_decoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_CACHE", str(folder / "cache"))
    base = write_decoder(folder / "decoder", words=METALS)
    words = ("--over", "k=1,2", "--over", "student.epochs=1,2", "--one-at-a-time", "--seeds", "0,1")
    words += ("--method", "ft,kard,named", "--retriever", "bm25", "--base", f"tiny={base}", "--size", "tiny")
    words += ("--set", "decoding.max_new_tokens=4", "--set", "student.lora.rank=2")
    plan = table(folder, *words, "--dry-run")
    # Of the cell k=2, ft is that of the first one; kard reads as many passages in training as it answers with.
    assert [(row["cell"], row["seed"], row["trainings"]) for row in plan] == [
        ("k=1 student.epochs=1", 0, 2), ("k=1 student.epochs=1", 1, 2),
        ("k=2", 0, 1), ("k=2", 1, 1),
        ("student.epochs=2", 0, 2), ("student.epochs=2", 1, 2),
    ]  # fmt: skip
    db = open_store(folder / "kard.db")
    assert db.table("students").count == 0
    rows = {(row["method"], row["cell"]): row for row in table(folder, *words)[2:]}
    assert list(rows) == [
        ("named", "k=1"), ("named", "k=2"),
        ("ft", "student.epochs=1"), ("ft", "student.epochs=2"),
        ("kard", "k=1 student.epochs=1"), ("kard", "k=2"), ("kard", "student.epochs=2"),
    ]  # fmt: skip
    assert {row["over seeds"].split()[-1] for (method, _), row in rows.items() if method != "named"} == {"(2)"}
    assert db.execute("select method, count(*) from students group by method order by method").fetchall() == [
        ("ft", 4),
        ("kard", 6),
        ("named", 1),
    ]
    assert {(row["trainings"], row["answers"]) for row in table(folder, *words, "--dry-run")} == {(0, 0)}
    # At the store's rates, two questions twice are one training of the same length.
    with db.atomic():
        db.execute("update students set milliseconds = 20000 * json_extract(settings, '$.epochs') where path <> ''")
        db.execute("update predictions set milliseconds = 1")
    more = table(folder, *words[4:], "--over", "student.epochs=1,5", "--dry-run")
    assert [(row["trainings"], row["seconds"]) for row in more if row["cell"].endswith("5")] == [(2, "200")] * 2
    # What methods of other runs take says nothing of this one's.
    with db.atomic():
        db.execute("""
            update predictions set milliseconds = 3600000 where evaluation_id in (
                select e.id from evaluations e join students s on s.id = student_id where method = 'kard')""")
    more = table(folder, *words[4:], "--over", "student.epochs=1,5", "--method", "ft", "--dry-run")
    assert [row["seconds"] for row in more if row["cell"].endswith("5")] == ["100"] * 2


def test_a_worker_gives_back_what_a_part_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(jobs, "release_memory", lambda: done.append("released"))
    store, knowledge = folder / "kard.db", folder / "kard.knowledge"
    run = choose.run_of("choice", store=store, knowledge=knowledge, quiet=True, sizes=())

    def work(run: Run) -> None:
        done.append("worked")

    (folder / "part").mkdir()
    bundle = jobs._bundle(run, [], folder / "part")  # pyright: ignore[reportPrivateUsage]
    jobs.do(jobs.Job("choice", {}, run.options, knowledge, False, store, work), bundle)
    assert done == ["worked", "released"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, str]]:
    """Return place, accuracy and series of each point that a figure is drawn with."""
    pytest.importorskip("matplotlib", reason="no matplotlib: the figure was not drawn")
    figures = import_module("kard.evaluation.page.figures")
    drawn: list[tuple[float, float, str]] = []
    bars = figures._bars

    def noted(*args: Any) -> None:
        drawn.append((args[1], round(args[2], 3), args[3].variant))
        bars(*args)

    monkeypatch.setattr(figures, "_bars", noted)
    return drawn


def test_a_figure_has_a_point_of_every_row_over_its_value(
    folder: Path, drawn: list[tuple[float, float, str]]
) -> None:
    table(folder, "--over", "k=1,3", *NAMED, "--plot", str(folder / "one.svg"))
    assert drawn == [(0, 0.667, ""), (1, 1.0, "")]
    assert "accuracy, with 95% interval" in (folder / "one.svg").read_text()
    drawn.clear()
    two = ("--over", "k=1,3", "--over", "retrieval.max_df_from=0,1000000", *NAMED)
    table(folder, *two, "--plot", str(folder / "two.png"))
    assert {(x, variant) for x, _, variant in drawn} == {
        (x + shift, f"retrieval.max_df_from={value}")
        for x in (0, 1)
        for shift, value in ((-0.03, "0"), (0.03, "1000000"))
    }
    drawn.clear()
    table(folder, *two, "--one-at-a-time", "--plot", str(folder / "two.png"))
    assert [(x, variant) for x, _, variant in drawn] == [(0, ""), (1, "")]
    drawn.clear()
    three = ("--over", "k=1,3", "--over", "retrieval.max_df_from=0,1,1000000", *NAMED)
    rows = table(folder, *three, "--one-at-a-time", "--plot", str(folder / "three.svg"))
    assert rows[2]["cell"] == "k=1 retrieval.max_df_from=0|1"
    assert [(x, variant) for x, _, variant in drawn] == [(0, ""), (1, "")]


def test_a_figure_has_values_with_spaces(folder: Path, drawn: list[tuple[float, float, str]]) -> None:
    base, part = folder / "kard.knowledge", folder / "a small part.knowledge"
    kard(folder, "index", "--from", str(base), "--fraction", "0.4", "--knowledge", str(part), "--quiet")
    words = ("--over", "k=1,3", "--over", f"knowledge={part},{base}", *NAMED)
    table(folder, *words, "--plot", str(folder / "one.svg"))
    assert {variant for _, _, variant in drawn} == {f"knowledge={part}", f"knowledge={base}"}
    drawn.clear()
    table(folder, *words[2:], "--plot", str(folder / "two.svg"))
    assert [(x, variant) for x, _, variant in drawn] == [(0, ""), (1, "")]
