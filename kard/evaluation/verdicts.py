"""Why a wrong answer is wrong. The paper analyses thirty wrong answers by hand; here stored rows decide. Pure.

A wrong answer gets the first of these verdicts that holds:

    no lookup          the condition reads nothing
    teacher error      only a rationale could tell what is needed, and none of the question's was accepted
    undetermined       it is not known what the question needs
    student failure    what it needs was read
    teacher error      (retriever `silver`) the passages were found with a rationale that was not accepted
    undetermined       the passages to choose from are not in the store
    retriever failure  what it needs was among the passages to choose from, and was not read
    knowledge gap      what it needs was not among them

What a question *needs*:

* Its gold evidence, if the data name it: a passage of each document, or with `evidence="any"` of one of them.
* Otherwise one of the first SILVER_DEPTH passages of its first accepted rationale that nothing was trained on. All
  accepted rationales of the split `train` count as trained on.
* A person's judgements then add good passages and remove bad ones. A person's judgement of a rationale overrides
  its parsed conclusion.

The passages to choose from are the list that the condition's retriever ordered: the hits of the question, or for
`silver` those of the rationale. `shuffled` is held to the question's own list.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from kard.config import SILVER_DEPTH

Verdict = Literal[
    "knowledge gap", "retriever failure", "student failure", "teacher error", "undetermined", "no lookup"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Basis = Literal["evidence", "silver", "judged", "wrong rationale", "unknown"]
EvidenceRule = Literal["all", "any"]  # how many of a question's evidence documents it needs


@dataclass(frozen=True, slots=True)
class NeededPassages:
    """What a right answer rests on: one passage of every group."""

    basis: Basis
    groups: tuple[frozenset[str], ...]  # of passage ids; () if it is not known
    why: str  # how it is known, or why it is not

    @property
    def passages(self) -> frozenset[str]:
        """Return every passage of any group."""
        return frozenset().union(*self.groups)

    def held_by(self, passages: Collection[str]) -> int:
        """Return the number of groups with a passage among these."""
        return sum(not group.isdisjoint(passages) for group in self.groups)

    def met_by(self, passages: Collection[str], evidence: EvidenceRule = "all") -> bool:
        """Return whether these passages hold what is needed; False if that is not known."""
        held = self.held_by(passages)
        return held > 0 and (evidence == "any" or held == len(self.groups))


@dataclass(frozen=True, slots=True)
class RationaleFacts:
    """What decides whether a rationale can say what its question needs."""

    id: int
    accepted: bool  # it concludes on the gold answer, or a person judged it good
    trained: bool  # a student or reranker may have learned from it


@dataclass(frozen=True, slots=True)
class QuestionFacts:
    """What the store knows of a question, whoever answers it."""

    documents: Mapping[str, frozenset[str]]  # by gold document: its passages
    rationales: Sequence[RationaleFacts]  # by id
    silver: Mapping[tuple[str, int], Sequence[str]]  # by index and rationale: its first passages
    good: frozenset[str] = frozenset()  # passages that a person judged good
    bad: frozenset[str] = frozenset()

    def needed(self, index_id: str | None) -> NeededPassages:
        """Return what the question needs, as far as it is known on an index."""
        if self.documents:
            count = len(self.documents)
            why = f"{count} gold document{'s' * (count > 1)}"
            return NeededPassages("evidence", tuple(self.documents.values()), why)
        usable = [r for r in self.rationales if r.accepted and not r.trained]
        rationale = next((r for r in usable if index_id and (index_id, r.id) in self.silver), None)
        silver = self.silver[index_id, rationale.id] if rationale and index_id else ()
        group = (frozenset(silver) | self.good) - self.bad
        if group and rationale and not group <= self.good:
            why = f"no evidence; the first {SILVER_DEPTH} passages of rationale {rationale.id}"
            return NeededPassages("silver", (group,), why)
        if group:
            return NeededPassages("judged", (group,), "no evidence; passages that a person judged good")
        if rationale:
            return NeededPassages("unknown", (), f"a person judged the passages of rationale {rationale.id} bad")
        if usable:
            why = f"rationale {usable[0].id} found nothing, or was not searched with"
            return NeededPassages("unknown", (), why)
        if any(r.accepted for r in self.rationales):
            return NeededPassages("unknown", (), "no evidence, and its rationales may have been trained on")
        if self.rationales:
            return NeededPassages("wrong rationale", (), "no evidence, and none of its rationales was accepted")
        return NeededPassages("unknown", (), "neither evidence nor a rationale")


def verdict_of(
    retriever: str,
    needed: NeededPassages,
    read: Collection[str],
    candidates: Collection[str] | None,
    *,
    misled: bool = False,
    evidence: EvidenceRule = "all",
) -> tuple[Verdict, str]:
    """Return the verdict on a wrong answer and the reason for it in a few words.

    `read` are the ids of the passages in the prompt, `candidates` those to choose from (None if they are not in the
    store). `misled` says that the passages were found with a rationale that was not accepted.
    """
    if retriever == "none":
        return "no lookup", "reads no passages"
    if needed.basis == "wrong rationale":
        return "teacher error", needed.why
    if needed.basis == "unknown":
        return "undetermined", needed.why
    if needed.met_by(read, evidence):
        return "student failure", f"what it needs was read ({needed.why})"
    if misled:
        return "teacher error", "searched with a rationale that was not accepted"
    if candidates is None:
        return "undetermined", f"the store does not hold the passages that {retriever} chose from"
    available = {*candidates, *read}
    why = f"{needed.held_by(available)} of {len(needed.groups)} needed among the candidates"
    if needed.met_by(available, evidence):
        return "retriever failure", f"{why}, {needed.held_by(read)} read"
    return "knowledge gap", why
