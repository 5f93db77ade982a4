"""`--set` changes any setting by its name, and names what cannot be set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kard.cli import choose
from kard.cli.overrides import overridden
from kard.config import Lora, StudentTraining, TaskSettings
from kard.errors import BadConfig


def leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every setting by its path, such as student.lora.rank."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


ALL = dict(leaves(TaskSettings()))


@pytest.mark.parametrize("name", ALL)
def test_every_setting_is_read_as_it_is_written(name: str) -> None:
    other = TaskSettings(student=StudentTraining(lora=Lora(rank=3, dora=True), epochs=7, answer="letter"))
    value = dict(leaves(other))[name]
    settings = dict(leaves(overridden(TaskSettings(), [f"{name}={value}"])))
    assert settings == {**ALL, name: value}
    assert type(settings[name]) is type(value)


def test_the_last_value_wins_and_other_settings_stay() -> None:
    settings = overridden(TaskSettings(), ["student.lora.rank=8", "student.peak_lr = 5e-4", "student.lora.rank=4"])
    assert settings == replace(TaskSettings(), student=StudentTraining(lora=Lora(rank=4), peak_lr=5e-4))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("student.epochs", "sets nothing; write NAME=VALUE"),
        ("pupil.epochs=1", "no setting pupil.epochs: 'pupil' is none of retrieval, teaching, reranker, student"),
        ("student.epoch=1", "no setting student.epoch: 'epoch' is none of lora, epochs"),
        ("student.lora=1", "student.lora is a group of settings; name one of rank"),
        ("student.epochs.more=1", "no setting student.epochs.more: epochs has none below it"),
        ("student.epochs=1.5", "student.epochs must be a whole number, not '1.5'"),
        ("student.peak_lr=fast", "student.peak_lr must be a number, not 'fast'"),
        ("student.lora.dora=1", "student.lora.dora must be true or false, not '1'"),
        ("reranker.loss=l2", "reranker.loss must be one of kl, ce, infonce, mix, not 'l2'"),
        ("student.epochs=0", "epochs must be at least 1, not 0"),
    ],
)
def test_a_setting_that_cannot_be_set_is_named(text: str, problem: str) -> None:
    with pytest.raises(BadConfig, match=problem.replace("(", "\\(")):
        overridden(TaskSettings(), [text])


def test_options_of_the_command_line_win_over_set(tmp_path: Path) -> None:
    run = choose.run_of(
        "atlas",
        store=tmp_path / "kard.db",
        knowledge=None,
        quiet=True,
        create=True,
        overrides=("student.lora.dora=true", "student.epochs=5", "reranker.scorer=maxsim", "reranker.side=both"),
        epochs=2,
    )
    settings = run.options.settings
    assert (settings.student.lora.dora, settings.student.epochs, settings.reranker.scorer) == (True, 2, "maxsim")
