"""The routes: chat completions, the list of students, health, metrics, and a page that asks one question."""

from __future__ import annotations

import asyncio
import hmac
import sys
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from jinja2 import Environment

from kard.errors import BadInput, EndpointFailed, KardError
from kard.outgoing import clean, inert
from kard.records import FORCED
from kard.serve import wire
from kard.serve.desk import Desk, HungUp, Job
from kard.serve.metrics import Metrics, adapters
from kard.serve.students import ServedStudent, Students
from kard.serve.wire import ChatRequest, CompletionRequest, Refused, Reply
from kard.ui.guard import Application, Receive, Send, guarded, is_loopback

ROOM = files("kard.serve")
OPEN = ("/health", "/", "/page.css")  # asked without a key; the page asks for it itself


@dataclass(frozen=True)
class Limits:
    """What a request may take."""

    places: int = 128  # requests that are accepted at a time
    seconds: float = 120.0  # from acceptance to the answer
    body: int = 64 << 10  # bytes


class Server:
    """The state behind the routes. `key` is None where everybody who reaches the address may ask."""

    def __init__(self, students: Students, limits: Limits, *, threads: int, key: str | None) -> None:
        self.students, self.limits, self.key = students, limits, key
        self.desk = Desk(places=limits.places, threads=threads, seconds=limits.seconds)
        self.metrics = Metrics()
        self._page = Environment(autoescape=True).from_string((ROOM / "page.html").read_text("utf-8"))

    def application(self, *, loopback: bool) -> Application:
        """Return the ASGI application; on `loopback` it answers no other host names."""
        app = FastAPI(title="kard", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"])
        app.add_api_route("/v1/completions", self.completions, methods=["POST"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/v1/models/{name:path}", self.model, methods=["GET"])
        app.add_api_route("/health", self.health, methods=["GET"])
        app.add_api_route("/metrics", self.numbers, methods=["GET"])
        app.add_api_route("/", self.page, methods=["GET", "POST"], response_class=HTMLResponse)
        app.add_api_route("/page.css", self.style, methods=["GET"])
        app.add_exception_handler(Refused, self.refuse)
        app.add_exception_handler(404, self.nowhere)
        app.add_exception_handler(405, self.nowhere)

        async def checked(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            try:
                if scope["type"] == "http":
                    self.check(Request(scope))
            except Refused as error:
                response = await self.refuse(Request(scope), error)
                await response(scope, receive, send)
            else:
                await app(scope, receive, send)

        def any_host(_: str) -> bool:
            return True  # the key guards what a foreign name could reach

        def own(_: str) -> bool:
            return True

        return guarded(checked, name="kard serve", is_host=is_loopback if loopback else any_host, is_own=own)

    def check(self, request: Request) -> None:
        """Raise Refused for requests of other pages' scripts and forms, and for those without the key."""
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "another page's requests are not answered", "foreign_origin")
        if request.scope["path"] not in OPEN:  # what is routed by; an address is made from the Host header, too
            self.require_key(request.headers.get("authorization", "").removeprefix("Bearer "))

    def require_key(self, given: str) -> None:
        """Raise Refused unless the key is the server's."""
        if self.key is not None and not hmac.compare_digest(given.encode(), self.key.encode()):
            headers = {"WWW-Authenticate": "Bearer"}
            raise Refused(
                401, "the key is missing or wrong; send it as a bearer token", "invalid_api_key", headers=headers
            )

    async def refuse(self, _request: Request, error: Exception) -> Response:
        """Return a refusal in OpenAI's form."""
        assert isinstance(error, Refused)
        self.metrics.requests["", error.status] += 1
        return JSONResponse(error.body(), error.status, error.headers)

    async def nowhere(self, request: Request, error: Exception) -> Response:
        """Refuse an address or method that is not there."""
        status = int(getattr(error, "status_code", 404))
        return await self.refuse(request, Refused(status, "there is nothing at this address", "not_found"))

    async def health(self) -> Response:
        """Say whether requests are accepted."""
        self.desk.check_open()
        return JSONResponse({"status": "ok"})

    async def numbers(self) -> Response:
        """Return the metrics."""
        gauges = {
            "places_taken": ("requests accepted and not yet answered", float(self.desk.taken)),
            "places": ("requests that are accepted at a time", float(self.desk.places)),
            **adapters(self.students.resident()),
        }
        return PlainTextResponse(self.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def models(self) -> Response:
        """List the students."""
        return JSONResponse({"object": "list", "data": [_model(student) for student in self.students.listed]})

    async def model(self, name: str) -> Response:
        """Return one student."""
        return JSONResponse(_model(self.students.find(name)))

    async def chat(self, request: Request) -> Response:
        """Answer one chat completion."""
        asked = wire.parse(await self._json(request))
        student = self.students.find(asked.model)
        answering = Answering(self, asked, student, request)
        if not asked.stream:
            reply = await answering.reply()
            if reply is None:
                return Response(status_code=499)  # nobody is there to read it
            return JSONResponse(wire.completion(asked, reply, answering.head))
        return StreamingResponse(
            answering.events(asked), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def completions(self, request: Request) -> Response:
        """Continue one prompt as it is, or score its tokens."""
        asked = wire.parse_completion(await self._json(request))
        answering = Answering(self, asked, self.students.find(asked.model), request)
        reply = await answering.reply()
        return (
            Response(status_code=499) if reply is None else JSONResponse(wire.continuation(reply, answering.head))
        )

    async def page(self, request: Request) -> Response:
        """Show the form, and the answer to the question that it holds."""
        fields: dict[str, str] = {}
        problem, reply = "", None
        if request.method == "POST":
            try:
                values = parse_qs((await self._body(request)).decode("utf-8", "replace"))
                fields = {name: " ".join(texts).replace("\r\n", "\n") for name, texts in values.items()}
                self.require_key(fields.pop("key", ""))
                asked = page_request(fields)
                reply = await Answering(self, asked, self.students.find(asked.model), request).reply()
            except Refused as error:
                problem = str(error)
        text = self._page.render(
            fields=fields,
            # who has no key learns no names
            names=[] if self.key else list(dict.fromkeys(student.kind for student in self.students.listed)),
            needs_key=self.key is not None,
            problem=problem,
            reply=reply,
            forced=FORCED,
        )
        return HTMLResponse(inert(text), 200 if not problem else 400)

    async def style(self) -> Response:
        """Return the page's style sheet."""
        return Response((ROOM / "page.css").read_text("utf-8"), media_type="text/css")

    async def _json(self, request: Request) -> bytes:
        """Return the body of a request that says it is JSON. Raises Refused."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the body must be application/json", "invalid_content_type")
        return await self._body(request)

    async def _body(self, request: Request) -> bytes:
        """Return the body. Raises Refused if it is too large or comes too slowly."""
        body, limit = bytearray(), self.limits.body
        too_large = Refused(413, f"the body has more than {limit:,} bytes", "too_large")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large
        try:
            async with asyncio.timeout(self.limits.seconds):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the client went before its request was whole", "hung_up")
                    body += message.get("body", b"")
                    more = bool(message.get("more_body"))
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise Refused(408, "the body came too slowly", "timeout") from None
        return bytes(body)


class Answering:
    """One accepted request. Creating it takes a place or raises Refused."""

    def __init__(
        self, server: Server, asked: ChatRequest | CompletionRequest, student: ServedStudent, request: Request
    ) -> None:
        self.server, self.student = server, student
        self.head: Mapping[str, object] = {
            "id": f"{'chat' * isinstance(asked, ChatRequest)}cmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": student.id,
        }
        self._begin = asyncio.get_running_loop().time()
        self._job: Job = server.desk.accept(asked, lambda: server.students.load(student))
        self._gone = asyncio.ensure_future(_until_gone(request))

    async def reply(self) -> Reply | None:
        """Return the reply, None if the client went. Raises Refused."""
        try:
            return await self._part(self._job.reply)
        except HungUp:
            self.server.metrics.hung_up += 1
            return None
        finally:
            self._end()

    async def events(self, asked: ChatRequest) -> AsyncIterator[str]:
        """Yield the events of a stream; an error after its begin is an event too."""
        try:
            passages = await self._part(self._job.passages)
            yield wire.first_chunk(asked.n or 1, passages, self.head)
            reply = await self._part(self._job.reply)
            for chunk in wire.other_chunks(asked, reply, self.head):
                yield chunk
        except (HungUp, asyncio.CancelledError) as error:
            self.server.metrics.hung_up += 1
            if isinstance(error, asyncio.CancelledError):
                raise
        except Refused as error:
            self.server.metrics.requests[self.student.id, error.status] += 1
            yield wire.event(error.body())
        finally:
            self._end()

    async def _part(self, part: asyncio.Future[Any]) -> Any:
        """Return a part of the answer. Raises HungUp or Refused, which any other error becomes."""
        desk = self.server.desk
        try:
            value = await desk.wait(part, self._gone, self._begin + desk.seconds)
        except (HungUp, Refused):
            raise
        except BadInput as error:
            raise Refused(400, str(error), "invalid_request") from error
        except KardError as error:
            status = 502 if isinstance(error, EndpointFailed) else 500
            raise Refused(status, str(error), "cannot_answer") from error
        except Exception as error:
            sys.stderr.write(clean("".join(traceback.format_exception(error))))
            raise Refused(500, "something went wrong; the terminal of kard serve shows what", "error") from error
        if isinstance(value, Reply):
            seconds = asyncio.get_running_loop().time() - self._begin
            self.server.metrics.answered(self.student.id, seconds, wire.usage(value))
        return value

    def _end(self) -> None:
        self._gone.cancel()
        self._job.give_up()


async def _until_gone(request: Request) -> None:
    """Return when the client has hung up."""
    with suppress(asyncio.CancelledError):
        while (await request.receive())["type"] != "http.disconnect":
            pass


def page_request(fields: Mapping[str, str]) -> ChatRequest:
    """Return the request of the page's form. Raises Refused."""
    question = fields.get("question", "").strip()
    if not question:
        raise Refused(400, "the question is empty", "invalid_request")
    options = tuple(line.strip() for line in fields.get("options", "").split("\n") if line.strip())
    if len(options) == 1:
        raise Refused(400, "give two options or more, one a line, or none", "invalid_request")
    texts = fields.get("texts", "1")
    request = ChatRequest(fields.get("student", ""), question, options)
    return (
        replace(request, n=min(int(texts), wire.MAX_TEXTS))
        if texts.isascii() and texts.isdigit() and len(texts) < 4 and int(texts)
        else request
    )


def _model(student: ServedStudent) -> dict[str, object]:
    facts = {"name": student.kind, "task": student.task, "size": student.size, "method": student.method}
    return {
        "id": student.id,
        "object": "model",
        "created": 0,
        "owned_by": "kard",
        "kard": {**facts, "seed": student.seed, "trained": student.created},
    }
