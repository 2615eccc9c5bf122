"""Files of records: what a file holds, where its records lie, and files that are damaged."""

import io
import json
import random
import re
import tracemalloc

import pytest

from data.text.record_file import kind_of, scan


def read(data: bytes) -> tuple[str, list]:
    """The kind of a file, and (place, value or fault, bytes) of each record."""
    file = io.BytesIO(data)
    kind = kind_of(file)
    return kind, [
        (item.place, item.fault or item.value, data[item.start : item.start + item.size].strip())
        for item in scan(file, kind)
    ]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ('{"a": 1}', "records"),
        ("\n\r\n  {", "records"),
        ("\ufeff{name} is a placeholder", "records"),
        ('[{"a": 1}]', "array"),
        ("\ufeff \n[\n\n{", "array"),
        ("[]", "array"),
        ("[", "array"),
        ('["a", "b"]', "array"),
        (" " * 70_000 + "[1]", "array"),
        ("[INST] Hello [/INST]", "text"),
        ("[1, 2, 3] Sort these.", "text"),
        ("[a](b)\n{}", "text"),
        ('"a"', "records"),
        ('"a"\n"b"', "records"),
        ('"a" is a letter.', "text"),
        ('"a"\nWho said that?', "text"),
        ('[{"from": "a", "prompt": "b"}]', "array"),
        ('["a"]\n["b"]', "records"),
        ('[{"role": "user", "content": "a"}]', "records"),
        ('[\n{"from": "human", "value": "a"},', "records"),
        ('[[{"role": "user", "content": "a"}]]', "array"),
        ('# c\r// d\n\x1e{"a": 1}', "records"),
        ("// c\n[1]", "array"),
        ("# Title", "text"),
        ("#include <a>\nint", "text"),
        ("prompt", "text"),
        ("Hello, world\nprompt,response", "text"),
        ("prompt, then answer\nHi", "text"),
        ("Hello\n{}", "text"),
        ("Question\nWhat is the capital?", "text"),
        ("Instruction, question\nWhy", "text"),
        ('"Yes", "No"\nHello', "text"),
        ("Red, white\nblue, green", "text"),
        ("[3, 1, 2]\nSort the list", "text"),
        ("[ ] call Ann\n[ ] write", "text"),
        ("| question | answer |\n|---|---|\n| a | b |", "text"),
        ("User: hi, all\nok, fine", "text"),
        ("[1]\n[2]", "records"),
        ("\ufeff\ufeff[{}]", "array"),
        ('\u200b\u00a0{"a": 1}', "records"),
        ('null\n{"a": 1}', "records"),
        ('/* a */\n[{"a": 1}]', "records"),
        ('pt": "a"}\n\n{"a": 1}', "records"),
    ],
)
def test_the_kind_of_a_file(data, kind):
    assert kind_of(io.BytesIO(data.encode())) == kind


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf \r\n\n", "the file is empty"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        ('{"a": 1}'.encode("utf-16-be"), "NUL bytes, as binary files and UTF-16 do"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip: decompress it first"),
        (
            b'prompt,"response"\r\na,b',
            "the file is a table, as CSV files are",
        ),
        (b"\xef\xbb\xbfid\tPrompt\n1\ta", "the file is a table"),
        (b'"Why, me?" , "Yes"\n"2", "3"', "the file is a table"),
        (b"prompt\n\nHello", "the file is a table"),
        (b",prompt,response\n0,a,b", "the file is a table"),
        (b"id,text\n1,a", "the file is a table"),
        (b"query;answer\na;b", "the file is a table"),
        (b"User Prompt,Model Response\na,b", "the file is a table"),
        (b'id,prompt\n1,"a\nb"\n', "the file is a table"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs: run"),
        (b"PAR1\x15\x04", "a Parquet file: save it as JSON lines first"),
        (b"\x89PNG\r\n\x1a\n\0\0", "NUL bytes"),
    ],
)
def test_files_that_are_no_text(data, error):
    with pytest.raises(ValueError, match=error):
        kind_of(io.BytesIO(data))


A, B = {"a": 'ä "}{[],\n'}, {"b": {"c": [1, {}]}}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("data", "places"),
    [
        ("{A}\n{B}", ("line 1", "line 2")),
        ("\n{A}\r\n \r\n{B}\r\n\r\n", ("line 2", "line 4")),
        ("{A}{B}", ("line 1", "line 1")),
        ("{A},\r\n{B},\n", ("line 1", "line 2")),
        ("{A} \r{B}", ("line 1", "line 2")),
        ("{A}\r\r{B}\r", ("line 1", "line 3")),
        ("\x1e{A}\n\x1e{B}\n", ("line 1", "line 2")),
        ("# a {\n{A} // b\r\n//\n{B}# c", ("line 2", "line 4")),
        ("[{A}, # a ]\n // b\n{B}] # c", ("record 1 (line 1)", "record 2 (line 3)")),
        ("{AA}\n{B}\n", ("line 1", "line 4")),
        ("{A}\n{BB}", ("line 1", "line 2")),
        ("{AA}{BB}", ("line 1", "line 3")),
        ("[{A},{B}]", ("record 1 (line 1)", "record 2 (line 1)")),
        ("\n[\r\n{AA} ,\r\n\n {B}, ]\r\n", ("record 1 (line 3)", "record 2 (line 7)")),
    ],
)
def test_where_records_lie(mark, data, places):
    texts = {
        "{A}": json.dumps(A, ensure_ascii=False),
        "{AA}": json.dumps(A, ensure_ascii=False, indent=1),
        "{B}": json.dumps(B),
        "{BB}": json.dumps(B, indent=4),
    }
    data = mark + re.sub(r"{(A+|B+)}", lambda match: texts[match[0]], data)
    _, found = read(data.encode())
    assert [(place, value) for place, value, _ in found] == list(zip(places, (A, B), strict=True))
    assert [json.loads(text) for *_, text in found] == [A, B]


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        (['{"a": "cut'], {1: "not JSON: Unterminated string starting at character 7"}),
        (['{"a": [{"a": 1}', '{"b": 2}'], {1: "not JSON: Expecting ',' delimiter at character 16"}),
        (['{"a": 1} and', "b"], {1: "not JSON: Extra data at character 10", 2: "not JSON: "}),
        (['{"a": 1, "b": [{"c": 1, "c": 2}]}'], {1: "an object has the key 'c' twice"}),
        (["{", '"a": 1,', '"a": 2', "}"], {1: "an object has the key 'a' twice"}),
        (["[1]", "2"], {1: "expected an object", 2: "expected an object"}),
        (['{"a": "\udcff"}'], {1: "not UTF-8"}),
        # An object that spans lines is damaged in its third line.
        (["{", ' "a": 1', ' "b": 2', "}"], {1: "not JSON: Expecting ',' delimiter at line 4"}),
        (
            ['{"a": ' + "[" * 10_000 + "]" * 10_000 + "}"],
            {1: "not JSON: its brackets are nested too deeply"},
        ),
        (['{"a": ' + "1" * 5000 + "}"], {1: "not JSON: a number has too many digits"}),
    ],
)
def test_damaged_records_are_faults_and_the_others_found(lines, faults):
    text = "\n".join(['{"first": 1}', *lines, '{"last": 1}', ""])
    _, found = read(text.encode(errors="surrogateescape"))
    assert found[0][1] == {"first": 1} and found[-1][1] == {"last": 1}
    wrong = {place: what for place, what, _ in found[1:-1] if isinstance(what, str)}
    assert list(wrong) == [f"line {number + 1}" for number in faults]
    for what, fault in zip(wrong.values(), faults.values(), strict=True):
        assert what.startswith(fault)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ('[{"a": 1}, {"b', "record 2 (line 1): not JSON: Unterminated string"),
        ('[{"a": 1},\n\n{"b"}]', "record 2 (line 3): not JSON: Expecting ':' delimiter at"),
        ('[{"a": 1},\n{\n"b": 2\n"c"}]', "record 2 (line 2): not JSON: Expecting ',' delimiter at"),
        ('[{"a": 1}', "record 1 (line 1): the file ends after it, and the array is not closed"),
        ('[{"a": 1},\n', "record 1 (line 1): the file ends after it"),
        ('[{"a": 1} {"b": 2}]', "record 1 (line 1): not JSON: expected a comma or a bracket"),
        ('[{"a": 1}]\n[{"b": 2}]', "line 2: not JSON: text follows the array"),
    ],
)
def test_a_damaged_array_is_an_error(data, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        read(data.encode())


def test_faults_within_an_array():
    _, found = read(b'[{"a": "\xff"}, 1, {"b": "\xc3\xa4"}, {"a": 1, "a": 1}, [], "c", [{}]]')
    assert [what for _, what, _ in found] == [
        "not UTF-8",
        "expected an object",
        {"b": "ä"},
        "an object has the key 'a' twice",
        "expected an object",
        "c",
        [{}],
    ]


def test_lists_of_messages_and_texts_are_records():
    said = [[{"role": "user", "content": text}] for text in "ab"]
    for data in (
        "\n".join(map(json.dumps, said)),
        json.dumps(said[0], indent=1) + "\r" + json.dumps(said[1]),
        json.dumps(said),
    ):
        assert [value for _, value, _ in read(data.encode())[1]] == said
    assert [value for _, value, _ in read(b'"a"\n\n"b c"\n{"d": 1}\n')[1]] == ["a", "b c", {"d": 1}]
    assert [value for _, value, _ in read(b'["a", "b c"]')[1]] == ["a", "b c"]


def test_a_damaged_record_does_not_hide_those_after_a_bare_carriage_return():
    _, found = read(b'{"a": 1}\r{"b"\r{"c": 1}')
    assert [what for _, what, _ in found][::2] == [{"a": 1}, {"c": 1}]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", ["array", "records"])
def test_records_of_all_sizes_and_little_memory(tmp_path, form, indent):
    rng = random.Random(0)
    # Windows of bytes end within characters, escapes, numbers and literals.
    pieces = ["ä", "☃", "\n", '"', "\\", "😀", "a"]
    sizes = [rng.choice([0, 10, 1000, 5000]) for _ in range(400)] + [20_000]
    rows = [
        {"n": -1.5e-30, "l": [True, None], "t": "".join(rng.choices(pieces, k=k))} for k in sizes
    ]
    texts = [json.dumps(row, ensure_ascii=i % 2 == 0, indent=indent) for i, row in enumerate(rows)]
    path = tmp_path / "file"
    joined = (", " if form == "array" else "").join(texts)
    path.write_text(f"[{joined}]" if form == "array" else joined, encoding="utf-8")
    tracemalloc.start()
    with path.open("rb") as file:
        assert kind_of(file) == form
        for row, item in zip(rows, scan(file, form), strict=True):
            assert item.value == row
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2
