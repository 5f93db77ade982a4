"""Graded answers and first hits as files, and the tables that those files give without a store."""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database

from kard.db import rows
from kard.errors import Missing
from kard.evaluation.compare import all_pairs, compare, conditions_of, pairs_table
from kard.evaluation.condition_names import match_one
from kard.evaluation.graded import GradedAnswer, graded_rows
from kard.evaluation.report import accuracy_table, as_markdown, report_rows
from kard.evaluation.retriever_metrics import hits_table
from kard.files import read_rows, write_lines

TIMES = ("milliseconds", "flops")  # not exported: they depend on the machine


def export_rows(db: Database, task: str, split: str, what: str, path: Path) -> int:
    """Write the rows of `what` ('answers' or 'hits') as JSON lines. Return their number.

    Raises Missing if there are none, BadInput if the file cannot be written.
    """
    found = graded_rows(db, task, split) if what == "answers" else rows(db, "first_hits", task=task, split=split)
    if not found:
        raise Missing(f"no {what} of {task}/{split} to export; make them with: kard run {task}")
    return write_lines(path, ({k: v for k, v in row.items() if k not in TIMES} for row in found))


def accuracy_of(path: Path) -> str:
    """Return the accuracy table of exported answers in Markdown. Raises BadInput."""
    return as_markdown(*accuracy_table(report_rows(_read_answers(path))))


def comparisons_of(path: Path, *names: str) -> str:
    """Return every pair of the named conditions, or of all, compared in Markdown, from exported answers.

    Raises BadInput for a file that cannot be read and for a name that fits none or several, and Missing.
    """
    graded = _read_answers(path)
    conditions = conditions_of(graded)
    named = [match_one(name, conditions, "condition") for name in names]
    keys = [key for key in conditions if key in named or not named]
    return as_markdown(*pairs_table(compare(graded, all_pairs(keys))))


def hits_of(path: Path) -> str:
    """Return Hits@k with 95% intervals in Markdown, from exported hits. Raises BadInput."""
    return as_markdown(*hits_table([row for _, row in read_rows(path)]))


def _read_answers(path: Path) -> list[GradedAnswer]:
    return [GradedAnswer.of(row) for _, row in read_rows(path)]
