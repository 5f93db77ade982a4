"""`kard failures` and `kard rescore`: why stored answers are wrong, and whether they were read rightly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.cli.explain import needed as needed_option
from kard.cli.rows import MACHINE_FORMS, print_records, print_rows
from kard.evaluation.failures import VERDICTS

if TYPE_CHECKING:
    from kard.evaluation.condition_names import ConditionInfo
    from kard.evaluation.failures import EvidenceRule, Failure, FailureRow, Verdict
    from kard.pipeline.run import Run

TableCells = tuple[list[str], list[list[object]]]  # header, rows
SHOWN = 20  # changed answers that a table lists


@click.command()
@click.argument("task")
@click.option("--split", help="Split of the answers. [default: test, else dev, validation or valid]")
@click.option("--judged", is_flag=True, help="Only questions of which a person judged a passage or rationale.")
@needed_option
@click.option(
    "-n", "--examples", type=click.IntRange(min=0), default=2, show_default=True, help="Question ids per verdict."
)
@click.option("--rows", "each", is_flag=True, help="Print a row for each wrong answer instead, with the reason.")
@click.option(
    "--invented",
    is_flag=True,
    help="Count names, numbers and options that students state without being shown them.",
)
@options.forms("json", "csv", "markdown")
@options.store
@options.knowledge
def failures(
    task: str,
    split: str | None,
    judged: bool,
    needed: EvidenceRule,
    examples: int,
    each: bool,
    invented: bool,
    form: str,
    store: Path,
    knowledge: Path | None,
) -> None:
    """Count why the wrong answers of TASK are wrong.

    The counts are by condition, with the ids of some questions. The verdicts are those of `kard explain`; each
    wrong answer has exactly one. --knowledge leaves out who read another knowledge base. With --invented, right
    answers count too: whose rationale holds a name or number that neither its passages nor its question do.
    """
    from kard.errors import Missing
    from kard.evaluation.failures import count_failures, read_failures

    run = choose.run_of(task, store=store, knowledge=knowledge, quiet=True, split=split)
    if invented:
        _print_invented(run, form, examples)
        return
    wrong = read_failures(run.db, run.name, run.split, evidence=needed, judged=judged)
    if knowledge is not None:
        wrong = [failure for failure in wrong if failure.condition.index_id in (None, run.kb.id)]
    if not wrong:
        advice = (
            f"{'in the store' if knowledge is None else 'on this knowledge base'}: all that are there are right;"
            f" see them with: kard report {task}"
        )
        if judged:
            advice = "to a question that a person judged something of; judge with: kard judge"
        raise Missing(f"no wrong answer of {run.name}/{run.split} {advice}")
    counts = count_failures(wrong, examples)
    table = _reasons(wrong) if each else _shares(counts)
    if form in MACHINE_FORMS:
        record = _nested_counts if form == "json" else _flat_counts
        print_records(form, [_record(failure) for failure in wrong] if each else [record(row) for row in counts])
    elif form == "markdown":
        print_rows(form, *table)
    else:
        only = ", judged questions only" if judged else ""
        print_rows(form, *table, title=f"{run.name}, {run.split}: why answers are wrong{only}")
        if examples and not each:
            print_rows(form, *_examples(counts), title="some of them, for kard explain")
    for note in _notes(counts, wrong, needed):
        click.echo(note, err=True)


def _print_invented(run: Run, form: str, examples: int) -> None:
    from kard.errors import Missing
    from kard.evaluation.invented import count_invented, read_written

    counts = count_invented(read_written(run.db, run.name, run.split), examples)
    if not counts:
        raise Missing(f"no student has written a rationale for {run.name}/{run.split}; run: kard run {run.name}")
    names = _names([row.condition for row in counts])
    header = [
        "condition",
        "texts that invent",
        "of right answers",
        "of wrong ones",
        "texts",
        "names",
        "invented",
        "apart",
    ]
    table: list[list[object]] = [
        [
            names[row.condition],
            *("" if share.of == 0 else str(share) for share in (row.texts, row.right, row.wrong)),
            *(row.texts.of, row.names, row.invented, row.apart),
        ]
        for row in counts
    ]
    print_rows(form, header, table, title=f"{run.name}, {run.split}: what was stated and not shown")
    if form not in MACHINE_FORMS and examples:
        some: list[list[object]] = [
            [names[row.condition], text.key, "; ".join(sorted(text.invented)), text.text]
            for row in counts
            for text in row.examples
        ]
        print_rows(form, ["condition", "question", "invented", "text"], some, title="some of them")


def _shares(counts: Sequence[FailureRow]) -> TableCells:
    """Return counts with their share of each condition's wrong answers; verdicts that never fell take no column."""
    occurring: list[Verdict] = [v for v in VERDICTS if any(row.counts[v] for row in counts)]
    names = _names([row.condition for row in counts])
    rows: list[list[object]] = []
    for row in counts:
        cells = [f"{n} ({n / row.wrong:.0%})" if (n := row.counts[v]) else "0" for v in occurring]
        rows.append([names[row.condition], row.wrong, *cells])
    return ["condition", "wrong", *occurring], rows


def _names(conditions: Sequence[ConditionInfo]) -> dict[ConditionInfo, str]:
    """Return the conditions' names in tables, with the seed only where there are several seeds."""
    several = len({c.seed for c in conditions}) > 1
    return {c: c.name if several else c.label for c in conditions}


def _examples(counts: Sequence[FailureRow]) -> TableCells:
    names = _names([row.condition for row in counts])
    rows: list[list[object]] = [
        [names[row.condition], v, " ".join(row.examples[v])] for row in counts for v in VERDICTS if row.counts[v]
    ]
    return ["condition", "verdict", "questions"], rows


def _reasons(wrong: Sequence[Failure]) -> TableCells:
    names = _names([f.condition for f in wrong])
    rows: list[list[object]] = [[names[f.condition], f.key, f.gold, f.answer, f.verdict, f.why] for f in wrong]
    return ["condition", "question", "gold", "answer", "verdict", "because"], rows


def _record(failure: Failure) -> dict[str, object]:
    return {**asdict(failure.condition), **{k: v for k, v in asdict(failure).items() if k != "condition"}}


def _nested_counts(row: FailureRow) -> dict[str, object]:
    by_verdict = {
        v: {"count": n, "share": _share(n, row), "examples": list(row.examples[v])} for v, n in row.counts.items()
    }
    return {**asdict(row.condition), "wrong": row.wrong, "verdicts": by_verdict}


def _flat_counts(row: FailureRow) -> dict[str, object]:
    shares = {f"{v} share": _share(n, row) for v, n in row.counts.items()}
    return {**asdict(row.condition), "wrong": row.wrong, **row.counts, **shares}


def _share(count: int, row: FailureRow) -> float:
    return round(count / row.wrong, 4)


def _notes(counts: Sequence[FailureRow], wrong: Sequence[Failure], needed: EvidenceRule) -> Iterator[str]:
    """Yield what a reader of the table could misread."""
    from kard.evaluation.failures import NOTHING_KNOWN, evidence_warning

    if unknown := sum(failure.why == NOTHING_KNOWN for failure in wrong):
        yield (
            f"{unknown} of {len(wrong)} wrong answers are undetermined: nothing says what the question needs. Give"
            " questions a column `rationale` or `evidence` and load them again, or judge passages with: kard judge"
        )
    never = [v for v in VERDICTS if not any(row.counts[v] for row in counts)]
    if never:
        yield f"never: {', '.join(never)}"
    if needed == "all" and (note := evidence_warning(wrong)):
        yield note


@click.command()
@click.argument("task")
@click.option("--split", help="Only the answers to this split. [default: all splits]")
@options.dry_run
@options.as_json
@options.store
@options.quiet
def rescore(task: str, split: str | None, dry_run: bool, as_json: bool, store: Path, quiet: bool) -> None:
    """Read the stored answers of TASK again.

    The parser of this version reads what students wrote, and the changes are printed. Nothing is generated again.
    Answers that had to be forced stay.
    """
    from kard import tasks
    from kard.db import open_store
    from kard.errors import Missing
    from kard.evaluation import rescore as evaluation

    name = tasks.load(task).name
    db = open_store(store, create=False)
    result = evaluation.rescore(db, name, split, dry_run=dry_run, progress=show.progress(quiet))
    if not result.conditions:
        raise Missing(f"no answers of {name} to read again; make them with: kard run {task}")
    if as_json:
        show.as_json({"reread": result.reread, "dry_run": dry_run, **asdict(result)})
        return
    if any(condition.reread for condition in result.conditions):
        header = ("condition", "texts", "read otherwise", "right", "unread")
        rows = [
            (c.name, c.texts, c.reread, f"{c.right[0]} -> {c.right[1]}", f"{c.unread[0]} -> {c.unread[1]}")
            for c in result.conditions
            if c.reread
        ]
        show.table("", header, rows)
    if result.changes:
        changes = [(c.condition, c.key, c.before or "-", c.after or "-", c.gold or "-") for c in result.changes]
        of_all = f", the first {SHOWN} of {len(changes)}" if len(changes) > SHOWN else ""
        show.table(
            f"Changed answers{of_all}", ("condition", "question", "before", "after", "gold"), changes[:SHOWN]
        )
    texts = sum(condition.texts for condition in result.conditions)
    would = "would be read otherwise" if dry_run else "read otherwise"
    click.echo(
        f"{result.reread} of {texts} texts {would}, {len(result.changes)} votes changed; parser {result.parser}"
    )
