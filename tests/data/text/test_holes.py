"""Texts with holes and spans: their pieces, and errors of one line."""

import itertools
import re

import pytest

from data.text.holes import Hole, Span, read_pieces, source


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("<fill:12>", (Hole(12, 12),)),
        ("a\n  <fill:4-24>\n b", ("a\n  ", Hole(4, 24), "\n b")),
        ("<fill:3><fill:1-2>é▁", (Hole(3, 3), Hole(1, 2), "é▁")),
        ("x <fill:7-7> < fill:3> <filler>", ("x ", Hole(7, 7), " < fill:3> <filler>")),
    ],
)
def test_holes(text, pieces):
    found = read_pieces(text, None, None)
    assert found == pieces and source(found) is None


TEXT = "one 12\ntwo\r\n\nfour 4 4\n"


@pytest.mark.parametrize(
    ("spans", "changed"),
    [
        ("two", ["two"]),
        (r"\d", ["12", "4", "4"]),  # neighbours are one span
        (r"[a-z]*", ["one", "two", "four"]),  # without empty matches
        ("(?m)^f.*", ["four 4 4"]),
        (r"(\d) \1", ["4 4"]),
        ("1", ["one 12"]),
        ("2", ["two"]),
        ("1-2", ["one 12\ntwo"]),
        (" 4 , 1-1", ["one 12", "four 4 4"]),
        ("1-2,2-4", [TEXT[:-1]]),
        ("(4)", ["4", "4"]),  # digits alone would be a line
    ],
)
def test_spans(spans, changed):
    pieces = read_pieces(None, TEXT, spans)
    assert [piece.text for piece in pieces if isinstance(piece, Span)] == changed
    assert source(pieces) == TEXT
    kinds = [type(piece) for piece in pieces]
    assert all(a != b for a, b in itertools.pairwise(kinds)) and "" not in pieces


@pytest.mark.parametrize(
    ("hole", "lengths"),
    [
        (Hole(4, 24), [4, 8, 12, 16, 20, 24]),
        (Hole(1, 3), [1, 2, 3]),
        (Hole(5, 5), [5]),
        (Hole(2, 9), [2, 3, 4, 6, 7, 9]),
    ],
)
def test_lengths_are_few_and_have_both_ends(hole, lengths):
    assert hole.lengths == lengths


ERRORS = {
    ("", None, None): "fill: the text is empty",
    ("a", None, None): "fill: the text has no hole: write <fill:12> where",
    ("a < fill:3>", None, None): "fill: the text has no hole",
    ("<fill:>", None, None): "fill: hole 1, <fill:>: give its number of tokens",
    ("<fill>", None, None): "fill: hole 1, <fill>: give its number",
    ("<fill:2> <fill:x>", None, None): "fill: hole 2, <fill:x>: give its number",
    ("<fill:-3>", None, None): "hole 1, <fill:-3>: give its number",
    ("<fill:3->", None, None): "hole 1, <fill:3->: give its number",
    ("<fill: 3>", None, None): "hole 1, <fill: 3>: give its number",
    ("<fill 3>", None, None): "hole 1, <fill 3>: give its number",
    ("<fill:٣>", None, None): "give its number",
    ("<fill:0>", None, None): "<fill:0>: a hole has at least 1 token",
    ("<fill:0-4>", None, None): "<fill:0-4>: a hole has at least 1 token",
    ("<fill:1000000>", None, None): "a hole has at most 999,999 tokens",
    (f"<fill:{'9' * 5000}>", None, None): "a hole has at most 999,999 tokens",
    ("<fill:9-3>", None, None): "the range runs backwards: write <fill:3-9>",
    ("<fill:<fill:3>>", None, None): "hole 1, <fill:<: there is another hole in it",
    ("<fill:3<fill:4>", None, None): "hole 1, <fill:3<: there is another hole in it",
    ("a <fill:3", None, None): "hole 1, <fill:3: it has no > at its end",
    ("<fill:3\nif a > b", None, None): "it has no > at its end",
    ("<fill:3 <b>", None, None): "it has no > at its end",
    ("a\0<fill:3>", None, None): "fill: the text has a NUL character",
    (7, None, None): "fill: expected text",
    ("<fill:3>", "a", "a"): "both fill and edit: give one of them",
    ("<fill:3>", None, "a"): "spans without edit",
    (None, None, "a"): "spans without edit",
    (None, "a", None): "edit without spans: say where",
    (None, "", "a"): "edit: the text is empty",
    (None, "a\0", "a"): "edit: the text has a NUL character",
    (None, "a", ""): "spans: the text is empty",
    (None, "a", "b"): "spans: b finds no text that could change",
    (None, "a", "b*"): "spans: b* finds no text that could change",
    (None, "a\n\nb", "2"): "spans: 2 finds no text that could change",
    (None, "a", "("): "spans: not a regular expression: missing )",
    (None, "a", "a{99999999999}"): "spans: not a regular expression: the repetition number",
    (None, "a" * 40, "(a+)+b"): "spans: it takes too much time: use a simpler expression",
    (None, "a\nb\n", "3"): "spans: there is no line 3: the text has 2 lines",
    (None, "a", f"1-{'9' * 5000}"): "spans: there is no line 999999999: the text has 1 line",
    (None, "a", "0"): "spans: lines are counted from 1",
    (None, "a\nb", "1, 2-1"): "spans: 2-1 runs backwards",
    (None, "a", ("a",)): "spans: expected text",
    (None, 3.5, "a"): "edit: expected text",
}


@pytest.mark.parametrize("given", ERRORS, ids=lambda given: re.sub(r"\W+", " ", str(given))[:40])
def test_what_cannot_be_read_is_one_line(given):
    with pytest.raises(ValueError) as error:
        read_pieces(*given)
    assert ERRORS[given] in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 160


def test_nothing_asked():
    assert read_pieces(None, None, None) is None
