"""What a person chose for a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kard.config import READERS, TaskSettings, require
from kard.methods import METHODS, RERANKED, RETRIEVERS

DEFAULT_METHODS = ("ft", "rd", "kard")


# A reranker may order worse than BM25; `fused` then falls back to BM25 (docs/decisions.md). `silver` needs a
# rationale of each evaluated question.
DEFAULT_RETRIEVERS = ("bm25", "fused")


def default_retrievers(methods: Sequence[str]) -> tuple[str, ...]:
    """Return what students of these methods read by default; BM25's order where no rationale is asked for."""
    explained = any(METHODS[m].trained or METHODS[m].shots for m in methods if m in METHODS)
    return DEFAULT_RETRIEVERS if explained else ("bm25",)


@dataclass(frozen=True, slots=True)
class Teacher:
    """Whom to ask for rationales. `lm` makes the `dspy.LM`; without it nobody is asked and nothing is paid."""

    name: str
    lm: Callable[[], Any] | None = None
    max_cost: float | None = None  # US dollars


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a person chose for a run; the rest comes from the task's own settings."""

    settings: TaskSettings
    sizes: tuple[str, ...]
    methods: tuple[str, ...] = DEFAULT_METHODS
    retrievers: tuple[str, ...] = DEFAULT_RETRIEVERS
    train_limit: int | None = None  # training questions
    limit: int | None = None  # evaluated questions
    split: str | None = None  # evaluated split; found in the store when None
    teacher: Teacher | None = None  # found in the store when None
    encoder: str | None = None  # name of the reranker's base; the task's first when None
    reranker: str | None = None  # id of the reranker to rank with; the one trained with these settings when None
    only: tuple[int, ...] | None = None  # row ids of the questions that are worked on; all when None
    any_reranker: bool = False  # whatever data it was trained on; without these settings too, of the seed first

    def __post_init__(self) -> None:
        for method in self.methods:
            require(method in METHODS, f"method must be one of {', '.join(METHODS)}, not {method}")
        for retriever in self.retrievers:
            require(retriever in RETRIEVERS, f"retriever must be one of {', '.join(RETRIEVERS)}, not {retriever}")

    def check_without_options(self, task: str) -> None:
        """Raise BadConfig for a choice that means something only where questions have options."""
        rules = [method for method in self.methods if METHODS[method].rule]
        wrong = {
            f"method {', '.join(rules)}": bool(rules),
            f"accept={self.settings.teaching.accept}": self.settings.teaching.accept in READERS,
            "student.answer=letter": self.settings.student.answer == "letter",
            f"decide={self.settings.decoding.decide}": self.settings.decoding.decide != "written",
        }
        for choice, is_wrong in wrong.items():
            require(not is_wrong, f"{choice} needs options, and questions of {task} have none; leave it out")

    @property
    def draw(self) -> tuple[float, int]:
        """The share of the training questions that is learned from, and the seed of its draw."""
        return self.settings.teaching.fraction, self.settings.student.seed

    @property
    def reads(self) -> bool:
        """Whether any student reads passages."""
        return any(METHODS[m].reads for m in self.methods) and any(r != "none" for r in self.retrievers)

    def reads_from(self, *retrievers: str) -> bool:
        """Whether any student reads passages of one of these retrievers."""
        return self.reads and any(retriever in self.retrievers for retriever in retrievers)

    @property
    def reranks(self) -> bool:
        """Whether anything is read in the reranker's order, or found with its encoder."""
        return self.reads_from(*RERANKED) or (self.uses_reranker_encoder and self.reads_from("dense", "hybrid"))

    @property
    def uses_rationales(self) -> bool:
        """Whether anything is trained on rationales, shows them, or reads what they found."""
        taught = any(METHODS[m].trained or METHODS[m].shots for m in self.methods)
        return taught or self.reranks or self.reads_from("silver")

    @property
    def uses_silver(self) -> bool:
        """Whether passages that rationales found are read, trained on or shown, or tell how to mix orders."""
        methods = [METHODS[m] for m in self.methods if METHODS[m].reads]
        trains = not self.any_reranker and (self.reranks or any(m.trained for m in methods))
        shows = self.reads and any(m.shots for m in methods)
        return trains or shows or self.reads_from("silver", "fused", "hybrid")

    @property
    def uses_reranker_encoder(self) -> bool:
        """Whether dense search encodes with the trained reranker."""
        return self.settings.retrieval.encoder == "reranker"
