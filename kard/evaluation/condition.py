"""One column of an experiment: who answers, what it reads, how it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.config import METHODS, RERANKED, RETRIEVERS, Decoding, require
from kard.records import canonical, digest

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Condition:
    """One column of an experiment: who answers, what it reads, how it is decoded."""

    split: str
    student_id: str
    method: str
    retriever: str
    k: int  # passages in the prompt
    decoding: Decoding
    index_id: str | None = None
    reranker_id: str | None = None
    retriever_id: str | None = None  # of a fused, dense or hybrid retriever
    kappa: int | None = None  # candidates that the reranker orders, None for the task's own number

    def __post_init__(self) -> None:
        require(
            self.retriever in RETRIEVERS,
            f"retriever must be one of {', '.join(RETRIEVERS)}, not {self.retriever}",
        )
        require(
            METHODS[self.method].reads or self.retriever == "none",
            f"a student of method {self.method} reads no passages; use --retriever none",
        )

    @property
    def reranked(self) -> bool:
        """Whether the reranker decides what is read."""
        return self.retriever in RERANKED

    def row(self, task: str) -> dict[str, object]:
        """The condition as a row of `evaluations`; its hash is over what decides the answers."""
        reads = self.retriever != "none"
        decided: dict[str, object] = {
            "task": task,
            "split": self.split,
            "student_id": self.student_id,
            "retriever": self.retriever,
            "index_id": self.index_id if reads else None,
            "reranker_id": self.reranker_id if self.reranked else None,
            "k": self.k if reads else 0,
            "decoding": canonical({k: v for k, v in self.decoding.values().items() if k != "batch"}),
        }
        # Left out where they are not set, so that answers from before they existed keep their hash.
        more = {"retriever_id": self.retriever_id, "kappa": self.kappa if self.reranked else None}
        decided.update((name, value) for name, value in more.items() if value is not None)
        return {**decided, "hash": digest(canonical(decided))}
