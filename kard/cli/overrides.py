"""What a command line changes of a task: `student.lora.rank=8` a setting, `360m=BASE` the base of a size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from math import isfinite
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from kard.errors import BadConfig

Made = TypeVar("Made")  # a settings dataclass
SIZE = re.compile(r"[\w.-]+")  # sizes stand in lists and in names like 135m/kard
LARGEST = 2**63 - 1  # what SQLite and torch can hold
SHOWN = 60  # characters of a wrong value in a message
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def overridden(settings: Made, assignments: Sequence[str]) -> Made:
    """The settings with every NAME=VALUE in place, of one name the last. Raises BadConfig, naming what is wrong.

    All take their places at once: what one allows and another one needs may stand in any order.
    """
    changes: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadConfig(f"{_short(text)!r} sets nothing; write NAME=VALUE, like student.peak_lr=0.0005")
        _note(changes, settings, name.strip(), name.strip().split("."), value.strip())
    return _replaced(settings, changes)


def based(students: Mapping[str, str], assignments: Sequence[str]) -> Mapping[str, str]:
    """The bases of all sizes with every SIZE=BASE in place. Raises BadConfig for one that is no such pair."""
    pairs = [text.partition("=") for text in assignments]
    for text, (size, _, base) in zip(assignments, pairs, strict=True):
        if not (SIZE.fullmatch(size.strip()) and base.strip()):
            raise BadConfig(f"{_short(text)!r} names no base; write SIZE=BASE, like 360m=owner/name")
    return {**students, **{size.strip(): base.strip() for size, _, base in pairs}}


def _note(changes: dict[str, Any], settings: Any, whole: str, path: Sequence[str], value: str) -> None:
    """Write down a field's new value, by name and within a dict for each group of settings above it."""
    there = [field.name for field in fields(settings)]
    if path[0] not in there:
        raise BadConfig(f"no setting {_short(whole)}: {_short(path[0])!r} is none of {', '.join(there)}")
    old = getattr(settings, path[0])
    if is_dataclass(old) and path[1:]:
        _note(changes.setdefault(path[0], {}), old, whole, path[1:], value)
    elif is_dataclass(old):
        raise BadConfig(f"{whole} is a group of settings; name one of {', '.join(f.name for f in fields(old))}")
    elif path[1:]:
        raise BadConfig(f"no setting {_short(whole)}: {path[0]} has none below it")
    else:
        changes[path[0]] = _read(get_type_hints(type(settings))[path[0]], value, whole)


def _replaced(settings: Made, changes: Mapping[str, Any]) -> Made:
    """The settings with every change at once; a dict changes the group of settings of its name."""
    whole: Any = settings
    new = {n: _replaced(getattr(whole, n), to) if isinstance(to, dict) else to for n, to in changes.items()}
    return replace(whole, **new)


def _short(text: str) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _read(kind: Any, value: str, name: str) -> object:
    """The value as its field holds it. Which values are allowed, the settings say themselves."""
    shown = repr(_short(value))
    if get_origin(kind) is Literal:
        known = {str(one): one for one in get_args(kind)}
        if value not in known:
            raise BadConfig(f"{name} must be one of {', '.join(known)}, not {shown}")
        return known[value]
    if kind is bool:
        if value.lower() not in _TRUTH:
            raise BadConfig(f"{name} must be true or false, not {shown}")
        return _TRUTH[value.lower()]
    try:
        number = kind(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise BadConfig(f"{name} must be {wanted}, not {shown}") from None
    if (kind is int and abs(number) > LARGEST) or (kind is float and not isfinite(number)):
        raise BadConfig(f"{name} must be a number between -{LARGEST:,} and {LARGEST:,}, not {shown}")
    return number
