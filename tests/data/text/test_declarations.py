"""Declarations of tools in all forms, and those that are refused."""

import json
import re

import pytest

from data.text.declarations import read_tools

RAIN = {"name": "rain", "description": "mm"}


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "function", "function": RAIN | {"parameters": {"type": "object"}}}],
        [RAIN | {"input_schema": {"type": "object"}}],
        [{"type": "function", "function": RAIN | {"inputSchema": {"type": "object"}}}],
        [RAIN | {"parametersJsonSchema": {"type": "object"}}],
        [RAIN | {"parameters": json.dumps({"type": "object"})}],
        [{"type": "function", "function": json.dumps(RAIN | {"parameters": {"type": "object"}})}],
        [{"functionDeclarations": [RAIN | {"parameters": {"type": "object"}}]}],
    ],
)
def test_declarations_of_tools_in_all_forms(tools):
    expected = [{"type": "function", "function": RAIN | {"parameters": {"type": "object"}}}]
    assert read_tools({"tools": tools}) == expected
    assert read_tools({"functions": json.dumps(tools)}) == expected


@pytest.mark.parametrize("more", [{}, {"parameters": None}, {"parameters": {}}, {"strict": True}])
def test_a_tool_without_parameters(more):
    assert read_tools({"tools": [RAIN | more]})[0]["function"].items() >= RAIN.items()


SCHEMA = 'of \'rain\': expected parameters, a JSON schema {"type": "object", "properties": {...}}'


@pytest.mark.parametrize(
    ("tool", "error"),
    [
        ({"type": "web_search"}, "with a name, and a tool of type 'web_search' has none"),
        ({"type": "function", "function": {"description": "mm"}}, "of a function with a name"),
        ({}, "tools: expected the declaration of a function with a name"),
        (RAIN | {"parameters": {"x": {"type": "str"}}}, f"tools: parameters {SCHEMA}"),
        (RAIN | {"parameters": {"type": {"type": "str"}}}, f"parameters {SCHEMA}"),
        (RAIN | {"parameters": []}, f"parameters {SCHEMA}"),
        (RAIN | {"parameters": "x: int"}, "parameters: the text is not JSON"),
        (RAIN | {"input_schema": {"type": "string"}}, f"input_schema {SCHEMA}"),
        (RAIN | {"parameter_definitions": {}}, f"parameter_definitions {SCHEMA}"),
        (RAIN | {"arguments": {"x": "int"}}, f"arguments {SCHEMA}"),
    ],
)
def test_declarations_that_are_refused(tool, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        read_tools({"tools": [tool]})
