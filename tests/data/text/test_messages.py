"""Messages in the forms that others write, brought to one, and messages that are refused."""

import copy
import json

import pytest

from data.text.chat_template import ChatTemplate
from data.text.messages import checked
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import CALL, MODEL, RESULT, SYSTEM, USER
from tests.data.text.templates import TEMPLATE

ARGUMENTS = {"city": "Köln", "days": [1, {"b": None}]}
TEXT = json.dumps(ARGUMENTS)


def called(arguments, **rest):
    """A question, and a call with these arguments."""
    call = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": arguments}}
    return [USER, {"role": "assistant", "content": None, "tool_calls": [call], **rest}]


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.load()


def test_usual_messages_stay_as_they_are():
    usual = [SYSTEM, USER, CALL, RESULT, MODEL, *called(ARGUMENTS), RESULT | {"tool_call_id": "1"}]
    before = copy.deepcopy(usual)
    assert checked(usual) == usual == before
    assert all(new is not old for new, old in zip(checked(usual), usual, strict=True))


@pytest.mark.parametrize(
    ("role", "usual"), [("developer", "system"), ("model", "assistant"), ("function", "tool")]
)
def test_other_names_of_roles(role, usual):
    for name in (role, role.upper()):
        *_, found = checked([CALL, {"role": name, "content": "a"}])
        assert found == {"role": usual, "content": "a"}


@pytest.mark.parametrize(
    ("role", "parts", "text"),
    [
        ("user", [{"type": "text", "text": " 2 + 2?\n"}], " 2 + 2?\n"),
        ("user", [{"type": "text", "text": "2 + "}, {"type": "text", "text": " 2?"}], "2 +2?"),
        ("assistant", [{"type": "output_text", "text": "4"}, "!"], "4!"),
        ("developer", [{"type": "input_text", "text": "Be "}, {"text": "brief."}], "Be brief."),
        ("tool", [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}], "a b"),
        ("tool", ["a", {"b": "ü"}], '["a", {"b": "ü"}]'),
        ("tool", {"mm": 3}, '{"mm": 3}'),
        ("tool", [], "[]"),
        ("tool", 0, "0"),
        ("tool", False, "false"),
    ],
)
def test_parts_of_a_content_become_its_text(role, parts, text):
    assert checked([CALL, {"role": role, "content": parts}])[1]["content"] == text


@pytest.mark.parametrize("name", ["thinking", "reasoning"])
def test_parts_that_are_thoughts_are_reasoning(name):
    parts = [
        {"type": name, name: "hm"},
        {"type": name, "text": "so"},
        {"type": "text", "text": "4"},
    ]
    expected = MODEL | {"reasoning": "hm\nso", "reasoning_content": "hm\nso"}
    assert checked([MODEL | {"content": parts}]) == [expected]


@pytest.mark.parametrize("name", ["arguments", "parameters", "input", "args"])
@pytest.mark.parametrize("value", [ARGUMENTS, TEXT])
def test_other_names_of_arguments(name, value):
    function = {"name": "rain", name: value}
    for call in (function, {"function": function}, json.dumps(function)):
        [found] = checked([{"role": "assistant", "tool_calls": [call]}])[0]["tool_calls"]
        assert found["function"] == {"name": "rain", "arguments": ARGUMENTS}
    again = {"role": "assistant", "tool_calls": json.dumps([function])}
    assert checked([again])[0]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS


def calls_and_results(calls, results):
    """A question, calls of these tools with these ids, and results with these fields."""
    calls = [
        {"function": {"name": n, "arguments": {}}} | ({"id": i} if i else {}) for n, i in calls
    ]
    results = [{"role": "tool", "content": str(i), **r} for i, r in enumerate(results)]
    return [USER, {"role": "assistant", "content": None, "tool_calls": calls}, *results]


TWO, WIND = [("rain", None), ("wind", None)], {"name": "wind"}


@pytest.mark.parametrize(
    ("calls", "results", "names"),
    [
        (TWO, [{}, {}], ["rain", "wind"]),
        (TWO, [{"name": "wind"}, {"name": "rain"}], ["wind", "rain"]),
        (TWO, [{"name": "wind"}, {}], ["wind", "rain"]),
        (TWO, [WIND | {"tool_call_id": "7"}, {"tool_call_id": "8"}], ["wind", "rain"]),
        (TWO, [{"tool_call_id": "7"}, {"tool_call_id": "8"}], ["rain", "wind"]),
        ([("rain", "1"), ("wind", "2")], [{"tool_call_id": "2"}, {}], ["wind", "rain"]),
        ([("rain", "1"), ("wind", "2")], [{}, {}], ["rain", "wind"]),
        ([("rain", None), ("rain", None)], [{}, {}], ["rain", "rain"]),
        ([("rain", "1")], [{}], ["rain"]),
        ([("rain", None)], [{}], ["rain"]),
    ],
)
def test_a_result_finds_its_call(calls, results, names):
    given = calls_and_results(calls, results)
    before = copy.deepcopy(given)
    _, called, *found = checked(given)
    assert given == before
    # Released templates look for the name so; the last call that fits wins.
    for result, name in zip(found, names, strict=True):
        fit = [c for c in called["tool_calls"] if c.get("id") == result.get("tool_call_id")]
        assert fit[-1]["function"]["name"] == name
    ids = [c["id"] for c in called["tool_calls"] if "id" in c]
    assert len(set(ids)) == len(ids)
    assert checked([USER, called, *found]) == [USER, called, *found]


@pytest.mark.parametrize(
    "arguments", [ARGUMENTS, TEXT, json.dumps(TEXT), json.dumps(json.dumps(TEXT))]
)
def test_arguments_are_an_object_before_a_template_sees_them(tok, arguments):
    assert checked(called(arguments)) == called(ARGUMENTS)
    text = ChatTemplate(tok, TEMPLATE).render(called(arguments), generation=False).text
    assert '<|tool_call>call:rain{city:<|"|>Köln<|"|>,days:[1,{b:null}]}<tool_call|>' in text


@pytest.mark.parametrize("arguments", ["", " ", None, "{}", '""', "null"])
def test_a_call_without_arguments(arguments):
    [call] = checked(called(arguments))[1]["tool_calls"]
    assert call["function"] == {"name": "rain", "arguments": {}}
    del call["function"]["arguments"]
    message = {"role": "assistant", "tool_calls": [call]}
    assert checked([message])[0]["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize("opening", ["<think>hm</think>\n\n", "<|channel>thought\nhm<channel|>"])
def test_a_thought_in_a_content_is_reasoning(opening):
    found = checked([MODEL | {"content": f"{opening}4"}])
    assert found == [MODEL | {"content": "4", "reasoning": "hm", "reasoning_content": "hm"}]


@pytest.mark.parametrize("name", ["tool_use_id", "call_id", "toolCallId", "id"])
def test_other_names_of_a_results_id(name):
    given = calls_and_results([("rain", "1"), ("wind", "2")], [{name: "2"}, {name: "1"}])
    assert [result["tool_call_id"] for result in checked(given)[2:]] == ["2", "1"]
    given = calls_and_results(TWO[:1], [{"id": "of the message"}])
    assert checked(given) == given


def test_calls_in_two_messages_in_a_row():
    [_, first, *results] = calls_and_results(
        [("rain", "1")], [{"tool_call_id": "2"}, {"tool_call_id": "1"}]
    )
    [_, second] = calls_and_results([("wind", "2")], [])
    _, *calls, wind, rain = checked([USER, first, second, *results])
    assert calls == [first, second]
    assert (wind, rain) == (results[0], results[1] | {"name": "rain"})


def test_arguments_beside_the_function():
    call = {"type": "function", "function": {"name": "rain", "arguments": ""}, "arguments": TEXT}
    [found] = checked(called(None, tool_calls=[call]))[1]["tool_calls"]
    assert found == {
        "type": "function",
        "function": {"name": "rain", "arguments": ARGUMENTS},
    }


def test_other_forms_of_a_call():
    [_, usual] = called(ARGUMENTS)
    bare = {"role": "model", "content": None, "tool_calls": [{"name": "rain", "arguments": TEXT}]}
    [call] = checked([bare])[0]["tool_calls"]
    assert call == {"type": "function", "function": usual["tool_calls"][0]["function"]}
    bare["tool_calls"][0]["id"] = "1"
    assert checked([bare]) == [usual]
    old = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "rain", "arguments": TEXT},
    }
    assert checked([old]) == [{"role": "assistant", "content": None, "tool_calls": [call]}]
    plain = MODEL | {"function_call": None, "tool_calls": []}
    assert checked([plain]) == [MODEL | {"tool_calls": []}]
    assert checked([MODEL | {"tool_calls": "null"}]) == [MODEL | {"tool_calls": None}]
    assert checked([MODEL | {"tool_calls": "null"}]) == [MODEL | {"tool_calls": None}]
    broken = {"text": "rain(1)", "problem": "it does not begin with call: and a name"}
    both = {"role": "assistant", "content": "Hm.", "tool_calls": [broken, call]}
    assert checked([both]) == [both | {"content": "Hm.\nrain(1)", "tool_calls": [call]}]
    # The next request's history: what a model said and called before, and what came back.
    history = [USER, bare, {"role": "function", "name": "rain", "content": {"mm": 3}}]
    result = {"role": "tool", "name": "rain", "content": '{"mm": 3}'}
    assert checked(history) == [USER, usual, result]


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([], "at least one"),
        ("Hi", "expected a list of messages"),
        ([USER, "Hi"], "message 2: expected role and content, got str"),
        ([{"role": "boss", "content": "Hi"}], "message 1: role 'boss' is none of system, user"),
        ([{"content": "Hi"}], "message 1: it has no role"),
        ([USER, MODEL, {"role": "user", "content": " \n"}], "message 3: the user says nothing"),
        ([{"role": "user", "content": []}], "the user says nothing"),
        ([{"role": "user", "content": {"text": "Hi"}}], "content must be text, got dict"),
        ([USER, {"role": "assistant"}], "message 2: it has no content"),
        ([USER, {"role": "user", "tool_calls": [1]}], "message 2: it has no content"),
        (
            [USER, MODEL, {"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}],
            "message 3: a part of type audio: this model does not hear",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], "must be text, got NoneType"),
        ([{"role": "user", "content": ["a", 1]}], "must be text, got int"),
        (called("{'n': 1}"), r"message 2: tool call 1: arguments are not JSON \(Expecting prop"),
        (called('"{}'), "tool call 1: arguments are not JSON"),
        (called("[1]"), "tool call 1: arguments must be an object, got list"),
        (called(3), "tool call 1: arguments must be an object, got int"),
        ([USER, {"role": "assistant", "tool_calls": {"name": "a"}}], "tool_calls: expected a list"),
        (
            [USER, {"role": "assistant", "tool_calls": ["call:clock{}"]}],
            "the call: the text is not",
        ),
        (
            called(None, tool_calls=[{"name": "a", "kwargs": {}}]),
            "a field kwargs: its name must be",
        ),
        (called(None, tool_calls=[{"name": "a", "args": {}, "input": {}}]), "both input and args"),
        (called('{"a": 1, "a": 2}'), "an object has the key 'a' twice"),
        ([USER, MODEL, RESULT], "message 3: a tool's result, but the model's message before it"),
        (
            calls_and_results([("rain", "1"), ("wind", "1")], []),
            "message 2: two tool calls have the same id",
        ),
        (
            called(None, tool_calls=[{"function": {"name": "a", "arguments": "{}"}, "args": [1]}]),
            "tool call 1: arguments in the function and beside it: keep one",
        ),
        ([USER, RESULT], "message 2: a tool's result, but the model's message before it calls"),
        ([*calls_and_results(TWO, [{}] * 3)], "message 5: a tool's result that belongs to no tool"),
        (
            calls_and_results(TWO, [{"name": "sun"}]),
            "message 3: a tool's result that belongs to no",
        ),
        (
            [USER, MODEL | {"content": [{"type": "refusal", "refusal": "No."}]}],
            "message 2: a part of type refusal is not read",
        ),
        (
            [MODEL | {"content": [{"type": "thinking"}]}],
            "a part that is a thought must have a text",
        ),
        (
            [MODEL | {"content": [{"type": "thinking", "text": "a"}], "reasoning": ["b"]}],
            "message 1: the reasoning must be text",
        ),
        ([USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}], "expected the name"),
        ([USER, {"role": "assistant", "tool_calls": [{"function": {}}]}], "expected the name"),
    ],
)
def test_malformed_messages(tok, messages, error):
    for render in (checked, ChatTemplate(tok).render, ChatTemplate(tok, "").render):
        with pytest.raises(ValueError, match=error) as caught:
            render(messages)
        assert "\n" not in str(caught.value)
