"""What strangers may send to the server, and which status each of them gets. Anyone may add a row.

They are sent to the real server on a free port, which is asked a good question before and after. A
row is refused with its status, or its connection is closed; no row leaves a traceback.
"""

import contextlib
import dataclasses
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.trials.processes import ROOT
from scripts.trials.trial import Kind, Outcome, Trial, Verdict

PATIENCE = 90.0  # seconds for an answer; slow requests are awaited for up to 30
CLOSED = 0  # stands for the status of a connection that is closed without an answer
MEGA = 1_000_000
GOOD = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "max_steps": 2}
STREAM = "Transfer-Encoding: chunked\r\n"
JSON = "Content-Type: application/json\r\n"


@dataclasses.dataclass(frozen=True)
class HostileRequest:
    """A request that wants to do harm.

    Attributes:
      name: a name of its own.
      data: what is sent. "{port}" in its first 200 bytes stands for the server's port.
      statuses: those that the responses may have, in their order; CLOSED for none.
      ends: whether the connection is closed for writing behind the data.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...]
    ends: bool = False

    def responses(self, port: int, patience: float = PATIENCE) -> tuple[tuple[int, ...], bytes]:
        """The statuses of the responses, and all that the server sends.

        Raises:
          TimeoutError: the server neither answers nor closes the connection.
        """
        head = self.data[:200].replace(b"{port}", str(port).encode())
        got = b""
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as line:
            try:
                line.sendall(head + self.data[200:])
                if self.ends:
                    line.shutdown(socket.SHUT_WR)
                while piece := line.recv(65536):
                    got += piece
            except (ConnectionError, BrokenPipeError):  # closed before all was sent
                pass
        found = tuple(int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got))
        return found or (CLOSED,), got

    def fault(self, port: int, patience: float = PATIENCE) -> str:
        """What is wrong with the server's answer; "" for nothing."""
        try:
            found, got = self.responses(port, patience)
        except TimeoutError:
            return f"{self.name}: no answer within {patience:g} seconds"
        # Who is refused while still sending may lose the answer with the connection.
        cut = found == (CLOSED,) and len(self.data) > MEGA
        if found != self.statuses and not cut:
            return f"{self.name}: {found} instead of {self.statuses}"
        if b"access-control" in got.lower():
            return f"{self.name}: a page of another site may read the answer"
        return ""


def _get(name: str, status: int, target: str = "/", more: str = "", host: str = "localhost:{port}"):
    text = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    return HostileRequest(name, text.encode("latin-1"), (status,))


def _post(name: str, status: int, more: str, body: bytes = b"", ends: bool = False):
    """A POST whose headers say all but the host."""
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
    return HostileRequest(name, f"{head}{more}\r\n".encode() + body, (status,), ends)


def _asks(name: str, status: int, body: object, more: str = JSON):
    """A POST of a JSON value, or of bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return _post(name, status, f"{more}Content-Length: {len(data)}\r\n", data)


def _raw(name: str, data: bytes, *statuses: int, ends: bool = False):
    return HostileRequest(name, data, statuses, ends)


def _names() -> Iterator[HostileRequest]:
    """Pages of other sites: other names that lead here (DNS rebinding), and other origins."""
    for host in (
        *("evil.example", "127.0.0.1.evil.example:{port}", "localhost.evil.example"),
        *("localhost@evil.example", "2130706433:{port}", "0x7f.1", "localhost:{port}:1", ""),
    ):
        yield _get(f"asked as {host!r}", 403, host=host)
        yield _get(f"the models of {host!r}", 403, "/v1/models", host=host)
    yield _raw("no Host", b"GET / HTTP/1.1\r\n\r\n", 400)
    yield _raw("no Host, as in 1996", b"GET / HTTP/1.0\r\n\r\n", 403)
    yield _raw("two Hosts", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400)
    for origin in (
        *("http://evil.example", "null", "https://localhost", "http://127.0.0.1:1", "file://"),
        *("http://127.0.0.1:{port}.evil.example", "http://evil.example/127.0.0.1:{port}"),
    ):
        yield _asks(f"a page of {origin}", 403, GOOD, f"{JSON}Origin: {origin}\r\n")
        yield _get(
            f"a socket for {origin}", 403, "/", f"Upgrade: websocket\r\nOrigin: {origin}\r\n"
        )
    both = f"{JSON}Origin: http://127.0.0.1:{{port}}\r\nOrigin: http://evil.example\r\n"
    yield _asks("two origins", 403, GOOD, both)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        yield _asks(f"a form of the type {kind!r}", 415, GOOD, f"Content-Type: {kind}\r\n")
    asks = "Access-Control-Request-Method: POST\r\nOrigin: http://evil.example\r\n"
    text = (
        f"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{asks}"
    )
    yield _raw("may a page of another site ask?", f"{text}\r\n".encode(), 405)


def _places() -> Iterator[HostileRequest]:
    """Methods and addresses that are not there."""
    for method in ("PUT", "DELETE", "TRACE", "PATCH", "BREW", "get"):
        text = f"{method} /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        yield _raw(f"the method {method}", text.encode(), 405)
    connect = b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    yield _raw("a tunnel", connect, 404)
    for target in (
        *(
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "//etc/passwd",
            "/..%2f..%2fetc/passwd",
        ),
        *("/v1/models/../../../etc/passwd", "/v1/models/%00", "/%00", "/..\\..\\etc\\passwd"),
        *("http://evil.example/", "*", f"/{'a' * 8000}", "/v1/models/%ff%fe", "/static/../app.py"),
    ):
        yield _get(f"the address {target[:40]}", 404, target)


def _broken() -> Iterator[HostileRequest]:
    """What is no HTTP, or too much of it."""
    host = b"Host: localhost\r\n"
    for name, data in (
        ("garbage", b"\x00\xff\xfe garbage\r\n\r\n"),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n"),
        ("HTTP/9.9", b"GET / HTTP/9.9.9\r\n\r\n"),
        ("a NUL in the address", b"GET /\0 HTTP/1.1\r\n" + host + b"\r\n"),
        ("a NUL in a header", b"GET / HTTP/1.1\r\n" + host + b"A: \0\r\n\r\n"),
        ("a line end in a header", b"GET / HTTP/1.1\r\n" + host + b"A b: 1\r\n\r\n"),
        ("a first line of a megabyte", b"GET /" + b"a" * MEGA),
        ("a header of a megabyte", b"GET / HTTP/1.1\r\n" + host + b"A: " + b"a" * MEGA),
        ("20,000 headers", b"GET / HTTP/1.1\r\n" + host + b"A: b\r\n" * 20_000),
    ):
        yield _raw(name, data, 400)
    for length in ("-1", "1e3", "0x10", "9" * 5000, "5\r\nContent-Length: 6"):
        yield _post(f"the length {length[:8]!r}", 400, f"{JSON}Content-Length: {length}\r\n", b"{}")
    yield _post("a chunk that is none", 400, JSON + STREAM, b"ZZZ\r\n{}\r\n0\r\n\r\n")
    yield _post("a chunk of 2**80 bytes", 408, JSON + STREAM, b"F" * 20 + b"\r\n{}")
    yield _raw("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, 400)
    yield _post("a body of 17 MB", 413, f"{JSON}Content-Length: 17000000\r\n", b"{")
    chunks = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    yield _post("chunks of 18 MB", 413, JSON + STREAM, chunks * 18)
    models = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield _raw("garbage behind a good request", models + b"\0\0\r\n\r\n", 200, 400)
    yield _raw(
        "100 requests at once, then garbage", models * 100 + b"\0\r\n\r\n", *[200] * 100, 400
    )


def _slow() -> Iterator[HostileRequest]:
    """Requests that do not come to an end."""
    yield _raw("nothing", b"", 408)
    yield _raw("half of a first line", b"GET / HT", 408)
    yield _raw("half of the headers", b"GET / HTTP/1.1\r\nHost: localhost\r\nA", 408)
    length = f"{JSON}Content-Length: 10\r\n"
    yield _post("half of a body", 408, length, b'{"a"')
    yield _post("half of a chunk", 408, JSON + STREAM, b"5\r\n[1")
    yield _post("a body behind a refusal", 415, "Content-Length: 99\r\n", b"{")
    yield _raw("half of a first line, and gone", b"GET / HT", CLOSED, ends=True)
    yield _post("half of a body, and gone", CLOSED, length, b'{"a"', ends=True)


def _bodies() -> Iterator[HostileRequest]:
    """JSON that asks for too much."""
    said = GOOD["messages"]

    def form(schema: object) -> dict:
        about = {"name": "a", "schema": schema}
        return {"messages": said, "response_format": {"type": "json_schema", "json_schema": about}}

    deep: object = {"type": "null"}
    for _ in range(60):
        deep = {"type": "array", "items": deep}
    for name, body in (
        ("a regex of 2**24 states", {"messages": said, "regex": "[ab]*a[ab]{24}"}),
        ("a regex of 2 MB", {"messages": said, "regex": "a" * 2 * MEGA}),
        ("100,000 open brackets", {"messages": said, "regex": "[" * 100_000}),
        ("repetitions of repetitions", {"messages": said, "regex": "((a{1000}){1000}){1000}"}),
        ("a schema of 2**60 parts", form(deep)),
        ("a schema that leads to itself", form({"$ref": "#"})),
        ("an enum of 10 MB", form({"enum": ["a" * 100] * 100_000})),
        ("a million tokens to fill in", {"fill": "<fill:999999>"}),
        ("a million tokens to write", GOOD | {"max_tokens": 2**30}),
        ("a file of this machine", {"messages": _shows("/etc/passwd")}),
        ("an address of this machine", {"messages": _shows("http://127.0.0.1:1/a.png")}),
        ("a data URL that is none", {"messages": _shows("data:image/png;base64,????")}),
        ("10 MB as a data URL", {"messages": _shows("data:image/png;base64," + "A" * 10 * MEGA)}),
        ("NaN", GOOD | {"temperature": float("nan")}),
    ):
        yield _asks(name, 400, body)
    yield _asks("brackets 100,000 deep", 400, b"[" * 100_000)
    yield _asks("brackets of 15 MB", 400, b"[" * 15 * MEGA)
    yield _asks("no UTF-8", 400, b"\xff\xfe")


def _shows(url: str) -> list:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


HOSTILE_REQUESTS: tuple[HostileRequest, ...] = (
    *_names(),
    *_places(),
    *_broken(),
    *_slow(),
    *_bodies(),
)


def crowd(port: int, count: int) -> list[socket.socket]:
    """Opens connections and sends nothing."""
    return [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(count)]


def answers_well(port: int) -> str:
    """What is wrong with the answer to a good request; "" for nothing."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    line.request(
        "POST", "/v1/chat/completions", json.dumps(GOOD), {"Content-Type": "application/json"}
    )
    response = line.getresponse()
    text = response.read().decode()
    line.close()
    good = response.status == 200 and '"finish_reason"' in text
    return "" if good else f"a good request gets {response.status}: {text[:200]}"


def attack(checkpoint: Path) -> Iterator[tuple[str, str]]:
    """Sends all rows to a real server: (name, what is wrong or "") of each."""
    command = [sys.executable, "-m", "sample.main", f"--checkpoint={checkpoint}", "--serve=0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            while " is served at " not in (said := server.stderr.readline()):
                if not said:
                    yield "the start", "the server does not start"
                    return
            port = int(re.search(r":(\d+)/", said)[1])
            yield "the first good request", answers_well(port)
            for row in HOSTILE_REQUESTS:
                yield row.name, row.fault(port)
            lines = crowd(port, 300)
            for line in lines:  # each is closed by the server in the end
                line.settimeout(PATIENCE)
                with contextlib.suppress(ConnectionError):
                    line.recv(100)
                line.close()
            yield "300 connections that say nothing", answers_well(port)
        finally:
            server.send_signal(signal.SIGTERM)
            _, rest = server.communicate(timeout=PATIENCE)
    yield "what the server says of it", rest if "Traceback" in rest or server.returncode else ""


def trials(seed: int, shared: Path) -> Iterator[Trial]:
    """The rows in their order, whatever the seed is: one server gets them all."""
    for name, fault in attack(ROOT / "checkpoints" / "base"):
        outcome = Outcome(Verdict.WRONG, fault) if fault else Outcome(Verdict.REFUSED)
        yield Trial(name, lambda _, outcome=outcome: outcome)


KIND = Kind("hostile requests", len(HOSTILE_REQUESTS) + 3, trials)
