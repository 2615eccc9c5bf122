"""sample.main --serve: it listens, answers, and ends by Ctrl-C, in an answer too."""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from sample import main as command
from sample.command import session as sessions
from sample.server.serve import address_of
from tests.sample.server.serving import PATIENCE, until

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def interruptible():
    """Ctrl-C as Python has it, whatever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_when(said, act):
    """Starts a thread that waits for the server's address, acts with it, and presses Ctrl-C."""

    def press():
        try:
            until(lambda: said)
            act(said[0].split(" at ")[1].split()[0])
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_ctrl_c_ends_the_server_in_an_answer(folder, interruptible, monkeypatch, capsys):
    said, got, begun = [], [], threading.Event()

    def generate(*_, ended, **__):
        begun.set()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:  # as a generation of many canvases does
            ended([5])
            time.sleep(0.01)

    def ask(url):
        body = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()
        asked = urllib.request.Request(f"{url}v1/chat/completions", body, JSON)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(asked, timeout=PATIENCE)
        with error.value as response:
            got.append((response.status, json.loads(response.read())["error"]["message"]))

    def act(url):
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            got.append((response.status, b"<form" in response.read()))
        waiting.append(threading.Thread(target=ask, args=(url,)))
        waiting[0].start()
        assert begun.wait(PATIENCE)

    waiting = []
    monkeypatch.setattr(sessions, "generate", generate)
    monkeypatch.setattr("sample.server.serve.complain", said.append)
    before = threading.active_count()
    pressing = press_when(said, act)
    assert command.main(["main", f"--checkpoint={folder}", "--serve=0", "--host=0.0.0.0"]) == 0
    for thread in (pressing, *waiting):
        thread.join(PATIENCE)
    assert got == [(200, True), (503, "the server is being stopped")]
    assert threading.active_count() == before
    assert said[0].startswith("'model' is served at http://127.0.0.1:")
    assert said[1] == "warning: whoever can reach this machine can ask it, without a key"
    assert "Ctrl-C again ends the program at once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("fe80::1", "[fe80::1]"),
    ],
)
def test_the_address_for_a_browser(host, name):
    bound = SimpleNamespace(getsockname=lambda: (host, 8000))
    assert address_of(bound, host) == f"http://{name}:8000/"
