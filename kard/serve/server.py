"""The address that is served: loopback unless told otherwise, and elsewhere only with a key."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from types import FrameType

import uvicorn

from kard.errors import BadConfig, BadInput
from kard.serve.app import Limits, Server
from kard.serve.students import Students
from kard.ui.guard import is_loopback, listen

KEY = "KARD_SERVE_KEY"
SHORTEST = 16  # characters of a key
KEEP_ALIVE = 75  # seconds of an idle connection: clients close theirs sooner, else a request could meet the closing


def key_for(host: str, environment: Mapping[str, str]) -> str | None:
    """Return the key that requests must bring, None where loopback is served without one.

    Raises BadConfig without a key for another address, and for a key that could be guessed.
    """
    key = environment.get(KEY, "").strip()
    if not key and not _is_local(host):
        raise BadConfig(
            f"{host} can be reached from other machines: set {KEY} to a secret of {SHORTEST} characters or more, "
            "or leave --host out"
        )
    if key and len(key) < SHORTEST:
        raise BadConfig(f"{KEY} has fewer than {SHORTEST} characters; make one with: openssl rand -hex 32")
    return key or None


def serve(
    students: Students,
    limits: Limits,
    *,
    host: str,
    port: int,
    threads: int,
    ready: Callable[[str], None],
) -> None:
    """Serve until interrupted; `ready` receives the address. What was accepted until then is answered.

    Port 0 takes any free one. Raises BadConfig, and BadInput if the address cannot be used.
    """
    key = key_for(host, os.environ)
    server = Server(students, limits, threads=threads, key=key)
    with closing(_listen(host, port)) as listening:
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listening.getsockname()[1]}/")
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            HttpServer(server, loopback=_is_local(host)).run(sockets=[listening])
    students.close()


class HttpServer(uvicorn.Server):
    """A server whose application hears of its end first."""

    def __init__(self, server: Server, *, loopback: bool) -> None:
        config = uvicorn.Config(
            server.application(loopback=loopback),  # pyright: ignore[reportArgumentType]  # narrower than ASGI's types
            log_level="warning",
            access_log=False,  # questions are nobody's business
            lifespan="off",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        super().__init__(config)
        self._on_exit = server.desk.close

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept nothing more, then end as uvicorn does: once every answer is sent."""
        self._on_exit()
        super().handle_exit(sig, frame)


def _is_local(host: str) -> bool:
    return is_loopback(f"[{host}]" if ":" in host else host)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises BadInput."""
    try:
        return listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadInput(f"port {port} is taken; name another with: kard serve --port {port + 1}") from error
        raise BadInput(
            f"{host}:{port} cannot be used ({error.strerror}); name another with --host and --port"
        ) from error
