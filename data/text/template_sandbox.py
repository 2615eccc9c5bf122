"""Compiles and runs chat templates in a sandbox, with what transformers gives to templates.

A template is a program that came with the weights. It sees only what it is given and a few
functions. jinja2 knows all of its statements but one: `{% generation %} ... {% endgeneration %}`
stands around what the model writes.

The sandbox bounds what a template sees, and not how much it computes. So chat_template.py calls
`run` in a helper process with limits (files/limited.py), in which no file can be opened any more.
"""

import datetime
import functools

# jinja2 and Python would import these when a template first needs them.
import html  # noqa: F401
import json
import pprint  # noqa: F401
import textwrap  # noqa: F401
import unicodedata  # noqa: F401
from collections.abc import Callable
from typing import Any, NoReturn

import jinja2
import jinja2.constants
import jinja2.debug
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from data.text.generation_blocks import END_NAME, START_NAME
from data.text.marked_text import mark, token_pattern, unmark
from files.limited_calls import one_line

# The longest text of a template, in characters, and how many more each character that it is given
# allows.
LONGEST, LONGER = 1_000_000, 4
LONGEST_ERROR = 500  # characters of what a template gives as the reason for an error


def run(
    name: str, source: str, tokens: tuple[str, ...], variables: dict[str, Any] | None = None
) -> str:
    """The text that a template writes.

    Args:
      name: the template's name in errors.
      source: the template's text.
      tokens: the special tokens that get marks wherever the template's own texts have them
        (marked_text.py).
      variables: what the template sees; None: it is only compiled.

    Returns:
      the text. Without variables: a text if the template has {% generation %} blocks, and "" if it
      has none.

    Raises:
      ValueError: the template cannot be compiled, fails, refuses the messages, or writes far more
        than it was given. The message begins with its name.
    """
    try:
        template, blocks = _compiled(source, tokens)
        if variables is None:
            return "blocks" if blocks else ""
    except jinja2.TemplateSyntaxError as error:
        why = " ".join(str(error.message).split())  # str(error) names the line again
        raise ValueError(f"{name}, line {error.lineno}: {why}") from None
    except MemoryError:
        raise
    except Exception as error:  # from Python, which compiles what jinja2 makes of the template
        raise ValueError(f"{name}: {one_line(error, LONGEST_ERROR)}") from None
    try:
        text = template.render(variables)
    except MemoryError:
        raise
    except Exception as error:  # a template is a program, so it can raise any error
        raise ValueError(f"{name}: {unmark(one_line(error, LONGEST_ERROR))}") from None
    given = len(repr(variables))
    if len(text) > LONGEST + LONGER * given:
        raise ValueError(f"{name}: it writes {len(text):,} characters, far more than it is given")
    return text


@functools.lru_cache(16)
def _compiled(source: str, tokens: tuple[str, ...]) -> tuple[jinja2.Template, bool]:
    pattern = token_pattern(tokens)
    return compile_template(source, lambda text: mark(text, pattern) if tokens else text)


def compile_template(source: str, write: Callable[[str], str]) -> tuple[jinja2.Template, bool]:
    """Compiles a template.

    Args:
      source: the template's text.
      write: is called with every text that the template itself contains, inside and outside of its
        expressions, and gives the text to use instead.

    Returns:
      (template, whether it has {% generation %} blocks).

    Raises:
      jinja2.TemplateSyntaxError: the source is not a template.
    """
    environment = _environment()
    tree = environment.parse(source)
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        word = {"FromImport": "from"}.get(type(node).__name__, type(node).__name__.lower())
        why = f"it uses {{% {word} %}}, but no other file is read: write that file's text here"
        raise jinja2.TemplateSyntaxError(why, node.lineno)
    blocks = False
    for node in tree.find_all((nodes.Const, nodes.TemplateData, nodes.Name)):
        if isinstance(node, nodes.Name):
            blocks = blocks or node.name == START_NAME
        elif isinstance(node, nodes.TemplateData):
            node.data = write(node.data)
        elif isinstance(node.value, str):
            node.value = write(node.value)
    return environment.from_string(tree), blocks


class _Generation(Extension):
    """The statement {% generation %}."""

    tags = frozenset({"generation"})

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        start, end = (
            nodes.Output([nodes.Name(name, "load", lineno=line)], lineno=line)
            for name in (START_NAME, END_NAME)
        )
        # A variable that is set inside the block is not seen outside of it, as in transformers.
        return [start, nodes.Scope(body, lineno=line), end]


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        # jinja2 itself would return an undefined value, and a template that only prints the value
        # would go on without an error.
        kind = type(obj).__name__
        raise SecurityError(f"the sandbox has no attribute {attribute!r} of {kind}")


def _environment() -> _Sandbox:
    """The environment that templates are written for, with transformers' settings and functions."""
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes <, > and & for HTML, and sorts the keys.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
