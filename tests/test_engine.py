"""Students in Python on tiny random models: an ordinary dspy.LM, programs that save, adapters for any program."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import dspy
import pytest
import torch
from dspy.lm15 import Config, Message, Request

import kard
from kard.api import finetune as finetuning
from kard.api.demonstrations import predictor_calls
from kard.api.lm import StudentLM, StudentPredict
from kard.config import Decoding, Lora, StudentTraining
from kard.db import open_store
from kard.errors import BadConfig, BadInput, Missing
from kard.methods import METHODS
from kard.models import bases
from kard.models import hardware as loading
from kard.models.bases import Base
from kard.records import Passage, Sample
from kard.student.examples import RationaleSource
from kard.student.generation import engine as engines
from kard.student.generation.engine import Queue, StudentEngine
from kard.student.generation.student import Row
from kard.student.records import register_prompted
from kard.student.tokens import Ids
from kard.student.training import checkpoint
from kard.student.training import train as training
from kard.student.training.loss import Example

PARTS = import_module("kard.programs._common")
ANSWER: type[dspy.Signature] = PARTS.Answer
KINDS = ("decoder", "encoder-decoder")
TRAINED = tuple(name for name, method in METHODS.items() if method.trained)
TOWNS = ["Ilm", "Dorn", "Sarn"]
SETTINGS = StudentTraining(lora=Lora(rank=2, alpha=4), epochs=1, batch=4, peak_lr=5e-3, max_length=160)
FEW = Decoding(max_new_tokens=4, batch=8)


def make_base(folder: Path, kind: str) -> Path:
    """Save a random model of a few thousand weights, with a byte-level tokenizer, as a base."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config
    from transformers import T5ForConditionalGeneration as T5

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(["Question: Options: Rationale: Answer: the town " * 3], trainer)
    if kind == "encoder-decoder":
        raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    torch.manual_seed(3)
    if kind == "encoder-decoder":
        config = T5Config(
            vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, initializer_factor=3.0,
            pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        config.decoder_start_token_id = 0  # pyright: ignore[reportAttributeAccessIssue]  # of every config
        made: Any = T5(config)
    else:
        made = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=1,
                initializer_range=0.3,
            )
        )  # fmt: skip
    made.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make_base(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def float32(*_: object, **__: object) -> torch.dtype:
    return torch.float32


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load models in float32, so that two ways to the same text can be compared; use a cache of its own."""
    monkeypatch.setattr(loading, "dtype", float32)
    monkeypatch.setenv("KARD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def base(folders: dict[str, Path]) -> Base:
    return bases.resolve(str(folders["decoder"]))


def retrieve(question: str, options: Sequence[str]) -> list[Passage]:
    """Return what the program's code retrieves."""
    return [Passage.of("d", 0, "Found", f"{question} It was found.")]


def task_program(retrieve: Any = retrieve) -> dspy.Module:
    return PARTS.RetrieveThenAnswer(ANSWER, retrieve)


def labelled(count: int = 4, **more: Any) -> list[dspy.Example]:
    made = [
        dspy.Example(
            question=f"Where was P{i} born?",
            options=TOWNS,
            rationale=f"P{i} was born in {TOWNS[i % 3]}.",
            answer=TOWNS[i % 3],
            **more,
        )
        for i in range(count)
    ]
    return [example.with_inputs("question", "options") for example in made]


def right(example: dspy.Example, prediction: dspy.Prediction, _trace: object = None) -> bool:
    return bool(prediction.answer == example.answer)


def length(_example: dspy.Example, prediction: dspy.Prediction, _trace: object = None) -> int:
    return len(prediction.text)


def refuse(*_: object, **__: object) -> None:
    pytest.fail("trained twice")


def taught(base: Base, folder: Path, method: str = "kard", program: dspy.Module | None = None, **more: Any) -> Any:
    """Return the task's program over a student that was trained for one epoch."""
    more = {"out": folder / method, "settings": SETTINGS, "decoding": FEW, **more}
    return kard.finetune(program or task_program(), labelled(), base=base, method=method, **more)


@pytest.fixture
def program(base: Base, tmp_path: Path) -> Iterator[Any]:
    made = taught(base, tmp_path)
    yield made
    made.get_lm().close()


def batches_of(program: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return a list that receives the prompts of each batch that the program's student answers."""
    student = cast(StudentEngine, program.get_lm().engine).student
    batches: list[list[str]] = []
    generate_rows = engines.generate_rows

    def noting(rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
        if rows[0].student is student:
            batches.append([row.prompt for row in rows])
        return generate_rows(rows, decoding)

    monkeypatch.setattr(engines, "generate_rows", noting)
    return batches


# The package


def test_importing_kard_imports_nothing_heavy_and_every_public_name_is_there() -> None:
    heavy = "{'click', 'dspy', 'numpy', 'sqlite_utils', 'torch', 'transformers'}"
    ask = f"import sys, kard; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert all(getattr(kard, name) is not None for name in kard.__all__)
    assert set(kard.__all__) <= set(dir(kard))
    with pytest.raises(AttributeError, match="no attribute 'teach'"):
        _ = kard.teach  # pyright: ignore[reportAttributeAccessIssue]  # the point


# Training text and inference text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", TRAINED)
def test_a_program_is_trained_on_the_ids_that_it_will_be_asked(
    method: str, kind: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = bases.resolve(str(folders[kind]))
    trained: list[Ids] = []
    fit = finetuning.fit

    def noting(made: Any, loss: Any, *rest: Any, **more: Any) -> Any:
        def noted(batch: Sequence[Example]) -> torch.Tensor:
            trained.extend(e.prompt for e in batch)
            return loss(batch)

        return fit(made, noted, *rest, **more)

    monkeypatch.setattr(finetuning, "fit", noting)
    made = taught(base, tmp_path, method)
    writer = made.get_lm().engine.student.base.generator
    seen: list[Ids] = []
    read = writer.read

    def noted(prompts: Sequence[Ids], *rest: Any, **more: Any) -> Any:
        seen.extend(prompts)
        return read(prompts, *rest, **more)

    monkeypatch.setattr(writer, "read", noted)
    for example in labelled():
        made(**example.inputs())
    made.get_lm().close()
    assert sorted(trained) == sorted(seen)
    assert len({tuple(ids) for ids in seen}) == 4
    text = writer and made.get_lm().engine.student.base.tokens.text(seen[0])
    assert ("It was found." in text) == METHODS[method].reads
    assert text.removesuffix("</s>").endswith("Rationale:" if METHODS[method].reasons else "Answer:")


def test_a_label_with_the_name_of_an_input_replaces_what_the_code_retrieved() -> None:
    silver = labelled(passages=["Silver: found with the rationale."])
    made = predictor_calls(task_program(), silver, METHODS["kard"], SETTINGS)
    assert all("\n[1] Silver: found with the rationale.\nRationale:" in one.prompt for one in made)
    assert made[0].pieces == (("", " P0 was born in Ilm."), ("\nAnswer:", " Ilm"))


def test_answers_are_learnt_as_letters_or_texts_as_the_settings_say() -> None:
    for settings, wanted in ((SETTINGS, " Dorn"), (StudentTraining(answer="letter"), " B")):
        for answer in ("Dorn", "B"):
            example = dspy.Example(question="Where?", options=TOWNS, answer=answer).with_inputs(
                "question", "options"
            )
            (call,) = predictor_calls(task_program(None), [example], METHODS["ft"], settings)
            assert call.pieces[-1][1] == wanted


class TwoSteps(dspy.Module):
    """Writes a query, then answers from what the code finds with it."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> query")
        self.reply = dspy.ChainOfThought("context: list[str], question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        query = self.ask(question=question).query
        return self.reply(context=[f"All of {query}"], question=question.upper())


def test_every_predictor_learns_from_the_inputs_that_the_programs_code_gives_it() -> None:
    example = dspy.Example(question="why?", query="reasons", reasoning="so", answer="because").with_inputs(
        "question"
    )
    made = predictor_calls(TwoSteps(), [example], METHODS["kard"], SETTINGS)
    assert [(one.predictor, one.prompt, one.pieces) for one in made] == [
        ("ask", "Question: why?\nQuery:", (("", " reasons"),)),
        (
            "reply.predict",
            "[1] All of reasons\nQuestion: WHY?\nReasoning:",
            (("", " so"), ("\nAnswer:", " because")),
        ),
    ]
    without = predictor_calls(TwoSteps(), [example], METHODS["ka-ft"], SETTINGS)
    assert without[1].prompt == "[1] All of reasons\nQuestion: WHY?\nAnswer:"


def test_an_error_names_the_field_that_an_example_lacks() -> None:
    bare = dspy.Example(question="why?", query="reasons", answer="because")
    for example, words in (
        (bare.with_inputs("question"), "example 0 has no 'reasoning', which the predictor 'reply.predict'"),
        (bare, r"example 0 does not say which of its fields are inputs; mark them: .with_inputs"),
    ):
        with pytest.raises(BadInput, match=words):
            predictor_calls(TwoSteps(), [example], METHODS["kard"], SETTINGS)
    for signature in ("question -> answer: list[str]", "question -> facts: dict[str, str], answer"):
        with pytest.raises(BadInput, match="a student writes a line of text"):
            predictor_calls(dspy.Predict(signature), [], METHODS["kard"], SETTINGS)
    with pytest.raises(BadInput, match="nothing to learn"):
        predictor_calls(TwoSteps(), [], METHODS["kard"], SETTINGS)
    with pytest.raises(BadInput, match="there is no teacher"):
        predictor_calls(TwoSteps(), [], METHODS["kard"], SETTINGS, metric=right)


def test_a_teachers_calls_are_learnt_where_the_metric_holds(script: Callable[..., Any]) -> None:
    said = "[[ ## rationale ## ]]\nI know {0}.\n\n[[ ## answer ## ]]\n{0}\n\n[[ ## completed ## ]]"
    replies = [(f"P{i} born", said.format(TOWNS[0])) for i in range(3)]
    teacher = dspy.LM("teacher", engine=script(*replies), cache=False, num_retries=0)
    made = predictor_calls(
        task_program(), labelled(3), METHODS["rd"], SETTINGS, teacher=teacher, metric=right, num_threads=2
    )
    (kept,) = made  # only P0 was born in the town that the teacher always names
    assert kept.prompt == "Question: Where was P0 born?\nOptions: (A) Ilm (B) Dorn (C) Sarn\nRationale:"
    assert kept.pieces == (("", " I know Ilm."), ("\nAnswer:", " Ilm"))
    with pytest.raises(BadInput, match=r"the teacher's predictors are ask, reply\.predict, not reason"):
        predictor_calls(task_program(), labelled(1), METHODS["rd"], SETTINGS, teacher=TwoSteps())


def test_outputs_have_the_types_of_the_signature(base: Base, tmp_path: Path) -> None:
    class Count(dspy.Signature):
        """Count."""

        question: str = dspy.InputField()
        count: int = dspy.OutputField()
        answer: Literal["few", "many"] = dspy.OutputField()

    examples = [dspy.Example(question=q, count=3, answer="few").with_inputs("question") for q in "ab"]
    made = kard.finetune(
        dspy.Predict(Count), examples, base=base, settings=SETTINGS, out=tmp_path / "c", decoding=FEW
    )
    lm: Any = made.lm
    assert lm.adapter.parse(Count, " 12\nAnswer: many.") == {"count": 12, "answer": "many"}
    with pytest.raises(dspy.utils.exceptions.AdapterParseError, match="int"):
        lm.adapter.parse(Count, " several\nAnswer: many")
    text = kard.finetune(
        dspy.Predict("question -> answer: Literal['few', 'many']"),
        examples, base=base, settings=SETTINGS, out=tmp_path / "t", decoding=FEW,
    )  # fmt: skip
    assert text(question="a").answer in ("few", "many")  # chosen by likelihood: the model itself writes noise


# finetune


def test_the_same_program_data_and_settings_train_once(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "kard.db"
    first = taught(base, tmp_path, store=store)
    monkeypatch.setattr(finetuning, "fit", refuse)
    again = taught(base, tmp_path, store=store)
    assert first.get_lm().identity == again.get_lm().identity
    rows = list(open_store(store).query("select * from students"))
    assert [(row["id"], row["task"], row["method"], row["examples"]) for row in rows] == [
        (first.get_lm().identity.id, "program", "kard", 4)
    ]
    assert kard.load_student(store).identity.sha256 == first.get_lm().identity.sha256
    with pytest.raises(BadInput, match="trained on other data or settings"):
        kard.finetune(task_program(), labelled(3), base=base, settings=SETTINGS, out=tmp_path / "kard")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="holds something else than this student; name another folder"):
        taught(base, tmp_path, out=tmp_path / "mine")
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("signature", "label", "problem"),
    [
        ("question -> answer: Literal['few', 'many']", "most", "'few', 'many'"),
        ("question -> answer: Literal['few', 'many']", "A", "'few', 'many'"),
        ("question -> answer: Literal[1, 2]", 3, "'1', '2'"),
        ("question -> answer: int", "several", "int"),
    ],
)
def test_a_label_that_its_type_forbids_is_refused_in_one_line(
    base: Base, tmp_path: Path, signature: str, label: object, problem: str
) -> None:
    right = 2 if "Literal" not in signature or "[1" in signature else "few"
    examples = [dspy.Example(question="a", answer=answer).with_inputs("question") for answer in (right, label)]
    with pytest.raises(BadInput) as error:
        kard.finetune(dspy.Predict(signature), examples, base=base, settings=SETTINGS, out=tmp_path / "x")
    message = f"example 1: 'answer' is {str(label)!r}, but the predictor 'self' writes {problem}; mend the label"
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()


def test_a_killed_training_leaves_nothing(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        taught(base, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_training_teaches_what_the_examples_say(base: Base, tmp_path: Path) -> None:
    long = "Ilm, where the river is"  # more tokens than an option would take
    examples = [dspy.Example(question=q, answer=long).with_inputs("question") for q in ("a", "b")]
    settings = StudentTraining(lora=Lora(rank=8, alpha=16), epochs=40, batch=2, peak_lr=2e-2, max_length=64)
    made = kard.finetune(
        dspy.Predict("question -> answer"), examples, base=base, settings=settings, out=tmp_path / "x", method="ft"
    )
    assert made(question="a").answer == long
    assert kard.load_student(tmp_path / "x", base=str(base.folder))("Question: b\nAnswer:") == [f" {long}"]


def test_wrong_arguments_are_refused_before_training(base: Base, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="no place for the adapter"):
        taught(base, tmp_path, out=None)
    for method in ("zero-shot", "sft"):
        with pytest.raises(BadConfig, match="method must be one of ft, ka-ft, rd, kard to be trained"):
            taught(base, tmp_path, method)


# An ordinary LM


def test_evaluate_and_parallel_share_batches_and_change_no_answer(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [program(**example.inputs()).text for example in labelled(8)]
    batches = batches_of(program, monkeypatch)
    examples = labelled(8)
    result = dspy.Evaluate(devset=examples, metric=length, num_threads=8, display_progress=False)(program)
    assert [prediction.text for _, prediction, _ in result.results] == alone
    assert max(map(len, batches)) > 1
    assert sum(map(len, batches)) == 8
    batches.clear()
    parallel = dspy.Parallel(num_threads=8, disable_progress_bar=True)
    assert [p.text for p in parallel([(program, e.inputs()) for e in examples])] == alone
    assert max(map(len, batches)) > 1


def test_programs_may_be_awaited(program: Any) -> None:
    alone = [program(**example.inputs()).text for example in labelled(4)]

    async def all_of_them() -> list[str]:
        predict = program.reason
        made = await asyncio.gather(
            *(predict.acall(passages=[f"Found: {e.question} It was found."], **e.inputs()) for e in labelled(4))
        )
        return [one.text for one in made]

    assert asyncio.run(all_of_them()) == alone
    assert asyncio.run(program.get_lm().acall("Question: a\nRationale:", n=2)) == program.get_lm()(
        "Question: a\nRationale:", n=2
    )


def test_a_tasks_program_may_be_awaited(program: Any) -> None:
    inputs = labelled(1)[0].inputs()
    alone = program(**inputs)
    made: Any = asyncio.run(program.acall(**inputs))
    assert (made.text, made.answer, made.passages) == (alone.text, alone.answer, alone.passages)


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_streamify_gives_the_fields_that_are_listened_to_and_the_prediction(
    program: Any, awaited: bool, samples: int
) -> None:
    inputs = labelled(1)[0].inputs()
    program.reason.update_config(n=samples, temperature=1.5 if samples > 1 else 0.0)
    alone = program(**inputs)

    def streamed(*fields: str, **more: Any) -> list[Any]:
        listeners = [dspy.streaming.StreamListener(signature_field_name=field) for field in fields]
        stream: Any = dspy.streamify(program, stream_listeners=listeners, is_async_program=awaited, **more)

        async def collect() -> list[Any]:
            return [value async for value in stream(**inputs)]

        return asyncio.run(collect())

    assert [value.text for value in streamed()] == [alone.text]
    *parts, last = streamed("answer", "rationale")
    assert {part.signature_field_name: part.chunk for part in parts} == {
        "answer": alone.answer,
        "rationale": alone.rationale,
    }
    assert {(part.predict_name, part.is_last_chunk) for part in parts} == {("reason", True)}
    assert last.text == alone.text
    (only,) = streamed("answer", include_final_prediction_in_output_stream=False)
    assert only.chunk == alone.answer


def test_a_base_without_training_can_be_asked_from_the_shell(base: Base, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from kard.cli import main

    task = tmp_path / "towns.py"
    task.write_text(
        "from dataclasses import replace\nfrom kard.programs.choice import TASK as CHOICE\n"
        f"TASK = replace(CHOICE, name='towns', students={{'9m': {str(base.folder)!r}}})\n"
    )
    place = ("--task", str(task), "--store", str(tmp_path / "kard.db"))
    open_store(tmp_path / "kard.db").close()
    words = ("ask", "Where?", "--student", "zero-shot", "--retriever", "none", "--json")
    asked = CliRunner().invoke(main, [*words, "--option", "Ilm", "--option", "Dorn", *place])
    assert asked.exit_code == 0, asked.output
    record = json.loads(asked.stdout)
    assert record["answer"] in ("Ilm", "Dorn")
    assert (record["student"]["method"], record["student"]["size"]) == ("zero-shot", "9m")
    assert [row["method"] for row in open_store(tmp_path / "kard.db").query("select method from students")] == [
        "zero-shot"
    ]
    trained = CliRunner().invoke(main, ["ask", "Where?", *place])
    assert "no student of towns is trained" in trained.output


def test_samples_temperature_usage_and_history_are_those_of_any_lm(program: Any) -> None:
    lm = program.get_lm()
    example = labelled(1)[0].inputs()
    with dspy.context(track_usage=True):
        one = program(**example)
    usage = one.get_lm_usage()[lm.model]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (one.prompt_tokens, one.completion_tokens)
    program.reason.update_config(n=3, temperature=1.5)
    several = program(**example)
    assert len(set(several.completions.text)) > 1
    assert program(**example).completions.text == several.completions.text
    shown = io.StringIO()
    lm.inspect_history(file=shown)
    assert "\n[1] Found: Where was P0 born? It was found.\nRationale:" in shown.getvalue()
    assert any(text.strip() in shown.getvalue() for text in several.completions.text)
    program.set_lm(lm.copy(rollout_id=7, temperature=1.5))
    assert program(**example).completions.text != several.completions.text
    drawn = lm("Question: a\nRationale:", n=4, temperature=1.5)
    assert len(set(drawn)) > 1  # without a seed, each is a draw of its own
    assert lm("Question: a\nRationale:", temperature=0.0) == lm("Question: a\nRationale:", temperature=0.0)


def test_chat_is_refused_with_advice(program: Any) -> None:
    lm = program.get_lm()
    with dspy.context(lm=lm), pytest.raises(dspy.LMError, match=r"kard\.with_student\(program, lm\)"):
        dspy.ChainOfThought("question -> answer")(question="a")
    with dspy.context(lm=lm, adapter=lm.adapter):
        made = dspy.ChainOfThought("question, options: list[str] -> answer")(question="a", options=TOWNS)
    assert made.answer in TOWNS
    assert "reasoning" in made


def test_a_copy_of_a_program_shares_the_engine_but_not_the_history(program: Any) -> None:
    program(**labelled(1)[0].inputs())
    copy = program.deepcopy()
    assert copy.get_lm().engine is program.get_lm().engine
    assert (len(copy.get_lm().history), len(program.get_lm().history)) == (0, 1)
    assert copy.reset_copy().get_lm() is not None


def test_a_program_with_a_student_still_runs_with_another_lm(program: Any, script: Callable[..., Any]) -> None:
    said = "[[ ## rationale ## ]]\nso\n\n[[ ## answer ## ]]\nSarn\n\n[[ ## completed ## ]]"
    engine = script(said)
    program.set_lm(dspy.LM("another", engine=engine, cache=False, num_retries=0))
    assert program(**labelled(1)[0].inputs()).answer == "Sarn"
    assert "[[ ## question ## ]]" in engine.prompts[0]


# Saving


def test_a_saved_program_knows_its_adapter_and_refuses_another(base: Base, program: Any, tmp_path: Path) -> None:
    saved = tmp_path / "program.json"
    program.reason.demos = [dspy.Example(question="kept")]
    program.save(saved)
    lm = program.get_lm()
    assert json.loads(saved.read_text())["reason"]["lm"]["adapter_sha256"] == lm.identity.sha256
    assert str(tmp_path) not in saved.read_text()
    same = kard.with_student(task_program(), lm)
    same.load(saved)
    assert same.get_lm() is lm
    assert cast(Any, same).reason.demos[0]["question"] == "kept"
    other = taught(
        base,
        tmp_path / "other",
        settings=replace(SETTINGS, seed=1),
    )
    before = other.reason.dump_state()
    with pytest.raises(
        BadInput, match=rf"saved with student {lm.model} .*kard\.load_student\(store, '{lm.model}'\)"
    ):
        other.load(saved)
    assert other.reason.dump_state() == before
    plain = task_program()
    with pytest.raises(ValueError, match="Refusing to import"):
        plain.load(saved)
    with pytest.raises(BadInput, match=r"holds no weights; load it with kard\.load_student"):
        plain.load(saved, allow_unsafe_lm_state=True)


def test_a_student_inside_a_larger_program_is_saved_and_checked_with_it(
    base: Base, program: Any, tmp_path: Path
) -> None:
    class Outer(dspy.Module):
        def __init__(self, inner: dspy.Module) -> None:
            super().__init__()
            self.inner, self.other = inner, dspy.Predict("question -> title")

    Outer(program).save(tmp_path / "outer.json")
    Outer(kard.with_student(task_program(), program.get_lm())).load(tmp_path / "outer.json")
    rd = taught(base, tmp_path, "rd")
    with pytest.raises(BadInput, match="was saved with student"):
        Outer(kard.with_student(task_program(), rd.get_lm())).load(tmp_path / "outer.json")


# The store


class Killed(BaseException):
    pass


def test_a_killed_finetuning_goes_on_where_it_was(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps, fatal = training.Stepper.step, [0], [0]

    def counted(*args: Any, **more: Any) -> float:
        steps[0] += 1
        if steps[0] == fatal[0]:
            raise Killed
        return step(*args, **more)

    monkeypatch.setattr(training.Stepper, "step", counted)
    monkeypatch.setattr(finetuning, "Checkpoint", partial(checkpoint.Checkpoint, every=0.0))
    longer: dict[str, Any] = {"settings": replace(SETTINGS, epochs=3, batch=2)}
    whole = taught(base, tmp_path / "whole", **longer).get_lm().identity
    assert steps == [6]
    steps[0], fatal[0] = 0, 5
    with pytest.raises(Killed):
        taught(base, tmp_path / "again", **longer)
    assert [f.suffix for f in (tmp_path / "again").iterdir()] == [".checkpoint"]
    steps[0], fatal[0] = 0, 0
    assert taught(base, tmp_path / "again", **longer).get_lm().identity == whole
    assert steps == [2]
    assert [f.name for f in (tmp_path / "again").iterdir()] == ["kard"]


@pytest.fixture
def store(base: Base, tmp_path: Path) -> Path:
    """Return a store with students of three methods, for a task that comes with kard."""
    for method in ("ft", "rd", "kard"):
        taught(base, tmp_path, method, out=None, store=tmp_path / "kard.db", name="choice").get_lm().close()
    return tmp_path / "kard.db"


def test_students_are_found_by_id_task_size_or_method(store: Path) -> None:
    lm = kard.load_student(store, method="rd")
    assert isinstance(lm, dspy.LM)
    assert (lm.identity.method, lm.identity.task) == ("rd", "choice")
    assert list(lm.signature.fields) == ["question", "options", "rationale", "answer"]  # pyright: ignore[reportOptionalMemberAccess]
    assert kard.load_student(store, lm.identity.id[:6]).identity == lm.identity
    with pytest.raises(
        BadConfig, match=r"3 students could be meant; name one by id, task, size or method: \w{16} \(ch"
    ):
        kard.load_student(store)
    with pytest.raises(Missing, match=r"no student \(choice, ka-ft\) in the store; see them with: kard models"):
        kard.load_student(store, task="choice", method="ka-ft")
    with pytest.raises(BadInput, match=r"no kard\.json"):
        kard.load_student(store.parent)


def test_a_tasks_program_reads_the_knowledge_base_reasons_and_answers(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kard.knowledge.indexing import index_documents
    from kard.records import Document

    documents = [Document(f"d{i}", f"P{i}", f"P{i} was born in {TOWNS[i % 3]}.") for i in range(6)]
    index_documents(documents, store.with_suffix(".knowledge"), source="test")
    program: Any = kard.load_program(store, "choice", decoding=FEW, k=2)
    made = program(question="Where was P3 born?", options=TOWNS)
    assert made.answer in TOWNS
    assert len(made.passages) == 2
    assert made.passages[0].title == "P3"
    batches = batches_of(program, monkeypatch)
    copy = program.deepcopy()
    assert copy(question="Where was P4 born?", options=TOWNS).passages[0].title == "P4"
    assert "\n[1] P4: P4 was born in Dorn.\n[2] " in batches[0][0]
    assert kard.load_program(store, "choice", method="rd", decoding=FEW)(question="a", options=TOWNS).passages == []
    wrongs: tuple[tuple[dict[str, Any], str], ...] = (
        ({"retriever": "silver"}, "retriever must be one of none, bm25, reranker, fused for a new question"),
        ({"retriever": "reranker"}, "kard train reranker choice"),
        ({"retriever": "bm25", "method": "ft"}, "method ft reads no passages"),
    )
    for wrong, words in wrongs:
        with pytest.raises((BadConfig, Missing), match=words):
            kard.load_program(store, "choice", **wrong)


def test_a_prompted_base_reads_the_instruction_and_examples(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kard import tasks
    from kard.config import Prompting
    from kard.pipeline.load import store_questions
    from kard.records import Question

    task = tasks.load("choice")
    db = open_store(tmp_path / "kard.db")
    told = Question("q", "train", "Where was Q born?", tuple(TOWNS), "C", rationale="Q was born in Sarn.")
    store_questions(db, "choice", [told])
    register_prompted(db, task, "tiny", base, METHODS["few-shot-cot"], Prompting(max_length=900), RationaleSource())
    db.close()
    program: Any = kard.load_program(
        tmp_path / "kard.db", "choice", method="few-shot-cot", retriever="none", decoding=FEW
    )
    batches = batches_of(program, monkeypatch)
    assert program(question="Where was P born?", options=TOWNS).answer in TOWNS
    ((prompt,),) = batches
    assert prompt.startswith("Reason in a few short sentences")
    assert "Rationale: Q was born in Sarn.\nAnswer: Sarn\n\nQuestion: Where was P born?" in prompt
    program.reason.signature = program.reason.signature.with_instructions("Name the town.")
    program.save(tmp_path / "p.json")
    other: Any = kard.load_program(
        tmp_path / "kard.db", "choice", method="few-shot-cot", retriever="none", decoding=FEW
    )
    other.load(tmp_path / "p.json")
    again = batches_of(other, monkeypatch)
    other(question="Where was P born?", options=TOWNS)
    assert again[0][0].startswith("Name the town.\n\nQuestion: Where was Q born?")


# MIPROv2


def test_miprov2_runs_over_a_student_and_keeps_it(
    program: Any, script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = "[[ ## observations ## ]]\nx\n\n[[ ## summary ## ]]\nx\n\n[[ ## program_description ## ]]\nx\n\n"
    reply += "[[ ## module_description ## ]]\nx\n\n[[ ## proposed_instruction ## ]]\nName the town.\n\n"
    engine = script(*[reply + "[[ ## completed ## ]]"] * 4)
    prompter = dspy.LM("prompter", engine=engine, cache=False, num_retries=0)
    optimizer = dspy.MIPROv2(
        metric=right,
        prompt_model=prompter,
        task_model=program.get_lm(),
        auto=None,
        num_candidates=2,
        num_threads=4,
    )
    batches = batches_of(program, monkeypatch)
    best = optimizer.compile(
        program, trainset=labelled(2), valset=labelled(4), num_trials=2, minibatch=False,
        max_bootstrapped_demos=1, max_labeled_demos=1, program_aware_proposer=False,
    )  # fmt: skip
    assert isinstance(best.reason, StudentPredict)
    assert best.get_lm().engine is program.get_lm().engine
    assert sum(map(len, batches)) >= 8
    assert best(**labelled(1)[0].inputs()).answer in TOWNS


# The engine


def request(prompt: str, **config: Any) -> Request:
    return Request(model="x", messages=(Message.user(prompt),), config=Config(**config))


def test_an_idle_engine_has_no_thread_and_the_next_request_starts_one(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE_SECONDS", 0.05)
    engine = cast(StudentEngine, program.get_lm().engine)
    engine.queue = fresh = Queue()  # others asked the same base before
    fresh.open(engine)

    def threads() -> list[str]:
        name = f"students {id(fresh):x}"
        return [thread.name for thread in threading.enumerate() if thread.name == name]

    assert threads() == []
    first = engine.complete(request("Question: a\nRationale:")).text
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threads() == []
    assert engine.complete(request("Question: a\nRationale:")).text == first


def test_a_closed_student_refuses_calls(program: Any) -> None:
    lm = cast(StudentLM, program.get_lm())
    lm.close()
    with pytest.raises(dspy.LMError, match="the student's engine is closed"):
        lm("Question: a")
