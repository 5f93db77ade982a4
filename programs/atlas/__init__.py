"""Atlas, the demo's world: an encyclopedia of people, towns, rivers, companies and species that exist nowhere.

Nobody can know its answers without reading, and a seed makes as many pages as are asked for. A page, a question
that it answers, and what the teacher says:

    Trata Dixer: Trata Dixer played both the rattle and the fife and worked for years as a sailor. Trata Dixer
    settled for good in Pletford and was born in Prirnton.

    Where was Trata Dixer born?  (A) Flukwold (B) Pletford (C) Prirnham (D) Prirnton

    Trata Dixer was born in the town of Prirnton. Therefore, the answer is Prirnton.

Other pages bear the name too: those of the Trata Dixer Tower, Theatre and Fountain, and those of Luvo Dixer and
Trite Dixer, who are somebody else.
"""

from __future__ import annotations

from kard.config import Decoding, RerankerTraining, Retrieval, StudentTraining, TaskSettings, Teaching
from kard.errors import BadConfig
from kard.files import Row
from kard.records import Question
from kard.tasks import Task, World

# The parent folder is called kard.programs only once installed.
from .._common import Answer as CommonAnswer  # noqa: TID252
from .._common import RetrieveThenAnswer, listed_options, plain  # noqa: TID252
from .._common import Teach as CommonTeach  # noqa: TID252
from .documents import Documents
from .names import Names
from .questions import questions
from .teacher import Oracle

MOST_PASSAGES = 13_107_200  # beyond, first and last names of people would meet again


class Teach(CommonTeach):
    """State the facts that decide, then end with: So the answer is ..."""


class Answer(CommonAnswer):
    """State the facts that decide, as the passages say them, then answer with one of the options."""


def parse(row: Row) -> Question:
    """A question of an exported world, from a row in the plain form. Raises ValueError."""
    return plain(row, listed_options(row))


def make_world(*, passages: int, train: int, test: int, seed: int) -> World:
    """The world of this seed, its pages made as they are read. Raises BadConfig when too small or too large."""
    if passages > MOST_PASSAGES:
        raise BadConfig(f"atlas has names for at most {MOST_PASSAGES} passages, not {passages}; ask for fewer")
    names = Names(seed)
    asked = questions(names, passages=passages, train=train, test=test, seed=seed)
    return World(
        documents=Documents(names, seed, passages),
        questions=[one.question for one in asked],
        teacher=Oracle(asked),
    )


TASK = Task(
    name="atlas",
    about="the demo: an invented encyclopedia, its questions and its own teacher",
    parse=parse,
    teach=Teach,
    answer=Answer,
    program=RetrieveThenAnswer,
    settings=TaskSettings(
        # BM25 finds all that a question needs within 5 for 9 of 10 questions: 20 are enough to rerank.
        retrieval=Retrieval(kappa=20, k=2, depth=16),
        # Questions cost nothing here: more of them seen once teach more than fewer seen again, at the same cost.
        # With passages best first a student copies from the first, right or wrong: so their order is drawn.
        teaching=Teaching(samples=1),
        # A sharper target: both pages of a question that needs two stand out from their namesakes.
        reranker=RerankerTraining(tau_teacher=2.0),
        # 300 questions in steps of 4 at twice the usual rate teach what 500 in steps of 8 do.
        student=StudentTraining(epochs=1, batch=4, peak_lr=2e-3, k=2, shuffle=True),
        # The longest rationale with its answer has 56 tokens.
        decoding=Decoding(max_new_tokens=60, batch=100),
    ),
    world=make_world,
)
