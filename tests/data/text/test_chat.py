"""The turn format, and the parts of a model's turn."""

import json

import pytest

from data.text.chat import ModelTurn, answer_text, split_turn, turns
from data.text.chat_template import ChatTemplate
from data.text.marked_text import unmark
from data.text.messages import checked
from data.text.tokenizer import Tokenizer
from data.text.tool_calls import ToolCall, parse_call
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

CLOCK = ToolCall('call:clock{n:<|"|>1<|"|>}', {"name": "clock", "arguments": {"n": "1"}})
RAIN = ToolCall("call:rain{}", {"name": "rain", "arguments": {}})
CUT = parse_call("call:x{")


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
    assert ChatTemplate(tok).render(messages, **options).text == expected
    assert json.dumps(messages) == before


def test_the_turn_format_is_what_training_writes(tok):
    template = ChatTemplate(tok)
    prompt, answer = template.example([SYSTEM, USER, MODEL])
    assert prompt == template.render([SYSTEM, USER])
    assert prompt.text == chat_prompt(USER["content"], SYSTEM["content"])
    assert answer.text == chat_answer(MODEL["content"])
    prompt, answer = template.example([USER, MODEL, AGAIN, MODEL | {"reasoning": "two and two"}])
    assert prompt == template.render([USER, MODEL, AGAIN], thinking=True)
    assert answer.text == f"<|channel>thought\ntwo and two\n<channel|>{chat_answer('4')}"
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
        ([RESULT], None, "message 1: a tool's result"),
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
            ModelTurn("Ask.", "Wait.", (CLOCK, RAIN)),
        ),
        ("<|channel>thought\na<|tool_call>call:x{", ModelTurn("a", "", (CUT,))),
        ("4<channel|> or 5<tool_call|>", ModelTurn("", "4 or 5", ())),
        ("", ModelTurn("", "", ())),
        # Only a channel that is named thought, or has no name, is a thought.
        ("<|channel>final\n42<channel|>", ModelTurn("", "42", ())),
        ("<|channel>final\n42", ModelTurn("", "42", ())),
        ("<|channel>thought\na<channel|><|channel>final\n4<channel|>2", ModelTurn("a", "42", ())),
        ("<|channel>analysis \na<|channel>final\n42", ModelTurn("a", "42", ())),
        ("<|channel>final 42<channel|>", ModelTurn("", "42", ())),
        ("<|channel>final", ModelTurn("", "", ())),
        ("<|channel>analysis\n<channel|><|channel>final:\n4 2", ModelTurn("", "4 2", ())),
        ("<|channel>commentary\na<channel|>4", ModelTurn("", "a4", ())),
        ("<|channel>thinking hard<channel|>4", ModelTurn("thinking hard", "4", ())),
        ("<|channel>Paris\n<channel|>", ModelTurn("", "Paris\n", ())),
        ("<|channel>answer\n42<channel|>", ModelTurn("", "42", ())),
        ("<|channel>finally<channel|>4", ModelTurn("finally", "4", ())),
        ("<think>a</think>\n<think>b</think>42", ModelTurn("a\nb", "42", ())),
        ("<|channel>thousand reasons<channel|>42", ModelTurn("thousand reasons", "42", ())),
        ("<|channel>Two words\na<channel|>42", ModelTurn("Two words\na", "42", ())),
        ("<|channel>42\n<channel|>4", ModelTurn("42", "4", ())),
        # The words of other models.
        ("<think>x</think>42", ModelTurn("x", "42", ())),
        ("\n<think>\nx\n</think>\n\n42\n<turn|>", ModelTurn("x", "42\n", ())),
        ("<think>\n\n</think>\n\n42", ModelTurn("", "42", ())),
        ("<|channel>thought\na<channel|><think>b</think>42", ModelTurn("a\nb", "42", ())),
        ("<think> opens one", ModelTurn("", "<think> opens one", ())),
        ("`<think>x</think>`", ModelTurn("", "`<think>x</think>`", ())),
        ("x</think>42", ModelTurn("", "x</think>42", ())),
    ],
)
def test_split_turn(text, expected):
    assert split_turn(text) == expected


def test_an_answer_goes_through_tokens_and_back_into_the_chat(tok):
    ids = tok.encode(f"<|channel>thought\nadd<channel|>{chat_answer('4')}<eos><eos>")
    answer = split_turn(tok.decode(ids, skip_special=False)).answer
    text = unmark(turns(checked([USER, {"role": "model", "content": answer}, AGAIN])))
    assert text == BUILT_IN[4][2].replace("<|turn>system\nBe brief.<turn|>\n", "")


def test_a_mention_in_an_answer_does_not_end_it(tok):
    answer = "A <turn|> ends a turn, <|channel>thought begins a thought, <think>x</think> too."
    _, learned = ChatTemplate(tok).example([USER, {**MODEL, "content": answer}])
    ids = [*tok.encode(learned), tok.pad_id]
    assert split_turn(tok.decode_marked(ids)).answer == answer
    assert answer_text(tok, ids) == answer
    # Special tokens that the model wrote are left out of an answer that is scored.
    stray = [*tok.encode("4"), tok.pad_id, *tok.encode("2<turn|>")]
    assert answer_text(tok, stray) == "42"
    assert split_turn(tok.decode_marked(stray)).answer == "4<pad>2"


def test_the_thought_in_an_earlier_answer_is_left_out(tok):
    said = {"role": "assistant", "content": "<think>two and two</think>\n4"}
    text = ChatTemplate(tok).render([USER, said, AGAIN])
    assert text == ChatTemplate(tok).render([USER, MODEL, AGAIN])
    prompt, answer = ChatTemplate(tok).example([USER, said])
    assert prompt == ChatTemplate(tok).render([USER], thinking=True)
    assert answer.text == f"<|channel>thought\ntwo and two\n<channel|>{chat_answer('4')}"
