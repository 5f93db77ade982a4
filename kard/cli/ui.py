"""`kard ui`: the store in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

import click

from kard.cli import options
from kard.errors import NoExtra


@click.command()
@options.store
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=8001,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option("--open/--no-open", "open_browser", default=True, help="Open a browser.  [default: open]")
def ui(store: Path, port: int, open_browser: bool) -> None:
    """Look at the store in a browser.

    It opens on the report and the questions that went wrong. Shown are also its tables, the canned queries, and the
    trace of any question. Nothing can be changed, and only this
    machine is answered. Ctrl-C ends it.
    """
    from kard.db import read_store

    read_store(store).close()
    try:
        from kard.ui.server import serve  # datasette: an extra, and half a second
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "kard":
            raise
        raise NoExtra("datasette is not installed; add it with: pip install 'kard[ui]'") from error

    def ready(address: str) -> None:
        click.echo(f"{store} is at {address} (Ctrl-C ends it)")
        if open_browser and _has_screen():
            webbrowser.open(address)

    serve(store, port=port, ready=ready)


def _has_screen() -> bool:
    """Return whether a browser has a screen. One in the terminal would keep the server from starting."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
