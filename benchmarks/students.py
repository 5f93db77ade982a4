"""Students, side by side in one run: training against the plain recipe and the processor's ceiling; answering with
many adapters against loading each anew, few questions of each in one batch against batch by batch, and samples to
vote on against reading their prompt for each.

    python benchmarks/students.py [--steps 6] [--questions 16]

Everything is made here (the demo's world and teacher). Tokens are real ones, prompt and target, never padding. The
plain recipe is `transformers.Trainer` over a peft model with the same LoRA on every layer, rows padded to the
longest length that is allowed, as the authors' code does it, and a model that is loaded for each adapter, peft's
merged into it, and generates question by question, as theirs does with a checkpoint. The ceiling is what a product
of the shape of the model's own reaches in this run, in the precision that students have here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from kard import tasks
from kard.cli import choose
from kard.config import METHODS, Decoding, Lora, StudentTraining
from kard.models import adapters, bases
from kard.models.hardware import device, dtype, load_model
from kard.models.lora import adapt_language_model, state_of
from kard.pipeline import demo, steps
from kard.pipeline.run import Teacher
from kard.records import Sample
from kard.student.examples import rendered, schedule, training_pairs
from kard.student.generation.batch import Row
from kard.student.generation.multi_adapter import generate_rows
from kard.student.generation.sampling import Sampling
from kard.student.generation.student import LoadedBase, Student
from kard.student.prompt import signature_for
from kard.student.tokens import Tokens
from kard.student.training.loss import Example
from kard.student.training.train import example, fit, prepared

SETTINGS = StudentTraining(lora=Lora(rank=16, alpha=32), epochs=2, batch=8, k=2)
IGNORED = -100
WRITTEN = 32  # tokens at most


@click.command()
@click.option("--steps", "count", default=6, show_default=True, help="Optimizer steps of each recipe.")
@click.option("--questions", default=16, show_default=True, help="Questions for each of four adapters.")
@click.option("--threads", default=2, show_default=True, help="Of torch.")
def main(count: int, questions: int, threads: int) -> None:
    """Print one line a measurement."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        base, tokens, examples, asked = material(Path(folder), 8 * count)
        mean = sum(map(len, examples)) / len(examples)
        print(f"{len(examples)} examples, {mean:.0f} tokens each, {threads} threads, {dtype()}")
        training(base, tokens, examples, Path(folder))
        answering(base, tokens, [prompt for prompt, _ in asked[:questions]], Path(folder))
        few(base, tokens, asked[:4], Path(folder))
        voting(base, tokens, [prompt for prompt, _ in asked[:8]], Path(folder))


def material(folder: Path, count: int) -> tuple[bases.Base, Tokens, list[Example], list[tuple[str, list[str]]]]:
    """The base, `count` training examples that read two passages, and prompts with options to answer."""
    import dspy

    name = tasks.demo()
    task = tasks.load(name)
    world = demo.world_of(task, demo.Size(passages=1_000, train=max(80, count), test=24))
    work = choose.run_of(name, store=folder / "kard.db", knowledge=None, quiet=True, create=True)
    lm = dspy.LM(f"{name}-oracle", engine=world.teacher, cache=False, num_retries=0)
    work.options = replace(work.options, teacher=Teacher("oracle", lambda: lm))
    demo.prepare(work, world)
    for step in steps.needed(work, "teach", "find"):
        if step.name in ("teach", "ground"):
            steps.run_step(work, step)
    method = METHODS["kard"]
    signature = signature_for(task.answer, method)
    pairs = schedule(training_pairs(work.db, name, method, SETTINGS, index_id=work.index_id), SETTINGS)[0]
    base = bases.resolve(next(iter(task.students.values())))
    tokens = Tokens.load(base.folder, decoder=True)
    texts = [rendered(signature, pair, SETTINGS) for pair in pairs]
    made = [example(tokens, i, *text, SETTINGS) for i, text in enumerate(texts[:count])]
    return base, tokens, made, [(text[0], list(p.options)) for text, p in zip(texts, pairs, strict=True)]


def training(base: bases.Base, tokens: Tokens, examples: Sequence[Example], folder: Path) -> None:
    """Tokens a second of both recipes, and the share of the ceiling."""
    seen = sum(map(len, examples))
    model, loss = prepared(base, tokens, SETTINGS)
    fit(model, loss, [list(examples)[:8]], replace(SETTINGS, epochs=1), lambda _: None)  # warm
    model, loss = prepared(base, tokens, SETTINGS)
    ours = seen / timed(lambda: fit(model, loss, [list(examples)], replace(SETTINGS, epochs=1), lambda _: None))
    first = base_flops(model)
    again = seen / timed(lambda: fit(model, loss, [list(examples)], replace(SETTINGS, epochs=1), lambda _: None))
    plain = seen / timed(trainer(base, tokens, examples, folder, pad_to=SETTINGS.max_length).train)
    short = seen / timed(trainer(base, tokens, examples, folder, pad_to=None).train)
    rate = gemm()
    # A token of a first epoch passes the lower half once, the upper half forward and back to its inputs.
    half = first / 2
    part, later = 3 * ours * half / rate, 2 * again * half / rate
    print(f"this package, first epoch       {ours:7.0f} tokens/s, {part:.0%} of the ceiling")
    print(f"this package, later epochs      {again:7.0f} tokens/s, {later:.0%} of the ceiling")
    print(
        f"Trainer, padded to {SETTINGS.max_length}          {plain:7.0f} tokens/s, {ours / plain:.1f} times slower"
    )
    print(f"Trainer, padded to the longest  {short:7.0f} tokens/s, {ours / short:.1f} times slower")


def trainer(
    base: bases.Base, tokens: Tokens, examples: Sequence[Example], folder: Path, *, pad_to: int | None
) -> Trainer:
    """The plain recipe over the same examples."""
    model = adapt_language_model(load_model(base, dtype()), SETTINGS.lora, spec=base.spec, layers=None, decoder=True)
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
    """Of one token forward through every layer, without attention's products and the head."""
    layers = [
        p for name, p in model.named_parameters() if ".layers." in name and "lora_" not in name and p.dim() == 2
    ]
    return 2.0 * sum(p.numel() for p in layers)


def gemm(rows: int = 1448, inner: int = 576, outer: int = 1536) -> float:
    """Floating-point operations a second of a product of the model's own shape."""
    a, b = (torch.randn(*shape).to(device(), dtype()) for shape in ((rows, inner), (inner, outer)))
    torch.mm(a, b)  # warm
    times = 50
    return 2.0 * rows * inner * outer * times / timed(lambda: [a @ b for _ in range(times)])


def answering(base: bases.Base, tokens: Tokens, prompts: Sequence[str], folder: Path) -> None:
    """Four adapters, the same questions: one resident base in batches, or peft's model for each, one by one."""
    folders = [adapter(base, folder / f"adapter-{i}", seed=i) for i in range(4)]
    decoding = Decoding(max_new_tokens=WRITTEN, batch=64)
    home = LoadedBase(load_model(base, dtype()), tokens, decoder=True)
    generate_rows: list[str] = []
    alone: list[str] = []

    def resident() -> None:
        for path in folders:
            generate_rows.extend(s.text for s in Student(home, path, SETTINGS).generate(prompts, None, decoding))

    @torch.inference_mode()
    def reloading() -> None:
        for path in folders:
            model: Any = PeftModel.from_pretrained(load_model(base, dtype()), path).merge_and_unload()
            for prompt in prompts:
                ids = torch.tensor([tokens.prompt(prompt, SETTINGS.max_length)], device=model.device)
                made = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=WRITTEN,
                    do_sample=False,
                    pad_token_id=tokens.pad,
                    eos_token_id=tokens.eos,
                )
                alone.append(tokens.text(made[0, ids.shape[1] :].tolist()))

    fast, slow = timed(resident), timed(reloading)
    equal = sum(a == b for a, b in zip(generate_rows, alone, strict=True))
    read = 4 * sum(len(tokens.prompt(prompt, SETTINGS.max_length)) for prompt in prompts)
    floor = read * base_flops(home.writer.model) / gemm()
    print(f"4 adapters x {len(prompts)} questions     {fast:7.1f} s on a resident base, in batches")
    print(f"                                {floor:7.1f} s would be the products of reading {read} tokens alone")
    print(f"                                {slow:7.1f} s loading each, one by one: {slow / fast:.1f} times")
    print(f"equal texts                     {equal} of {len(alone)} in {dtype()}")


def few(base: bases.Base, tokens: Tokens, asked: Sequence[tuple[str, list[str]]], folder: Path) -> None:
    """Four adapters, four questions each: in one batch, or batch by batch with peft's `set_adapter`, or merged."""
    folders = [folder / f"adapter-{i}" for i in range(4)]
    decoding = Decoding(max_new_tokens=WRITTEN, batch=64)
    home = LoadedBase(load_model(base, dtype()), tokens, decoder=True)
    students = [Student(home, path, SETTINGS) for path in folders]
    rows = [Row(student, prompt, options, 0) for student in students for prompt, options in asked]
    made: dict[str, list[str]] = {}
    took: dict[str, float] = {}

    def note(name: str, work: Callable[[], Sequence[Sample]]) -> None:
        took[name] = timed(lambda: made.update({name: [s.text for s in work()]}))

    note("one batch", lambda: generate_rows(rows, decoding))
    prompts, options = [p for p, _ in asked], [o for _, o in asked]
    note("merged", lambda: [s for one in students for s in one.generate(prompts, options, decoding)])
    home.activate(None)
    switched = PeftModel.from_pretrained(home.writer.model, folders[0], adapter_name="0")
    for name in "123":
        switched.load_adapter(folders[int(name)], adapter_name=name)
    bare = Student(home, None, SETTINGS)

    def grouped() -> list[Sample]:
        samples: list[Sample] = []
        for name in "0123":
            switched.set_adapter(name)
            samples += bare.generate(prompts, options, decoding)
        return samples

    note("set_adapter", grouped)
    fast = took["one batch"]
    print(f"4 adapters x {len(asked)} questions      {fast:7.1f} s in one batch")
    for name in ("set_adapter", "merged"):
        equal = sum(a == b for a, b in zip(made["one batch"], made[name], strict=True))
        slow, times = took[name], f"{took[name] / fast:.1f} times, {equal} equal texts"
        print(f"                                {slow:7.1f} s grouped, {name}: {times}")


def voting(base: bases.Base, tokens: Tokens, prompts: Sequence[str], folder: Path) -> None:
    """Eight samples of each of eight questions: what is asked is read once, or for each sample."""
    home = LoadedBase(load_model(base, dtype()), tokens, decoder=True)
    home.activate(folder / "adapter-0")
    drawing = Sampling(WRITTEN, 1.0, 0.95, tuple(range(8 * len(prompts))))
    ids = sorted((tokens.prompt(prompt, SETTINGS.max_length) for prompt in prompts for _ in range(8)), key=len)
    made: list[list[list[int]]] = []
    once = timed(lambda: made.append(home.writer.read(ids).generate(drawing)))
    each = timed(lambda: made.append(home.writer.read(ids, whose=range(len(ids))).generate(drawing)))
    equal = sum(a == b for a, b in zip(*made, strict=True))
    print(f"{len(prompts)} questions x 8 samples        {once:7.1f} s, each prompt read once")
    print(f"                                {each:7.1f} s read for each sample: {each / once:.1f} times")
    print(f"equal texts                     {equal} of {len(ids)}")


def adapter(base: bases.Base, folder: Path, *, seed: int) -> Path:
    """A small random adapter: enough to make four students that differ."""
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
    """Seconds."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
