"""Take one figure out of an HTML report, as an SVG file that stands alone.

    kard report atlas --store kard-demo.db --html report.html
    python docs/figure.py report.html plot-accuracy docs/demo.svg

A report's figures take their colours from the page's style sheet. Here the light theme's colours are written into
the elements, which every viewer of SVG files understands. The dark theme's are in a style sheet, for browsers.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

MARGIN = 8  # units around the figure, in the paper's colour


def standalone(page: str, name: str) -> str:
    """Return a figure of an HTML report, by name, as an SVG document. Raises LookupError if it is not there."""
    figures = re.findall(r"<svg.*?</svg>", page, re.S)
    try:
        root = ElementTree.fromstring(next(svg for svg in figures if f'id="{name}-title"' in svg))
    except StopIteration:
        raise LookupError(f"the page has no figure {name}") from None
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w+);", theme)) for theme in themes(page))
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    box = (-MARGIN, -MARGIN, width + 2 * MARGIN, height + 2 * MARGIN)
    root.attrib.update(
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": " ".join(f"{number:g}" for number in box),
            "font-family": "system-ui, sans-serif",
        }
    )
    paper = dict(zip(("x", "y", "width", "height"), (f"{number:g}" for number in box), strict=True))
    root.insert(2, ElementTree.Element("rect", {**paper, "rx": "6", "fill": "var(--paper)"}))
    rules: dict[str, str] = {}
    for element in root.iter():
        for attribute in ("fill", "stroke"):
            if variable := re.fullmatch(r"var\(--([\w-]+)\)", element.get(attribute, "")):
                colour = light[variable[1]]
                element.set(attribute, colour)
                rules[f'[{attribute}="{colour}"]'] = f"{attribute}:{dark[variable[1]]}"
    style = ElementTree.Element("style")
    declarations = "".join(f"{selector}{{{rule}}}" for selector, rule in sorted(rules.items()))
    style.text = f"@media (prefers-color-scheme: dark){{{declarations}}}"
    root.insert(2, style)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def themes(page: str) -> tuple[str, str]:
    """Return the rules of the page's style sheet that set its light and its dark colours."""
    light, dark, *_ = re.findall(r":root \{(.*?)\}", page, re.S)
    return light, dark


if __name__ == "__main__":
    report, figure, target = sys.argv[1:]
    Path(target).write_text(standalone(Path(report).read_text(encoding="utf-8"), figure), encoding="utf-8")
