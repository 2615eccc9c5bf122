"""Runs the server until Ctrl-C."""

import contextlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from sample.command.console import complain
from sample.command.session import Session
from sample.server.app import Service, make_app
from sample.server.engine import Engine, defaults_of
from sample.server.jobs import Jobs
from sample.server.live_page import live_page

MOST_WAITING = 32  # requests behind the one that is answered
MOST_CONNECTIONS = 256
LEAVE_SECONDS = 5  # for the last responses, once the server ends


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, before anything long begins.

    Raises:
      OSError: there is no such address here, or somebody has the port already.
    """
    place = f"--host={host} --serve={port}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror:
        raise OSError(f"{place}: there is no such host") from None
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise OSError(f"{place}: {why}: choose another port or host") from None


def serve(session: Session, bound: socket.socket, host: str, over: Callable[[], bool]) -> None:
    """Answers requests until `over` says so. The model is used by the thread that calls this.

    Args:
      session: answers.
      bound: where to listen.
      host: the name of that place, as --host has it.
      over: whether to end.

    Raises:
      OSError: the server has ended by itself.
    """
    model = Path(session.checkpoint.folder).resolve().name
    defaults = defaults_of(session, model)
    jobs = Jobs(Engine(session, over), MOST_WAITING, complain)
    page = live_page(defaults, session.autoregressive.max_new_tokens)
    context = session.model.config.max_length
    service = Service(jobs, defaults, context, host, page, int(time.time()))
    with listening(service, bound) as alive:
        url = address_of(bound, host)
        complain(f"{model!r} is served at {url} and {url}v1 until Ctrl-C")
        if not ipaddress.ip_address(bound.getsockname()[0]).is_loopback:
            complain("warning: whoever can reach this machine can ask it, without a key")
        jobs.run(lambda: over() or not alive())
        if not alive():
            raise OSError("the server has ended by itself")


@contextlib.contextmanager
def listening(service: Service, bound: socket.socket) -> Iterator[Callable[[], bool]]:
    """Listens on another thread within the block. Gives a function that says whether it still does.

    Who leaves the block has ended `service.jobs` before, so nobody waits for an answer any more.
    """
    config = uvicorn.Config(
        make_app(service),
        http="h11",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=LEAVE_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


def address_of(bound: socket.socket, host: str) -> str:
    """The address that a browser on this machine takes."""
    port = bound.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    return f"http://{name}:{port}/"
