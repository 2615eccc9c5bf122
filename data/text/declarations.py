"""Declarations of tools as OpenAI, Anthropic, MCP and Google write them, brought to one form."""

from typing import Any

from data.text.messages import from_text

# The parameters of a tool, as Anthropic, MCP and Google call them; ours is the first.
PARAMETERS = (
    *("parameters", "input_schema", "inputSchema"),
    *("parametersJsonSchema", "parameters_json_schema"),
)


def read_tools(given: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The declarations of tools in a record, or None.

    Args:
      given: the record. Its "tools" or "functions" is a list, or the JSON text of one.

    Returns:
      each as {"type": "function", "function": {"name", "parameters", ...}}, beside its other
      fields.

    Raises:
      ValueError: there are both fields; or a declaration has no name, or parameters that are no
        JSON schema of type object.
    """
    if given.get("tools") and given.get("functions"):
        raise ValueError("both tools and functions: keep one")
    name = "functions" if given.get("functions") else "tools"
    tools = from_text(given.get(name), name)
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    ):
        raise ValueError(f"{name}: expected a list of objects")
    try:
        return tools and [declared for tool in tools for declared in _declarations(tool)]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _declarations(tool: dict[str, Any]) -> list[dict[str, Any]]:
    """The declarations in an element of "tools", in the form that the released template reads."""
    for name in ("functionDeclarations", "function_declarations"):  # Gemini's lists of tools
        if isinstance(tool.get(name), list) and all(isinstance(t, dict) for t in tool[name]):
            return [declared for inner in tool[name] for declared in _declarations(inner)]
    if "function" not in tool and "name" in tool:
        tool = {"type": "function", "function": tool}
    function = from_text(tool.get("function"), "function")
    called = function.get("name") if isinstance(function, dict) else None
    if not isinstance(called, str) or not called:
        kind = tool.get("type", "function")
        more = "" if kind == "function" else f", and a tool of type {kind!r} has none"
        raise ValueError(f"expected the declaration of a function with a name{more}")
    names = [name for name in PARAMETERS if function.get(name) is not None]
    rest = {key: value for key, value in function.items() if key not in names}
    given = from_text(function[names[0]], "parameters") if names else None
    is_schema = isinstance(given, dict) and (
        str(given.get("type", "object")).lower() == "object"
        and isinstance(given.get("properties", {}), dict)
        and bool(given.keys() & {"type", "properties"} or not given)
    )
    unread = {"arguments", "args", "input", "parameter_definitions"} & rest.keys()
    if unread or len(names) > 1 or (names and not is_schema):
        raise ValueError(
            f"{', '.join(sorted(unread)) or names[-1]} of {called!r}: expected parameters, a JSON "
            'schema {"type": "object", "properties": {...}}'
        )
    if names:
        rest["parameters"] = given
    return [tool | {"function": rest}]
