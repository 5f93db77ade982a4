"""The figures of a page, each with a title, a description in words and the table of what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.evaluation.page.conditions import Curve, Point, sizes_of
from kard.evaluation.page.looks import FAINT, INK, PAPER, SERIES, Look, looks_of, retriever_look
from kard.evaluation.page.svg import drawing, inline
from kard.evaluation.page.tables import Table, percent, with_interval
from kard.evaluation.page.text import short, visible
from kard.evaluation.verdicts import VERDICTS

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
class Plot:
    """A figure of a page."""

    name: str
    title: str
    svg: str
    note: str  # what a reader must know to read it rightly
    table: Table | None = None


def accuracy(found: Sequence[Point], chance: float | None) -> Plot:
    """Every condition with its interval, one below the other."""
    looks = looks_of(found)
    title = "Accuracy of every condition"
    with drawing(WIDTH, 0.7 + 0.28 * len(found)) as figure:
        axes = figure.subplots()
        for place, point in enumerate(found):
            look = looks[point.series]
            _bars(axes, point.share.value, place, point, look, across=True)
        axes.set_yticks(range(len(found)), [label(point.name) for point in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        _shares(axes, "x")
        if chance is not None:
            axes.axvline(chance, color=FAINT, linestyle=":", zorder=0)
            place = axes.get_xaxis_transform()
            axes.text(chance, 1.0, "chance", transform=place, ha="center", va="bottom", color=FAINT)
        axes.set_xlabel("accuracy, with 95% interval")
        best = max(found, key=lambda point: point.share.value)
        words = f"The best of {len(found)} conditions is {best.name} with {with_interval(best.share)}."
        svg = inline(figure, "plot-accuracy", title, words)
    return Plot("accuracy", title, svg, _chance(chance))


def by_size(found: Sequence[Point], chance: float | None) -> Plot:
    """Accuracy of each series over the sizes, against the line of `ft`."""
    looks, sizes = looks_of(found), sizes_of(found)
    title = "Accuracy by size of the student"
    order = list(looks)
    tuned = [point for point in found if point.series == "ft"]
    with drawing(WIDTH, 3.6 + 0.1 * len(order)) as figure:
        axes = figure.subplots()
        for number, name in enumerate(order):
            # Side by side where they would hide each other's intervals.
            shift = 0.0 if len(order) == 1 else 0.5 * (number / (len(order) - 1) - 0.5)
            own = sorted((p for p in found if p.series == name), key=lambda point: sizes.index(point.size))
            places = [sizes.index(point.size) + shift for point in own]
            axes.plot(places, [p.share.value for p in own], linestyle=looks[name].line, color=looks[name].colour)
            for place, point in zip(places, own, strict=True):
                _bars(axes, place, point.share.value, point, looks[name])
        note = "Sizes stand evenly spaced, small ones first."
        best_ft = max((point.share.value for point in tuned), default=0.0)
        if tuned:
            best = max(tuned, key=lambda point: point.share.value)
            axes.axhline(best_ft, color=INK, linestyle="--", linewidth=0.9, alpha=0.7, zorder=0)
            whose = "ft" if len(sizes) == 1 else f"the best ft ({best.size})"
            note += f" The dashed line across is {whose}: what fine-tuning on the answers alone reaches."
        _chance_line(axes, chance, below=bool(tuned) and 0 <= best_ft - (chance or 0) < 0.08)
        axes.set_xticks(range(len(sizes)), [label(size) for size in sizes])
        axes.set_xlim(-0.6, len(sizes) - 0.4)
        _shares(axes, "y")
        axes.set_ylabel("accuracy")
        _legend(figure, axes, {name: looks[name] for name in order})
        words = f"Accuracy of {len(order)} series at the sizes {', '.join(sizes)}. {note}"
        svg = inline(figure, "plot-size", title, words)
    return Plot("size", title, svg, f"{note} {_chance(chance)}".strip(), _table(title, found))


def against(
    shown: Sequence[Point],
    costs: Sequence[float],
    *,
    name: str,
    title: str,
    axis: str,
    note: str,
    unit: Callable[[float], str],
) -> Plot:
    """Accuracy against a cost of each condition; `unit` writes a cost. Powers of ten when no cost is near 0."""
    looks, sizes = looks_of(shown), sizes_of(shown)
    with drawing(WIDTH, 3.6 + 0.1 * len(shown)) as figure:
        from matplotlib.ticker import LogLocator, MaxNLocator

        axes = figure.subplots()
        drawn: dict[str, Look] = {}
        powers = min(costs) > 0 and max(costs) > 20 * min(costs)
        for place, point in enumerate(shown):
            look = drawn[point.series] = looks[point.series]
            # Conditions of like cost stand side by side: their intervals would hide each other.
            cost = costs[place]
            same = [
                i for i, other in enumerate(costs) if abs(other - cost) <= LIKE * (cost if powers else max(costs))
            ]
            aside = min(0.018, 0.1 / len(same)) * (same.index(place) - (len(same) - 1) / 2)
            x = cost * 10**aside if powers else cost + aside * max(costs)
            _bars(axes, x, point.share.value, point, look, larger=sizes.index(point.size))
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
        _legend(figure, axes, drawn)
        taken = [(point, unit(cost)) for point, cost in zip(shown, costs, strict=True)]
        words = "; ".join(f"{point.name}: {percent(point.share.value)} at {cost}" for point, cost in taken)
        svg = inline(figure, f"plot-{name}", title, words)
    note += " Like costs are drawn side by side."
    if len(sizes) > 1:
        note += " Larger marks are larger students."
    rows = [[point.name, cost, with_interval(point.share)] for point, cost in taken]
    return Plot(name, title, svg, note, Table(title, ["condition", axis, "accuracy"], rows))


def hits(gold: str, found: Sequence[Curve], note: str) -> Plot:
    """Hits@k of every retriever for one kind of gold, with its 95% band."""
    title = {"evidence": "Hits@k: gold evidence", "silver": "Hits@k: what a rationale finds"}.get(
        gold, f"Hits@k: {gold}"
    )
    depth = len(found[0].shares)
    ticks = [k for k in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= depth]
    with drawing(WIDTH, 3.4) as figure:
        axes = figure.subplots()
        drawn: dict[str, Look] = {}
        for number, curve in enumerate(found):
            look = retriever_look(curve.retriever, number)
            drawn[curve.retriever] = look
            ranks = range(1, depth + 1)
            low, high = [s.low for s in curve.shares], [s.high for s in curve.shares]
            axes.fill_between(ranks, low, high, color=look.colour, alpha=0.15, linewidth=0)
            axes.plot(ranks, [s.value for s in curve.shares], color=look.colour, linestyle=look.line)
            at = [curve.shares[k - 1].value for k in ticks]
            axes.plot(ticks, at, color=look.colour, linestyle="none", marker=look.marker)
        if depth > 1:
            axes.set_xscale("log")
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("k, passages looked at")
        _shares(axes, "y")
        axes.set_ylabel("questions with a needed passage")
        _legend(figure, axes, drawn)
        words = "; ".join(f"{c.retriever}: {percent(c.shares[0].value)} at k = 1" for c in found)
        svg = inline(figure, f"plot-hits-{gold}", title, words)
    rows = [[c.retriever, c.shares[0].of, *(with_interval(c.shares[k - 1]) for k in ticks)] for c in found]
    return Plot(
        f"hits-{gold}",
        title,
        svg,
        note,
        Table(title, ["retriever", "questions", *(f"k = {k}" for k in ticks)], rows),
    )


def failures(wrong: Sequence[tuple[str, Mapping[str, float]]]) -> Plot:
    """The verdicts on each condition's wrong answers, one bar a condition; counts are means over its seeds."""
    title = "Wrong answers by verdict"
    met = [verdict for verdict in VERDICTS if any(counts[verdict] for _, counts in wrong)]
    most = max(sum(counts.values()) for _, counts in wrong)
    with drawing(WIDTH, 1.1 + 0.3 * len(wrong) + 0.1 * len(met)) as figure:
        from matplotlib.patches import Patch

        axes = figure.subplots()
        for place, (_, counts) in enumerate(wrong):
            left = 0.0
            for verdict in met:
                count = counts[verdict]
                colour = VERDICT_COLOURS.get(verdict, FAINT)
                axes.barh(place, count, left=left, color=colour, edgecolor=PAPER, linewidth=1.2, height=0.72)
                if count >= 0.08 * most:  # narrower than that, a number would leave its bar
                    axes.text(left + count / 2, place, f"{count:.3g}", ha="center", va="center", color=PAPER)
                left += count
        axes.set_yticks(range(len(wrong)), [label(name) for name, _ in wrong])
        axes.set_ylim(len(wrong) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("wrong answers")
        handles = [Patch(color=VERDICT_COLOURS.get(verdict, FAINT)) for verdict in met]
        figure.legend(handles, [*met], loc="outside lower center", ncols=2)
        words = "; ".join(
            f"{name}: " + ", ".join(f"{counts[v]:.3g} {v}" for v in met if counts[v]) for name, counts in wrong
        )
        svg = inline(figure, "plot-failures", title, words)
    return Plot("failures", title, svg, "Several seeds of a condition are one bar, with their mean.")


def label(name: str) -> str:
    """A name as a figure writes it: nothing unseen, and not longer than its place."""
    return short(" ".join(visible(name).split()), LEGEND)


def _bars(
    axes: Axes, x: float, y: float, point: Point, look: Look, *, across: bool = False, larger: int = 0
) -> None:
    """A mark with its interval, along x when `across`, else along y."""
    share = point.share
    spread = [[share.value - share.low], [share.high - share.value]]
    axes.errorbar(
        x,
        y,
        xerr=spread if across else None,
        yerr=None if across else spread,
        color=look.colour,
        marker=look.marker,
        markersize=5.5 + 1.5 * larger,
        capsize=2.5,
        elinewidth=1.1,
    )


def _shares(axes: Axes, axis: str) -> None:
    """An axis from 0 to 100%."""
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    names = [f"{100 * tick:.0f}%" for tick in ticks]
    if axis == "x":
        axes.set_xticks(ticks, names)
        axes.set_xlim(-0.02, 1.02)
    else:
        axes.set_yticks(ticks, names)
        axes.set_ylim(-0.02, 1.02)


def _chance_line(axes: Axes, chance: float | None, *, below: bool) -> None:
    """A level line of chance with its name, `below` it where another line runs close above."""
    if chance is not None:
        axes.axhline(chance, color=FAINT, linestyle=":", zorder=0)
        side, place = ("top" if below else "bottom"), axes.get_yaxis_transform()
        axes.text(1.0, chance, "chance", transform=place, ha="right", va=side, color=FAINT)


def _chance(chance: float | None) -> str:
    return "" if chance is None else f"The dotted line is chance: {percent(chance)}."


def _legend(figure: Figure, axes: Axes, drawn: Mapping[str, Look]) -> None:
    handles = [
        axes.plot([], [], color=look.colour, marker=look.marker, linestyle=look.line)[0] for look in drawn.values()
    ]
    columns = 2 if max(map(len, drawn)) <= LEGEND // 2 else 1
    figure.legend(handles, [label(name) for name in drawn], loc="outside lower center", ncols=columns)


def _table(caption: str, found: Sequence[Point]) -> Table:
    rows = [[point.name, point.share.of, with_interval(point.share)] for point in found]
    return Table(caption, ["condition", "questions", "accuracy"], rows)
