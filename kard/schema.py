"""What tables, views, columns and canned queries mean, for the documents and for `kard ui`.

Tables and their columns are explained by the comments of store/tables.sql, views by those of store/views.sql, and
queries by those of store/queries. COLUMNS explains once what bears the same name in many places.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from kard import db

COLUMNS: Mapping[str, str] = {
    "id": "key of the row",
    "task": "name of the task",
    "split": "train, dev, test, ... as loaded",
    "key": "id of the question in its published file",
    "created": "when the row was written, UTC",
    "milliseconds": "time it took",
    "seconds": "time it took",
    "question_id": "the question",
    "other_question_id": "the question that holds the text, null when a passage does",
    "passage_id": "the passage",
    "teacher_id": "the teacher",
    "verifier_id": "the verifier",
    "rationale_id": "the rationale",
    "retrieval_id": "the search",
    "index_id": "the state of the knowledge base",
    "reranker_id": "the reranker",
    "retriever_id": "the retriever that ordered the passages",
    "ranking_id": "the ranking",
    "student_id": "the student",
    "evaluation_id": "the condition",
    "prediction_id": "the prediction",
    "sample": "number of the sample, 0-based",
    "prompt_tokens": "tokens read",
    "completion_tokens": "tokens written",
    "tokens": "tokens read and written, null where the step has none",
    "method": "ft, ka-ft, rd or kard, or a way of prompting an untrained base",
    "size": "size of the student, as its task names it",
    "seed": "seed of the training",
    "base": "the base model",
    "base_sha256": "hash of the base's weights",
    "sha256": "hash of the adapter's weights",
    "settings": "JSON; see settings.md",
    "retriever": "where the passages of the prompt come from",
    "k": "passages in the prompt, 0 for none",
    "kappa": "passages that the retriever ordered, null where it orders none",
    "kind": "kind of question, '' where a task has one kind",
    "author": "who said so",
    "title": "title of the passage's document",
    "text": "the text",
    "question": "text of the question",
    "options": "JSON list; option 0 is A",
    "answer": "letter of the right option, or the short answer",
    "rationale": "text of the rationale",
    "passage": "text of the passage",
    "rank": "1 is best",
    "bm25": "BM25 of the rationale and the passage",
    "question_rank": "rank in the question's own list, null when beyond its depth",
    "step": "name of the step",
    "teacher": "name of the teacher",
    "cost": "US dollars",
    "questions": "number of questions",
    "rationales": "number of rationales",
    "correct": "number of right answers",
    "accuracy": "share of right answers",
    "f1": "mean F1 of short answers, null for questions with options",
    "unread": "share of texts from which no answer could be read",
    "accept": "own, verified or both: whose verdict is the right answer; a row for each that accepts",
    "accepted": "share of rationales that conclude on the right answer",
    "characters": "mean length",
    "flops": "mean of 2 x parameters x tokens",
    "gold": "evidence or silver: how the needed passages are known",
    "held": "documents or passages that it needs and the knowledge base holds",
    "needed": "documents or passages that the question needs",
    "unit": "document or passage of which one passage is needed",
    "source": "evidence: named by the data; silver: found by a rationale",
    "form": "form of the question's query, as the setting retrieval.query names it",
    "rationale_form": "form of the rationale's query, as retrieval.rationale_query names it",
    "max_df": "share of passages; query terms that occur in more of them were dropped",
    "from_rationale": "1 when the rationale's own search found the passage",
    "hits_at_1": "share of questions with a needed passage first",
    "hits_at_3": "... among the first three",
    "hits_at_5": "... among the first five",
    "hits_at_10": "... among the first ten",
    "hits_at_100": "... among the first hundred",
    "accuracy.unread": "number of answers that could not be read",
    "accuracy.milliseconds": "mean time of an answer",
    "hits_at_k.held": "share of what is needed that the knowledge base holds: the most that can be found",
    "first_hits.rank": "best rank of a needed passage, null when none was found",
    "first_hits.retriever": "bm25, a reranker's id, or kind and id of another retriever",
    "hits_at_k.retriever": "bm25, a reranker's id, or kind and id of another retriever",
    "rationale_quality.questions": "number of questions that have a rationale",
    "rationale_verdicts.verdict": "accepted, rejected, or unread when the rationale concludes on no answer",
    "rationale_verdicts.gold": "letter of the right option, or the short answer",
    "rationale_verdicts.conclusion": "letter of the option, or short answer, that the rationale concludes on",
    "rationale_verdicts.verified": "1 when every verifier reads the right answer from it, null without one",
    "rationale_verdicts.good": "number of people who judged it good",
    "rationale_verdicts.bad": "number of people who judged it bad",
    "step_costs.unit": "what the step makes",
    "step_costs.units": "number of them",
    "replies.complete": "1 for a rationale, 0 for a failed reply",
}
"""The meaning of a column by its name. A comment in store/tables.sql goes first, and `table.column` before both."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or view; `type` is '' where a view computes it."""

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
    """A canned query. `parameters` begins with the `required` ones, which need a value."""

    name: str
    meaning: str
    parameters: tuple[str, ...]
    required: tuple[str, ...]
    sql: str

    @property
    def optional(self) -> tuple[str, ...]:
        """Return the parameters that may be left empty."""
        return self.parameters[len(self.required) :]


def relations(connection: sqlite3.Connection) -> list[Relation]:
    """Return tables, then views, in the order of creation, without those of SQLite and of full-text search."""
    rows = connection.execute("select name, type, sql from sqlite_master order by type, rowid").fetchall()
    searches = tuple(name for name, _, text in rows if str(text).lower().startswith("create virtual"))
    hidden = ("sqlite_", "_sqlite_", *searches)
    views = _comments_of_views()
    return [
        _relation(connection, name, is_view=kind == "view", text=views.get(name, "") if kind == "view" else text)
        for name, kind, text in rows
        if kind in ("table", "view") and not name.startswith(hidden)
    ]


def queries() -> list[Query]:
    """Return every canned query: first those that need no value, then the others, each in alphabetical order."""
    queries: list[Query] = []
    for name in db.query_names():
        required = tuple(db.required(name))
        optional = tuple(p for p in db.parameters(name) if p not in required)
        queries.append(Query(name, db.about(name), required + optional, required, db.sql(name)))
    return sorted(queries, key=lambda query: bool(query.required))


def _relation(connection: sqlite3.Connection, name: str, *, is_view: bool, text: str) -> Relation:
    """Return a table by its `create table`, or a view by the comment above it."""
    comments = {} if is_view else dict(re.findall(r"^\s+(\w+)\s[^\n]*?--[ \t]*(.+)$", text, re.M))
    columns = tuple(
        Column(c, kind.lower(), COLUMNS.get(f"{name}.{c}") or comments.get(c) or COLUMNS.get(c, ""))
        for _, c, kind, *_ in connection.execute(f'pragma table_info("{name}")')
    )
    return Relation(name, is_view, text if is_view else _comment_of_table(text), columns)


def _comment_of_table(text: str) -> str:
    """Return the comment beside `create table NAME (` as a sentence."""
    comment = re.match(r"[^\n(]*\([ \t]*--[ \t]*(.+)", text)
    return comment[1][:1].upper() + comment[1][1:].rstrip(".") + "." if comment else ""


def _comments_of_views() -> dict[str, str]:
    """Return the comment above each `create view`."""
    views = re.findall(r"((?:^--[^\n]*\n)+)create view (\w+)", db.views_text(), re.M | re.I)
    return {name: " ".join(comment.replace("--", " ").split()) for comment, name in views}
