"""Questions of a file beside those of the store: find, change and remove those that are no longer the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from kard.answers.parsing import conclusion
from kard.answers.short import same_answer
from kard.db import execute, rows
from kard.questions import QuestionSet
from kard.records import LETTERS, Question, canonical, digest

if TYPE_CHECKING:
    from sqlite_utils import Database

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Lost:
    """What goes when questions are removed."""

    questions: int
    rationales: int
    cost: float  # of the rationales, in US dollars


@dataclass(frozen=True, slots=True)
class Changes:
    """What a file may change in the store."""

    replacing: bool = False  # questions that the store has get the file's content
    confirm: Callable[[Lost], None] | None = None  # questions that the file lacks are removed after this was asked


UNCHANGED = Changes()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A file beside the questions that the store has of its task."""

    changed: Mapping[int, tuple[Question, Question]]  # by row id: the stored question and the file's
    others: Collection[int]  # row ids of questions that are not in the file, though their split is
    given_way: Collection[int]  # row ids of questions whose place a changed one takes


def content(question: Question) -> str:
    """Return the canonical form of everything that the store keeps of a question."""
    values = asdict(question)
    del values["rationale"]
    return canonical({**values, "evidence": sorted(set(question.evidence))})


def content_hash(question: Question) -> str:
    """Return the hash of everything that the store keeps of a question."""
    return digest(content(question))


def compare(db: Database, task_name: str, questions: Sequence[Question]) -> Comparison:
    """Compare a file's questions with the stored ones of the same id.

    Where neither has an id of its own, the only two of one split and text that have no other partner belong
    together if they share half of the options: also if the file was loaded before without replacing, where the
    question that this added has no rationale yet.
    """
    stored = QuestionSet(task_name).read(db)
    hashes = dict(db.execute("select id, hash from questions where task = ?", [task_name]).fetchall())
    explained = {row for (row,) in db.execute("select distinct question_id from rationales")}
    new = {question.key: question for question in questions}
    partners = {row: new[question.key] for row, question in stored.items() if question.key in new}
    rows_of = {question.key: row for row, question in partners.items()}
    waiting = _unnamed({key: question for key, question in new.items() if rows_of.get(key) not in explained})
    left = _unnamed({row: question for row, question in stored.items() if row not in partners})
    pairs = [(left[place], new[key]) for place, key in waiting.items() if place in left]
    renamed = {row: partner for row, partner in pairs if _half_the_same(stored[row].options, partner.options)}
    given_way = {rows_of[question.key] for question in renamed.values() if question.key in rows_of}
    partners |= renamed
    changed = {
        row: (stored[row], partner)
        for row, partner in partners.items()
        if row not in given_way
        and (content(stored[row]) != content(partner) or hashes[row] != content_hash(partner))
    }
    splits = {question.split for question in questions}
    others = {row for row, question in stored.items() if row not in partners and question.split in splits}
    return Comparison(changed, others, given_way)


def _half_the_same(options: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether half of the options or more, of the question that has more, are the other's too."""
    return 2 * len({*options} & {*others}) >= max(len(options), len(others))


def _unnamed(questions: Mapping[Key, Question]) -> dict[tuple[str, str], Key]:
    """Return the keys of the questions without an id of their own, by split and text, if no other has both."""
    found: dict[tuple[str, str], list[Key]] = {}
    for key, question in questions.items():
        if question.key == digest(question.text, *question.options):
            found.setdefault((question.split, question.text), []).append(key)
    return {place: keys[0] for place, keys in found.items() if len(keys) == 1}


def replace_question(db: Database, row_id: int, old: Question, new: Question, record: Mapping[str, object]) -> None:
    """Give a stored question the file's content; `record` is its row. Its evidence is left to be stored.

    The store's triggers drop what rested on text, options or answer, and judge rationales by the new answer.
    """
    execute(db, "internal/replace_question", id=row_id, **record)
    db.execute("delete from evidence where question_id = ?", [row_id])
    if old.options != new.options or not new.options:  # the store's triggers cannot grade short answers
        _read_again(db, row_id, old.options, new)
    if (old.facts, set(old.evidence)) != (new.facts, set(new.evidence)):
        execute(db, "internal/drop_facts", ids=[row_id])
        # Facts are looked for when the question is searched with.
        db.execute("delete from retrievals where question_id = ? and rationale_id is null", [row_id])
    if old.split != new.split:
        db.execute("delete from predictions where question_id = ?", [row_id])
    execute(db, "internal/drop_checks_of_questions", questions=[row_id])


def _read_again(db: Database, row_id: int, old: Sequence[str], new: Question) -> None:
    """Read again what rationales conclude on, and drop what readers read, where a letter is another option's."""

    def stands(letter: str) -> bool:
        """Return whether the letter's option is the same, or was worded anew in its place while another stays."""
        before, now = old[LETTERS.index(letter)], new.options[LETTERS.index(letter) :][:1]
        worded_anew = bool(now) and before not in new.options and now[0] not in old
        return now == (before,) or (worded_anew and not {*old}.isdisjoint(new.options))

    short = not old and not new.options  # nothing but the grade may have changed
    found = db.execute("select id, text, conclusion from rationales where question_id = ?", [row_id]).fetchall()
    for rationale, text, concluded in found:
        if not short and (concluded is None or not old or not stands(concluded)):
            concluded = conclusion(text, new.options)
        judged = [concluded, int(same_answer(concluded, new.answer)), rationale]
        db.execute("update rationales set conclusion = ?, accepted = ? where id = ?", judged)
    for letter in LETTERS[: len(old)]:
        if not stands(letter):
            of_question = "rationale_id in (select id from rationales where question_id = ?)"
            db.execute(f"delete from verifications where answer = ? and {of_question}", [letter, row_id])


def lost_with(db: Database, question_ids: Collection[int]) -> Lost:
    """Return what goes when these questions are removed."""
    (row,) = rows(db, "internal/rationales_of_questions", questions=list(question_ids))
    return Lost(len(question_ids), row["rationales"], row["cost"])


def remove_questions(db: Database, question_ids: Collection[int]) -> None:
    """Remove questions with all that rests on them."""
    db.conn.executemany("delete from questions where id = ?", [(i,) for i in question_ids])
