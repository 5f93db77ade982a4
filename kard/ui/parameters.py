"""Parameters of canned queries as people type them into a form: numbers as numbers, nothing as null."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d+)?")  # at most 18 digits: what SQLite's integers hold


def value(text: str) -> int | float | str | None:
    """What a field's text means to SQL: null when it is empty, a number when it reads as one."""
    if not text:
        return None
    if not NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def values(typed: Mapping[str, Any], names: Iterable[str]) -> dict[str, int | float | str | None]:
    """The named parameters; what was not typed is null."""
    return {name: value(str(typed[name])) if name in typed else None for name in names}


def filled(names: Iterable[str], required: Iterable[str], examples: Mapping[str, str]) -> str:
    """A query string with an example for each parameter that needs a value, and nothing for the others."""
    needed = set(required)
    return urlencode({name: examples.get(name, "") if name in needed else "" for name in names})
