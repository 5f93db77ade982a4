"""A condition of an experiment, and the passages that it gives to each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.config import Accept, Decoding, QueryForm, RationaleForm, require
from kard.db import rows
from kard.errors import Missing
from kard.methods import METHODS, RANKED, RERANKED, RETRIEVERS
from kard.passages import shuffled
from kard.records import Passage, canonical, digest

if TYPE_CHECKING:
    from sqlite_utils import Database

CANDIDATES = (*RERANKED, "hybrid")  # retrievers that order the first kappa passages of BM25 or of both searches
CONTROL = "shuffled"  # orders them too if it follows a reranker
PassagesRead = Mapping[int, Sequence[Passage]]  # by question id; best passage first


@dataclass(frozen=True, slots=True)
class Condition:
    """One column of an experiment: which student answers, what it reads, how it is decoded."""

    split: str
    student_id: str
    method: str
    retriever: str
    k: int  # passages in the prompt
    decoding: Decoding
    index_id: str | None = None
    reranker_id: str | None = None
    retriever_id: str | None = None  # of a fused, dense or hybrid retriever
    form: QueryForm = "question"  # of the question's query
    rationale_form: RationaleForm = "rationale"  # of the rationale's query, which finds silver passages
    kappa: int | None = None  # passages that a retriever of CANDIDATES orders; it must be set for these
    max_df: float = 1.0  # share of passages; query terms that occur in more of them were dropped
    teacher_id: str | None = None  # whose rationales find silver passages; None for any
    accept: Accept = "own"  # rule that accepts these rationales

    def __post_init__(self) -> None:
        require(
            self.retriever in RETRIEVERS,
            f"retriever must be one of {', '.join(RETRIEVERS)}, not {self.retriever}",
        )
        require(
            METHODS[self.method].reads or self.retriever == "none",
            f"a student of method {self.method} reads no passages; use --retriever none",
        )
        require(
            self.kappa is not None or not self.orders_candidates,
            f"kappa must be the number of passages that {self.retriever} orders, not None",
        )

    @property
    def reranked(self) -> bool:
        """Whether the passages depend on a reranker."""
        return self.retriever in RERANKED or (self.retriever == CONTROL and self.reranker_id is not None)

    @property
    def orders_candidates(self) -> bool:
        """Whether the number of candidates decides what is read."""
        return self.reranked or self.retriever in CANDIDATES

    def row(self, task: str) -> dict[str, object]:
        """Return the condition as a row of `evaluations`. Its hash covers everything that decides the answers."""
        reads, silver = self.retriever != "none", self.retriever == "silver"
        rule = METHODS[self.method].rule
        decoding = {} if rule else {k: v for k, v in self.decoding.values().items() if k != "batch"}
        decides: dict[str, object] = {
            "task": task,
            "split": self.split,
            "student_id": self.student_id,
            "retriever": self.retriever,
            "index_id": self.index_id if reads else None,
            "reranker_id": self.reranker_id if self.reranked else None,
            "retriever_id": self.retriever_id if self.retriever in RANKED else None,
            "k": self.k if reads else 0,
            "kappa": self.kappa if self.orders_candidates else None,
            "form": "none" if not reads else self.rationale_form if silver else self.form,
            "max_df": self.max_df if reads else None,
            "teacher_id": self.teacher_id if silver else None,
            "accept": self.accept if silver else None,
            "decoding": canonical(decoding),
        }
        return {**decides, "hash": digest(canonical(decides))}


def passages_read(db: Database, task: str, condition: Condition) -> PassagesRead:
    """Return the passages that the condition puts into the prompt of each question of its split.

    `bm25` and `reranker` search with the question (section 3.4). `silver` searches with its first accepted
    rationale, or its first where none is: the upper bound of the paper's tables. `shuffled` gives each question the
    passages of another question, by the reranker if the condition has one, else by BM25. `fused`, `dense` and
    `hybrid` read the rankings stored under `retriever_id`. The reranker orders the first `condition.kappa`
    candidates.
    Raises Missing if a step that the retriever depends on has not been run.
    """
    retriever = condition.retriever
    if retriever == "none":
        return {}
    if condition.index_id is None:
        raise Missing(f"retriever {retriever!r} needs a knowledge base; make one with: kard index SOURCE")
    source = "ranked" if retriever in RANKED else "reranked" if condition.reranked else retriever
    source = "bm25" if source == CONTROL else source
    if source == "ranked" and condition.retriever_id is None:
        raise Missing(f"nothing is ranked by {retriever!r} yet; run: kard run {task} --retriever {retriever}")
    if source == "reranked" and condition.reranker_id is None:
        raise Missing(f"retriever {retriever!r} needs a reranker; train one with: kard train reranker {task}")
    parameters = {
        "task": task,
        "split": condition.split,
        "k": condition.k,
        "form": condition.form,
        "rationale_form": condition.rationale_form,
        "kappa": condition.kappa,
        "index": condition.index_id,
        "reranker": condition.reranker_id,
        "retriever": condition.retriever_id,
        "max_df": condition.max_df,
        "teacher": condition.teacher_id,
        "accept": condition.accept,
    }
    passages: dict[int, list[Passage]] = {}
    for row in rows(db, f"internal/read_{source}", **parameters):
        passage = Passage(row["id"], row["document"], row["part"], row["title"], row["text"])
        passages.setdefault(row["question_id"], []).append(passage)
    if not passages:
        step = "accepted rationales of this split" if retriever == "silver" else "retrieval"
        raise Missing(f"no {step} for {task}/{condition.split} on the current index; run: kard run {task}")
    return shuffled(passages) if retriever == CONTROL else passages
