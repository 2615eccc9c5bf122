"""Texts with holes as given tokens, and the choice of the lengths of holes."""

import numpy as np
import pytest

from data.text.holes import read_pieces
from data.text.parts import NOTHING
from data.text.tokenizer import Tokenizer
from sample import Generation
from sample.command.fill import choose_sizes, outline
from sample.given import Given
from tests.sample.asking import CANVAS, asked, outline_of


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load()


def test_the_tokens_around_a_hole_are_the_tokenizers_own(tokenizer):
    form, sizes, given = asked("Sol<fill:2>ve", tokenizer, 2)
    parts = [tokenizer.encode(part) for part in ("Sol", "ve")]
    # Across the edge the tokenizer would merge.
    assert len(tokenizer.encode("Solve")) < sum(map(len, parts))
    text = [*parts[0], NOTHING, NOTHING, *parts[1]]
    end = [tokenizer.turn_end_id, *[tokenizer.eos_id] * (CANVAS - len(text) - 1)]
    assert given.tokens.tolist() == [text + end]
    np.testing.assert_array_equal(given.keep, given.tokens != NOTHING)
    np.testing.assert_array_equal(form.written(sizes), ~given.keep[0])


def test_the_end_behind_the_text(tokenizer):
    # A text of exactly a canvas has its stop token in the next one, if there may be one.
    text = f"1<fill:{CANVAS - 1}>"
    assert outline_of(text, tokenizer).room == 2 * CANVAS
    form = outline_of(text, tokenizer, limit=CANVAS)
    given = form.given(form.sizes(max))
    assert given.tokens.shape == (1, CANVAS) and given.keep.sum() == 1
    assert outline_of("1<fill:3>", tokenizer, limit=100).room == CANVAS
    assert outline_of("1<fill:3>", tokenizer, limit=5).room == 5
    # Left to right, the fill would only cost passes.
    form, sizes, _ = asked("1<fill:3>", tokenizer, 3)
    assert form.given(sizes, filled=False).keep.sum() == 2
    # A short one of several lengths leaves what is behind its last canvas open.
    form, sizes, given = asked("1<fill:3-30>", tokenizer, 3)
    assert given.keep[0, 4:CANVAS].all() and not given.keep[0, CANVAS:].any()
    # The stop tokens of the user end the row, too.
    form = outline(read_pieces("1<fill:3>", None, None), tokenizer, (7,), CANVAS)
    assert set(form.given(form.sizes(max)).tokens[0, 4:]) == {7}


def test_the_text_outside_of_holes_is_the_given_one_to_the_byte(tokenizer):
    rng = np.random.default_rng(0)
    words = [
        "Solve",
        " the",
        "  ",
        "\n",
        "\t",
        "é",
        "▁",
        "e\u0301",
        "😀",
        "\r\n",
        "12",
        "�",
        "\uff21",
        "<",
    ]
    for _ in range(100):
        texts = ["".join(rng.choice(words, rng.integers(1, 6))) for _ in range(3)]
        form, sizes, given = asked("{}<fill:2>{}<fill:5>{}".format(*texts), tokenizer, 2, 5)
        tokens = given.tokens[0].copy()
        free = ~given.keep[0]
        tokens[free] = rng.choice([*tokenizer.encode("a b 1\n"), *tokenizer.stop_ids], free.sum())
        written = form.text(sizes, tokens, tokenizer)
        holes = np.split(tokens[free], [2])
        first, second = (tokenizer.decode(hole, skip_special=True) for hole in holes)
        assert written == f"{texts[0]}{first}{texts[1]}{second}{texts[2]}"
        assert "<eos>" not in written and "turn" not in written
    # A span that has not changed is the given text, whatever its tokens are decoded to.
    form = outline(read_pieces(None, "a▁b", "▁"), tokenizer, (), CANVAS)
    given = form.given(form.sizes(max))
    assert given.keep[0].tolist()[:3] == [True, False, True]
    assert form.text(form.sizes(max), given.tokens[0], tokenizer) == "a▁b"
    assert form.text(form.sizes(max), given.tokens[0] * 0, tokenizer) == "ab"


def test_holes_are_chosen_from_left_to_right(tokenizer):
    """The double is surest of 4 tokens for a first hole, and of 11 for a second one behind it."""
    form = outline_of("1<fill:2-12> 2<fill:3> 3<fill:1-11>", tokenizer)
    tried = []

    def first_step(given: Given) -> Generation:
        rows = len(given.keep)
        entropy = np.full((rows, form.room), 9.0)
        tried.append([])
        for row, keep in enumerate(given.keep):
            kept = np.flatnonzero(keep)
            sizes = np.diff(kept)[np.diff(kept) > 1] - 1
            tried[-1].append(sizes.tolist())
            surest = [4, 3, 11]
            hole = 0 if len(tried) == 1 else 2
            at = np.flatnonzero(np.diff(kept) > 1)[hole]
            entropy[row, kept[at] + 1 : kept[at + 1]] = abs(sizes[hole] - surest[hole])
        canvases = -(-form.room // CANVAS)
        steps = np.ones((rows, canvases), np.int32)
        steps[0, 1:] = 0  # a row that ends early
        entropy = entropy.reshape(rows, canvases, 1, CANVAS)
        return Generation(np.zeros((rows, form.room), np.int32), steps, steps, entropy=entropy)

    chosen = choose_sizes(form, first_step)
    assert tried[0] == [[n, 3, 7] for n in (2, 4, 6, 8, 10, 12)]
    assert tried[1] == [[4, 3, n] for n in (1, 3, 5, 7, 9, 11)]
    assert [chosen.sizes[i] for i in (1, 3, 5)] == [4, 3, 11]
    # Six rows each time; a canvas after the first costs a commit too.
    assert chosen.passes.tolist() == [12, 20] and chosen.rounds == 4


def test_a_canvas_that_a_try_did_not_begin_does_not_count(tokenizer):
    """A stop token in a hole at the limit ends a row before its last canvas."""
    form = outline_of("<fill:16><fill:1-3>1<fill:10-12>", tokenizer, limit=CANVAS * 2)

    def first_step(given: Given) -> Generation:
        entropy = np.full((len(given.keep), 2, 1, CANVAS), 2.0)
        steps = np.ones((len(given.keep), 2), np.int32)
        entropy[-1, 1], steps[-1, 1] = -1, 0
        return Generation(np.zeros(1), steps, steps, entropy=entropy)

    assert choose_sizes(form, first_step).sizes == [16, 1, 1, 10]
