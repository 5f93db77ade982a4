"""A matplotlib figure as inline SVG: letters stay letters, colours are the page's, equal figures equal bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from kard.errors import NoExtra
from kard.evaluation.page.looks import FAINT, INK, PAPER, SERIES
from kard.evaluation.page.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTALL = "the page of a report needs matplotlib and Jinja2; install them with: pip install 'kard[plots]'"

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


@contextmanager
def drawing(width: float, height: float) -> Generator[Figure]:
    """An empty figure in the page's style, inches; nothing of a person's own matplotlib settings enters it.

    Raises NoExtra.
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
    """The figure as an `<svg>` element; call it while `drawing`. `name` is unique on the page.

    No style attribute, script, metadata or foreign name stays in it, so that a page may forbid them all.
    """
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(written.getvalue())
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
    """Without namespaces, and with presentation attributes in place of a style."""
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
    """Ids that are referred to become `name-1`, `name-2` ..., in the order of the figure; the others go."""
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
