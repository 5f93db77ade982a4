"""Serve one store with datasette, on loopback."""

from __future__ import annotations

import errno
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path

import uvicorn
from datasette.app import Datasette
from datasette.plugins import pm

from kard.db import open_store
from kard.errors import BadInput, NoStore
from kard.reading import address, writable
from kard.schema import queries, relations
from kard.ui import plugin
from kard.ui.database import Store, metadata
from kard.ui.guard import listen

HOST = "127.0.0.1"
SETTINGS = {
    "sql_time_limit_ms": 5_000,  # of any statement; an interrupted one says so on its page
    "facet_time_limit_ms": 500,
    "max_returned_rows": 2_000,
    "default_page_size": 50,
    "truncate_cells_html": 1_000,
    "allow_download": False,  # the file is on this machine already, and a copy made meanwhile could be torn
    "default_cache_ttl": 0,  # a running step may have added rows since
    "num_sql_threads": 3,
}
STATIC = "-/kard/static"


def application(path: Path) -> Datasette:
    """Return datasette with the store at `path`, its metadata, its canned queries and kard's own pages.

    A store that can be written gets this version's views first. Raises NoStore.
    """
    is_mutable = _prepare(path)
    if not pm.is_registered(plugin):
        pm.register(plugin, "kard")
        pm.unregister(name="datasette.handle_exception")  # the plugin has its own
    canned = tuple(queries())
    name = path.stem if path.stem.isascii() and path.stem[:1].isalnum() else "store"
    with closing(sqlite3.connect(address(path), uri=True)) as connection:
        if not connection.execute("select 1 from sqlite_master where name = '_sqlite_migrations'").fetchone():
            raise NoStore(f"{path} is a database but not a kard store; name another with --store")
        meanings = metadata(name, path.name, relations(connection))
    folder = Path(str(files("kard.ui")))
    datasette = Datasette(
        memory=True,
        metadata=meanings,
        settings=dict(SETTINGS),
        template_dir=str(folder / "templates"),
        static_mounts=[(STATIC, str(folder / "static"))],
    )
    datasette.remove_database("_memory")
    datasette.add_database(Store(datasette, path, canned, is_mutable=is_mutable), name=name)
    return datasette


def serve(path: Path, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve on 127.0.0.1 until interrupted; `ready` receives the address as soon as it can be asked.

    Port 0 takes any free one. Raises NoStore, and BadInput if the port is taken.
    """
    datasette = application(path)
    with closing(_listen(port)) as listening:
        # The socket listens already: requests from now on wait for the server.
        ready(f"http://{HOST}:{listening.getsockname()[1]}/")
        config = uvicorn.Config(datasette.app(), log_level="warning", lifespan="on", server_header=False)
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            uvicorn.Server(config).run(sockets=[listening])


def _prepare(path: Path) -> bool:
    """Open the store once, to bring it up to date, and return whether it can be written. Raises NoStore."""
    if not path.exists():
        raise NoStore(f"no store at {path}; make one with: kard load TASK FILE --store {path}")
    open_store(path, create=False).close()  # a store that cannot be written is left as it is
    return writable(path)


def _listen(port: int) -> socket.socket:
    """Return a socket that listens on loopback only. Raises BadInput."""
    try:
        return listen(HOST, port)
    except OSError as error:
        problem = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise BadInput(f"port {port} {problem}; name another with: kard ui --port {port + 1}") from error
