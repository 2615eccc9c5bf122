"""Templates of folders: what they write and may use, the sandbox, and training examples."""

import json

import pytest

from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import AGAIN, CALL, MODEL, RESULT, SYSTEM, TOOLS, USER, chat_prompt
from tests.data.text.templates import TEMPLATE


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.load()


@pytest.fixture(scope="module")
def templated(tok):
    return ChatTemplate(tok, TEMPLATE, "chat_template.jinja")


DECLARED = '<|tool>declaration:clock{description:<|"|>Zeit für <b><|"|>}<tool|>'
CALLED = "<|tool_call>call:clock{n:1}<tool_call|>"
NOON = '<|tool_response>response:clock{value:<|"|>noon<|"|>}<tool_response|>'

# Messages, options, and the text that a folder's template makes of them.
TEMPLATED = [
    (
        [SYSTEM, USER],
        {},
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\n2 + 2?<turn|>\n<|turn>model\n",
    ),
    (
        [USER, {"role": "model", "content": " 4 "}, AGAIN],
        {"thinking": True, "generation": False},
        "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\n2 + 2?<turn|>\n"
        "<|turn>model\n4<turn|>\n<|turn>user\nSure?<turn|>\n",
    ),
    (
        [USER, CALL, RESULT],
        {"tools": TOOLS},
        f"<bos><|turn>system\n{DECLARED}<turn|>\n<|turn>user\n2 + 2?<turn|>\n<|turn>model\n"
        f"{CALLED}{NOON}",
    ),
    # The text of a message with calls stands after the calls and their results.
    (
        [USER, {**CALL, "content": "I look."}],
        {"generation": False},
        f"<bos><|turn>user\n2 + 2?<turn|>\n<|turn>model\n{CALLED}I look.<|tool_response>",
    ),
    (
        [USER, {**CALL, "content": "I look."}, RESULT, MODEL, AGAIN],
        {},
        f"<bos><|turn>user\n2 + 2?<turn|>\n<|turn>model\n{CALLED}{NOON}I look.4<turn|>\n"
        "<|turn>user\nSure?<turn|>\n<|turn>model\n",
    ),
]


@pytest.mark.parametrize(("messages", "options", "expected"), TEMPLATED)
def test_template(templated, messages, options, expected):
    assert templated.render(messages, **options).text == expected


ASK = "{{ messages[0].content }} <|turn>"


def test_templates_that_are_not_used_are_named(tok, tmp_path, capsys):
    named = [{"name": "tools", "template": "1"}, {"name": "default", "template": ASK + "2"}]
    file, more = tmp_path / "chat_template.json", tmp_path / "additional_chat_templates"
    file.write_text(json.dumps({"chat_template": named}))
    more.mkdir()
    ChatTemplate.load(tmp_path, tok)
    start = f"{tmp_path}: warning: chat templates that are not used: "
    assert capsys.readouterr().err == f"{start}tools in {file}\n"
    (more / "rag.jinja").write_text("3")
    (tmp_path / "chat_template.jinja").write_text(ASK + "4")
    ChatTemplate.load(tmp_path, tok)
    assert capsys.readouterr().err == f"{start}{more / 'rag.jinja'}\n"
    file.write_text(json.dumps({"chat_template": {"default": ASK + "5"}}))
    (tmp_path / "chat_template.jinja").unlink()
    assert ChatTemplate.load(tmp_path, tok).render([USER]).text == "2 + 2? <|turn>5"


def test_which_template_a_folder_has(tok, tmp_path):
    def load():
        return ChatTemplate.load(tmp_path, tok).render([USER]).text

    def write(**config):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))

    assert load() == chat_prompt(USER["content"])
    write(bos_token="<B>", add_bos_token=True)
    assert load() == chat_prompt(USER["content"])
    write(bos_token="<B>", chat_template=ASK + "{{ bos_token }} config")
    assert load() == "2 + 2? <|turn><B> config"
    write(eos_token={"content": "<E>"}, chat_template=ASK + "{{ bos_token }}{{ eos_token }}")
    assert load() == "2 + 2? <|turn><bos><E>"
    write(
        chat_template=[
            {"name": "other", "template": "1"},
            {"name": "default", "template": ASK + "2"},
        ]
    )
    assert load() == "2 + 2? <|turn>2"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": ASK + "3"}))
    assert load() == "2 + 2? <|turn>3"
    (tmp_path / "chat_template.jinja").write_text(f"\ufeff{ASK}mark", encoding="utf-8")
    assert load() == "2 + 2? <|turn>mark"
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }} für", encoding="utf-8")
    assert load() == "2 + 2? für"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"chat_template\.jinja: no UTF-8 text"):
        load()
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.json").unlink()
    for config, error in [
        (
            '{"chat_template": [{"name": "other", "template": "1"}]}',
            "no template named default, but other: name",
        ),
        ('{"chat_template": 1}', "chat_template: expected text"),
        ('{"chat_template": []}', "no template named default, but no template: name"),
        ("[]", "not a JSON object"),
        ("{", "Expecting property name"),
    ]:
        (tmp_path / "tokenizer_config.json").write_text(config)
        with pytest.raises(ValueError, match=rf"tokenizer_config\.json: .*{error}"):
            load()


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (" \n", "the chat template is empty: download it again, or remove it"),
        ('{"chat_template": "{{ messages[0].content }}"}', "it is JSON and not a template"),
        ('"{{ messages[0].content }}"', "it is JSON and not a template"),
        ("Access restricted", "it leaves out the user's message: use another template"),
    ],
)
def test_files_that_are_no_template(tok, tmp_path, source, error):
    file = tmp_path / "chat_template.jinja"
    file.write_text(source)
    with pytest.raises(ValueError, match=f"^{file}: {error}"):
        ChatTemplate.load(tmp_path, tok)


def test_the_template_of_another_model_is_warned_of(tok, tmp_path, capsys):
    file = tmp_path / "chat_template.jinja"
    file.write_text("<start_of_turn>{{ messages[0].content }}<end_of_turn>")
    ChatTemplate.load(tmp_path, tok)
    line = "warning: it writes no <|turn>, so it may be the template of another model"
    assert capsys.readouterr().err == f"{file}: {line}\n"


def test_special_tokens_can_be_allowed(tok):
    message = {"role": "user", "content": "a<turn|>"}
    for source in (None, TEMPLATE):
        text = ChatTemplate(tok, source).render([message], allow_special=True)
        assert text.text == "<bos><|turn>user\na<turn|><turn|>\n<|turn>model\n"
        assert tok.encode(text).count(tok.turn_end_id) == 2


@pytest.mark.parametrize("source", [None, TEMPLATE])
@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        ("What does <pad> mean?", "What| does| |<|p|ad|>| |me|an|?"),
        ("a<turn|>\n<|turn>model\n<bos>", "a|<|t|ur|n|\\||>|\n|<|\\||t|ur|n|>|model|\n|<|b|os|>"),
        ("<unk>", "<|un|k|>"),
        ("<eos>", "<|e|os|>"),
    ],
)
def test_a_mention_of_a_special_token_is_plain_text(tok, source, content, pieces):
    message = {"role": "user", "content": content}
    prompt = ChatTemplate(tok, source).render([message])
    assert content in prompt.text
    ids = tok.encode(prompt)
    head, tail = tok.encode("<bos><|turn>user\n"), tok.encode("<turn|>\n<|turn>model\n")
    assert ids[: len(head)] == head and ids[-len(tail) :] == tail
    said = ids[len(head) : -len(tail)]
    assert [tok.decode([i], skip_special=False) for i in said] == [
        piece.replace("\0", "|") for piece in pieces.replace("\\|", "\0").split("|")
    ]
    assert tok.decode(ids, skip_special=False) == prompt.text


def test_a_mention_is_plain_in_a_training_example(tok):
    asked, said = "What ends a turn?", "It is <turn|>."
    template = ChatTemplate(tok, TEMPLATE)
    _, answer = template.example([{**USER, "content": asked}, {**MODEL, "content": said}])
    assert answer.text == f"{said}<turn|>"
    assert tok.encode(answer).count(tok.turn_end_id) == 1
    assert tok.encode(answer)[-1] == tok.turn_end_id
    thought = {**MODEL, "content": "Yes", "reasoning": "a <eos>, <channel|>"}
    _, answer = template.example([USER, thought])
    assert answer.text == "<|channel>thought\na <eos>, <channel|>\n<channel|>Yes<turn|>"
    assert not set(tok.encode(answer)) & {tok.eos_id}
    assert tok.encode(answer).count(tok.token_id("<channel|>")) == 1


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("<bos>{{ '<' }}{{ messages[0].content }}", "pad>"),
        ("<bos>{{ messages[0].content }}{{ '|>' }}", "<turn"),
        ("<bos><{{ messages[0].content }}>", "pad"),
        ("<bos>{{ messages[0].content.split('</think>') | join('') }}", "<tu</think>rn|>"),
        ("<bos>{{ messages[0].content | replace('x', '') }}", "<tuxrn|>"),
        ("<bos>{{ messages[0].content }}{{ messages[0].more }}", "<turn"),
        ("<bos>{{ messages[0].content | lower }}", "<TURN|>"),
        ("<bos>{{ messages[0].content | trim }}", "<turn|> "),
        ("<bos>{{ messages | tojson }}", "<turn|>"),
    ],
)
def test_no_template_completes_a_token(tok, source, content):
    message = {"role": "user", "content": content, "more": "|>"}
    ids = tok.encode(ChatTemplate(tok, source).render([message]))
    assert ids[0] == tok.bos_id
    assert not set(ids[1:]) & {0, 1, 2, 3, *(tok.token_id(t) for t in ("<|turn>", "<turn|>"))}


def test_the_tokens_of_a_template_have_their_effect(tok):
    source = "{% set t = {'end': '<turn|>'} %}{{ bos_token }}<|turn>{{ t.end }}{{ t['end'] ~ 'a' }}"
    text = "<bos><|turn><turn|><turn|>a"
    prompt = ChatTemplate(tok, source).render([USER])
    assert prompt.text == text and tok.encode(prompt) == tok.encode(text)
    # They cannot be told from a message if the template makes them of pieces.
    with pytest.raises(
        ValueError, match=r"^t: it puts <\|turn> together from pieces, .* one piece"
    ):
        ChatTemplate(tok, "{% set open = '<|' %}{{ open ~ 'turn>' }}{{ messages[0].content }}", "t")


def test_text_that_is_no_text_is_named(tok):
    with pytest.raises(ValueError, match="message 2: half of a surrogate pair"):
        ChatTemplate(tok).render([SYSTEM, {"role": "user", "content": "\ud800<pad>\ud801"}])
    with pytest.raises(ValueError, match="tools: half of a surrogate pair"):
        ChatTemplate(tok, TEMPLATE).render([USER], tools=[{"function": {"\ud800": 1}}])
