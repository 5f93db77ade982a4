"""`kard ablate TASK`: which rows it has, what each is made of, and what each is compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kard.cli import main
from kard.config import StudentTraining, TaskSettings
from kard.db import open_store
from kard.pipeline.parts import WHOLE, parts_of

METALS = ("iron", "tin", "zinc", "copper")
ROWS = (
    *("no reranker", "no knowledge", "no rationale", "no acceptance", "one rationale"),
    *("training passages by BM25", "training passages shuffled"),
    *("10% wrong rationales", "30% wrong rationales", "50% wrong rationales"),
)


def test_one_rationale_is_repeated_where_an_epoch_takes_several() -> None:
    settings = TaskSettings()
    assert tuple(parts_of(settings)) == (WHOLE, *ROWS)
    several = replace(settings, student=StudentTraining(epochs=2, rationales=3))
    assert parts_of(several)["one rationale, repeated"] == {
        "student.distinct": "1", "student.rationales": "1", "epochs": "6",
    }  # fmt: skip


def kard(folder: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db")])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(
    load_choice: Callable[..., Path], write_decoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a folder with a store of four training questions, one explained wrongly, and three test questions."""
    documents = {
        "a": "Water makes rust of iron, and nothing else of it that anybody would know about.",
        "b": "Cans are coated with tin.",
        "c": "Wires are drawn of copper.",
        "d": "Gutters are made of zinc.",
    }
    questions = [
        ("t1", "train", "What is rust made of?", METALS, "A", "Rust is what water makes of iron."),
        ("t2", "train", "Of what are wires drawn?", METALS, "D", "Wires are drawn of copper."),
        ("t3", "train", "What coats a can?", METALS, "B", "A can is coated with tin."),
        ("t4", "train", "What is a gutter made of?", METALS, "C", "A gutter is of zinc."),
        ("q1", "test", "Water makes rust of what?", METALS, "A", ""),
        ("q2", "test", "Cans are coated with what?", METALS, "B", ""),
        ("q3", "test", "Wires are drawn of what?", METALS, "D", ""),
    ]
    folder = load_choice(documents, questions)
    db = open_store(folder / "kard.db")
    with db.atomic():
        db.execute("update rationales set accepted = 0, conclusion = 'A' where text like '%zinc%'")
    db.close()
    monkeypatch.setenv("KARD_CACHE", str(folder / "cache"))
    write_decoder(folder / "decoder", words=METALS)
    return folder


def ablate(folder: Path, *words: str) -> list[dict[str, Any]]:
    chosen = ("--base", f"tiny={folder / 'decoder'}", "--size", "tiny", "--epochs", "1", "--retriever", "bm25")
    small = ("--set", "decoding.max_new_tokens=4", "--set", "student.lora.rank=2")
    words = ("ablate", "choice", *chosen, *small, *words, "--quiet", "--json")
    return json.loads(kard(folder, *words).stdout)


def test_each_row_is_the_whole_but_for_its_part_and_is_made_once(folder: Path) -> None:
    plan = ablate(folder, "--seeds", "1", "--dry-run")
    assert [(row["part"], row["seed"]) for row in plan] == [(part, 1) for part in (WHOLE, *ROWS)]
    # Without a reranker nothing is lost by leaving it out: the row is the whole itself.
    assert [row["trainings"] for row in plan] == [1, 0, *(1 for _ in ROWS[1:])]
    rows = ablate(folder, "--seeds", "1")
    assert [row["method"] for row in rows[:2]] == ["chance", "majority"]
    parts = {row["part"]: row for row in rows[2:]}
    assert tuple(parts) == (f"{WHOLE}|no reranker", *ROWS[1:])
    whole, *others = parts.values()
    assert whole["minus the whole"] == ""
    assert all(row["n"] == 3 and row["minus the whole"] and row["p (Holm)"] for row in others)
    assert {name: (row["method"], row["retriever"]) for name, row in parts.items()} == {
        name: {"no knowledge": ("rd", "none"), "no rationale": ("ka-ft", "bm25")}.get(name, ("kard", "bm25"))
        for name in parts
    }
    db = open_store(folder / "kard.db")
    recipes = [json.loads(recipe) for (recipe,) in db.execute("select recipe from students order by rowid")]
    controls = [
        {name: r["settings"][name] for name in ("distinct", "passages", "wrong") if name in r["settings"]}
        for r in recipes
    ]
    assert controls == [
        *({}, {}, {}, {}, {"distinct": 1}, {"passages": "bm25"}, {"passages": "shuffled"}),
        *({"wrong": share} for share in (0.1, 0.3, 0.5)),
    ]
    assert [r["data"]["questions"] for r in recipes] == [3, 3, 3, 4, *(3 for _ in recipes[4:])]
    # Of three rationales a tenth is none, and one of each question is all of them: both rows have the whole's data.
    assert len({r["data"]["sha256"] for r in recipes}) == 8
    assert {(row["trainings"], row["answers"]) for row in ablate(folder, "--seeds", "1", "--dry-run")} == {(0, 0)}
    before = db.execute("select count(*), max(id) from predictions").fetchone()
    assert ablate(folder, "--seeds", "1") == rows
    assert db.execute("select count(*), max(id) from predictions").fetchone() == before


def test_some_rows_alone_stand_beside_the_whole_with_a_figure_of_them(folder: Path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib: the figure was not drawn")
    rows = ablate(folder, "--parts", "no knowledge", "--plot", str(folder / "parts.svg"))
    assert [row["part"] for row in rows[2:]] == [WHOLE, "no knowledge"]
    figure = (folder / "parts.svg").read_text(encoding="utf-8")
    assert "no knowledge" in figure
    assert "accuracy, with 95% interval" in figure


def test_what_cannot_be_ablated_is_refused_before_anything_is_done(folder: Path) -> None:
    for words, problem in {
        ("--parts", "no luck"): "there is no 'no luck'",
        ("--method", "kard,rd"): "the whole has one of --method, not kard, rd",
        ("--retriever", "bm25,fused"): "the whole has one of --retriever, not bm25, fused",
        ("--seed", "1"): "an ablation takes --seeds",
    }.items():
        said = kard(folder, "ablate", *words, "choice", code=2).stderr
        assert problem in " ".join(said.replace("│", " ").split()), said
    assert open_store(folder / "kard.db").table("students").count == 0
