"""What is found wrong with a checkpoint: dtypes, values, and lists of names."""

import numpy as np
import pytest

from diffusiongemma.formats.checks import is_finite
from tests.diffusiongemma.formats.folders import refusal, write_tensors


def test_long_lists_are_cut(folder):
    write_tensors(folder, {"other": np.zeros(1, np.float32)})
    message = refusal(folder)
    assert "missing (143)" in message and "and 123 more" in message and len(message) < 3000


@pytest.mark.parametrize("dtype", ["int8", "float64", "bfloat17"])
def test_unknown_dtype_is_refused(folder, dtype):
    assert f"dtype {dtype}: expected one of float32, float16, bfloat16" in refusal(
        folder, dtype=dtype
    )


def test_finiteness_is_checked_to_the_last_element():
    array = np.zeros((1 << 21) + 3, np.float32)
    assert is_finite(array)
    array[-1] = np.nan
    assert not is_finite(array)
