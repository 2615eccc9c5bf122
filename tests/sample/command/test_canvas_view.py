"""Watching the loop changes nothing, and what is drawn is what was seen."""

import io

import jax
import numpy as np
import pytest

from data.text.tokenizer import Tokenizer
from sample import Snapshot, generate
from sample.command.canvas_view import DIM, PLAIN, UNDERLINED, Draft, characters, layout


def test_a_watched_loop_gives_the_same_tokens(lively_model, lively_config):
    tokens = np.random.default_rng(2).integers(3, 49, (2, 6)).astype(np.int32)
    key = jax.random.key(1)
    expected = generate(lively_model, tokens, None, key, lively_config)
    seen, last = [], None

    def watch(snapshot):
        seen.append(Snapshot(*map(np.array, snapshot)))
        return len(seen) == last

    got = generate(lively_model, tokens, None, key, lively_config, watch=watch)
    np.testing.assert_array_equal(got.tokens, expected.tokens)
    np.testing.assert_array_equal(got.steps, expected.steps)

    rounds = [(k, n) for k, s in enumerate(expected.steps.max(axis=0)) for n in range(1, s + 1)]
    assert [(int(s.k), int(s.n)) for s in seen] == rounds and len(rounds) > 4
    for s in seen:
        assert s.live.tolist() == (s.n <= expected.steps[:, s.k]).tolist()
        for name in ("best", "accepted", "entropy"):
            recorded = getattr(expected, name)[s.live, s.k, s.n - 1]
            np.testing.assert_allclose(getattr(s, name)[s.live], recorded, atol=1e-5)
    assert not all(s.live.all() for s in seen)

    # A watcher can end a canvas at any step. Each of its rows is then as it was at that step.
    first, last = seen[1], 2
    seen.clear()
    ended = generate(lively_model, tokens, None, key, lively_config, watch=watch)
    assert ended.steps[:, 0].tolist() == [2, 2] and ended.steps[:, 1].max() > 0
    np.testing.assert_array_equal(ended.best[:, 0, 1], first.best)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.load()


def snapshot(tokenizer, text, k=0, n=1, accepted=(), entropy=None, live=True) -> Snapshot:
    best = np.array([tokenizer.encode(text)], np.int32)
    mask = np.zeros(best.shape, bool)
    mask[0, list(accepted)] = True
    entropies = np.zeros(best.shape, np.float32) if entropy is None else np.array([entropy])
    return Snapshot(np.int32(k), np.int32(n), best, mask, entropies, np.array([live]))


def test_what_is_drawn(tokenizer):
    assert len(tokenizer.encode("1 2 3")) == 3
    stream = io.StringIO()
    draft = Draft(tokenizer, tokenizer.stop_ids, stream, lambda: (4, 3))

    def drawn(*args, **fields) -> str:
        stream.seek(0)
        stream.truncate()
        draft.draw(snapshot(tokenizer, *args, **fields))
        return stream.getvalue()

    def styled(style, text):
        return "".join(f"{style}{c}{PLAIN}" for c in text)

    # The second is uncertain, the second and third are re-noised.
    both = DIM + UNDERLINED
    first = "1" + styled(both, " 2") + styled(UNDERLINED, " ") + "\n" + styled(UNDERLINED, "3")
    assert drawn("1 2 3", accepted=[0], entropy=[0.0, 0.5, 0.05]) == first
    # Over the two lines, up to the stop token; the step that stops marks nothing as re-noised.
    assert drawn("4<turn|>3 5", n=2) == "\x1b[1A\r\x1b[J4"
    # The next canvas follows, and of three lines two fit.
    assert drawn(" 5 6 7 8", k=1, accepted=range(4)) == "\r\x1b[J6 7 \n8"
    assert drawn("9", k=1, n=2, live=False) == ""
    stream.truncate(0)
    stream.seek(0)
    draft.clear()
    assert stream.getvalue() == "\x1b[1A\r\x1b[J"
    assert drawn("1") == "1"  # a new answer begins with nothing


def test_characters_of_several_tokens_are_drawn_whole(tokenizer):
    stream = io.StringIO()
    draft = Draft(tokenizer, tokenizer.stop_ids, stream, lambda: (80, 3))
    euro = tokenizer.encode("€")
    assert len(euro) == 3
    canvas = np.array([[*euro, *euro[:2]]], np.int32)
    sure = np.ones(canvas.shape, bool)
    entropy = np.zeros(canvas.shape, np.float32)
    entropy[0, 1] = 1.0  # one token of the first character is uncertain
    draft.draw(Snapshot(np.int32(0), np.int32(1), canvas, sure, entropy, np.array([True])))
    assert stream.getvalue() == f"{DIM}€{PLAIN}\ufffd\ufffd"
    # The last character is completed by the next canvas, where its last token is re-noised.
    canvas = np.array([[euro[2], *tokenizer.encode(" 1")]], np.int32)
    kept = np.array([[False, True]])
    still = np.zeros(canvas.shape, np.float32)
    draft.draw(Snapshot(np.int32(1), np.int32(1), canvas, kept, still, np.array([True])))
    assert stream.getvalue().endswith(f"\x1b[J€{UNDERLINED}€{PLAIN} 1")


def test_bytes_that_make_no_character_are_marks(tokenizer):
    euro = tokenizer.encode("€")
    one, word = tokenizer.encode("1"), tokenizer.encode("Solve")

    def pieces(*parts):
        ids = [i for part in parts for i in part]
        return characters(ids, lambda ids: tokenizer.decode(ids, skip_special=False))

    assert pieces(one, euro, word) == [("1", 1), ("€", 3), ("Solve", 1)]
    marks = [("\ufffd", 1)] * 2
    assert pieces(euro[:2], one) == [*marks, ("1", 1)]
    assert pieces(euro[:2], euro) == [*marks, ("€", 3)]
    assert pieces(euro[1:], euro[:2]) == [*marks, *marks]
    assert pieces() == []


def test_lines_are_as_wide_as_the_terminal():
    assert layout([("ab", ""), ("cde\n", ""), ("f", "")], 3) == ["abc", "de", "f"]
    assert layout([("表表a", "")], 4) == ["表表", "a"]
    assert layout([("e\u0301x", "")], 2) == ["e\u0301x"]
    assert layout([], 4) == [""]


def test_joiners_of_other_pieces_are_drawn():
    woman, rocket = "\U0001f469", "\U0001f680"
    assert layout([(woman, ""), ("\u200d", ""), (rocket, "")], 80) == [f"{woman}\u200d{rocket}"]
    assert layout([("a", ""), ("\u200d", ""), ("\u202eb", "")], 80) == ["a\ufffd\ufffdb"]
