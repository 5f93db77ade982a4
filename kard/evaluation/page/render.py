"""From what a page shows to its HTML: every value is made visible and escaped, and no address is ever fetched."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from kard.errors import NoExtra
from kard.evaluation.page.gather import Page, gather
from kard.evaluation.page.svg import INSTALL
from kard.evaluation.page.text import visible
from kard.files import whole

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.tasks import Task


def write(
    db: Database,
    task: Task,
    split: str,
    path: Path,
    *,
    questions: int = 20,
    seed: int = 0,
) -> int:
    """Write the page of a split to a file, whole or not at all; its bytes.

    Raises Missing without answers, NoExtra, and BadInput when the file cannot be written.
    """
    shots = [shot["rationale"] for shot in task.shots if "rationale" in shot]
    html = render(gather(db, task.name, split, shots=shots, questions=questions, seed=seed)).encode()
    with whole(path) as partial:
        return partial.write_bytes(html)


def render(page: Page) -> str:
    """The page as HTML; equal pages are equal text. Raises NoExtra."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise NoExtra(INSTALL) from error
    environment = Environment(
        loader=PackageLoader("kard.evaluation", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    css, js = (files("kard.evaluation.page").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return environment.get_template("page.html").render(page=page, css=css, js=js, policy=policy(css, js))


def policy(css: str, js: str) -> str:
    """A Content-Security-Policy under which this style sheet and this script work, and nothing else does."""
    style, script = (f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}" for text in (css, js))
    return f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


def _finalized(value: object) -> object:
    """What a template is about to write; None, numbers and markup stay what they are."""
    return visible(value) if isinstance(value, str) else value
