"""A tiny model behind the server: its answers are those of `generate`, however they are sent."""

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import openai
import pytest

from data.text.chat import split_turn
from data.text.tokenizer import Tokenizer
from diffusiongemma import load_checkpoint
from sample.autoregressive import AutoregressiveConfig, generate_autoregressive
from sample.command import session as sessions
from sample.command.flags import define_flags
from sample.command.open_session import open_session
from sample.generation import Generation
from sample.page.check import unpack
from sample.page.record import CANDIDATES, make_record, token_texts
from sample.server import engine as engines
from sample.server.engine import Engine, defaults_of, in_fields
from tests.sample.asking import FLAGS, PROMPTS, padded_prompt
from tests.sample.page.recorded import ABOUT
from tests.sample.server.serving import PATIENCE, served, until
from tests.sample.server.stepping import same

ASKED = [[{"role": "user", "content": text}] for text in PROMPTS]


@pytest.fixture(scope="module")
def server(folder):
    values = define_flags()
    values(["main", f"--checkpoint={folder}", *FLAGS])
    session, over = open_session(values), threading.Event()
    with served(Engine(session, over.is_set), defaults_of(session, "tiny")) as found:
        yield found
        over.set()
        assert found.faults == []


def ask(server, number, **fields):
    return server.client.chat.completions.create(model="tiny", messages=ASKED[number], **fields)


def test_answers_are_those_of_generate(server, expected):
    for number, (text, tokens) in enumerate(expected):
        got = ask(server, number)
        assert got.choices[0].message.content == text
        assert got.usage.completion_tokens == tokens
        assert got.usage.denoising_steps == 6 and got.usage.prompt_tokens > 5
        assert got.choices[0].finish_reason == "length"
    text = expected[0][0]
    assert ask(server, 0, seed=6).choices[0].message.content != text
    both = [choice.message.content for choice in ask(server, 0, n=2).choices]
    assert both[0] == text != both[1]


def test_a_stream_is_the_same_answer_canvas_by_canvas(server, expected):
    parts = list(ask(server, 0, stream=True))
    texts = [part.choices[0].delta.content or "" for part in parts]
    assert "".join(texts) == expected[0][0] and sum(map(bool, texts)) == 2


def test_a_stop_text_and_a_schema(server, expected):
    text = expected[0][0]
    stop = text[len(text) // 2 :][:2]
    got = ask(server, 0, stop=stop).choices[0]
    assert got.message.content == text[: text.find(stop)] and got.finish_reason == "stop"
    parts = list(ask(server, 0, stop=[stop], stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in parts) == text[: text.find(stop)]
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    got = ask(server, 0, response_format=form).choices[0]
    assert json.loads(got.message.content)["a"] in (1, 2) and got.finish_reason == "stop"


def test_a_text_to_fill_in(server, monkeypatch):
    [digit] = Tokenizer.load().encode("7")

    def generate(*_, given, **__):
        tokens, one = np.where(given.tokens < 0, digit, given.tokens), np.array([[1]])
        return Generation(tokens, one, one)

    monkeypatch.setattr(sessions, "generate", generate)
    got = ask(server, 0, extra_body={"fill": "a<fill:3> b"})
    assert got.choices[0].message.content == "a777 b" and got.usage.completion_tokens == 3
    chunks = list(ask(server, 0, stream=True, extra_body={"fill": "a<fill:3> b"}))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "a777 b", None]


def test_steps_are_those_of_the_generation(server, expected, monkeypatch):
    made = []

    def generate(*arguments, **options):
        made.append((sessions_generate(*arguments, **options), arguments[4]))
        return made[-1][0]

    sessions_generate = sessions.generate
    monkeypatch.setattr(sessions, "generate", generate)
    events = server.steps({"messages": ASKED[0]})
    steps, answered = [data for name, data in events if name == "step"], events[-1][1]
    assert answered["content"] == expected[0][0] and answered["figures"]["tokens"] == expected[0][1]
    [(out, config)] = made
    text_of = token_texts(Tokenizer.load())
    record = make_record(out, 0, text_of, config, ABOUT)
    assert len(steps) == 6 and config.candidates == CANDIDATES
    same(steps, record, unpack(record))
    assert [steps[i]["valid"] for i in (2, 5)] == [part["valid"] for part in record["canvases"]]


def test_tokens_left_to_right_are_those_of_the_other_mode(server, folder):
    events = server.steps({"messages": ASKED[0], "left_to_right": True})
    config = AutoregressiveConfig(max_new_tokens=24, temperature=0)
    prompt = padded_prompt(PROMPTS[0])
    out = generate_autoregressive(load_checkpoint(folder), *prompt, jax.random.key(5), config)
    tokens = out.tokens[0, : out.valid_tokens[0]].tolist()
    texts = [data["texts"] for name, data in events if name == "tokens"]
    text_of = token_texts(Tokenizer.load())
    assert [t for part in texts for t in part] == list(map(text_of, tokens)) and max(
        map(len, texts)
    ) == 1
    assert events[-1][1]["figures"]["steps"] == len(tokens)
    for path, found in (("/live", 2), ("/v1/chat/completions", True)):
        status, body = server.ask({"messages": ASKED[0], "left_to_right": found}, path)
        assert status == 400 and body["error"]["param"] == "left_to_right"


def test_a_puzzle_has_a_grid_for_the_page(server):
    rows = ["1 0 0 4", "0 0 1 0", "0 1 0 0", "4 0 0 1"]
    for text, columns in ((rows, 4), (["What is", *rows], 0)):
        content = "\n".join(["Solve the sudoku:", *text])
        events = server.steps({"messages": [{"role": "user", "content": content}]})
        [started] = [data for name, data in events if name == "started"]
        assert ("view" in started) == (columns > 0)
        if columns:
            assert started["view"]["size"] == [4, 4] and started["view"]["clues"] == [
                0, 3, 6, 9, 12, 15
            ]  # fmt: skip


def test_8_at_once_and_some_that_hang_up_get_what_they_would_get_alone(server, expected):
    def whole(number):
        return ask(server, number).choices[0].message.content

    def streamed(number):
        parts = ask(server, number, stream=True)
        return "".join(part.choices[0].delta.content or "" for part in parts)

    def stepped(number):
        return server.steps({"messages": ASKED[number]})[-1][1]["content"]

    def gone(number):
        with contextlib.closing(server.connection()) as line:
            body = json.dumps({"messages": ASKED[number], "stream": True})
            line.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            line.getresponse().read(5)

    ways = [whole, streamed, stepped, gone] * 8
    with ThreadPoolExecutor(8) as pool:
        got = [pool.submit(way, i % 3) for i, way in enumerate(ways)]
        found = [each.result(PATIENCE) for each in got]
    for i, (way, text) in enumerate(zip(ways, found, strict=True)):
        assert text == (None if way is gone else expected[i % 3][0])
    until(lambda: server.jobs.count == 0)


REFUSED = {
    "too long": ({"max_tokens": 190}, "context_length_exceeded", "or a smaller max_tokens"),
    "too short for its demand": ({"max_tokens": 2, "regex": "a{50}"}, None, "(max_tokens)"),
    "a special token": ({"stop": "a<turn|>"}, None, "stop: <turn|> is a special token"),
    "tools without a template": (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        None,
        "tools need a chat_template.jinja",
    ),
    "a text that is too long": ({"fill": "<fill:30>"}, None, "more than max_tokens=24"),
    "an expression": ({"regex": "(a"}, None, "(a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_the_model_can_refuse(server, name):
    fields, code, part = REFUSED[name]
    for more in ({}, {"stream": True}):
        status, body = server.ask({"messages": ASKED[0]} | fields | more)
        assert status == 400 and part in body["error"]["message"], body
        assert body["error"]["code"] == code and "--" not in body["error"]["message"]
    assert [name for name, _ in server.steps({"messages": ASKED[0]} | fields)][-1] == "error"


def ask_and_go(server, path, far):
    """Asks, and hangs up once the answer is so far."""
    with contextlib.closing(server.connection()) as line:
        body = json.dumps({"messages": ASKED[0]})
        line.request("POST", path, body, {"Content-Type": "application/json"})
        until(far)
    until(lambda: server.jobs.count == 0)


def test_who_hangs_up_ends_the_answer_at_the_next_step(server, monkeypatch):
    taken, show = [], engines.show

    def shown(events, seen, job, ends):
        taken.append(int(seen.n))
        until(lambda: job.cancelled)
        return show(events, seen, job, ends)

    monkeypatch.setattr(engines, "show", shown)
    ask_and_go(server, "/live", lambda: taken)
    assert taken == [1]


def test_who_hangs_up_ends_the_answer_behind_the_canvas(server, monkeypatch):
    taken, interrupted = [], engines.interrupted

    def slow(job, over):
        taken.append(job)
        if len(taken) == 2:  # the first question is before the first canvas
            until(lambda: job.cancelled)
        return interrupted(job, over)

    monkeypatch.setattr(engines, "interrupted", slow)
    ask_and_go(server, "/v1/chat/completions", lambda: len(taken) == 2)
    assert len(taken) == 2


def test_too_little_memory_is_told(server, monkeypatch):
    def generate(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    monkeypatch.setattr(sessions, "generate", generate)
    with pytest.raises(openai.InternalServerError, match="give a shorter prompt or a smaller"):
        ask(server, 0)


def test_a_tool_call_and_a_text_that_is_none(server, monkeypatch):
    """Our tokenizer has no tokens of calls, so the turn is read from a text."""
    turn = split_turn("Well.<|tool_call>call:f{a:1}<tool_call|><|tool_call>oh<tool_call|>")
    tokens, one = np.array([[5]]), np.array([[1]])
    monkeypatch.setattr(sessions, "generate", lambda *_, **__: Generation(tokens, one, one))
    monkeypatch.setattr(sessions, "read_turn", lambda *_: (turn, "tool_calls"))
    [choice] = ask(server, 0).choices
    [call] = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("f", '{"a": 1}')
    assert choice.message.content == "Well.\noh" and choice.finish_reason == "tool_calls"
    chunks = [chunk.choices[0] for chunk in ask(server, 0, stream=True)]
    [streamed] = [chunk.delta.tool_calls for chunk in chunks if chunk.delta.tool_calls]
    assert streamed[0].function.arguments == '{"a": 1}' and streamed[0].id != call.id
    assert chunks[-1].finish_reason == "tool_calls"


def test_programs_are_dropped_before_there_are_too_many(server, monkeypatch):
    dropped = []
    monkeypatch.setattr(engines, "MOST_PROGRAMS", 3)
    monkeypatch.setattr(engines.jax, "clear_caches", lambda: dropped.append(1))
    tokens = np.array([Tokenizer.load().encode("a")])
    one = np.array([[1]])
    monkeypatch.setattr(sessions, "generate", lambda *_, **__: Generation(tokens, one, one))
    for steps in range(10, 20):
        ask(server, 0, extra_body={"max_steps": steps})
        ask(server, 0, extra_body={"max_steps": steps}, max_tokens=20)
    assert len(dropped) in (3, 4)


def test_errors_name_fields():
    fault = ValueError("a smaller\n--max-new-tokens, and --top-k or --stop")
    assert in_fields(fault) == "a smaller max_tokens, and top_k or stop"
