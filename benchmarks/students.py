"""Measure students against plain recipes, in one run.

    python benchmarks/students.py [--steps 6] [--questions 16] [--threads 1] [--json docs/benchmarks.json]

It measures training, answers with many adapters, a few questions for each of several adapters, and many samples of
one prompt. All data is made here, in the demo's world and by its teacher. Tokens are those of prompts and targets,
never padding.

The plain recipe follows the authors' code. To train, it is `transformers.Trainer` over a peft model with the same
LoRA on every layer and rows padded to the maximum length. To answer, it loads a model for each adapter, merges
peft's adapter into it, and generates question by question. The ceiling is the speed of a matrix product of the
model's own shape, in this run and in the precision that students have here. Seconds are CPU seconds of the whole
process, on an accelerator those of the clock. FILE keeps what else it holds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from peers import keep
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from kard import tasks
from kard.cli import choose
from kard.config import Decoding, Lora, StudentTraining
from kard.methods import METHODS
from kard.models import adapters, bases
from kard.models.hardware import device, dtype, load_model
from kard.models.lora import adapt_language_model, state_of
from kard.pipeline import demo, steps
from kard.pipeline.options import Teacher
from kard.records import Sample
from kard.student.examples import RationaleSource, pairs_by_epoch, render_pair, training_pairs
from kard.student.generation.batch import generate_rows
from kard.student.generation.sampling import Sampling
from kard.student.generation.student import LoadedBase, Row, Student
from kard.student.prompt import signature_for
from kard.student.tokens import Tokens
from kard.student.training.loss import Example
from kard.student.training.train import fit, prepare_model, tokenize_example

SETTINGS = StudentTraining(lora=Lora(rank=16, alpha=32), epochs=2, batch=8, k=2)
IGNORED = -100
MAX_NEW_TOKENS = 32
PADDED = 512  # tokens of a row of the plain recipe


@click.command()
@click.option("--steps", "count", default=6, show_default=True, help="Optimizer steps of each recipe.")
@click.option("--questions", default=16, show_default=True, help="Questions for each of four adapters.")
@click.option("--slow", default=16, show_default=True, help="Of them for the plain recipe.")
@click.option("--threads", default=2, show_default=True, help="Of torch.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Report of benchmarks/peers.py, to add to.")
def main(count: int, questions: int, slow: int, threads: int, file: Path | None) -> None:
    """Print one line for each measurement."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        base, tokens, examples, questions_read = prepare(Path(folder), 8 * count)
        mean = sum(map(len, examples)) / len(examples)
        print(f"{len(examples)} examples, {mean:.0f} tokens each, {threads} threads, {dtype()}")
        trained = training(base, tokens, examples, Path(folder))
        prompts = [prompt for prompt, _ in questions_read[:questions]]
        answered = answering(base, tokens, prompts, Path(folder), slow)
        if file:
            versions = {name: version(name) for name in ("kard", "torch", "transformers", "peft")}
            about = {"threads": threads, "precision": str(dtype()), "versions": versions}
            keep(file, "students", {**about, "training": trained, "adapters": answered})
        few(base, tokens, questions_read[:4], Path(folder))
        voting(base, tokens, [prompt for prompt, _ in questions_read[:8]], Path(folder))


def prepare(folder: Path, count: int) -> tuple[bases.Base, Tokens, list[Example], list[tuple[str, list[str]]]]:
    """Return the base, `count` training examples with two passages each, and prompts with their options."""
    import dspy

    name = tasks.demo()
    task = tasks.load(name)
    world = demo.world_of(task, demo.Size(passages=1_000, train=max(80, count), test=24))
    run = choose.run_of(name, store=folder / "kard.db", knowledge=None, quiet=True, create=True)
    lm = dspy.LM(f"{name}-oracle", engine=world.teacher, cache=False, num_retries=0)
    run.options = replace(run.options, teacher=Teacher("oracle", lambda: lm))
    demo.prepare(run, world)
    for step in steps.needed(run, "teach", "find"):
        if step.name in ("teach", "ground"):
            steps.run_step(run, step)
    method = METHODS["kard"]
    signature = signature_for(task.answer, method)
    pairs = training_pairs(run.db, name, method, SETTINGS, RationaleSource(), index_id=run.index_id)
    pairs = pairs_by_epoch(pairs, SETTINGS)[0]
    base = bases.resolve(next(iter(task.students.values())))
    tokens = Tokens.load(base.folder, decoder=True)
    texts = [render_pair(signature, pair, SETTINGS) for pair in pairs]
    examples = [tokenize_example(tokens, i, *text, SETTINGS) for i, text in enumerate(texts[:count])]
    return base, tokens, examples, [(text[0], list(p.options)) for text, p in zip(texts, pairs, strict=True)]


def training(base: bases.Base, tokens: Tokens, examples: Sequence[Example], folder: Path) -> dict[str, float]:
    """Print the tokens a second of both recipes, and the share of the ceiling; return these tokens."""
    seen = sum(map(len, examples))
    model, loss = prepare_model(base, tokens, SETTINGS)
    fit(model, loss, [list(examples)[:8]], replace(SETTINGS, epochs=1), lambda _: None)  # warm
    model, loss = prepare_model(base, tokens, SETTINGS)
    ours = seen / timed(lambda: fit(model, loss, [list(examples)], replace(SETTINGS, epochs=1), lambda _: None))
    first = base_flops(model)
    again = seen / timed(lambda: fit(model, loss, [list(examples)], replace(SETTINGS, epochs=1), lambda _: None))
    plain = seen / timed(trainer(base, tokens, examples, folder, pad_to=PADDED).train)
    short = seen / timed(trainer(base, tokens, examples, folder, pad_to=None).train)
    rate = gemm()
    # A token of a first epoch passes the lower half once, the upper half forward and back to its inputs.
    half = first / 2
    part, later = 3 * ours * half / rate, 2 * again * half / rate
    print(f"this package, first epoch       {ours:7.0f} tokens/s, {part:.0%} of the ceiling")
    print(f"this package, later epochs      {again:7.0f} tokens/s, {later:.0%} of the ceiling")
    print(f"Trainer, padded to {PADDED}          {plain:7.0f} tokens/s, {ours / plain:.1f} times slower")
    print(f"Trainer, padded to the longest  {short:7.0f} tokens/s, {ours / short:.1f} times slower")
    epochs = 3 * ours * again / (2 * ours + again)  # tokens a second of three epochs, the default
    return {"kard": round(epochs, 1), "first epoch": round(ours, 1), "padded to 512": round(plain, 1),
            "padded to the longest": round(short, 1)}  # fmt: skip


def trainer(
    base: bases.Base, tokens: Tokens, examples: Sequence[Example], folder: Path, *, pad_to: int | None
) -> Trainer:
    """Return the plain recipe over the same examples."""
    plain = load_model(base, dtype())
    model = adapt_language_model(plain, SETTINGS.lora, spec=base.spec, layers=None, decoder=True)
    for module in model.modules():
        module.__dict__.pop("forward", None)  # peft's own

    def collate(rows: Sequence[Example]) -> dict[str, torch.Tensor]:
        length = pad_to or max(map(len, rows))
        ids = torch.full((len(rows), length), tokens.pad)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor([*row.prompt, *row.target])
            mask[i, : len(row)] = 1
            labels[i, len(row.prompt) : len(row)] = torch.tensor(row.target)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    arguments = TrainingArguments(
        str(folder / "trainer"),
        per_device_train_batch_size=SETTINGS.batch,
        num_train_epochs=1,
        learning_rate=SETTINGS.peak_lr,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
    )
    return Trainer(model=model, args=arguments, train_dataset=list(examples), data_collator=collate)  # pyright: ignore[reportArgumentType]  # any sequence does


def base_flops(model: Any) -> float:
    """Return the operations of one token forward through all layers, without attention's products and the head."""
    layers = [
        p for name, p in model.named_parameters() if ".layers." in name and "lora_" not in name and p.dim() == 2
    ]
    return 2.0 * sum(p.numel() for p in layers)


def gemm(rows: int = 1448, inner: int = 576, outer: int = 1536) -> float:
    """Return the floating-point operations a second of a product of the model's own shape."""
    a, b = (torch.randn(*shape).to(device(), dtype()) for shape in ((rows, inner), (inner, outer)))
    torch.mm(a, b)  # warm
    times = 50
    return 2.0 * rows * inner * outer * times / timed(lambda: [a @ b for _ in range(times)])


def answering(
    base: bases.Base, tokens: Tokens, prompts: Sequence[str], folder: Path, slow: int
) -> dict[str, float]:
    """Time four adapters on the same questions: in batches over one base, or one by one by peft's models.

    The latter answer the first `slow` of them alone, which stand for all.
    """
    folders = [adapter(base, folder / f"adapter-{i}", seed=i) for i in range(4)]
    decoding = Decoding(max_new_tokens=MAX_NEW_TOKENS, batch=64)
    loaded = LoadedBase(load_model(base, dtype()), tokens, decoder=True)
    batched: list[str] = []
    alone: list[str] = []
    models: list[Any] = []

    def in_batches() -> None:
        for path in folders:
            student = Student(loaded, path, SETTINGS)
            rows = [Row(student, prompt, (), i) for i, prompt in enumerate(prompts)]
            batched.extend(sample.text for sample in generate_rows(rows, decoding))

    def load() -> None:
        for path in folders:
            models.append(PeftModel.from_pretrained(load_model(base, dtype()), path).merge_and_unload())

    @torch.inference_mode()
    def one_by_one() -> None:
        for model in models:
            for prompt in prompts[:slow]:
                ids = torch.tensor([tokens.prompt(prompt, SETTINGS.max_length)], device=model.device)
                ids_generated = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=MAX_NEW_TOKENS,
                    do_sample=False,
                    pad_token_id=tokens.pad,
                    eos_token_id=tokens.eos,
                )
                alone.append(tokens.text(ids_generated[0, ids.shape[1] :].tolist()))

    fast, seconds = timed(in_batches), timed(load) + timed(one_by_one) * len(prompts) / min(slow, len(prompts))
    same = [text for i, text in enumerate(batched) if i % len(prompts) < slow]
    equal = sum(a == b for a, b in zip(same, alone, strict=True))
    read = 4 * sum(len(tokens.prompt(prompt, SETTINGS.max_length)) for prompt in prompts)
    floor = read * base_flops(loaded.generator.model) / gemm()
    print(f"4 adapters x {len(prompts)} questions     {fast:7.1f} s over one base in memory, in batches")
    print(f"                                {floor:7.1f} s would be the products of reading {read} tokens alone")
    print(f"                                {seconds:7.1f} s loading each, one by one: {seconds / fast:.1f} times")
    print(f"equal texts                     {equal} of {len(alone)} in {dtype()}")
    counts = {"questions": len(prompts), "equal": equal, "texts": len(alone)}
    return {**counts, "kard": round(fast, 2), "one by one": round(seconds, 2), "products": round(floor, 2)}


def few(base: bases.Base, tokens: Tokens, prompts: Sequence[tuple[str, list[str]]], folder: Path) -> None:
    """Time four adapters, four questions each: in one batch, by peft's `set_adapter`, or merged."""
    folders = [folder / f"adapter-{i}" for i in range(4)]
    decoding = Decoding(max_new_tokens=MAX_NEW_TOKENS, batch=64)
    loaded = LoadedBase(load_model(base, dtype()), tokens, decoder=True)
    students = [Student(loaded, path, SETTINGS) for path in folders]
    texts: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}

    def rows_of(*group: Student) -> list[Row]:
        return [Row(student, prompt, options, 0) for student in group for prompt, options in prompts]

    def measure(name: str, generate: Callable[[], Sequence[Sample]]) -> None:
        seconds[name] = timed(lambda: texts.update({name: [sample.text for sample in generate()]}))

    measure("one batch", lambda: generate_rows(rows_of(*students), decoding))
    measure("merged", lambda: [s for student in students for s in generate_rows(rows_of(student), decoding)])
    loaded.activate(None)
    switched = PeftModel.from_pretrained(loaded.generator.model, folders[0], adapter_name="0")
    for name in "123":
        switched.load_adapter(folders[int(name)], adapter_name=name)
    bare = Student(loaded, None, SETTINGS)

    def grouped() -> list[Sample]:
        samples: list[Sample] = []
        for name in "0123":
            switched.set_adapter(name)
            samples += generate_rows(rows_of(bare), decoding)
        return samples

    measure("set_adapter", grouped)
    fast = seconds["one batch"]
    print(f"4 adapters x {len(prompts)} questions      {fast:7.1f} s in one batch")
    for name in ("set_adapter", "merged"):
        equal = sum(a == b for a, b in zip(texts["one batch"], texts[name], strict=True))
        slow, times = seconds[name], f"{seconds[name] / fast:.1f} times, {equal} equal texts"
        print(f"                                {slow:7.1f} s grouped, {name}: {times}")


def voting(base: bases.Base, tokens: Tokens, prompts: Sequence[str], folder: Path) -> None:
    """Time eight samples of each of eight questions: a prompt is read once, or for each sample."""
    loaded = LoadedBase(load_model(base, dtype()), tokens, decoder=True)
    loaded.activate(folder / "adapter-0")
    sampling = Sampling(MAX_NEW_TOKENS, 1.0, 0.95, tuple(range(8 * len(prompts))))
    ids = sorted((tokens.prompt(prompt, SETTINGS.max_length) for prompt in prompts for _ in range(8)), key=len)
    written: list[list[list[int]]] = []
    once = timed(lambda: written.append(loaded.generator.read(ids).generate(sampling)))
    each = timed(lambda: written.append(loaded.generator.read(ids, owners=range(len(ids))).generate(sampling)))
    equal = sum(a == b for a, b in zip(*written, strict=True))
    print(f"{len(prompts)} questions x 8 samples        {once:7.1f} s, each prompt read once")
    print(f"                                {each:7.1f} s read for each sample: {each / once:.1f} times")
    print(f"equal texts                     {equal} of {len(ids)}")


def adapter(base: bases.Base, folder: Path, *, seed: int) -> Path:
    """Write a small random adapter, enough to make four students that differ; return its folder."""
    torch.manual_seed(seed)
    model = adapt_language_model(
        load_model(base, torch.float32), SETTINGS.lora, spec=base.spec, layers=range(15, 30), decoder=True
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.002)
    adapters.write_adapter(folder, state_of(model), model.active_peft_config)
    return folder


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes, on an accelerator those of the clock."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
