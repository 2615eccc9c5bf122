"""Files of records, answers and pages, and what is said of other files."""

import json
from pathlib import Path

import pytest

from sample.page.__main__ import main
from sample.page.read import read_records
from sample.page.write import write_page
from tests.sample.page.recorded import random_record

RECORD = random_record()
ANSWER = {
    "row": 3,
    "sample": 1,
    "checksum": "c",
    "checkpoint": "models/mine",
    "answer": "b",
    "steps": [2],
    "valid_tokens": [4],
    "drafts": [
        [
            {"text": "<b>a", "entropy": 1.5, "accepted": 1},
            {"text": "b", "entropy": 0.25, "accepted": 0},
        ]
    ],
}


def saved(folder: Path, text: str) -> Path:
    path = folder / "file"
    path.write_text(text, "utf-8")
    return path


def test_records_in_lines_in_an_array_and_on_a_page(tmp_path):
    line = json.dumps(RECORD)
    for text in (line, f"{line}\n\n{line}\n", f"[\n{line},\n{line}]", json.dumps(RECORD, indent=1)):
        found = read_records(saved(tmp_path, text))
        assert found == [RECORD] * len(found) and len(found) == text.count('"format"')
    write_page(tmp_path / "page.html", [RECORD, RECORD])
    assert read_records(tmp_path / "page.html") == [RECORD, RECORD]


def test_an_answer_with_drafts_has_a_record_of_texts(tmp_path):
    [record] = read_records(saved(tmp_path, json.dumps(ANSWER)))
    assert record["title"] == "Prompt 3, sample 1" and record["model"] == "models/mine"
    [canvas] = record["canvases"]
    assert canvas["texts"] == ["<b>a", "b"] and canvas["accepted_counts"] == [1, 0]
    assert record["figures"]["tokens_per_forward"] == 2.0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", ": no records and no answers"),
        ("\n \n", ": no records and no answers"),
        ("[]", ": no records and no answers"),
        ("{", ", line 1: not JSON: "),
        ("[1", ": not JSON: "),
        ("[1]", ", record 1: neither a record of a generation (docs/FORMATS.md) nor an answer"),
        ("<!doctype html><p>a page of others", ", line 1: not JSON: "),
        (json.dumps(RECORD) + "\n" + json.dumps({"a": 1}), ", line 2: neither a record"),
        (json.dumps({**RECORD, "version": 9}), ", record 1: version 9: this program reads 1"),
        (
            json.dumps({**ANSWER, "drafts": None}),
            ", record 1: an answer without drafts: --trajectory",
        ),
        (json.dumps({**ANSWER, "drafts": [[{}]]}), ", record 1: the answer's drafts are damaged"),
        (json.dumps({**ANSWER, "steps": 2}), ", record 1: the answer's drafts are damaged"),
        (json.dumps({**ANSWER, "drafts": [[]]}), ", record 1: max_steps: expected a whole"),
        ("[" * 100_000, ": not JSON: "),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text, fault, capsys):
    path = saved(tmp_path, text)
    page = tmp_path / "page.html"
    assert main(["page", f"--from={path}", f"--page={page}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}{fault}") and said.count("\n") == 1
    assert not page.exists()


def test_the_command_joins_files_and_says_what_it_wrote(tmp_path, capsys):
    path, page = saved(tmp_path, json.dumps(ANSWER)), tmp_path / "page.html"
    assert main(["page", f"--from={path}", f"--page={page}"]) == 0
    assert capsys.readouterr().err == f"wrote {page} with 1 answer\n"
    path.write_text(json.dumps(RECORD))
    assert main(["page", f"--from={page}", f"--from={path}", f"--page={page}"]) == 0
    assert [record["title"] for record in read_records(page)] == ["Prompt 3, sample 1", "A title"]
    big = [{**RECORD, "prompt": "x" * 400_000}] * 3
    path.write_text("\n".join(map(json.dumps, big)))
    assert main(["page", f"--from={path}", f"--page={page}"]) == 0
    assert "1 answer; the page is full, and 2 more are not on it" in capsys.readouterr().err


def test_faults_of_the_command_line(tmp_path, capsys):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for flags, fault in (
        ([], "--from=FILE and --page=FILE.html are needed"),
        ([f"--from={binary}", f"--page={tmp_path}/p"], f"{binary}: no UTF-8 text"),
        ([f"--from={binary}", "--page=/none/p.html"], "/none: no such folder"),
        ([f"--from={tmp_path}/none", f"--page={tmp_path}/p"], "No such file"),
    ):
        assert main(["page", *flags]) == 2
        said = capsys.readouterr().err
        assert fault in said and said.count("\n") == 1
