"""Text, numbers and tables as a page shows them: every character is visible, and none acts on the browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from kard.metrics.intervals import Share, Spread

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
    """Replace each character that would act unseen with a picture or U+FFFD; the type of the text stays.

    Markup stays markup: no replaced character is syntax of HTML, CSS or JavaScript.
    """
    replaced = _UNSEEN.sub(lambda match: _picture(match[0]), _LINE_ENDS.sub("\n", str(text)))
    return text if replaced == text else type(text)(replaced)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_PICTURES + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def short(text: str, length: int) -> str:
    """Return at most `length` characters of the text, with an ellipsis when it was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def percent(share: float | None) -> str:
    """Format a share: `61.0%`; an empty text for None."""
    return "" if share is None else f"{100 * share:.1f}%"


def with_interval(share: Share) -> str:
    """Format a share with its 95% interval: `61.0% [51.2, 70.0]`."""
    return f"{percent(share.value)} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def over_seeds(seeds: Spread | None) -> str:
    """Format the standard deviation over seeds, in percent, and their number: `± 1.2 (3)`."""
    if seeds is None:
        return ""
    return f"({seeds.of})" if seeds.deviation is None else f"± {100 * seeds.deviation:.1f} ({seeds.of})"


def amount(number: float) -> str:
    """Format a large number with three digits and the letter of its thousands: `37.8 G`."""
    for letter, unit in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= unit:
            return f"{number / unit:.3g} {letter}"
    return f"{number:.3g}"


def money(dollars: float) -> str:
    """Format US dollars; small sums keep two significant digits."""
    return f"${dollars:,.2f}" if dollars >= 0.1 or dollars == 0 else f"${dollars:.2g}"


@dataclass(frozen=True, slots=True)
class PageTable:
    """Rows under a header. The first `names` cells of a row name it; the others are values, set to the right."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    names: int = 1
