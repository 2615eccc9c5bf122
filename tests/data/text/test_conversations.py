"""Files of conversations: records that cannot be trained on, the split, and places in a file."""

import json
import re

import pytest

from data.pipeline import Packer
from data.text.chat_template import ChatTemplate
from data.text.conversations import conversation, open_conversations, parse_conversation, split_of
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import AGAIN, CALL, MODEL, RESULT, SYSTEM, USER, question, write_lines

PLAIN = {"prompt": "2 + 2?", "response": "4"}


@pytest.fixture(scope="module")
def packer():
    return Packer(ChatTemplate(Tokenizer.load()), prompt_length=32, canvas_size=8, num_canvases=2)


def test_both_forms_are_the_same_conversation():
    def parse(line):
        return parse_conversation(json.dumps(line).encode() + b"\r\n")

    assert (
        parse(PLAIN) == parse({"messages": [USER, MODEL], "id": 7}) == conversation("2 + 2?", "4")
    )
    spoken = [USER, {"role": "model", "content": "4"}]
    assert parse({"messages": spoken}) == parse(PLAIN)
    with_system = {"messages": [SYSTEM, USER, MODEL]}
    assert parse(PLAIN | {"system": SYSTEM["content"]}) == parse(with_system)
    called = parse({"messages": [USER, CALL, RESULT, MODEL], "tools": [{"name": "clock"}]})
    assert called.tools == [{"type": "function", "function": {"name": "clock"}}]
    assert len(called.messages) == 4


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", "not JSON: Expecting value at character 1"),
        (b'{"prompt": ', "not JSON: Expecting value at character 12"),
        (b"\xff", "not UTF-8"),
        (b"[1]", "expected an object"),
        ({}, "expected messages, or prompt and response, or "),
        (PLAIN | {"messages": [AGAIN, MODEL]}, "both messages and prompt, and they differ"),
        ({"prompt": "a"}, "no answer: the last message is the user's, not the assistant's"),
        ({"prompt": "a", "chosen": "b", "id": 1}, "no answer: a better and a worse answer"),
        ({"prompt": 1, "response": "a"}, "prompt: expected text or a list of messages"),
        ({"prompt": "a", "response": 1}, "response: expected text"),
        (PLAIN | {"system": 1}, "system: expected text"),
        (PLAIN | {"tools": "clock"}, "tools: the text is not JSON"),
        (PLAIN | {"tools": [1]}, "tools: expected a list of objects"),
        ({"messages": []}, "at least one"),
        ({"messages": [USER]}, "no answer: the last message is the user's"),
        ({"messages": [MODEL]}, "there is no question before the answer"),
        ({"messages": [USER, MODEL, MODEL]}, "message 3: the assistant answers twice"),
        ({"messages": [USER, RESULT, MODEL]}, "message 2: a tool's result, but"),
        ({"messages": [USER, MODEL, RESULT, MODEL]}, "message 3: a tool's result, but"),
        (b'"2 + 2?"', "no answer: the last message is the user's, not the assistant's"),
        (
            b'{"prompt": "a", "prompt": "b", "response": "c"}',
            "has the key 'prompt' twice",
        ),
        ({"messages": [USER, CALL, RESULT]}, "no answer: the last message is the tool's"),
        ({"messages": [USER, {"role": "bot", "content": "4"}]}, "role 'bot' is none of"),
        ({"messages": [USER, {"role": "assistant"}]}, "it has no content"),
        ({"prompt": " ", "response": "4"}, "the user says nothing"),
        ({"prompt": "a", "response": " \n"}, "no answer: the last message is blank"),
        ({"messages": [USER, MODEL | {"weight": 0}]}, "marked as not to be learned, by weight 0"),
        ({"prompt": "\ud800", "response": "4"}, "half of a surrogate pair"),
    ],
)
def test_a_line_that_is_no_conversation(line, error):
    line = line if isinstance(line, bytes) else json.dumps(line).encode()
    with pytest.raises(ValueError, match=re.escape(error)) as caught:
        parse_conversation(line + b"\n")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "messages",
    [
        [MODEL, USER, MODEL],
        [SYSTEM, MODEL],
        [USER, AGAIN, MODEL],
        [USER, MODEL, AGAIN, MODEL],
    ],
)
def test_what_can_be_asked_can_be_trained_on(packer, messages):
    conversation = parse_conversation(json.dumps(messages).encode())
    assert conversation.messages == messages
    prompt, answer = packer.template.example(conversation.messages)
    assert prompt == packer.template.render(messages[:-1])
    assert answer.text == "4<turn|>"


def broken(tmp_path):
    """A file of 20 records; those in lines 2, 9, 13 and 20 cannot be trained on; and its lines."""
    path = write_lines(tmp_path / "chat.jsonl", [question(i) for i in range(20)])
    lines = path.read_bytes().split(b"\n")
    lines[1] = b'{"prompt"'
    lines[8] = json.dumps({"prompt": "1 " * 40, "response": "4"}).encode()
    lines[12] = json.dumps({"prompt": "a", "response": " ".join("1" * 31)}).encode()
    lines[19] = json.dumps({"prompt": "a", "response": "1 " * 17 + "<eos>"}).encode()
    path.write_bytes(b"\n".join(lines))
    return path, lines


def test_broken_records_stop_everything_and_are_named(tmp_path, packer):
    path, lines = broken(tmp_path)
    with pytest.raises(ValueError) as caught:
        open_conversations(path, packer)
    message = str(caught.value)
    assert re.fullmatch(
        rf"{path}: 4 of 20 records cannot be trained on \(line 2: not JSON: .*; line 9: prompt of "
        r"\d+ tokens does not fit prompt_length 32; line 13: answer of .*; and 1 more\): correct "
        r"or remove them, or leave them out with --config\.data\.on_error=skip \(train\.evaluate: "
        r"--on_error=skip\), or make room for the longest: "
        r"--config\.data\.prompt_length=\d+, --config\.loss\.num_canvases=4",
        message,
    )
    # The settings that the error names are just enough.
    needed = int(re.search(r"prompt_length=(\d+)", message)[1])
    wide = Packer(packer.template, needed, 8, 4)
    path.write_bytes(b"\n".join([lines[8], lines[12]]))
    assert sum(map(len, open_conversations(path, wide).values())) == 2
    for tight in (Packer(packer.template, needed - 1, 8, 4), Packer(packer.template, needed, 8, 3)):
        with pytest.raises(ValueError, match="1 of 2 records"):
            open_conversations(path, tight)

    for text, error in [
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("[]", "the file has no records"),
        ("Once upon a time", "expected JSON records, as an array or one object in each line"),
        ('[{"prompt": "a", "response": "b"}, {"prompt"', r"record 2 \(line 1\): not JSON: Expect"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^{path}: .*{error}"):
            open_conversations(path, packer)
    with pytest.raises(FileNotFoundError):
        open_conversations(tmp_path / "none.jsonl", packer)


def test_broken_records_are_left_out_and_named(tmp_path, packer, capsys):
    path, lines = broken(tmp_path)
    splits = open_conversations(path, packer, "skip")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{path}: 4 of 20 records are left out (on_error=skip)"
    assert [line.split(": ")[0] for line in said[1:-1]] == [f"  line {n}" for n in (2, 9, 13, 20)]
    assert said[-1].startswith("  to keep the long ones, make room for the longest: --config.data")
    # The others are where they would be without the broken ones.
    whole = tmp_path / "whole.jsonl"
    whole.write_bytes(b"\n".join(line for n, line in enumerate(lines) if n not in (1, 8, 12, 19)))
    expected = open_conversations(whole, packer)
    assert capsys.readouterr().err == ""
    for split, source in splits.items():
        found = [source[i] for i in range(len(source))]
        assert found == [expected[split][i] for i in range(len(expected[split]))] != []

    path.write_bytes(b'{"prompt": "a"}\n' * 15 + lines[0])
    open_conversations(path, packer, "skip")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 12 and said[-1] == "  and 5 more"
    path.write_bytes(b'{"prompt": "a"}\n')
    with pytest.raises(ValueError, match="1 of 1 record cannot be trained on"):
        open_conversations(path, packer, "skip")


def test_fields_that_are_not_used_are_named_once(tmp_path, packer, capsys):
    rows = [question(i) | {"id": i, "system_prompt": "Be brief."} for i in range(20)]
    rows[3]["instruction"] = "Copy it."
    path = write_lines(tmp_path / "chat.jsonl", rows)
    open_conversations(path, packer)
    assert capsys.readouterr().err == (
        f"{path}: warning: not understood, so not used: system_prompt (in 20 records), "
        "instruction (in 1 record)\n"
    )


def test_turn_tokens_and_answers_marked_as_bad(tmp_path, packer, capsys):
    told = {"prompt": "<|turn>user", "completion": "4", "label": True}
    path = write_lines(tmp_path / "chat.jsonl", [told, told | {"label": False}])
    found = open_conversations(path, packer, "skip")
    assert sum(map(len, found.values())) == 1
    said = capsys.readouterr().err.splitlines()
    assert (
        said[1] == "  line 2: the answer is marked as not to be learned, by weight 0 or label false"
    )
    assert said[2].startswith(f"{path}: warning: 2 records hold turn tokens, as <|turn> and")


def test_equal_conversations_share_a_split_of_a_known_size(tmp_path, packer):
    told = [question(i) for i in range(1000)]
    again = [
        {
            "messages": [
                {"role": "user", "content": t["prompt"]},
                {"role": "model", "content": t["response"], "id": i},
            ]
        }
        for i, t in enumerate(told)
    ]
    splits = open_conversations(write_lines(tmp_path / "a.jsonl", [*told, *again]), packer)
    found = {
        split: [json.dumps(source[i].messages[0]) for i in range(len(source))]
        for split, source in splits.items()
    }
    assert not set(found["train"]) & set(found["test"])
    assert all(texts.count(text) == 2 for texts in found.values() for text in set(texts[:50]))
    assert len(found["train"]) + len(found["test"]) == 2000
    assert 70 <= len(set(found["test"])) <= 130  # of 1000, with a standard deviation of 9.5
    # The split does not depend on the file, the place in it or a seed.
    assert {split_of(splits["test"][i]) for i in range(5)} == {"test"}


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        ("\ufeff", "\r\n", ""),
        ("", "\n\n", "\n\n \n"),
        ("[", ", ", "]"),
        ("\ufeff\r\n[\r\n", ",\r\n", "\r\n]\r\n"),
        ("", "", ""),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_records_are_found_again_by_their_place(tmp_path, packer, before, between, after, indent):
    path = tmp_path / "chat"
    rows = [{"prompt": f"Größe {i}: ≤", "response": str(i)} for i in range(30)]
    texts = (json.dumps(row, ensure_ascii=False, indent=indent) for row in rows)
    path.write_bytes(f"{before}{between.join(texts)}{after}".encode())
    splits = open_conversations(path, packer)
    answers = [s[i].messages[-1]["content"] for s in splits.values() for i in range(len(s))]
    assert sorted(map(int, answers)) == list(range(30))
    with pytest.raises(IndexError):
        splits["train"][len(splits["train"])]
    path.write_bytes(path.read_bytes()[20:])
    with pytest.raises(ValueError, match="has changed since the run began"):
        splits["train"][3]
