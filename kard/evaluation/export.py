"""The rows behind a report's tables, as a file that gives the same tables without the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlite_utils import Database

from kard.db import rows
from kard.errors import Missing
from kard.evaluation.compare import all_pairs, compare, conditions_of, pairs_table
from kard.evaluation.labels import graded_rows
from kard.evaluation.name_matching import one_of
from kard.evaluation.report import Graded, accuracy_lines, as_markdown, as_table
from kard.files import Row, read_rows, write_lines
from kard.metrics.intervals import wilson

TIMES = ("milliseconds", "flops")  # left out of an export: another machine takes another time
DEPTHS = (1, 3, 5, 10, 100)


def export_rows(db: Database, task: str, split: str, what: str, path: Path) -> int:
    """Write the rows of `what` ('answers' or 'hits') as JSON lines; their number. Raises Missing, BadInput."""
    read = graded_rows if what == "answers" else first_hits
    found = read(db, task, split)
    if not found:
        raise Missing(f"no {what} of {task}/{split} to export; make them with: kard run {task}")
    return write_lines(path, ({k: v for k, v in row.items() if k not in TIMES} for row in found))


def first_hits(db: Database, task: str, split: str) -> list[dict[str, object]]:
    """The rows of the query `first_hits`."""
    return rows(db, "first_hits", task=task, split=split)


def accuracy_of(path: Path) -> str:
    """The accuracy table in Markdown, from exported answers. Raises BadInput."""
    graded = [Graded.of(row) for _, row in read_rows(path)]
    return as_markdown(*as_table(accuracy_lines(graded)))


def comparisons_of(path: Path, *names: str) -> str:
    """Every condition, or every one that is named, against every other in Markdown, from exported answers.

    Raises BadInput, for a name that fits none or several too, and Missing.
    """
    graded = [Graded.of(row) for _, row in read_rows(path)]
    parts = conditions_of(graded)
    named = [one_of(name, parts, "condition") for name in names]
    return as_markdown(*pairs_table(compare(graded, all_pairs([k for k in parts if k in named or not named]))))


def hits_of(path: Path) -> str:
    """Hits@k with 95% intervals in Markdown, from exported hits. Raises BadInput."""
    return as_markdown(*hits_table([row for _, row in read_rows(path)]))


def hits_table(found: Sequence[Row], *, narrow: bool = False) -> tuple[list[str], list[list[object]]]:
    """Header and cells: the share of questions whose first needed passage stands within k.

    A row has `gold`, `retriever` (see `retriever_names`) and `rank`, the best rank of a needed passage, None
    when none was found. Where it has `depth` too, nothing is said of a k beyond the depth that was searched to.
    `narrow` has room for two decimals, and for no interval of the deepest k.
    """
    groups: dict[tuple[str, str], list[int | None]] = defaultdict(list)
    depths: dict[tuple[str, str], int] = {}
    for row in found:
        group, rank = (str(row["gold"]), str(row["retriever"])), row["rank"]
        groups[group].append(None if rank is None else int(str(rank)))
        depth = int(str(row.get("depth", DEPTHS[-1])))
        depths[group] = min(depth, depths.get(group, depth))
    ks = [k for k in DEPTHS if k <= max(depths.values(), default=DEPTHS[-1])]
    names = retriever_names(retriever for _, retriever in groups)
    header = ["needed", "retriever", "n" if narrow else "questions", *(f"Hits@{k}" for k in ks)]
    body: list[list[object]] = []
    for group, ranks in sorted(groups.items(), key=lambda g: (g[0][0], g[0][1] != "bm25", g[0][1])):
        shares = {k: wilson(sum(r is not None and r <= k for r in ranks), len(ranks)) for k in ks}
        cells = {k: share.shown(2 if narrow else 3) for k, share in shares.items()}
        if narrow:
            cells[ks[-1]] = f"{shares[ks[-1]].value:.2f}"
        gold, retriever = group
        body.append([gold, names[retriever], len(ranks), *(cells[k] if k <= depths[group] else "" for k in ks)])
    return header, body


def retriever_names(labels: Iterable[str]) -> dict[str, str]:
    """What to call each retriever of `first_hits`: its kind, and its id too where there are several of the kind.

    A label is 'bm25', a reranker's id, or 'fused', 'dense' or 'hybrid' with the retriever's id.
    """
    kinds = {label: label.partition(" ")[0] if " " in label or label == "bm25" else "reranker" for label in labels}
    several = {kind for kind, count in Counter(kinds.values()).items() if count > 1}
    return {
        label: f"{kind} {label.rpartition(' ')[2]}" if kind in several else kind for label, kind in kinds.items()
    }
