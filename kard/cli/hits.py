"""`kard hits`: what each retriever puts first, question by question, and how good that is."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show

if TYPE_CHECKING:
    from kard.evaluation.retriever_metrics import RankedQuestion, RetrieverRow, Shown
    from kard.pipeline.run import Run
    from kard.records import Passage

SHOWN = 3  # questions without -n
WIDE = 34  # characters of a passage in one half of the table
MARKS = {"evidence": "E", "silver": "S"}
COLUMNS = ("rank", "score", "bm25_rank", "bm25", "needed", "passage", "title")


@click.command()
@click.argument("task")
@click.option("--split", help="Split to look at. [default: test, else dev, else validation]")
@click.option("--question", help="One question, by its id in the task's file or in the store.")
@click.option("--retriever", help="Whose order stands beside BM25's. [default: reranker, else the first there is]")
@click.option("-n", "number", type=click.IntRange(min=1), help="Questions to show; with --summary, to count.")
@click.option("-k", "depth", type=click.IntRange(min=1), default=10, show_default=True, help="Passages to show.")
@click.option("--kappa", type=click.IntRange(min=1), help="Candidates that count. [default: the task's]")
@click.option("--experiments", is_flag=True, help="Count the rerankers of `kard ablate` too.")
@click.option("--summary", is_flag=True, help="Hits@k, MRR, nDCG@10 and recall of every retriever, beside BM25's.")
@click.option("--against", default="bm25", show_default=True, help="Whom --summary compares the others with.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write Hits@k of every retriever as .svg or .png. [extra: plots]",
)
@options.forms("json", "csv", "markdown")
@options.store
@options.knowledge
def hits(
    task: str,
    split: str | None,
    question: str | None,
    retriever: str | None,
    number: int | None,
    depth: int,
    kappa: int | None,
    experiments: bool,
    summary: bool,
    against: str,
    plot: Path | None,
    form: str,
    store: Path,
    knowledge: Path | None,
) -> None:
    """Show how passages stand before and after reranking, for each question side by side.

    E marks gold evidence, S one of the three passages that the question's rationale finds first. --summary says
    what each retriever finds of either, with the 95% interval of its difference to BM25 (or --against) on the same
    questions (paired bootstrap).
    """
    from kard.errors import Missing
    from kard.evaluation.find_question import find_question
    from kard.evaluation.retriever_metrics import one_of, read_orders

    k = None if kappa is None else 1  # what a student would read is of no matter here, but must fit in kappa
    run = choose.run_of(task, store=store, knowledge=knowledge, quiet=True, split=split, kappa=kappa, k=k)
    kappa = run.options.settings.retrieval.kappa
    index, reranker = _current(run)
    wanted = None if question is None else find_question(run.db, question, run.name)
    if question is not None and split is None:
        (split,) = run.db.execute("select split from questions where id = ?", [wanted]).fetchone()
    split = split or run.split
    counted = number if summary or plot else number or SHOWN
    asked = read_orders(
        run.db,
        run.name,
        split,
        index,
        kappa=kappa,
        question=wanted,
        limit=counted,
        experiments=experiments,
    )
    if not asked:
        name = run.name
        raise Missing(f"no passages for {name}/{split} on this knowledge base; find them with: kard run {name}")
    if plot is not None:
        from kard.evaluation.hits_plot import write_plot

        write_plot(asked, kappa, f"{run.name}, {split}", plot)
        click.echo(f"{plot}: Hits@k of {len(asked)} questions")
    if summary:
        from kard.evaluation.retriever_metrics import summary as summarise

        against = one_of(asked, against, reranker)
        lines = summarise(asked, kappa, against)
        if not lines:
            raise Missing(f"nothing says what {task} needs: no evidence, no rationale of {split} that was grounded")
        print_summary(lines, kappa, f"{run.name}, {split}, first {kappa}", form, against)
    elif plot is None:
        after = one_of(asked, retriever, reranker)
        from kard.evaluation.retriever_metrics import passages_of

        ids = {p.passage for a in asked for name in ("bm25", after) for p in a.orders.get(name, ())[:depth]}
        print_orders(asked, after, depth, passages_of(run.db, sorted(ids)), form)


def _current(run: Run) -> tuple[str, str | None]:
    """The index that is looked at and its reranker; without the knowledge base, the last that was searched."""
    from kard.errors import Missing

    try:
        return run.index_id, run.resolved.reranker
    except Missing:
        row = run.db.execute("select index_id from retrievals order by id desc limit 1").fetchone()
        if row is None:
            raise
        return str(row[0]), None


def print_orders(
    asked: Sequence[RankedQuestion], after: str, depth: int, passages: Mapping[str, Passage], form: str
) -> None:
    """Each question's first passages by BM25 and by another retriever."""
    from kard.evaluation.retriever_metrics import shown

    if form in ("json", "csv"):
        names = dict.fromkeys(("bm25", after))
        rows = [{name: shown(a, name, depth) for name in names} for a in asked]
        if form == "json":
            records = [
                {
                    "question": a.key,
                    "text": a.text,
                    "orders": {name: [_record(s, passages) for s in some] for name, some in orders.items()},
                }
                for a, orders in zip(asked, rows, strict=True)
            ]
            show.as_json(records)
            return
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("question", "retriever", *COLUMNS))
        for a, orders in zip(asked, rows, strict=True):
            for name, some in orders.items():
                records = [{**_record(s, passages), "needed": " ".join(s.needed)} for s in some]
                writer.writerows([a.key, name, *(record[c] for c in COLUMNS)] for record in records)
        return
    for a in asked:
        header, body = side_by_side(a, after, depth, passages)
        if form == "markdown":
            from kard.evaluation.report import as_markdown

            cells = [[_markdown(cell) for cell in row] for row in body]
            click.echo(f"**{_markdown(a.key)}** {_markdown(a.text)}\n\n{as_markdown(header, cells)}\n")
        else:
            show.table(f"{a.key}  {a.text}", header, body)


def side_by_side(
    asked: RankedQuestion, after: str, depth: int, passages: Mapping[str, Passage]
) -> tuple[list[str], list[list[object]]]:
    """Header and cells: BM25's order on the left, the other on the right with the rank that BM25 gave."""
    from kard.evaluation.retriever_metrics import shown

    before, later = shown(asked, "bm25", depth), shown(asked, after, depth)
    body: list[list[object]] = []
    for rank, (left, right) in enumerate(zip_longest(before, later), 1):
        was = None if right is None else right.bm25_rank
        body.append([rank, *_half(left, passages), *_half(right, passages), was])
    return ["", "before: bm25", "", "passage", f"after: {after}", "", "passage", "was"], body


def _half(place: Shown | None, passages: Mapping[str, Passage]) -> list[object]:
    if place is None:
        return [None, "", ""]
    passage = passages[place.passage]
    line = " ".join(f"{passage.title}: {passage.text}".split())
    short = line if len(line) <= WIDE else line[: WIDE - 1] + "…"
    return [round(place.score, 3), "".join(MARKS[source] for source in place.needed), short]


def _record(place: Shown, passages: Mapping[str, Passage]) -> dict[str, object]:
    passage = passages[place.passage]
    return {**asdict(place), "title": passage.title, "text": passage.text}


def print_summary(lines: Sequence[RetrieverRow], kappa: int, title: str, form: str, against: str) -> None:
    """The metrics of each retriever and their differences to one of them."""
    from kard.evaluation.report import as_markdown
    from kard.metrics.ranking import metrics

    names = metrics(kappa)
    if form in ("json", "csv"):
        records = [_measures(line, names) for line in lines]
        if form == "json":
            show.as_json(records)
            return
        writer = csv.DictWriter(sys.stdout, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return
    for source in dict.fromkeys(line.source for line in lines):
        of_source = [line for line in lines if line.source == source]
        values = [
            [line.retriever, line.questions, *(f"{value:.3f}" for value in line.values)] for line in of_source
        ]
        differences = [
            [line.retriever, line.questions, *(str(difference) for difference in line.against)]
            for line in of_source
            if line.against is not None
        ]
        header = ["retriever", "questions", *names]
        if form == "markdown":
            click.echo(f"{source}\n\n{as_markdown(header, values)}\n")
            if differences:
                click.echo(f"{source}, difference to {against}\n\n{as_markdown(header, differences)}\n")
            continue
        show.table(f"{title}: {source}", header, values)
        if differences:
            show.table(f"{title}: {source}, difference to {against} with 95% interval", header, differences)


def _measures(line: RetrieverRow, names: Sequence[str]) -> dict[str, object]:
    record: dict[str, object] = {
        "needed": line.source,
        "retriever": line.retriever,
        "questions": line.questions,
        **{name: round(value, 4) for name, value in zip(names, line.values, strict=True)},
    }
    for i, name in enumerate(names):
        difference = None if line.against is None else line.against[i]
        for part in ("mean", "low", "high"):
            value = None if difference is None else round(getattr(difference, part), 4)
            record[f"{name} {'difference' if part == 'mean' else part}"] = value
    return record


def _markdown(cell: object) -> str:
    """A cell that holds a passage's words as words: no control character, no table, no HTML."""
    text = show.clean("" if cell is None else str(cell)).replace("\n", " ")
    for special in "\\|<>[]*_`&":
        text = text.replace(special, f"\\{special}" if special not in "<>&" else f"&#{ord(special)};")
    return text
