"""Students on tiny random models: tokens, generation in batches, adapters, training, the engine."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dspy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database
from transformers import Gemma3TextConfig, MistralConfig, MistralForCausalLM
from transformers.cache_utils import DynamicLayer

from kard import tasks
from kard.config import Decide, Decoding, Lora, StudentTraining
from kard.errors import Missing, NoBase
from kard.evaluation.condition_names import read_labels
from kard.methods import METHODS, Method
from kard.models import hardware as loading
from kard.models.adapters import WEIGHTS, write_adapter
from kard.models.bases import Base
from kard.models.hardware import load_model
from kard.models.lora import adapt_language_model, config_of, learning_rate, state_of, trainable, unfreeze
from kard.pipeline.load import store_questions
from kard.records import LETTERS, Passage, Question, Sample
from kard.student.examples import Pair, RationaleSource, pairs_by_epoch, render_pair, training_pairs, within_budget
from kard.student.generation.batch import generate_batches, generate_rows, sampling_of
from kard.student.generation.decoder import Decoder, Prefilled
from kard.student.generation.encoder_decoder import EncodedPrompts, EncoderDecoder
from kard.student.generation.engine import EngineLM, Job, StudentEngine, next_batch, queue_of
from kard.student.generation.kv_cache import (
    SPARE_TOKENS,
    GrowingKVLayer,
    caches_all_tokens,
    with_spare_tokens,
)
from kard.student.generation.sampling import Sampling, ignore_rows
from kard.student.generation.student import LoadedBase, Row, Student, load_student, loaded_base
from kard.student.prompt import StudentAdapter, render_prompt, render_target, signature_for, target_pieces
from kard.student.tokens import Ids, Tokens, grouped
from kard.student.training import train as training
from kard.student.training.loss import BLOCK, CausalAttention, Example, LayerwiseLoss, ModelLoss, loss_for
from kard.student.training.train import train_student
from kard.tasks import Task

ANSWER: type[dspy.Signature] = import_module("kard.programs._common").Answer
KINDS = ("decoder", "encoder-decoder")
TOWNS = ("Ilm", "Dorn", "Sarn", "Vell")
SETTINGS = StudentTraining(lora=Lora(rank=4, alpha=8), epochs=2, batch=3, peak_lr=5e-3, k=1, max_length=160)
PROMPTS = [
    "Question: where\nAnswer:",
    "Question: Ilm\nRationale:",
    "Question: where is it\n[1] a b c d\nRationale:",
]


def save_tokenizer(folder: Path, kind: str) -> None:
    """Save a byte-level tokenizer: with end-of-text as padding like SmolLM2's, or ending each text like T5's."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(kinds.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["Question: Options: Rationale: Answer: the town " * 3], trainer)
    if kind == "encoder-decoder":
        raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    pad = "</s>" if kind == "decoder" else "<pad>"
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token=pad).save_pretrained(folder)


def make_base(folder: Path, kind: str, architecture: str = "llama") -> Base:
    """Save a random model of a few thousand weights as a base."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        OPTConfig,
        OPTForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.manual_seed(3)
    if kind == "encoder-decoder":
        config = T5Config(
            vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, initializer_factor=3.0,
            pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        config.decoder_start_token_id = 0  # pyright: ignore[reportAttributeAccessIssue]  # an extra field of every config
        made: Any = T5ForConditionalGeneration(config)
    elif architecture == "gpt2":
        made = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=1
            )
        )
    elif architecture == "opt":
        made = OPTForCausalLM(
            OPTConfig(
                vocab_size=300, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=256, word_embed_proj_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=1,
                init_std=0.3,
            )
        )  # fmt: skip
    else:
        config = LlamaConfig(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1,
            eos_token_id=1, initializer_range=0.3,
        )  # fmt: skip
        made = LlamaForCausalLM(config)
    made.save_pretrained(folder)
    save_tokenizer(folder, kind)
    return Base(str(folder), folder, f"sha-{kind}-{architecture}", kind, made.num_parameters())  # pyright: ignore[reportArgumentType]  # a Kind


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load models in float32, so that two ways to the same number can be compared."""
    monkeypatch.setattr(loading, "dtype", always(torch.float32))


@pytest.fixture(scope="module")
def every_base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    made = {kind: make_base(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}
    return {**made, **{name: make_base(tmp_path_factory.mktemp(name), "decoder", name) for name in ("gpt2", "opt")}}


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest, every_base: dict[str, Base]) -> Base:
    return every_base[request.param]


def reads(here: Student) -> type[Any]:
    """Return the class of the prompts that the student's base has read."""
    return Prefilled if isinstance(embedded(here).generator, Decoder) else EncodedPrompts


def generate(
    student: Student,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]] | None,
    decoding: Decoding,
    *,
    seeds: Sequence[int] | None = None,
) -> list[Sample]:
    """Return one sample for each prompt."""
    choices = options or [()] * len(prompts)
    rows = [Row(student, *row) for row in zip(prompts, choices, seeds or range(len(prompts)), strict=True)]
    return generate_rows(rows, decoding)


def always(value: Any) -> Callable[..., Any]:
    """Return a function that returns the value for any arguments."""

    def given(*_: Any, **__: Any) -> Any:
        return value

    return given


def in_memory(base: Base) -> LoadedBase:
    decoder = base.kind == "decoder"
    loaded = load_model(base, torch.float32)
    return LoadedBase(loaded, Tokens.load(base.folder, decoder=decoder), decoder=decoder)


def embedded(student: Student) -> LoadedBase:
    """Return the student's base, which is in memory."""
    assert isinstance(student.base, LoadedBase)
    return student.base


def student(base: Base, settings: StudentTraining = SETTINGS) -> Student:
    return Student(in_memory(base), None, settings)


@pytest.fixture
def task() -> Task:
    parts = import_module("kard.programs._common")
    return Task(
        name="towns",
        about="Where people were born.",
        parse=lambda _row: None,
        teach=parts.Teach,
        answer=parts.Answer,
        program=parts.RetrieveThenAnswer,
    )


@pytest.fixture
def taught(store: Database) -> Database:
    """Return a store of six questions with three rationales each, two of them copies; none of the last counts."""
    questions = [Question(f"q{i}", "train", f"Where was P{i} born?", TOWNS, LETTERS[i % 4]) for i in range(6)] + [
        Question("t0", "test", "Where was T born?", TOWNS, "A")
    ]
    store_questions(store, "towns", questions)
    store.table("indexes").insert({"id": "ix", "path": "x", "passages": 7, "analyser": "a", "created": "n"})
    store.table("teachers").insert(
        {"id": "t", "name": "t", "model": "m", "instructions": "", "sampling": "{}", "created": "n"}
    )
    for i, question in enumerate(questions):
        gold = question.gold
        told = [
            f"It is said that P was born in {gold}, so they say. So the answer is ({question.answer}) {gold}.",
            f"Born in {gold}.",
            f"Born  in {gold}.",
        ]
        for sample, text in enumerate(told):
            rationale = store.table("rationales").insert(
                {
                    "question_id": i + 1, "teacher_id": "t", "sample": sample, "text": text,
                    "conclusion": question.answer, "accepted": int(i != 5), "created": "n",
                }
            ).last_pk  # fmt: skip
            retrieval = store.table("retrievals").insert(
                {
                    "index_id": "ix", "question_id": i + 1, "rationale_id": rationale, "query": "rationale",
                    "depth": 2, "milliseconds": 0, "created": "n",
                }
            ).last_pk  # fmt: skip
            for rank, body in enumerate((f"P{i} was born in {gold} on the river.", "Rivers flow."), 1):
                passage = Passage.of(f"d{i}", rank, f"P{i}", body)
                store.table("passages").insert(
                    {
                        "id": passage.id,
                        "document": passage.document,
                        "part": rank,
                        "title": passage.title,
                        "text": body,
                    },
                    ignore=True,
                )
                store.table("hits").insert(
                    {"retrieval_id": retrieval, "rank": rank, "passage_id": passage.id, "bm25": 9.0 - rank}
                )
    return store


def train(db: Database, task: Task, base: Base, folder: Path, method: str = "kard", **changed: Any) -> str:
    settings = replace(SETTINGS, **changed)
    return train_student(
        db, task, "tiny", base, METHODS[method], folder, settings, RationaleSource(), index_id="ix"
    )


def test_a_checkpoint_that_a_kill_left_after_the_last_commit_goes_with_the_next_run(
    every_base: dict[str, Base], taught: Database, task: Task, tmp_path: Path
) -> None:
    trained = train(taught, task, every_base["decoder"], tmp_path, epochs=1)
    left = tmp_path / f".{trained}.checkpoint"
    left.touch()
    assert train(taught, task, every_base["decoder"], tmp_path, epochs=1) == trained
    assert not left.exists()


# Tokens


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
@pytest.mark.parametrize(
    ("kind", "of"), [*((kind, None) for kind in KINDS), *(("decoder", name) for name in tasks.names())]
)
def test_a_student_is_trained_on_the_ids_it_will_see(
    every_base: dict[str, Base], kind: str, of: str | None, method: Method, taught: Database, task: Task,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base = every_base[kind]
    if of is not None:  # the signatures and the program of every task that comes with kard
        declared = tasks.load(of)
        task = replace(task, answer=declared.answer, program=declared.program)
    trained: list[Ids] = []
    fit = training.fit

    def noting(made: Any, loss: Any, *rest: Any, **more: Any) -> Any:
        def noted(batch: Sequence[Example]) -> torch.Tensor:
            trained.extend(e.prompt for e in batch)
            return loss(batch)

        return fit(made, noted, *rest, **more)

    monkeypatch.setattr(training, "fit", noting)
    train(taught, task, base, tmp_path, method.name, epochs=1, k=2, max_length=100)
    answering = student(base, replace(SETTINGS, max_length=100))
    seen: list[Ids] = []
    read = embedded(answering).generator.read

    def noted(prompts: Sequence[Ids], *rest: Any, **more: Any) -> Any:
        seen.extend(prompts)
        return read(prompts, *rest, **more)

    monkeypatch.setattr(embedded(answering).generator, "read", noted)

    def found(question: str, options: Sequence[str]) -> list[Passage]:
        name = question.split()[2]
        gold = TOWNS[int(name[1:]) % 4]
        return [
            Passage.of("d", 1, name, f"{name} was born in {gold} on the river."),
            Passage.of("d", 2, name, "Rivers flow."),
        ]

    program = task.program(signature_for(task.answer, method), found if method.reads else None)
    lm = EngineLM(answering, Decoding(max_new_tokens=2))
    with dspy.context(lm=lm, adapter=StudentAdapter()):
        for i in range(5):
            program(question=f"Where was P{i} born?", options=list(TOWNS))
    lm.close()
    assert sorted(trained) == sorted(seen)
    assert len(seen) == 5


def test_a_long_prompt_loses_the_end_of_its_passages_only(base: Base) -> None:
    tokens = Tokens.load(base.folder, decoder=base.kind == "decoder")
    long = render_prompt(ANSWER, {"passages": ["x" * 500, "y" * 500], "question": "Where?", "options": TOWNS})
    ids, cut = tokens.fit_prompt(long, 160)
    text = tokens.text(ids)
    assert (len(ids), cut) == (120, True)
    whole = tokens.fit_prompt(long, 2000)
    assert (tokens.text(whole[0]), whole[1]) == (long, False)
    assert text.startswith("Question: Where?\nOptions: (A) Ilm (B) Dorn (C) Sarn (D) Vell\n[1] xxx")
    assert "y" not in text
    assert text.endswith("x\nRationale:")
    question = render_prompt(ANSWER, {"passages": [], "question": "z" * 300, "options": TOWNS})
    ids, cut = tokens.fit_prompt(question, 160)
    assert "z" * 300 in tokens.text(ids)
    assert not cut  # there was no passage to lose


def test_a_target_is_never_cut(base: Base) -> None:
    tokens = Tokens.load(base.folder, decoder=base.kind == "decoder")
    outputs = {"rationale": "r" * 299, "answer": "Sarn"}
    example = training.tokenize_example(tokens, 0, PROMPTS[2], target_pieces(ANSWER, outputs), SETTINGS)
    assert example.target[-1] == tokens.eos
    assert tokens.text(example.target) == render_target(ANSWER, outputs)


# Generation


def test_a_row_of_a_batch_gets_the_text_it_gets_alone(base: Base) -> None:
    generator, tokens = in_memory(base).generator, Tokens.load(base.folder, decoder=base.kind == "decoder")
    ids = [tokens.prompt(text, 160) for text in PROMPTS]
    batched = generator.read(ids).generate(Sampling(12))
    assert batched == [generator.read([row]).generate(Sampling(12))[0] for row in ids]
    assert len({tuple(row) for row in batched}) == 3
    drawn = Sampling(12, 1.5, 0.9, (1, 2, 3))
    assert generator.read(ids).generate(drawn) == [
        generator.read([row]).generate(replace(drawn, seeds=(seed,)))[0]
        for row, seed in zip(ids, (1, 2, 3), strict=True)
    ]
    assert generator.read(ids).generate(drawn) != generator.read(ids).generate(replace(drawn, seeds=(4, 5, 6)))


@pytest.mark.parametrize("architecture", ["decoder", "gpt2", "opt", "encoder-decoder"])
def test_equal_prompts_of_a_student_are_read_once(every_base: dict[str, Base], architecture: str) -> None:
    here = in_memory(every_base[architecture])
    long, other = (here.tokens.prompt(text, 160) for text in PROMPTS[:2])
    rows, seeds = [long, long, other, long], (1, 2, 3, 4)
    drawn, prefixes = Sampling(12, 1.5, 0.9, seeds), [here.tokens.ids(" so it is"), [], []]
    choices = [[here.tokens.choice(f" {town}") for town in TOWNS]] * 3
    passed: list[int] = []
    seen: list[list[int]] = []

    def count(_layer: Any, given: tuple[torch.Tensor], _out: torch.Tensor) -> None:
        passed.append(len(given[0]))

    reader = here.generator.model if isinstance(here.generator, Decoder) else here.generator.model.get_encoder()
    reader.get_input_embeddings().register_forward_hook(count)
    read = here.generator.read(rows, lambda places: seen.append(places.tolist()))
    assert (passed, seen[0]) == ([2], [0, 2])  # the rows that are read, whoever adds something to them
    apart = [
        here.generator.read([row]).generate(replace(drawn, seeds=(seed,)))[0]
        for row, seed in zip(rows, seeds, strict=True)
    ]
    assert len({tuple(row) for row in apart}) == 4
    assert read.generate(drawn) == apart
    alone = [
        here.generator.read([rows[place]]).score([0], [start], [choice])[0]
        for place, start, choice in zip((3, 2, 1), prefixes, choices, strict=True)
    ]
    assert torch.allclose(torch.tensor(read.score([3, 2, 1], prefixes, choices)), torch.tensor(alone), atol=1e-4)
    passed.clear()
    seen.clear()
    here.generator.read(rows, lambda places: seen.append(places.tolist()), owners=["one", "one", "one", "other"])
    assert (passed, seen[0]) == ([3], [0, 2, 3])
    if isinstance(here.generator, Decoder):
        here.generator.caches_all_tokens = False  # as if a cache had windows
        passed.clear()
        windowed = here.generator.read(rows)
        assert sum(passed) == 4
        assert windowed.generate(drawn) == apart


def test_students_that_share_a_pass_draw_what_each_draws_alone(every_base: dict[str, Base], tmp_path: Path) -> None:
    here, students = several(every_base["decoder"], tmp_path)
    rows = [replace(row, seed=seed) for row in rows_of(students) for seed in (1, 2)]
    decoding = Decoding(max_new_tokens=12, batch=len(rows), samples=2, temperature=1.5)
    alone = [generate_rows([row], decoding)[0].text for row in rows]
    generator = here.generator
    assert isinstance(generator, Decoder)
    for piece in (generator.piece_tokens, 100):
        generator.piece_tokens = piece
        assert [sample.text for sample in generate_rows(rows, decoding)] == alone


@pytest.mark.parametrize("architecture", ["decoder", "gpt2", "opt"])
@pytest.mark.parametrize("room", [0, 3, SPARE_TOKENS])
def test_reading_prompts_in_pieces_changes_no_text_and_no_score(
    every_base: dict[str, Base], architecture: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kard.student.generation.kv_cache.SPARE_TOKENS", room)
    generator = in_memory(every_base[architecture]).generator
    assert isinstance(generator, Decoder)
    assert generator.piece_tokens
    tokens = Tokens.load(every_base[architecture].folder, decoder=True)
    ids = [tokens.prompt(text, 160) for text in (*PROMPTS, *PROMPTS[::-1])]
    rows, prefixes = [5, 0, 3], [tokens.ids(" so it is"), [], tokens.ids(" so")]
    choices = [[tokens.choice(f" {town}") for town in TOWNS] for _ in rows]
    seen: list[list[int]] = []
    made: list[tuple[list[Ids], list[list[float]]]] = []
    for generator.piece_tokens in (None, 100, 1):
        read = generator.read(ids, lambda rows: seen.append(rows.tolist()))
        assert seen[-1] == list(range(6))
        seen.clear()
        written = read.generate(Sampling(12))
        seen.clear()
        made.append((written, read.score(rows, prefixes, choices)))  # over what was read, not what was written
        assert seen == [rows, [row for row in rows for _ in TOWNS]]  # whoever adds to rows knows which
    once, *others = made
    for written, found in others:
        assert written == once[0]
        assert torch.allclose(torch.tensor(found), torch.tensor(once[1]), atol=1e-4)
    generator.caches_all_tokens = False  # as if a cache had windows: read again with what was prefixes
    alone = generator.read(ids, lambda rows: seen.append(rows.tolist()))
    seen.clear()
    assert torch.allclose(torch.tensor(alone.score(rows, prefixes, choices)), torch.tensor(once[1]), atol=1e-4)
    assert seen == [*([row] for row in rows), rows, [row for row in rows for _ in TOWNS]]


def test_prompts_are_continued_once_and_scored_any_number_of_times(base: Base) -> None:
    here = in_memory(base)
    ids = [here.tokens.prompt(text, 160) for text in PROMPTS]
    choices = [[here.tokens.choice(f" {town}") for town in TOWNS]] * 3
    seen: list[list[int]] = []
    one, other = (here.generator.read(ids, lambda rows: seen.append(rows.tolist())) for _ in range(2))
    before = other.score([0, 1, 2], [[]] * 3, choices)
    seen.clear()
    assert one.generate(Sampling(12)) == other.generate(Sampling(12))
    assert seen[0] == [0, 1, 2]  # whatever was scored before
    assert torch.allclose(torch.tensor(one.score([0, 1, 2], [[]] * 3, choices)), torch.tensor(before), atol=1e-4)
    if isinstance(here.generator, Decoder):
        with pytest.raises(RuntimeError, match="continued before"):
            one.generate(Sampling(12))
        unkept = here.generator.read(ids, scored=False).score([0, 1, 2], [[]] * 3, choices)
        assert torch.allclose(torch.tensor(unkept), torch.tensor(before), atol=1e-4)


def test_the_tokens_of_a_batch_follow_from_the_bytes_of_keys_and_values(
    every_base: dict[str, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("decoder", "gpt2", "opt"):
        generator = in_memory(every_base[name]).generator
        assert isinstance(generator, Decoder)
        _, _, kept = generator.prefill([[5, 6, 7]], ignore_rows, [None])
        layers = cast("list[Any]", kept.layers)
        held = sum(layer.keys[:, :, :3].nbytes + layer.values[:, :, :3].nbytes for layer in layers)
        assert generator.max_tokens == (3 << 29) // (held // 3)
    encoded = in_memory(every_base["encoder-decoder"]).generator
    assert encoded.max_tokens > 0


@pytest.mark.parametrize("most", [1, 6])
def test_scoring_options_in_small_passes_changes_no_score(
    base: Base, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = in_memory(base)
    prompts = here.generator.read([here.tokens.prompt(text, 160) for text in PROMPTS])
    prefixes = [here.tokens.ids(" so")] * 3
    choices = [[here.tokens.choice(f" {town}") for town in TOWNS[:many]] for many in (2, 3, 1)]
    whole = prompts.score([2, 0, 1], prefixes, choices)
    monkeypatch.setattr("kard.student.generation.sampling.OPTIONS_PER_PASS", most)
    for one, other in zip(prompts.score([2, 0, 1], prefixes, choices), whole, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("name", ["decoder", "encoder-decoder"])
def test_fewer_options_of_long_prompts_are_scored_in_a_pass(
    name: str, every_base: dict[str, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = in_memory(every_base[name])
    prompts: Any = here.generator.read([here.tokens.prompt(text, 160) for text in PROMPTS])
    choices = [[here.tokens.choice(f" {town}") for town in TOWNS[:2]]] * 3
    sizes: list[int] = []
    score = prompts.score_together

    def counted(rows: Sequence[int], *rest: Any) -> Any:
        sizes.append(len(rows))
        return score(rows, *rest)

    monkeypatch.setattr(prompts, "score_together", counted)
    longest = max(len(here.tokens.prompt(text, 160)) for text in PROMPTS) + max(map(len, choices[0]))
    found: list[list[list[float]]] = []
    for options in (6, 4, 1):  # that have room
        monkeypatch.setattr(here.generator, "max_tokens", options * longest + longest - 1)
        found.append(prompts.score([0, 1, 2], [[]] * 3, choices))
    assert sizes == [3, 2, 1, 1, 1, 1]
    assert torch.allclose(torch.tensor(found[0]), torch.tensor(found[1]), atol=1e-4)
    assert torch.allclose(torch.tensor(found[0]), torch.tensor(found[2]), atol=1e-4)


def test_long_prompts_make_small_batches(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = student(base)
    rows = [Row(here, PROMPTS[i % 3], (), i) for i in range(7)]
    sizes: list[int] = []
    read = embedded(here).generator.read

    def counted(prompts: Sequence[Ids], *rest: Any, **more: Any) -> Any:
        sizes.append(len(prompts))
        assert (max(map(len, prompts)) + 3) * len(prompts) <= embedded(here).generator.max_tokens or len(
            prompts
        ) == 1
        return read(prompts, *rest, **more)

    monkeypatch.setattr(embedded(here).generator, "read", counted)
    monkeypatch.setattr(embedded(here).generator, "max_tokens", 2 * (3 + max(len(row.prompt_ids) for row in rows)))
    short = Decoding(max_new_tokens=3)
    texts = [sample.text for sample in generate_batches(embedded(here).generator, rows, short)]
    assert sum(sizes) == 7
    assert len(sizes) > 2
    sizes.clear()
    monkeypatch.setattr(embedded(here).generator, "max_tokens", 100_000)
    assert [sample.text for sample in generate_batches(embedded(here).generator, rows, short)] == texts
    assert len(sizes) == len({row.answer_only for row in rows})


def test_a_growing_cache_holds_what_transformers_own_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kard.student.generation.kv_cache.SPARE_TOKENS", 2)
    plain, parts = DynamicLayer(), [DynamicLayer(), DynamicLayer()]
    states = torch.arange(3 * 2 * 4 * 2.0).view(3, 2, 4, 2)
    plain.update(states, -states)
    parts[0].update(states[:1], -states[:1])
    parts[1].update(states[1:], -states[1:])
    roomy = GrowingKVLayer(parts)
    assert parts[0].keys is None
    for step, rows in enumerate((None, [2, 1, 0], None, None, None, [0, 1, 2], [1, 2], [0, 0], None, [1])):
        for layer in (plain, roomy) if rows else ():
            layer.batch_select_indices(torch.tensor(rows))
        fresh = torch.full((len(cast(torch.Tensor, roomy.keys)), 2, 1, 2), 100.0 + step)
        for ours, theirs in zip(roomy.update(fresh, -fresh), plain.update(fresh, -fresh), strict=True):
            assert torch.equal(ours, theirs)
        assert roomy.get_seq_length() == plain.get_seq_length()


def test_prompts_are_read_at_once_if_rotary_embeddings_follow_the_longest_row() -> None:
    half = 64 * [1.0]  # a factor for each pair of a head's states
    for kind, more, read_at_once in (
        ("default", {}, False),
        ("dynamic", {}, True),
        ("longrope", {"short_factor": half, "long_factor": half, "original_max_position_embeddings": 64}, True),
    ):
        turned: dict[str, Any] = {"rope_type": kind, "factor": 2.0, "rope_theta": 10_000.0, **more}
        plain = MistralConfig(num_hidden_layers=2, sliding_window=None, rope_parameters=turned)
        by_layer = Gemma3TextConfig(
            num_hidden_layers=1, layer_types=["full_attention"], rope_parameters={"full_attention": turned}
        )
        for config in (plain, by_layer):
            assert caches_all_tokens(SimpleNamespace(config=config)) is not read_at_once


def test_prompts_are_read_at_once_if_the_cache_has_windows() -> None:
    def of(**more: Any) -> Any:
        return SimpleNamespace(config=MistralConfig(num_hidden_layers=2, **more))

    assert caches_all_tokens(of(sliding_window=None))
    assert not caches_all_tokens(of(sliding_window=16))
    tiny = MistralConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=16,
    )  # fmt: skip
    assert Decoder(MistralForCausalLM(tiny), 0, 0).piece_tokens is None


@given(lengths=st.lists(st.integers(1, 60)), most=st.integers(1, 200), rows=st.none() | st.integers(1, 5))
@settings(deadline=None)
def test_groups_are_all_rows_in_order_and_as_many_as_fit(lengths: list[int], most: int, rows: int | None) -> None:
    made = list(grouped(lengths, most, rows))
    many = rows or len(lengths)
    assert all(len(group) <= many for group in made)
    assert [row for piece in made for row in piece] == list(range(len(lengths)))
    for piece in made:
        assert len(piece) == 1 or max(lengths[row] for row in piece) * len(piece) <= most
    for piece, after in pairwise(made):
        assert max(lengths[row] for row in (*piece, after[0])) * (len(piece) + 1) > most or len(piece) == many


def test_attention_of_one_token_gives_the_texts_of_torchs_own(every_base: dict[str, Base]) -> None:
    base = every_base["decoder"]
    here = in_memory(base)
    ids = [here.tokens.prompt(text, 160) for text in PROMPTS]
    ours = here.generator.read(ids).generate(Sampling(12))
    assert here.generator.model.config._attn_implementation == "kard_one_token"
    here.generator.model.set_attn_implementation("sdpa")
    assert here.generator.read(ids).generate(Sampling(12)) == ours


def test_keys_that_begin_a_buffer_are_multiplied_where_they_lie() -> None:
    piece = DynamicLayer()
    piece.update(torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5, 4))
    keys, values = GrowingKVLayer([piece]).update(torch.randn(3, 2, 1, 4), torch.randn(3, 2, 1, 4))
    for states in (keys, values):
        whole = with_spare_tokens(states)
        assert whole.data_ptr() == states.data_ptr()
        assert whole.is_contiguous()  # a batched product copies what is not
        assert whole.shape == (3, 2, 5 + SPARE_TOKENS, 4)
        assert torch.equal(whole[:, :, :6], states)
        assert not whole[:, :, 6:].any()
    packed, turned = torch.randn(3, 2, 6, 4), torch.randn(3, 6, 2, 4).transpose(1, 2)
    for states in (packed, turned, packed[:, :, 1:], packed[1:, :, :4], packed[:, :1]):
        assert with_spare_tokens(states)[:, :, : states.shape[2]].equal(states)
        assert with_spare_tokens(states).shape[:2] == states.shape[:2]
    end = packed[:, :, 2:]  # its last row would reach past the buffer
    assert with_spare_tokens(end) is end


def test_a_row_that_ended_stays_ended_while_others_go_on(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = in_memory(base)
    ids = [here.tokens.prompt(text, 160) for text in PROMPTS]
    free = here.generator.read(ids).generate(Sampling(10))
    # Call the first row's third token the end: each row must now stop at its first one, and change nothing else.
    end = free[0][2]
    here.generator.eos = end
    stopped = here.generator.read(ids).generate(Sampling(10))
    cut = [row[: row.index(end) + 1] if end in row else row for row in free]
    assert stopped == cut
    assert len(stopped[0]) <= 3 < max(map(len, stopped))


def test_a_model_that_knows_nothing_prefers_no_option_for_its_length(base: Base) -> None:
    here = in_memory(base)
    torch.nn.init.zeros_(here.generator.model.get_output_embeddings().weight)  # every token is as likely
    choices = [[here.tokens.choice(text) for text in (" no", " a much longer option than that")]]
    prompts = here.generator.read([here.tokens.prompt(PROMPTS[1], 160)])
    short, long = prompts.score([0], [here.tokens.ids(" so")], choices)[0]
    assert short == pytest.approx(long)  # by sums, " no" was twelve times as likely


def test_choices_are_scored_by_the_mean_of_all_their_tokens(base: Base) -> None:
    here = in_memory(base)
    tokens, generator = here.tokens, here.generator
    choices = [[tokens.choice(f" {town}") for town in TOWNS], [tokens.choice(" x"), tokens.choice(" yes it is")]]
    prompts = [tokens.prompt(text, 160) for text in PROMPTS[1:]]
    prefixes = [tokens.ids(" so"), tokens.ids(" and so on")]
    scores = generator.read(prompts).score([0, 1], prefixes, choices)
    loss = ModelLoss(generator.model, tokens.pad, decoder=base.kind == "decoder")
    for prompt, start, row, score in zip(prompts, prefixes, choices, scores, strict=True):
        # A target's loss is its negative log-probability; what was prefixes is taken off again.
        for choice, found in zip(row, score, strict=True):
            whole = loss([Example(0, prompt, [*start, *choice])]) - loss([Example(0, prompt, start)])
            # Relative, since on processors with AMX the two ways are 0.003 apart at a score of -106.
            assert found == pytest.approx(-whole.item() / len(choice), rel=1e-4)


def test_an_answer_is_always_obtained_from_options(base: Base) -> None:
    here = student(base)
    samples = generate(here, PROMPTS, [TOWNS, TOWNS, ("yes", "no")], Decoding(max_new_tokens=5, batch=2))
    for prompt, sample, options in zip(PROMPTS, samples, (TOWNS, TOWNS, ("yes", "no")), strict=True):
        assert sample.answer is not None
        assert sample.forced
        answer = options[LETTERS.index(sample.answer)]
        cue = "" if prompt.endswith("Answer:") else "\nAnswer:"
        assert sample.text.endswith(f"{cue} {answer}")
        assert sample.prompt_tokens == len(here.base.tokens.prompt(prompt, SETTINGS.max_length))
        assert sample.milliseconds > 0
    free = generate(here, PROMPTS, None, Decoding(max_new_tokens=5))  # what may go on is no short answer
    assert [(sample.answer, sample.forced) for sample in free] == [(None, "budget")] * 3


def test_a_short_answer_that_ended_is_read_after_either_cue(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = student(base)
    tokens = here.base.tokens
    at_once = next(prompt for prompt in PROMPTS if prompt.endswith("Answer:"))
    later = next(prompt for prompt in PROMPTS if not prompt.endswith("Answer:"))
    for prompt, text in ((at_once, " The cap"), (later, " Born.\nAnswer: The cap")):
        monkeypatch.setattr(reads(here), "generate", always([[*tokens.ids(text), tokens.eos]]))
        (sample,) = generate(here, [prompt], [()], Decoding(max_new_tokens=90))
        assert (sample.answer, sample.forced) == ("The cap", None)


def test_a_forced_answer_is_the_likeliest_option(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = student(base, replace(SETTINGS, answer="letter"))
    cut = here.base.tokens.ids(" Born, born\nAnswer: Rome or")
    monkeypatch.setattr(reads(here), "score", always([[-3.0, -2.0, -1.0, -4.0]] * 2))
    monkeypatch.setattr(reads(here), "generate", always([cut, cut]))
    samples = generate(here, PROMPTS[1:], [TOWNS, TOWNS], Decoding(max_new_tokens=5))
    assert [(s.text, s.answer, s.forced) for s in samples] == [(" Born, born\nAnswer: C", "C", "budget")] * 2


def test_likelihood_decides_after_the_rationale(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = student(base)
    tokens = here.base.tokens
    texts = [" Born, born.\nAnswer: Vell", " Born."]  # an answer that is read, and none
    monkeypatch.setattr(reads(here), "generate", always([[*tokens.ids(text), tokens.eos] for text in texts]))

    def score(_: Any, rows: Sequence[int], prefixes: Sequence[Ids], __: object) -> list[list[float]]:
        written = [tokens.text(prefix) for prefix in prefixes]
        assert written == [" Born, born.\nAnswer:", " Born.\nAnswer:"][-len(rows) :]
        return [[-1.0, -9.0, -2.0, -9.0]] * len(rows)

    monkeypatch.setattr(reads(here), "score", score)

    def decided(decide: Decide) -> list[Sample]:
        return generate(here, PROMPTS[1:2] * 2, [TOWNS, TOWNS], Decoding(max_new_tokens=90, decide=decide))

    written, likely = decided("written"), decided("likelihood")
    assert [(s.answer, s.forced, s.shares) for s in written] == [("D", None, ()), ("A", "unread", ())]
    assert [(s.answer, s.forced) for s in likely] == [("A", None), ("A", "unread")]
    assert [s.text for s in likely] == [texts[0], " Born.\nAnswer: Ilm"]
    for sample in likely:
        assert sum(sample.shares) == pytest.approx(1)
        assert max(sample.shares) == sample.shares[LETTERS.index(str(sample.answer))]


def test_what_can_be_read_is_not_forced(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = student(base)
    tokens = here.base.tokens
    written = {
        " Born.\nAnswer: Vell": ("D", None),  # at its budget, but with an answer
        " So the answer is Sarn.</s>": ("C", None),  # ended on a conclusion without a cue
        " So the answer is Sarn.": (None, "budget"),  # cut before its cue
        " Born.\nAnswer: Rome or": (None, "budget"),  # cut in its answer
        " Born.\nAnswer: Rome</s>": (None, "unread"),  # ended on no option
    }
    for text, (letter, forced) in written.items():
        out = [*tokens.ids(text.removesuffix("</s>")), *([tokens.eos] if text.endswith("</s>") else [])]
        monkeypatch.setattr(reads(here), "generate", always([out]))
        (sample,) = generate(here, PROMPTS[1:2], [TOWNS], Decoding(max_new_tokens=90))
        assert sample.forced == forced
        assert sample.answer == letter if letter else sample.answer in tuple("ABCD")


def test_a_text_without_options_ends_with_its_first_answer(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = student(base)
    tokens = here.base.tokens
    text = " Born.\nAnswer: The cap\nAnswer: The cap\nAnswer: The cap"
    kept = " Born.\nAnswer: The cap" if tokens.text(tokens.ids(text)).count("\n") else text.replace("\n", " ")
    monkeypatch.setattr(reads(here), "generate", always([tokens.ids(text)] * 2))
    free, chosen = generate(here, PROMPTS[1:2] * 2, [(), ("The cap", "a bolt")], Decoding(max_new_tokens=90))
    assert (free.text.strip(), free.answer) == (kept.strip(), "The cap")
    assert chosen.text.count("Answer:") == 3  # with options nothing is cut: texts of evaluations stay


def test_writing_stops_behind_the_first_answer_where_there_are_no_options(base: Base) -> None:
    here = student(base)
    rows = [Row(here, PROMPTS[1], options, 0) for options in ((), TOWNS)]
    whole = sampling_of(rows, Decoding(max_new_tokens=9)).whole
    assert whole is not None
    going, ended = (here.base.tokens.ids(text) for text in (" Born.\nAnswer: cap", " Born.\nAnswer: cap\n"))
    if base.kind == "decoder":  # T5's tokenizer loses line breaks
        assert [whole(0, going), whole(0, ended), whole(1, ended)] == [False, True, False]
    assert sampling_of(rows[1:], Decoding(max_new_tokens=9)).whole is None


def test_a_row_ends_when_nothing_more_of_it_would_count() -> None:
    from kard.student.generation.sampling import Sampling, decode_loop

    class Counting:
        """Rows that write 3, 4, 5, ..."""

        def __init__(self) -> None:
            self.next = torch.tensor([3, 3])

        def logits(self) -> torch.Tensor:
            return torch.nn.functional.one_hot(self.next, 20).float()

        def append(self, tokens: torch.Tensor) -> None:
            self.next = tokens + 1

        def select(self, rows: torch.Tensor) -> None:
            self.next = self.next[rows]

    def whole(row: int, ids: Sequence[int]) -> bool:
        return row == 1 and ids[-1] == 5

    written = decode_loop(Counting(), 2, 19, Sampling(6, whole=whole), lambda _: None)
    assert written == [[3, 4, 5, 6, 7, 8], [3, 4, 5]]


# Training


def test_padding_and_batching_change_no_loss(base: Base) -> None:
    loaded = load_model(base, torch.float32)
    tokens = Tokens.load(base.folder, decoder=base.kind == "decoder")
    batch = [
        training.tokenize_example(tokens, i, prompt, [("", " so it is" * i), ("\nAnswer:", " Ilm")], SETTINGS)
        for i, prompt in enumerate(PROMPTS)
    ]
    ways: list[Any] = [ModelLoss(loaded, tokens.pad, decoder=base.kind == "decoder")]
    if base.kind == "decoder":
        ways.append(loss_for(loaded, 2, tokens.pad, decoder=True))
        assert isinstance(ways[1], LayerwiseLoss)
    one_by_one = [ways[0]([e]).item() for e in batch]
    for loss in ways:
        assert loss(batch).item() == pytest.approx(sum(one_by_one), rel=1e-4)
        assert [loss([e]).item() for e in batch] == pytest.approx(one_by_one, rel=1e-4)
    # The last target token is end-of-text, which is padding too in these decoders: it counts.
    short = [Example(9, e.prompt, e.target[:-1]) for e in batch[:1]]
    assert ways[0](short).item() < one_by_one[0]


def test_the_head_computes_logits_from_the_shortest_prompts_last_token_on(every_base: dict[str, Base]) -> None:
    seen: list[int] = []

    def note(_head: Any, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(given[0].shape[1])

    for name in ("decoder", "gpt2", "opt"):
        loaded = load_model(every_base[name], torch.float32)
        loaded.get_output_embeddings().register_forward_pre_hook(note)
        ModelLoss(loaded, 1, decoder=True)([Example(0, [5, 6, 7, 8], [9, 1]), Example(1, [5, 6, 7], [8, 9, 4, 1])])
    assert seen == [7 - 2] * 3  # of seven tokens, from the shorter prompt's last on


def test_layers_give_the_gradients_of_the_model_itself(every_base: dict[str, Base]) -> None:
    base = every_base["decoder"]
    tokens = Tokens.load(base.folder, decoder=True)
    batch = [
        training.tokenize_example(tokens, i, prompt, [("", " so it is" * i), ("\nAnswer:", " Ilm")], SETTINGS)
        for i, prompt in enumerate(PROMPTS)
    ]
    found: list[list[torch.Tensor]] = []
    for layered in (True, False):
        loaded = load_model(base, torch.float32)
        loss = (
            loss_for(loaded, 2, tokens.pad, decoder=True)
            if layered
            else ModelLoss(loaded, tokens.pad, decoder=True)
        )
        torch.manual_seed(0)
        made = adapt_language_model(loaded, Lora(rank=3, alpha=5), spec="x", layers=range(2, 4), decoder=True)
        if not layered:  # peft's own forward
            for module in made.modules():
                module.__dict__.pop("forward", None)
        for i, p in enumerate(trainable(made)):
            torch.manual_seed(i)
            torch.nn.init.normal_(p, std=0.3)
        for _ in range(2):  # the second time from the cache of the lower half
            loss(batch).backward()
        found.append([p.grad for p in trainable(made) if p.grad is not None])
    assert len(found[0]) == len(found[1]) == 2 * 7 * 2
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("length", [1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_attention_by_blocks_is_causal_attention(length: int) -> None:
    torch.manual_seed(length)
    q, k, v = (torch.randn(2, count, length, 8, dtype=torch.float64, requires_grad=True) for count in (6, 2, 2))
    heads = [q, k, v]
    blocks = cast(torch.Tensor, CausalAttention.apply(q * 8**-0.5, k, v))
    whole = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(blocks, whole)
    outside = torch.randn_like(whole)
    torch.testing.assert_close(
        torch.autograd.grad(blocks, heads, outside), torch.autograd.grad(whole, heads, outside)
    )


def test_dropout_reaches_the_low_rank_part_alone(every_base: dict[str, Base]) -> None:
    made = adapt_language_model(
        load_model(every_base["decoder"], torch.float32),
        Lora(rank=3, alpha=5, dropout=0.5),
        spec="x",
        layers=[3],
        decoder=True,
    )
    layer = made.base_model.model.model.layers[3].mlp.up_proj
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(5, 32, requires_grad=True)
    torch.manual_seed(1)
    ours = layer(x)
    ours.sum().backward()
    gradient, x.grad = x.grad, None
    layer.__dict__.pop("forward")
    torch.manual_seed(1)
    theirs = layer(x)
    theirs.sum().backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, x.grad)


def test_states_that_do_not_fit_the_cache_are_computed_again(every_base: dict[str, Base]) -> None:
    loaded = load_model(every_base["decoder"], torch.float32)
    batch = [Example(i, [5, 6, 7 + i], [8, 1]) for i in range(3)]
    small, large = LayerwiseLoss(loaded, 2, cache_bytes=5 * 32 * 4), LayerwiseLoss(loaded, 2)
    for _ in range(2):
        assert small(batch).item() == pytest.approx(large(batch).item())
    assert (len(small._cache), len(large._cache)) == (1, 3)  # pyright: ignore[reportPrivateUsage]  # the point


def test_a_model_that_cannot_run_layer_by_layer_trains_through_its_own_forward(
    every_base: dict[str, Base], taught: Database, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt2 = every_base["gpt2"]
    loaded = load_model(gpt2, torch.float32)
    assert isinstance(loss_for(loaded, 1, 1, decoder=True), ModelLoss)
    llama = load_model(every_base["decoder"], torch.float32)

    def blind(_module: Any, query: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        return query.transpose(1, 2), None

    monkeypatch.setattr("kard.student.training.loss._causal", blind)
    assert isinstance(loss_for(llama, 2, 1, decoder=True), ModelLoss)
    assert llama.config._attn_implementation == "sdpa"
    trained = train(taught, task, gpt2, tmp_path)
    monkeypatch.setattr("kard.models.bases.resolve", always(gpt2))
    samples = generate(load_student(taught, trained, tmp_path), PROMPTS, [TOWNS] * 3, Decoding(max_new_tokens=3))
    assert all(sample.answer for sample in samples)


@pytest.mark.parametrize("upper_half", [True, False])
def test_training_lowers_the_loss_and_the_saved_student_is_the_trained_one(
    base: Base, taught: Database, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upper_half: bool
) -> None:
    monkeypatch.setattr("kard.models.bases.resolve", always(base))
    short = train(taught, task, base, tmp_path, epochs=1, upper_half=upper_half)
    long = train(taught, task, base, tmp_path, epochs=12, upper_half=upper_half, peak_lr=3e-2)
    rows = {row["id"]: row for row in taught.query("select * from students")}
    assert rows[long]["loss"] < 0.65 * rows[short]["loss"]
    assert rows[long]["examples"] == 10  # two rationales of five questions: the third is a copy
    assert rows[long]["path"] == f"{tmp_path.name}/{long}"

    # peft itself reads the folder, and its unmerged adapter gives what the merged student gives.
    from peft import PeftModel

    config = json.loads((tmp_path / long / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base.spec
    loaded = load_student(taught, long, tmp_path)
    embedded(loaded).activate(loaded.adapter)
    theirs: Any = PeftModel.from_pretrained(load_model(base, torch.float32), str(tmp_path / long))
    ids = torch.tensor([loaded.base.tokens.prompt(PROMPTS[2], 160)])
    more: dict[str, Any] = (
        {} if base.kind == "decoder" else {"decoder_input_ids": torch.zeros((1, 1), dtype=torch.long)}
    )
    with torch.no_grad():
        ours = embedded(loaded).generator.model(input_ids=ids, **more).logits
        torch.testing.assert_close(ours, theirs(input_ids=ids, **more).logits, rtol=1e-3, atol=1e-3)
        embedded(loaded).activate(None)
        assert not torch.allclose(ours, embedded(loaded).generator.model(input_ids=ids, **more).logits, atol=1e-2)
    layers = {key.split(".layers.")[1].split(".")[0] for key in config_keys(tmp_path / long) if ".layers." in key}
    if base.kind == "decoder":
        assert layers == ({"2", "3"} if upper_half else {"0", "1", "2", "3"})


@pytest.mark.parametrize("upper_half", [True, False])
def test_weights_that_were_trained_themselves_are_a_student(
    base: Base, taught: Database, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upper_half: bool
) -> None:
    monkeypatch.setattr("kard.models.bases.resolve", always(base))
    seen: list[Any] = []
    fit = training.fit

    def noted(made: Any, *rest: Any, **more: Any) -> Any:
        seen.append(made)
        return fit(made, *rest, **more)

    monkeypatch.setattr(training, "fit", noted)
    short = train(taught, task, base, tmp_path, epochs=1, full=True, upper_half=upper_half)
    long = train(taught, task, base, tmp_path, epochs=12, full=True, upper_half=upper_half, peak_lr=3e-2)
    losses = {row["id"]: row["loss"] for row in taught.query("select id, loss from students")}
    assert losses[long] < 0.6 * losses[short]
    loaded = load_student(taught, long, tmp_path)
    embedded(loaded).activate(loaded.adapter)
    ids = torch.tensor([loaded.base.tokens.prompt(PROMPTS[2], 160)])
    more: dict[str, Any] = (
        {} if base.kind == "decoder" else {"decoder_input_ids": torch.zeros((1, 1), dtype=torch.long)}
    )
    with torch.no_grad():
        ours = embedded(loaded).generator.model(input_ids=ids, **more).logits
        seen[1].set_attn_implementation("eager")  # it attends in the way of training
        torch.testing.assert_close(ours, seen[1].eval()(input_ids=ids, **more).logits, rtol=1e-3, atol=1e-3)
        embedded(loaded).activate(None)
        assert not torch.allclose(ours, embedded(loaded).generator.model(input_ids=ids, **more).logits, atol=1e-2)
    kept = config_keys(tmp_path / long)
    assert not any("lora" in key for key in kept)
    assert any("embed_tokens" in key or "shared" in key for key in kept) == (
        not upper_half or base.kind != "decoder"
    )
    samples = generate(loaded, PROMPTS, [TOWNS] * 3, Decoding(max_new_tokens=5))
    assert all(sample.answer for sample in samples)


def config_keys(folder: Path) -> list[str]:
    from safetensors.torch import load_file

    return list(load_file(folder / WEIGHTS))


def test_two_students_share_a_base_and_switching_changes_no_text(
    base: Base, taught: Database, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded_base.cache_clear()
    monkeypatch.setattr("kard.models.bases.resolve", always(base))
    loads: list[Base] = []
    kept = loading.load_model

    def noted(base: Base, precision: torch.dtype) -> Any:
        loads.append(base)
        return kept(base, precision)

    monkeypatch.setattr(loading, "load_model", noted)
    ids = [train(taught, task, base, tmp_path, method, peak_lr=0.05) for method in ("rd", "kard")]
    loads.clear()
    first, second = (load_student(taught, known, tmp_path) for known in ids)
    decoding = Decoding(max_new_tokens=8)
    before = [generate(s, PROMPTS, None, decoding) for s in (first, second)]
    for _ in range(2):
        for s in (first, second):
            generate(s, PROMPTS[:1], None, decoding)
    again = [generate(s, PROMPTS, None, decoding) for s in (first, second)]
    assert [[s.text for s in samples] for samples in again] == [[s.text for s in samples] for samples in before]
    assert [s.text for s in before[0]] != [s.text for s in before[1]]
    assert loads == [base]


def test_a_student_is_trained_once_for_the_same_data_and_settings(
    every_base: dict[str, Base], taught: Database, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = every_base["decoder"]
    first = train(taught, task, base, tmp_path)
    weights = (tmp_path / first / WEIGHTS).read_bytes()
    made = [
        first,
        train(taught, task, base, tmp_path, "rd"),
        train(taught, task, base, tmp_path, seed=1),
        train(taught, task, base, tmp_path, k=2),
    ]
    assert len(set(made)) == 4
    taught.execute("delete from students where id = ?", [first])
    assert train(taught, task, base, tmp_path) == first

    def refuse(*_: Any) -> None:
        pytest.fail("trained twice")

    assert (tmp_path / first / WEIGHTS).read_bytes() == weights  # the same seed, the same weights
    monkeypatch.setattr(training, "fit", refuse)
    assert train(taught, task, base, tmp_path) == first
    assert taught.table("students").count == 4


def test_a_killed_run_leaves_nothing_that_counts(
    every_base: dict[str, Base], taught: Database, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = tmp_path / ".old.1.kard-part"
    dead.mkdir()
    os.utime(dead, (1, 1))
    alive = tmp_path / ".other.2.kard-part"
    alive.mkdir()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            train(taught, task, every_base["decoder"], tmp_path)
    assert taught.table("students").count == 0
    assert [p.name for p in tmp_path.iterdir() if p.is_dir() and not p.name.startswith(".")] == []
    made = train(taught, task, every_base["decoder"], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == sorted([alive.name, made])


def test_a_changed_adapter_or_base_is_refused(
    every_base: dict[str, Base], taught: Database, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = every_base["decoder"]
    made = train(taught, task, base, tmp_path)
    monkeypatch.setattr("kard.models.bases.resolve", always(replace(base, sha256="other")))
    with pytest.raises(NoBase, match="other weights than student"):
        load_student(taught, made, tmp_path)
    with (tmp_path / made / WEIGHTS).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(Missing, match=r"not what was trained .*kard train student towns"):
        load_student(taught, made, tmp_path)
    (tmp_path / made / WEIGHTS).unlink()
    with pytest.raises(Missing, match=r"no adapter in .*kard train student towns"):
        load_student(taught, made, tmp_path)
    with pytest.raises(Missing, match="no student nobody"):
        load_student(taught, "nobody", tmp_path)
    with pytest.raises(NoBase, match="writes no text"):
        load_model(replace(base, kind="encoder"), torch.float32)


def test_the_learning_rate_rises_over_a_twentieth_of_the_steps_and_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100) for step in range(100)]
    assert rates[4] == 1.0 == max(rates)
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b > 0 for a, b in pairwise(rates[4:]))
    assert rates[-1] < 0.02
    assert learning_rate(0, 1) == 1.0


# Pairs


def pairs_of(
    db: Database, method: str, *, k: int = 1, index_id: str | None = "ix", limit: int | None = None, **more: Any
) -> list[Pair]:
    source = RationaleSource(limit=limit, **more)
    return training_pairs(db, "towns", METHODS[method], StudentTraining(k=k), source, index_id=index_id)


def test_every_method_learns_from_the_same_questions_shortest_rationale_first(taught: Database) -> None:
    found = {name: pairs_of(taught, name) for name, method in METHODS.items() if method.trained}
    assert {method: sorted({p.question_id for p in ps}) for method, ps in found.items()} == {
        method: [1, 2, 3, 4, 5] for method in found
    }
    first = found["kard"][0]
    assert (first.rationale, first.passages) == ("Born in Ilm.", ("P0: P0 was born in Ilm on the river.",))
    assert found["kard"][1].rationale == "It is said that P was born in Ilm, so they say."
    assert [len(ps) for ps in found.values()] == [5, 5, 10, 10]
    assert found["rd"][0].passages == ()
    assert pairs_of(taught, "kard", k=2)[0].passages == ("P0: P0 was born in Ilm on the river.", "P0: Rivers flow.")
    assert {p.question_id for p in pairs_of(taught, "kard", limit=2)} == {1, 2}


def test_epochs_take_other_rationales_while_they_last(taught: Database) -> None:
    found = pairs_of(taught, "kard")
    one = [p for p in found if p.question_id == 1]
    epochs = pairs_by_epoch(found, StudentTraining(epochs=3, rationales=1))
    assert [[p for p in epoch if p.question_id == 1] for epoch in epochs] == [[one[0]], [one[1]], [one[0]]]
    assert [len(e) for e in pairs_by_epoch(found, StudentTraining(epochs=1, rationales=5))] == [10]


def test_the_last_epoch_has_the_shortest_rationales(taught: Database) -> None:
    longer_and_longer = [pair for pair in pairs_of(taught, "kard") if pair.question_id == 1]
    assert len(longer_and_longer) == 2
    epochs = pairs_by_epoch(longer_and_longer, StudentTraining(epochs=2, rationales=1))
    assert epochs == [[longer_and_longer[1]], [longer_and_longer[0]]]


def test_rationales_beyond_the_budget_are_taught_only_to_questions_without_a_shorter_one() -> None:
    lengths = {(1, "a"): 5, (1, "b"): 20, (2, "c"): 30, (2, "d"): 31, (3, "e"): 10}
    pairs = [Pair(question, 0, "?", (), "A", rationale, ()) for question, rationale in lengths]

    def length(pair: Pair) -> int:
        return lengths[pair.question_id, pair.rationale]

    assert [pair.rationale for pair in within_budget(pairs, length, 10)] == ["a", "c", "e"]
    assert [pair.rationale for pair in within_budget(pairs, length, 20)] == ["a", "b", "c", "e"]
    assert within_budget(pairs, length, 0) == pairs  # no budget


def test_a_students_row_says_whether_its_prompts_and_targets_had_room(
    every_base: dict[str, Base], taught: Database, task: Task, tmp_path: Path
) -> None:
    base = every_base["decoder"]
    tokens = Tokens.load(base.folder, decoder=True)
    targets = [
        len(tokens.target(target_pieces(ANSWER, pair.outputs(SETTINGS)))) for pair in pairs_of(taught, "kard")
    ]
    cases: list[tuple[dict[str, Any], tuple[float, int, int, int]]] = [
        ({"max_length": 600}, (0.0, max(targets), 0, 10)),
        ({"max_length": 60}, (1.0, max(targets), 0, 10)),
        ({"max_length": 600, "max_target": max(targets[::2])}, (0.0, max(targets[::2]), 0, 5)),
        ({"max_length": 600, "max_target": 1}, (0.0, max(targets[::2]), 5, 5)),
    ]
    for changed, wanted in cases:
        made = train(taught, task, base, tmp_path, **changed)
        row = next(taught.query("select * from students where id = ?", [made]))
        assert (row["cut"], row["target_tokens"], row["long_targets"], row["examples"]) == wanted


def test_a_student_may_write_as_much_as_it_was_taught(every_base: dict[str, Base]) -> None:
    loaded = in_memory(every_base["decoder"])

    def budget(target_tokens: int, max_target: int = 0, **decoding: Any) -> int:
        taught = Student(loaded, None, replace(SETTINGS, max_target=max_target), target_tokens=target_tokens)
        engine = StudentEngine(taught, Decoding(**decoding))
        engine.close()
        return engine.decoding.max_new_tokens

    assert budget(150) == 150
    assert budget(150, 256) == 150
    assert budget(400, 256) == 256  # one endless rationale gives no room to ramble
    assert budget(9) == 96  # an answer may be longer than all that were taught
    assert budget(0) == 128  # a base that is only prompted
    assert budget(150, max_new_tokens=7) == 7


def test_an_answer_alone_has_room_for_every_option(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    here = student(base)
    longest = max(len(here.base.tokens.choice(f" {option}")) for option in ("no", "a longer option than that"))
    seen: list[int] = []

    def noted(_prompts: Any, sampling: Sampling) -> list[Ids]:
        seen.append(sampling.max_new_tokens)
        return [here.base.tokens.choice(" a longer option than that")]

    monkeypatch.setattr(reads(here), "generate", noted)
    (sample,) = generate(here, PROMPTS[:1], [("no", "a longer option than that")], Decoding(max_new_tokens=3))
    assert seen == [longest]
    assert (sample.answer, sample.forced) == ("B", None)


def test_an_error_for_missing_data_names_the_next_command(taught: Database) -> None:
    with pytest.raises(Missing, match="kard ground towns"):
        pairs_of(taught, "kard", index_id=None)
    with pytest.raises(Missing, match="kard ground towns"):
        pairs_of(taught, "rd", index_id="another")
    with pytest.raises(Missing, match="kard teach towns"):
        pairs_of(taught, "rd", teacher_id="nobody")


# The engine


class NoModel:
    """A base that the queue knows by its identity alone."""


class Slow:
    """A student that records its batches and answers with the length of each prompt."""

    name = "slow"

    def __init__(self) -> None:
        self.base = NoModel()
        self.batches: list[tuple[list[str], Decoding]] = []

    def budgeted(self, decoding: Decoding) -> Decoding:
        return decoding

    def generate(
        self, prompts: Sequence[str], choices: Any, decoding: Decoding, *, seeds: Sequence[int]
    ) -> list[Sample]:
        self.batches.append((list(prompts), decoding))
        time.sleep(0.05)
        if any("bad" in prompt for prompt in prompts):
            raise ValueError("a bad prompt")
        return [
            Sample(f"{len(p)} {s % 97}", "A" if c else None)
            for p, c, s in zip(prompts, choices, seeds, strict=True)
        ]


def of_fake(rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
    """Return the samples of a `Slow`."""
    fake: Any = rows[0].student
    return fake.generate(
        [r.prompt for r in rows], [r.options for r in rows], decoding, seeds=[r.seed for r in rows]
    )


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Decoding], tuple[Slow, StudentEngine]]]:
    monkeypatch.setattr("kard.student.generation.engine.generate_rows", of_fake)
    opened: list[StudentEngine] = []

    def make(decoding: Decoding) -> tuple[Slow, StudentEngine]:
        fake: Any = Slow()
        opened.append(StudentEngine(fake, decoding))
        return fake, opened[-1]

    yield make
    for engine in opened:
        engine.close()


def request(prompt: str, **config: Any) -> dspy.lm15.Request:
    return dspy.lm15.Request(
        model="slow", messages=(dspy.lm15.Message.user(prompt),), config=dspy.lm15.Config(**config)
    )


def test_requests_of_many_threads_fill_batches_and_reach_the_right_callers(slow: Any) -> None:
    fake, engine = slow(Decoding(batch=8))
    prompts = ["x" * i for i in range(1, 33)]
    with ThreadPoolExecutor(32) as pool:
        replies = [response.text for response in pool.map(engine.complete, map(request, prompts))]
    assert [reply.split()[0] for reply in replies] == [str(len(p)) for p in prompts]
    assert sorted(len(batch) for batch, _ in fake.batches) == [8, 8, 8, 8]


def test_requests_that_draw_otherwise_get_batches_of_their_own_and_budgets_share_one(slow: Any) -> None:
    fake, engine = slow(Decoding(batch=8, max_new_tokens=50))
    asked = [{}, {"max_tokens": 9}, {"temperature": 0.5, "top_p": 0.6}, {"temperature": 0.0}]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(engine.complete, (request("x", **config) for config in asked)))
    seen = {(d.samples > 1, d.temperature, d.top_p) for _, d in fake.batches}
    assert seen == {(False, 1.0, 0.95), (True, 0.5, 0.6)}
    assert all(len(rows) == 1 for rows, d in fake.batches if d.samples > 1)
    assert max(d.max_new_tokens for _, d in fake.batches) == 50  # the widest of a batch; a row keeps its own
    kinds = [Decoding(max_new_tokens=budget) for budget in (9, 50)]
    jobs: list[Any] = [SimpleNamespace(decoding=kind, row=SimpleNamespace(student="one")) for kind in kinds]
    assert next_batch(jobs) == jobs


def test_an_error_reaches_the_callers_of_its_batch_alone(slow: Any) -> None:
    _, engine = slow(Decoding(batch=2))
    with pytest.raises(ValueError, match="a bad prompt"):
        engine.complete(request("bad"))
    assert engine.complete(request("good")).text.startswith("4 ")
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(engine.complete, request(prompt)) for prompt in ("bad 1", "bad 2")]
        assert [type(future.exception()) for future in asked] == [ValueError, ValueError]


def test_a_closed_engine_refuses_requests_and_leaves_none_waiting(slow: Any) -> None:
    _, engine = slow(Decoding(batch=1))
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(engine.complete, request("x")) for _ in range(3)]
        time.sleep(0.02)
        engine.close()
        failed = [future.exception() for future in waiting]
    assert sum(isinstance(error, RuntimeError) for error in failed) == 2  # one was being answered
    with pytest.raises(RuntimeError, match="closed"):
        engine.complete(request("x"))


def test_samples_of_a_question_differ_and_come_back_the_same(base: Base) -> None:
    def ask() -> list[str]:
        lm = EngineLM(student(base), Decoding(samples=4, temperature=1.5, max_new_tokens=6))
        with dspy.context(lm=lm, adapter=StudentAdapter()):
            made = dspy.Predict(ANSWER)(passages=["a b"], question="Where?", options=list(TOWNS))
        lm.close()
        return list(cast(Any, made.completions).text)

    first = ask()
    assert len(set(first)) > 1
    assert ask() == first


def test_the_work_of_a_token_is_twice_the_parameters_it_meets(every_base: dict[str, Base]) -> None:
    here = student(every_base["decoder"])
    embedding = 300 * 32
    loaded = embedded(here).generator.model
    total = sum(p.numel() for p in loaded.parameters())
    assert here.flops(10, 5) == 2 * (total - embedding) * 15
    here = student(every_base["encoder-decoder"])
    sizes = {name: p.numel() for name, p in embedded(here).generator.model.named_parameters()}
    reading = sum(size for name, size in sizes.items() if name.startswith("encoder."))
    writing = sum(size for name, size in sizes.items() if name.startswith(("decoder.", "lm_head.")))
    assert 0 < reading < writing
    assert here.flops(10, 5) == 2 * (reading * 10 + writing * 5)


def test_an_encoder_decoder_has_its_own_generator(every_base: dict[str, Base]) -> None:
    assert isinstance(in_memory(every_base["encoder-decoder"]).generator, EncoderDecoder)


def epochs_of(store: Database, **changes: Any) -> list[list[Pair]]:
    """Return what each of three epochs teaches a student under these settings."""
    settings = replace(StudentTraining(k=2, epochs=3), **changes)
    return pairs_by_epoch(
        training_pairs(store, "towns", METHODS["kard"], settings, RationaleSource(), index_id="ix"), settings
    )


def test_seeds_of_varied_pairs_have_one_number_of_examples_and_are_one_condition(
    every_base: dict[str, Base], taught: Database, task: Task, tmp_path: Path
) -> None:
    shown = {s: len({pair for e in epochs_of(taught, seed=s, shuffle=True) for pair in e}) for s in range(20)}
    fewest, most = min(shown, key=shown.__getitem__), max(shown, key=shown.__getitem__)
    assert shown[fewest] < shown[most]
    for seed in (fewest, most):
        made = train(taught, task, every_base["decoder"], tmp_path, k=2, epochs=3, seed=seed, shuffle=True)
        evaluation = taught.table("evaluations").insert(
            {
                "task": task.name, "split": "test", "student_id": made, "retriever": "bm25", "k": 2,
                "decoding": "{}", "hash": made, "created": "n",
            }
        ).last_pk  # fmt: skip
        taught.table("predictions").insert(
            {
                "evaluation_id": evaluation, "question_id": 1, "correct": 0, "votes": 1, "passages": "[]",
                "milliseconds": 1, "flops": 1, "created": "n",
            }
        )  # fmt: skip
    rationales = {pair.rationale_id for epoch in epochs_of(taught) for pair in epoch}
    assert {row["examples"] for row in taught.query("select examples from students")} == {len(rationales)}
    assert set(read_labels(taught, task.name, "test").values()) == {""}


def test_answers_alone_are_taught_once_a_question_as_they_are_asked_for(taught: Database) -> None:
    signature = signature_for(tasks.load("strategyqa").answer, METHODS["kard"])
    plain, more = epochs_of(taught, rationales=2), epochs_of(taught, rationales=2, answer_alone=True)
    for with_rationales, both in zip(plain, more, strict=True):
        alone = both[len(with_rationales) :]
        assert both[: len(with_rationales)] == with_rationales
        firsts = [next(p for p in with_rationales if p.question_id == pair.question_id) for pair in alone]
        assert [
            replace(pair, rationale=first.rationale) for pair, first in zip(alone, firsts, strict=True)
        ] == firsts
        assert sorted(p.question_id for p in alone) == sorted({p.question_id for p in with_rationales})
        for pair, first in zip(alone, firsts, strict=True):
            prompt, pieces = render_pair(signature, pair, SETTINGS)
            assert prompt == f"{render_pair(signature, first, SETTINGS)[0]}\nAnswer:"
            assert pieces == [("", f" {pair.options[LETTERS.index(pair.answer)]}")]
    assert len(plain[0]) > len({pair.question_id for pair in plain[0]})


def test_shuffling_keeps_the_passages_and_depends_on_the_seed_alone(taught: Database) -> None:
    def read(seed: int, *, shuffle: bool) -> list[tuple[str, ...]]:
        return [pair.passages for epoch in epochs_of(taught, seed=seed, shuffle=shuffle) for pair in epoch]

    best_first, mixed = read(0, shuffle=False), read(0, shuffle=True)
    assert [sorted(p) for p in mixed] == [sorted(p) for p in best_first]
    assert 0 < sum(m != b for m, b in zip(mixed, best_first, strict=True)) < len(mixed)
    assert mixed == read(0, shuffle=True)
    assert any(read(seed, shuffle=True) != mixed for seed in range(1, 5))
    taught.execute("pragma foreign_keys = off")
    taught.execute("update retrievals set rationale_id = rationale_id + 1000 where rationale_id is not null")
    taught.execute("update rationales set id = id + 1000")
    assert read(0, shuffle=True) == mixed  # ids follow the order in which a teacher happened to answer


# Several students in one pass


def write_random_adapter(base: Base, folder: Path, seed: int, **lora: Any) -> Path:
    """Write a random adapter that changes the base's texts; return its folder."""
    torch.manual_seed(seed)
    settings = Lora(rank=2 + seed % 3, alpha=8, **lora)
    made = adapt_language_model(
        load_model(base, torch.float32), settings, spec="x", layers=None, decoder=base.kind == "decoder"
    )
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    write_adapter(folder, state_of(made), made.active_peft_config)
    return folder


def several(base: Base, folder: Path, **lora: Any) -> tuple[LoadedBase, list[Student]]:
    """Return four students of one base: three adapters of different ranks, and the base alone."""
    here = in_memory(base)
    paths = [write_random_adapter(base, folder / str(seed), seed, **lora) for seed in range(3)]
    return here, [Student(here, path, SETTINGS, name=str(path)) for path in (*paths, None)]


def rows_of(students: Sequence[Student]) -> list[Row]:
    """Return rows of all students in turn; some get the answer with the highest likelihood."""
    options = [TOWNS, TOWNS, ("yes", "no")]
    return [Row(s, p, o, 7) for p, o in zip(PROMPTS, options, strict=True) for s in students]


@pytest.mark.parametrize("kind", [*KINDS, "gpt2", "opt"])
@pytest.mark.parametrize("drawn", [False, True])
def test_students_that_share_a_pass_write_what_each_writes_alone(
    every_base: dict[str, Base], kind: str, drawn: bool, tmp_path: Path
) -> None:
    here, students = several(every_base[kind], tmp_path)
    rows = rows_of(students)
    decoding = Decoding(max_new_tokens=12, batch=6, samples=2 if drawn else 1, temperature=1.5)
    alone = [generate_rows([row], decoding)[0] for row in rows]
    passes: list[int] = []
    forward = here.generator.model.forward

    def counted(*given: Any, **named: Any) -> Any:
        passes.append(1)
        return forward(*given, **named)

    here.generator.model.forward = counted
    shared = generate_rows(rows, decoding)
    assert [replace(s, milliseconds=0) for s in shared] == [replace(s, milliseconds=0) for s in alone]
    assert len({s.text for s in shared}) > 6  # the adapters are heard
    few = len(passes)
    passes.clear()
    for row in rows:
        generate_rows([row], decoding)
    assert few <= len(passes) / 3
    if isinstance(here.generator, Decoder):
        here.generator.piece_tokens = 60  # each adapter's rows are in several pieces now
        passes.clear()
        assert [s.text for s in generate_rows(rows, decoding)] == [s.text for s in alone]
        assert len(passes) > few
    assert not any(module._forward_hooks for module in here.generator.model.modules())


def test_many_rows_of_one_student_dora_and_whole_weights_have_passes_of_their_own(
    every_base: dict[str, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, (one, other, third, bare) = several(every_base["decoder"], tmp_path)
    dora = Student(here, write_random_adapter(every_base["decoder"], tmp_path / "dora", 5, dora=True), SETTINGS)
    own = unfreeze(load_model(every_base["decoder"], torch.float32), range(2, 4))
    for weight in trainable(own):
        torch.nn.init.normal_(weight, std=0.3)
    write_adapter(tmp_path / "own", state_of(own), config_of(own, "x"))
    whole = Student(here, tmp_path / "own", SETTINGS)
    rows = [*rows_of([one, other, dora, bare, whole]), *rows_of([third] * 6)]
    decoding = Decoding(max_new_tokens=6)
    alone = [
        generate(s, [r.prompt], [r.options], decoding, seeds=[r.seed])[0].text for r in rows for s in [r.student]
    ]
    activated: list[Path | None] = []
    activate = here.activate

    def noted(adapter: Path | None) -> None:
        activated.append(adapter)
        activate(adapter)

    monkeypatch.setattr(here, "activate", noted)
    assert [s.text for s in generate_rows(rows, decoding)] == alone
    assert activated == [dora.adapter, whole.adapter, third.adapter, None]
    assert generate_rows([], decoding) == []


def test_few_requests_to_each_of_several_students_share_a_batch(
    every_base: dict[str, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, students = several(every_base["decoder"], tmp_path)
    monkeypatch.setattr("kard.student.generation.engine.GRACE_SECONDS", 0.5)
    sizes: list[int] = []

    def noted(rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
        sizes.append(len(rows))
        return generate_rows(rows, decoding)

    monkeypatch.setattr("kard.student.generation.engine.generate_rows", noted)
    engines = [StudentEngine(s, Decoding(max_new_tokens=5)) for s in students]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(e.complete, request(p)) for p in PROMPTS[:2] for e in engines]
        said = [future.result().text for future in asked]
    assert sizes == [8]
    assert said == [
        generate(s, [p], None, Decoding(max_new_tokens=5))[0].text for p in PROMPTS[:2] for s in students
    ]
    engines[0].close()
    assert engines[1].complete(request(PROMPTS[1])).text == said[5]  # one that closes leaves the others open
    with pytest.raises(RuntimeError, match="closed"):
        engines[0].complete(request(PROMPTS[1]))
    for engine in engines[1:]:
        engine.close()


def test_a_batch_is_of_one_student_with_many_rows_or_of_those_with_few(every_base: dict[str, Base]) -> None:
    here = in_memory(every_base["decoder"])
    many, few, other = (Student(here, None, SETTINGS, name=name) for name in ("many", "few", "other"))

    def jobs(*students: Student) -> list[Any]:
        return [Job(None, Row(s, "x", (), i), Decoding(batch=40)) for i, s in enumerate(students)]

    def names(waiting: list[Any]) -> list[str]:
        return [job.row.student.name for job in next_batch(waiting)]

    assert names(jobs(*[many] * 50, few)) == ["many"] * 40
    assert names(jobs(few, *[many] * 20, other)) == ["few", "other"]
    assert names(jobs(*[many] * 16, few)) == ["many"] * 16 + ["few"]


def threads_of(fake: Slow) -> list[str]:
    """Return a list that receives the name of the thread of each batch."""
    threads: list[str] = []
    generate = fake.generate

    def noted(*args: Any, **more: Any) -> Any:
        threads.append(threading.current_thread().name)
        return generate(*args, **more)

    fake.generate = noted
    return threads


def test_a_caller_may_answer_batches_in_its_own_thread(slow: Any) -> None:
    fake, engine = slow(Decoding(batch=4))
    threads = threads_of(fake)
    with ThreadPoolExecutor(8) as pool, queue_of(fake.base).answer_here() as turn:
        asked = [pool.submit(engine.complete, request("x" * i)) for i in range(1, 9)]
        while not all(future.done() for future in asked):
            turn()
    assert [future.result().text.split()[0] for future in asked] == [str(i) for i in range(1, 9)]
    assert set(threads) == {threading.current_thread().name}
    assert engine.complete(request("later")).text.startswith("5 ")  # a thread of the queue's own again
    assert len(set(threads)) == 2


def test_an_interrupt_of_the_answering_thread_reaches_the_callers(slow: Any) -> None:
    fake, engine = slow(Decoding(batch=4))

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    generate, fake.generate = fake.generate, stopped
    with ThreadPoolExecutor(1) as pool, queue_of(fake.base).answer_here() as turn:
        asked = pool.submit(engine.complete, request("x"))
        with pytest.raises(KeyboardInterrupt):
            _ = [turn() for _ in range(100)]
        assert isinstance(asked.exception(), KeyboardInterrupt)
    fake.generate = generate
    assert engine.complete(request("x")).text.startswith("1 ")


def test_an_error_that_ends_the_thread_leaves_no_request_waiting(slow: Any) -> None:
    fake, engine = slow(Decoding(batch=1))
    generate, errors = fake.generate, [SystemExit("the end")]

    def ending(*args: Any, **more: Any) -> Any:
        if errors:
            raise errors.pop()
        return generate(*args, **more)

    fake.generate = ending
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(engine.complete, request("x")) for _ in range(3)]
        ended = [future.exception(timeout=20) for future in asked]
    assert sorted(type(error).__name__ for error in ended) == ["NoneType", "NoneType", "SystemExit"]


def test_the_queues_own_thread_ends_when_a_caller_answers(slow: Any) -> None:
    fake, engine = slow(Decoding(batch=1))
    threads = threads_of(fake)
    engine.complete(request("x"))  # leaves a thread that waits for more
    with ThreadPoolExecutor(2) as pool, queue_of(fake.base).answer_here() as turn:
        asked = [pool.submit(engine.complete, request("x")) for _ in range(4)]
        while not all(future.done() for future in asked):
            turn()
    assert threads[1:] == [threading.current_thread().name] * 4


def test_a_base_with_states_beyond_float16_is_loaded_in_float32(
    every_base: dict[str, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "dtype", always(torch.float16))
    kept, large = loading.load_model, [1.0]

    def loaded(base: Base, precision: torch.dtype) -> Any:
        made = kept(base, precision)
        with torch.no_grad():
            made.get_output_embeddings().weight.mul_(large[0])
        return made

    monkeypatch.setattr(loading, "load_model", loaded)
    assert next(loading.load_base(every_base["gpt2"]).parameters()).dtype == torch.float16
    large[0] = 1e9
    assert next(loading.load_base(every_base["gpt2"]).parameters()).dtype == torch.float32
    assert next(loading.load_base(every_base["gpt2"], "float16").parameters()).dtype == torch.float16
