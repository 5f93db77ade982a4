"""The methods of the paper's table, and where the passages of a prompt come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kard.config import StudentTraining, TaskSettings, require


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the paper's table: what the prompt and what the target contain (section 4.1).

    A method that is not `trained` prompts the base model itself; with the retriever `none` it reads nothing. A
    `rule` has no model: it answers from the passages' words alone.
    """

    name: str
    reads: bool  # the prompt contains passages
    reasons: bool  # a rationale precedes the answer
    trained: bool = True  # an adapter is trained for it
    shots: bool = False  # the prompt contains worked examples
    rule: bool = False  # no model answers

    @property
    def seeded(self) -> bool:
        """Whether a seed decides anything: not of a rule, nor of a base without examples."""
        return self.trained or self.shots

    def training(self, settings: TaskSettings) -> StudentTraining:
        """Return a student's settings as stored: the plain value of each that changes nothing for the method."""
        plain, training = StudentTraining(), settings.student_training
        if not self.reads:
            training = replace(training, k=0, passages=plain.passages)
        if training.k <= 1:  # one passage has one order
            training = replace(training, shuffle=plain.shuffle)
        if training.full:  # no adapters
            training = replace(training, lora=plain.lora)
        if not training.held_out:  # nothing to wait for
            training = replace(training, patience=plain.patience)
        if not self.reasons:
            training = replace(training, wrong=plain.wrong, answer_alone=plain.answer_alone, own=plain.own)
            if not self.reads or training.passages not in ("silver", "shuffled"):  # a question has one pair
                training = replace(training, rationales=plain.rationales, distinct=plain.distinct)
        return training


METHODS: Mapping[str, Method] = {
    m.name: m
    for m in (
        Method("named", reads=True, reasons=False, trained=False, rule=True),
        Method("zero-shot", reads=True, reasons=False, trained=False),
        Method("few-shot", reads=True, reasons=False, trained=False, shots=True),
        Method("few-shot-cot", reads=True, reasons=True, trained=False, shots=True),
        Method("ft", reads=False, reasons=False),
        Method("ka-ft", reads=True, reasons=False),
        Method("rd", reads=False, reasons=True),
        Method("kard", reads=True, reasons=True),
    )
}

NO_MODEL = "-"  # the size of a rule
RETRIEVERS = ("none", "bm25", "reranker", "fused", "dense", "hybrid", "silver", "shuffled")
"""Where the passages of a prompt come from; `shuffled` gives each question those of another one, as a control.

The control follows the reranker where a retriever of `RERANKED` is read beside it, else BM25.
"""
RANKED = ("fused", "dense", "hybrid")  # BM25 with the reranker; nearest vectors; BM25 with nearest vectors
RERANKED = ("reranker", "fused")  # retrievers that need the reranker's scores


def retrievers_of(method: str, retrievers: Sequence[str]) -> tuple[str, ...]:
    """Return those of the retrievers that a student of that method can answer with.

    `none` alone for a method that reads nothing, and not `none` for a rule. Raises BadConfig for a rule without any
    other.
    """
    if not METHODS[method].reads:
        return ("none",)
    retrievers = tuple(dict.fromkeys(retrievers))
    if METHODS[method].rule:
        retrievers = tuple(retriever for retriever in retrievers if retriever != "none")
        require(bool(retrievers), f"{method} answers from passages alone; name another one with --retriever bm25")
    return retrievers
