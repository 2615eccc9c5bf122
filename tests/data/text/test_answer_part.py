"""Training examples: the part of a conversation's text that is the prompt, and the answer."""

import re

import pytest

from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import AGAIN, CALL, MODEL, RESULT, TOOLS, USER
from tests.data.text.templates import DIFFUSION, DIFFUSION_TRAINING, RELEASE, TEMPLATE, TRAINING


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.load()


def example(tok, source, messages, tools=None):
    prompt, answer = ChatTemplate(tok, source, "template").example(messages, tools)
    return prompt.text, answer.text


EMPTY = "<|channel>thought\n<channel|>"
ASKED = "<bos><|turn>user\n2 + 2?<turn|>\n<|turn>model\n"
THINK = "<bos><|turn>system\n<|think|>\n<turn|>\n" + ASKED.removeprefix("<bos>")
REASONED = {**MODEL, "reasoning_content": "easy"}
DECLARED = ASKED.replace(
    "<bos>",
    '<bos><|turn>system\n<|tool>declaration:clock{description:<|"|>Zeit für <b><|"|>}<tool|>'
    "<turn|>\n",
)
CALLED = "<|tool_call>call:clock{n:1}<tool_call|>"
NOON = '<|tool_response>response:clock{value:<|"|>noon<|"|>}<tool_response|>'
LOOK = {**CALL, "content": "I look."}
THOUGHT = "<|channel>thought\neasy\n<channel|>"


@pytest.mark.parametrize("source", [TEMPLATE, RELEASE, DIFFUSION, TRAINING, DIFFUSION_TRAINING])
@pytest.mark.parametrize(
    ("messages", "tools", "prompt", "answer"),
    [
        ([USER, MODEL], None, ASKED, "4<turn|>"),
        ([USER, REASONED], None, THINK, f"{THOUGHT}4<turn|>"),
        (
            [USER, MODEL, AGAIN, {**MODEL, "content": " Yes.\n\nQuite. "}],
            None,
            f"{ASKED}4<turn|>\n<|turn>user\nSure?<turn|>\n<|turn>model\n",
            "Yes.\n\nQuite.<turn|>",
        ),
        # Calls without results end in <|tool_response>, with and without text.
        ([USER, CALL], TOOLS, DECLARED, f"{CALLED}<|tool_response>"),
        ([USER, LOOK], None, ASKED, f"{CALLED}I look.<|tool_response>"),
        (
            [USER, {**LOOK, "reasoning": "easy"}],
            None,
            THINK,
            f"{THOUGHT}{CALLED}I look.<|tool_response>",
        ),
        ([USER, CALL, RESULT, MODEL], None, ASKED + CALLED + NOON, "4<turn|>"),
        (
            [USER, CALL, RESULT, LOOK],
            None,
            ASKED + CALLED + NOON,
            f"{CALLED}I look.<|tool_response>",
        ),
        # A prompt after a result ends the turn that the answer goes on with.
        (
            [USER, LOOK, RESULT, MODEL],
            None,
            f"{ASKED}{CALLED}{NOON}I look.<turn|>\n",
            "4<turn|>",
        ),
        # A prompt that asks for thoughts after a result begins with one.
        (
            [USER, CALL, RESULT, REASONED],
            None,
            f"{THINK}{CALLED}{NOON}<|channel>thought\n",
            "easy\n<channel|>4<turn|>",
        ),
        (
            [USER, LOOK, RESULT, REASONED],
            None,
            f"{THINK}{CALLED}{NOON}I look.<turn|>\n<|channel>thought\n",
            "easy\n<channel|>4<turn|>",
        ),
    ],
)
def test_a_training_example(tok, source, messages, tools, prompt, answer):
    thinking = "<|think|>" in prompt
    if source == RELEASE and not thinking and prompt.endswith("<|turn>model\n"):
        prompt += EMPTY
    assert example(tok, source, messages, tools) == (prompt, answer)
    template = ChatTemplate(tok, source)
    assert template.render(messages[:-1], tools=tools, thinking=thinking).text == prompt


def test_a_template_without_thoughts_gets_them_in_its_example(tok):
    source = TEMPLATE.replace("thoughts and", "false and")
    assert example(tok, source, [USER, REASONED]) == (THINK, f"{THOUGHT}4<turn|>")
    prompt, answer = example(tok, source, [USER, CALL, RESULT, REASONED])
    assert prompt.endswith(f"{NOON}<|channel>thought\n")
    assert answer == "easy\n<channel|>4<turn|>"


def test_a_template_that_writes_thoughts_in_its_own_way(tok):
    source = TEMPLATE.replace(
        "'<|channel>thought\\n' + thoughts + '\\n", "'<|channel>thought\\n' + thoughts | upper + '"
    )
    assert example(tok, source, [USER, REASONED])[1] == "<|channel>thought\nEASY<channel|>4<turn|>"


@pytest.mark.parametrize(
    ("source", "message", "error"),
    [
        # The prompt says more than the beginning of the conversation, less, or something else.
        (TEMPLATE + "{% if add_generation_prompt %}Well: {% endif %}", MODEL, "not how the conv"),
        (
            "{{ messages | length }}<|turn>model\n{{ messages[-1].content }}<turn|>",
            MODEL,
            "not how",
        ),
        (RELEASE.replace("thought\\n<", "musing\\n<"), MODEL, "not how the conversation"),
        (TEMPLATE.replace("<turn|>", ""), MODEL, "does not end the answer with <turn|>"),
        (TEMPLATE.replace("message.content", "''"), MODEL, "writes nothing"),
        (TEMPLATE + "{% if not add_generation_prompt %}Bye{% endif %}", MODEL, "text after the"),
        (TEMPLATE, {**MODEL, "reasoning": {"a": 1}}, "thoughts must be text"),
        (TRAINING.replace("<turn|>", ""), MODEL, "does not end the answer with <turn|>"),
        (TRAINING.replace("message.content", "''"), MODEL, "writes nothing"),
        (TRAINING + "{% if not add_generation_prompt %}Bye{% endif %}", MODEL, "text after the"),
        (TEMPLATE + "{% generation %}{% endgeneration %}", MODEL, "does not end the answer"),
        (TEMPLATE + "{% if 0 %}{% generation %}{% endgeneration %}{% endif %}", MODEL, "no {% gen"),
    ],
)
def test_an_example_that_is_none(tok, source, message, error):
    with pytest.raises(ValueError, match=re.escape(error)) as caught:
        example(tok, source, [USER, message])
    assert "\n" not in str(caught.value)


BLOCKS = """\
{{- bos_token }}{% for message in messages %}{{ '<|turn>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' -%}
        ANSWER
    {%- else -%}
        {{ message.content + '<turn|>\\n' }}
    {%- endif -%}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|turn>assistant\\n' }}{% endif -%}
"""
HEAD = "<bos><|turn>user\n2 + 2?<turn|>\n<|turn>assistant\n"


@pytest.mark.parametrize(
    ("answer", "prompt", "learned"),
    [
        # The block holds the end of the turn, or the end follows it.
        ("{% generation %}{{ message.content }}<turn|>{% endgeneration %}", HEAD, "4<turn|>"),
        ("{% generation %}{{ message.content }}{% endgeneration %}<turn|>", HEAD, "4<turn|>"),
        ("{% generation %}4{% endgeneration %}{{ '\n' }}<turn|>\n<eos>", HEAD, "4\n<turn|>"),
        # What stands before the block in the model's turn belongs to the prompt.
        ("So: {% generation %}4<turn|>{% endgeneration %}", f"{HEAD}So: ", "4<turn|>"),
        # Blocks with white space between them are one. Text between them divides them.
        (
            "{% generation %}a{% endgeneration %} {% generation %}4<turn|>{% endgeneration %}",
            HEAD,
            "a 4<turn|>",
        ),
        (
            "{% generation %}a{% endgeneration %} tool {% generation %}4<turn|>{% endgeneration %}",
            f"{HEAD}a tool ",
            "4<turn|>",
        ),
        # A block within a block.
        (
            "{% generation %}a{% generation %}b{% endgeneration %}4<turn|>{% endgeneration %}",
            HEAD,
            "ab4<turn|>",
        ),
    ],
)
def test_generation_blocks_say_what_is_learned(tok, answer, prompt, learned):
    source = BLOCKS.replace("ANSWER", answer)
    assert example(tok, source, [USER, MODEL]) == (prompt, learned)
    # The blocks of earlier turns do not count.
    longer = [USER, MODEL, AGAIN, MODEL]
    assert example(tok, source, longer)[1] == learned


def test_a_last_message_outside_of_blocks_is_named(tok):
    first = "{% if loop.index < 3 %}{% generation %}4<turn|>{% endgeneration %}"
    source = BLOCKS.replace("ANSWER", first + "{% else %}5<turn|>{% endif %}")
    with pytest.raises(ValueError, match=r"^template: it writes text after the end of the answer"):
        example(tok, source, [USER, MODEL, AGAIN, MODEL])


def test_results_inside_the_last_message_are_not_learned(tok):
    from_tool = {**LOOK, "tool_responses": [{"value": "noon"}]}
    source = "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }} {{ m.content }}"
    source += "{{ '<|tool_response>noon<tool_response|>4' if m.tool_responses }}<turn|>{% endfor %}"
    source += "{{ '<|turn>assistant ' if add_generation_prompt }}"
    with pytest.raises(ValueError, match="text after the end of the answer"):
        example(tok, source, [USER, from_tool])  # this tokenizer has no <tool_response|>
