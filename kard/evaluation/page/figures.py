"""The figures of a page and the points and curves that they show.

Each figure has a title, a description in words, and the table of its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kard.evaluation.condition_names import size_order
from kard.evaluation.failures import VERDICTS
from kard.evaluation.page.drawing import (
    FAINT,
    INK,
    PAPER,
    SERIES,
    Look,
    drawing,
    inline,
    retriever_look,
    series_look,
    varied_look,
)
from kard.evaluation.page.text import PageTable, percent, short, visible, with_interval
from kard.metrics.intervals import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERDICT_COLOURS: Mapping[str, str] = {
    "knowledge gap": SERIES[4],
    "retriever failure": SERIES[1],
    "student failure": SERIES[0],
    "teacher error": SERIES[3],
    "undetermined": SERIES[6],
}  # and `no lookup`, which is no failure to look up, faint
LIKE = 0.015  # costs that differ by less of the axis are drawn side by side
WIDTH = 5.0  # inches: 360 units, so that a phone of 390 px shows letters nearly as large as its own
LEGEND = 30  # characters of a name in a legend


@dataclass(frozen=True, slots=True)
class Point:
    """A condition's accuracy over all questions, and the cost of an answer and of its training rationales."""

    size: str
    method: str
    retriever: str
    variant: str  # distinguishes conditions with equal size, method and retriever; '' for none
    share: Share
    flops: float | None = None  # mean per question
    dollars: float | None = None  # paid to a teacher for its training rationales
    tokens: float | None = None  # of the teacher, for its training rationales
    number: int = 0  # on its page, where names are too long for a figure

    @property
    def series(self) -> str:
        """Name everything but the size."""
        return series_name(self.method, self.retriever, self.variant)

    @property
    def name(self) -> str:
        """Name size and series, behind the point's number if it has one."""
        return f"{self.number}. " * bool(self.number) + f"{self.size} {self.series}"


def numbered(points: Sequence[Point]) -> list[Point]:
    """Return the points, with numbers if a figure must cut the name of any: the cut names can be equal."""
    if all(len(point.name) <= LEGEND for point in points):
        return list(points)
    return [replace(point, number=number) for number, point in enumerate(points, 1)]


def series_name(method: str, retriever: str, variant: str) -> str:
    """Return a name like `kard, bm25 k=1`; a series that reads nothing is named by its method."""
    reads = "" if retriever in ("none", "-") else retriever
    rest = " ".join(part for part in (reads, variant) if part)
    return f"{method}, {rest}" if rest else method


def sizes_of(points: Sequence[Point]) -> list[str]:
    """Return the sizes, small ones first; names without a number of parameters come last, alphabetically."""
    return sorted({point.size for point in points}, key=size_order)


@dataclass(frozen=True, slots=True)
class Curve:
    """Hits@k of one retriever: `shares[k - 1]` is the share of questions with a needed passage in the first k."""

    retriever: str
    gold: str  # 'evidence' or 'silver'
    shares: Sequence[Share]


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of a page."""

    name: str
    title: str
    svg: str
    note: str  # what a reader must know to read it rightly
    table: PageTable | None = None


def accuracy(points: Sequence[Point], chance: float | None) -> Plot:
    """Draw every condition with its interval, one below the other."""
    title = "Accuracy of every condition"
    with _one_below_the_other([(point.name, point) for point in points], chance) as figure:
        best = max(points, key=lambda point: point.share.value)
        words = f"The best of {len(points)} conditions is {best.name} with {with_interval(best.share)}."
        svg = inline(figure, "plot-accuracy", title, words)
    return Plot("accuracy", title, svg, _chance_note(chance))


def save_by_row(named: Sequence[tuple[str, Point]], chance: float | None, path: Path) -> None:
    """Draw the accuracy of each point beside its name, one below the other, into an .svg or .png file."""
    with _one_below_the_other(named, chance) as figure:
        figure.savefig(path, facecolor="white", dpi=150)


@contextmanager
def _one_below_the_other(named: Sequence[tuple[str, Point]], chance: float | None) -> Generator[Figure]:
    looks = _looks([point for _, point in named])
    with drawing(WIDTH, 0.7 + 0.28 * len(named)) as figure:
        axes = figure.subplots()
        for place, (_, point) in enumerate(named):
            _bars(axes, point.share.value, place, point, looks[point.series], across=True)
        axes.set_yticks(range(len(named)), [_label(name) for name, _ in named])
        axes.set_ylim(len(named) - 0.4, -0.6)
        _shares(axes, "x")
        if chance is not None:
            axes.axvline(chance, color=FAINT, linestyle=":", zorder=0)
            place = axes.get_xaxis_transform()
            axes.text(chance, 1.0, "chance", transform=place, ha="center", va="bottom", color=FAINT)
        axes.set_xlabel("accuracy, with 95% interval")
        yield figure


def by_size(points: Sequence[Point], chance: float | None) -> Plot:
    """Draw the accuracy of each series over the sizes, against the line of `ft`."""
    looks, sizes = _looks(points), sizes_of(points)
    title = "Accuracy by size of the student"
    order = list(looks)
    tuned = [point for point in points if point.series == "ft"]
    with drawing(WIDTH, 3.6 + 0.1 * len(order)) as figure:
        axes = figure.subplots()
        for number, name in enumerate(order):
            # Side by side where they would hide each other's intervals.
            shift = 0.0 if len(order) == 1 else 0.5 * (number / (len(order) - 1) - 0.5)
            line = sorted((p for p in points if p.series == name), key=lambda point: sizes.index(point.size))
            places = [sizes.index(point.size) + shift for point in line]
            axes.plot(places, [p.share.value for p in line], linestyle=looks[name].line, color=looks[name].colour)
            for place, point in zip(places, line, strict=True):
                _bars(axes, place, point.share.value, point, looks[name])
        note = "Sizes stand evenly spaced, small ones first."
        best_ft = max((point.share.value for point in tuned), default=0.0)
        if tuned:
            best = max(tuned, key=lambda point: point.share.value)
            axes.axhline(best_ft, color=INK, linestyle="--", linewidth=0.9, alpha=0.7, zorder=0)
            whose = "ft" if len(sizes) == 1 else f"the best ft ({best.size})"
            note += f" The dashed line across is {whose}: what fine-tuning on the answers alone reaches."
        _chance_line(axes, chance, below=bool(tuned) and 0 <= best_ft - (chance or 0) < 0.08)
        axes.set_xticks(range(len(sizes)), [_label(size) for size in sizes])
        axes.set_xlim(-0.6, len(sizes) - 0.4)
        _shares(axes, "y")
        axes.set_ylabel("accuracy")
        _legend(figure, axes, looks)
        words = f"Accuracy of {len(order)} series at the sizes {', '.join(sizes)}. {note}"
        svg = inline(figure, "plot-size", title, words)
    return Plot("size", title, svg, f"{note} {_chance_note(chance)}".strip(), _table(title, points))


def save_by_value(
    placed: Sequence[tuple[str, Point]], factor: str, values: Sequence[str], chance: float | None, path: Path
) -> None:
    """Draw the accuracy of each series over a factor's values, evenly spaced, into an .svg or .png file.

    A point stands over the value that it comes with; the series of a point is all that is not the factor.
    """
    names = list(dict.fromkeys(point.series for _, point in placed))
    looks = {name: varied_look(number) for number, name in enumerate(names)}
    with drawing(WIDTH, 3.2 + 0.2 * len(looks)) as figure:
        axes = figure.subplots()
        for number, (name, look) in enumerate(looks.items()):
            shift = min(0.06, 0.4 / max(1, len(looks) - 1)) * (number - (len(looks) - 1) / 2)  # bars side by side
            line = [(values.index(at) + shift, point) for at, point in placed if point.series == name]
            axes.plot(
                [x for x, _ in line], [p.share.value for _, p in line], linestyle=look.line, color=look.colour
            )
            for x, point in line:
                _bars(axes, x, point.share.value, point, look)
        _chance_line(axes, chance, below=False)
        axes.set_xticks(range(len(values)), [_label(at) for at in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_xlabel(_label(factor))
        _shares(axes, "y")
        axes.set_ylabel("accuracy, with 95% interval")
        _legend(figure, axes, looks, 2 * LEGEND)
        figure.savefig(path, facecolor="white", dpi=150)


def against(
    points: Sequence[Point],
    costs: Sequence[float],
    *,
    name: str,
    title: str,
    axis: str,
    note: str,
    unit: Callable[[float], str],
) -> Plot:
    """Draw accuracy against a cost of each condition, which `unit` formats.

    The axis is in powers of ten when no cost is near 0 and the highest is more than 20 times the lowest.
    """
    looks, sizes = _looks(points), sizes_of(points)
    with drawing(WIDTH, 3.6 + 0.1 * len(points)) as figure:
        from matplotlib.ticker import LogLocator, MaxNLocator

        axes = figure.subplots()
        powers = min(costs) > 0 and max(costs) > 20 * min(costs)
        for place, point in enumerate(points):
            # Conditions of like cost stand side by side: their intervals would hide each other.
            cost = costs[place]
            alike = [
                i for i, other in enumerate(costs) if abs(other - cost) <= LIKE * (cost if powers else max(costs))
            ]
            aside = min(0.018, 0.1 / len(alike)) * (alike.index(place) - (len(alike) - 1) / 2)
            x = cost * 10**aside if powers else cost + aside * max(costs)
            _bars(axes, x, point.share.value, point, looks[point.series], larger=sizes.index(point.size))
        if powers:
            axes.set_xscale("log")
            axes.set_xlim(min(costs) / 2, max(costs) * 2)
        else:
            axes.set_xlim(-0.08 * max(costs), 1.12 * max(costs))
        axes.xaxis.set_major_locator(MaxNLocator(5) if not powers else LogLocator())
        axes.xaxis.set_major_formatter(lambda value, _: unit(value))
        _shares(axes, "y")
        axes.set_xlabel(axis)
        axes.set_ylabel("accuracy")
        _legend(figure, axes, looks)
        priced = [(point, unit(cost)) for point, cost in zip(points, costs, strict=True)]
        words = "; ".join(f"{point.name}: {percent(point.share.value)} at {cost}" for point, cost in priced)
        svg = inline(figure, f"plot-{name}", title, words)
    note += " Like costs are drawn side by side."
    if len(sizes) > 1:
        note += " Larger marks are larger students."
    rows = [[point.name, cost, with_interval(point.share)] for point, cost in priced]
    return Plot(name, title, svg, note, PageTable(title, ["condition", axis, "accuracy"], rows))


def hits(gold: str, curves: Sequence[Curve], note: str) -> Plot:
    """Draw Hits@k of every retriever for one kind of gold, with its 95% band."""
    title = {"evidence": "Hits@k: gold evidence", "silver": "Hits@k: what a rationale finds"}.get(
        gold, f"Hits@k: {gold}"
    )
    depth = len(curves[0].shares)
    ticks = [k for k in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= depth]
    with drawing(WIDTH, 3.4) as figure:
        axes = figure.subplots()
        looks: dict[str, Look] = {}
        for number, curve in enumerate(curves):
            look = looks[curve.retriever] = retriever_look(curve.retriever, number)
            ranks = range(1, depth + 1)
            low, high = [s.low for s in curve.shares], [s.high for s in curve.shares]
            axes.fill_between(ranks, low, high, color=look.colour, alpha=0.15, linewidth=0)
            axes.plot(ranks, [s.value for s in curve.shares], color=look.colour, linestyle=look.line)
            at = [curve.shares[k - 1].value for k in ticks]
            axes.plot(ticks, at, color=look.colour, linestyle="none", marker=look.mark)
        if depth > 1:
            axes.set_xscale("log")
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("k, passages looked at")
        _shares(axes, "y")
        axes.set_ylabel("questions with a needed passage")
        _legend(figure, axes, looks)
        words = "; ".join(f"{c.retriever}: {percent(c.shares[0].value)} at k = 1" for c in curves)
        svg = inline(figure, f"plot-hits-{gold}", title, words)
    rows = [[c.retriever, c.shares[0].of, *(with_interval(c.shares[k - 1]) for k in ticks)] for c in curves]
    return Plot(
        f"hits-{gold}",
        title,
        svg,
        note,
        PageTable(title, ["retriever", "questions", *(f"k = {k}" for k in ticks)], rows),
    )


def failures(conditions: Sequence[tuple[str, Mapping[str, float]]]) -> Plot:
    """Draw the verdicts on each condition's wrong answers, one bar a condition; counts are means over its seeds."""
    title = "Wrong answers by verdict"
    occurring = [verdict for verdict in VERDICTS if any(counts[verdict] for _, counts in conditions)]
    most = max(sum(counts.values()) for _, counts in conditions)
    with drawing(WIDTH, 1.1 + 0.3 * len(conditions) + 0.1 * len(occurring)) as figure:
        from matplotlib.patches import Patch

        axes = figure.subplots()
        for place, (_, counts) in enumerate(conditions):
            left = 0.0
            for verdict in occurring:
                count = counts[verdict]
                colour = VERDICT_COLOURS.get(verdict, FAINT)
                axes.barh(place, count, left=left, color=colour, edgecolor=PAPER, linewidth=1.2, height=0.72)
                if count >= 0.08 * most:  # narrower than that, a number would leave its bar
                    axes.text(left + count / 2, place, f"{count:.3g}", ha="center", va="center", color=PAPER)
                left += count
        axes.set_yticks(range(len(conditions)), [_label(name) for name, _ in conditions])
        axes.set_ylim(len(conditions) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("wrong answers")
        handles = [Patch(color=VERDICT_COLOURS.get(verdict, FAINT)) for verdict in occurring]
        figure.legend(handles, [*occurring], loc="outside lower center", ncols=2)
        words = "; ".join(
            f"{name}: " + ", ".join(f"{counts[v]:.3g} {v}" for v in occurring if counts[v])
            for name, counts in conditions
        )
        svg = inline(figure, "plot-failures", title, words)
    return Plot("failures", title, svg, "Several seeds of a condition are one bar, with their mean.")


def _label(name: str, longest: int = LEGEND) -> str:
    """Return a name as a figure writes it: visible, on one line, and short enough for its place."""
    return short(" ".join(visible(name).split()), longest)


def _bars(
    axes: Axes, x: float, y: float, point: Point, look: Look, *, across: bool = False, larger: int = 0
) -> None:
    """Draw a mark with its interval, along x when `across`, else along y."""
    share = point.share
    spread = [[share.value - share.low], [share.high - share.value]]
    axes.errorbar(
        x,
        y,
        xerr=spread if across else None,
        yerr=None if across else spread,
        color=look.colour,
        marker=look.mark,
        markersize=5.5 + 1.5 * larger,
        capsize=2.5,
        elinewidth=1.1,
    )


def _shares(axes: Axes, axis: str) -> None:
    """Let an axis run from 0 to 100%."""
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    names = [f"{100 * tick:.0f}%" for tick in ticks]
    if axis == "x":
        axes.set_xticks(ticks, names)
        axes.set_xlim(-0.02, 1.02)
    else:
        axes.set_yticks(ticks, names)
        axes.set_ylim(-0.02, 1.02)


def _chance_line(axes: Axes, chance: float | None, *, below: bool) -> None:
    """Draw a level line of chance with its name, `below` it where another line runs close above."""
    if chance is not None:
        axes.axhline(chance, color=FAINT, linestyle=":", zorder=0)
        side, place = ("top" if below else "bottom"), axes.get_yaxis_transform()
        axes.text(1.0, chance, "chance", transform=place, ha="right", va=side, color=FAINT)


def _chance_note(chance: float | None) -> str:
    return "" if chance is None else f"The dotted line is chance: {percent(chance)}."


def _looks(points: Sequence[Point]) -> dict[str, Look]:
    """Return a look for each series, in the order of its first point."""
    looks: dict[str, Look] = {}
    for point in points:
        if point.series not in looks:
            looks[point.series] = series_look(point.method, point.retriever, point.variant, len(looks))
    return looks


def _legend(figure: Figure, axes: Axes, looks: Mapping[str, Look], longest: int = LEGEND) -> None:
    handles = [
        axes.plot([], [], color=look.colour, marker=look.mark, linestyle=look.line)[0] for look in looks.values()
    ]
    columns = 2 if max(map(len, looks)) <= LEGEND // 2 else 1
    names = [_label(name, longest) for name in looks]
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def _table(caption: str, points: Sequence[Point]) -> PageTable:
    rows = [[point.name, point.share.of, with_interval(point.share)] for point in points]
    return PageTable(caption, ["condition", "questions", "accuracy"], rows)
