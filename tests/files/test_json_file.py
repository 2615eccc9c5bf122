"""JSON of anyone: what is read, and what is refused in one line that names the file."""

import os

import pytest

from files.json_file import read_json_file, read_json_object
from files.json_text import DEEPEST, read_json


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_json_is_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes('\ufeff{"ü": [1, 1.5, true, null]}\r\n'.encode())
    assert read_json_object(file) == {"ü": [1, 1.5, True, None]}
    assert read_json(nested(DEEPEST)) and read_json("[{}]" if DEEPEST else "") == [{}]
    many = f"[{','.join(['{}'] * 1000)}]"  # many brackets, but not within each other
    assert len(read_json(many)) == 1000
    assert read_json("[NaN, 1e999]", finite=False)[1] == float("inf")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty: download it again"),
        ("{", "not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ('{"a": 1, "a": 2}', "not JSON: an object has the key 'a' twice"),
        ("[NaN]", "not JSON: NaN is no number of JSON"),
        ("[-Infinity]", "not JSON: -Infinity is no number of JSON"),
        ("[-1e999]", "not JSON: the number -1e999 is too large"),
        ("9" * 5000, "not JSON: a number has too many digits"),
        (nested(DEEPEST + 1), "not JSON: its brackets are nested too deeply"),
        (f'{{"a": {nested(DEEPEST)}}}', "not JSON: its brackets are nested too deeply"),
        ("[" * 100_000, "not JSON: its brackets are nested too deeply"),
        (nested(100_000), "not JSON: its brackets are nested too deeply"),
        ('{"a":' * 100_000, "not JSON: its brackets are nested too deeply"),
        (" " * 1_000_001, "has more than 1,000,000 bytes, which is too much for what it is"),
    ],
    ids=range(13),
)
def test_what_is_refused(tmp_path, text, why):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_json_file(file, 1_000_000)
    assert str(caught.value) == f"{file}: {why}"


def test_another_value_is_no_object(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[]")
    with pytest.raises(ValueError, match=f"^{file}: not a JSON object$"):
        read_json_object(file)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(ValueError, match="not a regular file"):
            read_json_file(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_json_file(tmp_path / "none")
