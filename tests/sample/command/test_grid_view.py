"""What a grid looks like on a terminal and in a pipe."""

import io

import numpy as np
import pytest

from data.sudoku.grids import grid_lines, render
from data.sudoku.sources import SudokuSource
from data.text.tokenizer import Tokenizer
from sample.command.grid_view import (
    BOLD,
    CLEAR_BELOW,
    GREEN,
    PALE,
    PLAIN,
    RED,
    GridView,
    digit_places,
    pale_style,
    read_digit,
)
from sample.sampler import Snapshot

PUZZLE, SOLUTION = SudokuSource(0, 1, 3, (40, 45), "test")[0].values()
EMPTY = np.flatnonzero(PUZZLE == 0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load()


def snapshot(tokenizer: Tokenizer, kept: np.ndarray, nats: float) -> Snapshot:
    """A step that predicts the solution, and accepts the cells in kept [81] bool."""
    tokens = np.array(tokenizer.encode(render(SOLUTION)))
    accepted = np.zeros(len(tokens), bool)
    accepted[digit_places(tokenizer, render(SOLUTION))] = kept
    entropy = np.full(len(tokens), nats, np.float32)
    fields = tokens, accepted, entropy
    return Snapshot(np.int32(0), np.int32(3), *(x[None] for x in fields), np.array([True]))


def test_a_pipe_gets_grids_one_below_the_other(tokenizer):
    stream = io.StringIO()
    view = GridView(PUZZLE, tokenizer, 48, stream, redraw=False)
    view.draw_puzzle("a note")
    kept = PUZZLE > 0
    kept[EMPTY[:3]] = True
    view.draw(snapshot(tokenizer, kept, 0.5))
    view.draw(snapshot(tokenizer, np.zeros(81, bool), 0.001))
    puzzle, partly, whole, rest = stream.getvalue().split("\n\n")
    assert puzzle.endswith("\na note") and puzzle.count(".") == len(EMPTY)
    assert partly.count(".") == len(EMPTY) - 3 + 1  # and the one of the entropy
    assert f"Step 3 of at most 48: mean entropy 0.5000 nats, 3 of {len(EMPTY)} empty" in partly
    # The step that stops accepts nothing, and its canvas is the answer.
    assert "\n".join(grid_lines([str(digit) for digit in SOLUTION])) in whole and rest == ""
    assert f"{len(EMPTY)} of {len(EMPTY)} empty cells accepted" in whole


def test_a_terminal_is_redrawn_in_place(tokenizer):
    stream = io.StringIO()
    view = GridView(PUZZLE, tokenizer, 48, stream, redraw=True, delay=0.001)
    view.draw_puzzle("a note")
    first = stream.getvalue()
    assert CLEAR_BELOW not in first and first.count(BOLD) == 81 - len(EMPTY)
    kept = PUZZLE > 0
    kept[EMPTY[0]] = True
    view.draw(snapshot(tokenizer, kept, 1.0))
    step = stream.getvalue()[len(first) :]
    assert step.startswith(f"\x1b[{first.count(chr(10))}A\r{CLEAR_BELOW}")
    assert step.count(GREEN) == 1 and step.count(PALE[1][1]) == len(EMPTY) - 1
    assert f"{GREEN}{SOLUTION[EMPTY[0]]}{PLAIN}" in step and view.waited == 0.001
    answer = SOLUTION.copy()
    answer[EMPTY[1]] = answer[EMPTY[1]] % 9 + 1
    before = len(stream.getvalue())
    view.draw_answer(answer, SOLUTION)
    end = stream.getvalue()[before:]
    assert end.count(RED) == 1 and f"{RED}{answer[EMPTY[1]]}{PLAIN}" in end
    assert end.count(GREEN) == len(EMPTY) - 1


def test_styles_grow_paler_with_entropy():
    for n in (4, 9):
        styles = [pale_style(share * np.log(n), n * n) for share in (0.0, 0.3, 0.99, 1.5)]
        assert styles == [PALE[0][1], PALE[1][1], PALE[2][1], PALE[2][1]]


def test_digits_of_tokens(tokenizer):
    assert [read_digit(tokenizer, t) for t in tokenizer.encode("7 3\n0")] == [7, 3, 0, 0]
    assert read_digit(tokenizer, tokenizer.pad_id) == 0
    text = render(PUZZLE)
    places = digit_places(tokenizer, text)
    assert len(places) == 81 and len(tokenizer.encode(text)) > 81
