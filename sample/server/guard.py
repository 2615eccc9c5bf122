"""What a request must be like before anything in it is read.

A page of another site could send requests to a server on this machine, through the browser of
whoever looks at it. Browsers name that site in Origin. By a name that it makes lead to this machine
(DNS rebinding), it could read the answers too; the name then stands in Host. Both are refused.
"""

import asyncio
import ipaddress
import re
import socket
from typing import Any

from starlette.requests import Request

from files.json_text import read_json, why_not_json
from sample.server.errors import Refused

MOST_BYTES = 16 * 2**20  # of a body, which may have images in it
BODY_SECONDS = 30.0  # for all of a body to come
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@\s]+)(?::([0-9]{1,5}))?")


def check_origin(request: Request, host: str) -> None:
    """Checks where a request comes from and whom it asks.

    Args:
      request: the request.
      host: where the server listens, as --host has it.

    Raises:
      Refused: Host is a name that is not known to lead here, or Origin is another site.
    """
    asked = request.headers.get("host", "")
    found = _HOST.fullmatch(asked)
    if found is None or not _leads_here(found[1], host):
        raise Refused(
            403,
            f"the server is asked as {asked[:80]!r}: ask it by its address, or start it with "
            "--host=NAME",
        )
    for origin in request.headers.getlist("origin"):
        if origin.partition("://")[2].lower() != asked.lower():
            raise Refused(403, f"a page of {origin[:80]!r} may not ask this server")


async def read_body(request: Request) -> Any:
    """The JSON value in the body of a request.

    Raises:
      Refused: the body is no JSON, is not called JSON, is too large or does not come.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, f"send the body with Content-Type: application/json, not {kind[:80]!r}")
    try:
        body = await asyncio.wait_for(_bytes(request), BODY_SECONDS)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_SECONDS:g} seconds") from None
    return await asyncio.to_thread(_json, body)


async def _bytes(request: Request) -> bytes:
    too_large = Refused(413, f"the body has more than {MOST_BYTES:,} bytes", code="too_large")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > MOST_BYTES:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise too_large
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return read_json(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {why_not_json(error)}") from None


def _leads_here(name: str, host: str) -> bool:
    """Whether a name in Host can lead to nobody else. An address is no name, so it cannot."""
    if name.lower().rstrip(".") in ("localhost", host.lower(), socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
