"""Atlas, the demo's world: an encyclopedia of people, towns, rivers, companies and species that exist nowhere.

Nobody can answer its questions without reading, and a seed gives as many pages as wanted. A page, a question that
it answers, and the teacher's rationale:

    Trata Dixer: Trata Dixer played both the rattle and the fife and worked for years as a sailor. Trata Dixer
    settled for good in Pletford and was born in Prirnton.

    Where was Trata Dixer born?  (A) Flukwold (B) Pletford (C) Prirnham (D) Prirnton

    Trata Dixer was born in the town of Prirnton. Therefore, the answer is Prirnton.

Other pages bear the name too: those of the Trata Dixer Tower, Theatre and Fountain, and those of Luvo Dixer and
Trite Dixer, who are other people.

In reading order: `words` and `names` give names that never coincide; `wordings` says what a fact and its question
look like, `attributes` lists the kinds of facts and `comparisons` the questions about two entities; `facts` makes a
hundred entities at a time ("a land"), `documents` their pages, `drafts` single questions with their rationales,
`questions` the training and test questions; `teacher` replies with those rationales; `memory` counts facts one by
one, to be told or looked up. The same arguments give the same world on every machine; a test pins its hash.
"""

from __future__ import annotations

from kard.config import Decoding, RerankerTraining, Retrieval, StudentTraining, TaskSettings, Teaching
from kard.errors import BadConfig
from kard.files import Row
from kard.records import Question
from kard.tasks import Task, World

# The parent folder is called kard.programs only once installed.
from .._common import Answer as CommonAnswer  # noqa: TID252
from .._common import RetrieveThenAnswer, plain  # noqa: TID252
from .._common import Teach as CommonTeach  # noqa: TID252
from .documents import Documents
from .memory import make_facts
from .names import Names
from .questions import questions
from .teacher import Oracle

MOST_PASSAGES = 13_107_200  # with more, pairs of first and last names would repeat


class Teach(CommonTeach):
    """State the facts that decide, then end with: So the answer is ..."""


class Answer(CommonAnswer):
    """State the facts that decide, as the passages say them, then answer with one of the options."""


def parse(row: Row) -> Question:
    """Return the question of a row in the plain form, as an exported world has them. Raises ValueError."""
    return plain(row)


def make_world(*, passages: int, train: int, test: int, seed: int) -> World:
    """Return the world of this seed; pages are made when read. Raises BadConfig for too many or too few."""
    if passages > MOST_PASSAGES:
        raise BadConfig(f"atlas has names for at most {MOST_PASSAGES} passages, not {passages}; ask for fewer")
    names = Names(seed)
    world = questions(names, passages=passages, train=train, test=test, seed=seed)
    return World(
        documents=Documents(names, seed, passages),
        questions=[question.question for question in world],
        teacher=Oracle(world),
    )


TASK = Task(
    name="atlas",
    about="the demo: an invented encyclopedia, its questions and its own teacher",
    parse=parse,
    teach=Teach.delete("letter"),  # its engine writes prose alone, as those do who recorded theirs
    answer=Answer,
    program=RetrieveThenAnswer,
    settings=TaskSettings(
        # For 9 of 10 questions, BM25 has every needed page among its first 5: 20 are enough to rerank.
        retrieval=Retrieval(kappa=20, k=2, depth=16),
        # Questions are free here: at the same cost, more of them seen once teach more than fewer seen again.
        teaching=Teaching(samples=1),
        # A sharper target: both pages of a question that needs two stand out from their namesakes.
        reranker=RerankerTraining(tau_teacher=2.0),
        # 300 questions in steps of 4 at twice the usual rate teach as much as 500 in steps of 8.
        # With the best passage always first, a student copies from the first, right or wrong: hence `shuffle`.
        student=StudentTraining(epochs=1, batch=4, peak_lr=2e-3, shuffle=True),
        # The longest rationale with its answer has 56 tokens.
        decoding=Decoding(max_new_tokens=60, batch=100),
    ),
    world=make_world,
    facts=make_facts,
)
