"""Files of prompts: text, JSON, and lines that cannot be asked."""

import json

import pytest

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
    *named, _, last = said.err.splitlines()
    whys = {
        2: "not JSON: Unterminated string",
        3: "the prompt is empty",
        4: "the line is empty",
        5: "expected an object",
        6: "expected a list of messages",
        7: "not UTF-8",
        8: "surrogate",
        9: "new tokens exceed the model's context of 200",
        10: "message 1: content must be text",
    }
    assert len(named) == len(whys)
    for line, (number, why) in zip(named, whys.items(), strict=True):
        assert line.startswith(f"line {number}: ") and why in line
    assert last == "error: 9 of 11 lines could not be asked"
    assert said.out == ""
    assert [(r["row"], r["answer"]) for r in lines(out)] == [
        (1, expected[0][0]),
        (11, expected[1][0]),
    ]
