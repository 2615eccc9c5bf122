"""Records: the same conversation in all forms, fields that are not used, and what is refused."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from data.text.records import has_turn_tokens, not_used, parse_record

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "2 + 2?"}
MODEL = {"role": "assistant", "content": "4"}
TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}
PARTS = [{"type": "text", "text": "2 + 2?"}]

SAME = [
    {"messages": [SYSTEM, USER, MODEL]},
    {"messages": [SYSTEM | {"role": "developer"}, USER | {"content": PARTS}, MODEL]},
    {"messages": [USER, MODEL], "system": "Be brief.", "parallel_tool_calls": False},
    {"messages": [SYSTEM, USER, MODEL], "system": "Be brief.", "prompt": "2 + 2?"},
    {"messages": [SYSTEM, USER, MODEL], "prompt": [SYSTEM, USER], "completion": "4"},
    {"conversations": [SYSTEM, USER, MODEL], "prompt": None},
    {"prompt": "2 + 2?", "response": "4", "system": "Be brief."},
    {"prompt": "2 + 2?", "completion": "4", "system": "Be brief.", "input": ""},
    {"prompt": [SYSTEM, USER], "completion": [MODEL]},
    {"user": "2 + 2?", "assistant": "4", "system": "Be brief."},
    {"messages": json.dumps([SYSTEM, USER, MODEL])},
    {"messages": [SYSTEM | {"role": "System"}, USER | {"role": "USER"}, MODEL | {"role": "GPT"}]},
    {"messages": [SYSTEM, {"from": "Human", "content": "2 + 2?"}, {"role": "Gpt", "value": "4"}]},
    {"prompt": [SYSTEM, USER], "completion": "4"},
    {"instruction": "2 + 2?", "input": "", "output": "4", "system": "Be brief."},
    {"instruction": "2 + 2?", "response": "4", "system": "Be brief.", "history": []},
    {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "2 + 2?"},
            {"from": "gpt", "value": "4"},
        ],
    },
    {
        "system": "Be brief.",
        "tools": "",
        "conversation": [{"from": "user", "value": "2 + 2?"}, {"from": "chatgpt", "value": "4"}],
    },
]


@pytest.mark.parametrize("given", SAME)
def test_the_same_conversation_in_all_forms(given):
    record = parse_record(given | {"id": 7, "source": "x", "prompt_id": "y", "metadata": {"a": 1}})
    assert record == ([SYSTEM, USER, MODEL], None, ())


def test_alpaca_joins_and_has_a_history():
    given = {"instruction": "Add:", "input": "2 + 2", "output": "4", "history": [["a", "b"]]}
    messages = parse_record(given).messages
    assert [m["content"] for m in messages] == ["a", "b", "Add:\n\n2 + 2", "4"]
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2
    given = {"instruction": "Who?", "context": "Ann came.", "response": "Ann", "category": "qa"}
    messages, _, unused = parse_record(given)
    assert [m["content"] for m in messages] == ["Who?\n\nAnn came.", "Ann"]
    assert unused == ("category",)
    # The whole text beside the parts has the answer in it.
    given = {"instruction": "Add:", "output": "4", "prompt": "Add:\n### 4"}
    assert [m["content"] for m in parse_record(given).messages] == ["Add:", "4"]
    assert parse_record(given).unused == ("prompt",)


def test_tool_calls_of_sharegpt():
    arguments = {"city": "Ulm"}
    calls = [{"name": "rain", "arguments": arguments}, {"name": "wind", "arguments": "{}"}]
    turns = [
        ("human", "Weather?"),
        ("function_call", json.dumps(calls)),
        ("observation", "3 mm"),
        ("tool", "2 Bf"),
        ("function_call", json.dumps(calls[0])),
        ("function_response", "4 mm"),
        ("gpt", "Wet."),
    ]
    told = [{"from": name, "value": value} for name, value in turns]
    given = {"conversations": told, "tools": json.dumps([TOOL["function"]])}
    before = json.dumps(given)
    messages, tools, unused = parse_record(given)
    assert json.dumps(given) == before
    assert tools == [TOOL] and unused == ()
    roles = ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    assert [m["role"] for m in messages] == roles
    first, second = messages[1]["tool_calls"]
    assert first["function"] == {"name": "rain", "arguments": arguments}
    assert second["function"] == {"name": "wind", "arguments": {}}
    [third] = messages[4]["tool_calls"]
    ids = [call["id"] for call in (first, second, third)]
    assert [messages[i]["tool_call_id"] for i in (2, 3, 5)] == ids and len(set(ids)) == 3
    # One result for two calls is the first one's, and the next result is the next call's.
    del told[3]
    messages = parse_record(given).messages
    assert [messages[i]["tool_call_id"] for i in (2, 4)] == [ids[0], ids[2]]


def test_the_forms_of_lists_and_texts_alone():
    assert parse_record([SYSTEM, USER, MODEL]) == parse_record(SAME[0])
    assert parse_record("2 + 2?") == ([USER], None, ())


def test_openai_fine_tuning_and_the_older_functions():
    call = {"name": "rain", "arguments": '{"city": "Ulm"}'}
    given = {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": call}]},
            {"role": "tool", "tool_call_id": "1", "content": "3 mm"},
            MODEL | {"weight": 1},
        ],
        "tools": [TOOL],
        "parallel_tool_calls": False,
    }
    messages, tools, unused = parse_record(given)
    assert tools == [TOOL] and unused == ()
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Ulm"}
    given = {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "function_call": call},
            {"role": "function", "name": "rain", "content": "3 mm"},
            MODEL,
        ],
        "functions": [TOOL["function"]],
        "function_call": "auto",
    }
    older, tools, unused = parse_record(given)
    assert tools == [TOOL] and unused == ()
    function = messages[1]["tool_calls"][0]["function"]
    assert older[1]["tool_calls"] == [{"type": "function", "function": function}]
    assert older[2] == {"role": "tool", "name": "rain", "content": "3 mm"}


@pytest.mark.parametrize(
    ("more", "unused"),
    [
        ({"system_prompt": "Be brief.", "temperature": 0}, ("system_prompt", "temperature")),
        ({"instruction": "Add.", "input": "1"}, ("instruction", "input")),
        ({"output": ""}, ()),
        ({"chosen": [MODEL], "rejected": [], "user_id": 3}, ("chosen",)),
    ],
)
@pytest.mark.parametrize("form", [{"messages": [USER, MODEL]}, {"prompt": "2 + 2?"}])
def test_fields_that_are_not_understood_are_named(form, more, unused):
    if "prompt" in form and "output" in more:
        unused = ()
    assert parse_record(form | more).unused == unused


def test_fields_of_messages_that_are_not_understood_are_named():
    strange = {"thinking": "hm", "images": [], "id": 3, "name": "Ann", "function_call": None}
    given = {"messages": [USER | strange, MODEL | {"thinking": "ah", "train": False}], "b": 1}
    names = ("thinking", "name", "train")
    assert parse_record(given).unused == ("b", *(f"{name} of a message" for name in names))


@pytest.mark.parametrize("name", ["label", "kto_tag"])
def test_an_answer_that_is_marked_as_bad_has_no_weight(name):
    given = {"prompt": "2 + 2?", "completion": "4"}
    assert parse_record(given | {name: True}) == parse_record(given)
    found = parse_record(given | {name: False})
    assert found == ([USER, MODEL | {"weight": 0}], None, ())
    assert parse_record(given | {name: 0}).unused == (name,)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("<bos><|turn>user\nHi<turn|>\n", True),
        ("<start_of_turn>model", True),
        ("<|im_start|>assistant\n", True),
        ("4<end_of_turn>\n", True),
        ("What does <|turn> mean, or <turn|>?", False),
    ],
)
def test_texts_that_a_template_made(content, found):
    assert has_turn_tokens([USER, {"role": "assistant", "content": content}]) is found


def test_the_line_that_names_them():
    assert not_used(Path("a"), Counter()) is None
    line = not_used(Path("a"), Counter({"b": 2, "c": 1}))
    assert line == "a: warning: not understood, so not used: b (in 2 records), c (in 1 record)"
    line = not_used(Path("a"), Counter(map(str, range(12))))
    assert line.endswith("9 (in 1 record), and 2 more")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, "or conversations; found no field"),
        ({"question": "a", "answer": "b"}, "conversations; found 'question', 'answer'"),
        (
            {"chosen": [USER, MODEL], "rejected": [USER]},
            "a better and a worse answer are not read as a pair",
        ),
        ({"messages": "a"}, "messages: the text is not JSON"),
        ({"messages": {}}, "expected a list of messages"),
        ({"messages": [USER | {"images": ["b.png"]}]}, "message 1: images: give it as a part"),
        ({"messages": [USER], "conversations": []}, "both messages and conversations: keep one"),
        ({"messages": [USER], "prompt": "a"}, "both messages and prompt, and they differ"),
        ({"prompt": "a", "response": "b", "output": "c"}, "both response and output: keep one"),
        ({"messages": [MODEL, MODEL, USER]}, "message 2: the assistant answers twice: join the"),
        ({"prompt": ["a"]}, "prompt: expected text or a list of messages"),
        ({"prompt": [{"role": "bot"}]}, "message 1: role 'bot' is none of"),
        ({"instruction": 1}, "instruction: expected text"),
        ({"instruction": "a", "input": ["b"]}, "instruction and input: expected text"),
        ({"instruction": "a", "history": [["b"]]}, "history: expected a list of questions"),
        ({"prompt": "a", "system": ["b"]}, "system: expected text"),
        ({"messages": [SYSTEM, USER], "system": "Be kind."}, "two system turns: keep one"),
        ({"prompt": "a", "audio": "b.wav"}, "audio: this model does not hear"),
        ({"conversations": [{"from": "cat", "value": "a"}]}, "message 1: role 'cat' is none of"),
        ({"conversations": [{"from": "human"}]}, "message 1: it has no content"),
        (
            {"conversations": [{"from": "function_call", "value": "rain()"}]},
            "message 1: the value of function_call: the text is not JSON",
        ),
        (
            {"conversations": [{"from": "function_call", "value": "[]"}]},
            "message 1: the value of function_call is no object with a name and arguments",
        ),
        ({"prompt": "a", "tools": "{"}, "tools: the text is not JSON"),
        ({"prompt": "a", "tools": '"a"'}, "tools: expected a list of objects"),
        ({"prompt": "a", "functions": [1]}, "functions: expected a list of objects"),
        ({"prompt": "a", "functions": [TOOL], "tools": [TOOL]}, "both tools and functions"),
        ({"prompt": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_what_is_refused(given, error):
    with pytest.raises(ValueError, match=re.escape(error)) as caught:
        parse_record(given)
    assert "\n" not in str(caught.value)
