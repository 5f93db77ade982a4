"""Questions and rationales get their passages once, whole, and in the order that BM25 gives them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlite_utils import Database

from kard.cli import main
from kard.config import Retrieval
from kard.db import open_store
from kard.knowledge.indexing import index_documents
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.questions import QuestionSet
from kard.records import Document
from kard.retrieval import rankings
from kard.retrieval.retrieve import copy_evidence, ground, record_index, retrieve, ungrounded, unsearched
from kard.tasks import names

TASK = "a-task"
QUESTIONS, TRAINING = QuestionSet(TASK), QuestionSet(TASK, "train")
SETTINGS = Retrieval(kappa=5, k=2, depth=3)
WORDS = [f"{a}{b}x" for a in "bdfgklmnprtv" for b in "aiou"]


def document(number: int) -> Document:
    chosen = random.Random(number).choices(WORDS, k=12)
    return Document(f"d{number}", f"title {number}", " ".join(chosen))


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("kb")
    index_documents(map(document, range(120)), folder, source="s")
    return KnowledgeBase.open(folder)


Fill = Callable[..., int]


@pytest.fixture
def add(store: Database) -> Fill:
    """Adds a question with rationales, given as (accepted, text); the question's id."""
    store.execute("insert into teachers values ('t', 't', 'recorded:t', '', '{}', 'now')")

    def make(
        key: str, text: str, *rationales: tuple[int, str], split: str = "train", evidence: tuple[str, ...] = ()
    ) -> int:
        with store.atomic():
            row = {
                "task": TASK,
                "key": key,
                "split": split,
                "text": text,
                "options": "[]",
                "hash": key,
                "created": "now",
            }
            question = int(store.table("questions").insert(row).last_pk or 0)
            for sample, (accepted, words) in enumerate(rationales):
                store.execute(
                    "insert into rationales (question_id, teacher_id, sample, text, accepted, created)"
                    " values (?, 't', ?, ?, ?, 'now')",
                    [question, sample, words, accepted],
                )
            for key in evidence:
                store.execute("insert into evidence values (?, ?)", [question, key])
        return question

    return make


def hits(store: Database, kind: str) -> dict[tuple[int, int | None], list[tuple[int, str, float, int | None]]]:
    """Rank, document, BM25 and rank in the question's list, by question and rationale."""
    by_retrieval: dict[tuple[int, int | None], list[tuple[int, str, float, int | None]]] = {}
    query = """
        select r.question_id, r.rationale_id, h.rank, p.document, h.bm25, h.question_rank
        from retrievals r join hits h on h.retrieval_id = r.id join passages p on p.id = h.passage_id
        where r.query = ? order by r.id, h.rank
    """
    for question, rationale, *hit in store.execute(query, [kind]):
        by_retrieval.setdefault((question, rationale), []).append((hit[0], hit[1], hit[2], hit[3]))
    return by_retrieval


def say(*numbers: int) -> str:
    """The first words of these documents."""
    return " ".join(" ".join(document(n).text.split()[:4]) for n in numbers)


def test_a_question_gets_its_top_kappa(store: Database, kb: KnowledgeBase, add: Fill) -> None:
    question = add("q1", say(4, 9))
    assert retrieve(store, kb, QUESTIONS, SETTINGS) == 1
    expected = [(h.rank, h.passage.document, h.bm25, h.rank) for h in kb.search(say(4, 9), 5)]
    assert len(expected) == 5
    assert hits(store, "question") == {(question, None): expected}


def test_a_rationale_gets_its_own_top_and_the_question_s_in_the_order_of_its_own_scores(
    store: Database, kb: KnowledgeBase, add: Fill
) -> None:
    first, second = say(20, 21), say(4, 30)
    question = add("q1", say(4, 9), (1, first), (1, second))
    assert ground(store, kb, TRAINING, SETTINGS) == 2
    of_question = {h.passage.id: h.rank for h in kb.search(say(4, 9), 3)}
    for number, text in enumerate([first, second], 1):
        best = [h.passage.id for h in kb.search(text, 3)]
        scores = kb.score(text, list(dict.fromkeys([*best, *of_question])))
        union = sorted(scores, key=lambda p: -scores[p])
        stored = hits(store, "rationale")[question, number]
        by_key = {p.document: p.id for p in kb.passages(union)}
        assert {by_key[key] for _, key, _, _ in stored} == set(union)
        assert [bm25 for _, _, bm25, _ in stored] == pytest.approx([scores[p] for p in union], rel=1e-5)
        assert [rank for rank, _, _, _ in stored] == list(range(1, len(union) + 1))
        assert {by_key[key]: place for _, key, _, place in stored} == {p: of_question.get(p) for p in union}
        assert [by_key[key] for _, key, _, _ in stored[:3]] == best


def test_the_question_s_passages_that_share_no_word_with_the_rationale_score_nothing(
    store: Database, kb: KnowledgeBase, add: Fill
) -> None:
    question = add("q1", say(4), (1, "zebra"))
    ground(store, kb, TRAINING, SETTINGS)
    stored = hits(store, "rationale")[question, 1]
    assert [(bm25, place) for _, _, bm25, place in stored] == [(0.0, 1), (0.0, 2), (0.0, 3)]


def test_which_rationales_are_grounded(store: Database, kb: KnowledgeBase, add: Fill) -> None:
    train = add("q1", say(1), (0, say(2)), (1, say(3)), (1, say(4)))
    dev = add("q2", say(5), (0, say(6)), (0, say(7)), (1, say(8)), split="dev")
    assert ground(store, kb, TRAINING, SETTINGS) == 4
    assert set(hits(store, "rationale")) == {(train, 2), (train, 3), (dev, 4), (dev, 6)}


def test_a_second_run_adds_nothing_and_a_new_rationale_only_its_own(
    store: Database, kb: KnowledgeBase, add: Fill
) -> None:
    add("q1", say(1), (1, say(2)))
    assert (retrieve(store, kb, QUESTIONS, SETTINGS), ground(store, kb, TRAINING, SETTINGS)) == (1, 1)
    before = hits(store, "question") | hits(store, "rationale")
    assert (retrieve(store, kb, QUESTIONS, SETTINGS), ground(store, kb, TRAINING, SETTINGS)) == (0, 0)
    add("q2", say(3), (1, say(4)))
    assert (retrieve(store, kb, QUESTIONS, SETTINGS), ground(store, kb, TRAINING, SETTINGS)) == (1, 1)
    after = hits(store, "question") | hits(store, "rationale")
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 2


def test_a_limit_means_the_same_questions_every_time(store: Database, kb: KnowledgeBase, add: Fill) -> None:
    for i in range(4):
        add(f"q{i}", say(i), (1, say(i + 10)), (1, say(i + 20)))
    assert len(ungrounded(store, kb.id, QuestionSet(TASK, "train", 2), SETTINGS)) == 2
    assert [ground(store, kb, QuestionSet(TASK, "train", 2), SETTINGS) for _ in range(2)] == [4, 0]
    assert len(unsearched(store, kb.id, QuestionSet(TASK, limit=3), SETTINGS)) == 3
    assert [retrieve(store, kb, QuestionSet(TASK, limit=3), SETTINGS) for _ in range(2)] == [3, 0]
    assert [ground(store, kb, TRAINING, SETTINGS), retrieve(store, kb, QUESTIONS, SETTINGS)] == [4, 1]


def test_only_the_split_that_was_asked_for_is_searched(store: Database, kb: KnowledgeBase, add: Fill) -> None:
    add("q1", say(1))
    dev = add("q2", say(2), split="dev")
    assert retrieve(store, kb, QuestionSet(TASK, "dev"), SETTINGS) == 1
    assert set(hits(store, "question")) == {(dev, None)}


def test_a_deeper_search_takes_the_place_of_a_shallower_one(store: Database, kb: KnowledgeBase, add: Fill) -> None:
    question = add("q1", say(1, 2, 3), (1, say(4, 5, 6)))
    deeper = Retrieval(kappa=8, k=2, depth=6)
    for settings in (SETTINGS, deeper):
        assert (retrieve(store, kb, QUESTIONS, settings), ground(store, kb, TRAINING, settings)) == (1, 1)
    assert (retrieve(store, kb, QUESTIONS, SETTINGS), ground(store, kb, TRAINING, SETTINGS)) == (0, 0)
    assert len(hits(store, "question")[question, None]) == 8
    assert len(hits(store, "rationale")[question, 1]) >= 6
    assert store.execute("select query, depth from retrievals order by query").fetchall() == [
        ("question", 8),
        ("rationale", 6),
    ]


def test_a_changed_base_gets_retrievals_of_its_own(
    store: Database, kb: KnowledgeBase, add: Fill, tmp_path: Path
) -> None:
    add("q1", say(1), (1, say(2)))
    index_documents(map(document, range(60)), tmp_path / "kb", source="s")
    for base in (kb, KnowledgeBase.open(tmp_path / "kb")):
        assert (retrieve(store, base, QUESTIONS, SETTINGS), ground(store, base, TRAINING, SETTINGS)) == (1, 1)
    assert store.execute("select count(distinct index_id), count(*) from retrievals").fetchone() == (2, 4)


def test_passages_are_copied_whole_and_once(store: Database, kb: KnowledgeBase, add: Fill) -> None:
    add("q1", say(1), (1, say(2)), evidence=("d7", "d1", "no such document"))
    add("q2", say(1), (1, say(2)), evidence=("d7",))
    assert copy_evidence(store, kb, TASK) == 2
    assert copy_evidence(store, kb, TASK) == 0
    retrieve(store, kb, QUESTIONS, SETTINGS)
    ground(store, kb, TRAINING, SETTINGS)
    rows = store.execute("select id, document, part, title, text from passages").fetchall()
    assert {row[1] for row in rows} >= {"d7", "d1"}
    assert {row[0]: row for row in rows} == {
        p.id: (p.id, p.document, p.part, p.title, p.text) for p in kb.passages([row[0] for row in rows])
    }


def test_a_base_is_recorded_once(store: Database, kb: KnowledgeBase) -> None:
    assert record_index(store, kb) == record_index(store, kb) == kb.id
    assert store.execute("select id, passages, analyser from indexes").fetchall() == [(kb.id, 120, kb.analyser)]


def test_a_stop_leaves_whole_batches_and_the_next_run_does_the_rest(
    store: Database, kb: KnowledgeBase, add: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(80):
        add(f"q{i}", say(i), (1, say(i + 10)), (1, say(i + 20)))
    hits_written, plain = 0, rankings.HitsWriter._hits  # type: ignore[reportPrivateUsage]  # the point of failure

    def failing(self: rankings.HitsWriter, key: int, result: rankings.SearchResult) -> object:
        nonlocal hits_written
        hits_written += 1
        if hits_written == 70:  # within the second batch of 32 questions, 64 rationales
            raise KeyboardInterrupt
        return plain(self, key, result)

    monkeypatch.setattr(rankings.HitsWriter, "_hits", failing)
    with pytest.raises(KeyboardInterrupt):
        ground(store, kb, TRAINING, SETTINGS)
    assert store.execute("select count(*) from retrievals").fetchone() == (64,)
    assert len(hits(store, "rationale")) == 64
    monkeypatch.undo()
    assert ground(store, kb, TRAINING, SETTINGS) == 160 - 64
    assert len(hits(store, "rationale")) == 160
    assert store.execute("select count(*) from retrievals").fetchone() == (160,)


def test_rank_one_of_the_store_is_what_search_shows_first(store: Database, kb: KnowledgeBase, add: Fill) -> None:
    for i in range(30):
        add(f"q{i}", say(i), (1, say(i + 10)))
    ground(store, kb, TRAINING, SETTINGS)
    for (question, _), stored in hits(store, "rationale").items():
        (text,) = store.execute("select text from rationales where question_id = ?", [question]).fetchone()
        assert stored[0][2] == pytest.approx(kb.search(text, 1)[0].bm25, rel=1e-5)


def test_ground_says_what_it_did_and_with_dry_run_what_it_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = names()[0]

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, list(arguments))
        return result.exit_code, result.stdout, result.stderr

    code, _, err = run("ground", task)
    assert (code, err.count("\n")) == (1, 1)
    assert "no store at kard.db" in err
    db = open_store(Path("kard.db"))
    db.execute("insert into teachers values ('t', 't', 'recorded:t', '', '{}', 'now')")
    row = {
        "task": task,
        "key": "q",
        "split": "train",
        "text": "Do ants dig?",
        "options": "[]",
        "hash": "h",
        "created": "",
    }
    db.table("questions").insert(row)
    db.table("rationales").insert(
        {"question_id": 1, "teacher_id": "t", "sample": 0, "text": "Ants dig.", "accepted": 1, "created": ""}
    )
    db.conn.close()
    code, _, err = run("ground", task)
    assert (code, err.count("\n")) == (1, 1)
    assert "kard index SOURCE" in err
    Path("s.jsonl").write_text(
        json.dumps({"id": "a", "title": "Ants", "text": "They dig."}) + "\n", encoding="utf-8"
    )
    assert run("index", "s.jsonl")[0] == 0
    assert run("ground", task, "--dry-run")[:2] == (0, "1 rationales lack passages; nothing was done\n")
    code, out, err = run("ground", task, "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("1 rationales grounded, 0 evidence passages copied (")
    assert run("ground", task)[1].startswith("0 rationales grounded")
