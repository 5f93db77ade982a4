"""Conditions held against each other on the same questions: pure, over graded predictions.

A pair has its wins and losses by question, the difference of accuracies with its paired-bootstrap interval, and an
exact p: McNemar's, which over several seeds becomes Fisher's randomisation of each question's sign. p is corrected
by Holm over every pair that is asked about. What p does not decide is called not distinguishable, whatever the
accuracies look like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import lcm
from statistics import fmean

from kard.config import METHODS
from kard.errors import Missing
from kard.evaluation.report import Graded, Key, by_condition, kinds_of, right_by_question
from kard.metrics.bootstrap import bootstrap
from kard.metrics.intervals import Share, wilson
from kard.metrics.significance import ALPHA, NOT_DISTINGUISHABLE, holm, p_text, sign_flips

Answers = Mapping[str, Sequence[int]]  # question's key: 1 or 0 for each seed's answer


@dataclass(frozen=True, slots=True)
class Compared:
    """Condition `a` against condition `b` on the questions of a kind that both answered."""

    a: str
    b: str
    kind: str  # 'all' or a kind of question
    share_a: Share
    share_b: Share
    seeds: tuple[int, int]  # most answers to a question, of a and of b
    wins: int  # questions that a got right more often than b
    losses: int
    difference: float  # accuracy of a minus that of b
    low: float  # of the difference's 95% interval
    high: float
    p: float  # exact, two-sided
    adjusted: float  # p corrected for the comparisons beside it

    @property
    def questions(self) -> int:
        """Questions that both answered."""
        return self.share_a.of

    @property
    def better(self) -> str | None:
        """The condition that is better, None when that cannot be told at 5%."""
        if self.adjusted >= ALPHA or self.difference == 0:
            return None
        return self.a if self.difference > 0 else self.b

    @property
    def verdict(self) -> str:
        """Which is better, or the words that it cannot be told."""
        return NOT_DISTINGUISHABLE if self.better is None else f"{self.better} is better"


def conditions_of(graded: Sequence[Graded]) -> dict[Key, list[str]]:
    """The parts of each condition's name, in the order of the table: size, method, retriever, what else differs.

    What a method that reads nothing is given by its retriever is left out.
    """
    return {key: _parts(key) for key in by_condition(graded)}


def _parts(key: Key) -> list[str]:
    size, method, retriever, variant = key
    silent = retriever == "none" and not (method in METHODS and METHODS[method].reads)
    return [size, method, *([] if silent else [retriever]), *variant.split()]


def short_names(parts: Mapping[Key, Sequence[str]]) -> dict[Key, str]:
    """A name for each condition, without the size where there is one."""
    skip = int(len({key[0] for key in parts}) == 1)
    return {key: "/".join(own[skip:]) for key, own in parts.items()}


def compare(
    graded: Sequence[Graded],
    pairs: Sequence[tuple[Key, Key]],
    *,
    by_kind: bool = False,
    seed: int = 0,
) -> list[Compared]:
    """Each pair of conditions, over all questions and, with `by_kind`, over each kind of them.

    p is corrected over all pairs, and over all kinds of all pairs apart from that: a kind is part of the whole.
    Raises Missing for a pair that has answered no question in common.
    """
    groups = by_condition(graded)
    names = short_names(conditions_of(graded))
    kinds = kinds_of(graded) if by_kind else ["all"]
    found: list[Compared] = []
    for kind in kinds:
        of_kind = {
            key: right_by_question(g for g in group if kind in ("all", g.kind)) for key, group in groups.items()
        }
        for a, b in pairs:
            common = of_kind[a].keys() & of_kind[b].keys()
            if common:
                found.append(_compared(names[a], names[b], kind, of_kind[a], of_kind[b], sorted(common), seed))
            elif kind == "all":
                raise Missing(
                    f"{names[a]} and {names[b]} have answered no question in common; let both answer the same "
                    "questions with: kard evaluate TASK"
                )
    return [*_corrected([c for c in found if c.kind == "all"]), *_corrected([c for c in found if c.kind != "all"])]


def all_pairs(keys: Sequence[Key], base: Key | None = None) -> list[tuple[Key, Key]]:
    """Every condition against every other, the later in the table first; or every other one against `base`."""
    if base is not None:
        return [(key, base) for key in keys if key != base]
    return [(b, a) for a, b in combinations(keys, 2)]


def pairs_table(found: Sequence[Compared], *, narrow: bool = False) -> tuple[list[str], list[list[object]]]:
    """Header and cells, a row a pair (and kind).

    `narrow` leaves out what a terminal has no room for, and JSON and CSV hold.
    """
    columns: dict[str, Callable[[Compared], object]] = {}
    if not narrow or len({(c.a, c.b) for c in found}) > 1:
        columns |= {"A": lambda c: c.a, "B": lambda c: c.b}
    if any(c.kind != "all" for c in found):
        columns["kind"] = lambda c: c.kind
    if not narrow or len({c.questions for c in found}) > 1:
        columns["n"] = lambda c: c.questions
    columns |= {
        "accuracies": lambda c: f"{c.share_a.value:.3f}, {c.share_b.value:.3f}",
        "won-lost": lambda c: f"{c.wins}-{c.losses}",
        "A minus B": lambda c: f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}]",
    }
    if not narrow:
        columns["p"] = lambda c: p_text(c.p)
    columns |= {
        "p (Holm)": lambda c: p_text(c.adjusted),
        "better": lambda c: c.better or NOT_DISTINGUISHABLE,
    }
    return list(columns), [[cell(c) for cell in columns.values()] for c in found]


def _compared(
    a: str, b: str, kind: str, of_a: Answers, of_b: Answers, common: Sequence[str], seed: int
) -> Compared:
    mean_a, mean_b = [fmean(of_a[key]) for key in common], [fmean(of_b[key]) for key in common]
    # Whole numbers, whatever the numbers of seeds: what is added up exactly can be compared exactly.
    whole = lcm(*(len(of[key]) for of in (of_a, of_b) for key in common))
    differences = [round((x - y) * whole) for x, y in zip(mean_a, mean_b, strict=True)]
    low, high = bootstrap([d / whole for d in differences], seed=seed)
    p = sign_flips(differences)
    return Compared(
        a,
        b,
        kind,
        share_a=wilson(min(sum(mean_a), len(common)), len(common)),
        share_b=wilson(min(sum(mean_b), len(common)), len(common)),
        seeds=(max(len(of_a[key]) for key in common), max(len(of_b[key]) for key in common)),
        wins=sum(d > 0 for d in differences),
        losses=sum(d < 0 for d in differences),
        difference=sum(differences) / whole / len(common),
        low=low,
        high=high,
        p=p,
        adjusted=p,
    )


def _corrected(found: Sequence[Compared]) -> list[Compared]:
    adjusted = holm([c.p for c in found])
    return [replace(c, adjusted=value) for c, value in zip(found, adjusted, strict=True)]
