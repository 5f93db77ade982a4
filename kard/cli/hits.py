"""`kard hits`: the order of passages by each retriever, question by question, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options
from kard.cli.rows import MACHINE_FORMS, print_records, print_rows
from kard.errors import Missing
from kard.outgoing import clean

if TYPE_CHECKING:
    from kard.evaluation.retriever_metrics import OrderRow, RankedQuestion, RetrieverRow
    from kard.pipeline.run import Run
    from kard.records import Passage

SHOWN = 3  # questions without --limit
WIDTH = 34  # characters of a passage in one half of the table
MARKS = {"evidence": "E", "silver": "S"}
MEANINGS = {
    "evidence": "needed, for the data name it as evidence",
    "silver": "needed, for an accepted rationale found it first",
}
COLUMNS = ("rank", "score", "bm25_rank", "bm25", "needed", "passage", "title")


@click.command()
@click.argument("task")
@click.option("--split", help="Split to look at. [default: test, else dev, validation or valid]")
@click.option("--question", help="Only this question, by its id in the task's file or in the store.")
@click.option("--retriever", help="Retriever to show beside BM25. [default: reranker, else the last there is]")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    help=f"Only the first N questions. [default: {SHOWN}; all with --summary or --plot]",
)
@click.option("-k", "depth", type=click.IntRange(min=1), default=10, show_default=True, help="Passages to show.")
@click.option("--kappa", type=click.IntRange(min=1), help="Candidates that count. [default: the task's]")
@click.option("--experiments", is_flag=True, help="Count the rerankers of `kard ablate` too.")
@click.option("--summary", is_flag=True, help="Print Hits@k, MRR, nDCG@10 and recall of every retriever instead.")
@click.option(
    "--against", default="bm25", show_default=True, help="Retriever that --summary compares the others with."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write Hits@k of every retriever as .svg or .png instead. [extra: plots]",
)
@options.forms("json", "csv", "markdown")
@options.store
@options.knowledge
def hits(
    task: str,
    split: str | None,
    question: str | None,
    retriever: str | None,
    limit: int | None,
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
    """Compare the passages of retrievers side by side.

    E marks gold evidence, S one of the three passages that the question's first accepted rationale finds first.
    --summary measures how well each retriever finds either, with the 95% interval of its difference to BM25 (or
    --against) on the same questions (paired bootstrap). What the knowledge base lacks counts as not found; the
    ceiling is the share that it holds.
    """
    from kard.evaluation.retriever_metrics import choose_retriever, plot_hits, read_orders, retriever_rows
    from kard.evaluation.trace import find_question
    from kard.passages import read_passages
    from kard.questions import QuestionSet

    k = None if kappa is None else 1  # nobody reads here, but the task's own k may be more than this kappa
    run = choose.run_of(
        task, store=store, knowledge=knowledge, quiet=True, split=split, kappa=kappa, k=k, any_reranker=True
    )
    kappa = run.options.settings.retrieval.kappa
    index, reranker = _index_and_reranker(run)
    question_id = None if question is None else find_question(run.db, question, run.name)
    if question is not None and split is None:
        (split,) = run.db.execute("select split from questions where id = ?", [question_id]).fetchone()
    split = split or run.split
    questions = read_orders(
        run.db,
        QuestionSet(run.name, split, limit if summary or plot else limit or SHOWN),
        index,
        kappa=kappa,
        question=question_id,
        experiments=experiments,
        needed_only=summary or plot is not None,
    )
    if not questions:
        raise Missing(
            f"no passages for {run.name}/{split} on this knowledge base; find them with: kard run {run.name}"
        )
    if plot is not None:
        plot_hits(questions, kappa, f"{run.name}, {split}", plot)
        click.echo(f"{plot}: Hits@k of {len(questions)} questions")
    if summary:
        against = choose_retriever(questions, against, reranker)
        rows = retriever_rows(questions, kappa, against)
        if not rows:
            raise Missing(f"nothing says what {task} needs: no evidence, no rationale of {split} that was grounded")
        _print_summary(form, rows, kappa, f"{run.name}, {split}, first {kappa}", against)
    elif plot is None:
        retriever = choose_retriever(questions, retriever, reranker)
        ids = {p.passage for q in questions for name in ("bm25", retriever) for p in q.orders.get(name, ())[:depth]}
        _print_orders(form, questions, retriever, depth, read_passages(run.db, sorted(ids)))


def _index_and_reranker(run: Run) -> tuple[str, str | None]:
    """Return the run's index and reranker; without the knowledge base, the index that was searched last."""
    try:
        return run.index_id, run.resolved.reranker
    except Missing:
        row = run.db.execute("select index_id from retrievals order by id desc limit 1").fetchone()
        if row is None:
            raise
        return str(row[0]), None


def _print_orders(
    form: str, questions: Sequence[RankedQuestion], retriever: str, depth: int, passages: Mapping[str, Passage]
) -> None:
    """Print each question's first `depth` passages by BM25 and by another retriever."""
    from kard.evaluation.retriever_metrics import order_rows

    if form in MACHINE_FORMS:
        names = dict.fromkeys(("bm25", retriever))
        orders = [{name: order_rows(q, name, depth) for name in names} for q in questions]
        record = _nested_record if form == "json" else _flat_records
        print_records(
            form, [r for q, by_name in zip(questions, orders, strict=True) for r in record(q, by_name, passages)]
        )
        return
    for question in questions:
        header, cells = _side_by_side(question, retriever, depth, passages)
        title = f"{question.key}  {question.text}"
        if form == "markdown":
            title = f"**{_markdown(question.key)}** {_markdown(question.text)}"
            cells = [[_markdown(cell) for cell in row] for row in cells]
        print_rows(form, header, cells, title=title)
    sources = {source.partition(" ")[0] for q in questions for source in q.relevant}
    for source, mark in MARKS.items():
        if source in sources:
            click.echo(f"{mark}: {MEANINGS[source]}")


Orders = Mapping[str, Sequence["OrderRow"]]  # by retriever


def _nested_record(
    question: RankedQuestion, orders: Orders, passages: Mapping[str, Passage]
) -> list[dict[str, object]]:
    by_name = {name: [_record(row, passages) for row in rows] for name, rows in orders.items()}
    return [{"question": question.key, "text": question.text, "orders": by_name}]


def _flat_records(
    question: RankedQuestion, orders: Orders, passages: Mapping[str, Passage]
) -> list[dict[str, object]]:
    flat: list[dict[str, object]] = []
    for name, rows in orders.items():
        for row in rows:
            record = {**_record(row, passages), "needed": " ".join(row.needed)}
            flat.append({"question": question.key, "retriever": name, **{c: record[c] for c in COLUMNS}})
    return flat


def _record(row: OrderRow, passages: Mapping[str, Passage]) -> dict[str, object]:
    passage = passages[row.passage]
    return {**asdict(row), "title": passage.title, "text": passage.text}


def _side_by_side(
    question: RankedQuestion, retriever: str, depth: int, passages: Mapping[str, Passage]
) -> tuple[list[str], list[list[object]]]:
    """Return header and cells: BM25's order on the left, any other on the right with BM25's rank."""
    from kard.evaluation.retriever_metrics import order_rows

    before, after = order_rows(question, "bm25", depth), order_rows(question, retriever, depth)
    if retriever == "bm25":  # the only one: nothing to set beside it
        return ["", "bm25", "", "passage"], [[rank, *_half(row, passages)] for rank, row in enumerate(before, 1)]
    cells: list[list[object]] = []
    for rank, (left, right) in enumerate(zip_longest(before, after), 1):
        bm25_rank = None if right is None else right.bm25_rank
        cells.append([rank, *_half(left, passages), *_half(right, passages), bm25_rank])
    return ["", "before: bm25", "", "passage", f"after: {retriever}", "", "passage", "was"], cells


def _half(row: OrderRow | None, passages: Mapping[str, Passage]) -> list[object]:
    if row is None:
        return [None, "", ""]
    passage = passages[row.passage]
    line = " ".join((f"{passage.title}: {passage.text}" if passage.title else passage.text).split())
    short = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
    return [
        round(row.score, 3),
        "".join(dict.fromkeys(MARKS[source.partition(" ")[0]] for source in row.needed)),
        short,
    ]


def _markdown(cell: object) -> str:
    """Escape a cell of passage text, so that it holds no control character, table or HTML."""
    text = clean("" if cell is None else str(cell)).replace("\n", " ")
    for special in "\\|<>[]*_`&":
        text = text.replace(special, f"\\{special}" if special not in "<>&" else f"&#{ord(special)};")
    return text


def _print_summary(form: str, rows: Sequence[RetrieverRow], kappa: int, title: str, against: str) -> None:
    """Print the metrics of each retriever and their differences to those of `against`."""
    from kard.metrics.ranking import metric_names

    names = metric_names(kappa)
    if form in MACHINE_FORMS:
        print_records(form, [_metrics_record(row, names) for row in rows])
        return
    header = ["retriever", "questions", "ceiling", *names]
    for source in dict.fromkeys(row.source for row in rows):
        of_source = [row for row in rows if row.source == source]
        metrics = [
            [row.retriever, row.questions, *(f"{value:.3f}" for value in (row.ceiling, *row.values))]
            for row in of_source
        ]
        print_rows(form, header, metrics, title=f"{title}: {source}")
        differences = [
            [row.retriever, row.questions, *(difference.short for difference in row.against)]
            for row in of_source
            if row.against is not None
        ]
        if differences:
            caption = f"{title}: {source}, difference to {against} with 95% interval"
            print_rows(form, ["retriever", "questions", *names], differences, title=caption)


def _metrics_record(row: RetrieverRow, names: Sequence[str]) -> dict[str, object]:
    record: dict[str, object] = {
        "needed": row.source,
        "retriever": row.retriever,
        "questions": row.questions,
        "ceiling": round(row.ceiling, 4),
        **{name: round(value, 4) for name, value in zip(names, row.values, strict=True)},
    }
    for i, name in enumerate(names):
        difference = None if row.against is None else row.against[i]
        for part in ("mean", "low", "high"):
            value = None if difference is None else round(getattr(difference, part), 4)
            record[f"{name} {'difference' if part == 'mean' else part}"] = value
    return record
