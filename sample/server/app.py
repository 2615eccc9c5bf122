"""What the server answers at each address, as an ASGI application.

    GET  /                       the live page
    POST /live                   the steps of an answer, as server-sent events, for that page
    POST /v1/chat/completions    an answer, as OpenAI's clients read it
    GET  /v1/models              the name of the model

A request goes through guard.py, chat_request.py and the queue of jobs.py. Its events come back and
become a response by chat_response.py or live_page.py.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from sample.server import chat_response as reply
from sample.server.chat_request import ChatRequest, Defaults, read_chat
from sample.server.errors import TOO_DEEP, Refused, wrong
from sample.server.events import Said, Started
from sample.server.guard import check_origin, read_body
from sample.server.jobs import BEAT, Job, Jobs
from sample.server.live_page import live_events

HEARTBEAT = 15.0  # seconds after which a stream that waits says that it is alive
NO_FRAME = "frame-ancestors 'none'"  # what a page cannot say of itself
GONE = 499  # the status of a response that nobody waits for, as nginx calls it
Handler = Callable[[Request], Awaitable[Response]]


class Service(NamedTuple):
    """What the application is made of.

    Attributes:
      jobs: answers requests.
      defaults: what holds for requests that do not say otherwise.
      context: the largest number of tokens of a prompt and its answer together.
      host: where the server listens, as --host has it.
      page: the live page.
      started: when the server was started, in seconds since 1970.
    """

    jobs: Jobs
    defaults: Defaults
    context: int
    host: str
    page: str
    started: int


def make_app(service: Service) -> Starlette:
    """The application."""
    model = reply.Model(service.defaults.model, service.started, service.context)

    async def page(request: Request) -> Response:
        return HTMLResponse(service.page, headers={"Content-Security-Policy": NO_FRAME})

    async def icon(request: Request) -> Response:
        return Response(status_code=204)

    async def models(request: Request) -> Response:
        return _json({"object": "list", "data": [model.record()]})

    async def one_model(request: Request) -> Response:
        if request.path_params["name"] != model.id:
            raise Refused(404, f"the model is {model.id!r}", "model", "model_not_found")
        return _json(model.record())

    async def live(request: Request) -> Response:
        body = await read_body(request)
        only = body.pop("left_to_right", None) if isinstance(body, dict) else None
        if not isinstance(only, bool | None):
            raise wrong("left_to_right", "expected true or false")
        asked = (await _read(service, body))._replace(stream=False)
        if asked.choices > 1:
            raise wrong("n", "the steps of one answer can be shown, not of several")
        asked = asked._replace(steps=not only, left_to_right=bool(only))
        job = Job(asked, asyncio.get_running_loop())
        before = service.jobs.put(job)
        async with contextlib.AsyncExitStack() as line:
            await line.enter_async_context(_until_gone(service.jobs, request, job))
            events = live_events(job.events(HEARTBEAT), asked, model.id, before)
            return _stream(events, line.pop_all())

    async def completions(request: Request) -> Response:
        asked = await _read(service, await read_body(request))
        job = Job(asked, asyncio.get_running_loop())
        service.jobs.put(job)
        async with contextlib.AsyncExitStack() as line:
            await line.enter_async_context(_until_gone(service.jobs, request, job))
            # Until the answer begins, a request can be refused with a status of its own.
            events = job.events(HEARTBEAT)
            started = await anext((event async for event in events if event is not BEAT), None)
            if isinstance(started, Refused):
                raise started
            if started is None:
                return Response(status_code=GONE)
            head = reply.Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), model.id)
            if asked.stream:
                chunks = _chunks(events, head, asked, started)
                return _stream(chunks, line.pop_all())
            said = []
            async for event in events:
                if isinstance(event, Refused):
                    raise event
                if isinstance(event, Said):
                    said.append(event)
        if len(said) < asked.choices:
            return Response(status_code=GONE)
        return _json(reply.whole(head, started, said))

    routes = [
        Route("/", _guarded(page, service.host)),
        Route("/favicon.ico", _guarded(icon, service.host)),
        Route("/live", _guarded(live, service.host), methods=["POST"]),
        Route("/v1/models", _guarded(models, service.host)),
        Route("/v1/models/{name:path}", _guarded(one_model, service.host)),
        Route("/v1/chat/completions", _guarded(completions, service.host), methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_place})


def _guarded(handler: Handler, host: str) -> Handler:
    """A handler that is asked only by who may ask, and whose refusals become responses."""

    async def guarded(request: Request) -> Response:
        try:
            check_origin(request, host)
            response = await handler(request)
        except ClientDisconnect:  # in the middle of a body
            return Response(status_code=GONE)
        except Refused as error:
            response = _json(error.body(), error.status)
            if error.status == 429:
                response.headers["Retry-After"] = "1"
        return _closed(response)

    return guarded


def _closed(response: Response) -> Response:
    """A response that no browser keeps or takes for something else."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _no_such_place(request: Request, error: Exception) -> Response:
    """The response to an address or a method that the server does not have."""
    place = f"{request.method} {request.url.path[:80]}"
    refused = Refused(error.status_code, f"there is no {place} here", code="unknown_url")
    return _closed(_json(refused.body(), error.status_code))


async def _read(service: Service, body: Any) -> ChatRequest:
    try:
        # On another thread, because a schema may take long to read, and others are to be served.
        return await asyncio.to_thread(read_chat, body, service.defaults)
    except RecursionError:
        raise Refused(400, TOO_DEEP) from None


@contextlib.asynccontextmanager
async def _until_gone(jobs: Jobs, request: Request, job: Job) -> AsyncIterator[None]:
    """Cancels a job once whoever asked has hung up, or has got all."""

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        jobs.cancel(job)

    waiting = asyncio.create_task(hang_up())
    try:
        yield
    finally:
        waiting.cancel()
        jobs.cancel(job)  # Starlette may have seen first that nobody is there


async def _chunks(
    events: AsyncIterator[Any], head: reply.Head, asked: ChatRequest, started: Started
) -> AsyncIterator[bytes]:
    """The parts of a streamed answer."""
    said = []
    for chunk in reply.chunks(head, asked, started):
        yield reply.server_sent(chunk)
    async for event in events:
        if event is BEAT:
            yield reply.ALIVE
            continue
        if isinstance(event, Refused):
            yield reply.server_sent(event.body())
            return
        for chunk in reply.chunks(head, asked, event):
            yield reply.server_sent(chunk)
        if isinstance(event, Said):
            said.append(event)
    if asked.include_usage:
        yield reply.server_sent(reply.last_chunk(head, started, said))
    yield reply.DONE


def _stream(parts: AsyncIterator[bytes], line: contextlib.AsyncExitStack) -> Response:
    """A response of server-sent events. The line is closed behind the last one."""

    async def sent() -> AsyncIterator[bytes]:
        async with line:
            async for part in parts:
                yield part

    return StreamingResponse(sent(), media_type="text/event-stream")


def _json(value: Any, status: int = 200) -> Response:
    """A response of JSON. It is ASCII, so lone surrogates do no harm."""
    return Response(json.dumps(value), status, media_type="application/json")
