"""Settings of the reranker held against each other: what is compared, what the numbers say, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from kard.cli import choose, main
from kard.config import CUTOFFS, Lora, RerankerTraining
from kard.db import open_store
from kard.errors import BadConfig
from kard.pipeline import ablate as pipeline
from kard.pipeline.ablation import FACTORS, Ranked, differences_table, lines, shares_table, variants
from kard.questions import QuestionSet
from kard.reranker.dataset import read_dataset
from kard.reranker.model import Reranker

# --- what is compared -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "default", [RerankerTraining(), RerankerTraining(side="both", scorer="cross", loss="ce", candidates=12)]
)
def test_each_variant_differs_from_the_default_in_its_factor_alone(default: RerankerTraining) -> None:
    control, plain, *others = variants(default, list(FACTORS))
    assert (control.settings, plain.factor) == (replace(plain.settings, epochs=0), "default")
    assert plain.settings == replace(default, held_out=0.0)
    for variant in others:
        own = dict(FACTORS[variant.factor])[variant.level]
        before, after = plain.settings.values(), variant.settings.values()
        changed = {name for name in before if before[name] != after[name]}
        assert changed
        assert changed <= own.keys()
    assert len({v.settings.hash() for v in (control, plain, *others)}) == len(others) + 2


def test_only_the_named_factors_are_varied_and_others_are_refused() -> None:
    assert [v.factor for v in variants(RerankerTraining(), ["lora"])] == ["control", "default", "lora", "lora"]
    assert [v.level for v in variants(RerankerTraining(), [])] == ["untrained", "as it is"]
    with pytest.raises(BadConfig, match="side, loss, scorer, candidates, lora, rationales; there is no depth"):
        variants(RerankerTraining(), ["depth"])


# --- what the numbers say -------------------------------------------------------------------------

ranks = st.dictionaries(st.integers(0, 30), st.none() | st.integers(1, 40), min_size=1, max_size=31)


@given(ranks, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_shares_are_counted_and_differences_are_paired(best_ranks: dict[int, int | None], rng: Any) -> None:
    values = list(best_ranks.values())
    other: dict[int, int | None] = dict(zip(best_ranks, rng.sample(values, len(values)), strict=True))
    default = Ranked("default", "as it is", {"evidence": best_ranks, "silver": {}})
    variant = Ranked("loss", "ce", {"evidence": other, "silver": {}})
    first, second = lines([default, variant], default)
    assert (first.level, second.level, first.differences) == ("as it is", "ce", {})
    for k in CUTOFFS:
        within = [rank is not None and rank <= k for rank in values]
        assert (first.shares[k].right, first.shares[k].of) == (sum(within), len(values))
        difference = second.differences[k]
        assert difference.mean == pytest.approx(0)  # the same ranks, of other questions
        assert difference.low <= 0 <= difference.high


def test_a_better_order_has_a_difference_above_zero_and_the_tables_say_so() -> None:
    worse = Ranked("default", "as it is", {"evidence": dict.fromkeys(range(40), 2), "silver": {}}, 9.0, 1.0)
    better = Ranked("loss", "ce", {"evidence": dict.fromkeys(range(40), 1), "silver": {}}, 8.6, 2.0)
    rows = lines([worse, better], worse)
    assert (rows[1].differences[1].mean, rows[1].differences[1].low) == (1, 1)
    assert rows[1].differences[3].mean == 0
    header, body = shares_table(rows)
    assert header[3:7] == ["Hits@1", "Hits@3", "Hits@5", "Hits@10"]
    assert body[1][:3] + body[1][7:] == ["loss", "ce", 40, "9", "2"]
    assert differences_table(rows)[1][0][2] == "+1.000 [+1.000, +1.000]"
    assert len(differences_table(rows)[1]) == 1
    record: Any = rows[1].record()
    assert record["hits_at_1"]["difference"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (record["questions"], record["training_seconds"]) == (40, 8.6)


# --- the command ----------------------------------------------------------------------------------

TOWNS = ("Alva", "Brun", "Cole", "Dorn", "Esk", "Fenn", "Gard", "Holm", "Ivry")
COLOURS = ("red", "blue", "green")
TASK = """
from kard.config import Lora, RerankerTraining, Retrieval, TaskSettings
from kard.programs import Answer, RetrieveThenAnswer, Teach, plain
from kard.tasks import Task

TASK = Task(
    "gates",
    "Colours of town gates.",
    lambda row: plain(row, options=row["options"]),
    Teach,
    Answer,
    RetrieveThenAnswer,
    encoders={{"tiny": {encoder!r}}},
    settings=TaskSettings(
        retrieval=Retrieval(depth=4, max_df=1.0),
        reranker=RerankerTraining(lora=Lora(rank=2, alpha=4), batch=4, candidates=4, max_length=32),
    ),
)
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Passages, questions with evidence, recorded rationales, a tiny random encoder, and a task over them."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    texts = [f"The gate of {town} is {COLOURS[n % 3]}." for n, town in enumerate(TOWNS)]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=300, special_tokens=["<end>"], show_progress=False)
    (tmp_path / "encoder").mkdir()
    bpe.save(str(tmp_path / "encoder" / "tokenizer.json"))
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "encoder" / "tokenizer.json"), eos_token="<end>", pad_token="<end>"
    )
    fast.save_pretrained(tmp_path / "encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(tmp_path / "encoder")

    def write_rows(name: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows), "utf-8")

    write_rows(
        "passages.jsonl", [{"id": town, "title": town, "text": t} for town, t in zip(TOWNS, texts, strict=True)]
    )
    write_rows(
        "questions.jsonl",
        [
            {
                "id": f"q{n}",
                "split": "train",
                "question": f"What colour is the gate of {town}?",
                "options": list(COLOURS),
                "answer": "ABC"[n % 3],
                "evidence": [town],
            }
            for n, town in enumerate(TOWNS)
        ],
    )
    write_rows(
        "rationales.jsonl",
        [
            {
                "question_id": f"q{n}",
                "sample": s,
                "rationale": f"{texts[n]} So the answer is {COLOURS[n % 3]}.",
                "model": "guide",
            }
            for n in range(len(TOWNS))
            for s in range(2)
        ],
    )
    (tmp_path / "gates.py").write_text(TASK.format(encoder=str(tmp_path / "encoder")), "utf-8")
    run(tmp_path, "index", str(tmp_path / "passages.jsonl"), "--quiet")
    loaded = ("load", str(tmp_path / "gates.py"), str(tmp_path / "questions.jsonl"))
    run(tmp_path, *loaded, "--rationales", str(tmp_path / "rationales.jsonl"))
    return tmp_path


def run(folder: Path, *words: str) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db")])
    assert result.exit_code == 0, result.output
    return result


def ablate(folder: Path, *words: str) -> str:
    return run(folder, "ablate", "reranker", str(folder / "gates.py"), "--quiet", "--kappa", "10", *words).output


def test_a_comparison_is_made_once_and_printed_in_three_forms(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = json.loads(ablate(world, "--factors", "loss,scorer", "--json"))
    db = open_store(world / "kard.db")
    # the control, the default, three losses, three scorers
    assert db.table("rerankers").count == 8
    assert {row[0] for row in db.execute("select experiment from rerankers")} == {"ablation"}
    # three of nine questions are ranked, and nothing learned from them
    ((index, data),) = db.execute("select distinct index_id, data_sha256 from rerankers").fetchall()
    others = read_dataset(db, QuestionSet("gates", "train"), index, skip=3)
    assert [question.key for question in others.questions] == [f"q{n}" for n in range(3, 9)]
    assert data == others.data.sha256
    ranked = db.execute(
        "select distinct q.key from rerank_scores s join retrievals r on r.id = s.retrieval_id"
        " join questions q on q.id = r.question_id order by 1"
    ).fetchall()
    assert ranked == [("q0",), ("q1",), ("q2",)]
    assert [line["level"] for line in first if line["gold"] == "evidence"] == [
        *("BM25 alone", "untrained", "as it is", "ce", "infonce", "mix"),
        *("maxsim, both sides", "maxsim, both sides, projection", "cross"),
    ]
    bm25 = first[0]
    assert (bm25["factor"], bm25["questions"], bm25["hits_at_1"]["value"]) == ("control", 3, 1.0)
    assert (bm25["training_seconds"], "difference" in bm25["hits_at_1"]) == (None, True)
    assert {line["gold"] for line in first} == {"evidence", "silver"}

    rows = {name: int(db.table(name).count) for name in db.table_names()}
    monkeypatch.setattr(Reranker, "load", None)  # a second run ranks nothing
    assert json.loads(ablate(world, "--factors", "loss,scorer", "--json")) == first
    assert {name: int(db.table(name).count) for name in db.table_names()} == rows
    markdown = ablate(world, "--factors", "loss", "--markdown")
    assert "| loss | infonce | 3 |" in markdown
    assert "learned from 6 train questions; ranked: the first 10 passages by BM25 of 3 other questions" in markdown
    assert "Hits@k against silver" in ablate(world, "--factors", "loss")


def test_passages_beyond_kappa_do_not_count_where_an_earlier_run_searched_deeper(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = choose.run_of(str(world / "gates.py"), store=world / "kard.db", knowledge=None, quiet=True)
    untrained = variants(RerankerTraining(lora=Lora(rank=2, alpha=4), candidates=4, max_length=32), [])
    released: list[None] = []
    monkeypatch.setattr(pipeline, "release_memory", lambda: released.append(None))

    def hits(kappa: int) -> dict[str, int]:
        found, questions = pipeline.ablate(this, untrained, pipeline.sample_of(this, 400, 200), kappa)
        assert questions == 6
        return {line.level: int(line.shares[3].right) for line in found if line.gold == "evidence"}

    deep = hits(9)
    assert len(released) == len(untrained)
    this.db.execute("update hits set rank = -rank")
    this.db.execute("update hits set rank = 10 + rank")  # the evidence, which was first, is last
    this.db.conn.commit()
    assert hits(9) == {**deep, "BM25 alone": 0}
    assert hits(8) == dict.fromkeys(deep, 0)
    assert hits(2) == dict.fromkeys(deep, 0)
    this.db.execute("update hits set rank = -rank")
    this.db.execute("update hits set rank = 10 + rank")
    assert hits(3) == dict.fromkeys(deep, 3) != deep, "three passages have ranks to 3, whoever orders them"


def test_the_sentence_has_the_questions_that_were_trained_on_and_measured(world: Path) -> None:
    db = open_store(world / "kard.db")
    db.execute("update questions set split = 'dev' where id > 7")
    db.execute("delete from rationales where question_id = 2")
    db.conn.commit()
    words = "ranked: the first 10 passages by BM25 of 2 other questions (dev)"
    assert f"learned from at most 7 train questions; {words}" in ablate(world, "--split", "dev", "--dry-run")
    assert f"learned from 6 train questions; {words}" in ablate(world, "--split", "dev", "--factors", "lora")


def test_a_run_does_not_take_an_ablations_reranker_for_its_own(world: Path) -> None:
    ablate(world, "--factors", "lora", "--train-limit", "4")
    before = open_store(world / "kard.db").table("rerankers").count
    run(world, "ground", str(world / "gates.py"), "--quiet")
    states = json.loads(run(world, "status", str(world / "gates.py"), "--split", "train", "--json").output)
    (step,) = [s for s in states if s["step"] == "reranker"]
    assert (step["done"], step["missing"], step["outdated"]) == (0, 1, 0)
    run(world, "train", "reranker", str(world / "gates.py"), "--quiet")
    assert open_store(world / "kard.db").table("rerankers").count == before + 1


def test_a_plan_is_shown_without_training_and_too_little_is_said_so(world: Path) -> None:
    shown = ablate(world, "--dry-run", "--factors", "lora")
    assert "upper_half=True" in shown
    assert "learned from at most 6 train questions" in shown
    db = open_store(world / "kard.db")
    assert db.table("rerankers").count == 0
    db.execute("delete from rationales where question_id > 2")
    db.conn.commit()
    words = ["ablate", "reranker", str(world / "gates.py"), "--store", str(world / "kard.db")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "too few to train on some and to rank others" in result.output
    assert "kard teach" in result.output
