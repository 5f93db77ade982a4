"""`kard merge`: two stores become one, with nothing lost, nothing twice, and nothing mixed up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from sqlite_utils import Database

from kard.cli import main
from kard.db import open_store
from kard.models.adapters import hash_of

CONTENT = {
    "questions": "select task, key, text, answer from questions",
    "evidence": "select q.key, e.document from evidence e join questions q on q.id = e.question_id",
    "passages": "select id, text from passages",
    "fact_passages": "select q.key, f.fact, f.passage_id from fact_passages f"
    " join questions q on q.id = f.question_id",
    "rationales": "select q.key, r.teacher_id, r.text, r.accepted from rationales r"
    " join questions q on q.id = r.question_id",
    "hits": "select q.key, x.text, h.rank, h.passage_id, h.bm25 from hits h"
    " join retrievals s on s.id = h.retrieval_id join questions q on q.id = s.question_id"
    " left join rationales x on x.id = s.rationale_id",
    "rerank_scores": "select q.key, s.reranker_id, s.rank, s.passage_id from rerank_scores s"
    " join retrievals t on t.id = s.retrieval_id join questions q on q.id = t.question_id",
    "answers": "select e.hash, q.key, p.answer, p.passages, s.text from samples s"
    " join predictions p on p.id = s.prediction_id"
    " join evaluations e on e.id = p.evaluation_id join questions q on q.id = p.question_id",
    "judgements": "select q.key, j.passage_id, x.text, j.verdict, j.author from judgements j"
    " join questions q on q.id = j.question_id left join rationales x on x.id = j.rationale_id",
    "verifications": "select x.text, v.verifier_id, v.answer from verifications v"
    " join rationales x on x.id = v.rationale_id",
}


def content(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the store holds, with texts in place of row ids."""
    return {name: sorted(map(tuple, db.execute(sql).fetchall()), key=str) for name, sql in CONTENT.items()}


def counts(db: Database) -> dict[str, int]:
    return {name: int(db.table(name).count) for name in db.table_names() if "fts" not in name}


def merge(store: Path, other: Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["merge", str(other), "--store", str(store)])
    assert result.exit_code == code, result.output
    return result


def filled(new_case: Any, path: Path, keys: str, *, read: str = "d1-0") -> Database:
    """Return a store with a question of each of these letters, and all that rests on it."""
    db = open_store(path)
    case = new_case(db)
    case.write("update students set path = '' where id = 's'")
    case.write("update rerankers set path = ''")
    case.write("insert into verifiers values ('v', 'reader', '-', '', '{}', '-')")
    for key in keys:
        question = case.question(key, f"d{key}")
        case.hits(question, f"d{key}-0", "d1-0", "d2-0")
        case.write("insert into fact_passages values (?, 0, 'd2-0')", question)
        case.ranked(question, "d1-0", f"d{key}-0", "d2-0")
        rationale = case.rationale(question, "d1-0", f"d{key}-1")
        case.answered(question, "bm25", read, f"d{key}-0")
        case.answered(question, "none", answer="A")
        case.write("insert into verifications values (?, 'v', 'A', 1, 'yes', 1, 1, 0, 0, '-')", rationale)
        judged = "insert into judgements (question_id, passage_id, rationale_id, verdict, author, created)"
        case.write(f"{judged} values (?, 'd1-0', null, 'good', 'me', '-')", question)
        case.write(f"{judged} values (?, null, ?, 'bad', 'me', '-')", question, rationale)
    return db


def test_an_empty_store_becomes_the_other_one(tmp_path: Path, new_case: Any) -> None:
    other = filled(new_case, tmp_path / "other.db", "abc")
    before = content(other)
    assert merge(tmp_path / "kard.db", tmp_path / "other.db").output.startswith(
        "questions +3, evidence +3, indexes +1"
    )
    db = open_store(tmp_path / "kard.db")
    assert content(db) == before == content(other)
    assert counts(db) == counts(other)
    assert all(content(db).values())  # every kind of row was there


def test_two_stores_with_other_row_ids_become_their_union_and_a_second_time_adds_nothing(
    tmp_path: Path, new_case: Any
) -> None:
    filled(new_case, tmp_path / "kard.db", "dcb")
    filled(new_case, tmp_path / "other.db", "abc")
    whole = content(filled(new_case, tmp_path / "whole.db", "abcd"))
    merge(tmp_path / "kard.db", tmp_path / "other.db")
    db = open_store(tmp_path / "kard.db")
    assert content(db) == whole
    assert db.execute("pragma foreign_key_check").fetchall() == []
    after = counts(db)
    assert (
        merge(tmp_path / "kard.db", tmp_path / "other.db").output
        == f"nothing was missing of {tmp_path / 'other.db'}\n"
    )
    assert counts(db) == after
    assert db.execute("select count(*) from questions_fts where questions_fts match 'so'").fetchone() == (4,)


def test_a_paid_rationale_with_another_text_is_kept_under_the_next_sample(tmp_path: Path, new_case: Any) -> None:
    for name, texts in {"kard": ("one", "two"), "other": ("one", "three", "four")}.items():
        case = new_case(open_store(tmp_path / f"{name}.db"))
        case.write("update students set path = ''")
        case.write("update rerankers set path = ''")
        question = case.question("q")
        for sample, text in enumerate(texts):
            rationale = case.rationale(question, sample=sample)
            case.write(
                "update rationales set text = ?, created = ? where id = ?", text, f"{name} {text}", rationale
            )
    wanted = [(0, "one"), (1, "two"), (2, "three"), (3, "four")]
    # "four" has a sample of its own in the other store; "three" takes the next free one, which is that.
    assert "rationales +2" in merge(tmp_path / "kard.db", tmp_path / "other.db").output
    db = open_store(tmp_path / "kard.db")
    found = db.execute("select sample, text from rationales order by sample").fetchall()
    assert found == wanted
    merge(tmp_path / "kard.db", tmp_path / "other.db")
    assert db.execute("select sample, text from rationales order by sample").fetchall() == wanted


def test_a_deeper_search_stays_and_nothing_of_the_other_is_mixed_into_it(tmp_path: Path, new_case: Any) -> None:
    mine, theirs = open_store(tmp_path / "kard.db"), open_store(tmp_path / "other.db")
    for db, passages in ((mine, ("a-0", "b-0", "c-0")), (theirs, ("a-0", "b-0"))):
        case = new_case(db)
        case.write("update students set path = ''")
        case.write("update rerankers set path = ''")
        question = case.question("q")
        case.hits(question, *passages)
        if db is theirs:
            case.ranked(question, "b-0", "a-0")
    merge(tmp_path / "kard.db", tmp_path / "other.db")
    assert [mine.table(name).count for name in ("retrievals", "hits", "rerank_scores")] == [1, 3, 0]


def test_a_question_with_another_text_is_refused_and_nothing_is_written(tmp_path: Path, new_case: Any) -> None:
    db = filled(new_case, tmp_path / "kard.db", "ab")
    theirs = filled(new_case, tmp_path / "other.db", "bc")
    with theirs.atomic():
        theirs.execute("update questions set text = 'Is b so, or not?', hash = 'b2' where key = 'b'")
    before = content(db)
    error = merge(tmp_path / "kard.db", tmp_path / "other.db", code=1).stderr
    assert "1 questions have the same id and another text or answer in" in error
    assert "(tiny b); load the same file into both with: kard load TASK FILE" in error
    assert content(db) == before


def adapter(folder: Path, weight: float) -> str:
    """Write a small adapter and return its sha256."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file({"a": torch.tensor([weight])}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    return hash_of(folder / "adapter_model.safetensors")


def test_adapters_come_along_and_a_changed_one_is_refused(tmp_path: Path, new_case: Any) -> None:
    theirs = filled(new_case, tmp_path / "other.db", "a")
    sha256 = adapter(tmp_path / "other.adapters" / "s", 1.0)
    with theirs.atomic():
        theirs.execute("update students set path = 'other.adapters/s', sha256 = ?", [sha256])
    merge(tmp_path / "kard.db", tmp_path / "other.db")
    db = open_store(tmp_path / "kard.db")
    assert db.execute("select path, sha256 from students").fetchall() == [("kard.adapters/s", sha256)]
    assert hash_of(tmp_path / "kard.adapters" / "s" / "adapter_model.safetensors") == sha256
    shutil.rmtree(tmp_path / "other.adapters")
    merge(tmp_path / "kard.db", tmp_path / "other.db")  # it is here already
    adapter(tmp_path / "other.adapters" / "s", 2.0)
    error = merge(tmp_path / "new.db", tmp_path / "other.db", code=1).stderr
    assert "the adapter s is not beside" in error
    assert open_store(tmp_path / "new.db").table("questions").count == 0


def test_answers_of_the_same_recipe_with_other_weights_are_left_out_and_named(
    tmp_path: Path, new_case: Any
) -> None:
    mine, theirs = filled(new_case, tmp_path / "kard.db", "a"), filled(new_case, tmp_path / "other.db", "ab")
    with theirs.atomic():
        theirs.execute("update students set sha256 = 'other'")
    result = merge(tmp_path / "kard.db", tmp_path / "other.db")
    assert result.stderr == "student s: its weights are others in the two stores; this store's stay\n"
    assert [mine.table(name).count for name in ("questions", "rerank_scores", "predictions")] == [2, 6, 2]
    with theirs.atomic():
        theirs.execute("update students set sha256 = '-'")
        theirs.execute("update rerankers set sha256 = 'other'")
    filled(new_case, tmp_path / "third.db", "a")
    merge(tmp_path / "third.db", tmp_path / "other.db")
    third = open_store(tmp_path / "third.db")
    assert [third.table(name).count for name in ("questions", "rerank_scores", "predictions")] == [2, 3, 4]


def test_what_is_no_other_store_is_refused_in_one_line(tmp_path: Path, new_case: Any) -> None:
    filled(new_case, tmp_path / "kard.db", "a")
    assert "is the store itself" in merge(tmp_path / "kard.db", tmp_path / "kard.db", code=1).stderr
    (tmp_path / "notes.txt").write_text("no database, and long enough to be read as one " * 20)
    error = merge(tmp_path / "kard.db", tmp_path / "notes.txt", code=1).stderr
    assert "notes.txt as a store (file is not a database); name another one" in error
    Database(tmp_path / "plain.db").table("questions").insert({"id": 1})
    error = merge(tmp_path / "kard.db", tmp_path / "plain.db", code=1).stderr
    assert "has not the tables of this version of kard" in error
