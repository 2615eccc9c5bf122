"""The sandbox of chat templates: what they may use, and what they may not."""

import datetime
import re

import pytest
from jinja2.defaults import DEFAULT_FILTERS
from jinja2.tests import TESTS as DEFAULT_TESTS

from data.text.chat_template import ChatTemplate
from data.text.generation_blocks import END_NAME, START_NAME
from data.text.template_sandbox import compile_template, run
from data.text.tokenizer import Tokenizer
from files.limited import LimitError, limited
from tests.data.text.messages import MODEL, SYSTEM, TOOLS, USER


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.load()


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__ }}",  # prints nothing in a plain sandbox
        "{{ ''['__class__'] }}",
        "{{ '' | attr('__class__') }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_the_sandbox_holds(tok, source):
    template = ChatTemplate(tok, source, "dir/chat_template.jinja")
    with pytest.raises(ValueError, match=r"^dir/chat_template\.jinja: .+$") as caught:
        template.render([USER])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{{ nothing.at_all }}", "'nothing' is undefined"),
        ("{{ messages[0].missing.part }}", "no attribute 'missing'"),
        ("{{ nothing() }}", "'nothing' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ raise_exception('roles\\nmust alternate') }}", "roles must alternate"),
    ],
)
def test_a_template_that_fails_is_one_line(tok, source, error):
    with pytest.raises(ValueError, match=rf"^template: .*{error}"):
        ChatTemplate(tok, source, "template").render([USER])


def test_a_syntax_error_is_named_when_loading(tok, tmp_path):
    file = tmp_path / "chat_template.jinja"
    file.write_text("fine\n{% if %}")
    with pytest.raises(ValueError, match=re.escape(f"{file}, line 2: Expected an expression")):
        ChatTemplate.load(tmp_path, tok)


def test_what_templates_may_use(tok):
    def render(source):
        return ChatTemplate(tok, source).render([USER], tools=TOOLS).text

    assert render("{{ {'b': '<', 'a': 1} | tojson }}") == '{"b": "<", "a": 1}'
    assert render("{{ [1] | tojson(indent=1) }}") == "[\n 1\n]"
    assert render("  {% if true %}\nx\n  {% endif %}\ny\n") == "x\ny"
    loop = "{% for i in 'ab' %}{% if i == 'a' %}{% continue %}{% endif %}{{ i }}{% endfor %}"
    assert render(loop) == "b"
    assert render("{{ eos_token }}{{ undefined_thing }}") == "<eos>"
    year = datetime.date.today().year
    assert render("{{ strftime_now('%Y') }}") in {str(year), str(year + 1)}


def test_generation_blocks_change_nothing_in_a_prompt(tok):
    source = """\
{%- macro said(text) -%}{% generation %}{{ text }}{% endgeneration %}{%- endmacro -%}
{%- set inside = 'out' -%}
{%- for message in messages -%}
    {%- generation -%}
        {%- set inside = message.content -%} {{ inside }}
    {%- endgeneration %}
    {{- inside }}{% set all %}{{ said('') }}{% endset %}{{ all | length }}
{%- endfor -%}
"""
    assert ChatTemplate(tok, source).render([USER, MODEL, USER]).text == "2 + 2?out04out02 + 2?out0"
    template, blocks = compile_template(source, str)
    assert blocks and not compile_template("{{ messages }}", str)[1]
    marked = template.render(messages=[MODEL], **{START_NAME: "[", END_NAME: "]"})
    assert marked == "[4]out2"


@pytest.mark.parametrize(
    "statement", ["include 'a'", "import 'a' as b", "from 'a' import b", "extends 'a'"]
)
def test_no_other_file_is_read(tok, statement):
    word = statement.split()[0]
    error = rf"^t, line 2: it uses {{% {word} %}}, but .* write that file's text here$"
    with pytest.raises(ValueError, match=error):
        ChatTemplate(tok, f"a\n{{% {statement} %}}", "t")


def test_a_block_that_is_not_closed_is_named(tok):
    with pytest.raises(ValueError, match=r"^t, line 2: .*endgeneration"):
        ChatTemplate(tok, "a\n{% generation %}b", "t")


def test_the_texts_of_a_template_can_be_replaced():
    source = "a{{ 'a' ~ x }}{% if x == 'a' %}{{ {'a': 1} }}{% endif %}{# a #}"
    template, _ = compile_template(source, lambda text: text.replace("a", "b"))
    assert template.render(x="a") == "bba"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{{ 9**(9**9) }}", "it takes too much time: use another template"),
        ("{{ '%02000000000d' % 1 }}", "it needs too much memory: use another template"),
        ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", "it is nested too deeply"),
        ("".join(f"{{% for a{i} in [1] %}}" for i in range(25)), "Unexpected end of template"),
    ],
)
def test_a_template_that_takes_too_much_is_refused_when_it_is_loaded(tok, tmp_path, source, error):
    file = tmp_path / "chat_template.jinja"
    file.write_text(source)
    with pytest.raises(ValueError, match=rf"^{file}(, line 1)?: .*{re.escape(error)}") as caught:
        ChatTemplate.load(tmp_path, tok)
    assert "\n" not in str(caught.value)


def test_texts_of_megabytes_are_the_users_alone(tok):
    with pytest.raises(ValueError, match=r"^t: it writes 10,000,000 characters, far more than it"):
        ChatTemplate(tok, "{{ 'a' * 10**7 }}", "t").render([USER])
    text = "a" * 2_000_000
    template = ChatTemplate(tok, "{{ messages[0].content }}", "t")
    assert template.render([{"role": "user", "content": text}]).text == text


def test_a_reason_of_a_megabyte_is_cut_off(tok):
    with pytest.raises(ValueError, match=f"^t: {'a' * 500} \\.\\.\\.$"):
        ChatTemplate(tok, "{{ raise_exception('a' * 10**6) }}", "t").render([USER])


def test_a_template_may_take_too_much_for_some_messages_alone(tok):
    source = "{{ messages[0].content }}{% if messages | length == 2 %}{{ 'a' * 10**10 }}{% endif %}"
    template = ChatTemplate(tok, source, "t")
    with pytest.raises(LimitError, match=r"^t: it needs too much memory"):
        template.render([SYSTEM, USER])
    assert template.render([USER]).text == "2 + 2?"


def test_the_helper_writes_what_the_sandbox_writes():
    """What jinja2 would import when a template first needs it is there: no file can be opened."""
    given = {"batch": "(2)", "join": "('-')", "groupby": "('a')", "round": "(1)", "slice": "(2)"}
    given |= {"truncate": "(5)", "wordwrap": "(4)", "replace": "('a', 'b')", "attr": "('a')"}
    given |= {"map": "('string')", "select": "('string')", "reject": "('string')"}
    given |= {"selectattr": "('a')", "rejectattr": "('a')", "default": "(1)", "center": "(9)"}
    values = ("'ab http://c.org <b>é</b>'", "[3, 1]", "{'a': 1}")
    used = [
        f"{value} | {name}{given.get(name, '')}" for name in DEFAULT_FILTERS for value in values
    ]
    used += [f"{value} is {name}" for name in DEFAULT_TESTS for value in values]
    used += [r"'\N{BULLET}\x41'", "'é'.encode()", "'{:,.2f}'.format(3)", "'%s' % 1", "dict(a=1)"]
    used += ["lipsum(html=false) is string", "cycler(1, 2).next()", "strftime_now('%Y %B %Z')"]
    helper, count = limited("data.text.template_sandbox:run"), 0

    def tried(call, source):
        try:
            text = call(source)
        except ValueError as error:
            text = str(error)
        return re.sub("0x[0-9a-f]+", "", text)  # where an object lies

    for each in used:
        source = f"{{{{ {each} }}}}"
        here = tried(lambda source: run("t", source, (), {"messages": []}), source)
        there = tried(lambda source: helper("t", source, (), data=({"messages": []},)), source)
        if "random" not in each:
            assert here == there, each
            count += 1
    assert count > 200
