"""The reranker: its loss, its scores, its training on a toy world, and what it leaves in the store."""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sqlite_utils import Database

from kard.config import Lora, RerankerTraining, Scorer, Side
from kard.db import now, open_store
from kard.encoders.encoder import Encoder
from kard.encoders.vectors import VectorCache, passage_text
from kard.errors import Missing, NoBase
from kard.models import bases
from kard.models.adapters import WEIGHTS, hash_of
from kard.models.bases import Base
from kard.models.lora import learning_rate, linear_names, upper_half_names
from kard.progress import Advance, Share, Silent
from kard.questions import QuestionSet
from kard.records import Passage
from kard.reranker import training
from kard.reranker.candidates import Candidates, Pool
from kard.reranker.dataset import CandidatePassages, RerankerDataset, read_dataset
from kard.reranker.loss import divergence
from kard.reranker.model import Reranker
from kard.reranker.training import score_matrix, train_reranker
from kard.retrieval import rerank as rank
from kard.retrieval.rerank import rerank

TOPICS = [f"topic{n}" for n in range(30)]
FILLER = [f"word{n}" for n in range(40)]
RIGHT, WRONG = "golden", "leaden"  # the one word that decides
SCORERS: tuple[Scorer, ...] = ("pooled", "maxsim")
QUICK = RerankerTraining(
    side="both",
    rationales=1,
    upper_half=True,
    lora=Lora(rank=4, alpha=8),
    epochs=4,
    batch=8,
    peak_lr=3e-2,
    candidates=6,
    tau_teacher=2.0,
    tau_student=0.2,
)


# --- a tiny encoder and a toy store ---------------------------------------------------------------


def write_tokenizer(folder: Path) -> int:
    """A tokenizer of whole words, saved in the folder; the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "is", "of", "?", ".", RIGHT, WRONG, *TOPICS, *FILLER]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]  # the stubs know no setter
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # as above
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]  # as above
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return len(words)


def write_bert(folder: Path, seed: int = 0) -> Path:
    """A random BERT of two layers."""
    from transformers import BertConfig, BertModel

    size = write_tokenizer(folder)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,  # at the usual 0.02 a random model gives every text the same vector
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Records of bases are written to a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, own_cache: None) -> Base:
    return bases.resolve(str(write_bert(tmp_path_factory.mktemp("bert"))))


@pytest.fixture(scope="module")
def encoder(base: Base) -> Encoder:
    return Encoder.of(base, max_length=32)


class World:
    """A store in which a question's right passages hold one word and its wrong ones another."""

    def __init__(
        self, db: Database, *, train: int, dev: int = 0, shuffled: bool = False, rationales: int = 1
    ) -> None:
        self.db, self.rng, self.shuffled, self.rationales = db, random.Random(7), shuffled, rationales
        self.passages = 0
        db.table("indexes").insert({"id": "ix", "path": "kb", "passages": 1, "analyser": "a", "created": now()})
        db.table("teachers").insert(
            {"id": "t", "name": "t", "model": "t", "instructions": "", "sampling": "{}", "created": now()}
        )
        with db.atomic():
            for n in range(train):
                self.question("train", n)
            for n in range(dev):
                self.question("dev", n)

    def passage(self, word: str) -> Passage:
        self.passages += 1
        text = [word, *self.rng.sample(FILLER, self.rng.randint(2, 8))]
        self.rng.shuffle(text)
        return Passage.of(f"SecretDocument{self.passages}", 0, self.rng.choice(TOPICS), " ".join(text))

    def question(self, split: str, n: int) -> None:
        text = f"What is {self.rng.choice(TOPICS)} of {self.rng.choice(FILLER)} ?"
        row = {"task": "toy", "key": f"{split}{n}", "split": split, "text": text, "options": '["yes", "no"]'}
        question = self._insert("questions", {**row, "answer": "A", "hash": "h", "created": now()})
        passages = [self.passage(RIGHT if i < 2 else WRONG) for i in range(8)]
        for p in passages:
            self._insert(
                "passages", {name: getattr(p, name) for name in ("id", "document", "part", "title", "text")}
            )
        for p in passages[:2]:
            self._insert("evidence", {"question_id": question, "document": p.document})
        question_list = self.rng.sample(passages, len(passages))
        hits = [(p, 9.0 - rank, rank) for rank, p in enumerate(question_list, 1)]
        self._hits(self._retrieval(question, None), hits)
        if split != "train":
            return
        for sample in range(self.rationales):
            row = {"question_id": question, "teacher_id": "t", "sample": sample, "text": f"{text} {sample}"}
            rationale = self._insert("rationales", {**row, "conclusion": "A", "accepted": 1, "created": now()})
            scored = self.rng.sample(passages, len(passages)) if self.shuffled else passages
            ranks = {p.id: rank for rank, p in enumerate(question_list, 1)}
            hits = [(p, 10.0 if i < 2 else 2.0 - i / 10, ranks[p.id]) for i, p in enumerate(scored)]
            self._hits(self._retrieval(question, rationale), hits)

    def _insert(self, table: str, row: dict[str, object]) -> int:
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        cursor = self.db.execute(f"insert into {table} ({names}) values ({marks})", list(row.values()))
        return cast("int", cursor.lastrowid)

    def _retrieval(self, question: int, rationale: int | None) -> int:
        row = {"index_id": "ix", "question_id": question, "rationale_id": rationale, "depth": 8}
        query = "question" if rationale is None else "rationale"
        return self._insert("retrievals", {**row, "query": query, "milliseconds": 0.0, "created": now()})

    def _hits(self, retrieval: int, hits: Sequence[tuple[Passage, float, int]]) -> None:
        for rank_, (p, bm25, question_rank) in enumerate(hits, 1):
            row = {"retrieval_id": retrieval, "rank": rank_, "passage_id": p.id, "bm25": bm25}
            self._insert("hits", {**row, "question_rank": question_rank})


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    return tmp_path / "kard.adapters"


def dataset(db: Database, index_id: str = "ix", limit: int | None = None, **more: Any) -> RerankerDataset:
    return read_dataset(db, QuestionSet("toy", "train", limit), index_id, **more)


def train(
    db: Database,
    base: Base,
    adapters: Path,
    settings: RerankerTraining = QUICK,
    *,
    limit: int | None = None,
    **more: Any,
) -> str:
    return train_reranker(db, dataset(db, limit=limit), base, settings, adapters, **more)


def metrics_of(db: Database, reranker_id: str) -> dict[str, Any]:
    return json.loads(db.execute("select metrics from rerankers where id = ?", [reranker_id]).fetchone()[0])


def dev_hits_at_1(db: Database, retriever: str) -> float:
    query = "select hits_at_1 from hits_at_k where split = 'dev' and gold = 'evidence' and retriever = ?"
    return db.execute(query, [retriever]).fetchone()[0]


def some_passages(count: int, seed: int = 0) -> list[Passage]:
    rng = random.Random(seed)
    return [
        Passage.of(f"d{n}", 0, rng.choice(TOPICS), " ".join(rng.choices(FILLER, k=rng.randint(1, 20))))
        for n in range(count)
    ]


# --- the loss -------------------------------------------------------------------------------------


def distil_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    tau_student: float = 1.0,
    tau_teacher: float = 1.0,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """KL(softmax(teacher / tau_teacher) || softmax(student / tau_student)), as training computes it."""
    scores = teacher / tau_teacher
    if present is not None:
        scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
    return divergence(student, scores.softmax(-1), tau_student, present)


matrices = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-50, 50, width=32)
)
taus = st.floats(0.25, 20)


@given(matrices, taus)
def test_the_loss_of_equal_scores_is_nothing(scores: Any, tau: float) -> None:
    both = torch.from_numpy(scores)
    assert distil_loss(both, both, tau_student=tau, tau_teacher=tau).item() == pytest.approx(0, abs=1e-9)


@given(matrices, st.randoms(use_true_random=False), taus, taus)
def test_the_loss_is_never_negative_and_unequal_distributions_cost_something(
    scores: Any, rng: random.Random, tau: float, other: float
) -> None:
    student = torch.from_numpy(scores)
    teacher = student[:, rng.sample(range(student.shape[1]), student.shape[1])]
    loss = distil_loss(student, teacher, tau_student=tau, tau_teacher=other).item()
    assert loss >= -1e-9
    p, q = (teacher / other).softmax(-1), (student / tau).softmax(-1)
    assert loss >= ((p - q).abs().sum(-1) ** 2 / 2).mean().item() - 1e-9  # Pinsker's inequality


@given(matrices, st.floats(-100, 100), taus)
def test_the_loss_does_not_see_a_constant_added_to_a_row(scores: Any, constant: float, tau: float) -> None:
    student = torch.from_numpy(scores)
    teacher = student.flip(-1)
    moved = torch.arange(len(student), dtype=student.dtype).unsqueeze(1) * constant
    plain = distil_loss(student, teacher, tau_student=tau).item()
    assert distil_loss(student + moved, teacher - moved, tau_student=tau).item() == pytest.approx(plain, abs=1e-6)


@given(matrices, st.integers(1, 4), st.floats(-1e4, 1e4))
def test_places_without_a_candidate_take_no_part_in_the_loss(scores: Any, empty: int, junk: float) -> None:
    student = torch.from_numpy(scores)
    teacher = student.flip(-1)
    wide = [torch.cat([s, torch.full((len(s), empty), junk, dtype=s.dtype)], -1) for s in (student, teacher)]
    present = torch.arange(wide[0].shape[1]).expand_as(wide[0]) < student.shape[1]
    expected = distil_loss(student, teacher).item()
    wide[0].requires_grad_()
    loss = distil_loss(wide[0], wide[1], present=present)
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    loss.backward()
    assert wide[0].grad is not None
    assert torch.isfinite(wide[0].grad).all()
    assert (wide[0].grad[~present] == 0).all()


def test_the_loss_looks_from_the_teacher_to_the_student() -> None:
    teacher, student = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    p = teacher.softmax(-1)
    assert distil_loss(student, teacher).item() == pytest.approx((p * (p * 3).log()).sum().item(), abs=1e-6)


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", SCORERS)
@given(order=st.permutations(range(40)), count=st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_a_score_does_not_depend_on_what_else_is_scored(
    encoder: Encoder, scorer: Scorer, order: list[int], count: int
) -> None:
    passages = some_passages(40)
    question = f"What is {TOPICS[0]} of {FILLER[3]} ?"
    alone = np.array([Reranker(encoder, scorer).scores(question, [p])[0] for p in passages[:8]])
    chosen = order[:count]
    together = Reranker(encoder, scorer).scores_many(
        ["is ?", question], [passages[:5], [passages[i] for i in chosen]]
    )
    for place, number in enumerate(chosen):
        if number < len(alone):
            assert together[1][place] == pytest.approx(alone[number], abs=2e-3)  # half-precision vectors
    assert together[1].shape == (count,)


def test_pooled_scores_are_cosines_of_means_and_maxsim_is_the_mean_of_the_best_cosines(encoder: Encoder) -> None:
    question, passages = f"What is {TOPICS[1]} ?", some_passages(6)
    model, tokenizer = encoder.model, encoder.tokenizer

    def states(text: str) -> torch.Tensor:
        with torch.no_grad():
            return model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0]

    question_states = states(question)
    passage_states = [states(passage_text(p)) for p in passages]
    pooled = [torch.cosine_similarity(question_states.mean(0), p.mean(0), dim=0).item() for p in passage_states]
    cosines = [torch.cosine_similarity(question_states[:, None], p[None], dim=-1) for p in passage_states]
    maxsim = [c.amax(1).mean().item() for c in cosines]
    assert Reranker(encoder, "pooled").scores(question, passages) == pytest.approx(pooled, abs=2e-3)
    assert Reranker(encoder, "maxsim").scores(question, passages) == pytest.approx(maxsim, abs=2e-3)


@pytest.mark.parametrize("scorer", SCORERS)
def test_training_and_ranking_score_alike(encoder: Encoder, scorer: Scorer) -> None:
    questions = [f"What is {topic} ?" for topic in TOPICS[:3]]
    passages = some_passages(10)
    where = np.array([[0, 3, 9], [9, 1, 1], [4, 5, 6]], dtype=np.int64)
    with torch.no_grad():
        candidates = CandidatePassages([passage_text(p) for p in passages])
        trained = score_matrix(encoder, questions, where, candidates, replace(QUICK, scorer=scorer))
    ranked = Reranker(encoder, scorer).scores_many(questions, [[passages[i] for i in row] for row in where])
    assert np.stack(ranked) == pytest.approx(trained.numpy(), abs=1e-2)  # training may compute in bfloat16


def test_encoding_keeps_the_order_of_the_texts_and_gives_unit_vectors(base: Base) -> None:
    texts = [passage_text(p) for p in some_passages(70)]
    reranker = Reranker.base(base, max_length=32)

    def encode(texts: Sequence[str]) -> Any:
        with torch.inference_mode():
            return reranker.encoder.pooled(texts).numpy()

    vectors = encode(texts)
    assert vectors.shape == (70, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(70), abs=1e-5)
    for at in (0, 33, 69):
        assert vectors[at] == pytest.approx(encode([texts[at]])[0], abs=1e-5)
    assert encode([]).shape == (0, 32)
    assert reranker.scores("What ?", []).shape == (0,)


def test_long_passages_are_cut_and_still_scored(base: Base) -> None:
    reranker = Reranker.base(base, max_length=1000)  # the model has 64 positions
    score = reranker.scores("What ?", [Passage.of("d", 0, "topic1", " ".join(FILLER * 10))])
    assert np.isfinite(score).all()


@pytest.mark.parametrize("scorer", SCORERS)
def test_only_title_and_text_reach_the_encoder(encoder: Encoder, scorer: Scorer) -> None:
    seen: list[str] = []

    class Spy:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __call__(self, texts: list[str], **more: Any) -> Any:
            seen.extend(texts)
            return self.inner(texts, **more)

        def pad(self, *arguments: Any, **options: Any) -> Any:
            return self.inner.pad(*arguments, **options)

    spied = Encoder(encoder.model, encoder.tokenizer, max_length=32)
    spied.tokenizer = Spy(encoder.tokenizer)
    one, other = (
        Passage("id1", "document1", 3, "topic1", "word1"),
        Passage("id2", "document2", 4, "topic1", "word1"),
    )
    scores = Reranker(spied, scorer).scores("What ?", [one, other])
    assert scores[0] == scores[1]
    assert sorted(set(seen)) == ["What ?", "topic1. word1"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 8))), st.integers(0, 40))
def test_the_cache_never_holds_more_than_its_limit_and_gives_back_what_was_put(
    puts: list[tuple[str, int]], limit: int
) -> None:
    cache = VectorCache(limit)
    last: dict[str, int] = {}
    for key, size in puts:
        cache.put(key, np.full(size, size, dtype=np.float16))
        last[key] = size
        assert cache.size <= limit
    held = {key: cache.get(key) for key in last}
    assert cache.size == sum(v.nbytes for v in held.values() if v is not None)
    assert all(v is None or v.tolist() == [last[key]] * last[key] for key, v in held.items())
    if puts and 2 * puts[-1][1] <= limit:
        assert held[puts[-1][0]] is not None


def test_a_passage_of_several_questions_is_encoded_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    pooled = Encoder.pooled

    def counting(self: Encoder, texts: Sequence[str], **more: Any) -> torch.Tensor:
        counted.append(len(texts))
        return pooled(self, texts, **more)

    monkeypatch.setattr(Encoder, "pooled", counting)
    passages = some_passages(10)
    reranker = Reranker(encoder)
    first = reranker.scores_many(["what ?", "is ?"], [passages, passages[5:]])
    again = reranker.scores_many(["what ?"], [passages])
    assert counted == [2, 10, 1]
    assert again[0].tolist() == first[0].tolist()


# --- what is learned from -------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30),
    st.integers(2, 12),
    st.integers(0, 99),
)
def test_candidates_come_half_from_each_list_and_never_twice(
    places: list[tuple[bool, bool]], count: int, seed: int
) -> None:
    by_rationale = np.array([a or not b for a, b in places])  # every candidate is in one of the lists
    by_question = np.array([b for _, b in places])
    size = len(places)
    candidates = Candidates(
        np.arange(size), np.zeros(size, dtype=np.float32), by_rationale, by_question.astype(np.int64)
    )
    pool = Pool.of([candidates])
    sample = pool.draw(count, np.random.default_rng(seed))
    assert len(set(sample.tolist())) == len(sample) == min(count, size)
    assert by_rationale[sample].sum() >= min(count - count // 2, by_rationale.sum())
    if (by_question & ~by_rationale).sum() >= count // 2:
        assert by_question[sample].sum() >= count // 2
    other = pool.draw(count, np.random.default_rng(seed))
    assert sample.tolist() == other.tolist()


def test_questions_are_held_out_whole_and_only_when_there_are_enough(store: Database) -> None:
    World(store, train=40, rationales=2)
    few = dataset(store, limit=19)
    assert few.split(0)[1] == []
    data = dataset(store)
    training_questions, held_out = data.split(0)
    assert (len(training_questions), len(held_out)) == (36, 4)
    assert {q.key for q in training_questions} | {q.key for q in held_out} == {f"train{n}" for n in range(40)}
    assert all(len(q.rationales) == 2 for q in held_out)
    assert {q.key for q in data.split(1)[1]} != {q.key for q in held_out}


def test_a_dataset_names_evidence_as_needed_and_keeps_the_question_list_in_its_order(store: Database) -> None:
    World(store, train=3)
    data = dataset(store)
    for question in data.questions:
        assert {data.texts[i].split(". ")[1].split().count(RIGHT) for i in question.needed} == {1}
        (candidates,) = question.rationales
        by_rank = dict(zip(candidates.question_rank.tolist(), candidates.passages.tolist(), strict=True))
        assert question.question_list() == [by_rank[rank] for rank in range(1, 9)]


def test_without_evidence_the_first_three_by_the_rationale_are_needed(store: Database) -> None:
    World(store, train=2)
    store.execute("delete from evidence")
    for question in dataset(store).questions:
        assert question.needed == set(question.rationales[0].passages[:3].tolist())


def test_other_rationales_scores_or_questions_make_other_data(store: Database) -> None:
    World(store, train=3)
    first = dataset(store).data.sha256
    assert dataset(store).data.sha256 == first
    assert dataset(store, limit=2).data.sha256 != first
    store.execute("update hits set bm25 = bm25 + 1")
    assert dataset(store).data.sha256 != first
    store.execute("update rationales set text = text || '!'")
    with pytest.raises(Missing, match="kard ground toy"):  # what the old texts found is gone
        dataset(store)


def test_nothing_grounded_names_the_next_command(store: Database, base: Base, adapters: Path) -> None:
    with pytest.raises(Missing, match="kard ground toy"):
        train(store, base, adapters)
    World(store, train=2)
    with pytest.raises(Missing, match="kard ground toy"):
        dataset(store, "other index")
    with pytest.raises(Missing, match="kard ground toy"):
        dataset(store, teacher_id="other teacher")
    store.execute("update rationales set accepted = 0")
    with pytest.raises(Missing, match="kard ground toy"):
        train(store, base, adapters)
    assert not adapters.exists()


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "scorer"), [("question", "pooled"), *(("both", scorer) for scorer in SCORERS)])
def test_training_finds_the_word_that_decides(
    store: Database, base: Base, adapters: Path, side: Side, scorer: Scorer
) -> None:
    World(store, train=80, dev=30)
    trained = train(store, base, adapters, replace(QUICK, side=side, scorer=scorer))
    metrics = metrics_of(store, trained)
    losses = metrics["loss"]
    assert len(losses) == 4 * 9  # 72 of 80 questions in batches of 8
    # A random encoder's passages lie close together, and stay there when only questions learn.
    learnt, right = (0.6, 0.9) if side == "both" else (0.95, 0.8)
    assert np.mean(losses[-5:]) < learnt * losses[0]
    assert metrics["held_out"] == 8
    assert metrics["hits_after"]["1"] > metrics["hits_before"]["1"]
    assert rerank(store, Reranker.load(store, trained, adapters), trained, "ix", QuestionSet("toy", "dev")) == 30
    untrained = untrained_hits_at_1(store, Reranker.base(base, scorer=scorer))
    assert untrained < 0.6
    assert dev_hits_at_1(store, trained) > max(right, untrained)


def test_passages_that_do_not_learn_are_encoded_once_for_all_trainings_and_rankings(
    store: Database, base: Base, adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(store, train=12, dev=6)
    encoded: list[str] = []
    plain = Encoder.pooled

    def watched(encoder: Encoder, texts: Sequence[str], **more: Any) -> torch.Tensor:
        encoded.extend(texts)
        return plain(encoder, texts, **more)

    settings = replace(QUICK, side="question", epochs=1)
    alone = train(store, base, tmp_path / "alone", settings)
    monkeypatch.setattr(Encoder, "pooled", watched)
    for seed in (0, 1):
        trained = train(store, base, adapters, replace(settings, seed=seed), knowledge=tmp_path)
        reranker = Reranker.load(store, trained, adapters)
        assert rerank(store, reranker, trained, "ix", QuestionSet("toy", "dev"), knowledge=tmp_path) == 6
        assert ("passage_encoder" in vars(reranker)) == (seed == 0)  # loaded only while a vector is missing
    passages = [text for text in encoded if not text.startswith("What is")]
    assert len(passages) == len(set(passages)) > 0
    assert len(list((tmp_path / "encodings").iterdir())) == 1  # the base's, and no adapter's
    # Vectors from the disk teach what vectors in memory teach.
    assert hash_of(adapters / alone / WEIGHTS) == hash_of(tmp_path / "alone" / alone / WEIGHTS)


def untrained_hits_at_1(db: Database, reranker: Reranker) -> float:
    """Of a reranker that has no row: by hand instead of by the view."""
    right: list[bool] = []
    for question, text in db.execute("select id, text from questions where split = 'dev'").fetchall():
        query = (
            "select p.id, p.document, p.part, p.title, p.text from retrievals r"
            " join hits h on h.retrieval_id = r.id join passages p on p.id = h.passage_id where r.question_id = ?"
        )
        passages = [Passage(*row) for row in db.execute(query, [question])]
        best = passages[int(reranker.scores(text, passages).argmax())]
        right.append(RIGHT in best.text.split())
    return float(np.mean(right))


@pytest.mark.parametrize("side", get_args(Side))
def test_shuffled_scores_teach_nothing(store: Database, base: Base, adapters: Path, side: Side) -> None:
    World(store, train=80, dev=30, shuffled=True)
    trained = train(store, base, adapters, replace(QUICK, side=side))
    rerank(store, Reranker.load(store, trained, adapters), trained, "ix", QuestionSet("toy", "dev"))
    assert dev_hits_at_1(store, trained) < 0.7


def test_a_loaded_reranker_scores_as_peft_itself_would(store: Database, base: Base, adapters: Path) -> None:
    from peft import PeftModel

    World(store, train=10)
    trained = train(store, base, adapters)
    loaded = Reranker.load(store, trained, adapters)
    wrapped = Encoder.of(base, max_length=QUICK.max_length)
    wrapped.model = cast("Any", PeftModel.from_pretrained(wrapped.model, str(adapters / trained))).eval()
    passages = some_passages(12)
    expected = Reranker(wrapped).scores("What ?", passages)
    assert loaded.scores("What ?", passages) == pytest.approx(expected, abs=1e-3)
    assert Reranker.load(store, trained, adapters).scores("What ?", passages).tolist() == pytest.approx(
        loaded.scores("What ?", passages).tolist(), abs=0
    )
    assert np.abs(expected - Reranker.base(base).scores("What ?", passages)).max() > 0.05  # it did learn


def test_a_second_training_returns_the_first_and_adds_nothing(
    store: Database, base: Base, adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(store, train=10)
    first = train(store, base, adapters)
    rows = list(store.query("select * from rerankers"))

    def refuse(*_: Any, **__: Any) -> Encoder:
        raise AssertionError("trained twice")

    monkeypatch.setattr(Encoder, "of", refuse)
    assert train(store, base, adapters) == first
    assert list(store.query("select * from rerankers")) == rows
    assert train(store, replace(base, spec="elsewhere"), adapters) == first
    assert list(store.query("select * from rerankers")) == [{**rows[0], "base": "elsewhere"}], "where it is now"
    assert [f.name for f in adapters.iterdir()] == [first]
    with pytest.raises(AssertionError, match="trained twice"):
        train(store, base, adapters, replace(QUICK, seed=1))


def test_the_same_data_settings_and_seed_give_the_same_weights_anywhere(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[tuple[str, str]] = []
    for name in ("a", "b"):
        db = open_store(tmp_path / name / "kard.db")
        World(db, train=12, rationales=2)
        torch.rand(len(weights) + 1)  # the state of the process's own generator must not matter
        before = torch.get_rng_state()
        lora = Lora(rank=4, alpha=8, dropout=0.1)
        trained = train(db, base, tmp_path / name / "adapters", replace(QUICK, lora=lora))
        assert torch.equal(torch.get_rng_state(), before)
        weights.append((trained, db.execute("select sha256 from rerankers").fetchone()[0]))
        db.conn.close()
    assert weights[0] == weights[1]


def test_a_row_says_what_was_trained_and_names_no_place_of_this_machine(
    store: Database, base: Base, adapters: Path
) -> None:
    World(store, train=20)
    named = replace(base, spec="pypi:tiny==1")
    trained = train(store, named, adapters, limit=12)
    row = next(iter(store.query("select * from rerankers")))
    assert row["path"] == f"kard.adapters/{trained}"
    assert (row["base"], row["base_sha256"], row["questions"]) == ("pypi:tiny==1", base.sha256, 12)
    assert json.loads(str(row["settings"])) == QUICK.values()
    assert sorted(f.name for f in (adapters / trained).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert str(base.folder) not in (adapters / trained / "adapter_config.json").read_text("utf-8")


class Killer(Silent):
    """Progress that ends the run after so many steps, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def bar(self, label: str, total: int | None, share: Share | None = None) -> Generator[Advance]:
        def advance(units: int) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        yield advance


def test_a_killed_training_leaves_nothing_and_the_next_one_is_whole(
    store: Database, base: Base, adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(store, train=20)
    with pytest.raises(KeyboardInterrupt):
        train(store, base, adapters, progress=Killer(2))
    assert store.table("rerankers").count == 0
    assert not adapters.exists()

    def killed(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # between the adapter and its row
        patch.setattr(training, "now", killed)
        with pytest.raises(KeyboardInterrupt):
            train(store, base, adapters)
    assert store.table("rerankers").count == 0
    trained = train(store, base, adapters)
    assert [f.name for f in adapters.iterdir()] == [trained]
    Reranker.load(store, trained, adapters)


def test_a_lost_adapter_is_trained_again_and_its_scores_stay(store: Database, base: Base, adapters: Path) -> None:
    World(store, train=10, dev=2)
    trained = train(store, base, adapters)
    rerank(store, Reranker.load(store, trained, adapters), trained, "ix", QuestionSet("toy", "dev"))
    (adapters / trained / "adapter_model.safetensors").unlink()
    with pytest.raises(Missing, match="kard train reranker toy"):
        Reranker.load(store, trained, adapters)
    assert train(store, base, adapters) == trained
    Reranker.load(store, trained, adapters)
    assert store.table("rerank_scores").count == 16


def test_what_was_not_trained_here_is_not_loaded(
    store: Database, base: Base, adapters: Path, tmp_path: Path
) -> None:
    World(store, train=10)
    with pytest.raises(Missing, match="kard train reranker"):
        Reranker.load(store, "nobody", adapters)
    trained = train(store, base, adapters)
    file = adapters / trained / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(NoBase, match="is not what was trained"):
        Reranker.load(store, trained, adapters)
    file.write_bytes(whole)
    store.execute("update rerankers set base = ?", [str(write_bert(tmp_path / "other", seed=1))])
    with pytest.raises(NoBase, match="other weights"):
        Reranker.load(store, trained, adapters)


def test_a_folder_that_is_no_encoder_is_refused_in_one_line(tmp_path: Path, base: Base) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}', "utf-8")
    with pytest.raises(NoBase, match="not a text encoder") as caught:
        Encoder.of(replace(base, folder=tmp_path), max_length=8)
    assert "\n" not in str(caught.value)


def test_the_encoder_of_an_encoder_decoder_can_be_trained(store: Database, adapters: Path, tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path / "t5"
    size = write_tokenizer(folder)
    config = T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    World(store, train=4)
    base = bases.resolve(str(folder))
    trained = train(store, base, adapters)
    assert Reranker.load(store, trained, adapters).scores("what ?", some_passages(3)).shape == (3,)


def test_the_upper_half_is_adapted_and_nothing_below_it(encoder: Encoder) -> None:
    names = upper_half_names(encoder.model)
    assert names == [name for name in linear_names(encoder.model) if ".layer.1." in name]
    assert len(names) == 6  # query, key, value, output, and the two of the feed-forward part


def test_base_dropout_stays_off_in_training_and_the_adapters_own_works(
    store: Database, base: Base, adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(store, train=4)
    modes: list[tuple[set[bool], set[bool]]] = []
    plain = training.score_matrix

    def watched(encoder: Encoder, *arguments: Any) -> torch.Tensor:
        drops = [(n, m.training) for n, m in encoder.model.named_modules() if isinstance(m, torch.nn.Dropout)]
        modes.append(({on for n, on in drops if "lora" not in n}, {on for n, on in drops if "lora" in n}))
        return plain(encoder, *arguments)

    monkeypatch.setattr(training, "score_matrix", watched)
    train(store, base, adapters, replace(QUICK, epochs=1, lora=Lora(rank=4, alpha=8, dropout=0.1)))
    assert modes == [({False}, {True})]


def test_the_papers_settings_are_accepted_and_differ_from_the_defaults() -> None:
    paper = RerankerTraining.paper()
    assert (paper.side, paper.scorer, paper.epochs, paper.peak_lr) == ("both", "maxsim", 3, 1e-4)
    assert (paper.candidates, paper.from_rationale, paper.rationales, paper.tau_teacher) == (8, 0.5, 1, 1.0)
    assert paper.hash() != RerankerTraining().hash()


@given(st.integers(1, 400))
def test_the_learning_rate_climbs_for_a_twentieth_and_then_falls_to_nothing(steps: int) -> None:
    rates = [learning_rate(step, steps) for step in range(steps + 1)]
    peak = max(1, round(steps * 0.05)) - 1
    assert rates[peak] == pytest.approx(1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert all(0 < rate <= 1 for rate in rates[:-1])
    assert rates[-1] == 0


# --- ranking --------------------------------------------------------------------------------------


@pytest.fixture
def ranked(store: Database, base: Base, adapters: Path) -> tuple[Database, Reranker, str]:
    World(store, train=6, dev=5)
    trained = train(store, base, adapters, replace(QUICK, epochs=1))
    return store, Reranker.load(store, trained, adapters), trained


Ranked = tuple[Database, Reranker, str]


def test_ranking_twice_adds_nothing(ranked: Ranked, monkeypatch: pytest.MonkeyPatch) -> None:
    db, reranker, name = ranked
    assert rerank(db, reranker, name, "ix", QuestionSet("toy", "dev")) == 5
    rows = list(db.query("select * from rerank_scores order by retrieval_id, rank"))
    monkeypatch.setattr(Reranker, "scores_many", None)
    assert rerank(db, reranker, name, "ix", QuestionSet("toy", "dev")) == 0
    assert list(db.query("select * from rerank_scores order by retrieval_id, rank")) == rows


def test_every_hit_is_ranked_by_its_score(ranked: Ranked) -> None:
    db, reranker, name = ranked
    assert rerank(db, reranker, name, "ix", QuestionSet("toy")) == 11
    for (retrieval,) in db.execute("select id from retrievals where query = 'question'").fetchall():
        scores = db.execute(
            "select rank, passage_id, score from rerank_scores where retrieval_id = ? order by rank", [retrieval]
        ).fetchall()
        hits = db.execute("select passage_id from hits where retrieval_id = ?", [retrieval]).fetchall()
        assert [row[0] for row in scores] == list(range(1, 9))
        assert {row[1] for row in scores} == {row[0] for row in hits}
        assert [row[2] for row in scores] == sorted((row[2] for row in scores), reverse=True)


def test_equal_scores_keep_the_order_of_bm25(ranked: Ranked, monkeypatch: pytest.MonkeyPatch) -> None:
    db, reranker, name = ranked

    def level(_: Reranker, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> list[Any]:
        return [np.zeros(len(candidates), dtype=np.float32) for candidates in passages]

    monkeypatch.setattr(Reranker, "scores_many", level)
    rerank(db, reranker, name, "ix", QuestionSet("toy", "dev"))
    query = (
        "select count(*) from rerank_scores s join hits h using (retrieval_id, passage_id) where s.rank = h.rank"
    )
    assert db.execute(query).fetchone()[0] == 40


def test_a_limit_means_the_same_questions_each_time(ranked: Ranked) -> None:
    db, reranker, name = ranked
    assert rerank(db, reranker, name, "ix", QuestionSet("toy", "dev", 2)) == 2
    assert rerank(db, reranker, name, "ix", QuestionSet("toy", "dev", 2)) == 0
    assert rerank(db, reranker, name, "ix", QuestionSet("toy", "dev", 4)) == 2
    assert rerank(db, reranker, name, "other index", QuestionSet("toy")) == 0


def test_a_killed_ranking_keeps_whole_batches(ranked: Ranked, monkeypatch: pytest.MonkeyPatch) -> None:
    db, reranker, name = ranked
    monkeypatch.setattr(rank, "BATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        rerank(db, reranker, name, "ix", QuestionSet("toy", "dev"), progress=Killer(2))
    assert db.table("rerank_scores").count == 4 * 8
    assert rerank(db, reranker, name, "ix", QuestionSet("toy", "dev")) == 1


def test_a_retrieval_that_was_made_deeper_is_ranked_again(ranked: Ranked) -> None:
    db, reranker, name = ranked
    rerank(db, reranker, name, "ix", QuestionSet("toy", "dev"))
    retrieval = db.execute("select max(retrieval_id) from rerank_scores").fetchone()[0]
    extra = db.execute(
        "select max(id) from passages where id not in (select passage_id from hits where retrieval_id = ?)",
        [retrieval],
    ).fetchone()[0]
    db.execute("insert into hits values (?, 9, ?, 0.1, 9)", [retrieval, extra])
    assert rerank(db, reranker, name, "ix", QuestionSet("toy", "dev")) == 1
    ranks = db.execute("select rank from rerank_scores where retrieval_id = ? order by rank", [retrieval])
    assert [row[0] for row in ranks] == list(range(1, 10))
