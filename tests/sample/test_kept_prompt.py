"""A conversation's prompt is read once: the cache of its earlier turns goes on."""

import jax
import numpy as np
import pytest

from sample import KeptPrompt, SamplerConfig, SplitModel, generate, prefill
from sample.batch import pad_prompts

TURN = 9  # the token that begins a turn
FIRST = [2, TURN, 20, 21, 22, 23, TURN, 30]
SECOND = [*FIRST, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, TURN, 24, 25, TURN, 30]
THIRD = [*SECOND, 50, 51, TURN, 26, TURN, 30]
OTHER = [2, TURN, 27, *SECOND[3:]]


def test_each_turn_reads_only_what_is_new(lively_model):
    """The caches predict what caches of whole prompts predict, in rings that are full too."""
    model, kept = SplitModel(lively_model), KeptPrompt(TURN)
    denoise = jax.jit(lambda model, canvas, cache: model.merge().denoise(canvas, cache))
    canvas = np.arange(12, dtype=np.int32)[None]
    # Everything before the last turn's first token stays; SECOND is longer than the window of 8.
    for prompt, width, known in [
        (FIRST, 32, 0),
        (SECOND, 32, 6),
        (THIRD, 64, 21),
        (THIRD, 64, 27),
        (OTHER, 32, 0),
        (FIRST, 32, 0),
    ]:
        tokens, mask = pad_prompts([prompt], 0, width)
        cache = kept.prefill(model, tokens, mask, width)
        assert kept.num_read == len(prompt) - known
        whole = prefill.prefill(model, tokens, mask, width)
        assert jax.tree.map(np.shape, cache) == jax.tree.map(np.shape, whole)
        expected = denoise(model, canvas, whole)
        np.testing.assert_allclose(denoise(model, canvas, cache), expected, atol=1e-4)


def test_answers_do_not_depend_on_what_was_kept(lively_model):
    """With several canvases too: committing one must not reach the kept cache."""
    config = SamplerConfig(max_steps=2, max_new_tokens=24, stop_ids=(), early_stop=False)
    model, kept = SplitModel(lively_model), KeptPrompt(TURN)
    for prompt in (FIRST, SECOND, SECOND):
        tokens, mask = pad_prompts([prompt], 0, 32)
        expected = generate(model, tokens, mask, jax.random.key(0), config)
        found = generate(model, tokens, mask, jax.random.key(0), config, kept=kept)
        np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert kept.num_read == 2  # the second turn again: only what opens the model's turn


def test_a_conversation_is_one_row(lively_model):
    tokens = np.array([FIRST, FIRST])
    with pytest.raises(ValueError, match="kept for one row, not for 2"):
        generate(lively_model, tokens, None, jax.random.key(0), kept=KeptPrompt(TURN))
