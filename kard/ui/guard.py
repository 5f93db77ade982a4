"""The guard before every page: who may ask, what a page may do, and text that cannot act. No datasette here.

The server listens on loopback, but any page of the web can make a browser send requests there. A host name that
its owner points at 127.0.0.1 (DNS rebinding) would share an origin with the store. Requests are therefore refused
if their Host is not loopback's. A policy forbids pages to load or send anything elsewhere.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kard.outgoing import inert

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

ROOT = "/-/kard"  # address of kard's own pages, which need no script
READING = frozenset({"GET", "HEAD"})  # the methods of requests that change nothing
HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
HOST = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([^\[\]:]+))(?::\d{1,5})?")

# datasette's own pages hold small scripts and styles between their tags; ours hold none.
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
WITH_SCRIPTS = "; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
WITHOUT = "; script-src 'none'; style-src 'self'"


def is_loopback(host: str) -> bool:
    """Return whether a Host header names this machine's loopback: '127.0.0.1:8001', 'localhost', '[::1]'."""
    match = HOST.fullmatch(host.strip().lower())
    return match is not None and (match[1] or match[2]) in HOSTS


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at this address; port 0 takes any free one. Raises OSError."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere the option would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening


def is_own(path: str) -> bool:
    """Return whether an address of `kard ui` is one of kard's own pages, not of datasette's."""
    return path == "/" or path.startswith(ROOT)


def guarded(
    application: Application,
    *,
    name: str = "kard ui",
    is_host: Callable[[str], bool] = is_loopback,
    is_own: Callable[[str], bool] = is_own,
    methods: frozenset[str] | None = None,
) -> Application:
    """Return the application behind the checks of this module.

    `is_own` tells the pages that hold no script; requests by other `methods` are refused.
    """

    async def guard(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) != 1 or not is_host(hosts[0]):
            await _refuse(send, 421, f"{name} answers on 127.0.0.1 and localhost only\n")
            return
        if methods is not None and scope["method"] not in methods:
            await _refuse(send, 405, f"{name} is asked with {' or '.join(sorted(methods))} only\n")
            return
        await application(scope, receive, _guarded_send(send, own=is_own(scope["path"])))

    return guard


def _guarded_send(send: Send, *, own: bool) -> Send:
    """Return a `send` that adds the policy's headers and makes the text of HTML pages inert."""
    policy = POLICY + (WITHOUT if own else WITH_SCRIPTS)
    start: Message = {}
    parts: list[bytes] = []

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(k, v) for k, v in message.get("headers", []) if k.lower() not in _REPLACED]
            headers += [*_FIXED.items(), (b"content-security-policy", policy.encode())]
            message = {**message, "headers": headers}
            if _is_html(headers):
                start.update(message)  # sent once the length of the text is known
                return
        elif message["type"] == "http.response.body" and start:
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = inert(b"".join(parts).decode("utf-8", "replace")).encode()
            others = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
            await send({**start, "headers": [*others, (b"content-length", str(len(body)).encode())]})
            message = {"type": "http.response.body", "body": body}
        await send(message)

    return send_guarded


_FIXED = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",  # with none, browsers send a form from the origin `null`
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
_REPLACED = {*_FIXED, b"content-security-policy"}


def _is_html(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(k.lower() == b"content-type" and v.lower().startswith(b"text/html") for k, v in headers)


async def _refuse(send: Send, status: int, problem: str) -> None:
    body = problem.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
