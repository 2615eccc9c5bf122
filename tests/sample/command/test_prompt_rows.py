"""Files of prompts: text, JSON, and lines that cannot be asked."""

import json

import pytest

from data.text.chat_template import ChatTemplate
from data.text.conversations import open_conversations
from data.text.tokenizer import Tokenizer
from sample.command.prompt_rows import PromptRow, piped_rows, read_rows
from tests.data.text.messages import USER
from tests.data.text.test_records import SAME
from tests.sample.asking import PROMPTS, lines, run


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_files_of_prompts(folder, expected, tmp_path, capsys, kind):
    file = tmp_path / f"prompts.{kind}"
    as_json = [
        {"prompt": PROMPTS[0], "id": 7},
        {"messages": [{"role": "user", "content": PROMPTS[1]}]},
        {"prompt": PROMPTS[2]},
    ]
    texts = PROMPTS if kind == "txt" else map(json.dumps, as_json)
    file.write_text("\r\n".join(texts))
    assert run(folder, f"--prompts={file}", "--batch-size=2") == 0
    assert capsys.readouterr().out == "".join(f"{text}\n" for text, _ in expected)


def test_broken_lines_are_named_and_the_others_done(folder, expected, tmp_path, capsys):
    file, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    file.write_bytes(
        b'{"prompt": "Solve it: 1 2 3"}\n{"prompt": "cut\n{"prompt": " "}\n\n["prompt"]\n'
        b'{"messages": []}\n{"prompt": "\xff"}\n{"prompt": "\\ud800"}\n'
        + json.dumps({"prompt": "1 2 " * 100}).encode()
        + b'\n{"messages": [{"role": "user"}]}\n{"prompt": "What is 2 + 2?"}\n'
    )
    assert run(folder, f"--prompts={file}", f"--out={out}") == 1
    said = capsys.readouterr()
    *named, _, _, last = said.err.splitlines()
    whys = {
        2: "not JSON: Unterminated string",
        3: "message 1: the user says nothing",
        5: "expected an object",
        6: "expected a list of messages",
        7: "not UTF-8",
        8: "surrogate",
        9: "new tokens exceed the model's context of 200",
        10: "message 1: it has no content",
    }
    assert len(named) == len(whys)
    for line, (number, why) in zip(named, whys.items(), strict=True):
        assert line.startswith(f"line {number}: ") and why in line
    assert last == "error: 8 of 10 prompts could not be answered"
    assert said.out == ""
    assert [(r["row"], r["answer"]) for r in lines(out)] == [
        (1, expected[0][0]),
        (11, expected[1][0]),
    ]


NAMES = ["p.jsonl", "p.JSONL", "p.ndjson", "p.json", "p.txt", "p"]


@pytest.mark.parametrize("name", NAMES)
def test_the_content_of_a_file_decides_and_not_its_name(tmp_path, name):
    file, records = tmp_path / name, [{"prompt": text} for text in PROMPTS]
    texts = list(map(json.dumps, records))
    user = [[{"role": "user", "content": text}] for text in PROMPTS]
    for data, places in [
        ("\n".join(texts), ["line 1", "line 2", "line 3"]),
        ("\ufeff" + "\r\n\r\n".join(texts) + "\r\n\r\n", ["line 1", "line 3", "line 5"]),
        (json.dumps(records), [f"record {n} (line 1)" for n in (1, 2, 3)]),
        (json.dumps(records, indent=1), [f"record {n} (line {3 * n - 1})" for n in (1, 2, 3)]),
        ("\ufeff" + "\r\n".join(PROMPTS) + "\r\n\n", ["line 1", "line 2", "line 3"]),
    ]:
        file.write_bytes(data.encode())
        rows = read_rows(file)
        assert [row.messages for row in rows] == user
        assert [row.place for row in rows] == places
        assert all(row.fault is None for row in rows)
        assert [row.number for row in rows] == [int(place.split()[1]) for place in places]


@pytest.mark.parametrize(
    "text", ["[INST] Hello [/INST]", "[1, 2] Sort these.", "[a](b)", '"a" and']
)
def test_text_that_begins_like_json(tmp_path, text):
    file = tmp_path / "prompts.txt"
    file.write_text(f"{text}\n{{}}\n")
    rows = read_rows(file)
    assert [row.messages[0]["content"] for row in rows] == [text, "{}"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"[ ]", "no prompts: the array is empty"),
        (
            b"{name} says hello.\nSay hello to {name}.",
            "it begins with {, so JSON records are expected, but line 1: not JSON: Expecting "
            "property name enclosed in double quotes at character 2. Write a text as "
            '{"prompt": "TEXT"}',
        ),
        (
            b"[1, 2]",
            "it begins with [, so JSON records are expected, but record 1 (line 1): expected an o"
            "bject",
        ),
        (b"[1]\n[2]\n", "it begins with [, so JSON records are expected, but line 1: expected an"),
        (
            b"prompt,response\nHi,Hello\n",
            "the file is a table, as CSV files are: save it as JSON lines, one object in each line",
        ),
        (b'[{"prompt": "a"}, {"prompt": "b"', "record 2 (line 1): not JSON: Expecting ',' delim"),
        ("Hello".encode("utf-16"), "the file is UTF-16 text: save it as UTF-8"),
    ],
)
def test_files_without_prompts(tmp_path, data, error):
    file = tmp_path / "prompts.json"
    file.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_rows(file)
    assert str(caught.value).startswith(f"{file}: {error}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b'["Hi", "2 + 2?"]', b'"Hi"\n"2 + 2?"\n', b"Hi\r2 + 2?\r"])
def test_prompts_as_texts(tmp_path, data):
    file = tmp_path / "prompts"
    file.write_bytes(data)
    rows = read_rows(file)
    assert [row.messages[0]["content"] for row in rows] == ["Hi", "2 + 2?"]
    assert [row.fault for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("Hi\nthere", ["Hi\nthere"]),
        ("\ufeffHi", ["Hi"]),
        ('\ufeff{"prompt": "a"}\n{"messages": [{"role": "user", "content": "b"}]}', ["a", "b"]),
        ("{name} says hello", ["{name} says hello"]),
        ('{"a": 1}\nExplain this.', ['{"a": 1}\nExplain this.']),
        ('{"name": "pkg"}', ['{"name": "pkg"}']),
        ('[{"a": 1}]\nHow many?', ['[{"a": 1}]\nHow many?']),
        ('Correct:\n{"prompt": "a"}', ['Correct:\n{"prompt": "a"}']),
        ('{"a": 1}\n{"prompt": "b"}', [None, "b"]),
        ('"To be"\nWho said that?', ['"To be"\nWho said that?']),
        ("[1, 2, 3]", ["[1, 2, 3]"]),
        ("prompt", ["prompt"]),
        ("", [""]),
    ],
)
def test_piped_texts(text, prompts):
    rows = piped_rows(text)
    assert [row.messages[0]["content"] if row.messages else None for row in rows] == prompts
    assert [not row.fault for row in rows] == [bool(prompt) for prompt in prompts]


def test_piped_files_that_are_no_prompts():
    [row] = piped_rows('{"prompt": ["a"]}')
    assert row.fault.startswith("prompt: expected text or a list of messages")
    with pytest.raises(ValueError, match=r"^standard input: the file is a table"):
        piped_rows("prompt\tanswer\na\tb\n")


def test_lines_of_a_text_that_are_no_prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"a\n\n\xff\n" + b"b" * 70_000 + b"\0\nc")
    rows = read_rows(file)
    assert [(row.number, row.fault) for row in rows] == [
        (1, None),
        (3, "not UTF-8"),
        (4, "the prompt has a NUL character"),
        (5, None),
    ]


def test_both_sides_read_the_same(tmp_path, capsys):
    told = [record | {"id": i} for i, record in enumerate(SAME)]
    file = tmp_path / "records.json"
    file.write_text(json.dumps(told))
    template = ChatTemplate(Tokenizer.load())
    rows = read_rows(file)
    assert capsys.readouterr().err == (
        f"{file}: the answers of {len(told)} records are left out: the model is asked for them\n"
    )
    asked = [template.render(row.messages, tools=row.tools) for row in rows]
    learned = []
    open_conversations(file, lambda item: learned.append(template.example(*item)[0]))
    assert asked == learned and len(set(asked)) == 1
    assert "Be brief." in str(asked[0])


def test_what_a_file_has_besides_prompts_is_said_once(tmp_path, capsys):
    file = tmp_path / "prompts.jsonl"
    records = [
        {"prompt": "2 + 2?", "system_prompt": "Be brief."},
        {"messages": [USER, {"role": "assistant", "content": "4"}], "instruction": "Add."},
        {"prompt": "2 + 2?", "system_prompt": "Be kind.", "temperature": 0.5, "output": ""},
        {"messages": [{"role": "assistant", "content": "4"}]},
        {"prompt": "2 + 2?", "audio": "a.wav"},
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    rows = read_rows(file)
    assert capsys.readouterr().err.splitlines() == [
        f"{file}: the answers of 2 records are left out: the model is asked for them",
        f"{file}: warning: not understood, so not used: system_prompt (in 2 records), "
        "instruction (in 1 record), temperature (in 1 record)",
    ]
    assert rows[:3] == [PromptRow(n, [USER], None, None, f"line {n}") for n in (1, 2, 3)]
    assert [row.fault for row in rows[3:]] == [
        "there is no prompt before the answer",
        "audio: this model does not hear",
    ]


def test_prompts_that_a_template_made_are_warned_of_once(tmp_path, capsys):
    file = tmp_path / "prompts"
    made = ["<|turn>user\\nHi<turn|>\\n", "<start_of_turn>user\\nHi"]
    why = (
        "turn tokens, as <|turn> and <start_of_turn> are: they are plain text here, and the chat "
        "template writes its own: give the texts of the messages alone\n"
    )
    for rows in (made, [f'{{"prompt": "{text}"}}' for text in made]):
        file.write_text("\n".join(rows))
        read_rows(file)
        assert capsys.readouterr().err == f"{file}: warning: 2 records hold {why}"
    piped_rows("<|im_start|>user")
    assert capsys.readouterr().err == f"standard input: warning: 1 record holds {why}"


def test_json_that_is_no_record_is_not_called_a_text(tmp_path):
    file = tmp_path / "prompts"
    file.write_text('{"a": 1, "a": 2}')
    with pytest.raises(ValueError, match=r"line 1: an object has the key 'a' twice$"):
        read_rows(file)


def test_a_piped_array_that_is_damaged(capsys):
    with pytest.raises(ValueError, match=r"^standard input: record 2 \(line 1\): not JSON"):
        piped_rows('[{"prompt": "a"}, {"b')
    piped_rows('[{"a": 1}, {"b')
    line = "standard input: this JSON has none of the fields of a record, so it is asked as a text"
    assert capsys.readouterr().err == f"{line}\n"
