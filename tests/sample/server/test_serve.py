"""sample.main --serve: it listens, answers, and ends by Ctrl-C or SIGTERM, in an answer too."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from data.text.tokenizer import Tokenizer
from sample import main as command
from sample.command import session as sessions
from sample.generation import Generation
from sample.server.serve import address_of
from tests.sample.server.serving import PATIENCE, until

JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def ending(request):
    """A signal that ends a server, and its handler as Python has it, whatever started the tests."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield request.param
    for number, handler in before.items():
        assert signal.getsignal(number) is usual[number]
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A server that does not end must fail a test, and not end the tests with the status 0."""
    monkeypatch.setattr("sample.server.serve.GRACE", 4 * PATIENCE)


def press_when(said, act, number):
    """Starts a thread that waits for the server's address, acts with it, and sends a signal."""

    def press():
        try:
            until(lambda: said)
            act(said[0].split(" at ")[1].split()[0])
        finally:
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def asked(url, **fields):
    """The status and the body of an answer."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], **fields}).encode()
    request = urllib.request.Request(f"{url}v1/chat/completions", body, JSON)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error as response:
            return response.status, json.loads(response.read())


def test_an_answer_is_cut_behind_its_canvas_and_others_are_told(
    folder, ending, monkeypatch, capsys
):
    """One answer runs, one has a schema and cannot be cut, and one waits behind them."""
    said, begun = [], threading.Event()
    [token] = Tokenizer.load().encode("7")

    def generate(*_, ended, **__):
        begun.set()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:  # as a generation of many canvases does
            if ended(np.array([token])):
                return Generation(np.array([[token]]), np.array([[3]]), np.array([[1]]))
            time.sleep(0.01)

    def act(url):
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            got.append((response.status, b"<form" in response.read()))
        waiting.append(pool.submit(asked, url))
        assert begun.wait(PATIENCE)
        waiting.append(pool.submit(asked, url, regex="a+"))
        time.sleep(0.2)  # the queue has it

    got, waiting = [], []
    monkeypatch.setattr(sessions, "generate", generate)
    monkeypatch.setattr("sample.server.serve.complain", said.append)
    before = threading.active_count()
    with ThreadPoolExecutor(2) as pool:
        pressing = press_when(said, act, ending)
        assert command.main(["main", f"--checkpoint={folder}", "--serve=0", "--host=0.0.0.0"]) == 0
        pressing.join(PATIENCE)
        (status, body), (other, refused) = (each.result(PATIENCE) for each in waiting)
    assert got == [(200, True)] and status == 200 and other == 503
    [choice] = body["choices"]
    assert choice["finish_reason"] == "abort" and choice["message"]["content"] == "7"
    assert refused["error"]["message"] == "the server is being stopped"
    assert threading.active_count() == before
    assert said[0].startswith("'model' is served at http://127.0.0.1:")
    assert said[1] == "warning: whoever can reach this machine can ask it, without a key"
    assert "Ctrl-C again ends the program at once" in capsys.readouterr().err


def test_an_answer_that_must_be_whole_is_told_that_it_ends(folder, monkeypatch):
    said, begun = [], threading.Event()

    def generate(*_, ended, **__):
        begun.set()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not ended(np.array([5])):
            time.sleep(0.01)

    def act(url):
        waiting.append(pool.submit(asked, url, regex="a+"))
        assert begun.wait(PATIENCE)

    waiting = []
    monkeypatch.setattr(sessions, "generate", generate)
    monkeypatch.setattr("sample.server.serve.complain", said.append)
    with ThreadPoolExecutor(1) as pool:
        pressing = press_when(said, act, signal.SIGTERM)
        assert command.main(["main", f"--checkpoint={folder}", "--serve=0"]) == 0
        pressing.join(PATIENCE)
        assert waiting[0].result(PATIENCE)[0] == 503


def test_a_canvas_that_takes_too_long_does_not_keep_the_server(folder):
    """In a program of its own, because nothing else ends a compilation or a long canvas."""
    program = """
import sys, time
from sample import main
from sample.command import session
from sample.server import serve
serve.GRACE = 0.5
def generate(*_, **__):
    print("begun", flush=True)
    time.sleep(60)
session.generate = generate
sys.exit(main.main(["main", "--checkpoint=" + sys.argv[1], "--serve=0"]))
"""
    command = [sys.executable, "-c", program, str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as server, ThreadPoolExecutor(2) as pool:
        url = server.stderr.readline().split(" at ")[1].split()[0]
        asking = [pool.submit(asked, url) for _ in range(2)]
        assert server.stdout.readline() == "begun\n"
        server.send_signal(signal.SIGTERM)
        assert [each.result(PATIENCE)[0] for each in asking] == [503, 503]
        assert server.wait(PATIENCE) == 0
        assert "has not come to an end" in server.stderr.read()


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
