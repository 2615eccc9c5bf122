"""One connection of the server. What sends no whole request in time does not keep its place."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, h11

HEAD_SECONDS = 20.0  # for the first line and the headers of a request to come
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Connection(H11Protocol):
    """A connection of uvicorn that is closed if it is slow.

    uvicorn waits for ever for the rest of a request that has begun, and so a few hundred half
    requests would lock all others out. Here each request has HEAD_SECONDS from the end of the
    response before it, or from the beginning of the connection, until its headers are there. What
    comes of a body after its response counts as a request that is not there. The body itself has a
    limit of its own (guard.py), and so has the time between two requests (uvicorn).
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP. Behind the beginning of a response nothing can be said."""
        begun = self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        if self.cycle is not None:  # whoever answers is not to send anything more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if begun:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _watch(self) -> None:
        """Sets the deadline of a request that is awaited, and removes it once that is there."""
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            self._rest()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._close)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self.transport.write(TOO_SLOW)
        self.transport.close()
