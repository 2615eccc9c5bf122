"""A server on a free port of this machine, with a real model or with one that only repeats."""

import contextlib
import dataclasses
import functools
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai

from sample.server.app import Service
from sample.server.chat_request import Defaults
from sample.server.events import Grown, Said, Started, Stepped
from sample.server.jobs import Job, Jobs
from sample.server.live_page import live_page
from sample.server.serve import bind, listening
from sample.step import SamplerConfig

MODEL, CONTEXT = "tiny", 200
DEFAULTS = Defaults(MODEL, SamplerConfig(max_new_tokens=24))
PATIENCE = 30  # seconds


@dataclasses.dataclass
class Served:
    """A server that runs.

    Attributes:
      port: its port.
      jobs: its queue.
      faults: what it complained of.
      over: whether it is to end.
    """

    port: int
    jobs: Jobs
    faults: list[str]
    over: threading.Event

    @functools.cached_property
    def client(self) -> openai.OpenAI:
        """OpenAI's client, which is closed when the server ends."""
        url = f"http://127.0.0.1:{self.port}/v1"
        return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(
        self,
        body: Any,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        **headers: str,
    ) -> tuple[int, Any]:
        """The status and the JSON of a response. A body that is no bytes is sent as JSON."""
        connection = self.connection()
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, {"Content-Type": "application/json"} | named)
        with contextlib.closing(connection):
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None

    def steps(self, body: Any) -> list[tuple[str, Any]]:
        """The names and the data of the events of an answer whose steps are shown."""
        with contextlib.closing(self.connection()) as line:
            line.request("POST", "/live", json.dumps(body), {"Content-Type": "application/json"})
            text = line.getresponse().read().decode()
        parts = [part.split("\n") for part in text.removesuffix("\n\n").split("\n\n")]
        return [  # without the comments that say that the stream is alive
            (part[0].removeprefix("event: "), json.loads(part[1].removeprefix("data: ")))
            for part in parts
            if not part[0].startswith(":")
        ]


@contextlib.contextmanager
def served(
    answer: Callable[[Job], None], defaults: Defaults = DEFAULTS, waiting: int = 32
) -> Iterator[Served]:
    """Serves within the block."""
    faults: list[str] = []
    jobs, over = Jobs(answer, waiting, faults.append), threading.Event()
    bound = bind("127.0.0.1", 0)
    page = live_page(defaults, defaults.sampler.max_new_tokens)
    service = Service(jobs, defaults, CONTEXT, "127.0.0.1", page, 1)
    with listening(service, bound):
        worker = threading.Thread(target=jobs.run, args=(over.is_set,), daemon=True)
        worker.start()
        try:
            yield (found := Served(bound.getsockname()[1], jobs, faults, over))
        finally:
            if "client" in vars(found):
                found.client.close()
            over.set()
            worker.join(PATIENCE)
            assert not worker.is_alive()


def until(true: Callable[[], bool]) -> None:
    """Waits for a condition."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def repeat(job: Job, pause: Callable[[], None] = lambda: None) -> None:
    """Answers with the last message, word by word. Each word is a canvas of two steps."""
    asked = job.asked
    text = asked.row.messages[-1]["content"]
    words = text.split(" ")
    job.send(Started(len(words), text))
    for index in range(asked.choices):
        said = f"{asked.seed}/{index}: {text}"
        for word in words:
            pause()
            if job.cancelled:
                raise KeyboardInterrupt
            if asked.steps:
                job.send(Stepped({"word": word}))
            if asked.stream:
                job.send(Grown(index, f"{word} ", ""))
        rest = Grown(index, f"({asked.seed}/{index})", "")
        counts = [2] * len(words), [1] * len(words)
        job.send(Said(index, {"role": "assistant", "content": said}, "", rest, "stop", *counts))
