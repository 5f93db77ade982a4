"""Every scorer and loss on tiny random models: trained, written, put on again, blind to all but the texts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.config import Lora, Loss, RerankerTraining, Scorer
from kard.db import now
from kard.encoders.encoder import CrossEncoder, Encoder
from kard.errors import BadConfig, NoBase
from kard.models import bases
from kard.models.bases import Base
from kard.recipes import TrainingData
from kard.records import Passage
from kard.reranker import training
from kard.reranker.candidates import Candidates, TrainingQuestion
from kard.reranker.dataset import CandidatePassages, RerankerDataset
from kard.reranker.model import Reranker, untrained_model
from kard.reranker.training import hits_at, train_reranker

FILLER = [f"word{n}" for n in range(40)]
RIGHT, WRONG = "golden", "leaden"  # the one word that decides
SCORERS: tuple[Scorer, ...] = ("pooled", "maxsim", "cross")
QUICK = RerankerTraining(
    side="both",
    rationales=1,
    upper_half=True,
    lora=Lora(rank=4, alpha=8),
    epochs=3,
    batch=8,
    peak_lr=3e-2,
    candidates=6,
    tau_teacher=2.0,
    tau_student=0.2,
    max_length=32,
    held_out=0.0,
    seed=3,  # not the seed that a head is drawn with when a trained one is loaded
)


# --- tiny models and toy questions ------------------------------------------------------------------


def write_tokenizer(folder: Path, *, pairs: bool) -> int:
    """A tokenizer of whole words; without `pairs` it knows no separator, as decoders'. The vocabulary's size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "is", "?", ".", RIGHT, WRONG, *FILLER]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # the stubs know no setter
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    if pairs:
        tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]  # as above
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[arg-type]  # names
    fast.save_pretrained(folder)
    return len(words)


SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # at the usual 0.02 a random model gives every text the same vector
    "pad_token_id": 0,
}


def write(folder: Path, kind: str) -> Base:
    """A random model of that kind in a folder of its own."""
    import transformers

    tf: Any = transformers
    size = {**SIZE, "vocab_size": write_tokenizer(folder / kind, pairs="llama" not in kind)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = {
            "bert": lambda: tf.BertModel(tf.BertConfig(**size), add_pooling_layer=False),
            "bert of three classes": lambda: tf.BertForSequenceClassification(tf.BertConfig(**size, num_labels=3)),
            "roberta": lambda: tf.RobertaModel(tf.RobertaConfig(**size), add_pooling_layer=False),
            "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**size)),
            "llama that ranks": lambda: tf.LlamaForSequenceClassification(tf.LlamaConfig(**size, num_labels=1)),
        }[kind]()
    model.save_pretrained(folder / kind)
    return bases.resolve(str(folder / kind))


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """From a kind of model to its base, each made once; records of bases go to a folder of the tests."""
    bases_by_kind: dict[str, Base] = {}
    folder = tmp_path_factory.mktemp("models")

    def base(kind: str) -> Base:
        if kind not in bases_by_kind:
            bases_by_kind[kind] = write(folder, kind)
        return bases_by_kind[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield base


def toy_dataset(count: int, *, shuffled: bool = False, start: int = 0, rationales: int = 1) -> RerankerDataset:
    """Questions whose two right passages hold one word and whose six wrong ones another; scores say so, or not."""
    rng = random.Random(start)
    texts: list[str] = []
    questions: list[TrainingQuestion] = []
    for number in range(start, start + count):
        numbers = list(range(len(texts), len(texts) + 8))
        for place in range(8):
            words = [RIGHT if place < 2 else WRONG, *rng.sample(FILLER, rng.randint(2, 8))]
            texts.append(" ".join(rng.sample(words, len(words))))
        rationales_of: list[Candidates] = []
        for _ in range(rationales):
            order = rng.sample(numbers, 8) if shuffled else numbers
            bm25 = np.array([10.0, 10.0, *(2.0 - i / 10 for i in range(6))], np.float32)
            ranks = np.array(rng.sample(range(1, 9), 8))
            rationales_of.append(Candidates(np.array(order), bm25, np.ones(8, np.bool_), ranks))
        text = f"what is {rng.choice(FILLER)} ?"
        questions.append(TrainingQuestion(f"q{number}", text, tuple(rationales_of), frozenset(numbers[:2])))
    data = TrainingData(f"{count} {start} {shuffled} {rationales}", count, count * rationales, None, "ix")
    return RerankerDataset("toy", tuple(questions), tuple(texts), data)


def some_passages(count: int, seed: int = 0) -> list[Passage]:
    rng = random.Random(seed)
    return [Passage.of(f"d{n}", 0, "", " ".join(rng.choices(FILLER, k=rng.randint(1, 20)))) for n in range(count)]


@pytest.fixture
def indexed(store: Database) -> Database:
    """A store that knows one index, which is all that a training needs of it."""
    store.table("indexes").insert({"id": "ix", "path": "kb", "passages": 1, "analyser": "a", "created": now()})
    return store


def untrained(base: Base, chosen: RerankerTraining) -> Encoder | CrossEncoder:
    length, projection = chosen.max_length, chosen.projection
    return untrained_model(base, chosen.scorer, max_length=length, projection=projection, seed=chosen.seed)


def learned(base: Base, dataset: RerankerDataset, chosen: RerankerTraining) -> Encoder | CrossEncoder:
    """A model trained on the dataset, as it is before it is written."""
    model = untrained(base, chosen)
    with torch.random.fork_rng():
        torch.manual_seed(chosen.seed)
        training.train_model(model, base, dataset, chosen)
    return model


# --- scores ---------------------------------------------------------------------------------------


def ranker(base: Base, scorer: Scorer) -> Reranker:
    return Reranker(untrained(base, replace(QUICK, scorer=scorer)), scorer)


@pytest.fixture(scope="module", params=[*SCORERS, "decoder"])
def reranker(request: pytest.FixtureRequest, base_of: Any) -> Reranker:
    """An untrained reranker of every scorer, and a decoder that ranks."""
    if request.param == "decoder":
        return ranker(base_of("llama that ranks"), "cross")
    return ranker(base_of("bert"), request.param)


@given(order=st.permutations(range(40)), count=st.integers(1, 40))
@settings(max_examples=8, deadline=None)
def test_a_score_does_not_depend_on_what_else_is_scored_nor_on_the_order(
    reranker: Reranker, order: list[int], count: int
) -> None:
    passages, question = some_passages(40), f"what is {FILLER[3]} ?"
    fresh = Reranker(reranker.model, reranker.scorer)
    alone = np.concatenate([fresh.scores(question, [p]) for p in passages[:8]])
    chosen = order[:count]
    lists = [passages[:5], [passages[i] for i in chosen]]
    together = Reranker(reranker.model, reranker.scorer).scores_many(["is ?", question], lists)
    # Vectors are kept in half precision, scores of pairs are not.
    within = 1e-5 if reranker.scorer == "cross" else 2e-3
    for place, number in enumerate(chosen):
        if number < len(alone):
            assert together[1][place] == pytest.approx(alone[number], abs=within)
    assert together[1].shape == (count,)


def test_no_id_and_no_source_reaches_a_scorer(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    plain = type(reranker.model.tokenizer).__call__

    def spy(self: Any, *lists: list[str], **options: Any) -> Any:
        seen.extend(text for texts in lists for text in texts)
        return plain(self, *lists, **options)

    monkeypatch.setattr(type(reranker.model.tokenizer), "__call__", spy)
    one = Passage("secretid1", "secretdocument1", 3, "word2", "word1")
    other = Passage("secretid2", "secretdocument2", 4, "word2", "word1")
    scores = Reranker(reranker.model, reranker.scorer).scores("what ?", [one, other])
    assert scores[0] == scores[1]
    assert {word for text in seen for word in text.split()} == {"what", "?", "word2.", "word1"}


def test_a_cross_encoder_reads_the_pair_and_the_passage_is_cut_before_the_question(base_of: Any) -> None:
    model = cast("CrossEncoder", ranker(base_of("bert"), "cross").model)
    tokenizer = model.tokenizer
    with torch.no_grad():
        expected = model.model(**tokenizer(["what is ?"], ["golden word1"], return_tensors="pt")).logits.item()
        assert model.pair_scores(["what is ?"], ["golden word1"]).item() == pytest.approx(expected, abs=1e-5)
        long = " ".join(FILLER * 3)
        cut = model.pair_scores(["what is ?", "what ?"], [long, long])
        assert cut[0].item() != pytest.approx(cut[1].item(), abs=1e-4)
        assert model.pair_scores([], []).shape == (0,)
    reranker = Reranker(model, "cross")
    assert [s.shape for s in reranker.scores_many(["what ?", "is ?"], [[], some_passages(2)])] == [(0,), (2,)]
    with pytest.raises(BadConfig, match="has no vectors"):
        assert reranker.encoder


def test_a_decoder_pads_without_seeing_it(base_of: Any) -> None:
    model = cast("CrossEncoder", ranker(base_of("llama that ranks"), "cross").model)
    passages = [" ".join(FILLER[:n]) for n in (1, 5, 20)]
    with torch.no_grad():
        one = torch.cat([model.pair_scores(["what ?"], [p]) for p in passages])
        assert model.pair_scores(["what ?"] * 3, passages).tolist() == pytest.approx(one.tolist(), abs=1e-5)
        assert len({round(score, 4) for score in one.tolist()}) == 3


def test_a_projection_begins_as_the_identity(base_of: Any) -> None:
    passages = some_passages(10)
    plain = ranker(base_of("bert"), "maxsim").scores("what ?", passages)
    projected = Reranker(untrained(base_of("bert"), replace(QUICK, scorer="maxsim", projection=True)), "maxsim")
    assert projected.scores("what ?", passages).tolist() == pytest.approx(plain.tolist(), abs=1e-3)


def test_a_model_that_is_not_the_scorers_is_refused(base_of: Any) -> None:
    with pytest.raises(ValueError, match="does not score by cross"):
        Reranker(untrained(base_of("bert"), QUICK), "cross")
    with pytest.raises(NoBase, match="not a cross-encoder"):
        CrossEncoder.of(replace(base_of("bert"), folder=Path(__file__).parent), max_length=8)


# --- written and put on again ---------------------------------------------------------------------

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "pooled": ("bert", {}),
    "maxsim": ("bert", {"scorer": "maxsim"}),
    "maxsim with a projection": ("bert", {"scorer": "maxsim", "projection": True}),
    "cross, its head new": ("bert", {"scorer": "cross", "tau_student": 1.0}),
    "cross, a head of three classes": ("bert of three classes", {"scorer": "cross", "tau_student": 1.0}),
    "cross, a head of two layers": ("roberta", {"scorer": "cross", "tau_student": 1.0}),
    "cross, a decoder without head": ("llama", {"scorer": "cross", "tau_student": 1.0}),
    "cross, a decoder that ranks": ("llama that ranks", {"scorer": "cross", "tau_student": 1.0}),
    "questions alone": ("bert", {"side": "question"}),
    "questions alone, with a projection": ("bert", {"side": "question", "projection": True}),
    "every weight": ("bert", {"full": True, "peak_lr": 3e-3}),
    "every weight of a cross-encoder": ("bert", {"full": True, "scorer": "cross", "peak_lr": 3e-3}),
    "every layer": ("bert", {"upper_half": False}),
    "rows' lengths apart": ("bert", {"lora": Lora(rank=4, alpha=8, dora=True, rslora=True)}),
    "the queries and values alone": ("bert", {"lora": Lora(rank=4, alpha=8, targets="query, value")}),
}


@pytest.mark.parametrize("form", FORMS)
def test_scores_before_writing_are_those_after_loading(
    form: str, base_of: Any, indexed: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, changes = FORMS[form]
    chosen = replace(QUICK, epochs=1, **changes)
    passages = some_passages(12)
    before: list[Any] = []
    save = training.save_adapter

    def watched(folder: Path, encoder: Encoder | CrossEncoder, base: Base) -> str:
        apart = partial(Encoder.of, base, max_length=chosen.max_length) if chosen.side == "question" else None
        before.append(Reranker(encoder, chosen.scorer, passages=apart).scores("what is ?", passages))
        return save(folder, encoder, base)

    monkeypatch.setattr(training, "save_adapter", watched)
    trained = train_reranker(indexed, toy_dataset(16), base_of(kind), chosen, tmp_path / "adapters")
    loaded = Reranker.load(indexed, trained, tmp_path / "adapters")
    after = loaded.scores("what is ?", passages)
    within = 1e-4 if chosen.scorer == "cross" else 1e-3
    assert after.tolist() == pytest.approx(before[0].tolist(), abs=within)
    start = Reranker(untrained(base_of(kind), chosen), chosen.scorer).scores("what is ?", passages)
    assert np.abs(after - start).max() > 20 * within  # it did learn


def test_every_new_module_is_trained_and_written(base_of: Any, indexed: Database, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    chosen = replace(QUICK, scorer="cross", epochs=1, tau_student=1.0)
    trained = train_reranker(indexed, toy_dataset(8), base_of("bert"), chosen, tmp_path)
    held = load_file(tmp_path / trained / "adapter_model.safetensors")
    fresh = untrained(base_of("bert"), chosen)
    assert fresh.new == ("bert.pooler.dense", "classifier")
    for module in fresh.new:
        weight = held[f"base_model.model.{module}.weight"]
        assert not torch.equal(weight, fresh.model.get_parameter(f"{module}.weight"))


# --- learning -------------------------------------------------------------------------------------


def hits_at_1(encoder: Encoder | CrossEncoder, chosen: RerankerTraining, base: Base) -> float:
    """Of the encoder on both sides, or over vectors of the untrained base where only questions learned."""
    dataset = toy_dataset(32, start=1000)
    passages = CandidatePassages(dataset.texts)
    if chosen.side == "question":
        untouched = Encoder.of(base, max_length=chosen.max_length)
        passages = CandidatePassages.of(dataset, untouched, range(len(dataset.texts)), None)
    return hits_at(encoder, dataset.questions, passages, chosen)["1"]


LEARNING: dict[str, tuple[Scorer, Loss, dict[str, Any]]] = {
    "kl": ("pooled", "kl", {}),
    "ce": ("pooled", "ce", {}),
    "infonce": ("pooled", "infonce", {}),
    "mix": ("pooled", "mix", {"mix": 0.9}),
    "cross": ("cross", "kl", {"tau_student": 1.0, "peak_lr": 1e-2, "epochs": 5}),
    "three rationales": ("pooled", "kl", {"rationales": 3, "epochs": 3}),
    "questions alone": ("pooled", "kl", {"side": "question"}),
    "questions alone, infonce": ("pooled", "infonce", {"side": "question"}),
}


@pytest.mark.parametrize("name", LEARNING)
def test_real_labels_teach_what_shuffled_ones_do_not(name: str, base_of: Any) -> None:
    scorer, loss, more = LEARNING[name]
    chosen = replace(QUICK, scorer=scorer, loss=loss, **more)
    count = chosen.rationales
    base = base_of("bert")
    before = hits_at_1(untrained(base, chosen), chosen, base)
    real = hits_at_1(learned(base, toy_dataset(48, rationales=count), chosen), chosen, base)
    shuffled = hits_at_1(learned(base, toy_dataset(48, rationales=count, shuffled=True), chosen), chosen, base)
    chance = 0.25  # two of eight passages; of 32 questions, 0.2 is nearly three standard errors
    # Random passages that stay where they are can be told apart less well.
    assert real > max(0.85 if chosen.side == "both" else 0.75, before)
    assert shuffled <= max(before, chance) + 0.2


def test_no_epoch_is_the_untrained_model(base_of: Any, indexed: Database, tmp_path: Path) -> None:
    chosen = replace(QUICK, epochs=0)
    trained = train_reranker(indexed, toy_dataset(8), base_of("bert"), chosen, tmp_path)
    passages = some_passages(10)
    untouched = ranker(base_of("bert"), "pooled").scores("what ?", passages)
    assert Reranker.load(indexed, trained, tmp_path).scores("what ?", passages).tolist() == untouched.tolist()


def test_patience_ends_a_training_that_gets_no_better(base_of: Any, indexed: Database, tmp_path: Path) -> None:
    chosen = replace(QUICK, epochs=6, held_out=0.5, patience=1, peak_lr=1e-7)  # nothing can get better
    trained = train_reranker(indexed, toy_dataset(40, shuffled=True), base_of("bert"), chosen, tmp_path)
    metrics = json.loads(indexed.execute("select metrics from rerankers where id = ?", [trained]).fetchone()[0])
    steps = 3  # 20 questions in batches of 8
    assert (len(metrics["loss"]), len(metrics["epochs"]), metrics["kept"]) == (steps, 1, 0)
    assert metrics["hits_after"] == metrics["hits_before"]


def test_an_experiments_reranker_is_another_than_a_runs(base_of: Any, indexed: Database, tmp_path: Path) -> None:
    chosen = replace(QUICK, epochs=0)
    train = partial(train_reranker, indexed, toy_dataset(4), base_of("bert"), chosen, tmp_path)
    assert train() != train(experiment="ablation")
    rows: Sequence[Any] = indexed.execute("select experiment from rerankers order by experiment").fetchall()
    assert [row[0] for row in rows] == ["", "ablation"]


# --- long questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_long_question_keeps_its_end_which_says_what_is_asked(base_of: Any, scorer: Scorer) -> None:
    reranker = Reranker(untrained_model(base_of("bert"), scorer, max_length=32), scorer)
    history = " ".join(FILLER)  # 40 tokens where 32 fit
    passage = Passage.of("d", 0, "", f"{FILLER[0]} .")
    scores = [
        float(reranker.scores(f"{history} {asked} ?", [passage])[0]) for asked in (f"is {RIGHT}", f"is {WRONG}")
    ]
    assert abs(scores[0] - scores[1]) > 1e-3  # without its last words, both are one question
    begins = [float(reranker.scores(f"{begin} {history} ?", [passage])[0]) for begin in (RIGHT, WRONG)]
    assert abs(begins[0] - begins[1]) > 1e-3
    middle = " ".join(FILLER[:20])
    lost = [float(reranker.scores(f"{middle} {word} {middle} ?", [passage])[0]) for word in (RIGHT, WRONG)]
    assert lost[0] == pytest.approx(lost[1], abs=1e-6)


def test_a_question_that_fits_beside_a_short_passage_is_whole(base_of: Any) -> None:
    model = untrained_model(base_of("bert"), "cross", max_length=32)
    assert isinstance(model, CrossEncoder)
    question = " ".join(FILLER[:20])
    with torch.inference_mode():
        whole, other = model.pair_scores([question, question.replace(FILLER[10], RIGHT)], [FILLER[0]] * 2)
    assert abs(whole - other) > 1e-4


def test_passages_keep_their_beginning(base_of: Any) -> None:
    reranker = Reranker(untrained_model(base_of("bert"), "pooled", max_length=32), "pooled")
    long = " ".join(FILLER)
    passages = [Passage.of("d", i, "", f"{long} {word}") for i, word in enumerate((RIGHT, WRONG))]
    first, second = reranker.scores("what ?", passages)
    assert first == pytest.approx(second, abs=1e-6)
