"""Compare settings of the reranker: train each variant, rank the same questions with it, read the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from kard.db import now, writing
from kard.errors import Missing
from kard.pipeline.ablation import EXPERIMENT, GOLDS, AblationRow, Ranked, Variant, lines
from kard.pipeline.run import Run

STEP = "ablate"  # in steps_log; its note is the reranker's id

EXPLAINED = """
select count(*) from questions where task = :task and split = 'train' and id <= (
    select max(q.id) from questions q join rationales r on r.question_id = q.id
    where q.task = :task and q.split = 'train' and r.accepted and r.teacher_id = :teacher)
"""
MEASURED = "(select id from questions where task = :task and split = :split order by id limit :measured)"
NEEDED = f"select distinct question_id, passage_id, source from needed_passages where question_id in {MEASURED}"
BY_BM25 = f"""
select r.question_id, h.passage_id, h.rank from retrievals r join hits h on h.retrieval_id = r.id
where r.query = 'question' and r.index_id = :index and r.question_id in {MEASURED}
"""
BY_RERANKER = f"""
select r.question_id, s.passage_id, s.rank from retrievals r join rerank_scores s on s.retrieval_id = r.id
where s.reranker_id = :reranker and r.index_id = :index and r.question_id in {MEASURED}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The first `measured` questions of `split` are ranked; of the train split `trained` are trained on.

    Those come after the first `skip`, so that no question is on both sides.
    """

    split: str
    measured: int
    skip: int
    trained: int


def sample_of(work: Run, limit: int, measured: int) -> Sample:
    """At most `limit` questions to train on and `measured` to measure on, of the chosen split or else of train.

    Only questions up to the last one with an accepted rationale count; at most a third of them is kept from
    training. Raises Missing when there are too few.
    """
    values = {"task": work.task.name, "teacher": work.teacher_id()}
    there = int(work.db.execute(EXPLAINED, values).fetchone()[0])
    split = work.choices.split or "train"
    skip = min(measured, there // 3) if split == "train" else 0
    trained = min(limit, there - skip)
    if trained < 2 or (split == "train" and skip < 1):
        name = work.task.name
        raise Missing(
            f"{there} training questions of {name} have rationales, too few to train on some and to rank others; "
            f"ask for more with: kard teach {name} --model PROVIDER/MODEL"
        )
    return Sample(split, skip or measured, skip, trained)


def ablate(work: Run, variants: Sequence[Variant], sample: Sample, kappa: int) -> list[AblationRow]:
    """Train and rank with every variant that was not yet; what all are worth.

    The first `kappa` passages by BM25 are ranked, or as many as an earlier run retrieved. Each training and each
    batch of rankings is kept when it is done.
    """
    from kard.models.bases import resolve
    from kard.reranker.dataset import read_lessons
    from kard.reranker.training import train_reranker

    _find(work, sample, kappa)
    index = work.index_id
    lessons = read_lessons(
        work.db, work.task.name, index, teacher_id=work.teacher_id(), limit=sample.trained, skip=sample.skip
    )
    base = resolve(work.encoder)
    rankings = [Ranked("control", "BM25 alone", _ranks(work, sample, None))]
    for variant in variants:
        trained = train_reranker(
            work.db,
            work.task.name,
            base,
            work.adapters,
            variant.settings,
            index_id=index,
            lessons=lessons,
            experiment=EXPERIMENT,
            knowledge=work.knowledge,
            progress=work.progress,
        )
        _rank(work, variant, trained, sample)
        rankings.append(
            Ranked(
                variant.factor,
                variant.level,
                _ranks(work, sample, trained),
                _seconds(work, "select milliseconds from rerankers where id = ?", trained),
                _seconds(
                    work, f"select sum(milliseconds) from steps_log where step = '{STEP}' and note = ?", trained
                ),
            )
        )
    return lines(rankings, next(some for some in rankings if some.factor == "default"))


def _find(work: Run, sample: Sample, kappa: int) -> None:
    """Search with what is measured, and with the rationales of everything that takes part."""
    from kard.retrieval.ground import ground
    from kard.retrieval.retrieve import copy_evidence, retrieve

    settings = replace(work.choices.settings.retrieval, kappa=kappa, k=1)
    copy_evidence(work.db, work.base, work.task.name)
    retrieve(
        work.db,
        work.base,
        work.task.name,
        settings,
        split=sample.split,
        limit=sample.measured,
        progress=work.progress,
    )
    ground(
        work.db,
        work.base,
        work.task.name,
        settings,
        limit=sample.skip + sample.trained,
        progress=work.progress,
    )


def _rank(work: Run, variant: Variant, reranker_id: str, sample: Sample) -> None:
    from kard.reranker.model import Reranker
    from kard.retrieval.rerank import rerank, unranked

    where = (work.task.name, work.index_id)
    if not unranked(work.db, reranker_id, *where, split=sample.split, limit=sample.measured):
        return
    started, begin = now(), monotonic()
    reranker = Reranker.load(work.db, reranker_id, work.adapters)
    reranker.fast = True
    added = rerank(
        work.db,
        reranker,
        reranker_id,
        *where,
        split=sample.split,
        limit=sample.measured,
        # A pooled vector is 768 bytes; the token vectors of every variant would fill the disk.
        knowledge=work.knowledge if variant.settings.scorer == "pooled" else None,
        progress=work.progress,
    )
    with writing(work.db):
        work.db.table("steps_log").insert(
            {
                "task": work.task.name,
                "step": STEP,
                "started": started,
                "milliseconds": (monotonic() - begin) * 1000,
                "added": added,
                "note": reranker_id,
            }
        )


def _ranks(work: Run, sample: Sample, reranker_id: str | None) -> dict[str, dict[int, int | None]]:
    """By kind of gold and measured question: the best rank of a needed passage by the reranker, or by BM25."""
    values = {
        "task": work.task.name,
        "split": sample.split,
        "measured": sample.measured,
        "index": work.index_id,
        "reranker": reranker_id,
    }
    ranks: dict[tuple[int, str], int] = {}
    for question, passage, rank in work.db.execute(BY_BM25 if reranker_id is None else BY_RERANKER, values):
        ranks[int(question), str(passage)] = int(rank)
    found: dict[str, dict[int, int | None]] = {gold: {} for gold in GOLDS}
    for question, passage, gold in work.db.execute(NEEDED, values):
        rank, best = ranks.get((int(question), str(passage))), found[gold].get(int(question))
        found[gold][int(question)] = best if rank is None else rank if best is None else min(rank, best)
    return found


def _seconds(work: Run, sql: str, reranker_id: str) -> float | None:
    row = work.db.execute(sql, [reranker_id]).fetchone()
    return None if row is None or row[0] is None else round(float(row[0]) / 1000, 1)
