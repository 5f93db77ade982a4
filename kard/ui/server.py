"""datasette over one store, on loopback."""

from __future__ import annotations

import errno
import os
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
from kard.schema import queries, relations
from kard.ui import plugin
from kard.ui.database import Store
from kard.ui.metadata import metadata

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
    """datasette with the store at `path`, its metadata, its canned queries and the pages of `kard.ui.plugin`.

    The store is brought to the form of this version first, where it can be written. Raises NoStore.
    """
    writable = _brought_up(path)
    if not pm.is_registered(plugin):
        pm.register(plugin, "kard")
        pm.unregister(name="datasette.handle_exception")  # kard's own stands for it
    known = tuple(queries())
    name = path.stem if path.stem.isascii() and path.stem[:1].isalnum() else "store"
    # A folder that cannot be written has no place for the file that WAL needs; nobody else writes there either.
    mode = "mode=ro" if writable else "immutable=1"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)) as connection:
        if not connection.execute("select 1 from sqlite_master where name = '_sqlite_migrations'").fetchone():
            raise NoStore(f"{path} is a database but not a kard store; name another with --store")
        told = metadata(name, path.name, relations(connection), known)
    room = Path(str(files("kard.ui")))
    served = Datasette(
        memory=True,
        metadata=told,
        settings=dict(SETTINGS),
        template_dir=str(room / "templates"),
        static_mounts=[(STATIC, str(room / "static"))],
    )
    served.remove_database("_memory")
    served.add_database(Store(served, str(path.resolve()), known, is_mutable=writable), name=name)
    return served


def serve(path: Path, *, port: int, ready: Callable[[str], None]) -> None:
    """Answer on 127.0.0.1 until interrupted; `ready` gets the address once it can be asked.

    Port 0 takes any that is free. Raises BadInput when the port is taken, and NoStore.
    """
    served = application(path)
    with closing(_listen(port)) as listening:
        # The socket listens already: what is asked from now on waits for the server.
        ready(f"http://{HOST}:{listening.getsockname()[1]}/")
        config = uvicorn.Config(served.app(), log_level="warning", lifespan="on", server_header=False)
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            uvicorn.Server(config).run(sockets=[listening])


def _brought_up(path: Path) -> bool:
    """Whether the store can be written here; if so it has this version's form now. Raises NoStore."""
    if not path.exists():
        raise NoStore(f"no store at {path}; make one with: kard load TASK FILE --store {path}")
    writable = os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)
    if writable:
        open_store(path, create=False).close()
    return writable


def _listen(port: int) -> socket.socket:
    """A socket that listens on loopback, and on nothing else. Raises BadInput."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere the option would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        problem = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise BadInput(f"port {port} {problem}; name another with: kard ui --port {port + 1}") from error
    return listening
