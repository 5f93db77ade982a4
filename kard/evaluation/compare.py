"""Compare conditions on the questions that both answered. Pure over graded answers.

A pair has its wins and losses by question, the difference of accuracies with its paired-bootstrap interval, and an
exact p. This is McNemar's p, or over several seeds that of Fisher's randomisation of each question's sign. Holm's
correction is over all pairs compared at once. A pair is called not distinguishable if p does not decide it, however
different the accuracies look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations
from math import lcm
from statistics import fmean

from kard.config import LEAST_SEEDS
from kard.errors import Missing
from kard.evaluation.graded import (
    ConditionKey,
    GradedAnswer,
    by_condition,
    kinds_of,
    right_by_question,
    rights_by_seed,
)
from kard.evaluation.over_seeds import rights_matrix, share_over_seeds
from kard.evaluation.report import TableCells
from kard.methods import METHODS, NO_MODEL
from kard.metrics.bootstrap import Difference, bootstrap, bootstrap_over_seeds
from kard.metrics.intervals import Share, wilson
from kard.metrics.significance import ALPHA, NOT_DISTINGUISHABLE, holm, p_text, sign_flips

Rights = Mapping[str, Sequence[int]]  # by question key: 1 or 0 for the answer of each seed


@dataclass(frozen=True, slots=True)
class Comparison:
    """Condition `a` against condition `b` on the questions of a kind that both answered."""

    a: str
    b: str
    kind: str  # 'all' or a kind of question
    share_a: Share
    share_b: Share
    seeds: tuple[int, int]  # most answers to a question, of a and of b
    wins: int  # questions that a answered right more often than b
    losses: int
    difference: Difference  # accuracy of a minus that of b
    p: float  # exact, two-sided
    adjusted: float  # p corrected for the other comparisons
    over_seeds: bool = False  # the intervals resample seeds too; p holds the trainings as they are

    @property
    def questions(self) -> int:
        """Return the number of questions that both answered."""
        return self.share_a.of

    @property
    def better(self) -> str | None:
        """Return the better condition, None if p does not decide it at 5%, or the interval over seeds holds 0."""
        if self.adjusted >= ALPHA or self.difference.mean == 0:
            return None
        if self.over_seeds and self.difference.low <= 0 <= self.difference.high:
            return None
        return self.a if self.difference.mean > 0 else self.b

    @property
    def verdict(self) -> str:
        """Return which condition is better, or that they cannot be distinguished."""
        return NOT_DISTINGUISHABLE if self.better is None else f"{self.better} is better"

    def record(self) -> dict[str, object]:
        """Return the comparison as flat values, for JSON and CSV."""
        return {
            "a": self.a,
            "b": self.b,
            "kind": self.kind,
            "wins": self.wins,
            "losses": self.losses,
            "difference": self.difference.mean,
            "low": self.difference.low,
            "high": self.difference.high,
            "p": self.p,
            "accuracy_a": self.share_a.value,
            "low_a": self.share_a.low,
            "high_a": self.share_a.high,
            "accuracy_b": self.share_b.value,
            "low_b": self.share_b.low,
            "high_b": self.share_b.high,
            "seeds_a": self.seeds[0],
            "seeds_b": self.seeds[1],
            "questions": self.questions,
            "p_holm": self.adjusted,
            "intervals": "seeds and questions" if self.over_seeds else "questions",
            "better": self.better,
            "verdict": self.verdict,
        }


def conditions_of(graded: Sequence[GradedAnswer]) -> dict[ConditionKey, list[str]]:
    """Return the parts of each condition's name, in the order of the table."""
    return {key: name_parts(key) for key in by_condition(graded)}


def name_parts(key: ConditionKey) -> list[str]:
    """Return the parts of a condition's name: size, method, retriever (not of a method that never reads), label."""
    size, method, retriever, variant = key
    never_reads = retriever == "none" and not (method in METHODS and METHODS[method].reads)
    return [size, method, *([] if never_reads else [retriever]), *variant.split()]


def short_names(names: Mapping[ConditionKey, Sequence[str]]) -> dict[ConditionKey, str]:
    """Return a name for each condition, without the size if there is only one, or no model."""
    several = len({key[0] for key in names} - {NO_MODEL}) > 1
    return {key: "/".join(parts[key[0] == NO_MODEL or not several :]) for key, parts in names.items()}


def all_pairs(
    keys: Sequence[ConditionKey], base: ConditionKey | None = None
) -> list[tuple[ConditionKey, ConditionKey]]:
    """Return every pair of conditions, the later one first; with `base`, every other condition against it."""
    if base is not None:
        return [(key, base) for key in keys if key != base]
    return [(b, a) for a, b in combinations(keys, 2)]


def compare(
    graded: Sequence[GradedAnswer],
    pairs: Sequence[tuple[ConditionKey, ConditionKey]],
    *,
    by_kind: bool = False,
    over_seeds: bool = False,
    seed: int = 0,
) -> list[Comparison]:
    """Compare each pair of conditions over all questions and, with `by_kind`, over each kind of question.

    p is corrected over all pairs. The comparisons by kind are corrected among themselves, since they are parts of
    the whole ones. With `over_seeds`, intervals resample seeds, then questions.
    Raises Missing for a pair without a question that both answered, and with `over_seeds` for fewer than
    `LEAST_SEEDS` seeds.
    """
    groups = by_condition(graded)
    names = short_names(conditions_of(graded))
    whole: list[Comparison] = []
    parts: list[Comparison] = []
    for kind in kinds_of(graded) if by_kind else ["all"]:
        rights = {
            key: right_by_question(answer for answer in group if kind in ("all", answer.kind))
            for key, group in groups.items()
        }
        for a, b in pairs:
            if rights[a].keys() & rights[b].keys():
                comparison = _compared(names[a], names[b], kind, rights[a], rights[b], seed)
                if over_seeds:
                    comparison = _over_seeds(
                        comparison, groups[a], groups[b], rights[a].keys() & rights[b].keys(), seed
                    )
                (whole if kind == "all" else parts).append(comparison)
            elif kind == "all":
                raise Missing(
                    f"{names[a]} and {names[b]} have answered no question in common; let both answer the same "
                    "questions with: kard evaluate TASK"
                )
    return [*corrected(whole), *corrected(parts)]


def _compared(a: str, b: str, kind: str, rights_a: Rights, rights_b: Rights, seed: int) -> Comparison:
    common = sorted(rights_a.keys() & rights_b.keys())
    mean_a, mean_b = [fmean(rights_a[key]) for key in common], [fmean(rights_b[key]) for key in common]
    # Integers for any number of seeds: exact sums can be compared exactly.
    unit = lcm(*(len(rights[key]) for rights in (rights_a, rights_b) for key in common))
    differences = [round((x - y) * unit) for x, y in zip(mean_a, mean_b, strict=True)]
    interval = bootstrap([d / unit for d in differences], seed=seed)
    p = sign_flips(differences)
    return Comparison(
        a,
        b,
        kind,
        share_a=wilson(min(sum(mean_a), len(common)), len(common)),
        share_b=wilson(min(sum(mean_b), len(common)), len(common)),
        seeds=(max(len(rights_a[key]) for key in common), max(len(rights_b[key]) for key in common)),
        wins=sum(d > 0 for d in differences),
        losses=sum(d < 0 for d in differences),
        difference=Difference(sum(differences) / unit / len(common), *interval),
        p=p,
        adjusted=p,
    )


def _over_seeds(
    comparison: Comparison,
    answers_a: Sequence[GradedAnswer],
    answers_b: Sequence[GradedAnswer],
    common: Set[str],
    seed: int,
) -> Comparison:
    """Return the comparison with intervals over seeds and the questions `common`."""
    keys = sorted(common)
    of_a, of_b = (
        rights_by_seed(answer for answer in answers if answer.key in common) for answers in (answers_a, answers_b)
    )
    for name, rights, answers in ((comparison.a, of_a, answers_a), (comparison.b, of_b, answers_b)):
        if len(rights) < LEAST_SEEDS and METHODS[answers[0].method].seeded:
            raise Missing(
                f"{name} has {len(rights)} of the {LEAST_SEEDS} seeds that --over-seeds needs; train others with: "
                "kard run TASK --seed N"
            )
    interval = bootstrap_over_seeds(rights_matrix(of_a, keys), rights_matrix(of_b, keys), seed=seed)
    return replace(
        comparison,
        share_a=share_over_seeds(comparison.share_a, of_a, seed),
        share_b=share_over_seeds(comparison.share_b, of_b, seed),
        difference=Difference(comparison.difference.mean, *interval),
        over_seeds=True,
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with p corrected over all of them by Holm's method."""
    adjusted = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, adjusted=p) for comparison, p in zip(comparisons, adjusted, strict=True)]


def pairs_table(comparisons: Sequence[Comparison], *, narrow: bool = False) -> TableCells:
    """Return header and cells, one row per pair and kind. `narrow` leaves out what a terminal has no room for."""
    columns: dict[str, Callable[[Comparison], object]] = {}
    if not narrow or len({(c.a, c.b) for c in comparisons}) > 1:
        columns |= {"A": lambda c: c.a, "B": lambda c: c.b}
    if any(c.kind != "all" for c in comparisons):
        columns["kind"] = lambda c: c.kind
    if not narrow or len({c.questions for c in comparisons}) > 1:
        columns["n"] = lambda c: c.questions
    columns |= {
        "accuracies": lambda c: f"{c.share_a.value:.3f}, {c.share_b.value:.3f}",
        "won-lost": lambda c: f"{c.wins}-{c.losses}",
        "A minus B": lambda c: str(c.difference),
    }
    if not narrow:
        columns["p"] = lambda c: p_text(c.p)
    columns |= {
        "p (Holm)": lambda c: p_text(c.adjusted),
        "better": lambda c: c.better or NOT_DISTINGUISHABLE,
    }
    return list(columns), [[cell(c) for cell in columns.values()] for c in comparisons]
