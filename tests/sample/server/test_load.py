"""Many at once: nothing is lost, nothing goes to the wrong client, and the memory stays flat."""

import gc
import json
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tests.sample.server.serving import MODEL, PATIENCE, repeat, served, until
from tests.sample.server.test_chat_request import WRONG

LARGEST_GROWTH = 300_000  # bytes that 278 requests may leave behind: less than 1.1 kB each
HI = [{"role": "user", "content": "Hi"}]


def random_body(rng: np.random.Generator, number: int) -> dict[str, Any]:
    """A body of a random shape, whose answer nobody else gets."""
    words = [
        f"w{number}",
        *("".join(rng.choice(list("ab<é\u202e\0字"), 5)) for _ in range(rng.integers(1, 30))),
    ]
    content: Any = " ".join(words).replace("\0", "")
    if rng.random() < 0.3:
        content = [{"type": "text", "text": content}]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "seed": number}
    if rng.random() < 0.3:
        body["messages"].insert(0, {"role": "system", "content": "Be brief."})
    fields = {
        "n": int(rng.integers(1, 4)), "stream": bool(rng.random() < 0.5), "model": MODEL,
        "max_tokens": int(rng.integers(1, 100)), "stop": ["END"], "temperature": 0.5, "user": "me",
        "max_steps": int(rng.integers(1, 50)), "logprobs": False, "metadata": {"a": "b" * 500},
    }  # fmt: skip
    return body | {name: fields[name] for name in fields if rng.random() < 0.4}


def check_answer(server, rng, number):
    """Asks in one of the ways, and asserts that the answer is the one to this request."""
    body = random_body(rng, number)
    path = "/live" if rng.random() < 0.2 else "/v1/chat/completions"
    if path == "/live":
        body.pop("n", None)
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    wanted = [f"{number}/{i}: {text}" for i in range(body.get("n", 1))]
    line = server.connection()
    line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = line.getresponse()
    got = response.read().decode()
    line.close()
    assert response.status == 200, got
    if path == "/live":
        assert json.loads(got.split("event: answered\ndata: ")[1])["content"] == wanted[0]
    elif body.get("stream"):
        parts = [part.removeprefix("data: ") for part in got.removesuffix("\n\n").split("\n\n")]
        assert parts.pop() == "[DONE]"
        texts = dict.fromkeys(range(len(wanted)), "")
        for part in parts:
            [choice] = json.loads(part)["choices"]
            texts[choice["index"]] += choice["delta"].get("content", "")
        assert texts == {i: f"{text} ({number}/{i})" for i in texts}
    else:
        found = [choice["message"]["content"] for choice in json.loads(got)["choices"]]
        assert found == wanted


def check_refusal(server, text):
    data = (
        text
        if text[0] in "[{" or text == '"messages"'
        else f'{{"messages": {json.dumps(HI)}, {text}}}'
    )
    status, body = server.ask(data.encode())
    assert status in (400, 404) and body["error"]["message"]


def hang_up(server, rng, number):
    """Asks, reads a part of the answer or nothing, and goes."""
    line = server.connection()
    path = "/live" if number % 2 else "/v1/chat/completions"
    body = random_body(rng, number) | {"stream": True, "n": 1}
    line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    if number % 3:
        assert line.getresponse().read(20)
    line.close()


def everything(server, pool, first):
    """200 requests, 58 that are refused, and 20 that hang up, 8 at once in a random order."""
    rng = np.random.default_rng(first)
    tasks = [(check_answer, np.random.default_rng(first + i), first + i) for i in range(200)]
    tasks += [(check_refusal, text) for text in list(WRONG)[:58]]
    tasks += [(hang_up, np.random.default_rng(i), first + 200 + i) for i in range(20)]
    rng.shuffle(tasks)
    for each in [pool.submit(task[0], server, *task[1:]) for task in tasks]:
        each.result(PATIENCE)
    until(lambda: server.jobs.count == 0)


def test_200_requests_58_malformed_20_that_hang_up_8_at_once():
    with ThreadPoolExecutor(8) as pool, served(repeat) as server:
        everything(server, pool, 0)  # caches fill
        threads = threading.active_count()
        tracemalloc.start()
        try:
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            everything(server, pool, 1000)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < LARGEST_GROWTH and threading.active_count() <= threads + 2
        assert server.faults == []
