"""Quantized numbers as words of 16 bits: every number there is, and the scales."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from diffusiongemma.kernels.packed_weights import INPUTS, OUTPUTS, kind_of, numbers, scale, to_words
from diffusiongemma.ops.quantized import Quantized
from tests.diffusiongemma.kernels.stacks import KINDS, E, make


@pytest.mark.parametrize("kind", KINDS)
def test_words_hold_the_numbers_of_their_inputs_and_outputs(kind):
    weight, full = make(kind, 128, 64)
    stored = kind_of(weight)
    assert stored == (kind if kind.startswith("int") else "float")
    words, *scales = to_words(weight)
    assert words.shape == (E, 128 // INPUTS[stored], 64 // OUTPUTS[stored])
    found = np.empty((E, 128, 64), np.float32)
    for p in range(INPUTS[stored]):
        for output in range(OUTPUTS[stored]):
            part = numbers(words, stored, p, output, True).astype(jnp.float32)
            if stored == "int4":
                part = part * np.repeat(scale(scales[0], output), 32, axis=1)
            found[:, p :: INPUTS[stored], output :: OUTPUTS[stored]] = part
    if stored == "int8":
        found *= np.asarray(scales[0])[:, None]
    np.testing.assert_array_equal(found, full)


def test_every_number_is_exact():
    """All bytes, as one stack of one expert."""
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 256)
    eight = Quantized(jnp.asarray(every.view(np.int8)), jnp.ones((1, 1, 256), jnp.float32))
    four = Quantized(jnp.asarray(every), jnp.ones((1, 1, 256), jnp.bfloat16))
    for output in (0, 1):
        bytes_ = every[0, 0, output::2]
        found = numbers(to_words(eight)[0], "int8", 0, output, True)
        np.testing.assert_array_equal(found[0, 0].astype(int), bytes_.view(np.int8))
        for p, bits in ((0, bytes_ & 15), (1, bytes_ >> 4)):
            found = numbers(to_words(four)[0], "int4", p, output, True)
            wanted = np.where(bits > 7, bits.astype(int) - 16, bits)
            np.testing.assert_array_equal(found[0, 0].astype(int), wanted)


def test_scales_come_in_pairs():
    scales = np.array([1.5, -3.25, 7e-5, 2e30], ml_dtypes.bfloat16)
    words = jax.lax.bitcast_convert_type(jnp.asarray(scales).reshape(2, 2), jnp.int32)
    for output in (0, 1):
        np.testing.assert_array_equal(scale(words, output), scales[output::2].astype(np.float32))
