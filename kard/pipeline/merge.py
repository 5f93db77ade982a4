"""Join another store into this one: all that it has and this one lacks, however often it is joined.

Rows keep their ids where an id is a hash of what made the row. The others get new ones, and are told apart by the
columns of their keys. All is one transaction; the other store is only read.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kard.db import writing
from kard.errors import BadInput
from kard.files import adapters_folder, atomic

if TYPE_CHECKING:
    from sqlite_utils import Database

SHOWN = 3  # conflicts that a message names
HASHED = ("student_id", "reranker_id", "retriever_id")  # columns that name something with an adapter


@dataclass(frozen=True, slots=True)
class Table:
    """A table, the columns that tell its rows apart, and the tables with row ids that it refers to."""

    name: str
    key: tuple[str, ...] = ("id",)
    refers: Mapping[str, str] = field(default_factory=dict[str, str])
    same: tuple[str, ...] = ()  # a row with the same key is the same row only where these are equal too
    follows: str = ""  # column: rows come along only where the row that it refers to is new


_QUESTION = {"question_id": "questions"}
TABLES = (  # each after those that it refers to
    Table("questions", ("task", "key")),
    Table("evidence", ("question_id", "document"), _QUESTION),
    Table("indexes"),
    Table("passages"),
    Table("fact_passages", ("question_id", "fact", "passage_id"), _QUESTION),
    Table("teachers"),
    Table("verifiers"),
    Table("rationales", ("question_id", "teacher_id", "sample"), _QUESTION),
    Table("failed_replies", ("question_id", "teacher_id", "sample", "text", "created"), _QUESTION),
    Table("verifications", ("rationale_id", "verifier_id"), {"rationale_id": "rationales"}),
    Table(
        "retrievals",
        ("index_id", "question_id", "rationale_id"),
        {**_QUESTION, "rationale_id": "rationales"},
        same=("query", "depth", "form", "rationale_form", "max_df"),
    ),
    Table("hits", ("retrieval_id", "rank"), {"retrieval_id": "retrievals"}, follows="retrieval_id"),
    Table("rerankers"),
    Table("rerank_scores", ("reranker_id", "retrieval_id", "rank"), {"retrieval_id": "retrievals"}),
    Table("retrievers"),
    Table("rankings", ("retriever_id", "index_id", "question_id"), _QUESTION, same=("depth",)),
    Table("ranked", ("ranking_id", "rank"), {"ranking_id": "rankings"}, follows="ranking_id"),
    Table("students"),
    Table("evaluations", ("hash",)),
    Table("predictions", ("evaluation_id", "question_id"), {**_QUESTION, "evaluation_id": "evaluations"}),
    Table("samples", ("prediction_id", "sample"), {"prediction_id": "predictions"}, follows="prediction_id"),
    Table(
        "judgements",
        ("question_id", "passage_id", "rationale_id", "author"),
        {**_QUESTION, "rationale_id": "rationales"},
    ),
    Table("steps_log", ("task", "step", "started", "milliseconds")),
)
"""Claims and checks of overlaps are not among them: they are of one store."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows that were added, by table, and what was left out, in words."""

    added: Mapping[str, int]
    left_out: tuple[str, ...]


def merge(db: Database, store: Path, other: Path) -> Merged:
    """Add to the store what `other` has and it lacks, with the adapters beside it.

    A rationale with another text is another rationale: it gets the next free sample. Where both have trained the
    same recipe to different weights, this store's stay, and what rests on the other's is left out.
    Raises BadInput, before anything is written, if `other` is this store, of another version, or has a question of
    the same id with another text, and if an adapter is not beside it as it was trained.
    """
    if other.exists() and store.exists() and other.samefile(store):
        raise BadInput(f"{other} is the store itself; name another one")
    try:
        db.execute("attach database ? as other", [str(other)])
    except sqlite3.DatabaseError as error:
        raise BadInput(f"cannot open {other} as a store ({error}); name another one") from error
    try:
        _check(db, other)
        with writing(db):
            left_out = _conflicts(db)
            _copy_adapters(db, store, other)
            added = {table.name: _add(db, table, adapters_folder(store).name) for table in TABLES}
        return Merged(added, left_out)
    finally:
        for table in _temporary(db):
            db.execute(f"drop table temp.{table}")
        db.execute("detach database other")


def _temporary(db: Database) -> list[str]:
    return [row[0] for row in db.execute("select name from temp.sqlite_master where type = 'table'").fetchall()]


def _check(db: Database, other: Path) -> None:
    """Raise BadInput for another version's store and for a question that both have with different texts."""
    columns = "select name from pragma_table_info(?, ?) order by name"
    found = [
        [db.execute(columns, [table.name, store]).fetchall() for store in ("main", "other")] for table in TABLES
    ]
    wrong = [table.name for table, (here, there) in zip(TABLES, found, strict=True) if here != there]
    if wrong:
        raise BadInput(f"{other} has not the tables of this version of kard ({wrong[0]}); it is not joined")
    differing = db.execute(
        "select m.task, m.key from main.questions m join other.questions o using (task, key) where m.hash <> o.hash"
    ).fetchall()
    if differing:
        names = ", ".join(f"{task} {key}" for task, key in differing[:SHOWN])
        raise BadInput(
            f"{len(differing)} questions have the same id and another text or answer in {other} ({names});"
            " load the same file into both with: kard load TASK FILE"
        )


def _conflicts(db: Database) -> tuple[str, ...]:
    """Note in temp.excluded what both stores trained to different weights; return it in words."""
    db.execute("create temp table excluded (id text primary key)")
    words: list[str] = []
    for table, what in {"students": "student", "rerankers": "reranker"}.items():
        both = f"select m.id from main.{table} m join other.{table} o using (id) where m.sha256 <> o.sha256"
        for (id,) in db.execute(both).fetchall():
            db.execute("insert into temp.excluded values (?)", [id])
            words.append(f"{what} {id}: its weights are others in the two stores; this store's stay")
    rest = "select id from other.retrievers where reranker_id in (select id from temp.excluded)"
    db.execute(f"insert or ignore into temp.excluded {rest}")
    return tuple(words)


def _copy_adapters(db: Database, store: Path, other: Path) -> None:
    """Copy the folder of every adapter that is new. Raises BadInput if one is missing or changed."""
    from kard.models.adapters import changed_file

    new: list[tuple[str, str, str]] = []
    for table in ("students", "rerankers"):
        theirs = f"other.{table} where path <> '' and id not in (select id from main.{table})"
        new += db.execute(f"select id, path, sha256 from {theirs}").fetchall()
    for id, path, sha256 in new:
        source = other.parent / path
        if not source.is_dir() or changed_file(source, sha256):
            raise BadInput(
                f"the adapter {id} is not beside {other} as it was trained; copy the folder"
                f" {adapters_folder(other).name} along with the store"
            )
    for _, path, _ in new:
        target = adapters_folder(store) / Path(path).name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic(target, folder=True) as folder:
                shutil.copytree(other.parent / path, folder, dirs_exist_ok=True)


def _add(db: Database, table: Table, adapters: str) -> int:
    """Insert the rows that are new, note which row is which, and return the number of new ones."""
    if table.name == "rationales":
        return _add_rationales(db)
    columns = [column.name for column in db.table(table.name).columns]
    has_ids = table.key != ("id",) and "id" in columns
    columns = [name for name in columns if not (has_ids and name == "id")]
    values = {name: f"o.{name}" for name in columns}
    joins, wanted = "", ["1"]
    for column, target in table.refers.items():
        joins += f" left join temp.to_{target} {column}s on {column}s.old = o.{column}"
        values[column] = f"{column}s.new"
        wanted.append(f"({column}s.new is not null or o.{column} is null)")
    wanted += [f"coalesce(o.{c}, '') not in (select id from temp.excluded)" for c in HASHED if c in columns]
    key = " and ".join(f"m.{name} is {values[name]}" for name in table.key)
    source, rows = f"other.{table.name} o{joins}", " and ".join(wanted)
    if "path" in columns and "sha256" in columns:
        values["path"] = "case o.path when '' then '' else :adapters || substr(o.path, instr(o.path, '/')) end"
    new = f"not exists (select 1 from main.{table.name} m where {key})"
    if table.follows:
        new = f"{table.follows}s.added"
    before = db.execute(f"select max(id) from main.{table.name}").fetchone()[0] or 0 if has_ids else 0
    names, chosen = ", ".join(columns), ", ".join(values.values())
    count = db.execute(
        f"insert into main.{table.name} ({names}) select {chosen} from {source} where {rows} and {new}",
        {"adapters": adapters},
    ).rowcount
    if has_ids:
        alike = "".join(f" and m.{name} is o.{name}" for name in table.same)
        db.execute(f"create temp table to_{table.name} (old integer primary key, new integer, added integer)")
        both = f"{source} join main.{table.name} m on {key}{alike} where {rows}"
        db.execute(f"insert into temp.to_{table.name} select o.id, m.id, m.id > {before} from {both}")
    return count


def _add_rationales(db: Database) -> int:
    """Insert the rationales whose texts are new, each under its own sample or the next free one."""
    db.execute("create temp table to_rationales (old integer primary key, new integer, added integer)")
    known: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in db.query("select id, question_id, teacher_id, sample, text, created from main.rationales"):
        known.setdefault((row["question_id"], row["teacher_id"]), []).append(row)
    added = 0
    theirs = "other.rationales o join temp.to_questions q on q.old = o.question_id"
    for row in list(db.query(f"select o.*, q.new as question from {theirs} order by o.id")):
        mine = known.setdefault((row["question"], row["teacher_id"]), [])
        new = {**row, "question_id": row["question"]}
        old = new.pop("id")
        del new["question"]
        same = next((m for m in mine if m["text"] == row["text"] and _alike(m, row)), None)
        if same is None:
            taken = [m["sample"] for m in mine]
            new["sample"] = row["sample"] if row["sample"] not in taken else max(taken) + 1
            names = ", ".join(new)
            marks = ", ".join("?" * len(new))
            cursor = db.execute(f"insert into main.rationales ({names}) values ({marks})", list(new.values()))
            mine.append({**new, "id": cursor.lastrowid})
            added += 1
        db.execute(
            "insert into temp.to_rationales values (?, ?, ?)",
            [old, (same or mine[-1])["id"], same is None],
        )
    return added


def _alike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether equal texts are one rationale: the same sample, or one that was joined before under a free number."""
    return mine["sample"] == theirs["sample"] or mine["created"] == theirs["created"]
