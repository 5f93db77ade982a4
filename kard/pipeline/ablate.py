"""Compare settings of the reranker: train each variant, rank the same questions with it, read the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from kard.db import now, rows, value
from kard.errors import Missing
from kard.pipeline.ablation import EXPERIMENT, GOLDS, AblationRow, Ranked, Variant, lines
from kard.pipeline.run import Run
from kard.processes import release_memory
from kard.questions import QuestionSet


@dataclass(frozen=True, slots=True)
class Sample:
    """The first `measured` questions of `split` are ranked; those of `trained` with a rationale are trained on.

    Those are the train split's after the first `skip`, so that no question is on both sides.
    """

    split: str
    measured: int
    skip: int
    trained: int

    def measured_questions(self, task: str) -> QuestionSet:
        """Return the questions whose passages are ranked."""
        return QuestionSet(task, self.split, self.measured)


def sample_of(run: Run, trained: int, measured: int) -> Sample:
    """Return at most `trained` questions to train on and `measured` to measure on, of the chosen split or of train.

    Only questions up to the last one with an accepted rationale count; at most a third of them is kept from
    training. Raises Missing if there are too few.
    """
    explained = value(
        run.db, "internal/explained_questions", task=run.name, teacher=run.teacher_id, accept=run.accept
    )
    split = run.options.split or "train"
    measured = len(QuestionSet(run.name, split, measured).read(run.db))
    skip = min(measured, explained // 3) if split == "train" else 0
    trained = min(trained, explained - skip)
    if trained < 2 or (split == "train" and skip < 1):
        raise Missing(
            f"{explained} training questions of {run.name} have rationales, too few to train on some and to rank"
            f" others; ask for more with: kard teach {run.name} --model PROVIDER/MODEL"
        )
    return Sample(split, skip or measured, skip, trained)


def ablate(run: Run, variants: Sequence[Variant], sample: Sample, kappa: int) -> tuple[list[AblationRow], int]:
    """Train and rank with every variant that was not yet; return what each is worth, and the questions trained on.

    Only the first `kappa` passages by BM25 count. Each training and each batch of rankings is stored when
    it is done.
    """
    from kard.models.bases import resolve
    from kard.reranker.dataset import read_dataset
    from kard.reranker.training import train_reranker

    _find(run, sample, kappa)
    questions = QuestionSet(run.name, "train", sample.trained)
    dataset = read_dataset(
        run.db,
        questions,
        run.index_id,
        teacher_id=run.teacher_id,
        accept=run.accept,
        skip=sample.skip,
        settings=run.options.settings.retrieval,
    )
    base = resolve(run.encoder)
    rankings = [Ranked("control", "BM25 alone", _best_ranks(run, sample, kappa, None))]
    for variant in variants:
        reranker_id = train_reranker(
            run.db,
            dataset,
            base,
            variant.settings,
            run.adapters,
            knowledge=run.knowledge,
            experiment=EXPERIMENT,
            progress=run.progress,
        )
        _rank(run, variant, reranker_id, sample)
        training = run.db.execute("select milliseconds from rerankers where id = ?", [reranker_id]).fetchone()[0]
        ranking = value(run.db, "internal/ranking_milliseconds", reranker=reranker_id)
        ranks = _best_ranks(run, sample, kappa, reranker_id)
        rankings.append(Ranked(variant.factor, variant.level, ranks, _seconds(training), _seconds(ranking)))
        release_memory()
    default = next(ranking for ranking in rankings if ranking.factor == "default")
    return lines(rankings, default), dataset.data.questions


def _find(run: Run, sample: Sample, kappa: int) -> None:
    """Search with the measured questions, and with the rationales of all questions that take part."""
    from kard.retrieval.retrieve import copy_evidence, ground, retrieve

    settings = replace(run.options.settings.retrieval, kappa=kappa, k=1)
    copy_evidence(run.db, run.kb, run.name)
    retrieve(run.db, run.kb, sample.measured_questions(run.name), settings, progress=run.progress)
    training = QuestionSet(run.name, "train", sample.skip + sample.trained)
    whose = run.verified_teacher
    ground(run.db, run.kb, training, settings, accept=run.accept, teacher_id=whose, progress=run.progress)


def _rank(run: Run, variant: Variant, reranker_id: str, sample: Sample) -> None:
    """Rank the measured questions' passages, unless that was done."""
    from kard.pipeline.steps import log_step
    from kard.reranker.model import Reranker
    from kard.retrieval.rerank import rerank, unscored

    questions = sample.measured_questions(run.name)
    form = run.options.settings.retrieval.query
    if not unscored(run.db, reranker_id, run.index_id, questions, form):
        return
    started, begin = now(), monotonic()
    reranker = Reranker.load(run.db, reranker_id, run.adapters)
    reranker.fast = True
    added = rerank(
        run.db,
        reranker,
        reranker_id,
        run.index_id,
        questions,
        form,
        # A pooled vector is 768 bytes; the token vectors of every variant would fill the disk.
        knowledge=run.knowledge if variant.settings.scorer == "pooled" else None,
        progress=run.progress,
    )
    log_step(run, "ablate", started, begin, added, note=reranker_id)


def _best_ranks(run: Run, sample: Sample, kappa: int, reranker_id: str | None) -> dict[str, dict[int, int | None]]:
    """Return each measured question's best rank of a needed passage, by kind of gold; None means BM25."""
    measured = {
        **sample.measured_questions(run.name).parameters,
        **run.options.settings.retrieval.forms,
        "index": run.index_id,
    }
    if reranker_id is None:
        ranked = rows(run.db, "internal/bm25_ranks", **measured, kappa=kappa)
    else:
        ranked = rows(run.db, "internal/reranker_ranks", **measured, kappa=kappa, reranker=reranker_id)
    ranks: dict[tuple[int, str], int] = {(r["question_id"], r["passage_id"]): r["rank"] for r in ranked}
    best_ranks: dict[str, dict[int, int | None]] = {gold: {} for gold in GOLDS}
    for needed in rows(
        run.db, "internal/needed_of_questions", **measured, teacher=run.teacher_id, accept=run.accept
    ):
        question, of_gold = needed["question_id"], best_ranks[needed["source"]]
        rank, best = ranks.get((question, needed["passage_id"])), of_gold.get(question)
        of_gold[question] = best if rank is None else rank if best is None else min(rank, best)
    return best_ranks


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(float(milliseconds) / 1000, 1)
