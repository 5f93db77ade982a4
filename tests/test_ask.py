"""One question through a task's own program: what is found, what is written, what is voted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kard.answers.parsing import answer_of
from kard.cli.ask import show_passages
from kard.config import Decoding, Retrieval
from kard.errors import BadInput
from kard.evaluation.ask import StudentReply, ask, check_question
from kard.files import write_lines
from kard.knowledge.indexing import index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.records import Passage, Sample, digest
from kard.retrieval.fusion import Fusion
from kard.retrieval.live import LiveRetriever, RankedHit
from kard.student.generation.student import Row
from kard.tasks import Task

TOWNS = {"Quill": "red", "Brack": "blue", "Tarsk": "green", "Vell": "white"}
QUESTION = "What colour is the gate of Brack?"


class Scripted:
    """A student that writes its texts in the order of a question's samples. A text too few or too many fails."""

    name = "scripted"

    def __init__(self, *texts: str, letters: Sequence[str] = ()) -> None:
        self.base = self  # a base that the queue knows by its identity alone
        self.texts, self.letters = dict(enumerate(texts)), letters
        self.prompts: list[str] = []
        self.choices: list[list[str]] = []

    def generate(self, rows: Sequence[Row]) -> list[Sample]:
        """Return the rows' texts."""
        samples: list[Sample] = []
        for row in rows:
            self.prompts.append(row.prompt)
            self.choices.append(list(row.options))
            number = next(n for n in range(99) if row.seed == int(digest(row.prompt, str(n), length=15), 16))
            assert number in self.texts, f"one text too many: {row.prompt}"
            text = self.texts.pop(number)
            answer = self.letters[number] if row.options else answer_of(text, ())
            samples.append(Sample(text, answer, None, 7, 3, 1.0))
        return samples

    def too_long(self, *texts: str) -> str:
        """Return nothing: every question fits."""
        return ""

    def budgeted(self, decoding: Decoding) -> Decoding:
        """Return the decoding as it is."""
        return decoding


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let students write what their script says."""

    def generate_rows(rows: Sequence[Row], _decoding: Decoding) -> list[Sample]:
        return cast(Scripted, rows[0].student).generate(rows)

    monkeypatch.setattr("kard.student.generation.engine.generate_rows", generate_rows)


class Backwards:
    """A reranker that prefers what BM25 put last."""

    def scores(self, question: str, passages: Sequence[Passage]) -> np.ndarray[Any, Any]:
        return np.arange(len(passages), dtype=np.float32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    """Four towns and a page that only says `gate`."""
    folder = tmp_path_factory.mktemp("ask")
    texts = {town: f"The gate of {town} is {colour}." for town, colour in TOWNS.items()}
    write_lines(
        folder / "docs.jsonl",
        [
            {"id": town, "title": town, "text": text}
            for town, text in {**texts, "Gate": "A gate has a colour."}.items()
        ],
    )
    index_source(folder / "docs.jsonl", folder / "knowledge")
    return KnowledgeBase.open(folder / "knowledge")


def unheard(found: list[RankedHit]) -> None:
    """Nobody listens."""


def asked(
    student: Scripted,
    task: Task,
    *options: str,
    question: str = QUESTION,
    source: LiveRetriever | None = None,
    method: str = "kard",
    heard: Callable[[list[RankedHit]], None] | None = None,
    samples: int = 1,
) -> StudentReply:
    reply = ask(
        task,
        cast(Any, student),
        method,
        question,
        options,
        retriever=source,
        decoding=Decoding(samples=samples),
        on_hits=heard or unheard,
    )
    assert not student.texts, f"texts that nobody asked for: {student.texts}"
    return reply


def test_the_first_k_are_read_in_the_rerankers_order_and_the_others_keep_both_ranks(
    base: KnowledgeBase, tiny_task: Task
) -> None:
    source = LiveRetriever(base, cast(Any, Backwards()), Retrieval(kappa=4, k=2, max_df=1.0))
    student = Scripted(" Brack's gate is blue.\nAnswer: blue", letters=["B"])
    reply = asked(student, tiny_task, "red", "blue", source=source)
    found = reply.hits
    assert [one.place for one in found] == [1, 2, 3, 4]
    assert [one.hit.rank for one in found] == [4, 3, 2, 1]
    assert [one.reranked for one in found] == [1, 2, 3, 4]
    assert [one.score for one in found] == [3.0, 2.0, 1.0, 0.0]
    assert [one.read for one in found] == [True, True, False, False]
    first, second = (f"{one.hit.passage.title}: {one.hit.passage.text}" for one in found[:2])
    assert student.prompts == [
        f"Question: {QUESTION}\nOptions: (A) red (B) blue\n[1] {first}\n[2] {second}\nRationale:"
    ]
    assert (reply.answer, reply.letter, reply.texts[0].rationale) == ("blue", "B", "Brack's gate is blue.")


def test_a_passage_keeps_its_lines_so_that_the_rows_of_a_table_stay_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "# Fees\n\n| stall | fee |\n|---|---|\n| bread | 5 crowns |\n\n" + "Dogs are kept on a lead. " * 9
    write_lines(tmp_path / "docs.jsonl", [{"id": "fees", "title": "Fees", "text": text}])
    index_source(tmp_path / "docs.jsonl", tmp_path / "knowledge")
    live = LiveRetriever(KnowledgeBase.open(tmp_path / "knowledge"), None, Retrieval(k=1))
    show_passages(live.find("bread"), 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == ["    # Fees", "    | stall | fee |", "    |---|---|", "    | bread | 5 crowns |"]
    assert all(line.startswith("    ") and len(line) <= 100 for line in lines[5:] if line)
    assert len(lines) > 7


def test_both_as_one_order_decide_what_is_read_and_each_keeps_its_ranks(
    base: KnowledgeBase, tiny_task: Task
) -> None:
    source = LiveRetriever(
        base, cast(Any, Backwards()), Retrieval(kappa=4, k=2, max_df=1.0), fusion=Fusion("ranks", 0.25)
    )
    found = source.find(QUESTION)
    assert [(one.place, one.hit.rank, one.reranked) for one in found] == [
        (1, 1, 4),
        (2, 2, 3),
        (3, 3, 2),
        (4, 4, 1),
    ]
    assert [one.score for one in found] == [0.0, 1.0, 2.0, 3.0]
    assert [one.read for one in found] == [True, True, False, False]
    assert [replace(source, fusion=None).name, source.name] == ["reranker", "fused"]


def test_without_a_reranker_bm25_decides(base: KnowledgeBase, tiny_task: Task) -> None:
    reply = asked(
        Scripted(" It is blue.\nAnswer: blue"),
        tiny_task,
        source=LiveRetriever(base, None, Retrieval(kappa=3, k=1, max_df=1.0)),
    )
    assert [(one.hit.rank, one.place, one.score, one.read) for one in reply.hits] == [
        (1, 1, None, True),
        (2, 2, None, False),
        (3, 3, None, False),
    ]
    assert reply.hits[0].hit.passage.title == "Brack"


def test_passages_are_heard_before_the_student_writes(base: KnowledgeBase, tiny_task: Task) -> None:
    student, order = Scripted(" Blue.\nAnswer: blue"), list[str]()

    def heard(found: list[RankedHit]) -> None:
        order.append(f"{len(found)} found, {len(student.prompts)} prompts")

    asked(student, tiny_task, source=LiveRetriever(base, None, Retrieval(kappa=2, k=1, max_df=1.0)), heard=heard)
    assert order == ["2 found, 0 prompts"]


def test_a_question_without_options_is_asked_without_their_line_and_answered_in_words(
    base: KnowledgeBase, tiny_task: Task
) -> None:
    student = Scripted(" The gate is blue.\nAnswer: dark blue")
    reply = asked(student, tiny_task)
    assert student.prompts == [f"Question: {QUESTION}\nRationale:"]
    assert student.choices == [[]]
    assert (reply.answer, reply.letter, reply.votes) == ("dark blue", None, (("dark blue", 1),))
    assert reply.hits == ()


def test_free_answers_are_one_vote_but_for_case_and_punctuation(tiny_task: Task) -> None:
    student = Scripted(" a\nAnswer: Red", " b\nAnswer: blue.", " c\nAnswer: Blue", " d\nAnswer:")
    reply = asked(student, tiny_task, samples=4)
    assert (reply.answer, reply.votes) == ("blue", (("blue", 2), ("Red", 1)))
    assert [one.answer for one in reply.texts] == ["Red", "blue", "Blue", ""]


def test_the_options_votes_are_counted_and_the_earliest_wins_a_tie(tiny_task: Task) -> None:
    student = Scripted(*(f" {i}\nAnswer: x" for i in range(4)), letters=["B", "A", "A", "B"])
    reply = asked(student, tiny_task, "red", "blue", samples=4)
    assert (reply.answer, reply.letter, reply.votes) == ("blue", "B", (("blue", 2), ("red", 2)))


def test_a_text_that_answers_nothing_is_no_vote(tiny_task: Task) -> None:
    reply = asked(Scripted(" I wonder and wonder"), tiny_task)
    assert (reply.answer, reply.letter, reply.votes) == ("", None, ())


def test_a_student_that_reads_nothing_is_given_nothing(base: KnowledgeBase, tiny_task: Task) -> None:
    student = Scripted(" Guessed.\nAnswer: red", letters=["A"])
    reply = asked(student, tiny_task, "red", "blue", source=LiveRetriever(base, None, Retrieval()), method="rd")
    assert (reply.hits, "[1]" in student.prompts[0]) == ((), False)


@given(st.text(max_size=40))
def test_a_question_is_asked_in_one_line_whatever_it_holds(text: str) -> None:
    if not text.strip():
        with pytest.raises(BadInput, match="the question is empty"):
            check_question(text, ())
    else:
        check_question(text, ("a", "b"))


def test_options_that_cannot_be_lettered_are_refused() -> None:
    for options, part in (
        (("one",), "is 1, not 2 to 26"),
        (("x",) * 27, "is 27"),
        (("a", " "), "an option is empty"),
        (("yes", "no", "yes"), "options 'yes' and 'yes' are alike"),
        (("The cap", "a bolt", " the  *cap*"), "options 'The cap' and ' the  \\*cap\\*' are alike"),
    ):
        with pytest.raises(BadInput, match=part):
            check_question(QUESTION, options)
    check_question(QUESTION, ("C", "C++", "1.5", "15", "*", "'"))
