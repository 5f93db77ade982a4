"""Why an answer was wrong: the paper's analysis of thirty wrong answers by hand, from the rows, on all of them.

A wrong answer has one verdict, the first of these that holds:

    no lookup          the condition reads nothing
    teacher error      only a rationale could tell what is needed, and none of the question's was accepted
    undetermined       it is not known what the question needs
    student failure    what it needs was read
    teacher error      (retriever `silver`) the rationale that was searched with was not accepted
    undetermined       the passages that could be chosen from are not in the store
    retriever failure  what it needs could be chosen, and was not read
    knowledge gap      what it needs could not even be chosen

What a question *needs* is its gold evidence where the data name it: a passage of each document (`needed="any"`: of
one of them, for data that name alternatives beside steps). Elsewhere it is one of the first passages of its
first accepted rationale that nothing was trained on, less those that a person judged bad, and those that a person
judged good. A person's word on a rationale stands above its parsed conclusion. Accepted rationales of the split
`train` count as trained on. The passages to choose from are those that the reranker ranked, or the hits of the
question, or for `silver` those of the rationale; `shuffled` is held to the question's own list.
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
Needed = Literal["all", "any"]  # of a question's evidence documents


@dataclass(frozen=True, slots=True)
class Need:
    """What a right answer rests on: a passage of every group. `why` says how that is known, or why it is not."""

    basis: Basis
    groups: tuple[frozenset[str], ...]  # of passage ids; none when it is not known
    why: str

    @property
    def passages(self) -> frozenset[str]:
        """Every passage that would serve."""
        return frozenset().union(*self.groups)

    def met(self, passages: Collection[str], needed: Needed = "all") -> bool:
        """Whether these passages hold what is needed; never when that is not known."""
        held = self.held(passages)
        return held > 0 and (needed == "any" or held == len(self.groups))

    def held(self, passages: Collection[str]) -> int:
        """The number of groups with a passage among these."""
        return sum(not group.isdisjoint(passages) for group in self.groups)


@dataclass(frozen=True, slots=True)
class Explained:
    """A rationale, as far as it tells what its question needs."""

    id: int
    accepted: bool  # its own conclusion is the gold answer, unless a person said otherwise
    trained: bool  # a student or reranker may have learned from it


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store knows of a question, whoever answers it."""

    documents: Mapping[str, frozenset[str]]  # gold evidence: the passages of each document
    rationales: Sequence[Explained]  # by id
    silver: Mapping[tuple[str, int], Sequence[str]]  # by index and rationale: its first passages
    good: frozenset[str] = frozenset()  # passages that a person judged
    bad: frozenset[str] = frozenset()

    def need(self, index_id: str | None) -> Need:
        """What the question needs, as far as it is known on an index."""
        if self.documents:
            count = len(self.documents)
            return Need("evidence", tuple(self.documents.values()), f"{count} gold document{'s' * (count > 1)}")
        fit = [r for r in self.rationales if r.accepted and not r.trained]
        found = next((r for r in fit if index_id and (index_id, r.id) in self.silver), None)
        silver = self.silver[index_id, found.id] if found and index_id else ()
        needed = (frozenset(silver) | self.good) - self.bad
        if needed and found and not needed <= self.good:
            basis = f"no evidence; the first {SILVER_DEPTH} passages of rationale {found.id}"
            return Need("silver", (needed,), basis)
        if needed:
            return Need("judged", (needed,), "no evidence; passages that a person judged good")
        if found:
            return Need("unknown", (), f"a person judged the passages of rationale {found.id} bad")
        if fit:
            return Need("unknown", (), f"rationale {fit[0].id} found nothing, or was not searched with")
        if any(r.accepted for r in self.rationales):
            return Need("unknown", (), "no evidence, and its rationales may have been trained on")
        if self.rationales:
            return Need("wrong rationale", (), "no evidence, and none of its rationales was accepted")
        return Need("unknown", (), "neither evidence nor a rationale")


def verdict_of(
    retriever: str,
    need: Need,
    read: Collection[str],
    candidates: Collection[str] | None,
    *,
    misled: bool = False,
    needed: Needed = "all",
) -> tuple[Verdict, str]:
    """The verdict on a wrong answer and the reason for it, in a few words.

    `read` and `candidates` are passage ids, `candidates` None when they are not in the store; `misled` when the
    passages were searched with a rationale that was not accepted.
    """
    if retriever == "none":
        return "no lookup", "reads no passages"
    if need.basis == "wrong rationale":
        return "teacher error", need.why
    if need.basis == "unknown":
        return "undetermined", need.why
    if need.met(read, needed):
        return "student failure", f"what it needs was read ({need.why})"
    if misled:
        return "teacher error", "searched with a rationale that was not accepted"
    if candidates is None:
        return "undetermined", f"the store does not hold the passages that {retriever} chose from"
    places = {*candidates, *read}
    chosen = f"{need.held(places)} of {len(need.groups)} needed among the candidates"
    if need.met(places, needed):
        return "retriever failure", f"{chosen}, {need.held(read)} read"
    return "knowledge gap", chosen
