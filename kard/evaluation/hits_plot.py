"""A drawing of Hits@k: one panel for each source of needs, one line for each retriever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kard.errors import BadInput, NoExtra
from kard.evaluation.retriever_metrics import SOURCES, RankedQuestion, retrievers_in
from kard.metrics.ranking import first_ranks

ENDINGS = (".svg", ".png")
DEEPEST = 20  # ranks that are drawn: nobody reads more passages
TICKS = (1, 3, 5, 10, 15, 20)


def curve(ranks: Sequence[int | None], depth: int) -> list[float]:
    """Hits@1 ... Hits@depth: the share of questions whose first needed passage stands within k."""
    return [sum(rank is not None and rank <= k for rank in ranks) / len(ranks) for k in range(1, depth + 1)]


def write_plot(asked: Sequence[RankedQuestion], kappa: int, title: str, path: Path) -> None:
    """Draw Hits@k of every retriever into the file. Raises NoExtra, and BadInput for another kind of file."""
    if path.suffix.lower() not in ENDINGS:
        raise BadInput(f"{path.name}: name a file that ends in {' or '.join(ENDINGS)}")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise NoExtra("matplotlib is not installed; add it with: pip install 'kard[plots]'") from error
    depth = min(DEEPEST, kappa)
    sources = [source for source in SOURCES if any(source in question.needs for question in asked)]
    if not sources:
        raise BadInput("nothing says what these questions need: no evidence, no rationale that was grounded")
    figure = Figure(figsize=(5 * len(sources), 4), layout="constrained")
    figure.suptitle(title)
    for place, source in enumerate(sources, 1):
        axes = figure.add_subplot(1, len(sources), place)
        for name in retrievers_in(asked):
            of_name = [q for q in asked if source in q.needs and name in q.orders]
            orders = [[p.passage for p in q.orders[name]] for q in of_name]
            ranks = first_ranks(orders, [q.needs[source] for q in of_name])
            if ranks:
                axes.plot(range(1, depth + 1), curve(ranks, depth), label=f"{name} (n={len(ranks)})", marker=".")
        axes.set(title=source, xlabel="first k passages", ylabel="share of questions", ylim=(0, 1))
        axes.set_xticks([k for k in TICKS if k <= depth])
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    try:
        figure.savefig(path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
