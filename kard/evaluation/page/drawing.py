"""How figures are drawn: the looks of methods and retrievers, and matplotlib's figures as inline SVG.

Letters stay letters, colours are the page's own, and equal figures are equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from kard.errors import NoExtra
from kard.evaluation.page.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTALL = "the page of a report needs matplotlib; install it with: pip install 'kard[plots]'"

# The page's style sheet has a value for light and one for dark for each of these.
INK, FAINT, PAPER = "#101112", "#707172", "#fefdfc"
SERIES = ("#1f6fb4", "#b85c00", "#1e7d46", "#c0357a", "#6f4bb8", "#0b7a83", "#8a5a2b", "#6b7300")

# The retriever decides the colour; a method that reads nothing has its own. The method decides mark and line.
_COLOURED = ("bm25", "reranker", "silver", "rd", "hybrid", "dense", "shuffled", "fused")  # in the order of SERIES
_MARKS = {"ft": "s", "kard": "o", "rd": "^", "ka-ft": "D", "zero-shot": "v", "few-shot": "P", "few-shot-cot": "X"}
_LINES = {"ft": "--", "ka-ft": "-."}
_OTHER_MARKS = "<>p*h"
_RETRIEVER_MARKS = "osD^vPX"

VARIABLES: Mapping[str, str] = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    PAPER: "var(--paper)",
    **{colour: f"var(--s{number})" for number, colour in enumerate(SERIES, 1)},
    "none": "none",
}
STYLE: Mapping[str, object] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": "cycler('color', ['%s'])" % "', '".join(SERIES),  # noqa: UP031 - braces are cycler's own
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 10.5,
    "grid.alpha": 0.3,
    "grid.color": FAINT,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # letters as letters: they can be searched, read aloud and set in the page's font
    "svg.hashsalt": "kard",
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is a dollar
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}
_ATTRIBUTES = re.compile(
    r"(fill|stroke|fill-opacity|stroke-opacity|opacity|font-(size|style|weight)|text-anchor"
    r"|stroke-(width|linecap|linejoin|dasharray|dashoffset))"
)
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#([\w.-]+)$")


@dataclass(frozen=True, slots=True)
class Look:
    """The colour, mark and line of a series, the same in every figure of a page."""

    colour: str
    mark: str
    line: str


def series_look(method: str, retriever: str, variant: str, number: int) -> Look:
    """Return the look of the `number`-th series: `ft`, which the others are compared with, in ink and dashed."""
    coloured_by = method if retriever in ("none", "-") else retriever
    mark = "" if variant else _MARKS.get(method, "")  # variants of a method differ by mark alone
    return Look(
        _colour(coloured_by, number),
        mark or _OTHER_MARKS[number % len(_OTHER_MARKS)],
        _LINES.get(method, "-"),
    )


def varied_look(number: int) -> Look:
    """Return the look of the `number`-th series where methods and retrievers may have many variants."""
    return Look(SERIES[number % len(SERIES)], _RETRIEVER_MARKS[number % len(_RETRIEVER_MARKS)], "-")


def retriever_look(retriever: str, number: int) -> Look:
    """Return the look of the `number`-th retriever of a figure without students."""
    mark = _RETRIEVER_MARKS[number % len(_RETRIEVER_MARKS)]
    return Look(_colour(retriever, number), mark, "--" if retriever == "bm25" else "-")


def _colour(name: str, number: int) -> str:
    """Return the colour of a retriever, or of a method that reads nothing; the `number`-th for an unlisted name."""
    if name == "ft":
        return INK
    return SERIES[_COLOURED.index(name) if name in _COLOURED else number % len(SERIES)]


@contextmanager
def drawing(width: float, height: float) -> Generator[Figure]:
    """Yield an empty figure in the page's style, untouched by a person's own matplotlib settings. Sizes are inches.

    Raises NoExtra if matplotlib is not installed.
    """
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise NoExtra(INSTALL) from error
    with style.context(["default", dict(STYLE)], after_reset=True), warnings.catch_warnings():
        # The browser has its own fonts; matplotlib's only measures.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        yield Figure(figsize=(width, height), layout="constrained")


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the figure as an `<svg>` element; call it within `drawing`. `name` is unique on the page.

    It has no style attribute, script, metadata or foreign name, so that a page may forbid them all.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        _plain(element)
    _rename(root, name)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = visible(text)
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _plain(element: ElementTree.Element) -> None:
    """Remove namespaces, and turn the style into presentation attributes."""
    element.tag = element.tag.rpartition("}")[2]
    style = element.attrib.pop("style", "")
    for key in list(element.attrib):
        value = element.attrib.pop(key)
        element.attrib[key.rpartition("}")[2]] = " ".join(value.split())
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if _ATTRIBUTES.fullmatch(key):
            element.attrib[key] = VARIABLES[value.lower()] if key in ("fill", "stroke") else value
    if element.tag != "text" and element.tag != "tspan":
        element.text = None
    element.tail = None


def _rename(root: ElementTree.Element, name: str) -> None:
    """Rename ids that are referred to `name-1`, `name-2` ..., in the order of the figure; remove the others."""
    used: set[str] = set()
    for element in root.iter():
        for value in element.attrib.values():
            used.update(match[1] or match[2] for match in _REFERENCE.finditer(value))
    names: dict[str, str] = {}
    for element in root.iter():
        old = element.attrib.pop("id", "")
        if old in used:
            element.attrib["id"] = names.setdefault(old, f"{name}-{len(names) + 1}")

    def renamed(match: re.Match[str]) -> str:
        new = names[match[1] or match[2]]
        return f"url(#{new})" if match[1] else f"#{new}"

    for element in root.iter():
        attributes: dict[str, Any] = {k: _REFERENCE.sub(renamed, v) for k, v in element.attrib.items() if k != "id"}
        element.attrib.update(attributes)
