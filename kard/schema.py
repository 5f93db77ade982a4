"""What tables, views and canned queries mean: comments of the schema, and what is said once for many columns.

The documents (`kard.docs`) and the browser (`kard.ui`) read it from here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from kard import db

TABLES: Mapping[str, str] = {
    "questions": "Every question that was loaded, of every task.",
    "teachers": "Who wrote rationales: a model with its instructions and sampling, or a file.",
    "rationales": "What teachers wrote, one row a question, teacher and sample.",
    "retrievals": "Each query that was put to an index: a question, or a rationale.",
    "hits": (
        "What each retrieval found. A rationale's own top `depth` come first; then the question's top "
        "passages that are not among them, scored by the rationale too."
    ),
    "rerankers": "Each reranker that was trained; its adapter lies beside the store.",
    "rerank_scores": "The question's hits as a reranker ranks them.",
    "ranked": "The passages of a ranking, best first.",
    "students": "Each student that was trained; its adapter lies beside the store.",
    "steps_log": "What each step added, and when.",
}
"""Tables whose own comment in the schema does not say it."""

COLUMNS: Mapping[str, str] = {
    "id": "key of the row",
    "task": "name of the task",
    "split": "train, dev, test, ... as loaded",
    "created": "when the row was made, UTC",
    "milliseconds": "time it took",
    "question_id": "the question",
    "passage_id": "the passage",
    "teacher_id": "the teacher",
    "rationale_id": "the rationale",
    "retrieval_id": "the retrieval",
    "index_id": "the state of the knowledge base",
    "reranker_id": "the reranker",
    "student_id": "the student",
    "retriever_id": "what ordered the passages",
    "ranking_id": "the ranking",
    "kappa": "candidates that were reranked, null for the task's own number",
    "evaluation_id": "the condition",
    "prediction_id": "the prediction",
    "other_question_id": "the question that holds it, null when a passage does",
    "sample": "number of the sample, 0-based",
    "prompt_tokens": "tokens read",
    "completion_tokens": "tokens written",
    "method": "ft, ka-ft, rd or kard",
    "size": "size of the student, as its task names it",
    "seed": "seed of the training",
    "retriever": "where the passages of the prompt come from",
    "k": "passages in the prompt, 0 for none",
    "kind": "kind of question; '' where a task has one kind",
    "questions": "how many questions",
    "rationales": "how many rationales",
    "accuracy": "share of right answers",
    "correct": "how many are right",
    "base": "the base model",
    "base_sha256": "hash of its weights as loaded",
    "settings": "JSON; see settings.md",
    "sha256": "of the adapter's weights",
    "teacher": "name of the teacher",
    "gold": "evidence or silver: where the needed passages are known from",
    "title": "title of the passage's document",
    "text": "the text",
    "question": "text of the question",
    "rationale": "text of the rationale",
    "passage": "text of the passage",
    "answer": "letter of the gold answer",
    "options": "JSON list; option 0 is A",
    "rank": "1 is best",
    "bm25": "BM25(rationale, passage)",
    "step": "name of the step",
    "key": "the question's id in its file",
    "conclusion": "the letter that the rationale ends on",
    "good": "how many people judged it good",
    "bad": "how many people judged it bad",
    "author": "who said so",
    "cost": "US dollars",
    "accepted": "share that conclude on the gold answer",
    "unread": "share without a letter that could be read",
    "characters": "mean length",
    "seconds": "time it took",
    "flops": "mean of 2 x parameters x tokens",
    "question_rank": "rank in the question's own list, null when beyond its depth",
    "from_rationale": "1 when the rationale's own query found it",
    "source": "evidence: named by the data; silver: found by a rationale",
    "hits_at_1": "share with a needed passage first",
    "hits_at_3": "... among the first three",
    "hits_at_5": "... among the first five",
    "hits_at_10": "... among the first ten",
    "hits_at_100": "... among the first hundred",
    "accuracy.unread": "how many answers could not be read",
    "accuracy.milliseconds": "mean time of an answer",
    "questions.text": "the question",
    "questions.facts": "JSON list of gold statements",
    "evidence.question_id": "the question that needs it",
    "indexes.path": "folder of the knowledge base",
    "indexes.passages": "how many it holds",
    "indexes.analyser": "how texts become terms",
    "passages.document": "key of the document in its source",
    "passages.part": "number of the passage in its document, 0-based",
    "teachers.name": "the name that commands take",
    "teachers.instructions": "what it is told",
    "verifiers.name": "the name that people know it by",
    "verifiers.model": "provider and model",
    "verifiers.instructions": "what it is told",
    "verifications.verifier_id": "whose opinion it is",
    "verifications.milliseconds": "time of the call",
    "rationale_verdicts.verified": "1 when every verifier reads the gold answer from it, null where none was asked",
    "rationales.text": "what the teacher wrote",
    "rationales.milliseconds": "time of the call",
    "retrievals.query": "question or rationale: what was searched with",
    "rerank_scores.score": "of the reranker; compares only within one retrieval",
    "rerankers.questions": "how many it was trained on",
    "students.examples": "how many it was trained on",
    "evaluations.decoding": "JSON; see settings.md",
    "evaluations.hash": "of all that decides the answers",
    "samples.text": "what the student wrote",
    "samples.answer": "letter that was read from it, null when none could be",
    "steps_log.started": "UTC",
    "steps_log.note": "what else there is to say",
    "rerankers.experiment": "name of the comparison that it was trained for, '' for a task's own",
    "judgements.verdict": "good or bad",
    "judgements.note": "why, in the author's words",
    "rationale_verdicts.verdict": "accepted, rejected, or unread when it concludes on no option",
    "step_costs.unit": "what the step makes",
    "step_costs.units": "how many of them there are",
    "step_costs.tokens": "read and written, null where the step has none",
    "first_hits.rank": "best rank of a needed passage, null when none was found",
    "first_hits.retriever": "bm25, or a reranker's id",
    "hits_at_k.retriever": "bm25, or a reranker's id",
    "rationale_quality.questions": "how many questions have one",
}
"""A column of that name, wherever its schema does not say; `table.column` goes before both."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or view. `type` is '' for what a view computes."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view."""

    name: str
    is_view: bool
    meaning: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A canned query: its name, what it shows, its parameters, those that need a value first."""

    name: str
    meaning: str
    parameters: tuple[str, ...]
    required: tuple[str, ...]
    sql: str

    @property
    def optional(self) -> tuple[str, ...]:
        """The parameters that narrow nothing when they are left empty."""
        return self.parameters[len(self.required) :]


def relations(connection: sqlite3.Connection) -> list[Relation]:
    """Tables, then views, in the order in which they were made; without SQLite's and full-text search's own."""
    rows = connection.execute(
        "select name, type, sql from sqlite_master where type in ('table', 'view') and name not glob '*sqlite_*' "
        "order by type, rowid"
    ).fetchall()
    virtual = tuple(row[0] for row in rows if str(row[2]).lower().startswith("create virtual"))
    views = _comments_of_views()
    return [
        _relation(connection, name, is_view=kind == "view", text=views.get(name, "") if kind == "view" else text)
        for name, kind, text in rows
        if name not in virtual and not name.startswith(tuple(f"{v}_" for v in virtual))
    ]


def queries() -> list[Query]:
    """Every canned query: first those that need no value, then the others, each in alphabetical order."""
    found: list[Query] = []
    for name in db.query_names():
        needed = tuple(db.required(name))
        rest = tuple(p for p in db.parameters(name) if p not in needed)
        found.append(Query(name, db.about(name), needed + rest, needed, db.sql(name)))
    return sorted(found, key=lambda query: bool(query.required))


def _relation(connection: sqlite3.Connection, name: str, *, is_view: bool, text: str) -> Relation:
    said = {} if is_view else _comments_of_columns(text)
    columns = tuple(
        Column(str(c), str(kind).lower(), COLUMNS.get(f"{name}.{c}") or said.get(str(c)) or COLUMNS.get(str(c), ""))
        for _, c, kind, *_ in connection.execute(f'pragma table_info("{name}")')
    )
    meaning = text if is_view else TABLES.get(name) or _comment_of_table(text)
    return Relation(name, is_view, meaning, columns)


def _comment_of_table(text: str) -> str:
    """What stands beside `create table NAME (`."""
    found = re.match(r"[^\n(]*\([ \t]*--[ \t]*(.+)", text)
    return _sentence(found[1]) if found else ""


def _comments_of_columns(text: str) -> dict[str, str]:
    """What stands beside each column of a `create table`, which has one column a line."""
    return {name: said.strip() for name, said in re.findall(r"^\s+(\w+)\s[^\n]*?--[ \t]*(.+)$", text, re.M)}


def _comments_of_views() -> dict[str, str]:
    """The comment above each `create view`."""
    found = re.findall(r"((?:^--[^\n]*\n)+)create view (\w+)", db.views_text(), re.M | re.I)
    return {name: " ".join(comment.replace("--", " ").split()) for comment, name in found}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
