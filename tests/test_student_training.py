"""Training that is killed, shared by processes, or measured on held-out questions ends with the right weights."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from kard.config import Lora, StudentTraining
from kard.errors import BadConfig
from kard.models import adapters
from kard.models.hardware import Devices, dtype
from kard.models.lora import adapt_language_model, config_of, state_of, trainable, unfreeze
from kard.student.training import checkpoint
from kard.student.training import train as training
from kard.student.training.checkpoint import Checkpoint
from kard.student.training.loss import Example, LayerwiseLoss, loss_for

SETTINGS = StudentTraining(lora=Lora(rank=2, alpha=4, dropout=0.1), epochs=3, batch=2, peak_lr=1e-2)
# What the processes of a shared training run, too.
TINY = """
import random
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from kard.student.training.loss import Example

def tiny():
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3))

def turned():
    torch.manual_seed(3)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3,
        bos_token_id=1, eos_token_id=1))

def examples(count=7):
    draw = random.Random(1)
    ids = lambda n: [draw.randrange(2, 60) for _ in range(n)]
    return [Example(i, ids(4 + i), [*ids(3), 1]) for i in range(count)]
"""
made: dict[str, Any] = {}
exec(TINY, made)  # the text above and no other
Weights = dict[str, Tensor]


def fitted(config: StudentTraining = SETTINGS, **more: Any) -> tuple[Weights, training.Trained, int]:
    """Train on seven examples; return the trained weights, the result, and the number of examples shown."""
    shown: list[int] = []
    with torch.random.fork_rng():
        model = made["tiny"]()
        if config.precision == "float16":
            model = model.half()
        torch.manual_seed(0)
        loss = loss_for(model, 2, 0, decoder=True, recompute=config.recompute)
        assert isinstance(loss, LayerwiseLoss)
        upper = range(2, 4)
        if config.full:
            student = unfreeze(model, upper).train()
        else:
            student = adapt_language_model(model, config.lora, spec="x", layers=upper, decoder=True).train()
        lists = [made["examples"]()] * config.epochs
        reached = training.fit(student, loss, lists, config, shown.append, **more)
    return {name: value.detach().clone() for name, value in state_of(student).items()}, reached, sum(shown)


def same(ours: Weights, theirs: Weights, *, tolerance: float = 0.0) -> bool:
    assert ours.keys() == theirs.keys()
    return all(torch.allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance) for name in ours)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["adapter", "weights", "float16"])
@pytest.mark.parametrize("measured", [False, True], ids=["plain", "held-out"])
def test_a_training_killed_five_times_ends_like_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: bool, kind: str
) -> None:
    config = replace(SETTINGS, epochs=5, patience=5, full=kind == "weights")
    if kind == "float16":
        config = replace(config, precision="float16")
        monkeypatch.setattr(training, "FIRST_SCALE", 2.0**60)  # far too much: the first steps find out
    held_out = made["examples"](9)[7:] if measured else []
    whole, reached, shown = fitted(config, held_out=held_out)
    step, left = training.Stepper.step, [0]  # where a kill is felt

    def cut(*args: Any, **more: Any) -> float:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return step(*args, **more)

    monkeypatch.setattr(training.Stepper, "step", cut)
    draw = random.Random(4)
    for _ in range(5):
        left[0] = draw.randint(2, 5)
        with pytest.raises(Killed):
            fitted(config, held_out=held_out, checkpoint=Checkpoint(tmp_path / "c", every=0.0))
    left[0] = -1
    begun = Checkpoint(tmp_path / "c")
    assert re.fullmatch(r"an interrupted training goes on from epoch [2-5] of 5", begun.resumed(5))
    assert begun.resumed(1).endswith("epoch 1 of 1")
    assert Checkpoint(tmp_path / "other").resumed(5) == Checkpoint().resumed(5) == ""
    again, restored, seen = fitted(config, held_out=held_out, checkpoint=Checkpoint(tmp_path / "c", every=0.0))
    assert same(again, whole)
    assert (restored.loss, restored.tokens, seen) == (reached.loss, reached.tokens, shown)
    assert [f.name for f in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("most", [1, 12, 20])
def test_a_step_in_several_passes_is_one_step(most: int) -> None:
    config = replace(SETTINGS, lora=Lora(rank=2, alpha=4), batch=4)
    whole, reached, _ = fitted(config)
    parts, found, _ = fitted(replace(config, pass_tokens=most))
    assert same(parts, whole, tolerance=1e-4)
    assert found.loss == pytest.approx(reached.loss, rel=1e-5)
    assert replace(config, pass_tokens=most).hash() == config.hash()


def test_float16_learns_what_float32_does() -> None:
    config = replace(SETTINGS, lora=Lora(rank=2, alpha=4), epochs=12)
    (_, full, _), (weights, half, _) = fitted(config), fitted(replace(config, precision="float16"))
    assert half.loss == pytest.approx(full.loss, rel=0.05)
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert full.loss < 0.8 * fitted(replace(config, epochs=1))[1].loss


def test_settings_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(BadConfig, match="in float32 and not in float16"):
        StudentTraining(full=True, precision="float16")
    with pytest.raises(BadConfig, match="pass_tokens must be at least 1"):
        StudentTraining(pass_tokens=0)
    assert StudentTraining(full=True).hash() != StudentTraining().hash()
    assert not {"recompute", "pass_tokens"} & set(StudentTraining().values())  # they change rounding alone


def test_a_checkpoint_is_due_after_its_seconds(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "c", every=0.0).due()
    assert not Checkpoint(tmp_path / "c", every=60.0).due()
    assert not Checkpoint(None, every=0.0).due()


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    config = replace(SETTINGS, lora=Lora(rank=2, alpha=4), batch=3)  # seven examples: the last batch has one
    alone, reached, _ = fitted(config, held_out=made["examples"](10)[7:])
    script = tmp_path / "share.py"
    script.write_text(
        TINY
        + f"""
import json
import time
from pathlib import Path
from safetensors.torch import save_file
from kard.config import Lora, StudentTraining
from kard.models.hardware import Devices
from kard.models.lora import adapt_language_model, state_of
from kard.student.training.checkpoint import Checkpoint
from kard.student.training.loss import loss_for
from kard.student.training.train import fit

devices = Devices()
assert devices.count == 2
folder = Path({str(tmp_path)!r})
checkpoint = Checkpoint(folder / "c", every=0.0)

def fitted(**more):
    model = tiny()
    torch.manual_seed(0)
    loss = loss_for(model, 2, 0, decoder=True)
    student = adapt_language_model(model, Lora(rank=2, alpha=4), spec="x", layers=range(2, 4), decoder=True).train()
    settings = StudentTraining(lora=Lora(rank=2, alpha=4), epochs=3, batch=3, peak_lr=1e-2)
    return student, fit(student, loss, [examples()] * 3, settings, lambda _: None, devices=devices, **more)

_, whole = fitted(checkpoint=checkpoint)
devices.wait()
# As after a kill behind the last step: what the leader drops at once, a process that comes late has read.
time.sleep(devices.rank)
_, again = fitted(checkpoint=checkpoint)
assert again == whole
if devices.leads:
    checkpoint.discard()
devices.wait()
student, reached = fitted(held_out=examples(10)[7:])
save_file({{n: v.contiguous() for n, v in state_of(student).items()}}, folder / f"{{devices.rank}}.safetensors")
(folder / f"{{devices.rank}}.json").write_text(json.dumps([reached.loss, reached.tokens]))
devices.wait()
""",
        encoding="utf-8",
    )
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*launch, str(script)], capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    for rank in (0, 1):
        assert same(load_file(tmp_path / f"{rank}.safetensors"), alone, tolerance=1e-4)
        loss, tokens = eval((tmp_path / f"{rank}.json").read_text())
        assert loss == pytest.approx(reached.loss, rel=1e-4)
        assert tokens == reached.tokens


def test_training_ends_when_the_held_out_loss_rises_and_keeps_the_best_epoch() -> None:
    config = replace(SETTINGS, lora=Lora(rank=2, alpha=4), epochs=12, peak_lr=0.1, patience=1)
    held_out = [Example(50 + i, e.prompt, [9, 8, 1]) for i, e in enumerate(made["examples"](3))]
    best, reached, shown = fitted(config, held_out=held_out)
    assert shown < 12 * 7
    assert measured(best, held_out) == pytest.approx(reached.loss)
    _, first, _ = fitted(replace(config, patience=12), held_out=held_out)
    assert first.loss <= reached.loss
    assert reached.tokens < first.tokens


def measured(weights: Weights, examples: list[Example]) -> float:
    """Return the mean loss of an adapter over the examples' target tokens."""
    model = made["tiny"]()
    loss = loss_for(model, 2, 0, decoder=True)
    student = adapt_language_model(model, Lora(rank=2, alpha=4), spec="x", layers=range(2, 4), decoder=True).eval()
    set_peft_model_state_dict(student, weights)
    with torch.no_grad():
        return loss(examples).item() / sum(len(e.target) for e in examples)


def test_held_out_questions_are_never_trained_on() -> None:
    examples = made["examples"](10)
    questions = {e.key: e.key // 2 for e in examples}  # two rationales a question
    trained, apart = training.hold_out([examples, examples], questions, replace(SETTINGS, held_out=0.4))
    assert {questions[e.key] for e in apart}.isdisjoint(questions[e.key] for e in trained[0])
    assert len({questions[e.key] for e in apart}) == 2
    assert len(trained[1]) + len(apart) == 10
    assert training.hold_out([examples], questions, SETTINGS) == ([examples], [])


def test_recomputing_activations_changes_no_gradient() -> None:
    plain = replace(SETTINGS, lora=Lora(rank=2, alpha=4))
    assert same(fitted(plain)[0], fitted(replace(plain, recompute=True))[0], tolerance=1e-5)


@settings(max_examples=8, deadline=None)
@given(rslora=st.booleans(), dora=st.booleans(), rank=st.integers(1, 4), build=st.sampled_from(["tiny", "turned"]))
def test_a_merged_adapter_gives_the_logits_it_was_trained_with(
    rslora: bool, dora: bool, rank: int, build: str
) -> None:
    model = made[build]()
    torch.manual_seed(rank)
    layers = range(2, 4) if build == "tiny" else None
    lora = Lora(rank=rank, alpha=7, rslora=rslora, dora=dora)
    student = adapt_language_model(model, lora, spec="x", layers=layers, decoder=True).eval()
    for weight in trainable(student):
        torch.nn.init.normal_(weight, std=0.2)
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        wanted = student(input_ids=ids).logits
        state = {name: value.detach().clone() for name, value in state_of(student).items()}
        config = student.active_peft_config
    with tempfile.TemporaryDirectory() as folder:
        adapters.write_adapter(Path(folder) / "a", state, config)
        bare = made[build]().eval()
        adapters.AdapterSwitcher(bare).activate(Path(folder) / "a")
    with torch.no_grad():
        torch.testing.assert_close(bare(input_ids=ids).logits, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", ["tiny", "turned"])
def test_weights_of_an_upper_half_get_the_gradients_of_the_whole_model(build: str) -> None:
    upper = range(2, 4) if build == "tiny" else None
    grads: list[Weights] = []
    losses: list[float] = []
    for every in (False, True):
        model = unfreeze(made[build](), upper)
        loss = loss_for(model, 2, 0, decoder=True, every=every)
        assert isinstance(loss, LayerwiseLoss) == (build == "tiny" and not every)
        summed = loss(made["examples"]())
        summed.backward()
        losses.append(summed.item())
        grads.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert same(*grads, tolerance=1e-4)
    assert {adapters.PREFIX + name for name in grads[0]} == set(state_of(model))
    if upper is not None:
        assert all(".layers.2." in name or ".layers.3." in name or name == "model.norm.weight" for name in grads[0])
    else:
        assert set(grads[0]) == {name for name, _ in model.named_parameters()}


def test_one_model_switches_between_whole_weights_and_an_adapter(tmp_path: Path) -> None:
    ids = torch.arange(12).view(2, 6)
    told: dict[str, Tensor] = {}
    for name in ("weights", "adapter"):
        torch.manual_seed(4)
        student = made["tiny"]()
        if name == "weights":
            student = unfreeze(student, range(2, 4))
        else:
            student = adapt_language_model(student, Lora(rank=2), spec="x", layers=range(1, 3), decoder=True)
        for weight in trainable(student.eval()):
            torch.nn.init.normal_(weight, std=0.2)
        with torch.no_grad():
            told[name] = student(input_ids=ids).logits
        adapters.write_adapter(tmp_path / name, state_of(student), config_of(student, "x"))
    assert [adapters.is_whole(tmp_path / name) for name in told] == [True, False]
    bare = made["tiny"]().eval()
    with torch.no_grad():
        told["none"] = bare(input_ids=ids).logits
        worn = adapters.AdapterSwitcher(bare)
        for name in ("weights", "adapter", "weights", "none", "adapter", "none"):
            worn.activate(tmp_path / name if name != "none" else None)
            torch.testing.assert_close(bare(input_ids=ids).logits, told[name], rtol=1e-4, atol=1e-5)


def test_named_layers_alone_get_an_adapter_and_a_wrong_name_is_refused() -> None:
    student = adapt_language_model(
        made["tiny"](), Lora(rank=1, alpha=1, targets="q_proj, v_proj"), spec="x", layers=[3], decoder=True
    )
    assert {part for name in state_of(student) for part in name.split(".") if part.endswith("_proj")} == {
        "q_proj",
        "v_proj",
    }
    with pytest.raises(BadConfig, match="no layer of x is called w_proj"):
        adapt_language_model(made["tiny"](), Lora(targets="w_proj"), spec="x", layers=[3], decoder=True)


@pytest.mark.parametrize(
    ("native", "decoder", "wanted"),
    [(True, True, "bfloat16"), (True, False, "bfloat16"), (False, True, "float16"), (False, False, "float32")],
)
def test_the_precision_is_one_that_the_accelerator_computes_natively(
    native: bool, decoder: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def there() -> bool:
        return True

    def supported(*, including_emulation: bool = True) -> bool:
        return native or including_emulation  # torch counts emulated bfloat16 when it is not told otherwise

    monkeypatch.setattr(torch.cuda, "is_available", there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert dtype(decoder=decoder) == getattr(torch, wanted)
    for name in ("float32", "bfloat16", "float16"):
        assert dtype(name, decoder=decoder) == getattr(torch, name)


def test_a_process_without_a_share_of_a_float16_batch_steps_with_the_others() -> None:
    model = made["tiny"]().half()
    weights = trainable(adapt_language_model(model, Lora(rank=2), spec="x", layers=range(2, 4), decoder=True))

    class Another:
        """A process with an empty share: its gradients are those of the others."""

        def share(self, batch: Any) -> Any:
            return batch[:0]

        def sum_gradients(self, some: Any, loss: Tensor) -> float:
            for weight in some:
                weight.grad = torch.ones_like(weight)
            return loss.item()

    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    before = [weight.detach().clone() for weight in weights]
    loss = loss_for(model, 2, 0, decoder=True)
    scaler = training.gradient_scaler(model, weights, {})
    training.Stepper(loss, weights, optimizer, scaler, cast(Any, Another()), 100).step(made["examples"](), seed=1)
    assert not any(torch.equal(old, new) for old, new in zip(before, weights, strict=True))


def test_gradients_that_are_not_finite_in_float16_end_training_with_an_error() -> None:
    def nothing(batch: Any) -> Tensor:
        return sum((w.sum() for w in weights), torch.zeros(())) * torch.inf

    model = made["tiny"]().half()
    weights = trainable(adapt_language_model(model, Lora(rank=2), spec="x", layers=range(2, 4), decoder=True))
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    scaler = training.gradient_scaler(model, weights, {})
    stepper = training.Stepper(nothing, weights, optimizer, scaler, Devices(), 100)
    scale = training.FIRST_SCALE
    while scale / 2 >= training.LEAST_SCALE:
        stepper.step(made["examples"](), seed=0)
        scale /= 2
    with pytest.raises(BadConfig, match=r"set student\.precision=float32"):
        stepper.step(made["examples"](), seed=0)


def test_a_held_out_loss_that_is_not_finite_ends_training_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> float:
        return float("nan")

    monkeypatch.setattr(training.Stepper, "measure", broken)
    with pytest.raises(BadConfig, match="held-out loss is not finite"):
        fitted(held_out=made["examples"](9)[7:])


def test_large_checkpoints_are_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time.monotonic()]

    def now() -> float:
        return clock[0]

    def slow(tensors: Any, file: Path, **_: Any) -> None:
        clock[0] += 10.0
        file.touch()

    monkeypatch.setattr(checkpoint.time, "monotonic", now)
    monkeypatch.setattr(checkpoint, "save_file", slow)
    saved = Checkpoint(tmp_path / "c", every=60.0)
    clock[0] += 61
    assert saved.due()
    saved.save(checkpoint.CheckpointPosition(), [], torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]), [])
    clock[0] += 61
    assert not saved.due()
    clock[0] += 140  # twenty times what one took
    assert saved.due()
