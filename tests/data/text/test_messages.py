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
    assert checked([{"role": role, "content": "a"}]) == [{"role": usual, "content": "a"}]


@pytest.mark.parametrize(
    ("role", "parts", "text"),
    [
        ("user", [{"type": "text", "text": " 2 + 2?\n"}], " 2 + 2?\n"),
        ("user", [{"type": "text", "text": "2 + "}, {"type": "text", "text": " 2?"}], "2 +2?"),
        ("assistant", [{"type": "output_text", "text": "4"}, "!"], "4!"),
        ("developer", [{"type": "input_text", "text": "Be "}, {"text": "brief."}], "Be brief."),
        ("tool", [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}], "a b"),
    ],
)
def test_parts_of_a_content_become_its_text(role, parts, text):
    assert checked([{"role": role, "content": parts}])[0]["content"] == text


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
        ([{"content": "Hi"}], "message 1: role None"),
        ([USER, MODEL, {"role": "user", "content": " \n"}], "message 3: the user says nothing"),
        ([{"role": "user", "content": []}], "the user says nothing"),
        ([{"role": "user", "content": {"text": "Hi"}}], "content must be text, got dict"),
        ([USER, {"role": "assistant"}], "message 2: content must be text, got NoneType"),
        ([USER, {"role": "user", "tool_calls": [1]}], "message 2: content must be text"),
        (
            [USER, MODEL, {"role": "user", "content": [{"type": "image", "url": "a.png"}]}],
            "message 3: a part of type image: this model reads text only",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], "must be text, got NoneType"),
        ([{"role": "user", "content": ["a", 1]}], "must be text, got int"),
        (called("{'n': 1}"), r"message 2: tool call 1: arguments are not JSON \(Expecting prop"),
        (called('"{}'), "tool call 1: arguments are not JSON"),
        (called("[1]"), "tool call 1: arguments must be an object, got list"),
        (called(3), "tool call 1: arguments must be an object, got int"),
        ([USER, {"role": "assistant", "tool_calls": {"name": "a"}}], "tool_calls: expected a list"),
        ([USER, {"role": "assistant", "tool_calls": ["call:clock{}"]}], "expected the name"),
        ([USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}], "expected the name"),
        ([USER, {"role": "assistant", "tool_calls": [{"function": {}}]}], "expected the name"),
    ],
)
def test_malformed_messages(tok, messages, error):
    for render in (checked, ChatTemplate(tok).render, ChatTemplate(tok, "").render):
        with pytest.raises(ValueError, match=error) as caught:
            render(messages)
        assert "\n" not in str(caught.value)
