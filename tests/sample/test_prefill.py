"""How a long prompt is cut up. That the cache does not depend on it: test_autoregressive.py."""

import numpy as np

from sample import AutoregressiveConfig, SamplerConfig
from sample import prefill as reading
from sample.prefill import CHUNK, prefill


def test_a_long_prompt_is_read_in_equal_chunks_by_default(monkeypatch):
    assert SamplerConfig().prefill_chunk == AutoregressiveConfig().prefill_chunk == CHUNK
    widths = []

    def read(model, tokens, mask, cache):
        widths.append((tokens.shape[1], int(mask.sum())))
        return cache

    monkeypatch.setattr(reading, "_empty_cache", lambda *_: None)
    monkeypatch.setattr(reading, "_read", read)
    for length, expected in [
        (CHUNK, [(CHUNK, CHUNK)]),
        (CHUNK + 1, [(1025, 1025), (1025, 1024)]),
        (3 * CHUNK, [(CHUNK, CHUNK)] * 3),
    ]:
        widths.clear()
        prefill(None, np.ones((1, length)), np.ones((1, length), bool), length)
        assert widths == expected
