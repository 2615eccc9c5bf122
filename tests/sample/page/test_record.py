"""The record against the trajectory, token by token, and its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text.tokenizer import Tokenizer
from diffusiongemma.head import Prediction
from sample import generate
from sample.page.check import check_record, unpack
from sample.page.columns import packed_ids, unpacked_ids
from sample.page.record import LIMIT, dumps, make_record, token_texts
from sample.step import SamplerConfig
from tests.sample.page.recorded import ABOUT, CONFIG, random_generation, random_record, word
from tests.sample.test_candidates import Told


def same_trajectory(record, out, row, text_of):
    """Compares a record with a row of a generation; returns the number of steps."""
    texts, total = record["tokens"], 0
    for k, seen in enumerate(unpack(record)):
        steps = int(out.recorded_steps[row, k])
        here = row, k, slice(0, steps)
        total += steps
        for name in ("canvas", "best"):
            found = [[texts[i] for i in line] for line in getattr(seen, name)]
            assert found == [list(map(text_of, line)) for line in getattr(out, name)[here].tolist()]
        np.testing.assert_array_equal(seen.accepted, out.accepted[here])
        # A byte for an entropy: close where it is small, and within 1.2 % of the largest one.
        error = abs(seen.entropy - out.entropy[here])
        assert (error <= record["entropy_scale"] * 0.012).all()
        assert (error <= 1e-6 + 0.05 * out.entropy[here])[out.entropy[here] > 0.01].all()
        np.testing.assert_allclose(
            record["canvases"][k]["mean_entropy"],
            out.entropy[here][:, ~seen.kept].mean(axis=1),
            rtol=1e-3,
        )
        ids, probabilities = (x[here] for x in out.candidates)
        there = (np.round(probabilities * 255) >= record["least_probability"]) & (ids >= 0)
        there[..., 0] = True
        assert (there == (seen.candidates.ids >= 0)).all()
        error = abs(seen.candidates.probabilities / 255 - probabilities)[there]
        assert (error <= 0.5 / 255 + 1e-6).all()
        wanted = list(map(text_of, ids[there].tolist()))
        assert [texts[i] for i in seen.candidates.ids[there]] == wanted
    return total


def test_a_record_has_the_trajectory_token_by_token():
    out = random_generation()
    record = random_record()
    assert check_record(record, "here") is record
    assert same_trajectory(record, out, 0, word) == 6 + 5
    assert [part["valid"] for part in record["canvases"]] == [12, 10]
    assert unpack(record)[0].kept.tolist() == [True] * 2 + [False] * 10
    assert "kept" not in record["canvases"][1]
    places = unpacked_ids(record["left_to_right"]["ids"], record["id_bytes"], len(record["tokens"]))
    assert [record["tokens"][i] for i in places] == list(map(word, out.tokens[0, :9]))
    assert record["figures"] == {
        "steps": 11,
        "tokens": 20,  # without the two that are kept
        "effective_steps": round((6 * 10 + 5 * 10) / 20, 3),
        "tokens_per_forward": round(20 / 12, 4),
        "seconds": 0.25,
    }
    assert record["stop_threshold"] == CONFIG.stop_threshold
    never = SamplerConfig(trajectory=True, early_stop=False)
    assert make_record(out, 0, word, never, ABOUT)["stop_threshold"] is None


class Wavering(Told):
    """Its logits are waves of the noisy tokens, and sharper for smaller tokens."""

    def predict(self, canvas, cache, soft, temperature, noise):
        waves = canvas[..., None] * jnp.arange(1.0, self.config.vocab_size + 1)
        states = jnp.sin(waves) * 40 / (1 + canvas[..., None])
        p = jax.nn.softmax(states / temperature)
        best = jnp.argmax(states, axis=-1).astype(jnp.int32)
        return Prediction(best, best, -jnp.sum(p * jnp.log(p + 1e-30), axis=-1), soft, states)


def test_a_record_of_a_run_of_the_sampler_has_its_trajectory():
    config = SamplerConfig(
        max_steps=6, max_new_tokens=7, trajectory=True, candidates=3, stop_ids=()
    )
    prompts = np.array([[5, 6], [7, 8]], np.int32)
    out = generate(Wavering(), prompts, None, jax.random.key(1), config)
    assert out.accepted.any() and len(np.unique(out.best)) > 3
    for row in range(2):
        record = make_record(out, row, word, config, ABOUT)
        assert same_trajectory(record, out, row, word) == out.steps[row].sum()


@pytest.mark.parametrize(
    ("vocab", "pool", "steps", "floor"),
    [
        pytest.param(1024, None, 48, 1, id="any token of a small vocabulary at each step"),
        pytest.param(262_144, 12, 20, 1, id="twelve tokens for each position, and noise of all"),
        pytest.param(262_144, 12, 48, 34, id="the same, without early stop"),
        pytest.param(262_144, None, 48, 144, id="any token of a large vocabulary at each step"),
    ],
)
def test_a_whole_canvas_takes_300_kb_at_most(vocab, pool, steps, floor):
    out = random_generation(canvases=1, size=256, steps=steps, vocab=vocab, pool=pool)
    record = make_record(out, 0, word, CONFIG, ABOUT)
    assert len(dumps(record).encode()) <= LIMIT
    assert (record["candidates"], record["least_probability"]) == (5, floor)


def test_a_record_that_is_too_large_loses_improbable_candidates():
    out = random_generation()
    whole = make_record(out, 0, word, CONFIG, ABOUT)
    size = len(dumps(whole).encode())
    assert make_record(out, 0, word, CONFIG, ABOUT, limit=size) == whole
    fewer = make_record(out, 0, word, CONFIG, ABOUT, limit=size - 300)
    assert fewer["least_probability"] > 1 and fewer["candidates"] == 5
    assert same_trajectory(fewer, out, 0, word)
    none = make_record(out, 0, word, CONFIG, ABOUT, limit=0)
    assert none["candidates"] == 0 and "candidates" not in none["canvases"][0]
    assert unpack(none)[0].candidates is None


def test_a_generation_without_a_trajectory_has_no_record():
    out = random_generation()
    with pytest.raises(ValueError, match="no trajectory"):
        make_record(out._replace(best=None), 0, word, CONFIG, ABOUT)
    nothing = out._replace(best=np.full_like(out.best, -1))
    with pytest.raises(ValueError, match="row 0 has no canvas"):
        make_record(nothing, 0, word, CONFIG, ABOUT)


@pytest.mark.parametrize("id_bytes", [1, 2, 3])
def test_ids_of_all_widths(id_bytes):
    ids = np.array([0, 1, 255, 256**id_bytes - 1])
    text = packed_ids(ids, id_bytes)
    assert unpacked_ids(text, id_bytes, 256**id_bytes).tolist() == ids.tolist()


def test_tokens_that_are_no_text_have_names():
    tokenizer = Tokenizer.load()
    text_of = token_texts(tokenizer)
    assert text_of(tokenizer.eos_id) == "<eos>"
    assert text_of(10**6) == "<token 1000000>"
    assert "".join(map(text_of, tokenizer.encode("Solve it:\n5"))) == "Solve it:\n5"
    bytes_of = dict(enumerate(tokenizer.token_bytes))
    part = next((i for i, data in bytes_of.items() if data and data[0] >= 0x80), None)
    if part is not None and len(bytes_of[part]) == 1:
        assert text_of(part) == f"<0x{bytes_of[part][0]:02X}>"
