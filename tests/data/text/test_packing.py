"""Rows of packed examples: their layout, and examples that do not fit."""

import numpy as np
import pytest

from data.text.packing import pack

EOS, PAD = 1, 0


def row(prompt, answer, p=4, c=3, k=3):
    return pack(prompt, answer, p, c, k, eos_id=EOS, pad_id=PAD)


@pytest.mark.parametrize(
    ("prompt", "answer", "tokens", "canvases"),
    [
        # The canvases follow the prompt without padding. eos fills the last canvas used, and pad
        # fills the rest.
        ([7, 8], [9], [7, 8, 9, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ([7, 8], [9, 9, 9], [7, 8, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ([7, 8], [9, 9, 9, 5], [7, 8, 9, 9, 9, 5, 1, 1, 0, 0, 0, 0, 0], 2),
        ([7, 8, 7, 8], [9] * 9, [7, 8, 7, 8] + [9] * 9, 3),
        ([7], [], [7, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
    ],
)
def test_layout(prompt, answer, tokens, canvases):
    out = row(prompt, answer)
    assert out["tokens"].tolist() == tokens
    assert (out["prompt_len"], out["answer_len"]) == (len(prompt), len(answer))
    assert out["num_canvases"] == canvases
    assert all(np.asarray(value).dtype == np.int32 for value in out.values())


def test_too_long_is_an_error_with_the_numbers():
    with pytest.raises(ValueError, match=r"prompt of 5 tokens does not fit prompt_length 4"):
        row([7] * 5, [9])
    with pytest.raises(ValueError, match=r"answer of 10 tokens .* 3 canvases of 3 = 9 tokens"):
        row([7], [9] * 10)
    with pytest.raises(ValueError, match=r"does not fit 1 canvas of 3 = 3 tokens"):
        pack([7], [9] * 4, 4, 3, 1, 1, 0)
