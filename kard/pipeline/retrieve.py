"""The steps `retrieve` and `ground`: find passages with questions, and with rationales."""

from __future__ import annotations

import json
from collections.abc import Sequence

from kard.acceptance import require_verdicts
from kard.db import execute, insert_ignoring, rows, value, writing
from kard.errors import Missing
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step, cut, evaluated_ids
from kard.records import Passage

FACT_HITS = 10  # passages in which a fact is looked for


def _retrieve_state(run: Run) -> State:
    """Count evaluated questions with and without passages of the current index."""
    from kard.retrieval.retrieve import unsearched

    settings = run.options.settings.retrieval
    missing = unsearched(run.db, run.index_id, run.evaluated, settings)
    return State(
        "questions", len(evaluated_ids(run)) - len(missing), len(missing), _retrievals(run, "question", False)
    )


def _retrieve(run: Run) -> int:
    """Search with the evaluated questions; keep the gold evidence beside what was found."""
    from kard.retrieval.retrieve import copy_evidence, retrieve, unsearched

    copy_evidence(run.db, run.kb, run.name)
    settings = run.options.settings.retrieval
    find_facts(run, [question for question, _ in unsearched(run.db, run.index_id, run.evaluated, settings)])
    return retrieve(run.db, run.kb, run.evaluated, settings, progress=run.progress)


def find_facts(run: Run, question_ids: Sequence[int]) -> None:
    """Store the passages in which facts of questions without evidence stand word for word; they count as evidence.

    Such a passage is among the first that the fact finds.
    """
    from kard.evaluation.contamination import normalized_words
    from kard.retrieval.rankings import copy_passages

    found: list[dict[str, object]] = []
    held: dict[str, Passage] = {}
    facts = 0
    for row in rows(run.db, "internal/questions_with_facts", ids=list(question_ids)):
        for place, fact in enumerate(json.loads(row["facts"])):
            facts += 1
            words = f" {' '.join(normalized_words(fact))} "
            passages = [hit.passage for hit in run.kb.search(fact, FACT_HITS)]
            holding = [p for p in passages if words in f" {' '.join(normalized_words(f'{p.title} {p.text}'))} "]
            held.update((passage.id, passage) for passage in holding)
            found.extend({"question_id": row["id"], "fact": place, "passage_id": p.id} for p in holding)
    copy_passages(run.db, list(held.values()))
    with writing(run.db):
        execute(run.db, "internal/drop_facts", ids=list(question_ids))
        insert_ignoring(run.db, "fact_passages", found)
    if facts and run.options.only is None:  # a part of the questions says nothing of all
        standing = len({(row["question_id"], row["fact"]) for row in found})
        run.notes.append(
            f"{standing:,} of {facts:,} facts of questions without evidence stand word for word in a passage, and"
            " count as evidence"
        )


def _ground_state(run: Run) -> State:
    """Count rationales with and without passages of the current index."""
    from kard.retrieval.retrieve import ungrounded

    settings = run.options.settings.retrieval
    questions = ungrounded(
        run.db, run.index_id, run.trained_on, settings, accept=run.accept, teacher_id=run.verified_teacher
    )
    return State(
        "rationales",
        _retrievals(run, "rationale", True),
        sum(len(question.rationales) for question in questions),
        _retrievals(run, "rationale", False),
    )


def _ground(run: Run) -> int:
    """Search with the rationales. Raises Missing where silver passages are to be read that no rationale finds."""
    from kard.retrieval.retrieve import ground

    training, settings = run.trained_on, run.options.settings.retrieval
    added = ground(
        run.db,
        run.kb,
        training,
        settings,
        accept=run.accept,
        teacher_id=run.verified_teacher,
        only=run.options.only,
        progress=run.progress,
    )
    if run.options.only is None and run.options.reads_from("silver"):
        check_silver(run)  # now, and not when the students are trained
    return added


def check_silver(run: Run) -> None:
    """Raise Missing unless every evaluated question has passages that a rationale found.

    A student would answer the others without passages, and an upper bound over some of the questions would be
    compared with rows over all of them.
    """
    require_verdicts(run.db, run.evaluated, run.accept, run.resolved.silver_teacher)
    settings = run.options.settings.retrieval
    values = {
        **run.evaluated.parameters,
        **settings.forms,
        "max_df": settings.max_df_among(run.kb.count),
        "index": run.index_id,
        "teacher": run.resolved.silver_teacher,
        "accept": run.accept,
    }
    without = value(run.db, "internal/count_without_silver", **values)
    if without:
        raise Missing(
            f"{without} of {len(evaluated_ids(run))} questions of {run.name}/{run.split} have no rationale to find"
            f" silver passages with; ask for them with: kard teach {run.name} --split {run.split} --samples 1"
        )


def _retrievals(run: Run, query: str, current: bool) -> int:
    """Count the task's retrievals of a kind of query on the current index in the run's forms, or all others."""
    values = {"task": run.name, "index": run.index_id, **run.options.settings.retrieval.forms}
    return value(run.db, "internal/count_retrievals", query=query, current=current, **values)


def _to_search(run: Run, parts: int) -> list[RunOptions]:
    """Return runs that search with the questions; what they replace is dropped, and evidence is copied once."""
    from kard.retrieval.rankings import drop_searches
    from kard.retrieval.retrieve import copy_evidence, unsearched

    copy_evidence(run.db, run.kb, run.name)
    missing = unsearched(run.db, run.index_id, run.evaluated, run.options.settings.retrieval)
    questions = [question for question, _ in missing]
    drop_searches(run.db, run.index_id, [(question, None) for question in questions])
    with writing(run.db):
        execute(run.db, "internal/drop_facts", ids=questions)
    return cut(run, questions, parts)


def _to_ground(run: Run, parts: int) -> list[RunOptions]:
    """Return runs that search with the rationales; what they replace is dropped."""
    from kard.retrieval.rankings import drop_searches
    from kard.retrieval.retrieve import ungrounded

    training, settings = run.trained_on, run.options.settings.retrieval
    whose = run.verified_teacher
    missing = ungrounded(run.db, run.index_id, training, settings, accept=run.accept, teacher_id=whose)
    drop_searches(run.db, run.index_id, [(q.question, rationale) for q in missing for rationale, _ in q.rationales])
    return cut(run, [question.question for question in missing], parts)


RETRIEVE = Step(
    "retrieve",
    "find",
    "find passages with each evaluated question",
    _retrieve_state,
    _retrieve,
    drop="internal/drop_retrieve",
    needed=lambda run: run.options.reads,
    parts=_to_search,
)
GROUND = Step(
    "ground",
    "find",
    "find passages with each rationale",
    _ground_state,
    _ground,
    drop="internal/drop_ground",
    needed=lambda run: run.options.uses_silver,
    reads=("teach",),
    parts=_to_ground,
)
