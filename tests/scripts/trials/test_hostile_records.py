"""Records that others have made: each is refused in one line, and no page is written."""

import re

import pytest

from sample.page.__main__ import main
from sample.page.check import check_record
from sample.page.read import from_answer
from sample.page.record import FORMAT, VERSION
from scripts.trials.hostile_records import ANSWER, HOSTILE_RECORDS, RECORD


def test_what_the_rows_spoil_is_good():
    assert (RECORD["format"], RECORD["version"]) == (FORMAT, VERSION)
    assert check_record(RECORD, "here") == RECORD
    assert check_record(from_answer(ANSWER, "here"), "here")
    assert len({case.name for case in HOSTILE_RECORDS}) == len(HOSTILE_RECORDS)


@pytest.mark.parametrize("case", HOSTILE_RECORDS, ids=lambda case: case.name)
def test_it_is_refused_in_one_line(case, tmp_path, capsys):
    case.prepare(tmp_path)
    assert main(case.argv(tmp_path)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and re.search(case.word, line), line[:300]
    assert len(line) < 500 and "\x1b" not in line and "\u202e" not in line
    assert [file.name for file in tmp_path.iterdir()] == ["records"]
