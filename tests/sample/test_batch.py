"""Every row of a ragged batch gets what it would get alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sample import generate
from sample.batch import row_keys
from sample.split_model import SplitModel
from sample.stopping import NonFiniteLogits

PROMPT = 10
LENGTHS = (6, 3, 6, 10, 6, 8)
ALONE = 6  # the length that is checked: alone it comes without padding, and compiles anew


def padded(rng, length: int, layout: str) -> np.ndarray:
    mask = np.zeros(PROMPT, bool)
    if layout == "left":
        mask[PROMPT - length :] = True
    elif layout == "right":
        mask[:length] = True
    else:
        mask[rng.choice(PROMPT, length, replace=False)] = True
    return mask


@pytest.mark.parametrize("layout", ["left", "right", "scattered", "mixed"])
def test_rows_equal_themselves_alone(lively_model, lively_config, layout):
    rng = np.random.default_rng(["left", "right", "scattered", "mixed"].index(layout))
    lengths = rng.permutation(LENGTHS)
    layouts = ["left", "right", "scattered"] * 2 if layout == "mixed" else [layout] * 6
    mask = np.stack([padded(rng, n, x) for n, x in zip(lengths, layouts, strict=True)])
    # What lies under the padding is no pad token here: nobody may read it.
    tokens = rng.integers(3, 49, mask.shape).astype(np.int32)
    key = jax.random.key(7)
    batch = generate(lively_model, tokens, mask, key, lively_config)
    for b in np.flatnonzero(lengths == ALONE):
        alone = generate(lively_model, tokens[b, mask[b]][None], None, key, lively_config)
        np.testing.assert_array_equal(batch.tokens[b], alone.tokens[0])
        np.testing.assert_array_equal(batch.steps[b], alone.steps[0])
        np.testing.assert_array_equal(batch.valid_tokens[b], alone.valid_tokens[0])
        np.testing.assert_array_equal(batch.best[b], alone.best[0])
        np.testing.assert_array_equal(batch.accepted[b], alone.accepted[0])
        np.testing.assert_allclose(batch.entropy[b], alone.entropy[0], atol=1e-3)
    assert len(set(batch.steps[:, 0])) > 1, "rows that all stop together would hide a leak"


def test_a_key_a_row(lively_model, lively_config):
    rng = np.random.default_rng(5)
    tokens = np.repeat(rng.integers(3, 49, (1, PROMPT)).astype(np.int32), 6, axis=0)
    same = generate(lively_model, tokens, None, jax.random.key(0), lively_config)
    assert (same.tokens == same.tokens[0]).all()
    raw = generate(lively_model, tokens, None, jax.random.PRNGKey(0), lively_config)
    np.testing.assert_array_equal(raw.tokens, same.tokens)
    keys = jax.random.split(jax.random.key(0), 6)
    own = generate(lively_model, tokens, None, keys, lively_config)
    assert len({tuple(row) for row in own.tokens.tolist()}) > 3
    turned = generate(lively_model, tokens, None, keys[::-1], lively_config)
    np.testing.assert_array_equal(turned.tokens, own.tokens[::-1])


def test_a_weight_that_is_no_number_stops_the_first_step(lively_model, lively_config):
    """The program is that of the test before, with a weight that is NaN."""
    model = SplitModel(lively_model)
    model.state["final_norm"]["scale"][...] = model.state["final_norm"]["scale"][...] * jnp.nan
    tokens = np.full((6, PROMPT), 5, np.int32)
    with pytest.raises(NonFiniteLogits, match="the logits of canvas 1, step 1 are not numbers"):
        generate(model, tokens, None, jax.random.key(0), lively_config)


def test_stop_ids_are_tokens(lively_model, lively_config):
    tokens, config = np.full((1, PROMPT), 5, np.int32), lively_config
    for index in (-5, lively_model.config.vocab_size):
        config = dataclasses.replace(config, stop_ids=(1, index))
        with pytest.raises(ValueError, match=f"stop_ids: {index} is no token: the vocabulary has"):
            generate(lively_model, tokens, None, jax.random.key(0), config)


def test_rows_with_other_images_have_other_keys():
    tokens, key = np.arange(6, dtype=np.int32).reshape(2, 3)[[0, 0, 1]], jax.random.key(3)
    mask = np.ones(tokens.shape, bool)

    def data(beside):
        return jax.random.key_data(row_keys(key, tokens, mask, beside)).tolist()

    plain, shown = data(None), data([b"", b"cat", b""])
    assert plain[0] == plain[1] != plain[2] and plain == data([b"", b"", b""])
    assert shown[0] == plain[0] and shown[1] != plain[1] and shown[2] == plain[2]
    assert data([b"", b"dog", b""])[1] != shown[1]
