"""Verify rationales with a base model on this machine, which needs no key: it scores the options (section 3.1)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kard.answers.parsing import without_conclusions
from kard.progress import SILENT, Progress
from kard.records import LETTERS, canonical, digest
from kard.teacher.calls import Reply
from kard.teacher.records import TeacherInfo, store_teacher
from kard.teacher.verify import (
    UnverifiedRationale,
    VerifySummary,
    require_rationales,
    store_opinion,
    unverified,
)

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.models.bases import Base
    from kard.questions import QuestionSet
    from kard.student.generation.student import LoadedBase
    from kard.tasks import Task

MAX_LENGTH = 1024  # tokens of what the base reads; a longer rationale loses its beginning
BATCH = 8  # rationales a pass and a commit


def verify_with_base(
    db: Database,
    task: Task,
    questions: QuestionSet,
    base: str | None,
    *,
    name: str | None = None,
    teacher: str | None = None,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> VerifySummary | int:
    """Let a base read every rationale that it has not read; with `dry_run` return only their number.

    `base` is a size of the task or a base's name; the task's first size by default. Raises Missing if the
    questions have no rationale, NoBase if the base is not there.
    """
    from kard.models.bases import resolve
    from kard.student.generation.student import loaded_base

    require_rationales(db, questions)
    chosen = next(iter(task.students)) if base is None else base
    resolved = resolve(task.students.get(chosen, chosen))
    verifier = base_verifier(resolved, name or resolved.spec)
    missing = unverified(db, questions, verifier, teacher)
    if dry_run:
        return len(missing)
    added = agreed = 0
    if missing:
        reader = loaded_base(resolved)
        store_teacher(db, verifier, "verifiers")
        with progress.bar(f"verifying {questions.split}", len(missing)) as advance:
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                for rationale, (letter, reply) in zip(batch, read_rationales(reader, batch), strict=True):
                    new = store_opinion(db, rationale, verifier.id, letter, reply)
                    added, agreed = added + new, agreed + new * (letter == rationale.gold)
                advance(len(batch))
    return VerifySummary(added, agreed, 0.0, 0, 0)


def base_verifier(base: Base, name: str) -> TeacherInfo:
    """Return the verifier that is this base with this module's prompt."""
    sampling = canonical({"scores": "mean log-probability per token", "max_length": MAX_LENGTH})
    return TeacherInfo(digest(base.sha256, "reads rationales", sampling), name, base.spec, "", sampling)


def read_rationales(reader: LoadedBase, rationales: Sequence[UnverifiedRationale]) -> list[tuple[str, Reply]]:
    """Return for each rationale the letter of the likeliest option per token, and what reading it took."""
    tokens = reader.tokens
    began = time.perf_counter()
    prompts = [_prompt_ids(reader, rationale) for rationale in rationales]
    choices = [[tokens.choice(f" {option}") for option in rationale.options] for rationale in rationales]
    with reader.lock:
        reader.activate(None)
        read = reader.generator.read(prompts, scored=True)
        scores = read.score(range(len(prompts)), [[] for _ in prompts], choices)
    milliseconds = 1000 * (time.perf_counter() - began) / len(rationales)
    opinions: list[tuple[str, Reply]] = []
    for rationale, prompt, options, means in zip(rationales, prompts, choices, scores, strict=True):
        best = max(range(len(means)), key=means.__getitem__)
        read_tokens = sum(len(option) for option in options)
        opinions.append(
            (LETTERS[best], Reply(rationale.options[best], len(prompt), read_tokens, None, milliseconds))
        )
    return opinions


def _prompt_ids(reader: LoadedBase, rationale: UnverifiedRationale) -> list[int]:
    """Return the ids of question, options and reasons, in the form of a student's prompt."""
    from kard.student.prompt import ANSWER, cue_of, one_line, options_line

    tokens = reader.tokens
    head = f"{cue_of('question')} {one_line(rationale.question)}\nOptions: {options_line(rationale.options)}\n"
    reasons = without_conclusions(rationale.rationale, rationale.options)
    first, last = tokens.ids(head + cue_of("rationale")), tokens.ids(f"\n{ANSWER}")
    room = MAX_LENGTH - len(first) - len(last) - len(tokens.before) - len(tokens.after)
    middle = tokens.ids(f" {reasons}")[-max(room, 1) :] if reasons else []
    return [*tokens.before, *first, *middle, *last, *tokens.after]
