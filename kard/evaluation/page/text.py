"""Text of passages, rationales and answers as a page may show it: every character of it seen, none of it obeyed."""

from __future__ import annotations

import re
from typing import TypeVar

# What a browser would obey or hide: control characters but tab and newline, overrides and embeddings of the
# direction of text, invisible letters that carry a message (tags, zero width spaces), halves of surrogate pairs.
# Joiners (U+200C, U+200D), marks of direction (U+200E, U+200F, U+061C: in every encyclopedia) and spaces of every
# width belong to the writing of languages and stay: the page sets each text in a direction of its own.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_PICTURES = 0x2400  # U+2400 is the picture of NUL, U+241B that of ESC

Text = TypeVar("Text", bound=str)


def visible(text: Text) -> Text:
    """The text with a picture or U+FFFD for each character that would act unseen; of the type that it came in.

    Markup stays markup: nothing of what is replaced is syntax of HTML, CSS or JavaScript.
    """
    shown = _UNSEEN.sub(lambda found: _picture(found[0]), _LINE_ENDS.sub("\n", str(text)))
    return text if shown == text else type(text)(shown)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_PICTURES + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def short(text: str, length: int) -> str:
    """At most `length` characters of the text, with an ellipsis when it was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
