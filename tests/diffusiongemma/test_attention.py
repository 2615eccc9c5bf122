"""The KV cache: what it holds, and how it grows."""

import jax
import jax.numpy as jnp

from diffusiongemma import ModelConfig
from diffusiongemma.attention import init_cache


def test_the_cache_of_the_26b_grows_in_full_layers_only():
    """Under 6 GB for the whole context in bfloat16; nothing is allocated."""
    config = ModelConfig.preset("26b_a4b")

    def sizes(length: int) -> dict[str, int]:
        cache = jax.eval_shape(lambda: init_cache(config, 1, length, jnp.bfloat16))
        found = dict.fromkeys(config.layer_types, 0)
        for layer_type, layer in zip(config.layer_types, cache.layers, strict=True):
            found[layer_type] += sum(x.size * x.dtype.itemsize for x in layer)
        return found

    longest, shorter = sizes(config.max_length), sizes(config.max_length // 64)
    assert longest["full"] == 64 * shorter["full"] == 2 * 5 * 2 * 512 * 262_144 * 2
    assert longest["sliding"] == shorter["sliding"] == 2 * 25 * 8 * 256 * 1023 * 2
    assert sum(longest.values()) < 6e9
