"""The server over HTTP, with a model that only repeats: who may ask, and what becomes of it."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.sample.server.serving import CONTEXT, MODEL, PATIENCE, repeat, served, until

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def server():
    with served(repeat) as found:
        yield found
        assert found.faults == []


def test_an_answer_and_its_usage(server):
    client = server.client
    messages = [{"role": "user", "content": "a b c"}]
    got = client.chat.completions.create(model=MODEL, messages=messages, seed=3, n=2)
    assert [choice.message.content for choice in got.choices] == ["3/0: a b c", "3/1: a b c"]
    assert [choice.finish_reason for choice in got.choices] == ["stop"] * 2
    usage = got.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 6, 9)
    assert usage.denoising_steps == 12 and got.id.startswith("chatcmpl-")
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).max_model_len == CONTEXT
    with pytest.raises(openai.NotFoundError, match="the model is 'tiny'"):
        client.models.retrieve("gpt-4")


def test_a_stream_by_canvas(server):
    messages = [{"role": "user", "content": "a b"}]
    asked = {"model": MODEL, "messages": messages, "stream": True, "n": 2}
    with_usage = asked | {"stream_options": {"include_usage": True}}
    got = list(server.client.chat.completions.create(**with_usage))
    texts = {0: [], 1: []}
    for chunk in got[:-1]:
        [choice] = chunk.choices
        assert chunk.usage is None
        texts[choice.index].append(choice.delta.content)
    assert texts == {i: ["", "a ", "b ", f"(0/{i})", None] for i in (0, 1)}
    assert got[-1].choices == [] and got[-1].usage.denoising_steps == 8
    assert len({chunk.id for chunk in got}) == 1
    without = list(server.client.chat.completions.create(**asked))
    assert len(without) == len(got) - 1 and without[-1].choices[0].finish_reason == "stop"


HEADERS = {
    "another name": ({"Host": "evil.example:80"}, 403, "is asked as 'evil.example:80'"),
    "no name": ({"Host": ""}, 403, "is asked as ''"),
    "a name in a name": ({"Host": "localhost@evil.example"}, 403, "is asked as"),
    "a page of another site": ({"Origin": "http://evil.example"}, 403, "may not ask"),
    "a page of nowhere": ({"Origin": "null"}, 403, "a page of 'null' may not ask"),
    "a page of another port": ({"Origin": "http://127.0.0.1:1"}, 403, "may not ask"),
    "a form": ({"Content-Type": "text/plain"}, 415, "application/json, not 'text/plain'"),
    "no type": ({"Content-Type": ""}, 415, "send the body with Content-Type"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_who_may_not_ask(server, name):
    headers, status, part = HEADERS[name]
    for path in ("/v1/chat/completions", "/live"):
        got, body = server.ask({"messages": HI}, path, **headers)
        assert got == status and part in body["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:5", "10.1.2.3"])
def test_who_may_ask(server, host):
    assert server.ask({"messages": HI}, Host=host, Origin=f"http://{host}")[0] == 200
    assert server.ask(None, "/v1/models", "GET", Host=host)[0] == 200


BODIES = {
    b"": "not JSON",
    b"{": "not JSON",
    b"\xff": "not UTF-8",
    b'{"messages": 1, "messages": 2}': "has the key 'messages' twice",
    b"[" * 100_000: "nested too deeply",
    b'{"seed": ' + b"9" * 5000 + b"}": "a number has too many digits",
    b"{} {}": "not JSON",
    b"nul": "not JSON",
}


def test_bodies_that_are_no_json(server):
    for body, part in BODIES.items():
        status, found = server.ask(body)
        assert status == 400 and part in found["error"]["message"], (body[:50], found)
    for depth in (300, 900, 3000, 20_000):  # whoever reads it reaches a limit of its own
        deep = b'{"a": ' * depth + b"1" + b"}" * depth
        tool = b'{"type": "function", "function": {"name": "f", "parameters": ' + deep + b"}}"
        status, found = server.ask(b'{"messages": [], "tools": [' + tool + b"]}")
        assert status == 400 and found["error"]["message"]
    status, found = server.ask(b"\xef\xbb\xbf" + json.dumps({"messages": HI}).encode())
    assert status == 200


def test_bodies_that_are_too_large_or_do_not_come(server, monkeypatch):
    status, found = server.ask({"messages": HI, "user": "x" * 17_000_000})
    assert status == 413 and "more than 16,777,216 bytes" in found["error"]["message"]
    monkeypatch.setattr("sample.server.guard.BODY_SECONDS", 0.1)
    head = "POST /live HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for more in ("Content-Length: 10\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\n[1"):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall((head + more).encode())
            assert line.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_addresses_and_methods_that_are_not_there(server):
    for method, path, status in (
        ("GET", "/v1/completions", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/", 405),
    ):
        got, body = server.ask(None, path, method)
        assert got == status and body["error"]["message"].startswith(f"there is no {method} /")


def test_lone_surrogates_go_there_and_back(server):
    body = {"messages": HI, "tools": [], "user": "\ud800"}
    assert server.ask(body)[0] == 200
    status, found = server.ask({"messages": HI, "\ud800": 1})
    assert status == 400 and found["error"]["param"] == "\ud800"


def test_the_queue_is_first_come_first_answered_and_has_an_end():
    go = threading.Semaphore(0)
    with served(lambda job: repeat(job, go.acquire), waiting=3) as server:
        order, pool = [], ThreadPoolExecutor(8)

        def ask(number):
            body = {"messages": [{"role": "user", "content": "x"}], "seed": number}
            got = server.ask(body)
            order.append(number)
            return got

        asked = []
        for number in range(4):
            asked.append(pool.submit(ask, number))
            until(lambda number=number: server.jobs.count == number + 1)
        status, body = server.ask({"messages": HI})
        assert status == 429 and body["error"]["code"] == "queue_full"
        with pytest.raises(openai.RateLimitError):
            server.client.chat.completions.create(model=MODEL, messages=HI)
        for number, each in enumerate(asked):
            go.release()
            status, body = each.result(PATIENCE)
            assert status == 200
            assert body["choices"][0]["message"]["content"] == f"{number}/0: x"
        assert order == [0, 1, 2, 3] and server.jobs.count == 0
        assert server.ask({"messages": HI, "model": "no"})[0] == 404


def test_who_hangs_up_frees_the_queue():
    go = threading.Semaphore(0)
    with served(lambda job: repeat(job, go.acquire), waiting=20) as server:
        lines = []
        for number in range(20):
            line = server.connection()
            path = ("/live", "/v1/chat/completions")[number % 2]
            body = {"messages": HI} | ({"stream": True} if number % 4 == 1 else {})
            line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            lines.append(line)
            until(lambda number=number: server.jobs.count == number + 1)
        for line in lines[1:]:
            line.close()
        until(lambda: server.jobs.count == 1)
        lines[0].close()
        go.release()
        until(lambda: server.jobs.count == 0)
        go.release()
        assert server.ask({"messages": HI})[0] == 200


def test_an_error_of_one_answer_is_told_and_harms_no_other():
    def answer(job):
        if "break" in job.asked.row.messages[0]["content"]:
            repeat(job, lambda: 1 / 0)
        repeat(job)

    with served(answer) as server:
        broken = {"messages": [{"role": "user", "content": "break"}]}
        status, body = server.ask(broken)
        assert status == 500 and "ZeroDivisionError: division by zero" in body["error"]["message"]
        assert body["error"]["type"] == "server_error"
        with pytest.raises(openai.APIError, match="division by zero"):
            list(server.client.chat.completions.create(model=MODEL, stream=True, **broken))
        assert "division by zero" in server.steps(broken)[-1][1]["error"]["message"]
        assert server.ask({"messages": HI})[0] == 200
        assert len(server.faults) == 3 and "1 / 0" in server.faults[0]
        server.faults.clear()


def test_the_steps_of_an_answer_are_events(server):
    names, data = zip(
        *server.steps({"messages": [{"role": "user", "content": "a b"}]}), strict=True
    )
    assert names == ("queued", "started", "step", "step", "answered")
    queued, started, *steps, answered = data
    assert queued == {"before": 0} and started["prompt"] == "a b"
    assert started["max_steps"] == 48 and [step["word"] for step in steps] == ["a", "b"]
    assert answered["content"] == "0/0: a b" and answered["figures"]["steps"] == 4
    status, body = server.ask({"messages": HI, "n": 2}, "/live")
    assert status == 400 and body["error"]["param"] == "n"


def test_a_stream_that_waits_says_that_it_is_alive(monkeypatch):
    monkeypatch.setattr("sample.server.app.HEARTBEAT", 0.01)
    with served(lambda job: repeat(job, lambda: time.sleep(0.05))) as server:
        line = server.connection()
        body = json.dumps({"messages": HI, "stream": True})
        line.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        assert b"\n\n: waiting\n\ndata: " in line.getresponse().read()
        line.close()
        got = server.client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        assert "".join(part.choices[0].delta.content or "" for part in got) == "Hi (0/0)"
        assert server.ask({"messages": HI})[0] == 200


def test_who_waits_when_the_server_ends_is_told():
    def answer(job):
        server.over.wait(PATIENCE)
        raise KeyboardInterrupt  # as a session does that sees that it is to end

    with ThreadPoolExecutor(3) as pool, served(answer) as server:
        asked = [pool.submit(server.ask, {"messages": HI}) for _ in range(3)]
        until(lambda: server.jobs.count == 3)
        server.over.set()
        for each in asked:
            status, body = each.result(PATIENCE)
            assert status == 503 and "is being stopped" in body["error"]["message"]
        assert server.ask({"messages": HI})[0] == 503
