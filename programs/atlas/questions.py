"""The questions of a world: three of five have four options and one page, the others two pages or yes/no.

Kinds, right answers and their letters are dealt in turn, not drawn: every kind has as many yes as no, and as many
A as B, C and D, as its number allows. Training asks about two lands of three, evaluation about the third, so that
no name asked about in one is ever written in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from kard.errors import BadConfig
from kard.records import Question, digest

from . import comparisons, drafts
from .documents import page_key
from .drafts import Draft
from .facts import SIZE, Land, make_land
from .names import Names

MakeDraft = Callable[[Land, str, str, Random], Draft | None]
"""Drafts a question from a land, a split, the letter of the right answer and a random generator, if it can."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question: its share of all questions, its letters, and what drafts it, in turn."""

    share: float
    letters: str
    drafts: tuple[MakeDraft, ...]


KINDS: Mapping[str, Kind] = {
    "four options, one hop": Kind(0.60, "ABCD", tuple(partial(drafts.four_options, name) for name in drafts.DEAL)),
    "yes/no, one hop": Kind(0.10, "AB", tuple(partial(drafts.yes_no, name) for name in drafts.DEAL)),
    "yes/no, two hops": Kind(0.10, "AB", tuple(partial(drafts.yes_no_of_two, p) for p in comparisons.YES_NO)),
    "four options, two hops": Kind(
        0.20, "ABCD", tuple(partial(drafts.four_options_of_two, p) for p in comparisons.FOUR_OPTIONS)
    ),
}
MOST_LANDS = 64  # lands that one split asks about, spread over the world
TRIES = 30  # drafts per land before the next land is tried


@dataclass(frozen=True, slots=True)
class WorldQuestion:
    """A question, with the draft that holds its teacher's rationales."""

    question: Question
    draft: Draft


class Exhausted(Exception):
    """The lands hold no further question of a kind."""


def questions(names: Names, *, passages: int, train: int, test: int, seed: int) -> list[WorldQuestion]:
    """Return `train` and then `test` questions about a world of `passages` pages.

    Raises BadConfig if the world is too small.
    """
    questions: list[WorldQuestion] = []
    for split, count in (("train", train), ("test", test)):
        numbers = [n for n in range(passages // SIZE) if (n % 3 == 2) == (split == "test")]
        rng = Random(f"atlas questions {seed} {split}")
        chosen = rng.sample(numbers, min(len(numbers), MOST_LANDS))
        lands = [make_land(names, seed, number) for number in chosen]
        try:
            questions += draw_questions(lands, split, count, rng)
        except Exhausted:
            raise BadConfig(
                f"{passages} passages are too few for {count} {split} questions; "
                "ask for more passages or for fewer questions"
            ) from None
    return questions


def draw_questions(lands: Sequence[Land], split: str, count: int, rng: Random) -> list[WorldQuestion]:
    """Return `count` different questions about these lands, in the wordings of the split. Raises Exhausted."""
    used: set[object] = set()
    questions: list[WorldQuestion] = []
    for name, number in shares(count).items():
        kind = KINDS[name]
        letters = [kind.letters[i % len(kind.letters)] for i in range(number)]
        rng.shuffle(letters)
        for i, letter in enumerate(letters):
            start = len(questions) % max(len(lands), 1)
            turns = [*lands[start:], *lands[:start]]
            draft = _new_draft(turns, kind.drafts[i % len(kind.drafts)], split, letter, used, rng)
            questions.append(question_of(draft, split, letter, name))
    rng.shuffle(questions)
    return questions


def shares(count: int) -> dict[str, int]:
    """Return the number of questions of each kind. They sum to `count`, each within 1 of its share."""
    exact = {name: count * kind.share for name, kind in KINDS.items()}
    whole = {name: int(number) for name, number in exact.items()}
    largest_remainder_first = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in largest_remainder_first[: count - sum(whole.values())]:
        whole[name] += 1
    return whole


def question_of(draft: Draft, split: str, letter: str, kind: str) -> WorldQuestion:
    """Return the draft as a question whose right answer has this letter."""
    question = Question(
        key=digest(draft.text, *draft.options),
        split=split,
        text=draft.text,
        options=draft.options,
        answer=letter,
        evidence=tuple(page_key(name) for name in draft.needs),
        facts=draft.facts,
        kind=kind,
    )
    return WorldQuestion(question, draft)


def _new_draft(
    lands: Sequence[Land], make: MakeDraft, split: str, letter: str, used: set[object], rng: Random
) -> Draft:
    """Return a question that is not `used`, from the first land that has one. Raises Exhausted if none has."""
    for land in lands:
        for _ in range(TRIES):
            draft = make(land, split, letter, rng)
            if draft is None:
                break
            if draft.about not in used and draft.text not in used:
                used.update((draft.about, draft.text))
                return draft
    raise Exhausted
