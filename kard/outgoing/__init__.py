"""What leaves the program: text that cannot drive a terminal, and holds no key.

Questions, passages, rationales, names of files and replies of servers come from anybody. The command line puts a
`Door` before stdout and stderr, through which messages, tracebacks, warnings and the logs of libraries go too. Only
what the program itself draws (bars, bold headings) goes around it, through `undoored`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast
from urllib.parse import quote

# Controls (C0, C1, DEL) but newline and tab; line and paragraph separators; changes of writing direction; invisible
# operators, annotations and tags; halves of surrogate pairs, which no stream can encode. The marks of one letter's
# direction (U+200E, U+200F, U+061C) and joiners stay: Hebrew, Arabic and Hindi need them.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
)
_KEY_NAME = re.compile(r"(?:KEY|KEY_ID|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.I)
SHORTEST_KEY = 8  # characters: what is shorter, like `none`, stands in ordinary words too


def inert(text: str) -> str:
    """Return the text with each character that could act on a terminal or a page replaced by U+FFFD."""
    return _ACTING.sub("\N{REPLACEMENT CHARACTER}", text)


def without_keys(text: str) -> str:
    """Return the text with the value of each variable that holds a key replaced by the variable's name.

    Counted as keys are the variables of the environment whose names end in KEY, TOKEN, SECRET and the like: those
    that DSPy, LiteLLM, providers and model hubs read. A server may repeat in a message what it was sent.
    """
    for key, name in _keys():
        if key in text:
            text = text.replace(key, f"[{name}]")
    return text


def _keys() -> Iterable[tuple[str, str]]:
    """Return each key, as it is and as JSON and addresses write it, with its variable; the longest first."""
    keys: dict[str, str] = {}
    for name, value in os.environ.items():
        key = value.strip()
        if len(key) >= SHORTEST_KEY and _KEY_NAME.search(name):
            for form in (key, json.dumps(key)[1:-1], quote(key, safe="")):
                keys.setdefault(form, name)
    return sorted(keys.items(), key=lambda item: -len(item[0]))


def clean(text: str) -> str:
    """Return the text as it may leave: without keys and without characters that act."""
    return inert(without_keys(text))


class Door:
    """A text stream that writes only clean text to another one."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # what an old locale cannot encode is shown as `?`
            reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Write the text, clean; return its length."""
        self.stream.write(clean(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines, clean."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "stream"):  # bytes would go around the door
            raise AttributeError(name)
        return getattr(self.stream, name)


def guard_streams() -> None:
    """Put a door before stdout and stderr, unless one stands there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Door):
            setattr(sys, name, Door(stream))


def undoored(stream: TextIO) -> TextIO:
    """Return the stream behind a door, for what the program draws itself."""
    return cast(Door, stream).stream if isinstance(stream, Door) else stream
