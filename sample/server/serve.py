"""Runs the server until Ctrl-C or SIGTERM."""

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
from sample.server.connection import Connection
from sample.server.engine import Engine, defaults_of
from sample.server.jobs import Jobs
from sample.server.live_page import live_page

MOST_WAITING = 32  # requests behind the one that is answered
MOST_CONNECTIONS = 256
PATIENCE = 0.2  # seconds between two questions whether the server is to end
GRACE = 4  # seconds for the canvas that is being denoised, once the server is to end
LEAVE_SECONDS = 3  # for the last responses, once nothing is answered any more


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

    The answer that runs then ends behind its canvas, and whoever waits is told. If the canvas, or
    the compilation of its program, takes longer than GRACE, nothing could end it but the end of the
    program: everybody is told, and the program ends here with the status 0.

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
    with listening(service, bound) as (alive, close), _grace(jobs, over, close):
        url = address_of(bound, host)
        complain(f"{model!r} is served at {url} and {url}v1 until Ctrl-C")
        if not ipaddress.ip_address(bound.getsockname()[0]).is_loopback:
            complain("warning: whoever can reach this machine can ask it, without a key")
        jobs.run(lambda: over() or not alive())
        if not alive():
            raise OSError("the server has ended by itself")


@contextlib.contextmanager
def listening(
    service: Service, bound: socket.socket
) -> Iterator[tuple[Callable[[], bool], Callable[[], None]]]:
    """Listens on another thread within the block.

    Gives two functions: one says whether it still listens, and the other one ends that. Who leaves
    the block has ended `service.jobs` before, so nobody waits for an answer any more.
    """
    config = uvicorn.Config(
        make_app(service),
        http=Connection,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="error",  # what strangers send is no news for the user
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=LEAVE_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()

    def close() -> None:
        server.should_exit = True
        thread.join()

    try:
        yield thread.is_alive, close
    finally:
        close()
        bound.close()


@contextlib.contextmanager
def _grace(jobs: Jobs, over: Callable[[], bool], close: Callable[[], None]) -> Iterator[None]:
    """Ends the program if the block is not left within GRACE seconds after `over` says so."""
    left = threading.Event()

    def wait() -> None:
        while not over():
            if left.wait(PATIENCE):
                return
        if left.wait(GRACE):
            return
        complain(f"stopped: what ran has not come to an end within {GRACE} seconds")
        jobs.give_up()
        close()
        os._exit(0)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def address_of(bound: socket.socket, host: str) -> str:
    """The address that a browser on this machine takes."""
    port = bound.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    return f"http://{name}:{port}/"
