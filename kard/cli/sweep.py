"""`kard sweep`: one factor or several, over all their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kard.cli import choose, options
from kard.cli.load import count
from kard.cli.rows import MACHINE_FORMS, print_rows

if TYPE_CHECKING:
    from kard.evaluation.report import ReportRow, TableCells
    from kard.pipeline.run import Run
    from kard.pipeline.sweep import Swept

OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "train-limit": click.IntRange(min=1),
    "teacher": str,
    "encoder": str,
    "knowledge": Path,
}
"""Factors that are options of a run and no setting."""
COLUMNS = {"size": "sizes", "method": "methods", "retriever": "retrievers"}
"""Columns of the table, and the options of a run that choose them."""
SHORT = (*(name.replace("_", "-") for name in choose.SETTINGS), *OPTIONS)


def _factors(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the values of each factor. Raises BadParameter."""
    factors: dict[str, tuple[str, ...]] = {}
    paths: list[str] = []
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip()
        path = _path(name)
        if not equals or not name:
            raise click.BadParameter(f"{text!r} varies nothing; write NAME=V1,V2, like k=1,3")
        if name in COLUMNS:
            raise click.BadParameter(f"give --{name} several values instead; the table has a column for it")
        if choose.is_seed(path):
            raise click.BadParameter("give seeds by --seeds; a row is the mean over them")
        if "." not in path and path not in OPTIONS:
            raise click.BadParameter(f"no factor {name!r}; there are {', '.join(SHORT)}, and every setting")
        if path == "retrieval.depth":
            raise click.BadParameter(f"{path} cannot vary in one store: what was searched deeper serves for less")
        if path in paths:
            raise click.BadParameter(f"{name} is given twice")
        paths.append(path)
        factors[name] = tuple(choose.split(values))
    return factors


def _path(factor: str) -> str:
    """Return the setting that a factor stands for, or its own name."""
    return choose.SETTINGS.get(factor.replace("-", "_"), factor)


def _seeds(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the seeds, each once. Raises BadParameter."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise click.BadParameter(f"seeds are whole numbers, comma-separated, not {text!r}") from None
    if min(seeds) < 0:
        raise click.BadParameter(f"seeds must not be negative, not {min(seeds)}")
    return seeds


def _figure(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Return the path of a figure. Raises BadParameter, and NoExtra before anything is trained."""
    if path is None:
        return None
    if path.suffix not in (".svg", ".png"):
        raise click.BadParameter(f"a figure is an .svg or .png file, not {path.name}")
    from kard.evaluation.page.drawing import drawing

    with drawing(1, 1):
        return path


seeds = click.option(
    "--seeds", callback=_seeds, default="0", show_default=True, help="Seeds of every row, comma-separated."
)


def figure(about: str) -> Callable[[Any], Any]:
    """Return the option --plot, whose help says what is drawn."""
    path = click.Path(dir_okay=False, path_type=Path)
    return click.option("--plot", type=path, callback=_figure, help=about)


@click.command()
@click.argument("task")
@click.option(
    "--over",
    "factors",
    multiple=True,
    required=True,
    callback=_factors,
    metavar="NAME=V1,V2",
    help=f"What varies: a setting of docs/settings.md, or one of {', '.join(SHORT)}; repeatable.",
)
@click.option("--one-at-a-time", is_flag=True, help="Vary each factor alone, the others at their first value.")
@seeds
@figure("Draw accuracy over the first factor into this .svg or .png file. [extra: plots]")
@options.dry_run
@options.forms("json", "csv", "markdown")
@choose.run_options
@choose.working_options
def sweep(
    task: str,
    factors: dict[str, tuple[str, ...]],
    one_at_a_time: bool,
    seeds: tuple[int, ...],
    plot: Path | None,
    dry_run: bool,
    form: str,
    seed: int | None,
    **chosen: Any,
) -> None:
    """Run TASK with every value of a factor and print one table.

    Several factors make a grid. What two cells share is made once; a stopped sweep goes on, and a second one trains
    and answers nothing anew. Each condition is compared with that of the first cell, on the same questions and
    seeds. Several tasks of one store, comma-separated, are one table, whose p is corrected over all of them.
    """
    from kard.pipeline import sweep as pipeline

    if seed is not None:
        raise click.UsageError("a sweep takes --seeds")
    tasks = [task] if Path(task).exists() else list(dict.fromkeys(choose.split(task)))
    if plot is not None and len(tasks) > 1:
        raise click.UsageError("a figure shows one task")
    grid = pipeline.grid(factors, one_at_a_time=one_at_a_time)
    by_task = {
        name: pipeline.cells_of(
            grid,
            lambda values, name=name: [run_with(name, values, one, chosen) for one in seeds],
            one_at_a_time=one_at_a_time,
        )
        for name in tasks
    }
    if dry_run:
        title = f"{task}: {len(grid)} cells, {count(len(seeds), 'seed')}"
        print_plan(form, {name: pipeline.plan(cells) for name, cells in by_task.items()}, title)
        return
    swept = {name: pipeline.sweep(cells) for name, cells in by_task.items()}
    rows = print_sweep(form, swept, f"{task}: {', '.join(factors)}")
    if plot is not None:
        from kard.evaluation.page.figures import save_by_value

        factor, values = next(iter(factors.items()))
        chance = next(row.shares["all"].value for row in rows if row.method == "chance")
        placed = pipeline.points_over(factor, swept[task], [row for row in rows if not row.baseline])
        save_by_value(placed, factor, values, chance, plot)
        click.echo(f"{plot}: accuracy over {factor}", err=True)


def print_sweep(
    form: str,
    swept: Mapping[str, Swept],
    title: str,
    *,
    cell: str = "cell",
    first: str = "first",
    alike: int = 3,
) -> list[ReportRow]:
    """Print the table of each task's cells and return its rows."""
    from kard.evaluation.compare import corrected
    from kard.pipeline import sweep as pipeline

    rows = {task: pipeline.sweep_rows(of.graded, alike=alike) for task, of in swept.items()}
    compared = {task: pipeline.compared(of.graded, rows[task], alike=alike) for task, of in swept.items()}
    adjusted = iter(corrected([c for of_task in compared.values() for c in of_task.values()]))
    tables = {
        task: pipeline.sweep_table(
            rows[task], {key: next(adjusted) for key in of_task}, cell=cell, first=first, seeds=_several(rows)
        )
        for task, of_task in compared.items()
    }
    print_rows(form, *_joined(tables), title=title)
    if form not in MACHINE_FORMS:
        click.echo(f"95% intervals over questions; p by exact tests against the {first}, corrected by Holm")
        touched = {factor for of in swept.values() for factor in of.touched}
        for factor in dict.fromkeys(factor for of in swept.values() for factor in of.cells[0].values):
            if factor not in touched:
                click.echo(f"{factor or cell} changed nothing: all of its values share their rows", err=True)
        equal = (f"{task}, {note}" if len(swept) > 1 else note for task, of in swept.items() for note in of.equal)
        runs = (run for of in swept.values() for one in of.cells for run in one.runs)
        for note in dict.fromkeys((*equal, *(note for run in runs for note in run.notes))):
            click.echo(note, err=True)
    return [row for found in rows.values() for row in found]


def _several(rows: Mapping[str, Sequence[ReportRow]]) -> bool:
    """Whether any row stands for several seeds."""
    return any(row.seeds and row.seeds.of > 1 for found in rows.values() for row in found)


def print_plan(form: str, plans: Mapping[str, TableCells], title: str) -> None:
    """Print what each task's cells lack, and in a table what its seconds are."""
    print_rows(form, *_joined(plans), title=title)
    if form == "table":
        click.echo("Seconds are of trainings and answers, at the rates of the store where it has some.")


def _joined(tables: Mapping[str, TableCells]) -> TableCells:
    """Return several tasks' tables as one, with a column for the task where there are several."""
    if len(tables) == 1:
        return next(iter(tables.values()))
    header, _ = next(iter(tables.values()))
    return ["task", *header], [[task, *line] for task, (_, lines) in tables.items() for line in lines]


def run_with(task: str, values: Mapping[str, str], seed: int, chosen: dict[str, Any]) -> Run:
    """Return the run of one cell and seed. Raises BadConfig for a factor that is no setting."""
    changed = dict(chosen)
    overrides = list(changed.pop("overrides", ()))
    for name, value in values.items():
        key = name.replace("-", "_")
        if name in COLUMNS:
            changed[COLUMNS[name]] = (value,)
        elif name in OPTIONS:
            try:
                changed[key] = OPTIONS[name](value)
            except click.BadParameter as error:
                raise click.UsageError(f"{name}: {error.message}") from None
        else:
            path = _path(name)
            # An option that is short for the same setting would win.
            changed.update({option: None for option, other in choose.SETTINGS.items() if other == path})
            overrides.append(f"{path}={value}")
    return choose.run_of(task, overrides=tuple(overrides), seed=seed, **changed)
