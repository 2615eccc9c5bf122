"""How a long prompt is cut up. That the cache does not depend on it: test_autoregressive.py."""

import dataclasses
from types import SimpleNamespace

import numpy as np

from diffusiongemma import Images, ModelConfig
from sample import AutoregressiveConfig, KeptPrompt, SamplerConfig
from sample import prefill as reading
from sample.images import contents, row_contents, see
from sample.prefill import CHUNK, chunk_ends, prefill
from tests.diffusiongemma.formats.folders import TOWER


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


def test_no_chunk_ends_in_an_image():
    """Against a list of each row's tokens; rows with padding in between, and images of any size."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        kind = np.array([rng.choice(list("tts_"), 20, p=[0.3, 0.2, 0.3, 0.2]) for _ in range(2)])
        kind = np.repeat(kind, rng.integers(1, 4), axis=1)  # longer images
        mask, is_image, chunk = kind != "_", kind == "s", int(rng.integers(1, 12))
        ends = chunk_ends(is_image, mask, chunk)

        def parts_an_image(cut: int, mask: np.ndarray = mask, kind: np.ndarray = kind) -> bool:
            for row, real in zip(kind, mask, strict=True):
                before, after = row[:cut][real[:cut]], row[cut:][real[cut:]]
                if before.size and after.size and before[-1] == after[0] == "s":
                    return True
            return False

        assert ends[-1] == kind.shape[1] and not any(map(parts_an_image, ends))
        for start, end in zip([0, *ends], ends, strict=False):
            better = range(end + 1, min(start + chunk, kind.shape[1]) + 1)
            assert start < end and all(map(parts_an_image, better))  # as long as can be
            if end - start > chunk:  # only because of an image
                assert all(map(parts_an_image, range(start + 1, end)))


def test_a_conversation_with_images_reads_only_the_new_ones(monkeypatch):
    config = dataclasses.replace(ModelConfig.preset("tiny"), vision=TOWER)
    model, turn, image = SimpleNamespace(config=config), 9, [TOWER.image_id] * 2
    pixels = np.random.default_rng(0).random((3, 8, TOWER.patch_values)).astype(np.float32)
    one = np.stack(np.divmod(np.arange(8), 4)[::-1], axis=-1)
    positions = np.repeat(one[None], 3, axis=0).astype(np.int32)  # 2 soft tokens each
    read = []

    def read_chunks(model, tokens, mask, cache, chunk, images):
        read.append((int(mask.sum()), None if images is None else images.patches[:, 0, 0].tolist()))
        return cache

    monkeypatch.setattr(reading, "_read_chunks", read_chunks)
    monkeypatch.setattr(reading, "_empty_cache", lambda *_: {})
    monkeypatch.setattr(reading, "_resized", lambda cache, like: cache)
    monkeypatch.setattr(reading, "_cache_shapes", lambda *_: {})
    kept = KeptPrompt(turn)

    def ask(prompt, count, pixels=pixels):
        read.clear()
        images = Images(pixels[:count], positions[:count]) if count else None
        tokens = np.array([prompt], np.int32)
        kept.prefill(model, tokens, np.ones(tokens.shape, bool), 64, images=images)
        return list(read)

    a, b, c = pixels[:, 0, 0].tolist()
    first = [2, turn, 3, *image, 4, turn, 5]
    second = [2, turn, 3, *image, 4, turn, 6, *image, *image, turn, 5]
    assert ask(first, 1) == [(6, [a]), (2, None)]
    assert ask(second, 3) == [(6, [b, c]), (2, None)]
    assert kept.num_read == 8
    assert ask(second, 3) == [(2, None)]
    other = pixels.copy()
    other[1, 3, 1] += 0.1  # another picture in place of the second
    assert ask(second, 3, other) == [(12, [a, b, c]), (2, None)]
    assert ask([2, turn, 7, turn], 0) == [(3, None), (1, None)]


def test_images_of_padding_alone_are_no_images():
    config = dataclasses.replace(ModelConfig.preset("tiny"), vision=TOWER)
    blank = Images(np.zeros((2, 4, TOWER.patch_values), np.float32), np.full((2, 4, 2), -1))
    tokens = np.ones((1, 3), np.int32)
    found = see(SimpleNamespace(config=config), blank, tokens, tokens > 0)
    assert found.values.shape == (1, config.width) and (found.index == -1).all()
    assert row_contents(config, blank, tokens, tokens > 0) == [b""]


def test_each_row_has_its_own_images():
    config = dataclasses.replace(ModelConfig.preset("tiny"), vision=TOWER)
    one = np.stack(np.divmod(np.arange(8), 4)[::-1], axis=-1)  # 2 soft tokens
    positions = np.stack([one] * 3).astype(np.int32)
    patches = np.zeros((3, 8, TOWER.patch_values), np.float32)
    patches[1, 2] = 1
    images, image = Images(patches, positions), TOWER.image_id
    tokens = np.array([[5] * 6, [image, image, 5, image, image, 5], [5, image, image, 5, 5, 5]])
    a, b, c = contents(images)
    assert a == c != b
    found = row_contents(config, images, tokens, np.ones(tokens.shape, bool))
    assert found == [b"", a + b, c]
    wider = Images(*(np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=-1) for x in images))
    assert contents(wider) == [a, b, c]
