"""Bodies of requests: what is read from them, and some 80 kinds that are refused by name."""

import json

import pytest

from data.text.json_object import any_object
from sample.server.chat_request import NOT_TAKEN, Defaults, read_chat
from sample.server.errors import Refused
from sample.step import SamplerConfig

DEFAULTS = Defaults("tiny", SamplerConfig(max_new_tokens=24), seed=7, stop_texts=("END",))
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def form(schema):
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def read(**fields):
    return read_chat({"messages": HI} | fields, DEFAULTS)


def test_what_is_missing_or_null_is_as_the_command_line_says():
    asked = read(model="tiny", temperature=None, stop=None, tools=None, max_tokens=None)
    assert asked == read()
    assert (asked.sampler, asked.seed, asked.stop_texts) == (DEFAULTS.sampler, 7, ("END",))
    assert (asked.choices, asked.stream, asked.thinking, asked.row.messages) == (1, 0, 0, HI)


def test_all_fields():
    asked = read(
        max_completion_tokens=50, max_tokens=50, max_steps=3, entropy_bound=1, stop_threshold=0.5,
        min_temperature=0.1, max_temperature=2, early_stop=False, starts=2, restart_every=9,
        seed=2**32 - 1, stop=["a", "b", "a"], n=3, stream=True,
        stream_options={"include_usage": True},
        user="me", metadata={"a": "b"}, thinking=False, tools=[TOOL],
    )  # fmt: skip
    assert asked.sampler == SamplerConfig(3, 1, 0.5, 0.1, 2, False, 50, starts=2, restart_every=9)
    assert (asked.seed, asked.stop_texts, asked.choices) == (2**32 - 1, ("a", "b"), 3)
    assert asked.stream and asked.include_usage and asked.row.tools == [TOOL]


def test_a_temperature_holds_for_all_steps():
    sampler = read(temperature=0.3).sampler
    assert sampler.min_temperature == sampler.max_temperature == 0.3


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_fields_that_ask_for_nothing_are_taken(name):
    for value in NOT_TAKEN[name][0]:
        assert read(**{name: value}) == read()


def test_demands_and_texts_to_fill_in():
    age = read(response_format=form(SCHEMA), stop=[]).row.demand
    assert '"age"' in age
    assert read(response_format={"type": "text"}, regex="a+", stop=[]).row.demand == "a+"
    assert read(response_format={"type": "json_object"}, stop=[]).row.demand == any_object()
    alone = read_chat({"fill": "a<fill:3>", "stop": []}, DEFAULTS)
    assert alone.row.messages[0]["content"] == "Fill in the gaps." and len(alone.row.pieces) == 2
    beside = read(edit="a\nb", spans="2", stop=[])
    assert beside.row.messages == HI and beside.row.pieces[0] == "a\n"


def test_a_conversation_with_tools_as_clients_send_it_back():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    said = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "2"}
    parts = [{"type": "text", "text": "Hi"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    asked = read(messages=[*messages, said, result], tools=[TOOL])
    roles = [message["role"] for message in asked.row.messages]
    assert roles == ["system", "user", "assistant", "tool"]
    assert asked.row.messages[1]["content"] == "Hi"
    assert asked.row.messages[2]["tool_calls"][0]["function"]["arguments"] == {"a": 1}


# What is wrong -> (the field that the error names, a part of what it says).
WRONG = {
    "[]": (None, "the body must be a JSON object"),
    '"messages"': (None, "the body must be a JSON object"),
    "{}": ("messages", "expected a list"),
    '{"messages": null}': ("messages", "expected a list"),
    '{"messages": "Hi"}': ("messages", "expected a list of at least one message, found a text"),
    '{"messages": {}}': ("messages", "found an object"),
    '{"messages": []}': ("messages", "at least one"),
    '{"messages": ["Hi"]}': ("messages", "message 1: expected role and content, got str"),
    '{"messages": [{"content": "Hi"}]}': ("messages", "message 1: it has no role"),
    '{"messages": [{"role": "user"}]}': ("messages", "message 1: it has no content"),
    '{"messages": [{"role": "user", "content": " "}]}': ("messages", "the user says nothing"),
    '{"messages": [{"role": "king", "content": "a"}]}': ("messages", "role 'king' is none of"),
    '{"messages": [{"role": "user", "content": 5}]}': ("messages", "content must be text"),
    '{"messages": [{"role": "user", "content": "\\ud800"}]}': ("messages", "surrogate pair"),
    '{"messages": [{"role": "user", "content": "a", "name": "b"}]}': (
        "messages",
        "the field name of a message is not understood",
    ),
    '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}': (
        "messages",
        "message 1: a part of type image_url: expected its path or data URL",
    ),
    '{"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}': (
        "messages",
        "this model does not hear",
    ),
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}': (
        "messages",
        "there is nothing to answer",
    ),
    '{"messages": [{"role": "tool", "content": "a"}]}': ("messages", "calls no tool"),
    '"model": "gpt-4"': ("model", "there is no 'gpt-4' here: the model is 'tiny'"),
    '"model": 4': ("model", "expected a text"),
    '"max_tokens": 0': ("max_tokens", "expected a number from 1"),
    '"max_tokens": -5': ("max_tokens", "expected a number from 1"),
    '"max_tokens": 1.5': ("max_tokens", "expected a whole number"),
    '"max_tokens": "5"': ("max_tokens", "expected a whole number, found a text"),
    '"max_tokens": true': ("max_tokens", "found true or false"),
    '"max_tokens": 5, "max_completion_tokens": 6': ("max_tokens", "it differs from"),
    '"max_completion_tokens": []': ("max_completion_tokens", "found a list"),
    '"temperature": 0': ("temperature", "above 0, because denoising always draws"),
    '"temperature": -1': ("temperature", "above 0"),
    '"temperature": "hot"': ("temperature", "expected a number, found a text"),
    '"temperature": NaN': ("temperature", "out of range"),
    '"temperature": Infinity': ("temperature", "out of range"),
    '"temperature": 1, "min_temperature": 1': ("temperature", "keep one"),
    '"min_temperature": 2': ("min_temperature", "temperatures must be 0 < min <= max"),
    '"max_temperature": 0.1': ("max_temperature", "temperatures must be 0 < min <= max"),
    '"max_steps": 0': ("max_steps", "from 1 to 1024"),
    '"max_steps": 100000': ("max_steps", "from 1 to 1024"),
    '"starts": 17': ("starts", "from 1 to 16"),
    '"entropy_bound": -1': ("entropy_bound", "must be above 0"),
    '"early_stop": 1': ("early_stop", "expected true or false"),
    '"seed": -1': ("seed", "from 0 to 4294967295"),
    '"seed": 4294967296': ("seed", "from 0 to 4294967295"),
    '"n": 0': ("n", "from 1 to 16"),
    '"n": 17': ("n", "from 1 to 16"),
    '"stream": "yes"': ("stream", "expected true or false"),
    '"stream_options": {"include_usage": true}': ("stream_options", "it is for stream alone"),
    '"stream": true, "stream_options": []': ("stream_options", "expected an object"),
    '"stream": true, "stream_options": {"a": 1}': ("stream_options", "a: there is no such field"),
    '"stop": 5': ("stop", "expected a text or a list of texts"),
    '"stop": [5]': ("stop", "expected a text or a list of texts"),
    '"stop": ""': ("stop", "a text is empty"),
    '"stop": ["\\udc00"]': ("stop", "half of a surrogate pair"),
    f'"stop": {json.dumps(list("abcdefghijklmnopq"))}': ("stop", "at most 16 texts, found 17"),
    '"logit_bias": {"5": 1}': ("logit_bias", "it is not taken: the sampler has no biases"),
    '"logprobs": true': ("logprobs", "it is not taken"),
    '"top_logprobs": 2': ("top_logprobs", "it is not taken"),
    '"presence_penalty": 0.5': ("presence_penalty", "no penalties"),
    '"frequency_penalty": 1': ("frequency_penalty", "no penalties"),
    '"presence_penalty": false': ("presence_penalty", "no penalties"),
    '"top_p": 0.9': ("top_p", "it is not taken"),
    '"top_p": true': ("top_p", "it is not taken"),
    '"tool_choice": "required"': ("tool_choice", "the choice is the model's"),
    '"functions": [{"name": "f"}]': ("functions", "give tools"),
    '"modalities": ["text", "audio"]': ("modalities", "text only"),
    '"reasoning_effort": "high"': ("reasoning_effort", "give thinking"),
    '"top_n": 5': ("top_n", "there is no such field"),
    '"steps": true': ("steps", "there is no such field"),
    '"tools": 5': ("tools", "expected a list of objects"),
    '"tools": [{"type": "web_search"}]': ("tools", "a tool of type 'web_search' has none"),
    '"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]': (
        "tools",
        "expected parameters, a JSON schema",
    ),
    '"response_format": "json"': ("response_format", "expected an object"),
    '"response_format": {"type": "xml"}': (
        "response_format",
        "expected the type text, json_object",
    ),
    '"response_format": {"type": "json_object", "schema": {}}': ("response_format", "no other"),
    '"response_format": {"type": "json_schema"}': ("response_format", "expected an object with"),
    '"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}': (
        "response_format",
        "which is an object",
    ),
    '"stop": [], "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}': (
        "response_format",
        "schema: a type is needed",
    ),
    '"response_format": {"type": "text"}, "regex": 5': ("regex", "expected a text"),
    '"regex": "a", "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}': (
        "regex",
        "keep one",
    ),
    '"regex": "a"': ("stop", "the whole answer must obey"),
    '"stop": [], "regex": "a", "thinking": true': ("thinking", "the whole answer must obey"),
    '"fill": "a<fill:2>"': ("stop", "not for a text to fill in"),
    '"fill": "no hole"': ("fill", "the text has no hole"),
    '"fill": 5': ("fill", "expected a text"),
    '"edit": "a"': ("edit", "edit without spans"),
    '"spans": "a"': ("spans", "spans without edit"),
    '"edit": "a", "spans": "b"': ("spans", "finds no text that could change"),
    '"fill": "<fill:1>", "edit": "a", "spans": "a"': ("fill", "both fill and edit"),
    '"thinking": "yes"': ("thinking", "expected true or false"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_refused(text):
    whole = text[0] in "[{" or text == '"messages"'
    body = json.loads(text if whole else f"{{{text}}}")
    if not whole:
        body = {"messages": HI} | body
    param, part = WRONG[text]
    with pytest.raises(Refused) as refused:
        read_chat(body, DEFAULTS)
    error = refused.value.body()["error"]
    assert part in error["message"] and error["param"] == param
    assert "\n" not in error["message"] and error["type"] == "invalid_request_error"
    assert refused.value.status == (404 if error["code"] == "model_not_found" else 400)
    json.dumps(error).encode()
