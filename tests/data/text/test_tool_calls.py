"""Tool calls: what a template writes is parsed again, and what is no call stays as it is."""

import json
import random

import pytest

from data.text.chat import split_turn
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from data.text.tool_calls import parse_call
from tests.data.text.messages import USER
from tests.data.text.templates import TEMPLATE, TRAINING

LETTERS = "aZ_-. \n\t\"'{}[]:,<>|\\/é中☃0"


def text(rng, letters=LETTERS):
    return "".join(rng.choices(letters, k=rng.randrange(6)))


def value(rng, depth):
    kinds = [
        lambda: text(rng),
        lambda: rng.choice(["true", "null", "12", "1e5", "[", ""]),
        lambda: rng.randrange(-(10**20), 10**20),
        lambda: rng.choice([0, -1, 0.5, -2.75, 1e-7, 1e22, 3.0]),
        lambda: rng.choice([True, False, None]),
    ]
    if depth:
        kinds += [lambda: arguments(rng, depth - 1)] * 2
        kinds += [lambda: [value(rng, depth - 1) for _ in range(rng.randrange(4))]] * 2
    return rng.choice(kinds)()


def arguments(rng, depth=3):
    # Keys stand without quotes, so they cannot hold all characters.
    return {text(rng, "abcXYZ_-. é").strip(): value(rng, depth) for _ in range(rng.randrange(4))}


@pytest.mark.parametrize("source", [TEMPLATE, TRAINING])
def test_what_a_template_writes_is_parsed_again(source):
    template, rng = ChatTemplate(Tokenizer.load(), source), random.Random(0)
    for _ in range(60):
        calls = [
            {"type": "function", "function": {"name": name, "arguments": arguments(rng)}}
            for name in ("clock", "a.b-c:d/e")[: rng.randrange(1, 3)]
        ]
        message = {"role": "assistant", "content": rng.choice(["", "I look."]), "tool_calls": calls}
        _, answer = template.example([USER, message])
        turn = split_turn(answer.text)
        records = [call.record() for call in turn.tool_calls]
        assert records == calls and turn.answer == message["content"]
        # A parsed call can be asked again, and is JSON.
        again = {"role": "assistant", "content": turn.answer, "tool_calls": records}
        assert template.example([USER, json.loads(json.dumps(again))])[1] == answer


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("call:f{}", {}),
        ("call:f{n:1,b:true,c:false,x:null,y:None}", dict(n=1, b=True, c=False, x=None, y=None)),
        ('call:f{s:<|"|>a,}"b<|"|>,e:<|"|><|"|>}', {"s": 'a,}"b', "e": ""}),
        ("call:f{a:[1,[],{b:[2.5]}],c:{}}", {"a": [1, [], {"b": [2.5]}], "c": {}}),
        # White space, quoted keys, and texts as in JSON.
        (' call: f { a : 1 , b:\n[ 1 , "x\\n" ] } ', {"a": 1, "b": [1, "x\n"]}),
        ('call:f{<|"|>a b<|"|>:1,c d:2}', {"a b": 1, "c d": 2}),
        ("call:f{'c':1, 'd e' : 'x'}", {"c": 1, "d e": "x"}),
        ('call:f{"c":"x", "d\\"": {"e f": 1}}', {"c": "x", 'd"': {"e f": 1}}),
    ],
)
def test_arguments(call, expected):
    found = parse_call(call)
    assert found.record() == {"type": "function", "function": {"name": "f", "arguments": expected}}
    assert (found.text, found.problem) == (call, "")


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("", "it does not begin with call: and a name"),
        ('{"name": "f"}', "it does not begin with call: and a name"),
        ("call:{}", "it does not begin with call: and a name"),
        ("call:f", "it ends before a {"),
        ("call:f(a:1)", "it ends before a {"),
        ("call:f{", "it ends before a :"),
        ("call:f{a", "it ends before a :"),
        ("call:f{a:", "a value is missing"),
        ("call:f{a:1", "it ends before a ,"),
        ("call:f{a:1,}", "expected : but found '}'"),
        ("call:f{a:1}b", "text follows its arguments"),
        ("call:f{a:1,a:2}", "the key 'a' is there twice"),
        ("call:f{a:Tokyo}", "'Tokyo' is no value"),
        ("call:f{a:007}", "'007' is no value"),
        ("call:f{a:1e999}", "'1e999' is no value"),
        ("call:f{a:inf}", "'inf' is no value"),
        ('call:f{a:<|"|>b}', "a text has no end"),
        ('call:f{a:"b}', "Unterminated string"),
        ("call:f{a:" + "[" * 100_000, "nested too deeply"),
        ("call:f{a:" + "1" * 5000 + "}", "a number has too many digits"),
    ],
)
def test_what_is_no_call_stays_as_it_is(call, problem):
    found = parse_call(call)
    assert found.function is None and problem in found.problem
    assert found.record() == {"text": call, "problem": found.problem}
    turn = split_turn(f"Hm.<|tool_call>{call}<tool_call|><|tool_response>")
    assert turn.answer == "Hm." and turn.tool_calls == (found,)
