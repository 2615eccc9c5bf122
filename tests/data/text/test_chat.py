"""The turn format, and the parts of a model's turn."""

import json

import pytest

from data.text.chat import ModelTurn, split_turn, turns
from data.text.chat_template import ChatTemplate
from data.text.messages import checked
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import (
    AGAIN,
    CALL,
    MODEL,
    RESULT,
    SYSTEM,
    TOOLS,
    USER,
    chat_answer,
    chat_prompt,
)


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.load()


# Messages, options, and the text in the turn format that is documented for Gemma 4.
BUILT_IN = [
    (
        [USER],
        {},
        "<bos><|turn>user\n2 + 2?<turn|>\n<|turn>model\n",
    ),
    (
        [SYSTEM, USER],
        {},
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\n2 + 2?<turn|>\n<|turn>model\n",
    ),
    (
        [SYSTEM, USER],
        {"thinking": True},
        "<bos><|turn>system\n<|think|>\nBe brief.<turn|>\n<|turn>user\n2 + 2?<turn|>\n"
        "<|turn>model\n",
    ),
    (
        [USER],
        {"thinking": True},
        "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\n2 + 2?<turn|>\n<|turn>model\n",
    ),
    (
        [SYSTEM, USER, MODEL, AGAIN],
        {},
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\n2 + 2?<turn|>\n"
        "<|turn>model\n4<turn|>\n<|turn>user\nSure?<turn|>\n<|turn>model\n",
    ),
    (
        [USER, {"role": "model", "content": "4"}],
        {"generation": False},
        "<bos><|turn>user\n2 + 2?<turn|>\n<|turn>model\n4<turn|>\n",
    ),
]


@pytest.mark.parametrize(("messages", "options", "expected"), BUILT_IN)
def test_turn_format(tok, messages, options, expected):
    before = json.dumps(messages)
    assert ChatTemplate(tok).render(messages, **options) == expected
    assert json.dumps(messages) == before


def test_the_turn_format_is_what_training_writes(tok):
    template = ChatTemplate(tok)
    prompt, answer = template.example([SYSTEM, USER, MODEL])
    assert prompt == template.render([SYSTEM, USER])
    assert prompt == chat_prompt(USER["content"], SYSTEM["content"])
    assert answer == chat_answer(MODEL["content"])
    prompt, answer = template.example([USER, MODEL, AGAIN, MODEL | {"reasoning": "two and two"}])
    assert prompt == template.render([USER, MODEL, AGAIN], thinking=True)
    assert answer == f"<|channel>thought\ntwo and two\n<channel|>{chat_answer('4')}"
    thoughts, text, _ = split_turn(answer)
    assert (thoughts, text) == ("two and two", "4")


@pytest.mark.parametrize(
    ("messages", "tools", "error"),
    [
        ([USER, SYSTEM], None, "system message must be the first"),
        ([USER, MODEL], None, "two turns of the model in a row: the last"),
        ([USER, MODEL, MODEL, AGAIN], None, "two turns of the model in a row"),
        ([USER], TOOLS, r"tools need a chat_template\.jinja"),
        ([USER, CALL, RESULT], None, r"tools need a chat_template\.jinja"),
        ([RESULT], None, r"tools need a chat_template\.jinja"),
    ],
)
def test_what_the_turn_format_lacks(tok, messages, tools, error):
    with pytest.raises(ValueError, match=error):
        ChatTemplate(tok).render(messages, tools=tools)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 3 4", ModelTurn("", "5 3 4", ())),
        (" 5\n<turn|>\n<eos><eos>", ModelTurn("", " 5\n", ())),
        ("5<eos>6<turn|>", ModelTurn("", "5", ())),
        (
            "<|channel>thought\nTwo and two.\nFour.\n<channel|>It is 4.<turn|>",
            ModelTurn("Two and two.\nFour.", "It is 4.", ()),
        ),
        ("<|channel>thought\n<channel|>4<turn|>", ModelTurn("", "4", ())),
        ("<|channel>thought\nstill going", ModelTurn("still going", "", ())),
        ("<|channel>thoughtful<channel|>4", ModelTurn("thoughtful", "4", ())),
        (
            "<|channel>thought\na<channel|>4 <|channel>thought\nb<channel|>or 5",
            ModelTurn("a\nb", "4 or 5", ()),
        ),
        (
            '<|channel>thought\nAsk.<channel|>Wait.<|tool_call>call:clock{n:<|"|>1<|"|>}<tool_call|>'
            "<|tool_call>call:rain{}<tool_call|><|tool_response>response:clock{}",
            ModelTurn("Ask.", "Wait.", ('call:clock{n:<|"|>1<|"|>}', "call:rain{}")),
        ),
        ("<|channel>thought\na<|tool_call>call:x{", ModelTurn("a", "", ("call:x{",))),
        ("4<channel|> or 5<tool_call|>", ModelTurn("", "4 or 5", ())),
        ("", ModelTurn("", "", ())),
    ],
)
def test_split_turn(text, expected):
    assert split_turn(text) == expected


def test_an_answer_goes_through_tokens_and_back_into_the_chat(tok):
    ids = tok.encode(f"<|channel>thought\nadd<channel|>{chat_answer('4')}<eos><eos>")
    answer = split_turn(tok.decode(ids, skip_special=False)).answer
    text = turns(checked([USER, {"role": "model", "content": answer}, AGAIN]))
    assert text == BUILT_IN[4][2].replace("<|turn>system\nBe brief.<turn|>\n", "")
