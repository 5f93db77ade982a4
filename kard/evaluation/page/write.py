"""The page as a whole: what it shows is read from the store, rendered as HTML, and written to a file."""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from kard.config import Prompting
from kard.db import rows
from kard.errors import Missing
from kard.evaluation.failures import Failure, count_failures, evidence_warning, read_failures
from kard.evaluation.graded import GradedAnswer, read_graded
from kard.evaluation.page import sections
from kard.evaluation.page.figures import Point
from kard.evaluation.page.questions import ShownQuestion, sample_keys, shown_question
from kard.evaluation.page.sections import Section
from kard.evaluation.page.text import visible, with_interval
from kard.evaluation.report import ReportRow, TeacherCosts, report_rows
from kard.evaluation.trace import trace
from kard.files import output
from kard.methods import NO_MODEL
from kard.version import __version__

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.tasks import Task


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that a page shows."""

    task: str
    split: str
    version: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    questions: Sequence[ShownQuestion]
    conditions: Sequence[str]  # names of those that the questions' answers are of
    verdicts: Sequence[str]  # that occur among the questions' answers


@dataclass(frozen=True, slots=True)
class Summary:
    """The answers of a split, of which its page's first parts are drawn."""

    task: str
    graded: Sequence[GradedAnswer]
    failures: Sequence[Failure]


def write_page(db: Database, task: Task, split: str, path: Path, *, questions: int = 20, seed: int = 0) -> int:
    """Write the page of a split to a file, whole or not at all, and return its bytes.

    `questions` are sampled with `seed`. Raises Missing without answers, NoExtra without matplotlib, and
    BadInput when the file cannot be written.
    """
    shots = [shot["rationale"] for shot in task.shots if "rationale" in shot]
    html = render_page(read_page(db, task.name, split, shots=shots, questions=questions, seed=seed)).encode()
    with output(path) as partial:
        return partial.write_bytes(html)


def read_page(
    db: Database,
    task: str,
    split: str,
    *,
    shots: Sequence[str] | None = None,
    questions: int = 20,
    seed: int = 0,
) -> Page:
    """Read what the page of a split shows, with `questions` sampled ones.

    `shots` are the rationales of the prompt's examples. Raises Missing without answers, NoExtra without matplotlib.
    """
    graded = read_graded(db, task, split)
    if not graded:
        raise Missing(f"no answers for {task}/{split}; make them with: kard run {task}")
    lines = report_rows(graded)
    paid = rows(db, "internal/teacher_costs", task=task)
    in_tokens = [{**row, "cost": int(row["prompt_tokens"]) + int(row["completion_tokens"])} for row in paid]
    dollars, tokens = (TeacherCosts.of(costs, split, Prompting().shots) for costs in (paid, in_tokens))
    points = sections.points_of(lines, dollars, tokens)
    students = [point for point in points if point.size != NO_MODEL] or points  # a rule has no size and no cost
    chance = _chance(lines)
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for answer in graded:
        outcomes[answer.key].append(bool(answer.correct))
    traces = [trace(db, key, task=task) for key in sample_keys(outcomes, questions, seed)]
    failures = read_failures(db, task, split)
    wrong = count_failures(failures)
    names = sections.names_of(
        {line.condition for line in wrong} | {answer.condition for each in traces for answer in each.answers}
    )
    shown = [shown_question(each, names) for each in sorted(traces, key=lambda each: each.id)]
    answers = [answer for question in shown for answer in question.answers]
    return Page(
        task,
        split,
        __version__,
        _facts(db, task, split, len(outcomes), points),
        [
            sections.accuracy(lines, points, chance),
            sections.size(students, chance),
            sections.hits(db, task, split),
            sections.failures(task, wrong, names, evidence_warning(failures)),
            sections.costs(db, task, students, lines, dollars),
            sections.rationales(db, task, shots),
        ],
        shown,
        list(dict.fromkeys(answer.condition for answer in answers)),
        sorted({answer.verdict for answer in answers} - {""}),
    )


def _facts(
    db: Database, task: str, split: str, questions: int, points: Sequence[Point]
) -> Sequence[tuple[str, str]]:
    """Return the terms and texts that stand below the page's title."""
    (counts,) = rows(db, "internal/page_facts", task=task, split=split)
    # Silver reads by a rationale of the question itself: it is a bound, and no student that one could use.
    usable = [point for point in points if point.retriever != "silver"] or points
    best = max(usable, key=lambda point: point.share.value)
    facts = [
        ("questions", f"{questions:,} of split {split}; {counts['trained']:,} to learn from"),
        ("conditions", f"{len(points)}"),
        ("best", f"{best.name}: {with_interval(best.share)}"),
        ("newest answer", str(counts["newest"]).replace("T", " ").replace("+00:00", " UTC")),
    ]
    if counts["passages"]:
        facts.insert(1, ("knowledge base", f"{counts['passages']:,} passages"))
    return facts


def read_summary(db: Database, task: str, split: str) -> Summary:
    """Read what the first parts of a split's page show. Nothing is drawn yet."""
    return Summary(task, read_graded(db, task, split), read_failures(db, task, split))


def render_summary(summary: Summary) -> str:
    """Render accuracy and verdicts as HTML without a page around them. Raises NoExtra without matplotlib."""
    lines = report_rows(summary.graded)
    points = sections.points_of(lines, TeacherCosts(), TeacherCosts())
    wrong = count_failures(summary.failures)
    names = sections.names_of(line.condition for line in wrong)
    shown = [
        sections.accuracy(lines, points, _chance(lines)),
        sections.failures(summary.task, wrong, names, evidence_warning(summary.failures)),
    ]
    module: Any = _environment().get_template("sections.html").module
    return str(module.parts(shown))


def _chance(lines: Sequence[ReportRow]) -> float | None:
    return next((line.shares["all"].value for line in lines if line.method == "chance"), None)


def render_page(page: Page) -> str:
    """Render the page as HTML with every text visible and escaped; equal pages give equal texts."""
    css, js = (files("kard.evaluation.page").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return _environment().get_template("page.html").render(page=page, css=css, js=js, policy=_policy(css, js))


def _environment() -> Environment:
    """Return the templates of this folder, which make every text visible and escape it."""
    return Environment(
        loader=PackageLoader("kard.evaluation", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _policy(css: str, js: str) -> str:
    """Return a Content-Security-Policy that allows this style sheet and this script, and nothing else."""
    style, script = (f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}" for text in (css, js))
    return f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


def _finalize(value: object) -> object:
    """Make a text that a template is about to write visible; None, numbers and markup stay what they are."""
    return visible(value) if isinstance(value, str) else value
