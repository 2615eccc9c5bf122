"""--regex and --schema, and the fields of a record that say the same."""

import json
import re

import pytest

from sample import main as command
from sample.command.demand import from_flags, from_record
from tests.sample.asking import lines, run

REGEX = "[a-d]{2,4}"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def test_records_and_flags_demand_and_answers_are_found_again(folder, tmp_path, capsys):
    file, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    records = [
        {"prompt": "Solve it: 1 2 3", "regex": REGEX},
        {"prompt": "Solve it: 1 2 3", "schema": SCHEMA},
        {"prompt": "Solve it: 1 2 3"},
        {"prompt": "Solve it: 1 2 3", "regex": "(a"},
        {"prompt": "What is 2 + 2?", "regex": "x{99}"},
        {"prompt": "Hi", "regex": "<think>a+</think> b"},  # text, and no thought
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    flags = [f"--prompts={file}", f"--out={out}", "--regex=[0-9]+!", "--batch-size=2"]
    assert run(folder, *flags) == 1
    said = capsys.readouterr().err
    assert "line 4: (a: a parenthesis has no partner" in said
    assert "line 5: the shortest answer that the constraint accepts has 99 tokens" in said
    assert "not understood" not in said and "cut off" not in said
    first, second, third, last = lines(out)
    assert re.fullmatch("<think>a+</think> b", last["answer"]) and not last["thoughts"]
    assert re.fullmatch(REGEX, first["answer"]) and re.fullmatch("[0-9]+!", third["answer"])
    assert isinstance(json.loads(second["answer"])["n"], int)
    assert {line["finish_reason"] for line in (first, second, third)} == {"stop"}
    # The same demands are answered already; another one is another answer.
    assert run(folder, *flags) == 1
    assert len(lines(out)) == 4
    file.write_text(json.dumps(records[0] | {"regex": "[a-d]{2,5}"}))
    assert run(folder, *flags) == 0
    assert len(lines(out)) == 5


def test_both_modes_obey(folder, tmp_path, capsys):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    flags = [f"--checkpoint={folder}", "--max-new-tokens=24", "--prompt=Hi", f"--schema={file}"]
    assert command.main(["main", *flags, "--mode=ar"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out)["n"], int)


def test_a_text_that_is_filled_in_obeys_as_a_whole(folder, capsys):
    flags = [f"--checkpoint={folder}", "--fill=a = <fill:3>; b = <fill:2>"]
    assert command.main(["main", *flags, "--regex=a = [0-9]+; b = [x-z]+"]) == 0
    assert re.fullmatch("a = [0-9]{3}; b = [x-z]{2}\n", capsys.readouterr().out)
    for fill, why in (
        ("c = <fill:3>", "the text that stays and the constraint do not go together"),
        ("a = <fill:3>; b = <fill:2-4>", "a hole whose length is a range cannot obey"),
    ):
        said = ["main", flags[0], f"--fill={fill}", "--regex=a = [0-9]+; b = [x-z]+"]
        assert command.main(said) != 0
        assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--regex=a", "--schema={file}"], "give one of --regex and --schema"),
        (["--regex="], "--regex= has no text"),
        (["--schema="], "--schema= has no text"),
        (["--schema=none.json"], "none.json: No such file"),
        (["--schema={file}"], "not JSON"),
        (["--regex=a{99}"], "has 99 tokens, but only 24 are generated"),
        (["--regex=(?=a)b"], "look-around"),
        (["--regex=a", "--stop=b"], "--stop and --regex do not go together"),
        (["--regex=a", "--thinking"], "--thinking and --regex do not go together"),
    ],
)
def test_bad_demands_are_one_line(folder, tmp_path, capsys, flags, why):
    (tmp_path / "schema.json").write_text("{")
    flags = [
        flag.format(file=tmp_path / "schema.json") if "{file}" in flag else flag for flag in flags
    ]
    assert run(folder, "--prompt=Hi", *flags) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and why in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"regex": "a", "schema": {"type": "null"}}, "both regex and schema"),
        ({"regex": 3}, "regex: expected text"),
        ({"schema": "null"}, "a schema is a JSON object"),
    ],
)
def test_bad_fields(record, why):
    with pytest.raises(ValueError, match=why):
        from_record(record)


def test_no_demand_is_none():
    assert from_flags(None, None) is from_record({"prompt": "a"}) is from_record("a") is None
