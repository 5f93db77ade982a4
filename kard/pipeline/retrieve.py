"""The steps `retrieve` and `ground`: passages found with questions, and with rationales."""

from __future__ import annotations

from kard.pipeline.run import Run
from kard.pipeline.step import OF_TASK, State, Step, count, tested_ids


def retrieve_state(work: Run) -> State:
    """Evaluated questions with and without passages on the current index."""
    from kard.retrieval.retrieve import lacking

    settings = work.choices.settings.retrieval
    index, tested = work.index_id, tested_ids(work)
    missing = lacking(work.db, index, work.task.name, settings, split=work.split, limit=work.choices.test_limit)
    outdated = count(work, f"{_RETRIEVALS} and query = 'question' and index_id <> :index", index=index)
    return State("questions", len(tested) - len(missing), len(missing), outdated)


def retrieve(work: Run) -> int:
    """Search with the evaluated questions; keep the gold evidence beside what was found."""
    from kard.retrieval.retrieve import copy_evidence
    from kard.retrieval.retrieve import retrieve as search

    copy_evidence(work.db, work.base, work.task.name)
    return search(
        work.db,
        work.base,
        work.task.name,
        work.choices.settings.retrieval,
        split=work.split,
        limit=work.choices.test_limit,
        progress=work.progress,
    )


def ground_state(work: Run) -> State:
    """Rationales with and without passages on the current index."""
    from kard.retrieval.ground import ungrounded

    index = work.index_id
    found = ungrounded(work.db, index, work.task.name, work.choices.settings.retrieval, limit=work.choices.limit)
    return State(
        "rationales",
        count(work, f"{_RETRIEVALS} and query = 'rationale' and index_id = :index", index=index),
        sum(len(question.rationales) for question in found),
        count(work, f"{_RETRIEVALS} and query = 'rationale' and index_id <> :index", index=index),
    )


def ground(work: Run) -> int:
    """Search with the rationales."""
    from kard.retrieval.ground import ground as search

    return search(
        work.db,
        work.base,
        work.task.name,
        work.choices.settings.retrieval,
        limit=work.choices.limit,
        progress=work.progress,
    )


_RETRIEVALS = f"select count(*) from retrievals where question_id {OF_TASK}"

RETRIEVE = Step(
    "retrieve",
    "passages found with each evaluated question",
    retrieve_state,
    retrieve,
    f"delete from retrievals where query = 'question' and question_id {OF_TASK}",
)
GROUND = Step(
    "ground",
    "passages found with each rationale",
    ground_state,
    ground,
    f"delete from retrievals where query = 'rationale' and question_id {OF_TASK}",
    needs=("teach",),
)
