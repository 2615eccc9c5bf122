"""Rows in blocks of one expert each, and the loop over them against the plain sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.ops.expert_loop import (
    Expert,
    Experts,
    block_size,
    expert_mlp,
    group_rows,
    mixture,
    num_blocks,
)


@pytest.mark.parametrize(
    "ids",
    [
        [0, 1, 2, 3] * 5,
        [2] * 17,  # all rows to one expert
        [3, 0, 3, 3, 0],  # empty experts
        [1],
        np.random.default_rng(0).integers(0, 4, 100).tolist(),
    ],
)
@pytest.mark.parametrize("block", [1, 4, 8, 64])
def test_every_row_lies_once_in_a_block_of_its_expert(ids, block):
    ids = np.array(ids, np.int32)
    blocks = jax.tree.map(np.asarray, group_rows(jnp.asarray(ids), 4, block))
    assert blocks.row.shape[1] == block
    flat = blocks.row.reshape(-1)
    np.testing.assert_array_equal(np.sort(flat[flat < len(ids)]), np.arange(len(ids)))
    np.testing.assert_array_equal(flat[blocks.places[:, 0]], np.arange(len(ids)))
    rows, columns = np.nonzero(blocks.row < len(ids))
    np.testing.assert_array_equal(ids[blocks.row[rows, columns]], blocks.expert[rows])
    assert blocks.used == rows.max() + 1


@pytest.mark.parametrize("block", [1, 8])
def test_the_loop_is_the_weighted_sum_of_the_chosen_experts(block):
    rng = np.random.default_rng(0)

    def expert(inputs: int, outputs: int) -> Expert:
        shapes = (3, inputs, outputs), (3, inputs, 2), (3, 2, outputs)
        return Expert(*(jnp.asarray(rng.normal(size=shape) / 3, jnp.float32) for shape in shapes))

    params = Experts(expert(6, 2 * 4), expert(4, 6))
    x = jnp.asarray(rng.normal(size=(7, 6)), jnp.float32)
    weights = jnp.asarray(rng.uniform(size=(7, 2)), jnp.float32)
    chosen = rng.permuted(np.tile(np.arange(3), (7, 1)), axis=1)[:, :2].astype(np.int32)
    found = mixture(x, weights, params, group_rows(jnp.asarray(chosen).reshape(-1), 3, block))
    for token in range(7):
        wanted = 0.0
        for weight, number in zip(weights[token], chosen[token], strict=True):
            one = jax.tree.map(lambda p, number=number: p[number], params)
            wanted += weight * expert_mlp(x[token : token + 1], one)[0]
        np.testing.assert_allclose(found[token], wanted, rtol=1e-5, atol=1e-5)


def test_sizes_of_blocks():
    assert [block_size(rows, 4) for rows in (1, 40, 128, 1000)] == [8, 16, 32, 64]
    assert num_blocks(17, 4, 8) == 7  # three blocks for 17 rows, and one more for each expert
    assert num_blocks(1, 4, 8) == 2
