"""JSON schemas as regular expressions; the texts that match are accepted by jsonschema."""

import json
import re

import jsonschema
import numpy as np
import pytest

from data.text.byte_automaton import compile_regex
from data.text.json_schema import schema_regex
from tests.data.text.test_byte_automaton import accepts
from tests.sample.obeying import random_schema


def random_text(expression: str, rng: np.random.Generator) -> str:
    """A random text that the expression accepts."""
    automaton, state, text = compile_regex(expression), 0, bytearray()
    while not automaton.accepting[state] or rng.random() < 0.8:
        allowed = np.flatnonzero(automaton.next[state] >= 0)
        if not allowed.size:
            break
        byte = int(rng.choice(allowed))
        text.append(byte)
        state = automaton.next[state, byte]
    return text.decode()


def test_random_texts_of_200_random_schemas_are_accepted():
    rng = np.random.default_rng(0)
    for _ in range(200):
        schema = random_schema(rng)
        jsonschema.Draft202012Validator.check_schema(schema)
        text = random_text(schema_regex(schema), rng)
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0), (3, 3), (0, 9), (7, 12), (95, 1203), (-25, 103), (-130, -9), (-5, 0)]
)
@pytest.mark.parametrize("open_end", ["", "low", "high"])
def test_integers_are_those_between_the_limits(low, high, open_end):
    schema = {"type": "integer"}
    schema |= {} if open_end == "low" else {"minimum": low}
    schema |= {} if open_end == "high" else {"exclusiveMaximum": high + 1}
    found = re.compile(schema_regex(schema))
    for number in range(-1300, 1301):
        inside = (low <= number or open_end == "low") and (number <= high or open_end == "high")
        assert bool(found.fullmatch(str(number))) == inside, number
    assert not found.fullmatch("-0") and not found.fullmatch("01")


A = {"type": "null"}


@pytest.mark.parametrize(
    ("schema", "texts", "others"),
    [
        ({"type": "string"}, ['""', '"é\\n"'], ['"\n"', '"\\x"', 'a"']),
        (
            {"type": "string", "minLength": 2, "maxLength": 3},
            ['"a\\""', '"ééé"'],
            ['"a"', '"aaaa"'],
        ),
        ({"type": "string", "pattern": "^\\d[\\w-]$"}, ['"1-"'], ['"٣-"', '"1"']),
        ({"type": ["integer", "null"]}, ["null", "-7"], ["1.5", ""]),
        ({"type": "number"}, ["-0.5e+10", "12"], ["1.", ".5", "+1"]),
        ({"enum": ['a"(', 1.5, [1, {}]]}, ['"a\\"("', "1.5", "[1, {}]"], ["1x5"]),
        ({"const": {"é": None}, "title": "x"}, ['{"é": null}'], []),
        ({"type": "array", "items": A}, ["[]", "[ null, null ]"], ["[null,]", "[null null]"]),
        ({"type": "array", "items": A, "minItems": 2, "maxItems": 2}, ["[null,null]"], ["[null]"]),
        ({"type": "array", "items": A, "maxItems": 0}, ["[]"], ["[null]"]),
        (
            {"type": "object", "properties": {"a": A, "b.": A, "c": A}, "required": ["b."]},
            ['{"b.":null}', '{"a":null, "b.":null,"c" : null }'],
            ["{}", '{"bx":null}', '{"b.":null,}', '{,"b.":null}', '{"a":null "b.":null}'],
        ),
        (
            {"type": "object", "properties": {"a": A, "b": A}},
            ["{}", '{"a":null}', '{"b":null}', '{"a":null,"b":null}'],
            ['{"b":null,"a":null}', '{"a":null,}', '{,"b":null}'],
        ),
        ({"type": "object", "properties": {}}, ["{}"], ["{a}"]),
        (
            {"$defs": {"x/y": {"anyOf": [A, {"type": "boolean"}]}}, "$ref": "#/$defs/x~1y"},
            ["null", "true"],
            ["1"],
        ),
    ],
)
def test_forms(schema, texts, others):
    automaton = compile_regex(schema_regex(schema))
    for text in texts:
        assert accepts(automaton, text), text
        jsonschema.validate(json.loads(text), schema)
    assert not [text for text in others if accepts(automaton, text)]


LOOP = {"type": "array", "items": {"$ref": "#/$defs/n"}}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ([], "a schema is a JSON object"),
        ({}, "schema: a type is needed"),
        ({"type": "text"}, 'schema: there is no type "text"'),
        ({"type": "array"}, "an array needs items"),
        ({"type": "array", "items": True}, "schema.items: expected an object with a type"),
        ({"type": "object"}, "an object needs properties"),
        ({"$ref": "#"}, "recursive"),
        ({"$ref": "#/$defs/n", "$defs": {"n": LOOP}}, "#/$defs/n leads to itself: a recursive"),
        ({"$ref": "other.json"}, "is not in this schema"),
        ({"$ref": "#/$defs/n"}, "there is no #/$defs/n"),
        ({"type": "number", "minimum": 1}, "minimum cannot be kept"),
        ({"type": "string", "format": "date"}, "format cannot be kept: write a pattern"),
        ({"oneOf": [A]}, "oneOf cannot be kept: write anyOf"),
        ({"allOf": [A]}, "allOf cannot be kept"),
        ({"type": "array", "items": A, "uniqueItems": True}, "uniqueItems cannot be kept"),
        ({"type": "array", "items": A, "prefixItems": [A]}, "prefixItems cannot be kept"),
        ({"anyOf": [A], "type": "null"}, "type beside anyOf cannot be kept"),
        ({"anyOf": []}, "expected a list of schemas"),
        ({"enum": []}, "enum: expected a list of values"),
        ({"enum": [1], "type": "string"}, "enum has 1, which is no string"),
        ({"enum": [1], "minimum": 3}, "minimum beside enum cannot be kept"),
        ({"const": "\ud800"}, "cannot be written"),
        ({"const": float("nan")}, "cannot be written"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no integer is from 5 to 4"),
        ({"type": "integer", "minimum": "5"}, "minimum: expected an integer"),
        ({"type": "string", "minLength": -1}, "minLength: expected a number of 0 or more"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength is above maxLength"),
        ({"type": "string", "pattern": "a", "minLength": 2}, "pattern beside"),
        ({"type": "string", "pattern": ".*"}, "may have a quote"),
        ({"type": "string", "pattern": "(a)\\1"}, "back-references"),
        ({"type": "object", "properties": {"a": A}, "required": ["b"]}, '"b" is required, but'),
        ({"type": "object", "properties": {"a": A}, "required": [[]]}, "is required, but is no"),
        (
            {"type": "object", "properties": {"a": {"type": "x"}}},
            'schema.properties.a: there is no type "x"',
        ),
        ({"type": "object", "properties": {}, "additionalProperties": A}, "additionalProperties"),
    ],
)
def test_what_is_refused_is_said_in_one_line(schema, why):
    with pytest.raises(ValueError, match=re.escape(why)) as error:
        schema_regex(schema)
    assert "\n" not in str(error.value)


def test_schemas_that_grow_or_go_deep_are_refused():
    twice = {f"n{i}": {"anyOf": [{"$ref": f"#/$defs/n{i + 1}"}] * 2} for i in range(40)}
    with pytest.raises(ValueError, match="too large"):
        schema_regex({"$ref": "#/$defs/n0", "$defs": twice | {"n40": {"enum": ["a" * 99]}}})
    deep = A
    for _ in range(2000):
        deep = {"anyOf": [deep]}
    with pytest.raises(ValueError, match="too many parts within parts"):
        schema_regex(deep)
