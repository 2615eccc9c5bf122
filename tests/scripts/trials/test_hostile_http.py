"""Hostile requests: each gets its status, and the server answers well afterwards."""

import pytest

from scripts.trials.hostile_http import GOOD, HOSTILE_REQUESTS, crowd
from tests.sample.server.serving import repeat, served

SOON = 0.3  # seconds that slow requests get here
# What takes a model to refuse, or much processor time. The command asks the real server these.
LATER = (
    "a file of this",
    "an address of this",
    "a data URL that",
    "10 MB as",
    "a million",
    "a regex",
)
LATER += ("repetitions of", "100,000 open")


@pytest.fixture(scope="module")
def server():
    patch = pytest.MonkeyPatch()
    patch.setattr("sample.server.connection.HEAD_SECONDS", SOON)
    patch.setattr("sample.server.guard.BODY_SECONDS", SOON)
    with served(repeat) as found:
        yield found
        assert found.faults == []
    patch.undo()


def test_names_are_unique():
    assert len({row.name for row in HOSTILE_REQUESTS}) == len(HOSTILE_REQUESTS)


def test_each_gets_its_status_and_none_leaves_a_traceback(server, capfd, caplog):
    rows = [row for row in HOSTILE_REQUESTS if not row.name.startswith(LATER)]
    assert len(rows) > 80
    faults = [fault for row in rows if (fault := row.fault(server.port, 20))]
    assert not faults, "\n".join(faults)
    assert server.ask(GOOD)[0] == 200
    assert caplog.text == "" and capfd.readouterr().err == ""


def test_many_connections_that_say_nothing_lock_nobody_out(server):
    lines = crowd(server.port, 300)
    for line in lines:
        assert line.recv(10) in (b"HTTP/1.1 4", b"")
        line.close()
    assert server.ask(GOOD)[0] == 200


@pytest.mark.parametrize("rest", [b"ZZZ\r\n", b"2\r\n{}ZZZ"])
def test_garbage_behind_a_refusal_closes_the_connection(server, rest, capfd, caplog):
    head = b"POST /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    [line] = crowd(server.port, 1)
    line.sendall(head)
    assert line.recv(1000).startswith(b"HTTP/1.1 415 ")
    line.sendall(rest)
    assert line.recv(1000) == b""
    line.close()
    assert caplog.text == "" and capfd.readouterr().err == ""
