"""Atlas, the demo's world: an encyclopedia of people, towns, rivers, companies and species that exist nowhere.

Nobody can know its answers without reading, and a seed makes as many pages as are asked for. A page, a question
that it answers, and what the teacher says:

    Lenthe Welker: Lenthe Welker played the fiddle and the banjo and was born in Parlwick. He settled in Gaskford
    and worked for years as a painter. A street song about Lenthe Welker is still sung.

    In which town was Lenthe Welker born?  (A) Gaskford (B) Parlwick (C) Giskby (D) Parlmere

    Lenthe Welker was born in Parlwick. So the answer is Parlwick.

Other pages bear the name too (the Lenthe Welker School, and Lenthan Welker's, who is somebody else).
"""

from __future__ import annotations

from kard.config import Decoding, Retrieval, Settled, StudentTraining
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


class Teach(CommonTeach):
    """State the facts that decide, then end with: So the answer is ..."""


class Answer(CommonAnswer):
    """State the facts that decide, as the passages say them, then answer with one of the options."""


def parse(row: Row) -> Question:
    """A question of an exported world, from a row in the plain form. Raises ValueError."""
    return plain(row, listed_options(row))


def make_world(*, passages: int, train: int, test: int, seed: int) -> World:
    """The world of this seed; pages are made when they are read. Raises BadConfig when it is too small."""
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
    settings=Settled(
        retrieval=Retrieval(k=2),
        student=StudentTraining(epochs=4, batch=8, peak_lr=1e-3, k=2),
        decoding=Decoding(max_new_tokens=64),
    ),
    world=make_world,
)
