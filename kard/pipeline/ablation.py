"""One factor at a time: the settings that are compared, and what each one's order is worth beside the default's.

Differences are paired: each question is ranked by the variant and by the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from kard.config import CUTOFFS, Loss, RerankerTraining, require
from kard.metrics.bootstrap import Difference, bootstrap
from kard.metrics.intervals import Share, wilson

EXPERIMENT = "ablation"  # in the column of that name of rerankers
GOLDS = ("evidence", "silver")
Level = tuple[str, Mapping[str, Any]]

# Where passages learn too, each step encodes them: few candidates, adapters in the upper half, smaller steps.
BOTH: Mapping[str, Any] = {
    "side": "both",
    "upper_half": True,
    "epochs": 1,
    "peak_lr": 2e-4,
    "candidates": 8,
    "tau_student": 0.15,
}

ALONE: Mapping[str, Any] = {"scorer": "pooled", **{name: getattr(RerankerTraining(), name) for name in BOTH}}

FACTORS: Mapping[str, tuple[Level, ...]] = {
    "side": (("questions alone", ALONE), ("both sides", BOTH)),
    "loss": tuple((name, {"loss": name}) for name in get_args(Loss)),
    "scorer": (
        ("pooled", {"scorer": "pooled"}),
        ("maxsim, both sides", {**BOTH, "scorer": "maxsim"}),
        ("maxsim, both sides, projection", {**BOTH, "scorer": "maxsim", "projection": True}),
        # A cross-encoder's scores have no bounds.
        ("cross", {**BOTH, "scorer": "cross", "projection": False, "tau_student": 1.0}),
    ),
    "candidates": (
        ("32 + 32", {"candidates": 64, "from_rationale": 0.5}),
        ("16 + 16", {"candidates": 32, "from_rationale": 0.5}),
        ("4 + 4", {"candidates": 8, "from_rationale": 0.5}),
        ("8 by the rationale", {"candidates": 8, "from_rationale": 1.0}),
        ("8 by the question", {"candidates": 8, "from_rationale": 0.0}),
    ),
    "lora": (
        ("upper half", {"upper_half": True, "full": False}),
        ("all layers", {"upper_half": False, "full": False}),
        ("no LoRA, every weight", {"full": True, "peak_lr": 5e-5}),  # whole weights bear smaller steps only
    ),
    "rationales": tuple((str(count), {"rationales": count}) for count in (1, 3, 5)),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A setting to compare: the default, the untrained control, or the default with one factor at another level."""

    factor: str
    level: str
    settings: RerankerTraining


def variants(default: RerankerTraining, factors: Sequence[str]) -> list[Variant]:
    """The untrained encoder, the default, then each factor's levels that are not the default's. Raises BadConfig.

    None keeps training questions back to measure itself on: that is done on the same questions for all.
    """
    for factor in factors:
        require(factor in FACTORS, f"factors are {', '.join(FACTORS)}; there is no {factor}")
    plain = replace(default, held_out=0.0, patience=0)
    found = [Variant("control", "untrained", replace(plain, epochs=0)), Variant("default", "as it is", plain)]
    for factor in factors:
        for level, changes in FACTORS[factor]:
            settings = replace(plain, **changes)
            if settings != plain and (factor, level) not in {(v.factor, v.level) for v in found}:
                found.append(Variant(factor, level, settings))
    return found


@dataclass(frozen=True, slots=True)
class AblationRow:
    """What one ranking is worth against one kind of gold passages; shares and differences are by k."""

    factor: str
    level: str
    gold: str
    shares: Mapping[int, Share]
    differences: Mapping[int, Difference]  # {} for the default itself
    training: float | None = None  # seconds; None for BM25, which is not trained
    ranking: float | None = None

    def record(self) -> dict[str, object]:
        """The line as JSON holds it."""
        hits = {
            f"hits_at_{k}": {
                "value": round(share.value, 4),
                "low": round(share.low, 4),
                "high": round(share.high, 4),
                **({"difference": _rounded(self.differences[k])} if k in self.differences else {}),
            }
            for k, share in self.shares.items()
        }
        questions = next((share.of for share in self.shares.values()), 0)
        head = {"factor": self.factor, "level": self.level, "gold": self.gold, "questions": questions}
        return {**head, **hits, "training_seconds": self.training, "ranking_seconds": self.ranking}


def _rounded(difference: Difference) -> dict[str, float]:
    return {
        "value": round(difference.mean, 4),
        "low": round(difference.low, 4),
        "high": round(difference.high, 4),
    }


Ranks = Mapping[int, int | None]
"""By question: the best rank of a passage that it needs, None when none was found."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One ranking of the measured questions: a variant's, or BM25's."""

    factor: str
    level: str
    ranks: Mapping[str, Ranks]  # by kind of gold
    training: float | None = None
    ranking: float | None = None


def lines(rankings: Sequence[Ranked], default: Ranked) -> list[AblationRow]:
    """A line for each kind of gold and ranking, in that order; a gold that no question has gives none."""
    return [
        AblationRow(
            factor=some.factor,
            level=some.level,
            gold=gold,
            shares={k: wilson(sum(_within(some.ranks[gold], k)), len(some.ranks[gold])) for k in CUTOFFS},
            differences={} if some is default else _differences(some.ranks[gold], default.ranks[gold]),
            training=some.training,
            ranking=some.ranking,
        )
        for gold in GOLDS
        for some in rankings
        if some.ranks[gold]
    ]


def _within(ranks: Ranks, k: int) -> list[bool]:
    return [rank is not None and rank <= k for rank in ranks.values()]


def _differences(ranks: Ranks, default: Ranks) -> dict[int, Difference]:
    """By k; both have ranked the same questions."""
    other = {question: default[question] for question in ranks}
    found: dict[int, Difference] = {}
    for k in CUTOFFS:
        values = [a - b for a, b in zip(_within(ranks, k), _within(other, k), strict=True)]
        found[k] = Difference(sum(values) / len(values), *bootstrap(values))
    return found


Table = tuple[list[str], list[list[object]]]


def shares_table(found: Sequence[AblationRow]) -> Table:
    """Header and cells: Hits@k with its 95% interval, and what it cost."""
    header = ["factor", "setting", "questions", *(f"Hits@{k}" for k in CUTOFFS), "training s", "ranking s"]
    return header, [
        [
            *(line.factor, line.level, line.shares[CUTOFFS[0]].of),
            *(str(line.shares[k]) for k in CUTOFFS),
            *("" if seconds is None else f"{seconds:.0f}" for seconds in (line.training, line.ranking)),
        ]
        for line in found
    ]


def differences_table(found: Sequence[AblationRow]) -> Table:
    """Header and cells: Hits@k minus the default's, with its 95% interval."""
    header = ["factor", "setting", *(f"Hits@{k}" for k in CUTOFFS)]
    return header, [
        [line.factor, line.level, *(str(line.differences[k]) for k in CUTOFFS)]
        for line in found
        if line.differences
    ]
