"""The page of sample/page with a prompt box, for answers whose steps come as they are taken."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from data.measures import effective_steps, tokens_per_forward
from sample.page.record import CANDIDATES
from sample.page.write import Live, page
from sample.server.chat_request import ChatRequest, Defaults
from sample.server.chat_response import ALIVE, server_sent
from sample.server.errors import Refused
from sample.server.events import Decoded, Said, Started, Stepped
from sample.server.jobs import BEAT

FOLDER = Path(__file__).parent
# Name of a number in a request -> what the page calls it.
NUMBERS = {
    "max_steps": "steps at most",
    "entropy_bound": "entropy bound",
    "stop_threshold": "stop threshold",
    "max_temperature": "first temperature",
    "min_temperature": "last temperature",
    "starts": "starts",
}


def live_page(defaults: Defaults, new_tokens: int) -> str:
    """The page.

    Args:
      defaults: the settings that its fields begin with.
      new_tokens: the number of tokens of an answer that they begin with.
    """
    numbers = {"max_tokens": ("tokens at most", new_tokens), "seed": ("seed", defaults.seed)}
    numbers |= {name: (said, getattr(defaults.sampler, name)) for name, said in NUMBERS.items()}
    fields = "\n".join(
        f'    <label>{said} <input type="number" name="{name}" value="{value}" step="any"></label>'
        for name, (said, value) in numbers.items()
    )
    html, script = ((FOLDER / f"live.{kind}").read_text("utf-8") for kind in ("html", "js"))
    return page([], Live(html.replace("{{fields}}", fields), script))


async def live_events(
    events: AsyncIterator[Any], asked: ChatRequest, model: str, before: int
) -> AsyncIterator[bytes]:
    """The events that the page reads (docs/FORMATS.md).

    Args:
      events: those of the job.
      asked: what is asked.
      model: the model's name.
      before: number of requests that are answered before.
    """
    yield server_sent({"before": before}, "queued")
    async for event in events:
        if event is BEAT:
            yield ALIVE
        elif isinstance(event, Refused):
            yield server_sent(event.body(), "error")
        elif isinstance(event, Started):
            yield server_sent(_head(asked, event, model), "started")
        elif isinstance(event, Decoded):
            yield server_sent({"texts": event.texts}, "tokens")
        elif isinstance(event, Stepped):
            yield server_sent(event.step, "step")
        elif isinstance(event, Said):
            yield server_sent(_end(event), "answered")


def _head(asked: ChatRequest, started: Started, model: str) -> dict[str, Any]:
    """What a record says beside its steps."""
    sampler = asked.sampler
    head = {} if started.view is None else {"view": started.view}
    return head | {
        "model": model,
        "prompt": started.prompt,
        "prompt_tokens": started.prompt_tokens,
        "max_steps": sampler.max_steps,
        "stop_threshold": sampler.stop_threshold if sampler.early_stop else None,
        "candidates": CANDIDATES,
    }


def _end(said: Said) -> dict[str, Any]:
    """The answer, and its figures as a record has them."""
    steps, valid = said.steps, said.valid_tokens
    effective = effective_steps(steps, valid)
    return {
        "content": said.message["content"],
        "reasoning_content": said.reasoning,
        "tool_calls": said.message.get("tool_calls", []),
        "finish_reason": said.finish_reason,
        "figures": {
            "steps": sum(steps),
            "tokens": sum(valid),
            "effective_steps": round(effective, 3) if effective == effective else None,
            "tokens_per_forward": round(tokens_per_forward(steps, valid, len(steps)), 4),
        },
    }
