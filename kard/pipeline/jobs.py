"""Steps in parts: each part is done by a worker on a copy of the store, and joined to the store when it is done.

The store has one writer, the process that asks. A worker gets a copy, does its part as any run does, and sends back
the rows and adapters that it made. Joining adds what is missing, so that a part which was done twice counts once.
Knowledge bases are read where they lie: every worker must see them under the same path.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from io import BytesIO
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from kard import tasks
from kard.db import open_store, sql
from kard.evaluation.answer import answer, drop_outdated, unanswered
from kard.evaluation.condition import Condition
from kard.files import adapters_folder
from kard.methods import METHODS
from kard.pipeline.merge import TABLES, merge
from kard.pipeline.options import RunOptions, Teacher
from kard.pipeline.run import Run
from kard.pipeline.step import Step, cut
from kard.pipeline.students import answering_student
from kard.processes import release_memory
from kard.work.claims import Claims, claimed
from kard.work.workers import Shared, Workers, add_folder, require_seen, unpacked

PARTS = 3  # of a step for each worker, so that all end at about the same time
MADE = "made.db"
OF_QUESTIONS = ("rationales", "fact_passages", "retrievals", "predictions")  # with a column `question_id`
NEW = {"passages": "rowid", "predictions": "id", "hits": "retrieval_id", "samples": "prediction_id"}
"""Tables of which a part sends new rows alone, and the column that tells them."""
FOLLOWING = {"hits": "retrievals", "rerank_scores": "retrievals", "samples": "predictions"}
NAMED = ("indexes", "teachers", "rerankers", "retrievers", "students", "evaluations")  # small tables
SENT = ("questions", *NAMED, "passages", *OF_QUESTIONS, *FOLLOWING)


@dataclass(frozen=True, slots=True)
class Job:
    """A part of a step: what a run with these options does, or, with conditions, answers under them."""

    task: str  # name, or path of a person's own file
    bases: Mapping[str, str]  # of students, by size
    options: RunOptions
    knowledge: Path
    searched: bool  # whether it may read the knowledge base
    store: Path
    work: Callable[[Run], object] | None
    conditions: tuple[Condition, ...] = ()

    @property
    def units(self) -> int:
        """Questions, or one thing that is trained."""
        return 1 if self.options.only is None else len(self.options.only)


@dataclass(frozen=True, slots=True)
class Made:
    """What a job made, and what a person should hear of it."""

    archive: bytes  # a zip file: the new rows as a store, and the new adapters
    notes: tuple[str, ...]


def run_step_on(workers: Workers, runs: Sequence[Run], step: Step) -> int:
    """Let workers do what runs of one store lack of a step, as far as it is cut into parts; return the units done.

    A single part gains nothing from processes of this machine, and is left to this one.
    """
    parts = PARTS * workers.count
    with Claims(runs[0].db, "answers") as claims:
        jobs = [job for run in runs for job in _jobs(run, step, parts, claims)]
        if len(jobs) < (1 if workers.elsewhere else 2):
            return 0
        missing = sum(step.state(run).missing for run in runs)
        _do_all(workers, runs[0], jobs, step.about, heavy=step.name not in ("retrieve", "ground"))
    for run in runs:
        run.refresh()
    return missing - sum(step.state(run).missing for run in runs)


def _jobs(run: Run, step: Step, parts: int, claims: Claims) -> list[Job]:
    """Return what a run lacks of a step, in about so many parts, but for conditions that others have claimed."""
    if step.parts is not None:
        return [_job(run, part, step.run) for part in step.parts(run, parts)]
    jobs: list[Job] = []
    conditions = {str(c.row(run.name)["hash"]): c for c in (step.conditions(run) if step.conditions else ())}
    own = claims.take(list(conditions))
    for condition in (condition for key, condition in conditions.items() if key in own):
        drop_outdated(run.db, run.name, condition)
        left = unanswered(run.db, run.name, condition, run.evaluated)
        shares = cut(run, list(left), ceil(parts / len(conditions)))
        jobs += [replace(_job(run, share, None), conditions=(condition,)) for share in shares]
    return jobs


def _job(run: Run, options: RunOptions, work: Callable[[Run], object] | None) -> Job:
    # Who asks a teacher is the process with the store: a worker knows the name alone.
    options = replace(options, teacher=options.teacher and Teacher(options.teacher.name))
    knowledge, store = run.knowledge.resolve(), run.store.resolve()
    searched = knowledge.exists() and any(METHODS[method].reads for method in options.methods)
    return Job(run.task.source, run.task.students, options, knowledge, searched, store, work)


def _do_all(workers: Workers, run: Run, jobs: Sequence[Job], about: str, *, heavy: bool) -> None:
    """Do the jobs and join to the run's store what each made. What a job raises, is raised."""
    if not jobs:
        return
    waiting = "waiting for another process whose workers do the same"
    with (
        claimed(run.db, "parts", f"{run.name} {about}", lambda: run.progress.note(waiting)),
        TemporaryDirectory(prefix="kard-", ignore_cleanup_errors=True) as folder,
        run.progress.bar(about, sum(job.units for job in jobs)) as advance,
    ):
        for job, made in workers.run(do, jobs, _bundle(run, jobs, Path(folder)), heavy=heavy):
            run.notes.extend(note for note in made.notes if note not in run.notes)
            with unpacked(made.archive) as returned:
                _forget_changed(returned / MADE, run.store)
                merge(run.db, run.store, returned / MADE)
            advance(job.units)


def _forget_changed(made: Path, store: Path) -> None:
    """Drop what a part says of questions and rationales that the store has not, or no longer as they were."""
    with closing(sqlite3.connect(made)) as db:
        db.execute("attach database ? as store", [str(store)])
        db.execute(sql("internal/drop_changed_questions"))
        db.execute(sql("internal/drop_changed_rationales"))
        db.commit()


def do(job: Job, bundle: Shared) -> Made:
    """Do a job on a copy of the store, in a worker. Raises WorkersFailed if it does not see the knowledge base."""
    if job.searched:
        require_seen(job.knowledge)
    with unpacked(bundle) as folder:
        store = folder / job.store.name
        with closing(open_store(store)) as db:
            db.execute("delete from claims")  # they are of the store that this is a copy of
            task = replace(tasks.load(job.task), students=job.bases)
            run = Run(db, task, job.options, store, job.knowledge, adapters_folder(store))
            # Beside the store the next run's worker finds it, too.
            if job.store.exists() and os.access(job.store.parent, os.W_OK):
                run.checkpoints = adapters_folder(job.store)
            last = {table: _last(run, FOLLOWING.get(table, table)) for table in NEW}
            before = _adapters(run)
            for condition in job.conditions:
                answer(db, task, [(answering_student(run, condition), condition)], questions=run.evaluated)
            if job.work is not None:
                job.work(run)
            release_memory()
            return Made(_pack(run, last, _adapters(run) - before), tuple(run.notes))


def _last(run: Run, table: str) -> int:
    return run.db.execute(f"select coalesce(max(rowid), 0) from {table}").fetchone()[0]


def _adapters(run: Run) -> set[Path]:
    return set(run.adapters.iterdir()) if run.adapters.is_dir() else set()


def _bundle(run: Run, jobs: Iterable[Job], folder: Path) -> Path:
    """Write a zip file with the store as it is and the adapters that the jobs read; return its path."""
    copy = folder / run.store.name
    with closing(sqlite3.connect(copy)) as connection:
        run.db.conn.backup(connection)
    wanted = {id for job in jobs for c in job.conditions for id in (c.student_id, c.reranker_id)}
    wanted |= {job.options.reranker for job in jobs}
    with ZipFile(folder / "bundle.zip", "w") as archive:
        archive.write(copy, copy.name)
        for adapter in _adapters(run):
            if adapter.name in wanted:
                add_folder(archive, adapter, run.adapters.parent)
    return folder / "bundle.zip"


def _pack(run: Run, last: Mapping[str, int], adapters: Collection[Path]) -> bytes:
    """Return a zip file with these adapters and the rows of the job's questions that came after the `last` ones."""
    made = run.store.with_name(MADE)
    with closing(sqlite3.connect(made)) as empty:
        known = run.db.execute("select name, sql from sqlite_master where type = 'table'").fetchall()
        for statement in (sql for name, sql in known if name in {table.name for table in TABLES}):
            empty.execute(statement)
    run.db.execute("pragma foreign_keys = off")
    run.db.execute("attach database ? as made", [str(made)])
    for table in SENT:
        wanted = ["true"]
        if table == "questions" or table in OF_QUESTIONS:
            column = "id" if table == "questions" else "question_id"
            wanted.append(f"{column} in (select value from json_each(:questions))")
        if table in FOLLOWING:
            parent = FOLLOWING[table]
            wanted.append(f"{parent.removesuffix('s')}_id in (select id from made.{parent})")
        if table in NEW:
            wanted.append(f"{NEW[table]} > :last")
        values = {"questions": json.dumps(run.options.only or ()), "last": last.get(table, 0)}
        copied = f"select * from main.{table} where {' and '.join(wanted)}"
        run.db.execute(f"insert into made.{table} {copied}", values)
    run.db.conn.commit()
    run.db.execute("detach database made")
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.write(made, MADE)
        for adapter in adapters:
            add_folder(archive, adapter, run.adapters.parent)
    return packed.getvalue()
